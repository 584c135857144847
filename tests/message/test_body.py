"""Whatever the user gives as a body comes out as bytes, with a length that can be trusted or none."""

from __future__ import annotations

import asyncio
import bz2
import gzip
import io
import os
import tempfile
import threading
import zipfile
from collections.abc import AsyncIterator, Callable, Iterator
from decimal import Decimal
from enum import Enum
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import IO, Any

import pytest

from aiosock.errors import UsageError
from aiosock.message.body import FILE_PIECE_BYTES, PIECE_BYTES, Body, FileBody, encode_form, encode_json, make_body


async def read(body: Body) -> bytes:
    pieces = [bytes(piece) async for piece in body.pieces()]
    assert all(pieces)
    return b"".join(pieces)


class Recorder(io.FileIO):
    """A file that remembers the threads that read it."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.threads: set[int] = set()

    def read(self, size: int | None = -1, /) -> bytes:
        self.threads.add(threading.get_ident())
        return super().read(size)  # type: ignore[return-value]


class Decoder(io.BufferedReader):
    """A file that may read as something else."""


class Reader:
    """Reads and can do nothing else."""

    def __init__(self, *answers: Any) -> None:
        self.answers = [*answers]

    def read(self, size: int = -1) -> Any:
        return self.answers.pop(0) if self.answers else b""


# In memory


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"abc", b"abc"),
        (b"", b""),
        ("äb", b"\xc3\xa4b"),
        (bytearray(b"abc"), b"abc"),
        (memoryview(b"abcdef")[::2], b"ace"),
    ],
)
async def test_bytes_and_str(content: Any, expected: bytes) -> None:
    body = make_body(content)
    assert (body.source, body.length, body.replayable) == (content, len(expected), True)
    assert await read(body) == await read(body) == expected


async def test_bytes_come_in_pieces() -> None:
    data = os.urandom(3 * PIECE_BYTES + 1)
    pieces = [piece async for piece in make_body(data).pieces()]
    assert [len(piece) for piece in pieces] == [PIECE_BYTES] * 3 + [1]
    assert b"".join(pieces) == data


async def test_what_the_owner_changes_later_is_not_sent() -> None:
    data = bytearray(b"abc")
    body = make_body(data)
    data[:] = b"x"
    assert await read(body) == b"abc"


def test_a_body_has_pieces_only_when_it_is_of_some_kind() -> None:
    with pytest.raises(TypeError):
        Body(None, None, False).pieces()


# Files


async def test_a_file_is_read_in_a_thread_from_where_it_stands(tmp_path: Path) -> None:
    path = tmp_path / "file"
    data = bytes(range(256)) * 1000
    path.write_bytes(data)
    with Recorder(path) as file:
        file.seek(1000)
        body = make_body(file)
        assert (body.source, body.length, body.replayable) == (file, len(data) - 1000, True)
        assert await read(body) == await read(body) == data[1000:]
        assert file.threads
        assert threading.get_ident() not in file.threads


@pytest.mark.parametrize("how", ["open", "unbuffered", "read and write", "temporary", "named", "spooled", "rolled"])
async def test_the_length_of_a_real_file_is_known(how: str, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"0123456789")
    opening: dict[str, Callable[[], Any]] = {
        "open": lambda: path.open("rb"),
        "unbuffered": lambda: path.open("rb", buffering=0),
        "read and write": lambda: path.open("r+b"),
        "temporary": tempfile.TemporaryFile,
        "named": tempfile.NamedTemporaryFile,
        "spooled": partial(tempfile.SpooledTemporaryFile, max_size=100),
        "rolled": partial(tempfile.SpooledTemporaryFile, max_size=5),
    }
    with opening[how]() as file:
        if file.seekable() and not file.seek(0, os.SEEK_END):
            file.write(b"0123456789")
            file.flush()
        file.seek(4)
        body = make_body(file)
        assert (body.length, body.replayable) == (6, True)
        assert await read(body) == b"456789"


async def test_an_object_in_memory_is_read_from_where_it_stands() -> None:
    file = io.BytesIO(b"0123456789")
    file.seek(4)
    body = make_body(file)
    assert (body.length, body.replayable) == (6, True)
    assert await read(body) == await read(body) == b"456789"


def test_a_file_that_stands_behind_its_end_is_empty(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"0123")
    with path.open("rb") as real:
        for file in (real, io.BytesIO(b"0123")):
            file.seek(10)
            assert make_body(file).length == 0
            assert file.tell() == 10


@pytest.mark.parametrize("mode", ["rb", "r+b", "unbuffered"])
async def test_a_real_file_has_a_descriptor_of_its_own(mode: str, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"0123456789")
    with path.open("rb", buffering=0) if mode == "unbuffered" else path.open(mode) as file:
        file.seek(4)
        body = make_body(file)  # type: ignore[arg-type]  # what `open` gives for any mode
        if mode == "r+b":
            file.write(b"abc")
        descriptor = body.descriptor()  # type: ignore[attr-defined]
        # What was written is in the file.
        assert os.pread(descriptor, 3, body.start) == (b"abc" if mode == "r+b" else b"456")  # type: ignore[attr-defined]
        assert [bytes(piece) async for piece in body.pieces_after(3)] == [b"789"]  # type: ignore[attr-defined]
    assert os.pread(descriptor, 3, 7) == b"789"
    os.close(descriptor)


@pytest.mark.parametrize(
    "how", ["recording", "over recording", "decoding", "device", "memory", "pipe", "gzip", "write only"]
)
async def test_what_gives_other_bytes_than_a_regular_file_has_no_descriptor(how: str, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"0123456789")
    outgoing, incoming = os.pipe()
    opening: dict[str, Callable[[], Any]] = {
        "recording": lambda: Recorder(path),
        "over recording": lambda: io.BufferedReader(Recorder(path)),
        "decoding": lambda: Decoder(io.FileIO(path)),
        "device": lambda: io.FileIO("/dev/zero"),
        "memory": lambda: io.BytesIO(b"0123456789"),
        "pipe": lambda: io.BufferedReader(io.FileIO(outgoing, closefd=False)),
        "gzip": lambda: gzip.GzipFile(path),
        "write only": lambda: io.FileIO(path, "a"),
    }
    with opening[how]() as file:
        assert make_body(file).descriptor() is None  # type: ignore[attr-defined]
    os.close(outgoing)
    os.close(incoming)


@pytest.mark.parametrize("how", ["gzip", "gzip, buffered", "gzip in memory", "bz2", "zip"])
async def test_the_size_of_what_is_compressed_is_no_length(how: str, tmp_path: Path) -> None:
    path = tmp_path / "file"
    data = bytes(10_000)
    opened: list[Any] = []
    match how:
        case "gzip" | "gzip, buffered":
            path.write_bytes(gzip.compress(data))
            opened.append(gzip.GzipFile(path))
            if how == "gzip, buffered":
                opened.append(io.BufferedReader(opened[0]))
        case "gzip in memory":
            opened.append(gzip.GzipFile(fileobj=io.BytesIO(gzip.compress(data))))
        case "bz2":
            path.write_bytes(bz2.compress(data))
            opened.append(bz2.BZ2File(path))
        case _:
            with zipfile.ZipFile(path, "w") as archive:
                archive.writestr("name", data)
            opened.append(zipfile.ZipFile(path))
            opened.append(opened[0].open("name"))
    body = make_body(opened[-1])
    assert (body.length, body.replayable) == (None, True)
    assert await read(body) == await read(body) == data
    for file in reversed(opened):
        file.close()


async def test_a_pipe_has_no_length_and_is_read_once() -> None:
    outgoing, incoming = os.pipe()
    with io.BufferedReader(io.FileIO(outgoing)) as file:
        body = make_body(file)
        assert (body.length, body.replayable) == (None, False)
        os.write(incoming, b"abc")
        os.close(incoming)
        assert await read(body) == b"abc"


def test_the_size_of_a_device_is_no_length() -> None:
    with open("/dev/zero", "rb", buffering=0) as file:
        assert make_body(file).length is None


async def test_an_object_that_can_only_read() -> None:
    body = make_body(Reader(b"ab", bytearray(b"c"), b"", b"never"))  # type: ignore[arg-type]
    assert (body.length, body.replayable) == (None, False)
    assert await read(body) == b"abc"


@pytest.mark.parametrize("answer", [None, "ab", "", 3])
async def test_a_read_that_gives_no_bytes_is_refused(answer: Any) -> None:
    # None, from a file that does not block, is not the end.
    with pytest.raises(UsageError, match=f"content: its pieces must be bytes, not {type(answer).__name__}"):
        await read(make_body(Reader(b"a", answer)))  # type: ignore[arg-type]


def test_a_file_in_text_mode_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("abc")
    opening: list[Callable[[], Any]] = [
        path.open,
        partial(io.StringIO, "abc"),
        partial(tempfile.NamedTemporaryFile, "w+"),
        partial(gzip.open, path, "rt"),
    ]
    for text in opening:
        with text() as file, pytest.raises(UsageError, match=r"open in text mode; open it in binary mode \('rb'\)"):
            make_body(file)


@pytest.mark.parametrize("kind", ["buffered", "raw", "memory"])
async def test_a_closed_file_is_refused_at_once_and_when_it_is_read(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"abc")
    file: IO[bytes] = io.BytesIO(b"abc") if kind == "memory" else path.open("rb", 0 if kind == "raw" else -1)
    body = make_body(file)
    assert isinstance(body, FileBody)
    file.close()
    with pytest.raises(UsageError, match="^content: the file is closed"):
        await read(body)
    with pytest.raises(UsageError, match="^content: the file is closed"):
        body.descriptor()
    with pytest.raises(UsageError, match="^content: the file is closed"):
        make_body(file)


async def test_a_file_that_is_awaited_and_closed_is_refused_when_it_is_read() -> None:
    file = AwaitedFile(b"abc", closed=False)
    body = make_body(file)
    vars(file)["closed"] = True
    with pytest.raises(UsageError, match="^content: the file is closed"):
        await read(body)


async def test_a_file_that_is_closed_half_way_is_an_error_and_no_end() -> None:
    file = io.BytesIO(bytes(2 * FILE_PIECE_BYTES))
    pieces = make_body(file).pieces()
    await anext(pieces)
    file.close()
    with pytest.raises(UsageError, match="^content: the file is closed"):
        await anext(pieces)


@pytest.mark.parametrize("error", [ValueError, OSError])
async def test_a_file_that_is_closed_while_it_is_read_is_an_error_of_ours(error: type[Exception]) -> None:
    class Raced(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            self.close()
            raise error("bad file descriptor")

    with pytest.raises(UsageError, match="^content: the file is closed"):
        await read(make_body(Raced(b"abc")))


def test_a_file_that_is_closed_by_another_thread_has_no_descriptor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_bytes(b"abc")
    file = (tmp_path / "file").open("rb")
    body = make_body(file)
    assert isinstance(body, FileBody)
    dup = os.dup

    def closed_before(descriptor: int) -> int:
        file.close()
        return dup(descriptor)

    monkeypatch.setattr("os.dup", closed_before)
    with pytest.raises(UsageError, match="^content: the file is closed"):
        body.descriptor()


@pytest.mark.parametrize("error", [ValueError, OSError])
async def test_what_else_a_file_raises_is_its_own(error: type[Exception]) -> None:
    class Strange(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            raise error("strange")

    with pytest.raises(error, match="^strange$"):
        await read(make_body(Strange(b"abc")))


# Files that are awaited


class AwaitedFile:
    """Awaited, and iterated by lines, as the files of anyio and aiofiles are."""

    def __init__(self, data: bytes, **attributes: object) -> None:
        self.wrapped_data = io.BytesIO(data)
        for name, value in attributes.items():
            setattr(self, name, value)

    async def read(self, size: int = -1) -> bytes:
        return self.wrapped_data.read(min(size, 3))

    async def readline(self) -> bytes:
        raise AssertionError

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield await self.readline()


async def test_a_file_that_is_awaited_is_read_once_and_not_by_lines() -> None:
    file = AwaitedFile(b"0123456789")
    body = make_body(file)
    assert (body.source, body.length, body.replayable) == (file, None, False)
    assert await read(body) == b"0123456789"


async def test_an_awaited_file_that_shows_the_real_one_is_as_good_as_that() -> None:
    real = io.BytesIO(b"0123456789")
    real.seek(4)
    file = AwaitedFile(b"", wrapped=real)
    body = make_body(file)
    assert (body.source, body.length, body.replayable) == (file, 6, True)
    assert await read(body) == await read(body) == b"456789"


async def test_what_is_awaited_and_iterated_but_no_file_is_iterated() -> None:
    class Message:
        async def read(self) -> bytes:
            raise AssertionError

        async def __aiter__(self) -> AsyncIterator[bytes]:
            yield b"x"

    assert await read(make_body(Message())) == b"x"


@pytest.mark.parametrize(
    "attributes", [{"encoding": "utf-8"}, {"encoding": "utf-8", "wrapped": io.StringIO()}], ids=[0, 1]
)
def test_an_awaited_file_in_text_mode_is_refused(attributes: Any) -> None:
    with pytest.raises(UsageError, match="content: the file is open in text mode"):
        make_body(AwaitedFile(b"", **attributes))


async def test_what_an_awaited_file_gives_must_be_bytes() -> None:
    class Text:
        async def read(self, size: int) -> Any:
            return "x"

    with pytest.raises(UsageError, match="pieces must be bytes, not str"):
        await read(make_body(Text()))


# Iterables


async def test_an_iterable_that_starts_anew_can_be_sent_again() -> None:
    body = make_body([b"a", b"b", memoryview(b"c")])  # type: ignore[list-item]
    assert (body.length, body.replayable) == (None, True)
    assert await read(body) == await read(body) == b"abc"


async def test_an_iterator_is_read_once() -> None:
    body = make_body(iter([b"a", b"b"]))
    assert (body.length, body.replayable) == (None, False)
    assert await read(body) == b"ab"


def test_an_iterable_is_not_touched_before_it_is_sent() -> None:
    class Once:
        def __iter__(self) -> Iterator[bytes]:
            raise AssertionError

    assert make_body(Once()).replayable


class Counting:
    """An asynchronous iterable that starts anew each time."""

    def __init__(self, *pieces: bytes) -> None:
        self.pieces = pieces
        self.closed = 0

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            for piece in self.pieces:
                await asyncio.sleep(0)
                yield piece
        finally:
            self.closed += 1


async def test_an_asynchronous_iterable() -> None:
    counting = Counting(b"a", b"b")
    body = make_body(counting)
    assert (body.length, body.replayable) == (None, True)
    assert await read(body) == await read(body) == b"ab"
    body = make_body(aiter(counting))
    assert (body.length, body.replayable) == (None, False)
    assert await read(body) == b"ab"
    assert counting.closed == 3


async def test_a_generator_left_half_way_is_closed_at_once() -> None:
    counting = Counting(b"a", b"b")
    pieces: Any = make_body(counting).pieces()
    assert await anext(pieces) == b"a"
    assert counting.closed == 0
    await pieces.aclose()
    assert counting.closed == 1


async def test_an_asynchronous_iterator_that_is_no_generator() -> None:
    class Numbers:
        left = 2

        def __aiter__(self) -> Numbers:
            return self

        async def __anext__(self) -> bytes:
            if not self.left:
                raise StopAsyncIteration
            self.left -= 1
            return b"%d" % self.left

    body = make_body(Numbers())
    assert not body.replayable
    assert await read(body) == b"10"


async def test_pieces_that_are_not_bytes_are_refused() -> None:
    for content in (["a"], [1], [None]):
        with pytest.raises(UsageError, match=f"pieces must be bytes, not {type(content[0]).__name__}"):
            await read(make_body(content))  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="pieces must be bytes, not str; encode them"):
        await read(make_body(Counting("a")))  # type: ignore[arg-type]


async def test_a_piece_may_be_changed_by_its_owner_afterwards() -> None:
    buffer = bytearray(b"a")

    def reusing() -> Iterator[bytearray]:
        yield buffer
        buffer[:] = b"b"
        yield buffer

    assert [bytes(piece) async for piece in make_body(reusing()).pieces()] == [b"a", b"b"]  # type: ignore[arg-type]
    assert await read(make_body(reusing())) == b"bb"[:1] + b"b"  # type: ignore[arg-type]


@pytest.mark.parametrize("content", [3, 1.5, object(), {"a": "b"}, None])
def test_what_no_bytes_could_come_from_is_refused(content: Any) -> None:
    with pytest.raises(UsageError, match=f"not {type(content).__name__}; a form goes in data"):
        make_body(content)


def test_a_str_that_cannot_be_encoded_is_refused() -> None:
    with pytest.raises(UsageError, match="content: the str has a lone surrogate"):
        make_body("a\ud800")


# JSON and forms


@pytest.mark.parametrize(
    ("value", "encoded"),
    [
        ({"a": [1, 2.5, None, True], "b": "ä\n"}, '{"a":[1,2.5,null,true],"b":"ä\\n"}'),
        ("", '""'),
        (False, "false"),
    ],
)
def test_json_is_compact(value: object, encoded: str) -> None:
    assert encode_json(value) == encoded.encode()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), object(), {1, 2}, b"a", {(): 1}, "\ud800"])
def test_what_json_does_not_have_is_refused(value: object) -> None:
    with pytest.raises(UsageError, match="^json: "):
        encode_json(value)


class Order(str, Enum):  # noqa: UP042  # as it is written where StrEnum is not known yet
    UP = "up"


@pytest.mark.parametrize(
    ("data", "encoded"),
    [
        ({}, b""),
        ({"a": "b c", "d": "&=ä"}, b"a=b+c&d=%26%3D%C3%A4"),
        (
            {"a": 1, "b": True, "c": False, "d": None, "e": 1.5, "f": Decimal("1.10")},
            b"a=1&b=true&c=false&d=&e=1.5&f=1.10",
        ),
        ({"a": ["x", 2], "b": ("y", None), "c": []}, b"a=x&a=2&b=y&b="),
        ([("a", "1"), ("b", "2"), ("a", "3")], b"a=1&b=2&a=3"),
        ({"a": b"\xff\x00", b"\xfe": "b"}, b"a=%FF%00&%FE=b"),
        ({Order.UP: Order.UP, "b": [Order.UP], "c": HTTPStatus.OK}, b"up=up&b=up&c=200"),
    ],
)
def test_a_form(data: Any, encoded: bytes) -> None:
    assert encode_form(data) == encoded


@pytest.mark.parametrize(
    "data",
    ["a=b", b"a=b", 3, None, ["ab"], [("a", "b", "c")], {"a": {"b": "c"}}, {"a": [[1]]}, {"a": {1}}, {"a": "\ud800"}],
)
def test_what_is_no_form_is_refused(data: Any) -> None:
    with pytest.raises(UsageError, match="^data: "):
        encode_form(data)
