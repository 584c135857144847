"""
Request bodies: what the user gives, as pieces of bytes that know their length and whether they can be sent again.
"""

from __future__ import annotations

import asyncio
import inspect
import io
import json as json_module
import os
import stat
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Iterable, Mapping
from typing import IO, Final, Protocol, TypeAlias, cast

from aiosock.errors import UsageError
from aiosock.message.url import encode_pairs, text_in

PIECE_BYTES: Final = 64 * 1024
# Reading in a thread costs a switch there and back for each piece.
FILE_PIECE_BYTES: Final = 256 * 1024


class AsyncFile(Protocol):
    """A binary file that is read by awaiting, such as those of anyio and aiofiles."""

    async def read(self, size: int, /) -> bytes:
        """Return at most so many bytes, ``b""`` at the end."""
        ...


Content: TypeAlias = (
    bytes | bytearray | memoryview | str | IO[bytes] | AsyncFile | Iterable[bytes] | AsyncIterable[bytes]
)
FormData: TypeAlias = Mapping[str, object] | Iterable[tuple[str, object]]
JSONEncoder: TypeAlias = Callable[[object], "str | bytes"]


class Body:
    """
    A request body.

    Attributes:
        source: What the user gave.
        length: Bytes in all, None where only its end tells.
        replayable: `pieces` can be called again for the same bytes.
    """

    __slots__ = ("length", "replayable", "source")

    def __init__(self, source: object, length: int | None, replayable: bool) -> None:
        self.source = source
        self.length = length
        self.replayable = replayable

    def pieces(self) -> AsyncGenerator[bytes | memoryview, None]:
        """Return the body from its start, in pieces of no particular size."""
        raise TypeError(f"{type(self).__name__} has no pieces")


class BytesBody(Body):
    """A body that is there already."""

    __slots__ = ("data",)

    def __init__(self, source: object, data: bytes | memoryview) -> None:
        super().__init__(source, len(data), True)
        self.data = data

    async def pieces(self) -> AsyncGenerator[bytes | memoryview, None]:
        view = memoryview(self.data)
        for start in range(0, len(view), PIECE_BYTES):
            yield view[start : start + PIECE_BYTES]


class FileBody(Body):
    """
    A file object, read from where it stands.

    It is read in a worker thread, as reading may block, save what is known to be in memory. It can be sent again when
    it can seek. Part of it may be sent by other means, by its `descriptor`; `pieces_after` has the rest.
    """

    __slots__ = ("_file", "_in_thread", "_reading", "_start")

    def __init__(self, file: IO[bytes]) -> None:
        _refuse_closed(file)
        self._file = file
        self._reading: asyncio.Future[bytes] | None = None
        self._in_thread, length, self._start = _measure(file)
        super().__init__(file, length, self._start is not None)

    def descriptor(self) -> int | None:
        """
        Return a descriptor of the file, which the caller closes; None unless what it reads is what `pieces` gives.

        The file itself may be closed while the descriptor is in use: its number may be another's then.

        Raises:
            UsageError: It is closed already.
        """
        file = self._file
        _refuse_closed(file)
        # What inherits from these may give other bytes than those of the file.
        if type(file) not in (io.FileIO, io.BufferedReader, io.BufferedRandom) or self.length is None:
            return None
        try:
            if type(getattr(file, "raw", file)) is not io.FileIO or not file.readable():
                return None
            if type(file) is io.BufferedRandom:
                file.flush()
            return os.dup(file.fileno())
        except (OSError, ValueError):
            # Another thread may close it at any time.
            _refuse_closed(file)
            raise

    @property
    def start(self) -> int:
        """Where in the file the body begins."""
        return self._start or 0

    def pieces(self) -> AsyncGenerator[bytes | memoryview, None]:
        return self.pieces_after(0)

    async def pieces_after(self, count: int) -> AsyncGenerator[bytes | memoryview, None]:
        """Return the pieces without the first so many bytes, which only one with a `descriptor` can leave out."""
        file = self._file
        if self._reading is not None:
            # A sending that was called off could not call off its thread, which would move the file under us.
            await asyncio.wait([self._reading])
        _refuse_closed(file)
        if self._start is not None:
            file.seek(self._start + count)
        while True:
            try:
                read = await self._read_in_thread() if self._in_thread else file.read(FILE_PIECE_BYTES)
            except (OSError, ValueError):
                _refuse_closed(file)
                raise
            # Checked before it is taken for the end: a file that would block gives None.
            piece = _checked(read)
            if not piece:
                return
            yield piece

    async def _read_in_thread(self) -> bytes:
        self._reading = asyncio.get_running_loop().run_in_executor(None, self._file.read, FILE_PIECE_BYTES)
        try:
            return await asyncio.shield(self._reading)
        finally:
            if self._reading.done():
                self._reading = None


def _refuse_closed(file: object) -> None:
    if getattr(file, "closed", False) is True:
        raise UsageError("content: the file is closed, but it is read when the request is sent")


def _measure(file: IO[bytes]) -> tuple[bool, int | None, int | None]:
    """Return whether reading may block, the bytes from here to the end, and where here is, as far as they are known."""
    # A GzipFile has the number of its file but gives other bytes: only the file itself, maybe buffered, is asked.
    inner = getattr(file, "raw", file)
    start: int | None = None
    length: int | None = None
    try:
        start = file.tell() if file.seekable() else None
    except (AttributeError, OSError, ValueError):
        pass
    if start is None:
        pass
    elif isinstance(inner, io.FileIO):
        status = os.fstat(inner.fileno())
        # The size of a device means nothing.
        length = max(status.st_size - start, 0) if stat.S_ISREG(status.st_mode) else None
    elif not hasattr(file, "peek"):
        # One that can peek decodes what it reads (gzip, zip), and would decode all of it on its way to the end.
        length = max(file.seek(0, os.SEEK_END) - start, 0)
        file.seek(start)
    return not isinstance(inner, io.BytesIO), length, start


class AsyncFileBody(Body):
    """A file that is read by awaiting, from where it stands, and once: where that is would have to be awaited too."""

    __slots__ = ("_file",)

    def __init__(self, file: AsyncFile) -> None:
        self._file = file
        super().__init__(file, None, False)

    async def pieces(self) -> AsyncGenerator[bytes | memoryview, None]:
        _refuse_closed(self._file)
        while piece := _checked(await self._file.read(FILE_PIECE_BYTES)):
            yield piece


class IterableBody(Body):
    """An iterable of bytes; one that gives a fresh iterator each time, such as a list, can be sent again."""

    __slots__ = ("_iterable",)

    def __init__(self, iterable: Iterable[bytes]) -> None:
        self._iterable = iterable
        super().__init__(iterable, None, not hasattr(iterable, "__next__"))

    async def pieces(self) -> AsyncGenerator[bytes | memoryview, None]:
        for piece in self._iterable:
            yield _checked(piece)


class AsyncIterableBody(Body):
    """An asynchronous iterable of bytes."""

    __slots__ = ("_iterable",)

    def __init__(self, iterable: AsyncIterable[bytes]) -> None:
        self._iterable = iterable
        super().__init__(iterable, None, not hasattr(iterable, "__anext__"))

    async def pieces(self) -> AsyncGenerator[bytes | memoryview, None]:
        iterator = aiter(self._iterable)
        try:
            async for piece in iterator:
                yield piece if type(piece) is bytes else _checked(piece)
        finally:
            # A generator that is left half way would wait for the garbage collector to run its cleanup.
            if isinstance(iterator, AsyncGenerator):
                await iterator.aclose()


def _checked(piece: object) -> bytes | memoryview:
    if isinstance(piece, bytes):
        return piece
    if isinstance(piece, (bytearray, memoryview)):
        # The owner may change it as soon as it is asked for the next one.
        return bytes(piece)
    if isinstance(piece, str):
        raise UsageError("content: its pieces must be bytes, not str; encode them")
    raise UsageError(f"content: its pieces must be bytes, not {type(piece).__name__}")


def make_body(content: Content, hint: str = "; a form goes in data, any JSON value in json") -> Body:
    """
    Return the body that a user's ``content`` stands for.

    Args:
        content: What the user gave.
        hint: Where to go with what is nothing of the kind, for the message.

    Raises:
        UsageError: It is nothing that bytes could come from, or a file in text mode.
    """
    if isinstance(content, bytes):
        return BytesBody(content, content)
    if isinstance(content, str):
        try:
            return BytesBody(content, content.encode())
        except UnicodeEncodeError as error:
            raise UsageError("content: the str has a lone surrogate and cannot be encoded") from error
    if isinstance(content, (bytearray, memoryview)):
        return BytesBody(content, bytes(content))
    if _is_async_file(content):
        _refuse_text(content)
        file = getattr(content, "wrapped", None)
        if not isinstance(file, io.IOBase):
            return AsyncFileBody(cast("AsyncFile", content))
        # anyio shows the file that it reads in a thread, as we would: so its length is known.
        body = FileBody(cast("IO[bytes]", file))
        body.source = content
        return body
    if isinstance(content, AsyncIterable):
        return AsyncIterableBody(content)
    if hasattr(content, "read"):
        _refuse_text(content)
        return FileBody(cast("IO[bytes]", content))
    if isinstance(content, Iterable) and not isinstance(content, Mapping):
        return IterableBody(content)
    raise UsageError(
        f"content: takes bytes, str, a file object or an iterable of bytes, not {type(content).__name__}{hint}"
    )


def _is_async_file(content: object) -> bool:
    # The iteration of a file gives lines; one that gives anything else is meant as it is.
    return inspect.iscoroutinefunction(getattr(content, "read", None)) and (
        hasattr(content, "readline") or not isinstance(content, AsyncIterable)
    )


def _refuse_text(file: object) -> None:
    if isinstance(file, io.TextIOBase) or getattr(file, "encoding", None) is not None:
        raise UsageError("content: the file is open in text mode; open it in binary mode ('rb')")


_to_json: Final = json_module.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode


def encode_json(value: object) -> bytes:
    """
    Return a value as compact JSON (RFC 8259).

    Raises:
        UsageError: JSON has no such value.
    """
    try:
        return _to_json(value).encode()
    except (TypeError, ValueError) as error:
        raise UsageError(f"json: {error}") from error


def encode_form(data: FormData) -> bytes:
    """
    Return a form as application/x-www-form-urlencoded.

    Raises:
        UsageError: As `form_pairs`, or a str that cannot be encoded.
    """
    return encode_pairs("data", form_pairs(data)).encode("ascii")


def form_pairs(data: FormData) -> list[tuple[str | bytes, str | bytes]]:
    """
    Return the names and values of a form.

    Raises:
        UsageError: Not a mapping or pairs, or a value that is a collection within a collection.
    """
    if isinstance(data, (str, bytes, bytearray)) or not isinstance(data, Iterable):
        raise UsageError(f"data: takes a form (a mapping or pairs), not {type(data).__name__}; bytes go in content")
    items = data.items() if isinstance(data, Mapping) else data
    pairs: list[tuple[str | bytes, str | bytes]] = []
    for item in items:
        if not isinstance(item, (tuple, list)) or len(item) != 2:
            raise UsageError("data: every item of a form must be a pair of name and value")
        name, value = item
        values = value if isinstance(value, (list, tuple)) else (value,)
        pairs.extend((_form_text(name), _form_text(one)) for one in values)
    return pairs


def _form_text(value: object) -> str | bytes:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (Mapping, set, frozenset, list, tuple)):
        raise UsageError(f"data: a form has no place for a {type(value).__name__} as a name or value; json has")
    if isinstance(value, (bytearray, memoryview)):
        return bytes(value)
    if hasattr(value, "read") or hasattr(value, "__next__") or hasattr(value, "__aiter__"):
        raise UsageError(
            f"data: a form has no place for a {type(value).__name__}; what is to be uploaded goes in files"
        )
    return value if isinstance(value, bytes) else text_in(value)
