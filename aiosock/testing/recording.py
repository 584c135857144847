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
from urllib.parse import unquote_plus

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
_PARAM_VALUE: Final = re.compile(r"[^&#;\s<>\"']*")
_USERINFO: Final = re.compile(r"//[^/?#@\s]*@")
_BOUNDARY: Final = re.compile(r'boundary="?([^";,\s]+)', re.IGNORECASE)
_FORM: Final = "application/x-www-form-urlencoded"


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
        if kind.lower().startswith("multipart/") and (found := _BOUNDARY.search(kind)):
            body = body.replace(found[1].encode("latin-1"), b"boundary")
        return self.method, self.url, body


class Secrets:
    """
    What may not be written.

    Args:
        headers: Names of fields, besides `SECRET_HEADERS`.
        params: Names of parameters of queries and forms.
        patterns: What is secret in bodies: all that they match, or only their groups, where they have some.

    Raises:
        UsageError: A pattern that is no regular expression.
    """

    def __init__(self, headers: Iterable[str], params: Iterable[str], patterns: Iterable[Pattern]) -> None:
        for name, given in (("headers", headers), ("params", params), ("patterns", patterns)):
            if isinstance(given, (str, bytes)):
                raise UsageError(f"Recorder: secret_{name} takes a list, not one {type(given).__name__}")
        self._headers = SECRET_HEADERS | {name.lower() for name in headers}
        self._params = frozenset(params)
        self._patterns = [_compiled(pattern) for pattern in patterns]

    def redacted(self, exchange: Recorded) -> Recorded:
        """Return the exchange without them."""
        headers, body = self._message(exchange.headers, exchange.body, True)
        response_headers, content = self._message(exchange.response_headers, bytes(exchange.content), exchange.complete)
        return Recorded(
            exchange.method,
            self._text(exchange.url),
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
        return self._text(_USERINFO.sub("//", value))

    def _text(self, text: str) -> str:
        """Return a URL, or what holds some, without the values of secret parameters."""
        if not self._params:
            return text
        kept: list[str] = []
        at = 0
        # One by one: the value of a parameter may be a URL with parameters of its own.
        while found := _PARAM.search(text, at):
            kept.append(text[at : found.end()])
            at = found.end()
            if unquote_plus(found[1]) in self._params:
                kept.append(REDACTED)
                value = _PARAM_VALUE.match(text, at)
                at = at if value is None else value.end()
        return "".join([*kept, text[at:]])

    def _body(self, headers: Fields, body: bytes, complete: bool) -> bytes:
        """Return the body without secrets: the very same where there are none, else decoded."""
        is_form = bool(self._params) and _value(headers, "content-type").lower().startswith(_FORM)
        if not body or not (self._patterns or is_form):
            return body
        try:
            plain = _decode(headers, body, complete)
        except DecodingError:
            # It cannot be looked into, so that nothing of it may be kept.
            return REDACTED.encode()
        clean = self._text(plain.decode("latin-1")).encode("latin-1") if is_form else plain
        for pattern in self._patterns:
            clean = pattern.sub(_redact, clean)
        return body if clean == plain else clean


def _compiled(pattern: Pattern) -> re.Pattern[bytes]:
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
        except ValueError as error:
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
