"""
Cookies around every request that goes on the wire: those of the jar are added, those of the answer are kept.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from multidict import CIMultiDict, istr

from aiosock.message.request import Request
from aiosock.message.response import Response
from aiosock.middleware.chain import Send

# Most clients never meet a cookie.
if TYPE_CHECKING:
    from aiosock.message.jar import CookieJar

COOKIE: Final = istr("Cookie")
SET_COOKIE: Final = istr("Set-Cookie")


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
        ``request.extensions["cookies"]``, a mapping of names to values; then the jar's. A name that was given before
        is not given again.
        """
        given = request.extensions.get("cookies")
        jar = self.jar
        found = jar.header_for(request.location) if jar is not None and jar.domains else ()
        if not given and not found:
            return request
        written = [value for value in request.headers.getall(COOKIE, ()) if value]
        names = {pair.partition("=")[0].strip() for value in written for pair in value.split(";")}
        pairs = [(name, value) for name, value in (given or {}).items() if name not in names]
        names.update(name for name, _ in pairs)
        # Several of one name stand in the jar for several paths or domains, and all of them are sent.
        pairs += [(cookie.name, cookie.value) for cookie in found if cookie.name not in names]
        if not pairs:
            return request
        from aiosock.protocol.cookie import encode_cookies

        headers: CIMultiDict[str] = CIMultiDict(request.headers)
        headers[COOKIE] = "; ".join([*written, encode_cookies(pairs)])
        return request.replace(headers=headers)

    async def keep(self, request: Request, response: Response) -> None:
        """Keep what an answer sets for the host of its request."""
        values = response.headers.getall(SET_COOKIE)
        jar = self.open_jar()
        if jar.awaits_public_suffixes(values, request.location):
            from aiosock.message.jar import load_public_suffixes

            # Loading the list takes a while, once.
            await asyncio.to_thread(load_public_suffixes)
        jar.store(values, request.location)

    async def __call__(self, request: Request, next: Send, /) -> Response:
        """Send the request with its cookies, and keep those of the answer."""
        request = self.add(request)
        response = await next(request)
        if SET_COOKIE in response.headers:
            await self.keep(request, response)
        return response
