"""
Which connection carries a request: who waits, who is served, what is closed, and what is never lost.

Hosts stand for origins; a `FakeDial` ends when the test says so. The pool checks its invariant after every change.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import anyio
import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from aiosock.config import Limits
from aiosock.connection.dial import Origin
from aiosock.errors import ClientClosed, ConnectError, ConnectTimeout, PoolTimeout, TotalTimeout
from aiosock.pool.origin import Dial, Queue, Waiter
from aiosock.pool.pool import CLOSE_SECONDS, Pool, PoolStats
from tests.pool.fakes import A, B, Bench, ClockLoop, D, FakeConnection, Network, origin, timed, turns

Task = asyncio.Task[FakeConnection]


def done(*tasks: Task) -> str:
    """Who was served, as a row of 1 and 0."""
    return "".join("1" if task.done() else "0" for task in tasks)


async def fails(task: Task, error: type[BaseException], match: str | None = None) -> BaseException:
    """See that a request failed, or does so in the time that its deadlines say, and return the error."""
    with pytest.raises(error, match=match) as info:
        await task
    return info.value


# Reuse and dialling


async def test_a_connection_is_dialled_used_and_used_again() -> None:
    bench = Bench()
    first = await bench.request()
    assert bench.pool.stats() == PoolStats(dialling=1, waiting=1)
    connection = bench.network.dials[0].succeed()
    assert await first is connection
    assert bench.pool.stats() == PoolStats(active=1, opened=1)
    bench.end(connection)
    assert bench.pool.stats() == PoolStats(idle=1, opened=1)
    assert await bench.acquire() is connection
    assert bench.pool.stats() == PoolStats(active=1, opened=1, reused=1)
    assert repr(bench.pool) == "<Pool idle=0 active=1 dialling=0 waiting=0 opened=1 reused=1>"
    bench.end(connection, reusable=False)
    assert connection.closed
    assert bench.pool.stats() == PoolStats(opened=1, reused=1)
    assert not bench.pool._queues
    await bench.close()


async def test_the_last_used_is_reused_first_and_only_for_its_origin() -> None:
    bench = Bench()
    a1, b1, a2 = await bench.idle(A, B, A)
    assert await bench.acquire(A) is a2
    assert await bench.acquire(A) is a1
    assert await bench.acquire(B) is b1
    assert bench.pool.take_idle(A) is None
    assert bench.pool.take_idle(origin("nowhere")) is None
    await bench.close()


async def test_the_dead_are_discarded_before_reuse_and_a_fresh_one_is_dialled() -> None:
    bench = Bench()
    connections = await bench.idle(A, A)
    for connection in connections:
        connection.alive = False
    task = await bench.request(A)
    assert all(connection.closed for connection in connections)
    assert bench.network.hosts() == "a"
    assert bench.pool.stats() == PoolStats(dialling=1, waiting=1, opened=2)
    bench.network.dials[0].succeed()
    await task
    await bench.close()


async def test_what_its_peer_closes_while_it_is_idle_is_forgotten() -> None:
    bench = Bench()
    (connection,) = await bench.idle(A)
    connection.die()
    assert connection.closed
    assert not bench.pool._queues
    await bench.close()


async def test_there_is_one_dial_for_each_waiter_and_all_limits_are_the_waiters() -> None:
    bench = Bench()
    tasks = await bench.requests(A, A, B)
    assert bench.network.hosts() == "aab"
    assert bench.pool.dialling == bench.pool.waiting == 3
    # Whichever dial is ready first serves who came first.
    second = bench.network.dials[1].succeed()
    await turns()
    assert done(*tasks) == "100"
    assert await tasks[0] is second
    assert bench.network.hosts() == "ab"
    first = bench.network.dials[0].succeed()
    assert await tasks[1] is first
    bench.network.dials[0].succeed()
    await tasks[2]
    assert bench.network.begun == 3
    await bench.close()


async def test_a_new_connection_that_no_exchange_has_used_does_not_count_as_reused() -> None:
    bench = Bench()
    active = await bench.connect()
    task = await bench.request()
    bench.end(active)
    await task
    bench.network.dials[0].succeed()
    await turns()
    assert bench.pool.stats() == PoolStats(idle=1, active=1, opened=2, reused=1)
    await bench.acquire()
    assert bench.pool.reused == 1
    await bench.close()


# Limits, and who is served when they bind


async def test_the_limit_per_host_holds_for_each_origin() -> None:
    bench = Bench(per_host=2)
    tasks = await bench.requests(A, A, A, B, A)
    assert bench.network.hosts() == "aab"
    bench.network.dials[0].succeed()
    connection = await tasks[0]
    assert bench.network.hosts() == "ab"
    bench.end(connection)
    assert await tasks[1] is connection
    bench.network.dials[0].succeed()
    await tasks[2]
    bench.end(connection, reusable=False)
    await turns()
    assert bench.network.hosts() == "ba"
    assert done(*tasks) == "11100"
    await bench.close()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_waiters_of_one_origin_are_served_in_their_order() -> None:
    bench = Bench(total=1)
    connection = await bench.connect()
    tasks = await bench.requests(A, A, A, A)
    for served in ("1000", "1100", "1110", "1111"):
        bench.end(connection)
        await turns()
        assert done(*tasks) == served
    assert bench.network.begun == 1
    await bench.close()


async def test_a_freed_connection_goes_to_its_origins_oldest_waiter() -> None:
    bench = Bench(total=2)
    a, _ = await bench.connect(A), await bench.connect(B)
    tasks = await bench.requests(A, B)
    bench.end(a)
    assert await tasks[0] is a
    assert not a.closed
    await bench.close()
    await fails(tasks[1], ClientClosed)


async def test_an_older_waiter_elsewhere_blocked_by_the_total_limit_alone_has_its_place() -> None:
    bench = Bench(total=1)
    connection = await bench.connect(A)
    tasks = await bench.requests(B, A)
    bench.end(connection)
    assert connection.closed
    await turns()
    assert bench.network.hosts() == "b"
    other = bench.network.dials[0].succeed()
    assert await tasks[0] is other
    bench.end(other)
    assert other.closed
    await turns()
    bench.network.dials[0].succeed()
    await tasks[1]
    await bench.close()


async def test_an_older_waiter_elsewhere_that_its_own_limit_blocks_changes_nothing() -> None:
    bench = Bench(total=2, per_host=1)
    a, b = await bench.connect(A), await bench.connect(B)
    tasks = await bench.requests(B, A)
    bench.end(a)
    assert await tasks[1] is a
    bench.end(a)
    assert not a.closed
    bench.end(b)
    assert await tasks[0] is b
    await bench.close()


async def test_a_place_freed_by_closing_goes_to_the_oldest_of_all() -> None:
    bench = Bench(total=1)
    connection = await bench.connect(A)
    tasks = await bench.requests(D, B, A)
    bench.end(connection, reusable=False)
    await turns()
    assert bench.network.hosts() == "d"
    await bench.close()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_the_longest_idle_of_another_origin_is_closed_when_the_total_limit_stands_in_the_way() -> None:
    bench = Bench(total=3)
    a1, b, a2 = await bench.idle(A, B, A)
    await bench.request(D)
    assert [connection.closed for connection in (a1, b, a2)] == [True, False, False]
    assert bench.network.hosts() == "d"
    await bench.request(D)
    assert [connection.closed for connection in (a1, b, a2)] == [True, True, False]
    assert bench.pool.stats()[:3] == (1, 0, 2)
    await bench.close()
    await turns()


async def test_a_connection_on_its_way_out_counts_until_it_is_closed() -> None:
    bench = Bench(total=1)
    bench.network.stubborn = True
    first = await bench.request(A)
    second = await bench.request(B)
    first.cancel()
    await turns()
    assert bench.network.dials[0].cancelled
    assert bench.network.hosts() == "a"
    assert bench.pool.stats() == PoolStats(dialling=1, waiting=1)
    bench.network.stubborn = False
    bench.network.dials[0].fail(ConnectError("at last"))
    await turns()
    assert bench.network.hosts() == "b"
    bench.network.dials[0].succeed()
    await second
    await bench.close()


async def test_what_may_not_be_kept_makes_room_at_once() -> None:
    bench = Bench(total=1, idle_seconds=0)
    connection = await bench.connect(A)
    waiting = await bench.request(A)
    bench.end(connection)
    # It rests only where nobody waits.
    assert await waiting is connection
    bench.end(connection)
    assert connection.closed
    assert bench.pool.stats() == PoolStats(opened=1, reused=1)
    await bench.close()


# Dials that lose whom they were for


async def test_a_dial_whose_waiter_was_served_otherwise_serves_the_next_in_line() -> None:
    bench = Bench(per_host=2)
    active = await bench.connect()
    tasks = await bench.requests(A, A)
    assert bench.network.hosts() == "a"
    bench.end(active)
    assert await tasks[0] is active
    connection = bench.network.dials[0].succeed()
    assert await tasks[1] is connection
    await bench.close()


async def test_one_surplus_dial_goes_to_the_pool() -> None:
    bench = Bench()
    active = await bench.connect()
    task = await bench.request()
    bench.end(active)
    assert await task is active
    assert bench.pool.stats() == PoolStats(active=1, dialling=1, opened=1, reused=1)
    bench.network.dials[0].succeed()
    await turns()
    assert bench.pool.stats() == PoolStats(active=1, idle=1, opened=2, reused=1)
    await bench.close()


async def test_after_a_surplus_dial_there_may_be_another() -> None:
    bench = Bench()
    for ends in ("well", "badly"):
        active = [await bench.acquire()] if bench.pool.idle else [await bench.connect()]
        while bench.pool.idle:
            active.append(await bench.acquire())
        task = await bench.request()
        bench.end(active[0])
        await task
        (dial,) = bench.network.dials
        assert not dial.cancelled
        if ends == "well":
            dial.succeed()
        else:
            dial.fail(ConnectError("refused"))
        await turns()
        for connection in active:
            bench.end(connection)
    assert bench.pool.stats()[:4] == (2, 0, 0, 0)
    await bench.close()


async def test_the_next_request_has_the_surplus_dial() -> None:
    bench = Bench()
    active = await bench.connect()
    task = await bench.request()
    bench.end(active)
    await task
    following = await bench.request()
    assert bench.network.begun == 2
    last = await bench.request()
    assert bench.network.begun == 3
    connection = bench.network.dials[0].succeed()
    assert await following is connection
    bench.network.dials[0].succeed()
    await last
    await bench.close()


async def test_more_than_one_surplus_dial_is_called_off() -> None:
    bench = Bench()
    active = await bench.connect_all(A, A, A)
    tasks = await bench.requests(A, A, A)
    dials = bench.network.dials
    for connection in active:
        bench.end(connection)
    await asyncio.gather(*tasks)
    await turns()
    assert [dial.cancelled for dial in dials] == [False, True, True]
    assert bench.pool.stats()[:4] == (0, 3, 1, 0)
    await bench.close()


async def test_a_surplus_connection_makes_way_for_a_waiter_elsewhere() -> None:
    bench = Bench(total=2)
    active = await bench.connect(A)
    first = await bench.request(A)
    bench.end(active)
    await first
    other = await bench.request(B)
    assert bench.network.hosts() == "a"
    surplus = bench.network.dials[0].succeed()
    await turns()
    assert surplus.closed
    assert bench.network.hosts() == "b"
    bench.network.dials[0].succeed()
    await other
    await bench.close()


async def test_a_dial_of_which_nothing_is_to_be_hoped_is_not_handed_on() -> None:
    bench = Bench(per_host=2)
    active = await bench.connect()
    first = await bench.request()
    bench.end(active)
    await first
    # The surplus dial was called off from outside, and has not yet had its turn to go.
    (surplus,) = (dial for queue in bench.pool._queues.values() for dial in queue.dials)
    assert surplus.task is not None
    surplus.task.cancel()
    following = asyncio.ensure_future(bench.acquire())
    await turns()
    assert bench.network.begun == 3
    bench.network.dials[0].succeed()
    await following
    await bench.close()


@pytest.mark.parametrize("between", [0, 1, 2])
async def test_a_dial_that_ends_as_its_waiter_leaves_serves_the_next(between: int) -> None:
    bench = Bench(per_host=1)
    first, second = await bench.requests(A, A)
    connection = bench.network.dials[0].succeed()
    await turns(between)
    first.cancel()
    assert await second is connection
    assert first.cancelled()
    await bench.close()


async def test_a_called_off_dial_that_succeeds_all_the_same_is_not_lost() -> None:
    bench = Bench()
    bench.network.stubborn = True
    first = await bench.request()
    first.cancel()
    await turns()
    late = bench.network.dials[0].succeed()
    await turns()
    assert bench.pool.stats() == PoolStats(idle=1, opened=1)
    # The same, while somebody else waits for a dial of his own: he has it, and his dial is not needed.
    second = await bench.request(fresh=True)
    second.cancel()
    await turns()
    third = await bench.request(fresh=True)
    late = bench.network.dials[0].succeed()
    assert await third is late
    await turns()
    assert bench.network.dials[0].cancelled
    bench.network.dials[0].fail(ConnectError("at last"))
    await turns()
    assert bench.pool.stats()[:4] == (1, 1, 0, 0)
    await bench.close()


# Dials that fail


async def test_a_dial_that_fails_raises_in_whom_it_was_for_and_frees_its_place() -> None:
    bench = Bench(total=1)
    first, second, third = await bench.requests(A, A, B)
    error = ConnectError("refused")
    bench.network.dials[0].fail(error)
    assert await fails(first, ConnectError) is error
    await turns()
    assert done(second, third) == "00"
    bench.network.dials[0].fail(ConnectError("refused again"))
    assert await fails(second, ConnectError) is not error
    await turns()
    assert bench.network.hosts() == "b"
    bench.network.dials[0].succeed()
    await third
    await bench.close()


async def test_a_dial_that_fails_for_nobody_is_a_line_for_debugging(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "aiosock.pool")
    bench = Bench()
    active = await bench.connect()
    task = await bench.request()
    bench.end(active)
    await task
    bench.network.dials[0].fail(ConnectError("refused"))
    await turns()
    (record,) = (record for record in caplog.records if record.name == "aiosock.pool")
    assert (record.levelname, record.getMessage()) == (
        "DEBUG",
        "a connection that nobody waits for any more failed: refused",
    )
    await bench.close()


@pytest.mark.parametrize("between", [0, 1])
async def test_a_dial_that_fails_as_its_waiter_leaves_fails_nobody_else(
    caplog: pytest.LogCaptureFixture, between: int
) -> None:
    caplog.set_level(logging.DEBUG, "aiosock.pool")
    bench = Bench(per_host=1)
    first, second = await bench.requests(A, A)
    bench.network.dials[0].fail(ConnectError("refused"))
    await turns(between)
    first.cancel()
    await turns()
    assert first.cancelled()
    assert "nobody waits for any more failed: refused" in caplog.text
    bench.network.dials[0].succeed()
    await second
    await bench.close()


async def test_a_dial_cancelled_from_outside_is_an_error_of_its_waiter() -> None:
    bench = Bench()
    task = await bench.request()
    (dial,) = bench.pool._tasks
    dial.cancel()
    await fails(task, ConnectError, "connecting to http://a:80 was cancelled")
    await bench.close()


# Requests that are sent again


async def test_a_request_sent_again_keeps_its_place_and_takes_only_a_new_connection() -> None:
    bench = Bench(total=1)
    ticket = bench.pool.take_ticket()
    stale = await bench.connect(A)
    others = await bench.requests(A, B)
    bench.end(stale, reusable=False)
    again = asyncio.ensure_future(bench.acquire(ticket=ticket, fresh=True))
    await turns()
    # The first of the others has been given a dial already; who is sent again is older, and has what comes of it.
    connection = bench.network.dials[0].succeed()
    assert await again is connection
    assert done(*others) == "00"
    bench.end(connection)
    assert await others[0] is connection
    await bench.close()
    await fails(others[1], ClientClosed)


async def test_who_is_sent_again_is_not_starved_by_those_who_take_used_connections() -> None:
    for limits in ({"total": 1}, {"per_host": 1}):
        bench = Bench(**limits)
        ticket = bench.pool.take_ticket()
        active = await bench.connect(A)
        others = await bench.requests(A, A)
        again = await bench.request(A, ticket=ticket, fresh=True)
        bench.end(active)
        assert active.closed
        await turns()
        fresh = bench.network.dials[0].succeed()
        assert await again is fresh
        bench.end(fresh)
        assert await others[0] is fresh
        await bench.close()
        await fails(others[1], ClientClosed)


async def test_who_wants_a_fresh_one_is_no_hindrance_to_those_who_were_there_before() -> None:
    bench = Bench(total=1)
    active = await bench.connect(A)
    other, fresh = await bench.request(A), await bench.request(A, fresh=True)
    bench.end(active)
    assert await other is active
    bench.end(active)
    assert active.closed
    await turns()
    connection = bench.network.dials[0].succeed()
    assert await fresh is connection
    await bench.close()


@pytest.mark.parametrize("limits", [{"total": 2}, {"per_host": 2}])
async def test_idle_connections_make_room_for_who_wants_a_fresh_one(limits: dict[str, int]) -> None:
    bench = Bench(**limits)
    older, newer = await bench.idle(A, A)
    fresh = await bench.request(A, fresh=True)
    assert (older.closed, newer.closed) == (True, False)
    connection = bench.network.dials[0].succeed()
    assert await fresh is connection
    await bench.close()


async def test_who_takes_used_ones_is_served_while_an_older_one_has_a_dial() -> None:
    bench = Bench(per_host=2)
    active = await bench.connect(A)
    fresh = await bench.request(A, fresh=True)
    other = await bench.request(A)
    bench.end(active)
    assert await other is active
    assert bench.network.hosts() == "a"
    bench.network.dials[0].succeed()
    await fresh
    await bench.close()


async def test_who_is_sent_again_has_the_dial_that_is_ready_and_the_other_waits_in_its_place() -> None:
    bench = Bench(per_host=1)
    ticket = bench.pool.take_ticket()
    first, second = await bench.requests(A, A)
    again = await bench.request(A, ticket=ticket, fresh=True)
    connection = bench.network.dials[0].succeed()
    assert await again is connection
    assert bench.network.dials == []
    bench.end(connection, reusable=False)
    await turns()
    connection = bench.network.dials[0].succeed()
    assert await first is connection
    bench.end(connection)
    assert await second is connection
    await bench.close()


async def test_a_connection_that_ended_as_it_was_released_is_not_handed_on() -> None:
    bench = Bench(per_host=1)
    active = await bench.connect()
    waiting = await bench.request()
    active.alive = False
    bench.end(active)
    assert active.closed
    await turns()
    connection = bench.network.dials[0].succeed()
    assert await waiting is connection
    await bench.close()


# Deadlines


@timed
async def test_a_queue_that_stands_still_is_a_pool_timeout_that_shows_who_holds_what() -> None:
    bench = Bench(total=3, per_host=2)
    loop = asyncio.get_running_loop()
    await bench.connect(A)
    await bench.connect(A)
    await bench.idle(B)
    began = loop.time()
    waiting = [await bench.request(A, pool=30), await bench.request(A, pool=40)]
    await fails(
        waiting[0],
        PoolTimeout,
        r"the queue for a connection stood still for 30 s; http://a:80: active=2 idle=0 dialling=0 waiting=2, "
        r"limits: 3 in all, 2 per host$",
    )
    assert loop.time() == began + 30
    await fails(waiting[1], PoolTimeout, "stood still for 40 s")
    assert loop.time() == began + 40
    await bench.close()


@timed
async def test_who_has_a_dial_does_not_stand_in_line_until_an_older_one_has_its_connection() -> None:
    bench = Bench(per_host=1)
    older = bench.pool.take_ticket()
    younger_task = await bench.request(pool=5)
    older_task = await bench.request(ticket=older)
    await asyncio.sleep(20)
    assert done(younger_task) == "0"
    bench.network.dials[0].succeed()
    await older_task
    lost = asyncio.get_running_loop().time()
    await fails(younger_task, PoolTimeout, "stood still for 5 s")
    assert asyncio.get_running_loop().time() == lost + 5
    await bench.close()


@timed
async def test_ten_thousand_in_line_do_not_time_out_while_the_pool_works() -> None:
    bench = Bench(total=100, per_host=50)
    bench.pool.debug = False
    loop = asyncio.get_running_loop()
    origins = [A, B, D]
    began = loop.time()
    served = 0

    async def work(number: int) -> None:
        nonlocal served
        connection = await bench.acquire(origins[number % 3], pool=5)
        await asyncio.sleep(1)
        served += 1
        bench.end(connection)

    async def answer() -> None:
        while served < 10_000:
            for dial in bench.network.dials:
                dial.succeed()
            await asyncio.sleep(0.1)

    await asyncio.gather(answer(), *(work(number) for number in range(10_000)))
    assert served == 10_000
    assert loop.time() - began > 90
    await bench.close()


@timed
async def test_another_origins_progress_counts_where_only_the_total_limit_blocks() -> None:
    bench = Bench(total=2, per_host=1)
    a = await bench.connect(A)
    await bench.connect(B)
    at_its_limit = await bench.request(B, pool=10)
    older_for_a = [await bench.request(A, pool=100) for _ in range(4)]
    for_d = await bench.request(D, pool=10)
    loop = asyncio.get_running_loop()
    began = loop.time()
    for task in older_for_a:
        await asyncio.sleep(6)
        bench.end(a)
        assert await task is a
    assert loop.time() == began + 24
    await fails(at_its_limit, PoolTimeout, "http://b:80")
    assert not for_d.done()
    await fails(for_d, PoolTimeout, "http://d:80")
    assert loop.time() == began + 34
    await bench.close()


@timed
async def test_who_is_being_dialled_for_is_not_in_a_queue_that_stands_still() -> None:
    bench = Bench(total=1)
    loop = asyncio.get_running_loop()
    began = loop.time()
    first, second = await bench.request(pool=5, connect=12), await bench.request(pool=11)
    await fails(second, PoolTimeout, "dialling=1")
    assert loop.time() == began + 11
    await fails(first, ConnectTimeout, "took longer than 12 s; it was connecting to a")
    assert loop.time() == began + 12
    await bench.close()


@timed
async def test_a_failed_dial_is_progress_too() -> None:
    bench = Bench(total=1)
    loop = asyncio.get_running_loop()
    began = loop.time()
    tasks = [await bench.request(pool=5, connect=4) for _ in range(4)]
    for count, task in enumerate(tasks, 1):
        await fails(task, ConnectTimeout)
        assert loop.time() == began + 4 * count
    await bench.close()


@timed
async def test_the_deadline_of_the_whole_request_holds_in_line_and_while_dialling() -> None:
    bench = Bench(total=1)
    loop = asyncio.get_running_loop()
    began = loop.time()
    dialling = await bench.request(A, deadline=began + 7, pool=3, connect=None)
    waiting = await bench.request(B, deadline=began + 5, pool=30)
    await fails(
        waiting,
        TotalTimeout,
        "no connection in the time for the whole request; http://b:80: active=0 idle=0 dialling=1 waiting=2",
    )
    assert loop.time() == began + 5
    await fails(dialling, TotalTimeout, "it was connecting to a; http://a:80: active=0")
    assert loop.time() == began + 7
    await turns()
    assert bench.network.dials == []
    # A deadline that has passed already is noticed in the next turn.
    late = await bench.request(A, deadline=began, pool=None)
    await fails(late, TotalTimeout)
    await bench.close()


@timed
async def test_a_deadline_that_passes_as_its_waiter_is_cancelled_changes_nothing() -> None:
    bench = Bench(total=1)
    await bench.connect()
    loop = asyncio.get_running_loop()
    task = await bench.request(pool=5)
    # The two timers come in one turn, the cancellation first.
    loop.call_at(loop.time() + 4.9999999999, task.cancel)
    await asyncio.wait([task])
    assert task.cancelled()
    await bench.close()


@timed
async def test_who_takes_over_a_dial_has_its_whole_time() -> None:
    bench = Bench(per_host=1)
    loop = asyncio.get_running_loop()
    began = loop.time()
    first, second = await bench.request(connect=10), await bench.request(connect=10)
    await asyncio.sleep(8)
    first.cancel()
    await fails(second, ConnectTimeout, "longer than 10 s")
    assert loop.time() == began + 18
    assert bench.network.begun == 1
    await bench.close()


@timed
async def test_a_dial_whose_time_is_over_is_not_handed_on() -> None:
    # The dial takes a while to end after its time; whoever takes its place in between gets a dial of its own.
    bench = Bench(per_host=2)
    bench.network.stubborn = True
    first = await bench.request(connect=10)
    second = await bench.request(connect=None)
    await asyncio.sleep(10)
    overdue, other = bench.network.dials
    assert overdue.cancelled
    first.cancel()
    third = await bench.request(connect=10)
    assert bench.network.begun == 2
    connection = other.succeed()
    assert await second is connection
    bench.network.stubborn = False
    overdue.fail(ConnectError("at last"))
    await turns()
    bench.network.dials[0].succeed()
    await third
    await bench.close()


@timed
async def test_who_loses_a_connection_to_an_older_one_is_not_left_with_a_dial_whose_time_is_over() -> None:
    bench = Bench()
    bench.network.stubborn = True
    first, second = await bench.request(connect=10), await bench.request(connect=None)
    await asyncio.sleep(10)
    overdue, other = bench.network.dials
    assert overdue.cancelled
    assert not first.done()
    connection = other.succeed()
    assert await first is connection
    await turns()
    assert bench.network.begun == 3
    bench.network.dials[-1].succeed()
    await second
    bench.network.stubborn = False
    overdue.fail(ConnectError("at last"))
    await turns()
    await bench.close()


@timed
async def test_no_timer_outlives_its_waiter() -> None:
    bench = Bench(total=1, idle_seconds=None)
    active = await bench.connect()
    served, cancelled = await bench.request(pool=5), await bench.request(pool=5)
    bench.end(active)
    await served
    cancelled.cancel()
    await turns()
    handles: list[asyncio.TimerHandle] = asyncio.get_running_loop()._scheduled  # type: ignore[attr-defined]  # asyncio's
    assert [handle for handle in handles if not handle.cancelled()] == []
    await bench.close()


@timed
async def test_a_timer_that_comes_early_by_the_clocks_resolution_is_in_time() -> None:
    bench = Bench(total=1)
    await bench.connect()
    loop = asyncio.get_running_loop()
    assert isinstance(loop, ClockLoop)
    task = await bench.request(pool=5)
    (waiter,) = next(iter(bench.pool._queues.values())).queued
    assert waiter.timer is not None
    bench.pool._on_deadline(waiter, waiter.timer.when())
    await fails(task, PoolTimeout)
    await bench.close()


# Cancellation


async def test_who_is_cancelled_in_line_leaves_it() -> None:
    bench = Bench(total=1)
    active = await bench.connect()
    first, second, third = await bench.requests(A, A, A)
    second.cancel()
    await turns()
    assert bench.pool.waiting == 2
    first.cancel()
    # Not even a turn for it to go.
    bench.end(active)
    assert await third is active
    assert first.cancelled()
    assert second.cancelled()
    await bench.close()


async def test_who_is_cancelled_while_dialling_calls_the_dial_off() -> None:
    bench = Bench()
    task = await bench.request()
    dial = bench.network.dials[0]
    task.cancel()
    await turns()
    assert dial.cancelled
    assert not bench.pool._queues
    await bench.close()


async def test_who_goes_before_the_dial_has_begun_leaves_nothing() -> None:
    bench = Bench()
    coroutine = bench.acquire()
    coroutine.send(None)
    coroutine.close()
    assert bench.pool.stats() == PoolStats(dialling=1)
    await turns()
    assert bench.network.begun == 0
    assert bench.pool.stats() == PoolStats()
    await bench.close()


async def test_who_is_cancelled_at_the_moment_of_being_served_passes_the_connection_on() -> None:
    bench = Bench(total=1)
    active = await bench.connect()
    first, second = await bench.requests(A, A)
    bench.end(active)
    first.cancel()
    assert await second is active
    assert first.cancelled()
    third = await bench.request()
    bench.end(active)
    third.cancel()
    await turns()
    assert bench.pool.stats()[:4] == (1, 0, 0, 0)
    assert await bench.acquire() is active
    await bench.close()


async def test_who_is_cancelled_at_the_moment_a_dial_succeeds_passes_the_connection_on() -> None:
    bench = Bench()
    task = await bench.request()
    connection = bench.network.dials[0].succeed()
    while not bench.pool.active:
        await asyncio.sleep(0)
    task.cancel()
    await turns()
    assert task.cancelled()
    assert bench.pool.stats() == PoolStats(idle=1, opened=1)
    assert await bench.acquire() is connection
    assert bench.pool.reused == 0
    await bench.close()


@pytest.mark.parametrize("who", [0, 1])
@pytest.mark.parametrize("when", range(14))
async def test_whenever_a_waiter_is_cancelled_nothing_is_lost(when: int, who: int) -> None:
    bench = Bench(total=1)
    active = await bench.connect()

    async def work(to: Origin) -> None:
        bench.end(await bench.acquire(to))

    tasks = [asyncio.ensure_future(work(to)) for to in (A, B)]
    for turn in range(14):
        if turn == 3:
            bench.end(active)
        if turn > 8:
            for dial in bench.network.ready:
                dial.succeed()
        if turn == when:
            tasks[who].cancel()
        await asyncio.sleep(0)
    await turns(10)
    assert all(task.done() for task in tasks)
    assert bench.pool.stats()[1:4] == (0, 0, 0)
    # One place, and it can be had.
    await bench.connect(D)
    await bench.close()


@pytest.mark.parametrize("when", range(10))
async def test_anyios_cancel_scopes_lose_nothing_either(when: int) -> None:
    bench = Bench(total=1)
    active = await bench.connect()
    got: list[FakeConnection] = []

    async def waits(scope: anyio.CancelScope) -> None:
        with scope:
            got.append(await bench.acquire())
        # What was not cancelled in time is the request's, and given back by it.

    scope = anyio.CancelScope()
    async with anyio.create_task_group() as group:
        group.start_soon(waits, scope)
        for turn in range(10):
            if turn == 4:
                bench.end(active)
            if turn == when:
                scope.cancel()
            await asyncio.sleep(0)
    for connection in got:
        bench.end(connection)
    await turns()
    assert bench.pool.stats()[:4] == (1, 0, 0, 0)
    assert await bench.acquire() is active
    await bench.close()


@timed
async def test_an_anyio_deadline_while_dialling_calls_the_dial_off() -> None:
    bench = Bench()
    with anyio.move_on_after(3) as scope:
        await bench.acquire()
    assert scope.cancelled_caught
    await turns()
    assert bench.network.dials == []
    await bench.close()


async def test_a_coroutine_thrown_away_while_it_waits_leaves_the_line() -> None:
    bench = Bench(total=1)
    active = await bench.connect()
    coroutine = bench.acquire()
    coroutine.send(None)
    assert bench.pool.waiting == 1
    coroutine.close()
    assert bench.pool.waiting == 0
    bench.end(active)
    assert bench.pool.idle == 1
    await bench.close()


async def test_a_queue_that_was_forgotten_does_not_take_its_successor_along() -> None:
    bench = Bench(total=2, per_host=1)
    a, b = await bench.connect(A), await bench.connect(B)
    cancelled = await bench.request(A)
    cancelled.cancel()
    # Before the cancelled one has its turn to go, the last of its queue ends, and somebody else begins a new one.
    bench.end(b, reusable=False)
    bench.end(a, reusable=False)
    assert A not in bench.pool._queues
    coroutine = bench.acquire(A)
    coroutine.send(None)
    successor = bench.pool._queues[A]
    await turns()
    assert cancelled.cancelled()
    assert bench.pool._queues[A] is successor
    coroutine.close()
    await turns()
    await bench.close()


# Closing


async def test_closing_fails_who_waits_calls_off_dials_and_closes_everything() -> None:
    bench = Bench(total=4, per_host=2)
    active = await bench.connect(A)
    (idle,) = await bench.idle(B)
    dialling = await bench.request(A)
    waiting = await bench.request(A)
    served = await bench.request(B)
    await bench.close()
    assert idle.closed
    assert active.aborted
    assert await served is idle
    for task in (dialling, waiting):
        await fails(task, ClientClosed, "closed while this request waited")
    with pytest.raises(ClientClosed, match="the client is closed"):
        bench.pool.take_idle(A)
    with pytest.raises(ClientClosed):
        await bench.pool.take(A, 0, connect_seconds=None, pool_seconds=None, deadline=math.inf)
    await bench.close()


async def test_each_waiter_gets_an_error_of_its_own() -> None:
    bench = Bench(total=1)
    tasks = await bench.requests(A, A, B)
    await bench.close()
    errors = await asyncio.gather(*tasks, return_exceptions=True)
    assert len({id(error) for error in errors}) == 3


async def test_who_was_served_just_before_closing_learns_that_it_is_closed() -> None:
    bench = Bench()
    active = await bench.connect()
    waiting = await bench.request()
    bench.end(active)
    bench.pool.close_now()
    await fails(waiting, ClientClosed, "the client is closed")
    assert bench.pool.active == 0
    await bench.close()


async def test_who_was_cancelled_just_before_closing_is_cancelled() -> None:
    bench = Bench(total=1)
    tasks = await bench.requests(A, B)
    for task in tasks:
        task.cancel()
    await bench.close()
    assert all(task.cancelled() for task in tasks)


@timed
async def test_closing_takes_a_bounded_time_even_where_a_dial_does_not_end() -> None:
    bench = Bench()
    bench.network.stubborn = True
    task = await bench.request()
    loop = asyncio.get_running_loop()
    began = loop.time()
    await bench.pool.close()
    assert loop.time() == began + CLOSE_SECONDS
    await fails(task, ClientClosed)
    # A connection that comes after all that is closed at once.
    late = bench.network.dials[0].succeed()
    await turns()
    assert late.aborted
    await bench.close()


async def test_tasks_that_outlive_an_exchange_end_with_the_pool() -> None:
    bench = Bench()
    active = await bench.connect()

    async def drain() -> None:
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            bench.end(active, reusable=False)

    draining = asyncio.ensure_future(drain())
    bench.pool.adopt(draining)
    await turns()
    assert bench.pool.active == 1
    await bench.close()
    assert draining.cancelled()
    quick = asyncio.ensure_future(asyncio.sleep(0))
    bench.pool.adopt(quick)
    await quick
    await turns()
    assert not bench.pool._tasks


def test_on_a_loop_that_is_closed_the_sockets_are_closed_at_least() -> None:
    loop = ClockLoop()

    async def use() -> tuple[Pool[FakeConnection], FakeConnection, FakeConnection]:
        bench = Bench()
        (idle,) = await bench.idle(A)
        return bench.pool, idle, await bench.connect(B)

    pool, idle, active = loop.run_until_complete(use())
    loop.close()
    pool.close_now()
    assert idle.aborted
    assert active.aborted


# All of it, in any order


class Request:
    """What the machine below knows of a request."""

    def __init__(self, to: Origin, **options: Any) -> None:
        self.to = to
        self.fresh: bool = options.pop("fresh")
        self.pool: float | None = options["pool_seconds"]
        self.deadline: float = options["deadline"]
        self.options = options
        self.ticket = -1
        self.waiting = False
        self.connection: FakeConnection | None = None
        self.error: BaseException | None = None
        self.task: asyncio.Task[None] | None = None

    @property
    def live(self) -> bool:
        """It stands in line, and nothing has been decided on it."""
        return self.waiting and self.task is not None and not self.task.cancelling()


class WatchedPool(Pool[FakeConnection]):
    """A pool that a machine looks at as it decides."""

    machine: PoolMachine

    def _hand(self, connection: FakeConnection, waiter: Waiter[FakeConnection], *, may_be_surplus: bool) -> None:
        self.machine.on_hand(waiter.sequence, used=may_be_surplus)
        super()._hand(connection, waiter, may_be_surplus=may_be_surplus)

    def _fail(self, waiter: Waiter[FakeConnection], error: BaseException) -> None:
        self.machine.on_fail(waiter.sequence, error, dialled_for=waiter.dial is not None)
        super()._fail(waiter, error)


class PoolMachine(RuleBasedStateMachine):
    """
    Requests come, go, fail and are cancelled in any order, with the loop's turns in between or not.

    What the model expects: nobody is served before somebody older who could have been; the limits hold on the
    network, whatever the books say; an error fails one waiter; and in the end all are served and nothing is left.
    """

    @initialize(
        total=st.sampled_from([None, 1, 2, 3]),
        per_host=st.sampled_from([None, 1, 2]),
        most_idle=st.sampled_from([None, 0, 1]),
        idle_seconds=st.sampled_from([15, None, 0]),
        stubborn=st.booleans(),
        ends_abruptly=st.booleans(),
    )
    def begin(
        self,
        total: int | None,
        per_host: int | None,
        most_idle: int | None,
        idle_seconds: float | None,
        stubborn: bool,
        ends_abruptly: bool,
    ) -> None:
        self.loop = ClockLoop()
        self.complaints: list[dict[str, Any]] = []
        self.loop.set_exception_handler(lambda loop, context: self.complaints.append(context))
        self.total, self.per_host, self.ends_abruptly = total or math.inf, per_host or math.inf, ends_abruptly
        self.requests: dict[int, Request] = {}
        self.moved: dict[Origin, float] = {}
        self.errors: list[BaseException] = []

        async def make() -> Bench:
            return Bench(total, per_host, most_idle=most_idle, idle_seconds=idle_seconds, pool_type=WatchedPool)

        self.bench = self.loop.run_until_complete(make())
        self.bench.network.stubborn = stubborn
        assert isinstance(self.bench.pool, WatchedPool)
        self.bench.pool.machine = self

    # What happens

    @rule(
        to=st.sampled_from([A, B, D]),
        fresh=st.sampled_from([False, False, False, True]),
        connect=st.sampled_from([None, 4]),
        pool=st.sampled_from([None, None, 5]),
        patience=st.sampled_from([None, None, 7]),
    )
    def request(
        self, to: Origin, fresh: bool, connect: float | None, pool: float | None, patience: float | None
    ) -> None:
        deadline = math.inf if patience is None else self.loop.time() + patience
        request = Request(to, fresh=fresh, connect_seconds=connect, pool_seconds=pool, deadline=deadline)
        request.ticket = self.bench.pool.take_ticket()
        self.requests[request.ticket] = request
        request.task = self.loop.create_task(self.acquire(request))

    async def acquire(self, request: Request, stale: FakeConnection | None = None) -> None:
        pool = self.bench.pool
        try:
            if stale is not None:
                self.bench.end(stale, reusable=False)
            connection = None if request.fresh else pool.take_idle(request.to)
            if connection is not None:
                assert not [other for other in self.live(request.to) if not other.fresh]
            else:
                request.waiting = True
                connection = await pool.take(request.to, request.ticket, fresh=request.fresh, **request.options)
                assert not request.fresh or not connection.requests_served
            connection.requests_served += 1
            request.connection = connection
        except Exception as error:
            request.error = error
            if isinstance(error, AssertionError):
                raise
        finally:
            request.waiting = False

    @rule(data=st.data(), reusable=st.sampled_from([True, True, False]), alive=st.sampled_from([True, True, False]))
    def release(self, data: st.DataObject, reusable: bool, alive: bool) -> None:
        request = self.choose(data, [request for request in self.requests.values() if request.connection])
        if request is not None and request.connection is not None:
            connection, request.connection = request.connection, None
            connection.alive = alive
            self.loop.call_soon(partial(self.bench.end, connection, reusable=reusable))

    @rule(data=st.data())
    def send_again(self, data: st.DataObject) -> None:
        request = self.choose(data, [request for request in self.requests.values() if request.connection])
        if request is not None and request.connection is not None:
            connection, request.connection = request.connection, None
            request.fresh = True
            request.task = self.loop.create_task(self.acquire(request, stale=connection))

    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        request = self.choose(data, [request for request in self.requests.values() if request.live])
        if request is not None and request.task is not None:
            request.task.cancel()

    @rule(data=st.data())
    def dial_succeeds(self, data: st.DataObject) -> None:
        dial = self.choose(data, self.bench.network.ready)
        if dial is not None:
            dial.succeed()

    @rule(data=st.data())
    def dial_fails(self, data: st.DataObject) -> None:
        dial = self.choose(data, self.bench.network.ready)
        if dial is not None:
            self.errors.append(ConnectError(f"number {len(self.errors)}"))
            dial.fail(self.errors[-1])

    @rule(data=st.data(), told=st.booleans())
    def idle_dies(self, data: st.DataObject, told: bool) -> None:
        connection = self.choose(data, list(self.bench.pool._idle))
        if connection is not None:
            connection.alive = False
            if told:
                connection.die()

    @rule()
    def one_turn(self) -> None:
        self.loop.call_soon(self.loop.stop)
        self.loop.run_forever()

    @rule()
    def some_turns(self) -> None:
        self.loop.run_until_complete(turns(8))

    @rule(seconds=st.sampled_from([1, 3, 6, 20]))
    def time_passes(self, seconds: float) -> None:
        self.loop.run_until_complete(asyncio.sleep(seconds))
        for request in self.live():
            assert request.deadline >= self.loop.time()

    # What must hold

    @invariant()
    def the_books_are_true(self) -> None:
        if hasattr(self, "bench"):
            self.complain()
            self.bench.pool.check_invariant()

    @invariant()
    def the_limits_hold(self) -> None:
        if hasattr(self, "bench"):
            counts = self.bench.network.open
            assert counts.total() <= self.total
            assert max(counts.values(), default=0) <= self.per_host

    @invariant()
    def nobody_is_forgotten(self) -> None:
        if hasattr(self, "bench"):
            in_line = {waiter.sequence for queue in self.bench.pool._queues.values() for waiter in queue.waiters()}
            assert {request.ticket for request in self.live()} <= in_line

    def on_hand(self, ticket: int, *, used: bool) -> None:
        """Somebody is served: see that nobody older had a better right to it."""
        served = self.requests[ticket]
        served.waiting = False
        self.moved[served.to] = self.loop.time()
        dialled_for = {waiter.sequence for queue in self.bench.pool._queues.values() for waiter in queue.served}
        for other in self.live():
            if other.ticket > ticket:
                continue
            if other.to == served.to:
                assert used
                assert other.fresh
                assert other.ticket in dialled_for
            elif used and other.ticket not in dialled_for:
                # Not blocked by the total limit alone.
                assert self.bench.network.open[other.to] >= self.per_host or self.dialling(other.to) >= self.per_host

    def on_fail(self, ticket: int, error: BaseException, *, dialled_for: bool) -> None:
        """Somebody fails: see that there is a reason."""
        failed = self.requests[ticket]
        assert failed.waiting
        failed.waiting = False
        now = self.loop.time()
        if isinstance(error, TotalTimeout):
            assert failed.deadline <= now
        elif isinstance(error, PoolTimeout):
            assert not dialled_for
            assert failed.pool is not None
            assert self.moved.get(failed.to, 0) <= now - failed.pool
        else:
            self.moved[failed.to] = now

    def live(self, to: Origin | None = None) -> list[Request]:
        return [request for request in self.requests.values() if request.live and to in (None, request.to)]

    def dialling(self, to: Origin) -> float:
        """How many connections there are at an origin, with the dials that have not had a turn to begin."""
        queue = self.bench.pool._queues.get(to)
        return 0 if queue is None else queue.count

    def complain(self) -> None:
        """What was raised where only the loop could catch it counts too."""
        for context in self.complaints:
            raise context.get("exception") or AssertionError(context)

    def choose(self, data: st.DataObject, things: list[Any]) -> Any:
        return data.draw(st.sampled_from(things)) if things else None

    # The end

    def teardown(self) -> None:
        if not hasattr(self, "bench"):
            return
        try:
            if not self.ends_abruptly:
                self.serve_all()
            self.loop.run_until_complete(self.end())
        finally:
            self.loop.close()
        self.complain()
        for error in self.errors:
            assert [request.error for request in self.requests.values()].count(error) <= 1

    def serve_all(self) -> None:
        """Everybody is served in the end, if only dials succeed and requests end."""
        self.bench.network.stubborn = False
        for _ in range(3 * len(self.requests) + 3):
            for dial in self.bench.network.ready:
                dial.succeed()
            self.some_turns()
            for request in self.requests.values():
                if request.connection is not None:
                    connection, request.connection = request.connection, None
                    self.loop.call_soon(self.bench.end, connection)
            self.some_turns()
        assert self.live() == []
        assert self.bench.pool.stats()[1:4] == (0, 0, 0)

    async def end(self) -> None:
        """Close with whatever is under way."""
        await turns(2)
        waiting = self.live()
        self.bench.pool.close_now()
        await turns()
        # What is left are the stubborn ones.
        for dial in self.bench.network.ready:
            dial.fail(ConnectError("at last"))
        await self.bench.close()
        assert all(isinstance(request.error, ClientClosed) or request.task.cancelled() for request in waiting)
        for request in self.requests.values():
            assert request.task is not None
            assert request.task.done()
            if not request.task.cancelled():
                request.task.result()


def test_in_whatever_order_things_happen_nothing_is_lost() -> None:
    run_state_machine_as_test(PoolMachine, settings=settings(stateful_step_count=60))  # type: ignore[no-untyped-call]


def test_a_pool_is_closed_in_one_step_where_its_loop_does_not_run() -> None:
    loop = ClockLoop()

    async def use() -> tuple[Bench, FakeConnection, list[Task]]:
        bench = Bench(per_host=1)
        # The second has a dial that the third could take over.
        return bench, await bench.connect(A), [*await bench.requests(B), await bench.request(B, connect=5)]

    async def see() -> list[object]:
        return await asyncio.gather(*tasks, return_exceptions=True)

    bench, active, tasks = loop.run_until_complete(use())
    bench.pool.close_now()
    assert active.aborted
    assert [type(error) for error in loop.run_until_complete(see())] == [ClientClosed, ClientClosed]
    loop.run_until_complete(bench.close())
    loop.close()


# What it costs


@contextmanager
def counted() -> Iterator[list[int]]:
    """Count what is done: lines run and functions called, those written in C too."""
    steps = [0]

    def line(frame: object, event: str, argument: object) -> Any:
        steps[0] += 1
        return line

    def call(frame: object, event: str, argument: object) -> None:
        steps[0] += 1

    before = sys.gettrace(), sys.getprofile()
    sys.setprofile(call)
    sys.settrace(line)
    try:
        yield steps
    finally:
        sys.settrace(before[0])
        sys.setprofile(before[1])


def cost(action: Callable[[], object]) -> int:
    with counted() as steps:
        action()
    return steps[0]


def quiet(**limits: int | None) -> Bench:
    """A bench whose pool does not check itself, for that looks at everything."""
    bench = Bench(**limits)
    bench.pool.debug = False
    return bench


async def start_all(bench: Bench, origins: list[Origin], **options: Any) -> list[Task]:
    tasks = [asyncio.ensure_future(bench.acquire(to, **options)) for to in origins]
    await turns()
    return tasks


async def cycle_beside_idle(number: int) -> int:
    """A request on an idle connection, beside so many other idle ones of its origin."""
    bench = quiet()
    active = await bench.connect_all(*[A] * number)
    for connection in active:
        bench.pool.release(connection)
    await turns()
    steps = cost(lambda: bench.pool.release(bench.pool.take_idle(A)))  # type: ignore[arg-type]  # there is one
    await bench.close()
    return steps


async def cycle_beside_origins(number: int) -> int:
    """A request on an idle connection, beside so many other origins with an idle one each."""
    bench = quiet()
    await bench.idle(*(origin(str(index)) for index in range(number)), A)
    steps = cost(lambda: bench.pool.release(bench.pool.take_idle(A)))  # type: ignore[arg-type]  # there is one
    await bench.close()
    return steps


async def cycle_beside_waiters(number: int) -> int:
    """A request on an idle connection, while so many wait elsewhere."""
    bench = quiet(per_host=1)
    await bench.idle(A)
    await bench.connect(B)
    tasks = await start_all(bench, [B] * number)
    steps = cost(lambda: bench.pool.release(bench.pool.take_idle(A)))  # type: ignore[arg-type]  # there is one
    await bench.close()
    await asyncio.gather(*tasks, return_exceptions=True)
    return steps


async def hand_to_one_of(number: int) -> int:
    """A connection is released, and so many wait for one."""
    bench = quiet(total=1)
    active = await bench.connect(A)
    tasks = await start_all(bench, [A] * number)
    steps = cost(lambda: bench.pool.release(active))
    await turns()
    await bench.close()
    await asyncio.gather(*tasks, return_exceptions=True)
    return steps


async def hand_past_fresh(number: int) -> int:
    """A connection is released, and all who wait but the last want a fresh one."""
    bench = quiet()
    active = await bench.connect(A)
    tasks = await start_all(bench, [A] * number, fresh=True)
    tasks += await start_all(bench, [A])
    steps = cost(lambda: bench.pool.release(active))
    await turns()
    assert tasks[-1].result() is active
    await bench.close()
    await asyncio.gather(*tasks, return_exceptions=True)
    return steps


async def wait_behind(number: int) -> int:
    """One more stands in line, behind so many of so many origins."""
    bench = quiet(total=1)
    await bench.connect(A)
    tasks = await start_all(bench, [origin(str(index)) for index in range(number)])
    coroutine = bench.acquire(origin("last"))
    steps = cost(lambda: coroutine.send(None))
    coroutine.close()
    await bench.close()
    await asyncio.gather(*tasks, return_exceptions=True)
    return steps


async def make_room_among(number: int) -> int:
    """The longest idle of so many connections gives way to a dial."""
    bench = quiet(total=number)
    active = await bench.connect_all(*[A] * number)
    for connection in active:
        bench.pool.release(connection)
    coroutine = bench.acquire(B)
    steps = cost(lambda: coroutine.send(None))
    assert active[0].closed
    coroutine.close()
    await bench.close()
    return steps


async def send_again_before(number: int) -> int:
    """A request is sent again, and goes before so many others."""
    bench = quiet(total=1)
    ticket = bench.pool.take_ticket()
    await bench.connect(A)
    tasks = await start_all(bench, [A] * number)
    coroutine = bench.acquire(A, ticket=ticket, fresh=True)
    steps = cost(lambda: coroutine.send(None))
    coroutine.close()
    await bench.close()
    await asyncio.gather(*tasks, return_exceptions=True)
    return steps


@pytest.mark.parametrize(
    "scene",
    [
        cycle_beside_idle,
        cycle_beside_origins,
        cycle_beside_waiters,
        hand_to_one_of,
        hand_past_fresh,
        wait_behind,
        make_room_among,
        send_again_before,
    ],
)
@timed
async def test_no_work_grows_with_the_number_of_connections_or_waiters(scene: Any) -> None:
    few, many = await scene(10), await scene(10_000)
    # A heap may have to sift a little.
    assert many <= few + 20, (few, many)


async def cancel_in_line(number: int) -> int:
    """So many are cancelled at once."""
    bench = quiet(total=2)
    active = await bench.connect_all(A, A)
    tasks = await start_all(bench, [A, B] * (number // 2))
    for task in tasks:
        task.cancel()
    with counted() as steps:
        # In the midst of it, before any of them has had its turn to go.
        for connection in active:
            bench.pool.release(connection)
        await turns(2)
    assert bench.pool.waiting == 0
    assert all(task.cancelled() for task in tasks)
    await bench.close()
    return steps[0]


async def cancel_while_dialling(number: int) -> int:
    """So many are cancelled at once, each with a dial of its own, as connections come back."""
    bench = quiet()
    active = await bench.connect_all(*[A] * (number // 2))
    tasks = await start_all(bench, [A] * (number // 2))
    for task in tasks:
        task.cancel()
    with counted() as steps:
        for connection in active:
            bench.pool.release(connection)
        await turns(5)
    assert bench.pool.waiting == 0
    assert bench.network.dials == []
    await bench.close()
    return steps[0]


async def time_out_together(number: int) -> int:
    """So many time out at once, all of different origins."""
    bench = quiet(total=1)
    await bench.connect(A)
    tasks = await start_all(bench, [origin(str(index)) for index in range(number)], pool=5)
    with counted() as steps:
        await asyncio.wait(tasks)
    assert all(isinstance(task.exception(), PoolTimeout) for task in tasks)
    await bench.close()
    return steps[0]


async def close_with_waiters(number: int) -> int:
    """So many wait when the pool is closed."""
    bench = quiet(total=number // 2)
    tasks = await start_all(bench, [A] * number)
    with counted() as steps:
        await bench.pool.close()
    await asyncio.gather(*tasks, return_exceptions=True)
    await bench.close()
    return steps[0]


async def die_together(number: int) -> int:
    """The peer closes so many idle connections, in whatever order."""
    bench = quiet()
    active = await bench.connect_all(*[A] * number)
    for connection in active:
        bench.pool.release(connection)
    with counted() as steps:
        for connection in active[::2] + active[1::2]:
            connection.die()
    await bench.close()
    return steps[0]


@pytest.mark.parametrize(
    "scene", [cancel_in_line, cancel_while_dialling, time_out_together, close_with_waiters, die_together]
)
@timed
async def test_what_befalls_thousands_at_once_is_linear_work(scene: Any) -> None:
    few, many = await scene(500), await scene(5_000)
    assert many < 12 * few, (few, many)


async def test_nothing_that_ended_waits_for_the_garbage_collector() -> None:
    bench = Bench(total=1, idle_seconds=0)
    network = bench.network

    async def everything() -> None:
        connection = await bench.connect()
        waiting = await bench.request(pool=1000)
        bench.end(connection)
        bench.end(await waiting, reusable=False)
        for way in range(4):
            tasks = [await bench.request(connect=1000, pool=1000) for _ in range(2)]
            if way == 0:
                network.dials[0].fail(ConnectError("refused"))
                await turns()
            elif way == 1:
                tasks[0].cancel()
                await turns()
            elif way == 2:
                (dial,) = bench.pool._tasks
                dial.cancel()
                await turns()
            if way == 3:
                bench.pool.close_now()
            elif network.dials:
                network.dials[0].succeed()
                await turns()
                bench.end(tasks[1].result(), reusable=False)
            await asyncio.gather(*tasks, return_exceptions=True)
            tasks.clear()

    gc.collect()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        await everything()
        gc.collect()
        ours = (Waiter, Dial, Queue, FakeConnection, BaseException)
        left = [thing for thing in gc.garbage if isinstance(thing, ours)]
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
    assert left == []
    await bench.close()


# What guards the guard


def add_a_count(pool: Pool[FakeConnection]) -> None:
    pool._count += 1


def lose_a_queue(pool: Pool[FakeConnection]) -> None:
    pool._queues.pop(A)


async def test_the_invariant_finds_books_that_are_not_true() -> None:
    for break_it in (add_a_count, lose_a_queue):
        bench = Bench()
        connection = await bench.connect(A)
        bench.pool.check_invariant()
        break_it(bench.pool)
        with pytest.raises(AssertionError, match="the pool's invariant is broken: "):
            bench.pool.check_invariant()
        # With debug on, it is checked after every change.
        with pytest.raises(AssertionError, match="the pool's invariant is broken: "):
            bench.end(connection)


async def test_a_pool_without_debug_does_not_check_itself() -> None:
    pool: Pool[FakeConnection] = Pool(Network().dial, Limits())
    pool._count = 5
    assert pool.take_idle(A) is None
    pool.close_now()
