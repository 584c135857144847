"""Forms with files come out as RFC 7578 and browsers have them, as long as they say, and never corrupt."""

from __future__ import annotations

import asyncio
import gzip
import io
import os
import re
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from email.parser import BytesParser
from email.policy import HTTP
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiosock.connection.outgoing import MAX_DIRECT_BYTES
from aiosock.errors import ReadTimeout, UsageError
from aiosock.message.body import BytesBody
from aiosock.message.multipart import MAX_WHOLE_BYTES, MultipartBody
from aiosock.message.request import Request

AAA = {"Content-Type": "multipart/form-data; boundary=AaB03x"}
UMLAUTS = "ä€😀.txt"


def make(files: Any, headers: Any = AAA, **options: Any) -> Request:
    return Request("POST", "http://h/", files=files, headers=headers, **options)


async def sent(request: Request) -> bytes:
    """The body as it is sent; its declared length is true."""
    assert request.body is not None
    data = b"".join([bytes(piece) async for piece in request.body.pieces()])
    if request.body.length is None:
        assert request.headers["Transfer-Encoding"] == "chunked"
    else:
        assert request.headers["Content-Length"] == str(len(data))
    return data


def form(*parts: bytes) -> bytes:
    """Parts with their heads, between boundaries."""
    return b"".join(b"--AaB03x\r\n" + part + b"\r\n" for part in parts) + b"--AaB03x--\r\n"


def plain(name: bytes, value: bytes) -> bytes:
    return b'Content-Disposition: form-data; name="' + name + b'"\r\n\r\n' + value


def file(name: bytes, filename: bytes, content: bytes, content_type: bytes = b"application/octet-stream") -> bytes:
    disposition = b'Content-Disposition: form-data; name="' + name + b'"; filename="' + filename + b'"\r\n'
    return disposition + b"Content-Type: " + content_type + b"\r\n\r\n" + content


class AsyncFile:
    """A file as aiofiles has them: awaited, and iterated by lines."""

    def __init__(self, data: bytes, **attributes: object) -> None:
        self._file = io.BytesIO(data)
        self.sizes: list[int] = []
        for name, value in attributes.items():
            setattr(self, name, value)

    async def read(self, size: int = -1) -> bytes:
        self.sizes.append(size)
        await asyncio.sleep(0)
        return self._file.read(size)

    async def readline(self) -> bytes:
        raise AssertionError

    def __aiter__(self) -> AsyncFile:
        return self

    async def __anext__(self) -> bytes:
        raise AssertionError


class Pieces:
    """Pieces that start anew each time."""

    def __init__(self, *pieces: bytes) -> None:
        self.pieces = pieces

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self.pieces:
            await asyncio.sleep(0)
            yield piece


def generated(*pieces: bytes) -> Iterator[bytes]:
    yield from pieces


# What the standard and browsers write


async def test_the_example_of_the_standard() -> None:
    # RFC 7578, 4.2 and 4.3: one field, several files under one name; RFC 1867, 6: the same form.
    text = "... contents of file1.txt ..."
    files = [("pics", ("file1.txt", text)), ("pics", ("file2.gif", b"...contents of file2.gif...", "image/gif"))]
    request = make(files, data={"field1": "Joe Blow"})
    assert await sent(request) == form(
        plain(b"field1", b"Joe Blow"),
        file(b"pics", b"file1.txt", text.encode(), b"text/plain"),
        file(b"pics", b"file2.gif", b"...contents of file2.gif...", b"image/gif"),
    )
    assert request.headers["Content-Type"] == AAA["Content-Type"]


async def test_a_default_charset_and_a_coded_part_of_the_standard() -> None:
    # RFC 7578, 4.6 and 4.5: the field _charset_, and a text whose type has a charset.
    files = [("_charset_", "iso-8859-1"), ("field1", (None, "Joe owes €100.".encode(), "text/plain;charset=UTF-8"))]
    assert await sent(make(files)) == form(
        plain(b"_charset_", b"iso-8859-1"),
        b'Content-Disposition: form-data; name="field1"\r\nContent-Type: text/plain;charset=UTF-8\r\n\r\n'
        + "Joe owes €100.".encode(),
    )


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("a", b"a"),
        ("", b""),
        ("a b;c=d", b"a b;c=d"),
        ('a"b', b"a%22b"),
        ("a\r\nb\nc\rd", b"a%0D%0Ab%0Ac%0Dd"),
        ("100%22", b"100%22"),
        ("back\\slash", b"back\\slash"),
        (UMLAUTS, UMLAUTS.encode()),
        ("../../etc/passwd", b"../../etc/passwd"),
    ],
)
async def test_names_are_written_as_browsers_write_them(name: str, written: bytes) -> None:
    assert await sent(make({name: (name, b"x", "a/b")})) == form(file(written, written, b"x", b"a/b"))
    assert await sent(make({"z": "z"}, data={name: "x"})) == form(plain(written, b"x"), plain(b"z", b"z"))


# What a part may be


@pytest.mark.parametrize(
    ("value", "part"),
    [
        ("text ä", plain(b"a", "text ä".encode())),
        (b"data", file(b"a", b"a", b"data")),
        (bytearray(b"data"), file(b"a", b"a", b"data")),
        ([b"da", b"ta"], file(b"a", b"a", b"data")),
        (Pieces(b"da", b"ta"), file(b"a", b"a", b"data")),
        ((None, "text"), plain(b"a", b"text")),
        ((None, b"data"), plain(b"a", b"data")),
        ((None, b"data", "a/b"), b'Content-Disposition: form-data; name="a"\r\nContent-Type: a/b\r\n\r\ndata'),
        (("", b""), file(b"a", b"", b"")),
        (("b.png", b"data"), file(b"a", b"b.png", b"data", b"image/png")),
        (("b.html", "text"), file(b"a", b"b.html", b"text", b"text/html")),
        (("b.html.unknown", b"data"), file(b"a", b"b.html.unknown", b"data")),
        (("b.WEBP", b"data"), file(b"a", b"b.WEBP", b"data", b"image/webp")),
        (("b", b"data"), file(b"a", b"b", b"data")),
        (("data:image/png,x", b"data"), file(b"a", b"data:image/png,x", b"data")),
        (("b.png", b"data", None), file(b"a", b"b.png", b"data", b"image/png")),
        (("b.png", b"data", "c/d"), file(b"a", b"b.png", b"data", b"c/d")),
        (("b.png", b"data", "c/d", None), file(b"a", b"b.png", b"data", b"c/d")),
    ],
)
async def test_what_a_part_may_be(value: Any, part: bytes) -> None:
    assert await sent(make({"a": value})) == form(part)
    assert await sent(make([("a", value)])) == form(part)


async def test_headers_of_a_part_follow_its_type_in_their_order() -> None:
    headers = [("X-B", "ü\t1"), ("X-A", "2"), ("x-b", "")]
    fields = "X-B: ü\t1\r\nX-A: 2\r\nx-b: \r\n".encode()
    written = b'Content-Disposition: form-data; name="a"; filename="b"\r\n'
    assert await sent(make({"a": ("b", b"x", "c/d", headers)})) == form(
        written + b"Content-Type: c/d\r\n" + fields + b"\r\nx"
    )
    own = [*headers, ("content-type", "e/f")]
    assert await sent(make({"a": ("b", b"x", None, own)})) == form(
        written + fields + b"content-type: e/f\r\n" + b"\r\nx"
    )


async def test_fields_of_data_come_first_and_in_order() -> None:
    data = [("b", "1"), ("a", [2, True]), ("b", None), (b"\xff", b"\xfe\r\n")]
    assert await sent(make({"0": "z"}, data=data)) == form(
        plain(b"b", b"1"),
        plain(b"a", b"2"),
        plain(b"a", b"true"),
        plain(b"b", b""),
        plain(b"\xff", b"\xfe\r\n"),
        plain(b"0", b"z"),
    )


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("/tmp/file.gif", b"file.gif"),  # noqa: S108  # nothing is opened
        (b"/a/b.gif", b"b.gif"),
        (Path("a/b.gif"), b"b.gif"),
        ("<stdin>", b"a"),
        (3, b"a"),
        ("a/", b"a"),
        (None, b"a"),
    ],
)
async def test_the_name_of_a_file_is_sent_without_its_folders(name: object, expected: bytes) -> None:
    content_type = b"image/gif" if b"." in expected else b"application/octet-stream"
    for source in (io.BytesIO(b"x"), AsyncFile(b"x")):
        named: Any = type("Named", (type(source),), {"name": name})(b"x")
        assert await sent(make({"a": named})) == form(file(b"a", expected, b"x", content_type))


# Lengths and sending again


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "file.txt"
    path.write_bytes(b"0123456789")
    return path


async def test_real_files_are_sent_from_where_they_stand_and_again(path: Path) -> None:
    with path.open("rb") as first, path.open("rb", buffering=0) as second:
        first.seek(4)
        request = make([("a", first), ("b", ("c.png", second)), ("a", io.BytesIO(b"in memory")), ("a", first)])
        expected = form(
            file(b"a", b"file.txt", b"456789", b"text/plain"),
            file(b"b", b"c.png", b"0123456789", b"image/png"),
            file(b"a", b"a", b"in memory"),
            file(b"a", b"file.txt", b"456789", b"text/plain"),
        )
        assert isinstance(request.body, MultipartBody)
        assert request.body.replayable
        assert request.headers["Content-Length"] == str(len(expected))
        assert await sent(request) == expected
        assert await sent(request) == expected


@pytest.mark.parametrize(
    ("content", "length", "replayable"),
    [
        (lambda: b"x", True, True),
        (lambda: "x", True, True),
        (lambda: io.BytesIO(b"x"), True, True),
        (lambda: [b"x"], False, True),
        (lambda: Pieces(b"x"), False, True),
        (lambda: generated(b"x"), False, False),
        (lambda: aiter(Pieces(b"x")), False, False),
        (lambda: AsyncFile(b"x"), False, False),
        (lambda: AsyncFile(b"", wrapped=io.BytesIO(b"x")), True, True),
        (lambda: gzip.GzipFile(fileobj=io.BytesIO(gzip.compress(b"x"))), False, True),
    ],
    ids=[
        *("bytes", "str", "memory", "list", "iterable", "generator", "async generator", "async file"),
        *("async file that shows its own", "compressed"),
    ],
)
async def test_a_form_knows_its_length_and_is_sent_again_exactly_when_every_part_does(
    content: Callable[[], Any], length: bool, replayable: bool
) -> None:
    for files in ({"a": content(), "b": b"y"}, {"b": io.BytesIO(b"y"), "a": content()}):
        request = make(files)
        assert request.body is not None
        assert (request.body.length is not None, request.body.replayable) == (length, replayable)
        assert ("Content-Length" in request.headers) is length
        whole = await sent(request)
        assert b"\r\n\r\nx\r\n--AaB03x" in whole
        if replayable:
            assert await sent(request) == whole


async def test_an_async_file_is_read_in_large_pieces() -> None:
    source = AsyncFile(bytes(500_000))
    assert await sent(make({"a": source})) == form(file(b"a", b"a", bytes(500_000)))
    assert min(source.sizes) >= 65536
    assert len(source.sizes) <= 9


async def test_files_are_read_in_a_thread(path: Path) -> None:
    threads = set()

    class Recorder(io.FileIO):
        def read(self, size: int | None = -1, /) -> bytes:
            threads.add(threading.get_ident())
            return super().read(size)  # type: ignore[return-value]

    with Recorder(path) as recorder:
        await sent(make({"a": recorder}))
    assert threads
    assert threading.get_ident() not in threads


async def test_a_large_form_is_streamed_and_a_small_one_of_bytes_is_whole() -> None:
    assert MAX_WHOLE_BYTES == MAX_DIRECT_BYTES
    files = {"a": b"x", "b": "y"}
    small = make(files, data={"c": "z"})
    assert isinstance(small.body, BytesBody)
    assert small.body.data == await sent(small)
    room = MAX_WHOLE_BYTES - len(form(file(b"a", b"a", b"")))
    assert isinstance(make({"a": bytes(room)}).body, BytesBody)
    large = make({"a": bytes(room + 1)})
    assert isinstance(large.body, MultipartBody)
    assert await sent(large) == form(file(b"a", b"a", bytes(room + 1)))
    assert max([len(piece) async for piece in large.body.pieces()]) <= 65536
    for request, source in ((small, files), (small.replace(), files), (large, large.content)):
        assert request.content is source


async def test_a_part_is_asked_for_only_when_it_is_its_turn() -> None:
    asked: list[str] = []

    def piece(name: str) -> Iterator[bytes]:
        asked.append(name)
        yield name.encode()

    body = make({"a": piece("a"), "b": piece("b")}).body
    assert body is not None
    async for one in body.pieces():
        if one == b"a":
            assert asked == ["a"]
    assert asked == ["a", "b"]


async def test_a_form_left_half_way_lets_go_of_its_part() -> None:
    closed = False

    async def pieces() -> AsyncIterator[bytes]:
        nonlocal closed
        try:
            yield b"x"
            yield b"y"
        finally:
            closed = True

    body: Any = make({"a": pieces()}).body
    left = body.pieces()
    while await anext(left) != b"x":
        continue
    await left.aclose()
    assert closed


@pytest.mark.parametrize(
    ("sizes", "told"),
    [
        ((11, 10), r"\['a'\]: the file is longer"),
        ((9, 10), r"\['a'\]: the file is shorter"),
        ((11, 9), r"\['a'\]: the file is longer"),
        ((10, 9), r"\['b'\]: the file is shorter"),
    ],
)
async def test_a_file_that_changes_while_it_is_sent_is_an_error(
    sizes: tuple[int, int], told: str, tmp_path: Path
) -> None:
    paths = [tmp_path / "first", tmp_path / "second"]
    for path in paths:
        path.write_bytes(b"0123456789")
    first, second = (path.open("rb") for path in paths)
    with first, second:
        request = make({"a": first, "b": second})
        for path, size in zip(paths, sizes, strict=True):
            os.truncate(path, size)
        body: Any = request.body
        data = b""
        with pytest.raises(UsageError, match=told + " than it was when the request was made"):
            async for piece in body.pieces():
                data += bytes(piece)
        # No end, and nothing of a piece that is too much.
        assert not data.endswith(b"--\r\n")
        assert data.endswith(b"\r\n\r\n" if "longer" in told else b"012345678")


# The boundary


async def test_the_boundary_is_random_and_named_in_the_content_type() -> None:
    found = set()
    for _ in range(20):
        request = make({"a": "x"}, None)
        match = re.fullmatch(r"multipart/form-data; boundary=([0-9a-f]{32})", request.headers["Content-Type"])
        assert match is not None
        assert (await sent(request)).startswith(b"--" + match[1].encode() + b"\r\n")
        found.add(match[1])
    assert len(found) == 20


@pytest.mark.parametrize(
    ("content_type", "boundary"),
    [
        ("multipart/form-data; boundary=a", b"a"),
        ('multipart/form-data; charset="; boundary=b"; boundary=a', b"a"),
        ('Multipart/Form-Data;BOUNDARY = "a b?"; x=y', b"a b?"),
        (r'multipart/form-data; boundary="a\b"', b"ab"),
        ("multipart/mixed; boundary=" + "x" * 70, b"x" * 70),
        ("multipart/related; boundary=0'+_,-./:?9", b"0'+_,-./:?9"),
    ],
)
async def test_a_boundary_of_the_users_is_taken(content_type: str, boundary: bytes) -> None:
    request = make({"a": "x"}, {"content-type": content_type})
    assert next(iter(request.headers.items())) == ("content-type", content_type)
    assert await sent(request) == b"--" + boundary + b"\r\n" + plain(b"a", b"x") + b"\r\n--" + boundary + b"--\r\n"


@pytest.mark.parametrize("content_type", ["multipart/form-data", "multipart/form-data;", "multipart/x; a=b ; "])
def test_a_multipart_type_without_a_boundary_gets_one(content_type: str) -> None:
    made = make({"a": "x"}, {"Content-Type": content_type}).headers.getall("Content-Type")
    assert len(made) == 1
    assert re.fullmatch(re.escape(content_type.rstrip("; ")) + r"; boundary=[0-9a-f]{32}", made[0])


@pytest.mark.parametrize(
    ("content_type", "told"),
    [
        ("application/json", "Content-Type is 'application/json', but files make multipart/form-data"),
        ("multipart/form-data; boundary=" + "x" * 71, "names no valid boundary: 'xxx"),
        ('multipart/form-data; boundary="a "', "names no valid boundary: 'a '"),
        ("multipart/form-data; boundary=ä", "names no valid boundary: 'ä'"),
        ("multipart/form-data; boundary=", "names no valid boundary: ''"),
        ("multipart/form-data; boundary=a b", "names a boundary that cannot be read"),
        ('multipart/form-data; boundary="a', "names a boundary that cannot be read"),
    ],
)
def test_a_content_type_that_no_form_can_have_is_refused(content_type: str, told: str) -> None:
    with pytest.raises(UsageError, match=f"^headers: .*{re.escape(told)}"):
        make({"a": "x"}, {"Content-Type": content_type})


# What is refused


@pytest.mark.parametrize(
    ("files", "told"),
    [
        ("a=b", "^files: takes a mapping or pairs of name and content, not str$"),
        (b"a", "^files: .* not bytes$"),
        (3, "^files: .* not int$"),
        (io.BytesIO(b"x"), "^files: .* not BytesIO$"),
        (["ab"], "^files: every item must be a pair"),
        ([("a", "b", "c")], "^files: every item must be a pair"),
        ([(1, b"x")], "^files: the name of a part is a str, not int$"),
        ({"a": 3}, r"^files\['a'\]: content: takes bytes, str, a file object or an iterable of bytes, not int$"),
        ({"a": None}, r"^files\['a'\]: .* not NoneType$"),
        ({"a": {"b": "c"}}, r"^files\['a'\]: .* not dict$"),
        ({"a": Path("b")}, r"^files\['a'\]: .* not PosixPath$"),
        ({"a": ("b", None)}, r"^files\['a'\]: .* not NoneType$"),
        ({"a": ["text"]}, r"^files\['a'\]: a list is one content in pieces of bytes; give several files"),
        ({"a": io.StringIO("x")}, r"^files\['a'\]: .*text mode"),
        ({"a": AsyncFile(b"x", encoding="utf-8")}, r"^files\['a'\]: .*text mode"),
        ({"a": ()}, r"^files\['a'\]: a tuple is \(filename, content\)"),
        ({"a": ("b",)}, r"^files\['a'\]: a tuple is \(filename, content\)"),
        ({"a": ("b", b"", None, None, None)}, r"^files\['a'\]: a tuple is \(filename, content\)"),
        ({"a": (b"b", b"")}, r"^files\['a'\]: the filename is a str or None, not bytes$"),
        ({"a\ud800": b"x"}, r"^files\['a\\ud800'\]: the name has a lone surrogate"),
        ({"a": ("\udcff", b"x")}, r"^files\['a'\]: the filename has a lone surrogate"),
        ({"a": "\ud800"}, r"^files\['a'\]: content: the str has a lone surrogate"),
        ({"a": ("b", b"x", 3)}, r"^files\['a'\]: Content-Type is a str, not int$"),
        ({"a": ("b", b"x", "a/b\r\nX: y")}, r"^files\['a'\]: Content-Type holds a control character$"),
        ({"a": ("b", b"x", None, {"A": "b\nc"})}, r"^files\['a'\]: A holds a control character$"),
        ({"a": ("b", b"x", None, {"A": "b\0c"})}, r"^files\['a'\]: A holds a control character$"),
        ({"a": ("b", b"x", None, {"A": "\ud800"})}, r"^files\['a'\]: the A has a lone surrogate"),
        ({"a": ("b", b"x", None, {"A": 3})}, r"^files\['a'\]: A is a str, not int$"),
        ({"a": ("b", b"x", None, {"A B": "c"})}, r"^files\['a'\]: the name of a header is a token, not 'A B'$"),
        ({"a": ("b", b"x", None, {"": "c"})}, r"^files\['a'\]: the name of a header is a token, not ''$"),
        ({"a": ("b", b"x", None, {3: "c"})}, r"^files\['a'\]: the name of a header is a token, not '3'$"),
        ({"a": ("b", b"x", None, "A: b")}, r"^files\['a'\]: headers are a mapping or pairs of str$"),
        ({"a": ("b", b"x", None, 3)}, r"^files\['a'\]: headers are a mapping or pairs of str$"),
        ({"a": ("b", b"x", None, {"content-disposition": "c"})}, r"^files\['a'\]: Content-Disposition is made of"),
        ({"a": ("b", b"x", "a/b", {"content-type": "c/d"})}, r"^files\['a'\]: the content type is given twice"),
        ({"a" * 100: 3}, f"^files\\['{'a' * 40}'\\]: "),
    ],
)
def test_a_part_that_cannot_be_sent_is_refused_by_name(files: Any, told: str) -> None:
    with pytest.raises(UsageError, match=told):
        make(files)


@pytest.mark.parametrize(
    ("data", "told"),
    [
        ("a=b", "^data: takes a form"),
        ({"a": {"b": 1}}, "^data: "),
        ({"\ud800": 1}, r"^data\['\\ud800'\]: the name has"),
    ],
)
def test_fields_that_cannot_be_sent_are_refused(data: Any, told: str) -> None:
    with pytest.raises(UsageError, match=told):
        make({"a": "b"}, data=data)


def test_a_file_in_text_mode_or_closed_is_refused(path: Path) -> None:
    with path.open() as text, pytest.raises(UsageError, match=r"^files\['a'\]: .*text mode"):
        make({"a": text})
    with pytest.raises(UsageError, match=r"^files\['a'\]: the file is closed"):
        make({"a": text})
    closed = io.BytesIO(b"x")
    closed.close()
    for value in (closed, ("b", closed), AsyncFile(b"x", closed=True)):
        with pytest.raises(UsageError, match=r"^files\['a'\]: the file is closed"):
            make({"a": value})


def test_what_can_be_read_once_is_given_once() -> None:
    once = generated(b"x")
    with pytest.raises(UsageError, match=r"^files\['b'\]: can be read only once, and is given as files\['a'\] too"):
        make({"a": once, "b": ("c", once)})


async def test_pieces_that_are_no_bytes_are_refused_by_name() -> None:
    for content in (generated(b"x", "y"), Pieces("y")):  # type: ignore[arg-type]
        with pytest.raises(UsageError, match=r"^files\['a'\]: content: its pieces must be bytes, not str; encode them"):
            await sent(make({"a": content}))


class Broken(io.BytesIO):
    """A file whose medium fails after the first reading."""

    name = "/some/where/photo.jpg"

    def __init__(self, error: Exception) -> None:
        super().__init__(b"x" * 600_000)
        self._error = error

    def read(self, size: int | None = -1) -> bytes:
        if self.tell():
            raise self._error
        return super().read(size)


class AsyncBroken(AsyncFile):
    async def read(self, size: int = -1) -> bytes:
        raise OSError(5, "Input/output error")


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_a_file_that_cannot_be_read_is_named_with_its_part(asynchronous: bool) -> None:
    error = OSError(5, "Input/output error")
    broken: Any = AsyncBroken(b"x", name=Path("/some/where/photo.jpg")) if asynchronous else Broken(error)
    request = make({"a": b"fine", "b": ("shown.jpg", broken)})
    with pytest.raises(UsageError) as info:
        await sent(request)
    assert str(info.value) == "files['b']: the file 'photo.jpg' cannot be read: Input/output error"
    assert isinstance(info.value.__cause__, OSError)


async def test_a_file_that_was_closed_meanwhile_is_named_with_its_part(path: Path) -> None:
    with path.open("rb") as named, io.BytesIO(b"x") as nameless:
        requests = [make({"a": (None, file)}) for file in (named, nameless)]
    for request, shown in zip(requests, [f"file '{path.name}'", "file"], strict=True):
        with pytest.raises(UsageError, match=rf"^files\['a'\]: the {shown} cannot be read: it is closed"):
            await sent(request)


def test_a_file_that_cannot_be_measured_is_named_with_its_part() -> None:
    class Endless(io.BytesIO):
        def seek(self, offset: int, whence: int = 0) -> int:
            raise OSError(22, "Invalid argument")

    with Endless(b"x") as file, pytest.raises(UsageError) as info:
        make({"a": file})
    assert str(info.value) == "files['a']: the file cannot be read: Invalid argument"


async def test_errors_that_are_not_of_reading_a_file_stay_what_they_are() -> None:
    def failing() -> Iterator[bytes]:
        yield b"x"
        raise OSError(5, "mine")

    with pytest.raises(OSError, match="mine"):
        await sent(make({"a": failing()}))
    ours = ReadTimeout("the other server is slow")
    with pytest.raises(ReadTimeout) as info:
        await sent(make({"a": Broken(ours)}))
    assert info.value is ours


@pytest.mark.parametrize("content", [b"--AaB03x", b"x\r\n--AaB03x--\r\n", b"x\n--AaB03xyz", "ä\r\n--AaB03x"])
def test_a_part_that_would_end_with_the_boundary_of_the_users_is_refused(content: Any) -> None:
    with pytest.raises(UsageError, match=r"^files\['b'\]: has a line that is the boundary"):
        make({"a": b"x", "b": ("c", content)})
    with pytest.raises(UsageError, match=r"^data\['b'\]: has a line that is the boundary"):
        make({"a": b"x"}, data={"b": content})


async def test_what_is_no_line_of_the_boundary_is_sent() -> None:
    for content in (b"x--AaB03x", b"\r\n-AaB03x", b"\r\n--aab03x", b"\r--AaB03x"):
        assert content in await sent(make({"a": content}))


# Any form


def parse(boundary: bytes, body: bytes) -> list[tuple[bytes, bytes | None, bytes]]:
    """Names, filenames and contents of a form, by nothing but what the standards say."""
    assert body.startswith(b"--" + boundary + b"\r\n")
    first, *middle, last = (b"\r\n" + body).split(b"\r\n--" + boundary)
    assert (first, last) == (b"", b"--\r\n")
    parts = []
    for part in middle:
        assert part.startswith(b"\r\n")
        head, _, content = part.removeprefix(b"\r\n").partition(b"\r\n\r\n")
        disposition = head.split(b"\r\n")[0]
        match = re.fullmatch(
            rb'Content-Disposition: form-data; name="([^"\r\n]*)"(?:; filename="([^"\r\n]*)")?', disposition
        )
        assert match is not None
        parts.append((match[1], match[2], content))
    return parts


def escaped(text: str) -> bytes:
    return text.encode().replace(b'"', b"%22").replace(b"\r", b"%0D").replace(b"\n", b"%0A")


NAMES = st.text(st.characters(exclude_categories=["Cs"]), max_size=20) | st.text("\"\r\n%;\\='", max_size=5)
CONTENTS = st.binary(max_size=200) | st.text('-\r\n"AaB03x', max_size=60).map(str.encode)
KINDS: dict[str, Callable[[bytes], Any]] = {
    "bytes": bytes,
    "memory": io.BytesIO,
    "list": lambda data: [data[:3], data[3:]],
    "generator": lambda data: generated(data[:3], data[3:]),
    "async iterable": lambda data: Pieces(data[:3], data[3:]),
    "async file": AsyncFile,
}


@given(
    st.lists(st.tuples(NAMES, st.none() | NAMES, CONTENTS, st.sampled_from(sorted(KINDS))), min_size=1, max_size=5),
    st.lists(st.tuples(NAMES, CONTENTS), max_size=3),
)
def test_any_form_comes_back_as_it_was(
    parts: list[tuple[str, str | None, bytes, str]], data: list[tuple[str, bytes]]
) -> None:
    files = [(name, (filename, KINDS[kind](content))) for name, filename, content, kind in parts]
    request = make(files, None, data=data)
    boundary = request.headers["Content-Type"].partition("boundary=")[2].encode()
    body = asyncio.run(sent(request))
    assert parse(boundary, body) == [
        *((escaped(name), None, content) for name, content in data),
        *(
            (escaped(name), None if filename is None else escaped(filename), content)
            for name, filename, content, _ in parts
        ),
    ]


async def test_the_parser_of_mail_reads_it_too() -> None:
    files = [("a", ("ü.png", b"\x00\r\n--AaB03\xff", "image/png", {"X-A": "b"})), ("c", "text")]
    request = make(files, None)
    head = f"Content-Type: {request.headers['Content-Type']}\r\n\r\n".encode()
    message = BytesParser(policy=HTTP).parsebytes(head + await sent(request))
    first, second = message.iter_parts()  # type: ignore[attr-defined]  # an EmailMessage
    assert first.get_content() == b"\x00\r\n--AaB03\xff"
    assert (first["X-A"], first.get_content_type()) == ("b", "image/png")
    assert (second.get_param("name", header="Content-Disposition"), second.get_content()) == ("c", "text")
