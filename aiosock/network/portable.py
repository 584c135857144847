"""
The portable road: each wait is a call of the loop's own, which every loop has.
"""

from __future__ import annotations

import asyncio
import math
import socket
from collections.abc import Callable, Sequence
from typing import Final

from aiosock.errors import ReadTimeout, WriteError
from aiosock.network.block import MAX_GATHERED_BYTES
from aiosock.network.road import MAX_EAGER_READS, SocketStream

# The wait until the kernel takes something is the sending of so little.
PROBE_BYTES: Final = 4 * 1024


class PortableStream(SocketStream):
    """The portable road: nothing but `loop.sock_recv` and `loop.sock_sendall`, which every loop has."""

    __slots__ = ("_flusher", "_receiving", "_woken", "_write_scope")

    def __init__(self, sock: socket.socket, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(sock, loop)
        # It goes on when the read that began it is called off or late: what it gets is the next read's.
        self._receiving: asyncio.Future[bytes] | None = None
        self._woken: asyncio.Future[None] | None = None
        self._write_scope: asyncio.Timeout | None = None
        self._flusher: asyncio.Task[None] | None = None

    async def read(self, deadline: float, expected: int = 0) -> bytes:
        # What is there already comes without a turn of the loop, which must not starve the other tasks.
        self._eager_reads += 1
        if self._eager_reads > MAX_EAGER_READS:
            self._eager_reads = 0
            await asyncio.sleep(0)
        if self._woken is not None:
            raise RuntimeError("two tasks read from one connection at the same time")
        self._raise_interruption()
        if self._closed:
            raise self._closed_error()
        size = max(self._read_size, min(expected, MAX_GATHERED_BYTES))
        data = self._take(size)
        if data is None and self._receiving is not None:
            await self._wait(self._receiving, deadline)
            data = None if self._closed else self._take(size)
        if data is None:
            self._raise_interruption()
            raise ReadTimeout(f"nothing came from {self.info.remote_address} in time")
        self._fit(len(data))
        return data

    def _take(self, size: int) -> bytes | None:
        """Return what is there, the end too; where that is nothing, see to it that somebody waits for more."""
        try:
            if self._receiving is None:
                # Some loops try before they wait, others do not: there, what came ahead of a request would be read
                # only after the request has left, and be taken for its answer.
                return self._sock.recv(size)
            if self._receiving.done():
                receiving, self._receiving = self._receiving, None
                return receiving.result()
        except (BlockingIOError, InterruptedError):
            self._receiving = asyncio.ensure_future(self._loop.sock_recv(self._sock, size), loop=self._loop)
        except OSError as error:
            raise self._read_error(error) from error
        return None

    async def _wait(self, receiving: asyncio.Future[bytes], deadline: float) -> None:
        """Wait until something has come, somebody interrupts, or the deadline."""
        self._woken = self._loop.create_future()
        seconds = None if deadline == math.inf else max(deadline - self._loop.time(), 0.0)
        try:
            await asyncio.wait((receiving, self._woken), timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._woken = None

    def read_ready(self) -> bytes | None:
        if self._receiving is not None and self._receiving.done() and not self._closed:
            return self._take(self._read_size)
        return super().read_ready()

    async def gather(self, start: bytes, size: int, seconds: float, deadline: float) -> bytes:
        return start or await self.read(min(self._loop.time() + seconds, deadline), size)

    @property
    def unsent(self) -> bool:
        return bool(self._pending)

    def _raise_interruption(self) -> None:
        if self._interruption is not None:
            error, self._interruption = self._interruption, None
            raise error

    def interrupt(self, error: BaseException) -> None:
        self._interruption = error
        if self._woken is not None and not self._woken.done():
            self._woken.set_result(None)

    def watch(self, callback: Callable[[], None] | None) -> None:
        """Nothing is registered on this road, so nobody can be told."""

    def write(self, data: bytes | memoryview) -> None:
        if self._write_error is not None or self._closed:
            return
        rest = memoryview(data)
        if not self._pending:
            try:
                rest = rest[self._send(rest) :]
            except OSError as error:
                self._write_error = self._send_error(error)
                return
        if rest:
            self._pending.append(rest)
            if self._flusher is None:
                self._flusher = self._loop.create_task(self._flush())

    def write_all(self, parts: Sequence[bytes | memoryview]) -> None:
        for part in parts:
            self.write(part)

    async def send_file(self, file: int, offset: int, size: int) -> int:
        """Return 0: `loop.sock_sendfile`, which not every loop has, tells nothing of its progress."""
        return 0

    def limit_writes(self, seconds: float, deadline: float) -> None:
        self._write_seconds = seconds
        self._write_deadline = deadline
        if self._write_scope is not None and not self._write_scope.expired():
            self._write_scope.reschedule(self._write_by())

    def _write_by(self) -> float | None:
        return _when(min(self._loop.time() + self._write_seconds, self._write_deadline))

    async def _flush(self) -> None:
        pending = self._pending
        try:
            while pending:
                data = pending[0]
                # A little waits until the kernel has room. The rest goes without a wait, so that what is sent
                # can be told from what is not, and progress seen.
                async with asyncio.timeout_at(self._write_by()) as self._write_scope:
                    await self._loop.sock_sendall(self._sock, data[:PROBE_BYTES])
                data = data[PROBE_BYTES:]
                data = data[self._send(data) :]
                if data:
                    pending[0] = data
                else:
                    pending.popleft()
        except TimeoutError as error:
            if error.errno is not None:
                self._write_error = self._send_error(error)
            else:
                self._write_error = self._write_timeout()
                self.interrupt(self._write_timeout())
        except OSError as error:
            self._write_error = self._send_error(error)
        except BaseException:
            if self.write_error is None:  # Not by `abort`, that is.
                self._write_error = WriteError(f"sending to {self.info.remote_address} was cancelled")
            raise
        finally:
            pending.clear()
            self._flusher = self._write_scope = None

    async def drain(self) -> None:
        if self._flusher is not None:
            # Waiting for the task, not awaiting it: whoever is cancelled here leaves the flushing alone.
            await asyncio.wait([self._flusher])
        error = self.write_error
        if error is not None:
            raise type(error)(*error.args) from error

    def abort(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._pending.clear()
        if self._loop_is_ours:
            for task in (self._flusher, self._receiving):
                if task is not None:
                    task.cancel()  # One that has failed is then not reported either.
            for forget in (self._loop.remove_reader, self._loop.remove_writer):
                try:
                    forget(self._sock)
                except NotImplementedError:
                    break  # A loop without readers has none to forget.
        self._sock.close()
        if self._woken is not None and not self._loop.is_closed():
            self.interrupt(self._closed_error())

    close = abort


def _when(deadline: float) -> float | None:
    """Return a deadline as asyncio's timeouts take it."""
    return None if deadline == math.inf else deadline
