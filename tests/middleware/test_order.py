"""A client's middlewares stand in their order, and the shortcut past them changes nothing but the time it takes."""

from __future__ import annotations

import itertools
from collections.abc import AsyncGenerator, Callable

import pytest

from aiosock.errors import AiosockError
from aiosock.message.jar import CookieJar
from aiosock.message.request import Request
from aiosock.message.response import Response
from aiosock.middleware.chain import Lifetime, Middleware, Send
from aiosock.middleware.cookies import CookieKeeper
from aiosock.middleware.order import arrange
from aiosock.middleware.redirect import Redirects
from aiosock.middleware.schemes import BasicAuth

Answer = tuple[int, dict[str, str]]
Site = Callable[[Request], Answer]


async def passing(request: Request, next: Send) -> Response:
    """A middleware that does nothing, but stands in the way of the shortcut."""
    return await next(request)


class Recorder:
    """A transport that answers as a site does, and remembers what it was sent."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.sent: list[tuple[str, str, list[tuple[str, str]]]] = []

    async def send(self, request: Request) -> Response:
        self.sent.append((request.method, str(request.url), list(request.headers.items())))
        status, headers = self.site(request)
        return Response(status, headers=headers, request=request)


def plain(request: Request) -> Answer:
    return 200, {"X": request.target}


def setting(request: Request) -> Answer:
    return 200, {"Set-Cookie": f"n={len(request.target)}; Path=/"}


def moving(request: Request) -> Answer:
    if request.target == "/end":
        return 200, {}
    return 302, {"Location": "/end", "Set-Cookie": "moved=1"}


def moving_away(request: Request) -> Answer:
    return (200, {}) if request.location.host == "other" else (307, {"Location": "http://other/"})


def failing(request: Request) -> Answer:
    return 302, {"Location": "http://["}


def endless(request: Request) -> Answer:
    return 302, {"Location": "/again"}


SITES: list[Site] = [plain, setting, moving, moving_away, failing, endless]


async def asked(site: Site, request: Request, own: list[Middleware], twice: bool) -> list[object]:
    """What a client makes of a site: answers, errors, cookies, and all that was sent."""
    jar, recorder = CookieJar(clock=lambda: 1e9), Recorder(site)
    send = arrange(Redirects(True, 5), own, CookieKeeper(jar), Lifetime(), recorder.send)
    seen: list[object] = []
    for _ in range(1 + twice):
        try:
            response = await send(request)
            seen += [response.status_code, str(response.url), [str(one.url) for one in response.history]]
        except AiosockError as error:
            seen.append(str(error))
    return [seen, recorder.sent, [(cookie.name, cookie.value, cookie.domain) for cookie in jar]]


@pytest.mark.parametrize("site", SITES)
@pytest.mark.parametrize("twice", [False, True])
@pytest.mark.parametrize("follow", [False, True])
async def test_the_shortcut_and_the_whole_way_come_to_the_same(site: Site, twice: bool, follow: bool) -> None:
    for auth, cookies in itertools.product((False, True), (False, True)):
        extensions: dict[str, object] = {"follow_redirects": follow}
        extensions |= {"auth": BasicAuth("u", "p")} if auth else {}
        extensions |= {"cookies": {"own": "1"}} if cookies else {}
        request = Request("GET", "http://h/start", headers={"A": "b"}, extensions=extensions)
        quick = await asked(site, request, [], twice)
        assert quick == await asked(site, request, [passing], twice)
        assert quick[1]


async def test_the_order() -> None:
    log: list[str] = []
    jar = CookieJar()

    async def own(request: Request, next: Send) -> Response:
        log.append(f"own {request.target} {sorted(request.headers)}")
        return await next(request)

    async def auth(request: Request) -> AsyncGenerator[Request, Response]:
        log.append(f"auth {request.target} {sorted(request.headers)}")
        response = yield request.replace(headers={"Authorization": "a"})
        if response.status_code == 401:
            yield request.replace(headers={"Authorization": "b"})

    async def transport(request: Request) -> Response:
        log.append(f"sent {request.target} {sorted(request.headers.items())}")
        number = len(log)
        if request.target == "/end":
            return Response(200, request=request)
        if request.headers["Authorization"] == "a":
            return Response(401, headers={"Set-Cookie": f"n={number}"}, request=request)
        return Response(302, headers={"Location": "/end"}, request=request)

    send = arrange(Redirects(True, 5), [own], CookieKeeper(jar), Lifetime(), transport)
    response = await send(Request("GET", "http://h/", extensions={"auth": auth}))
    assert response.status_code == 200
    assert log == [
        "own / []",
        "auth / []",
        "sent / [('Authorization', 'a')]",
        # The challenge set a cookie, which the answer to it carries.
        "sent / [('Authorization', 'b'), ('Cookie', 'n=3')]",
        # And once more for where the redirect leads, from the user's own on.
        "own /end []",
        "auth /end []",
        "sent /end [('Authorization', 'a'), ('Cookie', 'n=3')]",
    ]


async def test_credentials_go_where_a_middleware_sends_a_request() -> None:
    recorder = Recorder(plain)
    jar = CookieJar()
    jar.store(["here=1"], Request("GET", "http://h/").location)
    jar.store(["there=1"], Request("GET", "http://elsewhere/").location)

    async def elsewhere(request: Request, next: Send) -> Response:
        return await next(request.replace(url="http://elsewhere/"))

    await arrange(Redirects(True, 5), [elsewhere], CookieKeeper(jar), Lifetime(), recorder.send)(
        Request("GET", "http://h/")
    )
    assert recorder.sent == [("GET", "http://elsewhere/", [("Cookie", "there=1")])]
