"""
Identical safe requests that are under way at the same time share one exchange.
"""

from __future__ import annotations

import asyncio
import copy
import math
from functools import partial
from typing import Final, TypeAlias

from multidict import CIMultiDict

from aiosock.errors import RequestError, TotalTimeout, UsageError
from aiosock.message.iteration import BodySource, BodyWrapper
from aiosock.message.request import Request
from aiosock.message.response import Response
from aiosock.message.transit import Timings
from aiosock.middleware.chain import Send, requests_behind
from aiosock.middleware.cookies import cookies_by_hand
from aiosock.middleware.identity import as_sent, is_authorized_below, is_one_user
from aiosock.middleware.kept import KeptBody, is_plain, make_gatherable
from aiosock.protocol.cache import SAFE_METHODS

MIB: Final = 1024 * 1024

# A call's number and how long it may take are its own, and what stands in the chain is seen there.
_NOT_COMPARED: Final = ("call", "deadline", "middleware", "retry")

_Key: TypeAlias = tuple[str, str, str, tuple[tuple[str, str], ...]]


class Coalesce:
    """
    A middleware that sends one request where several tasks ask for the same at the same time.

    The same are GET and HEAD requests without a body that agree in URL, in all fields, the cookies of the client's jar
    included, in what is below, and in all extensions but the deadline: timeouts, ``auth``, ``proxy``, ``guard`` and
    whatever else there is. Those with an ``auth`` that is a function of somebody's are not shared, nor is an answer to
    one that a middleware below has given an Authorization or a cookie: it may be another user for each. What tells who
    asks in another field (an API key, say) is to be there before. Each gets a response of its own, or the error as an
    exception of its own. The exchange goes on as long as somebody waits for it, whoever asked first, and each waits for
    as long as its own ``total`` allows.

    Who is alone when the head of the answer comes gets it as it comes, and nobody joins any more. Else the body is
    read into memory before anybody gets it, so that streams which never end are not to be shared: answers of the type
    text/event-stream are not, and the ones too large go to one of those that wait, while the others send their own.

    A request that may change something (POST, say) ends the joining of what is under way to its origin, when it is
    sent and when it is answered, so that whoever asks after a change sees it.

    Args:
        max_bytes: The most bytes of a body, as it was sent, that is shared.

    Raises:
        UsageError: ``max_bytes`` is no number of at least 0.
    """

    def __init__(self, *, max_bytes: int = MIB) -> None:
        if isinstance(max_bytes, bool) or not isinstance(max_bytes, int) or max_bytes < 0:
            raise UsageError(f"Coalesce: max_bytes takes a whole number of at least 0, not {max_bytes!r}")
        self._max_bytes = max_bytes
        self._shared: dict[_Key, list[_Shared]] = {}

    def __repr__(self) -> str:
        return f"<Coalesce {sum(map(len, self._shared.values()))} under way>"

    async def __call__(self, request: Request, next: Send, /) -> Response:
        """
        Send the request, or wait for the answer to one that is the same.

        Raises:
            TotalTimeout: The time for this request is over.
        """
        if request.method not in SAFE_METHODS:
            return await self._send_unsafe(request, next)
        if not _is_shared(request):
            return await next(request)
        key = (request.method, str(request.url), request.target, tuple(as_sent(request, next).headers.items()))
        compared = _compared(request)
        for shared in self._shared.get(key, ()):
            # What belongs to another client leads elsewhere.
            if _is_same_way(shared.next, next) and _compared(shared.request) == compared:
                break
        else:
            lasting = {name: value for name, value in request.extensions.items() if name != "deadline"}
            shared = _Shared(request.replace(extensions=lasting), next, self._max_bytes, self._shared, key)
        response = await shared.wait(request)
        return await next(request) if response is None else response

    async def _send_unsafe(self, request: Request, next: Send) -> Response:
        """Send what may change its origin: what is asked for after it began, or ended, is asked for anew."""
        self._part_from(request)
        try:
            return await next(request)
        finally:
            self._part_from(request)

    def _part_from(self, request: Request) -> None:
        """Let nobody join what is under way to the origin of a request."""
        origin = request.location.origin
        for key, shared in list(self._shared.items()):
            if shared[0].request.location.origin == origin:
                del self._shared[key]


class _Shared:
    """
    One exchange and those who wait for it.

    Args:
        request: What is sent, without a deadline.
        next: What sends it.
        most: The most bytes of a body that is shared.
        joinable: Where it can be found, until nobody may join any more.
        key: Under which key.
    """

    def __init__(self, request: Request, next: Send, most: int, joinable: dict[_Key, list[_Shared]], key: _Key) -> None:
        self.request = request
        self.next = next
        self._most = most
        self._joinable = joinable
        self._key = key
        self._waiting = 0
        # What comes of it: a response for one, a response with its body for all, or an error.
        self._alone: Response | None = None
        self._kept: tuple[Response, bytes] | None = None
        self._error: Exception | None = None
        joinable.setdefault(key, []).append(self)
        self._task = asyncio.get_running_loop().create_task(self._exchange())

    async def wait(self, request: Request) -> Response | None:
        """Return a response of one's own; None where one has to send a request of one's own."""
        deadline: float = request.extensions.get("deadline", math.inf)
        task = self._task
        self._waiting += 1
        try:
            seconds = None if deadline == math.inf else deadline - asyncio.get_running_loop().time()
            # It neither cancels the exchange nor raises what that raised.
            await asyncio.wait((task,), timeout=seconds)
            if not task.done():
                raise _too_late(request)
            return self._result(request, deadline)
        finally:
            self._waiting -= 1
            if not self._waiting:
                self._close()
                task.cancel()
                if self._alone is not None:
                    self._alone.abort()

    def _result(self, request: Request, deadline: float) -> Response | None:
        if self._task.cancelled():
            raise asyncio.CancelledError
        if self._error is not None:
            raise _again(self._error, request)
        if self._kept is not None:
            return _copy(*self._kept)
        response, self._alone = self._alone, None
        if response is not None and deadline != math.inf:
            response.wrap_body(lambda source: _BoundedBody(source, deadline, request))
        return response

    async def _exchange(self) -> None:
        response: Response | None = None
        try:
            response = await self.next(self.request)
            if self._waiting == 1 or not _is_shareable(response) or self._has_other_credentials(response):
                self._alone = response
                return
            body = await make_gatherable(response).gather(self._most)
            if body is None:
                self._alone = response
            else:
                self._kept = response, body
        except Exception as error:
            if response is not None:
                response.abort()
            self._error = error
        except BaseException:
            if response is not None:
                response.abort()
            raise
        finally:
            self._close()

    def _has_other_credentials(self, response: Response) -> bool:
        """Tell whether what was sent had credentials that those who wait have not been compared by."""
        # Those of the jar may be others by now, as a challenge may have set some.
        named = _cookies_named(self.request)
        if any(_cookies_named(sent) != named for sent in requests_behind(response)):
            return True
        return is_authorized_below(self.request, response)

    def _close(self) -> None:
        """Let nobody join any more."""
        joinable = self._joinable.get(self._key, [])
        if self in joinable:
            joinable.remove(self)
            if not joinable:
                del self._joinable[self._key]


class _BoundedBody(BodyWrapper):
    """A body whose exchange has no deadline, read by somebody who has."""

    def __init__(self, inner: BodySource, deadline: float, request: Request) -> None:
        super().__init__(inner)
        self._deadline = deadline
        self._request = request

    async def receive(self) -> bytes:
        self.check_deadline()
        scope = asyncio.timeout_at(None if self._deadline == math.inf else self._deadline)
        try:
            async with scope:
                return await self.inner.receive()
        except TimeoutError as error:
            if scope.expired() and not isinstance(error, RequestError):
                raise _too_late(self._request) from None
            raise

    def check_deadline(self) -> None:
        if asyncio.get_running_loop().time() >= self._deadline:
            raise _too_late(self._request)
        super().check_deadline()

    def lift_deadline(self) -> None:
        self._deadline = math.inf
        super().lift_deadline()


def _too_late(request: Request) -> TotalTimeout:
    total = getattr(request.extensions.get("timeout"), "total", None)
    error = TotalTimeout(f"the request took longer than {total} s in all; it shared an exchange with others")
    error.request = request
    return error


def _is_shared(request: Request) -> bool:
    if request.method not in ("GET", "HEAD") or request.body is not None or "Upgrade" in request.headers:
        return False
    return is_one_user(request.extensions.get("auth"))


def _cookies_named(request: Request) -> tuple[object, ...]:
    """Return the cookies that are a request's own."""
    extensions = request.extensions
    return cookies_by_hand(request), extensions.get("cookies"), extensions.get("default_cookies")


def _compared(request: Request) -> dict[str, object]:
    return {name: value for name, value in request.extensions.items() if name not in _NOT_COMPARED}


def _is_same_way(one: object, other: object) -> bool:
    """Tell whether two functions do the same: chains that were composed anew have the same things in them."""
    if one is other:
        return True
    if not isinstance(one, partial) or not isinstance(other, partial) or one.func is not other.func:
        return False
    if one.keywords or other.keywords or len(one.args) != len(other.args):
        return False
    return all(map(_is_same_way, one.args, other.args))


def _is_shareable(response: Response) -> bool:
    headers = response.headers
    return (
        response.stream is None
        and is_plain(",".join(headers.getall("Transfer-Encoding", ())))
        and not headers.get("Content-Type", "").lower().startswith("text/event-stream")
    )


def _again(error: Exception, request: Request) -> Exception:
    """Return an exception of one's own that says the same."""
    try:
        new = copy.copy(error)
    except Exception:  # Somebody's class may need more than it tells.
        return error
    if isinstance(new, RequestError) and (new.request is None or new.request.url == request.url):
        new.request = request
    new.__cause__ = error.__cause__
    return new.with_traceback(error.__traceback__)


def _copy(response: Response, body: bytes) -> Response:
    trailers = CIMultiDict(response.trailers)
    try:
        timings: Timings | None = response.timings
    except UsageError:
        timings = None
    new = Response(
        response.status_code,
        reason=response.reason,
        http_version=response.http_version,
        headers=CIMultiDict(response.headers),
        request=response.request,
        extensions=response.extensions,
        source=KeptBody(body, trailers),
        timings=timings,
        connection=response.connection,
    )
    new.informational = response.informational
    return new
