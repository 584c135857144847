"""Exchanges on one connection; who takes it back is played by the test."""

from __future__ import annotations

import asyncio
import math
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack, closing
from time import perf_counter
from typing import Any

import pytest

import aiosock
from aiosock.config import Limits, Timeout
from aiosock.connection.exchange import Exchange
from aiosock.connection.http1 import Connection, DialTimes
from aiosock.connection.outbox import MAX_HOLD_SECONDS, Outbox
from aiosock.errors import LocalProtocolError, RemoteProtocolError
from aiosock.message.request import Request
from aiosock.message.response import Response, Timings
from aiosock.network.block import MAX_GATHERED_BYTES
from aiosock.network.portable import PortableStream
from aiosock.network.registered import RegisteredStream
from aiosock.network.stream import ONE_SEND_BYTES
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


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_rest_that_was_received_is_thrown_away_however_much_it_is(portable: bool, chunked: bool) -> None:
    body = b"x" * 200_000
    framed = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + framed if chunked else response(body=body)
    async with Server.answering(answer) as server:
        connection, owner = await connect(server, portable), Owner()
        exchange = start(connection, Request("GET", server.url), owner)
        await exchange.begin()
        protocol = connection._protocol
        while protocol.buffered < (len(framed) if chunked else len(body)):
            protocol.receive_data(await connection.stream.read(math.inf))
        exchange.close()
        assert owner.released == [connection]
        assert connection.capacity == 1
        connection.close()


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
            exchange = start(connection, Request("GET", server.url), owner)
            answer = await exchange.begin()
            # From here on, so that the head has all the time that it takes to come.
            exchange._timeout, exchange._deadline = timeout, asyncio.get_running_loop().time() + total
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
        assert not connection.reusable


# When requests leave

OK = response(body=b"ok")


class LoggingSocket(socket.socket):
    """Writes down who sends."""

    log: list[int]
    number: int

    def send(self, data: Any, flags: int = 0) -> int:
        self.log.append(self.number)
        return super().send(data, flags)


class Ends:
    """
    Connections with one outbox; their other ends are in the hands of the test.

    Attributes:
        connections: Our ends.
        peers: Theirs.
        log: The numbers of the connections in the order in which they sent.
    """

    def __init__(self, portable: bool, stack: ExitStack) -> None:
        self._road = PortableStream if portable else RegisteredStream
        self._stack = stack
        self.connections: list[Connection] = []
        self.peers: list[socket.socket] = []
        self.log: list[int] = []

    def open(self, count: int) -> Outbox:
        """Open so many."""
        loop = asyncio.get_running_loop()
        outbox = Outbox(loop)
        for number in range(count):
            ours, theirs = socket.socketpair()
            sock = LoggingSocket(fileno=ours.detach())
            sock.log, sock.number = self.log, number
            sock.setblocking(False)
            theirs.setblocking(False)
            self._stack.enter_context(closing(theirs))
            connection = Connection(self._road(sock, loop), Limits(), DialTimes(None, 0.0, None), outbox)
            self._stack.callback(connection.abort)
            self.connections.append(connection)
            self.peers.append(theirs)
        return outbox

    def arrived(self) -> list[bytes | None]:
        """Return what each peer has got by now, None for nothing, ``b""`` for the end."""
        pieces: list[bytes | None] = []
        for peer in self.peers:
            try:
                pieces.append(peer.recv(65536))
            except BlockingIOError:
                pieces.append(None)
        return pieces


@pytest.fixture
def ends(portable: bool) -> Iterator[Ends]:
    with ExitStack() as stack:
        yield Ends(portable, stack)


def get(number: int) -> Request:
    return Request("GET", f"http://a.example/{number}")


def head_of(number: int) -> bytes:
    return b"GET /%d HTTP/1.1\r\nHost: a.example\r\n\r\n" % number


async def end(ends: Ends, *tasks: asyncio.Task[Any]) -> None:
    """Answer all requests, and read the answers."""
    for peer in ends.peers:
        peer.send(OK)
    for task in tasks:
        assert await (await task).read() == b"ok"


async def test_a_request_that_is_alone_leaves_at_once(ends: Ends) -> None:
    outbox, owner = ends.open(1), Owner()
    for number in range(2):
        task = asyncio.ensure_future(start(ends.connections[0], get(number), owner).begin())
        # We are back in the turn in which it took its first step.
        await asyncio.sleep(0)
        assert ends.arrived() == [head_of(number)]
        assert outbox.under_way == 1
        await end(ends, task)
        assert outbox.under_way == 0


async def test_requests_of_one_turn_leave_together_at_its_end_in_order(
    ends: Ends, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aiosock.connection.outgoing.perf_counter", lambda: 5.0)
    outbox, owner = ends.open(4), Owner()
    order = [2, 0, 3, 1]
    exchanges = {number: start(ends.connections[number], get(number), owner) for number in order}
    tasks = [asyncio.ensure_future(exchanges[number].begin()) for number in order]
    await asyncio.sleep(0)
    assert (ends.arrived(), ends.log, outbox.under_way) == ([None] * 4, [], 4)
    await asyncio.sleep(0)
    assert ends.log == order
    assert ends.arrived() == [head_of(number) for number in range(4)]
    await end(ends, *tasks)
    assert outbox.under_way == 0
    assert all(connection.reusable for connection in ends.connections)


async def test_in_a_slow_turn_requests_do_not_wait_for_its_end(ends: Ends, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 5.0
    monkeypatch.setattr("aiosock.connection.outgoing.perf_counter", lambda: now)
    ends.open(3)
    owner = Owner()
    exchanges = [start(connection, get(number), owner) for number, connection in enumerate(ends.connections)]
    tasks = [asyncio.ensure_future(exchange.begin()) for exchange in exchanges[:2]]
    await asyncio.sleep(0)
    assert ends.log == []
    now += 2 * MAX_HOLD_SECONDS
    waiting = exchanges[2].begin()
    # Its first step, within this turn.
    future = waiting.send(None)
    assert ends.log == [0, 1, 2]
    future.cancel()
    with pytest.raises(asyncio.CancelledError):
        waiting.throw(asyncio.CancelledError())
    for peer in ends.peers[:2]:
        peer.send(OK)
    for task in tasks:
        assert await (await task).read() == b"ok"


async def test_a_request_that_is_cancelled_before_it_departs_writes_nothing(ends: Ends) -> None:
    outbox, owner = ends.open(2), Owner()
    exchanges = [start(connection, get(number), owner) for number, connection in enumerate(ends.connections)]
    task = asyncio.ensure_future(exchanges[0].begin())
    waiting = exchanges[1].begin()
    waiting.send(None).cancel()
    with pytest.raises(asyncio.CancelledError):
        waiting.throw(asyncio.CancelledError())
    assert outbox.under_way == 1
    assert owner.released == [ends.connections[1]]
    assert not ends.connections[1].reusable
    for _ in range(3):
        await asyncio.sleep(0)
    assert ends.log == [0]
    assert ends.arrived() == [head_of(0), b""]
    assert exchanges[1]._timings.sent_at is None
    ends.peers.pop()
    await end(ends, task)
    assert outbox.under_way == 0


async def test_a_request_whose_time_is_over_before_it_departs_writes_nothing(ends: Ends) -> None:
    outbox, owner = ends.open(2), Owner()
    deadlines = (math.inf, asyncio.get_running_loop().time())
    exchanges = [
        start(connection, get(number), owner, deadline=deadline)
        for number, (connection, deadline) in enumerate(zip(ends.connections, deadlines, strict=True))
    ]
    task = asyncio.ensure_future(exchanges[0].begin())
    with pytest.raises(aiosock.TotalTimeout):
        await exchanges[1].begin()
    for _ in range(3):
        await asyncio.sleep(0)
    assert ends.arrived() == [head_of(0), b""]
    ends.peers.pop()
    await end(ends, task)
    assert outbox.under_way == 0


@pytest.mark.parametrize("reset", [False, True], ids=["end of file", "reset"])
@pytest.mark.parametrize("portable", [False], ids=["registered"], indirect=True)
async def test_a_connection_that_ends_before_its_request_left_was_stale(reset: bool, ends: Ends) -> None:
    _, owner = ends.open(2), Owner()
    if reset:  # What was sent and not read makes of a close a reset.
        ends.connections[1].stream.write(b"x")
    ends.peers[1].close()
    for _ in range(3):
        await asyncio.sleep(0)
    ends.connections[1].requests_served = 1
    exchanges = [start(connection, get(number), owner) for number, connection in enumerate(ends.connections)]
    with pytest.raises((aiosock.ServerDisconnected, aiosock.ReadError)):
        await exchanges[1].begin()
    assert exchanges[1].safe_to_repeat
    assert exchanges[1]._nothing_written
    exchanges[0].abort()


async def test_an_answer_ahead_of_its_request_is_refused(ends: Ends) -> None:
    outbox, owner = ends.open(2), Owner()
    ends.peers[1].send(OK)
    # The loop tells of what nobody reads, and the next who reads tries at once.
    for _ in range(3):
        await asyncio.sleep(0)
    exchanges = [start(connection, get(number), owner) for number, connection in enumerate(ends.connections)]
    task = asyncio.ensure_future(exchanges[0].begin())
    with pytest.raises(RemoteProtocolError, match="answered before it was asked"):
        await exchanges[1].begin()
    assert not exchanges[1].safe_to_repeat
    assert owner.released == [ends.connections[1]]
    assert not ends.connections[1].reusable
    await asyncio.sleep(0)
    assert ends.arrived() == [head_of(0), b""]
    ends.peers.pop()
    await end(ends, task)
    assert outbox.under_way == 0


async def test_a_request_with_a_body_in_pieces_does_not_wait_for_others(ends: Ends) -> None:
    ends.open(2)
    owner = Owner()
    exchanges = [
        start(ends.connections[0], get(0), owner),
        start(ends.connections[1], Request("POST", "http://a.example/1", content=iter([b"body"])), owner),
    ]
    tasks = [asyncio.ensure_future(exchange.begin()) for exchange in exchanges]
    await asyncio.sleep(0)
    first, second = ends.arrived()
    assert first is None
    assert second is not None
    assert second.startswith(b"POST /1 HTTP/1.1\r\n")
    assert ends.log == [1]
    for _ in range(3):
        await asyncio.sleep(0)
    await end(ends, *tasks)
    await asyncio.wait(owner.tasks)


async def read(exchange: Exchange) -> None:
    assert await (await exchange.begin()).read() == b"ok"


async def iterate(exchange: Exchange) -> None:
    assert [piece async for piece in (await exchange.begin()).iter_raw()] == [b"ok"]


async def close(exchange: Exchange) -> None:
    await (await exchange.begin()).close()


async def abort(exchange: Exchange) -> None:
    (await exchange.begin()).abort()


async def give_up(exchange: Exchange) -> None:
    exchange.abort()
    exchange.abort()


async def disconnect(exchange: Exchange) -> None:
    with pytest.raises(aiosock.ServerDisconnected):
        await exchange.begin()


async def cancel(exchange: Exchange) -> None:
    task = asyncio.ensure_future(exchange.begin())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def refuse(exchange: Exchange) -> None:
    exchange.connection._protocol.receive_data(b"")
    with pytest.raises(LocalProtocolError):
        await exchange.begin()


@pytest.mark.parametrize("others", [0, 1], ids=["alone", "with another"])
@pytest.mark.parametrize(
    ("use", "answer"),
    [
        (read, OK),
        (read, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"),
        (iterate, OK),
        (close, OK),
        (close, OK[:-1]),
        (abort, OK),
        (give_up, b""),
        (disconnect, b"HTTP/1.1 200"),
        (cancel, b""),
        (refuse, b""),
    ],
    ids=["whole", "chunked", "pieces", "closed", "drained", "aborted", "given up", "cut", "cancelled", "not begun"],
)
async def test_who_is_under_way_is_counted_to_the_end(portable: bool, use: Any, answer: bytes, others: int) -> None:
    async def script(peer: Peer) -> None:
        await peer.read_request()
        await peer.send(answer)
        if use is not disconnect:
            await peer.wait_disconnect()

    async with Server(script) as server:
        connection, owner = await connect(server, portable), Owner()
        outbox = connection.outbox
        outbox.under_way = others
        exchange = start(connection, Request("GET", server.url), owner)
        assert outbox.under_way == others + 1
        await use(exchange)
        if answer == OK[:-1]:
            assert outbox.under_way == others + 1
            for task in owner.tasks:
                task.cancel()
            await asyncio.wait(owner.tasks)
        assert outbox.under_way == others
        assert owner.released == [connection]
        connection.abort()


async def test_an_exchange_that_was_never_begun_does_not_count_for_ever(portable: bool) -> None:
    async with Server.answering(OK) as server:
        connection, owner = await connect(server, portable), Owner()
        exchange = start(connection, Request("GET", server.url), owner)
        with pytest.warns(ResourceWarning, match="neither read nor closed"):
            del exchange
        assert connection.outbox.under_way == 0
        assert owner.released == [connection]


# The whole body at once


async def test_the_whole_body_is_given_once_and_ends_the_exchange(portable: bool) -> None:
    async with Server.answering(OK) as server:
        connection, owner = await connect(server, portable), Owner()
        exchange = start(connection, Request("GET", server.url), owner)
        await exchange.begin()
        assert exchange.take_whole() == b"ok"
        assert owner.released == [connection]
        assert connection.reusable
        assert exchange.take_whole() is None
        assert await exchange.receive() == b""
        exchange.close()
        exchange.abort()
        assert owner.released == [connection]
        assert connection.reusable
        connection.close()


async def test_the_whole_body_is_not_given_while_the_request_is_on_its_way(portable: bool) -> None:
    seen = asyncio.Event()

    async def body() -> AsyncIterator[bytes]:
        yield b"x"
        await seen.wait()
        yield b"y"

    async def script(peer: Peer) -> None:
        head = await peer.read_head()
        assert head is not None
        await peer.send(OK)
        assert await peer.read_body(head) == b"xy"
        await peer.wait_disconnect()

    async with Server(script) as server:
        connection, owner = await connect(server, portable), Owner()
        exchange = start(connection, Request("POST", server.url, content=body()), owner)
        answer = await exchange.begin()
        assert exchange.take_whole() is None
        assert not answer.read_ready()
        assert owner.released == []
        seen.set()
        assert await answer.read() == b"ok"
        assert owner.released == [connection]
        assert connection.reusable
        connection.close()


@pytest.mark.parametrize("gone", [False, True])
async def test_what_leaves_late_looks_at_its_connection_first(
    gone: bool, ends: Ends, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aiosock.connection.outbox.LATE_SECONDS", -1.0)
    _, owner = ends.open(2), Owner()
    ends.connections[1].requests_served = 1
    request = Request("POST", "http://a.example/1", content=b"x")
    exchange = start(ends.connections[1], request, owner)
    other = start(ends.connections[0], get(0), owner)
    task = asyncio.ensure_future(exchange.begin())
    await asyncio.sleep(0)
    assert ends.log == []
    if gone:
        ends.peers[1].close()
        with pytest.raises(aiosock.ServerDisconnected):
            await task
        assert ends.log == []
        # Not a byte of it was written: also a POST may go again.
        assert exchange.safe_to_repeat
    else:
        await asyncio.sleep(0)
        assert ends.log == [1]
        ends.peers[1].send(OK)
        assert await (await task).read() == b"ok"
    other.abort()


@pytest.mark.parametrize(("size", "unsent"), [(100, True), (ONE_SEND_BYTES - 1000, True), (ONE_SEND_BYTES, False)])
async def test_a_failure_tells_that_nothing_was_written_only_of_a_single_send(
    size: int, unsent: bool, ends: Ends
) -> None:
    ends.open(1)
    connection = ends.connections[0]
    connection.requests_served = 1
    ends.peers[0].close()
    request = Request("POST", "http://a.example/", content=bytes(size))
    exchange = start(connection, request, Owner())
    with pytest.raises((aiosock.ServerDisconnected, aiosock.ReadError, aiosock.WriteError)):
        await exchange.begin()
    assert exchange.safe_to_repeat is unsent
