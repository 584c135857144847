"""
The chain: middlewares around a transport, composed once.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Protocol, TypeAlias

from aiosock.message.request import Request
from aiosock.message.response import Response

Send: TypeAlias = Callable[[Request], Awaitable[Response]]


class Middleware(Protocol):
    """What changes a request or a response on its way, sends again, or answers with another."""

    def __call__(self, request: Request, next: Send, /) -> Awaitable[Response]:
        """Return a response; ``await next(request)`` sends the request on its way."""
        ...


def compose(middlewares: Sequence[Middleware], send: Send) -> Send:
    """Return one function that sends a request through all middlewares, the first being the outermost."""
    for middleware in reversed(middlewares):
        send = partial(_call, middleware, send)
    return send


def _call(middleware: Middleware, send: Send, request: Request) -> Awaitable[Response]:
    return middleware(request, send)
