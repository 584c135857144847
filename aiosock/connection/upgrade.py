"""
A connection that was handed over: after 101 (Switching Protocols) or CONNECT its bytes mean nothing to HTTP.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable

from aiosock.errors import UsageError
from aiosock.network.stream import Stream


class UpgradedStream:
    """
    The connection after 101 (Switching Protocols) or CONNECT; see `aiosock.message.response.ByteStream`.

    One task may read while another writes. The bounds on pauses in writing hold on, those on reading do not: who
    waits for a server's next word may put a timeout around `read`.

    Args:
        stream: The connection's.
        rest: What came with the answer's head already.
        abort: Gives the connection up.
        sent: Returns when the request is sent, which nothing may be sent ahead of; None where it is.
    """

    def __init__(
        self,
        stream: Stream,
        rest: bytes,
        abort: Callable[[], None],
        sent: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._stream = stream
        self._rest = rest
        self._abort = abort
        self._sent = sent
        self._is_read = False
        # The read under way; it goes on when who waits for it is called off.
        self._reading: asyncio.Future[bytes] | None = None

    async def read(self) -> bytes:
        """
        Return the next bytes, as many as there are; ``b""`` is the end. It waits as long as it takes.

        A call that is cancelled loses nothing: the next one returns what it would have.

        Raises:
            ReadError: The connection broke, or was closed on this side.
            WriteTimeout: Writing got stuck.
            UsageError: Another task is reading.
            Exception: Whatever the body of the request raised, where that was still being sent; once.
        """
        if self._is_read:
            raise UsageError("two tasks read from one stream at the same time")
        if self._rest:
            rest, self._rest = self._rest, b""
            return rest
        reading = self._reading
        if reading is None:
            reading = self._reading = asyncio.ensure_future(self._stream.read(math.inf))
        self._is_read = True
        try:
            if not reading.done():
                # Not awaited itself: a cancellation that meets the bytes on their way would throw them away.
                await asyncio.wait([reading])
        except asyncio.CancelledError:
            reading.add_done_callback(_notice)
            raise
        finally:
            self._is_read = False
        self._reading = None
        return reading.result()

    async def write(self, data: bytes | bytearray | memoryview) -> None:
        """
        Send bytes; returns when they are handed to the system. A call that is cancelled may still send them all.

        Where the server switched before it had the whole request, the rest of that goes first (RFC 9110, 7.8).

        Raises:
            WriteError: The connection broke, or was closed on this side.
            WriteTimeout: Nothing could be sent for ``Timeout.write`` seconds; nothing more can be.
            UsageError: The data are no bytes.
            Exception: Whatever the body of that request raised.
        """
        if not isinstance(data, bytes):
            if not isinstance(data, (bytearray, memoryview)):
                raise UsageError(f"data: bytes are sent, not {type(data).__name__}")
            # What is not sent at once is kept, and must not change.
            data = bytes(data)
        if self._sent is not None:
            await self._sent()
        self._stream.write(data)
        await self._stream.drain()

    async def close(self) -> None:
        """Close the connection; again is no harm."""
        self._rest = b""
        self._stream.close()
        self._abort()


def _notice(reading: asyncio.Future[bytes]) -> None:
    """Take note of how a read ended that maybe nobody asks for any more."""
    if not reading.cancelled():
        reading.exception()
