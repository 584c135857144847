"""
What stands in for the world around the pool: connections that do as they are told, dials that end when the test
says so, and a loop on which time passes only when nothing else is left to do.
"""

from __future__ import annotations

import asyncio
import math
import selectors
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from aiosock.config import Limits
from aiosock.connection.dial import Origin
from aiosock.pool.pool import Pool

timed = pytest.mark.asyncio(loop_factories=["clock"])
"""What is about time runs on a `ClockLoop` alone."""


class ClockLoop(asyncio.SelectorEventLoop):
    """
    A loop with a clock of its own, which jumps to the next timer when nothing is ready: no test ever sleeps.

    Where nothing can ever happen again, a test fails instead of hanging.
    """

    def __init__(self) -> None:
        self.now = 1000.0
        super().__init__(_JumpingSelector(self))

    def time(self) -> float:
        return self.now


class _JumpingSelector(selectors.SelectSelector):
    def __init__(self, loop: ClockLoop) -> None:
        super().__init__()
        self._clock = loop

    def select(self, timeout: float | None = None) -> list[Any]:
        ready = super().select(0)
        if not ready and timeout is None:
            raise RuntimeError("nothing is ready, and no timer runs: this would wait for ever")
        if not ready and timeout is not None:
            self._clock.now += max(timeout, 0)
        return ready


def origin(host: str) -> Origin:
    """An origin of this name."""
    return Origin("http", host, 80, "", None, None, None)


A, B, D = origin("a"), origin("b"), origin("d")


async def turns(count: int = 5) -> None:
    """Let the loop go round, without time passing."""
    for _ in range(count):
        await asyncio.sleep(0)


class FakeConnection:
    """A connection as the pool sees one; what its peer does, the test sets."""

    def __init__(self, network: Network, to: Origin) -> None:
        self.network = network
        self.origin = to
        self.capacity = 1
        self.requests_served = 0
        self.keep_alive_seconds: int | None = None
        self.alive = True
        self.closed = False
        self.aborted = False
        self.looks = 0
        self.watcher: Callable[[], None] | None = None

    def is_alive(self) -> bool:
        self.looks += 1
        return self.alive and not self.closed

    def watch(self, callback: Callable[[], None] | None) -> None:
        self.watcher = callback

    def close(self) -> None:
        self.watcher = None
        if not self.closed:
            self.closed = True
            self.network.open[self.origin] -= 1

    def abort(self) -> None:
        self.aborted = True
        self.close()

    def die(self) -> None:
        """The peer closes it; the loop tells whoever watches."""
        self.alive = False
        if self.watcher is not None:
            self.watcher()

    def __repr__(self) -> str:
        return f"<{self.origin.host} served={self.requests_served} closed={self.closed}>"


class FakeDial:
    """A dial under way, until the test ends it."""

    def __init__(self, network: Network, to: Origin, report: Callable[[str], None]) -> None:
        self.network = network
        self.origin = to
        self.report = report
        self.cancelled = False
        self.future: asyncio.Future[FakeConnection] = asyncio.get_running_loop().create_future()

    def succeed(self) -> FakeConnection:
        """Let it return a connection."""
        connection = FakeConnection(self.network, self.origin)
        self.network.forget(self)
        self.future.set_result(connection)
        return connection

    def fail(self, error: BaseException) -> None:
        """Let it raise."""
        self.network.forget(self)
        self.future.set_exception(error)


class Network:
    """
    What the pool dials with.

    Attributes:
        begun: How many began so far.
        open: How many connections there are at an origin, dials under way included.
        stubborn: Dials do not end when they are cancelled.
    """

    def __init__(self) -> None:
        self._dials: dict[FakeDial, None] = {}
        self.begun = 0
        self.open: Counter[Origin] = Counter()
        self.stubborn = False

    async def dial(self, to: Origin, report: Callable[[str], None]) -> FakeConnection:
        """See `aiosock.pool.origin.Dialler`."""
        self.begun += 1
        self.open[to] += 1
        dial = FakeDial(self, to, report)
        self._dials[dial] = None
        report(f"connecting to {to.host}")
        try:
            while self.stubborn and not dial.future.done():
                try:
                    await asyncio.wait([dial.future])
                except asyncio.CancelledError:
                    dial.cancelled = True
            return await dial.future
        except BaseException:
            dial.cancelled = not dial.future.done() or dial.future.cancelled()
            self.open[to] -= 1
            self.forget(dial)
            if dial.future.done() and not dial.future.cancelled() and dial.future.exception() is None:
                # It was there already when the dial was cancelled, as a socket may be: closed, and not counted again.
                dial.future.result().closed = True
            raise
        finally:
            del dial  # An error would lead back to itself.

    @property
    def dials(self) -> list[FakeDial]:
        """Those under way, in the order in which they began."""
        return list(self._dials)

    @property
    def ready(self) -> list[FakeDial]:
        """The dials that can end; others have been called off, and only wait for their turn to go."""
        return [dial for dial in self.dials if not dial.future.done()]

    def forget(self, dial: FakeDial) -> None:
        """A dial has ended, or is bound to."""
        self._dials.pop(dial, None)

    def hosts(self) -> str:
        """The hosts that are being dialled, one letter each."""
        return "".join(dial.origin.host for dial in self.dials)


class Bench:
    """A pool on a network made up for it."""

    def __init__(
        self,
        total: int | None = None,
        per_host: int | None = None,
        *,
        most_idle: int | None = None,
        idle_seconds: float | None = 15,
        pool_type: type[Pool[FakeConnection]] = Pool,
    ) -> None:
        self.network = Network()
        limits = Limits(
            max_connections=total,
            max_connections_per_host=per_host,
            max_keepalive_connections=most_idle,
            keepalive_expiry=idle_seconds,
        )
        self.pool = pool_type(self.network.dial, limits, debug=True)

    async def acquire(
        self,
        to: Origin = A,
        *,
        ticket: int | None = None,
        fresh: bool = False,
        connect: float | None = None,
        pool: float | None = None,
        deadline: float = math.inf,
    ) -> FakeConnection:
        """Get a connection as a request does."""
        if ticket is None:
            ticket = self.pool.take_ticket()
        connection = None if fresh else self.pool.take_idle(to)
        if connection is None:
            connection = await self.pool.take(
                to, ticket, fresh=fresh, connect_seconds=connect, pool_seconds=pool, deadline=deadline
            )
        assert connection in self.pool._active
        connection.requests_served += 1
        return connection

    async def request(self, to: Origin = A, **options: Any) -> asyncio.Task[FakeConnection]:
        """Begin to `acquire`, and let it get as far as it can without the network."""
        task = asyncio.ensure_future(self.acquire(to, **options))
        await turns()
        return task

    async def requests(self, *origins: Origin) -> list[asyncio.Task[FakeConnection]]:
        """Begin to `acquire` connections to these origins, in this order."""
        return [await self.request(to) for to in origins]

    async def connect(self, to: Origin = A) -> FakeConnection:
        """Return a new connection that is in use."""
        task = await self.request(to, fresh=True)
        self.network.dials[-1].succeed()
        return await task

    async def connect_all(self, *origins: Origin) -> list[FakeConnection]:
        """Return new connections that are in use, one to each of these, all begun at once."""
        tasks = [asyncio.ensure_future(self.acquire(to, fresh=True)) for to in origins]
        await turns()
        for dial in self.network.ready:
            dial.succeed()
        return await asyncio.gather(*tasks)

    async def idle(self, *origins: Origin) -> list[FakeConnection]:
        """Return new connections that are idle, in the order in which they were released."""
        connections = await self.connect_all(*origins)
        for connection in connections:
            self.pool.release(connection)
        return connections

    def end(self, connection: FakeConnection, *, reusable: bool = True) -> None:
        """Give a connection back."""
        connection.capacity = 1 if reusable else 0
        self.pool.release(connection)

    async def close(self) -> None:
        """Close the pool, and see that nothing is left of it."""
        await self.pool.close()
        await turns()
        for connection in list(self.pool._active):
            assert connection.closed
            self.pool.release(connection)
        assert self.pool.stats()[:4] == (0, 0, 0, 0)
        assert not self.pool._queues
        assert not self.pool._tasks
        assert not +self.network.open
