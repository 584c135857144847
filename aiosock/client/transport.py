"""
The network as a transport: a request goes to a connection of the pool, and a response comes back.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import lru_cache
from time import perf_counter
from typing import TYPE_CHECKING, Final, Protocol, cast

from multidict import istr

from aiosock.config import Limits, Timeout, as_timeout
from aiosock.connection.dial import Dialer, Origin
from aiosock.connection.exchange import Exchange
from aiosock.connection.http1 import Connection
from aiosock.errors import NetworkError, ProtocolError, UsageError
from aiosock.message.request import Request
from aiosock.message.response import Response
from aiosock.message.transit import Timings
from aiosock.network.dns import Resolver, SystemResolver
from aiosock.network.trust import TLSSettings
from aiosock.pool.pool import Pool
from aiosock.protocol.http1 import FieldSection, RequestHead

if TYPE_CHECKING:
    from aiosock.client.passage import Passage
    from aiosock.connection.guard import Guard
    from aiosock.connection.proxy import Proxy
    from aiosock.message.trace import Trace
    from aiosock.message.url import Location

# What is made once for many requests. The fields that a client sends hardly vary, but may be large.
MAX_ORIGINS: Final = 1024
MAX_HEADS: Final = 256
MAX_SECTIONS: Final = 64
MAX_SECTION_BYTES: Final = 4096

OWN_WAY: Final = frozenset({"server_name", "proxy", "guard"})
"""Extensions with which a request takes another connection than its URL alone would say."""

_DEFAULT_TIMEOUT: Final = Timeout()
_PROXY_AUTHORIZATION: Final = istr("Proxy-Authorization")


class Transport(Protocol):
    """What carries requests: the network, or something in its place."""

    async def send(self, request: Request) -> Response:
        """Return the response to a request, its body maybe not read."""
        ...

    async def close(self) -> None:
        """Let go of everything."""
        ...


class Proxies(Protocol):
    """
    What says which requests go through a proxy.

    Attributes:
        asked_for: A user named them, not the environment, whose proxies no guarded request takes.
    """

    asked_for: bool

    def proxy_for(self, location: Location) -> Proxy | None:
        """
        Return the proxy for a URL, None for none.

        Asked once for each origin and then remembered: scheme, host and port may count, and nothing else.
        """
        ...


class NetworkTransport:
    """
    Sends requests over connections of its own pool. Belongs to the event loop that runs when it is made.

    Args:
        limits: For the pool and its connections.
        resolver: What turns names into addresses, None for the system.
        tls: How https is trusted.
        local_address: The address and port to connect from, None for any.
        uds: The path of a Unix socket to connect to, whatever the URL's host.
        proxies: Which requests go through a proxy; none over a Unix socket.
        guard: Which hosts may be connected to.
    """

    def __init__(
        self,
        *,
        limits: Limits,
        resolver: Resolver | None,
        tls: TLSSettings,
        local_address: tuple[str, int] | None,
        uds: str | None,
        proxies: Proxies | None = None,
        guard: Guard | None = None,
    ) -> None:
        self._dialer = Dialer(resolver or SystemResolver(), limits, tls)
        self.pool: Pool[Connection] = Pool(self._dialer.dial, limits)
        # Apart, so that who is reached directly costs no look at proxies.
        self._origins: dict[tuple[str, str, int], Origin] = {}
        self._proxied: dict[tuple[str, str, int], Origin] = {}
        self._sections: dict[tuple[tuple[str, str], ...], FieldSection] = {}
        self._remembered_head = lru_cache(maxsize=MAX_HEADS)(RequestHead)
        self._max_content_bytes = limits.max_content_bytes
        self._tls = tls
        self._local_address = local_address
        self._uds = uds
        self._proxies = proxies
        self._guards = () if guard is None else (guard,)

    async def send(self, request: Request, trace: Trace | None = None) -> Response:
        """
        Send a request, and return its response as soon as the head is there.

        ``request.extensions`` may have ``timeout`` (a `Timeout`), ``deadline`` (when all must be over, in time of
        the loop), ``server_name`` (for SNI and verification), ``proxy`` (what names one, or None for none, whatever the
        rules say), ``guard`` (a `Guard` that counts as well as the client's), ``on_informational`` (called with each
        1xx answer), ``trailers`` (pairs, or a function that returns them once the body is sent; the body must be
        chunked) and ``on_event`` (a listener, see `aiosock.message.trace`).

        Raises:
            RequestError: It failed.
            BlockedAddress: A guard refuses the host; nothing was connected to for it.
            UsageError: The request cannot be sent as it is.
        """
        now = perf_counter()
        timings = Timings(now)
        extensions, location = request.extensions, request.location
        if "on_event" in extensions and trace is None:
            return await self._send_traced(request)
        timeout = extensions.get("timeout", _DEFAULT_TIMEOUT)
        if not isinstance(timeout, Timeout):
            timeout = as_timeout(timeout)
        deadline: float = extensions.get("deadline", math.inf)
        origin = self._origins.get(location.origin) if OWN_WAY.isdisjoint(extensions) else None
        passage: Passage | None = None
        if origin is None:
            origin = self._origin(request)
            if origin.forwards:
                passage = self._passage(request, origin)
        # What cannot be sent is refused here, before there is any connection.
        head = self._head(request) if passage is None else passage.head()
        pool = self.pool
        ticket = pool.take_ticket()
        fresh = False
        while True:
            connection = None if fresh else pool.take_idle(origin)
            timings.acquired_at = now
            if connection is None:
                if trace is not None:
                    trace.queued()
                connection = await pool.take(
                    origin,
                    ticket,
                    fresh=fresh,
                    connect_seconds=timeout.connect,
                    pool_seconds=timeout.pool,
                    deadline=deadline,
                )
                timings.acquired_at = perf_counter()
            if trace is None:
                exchange = Exchange(connection, request, head, pool, timeout, deadline, timings)
            else:
                exchange = _traced(trace, connection, request, head, pool, timeout, deadline, timings)
            if connection.requests_served == 1:
                timings.dns, timings.connect, timings.tls, _ = connection.times
            try:
                response = await exchange.begin()
            except (NetworkError, ProtocolError):
                # The server closed the idle connection just as it was taken: sent again, once, on a fresh one.
                if fresh or not exchange.safe_to_repeat:
                    raise
                fresh = True
                continue
            if passage is None or not passage.answered(response):
                # Also for middlewares that read it.
                response.max_content_bytes = self._max_content_bytes
                return response
            await response.close()
            head = passage.head()
            fresh = False
            now = perf_counter()

    async def _send_traced(self, request: Request) -> Response:
        from aiosock.message.trace import Trace

        listener = request.extensions["on_event"]
        if listener is None:
            # Not even the client's.
            silent = {name: value for name, value in request.extensions.items() if name != "on_event"}
            return await self.send(request.replace(extensions=silent))
        trace = Trace(listener, request)
        try:
            return await self.send(request, trace)
        except BaseException as error:
            trace.failed(error)
            raise

    def _origin(self, request: Request) -> Origin:
        """
        Return what the request's connection has to lead to, and remember it; the only place where that is made.

        What is remembered has passed the client's guard: scheme, host and port are all that it asks about.
        """
        location, extensions = request.location, request.extensions
        usual = OWN_WAY.isdisjoint(extensions)
        if usual and (known := self._proxied.get(location.origin)) is not None:
            return known
        secure = location.scheme == "https"
        server_name = ""
        if secure:
            server_name = extensions.get("server_name") or location.host.partition("%")[0].rstrip(".")
            if not isinstance(server_name, str):
                raise UsageError("the extension server_name is a str")
        guards = self._guards_for(request)
        proxy = self._proxy_for(request, bool(guards))
        if guards:
            self._check(guards, location, proxy)
        forwards = proxy is not None and not secure and not proxy.is_socks
        origin = Origin(
            *((proxy.scheme, proxy.host, proxy.port) if proxy is not None and forwards else location.origin),
            server_name,
            self._tls if secure else None,
            self._local_address,
            self._uds,
            proxy,
            guards,
        )
        if usual:
            origins = self._origins if proxy is None else self._proxied
            if len(origins) >= MAX_ORIGINS:
                origins.clear()
            origins[location.origin] = origin
        return origin

    def _proxy_for(self, request: Request, guarded: bool) -> Proxy | None:
        given = request.extensions.get("proxy")
        if given is not None:
            from aiosock.connection.proxy import make_proxy

            if self._uds is not None:
                raise UsageError(f"proxy: the connection is over the Unix socket {self._uds}")
            return given.proxy_for(request.location) if hasattr(given, "proxy_for") else make_proxy(given)
        if self._proxies is None or self._uds is not None or "proxy" in request.extensions:
            return None
        if guarded and not self._proxies.asked_for:
            return None
        return self._proxies.proxy_for(request.location)

    def _guards_for(self, request: Request) -> tuple[Guard, ...]:
        """Return the client's guard and the request's: one more can only refuse more."""
        given = request.extensions.get("guard")
        if given is None or given in self._guards:
            return self._guards
        from aiosock.connection.guard import Guard

        if not isinstance(given, Guard):
            raise UsageError(f"the extension guard is a Guard, not {type(given).__name__}")
        return (*self._guards, given)

    def _check(self, guards: tuple[Guard, ...], location: Location, proxy: Proxy | None) -> None:
        """
        Refuse what guards refuse of the URL, and the ways on which they could not see where it leads.

        Raises:
            BlockedAddress: The URL.
            UsageError: The way.
        """
        if self._uds is not None:
            raise UsageError(f"guard: the connection is over the Unix socket {self._uds}, whatever the URL's host")
        if proxy is not None and not all(guard.allow_proxy for guard in guards):
            raise UsageError(f"guard: the proxy {proxy} is used with allow_proxy=True alone")
        remote = proxy is not None and proxy.scheme not in ("socks4", "socks5")
        for guard in guards:
            guard.check_target(*location.origin, remote=remote)

    def _passage(self, request: Request, origin: Origin) -> Passage:
        from aiosock.client.passage import Passage

        proxy = cast("Proxy", origin.proxy)
        return Passage(request, proxy, self._dialer.hop(proxy).credentials)

    def _knows_proxies(self, request: Request) -> bool:
        return self._proxies is not None or "proxy" in request.extensions

    def _head(self, request: Request) -> RequestHead:
        """Return the request's head; fields that are the same are checked and encoded once, and so are whole heads."""
        method, target, authority = request.method, request.target, request.location.authority
        fields = tuple(request.headers.items())
        try:
            section = self._sections.get(fields)
        except TypeError:
            # Something that has no hash, and may be no str: then it is refused with a word.
            return RequestHead(method, target, authority, fields)
        if section is None:
            if _PROXY_AUTHORIZATION in request.headers and self._knows_proxies(request):
                # That is for a proxy, which does not see this request.
                return RequestHead(method, target, authority, _without_proxy_authorization(fields))
            section = FieldSection(fields)
            if len(section.encoded) <= MAX_SECTION_BYTES and _PROXY_AUTHORIZATION not in request.headers:
                if len(self._sections) >= MAX_SECTIONS:
                    self._sections.clear()
                self._sections[fields] = section
        if len(section.encoded) + len(target) > MAX_SECTION_BYTES:
            return RequestHead(method, target, authority, section)
        return self._remembered_head(method, target, authority, section)

    async def close(self) -> None:
        """Close all connections, within a bounded time."""
        await self.pool.close()


def _without_proxy_authorization(fields: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    return [field for field in fields if field[0].lower() != "proxy-authorization"]


def _traced(
    trace: Trace,
    connection: Connection,
    request: Request,
    head: RequestHead,
    pool: Pool[Connection],
    timeout: Timeout,
    deadline: float,
    timings: Timings,
) -> Exchange:
    from aiosock.connection.traced import TracedExchange

    exchange = TracedExchange(connection, request, head, pool, timeout, deadline, timings, trace)
    *stages, ended_at = connection.times
    if connection.requests_served > 1:
        stages = [None] * 3
    trace.acquired(connection.info(), ended_at, *stages)
    return exchange
