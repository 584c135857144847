"""
A proxy: where it is, how it is spoken to, and who we are to it. Speaking to it is in `aiosock.connection.tunnel`.
"""

from __future__ import annotations

import logging
import os
import re
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Final

from aiosock.errors import AiosockError, InvalidHeader, InvalidURL, UsageError
from aiosock.message.late import late
from aiosock.message.request import HeadersInput, make_headers
from aiosock.message.url import parse_url, text_of
from aiosock.network.address import format_address
from aiosock.network.trust import Cert, TLSSettings, Verify
from aiosock.protocol.challenge import basic, parse_challenges
from aiosock.protocol.digest import Answer, Digest
from aiosock.protocol.http1 import FieldSection

if TYPE_CHECKING:
    from multidict import MultiMapping
    from yarl import URL
else:
    URL = late("yarl", "URL")

logger = logging.getLogger("aiosock.connection")

DEFAULT_PORTS: Final = {"http": 80, "https": 443, "socks4": 1080, "socks4a": 1080, "socks5": 1080, "socks5h": 1080}
MAX_SOCKS_CREDENTIAL_BYTES: Final = 255

# They frame a message or steer a connection, and are not a matter of who asks the proxy.
_FRAMING_FIELDS: Final = frozenset(
    {"host", "content-length", "transfer-encoding", "connection", "expect", "upgrade", "te", "trailer"}
)


@cache
def _controls() -> re.Pattern[str]:
    return re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")


@dataclass(frozen=True, slots=True, init=False, repr=False)
class Proxy:
    """
    A proxy that requests go through; not changed once made, equal to another one that says the same.

    With ``http`` and ``https`` (TLS to the proxy itself), http requests are handed to the proxy, which sends them on,
    and https requests go through a tunnel that it opens (CONNECT, RFC 9110, 9.3.6). With the SOCKS schemes both go
    through a tunnel: ``socks5`` and ``socks4`` (IPv4 only) are given an address that is resolved here, ``socks5h`` and
    ``socks4a`` the name, which the proxy resolves.

    Credentials are sent to an HTTP proxy at once as Basic (RFC 7617), as curl does; when it refuses them and offers
    Digest (RFC 7616), that is answered, and remembered. Over plain ``http`` everyone on the way to the proxy can read
    what Basic says: ``digest_only`` waits to be asked, and never sends it. SOCKS5 sends them in clear (RFC 1929);
    SOCKS4 knows a user name alone.

    Args:
        url: ``scheme://[user[:password]@]host[:port]``, user and password percent-encoded, with the scheme ``http``,
            ``https``, ``socks4``, ``socks4a``, ``socks5`` or ``socks5h``; without a scheme it is ``http``, and
            ``socks`` means ``socks5``. The port is 80, 443 or 1080 where there is none.
        auth: User name and password; they take the place of those in the URL.
        digest_only: The password is never sent, only proved by Digest; costs a round trip the first time.
        headers: Fields for the proxy alone: they go with CONNECT, and with the requests that it sends on, where these
            do not have a field of that name.
        verify: How an ``https`` proxy is trusted, as for the client; None for the way in which the client trusts
            servers.
        cert: The client certificate for an ``https`` proxy, as for the client; the client's own is not shown to it,
            save one that was loaded into an `ssl.SSLContext` given as the client's ``verify``: then give another here.

    Attributes:
        scheme: One of those above.
        host: A name in lower case and IDNA-encoded, or an IP address without brackets, maybe with its zone.
        port: 1 to 65535.
        auth: User name and password, None where there are none.

    Raises:
        UsageError: The URL or another argument cannot be used; the message never has user or password.
        InvalidHeader: A field that may not be sent.
    """

    scheme: str
    host: str
    port: int
    auth: tuple[str, str] | None
    digest_only: bool
    headers: tuple[tuple[str, str], ...]
    verify: Verify | None
    cert: Cert | None

    def __init__(
        self,
        url: str | URL,
        *,
        auth: tuple[str, str] | None = None,
        digest_only: bool = False,
        headers: HeadersInput | None = None,
        verify: Verify | None = None,
        cert: Cert | None = None,
    ) -> None:
        scheme, host, port, userinfo = _parse(url)
        if auth is not None:
            auth = _pair(auth)
        elif userinfo:
            auth = _decoded(userinfo)
        if auth is not None:
            _check_credentials(scheme, *auth)
        if digest_only and (auth is None or scheme not in ("http", "https")):
            raise UsageError(f"digest_only: needs an HTTP proxy, user and password; this is {scheme}://{host}")
        if headers is not None and scheme not in ("http", "https"):
            raise UsageError(f"headers: a {scheme} proxy knows no fields")
        if (verify is not None or cert is not None) and scheme != "https":
            raise UsageError(f"verify, cert: there is no TLS with a proxy whose scheme is {scheme}")
        TLSSettings(True if verify is None else verify, cert)
        for name, value in (
            ("scheme", scheme),
            ("host", host),
            ("port", port),
            ("auth", auth),
            ("digest_only", digest_only),
            ("headers", _checked_fields(headers)),
            ("verify", os.fspath(verify) if isinstance(verify, os.PathLike) else verify),
            ("cert", cert),
        ):
            object.__setattr__(self, name, value)

    @property
    def is_socks(self) -> bool:
        """It speaks SOCKS, and not HTTP."""
        return self.scheme.startswith("socks")

    @property
    def address(self) -> str:
        """Host and port, for messages."""
        return format_address(self.host, self.port)

    def __str__(self) -> str:
        return f"{self.scheme}://{self.address}"

    def __repr__(self) -> str:
        return f"<Proxy {self}>"


def make_proxy(value: str | URL | Proxy) -> Proxy:
    """
    Return what names a proxy as a `Proxy`.

    Raises:
        UsageError: It cannot be used, or is neither a str nor a `yarl.URL` nor a `Proxy`.
    """
    return value if isinstance(value, Proxy) else Proxy(value)


def _parse(url: str | URL) -> tuple[str, str, int, str | None]:
    """Return scheme, host, port and user information."""
    try:
        text = text_of(url)
    except InvalidURL:
        raise UsageError(f"proxy: takes a str, a yarl.URL or a Proxy, not {type(url).__name__}") from None
    scheme, colon, rest = text.partition("://")
    if not colon:
        scheme, rest = "http", text
    scheme = scheme.lower()
    if scheme == "socks":
        # As desktops write it into the environment.
        scheme = "socks5"
    if scheme not in DEFAULT_PORTS:
        # In front of "://" there may stand what was meant as a password.
        shown = "" if "@" in scheme or ":" in scheme else f", not {scheme[:40]!r}"
        raise UsageError(f"proxy: the scheme of its URL is one of {', '.join(DEFAULT_PORTS)}{shown}")
    # Names of users have it (DOMAIN\user), and this is no URL of a stranger, which browsers might read otherwise.
    rest = rest.replace("\\", "%5C")
    try:
        location, other = parse_url(f"http://{rest}"), parse_url(f"https://{rest}")
    except InvalidURL as error:
        # What it shows may be a password, where the rest of the URL was forgotten.
        said = str(error) if re.search(r": '[0-9]+'$", str(error)) else str(error).partition(":")[0]
        raise UsageError(f"proxy: {said}") from None
    if location.target != "/" or location.url.fragment:
        # What looks like the host may be the beginning of a user and password with such a character in them.
        shown = "" if "@" in re.split("[/?#]", rest, maxsplit=1)[1] else f" of {location.host}"
        raise UsageError(
            f"proxy: the URL{shown} has a path, query or fragment; it ends after the port "
            "('/', '?' and '#' in a password must be percent-encoded)"
        )
    # A port that the URL names is the same for every scheme.
    port = location.port if location.port == other.port else DEFAULT_PORTS[scheme]
    return scheme, location.host, port, location.userinfo


def _pair(auth: object) -> tuple[str, str]:
    if not (isinstance(auth, tuple) and len(auth) == 2 and all(isinstance(part, str) for part in auth)):
        raise UsageError('auth: takes ("user", "password")')
    return auth[0], auth[1]


def _decoded(userinfo: str) -> tuple[str, str]:
    from urllib.parse import unquote

    user, _, password = userinfo.partition(":")
    try:
        return unquote(user, errors="strict"), unquote(password, errors="strict")
    except UnicodeDecodeError:
        raise UsageError("proxy: user or password in its URL are percent-encoded, but not as UTF-8") from None


def _check_credentials(scheme: str, user: str, password: str) -> None:
    if _controls().search(user + password) is not None:
        raise UsageError("proxy: user or password hold a control character or a lone surrogate")
    if not scheme.startswith("socks"):
        if ":" in user:
            raise UsageError("proxy: a user name with a colon cannot be sent to an HTTP proxy (RFC 7617, 2)")
        return
    if scheme.startswith("socks4") and password:
        raise UsageError("proxy: SOCKS4 knows a user name, but no password; SOCKS5 does")
    if max(len(user.encode()), len(password.encode())) > MAX_SOCKS_CREDENTIAL_BYTES:
        raise UsageError(f"proxy: SOCKS takes at most {MAX_SOCKS_CREDENTIAL_BYTES} bytes of user name and of password")


def _checked_fields(headers: HeadersInput | None) -> tuple[tuple[str, str], ...]:
    """Return fields as pairs, known to be such as may be sent."""
    fields = tuple((str(name), value) for name, value in make_headers(headers).items())
    for name, _ in fields:
        if name.lower() in _FRAMING_FIELDS:
            raise InvalidHeader(f"headers: a proxy's own fields cannot have {name[:40]}")
    try:
        FieldSection(fields)
    except AiosockError as error:
        raise InvalidHeader(f"headers: {error}") from None
    return fields


class Credentials:
    """
    What one HTTP proxy is told of who we are, and what it said to that: the same for tunnels and for what it sends on.

    Args:
        proxy: The proxy; without ``auth`` there is nothing to tell, nor where its own fields say who we are.
    """

    __slots__ = ("_basic", "_digest", "_proxy")

    def __init__(self, proxy: Proxy) -> None:
        self._proxy = proxy
        auth = proxy.auth
        if any(name.lower() == "proxy-authorization" for name, _ in proxy.headers):
            auth = None
        self._basic = basic(*auth) if auth is not None and not proxy.digest_only else None
        self._digest = Digest(*auth) if auth is not None else None

    def authorize(self, method: str, target: str, body: bytes | None) -> tuple[str | None, Answer | None]:
        """
        Return the value of Proxy-Authorization, None for none, and what `challenged` has to know if it is refused.

        Args:
            method: The method of the request.
            target: Its target as it goes on the wire.
            body: Its body, None where that is not known.

        Raises:
            UsageError: The proxy wants the body protected, and it is not known.
        """
        digest = self._digest
        if digest is not None:
            from secrets import token_urlsafe

            value = digest.authorization(method, target, token_urlsafe(16), body)
            if value is not None:
                return value, digest.answer
        return self._basic, None

    def challenged(self, fields: MultiMapping[str], refused: Answer | None) -> bool:
        """
        Take up what a 407 asks for, and return whether there is a new answer to it.

        Args:
            fields: The fields of the 407.
            refused: What `authorize` gave beside the value that was refused.
        """
        challenges = parse_challenges(fields.getall("Proxy-Authenticate", ()))
        worthwhile = self._digest is not None and self._digest.challenged(challenges, refused)
        if not worthwhile:
            schemes = ", ".join(challenge.scheme[:20] for challenge in challenges[:5]) or "nothing"
            logger.debug("the proxy %s demands what cannot be given, or was refused: %s", self._proxy, schemes)
        return worthwhile

    def informed(self, fields: MultiMapping[str]) -> None:
        """Take up what an answer that is no 407 says about the next one."""
        if self._digest is not None:
            for value in fields.getall("Proxy-Authentication-Info", ()):
                self._digest.informed(value)

    def __repr__(self) -> str:
        return "<Credentials>"
