"""The grammar of cookies: what the standard (RFC 6265bis) keeps and what it has ignored, rule by rule."""

from __future__ import annotations

import string
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiosock.errors import UsageError
from aiosock.protocol.cookie import (
    MAX_AGE_SECONDS,
    Cookie,
    SetCookie,
    accept_cookie,
    default_path,
    domain_match,
    encode_cookies,
    is_address,
    is_loopback,
    parse_date,
    parse_set_cookie,
    path_match,
)

NOW = 1_600_000_000.0
YEAR = 365 * 24 * 60 * 60


def parsed(text: str) -> SetCookie:
    received = parse_set_cookie(text, NOW)
    assert received is not None
    return received


def accepted(
    text: str, host: str = "www.example.com", path: str = "/a/b", *, trusted: bool = True, suffixes: str = "com"
) -> Cookie | str:
    return accept_cookie(
        parsed(text), host, path, NOW, trusted=trusted, is_public_suffix=lambda domain: domain in suffixes.split()
    )


def kept(text: str, host: str = "www.example.com", path: str = "/a/b", **more: Any) -> Cookie:
    cookie = accepted(text, host, path, **more)
    assert isinstance(cookie, Cookie)
    return cookie


@pytest.mark.parametrize(
    ("text", "name", "value"),
    [
        # The examples of section 3.1.
        ("SID=31d4d96e407aad42", "SID", "31d4d96e407aad42"),
        ("SID=31d4d96e407aad42; Path=/; Secure; HttpOnly", "SID", "31d4d96e407aad42"),
        ("lang=en-US; Path=/; Domain=site.example", "lang", "en-US"),
        ("a=", "a", ""),
        ("a", "", "a"),
        ("=a", "", "a"),
        ("=a=b", "", "a=b"),
        ("a=b=c", "a", "b=c"),
        (" \ta\t = \tb c\t ;", "a", "b c"),
        ("a b=c\td", "a b", "c\td"),
        ('a="b, c"', "a", '"b, c"'),
        ("a=\xe9", "a", "\xe9"),
        ("a=\xa0", "a", "\xa0"),
        (f"{'n' * 4000}={'v' * 96}", "n" * 4000, "v" * 96),
    ],
    ids=range(14),
)
def test_the_pair_comes_before_the_first_semicolon(text: str, name: str, value: str) -> None:
    received = parsed(text)
    assert (received.name, received.value) == (name, value)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "=",
        " = ; Path=/",
        ";",
        "; a=b",
        "a=b\x00",
        "a=b\x1f",
        "a\x0a=b",
        "a=b; Path=/\x0d",
        "a=b\x7f",
        "a=✓",
        f"{'n' * 4000}={'v' * 97}",
        "v" * 4097,
    ],
    ids=range(13),
)
def test_what_the_standard_has_ignored_is_none(text: str) -> None:
    assert parse_set_cookie(text, NOW) is None


def test_attributes_are_read_whatever_their_case_and_spacing() -> None:
    assert parsed(
        "a=b;EXPIRES=Wed, 09 Jun 2021 10:18:14 GMT;; domain = .Example.COM ;PATH= /x y ;secure=no;"
        " HttpOnly ;samesite=LAX;Partitioned;Unknown=1;=;="
    ) == SetCookie("a", "b", "example.com", "/x y", 1623233894.0, True, True, "Lax", True)


def test_of_each_attribute_the_last_counts() -> None:
    received = parsed("a=b; Domain=x; Domain=y; Path=/x; Path=/y; SameSite=Lax; SameSite=Strict; Max-Age=1; Max-Age=2")
    assert received == SetCookie("a", "b", "y", "/y", NOW + 2, False, False, "Strict", False)
    received = parsed("a=b; Domain=x; Domain=; Path=/x; Path=y; SameSite=Lax; SameSite=odd")
    assert received == SetCookie("a", "b", "", "", None, False, False, None, False)


@pytest.mark.parametrize("same_site", ["Strict", "Lax", "None"])
def test_same_site_is_known_by_its_three_values(same_site: str) -> None:
    assert parsed(f"a=b; SameSite={same_site.upper()}").same_site == same_site


def test_an_attribute_that_is_too_long_is_left_out() -> None:
    assert parsed(f"a=b; Path=/{'x' * 1023}").path == f"/{'x' * 1023}"
    assert parsed(f"a=b; Path=/{'x' * 1024}").path is None
    assert parsed(f"a=b; Domain=y; Domain={'x' * 1025}").domain == "y"


@pytest.mark.parametrize(
    ("text", "expires"),
    [
        ("Max-Age=10", NOW + 10),
        ("Max-Age=0", 0),
        ("Max-Age=-1", 0),
        ("Max-Age=+1", None),
        ("Max-Age=", None),
        ("Max-Age=-", None),
        ("Max-Age=1.5", None),
        ("Max-Age=1a", None),
        ("Max-Age=\xb2", None),
        ("Max-Age=5; Max-Age=x", NOW + 5),
        (f"Max-Age={400 * 24 * 3600 + 1}", NOW + 400 * 24 * 3600),
        (f"Max-Age={'9' * 1024}", NOW + 400 * 24 * 3600),
        ("Expires=Wed, 09 Jun 2021 10:18:14 GMT", 1623233894),
        ("Expires=Sun, 06 Nov 1994 08:49:37 GMT", 784111777),
        ("Expires=Fri, 31 Dec 9999 23:59:59 GMT", NOW + 400 * 24 * 3600),
        ("Expires=Wed, 09 Jun 2021 10:18:14 GMT; Expires=never", 1623233894),
        ("Expires=never", None),
        # Max-Age counts wherever it stands.
        ("Max-Age=10; Expires=Sun, 06 Nov 1994 08:49:37 GMT", NOW + 10),
        ("Expires=Sun, 06 Nov 1994 08:49:37 GMT; Max-Age=10", NOW + 10),
        ("Expires=Wed, 09 Jun 2021 10:18:14 GMT; Max-Age=x", 1623233894),
    ],
    ids=range(20),
)
def test_a_cookie_expires_after_max_age_or_else_at_expires_within_400_days(text: str, expires: float | None) -> None:
    assert parsed(f"a=b; {text}").expires == expires


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        # The three dates of HTTP (RFC 9110, 5.6.7).
        ("Sun, 06 Nov 1994 08:49:37 GMT", 784111777),
        ("Sunday, 06-Nov-94 08:49:37 GMT", 784111777),
        ("Sun Nov  6 08:49:37 1994", 784111777),
        # Any order, any delimiter, and what is more.
        ("1994 8:49:37 nov 6", 784111777),
        # 94 is taken for the day.
        ("94 8:49:37 nov 6", None),
        ("6 1994 NOVEMBER 08:49:37", 784111777),
        ("8:49:37 6 novembre 94", 784111777),
        ("6th/Nov/1994ad!8:49:37.123", 784111777),
        ("\t 06 nov 1994 08:49:37 06 dec 1995 01:01:01", 784111777),
        ("08:49:37pm 6 Nov 1994 +0200", 784111777),
        # Two digits of a year.
        ("1 Jan 70 00:00:00", 0),
        ("1 Jan 99 00:00:00", 915148800),
        ("1 Jan 69 00:00:00", 3124224000),
        ("1 Jan 00 00:00:00", 946684800),
        # The bounds.
        ("1 Jan 1601 00:00:00", -11644473600),
        ("31 Dec 1600 23:59:59", None),
        ("1 Jan 100 00:00:00", None),
        ("29 Feb 2000 23:59:59", 951868799),
        ("29 Feb 2001 00:00:00", None),
        ("31 Apr 2020 00:00:00", None),
        ("0 Jan 2020 00:00:00", None),
        ("32 Jan 2020 00:00:00", None),
        ("1 Jan 2020 24:00:00", None),
        ("1 Jan 2020 00:60:00", None),
        ("1 Jan 2020 00:00:60", None),
        # Something is missing, or is not in the grammar.
        ("", None),
        ("Jan 2020 00:00:00", None),
        ("1 2020 00:00:00", None),
        ("1 Jan 00:00:00", None),
        ("1 Jan 2020", None),
        ("1 Jan 2020 00:00", None),
        ("1 Jan 2020 000:00:00", None),
        ("1 Jan 20200 00:00:00", None),
        ("001 Jan 2020 00:00:00", None),
        ("1 J 2020 00:00:00", None),
        ("\u0661 Jan 2020 00:00:00", None),
    ],
    ids=range(36),
)
def test_a_date_is_read_leniently(text: str, seconds: float | None) -> None:
    assert parse_date(text) == seconds


@pytest.mark.parametrize(
    ("host", "domain", "matches"),
    [
        ("example.com", "example.com", True),
        ("www.example.com", "example.com", True),
        ("a.b.example.com", "example.com", True),
        ("example.com", "www.example.com", False),
        ("badexample.com", "example.com", False),
        ("example.com.evil", "example.com", False),
        ("example.com.", "example.com", False),
        ("1.2.3.4", "1.2.3.4", True),
        ("1.2.3.4", "3.4", False),
        ("1.2.3.4", "4", False),
        ("1.2.0x3.0x4", "0x3.0x4", False),
        ("::1", "::1", True),
    ],
)
def test_a_domain_covers_itself_and_the_hosts_below(host: str, domain: str, matches: bool) -> None:
    assert domain_match(host, domain) is matches


@pytest.mark.parametrize(
    ("path", "cookie_path", "matches"),
    [
        ("/", "/", True),
        ("/docs", "/docs", True),
        ("/docs/", "/docs", True),
        ("/docs/web", "/docs", True),
        ("/docs/web", "/docs/", True),
        ("/docs", "/docs/", False),
        ("/docsets", "/docs", False),
        ("/", "/docs", False),
        ("/DOCS", "/docs", False),
        ("/%64ocs", "/docs", False),
        ("/x", "/", True),
    ],
)
def test_a_path_covers_itself_and_the_paths_below(path: str, cookie_path: str, matches: bool) -> None:
    assert path_match(path, cookie_path) is matches


@pytest.mark.parametrize(
    ("path", "default"),
    [("/", "/"), ("/a", "/"), ("/a/", "/a"), ("/a/b", "/a"), ("/a/b/", "/a/b"), ("", "/"), ("a/b", "/"), ("*", "/")],
)
def test_the_default_path_is_the_requests_up_to_its_last_slash(path: str, default: str) -> None:
    assert default_path(path) == default


@pytest.mark.parametrize("host", ["1.2.3.4", "127.1", "1.2.3.4.", "0x7f.1", "a.0x", "::", "fe80::%e", "2130706433"])
def test_an_address_is_told_from_a_name(host: str) -> None:
    assert is_address(host)


@pytest.mark.parametrize("host", ["example.com", "1.example", "1a", "0xg", "localhost", "4.3.2.1.in-addr.arpa"])
def test_a_name_is_told_from_an_address(host: str) -> None:
    assert not is_address(host)


@pytest.mark.parametrize("host", ["localhost", "localhost.", "a.b.localhost", "127.0.0.1", "127.255.255.254", "::1"])
def test_this_machine_is_a_loopback_host(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize(
    "host",
    ["notlocalhost", "localhost.com", "127.evil.com", "127", "127.0.0.1.1", "128.0.0.1", "127.0.0.x", "::2"],
)
def test_another_machine_is_no_loopback_host(host: str) -> None:
    assert not is_loopback(host)


def test_without_attributes_a_cookie_is_for_its_host_alone_and_the_folder_of_the_path() -> None:
    assert kept("a=b") == Cookie("a", "b", domain="www.example.com", path="/a", host_only=True, created=NOW)


def test_attributes_are_kept() -> None:
    assert kept(
        "a=b; Domain=Example.com; Path=/x; Secure; HttpOnly; SameSite=None; Partitioned; Max-Age=1000000000"
    ) == Cookie(
        "a",
        "b",
        domain="example.com",
        path="/x",
        expires=NOW + MAX_AGE_SECONDS,
        secure=True,
        http_only=True,
        same_site="None",
        host_only=False,
        partitioned=True,
        created=NOW,
    )


@pytest.mark.parametrize(
    "domain",
    [
        *(
            "other.com",
            "ample.com",
            "a.www.example.com",
            "www.example.com.",
            "..example.com",
            "example.com/",
            "\xe9.com",
        ),
        *("www..example.com", ".  example.com", "example.com .", '"example.com"', "example.com:443", "a; Domain=b.c"),
    ],
)
def test_a_foreign_domain_is_refused(domain: str) -> None:
    assert accepted(f"a=b; Domain={domain}") == "its Domain does not cover the host"


@pytest.mark.parametrize("domain", ["", "."])
def test_an_empty_domain_is_none(domain: str) -> None:
    assert kept(f"a=b; Domain={domain}").host_only


def test_a_public_suffix_is_refused() -> None:
    assert accepted("a=b; Domain=com") == "its Domain is a public suffix"
    assert accepted("a=b; Domain=.com") == "its Domain is a public suffix"


def test_a_host_that_is_a_public_suffix_may_set_a_cookie_for_itself_alone() -> None:
    cookie = kept("a=b; Domain=github.io", "github.io", suffixes="github.io")
    assert (cookie.domain, cookie.host_only) == ("github.io", True)


def test_an_address_may_name_itself_and_nothing_else() -> None:
    cookie = kept("a=b; Domain=1.2.3.4", "1.2.3.4", suffixes="4 1.2.3.4")
    assert (cookie.domain, cookie.host_only) == ("1.2.3.4", True)
    assert accepted("a=b; Domain=3.4", "1.2.3.4") == "its Domain does not cover the host"


def test_a_default_path_may_have_a_semicolon() -> None:
    assert kept("a=b", path="/a;v=1/b").path == "/a;v=1"


def test_secure_is_not_settable_over_http() -> None:
    assert accepted("a=b; Secure", trusted=False) == "it is Secure, and came over http"
    assert kept("a=b", trusted=False).secure is False


def test_same_site_none_and_partitioned_ask_for_secure() -> None:
    assert accepted("a=b; SameSite=None") == "it is SameSite=None and not Secure"
    assert accepted("a=b; Partitioned") == "it is Partitioned and not Secure"


@pytest.mark.parametrize(
    "text",
    [
        # The examples of section 4.1.3.
        "__Secure-SID=12345; Domain=example.com",
        "__Host-SID=12345",
        "__Host-SID=12345; Secure",
        "__Host-SID=12345; Domain=example.com",
        "__Host-SID=12345; Domain=example.com; Path=/",
        "__Host-SID=12345; Secure; Domain=example.com; Path=/",
        "__host-sid=12345; Secure; Path=/a",
        "__SECURE-sid=12345",
        "__Http-SID=12345; Secure",
        "__Http-SID=12345; HttpOnly",
        "__Host-Http-SID=12345; Secure; Path=/",
        "__Host-Http-SID=12345; Secure; HttpOnly; Path=/; Domain=example.com",
        # Without a name they would look like it.
        "=__Secure-SID=12345; Secure; HttpOnly; Path=/",
        "__host-SID; Secure; HttpOnly; Path=/",
        "=__Http-SID=12345; Secure; HttpOnly; Path=/",
    ],
)
def test_a_prefix_is_refused_without_what_it_promises(text: str) -> None:
    assert accepted(text, "www.example.com") == "it is not what the prefix of its name promises"


@pytest.mark.parametrize(
    "text",
    [
        "__Secure-SID=12345; Secure; Domain=example.com",
        "__Host-SID=12345; Secure; Path=/",
        "__Http-SID=12345; Secure; HttpOnly; Domain=example.com",
        "__Host-Http-SID=12345; Secure; HttpOnly; Path=/",
        "_Host-SID=12345",
    ],
)
def test_a_prefix_that_keeps_its_promise_is_kept(text: str) -> None:
    assert isinstance(accepted(text), Cookie)


def test_the_host_prefix_asks_for_a_path_to_be_named() -> None:
    assert isinstance(accepted("__Host-a=b; Secure", path="/"), str)
    assert kept("__Host-a=b; Secure; Path=/", path="/x/y").path == "/"


def test_cookies_are_written_one_after_the_other() -> None:
    # The example of section 3.1.
    assert encode_cookies([("SID", "31d4d96e407aad42"), ("lang", "en-US")]) == "SID=31d4d96e407aad42; lang=en-US"
    assert encode_cookies([("", "bare"), ("empty", "")]) == "bare; empty="
    assert encode_cookies([]) == ""


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"name": 1}, "Cookie with a name that is no str: name is a str, not int"),
        ({"value": b""}, "value is a str, not bytes"),
        ({"domain": None}, "domain is a str, not NoneType"),
        ({"path": None}, "path is a str"),
        ({"name": "a\r\nb"}, "name has a control character"),
        ({"value": "secret\n"}, "value has a control character"),
        ({"value": "secret\u0100"}, "value has a control character, or one that is no octet"),
        ({"value": "secret;"}, "value has a semicolon"),
        ({"value": " secret"}, "value begins or ends with white space"),
        ({"name": "a;b"}, "name has an equals sign or a semicolon"),
        ({"name": "a=b"}, "name has an equals sign or a semicolon"),
        ({"name": "", "value": ""}, "neither a name nor a value"),
        ({"value": "secret" * 1000}, "more than 4096"),
        ({"path": "x"}, "path does not begin with '/'"),
        ({"domain": ".example.com"}, "domain is not a host"),
        ({"domain": "Example.com"}, "domain is not a host"),
        ({"domain": "[::1]"}, "domain is not a host"),
        ({"domain": "1.2.3.4", "host_only": False}, "an IP address has no hosts below it"),
        ({"same_site": "lax"}, "same_site is"),
        ({"secure": 1}, "secure is a bool, not int"),
        ({"expires": "soon"}, "expires is a number"),
        ({"expires": True}, "expires is a number"),
        ({"expires": float("nan")}, "expires is a number"),
        ({"expires": 10**400}, "expires is a number"),
        ({"created": float("inf")}, "created is a number"),
    ],
    ids=range(25),
)
def test_a_cookie_that_cannot_be_is_refused_without_its_value(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        Cookie(**{"name": "a", "value": "secret", **fields})
    assert "secret" not in str(caught.value)


def test_the_repr_leaves_out_the_value() -> None:
    cookie = Cookie("sid", "secret", domain="fe80::1%Eth0")
    assert "secret" not in repr(cookie)
    assert "sid" in repr(cookie)


_octets = st.text(st.characters(max_codepoint=0xFF))
_attributes = st.lists(
    st.tuples(
        st.sampled_from(["Expires", "Max-Age", "Domain", "Path", "Secure", "HttpOnly", "SameSite", "Partitioned", ""]),
        st.sampled_from(["", "=", "=0", "=example.com", "=.com", "=/", "=/x;", "=None", "=9 May 2030 1:2:3"]) | _octets,
    ).map("".join)
).map("; ".join)
_name = st.text(string.ascii_letters + "_-") | st.sampled_from(["__Host-a", "__Secure-a", "__http-a"]) | _octets
_fields = st.tuples(_name, _octets, _attributes).map(lambda parts: f"{parts[0]}={parts[1]}; {parts[2]}")


@given(st.text() | _octets | _fields, st.booleans())
def test_no_field_makes_it_fail_and_what_is_kept_is_a_cookie(text: str, trusted: bool) -> None:
    received = parse_set_cookie(text, NOW)
    if received is None:
        return
    cookie = accept_cookie(
        received, "www.example.com", "/a;b/c", NOW, trusted=trusted, is_public_suffix=lambda domain: domain == "com"
    )
    if isinstance(cookie, Cookie):
        assert domain_match("www.example.com", cookie.domain)
        assert cookie.domain != "com"
        assert trusted or not cookie.secure
        assert cookie.expires is None or cookie.expires <= NOW + MAX_AGE_SECONDS
        # Written as it is sent, it is read as the same.
        again = parse_set_cookie(encode_cookies([(cookie.name, cookie.value)]), NOW)
        assert again is not None
        assert cookie.name == "" or (again.name, again.value) == (cookie.name, cookie.value)


@given(st.text())
def test_no_text_makes_the_date_fail(text: str) -> None:
    assert isinstance(parse_date(text), float | None)


@given(st.datetimes(min_value=datetime(1601, 1, 1)), st.sampled_from([" ", "-", "/", ", "]))
def test_a_date_that_was_written_is_read_back(date: datetime, delimiter: str) -> None:
    date = date.replace(microsecond=0)
    month = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"][date.month - 1]
    text = delimiter.join([str(date.day), month, f"{date.year:04}", f"{date:%H:%M:%S}", "GMT"])
    assert parse_date(text) == date.replace(tzinfo=UTC).timestamp()
