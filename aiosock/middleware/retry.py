"""
Retries: a request that failed in a way that may pass is sent again, after a while.

What is tried again, of requests whose method may be sent twice and whose body can be:

- an answer with one of `Retry.statuses`;
- a connection that could not be made: `ConnectError`, `ConnectTimeout`. Not where a TLS handshake ended in a verdict
  (an untrusted certificate, no common version), as it would again; nor where a proxy refused, unless it gave one of
  `Retry.statuses` as the reason;
- a connection that broke or fell silent: `ReadError`, `WriteError`, `ReadTimeout`, `WriteTimeout`,
  `ServerDisconnected`, `IncompleteBody`.

Never tried again: `TotalTimeout`, as no time is left; `PoolTimeout`, as it is our own queue that is too long;
`CircuitOpen`, which is there to fail at once; answers that are not HTTP or cannot be decoded; what the guard or the
caller's own mistakes forbid.

Where a retry is not let out, by a circuit breaker, a rate or the pool, the outcome before it is the caller's, as if
there were no retry: the error, or the answer, whose body is read for that before the wait. A body that is large or slow
is given up instead; the refusal is raised then.

A response is returned before its body is read, so that what goes wrong in reading it is the caller's. This has nothing
to do with the transport's own repetition of a request whose idle connection turned out to be closed.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable
from typing import Final, TypeAlias

from multidict import istr

from aiosock.config import Retry, as_retry
from aiosock.errors import (
    Attempt,
    CircuitOpen,
    ConnectTimeout,
    IncompleteBody,
    NetworkError,
    PoolTimeout,
    ProxyError,
    ReadTimeout,
    RequestError,
    ServerDisconnected,
    TLSError,
    UsageError,
    WriteTimeout,
)
from aiosock.message.request import Request
from aiosock.message.response import Response
from aiosock.middleware.chain import Lifetime, Send
from aiosock.middleware.kept import make_gatherable
from aiosock.protocol.date import parse_retry_after

MAX_ORIGINS: Final = 1024
"""How many origins' budgets are remembered."""

RESERVE: Final = 10.0
"""Retries that an origin gets whatever its budget is; they come back at `RESERVE_PER_SECOND`."""
RESERVE_PER_SECOND: Final = 1.0

MAX_KEPT_BYTES: Final = 64 * 1024
KEEPING_SECONDS: Final = 0.5
"""How much of an answer is read, and for how long, in case that no other can follow."""

RETRY_AFTER: Final = istr("Retry-After")
_IDEMPOTENCY_KEY: Final = istr("Idempotency-Key")
_PASSING: Final = (NetworkError, ConnectTimeout, ReadTimeout, WriteTimeout, ServerDisconnected, IncompleteBody)
# Nothing was sent.
_NOT_LET_OUT: Final = (CircuitOpen, PoolTimeout)
_MAX_DOUBLINGS: Final = 64

Random: TypeAlias = Callable[[], float]
Origin: TypeAlias = tuple[str, str, int]
Listener: TypeAlias = Callable[[Request, Attempt, float], None]
"""Called with the request, the attempt that failed, and the seconds until the next."""

logger = logging.getLogger("aiosock.middleware")


class Retries:
    """
    Sends requests again, as a `Retry` says.

    ``request.extensions["retry"]`` overrides the client's for one request: a Retry, a number of attempts, or None. The
    response has all tries, the last included, as ``response.extensions["attempts"]``, an error as ``error.attempts``.
    A wait that would not end before ``request.extensions["deadline"]`` does not begin: what there is, is the caller's.

    Args:
        retry: For requests that say nothing else; a number is that of attempts, None for no retries.
        random: Returns a number from 0 to below 1.
        clock: Returns the seconds since the epoch, for a Retry-After that is a date.
        on_retry: Told of each retry before the wait for it.

    Raises:
        UsageError: The retry is none, or what is to be called cannot be.
    """

    def __init__(
        self,
        retry: Retry | int | None,
        *,
        random: Random | None = None,
        clock: Callable[[], float] = time.time,
        on_retry: Listener | None = None,
    ) -> None:
        for name, function in (("clock", clock), ("on_retry", on_retry or pseudorandom)):
            if not callable(function):
                raise UsageError(f"Retries: {name} takes a function, not {function!r}")
        self._retry = as_retry(retry)
        self._random = as_random("Retries", random)
        self._clock = clock
        self._on_retry = on_retry
        # The one used last at the end.
        self._budgets: dict[Origin, Budget] = {}

    async def __call__(self, request: Request, next: Send, /) -> Response:
        """
        Send the request, until it succeeds or must not be sent again.

        Raises:
            RequestError: The last try failed; what the others came to is in its ``attempts``.
            UsageError: The request's own retry is none.
            ClientClosed: The client was closed in a wait.
        """
        retry = self._retry
        if "retry" in request.extensions:
            retry = as_retry(request.extensions["retry"])
        if retry is None:
            return await next(request)
        budget = None if retry.budget is None else self._budget(request.location.origin)
        if budget is not None:
            budget.earn(retry.budget or 0.0)
        return await self._tries(retry, budget, request, next)

    async def _tries(self, retry: Retry, budget: Budget | None, request: Request, next: Send) -> Response:
        attempts: tuple[Attempt, ...] = ()
        waited = 0.0
        earlier: Response | RequestError | None = None
        try:
            while True:
                number = len(attempts) + 1
                try:
                    response = await next(request)
                except RequestError as error:
                    if earlier is not None and isinstance(error, _NOT_LET_OUT):
                        logger.debug("no retry to %s: %s", request.location.host, type(error).__name__)
                        if isinstance(earlier, Response):
                            return earlier
                        raise earlier  # noqa: B904  # its cause is its own
                    attempt = Attempt(number, None, f"{type(error).__name__}: {error}", waited)
                    error.attempts = attempts = (*attempts, attempt)
                    wait = self._wait(retry, budget, request, number, self._asked_by(retry, error))
                    if wait is None:
                        raise
                    earlier = error
                else:
                    attempt = Attempt(number, response.status_code, None, waited)
                    response.extensions["attempts"] = attempts = (*attempts, attempt)
                    wait = self._wait(retry, budget, request, number, self._asked(retry, response))
                    if wait is None:
                        return response
                    earlier = response
                until = asyncio.get_running_loop().time() + wait
                if isinstance(earlier, Response) and not await _keep(earlier):
                    earlier = None
                # What became of the try before it is told by then.
                if self._on_retry is not None:
                    self._on_retry(request, attempt, wait)
                await _pause(until - asyncio.get_running_loop().time(), request.extensions.get("lifetime"))
                waited = wait
        finally:
            # An error would lead back to itself.
            del earlier

    def _asked_by(self, retry: Retry, error: RequestError) -> float | None:
        """Return how long to wait after an error: a proxy's refusal may say."""
        if not may_pass(error, retry):
            return None
        refusal = error.response if isinstance(error, ProxyError) else None
        return 0.0 if refusal is None else self._asked(retry, refusal)

    def _asked(self, retry: Retry, response: Response) -> float | None:
        """Return how long the server asks to wait, None where its answer is not one to try again after."""
        if response.status_code not in retry.statuses:
            return None
        seconds = retry_after(response, self._clock()) if retry.respect_retry_after else None
        if seconds is not None and retry.max_retry_after is not None and seconds > retry.max_retry_after:
            logger.debug("no retry: the server asks for %g s, more than max_retry_after", seconds)
            return None
        return seconds or 0.0

    def _wait(
        self, retry: Retry, budget: Budget | None, request: Request, number: int, asked: float | None
    ) -> float | None:
        """Return the seconds until the next try, at least those asked for; None where there is to be none."""
        if asked is None or number >= retry.attempts or not _may_repeat(retry, request):
            return None
        seconds = max(asked, full_jitter(retry.backoff, retry.max_backoff, number, self._random))
        if asyncio.get_running_loop().time() + seconds >= request.extensions.get("deadline", math.inf):
            logger.debug("no retry to %s: it would wait %g s, past the deadline", request.location.host, seconds)
            return None
        if budget is not None and not budget.spend():
            logger.debug("no retry to %s: its budget is spent", request.location.host)
            return None
        return seconds

    def _budget(self, origin: Origin) -> Budget:
        budget = self._budgets.pop(origin, None) or Budget()
        self._budgets[origin] = budget
        if len(self._budgets) > MAX_ORIGINS:
            del self._budgets[next(iter(self._budgets))]
        return budget


async def _pause(seconds: float, lifetime: Lifetime | None) -> None:
    waiting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    if lifetime is not None:
        lifetime.bound(waiting)
    try:
        await asyncio.wait([waiting], timeout=seconds)
    finally:
        waiting.cancel()
    if not waiting.cancelled():
        waiting.result()


async def _keep(response: Response) -> bool:
    """Gather the body of an answer, for whoever may read it yet, and tell whether that succeeded; else give it up."""
    why, limit = "it is large", response.max_content_bytes
    most = MAX_KEPT_BYTES if limit is None else min(limit, MAX_KEPT_BYTES)
    try:
        async with asyncio.timeout(KEEPING_SECONDS):
            if await make_gatherable(response).gather(most) is not None:
                return True
    except Exception as error:
        # Whatever it is, of the body or of who wraps it: the next try is what counts.
        why = type(error).__name__
    except BaseException:
        response.abort()
        raise
    logger.debug("the body of a %d is given up: %s", response.status_code, why)
    await response.close()
    return False


class Budget:
    """The retries that one origin may still be sent: some for each request, and some with time; never many at once."""

    __slots__ = ("_since", "_tokens")

    def __init__(self) -> None:
        self._tokens = RESERVE
        self._since = asyncio.get_running_loop().time()

    def earn(self, share: float) -> None:
        """A request is made."""
        now = asyncio.get_running_loop().time()
        self._tokens = min(self._tokens + (now - self._since) * RESERVE_PER_SECOND + share, RESERVE)
        self._since = now

    def spend(self) -> bool:
        """Take a retry, if there is one left."""
        self.earn(0.0)
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


def may_pass(error: RequestError, retry: Retry) -> bool:
    """Tell whether what failed may work when it is tried again; see the module's docstring."""
    if isinstance(error, ProxyError):
        if error.status_code is not None:
            return error.status_code in retry.statuses
        # One that is no proxy, or refuses in the words of SOCKS, does so again; what broke or fell silent may not.
        return isinstance(error.__cause__, _PASSING) and may_pass(error.__cause__, retry)
    if isinstance(error, TLSError):
        # What broke the handshake is the network, or else the verdict of the TLS library, which is an OSError.
        return not isinstance(error.__cause__, (OSError, ValueError))
    return isinstance(error, _PASSING)


def _may_repeat(retry: Retry, request: Request) -> bool:
    if request.body is not None and not request.body.replayable:
        return False
    return request.method in retry.methods or _IDEMPOTENCY_KEY in request.headers


def retry_after(response: Response, now: float) -> float | None:
    """Return the seconds that a response asks to wait; None where it does not, or not in a way that makes sense."""
    value = response.headers.get(RETRY_AFTER)
    if value is None:
        return None
    seconds = parse_retry_after(value, now)
    if seconds is None:
        logger.debug("a malformed Retry-After is ignored: %.40r", value)
    return seconds


def full_jitter(base: float, cap: float, number: int, random: Random) -> float:
    """
    Return a random number of seconds, from 0 to what has been doubled with each failure.

    Args:
        base: The most after the first failure, in seconds.
        cap: The most after any, in seconds.
        number: How many failures there were, from 1.
        random: Returns a number from 0 to below 1.
    """
    return random() * min(cap, base * 2.0 ** min(number - 1, _MAX_DOUBLINGS))


def as_random(owner: str, value: Random | None) -> Random:
    """
    Return what a user gave for ``random``, and where that is None a function that serves.

    Raises:
        UsageError: It cannot be called.
    """
    if value is not None and not callable(value):
        raise UsageError(f"{owner}: random takes a function that returns a number from 0 to below 1, not {value!r}")
    return value or pseudorandom


def pseudorandom() -> float:
    """Return a number from 0 to below 1, as good as waits need."""
    # It is loaded for the first failure.
    from random import random

    return random()  # noqa: S311  # nobody gains by guessing it
