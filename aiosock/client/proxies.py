"""
Which proxy a request takes: the user's ``proxy=``, or the environment's ``*_proxy`` variables.

Both become one list of rules, of which the first that fits a location decides. Nothing here connects.

``no_proxy`` was never written down, and programs differ. Here, as in curl, ``example.com`` and ``.example.com`` both
mean that name and all below it; ``*.example.com``, which curl does not know, means those below it alone, as whoever
knows it has it. Names are never looked up, so that an address or a network fits only a URL that has an address.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

from aiosock.connection.proxy import Proxy, make_proxy
from aiosock.errors import InvalidURL, UsageError
from aiosock.message.late import late
from aiosock.message.url import Location, parse_url

if TYPE_CHECKING:
    from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

    from yarl import URL
else:
    URL = late("yarl", "URL")

ProxyInput: TypeAlias = "str | URL | Proxy | Mapping[str, str | URL | Proxy | None] | None"
"""What ``proxy=`` takes; see `make_rules`."""

MAX_SHOWN: Final = 60
HOST_AND_PORT: Final = r"(\[[^\]/?#@]*\]|[^:/?#@]+)(?::([0-9]+))?"

_log = logging.getLogger("aiosock.client")


@cache
def _pattern() -> re.Pattern[str]:
    return re.compile(rf"(all|https?)(?:://(?:{HOST_AND_PORT}/?)?)?", re.IGNORECASE)


@cache
def _exemption() -> re.Pattern[str]:
    # A dot in front of a name, but not of '*', which would then mean everything.
    return re.compile(rf"(?:\.(?!\*))?{HOST_AND_PORT}")


class Destination(NamedTuple):
    """What rules are asked about: a location's origin, its host in the one form that patterns have too."""

    scheme: str
    host: str
    port: int
    address: IPv4Address | IPv6Address | None


class Pattern(NamedTuple):
    """
    Some of all origins; what is empty fits any.

    Attributes:
        scheme: ``"http"`` or ``"https"``.
        host: A name or an address, as `_destination` has it.
        below: Meant are the names below the host, without itself.
        port: 1 to 65535.
    """

    scheme: str = ""
    host: str = ""
    below: bool = False
    port: int = 0

    def fits(self, to: Destination) -> bool:
        """Return whether the destination is one of those meant."""
        return self.scheme in ("", to.scheme) and self.port in (0, to.port) and self._fits_host(to)

    def _fits_host(self, to: Destination) -> bool:
        if self.below:
            return to.address is None and to.host.endswith(f".{self.host}")
        # An address without a zone means it in every zone.
        return self.host in ("", to.host, to.host.partition("%")[0])

    @property
    def weight(self) -> tuple[bool, int, bool]:
        """Return what the more specific of two patterns has more of; of hosts that fit, a whole one is the longest."""
        return self.port != 0, len(self.host), self.scheme != ""


class Network(NamedTuple):
    """The addresses of a network (CIDR)."""

    network: IPv4Network | IPv6Network

    def fits(self, to: Destination) -> bool:
        """Return whether the destination is an address of the network."""
        return to.address is not None and (to.address in self.network or _unmapped(to.address) in self.network)


class ProxyRules:
    """
    Rules in the order in which they are tried.

    Args:
        rules: Pairs of what a rule is for, and the proxy that it takes; None is no proxy.
        asked_for: A user named them, not the environment.
    """

    def __init__(self, rules: Iterable[tuple[Pattern | Network, Proxy | None]], *, asked_for: bool = True) -> None:
        self._rules = tuple(rules)
        self.asked_for = asked_for

    def __repr__(self) -> str:
        return f"<ProxyRules: {len(self._rules)}>"

    def proxy_for(self, location: Location) -> Proxy | None:
        """Return the proxy for a location, None for a direct connection."""
        to = _destination(location.scheme, location.host, location.port)
        return next((proxy for pattern, proxy in self._rules if pattern.fits(to)), None)


def _destination(scheme: str, host: str, port: int) -> Destination:
    address = _address(host)
    return Destination(scheme, host.removesuffix(".") if address is None else str(_unmapped(address)), port, address)


def _address(host: str) -> IPv4Address | IPv6Address | None:
    # No name's last label is a number, so that most hosts are known to be none without the module.
    if ":" not in host and not host[-1:].isdigit():
        return None
    import ipaddress

    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _unmapped(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """Return the IPv4 address that is meant by an IPv6 one (RFC 4291, 2.5.5.2)."""
    return (address.ipv4_mapped if address.version == 6 else None) or address


def make_rules(value: ProxyInput) -> ProxyRules | None:
    """
    Return the rules that ``proxy=`` asks for, or None where nothing takes a proxy.

    Args:
        value: A proxy for everything (`aiosock.connection.proxy.make_proxy` says what can be one), or a mapping of
            patterns to proxies, or to None for a direct connection. A pattern is ``"all://"``, ``"http://"`` or
            ``"https://"``, the slashes being optional; or goes on with a host (``"https://example.com"``,
            ``"all://[::1]"``), with ``*.`` and a host for all names below it, or with ``*``; each maybe with a port
            (``"all://*.example.com:8080"``). Of those that fit, the most specific counts, in whatever order they
            stand: first one with a port, then one with a longer host, then one with a scheme.

    Raises:
        UsageError: Something else, a key or a proxy that can't be used, or two keys that mean the same and disagree;
            the message names it.
    """
    if value is None:
        return None
    if not isinstance(value, Mapping):
        return ProxyRules([(Pattern(), make_proxy(value))])
    rules: dict[Pattern, Proxy | None] = {}
    for key, proxy in value.items():
        pattern = _parse_key(key)
        made = None if proxy is None else _made(f"proxy: for {key!r}", proxy)
        if rules.setdefault(pattern, made) != made:
            raise UsageError(f"proxy: {key!r} means the same as another key, which has another proxy")
    if not any(rules.values()):
        return None
    by_weight = sorted(rules.items(), key=lambda rule: rule[0].weight, reverse=True)
    return ProxyRules(by_weight)


def _parse_key(key: object) -> Pattern:
    found = _pattern().fullmatch(key) if isinstance(key, str) else None
    if found is None:
        raise UsageError(
            f"proxy: the key {_shown(key)} is not a pattern such as 'all://', 'https://example.com' or "
            "'http://*.example.com:8080'"
        )
    scheme, host, port = found.groups()
    scheme = scheme.lower().replace("all", "")
    try:
        return _parse_pattern(scheme, host or "*", port)
    except InvalidURL as error:
        raise UsageError(f"proxy: the key {_shown(key)} cannot be used: {error}") from None


def _parse_pattern(scheme: str, host: str, port: str | None) -> Pattern:
    if host == "*":
        host, below, place = "", False, parse_url(f"http://any:{port or ''}")
    else:
        below = host.startswith("*.")
        place = parse_url(f"http://{host[2:] if below else host}:{port or ''}")
        to = _destination(scheme, place.host, place.port)
        if below and to.address is not None:
            raise InvalidURL("nothing is below an IP address")
        host = to.host
    return Pattern(scheme, host, below, place.port if port else 0)


def _made(owner: str, value: str | URL | Proxy) -> Proxy:
    try:
        return make_proxy(value)
    except UsageError as error:
        raise UsageError(f"{owner}: {str(error).removeprefix('proxy: ')}") from None


def _shown(value: object) -> str:
    """Return the start of a text for a message; what may be a password or a query is not shown."""
    if not isinstance(value, str):
        return f"of type {type(value).__name__}"
    return "that has '@' in it" if "@" in value else repr(value.partition("?")[0][:MAX_SHOWN])


def rules_from_environment(environ: Mapping[str, str]) -> ProxyRules | None:
    """
    Return the rules of ``http_proxy``, ``https_proxy``, ``all_proxy`` and ``no_proxy``, or None where these name no
    proxy.

    The lower-case name counts before the upper-case one, even when its value is empty. An empty value is none, so that
    ``all_proxy`` counts instead. A proxy without a scheme is an HTTP proxy. HTTP_PROXY does not count where
    REQUEST_METHOD is set: to a CGI program that is what a client sent as the field ``Proxy`` (CVE-2016-5385).

    ``no_proxy`` lists, with commas or white space between, what is connected to directly: ``*`` for everything; a host
    with all below it, a dot in front making no difference; ``*.`` and a host for those below it alone; an IP address;
    each of these maybe with a port (``example.com:8080``, ``[::1]:8080``); a network (``10.0.0.0/8``, ``fe80::/10``).
    What is none of these is ignored, with a line for the log.

    Args:
        environ: The environment, as `os.environ`.

    Raises:
        UsageError: A proxy that can't be used; the message names the variable.
    """
    # On Windows os.environ gives HTTP_PROXY for http_proxy, a dict does not.
    environ = dict(environ)
    if "REQUEST_METHOD" in environ:
        environ.pop("HTTP_PROXY", None)
    rules: list[tuple[Pattern | Network, Proxy | None]] = []
    for scheme in ("http", "https", ""):
        variable, value = _variable(environ, f"{scheme or 'all'}_proxy")
        if value:
            rules.append((Pattern(scheme), _made(variable, value)))
    if not rules:
        return None
    variable, value = _variable(environ, "no_proxy")
    exempt = [(pattern, None) for pattern in _parse_exemptions(variable, value)]
    return ProxyRules([*exempt, *rules], asked_for=False)


def _variable(environ: Mapping[str, str], name: str) -> tuple[str, str]:
    """Return the spelling of a variable that counts, and its value."""
    spelled = name if name in environ else name.upper()
    return spelled, environ.get(spelled, "").strip()


def _parse_exemptions(variable: str, text: str) -> Iterator[Pattern | Network]:
    for entry in re.split(r"[\s,]+", text):
        if entry:
            try:
                yield from _parse_exemption(entry)
            except (InvalidURL, ValueError):
                _log.debug(
                    "%s: the entry %s is neither a host, an address nor a network, and ignored", variable, _shown(entry)
                )


def _parse_exemption(entry: str) -> list[Pattern | Network]:
    if "/" in entry:
        import ipaddress

        return [Network(ipaddress.ip_network(entry, strict=False))]
    if entry.count(":") > 1 and not entry.startswith("["):
        entry = f"[{entry}]"
    found = _exemption().fullmatch(entry)
    if found is None:
        raise ValueError("no host")
    pattern = _parse_pattern("", *found.groups())
    return [pattern, pattern._replace(below=True)] if pattern.host and not pattern.below else [pattern]
