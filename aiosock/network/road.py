"""
What the two roads share: the socket, its names, what does not wait, and how errors are worded.

On the registered road a socket is registered with the loop once (`add_reader`), and stays so for its life; on the
portable road, which every loop has, each wait is a `loop.sock_recv` or `loop.sock_sendall` of its own. A connection
takes one road for life: `sock_recv` on a registered socket would silently remove its reader.
"""

from __future__ import annotations

import asyncio
import math
import os
import select
import socket
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from aiosock.errors import ReadError, WriteError, WriteTimeout
from aiosock.network.address import format_socket_name
from aiosock.network.fault import describe
from aiosock.network.stream import StreamInfo

MIN_READ_BYTES: Final = 64 * 1024
# Of larger blocks the memory goes back to the system, and comes from it page by page, with nearly every read.
MAX_READ_BYTES: Final = 128 * 1024
# So many reads in a row may be served without a turn of the loop; then the other tasks have theirs.
MAX_EAGER_READS: Final = 2


class SocketStream:
    """What a stream is on either road."""

    __slots__ = (
        "_closed",
        "_eager_reads",
        "_filled",
        "_info",
        "_interruption",
        "_look",
        "_loop",
        "_names",
        "_pending",
        "_process",
        "_read_size",
        "_sock",
        "_write_deadline",
        "_write_error",
        "_write_seconds",
    )

    def __init__(self, sock: socket.socket, loop: asyncio.AbstractEventLoop) -> None:
        self._sock = sock
        self._loop = loop
        self._process = os.getpid()
        self._closed = False
        self._read_size = MIN_READ_BYTES
        self._filled = False
        self._eager_reads = 0
        self._look: Callable[[int], object] | None = None
        self._interruption: BaseException | None = None
        self._pending: deque[memoryview] = deque()
        self._write_seconds = math.inf
        self._write_deadline = math.inf
        self._write_error: Exception | None = None
        # Asked for while there is a socket to ask, and put into words when somebody wants to know.
        self._names: tuple[object, object] = sock.getpeername(), sock.getsockname()
        self._info: StreamInfo | None = None

    @property
    def info(self) -> StreamInfo:
        if self._info is None:
            # A Unix socket's own name is empty, an abstract one is bytes.
            remote, local = self._names
            self._info = StreamInfo(format_socket_name(remote), format_socket_name(local))
        return self._info

    @property
    def write_error(self) -> Exception | None:
        if self._write_error is None and self._closed:
            self._write_error = WriteError(f"the connection to {self.info.remote_address} was closed on this side")
        return self._write_error

    def read_ready(self) -> bytes | None:
        if self._closed:
            raise self._closed_error()
        # Mostly asked of an idle connection, and in vain: a look costs less than a read that fails.
        if self._look is None:
            self._look = _make_look(self._sock)
        return self._receive() if self._look(0) else None

    def _receive(self) -> bytes | None:
        """Read without waiting; the size asked for follows the flow."""
        size = self._read_size
        try:
            data = self._sock.recv(size)
        except (BlockingIOError, InterruptedError):
            return None
        except OSError as error:
            raise self._read_error(error) from error
        self._filled = len(data) == size
        if self._filled or self._read_size > MIN_READ_BYTES:
            self._fit(len(data))
        return data

    def _fit(self, received: int) -> None:
        size = self._read_size
        if received >= size:
            self._read_size = min(size * 2, MAX_READ_BYTES)
        elif received * 4 < size:
            self._read_size = max(size // 2, MIN_READ_BYTES)

    def _send(self, data: bytes | memoryview) -> int:
        """Send what the kernel takes at once, and return how much that was."""
        try:
            return self._sock.send(data)
        except (BlockingIOError, InterruptedError):
            return 0

    def _send_parts(self, parts: Sequence[bytes | memoryview]) -> int:
        """Do as `_send` with several, which go together where the system can do that."""
        try:
            return self._sock.sendmsg(parts) if hasattr(self._sock, "sendmsg") else self._sock.send(b"".join(parts))
        except (BlockingIOError, InterruptedError):
            return 0

    def _read_error(self, error: OSError) -> ReadError:
        return ReadError(f"reading from {self.info.remote_address} failed: {describe(error)}")

    def _send_error(self, error: OSError) -> WriteError:
        failure = WriteError(f"sending to {self.info.remote_address} failed: {describe(error)}")
        failure.__cause__ = error
        return failure

    def _write_timeout(self) -> WriteTimeout:
        return WriteTimeout(f"nothing could be sent to {self.info.remote_address} in time")

    @property
    def _loop_is_ours(self) -> bool:
        """
        The loop still runs, and in this process.

        A closed loop has forgotten the socket, and would refuse. After a fork the child shares the parent's
        selector: what it unregisters there would be lost to the parent.
        """
        return not self._loop.is_closed() and os.getpid() == self._process

    def _closed_error(self) -> ReadError:
        return ReadError(f"the connection to {self.info.remote_address} was closed on this side")


def _make_look(sock: socket.socket) -> Callable[[int], object]:
    """Return what tells whether a socket has something to read, or may have; its argument is the wait, 0."""
    if not hasattr(select, "poll"):
        return lambda wait: True  # It has to try.
    poller = select.poll()
    poller.register(sock, select.POLLIN)
    return poller.poll
