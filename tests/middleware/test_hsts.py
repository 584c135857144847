"""Hosts that ask for https are reached over https alone, for as long as they asked."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiosock.errors import UsageError
from aiosock.message.request import Request
from aiosock.message.response import Response
from aiosock.middleware.chain import compose
from aiosock.middleware.hsts import HSTS
from aiosock.middleware.redirect import Redirects

YEAR = 31536000


class Clock:
    def __init__(self) -> None:
        self.now = 1e9

    def __call__(self) -> float:
        return self.now


class Site:
    """Answers with these fields, and notes what it was sent."""

    def __init__(self, *fields: str, status: int = 200, **extensions: Any) -> None:
        self.fields = [("Strict-Transport-Security", field) for field in fields]
        self.status = status
        self.extensions = extensions
        self.requests: list[Request] = []

    async def __call__(self, request: Request) -> Response:
        self.requests.append(request)
        return Response(self.status, headers=self.fields, request=request, extensions=self.extensions)

    @property
    def urls(self) -> list[str]:
        return [str(request.url) for request in self.requests]


async def taught(*fields: str, url: str = "https://example.com/", clock: Clock | None = None, **options: Any) -> HSTS:
    """Return what has seen one answer with these fields."""
    hsts = HSTS(clock=clock or Clock(), **options)
    await hsts(Request("GET", url), Site(*fields))
    return hsts


async def sent_to(hsts: HSTS, url: str) -> str:
    site = Site()
    await hsts(Request("GET", url), site)
    return site.urls[0]


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://example.com/", "https://example.com/"),
        ("http://example.com/a%2Fb?x=~+&y=http://z:80/#top", "https://example.com/a%2Fb?x=~+&y=http://z:80/#top"),
        ("http://example.com:80/a", "https://example.com/a"),
        ("http://example.com?q", "https://example.com?q"),
        ("http://example.com:8080/a", "https://example.com:8080/a"),
        ("http://example.com:443/a", "https://example.com:443/a"),
        ("http://EXAMPLE.com./a", "https://example.com./a"),
        ("https://example.com:80/a", "https://example.com:80/a"),
        ("http://other.com/", "http://other.com/"),
        ("http://www.example.com/", "http://www.example.com/"),
        ("http://com/", "http://com/"),
    ],
)
async def test_a_known_host_is_reached_over_https(url: str, expected: str) -> None:
    hsts = await taught(f"max-age={YEAR}")
    assert Request("GET", await sent_to(hsts, url)).location == Request("GET", expected).location


async def test_an_upgraded_request_keeps_its_target_and_all_else() -> None:
    hsts = await taught(f"max-age={YEAR}")
    request = Request(
        "POST", "http://u:p@example.com/a", content=b"abc", extensions={"auth": "a", "cookies": {"b": "c"}}
    )
    request = request.replace(target="*")
    site = Site()
    await hsts(request, site)
    [sent] = site.requests
    assert (sent.method, sent.target, sent.body) == ("POST", "*", request.body)
    assert (sent.headers, sent.extensions) == (request.headers, request.extensions)
    assert str(request.url) == "http://example.com/a"


async def test_hosts_below_follow_where_that_was_asked_for() -> None:
    hsts = await taught("max-age=1; includeSubDomains")
    assert await sent_to(hsts, "http://a.b.example.com/") == "https://a.b.example.com/"
    assert await sent_to(hsts, "http://notexample.com/") == "http://notexample.com/"


async def test_a_parent_counts_though_the_host_itself_asks_for_less() -> None:
    clock = Clock()
    hsts = await taught("max-age=10; includeSubDomains", clock=clock)
    await hsts(Request("GET", "https://www.example.com/"), Site("max-age=1"))
    clock.now += 5
    assert await sent_to(hsts, "http://www.example.com/") == "https://www.example.com/"


@pytest.mark.parametrize(
    "url",
    ["http://example.com/", "https://127.0.0.1/", "https://[::1]/", "https://[fe80::1%25eth0]/"],
)
async def test_nothing_is_learned_over_http_nor_from_addresses(url: str) -> None:
    assert len(await taught(f"max-age={YEAR}", url=url)) == 0


async def test_an_address_is_never_upgraded() -> None:
    assert await sent_to(await taught("max-age=1"), "http://127.0.0.1/") == "http://127.0.0.1/"


async def test_it_ends_when_its_time_is_over_and_is_renewed_by_each_answer() -> None:
    clock = Clock()
    hsts = await taught("max-age=10", clock=clock)
    clock.now += 9
    await hsts(Request("GET", "http://example.com/"), Site("max-age=10"))
    clock.now += 9
    assert hsts.is_known("example.com")
    clock.now += 1
    assert not hsts.is_known("example.com")
    assert len(hsts) == 0


async def test_zero_forgets() -> None:
    hsts = await taught("max-age=10; includeSubDomains")
    await hsts(Request("GET", "https://example.com/"), Site("max-age=0; includeSubDomains"))
    assert not hsts.is_known("example.com")


async def test_a_user_forgets() -> None:
    hsts = await taught("max-age=10")
    hsts.forget("Example.com.")
    hsts.forget("unknown")
    assert repr(hsts) == "<HSTS 0 hosts>"


async def test_a_user_asks_by_any_spelling_of_a_name() -> None:
    hsts = await taught("max-age=10; includeSubDomains", url="https://bücher.example/")
    for host in ("bücher.example", "BÜCHER.example.", "xn--bcher-kva.example", "a.XN--BCHER-KVA.example"):
        assert hsts.is_known(host)
    for host in ("example", "xbücher.example", "127.0.0.1", "::1", "[::1]", "", "a b", "bücher..example"):
        assert not hsts.is_known(host)
        hsts.forget(host)
    hsts.forget("Bücher.Example.")
    assert len(hsts) == 0


async def test_an_answer_without_the_field_leaves_all_as_it_is() -> None:
    hsts = await taught("max-age=10")
    request = Request("GET", "https://example.com/")
    hsts.learn(request, Response(200, request=request))
    await hsts(request, Site())
    assert hsts.is_known("example.com")


async def test_only_the_first_field_counts() -> None:
    assert (await taught("max-age=10", "max-age=0")).is_known("example.com")
    assert not (await taught("bad", "max-age=10")).is_known("example.com")


async def test_a_malformed_field_changes_nothing_and_is_told(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "aiosock")
    hsts = await taught("max-age=10")
    await hsts(Request("GET", "https://example.com/?secret"), Site("max-age=0; max-age=0"))
    assert hsts.is_known("example.com")
    assert caplog.messages == ["ignored a malformed Strict-Transport-Security field of example.com"]


@pytest.mark.parametrize(
    ("state", "learned"), [("hit", False), ("stale", False), ("miss", True), ("revalidated", True)]
)
async def test_what_a_cache_has_kept_is_not_taken_for_new(state: str, learned: bool) -> None:
    hsts = HSTS()
    await hsts(Request("GET", "https://example.com/"), Site("max-age=10", cache=state))
    assert hsts.is_known("example.com") == learned


async def test_the_host_is_the_one_that_answered() -> None:
    hsts = HSTS()

    async def elsewhere(request: Request) -> Response:
        return await Site("max-age=10")(Request("GET", "https://other.com/"))

    await hsts(Request("GET", "https://example.com/"), elsewhere)
    assert hsts.is_known("other.com")
    assert not hsts.is_known("example.com")


async def test_an_answer_that_does_not_say_who_gave_it_is_that_of_the_request() -> None:
    hsts = HSTS()

    async def answer(request: Request) -> Response:
        return Response(200, headers={"Strict-Transport-Security": "max-age=10"})

    await hsts(Request("GET", "https://example.com/"), answer)
    assert hsts.is_known("example.com")


async def test_a_redirect_back_to_http_is_upgraded_with_its_credentials_and_ends() -> None:
    hsts = await taught("max-age=10")
    requests: list[Request] = []

    async def server(request: Request) -> Response:
        requests.append(request)
        status = 302 if len(requests) == 1 else 200
        return Response(status, headers={"Location": "http://example.com/b"}, request=request)

    send = compose([Redirects(True, 5), hsts], server)
    await send(Request("GET", "http://u:p@example.com/a"))
    assert [str(request.url) for request in requests] == ["https://example.com/a", "https://example.com/b"]
    assert all("Authorization" in request.headers for request in requests)


async def test_a_redirect_within_the_origin_that_was_upgraded_to_takes_credentials_along() -> None:
    hsts = await taught("max-age=10")
    requests: list[Request] = []

    async def server(request: Request) -> Response:
        requests.append(request)
        status = 302 if len(requests) == 1 else 200
        return Response(status, headers={"Location": "https://example.com/b"}, request=request)

    await compose([Redirects(True, 5), hsts], server)(Request("GET", "http://u:p@example.com/a"))
    assert [str(request.url) for request in requests] == ["https://example.com/a", "https://example.com/b"]
    assert ["Authorization" in request.headers for request in requests] == [True, True]


async def test_another_origin_gets_no_credentials_upgraded_or_not() -> None:
    hsts = await taught("max-age=10; includeSubDomains")
    requests: list[Request] = []

    async def server(request: Request) -> Response:
        requests.append(request)
        status = 302 if len(requests) == 1 else 200
        return Response(status, headers={"Location": "http://b.example.com/"}, request=request)

    await compose([Redirects(True, 5), hsts], server)(Request("GET", "http://u:p@example.com/", extensions={"auth": 1}))
    assert str(requests[1].url) == "https://b.example.com/"
    assert "Authorization" not in requests[1].headers
    assert "auth" not in requests[1].extensions


async def test_those_not_used_for_longest_go_first() -> None:
    hsts = HSTS(max_hosts=2)
    for host in ("a.com", "b.com"):
        await hsts(Request("GET", f"https://{host}/"), Site("max-age=10"))
    assert hsts.is_known("a.com")
    await hsts(Request("GET", "https://c.com/"), Site("max-age=10"))
    assert [host for host in ("a.com", "b.com", "c.com") if hsts.is_known(host)] == ["a.com", "c.com"]


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 3)), max_size=40), st.integers(1, 5))
def test_there_are_never_more_than_allowed(answers: list[tuple[int, int]], most: int) -> None:
    hsts = HSTS(max_hosts=most)
    for number, age in answers:
        request = Request("GET", f"https://h{number}.com/")
        hsts.learn(request, Response(200, headers={"Strict-Transport-Security": f"max-age={age}"}))
        assert len(hsts) <= most


@pytest.mark.parametrize("limit", [0, -1, True, 1.5, None])
def test_a_limit_that_makes_no_sense(limit: Any) -> None:
    with pytest.raises(UsageError, match=f"max_hosts takes a whole number of at least 1, not {limit!r}"):
        HSTS(max_hosts=limit)


# Files


async def test_what_is_saved_comes_back_without_what_has_expired(tmp_path: Path) -> None:
    clock = Clock()
    hsts = await taught("max-age=10; includeSubDomains", clock=clock)
    await hsts(Request("GET", "https://b.com/"), Site("max-age=5"))
    await hsts(Request("GET", "https://c.com/"), Site("max-age=8"))
    clock.now += 5
    file = tmp_path / "hsts"
    await hsts.save(file)
    clock.now += 3
    other = HSTS(clock=clock)
    await other.load(file)
    assert other.is_known("a.example.com")
    assert len(other) == 1
    assert len(file.read_text().splitlines()) == 3
    assert file.stat().st_mode & 0o777 == 0o600
    assert os.listdir(tmp_path) == ["hsts"]


GOOD = {"host": "a.com", "expires": 2e9, "include_subdomains": True}


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([], "line 1: it is not JSON"),
        (["[]"], "line 1: it is not an object"),
        (['{"version": 2}'], "line 1: it is not {"),
        (['{"version": true}'], "line 1: it is not {"),
        (['{"version": 1}', "", "{"], "line 3: it is not JSON"),
        (['{"version": 1}', "\xff"], "line 2: it is not JSON in UTF-8"),
        (['{"version": 1}', "[" * 100_000], "line 2: it is not JSON"),
        (['{"version": 1}', json.dumps(GOOD), "{}"], "line 3: it takes host, expires, include_subdomains"),
        *(
            (['{"version": 1}', json.dumps(GOOD | {key: value})], f"line 2: {message}")
            for key, value, message in (
                ("host", 1, "the host"),
                ("host", "", "the host"),
                ("host", "A.com", "the host"),
                ("host", "a.com.", "the host"),
                ("host", "a..b c", "the host is no host name"),
                ("host", "a.com/b", "the host is no host name"),
                ("host", "1.2.3.4", "the host is no host name"),
                ("expires", float("inf"), "the time of expiry"),
                ("expires", float("nan"), "the time of expiry"),
                ("expires", 10**400, "the time of expiry"),
                ("expires", "x", "the time of expiry"),
                ("expires", True, "the time of expiry"),
                ("include_subdomains", 1, "include_subdomains"),
            )
        ),
    ],
)
async def test_a_file_that_cannot_be_used_is_named_with_the_line(
    lines: list[str], message: str, tmp_path: Path
) -> None:
    file = tmp_path / "known"
    file.write_bytes("\n".join(lines).encode("latin-1"))
    hsts = HSTS()
    with pytest.raises(UsageError, match=message) as caught:
        await hsts.load(file)
    assert str(file) in str(caught.value)
    assert len(hsts) == 0


async def test_a_file_that_is_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aiosock.message.file.MAX_FILE_BYTES", 3)
    (tmp_path / "big").write_bytes(b"abcd")
    with pytest.raises(UsageError, match="big' has more than 3 bytes"):
        await HSTS().load(tmp_path / "big")


async def test_a_file_that_cannot_be_reached(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot read the HSTS file '.*none': No such file"):
        await HSTS().load(tmp_path / "none")
    with pytest.raises(UsageError, match="cannot write the HSTS file '.*file': No such file"):
        await HSTS().save(tmp_path / "none" / "file")
    with pytest.raises(UsageError, match="path: takes a str or a path, not int"):
        await HSTS().load(3)  # type: ignore[arg-type]


async def test_a_save_that_fails_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "hsts"
    await HSTS().save(file)
    before = file.read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(UsageError, match="No space left"):
        await (await taught("max-age=10")).save(file)
    assert file.read_bytes() == before
    assert os.listdir(tmp_path) == ["hsts"]
