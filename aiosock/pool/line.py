"""
The one line over all origins: which waiter without a dial is the next to get one.

It knows the queues whose oldest waiter could have a dial if only the total limit allows, and finds the oldest of
these without looking at the others.
"""

from __future__ import annotations

import heapq
from itertools import count
from typing import Final, Generic, TypeVar

from aiosock.pool.origin import Queue, Waiter

MAX_STALE_ENTRIES: Final = 64
"""How many entries that mean nothing any more are put up with, if they are no more than those that do."""

C = TypeVar("C")


class Line(Generic[C]):
    """
    The queues that could have a dial, by the place in line of the oldest waiter of each.

    A heap, whose entries go stale where they stand: one is good only while its queue is listed under its sequence
    (`Queue.listed`). The stale ones are dropped when they come up, or together when they are too many.
    """

    def __init__(self) -> None:
        self._entries: list[tuple[int, int, Queue[C]]] = []
        self._listed = 0
        self._ties = count()

    def __len__(self) -> int:
        return len(self._entries)

    def note(self, queue: Queue[C]) -> None:
        """Note a queue, if its oldest waiter without a dial could have one: to be called when that may have changed."""
        waiter = queue.next_queued()
        if waiter is None or waiter.sequence == queue.listed or queue.is_full:
            return
        if queue.listed is None:
            self._listed += 1
        queue.listed = waiter.sequence
        heapq.heappush(self._entries, (waiter.sequence, next(self._ties), queue))
        if len(self._entries) > 2 * self._listed + MAX_STALE_ENTRIES:
            self._drop_stale()

    def oldest(self) -> Waiter[C] | None:
        """Return the oldest waiter that only the total limit can keep from a dial."""
        entries = self._entries
        while entries:
            sequence, _, queue = entries[0]
            if queue.listed == sequence:
                waiter = queue.next_queued()
                if waiter is not None and waiter.sequence == sequence and not queue.is_full:
                    return waiter
                queue.listed = None
                self._listed -= 1
            heapq.heappop(entries)
            self.note(queue)
        return None

    def _drop_stale(self) -> None:
        good = {queue: sequence for sequence, _, queue in self._entries if queue.listed == sequence}
        self._entries[:] = ((sequence, next(self._ties), queue) for queue, sequence in good.items())
        heapq.heapify(self._entries)
