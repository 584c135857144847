"""
Blocking calls on our own threads: few, ended when idle, and in nobody's way.
"""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import closing
from queue import Empty, SimpleQueue

import pytest

from aiosock.network.threads import DaemonThreads

PATIENCE_SECONDS = 20


class Fault(Exception):
    """An error that can be watched, as builtin ones cannot."""


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """What blocking calls of a test wait for; open when the test is over."""
    gate = threading.Event()
    yield gate
    gate.set()


async def test_a_result_and_an_error_come_back() -> None:
    threads = DaemonThreads()
    assert await threads.run(lambda: 42) == 42

    def fail() -> None:
        raise LookupError("not there")

    with pytest.raises(LookupError, match="not there"):
        await threads.run(fail)
    thread = await threads.run(threading.current_thread)
    assert thread is not threading.main_thread()
    assert thread.daemon


async def test_there_are_no_more_threads_than_allowed_and_calls_keep_their_order(gate: threading.Event) -> None:
    threads = DaemonThreads(most=2)
    started: list[int] = []
    running: set[threading.Thread] = set()
    two_run = threading.Semaphore(0)

    def call(number: int) -> int:
        started.append(number)
        running.add(threading.current_thread())
        two_run.release()
        assert gate.wait(PATIENCE_SECONDS)
        return number

    calls = [threads.run(lambda number=number: call(number)) for number in range(6)]
    for _ in range(2):
        assert await asyncio.to_thread(two_run.acquire, timeout=PATIENCE_SECONDS)
    assert sorted(started) == [0, 1]
    gate.set()
    assert await asyncio.gather(*calls) == list(range(6))
    assert len(running) == 2


async def test_a_thread_without_work_takes_the_next_call() -> None:
    threads = DaemonThreads()
    seen = set()
    for _ in range(50):
        seen.add(await threads.run(threading.current_thread))
        # It may still be on its way back to the queue when its answer is here.
        while threads._unfinished:
            await asyncio.sleep(0)
    assert len(seen) == 1


async def test_no_call_waits_behind_another_while_a_thread_may_be_started(gate: threading.Event) -> None:
    for _ in range(100):
        threads = DaemonThreads(idle_seconds=0.001)
        # One thread is idle now: it takes the first, and the second needs a thread of its own.
        await threads.run(lambda: None)
        stuck = threads.run(gate.wait)
        async with asyncio.timeout(PATIENCE_SECONDS):
            assert await threads.run(lambda: "free") == "free"
        assert not stuck.done()
        stuck.cancel()


async def test_a_thread_without_work_ends() -> None:
    threads = DaemonThreads(idle_seconds=0.001)
    thread = await threads.run(threading.current_thread)
    await asyncio.to_thread(thread.join, PATIENCE_SECONDS)
    assert not thread.is_alive()
    other = await threads.run(threading.current_thread)
    assert other is not thread


async def test_a_call_that_comes_while_the_only_thread_gives_up_is_served() -> None:
    class Impatient(SimpleQueue[Callable[[], None]]):
        gave_up = False

        def get(self, block: bool = True, timeout: float | None = None) -> Callable[[], None]:
            if not self.gave_up:
                self.gave_up = True
                raise Empty
            return super().get(block, timeout)

    threads = DaemonThreads(most=1)
    threads._calls = Impatient()
    async with asyncio.timeout(PATIENCE_SECONDS):
        assert await threads.run(lambda: 1) == 1


async def test_whoever_gave_up_does_not_stop_the_call(gate: threading.Event, caplog: pytest.LogCaptureFixture) -> None:
    threads = DaemonThreads(most=1)
    done = threading.Event()

    def call() -> None:
        assert gate.wait(PATIENCE_SECONDS)
        done.set()

    future = threads.run(call)
    future.cancel()
    gate.set()
    assert await threads.run(done.is_set)
    assert not caplog.records


def test_a_loop_that_was_closed_meanwhile_does_no_harm(gate: threading.Event) -> None:
    threads = DaemonThreads(most=1)

    async def start(call: Callable[[], object]) -> asyncio.Future[object]:
        return threads.run(call)

    async def identify() -> threading.Thread:
        return await threads.run(threading.current_thread)

    with closing(asyncio.new_event_loop()) as loop:
        thread = loop.run_until_complete(identify())
        future = loop.run_until_complete(start(lambda: gate.wait(PATIENCE_SECONDS)))
    gate.set()
    with closing(asyncio.new_event_loop()) as loop:
        assert loop.run_until_complete(identify()) is thread
    assert not future.done()


async def test_a_thread_that_cannot_be_started_is_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    threads = DaemonThreads(most=1)

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    served: list[int] = []
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        for _ in range(3):
            with pytest.raises(RuntimeError, match="can't start"):
                threads.run(lambda: served.append(1))
    async with asyncio.timeout(PATIENCE_SECONDS):
        await threads.run(lambda: served.append(2))
    assert served == [2]


async def test_an_error_is_freed_without_the_garbage_collector() -> None:
    threads = DaemonThreads()
    seen: list[weakref.ref[BaseException]] = []

    def fail() -> None:
        error = Fault("not there")
        seen.append(weakref.ref(error))
        try:
            raise error
        finally:
            del error

    gc.collect()
    gc.disable()
    try:
        future = threads.run(fail)
        await asyncio.wait([future])
        assert isinstance(future.exception(), Fault)
        del future
        # The thread has left the call behind when it serves the next.
        async with asyncio.timeout(PATIENCE_SECONDS):
            while seen[0]() is not None:  # the thread's last steps have no event
                await asyncio.sleep(0)
    finally:
        gc.enable()


FORK = """
import asyncio, os
from aiosock.network.threads import daemon_threads

async def call():
    return await asyncio.wait_for(daemon_threads.run(lambda: "served "), 10)

os.write(1, asyncio.run(call()).encode())
child = os.fork()
os.write(1, asyncio.run(call()).encode())
if child:
    os.waitpid(child, 0)
else:
    os._exit(0)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_forked_child_gets_threads_of_its_own() -> None:
    done = subprocess.run([sys.executable, "-c", FORK], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == "served " * 3, done.stderr
