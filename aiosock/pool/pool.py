"""
The pool: idle connections are reused last-in first-out per origin, waiters are served first-come first-served
over all origins, and the limits hold at every moment.

All bookkeeping is synchronous: no `await` stands between two changes that belong together, so a cancellation
cannot catch them half done. Dials run in tasks of their own, on behalf of their origin's queue.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
import math
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from functools import partial
from itertools import count
from typing import Final, Generic, NamedTuple, Protocol, TypeVar

from aiosock.config import Limits
from aiosock.connection.dial import Origin
from aiosock.errors import AiosockError, ClientClosed, ConnectTimeout, PoolTimeout, TotalTimeout
from aiosock.pool.origin import Dial, Queue, Waiter

logger = logging.getLogger("aiosock.pool")

CLOSE_SECONDS: Final = 2.0
"""How long closing waits for cancelled tasks to end."""


class Pooled(Protocol):
    """What the pool asks of a connection."""

    @property
    def capacity(self) -> int:
        """How many more requests it can carry now; HTTP/1.1: one or none."""
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
Dialling = Callable[[Origin, Callable[[str], None]], Awaitable[C]]


class Pool(Generic[C]):
    """
    The connections of one client, all on one event loop.

    Args:
        dial: Opens a connection to an origin; its second argument is told which stage begins.
        limits: How many connections there may be, and how long idle ones are kept.

    Attributes:
        opened: Connections opened so far.
        reused: Times an idle connection was used again.
        debug: Check the invariant after every change; for tests.
    """

    def __init__(self, dial: Dialling[C], limits: Limits, *, debug: bool = False) -> None:
        self._dial = dial
        self._limits = limits
        self._max_total = limits.max_connections or math.inf
        self._max_per_host = limits.max_connections_per_host or math.inf
        self._loop = asyncio.get_running_loop()
        self._queues: dict[Origin, Queue[C]] = {}
        self._active: dict[C, Queue[C]] = {}
        # All idle connections with the time they expire at, the longest idle first.
        self._idle: OrderedDict[C, tuple[Queue[C], float]] = OrderedDict()
        self._count = 0
        self._sequences = count()
        # Queues whose oldest waiter without a dial could have one but for the total limit, by that waiter's
        # sequence. Entries go stale; `Queue.listed` tells.
        self._startable: list[tuple[int, int, Queue[C]]] = []
        self._ties = count()
        self._moved_at = self._loop.time()
        self._reaper: asyncio.TimerHandle | None = None
        self._reap_at = math.inf
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
        return sum(len(queue.served) + len(queue.queued) for queue in self._queues.values())

    def __repr__(self) -> str:
        return repr(self.stats())

    def stats(self) -> PoolStats:
        """Return the numbers of this moment."""
        return PoolStats(self.idle, self.active, self.dialling, self.waiting, self.opened, self.reused)

    # Taking

    def take_ticket(self) -> int:
        """Return a place in line, older than all that follow."""
        return next(self._sequences)

    def take_idle(self, origin: Origin) -> C | None:
        """
        Return an idle connection that was looked at and is alive, None where there is none.

        Raises:
            ClientClosed: The pool is closed.
        """
        self._refuse_when_closed()
        queue = self._queues.get(origin)
        if queue is None or not queue.idle:
            return None
        now = self._loop.time()
        found: C | None = None
        while queue.idle and found is None:
            connection = queue.idle.pop()
            _, expires_at = self._idle.pop(connection)
            connection.watch(None)
            if now < expires_at and connection.is_alive():
                found = connection
                self._active[connection] = queue
                self.reused += 1
            else:
                connection.close()
                self._free_slot(queue)
        if found is None:
            self._start_dials()
            self._forget_if_empty(queue)
        self._check()
        return found

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
            queue = self._queues[origin] = Queue(origin)
        now = self._loop.time()
        waiter: Waiter[C] = Waiter(queue, ticket, fresh, connect_seconds, self._loop.create_future(), now)
        queue.enqueue(waiter)
        if queue.surplus is not None:
            dial, queue.surplus = queue.surplus, None
            queue.start(waiter)
            dial.serve(waiter, now)
        else:
            self._list(queue)
            self._start_dials()
        self._watch_deadlines(waiter, math.inf if pool_seconds is None else pool_seconds, deadline)
        self._check()
        try:
            return await waiter.future
        except BaseException:
            self._withdraw(waiter)
            raise

    def _withdraw(self, waiter: Waiter[C]) -> None:
        """A waiter goes away: failed, timed out or cancelled, the last maybe after it was served."""
        future = waiter.future
        if future.done() and not future.cancelled() and future.exception() is None:
            # It is not known to be bad; somebody else may have it.
            self.release(future.result())
        self._remove(waiter)
        self._check()

    def _remove(self, waiter: Waiter[C]) -> None:
        """Forget a waiter, and find other work for its dial or call it off."""
        if waiter.timer is not None:
            waiter.timer.cancel()
            waiter.timer = None
        queue = waiter.queue
        queue.remove(waiter)
        dial, waiter.dial = waiter.dial, None
        if dial is not None:
            self._reassign(dial, may_be_surplus=False)
        self._list(queue)
        self._start_dials()
        self._forget_if_empty(queue)

    # Giving back

    def release(self, connection: C) -> None:
        """Take back a connection whose exchange is over: it goes to a waiter, rests, or is closed."""
        queue = self._active.pop(connection)
        if self._closed or not connection.capacity:
            connection.close()
            self._free_slot(queue)
            self._start_dials()
            self._forget_if_empty(queue)
        else:
            self._place(connection, queue)
        self._check()

    def adopt(self, task: asyncio.Task[None]) -> None:
        """See a task to its end when the pool is closed."""
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _place(self, connection: C, queue: Queue[C]) -> None:
        """A connection is free: its origin's oldest waiter has it, unless an older one elsewhere needs its place."""
        waiter = queue.oldest(reused=True)
        blocked = self._oldest_startable()
        if blocked is not None and blocked is not queue:
            first = blocked.next_queued()
            if first is not None and (waiter is None or first.sequence < waiter.sequence):
                connection.close()
                self._free_slot(queue)
                self._start_dials()
                self._forget_if_empty(queue)
                return
        if waiter is not None:
            self.reused += 1
            self._hand(connection, waiter, may_be_surplus=True)
        else:
            self._park(connection, queue)

    def _hand(self, connection: C, waiter: Waiter[C], *, may_be_surplus: bool) -> None:
        queue = waiter.queue
        queue.remove(waiter)
        if waiter.timer is not None:
            waiter.timer.cancel()
            waiter.timer = None
        self._active[connection] = queue
        queue.moved_at = self._moved_at = self._loop.time()
        waiter.future.set_result(connection)
        dial, waiter.dial = waiter.dial, None
        if dial is not None:
            self._reassign(dial, may_be_surplus=may_be_surplus)
        self._list(queue)

    def _park(self, connection: C, queue: Queue[C]) -> None:
        limits = self._limits
        seconds = math.inf if limits.keepalive_expiry is None else limits.keepalive_expiry
        announced = connection.keep_alive_seconds
        if announced is not None:
            # A second early: the server's clock began before ours.
            seconds = min(seconds, announced - 1)
        most = limits.max_keepalive_connections
        while self._idle and most is not None and len(self._idle) >= most:
            self._evict(next(iter(self._idle)))
        if seconds <= 0 or most == 0:
            connection.close()
            self._free_slot(queue)
            self._start_dials()
            self._forget_if_empty(queue)
            return
        expires_at = self._loop.time() + seconds
        queue.idle.append(connection)
        self._idle[connection] = (queue, expires_at)
        connection.watch(partial(self._on_idle_readable, connection))
        self._reap_by(expires_at)
        self._start_dials()

    def _on_idle_readable(self, connection: C) -> None:
        if connection in self._idle and not connection.is_alive():
            self._evict(connection)
            self._check()

    def _evict(self, connection: C) -> None:
        """Close an idle connection."""
        queue, _ = self._idle.pop(connection)
        queue.idle.remove(connection)
        connection.watch(None)
        connection.close()
        self._free_slot(queue)
        self._forget_if_empty(queue)

    def _reap_by(self, when: float) -> None:
        if when < self._reap_at:
            if self._reaper is not None:
                self._reaper.cancel()
            self._reap_at = when
            self._reaper = self._loop.call_at(when, self._reap)

    def _reap(self) -> None:
        """Close what has expired; the one timer for all idle connections."""
        now = max(self._loop.time(), self._reap_at)
        self._reaper = None
        self._reap_at = math.inf
        for connection, (_, expires_at) in list(self._idle.items()):
            if expires_at <= now:
                self._evict(connection)
        if self._idle:
            self._reap_by(min(expires_at for _, expires_at in self._idle.values()))
        self._check()

    # Dialling

    def _free_slot(self, queue: Queue[C]) -> None:
        queue.count -= 1
        self._count -= 1
        self._list(queue)

    def _forget_if_empty(self, queue: Queue[C]) -> None:
        if queue.empty:
            self._queues.pop(queue.origin, None)

    def _list(self, queue: Queue[C]) -> None:
        """Note that a queue's oldest waiter could have a dial, if only the total limit allows."""
        waiter = queue.next_queued()
        if waiter is None or waiter.sequence == queue.listed or self._host_is_full(queue):
            return
        queue.listed = waiter.sequence
        heapq.heappush(self._startable, (waiter.sequence, next(self._ties), queue))

    def _host_is_full(self, queue: Queue[C]) -> bool:
        # Idle connections that nobody in the queue wants (all want a fresh one) make room.
        return queue.count - len(queue.idle) >= self._max_per_host

    def _oldest_startable(self) -> Queue[C] | None:
        """Return the queue of the oldest waiter that only the total limit can keep from a dial."""
        startable = self._startable
        while startable:
            sequence, _, queue = startable[0]
            if queue.listed == sequence:
                waiter = queue.next_queued()
                if waiter is not None and waiter.sequence == sequence and not self._host_is_full(queue):
                    return queue
                queue.listed = None
                heapq.heappop(startable)
                self._list(queue)
            else:
                heapq.heappop(startable)
        return None

    def _start_dials(self) -> None:
        """Dial for whoever may have a dial, oldest first; the longest idle connection gives way."""
        if self._closed:
            return
        while (queue := self._oldest_startable()) is not None:
            if queue.count >= self._max_per_host:
                self._evict(queue.idle[0])
            elif self._count >= self._max_total:
                if not self._idle:
                    return
                self._evict(next(iter(self._idle)))
            waiter = queue.next_queued()
            if waiter is not None and self._count < self._max_total:
                self._start_dial(queue, waiter)

    def _start_dial(self, queue: Queue[C], waiter: Waiter[C]) -> None:
        queue.start(waiter)
        queue.count += 1
        self._count += 1
        self._queues[queue.origin] = queue
        dial = Dial(queue, waiter)
        waiter.dial = dial
        queue.dials[dial] = None
        task = self._loop.create_task(self._run(dial))
        dial.task = task
        self._tasks.add(task)
        task.add_done_callback(partial(self._on_dialled, dial))
        self._list(queue)

    async def _run(self, dial: Dial[C]) -> C:
        def report(stage: str) -> None:
            dial.stage = stage

        try:
            async with asyncio.timeout(dial.seconds) as dial.scope:
                try:
                    return await self._dial(dial.queue.origin, report)
                finally:
                    dial.scope = None
        except AiosockError:
            raise
        except TimeoutError as error:
            raise ConnectTimeout(
                f"connecting to {dial.queue.origin} took longer than {dial.seconds} s; it was {dial.stage}"
            ) from error

    def _on_dialled(self, dial: Dial[C], task: asyncio.Task[C]) -> None:
        queue, waiter = dial.queue, dial.waiter
        if queue.surplus is dial:
            queue.surplus = None
        self._tasks.discard(task)
        del queue.dials[dial]
        error = None if task.cancelled() else task.exception()
        if task.cancelled() or error is not None:
            self._free_slot(queue)
            if waiter is not None:
                waiter.dial = None
                if error is None:
                    error = ClientClosed("the client was closed while connecting")
                if not waiter.future.done():
                    waiter.future.set_exception(error)
                queue.remove(waiter)
                queue.moved_at = self._moved_at = self._loop.time()
            elif error is not None:
                logger.debug("a connection that nobody waits for any more failed: %s", error)
            self._start_dials()
        elif self._closed:
            task.result().abort()
            self._free_slot(queue)
        else:
            self.opened += 1
            self._place_new(task.result(), queue, dial)
        self._forget_if_empty(queue)
        self._check()

    def _place_new(self, connection: C, queue: Queue[C], dial: Dial[C]) -> None:
        """A dial succeeded: the oldest waiter has the connection; whoever the dial was for takes that one's dial."""
        intended = dial.waiter
        waiter = queue.oldest(reused=False)
        if waiter is not None and waiter is not intended:
            if intended is not None:
                intended.dial = None
                if waiter.dial is not None:
                    waiter.dial.serve(intended, self._loop.time())
                    waiter.dial = None
                else:
                    # Neither has a dial now: back in line, in its place.
                    queue.remove(intended)
                    queue.enqueue(intended)
        elif waiter is not None:
            waiter.dial = None
        if waiter is not None:
            self._hand(connection, waiter, may_be_surplus=False)
            self._start_dials()
        else:
            if intended is not None:
                intended.dial = None
            self._place(connection, queue)

    def _reassign(self, dial: Dial[C], *, may_be_surplus: bool) -> None:
        """
        A dial lost the one it was for: it goes on for the oldest without a dial, or to the pool, or is called off.

        There are never more dials than waiters, save one whose waiter got an idle connection first.
        """
        queue = dial.queue
        dial.waiter = None
        following = queue.next_queued()
        if following is not None:
            queue.start(following)
            dial.serve(following, self._loop.time())
        elif may_be_surplus and queue.surplus is None:
            queue.surplus = dial
        elif dial.task is not None:
            dial.task.cancel()

    # Deadlines of those who wait

    def _watch_deadlines(self, waiter: Waiter[C], pool_seconds: float, deadline: float) -> None:
        if waiter.future.done():
            return
        when = min(self._loop.time() + pool_seconds, deadline)
        if when < math.inf:
            waiter.timer = self._loop.call_at(when, self._on_deadline, waiter, when, pool_seconds, deadline)

    def _on_deadline(self, waiter: Waiter[C], when: float, pool_seconds: float, deadline: float) -> None:
        waiter.timer = None
        if waiter.future.done():
            return
        now = max(self._loop.time(), when)
        if deadline <= now:
            waiter.future.set_exception(
                TotalTimeout(f"no connection in the time for the whole request; {self._state(waiter)}")
            )
            return
        stands_since = now if waiter.dial is not None else self._moved(waiter)
        if stands_since + pool_seconds <= now:
            waiter.future.set_exception(
                PoolTimeout(f"the queue for a connection stood still for {pool_seconds} s; {self._state(waiter)}")
            )
            return
        when = min(stands_since + pool_seconds, deadline)
        waiter.timer = self._loop.call_at(when, self._on_deadline, waiter, when, pool_seconds, deadline)

    def _moved(self, waiter: Waiter[C]) -> float:
        """Return when the queue last moved: its origin's alone where the limit per host is what blocks, else all."""
        queue = waiter.queue
        moved_at = queue.moved_at if self._host_is_full(queue) else self._moved_at
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
        if self._reaper is not None:
            self._reaper.cancel()
            self._reaper = None
        for queue in list(self._queues.values()):
            for waiter in list(queue.waiters()):
                if not waiter.future.done():
                    waiter.future.set_exception(ClientClosed("the client was closed while this request waited"))
        for connection in list(self._idle):
            self._evict(connection)
        for connection in list(self._active):
            # Whoever reads from it is told, and releases it.
            connection.abort()
        for task in self._tasks:
            task.cancel()

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
        _hold(not (self._idle.keys() & self._active.keys()), "no connection is both idle and active")
        _hold(sum(len(queue.idle) for queue in queues) == len(self._idle), "every idle connection is in one queue")
        for queue in queues:
            _hold(queue.count <= self._max_per_host, "the limit per host holds")
            for dial in queue.dials:
                if dial.waiter is None:
                    called_off = dial.task is not None and (dial.task.cancelling() > 0 or dial.task.done())
                    _hold(called_off or dial is queue.surplus, "at most one dial is surplus")
                else:
                    _hold(dial.waiter.dial is dial, "a dial and its waiter know each other")
                    _hold(dial.waiter in queue.served, "a waiter with a dial is among the served")
            for waiter in queue.served:
                _hold(waiter.dial is not None and waiter.dial in queue.dials, "who is served has a dial under way")
            for waiter in queue.queued:
                _hold(waiter.dial is None, "who is queued has no dial")
        if not self._closed:
            blocked = self._oldest_startable()
            _hold(
                blocked is None or (self._count >= self._max_total and not self._idle),
                "nobody waits for a place that is there",
            )


def _hold(truth: bool, what: str) -> None:
    if not truth:
        raise AssertionError(f"the pool's invariant is broken: {what}")
