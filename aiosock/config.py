"""
The frozen values that a user passes in: how long to wait, and how much is too much.

Nothing here acts on them; a value that makes no sense is refused at construction.
"""

from __future__ import annotations

import math
from dataclasses import KW_ONLY, dataclass

from aiosock.errors import UsageError

KIB = 1024
DEFAULT_MAX_HEADER_BYTES = 256 * KIB
DEFAULT_MAX_HEADERS = 1000


def _check_seconds(owner: str, name: str, value: float | None, *, allow_zero: bool = False) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise UsageError(f"{owner}: {name} takes a number of seconds or None, not {value!r}")
    if math.isnan(value) or value < 0 or (value == 0 and not allow_zero):
        raise UsageError(f"{owner}: {name} must be greater than 0 seconds, not {value!r}")


def _check_count(name: str, value: int | None, least: int) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int):
        raise UsageError(f"Limits: {name} takes a whole number or None, not {value!r}")
    if value < least:
        raise UsageError(f"Limits: {name} must be at least {least}, not {value!r}")


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
