"""
The network as a transport: a request goes to a connection of the pool, and a response comes back.
"""

from __future__ import annotations

import math
from functools import lru_cache
from time import perf_counter
from typing import TYPE_CHECKING, Final, Protocol

from aiosock.config import Limits, Timeout, as_timeout
from aiosock.connection.dial import Dialer, Origin
from aiosock.connection.exchange import Exchange
from aiosock.connection.http1 import Connection
from aiosock.errors import NetworkError, ProtocolError, UsageError
from aiosock.message.body import BytesBody
from aiosock.message.request import Request
from aiosock.message.response import Response
from aiosock.message.transit import Timings
from aiosock.network.dns import Resolver
from aiosock.network.tls import TLSSettings
from aiosock.pool.pool import Pool
from aiosock.protocol.http1 import FieldSection, RequestHead

if TYPE_CHECKING:
    from aiosock.connection.proxy import Credentials, Proxy
    from aiosock.message.url import Location
    from aiosock.protocol.digest import Answer

# What is made once for many requests. The fields that a client sends hardly vary, but may be large.
MAX_ORIGINS: Final = 1024
MAX_HEADS: Final = 256
MAX_SECTIONS: Final = 64
MAX_SECTION_BYTES: Final = 4096

# Basic, Digest, and a nonce that was stale.
MAX_PROXY_ANSWERS: Final = 2

_DEFAULT_TIMEOUT: Final = Timeout()


class Proxies(Protocol):
    """What says which requests go through a proxy."""

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
        resolver: What turns names into addresses.
        tls: How https is trusted.
        local_address: The address and port to connect from, None for any.
        uds: The path of a Unix socket to connect to, whatever the URL's host.
        proxies: Which requests go through a proxy; none over a Unix socket.
    """

    def __init__(
        self,
        *,
        limits: Limits,
        resolver: Resolver,
        tls: TLSSettings,
        local_address: tuple[str, int] | None,
        uds: str | None,
        proxies: Proxies | None = None,
    ) -> None:
        self._dialer = Dialer(resolver, limits, tls)
        self.pool: Pool[Connection] = Pool(self._dialer.dial, limits)
        # Apart, so that who is reached directly costs no look at proxies.
        self._origins: dict[tuple[str, str, int], Origin] = {}
        self._proxied: dict[tuple[str, str, int], Origin] = {}
        self._sections: dict[tuple[tuple[str, str], ...], FieldSection] = {}
        self._remembered_head = lru_cache(maxsize=MAX_HEADS)(RequestHead)
        self._tls = tls
        self._local_address = local_address
        self._uds = uds
        self._proxies = proxies

    async def send(self, request: Request) -> Response:
        """
        Send a request, and return its response as soon as the head is there.

        ``request.extensions`` may have ``timeout`` (a `Timeout`), ``deadline`` (when all must be over, in time of
        the loop), ``server_name`` (for SNI and verification), ``proxy`` (what names one, or None for none, whatever the
        rules say), ``on_informational`` (called with each 1xx answer) and ``trailers`` (pairs, or a function that
        returns them once the body is sent; the body must be chunked).

        Raises:
            RequestError: It failed.
            UsageError: The request cannot be sent as it is.
        """
        now = perf_counter()
        timings = Timings(now)
        extensions, location = request.extensions, request.location
        timeout = extensions.get("timeout", _DEFAULT_TIMEOUT)
        if not isinstance(timeout, Timeout):
            timeout = as_timeout(timeout)
        deadline: float = extensions.get("deadline", math.inf)
        origin = None if "server_name" in extensions or "proxy" in extensions else self._origins.get(location.origin)
        passage: Passage | None = None
        if origin is None:
            origin = self._origin(request)
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
                connection = await pool.take(
                    origin,
                    ticket,
                    fresh=fresh,
                    connect_seconds=timeout.connect,
                    pool_seconds=timeout.pool,
                    deadline=deadline,
                )
                timings.acquired_at = perf_counter()
            exchange = Exchange(connection, request, head, pool, timeout, deadline, timings)
            if connection.requests_served == 1:
                timings.dns, timings.connect, timings.tls = connection.times
            try:
                response = await exchange.begin()
            except (NetworkError, ProtocolError):
                # The server closed the idle connection just as it was taken: sent again, once, on a fresh one.
                if fresh or not exchange.safe_to_repeat:
                    raise
                fresh = True
                continue
            if passage is None or not passage.answered(response):
                return response
            await response.close()
            head = passage.head()
            fresh = False
            now = perf_counter()

    def _origin(self, request: Request) -> Origin:
        """Return what the request's connection has to lead to, and remember it; the only place where that is made."""
        location, extensions = request.location, request.extensions
        usual = "server_name" not in extensions and "proxy" not in extensions
        if usual and (known := self._proxied.get(location.origin)) is not None:
            return known
        secure = location.scheme == "https"
        server_name = ""
        if secure:
            server_name = extensions.get("server_name") or location.host.partition("%")[0].rstrip(".")
            if not isinstance(server_name, str):
                raise UsageError("the extension server_name is a str")
        proxy = self._proxy_for(request)
        forwards = proxy is not None and not secure and not proxy.is_socks
        origin = Origin(
            *((proxy.scheme, proxy.host, proxy.port) if proxy is not None and forwards else location.origin),
            server_name,
            self._tls if secure else None,
            self._local_address,
            self._uds,
            proxy,
        )
        if usual:
            origins = self._origins if proxy is None else self._proxied
            if len(origins) >= MAX_ORIGINS:
                origins.clear()
            origins[location.origin] = origin
        return origin

    def _proxy_for(self, request: Request) -> Proxy | None:
        given = request.extensions.get("proxy")
        if given is not None:
            from aiosock.connection.proxy import make_proxy

            if self._uds is not None:
                raise UsageError(f"proxy: the connection is over the Unix socket {self._uds}")
            return make_proxy(given)
        if self._proxies is None or self._uds is not None or "proxy" in request.extensions:
            return None
        return self._proxies.proxy_for(request.location)

    def _passage(self, request: Request, origin: Origin) -> Passage | None:
        if origin.proxy is None:
            return None
        return Passage(request, origin.proxy, self._dialer.hop(origin.proxy).credentials if origin.forwards else None)

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
            section = FieldSection(fields)
            if len(section.encoded) <= MAX_SECTION_BYTES:
                if len(self._sections) >= MAX_SECTIONS:
                    self._sections.clear()
                self._sections[fields] = section
        if len(section.encoded) + len(target) > MAX_SECTION_BYTES:
            return RequestHead(method, target, authority, section)
        return self._remembered_head(method, target, authority, section)

    async def close(self) -> None:
        """Close all connections, within a bounded time."""
        await self.pool.close()


class Passage:
    """
    One request's way through a proxy: its head as it is written for that, and what is done when it demands credentials.

    Args:
        request: The request, which stays as it is.
        proxy: The proxy.
        credentials: Who we are to the proxy that sends the request on; None where it only opened a tunnel.
    """

    __slots__ = ("_answer", "_answers_left", "_credentials", "_proxy", "_request")

    def __init__(self, request: Request, proxy: Proxy, credentials: Credentials | None) -> None:
        self._request = request
        self._proxy = proxy
        self._credentials = credentials
        self._answer: Answer | None = None
        self._answers_left = MAX_PROXY_ANSWERS

    def head(self) -> RequestHead:
        """
        Return the head: in absolute form (RFC 9112, 3.2.2) where the proxy sends the request on.

        It is not remembered, since it may hold credentials.
        """
        request, proxy = self._request, self._proxy
        target, authority = request.target, request.location.authority
        fields = list(request.headers.items())
        if self._credentials is None:
            # Proxy-Authorization is for the proxy, which will not see this request.
            fields = [field for field in fields if field[0].lower() != "proxy-authorization"]
            return RequestHead(request.method, target, authority, fields)
        if target == "*":
            # OPTIONS for the whole server has an empty path (RFC 9112, 3.2.4).
            target = f"http://{authority}"
        elif target.startswith("/"):
            target = f"http://{authority}{target}"
        fields += [field for field in proxy.headers if field[0] not in request.headers]
        if "Proxy-Authorization" not in request.headers:
            value, self._answer = self._credentials.authorize(request.method, target, _known_body(request))
            if value is not None:
                fields.append(("Proxy-Authorization", value))
        return RequestHead(request.method, target, authority, fields)

    def answered(self, response: Response) -> bool:
        """Take up what the proxy says in an answer, and tell whether the request is to be sent again."""
        if self._credentials is None or "Proxy-Authorization" in self._request.headers:
            return False
        if response.status_code != 407:
            self._credentials.informed(response.headers)
            return False
        # Looked at in any case: the next request profits.
        worthwhile = self._credentials.challenged(response.headers, self._answer)
        body = self._request.body
        if not worthwhile or not self._answers_left or (body is not None and not body.replayable):
            return False
        self._answers_left -= 1
        return True


def _known_body(request: Request) -> bytes | None:
    """Return the body where all of it is known."""
    if request.body is None:
        return b""
    return bytes(request.body.data) if isinstance(request.body, BytesBody) else None
