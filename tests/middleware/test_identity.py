"""Whose a request is, as far as it can be seen, and that what is told of it shows no credential."""

from __future__ import annotations

import gc
import os
from pathlib import Path
from typing import Any

import pytest

from aiosock.message.jar import CookieJar
from aiosock.message.request import Request
from aiosock.message.response import Response
from aiosock.message.url import parse_url
from aiosock.middleware.auth import authenticate
from aiosock.middleware.chain import Send, compose
from aiosock.middleware.cookies import CookieKeeper
from aiosock.middleware.identity import Identities, Owner, as_sent, end_of, is_authorized_below, is_one_user
from aiosock.middleware.schemes import BasicAuth, BearerAuth, DigestAuth, NetRCAuth

URL = "http://h/a"


class Network:
    async def send(self, request: Request) -> Response:
        return Response(200, request=request)


def get(**extensions: Any) -> Request:
    return Request("GET", URL, extensions=extensions)


def chain(network: Network, *middlewares: Any) -> Send:
    return compose([*middlewares, authenticate, CookieKeeper()], network.send)


def keeper(*cookies: str) -> CookieKeeper:
    jar = CookieJar()
    jar.store(list(cookies), parse_url(URL))
    return CookieKeeper(jar)


def test_where_nothing_tells_who_it_is_it_is_nobody() -> None:
    assert Identities(None).owner(get(), chain(Network())) == Owner("", "")
    assert Identities("me").owner(get(auth=BasicAuth("u", "p")), chain(Network())) == Owner(
        "identity me", "identity me"
    )


def test_whatever_tells_who_it_is_sets_it_apart_from_all_others() -> None:
    identities, send, guard = Identities(None), chain(Network()), object()
    requests = [
        get(),
        *(get(auth=auth) for auth in (BasicAuth("u", "p"), BasicAuth("u", "q"), BearerAuth("t"))),
        *(get(auth=DigestAuth("u", "p")) for _ in range(2)),
        get(cookies={"a": "b"}),
        get(cookies={"a": "c"}),
        get(default_cookies={"a": "d"}),
        get(guard=guard),
        get(proxy=None),
        get(proxy="http://p"),
        get(server_name="s"),
        Request("GET", URL, headers={"Authorization": "a"}),
        Request("GET", URL, headers={"Cookie": "a=e"}),
    ]
    owners = [identities.owner(request, send) for request in requests]
    assert len(set(owners)) == len(owners)
    assert [identities.owner(request, send) for request in requests] == owners
    assert all(owner.own == owner.public for owner in owners)
    assert not any(Identities(None).owner(request, send) in owners for request in requests[1:])
    # A cookie is the same whoever adds it.
    assert identities.owner(get(cookies={"a": "e"}), send) == owners[-1]


def test_a_jar_sets_apart_what_is_not_for_everybody() -> None:
    identities, network = Identities(None), Network()
    owners = [
        identities.owner(get(), compose([authenticate, one], network.send)) for one in (keeper("a=b"), keeper("a=c"))
    ]
    assert [owner.public for owner in owners] == ["", ""]
    assert len({owner.own for owner in owners} | {""}) == 3
    # Of another origin's cookies nothing is sent.
    other = keeper()
    other.open_jar().store(["a=b"], parse_url("http://i/"))
    assert identities.owner(get(), compose([authenticate, other], network.send)) == Owner("", "")


def test_a_client_that_is_gone_leaves_its_place_to_nobody() -> None:
    identities, first = Identities(None), Network()
    assert identities.owner(get(), chain(first)) == Owner("", "")
    del first
    gc.collect()
    second = Network()
    owner = identities.owner(get(), chain(second))
    assert owner.own == owner.public != ""
    assert identities.owner(get(), chain(second, lambda request, next: next(request))) == owner
    assert identities.owner(get(), chain(Network())) != owner


def test_a_fork_is_somebody_else_as_it_counts_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    identities, send, auth = Identities(None), chain(Network()), DigestAuth("u", "p")
    owner = identities.owner(get(auth=auth), send)
    monkeypatch.setattr(os, "getpid", lambda: -1)
    in_child = identities.owner(get(auth=auth), send)
    assert in_child != owner
    assert identities.owner(get(auth=auth), send) == in_child
    assert identities.owner(get(), send) == Owner("", "")


def test_what_is_kept_in_place_of_credentials_does_not_show_them() -> None:
    identities = Identities(None)
    headers = Request("GET", URL, headers={"Authorization": "Basic secret", "Cookie": "a=secret", "X": "1"}).headers
    masked = identities.mask(headers)
    assert list(masked) == ["Authorization", "Cookie", "X"]
    assert "secret" not in repr(masked)
    assert headers["Cookie"] == "a=secret"
    assert identities.mask(headers) == masked != Identities(None).mask(headers)
    assert identities.mask(get().headers) == {}


@pytest.mark.parametrize(
    "auth", [None, BasicAuth("u", "p"), BearerAuth("t"), DigestAuth("u", "p"), NetRCAuth("/none")], ids=repr
)
def test_an_auth_of_ours_is_one_user(auth: Any) -> None:
    assert is_one_user(auth)


def test_somebodys_own_may_be_many() -> None:
    class Changing(BasicAuth):
        pass

    assert not is_one_user(Changing("u", "p"))
    assert not is_one_user(lambda request: request)


@pytest.mark.parametrize("make", [BasicAuth, DigestAuth])
def test_what_something_below_signs_for_somebody_else_is_seen(make: Any) -> None:
    auth = make("u", "p")
    [signed] = [auth(get(auth=auth))] if make is BasicAuth else [next(auth(get(auth=auth)))]
    for sent, seen in (
        (signed, False),
        (get(auth=auth), False),
        (BearerAuth("t")(get(auth=BearerAuth("t"))), True),
        (BearerAuth("t")(get()), True),
    ):
        assert is_authorized_below(get(auth=auth), Response(200, request=sent)) is seen


async def test_what_stands_in_for_a_netrc_file_that_has_nothing_to_say_is_seen(tmp_path: Path) -> None:
    (tmp_path / "netrc").write_text("machine i login u password p")
    auth = NetRCAuth(tmp_path / "netrc")
    send = chain(Network())
    for url in ("http://h/", "http://i/"):
        request = Request("GET", url, extensions={"auth": auth})
        assert not is_authorized_below(request, await send(request))
    signed = Request("GET", URL, headers={"Authorization": "Bearer t"}, extensions={"auth": auth})
    assert is_authorized_below(get(auth=auth), await send(signed))
    assert not is_authorized_below(signed, await send(signed))


def test_a_chain_shows_what_it_leads_to_and_which_cookies_are_added() -> None:
    network = Network()
    send = compose([authenticate, keeper("a=b")], network.send)
    assert end_of(send) == network.send
    assert as_sent(get(cookies={"c": "d"}), send).headers["Cookie"] == "c=d; a=b"
    assert end_of(network.send) is None
    assert as_sent(get(cookies={"c": "d"}), network.send).headers["Cookie"] == "c=d"
