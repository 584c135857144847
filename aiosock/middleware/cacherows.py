"""
How entries of a cache stand in a SQLite database.

Anything may be found in a file: what is no entry is none, and a database of somebody else's stays as it is.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from math import isfinite
from typing import TYPE_CHECKING, Any, Final

from aiosock.errors import UsageError
from aiosock.protocol.cache import Entry

if TYPE_CHECKING:
    import sqlite3

SCHEMA_VERSION: Final = 1

# The total is kept by the database itself, so that no process can count wrongly for another.
_SCHEMA: Final = (
    "CREATE TABLE entry (id INTEGER PRIMARY KEY, url TEXT NOT NULL, variant TEXT NOT NULL, head TEXT NOT NULL, "
    "body BLOB NOT NULL, sum INTEGER NOT NULL, size INTEGER NOT NULL, used REAL NOT NULL, UNIQUE (url, variant))",
    "CREATE INDEX entry_by_use ON entry (used, id, size)",
    "CREATE TABLE total (bytes INTEGER NOT NULL)",
    "INSERT INTO total VALUES (0)",
    "CREATE TRIGGER entry_comes AFTER INSERT ON entry BEGIN UPDATE total SET bytes = bytes + NEW.size; END",
    "CREATE TRIGGER entry_goes AFTER DELETE ON entry BEGIN UPDATE total SET bytes = bytes - OLD.size; END",
    f"PRAGMA user_version = {SCHEMA_VERSION}",
)


def prepare(database: sqlite3.Connection, path: str) -> None:
    """Make the tables where there are none, and refuse those of others, whose file stays as it is."""
    _check_version(database, path)
    database.execute("PRAGMA journal_mode = WAL")
    # With a write-ahead log this loses the last writes at most, and breaks nothing (sqlite.org/wal.html).
    database.execute("PRAGMA synchronous = NORMAL")
    # It writes, so that a database that can only be read is found now.
    with transaction(database, "IMMEDIATE"):
        # Another process may have made them since.
        if _check_version(database, path) == 0:
            for statement in _SCHEMA:
                database.execute(statement)
        database.execute("UPDATE total SET bytes = bytes")


def _check_version(database: sqlite3.Connection, path: str) -> int:
    """Return the version of a database, 0 for an empty one; raise UsageError where it is none of ours."""
    [version] = database.execute("PRAGMA user_version").fetchone()
    tables = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if version != (SCHEMA_VERSION if tables else 0):
        raise UsageError(f"the cache database {path!r} cannot be used: its version is {version}, not {SCHEMA_VERSION}")
    if tables and not tables >= {"entry", "total"}:
        raise UsageError(f"the cache database {path!r} cannot be used: it has no such table as entry or total")
    return int(version)


@contextmanager
def transaction(database: sqlite3.Connection, kind: str) -> Iterator[None]:
    """Do all of what follows or nothing of it; the kind is that of SQLite's BEGIN."""
    database.execute(f"BEGIN {kind}")
    try:
        yield
        database.execute("COMMIT")
    except BaseException:
        if database.in_transaction:
            database.execute("ROLLBACK")
        raise


def leaving(database: sqlite3.Connection, excess: int) -> list[tuple[int]]:
    """Return the rows of those that were not used for longest, enough to free so many bytes."""
    leaving = []
    for row, size in database.execute("SELECT id, size FROM entry ORDER BY used, id"):
        leaving.append((row,))
        excess -= size
        if excess <= 0:
            break
    return leaving


def checksum(head: object, body: bytes) -> int:
    """Return what shows that a row is whole."""
    return zlib.crc32(body, zlib.crc32(str(head).encode("utf-8", "surrogatepass")))


def encode(entry: Entry) -> str:
    """Return all of an entry but its body as text."""
    return json.dumps(
        [
            entry.method,
            entry.status_code,
            entry.reason,
            entry.http_version,
            entry.headers,
            entry.varied,
            entry.request_time,
            entry.response_time,
            entry.partition,
        ]
    )


def decode(head: object) -> Entry | None:
    """Return the entry that `encode` made a text of, without its body; None where there is none."""
    try:
        parts: Any = json.loads(head)  # type: ignore[arg-type]  # what it is, is found out here
        method, status, reason, version, headers, varied, request_time, response_time, partition = parts
        texts = [method, reason, version, partition, *(part for pair in headers for part in pair)]
        texts += [part for name, value in varied for part in (name, "" if value is None else value)]
        sound = all(isinstance(text, str) for text in texts) and isinstance(status, int)
        times = (request_time, response_time)
        if not sound or not all(isinstance(moment, float) and isfinite(moment) for moment in times):
            return None
        return Entry(
            method,
            status,
            reason,
            version,
            tuple((name, value) for name, value in headers),
            tuple((name, value) for name, value in varied),
            request_time,
            response_time,
            b"",
            partition,
        )
    except (ValueError, TypeError, RecursionError):
        return None


def with_body(entry: Entry, body: bytes) -> Entry:
    """Return an entry with its body."""
    return replace(entry, body=body)
