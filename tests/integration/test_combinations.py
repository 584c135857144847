"""What is switched on together works as one would expect: each by itself, and none in the way of another."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import re
from collections.abc import Callable
from ssl import SSLContext
from typing import Any
from urllib.parse import urlsplit

import pytest

import aiosock
from aiosock import HSTS, Cache, CircuitBreaker, Client, Coalesce, DigestAuth, Guard, Proxy, RateLimit, Retry
from aiosock.message import trace
from aiosock.middleware import retry
from aiosock.testing import Peer, ReceivedRequest, Server, response
from tests.kit.clients import check, checked_client, settled
from tests.kit.relay import relay

QUICK = Retry(4, backoff=0.001)
LOOPBACK = Guard(hosts=["127.0.0.0/8"], ports=None, allow_proxy=True)


class Clock:
    def __init__(self) -> None:
        self.now = 1e9

    def __call__(self) -> float:
        return self.now


def lasting(failures: int) -> CircuitBreaker:
    """A circuit breaker that does not close again."""
    return CircuitBreaker(failures=failures, recovery=1000, random=lambda: 0.5)


def site(pages: Callable[[ReceivedRequest], bytes]) -> Server:
    """A server whose answers depend on the request."""

    async def script(peer: Peer) -> None:
        while (request := await peer.read_request()) is not None:
            await peer.send(pages(request))
            if "close" in request.header_tokens("Connection"):
                return

    return Server(script)


def by_digest(page: Callable[[ReceivedRequest], bytes]) -> Callable[[ReceivedRequest], bytes]:
    """Let only ``u`` with the password ``p`` see a page."""

    def hashed(*parts: str) -> str:
        return hashlib.sha256(":".join(parts).encode()).hexdigest()

    def answer(request: ReceivedRequest) -> bytes:
        given = dict(re.findall(r'(\w+)="?([^",]*)"?', request.header("Authorization") or ""))
        if given:
            middle = (given["nonce"], given["nc"], given["cnonce"], "auth")
            if given["response"] == hashed(hashed("u", "r", "p"), *middle, hashed(request.method, request.target)):
                return page(request)
        challenge = 'Digest realm="r", qop="auth", algorithm=SHA-256, nonce="n"'
        return response(401, headers=[("WWW-Authenticate", challenge), ("Set-Cookie", "seen=1")])

    return answer


class Flaky:
    """A page that is not there the first times it is asked for."""

    def __init__(self, failures: int) -> None:
        self.failures = failures
        self.asked: list[ReceivedRequest] = []

    def __call__(self, request: ReceivedRequest) -> bytes:
        self.asked.append(request)
        return response(503) if len(self.asked) <= self.failures else response(body=b"here")


async def test_retries_around_a_rated_guarded_client_through_a_proxy_with_digest() -> None:
    page, told = Flaky(2), list[Any]()
    async with (
        site(by_digest(page)) as server,
        Server(relay) as proxy,
        checked_client(
            retry=QUICK,
            guard=LOOPBACK,
            proxy=Proxy(proxy.url),
            auth=DigestAuth("u", "p"),
            middleware=[RateLimit("1000/s", burst=10, concurrency=2), CircuitBreaker(failures=10)],
            on_event=told.append,
        ) as client,
    ):
        answer = await client.get(f"{server.url}/page")
        assert answer.text == "here"
        assert [one.status_code for one in answer.extensions["attempts"]] == [503, 503, 200]
        # The challenge was answered once; from then on each try came with its own answer, and with the cookie.
        assert [request.header("Cookie") for request in page.asked] == ["seen=1"] * 3
        assert len({request.header("Authorization") for request in page.asked}) == 3
        assert len(server.requests) == 4
        assert {request.target for request in proxy.requests} == {f"{server.url}/page"}
        assert [type(event).__name__ for event in told].count("RequestRetried") == 2
        together = await asyncio.gather(*(client.get(f"{server.url}/{number}") for number in range(10)))
        assert {one.text for one in together} == {"here"}
        check(client)


def validated(page: Flaky) -> Callable[[ReceivedRequest], bytes]:
    """Let a page be kept for a minute by one user, and confirm it."""

    def answer(request: ReceivedRequest) -> bytes:
        asked = request.header("If-None-Match")
        answered = page(request)
        if b"here" not in answered:
            return answered
        fields = [("Cache-Control", "private, max-age=60"), ("ETag", '"1"')]
        return response(304 if asked == '"1"' else 200, b"" if asked == '"1"' else b"here", fields)

    return answer


def own_middlewares(clock: Clock) -> dict[str, Any]:
    return {
        "cache": Cache(clock=clock),
        "coalesce": Coalesce(),
        "rate": RateLimit("1000/s", burst=50, concurrency=2),
        "breaker": CircuitBreaker(failures=10),
    }


@pytest.mark.parametrize("order", list(itertools.permutations(own_middlewares(Clock()))), ids="-".join)
async def test_in_any_order_a_flaky_page_behind_digest_is_fetched_once_kept_and_confirmed(
    order: tuple[str, ...],
) -> None:
    page, clock = Flaky(2), Clock()
    own = own_middlewares(clock)
    async with (
        site(by_digest(validated(page))) as server,
        Server(relay) as proxy,
        own["cache"],
        checked_client(
            retry=QUICK,
            guard=LOOPBACK,
            proxy=Proxy(proxy.url),
            auth=DigestAuth("u", "p"),
            middleware=[own[name] for name in order],
        ) as client,
    ):
        url = f"{server.url}/page"
        # The cookie of the challenge is there from then on: it is another user's page without it.
        assert (await client.get(f"{server.url}/login")).text == "here"
        page.asked.clear()
        first = await client.get(url)
        assert (first.text, first.extensions["cache"]) == ("here", "miss")
        assert [one.status_code for one in first.extensions["attempts"]] == [503, 503, 200]
        assert len(page.asked) == 3
        for _ in range(2):
            again = await asyncio.gather(*(client.get(url) for _ in range(5)))
            assert {(one.text, one.extensions["cache"]) for one in again} == {("here", "hit")}
            # Who asks for itself, with a middleware or a password of its own, is asked for by itself.
            assert (await client.get(url, retry=None)).extensions["cache"] == "hit"
        assert len(page.asked) == 3
        clock.now += 61
        confirmed = await client.get(url)
        assert (confirmed.status_code, confirmed.text, confirmed.extensions["cache"]) == (200, "here", "revalidated")
        assert page.asked[-1].header("If-None-Match") == '"1"'
        other = await client.get(url, auth=DigestAuth("u", "wrong"))
        assert (other.status_code, other.extensions["cache"]) == (401, "miss")
        assert {urlsplit(request.target).netloc for request in proxy.requests} == {f"127.0.0.1:{server.port}"}
        check(client)


async def test_all_of_it_goes_through_a_tunnel_too(server_context: SSLContext, ca_file: str) -> None:
    page, told = Flaky(1), list[Any]()
    pages, own = by_digest(validated(page)), own_middlewares(Clock())

    async def script(peer: Peer) -> None:
        """The proxy, and from then on the host behind it."""
        await peer.read_request()
        await peer.send(b"HTTP/1.1 200 OK\r\n\r\n")
        await peer.start_tls(server_context)
        while (request := await peer.read_request()) is not None:
            await peer.send(pages(request))

    async with (
        Server(script) as proxy,
        own["cache"],
        checked_client(
            retry=QUICK,
            guard=Guard(allow_private=True, hosts=["localhost"], allow_proxy=True),
            proxy=Proxy(proxy.url),
            verify=ca_file,
            auth=DigestAuth("u", "p"),
            middleware=[HSTS(), *own.values()],
            on_event=told.append,
        ) as client,
    ):
        states = [(await client.get("https://localhost/page")).extensions["cache"] for _ in range(3)]
        assert states == ["miss", "hit", "hit"]
        asked = [(request.method, request.target) for request in proxy.requests]
        # A challenge, a bad moment, and the page.
        assert asked == [("CONNECT", "localhost:443"), *[("GET", "/page")] * 3]
        assert [type(event).__name__ for event in told].count("RequestRetried") == 1
        check(client)


async def test_what_is_kept_stands_in_while_a_circuit_is_open() -> None:
    clock, up = Clock(), True

    def pages(request: ReceivedRequest) -> bytes:
        return (
            response(body=b"old", headers=[("Cache-Control", "max-age=1, stale-if-error=60")]) if up else response(503)
        )

    async with (
        site(pages) as server,
        Cache(clock=clock) as cache,
        checked_client(middleware=[cache, CircuitBreaker(failures=1, recovery=1000)], retry=QUICK) as client,
    ):
        await client.get(server.url)
        up = False
        clock.now += 2
        for _ in range(3):
            answer = await client.get(server.url)
            assert (answer.text, answer.extensions["cache"], len(answer.extensions["attempts"])) == ("old", "stale", 1)
        assert len(server.requests) == 2
        with pytest.raises(aiosock.CircuitOpen):
            await client.get(server.url, headers={"Cache-Control": "no-cache"})
        check(client)


async def test_a_guarded_client_is_not_given_what_an_unguarded_one_has_in_a_cache_that_they_share() -> None:
    pages = response(body=b"internal", headers=[("Cache-Control", "public, max-age=60")])
    async with site(lambda request: pages) as server, Cache() as cache:
        async with checked_client(middleware=[cache]) as client:
            assert (await client.get(server.url)).text == "internal"
            with pytest.raises(aiosock.BlockedAddress):
                await client.get(server.url, guard=Guard())
        async with checked_client(middleware=[cache], guard=Guard(ports=None)) as client:
            with pytest.raises(aiosock.BlockedAddress):
                await client.get(server.url)


async def test_requests_with_a_middleware_or_retries_of_their_own_share_one_exchange() -> None:
    started, go = asyncio.Event(), asyncio.Event()

    async def script(peer: Peer) -> None:
        while await peer.read_request() is not None:
            started.set()
            await go.wait()
            await peer.send(response(body=b"here"))

    async def own(request: aiosock.Request, next: Any) -> aiosock.Response:
        return await next(request)

    async with Server(script) as server, checked_client(middleware=[Coalesce()]) as client:
        options: list[dict[str, Any]] = [{"middleware": [own]}] * 2 + [{"retry": 3}, {"retry": 2}, {}]
        tasks = [asyncio.create_task(client.get(server.url, **one)) for one in options]
        await started.wait()
        # Those with a middleware, and all others.
        while len(server.requests) < 2:
            await asyncio.sleep(0)
        go.set()
        assert {one.text for one in await asyncio.gather(*tasks)} == {"here"}
        assert len(server.requests) == 2
        check(client)


async def test_the_guard_holds_for_what_retries_redirects_and_flows_send() -> None:
    def pages(request: ReceivedRequest) -> bytes:
        return response(302, headers=[("Location", "http://127.0.0.2:1/")]) if request.target == "/out" else response()

    async def asking_elsewhere(request: aiosock.Request) -> Any:
        yield aiosock.Request("GET", "http://127.0.0.2:1/token")
        yield request

    guard = Guard(hosts=["127.0.0.1"])
    async with site(pages) as server, checked_client(guard=guard, retry=QUICK) as client:
        assert (await client.get(server.url)).status_code == 200
        for options in ({"auth": None}, {"auth": asking_elsewhere}):
            url = server.url if options["auth"] else f"{server.url}/out"
            with pytest.raises(aiosock.BlockedAddress) as caught:
                await client.get(url, **options)
            # A refusal is no bad moment.
            assert [one.number for one in caught.value.attempts] == [1]
        check(client)


async def test_an_open_circuit_ends_retries_and_takes_no_place() -> None:
    async with (
        site(Flaky(1000)) as server,
        checked_client(
            retry=QUICK,
            middleware=[RateLimit(concurrency=1), lasting(2)],
        ) as client,
    ):
        assert (await client.get(server.url)).status_code == 503
        assert len(server.requests) == 2
        for _ in range(3):
            with pytest.raises(aiosock.CircuitOpen):
                await client.get(server.url)
        assert len(server.requests) == 2
        check(client)


@pytest.mark.parametrize("pieces", [1, 2])
async def test_a_retry_that_a_rate_does_not_let_out_leaves_the_answer_before_it(
    pieces: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retry, "KEEPING_SECONDS", 60)
    answer = response(429, body=b"slower", headers=[("Retry-After", "0")])

    async def script(peer: Peer) -> None:
        await peer.read_request()
        await peer.send_pieces(*([answer] if pieces == 1 else [answer[:-3], answer[-3:]]))
        await peer.wait_disconnect()

    async with Server(script) as server, checked_client(retry=QUICK, middleware=[RateLimit("1/h")]) as client:
        answered = await client.get(server.url, timeout=30)
        assert (answered.status_code, answered.text) == (429, "slower")
        assert [attempt.status_code for attempt in answered.extensions["attempts"]] == [429]
        check(client)
        async with client.stream("GET", server.url.replace("127.0.0.1", "localhost"), timeout=30) as answered:
            assert b"".join([piece async for piece in answered.iter_bytes()]) == b"slower"
        check(client)


async def test_a_retry_whose_circuit_is_open_leaves_the_error_before_it() -> None:
    async def script(peer: Peer) -> None:
        await peer.read_request()

    async with (
        Server(script) as server,
        checked_client(retry=QUICK, middleware=[lasting(2)]) as client,
    ):
        with pytest.raises(aiosock.ServerDisconnected) as caught:
            await client.get(server.url)
        assert [attempt.number for attempt in caught.value.attempts] == [1, 2]
        check(client)


async def test_called_off_while_an_answer_is_kept_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "KEEPING_SECONDS", 60)

    async def script(peer: Peer) -> None:
        await peer.read_request()
        await peer.send(b"HTTP/1.1 503 Busy\r\nContent-Length: 10\r\n\r\nslow")
        await peer.wait_disconnect()

    keeping = asyncio.Event()

    def listen(event: object) -> None:
        if isinstance(event, trace.BodyProgress):
            keeping.set()

    async with Server(script) as server, checked_client(retry=QUICK, on_event=listen) as client:
        asking = asyncio.ensure_future(client.get(server.url))
        await keeping.wait()
        await asyncio.sleep(0)
        assert client.pool.active == 1
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        await settled(client)


async def test_a_redirect_begins_its_tries_anew_and_is_told() -> None:
    page, told = Flaky(1), list[Any]()

    def pages(request: ReceivedRequest) -> bytes:
        return response(302, headers=[("Location", "/b")]) if request.target == "/a" else page(request)

    async with site(pages) as server, Client(retry=QUICK, on_event=told.append) as client:
        answer = await client.get(f"{server.url}/a")
        assert (answer.text, [one.status_code for one in answer.extensions["attempts"]]) == ("here", [503, 200])
        steps = [event for event in told if isinstance(event, (trace.Redirected, trace.RequestRetried))]
        assert [type(event).__name__ for event in steps] == ["Redirected", "RequestRetried"]


async def test_events_are_read_through_all_of_it() -> None:
    async def script(peer: Peer) -> None:
        while (request := await peer.read_request()) is not None:
            if request.header("Authorization") is None:
                await peer.send(response(401))
                continue
            await peer.send(response(200, b"id: 7\ndata: hello\n\n", [("Content-Type", "text/event-stream")]))

    async with (
        Server(script) as server,
        Cache() as cache,
        checked_client(
            auth=("u", "p"), guard=LOOPBACK, middleware=[cache, Coalesce(), RateLimit(concurrency=1)], retry=QUICK
        ) as client,
    ):
        async with client.events(server.url) as events:
            event = await anext(events)
        assert (event.data, event.id) == ("hello", "7")
        check(client)


async def test_a_cache_shares_what_all_below_it_fetched() -> None:
    def cached(request: ReceivedRequest) -> bytes:
        page.asked.append(request)
        return response(body=b"here", headers=[("Cache-Control", "public, max-age=60")])

    page, cache = Flaky(0), aiosock.Cache()
    async with site(by_digest(cached)) as server, cache:
        async with checked_client(
            retry=QUICK,
            guard=LOOPBACK,
            auth=DigestAuth("u", "p"),
            cookies={"default": "1"},
            middleware=[aiosock.HSTS(), cache, aiosock.Coalesce(), RateLimit(concurrency=1)],
        ) as client:
            together = await asyncio.gather(*(client.get(f"{server.url}/a") for _ in range(5)))
            assert {one.text for one in together} == {"here"}
            # One of them was sent, and answered its challenge.
            assert [request.header("Cookie") for request in page.asked] == ["seen=1; default=1"]
            again = await client.get(f"{server.url}/a", cookies={"own": "1"})
            assert again.extensions["cache"] == "miss"
            assert (await client.get(f"{server.url}/a")).extensions["cache"] == "hit"
            check(client)
        async with checked_client(guard=LOOPBACK, middleware=[cache]) as client:
            # Nobody else is given what was kept for this user.
            assert (await client.get(f"{server.url}/a")).status_code == 401
