"""
From an origin to an open connection: resolve, guard, race, proxy, TLS, ALPN.

`Origin` is the one place that says what makes two connections interchangeable.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from functools import lru_cache, partial
from time import perf_counter
from typing import TYPE_CHECKING, Final, NamedTuple

from aiosock.config import Limits
from aiosock.connection.http1 import Connection, DialTimes
from aiosock.connection.outbox import Outbox
from aiosock.errors import ConnectError, NetworkError, ProtocolError, ProxyError
from aiosock.network.address import format_address, is_address
from aiosock.network.dns import Resolver, resolve
from aiosock.network.race import interleave, race
from aiosock.network.stream import Stream
from aiosock.network.tcp import connect_tcp, connect_unix
from aiosock.network.tls import TLSStream, is_live, start_tls
from aiosock.network.trust import TLSSettings

if TYPE_CHECKING:
    import ssl

    from aiosock.connection.guard import Guard
    from aiosock.connection.proxy import Credentials, Proxy
    from aiosock.protocol.socks import Version

MAX_SESSIONS: Final = 1024
MAX_PROXIES: Final = 64
MAX_ASKING: Final = 4
"""
How often a proxy is asked for one tunnel: Basic, Digest, a nonce that was stale, and a connection that had ended; with
SOCKS, for how many addresses of a name.
"""

SOCKS_VERSIONS: Final[dict[str, Version]] = {
    "socks4": "socks4",
    "socks4a": "socks4a",
    "socks5": "socks5",
    # The same to the proxy; it is told the name.
    "socks5h": "socks5",
}


class Origin(NamedTuple):
    """
    What a connection leads to, with everything else that changes what the connection is.

    Two requests may share a connection if and only if their origins are equal.

    Attributes:
        scheme: ``"http"`` or ``"https"``.
        host: Name or address that is connected to.
        port: 1 to 65535.
        server_name: The name for SNI and verification.
        tls: The client's TLS settings, by identity; None without TLS.
        local_address: The address and port bound to, None for any.
        uds: The path of a Unix socket that is connected to instead, None for TCP.
        proxy: Through which it is reached, None for directly. Where that sends the requests on itself, host and port
            are the proxy's: one connection to it serves all hosts.
        guards: What it passed, name and addresses, all of these: none is reused that was opened without.
    """

    scheme: str
    host: str
    port: int
    server_name: str
    tls: TLSSettings | None
    local_address: tuple[str, int] | None
    uds: str | None
    proxy: Proxy | None = None
    guards: tuple[Guard, ...] = ()

    @property
    def forwards(self) -> bool:
        """The proxy itself takes the requests, and sends them on."""
        return self.proxy is not None and self.tls is None and not self.proxy.is_socks

    def __str__(self) -> str:
        if self.proxy is None:
            return f"{self.scheme}://{format_address(self.host, self.port)}"
        if self.forwards:
            return f"the proxy {self.proxy}"
        return f"{self.scheme}://{format_address(self.host, self.port)} through the proxy {self.proxy}"


class Hop(NamedTuple):
    """What is kept about a proxy: who we are to it, and how it is trusted."""

    credentials: Credentials
    tls: TLSSettings


class Dialer:
    """
    Opens connections.

    Args:
        resolver: What turns names into addresses.
        limits: Handed on to each connection.
        tls: How the client trusts servers, and so a proxy that does not say otherwise.
    """

    def __init__(self, resolver: Resolver, limits: Limits, tls: TLSSettings | None = None) -> None:
        self._resolver = resolver
        self._limits = limits
        self._tls = tls
        self._outbox = Outbox(asyncio.get_running_loop())
        self._hops: OrderedDict[Proxy, Hop] = OrderedDict()
        # Keyed by the whole origin: a session resumes without the name being verified again, so it must never
        # cross names or contexts.
        self._sessions: OrderedDict[Origin, ssl.SSLSession] = OrderedDict()

    async def dial(self, origin: Origin, report: Callable[[str], None]) -> Connection:
        """
        Return an open connection to an origin. Bounding its time is the caller's.

        Args:
            report: Told which stage begins, in words for a message.

        Raises:
            DNSError: The name has no address.
            ConnectError: No address could be connected to; each is listed with its reason.
            ProxyError: The proxy cannot be reached, or refuses.
            TLSError: The handshake failed or the peer is not to be trusted.
            BlockedAddress: A guard refuses one of its addresses; none was connected to.
        """
        dns: float | None = None
        started = perf_counter()
        where = ""
        if origin.uds is not None:
            report(f"connecting to {origin.uds}")
            stream = await connect_unix(origin.uds)
        elif origin.proxy is not None:
            where = f" through the proxy {origin.proxy.address}"
            stream, dns = await self._pass(origin, origin.proxy, report)
        else:
            stream, dns = await self._connect(origin.host, origin.port, origin, report, origin.guards)
        connected = ended = perf_counter()
        tls: float | None = None
        if origin.tls is not None:
            where = where or f" at {stream.info.remote_address}"
            report(f"in the TLS handshake with {origin.server_name}{where}")
            stream = await self._start_tls(stream, origin, origin.tls)
            ended = perf_counter()
            tls = ended - connected
        times = DialTimes(dns, connected - started - (dns or 0.0), tls, ended)
        return Connection(stream, self._limits, times, self._outbox)

    async def _connect(
        self, host: str, port: int, origin: Origin, report: Callable[[str], None], guards: tuple[Guard, ...] = ()
    ) -> tuple[Stream, float | None]:
        """Return a stream to a host on the way to an origin, and the seconds that looking its name up took."""
        dns: float | None = None
        if is_address(host):
            addresses = [host]
        else:
            started = perf_counter()
            addresses = await self._resolve(host, port, report)
            dns = perf_counter() - started
        # Here, where nothing changes them any more: what is looked at is what is connected to.
        for guard in guards:
            guard.check_addresses(host, addresses)
        report(_connecting(tuple(addresses), port))
        if len(addresses) == 1:
            return await connect_tcp(addresses[0], port, local_address=origin.local_address), dns
        return await race(
            addresses, lambda address: connect_tcp(address, port, local_address=origin.local_address)
        ), dns

    async def _resolve(self, host: str, port: int, report: Callable[[str], None]) -> list[str]:
        report(f"resolving {host}")
        return interleave(await resolve(self._resolver, host, port))

    # Through a proxy

    def hop(self, proxy: Proxy) -> Hop:
        """
        Return what is kept about a proxy.

        Raises:
            UsageError: It has a certificate of its own to show, but the trust of the client, which is a context.
        """
        known = self._hops.get(proxy)
        if known is not None:
            self._hops.move_to_end(proxy)
            return known
        from aiosock.connection.proxy import Credentials

        made = Hop(Credentials(proxy), (self._tls or TLSSettings()).for_hop(proxy.verify, proxy.cert))
        self._hops[proxy] = made
        if len(self._hops) > MAX_PROXIES:
            self._hops.popitem(last=False)
        return made

    async def _pass(self, origin: Origin, proxy: Proxy, report: Callable[[str], None]) -> tuple[Stream, float | None]:
        """Return a stream that leads to an origin, or to the proxy that sends requests on."""
        if origin.forwards:
            return await self._reach(proxy, origin, report)
        return await (self._shake_hands if proxy.is_socks else self._ask)(origin, proxy, report)

    async def _reach(self, proxy: Proxy, origin: Origin, report: Callable[[str], None]) -> tuple[Stream, float | None]:
        """Return a stream to the proxy itself, on the way to an origin."""
        tls = self.hop(proxy).tls
        try:
            stream, dns = await self._connect(proxy.host, proxy.port, origin, report)
            if proxy.scheme == "https":
                name = proxy.host.partition("%")[0].rstrip(".")
                report(f"in the TLS handshake with the proxy {name} at {stream.info.remote_address}")
                # Sessions with the proxy have a key of their own, whatever origin this is for.
                key = Origin(proxy.scheme, proxy.host, proxy.port, name, tls, origin.local_address, None, proxy)
                stream = await self._start_tls(stream, key, tls)
        except ConnectError as error:
            raise ProxyError(f"the proxy {proxy} cannot be reached: {error}") from error
        return stream, dns

    async def _ask(self, origin: Origin, proxy: Proxy, report: Callable[[str], None]) -> tuple[Stream, float | None]:
        """Return a stream through a tunnel that an HTTP proxy opened."""
        from aiosock.connection.tunnel import Asker, failed

        target = _without_zone(origin)
        asker: Asker | None = None
        dns: float | None = None
        left = MAX_ASKING
        while True:
            left -= 1
            if asker is None:
                stream, dns = await self._reach(proxy, origin, report)
                asker = Asker(stream, proxy, self.hop(proxy).credentials, self._limits)
            report(f"asking the proxy {proxy.address} to connect to {target}")
            try:
                if await asker.ask(target, last=not left):
                    return asker.stream, dns
            except ProxyError:
                asker.stream.abort()
                raise
            except (NetworkError, ProtocolError) as error:
                asker.stream.abort()
                # One that it kept after it had demanded credentials may have ended all the same.
                if asker.asked == 1 or not left:
                    raise failed(proxy, target, error) from error
                asker = None
                continue
            except BaseException:
                asker.stream.abort()
                raise
            if not asker.reusable:
                asker.stream.abort()
                asker = None

    async def _shake_hands(
        self, origin: Origin, proxy: Proxy, report: Callable[[str], None]
    ) -> tuple[Stream, float | None]:
        """Return a stream through a tunnel that a SOCKS proxy opened, to the first address that it can connect to."""
        from aiosock.connection.tunnel import failed, shake_hands
        from aiosock.protocol.socks import Handshake

        started = perf_counter()
        hosts = (await self._targets(origin, proxy, report))[:MAX_ASKING]
        looked_up = None if hosts == [origin.host] else perf_counter() - started
        version = SOCKS_VERSIONS[proxy.scheme]
        while True:
            handshake = Handshake(version, hosts.pop(0), origin.port, proxy.auth)
            stream, dns = await self._reach(proxy, origin, report)
            report(f"in the SOCKS handshake with {proxy.address}")
            try:
                await shake_hands(stream, handshake)
            except (NetworkError, ProtocolError) as error:
                stream.abort()
                if hosts and handshake.asked and isinstance(error, ProxyError):
                    continue
                raise failed(proxy, _without_zone(origin), error) from error
            except BaseException:
                stream.abort()
                raise
            if looked_up is not None:
                dns = looked_up + (dns or 0.0)
            return stream, dns

    async def _targets(self, origin: Origin, proxy: Proxy, report: Callable[[str], None]) -> list[str]:
        """Return what a SOCKS proxy is asked to connect to, the name or addresses of it, in the order to be tried."""
        if is_address(origin.host) or proxy.scheme in ("socks4a", "socks5h"):
            return [origin.host]
        addresses = await self._resolve(origin.host, origin.port, report)
        for guard in origin.guards:
            guard.check_addresses(origin.host, addresses)
        if proxy.scheme == "socks4":
            addresses = [address for address in addresses if ":" not in address]
            if not addresses:
                raise ProxyError(f"the name {origin.host} has no IPv4 address, and SOCKS4 knows no others")
        return addresses

    # TLS

    async def _start_tls(self, inner: Stream, origin: Origin, settings: TLSSettings) -> Stream:
        try:
            context = await settings.context()
        except BaseException:
            inner.abort()
            raise
        session = self._sessions.get(origin)
        if session is not None and not is_live(session, time.time()):
            del self._sessions[origin]
            session = None
        return await start_tls(
            inner,
            context,
            origin.server_name,
            session=session,
            on_session=partial(self._keep_session, origin, session),
            # If none does, the pool watches the connection, which sends what the handshake has left.
            request_follows=True,
        )

    def _keep_session(self, origin: Origin, offered: ssl.SSLSession | None, stream: TLSStream) -> None:
        """
        Remember a session for resumption; called once a connection has received its first application data.

        Taking one is costly: the one that is kept stays unless it was refused, and of connections that were opened at
        the same time the first gives it.
        """
        kept = self._sessions.get(origin)
        if kept is not None and (stream.session_reused or kept is not offered):
            return
        session = stream.take_session()
        if session is None:
            return
        self._sessions[origin] = session
        self._sessions.move_to_end(origin)
        if len(self._sessions) > MAX_SESSIONS:
            self._sessions.popitem(last=False)


def _without_zone(origin: Origin) -> str:
    """Return host and port as a proxy is told them: a zone has no meaning but here (RFC 6874, 1)."""
    return format_address(origin.host.partition("%")[0], origin.port)


# Reported for every connection, and hardly ever read.
@lru_cache(maxsize=256)
def _connecting(addresses: tuple[str, ...], port: int) -> str:
    return f"connecting to {', '.join(format_address(address, port) for address in addresses)}"
