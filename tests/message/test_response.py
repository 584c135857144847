"""A response says what its head says, and gives its body whole, once it was read, as bytes, text or JSON."""

from __future__ import annotations

import asyncio
import codecs
import gzip
import json
import pickle
import random
import zlib
from datetime import timedelta
from decimal import Decimal
from functools import partial
from typing import Any

import pytest
from multidict import CIMultiDict
from yarl import URL

from aiosock.errors import (
    ContentTooLarge,
    DecodingError,
    HTTPStatusError,
    ReadError,
    ResponseNotRead,
    StreamConsumed,
    UsageError,
)
from aiosock.message.decoding import MAX_BYTES_AT_ONCE, SLICE_BYTES
from aiosock.message.request import Request
from aiosock.message.response import ConnectionInfo, Response, Timings, assemble
from aiosock.protocol.http1 import ResponseStarted

GET = Request("GET", "https://user:pass@h:8443/a?secret#f")
CONNECTION = ConnectionInfo("192.0.2.1:443", "192.0.2.2:50000", "TLSv1.3", "X", "http/1.1", False, 1, False)


class Source:
    """Gives the pieces of a body; an exception among them is raised."""

    def __init__(self, *pieces: bytes | BaseException) -> None:
        self.pieces = list(pieces)
        self.trailers: CIMultiDict[str] | None = None
        self.log: list[str] = []

    async def receive(self) -> bytes:
        await asyncio.sleep(0)
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


def pickled(value: Any) -> Any:
    return pickle.loads(pickle.dumps(value))  # noqa: S301  # these bytes are ours


def streamed(*pieces: bytes | BaseException, headers: Any = None, **arguments: Any) -> tuple[Response, Source]:
    source = Source(*pieces)
    return Response(200, headers=headers, source=source, request=GET, **arguments), source


# The head


def test_what_the_head_says() -> None:
    fields = [("Set-Cookie", "a"), ("X", "y"), ("set-cookie", "b")]
    response = Response(299, headers=fields, reason="Fine", request=GET, extensions={"a": 1}, connection=CONNECTION)
    assert (response.status_code, response.reason, response.http_version) == (299, "Fine", "HTTP/1.1")
    assert list(response.headers.items()) == fields
    assert response.headers.getall("SET-COOKIE") == ["a", "b"]
    assert response.url == URL("https://h:8443/a?secret#f")
    assert response.request is GET
    assert response.extensions == {"a": 1}
    assert response.connection is CONNECTION
    assert (response.history, response.informational) == ((), ())
    assert response.next_request is None
    assert response.stream is None
    assert repr(response) == "<Response 299 Fine>"
    assert repr(Response(299)) == "<Response 299>"


def test_headers_cannot_be_changed() -> None:
    headers: Any = Response(200, headers={"a": "b"}).headers
    with pytest.raises(TypeError):
        headers["a"] = "c"


def test_a_response_made_by_hand_belongs_to_no_request_and_no_connection() -> None:
    response = Response(500)
    assert response.connection is None
    assert response.content == b""
    assert len(response.trailers) == 0
    with pytest.raises(UsageError, match="belongs to no request"):
        _ = response.url
    with pytest.raises(UsageError, match="belongs to no request"):
        response.raise_for_status()
    for name in ("timings", "elapsed"):
        with pytest.raises(UsageError, match="not received over a connection"):
            getattr(response, name)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (100, "is_informational"),
        (199, "is_informational"),
        (200, "is_success"),
        (299, "is_success"),
        (300, ""),
        (304, ""),
        (301, "is_redirect"),
        (302, "is_redirect"),
        (303, "is_redirect"),
        (307, "is_redirect"),
        (308, "is_redirect"),
        (400, "is_client_error"),
        (499, "is_client_error"),
        (500, "is_server_error"),
        (599, "is_server_error"),
        (600, ""),
        (999, ""),
    ],
)
def test_the_kinds_of_status(status: int, kind: str) -> None:
    kinds = ("is_informational", "is_success", "is_redirect", "is_client_error", "is_server_error")
    response = Response(status, headers={"location": "/"})
    assert [name for name in kinds if getattr(response, name)] == ([kind] if kind else [])
    assert not Response(status).is_redirect


def test_links_by_their_relation() -> None:
    fields = [
        ("Link", '<https://h/?p=2>; rel="next"; title="a, b", </last>; rel=last'),
        ("Link", "</plain>"),
    ]
    assert Response(200, headers=fields).links == {
        "next": {"url": "https://h/?p=2", "rel": "next", "title": "a, b"},
        "last": {"url": "/last", "rel": "last"},
        "/plain": {"url": "/plain"},
    }
    assert Response(200).links == {}


async def test_trailers_are_those_of_the_source() -> None:
    response, source = streamed(b"a")
    assert len(response.trailers) == 0
    source.trailers = CIMultiDict({"Digest": "x"})
    assert response.trailers["digest"] == "x"


# Time


def test_timings() -> None:
    timings = Timings(1.0)
    names = ("pool", "dns", "connect", "tls", "send", "wait", "receive", "total")
    assert [getattr(timings, name) for name in names] == [None] * 8
    assert repr(timings) == "<Timings >"
    timings.acquired_at, timings.sent_at, timings.head_at, timings.ended_at = 1.5, 2.5, 4.5, 8.5
    timings.dns, timings.connect, timings.tls = 0.1, 0.2, 0.0
    assert [getattr(timings, name) for name in names] == [0.5, 0.1, 0.2, 0.0, 1.0, 2.0, 4.0, 7.5]
    assert repr(timings) == (
        "<Timings pool=0.500000 dns=0.100000 connect=0.200000 tls=0.000000 "
        "send=1.000000 wait=2.000000 receive=4.000000 total=7.500000>"
    )
    # The answer came before all of the request was sent.
    timings.sent_at = 5.0
    assert timings.wait == 0.0


def test_elapsed_is_known_at_the_end() -> None:
    timings = Timings(1.0)
    response = Response(200, timings=timings)
    assert response.timings is timings
    with pytest.raises(ResponseNotRead, match="elapsed"):
        _ = response.elapsed
    timings.ended_at = 2.5
    assert response.elapsed == timedelta(seconds=1.5)


# Errors for errors


@pytest.mark.parametrize("status", [199, 200, 302, 399, 600])
def test_no_error_is_raised_for_what_is_none(status: int) -> None:
    response = Response(status, request=GET)
    assert response.raise_for_status() is response


@pytest.mark.parametrize("status", [400, 599])
def test_an_error_is_raised_for_an_error(status: int) -> None:
    response = Response(status, reason="Oh No", request=GET, content="  <b>\x1b[31mÄ\r\nhere\x00\u202e " + "x" * 1000)
    with pytest.raises(HTTPStatusError) as caught:
        response.raise_for_status()
    error = caught.value
    assert (error.request, error.response) == (GET, response)
    message = str(error)
    assert message.startswith(f"{status} Oh No from GET https://h:8443/a: <b> [31mÄ  here   xxx")
    assert message.endswith("x" * 150)
    assert len(message) < 260


async def test_the_message_has_no_body_where_it_was_not_read() -> None:
    source = Source(b"secret")
    for response in (Response(404, source=source, request=GET), Response(404, request=GET)):
        with pytest.raises(HTTPStatusError) as caught:
            response.raise_for_status()
        assert str(caught.value) == "404 from GET https://h:8443/a"


def test_a_reason_does_not_steer_the_terminal() -> None:
    with pytest.raises(HTTPStatusError, match=r"^404 No 31m from GET"):
        Response(404, reason="No\x9b31m", request=GET).raise_for_status()


def test_the_message_is_in_the_encoding_of_the_body() -> None:
    response = Response(
        404, headers={"Content-Type": "a/b; charset=utf-16-le"}, content="ä€".encode("utf-16-le"), request=GET
    )
    with pytest.raises(HTTPStatusError, match="ä€$"):
        response.raise_for_status()


def test_a_status_error_can_be_pickled() -> None:
    response = Response(404, headers={"a": "b"}, content=b"x", request=GET)
    with pytest.raises(HTTPStatusError) as caught:
        response.raise_for_status()
    again = pickled(caught.value)
    assert str(again) == str(caught.value)
    assert again.response.status_code == 404
    assert again.response.headers["A"] == "b"
    assert again.response.content == b"x"
    assert again.request.url == GET.url


# The body, whole


@pytest.mark.parametrize("attribute", ["content", "text"])
async def test_a_body_not_read_cannot_be_looked_at(attribute: str) -> None:
    response, _ = streamed(b"a")
    with pytest.raises(ResponseNotRead, match=r"await response.read\(\) first"):
        getattr(response, attribute)
    with pytest.raises(ResponseNotRead):
        response.json()


async def test_read_keeps_the_body() -> None:
    response, source = streamed(b"a", b"bc")
    assert await response.read() == b"abc"
    assert await response.read() == response.content == b"abc"
    assert response.text == "abc"
    # What is kept can be iterated, again and again.
    for _ in range(2):
        assert [chunk async for chunk in response.iter_bytes(2)] == [b"ab", b"c"]
        assert [chunk async for chunk in response.iter_raw()] == [b"abc"]
        assert [text async for text in response.iter_text()] == ["abc"]
        assert [line async for line in response.iter_lines()] == ["abc"]
        assert [event async for event in response.iter_events()] == []
    assert source.log == []


async def test_a_body_of_one_piece_is_not_copied() -> None:
    piece = bytes(100_000)
    response, _ = streamed(piece)
    assert await response.read() is piece


async def test_an_empty_body() -> None:
    response, _ = streamed()
    assert await response.read() == b""
    assert response.text == ""
    assert [chunk async for chunk in response.iter_bytes()] == []


async def test_what_was_iterated_cannot_be_read() -> None:
    response, source = streamed(b"a")
    assert [chunk async for chunk in response.iter_bytes()] == [b"a"]
    for _ in range(2):
        with pytest.raises(StreamConsumed):
            await response.read()
    with pytest.raises(ResponseNotRead):
        _ = response.content
    assert source.log == []


async def test_reading_while_somebody_else_reads_disturbs_nobody() -> None:
    response, source = streamed(b"a", b"b")
    first = asyncio.create_task(response.read())
    await asyncio.sleep(0)
    with pytest.raises(StreamConsumed):
        await response.read()
    assert await first == b"ab"
    assert source.log == []


async def test_what_was_given_up_cannot_be_read() -> None:
    response, source = streamed(b"a")
    async with response:
        pass
    assert source.log == ["close"]
    with pytest.raises(StreamConsumed, match="given up"):
        await response.read()


async def test_what_was_read_stays_when_it_is_closed() -> None:
    response, _ = streamed(b"a")
    await response.read()
    await response.close()
    assert await response.read() == b"a"
    assert [chunk async for chunk in response.iter_bytes()] == [b"a"]


async def test_a_body_that_breaks_off_is_aborted() -> None:
    response, source = streamed(b"a", ReadError("broken"))
    with pytest.raises(ReadError) as caught:
        await response.read()
    assert caught.value.request is GET
    assert source.log == ["abort"]
    with pytest.raises(StreamConsumed):
        await response.read()


async def test_a_cancelled_read_aborts() -> None:
    response, source = streamed(b"a", asyncio.CancelledError())
    with pytest.raises(asyncio.CancelledError):
        await response.read()
    assert source.log == ["abort"]


async def test_a_body_larger_than_allowed() -> None:
    response, source = streamed(b"abc", b"de")
    response.max_content_bytes = 4
    with pytest.raises(ContentTooLarge, match=r"larger than 4 bytes \(max_content_bytes\) \[GET https://h:8443/a\]"):
        await response.read()
    assert source.log == ["abort"]
    assert len(source.pieces) == 0
    response, source = streamed(b"abc", b"d")
    response.max_content_bytes = 4
    assert await response.read() == b"abcd"


async def test_a_bomb_is_stopped_at_the_limit() -> None:
    bomb = gzip.compress(bytes(100_000_000))
    response, source = streamed(
        *(bomb[start : start + 1000] for start in range(0, len(bomb), 1000)), headers={"Content-Encoding": "gzip"}
    )
    response.max_content_bytes = 1_000_000
    with pytest.raises(ContentTooLarge):
        await response.read()
    assert source.log == ["abort"]
    assert len(source.pieces) > 90


# Codings


@pytest.mark.parametrize(
    ("headers", "transfer_codings", "sent"),
    [
        ({"Content-Encoding": "gzip"}, (), gzip.compress(b"abc", mtime=0)),
        ({"content-encoding": " GZIP ,"}, (), gzip.compress(b"abc", mtime=0)),
        ({"Content-Encoding": "deflate, gzip"}, (), gzip.compress(zlib.compress(b"abc"), mtime=0)),
        (
            [("Content-Encoding", "deflate"), ("Content-Encoding", "gzip")],
            (),
            gzip.compress(zlib.compress(b"abc"), mtime=0),
        ),
        ({"Content-Encoding": "gzip"}, ("deflate",), zlib.compress(gzip.compress(b"abc", mtime=0))),
        ({}, ("deflate",), zlib.compress(b"abc")),
        ({"Content-Encoding": "identity"}, (), b"abc"),
        ({"Content-Encoding": "klingon"}, (), b"abc"),
        ({"Content-Encoding": "klingon"}, ("gzip",), gzip.compress(b"abc", mtime=0)),
        ({"Content-Encoding": ""}, (), b"abc"),
    ],
)
async def test_codings_are_undone(headers: Any, transfer_codings: tuple[str, ...], sent: bytes) -> None:
    response, _ = streamed(sent, headers=headers, transfer_codings=transfer_codings)
    assert await response.read() == b"abc"


async def test_raw_is_what_was_sent_without_what_the_transfer_did_to_it() -> None:
    sent = gzip.compress(b"abc")
    response, _ = streamed(zlib.compress(sent), headers={"Content-Encoding": "gzip"}, transfer_codings=("deflate",))
    assert b"".join([chunk async for chunk in response.iter_raw()]) == sent


async def test_what_was_decoded_is_not_raw_any_more() -> None:
    response, _ = streamed(gzip.compress(b"abc"), headers={"Content-Encoding": "gzip"})
    await response.read()
    with pytest.raises(StreamConsumed, match="decoded when it was read"):
        response.iter_raw()
    assert [chunk async for chunk in response.iter_bytes()] == [b"abc"]


async def test_content_that_is_given_is_not_decoded() -> None:
    response = Response(200, headers={"Content-Encoding": "gzip"}, content="ä")
    assert response.content == await response.read() == b"\xc3\xa4"
    assert [chunk async for chunk in response.iter_raw()] == [b"\xc3\xa4"]


async def test_what_cannot_be_decoded_aborts() -> None:
    response, source = streamed(b"garbage", headers={"Content-Encoding": "gzip"})
    with pytest.raises(DecodingError, match=r"not gzip.*\[GET https://h:8443/a\]"):
        await response.read()
    assert source.log == ["abort"]


# Text and JSON


BOM8, BOM16 = codecs.BOM_UTF8, codecs.BOM_UTF16_LE


@pytest.mark.parametrize(
    ("content_type", "default", "body", "encoding", "text"),
    [
        (None, "utf-8", "ä".encode(), "utf-8", "ä"),
        (None, "utf-8", b"\xe4", "utf-8", "\ufffd"),
        (None, "cp1252", b"\xe4", "cp1252", "ä"),
        (None, lambda start: "cp1252", b"\xe4", "cp1252", "ä"),
        (None, lambda start: None, b"a", "utf-8", "a"),
        (None, lambda start: "klingon", b"a", "utf-8", "a"),
        (None, "base64", b"YQ==", "utf-8", "YQ=="),
        ("text/html; charset=iso-8859-1", "utf-8", b"\xe4", "iso8859-1", "ä"),
        ("text/html; charset=base64", "utf-8", b"YQ==", "utf-8", "YQ=="),
        ("text/html; charset=zlib", "utf-8", b"a", "utf-8", "a"),
        ("text/html; charset=klingon", "cp1252", b"\xe4", "cp1252", "ä"),
        ("text/html; charset=klingon", "cp1252", BOM8 + "ä".encode(), "utf-8", "ä"),
        ("text/html", "utf-8", BOM8 + b"a", "utf-8", "a"),
        ("text/html", "cp1252", BOM16 + b"a\0", "utf-16-le", "a"),
        ("text/html; charset=utf-8", "cp1252", BOM8 + b"a", "utf-8", "a"),
        ("text/html; charset=utf-8", "cp1252", BOM16, "utf-8", "\ufffd\ufffd"),
        ("text/html; charset=utf-16", "utf-8", BOM16 + b"a\0", "utf-16", "a"),
        ("text/html; charset=utf-16", "utf-8", b"a\0b\0", "utf-16", "ab"),
    ],
)
@pytest.mark.parametrize("size", [1, 100])
async def test_the_text_of_a_body(
    content_type: str | None, default: Any, body: bytes, encoding: str, text: str, size: int
) -> None:
    headers = {} if content_type is None else {"Content-Type": content_type}
    pieces = [body[start : start + size] for start in range(0, len(body), size)]
    response, _ = streamed(*pieces, headers=headers)
    response.default_encoding = default
    await response.read()
    assert (response.encoding, response.text) == (encoding, text)
    response, _ = streamed(*pieces, headers=headers)
    response.default_encoding = default
    assert "".join([part async for part in response.iter_text()]) == text


async def test_a_look_at_the_encoding_before_the_body_decides_nothing() -> None:
    response, _ = streamed(BOM16 + b"a\0")
    assert response.encoding == "utf-8"
    assert [text async for text in response.iter_text()] == ["a"]
    response, _ = streamed(BOM16 + b"a\0")
    assert response.encoding == "utf-8"
    await response.read()
    assert (response.encoding, response.text) == ("utf-16-le", "a")


async def test_the_default_encoding_is_asked_once() -> None:
    asked: list[bytes] = []

    def guess(start: bytes) -> str:
        asked.append(start)
        return "cp1252"

    response = Response(200, content=b"\xe4")
    response.default_encoding = guess
    assert response.text == response.text == "ä"
    assert response.encoding == "cp1252"
    assert asked == [b"\xe4"]


async def test_the_encoding_set_by_the_user_comes_first() -> None:
    response = Response(200, headers={"Content-Type": "text/html; charset=utf-8"}, content=b"\xe4")
    assert response.text == "\ufffd"
    response.encoding = "latin-1"
    assert (response.encoding, response.text) == ("latin-1", "ä")
    assert [text async for text in response.iter_text()] == ["ä"]
    wrong: Any
    for wrong in ("klingon", "base64", 5, None):
        with pytest.raises(UsageError, match=f"^encoding: Python knows no text encoding {wrong!r}$"):
            response.encoding = wrong


async def test_a_hook_that_returns_no_name_of_an_encoding_is_told() -> None:
    def guess(start: bytes) -> Any:
        return 5

    response = Response(200, content=b"a")
    response.default_encoding = guess
    with pytest.raises(UsageError, match="^default_encoding: must return a str or None, not int$"):
        _ = response.text


@pytest.mark.parametrize("content", [None, b"abc"], ids=["on its way", "read"])
@pytest.mark.parametrize("made", [None, 5, b"abc", Response], ids=lambda made: type(made).__name__)
async def test_what_is_no_source_does_not_take_the_place_of_a_body(made: Any, content: bytes | None) -> None:
    headers = {"Content-Encoding": "x-own"}
    source = Source(b"a", b"bc") if content is None else None
    response = Response(200, headers=headers, content=content, source=source)
    with pytest.raises(UsageError, match=f"^wrap_body: .* not {type(made).__name__}$"):
        response.wrap_body(lambda inner: made)
    assert response.headers["Content-Encoding"] == "x-own"
    assert await response.read() == b"abc"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_json_in_any_of_its_encodings(encoding: str) -> None:
    assert Response(200, content='{"a": "ä"}'.encode(encoding)).json() == {"a": "ä"}


def test_json_by_another_decoder() -> None:
    response = Response(200, content="1.10")
    response.json_decoder = partial(json.loads, parse_float=Decimal)
    assert response.json() == Decimal("1.10")


@pytest.mark.parametrize("content", [b"", b"{", b"\xff"])
def test_what_is_no_json_is_a_value_error(content: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        Response(200, content=content).json()


async def test_lines_and_text_of_a_coded_stream() -> None:
    body = gzip.compress("ä\r\nb\rc".encode())
    response, _ = streamed(*(body[at : at + 1] for at in range(len(body))), headers={"Content-Encoding": "gzip"})
    assert [line async for line in response.iter_lines()] == ["ä", "b", "c"]


@pytest.mark.parametrize("size", [0, -1])
def test_a_chunk_has_a_size(size: int) -> None:
    with pytest.raises(UsageError, match=f"at least 1 byte, not {size}"):
        Response(200).iter_bytes(size)


# The end


async def test_giving_up_and_lifting_the_deadline_reach_the_source() -> None:
    response, source = streamed(b"a")
    response.lift_deadline()
    await response.close()
    response.abort()
    assert source.log == ["lift_deadline", "close", "abort"]
    # Without a source there is nothing to do.
    response = Response(200)
    response.lift_deadline()
    response.abort()
    async with response as entered:
        assert entered is response


async def test_closing_closes_a_connection_that_was_handed_over() -> None:
    class Stream:
        closed = False

        async def read(self) -> bytes:
            return b""

        async def write(self, data: bytes) -> None:
            pass

        async def close(self) -> None:
            self.closed = True

    response, source = streamed()
    response.stream = stream = Stream()
    await response.close()
    assert stream.closed
    assert source.log == ["close"]


# The short road of a body that is here whole


class WholeSource(Source):
    """Has the whole body at once, or None of it; writes down who asks."""

    def __init__(self, whole: bytes | None, *pieces: bytes) -> None:
        super().__init__(*pieces)
        self.whole = whole

    def take_whole(self) -> bytes | None:
        self.log.append("take_whole")
        return self.whole


def direct(source: Source, headers: Any = ()) -> Response:
    head = ResponseStarted(200, "OK", "HTTP/1.1", CIMultiDict(headers), (), None)
    return assemble(head, GET, source, Timings(0.0), lambda: CONNECTION)


async def test_a_body_that_is_here_whole_is_read_without_a_wait() -> None:
    source = WholeSource(b"abc")
    response = direct(source)
    with pytest.raises(ResponseNotRead):
        _ = response.content
    assert response.read_ready()
    assert response.content == await response.read() == b"abc"
    assert response.read_ready()
    assert source.log == ["take_whole"]
    assert [piece async for piece in response.iter_bytes()] == [b"abc"]


async def test_an_empty_body_that_is_here_is_read() -> None:
    response = direct(WholeSource(b""))
    assert response.read_ready()
    assert response.content == b""


async def test_a_body_that_is_not_here_comes_by_the_general_road() -> None:
    source = WholeSource(None, b"ab", b"c")
    response = direct(source)
    assert not response.read_ready()
    assert await response.read() == b"abc"
    assert source.log == ["take_whole"] * 2


async def test_a_source_that_does_not_offer_it_is_not_asked_for_the_whole() -> None:
    response, _ = streamed(b"ab", b"c")
    assert not response.read_ready()
    assert await response.read() == b"abc"


@pytest.mark.parametrize("name", ["Content-Encoding", "content-encoding"])
@pytest.mark.parametrize("coding", ["gzip", "x-gzip"])
async def test_a_small_gzip_body_that_is_here_whole_is_decoded_at_once(name: str, coding: str) -> None:
    source = WholeSource(gzip.compress(b"abc"))
    response = direct(source, {name: coding})
    assert response.read_ready()
    assert response.content == b"abc"
    assert source.log == ["take_whole"]


PACKED = gzip.compress(b"x" * 1000)


@pytest.mark.parametrize(
    ("codings", "whole", "expected"),
    [
        (["gzip"], PACKED * 2, b"x" * 2000),
        (["gzip"], PACKED + b"\0" * 9, b"x" * 1000),
        (["gzip"], gzip.compress(b"x" * (MAX_BYTES_AT_ONCE + 1)), b"x" * (MAX_BYTES_AT_ONCE + 1)),
        (["gzip"], gzip.compress(b"x" * MAX_BYTES_AT_ONCE), b"x" * MAX_BYTES_AT_ONCE),
        (["gzip"], gzip.compress(random.Random(1).randbytes(SLICE_BYTES)), random.Random(1).randbytes(SLICE_BYTES)),
        (["GZip"], PACKED, b"x" * 1000),
        (["deflate"], zlib.compress(b"x" * 1000), b"x" * 1000),
        (["gzip, gzip"], gzip.compress(PACKED), b"x" * 1000),
        (["gzip", "gzip"], gzip.compress(PACKED), b"x" * 1000),
        (["identity"], b"abc", b"abc"),
        (["nobody-knows"], b"abc", b"abc"),
        (["gzip"], b"", b""),
        (["gzip"], PACKED[:-1], DecodingError),
        (["gzip"], b"x" + PACKED, DecodingError),
        (["gzip"], PACKED[:-8] + b"wrong" + PACKED[-3:], DecodingError),
    ],
    ids=[
        *(
            "two members",
            "padding",
            "large",
            "as large as at once",
            "long",
            "upper case",
            "deflate",
            "twice in a field",
        ),
        *("twice in two fields", "identity", "unknown", "empty", "cut", "not gzip", "wrong checksum"),
    ],
)
async def test_a_coded_body_is_the_same_on_both_roads(codings: list[str], whole: bytes, expected: Any) -> None:
    headers = [("Content-Encoding", coding) for coding in codings]
    for source in (WholeSource(whole), WholeSource(None, *[whole[at : at + 7] for at in range(0, len(whole), 7)])):
        response = direct(source, headers)
        if isinstance(expected, bytes):
            assert await response.read() == expected
            assert source.log.count("abort") == 0
        else:
            with pytest.raises(expected) as info:
                await response.read()
            assert info.value.request is GET
            assert source.log[-1] == "abort"


async def test_a_body_that_was_begun_or_given_up_is_not_taken_whole() -> None:
    source = WholeSource(b"never", b"ab", b"c")
    response = direct(source)
    await anext(response.iter_bytes())
    assert not response.read_ready()
    with pytest.raises(StreamConsumed):
        await response.read()
    assert source.log == []
    for end in (Response.abort, Response.close):
        source = WholeSource(b"never", b"ab", b"c")
        response = direct(source)
        ended = end(response)
        if ended is not None:
            await ended
        assert not response.read_ready()
        with pytest.raises(StreamConsumed):
            await response.read()
        assert "take_whole" not in source.log


async def test_a_whole_body_that_is_too_large_is_refused_once_and_for_all() -> None:
    source = WholeSource(b"abc")
    response = direct(source)
    response.max_content_bytes = 2
    with pytest.raises(ContentTooLarge, match="larger than 2 bytes") as info:
        response.read_ready()
    assert info.value.request is GET
    assert source.log == ["take_whole", "abort"]
    assert not response.read_ready()
    with pytest.raises(StreamConsumed):
        await response.read()
    response = direct(WholeSource(b"abc"))
    response.max_content_bytes = 3
    assert await response.read() == b"abc"


async def test_the_connection_is_asked_for_once_and_only_when_somebody_wants_to_know() -> None:
    asked = []

    def tell() -> ConnectionInfo:
        asked.append(1)
        return CONNECTION

    response = Response(200, connection=tell)
    assert asked == []
    assert response.connection is CONNECTION
    assert response.connection is CONNECTION
    assert pickled(response).connection == CONNECTION
    assert asked == [1]
    assert pickled(Response(200, connection=tell)).connection == CONNECTION


async def test_a_response_can_be_pickled_without_its_connection() -> None:
    response, _ = streamed(b"a", headers=[("A", "1"), ("a", "2")], timings=Timings(1.0), connection=CONNECTION)
    response.history = (Response(302, request=GET),)
    await response.read()
    again: Response = pickled(response)
    assert (again.status_code, again.content, again.connection) == (200, b"a", CONNECTION)
    assert again.headers.getall("A") == ["1", "2"]
    assert again.history[0].status_code == 302
    unread: Response = pickled(streamed(b"a")[0])
    with pytest.raises(StreamConsumed):
        await unread.read()


# Events


async def test_events_are_read_whatever_the_content_type_and_always_as_utf_8() -> None:
    headers = {"Content-Type": "text/plain; charset=latin-1"}
    response = Response(200, headers=headers, content="id: 1\ndata: ä\n\ndata: b\n\n".encode())
    assert [(event.data, event.id) async for event in response.iter_events()] == [("ä", "1"), ("b", "1")]
    # What was read can be iterated again.
    assert [event.id async for event in response.iter_events(last_event_id="0")] == ["1", "1"]


async def test_an_event_is_bounded_by_a_mebibyte_unless_told_otherwise() -> None:
    response = Response(
        200, content=b"data:" + bytes(1024 * 1024 - 5) + b"\n\n" + b"data:" + bytes(1024 * 1024) + b"\n\n"
    )
    events = response.iter_events()
    assert len((await anext(events)).data) == 1024 * 1024 - 5
    with pytest.raises(ContentTooLarge, match="larger than 1048576 bytes"):
        await anext(events)
    assert len([event async for event in response.iter_events(max_event_bytes=None)]) == 2
    with pytest.raises(UsageError, match="max_event_bytes: must be at least 1 byte, not 0"):
        response.iter_events(max_event_bytes=0)
    wrong: Any = {"max_event_bytes": "5"}
    with pytest.raises(UsageError, match="max_event_bytes: takes an int or None, not str"):
        response.iter_events(**wrong)
    wrong = {"last_event_id": 5}
    with pytest.raises(UsageError, match="last_event_id: takes a str, not int"):
        response.iter_events(**wrong)
