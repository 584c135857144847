"""A body comes as bytes, text or lines, the same however it was cut, and never looks whole when it is not."""

from __future__ import annotations

import asyncio
import codecs
import gzip
import pickle
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from multidict import CIMultiDict

from aiosock.errors import ContentTooLarge, DecodingError, ReadError, StreamConsumed
from aiosock.message.charset import codec_for
from aiosock.message.iteration import BodyIterator, EventIterator, IncomingBody, LineIterator, TextIterator
from aiosock.message.request import Request
from aiosock.protocol.eventstream import EventParser, ServerSentEvent


class Source:
    """Gives the pieces of a body; an exception among them is raised."""

    def __init__(self, *pieces: bytes | BaseException) -> None:
        self.pieces = list(pieces)
        self.trailers: CIMultiDict[str] | None = None
        self.log: list[str] = []

    async def receive(self) -> bytes:
        piece = self.pieces.pop(0) if self.pieces else b""
        if isinstance(piece, BaseException):
            raise piece
        return piece

    def check_deadline(self) -> None:
        pass

    def lift_deadline(self) -> None:
        self.log.append("lift_deadline")

    def close(self) -> None:
        self.log.append("close")

    def abort(self) -> None:
        self.log.append("abort")


class Waiting(Source):
    """A source whose next piece never comes."""

    async def receive(self) -> bytes:
        if not self.pieces:
            await asyncio.get_running_loop().create_future()
        return await super().receive()


REQUEST = Request("GET", "http://h/")


def pickled(body: IncomingBody) -> IncomingBody:
    again: IncomingBody = pickle.loads(pickle.dumps(body))  # noqa: S301  # these bytes are ours
    return again


def incoming(*pieces: bytes | BaseException) -> IncomingBody:
    return IncomingBody(Source(*pieces), None, REQUEST)


def log_of(body: IncomingBody) -> list[str]:
    assert isinstance(body.source, Source)
    return body.source.log


def cut(data: bytes, sizes: Iterable[int]) -> list[bytes]:
    pieces = []
    for size in sizes:
        pieces.append(data[:size])
        data = data[size:]
    return [piece for piece in [*pieces, data] if piece]


def text_of(*pieces: bytes, encoding: str = "utf-8") -> TextIterator:
    return TextIterator(BodyIterator(incoming(*pieces), (), None), lambda start: encoding)


def finish(iterator: Any) -> list[Any]:
    """Exhaust an iterator whose source never waits."""

    async def gather() -> list[Any]:
        return [item async for item in iterator]

    run = gather()
    try:
        while True:
            run.send(None)
    except StopIteration as stop:
        result: list[Any] = stop.value
        return result


SIZES = st.lists(st.integers(1, 9), max_size=30)


# Bytes


async def test_pieces_are_handed_on_as_they_arrive() -> None:
    body = incoming(b"a", b"bc", b"d")
    iterator = BodyIterator(body, (), None)
    assert [piece async for piece in iterator] == [b"a", b"bc", b"d"]
    assert body.ended
    assert log_of(body) == []
    # The end stays the end.
    assert [piece async for piece in iterator] == []
    assert await iterator.next_piece() == b""


@given(data=st.binary(max_size=100), sizes=SIZES, size=st.integers(1, 30), coded=st.booleans())
def test_chunks_have_their_size_but_for_the_last(data: bytes, sizes: list[int], size: int, coded: bool) -> None:
    codings = ("gzip",) if coded else ()
    pieces = cut(gzip.compress(data) if coded else data, sizes)
    chunks = finish(BodyIterator(incoming(*pieces), codings, size))
    assert chunks == [data[start : start + size] for start in range(0, len(data), size)]


async def test_what_is_there_already_is_iterated_any_number_of_times() -> None:
    data = bytes(range(256)) * 1000
    body = IncomingBody(None, data, None)
    for _ in range(2):
        pieces = [piece async for piece in BodyIterator(body, ("gzip",), None)]
        assert len(pieces) > 1
        assert b"".join(pieces) == data
    assert [len(chunk) async for chunk in BodyIterator(body, (), 100_000)] == [100_000, 100_000, 56_000]
    assert [piece async for piece in BodyIterator(IncomingBody(None, b"", None), (), None)] == []


async def test_a_body_is_given_out_once() -> None:
    body = incoming(b"a", b"b")
    first, second = BodyIterator(body, (), None), BodyIterator(body, (), None)
    assert await anext(first) == b"a"
    with pytest.raises(StreamConsumed, match="can be iterated once, and was"):
        await anext(second)
    # The other one goes on undisturbed.
    assert log_of(body) == []
    assert [piece async for piece in first] == [b"b"]
    with pytest.raises(StreamConsumed):
        await anext(BodyIterator(body, (), None))


@pytest.mark.parametrize("give_up", ["close", "abort"])
@pytest.mark.parametrize("begun", [True, False])
async def test_a_body_given_up_does_not_look_whole(give_up: str, begun: bool) -> None:
    body = incoming(b"a", b"b")
    iterator = BodyIterator(body, (), None)
    if begun:
        await anext(iterator)
    getattr(body, give_up)()
    assert log_of(body) == [give_up]
    for _ in range(2):
        with pytest.raises(StreamConsumed, match="given up before its end"):
            await anext(iterator)


async def test_closing_an_iterator_gives_the_body_up() -> None:
    makers: list[Callable[[BodyIterator], Any]] = [
        lambda iterator: iterator,
        lambda iterator: TextIterator(iterator, lambda start: "utf-8"),
        lambda iterator: LineIterator(TextIterator(iterator, lambda start: "utf-8")),
    ]
    for make in makers:
        body = incoming(b"a\n" * 10, b"b")
        iterator = make(BodyIterator(body, (), None))
        await anext(iterator)
        await iterator.close()
        assert log_of(body) == ["close"]


async def test_after_an_error_there_is_no_end() -> None:
    error = ReadError("broken")
    body = incoming(b"a", error, b"b")
    iterator = BodyIterator(body, (), None)
    assert await anext(iterator) == b"a"
    with pytest.raises(ReadError) as caught:
        await anext(iterator)
    assert caught.value is error
    assert error.request is REQUEST
    assert log_of(body) == ["abort"]
    with pytest.raises(StreamConsumed):
        await anext(iterator)


async def test_an_error_that_knows_its_request_keeps_it() -> None:
    error = ReadError("broken")
    error.request = other = Request("GET", "http://other/")
    with pytest.raises(ReadError):
        await anext(BodyIterator(incoming(error), (), None))
    assert error.request is other


async def test_after_a_cancellation_there_is_no_end() -> None:
    body = IncomingBody(Waiting(b"a"), None, REQUEST)
    lines = LineIterator(TextIterator(BodyIterator(body, (), None), lambda start: "utf-8"))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await anext(lines)
    assert log_of(body) == ["abort"]
    with pytest.raises(StreamConsumed):
        await anext(lines)


# Codings


@pytest.mark.parametrize("data", [b"garbage", gzip.compress(b"abc", mtime=0)[:-1]])
async def test_what_cannot_be_decoded_fails_and_aborts(data: bytes) -> None:
    body = incoming(data)
    with pytest.raises(DecodingError) as caught:
        [piece async for piece in BodyIterator(body, ("gzip",), None)]
    assert caught.value.request is REQUEST
    assert log_of(body) == ["abort"]


async def test_too_many_codings_abort() -> None:
    body = incoming(b"a")
    with pytest.raises(DecodingError):
        await anext(BodyIterator(body, ("gzip",) * 6, None))
    assert log_of(body) == ["abort"]


async def test_a_body_without_a_byte_is_whole_whatever_its_coding() -> None:
    assert [piece async for piece in BodyIterator(incoming(), ("gzip", "br"), None)] == []


@pytest.mark.parametrize(
    ("bomb", "codings"),
    [
        (gzip.compress(bytes(20_000_000), mtime=0), ("gzip",)),
        (gzip.compress(gzip.compress(b"", mtime=0) + bytes(20_000_000), mtime=0), ("gzip", "gzip")),
        (gzip.compress(gzip.compress(b"a", mtime=0) * 30_000, mtime=0), ("gzip", "gzip")),
    ],
    ids=["large", "swallowed", "tiny pieces"],
)
@pytest.mark.parametrize("size", [100, 10_000_000])
async def test_the_loop_has_its_turn_while_a_bomb_is_decoded(bomb: bytes, codings: tuple[str, ...], size: int) -> None:
    turns = 0

    def turn() -> None:
        nonlocal turns, handle
        turns += 1
        handle = loop.call_soon(turn)

    loop = asyncio.get_running_loop()
    handle = loop.call_soon(turn)
    pieces = [bomb[start : start + size] for start in range(0, len(bomb), size)]
    async for _ in BodyIterator(incoming(*pieces), codings, None):
        pass
    handle.cancel()
    assert turns >= 15  # One for each megabyte, at least.


# Text


async def test_characters_are_never_cut_apart() -> None:
    data = "aä€😀".encode()
    texts = [text async for text in text_of(*(data[at : at + 1] for at in range(len(data))))]
    assert "".join(texts) == "aä€😀"
    assert "\ufffd" not in "".join(texts)
    assert all(texts)


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-16", "utf-16-le", "utf-32", "cp1252", "shift_jis", "gb18030", "big5"]
)
@given(text=st.text("aäяあ漢\ufeff\n", max_size=20), sizes=SIZES)
def test_text_is_the_same_however_it_is_cut(encoding: str, text: str, sizes: list[int]) -> None:
    data = text.encode(encoding, "replace")
    start = data[:4]
    whole = codecs.decode(data, codec_for(encoding, start), "replace")
    assert "".join(finish(text_of(*cut(data, sizes), encoding=encoding))) == whole


@given(data=st.binary(max_size=40), sizes=SIZES)
def test_bytes_that_do_not_fit_are_replaced_however_they_are_cut(data: bytes, sizes: list[int]) -> None:
    whole = data.decode("utf-8-sig", "replace")
    assert "".join(finish(text_of(*cut(data, sizes)))) == whole


@pytest.mark.parametrize("encoding", ["iso2022_jp", "iso2022_kr", "utf-16", "utf-32", "utf-7", "hz"])
@given(
    data=st.lists(st.sampled_from([b"\x1b", b"$", b"(B", b"A", b"+", b"~", b"\xff", b"\n"])).map(b"".join), sizes=SIZES
)
@example(b"\x1b$" * 20, [1] * 30)
@example(b"\x1b$(((((((((((((((", [1] * 30)
def test_no_bytes_are_too_bad_for_text(encoding: str, data: bytes, sizes: list[int]) -> None:
    texts = finish(text_of(*cut(data, sizes), encoding=encoding))
    assert all(texts)


async def test_escape_sequences_without_end_are_replaced() -> None:
    texts = [text async for text in text_of(b"abcd", *[b"\x1b$(((("] * 5, b"e", encoding="iso2022_jp")]
    assert "".join(texts).startswith("abcd")
    assert "\ufffd" in "".join(texts)


async def test_the_encoding_is_found_by_the_first_bytes() -> None:
    starts = []

    def find(start: bytes) -> str:
        starts.append(start)
        return "utf-8"

    for pieces, start in [
        ((b"a", b"b", b"c", b"d", b"e"), b"abcd"),
        ((b"abcdef",), b"abcdef"),
        ((b"a",), b"a"),
        ((), b""),
    ]:
        texts = TextIterator(BodyIterator(incoming(*pieces), (), None), find)
        assert "".join([text async for text in texts]) == b"".join(pieces).decode()
        assert starts.pop() == start
        assert starts == []


# Lines


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("", []),
        ("a", ["a"]),
        ("a\n", ["a"]),
        ("a\nb", ["a", "b"]),
        ("a\r\nb\rc\nd", ["a", "b", "c", "d"]),
        ("\n", [""]),
        ("\r", [""]),
        ("\r\n", [""]),
        ("\n\r", ["", ""]),
        ("\r\r\n\n", ["", "", ""]),
        ("a\r", ["a"]),
        # These end lines for str.splitlines, not here.
        ("a\x0bb\x0cc\x1cd\x85e\u2028f", ["a\x0bb\x0cc\x1cd\x85e\u2028f"]),
    ],
)
def test_lines(text: str, lines: list[str]) -> None:
    assert finish(LineIterator(text_of(text.encode()))) == lines


@given(text=st.text("aä\r\n", max_size=40), sizes=SIZES)
@example("a\r\nb", [2])
@example("aaaa\r\r\n", [5, 1])
def test_lines_are_the_same_however_they_are_cut(text: str, sizes: list[int]) -> None:
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    if not lines[-1]:
        lines.pop()
    assert finish(LineIterator(text_of(*cut(text.encode(), sizes)))) == lines


async def test_a_long_line_costs_what_it_is_long() -> None:
    # Joined anew for each piece, this line would cost a hundred thousand million characters.
    pieces = [b"x" * 1000] * 20_000
    assert [len(line) async for line in LineIterator(text_of(*pieces, b"\ny"))] == [20_000_000, 1]


# Travel


def test_what_was_not_read_stays_behind_when_pickled() -> None:
    with pytest.raises(StreamConsumed):
        finish(BodyIterator(pickled(incoming(b"a")), (), None))
    whole = incoming(b"a")
    whole.content = b"a"
    assert finish(BodyIterator(pickled(whole), (), None)) == [b"a"]


# Events


def events_of(body: IncomingBody, limit: int | None = None, codings: tuple[str, ...] = ()) -> EventIterator:
    return EventIterator(body, BodyIterator(body, codings, None), EventParser(limit, "0"))


STREAM = b"id: 1\ndata: a\n\nretry: 5\n: hello\n\ndata: b\n\nid: 2\ndata: lost"


@given(sizes=SIZES, coded=st.booleans())
def test_events_are_the_same_however_the_body_was_cut(sizes: list[int], coded: bool) -> None:
    pieces = cut(gzip.compress(STREAM) if coded else STREAM, sizes)
    events = events_of(incoming(*pieces), codings=("gzip",) if coded else ())
    assert finish(events) == [ServerSentEvent(data="a", id="1"), ServerSentEvent(data="b", id="1", retry=None)]
    assert (events.last_event_id, events.retry) == ("1", 5)
    # The end stays the end.
    assert finish(events) == []


async def test_an_event_is_there_before_anything_comes_after_it() -> None:
    events = events_of(IncomingBody(Waiting(b"data: a\r", b"\rdata: b\n\ndata"), None, REQUEST))
    assert [(await anext(events)).data, (await anext(events)).data] == ["a", "b"]
    waiting = asyncio.ensure_future(anext(events))
    await asyncio.sleep(0)
    assert not waiting.done()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_the_ids_of_events_go_on_from_an_earlier_stream() -> None:
    events = events_of(incoming(b"data: a\n\nid: 7\ndata: b\n\n"))
    assert (events.last_event_id, events.retry) == ("0", None)
    assert [(event.id, events.last_event_id) async for event in events] == [("0", "0"), ("7", "7")]


async def test_an_event_that_is_too_large_gives_the_body_up_and_names_the_request() -> None:
    body = incoming(b"data: a\n\ndata: 1234567890\n\ndata: b\n\n", b"data: c\n\n")
    events = events_of(body, 10)
    assert (await anext(events)).data == "a"
    with pytest.raises(ContentTooLarge, match=r"larger than 10 bytes \[GET http://h/\]"):
        await anext(events)
    assert log_of(body) == ["abort"]
    with pytest.raises(StreamConsumed):
        await anext(events)


async def test_what_breaks_a_body_breaks_its_events() -> None:
    body = incoming(b"data: a\n\ndata: b\n", ReadError("gone"))
    events = events_of(body)
    assert (await anext(events)).data == "a"
    with pytest.raises(ReadError):
        await anext(events)
    assert log_of(body) == ["abort"]


async def test_events_can_be_given_up() -> None:
    body = incoming(b"data: a\n\n", b"data: b\n\n")
    events = events_of(body)
    await anext(events)
    await events.close()
    assert log_of(body) == ["close"]
    with pytest.raises(StreamConsumed):
        await anext(events)
