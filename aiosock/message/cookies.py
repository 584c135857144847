"""
The cookies of a jar as a mapping of names to values, and what a user may give for cookies.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from typing import TypeAlias, TypeVar

from aiosock.errors import UsageError
from aiosock.message.jar import CookieJar, canonical_domain
from aiosock.message.url import Location
from aiosock.protocol.cookie import Cookie
from aiosock.protocol.http1.grammar import is_token

__all__ = ["Cookie", "CookieJar", "Cookies", "CookiesInput", "as_jar", "cookies_for", "cookies_set"]

T = TypeVar("T")

CookiesInput: TypeAlias = "CookieJar | Cookies | Mapping[str, str] | Iterable[tuple[str, str]] | None"


class Cookies(MutableMapping[str, str]):
    """
    The cookies of a jar by name. Names and values are all it shows; the jar has the rest.

    A cookie that is set as an item is bound to no host: it goes with a call to the origin that it begins with, and
    is not sent on when a redirect leads elsewhere.

    Args:
        jar: The jar, a new one where there is none.

    Attributes:
        jar: The jar.

    Raises:
        UsageError: It is no `CookieJar`.
    """

    def __init__(self, jar: CookieJar | None = None) -> None:
        if jar is not None and not isinstance(jar, CookieJar):
            raise UsageError(f"Cookies: is a view on a CookieJar, and takes one or None, not {type(jar).__name__}")
        self.jar = CookieJar() if jar is None else jar

    def __getitem__(self, name: str) -> str:
        """
        Return the value of a cookie.

        Raises:
            KeyError: There is none of that name.
            UsageError: There are several; the message names their domains.
        """
        return self._one(name, None, None).value

    def __setitem__(self, name: str, value: str) -> None:
        """
        Set a cookie without a domain.

        Raises:
            UsageError: As for `set`.
        """
        self.set(name, value)

    def __delitem__(self, name: str) -> None:
        """Delete all cookies of that name; a KeyError says that there is none."""
        if name not in self:
            raise KeyError(name)
        self.delete(name)

    def __contains__(self, name: object) -> bool:
        return name in self._names()

    def __iter__(self) -> Iterator[str]:
        return iter(self._names())

    def __len__(self) -> int:
        return len(self._names())

    def __repr__(self) -> str:
        return f"<Cookies {', '.join(self) or 'empty'}>"

    def _names(self) -> dict[str, None]:
        return dict.fromkeys([*self.jar.unbound, *(cookie.name for cookie in self.jar)])

    def _one(self, name: str, domain: str | None, path: str | None) -> Cookie:
        found = self.jar.matching(name, domain, path)
        if not found:
            raise KeyError(name)
        if len(found) > 1:
            where = ", ".join(f"{cookie.domain or '(no domain)'}{cookie.path}" for cookie in found[:10])
            raise UsageError(f"several cookies have the name {name[:40]!r}; say which with domain or path: {where}")
        return found[0]

    def get(  # type: ignore[override]  # the keywords come on top
        self, name: str, default: T | None = None, *, domain: str | None = None, path: str | None = None
    ) -> str | T | None:
        """
        Return the value of a cookie, or the default where there is none.

        Args:
            name: Its name.
            default: What to return otherwise.
            domain: Only of this very domain; empty for one without.
            path: Only of this very path.

        Raises:
            UsageError: There are several; the message names their domains.
        """
        try:
            return self._one(name, domain, path).value
        except KeyError:
            return default

    def set(
        self,
        name: str,
        value: str,
        *,
        domain: str = "",
        path: str = "/",
        expires: float | None = None,
        secure: bool = False,
        http_only: bool = False,
        same_site: str | None = None,
    ) -> None:
        """
        Set a cookie.

        Args:
            name: A token (RFC 9110, 5.6.2).
            value: Without control characters and semicolons, and of characters up to U+00FF; it goes on the wire as
                it is. Percent-encode what is more.
            domain: The host; with a dot in front, those below it as well. Without a domain the cookie goes with a
                call to the origin that it begins with, wherever that is.
            path: Where it is sent to.
            expires: Seconds since the epoch, None for the session.
            secure: Over https only, or to a loopback host.
            http_only: Kept, and nothing else.
            same_site: ``"Strict"``, ``"Lax"`` or ``"None"``; kept, and nothing else.

        Raises:
            UsageError: A name or value that may not be sent, a domain that is none, or more about a cookie without
                a domain; the message never shows the value.
        """
        _checked_pair(name, value)
        bound = canonical_domain(domain)
        if not bound and (path, expires, secure, http_only, same_site) != ("/", None, False, False, None):
            raise UsageError(f"cookies: {name[:40]!r} has no domain, so that it takes a name and a value only")
        self.jar.set_cookie(
            Cookie(
                name,
                value,
                domain=bound,
                path=path,
                expires=expires,
                secure=secure,
                http_only=http_only,
                same_site=same_site,
                host_only=not domain.startswith("."),
            )
        )

    def delete(self, name: str, *, domain: str | None = None, path: str | None = None) -> None:
        """
        Delete the cookies of a name, where there are any.

        Args:
            name: The name.
            domain: Only those of this very domain; empty for those without.
            path: Only those of this very path.
        """
        self.jar.clear(name=name, domain=domain, path=path)

    def clear(self, *, domain: str | None = None, path: str | None = None) -> None:
        """Delete all cookies, or those of a domain or a path."""
        self.jar.clear(domain=domain, path=path)


def as_jar(value: CookiesInput) -> CookieJar:
    """
    Return the jar that a user's value stands for.

    A jar is used as it is, and so is the one behind a `Cookies`: whoever has it too shares the cookies. A mapping or
    pairs are cookies without a domain, None is a new jar.

    Raises:
        UsageError: Something else, or a name or value that may not be sent.
    """
    if isinstance(value, CookieJar):
        return value
    if isinstance(value, Cookies):
        return value.jar
    jar = CookieJar()
    jar.unbound.update(_pairs(value))
    return jar


def cookies_for(value: CookiesInput) -> dict[str, str] | CookieJar:
    """
    Return what a user's value adds to a call: names and values, or a jar, which sends to each host what is its own.

    Raises:
        UsageError: As for `as_jar`.
    """
    return as_jar(value) if isinstance(value, (CookieJar, Cookies)) else _pairs(value)


def cookies_set(values: Iterable[str], location: Location) -> Cookies:
    """
    Return the cookies that one answer sets, in a jar of their own.

    Args:
        values: The values of its Set-Cookie fields.
        location: Whence it came; what this host may not set is left out. Public suffixes are not looked up.
    """
    jar = CookieJar(public_suffixes=False)
    jar.store(values, location)
    return Cookies(jar)


def _pairs(value: Mapping[str, str] | Iterable[tuple[str, str]] | None) -> dict[str, str]:
    if value is None:
        return {}
    # Python's own jar iterates too, over what are no pairs.
    if isinstance(value, (str, bytes, bytearray)) or not isinstance(value, Iterable) or hasattr(value, "set_policy"):
        raise UsageError(f"cookies: takes a mapping, pairs, a CookieJar or Cookies, not {type(value).__name__}")
    pairs: dict[str, str] = {}
    items: Iterable[object] = value.items() if isinstance(value, Mapping) else value
    for item in items:
        if not isinstance(item, (tuple, list)) or len(item) != 2:
            raise UsageError("cookies: every item must be a pair of name and value")
        pairs.update([_checked_pair(*item)])
    return pairs


def _checked_pair(name: object, value: object) -> tuple[str, str]:
    if not isinstance(name, str) or is_token(name) is None:
        shown = repr(name[:40]) if isinstance(name, str) else type(name).__name__
        raise UsageError(f"cookies: the name of a cookie is a token, not {shown}")
    if not isinstance(value, str):
        raise UsageError(f"cookies: the value of {name[:40]!r} is a str, not {type(value).__name__}")
    try:
        Cookie(name, value)
    except UsageError as error:
        raise UsageError(f"cookies: {error}") from None
    return name, value
