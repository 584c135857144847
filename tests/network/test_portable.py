"""
The portable road: what only it has to see to.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import math
import socket

import pytest

from aiosock.errors import ReadError, WriteError, WriteTimeout
from aiosock.network.portable import PortableStream
from aiosock.network.road import MAX_EAGER_READS
from aiosock.network.stream import Stream
from tests.network.wire import WatchedSocket, Wire, arrived, turns, wires

LARGE = bytes(8 * 1024 * 1024)


async def test_what_is_there_already_is_read_without_a_turn_of_the_loop(
    pair: tuple[WatchedSocket, socket.socket],
) -> None:
    sock, peer = pair
    stream = PortableStream(sock, asyncio.get_running_loop())
    peer.send(b"ahead")
    reading = stream.read(math.inf)
    with pytest.raises(StopIteration) as ended:
        reading.send(None)
    assert ended.value.value == b"ahead"
    stream.close()


async def test_what_a_cancelled_read_would_have_got_is_the_next_ones(
    pair: tuple[WatchedSocket, socket.socket],
) -> None:
    sock, peer = pair
    stream = PortableStream(sock, asyncio.get_running_loop())
    for count in range(8):
        for read in (lambda: stream.read(math.inf), lambda: ready(stream)):
            reading = asyncio.create_task(stream.read(math.inf))
            await turns()
            peer.send(b"%d" % count)
            await turns(count)
            reading.cancel()
            await asyncio.wait([reading])
            assert (await read() if reading.cancelled() else reading.result()) == b"%d" % count
    stream.close()


async def ready(stream: PortableStream) -> bytes:
    return await arrived(stream)


@wires(kinds=("tcp",), roads=("portable",))
async def test_a_failure_after_a_cancelled_read_is_the_next_ones(wire: Wire) -> None:
    stream, peer = await wire.open()
    await cancel_reading(stream)
    peer.reset()
    with pytest.raises(ReadError, match="Connection reset"):
        await stream.read(math.inf)


@wires(kinds=("tcp",), roads=("portable",))
async def test_a_failure_after_a_cancelled_read_that_nobody_asks_for_makes_no_noise(
    wire: Wire, caplog: pytest.LogCaptureFixture
) -> None:
    stream, peer = await wire.open()
    await cancel_reading(stream)
    peer.reset()
    assert isinstance(stream, PortableStream)
    assert stream._receiving is not None
    await asyncio.wait([stream._receiving])
    stream.abort()
    wire.streams.clear()
    del stream
    gc.collect()
    assert not caplog.records


async def cancel_reading(stream: Stream) -> None:
    reading = asyncio.create_task(read(stream))
    await turns()
    reading.cancel()
    await asyncio.wait([reading])


async def read(stream: Stream) -> bytes:
    return await stream.read(math.inf)


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
