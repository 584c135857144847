"""
Which middlewares a client has, and in which order: the one place where that is said.

From the user down to the wire:

1. Redirects: what is below happens for each request of a chain of redirects, as each may go to another origin.
2. Retries: each try has the user's own middlewares around it, which may limit its rate, and authenticates anew.
3. The user's own, the client's before the request's. They see every request and every answer, redirects included, and
   may send a request elsewhere or again: cookies and credentials are added below them, for where it goes then.
4. Authentication: it answers challenges for the request as it is otherwise complete, since some sign its method, target
   and body.
5. Cookies: the innermost, as every answer, a challenge too, may set some, and every request has to carry them.

A concern that has nothing to do costs next to nothing: most requests take a shortcut past all of them.
"""

from __future__ import annotations

from collections.abc import Sequence

from aiosock.message.request import Request
from aiosock.message.response import Response
from aiosock.middleware.auth import authenticate
from aiosock.middleware.chain import Lifetime, Middleware, Send, compose
from aiosock.middleware.cookies import SET_COOKIE, CookieKeeper
from aiosock.middleware.redirect import Redirects


def arrange(
    redirects: Redirects, own: Sequence[Middleware], cookies: CookieKeeper, lifetime: Lifetime, send: Send
) -> Send:
    """
    Return one function that sends a request through a client's middlewares.

    Args:
        redirects: Follows redirects.
        own: Retries, if they are on, and the user's, the outermost first.
        cookies: Keeps cookies.
        lifetime: Ends the waits of retries and the user's.
        send: What carries a request in the end.
    """
    if own:
        return compose([lifetime, redirects, *own, authenticate, cookies], send)
    below = compose([authenticate, cookies], send)

    async def shortcut(request: Request) -> Response:
        extensions, jar = request.extensions, cookies.jar
        if (jar is not None and jar.domains) or "auth" in extensions or "cookies" in extensions:
            return await redirects(request, below)
        response = await send(request)
        if SET_COOKIE in response.headers:
            await cookies.keep(request, response)
        if response.status_code < 300 or not response.is_redirect:
            return response
        return await redirects.follow(request, response, below)

    return shortcut
