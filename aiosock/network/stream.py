"""
The interface of a byte stream: what TCP, Unix sockets and TLS have in common, on every event loop.

Reading waits; writing does not. What the kernel does not take at once is kept, in order, and flushed by the
event loop while the caller goes on to read the answer: so an answer that comes early is seen, without a task.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Final, NamedTuple, Protocol

ONE_SEND_BYTES: Final = 128 * 1024
"""What is written goes to the kernel in one piece up to this size: when that fails, nothing of it was sent."""


class StreamInfo(NamedTuple):
    """
    What is known of a stream once it is open.

    Attributes:
        remote_address: The peer, ``"192.0.2.1:443"``, ``"[2001:db8::1]:443"`` or the path of a Unix socket.
        local_address: Our end, in the same form.
        tls_version: ``"TLSv1.3"``, None without TLS.
        cipher: The name of the cipher suite, None without TLS.
        alpn: The protocol agreed on by ALPN, None where there was none.
        session_reused: The TLS handshake was an abbreviated one.
    """

    remote_address: str
    local_address: str
    tls_version: str | None = None
    cipher: str | None = None
    alpn: str | None = None
    session_reused: bool = False


class Stream(Protocol):
    """
    An open byte stream with one reader and one writer at a time. Deadlines are times of ``loop.time()``.

    After `abort` or `close` it is gone; both may be called again and at any moment, and never wait.
    """

    @property
    def info(self) -> StreamInfo:
        """Addresses, and what TLS agreed on."""
        ...

    def read(self, deadline: float) -> Awaitable[bytes]:
        """
        Return the next bytes, as many as there are; ``b""`` is the end.

        Args:
            deadline: When to give up; ``math.inf`` for never.

        Raises:
            ReadTimeout: The deadline passed.
            ReadError: The connection broke.
            TruncatedStream: TLS ended without close_notify.
        """
        ...

    def gather(self, start: bytes, size: int, seconds: float, deadline: float) -> Awaitable[bytes]:
        """
        Return these bytes and those that come after them, for who needs so many: larger pieces rather than early ones.

        Fewer come where the stream has no better way than `read`, ends or breaks; the next call tells why. ``b""`` is
        the end. A call that fails or is cancelled loses what it gathered.

        Args:
            start: What came before.
            size: How many bytes are needed, with those of the start, which is shorter.
            seconds: How long it may take until more bytes come, each time.
            deadline: When to give up all the same; ``math.inf`` for never.

        Raises:
            ReadTimeout: Nothing came for so many seconds, or the deadline passed.
            ReadError: The connection broke.
            TruncatedStream: TLS ended without close_notify.
        """
        ...

    def read_ready(self) -> bytes | None:
        """
        Return what can be read without waiting: None where nothing is there, ``b""`` at the end.

        Raises:
            ReadError: The connection broke.
        """
        ...

    def write(self, data: bytes | memoryview) -> None:
        """
        Send, or keep to be sent in order; the bytes must not change until they are sent.

        A failure does not show here but in `write_error` and `drain`: the peer may have answered before it
        stopped listening, and that answer is worth reading.
        """
        ...

    def write_all(self, parts: Sequence[bytes | memoryview]) -> None:
        """Do as `write` with one after the other; that they are never joined saves copying them."""
        ...

    async def send_file(self, file: int, offset: int, size: int) -> int:
        """
        Let the kernel send part of a regular file after what was written, and return how many bytes it sent.

        There are fewer, maybe none, where the stream or the kernel has no such way, the file ends or cannot be read:
        the caller sends the rest as bytes, and so learns what is wrong. Nothing else is written meanwhile, and
        nothing is sent any more after a cancellation.

        Args:
            file: Its descriptor, open until this returns; where it stands does not matter and does not change.
            offset: Where to begin.
            size: How many bytes to send at most.

        Raises:
            WriteTimeout: Nothing could be sent for the seconds of `limit_writes`.
            WriteError: The connection broke.
        """
        ...

    def limit_writes(self, seconds: float, deadline: float) -> None:
        """From here on, give up writing when nothing can be sent for so many seconds, or at the deadline."""
        ...

    async def drain(self) -> None:
        """
        Return when all that was written has been sent.

        Raises:
            WriteTimeout: Nothing could be sent for the seconds of `limit_writes`.
            WriteError: The connection broke.
        """
        ...

    @property
    def write_error(self) -> Exception | None:
        """Why writing failed, None where it did not."""
        ...

    @property
    def unsent(self) -> bool:
        """Bytes are still waiting to be sent."""
        ...

    def interrupt(self, error: BaseException) -> None:
        """Let the read that waits now, or the next one, raise this error."""
        ...

    def watch(self, callback: Callable[[], None] | None) -> None:
        """
        Call back when there is something to read and nobody reads; None ends that.

        It may be called for nothing, and is called again and again while what there is stays unread: it reads, closes,
        or ends the watch. A loop that cannot tell does not call at all: the caller looks with `read_ready` before it
        relies on a stream.
        """
        ...

    def abort(self) -> None:
        """Close at once, throwing away what was not sent."""
        ...

    def close(self) -> None:
        """Close, saying goodbye where the protocol has a word for it and the kernel takes it at once."""
        ...
