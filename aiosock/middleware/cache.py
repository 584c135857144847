"""
A private cache (RFC 9111): answers that are still good are not asked for again.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from types import TracebackType
from typing import Final, Literal, NamedTuple, TypeAlias

from multidict import CIMultiDict, istr

from aiosock.errors import BlockedAddress, RequestError, UsageError
from aiosock.message.iteration import BodySource
from aiosock.message.request import Request
from aiosock.message.response import Response
from aiosock.message.transit import Timings
from aiosock.middleware.cachekey import Changes, changed_by, key_of
from aiosock.middleware.cachestore import MIB, MemoryStore, SQLiteStore, Store, variant_of
from aiosock.middleware.chain import Send
from aiosock.middleware.identity import Identities, Owner, as_sent
from aiosock.middleware.kept import CollectedBody, KeptBody, gather_redirect, is_plain
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
    is_public,
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
_SET_COOKIE: Final = istr("Set-Cookie")
# What bounds or watches the request that is answered, and not one behind its back.
_NOT_BEHIND: Final = ("deadline", "on_informational")

BEHIND_SECONDS: Final = 30.0
"""How long a validation behind an answer may take where the request has no total."""


class _Lookup(NamedTuple):
    """A request on its way through the cache."""

    request: Request
    next: Send
    url: str
    owner: Owner
    seen: CIMultiDict[str]
    """The request's fields as they will be sent, as far as that can be seen."""
    fields: CIMultiDict[str]
    """The same, with what may be kept of them in place of credentials."""


class Cache:
    """
    A middleware that keeps what answers GET and HEAD, and answers with it for as long as its server allows.

    ``response.extensions["cache"]`` is ``"hit"``; ``"revalidated"`` where the server confirmed what was kept;
    ``"stale"`` where it is past its time, but the request (max-stale) or the server (stale-while-revalidate,
    stale-if-error) accepts that; or ``"miss"``. Requests that pass the cache by have none: other methods, a body, a
    Range, conditions of one's own, ``Cache-Control: no-store``.

    A body is kept when it has been read to its end. Set-Cookie is not kept: a cookie is set once.

    Who asks counts: what a request is sent with as Authorization, Cookie (the client's jar included), ``auth``,
    ``cookies``, ``guard``, ``proxy`` or ``server_name`` sets its answers apart from those of others, and such answers
    are for this very `Cache` alone, also in a store that processes share. A `BasicAuth` or `BearerAuth` is the same as
    another that sends the same, a `DigestAuth` or `NetRCAuth` only as itself. What is ``public`` is the same for all
    cookies of a jar; of a server that sets another cookie with each answer nothing else is kept, unless there is an
    ``identity``.

    What was asked for with credentials that cannot be seen when a request comes is kept only if it is ``public``, or if
    there is an ``identity``: those that a middleware below adds, and those of an ``auth`` that is a function of yours,
    which may be another user for each request. So is a ``private`` answer that sets a cookie. Of what another field
    tells (an API key, say) a cache knows nothing.

    A cache belongs to the client that uses it first. Other clients may use it too, but how they connect (``verify``,
    ``cert``, ``guard``, ``uds``, proxies) cannot be seen from here, so that each has its answers apart, unless there is
    an ``identity``; a one-shot `aiosock.get` is such a client. Whoever shares a store instead says that its caches may
    see the same, and connect in the same way.

    Args:
        store: Keeps the answers; a `MemoryStore` of 64 MiB where it is left out.
        max_entry_bytes: The most bytes of one body, as it was sent. Larger ones are not kept.
        identity: States that all requests are those of one user, this one, and that all clients that send them connect
            in the same way: credentials and clients set nothing apart any more, and answers are shared with every cache
            of the same identity and store, but for those that servers vary on credentials.
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
        self._identities = Identities(identity)
        self._clock: Callable[[], float] = lambda: float(clock())
        self._refreshing: dict[tuple[str, str], asyncio.Task[None]] = {}
        self._closed = False
        self._changes = Changes()

    async def __call__(self, request: Request, next: Send, /) -> Response:
        """
        Answer with what is kept where that is good, else send the request, and keep its answer where that is allowed.

        Raises:
            UsageError: The store cannot be used.
        """
        headers = request.headers
        if request.method not in ("GET", "HEAD"):
            return await self._send_other(request, next)
        asked = directives_of(headers)
        passes_by = "no-store" in asked or request.body is not None or any(name in headers for name in _OWN_TERMS)
        if self._closed or passes_by:
            return _not_cached(request) if "only-if-cached" in asked else await next(request)
        lookup = self._look_up(request, next)
        entry = await self._find(lookup)
        use = Use.VALIDATE if entry is None else choose_use(entry, headers, self._clock())
        if entry is not None and use in (Use.FRESH, Use.STALE):
            return self._answer(entry, request, "hit" if use is Use.FRESH else "stale")
        if entry is not None and use is Use.WHILE_REVALIDATE:
            if "only-if-cached" not in asked:
                self._refresh_later(entry, lookup)
            return self._answer(entry, request, "stale")
        if "only-if-cached" in asked:
            return _not_cached(request)
        return await (self._fetch(lookup) if entry is None else self._validate(entry, lookup))

    async def close(self) -> None:
        """End the validations under way behind the answers that were given, and close the store; all passes by then."""
        self._closed = True
        tasks = list(self._refreshing.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._store.close()

    async def __aenter__(self) -> Cache:
        self._closed = False
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"<Cache {self._store!r}>"

    # What is kept

    def _look_up(self, request: Request, next: Send) -> _Lookup:
        identities = self._identities
        seen = as_sent(request, next).headers
        return _Lookup(request, next, key_of(request), identities.owner(request, next), seen, identities.mask(seen))

    async def _find(self, lookup: _Lookup) -> Entry | None:
        choose = partial(_select, method=lookup.request.method, owner=lookup.owner, fields=lookup.fields)
        return await self._store.find(lookup.url, choose)

    async def _keep(self, url: str, entry: Entry, since: int) -> None:
        """Keep an entry that was asked for at a moment, unless its URL was changed since."""
        if self._closed or self._changes.has_changed(url, since):
            return
        try:
            await self._store.put(url, entry)
        except UsageError as error:
            # Whoever reads the body has it; the next one to look into the store is told.
            logger.debug("an answer could not be kept: %s", error)

    async def _remove(self, url: str, entry: Entry | None = None) -> None:
        """Drop an entry of a URL, or all of them, as far as the store can."""
        if self._closed:
            return
        try:
            await self._store.remove(url, entry)
        except UsageError as error:
            # The answer is the caller's all the same.
            logger.debug("a changed answer could not be removed: %s", error)

    def _answer(self, entry: Entry, request: Request, state: State, confirmed: Response | None = None) -> Response:
        """Return a kept response as one of its own; of one that was confirmed just now, with that answer's times."""
        headers = entry.fields
        headers[_AGE] = str(int(age_of(entry, self._clock())))
        if confirmed is not None:
            # It is not kept, but it was said just now.
            headers.extend((_SET_COOKIE, value) for value in confirmed.headers.getall(_SET_COOKIE, ()))
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
        since, asked_at = self._changes.moment, self._clock()
        response = await lookup.next(lookup.request)
        return await self._received(response, lookup, since, asked_at)

    async def _validate(self, entry: Entry, lookup: _Lookup) -> Response:
        """Ask whether an entry is still good; use it if it is, or if there is no asking and it may be used then."""
        request, next, url = lookup.request, lookup.next, lookup.url
        asked = conditions(entry)
        since, asked_at = self._changes.moment, self._clock()
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
            await self._remove(url, entry)
            return await self._fetch(lookup)
        new = await self._freshen(entry, response, lookup, since, asked_at)
        return self._answer(new, request, "revalidated", response)

    async def _freshen(self, entry: Entry, response: Response, lookup: _Lookup, since: int, asked_at: float) -> Entry:
        now = self._clock()
        _note_malformed(lookup.request, response)
        new = freshened(entry, response.headers, lookup.fields, asked_at, now, _http_date(now))
        partition = self._partition(lookup, response)
        lasting = may_store(new.method, new.status_code, lookup.seen, new.fields, now)
        kept = replace(new, partition=partition) if lasting and partition is not None else None
        if not lasting or (kept is not None and variant_of(kept) != variant_of(entry)):
            await self._remove(lookup.url, entry)
        if kept is not None:
            await self._keep(lookup.url, kept, since)
        return new

    async def _received(
        self, response: Response, lookup: _Lookup, since: int, asked_at: float, entry: Entry | None = None
    ) -> Response:
        """Have a new answer kept, where that is allowed; the entry is what it takes the place of."""
        request, now = lookup.request, self._clock()
        response.extensions["cache"] = "miss"
        _note_malformed(request, response)
        if entry is not None and entry.method == "GET" and request.method == "HEAD" and response.is_success:
            if response.status_code == entry.status_code and describes_same(entry, response.headers):
                await self._freshen(entry, response, lookup, since, asked_at)
                return response
            await self._remove(lookup.url, entry)
        elif entry is not None and response.status_code < 500:
            await self._remove(lookup.url, entry)
        partition = self._partition(lookup, response)
        if partition is None or not self._may_keep(lookup, response, now):
            return response

        def collect(source: BodySource) -> BodySource:
            return CollectedBody(source, self._max_entry_bytes, keep)

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
                partition,
            )
            await self._keep(lookup.url, new, since)

        response.wrap_body(collect)
        if response.is_redirect:
            await gather_redirect(response)
        return response

    def _partition(self, lookup: _Lookup, response: Response) -> str | None:
        """Return for whom an answer, or what it confirms, may be kept; None for nobody."""
        return self._identities.partition_of(lookup.owner, lookup.seen, lookup.request, lookup.next, response)

    def _may_keep(self, lookup: _Lookup, response: Response, now: float) -> bool:
        request, headers = lookup.request, response.headers
        sent = (response.request or request).headers
        if response.stream is not None or not is_plain(",".join(headers.getall("Transfer-Encoding", ()))):
            return False
        length = headers.get("Content-Length", "")
        # Beside chunks it may be anything.
        is_number = length.isascii() and length.isdigit() and len(length) < 20
        if is_number and request.method == "GET" and int(length) > self._max_entry_bytes:
            return False
        varied = vary_of(lookup.seen, headers)
        return varied == vary_of(sent, headers) and may_store(
            request.method, response.status_code, lookup.seen, headers, now
        )

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
                for url in changed_by(request, response):
                    self._changes.note(url)
                    await self._remove(url)
            except BaseException:
                response.abort()
                raise
        return response


def _select(entries: Iterable[Entry], *, method: str, owner: Owner, fields: CIMultiDict[str]) -> Entry | None:
    """Return the entry that answers a request: one of its own, or one for everybody."""
    own, public = owner
    theirs = (one for one in entries if one.partition == own or (one.partition == public and is_public(one.fields)))
    return select(theirs, method, fields)


def _note_malformed(request: Request, response: Response) -> None:
    if not parse_cache_control(response.headers.getall("Cache-Control", ()))[1]:
        logger.debug("passed over a malformed part of a Cache-Control field of %s", request.location.host)


def _not_cached(request: Request) -> Response:
    """Return the answer to a request that wants nothing to be asked (RFC 9111, 5.2.1.7)."""
    return Response(504, reason="Gateway Timeout", request=request, extensions={"cache": "miss"})


def _timings_of(response: Response) -> Timings | None:
    try:
        return response.timings
    except UsageError:
        return None


def _http_date(seconds: float) -> str:
    from email.utils import formatdate

    return formatdate(seconds, usegmt=True)
