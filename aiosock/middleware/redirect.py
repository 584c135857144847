"""
Redirects (RFC 9110, 15.4): where to, with which method and body, without whose credentials, and how often.
"""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING

from aiosock.errors import BodyNotReplayable, InvalidURL, RemoteProtocolError, RequestError, TooManyRedirects
from aiosock.message.request import BOUND_EXTENSIONS, BOUND_FIELDS, Request
from aiosock.message.response import Response
from aiosock.message.url import parse_url, refuse_forbidden, resolve_reference
from aiosock.middleware.chain import Send

if TYPE_CHECKING:
    from aiosock.message.trace import Listener


class Redirects:
    """
    Follows redirects.

    ``request.extensions["follow_redirects"]`` overrides the client's choice for one request. A redirect that is
    not followed has the request that it asks for as ``response.next_request``, None where its Location cannot be
    requested (an app's own scheme, say).

    Args:
        follow: Follow them unless a request says otherwise.
        limit: How many one request may follow.
    """

    def __init__(self, follow: bool, limit: int) -> None:
        self._follow = follow
        self._limit = limit

    async def __call__(self, request: Request, next: Send, /) -> Response:
        """
        Send the request, and those that redirects ask for.

        Raises:
            TooManyRedirects: More than the limit; it carries the last response.
            RemoteProtocolError: A Location that cannot be used; it carries the response.
            BodyNotReplayable: 307 or 308, and the body's source can be read only once.
        """
        response = await next(request)
        if response.status_code < 300 or not response.is_redirect:
            return response
        return await self.follow(request, response, next)

    async def follow(self, request: Request, response: Response, next: Send) -> Response:
        """Do what a redirect asks for; args and raises as for the call, with the first response, a redirect."""
        if not request.extensions.get("follow_redirects", self._follow):
            try:
                response.next_request = redirected(request, response)
            except RemoteProtocolError:
                pass  # Not followed, it is the caller's to make sense of.
            return response
        history: tuple[Response, ...] = ()
        while response.is_redirect:
            # A small rest of its body is drained, else its connection is closed.
            await response.close()
            following = redirected(request, response)
            if len(history) == self._limit:
                error = TooManyRedirects(f"more than {self._limit} redirects; the last was to {_shown(following)}")
                error.request = request
                error.response = response
                raise error
            if following.body is not None and not following.body.replayable:
                raise BodyNotReplayable(
                    f"{response.status_code} asks for the same body again, but its source can be read only once"
                )
            listener = request.extensions.get("on_event")
            if listener is not None:
                _tell(listener, request, response, following)
            history = (*history, response)
            request = following
            try:
                response = await next(request)
            except RequestError as failure:
                # Whoever called knows of the first request only.
                if failure.request is None:
                    failure.request = request
                raise
        response.history = history
        return response


def _tell(listener: Listener, request: Request, response: Response, following: Request) -> None:
    from aiosock.message.trace import Redirected, tell

    tell(listener, Redirected(request, perf_counter(), response, following))


def _shown(request: Request) -> str:
    return str(request.url.with_query(None).with_fragment(None))


def redirected(request: Request, response: Response) -> Request:
    """
    Return the request that a redirect asks for.

    To another origin (scheme, host or port) it takes no credentials along, and so has none to take any further.

    Args:
        request: What was sent, before middlewares added or changed something.
        response: The redirect. A middleware may have asked somebody else: seen from there the Location leads on, and
            what it let go there goes along.

    Raises:
        RemoteProtocolError: Its Location cannot be used.
    """
    asked = response.request or request
    try:
        reference = _reference(response)
        url = resolve_reference(str(asked.url), reference)
        if "#" not in reference and request.url.raw_fragment:
            url = f"{url}#{request.url.raw_fragment}"
        location = parse_url(url)
    except InvalidURL as error:
        failure = RemoteProtocolError(f"{response.status_code} redirects to what cannot be requested: {error}")
        failure.request = request
        failure.response = response
        raise failure from error
    # User information that a server sends is no one's to use (RFC 9110, 4.2.4), and `location.url` has none.
    following = request.replace(url=location.url, target=location.target)
    if asked.location.origin == following.location.origin != request.location.origin:
        _bind(following, request, asked)
    if _drops_body(response.status_code, request.method):
        following = following.replace(method="GET", content=None)
    return following


def _bind(following: Request, request: Request, asked: Request) -> None:
    """Let go along what a middleware has taken along to another origin on purpose."""
    for field in BOUND_FIELDS:
        values = request.headers.getall(field, [])
        if values and field != "Host" and _went_along(field, values, asked.headers.getall(field, [])):
            following.headers.extend((field, value) for value in values)
    for extension in BOUND_EXTENSIONS:
        given = request.extensions.get(extension)
        if given is not None and asked.extensions.get(extension) == given:
            following.extensions[extension] = given


def _went_along(field: str, values: list[str], sent: list[str]) -> bool:
    if sent == values or field != "Cookie":
        return sent == values
    # What was set by hand is the beginning of what was sent.
    written = "; ".join(value for value in values if value)
    return bool(written) and any(f"{value}; ".startswith(f"{written}; ") for value in sent)


def _reference(response: Response) -> str:
    """
    Return the Location as text. Fields arrive as latin-1; beyond ASCII it is meant as UTF-8, and what is not UTF-8
    keeps its bytes, percent-encoded.

    Raises:
        InvalidURL: It has a character that no URL may have, or there are several that differ.
    """
    location, *others = response.headers.getall("Location")
    if any(other != location for other in others):
        raise InvalidURL("there are several Location fields, and they differ")
    try:
        location = location.encode("latin-1").decode()
    except UnicodeEncodeError:
        pass  # No field of the network's: it is text already.
    except UnicodeDecodeError:
        location = "".join(char if char.isascii() else f"%{ord(char):02X}" for char in location)
    refuse_forbidden(location)
    return location


def _drops_body(status_code: int, method: str) -> bool:
    if status_code in (301, 302):
        return method == "POST"
    return status_code == 303 and method not in ("GET", "HEAD")
