"""Dates of HTTP fields, and Retry-After."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiosock.protocol.date import parse_http_date, parse_retry_after

# RFC 9110, 5.6.7: one instant in the three forms.
EXAMPLE = 784111777.0
NOW = datetime(2026, 6, 15, 12, 0, 0, tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    "text",
    [
        "Sun, 06 Nov 1994 08:49:37 GMT",
        "Sunday, 06-Nov-94 08:49:37 GMT",
        "Sun Nov  6 08:49:37 1994",
        # What caches are to take as well (RFC 9111, 4.2), and what some servers send.
        "sun, 06 nov 1994 08:49:37 gmt",
        "Sun, 6 Nov 1994 08:49:37 GMT",
        "Sunday, 06-Nov-1994 08:49:37 GMT",
        "Sun Nov 06 08:49:37 1994",
        "Mon, 06 Nov 1994 08:49:37 GMT",
        " Sun, 06 Nov 1994 08:49:37 GMT\t",
    ],
)
@pytest.mark.parametrize("now", [None, NOW])
def test_a_date_is_read_in_each_of_its_forms(text: str, now: float | None) -> None:
    assert parse_http_date(text, now) == EXAMPLE


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0",
        "-1",
        "never",
        "Sun, 06 Nov 1994 08:49:37",
        "Sun, 06 Nov 1994 08:49:37 CET",
        # To caches another zone is none (RFC 9111, 4.2).
        "Sun, 06 Nov 1994 08:49:37 UTC",
        "Sun, 06 Nov 1994 08:49:37 +0000",
        "Sun, 06-Nov 1994 08:49:37 GMT",
        "Sun, 06 Nov 1994 8:49:37 GMT",
        "Sun, 06 Nov 1994 24:00:00 GMT",
        "Sun, 06 Nov 1994 08:60:37 GMT",
        "Sun, 06 Nov 1994 08:49:61 GMT",
        "Sun, 31 Nov 1994 08:49:37 GMT",
        "Sun, 00 Nov 1994 08:49:37 GMT",
        "Sun, 06 Nov 0000 08:49:37 GMT",
        "Sun, 06 Nov 994 08:49:37 GMT",
        "Xxx, 06 Nov 1994 08:49:37 GMT",
        "Sun, 06 Nox 1994 08:49:37 GMT",
        "Sun, 06 Nov 1994 08:49:37 GMT, Sun, 06 Nov 1994 08:49:37 GMT",
        "Sun, \u0660\u0666 Nov 1994 08:49:37 GMT",
        "\u017fun, 06 Nov 1994 08:49:37 GMT",
        "Sunday, 29-Feb-95 08:49:37 GMT",
    ],
)
@pytest.mark.parametrize("now", [None, NOW])
def test_what_is_no_date_is_none(text: str, now: float | None) -> None:
    assert parse_http_date(text, now) is None


def test_a_leap_second_is_the_second_after_it() -> None:
    assert parse_http_date("Sat, 31 Dec 2016 23:59:60 GMT") == datetime(2017, 1, 1, tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("text", "year"),
    [
        ("Monday, 15-Jun-76 12:00:00 GMT", 2076),
        ("Monday, 15-Jun-76 12:00:01 GMT", 1976),
        ("Monday, 16-Jun-76 12:00:00 GMT", 1976),
        ("Monday, 01-Jan-77 00:00:00 GMT", 1977),
        ("Monday, 01-Jan-99 00:00:00 GMT", 1999),
        ("Monday, 01-Jan-00 00:00:00 GMT", 2000),
        ("Monday, 01-Jan-27 00:00:00 GMT", 2027),
        ("Saturday, 29-Feb-72 00:00:00 GMT", 2072),
    ],
)
def test_a_year_of_two_digits_is_never_more_than_fifty_years_ahead(text: str, year: int) -> None:
    date = parse_http_date(text, NOW)
    assert date is not None
    assert datetime.fromtimestamp(date, UTC).year == year


@pytest.mark.parametrize(("digits", "year"), [("70", 1970), ("69", 2069), ("99", 1999)])
def test_without_a_now_years_of_two_digits_are_from_1970_on(digits: str, year: int) -> None:
    date = parse_http_date(f"Monday, 15-Jun-{digits} 12:00:00 GMT")
    assert date is not None
    assert datetime.fromtimestamp(date, UTC).year == year


def test_a_now_out_of_this_world_makes_no_date() -> None:
    assert parse_http_date("Sunday, 06-Nov-94 08:49:37 GMT", 1e300) is None


@given(st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30)))
def test_every_date_that_can_be_written_is_read_back(moment: datetime) -> None:
    moment = moment.replace(microsecond=0, tzinfo=UTC)
    assert parse_http_date(format_datetime(moment, usegmt=True)) == moment.timestamp()


@given(st.text(max_size=40), st.none() | st.floats())
def test_no_text_makes_it_raise(text: str, now: float | None) -> None:
    parse_http_date(text, now)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        # RFC 9110, 10.2.3.
        ("120", 120.0),
        ("Fri, 31 Dec 1999 23:59:59 GMT", 59.0),
        ("0", 0.0),
        (" 5 ", 5.0),
        ("Fri, 31 Dec 1999 23:58:59 GMT", 0.0),
        ("Fri, 31 Dec 1999 23:59:59 UTC", 59.0),
        ("9" * 10_000, math.inf),
    ],
)
def test_retry_after_is_seconds_or_a_date(text: str, seconds: float) -> None:
    now = datetime(1999, 12, 31, 23, 59, 0, tzinfo=UTC).timestamp()
    assert parse_retry_after(text, now) == seconds


@pytest.mark.parametrize("text", ["", "-1", "1.5", "+3", "soon", "1e3", "5, 5", "\u0665", "inf", "Fri, 31 Dec 1999"])
def test_a_retry_after_that_makes_no_sense_is_none(text: str) -> None:
    assert parse_retry_after(text, NOW) is None
