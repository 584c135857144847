"""A request's head goes out as exact bytes, or not at all: nothing can be injected by way of any of its parts."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from aiosock.errors import InvalidHeader, LocalProtocolError
from aiosock.protocol.http1 import FieldSection, RequestHead
from aiosock.protocol.http1.grammar import FIELD_BYTES, is_token
from aiosock.protocol.http1.writer import encode_trailers

CONTROLS = [bytes([code]).decode("latin-1") for code in range(256) if code not in FIELD_BYTES]
BEYOND_LATIN_1 = ["\u0100", "\u2028", "\u20ac", "\U0001f600", "\ud800"]


def encoded(method: str = "GET", target: str = "/", *fields: tuple[str, str]) -> bytes:
    return RequestHead(method, target, "a.example", fields).encoded


# The request line


@pytest.mark.parametrize(
    ("method", "target"),
    [
        ("GET", "/"),
        ("GET", "/a/b?c=d&e=%20"),
        ("GET", "//a"),
        ("get", "/"),
        ("X-Own!#$%&'*+-.^_`|~", "/"),
        ("GET", "http://a.example/b?c"),
        ("GET", "HTTPS://a.example"),
        ("GET", "coap+tcp://a.example/"),
        ("CONNECT", "a.example:443"),
        ("CONNECT", "[2001:db8::1]:443"),
        ("CONNECT", "127.0.0.1:1"),
        ("OPTIONS", "*"),
        ("OPTIONS", "/"),
        ("OPTIONS", "http://a.example/"),
    ],
)
def test_the_request_line_has_the_method_and_the_target_as_they_are(method: str, target: str) -> None:
    head = RequestHead(method, target, "a.example", ())
    assert head.method == method
    assert head.encoded == f"{method} {target} HTTP/1.1\r\nHost: a.example\r\n\r\n".encode()


@pytest.mark.parametrize("method", ["", " ", "G T", "GET ", "GET\r\n", "G\0", "GET:", "GÉT", "(GET)", "\u212aIT"])
def test_a_method_that_is_no_token_is_refused(method: str) -> None:
    with pytest.raises(LocalProtocolError, match="the method is not a token"):
        encoded(method)


@pytest.mark.parametrize(
    ("method", "form"),
    [("GET", "/a{}b"), ("GET", "http://a{}b"), ("CONNECT", "a{}b:1"), ("OPTIONS", "*{}"), ("GET", "/{}")],
)
def test_a_target_with_white_space_a_control_or_a_non_ascii_character_is_refused(method: str, form: str) -> None:
    for stray in (" ", *CONTROLS, "\x80", "\xe9", *BEYOND_LATIN_1):
        with pytest.raises(LocalProtocolError, match="holds white space, a control or a non-ASCII character"):
            encoded(method, form.format(stray))


def test_an_empty_target_is_refused() -> None:
    with pytest.raises(LocalProtocolError, match="the request target is empty"):
        encoded("GET", "")


@pytest.mark.parametrize(
    ("method", "target"),
    [
        ("GET", "*"),
        ("options", "*"),
        ("OPTIONS", "**"),
        ("GET", "a.example:443"),
        ("GET", "a"),
        ("GET", "?a"),
        ("GET", "?a=http://b"),
        ("GET", "a/b://c"),
        ("GET", "://a"),
        ("GET", "1http://a"),
        ("GET", "http://"),
        ("GET", "http:/a"),
    ],
)
def test_a_target_that_is_none_of_the_forms_is_refused(method: str, target: str) -> None:
    with pytest.raises(LocalProtocolError, match="the target must begin with '/', be an absolute URL, or be '\\*'"):
        encoded(method, target)


@pytest.mark.parametrize(
    "target",
    [
        "/",
        "a.example",
        "a.example:",
        "a.example:x",
        "a.example:123456",
        ":443",
        "u@a.example:443",
        "http://a:443",
        "a:b:1",
        "2001:db8::1:443",
        "[]:443",
        "[::1]",
        "a:1/",
        "*",
    ],
)
def test_the_target_of_connect_must_be_host_and_port(target: str) -> None:
    with pytest.raises(LocalProtocolError, match="the target of CONNECT must be host:port"):
        encoded("CONNECT", target)


# Fields


def test_host_comes_first_and_the_fields_follow_in_their_order_and_spelling() -> None:
    assert encoded("GET", "/", ("X-b", "1"), ("accept", "*/*"), ("x-B", "2"), ("A", "")) == (
        b"GET / HTTP/1.1\r\nHost: a.example\r\nX-b: 1\r\naccept: */*\r\nx-B: 2\r\nA: \r\n\r\n"
    )


@pytest.mark.parametrize("name", ["Host", "host", "HOST"])
def test_a_host_among_the_fields_replaces_the_other_and_still_comes_first(name: str) -> None:
    assert encoded("GET", "/", ("A", "b"), (name, "other:81")) == b"GET / HTTP/1.1\r\nHost: other:81\r\nA: b\r\n\r\n"
    assert encoded("GET", "/", (name, "")) == b"GET / HTTP/1.1\r\nHost: \r\n\r\n"


def test_two_hosts_are_refused() -> None:
    with pytest.raises(InvalidHeader, match="Host is given more than once"):
        encoded("GET", "/", ("Host", "a"), ("host", "a"))


def test_fields_may_come_from_a_generator() -> None:
    head = RequestHead("GET", "/", "a", ((name, "1") for name in "XY"))
    assert head.encoded == b"GET / HTTP/1.1\r\nHost: a\r\nX: 1\r\nY: 1\r\n\r\n"


@pytest.mark.parametrize(
    "name",
    [
        "",
        " ",
        "A ",
        " A",
        "A B",
        "A:",
        "A\r\nB",
        "A\n",
        "A\0",
        "\xc4",
        "(A)",
        "\u212a",
        "Content-Length ",
        "a" * 50 + "\n",
    ],
)
def test_a_name_that_is_no_token_is_refused(name: str) -> None:
    with pytest.raises(InvalidHeader, match=re.escape(f"the field name is not a token: {name[:40]!r}")):
        encoded("GET", "/", ("X", "1"), (name, "value"))


@pytest.mark.parametrize("value", ["\t", " a\tb ", "\xa0\xff\x80", "a:b", '"', ",;", "~", "a" * 100_000])
def test_a_value_may_hold_htab_space_and_obs_text(value: str) -> None:
    assert encoded("GET", "/", ("A", value)) == (
        b"GET / HTTP/1.1\r\nHost: a.example\r\nA: " + value.encode("latin-1") + b"\r\n\r\n"
    )


@pytest.mark.parametrize("form", ["{}", "a{}", "{}a", "a{}b"])
def test_a_value_with_a_control_character_is_refused_by_its_name_and_not_shown(form: str) -> None:
    for control in (*CONTROLS, "\r\n", "\n\r", "\r\nInjected: 1", "\r\n\r\nGET /"):
        with pytest.raises(InvalidHeader, match="^the value of X-Own holds a control character") as info:
            encoded("GET", "/", ("A", "fine"), ("X-Own", "secret" + form.format(control)), ("B", "fine"))
        assert "secret" not in str(info.value)


@pytest.mark.parametrize("character", BEYOND_LATIN_1)
def test_a_value_outside_of_latin_1_is_refused_by_its_name_and_not_shown(character: str) -> None:
    with pytest.raises(InvalidHeader, match="^the value of X-Own has a character outside of latin-1$"):
        encoded("GET", "/", ("A", "\xff"), ("X-Own", f"secret{character}"), ("B", "fine"))


def test_line_ends_that_make_up_for_each_other_are_refused_too() -> None:
    with pytest.raises(InvalidHeader, match="the value of A holds"):
        encoded("GET", "/", ("A", "\n"), ("B", "\r"))
    with pytest.raises(InvalidHeader, match="the value of A holds"):
        encoded("GET", "/", ("A", "\r"), ("B", "\n"))


@pytest.mark.parametrize("host", ["a\r\nb", "a\0", "a\nX: y"])
def test_a_host_is_checked_like_any_value(host: str) -> None:
    with pytest.raises(InvalidHeader, match="the value of Host holds a control character"):
        RequestHead("GET", "/", host, ())
    with pytest.raises(InvalidHeader, match="the value of Host holds a control character"):
        encoded("GET", "/", ("Host", host))


def test_a_host_outside_of_latin_1_is_refused() -> None:
    with pytest.raises(InvalidHeader, match="the value of Host has a character outside of latin-1"):
        RequestHead("GET", "/", "\u0430.example", ())


# Framing


def test_without_a_framing_field_there_is_no_body() -> None:
    head = RequestHead("POST", "/", "a", ())
    assert (head.has_body, head.chunked, head.content_length) == (False, False, 0)


@pytest.mark.parametrize(("value", "length"), [("0", 0), ("1", 1), ("5", 5), ("005", 5), (str(2**63 - 1), 2**63 - 1)])
def test_content_length_frames_the_body(value: str, length: int) -> None:
    head = RequestHead("POST", "/", "a", [("content-LENGTH", value)])
    assert (head.has_body, head.chunked, head.content_length) == (length > 0, False, length)
    assert head.encoded == f"POST / HTTP/1.1\r\nHost: a\r\ncontent-LENGTH: {value}\r\n\r\n".encode()


@pytest.mark.parametrize(
    "value", ["", "+5", "-1", "5,5", "5 ", " 5", "5.0", "0x5", "a", "\u0665", "²", str(2**63), "9" * 20, "0" * 20]
)
def test_a_malformed_content_length_is_refused(value: str) -> None:
    with pytest.raises(LocalProtocolError, match="Content-Length is not a number of bytes"):
        encoded("POST", "/", ("Content-Length", value))


def test_two_content_lengths_are_refused_even_if_equal() -> None:
    with pytest.raises(LocalProtocolError, match="Content-Length is given more than once"):
        encoded("POST", "/", ("Content-Length", "5"), ("content-length", "5"))


@pytest.mark.parametrize("values", [["chunked"], ["Chunked"], ["gzip, chunked"], ["gzip", "chunked"], [" chunked ,"]])
def test_transfer_encoding_that_ends_with_chunked_frames_the_body(values: list[str]) -> None:
    head = RequestHead("POST", "/", "a", [("Transfer-Encoding", value) for value in values])
    assert (head.has_body, head.chunked, head.content_length) == (True, True, 0)


@pytest.mark.parametrize(
    "values",
    [
        [""],
        ["gzip"],
        ["chunked, gzip"],
        ["chunked", "gzip"],
        ["chunked, chunked"],
        ["chunked", "chunked"],
        ["identity"],
        ["chunked;a=b"],
        ["xchunked"],
    ],
)
def test_transfer_encoding_that_does_not_end_with_chunked_once_is_refused(values: list[str]) -> None:
    with pytest.raises(LocalProtocolError, match="Transfer-Encoding of a request must end with chunked, once"):
        encoded("POST", "/", *(("transfer-encoding", value) for value in values))


def test_content_length_and_transfer_encoding_together_are_refused() -> None:
    for order in (1, -1):
        fields = [("Content-Length", "5"), ("Transfer-Encoding", "chunked")][::order]
        with pytest.raises(LocalProtocolError, match="both given"):
            encoded("POST", "/", *fields)


# Flags


@pytest.mark.parametrize(
    ("fields", "closes"),
    [
        ([], False),
        ([("Connection", "close")], True),
        ([("connection", "Keep-Alive, CLOSE")], True),
        ([("Connection", "close"), ("Connection", "upgrade")], True),
        ([("Connection", "keep-alive")], False),
        ([("Connection", "closed")], False),
        ([("X-Connection", "close")], False),
    ],
)
def test_the_head_knows_whether_it_asks_for_the_end_of_the_connection(
    fields: list[tuple[str, str]], closes: bool
) -> None:
    assert RequestHead("GET", "/", "a", fields).closes is closes


@pytest.mark.parametrize(
    ("fields", "expects"),
    [
        ([], False),
        ([("Expect", "100-continue")], True),
        ([("EXPECT", "\t100-Continue ")], True),
        ([("Expect", "other"), ("Expect", "100-continue")], True),
        ([("Expect", "100")], False),
        ([("X", "100-continue")], False),
    ],
)
def test_the_head_knows_whether_the_body_waits_for_100(fields: list[tuple[str, str]], expects: bool) -> None:
    assert RequestHead("POST", "/", "a", [*fields, ("Content-Length", "1")]).expects_continue is expects


@pytest.mark.parametrize("length", [(), (("Content-Length", "0"),)], ids=["no body", "an empty one"])
def test_a_request_without_content_expects_nothing(length: tuple[tuple[str, str], ...]) -> None:
    head = RequestHead("GET", "/", "a", [("A", "b"), ("Expect", "100-continue"), ("Expect", "other"), *length])
    assert not head.expects_continue
    assert b"100-continue" not in head.encoded
    assert head.encoded.startswith(b"GET / HTTP/1.1\r\nHost: a\r\nA: b\r\nExpect: other\r\n")


@pytest.mark.parametrize(
    ("fields", "offers"),
    [
        ([], False),
        ([("Upgrade", "websocket")], True),
        ([("UPGRADE", "h2c")], True),
        ([("Connection", "upgrade")], False),
    ],
)
def test_the_head_knows_whether_it_offers_another_protocol(fields: list[tuple[str, str]], offers: bool) -> None:
    assert RequestHead("GET", "/", "a", fields).offers_upgrade is offers


# Fields that several requests share

FLAGS = ("encoded", "content_length", "chunked", "has_body", "closes", "expects_continue", "offers_upgrade", "method")
FIELDS = {
    "none": [],
    "plain": [("Accept", "*/*"), ("X-Own", "a"), ("x-own", "b")],
    "sized": [("Content-Length", "5")],
    "sized, empty": [("Content-Length", "0")],
    "chunked": [("Transfer-Encoding", "gzip"), ("transfer-encoding", "Chunked")],
    "close": [("A", "b"), ("Connection", "keep-alive, Close")],
    "expect": [("Expect", " 100-Continue"), ("Content-Length", "1")],
    "upgrade": [("Upgrade", "a"), ("Connection", "upgrade")],
    "host": [("A", "b"), ("HOST", "other.example"), ("C", "d")],
}


def told(head: RequestHead) -> list[object]:
    return [getattr(head, name) for name in FLAGS]


@pytest.mark.parametrize("fields", FIELDS.values(), ids=FIELDS)
def test_a_section_stands_for_its_fields_in_every_request(fields: list[tuple[str, str]]) -> None:
    section = FieldSection(iter(fields))
    for method, target, host in [
        ("GET", "/", "a.example"),
        ("POST", "/b", "b.example:8080"),
        ("GET", "/", "a.example"),
    ]:
        assert told(RequestHead(method, target, host, section)) == told(RequestHead(method, target, host, fields))
    own = dict(fields).get("HOST")
    assert section.host == own
    for name in ("content_length", "chunked", "has_body", "closes", "expects_continue", "offers_upgrade"):
        assert getattr(section, name) == getattr(RequestHead("GET", "/", "a.example", fields), name)
    assert b"Host: %b\r\n" % (own or "a.example").encode() in RequestHead("GET", "/", "a.example", section).encoded


def test_a_section_with_a_host_is_checked_for_each_request_with_it() -> None:
    section = FieldSection([("Host", "a\r\nX: y")])
    for _ in range(2):
        with pytest.raises(InvalidHeader, match="the value of Host"):
            RequestHead("GET", "/", "a.example", section)


@pytest.mark.parametrize("value", [5, None, b"a", ["a"], True], ids=repr)
@pytest.mark.parametrize("name", ["X-Own", "Accept", "Host", "Content-Length", "Connection", "Expect", "Upgrade"])
def test_a_value_that_is_no_str_is_refused(name: str, value: object) -> None:
    fields: list[tuple[str, Any]] = [("A", "b"), (name, value)]
    with pytest.raises(InvalidHeader, match=f"^the value of {name} is a str, not {type(value).__name__}$"):
        FieldSection(fields)
    with pytest.raises(InvalidHeader, match=f"^the value of {name} is a str, not {type(value).__name__}$"):
        RequestHead("GET", "/", "a.example", fields)


def test_its_repr_shows_no_target_and_no_field() -> None:
    assert repr(RequestHead("GET", "/?token=secret", "a", [("A", "secret")])) == "<RequestHead GET>"


# Trailers


def test_trailers_end_with_an_empty_line() -> None:
    assert encode_trailers(()) == b"\r\n"
    assert encode_trailers([("A", "b"), ("c", "")]) == b"A: b\r\nc: \r\n\r\n"


@pytest.mark.parametrize("name", ["", "A ", "A:", "A\r\nB", "\xc4"])
def test_a_trailer_name_that_is_no_token_is_refused(name: str) -> None:
    with pytest.raises(InvalidHeader, match="the trailer name is not a token"):
        encode_trailers([(name, "b")])


@pytest.mark.parametrize(
    "name",
    [
        "Host",
        "Content-Length",
        "Transfer-Encoding",
        "Connection",
        "Expect",
        "Upgrade",
        "Trailer",
        "TE",
        "Content-Encoding",
        "Content-Type",
    ],
)
@pytest.mark.parametrize("spell", [str, str.lower, str.upper])
def test_a_field_that_frames_or_routes_may_not_stand_in_trailers(name: str, spell: type[str]) -> None:
    with pytest.raises(InvalidHeader, match="may not stand in trailers"):
        encode_trailers([("A", "b"), (spell(name), "x")])


@pytest.mark.parametrize(
    ("field", "shape"),
    [
        (("A", 5), "tuple of str, int"),
        (("A", b"x"), "tuple of str, bytes"),
        ((5, "x"), "tuple of int, str"),
        (("A",), "tuple of str"),
        (["A", "b", "c", "d"], "list of str, str, str"),
        ((), "tuple"),
        ("ab", "str"),
    ],
    ids=str,
)
def test_what_is_no_pair_of_name_and_value_is_no_trailer(field: Any, shape: str) -> None:
    with pytest.raises(InvalidHeader, match=f"both str, not {shape}$"):
        encode_trailers([("A", "b"), field])


def test_a_pair_in_a_list_is_a_trailer_too() -> None:
    fields: Any = [["A", "b"], *CIMultiDict({"C": "d"}).items()]
    assert encode_trailers(fields) == b"A: b\r\nC: d\r\n\r\n"


def test_a_trailer_value_is_checked_like_that_of_a_field() -> None:
    for stray in (*CONTROLS, "\r\n\r\n", *BEYOND_LATIN_1):
        with pytest.raises(InvalidHeader, match="^the value of B (holds a control|has a) character"):
            encode_trailers([("A", "b"), ("B", f"c{stray}d")])


# Any text

_names = st.one_of(st.from_regex(r"[A-Za-z!#$&'*+.^_`|~-]{1,12}", fullmatch=True), st.text(max_size=8))
_values = st.text(st.one_of(st.characters(max_codepoint=255), st.characters()), max_size=20)


@given(st.lists(st.tuples(_names, _values), max_size=6))
def test_fields_of_any_text_are_refused_or_go_out_as_exactly_that_many_lines(fields: list[tuple[str, str]]) -> None:
    try:
        head = RequestHead("GET", "/", "a", fields)
    except (InvalidHeader, LocalProtocolError):
        return
    assert head.encoded.endswith(b"\r\n\r\n")
    own_host = [value for name, value in fields if name.lower() == "host"]
    expected = [
        b"GET / HTTP/1.1",
        b"Host: " + (own_host[0].encode("latin-1") if own_host else b"a"),
        *(f"{name}: {value}".encode("latin-1") for name, value in fields if name.lower() != "host"),
    ]
    assert head.encoded[:-4].split(b"\r\n") == expected
    assert head.encoded.count(b"\r") == head.encoded.count(b"\n") == len(expected) + 1
    assert all(is_token(name) for name, _ in fields)


_framing = st.sampled_from([pair for fields in FIELDS.values() for pair in fields])


@given(st.lists(st.one_of(st.tuples(_names, _values), _framing), max_size=6))
def test_a_section_of_any_fields_is_refused_or_gives_the_same_bytes(fields: list[tuple[str, str]]) -> None:
    def outcome(make: Callable[[], RequestHead]) -> object:
        try:
            return told(make())
        except (InvalidHeader, LocalProtocolError) as error:
            return type(error), str(error)

    assert outcome(lambda: RequestHead("POST", "/", "a.example", FieldSection(fields))) == outcome(
        lambda: RequestHead("POST", "/", "a.example", iter(fields))
    )
