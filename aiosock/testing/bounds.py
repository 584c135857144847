"""
A request's timeouts, kept where no connection keeps them: in the stand-ins for the network.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable
from typing import Final, TypeVar

from aiosock.config import Timeout, as_timeout
from aiosock.errors import ReadTimeout, TimeoutException, TotalTimeout
from aiosock.message.request import Request

T = TypeVar("T")

_DEFAULT_TIMEOUT: Final = Timeout()


class Bounds:
    """
    How long one exchange may still take: ``Timeout.read`` between two pieces of progress, and the deadline for all.

    One task at a time waits within them.

    Args:
        request: Its extensions have ``timeout`` and ``deadline``, or not.
    """

    def __init__(self, request: Request) -> None:
        self._request = request
        self._loop = asyncio.get_running_loop()
        self._timeout = as_timeout(request.extensions.get("timeout", _DEFAULT_TIMEOUT))
        self._deadline: float = request.extensions.get("deadline", math.inf)
        self._scope: asyncio.Timeout | None = None
        # What it is called when the bound that is in force passes.
        self._first: type[TimeoutException] = ReadTimeout

    async def wait(self, awaitable: Awaitable[T]) -> T:
        """
        Return what is awaited.

        Raises:
            ReadTimeout: There was no progress for too long; what was awaited has been cancelled.
            TotalTimeout: The deadline passed.
        """
        scope = self._scope = asyncio.timeout_at(self._due())
        try:
            async with scope:
                return await awaitable
        except TimeoutError:
            if not scope.expired():
                raise  # It is the awaited one's own.
            # Which of the two it was is not asked of the clock: a timer may fire a little before its time.
            raise self._error(self._first) from None
        finally:
            self._scope = None

    def progress(self) -> None:
        """Something went on: the pause is counted from here."""
        if self._scope is not None and not self._scope.expired():
            self._scope.reschedule(self._due())

    def check_deadline(self) -> None:
        """
        See to the deadline where nothing is waited for.

        Raises:
            TotalTimeout: It passed.
        """
        if self._loop.time() >= self._deadline:
            raise self._error(TotalTimeout)

    def lift_deadline(self) -> None:
        """From here on only pauses are bounded."""
        self._deadline = math.inf
        self.progress()

    def _due(self) -> float | None:
        read = math.inf if self._timeout.read is None else self._loop.time() + self._timeout.read
        self._first = TotalTimeout if self._deadline <= read else ReadTimeout
        due = min(read, self._deadline)
        return None if due == math.inf else due

    def _error(self, kind: type[TimeoutException]) -> TimeoutException:
        error: TimeoutException
        if kind is TotalTimeout:
            error = kind(f"the request took longer than {self._timeout.total} s in all")
        else:
            error = kind(f"nothing came for {self._timeout.read} s")
        error.request = self._request
        return error
