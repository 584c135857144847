"""
The file of a recorder: its form, and what may not stand in it.

The first line says which version of the form it has. Each line after it is an exchange: a request (method, url, headers
and a body) and its response (status, reason, headers, a body, trailers, and complete, which is false where the body was
given up before its end). A body is ``text`` where it is UTF-8, else ``base64``; it is as it went over the network, its
content codings still on it.

Nothing here touches a file.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias
from urllib.parse import unquote, unquote_plus

from aiosock.errors import DecodingError, UsageError
from aiosock.message.decoding import Pipeline

VERSION: Final = 1
VERSION_KEY: Final = "aiosock-recording"
REDACTED: Final = "REDACTED"

SECRET_HEADERS: Final = frozenset(
    {
        *("authorization", "proxy-authorization", "authentication-info", "proxy-authentication-info"),
        *("cookie", "set-cookie", "x-api-key", "api-key", "x-auth-token", "x-csrf-token"),
    }
)
"""Fields whose values are never written, in lower case."""

Fields: TypeAlias = list[tuple[str, str]]
Pattern: TypeAlias = str | bytes | re.Pattern[str] | re.Pattern[bytes]

_PARAM: Final = re.compile(r"(?:^|[?&#;])([^=&#?;\s<>\"']+)=")
_WORD: Final = re.compile(r"[^\s<>\"]+")
_USERINFO: Final = re.compile(r"//[^/?#@\s]*@")
_BOUNDARY: Final = re.compile(r'boundary=(?:"([^"]+)"|([^";,\s]+))', re.IGNORECASE)
_BLANK_LINE: Final = re.compile(rb"\r?\n\r?\n")
_PART_NAMES: Final = (
    re.compile(r'[;\s]name\s*=\s*"([^"]*)"', re.IGNORECASE),
    re.compile(r'[;\s]name\s*=\s*"((?:\\.|[^"\\])*)"', re.IGNORECASE),
    re.compile(r'[;\s]name\s*=\s*([^;\s"]+)', re.IGNORECASE),
    re.compile(r"[;\s]name\*\s*=\s*[^;\s']*'[^;\s']*'([^;\s]+)", re.IGNORECASE),
)
_FILENAME: Final = re.compile(r"[;\s]filename\*?\s*=", re.IGNORECASE)
_FORM: Final = "application/x-www-form-urlencoded"
_MULTIPART: Final = "multipart/"
_URL_FIELDS: Final = frozenset({"location", "content-location", "referer"})
"""Fields that are a URL and nothing else."""


@dataclass
class Recorded:
    """
    One exchange.

    Attributes:
        method, url, headers, body: The request.
        status: Of the response; None as long as there is none.
        reason, response_headers, trailers: Of the response too.
        content: Its body as it went over the network, as far as it was read.
        complete: It was read to its end.
    """

    method: str
    url: str
    headers: Fields
    body: bytes
    status: int | None = None
    reason: str = ""
    response_headers: Fields = field(default_factory=list)
    content: bytearray = field(default_factory=bytearray)
    trailers: Fields = field(default_factory=list)
    complete: bool = False

    @property
    def key(self) -> tuple[str, str, bytes]:
        """What a request must have in common with this one to get its answer; boundaries of forms are made up anew."""
        body = self.body
        kind = _value(self.headers, "content-type")
        if kind.lower().startswith(_MULTIPART) and (boundary := _boundary(kind)):
            body = body.replace(boundary, b"boundary")
        return self.method, self.url, body


class Secrets:
    """
    What may not be written.

    Args:
        headers: Names of fields, besides `SECRET_HEADERS`.
        params: Names of parameters of queries and forms.
        patterns: What is secret in bodies: all that they match, or only their groups, where they have some.

    Raises:
        UsageError: A name that is no str, or a pattern that is no regular expression.
    """

    def __init__(self, headers: Iterable[str], params: Iterable[str], patterns: Iterable[Pattern]) -> None:
        for name, given in (("headers", headers), ("params", params), ("patterns", patterns)):
            if isinstance(given, (str, bytes)) or not isinstance(given, Iterable):
                raise UsageError(f"Recorder: secret_{name} takes a list, not one {type(given).__name__}")
        self._headers = SECRET_HEADERS | {name.lower() for name in _names("headers", headers)}
        self._params = frozenset(_names("params", params))
        self._patterns = [_compiled(pattern) for pattern in patterns]

    def redacted(self, exchange: Recorded) -> Recorded:
        """Return the exchange without them."""
        headers, body = self._message(exchange.headers, exchange.body, True)
        response_headers, content = self._message(exchange.response_headers, bytes(exchange.content), exchange.complete)
        return Recorded(
            exchange.method,
            self._url(exchange.url),
            headers,
            body,
            exchange.status,
            exchange.reason,
            response_headers,
            bytearray(content),
            self._fields(exchange.trailers),
            exchange.complete,
        )

    def _message(self, headers: Fields, body: bytes, complete: bool) -> tuple[Fields, bytes]:
        clean = self._body(headers, body, complete)
        fields = self._fields(headers)
        if clean is body:
            return fields, body
        fields = [(name, value) for name, value in fields if name.lower() != "content-encoding"]
        length = str(len(clean))
        return [(name, length if name.lower() == "content-length" else value) for name, value in fields], clean

    def _fields(self, fields: Fields) -> Fields:
        return [(name, self._field(name.lower(), value)) for name, value in fields]

    def _field(self, name: str, value: str) -> str:
        if name == "set-cookie":
            # The name and the attributes tell the reader something, and a thief nothing.
            pair, semicolon, attributes = value.partition(";")
            cookie, equals, _ = pair.partition("=")
            return f"{cookie}={REDACTED}{semicolon}{attributes}" if equals else REDACTED
        if name in self._headers:
            return REDACTED
        value = _USERINFO.sub("//", value)
        if name in _URL_FIELDS:
            return self._url(value)
        return _WORD.sub(lambda word: self._url(word[0]), value)

    def _url(self, text: str) -> str:
        """Return a URL without the values of secret parameters, each of which ends at ``&`` or ``#`` alone."""
        if not self._params:
            return text
        first, *rest = re.split("([&#])", text)
        head, mark, query = first.partition("?")
        if self._find(head):
            head, mark, query = self._pair(first), "", ""
        path = "/".join(REDACTED if self._hides(segment) else segment for segment in head.split("/"))
        return "".join([path, mark, self._pair(query), *map(self._pair, rest)])

    def _pair(self, text: str) -> str:
        """Return a parameter, or what stands in its place, up to the value that is secret."""
        if found := self._find(text):
            # Its own, or that of a URL which is its value.
            text = text[: found.end()] + REDACTED
        if not self._hides(text):
            return text
        name, equals, _ = text.partition("=")
        return f"{name}={REDACTED}" if equals and not self._hides(name) else REDACTED

    def _hides(self, text: str) -> bool:
        """Tell whether there is a secret parameter beneath percent-encoding, however often that was applied."""
        while (plain := unquote_plus(text)) != text:
            text = plain
            if self._find(text):
                return True
        return False

    def _find(self, text: str) -> re.Match[str] | None:
        """Return the first secret parameter, up to its value."""
        # One by one: the value of a parameter may be a URL with parameters of its own.
        at = 0
        while found := _PARAM.search(text, at):
            if unquote_plus(found[1]) in self._params:
                return found
            at = found.end()
        return None

    def _form(self, body: bytes) -> bytes:
        text = body.decode("utf-8", "surrogateescape")
        return "&".join(self._pair(pair) for pair in text.split("&")).encode("utf-8", "surrogateescape")

    def _multipart(self, kind: str, body: bytes) -> bytes:
        """Return a body in parts, without the content of those whose name is secret."""
        boundary = _boundary(kind)
        if not boundary:
            # It cannot be looked into, so that nothing of it may be kept.
            return REDACTED.encode()
        delimiter = b"--" + boundary
        return delimiter.join(self._part(part) for part in body.split(delimiter))

    def _part(self, part: bytes) -> bytes:
        blank = _BLANK_LINE.search(part)
        if blank is None:
            return part
        head = part[: blank.start()].decode("utf-8", "surrogateescape")
        names = {name for pattern in _PART_NAMES for name in pattern.findall(head)}
        names |= {re.sub(r"\\(.)", r"\1", name) for name in names} | {unquote(name) for name in names}
        if self._params.isdisjoint(names):
            content = part[blank.end() :].decode("utf-8", "surrogateescape")
            if _FILENAME.search(head) or not (self._find(content) or self._hides(content)):
                return part
        return part[: blank.end()] + REDACTED.encode() + b"\r\n"

    def _body(self, headers: Fields, body: bytes, complete: bool) -> bytes:
        """Return the body without secrets: the very same where there are none, else decoded."""
        kind = _value(headers, "content-type")
        is_form = bool(self._params) and kind.lower().startswith((_FORM, _MULTIPART))
        if not body or not (self._patterns or is_form):
            return body
        try:
            plain = _decode(headers, body, complete)
        except DecodingError:
            # It cannot be looked into, so that nothing of it may be kept.
            return REDACTED.encode()
        clean = plain
        if is_form:
            clean = self._form(plain) if kind.lower().startswith(_FORM) else self._multipart(kind, plain)
        for pattern in self._patterns:
            clean = pattern.sub(_redact, clean)
        return body if clean == plain else clean


def _names(kind: str, given: Iterable[str]) -> list[str]:
    names = list(given)
    for name in names:
        if not isinstance(name, str):
            raise UsageError(f"Recorder: secret_{kind} takes names as str, not {type(name).__name__}")
    return names


def _compiled(pattern: Pattern) -> re.Pattern[bytes]:
    if not isinstance(pattern, (str, bytes, re.Pattern)):
        raise UsageError(f"Recorder: secret_patterns takes str, bytes or re.Pattern, not {type(pattern).__name__}")
    flags = 0
    if isinstance(pattern, re.Pattern):
        flags = pattern.flags & ~re.UNICODE
        pattern = pattern.pattern
    try:
        return re.compile(pattern.encode() if isinstance(pattern, str) else pattern, flags)
    except re.error as error:
        raise UsageError(f"Recorder: a pattern in secret_patterns is no regular expression: {error}") from error


def _redact(found: re.Match[bytes]) -> bytes:
    whole, start = found[0], found.start()
    if not found.re.groups:
        return REDACTED.encode()
    # From the last to the first: replacing moves what comes after. A group within another is gone with it.
    spans = sorted({found.span(group) for group in range(1, found.re.groups + 1)} - {(-1, -1)})
    outer: list[tuple[int, int]] = []
    for span in spans:
        if not outer or span[0] >= outer[-1][1]:
            outer.append(span)
        elif span[1] > outer[-1][1]:
            outer[-1] = (outer[-1][0], span[1])
    for first, last in reversed(outer):
        whole = whole[: first - start] + REDACTED.encode() + whole[last - start :]
    return whole


def _decode(headers: Fields, body: bytes, complete: bool) -> bytes:
    named = ",".join(value for name, value in headers if name.lower() == "content-encoding").split(",")
    pipeline = Pipeline(tuple(coding for part in named if (coding := part.strip().lower())))
    if not pipeline:
        return body
    plain = b"".join(pipeline.decode(body))
    if complete:
        pipeline.finish()
    return plain


def _boundary(kind: str) -> bytes:
    """Return what stands between the parts of a body of this Content-Type; nothing where it does not say."""
    found = _BOUNDARY.search(kind)
    return b"" if found is None else (found[1] or found[2]).encode("utf-8", "surrogateescape")


def _value(headers: Fields, wanted: str) -> str:
    return next((value for name, value in headers if name.lower() == wanted), "")


# The form


def encode(exchanges: Iterable[Recorded]) -> str:
    """Return the text of a file; exchanges without a response are left out."""
    lines: list[dict[str, Any]] = [{VERSION_KEY: VERSION}]
    for one in exchanges:
        if one.status is None:
            continue
        request = {"method": one.method, "url": one.url, "headers": one.headers} | _encode_body(one.body)
        response = {"status": one.status, "reason": one.reason, "headers": one.response_headers}
        response |= _encode_body(bytes(one.content))
        if one.trailers:
            response["trailers"] = one.trailers
        lines.append({"request": request, "response": response | {"complete": one.complete}})
    return "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)


def _encode_body(body: bytes) -> dict[str, str]:
    try:
        return {"text": body.decode()}
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(body).decode("ascii")}


def parse(text: str, name: str) -> list[Recorded]:
    """
    Return the exchanges of a file.

    Args:
        text: What stands in it.
        name: What it is called, for the message.

    Raises:
        UsageError: It is no recording, or one of another version; the message names the file and the line.
    """
    exchanges: list[Recorded] = []
    # Not by splitlines, which knows ends of lines that may stand in JSON.
    for number, line in enumerate(text.removesuffix("\n").split("\n"), 1):
        try:
            value = json.loads(line)
            if number == 1:
                _check_version(value)
            else:
                exchanges.append(_exchange(value))
        except _Unusable as error:
            raise UsageError(f"the recording {name} cannot be used: line {number}: {error}") from None
        except (ValueError, RecursionError) as error:
            raise UsageError(f"the recording {name} cannot be used: line {number} is no JSON: {error}") from error
    return exchanges


class _Unusable(Exception):
    """What stands in a line is JSON, and no exchange."""


def _check_version(value: object) -> None:
    version = value.get(VERSION_KEY) if isinstance(value, dict) else None
    if version is None:
        raise _Unusable(f"there is no {VERSION_KEY!r}")
    if version != VERSION:
        raise _Unusable(f"its version is {version!r}, and this aiosock knows {VERSION}")


def _exchange(value: object) -> Recorded:
    request, response = _member(value, "request", dict), _member(value, "response", dict)
    return Recorded(
        _member(request, "method", str),
        _member(request, "url", str),
        _decode_fields(request, "headers"),
        _decode_body(request),
        _member(response, "status", int),
        _member(response, "reason", str),
        _decode_fields(response, "headers"),
        bytearray(_decode_body(response)),
        _decode_fields(response, "trailers") if "trailers" in response else [],
        _member(response, "complete", bool),
    )


def _member(value: object, name: str, kind: Callable[..., Any]) -> Any:
    if not isinstance(value, dict) or name not in value:
        raise _Unusable(f"there is no {name!r}")
    if type(value[name]) is not kind:
        raise _Unusable(f"{name!r} is a {type(value[name]).__name__}")
    return value[name]


def _decode_fields(message: dict[str, Any], name: str) -> Fields:
    fields: Fields = []
    for pair in _member(message, name, list):
        if not isinstance(pair, list) or len(pair) != 2 or not all(isinstance(part, str) for part in pair):
            raise _Unusable(f"{name!r} has what is no pair of name and value")
        fields.append((pair[0], pair[1]))
    return fields


def _decode_body(message: dict[str, Any]) -> bytes:
    if "base64" not in message:
        text: str = _member(message, "text", str)
        return text.encode("utf-8", "surrogatepass")
    try:
        return base64.b64decode(_member(message, "base64", str), validate=True)
    except ValueError:
        raise _Unusable("'base64' is none") from None
