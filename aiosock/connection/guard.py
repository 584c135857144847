"""
What a client refuses to connect to, so that URLs given by strangers lead to the public Internet alone.

A `Guard` is a value and a predicate. Who asks it: the transport about the URL of every request, the dialler about
every address of every new connection, when nothing changes these any more.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from aiosock.errors import BlockedAddress, InvalidURL, UsageError
from aiosock.message.url import DEFAULT_PORTS, parse_url

if TYPE_CHECKING:
    from aiosock.protocol.address import Address, Block, Network

MAX_SHOWN: Final = 60

_ADDRESSES: Final = 2**32 + 2**128
"""How many there are."""


class Rules(NamedTuple):
    """
    Hosts taken apart.

    Attributes:
        names: Names, in lower case and IDNA-encoded, without a dot at the end.
        suffixes: What names meant by a pattern end in, with the dot in front; ``""`` for all.
        networks: Networks, single addresses included.
    """

    names: frozenset[str]
    suffixes: tuple[str, ...]
    networks: tuple[Network, ...]

    @property
    def everything(self) -> bool:
        """All hosts are meant, whether by name or by address."""
        return "" in self.suffixes

    def has_name(self, name: str) -> bool:
        """Return whether a name is meant."""
        return name in self.names or name.endswith(self.suffixes)

    def network_of(self, address: Address) -> Network | None:
        """Return the first network that an address is in."""
        return next((network for network in self.networks if address in network), None)

    def cover(self, other: Rules) -> bool:
        """Return whether another one's hosts are all meant here, too; not asked of what means everything."""
        if not all(map(self.has_name, other.names)):
            return False
        if not all(suffix.endswith(self.suffixes) for suffix in other.suffixes):
            return False
        return all(any(_lies_in(theirs, ours) for ours in self.networks) for theirs in other.networks)


@dataclass(frozen=True, slots=True, kw_only=True)
class Guard:
    """
    Which hosts a client may connect to: as it stands, all that have public addresses, and no others.

    Where an address is not public, or is denied, nothing is connected to and no byte is sent. Public is what is in no
    block of the special-purpose address registries (RFC 6890), nor multicast, nor a metadata service of a cloud. An
    IPv4 address inside of an IPv6 one (IPv4-mapped, NAT64, 6to4, Teredo, ISATAP) counts as well; where a network
    translates to IPv4 with a prefix of its own choice (RFC 6052, 2.2), deny that. Of a name all addresses must pass:
    one that is refused among others that are not is the mark of an attack, and refuses the name.

    Proxies of the environment are not used. Through a proxy that resolves names itself, only what stands in the URL
    can be judged; names are then refused that lead to nothing public (``localhost``, ``*.localdomain``, ``*.local``,
    ``*.internal``, ``*.home.arpa``, names without a dot, and those of metadata services).

    Args:
        allow_private: Let through loopback, private use (RFC 1918), shared address space (RFC 6598) and unique local
            addresses (RFC 4193), where one's own services are, and the names that lead there. Link-local addresses and
            metadata services stay refused.
        schemes: ``"http"``, ``"https"`` or both.
        ports: The ports that URLs may name, None for all.
        hosts: The only hosts that are let through, None for all; each a name, ``*.`` and a name for all names below
            it, ``*`` for all hosts, an IP address or a network. A name does not vouch for its addresses, which must be
            public all the same, or lie in a network of these. A network lets through a block of special purpose that
            it lies in (``"10.1.0.0/16"``, ``"169.254.169.254"``), and not those that lie in it (``"0.0.0.0/0"``).
            Where there are names, other names are refused, wherever they lead to; where there are networks alone, a
            name is as good as its addresses.
        deny: Hosts that are refused in any case, written as those.
        allow_proxy: Let a proxy that the user names be used.

    Raises:
        UsageError: An argument that is malformed, or lets nothing through; the message has it and its value.
    """

    allow_private: bool = False
    schemes: Collection[str] = ("http", "https")
    ports: Collection[int] | None = None
    hosts: Collection[str] | None = None
    deny: Collection[str] = ()
    allow_proxy: bool = False
    _allowed: Rules | None = field(init=False, repr=False, compare=False)
    _denied: Rules = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        for name in ("allow_private", "allow_proxy"):
            if not isinstance(getattr(self, name), bool):
                raise UsageError(f"Guard: {name} is True or False, not {_shown(getattr(self, name))}")
        # Sorted, so that the order makes no difference to what is equal.
        self._set("schemes", _collect("schemes", self.schemes, _check_scheme))
        self._set("deny", _collect("deny", self.deny, _check_host))
        self._set("_denied", _rules("deny", self.deny))
        if self.ports is not None:
            self._set("ports", _collect("ports", self.ports, _check_port))
        if self.hosts is not None:
            self._set("hosts", _collect("hosts", self.hosts, _check_host))
        self._set("_allowed", None if self.hosts is None else _rules("hosts", self.hosts))
        for name in ("schemes", "ports", "hosts"):
            if getattr(self, name) == ():
                raise UsageError(f"Guard: {name} is empty, and so nothing is let through")
        self._refuse_contradictions()

    def _set(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)

    def _refuse_contradictions(self) -> None:
        if self._denied.everything:
            raise UsageError("Guard: deny has '*', and so nothing is let through")
        denied = self._denied._replace(networks=_collapse(self._denied.networks))
        # A proxy that looks names up itself is asked for names, whose addresses nobody sees.
        if not self.allow_proxy and sum(network.num_addresses for network in denied.networks) == _ADDRESSES:
            raise UsageError("Guard: deny has all addresses, and so nothing is let through")
        for host in self.hosts or ():
            if denied.cover(_rules("hosts", (host,))):
                raise UsageError(f"Guard: hosts has {host!r}, which deny refuses")

    def check_target(self, scheme: str, host: str, port: int, *, remote: bool = False) -> None:
        """
        Refuse what can be refused before a name is looked up.

        Args:
            scheme: Of the URL.
            host: Of the URL: a name in lower case and IDNA-encoded, or an address without brackets.
            port: Of the URL.
            remote: The host is resolved elsewhere, by a proxy, so that this is all that is ever judged.

        Raises:
            BlockedAddress: It is refused; the message says why.
        """
        if scheme not in self.schemes:
            raise _refusal(host, f"{scheme} is none of the schemes {', '.join(self.schemes)}")
        if self.ports is not None and port not in self.ports:
            raise _refusal(host, f"{port} is none of the ports {', '.join(map(str, self.ports))}")
        address = _read(host)
        if address is not None:
            if remote and ":" not in host and host != str(address):
                raise _refusal(host, f"a proxy may read it otherwise than as {address}")
            self._check_address(host, str(address), address, listed=self._lists(None))
            return
        name = host.removesuffix(".")
        if self._denied.has_name(name):
            raise _refusal(host, "deny has it")
        allowed = self._allowed
        if allowed is not None and not allowed.has_name(name) and (remote or allowed.names or allowed.suffixes):
            raise _refusal(host, "hosts does not have it")
        if remote:
            self._check_zone(host, name)

    def check_addresses(self, host: str, addresses: Iterable[str]) -> None:
        """
        Refuse a host for its addresses, which are then connected to as they are.

        Args:
            host: As for `check_target`, which it has passed.
            addresses: All that may be connected to, as a resolver gives them.

        Raises:
            BlockedAddress: One of them is refused, or is none; the message says why.
        """
        from ipaddress import ip_address

        listed = self._lists(host.removesuffix(".") if _read(host) is None else None)
        for text in addresses:
            try:
                address = ip_address(text)
            except ValueError:
                # To connect to it would be another look-up, with an answer that nobody sees.
                raise _refusal(host, f"it was resolved to {text[:MAX_SHOWN]!r}, which is no address") from None
            self._check_address(host, text, address, listed=listed)

    def _check_zone(self, host: str, name: str) -> None:
        from aiosock.protocol.address import special_zone

        zone = special_zone(name)
        if zone is not None and not (zone.private and self.allow_private):
            raise _refusal(host, f"it is {zone.name} ({zone.source})")

    def _lists(self, name: str | None) -> bool:
        """Return whether ``hosts`` has a name, or with None any address, whatever the networks."""
        if self._allowed is None or self._allowed.everything:
            return True
        return name is not None and self._allowed.has_name(name)

    def _check_address(self, host: str, text: str, address: Address, *, listed: bool) -> None:
        from aiosock.protocol.address import meanings

        where = "it" if text == host else text
        stands_for = meanings(address)
        listed = listed or self._has_network_of(address)
        denied = next(filter(None, map(self._denied.network_of, (address, *stands_for))), None)
        if denied is not None:
            raise _refusal(host, f"{where} is in {denied}, which deny has")
        for meant in stands_for:
            reason = self._reason_against(meant, listed)
            if reason is not None:
                inside = "" if meant == address else f" stands for {meant}, which"
                raise _refusal(host, f"{where}{inside} {reason}")

    def _has_network_of(self, address: Address) -> bool:
        """Return whether ``hosts`` has a network of an address as it goes on the wire, whatever else it stands for."""
        if self._allowed is None or getattr(address, "ipv4_mapped", None) is not None:
            return False
        return self._allowed.network_of(address) is not None

    def _reason_against(self, address: Address, listed: bool) -> str | None:
        from aiosock.protocol.address import special_block

        block = special_block(address)
        networks = () if self._allowed is None else self._allowed.networks
        if any(address in network and _opens(network, block) for network in networks):
            return None
        if block is not None and not (block.private and self.allow_private):
            return f"is {block.name} ({block.source})"
        return None if listed else "is in no network that hosts has"


def _opens(network: Network, block: Block | None) -> bool:
    return block is None or _lies_in(network, block.network)


def _collapse(networks: Iterable[Network]) -> tuple[Network, ...]:
    """Return the fewest networks with the same addresses, so that parts of one which are all there count as it."""
    from ipaddress import IPv4Network, IPv6Network, collapse_addresses

    v4 = [network for network in networks if isinstance(network, IPv4Network)]
    v6 = [network for network in networks if isinstance(network, IPv6Network)]
    return (*collapse_addresses(v4), *collapse_addresses(v6))


def _lies_in(inner: Network, outer: Network) -> bool:
    return inner.version == outer.version and outer.supernet_of(inner)  # type: ignore[arg-type]  # of one version


def _read(host: str) -> Address | None:
    """Return the address that a host is, None for a name."""
    from aiosock.protocol.address import read_address

    try:
        return read_address(host)
    except ValueError:
        raise _refusal(host, "it ends in a number, and is no address") from None


def _refusal(host: str, reason: str) -> BlockedAddress:
    return BlockedAddress(f"the guard refuses {host}: {reason}")


# Arguments


def _shown(value: object) -> str:
    return repr(value)[:MAX_SHOWN]


def _collect(name: str, given: Any, check: Any) -> tuple[Any, ...]:
    """Return what was given as a sorted tuple, each once and in one form."""
    if isinstance(given, (str, bytes)) or not isinstance(given, Collection):
        raise UsageError(f"Guard: {name} takes several, such as a list, not {_shown(given)}")
    return tuple(sorted({check(name, one) for one in given}))


def _check_scheme(name: str, scheme: object) -> str:
    if not isinstance(scheme, str) or scheme not in DEFAULT_PORTS:
        raise UsageError(f"Guard: {name} are 'http' and 'https', not {_shown(scheme)}")
    return scheme


def _check_port(name: str, port: object) -> int:
    if isinstance(port, bool) or not isinstance(port, int) or not 1 <= port <= 65535:
        raise UsageError(f"Guard: {name} are whole numbers from 1 to 65535, not {_shown(port)}")
    return port


def _check_host(name: str, host: object) -> str:
    from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

    if isinstance(host, (IPv4Address, IPv4Network, IPv6Address, IPv6Network)):
        host = str(host)
    if not isinstance(host, str):
        raise UsageError(f"Guard: {name} takes names, patterns and networks, not {_shown(host)}")
    network = _network(name, host)
    if network is not None:
        return str(network.network_address if network.prefixlen == network.max_prefixlen else network)
    if host == "*":
        return host
    star = "*." if host.startswith("*.") else ""
    try:
        if not set("/:@?#%").intersection(host):
            made = star + parse_url(f"http://{host.removeprefix(star)}").host.removesuffix(".")
            if _network(name, made) is None:
                return made
    except InvalidURL:
        pass
    raise UsageError(f"Guard: {name} has {_shown(host)}, which is neither a name, nor '*.' and a name, nor a network")


def _network(name: str, text: str) -> Network | None:
    """Return the network that is meant; None where it can only be a name."""
    from ipaddress import IPv4Network, ip_network

    from aiosock.protocol.address import read_address

    try:
        network = ip_network(text)
    except ValueError as error:
        try:
            written_as_number = ":" in text or "/" in text or read_address(text.removeprefix("*.")) is not None
        except ValueError:
            written_as_number = True
        if written_as_number:
            raise UsageError(f"Guard: {name} has {_shown(text)}, which is no network: {error}") from None
        return None
    if "%" in text:
        raise UsageError(
            f"Guard: {name} has {_shown(text)}, which has a zone; a network means its addresses in all zones"
        )
    mapped = getattr(network.network_address, "ipv4_mapped", None)
    # They are judged as the IPv4 addresses that they are.
    return network if mapped is None else IPv4Network((mapped, network.prefixlen - 96))


def _rules(name: str, hosts: Iterable[str]) -> Rules:
    networks = {host: network for host in hosts if (network := _network(name, host)) is not None}
    names = [host for host in hosts if host not in networks]
    return Rules(
        frozenset(host for host in names if not host.startswith("*")),
        tuple(host[1:] for host in names if host.startswith("*")),
        tuple(networks.values()),
    )
