"""
The grammar of HTTP/1.1's head and framing: text to values, errors for whatever is not in the grammar.

Pure functions and closed tables. Of what peers sent, a bounded number of short lines is remembered.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from multidict import CIMultiDict, istr

from aiosock.errors import HeadTooLarge, RemoteProtocolError

MAX_CONTENT_LENGTH: Final = 2**63 - 1
MAX_CHUNK_SIZE_DIGITS: Final = 16

TOKEN_CHARS: Final = b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
is_token: Final = re.compile(rf"[{re.escape(TOKEN_CHARS.decode())}]+").fullmatch

# Everything that may stand in a field line (RFC 9112, 5 and RFC 9110, 5.5): HTAB, SP, visible ASCII and
# obs-text. Deleting these from a head leaves its line ends, and whatever should not be there.
FIELD_BYTES: Final = bytes([0x09, *range(0x20, 0x7F), *range(0x80, 0x100)])

_FIELD_NAMES: Final = """
    Accept-CH Accept-Patch Accept-Ranges Access-Control-Allow-Credentials Access-Control-Allow-Headers
    Access-Control-Allow-Methods Access-Control-Allow-Origin Access-Control-Expose-Headers
    Access-Control-Max-Age Age Allow Alt-Svc Cache-Control CDN-Cache-Control CF-Cache-Status CF-RAY
    Clear-Site-Data Connection Content-Disposition Content-Encoding Content-Language Content-Length
    Content-Location Content-Range Content-Security-Policy Content-Security-Policy-Report-Only Content-Type
    Cross-Origin-Embedder-Policy Cross-Origin-Opener-Policy Cross-Origin-Resource-Policy Date Digest ETag
    Expect-CT Expires Feature-Policy Host Keep-Alive Last-Modified Link Location NEL Origin-Agent-Cluster P3P
    Permissions-Policy Pragma Priority Proxy-Authenticate Proxy-Connection Referrer-Policy Refresh Report-To
    Reporting-Endpoints Request-Id Retry-After Server Server-Timing Set-Cookie SourceMap Status
    Strict-Transport-Security Timing-Allow-Origin Trailer Transfer-Encoding Upgrade Vary Via Warning
    WWW-Authenticate X-Amz-Cf-Id X-Amz-Cf-Pop X-Amz-Id-2 X-Amz-Request-Id X-AspNet-Version X-Cache X-Cache-Hits
    X-Content-Type-Options X-Correlation-Id X-DNS-Prefetch-Control X-Download-Options X-Frame-Options
    X-GitHub-Request-Id X-Permitted-Cross-Domain-Policies X-Powered-By X-RateLimit-Limit X-RateLimit-Remaining
    X-RateLimit-Reset X-Request-Id X-Robots-Tag X-Runtime X-Served-By X-Timer X-UA-Compatible X-XSS-Protection
    Accept Accept-Charset Accept-Encoding Accept-Language Authorization Cookie DNT Expect Forwarded From
    Idempotency-Key If-Match If-Modified-Since If-None-Match If-Range If-Unmodified-Since Max-Forwards Origin
    Proxy-Authorization Range Referer TE User-Agent X-Forwarded-For X-Requested-With
"""

KNOWN_NAMES: Final[dict[str, istr]] = {
    spelling: istr(spelling) for name in _FIELD_NAMES.split() for spelling in (name, name.lower())
}
"""Field names seen every day, as they are spelled on the wire: known to be tokens, and folded once for all."""


MAX_SEEN_LINES: Final = 512
MAX_SEEN_BYTES: Final = 128
_SEEN_LINES: Final[dict[str, tuple[str, str]]] = {}
"""Field lines that came lately, and what they say: servers repeat themselves. Bounded, as it is they who fill it."""

FOR_ONE_REQUEST: Final = tuple(
    istr(name) for name in ("Set-Cookie", "Location", "WWW-Authenticate", "Proxy-Authenticate", "Authentication-Info")
)
"""Fields that are meant for one request, maybe secret: no line and no head with them is remembered."""

_NEVER_TWICE: Final = frozenset(
    spelling
    for name in (*FOR_ONE_REQUEST, "Proxy-Authentication-Info", "X-Request-Id", "CF-RAY")
    for spelling in (name, name.lower())
)

_STATUSES: Final = (
    *("100 Continue", "101 Switching Protocols", "103 Early Hints"),
    *("200 OK", "201 Created", "202 Accepted", "204 No Content", "206 Partial Content"),
    *("301 Moved Permanently", "302 Found", "302 Moved Temporarily", "303 See Other", "304 Not Modified"),
    *("307 Temporary Redirect", "308 Permanent Redirect"),
    *("400 Bad Request", "401 Unauthorized", "403 Forbidden", "404 Not Found", "405 Method Not Allowed"),
    *("409 Conflict", "410 Gone", "412 Precondition Failed", "416 Range Not Satisfiable", "429 Too Many Requests"),
    *("500 Internal Server Error", "502 Bad Gateway", "503 Service Unavailable", "504 Gateway Timeout"),
)
_STATUS_LINES: Final[dict[str, tuple[str, int, str]]] = {
    f"{version} {status}": (version, int(status[:3]), status[4:])
    for version in ("HTTP/1.1", "HTTP/1.0")
    for status in _STATUSES
}
_match_status_line = re.compile(r"HTTP/([0-9])\.([0-9]) ([0-9]{3})(?: (.*))?").fullmatch

_HEX_DIGITS: Final = b"0123456789abcdefABCDEF"


def shown(data: bytes | bytearray | str, most: int = 40) -> str:
    """Return the start of what a peer sent, safe to stand in a message."""
    return f"{bytes(data[:most])!r}" if not isinstance(data, str) else f"{data[:most]!r}"


def parse_status_line(line: str) -> tuple[str, int, str]:
    """
    Return HTTP version, status code and reason phrase of a status line (RFC 9112, 4).

    The reason may be missing, with or without the space before it.

    Raises:
        RemoteProtocolError: The line is none, or speaks of another major version.
    """
    known = _STATUS_LINES.get(line)
    if known is not None:
        return known
    match = _match_status_line(line)
    if match is None or match[3] < "100":
        raise RemoteProtocolError(f"the answer does not begin with an HTTP/1 status line but with {shown(line)}")
    if match[1] != "1":
        raise RemoteProtocolError(f"the answer speaks HTTP/{match[1]}.{match[2]}, not HTTP/1.1 or HTTP/1.0")
    version = "HTTP/1.0" if match[2] == "0" else "HTTP/1.1"
    return version, int(match[3]), match[4] or ""


def section_lines(section: bytes, *, trailers: bool = False) -> list[str]:
    """
    Return the lines of a head or a trailer section, unfolded and without their line ends.

    Args:
        section: The bytes up to the empty line, and with it.
        trailers: All lines are field lines, and LF without CR is refused. A recipient may take a bare LF as the
            end of a line in a head (RFC 9112, 2.2), but in chunk framing that is a way to smuggle.

    Raises:
        RemoteProtocolError: CR without LF, NUL or another control character.
    """
    lines = section.decode("latin-1").split("\r\n")
    if section.translate(None, FIELD_BYTES) == b"\r\n" * (len(lines) - 1) and (
        b"\n " not in section and b"\n\t" not in section
    ):
        # As it should be, and nearly always is: every line ends with CRLF, and none is folded.
        del lines[-2:]
        return lines
    text = section.replace(b"\r\n", b"\n")
    if trailers and len(section) - len(text) != text.count(b"\n"):
        raise RemoteProtocolError("a line of the trailers ends with LF without CR")
    stray = text.translate(None, FIELD_BYTES).replace(b"\n", b"")
    if stray:
        raise RemoteProtocolError(f"a field section holds a forbidden control character: {shown(stray, 4)}")
    text = text[:-2]
    if b"\n " in text or b"\n\t" in text:
        # White space under the status line continues nothing (RFC 9112, 2.2); the field's name is then refused.
        fields = 0 if trailers else text.index(b"\n") + 1
        text = text[:fields] + re.sub(rb"\n[ \t]+", b" ", text[fields:])
    return text.decode("latin-1").split("\n")


def parse_fields(lines: Iterable[str], max_fields: int) -> CIMultiDict[str]:
    """
    Return the fields of unfolded field lines (RFC 9112, 5), in their order and spelling.

    Raises:
        RemoteProtocolError: A line without a colon, white space before the colon, a name that is no token.
        HeadTooLarge: More than ``max_fields`` fields.
    """
    seen = _SEEN_LINES.get
    fields = [seen(line) or _parse_field(line) for line in lines]
    if len(fields) > max_fields:
        raise HeadTooLarge(f"the answer has {len(fields)} fields; the limit is {max_fields}")
    return CIMultiDict(fields)


def _parse_field(line: str) -> tuple[str, str]:
    name, colon, value = line.partition(":")
    known = KNOWN_NAMES.get(name)
    if known is not None and colon:
        field = (known, value.strip(" \t"))
        if len(line) <= MAX_SEEN_BYTES and known not in _NEVER_TWICE:
            if len(_SEEN_LINES) >= MAX_SEEN_LINES:
                _SEEN_LINES.clear()
            _SEEN_LINES[line] = field
        return field
    if colon and is_token(name):
        return name, value.strip(" \t")
    if not colon:
        # Not shown: it may be the rest of a cookie.
        raise RemoteProtocolError(f"a field line of {len(line)} characters has no colon")
    if name.rstrip(" \t") != name:
        raise RemoteProtocolError(f"white space before the colon of the field {shown(name.rstrip())}")
    raise RemoteProtocolError(f"a field name is not a token: {shown(name)}")


def parse_content_length(values: Iterable[str]) -> int:
    """
    Return the length that one or more Content-Length values agree on (RFC 9110, 8.6).

    Raises:
        RemoteProtocolError: They disagree, or one is not a decimal number below 2**63.
    """
    values = list(values)
    if len(values) == 1 and values[0].isascii() and values[0].isdigit() and len(values[0]) < 19:
        return int(values[0])
    lengths = set()
    for value in values:
        for part in value.split(","):
            digits = part.strip(" \t")
            if not (digits.isascii() and digits.isdigit()):
                raise RemoteProtocolError(f"Content-Length is not a number of bytes: {shown(value)}")
            # Measured before it is converted: Python refuses to convert thousands of digits, zeros in front included.
            digits = digits.lstrip("0") or "0"
            if len(digits) > 19 or int(digits) > MAX_CONTENT_LENGTH:
                raise RemoteProtocolError(
                    f"Content-Length {shown(value)} is over the limit of {MAX_CONTENT_LENGTH} bytes"
                )
            lengths.add(int(digits))
    if len(lengths) != 1:
        raise RemoteProtocolError(f"Content-Length is given with different values: {sorted(lengths)[:4]}")
    return lengths.pop()


def parse_chunk_size(line: bytes) -> int:
    """
    Return the size in bytes that a chunk-size line announces.

    Args:
        line: The line without its CRLF; extensions after ``;`` are ignored.

    Raises:
        RemoteProtocolError: Not 1 to 16 hexadecimal digits, or a control character in the extensions
            (RFC 9112, 7.1).
    """
    size, extended, extensions = line.partition(b";")
    if extended and extensions.translate(None, FIELD_BYTES):
        raise RemoteProtocolError(f"a chunk extension holds a forbidden control character: {shown(line)}")
    digits = size.rstrip(b" \t")
    if not digits or digits.translate(None, _HEX_DIGITS) or len(digits) > MAX_CHUNK_SIZE_DIGITS:
        raise RemoteProtocolError(f"a chunk size is not 1 to 16 hexadecimal digits: {shown(line)}")
    return int(digits, 16)


def split_list(values: Iterable[str]) -> list[str]:
    """Return the members of a comma-separated list field without parameters, lower-cased (RFC 9110, 5.6.1)."""
    return [member for value in values for part in value.split(",") if (member := part.strip(" \t").lower())]


def parse_keep_alive_seconds(value: str) -> int | None:
    """Return N of ``Keep-Alive: timeout=N`` (RFC 2068, 19.7.1), None where it is not there or not a number."""
    for part in value.split(","):
        name, _, seconds = part.strip(" \t").partition("=")
        digits = seconds.strip(' \t"')
        if name.rstrip(" \t").lower() == "timeout" and digits.isascii() and digits.isdigit():
            return int(digits[:9])
    return None
