"""
From an origin to an open connection: resolve, race, TLS, ALPN.

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
from aiosock.errors import DNSError
from aiosock.network.dns import Resolver
from aiosock.network.race import interleave, race
from aiosock.network.stream import Stream
from aiosock.network.tcp import connect_tcp, connect_unix, format_address
from aiosock.network.tls import TLSSettings, TLSStream, is_live, start_tls

if TYPE_CHECKING:
    import ssl

MAX_SESSIONS: Final = 1024


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
    """

    scheme: str
    host: str
    port: int
    server_name: str
    tls: TLSSettings | None
    local_address: tuple[str, int] | None
    uds: str | None

    def __str__(self) -> str:
        return f"{self.scheme}://{format_address(self.host, self.port)}"


class Dialer:
    """
    Opens connections.

    Args:
        resolver: What turns names into addresses.
        limits: Handed on to each connection.
    """

    def __init__(self, resolver: Resolver, limits: Limits) -> None:
        self._resolver = resolver
        self._limits = limits
        self._outbox = Outbox(asyncio.get_running_loop())
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
            TLSError: The handshake failed or the peer is not to be trusted.
        """
        dns: float | None = None
        started = perf_counter()
        if origin.uds is not None:
            report(f"connecting to {origin.uds}")
            stream = await connect_unix(origin.uds)
        else:
            if is_address(origin.host):
                addresses = [origin.host]
            else:
                report(f"resolving {origin.host}")
                addresses = await self._resolve(origin)
                dns = perf_counter() - started
            report(_connecting(tuple(addresses), origin.port))
            if len(addresses) == 1:
                stream = await connect_tcp(addresses[0], origin.port, local_address=origin.local_address)
            else:
                stream = await race(
                    addresses,
                    lambda address: connect_tcp(address, origin.port, local_address=origin.local_address),
                )
        connected = perf_counter()
        tls: float | None = None
        if origin.tls is not None:
            report(f"in the TLS handshake with {origin.server_name} at {stream.info.remote_address}")
            stream = await self._start_tls(stream, origin, origin.tls)
            tls = perf_counter() - connected
        return Connection(stream, self._limits, DialTimes(dns, connected - started - (dns or 0.0), tls), self._outbox)

    async def _resolve(self, origin: Origin) -> list[str]:
        addresses = interleave(list(await self._resolver.resolve(origin.host, origin.port)))
        if not addresses:
            raise DNSError(f"the name {origin.host} has no address")
        return addresses

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


# Reported for every connection, and hardly ever read.
@lru_cache(maxsize=256)
def _connecting(addresses: tuple[str, ...], port: int) -> str:
    return f"connecting to {', '.join(format_address(address, port) for address in addresses)}"


# Asked for every connection; parsing an address takes as long as a system call.
@lru_cache(maxsize=256)
def is_address(host: str) -> bool:
    """Tell whether a host is an IP address, maybe with a zone, that needs no look-up."""
    import ipaddress

    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True
