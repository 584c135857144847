"""
Cookies in files: a JSON format of our own, which keeps everything, and Netscape's cookies.txt, which others read.

A file that is read is taken whole or not at all; one that is written is the old one or the new one at any time. All
of this blocks, and belongs in a thread.
"""

from __future__ import annotations

import json
import logging
import math
import os
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, fields
from typing import Any, Final

from aiosock.errors import UsageError
from aiosock.message.file import read_file, unusable, write_file
from aiosock.protocol.cookie import Cookie, is_address

logger = logging.getLogger("aiosock.message")

VERSION: Final = 1

_HTTP_ONLY: Final = "#HttpOnly_"
_FLAGS: Final = {"TRUE": True, "FALSE": False}
_KNOWN: Final = frozenset(field.name for field in fields(Cookie))
_NEEDED: Final = frozenset({"name", "value", "domain"})


def read_cookies(path: str | os.PathLike[str]) -> list[Cookie]:
    """
    Return the cookies of a file, whose content tells its format.

    Raises:
        UsageError: The file cannot be read, or has something that cannot be used; the message names it and the
            place, and shows no value.
    """
    content = read_file("cookie", path).removeprefix(b"\xef\xbb\xbf")
    try:
        if content.lstrip()[:1] in (b"{", b"["):
            return list(_parse_json(content))
        return list(_parse_netscape(content))
    except UsageError as error:
        # What led to it may have the content of the file at hand, and is left out.
        raise unusable("cookie", path, error) from None


def write_cookies(path: str | os.PathLike[str], cookies: Iterable[Cookie], format: str) -> None:
    """
    Write cookies to a file, which takes the place of the one that is there.

    Args:
        path: The file; what a link leads to, where it is one.
        cookies: Cookies that are bound to a host.
        format: ``"json"`` or ``"netscape"``.

    Raises:
        UsageError: Another format, or the file cannot be written; the old one is as it was then.
    """
    if format not in _FORMATS:
        raise UsageError(f"format: takes 'json' or 'netscape', not {format!r}")
    write_file("cookie", path, _FORMATS[format](cookies))


def _parse_json(content: bytes) -> Iterator[Cookie]:
    try:
        document = json.loads(content.decode())
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UsageError(f"line {line}: it is not UTF-8") from None
    except json.JSONDecodeError as error:
        raise UsageError(f"line {error.lineno}: it is not JSON: {error.msg}") from None
    except (ValueError, RecursionError):
        raise UsageError("it is not JSON that can be read: a number is too long, or it is nested too deeply") from None
    if not isinstance(document, dict) or not isinstance(document.get("cookies"), list):
        raise UsageError('it is JSON, but not an object with "version" and "cookies"')
    if document.get("version") != VERSION or isinstance(document["version"], bool):
        raise UsageError(f"its version is not {VERSION}")
    for number, entry in enumerate(document["cookies"], 1):
        try:
            yield _cookie(entry)
        except UsageError as error:
            raise UsageError(f"cookie {number}: {error}") from None


def _cookie(entry: Any) -> Cookie:
    if not isinstance(entry, dict):
        raise UsageError("it is not an object")
    if not entry.keys() <= _KNOWN or not entry.keys() >= _NEEDED:
        raise UsageError(f"it takes name, value, domain, and maybe {', '.join(sorted(_KNOWN - _NEEDED))}")
    cookie = Cookie(**entry)
    if not cookie.domain:
        raise UsageError("its domain is empty")
    return cookie


def _format_json(cookies: Iterable[Cookie]) -> bytes:
    # One cookie a line, for those who look into it.
    lines = ",\n".join(json.dumps(asdict(cookie)) for cookie in cookies)
    return f'{{"version": {VERSION}, "cookies": [\n{lines}\n]}}\n'.encode()


def _parse_netscape(content: bytes) -> Iterator[Cookie]:
    # Octets, as in fields: others write what servers sent, which need not be UTF-8.
    for number, line in enumerate(content.decode("latin-1").split("\n"), 1):
        line = line.removesuffix("\r")
        http_only = line.startswith(_HTTP_ONLY)
        if not line.strip() or (line.startswith("#") and not http_only):
            continue
        try:
            yield _cookie_of_line(line.removeprefix(_HTTP_ONLY), http_only)
        except UsageError as error:
            raise UsageError(f"line {number}: {error}") from None


def _cookie_of_line(line: str, http_only: bool) -> Cookie:
    parts = line.split("\t")
    if len(parts) == 6:
        # Some editors take the tab away in front of an empty value.
        parts.append("")
    if len(parts) != 7:
        raise UsageError(f"a cookie has 7 parts between tabs, not {len(parts)}")
    domain, below, path, secure, expires, name, value = parts
    domain = domain.removeprefix(".").lower()
    if not domain:
        raise UsageError("the domain, its first part, is empty")
    for place, flag in (("second", below), ("fourth", secure)):
        if flag.upper() not in _FLAGS:
            raise UsageError(f"the {place} part is TRUE or FALSE")
    if domain.count(":") == 1:
        raise UsageError("the domain, its first part, has no port")
    # Negative where there is none, in some exports.
    if re.fullmatch(r"-1|[0-9]{0,18}(?:\.[0-9]{1,9})?", expires) is None:
        raise UsageError("the fifth part is the time of expiry in seconds, 0 for none")
    return Cookie(
        name.strip(" "),
        value.strip(" "),
        domain=domain,
        path=path or "/",
        expires=max(float(expires or 0), 0.0) or None,
        secure=_FLAGS[secure.upper()],
        http_only=http_only,
        host_only=not _FLAGS[below.upper()] or is_address(domain),
    )


def _format_netscape(cookies: Iterable[Cookie]) -> bytes:
    lines = ["# Netscape HTTP Cookie File", ""]
    for cookie in cookies:
        if "\t" in cookie.name + cookie.value + cookie.path:
            logger.debug("left the cookie %.60r of %s out of the file: it has a tab", cookie.name, cookie.domain)
            continue
        parts = (
            cookie.domain if cookie.host_only else f".{cookie.domain}",
            "FALSE" if cookie.host_only else "TRUE",
            cookie.path,
            "TRUE" if cookie.secure else "FALSE",
            # 0 stands for the session.
            str(0 if cookie.expires is None else max(1, math.ceil(cookie.expires))),
            cookie.name,
            cookie.value,
        )
        lines.append((_HTTP_ONLY if cookie.http_only else "") + "\t".join(parts))
    return ("\n".join(lines) + "\n").encode("latin-1")


_FORMATS: Final[dict[str, Callable[[Iterable[Cookie]], bytes]]] = {
    "json": _format_json,
    "netscape": _format_netscape,
}
