"""
The receiving half: bytes of answers, however they are cut, to events (RFC 9112).

One small reader per state; a reader takes from the buffer what it understands and returns an event, or
NEED_DATA when the buffer holds too little. Every byte is looked at a bounded number of times, so time grows
with the number of bytes and not with the number of pieces.
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

from multidict import CIMultiDict, istr

from aiosock.config import DEFAULT_MAX_HEADER_BYTES, DEFAULT_MAX_HEADERS
from aiosock.errors import HeadTooLarge, IncompleteBody, RemoteProtocolError, ServerDisconnected
from aiosock.protocol.http1 import grammar
from aiosock.protocol.http1.events import (
    CHUNKED_WITHIN,
    NEED_DATA,
    BodyData,
    BodyEnded,
    Event,
    InformationalReceived,
    NeedData,
    ResponseStarted,
)

MAX_LINE_BYTES: Final = 256 * 1024
MAX_EMPTY_LINES: Final = 10
MAX_INFORMATIONAL: Final = 64
MAX_CHUNK_LINE_BYTES: Final = 4096

DECODABLE_TRANSFER_CODINGS: Final = frozenset({"gzip", "x-gzip", "deflate"})

_CONNECTION: Final = istr("Connection")
_CONTENT_LENGTH: Final = istr("Content-Length")
_KEEP_ALIVE: Final = istr("Keep-Alive")
_TRANSFER_ENCODING: Final = istr("Transfer-Encoding")

_ENDED: Final = BodyEnded(None)

State = Literal["idle", "head", "sized", "chunked", "trailers", "until close", "done", "switched", "failed"]


class Framing(NamedTuple):
    """
    What a head says of what follows it.

    Attributes:
        state: How the body is read.
        left: Bytes of the body, where they are counted.
        ends_connection: No second answer can follow, whatever Connection says.
        closes: The connection ends after this answer.
        keep_alive_seconds: The N of ``Keep-Alive: timeout=N``.
        codings: Transfer codings other than chunked.
        content_length: Bytes of the body on the wire, None where only its end tells.
    """

    state: State
    left: int
    ends_connection: bool
    closes: bool
    keep_alive_seconds: int | None
    codings: tuple[str, ...]
    content_length: int | None


class SeenHead(NamedTuple):
    """A head that was read, as it answers most requests; nobody changes its fields."""

    status_line: tuple[str, int, str]
    headers: CIMultiDict[str]
    framing: Framing


MAX_SEEN_HEADS: Final = 256
MAX_SEEN_HEAD_BYTES: Final = 1024
_SEEN_HEADS: Final[dict[bytes, SeenHead]] = {}
"""Heads that came lately: asked often, a server gives the same one many times within a second. Bounded."""


class Parser:
    """
    Reads one answer after another.

    Args:
        max_head_bytes: The most bytes of a head, and of trailers; None is no limit.
        max_fields: The most fields of a head, and of trailers; None is no limit.
        max_line_bytes: The most bytes of one line of a head; None is no limit.
    """

    __slots__ = (
        "_buffer",
        "_chunk_open",
        "_eof",
        "_informational",
        "_is_plain",
        "_left",
        "_max_fields",
        "_max_head_bytes",
        "_max_line_bytes",
        "_max_seen_bytes",
        "_method",
        "_position",
        "_received",
        "_scanned",
        "_upgrade_offered",
        "framing_ends_connection",
        "keep_alive_seconds",
        "response",
        "response_closes",
        "state",
        "untouched",
    )

    def __init__(
        self,
        *,
        max_head_bytes: int | None = DEFAULT_MAX_HEADER_BYTES,
        max_fields: int | None = DEFAULT_MAX_HEADERS,
        max_line_bytes: int | None = MAX_LINE_BYTES,
    ) -> None:
        unlimited = 2**62
        self._max_head_bytes = unlimited if max_head_bytes is None else max_head_bytes
        self._max_fields = unlimited if max_fields is None else max_fields
        self._max_line_bytes = unlimited if max_line_bytes is None else max_line_bytes
        self._max_seen_bytes = min(self._max_head_bytes, self._max_line_bytes)
        # Bytes as they came while nothing has to be kept; a bytearray once a rest waits for more.
        self._buffer: bytes | bytearray = b""
        self._position = 0
        # Counted from the position, so that it holds when the buffer moves.
        self._scanned = 0
        self._eof = False
        self._method = ""
        self._upgrade_offered = False
        # The head alone decides what follows it, as with all but a few requests.
        self._is_plain = False
        self._informational = 0
        self._left = 0
        self._received = 0
        self._chunk_open = False
        self.state: State = "idle"
        self.response: ResponseStarted | None = None
        self.framing_ends_connection = False
        """The framing of the answer forbids a second one after it, whatever Connection says."""
        self.response_closes = True
        """The connection ends after this answer: its head says so, or it is not here yet (RFC 9112, 9.3)."""
        self.keep_alive_seconds: int | None = None
        """The N of the answer's ``Keep-Alive: timeout=N``, None where it does not say."""
        self.untouched = False
        """An answer is due, or was when the connection ended, and not a byte of it has come."""

    def expect_response(self, method: str, *, upgrade_offered: bool = False) -> None:
        """Begin with the answer to a request of this method, whose body rules depend on it."""
        self._method = method
        self._upgrade_offered = upgrade_offered
        self._is_plain = not (upgrade_offered or method == "HEAD" or method == "CONNECT")
        self._informational = 0
        self._left = 0
        self._received = 0
        self._chunk_open = False
        self.response = None
        self.framing_ends_connection = False
        self.response_closes = True
        self.keep_alive_seconds = None
        self.untouched = True
        self.state = "head"

    @property
    def buffered(self) -> int:
        """Bytes received and not yet part of an event."""
        return len(self._buffer) - self._position

    @property
    def body_left(self) -> int | None:
        """The bytes of the body still to come, None where only its end tells."""
        return self._left if self.state in ("sized", "done") else None

    @property
    def at_eof(self) -> bool:
        """The end of file was fed."""
        return self._eof

    def receive_data(self, data: bytes) -> None:
        """Feed what the socket gave; ``b""`` is the end of file. After a failure it is thrown away."""
        if not data:
            self._eof = True
            return
        self.untouched = False
        if self.state == "failed":
            # Nobody will read it; and the error's traceback may hold views of the buffer, which can't grow then.
            return
        if self._position >= len(self._buffer):
            self._buffer = data
            self._position = 0
        else:
            buffer = self._buffer
            if isinstance(buffer, bytes):
                buffer = self._buffer = bytearray(memoryview(buffer)[self._position :])
            else:
                del buffer[: self._position]
            self._position = 0
            buffer += data

    def next_event(self) -> Event | NeedData:
        """
        Return what the bytes so far amount to, one event at a time.

        Raises:
            RemoteProtocolError: The answer breaks RFC 9112, or passes a limit.
            ServerDisconnected: End of file where an answer should begin, or within its head.
            IncompleteBody: End of file within the body.
        """
        state = self.state
        try:
            if state == "head":
                return self._read_head()
            if state == "sized":
                return self._read_sized()
            if state == "chunked":
                return self._read_chunked()
            if state == "trailers":
                return self._read_trailers()
            if state == "until close":
                return self._read_until_close()
        except RemoteProtocolError:
            self.state = "failed"
            raise
        return self._after_failure() if state == "failed" else NEED_DATA

    def _after_failure(self) -> NeedData:
        return NEED_DATA

    def take_body(self) -> bytes | None:
        """
        Return the whole body and end it, where its length is known and all of it is here.

        None, and nothing is taken, where that is not so, or some of it was taken: it comes by events. This is the
        short road past `BodyData` and `BodyEnded` for the many answers that come in one piece.
        """
        left = self._left
        if self.state != "sized" or self._received or self._position + left > len(self._buffer):
            return None
        body = self._take(left)
        self._received = left
        self._left = 0
        self._end_body(None)
        return body

    def take_rest(self) -> bytes:
        """Return, and forget, the bytes after the answer: they belong to whoever takes the connection over."""
        return self._take(self.buffered)

    def _take(self, size: int) -> bytes:
        buffer, start = self._buffer, self._position
        end = self._position = start + size
        if isinstance(buffer, bytes):
            # A slice of the whole is the same object: a full read goes through without a copy.
            return buffer[start:end]
        return bytes(memoryview(buffer)[start:end])

    def _read_head(self) -> Event | NeedData:
        known = self._recall_head()
        if known is not None:
            (version, status_code, reason), headers, framing = known
            return self._begin_body(version, status_code, reason, headers.copy(), framing)
        if not self._buffer.startswith(b"HTTP/", self._position) and not self._reach_status_line():
            return self._need_head()
        section = self._take_section("the head of the answer")
        if section is None:
            return self._need_head()
        lines = self._lines(section, "the head of the answer")
        status_line = version, status_code, reason = grammar.parse_status_line(lines[0])
        del lines[0]
        headers = grammar.parse_fields(lines, self._max_fields)
        if status_code < 200 and status_code != 101:
            self._informational += 1
            if self._informational > MAX_INFORMATIONAL:
                raise RemoteProtocolError(f"more than {MAX_INFORMATIONAL} informational answers to one request")
            return InformationalReceived(status_code, reason, headers)
        framing = self._frame(version, status_code, headers)
        if self._is_plain:
            _remember_head(section, status_line, headers, framing)
        return self._begin_body(version, status_code, reason, headers, framing)

    def _recall_head(self) -> SeenHead | None:
        """Take the head, if all of it is here and it came before, within the limits that hold here."""
        buffer, start = self._buffer, self._position
        if not self._is_plain or not isinstance(buffer, bytes):
            return None
        end = buffer.find(b"\r\n\r\n", start) + 4
        known = _SEEN_HEADS.get(buffer[start:end])
        if known is None or end - start > self._max_seen_bytes or len(known.headers) > self._max_fields:
            return None
        self._position = end
        return known

    def _begin_body(
        self, version: str, status_code: int, reason: str, headers: CIMultiDict[str], framing: Framing
    ) -> ResponseStarted:
        self.state = framing.state
        self._left = framing.left
        self.framing_ends_connection = framing.ends_connection
        self.response_closes = framing.closes
        self.keep_alive_seconds = framing.keep_alive_seconds
        self.response = ResponseStarted(status_code, reason, version, headers, framing.codings, framing.content_length)
        return self.response

    def _reach_status_line(self) -> bool:
        """
        Step over empty lines (RFC 9112, 2.2); False while what is there may still become a status line.

        Nothing is consumed before the status line is there: the bound then counts all empty lines.
        """
        buffer, position, empty_lines = self._buffer, self._position, 0
        while buffer.startswith((b"\r\n", b"\n"), position):
            position += 2 if buffer[position] == 0x0D else 1
            empty_lines += 1
        if empty_lines > MAX_EMPTY_LINES:
            raise RemoteProtocolError(f"more than {MAX_EMPTY_LINES} empty lines ahead of the answer")
        start = bytes(buffer[position : position + 40])
        if start.startswith(b"HTTP/"):
            self._position = position
            return True
        if b"HTTP/".startswith(start) or start == b"\r":
            return False
        # A peer that echoes the request shows no more of it than its method and path.
        shown = grammar.shown(start.partition(b"\n")[0].partition(b"?")[0])
        if start[0] in (0x15, 0x16):
            raise RemoteProtocolError(f"the server speaks TLS on a connection that is plain HTTP: {shown}")
        raise RemoteProtocolError(
            f"the answer does not begin with an HTTP/1 status line but with {shown} (HTTP/0.9, or no HTTP at all)"
        )

    def _need_head(self) -> NeedData:
        if self._eof:
            size = self.buffered
            if size == 0:
                raise ServerDisconnected("the server closed the connection without an answer")
            raise ServerDisconnected(f"the server closed the connection after {size} bytes of the answer's head")
        return NEED_DATA

    def _take_section(self, name: str) -> bytes | None:
        """Take what is there up to an empty line, and with it; None while that is not there."""
        buffer, start = self._buffer, self._position
        # A line may end with a bare LF, so the empty line is the first LF that follows an LF, or LF CR.
        scan = start + self._scanned
        found = buffer.find(b"\n\r\n", scan)
        end = found + 3 if found >= 0 else len(buffer)
        bare = buffer.find(b"\n\n", scan, end)
        if bare >= 0:
            found, end = bare, bare + 2
        size = end - start
        if size > self._max_head_bytes:
            raise HeadTooLarge(f"{name} has {size} bytes or more; the limit is {self._max_head_bytes}")
        if found < 0:
            # The last two bytes may be the beginning of what was looked for.
            self._scanned = max(size - 2, 0)
            return None
        self._scanned = 0
        return self._take(size)

    def _lines(self, section: bytes, name: str, *, trailers: bool = False) -> list[str]:
        lines = grammar.section_lines(section, trailers=trailers)
        if len(section) > self._max_line_bytes and (longest := max(map(len, lines))) > self._max_line_bytes:
            raise HeadTooLarge(f"a line of {name} has {longest} bytes; the limit is {self._max_line_bytes}")
        return lines

    def _frame(self, version: str, status_code: int, headers: CIMultiDict[str]) -> Framing:
        """Decide how the body's end is found, by the rules of RFC 9112, 6.3, in their order."""
        state: State = "until close"
        codings: tuple[str, ...] = ()
        length: int | None = None
        ends_connection = True
        method = self._method
        if status_code == 101 or (method == "CONNECT" and 200 <= status_code < 300):
            if status_code == 101 and not self._upgrade_offered:
                raise RemoteProtocolError("101 Switching Protocols to a request that offered no Upgrade")
            state = "switched"
        elif method == "HEAD" or status_code in (204, 304):
            state = "sized"
            length = 0
            ends_connection = _announces_what_may_not_follow(version, status_code, headers)
        elif _TRANSFER_ENCODING in headers and (codings := self._transfer_codings(headers)):
            if codings[-1] == "chunked":
                codings = codings[:-1]
                state = "chunked"
                # With a Content-Length beside it, or from an HTTP/1.0 peer, the answer is read as chunked, but
                # what comes after it on the connection is not to be trusted.
                ends_connection = version == "HTTP/1.0" or _CONTENT_LENGTH in headers
        elif _CONTENT_LENGTH in headers:
            state = "sized"
            length = grammar.parse_content_length(headers.getall(_CONTENT_LENGTH))
            # An empty or `identity` Transfer-Encoding frames nothing here, but others may see it otherwise.
            ends_connection = _TRANSFER_ENCODING in headers
        keep_alive = headers.get(_KEEP_ALIVE)
        return Framing(
            state,
            length or 0,
            ends_connection,
            ends_connection or _says_close(version, headers),
            None if keep_alive is None else grammar.parse_keep_alive_seconds(keep_alive),
            codings,
            length,
        )

    def _transfer_codings(self, headers: CIMultiDict[str]) -> tuple[str, ...]:
        # None of these codings has parameters; with one it is another coding (RFC 9112, 7.1).
        names = grammar.split_list(headers.getall(_TRANSFER_ENCODING))
        codings = tuple(name for name in names if name != "identity")
        known = all(coding in DECODABLE_TRANSFER_CODINGS or coding == "chunked" for coding in codings)
        # `identity` behind chunked is refused: some take the chunks for the framing then, others do not.
        framed = codings[-1:] == ("chunked",)
        if not known or codings.count("chunked") > 1 or (framed and names[-1] != "chunked"):
            raise RemoteProtocolError(
                f"Transfer-Encoding {grammar.shown(', '.join(names))} cannot be undone: only gzip and deflate, "
                "and chunked once"
            )
        # What is chunked and then coded again lasts until close (RFC 9112, 6.3): its chunks are inside.
        return codings if framed else tuple(CHUNKED_WITHIN if name == "chunked" else name for name in codings)

    def _read_sized(self) -> Event | NeedData:
        left = self._left
        if left == 0:
            return self._end_body(None)
        available = len(self._buffer) - self._position
        if available == 0:
            if self._eof:
                whole = self._received + left
                raise IncompleteBody(f"the answer was cut: {self._received} of {whole} bytes of its body came")
            return NEED_DATA
        size = left if left < available else available
        self._left = left - size
        self._received += size
        return BodyData(self._take(size))

    def _read_until_close(self) -> Event | NeedData:
        available = self.buffered
        if available:
            return BodyData(self._take(available))
        if self._eof:
            return self._end_body(None)
        return NEED_DATA

    def _read_chunked(self) -> Event | NeedData:
        """Gather the data of all chunks in the buffer (RFC 9112, 7.1)."""
        buffer, position, left = self._buffer, self._position, self._left
        size = len(buffer)
        view = memoryview(buffer)
        pieces: list[memoryview] = []
        try:
            while True:
                if left:
                    stop = position + left
                    if stop > size:
                        if position < size:
                            pieces.append(view[position:])
                            left -= size - position
                            position = size
                        break
                    pieces.append(view[position:stop])
                    position = stop
                    left = 0
                if self._chunk_open:
                    ending = buffer[position : position + 2]
                    if ending != b"\r\n":
                        if b"\r\n".startswith(ending):
                            break
                        raise RemoteProtocolError(
                            f"the data of a chunk is not followed by CRLF but by {grammar.shown(ending)}"
                        )
                    position += 2
                    self._chunk_open = False
                end = buffer.find(b"\n", position)
                if end < 0:
                    if size - position > MAX_CHUNK_LINE_BYTES:
                        raise RemoteProtocolError(f"a chunk-size line has more than {MAX_CHUNK_LINE_BYTES} bytes")
                    break
                line = bytes(view[position:end])
                left = self._parse_chunk_line(line)
                position = end + 1
                if left == 0:
                    self.state = "trailers"
                    break
                self._chunk_open = True
                # Most chunks are as large as the one before: the line that was just understood is looked for, as it
                # is, behind the data.
                between = b"\r\n%b\n" % line
                stop = position + left
                while buffer.startswith(between, stop):
                    pieces.append(view[position:stop])
                    position = stop + len(between)
                    stop = position + left
        except RemoteProtocolError:
            # What came before the fault is delivered first, wherever the bytes were cut.
            if not pieces:
                raise
        self._position = position
        self._left = left
        if pieces:
            data = b"".join(pieces)
            self._received += len(data)
            return BodyData(data)
        if self.state == "trailers":
            return self._read_trailers()
        return self._need_chunk()

    def _parse_chunk_line(self, line: bytes) -> int:
        if len(line) > MAX_CHUNK_LINE_BYTES:
            raise RemoteProtocolError(f"a chunk-size line has more than {MAX_CHUNK_LINE_BYTES} bytes")
        if not line.endswith(b"\r") or line.count(b"\r") != 1:
            raise RemoteProtocolError(f"a chunk-size line does not end with CRLF: {grammar.shown(line)}")
        return grammar.parse_chunk_size(line[:-1])

    def _need_chunk(self) -> NeedData:
        if self._eof:
            missing = "the end of its trailers" if self.state == "trailers" else "its last chunk"
            raise IncompleteBody(
                f"the answer was cut: its chunked body ended without {missing}, after {self._received} bytes of data"
            )
        return NEED_DATA

    def _read_trailers(self) -> Event | NeedData:
        buffer, start = self._buffer, self._position
        if buffer.startswith(b"\r\n", start):
            self._position = start + 2
            return self._end_body(None)
        if buffer.startswith(b"\n", start):
            raise RemoteProtocolError("a chunked body ends with LF without CR")
        section = self._take_section("the trailer section")
        if section is None:
            return self._need_chunk()
        lines = self._lines(section, "the trailer section", trailers=True)
        return self._end_body(grammar.parse_fields(lines, self._max_fields))

    def _end_body(self, trailers: CIMultiDict[str] | None) -> BodyEnded:
        self.state = "done"
        if self._position >= len(self._buffer):
            # An idle connection holds on to no bytes.
            self._buffer = b""
            self._position = 0
        return _ENDED if trailers is None else BodyEnded(trailers)


def _remember_head(
    section: bytes, status_line: tuple[str, int, str], headers: CIMultiDict[str], framing: Framing
) -> None:
    if len(section) <= MAX_SEEN_HEAD_BYTES and not any(name in headers for name in grammar.FOR_ONE_REQUEST):
        if len(_SEEN_HEADS) >= MAX_SEEN_HEADS:
            _SEEN_HEADS.clear()
        _SEEN_HEADS[section] = SeenHead(status_line, headers.copy(), framing)


def _announces_what_may_not_follow(version: str, status_code: int, headers: CIMultiDict[str]) -> bool:
    """
    Tell whether the head of an answer without a body leaves a doubt about that.

    The fields of 304, and of an answer to HEAD, are those of an answer with a body. But 204 has none of them
    (RFC 9112, 6.1 and RFC 9110, 8.6): who sends them may send the body too, where the next answer is to begin. What is
    faulty with a body is so without one.
    """
    if _TRANSFER_ENCODING in headers:
        return status_code == 204 or version == "HTTP/1.0" or _CONTENT_LENGTH in headers
    return status_code == 204 and headers.get(_CONTENT_LENGTH, "0") != "0"


def _says_close(version: str, headers: CIMultiDict[str]) -> bool:
    if _CONNECTION not in headers:
        return version == "HTTP/1.0"
    values = headers.getall(_CONNECTION)
    if values == ["keep-alive"]:
        return False
    options = grammar.split_list(values)
    return "close" in options or (version == "HTTP/1.0" and "keep-alive" not in options)
