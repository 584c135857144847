"""
The grammar of the Strict-Transport-Security field (RFC 6797, 6.1): text to values.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Final, NamedTuple

# 68 years. What is longer says no more, and numbers stay small however many digits a server sends.
MAX_SECONDS: Final = 2**31


class Policy(NamedTuple):
    """
    What a host asks for.

    Attributes:
        max_age: For how many seconds it is to be reached over https alone; 0 takes back what it asked for before.
        include_subdomains: The same for all hosts below it.
    """

    max_age: int
    include_subdomains: bool


@cache
def _directive() -> re.Pattern[str]:
    # Nothing of it goes back over what it has read. Older standards let white space stand around the "=".
    token = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]++"  # noqa: S105  # a grammar's token is no secret
    value = rf"[ \t]*+=[ \t]*+(?:\"((?:[^\"\\]|\\.)*+)\"|({token}))"
    return re.compile(rf"[ \t]*+(?:({token})(?:{value})?)?[ \t]*+(?:;|\Z)", re.DOTALL)


def parse_strict_transport_security(value: str) -> Policy | None:
    """
    Return what a field asks for; None where it is malformed, and so to be ignored as a whole.

    Directives that are not known are passed over, as long as they are well-formed.
    """
    seen: dict[str, str | None] = {}
    position = 0
    while position < len(value):
        directive = _directive().match(value, position)
        if directive is None:
            return None
        position = directive.end()
        name, quoted, token = directive.groups()
        if name is None:
            continue
        if name.lower() in seen:
            return None
        seen[name.lower()] = token if quoted is None else re.sub(r"\\(.)", r"\1", quoted, flags=re.DOTALL)
    max_age = seen.get("max-age")
    if max_age is None or re.fullmatch(r"[0-9]+", max_age) is None:
        return None
    if seen.get("includesubdomains") is not None:
        return None
    significant = max_age.lstrip("0")
    seconds = MAX_SECONDS if len(significant) > 10 else min(int(significant or "0"), MAX_SECONDS)
    return Policy(seconds, "includesubdomains" in seen)
