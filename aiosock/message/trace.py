"""
What happens to a request on its way, as typed events: for timelines, progress bars, metrics and logs.

A listener is a function of one event. It is called at once, in the event loop, wherever the event happens: it must not
wait, and what it raises goes to the loop's exception handler and harms no request. Who has no listener pays nothing.

Times are seconds of `time.perf_counter`, monotonic. Events of one request come in the order of the classes below, save
that an answer may come while its request is still being sent.

One call may send many requests: redirects, retries, what authentication asks for. They all have the same number in
``event.request.extensions["call"]``, which no other call of this process has; ``response.request`` has it too, save
that an answer which several calls share (`Coalesce`) names the request that was sent for all.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from itertools import count
from time import perf_counter
from typing import Any, Final, Literal, NamedTuple, TypeAlias

from aiosock.errors import Attempt
from aiosock.message.request import Request
from aiosock.message.response import Response
from aiosock.message.transit import ConnectionInfo

logger = logging.getLogger("aiosock.client")

_calls: Final = count(1)


class RequestQueued(NamedTuple):
    """No idle connection is there: the request waits for one, or for a new one."""

    request: Request
    at: float


class NameResolved(NamedTuple):
    """For the new connection that the request got, its host's name was looked up."""

    request: Request
    at: float
    seconds: float


class Connected(NamedTuple):
    """The connection was opened, by way of a proxy where there is one."""

    request: Request
    at: float
    seconds: float


class TLSEstablished(NamedTuple):
    """The TLS handshake was done, and the peer is trusted."""

    request: Request
    at: float
    seconds: float


class ConnectionAcquired(NamedTuple):
    """The request has a connection; ``connection.reused`` tells whether it carried others before."""

    request: Request
    at: float
    connection: ConnectionInfo


class RequestHeadSent(NamedTuple):
    """The request's head was handed to the system."""

    request: Request
    at: float


class BodyProgress(NamedTuple):
    """
    A part of a body was sent or received.

    Attributes:
        direction: ``"sent"`` or ``"received"``.
        transferred: Bytes so far, as they are on the wire, without their framing in chunks.
        total: Bytes in all, None where that is not known.
    """

    request: Request
    at: float
    direction: Literal["sent", "received"]
    transferred: int
    total: int | None


class RequestSent(NamedTuple):
    """The whole request was handed to the system."""

    request: Request
    at: float


class FirstByteReceived(NamedTuple):
    """The answer has begun."""

    request: Request
    at: float


class ResponseHeadReceived(NamedTuple):
    """The answer's head is here."""

    request: Request
    at: float
    response: Response


class ResponseDone(NamedTuple):
    """The answer was read to its end."""

    request: Request
    at: float


class RequestFailed(NamedTuple):
    """The request, or the reading of its answer, failed or was called off."""

    request: Request
    at: float
    error: BaseException


class ConnectionClosed(NamedTuple):
    """The connection was closed with the end of the exchange, and serves no other request."""

    request: Request
    at: float


class Redirected(NamedTuple):
    """A redirect is followed."""

    request: Request
    at: float
    response: Response
    following: Request


class RequestRetried(NamedTuple):
    """
    The request is sent again.

    Attributes:
        attempt: The one that failed, and how.
        delay: Seconds until the next.
    """

    request: Request
    at: float
    attempt: Attempt
    delay: float


Event: TypeAlias = (
    RequestQueued
    | NameResolved
    | Connected
    | TLSEstablished
    | ConnectionAcquired
    | RequestHeadSent
    | BodyProgress
    | RequestSent
    | FirstByteReceived
    | ResponseHeadReceived
    | ResponseDone
    | RequestFailed
    | ConnectionClosed
    | Redirected
    | RequestRetried
)
Listener: TypeAlias = Callable[[Event], None]


def listening(listener: Listener) -> dict[str, Any]:
    """Return the extensions of a new call whose events a listener is told."""
    return {"on_event": listener, "call": next(_calls)}


def tell(listener: Listener, event: Event) -> None:
    """Tell a listener of an event; it cannot harm who tells it."""
    try:
        listener(event)
    except Exception as error:
        asyncio.get_running_loop().call_exception_handler(
            {"message": f"a listener to events failed with {type(event).__name__}", "exception": error}
        )


def logged(listener: Listener | None) -> Listener | None:
    """Return a listener that also writes to the log, at DEBUG; the same one where nobody reads that."""
    if not logger.isEnabledFor(logging.DEBUG):
        return listener
    if listener is None:
        return log

    def both(event: Event) -> None:
        log(event)
        listener(event)

    return both


def log(event: Event) -> None:
    """Write an event to the log, at DEBUG, without field values or the query."""
    request = event.request
    asked = f"{request.method} {request.url.with_query(None).with_fragment(None)}"
    if "call" in request.extensions:
        asked = f"call {request.extensions['call']}: {asked}"
    if isinstance(event, ConnectionAcquired):
        kind = "the reused" if event.connection.reused else "a new"
        logger.debug("%s: on %s connection to %s", asked, kind, event.connection.remote_address)
    elif isinstance(event, ResponseHeadReceived):
        logger.debug("%s: answered %d", asked, event.response.status_code)
    elif isinstance(event, Redirected):
        logger.debug("%s: redirected to %s", asked, event.following.url.with_query(None).with_fragment(None))
    elif isinstance(event, RequestRetried):
        logger.debug("%s: attempt %d follows in %.3f s", asked, event.attempt.number + 1, event.delay)
    elif isinstance(event, RequestFailed):
        logger.debug("%s: failed with %s", asked, type(event.error).__name__)
    elif isinstance(event, (ResponseDone, ConnectionClosed)):
        logger.debug("%s: %s", asked, "done" if isinstance(event, ResponseDone) else "its connection was closed")


class Trace:
    """
    Tells a listener what happens to one request on a connection.

    Args:
        listener: Whom to tell.
        request: The request.
    """

    __slots__ = ("_closes", "_listener", "_over", "_request", "_total")

    def __init__(self, listener: Listener, request: Request) -> None:
        self._listener = listener
        self._request = request
        self._total: int | None = None
        self._over = False
        # The connection was closed, which is told after what became of the request.
        self._closes = False

    def queued(self) -> None:
        """The request begins to wait for a connection; maybe for another one, since that which it got had ended."""
        self._tell_closed()
        tell(self._listener, RequestQueued(self._request, perf_counter()))

    def acquired(
        self, connection: ConnectionInfo, ended_at: float, dns: float | None, connect: float | None, tls: float | None
    ) -> None:
        """
        The request has a connection.

        Args:
            connection: Which.
            ended_at: When it was open.
            dns, connect, tls: Seconds of the stages of opening it, None for those that there were not.
        """
        self._tell_closed()
        self._over = False
        connected_at = ended_at - (tls or 0.0)
        if dns is not None:
            tell(self._listener, NameResolved(self._request, connected_at - (connect or 0.0), dns))
        if connect is not None:
            tell(self._listener, Connected(self._request, connected_at, connect))
        if tls is not None:
            tell(self._listener, TLSEstablished(self._request, ended_at, tls))
        tell(self._listener, ConnectionAcquired(self._request, perf_counter(), connection))

    def head_sent(self) -> None:
        """The head is on its way."""
        tell(self._listener, RequestHeadSent(self._request, perf_counter()))

    def sent(self, count: int) -> None:
        """So many bytes of the body are on their way."""
        body = self._request.body
        total = body.length if body is not None else None
        tell(self._listener, BodyProgress(self._request, perf_counter(), "sent", count, total))

    def all_sent(self) -> None:
        """All of the request is on its way."""
        tell(self._listener, RequestSent(self._request, perf_counter()))

    def begun(self) -> None:
        """The first bytes of the answer have come."""
        tell(self._listener, FirstByteReceived(self._request, perf_counter()))

    def answered(self, response: Response) -> None:
        """The answer's head is here."""
        length = response.headers.get("Content-Length", "")
        self._total = int(length) if length.isascii() and length.isdigit() and len(length) < 20 else None
        tell(self._listener, ResponseHeadReceived(self._request, perf_counter(), response))

    def received(self, count: int) -> None:
        """So many bytes of the answer's body have come."""
        tell(self._listener, BodyProgress(self._request, perf_counter(), "received", count, self._total))

    def done(self) -> None:
        """The answer was read to its end."""
        if not self._over:
            self._over = True
            tell(self._listener, ResponseDone(self._request, perf_counter()))
            self._tell_closed()

    def failed(self, error: BaseException) -> None:
        """The exchange failed."""
        if not self._over:
            self._over = True
            tell(self._listener, RequestFailed(self._request, perf_counter(), error))
            self._tell_closed()

    def closes(self) -> None:
        """The connection was closed with the exchange."""
        self._closes = True

    def _tell_closed(self) -> None:
        if self._closes:
            self._closes = False
            tell(self._listener, ConnectionClosed(self._request, perf_counter()))
