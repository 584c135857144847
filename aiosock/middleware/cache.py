"""
A private cache (RFC 9111): answers that are still good are not asked for again.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from functools import partial
from types import TracebackType
from typing import Any, Final, Literal, NamedTuple, TypeAlias

from multidict import CIMultiDict, istr

from aiosock.errors import BlockedAddress, InvalidURL, RequestError, UsageError
from aiosock.message.iteration import BodySource, BodyWrapper
from aiosock.message.request import Request
from aiosock.message.response import Response
from aiosock.message.transit import Timings
from aiosock.message.url import Location, parse_url, resolve_reference
from aiosock.middleware.cachestore import MIB, MemoryStore, SQLiteStore, Store, variant_of
from aiosock.middleware.chain import Send
from aiosock.middleware.cookies import CookieKeeper
from aiosock.middleware.kept import KeptBody, is_plain, make_gatherable
from aiosock.protocol.cache import (
    ERROR_STATUSES,
    SAFE_METHODS,
    Entry,
    Use,
    age_of,
    choose_use,
    conditions,
    confirms,
    describes_same,
    directives_of,
    freshened,
    kept_fields,
    may_store,
    parse_cache_control,
    select,
    serves_errors,
    vary_of,
)

__all__ = ["Cache", "MemoryStore", "SQLiteStore", "Store"]

logger = logging.getLogger("aiosock.middleware")

State: TypeAlias = Literal["hit", "miss", "revalidated", "stale"]

# The request says itself what it has, or asks for a part: that is between the user and the server.
_OWN_TERMS: Final = (
    "If-Match",
    "If-None-Match",
    "If-Modified-Since",
    "If-Unmodified-Since",
    "If-Range",
    "Range",
    "Upgrade",
)
_AGE: Final = istr("Age")
_CREDENTIALS: Final = ("Authorization", "Cookie")
# What bounds or watches the request that is answered, and not one behind its back.
_NOT_BEHIND: Final = ("deadline", "on_informational")

MAX_REDIRECT_BYTES: Final = 64 * 1024
REDIRECT_SECONDS: Final = 0.25
BEHIND_SECONDS: Final = 30.0
"""How long a validation behind an answer may take where the request has no total."""
MAX_INVALIDATED: Final = 1024
MAX_IDENTITIES: Final = 256


class _Lookup(NamedTuple):
    """A request on its way through the cache."""

    request: Request
    next: Send
    url: str
    partition: str
    fields: CIMultiDict[str]
    """The request's fields, with what may be kept of them in place of credentials."""


class Cache:
    """
    A middleware that keeps what answers GET and HEAD, and answers with it for as long as its server allows.

    ``response.extensions["cache"]`` is ``"hit"``; ``"revalidated"`` where the server confirmed what was kept;
    ``"stale"`` where it is past its time, but the request (max-stale) or the server (stale-while-revalidate,
    stale-if-error) accepts that; or ``"miss"``. Requests that pass the cache by have none: other methods, a body, a
    Range, conditions of one's own, ``Cache-Control: no-store``.

    A body is kept when it has been read to its end. Set-Cookie is not kept: a cookie is set once.

    Who asks counts: what a request carries as Authorization, Cookie, ``auth``, ``cookies``, ``guard``, ``proxy`` or
    ``server_name`` sets its answers apart from those of others, and such answers are for this very `Cache` alone,
    also in a store that processes share. A `BasicAuth` or `BearerAuth` is the same as another that sends the same;
    any other ``auth`` only if it is the same object.

    The cookies of a client's jar, and credentials that a middleware adds below, cannot be seen when a request comes.
    What was asked for with them is kept only if it is ``public``, or if there is an ``identity``; so is a ``private``
    answer that sets a cookie. What else is kept of such a client is what the server gave to one that it did not know,
    and requests that would carry credentials by now get that as well, while it is fresh. Of what another field tells
    (an API key, say) a cache knows nothing: one `Cache` is for clients that may see the same, and that reach the
    network in the same way.

    Args:
        store: Keeps the answers; a `MemoryStore` of 64 MiB where it is left out.
        max_entry_bytes: The most bytes of one body, as it was sent. Larger ones are not kept.
        identity: States that all requests are those of one user, this one: credentials set nothing apart any more,
            and answers are shared with every cache of the same identity and store, but for those that servers vary on
            credentials.
        clock: Tells seconds since the epoch.

    Raises:
        UsageError: An argument that makes no sense; and, when it is used first, a store that cannot be used.
    """

    def __init__(
        self,
        store: Store | None = None,
        *,
        max_entry_bytes: int = 8 * MIB,
        identity: str | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if isinstance(max_entry_bytes, bool) or not isinstance(max_entry_bytes, int) or max_entry_bytes < 0:
            raise UsageError(f"Cache: max_entry_bytes takes a whole number of at least 0, not {max_entry_bytes!r}")
        if identity is not None and not isinstance(identity, str):
            raise UsageError(f"Cache: identity takes a str, not {type(identity).__name__}")
        if store is not None and not callable(getattr(store, "put", None)):
            raise UsageError(f"Cache: store takes a MemoryStore, a SQLiteStore or the like, not {type(store).__name__}")
        self._store: Store = MemoryStore() if store is None else store
        self._max_entry_bytes = max_entry_bytes
        self._identities = _Identities(identity)
        self._clock: Callable[[], float] = lambda: float(clock())
        self._refreshing: dict[tuple[str, str], asyncio.Task[None]] = {}
        self._closed = False
        # What was asked for before its URL was invalidated is old when it comes.
        self._moment = 0
        self._invalidated: OrderedDict[str, int] = OrderedDict()
        self._forgotten = 0

    async def __call__(self, request: Request, next: Send, /) -> Response:
        """
        Answer with what is kept where that is good, else send the request, and keep its answer where that is allowed.

        Raises:
            UsageError: The store cannot be used.
        """
        headers = request.headers
        if request.method not in ("GET", "HEAD"):
            return await self._send_other(request, next)
        if request.body is not None or any(name in headers for name in _OWN_TERMS):
            return await next(request)
        asked = directives_of(headers)
        if "no-store" in asked:
            return await next(request)
        identities = self._identities
        lookup = _Lookup(request, next, _key_of(request), identities.partition(request), identities.mask(headers))
        entry = await self._find(lookup)
        use = Use.VALIDATE if entry is None else choose_use(entry, headers, self._clock())
        if entry is not None and use in (Use.FRESH, Use.STALE):
            return self._answer(entry, request, "hit" if use is Use.FRESH else "stale")
        if entry is not None and use is Use.WHILE_REVALIDATE and not self._closed:
            if "only-if-cached" not in asked:
                self._refresh_later(entry, lookup)
            return self._answer(entry, request, "stale")
        if "only-if-cached" in asked:
            # RFC 9111, 5.2.1.7.
            return Response(504, reason="Gateway Timeout", request=request, extensions={"cache": "miss"})
        return await (self._fetch(lookup) if entry is None else self._validate(entry, lookup))

    async def close(self) -> None:
        """End the validations under way behind the answers that were given, and close the store."""
        self._closed = True
        tasks = list(self._refreshing.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._store.close()

    async def __aenter__(self) -> Cache:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"<Cache {self._store!r}>"

    # What is kept

    async def _find(self, lookup: _Lookup) -> Entry | None:
        choose = partial(_select, method=lookup.request.method, partition=lookup.partition, fields=lookup.fields)
        return await self._store.find(lookup.url, choose)

    async def _keep(self, url: str, entry: Entry, since: int) -> None:
        """Keep an entry that was asked for at a moment, unless its URL was invalidated since."""
        if max(self._invalidated.get(url, 0), self._forgotten) > since:
            return
        try:
            await self._store.put(url, entry)
        except UsageError as error:
            # Whoever reads the body has it; the next one to look into the store is told.
            logger.debug("an answer could not be kept: %s", error)

    def _answer(self, entry: Entry, request: Request, state: State, confirmed: Response | None = None) -> Response:
        """Return a kept response as one of its own; of one that was confirmed just now, with that answer's times."""
        headers = entry.fields
        headers[_AGE] = str(int(age_of(entry, self._clock())))
        timings = None if confirmed is None else _timings_of(confirmed)
        if timings is None:
            timings = Timings(time.perf_counter())
        if timings.ended_at is None:
            timings.ended_at = time.perf_counter()
        bodyless = request.method == "HEAD" or entry.method == "HEAD"
        response = Response(
            entry.status_code,
            reason=entry.reason,
            http_version=entry.http_version,
            headers=headers,
            source=None if bodyless else KeptBody(entry.body),
            request=request,
            extensions={**({} if confirmed is None else confirmed.extensions), "cache": state},
            timings=timings,
            connection=None if confirmed is None else confirmed.connection,
        )
        if confirmed is not None:
            response.informational = confirmed.informational
        return response

    # What is asked for

    async def _fetch(self, lookup: _Lookup) -> Response:
        since, asked_at = self._moment, self._clock()
        response = await lookup.next(lookup.request)
        return await self._received(response, lookup, since, asked_at)

    async def _validate(self, entry: Entry, lookup: _Lookup) -> Response:
        """Ask whether an entry is still good; use it if it is, or if there is no asking and it may be used then."""
        request, next, url = lookup.request, lookup.next, lookup.url
        asked = conditions(entry)
        since, asked_at = self._moment, self._clock()
        try:
            response = await next(request.replace(headers=[*request.headers.items(), *asked]) if asked else request)
        except RequestError as error:
            if isinstance(error, BlockedAddress) or not serves_errors(entry, request.headers, self._clock()):
                raise
            logger.debug("%s failed (%s): answered with what was kept", request.location.host, type(error).__name__)
            return self._answer(entry, request, "stale")
        if response.status_code in ERROR_STATUSES and serves_errors(entry, request.headers, self._clock()):
            await response.close()
            return self._answer(entry, request, "stale")
        if response.status_code != 304 or not asked:
            return await self._received(response, lookup, since, asked_at, entry)
        await response.close()
        if not confirms(entry, response.headers):
            # It is about something else, so that the question has to be asked without conditions.
            await self._store.remove(url, entry)
            return await self._fetch(lookup)
        new = await self._freshen(entry, response, lookup, since, asked_at)
        return self._answer(new, request, "revalidated", response)

    async def _freshen(self, entry: Entry, response: Response, lookup: _Lookup, since: int, asked_at: float) -> Entry:
        request, now = lookup.request, self._clock()
        new = freshened(entry, response.headers, lookup.fields, asked_at, now, _http_date(now))
        lasting = may_store(new.method, new.status_code, request.headers, new.fields, now)
        if not lasting or variant_of(new) != variant_of(entry):
            await self._store.remove(lookup.url, entry)
        if lasting and self._identities.is_told(request, response):
            await self._keep(lookup.url, new, since)
        return new

    async def _received(
        self, response: Response, lookup: _Lookup, since: int, asked_at: float, entry: Entry | None = None
    ) -> Response:
        """Have a new answer kept, where that is allowed; the entry is what it takes the place of."""
        request, now = lookup.request, self._clock()
        response.extensions["cache"] = "miss"
        if not parse_cache_control(response.headers.getall("Cache-Control", ()))[1]:
            logger.debug("passed over a malformed part of a Cache-Control field of %s", request.location.host)
        if entry is not None and entry.method == "GET" and request.method == "HEAD" and response.is_success:
            if response.status_code == entry.status_code and describes_same(entry, response.headers):
                await self._freshen(entry, response, lookup, since, asked_at)
                return response
            await self._store.remove(lookup.url, entry)
        elif entry is not None and response.status_code < 500:
            await self._store.remove(lookup.url, entry)
        if not self._may_keep(request, response, now) or not self._identities.is_told(request, response):
            return response

        def tee(source: BodySource) -> BodySource:
            return _Tee(source, self._max_entry_bytes, keep)

        async def keep(body: bytes) -> None:
            # The fields as they are now: a body that was read before has lost its codings.
            headers = response.headers
            date = _http_date(now)
            new = Entry(
                request.method,
                response.status_code,
                response.reason,
                response.http_version,
                kept_fields(headers, None if request.method == "HEAD" else len(body), date),
                vary_of(lookup.fields, headers) or (),
                asked_at,
                now,
                body,
                lookup.partition,
            )
            await self._keep(lookup.url, new, since)

        response.wrap_body(tee)
        if response.is_redirect:
            await _gather(response)
        return response

    def _may_keep(self, request: Request, response: Response, now: float) -> bool:
        headers, sent = response.headers, response.request or request
        if response.stream is not None or not is_plain(",".join(headers.getall("Transfer-Encoding", ()))):
            return False
        length = headers.get("Content-Length", "")
        if length.isdigit() and len(length) < 20 and request.method == "GET" and int(length) > self._max_entry_bytes:
            return False
        return may_store(request.method, response.status_code, request.headers, headers, now) and vary_of(
            request.headers, headers
        ) == vary_of(sent.headers, headers)

    def _refresh_later(self, entry: Entry, lookup: _Lookup) -> None:
        """Validate an entry behind the answer, unless that is under way."""
        key = lookup.url, variant_of(entry)
        if key in self._refreshing:
            return
        task = asyncio.get_running_loop().create_task(self._refresh(entry, lookup))
        self._refreshing[key] = task
        task.add_done_callback(lambda _: self._refreshing.pop(key, None))

    async def _refresh(self, entry: Entry, lookup: _Lookup) -> None:
        request = lookup.request
        extensions = {name: value for name, value in request.extensions.items() if name not in _NOT_BEHIND}
        total = getattr(extensions.get("timeout"), "total", None)
        extensions["deadline"] = asyncio.get_running_loop().time() + (BEHIND_SECONDS if total is None else total)
        behind = lookup._replace(request=request.replace(extensions=extensions))
        try:
            async with (
                asyncio.timeout_at(extensions["deadline"]),
                await self._validate(entry, behind) as response,
            ):
                size = 0
                async for piece in response.iter_raw():
                    size += len(piece)
                    if size > self._max_entry_bytes:
                        break
        except Exception as error:
            logger.debug("%s could not be asked behind an answer: %s", request.location.host, type(error).__name__)

    # What makes kept answers wrong

    async def _send_other(self, request: Request, next: Send) -> Response:
        response = await next(request)
        if request.method not in SAFE_METHODS and 200 <= response.status_code < 400:
            try:
                for url in _changed(request, response):
                    await self._invalidate(url)
            except BaseException:
                response.abort()
                raise
        return response

    async def _invalidate(self, url: str) -> None:
        self._moment += 1
        self._invalidated[url] = self._moment
        self._invalidated.move_to_end(url)
        if len(self._invalidated) > MAX_INVALIDATED:
            # From now on all that was asked for before that counts as invalidated.
            self._forgotten = self._invalidated.popitem(last=False)[1]
        try:
            await self._store.remove(url)
        except UsageError as error:
            # The request was carried out, and its answer is the caller's.
            logger.debug("a changed answer could not be removed: %s", error)


class _Tee(BodyWrapper):
    """Collects a body while somebody reads it, and keeps it when it has ended; one that is too large is let go."""

    def __init__(self, inner: BodySource, most: int, keep: Callable[[bytes], Any]) -> None:
        super().__init__(inner)
        self._pieces: list[bytes] | None = []
        self._left = most
        self._keep = keep

    async def receive(self) -> bytes:
        piece = await self.inner.receive()
        pieces = self._pieces
        if pieces is None:
            return piece
        self._left -= len(piece)
        if self._left < 0:
            self._pieces = None
        elif piece:
            pieces.append(piece)
        else:
            self._pieces = None
            await self._keep(b"".join(pieces))
        return piece


class _Identities:
    """
    Tells whose a request is, without keeping or showing a credential.

    Args:
        identity: Who it always is, None to look at each request.
    """

    def __init__(self, identity: str | None) -> None:
        self._fixed = identity
        self._secret = b""
        # They are held, so that their places in memory stay theirs.
        self._known: OrderedDict[int, tuple[object, int]] = OrderedDict()
        self._count = 0

    def partition(self, request: Request) -> str:
        """Return the same text for requests of the same user, and an empty one where nothing tells who it is."""
        extensions = request.extensions
        told: list[object] = [self._token(extensions.get("guard")), extensions.get("server_name")]
        if "proxy" in extensions:
            # None among them: it means that there is to be none.
            proxy = extensions["proxy"]
            told.append(("proxy", proxy if isinstance(proxy, str) else self._token(proxy)))
        if self._fixed is None:
            told += [request.headers.getall("Authorization", ()), _own_cookies(request), self._auth(request)]
        if not any(told):
            return "" if self._fixed is None else f"identity {self._fixed}"
        return self._sealed(repr((told, self._fixed)))

    def is_told(self, request: Request, response: Response) -> bool:
        """Tell whether `partition` has seen all credentials that an answer depends on, or whether none matter."""
        said = directives_of(response.headers)
        if self._fixed is not None or "public" in said:
            return True
        if "private" in said and "Set-Cookie" in response.headers:
            # It begins a session, and may show whose.
            return False
        sent = (response.request or request).headers
        added = sent.getall("Authorization", ()) != request.headers.getall("Authorization", ())
        if added and "Authorization" in sent and request.extensions.get("auth") is None:
            return False
        return "Cookie" not in sent or sent.getall("Cookie") == _own_cookies(request)

    def _auth(self, request: Request) -> object:
        """Return what tells an ``auth`` from others: what it sends if that is always the same, else which object."""
        auth = request.extensions.get("auth")
        if auth is None:
            return 0
        from aiosock.middleware.schemes import BasicAuth, BearerAuth

        if type(auth) in (BasicAuth, BearerAuth):
            return auth(request).headers.getall("Authorization")
        return self._token(auth)

    def mask(self, headers: CIMultiDict[str]) -> CIMultiDict[str]:
        """Return fields in which credentials can be compared but not read; the same ones where there are none."""
        for name in _CREDENTIALS:
            if name in headers:
                values = headers.getall(name)
                headers = headers.copy()
                headers[name] = self._sealed(repr(values))
        return headers

    def _sealed(self, text: str) -> str:
        from hashlib import blake2b
        from secrets import token_bytes

        self._secret = self._secret or token_bytes(32)
        return blake2b(text.encode("utf-8", "replace"), key=self._secret).hexdigest()

    def _token(self, one: object) -> int:
        """Return a number that stands for this object and no other, 0 for none."""
        if one is None:
            return 0
        known = self._known.get(id(one))
        if known is None:
            self._count += 1
            known = self._known[id(one)] = (one, self._count)
            if len(self._known) > MAX_IDENTITIES:
                self._known.popitem(last=False)
        self._known.move_to_end(id(one))
        return known[1]


def _own_cookies(request: Request) -> list[str]:
    """Return the Cookie fields that a request gets without a client's jar."""
    extensions = request.extensions
    if extensions.get("cookies") is not None or extensions.get("default_cookies"):
        request = CookieKeeper().add(request)
    return request.headers.getall("Cookie", [])


def _select(entries: Iterable[Entry], *, method: str, partition: str, fields: CIMultiDict[str]) -> Entry | None:
    return select(entries, method, partition, fields)


def _key_of(request: Request) -> str:
    return _key(request.location, request.target, request.headers.get("Host", ""))


def _key(location: Location, target: str, host: str = "") -> str:
    authority = f"{location.host}:{location.port}"
    # Who names another host means another resource.
    named = "" if host in ("", location.authority) else f" {host}"
    return f"{location.scheme}://{authority}{target}{named}"


def _changed(request: Request, response: Response) -> list[str]:
    """Return the URLs that an unsafe request has changed (RFC 9111, 4.4): its own, and those named of its origin."""
    changed = [_key_of(request)]
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


async def _gather(response: Response) -> None:
    """Read the body of a redirect, which nobody else will; what goes wrong is told to whoever tries to."""
    body = make_gatherable(response)
    try:
        # Nobody wants it but us: it is not worth a wait.
        async with asyncio.timeout(REDIRECT_SECONDS):
            await body.gather(MAX_REDIRECT_BYTES)
    except (RequestError, TimeoutError):
        response.abort()
    except BaseException:
        response.abort()
        raise


def _timings_of(response: Response) -> Timings | None:
    try:
        return response.timings
    except UsageError:
        return None


def _http_date(seconds: float) -> str:
    from email.utils import formatdate

    return formatdate(seconds, usegmt=True)
