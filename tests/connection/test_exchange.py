"""Exchanges on one connection; who takes it back is played by the test."""

from __future__ import annotations

import asyncio
import math
from time import perf_counter

import pytest

import aiosock
from aiosock.config import Limits, Timeout
from aiosock.connection.exchange import Exchange
from aiosock.connection.http1 import Connection, DialTimes
from aiosock.message.request import Request
from aiosock.message.response import Timings
from aiosock.network.tcp import connect_tcp
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
