"""
What one round measures, inside of the client's process.

A round is a coroutine from a `Work` to numbers. All that it costs to start, connect and warm up lies before it.
"""

from __future__ import annotations

import asyncio
import gc
import os
import resource
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from tests.benchmarks.contenders import Answer, Contender

Figures = dict[str, float]
"""What was measured: the names are those of `tests.benchmarks.scenarios.METRICS`."""

RAMP = 128
"""So many requests are begun at a time where there are thousands: a listening socket's queue is finite."""


class WrongAnswer(Exception):
    """A status or a length that is not what the server sends."""


@dataclass(frozen=True)
class Work:
    """
    What a contender is to do.

    Attributes:
        contender: Who does it.
        act: Its method.
        expected: What that must return.
        concurrency: How many at the same time.
        units: What one act counts for: 1 request, or so many MiB or lines.
        count: How many in all, where the scenario says so.
        seconds: How long, where it does not.
    """

    contender: Contender
    act: Callable[[], Awaitable[Answer]]
    expected: Answer
    concurrency: int
    units: float
    count: int
    seconds: float

    async def do(self) -> None:
        """Do it once, and check the answer."""
        answer = await self.act()
        if answer != self.expected:
            raise WrongAnswer(f"answered (status, length) {answer}, which should be {self.expected}")


Round = Callable[[Work], Coroutine[Any, Any, Figures]]


async def keep_busy(work: Work) -> Figures:
    """Act again and again, until the time is over; each task at least once."""
    latencies: list[float] = []
    reset_peak()
    used, began = cpu_seconds(), time.perf_counter()
    end = began + work.seconds

    async def act() -> None:
        while True:
            started = time.perf_counter()
            await work.do()
            now = time.perf_counter()
            latencies.append(now - started)
            if now >= end:
                return

    async with asyncio.TaskGroup() as group:
        for _ in range(work.concurrency):
            group.create_task(act())
    passed = time.perf_counter() - began
    units = len(latencies) * work.units
    latencies.sort()
    return {
        "cpu": (cpu_seconds() - used) / units * 1e6,
        "rate": units / passed,
        "p50": latencies[len(latencies) // 2] * 1e6,
        "p99": latencies[len(latencies) * 99 // 100] * 1e6,
        "peak": peak_bytes() / 2**20,
        "acts": len(latencies),
    }


async def import_alone(work: Work) -> Figures:
    """Import the library in a new interpreter that has asyncio and ssl already, up to the class that makes a client."""
    program = (
        "import asyncio, ssl, time, sys; before = time.process_time();"
        "__import__(sys.argv[1]); getattr(sys.modules[sys.argv[1]], sys.argv[2]);"
        "print((time.process_time() - before) * 1e6)"
    )
    command = [sys.executable, "-c", program, work.contender.module, work.contender.entry]
    # Compiled code is kept, as it is for users; the first of two may have to compile it.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    for _ in range(2):
        answer = subprocess.run(  # noqa: ASYNC221 - nothing else runs
            command, env=environment, capture_output=True, text=True, check=True
        )
    return {"cpu": float(answer.stdout)}


async def hold_idle(work: Work) -> Figures:
    """Open many connections at once, and leave them in the pool."""
    before = await settle(work)
    await crowd(work)
    gc.collect()
    return {"memory": (resident_bytes() - before) / work.count / 1024, "peak": peak_bytes() / 2**20}


async def hold_in_flight(work: Work) -> Figures:
    """Send many requests to a server that answers when it has them all."""
    before = await settle(work)
    reset_peak()
    await crowd(work)
    return {"memory": (peak_bytes() - before) / work.count / 1024, "peak": peak_bytes() / 2**20}


async def settle(work: Work) -> int:
    """Make the first request, so that what is loaded once is loaded, and return the memory in use then."""
    url = work.contender.url
    work.contender.url = f"{url}/1"
    await work.do()
    work.contender.url = f"{url}/{work.count}"
    gc.collect()
    return resident_bytes()


async def crowd(work: Work) -> None:
    """Send so many requests that the server answers none before it has them all."""
    async with asyncio.TaskGroup() as group:
        for number in range(work.count):
            group.create_task(work.do())
            if number % RAMP == RAMP - 1:
                await asyncio.sleep(0.01)


async def litter(work: Work) -> Figures:
    """Count what only the cycle collector could have freed."""
    package = import_module(work.contender.module)
    home = str(Path(str(package.__file__)).parent)
    await work.do()
    gc.collect()
    gc.disable()
    left = work.count

    async def act() -> None:
        nonlocal left
        while left > 0:
            left -= 1
            await work.do()

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(work.concurrency):
                group.create_task(act())
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        ours = sum(belongs(thing, package.__name__, home) for thing in gc.garbage)
        return {"objects": ours, "garbage": len(gc.garbage)}
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()


def belongs(thing: object, name: str, home: str) -> bool:
    """Tell whether a thing is of a package's making: an instance of its classes, or code of its own under way."""
    if type(thing).__module__.partition(".")[0] == name:
        return True
    for attribute in ("__code__", "f_code", "gi_code", "cr_code", "ag_code"):
        code = getattr(thing, attribute, None)
        if code is not None:
            return str(code.co_filename).startswith(home)
    return False


# What the system knows of this process


def cpu_seconds() -> float:
    """Return the time that all threads have spent, in user and in system mode."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def resident_bytes() -> int:
    """Return the memory in use; 0 where there is no /proc."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


def reset_peak() -> None:
    """Begin to look for the peak of the memory in use anew, where the system can."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        pass


def peak_bytes() -> int:
    """Return the most memory that was in use since `reset_peak`."""
    try:
        status = Path("/proc/self/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) * 1024
    except (OSError, IndexError):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
