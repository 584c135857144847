"""The rest of a body that nobody wants: what is there goes for nothing, what is to come within a bound."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator

import pytest

from aiosock.connection.draining import MAX_DRAIN_BYTES, drain, drain_ready
from aiosock.errors import IncompleteBody, ReadTimeout, RemoteProtocolError
from aiosock.network.registered import RegisteredStream
from aiosock.network.road import MIN_READ_BYTES
from aiosock.protocol.http1 import BodyEnded, Connection, RequestHead, ResponseStarted

HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
END = b"0\r\n\r\n"


def chunk(size: int) -> bytes:
    return b"%x\r\n%b\r\n" % (size, bytes(size))


def answered(received: bytes) -> Connection:
    """Return a protocol that received an answer's head and more."""
    protocol = Connection()
    protocol.send_request(RequestHead("GET", "/", "a.example", ()))
    protocol.receive_data(HEAD + received)
    assert isinstance(protocol.next_event(), ResponseStarted)
    return protocol


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        yield ours, theirs


Ends = tuple[socket.socket, socket.socket]


def stream_of(ends: Ends) -> RegisteredStream:
    return RegisteredStream(ends[0], asyncio.get_running_loop())


async def test_what_was_received_is_thrown_away_whatever_its_size(ends: Ends) -> None:
    stream = stream_of(ends)
    protocol = answered(chunk(10 * MAX_DRAIN_BYTES) + b"0\r\nA: b\r\n\r\n")
    end, allowed = drain_ready(protocol, stream)
    assert isinstance(end, BodyEnded)
    assert end.trailers == {"A": "b"}
    assert allowed == MAX_DRAIN_BYTES
    assert protocol.reusable
    stream.abort()


async def test_what_can_be_read_at_once_is_counted(ends: Ends) -> None:
    stream, protocol = stream_of(ends), answered(chunk(10))
    ends[1].send(chunk(100))
    assert drain_ready(protocol, stream) == (None, MAX_DRAIN_BYTES - len(chunk(100)))
    ends[1].send(END)
    end, allowed = drain_ready(protocol, stream)
    assert end is not None
    assert allowed == MAX_DRAIN_BYTES - len(END)
    stream.abort()


async def test_no_more_is_read_at_once_than_is_allowed(ends: Ends, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aiosock.connection.draining.MAX_DRAIN_BYTES", 50)
    stream, protocol = stream_of(ends), answered(b"")
    # More than one read takes.
    ends[1].send(chunk(MIN_READ_BYTES + 1))
    end, allowed = drain_ready(protocol, stream)
    assert end is None
    assert allowed == 50 - MIN_READ_BYTES
    # Nor later.
    assert await drain(protocol, stream, allowed, 0.0) is None
    stream.abort()


async def test_what_comes_later_is_thrown_away_within_what_is_allowed(ends: Ends) -> None:
    stream, protocol = stream_of(ends), answered(b"")
    by = asyncio.get_running_loop().time() + 60
    draining = asyncio.create_task(drain(protocol, stream, 100, by))
    for piece in (chunk(50), END):
        await asyncio.sleep(0)
        ends[1].send(piece)
    assert await draining is not None
    assert protocol.reusable
    protocol = answered(b"")
    ends[1].send(chunk(100))
    assert await drain(protocol, stream, 100, by) is None
    stream.abort()


async def test_the_end_may_come_with_the_bytes_that_use_up_what_is_allowed(ends: Ends) -> None:
    stream, protocol = stream_of(ends), answered(b"")
    ends[1].send(chunk(100) + END)
    assert await drain(protocol, stream, 1, asyncio.get_running_loop().time() + 60) is not None
    stream.abort()


async def test_what_is_no_rest_of_a_body_is_an_error(ends: Ends) -> None:
    stream = stream_of(ends)
    with pytest.raises(RemoteProtocolError, match="chunk size"):
        drain_ready(answered(b"x\r\n"), stream)
    ends[1].send(b"x\r\n")
    with pytest.raises(RemoteProtocolError, match="chunk size"):
        await drain(answered(b""), stream, 100, asyncio.get_running_loop().time() + 60)
    stream.abort()


async def test_a_rest_that_does_not_come_is_an_error(ends: Ends) -> None:
    stream = stream_of(ends)
    with pytest.raises(ReadTimeout):
        await drain(answered(b""), stream, 100, asyncio.get_running_loop().time())
    ends[1].close()
    with pytest.raises(IncompleteBody):
        await drain(answered(b""), stream, 100, asyncio.get_running_loop().time() + 60)
    with pytest.raises(IncompleteBody):
        drain_ready(answered(b""), stream)
    stream.abort()
