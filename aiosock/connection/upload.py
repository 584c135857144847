"""
A request body that has to be waited for: it is sent by a task of its own while the answer is read.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

from aiosock.errors import UsageError
from aiosock.network.stream import Stream


class Keeper(Protocol):
    """Who looks after the tasks that outlive an exchange."""

    def adopt(self, task: asyncio.Task[None]) -> None:
        """See a task to its end when the client is closed."""
        ...


class Upload:
    """
    The sending of one body, under way from the start.

    Args:
        loop: On which it runs.
        stream: The connection's; whoever reads from it is told what goes wrong here, unless it was the writing.
        send: Sends all of it.
        keeper: Sees the task to its end.

    Attributes:
        failure: What the user's body raised, or the promise that it broke; None where all is well.
    """

    __slots__ = ("_stream", "_task", "failure")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        stream: Stream,
        send: Callable[[], Coroutine[Any, Any, None]],
        keeper: Keeper,
    ) -> None:
        self.failure: Exception | None = None
        self._stream = stream
        self._task = loop.create_task(self._run(send))
        keeper.adopt(self._task)

    @property
    def under_way(self) -> bool:
        """It is not over, well or badly."""
        return not self._task.done()

    def cancel(self) -> None:
        """Call it off, without waiting for that."""
        self._task.cancel()

    async def wait(self, seconds: float | None = None) -> None:
        """Return when it is over, or after so long; whoever is cancelled here leaves it alone."""
        # Waited for and not awaited: how it ended is told otherwise.
        await asyncio.wait([self._task], timeout=seconds)

    async def _run(self, send: Callable[[], Coroutine[Any, Any, None]]) -> None:
        stream = self._stream
        try:
            await send()
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            # Nobody called this task off: something that the user's body waited for was cancelled.
            self.failure = UsageError("what the request body waited for was cancelled")
            self.failure.__cause__ = error
            stream.interrupt(self.failure)
        except Exception as error:
            # When writing failed, the reading side first sees whether the server has answered. Else it is the user's
            # body that failed, or broke its promise: whoever waits for the answer is told.
            if stream.write_error is None:
                self.failure = error
                stream.interrupt(error)
