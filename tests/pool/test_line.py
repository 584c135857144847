"""The line over all origins: who is the oldest that could have a dial, found without looking at the rest."""

from __future__ import annotations

import asyncio
import math

from aiosock.pool.line import MAX_STALE_ENTRIES, Line
from aiosock.pool.origin import Dial, Queue, Waiter
from tests.pool.fakes import FakeConnection, origin

Fake = FakeConnection


def queue_of(name: str, most: float = math.inf) -> Queue[Fake]:
    return Queue(origin(name), most)


def wait(line: Line[Fake], queue: Queue[Fake], sequence: int) -> Waiter[Fake]:
    """Put somebody in line."""
    waiter: Waiter[Fake] = Waiter(queue, sequence, asyncio.get_running_loop().create_future())
    queue.enqueue(waiter)
    line.note(queue)
    return waiter


async def test_the_oldest_over_all_queues_is_first() -> None:
    line: Line[Fake] = Line()
    assert line.oldest() is None
    queues = [queue_of(name) for name in "abc"]
    waiters = {sequence: wait(line, queues[sequence % 3], sequence) for sequence in (4, 6, 2, 3, 0, 7)}
    for sequence in sorted(waiters):
        waiter = line.oldest()
        assert waiter is waiters[sequence]
        waiter.queue.start(waiter, Dial(waiter.queue, waiter))
        line.note(waiter.queue)
    assert line.oldest() is None
    assert len(line) == 0


async def test_a_queue_that_is_full_is_passed_over_until_it_is_not() -> None:
    line: Line[Fake] = Line()
    full, other = queue_of("a", most=1), queue_of("b")
    first, second = wait(line, full, 1), wait(line, other, 2)
    full.count = 1
    assert line.oldest() is second
    line.note(full)
    assert line.oldest() is second
    full.count = 0
    line.note(full)
    assert line.oldest() is first


async def test_the_cancelled_are_passed_over() -> None:
    line: Line[Fake] = Line()
    queue, other = queue_of("a"), queue_of("b")
    first, third = wait(line, queue, 1), wait(line, queue, 3)
    second, fourth = wait(line, other, 2), wait(line, other, 4)
    first.future.cancel()
    assert line.oldest() is second
    second.future.cancel()
    assert line.oldest() is third
    third.future.cancel()
    assert line.oldest() is fourth
    fourth.future.cancel()
    assert line.oldest() is None


async def test_one_that_is_sent_again_goes_before_the_others() -> None:
    line: Line[Fake] = Line()
    queue, other = queue_of("a"), queue_of("b")
    later = wait(line, queue, 10)
    between = wait(line, other, 5)
    again = wait(line, queue, 1)
    assert line.oldest() is again
    queue.remove(again)
    line.note(queue)
    assert line.oldest() is between
    other.remove(between)
    assert line.oldest() is later


async def test_what_comes_and_goes_behind_one_that_stays_does_not_pile_up() -> None:
    line: Line[Fake] = Line()
    blocked = wait(line, queue_of("a"), 0)
    queue, third = queue_of("b"), queue_of("c")
    stays = wait(line, third, 1)
    for sequence in range(2, 5000):
        waiter = wait(line, queue, sequence)
        assert line.oldest() is blocked
        queue.remove(waiter)
        line.note(queue)
        assert len(line) <= 2 * 3 + MAX_STALE_ENTRIES
    last = wait(line, queue, 5000)
    blocked.queue.remove(blocked)
    assert line.oldest() is stays
    stays.queue.remove(stays)
    assert line.oldest() is last
