"""Bodies on their way to a stream, which here only remembers, and to a server."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import IO, Any

import pytest

import aiosock
from aiosock.connection.sending import MAX_HELD_BYTES, MAX_JOINED_BYTES, MAX_PIECE_BYTES, BodySender
from aiosock.message.body import make_body
from aiosock.network.registered import SENDFILE
from aiosock.network.stream import Stream
from aiosock.protocol.http1 import Connection as Protocol
from aiosock.protocol.http1 import RequestHead
from aiosock.testing import Peer, Server, response
from tests.kit.clients import checked_client, settled

OK = response(body=b"ok")
MOVED = response(307, headers=[("Location", "/there")])
LARGE = bytes(range(256)) * 4 * 1024 * 20
CHUNKED = ("Transfer-Encoding", "chunked")


class Sink:
    """A stream's writing side."""

    def __init__(self) -> None:
        self.writes: list[bytes] = []
        self.unsent = False
        self.write_error: Exception | None = None
        self.drained = 0

    def write_all(self, parts: Sequence[bytes | memoryview]) -> None:
        self.writes.append(b"".join(parts))

    async def drain(self) -> None:
        self.drained += 1
        if self.write_error is not None:
            raise self.write_error


def sender(sink: Any, *fields: tuple[str, str]) -> BodySender:
    head = RequestHead("PUT", "/", "localhost", fields)
    protocol = Protocol()
    protocol.send_request(head)
    stream: Stream = sink
    return BodySender(stream, protocol, head)


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


async def test_pieces_that_come_without_a_wait_go_together() -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield b"a"
        yield b"b" * (MAX_JOINED_BYTES + 1)
        await asyncio.sleep(0)
        assert len(sink.writes) == 1
        yield b"c"

    sink = Sink()
    await sender(sink, CHUNKED).send(make_body(pieces()))
    assert sink.writes == [chunk(b"a") + chunk(b"b" * (MAX_JOINED_BYTES + 1)), chunk(b"c")]
    assert not sink.drained


async def test_only_so_much_is_taken_ahead_of_what_is_sent() -> None:
    piece, taken = b"", 0

    async def pieces() -> AsyncIterator[bytes]:
        nonlocal taken
        while taken < 4 * MAX_HELD_BYTES:
            taken += len(piece)
            yield piece

    class Slow(Sink):
        async def drain(self) -> None:
            assert sum(map(len, self.writes)) >= taken
            assert taken - self.drained <= MAX_HELD_BYTES
            self.drained = taken

    for size in (65536, 5000):
        piece, taken = b"x" * size, 0
        sink = Slow()
        sink.unsent = True
        await sender(sink, CHUNKED).send(make_body(pieces()))
        assert sink.drained >= 3 * MAX_HELD_BYTES


async def test_tiny_pieces_do_not_pile_up() -> None:
    sink = Sink()
    sink.unsent = True
    await sender(sink, CHUNKED).send(make_body([b"x"] * 2000))
    assert sink.drained >= 3


async def test_a_huge_piece_goes_in_parts() -> None:
    sink = Sink()
    await sender(sink, CHUNKED).send(make_body([b"x" * (2 * MAX_PIECE_BYTES + 1)]))
    assert sink.writes == [chunk(b"x" * size) for size in (MAX_PIECE_BYTES, MAX_PIECE_BYTES, 1)]


async def test_nothing_more_is_taken_when_writing_failed() -> None:
    taken = 0

    async def pieces() -> AsyncIterator[bytes]:
        nonlocal taken
        while True:
            taken += 1
            yield b"x"
            await asyncio.sleep(0)
            sink.write_error = aiosock.WriteError("broken")

    sink = Sink()
    with pytest.raises(aiosock.WriteError, match="broken"):
        await sender(sink, CHUNKED).send(make_body(pieces()))
    assert taken <= 4


async def test_what_was_gathered_is_not_sent_after_a_failure() -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield b"x"
        raise LookupError

    sink = Sink()
    with pytest.raises(LookupError):
        await sender(sink, CHUNKED).send(make_body(pieces()))
    await asyncio.sleep(0)
    assert not sink.writes


# Files, to a server


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(b"skipped" + LARGE)
    return path


async def open_file(path: Path, **options: Any) -> IO[bytes]:
    file: IO[bytes] = await asyncio.to_thread(path.open, "rb", **options)
    await asyncio.to_thread(file.seek, 7)
    return file


@pytest.mark.parametrize("buffering", [-1, 0])
async def test_a_file_is_sent_again_after_a_redirect_and_left_at_its_end(path: Path, buffering: int) -> None:
    file = await open_file(path, buffering=buffering)
    try:
        async with Server.answering(MOVED, OK) as server, checked_client(follow_redirects=True) as client:
            assert (await client.put(server.url, content=file)).text == "ok"
            assert [request.body == LARGE for request in server.requests] == [True, True]
            assert await asyncio.to_thread(file.tell) == len(LARGE) + 7
    finally:
        await asyncio.to_thread(file.close)


async def test_the_kernel_sends_most_of_a_real_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[int] = []

    def watched(to: int, file: int, offset: int, size: int) -> int:
        assert SENDFILE is not None
        sent.append(SENDFILE(to, file, offset, size))
        return sent[-1]

    monkeypatch.setattr("aiosock.network.registered.SENDFILE", watched)
    file = await open_file(path)
    try:
        async with Server.answering(OK) as server, checked_client() as client:
            await client.put(server.url, content=file)
            assert len(LARGE) - 65536 == sum(sent)
            await client.put(server.url, content=file, headers={"Transfer-Encoding": "chunked"})
            assert len(LARGE) - 65536 == sum(sent)
    finally:
        await asyncio.to_thread(file.close)


async def send_while(path: Path, change: Callable[[IO[bytes]], Awaitable[object]], **options: Any) -> None:
    """Send a file that somebody changes when the server has the head; less than is declared must come of it."""
    file = await open_file(path)
    received = 0

    async def script(peer: Peer) -> None:
        nonlocal received
        head = await peer.read_head()
        assert head is not None
        await change(file)
        while data := await peer.read():
            received += len(data)
        assert received < int(head.header("Content-Length") or 0)

    try:
        async with Server(script) as server, checked_client() as client:
            try:
                await client.put(server.url, content=file, **options)
            finally:
                await settled(client)
                assert client.pool.idle == 0
    finally:
        await asyncio.to_thread(file.close)


async def test_a_file_that_shrinks_while_it_is_sent_is_an_error(path: Path) -> None:
    async def shrink(_: object) -> None:
        await asyncio.to_thread(os.truncate, path, 1000)

    with pytest.raises(aiosock.LocalProtocolError, match=f"short of its Content-Length of {len(LARGE)}"):
        await send_while(path, shrink)


async def test_a_file_that_grows_while_it_is_sent_is_an_error(path: Path) -> None:
    async def grow(_: object) -> None:
        await asyncio.to_thread(os.truncate, path, len(LARGE) + 8)

    with pytest.raises(aiosock.LocalProtocolError, match=f"passes its Content-Length of {len(LARGE)} bytes by 1"):
        await send_while(path, grow)


async def test_a_file_that_is_closed_while_it_is_sent_is_an_error(path: Path) -> None:
    async def close(file: IO[bytes]) -> None:
        await asyncio.to_thread(file.close)

    with pytest.raises(aiosock.UsageError, match="^content: the file is closed"):
        await send_while(path, close)


async def test_a_declared_length_that_is_less_than_a_file_is_an_error(path: Path) -> None:
    async def nothing(_: object) -> None:
        pass

    with pytest.raises(aiosock.LocalProtocolError, match="passes its Content-Length of 9000000 bytes"):
        await send_while(path, nothing, headers={"Content-Length": "9000000"})


async def test_an_early_refusal_stops_the_sending_of_a_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[int] = []
    dup = os.dup

    def watched(descriptor: int) -> int:
        opened.append(dup(descriptor))
        return opened[-1]

    monkeypatch.setattr("os.dup", watched)

    async def script(peer: Peer) -> None:
        await peer.read_head()
        await peer.send(response(413, b"too much"))
        await peer.wait_disconnect()

    file = await open_file(path)
    try:
        async with Server(script) as server, checked_client() as client:
            answer = await client.put(server.url, content=file)
            assert (answer.status_code, answer.text) == (413, "too much")
            await settled(client)
            assert client.pool.idle == 0
    finally:
        await asyncio.to_thread(file.close)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(opened[0])


async def test_the_time_to_send_a_file_is_bounded(path: Path) -> None:
    async def script(_: Peer) -> None:
        await asyncio.Event().wait()

    file = await open_file(path)
    try:
        async with Server(script) as server, checked_client() as client:
            for timeout, error in (
                (aiosock.Timeout(write=0.05), aiosock.WriteTimeout),
                (aiosock.Timeout(total=0.05), aiosock.TotalTimeout),
            ):
                with pytest.raises(error):
                    await client.put(server.url, content=file, timeout=timeout)
                await settled(client)
    finally:
        await asyncio.to_thread(file.close)


async def test_a_server_that_hangs_up_on_a_file_is_a_failure_to_send(path: Path) -> None:
    async def script(peer: Peer) -> None:
        await peer.read_head()
        peer.reset()

    file = await open_file(path)
    try:
        async with Server(script) as server, checked_client() as client:
            with pytest.raises((aiosock.WriteError, aiosock.ReadError)):
                await client.put(server.url, content=file)
            await settled(client)
    finally:
        await asyncio.to_thread(file.close)
