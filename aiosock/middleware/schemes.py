"""
The schemes by which a client says who it is: each an `Auth`, see `aiosock.middleware.auth`.
"""

from __future__ import annotations

import logging
import os
import re
import threading
from collections.abc import AsyncGenerator, Generator
from typing import TYPE_CHECKING, Final

from multidict import istr

from aiosock.errors import UsageError
from aiosock.message.request import AUTHORIZATION, Request
from aiosock.message.response import Response
from aiosock.network.threads import daemon_threads
from aiosock.protocol.challenge import basic, encode_credentials, parse_challenges

if TYPE_CHECKING:
    from aiosock.protocol.digest import Answer, Digest

MAX_DIGEST_REQUESTS: Final = 5
MAX_DIGEST_ORIGINS: Final = 256

_WWW_AUTHENTICATE: Final = istr("WWW-Authenticate")
_AUTHENTICATION_INFO: Final = istr("Authentication-Info")

logger = logging.getLogger("aiosock.middleware")


def _signed(request: Request, authorization: str | None) -> Request:
    """Return a copy with this Authorization, and no other."""
    signed = request.replace()
    signed.headers.popall(AUTHORIZATION, None)
    if authorization is not None:
        signed.headers[AUTHORIZATION] = authorization
    return signed


class BasicAuth:
    """
    Sends user and password with each request (RFC 7617): readable to whoever reads the connection.

    Args:
        username: Anything without a colon.
        password: Anything; both are sent in UTF-8.

    Raises:
        UsageError: One of them cannot be sent; the message shows neither.
    """

    __slots__ = ("_authorization",)

    def __init__(self, username: str, password: str) -> None:
        self._authorization = basic(username, password)

    def __call__(self, request: Request) -> Request:
        """Return the request with the credentials."""
        return _signed(request, self._authorization)

    def __repr__(self) -> str:
        return "<BasicAuth>"


class BearerAuth:
    """
    Sends a token with each request (RFC 6750).

    Args:
        token: The token, of visible ASCII.

    Raises:
        UsageError: It is no str, empty, or has a character that a token cannot have; the message does not show it.
    """

    __slots__ = ("_authorization",)

    def __init__(self, token: str) -> None:
        if not isinstance(token, str):
            raise UsageError(f"token: takes a str, not {type(token).__name__}")
        if re.fullmatch(r"[!-~]+", token) is None:
            raise UsageError("token: must be visible ASCII without spaces, and not empty")
        self._authorization = f"Bearer {token}"

    def __call__(self, request: Request) -> Request:
        """Return the request with the token."""
        return _signed(request, self._authorization)

    def __repr__(self) -> str:
        return "<BearerAuth>"


class DigestAuth:
    """
    Answers the Digest challenges of servers (RFC 7616), and from then on each request of the same origin ahead.

    The password is not sent; what one origin said is not used for another. A body whose source can be read only once
    cannot be sent again after a challenge: the caller is given the 401, and the next request answers ahead.

    Args:
        username: The user.
        password: The password; both are taken in UTF-8.

    Raises:
        UsageError: One of them cannot be encoded; the message shows neither.
    """

    __slots__ = ("_digests", "_password", "_username")

    def __init__(self, username: str, password: str) -> None:
        encode_credentials(username, password)
        self._username = username
        self._password = password
        # The one used last at the end.
        self._digests: dict[tuple[str, str, int], Digest] = {}

    def __call__(self, request: Request) -> Generator[Request, Response, None]:
        """
        Yield the request, again with an answer to the challenge where there is one that can be answered.

        Raises:
            UsageError: The server insists on having the body protected, and it is not given as bytes or str.
        """
        from secrets import token_urlsafe

        digest = self._digest(request.location.origin)
        body = request.known_body()
        for _ in range(MAX_DIGEST_REQUESTS):
            # Nothing may come between a challenge and its answer: others share the state.
            authorization = digest.authorization(request.method, request.target, token_urlsafe(), body)
            answer = digest.answer if authorization is not None else None
            response = yield _signed(request, authorization)
            if response.status_code != 401:
                for value in response.headers.getall(_AUTHENTICATION_INFO, ()):
                    digest.informed(value)
                return
            if not digest.challenged(parse_challenges(response.headers.getall(_WWW_AUTHENTICATE, ())), answer):
                logger.debug("401 from %s: %s", request.location.host, _why_not(answer))
                return
            if request.body is not None and not request.body.replayable:
                logger.debug("401 from %s: the body cannot be sent again with an answer", request.location.host)
                return

    def _digest(self, origin: tuple[str, str, int]) -> Digest:
        from aiosock.protocol.digest import Digest

        digest = self._digests.pop(origin, None) or Digest(self._username, self._password)
        self._digests[origin] = digest
        if len(self._digests) > MAX_DIGEST_ORIGINS:
            del self._digests[next(iter(self._digests))]
        return digest

    def __repr__(self) -> str:
        return "<DigestAuth>"


def _why_not(answer: Answer | None) -> str:
    return "no challenge of Digest that can be answered" if answer is None else "the Digest credentials were refused"


class NetRCAuth:
    """
    Sends user and password of a netrc file as Basic: those of the request's host, else those of ``default``.

    The file is read once, when first needed, in a thread. A host that it does not have is asked without credentials.

    Args:
        path: The file; None is the one that the environment variable NETRC names, else ``.netrc`` or ``_netrc`` in the
            home directory, of which none need exist.

    Raises:
        UsageError: The path is none; or, with the first request, the file cannot be used. What is in it is not shown.
    """

    __slots__ = ("_logins", "_path", "_reading")

    def __init__(self, path: str | os.PathLike[str] | None = None) -> None:
        if path is not None and not isinstance(path, (str, os.PathLike)):
            raise UsageError(f"path: takes a path or None, not {type(path).__name__}")
        self._path = None if path is None else os.fspath(path)
        self._logins: dict[str, tuple[str, str]] | None = None
        self._reading = threading.Lock()

    def __call__(self, request: Request) -> Request | AsyncGenerator[Request, Response]:
        """Return the request with the host's credentials, where there are any."""
        return self._first(request) if self._logins is None else self._sign(request, self._logins)

    async def _first(self, request: Request) -> AsyncGenerator[Request, Response]:
        yield self._sign(request, await daemon_threads.run(self._read))

    def _sign(self, request: Request, logins: dict[str, tuple[str, str]]) -> Request:
        login = logins.get(request.location.host) or logins.get(_DEFAULT)
        return request if login is None else _signed(request, basic(*login))

    def _read(self) -> dict[str, tuple[str, str]]:
        with self._reading:
            if self._logins is None:
                self._logins = _read_logins(self._path)
            return self._logins

    def __repr__(self) -> str:
        return f"<NetRCAuth {self._path or 'of the environment'}>"


# How a netrc file calls the entry for all other hosts.
_DEFAULT: Final = "default"


def _read_logins(path: str | None) -> dict[str, tuple[str, str]]:
    """Return user and password by host, of the first file that exists."""
    import netrc

    given = (os.environ.get("NETRC") or None) if path is None else path
    for candidate in ("~/.netrc", "~/_netrc") if given is None else (given,):
        try:
            hosts = netrc.netrc(os.path.expanduser(candidate)).hosts
        except FileNotFoundError:
            continue
        except OSError as error:
            raise UsageError(f"netrc: {candidate!r} cannot be read: {error.strerror}") from None
        except netrc.NetrcParseError as error:
            raise UsageError(f"netrc: {candidate!r} cannot be used: line {error.lineno} is malformed") from None
        except ValueError:
            raise UsageError(f"netrc: {candidate!r} cannot be used") from None
        return {host.lower(): (login, password or "") for host, (login, _, password) in hosts.items()}
    if path is not None:
        raise UsageError(f"netrc: there is no file {path!r}")
    return {}
