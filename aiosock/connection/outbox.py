"""
The outbox: what several requests write within one turn of the event loop leaves together at its end.

Each send that finds its receiver asleep has to wake it, which on one machine costs more than the sending itself; one
after the other, the first wakes it for all.
"""

from __future__ import annotations

import asyncio
from time import perf_counter
from typing import Final, Protocol

MAX_HOLD_SECONDS: Final = 0.001
"""Nothing that was posted so long ago waits for more when the next comes: the turn is a slow one."""

LATE_SECONDS: Final = 0.01
"""What leaves so long after the first of its turn was posted is told so."""


class Departing(Protocol):
    """What is posted."""

    def depart(self, late: bool = False) -> None:
        """Leave now, maybe late; raises nothing."""
        ...


class Outbox:
    """
    Belongs to one client.

    Args:
        loop: The event loop whose turns count.

    Attributes:
        under_way: Exchanges that have begun and are not over. One alone has nobody to wait for.
    """

    __slots__ = ("_loop", "_posted", "_since", "under_way")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._posted: list[Departing] = []
        self._since = 0.0
        self.under_way = 0

    def post(self, departing: Departing, now: float) -> None:
        """Let something leave at the end of this turn, or earlier; ``now`` in time of `time.perf_counter`."""
        posted = self._posted
        posted.append(departing)
        if len(posted) == 1:
            self._since = now
            self._loop.call_soon(self._empty)
        elif now - self._since > MAX_HOLD_SECONDS:
            self._empty()

    def _empty(self) -> None:
        posted, self._posted = self._posted, []
        late = perf_counter() - self._since > LATE_SECONDS
        for departing in posted:
            departing.depart(late)
