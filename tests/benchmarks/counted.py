"""
Counts what one act of aiosock costs, in a process of its own: ``python counted.py WHAT ACT URL COUNT``.

The act is ``get`` or ``stream``. Each count is the mean over so many acts on one kept connection, after some that
warm it up; it is printed as JSON. Unlike a time, a count is nearly the same on a busy machine.
"""

from __future__ import annotations

import asyncio
import gc
import json
import sys
import tracemalloc
from collections.abc import Awaitable, Callable
from types import FrameType
from typing import Any

import uvloop

import aiosock

WARM = 20

Act = Callable[[], Awaitable[None]]
Counts = dict[str, float]


async def count_nothing(act: Act, count: int) -> Counts:
    """Only act: it is counted from outside."""
    for _ in range(count):
        await act()
    return {}


async def count_calls(act: Act, count: int) -> Counts:
    """Count how often a Python function is entered or resumed, the caller's included."""
    calls = 0

    def note(_frame: FrameType, event: str, _argument: object) -> None:
        nonlocal calls
        calls += event == "call"

    sys.setprofile(note)
    try:
        for _ in range(count):
            await act()
    finally:
        sys.setprofile(None)
    return {"calls": calls / count}


async def count_surviving(act: Act, count: int) -> Counts:
    """Count the blocks of memory that are still there afterwards, what only the cycle collector would free included."""
    gc.collect()
    gc.disable()
    tracemalloc.start()
    # The machinery that looks at memory takes some itself, the first time.
    take_snapshot()
    await act()
    before = take_snapshot()
    for _ in range(count):
        await act()
    blocks = take_snapshot().compare_to(before, "filename")
    return {"surviving": sum(each.count_diff for each in blocks) / count}


def take_snapshot() -> tracemalloc.Snapshot:
    """Return what is in use; the interpreter's lists of objects to use again are emptied before, nothing else is."""
    gc.freeze()
    gc.collect()
    return tracemalloc.take_snapshot().filter_traces([tracemalloc.Filter(False, tracemalloc.__file__)])


async def count_loop(act: Act, count: int) -> Counts:
    """Count tasks created and timers armed."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, CountingLoop)
    tasks, timers = loop.tasks, loop.timers
    for _ in range(count):
        await act()
    return {"tasks": (loop.tasks - tasks) / count, "timers": (loop.timers - timers) / count}


class CountingLoop(asyncio.SelectorEventLoop):
    """asyncio's loop, which counts what it is asked for."""

    tasks = timers = 0

    def create_task(self, *arguments: Any, **options: Any) -> asyncio.Task[Any]:
        self.tasks += 1
        return super().create_task(*arguments, **options)

    def call_at(self, *arguments: Any, **options: Any) -> asyncio.TimerHandle:  # type: ignore[override]  # passed on
        self.timers += 1
        return super().call_at(*arguments, **options)


KINDS: dict[str, tuple[Callable[[Act, int], Awaitable[Counts]], Callable[[], asyncio.AbstractEventLoop]]] = {
    "nothing": (count_nothing, uvloop.new_event_loop),
    # Nearly all of this loop is no Python function.
    "calls": (count_calls, uvloop.new_event_loop),
    "surviving": (count_surviving, uvloop.new_event_loop),
    "loop": (count_loop, CountingLoop),
}


async def run(kind: str, act: str, url: str, count: int) -> Counts:
    """Warm up, and count."""
    async with aiosock.Client() as client:

        async def get() -> None:
            response = await client.get(url)
            assert len(response.content) == int(response.headers["content-length"])

        async def stream() -> None:
            length = 0
            async with client.stream("GET", url) as response:
                async for piece in response.iter_bytes():
                    length += len(piece)
            assert length == int(response.headers["content-length"])

        chosen = get if act == "get" else stream
        await count_nothing(chosen, WARM if act == "get" else 1)
        return await KINDS[kind][0](chosen, count)


def main() -> None:
    """Count what the arguments say."""
    kind, act, url, count = sys.argv[1:]
    with asyncio.Runner(loop_factory=KINDS[kind][1]) as runner:
        print(json.dumps(runner.run(run(kind, act, url, int(count)))))


if __name__ == "__main__":
    main()
