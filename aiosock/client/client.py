"""
The client: calls become requests, responses come back.
"""

from __future__ import annotations

import asyncio
import inspect
import os
import sys
import warnings
from collections.abc import Callable, Coroutine, Mapping, Sequence
from functools import partial
from json import loads
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias, TypedDict, TypeVar, Unpack

from multidict import CIMultiDict, istr

from aiosock.client.transport import NetworkTransport, Proxies
from aiosock.config import Limits, Timeout, as_timeout
from aiosock.errors import ClientClosed, RequestError, UsageError
from aiosock.message import url as urls
from aiosock.message.body import Content, FormData, JSONEncoder
from aiosock.message.decoding import accepted_codings
from aiosock.message.iteration import MAX_EVENT_BYTES
from aiosock.message.request import AUTHORIZATION, HeadersInput, Request, assemble, make_headers
from aiosock.message.response import DefaultEncoding, JSONDecoder, Response
from aiosock.middleware.auth import AuthInput, as_auth
from aiosock.middleware.chain import Middleware, Send, as_middleware
from aiosock.middleware.cookies import CookieKeeper
from aiosock.middleware.order import arrange
from aiosock.middleware.redirect import Redirects
from aiosock.network.dns import Resolver, SystemResolver
from aiosock.network.tls import Cert, TLSSettings, Verify
from aiosock.pool.pool import PoolStats
from aiosock.version import __version__

# What many clients do without is imported when it is first used.
if TYPE_CHECKING:
    from yarl import URL

    from aiosock.client.events import EventStream
    from aiosock.client.proxies import ProxyInput
    from aiosock.connection.proxy import Proxy
    from aiosock.message.cookies import Cookies, CookiesInput
    from aiosock.message.multipart import Files

UNSET: Final[Any] = type("Unset", (), {"__repr__": lambda self: "UNSET"})()
"""Left out: the client's value counts. None is a value of its own."""

F = TypeVar("F", bound=Callable[..., Any])

Answer: TypeAlias = Coroutine[Any, Any, Response]
"""What a request is awaited for."""

_ACCEPT: Final = istr("Accept")
_ACCEPT_ENCODING: Final = istr("Accept-Encoding")
_USER_AGENT: Final = istr("User-Agent")


_forks = 0
"""How many forks this process has behind it: cheaper to ask than the system for the process, with every request."""


def _count_fork() -> None:
    global _forks
    _forks += 1


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_count_fork)


def _coroutine_function(method: F) -> F:
    """Mark a function that returns a coroutine as what it is to its callers."""
    if sys.version_info >= (3, 12):
        return inspect.markcoroutinefunction(method)
    # Python 3.11 has no other way to say so.
    method._is_coroutine = asyncio.coroutines._is_coroutine  # type: ignore[attr-defined]  # known to asyncio alone
    return method


class Transport(Protocol):
    """What carries requests: the network, or something in its place."""

    async def send(self, request: Request) -> Response:
        """Return the response to a request, its body maybe not read."""
        ...

    async def close(self) -> None:
        """Let go of everything."""
        ...


class RequestOptions(TypedDict, total=False):
    """The keyword arguments that every request takes; see `Client.request`."""

    params: urls.Params | None
    headers: HeadersInput | None
    cookies: CookiesInput | None
    content: Content | None
    data: FormData | None
    files: Files | None
    json: Any
    auth: AuthInput | None
    timeout: Timeout | float | None
    follow_redirects: bool
    proxy: str | URL | Proxy | None
    middleware: Sequence[Middleware]
    on_informational: Callable[[Response], None] | None
    extensions: Mapping[str, Any] | None


class Client:
    """
    An HTTP client: a pool of connections with defaults for its requests.

    It belongs to the event loop in which it is first used. Close it, or use it as ``async with``.

    Args:
        base_url: A prefix for the URLs of requests that are not absolute.
        headers: Fields of every request, unless it has its own of the same name.
        params: Appended to the query of every URL.
        cookies: A `CookieJar` to use, or cookies as a mapping or pairs, which go with every request (and not along with
            a redirect to another origin). Those that servers set are kept and sent back (RFC 6265bis).
        auth: ``(user, password)`` for basic authentication, or a `BasicAuth`, `BearerAuth`, `DigestAuth`, `NetRCAuth`,
            or a function of one's own, see `aiosock.middleware.auth`; for every request that has no Authorization.
        timeout: A `Timeout`, a number of seconds for the whole of each request, or None for none at all.
        limits: Bounds on connections and on what is taken in.
        follow_redirects: Follow redirects.
        max_redirects: How many one request may follow.
        verify: Trust of https: True (the system's), False (none), a CA file or directory, or an `ssl.SSLContext`,
            which is used as it is.
        cert: The client certificate: a PEM file, (certificate, key) or (certificate, key, password).
        proxy: The URL of a proxy (http, https, socks4, socks4a, socks5 or socks5h) or a `Proxy`, for all requests; or
            a mapping of URL patterns to these, see `aiosock.client.proxies`; None for none at all. Left out, the
            environment tells.
        trust_env: Heed SSL_CERT_FILE, SSL_CERT_DIR, SSLKEYLOGFILE, and http_proxy, https_proxy, all_proxy, no_proxy.
        resolver: What turns names into addresses.
        local_address: The IP address to connect from, or (address, port).
        uds: The path of a Unix socket to connect to, whatever the URL's host.
        transport: What carries requests instead of the network: any object with ``async send(request)``, which
            returns a `Response`, and ``async close()``. It is closed with the client.
        middleware: Functions ``async def mw(request, next) -> Response`` around every request, the outermost first;
            `aiosock.middleware.order` says where they stand.
        default_encoding: The encoding of a body that names none: a codec, or a function of its first bytes.
        json_encoder: What makes bytes or str of ``json=``.
        json_decoder: What `Response.json` calls with the body.
        raise_for_status: Raise `HTTPStatusError` for every 4xx and 5xx.

    What is bound to an origin (``auth``, and cookies that name no domain) goes to that of ``base_url`` alone, where
    there is one.

    Raises:
        UsageError: An argument, or a proxy in the environment, that cannot be used; the message names it.
        InvalidURL: ``base_url`` is not an absolute http or https URL.
    """

    def __init__(
        self,
        *,
        base_url: str | URL = "",
        headers: HeadersInput | None = None,
        params: urls.Params | None = None,
        cookies: CookiesInput | None = None,
        auth: AuthInput | None = None,
        timeout: Timeout | float | None = UNSET,
        limits: Limits | None = None,
        follow_redirects: bool = True,
        max_redirects: int = 20,
        verify: Verify = True,
        cert: Cert | None = None,
        proxy: ProxyInput | None = UNSET,
        trust_env: bool = True,
        resolver: Resolver | None = None,
        local_address: str | tuple[str, int] | None = None,
        uds: str | os.PathLike[str] | None = None,
        transport: Transport | None = None,
        middleware: Sequence[Middleware] = (),
        default_encoding: DefaultEncoding = "utf-8",
        json_encoder: JSONEncoder | None = None,
        json_decoder: JSONDecoder | None = None,
        raise_for_status: bool = False,
    ) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._process: int | None = None
        self._forks = -1
        self._transport: Transport | None = None
        self._given_transport = transport
        # What sends in the end, and what leads there.
        self._carry: Send = _unbound
        self._chain: Send = _unbound
        self._closed = False
        self._base_url = str(base_url)
        self._base_origin = urls.parse_url(self._base_url).origin if self._base_url else None
        self._headers = _default_headers(headers)
        self.params = params
        self._timeout = Timeout() if timeout is UNSET else as_timeout(timeout)
        self._limits = limits if limits is not None else Limits()
        if not isinstance(self._limits, Limits):
            raise UsageError(f"limits: takes a Limits, not {type(limits).__name__}")
        if isinstance(max_redirects, bool) or not isinstance(max_redirects, int) or max_redirects < 0:
            raise UsageError(f"max_redirects: must be a whole number from 0 on, not {max_redirects!r}")
        self._redirects = Redirects(follow_redirects, max_redirects)
        self._middleware = _middlewares(middleware)
        self._keeper = CookieKeeper()
        if cookies is not None:
            from aiosock.message.cookies import as_jar

            self._keeper.jar = as_jar(cookies)
        self._auth = as_auth(auth)
        self._tls = TLSSettings(verify, cert, trust_env)
        self._resolver = resolver
        if resolver is not None and not isinstance(resolver, Resolver):
            raise UsageError(f"resolver: {type(resolver).__name__} has no method resolve")
        self._local_address = (local_address, 0) if isinstance(local_address, str) else local_address
        self._uds = os.fspath(uds) if uds is not None else None
        self._proxies = _proxies(proxy, uds is not None, transport is not None, trust_env)
        self._default_encoding = default_encoding
        self._json_encoder = json_encoder
        self._json_decoder = json_decoder or loads
        self._raise_for_status = raise_for_status

    @property
    def headers(self) -> CIMultiDict[str]:
        """Fields of every request, unless it has its own of the same name."""
        return self._headers

    @headers.setter
    def headers(self, value: HeadersInput) -> None:
        self._headers = make_headers(value)

    @property
    def cookies(self) -> Cookies:
        """The client's cookies by their names; its ``jar`` is the `CookieJar`."""
        from aiosock.message.cookies import Cookies

        return Cookies(self._keeper.open_jar())

    @property
    def timeout(self) -> Timeout:
        """How long requests may take, unless they say otherwise."""
        return self._timeout

    @timeout.setter
    def timeout(self, value: Timeout | float | None) -> None:
        self._timeout = as_timeout(value)

    # Requests

    @_coroutine_function
    def request(self, method: str, url: str | URL, **options: Unpack[RequestOptions]) -> Answer:
        """
        Send a request, read the whole answer, and return it.

        Args:
            method: A token, such as ``"GET"``.
            url: Absolute, or appended to ``base_url``.
            params: Appended to the URL's query, after the client's.
            headers: Fields; they take the place of the client's of the same name.
            cookies: Sent with this request, beside the client's; they take the place of those of the same name.
            content: The body: bytes, str, a binary file object, or a sync or async iterable of bytes.
            data: The body as a form.
            files: The body as a multipart form: a mapping or pairs of names and contents, or tuples of filename,
                content, content type and headers; the fields of ``data`` come first.
            json: The body as a JSON value.
            auth: As for the client, for this request, whose Authorization it replaces; None for none.
            timeout: As for the client, for this request.
            follow_redirects: As for the client, for this request.
            proxy: The URL of a proxy, or a `Proxy`, for this request; None to connect directly.
            middleware: More of them, inside of the client's.
            on_informational: Called with each 1xx answer as it arrives.
            extensions: What travels with the request, see `NetworkTransport.send`.

        Raises:
            InvalidURL, InvalidHeader, UsageError: The request cannot be made; nothing was sent.
            RequestError: It failed; ``.request`` says which.
            HTTPStatusError: A 4xx or 5xx, where ``raise_for_status`` is set.
        """
        return self._send((method, url, options), False)

    @_coroutine_function
    def get(self, url: str | URL, **options: Unpack[RequestOptions]) -> Answer:
        """Send a GET request; see `request`."""
        return self._send(("GET", url, options), False)

    @_coroutine_function
    def head(self, url: str | URL, **options: Unpack[RequestOptions]) -> Answer:
        """Send a HEAD request; see `request`."""
        return self._send(("HEAD", url, options), False)

    @_coroutine_function
    def options(self, url: str | URL, **options: Unpack[RequestOptions]) -> Answer:
        """Send an OPTIONS request; see `request`."""
        return self._send(("OPTIONS", url, options), False)

    @_coroutine_function
    def post(self, url: str | URL, **options: Unpack[RequestOptions]) -> Answer:
        """Send a POST request; see `request`."""
        return self._send(("POST", url, options), False)

    @_coroutine_function
    def put(self, url: str | URL, **options: Unpack[RequestOptions]) -> Answer:
        """Send a PUT request; see `request`."""
        return self._send(("PUT", url, options), False)

    @_coroutine_function
    def patch(self, url: str | URL, **options: Unpack[RequestOptions]) -> Answer:
        """Send a PATCH request; see `request`."""
        return self._send(("PATCH", url, options), False)

    @_coroutine_function
    def delete(self, url: str | URL, **options: Unpack[RequestOptions]) -> Answer:
        """Send a DELETE request; see `request`."""
        return self._send(("DELETE", url, options), False)

    @_coroutine_function
    def query(self, url: str | URL, **options: Unpack[RequestOptions]) -> Answer:
        """Send a QUERY request, a safe one with a body; see `request`."""
        return self._send(("QUERY", url, options), False)

    def stream(self, method: str, url: str | URL, **options: Unpack[RequestOptions]) -> StreamContext:
        """
        Send a request, and give the response as soon as its head is there::

            async with client.stream("GET", url) as response:
                async for chunk in response.iter_bytes():
                    ...

        At the end of the block what is left of the body is given up. ``Timeout.total`` bounds the time to the head,
        the other timeouts go on.

        Args and raises: as `request`.
        """
        return StreamContext(self, self._build(method, url, options))

    def events(
        self,
        url: str | URL,
        *,
        method: str = "GET",
        last_event_id: str = "",
        reconnect: bool | None = None,
        attempts: int | None = None,
        max_event_bytes: int | None = MAX_EVENT_BYTES,
        **options: Unpack[RequestOptions],
    ) -> EventStream:
        """
        Read server-sent events, and reconnect when the connection is lost::

            async with client.events(url) as stream:
                async for event in stream:
                    print(event.event, event.data)

        The first connection is made on entering, and has one try. Later ones follow when the stream ends, the network
        fails, or the server answers 429, 500, 502, 503 or 504: after what ``retry:`` said, 3 seconds where it said
        nothing, or ``Retry-After`` if that is more (but not more than a day); while failures repeat, after a time that
        grows up to a minute. Each names the last event's ID. The stream is over for good with 204 (No Content),
        `EventStream.close`, any other error, and a certificate that is not trusted.

        ``Timeout.read`` bounds the silence of a stream, whose comments count as sound: 30 seconds unless you say
        otherwise. What has been silent for longer is taken for lost; servers that are silent for longer want
        ``timeout=Timeout(read=None)``. ``Timeout.total`` bounds the time to each response's head.

        Args:
            url: As for `request`.
            method: As for `request`.
            last_event_id: The ID of the last event seen, to take up an earlier stream.
            reconnect: False for one connection, whose end is the stream's, and whose errors are raised; True to
                reconnect whatever the method is. Left out, GET and other safe methods reconnect, and the rest (POST,
                say), and a body that can be read only once, do not.
            attempts: How many connections in a row may fail before the error is raised; None for no bound. One that
                brought an event, came to its end or just fell silent has not failed.
            max_event_bytes: The most that one event, or one line, may take up; None for no limit.
            options: As for `request`.

        Raises:
            HTTPStatusError: A status other than 200 and 204, on entering or, if it is none of the above, later.
            RemoteProtocolError: The Content-Type is not text/event-stream; `Response.iter_events` does not ask.
            ContentTooLarge: An event passes the limit (raised by the iteration).
            RequestError: It failed, and is not tried again.
            UsageError: As `request`; also for reconnecting with a body that can be read only once.
        """
        from aiosock.client.events import EventStream

        headers = make_headers(options.get("headers"))
        headers.setdefault("Accept", "text/event-stream")
        headers.setdefault("Cache-Control", "no-store")
        options["headers"] = headers
        return EventStream(
            partial(self._send, stream=True),
            self._build(method, url, options),
            last_event_id=last_event_id,
            reconnect=reconnect,
            attempts=attempts,
            max_event_bytes=max_event_bytes,
        )

    def build_request(self, method: str, url: str | URL, **options: Unpack[RequestOptions]) -> Request:
        """Return the request that `request` would send, to be changed with `Request.replace` and given to `send`."""
        return self._build(method, url, options)

    async def send(self, request: Request, *, stream: bool = False) -> Response:
        """
        Send a request that was built before.

        Args:
            request: Of `build_request`, or made by hand; then none of the client's defaults are added.
            stream: Return as soon as the head is there; the response is then read, or closed, by you.

        Raises:
            As `request`.
        """
        # A copy: the request is the user's, and may be sent again.
        request = request.replace()
        request.extensions["timeout"] = as_timeout(request.extensions.get("timeout", self._timeout))
        return await self._send(request, stream)

    def _build(self, method: str, url: str | URL, options: RequestOptions) -> Request:
        text = url if isinstance(url, str) else urls.text_of(url)
        if self._base_url:
            text = urls.join_base(self._base_url, text)
        if self.params is not None:
            text = urls.append_params(text, self.params)
        headers = self._headers.copy()
        if not options:
            request = assemble(method, text, headers, {"timeout": self._timeout})
            if self._auth is not None or self._keeper.jar is not None:
                self._personalise(request, UNSET)
            return request
        extensions: dict[str, Any] = dict(options.get("extensions") or ())
        timeout = options.get("timeout", UNSET)
        extensions["timeout"] = self._timeout if timeout is UNSET else as_timeout(timeout)
        if "follow_redirects" in options:
            extensions["follow_redirects"] = options["follow_redirects"]
        if "on_informational" in options:
            extensions["on_informational"] = options["on_informational"]
        if "proxy" in options:
            extensions["proxy"] = _proxy(options["proxy"])
        if "middleware" in options:
            extensions["middleware"] = _middlewares(options["middleware"])
        own = options.get("headers")
        if own is not None:
            _override(headers, make_headers(own))
        params = options.get("params")
        if params is not None:
            text = urls.append_params(text, params)
        content, data, json = options.get("content"), options.get("data"), options.get("json")
        files = options.get("files")
        request = assemble(method, text, headers, extensions, content, data, json, self._json_encoder, files)
        cookies = options.get("cookies")
        if cookies is not None:
            from aiosock.message.cookies import cookies_for

            extensions["cookies"] = cookies_for(cookies, request.location)
        self._personalise(request, options.get("auth", UNSET))
        return request

    def _personalise(self, request: Request, auth: Any) -> None:
        """
        Add what stays with the origin of the request: its authentication, or the client's, and the client's cookies.

        Redirects take this off a request that leads to another origin.
        """
        extensions = request.extensions
        if auth is not UNSET and (given := as_auth(auth)) is not None:
            extensions["auth"] = given
        if self._base_origin is not None and request.location.origin != self._base_origin:
            return
        if auth is UNSET and self._auth is not None and AUTHORIZATION not in request.headers:
            extensions["auth"] = self._auth
        jar = self._keeper.jar
        if jar is not None and jar.unbound:
            extensions["cookies"] = {**jar.unbound, **extensions.get("cookies", {})}

    async def _send(self, request: Request | tuple[str, str | URL, RequestOptions], stream: bool) -> Response:
        """Send a request, or one built of method, URL and options."""
        if isinstance(request, tuple):
            request = self._build(*request)
        chain = self._chain
        if self._closed or asyncio.get_running_loop() is not self._loop or self._forks != _forks:
            chain = self._open()
        extensions = request.extensions
        if "middleware" in extensions:
            # Composing is cheap.
            chain = self._compose([*self._middleware, *extensions["middleware"]])
        total = extensions["timeout"].total
        if total is not None:
            extensions["deadline"] = asyncio.get_running_loop().time() + total
        response: Response | None = None
        try:
            response = await chain(request)
            if response.request is None:
                response.request = request
            response.default_encoding = self._default_encoding
            response.json_decoder = self._json_decoder
            response.max_content_bytes = self._limits.max_content_bytes
            if stream:
                response.lift_deadline()
            elif not response.read_ready():
                await response.read()
            if self._raise_for_status:
                response.raise_for_status()
        except BaseException as error:
            if isinstance(error, RequestError) and error.request is None:
                error.request = request
            if response is not None:
                response.abort()
            raise
        return response

    # The loop, the process, the end

    def _open(self) -> Send:
        """
        Bind the client to the loop and the process in which it is used first; refuse others.

        Raises:
            ClientClosed: It was closed.
            UsageError: Another loop, or another process: its connections belong to where they were made.
        """
        if self._closed:
            raise ClientClosed("the client is closed")
        loop = asyncio.get_running_loop()
        if self._transport is None:
            self._loop = loop
            self._process = os.getpid()
            self._forks = _forks
            self._transport = self._given_transport or self._network()
            self._carry = self._transport.send
            self._chain = self._compose(self._middleware)
        elif self._process != os.getpid():
            raise UsageError(
                "the client was used in the process that this one was forked from; make one of its own here"
            )
        elif loop is not self._loop:
            raise UsageError("the client belongs to another event loop; make one for each")
        return self._chain

    def _compose(self, own: Sequence[Middleware]) -> Send:
        return arrange(self._redirects, own, self._keeper, self._carry)

    def _network(self) -> NetworkTransport:
        return NetworkTransport(
            limits=self._limits,
            resolver=self._resolver or SystemResolver(),
            tls=self._tls,
            local_address=self._local_address,
            uds=self._uds,
            proxies=self._proxies,
        )

    @property
    def pool(self) -> PoolStats:
        """How many connections are idle, active and dialling, how many requests wait, and what there was so far."""
        return self._transport.pool.stats() if isinstance(self._transport, NetworkTransport) else PoolStats()

    async def close(self) -> None:
        """Close all connections, and end what is under way; takes a bounded time. A closed client stays closed."""
        if self._closed:
            return
        self._closed = True
        transport = self._transport or self._given_transport
        # In a forked child the connections are the parent's, and are left alone.
        if transport is not None and self._process in (None, os.getpid()):
            await transport.close()

    def __del__(self) -> None:
        if getattr(self, "_closed", True) or self._transport is None or self._process != os.getpid():
            return
        if isinstance(self._transport, NetworkTransport):
            self._transport.pool.close_now()
        warnings.warn(
            "a client was not closed; use 'async with', or close()", ResourceWarning, source=self, stacklevel=1
        )

    async def __aenter__(self) -> Client:
        self._open()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"<Client {'closed' if self._closed else self.pool}>"


async def _unbound(request: Request) -> Response:
    """Stand in for the chain of a client that no loop has used yet."""
    raise UsageError("the client is not bound to an event loop")


class StreamContext:
    """Sends a request on entering, and gives up what is left of the answer on leaving; made by `Client.stream`."""

    __slots__ = ("_client", "_request", "_response")

    def __init__(self, client: Client, request: Request) -> None:
        self._client = client
        self._request = request
        self._response: Response | None = None

    async def __aenter__(self) -> Response:
        self._response = await self._client._send(self._request, True)
        return self._response

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        response, self._response = self._response, None
        if response is None:
            return
        if exc is not None:
            response.abort()
        await response.close()


def _proxies(given: Any, over_uds: bool, over_transport: bool, trust_env: bool) -> Proxies | None:
    """Return what tells of a request which proxy it goes through, None where none does."""
    elsewhere = "a Unix socket" if over_uds else "a transport of one's own" if over_transport else None
    if given is UNSET:
        if elsewhere or not trust_env or not any(name.lower().endswith("_proxy") for name in os.environ):
            return None
        from aiosock.client.proxies import rules_from_environment

        return rules_from_environment(os.environ)
    if given is None:
        return None
    if elsewhere:
        raise UsageError(f"proxy: there is none on the way to {elsewhere}")
    from aiosock.client.proxies import make_rules

    return make_rules(given)


def _proxy(given: str | URL | Proxy | None) -> Proxy | None:
    if given is None:
        return None
    from aiosock.connection.proxy import make_proxy

    return make_proxy(given)


def _middlewares(given: Sequence[Middleware]) -> list[Middleware]:
    if callable(given) or not isinstance(given, Sequence):
        raise UsageError(f"middleware: takes a list of them, not {type(given).__name__}")
    return [as_middleware(one) for one in given]


def _default_headers(own: HeadersInput | None) -> CIMultiDict[str]:
    headers: CIMultiDict[str] = CIMultiDict(
        [(_ACCEPT, "*/*"), (_ACCEPT_ENCODING, accepted_codings()), (_USER_AGENT, f"aiosock/{__version__}")]
    )
    if own is not None:
        _override(headers, make_headers(own))
    return headers


def _override(headers: CIMultiDict[str], own: CIMultiDict[str]) -> None:
    """Let fields take the place of those of the same name; repeated ones stay repeated."""
    for field in own:
        headers.popall(field, None)
    headers.extend(own)
