"""
Authentication: what makes a request one that a server lets pass (RFC 9110, 11), and the conversation that this takes.

An `Auth` is a function of the request. It returns the request as it is to be sent, or it is a generator, plain or
asynchronous, that yields requests and is given the answer to each; the last answer is the caller's::

    async def signed(request):
        response = yield Request("POST", "https://id.example/token", data={"grant_type": "client_credentials"})
        await response.read()
        signed = request.replace()
        signed.headers["Authorization"] = f"Bearer {response.json()['access_token']}"
        yield signed

`authenticate` is the middleware that sends what they ask for.
"""

from __future__ import annotations

import logging
import os
import re
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Generator
from typing import TYPE_CHECKING, Final, TypeAlias, cast

from multidict import istr

from aiosock.errors import BodyNotReplayable, RequestError, UsageError
from aiosock.message.body import BytesBody
from aiosock.message.request import AUTHORIZATION, Request
from aiosock.message.response import Response
from aiosock.middleware.chain import Send
from aiosock.network.threads import daemon_threads
from aiosock.protocol.challenge import basic, encode_credentials, parse_challenges

if TYPE_CHECKING:
    from aiosock.protocol.digest import Answer, Digest

MAX_REQUESTS: Final = 20
"""How many requests one flow may send for one of the user's."""
MAX_DIGEST_REQUESTS: Final = 5
MAX_DIGEST_ORIGINS: Final = 256

# What bounds the user's request bounds all that is sent on its behalf.
_INHERITED: Final = ("timeout", "deadline")
_WWW_AUTHENTICATE: Final = istr("WWW-Authenticate")
_AUTHENTICATION_INFO: Final = istr("Authentication-Info")

AuthFlow: TypeAlias = Generator[Request, Response, None] | AsyncGenerator[Request, Response]
Auth: TypeAlias = Callable[[Request], Request | AuthFlow]
AuthInput: TypeAlias = Auth | tuple[str, str]

logger = logging.getLogger("aiosock.middleware")


def as_auth(value: object) -> Auth | None:
    """
    Return the Auth that a user's value stands for: a pair of str is user and password of Basic, None is none.

    Raises:
        UsageError: The value is none of these; the message shows its type only.
    """
    if value is None:
        return None
    if isinstance(value, tuple) and len(value) == 2 and all(isinstance(part, str) for part in value):
        return BasicAuth(*value)
    if callable(value) and not isinstance(value, type):
        return cast("Auth", value)
    raise UsageError(
        "auth: takes a pair of user and password, or a function of the request such as BasicAuth(...), "
        f"not {_kind(value)}"
    )


async def authenticate(request: Request, next: Send, /) -> Response:
    """
    Send a request in the way that ``request.extensions["auth"]`` says.

    Raises:
        UsageError: The Auth gives or yields something else than requests, or asks for more than 20.
        BodyNotReplayable: The Auth sends a body again whose source can be read only once.
    """
    auth: Auth | None = request.extensions.get("auth")
    if auth is None:
        return await next(request)
    flow = auth(request)
    if isinstance(flow, Request):
        return await next(_bounded(flow, request))
    if isinstance(flow, Generator):
        flow = _asynchronous(flow)
    if isinstance(flow, AsyncGenerator):
        return await _converse(flow, request, next)
    if isinstance(flow, Coroutine):
        flow.close()
    raise UsageError(f"auth: must return a Request or be a generator of them, but returned {_kind(flow)}")


async def _converse(flow: AsyncGenerator[Request, Response], request: Request, next: Send) -> Response:
    """Send what a flow asks for, until it asks for no more; the last response is the caller's."""
    response: Response | None = None
    # What can be read only once, and was sent.
    spent: list[object] = []
    try:
        asked = await _step(flow.asend(None))  # type: ignore[arg-type]  # as every generator begins
        for _ in range(MAX_REQUESTS):
            asked = _prepared(asked, request, spent)
            if response is not None:
                given_up, response = response, None
                await given_up.close()
            try:
                response = await next(asked)
            except Exception as error:
                if isinstance(error, RequestError) and error.request is None:
                    # Whoever called knows of no other request than the own.
                    error.request = asked
                asked = await _step(flow.athrow(error))
                if asked is _END:
                    raise
            else:
                asked = await _step(flow.asend(response))
                if asked is _END:
                    return response
        raise UsageError(f"auth: asked for more than {MAX_REQUESTS} requests to send one")
    except BaseException:
        if response is not None:
            await response.close()
        raise
    finally:
        await flow.aclose()


_END: Final = object()


async def _step(step: Awaitable[object]) -> object:
    """Return what a generator yields next, or that it has ended."""
    try:
        return await step
    except StopAsyncIteration:
        return _END


async def _asynchronous(flow: Generator[Request, Response, None]) -> AsyncGenerator[Request, Response]:
    """The same flow in the other form."""
    try:
        request = next(flow)
        while True:
            try:
                response = yield request
            except Exception as error:
                request = flow.throw(error)
            else:
                request = flow.send(response)
    except StopIteration:
        pass
    finally:
        flow.close()


def _prepared(asked: object, request: Request, spent: list[object]) -> Request:
    if asked is _END:
        raise UsageError("auth: the generator ended without having yielded a request")
    if not isinstance(asked, Request):
        raise UsageError(f"auth: the generator must yield requests, but yielded {_kind(asked)}")
    if asked.body is not None and not asked.body.replayable:
        source = asked.body.source
        if any(source is one for one in spent):
            raise BodyNotReplayable("auth asks for the same body again, but its source can be read only once")
        spent.append(source)
    return _bounded(asked, request)


def _bounded(asked: Request, request: Request) -> Request:
    extensions = request.extensions
    missing = {name: extensions[name] for name in _INHERITED if name in extensions and name not in asked.extensions}
    return asked.replace(extensions=missing | asked.extensions) if missing else asked


def _kind(value: object) -> str:
    if value is None:
        return "None"
    return f"the class {value.__name__}" if isinstance(value, type) else f"an object of {type(value).__name__}"


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
        body = _known_body(request)
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


def _known_body(request: Request) -> bytes | None:
    """Return the body, None where that would take reading what may not be readable twice."""
    if request.body is None:
        return b""
    return bytes(request.body.data) if isinstance(request.body, BytesBody) else None


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
