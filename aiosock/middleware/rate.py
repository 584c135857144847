"""
Rates: how many requests one origin is sent in a time, and how many at once.

Each origin has a gate of its own, through which requests go in the order in which they came. A `429` or `503` slows
that origin alone: its rate and its number at once are halved, once for all requests that were under way, and a
Retry-After closes the gate for so long. Each other answer gives back a twentieth of the full speed.

A request counts when it passes here. What is sent below on its behalf, after a challenge say, counts no more.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import OrderedDict
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Final, TypeAlias

from aiosock.errors import PoolTimeout, ResponseNotRead, StreamConsumed, UsageError
from aiosock.message.iteration import BodySource, BodyWrapper
from aiosock.message.request import Request
from aiosock.message.response import Response
from aiosock.middleware.chain import Lifetime, Send
from aiosock.middleware.retry import retry_after

if TYPE_CHECKING:
    import re
import sys

MAX_GATES: Final = 1024
"""When so many origins are known, those that have nothing to remember are forgotten."""

MAX_PAUSE_SECONDS: Final = 300.0
"""The longest that a Retry-After closes a gate; then a request finds out whether it still holds."""

MAX_LATENESS_SECONDS: Final = 0.1
"""The most of a timer's delay that does not delay those that come after."""

SLOWING: Final = 0.5
RECOVERY: Final = 0.05
LEAST_SHARE: Final = 1 / 64
"""What is left of the full speed after many refusals."""

_SLOWING_STATUSES: Final = (429, 503)
_UNIT_SECONDS: Final = {"s": 1.0, "min": 60.0, "h": 3600.0}

Origin: TypeAlias = tuple[str, str, int]


class RateLimit:
    """
    Lets only so many requests go to one origin; the others wait.

    A request that would have to wait past ``request.extensions["deadline"]`` is not kept waiting for that.

    Args:
        per_host: Requests per time to one origin: ``"10/s"``, ``"300/min"``, ``"1000/h"``, or a number per second;
            None for any number. They go evenly spaced, see ``burst``.
        burst: How many may go together after a pause. In any stretch of time there are no more than these and those
            of the rate; save that where the event loop was late to let one go, the next one need not wait for longer
            because of that (and may go up to 0.1 seconds, and never more than one request, early).
        concurrency: Requests at once to one origin, each until its response is read or closed (until it is there, if
            the connection is handed over by it); None for any number.
        clock: Returns the seconds since the epoch, for a Retry-After that is a date.

    Raises:
        UsageError: A value that makes no sense, or neither rate nor concurrency.
    """

    def __init__(
        self,
        per_host: str | float | None = None,
        *,
        burst: int = 1,
        concurrency: int | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if per_host is None and concurrency is None:
            raise UsageError("RateLimit: takes per_host or concurrency, but both are None")
        for name, value in (("burst", burst), ("concurrency", 1 if concurrency is None else concurrency)):
            if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= sys.maxsize:
                raise UsageError(f"RateLimit: {name} takes a whole number from 1 to {sys.maxsize}, not {value!r}")
        if not callable(clock):
            raise UsageError(f"RateLimit: clock takes a function that returns seconds, not {clock!r}")
        self._interval = 0.0 if per_host is None else 1 / parse_rate(per_host)
        self._burst = burst
        self._concurrency = concurrency
        self._clock = clock
        self._loop: asyncio.AbstractEventLoop | None = None
        self._gates: dict[Origin, Gate] = {}
        self._many = MAX_GATES

    async def __call__(self, request: Request, next: Send, /) -> Response:
        """
        Send the request when its turn has come.

        Raises:
            PoolTimeout: Its turn would come, or did not come, before its time was over.
            ClientClosed: The client was closed before its turn came; those of others wait on.
            RequestError: It failed.
        """
        gate = self._gate(request.location.origin)
        entered = await gate.enter(request.extensions.get("deadline", math.inf), request.extensions.get("lifetime"))
        try:
            response = await next(request)
        except BaseException:
            gate.leave()
            raise
        if response.status_code in _SLOWING_STATUSES:
            gate.refused(entered, min(retry_after(response, self._clock()) or 0.0, MAX_PAUSE_SECONDS))
        else:
            gate.answered(entered)
        if self._concurrency is None or not _is_open(response):
            gate.leave()
            return response
        try:
            response.wrap_body(lambda source: _Held(source, gate))
        except StreamConsumed:
            gate.leave()
        return response

    def _gate(self, origin: Origin) -> Gate:
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            # Timers and who waits belong to one loop; in another, nothing is under way.
            self._loop, self._gates = loop, {}
        gate = self._gates.get(origin)
        if gate is None:
            if len(self._gates) >= self._many:
                self._gates = {known: gate for known, gate in self._gates.items() if not gate.at_rest}
                # Those left have requests under way: that these are not many is for others to see to.
                self._many = max(MAX_GATES, 2 * len(self._gates))
            scheme, host, port = origin
            shown = f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"
            gate = self._gates[origin] = Gate(shown, self._interval, self._burst, self._concurrency)
        return gate


def _is_open(response: Response) -> bool:
    """Tell whether the body is still to come."""
    if response.stream is not None:
        return False
    try:
        response.content  # noqa: B018  # asked for what it raises
    except ResponseNotRead:
        return True
    return False


class _Held(BodyWrapper):
    """A body that holds its request's place until it has ended, one way or another."""

    def __init__(self, inner: BodySource, gate: Gate) -> None:
        super().__init__(inner)
        self._gate: Gate | None = gate
        self._loop = asyncio.get_running_loop()

    def __del__(self) -> None:
        # Neither read nor closed; who collects it may be in another thread.
        if self._gate is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._gate.leave)

    def _leave(self) -> None:
        gate, self._gate = self._gate, None
        if gate is not None:
            gate.leave()

    async def receive(self) -> bytes:
        # Whoever gets an error instead aborts.
        data = await self.inner.receive()
        if not data:
            self._leave()
        return data

    def close(self) -> None:
        self.inner.close()
        self._leave()

    def abort(self) -> None:
        self.inner.abort()
        self._leave()


class Gate:
    """
    The way to one origin: who may go now, and who waits. All but `enter` takes no wait.

    The rate is kept as the time at which all that went would have gone if evenly spaced: how far that is ahead of now
    is how much of the burst is used up.

    Args:
        origin: Where it leads, for messages.
        interval: Seconds between two requests at full speed; 0 for no rate.
        burst: See `RateLimit`.
        concurrency: See `RateLimit`.
    """

    def __init__(self, origin: str, interval: float, burst: int, concurrency: int | None) -> None:
        self._loop = asyncio.get_running_loop()
        self._origin = origin
        self._full_interval = self._interval = interval
        self._burst = burst
        self._concurrency = concurrency
        self._under_way = 0
        self._share = 1.0
        self._slowed_at = self._paced_until = self._closed_until = -math.inf
        # With their deadlines, in the order in which they came.
        self._waiting: OrderedDict[asyncio.Future[float], float] = OrderedDict()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = math.inf

    @property
    def at_rest(self) -> bool:
        """Nothing would be different if it were made anew, save that it may be slowed."""
        over = max(self._paced_until, self._closed_until) <= self._loop.time()
        return over and not self._under_way and not self._waiting

    async def enter(self, deadline: float, lifetime: Lifetime | None = None) -> float:
        """
        Wait for a turn, and return when it came, in time of the loop; `leave` is to follow.

        Args:
            deadline: When waiting is over, in time of the loop.
            lifetime: What else ends it.

        Raises:
            PoolTimeout: The turn would come later, or did not come.
            ClientClosed: The lifetime ended first.
        """
        now = self._loop.time()
        if not self._waiting and self._has_room and self._opens_at <= now:
            self._take(now)
            return now
        self._refuse_late(now, deadline)
        future: asyncio.Future[float] = self._loop.create_future()
        self._waiting[future] = deadline
        if lifetime is not None:
            lifetime.bound(future)
        timer = None if deadline == math.inf else self._loop.call_at(deadline, self._on_deadline, future, now)
        self._advance()
        try:
            return await future
        except BaseException:
            if self._waiting.pop(future, None) is None and not future.cancelled() and future.exception() is None:
                # The turn came in the moment in which it was not wanted any more.
                self._give_back()
            raise
        finally:
            if timer is not None:
                timer.cancel()
            self._advance()
            del future  # An error would lead back to itself.

    def leave(self) -> None:
        """A request that entered is over."""
        self._under_way -= 1
        self._advance()

    def answered(self, entered: float) -> None:
        """A request that entered then was answered: a step back to full speed."""
        if self._share < 1 and entered > self._slowed_at:
            self._change_share(min(1.0, self._share + RECOVERY))

    def refused(self, entered: float, pause: float) -> None:
        """A request that entered then was refused as one too many, and so many seconds of peace were asked for."""
        now = self._loop.time()
        if pause:
            self._close(now + pause)
        if entered > self._slowed_at:
            self._slowed_at = now
            self._change_share(max(LEAST_SHARE, self._share * SLOWING))
        self._advance()

    def _change_share(self, share: float) -> None:
        self._share = share
        interval = self._full_interval / share
        now = self._loop.time()
        if self._paced_until > now:
            # What is used up of the burst stays the same number of requests.
            self._paced_until = now + (self._paced_until - now) * interval / self._interval
        self._interval = interval
        self._advance()

    @property
    def _has_room(self) -> bool:
        concurrency = self._concurrency
        return concurrency is None or self._under_way < max(1, int(concurrency * self._share))

    @property
    def _opens_at(self) -> float:
        return max(self._closed_until, self._paced_until - (self._burst - 1) * self._interval)

    def _take(self, due: float) -> None:
        self._under_way += 1
        if self._interval:
            self._paced_until = max(self._paced_until, due) + self._interval

    def _give_back(self) -> None:
        self._under_way -= 1
        self._paced_until -= self._interval

    def _advance(self, timer_at: float = math.inf) -> None:
        """
        Let go who may, and see that this is called again when the next one may.

        Args:
            timer_at: When the timer was to fire that has called this.
        """
        waiting = self._waiting
        now = due = self._loop.time()
        if timer_at < math.inf:
            # It may come a little early, by the clock's resolution. If it is late, the rate is kept by when it was due.
            now = max(now, timer_at)
            due = max(timer_at, now - min(self._interval, MAX_LATENESS_SECONDS))
        while waiting and self._has_room and self._opens_at <= now:
            future, _ = waiting.popitem(last=False)
            if not future.done():
                self._take(due)
                future.set_result(now)
        # Without room, somebody has to leave first.
        when = self._opens_at if waiting and self._has_room else math.inf
        if when == self._timer_at:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = when
        self._timer = None if when == math.inf else self._loop.call_at(when, self._on_time, when)

    def _on_time(self, when: float) -> None:
        self._timer, self._timer_at = None, math.inf
        self._advance(when)

    def _refuse_late(self, now: float, deadline: float) -> None:
        """Raise where the rate alone makes it too late for one more."""
        opens = max(self._closed_until, now)
        ahead = len(self._waiting) - (self._burst - 1)
        when = max(opens, max(self._paced_until, opens) + ahead * self._interval)
        if when >= deadline:
            raise self._too_late(when, deadline)

    def _close(self, until: float) -> None:
        """Let nobody go until then; who has no time for that need not wait either."""
        self._closed_until = max(self._closed_until, until)
        for future, deadline in list(self._waiting.items()):
            if deadline <= self._closed_until and not future.done():
                del self._waiting[future]
                future.set_exception(self._too_late(self._closed_until, deadline))

    def _too_late(self, when: float, deadline: float) -> PoolTimeout:
        now = self._loop.time()
        return PoolTimeout(
            f"the rate limit lets the request go to {self._origin} in {when - now:.3g} s at the earliest, "
            f"but its time is over in {max(deadline - now, 0.0):.3g} s"
        )

    def _on_deadline(self, future: asyncio.Future[float], since: float) -> None:
        if future.done():
            return
        self._waiting.pop(future, None)
        future.set_exception(
            PoolTimeout(
                f"the rate limit did not let the request go to {self._origin} in the {self._loop.time() - since:.3g} s "
                f"that it had; {self._under_way} under way, {len(self._waiting)} waiting"
            )
        )


@cache
def _rate() -> re.Pattern[str]:
    import re

    return re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*/\s*(s|min|h)\s*")


def parse_rate(value: str | float) -> float:
    """
    Return how many requests per second a user's value stands for.

    Args:
        value: ``"10/s"``, ``"300/min"``, ``"1000/h"``, or a number per second.

    Raises:
        UsageError: It is no rate, or none that lets requests go.
    """
    rate = math.nan
    if isinstance(value, str):
        found = _rate().fullmatch(value)
        if found is not None:
            rate = float(found[1]) / _UNIT_SECONDS[found[2]]
    elif isinstance(value, (int, float)) and not isinstance(value, bool) and value <= sys.float_info.max:
        rate = float(value)
    if not 0 < rate < math.inf or 1 / rate == math.inf:
        raise UsageError(
            f"RateLimit: per_host takes '10/s', '300/min', '1000/h' or the like, or a number per second, not {value!r}"
        )
    return rate
