"""What is posted within one turn of the loop leaves together at its end; in a slow turn, earlier."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import perf_counter

from aiosock.connection.outbox import LATE_SECONDS, MAX_HOLD_SECONDS, Outbox


class Parcel:
    """Writes down that it left."""

    def __init__(self, log: list[str], name: str, then: Callable[[], None] | None = None) -> None:
        self._log = log
        self._name = name
        self._then = then

    def depart(self, late: bool = False) -> None:
        self._log.append(self._name)
        if self._then is not None:
            self._then()


async def test_what_is_posted_in_one_turn_leaves_at_its_end_in_the_order_of_posting() -> None:
    loop = asyncio.get_running_loop()
    outbox, log = Outbox(loop), list[str]()

    def post(name: str) -> None:
        outbox.post(Parcel(log, name), 0.0)
        log.append(f"{name} was posted")

    for name in "abc":
        loop.call_soon(post, name)
    for _ in range(2):
        await asyncio.sleep(0)
    assert log == ["a was posted", "b was posted", "c was posted", "a", "b", "c"]
    post("d")
    assert log[6:] == ["d was posted"]
    await asyncio.sleep(0)
    assert log[7:] == ["d"]
    await asyncio.sleep(0)
    assert len(log) == 8


async def test_in_a_slow_turn_nothing_is_held_for_long() -> None:
    outbox, log = Outbox(asyncio.get_running_loop()), list[str]()
    slow = MAX_HOLD_SECONDS * 1.5
    outbox.post(Parcel(log, "a"), 0.0)
    outbox.post(Parcel(log, "b"), MAX_HOLD_SECONDS)
    assert log == []
    outbox.post(Parcel(log, "c"), slow)
    assert log == ["a", "b", "c"]
    # The time is counted anew, from the first that is held.
    outbox.post(Parcel(log, "d"), slow)
    outbox.post(Parcel(log, "e"), slow + MAX_HOLD_SECONDS / 2)
    assert log == ["a", "b", "c"]
    outbox.post(Parcel(log, "f"), 2 * slow)
    assert log == ["a", "b", "c", "d", "e", "f"]
    outbox.post(Parcel(log, "g"), 9.0)
    assert log == ["a", "b", "c", "d", "e", "f"]
    for _ in range(3):
        await asyncio.sleep(0)
    assert log == ["a", "b", "c", "d", "e", "f", "g"]


async def test_the_time_of_an_earlier_turn_does_not_count() -> None:
    outbox, log = Outbox(asyncio.get_running_loop()), list[str]()
    outbox.post(Parcel(log, "a"), 0.0)
    await asyncio.sleep(0)
    outbox.post(Parcel(log, "b"), 100.0)
    assert log == ["a"]
    outbox.post(Parcel(log, "c"), 100.0)
    assert log == ["a"]
    await asyncio.sleep(0)
    assert log == ["a", "b", "c"]


async def test_what_is_posted_by_one_that_leaves_has_the_next_turn() -> None:
    outbox, log = Outbox(asyncio.get_running_loop()), list[str]()
    outbox.post(Parcel(log, "a", lambda: outbox.post(Parcel(log, "c"), 0.0)), 0.0)
    outbox.post(Parcel(log, "b"), 0.0)
    await asyncio.sleep(0)
    assert log == ["a", "b"]
    await asyncio.sleep(0)
    assert log == ["a", "b", "c"]


async def test_what_leaves_late_is_told_so() -> None:
    class Punctual:
        def depart(self, late: bool = False) -> None:
            told.append(late)

    told: list[bool] = []
    outbox = Outbox(asyncio.get_running_loop())
    for since in (perf_counter(), perf_counter() - 2 * LATE_SECONDS):
        outbox.post(Punctual(), since)
        await asyncio.sleep(0)
    assert told == [False, True]
