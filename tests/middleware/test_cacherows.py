"""What stands in a database comes back as it was, and what is no entry is none."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiosock.middleware.cacherows import checksum, decode, encode, leaving, prepare, transaction, with_body
from aiosock.protocol.cache import Entry

TEXT = st.text(st.characters(max_codepoint=0x10FFFF))
PAIRS = st.lists(st.tuples(TEXT, TEXT), max_size=3).map(tuple)
VARIED = st.lists(st.tuples(TEXT, st.none() | TEXT), max_size=3).map(tuple)
TIMES = st.floats(allow_nan=False, allow_infinity=False)
ENTRY = Entry("GET", 200, "OK", "HTTP/1.1", (("X", "\xe4"),), (("accept", None),), 1.0, 2.5, b"body", "p")


@given(st.builds(Entry, TEXT, st.integers(), TEXT, TEXT, PAIRS, VARIED, TIMES, TIMES, st.just(b""), TEXT))
def test_an_entry_comes_back_as_it_was(entry: Entry) -> None:
    assert decode(encode(entry)) == entry


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
)


@given(VALUES | st.lists(VALUES, min_size=9, max_size=9) | st.text() | st.binary())
def test_whatever_else_is_found_is_no_entry_or_a_sound_one(found: Any) -> None:
    for head in (found, json.dumps(found) if not isinstance(found, bytes) else found):
        entry = decode(head)
        if entry is not None:
            assert decode(encode(entry)) == entry


@pytest.mark.parametrize("moment", [float("nan"), float("inf"), 1, None, "1"])
def test_a_time_that_is_none_makes_no_entry(moment: Any) -> None:
    assert decode(encode(ENTRY)) == replace(ENTRY, body=b"")
    assert decode(encode(replace(ENTRY, response_time=moment))) is None
    assert decode(encode(replace(ENTRY, request_time=moment))) is None


def test_an_entry_without_its_body_gets_it() -> None:
    assert with_body(replace(ENTRY, body=b""), b"body") == ENTRY


def test_a_row_that_was_changed_has_another_sum() -> None:
    sums = {checksum(head, body) for head in ("a", "b", "\ud800") for body in (b"", b"x")}
    assert len(sums) == 6


def test_what_is_not_done_whole_is_not_done() -> None:
    database = sqlite3.connect(":memory:", isolation_level=None)
    prepare(database, ":memory:")
    insert = "INSERT INTO entry (url, variant, head, body, sum, size, used) VALUES (?, '', '', '', 0, ?, ?)"
    for number, url in enumerate("abc"):
        database.execute(insert, (url, 10, 9.0 - number))
    with pytest.raises(ValueError, match="torn"), transaction(database, "IMMEDIATE"):
        database.execute(insert, ("d", 10, 1.0))
        raise ValueError("torn")
    with pytest.raises(sqlite3.IntegrityError), transaction(database, "IMMEDIATE"):
        database.execute("DELETE FROM entry WHERE url = 'a'")
        database.execute("INSERT OR ROLLBACK INTO entry SELECT * FROM entry")
    assert database.execute("SELECT bytes FROM total").fetchone() == (30,)
    # Those go first that were not used for longest.
    assert leaving(database, 11) == [(3,), (2,)]
    prepare(database, ":memory:")
    assert database.execute("SELECT count(*) FROM entry").fetchone() == (3,)
    database.close()
