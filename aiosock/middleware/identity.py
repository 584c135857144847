"""
Whose a request is: what sets the answers of one user apart from those of others.

It is told by what can be seen before a request is sent. What is added further below, by a function of the user's, say,
is found out when the answer is there, and then it is nobody's.
"""

from __future__ import annotations

import logging
import os
from collections import OrderedDict
from collections.abc import Sequence
from functools import partial
from typing import Final, NamedTuple
from weakref import WeakKeyDictionary

from multidict import CIMultiDict, MultiMapping

from aiosock.message.request import Request
from aiosock.message.response import Response
from aiosock.middleware.chain import Send, requests_behind
from aiosock.middleware.cookies import CookieKeeper
from aiosock.protocol.cache import directives_of, is_public

MAX_KNOWN: Final = 256
_CREDENTIALS: Final = ("Authorization", "Cookie")

logger = logging.getLogger("aiosock.middleware")


class Owner(NamedTuple):
    """Whose answers a request may be given, as texts that are the same for the same; empty where nothing tells."""

    own: str
    """Those that were asked for just so."""
    public: str
    """Those for everybody, whatever cookies a client's jar has."""


class Identities:
    """
    Tells whose a request is, without keeping or showing a credential.

    Args:
        fixed: Who it always is, None to look at each request.
    """

    def __init__(self, fixed: str | None) -> None:
        self._fixed = fixed
        self._secret = b""
        self._process = 0
        # They are held, so that their places in memory stay theirs.
        self._known: OrderedDict[int, tuple[object, int]] = OrderedDict()
        self._count = 0
        self._clients: WeakKeyDictionary[object, int] = WeakKeyDictionary()
        self._clients_seen = 0

    def owner(self, request: Request, next: Send) -> Owner:
        """Return whose a request is that goes on with ``next``."""
        extensions = request.extensions
        way: list[object] = [self._token(extensions.get("guard")), extensions.get("server_name")]
        if "proxy" in extensions:
            # None among them: it means that there is to be none.
            proxy = extensions["proxy"]
            way.append(("proxy", proxy if isinstance(proxy, str) else self._token(proxy)))
        if self._fixed is not None:
            own = self._sealed(way, self._fixed) if any(way) else f"identity {self._fixed}"
            return Owner(own, own)
        way += [self._client(next), request.headers.getall("Authorization", ()), self._auth(request)]
        jar, none = _cookies(as_sent(request, next)), _cookies(CookieKeeper().add(request))
        public = self._sealed(way, none) if none or any(way) else ""
        return Owner(public if jar == none else self._sealed(way, jar), public)

    def partition_of(
        self, owner: Owner, seen: MultiMapping[str], request: Request, next: Send, response: Response
    ) -> str | None:
        """
        Return for whom the answer to a request may be kept.

        None where it depends on credentials that could not be seen, so that nobody knows who else may have it.

        Args:
            owner: Whose the request was before it was sent.
            seen: The fields that it was to be sent with, as far as that could be seen.
            request: As it was then.
            next: What it went on with.
            response: The answer.
        """
        if self._fixed is not None or is_public(response.headers):
            return owner.public
        if "private" in directives_of(response.headers) and "Set-Cookie" in response.headers:
            # It begins a session, and may show whose.
            return None
        if not is_one_user(request.extensions.get("auth")) or is_authorized_below(request, response):
            return None
        behind = requests_behind(response)
        if not behind and end_of(next) is None:
            return None
        cookies = seen.getall("Cookie", ())
        if any(_cookies(sent) != cookies for sent in behind):
            return None
        # Where the jar has changed since, nobody will ask just so again.
        outdated = owner.own != owner.public and _cookies(as_sent(request, next)) != cookies
        return None if outdated else owner.own

    def mask(self, headers: CIMultiDict[str]) -> CIMultiDict[str]:
        """Return fields in which credentials can be compared but not read; the same ones where there are none."""
        for name in _CREDENTIALS:
            if name in headers:
                values = headers.getall(name)
                headers = headers.copy()
                headers[name] = self._sealed(values)
        return headers

    def _client(self, next: Send) -> int:
        """Return which client this is, 0 for the one that was there first: nobody sees from here how it connects."""
        end = end_of(next)
        if end is None:
            return 0
        owner = getattr(end, "__self__", end)
        try:
            number = self._clients.get(owner)
            if number is None:
                number = self._clients[owner] = self._clients_seen
                self._clients_seen += 1
                if number == 1:
                    logger.debug("a cache is used by several clients, whose answers are kept apart")
        except TypeError:
            # One that cannot be held weakly, or compared.
            number = -self._token(owner)
        return number

    def _auth(self, request: Request) -> object:
        """Return what tells an ``auth`` from others: what it sends if that is always the same, else which object."""
        auth = request.extensions.get("auth")
        if auth is None:
            return 0
        from aiosock.middleware.schemes import BasicAuth, BearerAuth

        if type(auth) in (BasicAuth, BearerAuth):
            return auth(request).headers.getall("Authorization")
        return self._token(auth)

    def _sealed(self, *told: object) -> str:
        from hashlib import blake2b
        from secrets import token_bytes

        if self._process != os.getpid():
            # A fork counts on by itself, and may share a store: its numbers are not those of its parent.
            self._secret, self._process = token_bytes(32), os.getpid()
        return blake2b(repr(told).encode("utf-8", "replace"), key=self._secret).hexdigest()

    def _token(self, one: object) -> int:
        """Return a number that stands for this object and no other, 0 for none."""
        if one is None:
            return 0
        known = self._known.get(id(one))
        if known is None:
            self._count += 1
            known = self._known[id(one)] = (one, self._count)
            if len(self._known) > MAX_KNOWN:
                self._known.popitem(last=False)
        self._known.move_to_end(id(one))
        return known[1]


def is_one_user(auth: object) -> bool:
    """Tell whether an ``auth`` is always the same user, or none; somebody's function may be another for each task."""
    if auth is None:
        return True
    from aiosock.middleware.schemes import BasicAuth, BearerAuth, DigestAuth, NetRCAuth

    return type(auth) in (BasicAuth, BearerAuth, DigestAuth, NetRCAuth)


def is_authorized_below(request: Request, response: Response) -> bool:
    """
    Tell whether a request was sent with an Authorization that could not be seen before.

    Args:
        request: As it was then; its ``auth`` is one of those that are one user.
        response: The answer to what was sent.
    """
    return any(_is_authorized_below(request, sent) for sent in requests_behind(response))


def _is_authorized_below(request: Request, sent: Request) -> bool:
    told = sent.headers.getall("Authorization", [])
    if not told:
        return False
    auth = request.extensions.get("auth")
    if auth is None:
        return told != request.headers.getall("Authorization", [])
    replaced = sent.extensions.get("auth") is not auth
    signed = auth(request)
    # Digest says something else each time, but lets nothing stand that others have said.
    return replaced or (isinstance(signed, Request) and told != signed.headers.getall("Authorization", []))


def as_sent(request: Request, next: Send) -> Request:
    """Return a request with the cookies that are added on its way, as far as that can be seen."""
    send = next
    while isinstance(send, partial) and len(send.args) == 2:
        middleware, send = send.args
        if isinstance(middleware, CookieKeeper):
            return middleware.add(request)
    return CookieKeeper().add(request)


def _cookies(request: Request) -> Sequence[str]:
    return request.headers.getall("Cookie", ())


def end_of(send: Send) -> Send | None:
    """Return what a composed chain leads to; None for a function that is no such chain."""
    if not isinstance(send, partial):
        return None
    while isinstance(send, partial) and len(send.args) == 2:
        send = send.args[1]
    return send
