"""Around every request on the wire: one Cookie field goes out, and what comes back is kept."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Iterator
from typing import Any

import publicsuffixlist
import pytest
from multidict import CIMultiDict

from aiosock.errors import TotalTimeout
from aiosock.message import jar as jars
from aiosock.message.cookies import Cookies
from aiosock.message.jar import CookieJar
from aiosock.message.request import Request
from aiosock.message.response import Response
from aiosock.middleware.chain import compose
from aiosock.middleware.cookies import MAX_FIELD_BYTES, CookieKeeper
from aiosock.middleware.redirect import Redirects
from aiosock.protocol.cookie import Cookie

URL = "https://www.example.com/a"


@pytest.fixture
def keeper() -> CookieKeeper:
    """A jar with cookies of two hosts."""
    cookies = Cookies()
    cookies.set("root", "1", domain="www.example.com")
    cookies.set("sub", "2", domain="www.example.com", path="/a")
    cookies.set("foreign", "3", domain="other.org")
    return CookieKeeper(cookies.jar)


def sent(keeper: CookieKeeper, headers: Any = None, **extensions: Any) -> list[str]:
    return list(keeper.add(Request("GET", URL, headers=headers, extensions=extensions)).headers.getall("Cookie", []))


def test_the_jars_cookies_go_in_one_field(keeper: CookieKeeper) -> None:
    assert sent(keeper) == ["sub=2; root=1"]


def test_a_field_set_by_hand_comes_first_then_the_calls_and_then_the_jars(keeper: CookieKeeper) -> None:
    assert sent(keeper, {"cookie": "b=9;  a=8"}, cookies={"c": "7"}) == ["b=9;  a=8; c=7; sub=2; root=1"]
    assert sent(keeper, [("Cookie", "b=9"), ("Cookie", ""), ("Cookie", "a=8")]) == ["b=9; a=8; sub=2; root=1"]
    assert sent(keeper, cookies={"c": "7"}) == ["c=7; sub=2; root=1"]


def test_a_name_that_was_given_is_not_given_again(keeper: CookieKeeper) -> None:
    assert sent(keeper, {"Cookie": "x; sub=9 ;a=1"}, cookies={"root": "8", "a": "7"}) == ["x; sub=9 ;a=1; root=8"]
    assert sent(keeper, {"Cookie": "sub=9; root=8"}) == ["sub=9; root=8"]


def test_cookies_of_one_name_for_several_paths_are_all_sent(keeper: CookieKeeper) -> None:
    Cookies(keeper.jar).set("sub", "4", domain=".example.com")
    assert sent(keeper) == ["sub=2; root=1; sub=4"]


def jar_of(*sizes: int, path: str = "/") -> CookieJar:
    """Return a jar with cookies ``a0=``, ``a1=`` and so on, each of so many bytes in all."""
    jar = CookieJar()
    for number, size in enumerate(sizes):
        jar.set_cookie(Cookie(f"a{number}", "x" * (size - 3), domain="www.example.com", path=path))
    return jar


def names_sent(keeper: CookieKeeper, headers: Any = None, **extensions: Any) -> list[str]:
    [field] = sent(keeper, headers, **extensions)
    assert len(field) <= MAX_FIELD_BYTES
    return [pair.partition("=")[0] for pair in field.split("; ")]


def test_a_field_is_as_long_as_servers_take_and_no_longer(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "aiosock")
    full = CookieKeeper(jar_of(4000, 4000, MAX_FIELD_BYTES - 8004))
    assert sent(full)[0] == "; ".join(f"{cookie.name}={cookie.value}" for cookie in full.jar or ())
    assert len(sent(full)[0]) == MAX_FIELD_BYTES
    assert not caplog.messages
    assert names_sent(CookieKeeper(jar_of(4000, 4000, MAX_FIELD_BYTES - 8003))) == ["a0", "a1"]
    assert names_sent(CookieKeeper(jar_of(4000, 4000, 187, 186))) == ["a0", "a1", "a3"]
    # What comes first goes first, and what is small finds a place.
    assert names_sent(CookieKeeper(jar_of(4000, 10, 4000, 4000, 10))) == ["a0", "a1", "a2", "a4"]
    assert caplog.messages == ["left out 1 cookies for www.example.com: the field has more than 8190 bytes"] * 3


def test_what_was_given_with_the_call_is_sent_whatever_its_size() -> None:
    keeper = CookieKeeper(jar_of(4000, 3000, 10))
    assert names_sent(keeper, {"Cookie": "h=" + "x" * 1000}, cookies={"c": "y" * 1000}, default_cookies={"d": "z"}) == [
        *("h", "c", "a0", "a2", "d")
    ]
    [field] = sent(keeper, {"Cookie": "h=" + "x" * 8000}, cookies={"c": "y" * 4000}, default_cookies={"d": "z" * 4000})
    assert [pair[:1] for pair in field.split("; ")] == ["h", "c", "d"]
    # A jar of the call's own is a jar.
    assert names_sent(keeper, cookies=jar_of(4000, 4000, 180)) == ["a0", "a1", "a2"]
    assert names_sent(CookieKeeper(), cookies=jar_of(4000, 4000, 190, 180)) == ["a0", "a1", "a3"]


def test_a_field_that_has_no_room_for_any_cookie_is_left_as_it_is() -> None:
    request = Request("GET", URL, headers={"Cookie": "h=" + "x" * 8185})
    assert CookieKeeper(jar_of(10)).add(request) is request


def test_a_cookie_without_a_name_takes_its_value_and_no_more() -> None:
    jar = jar_of(4000, 4000, 187)
    jar.set_cookie(Cookie("", "x" * 186, domain="www.example.com"))
    assert names_sent(CookieKeeper(jar)) == ["a0", "a1", "x" * 186]


def test_unbound_cookies_are_left_to_the_call(keeper: CookieKeeper) -> None:
    keeper.jar.unbound["free"] = "0"
    assert sent(keeper) == ["sub=2; root=1"]


@pytest.mark.parametrize("extensions", [{}, {"cookies": {}}, {"cookies": None}])
def test_without_cookies_the_request_is_the_same(extensions: dict[str, Any]) -> None:
    request = Request("GET", URL, headers={"Cookie": "a=1"}, extensions=extensions)
    assert CookieKeeper(CookieJar()).add(request) is request


def test_foreign_cookies_and_names_that_were_given_leave_the_request_as_it_is(keeper: CookieKeeper) -> None:
    request = Request("GET", "https://example.com/")
    assert keeper.add(request) is request
    request = Request("GET", URL, headers={"Cookie": "sub=9; root=8"})
    assert keeper.add(request) is request


def test_the_request_that_came_in_is_not_changed(keeper: CookieKeeper) -> None:
    request = Request("POST", URL, content=b"x", headers={"Cookie": "a=1"}, extensions={"cookies": {"b": "2"}})
    added = keeper.add(request)
    assert request.headers["Cookie"] == "a=1"
    assert (added.method, added.body, added.extensions["cookies"]) == ("POST", request.body, {"b": "2"})
    assert list(request.extensions) == ["cookies"]


async def test_what_an_answer_sets_is_kept_for_the_host_of_its_request(keeper: CookieKeeper) -> None:
    headers: CIMultiDict[str] = CIMultiDict([("Set-Cookie", "x=1"), ("set-cookie", "root=; Max-Age=0; Path=/")])
    await keeper.keep(Request("GET", URL), Response(500, headers=headers))
    assert sent(keeper) == ["sub=2; x=1"]


async def test_a_chain_of_redirects_gets_and_gives_cookies_at_each_step() -> None:
    fields: list[tuple[str, str | None]] = []

    async def transport(request: Request) -> Response:
        fields.append((str(request.url), request.headers.get("Cookie")))
        headers = {
            "/a": {"Location": "/b", "Set-Cookie": "sid=1; Path=/"},
            "/b": {"Location": "https://other.org/c", "Set-Cookie": "here=2; Domain=example.com"},
            "/c": {"Location": URL.replace("/a", "/d"), "Set-Cookie": "there=3; Domain=example.com"},
        }.get(request.target)
        return Response(302 if headers else 200, headers=headers)

    send = compose([Redirects(True, 9), CookieKeeper(CookieJar())], transport)
    await send(Request("GET", URL))
    assert fields == [
        (URL, None),
        ("https://www.example.com/b", "sid=1"),
        ("https://other.org/c", None),
        ("https://www.example.com/d", "sid=1; here=2"),
    ]


async def test_the_list_of_public_suffixes_is_read_in_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[threading.Thread] = []

    class Noting(publicsuffixlist.PublicSuffixList):
        def __init__(self, *args: Any, **more: Any) -> None:
            threads.append(threading.current_thread())
            super().__init__(*args, **more)

    async def transport(request: Request) -> Response:
        return Response(200, headers={"Set-Cookie": "a=1; Domain=com"})

    monkeypatch.setattr(publicsuffixlist, "PublicSuffixList", Noting)
    jars._public_suffix_list.cache_clear()
    keeper = CookieKeeper(CookieJar())
    await asyncio.gather(*(keeper(Request("GET", URL), transport) for _ in range(3)))
    await keeper(Request("GET", URL), transport)
    assert len(threads) == 1
    assert threads[0] is not threading.current_thread()
    assert keeper.jar.domains == {}


async def test_without_anything_to_do_it_only_passes_on() -> None:
    request = Request("GET", URL)
    response = Response(200)

    async def transport(passed: Request) -> Response:
        assert passed is request
        return response

    assert await CookieKeeper(CookieJar())(request, transport) is response


def test_a_request_that_is_sent_again_gets_its_cookies_anew(keeper: CookieKeeper) -> None:
    sent_before = keeper.add(Request("GET", URL, headers={"Cookie": "hand=1"}))
    assert sent_before.headers["Cookie"] == "hand=1; sub=2; root=1"
    assert keeper.jar is not None
    keeper.jar.store(["root=9; Path=/"], sent_before.location)
    assert keeper.add(sent_before).headers["Cookie"] == "hand=1; sub=2; root=9"
    by_hand = sent_before.replace(headers={"Cookie": "sub=hand"})
    assert keeper.add(by_hand).headers["Cookie"] == "sub=hand; root=9"


def test_what_a_server_sets_counts_for_more_than_what_a_client_was_given(keeper: CookieKeeper) -> None:
    extensions = {"cookies": {}, "default_cookies": {"root": "default", "other": "default"}}
    assert keeper.add(Request("GET", URL, extensions=extensions)).headers["Cookie"] == "sub=2; root=1; other=default"


def test_a_jar_of_the_request_sends_to_each_host_and_path_its_own(keeper: CookieKeeper) -> None:
    jar = CookieJar()
    jar.store(["admin=1; Path=/admin", "own=1; Path=/"], Request("GET", URL).location)
    for target, expected in [("/admin", "admin=1; own=1; root=1"), ("/public", "own=1; root=1")]:
        request = Request("GET", str(Request("GET", URL).url.with_path(target)), extensions={"cookies": jar})
        assert keeper.add(request).headers["Cookie"] == expected


class Held:
    """A body that is given up sooner or later."""

    trailers = None
    aborted = False

    def abort(self) -> None:
        self.aborted = True


@pytest.fixture
def loading(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Let the list of public suffixes take until the event; the test's own thread pool is busy as well."""
    go = threading.Event()
    monkeypatch.setattr(jars, "load_public_suffixes", go.wait)
    monkeypatch.setattr(CookieJar, "awaits_public_suffixes", lambda *_: True)
    yield go
    go.set()


def answer_of(source: Held) -> Response:
    return Response(200, headers={"Set-Cookie": "a=1; Domain=example.com"}, source=source)


async def test_an_answer_is_given_up_when_its_request_is_called_off(loading: threading.Event) -> None:
    source = Held()
    keeping = asyncio.ensure_future(CookieKeeper().keep(Request("GET", URL), answer_of(source)))
    for _ in range(3):
        await asyncio.sleep(0)
    assert not keeping.done()
    keeping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await keeping
    assert source.aborted


async def test_the_time_of_the_request_bounds_the_loading_of_the_list(loading: threading.Event) -> None:
    source = Held()
    request = Request("GET", URL, extensions={"deadline": asyncio.get_running_loop().time() + 0.05})
    with pytest.raises(TotalTimeout, match="it was loading the list of public suffixes"):
        await CookieKeeper().keep(request, answer_of(source))
    assert source.aborted
