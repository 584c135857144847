"""SOCKS 4, 4a and 5 in bytes."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations, pairwise

import pytest

from aiosock.errors import AiosockError, LocalProtocolError, ProxyError, RemoteProtocolError
from aiosock.protocol.socks import Handshake, Version

AUTH = ("user", "pass")
BOUND = b"\x05\x00\x00\x01\x7f\x00\x00\x01\x04\x38"


def asked(handshake: Handshake) -> Handshake:
    """Bring a SOCKS5 handshake without authentication to where the reply is due."""
    handshake.begin()
    if not handshake.asked:
        handshake.receive_data(b"\x05\x00")
    return handshake


# What is sent


@pytest.mark.parametrize(
    ("version", "host", "auth", "expected"),
    [
        ("socks4", "192.0.2.7", None, b"\x04\x01\x01\xbb\xc0\x00\x02\x07\x00"),
        ("socks4", "192.0.2.7", ("me", ""), b"\x04\x01\x01\xbb\xc0\x00\x02\x07me\x00"),
        ("socks4a", "192.0.2.7", None, b"\x04\x01\x01\xbb\xc0\x00\x02\x07\x00"),
        ("socks4a", "a.example", None, b"\x04\x01\x01\xbb\x00\x00\x00\x01\x00a.example\x00"),
        ("socks4a", "a.example", ("me", ""), b"\x04\x01\x01\xbb\x00\x00\x00\x01me\x00a.example\x00"),
        ("socks5", "192.0.2.7", None, b"\x05\x01\x00\x01\xc0\x00\x02\x07\x01\xbb"),
        ("socks5", "2001:db8::7", None, b"\x05\x01\x00\x04\x20\x01\x0d\xb8" + bytes(11) + b"\x07\x01\xbb"),
        ("socks5", "fe80::7%eth0", None, b"\x05\x01\x00\x04\xfe\x80" + bytes(13) + b"\x07\x01\xbb"),
        ("socks5", "a.example", None, b"\x05\x01\x00\x03\x09a.example\x01\xbb"),
        ("socks5", "a" * 255, None, b"\x05\x01\x00\x03\xff" + b"a" * 255 + b"\x01\xbb"),
    ],
)
def test_each_version_asks_in_its_own_way(
    version: Version, host: str, auth: tuple[str, str] | None, expected: bytes
) -> None:
    handshake = Handshake(version, host, 443, auth)
    data = handshake.begin()
    if version == "socks5":
        assert data == b"\x05\x01\x00"
        assert not handshake.asked
        data = handshake.receive_data(b"\x05\x00")
    assert data == expected
    assert handshake.asked
    assert not handshake.done


def test_user_and_password_are_sent_when_the_proxy_wants_them() -> None:
    handshake = Handshake("socks5", "a.example", 80, ("usér", "pass"))
    assert handshake.begin() == b"\x05\x02\x00\x02"
    assert handshake.receive_data(b"\x05\x02") == b"\x01\x05us\xc3\xa9r\x04pass"
    assert not handshake.asked
    assert handshake.receive_data(b"\x01\x00") == b"\x05\x01\x00\x03\x09a.example\x00\x50"
    assert handshake.receive_data(BOUND) == b""
    assert handshake.done


@pytest.mark.parametrize(("user", "password"), [("u" * 255, "p" * 255), ("", "p"), ("u", ""), ("", "")])
def test_user_and_password_may_be_as_long_as_a_byte_can_count(user: str, password: str) -> None:
    handshake = Handshake("socks5", "a" * 255, 80, (user, password))
    handshake.begin()
    sent = handshake.receive_data(b"\x05\x02")
    assert sent == bytes([1, len(user)]) + user.encode() + bytes([len(password)]) + password.encode()
    assert handshake.receive_data(b"\x01\x00") == b"\x05\x01\x00\x03\xff" + b"a" * 255 + b"\x00\x50"


def test_user_and_password_are_not_sent_when_the_proxy_wants_none() -> None:
    handshake = Handshake("socks5", "a.example", 80, AUTH)
    handshake.begin()
    assert handshake.receive_data(b"\x05\x00") == b"\x05\x01\x00\x03\x09a.example\x00\x50"


@pytest.mark.parametrize(
    ("version", "host", "auth", "words"),
    [
        ("socks4", "a.example", None, "takes no names"),
        ("socks4", "::1", None, "no IPv6"),
        ("socks4a", "::1", None, "no IPv6"),
        ("socks4", "192.0.2.7", ("m\0e", ""), "NUL"),
        ("socks4a", "a\0.example", None, "NUL"),
        ("socks4a", "bücher.example", None, "ASCII"),
        ("socks5", "bücher.example", None, "ASCII"),
        ("socks5", "a" * 256, None, "at most 255"),
        ("socks5", "a.example", ("u" * 256, ""), "at most 255"),
        ("socks5", "a.example", ("", "é" * 128), "at most 255"),
    ],
)
def test_what_cannot_be_said_is_refused(version: Version, host: str, auth: tuple[str, str] | None, words: str) -> None:
    with pytest.raises(LocalProtocolError, match=words):
        Handshake(version, host, 80, auth)


# What is received


@pytest.mark.parametrize(
    "reply",
    [BOUND, b"\x05\x00\x00\x04" + bytes(18), b"\x05\x00\x00\x03\x00\x00\x00", b"\x05\x00\xff\x03\x05bound\x00\x00"],
)
def test_a_reply_has_any_type_of_address(reply: bytes) -> None:
    handshake = asked(Handshake("socks5", "a.example", 80))
    assert handshake.receive_data(reply[:-1]) == b""
    assert not handshake.done
    assert handshake.receive_data(reply[-1:]) == b""
    assert handshake.done


REFUSALS_5 = {
    1: "general failure",
    2: "not allowed",
    3: "network is unreachable",
    4: "host is unreachable",
    5: "refused",
    6: "TTL expired",
    7: "command",
    8: "type of address",
    9: "unknown code 9",
    255: "unknown code 255",
}


@pytest.mark.parametrize("code", REFUSALS_5)
def test_each_refusal_of_socks_5_has_its_words(code: int) -> None:
    handshake = asked(Handshake("socks5", "a.example", 80))
    with pytest.raises(ProxyError, match=REFUSALS_5[code]):
        handshake.receive_data(bytes([5, code]))
    assert handshake.state == "failed"
    assert handshake.asked


@pytest.mark.parametrize(("code", "words"), [(91, "rejected"), (92, "identd"), (93, "user"), (1, "unknown code 1")])
def test_each_refusal_of_socks_4_has_its_words(code: int, words: str) -> None:
    handshake = asked(Handshake("socks4", "192.0.2.7", 80))
    with pytest.raises(ProxyError, match=words):
        handshake.receive_data(bytes([0, code]))


def test_a_grant_of_socks_4_has_eight_bytes() -> None:
    handshake = asked(Handshake("socks4", "192.0.2.7", 80))
    handshake.receive_data(b"\x00\x5a" + bytes(5))
    assert not handshake.done
    handshake.receive_data(b"\x00")
    assert handshake.done


@pytest.mark.parametrize(
    ("auth", "said", "error", "words"),
    [
        (None, b"\x05\xff", ProxyError, "demands user name and password"),
        (AUTH, b"\x05\xff", ProxyError, "takes neither"),
        (AUTH, b"\x05\x02\x01\x01", ProxyError, "refuses this user name and password"),
        (None, b"\x05\x02", RemoteProtocolError, "method 2, which was not offered"),
        (AUTH, b"\x05\x01", RemoteProtocolError, "method 1, which was not offered"),
        (None, b"H", RemoteProtocolError, "not SOCKS5: it begins with b'H'"),
        (None, b"\x05\x00H", RemoteProtocolError, "not SOCKS5"),
        (None, b"\x05\x00\x05\x00\x00\x02\x00", RemoteProtocolError, "unknown type 2"),
        (None, b"\x05\x00" + BOUND + b"ab", RemoteProtocolError, "2 bytes came after its reply"),
        (None, b"\x05\x00", RemoteProtocolError, "closed the connection"),
    ],
)
def test_what_goes_wrong_is_told(
    auth: tuple[str, str] | None, said: bytes, error: type[AiosockError], words: str
) -> None:
    handshake = Handshake("socks5", "a.example", 80, auth)
    handshake.begin()
    with pytest.raises(error, match=words):
        handshake.receive_data(said)
        handshake.receive_data(b"")
    with pytest.raises(LocalProtocolError, match="failed"):
        handshake.receive_data(b"\x05")


def test_an_http_server_is_no_socks_4_proxy() -> None:
    with pytest.raises(RemoteProtocolError, match="not SOCKS4A: it begins with b'HTTP/1.1 400 Bad"):
        asked(Handshake("socks4a", "a.example", 80)).receive_data(b"HTTP/1.1 400 Bad Request\r\n\r\n")


def test_after_the_reply_nothing_is_taken() -> None:
    handshake = asked(Handshake("socks4", "192.0.2.7", 80))
    handshake.receive_data(b"\x00\x5a" + bytes(6))
    with pytest.raises(RemoteProtocolError, match="1 bytes came after"):
        handshake.receive_data(b"x")


def test_it_begins_once_and_first() -> None:
    handshake = Handshake("socks5", "a.example", 80)
    with pytest.raises(LocalProtocolError, match="idle"):
        handshake.receive_data(b"\x05")
    handshake.begin()
    with pytest.raises(LocalProtocolError, match="once"):
        handshake.begin()


# Any cut


def pieces(data: bytes) -> Iterator[list[bytes]]:
    """Cut in every way into up to three pieces, and into single bytes."""
    for count in range(3):
        for cuts in combinations(range(1, len(data)), count):
            bounds = (0, *cuts, len(data))
            yield [data[start:end] for start, end in pairwise(bounds)]
    yield [bytes([byte]) for byte in data]


def outcome(version: Version, auth: tuple[str, str] | None, chunks: list[bytes]) -> tuple[bytes, str]:
    handshake = Handshake(version, "192.0.2.7", 80, auth)
    sent = handshake.begin()
    try:
        for chunk in chunks:
            sent += handshake.receive_data(chunk)
    except AiosockError as error:
        return b"", type(error).__name__
    return sent, handshake.state


@pytest.mark.parametrize(
    ("version", "auth", "said"),
    [
        ("socks4", None, b"\x00\x5a" + bytes(6)),
        ("socks4", None, b"\x00\x5a" + bytes(7)),
        ("socks4", None, b"\x00\x5b" + bytes(6)),
        ("socks5", None, b"\x05\x00" + BOUND),
        ("socks5", None, b"\x05\x00" + BOUND + b"x"),
        ("socks5", AUTH, b"\x05\x02\x01\x00" + BOUND),
        ("socks5", AUTH, b"\x05\x02\x01\x01" + BOUND),
        ("socks5", None, b"\x05\x00\x05\x00\x00\x03\x05bound\x00\x00"),
        ("socks5", None, b"\x05\x00\x05\x05\x00\x01"),
        ("socks5", None, b"\x05\x00\x05\x00\x00\x09\x00\x00"),
    ],
)
def test_however_it_is_cut_the_outcome_is_the_same(version: Version, auth: tuple[str, str] | None, said: bytes) -> None:
    # What comes after a failure is not looked at, as nobody reads any more.
    expected = outcome(version, auth, [said])
    for chunks in pieces(said):
        assert outcome(version, auth, chunks) == expected, chunks
