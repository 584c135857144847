"""Timeouts and limits have the defaults that are promised, cannot be changed, and refuse what makes no sense."""

from __future__ import annotations

import math
from dataclasses import FrozenInstanceError, asdict
from typing import Any

import pytest

from aiosock.config import NO_TIMEOUT, Limits, Timeout, as_timeout
from aiosock.errors import UsageError


def test_the_defaults_of_timeouts() -> None:
    assert asdict(Timeout()) == {"total": None, "connect": 10, "read": 30, "write": 30, "pool": 30}


def test_the_defaults_of_limits() -> None:
    assert asdict(Limits()) == {
        "max_connections": 100,
        "max_connections_per_host": None,
        "max_keepalive_connections": None,
        "keepalive_expiry": 15,
        "max_header_bytes": 256 * 1024,
        "max_headers": 1000,
        "max_content_bytes": None,
    }


def test_only_the_total_may_stand_without_a_name() -> None:
    assert Timeout(5) == Timeout(total=5)
    timeout: Any = Timeout
    with pytest.raises(TypeError):
        timeout(5, 10)


def test_what_stands_for_a_timeout() -> None:
    own = Timeout(connect=1)
    assert as_timeout(own) is own
    assert as_timeout(5) == Timeout(5)
    assert as_timeout(0.5).total == 0.5
    assert as_timeout(None) is NO_TIMEOUT
    assert set(asdict(NO_TIMEOUT).values()) == {None}


@pytest.mark.parametrize("value", ["5", True, b"5", [5], -1, 0])
def test_what_stands_for_no_timeout(value: Any) -> None:
    with pytest.raises(UsageError, match="^Timeout: total"):
        as_timeout(value)


@pytest.mark.parametrize("name", ["total", "connect", "read", "write", "pool"])
def test_the_values_of_a_timeout(name: str) -> None:
    for value in (None, 1, 0.001, math.inf):
        assert getattr(Timeout(**{name: value}), name) == value
    for value in (0, 0.0, -1, math.nan, -math.inf):
        with pytest.raises(UsageError, match=f"Timeout: {name} must be greater than 0 seconds, not {value!r}"):
            Timeout(**{name: value})
    wrong: Any
    for wrong in ("1", True, False, 1j, object):
        with pytest.raises(UsageError, match=f"Timeout: {name} takes a number of seconds or None, not "):
            Timeout(**{name: wrong})


@pytest.mark.parametrize(
    ("name", "least"),
    [
        ("max_connections", 1),
        ("max_connections_per_host", 1),
        ("max_keepalive_connections", 0),
        ("max_header_bytes", 64),
        ("max_headers", 0),
        ("max_content_bytes", 0),
    ],
)
def test_the_counts_of_limits(name: str, least: int) -> None:
    given: Any
    for given in (None, least, 10**9):
        assert getattr(Limits(**{name: given}), name) == given
    with pytest.raises(UsageError, match=f"Limits: {name} must be at least {least}, not {least - 1}"):
        Limits(**{name: least - 1})
    for given in (1.5, "100", True, math.inf):
        with pytest.raises(UsageError, match=f"Limits: {name} takes a whole number or None, not "):
            Limits(**{name: given})


def test_how_long_a_connection_is_kept() -> None:
    for value in (None, 0, 0.5, 60):
        assert Limits(keepalive_expiry=value).keepalive_expiry == value
    wrong: Any
    for wrong in (-1, math.nan, "15", True):
        with pytest.raises(UsageError, match="^Limits: keepalive_expiry"):
            Limits(keepalive_expiry=wrong)


@pytest.mark.parametrize(("value", "name"), [(Timeout(), "total"), (Limits(), "max_connections")])
def test_values_are_frozen(value: Any, name: str) -> None:
    with pytest.raises(FrozenInstanceError):
        setattr(value, name, 1)
    assert value == type(value)()
    assert hash(value) == hash(type(value)())
