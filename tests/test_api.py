"""One-shot requests, and `run`."""

from __future__ import annotations

import asyncio
import builtins
from types import ModuleType
from typing import Any

import pytest

import aiosock
from aiosock.testing import Server, response

OK = response(body=b"ok")


@pytest.mark.parametrize("method", ["get", "head", "options", "post", "put", "patch", "delete", "query"])
async def test_one_shot_requests(method: str) -> None:
    answer = response(body=b"" if method == "head" else b"ok")
    async with Server.answering(answer) as server:
        assert (await getattr(aiosock, method)(server.url, headers={"X": "1"})).status_code == 200
        assert server.requests[0].method == method.upper()
        while server.open_connections:
            await asyncio.sleep(0)


async def test_one_shot_options_reach_client_and_request() -> None:
    async with Server.answering(response(404)) as server:
        with pytest.raises(aiosock.HTTPStatusError):
            await aiosock.request("GET", server.url, params={"a": "b"}, raise_for_status=True, trust_env=False)
        assert server.requests[0].target == "/?a=b"


async def test_one_shot_stream() -> None:
    async with Server.answering(OK) as server:
        async with aiosock.stream("GET", server.url) as answer:
            assert [piece async for piece in answer.iter_bytes()] == [b"ok"]
        while server.open_connections:
            await asyncio.sleep(0)
        url = server.url
    with pytest.raises(aiosock.ConnectError):
        async with aiosock.stream("GET", url):
            pass


def test_run_uses_uvloop_where_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    async def loop_module() -> str:
        return type(asyncio.get_running_loop()).__module__

    assert aiosock.run(loop_module()) == "uvloop"
    real_import = builtins.__import__

    def without_uvloop(name: str, *args: Any) -> ModuleType:
        if name == "uvloop":
            raise ImportError(name)
        return real_import(name, *args)

    monkeypatch.setattr(builtins, "__import__", without_uvloop)
    assert aiosock.run(loop_module(), debug=False).startswith("asyncio")


def test_every_public_name_is_there() -> None:
    for name in aiosock.__all__:
        assert getattr(aiosock, name) is not None
