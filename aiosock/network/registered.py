"""
Non-blocking stream sockets on the event loop, TCP and Unix.

Two roads, one contract. On the registered road a socket is registered with the loop once (`add_reader`), and
stays so for its life; on the portable road, which every loop has, each wait is a `loop.sock_recv` or
`loop.sock_sendall` of its own. A connection takes one road for life: `sock_recv` on a registered socket
would silently remove its reader.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import math
import os
import select
import socket
import sys
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from functools import cache
from io import BytesIO
from itertools import islice
from typing import Final

from aiosock.errors import ConnectError, ReadError, ReadTimeout, WriteError, WriteTimeout
from aiosock.network.stream import Stream, StreamInfo

MIN_READ_BYTES: Final = 64 * 1024
# Of larger blocks the memory goes back to the system, and comes from it page by page, with nearly every read.
MAX_READ_BYTES: Final = 128 * 1024
# So much is gathered into one piece: what a peer announces takes memory only step by step.
MAX_GATHERED_BYTES: Final = 1024 * 1024
# What glibc shall take for a usual size of a block: up to twice as much free memory it then keeps.
USUAL_BLOCK_BYTES: Final = 16 * 1024 * 1024
# So many reads in a row may be served without a turn of the loop; then the other tasks have theirs.
MAX_EAGER_READS: Final = 2
MAX_SEND_BYTES: Final = 256 * 1024
# So many parts go with one call; the systems that have `sendmsg` take 1,024.
MAX_SEND_PARTS: Final = 64
# Files that `sendfile` does not send, or cannot read; who reads them learns more.
NOT_SENT_BY_KERNEL: Final = frozenset(
    (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EOVERFLOW, errno.ESPIPE, errno.EIO)
)
# Linux takes it as part of a socket's type.
NON_BLOCKING: Final[int] = getattr(socket, "SOCK_NONBLOCK", 0)
SENDFILE: Final = getattr(os, "sendfile", None)
# `sendfile` reads the disk in the loop's thread where the file is not in memory yet: not more of it at a turn.
MAX_FILE_SEND_BYTES: Final = 512 * 1024
# On the portable road, the wait until the kernel takes something is the sending of so little.
PROBE_BYTES: Final = 4 * 1024


def format_address(address: str, port: int) -> str:
    """Return address and port as one string, IPv6 in brackets."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _format_socket_name(name: object) -> str:
    if isinstance(name, tuple):
        return format_address(str(name[0]), int(name[1]))
    return name.decode(errors="replace") if isinstance(name, bytes) else str(name)


def describe(error: BaseException) -> str:
    """Return the words of an operating system error, without its number and its arguments."""
    if isinstance(error, OSError) and error.errno is not None and not isinstance(error, socket.gaierror):
        # Event loops put words of their own, and the address, into strerror.
        return os.strerror(error.errno)
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__


async def connect_tcp(
    address: str, port: int, *, local_address: tuple[str, int] | None = None, portable: bool = False
) -> Stream:
    """
    Open a TCP connection.

    Args:
        address: An IPv4 or IPv6 literal, the latter maybe with its zone (``fe80::1%eth0``).
        port: 1 to 65535.
        local_address: The address and port to bind to; port 0 is any.
        portable: Take the portable road also where the loop has the other one.

    Raises:
        ConnectError: The operating system refused; the message names the address.
    """
    where = format_address(address, port)
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        sock = _make_socket(family)
    except OSError as error:
        raise ConnectError(f"{where}: {describe(error)}") from error
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if local_address is not None:
            sock.bind(local_address)
        if not _connects_at_once(sock, address, port):
            await asyncio.get_running_loop().sock_connect(sock, (address, port))
        return _open(sock, portable)
    except OSError as error:
        sock.close()
        raise ConnectError(f"{where}: {describe(error)}") from error
    except BaseException:
        sock.close()
        raise


def _make_socket(family: int) -> socket.socket:
    """Return a stream socket that does not block; where the system can, it is made so by one call."""
    sock = socket.socket(family, socket.SOCK_STREAM | NON_BLOCKING)
    if not NON_BLOCKING:
        sock.setblocking(False)
    return sock


def _connects_at_once(sock: socket.socket, address: str, port: int) -> bool:
    """
    Begin to connect, and tell whether that is done already: within one machine it is by the second look.

    Raises:
        OSError: It failed at once.
    """
    # Only what is an address beyond doubt, and not a name that somebody's resolver gave: that would be looked up here.
    is_literal = ":" in address or address[-1:].isdigit()
    if os.name != "posix" or "%" in address or not is_literal or not address.isascii():
        return False
    # As bytes: a str would take the way of names, through their international encoding.
    target = (address.encode("ascii"), port)
    code = sock.connect_ex(target)
    if code == errno.EINPROGRESS:
        code = sock.connect_ex(target)
    if code in (0, errno.EISCONN):
        return True
    if code in (errno.EINPROGRESS, errno.EALREADY):
        return False
    raise OSError(code, os.strerror(code))


async def connect_unix(path: str, *, portable: bool = False) -> Stream:
    """
    Open a connection to a Unix domain socket.

    Args:
        path: The file of the socket.
        portable: Take the portable road also where the loop has the other one.

    Raises:
        ConnectError: The operating system refused, or has no such sockets; the message names the path.
    """
    if not hasattr(socket, "AF_UNIX"):
        raise ConnectError(f"{path}: this system has no Unix domain sockets")
    try:
        sock = _make_socket(socket.AF_UNIX)
    except OSError as error:
        raise ConnectError(f"{path}: {describe(error)}") from error
    try:
        await asyncio.get_running_loop().sock_connect(sock, path)
        return _open(sock, portable)
    except (OSError, ValueError) as error:
        sock.close()
        raise ConnectError(f"{path}: {describe(error)}") from error
    except BaseException:
        sock.close()
        raise


def _open(sock: socket.socket, portable: bool) -> Stream:
    loop = asyncio.get_running_loop()
    if not portable:
        try:
            return RegisteredStream(sock, loop)
        except NotImplementedError:
            pass  # The loop has no add_reader (Windows' proactor): the other road is for it.
    return PortableStream(sock, loop)


class _SocketStream:
    """What both roads share: the socket, its names, what does not wait, and how errors are worded."""

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
            self._info = StreamInfo(_format_socket_name(remote), _format_socket_name(local))
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


class _Block:
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


class RegisteredStream(_SocketStream):
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
        self._block: _Block | None = None
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
            _keep_memory()
        # What comes until the loop's next turn comes with one read.
        self._eager_reads = 0
        reader = self.read(min(self._loop.time() + seconds, deadline))
        self._block = _Block(start, min(size, MAX_GATHERED_BYTES), seconds, deadline)
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

    def _fill(self, block: _Block, reader: asyncio.Future[bytes]) -> None:
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


class PortableStream(_SocketStream):
    """The portable road: nothing but `loop.sock_recv` and `loop.sock_sendall`, which every loop has."""

    __slots__ = ("_flusher", "_read_scope", "_write_scope")

    def __init__(self, sock: socket.socket, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(sock, loop)
        self._read_scope: asyncio.Timeout | None = None
        self._write_scope: asyncio.Timeout | None = None
        self._flusher: asyncio.Task[None] | None = None

    async def read(self, deadline: float, expected: int = 0) -> bytes:
        # The loop gives what is there already without a turn, which must not starve the other tasks.
        self._eager_reads += 1
        if self._eager_reads > MAX_EAGER_READS:
            self._eager_reads = 0
            await asyncio.sleep(0)
        if self._read_scope is not None:
            raise RuntimeError("two tasks read from one connection at the same time")
        self._raise_interruption()
        if self._closed:
            raise self._closed_error()
        try:
            async with asyncio.timeout_at(_when(deadline)) as self._read_scope:
                data = await self._loop.sock_recv(self._sock, max(self._read_size, min(expected, MAX_GATHERED_BYTES)))
        except TimeoutError as error:
            self._raise_interruption()
            if error.errno is not None:  # ETIMEDOUT of the operating system's own, not our deadline.
                raise self._read_error(error) from error
            raise ReadTimeout(f"nothing came from {self.info.remote_address} in time") from None
        except OSError as error:
            raise self._read_error(error) from error
        finally:
            self._read_scope = None
        self._fit(len(data))
        return data

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
        if self._read_scope is not None:
            # Not now: it takes a running loop, and whoever closes a connection may be outside of it.
            self._loop.call_soon(self._wake_reader)

    def _wake_reader(self) -> None:
        if self._interruption is not None and self._read_scope is not None and not self._read_scope.expired():
            self._read_scope.reschedule(self._loop.time())

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
            if self._flusher is not None:
                self._flusher.cancel()
            for forget in (self._loop.remove_reader, self._loop.remove_writer):
                try:
                    forget(self._sock)
                except NotImplementedError:
                    break  # A loop without readers has none to forget.
        self._sock.close()
        if self._read_scope is not None and not self._loop.is_closed():
            self.interrupt(self._closed_error())

    close = abort


@cache
def _keep_memory() -> None:
    """
    Let glibc keep the memory of a body for the next one.

    By default it gives free memory back to the system from 128 KiB on, and the next body has its pages made anew, which
    costs more than to fill them. It learns from the blocks that come and go (M_MMAP_THRESHOLD in mallopt(3)): one that
    nobody touches, and that so takes no memory, is enough. Whoever sets MALLOC_TRIM_THRESHOLD_ has their way.
    """
    if sys.platform == "linux":
        with contextlib.suppress(MemoryError):
            bytes(USUAL_BLOCK_BYTES)


def _make_look(sock: socket.socket) -> Callable[[int], object]:
    """Return what tells whether a socket has something to read, or may have; its argument is the wait, 0."""
    if not hasattr(select, "poll"):
        return lambda wait: True  # It has to try.
    poller = select.poll()
    poller.register(sock, select.POLLIN)
    return poller.poll


def _when(deadline: float) -> float | None:
    """Return a deadline as asyncio's timeouts take it."""
    return None if deadline == math.inf else deadline


def is_disconnect(error: BaseException | None) -> bool:
    """The peer closed or reset the connection (as opposed to a timeout, or a fault of the network)."""
    return isinstance(error, OSError) and error.errno in (
        errno.ECONNRESET,
        errno.EPIPE,
        errno.ECONNABORTED,
        errno.ESHUTDOWN,
        errno.ENOTCONN,
    )
