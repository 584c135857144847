"""The network as a transport: a request of one's own, without a client's defaults."""

from __future__ import annotations

from enum import Enum
from itertools import product
from typing import Any

import pytest

import aiosock
from aiosock import Limits, Request, SystemResolver
from aiosock.client.transport import (
    MAX_HEADS,
    MAX_ORIGINS,
    MAX_SECTION_BYTES,
    MAX_SECTIONS,
    NetworkTransport,
)
from aiosock.connection.guard import Guard
from aiosock.connection.proxy import Proxy
from aiosock.message.url import Location
from aiosock.network.trust import TLSSettings
from aiosock.protocol.http1 import RequestHead
from aiosock.testing import Server, response


def make_transport(guard: Guard | None = None) -> NetworkTransport:
    return NetworkTransport(
        limits=Limits(), resolver=SystemResolver(), tls=TLSSettings(), local_address=None, uds=None, guard=guard
    )


async def test_a_transport_sends_a_request_as_it_is() -> None:
    async with Server.answering(response(body=b"ok")) as server:
        transport = make_transport()
        answer = await transport.send(Request("GET", server.url, headers={"X": "1"}))
        assert await answer.read() == b"ok"
        assert [name for name, _ in server.requests[0].headers] == ["Host", "X"]
        await transport.close()
        with pytest.raises(aiosock.ClientClosed):
            await transport.send(Request("GET", server.url))


async def test_a_server_name_that_is_no_text_is_refused() -> None:
    transport = make_transport()
    with pytest.raises(aiosock.UsageError, match="server_name"):
        await transport.send(Request("GET", "https://127.0.0.1:1/", extensions={"server_name": 5}))
    await transport.close()


async def test_the_zone_of_an_address_is_for_connecting_alone() -> None:
    transport = make_transport()
    origin = transport._origin(Request("GET", "https://[fe80::1%25eth0]/"))
    assert (origin.host, origin.server_name) == ("fe80::1%eth0", "fe80::1")
    assert Request("GET", "https://[fe80::1%25eth0]/").location.authority == "[fe80::1]"
    await transport.close()


# Heads that were made before

URL = "http://a.example/"


async def test_requests_that_say_the_same_share_a_head() -> None:
    transport = make_transport()
    heads = [transport._head(Request("GET", URL, headers={"A": "b"})) for _ in range(2)]
    assert heads[0] is heads[1]
    await transport.close()


FIELDS: list[list[tuple[str, str]]] = [
    [],
    [("X-A", "1"), ("X-B", "2")],
    [("X-B", "2"), ("X-A", "1")],
    [("x-a", "1"), ("X-B", "2")],
    [("X-A", "2"), ("X-B", "1")],
    [("X-A", "1"), ("X-A", "1"), ("X-B", "2")],
    [("X-A", "1")],
    [("X-A", "1 ")],
    [("X-A", "1"), ("X-A", "2")],
    [("X-A", "1, 2")],
    [("X-A", "")],
    [("X-A", "a")],
    [("X-A", "A")],
    [("Host", "other.example")],
    [("host", "other.example")],
    [("Host", "another.example")],
    [("Connection", "close")],
    [("Upgrade", "close")],
]
LINES = [("GET", URL), ("HEAD", URL), ("get", URL), ("GET", URL + "b"), ("GET", "http://b.example/")]


async def test_requests_that_differ_in_anything_are_never_mixed_up() -> None:
    transport = make_transport()
    for _ in range(2):
        for (method, url), fields in product(LINES, FIELDS):
            request = Request(method, url, headers=fields)
            expected = RequestHead(request.method, request.target, request.location.authority, fields)
            head = transport._head(request)
            for name in RequestHead.__slots__:
                assert getattr(head, name) == getattr(expected, name), (method, url, fields)
    await transport.close()


@pytest.mark.parametrize("value", [["a"], {}, 5, b"a", None, True], ids=repr)
async def test_a_value_that_is_no_str_is_refused_whether_it_has_a_hash_or_not(value: Any) -> None:
    transport = make_transport()
    for _ in range(2):
        request = Request("GET", URL)
        request.headers["X-Own"] = value
        with pytest.raises(aiosock.InvalidHeader, match="^the value of X-Own is a str, not "):
            await transport.send(request)
    assert not transport._sections
    assert transport._remembered_head.cache_info().currsize == 0
    await transport.close()


async def test_fields_that_are_refused_are_refused_again_and_in_the_same_words() -> None:
    transport = make_transport()
    for fields in ({"A B": "c"}, {"A": "b\r\nC: d"}, {"Content-Length": "x"}):
        said = []
        for _ in range(2):
            with pytest.raises((aiosock.InvalidHeader, aiosock.LocalProtocolError)) as info:
                transport._head(Request("GET", URL, headers=fields))
            said.append(str(info.value))
        assert said[0] == said[1]
    assert not transport._sections
    await transport.close()


async def test_what_is_remembered_for_requests_has_bounds() -> None:
    transport = make_transport()
    most = 0
    for number in range(2 * MAX_SECTIONS + 5):
        for _ in range(2):
            head = transport._head(Request("GET", URL, headers={"A": str(number)}))
            assert head.encoded.endswith(b"\r\nA: %d\r\n\r\n" % number)
        most = max(most, len(transport._sections))
        assert len(transport._sections) <= MAX_SECTIONS
    assert most == MAX_SECTIONS
    for number in range(2 * MAX_HEADS + 5):
        for _ in range(2):
            head = transport._head(Request("GET", f"{URL}{number}"))
            assert head.encoded.startswith(b"GET /%d " % number)
        assert transport._remembered_head.cache_info().currsize <= MAX_HEADS
    assert transport._remembered_head.cache_info().currsize == MAX_HEADS
    most = 0
    for number in range(MAX_ORIGINS + 5):
        host = f"{number}.example"
        assert transport._origin(Request("GET", f"http://{host}/")).host == host
        most = max(most, len(transport._origins))
        assert len(transport._origins) <= MAX_ORIGINS
    assert most == MAX_ORIGINS
    await transport.close()


async def test_large_fields_are_not_remembered() -> None:
    transport = make_transport()
    without = len("\r\nA: \r\n\r\n")
    for size, sections, heads in (
        (MAX_SECTION_BYTES - 1, 1, 1),
        (MAX_SECTION_BYTES, 1, 0),
        (MAX_SECTION_BYTES + 1, 0, 0),
    ):
        transport._sections.clear()
        transport._remembered_head.cache_clear()
        value = "x" * (size - without)
        for _ in range(2):
            head = transport._head(Request("GET", URL, headers={"A": value}))
            assert head.encoded == f"GET / HTTP/1.1\r\nHost: a.example\r\nA: {value}\r\n\r\n".encode()
        assert (len(transport._sections), transport._remembered_head.cache_info().currsize) == (sections, heads)
    await transport.close()


class Level(str, Enum):  # noqa: UP042 - a StrEnum writes itself as it compares
    """Writes itself otherwise than it compares."""

    LOW = "low"


class Unhashable(str):
    """Equal to what has a hash, and has none."""

    __slots__ = ()
    __hash__ = None  # type: ignore[assignment]


async def test_what_is_equal_is_sent_alike_however_it_writes_itself() -> None:
    transport = make_transport()
    expected = b"GET / HTTP/1.1\r\nHost: a.example\r\nA: low\r\n\r\n"
    for value in (Level.LOW, "low", Unhashable("low"), Level.LOW):
        for _ in range(2):
            assert transport._head(Request("GET", URL, headers={"A": value})).encoded == expected
    await transport.close()


async def test_large_targets_are_not_remembered() -> None:
    transport = make_transport()
    for _ in range(2):
        head = transport._head(Request("GET", URL + "x" * MAX_SECTION_BYTES))
        assert head.encoded.startswith(b"GET /xxx")
    assert transport._remembered_head.cache_info().currsize == 0
    await transport.close()


# Guarded


async def test_an_origin_that_passed_the_guard_is_remembered_and_one_that_did_not_is_not() -> None:
    transport = make_transport(Guard(ports=[80]))
    good, bad = Request("GET", "http://a.example/"), Request("GET", "http://a.example:81/")
    origin = transport._origin(good)
    assert origin.guards == (Guard(ports=[80]),)
    for _ in range(2):
        assert transport._origin(good) == origin
        with pytest.raises(aiosock.BlockedAddress):
            transport._origin(bad)
    assert transport._origins == {("http", "a.example", 80): origin}
    await transport.close()


async def test_an_origin_with_a_guard_of_the_request_is_not_remembered() -> None:
    transport = make_transport()
    guarded = Request("GET", "http://a.example/", extensions={"guard": Guard()})
    assert transport._origin(guarded).guards == (Guard(),)
    assert not transport._origins
    assert transport._origin(Request("GET", "http://a.example/")).guards == ()
    assert transport._origin(guarded).guards == (Guard(),)
    transport._guards = (Guard(ports=[80]),)
    assert transport._origin(guarded).guards == (Guard(ports=[80]), Guard())
    transport._guards = (Guard(),)
    assert transport._origin(guarded).guards == (Guard(),)
    await transport.close()


# Through proxies


class Rules:
    """One proxy for all names but one."""

    def __init__(self, proxy: Proxy) -> None:
        self.proxy = proxy

    def proxy_for(self, location: Location) -> Proxy | None:
        return None if location.host == "direct.example" else self.proxy


async def test_what_an_origin_is_through_a_proxy() -> None:
    transport = make_transport()
    proxy, socks = Proxy("https://p.example"), Proxy("socks5://s.example")
    transport._proxies = Rules(proxy)
    plain = transport._origin(Request("GET", "http://a.example/"))
    assert plain == ("https", "p.example", 443, "", None, None, None, proxy, ())
    assert plain == transport._origin(Request("GET", "http://b.example:81/"))
    secure = transport._origin(Request("GET", "https://a.example/"))
    assert secure == ("https", "a.example", 443, "a.example", transport._tls, None, None, proxy, ())
    given = transport._origin(Request("GET", "http://a.example/", extensions={"proxy": socks}))
    assert given == ("http", "a.example", 80, "", None, None, None, socks, ())
    named = transport._origin(Request("GET", "https://a.example/", extensions={"server_name": "b.example"}))
    assert (named.server_name, named.proxy) == ("b.example", proxy)
    # The short road of `send` asks for those alone that are reached directly.
    direct = transport._origin(Request("GET", "http://direct.example/"))
    assert transport._origins == {("http", "direct.example", 80): direct}
    assert set(transport._proxied) == {
        ("http", "a.example", 80),
        ("http", "b.example", 81),
        ("https", "a.example", 443),
    }
    await transport.close()


async def test_proxied_origins_have_a_bound_too() -> None:
    transport = make_transport()
    transport._proxies = Rules(Proxy("http://p.example"))
    for number in range(MAX_ORIGINS + 5):
        transport._origin(Request("GET", f"http://{number}.example/"))
        assert len(transport._proxied) <= MAX_ORIGINS
    await transport.close()


async def test_heads_that_hold_credentials_are_not_remembered() -> None:
    async with Server.answering(response()) as server:
        transport = make_transport()
        transport._proxies = Rules(Proxy(f"http://me:secret@127.0.0.1:{server.port}"))
        await (await transport.send(Request("GET", URL))).close()
        assert server.requests[0].header("Proxy-Authorization")
        assert not transport._sections
        assert transport._remembered_head.cache_info().currsize == 0
        await transport.close()
