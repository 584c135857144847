"""
What only sockets have: options, addresses, connect errors, and how the two roads treat the event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import logging
import math
import os
import platform
import select
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import uvloop

from aiosock.errors import ConnectError, ReadError, ReadTimeout, WriteError, WriteTimeout
from aiosock.network.registered import (
    MAX_EAGER_READS,
    MAX_READ_BYTES,
    MIN_READ_BYTES,
    PortableStream,
    RegisteredStream,
    _connects_at_once,
    connect_tcp,
    connect_unix,
    describe,
    format_address,
    is_disconnect,
)
from aiosock.testing import Peer, Server
from tests.network.wire import Clock, Wire, turns, until, wires

Road = type[RegisteredStream] | type[PortableStream]
ROADS = pytest.mark.parametrize("road", [RegisteredStream, PortableStream])
BOTH = pytest.mark.parametrize("portable", [False, True], ids=["registered", "portable"])
LARGE = bytes(8 * 1024 * 1024)


async def linger(peer: Peer) -> None:
    await peer.wait_disconnect()


class WatchedSocket(socket.socket):
    """Writes down how much is asked for; without end, it always has as much as that."""

    asked: list[int]
    endless = False

    def recv(self, size: int, flags: int = 0) -> bytes:
        self.asked.append(size)
        return bytes(size) if self.endless else super().recv(size, flags)


@pytest.fixture
def pair() -> Iterator[tuple[WatchedSocket, socket.socket]]:
    """Two connected sockets, the first one watched."""
    ours, theirs = socket.socketpair()
    watched = WatchedSocket(fileno=ours.detach())
    watched.asked = []
    for sock in (watched, theirs):
        sock.setblocking(False)
    with closing(watched), closing(theirs):
        yield watched, theirs


# Connecting


@BOTH
async def test_a_connection_sends_at_once_and_is_kept_alive(portable: bool) -> None:
    async with Server(linger) as server:
        stream = await connect_tcp("127.0.0.1", server.port, portable=portable)
        assert isinstance(stream, PortableStream if portable else RegisteredStream)
        sock = stream._sock
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert not sock.getblocking()
        assert stream.info.remote_address == f"127.0.0.1:{server.port}"
        stream.close()


async def test_the_local_address_is_bound() -> None:
    async with Server(linger) as server:
        stream = await connect_tcp("127.0.0.1", server.port, local_address=("127.0.0.2", 0))
        assert stream.info.local_address.startswith("127.0.0.2:")
        stream.close()


async def test_a_local_address_that_cannot_be_had_is_a_connect_error() -> None:
    for address in ("192.0.2.1", "::1"):
        with pytest.raises(ConnectError, match=r"^127\.0\.0\.1:1: ") as info:
            await connect_tcp("127.0.0.1", 1, local_address=(address, 0))
        assert isinstance(info.value.__cause__, OSError)


@BOTH
async def test_a_refused_connection_names_the_address_and_the_reason(portable: bool) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(ConnectError) as info:
        await connect_tcp("127.0.0.1", port, portable=portable)
    assert str(info.value) == f"127.0.0.1:{port}: Connection refused"
    assert isinstance(info.value.__cause__, ConnectionRefusedError)


async def test_a_socket_that_cannot_be_made_is_a_connect_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_socket(*_: object) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr("aiosock.network.registered.socket.socket", no_socket)
    with pytest.raises(ConnectError, match=r"^127\.0\.0\.1:1: Too many open files$"):
        await connect_tcp("127.0.0.1", 1)


async def test_a_cancelled_attempt_leaves_no_socket() -> None:
    # Nobody accepts here, and the one place in line is soon taken.
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        attempts = [asyncio.create_task(connect_tcp(*listener.getsockname())) for _ in range(5)]
        await turns()
        for attempt in attempts:
            attempt.cancel()
        await asyncio.wait(attempts)
        assert any(attempt.cancelled() for attempt in attempts)
        for attempt in attempts:
            if not attempt.cancelled():
                attempt.result().abort()


async def test_a_cancelled_attempt_at_a_unix_socket_leaves_none(tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(0)
        first = await connect_unix(path)
        # The line is full, so that this one has to wait for a turn.
        second = asyncio.create_task(connect_unix(path))
        await asyncio.sleep(0)
        second.cancel()
        with pytest.raises(asyncio.CancelledError):
            await second
        first.abort()


async def test_ipv6_is_spoken() -> None:
    server = Server(linger, host="::1")
    try:
        await server.start()
    except OSError as error:
        pytest.skip(f"this machine has no IPv6 loopback: {error}")
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(server.close)
        stream = await connect_tcp("::1", server.port)
        assert stream.info.remote_address == f"[::1]:{server.port}"
        assert stream.info.local_address.startswith("[::1]:")
        stream.close()
        with pytest.raises(ConnectError, match=r"^\[::1\]:1: "):
            await connect_tcp("::1", 1)


async def test_a_zone_is_passed_on() -> None:
    with pytest.raises(ConnectError, match=r"^\[fe80::1%no-such-zone\]:1: "):
        await connect_tcp("fe80::1%no-such-zone", 1)
    # Loopback has no link-local address, so that nobody is there to answer, but the zone is understood.
    zone = socket.if_nameindex()[0][1]
    with pytest.raises(ConnectError, match=rf"^\[fe80::1%{zone}\]:1: (?!.*not known)"):
        await connect_tcp(f"fe80::1%{zone}", 1)


class FakeSocket:
    """Gives these codes to who connects."""

    def __init__(self, *codes: int) -> None:
        self.codes = list(codes)
        self.targets: list[object] = []

    def connect_ex(self, target: object) -> int:
        self.targets.append(target)
        return self.codes.pop(0)


@pytest.mark.parametrize(
    ("codes", "connected"),
    [
        ([0], True),
        ([errno.EISCONN], True),
        ([errno.EINPROGRESS, 0], True),
        ([errno.EINPROGRESS, errno.EISCONN], True),
        ([errno.EINPROGRESS, errno.EALREADY], False),
        ([errno.EINPROGRESS, errno.EINPROGRESS], False),
        ([errno.EALREADY], False),
    ],
    ids=lambda value: "-".join(errno.errorcode.get(code, "0") for code in value) if isinstance(value, list) else None,
)
@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_a_connection_is_looked_at_twice_at_most(address: str, codes: list[int], connected: bool) -> None:
    fake: Any = FakeSocket(*codes)
    assert _connects_at_once(fake, address, 80) is connected
    assert fake.codes == []
    assert fake.targets == [(address.encode(), 80)] * len(codes)


@pytest.mark.parametrize(
    "codes", [[errno.ECONNREFUSED], [errno.EINPROGRESS, errno.ECONNREFUSED]], ids=["first look", "second look"]
)
def test_a_connection_that_fails_at_a_look_raises_what_the_system_says(codes: list[int]) -> None:
    fake: Any = FakeSocket(*codes)
    with pytest.raises(ConnectionRefusedError, match="Connection refused"):
        _connects_at_once(fake, "127.0.0.1", 80)
    assert fake.codes == []


def test_a_zone_and_a_system_without_these_codes_are_left_to_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    fake: Any = FakeSocket()
    # Names, too: looked up here, they would hold up the loop.
    for address in ("fe80::1%eth0", "a.example", "m\u00fcnchen.example", "\u0661.\u0662.\u0663.\u0664"):
        assert _connects_at_once(fake, address, 80) is False
    with monkeypatch.context() as patched:
        patched.setattr(os, "name", "nt")
        connected = _connects_at_once(fake, "127.0.0.1", 80)
    assert connected is False
    assert fake.targets == []


@BOTH
async def test_a_connection_within_the_machine_takes_no_turn(portable: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    def unwanted(*_: object) -> None:
        raise AssertionError("the loop was asked to connect")

    async with Server(linger) as server:
        monkeypatch.setattr(asyncio.get_running_loop(), "sock_connect", unwanted)
        connecting = connect_tcp("127.0.0.1", server.port, portable=portable)
        with pytest.raises(StopIteration) as ended:
            connecting.send(None)
        ended.value.value.abort()


class HesitantSocket(socket.socket):
    """Says at both looks that it is still connecting."""

    looks = 0

    def connect_ex(self, address: Any) -> int:
        self.looks += 1
        if self.looks == 1:
            super().connect_ex(address)
            return errno.EINPROGRESS
        return errno.EALREADY


@BOTH
async def test_a_connection_in_progress_is_waited_for_by_the_loop(
    portable: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = asyncio.get_running_loop()
    connect, waited = loop.sock_connect, []

    async def watched(sock: Any, address: Any) -> None:
        waited.append((sock.looks, address))
        await connect(sock, address)

    monkeypatch.setattr(loop, "sock_connect", watched)
    async with Server(linger) as server:
        with monkeypatch.context() as patched:
            patched.setattr("aiosock.network.registered.socket.socket", HesitantSocket)
            stream = await connect_tcp("127.0.0.1", server.port, portable=portable)
        port = server.port
        assert waited == [(2, ("127.0.0.1", port))]
        assert stream.info.remote_address == f"127.0.0.1:{port}"
        stream.write(b"x")
        assert stream.write_error is None
        stream.close()
    monkeypatch.setattr("aiosock.network.registered.socket.socket", HesitantSocket)
    with pytest.raises(ConnectError, match=f"^127.0.0.1:{port}: Connection refused$"):
        await connect_tcp("127.0.0.1", port, portable=portable)


async def test_a_connection_that_nobody_accepts_is_waited_for_until_it_is_called_off() -> None:
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        port = listener.getsockname()[1]
        # Until the queue of those who want to be accepted is full.
        for _ in range(64):
            sock = stack.enter_context(socket.socket())
            sock.setblocking(False)
            if not _connects_at_once(sock, "127.0.0.1", port):
                break
        else:
            pytest.skip("this system accepts without end")
        connecting = asyncio.ensure_future(connect_tcp("127.0.0.1", port))
        await turns()
        assert not connecting.done()
        connecting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await connecting


# Unix sockets


async def test_a_unix_socket_that_is_not_there_is_a_connect_error(tmp_path: Path) -> None:
    path = str(tmp_path / "missing")
    with pytest.raises(ConnectError) as info:
        await connect_unix(path)
    assert str(info.value) == f"{path}: No such file or directory"


async def test_a_path_that_is_too_long_is_a_connect_error() -> None:
    with pytest.raises(ConnectError, match="AF_UNIX path too long"):
        await connect_unix("/" + "x" * 500)


async def test_a_system_without_unix_sockets_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("aiosock.network.registered.socket.AF_UNIX")
    with pytest.raises(ConnectError, match="/x: this system has no Unix domain sockets"):
        await connect_unix("/x")


@pytest.mark.skipif(sys.platform != "linux", reason="abstract names are Linux's")
async def test_an_abstract_name_is_shown() -> None:
    name = f"\0aiosock-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(name)
        listener.listen()
        stream = await connect_unix(name)
        assert stream.info.remote_address == name
        stream.close()


# The roads


async def test_a_loop_without_readers_gets_the_portable_road(monkeypatch: pytest.MonkeyPatch) -> None:
    def unsupported(*_: object) -> None:
        raise NotImplementedError

    async def wait(peer: Peer) -> None:
        await asyncio.Event().wait()

    async with Server(wait) as server:
        loop = asyncio.get_running_loop()
        with monkeypatch.context() as patch:
            patch.setattr(loop, "add_reader", unsupported)
            stream = await connect_tcp("127.0.0.1", server.port)
        assert isinstance(stream, PortableStream)
        with monkeypatch.context() as patch:
            patch.setattr(loop, "remove_reader", unsupported)
            stream.abort()
        assert stream._sock.fileno() == -1


async def test_a_socket_without_a_reader_does_not_spin(pair: tuple[WatchedSocket, socket.socket]) -> None:
    class Counting(RegisteredStream):
        calls = 0

        def _on_readable(self) -> None:
            self.calls += 1
            super()._on_readable()

    sock, peer = pair
    stream = Counting(sock, asyncio.get_running_loop())
    for number in range(1, 4):
        peer.send(b"nobody reads this yet")
        await until(lambda at_least=number: stream.calls >= at_least)
        await turns(100)
        assert stream.calls == number
        # Served without a wait; the loop hears nothing of it.
        assert await stream.read(math.inf) == b"nobody reads this yet"
        assert stream.calls == number
        reading = asyncio.ensure_future(stream.read(math.inf))
        await turns()
        peer.send(b"this one is waited for")
        assert await reading == b"this one is waited for"
        stream.calls = number
    stream.calls = 0
    reading = asyncio.ensure_future(stream.read(math.inf))
    await turns()
    peer.close()
    assert await reading == b""
    await turns(100)
    assert stream.calls == 1
    stream.close()


@ROADS
async def test_a_peer_that_always_has_something_starves_nobody(
    road: Road, pair: tuple[WatchedSocket, socket.socket]
) -> None:
    sock, peer = pair
    sock.endless = True
    peer.send(b"readable")
    stream = road(sock, asyncio.get_running_loop())
    count = 0

    async def other() -> None:
        nonlocal count
        while True:
            count += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(other())
    reads = 10 * MAX_EAGER_READS
    for _ in range(reads):
        assert await stream.read(math.inf)
    assert count >= reads // (MAX_EAGER_READS + 2)
    task.cancel()
    stream.abort()


@ROADS
async def test_what_is_written_later_does_not_overtake(road: Road, pair: tuple[WatchedSocket, socket.socket]) -> None:
    sock, peer = pair
    stream = road(sock, asyncio.get_running_loop())
    stream.write(LARGE)
    received = bytearray()

    def take() -> None:
        with contextlib.suppress(BlockingIOError):
            while data := peer.recv(2**20):
                received.extend(data)

    take()
    # The kernel has room now, but there is something in front.
    stream.write(b"the tail")
    while stream.unsent:
        take()
        await asyncio.sleep(0)
    take()
    assert received == LARGE + b"the tail"
    stream.close()


async def test_an_abort_within_the_turn_that_a_busy_reader_gives_to_others(
    pair: tuple[WatchedSocket, socket.socket],
) -> None:
    sock, peer = pair
    sock.endless = True
    peer.send(b"readable")
    stream = PortableStream(sock, asyncio.get_running_loop())
    for _ in range(MAX_EAGER_READS):
        await stream.read(math.inf)
    sock.endless = False
    reading = asyncio.create_task(stream.read(math.inf))
    await asyncio.sleep(0)
    stream.abort()
    with pytest.raises(ReadError, match="closed on this side"):
        await reading


@ROADS
async def test_the_size_of_a_read_follows_the_flow(road: Road, pair: tuple[WatchedSocket, socket.socket]) -> None:
    sock, peer = pair
    stream = road(sock, asyncio.get_running_loop())
    sock.endless = True
    peer.send(b"readable")
    for _ in range(10):
        await stream.read(math.inf)
    assert sock.asked[0] == MIN_READ_BYTES
    assert sock.asked[-1] == MAX_READ_BYTES
    assert sock.asked == sorted(sock.asked)
    sock.endless = False
    assert await stream.read(math.inf) == b"readable"
    sock.asked.clear()
    for _ in range(10):
        peer.send(b"a little")
        assert await stream.read(math.inf) == b"a little"
    assert sock.asked[-1] == MIN_READ_BYTES
    assert sock.asked == sorted(sock.asked, reverse=True)
    # In between it stays as it is.
    peer.send(bytes(MIN_READ_BYTES // 2))
    assert len(await stream.read(math.inf)) == MIN_READ_BYTES // 2
    assert stream._read_size == MIN_READ_BYTES
    stream.close()


async def test_the_socket_is_tried_ahead_of_the_loop_only_after_a_read_that_was_full(
    pair: tuple[WatchedSocket, socket.socket],
) -> None:
    sock, peer = pair
    stream = RegisteredStream(sock, asyncio.get_running_loop())
    peer.send(bytes(2 * MIN_READ_BYTES + 1))
    assert len(await stream.read(math.inf)) == MIN_READ_BYTES
    reading = stream.read(math.inf)
    assert sock.asked == [MIN_READ_BYTES, 2 * MIN_READ_BYTES]
    assert len(await reading) == MIN_READ_BYTES + 1
    # Less than was asked for: there is no more, neither when it was served at once nor when it was waited for.
    for _ in range(2):
        sock.asked.clear()
        reading = stream.read(math.inf)
        assert sock.asked == []
        peer.send(bytes(MIN_READ_BYTES + 1))
        assert len(await reading) == MIN_READ_BYTES + 1
    stream.close()


@pytest.mark.parametrize("poll", [True, False], ids=["poll", "no poll"])
@ROADS
async def test_a_look_tells_nothing_from_data_from_the_end(
    road: Road, poll: bool, pair: tuple[WatchedSocket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    if not poll:
        monkeypatch.delattr(select, "poll", raising=False)
    elif not hasattr(select, "poll"):
        pytest.skip("this system has no poll")
    sock, peer = pair
    stream = road(sock, asyncio.get_running_loop())
    for _ in range(3):
        assert stream.read_ready() is None
    # Where there is something that looks, no read is in vain.
    assert len(sock.asked) == (0 if poll else 3)
    for data in (b"one", b"two"):
        peer.send(data)
        assert stream.read_ready() == data
        assert stream.read_ready() is None
    peer.close()
    assert stream.read_ready() == b""
    stream.abort()
    with pytest.raises(ReadError, match="closed on this side"):
        stream.read_ready()


@pytest.mark.parametrize("poll", [True, False], ids=["poll", "no poll"])
@ROADS
async def test_a_look_at_a_connection_that_was_reset_raises(
    road: Road, poll: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not poll:
        monkeypatch.delattr(select, "poll", raising=False)
    peers: list[Peer] = []

    async def keep(peer: Peer) -> None:
        peers.append(peer)
        await peer.wait_disconnect()

    async with Server(keep) as server:
        stream = await connect_tcp("127.0.0.1", server.port, portable=road is PortableStream)
        await until(lambda: peers)
        assert stream.read_ready() is None
        peers[0].reset()
        with pytest.raises(ReadError, match="Connection reset"):
            stream.read_ready()
        stream.abort()


@ROADS
async def test_a_timeout_of_the_operating_system_is_no_deadline(
    road: Road, pair: tuple[WatchedSocket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    sock, peer = pair
    stream = road(sock, asyncio.get_running_loop())

    def time_out(*_: object) -> None:
        raise TimeoutError(errno.ETIMEDOUT, "Connection timed out")

    monkeypatch.setattr(WatchedSocket, "recv", time_out)
    monkeypatch.setattr(WatchedSocket, "send", time_out, raising=False)
    peer.send(b"wake up")
    with pytest.raises(ReadError, match="failed: Connection timed out"):
        await stream.read(math.inf)
    stream.write(b"x")
    with pytest.raises(WriteError, match="failed: Connection timed out"):
        await stream.drain()
    assert not is_disconnect(stream.write_error.__cause__ if stream.write_error else None)
    stream.abort()


async def test_a_timeout_of_the_operating_system_while_sending_late(
    pair: tuple[WatchedSocket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    sock, peer = pair
    stream = PortableStream(sock, asyncio.get_running_loop())
    stream.write(LARGE)
    await turns()

    def time_out(*_: object) -> None:
        raise TimeoutError(errno.ETIMEDOUT, "Connection timed out")

    monkeypatch.setattr(WatchedSocket, "send", time_out, raising=False)
    draining = asyncio.create_task(stream.drain())
    while not draining.done():
        with contextlib.suppress(BlockingIOError):
            peer.recv(2**20)
        await asyncio.sleep(0)
    with pytest.raises(WriteError, match="failed: Connection timed out") as info:
        await draining
    assert not isinstance(info.value, WriteTimeout)
    stream.abort()


@wires(kinds=("tcp", "unix"), roads=("portable",))
async def test_sending_that_somebody_cancels_is_not_taken_for_sent(wire: Wire) -> None:
    stream, _ = await wire.open()
    assert isinstance(stream, PortableStream)
    stream.write(LARGE)
    await turns()
    assert stream._flusher is not None
    stream._flusher.cancel()
    with pytest.raises(WriteError, match="was cancelled"):
        await stream.drain()
    assert not stream.unsent


@wires(kinds=("tcp",), roads=("registered",))
async def test_at_most_one_timer_runs_and_it_runs_no_more_often_than_needed(wire: Wire, clock: Clock) -> None:
    stream, peer = await wire.open()
    assert isinstance(stream, RegisteredStream)
    loop = asyncio.get_running_loop()
    start = loop.time()
    for number in range(50):
        await peer.send(b"x")
        await turns(3)
        reading = asyncio.ensure_future(stream.read(start + 100 + number))
        assert await reading == b"x"
        reading = asyncio.ensure_future(stream.read(start + 100 + number))
        await turns(3)
        await peer.send(b"y")
        assert await reading == b"y"
    timer = stream._timer
    assert timer is not None
    assert timer.when() == pytest.approx(start + 100)
    waiting = asyncio.ensure_future(stream.read(start + 200))
    clock.skip(150)
    await turns()
    assert stream._timer is not timer
    assert stream._timer is not None
    assert stream._timer.when() == pytest.approx(start + 200)
    clock.skip(100)
    with pytest.raises(ReadTimeout):
        await waiting
    assert stream._timer is None


# Loops and processes that are gone


LOOPS = pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])


def leave_busy(
    loop: asyncio.AbstractEventLoop, road: Road, sock: socket.socket
) -> tuple[RegisteredStream | PortableStream, list[asyncio.Task[object]]]:
    """Return a stream of a loop that stands still while a read waits and bytes are unsent, and the tasks concerned."""

    async def begin() -> tuple[RegisteredStream | PortableStream, list[asyncio.Task[object]]]:
        stream = road(sock, loop)

        async def read() -> bytes:
            return await stream.read(loop.time() + 100)

        stream.limit_writes(100, math.inf)
        stream.write(LARGE)
        tasks: list[asyncio.Task[object]] = [asyncio.create_task(read()), asyncio.create_task(stream.drain())]
        await turns()
        return stream, tasks

    return loop.run_until_complete(begin())


@LOOPS
@ROADS
def test_a_stream_can_be_aborted_while_its_loop_stands_still(
    new_loop: Callable[[], asyncio.AbstractEventLoop], road: Road, pair: tuple[WatchedSocket, socket.socket]
) -> None:
    sock, _ = pair
    with closing(new_loop()) as loop:
        stream, tasks = leave_busy(loop, road, sock)
        stream.abort()
        results = loop.run_until_complete(asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 10))
        assert [type(result) for result in results] == [ReadError, WriteError]


@LOOPS
@ROADS
def test_a_stream_can_be_aborted_when_its_loop_is_closed(
    new_loop: Callable[[], asyncio.AbstractEventLoop],
    road: Road,
    pair: tuple[WatchedSocket, socket.socket],
    caplog: pytest.LogCaptureFixture,
) -> None:
    sock, peer = pair
    with closing(new_loop()) as loop:
        stream, tasks = leave_busy(loop, road, sock)
    stream.abort()
    stream.close()
    # asyncio complains about tasks that nobody ended, with good reason, but that is not what is tested here.
    with caplog.at_level(logging.CRITICAL, logger="asyncio"):
        del stream
        tasks.clear()
        gc.collect()
    # All that the kernel had taken, and then the end.
    while peer.recv(2**20):
        pass


FORK = """
import asyncio, math, os, socket, sys
import uvloop
from aiosock.network.registered import PortableStream, RegisteredStream

async def main(road):
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    stream = road(ours, asyncio.get_running_loop())
    reading = asyncio.create_task(read(stream))
    await asyncio.sleep(0)
    child = os.fork()
    if not child:
        stream.abort()
        os._exit(0)
    os.waitpid(child, 0)
    theirs.send(b"for the parent")
    print((await asyncio.wait_for(reading, 10)).decode())
    stream.close()
    theirs.close()

async def read(stream):
    return await stream.read(math.inf)

for new_loop in (asyncio.new_event_loop, uvloop.new_event_loop):
    for road in (RegisteredStream, PortableStream):
        with asyncio.Runner(loop_factory=new_loop) as runner:
            runner.run(main(road))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_closing_in_a_forked_child_leaves_the_parent_alone() -> None:
    done = subprocess.run([sys.executable, "-c", FORK], capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.stderr) == ("for the parent\n" * 4, "")


# Words


def test_addresses_are_formatted_as_in_urls() -> None:
    assert format_address("192.0.2.1", 80) == "192.0.2.1:80"
    assert format_address("2001:db8::1", 443) == "[2001:db8::1]:443"
    assert format_address("fe80::1%eth0", 1) == "[fe80::1%eth0]:1"


def test_errors_are_told_in_words() -> None:
    assert describe(OSError(errno.ECONNREFUSED, "Connect call failed ('127.0.0.1', 1)")) == "Connection refused"
    assert describe(socket.gaierror(socket.EAI_NONAME, "Name or service not known")) == "Name or service not known"
    assert describe(OSError("AF_UNIX path too long")) == "AF_UNIX path too long"
    assert describe(ValueError("what it says")) == "what it says"
    assert describe(ValueError()) == "ValueError"


def test_a_disconnect_is_told_from_other_faults() -> None:
    assert is_disconnect(ConnectionResetError(errno.ECONNRESET, "x"))
    assert is_disconnect(BrokenPipeError(errno.EPIPE, "x"))
    assert not is_disconnect(TimeoutError(errno.ETIMEDOUT, "x"))
    assert not is_disconnect(OSError(errno.ENETDOWN, "x"))
    assert not is_disconnect(ValueError("x"))
    assert not is_disconnect(None)
    assert not is_disconnect(None)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's way with memory")
def test_the_memory_of_bodies_is_kept_for_the_next_ones() -> None:
    program = """
import resource
from aiosock.network.registered import _keep_memory

def receive():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    bodies = [bytearray(2**20) for _ in range(8)]
    del bodies
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

_keep_memory()
receive()
assert receive() < 8 * 256 / 4
"""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    subprocess.run([sys.executable, "-c", program], env=environment, check=True)
