"""
Server-sent events with reconnection, as browsers' ``EventSource`` has it (the HTML standard, 9.2), for any request.

Where it differs from browsers: the first connection has one try, so that a wrong URL shows itself at once; a server
that is overloaded or being restarted (429 and some 5xx) is asked again; and what is not safe to repeat is repeated
only if told so.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from random import random
from time import time
from types import TracebackType
from typing import Any, Final, TypeVar

from aiosock.errors import (
    HTTPStatusError,
    IncompleteBody,
    NetworkError,
    ReadTimeout,
    RemoteProtocolError,
    RequestError,
    ServerDisconnected,
    TimeoutException,
    TLSError,
    UsageError,
)
from aiosock.message.iteration import EventIterator
from aiosock.message.request import Request
from aiosock.message.response import Response
from aiosock.middleware.chain import Send
from aiosock.protocol.eventstream import ServerSentEvent

RETRY_SECONDS: Final = 3.0
"""How long to wait before reconnecting, unless the stream says otherwise."""

MIN_RETRY_SECONDS: Final = 0.5
"""The least to wait, whatever the stream says, as browsers have it too: ``retry: 0`` would be a storm."""

MAX_BACKOFF_SECONDS: Final = 60.0
"""How far waiting grows while one connection after the other fails."""

MIN_BACKOFF_SECONDS: Final = 1.0
"""What it grows from at least, so that a stream that says ``retry: 0`` does not have a dead server asked often."""

MAX_RETRY_AFTER_SECONDS: Final = 24 * 60 * 60.0
"""A server that wants more rest than a day is given up."""

RETRIED_STATUSES: Final = frozenset({429, 500, 502, 503, 504})
SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "QUERY"})
"""RFC 9110, 9.2.1; QUERY is safe by its own definition."""

MAX_ERROR_BYTES: Final = 64 * 1024
ERROR_BODY_SECONDS: Final = 5.0
"""How much of a refusal's body is read, and how long that may take, so that its reason can be told."""

_FAILURES: Final = (NetworkError, TimeoutException, ServerDisconnected, IncompleteBody)

T = TypeVar("T")

logger = logging.getLogger("aiosock.client")


class EventStream:
    """
    A stream of server-sent events that outlives its connections; made by `Client.events`.

    It connects on entering ``async with`` and is an asynchronous iterator over `ServerSentEvent`; one task iterates.
    Waiting for an event may be cancelled, by a timeout say, and loses nothing: the next wait goes on with the same
    connection, or the same attempt to connect. Reconnecting is the stream's own: a client's ``retry`` does not apply,
    unless the call asked for it.

    Args:
        send: Sends a request, and returns the response as soon as its head is there.
        request: The request; a copy of it is sent for each connection.
        last_event_id: Where to take up the stream.
        reconnect: Whether to reconnect; None where that is safe.
        attempts: How many connections in a row may fail; None for no bound.
        max_event_bytes: The most that one event may take up.
        random: Returns a number from 0 to 1, for jitter.
        clock: Returns the time of day in seconds, for dates in Retry-After.

    Raises:
        UsageError: An argument that cannot be used.
    """

    def __init__(
        self,
        send: Send,
        request: Request,
        *,
        last_event_id: str,
        reconnect: bool | None,
        attempts: int | None,
        max_event_bytes: int | None,
        random: Callable[[], float] = random,
        clock: Callable[[], float] = time,
    ) -> None:
        _check(last_event_id, attempts, max_event_bytes)
        self._send = send
        self._request = request.replace(extensions={"retry": None, **request.extensions})
        self._reconnect = _may_reconnect(request, reconnect)
        self._attempts = attempts
        self._max_event_bytes = max_event_bytes
        self._random = random
        self._clock = clock
        # A field of one's own is sent as it is until the stream says otherwise.
        self._own_id = None if last_event_id else request.headers.get("Last-Event-ID")
        self._last_event_id = last_event_id if self._own_id is None else _id_of(self._own_id)
        self._retry_seconds = RETRY_SECONDS
        self._response: Response | None = None
        self._events: EventIterator | None = None
        # What is waited for: the next event or, where there are none to come, a connection.
        self._pending: asyncio.Task[Any] | None = None
        # A task is in `__anext__`.
        self._reading = False
        # Connections in a row that brought no event, or never came about.
        self._failures = 0
        self._fruitful = False
        # When to connect, in time of the loop.
        self._due = 0.0
        self._over = False
        self._closed = asyncio.Event()

    @property
    def last_event_id(self) -> str:
        """The ID to take up the stream with after the latest event; ``""`` where there is none."""
        return self._last_event_id if self._events is None else self._events.last_event_id

    @property
    def response(self) -> Response:
        """
        The latest response.

        Raises:
            UsageError: There is none yet: ``async with`` has not been entered.
        """
        if self._response is None:
            raise UsageError("the event stream has no response yet; enter it with 'async with'")
        return self._response

    async def close(self) -> None:
        """End the stream and its connection, also for a task that waits for an event; never waits."""
        self._over = True
        self._closed.set()
        if self._response is not None:
            await self._response.close()
        if self._pending is not None:
            self._pending.cancel()

    async def __aenter__(self) -> EventStream:
        if self._response is not None or self._over:
            raise UsageError("an event stream can be entered once")
        try:
            self._events = await self._connect()
        except BaseException:
            self._over = True
            raise
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if exc is not None and self._response is not None:
            self._response.abort()
        await self.close()

    def __aiter__(self) -> EventStream:
        return self

    async def __anext__(self) -> ServerSentEvent:
        if self._response is None and not self._over:
            raise UsageError("an event stream is read inside of its 'async with' block")
        if self._reading:
            # Both would get the same event.
            raise UsageError("two tasks read one event stream at the same time")
        self._reading = True
        try:
            while not self._over:
                if self._events is None:
                    await self._reopen()
                else:
                    event = await self._next_event(self._events)
                    if event is not None:
                        return event
        finally:
            self._reading = False
        raise StopAsyncIteration

    async def _next_event(self, events: EventIterator) -> ServerSentEvent | None:
        """Return the next event of this connection; None where it has come to its end."""
        try:
            # A task costs more than an event that is there already.
            event = None if self._pending is not None else events.take()
            if event is None:
                event = await self._wait(events.__anext__)
        except StopAsyncIteration:
            self._leave(events)
            if self._fruitful or not self._reconnect:
                self._failures = 0
                self._plan("its end", 0.0)
                return None
            # However politely: a server that does so again and again is not asked for ever and at once.
            fruitless = ServerDisconnected("the event stream ended without an event")
            fruitless.request, fruitless.response = self._request, self._response
            if not self._goes_on(fruitless, self._failures + 1, 0.0, "its end without an event"):
                raise fruitless from None
        except RequestError as error:
            if self._over:
                # It was closed meanwhile, and that is why.
                return None
            self._leave(events)
            # Silence is no sign of a server that is in trouble.
            failed = not self._fruitful and not isinstance(error, ReadTimeout)
            if not self._goes_on(error, self._failures + 1 if failed else 0, 0.0):
                raise
        except BaseException:
            # Unless it is the wait alone that was called off.
            if self._pending is None and self._reconnect:
                self._leave(events)
                self._plan("an interruption", 0.0)
            raise
        else:
            self._fruitful = self._fruitful or event is not None
            return event
        return None

    async def _wait(self, start: Callable[[], Coroutine[Any, Any, T]]) -> T | None:
        """
        Return what comes of what is pending, or else is started; None where the stream was closed meanwhile.

        It goes on when who waits is called off, and the next one who waits has it.
        """
        pending = self._pending
        if pending is None:
            pending = self._pending = asyncio.get_running_loop().create_task(start())
            pending.add_done_callback(_notice)
        # Not awaited itself: a cancellation that meets the event on its way would throw it away.
        await asyncio.wait([pending])
        self._pending = None
        if self._over and pending.cancelled():
            return None
        result: T = pending.result()
        return result

    def _leave(self, events: EventIterator) -> None:
        """Keep what this connection's stream has told, for the next."""
        self._last_event_id = events.last_event_id
        if events.retry is not None:
            self._retry_seconds = max(MIN_RETRY_SECONDS, events.retry / 1000)
        self._events = None

    def _goes_on(
        self, error: RequestError | HTTPStatusError, failures: int, rest_seconds: float, reason: str = ""
    ) -> bool:
        """
        Say when to connect again after an error; False where it is to be raised.

        Args:
            error: What happened.
            failures: How many connections in a row have failed now.
            rest_seconds: How long the server wants to be left alone.
            reason: What to call it, where not by its type.
        """
        self._failures = failures
        self._over = (
            not _may_pass(error)
            or (self._attempts is not None and failures >= self._attempts)
            or rest_seconds > MAX_RETRY_AFTER_SECONDS
        )
        if not self._over:
            self._plan(reason or type(error).__name__, rest_seconds)
        return not self._over

    def _plan(self, reason: str, rest_seconds: float) -> None:
        """Say when to connect again, if at all."""
        if not self._reconnect:
            self._over = True
            return
        seconds = max(self._delay(), rest_seconds)
        self._due = asyncio.get_running_loop().time() + seconds
        host = self._request.location.host
        logger.debug("the event stream of %s is connected again in %.3f s after %s", host, seconds, reason)

    def _delay(self) -> float:
        """Return the seconds to wait: what the stream asked for, and more and more, by chance, as failures repeat."""
        least = self._retry_seconds
        if self._failures < 2:
            return least
        # Beyond these powers it is the bound that counts.
        most = max(least, MIN_BACKOFF_SECONDS) * 2.0 ** min(self._failures - 1, 16)
        most = max(least, min(most, MAX_BACKOFF_SECONDS))
        return least + self._random() * (most - least)

    async def _reopen(self) -> None:
        """Wait until it is time, and connect again."""
        seconds = self._due - asyncio.get_running_loop().time()
        if self._pending is None and seconds > 0:
            try:
                async with asyncio.timeout(seconds):
                    await self._closed.wait()
            except TimeoutError:
                pass
        if self._over:
            return
        try:
            self._events = await self._wait(self._connect)
        except (HTTPStatusError, RequestError) as error:
            if self._over:
                # It was closed meanwhile: nobody waits for what came of it.
                return
            rest = _retry_after_seconds(error.response, self._clock()) if isinstance(error, HTTPStatusError) else 0.0
            if not self._goes_on(error, self._failures + 1, rest):
                raise
        except Exception:
            self._over = True
            raise

    async def _connect(self) -> EventIterator | None:
        """
        Send the request, see that the answer is an event stream, and return that; None where there is no more.

        Raises:
            HTTPStatusError: It has another status than 200 and 204.
            RemoteProtocolError: Its Content-Type is another.
            RequestError: It failed.
        """
        request = self._request.replace()
        if self._own_id is None or self._last_event_id != _id_of(self._own_id):
            self._name_last(request)
        response = await self._send(request)
        self._response = response
        if self._over or response.status_code == 204:
            self._over = True
            await response.close()
            return None
        try:
            if response.status_code != 200:
                await _refuse(response, response.request or request)
            _check_type(response)
        except BaseException:
            response.abort()
            raise
        self._fruitful = False
        return response.iter_events(max_event_bytes=self._max_event_bytes, last_event_id=self._last_event_id)

    def _name_last(self, request: Request) -> None:
        """Say where to go on. The standard sends UTF-8, and fields are latin-1 here."""
        value = self._last_event_id
        if not value:
            request.headers.popall("Last-Event-ID", None)
            return
        if any(character < " " or character == "\x7f" for character in value.replace("\t", "")):
            logger.debug("the last event ID has control characters, and is not sent")
            request.headers.popall("Last-Event-ID", None)
            return
        request.headers["Last-Event-ID"] = value.encode().decode("latin-1")


def _check(last_event_id: str, attempts: int | None, max_event_bytes: int | None) -> None:
    if not isinstance(last_event_id, str):
        raise UsageError(f"last_event_id: takes a str, not {type(last_event_id).__name__}")
    if any(character in "\0\r\n" or "\ud800" <= character <= "\udfff" for character in last_event_id):
        raise UsageError(f"last_event_id: has a character that no ID can have: {last_event_id[:40]!r}")
    for name, value in (("attempts", attempts), ("max_event_bytes", max_event_bytes)):
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
            raise UsageError(f"{name}: must be a whole number from 1 on, or None, not {value!r}")


def _id_of(value: str) -> str:
    """Return the ID that a field names, which is UTF-8 unless somebody did otherwise."""
    try:
        return value.encode("latin-1").decode()
    except UnicodeError:
        return value


def _notice(pending: asyncio.Task[Any]) -> None:
    """Take note of how something ended that maybe nobody asks for any more."""
    if not pending.cancelled():
        pending.exception()


def _may_reconnect(request: Request, wanted: bool | None) -> bool:
    replayable = request.body is None or request.body.replayable
    if wanted and not replayable:
        raise UsageError("reconnect: the request's body can be read only once, and so cannot be sent again")
    if wanted is None:
        return replayable and request.method in SAFE_METHODS
    return wanted


def _may_pass(error: RequestError | HTTPStatusError) -> bool:
    """Whether another connection may go better."""
    if isinstance(error, HTTPStatusError):
        return error.response.status_code in RETRIED_STATUSES
    return isinstance(error, _FAILURES) and not isinstance(error, TLSError)


async def _refuse(response: Response, request: Request) -> None:
    """Raise what an answer without a stream stands for, with as much of its body as is read in reason."""
    limit = response.max_content_bytes
    response.max_content_bytes = MAX_ERROR_BYTES if limit is None else min(limit, MAX_ERROR_BYTES)
    try:
        async with asyncio.timeout(ERROR_BODY_SECONDS):
            await response.read()
    except (RequestError, TimeoutError):
        pass  # Then without its body.
    response.raise_for_status()
    raise HTTPStatusError(
        f"{response.status_code} where an event stream was expected: "
        f"{request.method} {request.url.with_query(None).with_fragment(None)}",
        request=request,
        response=response,
    )


def _check_type(response: Response) -> None:
    """Raise where the answer is no event stream; parameters of its type mean nothing."""
    named = response.headers.get("Content-Type", "")
    if named.partition(";")[0].strip().lower() != "text/event-stream":
        error = RemoteProtocolError(f"the answer is no text/event-stream; its Content-Type is {named[:80]!r}")
        error.request = response.request
        error.response = response
        raise error


def _retry_after_seconds(response: Response, now: float) -> float:
    """Return how long a server wants to be left alone (RFC 9110, 10.2.3); 0 or less where it does not."""
    value = response.headers.get("Retry-After", "").strip()
    if value.isascii() and value.isdigit():
        return float(value)
    if not value:
        return 0.0
    from email.utils import parsedate_to_datetime

    try:
        return parsedate_to_datetime(value).timestamp() - now
    except (ValueError, OverflowError):
        logger.debug("ignored a Retry-After that is neither seconds nor a date")
        return 0.0
