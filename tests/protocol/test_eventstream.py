"""Event streams: the standard's examples and rules (HTML, 9.2.6), however the bytes are cut, whatever they are."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from aiosock.errors import ContentTooLarge
from aiosock.protocol.eventstream import MAX_RETRY_MILLISECONDS, EventParser, ServerSentEvent

Event = ServerSentEvent


def parse(*pieces: bytes, limit: int | None = None, last_event_id: str = "") -> list[Event]:
    parser = EventParser(limit, last_event_id)
    return [event for piece in pieces for event in parser.feed(piece)]


def data_of(*pieces: bytes) -> list[str]:
    return [event.data for event in parse(*pieces)]


def outcome(pieces: Iterable[bytes], limit: int | None) -> tuple[list[Event], bool, str, int | None]:
    """Return the events, whether it got too much, and what the parser knows then."""
    parser = EventParser(limit)
    events: list[Event] = []
    try:
        for piece in pieces:
            for event in parser.feed(piece):
                events.append(event)
    except ContentTooLarge:
        return events, True, parser.last_event_id, parser.retry
    return events, False, parser.last_event_id, parser.retry


def cut(data: bytes, places: Iterable[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[start:end] for start, end in pairwise(edges)]


# The examples of the standard

STOCKS = b"""data: YHOO
data: +2
data: 10

"""
COMMENTED = b""": test stream

data: first event
id: 1

data:second event
id

data:  third event

"""


@pytest.mark.parametrize(
    ("stream", "events"),
    [
        (
            b"data: This is the first message.\n\ndata: This is the second message, it\ndata: has two lines.\n\n"
            b"data: This is the third message.\n\n",
            [
                Event(data="This is the first message."),
                Event(data="This is the second message, it\nhas two lines."),
                Event(data="This is the third message."),
            ],
        ),
        (
            b"event: add\ndata: 73857293\n\nevent: remove\ndata: 2153\n\nevent: add\ndata: 113411\n\n",
            [Event("add", "73857293"), Event("remove", "2153"), Event("add", "113411")],
        ),
        (STOCKS, [Event(data="YHOO\n+2\n10")]),
        (COMMENTED, [Event(data="first event", id="1"), Event(data="second event"), Event(data=" third event")]),
        (b"data\n\ndata\ndata\n\ndata:", [Event(), Event(data="\n")]),
        (b"data:test\n\ndata: test\n\n", [Event(data="test"), Event(data="test")]),
    ],
    ids=["messages", "types", "stocks", "comments and ids", "empty data", "leading space"],
)
def test_the_examples_of_the_standard(stream: bytes, events: list[Event]) -> None:
    assert parse(stream) == events
    assert parse(*(stream[at : at + 1] for at in range(len(stream)))) == events
    for line_end in (b"\r", b"\r\n"):
        assert parse(stream.replace(b"\n", line_end)) == events


# What browsers are tested with


@pytest.mark.parametrize(
    ("stream", "data"),
    [
        (b"data:\0\n\n", ["\0"]),
        (b"data:test\r\ndata\ndata:test\r\n\r\n", ["test\n\ntest"]),
        (b"data:\ttest\rdata: \ndata:test\n\n", ["\ttest\n\ntest"]),
        (b"data:test\n data\ndata\nfoobar:xxx\njustsometext\n:thisisacommentyay\ndata:test\n\n", ["test\n\ntest"]),
        (b"data:1\r:\0\n:\r\ndata:2\n:" + b"x" * 2049 + b"\rdata:3\n:data:fail\r:x\ndata:4\n\n", ["1\n2\n3\n4"]),
        (
            b"data:\0\ndata:  2\rData:1\ndata\0:2\ndata:1\r\0data:4\nda-ta:3\rdata_5\ndata:3\rdata:\r\n data:32\n"
            b"data:4\n\n",
            ["\0\n 2\n1\n3\n\n4"],
        ),
        (b"data: \xe2\x80\xa6\n\n", ["…"]),
        (b"\xef\xbb\xbfdata:1\n\n\xef\xbb\xbfdata:2\n\ndata:3\n\n", ["1", "3"]),
        (b"\xef\xbb\xbf\xef\xbb\xbfdata:1\n\ndata:2\n\n", ["2"]),
        (b"\n\xef\xbb\xbfdata:1\n\ndata:2\n\n", ["2"]),
        (b"data:a:b\n\n", ["a:b"]),
        (b"data : a\n\n", []),
        (b"data: \xff\xe2\x80\ndata: \xed\xa0\x80\n\n", ["\ufffd\ufffd\n\ufffd\ufffd\ufffd"]),
        (b"data: \xef\xbb\xbfx\n\n", ["\ufeffx"]),
    ],
    ids=[
        "nul",
        "line ends",
        "leading tab",
        "unknown fields",
        "comments",
        "field names",
        "utf-8",
        "byte order mark",
        "two byte order marks",
        "byte order mark after the start",
        "colon in data",
        "space before the colon",
        "not utf-8",
        "mark in data",
    ],
)
def test_odd_streams_are_read_as_browsers_do(stream: bytes, data: list[str]) -> None:
    assert data_of(stream) == data
    assert data_of(*(stream[at : at + 1] for at in range(len(stream)))) == data


def test_an_event_ends_with_the_cr_that_ends_it_and_the_lf_after_it_ends_nothing() -> None:
    parser = EventParser(None)
    assert [event.data for event in parser.feed(b"data: a\r\n\r")] == ["a"]
    assert list(parser.feed(b"")) == []
    # Were the LF a line of its own, this event would be cut in two.
    assert list(parser.feed(b"\n")) == []
    assert list(parser.feed(b"data: b\r")) == []
    assert list(parser.feed(b"\ndata: c\r")) == []
    assert [event.data for event in parser.feed(b"\r")] == ["b\nc"]
    assert list(parser.feed(b"\n\n\n")) == []


def test_an_unfinished_event_is_dropped_with_its_id() -> None:
    parser = EventParser(None)
    assert list(parser.feed(b"id: 1\ndata: a\n\nid: 2\nretry: 5\ndata: b\n")) == [Event(data="a", id="1")]
    assert (parser.last_event_id, parser.retry) == ("1", 5)


# Types and IDs


def test_a_type_is_for_one_event_and_the_last_of_several_counts() -> None:
    stream = b"event: a\nevent: b\ndata\n\ndata\n\nevent: c\n\ndata\n\nevent: d\nevent:\ndata\n\nevent: \xff\ndata\n\n"
    assert [event.event for event in parse(stream)] == ["b", "message", "message", "message", "\ufffd"]


def test_an_id_stays_until_another_or_an_empty_one_comes() -> None:
    stream = "id: …\ndata\n\ndata\n\nid: 2\n\ndata\n\nid\ndata\n\n".encode()
    assert [event.id for event in parse(stream)] == ["…", "…", "2", ""]


def test_an_id_without_data_is_no_event_and_counts() -> None:
    parser = EventParser(None)
    assert list(parser.feed(b"id: 5\n\n")) == []
    assert parser.last_event_id == "5"


def test_an_id_with_a_nul_is_ignored_and_told(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, "aiosock.protocol"):
        assert [event.id for event in parse(b"id: 1\ndata\n\nid: secret\0\ndata\n\n")] == ["1", "1"]
    assert caplog.messages == ["ignored an event ID of 7 bytes: it has a NUL"]


def test_the_id_of_an_earlier_stream_goes_on() -> None:
    parser = EventParser(None, "7")
    assert parser.last_event_id == "7"
    assert [event.id for event in parser.feed(b"data\n\nid: 8\ndata\n\n")] == ["7", "8"]
    assert parser.last_event_id == "8"


def test_what_the_parser_knows_is_what_was_taken_from_it() -> None:
    parser = EventParser(None)
    events = parser.feed(b"id: 1\ndata\n\nid: 2\ndata\n\n")
    assert next(events).id == parser.last_event_id == "1"
    assert next(events).id == parser.last_event_id == "2"


# The reconnection time


@pytest.mark.parametrize(
    ("value", "retry"),
    [
        ("0", 0),
        ("1000", 1000),
        ("007", 7),
        ("0" * 5000 + "5", 5),
        ("86400000", MAX_RETRY_MILLISECONDS),
        ("86400001", MAX_RETRY_MILLISECONDS),
        ("9" * 5000, MAX_RETRY_MILLISECONDS),
    ],
    ids=["0", "1000", "007", "many zeros", "a day", "over a day", "many digits"],
)
def test_a_reconnection_time_is_read_and_at_most_a_day(value: str, retry: int) -> None:
    parser = EventParser(None)
    assert list(parser.feed(f"retry: {value}\ndata: a\n\ndata: b\n\n".encode())) == [
        Event(data="a", retry=retry),
        Event(data="b"),
    ]
    assert parser.retry == retry


@pytest.mark.parametrize("value", ["", "1000x", "-1", "+1", "1.5", " 1", "1 ", "1_0", "٣"])
def test_a_reconnection_time_that_is_not_all_ascii_digits_is_ignored_and_told(
    value: str, caplog: pytest.LogCaptureFixture
) -> None:
    parser = EventParser(None)
    with caplog.at_level(logging.DEBUG, "aiosock.protocol"):
        assert list(parser.feed(f"retry: 3000\nretry: {value}\ndata\n\n".encode())) == [Event(retry=3000)]
    assert parser.retry == 3000
    assert caplog.messages[0].startswith("ignored a reconnection time of ")


def test_a_reconnection_time_needs_no_event() -> None:
    parser = EventParser(None)
    assert list(parser.feed(b"retry: 10\n\ndata\n\n")) == [Event()]
    assert parser.retry == 10


# Too much


@pytest.mark.parametrize(
    ("stream", "events"),
    [
        (b"data:12345\n\n", 1),
        (b"data:123456\n\n", 0),
        (b"data\n\ndata:123456", 1),
        (b"data\n\n:123456789\n:1234567890", 1),
        (b"data\n\n" + b"x" * 11, 1),
        (b"data\ndata\n\ndata:\ndata:\n\n", 2),
        (b"data\ndata\ndata\n\n", 0),
    ],
    ids=["fits", "long line", "line without an end", "comment", "unknown field", "lines that fit", "many lines"],
)
def test_an_event_is_bounded_and_so_is_a_line(stream: bytes, events: int) -> None:
    too_much = events < (2 if stream.count(b"\n\n") > 1 else 1) or not stream.endswith(b"\n\n")
    for pieces in ([stream], [stream[at : at + 1] for at in range(len(stream))]):
        found, refused, *_ = outcome(pieces, 10)
        assert (len(found), refused) == (events, too_much)


def test_what_is_too_large_says_so_and_nothing_comes_after_it() -> None:
    parser = EventParser(10)
    with pytest.raises(ContentTooLarge, match="larger than 10 bytes"):
        list(parser.feed(b"data:123456\n\n"))
    with pytest.raises(ContentTooLarge):
        list(parser.feed(b"\ndata\n\n"))


def test_comments_are_not_counted_together() -> None:
    assert len(parse(*[b":ping\n"] * 1000, b"data: a\n", *[b":ping\nfield\n"] * 1000, b"\n", limit=10)) == 1


def test_without_a_limit_anything_fits() -> None:
    assert len(parse(b"data:" + b"x" * 5_000_000, b"\n\n", limit=None)[0].data) == 5_000_000


def test_time_is_linear_in_the_bytes_also_one_by_one() -> None:
    def seconds(size: int) -> float:
        parser, started = EventParser(None), time.process_time()
        for _ in range(size):
            for _event in parser.feed(b"x"):
                raise AssertionError
        list(parser.feed(b"data\n" * size + b"\n"))
        return time.process_time() - started

    small = min(seconds(20_000) for _ in range(3))
    # Were it quadratic this would be 64 times as much.
    assert min(seconds(160_000) for _ in range(3)) < 24 * small


# Whatever comes

LINES = st.sampled_from(
    [
        b"data",
        b"data:",
        b"data: a",
        b"data:  b\xc3\xa4",
        b"data: \xff\xe2\x80",
        b"event: e",
        b"event",
        b"id: 1",
        b"id",
        b"id: \0",
        b"retry: 1",
        b"retry: x",
        b": c",
        b"\xef\xbb\xbfdata: m",
        b"",
        b"",
        b"unknown: x",
    ]
)
STREAMS = st.lists(st.tuples(LINES, st.sampled_from([b"\n", b"\r", b"\r\n"]))).map(
    lambda lines: b"".join(part for line in lines for part in line)
)
PLACES = st.lists(st.integers(0, 1000), max_size=20)


@given(stream=STREAMS | st.binary(), places=PLACES, limit=st.none() | st.integers(1, 30))
@example(stream=b"data: a\r\n\r\n", places=[8, 10], limit=None)
def test_the_events_are_the_same_however_the_stream_is_cut(stream: bytes, places: list[int], limit: int | None) -> None:
    whole = outcome([stream], limit)
    assert outcome(cut(stream, places), limit) == whole
    assert outcome([stream[at : at + 1] for at in range(len(stream))], limit) == whole


def by_the_book(text: str) -> list[Event]:
    """The standard's algorithm to the letter, on the whole of a decoded stream."""
    events: list[Event] = []
    data = kind = last_id = ""
    retry: int | None = None
    *lines, _ = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n").split("\n")
    for line in lines:
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if line == "":
            if data:
                events.append(Event(kind or "message", data[:-1], last_id, retry))
            data, kind, retry = "", "", None
        elif name == "data":
            data += value + "\n"
        elif name == "event":
            kind = value
        elif name == "id" and "\0" not in value:
            last_id = value
        elif name == "retry" and value.isascii() and value.isdigit():
            retry = int(value)
    return events


@given(stream=STREAMS | st.binary())
def test_it_does_what_the_standard_says(stream: bytes) -> None:
    assert parse(stream) == by_the_book(stream.decode("utf-8", "replace"))


# Events


def test_an_event_is_a_frozen_value() -> None:
    with pytest.raises(AttributeError):
        Event().data = "x"  # type: ignore[misc]  # that is the point
    assert {Event(data="a"), Event("message", "a", "", None)} == {Event(data="a")}


def test_data_can_be_json() -> None:
    assert parse(b'data: {"a":\ndata: [1]}\n\n')[0].json() == {"a": [1]}
    with pytest.raises(ValueError, match="Expecting value"):
        Event(data="[DONE]").json()
