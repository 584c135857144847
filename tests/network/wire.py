"""
Wires: a stream of each kind, with its other end in the hands of the test; and a clock that the test moves on.
"""

from __future__ import annotations

import asyncio
import math
import socket
from collections.abc import Awaitable, Callable
from typing import TypeVar

import pytest

from aiosock.network.stream import Stream
from aiosock.testing import Peer

PATIENCE_SECONDS = 20
Function = TypeVar("Function", bound=Callable[..., object])


class WatchedSocket(socket.socket):
    """Writes down how much is asked for; without end, it always has as much as that."""

    asked: list[int]
    endless = False

    def recv(self, size: int, flags: int = 0) -> bytes:
        self.asked.append(size)
        return bytes(size) if self.endless else super().recv(size, flags)


class Wire:
    """
    Opens streams of one kind; what it opened is closed after the test.

    Args:
        kind: ``"tcp"``, ``"unix"`` or ``"tls"``.
        portable: The streams take the portable road.
        connect: Opens one.
        peers: Where the server puts its end of each.
    """

    def __init__(
        self, kind: str, portable: bool, connect: Callable[[], Awaitable[Stream]], peers: asyncio.Queue[Peer]
    ) -> None:
        self.kind = kind
        self.portable = portable
        self.streams: list[Stream] = []
        self._connect = connect
        self._peers = peers

    async def open(self) -> tuple[Stream, Peer]:
        """Return both ends of a new connection."""
        stream = await self._connect()
        self.streams.append(stream)
        return stream, await self._peers.get()

    def socket_of(self, stream: Stream) -> object:
        """Return the stream that owns the socket."""
        return stream._inner if self.kind == "tls" else stream  # type: ignore[attr-defined]


class Clock:
    """The running loop's clock; timers that the test passes with it are due at the loop's next turn."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        loop = asyncio.get_running_loop()
        # uvloop hands its timers to libuv, which has a clock of its own: there, only what asks the loop for the
        # time sees the test's.
        self.moves_timers = isinstance(loop, asyncio.BaseEventLoop)
        self._skipped = 0.0
        time = loop.time
        monkeypatch.setattr(loop, "time", lambda: time() + self._skipped)

    def skip(self, seconds: float) -> None:
        """Let so much time pass."""
        self._skipped += seconds


def wires(
    *, kinds: tuple[str, ...] = ("tcp", "unix", "tls"), roads: tuple[str, ...] = ("registered", "portable")
) -> Callable[[Function], Function]:
    """Say for which wires a test is; it is for all of them where this is not said."""

    def mark(function: Function) -> Function:
        function.wires = [(kind, road) for road in roads for kind in kinds]  # type: ignore[attr-defined]
        return function

    return mark


async def turns(count: int = 20) -> None:
    """Let the loop turn so many times."""
    for _ in range(count):
        await asyncio.sleep(0)


async def until(condition: Callable[[], object]) -> None:
    """Let the loop turn until something holds."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not condition():  # what is waited for has no event, and needs turns alone
            await asyncio.sleep(0)


async def arrived(stream: Stream) -> bytes:
    """Return what comes next, by `read_ready` alone."""
    found: list[bytes | None] = []
    await until(lambda: found.append(stream.read_ready()) or found[-1] is not None)
    assert found[-1] is not None
    return found[-1]


async def read_all(stream: Stream) -> bytes:
    """Return everything up to the end."""
    pieces = []
    while piece := await stream.read(math.inf):
        pieces.append(piece)
    return b"".join(pieces)


async def receive(peer: Peer, size: int) -> bytes:
    """Return what the peer reads, up to a size."""
    received = bytearray()
    while len(received) < size and (data := await peer.read(2**20)):
        received += data
    return bytes(received)
