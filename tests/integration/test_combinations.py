"""What is switched on together works as one would expect: each by itself, and none in the way of another."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Callable
from typing import Any

import pytest

import aiosock
from aiosock import CircuitBreaker, Client, DigestAuth, Guard, Proxy, RateLimit, Retry
from aiosock.message import trace
from aiosock.middleware import retry
from aiosock.testing import Peer, ReceivedRequest, Server, response
from tests.kit.clients import check, checked_client, settled
from tests.kit.relay import relay

QUICK = Retry(4, backoff=0.001)
LOOPBACK = Guard(hosts=["127.0.0.0/8"], ports=None, allow_proxy=True)


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
            assert [piece async for piece in answered.iter_bytes()] == [b"slower"]
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
        if isinstance(event, trace.RequestRetried):
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
        checked_client(auth=("u", "p"), guard=LOOPBACK, middleware=[RateLimit(concurrency=1)]) as client,
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
