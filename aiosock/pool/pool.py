"""
The pool: idle connections are reused last-in first-out per origin, waiters are served first-come first-served
over all origins, and the limits hold at every moment.

All bookkeeping is synchronous: no `await` stands between two changes that belong together, so a cancellation
cannot catch them half done. Dials run in tasks of their own, on behalf of their origin's queue.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable
from functools import partial
from itertools import count
from typing import Final, Generic, NamedTuple, TypeVar

from aiosock.config import Limits
from aiosock.connection.dial import Origin
from aiosock.errors import ClientClosed, ConnectError, PoolTimeout, TotalTimeout
from aiosock.pool.idle import Idle, Pooled
from aiosock.pool.line import Line
from aiosock.pool.origin import Dial, Dialler, Queue, Waiter

logger = logging.getLogger("aiosock.pool")

CLOSE_SECONDS: Final = 2.0
"""How long closing waits for cancelled tasks to end."""


class PoolStats(NamedTuple):
    """
    The pool's numbers at one moment.

    Attributes:
        idle: Connections that wait for a request.
        active: Connections that carry a request, or drain the rest of an answer.
        dialling: Connections on their way.
        waiting: Requests that wait for a connection.
        opened: Connections opened so far.
        reused: Times a connection was used again.
    """

    idle: int = 0
    active: int = 0
    dialling: int = 0
    waiting: int = 0
    opened: int = 0
    reused: int = 0

    def __repr__(self) -> str:
        return f"<Pool {' '.join(f'{name}={value}' for name, value in self._asdict().items())}>"


C = TypeVar("C", bound=Pooled)


class Pool(Generic[C]):
    """
    The connections of one client, all on one event loop.

    Args:
        dial: Opens a connection to an origin; its second argument is told which stage begins.
        limits: How many connections there may be, and how long idle ones are kept.

    Attributes:
        opened: Connections opened so far.
        reused: Times a connection was used again.
        debug: Check the invariant after every change; for tests.
    """

    def __init__(self, dial: Dialler[C], limits: Limits, *, debug: bool = False) -> None:
        self._dial = dial
        self._limits = limits
        self._max_total = limits.max_connections or math.inf
        self._max_per_host = limits.max_connections_per_host or math.inf
        self._loop = asyncio.get_running_loop()
        self._queues: dict[Origin, Queue[C]] = {}
        self._idle: Idle[C] = Idle(self._loop, limits, self._free_slot)
        self._active: dict[C, Queue[C]] = {}
        self._count = 0
        self._waiting = 0
        self.take_ticket: Callable[[], int] = count().__next__
        """Return a place in line, older than all that follow."""
        self._line: Line[C] = Line()
        self._moved_at = self._loop.time()
        self._tasks: set[asyncio.Task[object]] = set()
        self._closed = False
        self.opened = 0
        self.reused = 0
        self.debug = debug

    # What there is

    @property
    def idle(self) -> int:
        """Connections that wait for a request."""
        return len(self._idle)

    @property
    def active(self) -> int:
        """Connections that carry a request, or drain the rest of an answer."""
        return len(self._active)

    @property
    def dialling(self) -> int:
        """Connections on their way."""
        return self._count - len(self._idle) - len(self._active)

    @property
    def waiting(self) -> int:
        """Requests that wait for a connection."""
        return self._waiting

    def __repr__(self) -> str:
        return repr(self.stats())

    def stats(self) -> PoolStats:
        """Return the numbers of this moment."""
        return PoolStats(self.idle, self.active, self.dialling, self.waiting, self.opened, self.reused)

    # Taking

    def take_idle(self, origin: Origin) -> C | None:
        """
        Return an idle connection that was looked at and is alive, None where there is none.

        Raises:
            ClientClosed: The pool is closed.
        """
        if self._closed:
            self._refuse_when_closed()
        queue = self._queues.get(origin)
        if queue is None or not queue.idle:
            return None
        connection = self._idle.take(queue)
        if connection is not None:
            self._active[connection] = queue
            if connection.requests_served:  # One that nobody waited for any more was never used.
                self.reused += 1
        if self.debug:
            self._check()
        return connection

    async def take(
        self,
        origin: Origin,
        ticket: int,
        *,
        fresh: bool = False,
        connect_seconds: float | None,
        pool_seconds: float | None,
        deadline: float,
    ) -> C:
        """
        Wait in line for a connection.

        Args:
            origin: Where it leads to.
            ticket: The place in line, see `take_ticket`.
            fresh: Only a newly dialled connection will do.
            connect_seconds: How long dialling may take, None for as long as it takes.
            pool_seconds: How long the queue may stand still, None for as long as it takes.
            deadline: When to give up in any case, in time of the loop; ``math.inf`` for never.

        Raises:
            ConnectError: Dialling failed.
            ConnectTimeout: Dialling took longer than ``connect_seconds``.
            PoolTimeout: The queue stood still for ``pool_seconds``.
            TotalTimeout: The deadline passed.
            ClientClosed: The pool is closed.
        """
        self._refuse_when_closed()
        queue = self._queues.get(origin)
        if queue is None:
            queue = self._queues[origin] = Queue(origin, self._max_per_host)
        waiter: Waiter[C] = Waiter(
            queue,
            ticket,
            self._loop.create_future(),
            fresh=fresh,
            connect_seconds=connect_seconds,
            pool_seconds=math.inf if pool_seconds is None else pool_seconds,
            deadline=deadline,
            enqueued_at=self._loop.time(),
        )
        self._enqueue(waiter)
        try:
            connection = await waiter.future
            # It may have been closed between being handed over and this turn.
            self._refuse_when_closed()
            return connection
        except BaseException:
            self._withdraw(waiter)
            raise
        finally:
            # An error has this frame in its traceback, and the waiter has the error: without this, a cycle.
            del waiter

    def _enqueue(self, waiter: Waiter[C]) -> None:
        queue = waiter.queue
        queue.enqueue(waiter)
        self._waiting += 1
        dial = queue.surplus
        if dial is not None and not dial.over:
            queue.surplus = None
            dial.serve(waiter, waiter.enqueued_at)
        elif not self._line and queue.count < self._max_per_host and self._count < self._max_total:
            # Nobody else waits for a dial, and it may have one.
            self._start_dial(waiter)
        else:
            self._line.note(queue)
            self._start_dials()
        self._watch_deadline(waiter, waiter.enqueued_at)
        self._check()

    def _withdraw(self, waiter: Waiter[C]) -> None:
        """A waiter goes away with an error: it failed, or was cancelled, maybe after it was served."""
        future = waiter.future
        if future.cancelled() or not future.done():
            self._waiting -= 1
            self._leave(waiter)
        elif future.exception() is None:
            # Not known to be bad; somebody else may have it.
            self.release(future.result())
        self._check()

    def _fail(self, waiter: Waiter[C], error: BaseException) -> None:
        self._waiting -= 1
        waiter.future.set_exception(error)
        self._leave(waiter)

    def _leave(self, waiter: Waiter[C], *, may_be_surplus: bool = False) -> None:
        """A wait is over: the waiter is forgotten, and there is other work for its dial or it is called off."""
        if waiter.timer is not None:
            waiter.timer.cancel()
        queue = waiter.queue
        queue.remove(waiter)
        dial, waiter.dial = waiter.dial, None
        if dial is not None:
            self._reassign(dial, may_be_surplus=may_be_surplus)
        if queue.queued:
            self._line.note(queue)
        self._forget_if_empty(queue)

    def _oldest(self, queue: Queue[C], *, reused: bool) -> Waiter[C] | None:
        """Return a queue's oldest waiter; those that were cancelled, and still have to go, leave on the way."""
        while (waiter := queue.oldest(reused=reused)) is not None and waiter.future.done():
            self._leave(waiter)
        return waiter

    # Giving back

    def release(self, connection: C) -> None:
        """Take back a connection whose exchange is over: it goes to a waiter, rests, or is closed."""
        queue = self._active.pop(connection)
        if self._closed or not connection.capacity:
            self._close(connection, queue)
        elif self._waiting:
            self._place(connection, queue)
        else:
            self._idle.park(connection, queue)
        if self.debug:
            self._check()

    def adopt(self, task: asyncio.Task[None]) -> None:
        """See a task to its end when the pool is closed."""
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _place(self, connection: C, queue: Queue[C]) -> None:
        """
        A connection is free: its origin's oldest waiter has it.

        An older one may be unable to use it but for its place: one that is blocked elsewhere by the total limit
        alone, or one here that wants a fresh connection. Then it is closed, and that one dials.
        """
        waiter = self._oldest(queue, reused=True)
        first = waiter
        for other in (queue.next_queued(), self._line.oldest()):
            if other is not None and (first is None or other.sequence < first.sequence):
                first = other
        if first is None:
            self._idle.park(connection, queue)
        elif first is waiter and connection.is_alive():
            self._hand(connection, first, may_be_surplus=True)
        else:
            self._close(connection, queue)

    def _hand(self, connection: C, waiter: Waiter[C], *, may_be_surplus: bool) -> None:
        queue = waiter.queue
        queue.moved_at = self._moved_at = self._loop.time()
        self._waiting -= 1
        self._active[connection] = queue
        if connection.requests_served:
            self.reused += 1
        waiter.future.set_result(connection)
        self._leave(waiter, may_be_surplus=may_be_surplus)

    def _close(self, connection: C, queue: Queue[C]) -> None:
        connection.close()
        self._free_slot(queue)
        self._start_dials()

    def _free_slot(self, queue: Queue[C]) -> None:
        queue.count -= 1
        self._count -= 1
        if queue.queued:
            self._line.note(queue)
        self._forget_if_empty(queue)

    def _forget_if_empty(self, queue: Queue[C]) -> None:
        # A waiter that was cancelled may leave a queue that was forgotten long since, and has a successor.
        if queue.empty and self._queues.get(queue.origin) is queue:
            del self._queues[queue.origin]

    # Dialling

    def _start_dials(self) -> None:
        """Dial for whoever may have a dial, oldest first; the longest idle connection gives way."""
        while not self._closed and (waiter := self._line.oldest()) is not None:
            queue = waiter.queue
            if queue.count >= self._max_per_host:
                self._idle.close_longest(queue)
            elif self._count >= self._max_total:
                if not self._idle:
                    return
                self._idle.close_longest()
            self._start_dial(waiter)

    def _start_dial(self, waiter: Waiter[C]) -> None:
        queue = waiter.queue
        queue.count += 1
        self._count += 1
        dial = Dial(queue, waiter)
        queue.dials[dial] = None
        queue.start(waiter, dial)
        task = dial.task = self._loop.create_task(dial.run(self._dial))
        self._tasks.add(task)
        task.add_done_callback(partial(self._on_dialled, dial))

    def _on_dialled(self, dial: Dial[C], task: asyncio.Task[C]) -> None:
        queue = dial.queue
        # An error has the dial in its traceback, and the task has the error: without this, a cycle.
        dial.task = None
        self._tasks.discard(task)
        del queue.dials[dial]
        if queue.surplus is dial:
            queue.surplus = None
        if dial.waiter is not None and dial.waiter.future.done():
            self._leave(dial.waiter)
        error = None if task.cancelled() else task.exception()
        if task.cancelled() or error is not None:
            if dial.waiter is not None:
                queue.moved_at = self._moved_at = self._loop.time()
                self._fail(dial.waiter, error or ConnectError(f"connecting to {queue.origin} was cancelled"))
            elif error is not None:
                logger.debug("a connection that nobody waits for any more failed: %s", error)
            self._free_slot(queue)
            self._start_dials()
        elif self._closed:
            task.result().abort()
            self._free_slot(queue)
        else:
            self.opened += 1
            self._place_new(task.result(), dial)
        self._check()

    def _place_new(self, connection: C, dial: Dial[C]) -> None:
        """A dial succeeded: the oldest waiter has the connection; if that is not whom it was for, they swap dials."""
        queue, waiter = dial.queue, dial.waiter
        if waiter is not None:
            if not queue.queued and next(iter(queue.served)) is waiter:
                # Nobody is older: the short road.
                self._hand(connection, waiter, may_be_surplus=False)
                return
            queue.stop(waiter)
        oldest = self._oldest(queue, reused=False)
        if oldest is None:
            self._place(connection, queue)
            return
        self._hand(connection, oldest, may_be_surplus=False)
        self._start_dials()
        if waiter is not None and not waiter.future.done():
            self._watch_deadline(waiter, self._moved_at)

    def _reassign(self, dial: Dial[C], *, may_be_surplus: bool) -> None:
        """
        A dial lost the one it was for: it goes on for the oldest without a dial, or to the pool, or is called off.

        There are never more dials than waiters, save one whose waiter got an idle connection first.
        """
        dial.waiter = None
        if dial.task is None or dial.over:
            return
        queue = dial.queue
        following = queue.next_queued()
        if following is not None and not self._closed:
            dial.serve(following, self._loop.time())
        elif may_be_surplus and queue.surplus is None:
            queue.surplus = dial
        else:
            dial.task.cancel()

    # Deadlines of those who wait

    def _watch_deadline(self, waiter: Waiter[C], since: float) -> None:
        """Set the timer of a waiter; while a dial is under way for it, that is bounded, and not its place in line."""
        if waiter.timer is not None:
            waiter.timer.cancel()
            waiter.timer = None
        when = waiter.deadline if waiter.dial is not None else min(since + waiter.pool_seconds, waiter.deadline)
        if when < math.inf:
            waiter.timer = self._loop.call_at(when, self._on_deadline, waiter, when)

    def _on_deadline(self, waiter: Waiter[C], when: float) -> None:
        if waiter.future.done():
            return
        # A timer may come a little early, by the clock's resolution.
        now = max(self._loop.time(), when)
        stands_since = now if waiter.dial is not None else self._moved(waiter)
        if waiter.deadline <= now:
            what = "no connection in the time for the whole request"
            self._fail(waiter, TotalTimeout(f"{what}; {self._state(waiter)}"))
        elif stands_since + waiter.pool_seconds <= now:
            what = f"the queue for a connection stood still for {waiter.pool_seconds} s"
            self._fail(waiter, PoolTimeout(f"{what}; {self._state(waiter)}"))
        else:
            self._watch_deadline(waiter, stands_since)
        self._check()

    def _moved(self, waiter: Waiter[C]) -> float:
        """Return when the queue last moved: its origin's alone where the limit per host is what blocks, else all."""
        queue = waiter.queue
        moved_at = queue.moved_at if queue.is_full else self._moved_at
        return max(moved_at, waiter.enqueued_at)

    def _state(self, waiter: Waiter[C]) -> str:
        stage = f"it was {waiter.dial.stage}; " if waiter.dial is not None else ""
        limits = self._limits
        return (
            f"{stage}{waiter.queue.origin}: active={self.active} idle={self.idle} dialling={self.dialling} "
            f"waiting={self.waiting}, limits: {limits.max_connections} in all, "
            f"{limits.max_connections_per_host} per host"
        )

    # The end

    def _refuse_when_closed(self) -> None:
        if self._closed:
            raise ClientClosed("the client is closed")

    def close_now(self) -> None:
        """Close every connection and call everything off, in one step."""
        self._closed = True
        if self._loop.is_closed():
            # Nobody can be told any more, and nothing runs: what is left are the sockets.
            for connection in (*self._idle, *self._active):
                connection.abort()
            return
        for queue in list(self._queues.values()):
            for waiter in list(queue.waiters()):
                if not waiter.future.done():
                    self._fail(waiter, ClientClosed("the client was closed while this request waited"))
        self._idle.close()
        for connection in list(self._active):
            # Whoever reads from it is told, and releases it.
            connection.abort()
        for task in list(self._tasks):
            task.cancel()
        self._check()

    async def close(self) -> None:
        """Close every connection, and wait for what that ends, a bounded time."""
        self.close_now()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=CLOSE_SECONDS)

    # The truth

    def _check(self) -> None:
        if self.debug:
            self.check_invariant()

    def check_invariant(self) -> None:
        """
        Check that the books are true.

        Raises:
            AssertionError: They are not; the message says what does not add up.
        """
        queues = list(self._queues.values())
        dials = sum(len(queue.dials) for queue in queues)
        _hold(self._count == len(self._idle) + len(self._active) + dials, "every connection is in one state")
        _hold(self._count == sum(queue.count for queue in queues), "the total is the sum over the origins")
        _hold(self._count <= self._max_total, "the total limit holds")
        _hold(not any(connection in self._idle for connection in self._active), "none is both idle and active")
        _hold(sum(len(queue.idle) for queue in queues) == len(self._idle), "every idle connection is in one queue")
        in_line = [waiter for queue in queues for waiter in queue.waiters()]
        live = [waiter for waiter in in_line if not waiter.future.done()]
        _hold(len(live) <= self._waiting, "who waits is counted")
        for queue in queues:
            _hold(queue.count <= self._max_per_host, "the limit per host holds")
            for line in (list(queue.served), list(queue.queued), list(queue.takers)):
                _hold(line == sorted(line, key=lambda waiter: waiter.sequence), "who came first stands first")
            takers = {waiter for waiter in queue.waiters() if not waiter.fresh}
            _hold(takers <= queue.takers.keys(), "who takes what was used is found as such")
            for dial in queue.dials:
                if dial.waiter is None:
                    _hold(dial.over or dial is queue.surplus, "at most one dial is surplus")
                else:
                    _hold(dial.waiter.dial is dial, "a dial and its waiter know each other")
                    _hold(dial.waiter in queue.served, "a waiter with a dial is among the served")
                    _hold(dial is not queue.surplus, "a surplus dial is for nobody")
            for waiter in queue.served:
                _hold(waiter.dial is not None and waiter.dial in queue.dials, "who is served has a dial under way")
            for waiter in queue.queued:
                _hold(waiter.dial is None, "who is queued has no dial")
                # Found by looking at all, not by the books that it is to check.
                if not self._closed and not waiter.future.done():
                    _hold(waiter.fresh or not queue.idle, "nobody waits for a connection that is there")
                    _hold(
                        queue.is_full or (self._count >= self._max_total and not self._idle),
                        "nobody waits for a place that is there",
                    )


def _hold(truth: bool, what: str) -> None:
    if not truth:
        raise AssertionError(f"the pool's invariant is broken: {what}")
