"""
Redirects (RFC 9110, 15.4), in their simple form: method, body, credentials, the limit and the history.
"""

from __future__ import annotations

from aiosock.errors import BodyNotReplayable, InvalidURL, RemoteProtocolError, TooManyRedirects
from aiosock.message.request import Request
from aiosock.message.response import REDIRECT_STATUSES, Response
from aiosock.message.url import refuse_controls, resolve_reference
from aiosock.middleware.chain import Send

CREDENTIALS = ("Authorization", "Cookie", "Proxy-Authorization")


class Redirects:
    """
    Follows redirects.

    ``request.extensions["follow_redirects"]`` overrides the client's choice for one request. A redirect that is
    not followed has the request that it asks for as ``response.next_request``.

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
            TooManyRedirects: More than the limit.
            RemoteProtocolError: A Location that cannot be used; it carries the response.
            BodyNotReplayable: 307 or 308, and the body's source can be read only once.
        """
        response = await next(request)
        if response.status_code not in REDIRECT_STATUSES or not response.is_redirect:
            return response
        history: tuple[Response, ...] = ()
        follow = request.extensions.get("follow_redirects", self._follow)
        while response.is_redirect:
            try:
                following = redirected(request, response)
            except BaseException:
                await response.close()
                raise
            if not follow:
                response.next_request = following
                break
            await response.close()
            if len(history) == self._limit:
                error = TooManyRedirects(f"more than {self._limit} redirects; the last was to {_shown(following)}")
                error.request = request
                raise error
            if following.body is not None and not following.body.replayable:
                raise BodyNotReplayable(
                    f"{response.status_code} asks for the same body again, but its source can be read only once"
                )
            history = (*history, response)
            request = following
            response = await next(request)
        response.history = history
        return response


def _shown(request: Request) -> str:
    return str(request.url.with_query(None).with_fragment(None))


def redirected(request: Request, response: Response) -> Request:
    """
    Return the request that a redirect asks for.

    Raises:
        RemoteProtocolError: Its Location cannot be used.
    """
    location = response.headers.get("Location", "")
    try:
        # Fields arrive as latin-1; a Location beyond ASCII is meant as UTF-8.
        reference = location.encode("latin-1").decode("utf-8", "replace")
        refuse_controls(reference)
        base = str(request.url)
        url = resolve_reference(base, reference)
        if "#" not in reference and request.url.raw_fragment:
            url = f"{url}#{request.url.raw_fragment}"
        following = request.replace(url=url)
    except InvalidURL as error:
        failure = RemoteProtocolError(f"{response.status_code} redirects to what cannot be requested: {error}")
        failure.request = request
        failure.response = response
        raise failure from error
    if _drops_body(response.status_code, request.method):
        following = following.replace(method="GET", content=None)
    if not _same_origin(request, following):
        for name in CREDENTIALS:
            following.headers.popall(name, None)
        following.headers.popall("Host", None)
    return following


def _drops_body(status_code: int, method: str) -> bool:
    if status_code in (301, 302):
        return method == "POST"
    return status_code == 303 and method not in ("GET", "HEAD")


def _same_origin(one: Request, other: Request) -> bool:
    return one.location[1:4] == other.location[1:4]
