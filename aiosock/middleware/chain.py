"""
The chain: middlewares around a transport, composed once, in which nothing waits for longer than its client lives.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from inspect import isawaitable
from typing import Any, Final, Protocol, TypeAlias, cast

from aiosock.errors import ClientClosed, UsageError
from aiosock.message.request import Request
from aiosock.message.response import Response

# What bounds and steers a user's request does so for all that is sent on its behalf.
_INHERITED: Final = ("timeout", "deadline", "proxy", "guard", "on_event", "call", "lifetime")

Send: TypeAlias = Callable[[Request], Awaitable[Response]]


class Middleware(Protocol):
    """
    What changes a request or a response on its way, sends again, or answers with another.

    It is called with every request that passes its place, redirects included, by many tasks at once.
    """

    def __call__(self, request: Request, next: Send, /) -> Awaitable[Response]:
        """
        Return a response; ``await next(request)`` sends the request on its way.

        The request is not changed but copied by `Request.replace`. A response that is not returned is yours to close;
        when the middleware fails, all that it got are given up.
        """
        ...


class Lifetime:
    """
    How long a client lives, as ``request.extensions["lifetime"]``.

    A middleware that lets a request wait for time to pass, or for others, which may be of another client, gives the
    future for which it waits to `bound`: else the request would outlive the client for so long.
    """

    __slots__ = ("_ended", "_waiting")

    def __init__(self) -> None:
        self._ended = False
        self._waiting: set[asyncio.Future[Any]] = set()

    def __call__(self, request: Request, next: Send, /) -> Awaitable[Response]:
        """Send a request of the client's own making, with its lifetime."""
        request.extensions["lifetime"] = self
        return next(request)

    def bound(self, future: asyncio.Future[Any]) -> None:
        """Let a future fail with `ClientClosed` at the end, if it is not done by then."""
        self._waiting.add(future)
        future.add_done_callback(self._waiting.discard)
        if self._ended:
            self.end()

    def end(self) -> None:
        """The client is closed."""
        self._ended = True
        for future in self._waiting:
            if not future.done():
                future.set_exception(ClientClosed("the client was closed while the request waited"))


def compose(middlewares: Sequence[Middleware], send: Send) -> Send:
    """Return one function that sends a request through all middlewares, the first being the outermost."""
    for middleware in reversed(middlewares):
        send = partial(_call, middleware, send)
    return send


def _call(middleware: Middleware, send: Send, request: Request) -> Awaitable[Response]:
    return middleware(request, send)


def as_middleware(value: object) -> Middleware:
    """
    Return a user's middleware as one that is held to what middlewares promise.

    Raises:
        UsageError: It cannot be called. What it sends and returns is looked at whenever it is called.
    """
    if not callable(value) or isinstance(value, type):
        raise UsageError(f"middleware: takes functions 'async def mw(request, next)', not {_kind(value)}")
    if type(value).__module__.startswith("aiosock."):
        # Our own keep their promises, and may hand on to others what they got.
        return cast("Middleware", value)
    return partial(_call_checked, cast("Middleware", value))


async def _call_checked(middleware: Middleware, request: Request, send: Send) -> Response:
    """Call a user's middleware. If it fails, the responses that it got are given up."""
    got: list[Response] = []
    try:
        # What leads on can be seen in it, also by one of our own that this one calls.
        answer = middleware(request, partial(_send_checked, (middleware, request, got), send))
        if not isawaitable(answer):
            raise UsageError(f"the middleware {_name(middleware)} must be 'async def'; it returned {_kind(answer)}")
        response = await answer
        if not isinstance(response, Response):
            raise UsageError(f"the middleware {_name(middleware)} must return a Response, not {_kind(response)}")
    except BaseException:
        for response in got:
            response.abort()
        raise
    if got and all(response is not one for one in got):
        # One that was made anew: whose answers are in it is known here alone.
        response.extensions["made_of"] = tuple(sent for one in got for sent in requests_behind(one))
    return response


async def _send_checked(called: tuple[Middleware, Request, list[Response]], send: Send, request: Request) -> Response:
    """Send what a user's middleware, called with a request, sends on its behalf, and note what it gets."""
    middleware, sent_for, got = called
    if not isinstance(request, Request):
        raise UsageError(f"the middleware {_name(middleware)} must send a Request, not {_kind(request)}")
    response = await send(inherit(request, sent_for))
    got.append(response)
    return response


def requests_behind(response: Response) -> list[Request]:
    """Return what was sent for a response, as far as that is known; more than one where a middleware made it anew."""
    sent: list[Request] = [*response.extensions.get("made_of", ())]
    if response.request is not None:
        sent.append(response.request)
    return sent


def inherit(request: Request, sent_for: Request) -> Request:
    """Return a request that is sent on behalf of another, with what bounds and steers that one."""
    given = sent_for.extensions
    missing = {name: given[name] for name in _INHERITED if name in given and name not in request.extensions}
    return request.replace(extensions=missing | request.extensions) if missing else request


def _kind(value: object) -> str:
    return f"the class {value.__name__}" if isinstance(value, type) else type(value).__name__


def _name(middleware: Middleware) -> str:
    return getattr(middleware, "__qualname__", None) or type(middleware).__qualname__
