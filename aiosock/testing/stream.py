"""
The two byte streams under a peer of the scripted server: a plain socket, and TLS over another stream.

They drive the socket directly instead of through a transport, because the tests need to know when things
happen: ``send`` returns when the kernel has every byte, nothing is read before it is asked for, and a FIN or
a RST is on its way when the call that makes it returns. They know no HTTP, and must not: everything that a
script wants to break on purpose has to pass through them unjudged.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
from collections.abc import Callable
from typing import Literal, TypeAlias, TypeVar

T = TypeVar("T")
Direction = Literal["read", "send"]

PIECE_BYTES = 64 * 1024
# A socket that still holds unread data is closed with RST, not FIN, so it is emptied first; but not for ever,
# as the client may go on sending.
MAX_DISCARDS = 256


class PlainStream:
    """
    A connected socket; the stream owns it from now on.

    Waiting tasks can be ended from outside: ``close`` raises ``ConnectionAbortedError`` in them.
    """

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        if sock.family != getattr(socket, "AF_UNIX", None):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.closed = False
        self._sock = sock
        self._fd = sock.fileno()
        self._loop = asyncio.get_running_loop()
        self._waiting: dict[Direction, asyncio.Future[None]] = {}

    async def read(self, max_bytes: int) -> bytes:
        """Return what there is, as soon as there is something; ``b""`` at the end of file."""
        while True:
            self._check_open()
            try:
                return self._sock.recv(max_bytes)
            except BlockingIOError:
                await self._wait("read", self._loop.add_reader, self._loop.remove_reader)

    async def send(self, data: bytes | memoryview) -> None:
        """Hand all of the bytes to the kernel."""
        rest = memoryview(data)
        while rest:
            self._check_open()
            try:
                rest = rest[self._sock.send(rest) :]
            except BlockingIOError:
                await self._wait("send", self._loop.add_writer, self._loop.remove_writer)

    async def finish(self) -> None:
        """Nothing to say before a plain connection is closed."""

    def half_close(self) -> None:
        """Send FIN and go on reading."""
        self._check_open()
        try:
            self._sock.shutdown(socket.SHUT_WR)
        except OSError as error:  # ENOTCONN, of no class of its own
            raise ConnectionResetError("the client has already reset the connection") from error

    def close(self, *, reset: bool = False) -> None:
        """Close the socket now, with FIN, or with RST where that was asked for; again is no harm."""
        if self.closed:
            return
        self.closed = True
        # In this order: a loop that still watches the number of a closed socket takes the next one for it.
        self._loop.remove_reader(self._fd)
        self._loop.remove_writer(self._fd)
        if reset:
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        else:
            self._discard_unread()
        self._sock.close()
        for waiter in self._waiting.values():
            if not waiter.done():
                waiter.set_exception(ConnectionAbortedError("closed at this end by another task"))

    def _discard_unread(self) -> None:
        # Running dry is an error too. Any other means that the connection is broken and has no FIN to save.
        with contextlib.suppress(OSError):
            for _ in range(MAX_DISCARDS):
                if not self._sock.recv(PIECE_BYTES):
                    return

    def _check_open(self) -> None:
        if self.closed:
            raise ConnectionAbortedError("closed at this end")

    async def _wait(self, direction: Direction, add: Callable[..., object], remove: Callable[[int], object]) -> None:
        if direction in self._waiting:
            raise RuntimeError(f"two tasks {direction} on one connection at the same time")
        waiter = self._waiting[direction] = self._loop.create_future()
        add(self._fd, _wake, waiter)
        try:
            await waiter
        finally:
            del self._waiting[direction]
            if not self.closed:
                remove(self._fd)


class TLSStream:
    """
    The server's side of TLS over another stream, which may itself be TLS.

    Args:
        lower: The stream that carries the records.
        context: What the server shows and demands.
    """

    def __init__(self, lower: Stream, context: ssl.SSLContext) -> None:
        self._lower = lower
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._flushing = asyncio.Lock()
        self.ssl_object = context.wrap_bio(self._incoming, self._outgoing, server_side=True)

    async def handshake(self) -> None:
        """
        Shake hands; a refusal has reached the client as an alert when this raises.

        Raises:
            ssl.SSLError: The two do not agree.
            ConnectionError: The client left.
        """
        try:
            await self._pump(self.ssl_object.do_handshake)
        except _Truncated:
            raise ConnectionResetError("the client closed the connection during the TLS handshake") from None

    async def read(self, max_bytes: int) -> bytes:
        """Return decrypted bytes; ``b""`` at the end of file, also at one without close_notify."""
        try:
            return await self._pump(lambda: self.ssl_object.read(max_bytes))
        except (ssl.SSLZeroReturnError, _Truncated):
            return b""
        except ssl.SSLError as error:
            raise ConnectionAbortedError(f"TLS failed while reading: {error}") from error

    async def send(self, data: bytes | memoryview) -> None:
        """Encrypt the bytes and hand them to the kernel."""
        rest = memoryview(data)
        while rest:
            try:
                written = self.ssl_object.write(rest[:PIECE_BYTES])
            except ssl.SSLError as error:
                raise ConnectionAbortedError(f"TLS failed while sending: {error}") from error
            rest = rest[written:]
            await self._flush()

    async def finish(self) -> None:
        """Send close_notify, without waiting for the client's."""
        # It would like to wait for the client's, or TLS has failed before; what it can say is in the buffer.
        with contextlib.suppress(ssl.SSLError):
            self.ssl_object.unwrap()
        await self._flush()
        await self._lower.finish()

    async def _pump(self, operation: Callable[[], T]) -> T:
        while True:
            try:
                result = operation()
            except ssl.SSLWantReadError:
                await self._flush()
            except ssl.SSLError:
                await self._flush()  # the alert that tells the client why
                raise
            else:
                await self._flush()
                return result
            data = await self._lower.read(PIECE_BYTES)
            if not data:
                raise _Truncated
            self._incoming.write(data)

    async def _flush(self) -> None:
        # A task that reads and one that sends may both come here: a record must not be cut by another. And
        # a task that has nothing to write must not wait for one that waits for the client.
        while self._outgoing.pending:
            async with self._flushing:
                await self._lower.send(self._outgoing.read())


class _Truncated(Exception):
    """The connection ended where TLS expected more."""


Stream: TypeAlias = PlainStream | TLSStream


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
