"""What stands in place of the network behaves as the network does, for all that stands above it."""

from __future__ import annotations

import asyncio
import gzip
import io
from collections.abc import AsyncIterator
from typing import Any

import pytest

from aiosock import Client, Request, Response, Timeout
from aiosock.errors import (
    ConnectError,
    HTTPStatusError,
    IncompleteBody,
    ReadTimeout,
    RequestError,
    ResponseNotRead,
    TotalTimeout,
    UsageError,
)
from aiosock.middleware.chain import Send
from aiosock.testing import MockTransport, reply


async def pieces() -> AsyncIterator[bytes]:
    yield b"one "
    yield b"two"


async def test_a_function_answers_and_what_was_asked_is_kept() -> None:
    def answer(request: Request) -> Response:
        return reply(json={"you": request.target})

    async with Client(transport=(mock := MockTransport(answer)), base_url="http://h") as client:
        assert (await client.get("/a", params={"b": 1})).json() == {"you": "/a?b=1"}
        assert (await client.get("/c")).json() == {"you": "/c"}
        assert not mock.closed
    assert [str(request.url) for request in mock.requests] == ["http://h/a?b=1", "http://h/c"]
    assert mock.closed


async def test_a_coroutine_function_answers() -> None:
    async def answer(request: Request) -> Response:
        await asyncio.sleep(0)
        return reply(418)

    async with Client(transport=MockTransport(answer)) as client:
        assert (await client.get("http://h/")).status_code == 418


@pytest.mark.parametrize(
    "content",
    [lambda: b"one two", lambda: "one two", lambda: io.BytesIO(b"one two"), lambda: [b"one ", b"two"], pieces],
    ids=["bytes", "str", "file", "list", "generator"],
)
async def test_the_handler_has_the_body_whole_however_it_was_sent(content: Any) -> None:
    mock = MockTransport(lambda request: reply(content=request.content))
    async with Client(transport=mock) as client:
        response = await client.post("http://h/", content=content())
        assert response.content == b"one two"
    assert [request.content for request in mock.requests] == [b"one two"]


async def test_a_body_streams_when_the_client_asks_for_it() -> None:
    asked = 0

    async def counted() -> AsyncIterator[bytes]:
        nonlocal asked
        for piece in (b"one", b"", b"two"):
            asked += 1
            yield piece

    mock = MockTransport(lambda _: reply(content=counted()))
    async with Client(transport=mock) as client, client.stream("GET", "http://h/") as response:
        assert asked == 0
        with pytest.raises(ResponseNotRead):
            _ = response.content
        iterator = response.iter_bytes()
        assert await anext(iterator) == b"one"
        assert asked == 1
        assert [piece async for piece in iterator] == [b"two"]


async def test_content_codings_are_undone() -> None:
    packed = reply(headers={"Content-Encoding": "gzip"}, content=gzip.compress(b"text"))
    async with Client(transport=MockTransport({"GET http://h/": packed})) as client:
        assert (await client.get("http://h/")).text == "text"


async def test_redirects_cookies_and_authentication_work() -> None:
    def answer(request: Request) -> Response:
        if request.target == "/":
            return reply(302, headers={"Location": "/in", "Set-Cookie": "a=1"})
        assert request.headers["Cookie"] == "a=1"
        return reply(content=request.headers["Authorization"])

    async with Client(transport=MockTransport(answer), auth=("user", "pw")) as client:
        response = await client.get("http://h/")
        assert response.text == "Basic dXNlcjpwdw=="
        assert [one.status_code for one in response.history] == [302]
        assert client.cookies["a"] == "1"


async def test_a_challenge_is_answered_and_its_body_given_up() -> None:
    from aiosock import DigestAuth

    def answer(request: Request) -> Response:
        if "Authorization" in request.headers:
            return reply(content=b"in")
        return reply(401, headers={"WWW-Authenticate": 'Digest realm="r", nonce="n", qop="auth"'}, content=pieces())

    async with Client(transport=(mock := MockTransport(answer)), auth=DigestAuth("user", "pw")) as client:
        assert (await client.get("http://h/")).text == "in"
    assert len(mock.requests) == 2


async def test_middlewares_see_what_passes() -> None:
    seen: list[str] = []

    async def watch(request: Request, next: Send) -> Response:
        response = await next(request)
        seen.append(f"{request.method} {response.status_code}")
        return response

    async with Client(transport=MockTransport(lambda _: reply(500)), middleware=[watch]) as client:
        with pytest.raises(HTTPStatusError):
            (await client.get("http://h/")).raise_for_status()
    assert seen == ["GET 500"]


async def test_an_answer_can_be_an_error_with_the_request() -> None:
    failing = MockTransport({"GET /": ConnectError("no way"), "GET /other": ValueError("a mistake of the test")})
    async with Client(transport=failing) as client:
        for host in ("one", "two"):
            with pytest.raises(ConnectError, match=rf"^no way \[GET http://{host}/\]$"):
                await client.get(f"http://{host}/?secret=1")
        with pytest.raises(ValueError, match="a mistake of the test"):
            await client.get("http://h/other")


async def test_an_error_of_the_handler_carries_its_request_unless_it_has_one() -> None:
    own = Request("GET", "http://own/")

    def answer(request: Request) -> Response:
        error = RequestError("broken")
        error.request = own if request.target == "/own" else None
        raise error

    async with Client(transport=MockTransport(answer)) as client:
        with pytest.raises(RequestError, match=r"\[GET http://h/\]$"):
            await client.get("http://h/")
        with pytest.raises(RequestError, match=r"\[GET http://own/\]$"):
            await client.get("http://h/own")


async def test_a_slow_handler_and_a_slow_body_run_into_the_timeouts() -> None:
    async def never(request: Request) -> Response:
        await asyncio.Event().wait()
        raise AssertionError

    async def stalled() -> AsyncIterator[bytes]:
        yield b"a"
        await asyncio.Event().wait()

    async with Client(transport=MockTransport(never)) as client:
        with pytest.raises(ReadTimeout, match=r"\[GET http://h/\]$"):
            await client.get("http://h/", timeout=Timeout(read=0.01))
        with pytest.raises(TotalTimeout):
            await client.get("http://h/", timeout=0.01)
    async with Client(transport=MockTransport(lambda _: reply(content=stalled()))) as client:
        with pytest.raises(ReadTimeout):
            await client.get("http://h/", timeout=Timeout(read=0.01))
        with pytest.raises(TotalTimeout):
            await client.get("http://h/", timeout=0.01)
        async with client.stream("GET", "http://h/", timeout=0.01) as response:
            assert await anext(response.iter_bytes()) == b"a"


ROUTES = {
    "GET https://h/a?x=1": reply(content="query"),
    "GET https://h/a": reply(content="url"),
    "GET /a?x=1": reply(content="path and query"),
    "GET /a": reply(content="path"),
    "POST /a": lambda request: reply(content=request.content),
}


@pytest.mark.parametrize(
    ("method", "url", "text"),
    [
        ("GET", "https://h/a?x=1", "query"),
        ("GET", "https://h:443/a", "url"),
        ("GET", "https://h/a?x=2", "url"),
        ("GET", "http://h/a?x=1", "path and query"),
        ("GET", "http://h/a?y=1", "path"),
        ("GET", "http://other/a", "path"),
        ("POST", "http://other/a", "body"),
    ],
)
async def test_the_most_precise_route_counts(method: str, url: str, text: str) -> None:
    async with Client(transport=MockTransport(ROUTES)) as client:
        options: Any = {"content": "body"} if method == "POST" else {}
        for _ in range(2):
            assert (await client.request(method, url, **options)).text == text


@pytest.mark.parametrize(("method", "url"), [("GET", "http://h/b?key=s3cret"), ("PUT", "http://h/a?key=s3cret")])
async def test_an_unknown_request_names_itself_and_the_routes_without_queries(method: str, url: str) -> None:
    async with Client(transport=MockTransport(ROUTES)) as client:
        with pytest.raises(UsageError) as caught:
            await client.request(method, url)
    said = f"no route for {method} {url.partition('?')[0]}; there are: GET https://h:443/a, GET /a, POST /a"
    assert str(caught.value) == f"MockTransport: {said}"


async def test_routes_can_be_added_and_replaced() -> None:
    mock = MockTransport()
    async with Client(transport=mock) as client:
        with pytest.raises(UsageError, match="there are: none$"):
            await client.get("http://h/")
        for status in (200, 503):
            mock.route("GET http://h/", reply(status))
            assert (await client.get("http://h/")).status_code == status


@pytest.mark.parametrize(
    ("routes", "message"),
    [
        ({"/path?s3cret": reply()}, "a route is 'METHOD URL' or 'METHOD /path', not '/path'"),
        (
            {"GET /?s3cret": 200},
            "the route GET / leads to an object of int; it takes a Response, an exception or a function",
        ),
        (3, "takes a function or a mapping, not int"),
    ],
)
def test_what_cannot_answer_is_refused(routes: Any, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        MockTransport(routes)
    assert str(caught.value) == f"MockTransport: {message}"


def test_a_function_leaves_no_place_for_a_route() -> None:
    with pytest.raises(UsageError, match="there is no place for a route"):
        MockTransport(lambda _: reply()).route("GET /", reply())


async def test_an_answer_that_is_no_response_is_refused() -> None:
    def answer(request: Request) -> Any:
        return 200

    async with Client(transport=MockTransport(answer)) as client:
        with pytest.raises(UsageError, match="the answer to GET http://h/ must be a Response, not int$"):
            await client.get("http://h/?secret=1")


def test_a_route_that_is_no_text_is_refused() -> None:
    routes: Any = {5: reply()}
    with pytest.raises(UsageError, match="a route is 'METHOD URL' or 'METHOD /path', not int"):
        MockTransport(routes)


@pytest.mark.parametrize("content", [b"12345", [b"12", b"345"], None])
async def test_a_body_that_is_shorter_than_it_says_is_incomplete(content: Any) -> None:
    def answer(request: Request) -> Response:
        return reply(headers={"Content-Length": "20"}, content=content)

    async with Client(transport=MockTransport(answer)) as client:
        with pytest.raises(IncompleteBody, match=f"cut: {5 if content else 0} of 20 bytes") as caught:
            await client.get("http://h/")
        assert caught.value.request is not None
        # Where there is none, its length is that of another.
        assert (await client.head("http://h/")).headers["Content-Length"] == "20"


async def test_a_length_that_does_not_count_is_passed_over() -> None:
    fields = [{"Content-Length": "20", "Transfer-Encoding": "chunked"}, {"Content-Length": "5"}]
    for headers in fields:
        async with Client(transport=MockTransport({"GET /": reply(headers=headers, content="12345")})) as client:
            assert (await client.get("http://h/")).text == "12345"
