"""
The queue of one origin: its idle connections, its dials under way, and those who wait.

Plain bookkeeping. Whatever happens here happens in one step; the pool decides, this remembers.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Iterator
from itertools import takewhile
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from aiosock.connection.dial import Origin

C = TypeVar("C")


class Waiter(Generic[C]):
    """
    Someone who waits for a connection.

    Attributes:
        sequence: The place in line, one count over all origins.
        fresh: Only a newly dialled connection will do.
        connect_seconds: How long a dial may take on its behalf, None for as long as it takes.
        future: Gets the connection, or the error.
        dial: The dial that is under way for it, None while there is none.
        enqueued_at: When it began to wait, in time of the loop.
        timer: Its deadline's.
    """

    __slots__ = ("connect_seconds", "dial", "enqueued_at", "fresh", "future", "queue", "sequence", "timer")

    def __init__(
        self,
        queue: Queue[C],
        sequence: int,
        fresh: bool,
        connect_seconds: float | None,
        future: asyncio.Future[C],
        enqueued_at: float,
    ) -> None:
        self.queue = queue
        self.sequence = sequence
        self.fresh = fresh
        self.connect_seconds = connect_seconds
        self.future = future
        self.enqueued_at = enqueued_at
        self.dial: Dial[C] | None = None
        self.timer: asyncio.TimerHandle | None = None


class Dial(Generic[C]):
    """
    A connection on its way.

    Attributes:
        waiter: For whom it is, None once it became surplus.
        task: What dials.
        scope: Bounds its time; None before the task has begun and after it has ended.
        seconds: The bound.
        stage: What it is doing, in words for a message.
    """

    __slots__ = ("queue", "scope", "seconds", "stage", "task", "waiter")

    def __init__(self, queue: Queue[C], waiter: Waiter[C]) -> None:
        self.queue = queue
        self.waiter: Waiter[C] | None = waiter
        self.seconds = waiter.connect_seconds
        self.stage = "about to begin"
        self.task: asyncio.Task[C] | None = None
        self.scope: asyncio.Timeout | None = None

    def serve(self, waiter: Waiter[C], now: float) -> None:
        """Go on for another waiter, who has not waited for it yet and gets the whole time."""
        self.waiter = waiter
        waiter.dial = self
        self.seconds = waiter.connect_seconds
        if self.scope is not None:
            self.scope.reschedule(None if self.seconds is None else now + self.seconds)


class Queue(Generic[C]):
    """
    One origin's part of the pool.

    Attributes:
        count: Connections in any state, dials included.
        idle: Idle connections, the last used at the end.
        dials: Dials under way.
        served: Waiters for whom a dial is under way, oldest first.
        queued: Waiters for whom none is, oldest first.
        moved_at: When a waiter last got what it waited for, in time of the loop.
        surplus: The dial whose waiter got an idle connection first; the next waiter has it.
        listed: The sequence under which the pool has listed this queue as startable; None when it has not.
    """

    __slots__ = ("count", "dials", "idle", "listed", "moved_at", "origin", "queued", "served", "surplus")

    def __init__(self, origin: Origin) -> None:
        self.origin = origin
        self.count = 0
        self.idle: list[C] = []
        self.dials: dict[Dial[C], None] = {}
        self.served: OrderedDict[Waiter[C], None] = OrderedDict()
        self.queued: OrderedDict[Waiter[C], None] = OrderedDict()
        self.moved_at = 0.0
        self.surplus: Dial[C] | None = None
        self.listed: int | None = None

    @property
    def empty(self) -> bool:
        """Nothing is left to remember."""
        return not self.count and not self.served and not self.queued

    def waiters(self) -> Iterator[Waiter[C]]:
        """Iterate over all waiters; those with a dial are older than those without."""
        yield from self.served
        yield from self.queued

    def oldest(self, *, reused: bool) -> Waiter[C] | None:
        """Return the oldest waiter, among those who take a connection that was used before if it is one."""
        self.next_queued()
        for waiter in self.waiters():
            if not waiter.future.done() and not (reused and waiter.fresh):
                return waiter
        return None

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

    def start(self, waiter: Waiter[C]) -> None:
        """Move a waiter to those for whom a dial is under way."""
        del self.queued[waiter]
        _insert(self.served, waiter)

    def remove(self, waiter: Waiter[C]) -> None:
        """Forget a waiter, wherever it is."""
        self.served.pop(waiter, None)
        self.queued.pop(waiter, None)


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
