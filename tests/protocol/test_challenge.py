"""Challenges and parameters of authentication: their grammar (RFC 9110, 11), and Basic's credentials (RFC 7617)."""

from __future__ import annotations

import time
from base64 import b64decode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiosock.errors import UsageError
from aiosock.protocol.challenge import (
    MAX_CHALLENGES,
    MAX_FIELD_CHARACTERS,
    Challenge,
    basic,
    parse_challenges,
    parse_parameters,
)


def challenge(scheme: str, token68: str | None = None, **parameters: str) -> Challenge:
    return Challenge(scheme, token68, parameters)


# What is in the grammar


@pytest.mark.parametrize(
    ("value", "challenges"),
    [
        ("", []),
        ("Basic", [challenge("basic")]),
        ('Basic realm="WallyWorld"', [challenge("basic", realm="WallyWorld")]),
        ('Basic realm="foo", charset="UTF-8"', [challenge("basic", realm="foo", charset="UTF-8")]),
        # RFC 9110, 11.6.1.
        (
            r'Basic realm="simple", Newauth realm="apps", type=1, title="Login to \"apps\""',
            [
                challenge("basic", realm="simple"),
                challenge("newauth", realm="apps", type="1", title='Login to "apps"'),
            ],
        ),
        ("Negotiate", [challenge("negotiate")]),
        ("Negotiate a87421000492aa874209af8bc028==", [challenge("negotiate", "a87421000492aa874209af8bc028==")]),
        ("Negotiate, NTLM , Basic realm=x", [challenge("negotiate"), challenge("ntlm"), challenge("basic", realm="x")]),
        ("A b, C d=", [challenge("a", "b"), challenge("c", "d=")]),
        ("A -._~+/==, B", [challenge("a", "-._~+/=="), challenge("b")]),
        ("A b=c", [challenge("a", b="c")]),
        ('A b="c"', [challenge("a", b="c")]),
        ('A b=""', [challenge("a", b="")]),
        ('A \t b \t = \t "c" \t , \t d=e \t', [challenge("a", b="c", d="e")]),
        ('A b="c, D e=f", g=h', [challenge("a", b="c, D e=f", g="h")]),
        (r'A b="\"\\\c"', [challenge("a", b='"\\c')]),
        ('A b="\xc3\xa4"', [challenge("a", b="\xc3\xa4")]),
        ("DIGEST Realm=X, NONCE=Y", [challenge("digest", realm="X", nonce="Y")]),
        ('!#$%&\'*+-.^_`|~ a="b"', [challenge("!#$%&'*+-.^_`|~", a="b")]),
        # A list may have empty members (RFC 9110, 5.6.1.2).
        (" ,, A ,, b=c , , d=e,, ,B,", [challenge("a", b="c", d="e"), challenge("b")]),
        (" ,, A b=c , , d=e,, ,B,", [challenge("a", b="c", d="e"), challenge("b")]),
    ],
)
def test_a_field_gives_its_challenges(value: str, challenges: list[Challenge]) -> None:
    assert parse_challenges([value]) == challenges


def test_the_challenges_of_several_fields_follow_each_other() -> None:
    fields = ['Digest realm="a", nonce=b', "", "Basic realm=c, X"]
    assert parse_challenges(fields) == [
        challenge("digest", realm="a", nonce="b"),
        challenge("basic", realm="c"),
        challenge("x"),
    ]


def test_parameters_do_not_run_on_into_the_next_field() -> None:
    assert parse_challenges(["Digest realm=a", "nonce=b, Basic"]) == [
        challenge("digest", realm="a"),
        challenge("basic"),
    ]


def test_the_first_of_each_name_counts() -> None:
    assert parse_challenges(['A b=1, B=2, b="3"']) == [challenge("a", b="1")]


# What is not


@pytest.mark.parametrize(
    ("value", "challenges"),
    [
        # Commas that are missing.
        ('A b="c" d="e"', [challenge("a", b="c", d="e")]),
        ('A b="c"d="e"', [challenge("a", b="c", d="e")]),
        (
            'Basic realm="a" Digest realm="b", nonce=c',
            [challenge("basic", realm="a"), challenge("digest", realm="b", nonce="c")],
        ),
        # Values that had to be quoted.
        ("A b=/c?d=e;f==, g=h", [challenge("a", b="/c?d=e;f==", g="h")]),
        ("Digest realm=my own realm, nonce=n", [challenge("digest", realm="my", nonce="n")]),
        ("A b=my own x=y, c=d", [challenge("a", b="my"), challenge("own", x="y", c="d")]),
        # Text where parameters should be.
        ("A b c, D e=f", [challenge("d", e="f")]),
        ("A b, c=d, E", [challenge("a", "b"), challenge("e")]),
        ('A b=c, "d", e=f', [challenge("a", b="c", e="f")]),
        ('A b=c, "d, D x=y", e=f', [challenge("a", b="c", e="f")]),
        ("A b=c, =d, e=f", [challenge("a", b="c", e="f")]),
        ("A b=c, d=, e=f", [challenge("a", b="c", e="f")]),
        ("A b=c, \xe4=d, e=f", [challenge("a", b="c", e="f")]),
        ("A b=c; d=e, f=g", [challenge("a", b="c;", d="e", f="g")]),
        # Nothing to belong to.
        ("a=b, C", [challenge("c")]),
        ("=, @, A", [challenge("a")]),
        ("\xe4 a=b, C", [challenge("c")]),
        # Strings without an end take what follows with them.
        ('A b=c, d="e, F', [challenge("a", b="c")]),
        ('A b=c, d="e\\", F', [challenge("a", b="c")]),
        ('A b=c, d="e\\', [challenge("a", b="c")]),
        ('A "b', []),
        ('"', []),
        ('"\\', []),
        ("\x00, A", [challenge("a")]),
    ],
)
def test_what_is_malformed_is_left_out_and_the_rest_kept(value: str, challenges: list[Challenge]) -> None:
    assert parse_challenges([value, "Next"]) == [*challenges, challenge("next")]


def test_a_giant_field_is_not_read_and_the_others_are() -> None:
    largest = "A " + "b" * (MAX_FIELD_CHARACTERS - 2)
    assert parse_challenges([largest + "b", "B"]) == [challenge("b")]
    assert parse_challenges([largest, "B"]) == [challenge("a", largest[2:]), challenge("b")]


@pytest.mark.parametrize("fields", [["A," * 1000], ["A"] * 1000, ["A,B," * 20] * 50])
def test_more_challenges_than_anybody_means_are_not_read(fields: list[str]) -> None:
    assert len(parse_challenges(fields)) == MAX_CHALLENGES


@pytest.mark.parametrize(
    "piece",
    [
        *("A ", "A b", "A=", 'A="', 'a="\\', '="', '"', "\\", ",", " ", "\t, "),
        *("a=b ", "a=b,", "A b=c ", '"a" ', "= ", "==", "\xe4"),
    ],
)
def test_no_field_takes_long(piece: str) -> None:
    field = (piece * MAX_FIELD_CHARACTERS)[:MAX_FIELD_CHARACTERS]
    start = time.process_time()
    for value in (field, f"A {field}"[:MAX_FIELD_CHARACTERS], f'A b="{field}'[:MAX_FIELD_CHARACTERS]):
        parse_challenges([value])
        parse_parameters(value)
    # What goes back over what it has read takes minutes.
    assert time.process_time() - start < 2


# Lists of parameters


@pytest.mark.parametrize(
    ("value", "parameters"),
    [
        ("", {}),
        ('nextnonce="a b", nc=00000001', {"nextnonce": "a b", "nc": "00000001"}),
        (', NextNonce = "\\"" ,, qop=auth', {"nextnonce": '"', "qop": "auth"}),
        ("a=1, A=2", {"a": "1"}),
        ('a=b, c, "d, e=f", g=h', {"a": "b", "g": "h"}),
        ('a=b, c="d', {"a": "b"}),
        ("Digest a=b, c=d", {"c": "d"}),
        pytest.param("a=" + "b" * MAX_FIELD_CHARACTERS, {}, id="giant"),
    ],
)
def test_a_list_of_parameters(value: str, parameters: dict[str, str]) -> None:
    assert parse_parameters(value) == parameters


# Whatever is sent


_alphabet = st.text(st.sampled_from('aB1 \t,="\\+/\xe4\n\x00'))


@given(st.lists(st.one_of(st.text(), _alphabet)))
def test_no_text_makes_it_fail(values: list[str]) -> None:
    for scheme, token68, parameters in parse_challenges(values):
        assert scheme == scheme.lower() != ""
        assert token68 is None or not parameters
        assert all(name == name.lower() != "" for name in parameters)
    for value in values:
        parse_parameters(value)


_token = st.text("abcdefghijklmnopqrstuvwxyz0123456789-*!", min_size=1)
_token68 = st.from_regex(r"[A-Za-z0-9._~+/-]+={0,2}", fullmatch=True)
_parameters = st.dictionaries(_token, st.text(st.characters(exclude_categories=["Cs"])))
_challenges = st.builds(Challenge, _token, st.none(), _parameters) | st.builds(Challenge, _token, _token68, st.just({}))


def quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def written(one: Challenge) -> str:
    parameters = ", ".join(f"{name}={quoted(value)}" for name, value in one.parameters.items())
    return " ".join(part for part in (one.scheme, one.token68, parameters) if part)


@given(st.lists(_challenges, max_size=10), st.sampled_from([", ", ",", " , ,\t"]))
def test_challenges_that_were_written_are_read_back(challenges: list[Challenge], separator: str) -> None:
    assert parse_challenges([separator.join(map(written, challenges))]) == challenges
    assert parse_challenges(map(written, challenges)) == challenges


@given(_parameters)
def test_parameters_that_were_written_are_read_back(parameters: dict[str, str]) -> None:
    assert parse_parameters(", ".join(f"{name}={quoted(value)}" for name, value in parameters.items())) == parameters


# Basic


@pytest.mark.parametrize(
    ("username", "password", "credentials"),
    [
        # RFC 7617, 2 and 2.1.
        ("Aladdin", "open sesame", "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="),
        ("test", "123\xa3", "Basic dGVzdDoxMjPCow=="),
        ("", "", "Basic Og=="),
        ("a", "b:c", "Basic YTpiOmM="),
    ],
)
def test_basic_credentials(username: str, password: str, credentials: str) -> None:
    assert basic(username, password) == credentials


def test_basic_credentials_are_composed() -> None:
    assert b64decode(basic("a\u0308", "o\u0308").removeprefix("Basic ")) == "\xe4:\xf6".encode()


def test_basic_credentials_stay_on_one_line() -> None:
    assert "\n" not in basic("u" * 1000, "p" * 1000)


@pytest.mark.parametrize(
    ("username", "password", "said"),
    [
        ("se:cret", "x", "username: Basic authentication has no way to send one with a colon"),
        ("x", "secret\ud800", "password: has a lone surrogate and cannot be encoded"),
        ("secret\udfff", "x", "username: has a lone surrogate and cannot be encoded"),
        (b"secret", "x", "username: takes a str, not bytes"),
        ("x", None, "password: takes a str, not NoneType"),
    ],
)
def test_basic_credentials_that_cannot_be_sent(username: str, password: str, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        basic(username, password)
    assert str(caught.value) == said
    assert caught.value.__cause__ is None
