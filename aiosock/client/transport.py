"""
The network as a transport: a request goes to a connection of the pool, and a response comes back.
"""

from __future__ import annotations

import math
from functools import lru_cache
from time import perf_counter
from typing import Final

from aiosock.config import Limits, Timeout, as_timeout
from aiosock.connection.dial import Dialer, Origin
from aiosock.connection.exchange import Exchange
from aiosock.connection.http1 import Connection
from aiosock.errors import NetworkError, ProtocolError, UsageError
from aiosock.message.request import Request
from aiosock.message.response import Response
from aiosock.message.transit import Timings
from aiosock.network.dns import Resolver
from aiosock.network.tls import TLSSettings
from aiosock.pool.pool import Pool
from aiosock.protocol.http1 import FieldSection, RequestHead

# What is made once for many requests. The fields that a client sends hardly vary, but may be large.
MAX_ORIGINS: Final = 1024
MAX_HEADS: Final = 256
MAX_SECTIONS: Final = 64
MAX_SECTION_BYTES: Final = 4096

_DEFAULT_TIMEOUT: Final = Timeout()


class NetworkTransport:
    """
    Sends requests over connections of its own pool. Belongs to the event loop that runs when it is made.

    Args:
        limits: For the pool and its connections.
        resolver: What turns names into addresses.
        tls: How https is trusted.
        local_address: The address and port to connect from, None for any.
        uds: The path of a Unix socket to connect to, whatever the URL's host.
    """

    def __init__(
        self,
        *,
        limits: Limits,
        resolver: Resolver,
        tls: TLSSettings,
        local_address: tuple[str, int] | None,
        uds: str | None,
    ) -> None:
        self.pool: Pool[Connection] = Pool(Dialer(resolver, limits).dial, limits)
        self._origins: dict[tuple[str, str, int], Origin] = {}
        self._sections: dict[tuple[tuple[str, str], ...], FieldSection] = {}
        self._remembered_head = lru_cache(maxsize=MAX_HEADS)(RequestHead)
        self._tls = tls
        self._local_address = local_address
        self._uds = uds

    async def send(self, request: Request) -> Response:
        """
        Send a request, and return its response as soon as the head is there.

        ``request.extensions`` may have ``timeout`` (a `Timeout`), ``deadline`` (when all must be over, in time of
        the loop), ``server_name`` (for SNI and verification), ``on_informational`` (called with each 1xx answer) and
        ``trailers`` (pairs, or a function that returns them once the body is sent; the body must be chunked).

        Raises:
            RequestError: It failed.
            UsageError: The request cannot be sent as it is.
        """
        now = perf_counter()
        timings = Timings(now)
        extensions, location = request.extensions, request.location
        # What cannot be sent is refused here, before there is any connection.
        head = self._head(request)
        timeout = extensions.get("timeout", _DEFAULT_TIMEOUT)
        if not isinstance(timeout, Timeout):
            timeout = as_timeout(timeout)
        deadline: float = extensions.get("deadline", math.inf)
        origin = None if "server_name" in extensions else self._origins.get(location.origin)
        if origin is None:
            origin = self._origin(request)
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
            return response

    def _origin(self, request: Request) -> Origin:
        """Return what the request's connection has to lead to, and remember it; the only place where that is made."""
        location = request.location
        secure = location.scheme == "https"
        server_name = ""
        if secure:
            server_name = request.extensions.get("server_name") or location.host.partition("%")[0].rstrip(".")
            if not isinstance(server_name, str):
                raise UsageError("the extension server_name is a str")
        origin = Origin(
            location.scheme,
            location.host,
            location.port,
            server_name,
            self._tls if secure else None,
            self._local_address,
            self._uds,
        )
        if "server_name" not in request.extensions:
            if len(self._origins) >= MAX_ORIGINS:
                self._origins.clear()
            self._origins[location.origin] = origin
        return origin

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
