"""What a queue remembers: who came first, who has a dial, and what becomes of a dial."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable

import pytest

from aiosock.connection.dial import Origin
from aiosock.errors import ConnectError, ConnectTimeout
from aiosock.pool.origin import Dial, Queue, Waiter
from tests.pool.fakes import A, FakeConnection, Network, timed, turns


def queue_of(most: float = math.inf) -> Queue[FakeConnection]:
    return Queue(A, most)


def waiter(queue: Queue[FakeConnection], sequence: int, *, fresh: bool = False) -> Waiter[FakeConnection]:
    """Put somebody in line."""
    added = Waiter(queue, sequence, asyncio.get_running_loop().create_future(), fresh=fresh)
    queue.enqueue(added)
    return added


def sequences(queue: Queue[FakeConnection]) -> list[int]:
    return [waiter.sequence for waiter in queue.waiters()]


def start(queue: Queue[FakeConnection], network: Network, waiter: Waiter[FakeConnection]) -> Dial[FakeConnection]:
    """Dial for a waiter, as the pool does."""
    dial = Dial(queue, waiter)
    queue.start(waiter, dial)
    dial.task = asyncio.ensure_future(dial.run(network.dial))
    return dial


async def test_waiters_stand_in_the_order_of_their_tickets_whenever_they_come() -> None:
    queue = queue_of()
    for sequence in (3, 5, 9, 4, 1, 8):
        waiter(queue, sequence)
    assert sequences(queue) == [1, 3, 4, 5, 8, 9]
    assert not queue.empty


async def test_the_oldest_is_found_whether_it_has_a_dial_or_not() -> None:
    queue = queue_of()
    younger, older = waiter(queue, 2), waiter(queue, 1)
    assert queue.oldest(reused=True) is older
    queue.start(younger, Dial(queue, younger))
    assert queue.oldest(reused=False) is older
    queue.start(older, Dial(queue, older))
    assert sequences(queue) == [1, 2]
    queue.remove(older)
    assert queue.oldest(reused=False) is younger
    queue.remove(younger)
    assert queue.oldest(reused=False) is None
    assert queue.empty


async def test_who_wants_a_fresh_connection_is_passed_over_when_a_used_one_is_free() -> None:
    queue = queue_of()
    fresh, other = waiter(queue, 1, fresh=True), waiter(queue, 2)
    assert queue.oldest(reused=True) is other
    assert queue.oldest(reused=False) is fresh
    queue.remove(other)
    assert queue.oldest(reused=True) is None


async def test_the_next_without_a_dial_is_the_oldest_that_still_waits() -> None:
    queue = queue_of()
    first, second, third = (waiter(queue, sequence) for sequence in range(3))
    queue.start(first, Dial(queue, first))
    assert queue.next_queued() is second
    second.future.cancel()
    assert queue.next_queued() is third
    assert sequences(queue) == [0, 2]
    third.future.cancel()
    assert queue.next_queued() is None


async def test_who_loses_its_dial_goes_back_to_its_place() -> None:
    queue = queue_of()
    first = waiter(queue, 1)
    queue.start(first, Dial(queue, first))
    waiter(queue, 2)
    queue.stop(first)
    assert first.dial is None
    assert queue.next_queued() is first
    assert not queue.served


async def test_a_queue_is_full_of_what_cannot_make_room() -> None:
    queue = queue_of(2)
    queue.count = 1
    assert not queue.is_full
    queue.count = 2
    assert queue.is_full
    queue.idle[FakeConnection(Network(), A)] = 0.0
    assert not queue.is_full
    assert not queue_of().is_full


async def test_a_dial_is_over_when_it_has_ended_or_was_called_off() -> None:
    queue, network = queue_of(), Network()
    dial = start(queue, network, waiter(queue, 1))
    assert not dial.over
    await turns()
    assert not dial.over
    assert dial.stage == "connecting to a"
    connection = network.dials[0].succeed()
    await turns()
    assert dial.over
    assert dial.task is not None
    assert await dial.task is connection

    dial = start(queue, network, waiter(queue, 2))
    assert dial.task is not None
    dial.task.cancel()
    assert dial.over
    await asyncio.wait([dial.task])

    assert Dial(queue, waiter(queue, 3)).over


@timed
async def test_a_dial_that_takes_too_long_says_what_it_was_doing() -> None:
    queue, network = queue_of(), Network()
    first = waiter(queue, 1)
    first.connect_seconds = 3
    dial = start(queue, network, first)
    assert dial.task is not None
    began = asyncio.get_running_loop().time()
    with pytest.raises(ConnectTimeout, match=r"connecting to http://a:80 took longer than 3 s; it was connecting to a"):
        await dial.task
    assert asyncio.get_running_loop().time() == began + 3
    assert dial.over


@timed
async def test_a_dial_that_goes_on_for_another_has_that_ones_whole_time() -> None:
    loop = asyncio.get_running_loop()
    queue, network = queue_of(), Network()
    first, second, third = (waiter(queue, sequence) for sequence in range(3))
    first.connect_seconds, second.connect_seconds = 3, 5
    began = loop.time()
    dial = start(queue, network, first)
    assert dial.task is not None
    await asyncio.sleep(2)
    queue.remove(first)
    dial.serve(second, loop.time())
    assert (dial.waiter, second.dial) == (second, dial)
    with pytest.raises(ConnectTimeout, match="took longer than 5 s"):
        await dial.task
    assert loop.time() == began + 7

    # One that has not begun yet, and one whose time is not bounded any more.
    queue.stop(second)
    dial = start(queue, network, second)
    assert dial.task is not None
    queue.remove(second)
    dial.serve(third, loop.time())
    await asyncio.sleep(1000)
    queue.remove(third)
    dial.serve(waiter(queue, 4), loop.time())
    await asyncio.sleep(1000)
    assert not dial.over
    network.dials[0].succeed()
    await dial.task


def timers() -> int:
    """Return how many timers the loop has that would still go off."""
    scheduled: list[asyncio.TimerHandle] = asyncio.get_running_loop()._scheduled  # type: ignore[attr-defined]
    return sum(not handle.cancelled() for handle in scheduled)


def bounded(queue: Queue[FakeConnection], sequence: int, seconds: float | None) -> Waiter[FakeConnection]:
    """Put somebody in line whose dial may take so long."""
    added = waiter(queue, sequence)
    added.connect_seconds = seconds
    return added


@timed
async def test_a_dial_leaves_no_timer_behind_however_it_ends() -> None:
    queue, network = queue_of(), Network()
    assert timers() == 0
    for number, end in enumerate(("success", "failure", "called off", "time over", "called off at once")):
        dial = start(queue, network, bounded(queue, number, 3))
        assert dial.task is not None
        if end != "called off at once":
            await turns()
            assert timers() == 1
        if end == "success":
            network.dials[0].succeed()
        elif end == "failure":
            network.dials[0].fail(ConnectError("refused"))
        elif end.startswith("called off"):
            dial.task.cancel()
        await asyncio.wait([dial.task])
        assert dial.expired is (end == "time over")
        assert dial.task.cancelled() is end.startswith("called off")
        assert timers() == 0, end


@timed
async def test_a_dial_that_is_served_to_others_has_one_timer_or_none() -> None:
    loop = asyncio.get_running_loop()
    queue, network = queue_of(), Network()
    first = bounded(queue, 1, 3)
    dial = start(queue, network, first)
    await turns()
    for number, seconds in enumerate((5, None, 7, 2), 2):
        queue.remove(first)
        first = bounded(queue, number, seconds)
        dial.serve(first, loop.time())
        assert timers() == (seconds is not None)
    began = loop.time()
    assert dial.task is not None
    with pytest.raises(ConnectTimeout, match="took longer than 2 s; it was connecting to a"):
        await dial.task
    assert loop.time() == began + 2
    assert timers() == 0


class Reluctant:
    """Dials, and takes a while to leave when it is called off."""

    async def dial(self, to: Origin, report: Callable[[str], None]) -> FakeConnection:
        report("on its way")
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            await asyncio.sleep(1)
        raise AssertionError


@timed
async def test_a_dial_called_off_is_no_timeout_even_after_its_time() -> None:
    loop = asyncio.get_running_loop()
    for calls, error in ((0, ConnectTimeout), (1, asyncio.CancelledError)):
        queue = queue_of()
        waiting = bounded(queue, 1, 3)
        dial = Dial(queue, waiting)
        dial.task = task = asyncio.ensure_future(dial.run(Reluctant().dial))
        for _ in range(calls):
            loop.call_later(3.5, task.cancel)
        with pytest.raises(error):
            await task
        assert dial.expired


@timed
async def test_a_dial_called_off_ahead_of_its_time_is_no_timeout() -> None:
    queue = queue_of()
    dial = Dial(queue, bounded(queue, 1, 3))
    dial.task = task = asyncio.ensure_future(dial.run(Reluctant().dial))
    # What is left to do then takes until after the time.
    asyncio.get_running_loop().call_later(2.5, task.cancel)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert timers() == 0


@timed
async def test_the_time_of_a_dial_that_is_nobodys_task_is_of_no_account() -> None:
    queue, network = queue_of(), Network()
    dial = Dial(queue, bounded(queue, 1, 3))
    task = asyncio.ensure_future(dial.run(network.dial))
    await asyncio.sleep(5)
    assert not dial.expired
    connection = network.dials[0].succeed()
    assert await task is connection
    assert timers() == 0


async def test_errors_of_the_dialler_pass_as_they_are() -> None:
    queue, network = queue_of(), Network()
    for error in (ConnectError("refused"), TimeoutError("of its own")):
        waiting = waiter(queue, 1)
        waiting.connect_seconds = 100
        dial = start(queue, network, waiting)
        assert dial.task is not None
        await turns()
        network.dials[0].fail(error)
        with pytest.raises(type(error)) as info:
            await dial.task
        assert info.value is error
        queue.remove(waiting)
