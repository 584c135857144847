"""
Addresses in words.
"""

from __future__ import annotations

import pytest

from aiosock.network.address import format_address, format_socket_name, is_address


def test_addresses_are_formatted_as_in_urls() -> None:
    assert format_address("192.0.2.1", 80) == "192.0.2.1:80"
    assert format_address("2001:db8::1", 443) == "[2001:db8::1]:443"
    assert format_address("fe80::1%eth0", 1) == "[fe80::1%eth0]:1"


def test_names_of_sockets_of_all_kinds_are_shown() -> None:
    assert format_socket_name(("192.0.2.1", 80)) == "192.0.2.1:80"
    assert format_socket_name(("2001:db8::1", 443, 0, 3)) == "[2001:db8::1]:443"
    assert format_socket_name("/run/socket") == "/run/socket"
    assert format_socket_name(b"\0abstract\xff") == "\0abstract\ufffd"


@pytest.mark.parametrize(
    "host", ["192.0.2.1", "0.0.0.0", "::", "2001:db8::1", "::ffff:192.0.2.1", "fe80::1%eth0", "fe80::1%3"]
)
def test_an_address_needs_no_look_up(host: str) -> None:
    assert is_address(host)


@pytest.mark.parametrize(
    "host",
    [
        "",
        "localhost",
        "127.1",
        "127.0.0.01",
        "0x7f.0.0.1",
        "2130706433",
        "192.0.2.1 ",
        "192.0.2.1%eth0",
        "[::1]",
        "::1%",
        "::1%a\0",
        "\u0661.0.0.1",
    ],
    ids=ascii,
)
def test_what_only_a_look_up_would_understand_is_no_address(host: str) -> None:
    assert not is_address(host)
