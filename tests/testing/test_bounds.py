"""Where no connection does it, a request's timeouts are kept all the same."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest

from aiosock.config import NO_TIMEOUT, Timeout
from aiosock.errors import ReadTimeout, TotalTimeout
from aiosock.message.request import Request
from aiosock.testing.bounds import Bounds

MOMENT = 0.01


def bounds(timeout: Timeout | None = None, deadline_in: float | None = None) -> Bounds:
    request = Request("GET", "http://h/p?secret")
    if timeout is not None:
        request.extensions["timeout"] = timeout
    if deadline_in is not None:
        request.extensions["deadline"] = asyncio.get_running_loop().time() + deadline_in
    return Bounds(request)


async def test_what_comes_in_time_is_returned() -> None:
    async def soon() -> int:
        await asyncio.sleep(0)
        return 1

    assert await bounds(NO_TIMEOUT).wait(soon()) == 1
    assert await bounds(Timeout(5)).wait(soon()) == 1
    assert await bounds().wait(soon()) == 1


async def test_a_pause_is_bounded_and_what_was_waited_for_cancelled() -> None:
    cancelled = False

    async def never() -> None:
        nonlocal cancelled
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled = True
            raise

    with pytest.raises(ReadTimeout, match=rf"^nothing came for {MOMENT} s \[GET http://h/p\]$"):
        await bounds(Timeout(read=MOMENT)).wait(never())
    assert cancelled


async def test_the_deadline_bounds_all() -> None:
    bounds(Timeout(3), deadline_in=60).check_deadline()
    within = bounds(Timeout(3), deadline_in=MOMENT)
    with pytest.raises(TotalTimeout, match=r"^the request took longer than 3 s in all \[GET http://h/p\]$"):
        await within.wait(asyncio.Event().wait())
    with pytest.raises(TotalTimeout):
        bounds(Timeout(3), deadline_in=-MOMENT).check_deadline()


async def test_the_deadline_is_told_by_its_name_also_when_the_timer_fires_a_little_early(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    within = bounds(Timeout(read=None), deadline_in=MOMENT)
    # A clock that has not got there when the timer fires, as that of a loop that counts in milliseconds.
    monkeypatch.setattr(within, "_loop", SimpleNamespace(time=lambda: 0.0))
    with pytest.raises(TotalTimeout):
        await within.wait(asyncio.Event().wait())


async def test_progress_begins_the_pause_anew() -> None:
    loop = asyncio.get_running_loop()
    read = 40 * MOMENT
    within = bounds(Timeout(read=read))
    began = loop.time()
    done: asyncio.Future[None] = loop.create_future()
    loop.call_later(read / 2, within.progress)
    loop.call_later(read * 1.25, done.set_result, None)
    await within.wait(done)
    assert loop.time() - began > read
    within.progress()  # Nobody waits.


async def test_a_lifted_deadline_does_not_end_the_wait() -> None:
    loop = asyncio.get_running_loop()
    within = bounds(deadline_in=20 * MOMENT)
    done: asyncio.Future[None] = loop.create_future()
    loop.call_later(30 * MOMENT, done.set_result, None)
    loop.call_soon(within.lift_deadline)
    await within.wait(done)
    within.check_deadline()


async def test_a_timeout_of_the_awaited_one_is_its_own() -> None:
    async def late() -> None:
        raise TimeoutError("mine")

    with pytest.raises(TimeoutError, match="^mine$"):
        await bounds(Timeout(5)).wait(late())
