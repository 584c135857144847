"""
Forms with files: multipart/form-data (RFC 7578) as a body that is sent part by part and never gathered.

Each part is a name with a content, or with a tuple of (filename, content, content type, headers), of which the last
two may be left out. What has no filename, None or a str given alone, is a plain field without a content type. A
content given alone gets the name of its file, or else that of its field.

Names and filenames are written as browsers write them (the multipart/form-data encoding algorithm of WHATWG's HTML),
but line ends within values and names are left as they are.
"""

from __future__ import annotations

import os
import re
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from contextlib import aclosing
from functools import cache
from typing import Final, NamedTuple, TypeAlias, cast

from aiosock.errors import AiosockError, UsageError
from aiosock.message.body import AsyncFileBody, Body, BytesBody, Content, FileBody, FormData, form_pairs, make_body
from aiosock.protocol.http1.grammar import is_token

MAX_WHOLE_BYTES: Final = 256 * 1024
"""A form of bytes up to this size is put together at once: so much is handed to the stream whole."""

MAX_SHOWN: Final = 40

PartHeaders: TypeAlias = Mapping[str, str] | Iterable[tuple[str, str]]
FileValue: TypeAlias = (
    Content
    | tuple[str | None, Content]
    | tuple[str | None, Content, str | None]
    | tuple[str | None, Content, str | None, PartHeaders | None]
)
Files: TypeAlias = Mapping[str, FileValue] | Sequence[tuple[str, FileValue]]
_Whole: TypeAlias = tuple[str | None, Content, str | None, PartHeaders | None]


class Part(NamedTuple):
    """
    One part.

    Attributes:
        label: What to call it in messages.
        head: Its fields and the empty line after them.
        body: Its content.
    """

    label: str
    head: bytes
    body: Body


class MultipartBody(Body):
    """
    A form, sent part by part.

    Args:
        source: The files as they were given.
        parts: The parts in their order; each head begins with the boundary.
        end: What comes after the last.
    """

    __slots__ = ("_end", "_parts")

    def __init__(self, source: object, parts: list[Part], end: bytes) -> None:
        self._parts = parts
        self._end = end
        length: int | None = len(end)
        for part in parts:
            if length is not None:
                length = None if part.body.length is None else length + len(part.head) + part.body.length
        super().__init__(source, length, all(part.body.replayable for part in parts))

    async def pieces(self) -> AsyncGenerator[bytes | memoryview, None]:
        for part in self._parts:
            yield part.head
            async with aclosing(_content(part)) as pieces:
                async for piece in pieces:
                    yield piece
        yield self._end


class WholeMultipartBody(BytesBody):
    """A small form of bytes, which is there already."""

    __slots__ = ()


async def _content(part: Part) -> AsyncGenerator[bytes | memoryview]:
    """Return the pieces of a part, which are as long as they were when the form was made, or an error."""
    left = part.body.length
    try:
        async with aclosing(part.body.pieces()) as pieces:
            async for piece in pieces:
                if left is not None:
                    left -= len(piece)
                    if left < 0:
                        break
                yield piece
        if left:
            change = "longer" if left < 0 else "shorter"
            raise UsageError(f"the file is {change} than it was when the request was made")
    except UsageError as error:
        if isinstance(part.body, FileBody) and getattr(part.body.source, "closed", False) is True:
            raise _unreadable(part.label, part.body.source, ValueError("it is closed")) from error
        raise UsageError(f"{part.label}: {error}") from error
    except AiosockError:
        raise  # Of a file that is itself read over the network; some are OSErrors too.
    except (OSError, ValueError) as error:
        if not isinstance(part.body, (FileBody, AsyncFileBody)):
            raise
        raise _unreadable(part.label, part.body.source, error) from error


def _unreadable(label: str, file: object, error: OSError | ValueError) -> UsageError:
    name = _name_of_file(file)
    shown = "the file" if name is None else f"the file {name[:MAX_SHOWN]!r}"
    return UsageError(f"{label}: {shown} cannot be read: {getattr(error, 'strerror', None) or error}")


def file_pairs(files: Files) -> list[tuple[str, FileValue]]:
    """
    Return ``files`` as pairs of name and value.

    Raises:
        UsageError: Neither a mapping nor pairs.
    """
    if isinstance(files, (str, bytes, bytearray)) or not isinstance(files, Iterable) or hasattr(files, "read"):
        raise UsageError(f"files: takes a mapping or pairs of name and content, not {type(files).__name__}")
    pairs = list(files.items()) if isinstance(files, Mapping) else list(files)
    for pair in pairs:
        if not isinstance(pair, tuple) or len(pair) != 2:
            raise UsageError("files: every item must be a pair of name and content")
        if not isinstance(pair[0], str):
            raise UsageError(f"files: the name of a part is a str, not {type(pair[0]).__name__}")
    return pairs


def make_multipart(
    source: Files, files: list[tuple[str, FileValue]], data: FormData | None, content_type: str | None
) -> tuple[Body, str]:
    """
    Return a form as a body, and its Content-Type.

    Args:
        source: The files as they were given.
        files: The parts, as pairs of name and value.
        data: Plain fields, which come first.
        content_type: A Content-Type of the user's: its boundary is taken, or it gets one.

    Raises:
        UsageError: A part that cannot be sent, a Content-Type that is not multipart, a boundary that is none, or one of
            the user's that stands in a part; in parts that are not in memory nobody looks for it.
    """
    given = content_type
    boundary, content_type = _boundary(given)
    parts = [_field(name, value) for name, value in form_pairs(data if data is not None else ())]
    parts += [_file(name, value) for name, value in files]
    _refuse_repeated(parts)
    if content_type == given:
        _refuse_boundary_within(parts, b"--" + boundary)
    delimiter = b"\r\n--" + boundary
    # The first boundary has no line before it that it would have to end.
    parts = [
        part._replace(head=(delimiter if number else delimiter[2:]) + b"\r\n" + part.head)
        for number, part in enumerate(parts)
    ]
    body = MultipartBody(source, parts, delimiter + b"--\r\n")
    whole = [part.body.data for part in parts if isinstance(part.body, BytesBody)]
    if len(whole) < len(parts) or body.length is None or body.length > MAX_WHOLE_BYTES:
        return body, content_type
    pieces = [piece for part, data in zip(parts, whole, strict=True) for piece in (part.head, data)]
    return WholeMultipartBody(source, b"".join((*pieces, body._end))), content_type


def _refuse_repeated(parts: list[Part]) -> None:
    """What can be read once has nothing left for a second part."""
    seen: dict[int, str] = {}
    for label, _, body in parts:
        if not body.replayable and id(body.source) in seen:
            raise UsageError(f"{label}: can be read only once, and is given as {seen[id(body.source)]} too")
        seen[id(body.source)] = label


def _refuse_boundary_within(parts: list[Part], line: bytes) -> None:
    """A line within a part that begins like a boundary would end it (RFC 2046, 5.1.1); a random one stands nowhere."""
    for label, _, body in parts:
        if isinstance(body, BytesBody):
            data = bytes(body.data)
            if data.startswith(line) or b"\n" + line in data:
                raise UsageError(f"{label}: has a line that is the boundary of the Content-Type in headers")


# One part


def _field(name: str | bytes, value: str | bytes) -> Part:
    label = f"data[{name[:MAX_SHOWN]!r}]"
    return Part(label, _head(label, name, None, []), _body(label, value))


def _file(name: str, value: FileValue) -> Part:
    label = f"files[{name[:MAX_SHOWN]!r}]"
    content_type: object = None
    headers: PartHeaders | None = None
    if not isinstance(value, tuple):
        content = value
        filename = None if isinstance(content, str) else _name_of_file(content) or name
    elif 2 <= len(value) <= 4:
        filename, content, content_type, headers = cast("_Whole", (*value, None, None)[:4])
    else:
        raise UsageError(f"{label}: a tuple is (filename, content), and may have content type and headers after these")
    if filename is not None and not isinstance(filename, str):
        raise UsageError(f"{label}: the filename is a str or None, not {type(filename).__name__}")
    fields = _fields(label, headers)
    if not any(field.lower() == "content-type" for field, _ in fields):
        if content_type is None and filename is not None:
            content_type = _guess_type(filename)
        if content_type is not None:
            fields.insert(0, ("Content-Type", _checked_value(label, "Content-Type", content_type)))
    elif content_type is not None:
        raise UsageError(f"{label}: the content type is given twice, by itself and among the headers")
    return Part(label, _head(label, name, filename, fields), _body(label, content))


def _body(label: str, content: Content) -> Body:
    if getattr(content, "closed", False) is True:
        raise UsageError(f"{label}: the file is closed")
    if isinstance(content, list) and not all(isinstance(piece, (bytes, bytearray, memoryview)) for piece in content):
        raise UsageError(f"{label}: a list is one content in pieces of bytes; give several files as several pairs")
    try:
        return make_body(content, "")
    except UsageError as error:
        raise UsageError(f"{label}: {error}") from error
    except (OSError, ValueError) as error:
        raise _unreadable(label, content, error) from error


def _name_of_file(content: object) -> str | None:
    """Return the name of a file without its folders; a number or ``<stdin>`` is none."""
    name = getattr(content, "name", None)
    if not isinstance(name, (str, bytes, os.PathLike)):
        return None
    text = os.path.basename(os.fsdecode(name))
    return None if text.startswith("<") and text.endswith(">") else text


def _guess_type(filename: str) -> str:
    import mimetypes

    # Not `mimetypes.guess_type`, which takes a name for a URL, and reads the system's files, holding up the loop. The
    # tables have what Python knows, and what the system does as soon as the program calls `mimetypes.init`.
    ending = os.path.splitext(filename)[1].lower()
    return mimetypes.types_map.get(ending) or mimetypes.common_types.get(ending) or "application/octet-stream"


# The head of a part


def _head(label: str, name: str | bytes, filename: str | None, fields: list[tuple[str, str]]) -> bytes:
    head = b'Content-Disposition: form-data; name="' + _escaped(label, "name", name) + b'"'
    if filename is not None:
        head += b'; filename="' + _escaped(label, "filename", filename) + b'"'
    lines = [f"{field}: {value}\r\n".encode() for field, value in fields]
    return b"".join((head, b"\r\n", *lines, b"\r\n"))


def _escaped(label: str, what: str, text: str | bytes) -> bytes:
    encoded = text if isinstance(text, bytes) else _encodable(label, what, text).encode()
    return encoded.replace(b"\r", b"%0D").replace(b"\n", b"%0A").replace(b'"', b"%22")


def _fields(label: str, headers: PartHeaders | None) -> list[tuple[str, str]]:
    given: object = headers.items() if isinstance(headers, Mapping) else headers or ()
    fields: list[tuple[str, str]] = []
    for field in given if isinstance(given, Iterable) else [given]:
        if not isinstance(field, tuple) or len(field) != 2:
            raise UsageError(f"{label}: headers are a mapping or pairs of str")
        name, value = field
        if not isinstance(name, str) or not is_token(name):
            raise UsageError(f"{label}: the name of a header is a token, not {str(name)[:MAX_SHOWN]!r}")
        if name.lower() == "content-disposition":
            raise UsageError(f"{label}: Content-Disposition is made of name and filename, and not given as a header")
        fields.append((name, _checked_value(label, name, value)))
    return fields


def _checked_value(label: str, name: str, value: object) -> str:
    if not isinstance(value, str):
        raise UsageError(f"{label}: {name} is a str, not {type(value).__name__}")
    if any((character < " " and character != "\t") or character == "\x7f" for character in value):
        raise UsageError(f"{label}: {name} holds a control character")
    return _encodable(label, name, value)


def _encodable(label: str, what: str, text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise UsageError(f"{label}: the {what} has a lone surrogate and cannot be encoded") from error
    return text


# The boundary


@cache
def _boundary_parameter() -> re.Pattern[str]:
    return re.compile(r';\s*([^\s=;"]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s;"]*))(?=\s*(?:;|$))')


@cache
def _boundary_grammar() -> re.Pattern[str]:
    # RFC 2046, 5.1.1.
    return re.compile(r"[0-9A-Za-z'()+_,./:=? -]{0,69}[0-9A-Za-z'()+_,./:=?-]")


def _boundary(content_type: str | None) -> tuple[bytes, str]:
    """Return the boundary that a Content-Type of the user's names, or a random one; and the Content-Type with it."""
    if content_type is None:
        content_type = "multipart/form-data"
    elif not content_type.lower().startswith("multipart/"):
        raise UsageError(f"headers: Content-Type is {content_type[:MAX_SHOWN]!r}, but files make multipart/form-data")
    for name, quoted, plain in _boundary_parameter().findall(content_type):
        if name.lower() == "boundary":
            boundary: str = re.sub(r"\\(.)", r"\1", quoted) or plain
            if not _boundary_grammar().fullmatch(boundary):
                raise UsageError(f"headers: Content-Type names no valid boundary: {boundary[: 2 * MAX_SHOWN]!r}")
            return boundary.encode("ascii"), content_type
    if "boundary" in content_type.lower():
        raise UsageError("headers: Content-Type names a boundary that cannot be read")
    # As `secrets` would make it. Nothing that is sent has a say in it, so no sender can guess it.
    boundary = os.urandom(16).hex()
    return boundary.encode("ascii"), f"{content_type.rstrip('; ')}; boundary={boundary}"
