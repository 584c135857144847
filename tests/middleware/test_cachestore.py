"""Stores keep what they are given within their bounds, and a database is shared, survives, and is refused by name."""

from __future__ import annotations

import asyncio
import logging
import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from hypothesis import given
from hypothesis import strategies as st

from aiosock.errors import UsageError
from aiosock.middleware.cachestore import (
    ENTRY_BYTES,
    EXIT_SECONDS,
    MemoryStore,
    SQLiteStore,
    Store,
    _after_fork,
    _at_exit,
    _before_fork,
    size_of,
)
from aiosock.protocol.cache import Entry

ENTRY = Entry(
    "GET",
    200,
    "OK",
    "HTTP/1.1",
    (("X", "\xe4"), ("x", "")),
    (("accept", "*/*"), ("b", None)),
    1.0,
    2.5,
    b"\x00body",
    "p",
)


class Clock:
    def __init__(self) -> None:
        self.now = 1e9

    def __call__(self) -> float:
        return self.now


def first(entries: Iterable[Entry]) -> Entry | None:
    return next(iter(entries), None)


def sized(size: int, **changes: Any) -> Entry:
    """An entry that counts for so many bytes."""
    return Entry("GET", 200, "", "HTTP/1.1", (), (), 0.0, 0.0, b"x" * (size - ENTRY_BYTES), **changes)


@pytest_asyncio.fixture(params=["memory", "sqlite"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    """Either store, with room for three entries of 2000 bytes."""
    made: Store = (
        MemoryStore(max_bytes=6000) if request.param == "memory" else SQLiteStore(tmp_path / "db", max_bytes=6000)
    )
    yield made
    await made.close()


async def settled(store: Store) -> None:
    """Wait until all that was kept is written."""
    await store.find("", first)


async def kept(store: Store, *urls: str) -> list[str]:
    return [url for url in urls if await store.find(url, first) is not None]


async def test_what_is_kept_comes_back(store: Store) -> None:
    assert await store.find("u", first) is None
    await store.put("u", ENTRY)
    assert await store.find("u", first) == ENTRY
    assert await store.find("v", first) is None


async def test_one_of_several_is_chosen(store: Store) -> None:
    for value in "ab":
        await store.put("u", replace(ENTRY, varied=(("v", value),), body=value.encode()))
    for value in "ab":
        found = await store.find("u", lambda entries: next(e for e in entries if e.varied == (("v", value),)))  # noqa: B023
        assert found is not None
        assert found.body == value.encode()
    assert await store.find("u", lambda entries: None) is None


async def test_the_same_variant_takes_its_place(store: Store) -> None:
    await store.put("u", ENTRY)
    await store.put("u", replace(ENTRY, body=b"new", response_time=9.0))
    counts: list[int] = []
    found = await store.find("u", lambda entries: (counts.append(len(some := list(entries))), some[0])[1])
    assert counts == [1]
    assert found is not None
    assert found.body == b"new"


async def test_one_or_all_of_a_url_are_removed(store: Store) -> None:
    other = replace(ENTRY, partition="q")
    for entry in (ENTRY, other):
        await store.put("u", entry)
    await store.put("v", ENTRY)
    await store.remove("u", ENTRY)
    await store.remove("none")
    await store.remove("none", ENTRY)
    assert await store.find("u", first) == other
    await store.remove("u")
    assert await kept(store, "u", "v") == ["v"]


async def test_those_not_used_for_longest_go_first(store: Store) -> None:
    for url in "abc":
        await store.put(url, sized(2000))
    await store.put("d", sized(2000))
    assert await kept(store, *"abcd") == ["b", "c", "d"]
    await store.put("e", sized(4000))
    assert await kept(store, *"abcde") == ["d", "e"]


async def test_what_passes_the_bound_alone_is_not_kept_and_nothing_goes_for_it(store: Store) -> None:
    await store.put("a", sized(2000))
    await store.put("b", sized(2000))
    await store.put("b", sized(6001))
    assert await kept(store, "a", "b") == ["a"]


async def test_many_at_once_do_not_disturb_each_other(store: Store) -> None:
    async def one(number: int) -> None:
        for _ in range(5):
            await store.put("u", sized(1100 + number))
            found = await store.find("u", first)
            assert found is not None
            assert len(found.body) == size_of(found) - ENTRY_BYTES

    await asyncio.gather(*(one(number) for number in range(10)))


async def test_use_keeps_an_entry_in_memory() -> None:
    store = MemoryStore(max_bytes=4000)
    for url in "ab":
        await store.put(url, sized(2000))
    await store.find("a", first)
    await store.put("c", sized(2000))
    assert await kept(store, *"abc") == ["a", "c"]
    assert repr(store) == "<MemoryStore 2 entries, 4000 bytes>"
    for url in "ac":
        await store.remove(url)
    assert (len(store), store.bytes) == (0, 0)


async def test_use_keeps_an_entry_in_a_database(tmp_path: Path) -> None:
    clock = Clock()
    store = SQLiteStore(tmp_path / "db", max_bytes=4000, clock=clock)
    for url in "ab":
        await store.put(url, sized(2000))
    clock.now += 61
    await store.find("a", first)
    await store.put("c", sized(2000))
    assert await kept(store, *"abc") == ["a", "c"]
    await store.close()


async def test_the_newest_is_kept_though_the_clock_was_set_back(tmp_path: Path) -> None:
    clock = Clock()
    store = SQLiteStore(tmp_path / "db", max_bytes=4000, clock=clock)
    for url in "abc":
        await store.put(url, sized(2000))
        clock.now -= 1000
    assert await kept(store, *"abc") == ["b", "c"]
    await store.close()


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.integers(1, 3), st.integers(ENTRY_BYTES, 5000), st.booleans())))
def test_memory_never_exceeds_its_bound(steps: list[tuple[str, int, int, bool]]) -> None:
    async def run() -> None:
        store = MemoryStore(max_bytes=8000)
        held: dict[tuple[str, str], Entry] = {}
        for url, partition, size, away in steps:
            entry = sized(size, partition=str(partition))
            if away:
                await store.remove(url, entry)
                held.pop((url, entry.partition), None)
            else:
                await store.put(url, entry)
                held[url, entry.partition] = entry
            assert 0 <= store.bytes <= 8000
            total = 0
            for (url, partition_), entry in held.items():
                found = await store.find(
                    url,
                    lambda some: next((e for e in some if e.partition == partition_), None),  # noqa: B023
                )
                assert found in (None, entry)
                total += size_of(found) if found else 0
            assert total == store.bytes

    asyncio.run(run())


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.integers(ENTRY_BYTES, 5000)), max_size=12))
def test_a_database_never_exceeds_its_bound(steps: list[tuple[str, int]]) -> None:
    async def run() -> None:
        store = SQLiteStore(":memory:", max_bytes=8000)
        for url, size in steps:
            await store.put(url, sized(size))
            assert await store.find(url, first) is not None
            [held] = store._open().execute("SELECT ifnull(sum(size), 0) FROM entry").fetchone()
            assert (held,) == store._open().execute("SELECT bytes FROM total").fetchone()
            assert held <= 8000
        await store.close()

    asyncio.run(run())


# Databases


async def test_a_database_outlives_its_store_and_is_its_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / "db"
    store = SQLiteStore(path)
    await store.put("u", ENTRY)
    await store.close()
    await store.close()
    assert os.stat(path).st_mode & 0o777 == 0o600
    assert os.listdir(tmp_path) == ["db"]
    assert await store.find("u", first) == ENTRY
    assert repr(store) == f"<SQLiteStore {str(path)!r}>"
    await store.close()


WRITER = """
import asyncio, sys
from aiosock.middleware.cachestore import SQLiteStore
from aiosock.protocol.cache import Entry

async def main():
    store = SQLiteStore(sys.argv[1], max_bytes=60_000)
    for number in range(100):
        body = str(number).encode() * 100
        await store.put(f"u{number % 7}", Entry("GET", 200, "", "HTTP/1.1", (), (), 0.0, 0.0, body))
        await store.find(f"u{number % 5}", lambda entries: next(iter(entries), None))
    if len(sys.argv) > 2:
        import os
        os._exit(0)
    await store.close()

asyncio.run(main())
"""


def test_processes_share_a_database_and_one_that_dies_leaves_it_whole(tmp_path: Path) -> None:
    path = str(tmp_path / "db")
    arguments = [[], [], ["die"], ["die"]]
    writers = [
        subprocess.Popen([sys.executable, "-X", "dev", "-W", "error", "-c", WRITER, path, *more]) for more in arguments
    ]
    assert [writer.wait(60) for writer in writers] == [0] * 4

    async def read() -> int:
        store = SQLiteStore(path)
        found = [await store.find(f"u{number}", first) for number in range(7)]
        await store.close()
        return sum(entry is not None and len(set(entry.body.split())) == 1 for entry in found)

    assert asyncio.run(read()) == 7
    database = sqlite3.connect(path)
    assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert (
        database.execute("SELECT bytes FROM total").fetchone()
        == database.execute("SELECT sum(size) FROM entry").fetchone()
    )
    database.close()


def spoil(path: Path, statement: str, *values: object) -> None:
    database = sqlite3.connect(path)
    database.execute(statement, values)
    database.commit()
    database.close()


HEAD = '["GET", 200, "", "HTTP/1.1", [], [], 0.0, 0.0, "p"]'


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("body", b"other"),
        ("body", "text"),
        ("sum", 0),
        ("head", HEAD),
        *(
            ("head", head)
            for head in (
                "",
                "{",
                "{}",
                b"\xff",
                "[" * 100_000,
                HEAD.replace("200", '"200"'),
                HEAD.replace("0.0,", "null,"),
                HEAD.replace("[], []", "[[1, 2]], []"),
                HEAD.replace("[], []", '[], [["a", 1]]'),
                HEAD.replace("[], []", "[], [1]"),
                HEAD.replace('"GET"', "null"),
            )
        ),
    ],
)
async def test_a_corrupt_entry_is_a_miss_and_is_removed(
    column: str, value: object, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "aiosock")
    path = tmp_path / "db"
    store = SQLiteStore(path)
    await store.put("u", ENTRY)
    await store.put("v", ENTRY)
    await settled(store)
    await asyncio.to_thread(spoil, path, f"UPDATE entry SET {column} = ? WHERE url = 'u'", value)  # noqa: S608  # ours
    assert await store.find("u", first) is None
    assert caplog.messages == [f"removed 1 corrupt entries of the cache database {str(path)!r}"]
    [left] = store._open().execute("SELECT count(*) FROM entry").fetchone()
    assert left == 1
    assert await store.find("v", first) == ENTRY
    await store.close()


def make_text(path: Path) -> None:
    path.write_bytes(b"not a database at all, but quite a long text" * 50)


def make_foreign(path: Path) -> None:
    spoil(path, "CREATE TABLE mine (x)")


def make_other(path: Path) -> None:
    make_foreign(path)
    spoil(path, "PRAGMA user_version = 1")


def make_newer(path: Path) -> None:
    spoil(path, "PRAGMA user_version = 2")


def make_folder(path: Path) -> None:
    path.mkdir()


def make_cut(path: Path) -> None:
    async def fill() -> None:
        store = SQLiteStore(path)
        await store.put("u", ENTRY)
        await store.close()

    asyncio.run(fill())
    spoil(path, "DROP TABLE total")


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (make_text, "file is not a database"),
        (make_foreign, "its version is 0, not 1"),
        (make_other, "no such table as entry or total"),
        (make_newer, "its version is 2, not 1"),
        (make_folder, "Is a directory"),
        (make_cut, "no such table"),
    ],
)
def test_a_database_that_cannot_be_used_is_named(make: Any, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "db"
    make(path)

    async def run() -> None:
        store = SQLiteStore(path)
        await store.put("u", ENTRY)
        for step in (store.find("u", first), store.remove("u")):
            with pytest.raises(UsageError, match=reason) as caught:
                await step
            assert str(path) in str(caught.value)
        await store.close()

    asyncio.run(run())


@pytest.mark.parametrize("make", [make_foreign, make_other, make_newer])
def test_a_database_of_others_stays_as_it_is(make: Any, tmp_path: Path) -> None:
    path = tmp_path / "db"
    make(path)
    before = path.read_bytes()
    with pytest.raises(UsageError):
        asyncio.run(SQLiteStore(path).remove("u"))
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["db"]


def test_a_path_with_a_nul_is_refused_at_once() -> None:
    with pytest.raises(UsageError, match="path takes no name with a NUL"):
        SQLiteStore("a\0b")


async def test_only_the_newest_variants_of_a_url_are_kept(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aiosock.middleware.cachestore.MAX_VARIANTS", 2)
    await store.put("other", replace(ENTRY, body=b""))
    for partition in "abc":
        await store.put("u", replace(ENTRY, partition=partition, body=b""))
    left: list[str] = []

    def note(entries: Iterable[Entry]) -> None:
        left.extend(entry.partition for entry in entries)

    await store.find("u", note)  # type: ignore[arg-type]
    assert sorted(left) == ["b", "c"]
    assert await kept(store, "other") == ["other"]


async def test_of_the_variants_of_a_url_one_that_is_used_stays_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aiosock.middleware.cachestore.MAX_VARIANTS", 2)
    store = MemoryStore()
    for partition in "abc":
        await store.put("u", replace(ENTRY, partition=partition))
        await store.find("u", lambda entries: next(entry for entry in entries if entry.partition == "a"))
    left: list[str] = []

    def note(entries: Iterable[Entry]) -> None:
        left.extend(entry.partition for entry in entries)

    await store.find("u", note)  # type: ignore[arg-type]
    assert sorted(left) == ["a", "c"]


async def test_closing_a_memory_takes_nothing_from_others_who_share_it() -> None:
    store = MemoryStore()
    await store.put("u", ENTRY)
    await store.close()
    assert await store.find("u", first) == ENTRY


async def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="none/db' cannot be used: No such file"):
        await SQLiteStore(tmp_path / "none" / "db").find("u", first)


async def test_while_others_keep_it_busy_there_is_nothing_to_be_had(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aiosock.middleware.cachestore.BUSY_SECONDS", 0.0)
    caplog.set_level(logging.DEBUG, "aiosock")
    path, clock = tmp_path / "db", Clock()
    store = SQLiteStore(path, clock=clock)
    await store.put("u", ENTRY)
    await settled(store)
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    await asyncio.to_thread(other.execute, "BEGIN EXCLUSIVE")
    await store.put("v", ENTRY)
    await settled(store)
    clock.now += 100
    # Reading goes on, and only the note of its use is not taken.
    assert await store.find("u", first) == ENTRY
    assert caplog.messages == [
        f"the cache database {str(path)!r} cannot be used for now: database is locked",
        f"the cache database {str(path)!r} cannot note a use: database is locked",
    ]
    await asyncio.to_thread(other.execute, "ROLLBACK")
    assert await kept(store, "u", "v") == ["u"]
    await asyncio.to_thread(other.close)
    await store.close()


async def test_what_fails_half_way_leaves_no_trace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "aiosock")
    store = SQLiteStore(tmp_path / "db", max_bytes=2000)
    await store.put("u", sized(2000))

    def fail(*_: object) -> None:
        raise sqlite3.DatabaseError("torn")

    assert await kept(store, "u") == ["u"]
    with monkeypatch.context() as patch:
        patch.setattr("aiosock.middleware.cachestore.leaving", fail)
        await store.put("v", sized(2000))
        assert await kept(store, "u", "v") == ["u"]
    [message] = caplog.messages
    assert message.startswith("an answer could not be kept: the cache database")
    await store.close()


async def test_who_keeps_an_entry_does_not_wait_for_a_busy_database(tmp_path: Path) -> None:
    path = tmp_path / "db"
    store = SQLiteStore(path)
    await store.put("u", ENTRY)
    assert await kept(store, "u") == ["u"]
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    await asyncio.to_thread(other.execute, "BEGIN EXCLUSIVE")
    done = asyncio.ensure_future(store.put("v", ENTRY))
    await asyncio.sleep(0)
    assert done.done()
    await asyncio.to_thread(other.close)
    await store.close()


async def test_of_many_who_have_to_wait_for_others_one_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aiosock.middleware.cachestore.BUSY_SECONDS", 0.01)
    monkeypatch.setattr("aiosock.middleware.cachestore.PATIENCE_SECONDS", 3600.0)
    path = tmp_path / "db"
    store = SQLiteStore(path)
    assert await kept(store, "u") == []
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    await asyncio.to_thread(other.execute, "BEGIN IMMEDIATE")
    waits: list[int] = []

    def note(*_: object) -> None:
        [waited] = store._open().execute("PRAGMA busy_timeout").fetchone()
        waits.append(waited)

    for _ in range(3):
        await store.put("u", ENTRY)
        await store.find("u", note)  # type: ignore[arg-type]
    # The first has waited before it was asked; it found the database busy, and the others did not wait at all.
    assert waits == [10, 0, 0]
    await asyncio.to_thread(other.execute, "ROLLBACK")
    await store.put("u", ENTRY)
    assert await kept(store, "u") == ["u"]
    await asyncio.to_thread(other.close)
    await store.close()


async def test_on_a_full_disk_nothing_more_is_kept_and_all_else_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "aiosock")
    path = tmp_path / "db"
    store = SQLiteStore(path)
    await store.put("u", ENTRY)
    await settled(store)
    store._open().execute("PRAGMA max_page_count = 1")
    await store.put("v", sized(100_000))
    assert await kept(store, "u", "v") == ["u"]
    assert caplog.messages == [f"the cache database {str(path)!r} cannot be used for now: database or disk is full"]
    await store.remove("u")
    store._open().execute("PRAGMA max_page_count = 1000000")
    await store.put("v", sized(100_000))
    assert await kept(store, "u", "v") == ["v"]
    await store.close()


FORKING = """
import asyncio, os, sys
from aiosock.middleware.cachestore import SQLiteStore
from aiosock.protocol.cache import Entry

store = SQLiteStore(sys.argv[1])

async def use(url):
    await store.put(url, Entry("GET", 200, "", "HTTP/1.1", (), (), 0.0, 0.0, url.encode()))
    return (await store.find(url, lambda entries: next(iter(entries), None))).body == url.encode()

async def end():
    await store.close()

assert asyncio.run(use("before"))
child = os.fork()
done = asyncio.run(use("child" if child == 0 else "parent"))
asyncio.run(end())
if child == 0:
    os._exit(0 if done else 1)
assert done and os.waitpid(child, 0)[1] == 0
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks")
def test_a_fork_and_its_parent_go_on_with_one_database(tmp_path: Path) -> None:
    path = str(tmp_path / "db")
    # A fork with threads is what it is about, though Python warns of it.
    command = [sys.executable, "-X", "dev", "-W", "error", "-W", "ignore::DeprecationWarning", "-c", FORKING, path]
    assert subprocess.run(command, timeout=60).returncode == 0

    async def read() -> list[str]:
        store = SQLiteStore(path)
        found = await kept(store, "before", "child", "parent")
        await store.close()
        return found

    assert asyncio.run(read()) == ["before", "child", "parent"]


async def test_who_keeps_more_than_the_disk_takes_waits_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aiosock.middleware.cachestore.MAX_UNWRITTEN_BYTES", 0)
    store = SQLiteStore(tmp_path / "db")
    await store.put("u", ENTRY)
    [count] = store._open().execute("SELECT count(*) FROM entry").fetchone()
    assert count == 1
    await store.close()


async def test_a_database_that_was_taken_away_is_made_anew(tmp_path: Path) -> None:
    path = tmp_path / "db"
    store = SQLiteStore(path)
    await store.put("u", ENTRY)
    assert await store.find("u", first) == ENTRY
    await asyncio.to_thread(spoil, path, "DROP TABLE entry")
    for name in os.listdir(tmp_path):
        os.unlink(tmp_path / name)
    with pytest.raises(UsageError, match="no such table"):
        await store.find("u", first)
    await store.put("v", ENTRY)
    assert await kept(store, "u", "v") == ["v"]
    await store.close()


@pytest.mark.parametrize("limit", [0, -1, True, 1.5, None])
def test_a_bound_that_makes_no_sense(limit: Any, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=f"MemoryStore: max_bytes takes a whole number of at least 1, not {limit!r}"):
        MemoryStore(max_bytes=limit)
    with pytest.raises(UsageError, match="SQLiteStore: max_bytes"):
        SQLiteStore(tmp_path / "db", max_bytes=limit)
    with pytest.raises(UsageError, match="SQLiteStore: path takes a str or a path, not int"):
        SQLiteStore(3)  # type: ignore[arg-type]


async def test_what_was_to_go_while_the_database_was_busy_is_not_given_and_goes_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aiosock.middleware.cachestore.BUSY_SECONDS", 0.0)
    path = tmp_path / "cache.db"
    store = SQLiteStore(path)
    await store.put("u", ENTRY)
    await settled(store)
    other = await asyncio.to_thread(sqlite3.connect, path, check_same_thread=False, isolation_level=None)
    try:
        await asyncio.to_thread(other.execute, "BEGIN IMMEDIATE")
        await store.remove("u")
        assert await store.find("u", first) is None
        await asyncio.to_thread(other.execute, "ROLLBACK")
        assert await store.find("u", first) is None
        [left] = await asyncio.to_thread(lambda: other.execute("SELECT count(*) FROM entry").fetchone())
        assert left == 0
    finally:
        await asyncio.to_thread(other.close)
        await store.close()


@pytest.mark.parametrize("broken", [False, True])
async def test_what_was_to_go_goes_when_the_store_is_closed(
    broken: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("aiosock.middleware.cachestore.BUSY_SECONDS", 0.0)
    path = tmp_path / "cache.db"
    store = SQLiteStore(path)
    await store.put("u", ENTRY)
    await settled(store)
    other = await asyncio.to_thread(sqlite3.connect, path, check_same_thread=False, isolation_level=None)
    try:
        await asyncio.to_thread(other.execute, "BEGIN IMMEDIATE")
        await store.remove("u")
        await asyncio.to_thread(other.execute, "ROLLBACK")
        if broken:
            await asyncio.to_thread(other.execute, "DROP TABLE entry")
            caplog.set_level(logging.DEBUG, "aiosock")
        await store.close()
        if broken:
            assert caplog.messages == [
                f"what was to go is left: the cache database {str(path)!r} cannot be used: no such table: entry"
            ]
        else:
            [left] = await asyncio.to_thread(lambda: other.execute("SELECT count(*) FROM entry").fetchone())
            assert left == 0
    finally:
        await asyncio.to_thread(other.close)


async def test_while_a_process_forks_no_database_is_open_nor_at_work(tmp_path: Path) -> None:
    store = SQLiteStore(tmp_path / "cache.db")
    await store.put("u", ENTRY)
    await settled(store)
    _before_fork()
    assert store._database is None
    finding = asyncio.ensure_future(store.find("u", first))
    _after_fork()
    assert await finding == ENTRY
    await store.close()
    _before_fork()
    _after_fork()


class Announcing:
    """A lock that says when somebody has to wait for it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.awaited = threading.Event()

    def acquire(self) -> None:
        if not self._lock.acquire(blocking=False):
            self.awaited.set()
            self._lock.acquire()

    def release(self) -> None:
        self._lock.release()


async def test_a_thread_that_has_to_wait_before_it_forks_holds_no_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = Announcing()
    monkeypatch.setattr("aiosock.middleware.cachestore._one_fork", lock)
    stores = first, second = SQLiteStore(tmp_path / "a"), SQLiteStore(tmp_path / "b")
    monkeypatch.setattr("aiosock.middleware.cachestore._stores", [first])
    _before_fork()
    monkeypatch.setattr("aiosock.middleware.cachestore._stores", [second, first])
    other = threading.Thread(target=_before_fork)
    other.start()
    assert lock.awaited.wait(10)
    assert [store._at_work.locked() for store in stores] == [True, False]
    _after_fork()
    other.join()
    assert [store._at_work.locked() for store in stores] == [True, True]
    _after_fork()
    assert [store._at_work.locked() for store in stores] == [False, False]


ENDING = """
import asyncio, atexit, sys
from aiosock.middleware.cachestore import SQLiteStore
from aiosock.protocol.cache import Entry

async def main():
    store = SQLiteStore(sys.argv[1])
    # Nothing is written before the process begins to end.
    store._at_work.acquire()
    atexit.register(store._at_work.release)
    for number in range(3):
        await store.put(f"u{number}", Entry("GET", 200, "", "HTTP/1.1", (), (), 0.0, 0.0, b"x" * 100_000))

asyncio.run(main())
"""


def test_what_is_still_to_be_written_when_the_process_ends_is_written(tmp_path: Path) -> None:
    path = str(tmp_path / "db")
    subprocess.run([sys.executable, "-X", "dev", "-W", "error", "-c", ENDING, path], check=True, timeout=60)

    async def read() -> list[str]:
        store = SQLiteStore(path)
        found = await kept(store, "u0", "u1", "u2")
        await store.close()
        return found

    assert asyncio.run(read()) == ["u0", "u1", "u2"]


async def test_the_end_of_a_process_waits_for_its_own_writes_alone_and_not_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[float] = []
    store = SQLiteStore(tmp_path / "db")
    monkeypatch.setattr("aiosock.middleware.cachestore._stores", [store])
    _at_exit()
    await store.put("u", ENTRY)
    await settled(store)
    assert store._last is not None
    assert store._last.is_set()
    monkeypatch.setattr(store._last, "wait", waited.append)
    _at_exit()
    assert len(waited) == 1
    assert 0 <= waited[0] <= EXIT_SECONDS
    with monkeypatch.context() as child:
        child.setattr(os, "getpid", lambda: -1)
        _at_exit()
        # A fork that only looks has nothing to wait for, whatever its parent was about to write.
        await settled(store)
        _at_exit()
    assert len(waited) == 1
    await store.close()
