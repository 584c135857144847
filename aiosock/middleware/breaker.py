"""
Circuit breakers: an origin that keeps failing is left alone for a while, and whoever asks for it is told at once.

A circuit is closed as long as all is well. So many failures without a success between them open it: requests fail with
`CircuitOpen` without being sent. After a random time, whose most doubles each time, one request goes through as a
probe: its success closes the circuit, its failure opens it again.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Collection
from typing import Final, TypeAlias

from aiosock.config import as_statuses
from aiosock.errors import (
    CircuitOpen,
    NetworkError,
    PoolTimeout,
    ProtocolError,
    RequestError,
    TimeoutException,
    UsageError,
)
from aiosock.message.request import Request
from aiosock.message.response import Response
from aiosock.middleware.chain import Send
from aiosock.middleware.retry import Random, as_random, full_jitter

MAX_ORIGINS: Final = 1024
"""How many origins that failed are remembered."""

Origin: TypeAlias = tuple[str, str, int]

logger = logging.getLogger("aiosock.middleware")


class CircuitBreaker:
    """
    Does not ask an origin that keeps failing.

    Failures are network errors, timeouts, answers that are not HTTP, and those with one of ``statuses``. `TotalTimeout`
    is one: where the total is short, it is all that shows of a server that hangs. `PoolTimeout` is none, as it is our
    own queue that was too long, nor is what the caller or the guard forbids. What goes wrong while a body is read is
    not seen here. Outside of `Retries` it counts what was tried in vain; inside of them each try, and an open circuit
    ends them with what there is.

    Args:
        failures: How many of them, without a success between, open the circuit.
        statuses: Answers that are failures; they are returned all the same.
        recovery: Seconds: the most that passes between the first opening of a circuit and its probe.
        max_recovery: Seconds: the most that passes before any probe.
        random: Returns a number from 0 to below 1.

    Raises:
        UsageError: A value that makes no sense.
    """

    def __init__(
        self,
        failures: int = 5,
        *,
        statuses: Collection[int] = frozenset({500, 502, 503, 504}),
        recovery: float = 10,
        max_recovery: float = 300,
        random: Random | None = None,
    ) -> None:
        if isinstance(failures, bool) or not isinstance(failures, int) or failures < 1:
            raise UsageError(f"CircuitBreaker: failures takes a whole number of at least 1, not {failures!r}")
        for name, value in (("recovery", recovery), ("max_recovery", max_recovery)):
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value <= sys.float_info.max:
                raise UsageError(f"CircuitBreaker: {name} takes a number of seconds greater than 0, not {value!r}")
        self._failures = failures
        self._statuses = as_statuses("CircuitBreaker", statuses)
        self._recovery = recovery
        self._max_recovery = max_recovery
        self._random = as_random("CircuitBreaker", random)
        # Those that failed; the one that failed last at the end.
        self._circuits: dict[Origin, Circuit] = {}

    async def __call__(self, request: Request, next: Send, /) -> Response:
        """
        Send the request, unless its origin is left alone.

        Raises:
            CircuitOpen: It is; nothing was sent.
            RequestError: The request failed.
        """
        origin = request.location.origin
        circuit = self._circuits.get(origin)
        era = 0 if circuit is None else circuit.enter(request.location.authority)
        failed: bool | None = None
        try:
            response = await next(request)
            failed = response.status_code in self._statuses
            return response
        except RequestError as error:
            failed = True if is_failure(error) else None
            raise
        finally:
            self._learn(origin, era, failed)

    def _learn(self, origin: Origin, era: int, failed: bool | None) -> None:
        """A request that set out in this era failed or not; None is neither, cancelled say."""
        circuits = self._circuits
        circuit = circuits.get(origin)
        if circuit is None:
            if not failed or era:
                return
            circuit = Circuit(self._failures)
            circuits[origin] = circuit
            if len(circuits) > MAX_ORIGINS:
                del circuits[next(iter(circuits))]
        elif failed:
            circuits[origin] = circuits.pop(origin)
        if circuit.learn(era, failed):
            seconds = full_jitter(self._recovery, self._max_recovery, circuit.trips, self._random)
            circuit.probe_at = asyncio.get_running_loop().time() + seconds
            logger.debug("the circuit to %s is open for %.3g s", origin[1], seconds)


def is_failure(error: RequestError) -> bool:
    """Tell whether an error speaks against the origin, and not against the request or its client."""
    return isinstance(error, (NetworkError, TimeoutException, ProtocolError)) and not isinstance(error, PoolTimeout)


class Circuit:
    """
    What an origin's failures add up to.

    Args:
        failures: How many open it.

    Attributes:
        trips: How often it was opened since it was closed last.
        probe_at: When a probe may go, in time of the loop; None as long as it is closed.
    """

    __slots__ = ("_era", "_failures", "_left", "_probing", "probe_at", "trips")

    def __init__(self, failures: int) -> None:
        self._failures = self._left = failures
        self._probing = False
        # Whoever set out in another era has no say in this one. A probe has one of its own.
        self._era = 0
        self.trips = 0
        self.probe_at: float | None = None

    def enter(self, origin: str) -> int:
        """
        Return the era in which a request sets out.

        Raises:
            CircuitOpen: It may not.
        """
        if self.probe_at is None:
            return self._era
        seconds = max(self.probe_at - asyncio.get_running_loop().time(), 0.0)
        if self._probing or seconds:
            when = "while a probe is under way" if self._probing else f"for another {seconds:.3g} s"
            error = CircuitOpen(f"{origin} failed too often of late, and is not asked {when}")
            error.retry_after = seconds
            raise error
        self._probing = True
        self._era += 1
        return self._era

    def learn(self, era: int, failed: bool | None) -> bool:
        """Take in what became of a request; True where that opens the circuit, for which `probe_at` is to be set."""
        if era != self._era:
            return False
        if self.probe_at is None:
            if failed is not None:
                self._left = self._left - 1 if failed else self._failures
            if self._left:
                return False
        elif failed is not True:
            self._probing = False
            self._era += 1
            if failed is False:
                self.probe_at = None
                self.trips = 0
                self._left = self._failures
            return False
        self._probing = False
        self._era += 1
        self.trips += 1
        return True
