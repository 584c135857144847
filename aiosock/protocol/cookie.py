"""
Cookies as text (RFC 6265bis): the grammar of Set-Cookie and Cookie, dates, and what matches what.

Text to values and values to text; nothing is stored here and time is an argument. Field values are text of octets,
one character (at most U+00FF) for each. What peers send never raises: it is ignored where the standard says so.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cache
from typing import Final, NamedTuple

from aiosock.errors import UsageError

MAX_COOKIE_BYTES: Final = 4096
"""The most that name and value may have together."""
MAX_ATTRIBUTE_BYTES: Final = 1024
MAX_AGE_SECONDS: Final = 400 * 24 * 60 * 60

MAX_TIME: Final = 1e18
"""The latest time, in seconds since the epoch, and the greatest distance before it."""

LONG_AGO: Final = 0.0
"""When a cookie expired whose server says that it did, but not when."""

SAME_SITE: Final = {"strict": "Strict", "lax": "Lax", "none": "None"}

_WHITE_SPACE: Final = " \t"
_MONTHS: Final = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_PREFIXES: Final = ("__secure-", "__host-", "__http-")


@cache
def _forbidden() -> re.Pattern[str]:
    # Control characters, save the tab, and what is no octet.
    return re.compile(r"[\x00-\x08\x0a-\x1f\x7f]|[^\x00-\xff]")


@cache
def _domain() -> re.Pattern[str]:
    # A host as URLs have it in the end; an IPv6 address may have a zone.
    return re.compile(r"[a-z0-9_:-][a-z0-9_.:-]*(?:%[A-Za-z0-9._~-]+)?")


@cache
def _delimiters() -> re.Pattern[str]:
    return re.compile(r"[\t\x20-\x2f\x3b-\x40\x5b-\x60\x7b-\x7e]+")


@cache
def _time() -> re.Pattern[str]:
    return re.compile(r"([0-9]{1,2}):([0-9]{1,2}):([0-9]{1,2})(?:[^0-9].*)?", re.DOTALL)


@cache
def _day() -> re.Pattern[str]:
    return re.compile(r"([0-9]{1,2})(?:[^0-9].*)?", re.DOTALL)


@cache
def _year() -> re.Pattern[str]:
    return re.compile(r"([0-9]{2,4})(?:[^0-9].*)?", re.DOTALL)


@cache
def _max_age() -> re.Pattern[str]:
    return re.compile(r"-?[0-9]+")


@dataclass(frozen=True, slots=True)
class Cookie:
    """
    A cookie as a jar keeps it (RFC 6265bis, 5.7). Its repr leaves out the value.

    Args:
        name: May be empty where the value is not.
        value: As it goes on the wire, quotes included. Name and value have at most 4096 characters together.
        domain: A host in lower case and IDNA-encoded, or an IP address without brackets; empty for a cookie that is
            bound to no host.
        path: Begins with ``/``.
        expires: Seconds since the epoch; None for a cookie of the session.
        secure: Sent over https only, or to a loopback host.
        http_only: Not for scripts; kept, as nothing here is a script.
        same_site: ``"Strict"``, ``"Lax"``, ``"None"``, or None where nothing was said; kept, as no request here is
            made for another site.
        host_only: Sent to this very host; else to those below it as well. An IP address has none below it.
        partitioned: Set for one top-level site; kept, as there are none here.
        created: Seconds since the epoch; 0 for a cookie that no jar has taken yet.

    Raises:
        UsageError: A field that cannot be so; the message says which.
    """

    name: str
    value: str = field(repr=False)
    domain: str = ""
    path: str = "/"
    expires: float | None = None
    secure: bool = False
    http_only: bool = False
    same_site: str | None = None
    host_only: bool = True
    partitioned: bool = False
    created: float = 0.0

    def __post_init__(self) -> None:
        fault = _fault(self)
        if fault is not None:
            shown = repr(self.name[:40]) if isinstance(self.name, str) else "with a name that is no str"
            raise UsageError(f"Cookie {shown}: {fault}")


def _fault(cookie: Cookie) -> str | None:
    for name in ("name", "value", "domain", "path"):
        text = getattr(cookie, name)
        if not isinstance(text, str):
            return f"{name} is a str, not {type(text).__name__}"
        if _forbidden().search(text) is not None:
            return f"{name} has a control character, or one that is no octet"
        if text.strip(_WHITE_SPACE) != text:
            return f"{name} begins or ends with white space"
    for name in ("secure", "http_only", "host_only", "partitioned"):
        if not isinstance(getattr(cookie, name), bool):
            return f"{name} is a bool, not {type(getattr(cookie, name)).__name__}"
    for name in ("created",) if cookie.expires is None else ("created", "expires"):
        number = getattr(cookie, name)
        # NaN is neither more nor less, and an int may be too great for a float.
        if isinstance(number, bool) or not isinstance(number, (int, float)) or not abs(number) <= MAX_TIME:
            return f"{name} is a number of seconds"
    if not cookie.name and not cookie.value:
        return "it has neither a name nor a value"
    if "=" in cookie.name or ";" in cookie.name:
        return "name has an equals sign or a semicolon, which ends it"
    if ";" in cookie.value:
        return "value has a semicolon, which ends it"
    if len(cookie.name) + len(cookie.value) > MAX_COOKIE_BYTES:
        return f"name and value have more than {MAX_COOKIE_BYTES} characters"
    if not cookie.path.startswith("/"):
        return "path does not begin with '/'"
    if cookie.domain and _domain().fullmatch(cookie.domain) is None:
        return "domain is not a host in lower case, IDNA-encoded, without a leading dot or brackets"
    if not cookie.host_only and is_address(cookie.domain):
        return "an IP address has no hosts below it: host_only is True"
    if cookie.same_site is not None and cookie.same_site not in SAME_SITE.values():
        return "same_site is 'Strict', 'Lax', 'None' or None"
    return None


class SetCookie(NamedTuple):
    """
    What a Set-Cookie field says.

    Attributes:
        domain: The Domain attribute, in lower case and without its dot; empty where there is none.
        path: The Path attribute; empty where it stands for the default path, None where there is none.
        expires: Seconds since the epoch, after Max-Age or else Expires; None where neither makes sense.
    """

    name: str
    value: str
    domain: str
    path: str | None
    expires: float | None
    secure: bool
    http_only: bool
    same_site: str | None
    partitioned: bool


def parse_set_cookie(text: str, now: float) -> SetCookie | None:
    """
    Read the value of a Set-Cookie field (RFC 6265bis, 5.6).

    Args:
        text: The field value.
        now: Seconds since the epoch.

    Returns:
        What it says; None where the standard has it ignored: a control character, neither name nor value, or more
        than 4096 octets of both. Attributes of more than 1024 octets, or that make no sense, are left out.
    """
    if _forbidden().search(text) is not None:
        return None
    pair, *attributes = text.split(";")
    name, equals, value = pair.partition("=")
    if not equals:
        name, value = "", pair
    name, value = name.strip(_WHITE_SPACE), value.strip(_WHITE_SPACE)
    if not (name or value) or len(name) + len(value) > MAX_COOKIE_BYTES:
        return None
    domain = ""
    path = same_site = expires = max_age = None
    secure = http_only = partitioned = False
    for attribute in attributes:
        key, _, said = attribute.partition("=")
        said = said.strip(_WHITE_SPACE)
        if len(said) > MAX_ATTRIBUTE_BYTES:
            continue
        match key.strip(_WHITE_SPACE).lower():
            case "expires":
                date = parse_date(said)
                expires = expires if date is None else min(date, now + MAX_AGE_SECONDS)
            case "max-age" if _max_age().fullmatch(said) is not None:
                seconds = int(said)
                max_age = LONG_AGO if seconds <= 0 else now + min(seconds, MAX_AGE_SECONDS)
            case "domain":
                domain = said.removeprefix(".").lower()
            case "path":
                path = said if said.startswith("/") else ""
            case "secure":
                secure = True
            case "httponly":
                http_only = True
            case "samesite":
                same_site = SAME_SITE.get(said.lower())
            case "partitioned":
                partitioned = True
    expires = max_age if max_age is not None else expires
    return SetCookie(name, value, domain, path, expires, secure, http_only, same_site, partitioned)


def parse_date(text: str) -> float | None:
    """
    Read a date the way cookies have them, in any order and with anything between (RFC 6265bis, 5.1.1).

    Returns:
        Seconds since the epoch, or None where it is no date.
    """
    time: tuple[int, ...] | None = None
    day = month = year = None
    for token in _delimiters().split(text):
        if time is None and (found := _time().fullmatch(token)) is not None:
            time = tuple(map(int, found.groups()))
        elif day is None and (found := _day().fullmatch(token)) is not None:
            day = int(found[1])
        elif month is None and (name := token[:3].lower()) in _MONTHS:
            month = _MONTHS.index(name) + 1
        elif year is None and (found := _year().fullmatch(token)) is not None:
            year = int(found[1])
    if time is None or day is None or month is None or year is None:
        return None
    if year <= 99:
        year += 1900 if year >= 70 else 2000
    if year < 1601:
        return None
    # It is loaded for the first date.
    from datetime import UTC, datetime

    try:
        return datetime(year, month, day, time[0], time[1], time[2], tzinfo=UTC).timestamp()
    except ValueError:
        return None


def accept_cookie(
    received: SetCookie,
    host: str,
    path: str,
    now: float,
    *,
    trusted: bool,
    is_public_suffix: Callable[[str], bool],
) -> Cookie | str:
    """
    Return what a jar may keep of a received cookie, or the reason for which it is to be ignored (RFC 6265bis, 5.7).

    What depends on the cookies that the jar has already is left to the jar.

    Args:
        received: What the field says.
        host: The host that sent it, in lower case and IDNA-encoded.
        path: The path of the request, without its query.
        now: Seconds since the epoch.
        trusted: Whether it came over https, or from a loopback host.
        is_public_suffix: Tells of a domain whether anyone can have a host below it; asked only for a Domain that
            the host may set otherwise.
    """
    host_only = not received.domain or is_address(host)
    if received.domain:
        if not domain_match(host, received.domain):
            return "its Domain does not cover the host"
        if not host_only and is_public_suffix(received.domain):
            if received.domain != host:
                return "its Domain is a public suffix"
            host_only = True
    if received.secure and not trusted:
        return "it is Secure, and came over http"
    if received.same_site == "None" and not received.secure:
        return "it is SameSite=None and not Secure"
    if received.partitioned and not received.secure:
        return "it is Partitioned and not Secure"
    cookie_path = received.path or default_path(path)
    if _breaks_prefix(received, host_only, cookie_path):
        return "it is not what the prefix of its name promises"
    return Cookie(
        received.name,
        received.value,
        domain=received.domain if not host_only else host,
        path=cookie_path,
        expires=received.expires,
        secure=received.secure,
        http_only=received.http_only,
        same_site=received.same_site,
        host_only=host_only,
        partitioned=received.partitioned,
        created=now,
    )


def _breaks_prefix(received: SetCookie, host_only: bool, path: str) -> bool:
    """Tell whether the name promises what the attributes do not keep (RFC 6265bis, 4.1.3)."""
    name = received.name.lower()
    if not name:
        # On the wire it would look like a cookie of that name.
        return received.value.lower().startswith(_PREFIXES)
    if not name.startswith(_PREFIXES):
        return False
    if not received.secure:
        return True
    if name.startswith(("__http-", "__host-http-")) and not received.http_only:
        return True
    return name.startswith("__host-") and not (host_only and received.path is not None and path == "/")


def domain_match(host: str, domain: str) -> bool:
    """Tell whether a cookie's domain covers a host: the same, or above it (RFC 6265bis, 5.1.3)."""
    return host == domain or (host.endswith(f".{domain}") and not is_address(host))


def path_match(path: str, cookie_path: str) -> bool:
    """Tell whether a cookie's path covers a request's (RFC 6265bis, 5.1.4)."""
    if not path.startswith(cookie_path):
        return False
    return len(path) == len(cookie_path) or cookie_path.endswith("/") or path[len(cookie_path)] == "/"


def default_path(path: str) -> str:
    """Return the path of a cookie whose server named none, from the request's (RFC 6265bis, 5.1.4)."""
    if not path.startswith("/"):
        return "/"
    return path[: path.rindex("/")] or "/"


def is_address(host: str) -> bool:
    """Tell an IP address from a name; what ends in a number is one in some spelling or other, and no name."""
    if ":" in host:
        return True
    last = host.removesuffix(".").rpartition(".")[2]
    return last.isdigit() or (last.startswith("0x") and all(char in "0123456789abcdef" for char in last[2:]))


def is_loopback(host: str) -> bool:
    """Tell whether a host is this very machine: localhost and what is below it, 127.0.0.0/8, ::1."""
    name = host.removesuffix(".")
    if name == "localhost" or name.endswith(".localhost") or host == "::1":
        return True
    numbers = host.split(".")
    return numbers[0] == "127" and len(numbers) == 4 and all(number.isdigit() for number in numbers)


def encode_cookies(pairs: Iterable[tuple[str, str]]) -> str:
    """Return names and values as the value of a Cookie field (RFC 6265bis, 5.8.3)."""
    return "; ".join([f"{name}={value}" if name else value for name, value in pairs])
