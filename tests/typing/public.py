"""
What type checkers make of the public names. Never run: mypy and pyright read it.
"""

from datetime import timedelta
from typing import Any, assert_type

from multidict import CIMultiDictProxy
from yarl import URL

import aiosock


async def client() -> None:
    async with aiosock.Client(base_url="http://a/", timeout=5, limits=aiosock.Limits(), verify="ca.pem") as client:
        assert_type(client, aiosock.Client)
        response = await client.get("/", params={"a": 1}, headers=[("A", "b")], timeout=None)
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


async def one_shot() -> None:
    assert_type(await aiosock.get("http://a/", verify=False), aiosock.Response)
    async with aiosock.stream("GET", "http://a/") as streamed:
        assert_type(streamed, aiosock.Response)


async def main() -> int:
    return 1


assert_type(aiosock.run(main()), int)
