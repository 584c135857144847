"""
A response's body on its way in: where it comes from, and the iterators over its bytes, its text, its lines and its
events.

The iterators are classes with `close`, so that nothing has to be finalised when a loop is left early.
"""

from __future__ import annotations

import asyncio
import codecs
from collections import deque
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final, Protocol

from multidict import CIMultiDict

from aiosock.errors import ContentTooLarge, RequestError, StreamConsumed
from aiosock.message.charset import LONGEST_MARK_BYTES, codec_for
from aiosock.message.decoding import PIECE_BYTES, Pipeline
from aiosock.message.request import Request

# Few bodies are event streams.
if TYPE_CHECKING:
    from aiosock.protocol.eventstream import EventParser, ServerSentEvent

# When so much has been decoded, the other tasks of the loop have their turn.
MAX_BYTES_PER_TURN: Final = 1024 * 1024
# What a piece costs besides its bytes, in bytes: many tiny pieces are work too.
PIECE_COST: Final = 1024
# The bytes of one event of an event stream, unless the caller says otherwise.
MAX_EVENT_BYTES: Final = 1024 * 1024

_NOT_BEGUN: Final[Iterator[bytes]] = iter(())


class BodySource(Protocol):
    """Where a response's body comes from."""

    @property
    def trailers(self) -> CIMultiDict[str] | None:
        """The trailers, where there are some and the body has ended."""
        ...

    async def receive(self) -> bytes:
        """Return the next piece as it came; ``b""`` when the body is complete."""
        ...

    def take_whole(self) -> bytes | None:
        """Return the whole body, and end it, if that takes no wait; else None, and it comes by `receive`."""
        ...

    def check_deadline(self) -> None:
        """Raise `TotalTimeout` when the time for the whole request is over; asked between pieces of long work."""
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


class BodyWrapper:
    """
    A source around another, for `Response.wrap_body`: override `receive`, all else is passed on.

    Args:
        inner: The source below.
    """

    def __init__(self, inner: BodySource) -> None:
        self.inner = inner

    @property
    def trailers(self) -> CIMultiDict[str] | None:
        """The trailers, where there are some and the body has ended."""
        return self.inner.trailers

    async def receive(self) -> bytes:
        """Return the next piece as it came; ``b""`` when the body is complete."""
        return await self.inner.receive()

    def take_whole(self) -> bytes | None:
        """Every piece goes through `receive`."""
        return None

    def check_deadline(self) -> None:
        """Raise `TotalTimeout` when the time for the whole request is over."""
        self.inner.check_deadline()

    def lift_deadline(self) -> None:
        """From here on the time for the whole request is not bounded any more."""
        self.inner.lift_deadline()

    def close(self) -> None:
        """Give the rest up; the connection lives if that is cheap."""
        self.inner.close()

    def abort(self) -> None:
        """Give the rest up, and the connection with it."""
        self.inner.abort()


class ContentSource:
    """A body that is there already, as a source."""

    def __init__(self, content: bytes, trailers: CIMultiDict[str] | None) -> None:
        self.trailers = trailers
        self._content = content

    async def receive(self) -> bytes:
        content, self._content = self._content, b""
        return content

    def take_whole(self) -> bytes | None:
        return None

    def check_deadline(self) -> None:
        pass

    def lift_deadline(self) -> None:
        pass

    def close(self) -> None:
        pass

    def abort(self) -> None:
        pass


class IncomingBody:
    """
    A response's body, and how far it has been read.

    Args:
        source: Where it comes from; None where it is there already.
        content: The whole of it, decoded; None until it is there.
        request: Whose answer it is, for errors.
        direct: The source may be asked for the whole of it at once.

    Attributes:
        whole: All that the source gave, taken at once and still to be decoded; None where that is not so.
        started: Somebody iterates over it, or has.
        ended: It was read to its end.
        closed: What was left of it has been given up.
    """

    __slots__ = ("closed", "content", "direct", "ended", "request", "source", "started", "whole")

    def __init__(
        self, source: BodySource | None, content: bytes | None, request: Request | None, direct: bool = False
    ) -> None:
        self.source = source
        self.content = content
        self.request = request
        self.direct = direct
        self.whole: bytes | None = None
        self.started = False
        self.ended = False
        self.closed = False

    def close(self) -> None:
        """Give the rest up; the connection lives if that is cheap."""
        self.closed = True
        if self.source is not None:
            self.source.close()

    def abort(self) -> None:
        """Give the rest up, and the connection with it."""
        self.closed = True
        if self.source is not None:
            self.source.abort()

    def __getstate__(self) -> tuple[None, dict[str, Any]]:
        # What has not been read stays behind with its connection when a response is pickled.
        state = {name: getattr(self, name) for name in self.__slots__}
        return None, state | {"source": None, "whole": None, "closed": True}


class BodyIterator:
    """
    Iterates over a body, decoding it; made by `Response.iter_bytes` and `Response.iter_raw`.

    Breaking out of the loop leaves the body as it is: `close`, or the end of the ``async with`` block that opened
    the response, gives it up. So does whatever is raised while it is read, cancellation included: what comes after
    a gap would not be the body.

    Args:
        body: The body.
        codings: What is to be undone, in the order in which it was applied.
        chunk_size: The bytes of each piece but the last; None hands pieces on the moment they arrive.
    """

    __slots__ = ("_body", "_chunk_size", "_codings", "_gathered", "_pieces", "_pipeline", "_this_turn")

    def __init__(self, body: IncomingBody, codings: tuple[str, ...], chunk_size: int | None) -> None:
        self._body = body
        self._codings = codings
        self._chunk_size = chunk_size
        self._gathered: bytearray | None = None
        self._pieces = _NOT_BEGUN
        self._pipeline: Pipeline | None = None
        self._this_turn = 0

    def __aiter__(self) -> BodyIterator:
        return self

    async def __anext__(self) -> bytes:
        if self._chunk_size is None:
            piece = await self.next_piece()
        else:
            piece = await self._next_chunk(self._chunk_size)
        if not piece:
            raise StopAsyncIteration
        return piece

    async def close(self) -> None:
        """Give up what is left of the body; never waits."""
        self._body.close()

    async def _next_chunk(self, size: int) -> bytes:
        if self._gathered is None:
            self._gathered = bytearray()
        gathered = self._gathered
        while len(gathered) < size:
            piece = await self.next_piece()
            if not piece:
                break
            gathered += piece
        chunk = bytes(memoryview(gathered)[:size])
        del gathered[:size]
        return chunk

    async def next_piece(self) -> bytes:
        """
        Return the next piece, whatever the chunk size; ``b""`` at the end.

        Raises:
            StreamConsumed: The body was iterated already, or given up before its end.
            RequestError: It could not be read.
        """
        if self._pieces is _NOT_BEGUN:
            self._begin()
        body = self._body
        source = body.source
        if body.ended or body.content is not None:
            return next(self._pieces, b"")
        if body.closed or source is None:
            raise StreamConsumed("the body was given up before its end; what is left of it cannot be read")
        try:
            if self._codings or body.whole is not None:
                return await self._decode(source)
            piece = await source.receive()
            body.ended = not piece
            return piece
        except BaseException as error:
            body.abort()
            if isinstance(error, RequestError) and error.request is None:
                error.request = body.request
            raise

    def _begin(self) -> None:
        body = self._body
        content = body.content
        if content is not None:
            starts = range(0, len(content), PIECE_BYTES)
            self._pieces = (content[start : start + PIECE_BYTES] for start in starts)
            return
        if body.started:
            raise StreamConsumed("the body can be iterated once, and was; read() keeps it")
        body.started = True
        self._pieces = iter(())

    async def _decode(self, source: BodySource) -> bytes:
        pipeline = self._pipeline
        if pipeline is None:
            pipeline = self._pipeline = Pipeline(self._codings)
        while True:
            for piece in self._pieces:
                # An empty piece is a breath after work that came to nothing.
                self._this_turn += len(piece) + PIECE_COST if piece else PIECE_BYTES
                if self._this_turn > MAX_BYTES_PER_TURN:
                    self._this_turn = 0
                    await asyncio.sleep(0)
                    source.check_deadline()
                if piece:
                    return piece
            data = self._body.whole
            if data is not None:
                self._body.whole = None
            else:
                data = await source.receive()
            if not data:
                pipeline.finish()
                self._body.ended = True
                return b""
            if not pipeline:
                return data
            self._pieces = pipeline.decode(data)


class TextIterator:
    """
    Iterates over a body as text; made by `Response.iter_text`.

    Args:
        body: Gives the bytes.
        find_encoding: Returns the encoding of a body that starts with these bytes.
    """

    __slots__ = ("_body", "_codec", "_decoder", "_ended", "_find_encoding")

    def __init__(self, body: BodyIterator, find_encoding: Callable[[bytes], str]) -> None:
        self._body = body
        self._find_encoding = find_encoding
        self._codec = ""
        self._decoder: codecs.IncrementalDecoder | None = None
        self._ended = False

    def __aiter__(self) -> TextIterator:
        return self

    async def __anext__(self) -> str:
        while not self._ended:
            if self._decoder is None:
                piece, self._decoder = await self._begin()
            else:
                piece = await self._body.next_piece()
                self._ended = not piece
            text = self._decode(self._decoder, piece)
            if text:
                return text
        raise StopAsyncIteration

    async def _begin(self) -> tuple[bytes, codecs.IncrementalDecoder]:
        """Return as much of the body as shows its byte order mark, and the decoder that this decides on."""
        start = b""
        while len(start) < LONGEST_MARK_BYTES and not self._ended:
            piece = await self._body.next_piece()
            self._ended = not piece
            start += piece
        self._codec = codec_for(self._find_encoding(start), start)
        return start, codecs.getincrementaldecoder(self._codec)("replace")

    def _decode(self, decoder: codecs.IncrementalDecoder, piece: bytes) -> str:
        try:
            return decoder.decode(piece, self._ended)
        except UnicodeError:
            # The stateful ones of East Asia give up on endless escape sequences.
            decoder.reset()
            return "\ufffd" + codecs.decode(piece, self._codec, "replace")

    async def close(self) -> None:
        """Give up what is left of the body; never waits."""
        await self._body.close()


class LineIterator:
    """
    Iterates over the lines of a body; made by `Response.iter_lines`.

    Args:
        text: Gives the text.
    """

    __slots__ = ("_ended", "_lines", "_open", "_text")

    def __init__(self, text: TextIterator) -> None:
        self._text = text
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
            text = self._open.pop() + text
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
        """Give up what is left of the body; never waits."""
        await self._text.close()


class EventIterator:
    """
    Iterates over the events of a body; made by `Response.iter_events`.

    An event is there as soon as the bytes are that end it. One that the body's end cuts off is dropped.

    Args:
        body: The body.
        pieces: Gives its bytes.
        parser: Makes events of them.
    """

    __slots__ = ("_body", "_events", "_parser", "_pieces")

    def __init__(self, body: IncomingBody, pieces: BodyIterator, parser: EventParser) -> None:
        self._body = body
        self._pieces = pieces
        self._parser = parser
        self._events: Iterator[ServerSentEvent] = iter(())

    @property
    def last_event_id(self) -> str:
        """What a request that takes up the stream after the latest event says as Last-Event-ID."""
        return self._parser.last_event_id

    @property
    def retry(self) -> int | None:
        """How many milliseconds to wait before that, as far as the stream has said; at most a day."""
        return self._parser.retry

    def __aiter__(self) -> EventIterator:
        return self

    async def __anext__(self) -> ServerSentEvent:
        while True:
            event = self.take()
            if event is not None:
                return event
            piece = await self._pieces.next_piece()
            if not piece:
                raise StopAsyncIteration
            self._events = self._parser.feed(piece)

    def take(self) -> ServerSentEvent | None:
        """
        Return the next event if its bytes have been read; None where it has to be waited for.

        Raises:
            ContentTooLarge: It passes the limit.
        """
        try:
            return next(self._events, None)
        except ContentTooLarge as error:
            self._body.abort()
            error.request = self._body.request
            raise

    async def close(self) -> None:
        """Give up what is left of the body; never waits."""
        await self._pieces.close()
