"""
A response: the head is there, the body is read, iterated or left.

Where the body comes from is behind `BodySource`; the rest, decoding and text included, is the same for all.
"""

from __future__ import annotations

import asyncio
import codecs
import json as json_module
import re
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from typing import Any, Final, NamedTuple, Protocol, TypeAlias

from multidict import CIMultiDict, CIMultiDictProxy, istr
from yarl import URL

from aiosock.errors import (
    ContentTooLarge,
    HTTPStatusError,
    RequestError,
    ResponseNotRead,
    StreamConsumed,
    UsageError,
)
from aiosock.message.decoding import PIECE_BYTES, Pipeline
from aiosock.message.request import HeadersInput, Request, make_headers
from aiosock.protocol.link import parse_links

REDIRECT_STATUSES: Final = frozenset({301, 302, 303, 307, 308})
# Decoded without anything being received in between; then the other tasks of the loop have their turn.
MAX_BYTES_PER_TURN: Final = 1024 * 1024
ERROR_BODY_CHARACTERS: Final = 200

_CONTENT_ENCODING: Final = istr("Content-Encoding")
_CONTENT_TYPE: Final = istr("Content-Type")
_LOCATION: Final = istr("Location")
_find_charset = re.compile(r";\s*charset\s*=\s*(?:\"([^\"]*)\"|([^\s;\"]+))", re.IGNORECASE).search
_find_line_end = re.compile(r"\r\n|\n|\r").search

DefaultEncoding: TypeAlias = str | Callable[[bytes], str]
JSONDecoder: TypeAlias = Callable[[bytes], Any]


class BodySource(Protocol):
    """Where a response's body comes from."""

    trailers: CIMultiDict[str] | None

    async def receive(self) -> bytes:
        """Return the next piece as it came; ``b""`` when the body is complete."""
        ...

    def lift_deadline(self) -> None:
        """From here on the time for the whole request is not bounded any more, only pauses are."""
        ...

    def close(self) -> None:
        """Give the rest up, in a way that lets the connection live if that is cheap; never waits."""
        ...

    def abort(self) -> None:
        """Give the rest up, and the connection with it."""
        ...


class ByteStream(Protocol):
    """A connection that has been handed over: after 101 (Switching Protocols), or CONNECT."""

    async def read(self) -> bytes:
        """Return the next bytes, as many as there are; ``b""`` is the end."""
        ...

    async def write(self, data: bytes) -> None:
        """Send bytes; returns when they are handed to the system."""
        ...

    async def close(self) -> None:
        """Close the connection."""
        ...


class ConnectionInfo(NamedTuple):
    """
    Which connection carried the exchange.

    Attributes:
        remote_address: ``"192.0.2.1:443"``, ``"[2001:db8::1]:443"`` or the path of a Unix socket.
        local_address: Our end, in the same form.
        tls_version: ``"TLSv1.3"``, None without TLS.
        cipher: The name of the cipher suite, None without TLS.
        alpn: The protocol agreed on by ALPN, None where there was none.
        reused: The connection had carried a request before.
        requests_served: How many requests it has carried, this one included.
        session_reused: The TLS handshake resumed an earlier session.
    """

    remote_address: str
    local_address: str
    tls_version: str | None
    cipher: str | None
    alpn: str | None
    reused: bool
    requests_served: int
    session_reused: bool


class Timings:
    """
    Seconds spent in each stage; None for a stage that there was not, or not yet.

    Attributes:
        pool: Waiting for a connection, dialling included.
        dns: Resolving the name; None on a reused connection, as are connect and tls.
        connect: Opening the TCP connection.
        tls: The TLS handshake.
        send: From the first to the last byte of the request.
        wait: From there to the first byte of the answer.
        receive: From there to the end of the body.
        total: All of it.
    """

    __slots__ = ("acquired_at", "connect", "dns", "ended_at", "head_at", "sent_at", "started_at", "tls")

    def __init__(self, started_at: float) -> None:
        self.started_at = started_at
        self.acquired_at: float | None = None
        self.sent_at: float | None = None
        self.head_at: float | None = None
        self.ended_at: float | None = None
        self.dns: float | None = None
        self.connect: float | None = None
        self.tls: float | None = None

    @property
    def pool(self) -> float | None:
        return _between(self.started_at, self.acquired_at)

    @property
    def send(self) -> float | None:
        return _between(self.acquired_at, self.sent_at)

    @property
    def wait(self) -> float | None:
        return _between(self.sent_at, self.head_at)

    @property
    def receive(self) -> float | None:
        return _between(self.head_at, self.ended_at)

    @property
    def total(self) -> float | None:
        return _between(self.started_at, self.ended_at)

    def __repr__(self) -> str:
        names = ("pool", "dns", "connect", "tls", "send", "wait", "receive", "total")
        shown = (f"{name}={value:.6f}" for name in names if (value := getattr(self, name)) is not None)
        return f"<Timings {' '.join(shown)}>"


def _between(earlier: float | None, later: float | None) -> float | None:
    return None if earlier is None or later is None else max(later - earlier, 0.0)


class Response:
    """
    An HTTP response.

    Args:
        status_code: 100 to 999.
        headers: Fields as a mapping or pairs.
        content: The body, where it is there already.
        reason: The reason phrase.
        http_version: ``"HTTP/1.1"`` or ``"HTTP/1.0"``.
        request: What it answers.
        extensions: What travels with the response for those who know it.
        source: Where the body comes from, instead of ``content``.
        transfer_codings: Transfer codings still on what the source gives, in the order applied.
        timings: Seconds spent in each stage.
        connection: Which connection carried the exchange.

    Attributes:
        history: The redirects that led here, oldest first.
        next_request: The request that a redirect asks for, where it was not followed.
        informational: The 1xx answers that came ahead, oldest first.
        stream: The connection itself after 101 or CONNECT, else None.
    """

    __slots__ = (
        "__weakref__",
        "_connection",
        "_content",
        "_encoding",
        "_source",
        "_started",
        "_timings",
        "_transfer_codings",
        "default_encoding",
        "extensions",
        "headers",
        "history",
        "http_version",
        "informational",
        "json_decoder",
        "max_content_bytes",
        "next_request",
        "reason",
        "request",
        "status_code",
        "stream",
    )

    def __init__(
        self,
        status_code: int,
        *,
        headers: HeadersInput | None = None,
        content: bytes | str | None = None,
        reason: str = "",
        http_version: str = "HTTP/1.1",
        request: Request | None = None,
        extensions: Mapping[str, Any] | None = None,
        source: BodySource | None = None,
        transfer_codings: tuple[str, ...] = (),
        timings: Timings | None = None,
        connection: ConnectionInfo | None = None,
    ) -> None:
        self.status_code = status_code
        self.reason = reason
        self.http_version = http_version
        self.headers = CIMultiDictProxy(headers if isinstance(headers, CIMultiDict) else make_headers(headers))
        self.request = request
        self.extensions: dict[str, Any] = dict(extensions) if extensions else {}
        self.history: tuple[Response, ...] = ()
        self.next_request: Request | None = None
        self.informational: tuple[Response, ...] = ()
        self.stream: ByteStream | None = None
        self.default_encoding: DefaultEncoding = "utf-8"
        self.json_decoder: JSONDecoder = json_module.loads
        self.max_content_bytes: int | None = None
        self._source = source
        self._started = False
        self._transfer_codings = transfer_codings
        self._content: bytes | None = None
        if source is None:
            self._content = content.encode() if isinstance(content, str) else (content or b"")
        self._encoding: str | None = None
        self._timings = timings
        self._connection = connection

    # What the head says

    @property
    def url(self) -> URL:
        """The URL that answered."""
        return self._answered_request().url

    def _answered_request(self) -> Request:
        if self.request is None:
            raise UsageError("this response belongs to no request")
        return self.request

    @property
    def is_informational(self) -> bool:
        """1xx."""
        return 100 <= self.status_code < 200

    @property
    def is_success(self) -> bool:
        """2xx."""
        return 200 <= self.status_code < 300

    @property
    def is_redirect(self) -> bool:
        """301, 302, 303, 307 or 308 with a Location."""
        return self.status_code in REDIRECT_STATUSES and _LOCATION in self.headers

    @property
    def is_client_error(self) -> bool:
        """4xx."""
        return 400 <= self.status_code < 500

    @property
    def is_server_error(self) -> bool:
        """5xx."""
        return 500 <= self.status_code < 600

    @property
    def links(self) -> dict[str, dict[str, str]]:
        """The Link fields (RFC 8288) by their ``rel``, or by their URL where they have none."""
        return {link.get("rel") or link["url"]: link for link in parse_links(self.headers.getall("Link", ()))}

    @property
    def trailers(self) -> CIMultiDictProxy[str]:
        """The trailers, known once the body is read; empty where there are none."""
        trailers = self._source.trailers if self._source is not None else None
        return CIMultiDictProxy(trailers if trailers is not None else CIMultiDict())

    @property
    def connection(self) -> ConnectionInfo | None:
        """Which connection carried the exchange; None where there was none."""
        return self._connection

    @property
    def timings(self) -> Timings:
        """Seconds spent in each stage."""
        if self._timings is None:
            raise UsageError("this response was not received over a connection")
        return self._timings

    @property
    def elapsed(self) -> timedelta:
        """
        The time from the call to the end of the body.

        Raises:
            ResponseNotRead: The body has not ended yet.
        """
        total = self._timings.total if self._timings is not None else None
        if total is None:
            raise ResponseNotRead("elapsed is known when the body has been read")
        return timedelta(seconds=total)

    def raise_for_status(self) -> Response:
        """
        Return the response itself unless it is a 4xx or 5xx.

        Raises:
            HTTPStatusError: It is; the message has the start of the body where that was read.
        """
        if 400 <= self.status_code < 600:
            request = self._answered_request()
            url = request.url.with_query(None).with_fragment(None)
            said = f"{self.status_code} {self.reason}".strip()
            body = ""
            if self._content:
                start = self.text[:ERROR_BODY_CHARACTERS]
                body = ": " + "".join(character if character.isprintable() else " " for character in start).strip()
            raise HTTPStatusError(f"{said} from {request.method} {url}{body}", request=request, response=self)
        return self

    # The body, whole

    @property
    def content(self) -> bytes:
        """
        The body, decoded.

        Raises:
            ResponseNotRead: `read` was not called yet.
        """
        if self._content is None:
            raise ResponseNotRead("the body has not been read; await response.read() first")
        return self._content

    @property
    def encoding(self) -> str:
        """
        The name of the body's character encoding: set by you, or the charset of Content-Type, a byte order mark,
        ``default_encoding``, in this order.
        """
        if self._encoding is None:
            self._encoding = self._find_encoding(self._content or b"")
        return self._encoding

    @encoding.setter
    def encoding(self, name: str) -> None:
        if _codec_name(name) is None:
            raise UsageError(f"encoding: Python knows no text encoding {name[:40]!r}")
        self._encoding = name

    def _find_encoding(self, start: bytes) -> str:
        found = _find_charset(self.headers.get(_CONTENT_TYPE, ""))
        if found is not None and (named := _codec_name(found[1] or found[2] or "")) is not None:
            return named
        for mark, name in _BYTE_ORDER_MARKS:
            if start.startswith(mark):
                return name
        default = self.default_encoding
        return default if isinstance(default, str) else default(start)

    @property
    def text(self) -> str:
        """The body as text; bytes that do not fit its encoding become U+FFFD."""
        content = self.content
        return codecs.decode(content, _without_mark(self.encoding, content), "replace")

    def json(self) -> Any:
        """
        Return the body as the JSON value that it is.

        Raises:
            ResponseNotRead: `read` was not called yet.
            ValueError: The body is not JSON (as `json.JSONDecodeError` with the standard decoder).
        """
        return self.json_decoder(self.content)

    async def read(self) -> bytes:
        """
        Read the body to its end, and return it decoded.

        Raises:
            ContentTooLarge: It passes ``max_content_bytes``.
            StreamConsumed: It was iterated already.
            RequestError: It could not be read.
        """
        if self._content is None:
            pieces: list[bytes] = []
            size = 0
            limit = self.max_content_bytes
            iterator = self.iter_bytes()
            try:
                async for piece in iterator:
                    size += len(piece)
                    if limit is not None and size > limit:
                        raise ContentTooLarge(f"the body is larger than {limit} bytes (max_content_bytes)")
                    pieces.append(piece)
            except BaseException:
                self.abort()
                raise
            self._content = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        return self._content

    # The body, piece by piece

    def iter_raw(self) -> BodyIterator:
        """Iterate over the body as it was sent, its content codings untouched."""
        return BodyIterator(self, self._transfer_codings, None)

    def iter_bytes(self, chunk_size: int | None = None) -> BodyIterator:
        """
        Iterate over the decoded body.

        Args:
            chunk_size: The bytes of each piece but the last; None hands pieces on the moment they arrive.

        Raises:
            StreamConsumed: The body was iterated already (raised by the first step).
        """
        if chunk_size is not None and chunk_size < 1:
            raise UsageError(f"chunk_size: must be at least 1 byte, not {chunk_size}")
        return BodyIterator(self, self._codings(), chunk_size)

    def _codings(self) -> tuple[str, ...]:
        """All codings on the body, in the order in which they were applied."""
        if _CONTENT_ENCODING not in self.headers:
            return self._transfer_codings
        named = ",".join(self.headers.getall(_CONTENT_ENCODING)).split(",")
        codings = tuple(coding for part in named if (coding := part.strip().lower()))
        return (*codings, *self._transfer_codings)

    def iter_text(self) -> TextIterator:
        """Iterate over the body as text; characters are never cut apart."""
        return TextIterator(self)

    def iter_lines(self) -> LineIterator:
        """Iterate over the lines of the body without their ends, which are LF, CRLF or CR."""
        return LineIterator(self)

    async def close(self) -> None:
        """
        Give up what is left of the body; never waits.

        A small rest is drained behind the scenes so that the connection lives, else the connection is closed.
        """
        if self.stream is not None:
            await self.stream.close()
        if self._source is not None:
            self._source.close()

    def abort(self) -> None:
        """Give up what is left of the body, and close the connection at once."""
        if self._source is not None:
            self._source.abort()

    def lift_deadline(self) -> None:
        """Bound only the pauses from here on, and not the time for the whole request; for who streams the body."""
        if self._source is not None:
            self._source.lift_deadline()

    async def __aenter__(self) -> Response:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"<Response {self.status_code} {self.reason}".rstrip() + ">"


_BYTE_ORDER_MARKS: Final = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


def _codec_name(label: str) -> str | None:
    """Return the name of the text encoding that a label stands for, None where Python has none."""
    try:
        info = codecs.lookup(label)
    except (LookupError, ValueError):
        return None
    # Codecs from bytes to bytes are none for text, and some of them decompress.
    return info.name if info._is_text_encoding else None


def _without_mark(name: str, start: bytes) -> str:
    """Return the codec that takes a byte order mark, where the text begins with one, for what it is."""
    codec = _codec_name(name) or "utf-8"
    if codec == "utf-8" and start.startswith(codecs.BOM_UTF8):
        return "utf-8-sig"
    for mark, marked in _BYTE_ORDER_MARKS[1:]:
        if codec == marked and start.startswith(mark):
            return marked[:-3]
    return codec


class BodyIterator:
    """
    Iterates over a body, decoding it; made by `Response.iter_bytes` and `Response.iter_raw`.

    Breaking out of the loop leaves the body as it is: `close`, or the end of the ``async with`` block that opened
    the response, gives it up.
    """

    __slots__ = ("_chunk_size", "_codings", "_gathered", "_pieces", "_pipeline", "_response", "_this_turn")

    def __init__(self, response: Response, codings: tuple[str, ...], chunk_size: int | None) -> None:
        self._response = response
        self._codings = codings
        self._chunk_size = chunk_size
        self._gathered: bytearray | None = None
        self._pieces: Iterator[bytes] | None = None
        self._pipeline: Pipeline | None = None
        self._this_turn = 0

    def __aiter__(self) -> BodyIterator:
        return self

    async def __anext__(self) -> bytes:
        if self._chunk_size is None:
            piece = await self._next_piece()
        else:
            piece = await self._next_chunk(self._chunk_size)
        if not piece:
            raise StopAsyncIteration
        return piece

    async def close(self) -> None:
        """Give up what is left of the body."""
        await self._response.close()

    async def _next_chunk(self, size: int) -> bytes:
        if self._gathered is None:
            self._gathered = bytearray()
        gathered = self._gathered
        while len(gathered) < size:
            piece = await self._next_piece()
            if not piece:
                break
            gathered += piece
        chunk = bytes(memoryview(gathered)[:size])
        del gathered[:size]
        return chunk

    def _begin(self) -> None:
        response = self._response
        if response._content is not None and response._source is None:
            view = response._content
            self._pieces = iter([view[at : at + PIECE_BYTES] for at in range(0, len(view), PIECE_BYTES)])
        elif response._content is not None:
            self._pieces = iter([response._content] if response._content else [])
        else:
            if response._started:
                raise StreamConsumed("the body can be iterated once, and was; read() keeps it")
            response._started = True
            self._pieces = iter(())
        self._pipeline = Pipeline(self._codings) if self._codings else _NOTHING_TO_UNDO

    async def _next_piece(self) -> bytes:
        """Return the next decoded piece, ``b""`` at the end."""
        if self._pieces is None:
            self._begin()
        response = self._response
        try:
            return await self._read_piece(response)
        except RequestError as error:
            response.abort()
            if error.request is None:
                error.request = response.request
            raise

    async def _read_piece(self, response: Response) -> bytes:
        source = response._source
        pipeline = self._pipeline
        while True:
            piece = next(self._pieces, None)  # type: ignore[arg-type]  # set by _begin
            if piece:
                self._this_turn += len(piece)
                if self._this_turn > MAX_BYTES_PER_TURN:
                    self._this_turn = 0
                    await asyncio.sleep(0)
                return piece
            if source is None or response._content is not None:
                return b""
            data = await source.receive()
            if not pipeline:
                return data
            self._this_turn = 0
            if not data:
                pipeline.finish()
                return b""
            self._pieces = pipeline.decode(data)


_NOTHING_TO_UNDO: Final = Pipeline(())


class TextIterator:
    """Iterates over a body as text; made by `Response.iter_text`."""

    __slots__ = ("_bytes", "_decoder", "_ended", "_response")

    def __init__(self, response: Response) -> None:
        self._response = response
        self._bytes = response.iter_bytes()
        self._decoder: codecs.IncrementalDecoder | None = None
        self._ended = False

    def __aiter__(self) -> TextIterator:
        return self

    async def __anext__(self) -> str:
        start = b""
        while not self._ended:
            piece = await self._bytes._next_piece()
            self._ended = not piece
            if self._decoder is None:
                # The longest byte order mark has four bytes.
                start += piece
                if len(start) < 4 and not self._ended:
                    continue
                piece = start
                name = self._response._encoding or self._response._find_encoding(start)
                self._decoder = codecs.getincrementaldecoder(_without_mark(name, start))("replace")
            text = self._decoder.decode(piece, self._ended)
            if text:
                return text
        raise StopAsyncIteration

    async def close(self) -> None:
        """Give up what is left of the body."""
        await self._response.close()


class LineIterator:
    """Iterates over the lines of a body; made by `Response.iter_lines`."""

    __slots__ = ("_ended", "_lines", "_open", "_text")

    def __init__(self, response: Response) -> None:
        self._text = response.iter_text()
        self._lines: deque[str] = deque()
        # The pieces of the line that has not ended yet, joined only once: a long line costs what it is long.
        self._open: list[str] = []
        self._ended = False

    def __aiter__(self) -> LineIterator:
        return self

    async def __anext__(self) -> str:
        lines = self._lines
        while not lines:
            if self._ended:
                raise StopAsyncIteration
            try:
                self._split(await self._text.__anext__())
            except StopAsyncIteration:
                self._ended = True
                if self._open:
                    lines.append("".join(self._open).removesuffix("\r"))
                    self._open.clear()
        return lines.popleft()

    def _split(self, text: str) -> None:
        if self._open and self._open[-1].endswith("\r"):
            # A CR at the end of a piece: whether LF follows shows only now.
            last = self._open.pop()
            text = last + text
        if "\r" in text:
            held = text.endswith("\r")
            parts = text[: -1 if held else None].replace("\r\n", "\n").replace("\r", "\n").split("\n")
            if held:
                parts[-1] += "\r"
        else:
            parts = text.split("\n")
        if len(parts) > 1:
            parts[0] = "".join((*self._open, parts[0]))
            self._open.clear()
            self._lines.extend(parts[:-1])
        if parts[-1]:
            self._open.append(parts[-1])

    async def close(self) -> None:
        """Give up what is left of the body."""
        await self._text.close()
