"""
Blocking calls on daemon threads of our own.

The loop's shared executor is the user's: a look-up that hangs there would hold up ``asyncio.to_thread`` and
the exit of the program. These threads are few, start when needed, end when idle, and hold up nobody.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
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
        self._lock = threading.Lock()
        self._calls: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._threads = 0
        self._idle = 0

    def run(self, function: Callable[[], T]) -> asyncio.Future[T]:
        """
        Return a future of the running loop for what the function returns or raises.

        Cancelling the future abandons the call; the thread finishes it unheard.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()

        def settle(result: T | None, error: BaseException | None) -> None:
            if future.done():
                return
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(result)  # type: ignore[arg-type]  # without an error there is a result

        def call() -> None:
            result: T | None = None
            failure: BaseException | None = None
            try:
                result = function()
            except BaseException as error:  # Whatever it is, it belongs to the caller and not to this thread.
                failure = error
            try:
                loop.call_soon_threadsafe(settle, result, failure)
            except RuntimeError:
                return  # The loop is closed: nobody waits any more.

        self._calls.put(call)
        with self._lock:
            if self._idle < self._calls.qsize() and self._threads < self._most:
                self._threads += 1
                threading.Thread(target=self._work, name="aiosock-blocking", daemon=True).start()
        return future

    def _work(self) -> None:
        calls, lock = self._calls, self._lock
        while True:
            with lock:
                self._idle += 1
            try:
                call = calls.get(timeout=self._idle_seconds)
            except Empty:
                with lock:
                    self._idle -= 1
                    if calls.empty():
                        self._threads -= 1
                        return
                continue
            with lock:
                self._idle -= 1
            call()
            del call


daemon_threads: Final = DaemonThreads()

if hasattr(os, "register_at_fork"):
    # Threads do not survive a fork, and the lock may have been held by one.
    os.register_at_fork(after_in_child=daemon_threads._reset)
