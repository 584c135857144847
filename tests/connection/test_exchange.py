"""Exchanges on one connection; who takes it back is played by the test."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from time import perf_counter

import pytest

import aiosock
from aiosock.config import Limits, Timeout
from aiosock.connection.exchange import Exchange
from aiosock.connection.http1 import Connection, DialTimes
from aiosock.message.request import Request
from aiosock.message.response import Response, Timings
from aiosock.network.tcp import MAX_GATHERED_BYTES, connect_tcp
from aiosock.protocol.http1 import RequestHead
from aiosock.testing import Peer, Server, response


class Owner:
    """Remembers what it was given."""

    def __init__(self) -> None:
        self.released: list[Connection] = []
        self.tasks: list[asyncio.Task[None]] = []

    def release(self, connection: Connection) -> None:
        self.released.append(connection)

    def adopt(self, task: asyncio.Task[None]) -> None:
        self.tasks.append(task)


@pytest.fixture(params=[False, True], ids=["registered", "portable"])
def portable(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


async def connect(server: Server, portable: bool) -> Connection:
    stream = await connect_tcp("127.0.0.1", server.port, portable=portable)
    return Connection(stream, Limits(), DialTimes(None, 0.0, None))


def start(
    connection: Connection,
    request: Request,
    owner: Owner,
    timeout: Timeout | None = None,
    deadline: float = math.inf,
) -> Exchange:
    location = request.location
    head = RequestHead(request.method, location.target, location.authority, request.headers.items())
    return Exchange(connection, request, head, owner, timeout or Timeout(), deadline, Timings(perf_counter()))


async def test_exchange_after_exchange_on_both_roads(portable: bool) -> None:
    async with Server.answering(response(body=b"ok")) as server:
        connection, owner = await connect(server, portable), Owner()
        assert connection.capacity == 1
        for served in (1, 2, 3):
            exchange = start(connection, Request("GET", server.url), owner)
            assert connection.capacity == 0
            answer = await exchange.begin()
            assert await answer.read() == b"ok"
            assert owner.released == [connection] * served
            assert connection.capacity == 1
            assert connection.requests_served == served
        assert connection.is_alive()
        assert repr(connection) == f"<Connection 127.0.0.1:{server.port} served=3>"
        connection.close()
        assert not connection.is_alive()


async def test_a_large_upload_and_its_echo_on_both_roads(portable: bool) -> None:
    async def script(peer: Peer) -> None:
        while (request := await peer.read_request()) is not None:
            await peer.send(response(body=request.body))

    async with Server(script) as server:
        connection, owner = await connect(server, portable), Owner()
        for content in (b"x" * 200_000, b"x" * 5_000_000, [b"x" * 100_000] * 50):
            request = Request("POST", server.url, content=content)
            answer = await start(connection, request, owner).begin()
            assert await answer.read() == (content if isinstance(content, bytes) else b"".join(content))
        connection.close()


async def test_timeouts_on_both_roads(portable: bool) -> None:
    async def script(peer: Peer) -> None:
        await peer.wait_disconnect()

    async with Server(script) as server:
        for timeout, total in ((Timeout(read=0.05), math.inf), (Timeout(0.05), 0.05)):
            connection, owner = await connect(server, portable), Owner()
            deadline = asyncio.get_running_loop().time() + total
            exchange = start(connection, Request("GET", server.url), owner, timeout, deadline)
            kind = aiosock.ReadTimeout if total == math.inf else aiosock.TotalTimeout
            with pytest.raises(kind):
                await exchange.begin()
            assert owner.released == [connection]
            assert not connection.reusable
            assert not exchange.safe_to_repeat


async def test_an_interrupted_upload_wakes_the_reader_on_both_roads(portable: bool) -> None:
    class Broken(Exception):
        pass

    async def failing():  # type: ignore[no-untyped-def]  # an async generator of bytes
        yield b"x"
        await asyncio.sleep(0)
        raise Broken

    async def script(peer: Peer) -> None:
        await peer.wait_disconnect()

    async with Server(script) as server:
        connection, owner = await connect(server, portable), Owner()
        with pytest.raises(Broken):
            await start(connection, Request("POST", server.url, content=failing()), owner).begin()
        assert owner.released == [connection]
        await asyncio.wait(owner.tasks)


async def test_giving_up_an_exchange_twice_releases_once(portable: bool) -> None:
    async with Server.answering(response(body=b"x" * 1_000_000)) as server:
        connection, owner = await connect(server, portable), Owner()
        answer = await start(connection, Request("GET", server.url), owner).begin()
        answer.abort()
        await answer.close()
        answer.abort()
        assert owner.released == [connection]


async def test_an_unread_rest_that_breaks_the_protocol_closes_the_connection(portable: bool) -> None:
    answer_bytes = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nokWRONG"
    async with Server.answering(answer_bytes) as server:
        connection, owner = await connect(server, portable), Owner()
        answer = await start(connection, Request("GET", server.url), owner).begin()
        await answer.close()
        assert owner.released == [connection]
        assert not connection.reusable


async def test_a_rest_that_comes_late_and_is_wrong_closes_the_connection(portable: bool) -> None:
    gate = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.read_request()
        await peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n")
        await gate.wait()
        await peer.send(b"ok??")
        await peer.wait_disconnect()

    async with Server(script) as server:
        connection, owner = await connect(server, portable), Owner()
        answer = await start(connection, Request("GET", server.url), owner).begin()
        await answer.close()
        assert owner.released == []
        gate.set()
        await asyncio.wait(owner.tasks)
        assert owner.released == [connection]
        assert not connection.reusable


async def read_whole(answer: Response) -> bytes:
    """Read the body on the short road, which gathers it."""
    return await answer.read()


async def read_pieces(answer: Response) -> bytes:
    """Read the body on the general road, piece by piece."""
    return b"".join([piece async for piece in answer.iter_bytes()])


READINGS = pytest.mark.parametrize("read", [read_whole, read_pieces])
Reading = Callable[[Response], Awaitable[bytes]]
HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n"


@READINGS
@pytest.mark.parametrize("size", [10, 100_000, MAX_GATHERED_BYTES, 2 * MAX_GATHERED_BYTES + 1])
async def test_a_body_in_pieces_is_the_same_gathered_or_not(size: int, read: Reading, portable: bool) -> None:
    content = bytes(range(251)) * (size // 251 + 1)
    content = content[:size]
    gate = asyncio.Event()

    async def script(peer: Peer) -> None:
        while await peer.read_request():
            gate.clear()
            await peer.send(HEAD % size + content[:4])
            await gate.wait()
            for start in range(4, size, 300_001):
                await peer.send(content[start : start + 300_001])

    async with Server(script) as server:
        connection, owner = await connect(server, portable), Owner()
        for _ in range(2):
            answer = await start(connection, Request("GET", server.url), owner).begin()
            asyncio.get_running_loop().call_soon(gate.set)
            assert await read(answer) == content
            assert connection.reusable
            assert connection.is_alive()
        connection.close()


@READINGS
@pytest.mark.parametrize("came", [0, 4, 100_000])
async def test_a_cut_body_is_told_the_same_gathered_or_not(came: int, read: Reading, portable: bool) -> None:
    async def script(peer: Peer) -> None:
        await peer.read_request()
        await peer.send(HEAD % 1_000_000 + b"x" * came)

    async with Server(script) as server:
        connection, owner = await connect(server, portable), Owner()
        answer = await start(connection, Request("GET", server.url), owner).begin()
        with pytest.raises(aiosock.IncompleteBody, match=f"^the answer was cut: {came} of 1000000 bytes of its body"):
            await read(answer)
        assert owner.released == [connection]
        assert not connection.reusable


@READINGS
@pytest.mark.parametrize("came", [0, 4])
async def test_a_reset_body_is_told_the_same_gathered_or_not(came: int, read: Reading, portable: bool) -> None:
    gate = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.read_request()
        await peer.send(HEAD % 1_000_000 + b"x" * came)
        await gate.wait()
        peer.reset()

    async with Server(script) as server:
        connection, owner = await connect(server, portable), Owner()
        answer = await start(connection, Request("GET", server.url), owner).begin()
        reading = asyncio.ensure_future(read(answer))
        await asyncio.sleep(0)
        gate.set()
        with pytest.raises(aiosock.ReadError, match=r"^reading from 127.0.0.1:\d+ failed: Connection reset by peer "):
            await reading
        assert owner.released == [connection]
        assert not connection.reusable


@READINGS
async def test_bytes_after_a_body_are_found_gathered_or_not(read: Reading, portable: bool) -> None:
    async def script(peer: Peer) -> None:
        await peer.read_request()
        await peer.send(HEAD % 100_000 + b"x")
        await peer.send(b"x" * 99_999 + b"HTTP/1.1 200 OK\r\n")
        await peer.wait_disconnect()

    async with Server(script) as server:
        connection, owner = await connect(server, portable), Owner()
        answer = await start(connection, Request("GET", server.url), owner).begin()
        assert await read(answer) == b"x" * 100_000
        assert owner.released == [connection]
        assert not (connection.reusable and connection.is_alive())
        connection.abort()


@READINGS
@pytest.mark.parametrize("came", [0, 4])
async def test_timeouts_in_a_body_are_told_the_same_gathered_or_not(came: int, read: Reading, portable: bool) -> None:
    async def script(peer: Peer) -> None:
        await peer.read_request()
        await peer.send(HEAD % 1_000_000 + b"x" * came)
        await peer.wait_disconnect()

    async with Server(script) as server:
        for timeout, total, message in (
            (Timeout(read=0.05), math.inf, r"^nothing came from 127.0.0.1:\d+ for 0.05 s "),
            (Timeout(0.05, read=None), 0.05, "^the request took longer than 0.05 s in all; it was reading the body "),
            (Timeout(0.05, read=9), 0.05, "^the request took longer than 0.05 s in all; it was reading the body "),
        ):
            connection, owner = await connect(server, portable), Owner()
            deadline = asyncio.get_running_loop().time() + total
            answer = await start(connection, Request("GET", server.url), owner, timeout, deadline).begin()
            kind = aiosock.ReadTimeout if total == math.inf else aiosock.TotalTimeout
            with pytest.raises(kind, match=message):
                await read(answer)
            assert owner.released == [connection]


@READINGS
async def test_a_cancelled_body_closes_the_connection_gathered_or_not(read: Reading, portable: bool) -> None:
    async def script(peer: Peer) -> None:
        await peer.read_request()
        await peer.send(HEAD % 1_000_000 + b"x")
        await peer.wait_disconnect()

    async with Server(script) as server:
        connection, owner = await connect(server, portable), Owner()
        answer = await start(connection, Request("GET", server.url), owner).begin()
        reading = asyncio.ensure_future(read(answer))
        for _ in range(5):
            await asyncio.sleep(0)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        assert owner.released == [connection]
        assert not connection.is_alive()
