"""A cache answers with what is good, asks for what is not, and keeps what it may: RFC 9111 from a user's side."""

from __future__ import annotations

import asyncio
import gzip
import logging
from collections.abc import AsyncIterator, Callable, Iterable
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from multidict import CIMultiDict

from aiosock.config import Timeout
from aiosock.errors import BlockedAddress, ConnectError, IncompleteBody, ReadTimeout, UsageError
from aiosock.message.jar import CookieJar
from aiosock.message.request import Request
from aiosock.message.response import Response
from aiosock.message.url import parse_url
from aiosock.middleware.cache import Cache, MemoryStore, SQLiteStore
from aiosock.middleware.chain import Send, as_middleware, compose
from aiosock.middleware.coalesce import Coalesce
from aiosock.middleware.cookies import CookieKeeper
from aiosock.middleware.kept import KeptBody
from aiosock.middleware.redirect import Redirects
from aiosock.middleware.schemes import BasicAuth, BearerAuth, DigestAuth
from aiosock.protocol.cache import Entry

URL = "http://h/a"
Reply = Response | Exception | Callable[[Request], Response]


class Clock:
    def __init__(self) -> None:
        self.now = 1e9

    def __call__(self) -> float:
        return self.now


class Body(KeptBody):
    """These pieces, and how it ended."""

    def __init__(self, *pieces: bytes | Exception) -> None:
        super().__init__(b"")
        self.pieces = list(pieces)
        self.closed = self.aborted = False

    async def receive(self) -> bytes:
        piece = self.pieces.pop(0) if self.pieces else b""
        if isinstance(piece, Exception):
            raise piece
        return piece

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.aborted = True


def reply(*pieces: bytes | Exception, status: int = 200, said: str = "", **named: str) -> Response:
    """A response with this Cache-Control, and whatever else is named."""
    headers = CIMultiDict((name.replace("_", "-"), value) for name, value in named.items())
    if said:
        headers["Cache-Control"] = said
    return Response(status, headers=headers, source=Body(*pieces))


def body_of(response: Response) -> Body:
    """Return the body that the server sent, whatever is around it by now."""
    source: Any = response._body.source
    while not isinstance(source, Body):
        source = source.inner
    return source


class Origin:
    """A cache before a server that answers in turn, and a clock."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.cache = Cache(clock=self.clock)
        self.replies: list[Reply] = []
        self.requests: list[Request] = []
        self.add: Callable[[Request], Request] = CookieKeeper().add

    async def send(self, request: Request) -> Response:
        self.requests.append(request)
        answer = self.replies.pop(0)
        if isinstance(answer, Exception):
            raise answer
        if not isinstance(answer, Response):
            return answer(request)
        answer.request = self.add(request)
        return answer

    async def ask(
        self, *replies: Reply, method: str = "GET", url: str = URL, said: str = "", **options: Any
    ) -> Response:
        """Ask through the cache, and read; the server has these replies, and gives all of them."""
        self.replies += replies
        headers = dict(options.pop("headers", {}))
        if said:
            headers["Cache-Control"] = said
        response = await self.cache(Request(method, url, headers=headers, **options), self.send)
        await response.read()
        assert not self.replies
        return response

    async def states(self, *urls: str, **options: Any) -> list[str]:
        """Return what the cache says of these, without asking the server."""
        return [(await self.ask(url=url, said="only-if-cached", **options)).extensions["cache"] for url in urls]


@pytest_asyncio.fixture
async def origin() -> AsyncIterator[Origin]:
    made = Origin()
    yield made
    await made.cache.close()


# Hits and misses


async def test_what_is_fresh_is_not_asked_for_again(origin: Origin) -> None:
    first = await origin.ask(reply(b"he", b"llo", said="max-age=60", ETag='"a"', Set_Cookie="a=b"))
    origin.clock.now += 59.5
    second = await origin.ask()
    assert [response.content for response in (first, second)] == [b"hello"] * 2
    assert [response.extensions["cache"] for response in (first, second)] == ["miss", "hit"]
    assert dict(second.headers) == {
        "Cache-Control": "max-age=60",
        "ETag": '"a"',
        "Date": formatdate(1e9, usegmt=True),
        "Age": "59",
    }
    assert first.headers["Set-Cookie"] == "a=b"
    assert second.elapsed.total_seconds() < 1
    assert str(second.url) == URL


async def test_what_is_kept_has_its_codings_and_is_decoded_as_usual(origin: Origin) -> None:
    zipped = gzip.compress(b"hello" * 999)
    await origin.ask(reply(zipped, said="max-age=60", Content_Encoding="gzip", Content_Length=str(len(zipped))))
    for read in ("read", "iter_bytes", "iter_raw"):
        response = await origin.cache(Request("GET", URL), origin.send)
        found = getattr(response, read)()
        content = await found if read == "read" else b"".join([piece async for piece in found])
        assert content == (zipped if read == "iter_raw" else b"hello" * 999)
        assert response.headers["Content-Encoding"] == "gzip"
    assert len(origin.requests) == 1


async def test_what_another_middleware_has_read_is_kept_decoded(origin: Origin) -> None:
    zipped = gzip.compress(b"hello")
    answer = reply(zipped, said="max-age=60", Content_Encoding="gzip", Content_Length=str(len(zipped)))
    await answer.read()
    await origin.ask(answer)
    hit = await origin.ask()
    assert hit.content == b"hello"
    assert "Content-Encoding" not in hit.headers
    assert "Content-Length" not in hit.headers


async def test_an_answer_of_each_is_its_own(origin: Origin) -> None:
    await origin.ask(reply(b"x", said="max-age=60"))
    one, other = await origin.ask(), await origin.ask()
    one.extensions["mine"] = 1
    assert other.extensions == {"cache": "hit"}
    assert one.headers is not other.headers


@pytest.mark.parametrize(
    "url", ["http://h/b", "http://h/a?x", "http://h:81/a", "https://h/a", "http://i/a", "http://h/A"]
)
async def test_another_url_is_another_resource(url: str, origin: Origin) -> None:
    await origin.ask(reply(b"x", said="max-age=60"))
    assert await origin.states(url, URL, f"{URL}#fragment") == ["miss", "hit", "hit"]


async def test_another_target_or_host_is_another_resource(origin: Origin) -> None:
    await origin.ask(reply(b"x", said="max-age=60"))
    assert await origin.states(URL, headers={"Host": "other"}) == ["miss"]
    assert await origin.states(URL, headers={"Host": "h"}) == ["hit"]
    request = Request("GET", URL, headers={"Cache-Control": "only-if-cached"}).replace(target="/b")
    assert (await origin.cache(request, origin.send)).status_code == 504


@pytest.mark.parametrize(
    "options",
    [
        {"method": "OPTIONS"},
        {"content": b"x"},
        {"said": "no-store"},
        *(
            {"headers": {name: "x"}}
            for name in ("Range", "If-None-Match", "If-Modified-Since", "If-Match", "If-Unmodified-Since", "If-Range")
        ),
    ],
)
async def test_what_passes_the_cache_by(options: dict[str, Any], origin: Origin) -> None:
    for _ in range(2):
        response = await origin.ask(reply(b"x", said="max-age=60"), **options)
        assert "cache" not in response.extensions
    assert await origin.states(URL) == ["miss"]
    await origin.ask(reply(b"y", said="max-age=60"))
    assert (await origin.ask(reply(b"x"), **options)).content == b"x"


@pytest.mark.parametrize(
    "answer",
    [
        {"said": "no-store, max-age=60"},
        {"said": "max-age=60", "status": 206},
        {"said": "max-age=60", "Vary": "*"},
        {"said": "max-age=60", "Transfer_Encoding": "gzip, chunked"},
        {},
    ],
)
async def test_what_is_not_kept(answer: dict[str, Any], origin: Origin) -> None:
    assert (await origin.ask(reply(**answer))).extensions["cache"] == "miss"
    assert await origin.states(URL) == ["miss"]


async def test_a_heuristic_is_no_more_than_a_tenth(origin: Origin) -> None:
    await origin.ask(reply(b"x", Last_Modified=formatdate(1e9 - 1000, usegmt=True)))
    origin.clock.now += 99
    assert await origin.states(URL) == ["hit"]
    origin.clock.now += 1
    assert await origin.states(URL) == ["miss"]


# What a cache is commonly asked, as (status and fields, seconds later, fields of the next request, what becomes of it).
# Numbers in fields are dates, in seconds from when the first answer was given.

Fields = list[tuple[str, str | int]]
NOW, OLD, TAG = ("Date", 0), ("Last-Modified", -86400), ("ETag", '"a"')
HOUR: Fields = [("Cache-Control", "max-age=3600")]
RELOAD: Fields = [("Cache-Control", "max-age=0")]
STALE: Fields = [("Cache-Control", "max-stale")]
ASKED: list[tuple[int, Fields, int, Fields, str]] = [
    # Freshness that is said, or not.
    (200, [], 3, [], "miss"),
    (200, [("Cache-Control", "max-age=3600")], 3, [], "hit"),
    (200, [("Cache-Control", 'max-age="3600"')], 3, [], "hit"),
    (200, [("Cache-Control", "max-age='3600'")], 3, [], "miss"),
    (200, [("Cache-Control", "MaX-aGe=3600")], 3, [], "hit"),
    (200, [("Cache-Control", "max-age=003600")], 3, [], "hit"),
    (200, [("Cache-Control", "foobar, max-age=3600")], 3, [], "hit"),
    (200, [("Cache-Control", 'extension="max-age=100", max-age=1')], 3, [], "miss"),
    (200, [("Cache-Control", 'max-age=1, extension="max-age=100"')], 3, [], "miss"),
    (200, [("Cache-Control", "max-age= 3600")], 3, [], "miss"),
    (200, [("Cache-Control", "max-age=0")], 0, [], "miss"),
    (200, [("Cache-Control", "max-age=a100")], 3, [], "miss"),
    (200, [("Cache-Control", "max-age=100a")], 3, [], "miss"),
    (200, [("Cache-Control", "max-age=-100")], 3, [], "miss"),
    (200, [("Cache-Control", "max-age=3600.0")], 3, [], "miss"),
    (200, [("Cache-Control", "max-age=2147483648")], 3, [], "hit"),
    (200, [("Cache-Control", "max-age=99999999999")], 3, [], "hit"),
    (200, [("Cache-Control", "max-age=1800, max-age=1")], 3, [], "hit"),
    (200, [("Cache-Control", "max-age=1"), ("Cache-Control", "max-age=1800")], 3, [], "miss"),
    (200, [("Cache-Control", "s-maxage=3600, max-age=1")], 3, [], "miss"),
    (200, [("Cache-Control", "s-maxage=1, max-age=3600")], 3, [], "hit"),
    (200, [("Cache-Control", "s-maxage=3600")], 3, [], "miss"),
    (200, [("Cache-Control", "max-age=3600"), ("Expires", -10000), NOW], 3, [], "hit"),
    (200, [("Cache-Control", "max-age=3600"), ("Expires", "0"), NOW], 3, [], "hit"),
    (200, [("Cache-Control", "max-age=0"), ("Expires", 10000), NOW], 3, [], "miss"),
    (200, [("Expires", 2592000), NOW], 3, [], "hit"),
    (200, [("Expires", 2592000), ("Date", "foo")], 3, [], "hit"),
    (200, [("Expires", -2592000), NOW], 3, [], "miss"),
    (200, [("Expires", 0), NOW], 0, [], "miss"),
    (200, [("Expires", 300), ("Date", 400)], 3, [], "miss"),
    (200, [("Expires", "0"), NOW], 3, [], "miss"),
    (200, [("Expires", "THU, 18 AUG 2050 02:01:18 gMT"), NOW], 3, [], "hit"),
    (200, [("Expires", "Thu 18 Aug 2050 02:01:18 GMT"), NOW], 3, [], "miss"),
    (200, [("Expires", "Thu, 18  Aug  2050 02:01:18 GMT"), NOW], 3, [], "miss"),
    (200, [("Expires", "Thu, 18 Aug 2050 02.01.18 GMT"), NOW], 3, [], "miss"),
    (200, [("Expires", "Thu, 18 Aug 2050 2:01:18 GMT"), NOW], 3, [], "miss"),
    (200, [("Expires", "Thu, 18 Aug 2050 02:01:18 AEST"), NOW], 3, [], "miss"),
    # Age.
    (200, [("Cache-Control", "max-age=10"), NOW, ("Age", "15")], 0, [], "miss"),
    (200, [("Date", -10), ("Expires", 10), ("Age", "25")], 0, [], "miss"),
    (200, [("Date", 10), ("Expires", 20), ("Age", "15")], 0, [], "miss"),
    *((200, [*HOUR, NOW, ("Age", age)], 0, [], "hit") for age in ("abc", "-7200", "7200.0", "0, 7200", "0, 0")),
    *((200, [*HOUR, NOW, ("Age", age)], 0, [], "miss") for age in ("7200, 0", "7200, 7200", "7200,")),
    (200, [*HOUR, ("Age", "7200"), ("Age", "0")], 0, [], "miss"),
    # Freshness that is supposed.
    *((status, [OLD, NOW], 3, [], "hit") for status in (200, 203, 204, 404, 405, 410, 414, 501)),
    *((status, [OLD, NOW], 3, [], "miss") for status in (201, 202, 403, 502, 503, 504, 599)),
    (599, [OLD, NOW, ("Cache-Control", "public")], 3, [], "hit"),
    # Any final status that says so.
    *(
        (status, HOUR, 3, [], "hit")
        for status in (200, 203, 204, 299, 301, 302, 307, 308, 400, 404, 410, 499, 500, 503, 599)
    ),
    *((status, [("Expires", -5000), ("Last-Modified", -100000), NOW], 0, [], "validation") for status in (200, 404)),
    # Directives of answers.
    (200, [("Cache-Control", "private, max-age=3600")], 3, [], "hit"),
    (200, [("Cache-Control", "No-StOrE"), ("Expires", 10000), NOW], 3, [], "miss"),
    (200, [("Cache-Control", "max-age=10000, no-store")], 3, [], "miss"),
    (200, [("Cache-Control", "max-age=10000, No-CaChE")], 3, [], "miss"),
    (200, [("Cache-Control", "max-age=10000, no-cache"), TAG], 3, [], "validation"),
    (200, [("Cache-Control", "max-age=10000, must-revalidate"), TAG], 3, [], "hit"),
    (
        200,
        [("Cache-Control", "max-age=2, must-revalidate"), TAG],
        3,
        [("Cache-Control", "max-stale")],
        "validation",
    ),
    (200, [("Cache-Control", "max-age=10000, immutable"), TAG], 3, RELOAD, "hit"),
    (
        200,
        [("Cache-Control", "max-age=2, immutable"), TAG],
        3,
        [("Cache-Control", "max-age=0")],
        "validation",
    ),
    (200, [*HOUR, ("Pragma", "no-cache")], 3, [], "hit"),
    (200, [*HOUR, ("Set-Cookie", "a=b")], 3, [], "hit"),
    (200, [*HOUR, ("Content-Disposition", "attachment")], 3, [], "hit"),
    # Directives of requests.
    (200, HOUR, 3, RELOAD, "miss"),
    (200, HOUR, 3, [("Cache-Control", "max-age=1")], "miss"),
    (200, [*HOUR, ("Age", "1800")], 0, [("Cache-Control", "max-age=600")], "miss"),
    (200, [("Cache-Control", "max-age=1")], 3, [("Cache-Control", "max-stale=1000")], "stale"),
    (200, [("Cache-Control", "max-age=1500"), ("Age", "2000")], 0, [("Cache-Control", "max-stale=1000")], "stale"),
    (200, [("Cache-Control", "max-age=1500")], 0, [("Cache-Control", "min-fresh=2000")], "miss"),
    (200, [("Cache-Control", "max-age=1500"), ("Age", "1000")], 0, [("Cache-Control", "min-fresh=1000")], "miss"),
    (200, HOUR, 0, [("Cache-Control", "no-cache")], "miss"),
    (200, [*HOUR, ("Last-Modified", -10000)], 0, [("Cache-Control", "no-cache")], "validation"),
    (200, [*HOUR, ("ETag", 'W/"a"')], 0, [("Cache-Control", "no-cache")], "validation"),
    (200, [*HOUR, ("ETag", "a")], 0, [("Pragma", "no-cache")], "validation"),
    (200, HOUR, 0, [("Pragma", "unknown")], "hit"),
    # Vary.
    *((200, [*HOUR, ("Vary", vary)], 0, [], "miss") for vary in ("*", "*, *", ", *", "*, Foo", "Foo, *")),
    (200, [*HOUR, ("Vary", ""), ("Vary", "*")], 0, [], "miss"),
    (200, [*HOUR, ("Vary", "Foo")], 0, [("Foo", "1")], "miss"),
    (200, [*HOUR, ("Vary", "Foo, Bar")], 0, [], "hit"),
    (200, [*HOUR, ("Vary", "Foo")], 0, [("Other", "1")], "hit"),
]


@pytest.mark.parametrize("number", range(len(ASKED)))
async def test_what_caches_are_commonly_asked(number: int, origin: Origin) -> None:
    status, given, later, asked, expected = ASKED[number]

    def pairs(fields: Fields) -> CIMultiDict[str]:
        return CIMultiDict(
            (name, formatdate(1e9 + value, usegmt=True) if isinstance(value, int) else value) for name, value in fields
        )

    first = Response(status, headers=pairs(given), source=Body(b"x"))
    await origin.ask(first)
    origin.clock.now += later
    origin.replies = [reply(b"new")]
    response = await origin.cache(Request("GET", URL, headers=pairs(asked)), origin.send)
    if expected in ("miss", "validation"):
        conditional = {"If-None-Match", "If-Modified-Since"} & set(origin.requests[1].headers)
        assert bool(conditional) == (expected == "validation"), ASKED[number]
        expected = "miss"
    assert response.extensions["cache"] == expected, ASKED[number]


# Bodies


@pytest.mark.parametrize("leave", ["close", "abort"])
async def test_a_body_that_is_given_up_is_not_kept(leave: str, origin: Origin) -> None:
    origin.replies = [reply(b"a", b"b", said="max-age=60")]
    response = await origin.cache(Request("GET", URL), origin.send)
    assert await response.iter_bytes().__anext__() == b"a"
    await response.close() if leave == "close" else response.abort()
    assert await origin.states(URL) == ["miss"]


async def test_a_body_that_is_cut_short_is_not_kept(origin: Origin) -> None:
    with pytest.raises(IncompleteBody):
        await origin.ask(reply(b"a", IncompleteBody("cut"), said="max-age=60"))
    assert await origin.states(URL) == ["miss"]


@pytest.mark.parametrize("named", [{}, {"Content_Length": "6"}])
@pytest.mark.parametrize(("size", "state"), [(5, "hit"), (6, "miss")])
async def test_a_body_beyond_the_bound_is_read_but_not_kept(
    size: int, state: str, named: dict[str, str], origin: Origin
) -> None:
    origin.cache = Cache(max_entry_bytes=5, clock=origin.clock)
    if named:
        named = {"Content_Length": str(size)}
    response = await origin.ask(reply(b"abc", b"defghi"[: size - 3], said="max-age=60", **named))
    assert len(response.content) == size
    assert await origin.states(URL) == [state]


# HEAD


async def test_a_length_that_is_no_number_harms_nobody(origin: Origin) -> None:
    chunked = {"Transfer_Encoding": "chunked", "Content_Length": "\xb2"}
    assert (await origin.ask(reply(b"x", said="max-age=60", **chunked))).content == b"x"
    assert await origin.states(URL) == ["hit"]


async def test_a_get_answers_a_head_and_not_the_other_way(origin: Origin) -> None:
    await origin.ask(reply(said="max-age=60", Content_Length="5"), method="HEAD")
    assert await origin.states(URL) == ["miss"]
    head = await origin.ask(method="HEAD")
    assert (head.extensions["cache"], head.content, head.headers["Content-Length"]) == ("hit", b"", "5")
    origin.clock.now += 1
    await origin.ask(reply(b"hello", said="max-age=60", Content_Length="5", X="get"))
    head = await origin.ask(method="HEAD")
    assert (head.content, head.headers["X"], head.headers["Content-Length"]) == (b"", "get", "5")


async def test_a_head_that_agrees_freshens_what_is_kept(origin: Origin) -> None:
    await origin.ask(reply(b"hello", said="max-age=60", ETag='"a"'))
    origin.clock.now += 100
    await origin.ask(reply(said="max-age=60", ETag='"a"', X="new"), method="HEAD")
    hit = await origin.ask()
    assert (hit.extensions["cache"], hit.content, hit.headers["X"]) == ("hit", b"hello", "new")


async def test_a_head_that_differs_removes_what_is_kept(origin: Origin) -> None:
    await origin.ask(reply(b"hello", said="max-age=60", ETag='"a"'))
    origin.clock.now += 100
    await origin.ask(reply(said="max-age=60", ETag='"b"'), method="HEAD")
    assert await origin.states(URL) == ["miss"]
    assert (await origin.ask(method="HEAD")).extensions["cache"] == "hit"


# Requests that have a say


async def test_only_if_cached_is_never_sent(origin: Origin) -> None:
    response = await origin.ask(said="only-if-cached")
    assert (response.status_code, response.reason, response.extensions["cache"]) == (504, "Gateway Timeout", "miss")
    await origin.ask(reply(b"x", said="max-age=10, stale-while-revalidate=10"))
    assert (await origin.ask(said="only-if-cached")).content == b"x"
    origin.clock.now += 15
    assert (await origin.ask(said="only-if-cached")).extensions["cache"] == "stale"
    await settled(origin.cache)
    assert len(origin.requests) == 1
    origin.clock.now += 15
    assert (await origin.ask(said="only-if-cached")).status_code == 504
    for options in ({"content": b"x"}, {"headers": {"Range": "bytes=0-1"}}, {"headers": {"If-None-Match": "x"}}):
        assert (await origin.ask(said="only-if-cached", **options)).status_code == 504  # type: ignore[arg-type]
    assert (await origin.ask(said="only-if-cached, no-store")).status_code == 504
    assert (await origin.ask(said="only-if-cached, max-stale")).extensions["cache"] == "stale"


async def test_a_request_can_ask_anew(origin: Origin) -> None:
    await origin.ask(reply(b"x", said="max-age=60"))
    response = await origin.ask(reply(b"y", said="max-age=60"), said="no-cache")
    assert (response.extensions["cache"], response.content) == ("miss", b"y")
    assert (await origin.ask()).content == b"y"


# Validation


@pytest.mark.parametrize(
    ("named", "asked"),
    [
        ({"ETag": '"a"'}, {"If-None-Match": '"a"'}),
        ({"Last_Modified": "x"}, {"If-Modified-Since": "x"}),
        ({"ETag": 'W/"a"', "Last_Modified": "x"}, {"If-None-Match": 'W/"a"', "If-Modified-Since": "x"}),
    ],
)
async def test_what_the_server_confirms_is_used_with_its_new_fields(
    named: dict[str, str], asked: dict[str, str], origin: Origin
) -> None:
    await origin.ask(reply(b"hello", said="max-age=60", X="old", **named))
    origin.clock.now += 60
    again = reply(status=304, said="max-age=60", X="new")
    response = await origin.ask(again, headers={"Accept": "z"})
    assert dict(origin.requests[1].headers) == {"Accept": "z"} | asked
    assert (response.status_code, response.content, response.headers["X"]) == (200, b"hello", "new")
    assert response.extensions["cache"] == "revalidated"
    assert response.headers["Age"] == "0"
    assert body_of(again).closed
    assert "If-None-Match" not in response.request.headers  # type: ignore[union-attr]
    origin.clock.now += 59
    assert (await origin.ask()).headers["Age"] == "59"


async def test_a_cookie_that_comes_with_a_confirmation_is_shown_but_not_kept(origin: Origin) -> None:
    await origin.ask(reply(b"x", said="max-age=60", ETag='"a"', Set_Cookie="a=1"))
    origin.clock.now += 60
    response = await origin.ask(reply(status=304, said="max-age=60", Set_Cookie="a=2"))
    assert (response.headers.getall("Set-Cookie"), response.cookies["a"]) == (["a=2"], "2")
    assert "Set-Cookie" not in (await origin.ask()).headers


async def test_what_the_server_has_changed_takes_its_place(origin: Origin) -> None:
    await origin.ask(reply(b"old", said="max-age=60", ETag='"a"'))
    origin.clock.now += 60
    response = await origin.ask(reply(b"new", said="max-age=60", ETag='"b"'))
    assert (response.extensions["cache"], response.content) == ("miss", b"new")
    assert (await origin.ask()).content == b"new"


async def test_without_a_validator_it_is_asked_for_without_conditions(origin: Origin) -> None:
    await origin.ask(reply(b"old", said="max-age=60"))
    origin.clock.now += 60
    # A server that says so all the same is given to the user as it is.
    assert (await origin.ask(reply(status=304))).status_code == 304
    assert dict(origin.requests[1].headers) == {}


async def test_a_304_about_something_else_is_not_believed(origin: Origin) -> None:
    await origin.ask(reply(b"old", said="max-age=60", ETag='"a"'))
    origin.clock.now += 60
    response = await origin.ask(reply(status=304, ETag='"b"'), reply(b"new", said="max-age=60", ETag='"b"'))
    assert (response.content, response.extensions["cache"]) == (b"new", "miss")
    assert "If-None-Match" not in origin.requests[2].headers


async def test_a_304_that_forbids_keeping_ends_it(origin: Origin) -> None:
    await origin.ask(reply(b"x", said="max-age=60", ETag='"a"'))
    origin.clock.now += 60
    assert (await origin.ask(reply(status=304, said="no-store"))).content == b"x"
    assert (await origin.ask(said="only-if-cached, max-stale")).status_code == 504


async def test_a_304_that_varies_on_more_keeps_it_for_those(origin: Origin) -> None:
    await origin.ask(reply(b"x", said="max-age=60", ETag='"a"'))
    origin.clock.now += 60
    await origin.ask(reply(status=304, said="max-age=60", Vary="Accept"), headers={"Accept": "a"})
    assert await origin.states(URL, headers={"Accept": "a"}) == ["hit"]
    assert await origin.states(URL, headers={"Accept": "b"}) == ["miss"]


async def test_an_answer_that_may_not_be_kept_removes_the_old_one_but_an_error_does_not(origin: Origin) -> None:
    for status, expected in ((500, "stale"), (404, "miss")):
        await origin.ask(reply(b"x", said="max-age=60"), said="no-cache")
        origin.clock.now += 60
        await origin.ask(reply(status=status))
        response = await origin.cache(
            Request("GET", URL, headers={"Cache-Control": "only-if-cached, max-stale"}), origin.send
        )
        assert response.extensions["cache"] == expected


# Vary


async def test_all_variants_are_kept(origin: Origin) -> None:
    for language in ("de", "en"):
        await origin.ask(
            reply(language.encode(), said="max-age=60", Vary="Accept-Language"), headers={"Accept-Language": language}
        )
    for language in ("de", "en"):
        assert (await origin.ask(headers={"Accept-Language": language})).content == language.encode()
    assert await origin.states(URL, headers={"Accept-Language": "fr"}) == ["miss"]
    assert await origin.states(URL) == ["miss"]


async def test_what_varies_on_what_is_added_later_is_not_kept(origin: Origin) -> None:
    origin.add = lambda request: request.replace(headers=[*request.headers.items(), ("X", "added")])
    await origin.ask(reply(b"x", said="max-age=60", Vary="X"))
    assert await origin.states(URL) == ["miss"]
    await origin.ask(reply(b"x", said="max-age=60", Vary="Cookie"))
    assert await origin.states(URL) == ["miss"]
    await origin.ask(reply(b"x", said="max-age=60", Vary="Cookie"), headers={"Cookie": "a=b"})
    assert await origin.states(URL, headers={"Cookie": "a=b"}) == ["hit"]
    assert await origin.states(URL, headers={"Cookie": "a=c"}) == ["miss"]


# Whose it is

AUTH, OTHER_AUTH = DigestAuth("u", "p"), DigestAuth("u", "p")


def jar_with(cookie: str) -> CookieJar:
    jar = CookieJar()
    jar.store([cookie], parse_url(URL))
    return jar


@pytest.mark.parametrize(
    ("mine", "theirs"),
    [
        ({"headers": {"Authorization": "Basic a"}}, {"headers": {"Authorization": "Basic b"}}),
        ({"headers": {"Cookie": "a=b"}}, {"headers": {"Cookie": "a=c"}}),
        ({"extensions": {"auth": AUTH}}, {"extensions": {"auth": OTHER_AUTH}}),
        ({"extensions": {"cookies": {"a": "b"}}}, {"extensions": {"cookies": {"a": "c"}}}),
        ({"extensions": {"auth": BasicAuth("u", "p")}}, {"extensions": {"auth": BasicAuth("u", "q")}}),
        ({"extensions": {"default_cookies": {"a": "b"}}}, {"extensions": {"default_cookies": {"a": "c"}}}),
        ({"extensions": {"cookies": jar_with("a=b")}}, {"extensions": {"cookies": jar_with("a=c")}}),
        ({"extensions": {"proxy": "http://p"}}, {"extensions": {"proxy": None}}),
        ({"extensions": {"guard": AUTH}}, {"extensions": {"guard": OTHER_AUTH}}),
        ({"extensions": {"server_name": "a"}}, {"extensions": {"server_name": "b"}}),
    ],
)
async def test_nobody_gets_what_is_somebody_elses(mine: dict[str, Any], theirs: dict[str, Any], origin: Origin) -> None:
    await origin.ask(reply(b"secret", said="max-age=60"), **mine)
    assert await origin.states(URL, **mine) == ["hit"]
    assert await origin.states(URL, **theirs) == ["miss"]
    assert await origin.states(URL) == ["miss"]
    await origin.ask(reply(b"open", said="max-age=60"))
    assert (await origin.ask(**mine)).content == b"secret"


@pytest.mark.parametrize("field", ["Cookie", "Authorization"])
async def test_what_was_asked_for_with_credentials_from_below_is_kept_only_if_it_is_public(
    field: str, origin: Origin
) -> None:
    origin.add = lambda request: request.replace(headers=[*request.headers.items(), (field, "secret")])
    for said in ("private, max-age=60", "max-age=60"):
        await origin.ask(reply(b"alice", said=said))
        assert await origin.states(URL) == ["miss"]
    # One that was kept before is not freshened by an answer to somebody.
    origin.add = lambda request: request
    await origin.ask(reply(b"x", said="max-age=0", ETag='"a"'))
    origin.add = lambda request: request.replace(headers=[*request.headers.items(), (field, "secret")])
    await origin.ask(reply(status=304, said="max-age=60", X="alice"))
    assert await origin.states(URL) == ["miss"]
    await origin.ask(reply(b"open", said="public, max-age=60"))
    assert await origin.states(URL) == ["hit"]
    origin.cache = Cache(identity="alice", clock=origin.clock)
    await origin.ask(reply(b"alice", said="private, max-age=60"))
    assert await origin.states(URL) == ["hit"]


@pytest.mark.parametrize(("said", "state"), [("max-age=60", "miss"), ("public, max-age=60", "hit")])
@pytest.mark.parametrize("field", ["Cookie", "Authorization"])
async def test_credentials_from_below_are_seen_though_nobody_tells_what_was_sent(
    field: str, said: str, state: str
) -> None:
    async def signed(request: Request, next: Send) -> Response:
        return await next(request.replace(headers=[(field, "secret")]))

    async def silent(request: Request, next: Send) -> Response:
        got = await next(request)
        return Response(200, headers=got.headers, content=await got.read())

    async def network(request: Request) -> Response:
        return reply(b"alice", said=said)

    for below in ([], [as_middleware(silent)]):
        send = compose([Cache(), *below, as_middleware(signed), CookieKeeper()], network)
        for expected in ("miss", state):
            response = await send(Request("GET", URL))
            await response.read()
            assert response.extensions["cache"] == expected


async def test_a_private_answer_that_begins_a_session_is_not_kept(origin: Origin) -> None:
    await origin.ask(reply(b"alice", said="private, max-age=60", Set_Cookie="sid=1"))
    assert await origin.states(URL) == ["miss"]


async def test_cookies_of_a_jar_beside_a_requests_own_are_not_told_by_those(origin: Origin) -> None:
    own = {"extensions": {"cookies": {"a": "b"}}}
    for keeper, state in ((CookieKeeper(jar_with("sid=1")), "miss"), (CookieKeeper(), "hit")):
        origin.add = keeper.add
        await origin.ask(reply(b"alice", said="max-age=60"), **own)  # type: ignore[arg-type]
        assert await origin.states(URL, **own) == [state]


async def test_the_same_password_is_the_same_user(origin: Origin) -> None:
    for make in (lambda: BasicAuth("u", "p"), lambda: BearerAuth("t")):
        await origin.ask(reply(b"x", said="max-age=60"), extensions={"auth": make()})
        assert await origin.states(URL, extensions={"auth": make()}) == ["hit"]


async def test_no_credential_is_kept_not_even_where_a_server_varies_on_it(origin: Origin) -> None:
    kept: list[Entry] = []

    def note(entries: Iterable[Entry]) -> None:
        kept.extend(entries)

    store = MemoryStore()
    for identity in (None, "me"):
        origin.cache = Cache(store, identity=identity, clock=origin.clock)
        for secret in ("hunter2", "hunter3"):
            named = {"headers": {"Authorization": secret, "Cookie": f"a={secret}"}}
            vary = reply(b"x", said="max-age=0", ETag='"a"', Vary="Authorization, Cookie, Accept")
            await origin.ask(vary, **named)  # type: ignore[arg-type]
            await origin.ask(reply(status=304, said="max-age=60"), **named)  # type: ignore[arg-type]
            assert await origin.states(URL, **named) == ["hit"]
        assert await origin.states(URL, headers={"Authorization": "other", "Cookie": "a=hunter2"}) == ["miss"]
    await store.find("http://h:80/a", note)  # type: ignore[arg-type]
    assert len(kept) == 4
    assert "hunter" not in repr(kept)


async def test_with_an_identity_credentials_set_nothing_apart_but_guards_do() -> None:
    store, clock = MemoryStore(), Clock()
    origin = Origin()
    origin.cache = Cache(store, identity="me", clock=clock)
    await origin.ask(reply(b"x", said="max-age=60"), extensions={"auth": AUTH})
    assert await origin.states(URL, extensions={"auth": OTHER_AUTH}) == ["hit"]
    assert await origin.states(URL, extensions={"guard": AUTH}) == ["miss"]
    origin.cache = Cache(store, identity="me", clock=clock)
    assert await origin.states(URL) == ["hit"]
    for identity in ("you", None):
        origin.cache = Cache(store, identity=identity, clock=clock)
        assert await origin.states(URL) == ["miss"]


async def test_credentials_are_for_one_cache_alone_and_what_is_open_is_for_all() -> None:
    store, origin = MemoryStore(), Origin()
    origin.cache = Cache(store, clock=origin.clock)
    credentials = {"Authorization": "Basic a"}
    await origin.ask(reply(b"x", said="max-age=60"), headers=credentials)
    await origin.ask(reply(b"y", said="max-age=60"))
    origin.cache = Cache(store, clock=origin.clock)
    assert await origin.states(URL, headers=credentials) == ["miss"]
    assert await origin.states(URL) == ["hit"]


async def test_only_so_many_identities_are_remembered(origin: Origin, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aiosock.middleware.identity.MAX_KNOWN", 2)
    guards = [object() for _ in range(3)]
    for guard in guards:
        await origin.ask(reply(b"x", said="max-age=60"), extensions={"guard": guard})
    assert [(await origin.states(URL, extensions={"guard": guard}))[0] for guard in guards[::-1]] == [
        "hit",
        "hit",
        "miss",
    ]


async def test_the_cookies_of_a_jar_set_answers_apart_but_for_those_for_everybody(origin: Origin) -> None:
    keeper = CookieKeeper()
    send = compose([origin.cache, keeper], lambda request: origin.send(request))
    origin.add = lambda request: keeper.add(request)

    async def get(*replies: Response, url: str = URL) -> tuple[bytes, str]:
        origin.replies = list(replies)
        response = await send(Request("GET", url))
        return await response.read(), response.extensions["cache"]

    assert await get(reply(b"nobody", said="max-age=60")) == (b"nobody", "miss")
    vary = {"Vary": "Cookie", "ETag": '"a"'}
    for user in ("alice", "bob"):
        keeper.jar = jar_with(f"sid={user}")
        for said in ("private, max-age=60", "max-age=60", "public, private, max-age=60"):
            assert await get(reply(user.encode(), said=said), url=f"{URL}?{said}") == (user.encode(), "miss")
            assert await get(url=f"{URL}?{said}") == (user.encode(), "hit")
        assert await get(reply(user.encode(), said="max-age=60", **vary)) == (user.encode(), "miss")
        assert await get() == (user.encode(), "hit")
    keeper.jar = jar_with("sid=alice")
    assert await get() == (b"alice", "hit")
    keeper.jar = jar_with("sid=bob")
    assert await get(reply(b"all", said="public, max-age=60"), url="http://h/b") == (b"all", "miss")
    keeper.jar = jar_with("sid=carol")
    assert await get(url="http://h/b") == (b"all", "hit")
    keeper.jar = None
    assert await get() == (b"nobody", "hit")
    assert await get(url="http://h/b") == (b"all", "hit")


async def test_what_was_asked_for_with_other_cookies_than_the_jar_had_is_nobodys(origin: Origin) -> None:
    keeper = CookieKeeper(jar_with("sid=alice"))

    async def late(request: Request, next: Any) -> Response:
        keeper.jar = jar_with("sid=bob")
        return await next(request)

    async def server(request: Request) -> Response:
        answer = reply(b"x", said="max-age=60")
        answer.request = request
        return answer

    async def read(middlewares: list[Any]) -> str:
        response = await compose(middlewares, server)(Request("GET", URL))
        await response.read()
        return response.extensions["cache"]

    assert await read([origin.cache, late, keeper]) == "miss"
    for user in ("alice", "bob"):
        keeper.jar = jar_with(f"sid={user}")
        assert await read([origin.cache, keeper]) == "miss"


async def test_an_answer_that_changes_the_jar_is_not_kept_for_what_nobody_will_ask_again(origin: Origin) -> None:
    store = MemoryStore()
    cache, keeper = Cache(store, clock=origin.clock), CookieKeeper(jar_with("sid=1"))

    async def server(request: Request) -> Response:
        return reply(b"x", said="max-age=60", Set_Cookie="sid=2")

    await (await compose([cache, keeper], server)(Request("GET", URL))).read()
    assert len(store) == 0


async def test_what_nobody_can_tell_the_credentials_of_is_not_kept(origin: Origin) -> None:
    async def server(request: Request) -> Response:
        return reply(b"x", said="max-age=60")

    await (await origin.cache(Request("GET", URL), server)).read()
    assert await origin.states(URL) == ["miss"]


async def test_clients_that_share_a_cache_have_their_answers_apart_unless_they_are_one_user(
    origin: Origin, caplog: pytest.LogCaptureFixture
) -> None:
    class Network:
        async def send(self, request: Request) -> Response:
            return reply(b"x", said="max-age=60")

    class Slotted(Network):
        __slots__ = ()
        __hash__ = None  # type: ignore[assignment]

    async def states(cache: Cache, networks: list[Network]) -> list[str]:
        got = []
        for network in networks:
            response = await compose([cache, CookieKeeper()], network.send)(Request("GET", URL))
            await response.read()
            got.append(response.extensions["cache"])
        return got

    caplog.set_level(logging.DEBUG, "aiosock")
    store, networks = MemoryStore(), [Network(), Network(), Network(), Slotted(), Slotted()]
    assert await states(Cache(store), networks * 2) == ["miss"] * 5 + ["hit"] * 5
    assert caplog.messages == ["a cache is used by several clients, whose answers are kept apart"]
    # What the first one of a cache asks for is open to the first one of another, as they share the store.
    assert await states(Cache(store), [Network(), Network()]) == ["hit", "miss"]
    assert await states(Cache(store, identity="me"), networks) == ["miss"] + ["hit"] * 4


async def test_clients_are_told_apart_and_cookies_seen_by_a_cache_that_somebodys_function_calls() -> None:
    class Network:
        async def send(self, request: Request) -> Response:
            return reply(b"x", said="max-age=60")

    cache = Cache()

    async def around(request: Request, next: Send) -> Response:
        return await cache(request, next)

    got = []
    for network, keeper in [(Network(), CookieKeeper()), (Network(), CookieKeeper(jar_with("a=b")))]:
        for _ in range(2):
            response = await compose([as_middleware(around), keeper], network.send)(Request("GET", URL))
            await response.read()
            got.append(response.extensions["cache"])
    assert got == ["miss", "hit"] * 2


async def test_what_somebodys_own_auth_fetched_is_kept_only_if_it_is_public(origin: Origin) -> None:
    def somebodys(request: Request) -> Request:
        return request

    options: dict[str, Any] = {"extensions": {"auth": somebodys}}
    await origin.ask(reply(b"alice", said="max-age=60"), **options)
    assert await origin.states(URL, **options) == ["miss"]
    await origin.ask(reply(b"all", said="public, max-age=60"), **options)
    assert await origin.states(URL, **options) == ["hit"]
    assert await origin.states(URL) == ["miss"]


async def test_what_is_public_is_not_freshened_by_what_is_somebodys(origin: Origin) -> None:
    await origin.ask(reply(b"x", said="public, max-age=60", ETag='"a"'))
    origin.clock.now += 60
    origin.add = lambda request: request.replace(headers=[*request.headers.items(), ("Authorization", "alice")])
    assert (await origin.ask(reply(status=304, said="max-age=60", X="alice"))).headers["X"] == "alice"
    kept = await origin.ask(said="only-if-cached, max-stale")
    assert "X" not in kept.headers


# RFC 5861


async def settled(cache: Cache) -> None:
    while cache._refreshing:
        await asyncio.sleep(0)


async def test_stale_while_revalidate_answers_at_once_and_asks_once_behind_it(origin: Origin) -> None:
    await origin.ask(reply(b"old", said="max-age=600, stale-while-revalidate=30", ETag='"a"'))
    origin.clock.now += 610
    go = asyncio.Event()

    async def slow(request: Request) -> Response:
        await go.wait()
        return await origin.send(request)

    loop = asyncio.get_running_loop()
    origin.replies = [reply(b"new", said="max-age=600")]
    extensions = {"timeout": Timeout(7), "deadline": loop.time() + 1, "on_informational": print}
    for _ in range(3):
        response = await origin.cache(Request("GET", URL, extensions=extensions), slow)
        assert (await response.read(), response.extensions["cache"]) == (b"old", "stale")
    go.set()
    await settled(origin.cache)
    assert len(origin.requests) == 2
    behind = origin.requests[1]
    assert behind.headers["If-None-Match"] == '"a"'
    assert "on_informational" not in behind.extensions
    assert behind.extensions["deadline"] >= loop.time() + 5
    assert ((await origin.ask()).content, (await origin.ask()).headers["Age"]) == (b"new", "0")


@pytest.mark.parametrize("failure", [ConnectError("x"), ValueError("x"), reply(b"a", IncompleteBody("cut"))])
async def test_what_goes_wrong_behind_an_answer_harms_nobody(
    failure: Any, origin: Origin, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "aiosock")
    await origin.ask(reply(b"old", said="max-age=600, stale-while-revalidate=30"), url=f"{URL}?secret")
    origin.clock.now += 610
    origin.replies = [failure]
    response = await origin.cache(Request("GET", f"{URL}?secret"), origin.send)
    assert await response.read() == b"old"
    await settled(origin.cache)
    assert len(caplog.messages) == 1
    assert "h could not be asked behind an answer" in caplog.messages[0]


async def test_what_goes_on_behind_an_answer_without_a_total_ends_all_the_same(
    origin: Origin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aiosock.middleware.cache.BEHIND_SECONDS", 0.01)
    await origin.ask(reply(b"old", said="max-age=600, stale-while-revalidate=30"))
    origin.clock.now += 610

    async def never(request: Request) -> Response:
        return await asyncio.Event().wait()  # type: ignore[return-value]

    await origin.cache(Request("GET", URL), never)
    async with asyncio.timeout(5):
        await settled(origin.cache)


async def test_a_clock_may_tell_whole_seconds(origin: Origin, tmp_path: Path) -> None:
    store = SQLiteStore(tmp_path / "db", clock=lambda: 10**9)
    async with Cache(store, clock=lambda: 10**9) as origin.cache:
        await origin.ask(reply(b"x", said="max-age=60"))
        assert await origin.states(URL) == ["hit"]


async def test_an_endless_body_behind_an_answer_is_given_up(origin: Origin) -> None:
    origin.cache = Cache(max_entry_bytes=10, clock=origin.clock)
    await origin.ask(reply(b"old", said="max-age=600, stale-while-revalidate=30"))
    origin.clock.now += 610
    endless = reply(*[b"x" * 6] * 100, said="max-age=1")
    origin.replies = [endless]
    await origin.cache(Request("GET", URL), origin.send)
    await settled(origin.cache)
    assert body_of(endless).closed
    assert len(body_of(endless).pieces) == 98


async def test_closing_ends_what_goes_on_behind_answers_and_then_nothing_more_does(origin: Origin) -> None:
    store = MemoryStore()
    async with Cache(store, clock=origin.clock) as cache:
        assert repr(cache) == "<Cache <MemoryStore 0 entries, 0 bytes>>"
        origin.cache = cache
        await origin.ask(reply(b"old", said="max-age=600, stale-while-revalidate=30"))
        origin.clock.now += 610
        ended = False

        async def never(request: Request) -> Response:
            nonlocal ended
            try:
                return await asyncio.Event().wait()  # type: ignore[return-value]
            finally:
                ended = True

        await cache(Request("GET", URL), never)
        await asyncio.sleep(0)
    assert ended


async def test_all_passes_a_closed_cache_by_and_what_comes_late_does_not_open_its_store_again(
    origin: Origin, tmp_path: Path
) -> None:
    store = SQLiteStore(tmp_path / "db", clock=origin.clock)
    async with Cache(store, clock=origin.clock) as cache:
        origin.cache = cache
        await origin.ask(reply(b"kept", said="max-age=60"))
        assert await origin.states(URL) == ["hit"]
        origin.replies = [reply(b"late", said="max-age=60")]
        late = await cache(Request("GET", "http://h/late"), origin.send)
        origin.replies = [reply(b"", said="max-age=60")]
        changing = asyncio.ensure_future(cache(Request("POST", URL), origin.send))
    assert await late.read() == b"late"
    await changing
    assert "cache" not in (await origin.ask(reply(b"new", said="max-age=60"))).extensions
    assert (await origin.ask(said="only-if-cached")).status_code == 504
    assert store._database is None
    async with cache:
        assert await origin.states("http://h/late") == ["miss"]


@pytest.mark.parametrize(
    "failure", [ConnectError("x"), ReadTimeout("x"), *(reply(b"", status=status) for status in (500, 502, 503, 504))]
)
async def test_stale_if_error_stands_in(failure: Any, origin: Origin) -> None:
    await origin.ask(reply(b"old", said="max-age=600, stale-if-error=1200"))
    origin.clock.now += 900
    response = await origin.ask(failure)
    assert (response.content, response.extensions["cache"], response.headers["Age"]) == (b"old", "stale", "900")
    if isinstance(failure, Response):
        assert body_of(failure).closed


async def test_a_request_may_accept_what_is_stale_for_an_error(origin: Origin) -> None:
    await origin.ask(reply(b"old", said="max-age=600"))
    origin.clock.now += 900
    assert (await origin.ask(ConnectError("x"), said="stale-if-error=300")).content == b"old"
    assert (await origin.ask(reply(status=503))).status_code == 503


@pytest.mark.parametrize(
    ("said", "failure"),
    [
        ("max-age=600", ConnectError("x")),
        ("max-age=600, stale-if-error=299", ConnectError("x")),
        ("max-age=600, stale-if-error=1200, must-revalidate", ConnectError("x")),
        ("max-age=600, stale-if-error=1200", BlockedAddress("x")),
        ("max-age=600, stale-if-error=1200", UsageError("x")),
    ],
)
async def test_other_errors_are_the_callers(said: str, failure: Exception, origin: Origin) -> None:
    await origin.ask(reply(b"old", said=said))
    origin.clock.now += 900
    with pytest.raises(type(failure)):
        await origin.ask(failure)


# Invalidation


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "CUSTOM"])
@pytest.mark.parametrize(("status", "state"), [(200, "miss"), (303, "miss"), (400, "hit"), (500, "hit")])
async def test_unsafe_methods_invalidate_when_they_succeed(
    method: str, status: int, state: str, origin: Origin
) -> None:
    for options in ({}, {"headers": {"Authorization": "x"}}):
        await origin.ask(reply(b"x", said="max-age=60"), **options)  # type: ignore[arg-type]
    await origin.ask(reply(status=status), method=method)
    assert await origin.states(URL) == [state]
    assert await origin.states(URL, headers={"Authorization": "x"}) == [state]


@pytest.mark.parametrize("name", ["Location", "Content_Location"])
async def test_what_an_unsafe_request_names_of_its_origin_is_invalidated_too(name: str, origin: Origin) -> None:
    urls = ["http://h/b", "http://h/c?d", "http://i/b"]
    for url in urls:
        await origin.ask(reply(b"x", said="max-age=60"), url=url)
    for value in ("b", "http://h:80/c?d", "//i/b", "http://["):
        await origin.ask(reply(status=201, **{name: value}), method="POST")
    assert await origin.states(*urls) == ["miss", "miss", "hit"]


async def test_safe_methods_invalidate_nothing(origin: Origin) -> None:
    await origin.ask(reply(b"x", said="max-age=60"))
    for method in ("OPTIONS", "TRACE", "QUERY"):
        await origin.ask(reply(b""), method=method)
    assert await origin.states(URL) == ["hit"]


async def test_an_answer_asked_for_before_the_change_is_not_kept(origin: Origin) -> None:
    origin.replies = [reply(b"old", said="max-age=60")]
    response = await origin.cache(Request("GET", URL), origin.send)
    await origin.ask(reply(b""), method="POST")
    assert await response.read() == b"old"
    assert await origin.states(URL) == ["miss"]
    await origin.ask(reply(b"new", said="max-age=60"))
    assert await origin.states(URL) == ["hit"]


async def test_what_is_older_than_all_that_is_remembered_is_not_kept(
    origin: Origin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aiosock.middleware.cachekey.MAX_CHANGED", 2)
    origin.replies = [reply(b"old", said="max-age=60")]
    response = await origin.cache(Request("GET", URL), origin.send)
    for number in range(3):
        await origin.ask(reply(b""), method="POST", url=f"http://h/{number}")
    await response.read()
    assert await origin.states(URL) == ["miss"]


# Stores that fail


class Failing(MemoryStore):
    """A store that cannot do this."""

    def __init__(self, step: str) -> None:
        super().__init__()
        self.step = step

    def fail(self, step: str) -> None:
        if step == self.step:
            raise UsageError("the cache database '/db' cannot be used")

    async def find(self, url: str, choose: Callable[[Iterable[Entry]], Entry | None], /) -> Entry | None:
        self.fail("find")
        return await super().find(url, choose)

    async def put(self, url: str, entry: Entry, /) -> None:
        self.fail("put")

    async def remove(self, url: str, entry: Entry | None = None, /) -> None:
        self.fail("remove")


async def test_an_answer_is_given_up_by_who_is_cancelled_while_the_store_removes_what_it_changed(
    origin: Origin,
) -> None:
    class Stuck(MemoryStore):
        async def remove(self, url: str, entry: Entry | None = None, /) -> None:
            await asyncio.Event().wait()

    origin.cache = Cache(Stuck())
    answer = reply(b"x")
    task = asyncio.create_task(origin.ask(answer, method="POST"))
    for _ in range(5):
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert body_of(answer).aborted


async def test_what_is_invalidated_while_a_cache_is_closed_does_not_open_its_store(
    origin: Origin, tmp_path: Path
) -> None:
    store = SQLiteStore(tmp_path / "db")
    cache = Cache(store)
    started, go = asyncio.Event(), asyncio.Event()

    async def server(request: Request) -> Response:
        started.set()
        await go.wait()
        return reply(b"")

    changing = asyncio.create_task(cache(Request("POST", URL), server))
    await started.wait()
    await cache.close()
    go.set()
    await changing
    assert store._database is None


async def test_a_store_that_cannot_be_used_is_told_of_but_takes_no_body_away(
    origin: Origin, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "aiosock")
    origin.cache = Cache(Failing("find"))
    with pytest.raises(UsageError, match="'/db'"):
        await origin.ask()
    origin.cache = Cache(Failing("put"))
    assert (await origin.ask(reply(b"x", said="max-age=60"))).content == b"x"
    assert caplog.messages == ["an answer could not be kept: the cache database '/db' cannot be used"]
    origin.cache = Cache(Failing("remove"))
    answer = reply(b"x")
    assert (await origin.ask(answer, method="POST")).content == b"x"
    assert caplog.messages[1:] == ["a changed answer could not be removed: the cache database '/db' cannot be used"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"store": "path"}, "store takes a MemoryStore, a SQLiteStore or the like, not str"),
        ({"max_entry_bytes": -1}, "max_entry_bytes takes a whole number of at least 0, not -1"),
        ({"max_entry_bytes": True}, "not True"),
        ({"identity": 3}, "identity takes a str, not int"),
    ],
)
def test_arguments_that_make_no_sense(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Cache(**options)


async def test_a_malformed_field_is_told_of(origin: Origin, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "aiosock")
    await origin.ask(reply(b"x", said="max-age=60, =secret", ETag='"a"'))
    told = "passed over a malformed part of a Cache-Control field of h"
    assert caplog.messages == [told]
    assert await origin.states(URL) == ["hit"]
    origin.clock.now += 60
    await origin.ask(reply(status=304, said="max-age=60, =secret"))
    assert caplog.messages == [told] * 2
    assert await origin.states(URL) == ["hit"]


# With others


async def test_redirects_are_kept_though_nobody_reads_them(origin: Origin) -> None:
    send = compose([Redirects(True, 5), origin.cache], origin.send)
    origin.replies = [reply(b"moved", status=301, Location="/b", said="max-age=60"), reply(b"x", said="max-age=60")]
    for state in ("miss", "hit"):
        response = await send(Request("GET", URL))
        assert await response.read() == b"x"
        assert [one.extensions["cache"] for one in (*response.history, response)] == [state, state]
    assert len(origin.requests) == 2


@pytest.mark.parametrize("failure", [IncompleteBody("cut"), ValueError("x")])
async def test_a_redirect_whose_body_fails_is_followed_but_not_kept(failure: Exception, origin: Origin) -> None:
    send = compose([Redirects(True, 5), origin.cache], origin.send)
    moved = reply(b"moved", failure, status=301, Location="/b", said="max-age=60")
    origin.replies = [moved, reply(b"x", said="max-age=60")]
    if isinstance(failure, ValueError):
        with pytest.raises(ValueError, match="x"):
            await send(Request("GET", URL))
    else:
        assert (await send(Request("GET", URL))).status_code == 200
        assert await origin.states(URL) == ["miss"]
    assert body_of(moved).aborted


@pytest.mark.parametrize("outer", ["cache", "coalesce"])
async def test_a_rush_costs_one_exchange_and_then_none(outer: str, origin: Origin) -> None:
    both = [origin.cache, Coalesce()]
    send = compose(both if outer == "cache" else both[::-1], origin.send)
    origin.replies = [reply(b"x", said="max-age=60")]

    async def one() -> bytes:
        return await (await send(Request("GET", URL))).read()

    assert await asyncio.gather(*(one() for _ in range(5))) == [b"x"] * 5
    assert await one() == b"x"
    assert len(origin.requests) == 1


async def test_many_at_once_for_one_url_get_whole_answers(origin: Origin) -> None:
    count = 0

    async def server(request: Request) -> Response:
        nonlocal count
        count += 1
        await asyncio.sleep(0)
        body = b"%d" % count * 1000
        return reply(body[:500], body[500:], said="max-age=1", ETag=f'"{count}"')

    async def one(number: int) -> bytes:
        for _ in range(number % 5):
            await asyncio.sleep(0)
        origin.clock.now += number % 2
        return await (await origin.cache(Request("GET", URL), server)).read()

    for content in await asyncio.gather(*(one(number) for number in range(50))):
        assert len(set(content.split(content[:1]))) <= 3
        assert content == content[: len(content) // 1000] * 1000
