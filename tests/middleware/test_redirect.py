"""A redirect is followed with the method, body, fields and URL that it asks for, and without credentials elsewhere."""

from __future__ import annotations

from typing import Any

import pytest

from aiosock.errors import (
    BodyNotReplayable,
    InvalidURL,
    ReadError,
    RemoteProtocolError,
    TooManyRedirects,
)
from aiosock.message.request import Request
from aiosock.message.response import Response
from aiosock.middleware.redirect import Redirects, redirected
from tests.middleware.fakes import Server


class Site(Server):
    """Answers with redirects, each a status and a Location, and then with 200."""

    def __init__(self, *answers: tuple[int, str] | Exception) -> None:
        replies = [one if isinstance(one, Exception) else (one[0], {"Location": one[1]}) for one in answers]
        super().__init__(*replies, 200)

    @property
    def targets(self) -> list[str]:
        return [f"{request.method} {request.url}" for request in self.requests]


def follow(limit: int = 20) -> Redirects:
    return Redirects(True, limit)


def following(location: str, request: Request | None = None, status: int = 302) -> Request:
    if request is None:
        request = Request("GET", "http://a/b/c/d;p?q")
    return redirected(request, Response(status, headers={"Location": location}, request=request))


# Methods and bodies


@pytest.mark.parametrize(
    ("status", "method", "expected"),
    [
        (301, "POST", "GET"),
        (302, "POST", "GET"),
        (303, "POST", "GET"),
        (303, "PUT", "GET"),
        (303, "DELETE", "GET"),
        (303, "OPTIONS", "GET"),
        *((303, method, method) for method in ("GET", "HEAD")),
        *((status, method, method) for status in (301, 302) for method in ("GET", "HEAD", "PUT", "DELETE", "QUERY")),
        *((status, method, method) for status in (307, 308) for method in ("GET", "HEAD", "POST", "PUT", "PATCH")),
    ],
)
async def test_the_method_and_its_body(status: int, method: str, expected: str) -> None:
    headers = {"Content-Type": "a/b", "X": "y"}
    request = Request(method, "http://h/a", content=b"abc", headers=headers)
    server = Site((status, "/b"))
    response = await follow()(request, server)
    assert response.status_code == 200
    assert server.targets == [f"{method} http://h/a", f"{expected} http://h/b"]
    second = server.requests[1]
    if expected == method:
        assert second.body is request.body
        assert list(second.headers.items()) == list(request.headers.items())
    else:
        assert second.body is None
        assert list(second.headers.items()) == [("X", "y")]
    assert request.headers["Content-Length"] == "3"


@pytest.mark.parametrize("status", [307, 308])
async def test_a_body_that_cannot_be_sent_again(status: int) -> None:
    server = Site((status, "/b"))
    request = Request("POST", "http://h/a", content=iter([b"a"]))
    with pytest.raises(BodyNotReplayable, match=f"{status} asks for the same body again"):
        await follow()(request, server)
    assert len(server.requests) == 1
    assert server.sources[0].closed


async def test_a_body_that_is_not_wanted_again_need_not_be_sent_again() -> None:
    server = Site((303, "/b"))
    response = await follow()(Request("POST", "http://h/a", content=iter([b"a"])), server)
    assert response.status_code == 200


# Following, and not


async def test_the_history_and_what_was_asked_last() -> None:
    server = Site((301, "/b"), (302, "/c"), (307, "/d"))
    response = await follow()(Request("GET", "http://h/a"), server)
    assert server.targets == ["GET http://h/a", "GET http://h/b", "GET http://h/c", "GET http://h/d"]
    assert [(one.status_code, str(one.url)) for one in response.history] == [
        (301, "http://h/a"),
        (302, "http://h/b"),
        (307, "http://h/c"),
    ]
    assert str(response.url) == "http://h/d"
    assert response.next_request is None
    *redirects, last = server.sources
    assert all(source.closed and not source.received for source in redirects)
    assert not last.closed


@pytest.mark.parametrize(
    ("always", "option", "followed"),
    [(True, None, True), (True, False, False), (False, None, False), (False, True, True)],
)
async def test_a_request_may_say_otherwise(always: bool, option: bool | None, followed: bool) -> None:
    server = Site((302, "/b"))
    extensions = {} if option is None else {"follow_redirects": option}
    response = await Redirects(always, 20)(Request("POST", "http://h/a", content=b"x", extensions=extensions), server)
    if followed:
        assert response.status_code == 200
        assert len(response.history) == 1
        return
    assert response.status_code == 302
    assert response.history == ()
    assert not server.sources[0].closed
    assert response.next_request is not None
    assert (response.next_request.method, str(response.next_request.url)) == ("GET", "http://h/b")


@pytest.mark.parametrize("location", ["myapp://callback?code=1", "http://", "http://h:x/", "a\0b"])
async def test_an_unusable_location_that_is_not_followed_is_the_callers(location: str) -> None:
    response = await Redirects(False, 20)(Request("GET", "http://h/a"), Site((302, location)))
    assert response.headers["Location"] == location
    assert response.next_request is None


@pytest.mark.parametrize("status", [200, 300, 304, 305, 306, 404])
async def test_other_answers_are_no_redirects(status: int) -> None:
    response = await follow()(Request("GET", "http://h/a"), Site((status, "/b")))
    assert response.status_code == status
    assert response.next_request is None


async def test_a_redirect_without_a_location_is_none() -> None:
    async def server(request: Request) -> Response:
        return Response(302, request=request)

    assert (await follow()(Request("GET", "http://h/a"), server)).status_code == 302


@pytest.mark.parametrize("limit", [0, 1, 3])
async def test_redirects_without_end(limit: int) -> None:
    server = Site(*[(302, "/a?secret#secret")] * 100)
    with pytest.raises(TooManyRedirects) as caught:
        await follow(limit)(Request("GET", "http://h/a"), server)
    assert str(caught.value) == f"more than {limit} redirects; the last was to http://h/a [GET http://h/a]"
    assert caught.value.request is server.requests[-1]
    assert caught.value.response is not None
    assert caught.value.response.request is server.requests[-1]
    assert len(server.requests) == limit + 1
    assert all(source.closed for source in server.sources)


async def test_as_many_redirects_as_the_limit_are_followed() -> None:
    response = await follow(3)(Request("GET", "http://h/a"), Site(*[(302, "/a")] * 3))
    assert len(response.history) == 3


async def test_an_error_knows_which_request_failed() -> None:
    server = Site((302, "http://other/"), ReadError("broken"))
    with pytest.raises(ReadError, match=r"\[GET http://other/\]"):
        await follow()(Request("GET", "http://h/a"), server)
    own = ReadError("broken")
    own.request = Request("GET", "http://third/")
    with pytest.raises(ReadError, match=r"\[GET http://third/\]"):
        await follow()(Request("GET", "http://h/a"), Site((302, "http://other/"), own))


# Where to


@pytest.mark.parametrize(
    ("location", "url"),
    [
        ("/x", "http://a/x"),
        ("x", "http://a/b/c/x"),
        ("../x", "http://a/b/x"),
        ("?y", "http://a/b/c/d;p?y"),
        ("", "http://a/b/c/d;p?q"),
        ("//other:81/x", "http://other:81/x"),
        ("https://other", "https://other/"),
        ("HTTP://OTHER/X", "http://other/X"),
        ("http://other/a/./b/../c", "http://other/a/c"),
        ("/a b", "http://a/a%20b"),
        ("/a%2Fb+c?d=%2f", "http://a/a%2Fb+c?d=%2f"),
        ("/a\\b", "http://a/a%5Cb"),
        ("/\\other/x", "http://a/%5Cother/x"),
        # The bytes of UTF-8 as a field shows them; and what is latin-1 keeps its bytes.
        ("/\xc3\xa4", "http://a/%C3%A4"),
        ("/\xe4?\xe4", "http://a/%E4?%E4"),
        ("http://b\xc3\xbccher.example/", "http://xn--bcher-kva.example/"),
        # No field of the network's can have this.
        ("/€", "http://a/%E2%82%AC"),
    ],
)
def test_where_a_location_leads(location: str, url: str) -> None:
    request = following(location)
    assert str(request.url) == url
    assert f"http://{request.url.raw_authority}{request.target}" == url.replace("https", "http")


def test_the_target_is_byte_for_byte_what_the_location_has() -> None:
    assert following("/x?").target == "/x?"


@pytest.mark.parametrize(
    ("url", "location", "fragment"),
    [
        ("http://a/#old", "/x", "old"),
        ("http://a/#old", "/x#new", "new"),
        ("http://a/#old", "/x#", ""),
        ("http://a/#old", "http://other/x", "old"),
        ("http://a/", "/x#new", "new"),
        ("http://a/#a%20b", "/x", "a%20b"),
    ],
)
def test_a_fragment_is_inherited(url: str, location: str, fragment: str) -> None:
    assert following(location, Request("GET", url)).url.raw_fragment == fragment


@pytest.mark.parametrize(
    "location",
    [
        "http://",
        "http:x",
        "https:///x",
        "http://h:99999/",
        "http://a b/",
        "http://\xe4.example/",
        "ftp://h/",
        "file:///etc/passwd",
        "javascript:alert(1)",
        "data:,x",
        "/a\0b",
        "/a\x1bb",
        "http://[::1",
    ],
)
async def test_a_location_that_cannot_be_requested(location: str) -> None:
    server = Site((302, location))
    request = Request("GET", "https://h/a")
    with pytest.raises(RemoteProtocolError, match="302 redirects to what cannot be requested: the URL") as caught:
        await follow()(request, server)
    error = caught.value
    assert error.request is request
    assert error.response is not None
    assert error.response.headers["Location"] == location
    assert isinstance(error.__cause__, InvalidURL)
    assert server.sources[0].closed


def with_locations(*locations: str) -> Response:
    request = Request("GET", "http://h/")
    return Response(302, headers=[("Location", location) for location in locations], request=request)


def test_several_locations_that_are_the_same_are_one() -> None:
    response = with_locations("/x", "/x")
    assert str(redirected(response._answered_request(), response).url) == "http://h/x"


def test_several_locations_that_differ_lead_nowhere() -> None:
    response = with_locations("/x", "/x", "/y")
    with pytest.raises(RemoteProtocolError, match="there are several Location fields, and they differ"):
        redirected(response._answered_request(), response)


# Credentials


SECRETS = {"Authorization": "a", "cookie": "b", "Proxy-Authorization": "c", "HOST": "d"}


@pytest.mark.parametrize(
    ("url", "location", "kept"),
    [
        ("http://h/", "/x", True),
        ("http://h/", "http://H:80/x", True),
        ("https://h/", "//h:443/x", True),
        ("http://h/", "http://other/x", False),
        ("http://h/", "http://sub.h/x", False),
        ("http://h/", "http://h.:80/x", False),
        ("http://h/", "https://h/x", False),
        ("https://h/", "http://h/x", False),
        ("http://h/", "http://h:81/x", False),
        ("http://h:443/", "https://h:443/x", False),
        ("http://h/", "http://h@other/x", False),
    ],
)
def test_credentials_stay_with_their_origin(url: str, location: str, kept: bool) -> None:
    extensions = {"server_name": "h", "auth": print, "cookies": {"a": "b"}, "x": 1}
    request = Request("GET", url, headers={**SECRETS, "X": "y"}, extensions=extensions)
    request.headers.add("Authorization", "again")
    second = following(location, request)
    if kept:
        assert list(second.headers.items()) == list(request.headers.items())
        assert second.extensions == extensions
    else:
        assert list(second.headers.items()) == [("X", "y")]
        assert second.extensions == {"x": 1}
    assert len(request.headers) == 6
    assert request.extensions == extensions


async def test_credentials_do_not_come_back() -> None:
    server = Site((302, "http://other/"), (302, "http://h/"))
    extensions = {"auth": print, "cookies": {"a": "b"}}
    await follow()(Request("GET", "http://user:pass@h/", headers={"Cookie": "c=d"}, extensions=extensions), server)
    kept = [("Authorization" in one.headers, "Cookie" in one.headers, *one.extensions) for one in server.requests]
    assert kept == [(True, True, "auth", "cookies"), (False, False), (False, False)]


@pytest.mark.parametrize(
    ("given", "sent", "kept"),
    [
        ([("Cookie", "a=1")], [("Cookie", "a=1")], True),
        ([("Cookie", "a=1")], [("Cookie", "a=1; b=2")], True),
        ([("Cookie", "a=1"), ("Cookie", "b=2")], [("Cookie", "a=1"), ("Cookie", "b=2")], True),
        ([("Cookie", "a=1"), ("Cookie", ""), ("Cookie", "b=2")], [("Cookie", "a=1; b=2; c=3")], True),
        ([("Authorization", "s")], [("Authorization", "s")], True),
        # What is there is another's, and only looks like it.
        ([("Cookie", "a=1")], [("Cookie", "a=10")], False),
        ([("Cookie", "a=1"), ("Cookie", "b=2")], [("Cookie", "a=1; c=3")], False),
        ([("Cookie", ""), ("Cookie", "b=2")], [("Cookie", "c=3")], False),
        ([("Cookie", ""), ("Cookie", "b=2")], [], False),
        ([("Cookie", "")], [("Cookie", "c=3")], False),
        ([("Authorization", "s")], [("Authorization", "secret")], False),
        ([("Authorization", ""), ("Authorization", "s")], [], False),
        ([("Proxy-Authorization", "s")], [], False),
        ([("Host", "h")], [("Host", "h")], False),
    ],
)
def test_only_what_a_middleware_took_along_goes_on_from_there(
    given: list[tuple[str, str]], sent: list[tuple[str, str]], kept: bool
) -> None:
    asked = Request("GET", "http://other/", headers=sent)
    response = Response(302, headers={"Location": "/x"}, request=asked)
    second = redirected(Request("GET", "http://h/", headers=given), response)
    assert str(second.url) == "http://other/x"
    assert list(second.headers.items()) == (given if kept else [])


def test_a_middlewares_own_credentials_for_elsewhere_do_not_stand_for_those_of_the_call() -> None:
    own = {"auth": print, "cookies": {"a": "b"}, "default_cookies": {"c": "d"}, "server_name": "h"}
    request = Request("GET", "http://h/", extensions=own)
    for extensions, kept in (
        (own, own),
        ({**own, "auth": repr, "cookies": {}}, {"default_cookies": {"c": "d"}, "server_name": "h"}),
        (dict.fromkeys(own), {}),
        ({}, {}),
    ):
        asked = Request("GET", "http://other/", extensions=extensions)
        second = redirected(request, Response(302, headers={"Location": "/x"}, request=asked))
        assert second.extensions == kept


@pytest.mark.parametrize("location", ["http://u:p@h/x", "http://u:p@other/x"])
def test_credentials_of_a_location_are_no_ones_to_use(location: str) -> None:
    request: Any = following(location, Request("GET", "http://h/"))
    assert "Authorization" not in request.headers
    assert request.location.userinfo is None
