"""
What an IP address is for: the blocks that are no part of the public Internet, and the IPv4 addresses inside of others.

The table has every row of the IANA IPv4 and IPv6 special-purpose address registries (iana-ipv4-special-registry and
iana-ipv6-special-registry, both as last updated on 2025-10-09; what their columns mean is in RFC 6890 and 8190), also
those that are globally reachable: an anycast address of a protocol leads to the nearest router, and a sink for stray
queries to no website. Two IPv6 rows are left out, since an address of theirs is an IPv4 address in other words, and is
judged as that one (`meanings`): ``::ffff:0:0/96``, which never leaves the machine as IPv6, and ``64:ff9b::/96``, which
DNS64 gives for every website that has no IPv6. Added is what no registry of special purposes lists: multicast, what
was never given out for global unicast, and where cloud providers answer the machines that they host.
"""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

    Address: TypeAlias = IPv4Address | IPv6Address
    Network: TypeAlias = IPv4Network | IPv6Network

_V4_BITS: Final = 32
_LOW_32: Final = 0xFFFF_FFFF
_ISATAP: Final = 0x0000_5EFE
_ISATAP_MASK: Final = 0xFCFF_FFFF
"""Without the bits that tell whether the IPv4 address is unique, and whether a group is meant (RFC 5214, 6.1)."""
_TRANSPARENT: Final = frozenset({0xFFFF, 0x64FF9B << 64})
"""The first 96 bits of ``::ffff:0:0/96`` and ``64:ff9b::/96``, which add nothing to the IPv4 address."""

_PRIVATE: Final = (
    ("10.0.0.0/8", "private use", "RFC 1918"),
    ("100.64.0.0/10", "shared address space", "RFC 6598"),
    ("127.0.0.0/8", "loopback", "RFC 1122, 3.2.1.3"),
    ("172.16.0.0/12", "private use", "RFC 1918"),
    ("192.168.0.0/16", "private use", "RFC 1918"),
    ("::1/128", "loopback", "RFC 4291, 2.5.3"),
    ("fc00::/7", "unique local", "RFC 4193 and 8190"),
)
"""Where one's own services are."""

_METADATA: Final = (
    ("100.80.80.80/32", "a cloud's metadata service", "UCloud"),
    ("100.96.0.96/32", "a cloud's metadata service", "Volcano Engine"),
    ("100.100.100.200/32", "a cloud's metadata service", "Alibaba Cloud"),
    ("168.63.129.16/32", "a cloud's platform service", "Azure"),
    ("169.254.0.23/32", "a cloud's metadata service", "Tencent Cloud"),
    ("169.254.42.42/32", "a cloud's metadata service", "Scaleway"),
    ("169.254.169.252/32", "a cloud's metadata service", "Google Cloud, nodes of clusters"),
    ("169.254.169.254/32", "a cloud's metadata service", "AWS, Azure, Google Cloud and others"),
    ("169.254.170.2/32", "a cloud's metadata service", "AWS, containers"),
    ("169.254.170.23/32", "a cloud's metadata service", "AWS, pods"),
    ("192.0.0.192/32", "a cloud's metadata service", "Oracle Cloud"),
    ("fd00:42::42/128", "a cloud's metadata service", "Scaleway"),
    ("fd00:100::100:200/128", "a cloud's metadata service", "Alibaba Cloud"),
    ("fd00:a9fe:a9fe::1/128", "a cloud's metadata service", "Akamai"),
    ("fd00:c1::a9fe:a9fe/128", "a cloud's metadata service", "Oracle Cloud"),
    ("fd00:ec2::23/128", "a cloud's metadata service", "AWS, pods"),
    ("fd00:ec2::254/128", "a cloud's metadata service", "AWS"),
    ("fd20:ce::254/128", "a cloud's metadata service", "Google Cloud"),
    ("fe80::a9fe:a9fe/128", "a cloud's metadata service", "OpenStack and Akamai"),
)
"""Answers with credentials to whoever asks from inside."""

_OTHERS: Final = (
    ("0.0.0.0/8", "this network", "RFC 791, 3.2"),
    ("0.0.0.0/32", "unspecified", "RFC 1122, 3.2.1.3"),
    ("169.254.0.0/16", "link-local", "RFC 3927"),
    ("192.0.0.0/24", "for protocol assignments", "RFC 6890, 2.1"),
    ("192.0.0.0/29", "for IPv4 service continuity", "RFC 7335"),
    ("192.0.0.8/32", "the IPv4 dummy address", "RFC 7600"),
    ("192.0.0.9/32", "the anycast address of PCP", "RFC 7723"),
    ("192.0.0.10/32", "the anycast address of TURN", "RFC 8155"),
    ("192.0.0.170/32", "for the discovery of NAT64", "RFC 8880 and 7050, 2.2"),
    ("192.0.0.171/32", "for the discovery of NAT64", "RFC 8880 and 7050, 2.2"),
    ("192.0.2.0/24", "for documentation", "RFC 5737"),
    ("192.31.196.0/24", "the sink AS112", "RFC 7535"),
    ("192.52.193.0/24", "for multicast tunnels (AMT)", "RFC 7450"),
    ("192.88.99.0/24", "the anycast block of 6to4 relays", "RFC 7526"),
    ("192.88.99.2/32", "the anycast address of 6a44 relays", "RFC 6751"),
    ("192.175.48.0/24", "the sink AS112", "RFC 7534"),
    ("198.18.0.0/15", "for benchmarking", "RFC 2544"),
    ("198.51.100.0/24", "for documentation", "RFC 5737"),
    ("203.0.113.0/24", "for documentation", "RFC 5737"),
    ("224.0.0.0/4", "multicast", "RFC 5771"),
    ("240.0.0.0/4", "reserved", "RFC 1112, 4"),
    ("255.255.255.255/32", "limited broadcast", "RFC 8190 and 919, 7"),
    ("::/128", "unspecified", "RFC 4291, 2.5.2"),
    ("::/96", "IPv4-compatible", "RFC 4291, 2.5.5.1"),
    ("::ffff:0:0:0/96", "IPv4-translated", "RFC 2765, 2.1"),
    ("64:ff9b:1::/48", "for translation to IPv4 of a network's own", "RFC 8215"),
    ("100::/64", "discard-only", "RFC 6666"),
    ("100:0:0:1::/64", "the IPv6 dummy prefix", "RFC 9780"),
    ("2001::/23", "for protocol assignments", "RFC 2928"),
    ("2001::/32", "Teredo", "RFC 4380 and 8190"),
    ("2001:1::1/128", "the anycast address of PCP", "RFC 7723"),
    ("2001:1::2/128", "the anycast address of TURN", "RFC 8155"),
    ("2001:1::3/128", "the anycast address of DNS-SD registration", "RFC 9665"),
    ("2001:2::/48", "for benchmarking", "RFC 5180"),
    ("2001:3::/32", "for multicast tunnels (AMT)", "RFC 7450"),
    ("2001:4:112::/48", "the sink AS112", "RFC 7535"),
    ("2001:10::/28", "ORCHID, deprecated", "RFC 4843"),
    ("2001:20::/28", "ORCHIDv2", "RFC 7343"),
    ("2001:30::/28", "for drones' identities", "RFC 9374"),
    ("2001:db8::/32", "for documentation", "RFC 3849"),
    ("2002::/16", "6to4", "RFC 3056"),
    ("2620:4f:8000::/48", "the sink AS112", "RFC 7534"),
    ("3fff::/20", "for documentation", "RFC 9637"),
    ("5f00::/16", "for segment routing", "RFC 9602"),
    ("fe80::/10", "link-local", "RFC 4291, 2.5.6"),
    ("fec0::/10", "site-local, deprecated", "RFC 3879"),
    ("ff00::/8", "multicast", "RFC 4291, 2.7"),
    # All that is not 2000::/3.
    ("::/3", "not global unicast", "RFC 4291, 2.4"),
    ("4000::/2", "not global unicast", "RFC 4291, 2.4"),
    ("8000::/1", "not global unicast", "RFC 4291, 2.4"),
)

_ZONES: Final = (
    ("instance-data", "a cloud's metadata service", "AWS", False),
    ("instance-data.ec2.internal", "a cloud's metadata service", "AWS", False),
    ("metadata", "a cloud's metadata service", "Google Cloud", False),
    ("metadata.goog", "a cloud's metadata service", "Google Cloud", False),
    ("metadata.google.internal", "a cloud's metadata service", "Google Cloud", False),
    ("metadata.tencentyun.com", "a cloud's metadata service", "Tencent Cloud", False),
    ("home.arpa", "of a home network", "RFC 8375", True),
    ("internal", "for private use", "ICANN resolution 2024.07.29.06", True),
    ("local", "of the local link", "RFC 6762, 3", True),
    ("localdomain", "loopback", "the hosts file of many systems", True),
    ("localhost", "loopback", "RFC 6761, 6.3", True),
)
"""Names that lead to nothing public, the ones below them included; what tells more comes first."""


class Block(NamedTuple):
    """
    A block of addresses with a purpose of its own.

    Attributes:
        network: Its addresses.
        name: What they are, to go on after "is".
        source: Where that is written.
        private: One's own services may be there.
    """

    network: Network
    name: str
    source: str
    private: bool


class Zone(NamedTuple):
    """
    Names with a purpose of their own: one, and all below it.

    Attributes:
        suffix: The name; ``""`` for all that have no dot.
        name: What they are, to go on after "is".
        source: Where that is written.
        private: One's own services may be there.
    """

    suffix: str
    name: str
    source: str
    private: bool


@cache
def blocks() -> tuple[Block, ...]:
    """Return the whole table, smaller blocks before those that they lie in."""
    from ipaddress import ip_network

    table = [
        Block(ip_network(network), name, source, rows is _PRIVATE)
        for rows in (_PRIVATE, _METADATA, _OTHERS)
        for network, name, source in rows
    ]
    return tuple(sorted(table, key=lambda block: block.network.prefixlen, reverse=True))


def special_block(address: Address) -> Block | None:
    """Return the smallest block of the table that an address is in, None for one that is as good as any."""
    return next((block for block in blocks() if address in block.network), None)


def special_zone(name: str) -> Zone | None:
    """
    Return the zone that a name is in, None for one that is as good as any.

    It tells what no address can where somebody else looks the name up. Where its addresses are known, they count.

    Args:
        name: In lower case, without a dot at the end.
    """
    found = next((row for row in _ZONES if f".{name}".endswith(f".{row[0]}")), None)
    if found is not None:
        return Zone(*found)
    # What completes it, and to what, is the resolver's own affair.
    return None if "." in name else Zone("", "a name without a dot", "RFC 7085", True)


@cache
def _embeddings() -> tuple[tuple[Network, int, int], ...]:
    """Return the networks with IPv4 addresses inside, how many bits follow such an address, and which it has turned."""
    from ipaddress import ip_network

    return (
        (ip_network("::ffff:0:0/96"), 0, 0),  # RFC 4291, 2.5.5.2
        (ip_network("64:ff9b::/96"), 0, 0),  # RFC 6052, 2.1
        (ip_network("64:ff9b:1::/48"), 0, 0),  # where the network cuts it at 96 bits (RFC 8215)
        (ip_network("::/96"), 0, 0),
        (ip_network("::ffff:0:0:0/96"), 0, 0),
        (ip_network("2002::/16"), 80, 0),  # RFC 3056, 2
        (ip_network("2001::/32"), 64, 0),  # the server (RFC 4380, 4)
        (ip_network("2001::/32"), 0, _LOW_32),  # the client
    )


def meanings(address: Address) -> tuple[Address, ...]:
    """
    Return all addresses that one stands for: itself, and the IPv4 addresses inside.

    One that is IPv4-mapped, or made by DNS64 with the well-known prefix, is only another way to write the IPv4
    address. One of a tunnel counts as well as what it leads to. What a network translates with a prefix that it chose
    from its own addresses (RFC 6052, 2.2) looks like any other address.
    """
    bits = int(address)
    # Unspecified and loopback are not IPv4-compatible.
    if address.version == 4 or bits < 2:
        return (address,)
    from ipaddress import IPv4Address

    inside = tuple(
        IPv4Address((bits >> following ^ turned) & _LOW_32)
        for network, following, turned in _embeddings()
        if address in network
    )
    if bits >> _V4_BITS & _ISATAP_MASK == _ISATAP:
        inside = (*inside, IPv4Address(bits & _LOW_32))
    return inside if bits >> _V4_BITS in _TRANSPARENT else (address, *inside)


@cache
def _number() -> re.Pattern[str]:
    return re.compile(r"0[xX]([0-9A-Fa-f]*)|(0[0-9]+)|([0-9]+)")


def read_address(host: str) -> Address | None:
    """
    Return the address that a host is, in whatever way it is written; None for a name.

    IPv4 may have one to four parts, the last one filling what is left, each decimal, octal (``0177``) or hexadecimal
    (``0x7f``), as `inet_aton` has always read them. No name ends in a number.

    Args:
        host: Without brackets; IPv6 may have a zone.

    Raises:
        ValueError: It ends in a number or has a colon, and is no address.
    """
    from ipaddress import IPv4Address, IPv6Address

    if ":" in host:
        return IPv6Address(host)
    parts = host.removesuffix(".").split(".")
    if _number().fullmatch(parts[-1]) is None:
        return None
    *before, last = [_parse_number(part) for part in parts]
    if len(before) > 3 or any(number > 255 for number in before) or last >> (_V4_BITS - 8 * len(before)):
        raise ValueError("a part is too large, or there are too many")
    high = sum(number << (24 - 8 * place) for place, number in enumerate(before))
    return IPv4Address(high | last)


def _parse_number(text: str) -> int:
    # The host of a URL is short, but this takes any text: a number of thousands of digits takes long to convert.
    found = _number().fullmatch(text) if len(text) <= 64 else None
    if found is None:
        raise ValueError("a part is not a number")
    hexadecimal, octal, decimal = found.groups()
    if hexadecimal is not None:
        return int(hexadecimal or "0", 16)
    return int(octal, 8) if octal else int(decimal)
