"""
Requests and answers as a scripted server sees them: just enough HTTP/1 to read the one and write the other.

Reading is strict, so that a client that sends something ill-formed fails its tests. Deliberately this shares
no code with the library's own parser: a mistake made twice would cancel out. Nothing here waits or touches
a connection.
"""

from __future__ import annotations

import http
import re
from collections.abc import Iterable
from dataclasses import dataclass, field

TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
REQUEST_LINE = re.compile(rf"({TOKEN.pattern}) ([!-~]+) (HTTP/[0-9]\.[0-9])")
CHUNK_SIZE = re.compile(rb"[0-9A-Fa-f]{1,16}")


class BadRequest(ValueError):
    """The client sent something that is not well-formed HTTP/1."""


@dataclass(frozen=True, slots=True)
class ReceivedRequest:
    """
    A request as it stood on the wire.

    Attributes:
        method: Such as ``"GET"``.
        target: The request target, untouched.
        http_version: Such as ``"HTTP/1.1"``.
        headers: Names and values in order, names in the client's spelling.
        body: The body without its framing; empty as long as it has not been read.
        trailers: The fields after a chunked body.
        raw_head: The bytes of the head, with the empty line that ends it.
    """

    method: str
    target: str
    http_version: str
    headers: list[tuple[str, str]]
    body: bytes = b""
    trailers: list[tuple[str, str]] = field(default_factory=list)
    raw_head: bytes = b""

    def header(self, name: str) -> str | None:
        """Return the first value of a header, whatever the case of its name; None where there is none."""
        return next(iter(self.header_values(name)), None)

    def header_values(self, name: str) -> list[str]:
        """Return all values of a header, whatever the case of its name."""
        return [value for key, value in self.headers if key.lower() == name.lower()]

    def header_tokens(self, name: str) -> list[str]:
        """Return the members of a header that holds a list, such as ``Connection``, in lower case."""
        members = ",".join(self.header_values(name)).split(",")
        return [member.strip().lower() for member in members if member.strip()]


def parse_head(raw: bytes) -> ReceivedRequest:
    """
    Return the request whose head these bytes are, from the request line to the empty line.

    Raises:
        BadRequest: It is not well-formed (RFC 9112, 3 and 5).
    """
    request_line, *field_lines = raw.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
    match = REQUEST_LINE.fullmatch(request_line)
    if match is None:
        raise BadRequest(f"not a request line: {request_line!r}")
    method, target, version = match.groups()
    return ReceivedRequest(method, target, version, parse_fields(field_lines), raw_head=raw)


def parse_fields(lines: Iterable[str]) -> list[tuple[str, str]]:
    """
    Return the names and values of header or trailer lines, given without their CRLF.

    Raises:
        BadRequest: A line is not a field, is folded, or holds CR, LF or NUL (RFC 9110, 5.5).
    """
    fields: list[tuple[str, str]] = []
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or not TOKEN.fullmatch(name) or any(char in value for char in "\r\n\0"):
            raise BadRequest(f"not a field: {line!r}")
        fields.append((name, value.strip(" \t")))
    return fields


def body_length(request: ReceivedRequest) -> int | None:
    """
    Return the size in bytes of the body that a head announces; None if it is chunked.

    Raises:
        BadRequest: The head contradicts itself, or has a coding that is not known (RFC 9112, 6).
    """
    codings = request.header_tokens("Transfer-Encoding")
    lengths = set(request.header_values("Content-Length"))
    if codings and (lengths or codings != ["chunked"]):
        raise BadRequest(f"not a framing: Transfer-Encoding {codings} and Content-Length {sorted(lengths)}")
    if codings:
        return None
    length = lengths.pop() if lengths else "0"
    if lengths or not (length.isascii() and length.isdigit()):
        raise BadRequest(f"not a Content-Length: {length!r}, and beside it {sorted(lengths)}")
    return int(length)


def parse_chunk_size(line: bytes) -> int:
    """
    Return the size in bytes that a chunk-size line announces, given without its CRLF; extensions are ignored.

    Raises:
        BadRequest: Not 1 to 16 hexadecimal digits (RFC 9112, 7.1).
    """
    size = line.partition(b";")[0].rstrip(b" \t")
    if not CHUNK_SIZE.fullmatch(size):
        raise BadRequest(f"not a chunk size: {line!r}")
    return int(size, 16)


def response(
    status: int = 200,
    body: bytes = b"",
    headers: Iterable[tuple[str, str]] = (),
    *,
    reason: str | None = None,
    chunked: bool = False,
    trailers: Iterable[tuple[str, str]] = (),
    until_close: bool = False,
) -> bytes:
    """
    Return the bytes of an ordinary, well-formed answer.

    It gets a Content-Length, unless it is framed otherwise, the status forbids a body, or ``headers`` hold a
    Content-Length or Transfer-Encoding already: with one of these and no body, the head alone comes back.

    Args:
        status: The status code.
        body: The body without framing.
        headers: Names and values; written as they are, before the framing.
        reason: The reason phrase; by default the usual one of that status.
        chunked: Send the body as one chunk.
        trailers: Fields after a chunked body.
        until_close: The end of the connection, which is the script's affair, ends the body.

    Raises:
        ValueError: A body with a status that has none, or trailers without ``chunked``.
    """
    fields = list(headers)
    trailer_lines = _lines(trailers)
    has_body = status >= 200 and status not in (204, 304)
    if body and not has_body:
        raise ValueError(f"an answer with status {status} has no body")
    if trailer_lines and not chunked:
        raise ValueError("trailers need chunked=True")
    if chunked:
        fields.append(("Transfer-Encoding", "chunked"))
        body = (encode_chunk(body) if body else b"") + b"0\r\n" + trailer_lines + b"\r\n"
    elif has_body and not until_close and not _has_framing(fields):
        fields.append(("Content-Length", str(len(body))))
    if reason is None:
        reason = reason_phrase(status)
    return f"HTTP/1.1 {status} {reason}\r\n".encode("latin-1") + _lines(fields) + b"\r\n" + body


def encode_chunk(data: bytes) -> bytes:
    """Return one chunk of a chunked body; of no data, the end of the body."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def reason_phrase(status: int) -> str:
    """Return the usual reason phrase of a status; empty for one that is not registered."""
    return http.HTTPStatus(status).phrase if status in set(http.HTTPStatus) else ""


def _has_framing(fields: Iterable[tuple[str, str]]) -> bool:
    return any(name.lower() in ("content-length", "transfer-encoding") for name, _ in fields)


def _lines(fields: Iterable[tuple[str, str]]) -> bytes:
    return "".join(f"{name}: {value}\r\n" for name, value in fields).encode("latin-1")
