"""
The conformance suite: every kind of stream, on both roads and both loops, keeps the promises of `Stream`.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import math
import os
import random
import socket
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from aiosock.errors import NetworkError, ReadError, ReadTimeout, WriteError, WriteTimeout
from aiosock.network.block import MAX_GATHERED_BYTES
from aiosock.network.fault import is_disconnect
from aiosock.network.registered import SENDFILE
from aiosock.network.stream import Stream
from aiosock.testing import Peer
from tests.network.wire import Clock, Wire, arrived, read_all, receive, turns, until, wires

LARGE = random.Random(1).randbytes(1024 * 1024) * 8
SOON = 0.02


def soon() -> float:
    return asyncio.get_running_loop().time() + SOON


def start_reading(stream: Stream, deadline: float = math.inf) -> asyncio.Task[bytes]:
    async def read() -> bytes:
        return await stream.read(deadline)

    return asyncio.create_task(read())


async def get_stuck(stream: Stream) -> None:
    """Write so much that the kernel cannot take it, as nobody reads."""
    stream.write(LARGE)
    await turns()
    assert stream.unsent


# Reading


async def test_what_was_sent_is_read_and_then_the_end(wire: Wire) -> None:
    stream, peer = await wire.open()
    for message in (b"a", b"bc", b"d" * 1000):
        await peer.send(message)
        assert await stream.read(math.inf) == message
    await peer.close()
    assert await stream.read(math.inf) == b""
    assert await stream.read(math.inf) == b""


async def test_a_read_that_waits_gets_what_comes(wire: Wire) -> None:
    stream, peer = await wire.open()
    for message in (b"a", b"bc", b""):
        reading = start_reading(stream)
        await turns()
        assert not reading.done()
        await (peer.send(message) if message else peer.close())
        assert await reading == message


async def test_a_flood_is_read_whole_and_in_order(wire: Wire) -> None:
    stream, peer = await wire.open()

    async def flood() -> None:
        await peer.send(LARGE)
        await peer.close()

    sending = asyncio.create_task(flood())
    assert await read_all(stream) == LARGE
    await sending


async def test_what_was_sent_before_anybody_read_is_read(wire: Wire) -> None:
    stream, peer = await wire.open()
    await peer.send(b"early")
    await turns()
    assert await stream.read(math.inf) == b"early"


async def test_read_ready_tells_nothing_from_data_from_the_end(wire: Wire) -> None:
    stream, peer = await wire.open()
    assert stream.read_ready() is None
    await peer.send(b"data")
    assert await arrived(stream) == b"data"
    assert stream.read_ready() is None
    await peer.close()
    assert await arrived(stream) == b""


async def test_two_readers_at_once_are_refused(wire: Wire) -> None:
    stream, peer = await wire.open()
    first = start_reading(stream)
    await turns()
    with pytest.raises(RuntimeError, match="two tasks read"):
        await start_reading(stream)
    await peer.send(b"for the first")
    assert await first == b"for the first"


async def test_a_cancelled_read_loses_nothing_and_leaves_the_stream_usable(wire: Wire) -> None:
    stream, peer = await wire.open()
    reading = start_reading(stream)
    await turns()
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    await peer.send(b"still there")
    assert await stream.read(math.inf) == b"still there"
    reading = start_reading(stream)
    await turns()
    reading.cancel()
    stream.close()
    with pytest.raises(asyncio.CancelledError):
        await reading
    assert await peer.read() == b""


# Deadlines of reading


async def test_a_read_ends_at_its_deadline(wire: Wire) -> None:
    stream, peer = await wire.open()
    with pytest.raises(ReadTimeout, match="nothing came from .* in time") as info:
        await stream.read(soon())
    assert not isinstance(info.value, OSError) or info.value.errno is None
    await peer.send(b"late")
    assert await stream.read(soon() + 20) == b"late"


async def test_every_read_has_a_deadline_of_its_own(wire: Wire) -> None:
    stream, peer = await wire.open()
    # Later, earlier, later again, never, earlier: in whatever order, each holds for its own read.
    for seconds in (100.0, 0.0, 200.0, math.inf, 0.0):
        if seconds:
            await peer.send(b"x")
            assert await stream.read(soon() + seconds) == b"x"
        else:
            with pytest.raises(ReadTimeout):
                await stream.read(soon())
    reading = start_reading(stream)
    await turns()
    await peer.send(b"last")
    assert await reading == b"last"


async def test_a_deadline_of_an_earlier_read_does_not_end_a_later_one(wire: Wire, clock: Clock) -> None:
    stream, peer = await wire.open()
    now = asyncio.get_running_loop().time()
    reading = start_reading(stream, now + 10)
    await turns()
    await peer.send(b"in time")
    assert await reading == b"in time"
    reading = start_reading(stream, now + 30)
    await turns()
    clock.skip(20)
    await turns()
    assert not reading.done()
    clock.skip(20)
    with pytest.raises(ReadTimeout):
        await reading


async def test_what_comes_just_at_the_deadline_is_not_lost(wire: Wire, clock: Clock) -> None:
    stream, peer = await wire.open()
    for count in range(8):
        reading = start_reading(stream, asyncio.get_running_loop().time() + 5)
        await turns()
        await peer.send(b"%d" % count)
        # At each of these moments what came is another step further on its way.
        await turns(count)
        clock.skip(10)
        try:
            assert await reading == b"%d" % count
        except ReadTimeout:
            assert await stream.read(math.inf) == b"%d" % count


async def test_a_passed_deadline_ends_a_read_at_once(wire: Wire) -> None:
    stream, _ = await wire.open()
    with pytest.raises(ReadTimeout):
        await stream.read(asyncio.get_running_loop().time() - 1)


# Gathering


class Broken:
    """A socket whose connection was reset."""

    def __init__(self, sock: socket.socket) -> None:
        self.close = sock.close

    def recv_into(self, buffer: memoryview) -> int:
        raise ConnectionResetError(errno.ECONNRESET, "reset")


async def test_what_is_gathered_is_what_was_sent(wire: Wire) -> None:
    stream, peer = await wire.open()
    content = bytes(range(256)) * 6000

    async def send() -> None:
        await peer.send(content)
        await peer.close()

    sending = asyncio.create_task(send())
    gathered = await stream.gather(b"start", 6, math.inf, math.inf)
    while piece := await stream.gather(b"", 2 * MAX_GATHERED_BYTES, math.inf, math.inf):
        assert len(piece) <= MAX_GATHERED_BYTES
        gathered += piece
    assert gathered == b"start" + content
    await sending


@wires(roads=("registered",), kinds=("tcp", "unix"))
async def test_who_gathers_hears_only_when_all_is_there(wire: Wire) -> None:
    stream, peer = await wire.open()
    gathering = asyncio.ensure_future(stream.gather(b"st", 10, math.inf, math.inf))
    for piece in (b"a", b"r", b"t"):
        await peer.send(piece)
        await turns()
        assert not gathering.done()
    await peer.send(b" here, and on")
    assert await gathering == b"start here"
    assert await stream.read(math.inf) == b", and on"


@wires(roads=("registered",), kinds=("tcp", "unix"))
async def test_what_was_gathered_comes_before_the_failure(wire: Wire) -> None:
    stream, peer = await wire.open()
    gathering = asyncio.ensure_future(stream.gather(b"", 10, math.inf, math.inf))
    await peer.send(b"some")
    await until(lambda: stream._block.filled)  # type: ignore[attr-defined]
    stream._sock = Broken(stream._sock)  # type: ignore[attr-defined]
    await peer.send(b"more")
    assert await gathering == b"some"
    with pytest.raises(ReadError, match="failed: Connection reset by peer"):
        await stream.gather(b"", 6, math.inf, math.inf)


async def test_gathering_gives_up_when_nothing_comes(wire: Wire) -> None:
    stream, _ = await wire.open()
    now = asyncio.get_running_loop().time()
    for seconds, deadline in ((0.01, math.inf), (math.inf, soon()), (0.01, now + 100), (100, soon())):
        with pytest.raises(ReadTimeout, match="nothing came from .* in time"):
            await stream.gather(b"", 10, seconds, deadline)


@wires(roads=("registered",), kinds=("tcp", "unix"))
async def test_gathering_counts_the_pause_from_the_last_bytes(wire: Wire, clock: Clock) -> None:
    stream, peer = await wire.open()
    now = asyncio.get_running_loop().time()
    gathering = asyncio.ensure_future(stream.gather(b"", 10, 10, now + 100))
    for _ in range(3):
        await turns()
        clock.skip(8)
        await peer.send(b"x")
        await turns()
        assert not gathering.done()
    clock.skip(8)
    await turns()
    assert not gathering.done()
    clock.skip(3)
    with pytest.raises(ReadTimeout):
        await gathering
    now = asyncio.get_running_loop().time()
    gathering = asyncio.ensure_future(stream.gather(b"", 10, 10, now + 15))
    clock.skip(8)
    await peer.send(b"x")
    await turns()
    clock.skip(8)
    with pytest.raises(ReadTimeout):
        await gathering


@wires(roads=("registered",), kinds=("tcp", "unix"))
async def test_gathering_is_interrupted_and_cancelled_as_reading_is(wire: Wire) -> None:
    stream, peer = await wire.open()
    gathering = asyncio.ensure_future(stream.gather(b"", 10, math.inf, math.inf))
    stream.interrupt(LookupError("enough"))
    with pytest.raises(LookupError, match="enough"):
        await gathering
    gathering = asyncio.ensure_future(stream.gather(b"", 10, math.inf, math.inf))
    gathering.cancel()
    with pytest.raises(asyncio.CancelledError):
        await gathering
    await peer.send(b"goes on")
    assert await stream.read(math.inf) == b"goes on"
    gathering = asyncio.ensure_future(stream.gather(b"", 10, math.inf, math.inf))
    stream.abort()
    with pytest.raises(ReadError, match="closed on this side"):
        await gathering


# Interruption


async def test_a_waiting_read_is_interrupted(wire: Wire) -> None:
    stream, peer = await wire.open()
    reading = start_reading(stream)
    await turns()
    stream.interrupt(LookupError("enough"))
    with pytest.raises(LookupError, match="enough"):
        await reading
    await peer.send(b"goes on")
    assert await stream.read(math.inf) == b"goes on"


async def test_the_next_read_is_interrupted_where_none_waits(wire: Wire) -> None:
    stream, peer = await wire.open()
    stream.interrupt(LookupError("enough"))
    await turns()
    with pytest.raises(LookupError, match="enough"):
        await stream.read(math.inf)
    await peer.send(b"goes on")
    assert await stream.read(math.inf) == b"goes on"


async def test_interruptions_do_no_harm_at_any_moment(wire: Wire, caplog: pytest.LogCaptureFixture) -> None:
    stream, peer = await wire.open()
    reading = start_reading(stream, soon())
    await turns()
    seen = []
    for count in range(2, 12):
        # At each of these moments the read is another step further on its way out.
        stream.interrupt(LookupError("enough"))
        await turns(count // 2)
        with contextlib.suppress(LookupError, ReadTimeout):
            if reading.done():
                seen.append(type(reading.exception()))
                reading = start_reading(stream, soon())
                await turns(count)
    assert LookupError in seen
    reading.cancel()
    await asyncio.wait([reading])
    stream.abort()
    stream.interrupt(LookupError("too late"))
    await peer.wait_disconnect()
    assert not caplog.records


# Watching


@wires(roads=("registered",))
async def test_a_watcher_hears_of_data_and_of_the_end(wire: Wire) -> None:
    stream, peer = await wire.open()
    seen: list[bytes | None] = []
    stream.watch(lambda: seen.append(stream.read_ready()))
    await peer.send(b"unasked")
    await until(lambda: b"unasked" in seen)
    await peer.close()
    await until(lambda: b"" in seen)
    stream.watch(None)
    await turns()
    count = len(seen)
    await turns()
    assert len(seen) == count


async def test_a_watcher_that_was_ended_hears_nothing(wire: Wire) -> None:
    stream, peer = await wire.open()
    seen: list[None] = []
    stream.watch(lambda: seen.append(None))
    stream.watch(None)
    await peer.send(b"data")
    await turns()
    assert await stream.read(math.inf) == b"data"
    assert not seen


@wires(roads=("registered",))
async def test_a_reader_comes_before_the_watcher(wire: Wire) -> None:
    stream, peer = await wire.open()
    assert stream.read_ready() is None  # That took what TLS had still to say about sessions.
    await turns()
    seen: list[None] = []
    stream.watch(lambda: seen.append(None))
    reading = start_reading(stream)
    await turns()
    await peer.send(b"data")
    assert await reading == b"data"
    assert not seen


@wires(roads=("registered",))
async def test_a_watcher_comes_after_a_read_that_paused_the_stream(wire: Wire) -> None:
    stream, peer = await wire.open()
    await peer.send(b"first")
    await turns()
    seen: list[bytes | None] = []
    stream.watch(lambda: seen.append(stream.read_ready()))
    await until(lambda: b"first" in seen)


@wires(roads=("portable",))
async def test_the_portable_road_calls_no_watcher(wire: Wire) -> None:
    stream, peer = await wire.open()
    seen: list[None] = []
    stream.watch(lambda: seen.append(None))
    await peer.send(b"data")
    await turns()
    assert not seen
    assert await arrived(stream) == b"data"


# Writing


async def test_what_is_written_arrives_and_the_connection_goes_both_ways(wire: Wire) -> None:
    stream, peer = await wire.open()
    stream.write(b"question")
    await stream.drain()
    assert not stream.unsent
    assert stream.write_error is None
    assert await peer.read() == b"question"
    await peer.send(b"answer")
    assert await stream.read(math.inf) == b"answer"
    stream.write(b"")
    stream.close()
    assert await peer.read() == b""


async def test_a_flood_is_written_whole_and_in_order_to_a_peer_that_reads_late(wire: Wire) -> None:
    stream, peer = await wire.open()
    stream.write(LARGE)
    stream.write(memoryview(b"and ")[:3])
    stream.write(b"more")
    assert stream.unsent
    await turns()
    draining = asyncio.create_task(stream.drain())
    await turns()
    assert not draining.done()
    assert await receive(peer, len(LARGE) + 7) == LARGE + b"andmore"
    await draining
    assert not stream.unsent
    stream.write(b"afterwards")
    assert await peer.read() == b"afterwards"


async def test_many_pieces_arrive_in_order(wire: Wire) -> None:
    stream, peer = await wire.open()
    pieces = [bytes([number % 256]) * (number * 37 % 5000) for number in range(2000)]

    async def send() -> None:
        for piece in pieces:
            stream.write(piece)
            if len(piece) % 7 == 0:
                await stream.drain()

    sending = asyncio.create_task(send())
    assert await receive(peer, sum(map(len, pieces))) == b"".join(pieces)
    await sending
    await stream.drain()


async def test_parts_arrive_in_order_whether_they_have_to_wait_or_not(wire: Wire) -> None:
    stream, peer = await wire.open()
    few = [b"a", b"", memoryview(b"bcd")[1:], b"e" * 100_000]
    many = [bytes([number % 256]) * (number % 7) for number in range(3000)]
    stream.write_all([])
    stream.write_all(few)
    stream.write_all(many)
    expected = b"".join((*few, *many))
    assert await receive(peer, len(expected)) == expected
    await stream.drain()
    stream.write_all([b"f" * 1000, LARGE, b"g" * 1000])
    stream.write_all([b"h", *many])
    await turns()
    assert stream.unsent
    expected = b"".join((b"f" * 1000, LARGE, b"g" * 1000, b"h", *many))
    assert await receive(peer, len(expected)) == expected
    await stream.drain()
    stream.abort()
    stream.write_all([b"into the void"])


async def test_parts_for_a_connection_that_broke_are_a_write_error(wire: Wire) -> None:
    stream, peer = await wire.open()
    peer.reset()

    def broken() -> bool:
        stream.write_all([b"x" * 1000, b"y"])
        return stream.write_error is not None

    await until(broken)
    with pytest.raises(WriteError, match="sending to .* failed"):
        await stream.drain()
    assert not stream.unsent


async def test_an_answer_is_read_while_the_question_is_still_being_sent(wire: Wire) -> None:
    stream, peer = await wire.open()
    await get_stuck(stream)
    await peer.send(b"no need")
    assert await stream.read(math.inf) == b"no need"
    assert stream.unsent


async def test_two_tasks_can_wait_for_the_same_sending(wire: Wire) -> None:
    stream, peer = await wire.open()
    await get_stuck(stream)
    first, second, third = (asyncio.create_task(stream.drain()) for _ in range(3))
    await turns()
    second.cancel()
    await receive(peer, len(LARGE))
    await asyncio.gather(first, third)
    with pytest.raises(asyncio.CancelledError):
        await second


# Sending files


@pytest.fixture
def file(tmp_path: Path) -> Iterator[int]:
    """The descriptor of a file that has LARGE."""
    path = tmp_path / "file"
    path.write_bytes(LARGE)
    descriptor = os.open(path, os.O_RDONLY)
    yield descriptor
    os.close(descriptor)


@wires(kinds=("tcp", "unix"), roads=("registered",))
async def test_part_of_a_file_is_sent_after_what_was_written_before(wire: Wire, file: int) -> None:
    stream, peer = await wire.open()
    stream.write(LARGE)
    sending = asyncio.create_task(stream.send_file(file, 1000, 2_000_000))
    assert await receive(peer, len(LARGE) + 2_000_000) == LARGE + LARGE[1000:2_001_000]
    assert await sending == 2_000_000
    assert os.lseek(file, 0, os.SEEK_CUR) == 0
    assert not stream.unsent
    stream.write(b"afterwards")
    assert await peer.read() == b"afterwards"


@wires(kinds=("tcp", "unix"), roads=("registered",))
async def test_no_more_of_a_file_is_sent_than_there_is(wire: Wire, file: int) -> None:
    stream, peer = await wire.open()
    assert await stream.send_file(file, len(LARGE) - 10, 1000) == 10
    assert await stream.send_file(file, len(LARGE) + 10, 1000) == 0
    assert await receive(peer, 10) == LARGE[-10:]


@wires(kinds=("tcp", "unix"), roads=("registered",))
async def test_others_have_their_turn_while_a_file_is_sent(
    wire: Wire, file: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream, peer = await wire.open()
    assert SENDFILE is not None
    seen: list[int] = []
    ticks = 0

    def send_little(to: int, file: int, offset: int, size: int) -> int:
        seen.append(ticks)
        sent: int = SENDFILE(to, file, offset, min(size, 1000))
        return sent

    monkeypatch.setattr("aiosock.network.registered.SENDFILE", send_little)
    sending = asyncio.create_task(stream.send_file(file, 0, 10_000))
    while not sending.done():
        ticks += 1
        await asyncio.sleep(0)
    assert await sending == 10_000
    assert len(set(seen)) == len(seen) == 10
    assert await receive(peer, 10_000) == LARGE[:10_000]


@wires(roads=("portable",))
async def test_the_portable_road_leaves_files_to_the_caller(wire: Wire, file: int) -> None:
    stream, _ = await wire.open()
    assert await stream.send_file(file, 0, 1000) == 0


@wires(kinds=("tls",), roads=("registered",))
async def test_tls_leaves_files_to_the_caller(wire: Wire, file: int) -> None:
    stream, _ = await wire.open()
    assert await stream.send_file(file, 0, 1000) == 0


@wires(kinds=("tcp",), roads=("registered",))
async def test_a_system_without_a_way_leaves_files_to_the_caller(
    wire: Wire, file: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aiosock.network.registered.SENDFILE", None)
    stream, _ = await wire.open()
    assert await stream.send_file(file, 0, 1000) == 0


@wires(kinds=("tcp", "unix"), roads=("registered",))
async def test_a_file_that_the_kernel_refuses_is_left_to_the_caller(wire: Wire) -> None:
    stream, peer = await wire.open()
    outgoing, incoming = os.pipe()
    try:
        assert await stream.send_file(outgoing, 0, 1000) == 0
    finally:
        os.close(outgoing)
        os.close(incoming)
    assert stream.write_error is None
    stream.write(b"goes on")
    assert await peer.read() == b"goes on"


@wires(kinds=("tcp", "unix"), roads=("registered",))
async def test_sending_a_file_is_given_up_when_nobody_takes_anything(wire: Wire, file: int) -> None:
    stream, _ = await wire.open()
    stream.limit_writes(SOON, math.inf)
    with pytest.raises(WriteTimeout):
        await stream.send_file(file, 0, len(LARGE))
    assert not stream.unsent
    assert isinstance(stream.write_error, WriteTimeout)


@wires(kinds=("tcp", "unix"), roads=("registered",))
async def test_a_limit_holds_for_a_file_that_is_already_being_sent(wire: Wire, file: int) -> None:
    stream, _ = await wire.open()
    sending = asyncio.create_task(stream.send_file(file, 0, len(LARGE)))
    await turns()
    assert stream.unsent
    stream.limit_writes(math.inf, soon())
    with pytest.raises(WriteTimeout):
        await sending


@wires(kinds=("tcp", "unix"), roads=("registered",))
async def test_progress_with_a_file_extends_the_limit(wire: Wire, file: int, clock: Clock) -> None:
    stream, peer = await wire.open()
    stream.limit_writes(5, math.inf)
    sending = asyncio.create_task(stream.send_file(file, 0, len(LARGE)))
    taken = 0
    for _ in range(3):
        await turns()
        clock.skip(4)
        await turns()
        assert stream.write_error is None
        taken += len(await receive(peer, 2 * 1024 * 1024))
    assert taken + len(await receive(peer, len(LARGE) - taken)) == len(LARGE)
    assert await sending == len(LARGE)


@wires(kinds=("tcp", "unix"), roads=("registered",))
async def test_nothing_of_a_file_is_sent_after_a_cancellation(wire: Wire, file: int) -> None:
    stream, peer = await wire.open()
    sending = asyncio.create_task(stream.send_file(file, 0, len(LARGE)))
    await turns()
    sending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sending
    assert not stream.unsent
    assert stream.write_error is None
    stream.close()
    assert 0 < len(await receive_what_is_left(peer)) < len(LARGE)


@wires(kinds=("tcp", "unix"), roads=("registered",))
async def test_an_abort_ends_the_sending_of_a_file(wire: Wire, file: int) -> None:
    stream, _ = await wire.open()
    sending = asyncio.create_task(stream.send_file(file, 0, len(LARGE)))
    await turns()
    stream.abort()
    with pytest.raises(WriteError, match="closed on this side"):
        await sending
    with pytest.raises(WriteError, match="closed on this side"):
        await stream.send_file(file, 0, 1000)


@wires(kinds=("tcp",), roads=("registered",))
async def test_a_connection_that_breaks_while_a_file_is_sent_ends_the_sending(wire: Wire, file: int) -> None:
    stream, peer = await wire.open()
    sending = asyncio.create_task(stream.send_file(file, 0, len(LARGE)))
    await turns()
    peer.reset()
    with pytest.raises(WriteError, match="sending to .* failed"):
        await sending
    assert is_disconnect(stream.write_error.__cause__ if stream.write_error else None)


# Deadlines of writing


async def test_writing_is_given_up_when_nobody_takes_anything(wire: Wire) -> None:
    stream, peer = await wire.open()
    stream.limit_writes(SOON, math.inf)
    stream.write(LARGE)
    draining = asyncio.create_task(stream.drain())
    with pytest.raises(WriteTimeout, match="nothing could be sent to .* in time") as while_reading:
        await stream.read(math.inf)
    with pytest.raises(WriteTimeout) as while_draining:
        await draining
    assert isinstance(stream.write_error, WriteTimeout)
    # Everyone who is told has an exception object of their own.
    assert len({id(stream.write_error), id(while_reading.value), id(while_draining.value)}) == 3
    with pytest.raises(WriteTimeout):
        await stream.drain()
    assert not stream.unsent
    stream.write(b"not any more")
    stream.abort()
    assert b"not any more" not in await receive_what_is_left(peer)


async def receive_what_is_left(peer: Peer) -> bytes:
    with contextlib.suppress(ConnectionError):
        return await receive(peer, 2**30)
    return b""


async def test_writing_is_given_up_at_its_deadline(wire: Wire) -> None:
    stream, _ = await wire.open()
    stream.limit_writes(math.inf, soon())
    stream.write(LARGE)
    with pytest.raises(WriteTimeout):
        await stream.drain()


async def test_a_limit_holds_for_what_is_already_being_written(wire: Wire) -> None:
    stream, _ = await wire.open()
    await get_stuck(stream)
    stream.limit_writes(SOON, math.inf)
    with pytest.raises(WriteTimeout):
        await stream.drain()


async def test_a_limit_that_was_lifted_ends_nothing(wire: Wire, clock: Clock) -> None:
    stream, peer = await wire.open()
    stream.limit_writes(5, math.inf)
    await get_stuck(stream)
    stream.limit_writes(math.inf, math.inf)
    clock.skip(10)
    await turns()
    assert stream.write_error is None
    assert await receive(peer, len(LARGE)) == LARGE


async def test_progress_extends_the_limit_but_not_the_deadline(wire: Wire, clock: Clock) -> None:
    stream, peer = await wire.open()
    wire.socket_of(stream)._sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 64 * 1024)  # type: ignore[attr-defined]
    peer._socket._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024)
    stream.limit_writes(5, asyncio.get_running_loop().time() + 18)
    await get_stuck(stream)
    taken = 0
    for _ in range(4):
        clock.skip(4)  # 16 in all: more than the limit, less than the deadline
        await turns()
        assert stream.write_error is None
        # More than the kernel holds, so that it takes something, but by far not all.
        taken += len(await receive(peer, 1024 * 1024))
        await turns()
    assert taken < len(LARGE)
    assert stream.unsent
    clock.skip(4)
    with pytest.raises(WriteTimeout):
        await stream.drain()


async def test_a_limit_does_not_count_while_nothing_is_to_be_sent(wire: Wire, clock: Clock) -> None:
    stream, peer = await wire.open()
    stream.limit_writes(5, math.inf)
    stream.write(LARGE)
    assert await receive(peer, len(LARGE)) == LARGE
    await stream.drain()
    reading = start_reading(stream)
    await turns()
    clock.skip(100)
    await turns()
    assert not reading.done()
    await peer.send(b"at last")
    assert await reading == b"at last"


async def test_reading_and_writing_can_be_late_at_once(wire: Wire, clock: Clock) -> None:
    stream, _ = await wire.open()
    stream.limit_writes(5, math.inf)
    await get_stuck(stream)
    reading = start_reading(stream, asyncio.get_running_loop().time() + 5)
    await turns()
    clock.skip(100)
    with pytest.raises((ReadTimeout, WriteTimeout)):
        await reading
    with pytest.raises(WriteTimeout):
        await stream.drain()


# A connection that breaks


@wires(kinds=("tcp", "tls"))
async def test_a_reset_is_a_read_error(wire: Wire) -> None:
    stream, peer = await wire.open()
    reading = start_reading(stream)
    await turns()
    peer.reset()
    with pytest.raises(ReadError, match="reading from .* failed: Connection reset by peer") as info:
        await reading
    assert isinstance(info.value.__cause__, ConnectionResetError)
    assert is_disconnect(info.value.__cause__)


@wires(kinds=("tcp", "tls"))
async def test_a_reset_that_nobody_waited_for_is_a_read_error(wire: Wire) -> None:
    stream, peer = await wire.open()
    assert stream.read_ready() is None
    peer.reset()
    with pytest.raises(ReadError) as info:
        await arrived(stream)
    assert is_disconnect(info.value.__cause__)
    assert isinstance(info.value, NetworkError)


@wires(kinds=("tcp", "tls"))
async def test_a_reset_that_came_before_the_read_is_a_read_error(wire: Wire) -> None:
    stream, peer = await wire.open()
    assert stream.read_ready() is None
    await turns()
    peer.reset()
    await turns()
    with pytest.raises(ReadError) as info:
        await stream.read(math.inf)
    assert is_disconnect(info.value.__cause__)


async def test_a_broken_connection_is_remembered_by_the_writer_and_its_answer_is_still_read(wire: Wire) -> None:
    stream, peer = await wire.open()
    await peer.send(b"I have heard enough")
    peer.reset()

    def broken() -> bool:
        stream.write(b"x" * 1000)
        return stream.write_error is not None

    await until(broken)
    assert isinstance(stream.write_error, WriteError)
    assert is_disconnect(stream.write_error.__cause__)
    with pytest.raises(WriteError, match="sending to .* failed") as info:
        await stream.drain()
    assert info.value is not stream.write_error
    assert not stream.unsent
    stream.write(b"nobody cares")
    assert await stream.read(math.inf) == b"I have heard enough"


async def test_a_connection_that_breaks_while_sending_ends_the_sending(wire: Wire) -> None:
    stream, peer = await wire.open()
    await get_stuck(stream)
    draining = asyncio.create_task(stream.drain())
    await turns()
    peer.reset()
    with pytest.raises(WriteError):
        await draining
    assert is_disconnect(stream.write_error.__cause__ if stream.write_error else None)


# The end


async def test_closing_is_seen_by_the_peer(wire: Wire) -> None:
    stream, peer = await wire.open()
    stream.write(b"last words")
    stream.close()
    assert await receive(peer, 100) == b"last words"


async def test_after_the_end_nothing_works_and_nothing_hurts(wire: Wire) -> None:
    for end in ("abort", "close"):
        stream, peer = await wire.open()
        getattr(stream, end)()
        stream.abort()
        stream.close()
        with pytest.raises(ReadError, match="closed on this side"):
            await stream.read(math.inf)
        with pytest.raises(ReadError, match="closed on this side"):
            stream.read_ready()
        stream.write(b"into the void")
        assert not stream.unsent
        with pytest.raises(WriteError, match="closed on this side"):
            await stream.drain()
        assert isinstance(stream.write_error, WriteError)
        stream.limit_writes(1, math.inf)
        stream.watch(lambda: None)
        stream.watch(None)
        await peer.wait_disconnect()


async def test_an_abort_ends_a_waiting_read(wire: Wire) -> None:
    stream, _ = await wire.open()
    reading = start_reading(stream)
    await turns()
    stream.abort()
    with pytest.raises(ReadError, match="closed on this side"):
        await reading


async def test_an_abort_ends_a_read_that_is_just_timing_out(
    wire: Wire, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    for count in range(4):
        stream, _ = await wire.open()
        reading = start_reading(stream, asyncio.get_running_loop().time() + 5)
        await turns()
        clock.skip(10)
        await turns(count)
        stream.abort()
        with pytest.raises((ReadError, ReadTimeout)):
            await reading
    assert not caplog.records


async def test_an_abort_ends_a_waiting_drain(wire: Wire) -> None:
    stream, _ = await wire.open()
    await get_stuck(stream)
    draining = asyncio.create_task(stream.drain())
    await turns()
    stream.abort()
    assert not stream.unsent
    with pytest.raises(WriteError, match="closed on this side"):
        await draining


async def test_an_abort_right_after_a_write_ends_it(wire: Wire) -> None:
    stream, peer = await wire.open()
    stream.write(LARGE)
    stream.abort()
    assert not stream.unsent
    with pytest.raises(WriteError, match="closed on this side"):
        await stream.drain()
    assert len(await receive_what_is_left(peer)) < len(LARGE)


async def test_an_abort_while_reading_and_writing_leaves_the_number_of_the_socket_to_the_next(wire: Wire) -> None:
    for moment in range(6):
        stream, _ = await wire.open()
        number = socket_number(wire, stream)
        await get_stuck(stream)
        reading = start_reading(stream)
        await turns(moment)
        stream.abort()
        # The connections opened next have the number, whatever is still on its way out.
        others = [await wire.open() for _ in range(3)]
        if not wire.portable:  # There, uvloop keeps a socket open until nobody waits for it.
            assert number in [socket_number(wire, other) for other, _ in others]
        with pytest.raises(ReadError):
            await reading
        for other, peer in others:
            waiting = start_reading(other)
            await turns()
            await peer.send(b"hello")
            assert await waiting == b"hello"
            other.write(b"and back")
            assert await peer.read() == b"and back"
            other.abort()


def socket_number(wire: Wire, stream: Stream) -> int:
    number: int = wire.socket_of(stream)._sock.fileno()  # type: ignore[attr-defined]
    return number


async def test_a_stream_is_freed_without_the_garbage_collector(wire: Wire) -> None:
    gc.collect()
    gc.disable()
    try:
        stream, peer = await wire.open()
        wire.streams.clear()
        stream.limit_writes(30, math.inf)
        stream.write(b"question")
        await peer.send(b"answer")
        assert await stream.read(soon() + 30) == b"answer"
        with pytest.raises(ReadTimeout):
            await stream.read(soon())
        sock = weakref.ref(wire.socket_of(stream)._sock)  # type: ignore[attr-defined]
        stream.close()
        del stream
        await turns()
        assert sock() is None
    finally:
        gc.enable()


async def test_both_ends_of_the_connection_are_named(wire: Wire) -> None:
    stream, _ = await wire.open()
    info = stream.info
    if wire.kind == "unix":
        assert info.remote_address.endswith("/socket")
        assert info.local_address == ""
    else:
        assert info.remote_address.startswith("127.0.0.1:")
        assert info.local_address.startswith("127.0.0.1:")
        assert info.local_address != info.remote_address
    assert (info.tls_version is not None) is (wire.kind == "tls")


async def test_the_ends_are_named_also_once_the_connection_is_closed(wire: Wire) -> None:
    stream, peer = await wire.open()
    expected = "/socket" if wire.kind == "unix" else ":"
    stream.abort()
    await peer.wait_disconnect()
    assert expected in stream.info.remote_address
    assert isinstance(stream.write_error, WriteError)
    assert stream.write_error is stream.write_error
    assert stream.info.remote_address in str(stream.write_error)


async def test_a_stream_can_be_closed_when_its_reader_was_cancelled_with_it(wire: Wire) -> None:
    stream, peer = await wire.open()

    async def use() -> Any:
        try:
            return await stream.read(math.inf)
        except asyncio.CancelledError:
            stream.abort()
            raise

    using = asyncio.create_task(use())
    await turns()
    using.cancel()
    await asyncio.wait([using])
    assert using.cancelled()
    await peer.wait_disconnect()
