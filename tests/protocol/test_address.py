"""What an IP address is for: every row of the special-purpose registries, and every way to write an address."""

from __future__ import annotations

import socket
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiosock.protocol.address import Zone, blocks, meanings, read_address, special_block, special_zone

PUBLIC = None

# iana-ipv4-special-registry and iana-ipv6-special-registry, as last updated on 2025-10-09, without their footnotes:
# Address Block | Name | RFC | Globally Reachable (which is empty for what is deprecated).
IANA = """
0.0.0.0/8          | "This network"                                     | 791        | False
0.0.0.0/32         | "This host on this network"                        | 1122       | False
10.0.0.0/8         | Private-Use                                        | 1918       | False
100.64.0.0/10      | Shared Address Space                               | 6598       | False
127.0.0.0/8        | Loopback                                           | 1122       | False
169.254.0.0/16     | Link Local                                         | 3927       | False
172.16.0.0/12      | Private-Use                                        | 1918       | False
192.0.0.0/24       | IETF Protocol Assignments                          | 6890       | False
192.0.0.0/29       | IPv4 Service Continuity Prefix                     | 7335       | False
192.0.0.8/32       | IPv4 dummy address                                 | 7600       | False
192.0.0.9/32       | Port Control Protocol Anycast                      | 7723       | True
192.0.0.10/32      | Traversal Using Relays around NAT Anycast          | 8155       | True
192.0.0.170/32     | NAT64/DNS64 Discovery                              | 8880, 7050 | False
192.0.0.171/32     | NAT64/DNS64 Discovery                              | 8880, 7050 | False
192.0.2.0/24       | Documentation (TEST-NET-1)                         | 5737       | False
192.31.196.0/24    | AS112-v4                                           | 7535       | True
192.52.193.0/24    | AMT                                                | 7450       | True
192.88.99.0/24     | Deprecated (6to4 Relay Anycast)                    | 7526       |
192.88.99.2/32     | 6a44-relay anycast address                         | 6751       | False
192.168.0.0/16     | Private-Use                                        | 1918       | False
192.175.48.0/24    | Direct Delegation AS112 Service                    | 7534       | True
198.18.0.0/15      | Benchmarking                                       | 2544       | False
198.51.100.0/24    | Documentation (TEST-NET-2)                         | 5737       | False
203.0.113.0/24     | Documentation (TEST-NET-3)                         | 5737       | False
240.0.0.0/4        | Reserved                                           | 1112       | False
255.255.255.255/32 | Limited Broadcast                                  | 8190, 919  | False
::1/128            | Loopback Address                                   | 4291       | False
::/128             | Unspecified Address                                | 4291       | False
::ffff:0:0/96      | IPv4-mapped Address                                | 4291       | False
64:ff9b::/96       | IPv4-IPv6 Translat.                                | 6052       | True
64:ff9b:1::/48     | IPv4-IPv6 Translat.                                | 8215       | False
100::/64           | Discard-Only Address Block                         | 6666       | False
100:0:0:1::/64     | Dummy IPv6 Prefix                                  | 9780       | False
2001::/23          | IETF Protocol Assignments                          | 2928       | False
2001::/32          | TEREDO                                             | 4380, 8190 | N/A
2001:1::1/128      | Port Control Protocol Anycast                      | 7723       | True
2001:1::2/128      | Traversal Using Relays around NAT Anycast          | 8155       | True
2001:1::3/128      | DNS-SD Service Registration Protocol Anycast       | 9665       | True
2001:2::/48        | Benchmarking                                       | 5180       | False
2001:3::/32        | AMT                                                | 7450       | True
2001:4:112::/48    | AS112-v6                                           | 7535       | True
2001:10::/28       | Deprecated (previously ORCHID)                     | 4843       |
2001:20::/28       | ORCHIDv2                                           | 7343       | True
2001:30::/28       | Drone Remote ID Protocol Entity Tags (DETs) Prefix | 9374       | True
2001:db8::/32      | Documentation                                      | 3849       | False
2002::/16          | 6to4                                               | 3056       | N/A
2620:4f:8000::/48  | Direct Delegation AS112 Service                    | 7534       | True
3fff::/20          | Documentation                                      | 9637       | False
5f00::/16          | Segment Routing (SRv6) SIDs                        | 9602       | False
fc00::/7           | Unique-Local                                       | 4193, 8190 | False
fe80::/10          | Link-Local Unicast                                 | 4291       | False
"""
ROWS = [[cell.strip() for cell in line.split("|")] for line in IANA.strip().splitlines()]
TRANSPARENT = ["::ffff:0:0/96", "64:ff9b::/96"]

# (block, what it is, what the address just below is, what that just above is); "" where the numbers end.
REGISTRIES = [
    ("0.0.0.0/8", "this network", "", PUBLIC),
    ("0.0.0.0/32", "unspecified", "", "this network"),
    ("10.0.0.0/8", "private use", PUBLIC, PUBLIC),
    ("100.64.0.0/10", "shared", PUBLIC, PUBLIC),
    ("127.0.0.0/8", "loopback", PUBLIC, PUBLIC),
    ("169.254.0.0/16", "link-local", PUBLIC, PUBLIC),
    ("172.16.0.0/12", "private use", PUBLIC, PUBLIC),
    ("192.0.0.0/24", "protocol assignments", PUBLIC, PUBLIC),
    ("192.0.0.0/29", "service continuity", PUBLIC, "dummy"),
    ("192.0.0.8/32", "dummy", "service continuity", "PCP"),
    ("192.0.0.9/32", "PCP", "dummy", "TURN"),
    ("192.0.0.10/32", "TURN", "PCP", "protocol assignments"),
    ("192.0.0.170/32", "NAT64", "protocol assignments", "NAT64"),
    ("192.0.0.171/32", "NAT64", "NAT64", "protocol assignments"),
    ("192.0.2.0/24", "documentation", PUBLIC, PUBLIC),
    ("192.31.196.0/24", "AS112", PUBLIC, PUBLIC),
    ("192.52.193.0/24", "AMT", PUBLIC, PUBLIC),
    ("192.88.99.0/24", "6to4 relays", PUBLIC, PUBLIC),
    ("192.88.99.2/32", "6a44", "6to4 relays", "6to4 relays"),
    ("192.168.0.0/16", "private use", PUBLIC, PUBLIC),
    ("192.175.48.0/24", "AS112", PUBLIC, PUBLIC),
    ("198.18.0.0/15", "benchmarking", PUBLIC, PUBLIC),
    ("198.51.100.0/24", "documentation", PUBLIC, PUBLIC),
    ("203.0.113.0/24", "documentation", PUBLIC, PUBLIC),
    ("240.0.0.0/4", "reserved", "multicast", ""),
    ("255.255.255.255/32", "broadcast", "reserved", ""),
    ("::1/128", "loopback", "unspecified", "IPv4-compatible"),
    ("::/128", "unspecified", "", "loopback"),
    ("64:ff9b:1::/48", "translation", "not global", "not global"),
    ("100::/64", "discard", "not global", "dummy"),
    ("100:0:0:1::/64", "dummy", "discard", "not global"),
    ("2001::/23", "protocol assignments", PUBLIC, PUBLIC),
    ("2001::/32", "Teredo", PUBLIC, "protocol assignments"),
    ("2001:1::1/128", "PCP", "protocol assignments", "TURN"),
    ("2001:1::2/128", "TURN", "PCP", "DNS-SD"),
    ("2001:1::3/128", "DNS-SD", "TURN", "protocol assignments"),
    ("2001:2::/48", "benchmarking", "protocol assignments", "protocol assignments"),
    ("2001:3::/32", "AMT", "protocol assignments", "protocol assignments"),
    ("2001:4:112::/48", "AS112", "protocol assignments", "protocol assignments"),
    ("2001:10::/28", "ORCHID, deprecated", "protocol assignments", "ORCHIDv2"),
    ("2001:20::/28", "ORCHIDv2", "ORCHID, deprecated", "drones"),
    ("2001:30::/28", "drones", "ORCHIDv2", "protocol assignments"),
    ("2001:db8::/32", "documentation", PUBLIC, PUBLIC),
    ("2002::/16", "6to4", PUBLIC, PUBLIC),
    ("2620:4f:8000::/48", "AS112", PUBLIC, PUBLIC),
    ("3fff::/20", "documentation", PUBLIC, PUBLIC),
    ("5f00::/16", "segment routing", "not global", "not global"),
    ("fc00::/7", "unique local", "not global", "not global"),
    ("fe80::/10", "link-local", "not global", "site-local"),
]
# What is in neither of them.
OTHERS = [
    ("100.80.80.80/32", "metadata", "shared", "shared"),
    ("100.96.0.96/32", "metadata", "shared", "shared"),
    ("100.100.100.200/32", "metadata", "shared", "shared"),
    ("168.63.129.16/32", "platform", PUBLIC, PUBLIC),
    ("169.254.0.23/32", "metadata", "link-local", "link-local"),
    ("169.254.42.42/32", "metadata", "link-local", "link-local"),
    ("169.254.169.252/32", "metadata", "link-local", "link-local"),
    ("169.254.169.254/32", "metadata", "link-local", "link-local"),
    ("169.254.170.2/32", "metadata", "link-local", "link-local"),
    ("169.254.170.23/32", "metadata", "link-local", "link-local"),
    ("192.0.0.192/32", "metadata", "protocol assignments", "protocol assignments"),
    ("224.0.0.0/4", "multicast", PUBLIC, "reserved"),
    ("::/96", "IPv4-compatible", "", "not global"),
    ("::ffff:0:0:0/96", "IPv4-translated", "not global", "not global"),
    ("fd00:42::42/128", "metadata", "unique local", "unique local"),
    ("fd00:100::100:200/128", "metadata", "unique local", "unique local"),
    ("fd00:a9fe:a9fe::1/128", "metadata", "unique local", "unique local"),
    ("fd00:c1::a9fe:a9fe/128", "metadata", "unique local", "unique local"),
    ("fd00:ec2::23/128", "metadata", "unique local", "unique local"),
    ("fd00:ec2::254/128", "metadata", "unique local", "unique local"),
    ("fd20:ce::254/128", "metadata", "unique local", "unique local"),
    ("fe80::a9fe:a9fe/128", "metadata", "link-local", "link-local"),
    ("fec0::/10", "site-local", "link-local", "multicast"),
    ("ff00::/8", "multicast", "site-local", ""),
    ("::/3", "not global", "", PUBLIC),
    ("4000::/2", "not global", PUBLIC, "not global"),
    ("8000::/1", "not global", "not global", ""),
]

V4 = st.integers(0, 2**32 - 1).map(IPv4Address)
V6 = st.integers(0, 2**128 - 1).map(IPv6Address)


def at(network: IPv4Network | IPv6Network, number: int) -> IPv4Address | IPv6Address:
    return type(network.network_address)(number)


@pytest.mark.parametrize(("text", "name", "below", "above"), REGISTRIES + OTHERS, ids=lambda value: str(value))
def test_every_block_is_known_to_its_last_address_and_no_further(
    text: str, name: str, below: str | None, above: str | None
) -> None:
    network = ip_network(text)
    [row] = [block for block in blocks() if block.network == network]
    assert name in row.name
    first, last = int(network.network_address), int(network.broadcast_address)
    for inside in (first, (first + last) // 2, last):
        found = special_block(at(network, inside))
        assert found is not None
        assert found.network.subnet_of(network)  # type: ignore[arg-type]  # both of one version
    for expected, number in ((below, first - 1), (above, last + 1)):
        if expected != "":
            found = special_block(at(network, number))
            assert (found is None) is (expected is PUBLIC)
            assert found is None or (expected or "") in found.name


@pytest.mark.parametrize(("text", "name", "rfcs", "reachable"), ROWS, ids=[row[0] for row in ROWS])
def test_every_row_of_the_registries_is_in_the_table(text: str, name: str, rfcs: str, reachable: str) -> None:
    network = ip_network(text)
    rows = [block for block in blocks() if block.network == network]
    if text in TRANSPARENT:
        # What these lead to is seen in the IPv4 address inside.
        assert not rows
        assert len(meanings(network[1])) == 1
        assert isinstance(meanings(network[1])[0], IPv4Address)
        return
    [row] = rows
    assert all(rfc in row.source for rfc in rfcs.split(", ")), (name, row.source)
    assert reachable in ("True", "False", "N/A", "")
    # Whether it can be reached or not, it is no place for a website.
    for inside in (network[0], network[network.num_addresses // 2], network[-1]):
        assert special_block(inside) is not None


def test_the_registries_are_tested_row_by_row() -> None:
    rows = [row[0] for row in ROWS if row[0] not in TRANSPARENT]
    assert rows == [row[0] for row in REGISTRIES]


def test_the_table_has_no_row_that_is_not_tested() -> None:
    assert sorted(str(block.network) for block in blocks()) == sorted(row[0] for row in REGISTRIES + OTHERS)


def test_every_row_says_where_it_is_written() -> None:
    metadata = {block.source for block in blocks() if block.name.startswith("a cloud's ")}
    assert all(block.source.startswith("RFC ") or block.source in metadata for block in blocks())


def test_private_are_the_blocks_with_ones_own_services_alone() -> None:
    assert {str(block.network) for block in blocks() if block.private} == {
        "10.0.0.0/8",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "::1/128",
        "fc00::/7",
    }


@pytest.mark.parametrize("text", ["8.8.8.8", "1.1.1.1", "93.184.215.14", "2606:4700::1111", "2a00:1450:4001::1"])
def test_what_is_in_no_block_is_as_good_as_any(text: str) -> None:
    assert special_block(ip_address(text)) is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("127.0.0.1", ["127.0.0.1"]),
        ("2606:4700::1111", ["2606:4700::1111"]),
        ("::", ["::"]),
        ("::1", ["::1"]),
        ("::2", ["::2", "0.0.0.2"]),
        ("::ffff:127.0.0.1", ["127.0.0.1"]),
        ("64:ff9b::192.0.2.33", ["192.0.2.33"]),  # RFC 6052, 2.4
        ("64:ff9b:1::10.0.0.1", ["64:ff9b:1::a00:1", "10.0.0.1"]),
        ("64:ff9b:2::10.0.0.1", ["64:ff9b:2::a00:1"]),
        ("::127.0.0.1", ["::7f00:1", "127.0.0.1"]),
        ("::ffff:0:127.0.0.1", ["::ffff:0:7f00:1", "127.0.0.1"]),
        ("2002:c000:204::1", ["2002:c000:204::1", "192.0.2.4"]),
        # RFC 5214, 6.1, with and without the bit that says that the address is unique, and the group bit.
        ("2001:db8::5efe:10.0.0.1", ["2001:db8::5efe:a00:1", "10.0.0.1"]),
        ("2001:db8::200:5efe:192.0.2.45", ["2001:db8::200:5efe:c000:22d", "192.0.2.45"]),
        ("2001:db8::300:5efe:10.0.0.1", ["2001:db8::300:5efe:a00:1", "10.0.0.1"]),
        ("2001:db8::400:5efe:10.0.0.1", ["2001:db8::400:5efe:a00:1"]),
        ("2001:db8:5efe::10.0.0.1", ["2001:db8:5efe::a00:1"]),
        # RFC 4380, 4: server 65.54.227.120, client 192.0.2.45.
        (
            "2001:0:4136:e378:8000:63bf:3fff:fdd2",
            ["2001:0:4136:e378:8000:63bf:3fff:fdd2", "65.54.227.120", "192.0.2.45"],
        ),
    ],
)
def test_an_address_stands_for_those_inside(text: str, expected: list[str]) -> None:
    assert [str(address) for address in meanings(ip_address(text))] == expected


@given(V4)
def test_an_address_that_is_mapped_is_the_plain_one(address: IPv4Address) -> None:
    for prefix in ("::ffff:0:0", "64:ff9b::"):
        assert meanings(IPv6Address(int(IPv6Address(prefix)) | int(address))) == (address,)


@given(V4, st.integers(0, 2**80 - 1))
def test_what_a_tunnel_leads_to_is_found_whatever_else_it_says(address: IPv4Address, rest: int) -> None:
    assert address in meanings(IPv6Address(0x2002 << 112 | int(address) << 80 | rest))


@given(V4, st.integers(0, 2**64 - 1))
def test_an_interface_of_isatap_is_the_address_inside_too(address: IPv4Address, prefix: int) -> None:
    assert address in meanings(IPv6Address(prefix << 64 | 0x5EFE << 32 | int(address)))


@given(V4 | V6)
def test_every_address_has_a_meaning(address: IPv4Address | IPv6Address) -> None:
    assert meanings(address)[0] in (address, getattr(address, "ipv4_mapped", None)) or meanings(address)[0].version == 4


@pytest.mark.parametrize(
    ("name", "zone"),
    [
        ("localhost", "localhost"),
        ("a.b.localhost", "localhost"),
        ("printer.local", "local"),
        ("router.home.arpa", "home.arpa"),
        ("db.corp.internal", "internal"),
        ("metadata.google.internal", "metadata.google.internal"),
        ("a.metadata.google.internal", "metadata.google.internal"),
        ("metadata.goog", "metadata.goog"),
        ("metadata.tencentyun.com", "metadata.tencentyun.com"),
        ("intranet", ""),
        ("metadata", "metadata"),
        ("instance-data", "instance-data"),
        ("instance-data.ec2.internal", "instance-data.ec2.internal"),
        ("localhost.localdomain", "localdomain"),
        ("example.com", None),
        ("notlocalhost.example", None),
        ("localhost.example", None),
        ("mylocal.example", None),
        ("home.arpa.example", None),
        ("xmetadata.goog", None),
        ("tencentyun.com", None),
        ("10.in-addr.arpa", None),
    ],
)
def test_some_names_lead_to_nothing_public(name: str, zone: str | None) -> None:
    found = special_zone(name)
    assert (None if found is None else found.suffix) == zone
    if found is not None:
        assert found == Zone(found.suffix, found.name, found.source, not found.name.endswith("metadata service"))


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("127.0.0.1.", "127.0.0.1"),
        ("127.1", "127.0.0.1"),
        ("127.0.1", "127.0.0.1"),
        ("127.65535", "127.0.255.255"),
        ("0x7f.1", "127.0.0.1"),
        ("0X7F.0.0.0x1", "127.0.0.1"),
        ("0x7f000001", "127.0.0.1"),
        ("2130706433", "127.0.0.1"),
        ("0177.0.0.1", "127.0.0.1"),
        ("017700000001", "127.0.0.1"),
        ("0", "0.0.0.0"),
        ("0" * 64, "0.0.0.0"),
        ("255.255.255.255", "255.255.255.255"),
        ("0x", "0.0.0.0"),
        ("4294967295", "255.255.255.255"),
        ("010.8.8.8", "8.8.8.8"),
        ("::1", "::1"),
        ("::1%lo", "::1%lo"),
        ("::FFFF:127.0.0.1", "::ffff:127.0.0.1"),
    ],
)
def test_an_address_is_read_however_it_is_written(host: str, address: str) -> None:
    assert read_address(host) == ip_address(address)


@pytest.mark.parametrize("host", ["example.com", "1.example", "0x7g", "a1", "1.2.3.4.example.", "", ".", "xn--1", "-1"])
def test_a_name_is_no_address(host: str) -> None:
    assert read_address(host) is None


@pytest.mark.parametrize(
    "host",
    [
        "256.1.1.1",
        "1.256.1.1",
        "1.2.256.1",
        "1.2.3.4.5",
        "1.2.3.256",
        "1.65536.1",
        "127.16777216",
        "4294967296",
        "08",
        "0.0.0.09",
        "a.1",
        "1..1",
        "a.0x1",
        "0x100000000",
        "9" * 65,
        "0" * 65,
        ":",
        "1:2",
        "::1%",
    ],
)
def test_what_ends_in_a_number_or_has_a_colon_is_an_address_or_nothing(host: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  # any of ipaddress's own kinds will do
        read_address(host)


PART = st.integers(0, 2**33).flatmap(lambda number: st.sampled_from([str(number), hex(number), f"0{number:o}"]))


@given(st.lists(PART | st.integers(0, 255).map(str), min_size=1, max_size=4).map(".".join))
def test_the_system_reads_no_address_otherwise(host: str) -> None:
    try:
        expected = socket.inet_aton(host)
    except OSError:
        return
    address = read_address(host)
    assert address is not None
    assert address.packed == expected


@given(st.text())
def test_no_text_makes_it_fail_otherwise(text: str) -> None:
    try:
        read_address(text)
    except ValueError:
        pass
