"""
The network as a transport: a request goes to a connection of the pool, and a response comes back.
"""

from __future__ import annotations

import asyncio
import math
from time import perf_counter

from aiosock.config import Limits, Timeout, as_timeout
from aiosock.connection.dial import Dialer, Origin
from aiosock.connection.exchange import Exchange
from aiosock.connection.http1 import Connection
from aiosock.errors import NetworkError, ProtocolError, UsageError
from aiosock.message.request import Request
from aiosock.message.response import Response, Timings
from aiosock.network.dns import Resolver
from aiosock.network.tls import TLSSettings
from aiosock.pool.pool import Pool
from aiosock.protocol.http1 import RequestHead


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
        self._loop = asyncio.get_running_loop()
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
        timings = Timings(perf_counter())
        # What cannot be sent is refused here, before there is any connection.
        head = RequestHead(request.method, request.target, request.location.authority, request.headers.items())
        extensions = request.extensions
        timeout = as_timeout(extensions["timeout"]) if "timeout" in extensions else Timeout()
        deadline: float = extensions.get("deadline", math.inf)
        origin = self._origin(request)
        pool = self.pool
        ticket = pool.take_ticket()
        fresh = False
        while True:
            connection = None if fresh else pool.take_idle(origin)
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
        """Return what the request's connection has to lead to; the only place where that is made."""
        location = request.location
        secure = location.scheme == "https"
        server_name = ""
        if secure:
            server_name = request.extensions.get("server_name") or location.host.partition("%")[0].rstrip(".")
            if not isinstance(server_name, str):
                raise UsageError("the extension server_name is a str")
        return Origin(
            location.scheme,
            location.host,
            location.port,
            server_name,
            self._tls if secure else None,
            self._local_address,
            self._uds,
        )

    async def close(self) -> None:
        """Close all connections, within a bounded time."""
        await self.pool.close()
