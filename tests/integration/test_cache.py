"""A client with a cache, with HSTS, or with both and others, over real connections and with exact bytes."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Callable
from contextvars import ContextVar
from pathlib import Path
from ssl import SSLContext
from typing import Any

import pytest
from yarl import URL

import aiosock
from aiosock import Request, Response
from aiosock.middleware.cache import Cache
from aiosock.middleware.cachestore import SQLiteStore
from aiosock.middleware.chain import Send
from aiosock.middleware.coalesce import Coalesce
from aiosock.middleware.hsts import HSTS
from aiosock.testing import Peer, ReceivedRequest, Server, response
from tests.kit.clients import check, checked_client, settled


class Clock:
    def __init__(self) -> None:
        self.now = 1e9

    def __call__(self) -> float:
        return self.now


def answering(answer: Callable[[ReceivedRequest], bytes]) -> Server:
    """A server that answers each request with what is made of it."""

    async def script(peer: Peer) -> None:
        while request := await peer.read_request():
            await peer.send(answer(request))

    return Server(script)


def fresh(body: bytes = b"hello", *fields: tuple[str, str], said: str = "max-age=60", status: int = 200) -> bytes:
    return response(status, body, [("Cache-Control", said), *fields])


async def test_a_hit_sends_nothing_and_a_validation_sends_the_validator() -> None:
    def answer(request: ReceivedRequest) -> bytes:
        tag = ("ETag", '"v1"')
        return fresh(b"", tag, status=304) if request.header("If-None-Match") == '"v1"' else fresh(b"hello", tag)

    clock = Clock()
    async with (
        answering(answer) as server,
        Cache(clock=clock) as cache,
        checked_client(middleware=[cache], max_redirects=1) as client,
    ):
        states = []
        for _ in range(4):
            got = await client.get(server.url)
            assert (got.status_code, got.content, got.headers["ETag"]) == (200, b"hello", '"v1"')
            states.append(got.extensions["cache"])
            clock.now += 40
        assert states == ["miss", "hit", "revalidated", "hit"]
        assert [request.header("If-None-Match") for request in server.requests] == [None, '"v1"']
        assert got.elapsed is not None
        assert client.pool.opened == 1
        check(client)


async def test_what_is_streamed_to_its_end_is_kept_as_it_was_sent() -> None:
    zipped = gzip.compress(b"hello" * 50_000)

    def answer(request: ReceivedRequest) -> bytes:
        return fresh(zipped, ("Content-Encoding", "gzip"))

    async with answering(answer) as server, Cache() as cache, checked_client(middleware=[cache]) as client:
        for state in ("miss", "hit"):
            async with client.stream("GET", server.url) as got:
                assert got.extensions["cache"] == state
                assert b"".join([piece async for piece in got.iter_bytes()]) == b"hello" * 50_000
        async with client.stream("GET", server.url) as got:
            assert b"".join([piece async for piece in got.iter_raw()]) == zipped
        assert len(server.requests) == 1


@pytest.mark.parametrize(
    "sent",
    [
        b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: 9\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
    ],
)
async def test_an_answer_that_is_cut_short_is_not_kept(sent: bytes) -> None:
    async def script(peer: Peer) -> None:
        await peer.read_request()
        await peer.send(sent)

    async with Server(script) as server, Cache() as cache, checked_client(middleware=[cache]) as client:
        for _ in range(2):
            with pytest.raises(aiosock.errors.IncompleteBody):
                await client.get(server.url)
        assert len(server.requests) == 2


async def test_what_was_left_early_is_not_kept() -> None:
    async with (
        answering(lambda request: fresh(b"x" * 300_000)) as server,
        Cache() as cache,
        checked_client(middleware=[cache]) as client,
    ):
        for _ in range(2):
            async with client.stream("GET", server.url) as got:
                assert await got.iter_bytes().__anext__()
        assert len(server.requests) == 2
        await settled(client)


async def test_credentials_are_added_below_and_answers_are_theirs_alone() -> None:
    def answer(request: ReceivedRequest) -> bytes:
        return fresh((request.header("Authorization") or "nobody").encode())

    alice, bob = aiosock.BasicAuth("alice", "a"), aiosock.BasicAuth("bob", "b")
    async with (
        answering(answer) as server,
        Cache() as cache,
        checked_client(middleware=[cache], auth=alice) as client,
    ):
        bodies = {(await client.get(server.url, auth=auth)).content for auth in (alice, bob, None) for _ in range(3)}
        assert len(bodies) == 3
        assert (await client.get(server.url)).extensions["cache"] == "hit"
        assert len(server.requests) == 3


async def test_what_varies_on_cookies_of_the_jar_is_not_kept_and_a_hit_sets_none() -> None:
    def answer(request: ReceivedRequest) -> bytes:
        vary = [("Vary", "Cookie")] if request.target == "/vary" else []
        return fresh(b"x", ("Set-Cookie", f"n={len(server.requests)}"), *vary)

    async with answering(answer) as server, Cache() as cache, checked_client(middleware=[cache]) as client:
        for _ in range(2):
            await client.get(f"{server.url}/vary")
        assert len(server.requests) == 2
        client.cookies.clear()
        await client.get(server.url)
        client.cookies.clear()
        hit = await client.get(server.url)
        assert hit.extensions["cache"] == "hit"
        assert not dict(client.cookies)
        assert not dict(hit.cookies)


async def test_clients_that_share_a_cache_do_not_get_each_others_pages() -> None:
    def answer(request: ReceivedRequest) -> bytes:
        return fresh((request.header("Cookie") or "nobody").encode(), said="private, max-age=60")

    async with (
        answering(answer) as server,
        Cache() as cache,
        checked_client(middleware=[cache], cookies={"sid": "alice"}) as alice,
        checked_client(middleware=[cache], cookies={"sid": "bob"}) as bob,
        checked_client(middleware=[cache]) as login,
    ):
        for _ in range(2):
            assert [(await client.get(server.url)).text for client in (alice, bob)] == ["sid=alice", "sid=bob"]
        for user in ("carol", "dave"):
            login.cookies.set("sid", user, domain="127.0.0.1")
            assert (await login.get(server.url)).text == f"sid={user}"


async def test_a_chain_of_redirects_is_kept_with_each_of_its_answers() -> None:
    def answer(request: ReceivedRequest) -> bytes:
        if request.target == "/old":
            return fresh(b"moved", ("Location", "/new"), status=301)
        return fresh(b"here")

    async with (
        answering(answer) as server,
        Cache() as cache,
        checked_client(middleware=[cache, Coalesce()], auth=("u", "p")) as client,
    ):
        for _ in range(2):
            got = await client.get(f"{server.url}/old")
            assert (got.content, len(got.history), got.url.path) == (b"here", 1, "/new")
        assert [request.target for request in server.requests] == ["/old", "/new"]
        assert client.pool.opened == 1


async def test_a_rush_of_requests_with_digest_costs_one_conversation() -> None:
    def answer(request: ReceivedRequest) -> bytes:
        if request.header("Authorization") is None:
            challenge = 'Digest realm="r", nonce="n", qop="auth", algorithm=SHA-256'
            return response(401, b"", [("WWW-Authenticate", challenge)])
        return fresh(b"secret")

    async with (
        answering(answer) as server,
        Cache() as cache,
        checked_client(middleware=[cache, Coalesce()], auth=aiosock.DigestAuth("u", "p")) as client,
    ):
        got = await asyncio.gather(*(client.get(server.url) for _ in range(10)))
        assert {one.content for one in got} == {b"secret"}
        assert (await client.get(server.url)).extensions["cache"] == "hit"
        assert len(server.requests) == 2
        check(client)


async def test_a_server_that_is_gone_is_stood_in_for() -> None:
    clock = Clock()
    async with Cache(clock=clock) as cache, checked_client(middleware=[cache]) as client:
        async with answering(lambda request: fresh(said="max-age=10, stale-if-error=60")) as server:
            await client.get(server.url)
        clock.now += 30
        got = await client.get(server.url)
        assert (got.content, got.extensions["cache"], got.headers["Age"]) == (b"hello", "stale", "30")
        clock.now += 41
        with pytest.raises(aiosock.ConnectError):
            await client.get(server.url)


async def test_stale_while_revalidate_uses_the_client_behind_the_answer() -> None:
    clock = Clock()

    def answer(request: ReceivedRequest) -> bytes:
        return fresh(b"%d" % len(server.requests), said="max-age=10, stale-while-revalidate=60")

    async with (
        answering(answer) as server,
        Cache(clock=clock) as cache,
        checked_client(middleware=[cache], timeout=5) as client,
    ):
        await client.get(server.url)
        clock.now += 20
        assert (await client.get(server.url)).text == "1"
        while (got := await client.get(server.url)).text == "1":
            await asyncio.sleep(0)
        assert (got.text, got.extensions["cache"]) == ("2", "hit")
        assert len(server.requests) == 2


async def test_a_database_serves_the_next_client(tmp_path: Path) -> None:
    path = tmp_path / "cache.db"
    async with answering(lambda request: fresh()) as server:
        for state in ("miss", "hit"):
            async with Cache(SQLiteStore(path)) as cache, checked_client(middleware=[cache]) as client:
                got = await client.get(f"{server.url}/?q")
                assert (got.content, got.extensions["cache"]) == (b"hello", state)
        assert len(server.requests) == 1


async def test_a_database_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    async with (
        answering(lambda request: fresh()) as server,
        Cache(SQLiteStore(tmp_path / "none" / "cache.db")) as cache,
        checked_client(middleware=[cache]) as client,
    ):
        with pytest.raises(aiosock.UsageError, match=r"none/cache\.db"):
            await client.get(server.url)


@pytest.mark.parametrize("joined", [1, 5])
async def test_a_total_holds_for_each_who_shares_an_exchange(joined: int) -> None:
    async def script(peer: Peer) -> None:
        await peer.read_request()
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello")
        await peer.read_request()

    async with Server(script) as server, checked_client(middleware=[Coalesce()]) as client:
        tasks = [client.get(server.url, timeout=0.05) for _ in range(joined)]
        for error in await asyncio.gather(*tasks, return_exceptions=True):
            assert isinstance(error, aiosock.TotalTimeout)
        await settled(client)


async def test_requests_share_an_exchange_also_where_somebody_listens() -> None:
    heard: list[object] = []

    async def script(peer: Peer) -> None:
        while await peer.read_request():
            await peer.send(fresh(b"shared"))

    async with (
        Server(script) as server,
        checked_client(middleware=[Coalesce()], on_event=heard.append) as client,
    ):
        answers = await asyncio.gather(*(client.get(server.url) for _ in range(3)))
        assert [answer.text for answer in answers] == ["shared"] * 3
        assert len(server.requests) == 1
        assert heard


def signing(ending: str) -> tuple[ContextVar[str], Any]:
    """A middleware that asks as the user of the task, and makes a response of its own of the answer."""
    user: ContextVar[str] = ContextVar("user")

    async def sign(request: Request, next: Send) -> Response:
        got = await next(request.replace(headers={**request.headers, "Authorization": f"Bearer {user.get()}"}))
        content = await got.read()
        if ending == "something sent afterwards":
            await (await next(Request("GET", request.url.join(URL("/metrics"))))).close()
        named = request if ending == "another request named" else None
        return Response(200, headers=got.headers, content=content, request=named)

    return user, sign


@pytest.mark.parametrize("ending", ["nothing more", "something sent afterwards", "another request named"])
@pytest.mark.parametrize("kind", [Cache, Coalesce])
async def test_what_a_middleware_has_fetched_for_one_user_is_not_anothers_though_it_makes_the_response_anew(
    kind: type[Cache | Coalesce], ending: str
) -> None:
    user, sign = signing(ending)

    def answer(request: ReceivedRequest) -> bytes:
        return fresh((request.header("Authorization") or "nobody").encode())

    async with answering(answer) as server, checked_client(middleware=[kind(), sign]) as client:

        async def ask(name: str) -> str:
            user.set(name)
            return (await client.get(server.url)).text

        expected = ["Bearer a", "Bearer b"]
        assert await asyncio.gather(ask("a"), ask("b")) == expected
        assert [await ask("a"), await ask("b")] == expected


async def test_a_host_that_asks_for_https_is_reached_over_it_from_then_on(
    server_context: SSLContext, ca_file: str
) -> None:
    async def script(peer: Peer) -> None:
        while await peer.read_request():
            await peer.send(fresh(b"safe", ("Strict-Transport-Security", "max-age=60")))

    async with (
        Server(script, ssl=server_context) as server,
        Cache() as cache,
        checked_client(middleware=[HSTS(), cache], verify=ca_file) as client,
    ):
        secure = f"https://localhost:{server.port}/"
        await client.get(secure)
        got = await client.get(secure.replace("https", "http"), auth=("u", "p"))
        assert str(got.url) == secure
        assert server.requests[1].header("Authorization") is not None
        got = await client.get(secure.replace("https", "http"))
        assert (str(got.url), got.extensions["cache"]) == (secure, "hit")


async def test_a_redirect_whose_body_never_comes_is_followed_all_the_same() -> None:
    async def script(peer: Peer) -> None:
        while request := await peer.read_request():
            if request.target == "/a":
                kept = [("Location", "/b"), ("Cache-Control", "max-age=60"), ("Content-Length", "10")]
                await peer.send(response(301, b"", kept))
                await peer.wait_disconnect()
                return
            await peer.send(fresh())

    loop = asyncio.get_running_loop()
    async with Server(script) as server, Cache() as cache, checked_client(middleware=[cache]) as client:
        begun = loop.time()
        assert (await client.get(f"{server.url}/a")).text == "hello"
        assert loop.time() - begun < 5
        await settled(client)
