"""
What holds on both roads, in how they treat the socket and the event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import logging
import math
import os
import select
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing

import pytest
import uvloop

from aiosock.errors import ReadError, WriteError
from aiosock.network.fault import is_disconnect
from aiosock.network.portable import PortableStream
from aiosock.network.registered import RegisteredStream
from aiosock.network.road import MAX_EAGER_READS, MAX_READ_BYTES, MIN_READ_BYTES
from aiosock.network.tcp import connect_tcp
from aiosock.testing import Peer, Server
from tests.network.wire import WatchedSocket, turns, until

Road = type[RegisteredStream] | type[PortableStream]
ROADS = pytest.mark.parametrize("road", [RegisteredStream, PortableStream])
LARGE = bytes(8 * 1024 * 1024)


async def linger(peer: Peer) -> None:
    await peer.wait_disconnect()


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
from aiosock.network.portable import PortableStream
from aiosock.network.registered import RegisteredStream

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
