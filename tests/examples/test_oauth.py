"""The flow of oauth.py: one request for a token at a time, however many wait for it."""

from __future__ import annotations

import asyncio
import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import parse_qs

import pytest

import aiosock
from aiosock import Request, Response
from aiosock.middleware.auth import authenticate

PROGRAM = Path(__file__).parents[2] / "examples" / "oauth.py"
TOKEN_URL = "http://id/token"


@pytest.fixture(scope="module")
def oauth() -> ModuleType:
    """The program as a module."""
    spec = importlib.util.spec_from_file_location("oauth", PROGRAM)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Server:
    """A token server and an API: tokens are good until they are revoked."""

    def __init__(self, **answer: object) -> None:
        self.answer = answer
        self.forms: list[dict[str, list[str]]] = []
        self.credentials: list[str] = []
        self.all_good = True
        self.good: set[str] = set()
        self.refusals: list[Response | Exception] = []
        self.served = 0
        self.refused = 0

    async def __call__(self, request: Request) -> Response:
        await asyncio.sleep(0)
        if str(request.url) == TOKEN_URL:
            return self.give(request)
        credentials = request.headers["Authorization"].removeprefix("Bearer ")
        self.refused += credentials not in self.good
        self.served += credentials in self.good
        return Response(200 if credentials in self.good else 401, request=request)

    def give(self, request: Request) -> Response:
        self.forms.append(parse_qs(request.content.decode()))
        self.credentials.append(request.headers["Authorization"])
        if self.refusals:
            refusal = self.refusals.pop(0)
            if isinstance(refusal, Exception):
                raise refusal
            return refusal
        token = f"token{len(self.forms)}"
        if self.all_good:
            self.good.add(token)
        return answer(200, access_token=token, token_type="Bearer", **self.answer)


def answer(status: int, **values: object) -> Response:
    return Response(status, content=aiosock.Request("POST", TOKEN_URL, json=values).content)


async def get(flow: Any, server: Server) -> int:
    return (await authenticate(Request("GET", "http://api/", extensions={"auth": flow}), server)).status_code


async def get_many(flow: Any, server: Server, count: int = 10) -> set[int]:
    return set(await asyncio.gather(*(get(flow, server) for _ in range(count))))


@pytest.fixture
def flow(oauth: ModuleType) -> Any:
    """A flow of a client whose name and secret have characters that need encoding."""
    return oauth.ClientCredentials(TOKEN_URL, "a:b", "c d")


async def test_many_requests_share_one_token(flow: Any) -> None:
    server = Server(expires_in=3600)
    assert await get_many(flow, server) == {200}
    assert await get_many(flow, server) == {200}
    assert server.forms == [{"grant_type": ["client_credentials"]}]
    # "a%3Ab:c+d" (RFC 6749, 2.3.1).
    assert server.credentials == ["Basic YSUzQWI6Yytk"]
    assert (server.served, server.refused, flow.tokens) == (20, 0, 1)


async def test_a_scope_is_asked_for(oauth: ModuleType, flow: Any) -> None:
    server = Server()
    assert await get(oauth.ClientCredentials(TOKEN_URL, "a", "b", "read write"), server) == 200
    assert server.forms == [{"grant_type": ["client_credentials"], "scope": ["read write"]}]


async def test_a_token_that_is_refused_is_renewed_once_for_all(flow: Any) -> None:
    server = Server()
    assert await get(flow, server) == 200
    server.good.clear()
    assert await get_many(flow, server) == {200}
    assert (len(server.forms), server.served, server.refused) == (2, 11, 10)


async def test_a_new_token_that_is_refused_too_is_the_end(flow: Any) -> None:
    server = Server()
    server.all_good = False
    assert await get(flow, server) == 401
    assert (len(server.forms), server.refused) == (2, 2)


@pytest.mark.parametrize(
    ("lifetime", "asked"),
    [(3600, 1), ("3600", 1), (None, 1), ("soon", 1), ([], 1), (10**400, 1), (5, 3), (0, 3)],
    ids=range(8),
)
async def test_a_token_is_renewed_before_it_has_had_its_time(lifetime: object, asked: int, flow: Any) -> None:
    server = Server(expires_in=lifetime)
    for _ in range(3):
        assert await get(flow, server) == 200
    assert (len(server.forms), server.refused) == (asked, 0)


async def test_a_refresh_token_is_used_and_dropped_when_it_is_refused(flow: Any) -> None:
    server = Server(expires_in=0, refresh_token="r1")
    assert await get(flow, server) == 200
    assert await get(flow, server) == 200
    server.refusals = [answer(400, error="invalid_grant")]
    assert await get(flow, server) == 200
    assert [form["grant_type"][0] for form in server.forms] == [
        "client_credentials",
        "refresh_token",
        "refresh_token",
        "client_credentials",
    ]
    assert server.forms[1]["refresh_token"] == ["r1"]


@pytest.mark.parametrize(
    ("refusal", "said"),
    [
        (answer(401, error="invalid_client"), "the token server refuses: 401 invalid_client"),
        (answer(400, error="a\x1b[2Jb"), "the token server refuses: 400 a[2Jb"),
        (Response(503, content="<html>"), "the token server refuses: 503"),
        (Response(302, headers={"Location": "/"}), "the token server refuses: 302"),
        (Response(200, content="<html>"), "the token server's answer has no bearer token"),
        (Response(200, content="[1]"), "the token server's answer has no bearer token"),
        (answer(200, access_token="x", token_type="mac"), "the token server's answer has no bearer token"),
        (answer(200, access_token=1), "the token server's answer has no bearer token"),
        (aiosock.ConnectError("refused"), "the token server cannot be asked: refused [POST http://id/token]"),
    ],
    ids=["client", "escape", "503", "redirect", "html", "list", "mac", "number", "unreachable"],
)
async def test_without_a_token_the_reason_is_told_and_the_next_one_asks_again(
    refusal: Any, said: str, oauth: ModuleType, flow: Any
) -> None:
    server = Server()
    server.refusals = [refusal]
    with pytest.raises(oauth.TokenError) as caught:
        await get(flow, server)
    assert str(caught.value) == said
    assert await get(flow, server) == 200


async def test_a_request_that_is_cancelled_while_it_asks_leaves_it_to_the_others(flow: Any) -> None:
    server = Server()
    first = asyncio.create_task(get(flow, server))
    others = asyncio.create_task(get_many(flow, server))
    await asyncio.sleep(0)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    assert await others == {200}
    assert flow.tokens == 1


async def test_a_token_url_that_is_none(oauth: ModuleType, flow: Any) -> None:
    with pytest.raises(oauth.TokenError, match="the token server cannot be asked: the URL has no scheme"):
        await get(oauth.ClientCredentials("nowhere", "a", "b"), Server())
