"""Responses made by hand become what the network would have given."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from time import perf_counter
from typing import Any

import pytest

from aiosock.config import Timeout
from aiosock.errors import ReadTimeout, TotalTimeout, UsageError
from aiosock.message.request import Request
from aiosock.message.response import Response
from aiosock.testing import reply
from aiosock.testing.answers import IterableSource, arrived, declared_length, gathered
from aiosock.testing.bounds import Bounds


def arrive(given: Response, method: str = "GET") -> Response:
    request = Request(method, "http://h/p?secret=1")
    return arrived(given, request, Bounds(request), perf_counter())


@pytest.mark.parametrize("content", ["h\u00e9", "h\u00e9".encode(), ["h", "\u00e9"]], ids=["str", "bytes", "pieces"])
async def test_a_reply_has_its_body_however_that_is_given(content: str | bytes | list[str]) -> None:
    given = [piece.encode() for piece in content] if isinstance(content, list) else content
    assert await reply(content=given).read() == "h\u00e9".encode()


async def test_a_reply_of_json_says_so_unless_it_says_otherwise() -> None:
    response = reply(201, json={"a": [1, None]})
    assert (response.status_code, response.json()) == (201, {"a": [1, None]})
    assert response.headers["content-type"] == "application/json"
    own = reply(headers={"Content-Type": "application/problem+json"}, json={})
    assert own.headers.getall("content-type") == ["application/problem+json"]


@pytest.mark.parametrize("content", [b"ab", "ab", [b"a", b"b"], None])
async def test_trailers_are_there_once_the_body_has_ended(content: bytes | str | list[bytes] | None) -> None:
    response = reply(content=content, trailers={"X-Sum": "1"})
    assert dict(response.trailers) == {}
    assert await response.read() == (b"" if content is None else b"ab")
    assert dict(response.trailers) == {"X-Sum": "1"}


def test_a_reply_refuses_two_bodies_and_what_is_none() -> None:
    with pytest.raises(UsageError, match="given more than once: content and json"):
        reply(content=b"", json=1)
    status: Any = "200"
    with pytest.raises(UsageError, match="reply: status takes an int, not str"):
        reply(status)
    with pytest.raises(UsageError, match="takes bytes, str or an iterable of bytes, not int"):
        reply(content=3)  # type: ignore[arg-type]  # that is the test


async def test_pieces_that_are_no_bytes_are_refused() -> None:
    with pytest.raises(UsageError, match="must be bytes, not str"):
        await reply(content=["a"]).read()  # type: ignore[list-item]  # that is the test


async def test_a_body_that_is_given_up_lets_its_generator_clean_up() -> None:
    cleaned_up = asyncio.Event()

    async def pieces() -> AsyncIterator[bytes]:
        try:
            yield b"a"
            yield b"b"
        finally:
            cleaned_up.set()

    response = arrive(reply(content=pieces()))
    async for _ in response.iter_bytes():
        break
    await response.close()
    await cleaned_up.wait()


async def test_a_body_that_arrived_is_yet_to_be_read() -> None:
    response = arrive(reply(content=b"abc"))
    with pytest.raises(UsageError):
        _ = response.content
    assert response.reason == "OK"
    assert await response.read() == b"abc"
    assert response.elapsed.total_seconds() >= 0
    assert response.timings.wait is not None


@pytest.mark.parametrize(("method", "status"), [("HEAD", 200), ("GET", 204), ("GET", 304)])
@pytest.mark.parametrize("streams", [False, True])
async def test_an_answer_that_ends_with_its_head_brings_no_body(method: str, status: int, streams: bool) -> None:
    response = arrive(reply(status, content=[b"abc"] if streams else b"abc"), method)
    assert await response.read() == b""


async def test_what_the_response_had_is_kept() -> None:
    given = Response(599, reason="Odd", headers=[("A", "1"), ("A", "2")], http_version="HTTP/1.0", extensions={"x": 1})
    given.informational = (Response(103),)
    response = arrive(given)
    assert (response.status_code, response.reason, response.http_version) == (599, "Odd", "HTTP/1.0")
    assert response.headers.getall("a") == ["1", "2"]
    assert response.extensions == {"x": 1}
    assert [one.status_code for one in response.informational] == [103]


async def test_a_body_that_is_there_can_be_given_again_and_one_that_streams_cannot() -> None:
    whole, streams = reply(content=b"a"), reply(content=[b"a"])
    for _ in range(2):
        assert await arrive(whole).read() == b"a"
    assert await arrive(streams).read() == b"a"
    with pytest.raises(UsageError, match=r"the answer to GET http://h/p streams its body, and was given before"):
        arrive(streams)


async def test_a_gathered_request_has_bytes_and_its_fields() -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield b"a"
        yield b"b"

    request = Request("POST", "http://h/", content=pieces())
    whole = await gathered(request, Bounds(request))
    assert whole.content == b"ab"
    assert whole.headers == request.headers
    assert whole.headers["Transfer-Encoding"] == "chunked"
    for plain in (Request("GET", "http://h/"), Request("POST", "http://h/", content=b"x")):
        assert await gathered(plain, Bounds(plain)) is plain


async def test_a_source_is_never_taken_whole() -> None:
    source = IterableSource([b"a"])
    assert source.take_whole() is None
    source.check_deadline()
    source.lift_deadline()
    assert await source.receive() == b"a"


async def test_a_body_that_stalls_runs_into_the_timeouts() -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield b"a"
        await asyncio.Event().wait()

    request = Request("GET", "http://h/", extensions={"timeout": Timeout(read=0.01)})
    response = arrived(reply(content=pieces()), request, Bounds(request), perf_counter())
    with pytest.raises(ReadTimeout, match=r"nothing came for 0.01 s \[GET http://h/\]"):
        await response.read()


async def test_a_body_that_never_pauses_meets_the_deadline() -> None:
    def pieces() -> Iterator[bytes]:
        while True:
            yield b"a"

    deadline = asyncio.get_running_loop().time() + 0.05
    request = Request("GET", "http://h/", extensions={"timeout": Timeout(1), "deadline": deadline})
    response = arrived(reply(content=pieces()), request, Bounds(request), perf_counter())
    with pytest.raises(TotalTimeout):
        await response.read()


@pytest.mark.parametrize(
    ("value", "length"),
    [("0" * 5000 + "12", 12), ("9" * 5000, 2**63 - 1), (str(2**63), 2**63 - 1), ("0", 0), ("\xb2", 0), ("", 0)],
)
def test_a_length_is_a_number_whatever_somebody_wrote(value: str, length: int) -> None:
    assert declared_length({"Content-Length": value}) == length
    assert declared_length({"Content-Length": value, "Transfer-Encoding": "chunked"}) == 0
