"""
Addresses in words.
"""

from __future__ import annotations

from aiosock.network.address import format_address


def test_addresses_are_formatted_as_in_urls() -> None:
    assert format_address("192.0.2.1", 80) == "192.0.2.1:80"
    assert format_address("2001:db8::1", 443) == "[2001:db8::1]:443"
    assert format_address("fe80::1%eth0", 1) == "[fe80::1%eth0]:1"
