"""
The rules of a private cache (RFC 9111, 5861, 8246): what may be kept, for how long it is fresh, which request it
answers, and what a validation makes of it.

Nothing here keeps anything, or knows what time it is: that is an argument, in seconds since the epoch. What servers
send is read with bounded work, and never refused with an exception.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from functools import cache
from typing import Final, TypeAlias

from multidict import CIMultiDict, MultiMapping

from aiosock.protocol.date import parse_http_date

Fields: TypeAlias = MultiMapping[str]
Directives: TypeAlias = Mapping[str, str | None]

# RFC 9111, 1.2.2: what is longer counts as this.
MAX_SECONDS: Final = 2**31
# What a cache only supposes is not supposed for longer than a day.
MAX_HEURISTIC_SECONDS: Final = 86400
HEURISTIC_SHARE: Final = 0.1
MAX_VARIED_FIELDS: Final = 64

# RFC 9110, 15.1, without 206: parts are not kept.
HEURISTIC_STATUSES: Final = frozenset({200, 203, 204, 300, 301, 308, 404, 405, 410, 414, 501})
UNDERSTOOD_STATUSES: Final = HEURISTIC_STATUSES | {302, 303, 307}
ERROR_STATUSES: Final = frozenset({500, 502, 503, 504})
"""What counts as an error for stale-if-error (RFC 5861, 4)."""

# RFC 9110, 9.2.1, and QUERY, which is safe by its own definition.
SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "QUERY"})

_FORBIDDING: Final = frozenset({"no-store", "no-cache", "must-revalidate", "only-if-cached", "max-age", "min-fresh"})

# RFC 9111, 3.1. A cookie is set once: by the answer that sets it, and not by each copy of it.
_NEVER_KEPT: Final = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "proxy-authenticate",
        "proxy-authentication-info",
        "proxy-authorization",
        "set-cookie",
        "set-cookie2",
    }
)
# RFC 9111, 3.2: what the kept body depends on stays as it was.
_BODY_FIELDS: Final = frozenset({"content-length", "content-encoding", "content-range"})
# What is added after the cache has seen the request.
_ADDED_LATER: Final = frozenset({"cookie", "authorization"})


@dataclass(frozen=True, slots=True)
class Entry:
    """
    A response that is kept, or about to be.

    Attributes:
        method: ``"GET"`` or ``"HEAD"``, which it answered.
        status_code: Its status.
        reason: Its reason phrase.
        http_version: Its version.
        headers: Its fields.
        varied: The request fields that selected it, in lower case, and their values; None where there was none.
        request_time: When it was asked for.
        response_time: When it came.
        body: Its body as it was sent, content codings untouched.
        partition: Whom it is for; only requests of the same partition get it.
    """

    method: str
    status_code: int
    reason: str
    http_version: str
    headers: tuple[tuple[str, str], ...]
    varied: tuple[tuple[str, str | None], ...]
    request_time: float
    response_time: float
    body: bytes = b""
    partition: str = ""

    @property
    def fields(self) -> CIMultiDict[str]:
        """The fields as a multidict of one's own."""
        return CIMultiDict(self.headers)


class Use(Enum):
    """What a kept response may be used for."""

    FRESH = "fresh"
    STALE = "stale"
    """Past its time, but the request accepts that."""
    WHILE_REVALIDATE = "while-revalidate"
    """Past its time, but to be used while it is validated (RFC 5861, 3)."""
    VALIDATE = "validate"
    """To be validated first."""


@cache
def _directive() -> re.Pattern[str]:
    token = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]++"  # noqa: S105  # a grammar's token is no secret
    value = rf"=(?:\"((?:[^\"\\]|\\.)*+)\"|({token}))"
    return re.compile(rf"[ \t]*+(?:({token})(?:{value})?)?[ \t]*+(?:,|\Z)", re.DOTALL)


def parse_cache_control(values: Iterable[str]) -> tuple[dict[str, str | None], bool]:
    """
    Return the directives of Cache-Control fields by their names in lower case, and whether all was well-formed.

    The first of each name counts (RFC 9111, 4.2.1). What is malformed is passed over up to its next comma, but for the
    names of directives that forbid something: servers forget commas, and mean it all the same.
    """
    directives: dict[str, str | None] = {}
    well_formed = True
    for value in values:
        position = 0
        while position < len(value):
            found = _directive().match(value, position)
            if found is None:
                well_formed = False
                end = value.find(",", position) + 1 or len(value)
                for word in re.findall(r"[\w-]+", value[position:end].lower()):
                    if word in _FORBIDDING:
                        directives.setdefault(word, "")
                position = end
                continue
            position = found.end()
            name, quoted, token = found.groups()
            if name is not None:
                argument = token if quoted is None else re.sub(r"\\(.)", r"\1", quoted, flags=re.DOTALL)
                directives.setdefault(name.lower(), argument)
    return directives, well_formed


def directives_of(fields: Fields) -> dict[str, str | None]:
    """Return the directives of a message; without any, ``Pragma: no-cache`` of a request stands for no-cache."""
    if "Cache-Control" in fields:
        return parse_cache_control(fields.getall("Cache-Control"))[0]
    if "no-cache" in fields.get("Pragma", "").lower():
        return {"no-cache": None}
    return {}


def parse_seconds(text: str | None) -> int | None:
    """Return delta-seconds (RFC 9111, 1.2.2), at most 2**31; None for what is none."""
    if text is None or re.fullmatch(r"[0-9]+", text) is None:
        return None
    significant = text.lstrip("0")
    return MAX_SECONDS if len(significant) > 10 else min(int(significant or "0"), MAX_SECONDS)


def date_of(fields: Fields, response_time: float) -> float:
    """Return when a response was made: its Date, or else when it came."""
    date = parse_http_date(fields.get("Date", ""))
    return response_time if date is None else date


def freshness_lifetime(status_code: int, fields: Fields, response_time: float) -> float:
    """
    Return for how many seconds after it was made a response is fresh (RFC 9111, 4.2.1 and 4.2.2).

    It is max-age; else until Expires; else a tenth of the time since Last-Modified, and at most a day. What is said in
    a way that makes no sense says: not at all.
    """
    directives = _response_directives(fields)
    if "max-age" in directives:
        return parse_seconds(directives["max-age"]) or 0
    date = date_of(fields, response_time)
    if "Expires" in fields:
        expires = parse_http_date(fields["Expires"])
        return 0 if expires is None else min(max(expires - date, 0), MAX_SECONDS)
    modified = parse_http_date(fields.get("Last-Modified", ""))
    if modified is None or not (status_code in HEURISTIC_STATUSES or "public" in directives):
        return 0
    return min(max(date - modified, 0) * HEURISTIC_SHARE, MAX_HEURISTIC_SECONDS)


def current_age(fields: Fields, request_time: float, response_time: float, now: float) -> float:
    """Return how many seconds ago a response was made or validated by its origin (RFC 9111, 4.2.3)."""
    apparent_age = max(0, response_time - date_of(fields, response_time))
    # Of several the first counts, and one that is malformed does not (RFC 9111, 5.1).
    age_value = parse_seconds(fields.get("Age", "").partition(",")[0].strip(" \t")) or 0
    corrected_age = age_value + max(0, response_time - request_time)
    # A clock that was set back makes nothing younger than it came.
    return max(apparent_age, corrected_age) + max(0, now - response_time)


def age_of(entry: Entry, now: float) -> float:
    """Return the `current_age` of a kept response."""
    return current_age(entry.fields, entry.request_time, entry.response_time, now)


def may_store(method: str, status_code: int, request: Fields, response: Fields, response_time: float) -> bool:
    """
    Tell whether a private cache may keep a response (RFC 9111, 3), and has any use for it.

    Parts, and what varies on everything, are not kept; nor is what could never be used without asking for it anew.

    Args:
        method: Of the request.
        status_code: Of the response.
        request: The fields of the request.
        response: The fields of the response.
        response_time: When it came.
    """
    if method not in ("GET", "HEAD") or status_code < 200 or status_code in (206, 304) or "Content-Range" in response:
        return False
    if "no-store" in directives_of(request):
        return False
    directives = _response_directives(response)
    if "must-understand" in directives:
        # RFC 9111, 5.2.2.3: no-store is then for those who do not know the status.
        if status_code not in UNDERSTOOD_STATUSES:
            return False
    elif "no-store" in directives:
        return False
    explicit = "Expires" in response or not directives.keys().isdisjoint(("public", "private", "max-age"))
    if not explicit and status_code not in HEURISTIC_STATUSES:
        return False
    if vary_of(request, response) is None:
        return False
    if has_validator(response) or not directives.keys().isdisjoint(("stale-while-revalidate", "stale-if-error")):
        return True
    return freshness_lifetime(status_code, response, response_time) > 0


def is_public(response: Fields) -> bool:
    """Tell whether a response is for everybody (RFC 9111, 5.2.2.9); the stricter of two counts (4.2.1)."""
    directives = _response_directives(response)
    return "public" in directives and "private" not in directives


def has_validator(fields: Fields) -> bool:
    """Tell whether a response can be validated."""
    return "ETag" in fields or "Last-Modified" in fields


def vary_of(request: Fields, response: Fields) -> tuple[tuple[str, str | None], ...] | None:
    """
    Return the request's fields that a response depends on (RFC 9111, 4.1), their names in lower case and sorted.

    None where no other request can be known to match: it varies on everything, on too many fields, or on Cookie or
    Authorization where the request as it is seen here has none, since they are added later.
    """
    names = {name.strip(" \t").lower() for value in response.getall("Vary", ()) for name in value.split(",")} - {""}
    if "*" in names or len(names) > MAX_VARIED_FIELDS:
        return None
    if any(name in _ADDED_LATER and name not in request for name in names):
        return None
    return tuple((name, _normal(request, name)) for name in sorted(names))


def matches(varied: Iterable[tuple[str, str | None]], request: Fields) -> bool:
    """Tell whether a request has the fields that selected a kept response."""
    return all(_normal(request, name) == value for name, value in varied)


def _normal(request: Fields, name: str) -> str | None:
    if name not in request:
        return None
    # Lines may be combined, and white space around commas means nothing.
    return ",".join(part.strip(" \t") for value in request.getall(name) for part in value.split(","))


def choose_use(entry: Entry, request: Fields, now: float) -> Use:
    """Return what a kept response may be used for by a request that it matches (RFC 9111, 4 and 5.2.1)."""
    fields = entry.fields
    asked, said = directives_of(request), _response_directives(fields)
    if "no-cache" in asked or "no-cache" in said:
        return Use.VALIDATE
    age = age_of(entry, now)
    lifetime = freshness_lifetime(entry.status_code, fields, entry.response_time)
    staleness = age - lifetime
    # RFC 8246: while it is fresh, reloading asks for nothing new.
    most = None if "immutable" in said and staleness < 0 else _limit(asked, "max-age")
    too_old = most is not None and age > most
    if staleness < 0 and not too_old and -staleness >= (_limit(asked, "min-fresh") or 0):
        return Use.FRESH
    if "must-revalidate" in said:
        return Use.VALIDATE
    if "max-stale" in asked and "min-fresh" not in asked:
        accepted = MAX_SECONDS if asked["max-stale"] is None else parse_seconds(asked["max-stale"]) or 0
        if max(staleness, 0 if most is None else age - most) <= accepted:
            return Use.STALE
    if 0 <= staleness <= (parse_seconds(said.get("stale-while-revalidate")) or -1):
        return Use.VALIDATE if too_old or "min-fresh" in asked else Use.WHILE_REVALIDATE
    return Use.VALIDATE


def serves_errors(entry: Entry, request: Fields, now: float) -> bool:
    """Tell whether a kept response may stand in for an error (RFC 5861, 4)."""
    fields = entry.fields
    asked, said = directives_of(request), _response_directives(fields)
    if not said.keys().isdisjoint(("must-revalidate", "no-cache")) or "no-cache" in asked:
        return False
    staleness = age_of(entry, now) - freshness_lifetime(entry.status_code, fields, entry.response_time)
    allowed = [parse_seconds(one.get("stale-if-error")) for one in (asked, said)]
    return any(seconds is not None and staleness <= seconds for seconds in allowed)


def _limit(asked: Directives, name: str) -> int | None:
    """Return the seconds of a request's directive; None where it has none, 0 where that makes no sense."""
    return parse_seconds(asked[name]) or 0 if name in asked else None


def _response_directives(fields: Fields) -> dict[str, str | None]:
    return parse_cache_control(fields.getall("Cache-Control", ()))[0]


def conditions(entry: Entry) -> list[tuple[str, str]]:
    """Return the fields that ask whether a kept response is still good (RFC 9111, 4.3.1); none where it can't be."""
    fields = entry.fields
    asked = []
    if "ETag" in fields:
        asked.append(("If-None-Match", fields["ETag"]))
    if "Last-Modified" in fields:
        asked.append(("If-Modified-Since", fields["Last-Modified"]))
    return asked


def confirms(entry: Entry, not_modified: Fields) -> bool:
    """Tell whether a 304 is about this response (RFC 9111, 4.3.4), which is the only one that was asked about."""
    if "ETag" in not_modified:
        # Servers that compress weaken the tags of their answers, and not those of their confirmations.
        return _opaque(not_modified["ETag"]) == _opaque(entry.fields.get("ETag", ""))
    return "Last-Modified" not in not_modified or not_modified["Last-Modified"] == entry.fields.get("Last-Modified")


def describes_same(entry: Entry, head: Fields) -> bool:
    """Tell whether the answer to a HEAD is that of the kept GET (RFC 9111, 4.3.5)."""
    fields = entry.fields
    return all(
        name not in head or head[name] == fields.get(name) for name in ("ETag", "Last-Modified", "Content-Length")
    )


def _opaque(etag: str) -> str:
    return etag.strip().removeprefix("W/")


def kept_fields(fields: Fields, body_bytes: int | None, date: str) -> tuple[tuple[str, str], ...]:
    """
    Return the fields of a response that are kept (RFC 9111, 3.1).

    Args:
        fields: All of them.
        body_bytes: The size of the body; a Content-Length that says another is left out. None where there is no body.
        date: The Date for a response that has none (RFC 9110, 6.6.1).
    """
    hop_by_hop = _hop_by_hop(fields)
    kept = [(str(name), value) for name, value in fields.items() if name.lower() not in hop_by_hop]
    if body_bytes is not None:
        wrong = [value for value in fields.getall("Content-Length", ()) if value != str(body_bytes)]
        kept = [(name, value) for name, value in kept if not wrong or name.lower() != "content-length"]
    if "Date" not in fields:
        kept.append(("Date", date))
    return tuple(kept)


def freshened(
    entry: Entry, answer: Fields, request: Fields, request_time: float, response_time: float, date: str
) -> Entry:
    """
    Return a kept response with the fields of the answer that confirmed it (RFC 9111, 3.2).

    Args:
        entry: The response.
        answer: The fields of the 304, or of the answer to HEAD.
        request: The fields of the request that it matches.
        request_time: When it was sent.
        response_time: When the answer came.
        date: The Date for an answer that has none.
    """
    new = [(name, value) for name, value in kept_fields(answer, None, date) if name.lower() not in _BODY_FIELDS]
    # How old it was when it came says nothing any more.
    replaced = {name.lower() for name, _ in new} | {"age"}
    old = [(name, value) for name, value in entry.headers if name.lower() not in replaced]
    headers = (*old, *new)
    varied = vary_of(request, CIMultiDict(headers))
    return replace(
        entry,
        headers=headers,
        varied=entry.varied if varied is None else varied,
        request_time=request_time,
        response_time=response_time,
    )


def _hop_by_hop(fields: Fields) -> set[str]:
    named = {name.strip(" \t").lower() for value in fields.getall("Connection", ()) for name in value.split(",")}
    return named | _NEVER_KEPT


def select(entries: Iterable[Entry], method: str, request: Fields) -> Entry | None:
    """
    Return the kept response of a URL that answers a request, of several the most recent (RFC 9111, 4 and 4.1).

    One that varies on nothing stands back behind those that do: servers forget to say so of their default.

    Args:
        entries: All that are kept for the URL, and for whom the request is.
        method: Of the request. What answered a GET answers a HEAD too.
        request: Its fields.
    """
    fitting = [
        entry for entry in entries if (entry.method == "GET" or method == "HEAD") and matches(entry.varied, request)
    ]
    return max(fitting, key=_recency, default=None)


def _recency(entry: Entry) -> tuple[bool, float, float]:
    return bool(entry.varied), date_of(entry.fields, entry.response_time), entry.response_time
