"""
Test a client of one's own without a network, in four ways. To run it:

    pytest examples/test_my_client.py

It needs pytest and pytest-asyncio (or anyio: then the mark below is ``pytest.mark.anyio``). What a server once said is
in recordings/; ``--aiosock-record=record`` asks again.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest

from aiosock import Client, ConnectError, ReadTimeout, Timeout
from aiosock.testing import ASGITransport, MockTransport, reply, response

pytestmark = pytest.mark.asyncio

URL = "https://prices.example"


async def price(client: Client, name: str) -> float | None:
    """What is tested: the price of a thing, None where there is none, or where the server has a bad day."""
    try:
        answer = await client.get(f"{URL}/prices/{name}", params={"key": "s3cret"})
    except (ConnectError, ReadTimeout):
        return None
    return None if answer.status_code == 404 else answer.raise_for_status().json()["price"]


# 1. A mock: the quickest way, with a table of answers or with a function.


async def test_price_is_what_the_server_says() -> None:
    mock = MockTransport(
        {
            f"GET {URL}/prices/tea": reply(json={"price": 2.5}),
            f"GET {URL}/prices/gold": reply(404),
            f"GET {URL}/prices/oil": ConnectError("the server is not there"),
        }
    )
    async with Client(transport=mock) as client:
        assert await price(client, "tea") == 2.5
        assert await price(client, "gold") is None
        assert await price(client, "oil") is None
    assert [request.url.query["key"] for request in mock.requests] == ["s3cret"] * 3


async def test_price_follows_a_redirect(aiosock_mock: MockTransport) -> None:
    aiosock_mock.route("GET /prices/tea", reply(301, headers={"Location": "/prices/green-tea"}))
    aiosock_mock.route("GET /prices/green-tea", reply(json={"price": 3}))
    async with Client(transport=aiosock_mock) as client:
        assert await price(client, "tea") == 3


# 2. An application: the real one behind the client, in the same loop.


async def application(scope: Any, receive: Any, send: Any) -> None:
    """Stands for an ASGI application, of whatever framework."""
    name = scope["path"].removeprefix("/prices/")
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
    await send({"type": "http.response.body", "body": json.dumps({"price": len(name)}).encode()})


async def test_price_of_our_own_application() -> None:
    async with Client(transport=ASGITransport(application, lifespan=False)) as client:
        assert await price(client, "coffee") == 6


# 3. A recording: what the true server said, played back. The key is not in the file.


@pytest.fixture
def aiosock_recorder_options() -> dict[str, Any]:
    return {"secret_params": ["key"]}


async def test_price_that_was_recorded(aiosock_recorder: Any) -> None:
    async with Client(middleware=[aiosock_recorder]) as client:
        assert await price(client, "tea") == 2.75


# 4. A scripted server: sockets and bytes, for what goes wrong below.


async def test_a_server_that_falls_silent_has_no_price(
    aiosock_server: Any, aiosock_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def script(peer: Any) -> None:
        request = await peer.read_request()
        assert request.target == "/prices/tea?key=s3cret"
        await peer.send(response(200, headers=[("Content-Length", "15")]))
        await peer.wait_disconnect()

    server = await aiosock_server(script)
    monkeypatch.setattr(sys.modules[__name__], "URL", server.url)
    aiosock_client.timeout = Timeout(read=0.05)
    assert await price(aiosock_client, "tea") is None


if __name__ == "__main__":
    sys.exit(pytest.main([__file__, *sys.argv[1:]]))
