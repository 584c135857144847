"""
What answers are kept under, and which of them a request makes wrong that changes something.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from typing import Final

from aiosock.errors import InvalidURL
from aiosock.message.request import Request
from aiosock.message.response import Response
from aiosock.message.url import Location, parse_url, resolve_reference

MAX_CHANGED: Final = 1024

logger = logging.getLogger("aiosock.middleware")


def key_of(request: Request) -> str:
    """Return what a request's answers are kept under: its target URI (RFC 9111, 2)."""
    return _key(request.location, request.target, request.headers.get("Host", ""))


def _key(location: Location, target: str, host: str) -> str:
    authority = f"{location.host}:{location.port}"
    # Who names another host means another resource.
    named = "" if host in ("", location.authority) else f" {host}"
    return f"{location.scheme}://{authority}{target}{named}"


def changed_by(request: Request, response: Response) -> list[str]:
    """Return what an unsafe request has changed (RFC 9111, 4.4): its own, and those it names of its origin."""
    changed = [key_of(request)]
    for name in ("Location", "Content-Location"):
        for value in response.headers.getall(name, ()):
            try:
                location = parse_url(resolve_reference(str(request.url), value))
            except InvalidURL:
                logger.debug("passed over a malformed %s of %s", name, request.location.host)
                continue
            if location.origin == request.location.origin:
                changed.append(_key(location, location.target, request.headers.get("Host", "")))
    return changed


class Changes:
    """
    Remembers what was changed, and when: an answer that was asked for before is old when it comes.

    Attributes:
        moment: How many changes there were so far.
    """

    def __init__(self) -> None:
        self.moment = 0
        self._urls: OrderedDict[str, int] = OrderedDict()
        self._forgotten = 0

    def __len__(self) -> int:
        return len(self._urls)

    def note(self, url: str) -> None:
        """Remember that a URL was changed now."""
        self.moment += 1
        self._urls[url] = self.moment
        self._urls.move_to_end(url)
        if len(self._urls) > MAX_CHANGED:
            # From now on all that was asked for before that counts as changed.
            self._forgotten = self._urls.popitem(last=False)[1]

    def has_changed(self, url: str, since: int) -> bool:
        """Tell whether a URL was changed after a moment, or may have been."""
        return max(self._urls.get(url, 0), self._forgotten) > since
