"""What a client refuses when it is made, and that it names the argument."""

from __future__ import annotations

import logging
import math
import os
import re
from pathlib import Path
from typing import Any

import pytest

import aiosock
from aiosock import Client, Guard, Limits, UsageError
from aiosock.client.settings import check_params, choose_listener, own_address, socket_path
from aiosock.testing import MockTransport, Server, reply, response


class Thing:
    """What nothing takes."""


class Half:
    """Sends, and cannot be closed."""

    async def send(self, request: aiosock.Request) -> aiosock.Response:
        return reply()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("base_url", 5),
        ("base_url", None),
        ("base_url", "/relative"),
        ("base_url", "ftp://a/"),
        ("headers", 5),
        ("headers", {"A": 5}),
        ("params", 5),
        ("params", [1]),
        ("params", {"a": object()}),
        ("cookies", 5),
        ("auth", 5),
        ("timeout", "5"),
        ("timeout", 0),
        ("timeout", math.nan),
        ("limits", 5),
        ("retry", "3"),
        ("retry", 1.5),
        ("retry", 0),
        ("follow_redirects", 1),
        ("max_redirects", -1),
        ("max_redirects", True),
        ("verify", 5),
        ("cert", 5),
        ("proxy", 5),
        ("trust_env", 1),
        ("resolver", Thing()),
        ("resolver", aiosock.SystemResolver),
        ("local_address", 5),
        ("local_address", "localhost"),
        ("local_address", ("127.0.0.1", 0, 0)),
        ("local_address", ("127.0.0.1", "0")),
        ("local_address", ("127.0.0.1", True)),
        ("local_address", ("127.0.0.1", 65536)),
        ("local_address", (5, 0)),
        ("uds", 5),
        ("uds", b"/run/socket"),
        ("transport", Thing()),
        ("transport", Half()),
        ("transport", MockTransport),
        ("middleware", len),
        ("middleware", [5]),
        ("on_event", 5),
        ("guard", 5),
        ("default_encoding", 5),
        ("json_encoder", "json"),
        ("json_decoder", "json"),
        ("raise_for_status", 1),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_an_argument_that_cannot_be_used_is_named(name: str, value: Any) -> None:
    with pytest.raises(UsageError, match=rf"^{name}\b"):
        Client(**{name: value})


@pytest.mark.parametrize(("name", "value"), [("retry", "3"), ("timeout", "5"), ("uds", 5), ("max_redirects", -1)])
def test_the_value_is_shown(name: str, value: Any) -> None:
    with pytest.raises(UsageError, match=f", not {re.escape(repr(value))}$"):
        Client(**{name: value})


def test_params_that_give_their_pairs_once_serve_every_request() -> None:
    client = Client(params=iter([("a", "1")]))  # type: ignore[arg-type]  # taken in spite of its type
    for _ in range(2):
        assert client.build_request("GET", "http://a/").target == "/?a=1"


def test_params_of_the_client_can_be_changed_and_taken_away() -> None:
    client = Client(params={"a": "1"})
    client.params = {"b": 2}
    assert client.params == {"b": 2}
    assert client.build_request("GET", "http://a/").target == "/?b=2"
    with pytest.raises(UsageError, match="^params: "):
        client.params = 5  # type: ignore[assignment]  # that is the test
    assert client.params == {"b": 2}
    client.params = None
    assert client.build_request("GET", "http://a/").target == "/"
    assert check_params("") == ""


def test_where_a_connection_comes_from() -> None:
    assert own_address(None) is None
    assert own_address("127.0.0.2") == ("127.0.0.2", 0)
    assert own_address("::1") == ("::1", 0)
    assert own_address("fe80::1%eth0") == ("fe80::1%eth0", 0)
    assert own_address(("127.0.0.1", 65535)) == ("127.0.0.1", 65535)


def test_where_a_unix_socket_is() -> None:
    assert socket_path(None) is None
    assert socket_path("/run/socket") == socket_path(Path("/run/socket")) == "/run/socket"


@pytest.mark.parametrize(
    ("others", "why"),
    [
        ({"uds": "/run/socket"}, "over a Unix socket"),
        ({"transport": MockTransport({})}, "by a transport of one's own, MockTransport"),
        ({"proxy": "http://proxy:3128"}, "refuses proxy="),
    ],
    ids=["uds", "transport", "proxy"],
)
def test_a_guard_that_could_not_be_kept_is_refused(others: dict[str, Any], why: str) -> None:
    with pytest.raises(UsageError, match=f"^guard: .*{why}"):
        Client(guard=Guard(), **others)


def test_a_guard_may_allow_a_proxy() -> None:
    Client(guard=Guard(allow_proxy=True), proxy="http://proxy:3128")


def test_who_listens(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "aiosock.client")
    assert choose_listener(None) is None
    own = choose_listener(print)
    assert own is not None
    caplog.set_level(logging.DEBUG, "aiosock.client")
    assert choose_listener(None) is not None


async def test_limits_and_a_path_are_what_was_given(tmp_path: Path) -> None:
    async with Client(
        limits=Limits(max_content_bytes=1), transport=MockTransport({"GET /": reply(content="ab")})
    ) as client:
        with pytest.raises(aiosock.ContentTooLarge):
            await client.get("http://a/")
    async with Client(uds=tmp_path / "none") as client:
        with pytest.raises(aiosock.ConnectError, match=re.escape(os.fspath(tmp_path / "none"))):
            await client.get("http://a/")


async def test_connections_come_from_the_address_that_was_given() -> None:
    async with Server.answering(response(body=b"ok")) as server, Client(local_address=("127.0.0.1", 0)) as client:
        answer = await client.get(server.url)
        assert answer.connection is not None
        assert answer.connection.local_address.startswith("127.0.0.1:")
