"""
A response: what its head says, and the body whole or piece by piece.
"""

from __future__ import annotations

import codecs
import json as json_module
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias

from multidict import CIMultiDict, CIMultiDictProxy, istr

from aiosock.config import shown
from aiosock.errors import ContentTooLarge, HTTPStatusError, ResponseNotRead, StreamConsumed, UsageError
from aiosock.message.charset import codec_for, find_codec, marked_encoding, named_encoding
from aiosock.message.decoding import Pipeline, decode_at_once
from aiosock.message.iteration import (
    MAX_EVENT_BYTES,
    BodyIterator,
    BodySource,
    ContentSource,
    EventIterator,
    IncomingBody,
    LineIterator,
    TextIterator,
)
from aiosock.message.late import late
from aiosock.message.request import HeadersInput, Request, make_headers
from aiosock.message.transit import ConnectionInfo, Timings
from aiosock.protocol.http1.events import ResponseStarted
from aiosock.protocol.link import parse_links

if TYPE_CHECKING:
    from datetime import timedelta

    from yarl import URL

    from aiosock.message.cookies import Cookies
else:
    timedelta = late("datetime", "timedelta")
    URL = late("yarl", "URL")
    Cookies = late("aiosock.message.cookies", "Cookies")

REDIRECT_STATUSES: Final = frozenset({301, 302, 303, 307, 308})
ERROR_BODY_CHARACTERS: Final = 200
# Enough for so many characters in any encoding.
ERROR_BODY_BYTES: Final = 8 * ERROR_BODY_CHARACTERS

_SOURCE_METHODS: Final = ("receive", "take_whole", "check_deadline", "lift_deadline", "close", "abort")
_CONTENT_ENCODING: Final = istr("Content-Encoding")
_CONTENT_TYPE: Final = istr("Content-Type")
_LOCATION: Final = istr("Location")
_SET_COOKIE: Final = istr("Set-Cookie")

DefaultEncoding: TypeAlias = str | Callable[[bytes], str | None]
JSONDecoder: TypeAlias = Callable[[bytes], Any]


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
        connection: Which connection carried the exchange, or what tells it when asked.

    Attributes:
        history: The redirects that led here, oldest first.
        next_request: The request that a redirect asks for, where it was not followed.
        informational: The 1xx answers that came ahead, oldest first.
        stream: The connection itself after 101 or CONNECT, else None.
    """

    __slots__ = (
        "__weakref__",
        "_body",
        "_connection",
        "_encoding",
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
        connection: ConnectionInfo | Callable[[], ConnectionInfo] | None = None,
    ) -> None:
        whole: bytes | None = None
        if source is None:
            whole = content.encode() if isinstance(content, str) else (content or b"")
        self._fill(
            status_code,
            reason,
            http_version,
            headers if isinstance(headers, CIMultiDict) else make_headers(headers),
            request,
            dict(extensions) if extensions else {},
            IncomingBody(source, whole, request),
            transfer_codings,
            timings,
            connection,
        )

    def _fill(
        self,
        status_code: int,
        reason: str,
        http_version: str,
        headers: CIMultiDict[str],
        request: Request | None,
        extensions: dict[str, Any],
        body: IncomingBody,
        transfer_codings: tuple[str, ...],
        timings: Timings | None,
        connection: ConnectionInfo | Callable[[], ConnectionInfo] | None,
    ) -> None:
        self.status_code = status_code
        self.reason = reason
        self.http_version = http_version
        self.headers: CIMultiDictProxy[str] = CIMultiDictProxy(headers)
        self.request = request
        self.extensions = extensions
        self.history: tuple[Response, ...] = ()
        self.next_request: Request | None = None
        self.informational: tuple[Response, ...] = ()
        self.stream: ByteStream | None = None
        self.default_encoding: DefaultEncoding = "utf-8"
        self.json_decoder: JSONDecoder = json_module.loads
        self.max_content_bytes: int | None = None
        self._body = body
        self._transfer_codings = transfer_codings
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
    def cookies(self) -> Cookies:
        """The cookies that this answer sets."""
        from aiosock.message.cookies import cookies_set

        return cookies_set(self.headers.getall(_SET_COOKIE, ()), self._answered_request().location)

    @property
    def trailers(self) -> CIMultiDictProxy[str]:
        """The trailers, known once the body is read; empty where there are none."""
        source = self._body.source
        trailers = source.trailers if source is not None else None
        return CIMultiDictProxy(trailers if trailers is not None else CIMultiDict())

    @property
    def connection(self) -> ConnectionInfo | None:
        """Which connection carried the exchange; None where there was none."""
        if callable(self._connection):
            self._connection = self._connection()
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
            UsageError: The response was not received over a connection.
        """
        from datetime import timedelta

        total = self.timings.total
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
            said = f"{self.status_code} {self.reason}".strip() + f" from {request.method} {url}"
            if self._body.content:
                start = self._body.content[:ERROR_BODY_BYTES]
                said = f"{said}: {self._decode(start)[:ERROR_BODY_CHARACTERS].strip()}"
            # What a server sends must not steer somebody's terminal.
            shown = "".join(character if character.isprintable() else " " for character in said)
            raise HTTPStatusError(shown, request=request, response=self)
        return self

    # The body, whole

    @property
    def content(self) -> bytes:
        """
        The body, decoded.

        Raises:
            ResponseNotRead: `read` was not called yet.
        """
        if self._body.content is None:
            raise ResponseNotRead("the body has not been read; await response.read() first")
        return self._body.content

    @property
    def encoding(self) -> str:
        """
        The name of the body's character encoding: set by you, or the charset of Content-Type, a byte order mark,
        ``default_encoding``, in this order, UTF-8 where that is no text encoding. As long as the body is not read
        it is a guess.
        """
        content = self._body.content
        found = self._find_encoding(content or b"")
        if content is not None:
            self._encoding = found
        return found

    @encoding.setter
    def encoding(self, name: str) -> None:
        if not isinstance(name, str) or find_codec(name) is None:
            raise UsageError(f"encoding: Python knows no text encoding {shown(name)}")
        self._encoding = name

    def _find_encoding(self, start: bytes) -> str:
        if self._encoding is not None:
            return self._encoding
        found = named_encoding(self.headers.get(_CONTENT_TYPE, "")) or marked_encoding(start)
        if found is None:
            default = self.default_encoding
            name = default if isinstance(default, str) else default(start)
            if name is not None and not isinstance(name, str):
                raise UsageError(f"default_encoding: must return a str or None, not {type(name).__name__}")
            found = find_codec(name or "")
        return found or "utf-8"

    @property
    def text(self) -> str:
        """The body as text; bytes that do not fit its encoding become U+FFFD."""
        return self._decode(self.content)

    def _decode(self, content: bytes) -> str:
        return codecs.decode(content, codec_for(self.encoding, content), "replace")

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
            StreamConsumed: It was iterated already, or given up.
            RequestError: It could not be read.
        """
        body = self._body
        if not self.read_ready():
            pieces: list[bytes] = []
            size = 0
            iterator = self.iter_bytes()
            while piece := await iterator.next_piece():
                size += len(piece)
                self._refuse_too_large(size)
                pieces.append(piece)
            body.content = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        return self.content

    def read_ready(self) -> bool:
        """
        Read the body if that takes no wait and little work: it came whole, and is not encoded, or small in gzip.

        The short road of `read`, which takes over what this leaves.

        Raises:
            ContentTooLarge: It passes ``max_content_bytes``.
        """
        body = self._body
        if body.content is not None:
            return True
        source = body.source
        if source is None or not body.direct or body.started or body.closed:
            return False
        content = source.take_whole()
        if content is None:
            return False
        if _CONTENT_ENCODING in self.headers:
            whole, content = content, decode_at_once(",".join(self.headers.getall(_CONTENT_ENCODING)), content)
            if content is None:
                body.whole = whole
                return False
        if self.max_content_bytes is not None:
            self._refuse_too_large(len(content))
        body.content = content
        body.started = body.ended = True
        return True

    def _refuse_too_large(self, size: int) -> None:
        limit = self.max_content_bytes
        if limit is not None and size > limit:
            self.abort()
            error = ContentTooLarge(f"the body is larger than {limit} bytes (max_content_bytes)")
            error.request = self.request
            raise error

    def wrap_body(self, wrap: Callable[[BodySource], BodySource]) -> None:
        """
        Let the body come through a source of one's own; for a middleware that counts, checks or changes it.

        What comes through is the body as it was sent, its content codings still on it; of a response that was read
        already it is the content.

        Args:
            wrap: Makes the source, usually a `BodyWrapper`, around the one that there is.

        Raises:
            StreamConsumed: The body was iterated already, or given up.
            UsageError: What is made is no source; the body is as it was.
        """
        body, source = self._body, self._body.source
        if body.content is not None:
            source = ContentSource(body.content, source.trailers if source is not None else None)
        elif source is None or body.started or body.closed:
            raise StreamConsumed("the body was read, or given up, before it was wrapped")
        wrapped = wrap(source)
        if not all(callable(getattr(wrapped, name, None)) for name in _SOURCE_METHODS):
            raise UsageError(f"wrap_body: the function must return a BodyWrapper, not {type(wrapped).__name__}")
        if body.content is not None:
            headers = CIMultiDict(self.headers)
            headers.popall(_CONTENT_ENCODING, None)
            self.headers = CIMultiDictProxy(headers)
            self._transfer_codings = ()
        self._body = IncomingBody(wrapped, None, self.request)

    # The body, piece by piece

    def iter_raw(self) -> BodyIterator:
        """
        Iterate over the body as it was sent, its content codings untouched.

        Raises:
            StreamConsumed: The body was iterated already, or given up (raised by the first step); or it was read,
                which undid its codings.
        """
        body = self._body
        if body.source is not None and body.content is not None and Pipeline(self._content_codings()):
            raise StreamConsumed("the body was decoded when it was read; to have it as it was sent, iterate instead")
        return BodyIterator(body, self._transfer_codings, None)

    def iter_bytes(self, chunk_size: int | None = None) -> BodyIterator:
        """
        Iterate over the decoded body.

        Args:
            chunk_size: The bytes of each piece but the last; None hands pieces on the moment they arrive.

        Raises:
            StreamConsumed: The body was iterated already, or given up (raised by the first step).
        """
        if chunk_size is not None and chunk_size < 1:
            raise UsageError(f"chunk_size: must be at least 1 byte, not {chunk_size}")
        content_codings, transfer_codings = self._content_codings(), self._transfer_codings
        if transfer_codings and not Pipeline(content_codings):
            # One that nobody knows stays on, but is no reason to leave the message's framing on as well.
            content_codings = ()
        return BodyIterator(self._body, content_codings + transfer_codings, chunk_size)

    def _content_codings(self) -> tuple[str, ...]:
        """The content codings in the order in which they were applied."""
        if _CONTENT_ENCODING not in self.headers:
            return ()
        named = ",".join(self.headers.getall(_CONTENT_ENCODING)).split(",")
        return tuple(coding for part in named if (coding := part.strip().lower()))

    def iter_text(self) -> TextIterator:
        """Iterate over the body as text; characters are never cut apart."""
        return TextIterator(self.iter_bytes(), self._find_encoding)

    def iter_lines(self) -> LineIterator:
        """Iterate over the lines of the body without their ends, which are LF, CRLF or CR."""
        return LineIterator(self.iter_text())

    def iter_events(self, *, max_event_bytes: int | None = MAX_EVENT_BYTES, last_event_id: str = "") -> EventIterator:
        """
        Iterate over the body as a stream of server-sent events (the HTML standard, 9.2), each `ServerSentEvent` handed
        on the moment its bytes have arrived.

        The status and Content-Type are not looked at: services that stream their answers do not all say
        ``text/event-stream``, and what is no event stream has no events. An event stream is UTF-8, whatever
        `encoding` is. To be reconnected when the stream ends, use `Client.events`.

        Args:
            max_event_bytes: The most that one event, or one line, may take up; None for no limit.
            last_event_id: The ID that events have until one comes with its own; where an earlier stream is taken up
                again, that one's last.

        Raises:
            ContentTooLarge: An event, or a line, passes the limit (raised in its place among the events).
            StreamConsumed: The body was iterated already, or given up (raised by the first step).
            UsageError: An argument of the wrong kind, or a limit below 1.
        """
        from aiosock.protocol.eventstream import EventParser

        if max_event_bytes is not None and not isinstance(max_event_bytes, int):
            raise UsageError(f"max_event_bytes: takes an int or None, not {type(max_event_bytes).__name__}")
        if max_event_bytes is not None and max_event_bytes < 1:
            raise UsageError(f"max_event_bytes: must be at least 1 byte, not {max_event_bytes}")
        if not isinstance(last_event_id, str):
            raise UsageError(f"last_event_id: takes a str, not {type(last_event_id).__name__}")
        return EventIterator(self._body, self.iter_bytes(), EventParser(max_event_bytes, last_event_id))

    async def close(self) -> None:
        """
        Give up what is left of the body; never waits.

        A small rest is drained behind the scenes so that the connection lives, else the connection is closed.
        """
        if self.stream is not None:
            await self.stream.close()
        self._body.close()

    def abort(self) -> None:
        """Give up what is left of the body, and close the connection at once."""
        self._body.abort()

    def lift_deadline(self) -> None:
        """Bound only the pauses from here on, and not the time for the whole request; for who streams the body."""
        if self._body.source is not None:
            self._body.source.lift_deadline()

    async def __aenter__(self) -> Response:
        return self

    async def __aexit__(self, exc_type: type[BaseException] | None, *exc_info: object) -> None:
        if exc_type is not None:
            self.abort()
        await self.close()

    def __repr__(self) -> str:
        return f"<Response {self.status_code} {self.reason}".rstrip() + ">"

    def __getstate__(self) -> tuple[None, dict[str, Any]]:
        # Headers that only show those of somebody else can't be pickled.
        state = {name: getattr(self, name) for name in self.__slots__ if name != "__weakref__"}
        return None, state | {"headers": CIMultiDict(self.headers), "_connection": self.connection}

    def __setstate__(self, state: tuple[None, dict[str, Any]]) -> None:
        for name, value in state[1].items():
            setattr(self, name, value)
        self.headers = CIMultiDictProxy(state[1]["headers"])


def assemble(
    head: ResponseStarted,
    request: Request,
    source: BodySource,
    timings: Timings,
    connection: Callable[[], ConnectionInfo],
) -> Response:
    """
    Return the response that a head begins; the short road of making one.

    Args:
        head: What the protocol read.
        request: What it answers.
        source: Where the body comes from; it may be asked for the whole at once.
        timings: Seconds spent in each stage.
        connection: Tells which connection carried the exchange.
    """
    status_code, reason, http_version, headers, transfer_codings, _ = head
    new = object.__new__(Response)
    body = IncomingBody(source, None, request, True)
    new._fill(status_code, reason, http_version, headers, request, {}, body, transfer_codings, timings, connection)
    return new
