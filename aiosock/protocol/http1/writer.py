"""
The sending half's text: a request's head as bytes, with every part of it checked (RFC 9112, 3 and 5).

What does not pass is refused here, before any byte goes anywhere; so nothing can be injected by way of a
method, a target, a field name or a value.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from aiosock.errors import InvalidHeader, LocalProtocolError
from aiosock.protocol.http1 import grammar

_match_target = re.compile(r"[!-~]+").fullmatch
_match_absolute = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*://.+").fullmatch
_match_authority = re.compile(r"(?:[^/?#@\[\]:]+|\[[^/?#@\[\]]+\]):[0-9]{1,5}").fullmatch
_match_digits = re.compile(r"[0-9]{1,19}").fullmatch


class FieldSection:
    """
    The fields of a request: checked and encoded when it is made, and never changed after, so that requests with
    equal fields can share one.

    Args:
        fields: Name and value pairs, in order.

    Attributes:
        encoded: All lines but that of Host, each with a line end in front.
        host: The value of Host, None where it is not among them.
        content_length: Of the body, in bytes; 0 where it is not among them.
        chunked: The body is sent chunked.
        has_body: A body follows.
        closes: They say that the connection ends after the answer.
        expects_continue: There is a body, and it waits for 100 (Continue).
        offers_upgrade: They offer another protocol.

    Raises:
        InvalidHeader: A name that is no token, a value with CR, LF, NUL or another control character, or one
            outside of latin-1, or that is no str.
        LocalProtocolError: Framing that contradicts itself.
    """

    __slots__ = (
        "chunked",
        "closes",
        "content_length",
        "encoded",
        "expects_continue",
        "has_body",
        "host",
        "offers_upgrade",
    )

    def __init__(self, fields: Iterable[tuple[str, str]]) -> None:
        self.content_length = 0
        self.chunked = self.closes = self.expects_continue = self.offers_upgrade = False
        self.host: str | None = None
        known_names = grammar.KNOWN_NAMES
        lines: list[str] = [""]
        expectations: list[str] = []
        length: str | None = None
        transfer: list[str] = []
        for name, value in fields:
            if name not in known_names and not grammar.is_token(name):
                raise InvalidHeader(f"the field name is not a token: {_shown_name(name)}")
            if not isinstance(value, str):
                raise InvalidHeader(f"the value of {name[:40]} is a str, not {type(value).__name__}")
            # The fields that decide something are all short: most names are passed over by their size.
            if len(name) <= 17 and (folded := name.lower()) in _DECIDING:
                if folded == "host":
                    if self.host is not None:
                        raise InvalidHeader("Host is given more than once")
                    self.host = value
                    continue
                if folded == "content-length":
                    if length is not None:
                        raise LocalProtocolError("Content-Length is given more than once")
                    length = value
                elif folded == "transfer-encoding":
                    transfer.append(value)
                elif folded == "connection":
                    self.closes |= "close" in grammar.split_list([value])
                elif folded == "expect":
                    if value.strip(" \t").lower() == "100-continue":
                        expectations.append("".join((name, ": ", value)))
                        continue
                else:
                    self.offers_upgrade = True
            # Their characters, whatever a subclass of str makes of being formatted: what is equal is sent alike.
            lines.append("".join((name, ": ", value)))
        self._frame(length, transfer)
        self.has_body = self.chunked or self.content_length > 0
        if self.has_body and expectations:
            # A request without content must not have it (RFC 9110, 10.1.1), as one that was redirected may.
            self.expects_continue = True
            lines += expectations
        self.encoded = _encode([*lines, "", ""])

    def _frame(self, length: str | None, transfer: list[str]) -> None:
        if length is not None:
            if _match_digits(length) is None or int(length) > grammar.MAX_CONTENT_LENGTH:
                raise LocalProtocolError(f"Content-Length is not a number of bytes: {length[:40]!r}")
            if transfer:
                raise LocalProtocolError("Content-Length and Transfer-Encoding are both given; one must frame the body")
            self.content_length = int(length)
        if transfer:
            codings = grammar.split_list(transfer)
            if codings[-1:] != ["chunked"] or codings.count("chunked") != 1:
                raise LocalProtocolError(
                    f"Transfer-Encoding of a request must end with chunked, once: {', '.join(codings)[:40]!r}"
                )
            self.chunked = True


class RequestHead:
    """
    The head of a request: checked and encoded when it is made, and never changed after.

    Args:
        method: A token, upper case by custom; it is sent as it is.
        target: In origin form (``/path?query``), absolute form (for a proxy), authority form (``host:port``,
            CONNECT only) or asterisk form (``*``, OPTIONS only); RFC 9112, 3.2.
        host: The value of the Host field, unless ``fields`` brings its own.
        fields: Name and value pairs, in order, or a section made of them. Content-Length or Transfer-Encoding among
            them decides how the body is framed; with neither, there is no body.

    Raises:
        InvalidHeader: As for `FieldSection`, and for Host.
        LocalProtocolError: A method or target that may not go on the wire, or framing that contradicts itself.
    """

    __slots__ = (
        "chunked",
        "closes",
        "content_length",
        "encoded",
        "expects_continue",
        "has_body",
        "method",
        "offers_upgrade",
    )

    def __init__(self, method: str, target: str, host: str, fields: FieldSection | Iterable[tuple[str, str]]) -> None:
        section = fields if isinstance(fields, FieldSection) else FieldSection(fields)
        self.method = method
        self.encoded = _begin(method, target, host if section.host is None else section.host) + section.encoded
        self.content_length = section.content_length
        self.chunked = section.chunked
        self.has_body = section.has_body
        self.closes = section.closes
        self.expects_continue = section.expects_continue
        self.offers_upgrade = section.offers_upgrade

    def __repr__(self) -> str:
        return f"<RequestHead {self.method}>"


def _begin(method: str, target: str, host: str) -> bytes:
    """Return the request line and Host, without the line end that what follows begins with."""
    if not grammar.is_token(method):
        raise LocalProtocolError(f"the method is not a token: {method[:40]!r}")
    _check_target(method, target)
    return _encode([" ".join((method, target, "HTTP/1.1")), "".join(("Host: ", host))])


_DECIDING: Final = frozenset({"host", "content-length", "transfer-encoding", "connection", "expect", "upgrade"})


def _check_target(method: str, target: str) -> None:
    if _match_target(target) is None:
        raise LocalProtocolError(
            "the request target is empty, or holds white space, a control or a non-ASCII character"
        )
    if method == "CONNECT":
        if _match_authority(target) is None:
            raise LocalProtocolError("the target of CONNECT must be host:port")
    elif target[0] != "/" and _match_absolute(target) is None and not (target == "*" and method == "OPTIONS"):
        raise LocalProtocolError("the target must begin with '/', be an absolute URL, or be '*' for OPTIONS")


def _encode(lines: list[str]) -> bytes:
    """Return the lines as one head, when nothing in them could be taken for a line end of their own."""
    try:
        head = "\r\n".join(lines).encode("latin-1")
    except UnicodeEncodeError:
        name = next(_name(line) for line in lines if max(line, default="") > "\xff")
        raise InvalidHeader(f"the value of {name} has a character outside of latin-1") from None
    if head.translate(None, grammar.FIELD_BYTES) != b"\r\n" * (len(lines) - 1):
        name = next(_name(line) for line in lines if line.encode("latin-1").translate(None, grammar.FIELD_BYTES))
        raise InvalidHeader(f"the value of {name} holds a control character (CR, LF, NUL or another)")
    return head


def _name(line: str) -> str:
    return line.partition(":")[0][:40]


def encode_trailers(fields: Iterable[tuple[str, str]]) -> bytes:
    """
    Return a trailer section with the empty line that ends it (RFC 9112, 7.1.2).

    Raises:
        InvalidHeader: As for the head; also what is no pair of name and value, and a field that frames or routes,
            which may not stand in trailers (RFC 9110, 6.5.1).
    """
    lines: list[str] = []
    for field in fields:
        if not isinstance(field, (tuple, list)) or [isinstance(part, str) for part in field] != [True, True]:
            # Not shown: it may be a value.
            raise InvalidHeader(f"a trailer is a pair of name and value, both str, not {_shape(field)}")
        name, value = field
        if not grammar.is_token(name):
            raise InvalidHeader(f"the trailer name is not a token: {_shown_name(name)}")
        if name.lower() in _DECIDING or name.lower() in ("trailer", "te", "content-encoding", "content-type"):
            raise InvalidHeader(f"{name} may not stand in trailers")
        lines.append("".join((name, ": ", value)))
    return _encode([*lines, "", ""])


def _shape(field: object) -> str:
    """Return what something is made of, without what it says."""
    parts = [type(part).__name__ for part in field] if isinstance(field, (tuple, list)) else []
    return f"{type(field).__name__} of {', '.join(parts[:3])}" if parts else type(field).__name__


def _shown_name(name: str) -> str:
    """Return a name for a message: without what follows a colon, which is a value that came to the wrong place."""
    before, colon, _ = name.partition(":")
    return f"{before[:40] + colon!r}"
