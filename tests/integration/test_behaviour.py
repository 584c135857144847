"""What users expect of a client, over real sockets: redirects, cookies, authentication and middlewares together."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest

import aiosock
from aiosock import BasicAuth, BearerAuth, Client, CookieJar, DigestAuth, Request, Response
from aiosock.message.iteration import BodyWrapper
from aiosock.middleware.chain import Send
from aiosock.testing import Peer, ReceivedRequest, Server, response
from tests.kit.clients import check, checked_client

OK = response(body=b"ok")

Pages = Callable[[ReceivedRequest], bytes]


def site(pages: Pages) -> Server:
    """A server whose answers depend on the request."""

    async def script(peer: Peer) -> None:
        while (request := await peer.read_request()) is not None:
            await peer.send(pages(request))

    return Server(script)


def moved(location: str, status: int = 302, *fields: tuple[str, str], body: bytes = b"") -> bytes:
    return response(status, body, [("Location", location), *fields])


def secrets_of(request: ReceivedRequest) -> dict[str, str | None]:
    return {name: request.header(name) for name in ("Authorization", "Cookie") if request.header(name) is not None}


# Redirects


@asynccontextmanager
async def three_origins() -> AsyncIterator[tuple[Server, Server, Server]]:
    """Three servers; the first leads to the second, the second to the first's /back, that to the third."""
    async with AsyncExitStack() as stack:
        third = await stack.enter_async_context(Server.answering(OK))
        urls: dict[str, str] = {}
        first = await stack.enter_async_context(
            site(lambda request: moved(third.url if request.target == "/back" else urls["second"], 307))
        )
        second = await stack.enter_async_context(site(lambda _: moved(f"{first.url}/back", 307)))
        urls["second"] = second.url
        yield first, second, third


@pytest.mark.parametrize(
    "options",
    [
        {"auth": ("u", "p")},
        {"auth": BearerAuth("t")},
        {"cookies": {"a": "b"}},
        {"headers": {"Authorization": "Basic eA==", "Cookie": "a=b"}},
    ],
)
@pytest.mark.parametrize("of_client", [False, True])
async def test_credentials_that_were_dropped_stay_dropped(options: dict[str, Any], of_client: bool) -> None:
    async with three_origins() as (first, second, third), checked_client(**options if of_client else {}) as client:
        answer = await client.post(first.url, content=b"body", **{} if of_client else options)
        assert (answer.text, len(answer.history)) == ("ok", 3)
        begin, back = first.requests
        assert secrets_of(begin) != {}
        assert secrets_of(second.requests[0]) == secrets_of(back) == secrets_of(third.requests[0]) == {}
        assert [begin.body, back.body, third.requests[0].body] == [b"body"] * 3
        check(client)


async def test_credentials_go_along_within_their_origin() -> None:
    async with site(lambda request: moved("/b") if request.target == "/a" else OK) as server, Client() as client:
        await client.get(f"{server.url}/a", auth=("u", "p"), cookies={"a": "b"})
        assert [secrets_of(one) for one in server.requests] == [{"Authorization": "Basic dTpw", "Cookie": "a=b"}] * 2


@pytest.mark.parametrize(("size", "connections"), [(1000, 1), (60_000, 1), (10_000_000, 2)])
async def test_the_body_of_a_redirect_is_drained_within_a_bound(size: int, connections: int) -> None:
    def pages(request: ReceivedRequest) -> bytes:
        return moved("/b", body=b"x" * size) if request.target == "/a" else OK

    async with site(pages) as server, checked_client() as client:
        assert (await client.get(f"{server.url}/a")).text == "ok"
        assert server.connections == connections
        check(client)


async def test_a_loop_of_redirects_ends_with_an_error_that_has_the_last_answer() -> None:
    async with site(lambda _: moved("/")) as server, checked_client(max_redirects=4) as client:
        with pytest.raises(aiosock.TooManyRedirects) as caught:
            await client.get(server.url)
        assert caught.value.response is not None
        assert caught.value.response.status_code == 302
        assert len(server.requests) == 5
        check(client)


async def test_a_request_that_is_changed_to_another_origin_takes_no_credentials_along() -> None:
    async with Server.answering(OK) as server, Server.answering(OK) as other:
        async with Client(base_url=server.url, auth=("u", "p"), cookies={"a": "b"}) as client:

            async def elsewhere(request: Request, next: Send) -> Response:
                return await next(request.replace(url=f"{other.url}/x"))

            request = client.build_request("GET", "/a", headers={"Cookie": "c=d"})
            await client.send(request.replace(url=f"{other.url}/x"))
            await client.get("/a", middleware=[elsewhere])
            await client.get(server.url.replace("://", "://u:p@"), middleware=[elsewhere])
            await client.send((await client.get("/a")).request.replace(url=f"{other.url}/x"))
        assert [secrets_of(one) for one in other.requests] == [{}] * 4


async def test_a_redirect_is_read_from_where_a_middleware_has_sent_the_request() -> None:
    async with site(lambda request: moved("next") if request.target == "/x/in" else OK) as other:

        async def elsewhere(request: Request, next: Send) -> Response:
            if request.location.port == other.port:
                return await next(request)
            given = {"headers": request.headers, "extensions": request.extensions}
            return await next(request.replace(url=f"{other.url}/x/in", **given))

        async with Client(middleware=[elsewhere]) as client:
            await client.get("http://nowhere.example/", auth=("u", "p"), cookies={"a": "b"}, headers={"Cookie": "c=d"})
        assert [request.target for request in other.requests] == ["/x/in", "/x/next"]
        # What it took along on purpose goes on.
        sent = {"Authorization": "Basic dTpw", "Cookie": "c=d; a=b"}
        assert [secrets_of(request) for request in other.requests] == [sent, sent]


async def test_proxy_authorization_set_by_hand_is_for_no_origin_beside_a_proxy() -> None:
    headers = {"Proxy-Authorization": "Basic eA=="}
    async with Server.answering(OK) as server:
        async with Client(headers=headers, proxy={"http://proxied.example": "http://p.example"}) as client:
            for _ in range(2):
                await client.get(server.url)
        async with Client(headers=headers) as client:
            await client.get(server.url, proxy=None)
            # Without any proxy it is a field like others.
            await client.get(server.url)
        assert [one.header("Proxy-Authorization") for one in server.requests] == [None, None, None, "Basic eA=="]
        assert {one.header("Accept") for one in server.requests} == {"*/*"}


# Cookies


async def test_a_login_is_remembered_across_redirects() -> None:
    def pages(request: ReceivedRequest) -> bytes:
        if request.method == "POST":
            return moved("/home", 303, ("Set-Cookie", "session=s3; Path=/; HttpOnly"), ("Set-Cookie", "old=1"))
        known = "session=s3" in (request.header("Cookie") or "")
        return response(200 if known else 403, b"hello", [("Set-Cookie", "old=; Max-Age=0")])

    async with site(pages) as server, checked_client(base_url=server.url) as client:
        answer = await client.post("/login", data={"user": "u"})
        assert (answer.status_code, answer.text) == (200, "hello")
        assert dict(answer.history[0].cookies) == {"session": "s3", "old": "1"}
        assert dict(client.cookies) == {"session": "s3"}
        await client.get("/again")
        assert [request.header("Cookie") for request in server.requests] == [None, "session=s3; old=1", "session=s3"]
        check(client)


async def test_cookies_of_a_request_are_not_kept_and_take_precedence() -> None:
    async with Server.answering(OK) as server, Client(cookies={"a": "client", "b": "client"}) as client:
        await client.get(server.url, cookies={"a": "own"})
        await client.get(server.url)
        await client.get(server.url, headers={"Cookie": "hand=1"})
        sent = [sorted((request.header("Cookie") or "").split("; ")) for request in server.requests]
        assert sent == [["a=own", "b=client"], ["a=client", "b=client"], ["a=client", "b=client", "hand=1"]]


async def test_a_jar_may_be_shared_by_clients() -> None:
    jar = CookieJar()
    async with Server.answering(response(headers=[("Set-Cookie", "a=b")])) as server:
        async with Client(cookies=jar) as client:
            await client.get(server.url)
        async with Client(cookies=jar) as client:
            await client.get(server.url)
            assert client.cookies["a"] == "b"
            assert client.cookies.jar is jar
        assert server.requests[1].header("Cookie") == "a=b"


@pytest.mark.parametrize("line", ["", "=", ";", "a=b; Domain=com", "a=b; Domain=other.example", "a=" + "x" * 5000])
async def test_a_set_cookie_that_makes_no_sense_is_ignored(line: str) -> None:
    async with Server.answering(response(body=b"ok", headers=[("Set-Cookie", line)])) as server, Client() as client:
        for _ in range(2):
            assert (await client.get(server.url)).text == "ok"
        assert server.requests[1].header("Cookie") is None


# Authentication


async def test_whose_authentication_counts() -> None:
    basic = {"client": "Basic Yzpj", "own": "Basic bzpv", "url": "Basic dTp1", "hand": "hand"}
    async with Server.answering(OK) as server, Client(auth=("c", "c")) as client:
        in_url = server.url.replace("://", "://u:u@")
        await client.get(server.url)
        await client.get(server.url, auth=("o", "o"))
        await client.get(server.url, auth=None)
        await client.get(in_url)
        await client.get(in_url, auth=("o", "o"))
        await client.get(server.url, headers={"authorization": "hand"})
        await client.get(server.url, headers={"authorization": "hand"}, auth=BasicAuth("o", "o"))
        await client.send(client.build_request("GET", server.url))
        await client.send(Request("GET", server.url))
        sent = [request.header_values("Authorization") for request in server.requests]
        expected = ["client", "own", None, "url", "own", "hand", "own", "client", None]
        assert sent == [[] if name is None else [basic[name]] for name in expected]


async def test_what_a_client_was_given_for_its_base_url_stays_there() -> None:
    async with Server.answering(OK) as server, Server.answering(OK) as other:
        async with Client(base_url=server.url, auth=("u", "p"), cookies={"a": "b"}) as client:
            await client.get("/x")
            await client.get(other.url)
            await client.get(other.url, auth=("v", "q"))
        assert secrets_of(server.requests[0]) == {"Authorization": "Basic dTpw", "Cookie": "a=b"}
        assert [secrets_of(one) for one in other.requests] == [{}, {"Authorization": "Basic djpx"}]


def digest_page(request: ReceivedRequest) -> bytes:
    """A page for ``u`` with the password ``p``, by digest with SHA-256 and nothing else."""

    def hashed(*parts: str) -> str:
        return hashlib.sha256(":".join(parts).encode()).hexdigest()

    given = dict(re.findall(r'(\w+)="?([^",]*)"?', request.header("Authorization") or ""))
    answer = given.pop("response", None)
    if answer is not None:
        middle = (given["nonce"], given["nc"], given["cnonce"], "auth")
        if answer == hashed(hashed("u", "r", "p"), *middle, hashed(request.method, request.target)):
            return response(body=given["nc"].encode() + request.body)
    challenge = 'Digest realm="r", qop="auth", algorithm=SHA-256, nonce="n"'
    return response(401, b"who are you?", [("WWW-Authenticate", "Bogus ="), ("WWW-Authenticate", challenge)])


async def test_digest_answers_its_challenge_and_then_comes_unasked() -> None:
    async with site(digest_page) as server, checked_client(auth=DigestAuth("u", "p")) as client:
        assert (await client.get(f"{server.url}/a?b=c")).text == "00000001"
        assert (await client.post(f"{server.url}/d", content=b"!")).text == "00000002!"
        assert len(server.requests) == 3
        together = await asyncio.gather(*(client.get(f"{server.url}/{number}") for number in range(20)))
        assert sorted(int(one.text, 16) for one in together) == list(range(3, 23))
        check(client)


async def test_a_wrong_password_is_tried_once() -> None:
    async with site(digest_page) as server, checked_client() as client:
        answer = await client.get(server.url, auth=DigestAuth("u", "wrong"))
        assert (answer.status_code, answer.text) == (401, "who are you?")
        assert len(server.requests) == 2
        assert server.connections == 1
        check(client)


async def test_digest_does_not_follow_a_redirect_to_another_origin() -> None:
    async with site(digest_page) as other:
        async with site(lambda _: moved(other.url)) as server, checked_client() as client:
            assert (await client.get(server.url, auth=DigestAuth("u", "p"))).status_code == 401
        assert [secrets_of(request) for request in other.requests] == [{}]


async def test_a_flow_of_ones_own_may_ask_for_a_token_first() -> None:
    async def flow(request: Request) -> AsyncGenerator[Request, Response]:
        answer = yield Request("POST", request.url.with_path("/token"), content=b"secret")
        token = (await answer.read()).decode()
        yield request.replace(headers={**request.headers, "Authorization": f"Bearer {token}"})

    def pages(request: ReceivedRequest) -> bytes:
        return response(body=b"t0" if request.target == "/token" else (request.header("Authorization") or "").encode())

    async with site(pages) as server, checked_client() as client:
        assert (await client.get(f"{server.url}/x", auth=flow)).text == "Bearer t0"
        check(client)


async def test_none_means_none_for_what_the_url_says_too() -> None:
    async with Server.answering(OK) as server, Client() as client:
        in_url = server.url.replace("://", "://u:u@")
        await client.get(in_url, auth=None)
        await client.get(in_url, auth=None, headers={"Authorization": "hand"})
        assert [one.header("Authorization") for one in server.requests] == [None, "hand"]


async def test_a_flow_that_waits_is_bounded_by_the_time_of_the_request() -> None:
    async def waiting(request: Request) -> AsyncGenerator[Request, Response]:
        await asyncio.Event().wait()
        yield request

    async def stuck(request: Request, next: Send) -> Response:
        await asyncio.Event().wait()
        raise AssertionError

    async with Server.answering(OK) as server, checked_client() as client:
        for options in ({"auth": waiting}, {"middleware": [stuck]}):
            with pytest.raises(aiosock.TotalTimeout, match="longer than 0.1 s in all; it was in a middleware or auth"):
                await client.get(server.url, timeout=0.1, **options)
        assert (await client.get(server.url)).text == "ok"
        check(client)


async def test_a_response_of_a_middlewares_own_answers_its_request_whatever_else_was_sent() -> None:
    async def reporting(request: Request, next: Send) -> Response:
        if request.location.target != "/old":
            return await next(request)
        await (await next(Request("POST", f"{elsewhere.url}/metrics"))).read()
        return Response(307, headers={"Location": "/new"})

    pages = site(lambda request: response(body=request.target.encode() + request.body))
    async with pages as server, Server.answering(OK) as elsewhere, checked_client(middleware=[reporting]) as client:
        answer = await client.post(f"{server.url}/old", content=b"secret", headers={"X-Api-Key": "key"})
        assert (answer.text, str(answer.url)) == ("/newsecret", f"{server.url}/new")
        assert [request.target for request in elsewhere.requests] == ["/metrics"]
        check(client)


async def test_a_request_of_a_flow_goes_the_way_of_the_users() -> None:
    async def flow(request: Request) -> AsyncGenerator[Request, Response]:
        yield Request("GET", "http://id.example/token")
        yield request

    async with Server.answering(OK) as proxy, Client() as client:
        await client.get("http://api.example/", auth=flow, proxy=proxy.url)
        assert [one.target for one in proxy.requests] == ["http://id.example/token", "http://api.example/"]


async def test_what_authenticates_and_the_cookies_may_be_set_later() -> None:
    async with Server.answering(OK) as server, Client() as client:
        await client.get(server.url)
        client.auth, client.cookies = ("u", "p"), {"a": "b"}
        await client.get(server.url)
        client.auth = None
        assert client.auth is None
        await client.get(server.url)
        sent = [{}, {"Authorization": "Basic dTpw", "Cookie": "a=b"}, {"Cookie": "a=b"}]
        assert [secrets_of(request) for request in server.requests] == sent


async def test_an_earlier_calls_deadline_is_not_a_later_ones() -> None:
    async with Server.answering(OK) as server, Client() as client:
        request = (await client.get(server.url, timeout=30)).request
        assert request is not None
        past = {**request.extensions, "deadline": 0.0, "timeout": None}
        assert (await client.send(request.replace(extensions=past))).text == "ok"


# Middlewares of one's own


async def test_middlewares_of_client_and_request() -> None:
    log: list[str] = []

    def noting(name: str) -> Any:
        async def middleware(request: Request, next: Send) -> Response:
            log.append(f"{name} {request.target}")
            return await next(request)

        return middleware

    async with (
        site(lambda request: moved("/b") if request.target == "/a" else OK) as server,
        checked_client(middleware=[noting("first"), noting("second")]) as client,
    ):
        await client.get(f"{server.url}/a", middleware=[noting("own")])
        assert log == ["first /a", "second /a", "own /a", "first /b", "second /b", "own /b"]
        log.clear()
        await client.get(f"{server.url}/b")
        assert log == ["first /b", "second /b"]


async def test_a_middleware_may_ask_again_and_close_what_it_does_not_return() -> None:
    async def persistent(request: Request, next: Send) -> Response:
        while (answer := await next(request)).status_code == 503:
            await answer.close()
        return answer

    async with (
        Server.answering(response(503, b"not now"), response(503), OK) as server,
        checked_client(middleware=[persistent]) as client,
    ):
        assert (await client.get(server.url)).text == "ok"
        assert len(server.requests) == 3
        assert server.connections == 1
        check(client)


async def test_a_middleware_may_answer_without_sending() -> None:
    async def canned(request: Request, next: Send) -> Response:
        return Response(200, content="canned")

    async with Client(middleware=[canned]) as client:
        answer = await client.get("http://nowhere.example/x")
        assert (answer.text, str(answer.url)) == ("canned", "http://nowhere.example/x")
        async with client.stream("GET", "http://nowhere.example/x") as streamed:
            assert [piece async for piece in streamed.iter_bytes()] == [b"canned"]


class Counting(BodyWrapper):
    """Counts what comes through, and tells it in the end."""

    count = 0

    async def receive(self) -> bytes:
        piece = await super().receive()
        self.count += len(piece)
        return piece.upper()


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("chunked", [False, True])
async def test_a_middleware_may_wrap_the_body(streamed: bool, chunked: bool) -> None:
    wrappers: list[Counting] = []

    async def counting(request: Request, next: Send) -> Response:
        answer = await next(request)
        answer.wrap_body(lambda source: wrappers.append(Counting(source)) or wrappers[-1])
        return answer

    fields = [("Transfer-Encoding", "chunked")] if chunked else []
    body = b"3\r\nabc\r\n2\r\nde\r\n0\r\nX: y\r\n\r\n" if chunked else b"abcde"
    async with (
        Server.answering(response(200, body, fields)) as server,
        checked_client(middleware=[counting]) as client,
    ):
        async with client.stream("GET", server.url) as answer:
            text = (
                "".join([piece async for piece in answer.iter_text()]) if streamed else (await answer.read()).decode()
            )
        assert text == "ABCDE"
        assert wrappers[0].count == 5
        assert list(answer.trailers.items()) == ([("X", "y")] if chunked else [])
        check(client)


async def test_a_body_that_is_read_may_still_be_wrapped() -> None:
    async def reading(request: Request, next: Send) -> Response:
        answer = await next(request)
        await answer.read()
        answer.wrap_body(Counting)
        return answer

    async with Server.answering(OK) as server, checked_client(middleware=[reading]) as client:
        assert (await client.get(server.url)).text == "OK"


async def test_a_body_that_is_being_read_cannot_be_wrapped() -> None:
    async with Server.answering(OK) as server, checked_client() as client, client.stream("GET", server.url) as answer:
        async for _ in answer.iter_bytes():
            with pytest.raises(aiosock.StreamConsumed, match="before it was wrapped"):
                answer.wrap_body(Counting)


async def test_a_middleware_that_gives_no_response_is_told_and_the_client_goes_on() -> None:
    async def forgetful(request: Request, next: Send) -> Response:
        await (await next(request)).close()
        return None  # type: ignore[return-value]  # that is the fault

    async with Server.answering(OK) as server, checked_client() as client:
        with pytest.raises(aiosock.UsageError, match="forgetful must return a Response, not NoneType"):
            await client.get(server.url, middleware=[forgetful])
        assert (await client.get(server.url)).text == "ok"
        check(client)


async def test_what_a_failing_middleware_got_is_given_up() -> None:
    async def failing(request: Request, next: Send) -> Response:
        await next(request)
        await next(request)
        raise KeyError

    async with Server.answering(OK) as server, checked_client(middleware=[failing]) as client:
        with pytest.raises(KeyError) as caught:
            await client.get(server.url)
        assert caught.traceback
        check(client)


async def test_a_transport_of_ones_own_is_held_to_its_promise() -> None:
    class Odd:
        async def send(self, request: Request) -> Response:
            return None  # type: ignore[return-value]  # that is the fault

        async def close(self) -> None:
            pass

    async with Client(transport=Odd()) as client:
        with pytest.raises(aiosock.UsageError, match="Odd.send must return a Response, not NoneType"):
            await client.get("http://h/")
        with pytest.raises(aiosock.UsageError, match="proxy: there is none on the way to a transport"):
            await client.get("http://h/", proxy="http://p/")
        with pytest.raises(aiosock.UsageError, match="guard: there is none on the way to a transport"):
            await client.get("http://h/", guard=aiosock.Guard())
    with pytest.raises(aiosock.UsageError, match="proxy: there is none on the way to a transport"):
        Client(transport=Odd(), proxy="http://p/")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"proxies": {}}, "a request has no option 'proxies'; it is proxy here"),
        ({"verify": False}, r"a request has no option 'verify'; it is Client\(verify=...\) here"),
        ({"cheese": 1}, "a request has no option 'cheese'$"),
        ({"follow_redirects": "no"}, "follow_redirects: takes True or False, not str"),
        ({"extensions": 5}, "extensions: takes a mapping, not int"),
        ({"extensions": {"auth": 5}}, "auth: takes"),
        ({"extensions": {"cookies": {"a;b": "c"}}}, "cookies: "),
        ({"extensions": {"middleware": [None]}}, "middleware: takes functions"),
        ({"middleware": [Counting]}, "middleware: takes functions .*, not the class Counting"),
        ({"on_informational": 5}, "on_informational: takes a function"),
    ],
)
async def test_options_that_cannot_be_used_are_named(options: dict[str, Any], words: str) -> None:
    async with Server.answering(OK) as server, checked_client() as client:
        with pytest.raises(aiosock.UsageError, match=words):
            await client.get(server.url, **options)
        assert server.connections == 0


@pytest.mark.parametrize("given", [print, "x", {"a": 1}, [1]])
def test_what_is_no_list_of_middlewares_is_refused(given: Any) -> None:
    with pytest.raises(aiosock.UsageError, match="middleware: takes"):
        Client(middleware=given)


@pytest.mark.parametrize("option", ["auth", "cookies", "proxy"])
def test_what_cannot_be_used_is_named(option: str) -> None:
    with pytest.raises(aiosock.UsageError, match=f"{option}: "):
        Client(**{option: 5})
