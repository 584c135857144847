"""Idle connections: how long they are kept, which is taken and which is given up, and the look before that."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import pytest

from aiosock.config import Limits
from aiosock.pool.idle import Idle
from aiosock.pool.origin import Queue
from tests.pool.fakes import A, B, FakeConnection, Network, timed


class Shelf:
    """Idle connections of two origins, and who was told that one is closed."""

    def __init__(self, **limits: Any) -> None:
        self.loop = asyncio.get_running_loop()
        self.closed: list[Queue[FakeConnection]] = []
        self.idle: Idle[FakeConnection] = Idle(self.loop, Limits(**limits), self.closed.append)
        self.a: Queue[FakeConnection] = Queue(A, math.inf)
        self.b: Queue[FakeConnection] = Queue(B, math.inf)
        self.network = Network()

    def park(self, queue: Queue[FakeConnection], announced: int | None = None) -> FakeConnection:
        connection = FakeConnection(self.network, queue.origin)
        connection.keep_alive_seconds = announced
        self.idle.park(connection, queue)
        return connection


async def test_the_last_used_is_taken_first() -> None:
    shelf = Shelf()
    connections = [shelf.park(shelf.a) for _ in range(3)]
    shelf.park(shelf.b)
    assert [shelf.idle.take(shelf.a) for _ in range(4)] == [*reversed(connections), None]
    assert len(shelf.idle) == 1
    assert shelf.closed == []
    shelf.idle.close()


async def test_an_idle_connection_is_watched_and_one_in_use_is_not() -> None:
    shelf = Shelf()
    connection = shelf.park(shelf.a)
    assert connection.watcher is not None
    assert list(shelf.idle) == [connection]
    assert connection in shelf.idle
    assert shelf.idle.take(shelf.a) is connection
    assert connection.watcher is None
    assert connection not in shelf.idle


async def test_one_look_before_reuse_discards_the_dead() -> None:
    shelf = Shelf()
    alive, dead = shelf.park(shelf.a), shelf.park(shelf.a)
    dead.alive = False
    assert shelf.idle.take(shelf.a) is alive
    assert (alive.looks, dead.looks) == (1, 1)
    assert dead.closed
    assert shelf.closed == [shelf.a]


async def test_what_its_peer_closes_is_closed_at_once() -> None:
    shelf = Shelf()
    staying, leaving = shelf.park(shelf.a), shelf.park(shelf.a)
    leaving.die()
    assert leaving.closed
    assert shelf.closed == [shelf.a]
    # Something came that says nothing, such as a TLS ticket.
    assert staying.watcher is not None
    staying.watcher()
    assert not staying.closed
    shelf.idle.close()


async def test_a_call_that_comes_late_does_not_touch_a_connection_in_use() -> None:
    shelf = Shelf()
    connection = shelf.park(shelf.a)
    watcher = connection.watcher
    shelf.idle.take(shelf.a)
    connection.alive = False
    assert watcher is not None
    watcher()
    assert not connection.closed


async def test_the_longest_idle_goes_first() -> None:
    shelf = Shelf()
    first, second, third = shelf.park(shelf.a), shelf.park(shelf.b), shelf.park(shelf.b)
    shelf.idle.close_longest(shelf.b)
    assert (first.closed, second.closed, third.closed) == (False, True, False)
    shelf.idle.close_longest()
    assert (first.closed, third.closed) == (True, False)
    assert shelf.closed == [shelf.b, shelf.a]
    shelf.idle.close()
    assert third.closed
    assert len(shelf.idle) == 0


async def test_no_more_are_kept_than_the_limit_says() -> None:
    shelf = Shelf(max_keepalive_connections=2)
    connections = [shelf.park(queue) for queue in (shelf.a, shelf.b, shelf.a)]
    assert [connection.closed for connection in connections] == [True, False, False]
    assert shelf.closed == [shelf.a]
    # One that is not kept does not push out one that is.
    assert shelf.park(shelf.a, announced=1).closed
    assert len(shelf.idle) == 2
    shelf.idle.close()


@pytest.mark.parametrize("limits", [{"max_keepalive_connections": 0}, {"keepalive_expiry": 0}])
async def test_none_is_kept_where_none_may_be(limits: dict[str, Any]) -> None:
    shelf = Shelf(**limits)
    connection = shelf.park(shelf.a)
    assert connection.closed
    assert connection.watcher is None
    assert shelf.closed == [shelf.a]
    assert not shelf.a.idle


@timed
@pytest.mark.parametrize(
    ("expiry", "announced", "seconds"),
    [
        (15, None, 15),
        (15, 5, 4),
        (15, 60, 15),
        (15, 16, 15),
        (None, 5, 4),
        (0.5, 60, 0.5),
        (15, 1, 0),
        (15, 0, 0),
        (None, 0, 0),
    ],
)
async def test_a_connection_expires_a_second_before_its_server_gives_it_up(
    expiry: float | None, announced: int | None, seconds: float
) -> None:
    shelf = Shelf(keepalive_expiry=expiry)
    connection = shelf.park(shelf.a, announced)
    if seconds:
        await asyncio.sleep(seconds - 0.1)
        assert not connection.closed
        await asyncio.sleep(0.1)
    assert connection.closed
    assert shelf.closed == [shelf.a]


@timed
async def test_without_an_expiry_a_connection_is_kept_for_ever() -> None:
    shelf = Shelf(keepalive_expiry=None)
    shelf.park(shelf.a)
    await asyncio.sleep(10_000_000)
    assert shelf.idle.take(shelf.a) is not None
    assert shelf.closed == []


@timed
async def test_what_has_expired_is_not_taken_even_where_the_timer_has_not_come() -> None:
    shelf = Shelf(keepalive_expiry=10)
    connection = shelf.park(shelf.a)
    assert isinstance(shelf.loop, asyncio.SelectorEventLoop)
    shelf.loop.now += 10  # type: ignore[attr-defined]  # a ClockLoop
    assert shelf.idle.take(shelf.a) is None
    assert connection.closed
    assert connection.looks == 0


@timed
async def test_there_is_one_timer_for_all() -> None:
    loop = asyncio.get_running_loop()
    shelf = Shelf(keepalive_expiry=15)

    def timers() -> list[float]:
        handles: list[asyncio.TimerHandle] = loop._scheduled  # type: ignore[attr-defined]  # of asyncio's own loop
        return sorted(handle.when() - began for handle in handles if not handle.cancelled())

    began = loop.time()
    connections = [shelf.park(shelf.a) for _ in range(20)]
    assert timers() == [15]
    connections += [shelf.park(shelf.b, announced=6), shelf.park(shelf.b, announced=8)]
    assert timers() == [5]
    await asyncio.sleep(5)
    assert [connection.closed for connection in connections] == [False] * 20 + [True, False]
    assert timers() == [7]
    await asyncio.sleep(5)
    shelf.park(shelf.a)
    assert timers() == [15]
    await asyncio.sleep(5)
    assert timers() == [25]
    shelf.idle.close()
    assert timers() == []
    # It serves again after that.
    shelf.park(shelf.a)
    assert len(timers()) == 1
    await asyncio.sleep(15)
    assert len(shelf.idle) == 0
    assert timers() == []


@timed
async def test_ten_thousand_that_expire_one_after_the_other_are_not_looked_through_each_time() -> None:
    loop = asyncio.get_running_loop()
    shelf = Shelf(keepalive_expiry=15)
    for _ in range(10_000):
        shelf.park(shelf.a)
        await asyncio.sleep(0.001)
    reaps = 0
    reap = shelf.idle._reap

    def count() -> None:
        nonlocal reaps
        reaps += 1
        reap()

    shelf.idle._reap = count  # type: ignore[method-assign]  # counted, and else as it was
    began = loop.time()
    await asyncio.sleep(20)
    assert len(shelf.idle) == 0
    # The timer that was set already, and then one a second for the ten seconds in which they expire.
    assert reaps <= 11
    assert loop.time() - began == 20
