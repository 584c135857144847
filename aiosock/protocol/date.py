"""
Dates as HTTP fields have them (RFC 9110, 5.6.7), and how long a Retry-After asks to wait (10.2.3).

Text to seconds; what time it is, is an argument. What makes no sense is None, and for the caller to ignore.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Final

_MONTHS: Final = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAYS: Final = "(?:mon|tues?|wed(?:nes)?|thu(?:rs)?|fri|sat(?:ur)?|sun)(?:day)?"
_MONTH: Final = f"(?P<month>{'|'.join(_MONTHS)})"
_CLOCK: Final = r"(?P<hour>[0-9]{2}):(?P<minute>[0-9]{2}):(?P<second>[0-9]{2})"


@cache
def _date() -> re.Pattern[str]:
    # IMF-fixdate and the form of RFC 850, which differ in separators and years. Caches take any case, and no other zone
    # than GMT (RFC 9111, 4.2).
    return re.compile(
        rf"{_DAYS}, (?P<day>[0-9]{{1,2}})(?P<mark>[ -]){_MONTH}(?P=mark)(?P<year>[0-9]{{4}}|[0-9]{{2}}) {_CLOCK} "
        r"GMT",
        re.ASCII | re.IGNORECASE,
    )


@cache
def _asctime_date() -> re.Pattern[str]:
    return re.compile(
        rf"{_DAYS} {_MONTH} (?P<day>[ 0-9]?[0-9]) {_CLOCK} (?P<year>[0-9]{{4}})", re.ASCII | re.IGNORECASE
    )


@cache
def _delay() -> re.Pattern[str]:
    return re.compile(r"[0-9]+")


def parse_http_date(text: str, now: float | None = None) -> float | None:
    """
    Read an HTTP-date in any of its three forms (RFC 9110, 5.6.7).

    Whether the day of the week is the right one is not looked at. A leap second counts as the second after it.

    Args:
        text: The field value.
        now: Seconds since the epoch: a year of two digits that seems more than 50 years ahead of it is the latest one
            in the past. Without it, such years are those from 1970 to 2069.

    Returns:
        Seconds since the epoch, or None where it is no date.
    """
    text = text.strip(" \t")
    found = _date().fullmatch(text) or _asctime_date().fullmatch(text)
    if found is None:
        return None
    month = _MONTHS.index(found["month"].lower()) + 1
    second = int(found["second"])
    clock = (int(found["hour"]), int(found["minute"]), min(second, 59))
    # It is loaded for the first date.
    from datetime import UTC, datetime

    def at(year: int) -> float:
        return datetime(year, month, int(found["day"]), *clock, tzinfo=UTC).timestamp() + max(second - 59, 0)

    if second > 60:
        return None
    year = int(found["year"])
    try:
        if len(found["year"]) == 4:
            return at(year)
        if now is None:
            return at(year + (1900 if year >= 70 else 2000))
        this = datetime.fromtimestamp(now, UTC)
        year += this.year // 100 * 100
        # The 29th of February is there in some years only: what counts is the year, then the rest of the date.
        ahead = (year, month, int(found["day"]), *clock) > (this.year + 50, *this.timetuple()[1:6])
        return at(year - 100 if ahead else year)
    except (ValueError, OverflowError, OSError):
        return None


def parse_retry_after(text: str, now: float) -> float | None:
    """
    Read the value of a Retry-After field (RFC 9110, 10.2.3).

    Args:
        text: The field value: seconds, or a date.
        now: Seconds since the epoch.

    Returns:
        How many seconds to wait, 0 for a date that has passed (``math.inf`` is what no float can tell); None where it
        is neither, and to be ignored.
    """
    text = text.strip(" \t")
    if _delay().fullmatch(text) is not None:
        return float(text)
    # What UTC means is clear, and nothing expires by it: better to wait for too long than not.
    date = parse_http_date(f"{text[:-3]}GMT" if text[-4:].upper() == " UTC" else text, now)
    return None if date is None else max(date - now, 0.0)
