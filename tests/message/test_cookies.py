"""Cookies as a mapping: by name, with a word when a name is not enough; and what a user may give for cookies."""

from __future__ import annotations

import http.cookiejar
from typing import Any

import pytest

from aiosock.errors import UsageError
from aiosock.message.cookies import Cookies, as_jar, cookies_for, cookies_set
from aiosock.message.jar import CookieJar
from aiosock.message.url import parse_url
from aiosock.protocol.cookie import Cookie

HERE = parse_url("https://www.example.com/a")


@pytest.fixture
def cookies() -> Cookies:
    """One without a domain, one with, and two of one name."""
    cookies = Cookies()
    cookies["free"] = "0"
    cookies.set("bound", "1", domain="www.example.com")
    cookies.set("twice", "2", domain="www.example.com")
    cookies.set("twice", "3", domain=".example.com", path="/a")
    return cookies


def test_it_is_a_mapping_of_names_to_values(cookies: Cookies) -> None:
    assert list(cookies) == ["free", "bound", "twice"]
    assert len(cookies) == 3
    assert cookies["free"] == "0"
    assert cookies["bound"] == "1"
    assert "bound" in cookies
    assert "twice" in cookies
    assert "other" not in cookies
    assert cookies.get("other") is None
    assert cookies.get("other", "default") == "default"
    with pytest.raises(KeyError, match="other"):
        cookies["other"]


def test_it_is_equal_to_a_mapping_of_the_same() -> None:
    cookies = Cookies()
    assert cookies == {}
    assert not cookies
    cookies.update({"a": "1"}, b="2")
    assert cookies == {"a": "1", "b": "2"}
    assert cookies.pop("a") == "1"
    assert dict(cookies) == {"b": "2"}


def test_an_item_that_is_set_is_bound_to_no_host(cookies: Cookies) -> None:
    cookies["a"] = "1"
    assert cookies.jar.unbound == {"free": "0", "a": "1"}


def test_a_name_that_several_have_takes_a_domain_or_a_path(cookies: Cookies) -> None:
    with pytest.raises(
        UsageError,
        match=r"several cookies have the name 'twice'; say which with domain or path: www.example.com/, example.com/a",
    ):
        cookies["twice"]
    with pytest.raises(UsageError, match="several"):
        cookies.get("twice")
    assert cookies.get("twice", domain="www.example.com") == "2"
    assert cookies.get("twice", domain="example.com") == "3"
    assert cookies.get("twice", path="/a") == "3"
    assert cookies.get("twice", domain="example.com", path="/") is None
    cookies["bound"] = "4"
    with pytest.raises(UsageError, match=r"\(no domain\)/, www.example.com/"):
        cookies["bound"]
    assert cookies.get("bound", domain="") == "4"


def test_a_cookie_is_deleted_by_name_and_more(cookies: Cookies) -> None:
    cookies.delete("twice", domain="example.com")
    assert cookies["twice"] == "2"
    cookies.delete("twice", path="/a")
    assert cookies["twice"] == "2"
    cookies.delete("twice")
    cookies.delete("twice")
    assert "twice" not in cookies
    cookies["bound"] = "4"
    del cookies["bound"]
    assert list(cookies) == ["free"]
    with pytest.raises(KeyError, match="bound"):
        del cookies["bound"]


def test_all_are_cleared_or_those_of_a_domain_or_a_path(cookies: Cookies) -> None:
    cookies.clear(path="/a")
    assert cookies["twice"] == "2"
    cookies.clear(domain="www.example.com")
    assert cookies == {"free": "0"}
    cookies.clear()
    assert cookies == {}


def test_a_cookie_takes_what_a_server_could_say() -> None:
    cookies = Cookies()
    cookies.set(
        "a", "1", domain=".Bücher.example", path="/x", expires=4e9, secure=True, http_only=True, same_site="Lax"
    )
    (cookie,) = cookies.jar
    assert cookie == Cookie(
        "a",
        "1",
        domain="xn--bcher-kva.example",
        path="/x",
        expires=4e9,
        secure=True,
        http_only=True,
        same_site="Lax",
        host_only=False,
        created=cookie.created,
    )


@pytest.mark.parametrize(("domain", "kept"), [("::1", "::1"), ("[::1]", "::1"), ("1.2.3.4", "1.2.3.4"), ("A.b", "a.b")])
def test_without_a_dot_a_domain_is_one_host(domain: str, kept: str) -> None:
    cookies = Cookies()
    cookies.set("a", "1", domain=domain)
    (cookie,) = cookies.jar
    assert (cookie.domain, cookie.host_only) == (kept, True)


@pytest.mark.parametrize(
    "domain",
    [
        ".",
        "a b",
        "a/b",
        "a:80",
        "[::1]:8",
        "u@a",
        "a?b",
        "a#b",
        "..a",
        "a\r\n",
        "[::1",
        "a" * 300,
        ".1.2.3.4",
        "\ud800",
    ],
    ids=range(14),
)
def test_a_domain_that_is_no_host_is_refused(domain: str) -> None:
    cookies = Cookies()
    with pytest.raises(UsageError):
        cookies.set("a", "secret", domain=domain)
    assert cookies == {}


@pytest.mark.parametrize("domain", [5, None, b"a"])
def test_a_domain_that_is_no_text_is_refused(cookies: Cookies, domain: Any) -> None:
    message = f"^cookies: the domain is a str, not {type(domain).__name__}$"
    with pytest.raises(UsageError, match=message):
        cookies.set("a", "secret", domain=domain)
    if domain is not None:
        with pytest.raises(UsageError, match=message):
            cookies.clear(domain=domain)
        with pytest.raises(UsageError, match=message):
            cookies.get("twice", domain=domain)


@pytest.mark.parametrize("value", [{"a": "1"}, [("a", "1")], "a=1", 0])
def test_a_view_is_on_a_jar_and_on_nothing_else(value: Any) -> None:
    with pytest.raises(UsageError, match=f"^Cookies: is a view on a CookieJar, .* not {type(value).__name__}$"):
        Cookies(value)


@pytest.mark.parametrize("name", ["", "a b", "a=b", "a;b", "a\r\nX: y", "ä", 1, None], ids=range(8))
def test_a_name_that_is_no_token_is_refused(name: Any) -> None:
    with pytest.raises(UsageError, match="^cookies: the name of a cookie is a token") as caught:
        Cookies()[name] = "secret"
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "value",
    ["secret\r\nX: y", "secret\n", "secret\x00", "secret;b", " secret", "secret✓", "secret" * 999, b"secret", None, 1],
    ids=range(10),
)
def test_a_value_that_may_not_be_sent_is_refused_without_being_shown(value: Any) -> None:
    with pytest.raises(UsageError, match="^cookies: .*'a'") as caught:
        Cookies()["a"] = value
    assert "secret" not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("value", ["", 'a "b", c\\d=e', "\xe9", "a\tb"])
def test_a_value_may_have_what_browsers_tolerate(value: str) -> None:
    cookies = Cookies()
    cookies["a"] = value
    assert cookies["a"] == value


@pytest.mark.parametrize("more", [{"path": "/x"}, {"expires": 1.0}, {"secure": True}, {"http_only": True}])
def test_without_a_domain_a_cookie_is_a_name_and_a_value(more: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="'a' has no domain"):
        Cookies().set("a", "1", **more)


def test_the_repr_shows_names_alone(cookies: Cookies) -> None:
    cookies["a"] = "secret"
    assert repr(cookies) == "<Cookies free, a, bound, twice>"
    assert repr(Cookies()) == "<Cookies empty>"


def test_a_jar_is_used_as_it_is(cookies: Cookies) -> None:
    assert as_jar(cookies) is cookies.jar
    assert as_jar(cookies.jar) is cookies.jar
    empty = CookieJar()
    assert as_jar(empty) is empty
    assert Cookies(empty).jar is empty


def test_anything_else_makes_a_jar() -> None:
    assert as_jar(None).unbound == {}
    assert as_jar({"a": "1"}).unbound == {"a": "1"}
    assert as_jar([("a", "1"), ("b", "2"), ("a", "3")]).unbound == {"a": "3", "b": "2"}


@pytest.mark.parametrize("value", ["a=1", b"a=1", 1, [1], [("a",)], {"a": 1}, {"a": "x\n"}, {"": "x"}], ids=range(8))
def test_what_are_no_cookies_is_refused(value: Any) -> None:
    with pytest.raises(UsageError, match="^cookies: "):
        as_jar(value)
    with pytest.raises(UsageError, match="^cookies: "):
        cookies_for(value)


def test_a_call_takes_pairs_or_a_jar_that_knows_its_hosts(cookies: Cookies) -> None:
    assert cookies_for(cookies) is cookies_for(cookies.jar) is cookies.jar
    assert cookies_for({"a": "1"}) == cookies_for([("a", "1")]) == cookies_for([["a", "1"]]) == {"a": "1"}
    assert cookies_for(None) == {}


def test_pythons_own_jar_is_refused_though_it_can_be_iterated() -> None:
    with pytest.raises(UsageError, match="^cookies: takes a mapping, pairs, a CookieJar or Cookies, not CookieJar"):
        as_jar(http.cookiejar.CookieJar())


def test_an_answer_shows_what_it_set() -> None:
    cookies = cookies_set(
        [
            "a=1",
            "b=2; Domain=com",
            "c=3; Domain=other.org",
            "d=4; Max-Age=0",
            "e=5",
            "e=; Max-Age=0",
            "",
            "f=6; Path=/x",
        ],
        HERE,
    )
    assert cookies == {"a": "1", "b": "2", "f": "6"}
    assert cookies_set([], HERE) == {}
