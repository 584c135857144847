"""
The queue of one origin: its idle connections, its dials under way, and those who wait.

Plain bookkeeping. Whatever happens here happens in one step; the pool decides, this remembers.
"""

from __future__ import annotations

import asyncio
import math
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterator
from itertools import takewhile
from typing import Generic, TypeVar

from aiosock.connection.dial import Origin
from aiosock.errors import ConnectTimeout

C = TypeVar("C")
Dialler = Callable[[Origin, Callable[[str], None]], Awaitable[C]]
"""What opens a connection to an origin; its second argument is told which stage begins."""


class Waiter(Generic[C]):
    """
    Someone who waits for a connection.

    Attributes:
        sequence: The place in line, one count over all origins.
        fresh: Only a newly dialled connection will do.
        connect_seconds: How long a dial may take on its behalf, None for as long as it takes.
        pool_seconds: How long the queue may stand still, ``math.inf`` for as long as it takes.
        deadline: When it gives up in any case, in time of the loop; ``math.inf`` for never.
        future: Gets the connection, or the error. It may be cancelled a turn before the waiter leaves the line.
        dial: The dial that is under way for it, None while there is none.
        enqueued_at: When it began to wait, in time of the loop.
        timer: Its deadline's.
    """

    __slots__ = (
        "connect_seconds",
        "deadline",
        "dial",
        "enqueued_at",
        "fresh",
        "future",
        "pool_seconds",
        "queue",
        "sequence",
        "timer",
    )

    def __init__(
        self,
        queue: Queue[C],
        sequence: int,
        future: asyncio.Future[C],
        *,
        fresh: bool = False,
        connect_seconds: float | None = None,
        pool_seconds: float = math.inf,
        deadline: float = math.inf,
        enqueued_at: float = 0.0,
    ) -> None:
        self.queue = queue
        self.sequence = sequence
        self.future = future
        self.fresh = fresh
        self.connect_seconds = connect_seconds
        self.pool_seconds = pool_seconds
        self.deadline = deadline
        self.enqueued_at = enqueued_at
        self.dial: Dial[C] | None = None
        self.timer: asyncio.TimerHandle | None = None


class Dial(Generic[C]):
    """
    A connection on its way.

    Attributes:
        waiter: For whom it is, None once it became surplus or was called off.
        task: What dials; None before it has begun and after it has ended.
        seconds: How long it may take, from when it begins.
        expired: Its time was over before it ended.
        stage: What it is doing, in words for a message.
    """

    __slots__ = ("_loop", "_timer", "expired", "queue", "seconds", "stage", "task", "waiter")

    def __init__(self, queue: Queue[C], waiter: Waiter[C]) -> None:
        self.queue = queue
        self.waiter: Waiter[C] | None = waiter
        self.seconds = waiter.connect_seconds
        self.stage = "about to begin"
        self.task: asyncio.Task[C] | None = None
        self.expired = False
        # Its loop while it runs, and what bounds its time.
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None

    @property
    def over(self) -> bool:
        """It has ended, was called off or is out of time: nothing more is to be hoped from it."""
        return self.task is None or self.task.done() or self.task.cancelling() > 0

    def report(self, stage: str) -> None:
        """Remember which stage begins."""
        self.stage = stage

    async def run(self, dial: Dialler[C]) -> C:
        """
        Return a new connection.

        Raises:
            ConnectTimeout: It took longer than it may; the message says at which stage it was.
            Exception: Whatever the dialler raised.
        """
        loop = self._loop = asyncio.get_running_loop()
        self._bound(loop, loop.time())
        try:
            return await dial(self.queue.origin, self.report)
        except asyncio.CancelledError as error:
            # The task is this dial's own. Who else calls it off does so because nobody waits for it any more.
            if not self.expired or self.task is None or self.task.cancelling() > 1:
                raise
            raise ConnectTimeout(
                f"connecting to {self.queue.origin} took longer than {self.seconds} s; it was {self.stage}"
            ) from error
        finally:
            self._loop = None
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None

    def _bound(self, loop: asyncio.AbstractEventLoop, now: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if self.seconds is None else loop.call_at(now + self.seconds, self._expire)

    def _expire(self) -> None:
        self._timer = None
        if self.task is not None:
            self.expired = True
            self.task.cancel()

    def serve(self, waiter: Waiter[C], now: float) -> None:
        """Go on for another waiter, who has not waited for it yet and gets the whole time."""
        self.waiter = waiter
        self.seconds = waiter.connect_seconds
        if self._loop is not None:
            self._bound(self._loop, now)
        self.queue.start(waiter, self)


class Queue(Generic[C]):
    """
    One origin's part of the pool.

    Args:
        origin: Where its connections lead to.
        most: How many connections it may have, ``math.inf`` for as many as it takes.

    Attributes:
        count: Connections in any state, dials included.
        idle: Idle connections with the time they expire at, the last used at the end.
        dials: Dials under way.
        served: Waiters for whom a dial is under way, oldest first.
        queued: Waiters for whom none is, oldest first.
        takers: Those of both who take a connection that was used before, oldest first.
        moved_at: When a waiter last got what it waited for, in time of the loop.
        surplus: The dial whose waiter got an idle connection first; the next waiter has it.
        listed: The sequence under which the pool has listed this queue as startable; None when it has not.
    """

    __slots__ = (
        "count",
        "dials",
        "idle",
        "listed",
        "most",
        "moved_at",
        "origin",
        "queued",
        "served",
        "surplus",
        "takers",
    )

    def __init__(self, origin: Origin, most: float) -> None:
        self.origin = origin
        self.most = most
        self.count = 0
        self.idle: OrderedDict[C, float] = OrderedDict()
        self.dials: dict[Dial[C], None] = {}
        self.served: OrderedDict[Waiter[C], None] = OrderedDict()
        self.queued: OrderedDict[Waiter[C], None] = OrderedDict()
        self.takers: OrderedDict[Waiter[C], None] = OrderedDict()
        self.moved_at = 0.0
        self.surplus: Dial[C] | None = None
        self.listed: int | None = None

    @property
    def empty(self) -> bool:
        """Nothing is left to remember."""
        return not self.count and not self.served and not self.queued

    @property
    def is_full(self) -> bool:
        """It may have no more connections. Idle ones make room: who waits beside them wants a fresh one."""
        return self.count - len(self.idle) >= self.most

    def waiters(self) -> Iterator[Waiter[C]]:
        """Iterate over all waiters, first those with a dial."""
        yield from self.served
        yield from self.queued

    def oldest(self, *, reused: bool) -> Waiter[C] | None:
        """Return the oldest waiter, among those who take a connection that was used before if it is one."""
        if reused:
            return next(iter(self.takers), None)
        heads = [next(iter(line)) for line in (self.served, self.queued) if line]
        return min(heads, key=lambda waiter: waiter.sequence, default=None)

    def next_queued(self) -> Waiter[C] | None:
        """
        Return the oldest waiter without a dial.

        Those ahead of it that were cancelled, and have not yet had their turn to go, are forgotten on the way: when
        thousands are cancelled at once, each is passed over once.
        """
        while self.queued:
            waiter = next(iter(self.queued))
            if not waiter.future.done():
                return waiter
            del self.queued[waiter]
        return None

    def enqueue(self, waiter: Waiter[C]) -> None:
        """Add a waiter without a dial, in its place."""
        _insert(self.queued, waiter)
        if not waiter.fresh:
            _insert(self.takers, waiter)

    def start(self, waiter: Waiter[C], dial: Dial[C]) -> None:
        """Move a waiter to those for whom a dial is under way."""
        waiter.dial = dial
        del self.queued[waiter]
        _insert(self.served, waiter)

    def stop(self, waiter: Waiter[C]) -> None:
        """Move a waiter back to those without a dial, in its place."""
        waiter.dial = None
        del self.served[waiter]
        _insert(self.queued, waiter)

    def remove(self, waiter: Waiter[C]) -> None:
        """Forget a waiter, wherever it is."""
        self.served.pop(waiter, None)
        self.queued.pop(waiter, None)
        self.takers.pop(waiter, None)


def _insert(line: OrderedDict[Waiter[C], None], waiter: Waiter[C]) -> None:
    """Insert by sequence: nearly always at the end, or, for a request that is sent again, near the front."""
    if not line or next(reversed(line)).sequence < waiter.sequence:
        line[waiter] = None
        return
    older = list(takewhile(lambda other: other.sequence < waiter.sequence, line))
    line[waiter] = None
    line.move_to_end(waiter, last=False)
    for other in reversed(older):
        line.move_to_end(other, last=False)
