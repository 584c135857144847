"""A valid URL goes on the wire byte for byte; only what may not stand in one is encoded; others are refused."""

from __future__ import annotations

import string
from enum import Enum
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qsl

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from yarl import URL

from aiosock.errors import InvalidURL, UsageError
from aiosock.message import url as urls
from aiosock.message.url import (
    append_params,
    encode_params,
    join_base,
    parse_url,
    quote,
    remove_dot_segments,
    resolve_reference,
)

UNRESERVED = string.ascii_letters + string.digits + "-._~"
SUB_DELIMS = "!$&'()*+,;="
PERCENT_ENCODED = st.builds("%{:02X}".format, st.integers(0, 255)) | st.builds("%{:02x}".format, st.integers(0, 255))


def valid(extra: str) -> st.SearchStrategy[str]:
    """Text of characters that may stand in a part of a URL, percent-encoded ones among them."""
    return st.lists(st.sampled_from(UNRESERVED + SUB_DELIMS + extra) | PERCENT_ENCODED, max_size=20).map("".join)


# Byte for byte


@pytest.mark.parametrize(
    "target",
    [
        "/",
        "/a%2Fb",
        "/a%2fb",
        "/a+b~c",
        "/?",
        "/a?",
        "/a?b",
        "/a?b=c+d&e=%20&f=a/b?c",
        "/a?b&&c=&=d",
        "/../a/./b/..//",
        "//a//b",
        "/a;b=c,d/(e)'f'!$*",
        "/a:b@c",
        "/[x]?y[]=1",
    ],
)
def test_a_valid_target_is_not_touched(target: str) -> None:
    assert parse_url(f"https://example.com{target}").target == target


@given(path=valid(":@/"), query=st.none() | valid(":@/?"), fragment=st.none() | valid(":@/?"))
def test_whatever_is_valid_stays_as_it_is(path: str, query: str | None, fragment: str | None) -> None:
    target = f"/{path}" if query is None else f"/{path}?{query}"
    location = parse_url(f"http://example.com{target}" + ("" if fragment is None else f"#{fragment}"))
    assert location.target == target
    assert location.url.raw_path == f"/{path}"
    assert location.url.raw_query_string == (query or "")
    assert location.url.raw_fragment == (fragment or "")


@given(st.text())
@example("%")
@example("%%41")
@example("% 41")
@example("%e4%e")
@example("ä€😀")
def test_quoting_is_idempotent_and_leaves_only_what_may_stand_in_a_url(text: str) -> None:
    if any("\ud800" <= character <= "\udfff" for character in text):
        return
    quoted = quote(text)
    assert quote(quoted) == quoted
    assert set(quoted) <= set(UNRESERVED + SUB_DELIMS + ":@/?%[]")


@pytest.mark.parametrize(
    ("given_target", "sent"),
    [
        ("/a b", "/a%20b"),
        ("/ä?ö=€", "/%C3%A4?%C3%B6=%E2%82%AC"),
        ("/100%", "/100%25"),
        ("/%zz%4", "/%25zz%254"),
        ("/%41%ä", "/%41%25%C3%A4"),
        ('/"<>\\^`{|}', "/%22%3C%3E%5C%5E%60%7B%7C%7D"),
        ("/\x80", "/%C2%80"),
        ("", "/"),
        ("?a=b", "/?a=b"),
        ("?", "/?"),
        ("#f", "/"),
        ("/a#b#c ", "/a"),
    ],
)
def test_only_what_may_not_stand_in_a_url_is_encoded(given_target: str, sent: str) -> None:
    assert parse_url(f"http://h{given_target}").target == sent


def test_a_fragment_stays_in_the_url_and_off_the_wire() -> None:
    location = parse_url("http://h/a?b#c#d e")
    assert str(location.url) == "http://h/a?b#c%23d%20e"
    assert location.target == "/a?b"


# Scheme, host, port, user information


def test_the_parts_of_a_url() -> None:
    location = parse_url("HTTPS://User:Pass@EXAMPLE.com:8443/Path?Query#Fragment")
    assert location == (
        URL("https://example.com:8443/Path?Query#Fragment"),
        "https",
        "example.com",
        8443,
        "example.com:8443",
        "/Path?Query",
        "User:Pass",
    )


@pytest.mark.parametrize(
    ("text", "host", "port", "authority"),
    [
        ("http://h", "h", 80, "h"),
        ("https://h", "h", 443, "h"),
        ("http://h:80", "h", 80, "h"),
        ("http://h:", "h", 80, "h"),
        ("http://h:0080", "h", 80, "h"),
        ("http://h:443", "h", 443, "h:443"),
        ("https://h:80", "h", 80, "h:80"),
        ("http://h:65535", "h", 65535, "h:65535"),
        ("http://EXAMPLE.Com.", "example.com.", 80, "example.com."),
        ("http://my_host-1", "my_host-1", 80, "my_host-1"),
        ("http://127.0.0.1:8000", "127.0.0.1", 8000, "127.0.0.1:8000"),
        ("http://bücher.example", "xn--bcher-kva.example", 80, "xn--bcher-kva.example"),
        ("http://BÜCHER.example", "xn--bcher-kva.example", 80, "xn--bcher-kva.example"),
        ("http://日本語。jp", "xn--wgv71a119e.jp", 80, "xn--wgv71a119e.jp"),
        ("http://faß.de", "xn--fa-hia.de", 80, "xn--fa-hia.de"),
        ("http://[::1]", "::1", 80, "[::1]"),
        ("http://[2001:DB8::1]:8080", "2001:db8::1", 8080, "[2001:db8::1]:8080"),
        ("http://[::ffff:192.0.2.1]:", "::ffff:192.0.2.1", 80, "[::ffff:192.0.2.1]"),
        ("http://[fe80::1%25eth0]:81", "fe80::1%eth0", 81, "[fe80::1]:81"),
        ("http://[fe80::1%eth0]", "fe80::1%eth0", 80, "[fe80::1]"),
        ("http://[FE80::1%25Eth0]", "fe80::1%Eth0", 80, "[fe80::1]"),
        ("http://[fe80::1%25]", "fe80::1%25", 80, "[fe80::1]"),
        ("http://[fe80::1%252]", "fe80::1%2", 80, "[fe80::1]"),
    ],
)
def test_host_port_and_authority(text: str, host: str, port: int, authority: str) -> None:
    location = parse_url(text)
    assert (location.host, location.port, location.authority) == (host, port, authority)


def test_a_zone_stays_in_the_url_and_nowhere_else() -> None:
    location = parse_url("http://[fe80::1%2525x]:81/a")
    assert str(location.url) == "http://[fe80::1%2525x]:81/a"
    assert parse_url(location.url) == location
    assert location.host == "fe80::1%25x"
    assert "25x" not in location.authority + location.target


@pytest.mark.parametrize(
    ("text", "userinfo"),
    [
        ("http://h/", None),
        ("http://@h/", ""),
        ("http://u@h/", "u"),
        ("http://u:@h/", "u:"),
        ("http://:p@h/", ":p"),
        ("http://u:p@q:r@h/", "u:p@q:r"),
        ("http://u%40:p%2F@h/", "u%40:p%2F"),
        ("http://h/@x", None),
    ],
)
def test_user_information_is_taken_out(text: str, userinfo: str | None) -> None:
    location = parse_url(text)
    assert location.userinfo == userinfo
    assert location.host == location.authority == "h"
    assert str(location.url) == "http://h" + location.target


@given(path=valid(":@/ä %"), query=st.none() | valid(":@/?ä %").filter(bool))
def test_a_parsed_url_parses_to_the_same(path: str, query: str | None) -> None:
    location = parse_url(f"http://User@bücher.example:81/{path}" + ("" if query is None else f"?{query}"))
    assert parse_url(str(location.url)) == location._replace(userinfo=None)
    assert parse_url(location.url) == location._replace(userinfo=None)


# What cannot be requested


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no scheme"),
        ("/path", "no scheme.*'/path'"),
        ("example.com/path", "no scheme.*'example.com/path'"),
        ("//example.com", "no scheme"),
        ("example.com:80/", "scheme is not http or https: 'example.com'"),
        ("ftp://h/", "'ftp'"),
        (" http://h/", "' http'"),
        ("file:///etc/passwd", "'file'"),
        ("javascript:alert(1)", "'javascript'"),
        ("http:", "no host"),
        ("http:/path", "no host: http:'/path'"),
        ("http:///path", "no host: http:'/path'"),
        ("http://?query", "no host"),
        ("http://:80/", "no host"),
        ("http://user@/", "no host"),
        ("http://h:0/", "port is not a number from 1 to 65535: '0'"),
        ("http://h:65536/", "'65536'"),
        ("http://h:123456/", "'123456'"),
        ("http://h:-1/", "'-1'"),
        ("http://h:8o/", "'8o'"),
        ("http://h:٣/", "'٣'"),
        ("http://::1/", "port"),
        ("http://a b/", "not a host name: 'a b'"),
        ("http://a..b/", "not a host name"),
        ("http://.a/", "not a host name"),
        ("http://./", "not a host name"),
        ("http://a%20b/", "not a host name"),
        ("http://a\\b/", "not a host name"),
        ("http://a\\@b/", "a backslash in front of '@'"),
        ("http://u:p\\w@b/", "a backslash in front of '@'"),
        ("http://a,b/", "not a host name"),
        ("http://" + "a" * 64, "not a host name"),
        ("http://" + "a." * 128, "not a host name"),
        ("http://a ä/", "cannot be IDNA-encoded: 'a ä'"),
        ("http://ä\x80/", "cannot be IDNA-encoded"),
        ("http://xn--ä/", "cannot be IDNA-encoded"),
        ("http://[::1/", "brackets"),
        ("http://[::1]8/", "brackets"),
        ("http://[::1]a:8/", "brackets"),
        ("http://[1.2.3.4]/", "not an IPv6 address"),
        ("http://[v1.x]/", "not an IPv6 address"),
        ("http://[]/", "not an IPv6 address"),
        ("http://[::g]/", "not an IPv6 address"),
        ("http://[%eth0]/", "not an IPv6 address"),
        ("http://[fe80::1%]/", "zone is not a name"),
        ("http://[fe80::1%a b]/", "zone is not a name"),
    ],
)
def test_what_cannot_be_requested_is_refused_and_shown(text: str, message: str) -> None:
    with pytest.raises(InvalidURL, match=message):
        parse_url(text)


@pytest.mark.parametrize("template", ["http://h{}/", "http://h/a{}", "http://h/?a{}", "http://u{}@h/", "{}http://h"])
def test_control_characters_and_lone_surrogates_are_refused_anywhere(template: str) -> None:
    for character in ("\r", "\n", "\0", "\t", "\x1b", "\x7f", "\ud800", "\udfff"):
        text = template.format(character)
        with pytest.raises(InvalidURL) as caught:
            parse_url(text)
        assert f"{character!r} at position {text.index(character)}" in str(caught.value)


@pytest.mark.parametrize("text", [None, b"http://h/", 3, ["http://h"]])
def test_a_url_is_a_str_or_a_yarl_url(text: Any) -> None:
    with pytest.raises(InvalidURL, match=type(text).__name__):
        parse_url(text)


@pytest.mark.parametrize(
    "text",
    [
        "secret@h/?secret",
        "u:secret@h/?secret#secret",
        "secret:secret@h/",
        "//u:secret@h?secret",
        "h/#secret",
        "http://u:secret@/?secret",
        "http:/?secret",
        "http://u:secret@h:99999/?secret",
        "http://u:secret@a b/?secret#secret",
        "http://u:secret@[::g]/?secret",
        "http://u:secret@ä b/?secret",
        # A password that is not percent-encoded ends the authority early.
        "http://u:secret/x@h/",
        "http://u:secret?x@h/",
        "http://u:secret#x@h/",
        "http://secret[/x@h/",
        "http://u:secret\\x@h/",
        "http://h/?secret\n",
        "http://u:secret\r@h/",
        "http://h/?secret\udc80",
    ],
)
def test_no_message_has_a_credential_or_a_query(text: str) -> None:
    with pytest.raises(InvalidURL) as caught:
        parse_url(text)
    assert "secret" not in str(caught.value)


@given(st.text())
def test_a_url_is_parsed_or_refused(text: str) -> None:
    try:
        location = parse_url(f"http://{text}")
    except InvalidURL:
        return
    assert location.target.isascii()
    assert not set(location.target) & set(" \r\n\t#")
    assert 1 <= location.port <= 65535


# References


BASE = "http://a/b/c/d;p?q"


@pytest.mark.parametrize(
    ("reference", "expected"),
    [
        # RFC 3986, 5.4.1
        ("g:h", "g:h"),
        ("g", "http://a/b/c/g"),
        ("./g", "http://a/b/c/g"),
        ("g/", "http://a/b/c/g/"),
        ("/g", "http://a/g"),
        ("//g", "http://g"),
        ("?y", "http://a/b/c/d;p?y"),
        ("g?y", "http://a/b/c/g?y"),
        ("#s", "http://a/b/c/d;p?q#s"),
        ("g#s", "http://a/b/c/g#s"),
        ("g?y#s", "http://a/b/c/g?y#s"),
        (";x", "http://a/b/c/;x"),
        ("g;x", "http://a/b/c/g;x"),
        ("g;x?y#s", "http://a/b/c/g;x?y#s"),
        ("", "http://a/b/c/d;p?q"),
        (".", "http://a/b/c/"),
        ("./", "http://a/b/c/"),
        ("..", "http://a/b/"),
        ("../", "http://a/b/"),
        ("../g", "http://a/b/g"),
        ("../..", "http://a/"),
        ("../../", "http://a/"),
        ("../../g", "http://a/g"),
        # 5.4.2
        ("../../../g", "http://a/g"),
        ("../../../../g", "http://a/g"),
        ("/./g", "http://a/g"),
        ("/../g", "http://a/g"),
        ("g.", "http://a/b/c/g."),
        (".g", "http://a/b/c/.g"),
        ("g..", "http://a/b/c/g.."),
        ("..g", "http://a/b/c/..g"),
        ("./../g", "http://a/b/g"),
        ("./g/.", "http://a/b/c/g/"),
        ("g/./h", "http://a/b/c/g/h"),
        ("g/../h", "http://a/b/c/h"),
        ("g;x=1/./y", "http://a/b/c/g;x=1/y"),
        ("g;x=1/../y", "http://a/b/c/y"),
        ("g?y/./x", "http://a/b/c/g?y/./x"),
        ("g?y/../x", "http://a/b/c/g?y/../x"),
        ("g#s/./x", "http://a/b/c/g#s/./x"),
        ("g#s/../x", "http://a/b/c/g#s/../x"),
        ("http:g", "http:g"),
        # And some more.
        ("//g/../h?y#s", "http://g/h?y#s"),
        ("https://g/./h", "https://g/h"),
        ("/..//h", "http://a//h"),
        ("?", "http://a/b/c/d;p?"),
    ],
)
def test_references_are_resolved_as_the_rfc_has_it(reference: str, expected: str) -> None:
    assert resolve_reference(BASE, reference) == expected


def test_a_base_without_a_path_gets_one() -> None:
    assert resolve_reference("http://a", "g") == "http://a/g"
    assert resolve_reference("http://a?q", "#s") == "http://a?q#s"


def test_a_base_may_be_a_reference_itself() -> None:
    assert resolve_reference("//a/b", "c") == "//a/c"
    assert resolve_reference("/a/b", "../c?d") == "/c?d"


def dots_removed_by_the_book(path: str) -> str:
    """RFC 3986, 5.2.4, letter by letter."""
    output = ""
    while path:
        if path.startswith(("../", "./")):
            path = path.partition("/")[2]
        elif path.startswith("/./"):
            path = path[2:]
        elif path == "/.":
            path = "/"
        elif path.startswith("/../"):
            path, output = path[3:], output.rpartition("/")[0]
        elif path == "/..":
            path, output = "/", output.rpartition("/")[0]
        elif path in (".", ".."):
            path = ""
        else:
            end = path.find("/", 1)
            end = len(path) if end < 0 else end
            output, path = output + path[:end], path[end:]
    return output


@given(st.lists(st.sampled_from(["/", "/", ".", "..", "a", "b.", "..."]), max_size=12).map("".join))
@example("mid/content=5/../6")
@example("a/../../g")
@example("a/..")
def test_dot_segments_are_removed_as_the_rfc_does_it(path: str) -> None:
    assert remove_dot_segments(path) == dots_removed_by_the_book(path)


# base_url


@pytest.mark.parametrize(
    ("base", "url", "expected"),
    [
        ("http://h", "", "http://h"),
        ("http://h", "a", "http://h/a"),
        ("http://h", "/a", "http://h/a"),
        ("http://h/v1", "/a", "http://h/v1/a"),
        ("http://h/v1/", "/a", "http://h/v1/a"),
        ("http://h/v1/", "a", "http://h/v1/a"),
        ("http://h/v1", "a/b/?c=d#e", "http://h/v1/a/b/?c=d#e"),
        ("http://h/v1", "/", "http://h/v1/"),
        ("http://h/v1", "", "http://h/v1"),
        ("http://h/v1/", "", "http://h/v1/"),
        ("http://h/v1?k=v", "", "http://h/v1?k=v"),
        ("http://h/v1", "?a=b", "http://h/v1?a=b"),
        ("http://h/v1/", "#f", "http://h/v1/#f"),
        ("http://h/v1", "../a", "http://h/v1/../a"),
        ("http://h/v1", "a%2Fb?", "http://h/v1/a%2Fb?"),
        ("http://h/v1", "a/b:c", "http://h/v1/a/b:c"),
        ("http://h/v1", "https://other/a", "https://other/a"),
        ("https://h/v1", "//other/a", "https://other/a"),
        ("http://u:p@h:81/v1", "/a", "http://u:p@h:81/v1/a"),
    ],
)
def test_base_url_is_a_prefix(base: str, url: str, expected: str) -> None:
    assert join_base(base, url) == expected


# params


class Order(str, Enum):  # noqa: UP042  # as it is written where StrEnum is not known yet
    UP = "up"


@pytest.mark.parametrize(
    ("params", "text"),
    [
        ({}, ""),
        ([], ""),
        ("", ""),
        ("a=b&c", "a=b&c"),
        ("a#b", "a%23b"),
        ({"a": "b c", "d": "&=+/ä"}, "a=b+c&d=%26%3D%2B%2F%C3%A4"),
        ({"a": 1, "b": 1.5, "c": True, "d": False, "e": None, "f": ""}, "a=1&b=1.5&c=true&d=false&f="),
        ({"a": ["x", "y", None], "b": (1, 2), "c": []}, "a=x&a=y&b=1&b=2"),
        ([("a", "1"), ("b", "2"), ("a", "3")], "a=1&b=2&a=3"),
        ({"a b": "c"}, "a+b=c"),
        ({Order.UP: Order.UP, "b": [Order.UP], "c": HTTPStatus.OK}, "up=up&b=up&c=200"),
        (Order.UP, "up"),
    ],
)
def test_params_become_the_text_of_a_query(params: Any, text: str) -> None:
    assert encode_params(params) == text


@pytest.mark.parametrize(
    "params",
    [
        b"a=b",
        3,
        None,
        ["a=b"],
        [("a", "b", "c")],
        ["ab"],
        {"a": b"x"},
        {"a": {"b": "c"}},
        {"a": object()},
        {"a": "\ud800"},
    ],
)
def test_params_of_another_kind_are_refused(params: Any) -> None:
    with pytest.raises(UsageError, match="^params:"):
        encode_params(params)


@pytest.mark.parametrize(
    ("url", "params", "expected"),
    [
        ("http://h", {"a": "b"}, "http://h?a=b"),
        ("http://h/", {"a": "b"}, "http://h/?a=b"),
        ("http://h/?", {"a": "b"}, "http://h/?a=b"),
        ("http://h/?x=%2f&y", {"a": "b"}, "http://h/?x=%2f&y&a=b"),
        ("http://h/?x&", {"a": "b"}, "http://h/?x&a=b"),
        ("http://h/#f", {"a": "b"}, "http://h/?a=b#f"),
        ("http://h/?x#f?g", {"a": "b"}, "http://h/?x&a=b#f?g"),
        ("http://h/?x", {}, "http://h/?x"),
        ("http://h/?", {}, "http://h/?"),
        ("http://h/?x", "y=a b#c", "http://h/?x&y=a b%23c"),
    ],
)
def test_params_are_appended(url: str, params: Any, expected: str) -> None:
    assert append_params(url, params) == expected


@given(query=valid(":@/?"), params=st.lists(st.tuples(st.text("aä &=#+%"), st.text("aä &=#+%"))))
def test_params_never_touch_the_query_that_is_there(query: str, params: list[tuple[str, str]]) -> None:
    target = parse_url(append_params(f"http://h/?{query}", params)).target
    assert target.startswith(f"/?{query}")
    added = target.removeprefix(f"/?{query}")
    assert parse_qsl(added.removeprefix("&"), keep_blank_values=True) == params


def test_the_memory_of_urls_is_bounded() -> None:
    assert urls._parse.cache_info().maxsize == urls.MAX_CACHED_URLS


def test_long_urls_are_taken_apart_and_not_kept() -> None:
    kept = urls._parse.cache_info().misses
    assert urls.parse_url("http://a.example/" + "x" * urls.MAX_CACHED_URL_LENGTH).host == "a.example"
    assert urls._parse.cache_info().misses == kept
