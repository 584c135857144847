"""What a user passes in has the defaults that are promised, cannot be changed, and refuses what makes no sense."""

from __future__ import annotations

import math
import re
from dataclasses import FrozenInstanceError, asdict
from typing import Any

import pytest

from aiosock.config import IDEMPOTENT_METHODS, NO_TIMEOUT, Limits, Retry, Timeout, as_retry, as_timeout
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


@pytest.mark.parametrize("value", ["5", True, b"5", [5], -1, 0, math.nan])
def test_what_stands_for_no_timeout(value: Any) -> None:
    with pytest.raises(UsageError, match=f"^timeout: .*, not {re.escape(repr(value))}$"):
        as_timeout(value)


def test_a_message_shows_only_the_start_of_what_is_long() -> None:
    with pytest.raises(UsageError) as info:
        as_timeout([0] * 1000)  # type: ignore[arg-type]  # that is the test
    assert len(str(info.value)) < 200


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


@pytest.mark.parametrize(
    ("value", "name"), [(Timeout(), "total"), (Limits(), "max_connections"), (Retry(), "attempts")]
)
def test_values_are_frozen(value: Any, name: str) -> None:
    with pytest.raises(FrozenInstanceError):
        setattr(value, name, 1)
    assert value == type(value)()
    assert hash(value) == hash(type(value)())


def test_the_defaults_of_retries() -> None:
    assert asdict(Retry()) == {
        "attempts": 3,
        "backoff": 0.5,
        "max_backoff": 30,
        "statuses": {429, 500, 502, 503, 504},
        "methods": IDEMPOTENT_METHODS,
        "respect_retry_after": True,
        "max_retry_after": 300,
        "budget": 0.2,
    }


def test_what_stands_for_retries() -> None:
    own = Retry(5)
    assert as_retry(own) is own
    assert as_retry(4) == Retry(attempts=4)
    assert as_retry(None) is None
    wrong: Any
    for wrong in (True, "3", 2.0, [3]):
        with pytest.raises(
            UsageError, match=f"^retry: takes a Retry, a number of attempts or None, not {re.escape(repr(wrong))}$"
        ):
            as_retry(wrong)
    for wrong in (0, -1):
        with pytest.raises(UsageError, match=f"^retry: must be at least 1 attempt, not {wrong}$"):
            as_retry(wrong)


def test_collections_of_any_kind_make_the_same_retry() -> None:
    given = Retry(statuses=[503, 429], methods=("GET",))
    assert given == Retry(statuses={429, 503}, methods=frozenset({"GET"}))
    assert hash(given) == hash(Retry(statuses=(429, 503), methods=["GET"]))
    assert Retry(statuses=(), methods=()).statuses == frozenset()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"attempts": None}, "attempts takes a whole number, not None"),
        ({"backoff": None}, "backoff takes a number of seconds that end, not None"),
        ({"backoff": -1}, "backoff must be 0 seconds or more, not -1"),
        ({"backoff": math.inf}, "backoff takes a number of seconds that end, not inf"),
        ({"max_backoff": math.inf}, "max_backoff takes a number of seconds that end, not inf"),
        ({"max_backoff": "30"}, "max_backoff takes a number of seconds or None, not '30'"),
        ({"max_backoff": math.nan}, "max_backoff must be 0 seconds or more, not nan"),
        ({"max_retry_after": -1}, "max_retry_after must be 0 seconds or more, not -1"),
        ({"statuses": 503}, "statuses takes a set of status codes, not 503"),
        ({"statuses": "503"}, "statuses takes a set of status codes, not '503'"),
        ({"statuses": [True]}, "statuses takes a set of status codes, not [True]"),
        ({"statuses": b"\xc8"}, "statuses takes a set of status codes, not b'\\xc8'"),
        ({"statuses": bytearray(1)}, "statuses takes a set of status codes, not bytearray(b'\\x00')"),
        ({"statuses": [103]}, "statuses takes codes from 200 to 999, not 103"),
        ({"statuses": [1000]}, "statuses takes codes from 200 to 999, not 1000"),
        ({"methods": "GET"}, "methods takes a set of methods, not 'GET'"),
        ({"methods": [b"GET"]}, "methods takes a set of methods, not [b'GET']"),
        *(
            ({"methods": [name]}, f"methods takes a set of methods, not [{name!r}]")
            for name in ("", "G ET", "GET\n", "\u0393ET", "GET/")
        ),
        ({"methods": b"GET"}, "methods takes a set of methods, not b'GET'"),
        ({"methods": None}, "methods takes a set of methods, not None"),
        ({"respect_retry_after": 1}, "respect_retry_after is True or False, not 1"),
        *(
            ({"budget": value}, f"budget takes a number of retries per request, 0 or more, or None, not {value!r:.60}")
            for value in (-0.1, math.inf, 10**400, math.nan, "0.2", True)
        ),
    ],
)
def test_a_retry_that_makes_no_sense_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=f"^Retry: {re.escape(message)}$"):
        Retry(**options)


def test_the_bounds_of_retries_may_be_reached() -> None:
    for options in ({"backoff": 0, "max_backoff": 0}, {"max_retry_after": None}, {"budget": None}, {"budget": 0}):
        assert asdict(Retry(**options)) | options == asdict(Retry(**options))  # type: ignore[arg-type]  # mixed values
