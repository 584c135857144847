"""
Cookies around every request that goes on the wire: those of the jar are added, those of the answer are kept.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from multidict import CIMultiDict, istr

from aiosock.errors import TotalTimeout
from aiosock.message.request import Request
from aiosock.message.response import Response
from aiosock.middleware.chain import Send
from aiosock.network.threads import daemon_threads

# Most clients never meet a cookie.
if TYPE_CHECKING:
    from aiosock.message.jar import CookieJar
    from aiosock.message.url import Location

MAX_FIELD_BYTES: Final = 8190
"""
How long jars may make a Cookie field: the longest that servers take by default, and what curl sends. RFC 6265bis has no
bound, and has servers cope with cookies that do not come back (6.1); a field that is too long gets no answer but 400 or
431, which a host could so bring upon its neighbours of one domain.
"""

COOKIE: Final = istr("Cookie")
SET_COOKIE: Final = istr("Set-Cookie")
# What a request's Cookie field was made, and of what: so that one that is sent again is not taken for hand-made.
_ADDED: Final = "cookie_field"

logger = logging.getLogger("aiosock.middleware")


class CookieKeeper:
    """
    Sends a jar's cookies and keeps what answers set.

    It belongs next to the transport: each request of a chain of redirects gets the cookies of its own host.

    Attributes:
        jar: The jar; None until there is something to keep.
    """

    __slots__ = ("jar",)

    def __init__(self, jar: CookieJar | None = None) -> None:
        self.jar = jar

    def open_jar(self) -> CookieJar:
        """Return the jar, made now if there was none."""
        if self.jar is None:
            from aiosock.message.jar import CookieJar

            self.jar = CookieJar()
        return self.jar

    def add(self, request: Request) -> Request:
        """
        Return the request with its cookies in one field, or the same request where there are none to add.

        A Cookie field set by hand comes first, as it is written; then the cookies of
        ``request.extensions["cookies"]``, a mapping of names to values or a jar; then the client's jar's; and last the
        client's cookies that have no domain, ``request.extensions["default_cookies"]``. A name that was given before is
        not given again. Of a jar's cookies those are left out that would make the field longer than 8190 bytes.
        """
        extensions, jar = request.extensions, self.jar
        own = _pairs(extensions.get("cookies"), request.location)
        kept = _pairs(jar, request.location) if jar is not None and jar.domains else ()
        default = extensions.get("default_cookies")
        if not own and not kept and not default:
            return request
        written = cookies_by_hand(request)
        names = {pair.partition("=")[0].strip() for value in written for pair in value.split(";")}
        pairs: list[tuple[str, str]] = []
        ends: list[int] = []
        # Several of one name stand in a jar for several paths or domains, and all of them are sent.
        for given in (own, kept, () if default is None else default.items()):
            new = [(name, value) for name, value in given if name not in names]
            names.update(name for name, _ in new)
            pairs += new
            ends.append(len(pairs))
        field = _field(written, pairs)
        if len(field) > MAX_FIELD_BYTES:
            begin = ends[0] if isinstance(extensions.get("cookies"), Mapping) else 0
            _leave_out(pairs, slice(begin, ends[1]), len(field), request.location.host)
            field = _field(written, pairs)
        if not pairs:
            return request
        headers: CIMultiDict[str] = CIMultiDict(request.headers)
        headers.popall(COOKIE, None)
        headers[COOKIE] = field
        return request.replace(headers=headers, extensions={**extensions, _ADDED: (field, written)})

    async def keep(self, request: Request, response: Response) -> None:
        """
        Keep what an answer sets for the host of its request.

        Raises:
            TotalTimeout: The time for the request was over before the list of public suffixes was there.
        """
        try:
            values = response.headers.getall(SET_COOKIE)
            jar = self.open_jar()
            if jar.awaits_public_suffixes(values, request.location):
                await _load_public_suffixes(request)
            jar.store(values, request.location)
        except BaseException:
            # Nobody else knows of it yet.
            response.abort()
            raise

    async def __call__(self, request: Request, next: Send, /) -> Response:
        """Send the request with its cookies, and keep those of the answer."""
        request = self.add(request)
        response = await next(request)
        if response.request is None:
            # A transport of somebody's own need not say it, but whoever keeps the answer has to see what was sent.
            response.request = request
        if SET_COOKIE in response.headers:
            await self.keep(request, response)
        return response


def _pairs(given: Mapping[str, str] | CookieJar | None, location: Location) -> list[tuple[str, str]]:
    """Return what cookies add to a request to this location."""
    if given is None:
        return []
    if isinstance(given, Mapping):
        return list(given.items())
    return [(cookie.name, cookie.value) for cookie in given.header_for(location)]


def _field(written: list[str], pairs: list[tuple[str, str]]) -> str:
    from aiosock.protocol.cookie import encode_cookies

    return "; ".join([*written, encode_cookies(pairs)])


def _leave_out(pairs: list[tuple[str, str]], of_jars: slice, length: int, host: str) -> None:
    """Take those of jars out of the pairs for which a field of this length has no room; the first come first."""
    candidates = pairs[of_jars]
    room = MAX_FIELD_BYTES - length + sum(map(_size, candidates))
    fitting = []
    for pair in candidates:
        if _size(pair) <= room:
            room -= _size(pair)
            fitting.append(pair)
    pairs[of_jars] = fitting
    if count := len(candidates) - len(fitting):
        logger.debug("left out %d cookies for %s: the field has more than %d bytes", count, host, MAX_FIELD_BYTES)


def _size(pair: tuple[str, str]) -> int:
    """Return what a cookie takes up in a field, with what divides it from the next."""
    name, value = pair
    return len(name) + bool(name) + len(value) + 2


def cookies_by_hand(request: Request) -> list[str]:
    """Return the Cookie fields set by hand; those of a request that is sent again are what they were before."""
    values = [value for value in request.headers.getall(COOKIE, ()) if value]
    field, written = request.extensions.get(_ADDED, (None, []))
    return written if values == [field] else values


async def _load_public_suffixes(request: Request) -> None:
    """Load the list, which takes a while once, in a thread of our own: the user's may all be busy."""
    from aiosock.message.jar import load_public_suffixes

    loading = daemon_threads.run(load_public_suffixes)
    deadline = request.extensions.get("deadline")
    left = None if deadline is None else max(deadline - asyncio.get_running_loop().time(), 0.0)
    await asyncio.wait([loading], timeout=left)
    if not loading.done():
        loading.cancel()
        raise TotalTimeout("the request took too long in all; it was loading the list of public suffixes")
    loading.result()
