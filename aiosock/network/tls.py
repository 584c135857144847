"""
TLS around any byte stream: `ssl.SSLObject` between two memory BIOs, pumped by the stream below.

Because the stream below may itself be TLS, TLS inside TLS works. End of file below without close_notify is
truncation and an error: the incoming BIO is never told of it, since some contexts would take it for a clean end.
"""

from __future__ import annotations

import asyncio
import math
import ssl
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Final, cast

from aiosock.errors import ReadError, TLSError, TruncatedStream, WriteError
from aiosock.network.fault import describe_tls
from aiosock.network.stream import ONE_SEND_BYTES, Stream, StreamInfo

RECORD_BYTES: Final = 16 * 1024
# X509_V_ERR_HOSTNAME_MISMATCH of OpenSSL.
HOSTNAME_MISMATCH: Final = 62
MAX_READ_BYTES: Final = 256 * 1024
# What is encrypted lies in a buffer before it is sent, which is slow once it is large.
MIN_WRITE_BYTES: Final = 64 * 1024
MAX_WRITE_BYTES: Final = ONE_SEND_BYTES

# What records are decrypted into, one after the other. Streams take turns with them, and as many are made as threads
# decrypt at the same time: fresh memory of this size for each read costs more than the copy out of it.
_spare_buffers: Final[list[memoryview]] = []


# Asked for every connection; `ssl` would do the same with a str, each time.
@lru_cache(maxsize=256)
def _encode_name(host: str) -> bytes:
    return host.encode("idna")


class TLSStream:
    """
    A TLS client's stream around another stream; made by `start_tls`.

    Args:
        inner: The stream below, which belongs to this one from now on.
        context: How to verify and what to offer.
        server_hostname: The name for SNI and for verification; an IP address has no SNI but is verified.
        session: A session to resume, which was taken from a connection with the same context and name.
        on_session: Called once, when the first application data has come.
    """

    __slots__ = (
        "_ended",
        "_fault",
        "_host",
        "_incoming",
        "_info",
        "_inner",
        "_may_hold_more",
        "_on_session",
        "_outgoing",
        "_read_into",
        "_started",
        "_tls",
        "_write_error",
    )

    def __init__(
        self,
        inner: Stream,
        context: ssl.SSLContext,
        server_hostname: str,
        session: ssl.SSLSession | None,
        on_session: Callable[[TLSStream], None] | None,
    ) -> None:
        self._inner = inner
        self._host = server_hostname
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._write_error: Exception | None = None
        self._fault: ssl.SSLError | None = None
        self._ended = False
        self._started = False
        # False once everything received was decrypted: until more comes, asking OpenSSL would only raise.
        self._may_hold_more = True
        self._on_session = on_session
        self._info: StreamInfo | None = None
        try:
            name = _encode_name(server_hostname)
            self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=name, session=session)
        except (ValueError, ssl.SSLError) as error:
            raise TLSError(f"TLS with {server_hostname} cannot begin: {describe_tls(error)}") from error
        # Given a buffer, it fills that and returns a number.
        self._read_into = cast("Callable[[int, memoryview], int]", self._tls.read)

    async def handshake(self, *, request_follows: bool = False) -> None:
        """
        Agree on keys and verify the peer. Bounding its time is the caller's.

        Args:
            request_follows: See `start_tls`.

        Raises:
            TLSError: It failed, or the certificate is not to be trusted; the message says which host and why.
        """
        received = b""
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                self._flush()
            except ssl.SSLError as error:
                # The alert that tells the peer why.
                self._flush()
                raise TLSError(self._handshake_failure(error, received)) from error
            else:
                break
            try:
                data = await self._inner.read(math.inf)
            except ReadError as error:
                raise TLSError(f"the TLS handshake with {self._host} broke off: {error}") from error
            if not data:
                raise TLSError(f"{self._host} closed the connection during the TLS handshake")
            received = received or data[:16]
            self._incoming.write(data)
        if not request_follows:
            self._flush()
        self._started = True
        self._may_hold_more = self._incoming.pending > 0

    @property
    def info(self) -> StreamInfo:
        if not self._started:
            return self._inner.info
        if self._info is None:
            cipher = self._tls.cipher()
            self._info = self._inner.info._replace(
                tls_version=self._tls.version(),
                cipher=cipher[0] if cipher else None,
                alpn=self._tls.selected_alpn_protocol(),
                session_reused=self.session_reused,
            )
        return self._info

    @property
    def session_reused(self) -> bool:
        """The handshake was an abbreviated one; as in `info`, without the rest."""
        return bool(self._tls.session_reused)

    def _handshake_failure(self, error: ssl.SSLError, received: bytes) -> str:
        if isinstance(error, ssl.SSLCertVerificationError):
            failure = f"the certificate of {self._host} is not trusted: {error.verify_message}"
            if error.verify_code == HOSTNAME_MISMATCH and not self._tls.context.hostname_checks_common_name:
                # What was made for other clients may have no other name (RFC 9110, 4.3.4).
                failure += " (its common name does not count, its subjectAltName does)"
            return failure
        if error.reason in ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "UNKNOWN_PROTOCOL") or received[:5] == b"HTTP/":
            return f"{self._host} does not speak TLS on this port (plain HTTP, perhaps): it sent {received!r}"
        return f"the TLS handshake with {self._host} failed: {describe_tls(error)}"

    def take_session(self) -> ssl.SSLSession | None:
        """
        Return the session for resumption, None where there is none worth keeping.

        Costly, and with TLS 1.3 of use only once application data has come: the tickets arrive after the handshake.
        """
        session = self._tls.session
        if session is None or not (session.has_ticket or (session.id and self.info.tls_version != "TLSv1.3")):
            return None
        return session

    # Reading

    async def read(self, deadline: float) -> bytes:
        while True:
            if self._may_hold_more and (data := self._decrypt()) is not None:
                return data
            if self._ended:
                return self._last_word()
            if self._outgoing.pending:
                # The handshake's last message: with it goes what is written in this turn, a request that departs late.
                asyncio.get_running_loop().call_soon(self._flush)
            self._feed(await self._inner.read(deadline))

    async def gather(self, start: bytes, size: int, seconds: float, deadline: float) -> bytes:
        return start or await self.read(min(asyncio.get_running_loop().time() + seconds, deadline))

    def read_ready(self) -> bytes | None:
        while True:
            if self._may_hold_more and (data := self._decrypt()) is not None:
                return data
            if self._ended:
                return self._last_word()
            self._flush()
            received = self._inner.read_ready()
            if received is None:
                return None
            self._feed(received)

    def _feed(self, received: bytes) -> None:
        if not received:
            raise TruncatedStream(
                f"the connection to {self.info.remote_address} ended without TLS close_notify; what came may not be all"
            )
        self._incoming.write(received)
        self._may_hold_more = True

    def _decrypt(self) -> bytes | None:
        """Return what the records received so far hold, as much as one read may give; None where they hold no data."""
        size = 0
        read, incoming = self._read_into, self._incoming
        buffer = _spare_buffers.pop() if _spare_buffers else memoryview(bytearray(MAX_READ_BYTES + RECORD_BYTES))
        try:
            while size < MAX_READ_BYTES:
                read_bytes = read(RECORD_BYTES, buffer[size:])
                if not read_bytes:
                    self._ended = True
                    break
                size += read_bytes
                # OpenSSL reads one record at a time, and gives all of it: the next begins in the BIO, or is not there.
                if not incoming.pending and not self._tls.pending():
                    self._may_hold_more = False
                    break
        except ssl.SSLWantReadError:
            self._may_hold_more = False
        except ssl.SSLZeroReturnError:
            self._ended = True
        except ssl.SSLError as error:
            # Kept, since what was decrypted before it is whole and goes first; without its traceback, which
            # knows this stream.
            self._fault = error.with_traceback(None)
            self._ended = True
        data = bytes(buffer[:size])
        _spare_buffers.append(buffer)
        if self._ended:
            self._may_hold_more = False
        if self._outgoing.pending:
            self._flush()  # The answer to a key update, say, or the alert that tells the peer of a fault.
        if not data:
            return None
        if self._on_session is not None:
            on_session, self._on_session = self._on_session, None
            on_session(self)
        return data

    def _last_word(self) -> bytes:
        """Return the end of file after close_notify, or raise the fault."""
        if self._fault is not None:
            raise ReadError(f"TLS with {self._host} failed: {describe_tls(self._fault)}") from self._fault
        return b""

    def interrupt(self, error: BaseException) -> None:
        self._inner.interrupt(error)

    def watch(self, callback: Callable[[], None] | None) -> None:
        self._flush()
        self._inner.watch(callback)

    # Writing

    def write(self, data: bytes | memoryview) -> None:
        if self._write_error is not None or self._inner.write_error is not None:
            return
        size = len(data)
        try:
            # Most of what is written is small: one call, and no view.
            sent = self._tls.write(data) if 0 < size <= MAX_WRITE_BYTES else 0
            while sent < size and self._inner.write_error is None:
                sent += self._tls.write(memoryview(data)[sent : sent + MAX_WRITE_BYTES])
                self._flush()
        except ssl.SSLError as error:
            # Up to TLS 1.2 a server may begin another handshake in between.
            anew = isinstance(error, ssl.SSLWantReadError)
            words = "the server renegotiates while it is being sent to" if anew else describe_tls(error)
            self._write_error = WriteError(f"TLS with {self._host} failed: {words}")
            self._write_error.__cause__ = error
        self._flush()

    def write_all(self, parts: Sequence[bytes | memoryview]) -> None:
        # Every write makes a record, with a header and a tag of its own: small parts go together.
        joined: list[bytes | memoryview] = []
        size = 0
        for part in parts:
            joined.append(part)
            size += len(part)
            if size >= MIN_WRITE_BYTES:
                self.write(b"".join(joined))
                joined.clear()
                size = 0
        self.write(b"".join(joined))

    async def send_file(self, file: int, offset: int, size: int) -> int:
        """Return 0: what the kernel sends is not encrypted."""
        return 0

    def _flush(self) -> None:
        if self._outgoing.pending:
            self._inner.write(self._outgoing.read())

    def limit_writes(self, seconds: float, deadline: float) -> None:
        self._inner.limit_writes(seconds, deadline)

    async def drain(self) -> None:
        self._flush()
        await self._inner.drain()
        if self._write_error is not None:
            raise type(self._write_error)(*self._write_error.args) from self._write_error

    @property
    def write_error(self) -> Exception | None:
        return self._write_error or self._inner.write_error

    @property
    def unsent(self) -> bool:
        return self._inner.unsent

    # The end

    def abort(self) -> None:
        self._inner.abort()

    def close(self) -> None:
        if self._started and not self._inner.unsent:
            try:
                self._tls.unwrap()
            except ssl.SSLError:
                pass  # It wants the peer's close_notify, which nobody waits for, or there is nothing to say goodbye to.
            self._flush()
        self._inner.close()


async def start_tls(
    inner: Stream,
    context: ssl.SSLContext,
    server_hostname: str,
    *,
    session: ssl.SSLSession | None = None,
    on_session: Callable[[TLSStream], None] | None = None,
    request_follows: bool = False,
) -> TLSStream:
    """
    Return a TLS stream around another stream, after the handshake.

    Args:
        inner: The stream below; it is closed when the handshake fails.
        context: How to verify and what to offer.
        server_hostname: The name, or IP address, that the certificate must be for.
        session: A session to resume. OpenSSL does not verify the name again when it resumes, so it must come
            from a connection with the same context and the same name.
        on_session: Called once, when the first application data has come and `TLSStream.take_session` makes sense.
        request_follows: Our last message of the handshake goes with what is written first. Until the stream is written
            to, read from, watched or drained, the server waits for it.

    Raises:
        TLSError: The handshake failed; the message says which host, and why.
    """
    try:
        stream = TLSStream(inner, context, server_hostname, session, on_session)
        await stream.handshake(request_follows=request_follows)
    except BaseException:
        inner.close()
        raise
    return stream


def is_live(session: ssl.SSLSession, now: float) -> bool:
    """Tell whether a session is young enough to be offered; ``now`` in seconds since the epoch."""
    return session.time + session.timeout > now
