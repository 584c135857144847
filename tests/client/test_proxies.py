"""Which proxy a request takes."""

from __future__ import annotations

import itertools
import logging
import sys
from collections.abc import Mapping
from ipaddress import IPv4Address, IPv6Address
from types import MappingProxyType

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from yarl import URL

from aiosock.client.proxies import ProxyInput, ProxyRules, make_rules, rules_from_environment
from aiosock.connection.proxy import Proxy
from aiosock.errors import UsageError
from aiosock.message.url import parse_url

ONE, OTHER, THIRD = Proxy("http://one:1"), Proxy("https://other:2"), Proxy("socks5://third:3")
SECRET = "hunter2"


def taken(rules: ProxyRules | None, url: str) -> Proxy | None:
    return None if rules is None else rules.proxy_for(parse_url(url))


def exempt(no_proxy: str, url: str) -> bool:
    """Whether what NO_PROXY says is that this URL needs no proxy."""
    return taken(rules_from_environment({"all_proxy": "http://one:1", "no_proxy": no_proxy}), url) is None


def test_without_a_proxy_there_are_no_rules() -> None:
    assert make_rules(None) is None
    assert make_rules({}) is None
    assert make_rules({"all://": None}) is None
    assert rules_from_environment({}) is None
    assert rules_from_environment({"no_proxy": "*"}) is None


@pytest.mark.parametrize(
    "value", ["http://one:1", "one:1", URL("http://one:1"), ONE], ids=["str", "bare", "URL", "Proxy"]
)
@pytest.mark.parametrize("url", ["http://a.test/", "https://[::1]:8443/"])
def test_one_proxy_is_for_everything(value: ProxyInput, url: str) -> None:
    assert taken(make_rules(value), url) == ONE


@pytest.mark.parametrize(
    ("key", "fitting", "unfitting"),
    [
        ("all://", ["http://a.test", "https://[::1]:1"], []),
        ("all", ["http://a.test", "https://10.0.0.1:1"], []),
        ("all://*", ["http://a.test", "https://a.b.test:1"], []),
        ("http://", ["http://a.test", "http://a.test:443"], ["https://a.test", "https://a.test:80"]),
        ("http", ["http://a.test"], ["https://a.test"]),
        ("https://", ["https://a.test", "https://a.test:80"], ["http://a.test"]),
        ("https", ["https://a.test"], ["http://a.test"]),
        ("HTTPS://A.Test.", ["https://a.test", "https://a.test."], ["https://b.a.test", "http://a.test"]),
        ("all://a.test", ["http://a.test:81", "http://A.TEST./"], ["http://b.a.test", "http://ba.test", "http://test"]),
        ("all://a.test/", ["http://a.test"], ["http://b.a.test"]),
        ("all://*.a.test", ["http://b.a.test", "https://c.b.a.test."], ["http://a.test", "http://ba.test"]),
        ("all://a.test:8080", ["http://a.test:8080", "https://a.test:8080"], ["http://a.test", "http://a.test:808"]),
        ("all://a.test:443", ["https://a.test"], ["http://a.test"]),
        ("http://*:8080", ["http://a.test:8080"], ["http://a.test", "https://a.test:8080"]),
        ("all://[0:0::1]", ["http://[::1]", "http://[0:0:0:0:0:0:0:1]:81"], ["http://[::2]", "http://a.test"]),
        ("all://[::1]:81", ["http://[::1]:81"], ["http://[::1]"]),
        ("all://[fe80::1]", ["http://[fe80::1]", "http://[fe80::1%25eth0]"], ["http://[fe80::2%25eth0]"]),
        ("all://[fe80::1%eth0]", ["http://[fe80::1%25eth0]"], ["http://[fe80::1]", "http://[fe80::1%25eth1]"]),
        (
            "all://10.0.0.1",
            ["http://10.0.0.1", "http://[::ffff:10.0.0.1]"],
            ["http://10.0.0.11", "http://1.10.0.0.1.a"],
        ),
        ("all://*.bücher.test", ["http://a.bücher.test", "http://a.xn--bcher-kva.test"], ["http://bücher.test"]),
    ],
)
def test_a_pattern_fits_what_it_says_and_nothing_else(key: str, fitting: list[str], unfitting: list[str]) -> None:
    rules = make_rules({key: ONE})
    assert [taken(rules, url) for url in fitting] == [ONE] * len(fitting)
    assert [taken(rules, url) for url in unfitting] == [None] * len(unfitting)


LADDER = [
    ("all://", "http://x.test"),
    ("http://", "http://x.test"),
    ("all://*.test", "http://a.test"),
    ("http://*.test", "http://a.test"),
    ("all://*.b.test", "http://a.b.test"),
    ("all://c.b.test", "http://c.b.test"),
    ("http://c.b.test", "http://c.b.test"),
    ("all://*:81", "http://c.b.test:81"),
    ("http://*:81", "http://c.b.test:81"),
    ("all://*.b.test:81", "http://c.b.test:81"),
    ("all://c.b.test:81", "http://c.b.test:81"),
    ("http://c.b.test:81", "http://c.b.test:81"),
]


@pytest.mark.parametrize(
    ("lesser", "greater", "url"),
    [(lesser, greater, url) for (lesser, _), (greater, url) in itertools.pairwise(LADDER)],
    ids=[f"{greater} before {lesser}" for (lesser, _), (greater, _) in itertools.pairwise(LADDER)],
)
def test_the_more_specific_pattern_counts_in_either_order(lesser: str, greater: str, url: str) -> None:
    assert taken(make_rules({lesser: OTHER, greater: ONE}), url) == ONE
    assert taken(make_rules({greater: ONE, lesser: OTHER}), url) == ONE
    assert taken(make_rules({greater: None, lesser: OTHER}), url) is None


@given(st.permutations([key for key, _ in LADDER]), st.sampled_from([url for _, url in LADDER]))
def test_the_order_of_the_mapping_makes_no_difference(keys: list[str], url: str) -> None:
    proxies = {key: Proxy(f"http://one:{number + 1}") for number, (key, _) in enumerate(LADDER)}
    expected = taken(make_rules(proxies), url)
    assert expected is not None
    assert taken(make_rules({key: proxies[key] for key in keys}), url) == expected


def test_none_is_a_direct_connection() -> None:
    rules = make_rules({"all://": ONE, "all://*.intern.test": None})
    assert taken(rules, "http://a.intern.test") is None
    assert taken(rules, "http://intern.test") == ONE


def test_two_keys_that_mean_the_same_must_agree() -> None:
    assert taken(make_rules({"http": ONE, "http://": "http://one:1"}), "http://a.test") == ONE
    with pytest.raises(UsageError, match="proxy: 'HTTP://' means the same as another key, which has another proxy"):
        make_rules({"http": ONE, "HTTP://": OTHER})
    with pytest.raises(UsageError, match="means the same"):
        make_rules({"all://[::1]": ONE, "all://[0::1]": None})


@pytest.mark.parametrize(
    "key",
    [
        "",
        "a.test",
        "a.test:81",
        "*",
        "socks5://",
        "ftp://a.test",
        "http:",
        "http:/",
        "http:///",
        "https://a.test/path",
        "https://a.test?query",
        "https://:81",
        "https://a.test:",
        "https://a.test:0",
        "https://a.test:65536",
        "https://a.test:" + "9" * 5000,
        "https://a.test:x",
        "https://.a.test",
        "https://*a.test",
        "https://*.",
        "https://*.*.test",
        "https://*.10.0.0.1",
        "https://*.[::1]",
        "https://::1",
        "https://[::x]",
        "https://[::1",
        "https://a b.test",
        "https://a.test\n",
        "https://\udc80.test",
    ],
    ids=lambda key: ascii(key[:24]),
)
def test_a_key_that_is_no_pattern_is_named(key: str) -> None:
    with pytest.raises(UsageError, match="^proxy: the key ") as caught:
        make_rules({key: ONE})
    assert repr(key.partition("?")[0][:60]) in str(caught.value)


def test_a_key_of_another_type_is_named() -> None:
    with pytest.raises(UsageError, match="the key of type int is not a pattern"):
        make_rules({1: ONE})  # type: ignore[dict-item]


def test_a_proxy_that_cannot_be_used_is_named_with_its_key() -> None:
    with pytest.raises(UsageError, match=r"^proxy: for 'http://a\.test': the scheme of its URL"):
        make_rules({"http://a.test": "ftp://one"})
    with pytest.raises(UsageError, match="^proxy: takes a str"):
        make_rules(1)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="^proxy: for 'all': takes a str"):
        make_rules({"all": 1})  # type: ignore[dict-item]
    with pytest.raises(UsageError, match="^proxy: "):
        make_rules("")


@pytest.mark.parametrize(
    "value",
    [
        f"ftp://user:{SECRET}@one",
        f"http://user:{SECRET}@one:x",
        f"http://user:{SECRET}/@one",
        {f"http://user:{SECRET}@a.test": ONE},
        {f"http://a.test?{SECRET}": ONE},
        {f"http://user:{SECRET}?@a.test": ONE},
        {"http://": f"http://user:{SECRET}@one:x"},
    ],
    ids=str,
)
def test_no_message_has_a_credential_or_a_query(value: ProxyInput) -> None:
    with pytest.raises(UsageError) as caught:
        make_rules(value)
    assert SECRET not in str(caught.value)
    if isinstance(value, str):
        with pytest.raises(UsageError, match="^https_proxy: ") as caught:
            rules_from_environment({"https_proxy": value})
        assert SECRET not in str(caught.value)


def test_a_repr_has_no_credential() -> None:
    assert repr(make_rules({"http://": f"http://user:{SECRET}@one", "https://": ONE})) == "<ProxyRules: 2>"


@pytest.mark.parametrize(
    ("environ", "for_http", "for_https"),
    [
        ({"http_proxy": "http://one:1"}, ONE, None),
        ({"https_proxy": "http://one:1"}, None, ONE),
        ({"all_proxy": "http://one:1"}, ONE, ONE),
        ({"HTTP_PROXY": "http://one:1"}, ONE, None),
        ({"HTTPS_PROXY": "http://one:1"}, None, ONE),
        ({"ALL_PROXY": "http://one:1"}, ONE, ONE),
        ({"Http_Proxy": "http://one:1"}, None, None),
        ({"all_proxy": "http://one:1", "https_proxy": "https://other:2"}, ONE, OTHER),
        ({"ALL_PROXY": "http://one:1", "http_proxy": "https://other:2"}, OTHER, ONE),
        ({"http_proxy": "http://one:1", "HTTP_PROXY": "https://other:2"}, ONE, None),
        ({"http_proxy": "", "HTTP_PROXY": "https://other:2"}, None, None),
        ({"http_proxy": " ", "HTTP_PROXY": "https://other:2"}, None, None),
        ({"HTTPS_PROXY": ""}, None, None),
        ({"http_proxy": "", "all_proxy": "http://one:1"}, ONE, ONE),
        ({"http_proxy": " one:1\n"}, ONE, None),
        ({"all_proxy": "socks5://third:3"}, THIRD, THIRD),
    ],
)
def test_the_environment_names_proxies(
    environ: Mapping[str, str], for_http: Proxy | None, for_https: Proxy | None
) -> None:
    rules = rules_from_environment(environ)
    assert (taken(rules, "http://a.test"), taken(rules, "https://a.test")) == (for_http, for_https)
    assert (rules is None) == (for_http is for_https is None)


def test_a_field_that_a_cgi_client_sent_names_no_proxy() -> None:
    environ = {"HTTP_PROXY": "http://evil:1", "REQUEST_METHOD": ""}
    assert rules_from_environment(MappingProxyType(environ)) is None
    assert taken(rules_from_environment({**environ, "all_proxy": "http://one:1"}), "http://a.test") == ONE
    # No field becomes a variable in lower case, nor one with another name.
    assert taken(rules_from_environment({**environ, "http_proxy": "http://one:1"}), "http://a.test") == ONE
    assert taken(rules_from_environment({**environ, "HTTPS_PROXY": "http://one:1"}), "https://a.test") == ONE


class CaselessEnviron(dict[str, str]):
    """An environment as Windows has it: one variable, however it is spelled."""

    def __getitem__(self, name: str) -> str:
        return super().__getitem__(name.upper())

    def __contains__(self, name: object) -> bool:
        return super().__contains__(str(name).upper())

    def get(self, name: str, default: str = "") -> str:  # type: ignore[override]
        return super().get(name.upper(), default)


def test_a_field_that_a_cgi_client_sent_names_no_proxy_where_names_have_no_case() -> None:
    environ = CaselessEnviron({"HTTP_PROXY": "http://evil:1", "REQUEST_METHOD": "GET"})
    assert rules_from_environment(environ) is None


def test_a_proxy_that_cannot_be_used_is_named_with_its_variable() -> None:
    for variable in ("http_proxy", "HTTPS_PROXY", "all_proxy"):
        with pytest.raises(UsageError, match=f"^{variable}: the scheme of its URL is one of .*, not 'ftp'"):
            rules_from_environment({variable: "ftp://one"})
    # What does not count does no harm.
    assert rules_from_environment({"http_proxy": "one:1", "HTTP_PROXY": "ftp://one"}) is not None


def test_no_proxy_counts_in_lower_case_first() -> None:
    both = {"all_proxy": "http://one:1", "no_proxy": "a.test", "NO_PROXY": "b.test"}
    assert taken(rules_from_environment(both), "http://a.test") is None
    assert taken(rules_from_environment(both), "http://b.test") == ONE
    assert taken(rules_from_environment({**both, "no_proxy": ""}), "http://b.test") == ONE
    del both["no_proxy"]
    assert taken(rules_from_environment(both), "http://b.test") is None


@pytest.mark.parametrize(
    ("entry", "fitting", "unfitting"),
    [
        ("*", ["http://a.test", "https://10.0.0.1:1", "http://[::1]"], []),
        ("*:8080", ["http://a.test:8080"], ["http://a.test"]),
        ("a.test", ["http://a.test", "https://c.b.a.test:1", "http://a.test."], ["http://ba.test", "http://test"]),
        (".a.test", ["http://a.test", "http://b.a.test"], ["http://ba.test"]),
        ("*.a.test", ["http://b.a.test", "http://c.b.a.test"], ["http://a.test", "http://ba.test"]),
        ("A.Test.", ["http://a.test", "http://b.a.test."], ["http://a.test.b"]),
        ("localhost", ["http://localhost:81", "http://a.localhost"], ["http://127.0.0.1", "http://[::1]"]),
        ("a.test:81", ["http://a.test:81", "http://b.a.test:81"], ["http://a.test", "http://a.test:8181"]),
        ("a.test:443", ["https://a.test"], ["http://a.test"]),
        ("*.a.test:81", ["http://b.a.test:81"], ["http://a.test:81", "http://b.a.test"]),
        ("bücher.test", ["http://bücher.test", "http://a.xn--bcher-kva.test"], ["http://bucher.test"]),
        ("XN--BCHER-KVA.test", ["http://bücher.test"], []),
        ("10.0.0.1", ["http://10.0.0.1", "http://[::ffff:a00:1]"], ["http://110.0.0.1", "http://10.0.0.10"]),
        ("::ffff:10.0.0.1", ["http://10.0.0.1"], ["http://10.0.0.2"]),
        ("10.0.0.1:81", ["http://10.0.0.1:81"], ["http://10.0.0.1"]),
        ("0.0.1", [], ["http://10.0.0.1"]),
        ("0:0::1", ["http://[::1]:81"], ["http://[::2]", "http://1.test"]),
        ("[::1]", ["http://[0:0::1]:81"], ["http://[::2]"]),
        ("[::1]:81", ["http://[::1]:81"], ["http://[::1]"]),
        ("FE80::A", ["http://[fe80::a]", "http://[fe80::a%25eth0]"], ["http://[fe80::b]"]),
        ("fe80::a%eth0", ["http://[fe80::a%25eth0]"], ["http://[fe80::a%25eth1]", "http://[fe80::a]"]),
        ("10.1.2.3/8", ["http://10.9.9.9:81", "http://[::ffff:a09:909]"], ["http://11.0.0.1", "http://10.a.test"]),
        ("10.0.0.0/255.0.0.0", ["http://10.9.9.9"], ["http://11.0.0.1"]),
        ("0.0.0.0/0", ["http://10.9.9.9"], ["http://[::1]", "http://a.test"]),
        ("fe80::/10", ["http://[fe80::1]", "http://[febf::1%25eth0]"], ["http://[fec0::1]", "http://10.0.0.1"]),
    ],
)
def test_an_entry_of_no_proxy_fits_what_it_says_and_nothing_else(
    entry: str, fitting: list[str], unfitting: list[str]
) -> None:
    assert [url for url in fitting if not exempt(entry, url)] == []
    assert [url for url in unfitting if exempt(entry, url)] == []


@pytest.mark.parametrize("text", ["a.test,b.test", " a.test , b.test ", "a.test b.test", ",,a.test\t,\nb.test,"])
def test_entries_stand_between_commas_and_white_space(text: str) -> None:
    assert exempt(text, "http://a.test")
    assert exempt(text, "http://b.test")
    assert not exempt(text, "http://c.test")


@pytest.mark.parametrize(
    "entry",
    [
        ".",
        "..a.test",
        ".*",
        "*.",
        "*a.test",
        "a.*",
        "*.*",
        "10.*",
        "*.10.0.0.1",
        "a.test:",
        "a.test:*",
        "a.test:0",
        "a.test:65536",
        "http://a.test",
        "a.test/path",
        "10.0.0.0/33",
        "10.0.0.0/8:81",
        "fe80::/129",
        "::x",
        "[::1",
        "[a.test]",
        "a_b?c",
        "\udc80.test",
        "-" * 300,
    ],
    ids=lambda entry: ascii(entry[:24]),
)
def test_a_malformed_entry_is_told_to_the_log_and_the_others_count(
    entry: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "aiosock.client")
    environ = {"all_proxy": "http://one:1", "NO_PROXY": f"b.test,{entry},c.test"}
    rules = rules_from_environment(environ)
    assert [taken(rules, f"http://{host}") for host in ("b.test", "c.test")] == [None, None]
    assert [taken(rules, f"http://{host}") for host in ("a.test", "10.0.0.1", "[::1]")] == [ONE, ONE, ONE]
    (record,) = caplog.records
    assert record.levelno == logging.DEBUG
    assert record.getMessage().startswith("NO_PROXY: the entry ")


@pytest.mark.parametrize(
    "entry",
    [f"http://user:{SECRET}@a.test", f"user:{SECRET}@a.test", f"u:{SECRET}@[::1]/64", f"http://a.test/?{SECRET}"],
)
def test_the_log_has_no_credential_and_no_query(entry: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "aiosock.client")
    assert not exempt(entry, "http://a.test")
    assert len(caplog.records) == 1
    assert SECRET not in caplog.text


URLS = ["http://a.test", "https://b.a.test:81", "http://10.0.0.1", "http://[fe80::1%25eth0]:8080", "http://bücher.test"]
PIECES = st.sampled_from(
    ["*", ".", "a", "test", ":", "81", "/", "8", "[", "]", "::", "1", "10.0.0.1", "fe80", "%", "ü", "@"]
)


@given(st.text() | st.lists(PIECES).map("".join))
@example("a.test:" + "9" * 5000)
@example("10.0.0.0/" + "9" * 5000)
@example("²:1")
@example("1²")
@example("xn--a")
@example("::%")
def test_whatever_no_proxy_says_nothing_is_raised(text: str) -> None:
    rules = rules_from_environment({"all_proxy": "http://one:1", "no_proxy": text})
    assert {taken(rules, url) for url in URLS} <= {None, ONE}


@given(st.lists(st.text() | st.lists(PIECES).map("".join)), st.integers(0, 5), st.sampled_from(URLS))
def test_an_asterisk_always_wins(entries: list[str], position: int, url: str) -> None:
    assert exempt(",".join([*entries[:position], "*", *entries[position:]]), url)


@given(st.text() | st.lists(PIECES).map("".join), st.sampled_from(["", "http://", "all://*.", "https://["]))
def test_a_key_is_a_pattern_or_a_usage_error(text: str, start: str) -> None:
    try:
        rules = make_rules({start + text: ONE})
    except UsageError:
        return
    assert {taken(rules, url) for url in URLS} <= {None, ONE}


@given(st.ip_addresses(), st.ip_addresses())
@example(IPv4Address("10.0.0.1"), IPv6Address("::ffff:10.0.0.1"))
def test_an_address_fits_itself_in_whatever_form(
    address: IPv4Address | IPv6Address, other: IPv4Address | IPv6Address
) -> None:
    def url_of(one: IPv4Address | IPv6Address) -> str:
        return f"http://[{one.exploded}]/" if one.version == 6 else f"http://{one}/"

    def meant(one: IPv4Address | IPv6Address) -> object:
        return (one.ipv4_mapped if one.version == 6 else None) or one

    for one in (address, other):
        assert exempt(str(one), url_of(one))
        assert exempt(f"{one}/0", url_of(one))
    assert exempt(str(address), url_of(other)) == (meant(address) == meant(other))


def test_names_need_no_ipaddress(monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes a while to load, and is needed by those who speak of addresses alone."""
    monkeypatch.setitem(sys.modules, "ipaddress", None)
    assert exempt("a.test,*.b.test:81", "http://a.test")
    assert taken(make_rules({"all://*.b.test": ONE}), "https://a.b.test") == ONE
