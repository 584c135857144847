"""What a request refuses of its options, and that it names the option."""

from __future__ import annotations

from typing import Any

import pytest

import aiosock
from aiosock import Client, Request, UsageError
from aiosock.testing import MockTransport, reply


def site() -> MockTransport:
    return MockTransport(lambda request: reply(content="ok"))


WRONG = [
    ("params", 5),
    ("params", [1]),
    ("headers", 5),
    ("headers", {"A": 5}),
    ("cookies", 5),
    ("content", 5),
    ("data", 5),
    ("files", 5),
    ("json", object()),
    ("auth", 5),
    ("timeout", "5"),
    ("timeout", -1),
    ("follow_redirects", 1),
    ("proxy", 5),
    ("guard", 5),
    ("retry", "3"),
    ("middleware", len),
    ("middleware", [5]),
    ("on_informational", 5),
    ("extensions", 5),
]


@pytest.mark.parametrize(("name", "value"), WRONG, ids=lambda value: value if isinstance(value, str) else None)
async def test_an_option_that_cannot_be_used_is_named(name: str, value: Any) -> None:
    transport = site()
    async with Client(transport=transport) as client:
        with pytest.raises(UsageError, match=rf"^{name}\b"):
            await client.post("http://a/", **{name: value})
        with pytest.raises(UsageError, match=rf"^{name}\b"):
            client.build_request("POST", "http://a/", **{name: value})
        assert transport.requests == []
        assert (await client.get("http://a/")).text == "ok"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("auth", 5), ("cookies", 5), ("deadline", "soon"), ("deadline", True), ("middleware", 5)),
        *(("on_event", 5), ("timeout", "5"), ("retry", "3"), ("guard", 5), ("proxy", 5)),
    ],
    ids=str,
)
async def test_an_extension_that_cannot_be_used_is_named(name: str, value: Any) -> None:
    async with Client() as client:
        request = Request("GET", "http://127.0.0.1:1/", extensions={name: value})
        if name != "deadline":
            with pytest.raises(UsageError, match=rf"\b{name}\b"):
                await client.send(request)
        if name not in ("timeout", "retry"):
            with pytest.raises(UsageError, match=rf"\b{name}\b"):
                await client.get("http://127.0.0.1:1/", extensions={name: value})
        assert client.pool.waiting == 0


@pytest.mark.parametrize("value", [None, "GET http://a/", aiosock.Request], ids=["None", "str", "class"])
async def test_what_is_no_request_is_not_sent(value: Any) -> None:
    async with Client(transport=site()) as client:
        with pytest.raises(UsageError, match=f"^send: takes a Request, not {type(value).__name__}$"):
            await client.send(value)


@pytest.mark.parametrize(
    ("name", "hint"),
    [("allow_redirects", "follow_redirects"), ("verify", r"Client\(verify=...\)"), ("nonsense", None)],
)
async def test_an_option_that_there_is_not_is_named(name: str, hint: str | None) -> None:
    async with Client(transport=site()) as client:
        end = f"; it is {hint} here$" if hint else "$"
        with pytest.raises(UsageError, match=f"^a request has no option '{name}'{end}"):
            await client.get("http://a/", **{name: 1})  # type: ignore[arg-type]  # that is the test
