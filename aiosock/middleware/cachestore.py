"""
Where a cache keeps responses: in memory, or in a SQLite database that processes share.

A store knows nothing of freshness. It keeps what it is given within its bound, and those go first that were not used
for longest.
"""

from __future__ import annotations

import json
import logging
import os
import time
import zlib
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias, TypeVar

from aiosock.errors import UsageError
from aiosock.network.threads import DaemonThreads
from aiosock.protocol.cache import Entry

if TYPE_CHECKING:
    import sqlite3

logger = logging.getLogger("aiosock.middleware")

T = TypeVar("T")
Choose: TypeAlias = Callable[[Iterable[Entry]], Entry | None]

MIB: Final = 1024 * 1024
MAX_VARIANTS: Final = 64
"""The most entries of one URL, so that what is asked for as ever new users does not push out all else."""
ENTRY_BYTES: Final = 1024
"""What an entry costs besides its fields and its body, in bytes."""

SCHEMA_VERSION: Final = 1
BUSY_SECONDS: Final = 0.5
# How recently an entry was used need not be known more closely, and each note of it writes to the disk.
USE_GRAIN_SECONDS: Final = 60.0


class Store(Protocol):
    """What keeps the entries of a `Cache`, several for a URL. It may be shared by caches."""

    async def find(self, url: str, choose: Choose, /) -> Entry | None:
        """
        Return what is chosen of the entries of a URL.

        Args:
            url: The URL.
            choose: Returns one of the entries that it is given, or None. Their bodies may be missing, and it may be
                called in another thread.
        """
        ...

    async def put(self, url: str, entry: Entry, /) -> None:
        """Keep an entry; it takes the place of the one with the same method, partition and varied fields."""
        ...

    async def remove(self, url: str, entry: Entry | None = None, /) -> None:
        """Drop an entry of a URL, or all of them."""
        ...

    async def close(self) -> None:
        """Give up what the store holds open."""
        ...


def size_of(entry: Entry) -> int:
    """Return what an entry counts for, in bytes."""
    fields = sum(len(name) + len(value) for name, value in entry.headers)
    varied = sum(len(name) + len(value or "") for name, value in entry.varied)
    return ENTRY_BYTES + fields + varied + len(entry.body)


def variant_of(entry: Entry) -> str:
    """Return what tells an entry from the others of its URL."""
    return json.dumps([entry.method, entry.partition, entry.varied])


def _checked_bound(owner: str, max_bytes: int) -> int:
    if isinstance(max_bytes, bool) or not isinstance(max_bytes, int) or max_bytes < 1:
        raise UsageError(f"{owner}: max_bytes takes a whole number of at least 1, not {max_bytes!r}")
    return max_bytes


class MemoryStore:
    """
    Keeps entries in memory.

    Args:
        max_bytes: The most bytes of all entries, as they were sent, with their fields.

    Raises:
        UsageError: ``max_bytes`` is no number of at least 1.
    """

    def __init__(self, *, max_bytes: int = 64 * MIB) -> None:
        self._max_bytes = _checked_bound("MemoryStore", max_bytes)
        self._urls: dict[str, dict[str, Entry]] = {}
        # Those not used for longest first, and what each counts for.
        self._sizes: OrderedDict[tuple[str, str], int] = OrderedDict()
        self.bytes = 0
        """The bytes of all entries."""

    def __len__(self) -> int:
        return len(self._sizes)

    def __repr__(self) -> str:
        return f"<MemoryStore {len(self)} entries, {self.bytes} bytes>"

    async def find(self, url: str, choose: Choose, /) -> Entry | None:
        """Return what is chosen of the entries of a URL."""
        kept = self._urls.get(url)
        entry = choose(kept.values()) if kept else None
        if entry is not None:
            self._sizes.move_to_end((url, variant_of(entry)))
        return entry

    async def put(self, url: str, entry: Entry, /) -> None:
        """Keep an entry; one that passes the bound alone is not kept."""
        variant, size = variant_of(entry), size_of(entry)
        self._drop(url, variant)
        if size > self._max_bytes:
            return
        self._urls.setdefault(url, {})[variant] = entry
        self._sizes[url, variant] = size
        self.bytes += size
        if len(self._urls[url]) > MAX_VARIANTS:
            self._drop(url, next(iter(self._urls[url])))
        while self.bytes > self._max_bytes:
            self._drop(*next(iter(self._sizes)))

    async def remove(self, url: str, entry: Entry | None = None, /) -> None:
        """Drop an entry of a URL, or all of them."""
        for variant in [variant_of(entry)] if entry is not None else list(self._urls.get(url, ())):
            self._drop(url, variant)

    async def close(self) -> None:
        """Nothing is held open; what is kept stays for others who share the store, and goes with the last of them."""

    def _drop(self, url: str, variant: str) -> None:
        self.bytes -= self._sizes.pop((url, variant), 0)
        kept = self._urls.get(url)
        if kept is not None and kept.pop(variant, None) is not None and not kept:
            del self._urls[url]


class SQLiteStore:
    """
    Keeps entries in a SQLite database, which processes may share and which a crash leaves whole.

    All work is done in one thread of its own. While another process writes, it waits for 2 s at most; what cannot be
    read or written then is a miss. The database is made, readable by its owner alone, when there is none; it holds
    whole URLs and what servers sent, so that whoever may read it may read that. It holds no credentials of requests.

    Args:
        path: The file; beside it there are two more while it is open.
        max_bytes: The most bytes of all entries, as they were sent, with their fields. The file may be larger.
        clock: Tells seconds since the epoch.

    Raises:
        UsageError: ``max_bytes`` is no number of at least 1, or ``path`` no path. A database that cannot be used is
            found when it is used first.
    """

    def __init__(
        self, path: str | os.PathLike[str], *, max_bytes: int = 256 * MIB, clock: Callable[[], float] = time.time
    ) -> None:
        self._max_bytes = _checked_bound("SQLiteStore", max_bytes)
        try:
            self._path = os.fsdecode(path)
        except TypeError as error:
            raise UsageError(f"SQLiteStore: path takes a str or a path, not {type(path).__name__}") from error
        if "\0" in self._path:
            raise UsageError(f"SQLiteStore: path takes no name with a NUL, as {self._path!r} has")
        self._clock: Callable[[], float] = lambda: float(clock())
        self._threads = DaemonThreads(1)
        self._process = os.getpid()
        self._database: sqlite3.Connection | None = None
        # What a fork has left here of its parent's: not to be used, nor closed.
        self._inherited: list[sqlite3.Connection | None] = []
        # URLs whose entries, or one variant of them, are to go as soon as others let us.
        self._owed: dict[str, str | None] = {}

    def __repr__(self) -> str:
        return f"<SQLiteStore {self._path!r}>"

    async def find(self, url: str, choose: Choose, /) -> Entry | None:
        """
        Return what is chosen of the entries of a URL; those that are corrupt are removed.

        Raises:
            UsageError: The database cannot be used; the message names it.
        """
        return await self._own_threads().run(lambda: self._tolerant(lambda: self._find(url, choose)))

    async def put(self, url: str, entry: Entry, /) -> None:
        """Keep an entry, one that passes the bound alone is not kept; raises as `find`."""
        await self._own_threads().run(lambda: self._tolerant(lambda: self._put(url, entry)))

    async def remove(self, url: str, entry: Entry | None = None, /) -> None:
        """Drop an entry of a URL, or all of them; raises as `find`."""
        await self._own_threads().run(lambda: self._tolerant(lambda: self._remove(url, entry)))

    async def close(self) -> None:
        """Close the database; it is opened again when it is used again."""
        await self._own_threads().run(self._close)

    def _own_threads(self) -> DaemonThreads:
        """Return the thread of this process: those of one that it was forked from are not here."""
        if self._process != os.getpid():
            self._process = os.getpid()
            self._threads = DaemonThreads(1)
            self._inherited.append(self._database)
            self._database = None
        return self._threads

    # What follows runs in the thread.

    def _tolerant(self, work: Callable[[], T]) -> T | None:
        """Do work with the database; while others keep it busy, or the disk is full, there is nothing to be had."""
        import sqlite3

        try:
            return work()
        except sqlite3.Error as error:
            if getattr(error, "sqlite_errorname", "").startswith(("SQLITE_BUSY", "SQLITE_LOCKED", "SQLITE_FULL")):
                logger.debug("the cache database %r cannot be used for now: %s", self._path, error)
                return None
            raise UsageError(f"the cache database {self._path!r} cannot be used: {error}") from error
        except OSError as error:
            raise UsageError(f"the cache database {self._path!r} cannot be used: {error.strerror}") from error

    def _open(self) -> sqlite3.Connection:
        if self._database is None:
            import sqlite3

            if self._path != ":memory:":
                # What is made here is nobody else's to read.
                os.close(os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600))
            # The thread is another one after a pause, but there is never more than one.
            database = sqlite3.connect(self._path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
            try:
                _prepare(database, self._path)
            except BaseException:
                database.close()
                raise
            self._database = database
        return self._database

    def _close(self) -> None:
        if self._database is not None:
            self._database.close()
            self._database = None

    def _find(self, url: str, choose: Choose) -> Entry | None:
        database = self._open()
        if self._owed:
            self._tolerant(self._settle)
            if url in self._owed:
                return None
        with _transaction(database, "DEFERRED"):
            rows = database.execute("SELECT id, head FROM entry WHERE url = ?", (url,)).fetchall()
            known = {id(entry): (entry, row) for row, head in rows if (entry := _decode(head)) is not None}
            chosen = choose(entry for entry, _ in known.values())
            entry, row = known[id(chosen)] if chosen is not None else (None, None)
            found = (
                database.execute("SELECT body, sum, head, used FROM entry WHERE id = ?", (row,)).fetchone()
                if entry is not None
                else None
            )
        corrupt = {row for row, _ in rows} - {row for _, row in known.values()}
        now = self._clock()
        used = now
        if entry is not None and found is not None:
            body, checksum, head, used = found
            if isinstance(body, bytes) and checksum == _sum(head, body):
                entry = _with_body(entry, body)
            else:
                corrupt.add(row)
                entry = None
        if corrupt:
            logger.debug("removed %d corrupt entries of the cache database %r", len(corrupt), self._path)
            with _transaction(database, "IMMEDIATE"):
                database.executemany("DELETE FROM entry WHERE id = ?", [(row,) for row in corrupt])
        elif entry is not None and not (isinstance(used, float) and abs(now - used) < USE_GRAIN_SECONDS):
            self._tolerant(lambda: database.execute("UPDATE entry SET used = ? WHERE id = ?", (now, row)))
        return entry

    def _put(self, url: str, entry: Entry) -> None:
        database, size, variant = self._open(), size_of(entry), variant_of(entry)
        if self._owed:
            self._settle()
        head = _encode(entry)
        with _transaction(database, "IMMEDIATE"):
            database.execute("DELETE FROM entry WHERE url = ? AND variant = ?", (url, variant))
            if size > self._max_bytes:
                return
            # The newest is the last to go, even if a clock was set back.
            [latest] = database.execute("SELECT ifnull(max(used), 0) FROM entry").fetchone()
            used = max(self._clock(), latest)
            database.execute(
                "INSERT INTO entry (url, variant, head, body, sum, size, used) VALUES (?, ?, ?, ?, ?, ?, ?)",
                (url, variant, head, entry.body, _sum(head, entry.body), size, used),
            )
            database.execute(
                "DELETE FROM entry WHERE id IN (SELECT id FROM entry WHERE url = ? ORDER BY used DESC, id DESC "
                "LIMIT -1 OFFSET ?)",
                (url, MAX_VARIANTS),
            )
            [held] = database.execute("SELECT bytes FROM total").fetchone()
            if held > self._max_bytes:
                database.executemany("DELETE FROM entry WHERE id = ?", _leaving(database, held - self._max_bytes))

    def _remove(self, url: str, entry: Entry | None) -> None:
        self._owed[url] = None if entry is None or url in self._owed else variant_of(entry)
        self._settle()

    def _settle(self) -> None:
        """Drop what is to go; what cannot go because others keep the database busy goes the next time."""
        database = self._open()
        with _transaction(database, "IMMEDIATE"):
            for url, variant in self._owed.items():
                which = ("", ()) if variant is None else (" AND variant = ?", (variant,))
                database.execute(f"DELETE FROM entry WHERE url = ?{which[0]}", (url, *which[1]))  # noqa: S608  # no value
        self._owed.clear()


def _leaving(database: sqlite3.Connection, excess: int) -> list[tuple[int]]:
    """Return the rows of those that were not used for longest, enough to free so many bytes."""
    leaving = []
    for row, size in database.execute("SELECT id, size FROM entry ORDER BY used, id"):
        leaving.append((row,))
        excess -= size
        if excess <= 0:
            break
    return leaving


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


def _prepare(database: sqlite3.Connection, path: str) -> None:
    """Make the tables where there are none, and refuse those of others, whose file stays as it is."""
    _check_version(database, path)
    database.execute("PRAGMA journal_mode = WAL")
    # With a write-ahead log this loses the last writes at most, and breaks nothing (sqlite.org/wal.html).
    database.execute("PRAGMA synchronous = NORMAL")
    # It writes, so that a database that can only be read is found now.
    with _transaction(database, "IMMEDIATE"):
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
def _transaction(database: sqlite3.Connection, kind: str) -> Iterator[None]:
    database.execute(f"BEGIN {kind}")
    try:
        yield
        database.execute("COMMIT")
    except BaseException:
        if database.in_transaction:
            database.execute("ROLLBACK")
        raise


def _sum(head: object, body: bytes) -> int:
    return zlib.crc32(body, zlib.crc32(str(head).encode("utf-8", "surrogatepass")))


def _encode(entry: Entry) -> str:
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


def _decode(head: object) -> Entry | None:
    """Return the entry, without its body; None where it is corrupt."""
    try:
        parts: Any = json.loads(head)  # type: ignore[arg-type]  # what it is, is found out here
        method, status, reason, version, headers, varied, request_time, response_time, partition = parts
        texts = [method, reason, version, partition, *(part for pair in headers for part in pair)]
        texts += [part for name, value in varied for part in (name, "" if value is None else value)]
        sound = all(isinstance(text, str) for text in texts) and isinstance(status, int)
        if not sound or not all(isinstance(moment, float) for moment in (request_time, response_time)):
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


def _with_body(entry: Entry, body: bytes) -> Entry:
    from dataclasses import replace

    return replace(entry, body=body)
