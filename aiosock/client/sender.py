"""
What sends a client's requests: through its middlewares, on one event loop of one process, until it is closed.
"""

from __future__ import annotations

import asyncio
import os
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from time import perf_counter
from types import TracebackType
from typing import TYPE_CHECKING, Final, TypeAlias

from aiosock.client.options import RequestOptions
from aiosock.client.transport import NetworkTransport, Transport
from aiosock.config import Retry
from aiosock.errors import Attempt, ClientClosed, RequestError, TimeoutException, TotalTimeout, UsageError
from aiosock.message.request import Request
from aiosock.message.response import DefaultEncoding, JSONDecoder, Response
from aiosock.middleware.chain import Lifetime, Middleware, Send
from aiosock.middleware.cookies import CookieKeeper
from aiosock.middleware.order import arrange
from aiosock.middleware.redirect import Redirects
from aiosock.pool.pool import PoolStats

if TYPE_CHECKING:
    from yarl import URL

    from aiosock.middleware.retry import Retries

GRACE_SECONDS: Final = 0.05

Call: TypeAlias = "tuple[str, str | URL, RequestOptions]"
"""Method, URL and options of a request that is still to be built."""


_forks = 0
"""How many forks this process has behind it: cheaper to ask than the system for the process, with every request."""


def _count_fork() -> None:
    global _forks
    _forks += 1


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_count_fork)


class Sender:
    """
    Sends requests.

    Args:
        build: Makes a request of a call.
        transport: What carries requests, None for the network.
        network: Makes the network's transport, when there is a loop.
        redirects: Follows redirects.
        middleware: The client's own, the outermost first.
        retry: Which requests are tried again.
        keeper: Keeps cookies.
        default_encoding: Of responses.
        json_decoder: Of responses.
        max_content_bytes: Of responses.
        raise_for_status: Raise `HTTPStatusError` for every 4xx and 5xx.
    """

    __slots__ = (
        "_build",
        "_carry",
        "_chain",
        "_closed",
        "_default_encoding",
        "_forks",
        "_given",
        "_json_decoder",
        "_keeper",
        "_lifetime",
        "_loop",
        "_max_content_bytes",
        "_middleware",
        "_network",
        "_process",
        "_raise_for_status",
        "_redirects",
        "_retries",
        "_retry",
        "_told",
        "_transport",
    )

    def __init__(
        self,
        build: Callable[[str, str | URL, RequestOptions], Request],
        transport: Transport | None,
        network: Callable[[], NetworkTransport],
        *,
        redirects: Redirects,
        middleware: Sequence[Middleware],
        retry: Retry | None,
        keeper: CookieKeeper,
        default_encoding: DefaultEncoding,
        json_decoder: JSONDecoder,
        max_content_bytes: int | None,
        raise_for_status: bool,
    ) -> None:
        self._build = build
        self._given = transport
        self._network = network
        self._redirects = redirects
        self._middleware = middleware
        self._retry = retry
        self._retries: Retries | None = None
        self._lifetime = Lifetime()
        self._keeper = keeper
        self._default_encoding = default_encoding
        self._json_decoder = json_decoder
        self._max_content_bytes = max_content_bytes
        self._raise_for_status = raise_for_status
        self._transport: Transport | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._process: int | None = None
        self._forks = -1
        # What sends in the end, and what leads there.
        self._carry: Send = _unbound
        self._chain: Send = _unbound
        self._closed = False
        self._told = False

    async def send(self, request: Request | Call, stream: bool) -> Response:
        """
        Send a request, or one that is built first.

        Args and raises: as `Client.send`.
        """
        if isinstance(request, tuple):
            request = self._build(*request)
        chain = self._chain
        if self._closed or asyncio.get_running_loop() is not self._loop or self._forks != _forks:
            chain = self.open()
        extensions = request.extensions
        if "middleware" in extensions or "retry" in extensions:
            # Composing is cheap.
            chain = self._compose(extensions.get("middleware") or (), "retry" in extensions)
        total = extensions["timeout"].total
        if total is not None:
            deadline = extensions["deadline"] = asyncio.get_running_loop().time() + total
            if self._middleware or "auth" in extensions or "middleware" in extensions or self._retry is not None:
                chain = partial(_send_by, deadline, chain)
        response: Response | None = None
        try:
            response = await chain(request)
            if response.request is None:
                response.request = request
            response.default_encoding = self._default_encoding
            response.json_decoder = self._json_decoder
            response.max_content_bytes = self._max_content_bytes
            if stream:
                response.lift_deadline()
            elif not response.read_ready():
                await response.read()
            if self._raise_for_status:
                response.raise_for_status()
        except BaseException as error:
            if isinstance(error, RequestError):
                error.request = error.request or request
                if response is not None and not error.attempts:
                    error.attempts = response.extensions.get("attempts", ())
            if response is not None:
                response.abort()
            raise
        return response

    # The loop, the process, the end

    def open(self) -> Send:
        """
        Bind the client to the loop and the process in which it is used first; refuse others. Return what sends.

        Raises:
            ClientClosed: It was closed.
            UsageError: Another loop, or another process: its connections belong to where they were made.
        """
        if self._closed:
            raise ClientClosed("the client is closed")
        loop = asyncio.get_running_loop()
        if self._transport is None:
            self._loop = loop
            self._process = os.getpid()
            self._forks = _forks
            if self._given is not None:
                self._transport = self._given
                self._carry = partial(_carry, self._given)
            else:
                self._transport = self._network()
                self._carry = self._transport.send
            self._chain = self._compose()
        elif self._process != os.getpid():
            raise UsageError(
                "the client was used in the process that this one was forked from; make one of its own here"
            )
        elif loop is not self._loop:
            raise UsageError("the client belongs to another event loop; make one for each")
        return self._chain

    def _compose(self, own: Sequence[Middleware] = (), retries: bool = False) -> Send:
        """Return the chain with what one request adds: middlewares of its own, and a word on retries."""
        if retries or self._retry is not None:
            if self._retries is None:
                from aiosock.middleware.retry import Retries

                # One for all requests: they share its budgets.
                self._retries = Retries(self._retry, on_retry=_tell_retry)
            own = [self._retries, *self._middleware, *own]
        else:
            own = [*self._middleware, *own]
        return arrange(self._redirects, own, self._keeper, self._lifetime, self._carry)

    def stats(self) -> PoolStats:
        """Return the pool's numbers; all are 0 where there is no network."""
        return self._transport.pool.stats() if isinstance(self._transport, NetworkTransport) else PoolStats()

    @property
    def closed(self) -> bool:
        return self._closed

    async def close(self) -> None:
        """Close all connections, and end what is under way; takes a bounded time."""
        if self._closed:
            return
        self._closed = True
        self._lifetime.end()
        transport = self._transport or self._given
        # In a forked child the connections are the parent's, and are left alone.
        if transport is not None and self._process in (None, os.getpid()):
            await transport.close()

    def forgotten(self) -> bool:
        """Tell, and only once, whether there is something that nobody has closed."""
        told, self._told = self._told, self._told or self._is_open()
        return self._told and not told

    def _is_open(self) -> bool:
        return not self._closed and self._transport is not None and self._process == os.getpid()

    def __del__(self) -> None:
        if getattr(self, "_closed", True) or not self._is_open():
            return
        if isinstance(self._transport, NetworkTransport):
            self._transport.pool.close_now()
        if self.forgotten():
            warn_unclosed(self)


class StreamContext:
    """Sends a request on entering, and gives up what is left of the answer on leaving; made by `Client.stream`."""

    __slots__ = ("_request", "_response", "_sender")

    def __init__(self, sender: Sender, request: Request) -> None:
        self._sender = sender
        self._request = request
        self._response: Response | None = None

    async def __aenter__(self) -> Response:
        self._response = await self._sender.send(self._request, True)
        return self._response

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        response, self._response = self._response, None
        if response is None:
            return
        if exc is not None:
            response.abort()
        await response.close()


def warn_unclosed(source: object) -> None:
    """Warn of a client that was not closed; `tracemalloc` knows where the source was made."""
    warnings.warn("a client was not closed; use 'async with', or close()", ResourceWarning, source=source, stacklevel=1)


def _tell_retry(request: Request, attempt: Attempt, delay: float) -> None:
    listener = request.extensions.get("on_event")
    if listener is not None:
        from aiosock.message.trace import RequestRetried, tell

        tell(listener, RequestRetried(request, perf_counter(), attempt, delay))


async def _carry(transport: Transport, request: Request) -> Response:
    """Send by a user's transport, which is held to its promise, and is asked for none that only the network keeps."""
    for name in ("guard", "proxy"):
        if request.extensions.get(name) is not None:
            raise UsageError(f"{name}: there is none on the way to a transport of one's own")
    response = await transport.send(request)
    if not isinstance(response, Response):
        raise UsageError(f"{type(transport).__name__}.send must return a Response, not {type(response).__name__}")
    return response


async def _send_by(deadline: float, chain: Send, request: Request) -> Response:
    """Send within a time that also bounds what the user's own functions wait for."""
    try:
        # The network's own deadlines come first, and know what it was doing.
        async with asyncio.timeout_at(deadline + GRACE_SECONDS):
            return await chain(request)
    except TimeoutError as error:
        if isinstance(error, TimeoutException):
            raise
        total = request.extensions["timeout"].total
        raise TotalTimeout(f"the request took longer than {total} s in all; it was in a middleware or auth") from error


async def _unbound(request: Request) -> Response:
    """Stand in for the chain of a client that no loop has used yet."""
    raise UsageError("the client is not bound to an event loop")
