"""
Responses made by hand: the bodies that they bring, and how they become what the network would have given.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Mapping
from time import perf_counter
from typing import Any, Final, TypeAlias

from multidict import CIMultiDict

from aiosock.errors import IncompleteBody, ResponseNotRead, UsageError
from aiosock.message.body import Body, BytesBody, encode_json
from aiosock.message.iteration import BodySource, BodyWrapper
from aiosock.message.request import HeadersInput, Request, make_headers
from aiosock.message.response import Response
from aiosock.message.transit import Timings
from aiosock.protocol.http1.grammar import MAX_CONTENT_LENGTH
from aiosock.testing.bounds import Bounds
from aiosock.testing.message import reason_phrase

Pieces: TypeAlias = Iterable[bytes] | AsyncIterable[bytes]

_BODILESS: Final = frozenset({204, 304})


def reply(
    status: int = 200,
    *,
    headers: HeadersInput | None = None,
    content: bytes | str | Pieces | None = None,
    json: Any = None,
    trailers: HeadersInput | None = None,
) -> Response:
    """
    Return a response as a server might give it.

    Args:
        status: The status code.
        headers: Fields as a mapping or pairs.
        content: The body as it goes over the network: bytes, str, or a sync or async iterable of bytes, which is
            asked for a piece when the client wants one. With a Content-Encoding it has to be encoded so.
        json: The body as a JSON value, in place of ``content``.
        trailers: Fields that are there when the body has ended.

    Raises:
        UsageError: Both ``content`` and ``json``, what is none of these, or a status that is no int.
        InvalidHeader: A field name or value that is not a str.
    """
    if not isinstance(status, int):
        raise UsageError(f"reply: status takes an int, not {type(status).__name__}")
    fields = make_headers(headers)
    if json is not None:
        if content is not None:
            raise UsageError("reply: the body is given more than once: content and json")
        content = encode_json(json)
        fields.setdefault("Content-Type", "application/json")
    if isinstance(content, str):
        content = content.encode()
    if content is None or isinstance(content, bytes):
        if trailers is None:
            return Response(status, headers=fields, content=content)
        return Response(status, headers=fields, source=IterableSource([content or b""], trailers))
    pieces: Pieces = content
    if not isinstance(pieces, (Iterable, AsyncIterable)):
        raise UsageError(f"reply: content takes bytes, str or an iterable of bytes, not {type(content).__name__}")
    return Response(status, headers=fields, source=IterableSource(pieces, trailers))


class IterableSource:
    """
    A response's body out of an iterable of bytes.

    Args:
        pieces: Gives the body.
        trailers: Fields that are there when it has ended.
    """

    def __init__(self, pieces: Pieces, trailers: HeadersInput | None = None) -> None:
        self.trailers: CIMultiDict[str] | None = None
        self._at_the_end = None if trailers is None else make_headers(trailers)
        self._pieces = aiter(pieces) if isinstance(pieces, AsyncIterable) else _each(pieces)
        self._is_own = not isinstance(pieces, AsyncIterable)
        self._closing: asyncio.Task[None] | None = None

    async def receive(self) -> bytes:
        async for piece in self._pieces:
            if not isinstance(piece, bytes):
                raise UsageError(f"reply: the pieces of content must be bytes, not {type(piece).__name__}")
            if piece:
                return piece
        self.trailers = self._at_the_end
        return b""

    def take_whole(self) -> bytes | None:
        return None

    def check_deadline(self) -> None:
        pass

    def lift_deadline(self) -> None:
        pass

    def close(self) -> None:
        pieces = self._pieces
        # A generator that is left half way may have something to clean up; one that runs is being cancelled.
        if inspect.isasyncgen(pieces) and not self._is_own and pieces.ag_frame is not None and not pieces.ag_running:
            self._closing = asyncio.get_running_loop().create_task(pieces.aclose())

    def abort(self) -> None:
        self.close()


async def _each(pieces: Iterable[bytes]) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


class _Arriving(BodyWrapper):
    """A body that keeps to the request's timeouts and to its length, and notes when it ended."""

    def __init__(self, inner: BodySource, bounds: Bounds, timings: Timings, length: int) -> None:
        super().__init__(inner)
        self._bounds = bounds
        self._timings = timings
        self._length = length
        self._received = 0

    async def receive(self) -> bytes:
        self._bounds.check_deadline()
        piece = await self._bounds.wait(self.inner.receive())
        self._received += len(piece)
        if not piece:
            if self._received < self._length:
                raise too_short(self._received, self._length)
            self._timings.ended_at = perf_counter()
        return piece

    def check_deadline(self) -> None:
        self._bounds.check_deadline()

    def lift_deadline(self) -> None:
        self._bounds.lift_deadline()


def arrived(given: Response, request: Request, bounds: Bounds, started_at: float) -> Response:
    """
    Return a response made by hand as the network would have given it: its body is yet to be read, and decoded.

    Args:
        given: The response. One whose body is there already may be given any number of times.
        request: What it answers.
        bounds: For the body.
        started_at: When the request was sent, by `time.perf_counter`.

    Raises:
        UsageError: Its body streams, and was given before.
    """
    timings = Timings(started_at)
    timings.acquired_at = timings.sent_at = started_at
    timings.head_at = perf_counter()
    source: BodySource
    try:
        content = given.content
    except ResponseNotRead:
        source = _source_of(given, request)
    else:
        source = IterableSource([content])
    length = declared_length(given.headers)
    if has_no_body(request, given.status_code):
        source.close()
        source, length = IterableSource(()), 0
    response = Response(
        given.status_code,
        headers=given.headers,
        reason=given.reason or reason_phrase(given.status_code),
        http_version=given.http_version,
        request=request,
        extensions=given.extensions,
        # To one type checker, a property is no place for the protocol's attribute.
        source=_Arriving(source, bounds, timings, length),
        timings=timings,
    )
    response.informational = given.informational
    return response


def _source_of(given: Response, request: Request) -> BodySource:
    """Take the body out of a response that streams."""
    taken: list[BodySource] = []

    def take(source: BodySource) -> BodySource:
        taken.append(source)
        return _Taken(())

    given.wrap_body(take)
    if isinstance(taken[0], _Taken):
        raise UsageError(
            f"the answer to {shown(request)} streams its body, and was given before; let a function make each anew"
        )
    return taken[0]


class _Taken(IterableSource):
    """What is left where a body was taken away."""


def has_no_body(request: Request, status: int) -> bool:
    """Tell whether the answer ends with its head (RFC 9110, 6.4.1)."""
    return request.method == "HEAD" or status in _BODILESS or 100 <= status < 200


def declared_length(headers: Mapping[str, str]) -> int:
    """Return how many bytes a body has to have at least: what its Content-Length says, where that is what counts."""
    value = headers.get("Content-Length", "")
    if not (value.isascii() and value.isdigit()) or "Transfer-Encoding" in headers:
        return 0
    digits = value.lstrip("0") or "0"
    # Python makes no number of thousands of digits.
    return MAX_CONTENT_LENGTH if len(digits) > 19 else min(int(digits), MAX_CONTENT_LENGTH)


def too_short(received: int, length: int) -> IncompleteBody:
    """Return what the network would say of a body that ended before its Content-Length."""
    return IncompleteBody(f"the answer was cut: {received} of {length} bytes of its body came")


async def gathered(request: Request, bounds: Bounds) -> Request:
    """Return the request with its body whole, as bytes; its fields stay as they are."""
    body = request.body
    if body is None or isinstance(request.content, bytes):
        return request
    data = await bounds.wait(_joined(body, bounds))
    whole = request.replace()
    whole.body = BytesBody(data, data)
    return whole


async def _joined(body: Body, bounds: Bounds) -> bytes:
    joined = bytearray()
    async for piece in body.pieces():
        joined += piece
        bounds.progress()
    return bytes(joined)


def shown(request: Request) -> str:
    """Return method and URL for a message, without the query."""
    return f"{request.method} {request.url.with_query(None).with_fragment(None)}"
