"""The cookie jar keeps and sends what the standard (RFC 6265bis, 5.7 and 5.8) says, within its limits."""

from __future__ import annotations

import logging
import os
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from aiosock.errors import UsageError
from aiosock.message.jar import CookieJar, load_public_suffixes
from aiosock.message.url import parse_url
from aiosock.protocol.cookie import Cookie, domain_match, path_match

HTTPS = "https://www.example.com/"


class Clock:
    """Time that passes when told to."""

    def __init__(self) -> None:
        self.now = 1_600_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def jar(clock: Clock) -> CookieJar:
    return CookieJar(clock=clock)


@pytest.fixture(autouse=True, scope="module")
def suffixes() -> None:
    """The list is read outside of the loop."""
    load_public_suffixes()


def store(jar: CookieJar, url: str, *values: str) -> None:
    jar.store(values, parse_url(url))


def sent(jar: CookieJar, url: str) -> str:
    return "; ".join(f"{cookie.name}={cookie.value}" for cookie in jar.header_for(parse_url(url)))


def test_the_examples_of_the_standard(jar: CookieJar) -> None:
    # Section 3.1.
    store(jar, "https://site.example/", "SID=31d4d96e407aad42")
    assert sent(jar, "https://site.example/any") == "SID=31d4d96e407aad42"
    store(jar, "https://site.example/", "SID=31d4d96e407aad42; Path=/; Domain=site.example")
    assert sent(jar, "https://www.site.example/") == "SID=31d4d96e407aad42"
    jar.clear()
    store(jar, "https://site.example/", "SID=31d4d96e407aad42; Path=/; Secure; HttpOnly", "lang=en-US; Path=/")
    assert sent(jar, "https://site.example/") == "SID=31d4d96e407aad42; lang=en-US"
    store(jar, "https://site.example/", "lang=en-US; Expires=Wed, 09 Jun 2021 10:18:14 GMT")
    assert sent(jar, "https://site.example/") == "SID=31d4d96e407aad42; lang=en-US"
    store(jar, "https://site.example/", "lang=; Expires=Sun, 06 Nov 1994 08:49:37 GMT")
    assert sent(jar, "https://site.example/") == "SID=31d4d96e407aad42"


def test_a_cookie_without_a_domain_goes_to_its_very_host(jar: CookieJar) -> None:
    store(jar, "https://example.com/", "a=1")
    assert sent(jar, "https://example.com/") == "a=1"
    assert sent(jar, "https://www.example.com/") == ""
    assert sent(jar, "https://com/") == ""
    assert sent(jar, "https://example.com./") == ""


def test_a_cookie_with_a_domain_goes_to_the_hosts_below_it(jar: CookieJar) -> None:
    store(jar, "https://a.example.com/", "a=1; Domain=example.com")
    assert sent(jar, "https://example.com/") == "a=1"
    assert sent(jar, "https://b.c.example.com/") == "a=1"
    assert sent(jar, "https://badexample.com/") == ""
    assert sent(jar, "https://example.org/") == ""


def test_a_port_makes_no_difference_to_the_host(jar: CookieJar) -> None:
    store(jar, "https://example.com:8443/", "a=1")
    assert sent(jar, "https://EXAMPLE.com/") == "a=1"


def test_a_host_and_its_domain_may_each_have_a_cookie_of_one_name(jar: CookieJar) -> None:
    store(jar, HTTPS, "a=host", "a=domain; Domain=www.example.com")
    assert sent(jar, HTTPS) == "a=host; a=domain"
    assert sent(jar, "https://x.www.example.com/") == "a=domain"


@pytest.mark.parametrize(
    ("host", "domain"),
    [
        ("www.example.com", "com"),
        ("www.example.co.uk", "co.uk"),
        ("me.github.io", "github.io"),
        ("a.b.kobe.jp", "b.kobe.jp"),
        ("a.unknown", "unknown"),
        ("www.xn--55qx5d.cn", "xn--55qx5d.cn"),
        ("www.公司.cn", "xn--55qx5d.cn"),
        ("a.localhost", "localhost"),
        # A name with a dot at its end is another name of the same suffix.
        ("a.co.uk.", "co.uk."),
        ("a.com.", "com."),
        ("a.b.ck", "b.ck"),
        ("a.uk.com", "UK.com"),
    ],
)
def test_a_public_suffix_gets_no_cookie(jar: CookieJar, host: str, domain: str) -> None:
    store(jar, f"https://{host}/", f"a=1; Domain={domain}", f"b=1; Domain=.{domain}")
    assert jar.domains == {}


def test_what_is_below_a_public_suffix_gets_its_cookies(jar: CookieJar) -> None:
    store(jar, "https://www.shop.公司.cn/", "a=1; Domain=shop.xn--55qx5d.cn")
    store(jar, "https://www.city.kobe.jp/", "a=1; Domain=city.kobe.jp")
    store(jar, "https://a.xn--99999999.example/", "a=1; Domain=xn--99999999.example")
    assert [cookie.host_only for cookie in jar] == [False, False, False]


def test_a_host_that_is_a_public_suffix_keeps_a_cookie_to_itself(jar: CookieJar) -> None:
    store(jar, "https://github.io/", "a=1; Domain=github.io")
    store(jar, "http://localhost/", "b=1; Domain=localhost")
    assert [cookie.host_only for cookie in jar] == [True, True]
    assert sent(jar, "https://me.github.io/") == ""


def test_public_suffixes_can_be_let_be(clock: Clock) -> None:
    jar = CookieJar(public_suffixes=False, clock=clock)
    store(jar, "https://a.intranet/", "a=1; Domain=intranet")
    assert sent(jar, "https://b.intranet/") == "a=1"


@pytest.mark.parametrize("host", ["1.2.3.4", "[::1]", "[fe80::1%25eth0.com]"])
def test_an_address_gets_its_own_cookies_only(jar: CookieJar, host: str) -> None:
    store(jar, f"https://{host}/", "a=1", "b=1; Domain=3.4", "c=1; Domain=com", f"d=1; Domain={host.strip('[]')}")
    names = {cookie.name for cookie in jar.header_for(parse_url(f"https://{host}/"))}
    assert names - {"d"} == {"a"}
    assert all(cookie.host_only for cookie in jar)
    assert sent(jar, "https://5.3.4.3.4/") == ""


def test_a_path_covers_what_is_below_it(jar: CookieJar) -> None:
    store(jar, "https://example.com/docs/web/page?x=/y/z", "a=1")
    assert sent(jar, "https://example.com/docs/web/") == "a=1"
    assert sent(jar, "https://example.com/docs/web?q") == "a=1"
    assert sent(jar, "https://example.com/docs/webs") == ""
    assert sent(jar, "https://example.com/docs") == ""


def test_longer_paths_come_first_and_then_what_was_created_first(jar: CookieJar, clock: Clock) -> None:
    store(jar, "https://a.example.com/x/y", "a=1; Path=/; Domain=example.com", "b=2; Path=/x", "c=3; Path=/")
    clock.now += 1
    store(jar, "https://a.example.com/x/y", "d=4; Path=/", "e=5; Path=/x/y")
    # An update keeps the time of creation; time that goes back puts nothing in front.
    clock.now -= 100
    store(jar, "https://a.example.com/x/y", "a=6; Path=/; Domain=example.com", "f=7; Path=/")
    expected = "e=5; b=2; a=6; c=3; d=4; f=7"
    assert sent(jar, "https://a.example.com/x/y") == expected
    assert sent(jar, "https://a.example.com/x/y") == expected


def test_secure_cookies_come_and_go_over_https(jar: CookieJar) -> None:
    store(jar, "http://example.com/", "a=1; Secure")
    assert jar.domains == {}
    store(jar, "https://example.com/", "a=1; Secure", "b=2")
    assert sent(jar, "http://example.com/") == "b=2"
    assert sent(jar, "https://example.com/") == "a=1; b=2"


@pytest.mark.parametrize("host", ["localhost", "app.localhost", "127.0.0.1", "127.8.9.10", "[::1]"])
def test_a_loopback_host_is_as_good_as_https(jar: CookieJar, host: str) -> None:
    store(jar, f"http://{host}/", "a=1; Secure", "__Host-b=2; Secure; Path=/")
    assert sent(jar, f"http://{host}:8080/") == "a=1; __Host-b=2"


@pytest.mark.parametrize(
    ("url", "value", "hides"),
    [
        # The note of section 5.7 on /login.
        ("http://example.com/", "a=evil; Path=/login", True),
        ("http://example.com/", "a=evil; Path=/login/en", True),
        ("http://example.com/", "a=evil; Path=/", False),
        ("http://example.com/", "a=evil; Path=/foo", False),
        ("http://example.com/", "b=evil; Path=/login", False),
        # Above and below the domain, but not beside it.
        ("http://www.example.com/", "a=evil; Path=/login", True),
        ("http://www.example.com/", "a=evil; Path=/login; Domain=example.com", True),
        ("http://example.org/", "a=evil; Path=/login", False),
        ("https://example.com/", "a=fine; Path=/login", False),
    ],
)
def test_what_came_over_http_does_not_hide_a_secure_cookie(jar: CookieJar, url: str, value: str, hides: bool) -> None:
    store(jar, "https://example.com/login", "a=1; Path=/login; Secure; Domain=example.com")
    store(jar, url, value)
    assert len(jar) == (1 if hides else 2)


def test_a_secure_cookie_below_is_not_hidden_from_above(jar: CookieJar) -> None:
    store(jar, "https://secure.example.com/", "a=1; Secure")
    store(jar, "http://example.com/", "a=evil; Domain=example.com")
    assert sent(jar, "https://secure.example.com/") == "a=1"


def test_a_secure_cookie_is_neither_replaced_nor_deleted_over_http(jar: CookieJar) -> None:
    store(jar, "https://example.com/", "a=1; Secure")
    store(jar, "http://example.com/", "a=evil", "a=; Max-Age=0")
    assert sent(jar, "https://example.com/") == "a=1"


def test_a_secure_cookie_that_has_expired_or_gone_protects_nothing(jar: CookieJar, clock: Clock) -> None:
    store(jar, "https://example.com/", "a=1; Secure; Max-Age=5", "b=1; Secure", "b=; Max-Age=0")
    clock.now += 5
    store(jar, "http://example.com/", "a=2", "b=2")
    assert sent(jar, "http://example.com/") == "a=2; b=2"


def test_a_secure_cookie_is_protected_after_another_of_its_name_went(jar: CookieJar) -> None:
    store(jar, "https://example.com/", "a=1; Secure; Path=/x", "a=2; Secure", "a=; Max-Age=0; Path=/x")
    store(jar, "http://example.com/", "a=evil")
    assert sent(jar, "https://example.com/x") == "a=2"


def test_an_expired_cookie_is_dropped_on_the_way(jar: CookieJar, clock: Clock) -> None:
    store(jar, HTTPS, "a=1; Max-Age=10", "b=2; Max-Age=20")
    clock.now += 9.9
    assert sent(jar, HTTPS) == "a=1; b=2"
    clock.now += 0.1
    assert sent(jar, HTTPS) == "b=2"
    clock.now += 10
    assert sent(jar, HTTPS) == ""
    assert jar.domains == {}


def test_expired_cookies_are_neither_counted_nor_given(jar: CookieJar, clock: Clock) -> None:
    store(jar, HTTPS, "a=1; Max-Age=10", "b=2; Max-Age=20", "c=3")
    clock.now += 10
    assert [cookie.name for cookie in jar] == ["b", "c"]
    clock.now += 10
    assert len(jar) == 1
    assert repr(jar) == "<CookieJar of 1 cookies>"


def test_a_cookie_that_had_expired_is_created_anew(jar: CookieJar, clock: Clock) -> None:
    store(jar, HTTPS, "a=1; Max-Age=10", "b=2")
    clock.now += 10
    store(jar, HTTPS, "a=3")
    assert sent(jar, HTTPS) == "b=2; a=3"


def test_no_cookie_lives_for_longer_than_400_days(jar: CookieJar, clock: Clock) -> None:
    store(jar, HTTPS, "a=1; Max-Age=99999999999", "b=1; Expires=1 Jan 9999 00:00:00")
    clock.now += 400 * 24 * 3600
    assert len(jar) == 0


def test_a_domain_beyond_its_limit_loses_what_is_not_secure_and_was_unused_for_longest(clock: Clock) -> None:
    jar = CookieJar(max_per_domain=3, clock=clock)
    store(jar, HTTPS, "s=1; Secure", "a=1; Path=/a", "b=1; Path=/b")
    assert sent(jar, f"{HTTPS}a") == "a=1; s=1"
    store(jar, HTTPS, "c=1; Path=/c")
    assert {cookie.name for cookie in jar} == {"s", "a", "c"}
    store(jar, HTTPS, "t=1; Secure", "u=1; Secure")
    assert {cookie.name for cookie in jar} == {"s", "t", "u"}
    store(jar, HTTPS, "d=1")
    assert {cookie.name for cookie in jar} == {"s", "t", "u"}
    assert sent(jar, HTTPS) == "s=1; t=1; u=1"
    store(jar, HTTPS, "s=2; Secure", "v=1; Secure")
    assert {cookie.name for cookie in jar} == {"s", "u", "v"}


def test_a_domain_beyond_its_limit_loses_what_has_expired_first(clock: Clock) -> None:
    jar = CookieJar(max_per_domain=2, clock=clock)
    store(jar, HTTPS, "a=1", "s=1; Secure; Max-Age=5")
    clock.now += 5
    store(jar, HTTPS, "b=1")
    assert [cookie.name for cookie in jar] == ["a", "b"]


def test_a_jar_beyond_its_limit_loses_what_has_expired_and_then_what_was_unused_for_longest(clock: Clock) -> None:
    jar = CookieJar(max_cookies=3, clock=clock)
    for host in "abc":
        store(jar, f"https://{host}.com/", f"{host}=1; Max-Age={10 if host == 'c' else 99}")
    assert sent(jar, "https://a.com/") == "a=1"
    store(jar, "https://d.com/", "d=1")
    assert {cookie.name for cookie in jar} == {"a", "c", "d"}
    assert sent(jar, "https://c.com/") == "c=1"
    clock.now += 10
    store(jar, "https://e.com/", "e=1")
    assert {cookie.name for cookie in jar} == {"a", "d", "e"}
    assert "b.com" not in jar.domains


def test_of_one_answer_so_many_are_looked_at(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "aiosock.message")
    jar = CookieJar(max_per_response=2, clock=clock)
    store(jar, HTTPS, "a=1", "\x00", "b=secret")
    assert [cookie.name for cookie in jar] == ["a"]
    assert "all but 2 cookies of one answer of www.example.com" in caplog.text


@pytest.mark.parametrize("name", ["max_cookies", "max_per_domain", "max_per_response"])
@pytest.mark.parametrize("value", [0, -1, True, 1.5, None])
def test_a_limit_that_makes_no_sense_is_refused(name: str, value: Any) -> None:
    with pytest.raises(UsageError, match=f"{name} takes a whole number of at least 1, not {value}"):
        CookieJar(**{name: value})


@pytest.mark.parametrize(("name", "value"), [("clock", 5), ("clock", None), ("public_suffixes", "no")])
def test_an_argument_of_the_wrong_kind_is_named(name: str, value: Any) -> None:
    with pytest.raises(UsageError, match=f"^CookieJar: {name} "):
        CookieJar(**{name: value})


@pytest.mark.parametrize("value", ["a", ("a", "1"), None])
def test_what_is_no_cookie_is_not_set(jar: CookieJar, value: Any) -> None:
    with pytest.raises(UsageError, match=f"^set_cookie: takes a Cookie, not {type(value).__name__}$"):
        jar.set_cookie(value)
    assert len(jar) == 0


@pytest.mark.parametrize("name", ["name", "domain", "path"])
def test_what_is_cleared_is_named_by_text(jar: CookieJar, name: str) -> None:
    store(jar, HTTPS, "a=1")
    with pytest.raises(UsageError, match=f"^cookies: the {name} is a str, not int$"):
        jar.clear(**{name: 5})
    assert len(jar) == 1


def test_a_flood_from_one_domain_leaves_others_alone(clock: Clock) -> None:
    jar = CookieJar(clock=clock)
    store(jar, "https://victim.com/", "sid=1; Secure")
    for start in range(0, 5000, 100):
        store(jar, "https://evil.com/", *(f"n{number}=1" for number in range(start, start + 100)))
    assert len(jar) == 181
    assert sent(jar, "https://victim.com/") == "sid=1"


def test_giant_fields_are_taken_in_one_go(jar: CookieJar) -> None:
    start = time.process_time()
    store(jar, HTTPS, "a=1" + ";" * 200_000, "x" * 200_000, "b=1; Expires=" + "1 " * 100_000, "=" * 200_000)
    assert time.process_time() - start < 2
    assert [cookie.name for cookie in jar] == ["a", "b"]


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("sid=secret\x00", "ignored a cookie of www.example.com: it is empty, too long, or has a control character"),
        ("sid=secret; Domain=com", "ignored the cookie 'sid' of www.example.com: its Domain is a public suffix"),
        ("sid=secret; Secure", "ignored the cookie 'sid' of www.example.com: it is Secure, and came over http"),
        ("old=secret", "ignored the cookie 'old' of www.example.com: it came over http, and would hide a Secure"),
        (f"{'n' * 999}=secret; Domain=com", f"ignored the cookie '{'n' * 59} of"),
    ],
    ids=range(5),
)
def test_what_is_ignored_is_said_without_its_value(
    jar: CookieJar, caplog: pytest.LogCaptureFixture, value: str, said: str
) -> None:
    store(jar, HTTPS, "old=1; Secure")
    with caplog.at_level(logging.DEBUG, "aiosock.message"):
        store(jar, "http://www.example.com/", value)
    assert said in caplog.text
    assert "secret" not in caplog.text
    assert len(jar) == 1


def test_a_cookie_can_be_set_as_it_is(jar: CookieJar, clock: Clock) -> None:
    jar.set_cookie(Cookie("a", "1", domain="com", host_only=False, secure=True, path="/x"))
    assert sent(jar, "https://www.example.com/x") == "a=1"
    assert next(iter(jar)).created == clock.now
    jar.set_cookie(Cookie("a", "2", domain="com", host_only=False, path="/x"))
    assert sent(jar, "http://www.example.com/x") == "a=2"
    jar.set_cookie(Cookie("a", "", domain="com", host_only=False, path="/x", expires=clock.now))
    assert jar.domains == {}


def test_a_cookie_without_a_domain_is_unbound(jar: CookieJar) -> None:
    jar.set_cookie(Cookie("a", "1"))
    assert jar.unbound == {"a": "1"}
    assert jar.domains == {}
    assert list(jar) == []


def test_cookies_are_cleared_by_name_domain_and_path(jar: CookieJar) -> None:
    store(jar, HTTPS, "a=1", "b=2; Path=/x", "c=3; Domain=example.com")
    jar.unbound["a"] = "4"
    jar.clear(path="/x")
    assert [cookie.name for cookie in jar] == ["a", "c"]
    jar.clear(domain=".Example.com")
    assert [cookie.name for cookie in jar] == ["a"]
    jar.clear(domain="")
    assert (jar.unbound, len(jar)) == ({}, 1)
    jar.unbound["b"] = "5"
    jar.clear(name="a")
    assert (jar.unbound, jar.domains) == ({"b": "5"}, {})
    jar.clear()
    assert jar.unbound == {}


def test_the_list_of_suffixes_is_waited_for_once_and_where_it_is_needed() -> None:
    program = """if True:
        import sys
        from aiosock.message.jar import CookieJar, load_public_suffixes
        from aiosock.message.url import parse_url
        jar, host = CookieJar(), parse_url("https://www.example.com/")
        jar.store(["a=1; Path=/", "b=1; Domain=other.com"], host)
        jar.store(["c=1; Domain=localhost"], parse_url("http://localhost/"))
        print("publicsuffixlist" in sys.modules, jar.awaits_public_suffixes(["a=1; Path=/"], host))
        print(jar.awaits_public_suffixes(["a=1", "b=1; domain=example.com"], host))
        print(CookieJar(public_suffixes=False).awaits_public_suffixes(["b=1; domain=example.com"], host))
        for url in ("http://localhost/", "http://1.2.3.4/"):
            print(jar.awaits_public_suffixes(["b=1; domain=example.com"], parse_url(url)))
        jar.store(["b=1; domain=example.com"], host)
        print("publicsuffixlist" in sys.modules, jar.awaits_public_suffixes(["b=1; domain=example.com"], host))
    """
    output = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout
    assert output.split() == ["False", "False", "True", "False", "False", "False", "True", "False"]


async def test_what_is_saved_is_loaded_into_another_jar(jar: CookieJar, clock: Clock, tmp_path: Path) -> None:
    store(jar, HTTPS, "s=1", "a=1; Max-Age=60; Secure; HttpOnly; SameSite=Lax; Domain=example.com")
    await jar.save(tmp_path / "jar")
    other = CookieJar(clock=clock)
    store(other, HTTPS, "a=2; Domain=example.com", "b=2")
    await other.load(str(tmp_path / "jar"))
    assert sent(other, HTTPS) == "a=1; b=2"
    clock.now += 60
    store(other, HTTPS, "a=3; Domain=example.com")
    await other.load(tmp_path / "jar")
    assert sent(other, HTTPS) == "b=2; a=3"


async def test_cookies_of_the_session_are_saved_when_asked_for(
    jar: CookieJar, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "aiosock.message")
    store(jar, HTTPS, "s=1", "a=2; Max-Age=60")
    for format in ("json", "netscape"):
        await jar.save(tmp_path / "jar", format=format)  # type: ignore[arg-type]  # a loop
        assert "left 1 cookies of the session out of the file" in caplog.text
        caplog.clear()
        other = CookieJar(clock=jar._clock)
        await other.load(tmp_path / "jar")
        assert sent(other, HTTPS) == "a=2"
        await jar.save(tmp_path / "jar", format=format, session=True)  # type: ignore[arg-type]  # a loop
        await other.load(tmp_path / "jar")
        assert {cookie.name for cookie in other} == {"a", "s"}
    assert "left" not in caplog.text
    assert stat.S_IMODE(os.stat(tmp_path / "jar").st_mode) == 0o600


async def test_a_file_that_cannot_be_used_leaves_the_jar_as_it_is(jar: CookieJar, tmp_path: Path) -> None:
    (tmp_path / "jar").write_text(".example.com\tTRUE\t/\tFALSE\t0\ta\t1\nnonsense\n")
    with pytest.raises(UsageError, match=r"jar' cannot be used: line 2: a cookie has 7 parts"):
        await jar.load(tmp_path / "jar")
    assert jar.domains == {}
    with pytest.raises(UsageError, match=r"cannot write the cookie file '.*/missing/jar': No such file"):
        await jar.save(tmp_path / "missing" / "jar")


async def test_limits_hold_for_what_is_loaded(jar: CookieJar, clock: Clock, tmp_path: Path) -> None:
    for host in "abcde":
        store(jar, f"https://{host}.com/", "a=1; Max-Age=9")
    await jar.save(tmp_path / "jar")
    other = CookieJar(max_cookies=2, clock=clock)
    await other.load(tmp_path / "jar")
    assert [cookie.domain for cookie in other] == ["d.com", "e.com"]


HOSTS = [
    "example.com",
    "www.example.com",
    "a.www.example.com",
    "other.org",
    "localhost",
    "127.0.0.1",
    "co.uk",
    "x.co.uk",
]
_urls = st.builds(
    lambda scheme, host, path: f"{scheme}://{host}{path}",
    st.sampled_from(["http", "https"]),
    st.sampled_from(HOSTS),
    st.sampled_from(["/", "/a", "/a/b", "/ab?c=/d/e"]),
)
_values = st.builds(
    lambda name, value, attributes: "; ".join([f"{name}={value}", *attributes]),
    st.sampled_from(["a", "b", "__Host-a", "__Secure-b", ""]),
    st.integers(0, 9),
    st.lists(
        st.sampled_from(
            ["Secure", "HttpOnly", "Path=/", "Path=/a", "Max-Age=0", "Max-Age=5", "Max-Age=50", "SameSite=None"]
            + [f"Domain={host}" for host in ["example.com", "www.example.com", "com", "org", "co.uk", "127.0.0.1"]]
        ),
        max_size=4,
    ),
)


class JarLaws(RuleBasedStateMachine):
    """Whatever servers say and whenever it is asked, the limits hold and what is sent matches."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.jar = CookieJar(max_cookies=6, max_per_domain=3, max_per_response=4, clock=self.clock)

    @rule(url=_urls, values=st.lists(_values, max_size=6))
    def store(self, url: str, values: list[str]) -> None:
        store(self.jar, url, *values)

    @rule(seconds=st.sampled_from([1, 5, 50]))
    def wait(self, seconds: int) -> None:
        self.clock.now += seconds

    @rule(name=st.sampled_from([None, "a"]), domain=st.sampled_from([None, "example.com"]))
    def clear(self, name: str | None, domain: str | None) -> None:
        self.jar.clear(name=name, domain=domain)

    @rule(url=_urls)
    def send(self, url: str) -> None:
        location = parse_url(url)
        cookies = list(self.jar)
        found = self.jar.header_for(location)
        path = location.target.partition("?")[0]
        secure = location.scheme == "https" or location.host in ("localhost", "127.0.0.1")
        expected = [
            cookie
            for cookie in cookies
            if (location.host == cookie.domain if cookie.host_only else domain_match(location.host, cookie.domain))
            and path_match(path, cookie.path)
            and (secure or not cookie.secure)
        ]
        assert found == sorted(expected, key=lambda cookie: (-len(cookie.path), cookie.created))

    @invariant()
    def limits_hold(self) -> None:
        assert all(1 <= len(kept) <= 3 for kept in self.jar.domains.values())
        assert sum(map(len, self.jar.domains.values())) <= 6

    @invariant()
    def indexes_agree(self) -> None:
        by_domain = {key: cookie for kept in self.jar.domains.values() for key, cookie in kept.items()}
        assert by_domain == dict(self.jar._by_use)
        secure = {key for keys in self.jar._secure_by_name.values() for key in keys}
        assert secure == {key for key, cookie in by_domain.items() if cookie.secure}
        assert len({cookie.created for cookie in by_domain.values()}) == len(by_domain)

    @invariant()
    def no_suffix_has_a_cookie_for_all(self) -> None:
        assert not any(cookie.domain in ("com", "org", "co.uk") and not cookie.host_only for cookie in self.jar)


TestJarLaws = JarLaws.TestCase
TestJarLaws.settings = settings(stateful_step_count=20)


class Counted(dict[str, Any]):
    """Counts look-ups."""

    looked_up = 0

    def get(self, key: str, default: Any = None) -> Any:
        self.looked_up += 1
        return super().get(key, default)

    def __iter__(self) -> Iterator[str]:
        raise AssertionError


def test_a_look_up_does_not_ask_for_foreign_domains(clock: Clock) -> None:
    jar = CookieJar(max_cookies=10_000, clock=clock)
    for number in range(5000):
        jar.set_cookie(Cookie("a", "1", domain=f"host{number}.com"))
    jar.domains = Counted(jar.domains)
    assert sent(jar, "https://a.b.host77.com/") == ""
    assert sent(jar, "https://host77.com/") == "a=1"
    assert jar.domains.looked_up == 4 + 2


@given(st.text())
def test_no_domain_makes_the_list_fail(domain: str) -> None:
    assert CookieJar()._is_public_suffix(f"xn--{domain}.com") in (True, False)
