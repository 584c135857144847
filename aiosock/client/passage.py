"""
A request that goes to a proxy to be sent on, and not through a tunnel (RFC 9112, 3.2.2; RFC 9110, 11.7).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from aiosock.message.request import Request
from aiosock.message.response import Response
from aiosock.protocol.http1 import RequestHead

if TYPE_CHECKING:
    from aiosock.connection.proxy import Credentials, Proxy
    from aiosock.protocol.digest import Answer

# Basic, Digest, and a nonce that was stale.
MAX_PROXY_ANSWERS: Final = 2


class Passage:
    """
    One request that a proxy sends on: its head as it is written for that, and what is done when credentials are due.

    Args:
        request: The request, which stays as it is.
        proxy: The proxy.
        credentials: Who we are to it.
    """

    __slots__ = ("_answer", "_answers_left", "_credentials", "_proxy", "_request")

    def __init__(self, request: Request, proxy: Proxy, credentials: Credentials) -> None:
        self._request = request
        self._proxy = proxy
        self._credentials = credentials
        self._answer: Answer | None = None
        self._answers_left = MAX_PROXY_ANSWERS

    def head(self) -> RequestHead:
        """
        Return the head, in absolute form (RFC 9112, 3.2.2).

        It is not remembered, since it may hold credentials.
        """
        request, proxy = self._request, self._proxy
        target, authority = request.target, request.location.authority
        fields = list(request.headers.items())
        if target == "*":
            # OPTIONS for the whole server has an empty path (RFC 9112, 3.2.4).
            target = f"http://{authority}"
        elif target.startswith("/"):
            target = f"http://{authority}{target}"
        fields += [field for field in proxy.headers if field[0] not in request.headers]
        if "Proxy-Authorization" not in request.headers:
            value, self._answer = self._credentials.authorize(request.method, target, request.known_body())
            if value is not None:
                fields.append(("Proxy-Authorization", value))
        return RequestHead(request.method, target, authority, fields)

    def answered(self, response: Response) -> bool:
        """Take up what the proxy says in an answer, and tell whether the request is to be sent again."""
        if "Proxy-Authorization" in self._request.headers:
            return False
        if response.status_code != 407:
            self._credentials.informed(response.headers)
            return False
        # Looked at in any case: the next request profits.
        worthwhile = self._credentials.challenged(response.headers, self._answer)
        body = self._request.body
        if not worthwhile or not self._answers_left or (body is not None and not body.replayable):
            return False
        self._answers_left -= 1
        return True
