"""
What type checkers make of the public names. Never run: mypy and pyright read it.
"""

from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from datetime import timedelta
from pathlib import Path
from typing import Any, assert_type

from multidict import CIMultiDictProxy
from yarl import URL

import aiosock


async def client() -> None:
    async with aiosock.Client(base_url="http://a/", timeout=5, limits=aiosock.Limits(), verify="ca.pem") as client:
        assert_type(client, aiosock.Client)
        response = await client.get("/", params={"a": 1, "b": "c", "d": [1, "e"]}, headers=[("A", "b")], timeout=None)
        assert_type(response, aiosock.Response)
        await client.post("/", content=b"", follow_redirects=False)
        await client.post("/", data={"a": "b"})
        await client.post("/", json=[1], extensions={"server_name": "a"})
        assert_type(client.build_request("GET", "/"), aiosock.Request)
        assert_type(await client.send(client.build_request("GET", "/"), stream=True), aiosock.Response)
        assert_type(client.pool.idle, int)
        await client.get("/", unknown=1)  # type: ignore[call-arg]  # not an option of a request
        async with client.stream("GET", "/") as streamed:
            assert_type(streamed, aiosock.Response)
            async for piece in streamed.iter_bytes():
                assert_type(piece, bytes)
            async for line in streamed.iter_lines():
                assert_type(line, str)
            async for text in streamed.iter_text():
                assert_type(text, str)
            async for event in streamed.iter_events(max_event_bytes=None, last_event_id="1"):
                assert_type((event.event, event.data, event.id), tuple[str, str, str])
                assert_type(event.retry, int | None)
                assert_type(event.json(), Any)


async def events(client: aiosock.Client) -> None:
    async with client.events("/", method="POST", json={}, reconnect=True, attempts=3, timeout=None) as stream:
        assert_type(stream.response, aiosock.Response)
        assert_type(stream.last_event_id, str)
        async for event in stream:
            assert_type(event.data, str)
        await stream.close()
    client.events("/", unknown=1)  # type: ignore[call-arg]  # not an option of a request


async def response(response: aiosock.Response) -> None:
    assert_type(response.status_code, int)
    assert_type(response.headers, CIMultiDictProxy[str])
    assert_type(response.url, URL)
    assert_type(response.content, bytes)
    assert_type(response.text, str)
    assert_type(response.json(), Any)
    assert_type(response.elapsed, timedelta)
    assert_type(response.raise_for_status(), aiosock.Response)
    assert_type(response.connection, aiosock.ConnectionInfo | None)
    assert_type(response.timings.total, float | None)
    assert_type(response.history, tuple[aiosock.Response, ...])


async def logging(
    request: aiosock.Request, next: Callable[[aiosock.Request], Awaitable[aiosock.Response]]
) -> aiosock.Response:
    return await next(request.replace(headers={"A": "b"}))


def signed(request: aiosock.Request) -> aiosock.Request:
    return request


def challenged(request: aiosock.Request) -> Generator[aiosock.Request, aiosock.Response, None]:
    response = yield request
    assert_type(response, aiosock.Response)


async def with_token(request: aiosock.Request) -> AsyncGenerator[aiosock.Request, aiosock.Response]:
    response = yield request
    await response.read()


async def behaviour(path: Path) -> None:
    jar = aiosock.CookieJar(max_cookies=10)
    proxies: dict[str, str | None] = {"all://": "socks5h://h", "https://*.example.com": None}
    client = aiosock.Client(
        auth=("u", "p"), cookies=jar, proxy=proxies, middleware=[logging], trust_env=False, max_redirects=3
    )
    assert_type(client.cookies, aiosock.Cookies)
    assert_type(client.cookies["a"], str)
    client.cookies.set("a", "b", domain="example.com", path="/")
    await client.cookies.jar.save(path, format="netscape", session=True)
    await client.cookies.jar.load(path)
    for auth in (
        aiosock.BasicAuth("u", "p"),
        aiosock.DigestAuth("u", "p"),
        aiosock.BearerAuth("t"),
        aiosock.NetRCAuth(),
    ):
        await client.get("/", auth=auth, cookies={"a": "b"})
    await client.get("/", auth=signed)
    await client.get("/", auth=challenged)
    await client.get("/", auth=with_token, proxy=aiosock.Proxy("http://h:3128", auth=("u", "p"), digest_only=True))
    await client.get("/", auth=None, proxy=None, middleware=(logging,))
    await client.get("/", auth="me")  # type: ignore[arg-type]  # neither a pair nor a function
    with path.open("rb") as file:
        response = await client.post("/", data={"a": "b"}, files={"f": file, "g": ("n.txt", b"x", "text/plain")})
    assert_type(response.cookies, aiosock.Cookies)


async def resilience() -> None:
    client = aiosock.Client(
        retry=aiosock.Retry(3, backoff=0.1),
        guard=aiosock.Guard(allow_private=True),
        on_event=print,
        middleware=[
            aiosock.HSTS(),
            aiosock.Cache(aiosock.SQLiteStore("cache.db")),
            aiosock.Coalesce(),
            aiosock.RateLimit("10/s", concurrency=2),
            aiosock.CircuitBreaker(failures=3),
        ],
    )
    response = await client.get("/", retry=2, guard=None)
    assert_type(response, aiosock.Response)
    await client.get("/", retry=None)
    async with client.events("/", last_event_id="1") as events:
        assert_type(events, aiosock.EventStream)
        async for event in events:
            assert_type(event, aiosock.ServerSentEvent)
            assert_type(event.data, str)
    async for event in response.iter_events():
        assert_type(event, aiosock.ServerSentEvent)
    aiosock.Client(transport=aiosock.MockTransport({"GET /": aiosock.Response(200)}))


async def one_shot() -> None:
    assert_type(await aiosock.get("http://a/", verify=False, proxy="h:1", auth=("u", "p")), aiosock.Response)
    async with aiosock.stream("GET", "http://a/") as streamed:
        assert_type(streamed, aiosock.Response)


async def main() -> int:
    return 1


assert_type(aiosock.run(main()), int)
