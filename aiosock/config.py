"""
The frozen values that a user passes in: how long to wait, how much is too much, and what is tried again.

Nothing here acts on them; a value that makes no sense is refused at construction.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Collection
from dataclasses import KW_ONLY, dataclass
from typing import Final

from aiosock.errors import UsageError

KIB = 1024
DEFAULT_MAX_HEADER_BYTES = 256 * KIB
DEFAULT_MAX_HEADERS = 1000

# RFC 9110, 9.2.2; QUERY is idempotent by its own definition.
IDEMPOTENT_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE", "QUERY"})


def shown(value: object) -> str:
    """Return what a message says of a value that is none of those that can be used."""
    return f"{value!r:.60}"


def _check_seconds(owner: str, name: str, value: float | None, *, allow_zero: bool = False) -> None:
    if value is None:
        return
    if not _is_number(value):
        raise UsageError(f"{owner}: {name} takes a number of seconds or None, not {shown(value)}")
    if not _has_length(value) and not (allow_zero and value == 0):
        least = "0 seconds or more" if allow_zero else "greater than 0 seconds"
        raise UsageError(f"{owner}: {name} must be {least}, not {shown(value)}")


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _has_length(seconds: float) -> bool:
    # NaN is neither more nor less, and an int may be too great for a float.
    return 0 < seconds <= sys.float_info.max or seconds == math.inf


def _check_count(name: str, value: int | None, least: int, owner: str = "Limits") -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int):
        raise UsageError(f"{owner}: {name} takes a whole number or None, not {shown(value)}")
    if value < least:
        raise UsageError(f"{owner}: {name} must be at least {least}, not {shown(value)}")


@dataclass(frozen=True, slots=True)
class Timeout:
    """
    How long each stage of a request may take, in seconds; None means without end.

    All are deadlines on the monotonic clock: a slow drip cannot stretch ``total``.

    Args:
        total: From the call until the body is read; for a streamed response until its head.
        connect: DNS, TCP, proxy and TLS together.
        read: Between two pieces of progress in receiving.
        write: Between two pieces of progress in sending.
        pool: How long the queue for a connection may stand still. As long as it moves, waiting in
            it is bounded by ``total`` alone.

    Raises:
        UsageError: A value that is not a number greater than 0, or None.
    """

    total: float | None = None
    _: KW_ONLY
    connect: float | None = 10
    read: float | None = 30
    write: float | None = 30
    pool: float | None = 30

    def __post_init__(self) -> None:
        for name in ("total", "connect", "read", "write", "pool"):
            _check_seconds("Timeout", name, getattr(self, name))


NO_TIMEOUT = Timeout(None, connect=None, read=None, write=None, pool=None)


def as_timeout(value: Timeout | float | None) -> Timeout:
    """
    Return the Timeout that a user's value stands for: a number is the total, None is no timeout at all.

    Raises:
        UsageError: The value is none of these.
    """
    if isinstance(value, Timeout):
        return value
    if value is None:
        return NO_TIMEOUT
    if not _is_number(value):
        raise UsageError(f"timeout: takes a Timeout, a number of seconds or None, not {shown(value)}")
    if not _has_length(value):
        raise UsageError(f"timeout: must be greater than 0 seconds, not {shown(value)}")
    return Timeout(value)


@dataclass(frozen=True, slots=True)
class Limits:
    """
    How much a client holds open and takes in; None means no limit.

    Args:
        max_connections: Connections of the whole client: dialling, in use, idle and closing together.
        max_connections_per_host: The same for one origin.
        max_keepalive_connections: Idle connections kept.
        keepalive_expiry: Seconds an idle connection is kept; 0 keeps none.
        max_header_bytes: Bytes of one answer's head, and of its trailers.
        max_headers: Fields in one answer's head, and in its trailers.
        max_content_bytes: Decoded bytes that reading a body into memory may gather.

    Raises:
        UsageError: A value that is not a number, or below what can work.
    """

    max_connections: int | None = 100
    max_connections_per_host: int | None = None
    max_keepalive_connections: int | None = None
    keepalive_expiry: float | None = 15
    max_header_bytes: int | None = DEFAULT_MAX_HEADER_BYTES
    max_headers: int | None = DEFAULT_MAX_HEADERS
    max_content_bytes: int | None = None

    def __post_init__(self) -> None:
        _check_count("max_connections", self.max_connections, 1)
        _check_count("max_connections_per_host", self.max_connections_per_host, 1)
        _check_count("max_keepalive_connections", self.max_keepalive_connections, 0)
        _check_seconds("Limits", "keepalive_expiry", self.keepalive_expiry, allow_zero=True)
        _check_count("max_header_bytes", self.max_header_bytes, 64)
        _check_count("max_headers", self.max_headers, 0)
        _check_count("max_content_bytes", self.max_content_bytes, 0)


@dataclass(frozen=True, slots=True)
class Retry:
    """
    Which requests are tried again, how often, and after how long; see `aiosock.middleware.retry`.

    Before the second try passes a random time between 0 and ``backoff`` seconds, before each further one up to twice as
    long, and never more than ``max_backoff``.

    Args:
        attempts: How many tries there are at most, the first included; 1 is none but the first.
        backoff: Seconds, see above; 0 tries again at once.
        max_backoff: Seconds, see above.
        statuses: Answers with one of these are tried again.
        methods: The methods that may be sent twice (RFC 9110, 9.2.2); any other may where the request has an
            ``Idempotency-Key``.
        respect_retry_after: Wait as long as the server asks for, if that is longer (RFC 9110, 10.2.3).
        max_retry_after: Seconds; a server that asks for more is not waited for: its answer is the caller's at once.
            None for any time at all.
        budget: Retries per request that one origin gets in the long run, 0.2 being one for five; None is as many as
            the other rules allow. Besides there is a reserve of 10, and one of them comes back each second.

    Raises:
        UsageError: A value that makes no sense.
    """

    attempts: int = 3
    _: KW_ONLY
    backoff: float = 0.5
    max_backoff: float = 30
    statuses: Collection[int] = frozenset({429, 500, 502, 503, 504})
    methods: Collection[str] = IDEMPOTENT_METHODS
    respect_retry_after: bool = True
    max_retry_after: float | None = 300
    budget: float | None = 0.2

    def __post_init__(self) -> None:
        if self.attempts is None:
            raise UsageError("Retry: attempts takes a whole number, not None")
        _check_count("attempts", self.attempts, 1, "Retry")
        for name in ("backoff", "max_backoff"):
            if (value := getattr(self, name)) in (None, math.inf):
                raise UsageError(f"Retry: {name} takes a number of seconds that end, not {shown(value)}")
            _check_seconds("Retry", name, value, allow_zero=True)
        _check_seconds("Retry", "max_retry_after", self.max_retry_after, allow_zero=True)
        object.__setattr__(self, "statuses", as_statuses("Retry", self.statuses))
        methods = self.methods
        if isinstance(methods, (str, bytes)) or not _all(methods, str) or not all(map(_is_method, methods)):
            raise UsageError(f"Retry: methods takes a set of methods, not {shown(methods)}")
        object.__setattr__(self, "methods", frozenset(methods))
        if not isinstance(self.respect_retry_after, bool):
            raise UsageError(f"Retry: respect_retry_after is True or False, not {shown(self.respect_retry_after)}")
        budget = self.budget
        if budget is not None and (
            isinstance(budget, bool) or not isinstance(budget, (int, float)) or not 0 <= budget <= sys.float_info.max
        ):
            raise UsageError(
                f"Retry: budget takes a number of retries per request, 0 or more, or None, not {shown(budget)}"
            )


def _is_method(name: str) -> bool:
    """Tell whether it is a token (RFC 9110, 5.6.2); nothing else can be a request's method."""
    return name != "" and name.isascii() and all(char.isalnum() or char in "!#$%&'*+-.^_`|~" for char in name)


def _all(values: object, kind: type) -> bool:
    # Bytes are a collection of numbers that nobody means.
    return (
        isinstance(values, Collection)
        and not isinstance(values, (bytes, bytearray, memoryview))
        and all(isinstance(value, kind) and not isinstance(value, bool) for value in values)
    )


def as_statuses(owner: str, value: object) -> frozenset[int]:
    """
    Return status codes as a set.

    Args:
        owner: Whose argument ``statuses`` this is, for the error.
        value: The codes, final ones (RFC 9110, 15).

    Raises:
        UsageError: It is no collection of numbers from 200 to 999.
    """
    if not _all(value, int):
        raise UsageError(f"{owner}: statuses takes a set of status codes, not {shown(value)}")
    statuses: frozenset[int] = frozenset(value)  # type: ignore[call-overload]  # just looked at
    for status in statuses:
        if not 200 <= status <= 999:
            raise UsageError(f"{owner}: statuses takes codes from 200 to 999, not {status}")
    return statuses


def as_retry(value: Retry | int | None) -> Retry | None:
    """
    Return the Retry that a user's value stands for: a number is that of attempts, None is no retry at all.

    Raises:
        UsageError: The value is none of these.
    """
    if value is None or isinstance(value, Retry):
        return value
    if isinstance(value, bool) or not isinstance(value, int):
        raise UsageError(f"retry: takes a Retry, a number of attempts or None, not {shown(value)}")
    if value < 1:
        raise UsageError(f"retry: must be at least 1 attempt, not {shown(value)}")
    return Retry(value)
