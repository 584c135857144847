"""
aiosock: an asyncio HTTP client that drives non-blocking sockets itself.

    import aiosock

    async def main():
        async with aiosock.Client() as client:
            response = await client.get("https://example.com/")
            print(response.status_code, response.text)

    aiosock.run(main())

The rooms, from the user down to the wire::

    client/      a call becomes a Request; a Response comes back, read or streaming
    middleware/  one concern per file: redirects, retries, caching, rates, authentication, cookies
    pool/        which connection carries it: reuse an idle one, dial a new one, or wait in line
    connection/  pumps a protocol over a stream: bytes out, bytes in, events up
    message/     what travels: requests, responses, bodies, content codings
    protocol/    sans-IO state machines: bytes <-> events
    network/     the only room with sockets, ssl and DNS

A name is loaded, with all that it needs, when it is first used; the errors are there at once.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from aiosock.errors import (
    AiosockError,
    Attempt,
    BlockedAddress,
    BodyNotReplayable,
    CircuitOpen,
    ClientClosed,
    ConnectError,
    ConnectTimeout,
    ContentTooLarge,
    DecodingError,
    DNSError,
    HeadTooLarge,
    HTTPStatusError,
    IncompleteBody,
    InvalidHeader,
    InvalidURL,
    LocalProtocolError,
    NetworkError,
    PoolTimeout,
    ProtocolError,
    ProxyError,
    ReadError,
    ReadTimeout,
    RemoteProtocolError,
    RequestError,
    ResponseNotRead,
    ServerDisconnected,
    StreamConsumed,
    TimeoutException,
    TLSError,
    TooManyRedirects,
    TotalTimeout,
    TruncatedStream,
    UsageError,
    WriteError,
    WriteTimeout,
)
from aiosock.version import __version__

if TYPE_CHECKING:
    from aiosock.api import delete, get, head, options, patch, post, put, query, request, run, stream
    from aiosock.client.client import Client
    from aiosock.client.events import EventStream
    from aiosock.client.transport import Transport
    from aiosock.config import Limits, Retry, Timeout
    from aiosock.connection.guard import Guard
    from aiosock.connection.proxy import Proxy
    from aiosock.message.cookies import Cookies
    from aiosock.message.iteration import BodyWrapper
    from aiosock.message.jar import CookieJar
    from aiosock.message.request import Request
    from aiosock.message.response import Response
    from aiosock.message.transit import ConnectionInfo, Timings
    from aiosock.middleware.auth import Auth
    from aiosock.middleware.breaker import CircuitBreaker
    from aiosock.middleware.cache import Cache
    from aiosock.middleware.cachestore import MemoryStore, SQLiteStore
    from aiosock.middleware.chain import Middleware
    from aiosock.middleware.coalesce import Coalesce
    from aiosock.middleware.hsts import HSTS
    from aiosock.middleware.rate import RateLimit
    from aiosock.middleware.schemes import BasicAuth, BearerAuth, DigestAuth, NetRCAuth
    from aiosock.network.dns import Resolver, SystemResolver
    from aiosock.pool.pool import PoolStats
    from aiosock.protocol.cookie import Cookie
    from aiosock.protocol.eventstream import ServerSentEvent
    from aiosock.testing.asgi import ASGITransport
    from aiosock.testing.mock import MockTransport

__all__ = [
    "HSTS",
    "ASGITransport",
    "AiosockError",
    "Attempt",
    "Auth",
    "BasicAuth",
    "BearerAuth",
    "BlockedAddress",
    "BodyNotReplayable",
    "BodyWrapper",
    "Cache",
    "CircuitBreaker",
    "CircuitOpen",
    "Client",
    "ClientClosed",
    "Coalesce",
    "ConnectError",
    "ConnectTimeout",
    "ConnectionInfo",
    "ContentTooLarge",
    "Cookie",
    "CookieJar",
    "Cookies",
    "DNSError",
    "DecodingError",
    "DigestAuth",
    "EventStream",
    "Guard",
    "HTTPStatusError",
    "HeadTooLarge",
    "IncompleteBody",
    "InvalidHeader",
    "InvalidURL",
    "Limits",
    "LocalProtocolError",
    "MemoryStore",
    "Middleware",
    "MockTransport",
    "NetRCAuth",
    "NetworkError",
    "PoolStats",
    "PoolTimeout",
    "ProtocolError",
    "Proxy",
    "ProxyError",
    "RateLimit",
    "ReadError",
    "ReadTimeout",
    "RemoteProtocolError",
    "Request",
    "RequestError",
    "Resolver",
    "Response",
    "ResponseNotRead",
    "Retry",
    "SQLiteStore",
    "ServerDisconnected",
    "ServerSentEvent",
    "StreamConsumed",
    "SystemResolver",
    "TLSError",
    "Timeout",
    "TimeoutException",
    "Timings",
    "TooManyRedirects",
    "TotalTimeout",
    "Transport",
    "TruncatedStream",
    "UsageError",
    "WriteError",
    "WriteTimeout",
    "__version__",
    "delete",
    "get",
    "head",
    "options",
    "patch",
    "post",
    "put",
    "query",
    "request",
    "run",
    "stream",
]

# Hidden from type checkers, so that they find a name that does not exist.
if not TYPE_CHECKING:
    _HOMES = {
        **dict.fromkeys(
            ("delete", "get", "head", "options", "patch", "post", "put", "query", "request", "run", "stream"), "api"
        ),
        "Client": "client.client",
        "Transport": "client.transport",
        **dict.fromkeys(("Limits", "Retry", "Timeout"), "config"),
        "EventStream": "client.events",
        "ServerSentEvent": "protocol.eventstream",
        "CircuitBreaker": "middleware.breaker",
        "RateLimit": "middleware.rate",
        "Cache": "middleware.cache",
        **dict.fromkeys(("MemoryStore", "SQLiteStore"), "middleware.cachestore"),
        "Coalesce": "middleware.coalesce",
        "HSTS": "middleware.hsts",
        "ASGITransport": "testing.asgi",
        "MockTransport": "testing.mock",
        "Guard": "connection.guard",
        "Proxy": "connection.proxy",
        "Cookies": "message.cookies",
        "CookieJar": "message.jar",
        "Cookie": "protocol.cookie",
        "BodyWrapper": "message.iteration",
        "Auth": "middleware.auth",
        "Middleware": "middleware.chain",
        "Request": "message.request",
        "Response": "message.response",
        **dict.fromkeys(("ConnectionInfo", "Timings"), "message.transit"),
        **dict.fromkeys(("BasicAuth", "BearerAuth", "DigestAuth", "NetRCAuth"), "middleware.schemes"),
        **dict.fromkeys(("Resolver", "SystemResolver"), "network.dns"),
        "PoolStats": "pool.pool",
    }

    _ROOMS = ("api", "client", "config", "connection", "message", "middleware", "network", "pool", "protocol")

    def __getattr__(name: str) -> object:
        """Load a public name, which is then there."""
        home = _HOMES.get(name)
        if home is None and name in _ROOMS:
            return import_module(f"{__name__}.{name}")
        if home is None:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = globals()[name] = getattr(import_module(f"{__name__}.{home}"), name)
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
