"""Exact bytes in, exact events out: every rule of RFC 9112 on its own, and all of them however the bytes are cut."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from aiosock.errors import HeadTooLarge, IncompleteBody, RemoteProtocolError, ServerDisconnected
from aiosock.protocol.http1 import (
    NEED_DATA,
    BodyData,
    BodyEnded,
    Connection,
    Event,
    InformationalReceived,
    RequestHead,
    ResponseStarted,
)
from aiosock.protocol.http1.events import CHUNKED_WITHIN
from aiosock.protocol.http1.grammar import _SEEN_LINES
from aiosock.protocol.http1.parser import (
    _SEEN_HEADS,
    MAX_CHUNK_LINE_BYTES,
    MAX_EMPTY_LINES,
    MAX_INFORMATIONAL,
    MAX_LINE_BYTES,
    MAX_SEEN_HEAD_BYTES,
    MAX_SEEN_HEADS,
    Parser,
)

EOF = b""
END = BodyEnded(None)
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@dataclass
class Outcome:
    """All that came of some bytes: the events with body data merged, the error, and what was left over."""

    events: list[Event]
    error: RemoteProtocolError | None
    state: str
    rest: bytes | None
    framing_ends_connection: bool

    def same_as(self, other: Outcome) -> bool:
        return (
            self.events == other.events
            and type(self.error) is type(other.error)
            and self.state == other.state
            and self.rest == other.rest
            and self.framing_ends_connection == other.framing_ends_connection
        )


def add(events: list[Event], event: Event) -> None:
    if isinstance(event, BodyData):
        assert event.data
        if events and isinstance(events[-1], BodyData):
            events[-1] = BodyData(events[-1].data + event.data)
            return
    events.append(event)


def parse(pieces: Iterable[bytes], method: str = "GET", *, upgrade: bool = False, **limits: int | None) -> Outcome:
    """Feed the pieces, one after the other, taking all events there are after each."""
    parser = Parser(**limits)
    parser.expect_response(method, upgrade_offered=upgrade)
    events: list[Event] = []
    error = None
    for piece in pieces:
        parser.receive_data(piece)
        try:
            while (event := parser.next_event()) is not NEED_DATA:
                add(events, event)
        except RemoteProtocolError as failure:
            error = failure
            break
    rest = None if error else parser.take_rest()
    return Outcome(events, error, parser.state, rest, parser.framing_ends_connection)


def answer(data: bytes, method: str = "GET", **options: Any) -> list[Event]:
    """Return the events of one complete answer after which nothing is left."""
    outcome = parse([data], method, **options)
    assert outcome.error is None
    assert outcome.state == "done"
    assert outcome.rest == b""
    return outcome.events


def error_of(data: bytes, *more: bytes, **options: Any) -> RemoteProtocolError:
    outcome = parse([data, *more], **options)
    assert outcome.error is not None
    assert outcome.state == "failed"
    return outcome.error


def started(
    status_code: int = 200,
    reason: str = "OK",
    *fields: tuple[str, str],
    version: str = "HTTP/1.1",
    codings: tuple[str, ...] = (),
    length: int | None = None,
) -> ResponseStarted:
    return ResponseStarted(status_code, reason, version, CIMultiDict(fields), codings, length)


# The head


def test_an_answer_gives_its_head_its_body_and_its_end() -> None:
    assert answer(b"HTTP/1.1 200 OK\r\nServer: a\r\nx-OWN:  b \r\nContent-Length: 5\r\n\r\nhello") == [
        started(200, "OK", ("Server", "a"), ("x-OWN", "b"), ("Content-Length", "5"), length=5),
        BodyData(b"hello"),
        END,
    ]


def test_names_keep_their_order_and_spelling() -> None:
    (head, _) = answer(b"HTTP/1.1 204 No Content\r\nsErVeR: a\r\nServer: b\r\nserver: c\r\nA: d\r\nsERVER: e\r\n\r\n")
    assert isinstance(head, ResponseStarted)
    assert [(str(name), value) for name, value in head.headers.items()] == [
        ("sErVeR", "a"),
        ("Server", "b"),
        ("server", "c"),
        ("A", "d"),
        ("sERVER", "e"),
    ]


@pytest.mark.parametrize("line", [b"HTTP/1.1 200 ", b"HTTP/1.1 200"])
def test_the_reason_may_be_missing(line: bytes) -> None:
    assert answer(line + b"\r\nContent-Length: 0\r\n\r\n")[0] == started(200, "", ("Content-Length", "0"), length=0)


def test_http_1_0_is_told_apart() -> None:
    assert answer(b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n")[0] == started(
        200, "OK", ("Content-Length", "0"), version="HTTP/1.0", length=0
    )


def test_a_head_may_have_no_fields() -> None:
    assert answer(b"HTTP/1.1 204 No Content\r\n\r\n") == [started(204, "No Content", length=0), END]


def test_a_folded_value_is_joined_with_a_space() -> None:
    data = b"HTTP/1.1 204 No\r\nA: b\r\n c\r\n\t  d \r\nE:\r\n f\r\n\r\n"
    assert answer(data)[0] == started(204, "No", ("A", "b c d"), ("E", "f"), length=0)


def test_htab_and_obs_text_may_stand_in_a_value() -> None:
    assert answer(b"HTTP/1.1 204 N\xf6\r\nA: b\tc\xe9\xff\r\n\r\n")[0] == started(
        204, "Nö", ("A", "b\tc\xe9\xff"), length=0
    )


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 204 No\nA: b\nC: d\n\n",
        b"HTTP/1.1 204 No\r\nA: b\nC: d\r\n\n",
        b"HTTP/1.1 204 No\nA: b\r\nC: d\n\r\n",
    ],
)
def test_a_line_of_the_head_may_end_with_a_bare_lf(data: bytes) -> None:
    assert answer(data) == [started(204, "No", ("A", "b"), ("C", "d"), length=0), END]


def test_a_head_ends_at_the_first_empty_line_of_either_kind() -> None:
    events = [started(200, "OK", ("A", "b")), BodyData(b"x\r\n\r\ny\n\nz\n\r\n"), END]
    for head in (b"HTTP/1.1 200 OK\r\nA: b\r\n\r\n", b"HTTP/1.1 200 OK\nA: b\n\n"):
        assert parse([head + b"x\r\n\r\ny\n\nz\n\r\n", EOF]).events == events


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        (b"A : b", "white space before the colon"),
        (b"A\t: b", "white space before the colon"),
        (b" A: b", "not a token"),
        (b"\tA: b", "not a token"),
        (b" \r\nA: b", "no colon"),
        (b"A", "no colon"),
        (b": b", "not a token"),
        (b"A B: c", "not a token"),
        (b"A\xe9: c", "not a token"),
        (b"A: b\x00c", re.escape(r"control character: b'\x00'")),
        (b"A: b\rc", re.escape(r"control character: b'\r'")),
        (b"A: b\r", re.escape(r"control character: b'\r'")),
        (b"A: b\x7f", "control character"),
        (b"A: \x1b[0m", "control character"),
        (b"A\x00: b", "control character"),
        (b"A: b\x0bc", "control character"),
    ],
)
def test_a_malformed_head_is_refused_with_what_is_wrong(lines: bytes, says: str) -> None:
    error = error_of(b"HTTP/1.1 200 OK\r\n" + lines + b"\r\n\r\n")
    assert type(error) is RemoteProtocolError
    assert re.search(says, str(error))


@pytest.mark.parametrize("empty", [b"\r\n", b"\n", b"\n\r\n"])
def test_empty_lines_ahead_of_the_answer_are_tolerated_within_a_bound(empty: bytes) -> None:
    data = b"HTTP/1.1 204 No\r\n\r\n"
    most = MAX_EMPTY_LINES // empty.count(b"\n")
    assert answer(empty * most + data) == answer(data)
    for cut in ([empty * (most + 1) + data], [empty] * (most + 1)):
        error = parse(cut).error
        assert type(error) is RemoteProtocolError
        assert f"more than {MAX_EMPTY_LINES} empty lines" in str(error)


def test_empty_lines_are_tolerated_ahead_of_every_answer() -> None:
    outcome = parse([b"\r\nHTTP/1.1 100 Go\r\n\r\n\n\r\nHTTP/1.1 204 No\r\n\r\n"])
    assert outcome.events == [InformationalReceived(100, "Go", CIMultiDict()), started(204, "No", length=0), END]


# What is no answer


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"<html>hello</html>", "does not begin with an HTTP/1 status line but with b'<html>hello</html>' .HTTP/0.9"),
        (b"\x00\x00\x12\x04\x00\x00\x00\x00\x00", r"does not begin .* but with b'\\x00\\x00\\x12"),
        (b"SSH-2.0-OpenSSH_9.6\r\n", "does not begin .*SSH-2.0"),
        (b"ICY 200 OK\r\n\r\n", "does not begin .*ICY"),
        (b"http/1.1 200 OK\r\n\r\n", "does not begin .*http/1.1"),
        (b" HTTP/1.1 200 OK\r\n\r\n", "does not begin .*b' HTTP"),
        (b"\rHTTP/1.1 200 OK\r\n\r\n", r"does not begin .*b'\\rHTTP"),
        (b"HTTX", "does not begin .*HTTX"),
        (b"HTTP 200 OK\r\n\r\n", "does not begin .*HTTP 200"),
        (b"GET /path?token=secret HTTP/1.1\r\n\r\n", "but with b'GET /path' "),
        (b"GET / HTTP/1.1\r\nCookie: a=secret\r\n\r\n", r"but with b'GET / HTTP/1.1\\r' "),
        (b"HTTP/1.1 2x0 OK\r\n\r\n", "does not begin .*2x0"),
        (b"HTTP/2.0 200 OK\r\n\r\n", "speaks HTTP/2.0"),
        (b"\x15\x03\x01\x00\x02\x02\x46", r"speaks TLS on a connection that is plain HTTP: b'\\x15"),
        (b"\x16\x03\x01", r"speaks TLS on a connection that is plain HTTP: b'\\x16"),
    ],
)
def test_what_is_no_answer_is_called_by_its_name(data: bytes, says: str) -> None:
    error = error_of(data)
    assert type(error) is RemoteProtocolError
    assert re.search(says, str(error))


def test_of_garbage_only_the_start_is_shown() -> None:
    assert len(str(error_of(b"\x00" * 100_000))) < 400


def test_an_empty_answer_says_so() -> None:
    error = error_of(EOF)
    assert type(error) is ServerDisconnected
    assert str(error) == "the server closed the connection without an answer"


@pytest.mark.parametrize(
    "data", [b"H", b"HTTP/", b"HTTP/1.1 200 OK\r\nA: b\r\n\r", b"\r\n\n", b"\r", b"HTTP/9 nonsense"]
)
def test_a_cut_head_says_after_how_many_bytes(data: bytes) -> None:
    error = error_of(data, EOF)
    assert type(error) is ServerDisconnected
    assert f"closed the connection after {len(data)} bytes of the answer's head" in str(error)


def test_after_a_1xx_only_the_bytes_of_the_next_head_are_counted() -> None:
    error = error_of(b"HTTP/1.1 100 Go\r\n\r\nHTTP/1", EOF)
    assert "after 6 bytes" in str(error)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n", "0 of 10 bytes"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc", "3 of 10 bytes"),
        (CHUNKED, "without its last chunk, after 0 bytes"),
        (CHUNKED + b"5\r\nabc", "without its last chunk, after 3 bytes"),
        (CHUNKED + b"3\r\nabc", "without its last chunk, after 3 bytes"),
        (CHUNKED + b"3\r\nabc\r\n0\r", "without its last chunk, after 3 bytes"),
        (CHUNKED + b"3\r\nabc\r\n0\r\n", "without the end of its trailers, after 3 bytes"),
        (CHUNKED + b"3\r\nabc\r\n0\r\nA: b\r\n\r", "without the end of its trailers, after 3 bytes"),
    ],
)
def test_a_cut_body_says_how_much_of_it_came(data: bytes, says: str) -> None:
    outcome = parse([data, EOF])
    assert type(outcome.error) is IncompleteBody
    assert says in str(outcome.error)
    assert outcome.state == "failed"
    body = [event.data for event in outcome.events if isinstance(event, BodyData)]
    assert body == ([b"abc"] if b"abc" in data else [])


# Where the body ends: RFC 9112, 6.3, rule after rule


@pytest.mark.parametrize(
    "fields", [b"", b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n", b"Content-Length: x\r\n"]
)
@pytest.mark.parametrize(
    ("status", "method"), [(b"204", "GET"), (b"304", "GET"), (b"304", "HEAD"), (b"200", "HEAD"), (b"404", "HEAD")]
)
def test_an_answer_to_head_and_204_and_304_have_no_body_whatever_the_fields_say(
    status: bytes, method: str, fields: bytes
) -> None:
    outcome = parse([b"HTTP/1.1 " + status + b" X\r\n" + fields + b"\r\nHTTP/1.1"], method)
    head, end = outcome.events
    assert isinstance(head, ResponseStarted)
    assert (head.content_length, head.transfer_codings) == (0, ())
    assert end == END
    assert (outcome.state, outcome.rest) == ("done", b"HTTP/1.1")


BOTH_FRAMINGS = b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n"


@pytest.mark.parametrize(
    ("version", "status", "method", "fields", "in_doubt"),
    [
        (b"1.1", b"204", "GET", b"", False),
        (b"1.1", b"204", "GET", b"Content-Length: 0\r\n", False),
        (b"1.1", b"204", "GET", b"Content-Length: 5\r\n", True),
        (b"1.1", b"204", "GET", b"Content-Length: x\r\n", True),
        (b"1.1", b"204", "GET", b"Transfer-Encoding: chunked\r\n", True),
        (b"1.1", b"204", "HEAD", b"Transfer-Encoding: chunked\r\n", True),
        *(
            (version, status, method, fields, in_doubt)
            for status, method in ((b"304", "GET"), (b"200", "HEAD"))
            for version, fields, in_doubt in (
                (b"1.1", b"", False),
                (b"1.1", b"Content-Length: 5\r\n", False),
                (b"1.1", b"Transfer-Encoding: chunked\r\n", False),
                (b"1.1", BOTH_FRAMINGS, True),
                (b"1.0", b"Content-Length: 5\r\n", False),
                (b"1.0", b"Transfer-Encoding: chunked\r\n", True),
            )
        ),
    ],
)
def test_an_answer_without_a_body_ends_the_connection_where_its_fields_leave_that_in_doubt(
    version: bytes, status: bytes, method: str, fields: bytes, in_doubt: bool
) -> None:
    outcome = parse([b"HTTP/" + version + b" " + status + b" X\r\n" + fields + b"\r\n"], method)
    assert (outcome.state, outcome.framing_ends_connection) == ("done", in_doubt)


def test_head_is_told_by_its_exact_spelling() -> None:
    assert answer(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx", "head")[1] == BodyData(b"x")


@pytest.mark.parametrize("fields", [b"", b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n"])
@pytest.mark.parametrize("status", [200, 204, 299])
def test_2xx_to_connect_hands_the_connection_over_with_the_bytes_already_read(status: int, fields: bytes) -> None:
    outcome = parse([b"HTTP/1.1 %d OK\r\n%s\r\n\x00raw" % (status, fields)], "CONNECT")
    (head,) = outcome.events
    assert isinstance(head, ResponseStarted)
    assert (head.status_code, head.content_length, head.transfer_codings) == (status, None, ())
    assert (outcome.state, outcome.rest, outcome.framing_ends_connection) == ("switched", b"\x00raw", True)


@pytest.mark.parametrize("status", [300, 407, 502])
def test_a_refusal_of_connect_is_an_ordinary_answer(status: int) -> None:
    data = b"HTTP/1.1 %d No\r\nContent-Length: 2\r\n\r\nno" % status
    assert answer(data, "CONNECT")[1:] == [BodyData(b"no"), END]


def test_101_hands_the_connection_over_with_the_bytes_already_read() -> None:
    data = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n\x81\x00"
    outcome = parse([data], upgrade=True)
    assert outcome.events == [started(101, "Switching Protocols", ("Upgrade", "x"))]
    assert (outcome.state, outcome.rest, outcome.framing_ends_connection) == ("switched", b"\x81\x00", True)


def test_after_a_switch_what_comes_in_waits_for_whoever_takes_the_connection_over() -> None:
    parser = Parser()
    parser.expect_response("CONNECT")
    parser.receive_data(b"HTTP/1.1 200 OK\r\n\r\na")
    parser.next_event()
    parser.receive_data(b"b")
    assert parser.next_event() is NEED_DATA
    assert parser.take_rest() == b"ab"
    assert parser.take_rest() == b""
    parser.receive_data(b"c")
    assert parser.take_rest() == b"c"
    parser.receive_data(EOF)
    assert parser.next_event() is NEED_DATA
    assert parser.at_eof


def test_101_to_a_request_that_offered_no_upgrade_is_refused() -> None:
    error = error_of(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n")
    assert "offered no Upgrade" in str(error)


def test_chunked_ends_with_its_last_chunk() -> None:
    assert answer(CHUNKED + b"3\r\nabc\r\nA\r\n0123456789\r\n0\r\n\r\n") == [
        started(200, "OK", ("Transfer-Encoding", "chunked")),
        BodyData(b"abc0123456789"),
        END,
    ]


@pytest.mark.parametrize(
    ("value", "codings"),
    [
        ("chunked", ()),
        ("CHUNKED", ()),
        (" , chunked,", ()),
        ("identity, chunked", ()),
        ("gzip, chunked", ("gzip",)),
        ("x-gzip,Chunked", ("x-gzip",)),
        ("Deflate , gzip, chunked", ("deflate", "gzip")),
        ("gzip\r\nTransfer-Encoding: chunked", ("gzip",)),
    ],
)
def test_transfer_codings_other_than_chunked_are_reported_in_the_order_of_their_use(
    value: str, codings: tuple[str, ...]
) -> None:
    data = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: " + value.encode() + b"\r\n\r\n1\r\nx\r\n0\r\n\r\n"
    outcome = parse([data])
    assert isinstance(outcome.events[0], ResponseStarted)
    assert outcome.events[0].transfer_codings == codings
    assert outcome.events[1:] == [BodyData(b"x"), END]
    assert not outcome.framing_ends_connection


@pytest.mark.parametrize(
    ("value", "codings"),
    [
        (b"gzip", ("gzip",)),
        (b"deflate, gzip", ("deflate", "gzip")),
        (b"x-gzip", ("x-gzip",)),
        (b"chunked, gzip", (CHUNKED_WITHIN, "gzip")),
        (b"gzip, Chunked, deflate", ("gzip", CHUNKED_WITHIN, "deflate")),
        (b"chunked\r\nContent-Length: 1\r\nTransfer-Encoding: gzip, identity", (CHUNKED_WITHIN, "gzip")),
    ],
)
def test_transfer_codings_that_do_not_end_with_chunked_last_until_the_connection_closes(
    value: bytes, codings: tuple[str, ...]
) -> None:
    outcome = parse([b"HTTP/1.1 200 OK\r\nTransfer-Encoding: " + value + b"\r\n\r\n0\r\n\r\n", EOF])
    head = outcome.events[0]
    assert isinstance(head, ResponseStarted)
    assert (head.transfer_codings, head.content_length) == (codings, None)
    assert outcome.events[1:] == [BodyData(b"0\r\n\r\n"), END]
    assert outcome.framing_ends_connection


@pytest.mark.parametrize(
    "value",
    [
        b"br",
        b"xchunked",
        b"chunked, br",
        b"chunked, gzip, chunked",
        b"chunked, chunked, gzip",
        b"chunked, identity",
        b"chunked\r\nTransfer-Encoding: identity",
        b"chunked, chunked",
        b"chunked\r\nTransfer-Encoding: chunked",
        b"chunked;a=b",
        b"br, chunked",
        b" chunked;",
        b'"chunked"',
        b"chunked gzip",
    ],
)
def test_transfer_codings_that_cannot_be_undone_are_refused(value: bytes) -> None:
    error = error_of(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: " + value + b"\r\n\r\n")
    assert type(error) is RemoteProtocolError
    assert "cannot be undone" in str(error)


@pytest.mark.parametrize("length", [b"1", b"100", b"nonsense", b"1, 2"])
@pytest.mark.parametrize("length_first", [True, False])
def test_chunked_wins_over_content_length_and_ends_the_connection(length: bytes, length_first: bool) -> None:
    fields = [b"Content-Length: " + length, b"Transfer-Encoding: chunked"]
    lines = b"\r\n".join(fields if length_first else fields[::-1])
    outcome = parse([b"HTTP/1.1 200 OK\r\n" + lines + b"\r\n\r\n2\r\nab\r\n0\r\n\r\n"])
    assert outcome.events[1:] == [BodyData(b"ab"), END]
    assert isinstance(outcome.events[0], ResponseStarted)
    assert outcome.events[0].content_length is None
    assert outcome.framing_ends_connection


def test_http_1_0_with_transfer_encoding_is_read_and_ends_the_connection() -> None:
    outcome = parse([b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n"])
    assert outcome.events[1:] == [BodyData(b"ab"), END]
    assert outcome.framing_ends_connection


@pytest.mark.parametrize("value", [b"", b"identity", b","])
def test_a_transfer_encoding_that_says_nothing_leaves_the_framing_to_content_length_and_ends_the_connection(
    value: bytes,
) -> None:
    fields = b"Transfer-Encoding: " + value + b"\r\n"
    outcome = parse([b"HTTP/1.1 200 OK\r\n" + fields + b"Content-Length: 2\r\n\r\nab"])
    assert outcome.events[1:] == [BodyData(b"ab"), END]
    assert outcome.framing_ends_connection
    outcome = parse([b"HTTP/1.1 200 OK\r\n" + fields + b"\r\nab", EOF])
    assert outcome.events[1:] == [BodyData(b"ab"), END]


@pytest.mark.parametrize("lengths", [[b"2"], [b"2", b"2"], [b"2, 2"], [b"02", b" 2\t"]])
def test_content_length_frames_the_body_and_equal_ones_collapse(lengths: list[bytes]) -> None:
    fields = b"".join(b"Content-Length: " + length + b"\r\n" for length in lengths)
    outcome = parse([b"HTTP/1.1 200 OK\r\n" + fields + b"\r\nabHTTP/1.1"])
    assert isinstance(outcome.events[0], ResponseStarted)
    assert outcome.events[0].content_length == 2
    assert outcome.events[1:] == [BodyData(b"ab"), END]
    assert (outcome.rest, outcome.framing_ends_connection) == (b"HTTP/1.1", False)


@pytest.mark.parametrize(
    "lengths",
    [[b"+5"], [b"-1"], [b"5,6"], [b"5", b"6"], [b""], [b"9223372036854775808"], [b"5", b"x"], [b"0x5"], [b"9" * 5000]],
)
def test_a_malformed_or_unequal_content_length_is_refused(lengths: list[bytes]) -> None:
    fields = b"".join(b"Content-Length: " + length + b"\r\n" for length in lengths)
    error = error_of(b"HTTP/1.1 200 OK\r\n" + fields + b"\r\n")
    assert type(error) is RemoteProtocolError
    assert "Content-Length" in str(error)


def test_without_any_framing_the_body_lasts_until_the_connection_closes() -> None:
    outcome = parse([b"HTTP/1.1 200 OK\r\n\r\nab", b"c", EOF])
    assert outcome.events == [started(), BodyData(b"abc"), END]
    assert (outcome.state, outcome.framing_ends_connection) == ("done", True)
    assert parse([b"HTTP/1.1 200 OK\r\n\r\n", EOF]).events == [started(), END]
    assert parse([b"HTTP/1.1 200 OK\r\n\r\nabc"]).state == "until close"


# Chunks


@pytest.mark.parametrize(
    "extension", [b";", b";a", b";a=b", b' ;a="b;c"', b'; a\t= "\xff"', b"\t", b";" + b"x" * (MAX_CHUNK_LINE_BYTES - 3)]
)
def test_chunk_extensions_are_skipped(extension: bytes) -> None:
    data = b"1" + extension + b"\r\nx\r\n0" + extension + b"\r\n\r\n"
    assert answer(CHUNKED + data)[1:] == [BodyData(b"x"), END]
    # The line is there but for its LF.
    edge = len(CHUNKED) + data.index(b"\n")
    assert parse([(CHUNKED + data)[:edge], (CHUNKED + data)[edge:]]).events[1:] == [BodyData(b"x"), END]


def test_a_chunk_size_line_has_a_bound() -> None:
    line = b"1;" + b"x" * (MAX_CHUNK_LINE_BYTES - 2)
    for data in (line, line + b"\r\nx\r\n0\r\n\r\n"):
        error = error_of(CHUNKED + data, b"y")
        assert f"a chunk-size line has more than {MAX_CHUNK_LINE_BYTES} bytes" in str(error)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"1\nx\r\n0\r\n\r\n", "does not end with CRLF"),
        (b"1;a\rb\r\nx\r\n0\r\n\r\n", "does not end with CRLF"),
        (b'1;a="\nb"\r\nx\r\n0\r\n\r\n', "does not end with CRLF"),
        (b"1;a=\x00\r\nx\r\n0\r\n\r\n", "a chunk extension holds a forbidden control character"),
        (b"1;\x7f\r\nx\r\n0\r\n\r\n", "a chunk extension holds a forbidden control character"),
        (b"1\r\r\nx\r\n0\r\n\r\n", "does not end with CRLF"),
        (b"\n1\r\nx", "does not end with CRLF"),
        (b"0\n\n", "does not end with CRLF"),
        (b"\r\n1\r\nx", "not 1 to 16 hexadecimal digits"),
        (b"-1\r\n", "not 1 to 16 hexadecimal digits"),
        (b"0x1\r\n", "not 1 to 16 hexadecimal digits"),
        (b" 1\r\nx", "not 1 to 16 hexadecimal digits"),
        (b"00000000000000001\r\nx", "not 1 to 16 hexadecimal digits"),
        (b"<html>\r\n", "not 1 to 16 hexadecimal digits"),
        (b"0\r\n\n", "ends with LF without CR"),
        (b"0\r\nA: b\n\r\n", "LF without CR"),
        (b"0\r\nA: b\r\n\n", "LF without CR"),
        (b"0\r\nA: b\n\n", "LF without CR"),
        (b"0\r\nA: b\nC: d\r\n\r\n", "LF without CR"),
        (b"0\r\nA : b\r\n\r\n", "white space before the colon"),
        (b"0\r\n A: b\r\n\r\n", "not a token"),
        (b"0\r\nA\r\n\r\n", "no colon"),
        (b"0\r\nA: \x00\r\n\r\n", "control character"),
        (b"0\r\n\rA: b\r\n\r\n", "control character"),
    ],
)
def test_malformed_chunk_framing_is_refused_with_what_is_wrong(data: bytes, says: str) -> None:
    error = error_of(CHUNKED + data)
    assert type(error) is RemoteProtocolError
    assert says in str(error)


@pytest.mark.parametrize("ending", [b"\n", b"xy", b"\rx", b"0\r\n\r\n", b"\n\r"])
def test_the_data_before_malformed_framing_is_delivered_first(ending: bytes) -> None:
    outcome = parse([CHUNKED + b"1\r\na\r\n2\r\nbc" + ending])
    assert outcome.events[1:] == [BodyData(b"abc")]
    assert type(outcome.error) is RemoteProtocolError
    assert "not followed by CRLF" in str(outcome.error)
    outcome = parse([CHUNKED + b"1\r\na\r\nnonsense\r\n"])
    assert outcome.events[1:] == [BodyData(b"a")]
    assert "hexadecimal" in str(outcome.error)


def test_all_the_data_there_is_comes_as_one_piece() -> None:
    parser = Parser()
    parser.expect_response("GET")
    parser.receive_data(CHUNKED + b"1\r\na\r\n1\r\nb\r\n3\r\nc")
    parser.next_event()
    assert parser.next_event() == BodyData(b"abc")
    assert parser.next_event() is NEED_DATA


def test_trailers_are_delivered_apart_from_the_headers() -> None:
    head, body, end = answer(CHUNKED + b"1\r\nx\r\n0\r\nA: b\r\nServer: c\r\n d\r\na: e\r\n\r\n")
    assert head == started(200, "OK", ("Transfer-Encoding", "chunked"))
    assert body == BodyData(b"x")
    assert isinstance(end, BodyEnded)
    assert end.trailers is not None
    assert list(end.trailers.items()) == [("A", "b"), ("Server", "c d"), ("a", "e")]


# 1xx


def test_1xx_answers_are_events_of_their_own() -> None:
    data = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: a\r\nContent-Length: 9\r\n\r\n"
    assert answer(data + b"HTTP/1.1 204 No\r\n\r\n") == [
        InformationalReceived(100, "Continue", CIMultiDict()),
        InformationalReceived(103, "Early Hints", CIMultiDict({"Link": "a", "Content-Length": "9"})),
        started(204, "No", length=0),
        END,
    ]


@pytest.mark.parametrize("method", ["HEAD", "CONNECT"])
def test_1xx_answers_precede_the_answer_to_any_method(method: str) -> None:
    outcome = parse([b"HTTP/1.1 199 X\r\n\r\nHTTP/1.1 200 OK\r\n\r\n"], method)
    assert isinstance(outcome.events[0], InformationalReceived)
    assert isinstance(outcome.events[1], ResponseStarted)


def test_a_final_answer_may_begin_in_the_piece_that_ends_a_1xx_and_end_in_another() -> None:
    outcome = parse([b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No\r\n", b"\r\n"])
    assert outcome.events[1:] == [started(204, "No", length=0), END]


def test_the_number_of_1xx_answers_has_a_bound_for_each_request() -> None:
    one, last = b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 204 No\r\n\r\n"
    parser = Parser()
    for _ in range(2):
        parser.expect_response("GET")
        parser.receive_data(one * MAX_INFORMATIONAL + last)
        events = [parser.next_event() for _ in range(MAX_INFORMATIONAL + 2)]
        assert events[-2:] == [started(204, "No", length=0), END]
    outcome = parse([one * (MAX_INFORMATIONAL + 1) + last])
    assert len(outcome.events) == MAX_INFORMATIONAL
    assert type(outcome.error) is RemoteProtocolError
    assert f"more than {MAX_INFORMATIONAL} informational answers" in str(outcome.error)


# Limits


def head_of(size: int, *, line: int = 1000) -> bytes:
    """Return a head of exactly this size, made of lines not longer than that."""
    head = b"HTTP/1.1 204 No\r\n"
    while size - len(head) - 2 > line + 7:
        head += b"A: " + b"x" * (line - 3) + b"\r\n"
    return head + b"A: " + b"x" * (size - len(head) - 7) + b"\r\n\r\n"


def test_a_head_of_200_kib_passes_even_in_one_line() -> None:
    for line in (1000, 200 * 1024):
        data = head_of(200 * 1024, line=line)
        assert len(data) == 200 * 1024
        assert answer(data)[-1] == END


def test_the_default_limits_are_finite() -> None:
    assert type(error_of(head_of(256 * 1024 + 1))) is HeadTooLarge
    assert type(error_of(b"HTTP/1.1 204 No\r\n" + b"A: b\r\n" * 1001 + b"\r\n")) is HeadTooLarge
    assert answer(head_of(256 * 1024))
    assert answer(b"HTTP/1.1 204 No\r\n" + b"A: b\r\n" * 1000 + b"\r\n")


def test_a_head_is_refused_as_soon_as_it_passes_its_limit() -> None:
    data = head_of(501)
    assert answer(data, max_head_bytes=501)
    for pieces in ([data], [data[:-1], data[-1:]], [data[:400], data[400:]], [data[:500] + b"x"]):
        error = parse(pieces, max_head_bytes=500).error
        assert type(error) is HeadTooLarge
        assert str(error) == "the head of the answer has 501 bytes or more; the limit is 500"


def test_empty_lines_ahead_and_the_body_behind_do_not_count_as_head() -> None:
    data = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n"
    events = [started(200, "OK", ("Content-Length", "3"), length=3), BodyData(b"abc"), END]
    for cut in ([b"\r\n\r\n" + data + b"abc"], [b"\r\n\r\n" + data[:-1], data[-1:] + b"abc"]):
        assert parse(cut, max_head_bytes=len(data)).events == events


def test_a_1xx_answer_is_bound_like_any_head() -> None:
    data = b"HTTP/1.1 100 Continue\r\n\r\n"
    assert type(error_of(data, max_head_bytes=len(data) - 1)) is HeadTooLarge
    outcome = parse([data * 3], max_head_bytes=len(data))
    assert len(outcome.events) == 3


def test_a_line_longer_than_its_limit_is_refused_with_both_numbers() -> None:
    data = b"HTTP/1.1 204 No\r\nB: c\r\nA: " + b"x" * 47 + b"\r\n\r\n"
    assert answer(data, max_line_bytes=50)
    error = error_of(data, max_line_bytes=49)
    assert type(error) is HeadTooLarge
    assert str(error) == "a line of the head of the answer has 50 bytes; the limit is 49"
    assert answer(data, max_line_bytes=None)


def test_a_folded_line_is_measured_whole() -> None:
    data = b"HTTP/1.1 204 No\r\nA: " + b"x" * 20 + b"\r\n " * 3 + b"x" * 20 + b"\r\n\r\n"
    assert type(error_of(data, max_line_bytes=40)) is HeadTooLarge


def test_without_a_limit_on_the_head_a_line_still_has_one() -> None:
    data = head_of(3 * 256 * 1024)
    assert answer(data, max_head_bytes=None, max_fields=None)
    data = head_of(2 * MAX_LINE_BYTES, line=2 * MAX_LINE_BYTES)
    assert type(error_of(data, max_head_bytes=None)) is HeadTooLarge
    assert answer(data, max_head_bytes=None, max_line_bytes=None)


def test_more_fields_than_the_limit_are_refused() -> None:
    data = b"HTTP/1.1 204 No\r\n" + b"A: b\r\n" * 3 + b"\r\n"
    assert answer(data, max_fields=3)
    error = error_of(data, max_fields=2)
    assert type(error) is HeadTooLarge
    assert "3 fields; the limit is 2" in str(error)
    assert answer(b"HTTP/1.1 204 No\r\n" + b"A: b\r\n" * 5000 + b"\r\n", max_fields=None)


def test_trailers_have_the_limits_of_a_head() -> None:
    section = b"A: b\r\nC: " + b"x" * 90 + b"\r\n\r\n"
    data = CHUNKED + b"0\r\n" + section
    assert answer(data, max_head_bytes=len(section), max_fields=2, max_line_bytes=93)
    for limits in ({"max_head_bytes": len(section) - 1}, {"max_fields": 1}, {"max_line_bytes": 92}):
        for cut in ([data], [data[:-1], data[-1:]]):
            error = parse(cut, **limits).error
            assert type(error) is HeadTooLarge
    error = error_of(data[:-2], b"x", max_head_bytes=len(section) - 2)
    assert str(error).startswith("the trailer section has")


# The state


def test_before_a_request_nothing_is_read() -> None:
    parser = Parser()
    parser.receive_data(b"HTTP/1.1 204 No\r\n\r\n")
    assert parser.next_event() is NEED_DATA
    assert parser.state == "idle"
    assert parser.buffered == 19


def test_one_answer_follows_another() -> None:
    parser = Parser()
    for cut in (1, 5, 30, 100):
        data = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc"
        parser.expect_response("GET")
        assert parser.response is None
        events: list[Event] = []
        for start in range(0, len(data), cut):
            parser.receive_data(data[start : start + cut])
            while (event := parser.next_event()) is not NEED_DATA:
                add(events, event)
        assert events == [started(200, "OK", ("Content-Length", "3"), length=3), BodyData(b"abc"), END]
        assert parser.response == events[0]
        assert (parser.state, parser.buffered) == ("done", 0)


def test_nothing_of_one_answer_is_left_for_the_next() -> None:
    parser = Parser()
    parser.expect_response("HEAD", upgrade_offered=True)
    parser.receive_data(b"HTTP/1.1 100 A\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while parser.next_event() is not NEED_DATA:
        pass
    parser.expect_response("GET")
    parser.receive_data(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 9\r\n\r\n2\r\nab\r\n0\r\n\r\n"
    )
    assert isinstance(parser.next_event(), ResponseStarted)
    assert parser.framing_ends_connection
    assert [parser.next_event(), parser.next_event()] == [BodyData(b"ab"), END]
    parser.expect_response("GET")
    assert not parser.framing_ends_connection
    parser.receive_data(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nabc")
    assert isinstance(parser.next_event(), ResponseStarted)
    assert not parser.framing_ends_connection
    assert parser.next_event() == BodyData(b"abc")
    parser.receive_data(EOF)
    with pytest.raises(IncompleteBody, match="3 of 4 bytes"):
        parser.next_event()


def test_it_tells_how_much_of_the_body_is_left_where_the_framing_tells() -> None:
    parser = Parser()
    assert parser.body_left is None
    parser.expect_response("GET")
    assert parser.body_left is None
    parser.receive_data(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc")
    parser.next_event()
    assert parser.body_left == 5
    parser.next_event()
    assert parser.body_left == 2
    parser.receive_data(b"de")
    parser.next_event()
    assert parser.body_left == 0
    parser.next_event()
    assert parser.body_left == 0
    parser.expect_response("GET")
    parser.receive_data(CHUNKED + b"5\r\nab")
    parser.next_event()
    parser.next_event()
    assert parser.body_left is None


def test_it_knows_whether_a_byte_of_the_answer_has_come() -> None:
    parser = Parser()
    assert not parser.untouched
    parser.expect_response("GET")
    assert parser.untouched
    assert parser.next_event() is NEED_DATA
    assert parser.untouched
    parser.receive_data(b"\n")
    assert not parser.untouched
    parser.receive_data(b"HTTP/1.1 204 No\r\n\r\n")
    while parser.next_event() is not NEED_DATA:
        pass
    assert not parser.untouched
    parser.expect_response("GET")
    assert parser.untouched


@pytest.mark.parametrize("data", [b"", b"H", b"\n", b"HTTP/1.1 100 Go\r\n\r\n"])
def test_after_the_end_of_file_it_still_knows_whether_a_byte_had_come(data: bytes) -> None:
    parser = Parser()
    parser.expect_response("GET")
    if data:
        parser.receive_data(data)
    parser.receive_data(EOF)
    with pytest.raises(ServerDisconnected):
        while parser.next_event() is not NEED_DATA:
            pass
    assert parser.untouched is (data == b"")


def test_a_failed_parser_gives_no_events_and_keeps_nothing() -> None:
    parser = Parser()
    parser.expect_response("GET")
    for piece in (CHUNKED + b"1\r\nx", b"\r", b"\nnon", b"sense\r\n1\r\nx\r\n0\r\n\r\n"):
        parser.receive_data(piece)
    parser.next_event()
    parser.next_event()
    # The traceback is held: it must not lock the buffer.
    with pytest.raises(RemoteProtocolError) as info:
        parser.next_event()
    buffered = parser.buffered
    parser.receive_data(b"1\r\nx\r\n")
    parser.receive_data(b"0\r\n\r\n")
    assert parser.buffered == buffered
    assert parser.next_event() is NEED_DATA
    assert parser.state == "failed"
    del info


def test_an_idle_connection_holds_on_to_no_bytes() -> None:
    parser = Parser()
    parser.expect_response("GET")
    parser.receive_data(b"HTTP/1.1 200 OK\r\nContent-Length: 50000\r\n\r\n" + bytes(50000))
    while parser.next_event() is not NEED_DATA:
        pass
    assert parser._buffer == b""


def test_a_body_that_fills_a_read_is_handed_on_without_a_copy() -> None:
    parser = Parser()
    parser.expect_response("GET")
    parser.receive_data(b"HTTP/1.1 200 OK\r\nContent-Length: 50000\r\n\r\n")
    parser.next_event()
    data = bytes(40000)
    parser.receive_data(data)
    event = parser.next_event()
    assert isinstance(event, BodyData)
    assert event.data is data


def test_what_was_handed_on_does_not_change_when_more_comes() -> None:
    parser = Parser()
    parser.expect_response("GET")
    parser.receive_data(b"HTTP/1.1 200 OK\r\nA: b\r\n")
    parser.receive_data(b"\r\nabc")
    parser.next_event()
    event = parser.next_event()
    assert isinstance(event, BodyData)
    assert type(event.data) is bytes
    parser.receive_data(b"xyz")
    parser.next_event()
    assert event.data == b"abc"


# However it is cut


@dataclass
class Case:
    data: bytes
    method: str = "GET"
    upgrade: bool = False
    limits: tuple[tuple[str, int], ...] = ()

    def parse(self, pieces: Iterable[bytes]) -> Outcome:
        return parse([*pieces, EOF], self.method, upgrade=self.upgrade, **dict(self.limits))


HEAD = b"HTTP/1.1 200 OK\r\n"
CASES = {
    # Good ones.
    "sized": Case(HEAD + b"Content-Length: 11\r\nServer: a\r\n\r\nhello\r\n\r\nyou"),
    "sized, with more behind": Case(HEAD + b"Content-Length: 2\r\n\r\nabHTTP/1.1 200 OK\r\n\r\n"),
    "empty": Case(HEAD + b"Content-Length: 0\r\n\r\n"),
    "no fields": Case(b"HTTP/1.1 204\r\n\r\n"),
    "bare LF": Case(b"HTTP/1.1 200 OK\nContent-Length: 3\nA: b\n\na\n\n"),
    "mixed line ends": Case(b"HTTP/1.1 200 OK\r\nContent-Length: 3\nA: b\r\n\n\r\nb"),
    "empty lines first": Case(b"\r\n\n\r\n" + HEAD + b"Content-Length: 3\r\n\r\nabc"),
    "folded": Case(HEAD + b"A: b\r\n c\r\n\t d\r\nContent-Length:\r\n 1\r\n\r\nx"),
    "1xx": Case(
        b"HTTP/1.1 100 Continue\r\n\r\n\r\nHTTP/1.1 103 E\nLink: a\n\n" + HEAD + b"Content-Length: 2\r\n\r\nab"
    ),
    "head": Case(HEAD + b"Content-Length: 5\r\n\r\nHTTP/1.1 200", "HEAD"),
    "304": Case(b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n"),
    "204, with more behind": Case(b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\nhello"),
    "the last": Case(HEAD + b"Connection: close\r\nContent-Length: 2\r\n\r\nab"),
    "kept": Case(HEAD + b"Keep-Alive: timeout=5\r\nContent-Length: 2\r\n\r\nab"),
    "HTTP/1.0, sized": Case(b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nab"),
    "HTTP/1.0, kept": Case(b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nab"),
    "framed twice": Case(HEAD + b"Transfer-Encoding: identity\r\nContent-Length: 2\r\n\r\nab"),
    "until close": Case(HEAD + b"A: b\r\n\r\nabc\r\n\r\ndef"),
    "until close, empty": Case(HEAD + b"A: b\r\n\r\n"),
    "HTTP/1.0": Case(b"HTTP/1.0 200 OK\r\n\r\nabc"),
    "chunked": Case(CHUNKED + b"3\r\na\r\n\r\nB;x=y\r\n0123456789a\r\n0;z\r\n\r\n"),
    "chunked, with more behind": Case(CHUNKED + b"1\r\nx\r\n0\r\n\r\nHTTP/1.1"),
    "chunked, with trailers": Case(CHUNKED + b"1\r\nx\r\n0\r\nA: b\r\n c\r\nD: e\r\n\r\nrest"),
    # Data that look like the framing around them; the same size spelled otherwise.
    "chunks of one size": Case(
        CHUNKED + b"5\r\n\r\n5\r\n\r\n" * 3 + b"5\r\nabcde\r\n05\r\nfghij\r\n5\r\nklmno\r\n0\r\n\r\n5"
    ),
    "chunks of one line": Case(CHUNKED + b"a;b=c \r\n0\r\n\r\n01234\r\n" * 4 + b"0\r\n\r\n"),
    "chunked, empty": Case(CHUNKED + b"0\r\n\r\n"),
    "gzip, chunked": Case(HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n"),
    "gzip until close": Case(HEAD + b"Transfer-Encoding: gzip\r\n\r\n1\r\nx\r\n0\r\n\r\n"),
    "chunked and length": Case(HEAD + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n"),
    "CONNECT": Case(b"HTTP/1.1 100 A\r\n\r\n" + HEAD + b"Content-Length: 5\r\n\r\n\n\n\x16\x03", "CONNECT"),
    "101": Case(b"HTTP/1.1 101 Switching\r\nUpgrade: a\r\n\r\n\r\n\r\n\x81\x00", upgrade=True),
    # Bad ones.
    "nothing": Case(b""),
    "HTTP/0.9": Case(b"<html>\r\n\r\n</html>"),
    "TLS": Case(b"\x15\x03\x01\x00\x02\x02\x46"),
    "nearly HTTP": Case(b"HTTX/1.1 200 OK\r\n\r\n"),
    "another version": Case(b"HTTP/2.0 200 OK\r\n\r\n"),
    "a lone CR first": Case(b"\r" + HEAD + b"\r\n"),
    "too many empty lines": Case(b"\r\n\n" * 8 + HEAD + b"\r\n"),
    "bad status line": Case(b"HTTP/1.1 2000 OK\r\n\r\n"),
    "space before colon": Case(HEAD + b"A : b\r\n\r\nx"),
    "space before the first field": Case(HEAD + b" A: b\r\n\r\nx"),
    "NUL": Case(HEAD + b"A: \x00\r\n\r\nx"),
    "CR in a value": Case(HEAD + b"A: b\rc\r\r\n\r\n\r\n"),
    "cut head": Case(HEAD + b"A: b\r\n\r"),
    "cut after 1xx": Case(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 2"),
    "bad length": Case(HEAD + b"Content-Length: 5,6\r\n\r\nabcde"),
    "cut body": Case(HEAD + b"Content-Length: 10\r\n\r\nabcde"),
    "unknown coding": Case(HEAD + b"Transfer-Encoding: br, chunked\r\n\r\n0\r\n\r\n"),
    "bad chunk size": Case(CHUNKED + b"3\r\nabc\r\n+1\r\nx\r\n0\r\n\r\n"),
    "LF ahead of the chunks": Case(CHUNKED + b"\n0\r\n\r\n"),
    "bare LF in chunks": Case(CHUNKED + b"3\r\nabc\r\n1\nx\r\n0\r\n\r\n"),
    "bad chunk end": Case(CHUNKED + b"3\r\nabcd\r\n0\r\n\r\n"),
    "LF as chunk end": Case(CHUNKED + b"3\r\nabc\n0\r\n\r\n"),
    "bad end of a chunk like those before": Case(CHUNKED + b"2\r\nab\r\n" * 3 + b"2\r\nabc\r\n0\r\n\r\n"),
    "no end of a chunk like those before": Case(CHUNKED + b"2\r\nab\r\n" * 3 + b"2\r\nab2\r\nab\r\n0\r\n\r\n"),
    "bad size line like those before": Case(CHUNKED + b"2\r\nab\r\n" * 3 + b"2\n\nab\r\n0\r\n\r\n"),
    "cut chunk like those before": Case(CHUNKED + b"2\r\nab\r\n" * 3 + b"2\r\na"),
    "cut chunk": Case(CHUNKED + b"3\r\nabc\r\n8\r\nabcde"),
    "cut last chunk": Case(CHUNKED + b"3\r\nabc\r\n0\r"),
    "bad trailers": Case(CHUNKED + b"3\r\nabc\r\n0\r\nA : b\r\n\r\n"),
    "bare LF in trailers": Case(CHUNKED + b"3\r\nabc\r\n0\r\nA: b\nC: d\r\n\r\nxyz"),
    "LF for trailers": Case(CHUNKED + b"3\r\nabc\r\n0\r\n\nxyz"),
    "cut trailers": Case(CHUNKED + b"3\r\nabc\r\n0\r\nA: b\r\n\r"),
    "head over the limit": Case(HEAD + b"A: b\r\nC: d\r\n\r\nabc", limits=(("max_head_bytes", 28),)),
    "head at the limit": Case(HEAD + b"A: b\r\nC: d\r\n\r\nabc", limits=(("max_head_bytes", 31),)),
    "line over the limit": Case(HEAD + b"A: bcdefghijklmnop\r\n\r\nabc", limits=(("max_line_bytes", 16),)),
    "fields over the limit": Case(HEAD + b"A: b\r\nC: d\r\n\r\nabc", limits=(("max_fields", 1),)),
    "trailers over the limit": Case(
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n" + b"A: b\r\n" * 10 + b"\r\n",
        limits=(("max_head_bytes", 50),),
    ),
    "101 that nobody offered": Case(b"HTTP/1.1 101 Switching\r\nUpgrade: a\r\n\r\n\x81\x00"),
}
GOOD = list(CASES)[: list(CASES).index("nothing")]


@pytest.mark.parametrize("name", CASES)
def test_cut_in_two_anywhere_or_into_single_bytes_the_events_are_the_same(name: str) -> None:
    case = CASES[name]
    data = case.data
    whole = case.parse([data] if data else [])
    assert (whole.error is None) is (name in GOOD or name == "head at the limit")
    for cut in range(1, len(data)):
        assert case.parse([data[:cut], data[cut:]]).same_as(whole), cut
    assert case.parse(data[i : i + 1] for i in range(len(data))).same_as(whole)


@pytest.mark.parametrize("name", CASES)
def test_the_end_of_file_may_be_fed_with_the_last_bytes(name: str) -> None:
    case = CASES[name]
    parser = Parser(**dict(case.limits))
    parser.expect_response(case.method, upgrade_offered=case.upgrade)
    for piece in (case.data[:10], case.data[10:], EOF):
        parser.receive_data(piece)
    events: list[Event] = []
    error: RemoteProtocolError | None = None
    try:
        while (event := parser.next_event()) is not NEED_DATA:
            add(events, event)
    except RemoteProtocolError as failure:
        error = failure
    rest = None if error else parser.take_rest()
    outcome = Outcome(events, error, parser.state, rest, parser.framing_ends_connection)
    assert outcome.same_as(case.parse([case.data]))


def pieces_of(data: bytes, cuts: Sequence[int]) -> list[bytes]:
    edges = [0, *sorted(cuts), len(data)]
    return [data[a:b] for a, b in pairwise(edges) if a < b]


@given(st.sampled_from(sorted(CASES)), st.data())
def test_cut_into_any_pieces_the_events_are_the_same(name: str, data: st.DataObject) -> None:
    case = CASES[name]
    cuts = data.draw(st.lists(st.integers(0, len(case.data)), max_size=8))
    whole = case.parse([case.data] if case.data else [])
    assert case.parse(pieces_of(case.data, cuts)).same_as(whole)


@given(st.sampled_from(sorted(CASES)), st.data())
def test_mutated_and_cut_into_any_pieces_the_events_are_the_same(name: str, data: st.DataObject) -> None:
    case = CASES[name]
    raw = bytearray(case.data)
    spots = st.integers(0, max(len(raw) - 1, 0))
    for _ in range(data.draw(st.integers(1, 3))):
        spot = data.draw(spots)
        raw[spot : spot + data.draw(st.integers(0, 2))] = data.draw(
            st.one_of(st.sampled_from([b"\r", b"\n", b"\r\n", b" ", b":", b"0", b"\x00", b";"]), st.binary(max_size=3))
        )
    mutant = Case(bytes(raw), case.method, case.upgrade, case.limits)
    whole = mutant.parse([mutant.data] if mutant.data else [])
    cuts = data.draw(st.lists(st.integers(0, len(raw)), max_size=8))
    assert mutant.parse(pieces_of(mutant.data, cuts)).same_as(whole)
    assert mutant.parse(mutant.data[i : i + 1] for i in range(len(raw))).same_as(whole)


# The short road of a body that is here whole


@dataclass
class Reading:
    """What came of an answer, read by one road or the other, and how that left the connection."""

    events: list[Event]
    error: str
    standing: tuple[object, ...]
    # How often the short road gave the body; no part of what both roads agree on.
    shortened: int = 0

    def same_as(self, other: Reading) -> bool:
        return (self.events, self.error, self.standing) == (other.events, other.error, other.standing)


def asked(case: Case) -> Connection:
    """Return a connection on which the case's request was sent."""
    limits = dict(case.limits)
    longest = limits.pop("max_line_bytes", MAX_LINE_BYTES)
    connection = Connection(**limits)
    connection._max_line_bytes = longest
    fields = [("Upgrade", "a")] if case.upgrade else []
    target = "a.example:443" if case.method == "CONNECT" else "/"
    connection.send_request(RequestHead(case.method, target, "a.example", fields))
    return connection


def standing(connection: Connection) -> tuple[object, ...]:
    return (
        connection.state,
        connection.buffered,
        connection.reusable,
        connection.body_left,
        connection.response_closes,
        connection.framing_ends_connection,
        connection.keep_alive_seconds,
        connection.at_eof,
        connection.untouched,
        # What was read of an answer is not held on to once it is over.
        connection.state == "done" and not connection.buffered and len(connection._buffer),
    )


def take_body(connection: Connection) -> bytes | None:
    """Take the short road; where that does not lead anywhere, nothing has changed."""
    before = standing(connection)
    body = connection.take_body()
    if body is None:
        assert standing(connection) == before
    else:
        assert connection.state == "done"
        assert connection.take_body() is None
    return body


def read(case: Case, *turns: Iterable[bytes], short: bool = False, patient: bool = False) -> Reading:
    """
    Feed the pieces of each turn, then take what there is.

    Args:
        short: Ask for the whole body before each event that follows the head.
        patient: Do not take a part of a body whose length is known, as long as more may come.
    """
    connection = asked(case)
    events: list[Event] = []
    error = ""
    shortened = 0
    try:
        for number, turn in enumerate(turns, 1):
            for piece in turn:
                connection.receive_data(piece)
            while True:
                body = take_body(connection) if short else None
                if body is not None:
                    shortened += 1
                    events += [BodyData(body), END] if body else [END]
                if patient and connection.state == "sized" and number < len(turns):
                    break
                if (event := connection.next_event()) is NEED_DATA:
                    break
                add(events, event)
    except RemoteProtocolError as failure:
        error = repr(failure)
        assert take_body(connection) is None
    return Reading(events, error, standing(connection), shortened)


def came_whole(reading: Reading) -> bool:
    """A body whose length is known, by the head, is here to its end."""
    started = [event for event in reading.events if isinstance(event, ResponseStarted)]
    return reading.standing[0] == "done" and started[0].content_length is not None


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("end", ["no end of file", "end of file later", "end of file at once"])
def test_the_short_road_gives_what_the_events_give_however_it_is_cut(name: str, end: str) -> None:
    case = CASES[name]
    data = case.data

    def roads(*pieces: bytes) -> tuple[Reading, Reading, Reading]:
        turns = [[piece] for piece in pieces]
        if end == "end of file later":
            turns.append([EOF])
        elif end == "end of file at once":
            turns = [[*pieces, EOF]]
        by_events = read(case, *turns)
        eager = read(case, *turns, short=True)
        patient = read(case, *turns, short=True, patient=True)
        assert eager.same_as(by_events), pieces
        assert patient.same_as(by_events), pieces
        assert patient.shortened == came_whole(by_events), pieces
        assert eager.shortened <= patient.shortened
        return by_events, eager, patient

    whole, eager, _ = roads(*pieces_of(data, []))
    assert eager.shortened == came_whole(whole)
    for cuts in (*([cut] for cut in range(1, len(data))), range(len(data))):
        cut, _, _ = roads(*pieces_of(data, cuts))
        assert (cut.events, bool(cut.error)) == (whole.events, bool(whole.error)), cuts
        # A connection that failed is closed with whatever it holds.
        assert cut.error or cut.standing == whole.standing, cuts


def test_the_short_road_is_closed_once_a_part_of_the_body_was_taken() -> None:
    connection = asked(Case(b""))
    connection.receive_data(HEAD + b"Content-Length: 5\r\n\r\nhe")
    assert isinstance(connection.next_event(), ResponseStarted)
    assert take_body(connection) is None
    assert connection.next_event() == BodyData(b"he")
    connection.receive_data(b"llo")
    assert take_body(connection) is None
    assert connection.body_left == 3
    assert connection.next_event() == BodyData(b"llo")
    assert take_body(connection) is None
    assert connection.next_event() == END
    assert connection.reusable


def test_the_short_road_leads_through_answer_after_answer() -> None:
    connection = asked(Case(b""))
    for body in (b"one", b"", b"three"):
        connection.receive_data(HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        assert take_body(connection) is None
        assert isinstance(connection.next_event(), ResponseStarted)
        assert take_body(connection) == body
        assert connection.reusable
        assert connection.next_event() is NEED_DATA
        connection.send_request(RequestHead("GET", "/", "a.example", ()))


# Heads that came before


@pytest.mark.parametrize("name", CASES)
def test_an_answer_that_comes_again_means_the_same_again(name: str) -> None:
    case = CASES[name]
    first = read(case, [case.data], [EOF])
    head_came = any(isinstance(event, ResponseStarted) for event in first.events)
    again = read(case, [case.data], [EOF])
    assert again.same_as(first)
    assert [list(event.headers.items()) for event in again.events if isinstance(event, ResponseStarted)] == [
        list(event.headers.items()) for event in first.events if isinstance(event, ResponseStarted)
    ]
    # What was refused is refused by being looked at again.
    assert head_came or not _SEEN_HEADS


def test_a_remembered_head_gives_fields_of_its_own_each_time() -> None:
    data = HEAD + b"Server: a\r\nX-Own: b\r\nContent-Length: 0\r\n\r\n"
    expected = CIMultiDict([("Server", "a"), ("X-Own", "b"), ("Content-Length", "0")])
    for _ in range(3):
        (head, _) = answer(data)
        assert isinstance(head, ResponseStarted)
        assert head.headers == expected
        head.headers["Server"] = "changed"
        head.headers.add("X-Own", "more")
        del head.headers["Content-Length"]
    assert len(_SEEN_HEADS) == 1


@pytest.mark.parametrize("limit", ["max_fields", "max_line_bytes", "max_head_bytes"])
def test_a_head_remembered_under_loose_limits_is_held_to_those_of_another_parser(limit: str) -> None:
    longest = b"X: " + b"x" * 60
    data = HEAD + longest + b"\r\nServer: abc\r\nConnection: X\r\n\r\n"
    loose = parse([data])
    assert data in _SEEN_HEADS
    most = {"max_fields": 3, "max_line_bytes": len(longest), "max_head_bytes": len(data)}[limit]
    assert parse([data], **{limit: most}).same_as(loose)
    for _ in range(2):
        assert type(error_of(data, **{limit: most - 1})) is HeadTooLarge
    assert parse([data]).same_as(loose)


ASKED = {
    "GET": {"method": "GET"},
    "HEAD": {"method": "HEAD"},
    "CONNECT": {"method": "CONNECT"},
    "upgrade": {"method": "GET", "upgrade": True},
    "HEAD with upgrade": {"method": "HEAD", "upgrade": True},
}
ANSWERS = {
    "sized": HEAD + b"Content-Length: 2\r\n\r\nab",
    "chunked": CHUNKED + b"1\r\na\r\n0\r\n\r\n",
    "until close": HEAD + b"Server: a\r\n\r\nab",
    "101": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: a\r\n\r\nab",
    "404": b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\nab",
}


@pytest.mark.parametrize("data", ANSWERS.values(), ids=ANSWERS)
@pytest.mark.parametrize("later", ASKED)
@pytest.mark.parametrize("earlier", ASKED)
def test_a_head_means_what_it_means_for_the_request_whatever_it_answered_before(
    earlier: str, later: str, data: bytes
) -> None:
    alone = parse([data], **ASKED[later])  # type: ignore[arg-type]
    _SEEN_HEADS.clear()
    parse([data], **ASKED[earlier])  # type: ignore[arg-type]
    assert parse([data], **ASKED[later]).same_as(alone)  # type: ignore[arg-type]


def test_what_heads_mean_depends_on_the_request() -> None:
    states = {name: parse([ANSWERS["sized"]], **options).state for name, options in ASKED.items()}  # type: ignore[arg-type]
    assert states == {
        "GET": "done",
        "HEAD": "done",
        "CONNECT": "switched",
        "upgrade": "done",
        "HEAD with upgrade": "done",
    }
    assert parse([ANSWERS["sized"]], "HEAD").rest == b"ab"
    assert parse([ANSWERS["sized"]], "GET").rest == b""
    assert parse([ANSWERS["101"]], upgrade=True).state == "switched"
    assert parse([ANSWERS["101"]]).state == "failed"


@pytest.mark.parametrize("name", [b"Set-Cookie", b"set-cookie", b"SET-COOKIE"])
def test_cookies_are_not_remembered(name: bytes) -> None:
    data = b"HTTP/1.1 204 No Content\r\nServer: a\r\n" + name + b": secret=1\r\n\r\n"
    for _ in range(2):
        (head, _) = answer(data)
        assert isinstance(head, ResponseStarted)
        assert head.headers.getall("Set-Cookie") == ["secret=1"]
    assert not _SEEN_HEADS
    assert not [line for line in _SEEN_LINES if "secret" in line]


def test_informational_heads_are_not_remembered() -> None:
    go = b"HTTP/1.1 100 Continue\r\nServer: a\r\n\r\n"
    for _ in range(2):
        assert answer(go * 2 + b"HTTP/1.1 204 No\r\n\r\n") == [
            *[InformationalReceived(100, "Continue", CIMultiDict([("Server", "a")]))] * 2,
            started(204, "No", length=0),
            END,
        ]
    assert list(_SEEN_HEADS) == [b"HTTP/1.1 204 No\r\n\r\n"]


def test_heads_are_remembered_within_bounds() -> None:
    most = 0
    for number in range(2 * MAX_SEEN_HEADS + 10):
        # Each twice, as one that was forgotten is read again.
        for _ in range(2):
            assert answer(b"HTTP/1.1 204 No\r\nAge: %d\r\n\r\n" % number)[0] == started(
                204, "No", ("Age", str(number)), length=0
            )
        most = max(most, len(_SEEN_HEADS))
        assert len(_SEEN_HEADS) <= MAX_SEEN_HEADS
    assert most == MAX_SEEN_HEADS


def test_long_heads_are_not_remembered() -> None:
    without = len(b"HTTP/1.1 204 No\r\nX: \r\n\r\n")
    for size, remembered in ((MAX_SEEN_HEAD_BYTES, True), (MAX_SEEN_HEAD_BYTES + 1, False)):
        data = b"HTTP/1.1 204 No\r\nX: " + b"x" * (size - without) + b"\r\n\r\n"
        assert len(data) == size
        first = parse([data])
        assert (data in _SEEN_HEADS) is remembered
        assert parse([data]).same_as(first)


# Time

# From the smaller to the bigger input the work grows by GROWTH if it is linear, by its square if it is quadratic.
SMALL = 8 * 1024
GROWTH = 16


def long_head(size: int) -> tuple[bytes, int]:
    return HEAD + b"A: " + b"x" * size + b"\r\n\r\n", 1


def head_of_many_fields(size: int) -> tuple[bytes, int]:
    return HEAD + b"A: b\r\n" * (size // 6) + b"\r\n", 1


def folded_head(size: int) -> tuple[bytes, int]:
    return HEAD + b"A: b" + b"\r\n " * (size // 3) + b"\r\n\r\n", 1


def long_trailers(size: int) -> tuple[bytes, int]:
    return CHUNKED + b"0\r\nA: " + b"x" * size + b"\r\n\r\n", 1


def trailers_behind_data(size: int) -> tuple[bytes, int]:
    return CHUNKED + b"%x\r\n" % size + b"x" * size + b"\r\n0\r\nA: " + b"x" * size + b"\r\n\r\n", 1


def sized_body(size: int) -> tuple[bytes, int]:
    return HEAD + b"Content-Length: %d\r\n\r\n" % size + b"x" * size, 1


def one_big_chunk(size: int) -> tuple[bytes, int]:
    return CHUNKED + b"%x\r\n" % size + b"x" * size + b"\r\n0\r\n\r\n", 1


def small_chunks(size: int) -> tuple[bytes, int]:
    return CHUNKED + b"1\r\nx\r\n" * (size // 6) + b"0\r\n\r\n", 1


def small_chunks_at_once(size: int) -> tuple[bytes, int]:
    return CHUNKED + b"1\r\nx\r\n" * (4 * size // 6) + b"0\r\n\r\n", 10**9


def body_until_close(size: int) -> tuple[bytes, int]:
    return HEAD + b"\r\n" + b"x" * size, 1


def many_lengths_at_once(size: int) -> tuple[bytes, int]:
    return HEAD + b"Content-Length: " + b"0," * (4 * size // 2) + b"0\r\n\r\n", 10**9


def long_length_at_once(size: int) -> tuple[bytes, int]:
    return HEAD + b"Content-Length: " + b"0" * 8 * size + b"\r\n\r\n", 10**9


def white_space_at_once(size: int) -> tuple[bytes, int]:
    return HEAD + b"A:" + b" \t" * 8 * size + b"x\r\nB" + b" " * 8 * size + b": x\r\n\r\n", 10**9


@pytest.mark.parametrize(
    "make",
    [
        long_head,
        head_of_many_fields,
        folded_head,
        long_trailers,
        trailers_behind_data,
        sized_body,
        one_big_chunk,
        small_chunks,
        small_chunks_at_once,
        body_until_close,
        many_lengths_at_once,
        long_length_at_once,
        white_space_at_once,
    ],
    ids=lambda make: make.__name__,
)
def test_time_grows_with_the_number_of_bytes(make: Callable[[int], tuple[bytes, int]]) -> None:
    def seconds(size: int) -> float:
        data, step = make(size)
        pieces = [data[start : start + step] for start in range(0, len(data), step)]
        parser = Parser(max_head_bytes=None, max_fields=None, max_line_bytes=None)
        parser.expect_response("GET")
        begun = time.process_time()
        try:
            for piece in pieces:
                parser.receive_data(piece)
                while parser.next_event() is not NEED_DATA:
                    pass
        except RemoteProtocolError:
            pass
        return time.process_time() - begun

    small = min(seconds(SMALL) for _ in range(3))
    big = min(seconds(SMALL * GROWTH) for _ in range(2))
    # The constant forgives what does not show at the small size.
    assert big < small * GROWTH * 4 + 0.02
