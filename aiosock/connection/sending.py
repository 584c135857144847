"""
The way of a request body from its source to the stream.

It copies as little as it can: the kernel sends what is in a file, and pieces are not joined with what frames them.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from contextlib import aclosing
from typing import Final

from aiosock.message.body import Body, FileBody
from aiosock.network.stream import Stream
from aiosock.protocol.http1 import Connection as Protocol
from aiosock.protocol.http1 import RequestHead

MAX_PIECE_BYTES: Final = 256 * 1024

MAX_HELD_BYTES: Final = 512 * 1024
"""So much of a body is taken from the user before what was taken has been sent."""

PIECE_COST: Final = 1024
"""What a piece counts for besides its bytes, so that tiny ones do not pile up."""

MAX_JOINED_BYTES: Final = 16 * 1024
"""A piece up to this size is copied between what frames it; that costs less than sending parts."""

MAX_PIECES_PER_TURN: Final = 64

MIN_READ_BYTES: Final = 64 * 1024
"""So much of a file's end is read by us and not sent by the kernel: if there is more by now, we see it in time."""


class BodySender:
    """
    Sends one request body.

    Pieces that come without a wait go together, as every sending has its price; what comes before a wait goes at once.
    """

    __slots__ = ("_flush_is_due", "_head", "_held", "_parts", "_protocol", "_stream")

    def __init__(self, stream: Stream, protocol: Protocol, head: RequestHead) -> None:
        self._stream = stream
        self._protocol = protocol
        self._head = head
        self._parts: list[bytes | memoryview] = []
        self._held = 0
        self._flush_is_due = False

    async def send(self, body: Body) -> None:
        """
        Send all of it, but not the end that its framing may have.

        Raises:
            LocalProtocolError: It is more than its Content-Length.
            WriteError: The connection broke.
            WriteTimeout: Nothing could be sent for the seconds of `Stream.limit_writes`.
            Exception: Whatever the user's body raised.
        """
        source = body.pieces_after(await self._send_file(body)) if isinstance(body, FileBody) else body.pieces()
        count = 0
        gather = self._gather
        try:
            async with aclosing(source) as pieces:
                async for piece in pieces:
                    if len(piece) <= MAX_PIECE_BYTES:
                        if gather(piece) >= MAX_HELD_BYTES:
                            await self._relieve()
                    else:
                        for part in _split(piece):
                            gather(part)
                            await self._relieve()
                    count += 1
                    if count % MAX_PIECES_PER_TURN == 0:
                        await asyncio.sleep(0)
            self._flush()
        finally:
            # Nothing more is sent when this is over.
            self._parts.clear()

    def _gather(self, piece: bytes | memoryview) -> int:
        """Return how much is held."""
        size = len(piece)
        if size <= MAX_JOINED_BYTES:
            self._parts.append(self._protocol.send_data(piece))
        else:
            before, after = self._protocol.frame_data(size)
            self._parts += (before, piece, after) if before else (piece,)
        held = self._held = self._held + size + PIECE_COST
        if not self._flush_is_due:
            self._flush_is_due = True
            asyncio.get_running_loop().call_soon(self._flush_now)
        return held

    async def _relieve(self) -> None:
        """Send what was gathered, and wait until it is sent."""
        self._flush()
        self._held = 0
        stream = self._stream
        if stream.unsent or stream.write_error is not None:
            await stream.drain()

    def _flush_now(self) -> None:
        self._flush_is_due = False
        self._flush()

    def _flush(self) -> None:
        if self._parts:
            parts, self._parts = self._parts, []
            self._stream.write_all(parts)
            if self._stream.write_error is not None:
                # Nothing more is taken from the user: with the next piece, `_relieve` raises.
                self._held = MAX_HELD_BYTES

    async def _send_file(self, body: FileBody) -> int:
        """Let the kernel send a file but for its end, where it can; return how many bytes it sent."""
        # What is framed in chunks declares no length.
        if self._head.content_length <= MIN_READ_BYTES:
            return 0
        file = body.descriptor()
        if file is None:
            return 0
        try:
            size = min(os.fstat(file).st_size - body.start, self._head.content_length) - MIN_READ_BYTES
            sent = await self._stream.send_file(file, body.start, size) if size > 0 else 0
        finally:
            os.close(file)
        self._protocol.frame_data(sent)
        return sent


def _split(piece: bytes | memoryview) -> Iterator[memoryview]:
    view = memoryview(piece)
    return (view[start : start + MAX_PIECE_BYTES] for start in range(0, len(view), MAX_PIECE_BYTES))
