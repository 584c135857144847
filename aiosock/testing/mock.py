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
            one for every query; the most precise route counts. Left out, `route` adds them one by one.

    Attributes:
        requests: What was asked, in order, each with its body whole.
        closed: The client that had this transport was closed.

    Raises:
        UsageError: A handler that is neither, or a route that is none.
    """

    def __init__(self, handler: Handler | Mapping[str, Route] | None = None) -> None:
        self.requests: list[Request] = []
        self.closed = False
        self._handler: Handler | None = None
        self._routes: dict[tuple[str, _Place | None, str], Route] = {}
        if callable(handler):
            self._handler = handler
        elif handler is None or isinstance(handler, Mapping):
            for key, route in (handler or {}).items():
                self.route(key, route)
        else:
            raise UsageError(f"MockTransport: takes a function or a mapping, not {type(handler).__name__}")

    def route(self, key: str, answer: Route) -> None:
        """
        Add a route, or let another answer take its place.

        Args:
            key: ``"METHOD URL"`` or ``"METHOD /path"``.
            answer: A response, an exception, or a function.

        Raises:
            UsageError: No such key, or no such answer, or there is a handler for all requests.
            InvalidURL: The URL cannot be requested.
        """
        if self._handler is not None:
            raise UsageError("MockTransport: a function answers all requests, so that there is no place for a route")
        place = _parse_route(key)
        if not isinstance(answer, (Response, Exception)) and not callable(answer):
            raise UsageError(
                f"MockTransport: the route {_without_query(key)} leads to an object of {type(answer).__name__}; "
                "it takes a Response, an exception or a function"
            )
        self._routes[place] = answer

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
            kind = type(answer).__name__
            raise UsageError(f"MockTransport: the answer to {shown(request)} must be a Response, not {kind}")
        return arrived(answer, request, bounds, started_at)

    async def close(self) -> None:
        """Note that the client was closed."""
        self.closed = True

    def _find(self, request: Request) -> Route:
        if self._handler is not None:
            return self._handler
        method, place, target = request.method, request.location.origin, request.target
        path = target.partition("?")[0]
        for key in ((method, place, target), (method, place, path), (method, None, target), (method, None, path)):
            if key in self._routes:
                return self._routes[key]
        known = ", ".join(dict.fromkeys(_shown_route(*key) for key in self._routes)) or "none"
        raise UsageError(f"MockTransport: no route for {shown(request)}; there are: {known}")


def _parse_route(key: str) -> tuple[str, _Place | None, str]:
    if not isinstance(key, str):
        raise UsageError(f"MockTransport: a route is 'METHOD URL' or 'METHOD /path', not {type(key).__name__}")
    method, _, url = key.partition(" ")
    if not url:
        raise UsageError(f"MockTransport: a route is 'METHOD URL' or 'METHOD /path', not {_without_query(key)!r}")
    if url.startswith("/"):
        return method, None, parse_url("http://host" + url).target
    location = parse_url(url)
    return method, location.origin, location.target


def _shown_route(method: str, place: _Place | None, target: str) -> str:
    origin = "" if place is None else f"{place[0]}://{place[1]}:{place[2]}"
    return _without_query(f"{method} {origin}{target}")


def _without_query(text: str) -> str:
    return text.partition("?")[0]
