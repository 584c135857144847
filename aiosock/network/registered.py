"""
The registered road: the loop knows the socket for the life of the connection, and tells when it can be read or written.
"""

from __future__ import annotations

import asyncio
import errno
import math
import os
import socket
from collections.abc import Awaitable, Callable, Sequence
from itertools import islice
from typing import Final

from aiosock.errors import ReadError, ReadTimeout
from aiosock.network.block import MAX_GATHERED_BYTES, Block, keep_memory
from aiosock.network.road import MAX_EAGER_READS, MAX_READ_BYTES, SocketStream

MAX_SEND_BYTES: Final = 256 * 1024
# So many parts go with one call; the systems that have `sendmsg` take 1,024.
MAX_SEND_PARTS: Final = 64
# Files that `sendfile` does not send, or cannot read; who reads them learns more.
NOT_SENT_BY_KERNEL: Final = frozenset(
    (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EOVERFLOW, errno.ESPIPE, errno.EIO)
)
SENDFILE: Final = getattr(os, "sendfile", None)
# `sendfile` reads the disk in the loop's thread where the file is not in memory yet: not more of it at a turn.
MAX_FILE_SEND_BYTES: Final = 512 * 1024


class RegisteredStream(SocketStream):
    """The registered road: one `add_reader` for the life of the connection, and one timer for its deadlines."""

    __slots__ = (
        "_block",
        "_drainers",
        "_fd",
        "_read_by",
        "_reader",
        "_reading",
        "_timer",
        "_timer_at",
        "_watcher",
        "_write_by",
        "unsent",
    )

    def __init__(self, sock: socket.socket, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(sock, loop)
        self._fd = sock.fileno()
        self._reader: asyncio.Future[bytes] | None = None
        self._read_by = math.inf
        self._block: Block | None = None
        self._watcher: Callable[[], None] | None = None
        self._drainers: list[asyncio.Future[None]] = []
        # The loop tells when the kernel has room.
        self.unsent = False
        self._write_by = math.inf
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = math.inf
        loop.add_reader(self._fd, self._on_readable)
        self._reading = True

    # Reading

    def read(self, deadline: float) -> Awaitable[bytes]:
        if self._interruption is not None or self._closed or self._eager_reads:
            served = self._serve()
            if served is not None:
                return served
        if self._reader is not None and not self._reader.done():
            raise RuntimeError("two tasks read from one connection at the same time")
        reader = self._reader = self._loop.create_future()
        self._read_by = deadline
        if self._block is not None:
            self._drop_block()
        if deadline < self._timer_at:
            self._arm(deadline)
        if not self._reading:
            self._resume()
        return reader

    def gather(self, start: bytes, size: int, seconds: float, deadline: float) -> Awaitable[bytes]:
        if size > MAX_READ_BYTES:
            keep_memory()
        # What comes until the loop's next turn comes with one read.
        self._eager_reads = 0
        reader = self.read(min(self._loop.time() + seconds, deadline))
        self._block = Block(start, min(size, MAX_GATHERED_BYTES), seconds, deadline)
        return reader

    def _serve(self) -> asyncio.Future[bytes] | None:
        """Return what a read gets without a wait: an error, or what the socket has; None where that is nothing."""
        reader: asyncio.Future[bytes] = self._loop.create_future()
        if self._interruption is not None:
            error, self._interruption = self._interruption, None
            reader.set_exception(error)
            return reader
        if self._closed:
            reader.set_exception(self._closed_error())
            return reader
        # Reads served without a wait since the last one; above 0, the socket is tried first.
        data = None
        if self._eager_reads <= MAX_EAGER_READS:
            try:
                data = self._receive()
            except ReadError as error:
                reader.set_exception(error)
                return reader
        if data is None:
            self._eager_reads = 0
            return None
        self._eager_reads = self._eager_reads + 1 if self._filled else 0
        reader.set_result(data)
        return reader

    def _on_readable(self) -> None:
        reader = self._reader
        if reader is None or reader.done():
            if self._watcher is not None:
                self._watcher()
            else:
                # Nobody wants it now: without a pause the loop would come back at every turn.
                self._pause()
                self._eager_reads = 1
            return
        if self._block is not None:
            self._fill(self._block, reader)
            return
        try:
            data = self._receive()
        except ReadError as error:
            self._reader = None
            self._pause()
            reader.set_exception(error)
            return
        if data is None:
            return
        self._reader = None
        if not data:
            self._pause()
        elif self._filled:
            self._eager_reads = 1
        reader.set_result(data)

    def _fill(self, block: Block, reader: asyncio.Future[bytes]) -> None:
        """Read into the block; whoever waits for it hears only when it is full, or when no more can come."""
        try:
            if block.receive(self._sock):
                if not block.is_full:
                    self._read_by = min(self._loop.time() + block.seconds, block.deadline)
                    return
            else:
                self._pause()
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._pause()
            failure = self._read_error(error)
            failure.__cause__ = error
            if not block.filled:
                self._reader = None
                self._drop_block()
                reader.set_exception(failure)
                return
            self._interruption = failure
        self._reader = self._block = None
        reader.set_result(block.take())

    def _drop_block(self) -> None:
        block, self._block = self._block, None
        if block is not None:
            block.drop()

    def _pause(self) -> None:
        if self._reading:
            self._reading = False
            self._loop.remove_reader(self._fd)

    def _resume(self) -> None:
        self._reading = True
        self._loop.add_reader(self._fd, self._on_readable)

    def interrupt(self, error: BaseException) -> None:
        reader, self._reader = self._reader, None
        if reader is not None and not reader.done():
            reader.set_exception(error)
        else:
            self._interruption = error

    def watch(self, callback: Callable[[], None] | None) -> None:
        self._watcher = callback
        if callback is not None and not self._reading and not self._closed:
            self._resume()

    # Writing

    def write(self, data: bytes | memoryview) -> None:
        if self._write_error is not None or self._closed:
            return
        if self._pending:
            self._pending.append(memoryview(data))
            return
        try:
            sent = self._send(data)
        except OSError as error:
            self._fail_writing(self._send_error(error))
            return
        if sent < len(data):
            self._pending.append(memoryview(data)[sent:])
            self._start_writing(self._on_writable)

    def write_all(self, parts: Sequence[bytes | memoryview]) -> None:
        if self._write_error is not None or self._closed:
            return
        sent = 0
        if not self.unsent:
            try:
                sent = self._send_parts(parts[:MAX_SEND_PARTS])
            except OSError as error:
                self._fail_writing(self._send_error(error))
                return
            if sent == sum(map(len, parts)):
                return
        for part in parts:
            if sent < len(part):
                self._pending.append(memoryview(part)[sent:])
                sent = 0
            else:
                sent -= len(part)
        if not self.unsent:
            self._start_writing(self._on_writable)

    async def send_file(self, file: int, offset: int, size: int) -> int:
        await self.drain()
        sendfile = SENDFILE
        if sendfile is None:
            return 0
        sent = 0

        def send_more() -> None:
            nonlocal sent
            try:
                count = sendfile(self._fd, file, offset + sent, min(size - sent, MAX_FILE_SEND_BYTES))
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                if error.errno not in NOT_SENT_BY_KERNEL:
                    self._fail_writing(self._send_error(error))
                    return
                count = 0
            sent += count
            if count and sent < size:
                self._count_write_progress()
            else:
                self._stop_writing()

        self._start_writing(send_more)
        try:
            await self.drain()
        finally:
            if self.unsent:
                self._stop_writing()
        return sent

    def limit_writes(self, seconds: float, deadline: float) -> None:
        self._write_seconds = seconds
        self._write_deadline = deadline
        if self.unsent:
            self._count_write_progress()

    async def drain(self) -> None:
        if self.unsent:
            # One for each who waits: it is cancelled with them.
            drainer: asyncio.Future[None] = self._loop.create_future()
            self._drainers.append(drainer)
            await drainer
        error = self.write_error
        if error is not None:
            # A fresh object for everyone who is told.
            raise type(error)(*error.args) from error

    def _on_writable(self) -> None:
        pending = self._pending
        try:
            while pending and self._send_pending():
                pass
        except OSError as error:
            self._fail_writing(self._send_error(error))
            return
        if pending:
            self._count_write_progress()
        else:
            self._stop_writing()

    def _send_pending(self) -> bool:
        """Send some of what is pending; return whether the kernel took all that it was given."""
        pending = self._pending
        data = pending[0]
        if len(data) >= MAX_SEND_BYTES or len(pending) == 1:
            given = min(len(data), MAX_SEND_BYTES)
            sent = self._send(data[:given])
        else:
            parts = list(islice(pending, MAX_SEND_PARTS))
            given = sum(map(len, parts))
            sent = self._send_parts(parts)
        rest = sent
        while pending and rest >= len(pending[0]):
            rest -= len(pending.popleft())
        if rest:
            pending[0] = pending[0][rest:]
        return sent == given

    def _start_writing(self, on_writable: Callable[[], None]) -> None:
        self.unsent = True
        self._loop.add_writer(self._fd, on_writable)
        self._count_write_progress()

    def _count_write_progress(self) -> None:
        self._write_by = min(self._loop.time() + self._write_seconds, self._write_deadline)
        if self._write_by < self._timer_at:
            self._arm(self._write_by)

    def _stop_writing(self) -> None:
        self.unsent = False
        self._write_by = math.inf
        self._loop.remove_writer(self._fd)
        self._release_drainers()

    def _fail_writing(self, error: Exception) -> None:
        self._pending.clear()
        self._write_error = error
        if self.unsent:
            self._stop_writing()

    def _release_drainers(self) -> None:
        drainers, self._drainers = self._drainers, []
        for drainer in drainers:
            if not drainer.done():
                drainer.set_result(None)

    # Deadlines: numbers. The one timer looks at them when it fires, and arms itself again.

    def _arm(self, when: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = when
        self._timer = self._loop.call_at(when, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        # The clock may stand a hair before the time for which the loop woke us.
        due, self._timer_at = self._timer_at, math.inf
        now = max(self._loop.time(), due)
        read_by = math.inf
        reader = self._reader
        if reader is not None and not reader.done():
            read_by = self._read_by
            if read_by <= now:
                self._reader = None
                read_by = math.inf
                reader.set_exception(ReadTimeout(f"nothing came from {self.info.remote_address} in time"))
        if self._write_by <= now:
            self._fail_writing(self._write_timeout())
            self.interrupt(self._write_timeout())
        soonest = min(read_by, self._write_by)
        if soonest < self._timer_at:
            self._arm(soonest)

    # The end

    def abort(self) -> None:
        if self._closed:
            return
        self._closed = True
        if self._loop_is_ours:
            self._pause()
            if self.unsent:
                self._loop.remove_writer(self._fd)
        self.unsent = False
        self._pending.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._drop_block()
        self._watcher = None
        # Closed only now that the loop has forgotten it: its number may be the next socket's.
        self._sock.close()
        reader, self._reader = self._reader, None
        if self._loop.is_closed():
            return  # Whoever waited there can no longer be told, and no longer waits.
        self._release_drainers()
        if reader is not None and not reader.done():
            reader.set_exception(self._closed_error())

    close = abort
