"""Cookie files: what was written is read back, what cannot be used is said, and a file is whole at all times."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiosock.errors import UsageError
from aiosock.message import cookiefile
from aiosock.message.cookiefile import read_cookies, write_cookies
from aiosock.protocol.cookie import Cookie

FULL = Cookie(
    "a",
    "secret",
    domain="example.com",
    path="/x",
    expires=4e9,
    secure=True,
    http_only=True,
    same_site="None",
    host_only=False,
    partitioned=True,
    created=1.5,
)
PLAIN = Cookie("", "\xe9", domain="::1")


def test_json_keeps_everything(tmp_path: Path) -> None:
    write_cookies(tmp_path / "jar", [FULL, PLAIN], "json")
    assert read_cookies(tmp_path / "jar") == [FULL, PLAIN]
    document = json.loads((tmp_path / "jar").read_bytes())
    assert document["version"] == 1
    assert document["cookies"][0]["name"] == "a"


def test_netscapes_format_is_written_as_curl_does(tmp_path: Path) -> None:
    write_cookies(tmp_path / "jar", [FULL, PLAIN], "netscape")
    assert (tmp_path / "jar").read_bytes() == (
        b"# Netscape HTTP Cookie File\n"
        b"\n"
        b"#HttpOnly_.example.com\tTRUE\t/x\tTRUE\t4000000000\ta\tsecret\n"
        b"::1\tFALSE\t/\tFALSE\t0\t\t\xe9\n"
    )
    assert read_cookies(tmp_path / "jar") == [replace(FULL, same_site=None, partitioned=False, created=0.0), PLAIN]


def test_netscapes_format_has_no_place_for_a_tab(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG", "aiosock.message")
    write_cookies(tmp_path / "jar", [replace(PLAIN, name="n", value="sec\tret"), PLAIN], "netscape")
    assert read_cookies(tmp_path / "jar") == [PLAIN]
    assert "left the cookie 'n' of ::1 out of the file: it has a tab" in caplog.text
    assert "sec" not in caplog.text


def test_what_browsers_export_is_read(tmp_path: Path) -> None:
    (tmp_path / "jar").write_bytes(
        b"\xef\xbb\xbf# HTTP Cookie File\r\n"
        b"# a comment\tof\tseven\tparts\t1\t2\t3\r\n"
        b"\r\n"
        b" \t \r\n"
        b".Example.com\ttrue\t/\tFalse\t1735689600.25\ta\tb=c d\r\n"
        b"example.com\tTRUE\t/\tFALSE\t\tb\t\r\n"
        b"example.com\tFALSE\t/\tFALSE\t0\tc\n"
        b"1.2.3.4\tTRUE\t/\tFALSE\t0\td\t\xc3\xa9\x85"
    )
    assert read_cookies(tmp_path / "jar") == [
        Cookie("a", "b=c d", domain="example.com", expires=1735689600.25, host_only=False),
        Cookie("b", "", domain="example.com", host_only=False),
        Cookie("c", "", domain="example.com"),
        Cookie("d", "\xc3\xa9\x85", domain="1.2.3.4"),
    ]


@pytest.mark.parametrize("content", [b"", b"\n", b"# Netscape HTTP Cookie File\n", b'{"version": 1, "cookies": []}'])
def test_a_file_may_have_no_cookies(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "jar").write_bytes(content)
    assert read_cookies(tmp_path / "jar") == []


FINE = b".example.com\tTRUE\t/\tFALSE\t0\tfine\tsecret\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (FINE + b"secret", "line 2: a cookie has 7 parts between tabs, not 1"),
        (FINE + b"a\tTRUE\t/\tFALSE\t0\tn\tsecret\tsecret", "line 2: a cookie has 7 parts between tabs, not 8"),
        (b"\n#\n" + b".\tTRUE\t/\tFALSE\t0\tn\tsecret", "line 3: the domain, its first part, is empty"),
        (b"a\tsecret\t/\tFALSE\t0\tn\tsecret", "line 1: the second part is TRUE or FALSE"),
        (b"a\tTRUE\t/\tsecret\t0\tn\tsecret", "line 1: the fourth part is TRUE or FALSE"),
        (b"a\tTRUE\t/\tFALSE\tsecret\tn\tsecret", "line 1: the fifth part is the time of expiry"),
        (b"a\tTRUE\t/\tFALSE\t-2\tn\tsecret", "line 1: the fifth part is the time of expiry"),
        (b"a\tTRUE\t/\tFALSE\t" + b"9" * 999 + b"\tn\tsecret", "line 1: the fifth part is the time of expiry"),
        (b"a:80\tTRUE\t/\tFALSE\t0\tn\tsecret", "line 1: the domain, its first part, has no port"),
        (b"a\tTRUE\tx\tFALSE\t0\tn\tsecret", "line 1: Cookie 'n': path does not begin with '/'"),
        (b"a b\tTRUE\t/\tFALSE\t0\tn\tsecret", "line 1: Cookie 'n': domain is not a host"),
        (b"a\tTRUE\t/\tFALSE\t0\tn\tsecret\x00", "line 1: Cookie 'n': value has a control character"),
        (b"a\tTRUE\t/\tFALSE\t0\tn\tsecret\rmore", "line 1: Cookie 'n': value has a control character"),
        (b"a\tTRUE\t/\tFALSE\t0\tn\tsecret;more", "line 1: Cookie 'n': value has a semicolon"),
        (b"SQLite format 3\x00secret", "line 1: a cookie has 7 parts between tabs, not 1"),
        (b'{"version": 1,\n"cookies": [secret]}', "line 2: it is not JSON: Expecting value"),
        (b'{"version": 1,\n\n"cookies": "secret\xff"}', "line 3: it is not UTF-8"),
        (b"[" * 100_000, "it is not JSON that can be read"),
        (b'{"version": ' + b"1" * 5000 + b"}", "it is not JSON that can be read"),
        (b'["secret"]', 'it is JSON, but not an object with "version" and "cookies"'),
        (b'{"version": 1, "cookies": {"a": "secret"}}', "it is JSON, but not an object with"),
        (b'{"version": 2, "cookies": ["secret"]}', "its version is not 1"),
        (b'{"version": true, "cookies": ["secret"]}', "its version is not 1"),
        (b'{"cookies": ["secret"]}', "its version is not 1"),
        (b'{"version": 1, "cookies": ["secret"]}', "cookie 1: it is not an object"),
        (b'{"version": 1, "cookies": [{"name": "a", "value": "secret"}]}', "cookie 1: it takes name, value, domain"),
        (
            b'{"version": 1, "cookies": [{"name": "a", "value": "secret", "domain": "a", "secret": "secret"}]}',
            "cookie 1: it takes name, value, domain, and maybe created, expires",
        ),
        (
            b'{"version": 1, "cookies": [{"name": "a", "value": "secret", "domain": ""}]}',
            "cookie 1: its domain is empty",
        ),
        (
            b'{"version": 1, "cookies": [{"name": "a", "value": "secret\\n", "domain": "a"}]}',
            "cookie 1: Cookie 'a': value has a control character",
        ),
        (
            b'{"version": 1, "cookies": [{"name": "a", "value": "secret", "domain": "a", "expires": 1e999}]}',
            "cookie 1: Cookie 'a': expires is a number of seconds",
        ),
        (
            b'{"version": 1, "cookies": [{"name": "a", "value": ["secret"], "domain": "a"}]}',
            "cookie 1: Cookie 'a': value is a str, not list",
        ),
    ],
    ids=range(31),
)
def test_what_cannot_be_used_is_said_with_its_place_and_without_a_value(
    content: bytes, message: str, tmp_path: Path
) -> None:
    (tmp_path / "jar").write_bytes(content)
    with pytest.raises(UsageError) as caught:
        read_cookies(tmp_path / "jar")
    assert str(caught.value).startswith(f"the cookie file {str(tmp_path / 'jar')!r} cannot be used: {message}")
    assert "secret" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match=r"cannot read the cookie file '.*/jar': No such file or directory"):
        read_cookies(tmp_path / "jar")
    with pytest.raises(UsageError, match=r"cannot read the cookie file '.*': Is a directory"):
        read_cookies(tmp_path)
    with pytest.raises(UsageError, match="path: takes a str or a path, not int"):
        read_cookies(3)  # type: ignore[arg-type]  # a mistake
    with pytest.raises(UsageError, match=r"cannot read the cookie file 'a\\x00': embedded null byte"):
        read_cookies("a\x00")
    monkeypatch.setattr("aiosock.message.file.MAX_FILE_BYTES", 3)
    (tmp_path / "jar").write_bytes(b"####")
    with pytest.raises(UsageError, match=r"the cookie file '.*/jar' has more than 3 bytes"):
        read_cookies(tmp_path / "jar")


@pytest.mark.parametrize("expires", [-5.0, 0.0, 0.5])
def test_a_time_of_long_ago_is_not_taken_for_none(expires: float, tmp_path: Path) -> None:
    write_cookies(tmp_path / "jar", [replace(PLAIN, expires=expires)], "netscape")
    [cookie] = read_cookies(tmp_path / "jar")
    assert cookie.expires == 1


def test_a_format_that_is_not_known_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="format: takes 'json' or 'netscape', not 'yaml'"):
        write_cookies(tmp_path / "jar", [], "yaml")
    assert os.listdir(tmp_path) == []


_octets = st.characters(max_codepoint=0xFF, exclude_categories=["Cc"], exclude_characters=";")
_texts = st.text(_octets).map(lambda text: text.strip(" \t"))
_cookies = st.lists(
    st.builds(
        Cookie,
        st.text(st.characters(max_codepoint=0xFF, exclude_categories=["Cc"], exclude_characters=";= "), min_size=1),
        _texts,
        domain=st.sampled_from(["example.com", "a.b", "localhost"]),
        path=_texts.map(lambda text: f"/{text}"),
        expires=st.none() | st.integers(1, 10**17).map(float),
        secure=st.booleans(),
        http_only=st.booleans(),
        same_site=st.sampled_from([None, "Lax", "Strict", "None"]),
        host_only=st.booleans(),
        partitioned=st.booleans(),
        created=st.floats(0, 1e12),
    )
)


@given(_cookies)
def test_json_goes_there_and_back(cookies: list[Cookie]) -> None:
    assert list(cookiefile._parse_json(cookiefile._format_json(cookies))) == cookies


@given(_cookies)
def test_netscapes_format_goes_there_and_back(cookies: list[Cookie]) -> None:
    assert list(cookiefile._parse_netscape(cookiefile._format_netscape(cookies))) == [
        replace(cookie, same_site=None, partitioned=False, created=0.0) for cookie in cookies
    ]


@given(st.binary() | st.text().map(lambda text: f'{{"version": 1, "cookies": [{text}]}}'.encode("utf-8", "replace")))
def test_no_content_makes_it_fail_in_another_way(content: bytes) -> None:
    for parse in (cookiefile._parse_json, cookiefile._parse_netscape):
        try:
            assert all(isinstance(cookie, Cookie) for cookie in parse(content))
        except UsageError:
            pass


def test_what_some_exports_write_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "cookies.txt"
    path.write_bytes(b"a\tTRUE\t\tFALSE\t-1\tn \t value \n")
    [cookie] = read_cookies(path)
    assert (cookie.name, cookie.value, cookie.path, cookie.expires) == ("n", "value", "/", None)
