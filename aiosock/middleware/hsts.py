"""
HTTP Strict Transport Security (RFC 6797): hosts that asked for it are reached over https alone.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Any, Final, NamedTuple

from multidict import istr

from aiosock.errors import InvalidURL, UsageError
from aiosock.message.file import read_file, unusable, write_file
from aiosock.message.request import Request
from aiosock.message.response import Response
from aiosock.message.url import parse_url
from aiosock.middleware.chain import Send
from aiosock.protocol.cookie import is_address
from aiosock.protocol.hsts import parse_strict_transport_security

logger = logging.getLogger("aiosock.middleware")

STRICT_TRANSPORT_SECURITY: Final = istr("Strict-Transport-Security")

VERSION: Final = 1
# Beyond any date, and not infinite.
MAX_EXPIRES: Final = 1e15


class Known(NamedTuple):
    """
    A host that asked for https.

    Attributes:
        host: Its name, without a dot at the end.
        expires: Until when, in seconds since the epoch.
        include_subdomains: It asked for all hosts below it too.
    """

    host: str
    expires: float
    include_subdomains: bool


class HSTS:
    """
    A middleware that learns which hosts want to be reached over https alone, and sends no request to them over http.

    What is given for the http origin, ``auth`` and ``cookies`` among it, goes along: it goes to the same host, which
    was to have it anyway, and nobody on the way can read it any more. A redirect is resolved against the https URL that
    was asked; within that origin it takes along what went there.

    Hosts are learned from answers that came over https, and never from IP addresses, nor from a cache. Whether the
    client looked at certificates (``verify=``) cannot be seen from here: one that does not should have no `HSTS`.

    Args:
        max_hosts: How many hosts are kept; beyond it the ones go first that were not used for longest.
        clock: Tells seconds since the epoch.

    Raises:
        UsageError: ``max_hosts`` is no number of at least 1.
    """

    def __init__(self, *, max_hosts: int = 10_000, clock: Callable[[], float] = time.time) -> None:
        if isinstance(max_hosts, bool) or not isinstance(max_hosts, int) or max_hosts < 1:
            raise UsageError(f"HSTS: max_hosts takes a whole number of at least 1, not {max_hosts!r}")
        self._max_hosts = max_hosts
        self._clock = clock
        # Those that were not used for longest first.
        self._hosts: OrderedDict[str, Known] = OrderedDict()

    def __len__(self) -> int:
        return len(self._hosts)

    def __repr__(self) -> str:
        return f"<HSTS {len(self)} hosts>"

    def is_known(self, host: str) -> bool:
        """
        Tell whether a host is to be reached over https alone: it, or one above it, asked for that (RFC 6797, 8.2).

        It costs a look-up for each label of the host, however many hosts are known.

        Args:
            host: A name, in any case and script, or an IP address, of which nothing is ever known.
        """
        return self._covers(_canonical(host))

    def _covers(self, host: str) -> bool:
        if not self._hosts or is_address(host):
            return False
        host = domain = host.removesuffix(".")
        while domain:
            known = self._hosts.get(domain)
            if known is not None and known.expires <= self._clock():
                del self._hosts[domain]
            elif known is not None and (known.include_subdomains or domain == host):
                self._hosts.move_to_end(domain)
                return True
            domain = domain.partition(".")[2]
        return False

    def upgrade(self, request: Request) -> Request:
        """Return the request as it is to be sent: over https if its host asked for that (RFC 6797, 8.3)."""
        location = request.location
        if location.scheme != "http" or not self._covers(location.host):
            return request
        # Port 80 becomes https's own; every other is where it is.
        authority = location.host if location.port == 80 else f"{location.host}:{location.port}"
        rest = str(request.url).partition("://")[2]
        start = min((at for mark in "/?#" if (at := rest.find(mark)) >= 0), default=len(rest))
        # The same host, on a better way: what was meant for it goes along.
        return request.replace(
            url=f"https://{authority}{rest[start:]}",
            target=request.target,
            headers=request.headers,
            extensions=request.extensions,
        )

    def learn(self, request: Request, response: Response) -> None:
        """
        Note what an answer asks for (RFC 6797, 8.1); only the first of several fields counts, and none leaves all as
        it is.
        """
        location = request.location
        value = response.headers.get(STRICT_TRANSPORT_SECURITY)
        if value is None or location.scheme != "https" or is_address(location.host):
            return
        policy = parse_strict_transport_security(value)
        host = location.host.removesuffix(".")
        if policy is None:
            logger.debug("ignored a malformed Strict-Transport-Security field of %s", host)
        elif policy.max_age == 0:
            self._hosts.pop(host, None)
        else:
            self._put(Known(host, self._clock() + policy.max_age, policy.include_subdomains))

    def _put(self, known: Known) -> None:
        self._hosts[known.host] = known
        self._hosts.move_to_end(known.host)
        if len(self._hosts) > self._max_hosts:
            self._hosts.popitem(last=False)

    def forget(self, host: str) -> None:
        """Forget what a host asked for, not those above it; nothing where it is not known."""
        self._hosts.pop(_canonical(host), None)

    async def __call__(self, request: Request, next: Send, /) -> Response:
        """Send the request, over https if its host asked for that, and note what the answer asks for."""
        request = self.upgrade(request)
        response = await next(request)
        # What a cache has kept is old, and would be taken for new.
        fresh = response.extensions.get("cache") in (None, "miss", "revalidated")
        if fresh:
            self.learn(response.request or request, response)
        return response

    async def save(self, path: str | os.PathLike[str]) -> None:
        """
        Write the known hosts to a file, in a thread.

        The file is whole at all times: a new one is written beside it and takes its place. Only its owner may read
        it, since it tells where one has been.

        Raises:
            UsageError: The file cannot be written; the message names it.
        """
        now = self._clock()
        await asyncio.to_thread(_write, path, [known for known in self._hosts.values() if known.expires > now])

    async def load(self, path: str | os.PathLike[str]) -> None:
        """
        Add the hosts of a file that `save` wrote; they replace those of the same name, and those that have expired are
        left out. The file is read in a thread.

        Raises:
            UsageError: The file cannot be read, or has something that cannot be used: the message names it and the
                line. Nothing of it is loaded then.
        """
        now = self._clock()
        for known in await asyncio.to_thread(_read, path):
            if known.expires > now:
                self._put(known)


def _canonical(host: str) -> str:
    """Return a name as hosts are kept: in lower case, IDNA-encoded (RFC 6797, 9), without a dot at the end."""
    try:
        return parse_url(f"https://{host}/").host.removesuffix(".")
    except InvalidURL:
        return host


def _write(path: str | os.PathLike[str], hosts: Iterable[Known]) -> None:
    # One host a line, so that a line tells what is wrong.
    lines = [json.dumps({"version": VERSION}), *(json.dumps(known._asdict()) for known in hosts)]
    write_file("HSTS", path, ("\n".join(lines) + "\n").encode())


def _read(path: str | os.PathLike[str]) -> list[Known]:
    hosts = []
    for number, line in enumerate(read_file("HSTS", path).split(b"\n"), 1):
        if number > 1 and not line.strip():
            continue
        try:
            entry = _object(line)
            if number == 1:
                if entry != {"version": VERSION} or isinstance(entry["version"], bool):
                    raise UsageError(f'it is not {{"version": {VERSION}}}')
            else:
                hosts.append(_known(entry))
        except UsageError as error:
            raise unusable("HSTS", path, f"line {number}: {error}") from None
    return hosts


def _object(line: bytes) -> dict[str, Any]:
    try:
        entry = json.loads(line.decode())
    except (ValueError, RecursionError):
        raise UsageError("it is not JSON in UTF-8") from None
    if not isinstance(entry, dict):
        raise UsageError("it is not an object")
    return entry


def _known(entry: dict[str, Any]) -> Known:
    if entry.keys() != set(Known._fields):
        raise UsageError(f"it takes {', '.join(Known._fields)}")
    known = Known(**entry)
    if not isinstance(known.host, str) or not known.host or known.host != known.host.lower().rstrip("."):
        raise UsageError("the host is no name in lower case")
    try:
        named = parse_url(f"https://{known.host}/").host == known.host
    except InvalidURL:
        named = False
    if not named or is_address(known.host):
        raise UsageError("the host is no host name")
    expires = known.expires
    if isinstance(expires, bool) or not isinstance(expires, (int, float)) or not abs(expires) < MAX_EXPIRES:
        raise UsageError("the time of expiry is no number of seconds")
    if not isinstance(known.include_subdomains, bool):
        raise UsageError("include_subdomains is neither true nor false")
    return known
