"""What README shows can be typed: its blocks of Python run, and the files that it names are there."""

from __future__ import annotations

import ast
import asyncio
import inspect
import re
import textwrap
from pathlib import Path
from typing import Any

import pytest

import aiosock
from aiosock.client.options import RequestOptions
from aiosock.testing import Peer, Server, response

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
ITEMS = b'{"items": []}'


def block(mark: str) -> str:
    """Return the one block of Python that holds a mark."""
    [found] = [text for text in BLOCKS if mark in text]
    return found


async def run(code: str, **names: Any) -> dict[str, Any]:
    """Run a block, which may await, and return the names that it leaves."""
    namespace = {"aiosock": aiosock, **names}
    compiled = compile(code, "README.md", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    ended = eval(compiled, namespace)  # noqa: S307  # README is ours
    if compiled.co_flags & inspect.CO_COROUTINE:
        await ended
    return namespace


async def site(peer: Peer) -> None:
    while request := await peer.read_request():
        if request.target == "/big":
            await peer.send(response(200, bytes(100_000)))
        else:
            await peer.send(response(200, ITEMS, [("Content-Type", "application/json")]))


def test_every_block_is_known() -> None:
    assert len(BLOCKS) == 3


async def test_the_quick_start(capsys: pytest.CaptureFixture[str]) -> None:
    async with Server(site) as server:
        code = block("aiosock.run(main())").replace("https://api.example.com", server.url)
        # It has a loop of its own.
        await asyncio.to_thread(exec, code, {})
        assert [request.target for request in server.requests] == ["/items?page=2", "/big"]
    assert capsys.readouterr().out == "200 application/json {'items': []}\n"


async def test_the_middleware() -> None:
    class Counter:
        total = 0

        def add(self, count: int) -> None:
            self.total += count

    counter = Counter()
    async with Server(site) as server:
        names = await run(block("BodyWrapper"), counter=counter, make_id=lambda: "id-1")
        async with names["client"] as client:
            assert (await client.get(server.url)).json() == {"items": []}
        assert server.requests[0].header("X-Request-Id") == "id-1"
    assert counter.total == len(ITEMS)


async def test_the_stand_ins_for_tests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise AssertionError("nothing is asked of it")

    monkeypatch.chdir(tmp_path)
    names = await run(block("MockTransport("), app=app)
    async with aiosock.Client(transport=names["mock"], base_url="https://shop.example") as client:
        assert (await client.get("/tea")).json() == {"price": 2}
        with pytest.raises(aiosock.ConnectError, match="^down"):
            await client.get("/oil")


def calls() -> list[tuple[str, set[str]]]:
    """Return what inline code calls, by its name, and the names of the arguments."""
    found: list[tuple[str, set[str]]] = []
    for text in re.findall(r"(?<!`)`([^`\n]+)`(?!`)", README):
        try:
            tree = ast.parse(textwrap.dedent(text))
        except SyntaxError:
            continue  # A path, a field, a command.
        for node in ast.walk(tree):
            if isinstance(node, ast.Call):
                found.append((ast.unparse(node.func), {key.arg for key in node.keywords if key.arg is not None}))
    return found


def test_inline_code_calls_what_there_is() -> None:
    options = set(RequestOptions.__annotations__)
    seen = set()
    for name, keywords in calls():
        if name.startswith("client.") and not name.startswith("client.cookies"):
            assert hasattr(aiosock.Client, name.removeprefix("client.")), name
            assert keywords <= options, (name, keywords)
        elif name in aiosock.__all__:
            taken = inspect.signature(getattr(aiosock, name)).parameters
            assert keywords <= set(taken), (name, keywords)
        else:
            continue
        seen.add(name)
    assert {"Client", "client.post", "Timeout", "Limits", "RateLimit", "Retry"} <= seen


def test_the_files_that_it_names_are_there() -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", README)
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []
    examples = {path.name for path in (ROOT / "examples").glob("*.py")}
    assert {name for name in examples if name not in README} == set()
    assert set(re.findall(r"`(\w+\.py)`", README)) <= examples
