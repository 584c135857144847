"""The guard as a value and a predicate: what it refuses, in which words, and which guards make no sense."""

from __future__ import annotations

import copy
import pickle
from ipaddress import IPv4Address, IPv6Address, ip_network
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from aiosock.connection.guard import Guard
from aiosock.errors import BlockedAddress, RequestError, UsageError

V4 = st.integers(0, 2**32 - 1).map(IPv4Address)
PUBLIC = "93.184.215.14"
PUBLIC_V6 = "2606:4700::1111"


def refused(guard: Guard, host: str, *addresses: str, remote: bool = False) -> str | None:
    """Why a host with these addresses is refused; None where it is not."""
    try:
        guard.check_target("http", host, 80, remote=remote)
        guard.check_addresses(host, addresses or [host])
    except BlockedAddress as error:
        return str(error)
    return None


# Addresses


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("127.0.0.1", "loopback (RFC 1122, 3.2.1.3)"),
        ("0.0.0.0", "unspecified"),
        ("10.0.0.1", "private use (RFC 1918)"),
        ("100.64.0.1", "shared address space"),
        ("169.254.1.1", "link-local"),
        ("169.254.169.254", "metadata"),
        ("198.18.0.1", "benchmarking"),
        ("203.0.113.1", "documentation"),
        ("192.175.48.6", "AS112"),
        ("224.0.0.1", "multicast"),
        ("255.255.255.255", "broadcast"),
        ("::", "unspecified"),
        ("::1", "loopback"),
        ("::1%lo", "loopback"),
        ("fe80::1%eth0", "link-local"),
        ("fd12::1", "unique local"),
        ("fd00:ec2::254", "metadata"),
        ("ff02::1", "multicast"),
        ("::ffff:127.0.0.1", "stands for 127.0.0.1, which is loopback"),
        ("64:ff9b::10.0.0.1", "stands for 10.0.0.1, which is private use"),
        ("64:ff9b:1::8.8.8.8", "translation"),
        ("::8.8.8.8", "IPv4-compatible"),
        ("2002:7f00:1::", "6to4"),
        ("2001:0:808:808::1", "Teredo"),
        ("2606:4700::5efe:10.0.0.1", "stands for 10.0.0.1, which is private use"),
        ("2606:4700::200:5efe:169.254.169.254", "stands for 169.254.169.254, which is a cloud's metadata service"),
    ],
)
def test_an_address_that_is_not_public_is_refused_by_the_name_of_its_block(address: str, why: str) -> None:
    for said in (refused(Guard(), address), refused(Guard(), "name.example", address)):
        assert said is not None
        assert why in said
        assert said.startswith("the guard refuses ")
    assert "the guard refuses name.example: " in str(said)
    assert address in str(said)


@pytest.mark.parametrize(
    "address",
    [PUBLIC, PUBLIC_V6, f"::ffff:{PUBLIC}", f"64:ff9b::{PUBLIC}", f"2606:4700::5efe:{PUBLIC}"],
)
def test_a_public_address_is_let_through(address: str) -> None:
    assert refused(Guard(), address) is None
    assert refused(Guard(), "name.example", address) is None


def test_one_refused_address_among_others_refuses_the_name() -> None:
    for addresses in ([PUBLIC, "127.0.0.1"], ["127.0.0.1", PUBLIC], [PUBLIC_V6, PUBLIC, "fe80::1%eth0"]):
        assert refused(Guard(), "name.example", *addresses)


@pytest.mark.parametrize("answer", ["localhost", "0x7f.1", "8.8.8.8%lo", "", "10.0.0.1 ", "::1%"])
def test_what_a_resolver_gives_is_an_address_in_its_plain_form_or_refused(answer: str) -> None:
    assert "which is no address" in str(refused(Guard(allow_private=True), "name.example", answer))


@pytest.mark.parametrize("host", ["256.1.1.1", "08.8.8.8", "name.1", "1.2.3.4.5"])
def test_what_ends_in_a_number_and_is_no_address_is_refused(host: str) -> None:
    assert "ends in a number" in str(refused(Guard(), host, PUBLIC))


@given(V4, st.booleans())
@example(IPv4Address("127.0.0.1"), True)
@example(IPv4Address("100.64.0.0"), True)
def test_an_address_that_is_mapped_is_judged_as_the_plain_one(address: IPv4Address, allow_private: bool) -> None:
    guard = Guard(allow_private=allow_private, deny=["0.0.0.0/3"])
    verdict = refused(guard, str(address)) is None
    for prefix in (0xFFFF << 32, 0x64FF9B << 96):
        assert (refused(guard, str(IPv6Address(prefix | int(address)))) is None) is verdict
    for spelled in (str(int(address)), hex(int(address))):
        assert (refused(guard, spelled, str(address)) is None) is verdict


@given(V4)
def test_no_tunnel_leads_anywhere(address: IPv4Address) -> None:
    for number in (0x2002 << 112 | int(address) << 80, 0x20010000 << 96 | int(address) << 64, int(address)):
        assert refused(Guard(), str(IPv6Address(number)))


@given(st.integers(0, 2**128 - 1).map(IPv6Address))
def test_nothing_but_global_unicast_is_let_through(address: IPv6Address) -> None:
    allowed = [ip_network("2000::/3"), ip_network("::ffff:0:0/96"), ip_network("64:ff9b::/96")]
    if refused(Guard(), str(address)) is None:
        assert any(address in network for network in allowed)


# What is let through on demand


def test_private_addresses_are_let_through_where_that_is_wanted() -> None:
    guard = Guard(allow_private=True)
    for address in ("127.0.0.1", "10.0.0.1", "192.168.1.1", "172.31.0.1", "100.64.0.1", "::1", "::1%lo", "fd12::1"):
        assert refused(guard, address) is None
        assert refused(guard, "name.example", address) is None
    assert refused(guard, "::ffff:10.0.0.1") is None
    assert refused(guard, PUBLIC) is None


@pytest.mark.parametrize(
    "address",
    [
        "169.254.0.1",
        "169.254.169.254",
        "100.80.80.80",
        "100.96.0.96",
        "100.100.100.200",
        "fd00:100::100:200",
        "fd00:a9fe:a9fe::1",
        "fd00:c1::a9fe:a9fe",
        "fd00:ec2::23",
        "fd00:ec2::254",
        "fd20:ce::254",
        "2606:4700::5efe:100.100.100.200",
        "fe80::1%eth0",
        "0.0.0.0",
        "::",
        "224.0.0.1",
        "::127.0.0.1",
        "2002:7f00:1::",
        "fec0::1",
    ],
)
def test_what_is_nobodys_own_service_stays_refused(address: str) -> None:
    assert refused(Guard(allow_private=True), address)


def test_hosts_are_the_only_ones() -> None:
    guard = Guard(hosts=["example.com", "*.example.org", PUBLIC])
    for host in ("example.com", "example.com.", "a.example.org", "a.b.example.org", PUBLIC):
        assert refused(guard, host, PUBLIC) is None
    for host in ("example.net", "a.example.com", "example.org", "badexample.org", "com"):
        assert "hosts does not have it" in str(refused(guard, host, PUBLIC))
    assert "no network" in str(refused(guard, "8.8.8.8"))
    assert "no network" in str(refused(guard, PUBLIC_V6))


def test_a_name_does_not_vouch_for_its_addresses() -> None:
    assert refused(Guard(hosts=["intern.example"]), "intern.example", "10.0.0.1")
    guard = Guard(hosts=["intern.example", "10.1.0.0/16"])
    assert refused(guard, "intern.example", "10.1.0.1") is None
    assert refused(guard, "intern.example", PUBLIC) is None
    assert refused(guard, "intern.example", "10.2.0.1")
    assert refused(guard, "other.example", "10.1.0.1")
    assert refused(guard, "10.1.0.1") is None


def test_where_there_are_networks_alone_a_name_is_as_good_as_its_addresses() -> None:
    guard = Guard(hosts=["10.1.0.0/16", "2606:4700::/32"])
    assert refused(guard, "any.example", "10.1.0.1", PUBLIC_V6) is None
    assert "in no network" in str(refused(guard, "any.example", PUBLIC))
    assert "private use" in str(refused(guard, "any.example", "10.2.0.1"))


def test_a_star_is_all_that_is_public() -> None:
    guard = Guard(hosts=["*", "10.1.0.0/16"])
    for host in (PUBLIC, "10.1.0.1"):
        assert refused(guard, host) is None
        assert refused(guard, "any.example", host) is None
    assert refused(guard, "10.2.0.1")


@pytest.mark.parametrize(
    ("network", "address", "passes"),
    [
        ("169.254.169.254", "169.254.169.254", True),
        ("169.254.0.0/16", "169.254.1.1", True),
        ("169.254.0.0/16", "169.254.169.254", False),
        ("169.254.0.0/16", "169.254.170.23", False),
        ("fe80::/64", "fe80::a9fe:a9fe%eth0", False),
        ("fd00::/8", "fd00:ec2::254", False),
        ("fe80::/64", "fe80::1%eth0", True),
        ("0.0.0.0/0", "127.0.0.1", False),
        ("0.0.0.0/0", PUBLIC, True),
        ("0.0.0.0/0", PUBLIC_V6, False),
        ("::/0", "::1", False),
        ("::1", "::1", True),
        ("127.0.0.0/8", "::ffff:127.0.0.1", True),
        ("::ffff:127.0.0.0/104", "127.0.0.1", True),
        ("2002::/16", "2002:7f00:1::", False),
        ("64:ff9b:1::/48", "64:ff9b:1::10.0.0.1", False),
        # What they lead to must be public, and need not be named as well.
        ("2002::/16", "2002:808:808::", True),
        ("64:ff9b:1::/48", f"64:ff9b:1::{PUBLIC}", True),
        ("64:ff9b::/96", f"64:ff9b::{PUBLIC}", True),
        ("64:ff9b::/96", "64:ff9b::10.0.0.1", False),
        ("64:ff9b::/96", PUBLIC, False),
        ("::/0", f"::ffff:{PUBLIC}", False),
    ],
)
def test_a_network_opens_the_block_that_it_lies_in_and_none_that_lies_in_it(
    network: str, address: str, passes: bool
) -> None:
    assert (refused(Guard(hosts=[network]), address) is None) is passes


def test_what_a_translator_leads_to_must_be_let_through_as_well() -> None:
    assert refused(Guard(hosts=["64:ff9b:1::/48", "10.0.0.0/8"]), "64:ff9b:1::10.0.0.1") is None


# What is denied


def test_what_is_denied_is_refused_in_any_case() -> None:
    guard = Guard(hosts=["*"], allow_private=True, deny=["a.example", "*.b.example", "10.1.0.0/16", PUBLIC])
    for host in ("a.example", "a.example.", "x.b.example"):
        assert "deny has it" in str(refused(guard, host, "8.8.8.8"))
    for host in ("x.a.example", "b.example", "10.2.0.1"):
        assert refused(guard, host, "8.8.8.8") is None
    for address in ("10.1.2.3", f"::ffff:{PUBLIC}", f"64:ff9b::{PUBLIC}"):
        assert "which deny has" in str(refused(guard, address))
        assert "which deny has" in str(refused(guard, "name.example", "8.8.8.8", address))


def test_an_ipv6_block_is_denied_also_where_it_only_stands_for_others() -> None:
    assert refused(Guard(deny=["64:ff9b::/96"]), f"64:ff9b::{PUBLIC}")


# Schemes and ports


def test_schemes_and_ports_are_those_named_and_no_others() -> None:
    guard = Guard(schemes=["https"], ports=[443, 8443])
    guard.check_target("https", "a.example", 8443)
    with pytest.raises(BlockedAddress, match="^the guard refuses a.example: http is none of the schemes https$"):
        guard.check_target("http", "a.example", 443)
    with pytest.raises(BlockedAddress, match="^the guard refuses a.example: 25 is none of the ports 443, 8443$"):
        guard.check_target("https", "a.example", 25)
    for port in (1, 65535):
        Guard().check_target("http", "a.example", port)
        Guard(ports=[port]).check_target("http", "a.example", port)


def test_what_is_refused_is_a_failed_request() -> None:
    with pytest.raises(RequestError):
        Guard().check_target("http", "127.0.0.1", 80)


# Where a proxy resolves names


@pytest.mark.parametrize("host", ["0x8.8.8.8", "134744072", "010.8.8.8", "8.8.8.8.", "8.8.2056"])
def test_what_a_proxy_may_read_otherwise_is_refused(host: str) -> None:
    assert "otherwise" in str(refused(Guard(), host, "8.8.8.8", remote=True))
    assert refused(Guard(), host, "8.8.8.8") is None


@pytest.mark.parametrize(
    ("host", "why"),
    [
        ("localhost", "loopback (RFC 6761, 6.3)"),
        ("localhost.", "loopback"),
        ("a.localhost", "loopback"),
        ("localhost.localdomain", "loopback"),
        ("db.internal", "for private use"),
        ("printer.local", "of the local link (RFC 6762, 3)"),
        ("nas.home.arpa", "of a home network"),
        ("intranet", "a name without a dot"),
    ],
)
def test_a_name_that_leads_to_nothing_public_is_refused_unseen(host: str, why: str) -> None:
    assert why in str(refused(Guard(), host, PUBLIC, remote=True))
    assert refused(Guard(allow_private=True), host, "127.0.0.1", remote=True) is None
    # Seen, its addresses tell.
    assert refused(Guard(), host, PUBLIC) is None


@pytest.mark.parametrize(
    ("host", "cloud"),
    [
        ("metadata.google.internal", "Google Cloud"),
        ("metadata.google.internal.", "Google Cloud"),
        ("metadata.goog", "Google Cloud"),
        ("metadata", "Google Cloud"),
        ("instance-data", "AWS"),
        ("instance-data.ec2.internal", "AWS"),
    ],
)
def test_the_name_of_a_metadata_service_is_refused_unseen_in_any_case(host: str, cloud: str) -> None:
    for guard in (Guard(), Guard(allow_private=True), Guard(hosts=["*"]), Guard(hosts=[host])):
        assert f"a cloud's metadata service ({cloud})" in str(refused(guard, host, PUBLIC, remote=True))


def test_a_public_name_is_let_through_unseen() -> None:
    for host in ("name.example", "notlocalhost.example", "localhost.example."):
        assert refused(Guard(), host, PUBLIC, remote=True) is None


def test_a_name_that_only_its_addresses_could_let_through_is_refused_unseen() -> None:
    guard = Guard(hosts=["10.0.0.0/8"])
    assert "hosts does not have it" in str(refused(guard, "a.example", "10.0.0.1", remote=True))
    assert refused(guard, "10.0.0.1", remote=True) is None
    assert refused(Guard(), PUBLIC_V6, remote=True) is None
    # IPv6 is read in one way alone, however it is written.
    assert refused(Guard(), "2606:4700:0:0:0:0:0:1111", remote=True) is None
    assert refused(Guard(), "::1", remote=True)


# The value


def test_guards_that_say_the_same_are_equal() -> None:
    guard = Guard(hosts=["Example.COM.", "10.0.0.0/8", "*.bücher.example"], ports=[80, 443, 80], deny=["b", "a"])
    same = Guard(
        hosts={"*.xn--bcher-kva.example", ip_network("10.0.0.0/8"), "example.com"},  # type: ignore[arg-type]  # either does
        ports=(443, 80),
        deny=("a", "b"),
        schemes=["https", "http"],
    )
    assert guard == same
    assert hash(guard) == hash(same)
    assert repr(guard) == repr(same)
    for other in (Guard(), Guard(allow_private=True), Guard(ports=[80]), Guard(deny=["a"]), Guard(allow_proxy=True)):
        assert guard != other
    assert len({Guard(), Guard(schemes=("https", "http")), Guard(hosts=["*"])}) == 2


def test_a_guard_cannot_be_changed_and_can_be_copied() -> None:
    guard = Guard(hosts=["a.example", "10.0.0.0/8"], deny=["b.example"])
    with pytest.raises(AttributeError):
        guard.allow_private = True  # type: ignore[misc]  # that is the point
    for twin in (copy.deepcopy(guard), pickle.loads(pickle.dumps(guard))):  # noqa: S301  # made here
        assert twin == guard
        assert refused(twin, "10.0.0.1") is None


def test_what_is_given_may_change_afterwards() -> None:
    deny = ["a.example"]
    guard = Guard(deny=deny)
    deny.clear()
    assert refused(guard, "a.example", PUBLIC)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"allow_private": 1}, "allow_private is True or False, not 1"),
        ({"allow_proxy": None}, "allow_proxy is True or False, not None"),
        ({"schemes": "https"}, "schemes takes several, such as a list, not 'https'"),
        ({"schemes": ["ftp"]}, "schemes are 'http' and 'https', not 'ftp'"),
        ({"schemes": [1]}, "schemes are 'http' and 'https', not 1"),
        ({"schemes": [[]]}, "schemes are 'http' and 'https', not []"),
        ({"schemes": []}, "schemes is empty"),
        ({"ports": 80}, "ports takes several, such as a list, not 80"),
        ({"ports": [0]}, "ports are whole numbers from 1 to 65535, not 0"),
        ({"ports": [65536]}, "not 65536"),
        ({"ports": ["80"]}, "not '80'"),
        ({"ports": [True]}, "not True"),
        ({"ports": []}, "ports is empty"),
        ({"hosts": "example.com"}, "hosts takes several, such as a list, not 'example.com'"),
        ({"hosts": b"example.com"}, "hosts takes several"),
        ({"hosts": []}, "hosts is empty"),
        ({"hosts": [None]}, "hosts takes names, patterns and networks, not None"),
        ({"hosts": [""]}, "hosts has '', which is neither a name"),
        ({"hosts": ["*."]}, "hosts has '*.', which is neither"),
        ({"hosts": ["*example.com"]}, "which is neither"),
        ({"hosts": ["a.*.example"]}, "which is neither"),
        ({"hosts": ["example.com?"]}, "which is neither"),
        ({"hosts": ["user@example.com"]}, "which is neither"),
        ({"hosts": ["https://example.com"]}, "which is no network"),
        ({"hosts": ["example.com:80"]}, "which is no network"),
        ({"hosts": ["[::1]"]}, "which is no network"),
        ({"hosts": ["10.0.0.1/8"]}, "hosts has '10.0.0.1/8', which is no network: 10.0.0.1/8 has host bits set"),
        ({"hosts": ["127.1"]}, "which is no network"),
        ({"hosts": ["*.10"]}, "which is no network"),
        ({"hosts": ["256.1.1.1"]}, "which is no network"),
        ({"hosts": ["１２７.0.0.1"]}, "which is no"),  # noqa: RUF001  # that is the point
        ({"hosts": ["①②⑦.⓪.⓪.①"]}, "which is neither"),
        ({"hosts": ["fe80::1%eth0"]}, "has a zone"),
        ({"deny": "example.com"}, "deny takes several"),
        ({"deny": ["a b"]}, "deny has 'a b'"),
        ({"deny": ["*"]}, "deny has '*', and so nothing is let through"),
        ({"hosts": ["a.example"], "deny": ["a.example"]}, "hosts has 'a.example', which deny refuses"),
        ({"hosts": ["b.example", "a.example"], "deny": ["*.example"]}, "hosts has 'a.example', which deny refuses"),
        ({"hosts": ["*.a.example"], "deny": ["*.example"]}, "hosts has '*.a.example', which deny refuses"),
        ({"hosts": ["10.1.0.0/16"], "deny": ["10.0.0.0/8"]}, "hosts has '10.1.0.0/16', which deny refuses"),
        ({"hosts": ["10.0.0.1"], "deny": ["::ffff:10.0.0.1"]}, "hosts has '10.0.0.1', which deny refuses"),
        ({"hosts": ["10.0.0.0/8"], "deny": ["10.0.0.0/9", "10.128.0.0/9"]}, "hosts has '10.0.0.0/8', which deny"),
        ({"deny": ["0.0.0.0/0", "::/0"]}, "deny has all addresses, and so nothing is let through"),
        ({"deny": ["0.0.0.0/0", "::/1", "8000::/1"], "hosts": ["a.example"]}, "deny has all addresses"),
    ],
)
def test_a_guard_that_makes_no_sense_is_refused(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError) as caught:
        Guard(**arguments)
    assert str(caught.value).startswith("Guard: ")
    assert words in str(caught.value)


@pytest.mark.parametrize(
    "arguments",
    [
        {"hosts": ["*.example"], "deny": ["a.example", "*.b.example", "10.0.0.0/8"]},
        {"hosts": ["example"], "deny": ["*.example"]},
        {"hosts": ["10.0.0.0/8"], "deny": ["10.1.0.0/16", "::/0", "a.example"]},
        {"hosts": ["*"], "deny": ["a.example", "0.0.0.0/0"]},
        {"hosts": ["10.0.0.0/8"], "deny": ["10.0.0.0/9", "10.128.0.0/10"]},
        # A proxy is asked for names all the same.
        {"deny": ["0.0.0.0/0", "::/0"], "allow_proxy": True},
        {"hosts": ["my_host", "xn--bcher-kva.example", "a-b"]},
    ],
)
def test_a_guard_that_leaves_something_makes_sense(arguments: dict[str, Any]) -> None:
    Guard(**arguments)


def test_long_values_are_not_shown_whole() -> None:
    with pytest.raises(UsageError) as caught:
        Guard(hosts=["?" * 5000])
    assert len(str(caught.value)) < 200
