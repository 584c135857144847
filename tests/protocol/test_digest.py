"""Digest: the examples of RFC 7616, 2617 and 2069, a verifier of our own, and servers that go on for ever."""

from __future__ import annotations

import hashlib
import re
from typing import Any
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiosock.errors import UsageError
from aiosock.protocol.challenge import Challenge, parse_challenges
from aiosock.protocol.digest import MAX_FRUITLESS, MAX_VALUE_CHARACTERS, Answer, Digest


def challenge(**parameters: str) -> Challenge:
    return Challenge("digest", None, {"realm": "r", "nonce": "n", **parameters})


def challenged(*offers: Challenge, username: str = "u", password: str = "p") -> Digest:
    digest = Digest(username, password)
    assert digest.challenged(list(offers))
    return digest


def answer(digest: Digest, cnonce: str = "c", body: bytes | None = b"", uri: str = "/") -> str:
    value = digest.authorization("GET", uri, cnonce, body)
    assert value is not None
    return value


def read(value: str) -> dict[str, str]:
    [one] = parse_challenges([value])
    assert one.scheme == "digest"
    return one.parameters


# The standards' examples


EXAMPLE_7616 = (
    'Digest realm="http-auth@example.org", qop="auth, auth-int", algorithm={}, '
    'nonce="7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v", opaque="FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS"'
)


@pytest.mark.parametrize(
    ("offered", "algorithm", "response"),
    [
        (["MD5"], "MD5", "8ca523f5e9506fed4657c9700eebdbec"),
        (["SHA-256"], "SHA-256", "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"),
        (["SHA-256", "MD5"], "SHA-256", "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"),
    ],
)
def test_the_example_with_sha_256_and_md5(offered: list[str], algorithm: str, response: str) -> None:
    digest = Digest("Mufasa", "Circle of Life")
    assert digest.challenged(parse_challenges(EXAMPLE_7616.format(name) for name in offered))
    value = digest.authorization("GET", "/dir/index.html", "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ")
    assert value == (
        'Digest username="Mufasa", realm="http-auth@example.org", '
        'nonce="7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v", uri="/dir/index.html", '
        f'response="{response}", algorithm={algorithm}, opaque="FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS", '
        'qop=auth, nc=00000001, cnonce="f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ"'
    )


def test_the_example_with_sha_512_256_and_a_hashed_name() -> None:
    digest = Digest("J\xe4s\xf8n Doe", "Secret, or not?")
    field = (
        'Digest realm="api@example.org", qop="auth", algorithm=SHA-512-256, '
        'nonce="5TsQWLVdgBdmrQ0XsxbDODV+57QdFR34I9HAbC/RVvkK", '
        'opaque="HRPCssKJSGjCrkzDg8OhwpzCiGPChXYjwrI2QmXDnsOS", charset=UTF-8, userhash=true'
    )
    assert digest.challenged(parse_challenges([field]))
    value = digest.authorization("GET", "/doe.json", "NTg6RKcb9boFIAS3KrFK9BGeh+iDa/sm6jUMp2wds69v")
    assert value is not None
    fields = read(value)
    # As erratum 4897 has them: what is printed was made with another hash.
    assert fields["username"] == "793263caabb707a56211940d90411ea4a575adeccb7e360aeb624ed06ece9b0b"
    assert fields["response"] == "3798d4131c277846293534c3edc11bd8a5e4cdcbff78b05db9d95eeb1cec68a5"
    assert "userhash=true" in value
    assert "username*" not in value


def test_the_example_of_rfc_2617() -> None:
    digest = Digest("Mufasa", "Circle Of Life")
    field = (
        'Digest realm="testrealm@host.com", qop="auth,auth-int", nonce="dcd98b7102dd2f0e8b11d0f600bfb0c093", '
        'opaque="5ccc069c403ebaf9f0171e9517f40e41"'
    )
    assert digest.challenged(parse_challenges([field]))
    assert digest.authorization("GET", "/dir/index.html", "0a4f113b") == (
        'Digest username="Mufasa", realm="testrealm@host.com", nonce="dcd98b7102dd2f0e8b11d0f600bfb0c093", '
        'uri="/dir/index.html", response="6629fae49393a05397450978507c4ef1", '
        'opaque="5ccc069c403ebaf9f0171e9517f40e41", qop=auth, nc=00000001, cnonce="0a4f113b"'
    )


def test_the_example_of_rfc_2069() -> None:
    digest = Digest("Mufasa", "CircleOfLife")
    field = 'Digest realm="testrealm@host.com", nonce="dcd98b7102dd2f0e8b11d0f600bfb0c093"'
    assert digest.challenged(parse_challenges([field]))
    # As its erratum corrects the response.
    assert digest.authorization("GET", "/dir/index.html", "unused") == (
        'Digest username="Mufasa", realm="testrealm@host.com", nonce="dcd98b7102dd2f0e8b11d0f600bfb0c093", '
        'uri="/dir/index.html", response="1949323746fe6a43ef61f9606e7febea"'
    )


# Whatever a server offers is answered so that a server takes it


HASHES = {"MD5": "md5", "SHA-256": "sha256", "SHA-512-256": "sha512_256"}


def verify(value: str, method: str, body: bytes, username: str, password: str) -> None:
    """As a server does: with what the field says, and with what is known of the user."""
    fields = {name: text.encode("latin-1") for name, text in read(value).items()}
    algorithm = fields.get("algorithm", b"MD5").decode().upper()

    def hashed(*parts: bytes) -> bytes:
        name = HASHES[algorithm.removesuffix("-SESS")]
        return hashlib.new(name, b":".join(parts)).hexdigest().encode()

    user = username.encode()
    if fields.get("userhash") == b"true":
        assert fields["username"] == hashed(user, fields["realm"])
    elif "username*" in fields:
        charset, language, text = fields["username*"].decode().split("'")
        assert (charset, language, unquote(text)) == ("UTF-8", "", username)
    else:
        assert fields["username"] == user
    a1 = hashed(user, fields["realm"], password.encode())
    if algorithm.endswith("-SESS"):
        a1 = hashed(a1, fields["nonce"], fields["cnonce"])
    a2 = [method.encode(), fields["uri"]]
    if fields.get("qop") == b"auth-int":
        a2.append(hashed(body))
    middle = [fields[name] for name in ("nc", "cnonce", "qop")] if "qop" in fields else []
    assert fields["response"] == hashed(a1, fields["nonce"], *middle, hashed(*a2))


_text = st.text(st.characters(codec="latin-1", exclude_categories=["Cc"]), max_size=20)
_name = st.text(st.characters(exclude_categories=["Cs", "Mn", "Mc", "Lo", "So", "Sm"]), max_size=20)
_offers = st.fixed_dictionaries(
    {"realm": _text, "nonce": _text.filter(bool)},
    optional={
        "opaque": _text,
        "algorithm": st.sampled_from([*HASHES, *(f"{name}-sess" for name in HASHES), "md5", "sha-256-SESS"]),
        "qop": st.sampled_from(["auth", "auth-int", "auth, auth-int", "AUTH-INT,auth", "x, auth", ""]),
        "userhash": st.sampled_from(["true", "TRUE", "false"]),
        "charset": st.sampled_from(["UTF-8", "utf-8"]),
        "domain": _text,
    },
)


@given(_offers, _name, _name, st.text('/abc?=&%"\\', min_size=1), st.binary(max_size=10))
def test_a_server_takes_the_answer(offer: dict[str, str], username: str, password: str, uri: str, body: bytes) -> None:
    import unicodedata

    username, password = (unicodedata.normalize("NFC", text) for text in (username, password))
    digest = Digest(username, password)
    assert digest.challenged([Challenge("digest", None, offer)])
    for count in (1, 2):
        value = digest.authorization("POST", uri, f"cnonce{count}", body)
        assert value is not None
        verify(value, "POST", body, username, password)
        fields = read(value)
        assert fields["uri"] == uri
        assert fields.get("opaque") == offer.get("opaque")
        assert fields.get("nc", f"{count:08x}") == f"{count:08x}"
        assert fields.get("qop", "auth") == ("auth-int" if offer.get("qop") == "auth-int" else "auth")
        # It goes on the wire as it is.
        value.encode("latin-1")


# Which offer is taken


@pytest.mark.parametrize(
    ("algorithms", "taken"),
    [
        (["MD5", "SHA-256", "SHA-512-256"], "SHA-512-256"),
        (["SHA-512-256", "SHA-256", "MD5"], "SHA-512-256"),
        (["MD5-sess", "SHA-256-sess", "MD5"], "SHA-256-sess"),
        (["MD5", "MD5-sess"], "MD5"),
        (["MD5-sess", "MD5"], "MD5-sess"),
        (["SHA-1", "MD5", "SHA-512"], "MD5"),
        (["mD5", "sHa-256"], "sHa-256"),
    ],
)
def test_the_strongest_is_taken_and_of_equals_the_first(algorithms: list[str], taken: str) -> None:
    digest = challenged(*(challenge(algorithm=name) for name in algorithms))
    assert read(answer(digest))["algorithm"] == taken


def test_an_algorithm_that_python_was_built_without_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    new = hashlib.new

    def without(name: str, *args: Any, **options: Any) -> Any:
        if name == "sha512_256":
            raise ValueError("unsupported hash type sha512_256")
        return new(name, *args, **options)

    monkeypatch.setattr(hashlib, "new", without)
    offers = [challenge(algorithm="SHA-512-256"), challenge(algorithm="SHA-256")]
    assert read(answer(challenged(*offers)))["algorithm"] == "SHA-256"
    assert not Digest("u", "p").challenged(offers[:1])


@pytest.mark.parametrize(
    "offer",
    [
        Challenge("basic", None, {"realm": "r", "nonce": "n"}),
        Challenge("digest", None, {}),
        Challenge("digest", "token68", {}),
        Challenge("digest", None, {"realm": "r"}),
        Challenge("digest", None, {"nonce": "n"}),
        challenge(nonce=""),
        challenge(algorithm="SHA-1"),
        challenge(algorithm="SHA-256-sess-sess"),
        challenge(algorithm="-sess"),
        challenge(qop="auth-conf"),
        challenge(qop="authint, x"),
        challenge(realm="a\r\nb"),
        challenge(nonce="a\0b"),
        challenge(opaque="a\x7fb"),
        *(challenge(**{name: "x" * (MAX_VALUE_CHARACTERS + 1)}) for name in ("realm", "nonce", "opaque")),
    ],
)
def test_an_offer_that_cannot_be_answered(offer: Challenge) -> None:
    digest = Digest("u", "p")
    assert not digest.challenged([offer])
    assert digest.authorization("GET", "/", "c") is None
    assert digest.challenged([offer, challenge(opaque="good")])
    assert read(answer(digest))["opaque"] == "good"


@pytest.mark.parametrize("qop", ["", " , "])
def test_an_empty_qop_is_none(qop: str) -> None:
    assert "qop" not in read(answer(challenged(challenge(qop=qop))))


def test_an_empty_algorithm_is_none() -> None:
    assert "algorithm" not in read(answer(challenged(challenge(algorithm=""))))


def test_the_body_is_protected_only_where_nothing_else_is_offered() -> None:
    assert read(answer(challenged(challenge(qop="auth-int, auth")), body=None))["qop"] == "auth"
    insisting = challenged(challenge(qop="auth-int"))
    with pytest.raises(UsageError, match="auth: the server takes Digest only with the body protected"):
        insisting.authorization("POST", "/", "c")
    assert insisting.answer is None
    none, some = (read(answer(insisting, body=body)) for body in (b"", b"x"))
    assert none["qop"] == some["qop"] == "auth-int"
    assert (none["nc"], some["nc"]) == ("00000001", "00000002")


# Names and quotes


@pytest.mark.parametrize(
    ("username", "parameters", "field"),
    [
        ("user", {}, 'username="user"'),
        ("user", {"charset": "UTF-8"}, 'username="user"'),
        ('a"b\\c', {}, r'username="a\"b\\c"'),
        # RFC 7616, 3.4.
        ("J\xe4s\xf8n Doe", {"charset": "UTF-8"}, "username*=UTF-8''J%C3%A4s%C3%B8n%20Doe"),
        ("Ja\u0308son", {"charset": "UTF-8"}, "username*=UTF-8''J%C3%A4son"),
        ("J\xe4s", {}, 'username="J\xc3\xa4s"'),
        ("\u20ac", {"charset": "latin-1"}, 'username="\xe2\x82\xac"'),
        ("a\r\nX: y", {}, "username*=UTF-8''a%0D%0AX%3A%20y"),
        ("a\tb", {}, 'username="a\tb"'),
        ("", {}, 'username=""'),
    ],
)
def test_how_the_user_is_named(username: str, parameters: dict[str, str], field: str) -> None:
    value = answer(challenged(challenge(**parameters), username=username))
    assert value.startswith(f"Digest {field}, realm=")
    assert "userhash" not in value


def test_what_a_server_says_is_quoted() -> None:
    value = answer(challenged(challenge(realm='a"b', nonce="c\\", opaque='", uri="/x')), uri='/"')
    assert 'realm="a\\"b", nonce="c\\\\", uri="/\\""' in value
    assert 'opaque="\\", uri=\\"/x"' in value


def test_text_that_no_field_can_hold_is_sent_in_utf_8() -> None:
    value = answer(challenged(challenge(realm="\u20ac")))
    assert 'realm="\xe2\x82\xac"' in value
    verify(value, "GET", b"", "u", "p")


@pytest.mark.parametrize("arguments", [("u\ud800", "p"), ("u", "secret\ud800"), (b"u", "p"), ("u", None)])
def test_credentials_that_cannot_be_encoded(arguments: Any) -> None:
    with pytest.raises(UsageError) as caught:
        Digest(*arguments)
    assert "secret" not in str(caught.value)


def test_what_it_shows_of_itself() -> None:
    digest = challenged(challenge(), username="who", password="secret")
    answer(digest)
    assert repr(digest) == "<Digest>"


# Counting


def test_each_nonce_is_counted_for_itself() -> None:
    digest = challenged(challenge(qop="auth"))
    assert [read(answer(digest))["nc"] for _ in range(17)][-2:] == ["00000010", "00000011"]
    assert digest.challenged([challenge(qop="auth", nonce="other", stale="true")])
    assert read(answer(digest))["nc"] == "00000001"
    # Somebody else was challenged too, with the same nonce.
    assert digest.challenged([challenge(qop="auth", nonce="other")], None)
    assert read(answer(digest))["nc"] == "00000002"


def test_the_next_nonce() -> None:
    digest = challenged(challenge(qop="auth"))
    answer(digest)
    digest.informed('qop=auth, nextnonce="next \\" nonce", rspauth="x"')
    fields = read(answer(digest))
    assert (fields["nonce"], fields["nc"]) == ('next " nonce', "00000001")
    digest.informed('nextnonce="next \\" nonce"')
    assert read(answer(digest))["nc"] == "00000002"


@pytest.mark.parametrize(
    "value",
    [
        "",
        "nextnonce",
        'nextnonce=""',
        "x=y",
        pytest.param('nextnonce="a\0"', id="NUL"),
        pytest.param(f"nextnonce={'x' * 5000}", id="long"),
    ],
)
def test_what_is_no_next_nonce_is_ignored(value: str) -> None:
    digest = challenged(challenge(qop="auth"))
    answer(digest)
    digest.informed(value)
    fields = read(answer(digest))
    assert (fields["nonce"], fields["nc"]) == ("n", "00000002")


def test_a_next_nonce_without_a_challenge_is_ignored() -> None:
    digest = Digest("u", "p")
    digest.informed("nextnonce=n")
    assert digest.authorization("GET", "/", "c") is None
    assert digest.challenged([challenge(qop="auth")])


def test_a_session_keeps_its_client_nonce_and_others_do_not() -> None:
    for algorithm, expected in (("MD5-sess", ["a", "a", "c"]), ("MD5", ["a", "b", "c"])):
        digest = challenged(challenge(qop="auth", algorithm=algorithm))
        seen = [read(answer(digest, cnonce))["cnonce"] for cnonce in ("a", "b")]
        digest.informed("nextnonce=next")
        assert [*seen, read(answer(digest, "c"))["cnonce"]] == expected


def test_a_session_without_qop_tells_its_client_nonce_all_the_same() -> None:
    value = answer(challenged(challenge(algorithm="SHA-256-sess")))
    assert read(value)["cnonce"] == "c"
    verify(value, "GET", b"", "u", "p")


# Refused


def test_credentials_that_are_refused_are_not_sent_again() -> None:
    for parameters in ({}, {"nonce": "other"}, {"nonce": "other", "stale": "false"}, {"stale": "true"}):
        digest = challenged(challenge())
        answer(digest)
        assert not digest.challenged([challenge(**parameters)])
        assert digest.authorization("GET", "/", "c") is None


def test_after_a_refusal_the_next_challenge_is_answered_as_if_it_were_the_first() -> None:
    digest = challenged(challenge(qop="auth"))
    answer(digest)
    assert not digest.challenged([challenge(qop="auth")])
    assert digest.challenged([challenge(qop="auth")])
    # The server knows this nonce; what it has counted goes on.
    assert read(answer(digest))["nc"] == "00000002"


def test_a_challenge_that_nobody_answered_refuses_nothing() -> None:
    digest = challenged(challenge())
    assert digest.challenged([challenge()])
    assert digest.authorization("GET", "/", "c") is not None


@pytest.mark.parametrize("stale", ["true", "TRUE"])
def test_a_stale_nonce_is_replaced(stale: str) -> None:
    digest = challenged(challenge())
    answer(digest)
    assert digest.challenged([challenge(nonce="fresh", stale=stale)])
    assert read(answer(digest))["nonce"] == "fresh"


def test_another_realm_is_another_question() -> None:
    digest = challenged(challenge())
    answer(digest)
    assert digest.challenged([challenge(realm="other")])
    assert read(answer(digest))["realm"] == "other"


def test_a_nonce_that_was_good_may_have_had_its_time_without_a_word() -> None:
    digest = challenged(challenge())
    answer(digest)
    answer(digest)
    assert digest.challenged([challenge(nonce="second")])
    answer(digest)
    assert not digest.challenged([challenge(nonce="third")])
    # One that was given ahead counts as good.
    digest = challenged(challenge())
    answer(digest)
    digest.informed("nextnonce=given")
    answer(digest)
    assert digest.challenged([challenge(nonce="second")])


def test_others_that_were_challenged_at_the_same_time_are_answered_too() -> None:
    digest = Digest("u", "p")
    answers = []
    for nonce in ("one", "two", "three"):
        assert digest.challenged([challenge(nonce=nonce)], None)
        assert read(answer(digest))["nonce"] == nonce
        answers.append(digest.answer)
    assert answers == [Answer("r", nonce, False) for nonce in ("one", "two", "three")]
    # Each of them may be told that its nonce is stale, though it is not the last one.
    assert digest.challenged([challenge(nonce="three", stale="true")], answers[0])
    assert not digest.challenged([challenge(nonce="four")], answers[1])


@pytest.mark.parametrize("what", ["stale", "realm"])
def test_a_server_that_is_never_content(what: str) -> None:
    digest = challenged(challenge())
    answers = 0
    while True:
        answer(digest)
        answers += 1
        changed = {"stale": "true"} if what == "stale" else {"realm": f"r{answers}"}
        if not digest.challenged([challenge(nonce=f"n{answers}", **changed)]):
            break
    assert answers == MAX_FRUITLESS + 1


def test_nonces_that_were_good_may_go_stale_for_ever() -> None:
    digest = challenged(challenge())
    for number in range(50):
        answer(digest)
        answer(digest)
        assert digest.challenged([challenge(nonce=str(number), stale="true")])


_names = ["realm", "nonce", "opaque", "algorithm", "qop", "stale", "charset", "userhash", "domain"]
_parameters = st.dictionaries(st.sampled_from(_names), st.text())
_lists = st.lists(st.builds(Challenge, st.just("digest"), st.none(), _parameters))


@given(_lists, st.text())
def test_nothing_that_a_server_says_makes_it_fail(challenges: list[Challenge], info: str) -> None:
    digest = Digest("u", "p")
    assert digest.challenged(challenges) == (digest.authorization("GET", "/", "c", b"") is not None)
    digest.informed(info)
    value = digest.authorization("GET", "/", "c", b"")
    assert value is None or re.search(r"[\x00-\x08\x0a-\x1f\x7f]", value.encode("latin-1").decode("latin-1")) is None
