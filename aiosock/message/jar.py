"""
The cookie jar: which cookies are kept, and which are sent where (RFC 6265bis, 5.7 and 5.8).

A jar is a store and waits for nothing; only `CookieJar.load` and `CookieJar.save` do, for files.
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import cache
from typing import Final, Literal, TypeAlias

from aiosock.errors import InvalidURL, UsageError
from aiosock.message.url import Location, parse_url
from aiosock.protocol.cookie import (
    Cookie,
    accept_cookie,
    domain_match,
    is_address,
    is_loopback,
    parse_set_cookie,
    path_match,
)

logger = logging.getLogger("aiosock.message")

_Key: TypeAlias = tuple[str, str, str, bool]

_loading: Final = threading.Lock()


class CookieJar:
    """
    Keeps the cookies of many hosts. It may be shared by clients of one event loop.

    What a server sets is kept as browsers keep it: for this host, or those below a Domain that is no public suffix;
    Secure cookies come and go over https, or to loopback hosts; nothing that came over http hides a Secure cookie;
    none lives for longer than 400 days. Cookies that a user sets without a domain are in ``unbound``.

    Iterating gives the cookies that are bound to a host, those that were not used for longest first; ``len`` counts
    them.

    Args:
        max_cookies: The most cookies bound to hosts. Beyond it the ones go first that have expired, and then those
            that were not used for longest.
        max_per_domain: The most cookies of one domain. Beyond it the ones go first that have expired, then those
            that are not Secure, and then those that were not used for longest.
        max_per_response: The most Set-Cookie fields of one answer that are looked at.
        public_suffixes: Refuse cookies for all of ``com`` or ``github.io``, going by publicsuffix.org's list.
        clock: Tells seconds since the epoch.

    Attributes:
        domains: The cookies by domain, without a dot in front; empty exactly when no cookie is bound to a host. Not
            to be changed.
        unbound: Names and values of cookies without a domain, which go with a call to the origin that it begins with.

    Raises:
        UsageError: A limit that is no number of at least 1, or another argument of the wrong kind.
    """

    def __init__(
        self,
        *,
        max_cookies: int = 3000,
        max_per_domain: int = 180,
        max_per_response: int = 100,
        public_suffixes: bool = True,
        clock: Callable[[], float] = time.time,
    ) -> None:
        limits = {
            "max_cookies": max_cookies,
            "max_per_domain": max_per_domain,
            "max_per_response": max_per_response,
        }
        for name, limit in limits.items():
            if isinstance(limit, bool) or not isinstance(limit, int) or limit < 1:
                raise UsageError(f"CookieJar: {name} takes a whole number of at least 1, not {limit!r}")
        if not isinstance(public_suffixes, bool):
            raise UsageError(f"CookieJar: public_suffixes is True or False, not {public_suffixes!r}")
        if not callable(clock):
            raise UsageError(f"CookieJar: clock takes a function that returns seconds, not {type(clock).__name__}")
        self._max_cookies = max_cookies
        self._max_per_domain = max_per_domain
        self._max_per_response = max_per_response
        self._public_suffixes = public_suffixes
        self._clock = clock
        self.domains: dict[str, dict[_Key, Cookie]] = {}
        self.unbound: dict[str, str] = {}
        # Every bound cookie once more, those that were not used for longest first.
        self._by_use: OrderedDict[_Key, Cookie] = OrderedDict()
        self._secure_by_name: dict[str, set[_Key]] = {}
        # No cookie expires before this; it may be earlier than the earliest.
        self._earliest_expiry = math.inf
        self._last_creation = 0.0

    def store(self, values: Iterable[str], location: Location) -> None:
        """
        Keep what an answer sets, and drop what it deletes.

        What the standard has ignored is, with a DEBUG line. The first Domain that asks for the list of public
        suffixes loads it, which reads a file and takes some 10 ms; `load_public_suffixes` does so beforehand.

        Args:
            values: The values of its Set-Cookie fields.
            location: Whence it came.
        """
        now = self._clock()
        host = location.host
        path = path_of(location)
        trusted = _is_trusted(location)
        for count, value in enumerate(values):
            if count == self._max_per_response:
                logger.debug("ignored all but %d cookies of one answer of %s", count, host)
                break
            received = parse_set_cookie(value, now)
            if received is None:
                logger.debug("ignored a cookie of %s: it is empty, too long, or has a control character", host)
                continue
            cookie = accept_cookie(
                received, host, path, self._moment(now), trusted=trusted, is_public_suffix=self._is_public_suffix
            )
            if isinstance(cookie, Cookie) and not trusted and self._hides_secure(cookie, now):
                cookie = "it came over http, and would hide a Secure cookie"
            if isinstance(cookie, str):
                logger.debug("ignored the cookie %.60r of %s: %s", received.name, host, cookie)
                continue
            self._put(cookie, now)

    def awaits_public_suffixes(self, values: Iterable[str], location: Location) -> bool:
        """Tell whether `store` would have to load the list of public suffixes for these first."""
        host = location.host
        if (
            not self._public_suffixes
            or "." not in host
            or is_address(host)
            or _public_suffix_list.cache_info().currsize
        ):
            return False
        return any("domain" in value.lower() for value in values)

    def header_for(self, location: Location) -> list[Cookie]:
        """
        Return the cookies that go with a request: longest path first, then the one that was created first.

        It costs a look-up for each label of the host, however many other hosts have cookies.
        """
        found: list[Cookie] = []
        host = domain = location.host
        while True:
            kept = self.domains.get(domain)
            if kept is not None:
                found += [cookie for cookie in kept.values() if domain is host or not cookie.host_only]
            dot = domain.find(".")
            if dot == -1:
                break
            domain = domain[dot + 1 :]
        return self._sent(found, location) if found else found

    def _sent(self, found: list[Cookie], location: Location) -> list[Cookie]:
        now = self._clock()
        path = path_of(location)
        trusted = _is_trusted(location)
        sent = []
        for cookie in found:
            if cookie.expires is not None and cookie.expires <= now:
                self._remove(_key(cookie))
            elif path_match(path, cookie.path) and (trusted or not cookie.secure):
                sent.append(cookie)
                key = _key(cookie)
                self._by_use.move_to_end(key)
                kept = self.domains[cookie.domain]
                kept[key] = kept.pop(key)
        sent.sort(key=_sending_order)
        return sent

    def set_cookie(self, cookie: Cookie) -> None:
        """
        Set a cookie as it is; it replaces the one with the same name, domain, path and ``host_only``.

        No server says so, so that neither public suffixes nor Secure are asked for. One that has expired deletes;
        one without a domain goes to ``unbound``.

        Raises:
            UsageError: It is no `Cookie`.
        """
        if not isinstance(cookie, Cookie):
            raise UsageError(f"set_cookie: takes a Cookie, not {type(cookie).__name__}")
        if cookie.domain:
            self._put(cookie, self._clock())
        else:
            self.unbound[cookie.name] = cookie.value

    def clear(self, *, name: str | None = None, domain: str | None = None, path: str | None = None) -> None:
        """
        Drop all cookies, or those of a name, a domain or a path.

        Args:
            name: Only those of this name.
            domain: Only those of this very domain, with or without a dot in front; empty for the unbound ones.
            path: Only those of this very path; the unbound ones have ``/``.

        Raises:
            UsageError: One of them is no str, or the domain is no host.
        """
        if name is not None and not isinstance(name, str):
            raise UsageError(f"cookies: the name is a str, not {type(name).__name__}")
        for cookie in self.matching(name, domain, path):
            if cookie.domain:
                self._remove(_key(cookie))
            else:
                del self.unbound[cookie.name]

    def matching(self, name: str | None, domain: str | None, path: str | None) -> list[Cookie]:
        """Return the cookies, unbound ones included, that have what is asked for; raises as `clear`."""
        if path is not None and not isinstance(path, str):
            raise UsageError(f"cookies: the path is a str, not {type(path).__name__}")
        domain = domain if domain is None else canonical_domain(domain)
        return [
            cookie
            for cookie in (*(Cookie(*pair) for pair in self.unbound.items()), *self)
            if (name is None or cookie.name == name)
            and (domain is None or cookie.domain == domain)
            and (path is None or cookie.path == path)
        ]

    async def load(self, path: str | os.PathLike[str]) -> None:
        """
        Add the cookies of a file, which replace those that are the same; those that have expired are left out.

        The content tells the format: the JSON that `save` writes, or cookies.txt (Netscape's), as curl and the
        exports of browsers have it. The file is read in a thread.

        Raises:
            UsageError: The file cannot be read, or has something that cannot be used: the message says in which
                line, or which cookie. Nothing of it is loaded then.
        """
        from aiosock.message.cookiefile import read_cookies

        cookies = await asyncio.to_thread(read_cookies, path)
        now = self._clock()
        for cookie in cookies:
            if cookie.expires is None or cookie.expires > now:
                self._put(cookie, now)

    async def save(
        self, path: str | os.PathLike[str], *, format: Literal["json", "netscape"] = "json", session: bool = False
    ) -> None:
        """
        Write the cookies that are bound to a host to a file, in a thread.

        The file is whole at all times: a new one is written beside it and takes its place. Only its owner may read
        it.

        Args:
            path: The file.
            format: ``"json"``, which keeps everything, or ``"netscape"``, which is curl's ``cookies.txt``: it loses
                SameSite, Partitioned, parts of seconds and the time of creation, and leaves out cookies with a tab.
            session: Write those without an expiry date too. Their server meant them to end with the session, and
                so they do, unless the session is to go on from the file: many logins are such cookies, and curl
                does write them.

        Raises:
            UsageError: Another format, or the file cannot be written.
        """
        from aiosock.message.cookiefile import write_cookies

        cookies = [cookie for cookie in self if session or cookie.expires is not None]
        if len(cookies) < len(self):
            logger.debug("left %d cookies of the session out of the file", len(self) - len(cookies))
        await asyncio.to_thread(write_cookies, path, cookies, format)

    def __iter__(self) -> Iterator[Cookie]:
        self._drop_expired(self._clock())
        return iter(list(self._by_use.values()))

    def __len__(self) -> int:
        self._drop_expired(self._clock())
        return len(self._by_use)

    def __repr__(self) -> str:
        return f"<CookieJar of {len(self)} cookies>"

    def _moment(self, now: float) -> float:
        """Return a time of creation, later than all before it: those of one answer have an order, too."""
        if now <= self._last_creation:
            now = math.nextafter(self._last_creation, math.inf)
        self._last_creation = now
        return now

    def _put(self, cookie: Cookie, now: float) -> None:
        key = _key(cookie)
        created = cookie.created or self._moment(now)
        old = self._by_use.get(key)
        if old is not None:
            self._remove(key)
            if old.expires is None or old.expires > now:
                created = old.created
        if cookie.expires is not None:
            if cookie.expires <= now:
                return
            self._earliest_expiry = min(self._earliest_expiry, cookie.expires)
        if cookie.created != created:
            cookie = replace(cookie, created=created)
        self._by_use[key] = cookie
        kept = self.domains.setdefault(cookie.domain, {})
        kept[key] = cookie
        if cookie.secure:
            self._secure_by_name.setdefault(cookie.name, set()).add(key)
        self._evict(kept, now)

    def _evict(self, kept: dict[_Key, Cookie], now: float) -> None:
        """Keep the limits after a cookie was added to those of its domain (RFC 6265bis, 5.7)."""
        if len(kept) > self._max_per_domain:
            gone = [key for key, cookie in kept.items() if cookie.expires is not None and cookie.expires <= now]
            if not gone:
                # Those of one domain are in the order of their use.
                gone = [next((key for key, cookie in kept.items() if not cookie.secure), next(iter(kept)))]
            for key in gone:
                self._remove(key)
        # No domain has too many by now, so that all cookies are alike.
        if len(self._by_use) > self._max_cookies:
            self._drop_expired(now)
        while len(self._by_use) > self._max_cookies:
            self._remove(next(iter(self._by_use)))

    def _drop_expired(self, now: float) -> None:
        if now < self._earliest_expiry:
            return
        self._earliest_expiry = math.inf
        for key, cookie in list(self._by_use.items()):
            if cookie.expires is not None:
                if cookie.expires <= now:
                    self._remove(key)
                else:
                    self._earliest_expiry = min(self._earliest_expiry, cookie.expires)

    def _remove(self, key: _Key) -> None:
        cookie = self._by_use.pop(key)
        _discard(self.domains, cookie.domain, key)
        if cookie.secure:
            same_name = self._secure_by_name[cookie.name]
            same_name.discard(key)
            if not same_name:
                del self._secure_by_name[cookie.name]

    def _hides_secure(self, cookie: Cookie, now: float) -> bool:
        """Tell whether a server could take this cookie for one that is Secure (RFC 6265bis, 5.7, step 16)."""
        for key in self._secure_by_name.get(cookie.name, ()):
            other = self._by_use[key]
            if (
                path_match(cookie.path, other.path)
                and (domain_match(other.domain, cookie.domain) or domain_match(cookie.domain, other.domain))
                and (other.expires is None or other.expires > now)
            ):
                return True
        return False

    def _is_public_suffix(self, domain: str) -> bool:
        # A name of one label is one whether it is on the list or not.
        return self._public_suffixes and ("." not in domain or not load_public_suffixes()(_unicode(domain)))


def path_of(location: Location) -> str:
    """Return the path of a location, as it goes on the wire."""
    return location.target.partition("?")[0]


def load_public_suffixes() -> Callable[[str], bool]:
    """
    Return what tells of a domain whether it has a part that is not a public suffix; it takes labels in Unicode.

    The first time it reads the list, which takes some 10 ms: a thread is the place for it.
    """
    with _loading:
        return _public_suffix_list()


@cache
def _public_suffix_list() -> Callable[[str], bool]:
    from publicsuffixlist import PublicSuffixList

    # Encoding every entry would take three times as long; the domains asked for are decoded instead. Where the list
    # knows private suffixes (github.io), their hosts are as foreign to each other as those of com.
    return PublicSuffixList(accept_encoded_idn=False).is_private


def _unicode(domain: str) -> str:
    """Return a domain with its A-labels (RFC 5890) as Unicode."""
    return ".".join([_unicode_label(label) for label in domain.split(".")]) if "xn--" in domain else domain


def _unicode_label(label: str) -> str:
    if not label.startswith("xn--"):
        return label
    try:
        return label[4:].encode("ascii").decode("punycode")
    except UnicodeError:
        return label


def canonical_domain(domain: str) -> str:
    """
    Return a domain that a user wrote as hosts are in the end: lower case, IDNA-encoded, without a dot in front.

    Raises:
        UsageError: It is no str, or no host.
    """
    if not isinstance(domain, str):
        raise UsageError(f"cookies: the domain is a str, not {type(domain).__name__}")
    if not domain:
        return ""
    bare = domain.removeprefix(".")
    if any(char in bare for char in "/?#@"):
        raise UsageError(f"cookies: the domain {domain[:60]!r} is more than a host")
    bracketed = f"[{bare}]" if ":" in bare and not bare.endswith("]") else bare
    try:
        return parse_url(f"http://{bracketed}/").host
    except InvalidURL as error:
        raise UsageError(f"cookies: the domain {domain[:60]!r} is not a host: {error}") from error


def _discard(index: dict[str, dict[_Key, Cookie]], domain: str, key: _Key) -> None:
    kept = index[domain]
    del kept[key]
    if not kept:
        del index[domain]


def _is_trusted(location: Location) -> bool:
    return location.scheme == "https" or is_loopback(location.host)


def _key(cookie: Cookie) -> _Key:
    return cookie.domain, cookie.path, cookie.name, cookie.host_only


def _sending_order(cookie: Cookie) -> tuple[int, float]:
    return -len(cookie.path), cookie.created
