"""
Idle connections: taken last-in first-out per origin, given up longest idle first, closed when their time is over.

Nothing here decides who gets a connection, or counts against a limit of the pool: whoever owns this is told when a
connection was closed.
"""

from __future__ import annotations

import asyncio
import math
from collections import OrderedDict
from collections.abc import Callable, Iterator
from functools import partial
from typing import Final, Generic, Protocol, TypeVar

from aiosock.config import Limits
from aiosock.pool.origin import Queue

REAP_SECONDS: Final = 1.0
"""A look at all idle connections comes this long after the last, so that thousands may expire one by one."""


class Pooled(Protocol):
    """What the pool asks of a connection."""

    @property
    def capacity(self) -> int:
        """How many more requests it can carry now; HTTP/1.1: one or none."""
        ...

    @property
    def requests_served(self) -> int:
        """How many requests it has carried so far."""
        ...

    @property
    def keep_alive_seconds(self) -> int | None:
        """How long the peer said that it keeps an idle connection."""
        ...

    def is_alive(self) -> bool:
        """Look, without waiting, whether the idle connection can be used."""
        ...

    def watch(self, callback: Callable[[], None] | None) -> None:
        """Call back when an idle connection has something to say."""
        ...

    def close(self) -> None:
        """Close in good order, without waiting."""
        ...

    def abort(self) -> None:
        """Close at once."""
        ...


C = TypeVar("C", bound=Pooled)


class Idle(Generic[C]):
    """
    The idle connections of a pool, the longest idle first.

    Args:
        loop: Whose time counts.
        limits: How many are kept, and how long.
        on_closed: Told, for each connection closed here, whose it was.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, limits: Limits, on_closed: Callable[[Queue[C]], None]) -> None:
        self._loop = loop
        self._seconds = math.inf if limits.keepalive_expiry is None else limits.keepalive_expiry
        self._most = math.inf if limits.max_keepalive_connections is None else limits.max_keepalive_connections
        self._on_closed = on_closed
        self._all: OrderedDict[C, Queue[C]] = OrderedDict()
        self._reaper: asyncio.TimerHandle | None = None
        self._reap_at = math.inf

    def __len__(self) -> int:
        return len(self._all)

    def __iter__(self) -> Iterator[C]:
        return iter(self._all)

    def __contains__(self, connection: object) -> bool:
        return connection in self._all

    def park(self, connection: C, queue: Queue[C]) -> None:
        """Keep a connection that nobody wants now, as long as its server and the limits allow."""
        seconds = self._seconds
        announced = connection.keep_alive_seconds
        if announced is not None:
            # A second early: the server's clock began before ours.
            seconds = min(seconds, announced - 1)
        if seconds <= 0 or not self._most:
            connection.close()
            self._on_closed(queue)
            return
        if len(self._all) >= self._most:
            self.close_longest()
        expires_at = self._loop.time() + seconds
        queue.idle[connection] = expires_at
        self._all[connection] = queue
        connection.watch(partial(self._on_readable, connection))
        if expires_at < self._reap_at:
            self._reap_by(expires_at)

    def take(self, queue: Queue[C]) -> C | None:
        """Return the last used connection that is alive, None where there is none; the dead are closed."""
        while queue.idle:
            connection, expires_at = queue.idle.popitem()
            del self._all[connection]
            connection.watch(None)
            if self._loop.time() < expires_at and connection.is_alive():
                return connection
            connection.close()
            self._on_closed(queue)
        return None

    def close_longest(self, queue: Queue[C] | None = None) -> None:
        """Close the connection that has been idle the longest, of one origin or of all."""
        self._close(next(iter(self._all if queue is None else queue.idle)))

    def close(self) -> None:
        """Close all."""
        if self._reaper is not None:
            self._reaper.cancel()
            self._reaper = None
            self._reap_at = math.inf
        for connection in list(self._all):
            self._close(connection)

    def _close(self, connection: C) -> None:
        queue = self._all.pop(connection)
        del queue.idle[connection]
        connection.watch(None)
        connection.close()
        self._on_closed(queue)

    def _on_readable(self, connection: C) -> None:
        # It may have been taken in the same turn, and is its request's to read.
        if connection in self._all and not connection.is_alive():
            self._close(connection)

    def _reap_by(self, when: float) -> None:
        if self._reaper is not None:
            self._reaper.cancel()
        self._reap_at = when
        self._reaper = self._loop.call_at(when, self._reap)

    def _reap(self) -> None:
        """Close what has expired; the one timer for all."""
        # A timer may come a little early, by the clock's resolution.
        now = max(self._loop.time(), self._reap_at)
        self._reaper = None
        self._reap_at = math.inf
        soonest = math.inf
        for connection, queue in list(self._all.items()):
            expires_at = queue.idle[connection]
            if expires_at <= now:
                self._close(connection)
            else:
                soonest = min(soonest, expires_at)
        if soonest < math.inf:
            self._reap_by(max(soonest, now + REAP_SECONDS))
