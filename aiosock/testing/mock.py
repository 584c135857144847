"""
A transport that answers from a function or a table: what is tested believes that it speaks with a server.

Redirects, cookies, authentication, middlewares and timeouts stand above a transport, and work as over the network.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from inspect import isawaitable
from time import perf_counter
from typing import TypeAlias

from aiosock.errors import RequestError, UsageError
from aiosock.message.request import Request
from aiosock.message.response import Response
from aiosock.message.url import parse_url
from aiosock.testing.answers import arrived, gathered, shown
from aiosock.testing.bounds import Bounds

Handler: TypeAlias = Callable[[Request], Response | Awaitable[Response]]
Route: TypeAlias = Response | Exception | Handler

_Place: TypeAlias = tuple[str, str, int]


class MockTransport:
    """
    Answers requests in place of the network: ``Client(transport=MockTransport(handler))``.

    The handler is given a request whose body is whole (``request.content`` is bytes, however it was sent) and returns a
    `Response`, best made by `aiosock.testing.reply`, or raises what the network would. The body of that response is
    what goes over the network: the client reads it, and undoes its content codings.

    Args:
        handler: A function or coroutine function from a `Request` to a `Response`. Or a mapping of routes to these, to
            responses, or to exceptions, which are raised. A route is a method and a URL, ``"GET https://host/path"``,
            or a method and a path, ``"GET /path"``, for all hosts. With a query it is for that query alone, without
            one for every query; the most precise route counts.

    Attributes:
        requests: What was asked, in order, each with its body whole.
        closed: The client that had this transport was closed.

    Raises:
        UsageError: A handler that is neither, or a route that is none.
    """

    def __init__(self, handler: Handler | Mapping[str, Route]) -> None:
        self.requests: list[Request] = []
        self.closed = False
        if isinstance(handler, Mapping):
            self._find: Callable[[Request], Route] = _Routes(handler).find
        elif callable(handler):
            self._find = lambda request: handler
        else:
            raise UsageError(f"MockTransport: takes a function or a mapping, not {type(handler).__name__}")

    async def send(self, request: Request) -> Response:
        """
        Return what the handler answers.

        Raises:
            UsageError: There is no route for the request, or the handler returned something else than a `Response`.
            RequestError: The handler raised it, or took longer than the request may.
        """
        started_at = perf_counter()
        bounds = Bounds(request)
        whole = await gathered(request, bounds)
        self.requests.append(whole)
        route = self._find(whole)
        try:
            if isinstance(route, Exception):
                if isinstance(route, RequestError):
                    route.request = request
                raise route.with_traceback(None)
            answer = route(whole) if callable(route) else route
            if isawaitable(answer):
                answer = await bounds.wait(answer)
        except RequestError as error:
            if error.request is None:
                error.request = request
            raise
        if not isinstance(answer, Response):
            raise UsageError(
                f"MockTransport: the answer to {shown(request)} is no Response but {type(answer).__name__}"
            )
        return arrived(answer, request, bounds, started_at)

    async def close(self) -> None:
        """Note that the client was closed."""
        self.closed = True


class _Routes:
    """A table of routes, looked up by method, place and target."""

    def __init__(self, routes: Mapping[str, Route]) -> None:
        self._names = [key.partition("?")[0] for key in routes]
        self._table: dict[tuple[str, _Place | None, str], Route] = {}
        for key, route in routes.items():
            if not isinstance(route, (Response, Exception)) and not callable(route):
                raise UsageError(
                    f"MockTransport: the route {key.partition('?')[0]!r} leads to a {type(route).__name__}; "
                    "it takes a Response, an exception or a function"
                )
            self._table[_parse_route(key)] = route

    def find(self, request: Request) -> Route:
        method, place, target = request.method, request.location.origin, request.target
        path = target.partition("?")[0]
        for key in ((method, place, target), (method, place, path), (method, None, target), (method, None, path)):
            if key in self._table:
                return self._table[key]
        known = ", ".join(self._names) or "none"
        raise UsageError(f"MockTransport: no route for {shown(request)}; there are: {known}")


def _parse_route(key: str) -> tuple[str, _Place | None, str]:
    method, _, url = key.partition(" ")
    if not url:
        raise UsageError(f"MockTransport: a route is 'METHOD URL' or 'METHOD /path', not {method.partition('?')[0]!r}")
    if url.startswith("/"):
        return method, None, parse_url("http://host" + url).target
    location = parse_url(url)
    return method, location.origin, location.target
