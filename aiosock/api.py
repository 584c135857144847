"""
One-shot requests, each with a client of its own, and `run`.

For more than one request a `Client` is the better choice: it reuses connections.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar, Unpack, cast

from aiosock.client.client import Client
from aiosock.client.options import RequestOptions
from aiosock.client.sender import StreamContext
from aiosock.client.transport import Transport
from aiosock.config import Limits
from aiosock.message.body import JSONEncoder
from aiosock.message.late import late
from aiosock.message.response import DefaultEncoding, JSONDecoder, Response
from aiosock.network.dns import Resolver
from aiosock.network.trust import Cert, Verify

if TYPE_CHECKING:
    from yarl import URL
else:
    URL = late("yarl", "URL")

T = TypeVar("T")


class OneShotOptions(RequestOptions, total=False):
    """What a one-shot request takes: everything that `Client.request` does, and these of `Client`."""

    verify: Verify
    cert: Cert | None
    trust_env: bool
    limits: Limits | None
    max_redirects: int
    resolver: Resolver | None
    local_address: str | tuple[str, int] | None
    uds: str | os.PathLike[str] | None
    transport: Transport | None
    default_encoding: DefaultEncoding
    json_encoder: JSONEncoder | None
    json_decoder: JSONDecoder | None
    raise_for_status: bool


# The guard is better placed with the client, whose every way it then bounds.
_CLIENT_OPTIONS = (OneShotOptions.__annotations__.keys() - RequestOptions.__annotations__.keys()) | {"guard"}


def _split(options: OneShotOptions) -> tuple[Client, RequestOptions]:
    given = cast("dict[str, Any]", options)
    client = Client(**{name: given.pop(name) for name in _CLIENT_OPTIONS & given.keys()})
    return client, cast("RequestOptions", given)


async def request(method: str, url: str | URL, **options: Unpack[OneShotOptions]) -> Response:
    """Send one request, read the whole answer and return it; see `Client.request`."""
    client, request_options = _split(options)
    async with client:
        return await client.request(method, url, **request_options)


async def get(url: str | URL, **options: Unpack[OneShotOptions]) -> Response:
    """Send one GET request; see `request`."""
    return await request("GET", url, **options)


async def head(url: str | URL, **options: Unpack[OneShotOptions]) -> Response:
    """Send one HEAD request; see `request`."""
    return await request("HEAD", url, **options)


async def options(url: str | URL, **options: Unpack[OneShotOptions]) -> Response:
    """Send one OPTIONS request; see `request`."""
    return await request("OPTIONS", url, **options)


async def post(url: str | URL, **options: Unpack[OneShotOptions]) -> Response:
    """Send one POST request; see `request`."""
    return await request("POST", url, **options)


async def put(url: str | URL, **options: Unpack[OneShotOptions]) -> Response:
    """Send one PUT request; see `request`."""
    return await request("PUT", url, **options)


async def patch(url: str | URL, **options: Unpack[OneShotOptions]) -> Response:
    """Send one PATCH request; see `request`."""
    return await request("PATCH", url, **options)


async def delete(url: str | URL, **options: Unpack[OneShotOptions]) -> Response:
    """Send one DELETE request; see `request`."""
    return await request("DELETE", url, **options)


async def query(url: str | URL, **options: Unpack[OneShotOptions]) -> Response:
    """Send one QUERY request; see `request`."""
    return await request("QUERY", url, **options)


def stream(method: str, url: str | URL, **options: Unpack[OneShotOptions]) -> OneShotStream:
    """Send one request and give the response as soon as its head is there, in ``async with``; see `Client.stream`."""
    client, request_options = _split(options)
    return OneShotStream(client, client.stream(method, url, **request_options))


class OneShotStream:
    """The context of `stream`: a response, and the client behind it."""

    def __init__(self, client: Client, context: StreamContext) -> None:
        self._client = client
        self._context = context

    async def __aenter__(self) -> Response:
        try:
            return await self._context.__aenter__()
        except BaseException:
            await self._client.close()
            raise

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            await self._context.__aexit__(exc_type, exc, traceback)
        finally:
            await self._client.close()


def run(main: Coroutine[Any, Any, T], *, debug: bool | None = None) -> T:
    """
    Run a coroutine as `asyncio.run` does, on uvloop where it is installed.

    Args:
        main: The coroutine.
        debug: As for `asyncio.run`.
    """
    loop_factory: Callable[[], asyncio.AbstractEventLoop] | None
    try:
        from uvloop import new_event_loop as loop_factory
    except ImportError:
        loop_factory = None
    with asyncio.Runner(debug=debug, loop_factory=loop_factory) as runner:
        return runner.run(main)
