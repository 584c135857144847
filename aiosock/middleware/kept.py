"""
Bodies that a middleware keeps: one that is there already, one that is gathered before anybody reads it, and one that is
collected while somebody does.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final

from multidict import CIMultiDict

from aiosock.errors import RequestError
from aiosock.message.decoding import PIECE_BYTES
from aiosock.message.iteration import BodySource, BodyWrapper
from aiosock.message.response import Response

MAX_REDIRECT_BYTES: Final = 64 * 1024
REDIRECT_SECONDS: Final = 0.25


class KeptBody:
    """
    A body that is there, as it was sent, as a source.

    Args:
        content: The bytes, content codings untouched.
        trailers: What came after them.
    """

    def __init__(self, content: bytes, trailers: CIMultiDict[str] | None = None) -> None:
        self.trailers = trailers
        self._rest = memoryview(content)

    async def receive(self) -> bytes:
        """Return the next piece; ``b""`` at the end."""
        piece, self._rest = self._rest[:PIECE_BYTES], self._rest[PIECE_BYTES:]
        return bytes(piece)

    def take_whole(self) -> bytes | None:
        """Every piece goes through `receive`."""
        return None

    def check_deadline(self) -> None:
        """Nothing here takes long."""

    def lift_deadline(self) -> None:
        """Nothing here takes long."""

    def close(self) -> None:
        """There is nothing to give up."""

    def abort(self) -> None:
        """There is nothing to give up."""


class GatheredBody(BodyWrapper):
    """A source whose pieces can be gathered ahead of whoever reads it."""

    def __init__(self, inner: BodySource) -> None:
        super().__init__(inner)
        self._pieces: deque[bytes] = deque()

    async def gather(self, most: int) -> bytes | None:
        """
        Return the whole body; None once it passes so many bytes. Whoever reads it still gets all of it.

        Raises:
            RequestError: It could not be read.
        """
        size = 0
        while True:
            piece = await self.inner.receive()
            self._pieces.append(piece)
            if not piece:
                return b"".join(self._pieces)
            size += len(piece)
            if size > most:
                return None

    async def receive(self) -> bytes:
        """Return the next piece as it came; ``b""`` when the body is complete."""
        return self._pieces.popleft() if self._pieces else await self.inner.receive()


class CollectedBody(BodyWrapper):
    """
    A source whose pieces are collected while somebody reads it, and kept when it has ended.

    Args:
        inner: The source below.
        most: The most bytes that are kept; of a larger one none is.
        keep: Called with the whole of it.
    """

    def __init__(self, inner: BodySource, most: int, keep: Callable[[bytes], Awaitable[None]]) -> None:
        super().__init__(inner)
        self._pieces: list[bytes] | None = []
        self._left = most
        self._keep = keep

    async def receive(self) -> bytes:
        """Return the next piece as it came; ``b""`` when the body is complete."""
        piece = await self.inner.receive()
        pieces = self._pieces
        if pieces is None:
            return piece
        self._left -= len(piece)
        if self._left < 0:
            self._pieces = None
        elif piece:
            pieces.append(piece)
        else:
            self._pieces = None
            await self._keep(b"".join(pieces))
        return piece


def make_gatherable(response: Response) -> GatheredBody:
    """
    Let a response's body come through a source that can gather it, and return that.

    Raises:
        StreamConsumed: The body was iterated already, or given up.
    """
    made: list[GatheredBody] = []

    def wrap(source: BodySource) -> BodySource:
        made.append(GatheredBody(source))
        return made[0]

    response.wrap_body(wrap)
    return made[0]


async def gather_redirect(response: Response) -> None:
    """Read the body of a redirect, which nobody else will; what goes wrong is told to whoever tries to."""
    body = make_gatherable(response)
    try:
        # Nobody wants it but us: it is not worth a wait.
        async with asyncio.timeout(REDIRECT_SECONDS):
            await body.gather(MAX_REDIRECT_BYTES)
    except (RequestError, TimeoutError):
        response.abort()
    except BaseException:
        response.abort()
        raise


def is_plain(transfer_encoding: str) -> bool:
    """Tell whether a body comes without transfer codings but for its chunks: else what is kept would have them on."""
    return transfer_encoding.strip().lower() in ("", "chunked")
