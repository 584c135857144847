"""
The grammar of authentication (RFC 9110, 11): challenges and parameters as text to values, and Basic's credentials.

What servers send is read with bounded work, and never refused with an exception: what is malformed is left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache
from typing import Final, NamedTuple

from aiosock.errors import UsageError

# A ticket of Kerberos may take tens of thousands; nothing honest takes more.
MAX_FIELD_CHARACTERS: Final = 64 * 1024
MAX_CHALLENGES: Final = 64

_TOKEN: Final = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]++"  # noqa: S105  # a grammar's token is no secret
_PARAMETER: Final = rf"({_TOKEN})[ \t]*+=[ \t]*+(?:\"((?:[^\"\\]++|\\.)*+)\"|([^ \t\",]++))"


class Challenge(NamedTuple):
    """
    What a server asks for in order to let a request pass.

    Attributes:
        scheme: The name of the scheme, in lower case.
        token68: What stands there instead of parameters, None where there is nothing of the kind.
        parameters: The parameters, their names in lower case; the first of each name counts.
    """

    scheme: str
    token68: str | None
    parameters: dict[str, str]


# None of these goes back over what it has read: their quantifiers are possessive.


@cache
def _parameter() -> re.Pattern[str]:
    return re.compile(_PARAMETER, re.DOTALL)


@cache
def _scheme() -> re.Pattern[str]:
    # Followed by token68, by a parameter, or by nothing.
    token68 = r"[ \t]++([A-Za-z0-9\-._~+/]++=*+)(?=[ \t]*+(?:,|\Z))"
    return re.compile(rf"({_TOKEN})(?:{token68}|(?=[ \t]++{_TOKEN}[ \t]*+(=))|(?=[ \t]*+(?:,|\Z)))")


@cache
def _separator() -> re.Pattern[str]:
    return re.compile(r"[ \t,]*+")


@cache
def _malformed() -> re.Pattern[str]:
    # A quoted string is left out as a whole, as a comma in it separates nothing.
    return re.compile(r"(?:[^\",]++|\"(?:[^\"\\]++|\\.)*+(?:\"|\\?\Z))++", re.DOTALL)


def parse_challenges(values: Iterable[str]) -> list[Challenge]:
    """
    Return the challenges of WWW-Authenticate or Proxy-Authenticate fields (RFC 9110, 11.6.1), in their order.

    What is malformed is left out, and the rest kept: parameters without a comma between them, or with too many, are
    understood; a field of more than 65536 characters is not read, and no more than 64 challenges are.

    Args:
        values: The values of the fields; each may hold several challenges.
    """
    challenges: list[Challenge] = []
    for value in values:
        if len(value) <= MAX_FIELD_CHARACTERS:
            _read_field(value, challenges)
    return challenges


def _read_field(value: str, challenges: list[Challenge]) -> None:
    # What stands before the first scheme of a field belongs to nothing.
    current: Challenge | None = None
    position = _skip(value, 0)
    separated = True
    while position < len(value):
        parameter = _parameter().match(value, position)
        scheme = None if parameter is not None else _scheme().match(value, position)
        if parameter is not None:
            if current is not None and current.token68 is None:
                _keep(parameter, current.parameters)
            end = parameter.end()
        elif scheme is not None and (separated or scheme[3]):
            if len(challenges) == MAX_CHALLENGES:
                return
            current = Challenge(scheme[1].lower(), scheme[2], {})
            challenges.append(current)
            end = scheme.end()
        else:
            end = _malformed().match(value, position).end()  # type: ignore[union-attr]  # it matches what no comma begins
        position = _skip(value, end)
        separated = "," in value[end:position]


def parse_parameters(value: str) -> dict[str, str]:
    """
    Return the parameters of a list of them, as Authentication-Info has it (RFC 9110, 11.6.3).

    Their names are in lower case, the first of each name counts, and what is malformed is left out.
    """
    parameters: dict[str, str] = {}
    if len(value) > MAX_FIELD_CHARACTERS:
        return parameters
    position = _skip(value, 0)
    while position < len(value):
        parameter = _parameter().match(value, position)
        if parameter is not None:
            _keep(parameter, parameters)
        found = parameter or _malformed().match(value, position)
        position = _skip(value, found.end())  # type: ignore[union-attr]  # one of them matches
    return parameters


def _skip(value: str, position: int) -> int:
    return _separator().match(value, position).end()  # type: ignore[union-attr]  # it matches the empty string


def _keep(parameter: re.Match[str], parameters: dict[str, str]) -> None:
    quoted = parameter[2]
    text = parameter[3] if quoted is None else quoted
    if quoted is not None and "\\" in quoted:
        text = re.sub(r"\\(.)", r"\1", quoted, flags=re.DOTALL)
    parameters.setdefault(parameter[1].lower(), text)


def basic(username: str, password: str) -> str:
    """
    Return the credentials of the scheme Basic, in UTF-8 (RFC 7617).

    Args:
        username: Anything without a colon.
        password: Anything.

    Raises:
        UsageError: A colon in the username, which would end it early, or no text; the message shows neither.
    """
    from base64 import b64encode

    credentials = encode_credentials(username, password)
    if b":" in credentials[0]:
        raise UsageError("username: Basic authentication has no way to send one with a colon")
    return "Basic " + b64encode(b":".join(credentials)).decode("ascii")


def encode_credentials(username: str, password: str) -> tuple[bytes, bytes]:
    """
    Return both as servers that name a charset expect them: composed (NFC), and in UTF-8 (RFC 7616, 3.3; RFC 7617, 2.1).

    Raises:
        UsageError: One of them is no str, or has a lone surrogate; the message shows neither.
    """
    return _encode("username", username), _encode("password", password)


def _encode(name: str, text: str) -> bytes:
    if not isinstance(text, str):
        raise UsageError(f"{name}: takes a str, not {type(text).__name__}")
    if text.isascii():
        return text.encode("ascii")
    from unicodedata import normalize

    try:
        return normalize("NFC", text).encode()
    except UnicodeEncodeError:
        raise UsageError(f"{name}: has a lone surrogate and cannot be encoded") from None
