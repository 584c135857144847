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
    middleware/  one concern per file: redirects ...
    pool/        which connection carries it: reuse an idle one, dial a new one, or wait in line
    connection/  pumps a protocol over a stream: bytes out, bytes in, events up
    message/     what travels: requests, responses, bodies, content codings
    protocol/    sans-IO state machines: bytes <-> events
    network/     the only room with sockets, ssl and DNS
"""

from aiosock.api import delete, get, head, options, patch, post, put, query, request, run, stream
from aiosock.client.client import Client, Transport
from aiosock.config import Limits, Timeout
from aiosock.errors import (
    AiosockError,
    BlockedAddress,
    BodyNotReplayable,
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
from aiosock.message.request import Request
from aiosock.message.response import Response
from aiosock.message.transit import ConnectionInfo, Timings
from aiosock.network.dns import Resolver, SystemResolver
from aiosock.pool.pool import PoolStats
from aiosock.version import __version__

__all__ = [
    "AiosockError",
    "BlockedAddress",
    "BodyNotReplayable",
    "Client",
    "ClientClosed",
    "ConnectError",
    "ConnectTimeout",
    "ConnectionInfo",
    "ContentTooLarge",
    "DNSError",
    "DecodingError",
    "HTTPStatusError",
    "HeadTooLarge",
    "IncompleteBody",
    "InvalidHeader",
    "InvalidURL",
    "Limits",
    "LocalProtocolError",
    "NetworkError",
    "PoolStats",
    "PoolTimeout",
    "ProtocolError",
    "ProxyError",
    "ReadError",
    "ReadTimeout",
    "RemoteProtocolError",
    "Request",
    "RequestError",
    "Resolver",
    "Response",
    "ResponseNotRead",
    "ServerDisconnected",
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
