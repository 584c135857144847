"""
Blocking calls on daemon threads of our own.

The loop's shared executor is the user's: a look-up that hangs there would hold up ``asyncio.to_thread`` and
the exit of the program. These threads are few, start when needed, end when idle, and hold up nobody. What may hang for
long has some for itself, so that nothing else waits behind it.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from functools import partial
from queue import Empty, SimpleQueue
from typing import Final, TypeVar

T = TypeVar("T")

MAX_THREADS: Final = 8
IDLE_SECONDS: Final = 10.0


class DaemonThreads:
    """
    Runs calls on at most ``most`` daemon threads, first come first served.

    Args:
        most: The number of threads.
        idle_seconds: How long a thread without work stays.
    """

    def __init__(self, most: int = MAX_THREADS, idle_seconds: float = IDLE_SECONDS) -> None:
        self._most = most
        self._idle_seconds = idle_seconds
        self._reset()

    def _reset(self) -> None:
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._calls: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._threads = 0
        # Calls that wait or run. Counting idle threads would not do: one that was just woken still looks idle.
        self._unfinished = 0

    def run(self, function: Callable[[], T]) -> asyncio.Future[T]:
        """
        Return a future of the running loop for what the function returns or raises.

        Cancelling the future abandons the call; the thread finishes it unheard.
        """
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        if self._process != os.getpid():
            # Threads do not survive a fork, and the lock may have been held by one.
            self._reset()
        with self._lock:
            if self._threads < min(self._unfinished + 1, self._most):
                threading.Thread(target=self._work, name="aiosock-blocking", daemon=True).start()
                self._threads += 1
            self._unfinished += 1
            self._calls.put(partial(_call, function, future))
        return future

    def _work(self) -> None:
        calls, lock = self._calls, self._lock
        while True:
            try:
                call = calls.get(timeout=self._idle_seconds)
            except Empty:
                with lock:
                    if calls.empty():
                        self._threads -= 1
                        return
                continue
            call()
            del call
            with lock:
                self._unfinished -= 1


def _call(function: Callable[[], T], future: asyncio.Future[T]) -> None:
    """Call a function on this thread, and settle the future on its loop's."""
    result: T | None = None
    failure: BaseException | None = None
    try:
        result = function()
    except BaseException as error:  # Whatever it is, it belongs to the caller and not to this thread.
        failure = error
    try:
        future.get_loop().call_soon_threadsafe(_settle, future, result, failure)
    except RuntimeError:
        pass  # The loop is closed: nobody waits any more.
    finally:
        # An exception knows this frame, which must know neither it nor whoever knows it.
        del failure, future


def _settle(future: asyncio.Future[T], result: T | None, failure: BaseException | None) -> None:
    if future.done():
        return
    if failure is not None:
        future.set_exception(failure)
    else:
        future.set_result(result)  # type: ignore[arg-type]  # without a failure there is a result


daemon_threads: Final = DaemonThreads()
"""For what takes long enough to hold up the loop, and comes to an end by itself."""
