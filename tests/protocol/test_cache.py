"""What a private cache may keep, for how long it is fresh, and what it answers: RFC 9111, 5861 and 8246."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from aiosock.protocol.cache import (
    MAX_SECONDS,
    Entry,
    Use,
    age_of,
    choose_use,
    conditions,
    confirms,
    current_age,
    describes_same,
    directives_of,
    freshened,
    freshness_lifetime,
    kept_fields,
    matches,
    may_store,
    parse_cache_control,
    parse_seconds,
    select,
    serves_errors,
    vary_of,
)

# Sun, 06 Nov 1994 08:49:37 GMT
THEN = 784111777.0
DATE = "Sun, 06 Nov 1994 08:49:37 GMT"
HOUR_LATER = "Sun, 06 Nov 1994 09:49:37 GMT"
HOUR_EARLIER = "Sun, 06 Nov 1994 07:49:37 GMT"
YEAR_EARLIER = "Sat, 06 Nov 1993 08:49:37 GMT"


def fields(*pairs: tuple[str, str], **named: str) -> CIMultiDict[str]:
    return CIMultiDict([*pairs, *((name.replace("_", "-"), value) for name, value in named.items())])


def entry(*pairs: tuple[str, str], response_time: float = THEN, **options: Any) -> Entry:
    made: dict[str, Any] = {
        "method": "GET",
        "status_code": 200,
        "reason": "OK",
        "http_version": "HTTP/1.1",
        "varied": (),
        "request_time": response_time,
    }
    return Entry(headers=pairs, response_time=response_time, **(made | options))


def control(*values: str) -> CIMultiDict[str]:
    return CIMultiDict([("Cache-Control", value) for value in values])


# Directives


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([], {}),
        (["max-age=3600"], {"max-age": "3600"}),
        (['max-age="3600"'], {"max-age": "3600"}),
        (["Max-Age=1, NO-CACHE"], {"max-age": "1", "no-cache": None}),
        (["no-store", "max-age=1"], {"no-store": None, "max-age": "1"}),
        (["max-age=1, max-age=2"], {"max-age": "1"}),
        ([",, a ,,b,"], {"a": None, "b": None}),
        # The example of section 5.2.3, and a quoted comma.
        (['private, community="UCI"'], {"private": None, "community": "UCI"}),
        (['no-cache="a, \\"b", x'], {"no-cache": 'a, "b', "x": None}),
    ],
)
def test_directives(values: list[str], expected: dict[str, str | None]) -> None:
    assert parse_cache_control(values) == (expected, True)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("max-age=, no-store", {"max-age": "", "no-store": None}),
        ("no-cache no-store\tMust-Revalidate, x", {"no-cache": "", "no-store": "", "must-revalidate": "", "x": None}),
        ("no-store, =1", {"no-store": None}),
        ("max-age =9, no-cache", {"max-age": "", "no-cache": None}),
        ("max-age= 9", {"max-age": ""}),
        ('no-store, x="', {"no-store": None}),
        ("public; max-age=9", {"max-age": ""}),
        ("must-understand no-store", {"no-store": ""}),
        ("\x00", {}),
    ],
)
def test_what_is_malformed_is_passed_over_but_for_what_forbids_something(
    value: str, expected: dict[str, str | None]
) -> None:
    assert parse_cache_control([value]) == (expected, False)


@given(st.lists(st.text(alphabet=st.sampled_from('max-age=1," \\\t\nno-store')) | st.text(), max_size=3))
def test_directives_never_raise(values: list[str]) -> None:
    directives, _ = parse_cache_control(values)
    assert all(name == name.lower() for name in directives)


def test_pragma_counts_where_there_is_no_cache_control() -> None:
    assert directives_of(fields(Pragma="no-cache")) == {"no-cache": None}
    assert directives_of(fields(Pragma="no-cache", Cache_Control="max-age=1")) == {"max-age": "1"}
    assert directives_of(fields(Pragma="x")) == directives_of(fields()) == {}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0", 0),
        ("0060", 60),
        ("2147483648", MAX_SECONDS),
        ("99999999999", MAX_SECONDS),
        ("9" * 5000, MAX_SECONDS),
        *((text, None) for text in (None, "", "-1", "1.5", " 1", "\u0661", "x")),
    ],
)
def test_seconds(text: str | None, expected: int | None) -> None:
    assert parse_seconds(text) == expected


# Freshness


@pytest.mark.parametrize(
    ("given_fields", "status", "expected"),
    [
        # 4.2.1, in its order.
        (fields(Cache_Control="max-age=60", Expires=HOUR_LATER, Date=DATE), 200, 60),
        (fields(Cache_Control="max-age=60, max-age=90"), 200, 60),
        (fields(Cache_Control="s-maxage=60"), 200, 0),
        (fields(Expires=HOUR_LATER, Date=DATE), 200, 3600),
        (fields(("Expires", HOUR_LATER), ("Expires", "0"), Date=DATE), 200, 3600),
        (fields(Expires=HOUR_LATER), 200, 3600),
        (fields(Expires=HOUR_LATER, Date=HOUR_EARLIER), 500, 7200),
        (fields(Expires=HOUR_EARLIER, Date=DATE), 200, 0),
        # What makes no sense is stale.
        (fields(Expires="0", Date=DATE, Last_Modified=YEAR_EARLIER), 200, 0),
        (fields(Cache_Control="max-age", Expires=HOUR_LATER, Date=DATE), 200, 0),
        (fields(Cache_Control="max-age=", Expires=HOUR_LATER, Date=DATE), 200, 0),
        (fields(Cache_Control="public; max-age=60", Last_Modified=HOUR_EARLIER, Date=DATE), 200, 0),
        (fields(Cache_Control="max-age=x", Expires=HOUR_LATER, Date=DATE), 200, 0),
        (fields(Cache_Control="max-age=-1", Expires=HOUR_LATER, Date=DATE), 200, 0),
        # 4.2.2.
        (fields(Last_Modified=HOUR_EARLIER, Date=DATE), 200, 360),
        (fields(Last_Modified=HOUR_EARLIER, Date=DATE), 404, 360),
        (fields(Last_Modified=HOUR_EARLIER, Date=DATE), 302, 0),
        (fields(Last_Modified=HOUR_EARLIER, Date=DATE, Cache_Control="public"), 302, 360),
        (fields(Last_Modified=YEAR_EARLIER, Date=DATE), 200, 86400),
        (fields(Last_Modified=HOUR_LATER, Date=DATE), 200, 0),
        (fields(Last_Modified="x", Date=DATE), 200, 0),
        (fields(), 200, 0),
    ],
)
def test_how_long_it_is_fresh(given_fields: CIMultiDict[str], status: int, expected: float) -> None:
    assert freshness_lifetime(status, given_fields, THEN) == expected


@pytest.mark.parametrize(
    ("given_fields", "request_time", "response_time", "now", "expected"),
    [
        # 4.2.3: the larger of what clocks and Age say, the way here, and the time spent here.
        (fields(Date=DATE), THEN, THEN, THEN, 0),
        (fields(Date=DATE), THEN, THEN, THEN + 10, 10),
        (fields(Date=HOUR_EARLIER), THEN, THEN, THEN + 10, 3610),
        (fields(Date=DATE, Age="100"), THEN, THEN + 2, THEN + 12, 112),
        (fields(Date=HOUR_EARLIER, Age="100"), THEN - 2, THEN, THEN, 3600),
        (fields(Date=HOUR_LATER), THEN, THEN, THEN + 1, 1),
        (fields(("Age", "5"), ("Age", "9"), Date=DATE), THEN, THEN, THEN, 5),
        (fields(Age="5, 9", Date=DATE), THEN, THEN, THEN, 5),
        (fields(Age="x", Date=DATE), THEN, THEN, THEN, 0),
        (fields(), THEN, THEN, THEN, 0),
        # A clock that was set back.
        (fields(Date=DATE), THEN, THEN, THEN - 100, 0),
        (fields(Date=DATE, Age="7"), THEN, THEN - 100, THEN - 100, 7),
    ],
)
def test_how_old_it_is(
    given_fields: CIMultiDict[str], request_time: float, response_time: float, now: float, expected: float
) -> None:
    assert current_age(given_fields, request_time, response_time, now) == expected


VALUES = st.sampled_from(
    [
        "max-age=5",
        "max-age=0",
        "max-age",
        "public",
        "no-cache",
        "max-stale",
        "max-stale=3",
        "min-fresh=2",
        "immutable",
        "stale-while-revalidate=4",
        "stale-if-error=9",
        "must-revalidate",
        "x",
    ]
)
NAMES = st.sampled_from(["Expires", "Date", "Last-Modified", "Age", "ETag", "Vary"])
DATES = st.sampled_from([DATE, HOUR_LATER, HOUR_EARLIER, "0", "", "17"])


@given(
    st.dictionaries(NAMES, DATES),
    st.lists(VALUES, max_size=3),
    st.lists(VALUES, max_size=3),
    st.integers(-100_000, 100_000),
    st.integers(0, 100_000),
)
def test_freshness_is_a_matter_of_arithmetic(
    named: dict[str, str], said: list[str], asked: list[str], later: int, delay: int
) -> None:
    kept = entry(*named.items(), ("Cache-Control", ", ".join(said)), request_time=THEN - delay)
    now = THEN + later
    age, lifetime = age_of(kept, now), freshness_lifetime(200, kept.fields, THEN)
    assert age >= max(0, later)
    assert 0 <= lifetime <= MAX_SECONDS
    assert age_of(kept, now + 1) >= age
    use = choose_use(kept, control(", ".join(asked)), now)
    if use is Use.FRESH:
        assert age < lifetime
    if "no-cache" in said or "no-cache" in asked or ("must-revalidate" in said and age >= lifetime):
        assert use is Use.VALIDATE
    if use is Use.WHILE_REVALIDATE:
        assert lifetime <= age <= lifetime + 4
    if serves_errors(kept, control(", ".join(asked)), now):
        assert age <= lifetime + 9


# What may be kept


@pytest.mark.parametrize(
    ("method", "status", "asked", "said"),
    [
        ("GET", 200, fields(), fields(Cache_Control="max-age=1")),
        ("HEAD", 200, fields(), fields(Cache_Control="max-age=1")),
        ("GET", 200, fields(), fields(ETag='"a"')),
        ("GET", 200, fields(), fields(Last_Modified=DATE)),
        ("GET", 200, fields(), fields(Expires=HOUR_LATER, Date=DATE)),
        ("GET", 200, fields(), fields(Expires=HOUR_LATER)),
        ("GET", 200, fields(), fields(Cache_Control="private, max-age=1")),
        ("GET", 200, fields(Authorization="x"), fields(Cache_Control="max-age=1")),
        ("GET", 200, fields(), fields(Cache_Control="max-age=1", Set_Cookie="a=b")),
        ("GET", 200, fields(), fields(Cache_Control="no-cache", ETag='"a"')),
        ("GET", 200, fields(), fields(Cache_Control="max-age=0, stale-while-revalidate=1")),
        ("GET", 200, fields(), fields(Cache_Control="max-age=0, stale-if-error=1")),
        *(
            ("GET", status, fields(), fields(ETag='"a"'))
            for status in (203, 204, 300, 301, 308, 404, 405, 410, 414, 501)
        ),
        *(
            ("GET", 302, fields(), fields(ETag='"a"', **{name: value}))
            for name, value in (("Expires", "0"), ("Cache_Control", "public"), ("Cache_Control", "private"))
        ),
        ("GET", 503, fields(), fields(Cache_Control="max-age=1")),
        ("GET", 200, fields(), fields(Cache_Control="must-understand, no-store, max-age=1")),
    ],
)
def test_what_may_be_kept(method: str, status: int, asked: CIMultiDict[str], said: CIMultiDict[str]) -> None:
    assert may_store(method, status, asked, said, THEN)


GOOD = {"Cache_Control": "max-age=1"}


@pytest.mark.parametrize(
    ("method", "status", "asked", "said"),
    [
        ("POST", 200, fields(), fields(**GOOD)),
        ("QUERY", 200, fields(), fields(**GOOD)),
        ("GET", 103, fields(), fields(**GOOD)),
        ("GET", 206, fields(), fields(**GOOD)),
        ("GET", 304, fields(), fields(**GOOD)),
        ("GET", 200, fields(), fields(Content_Range="bytes 0-1/2", **GOOD)),
        ("GET", 200, fields(Cache_Control="no-store"), fields(**GOOD)),
        ("GET", 200, fields(), fields(Cache_Control="max-age=1, no-store")),
        ("GET", 299, fields(), fields(Cache_Control="must-understand, max-age=1")),
        ("GET", 302, fields(), fields(ETag='"a"')),
        ("GET", 500, fields(), fields(ETag='"a"')),
        ("GET", 200, fields(), fields(Vary="*", **GOOD)),
        ("GET", 200, fields(), fields(Vary="Cookie", **GOOD)),
        # Of no use.
        ("GET", 200, fields(), fields()),
        ("GET", 200, fields(), fields(Cache_Control="max-age=0")),
        ("GET", 200, fields(), fields(Expires=HOUR_EARLIER)),
    ],
)
def test_what_may_not_be_kept(method: str, status: int, asked: CIMultiDict[str], said: CIMultiDict[str]) -> None:
    assert not may_store(method, status, asked, said, THEN)


# Vary


def test_what_an_answer_varies_on() -> None:
    asked = fields(("Accept", "a ,b"), ("accept", "c"), Accept_Language="de", Cookie="x")
    varied = vary_of(asked, fields(("Vary", "Accept-Language, accept"), ("Vary", "X-None ,, Cookie")))
    assert varied == (("accept", "a,b,c"), ("accept-language", "de"), ("cookie", "x"), ("x-none", None))
    assert vary_of(asked, fields()) == ()


@pytest.mark.parametrize(
    "vary", ["*", "accept, *", "Authorization", "accept, cookie", ",".join(f"x{number}" for number in range(65))]
)
def test_what_no_request_can_be_known_to_match(vary: str) -> None:
    assert vary_of(fields(Accept="x"), fields(Vary=vary)) is None


def test_a_request_matches_with_the_same_fields_however_they_are_written() -> None:
    varied = vary_of(fields(Accept="a, b"), fields(Vary="accept, x"))
    assert varied is not None
    assert matches(varied, fields(("Accept", "a"), ("Accept", "b")))
    assert matches(varied, fields(Accept="a ,b", Y="1"))
    assert not matches(varied, fields(Accept="b, a"))
    assert not matches(varied, fields(Accept="a, b", X=""))
    assert not matches(varied, fields())


def test_of_several_that_match_the_most_recent_by_its_date_is_chosen() -> None:
    old, new = entry(response_time=THEN), entry(response_time=THEN + 1)
    dated = entry(("Date", HOUR_LATER), response_time=THEN - 1)
    head = entry(response_time=THEN + 4, method="HEAD")
    assert select([new, old], "GET", fields()) is new
    assert select([dated, new, old], "GET", fields()) is dated
    assert select([old, head, new], "GET", fields()) is new
    assert select([old, head, new], "HEAD", fields()) is head
    assert select([old], "HEAD", fields()) is old
    assert select([head], "GET", fields()) is None


def test_what_varies_on_something_comes_before_what_varies_on_nothing() -> None:
    varying, default = entry(varied=(("a", "b"),)), entry(response_time=THEN + 1)
    assert select([varying, default], "GET", fields(A="b")) is varying
    assert select([varying, default], "GET", fields(A="c")) is default


# What it may be used for

F, S, W, V = Use.FRESH, Use.STALE, Use.WHILE_REVALIDATE, Use.VALIDATE


@pytest.mark.parametrize(
    ("said", "age", "asked", "expected"),
    [
        ("max-age=10", 9, "", F),
        ("max-age=10", 10, "", V),
        ("max-age=10, no-cache", 0, "", V),
        ('max-age=10, no-cache="x"', 0, "", V),
        ("max-age=10", 0, "no-cache", V),
        ("max-age=10", 5, "max-age=5", F),
        ("max-age=10", 5, "max-age=4", V),
        ("max-age=10", 1, "max-age=x", V),
        ("max-age=10", 5, "max-age=4, max-stale=1", S),
        ("max-age=10", 6, "max-age=4, max-stale=1", V),
        ("max-age=10", 5, "min-fresh=5", F),
        ("max-age=10", 6, "min-fresh=5", V),
        ("max-age=10", 6, "min-fresh=5, max-stale", V),
        ("max-age=10", 5, "max-stale=0", F),
        ("max-age=10", 15, "max-stale", S),
        ("max-age=10", 15, "max-stale=5", S),
        ("max-age=10", 16, "max-stale=5", V),
        ("max-age=10", 16, "max-stale=x", V),
        ("max-age=10", 16, "max-stale=", V),
        ("max-age=10", 15, "max-stale, no-cache", V),
        ("max-age=10, must-revalidate", 9, "max-stale", F),
        ("max-age=10, must-revalidate", 15, "max-stale", V),
        ("max-age=10, must-revalidate", 5, "max-age=4, max-stale", V),
        # For shared caches only.
        ("max-age=10, proxy-revalidate", 15, "max-stale", S),
        # The example of RFC 5861, 3.1: fresh for 600 s, and then used for 30 more while it is validated.
        ("max-age=600, stale-while-revalidate=30", 599, "", F),
        ("max-age=600, stale-while-revalidate=30", 600, "", W),
        ("max-age=600, stale-while-revalidate=30", 630, "", W),
        ("max-age=600, stale-while-revalidate=30", 631, "", V),
        ("max-age=600, stale-while-revalidate=x", 600, "", V),
        ("max-age=600, stale-while-revalidate=30", 610, "max-age=605", V),
        ("max-age=600, stale-while-revalidate=30", 610, "max-age=700", W),
        ("max-age=600, stale-while-revalidate=30", 610, "min-fresh=1", V),
        ("max-age=600, stale-while-revalidate=30", 610, "no-cache", V),
        ("max-age=600, stale-while-revalidate=30, must-revalidate", 610, "", V),
        # RFC 8246, 2.
        ("max-age=10, immutable", 9, "max-age=0", F),
        ("max-age=10, immutable", 9, "no-cache", V),
        ("max-age=10, immutable", 10, "max-age=0", V),
    ],
)
def test_what_it_may_be_used_for(said: str, age: float, asked: str, expected: Use) -> None:
    kept = entry(("Cache-Control", said), ("Date", DATE))
    assert choose_use(kept, control(asked), THEN + age) is expected


@pytest.mark.parametrize(
    ("said", "age", "asked", "expected"),
    [
        # The example of RFC 5861, 4.1.
        ("max-age=600, stale-if-error=1200", 900, "", True),
        ("max-age=600, stale-if-error=1200", 1800, "", True),
        ("max-age=600, stale-if-error=1200", 1801, "", False),
        ("max-age=600", 601, "", False),
        ("max-age=600", 601, "stale-if-error=1", True),
        ("max-age=600", 602, "stale-if-error=1", False),
        ("max-age=600, stale-if-error=x", 601, "", False),
        ("max-age=600, stale-if-error=1200, must-revalidate", 601, "", False),
        ("max-age=600, stale-if-error=1200, no-cache", 601, "", False),
        ("max-age=600, stale-if-error=1200", 601, "no-cache", False),
    ],
)
def test_when_it_may_stand_in_for_an_error(said: str, age: float, asked: str, expected: bool) -> None:
    kept = entry(("Cache-Control", said), ("Date", DATE))
    assert serves_errors(kept, control(asked), THEN + age) == expected


# Validation


def test_what_is_asked_of_the_server() -> None:
    assert conditions(entry()) == []
    assert conditions(entry(("ETag", 'W/"a"'), ("Last-Modified", DATE))) == [
        ("If-None-Match", 'W/"a"'),
        ("If-Modified-Since", DATE),
    ]


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (fields(), True),
        (fields(ETag='"a"'), True),
        (fields(ETag='W/"a"'), True),
        (fields(ETag='"b"'), False),
        (fields(ETag='"a"', Last_Modified=HOUR_LATER), True),
        (fields(Last_Modified=DATE), True),
        (fields(Last_Modified=HOUR_LATER), False),
    ],
)
def test_which_answers_confirm_it(answer: CIMultiDict[str], expected: bool) -> None:
    assert confirms(entry(("ETag", '"a"'), ("Last-Modified", DATE)), answer) == expected


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (fields(), True),
        (fields(ETag='"a"', Content_Length="3"), True),
        (fields(ETag='"b"'), False),
        (fields(Content_Length="4"), False),
        (fields(Last_Modified=DATE), False),
    ],
)
def test_which_heads_are_those_of_what_is_kept(head: CIMultiDict[str], expected: bool) -> None:
    assert describes_same(entry(("ETag", '"a"'), ("Content-Length", "3")), head) == expected


def test_what_belongs_to_the_connection_and_cookies_are_not_kept() -> None:
    said = fields(
        ("Connection", "close, X-Hop"),
        ("X-Hop", "1"),
        ("Keep-Alive", "1"),
        ("Transfer-Encoding", "chunked"),
        ("Set-Cookie", "secret=1"),
        ("Proxy-Authenticate", "x"),
        ("Content-Length", "3"),
        ("X", "1"),
        ("x", "2"),
        ("Date", DATE),
    )
    assert kept_fields(said, 3, "now") == (("Content-Length", "3"), ("X", "1"), ("x", "2"), ("Date", DATE))
    assert kept_fields(said, 4, "now") == (("X", "1"), ("x", "2"), ("Date", DATE))
    assert kept_fields(said, None, "now")[0] == ("Content-Length", "3")
    assert kept_fields(fields(), 4, "now") == (("Date", "now"),)


def test_what_was_confirmed_has_the_fields_of_the_answer_but_for_those_of_its_body() -> None:
    old = entry(
        ("ETag", '"a"'),
        ("Age", "50"),
        ("Date", HOUR_EARLIER),
        ("X", "old"),
        ("x", "older"),
        ("Keep", "1"),
        ("Content-Encoding", "gzip"),
        ("Content-Length", "3"),
        body=b"abc",
    )
    answer = fields(X="new", Content_Encoding="br", Content_Length="0", Set_Cookie="a=b", Vary="Accept")
    new = freshened(old, answer, fields(Accept="z"), THEN + 5, THEN + 6, DATE)
    assert new.headers == (
        ("ETag", '"a"'),
        ("Keep", "1"),
        ("Content-Encoding", "gzip"),
        ("Content-Length", "3"),
        ("X", "new"),
        ("Vary", "Accept"),
        ("Date", DATE),
    )
    assert (new.body, new.varied, new.request_time, new.response_time) == (
        b"abc",
        (("accept", "z"),),
        THEN + 5,
        THEN + 6,
    )
    assert freshened(new, fields(Vary="*"), fields(), THEN, THEN, DATE).varied == new.varied


@given(st.lists(st.tuples(st.sampled_from(["Vary", "Connection", "X"]), st.text()), max_size=4), st.text())
def test_nothing_that_servers_send_raises(pairs: list[tuple[str, str]], date: str) -> None:
    said = CIMultiDict(pairs)
    may_store("GET", 200, fields(), said, THEN)
    kept = entry(*kept_fields(said, 3, date), varied=vary_of(fields(), said) or ())
    assert matches(kept.varied, fields())
    freshened(kept, said, fields(), THEN, THEN, date)
