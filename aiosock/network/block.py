"""
Blocks: large pieces of a stream, put together in place.
"""

from __future__ import annotations

import contextlib
import socket
import sys
from functools import cache
from io import BytesIO
from typing import Final

# So much is gathered into one piece: what a peer announces takes memory only step by step.
MAX_GATHERED_BYTES: Final = 1024 * 1024
# What glibc shall take for a usual size of a block: up to twice as much free memory it then keeps.
USUAL_BLOCK_BYTES: Final = 16 * 1024 * 1024


class Block:
    """
    A piece of the stream that is put together in place, and becomes bytes without a copy.

    Args:
        start: Its first bytes.
        size: How many it shall have.
        seconds: How long it may take until more come.
        deadline: When it must be full.
    """

    __slots__ = ("_memory", "_view", "deadline", "filled", "seconds")

    def __init__(self, start: bytes, size: int, seconds: float, deadline: float) -> None:
        self.seconds = seconds
        self.deadline = deadline
        self._memory = BytesIO(bytes(size))
        self._view = self._memory.getbuffer()
        self.filled = len(start)
        self._view[: self.filled] = start

    @property
    def is_full(self) -> bool:
        return self.filled == len(self._view)

    def receive(self, sock: socket.socket) -> int:
        """Take what the socket has for it, and return how much that was."""
        # Released at once: an error's traceback would keep the slice, and `take` could not shorten what it shows.
        with self._view[self.filled :] as rest:
            received = sock.recv_into(rest)
        self.filled += received
        return received

    def drop(self) -> None:
        """End the block, and what is there with it: shown to nobody, its memory can go whichever way it is freed."""
        self._view.release()

    def take(self) -> bytes:
        """Return what is there, and end the block."""
        self._view.release()
        # Of a buffer that is full and shown to nobody, this is the object itself.
        self._memory.truncate(self.filled)
        return self._memory.getvalue()


@cache
def keep_memory() -> None:
    """
    Let glibc keep the memory of a body for the next one.

    By default it gives free memory back to the system from 128 KiB on, and the next body has its pages made anew, which
    costs more than to fill them. It learns from the blocks that come and go (M_MMAP_THRESHOLD in mallopt(3)): one that
    nobody touches, and that so takes no memory, is enough. Whoever sets MALLOC_TRIM_THRESHOLD_ has their way.
    """
    if sys.platform == "linux":
        with contextlib.suppress(MemoryError):
            bytes(USUAL_BLOCK_BYTES)
