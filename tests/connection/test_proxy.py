"""What a proxy is, and who we are to it."""

from __future__ import annotations

import copy
import pickle
import re
from dataclasses import FrozenInstanceError
from pathlib import Path
from ssl import PROTOCOL_TLS_CLIENT, SSLContext
from typing import Any

import pytest
from multidict import CIMultiDict
from yarl import URL

import aiosock
from aiosock.connection.proxy import Credentials, Proxy, make_proxy

# The URL and what becomes of it.


@pytest.mark.parametrize(
    ("url", "expected", "auth"),
    [
        ("http://proxy.example", "http://proxy.example:80", None),
        ("http://proxy.example/", "http://proxy.example:80", None),
        ("HTTPS://Proxy.Example", "https://proxy.example:443", None),
        ("socks4://proxy.example", "socks4://proxy.example:1080", None),
        ("socks4a://me@proxy.example", "socks4a://proxy.example:1080", ("me", "")),
        ("socks5://proxy.example", "socks5://proxy.example:1080", None),
        ("socks://proxy.example", "socks5://proxy.example:1080", None),
        ("socks5h://proxy.example:443", "socks5h://proxy.example:443", None),
        ("socks5://proxy.example:80", "socks5://proxy.example:80", None),
        ("http://proxy.example:443", "http://proxy.example:443", None),
        ("localhost:3128", "http://localhost:3128", None),
        ("me:secret@localhost:3128", "http://localhost:3128", ("me", "secret")),
        ("http://m%40e:s%3Ae%2Fc@[::1]:8080", "http://[::1]:8080", ("m@e", "s:e/c")),
        ("http://me:a:b@proxy.example", "http://proxy.example:80", ("me", "a:b")),
        ("http://DOMAIN\\me:se\\cret@proxy.example", "http://proxy.example:80", ("DOMAIN\\me", "se\\cret")),
        ("http://m%C3%A9:@proxy.example", "http://proxy.example:80", ("mé", "")),
        ("http://@proxy.example", "http://proxy.example:80", None),
        ("http://bücher.example", "http://xn--bcher-kva.example:80", None),
        ("socks5://[fe80::1%25eth0]", "socks5://[fe80::1%eth0]:1080", None),
        (URL("http://me:s%40@proxy.example:3128"), "http://proxy.example:3128", ("me", "s@")),
    ],
)
def test_a_url_says_where_and_who(url: str | URL, expected: str, auth: tuple[str, str] | None) -> None:
    proxy = Proxy(url)
    assert str(proxy) == expected
    assert f"{proxy.scheme}://{proxy.address}" == expected
    assert proxy.auth == auth


BAD_URLS = [
    ("ftp://me:secret@proxy.example", "one of http, https, .*, not 'ftp'"),
    ("me:secret://proxy.example", "one of http"),
    ("http://", "has no host"),
    ("", "has no host"),
    ("http://me:secret@", "has no host"),
    ("http://proxy.example:0", "'0'"),
    ("http://me:secret@proxy.example:99999", "port is not a number .*'99999'"),
    ("http://me:secret@proxy.example/path", "of proxy.example has a path"),
    ("http://me:secret@proxy.example?secret", "of proxy.example has a path, query or fragment"),
    ("http://proxy.example#secret", "of proxy.example has a path, query or fragment"),
    ("http://me:12/secret@proxy.example", "the URL has a path.*percent-encoded"),
    ("http://me:12?secret@proxy.example", "the URL has a path.*percent-encoded"),
    ("http://me:secret/x@proxy.example", "percent-encoded"),
    ("http://me:secret@pro xy.example", "not a host name"),
    ("http://me:secret@proxy.example\r\nX: y", "control character '\\\\r'"),
    ("http://me:sec%0Aret@proxy.example", "control character"),
    ("http://m%0De:secret@proxy.example", "control character"),
    ("socks5://m%00e:secret@proxy.example", "control character"),
    ("http://me:secret%FF@proxy.example", "not as UTF-8"),
    ("http://m%3Ae:secret@proxy.example", "with a colon"),
    ("socks4://me:secret@proxy.example", "SOCKS4 knows a user name, but no password"),
    ("socks4a://me:secret@proxy.example", "no password"),
    ("me:secret", "^proxy: the URL's port is not a number from 1 to 65535$"),
    ("http://me:x@secret/wo@h:1", "^proxy: the URL has a path, query or fragment"),
    ("socks5://me:" + "secret" * 50 + "@proxy.example", "at most 255 bytes"),
    ("socks5://" + "%C3%A9" * 128 + ":secret@proxy.example", "at most 255 bytes"),
    ("socks4://" + "m" * 256 + "@proxy.example", "at most 255 bytes"),
    (5, "a str, a yarl.URL or a Proxy, not int"),
    (None, "not NoneType"),
]


@pytest.mark.parametrize(("url", "words"), BAD_URLS, ids=[str(index) for index in range(len(BAD_URLS))])
def test_a_url_that_cannot_be_used_is_refused_without_its_secrets(url: Any, words: str) -> None:
    with pytest.raises(aiosock.UsageError, match=words) as info:
        make_proxy(url)
    assert "proxy" in str(info.value)
    chain: BaseException | None = info.value
    while chain is not None:
        assert "secret" not in f"{chain}{chain!r}"
        assert re.search(r"\bme:", str(chain)) is None
        chain = None if chain.__suppress_context__ else chain.__context__


@pytest.mark.parametrize(
    ("url", "options", "words"),
    [
        ("http://p", {"auth": "me:secret"}, 'takes ."user", "password".'),
        ("http://p", {"auth": ("me",)}, "takes"),
        ("http://p", {"auth": ("me", None)}, "takes"),
        ("http://p", {"auth": 5}, "takes"),
        ("http://p", {"auth": ("m:e", "secret")}, "with a colon"),
        ("http://p", {"auth": ("me", "sec\r\nret")}, "control character"),
        ("http://p", {"auth": ("me", "\ud800")}, "lone surrogate"),
        ("http://p", {"digest_only": True}, "digest_only: needs"),
        ("socks5://p", {"digest_only": True, "auth": ("me", "secret")}, "digest_only: needs"),
        ("socks5://p", {"headers": {"A": "b"}}, "a socks5 proxy knows no fields"),
        ("http://p", {"verify": False}, "no TLS with a proxy whose scheme is http"),
        ("socks5://p", {"cert": "x.pem"}, "no TLS"),
        ("https://p", {"verify": 5}, "verify"),
        ("https://p", {"cert": ()}, "cert"),
        ("http://p", {"headers": {"A B": "c"}}, "not a token"),
        ("http://p", {"headers": {"A": "secret\r\nB: c"}}, "control character"),
        ("http://p", {"headers": {"A": 5}}, "is a str"),
        ("http://p", {"headers": {"host": "x"}}, "cannot have host"),
        ("http://p", {"headers": [("Content-Length", "5")]}, "cannot have Content-Length"),
        ("http://p", {"headers": {"Transfer-Encoding": "chunked"}}, "cannot have Transfer-Encoding"),
        ("http://p", {"headers": {"Connection": "close"}}, "cannot have Connection"),
        ("http://p", {"headers": {"TE": "trailers"}}, "cannot have TE"),
        ("http://p", {"headers": {"Trailer": "x"}}, "cannot have Trailer"),
    ],
)
def test_other_arguments_that_cannot_be_used_are_refused_without_their_secrets(
    url: str, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(aiosock.UsageError, match=words) as info:
        Proxy(url, **options)
    assert "secret" not in str(info.value)


def test_credentials_for_socks_may_be_as_long_as_a_byte_can_count() -> None:
    assert Proxy("socks5://p", auth=("u" * 255, "é" * 127 + "x")).auth == ("u" * 255, "é" * 127 + "x")
    assert Proxy("http://p", auth=("u" * 256, "p" * 256)).auth == ("u" * 256, "p" * 256)


def test_credentials_that_are_given_take_the_place_of_those_in_the_url() -> None:
    assert Proxy("http://other:one@p", auth=("me", "secret")).auth == ("me", "secret")


def test_nothing_shows_who_we_are() -> None:
    proxy = Proxy("http://me:secret@p", headers={"X-Token": "secret"})
    for shown in (str(proxy), repr(proxy), f"{proxy}", repr([proxy]), repr(Credentials(proxy)), proxy.address):
        assert "secret" not in shown
        assert "me" not in shown


def test_proxies_that_say_the_same_are_equal_and_others_are_not() -> None:
    context = SSLContext(PROTOCOL_TLS_CLIENT)
    same = [
        Proxy("https://me:secret@p", headers={"A": "b"}, verify=Path("x"), cert=("c", "k")),
        Proxy("HTTPS://P:443/", auth=("me", "secret"), headers=[("A", "b")], verify="x", cert=("c", "k")),
    ]
    others = [
        Proxy("https://p"),
        Proxy("http://p"),
        Proxy("https://p:80"),
        Proxy("https://q"),
        Proxy("https://me@p"),
        Proxy("https://me:other@p"),
        Proxy("https://me:other@p", digest_only=True),
        Proxy("https://p", headers={"A": "b"}),
        Proxy("https://p", verify=False),
        Proxy("https://p", verify=True),
        Proxy("https://p", verify=context),
        Proxy("https://p", verify=SSLContext(PROTOCOL_TLS_CLIENT)),
        Proxy("https://p", cert="c"),
    ]
    assert same[0] == same[1]
    assert hash(same[0]) == hash(same[1])
    assert len({*same, *others}) == 1 + len(others)
    assert Proxy("https://p", verify=context) in others


def test_it_does_not_change_and_can_be_copied() -> None:
    proxy = Proxy("http://me:secret@p", headers={"A": "b"})
    with pytest.raises(FrozenInstanceError):
        proxy.port = 5  # type: ignore[misc]  # that it cannot be is what is tested
    assert make_proxy(proxy) is proxy
    assert copy.deepcopy(proxy) == pickle.loads(pickle.dumps(proxy)) == proxy  # noqa: S301  # just written


def test_what_is_socks() -> None:
    schemes = ("http", "https", "socks4", "socks4a", "socks5", "socks5h")
    assert [Proxy(f"{scheme}://p").is_socks for scheme in schemes] == [False, False, True, True, True, True]


# Credentials

BASIC = "Basic bWU6c2VjcmV0"


def demanding(*challenges: str) -> CIMultiDict[str]:
    return CIMultiDict([("Proxy-Authenticate", challenge) for challenge in challenges])


DIGEST = demanding("Basic realm=x", 'Digest realm="p", nonce="n1", qop="auth"')


def test_without_credentials_nothing_is_said_nor_answered() -> None:
    for proxy in (Proxy("http://p"), Proxy("http://me:secret@p", headers={"proxy-authorization": "own"})):
        credentials = Credentials(proxy)
        assert credentials.authorize("GET", "http://a/", b"") == (None, None)
        assert not credentials.challenged(DIGEST, None)
        credentials.informed(CIMultiDict({"Proxy-Authentication-Info": 'nextnonce="x"'}))


def test_basic_is_said_at_once_until_digest_is_demanded() -> None:
    credentials = Credentials(Proxy("http://me:secret@p"))
    assert credentials.authorize("GET", "http://a/", b"") == (BASIC, None)
    assert not credentials.challenged(demanding("Basic realm=x"), None)
    assert credentials.authorize("GET", "http://a/", b"") == (BASIC, None)
    assert credentials.challenged(DIGEST, None)
    value, answer = credentials.authorize("GET", "http://a/", b"")
    assert value is not None
    assert value.startswith('Digest username="me", realm="p", nonce="n1", uri="http://a/", ')
    assert answer is not None
    # Several were refused at the same time, for want of this answer: each has it now.
    assert credentials.challenged(DIGEST, None)
    assert not credentials.challenged(DIGEST, answer)


def test_what_cannot_be_answered_is_told_in_the_log_without_secrets(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG", "aiosock.connection")
    credentials = Credentials(Proxy("http://me:secret@p"))
    assert not credentials.challenged(demanding("Basic realm=x, Negotiate dG9rZW4="), None)
    assert not credentials.challenged(demanding("=,="), None)
    assert caplog.messages == [
        "the proxy http://p:80 demands what cannot be given, or was refused: basic, negotiate",
        "the proxy http://p:80 demands what cannot be given, or was refused: nothing",
    ]


def test_with_digest_only_basic_is_never_said() -> None:
    credentials = Credentials(Proxy("http://me:secret@p", digest_only=True))
    assert credentials.authorize("GET", "http://a/", b"") == (None, None)
    assert not credentials.challenged(demanding("Basic realm=x"), None)
    assert credentials.authorize("GET", "http://a/", b"") == (None, None)
    assert credentials.challenged(DIGEST, None)
    value, answer = credentials.authorize("GET", "http://a/", b"")
    assert value is not None
    assert not credentials.challenged(DIGEST, answer)
    assert credentials.authorize("GET", "http://a/", b"") == (None, None)


def test_the_next_nonce_is_taken_up() -> None:
    credentials = Credentials(Proxy("http://me:secret@p"))
    credentials.challenged(DIGEST, None)
    credentials.informed(CIMultiDict({"Proxy-Authentication-Info": 'nextnonce="n2"'}))
    value, _ = credentials.authorize("GET", "http://a/", b"")
    assert value is not None
    assert 'nonce="n2"' in value


def test_a_proxy_that_wants_the_body_protected_needs_to_know_it() -> None:
    credentials = Credentials(Proxy("http://me:secret@p"))
    assert credentials.challenged(demanding('Digest realm="p", nonce="n1", qop="auth-int"'), None)
    assert "qop=auth-int" in str(credentials.authorize("GET", "http://a/", b"")[0])
    with pytest.raises(aiosock.UsageError, match="auth-int"):
        credentials.authorize("POST", "http://a/", None)
