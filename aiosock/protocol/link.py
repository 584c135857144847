"""
The grammar of the Link field (RFC 8288, 3): text to values.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache


@cache
def _target() -> re.Pattern[str]:
    return re.compile(r"[\s,]*<([^<>]*)>")


@cache
def _parameter() -> re.Pattern[str]:
    return re.compile(r"\s*;\s*([!#$%&'*+\-.^_`|~0-9A-Za-z]+)\s*(?:=\s*(?:\"((?:[^\"\\]|\\.)*)\"|([^\s\",;]*)))?")


def parse_links(values: Iterable[str]) -> list[dict[str, str]]:
    """
    Return the links of Link fields, each as its parameters (names in lower case, the first of each counting) and its
    target under ``url``.

    What is not in the grammar ends the reading of that field; what came before it is kept.
    """
    links: list[dict[str, str]] = []
    for value in values:
        position = 0
        while (target := _target().match(value, position)) is not None:
            position = target.end()
            link = {"url": target[1]}
            while (parameter := _parameter().match(value, position)) is not None:
                position = parameter.end()
                quoted = parameter[2]
                text = re.sub(r"\\(.)", r"\1", quoted) if quoted is not None else parameter[3] or ""
                link.setdefault(parameter[1].lower(), text)
            links.append(link)
    return links
