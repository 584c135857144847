"""
The registered road: when it reads, and how many timers it takes.
"""

from __future__ import annotations

import asyncio
import math
import socket

import pytest

from aiosock.errors import ReadTimeout
from aiosock.network.registered import RegisteredStream
from aiosock.network.road import MIN_READ_BYTES
from tests.network.wire import Clock, WatchedSocket, Wire, turns, until, wires


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
