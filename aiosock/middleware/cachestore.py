"""
Where a cache keeps responses: in memory, or in a SQLite database that processes share.

A store knows nothing of freshness. It keeps what it is given within its bound, and those go first that were not used
for longest.
"""

from __future__ import annotations

import asyncio
import atexit
import json
import logging
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias, TypeVar
from weakref import WeakSet

from aiosock.errors import UsageError
from aiosock.middleware.cacherows import checksum, decode, encode, leaving, prepare, transaction, with_body
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

BUSY_SECONDS: Final = 0.5
PATIENCE_SECONDS: Final = 1.0
"""When others have kept the database busy for so long, nothing else waits for them until this is over."""
MAX_UNWRITTEN_BYTES: Final = 16 * MIB
EXIT_SECONDS: Final = 5.0
"""How long the end of a process waits at most for what is still to be written."""
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
        if kept and entry is not None:
            variant = variant_of(entry)
            self._sizes.move_to_end((url, variant))
            kept[variant] = kept.pop(variant)
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

    All work is done in one thread of its own, and nobody who reads a body waits for it to be written; only the end of
    the process does, for 5 seconds at most, where the store was not closed. While another process writes, the thread
    waits for half a second at most; what cannot be read or written then is a miss. The database is made, readable by
    its owner alone, when there is none; it holds whole URLs and what servers sent, so that whoever may read it may read
    that. It holds no credentials of requests. A fork waits for the work under way, and either side opens the database
    anew.

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
        # Held while the database is at work, and while the process forks.
        self._at_work = threading.Lock()
        # URLs whose entries, or one variant of them, are to go as soon as others let us.
        self._owed: dict[str, str | None] = {}
        self._busy_seconds = BUSY_SECONDS
        self._patient_from = 0.0
        # In bytes, ever since; the one is counted by the loop, the other by the thread.
        self._handed_over = 0
        self._written = 0
        # Set when what was handed over last is written; None where there was nothing yet.
        self._last: threading.Event | None = None
        _stores.add(self)

    def __repr__(self) -> str:
        return f"<SQLiteStore {self._path!r}>"

    async def find(self, url: str, choose: Choose, /) -> Entry | None:
        """
        Return what is chosen of the entries of a URL; those that are corrupt are removed.

        Raises:
            UsageError: The database cannot be used; the message names it.
        """
        return await self._run(lambda: self._find(url, choose))

    async def put(self, url: str, entry: Entry, /) -> None:
        """
        Keep an entry; one that passes the bound alone is not kept.

        It is written behind the back of whoever keeps it: what is asked of the store from now on knows of it. A DEBUG
        line tells where it cannot be written. Only who keeps more than the disk takes has to wait for it.
        """
        now = self._clock()
        written = threading.Event()

        def write() -> None:
            try:
                self._put(url, entry, now)
            finally:
                written.set()

        writing = self._run(write)
        # All is written in turn, so that the last one tells of all.
        self._last = written
        writing.add_done_callback(_tell)
        self._handed_over += len(entry.body)
        if self._handed_over - self._written > MAX_UNWRITTEN_BYTES:
            await asyncio.wait([writing])

    async def remove(self, url: str, entry: Entry | None = None, /) -> None:
        """Drop an entry of a URL, or all of them; raises as `find`."""
        await self._run(lambda: self._remove(url, entry))

    async def close(self) -> None:
        """Close the database; it is opened again when it is used again."""
        await self._run(self._finish)

    def _run(self, work: Callable[[], T]) -> asyncio.Future[T | None]:
        """Return a future for what work with the database comes to; all of it is done in the order in which it came."""
        if self._process != os.getpid():
            # The threads of the process that this one was forked from are not here.
            self._process = os.getpid()
            self._threads = DaemonThreads(1)
            self._handed_over = self._written = 0
            self._last = None
        return self._threads.run(lambda: self._work(work))

    # What follows runs in the thread.

    def _work(self, work: Callable[[], T]) -> T | None:
        with self._at_work:
            return self._tolerant(work)

    def _tolerant(self, work: Callable[[], T]) -> T | None:
        """Do work with the database; while others keep it busy, or the disk is full, there is nothing to be had."""
        import sqlite3

        try:
            return work()
        except sqlite3.Error as error:
            if _is_busy(error) or getattr(error, "sqlite_errorname", "") == "SQLITE_FULL":
                logger.debug("the cache database %r cannot be used for now: %s", self._path, error)
                return None
            # It may be another file by now: the next one to use it opens it anew.
            self._close()
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
                prepare(database, self._path)
            except BaseException:
                database.close()
                raise
            self._database = database
            self._busy_seconds = BUSY_SECONDS
        return self._database

    def _close(self) -> None:
        database, self._database = self._database, None
        if database is not None:
            database.close()

    def _finish(self) -> None:
        """Close the database, without what others have kept from going so far: they would be given it."""
        try:
            if self._owed:
                self._tolerant(self._settle)
        except UsageError as error:
            logger.debug("what was to go is left: %s", error)
        self._close()

    @contextmanager
    def _writing(self, database: sqlite3.Connection) -> Iterator[None]:
        """Write all of what follows or nothing of it; where many would have to wait for others, one does for all."""
        began = time.monotonic()
        self._wait_for_others(database, BUSY_SECONDS if began >= self._patient_from else 0.0)
        try:
            with transaction(database, "IMMEDIATE"):
                yield
        except BaseException as error:
            if _is_busy(error):
                self._patient_from = max(self._patient_from, began + PATIENCE_SECONDS)
            raise

    def _wait_for_others(self, database: sqlite3.Connection, seconds: float) -> None:
        if seconds != self._busy_seconds:
            database.execute(f"PRAGMA busy_timeout = {round(seconds * 1000)}")
            self._busy_seconds = seconds

    def _find(self, url: str, choose: Choose) -> Entry | None:
        database = self._open()
        if self._owed:
            self._tolerant(self._settle)
            if url in self._owed:
                return None
        with transaction(database, "DEFERRED"):
            rows = database.execute("SELECT id, head FROM entry WHERE url = ?", (url,)).fetchall()
            known = {id(entry): (entry, row) for row, head in rows if (entry := decode(head)) is not None}
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
            body, noted, head, used = found
            if isinstance(body, bytes) and noted == checksum(head, body):
                entry = with_body(entry, body)
            else:
                corrupt.add(row)
                entry = None
        if corrupt:
            logger.debug("removed %d corrupt entries of the cache database %r", len(corrupt), self._path)
            with self._writing(database):
                database.executemany("DELETE FROM entry WHERE id = ?", [(row,) for row in corrupt])
        elif entry is not None and not (isinstance(used, float) and abs(now - used) < USE_GRAIN_SECONDS):
            self._note_use(database, row, now)
        return entry

    def _note_use(self, database: sqlite3.Connection, row: int | None, now: float) -> None:
        """Note when an entry was used, if that takes no wait; nobody is to miss the entry for it."""
        import sqlite3

        self._wait_for_others(database, 0.0)
        try:
            database.execute("UPDATE entry SET used = ? WHERE id = ?", (now, row))
        except sqlite3.Error as error:
            logger.debug("the cache database %r cannot note a use: %s", self._path, error)

    def _put(self, url: str, entry: Entry, now: float) -> None:
        self._written += len(entry.body)
        database, size, variant = self._open(), size_of(entry), variant_of(entry)
        if self._owed:
            self._settle()
        head = encode(entry)
        with self._writing(database):
            database.execute("DELETE FROM entry WHERE url = ? AND variant = ?", (url, variant))
            if size > self._max_bytes:
                return
            # The newest is the last to go, even if a clock was set back.
            [latest] = database.execute("SELECT ifnull(max(used), 0) FROM entry").fetchone()
            used = max(now, latest)
            database.execute(
                "INSERT INTO entry (url, variant, head, body, sum, size, used) VALUES (?, ?, ?, ?, ?, ?, ?)",
                (url, variant, head, entry.body, checksum(head, entry.body), size, used),
            )
            database.execute(
                "DELETE FROM entry WHERE id IN (SELECT id FROM entry WHERE url = ? ORDER BY used DESC, id DESC "
                "LIMIT -1 OFFSET ?)",
                (url, MAX_VARIANTS),
            )
            [held] = database.execute("SELECT bytes FROM total").fetchone()
            if held > self._max_bytes:
                database.executemany("DELETE FROM entry WHERE id = ?", leaving(database, held - self._max_bytes))

    def _remove(self, url: str, entry: Entry | None) -> None:
        self._owed[url] = None if entry is None or url in self._owed else variant_of(entry)
        self._settle()

    def _settle(self) -> None:
        """Drop what is to go; what cannot go because others keep the database busy goes the next time."""
        database = self._open()
        with self._writing(database):
            for url, variant in self._owed.items():
                # Without a variant, all of them.
                database.execute("DELETE FROM entry WHERE url = ? AND variant = ifnull(?, variant)", (url, variant))
        self._owed.clear()


# A connection that is there twice after a fork makes SQLite mistake who holds which lock, and lose what was written
# (sqlite.org/howtocorrupt.html, 2.6). So there is none while a process forks; each side opens its own when it needs it.
_stores: Final[WeakSet[SQLiteStore]] = WeakSet()
# One thread at a time holds stores, as nobody would ever let go of what another holds in the child of the first.
_one_fork: Final = threading.Lock()
_held: Final[list[SQLiteStore]] = []


def _before_fork() -> None:
    _one_fork.acquire()
    for store in list(_stores):
        store._at_work.acquire()
        _held.append(store)
        store._close()


def _after_fork() -> None:
    while _held:
        _held.pop()._at_work.release()
    _one_fork.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork)


@atexit.register
def _at_exit() -> None:
    """Wait for what is still to be written: the threads that write end with the process, however far they are."""
    until = time.monotonic() + EXIT_SECONDS
    for store in list(_stores):
        # What a fork finds unwritten is its parent's.
        if store._last is not None and store._process == os.getpid():
            store._last.wait(max(until - time.monotonic(), 0.0))


def _is_busy(error: BaseException) -> bool:
    return getattr(error, "sqlite_errorname", "").startswith(("SQLITE_BUSY", "SQLITE_LOCKED"))


def _tell(writing: asyncio.Future[None]) -> None:
    if not writing.cancelled() and (error := writing.exception()) is not None:
        logger.debug("an answer could not be kept: %s", error)
