"""
The client: calls become requests, responses come back.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import os
import sys
import warnings
from collections.abc import Callable, Coroutine, Mapping, Sequence
from functools import partial
from json import loads
from time import perf_counter
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias, TypeVar, Unpack

from multidict import CIMultiDict

from aiosock.client.options import (
    UNSET,
    RequestOptions,
    call_extensions,
    check_bool,
    check_extensions,
    check_listener,
    choose_proxies,
    default_headers,
    middlewares,
    override,
)
from aiosock.client.transport import NetworkTransport
from aiosock.config import Limits, Retry, Timeout, as_retry, as_timeout
from aiosock.errors import Attempt, ClientClosed, RequestError, TimeoutException, TotalTimeout, UsageError
from aiosock.message import url as urls
from aiosock.message.body import JSONEncoder
from aiosock.message.iteration import MAX_EVENT_BYTES
from aiosock.message.request import AUTHORIZATION, HeadersInput, Request, assemble, make_headers
from aiosock.message.response import DefaultEncoding, JSONDecoder, Response
from aiosock.middleware.auth import Auth, AuthInput, as_auth
from aiosock.middleware.chain import Lifetime, Middleware, Send
from aiosock.middleware.cookies import CookieKeeper
from aiosock.middleware.order import arrange
from aiosock.middleware.redirect import Redirects
from aiosock.network.dns import Resolver, SystemResolver
from aiosock.network.trust import Cert, TLSSettings, Verify
from aiosock.pool.pool import PoolStats

# What many clients do without is imported when it is first used.
if TYPE_CHECKING:
    from yarl import URL

    from aiosock.client.events import EventStream
    from aiosock.client.proxies import ProxyInput
    from aiosock.connection.guard import Guard
    from aiosock.message.cookies import Cookies, CookiesInput
    from aiosock.message.trace import Listener
    from aiosock.middleware.retry import Retries

F = TypeVar("F", bound=Callable[..., Any])

GRACE_SECONDS: Final = 0.05

Answer: TypeAlias = Coroutine[Any, Any, Response]
"""What a request is awaited for."""


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
        retry: A `Retry`, or a number of attempts: what fails in a way that may pass is sent again; None for never.
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
        on_event: Called with what happens to every request, as it happens; `aiosock.message.trace` has the events.
            Where the logger ``aiosock.client`` is at DEBUG when the client is made, they are written there.
        guard: A `Guard`: which hosts may be connected to. Proxies of the environment are then not used, others only if
            it allows them.
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

    # What is set on a client and changes nothing would be a mistake that nobody is told of.
    __slots__ = (
        "__weakref__",
        "_auth",
        "_base_origin",
        "_base_url",
        "_carry",
        "_chain",
        "_closed",
        "_default_encoding",
        "_forks",
        "_given_transport",
        "_guard",
        "_headers",
        "_json_decoder",
        "_json_encoder",
        "_keeper",
        "_lifetime",
        "_limits",
        "_local_address",
        "_loop",
        "_middleware",
        "_on_event",
        "_process",
        "_proxies",
        "_raise_for_status",
        "_redirects",
        "_resolver",
        "_retries",
        "_retry",
        "_timeout",
        "_tls",
        "_transport",
        "_uds",
        "params",
    )

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
        retry: Retry | int | None = None,
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
        on_event: Listener | None = None,
        guard: Guard | None = None,
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
        self._headers = default_headers(headers)
        self.params = params
        self._timeout = Timeout() if timeout is UNSET else as_timeout(timeout)
        self._limits = limits if limits is not None else Limits()
        if not isinstance(self._limits, Limits):
            raise UsageError(f"limits: takes a Limits, not {type(limits).__name__}")
        if isinstance(max_redirects, bool) or not isinstance(max_redirects, int) or max_redirects < 0:
            raise UsageError(f"max_redirects: must be a whole number from 0 on, not {max_redirects!r}")
        self._redirects = Redirects(check_bool("follow_redirects", follow_redirects), max_redirects)
        self._middleware = middlewares(middleware)
        self._retry = as_retry(retry)
        self._retries: Retries | None = None
        self._lifetime = Lifetime()
        check_listener(on_event)
        if on_event is not None or logging.getLogger("aiosock.client").isEnabledFor(logging.DEBUG):
            from aiosock.message.trace import logged

            on_event = logged(on_event)
        self._on_event = on_event
        self._keeper = CookieKeeper()
        if cookies is not None:
            self.cookies = cookies
        self._auth = as_auth(auth)
        self._tls = TLSSettings(verify, cert, trust_env)
        self._resolver = resolver
        if resolver is not None and not isinstance(resolver, Resolver):
            raise UsageError(f"resolver: {type(resolver).__name__} has no method resolve")
        self._local_address = (local_address, 0) if isinstance(local_address, str) else local_address
        self._uds = os.fspath(uds) if uds is not None else None
        self._proxies = choose_proxies(proxy, uds is not None, transport is not None, trust_env and guard is None)
        self._guard = guard
        if guard is not None:
            self._refuse_what_is_unguarded(guard)
        self._default_encoding = default_encoding
        self._json_encoder = json_encoder
        self._json_decoder = json_decoder or loads
        self._raise_for_status = raise_for_status

    def _refuse_what_is_unguarded(self, guard: Guard) -> None:
        from aiosock.connection.guard import Guard

        if not isinstance(guard, Guard):
            raise UsageError(f"guard: takes a Guard, not {type(guard).__name__}")
        if self._uds is not None:
            raise UsageError(f"guard: cannot be kept over a Unix socket, whatever the URL's host (uds={self._uds!r})")
        if self._given_transport is not None:
            raise UsageError(
                f"guard: cannot be kept by a transport of one's own, {type(self._given_transport).__name__}"
            )
        if self._proxies is not None and not guard.allow_proxy:
            raise UsageError("guard: refuses proxy=, since names are then resolved elsewhere, unless allow_proxy=True")

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

    @cookies.setter
    def cookies(self, value: CookiesInput) -> None:
        from aiosock.message.cookies import as_jar

        self._keeper.jar = as_jar(value)

    @property
    def auth(self) -> Auth | None:
        """What authenticates requests that have no Authorization."""
        return self._auth

    @auth.setter
    def auth(self, value: AuthInput | None) -> None:
        self._auth = as_auth(value)

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
            proxy: As for the client, for this request; None to connect directly.
            guard: A `Guard` that counts beside the client's.
            retry: As for the client, for this request; None for none.
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
        grows up to a minute; never within half a second. Each names the last event's ID. The client's ``retry`` does
        not apply. The stream is over for good with 204 (No Content), `EventStream.close`, any other error, and a
        certificate that is not trusted.

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
                brought an event or just fell silent has not failed; one that ended without any event has.
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
        request = request.replace(extensions=check_extensions(request.extensions))
        request.extensions["timeout"] = as_timeout(request.extensions.get("timeout", self._timeout))
        # Of an earlier call.
        request.extensions.pop("deadline", None)
        if self._on_event is not None:
            self._observe(request)
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
            return request if self._on_event is None else self._observe(request)
        extensions = call_extensions(options, self._timeout)
        own = options.get("headers")
        if own is not None:
            override(headers, make_headers(own))
        params = options.get("params")
        if params is not None:
            text = urls.append_params(text, params)
        content, data, json = options.get("content"), options.get("data"), options.get("json")
        files = options.get("files")
        request = assemble(method, text, headers, extensions, content, data, json, self._json_encoder, files)
        self._personalise(request, options.get("auth", UNSET))
        return request if self._on_event is None else self._observe(request)

    def _observe(self, request: Request) -> Request:
        if "on_event" not in request.extensions and self._on_event is not None:
            from aiosock.message.trace import listening

            request.extensions.update(listening(self._on_event))
        return request

    def _personalise(self, request: Request, auth: Any) -> None:
        """
        Add what stays with the origin of the request: its authentication, or the client's, and the client's cookies.

        A redirect, or `Request.replace`, that leads to another origin takes this off.
        """
        extensions = request.extensions
        if auth is None:
            if request.location.userinfo is not None:
                request.withdraw_userinfo()
        elif auth is not UNSET:
            extensions["auth"] = as_auth(auth)
        own = extensions.get("cookies")
        default = {} if own is None or isinstance(own, Mapping) else own.unbound
        if self._base_origin is None or request.location.origin == self._base_origin:
            if auth is UNSET and self._auth is not None and AUTHORIZATION not in request.headers:
                extensions["auth"] = self._auth
            jar = self._keeper.jar
            if jar is not None and jar.unbound:
                default = {**jar.unbound, **default}
        if default:
            extensions["default_cookies"] = default
            extensions.setdefault("cookies", {})

    async def _send(self, request: Request | tuple[str, str | URL, RequestOptions], stream: bool) -> Response:
        """Send a request, or one built of method, URL and options."""
        if isinstance(request, tuple):
            request = self._build(*request)
        chain = self._chain
        if self._closed or asyncio.get_running_loop() is not self._loop or self._forks != _forks:
            chain = self._open()
        extensions = request.extensions
        if "middleware" in extensions or "retry" in extensions:
            # Composing is cheap.
            chain = self._compose(extensions.get("middleware") or (), "retry" in extensions)
        total = extensions["timeout"].total
        if total is not None:
            deadline = extensions["deadline"] = asyncio.get_running_loop().time() + total
            if self._middleware or "auth" in extensions or "middleware" in extensions or self._retry is not None:
                chain = partial(_send_by, deadline, chain)
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
            if isinstance(error, RequestError):
                error.request = error.request or request
                if response is not None and not error.attempts:
                    error.attempts = response.extensions.get("attempts", ())
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
            if self._given_transport is not None:
                self._transport = self._given_transport
                self._carry = partial(_carry, self._given_transport)
            else:
                self._transport = self._network()
                self._carry = self._transport.send
            self._chain = self._compose()
        elif self._process != os.getpid():
            raise UsageError(
                "the client was used in the process that this one was forked from; make one of its own here"
            )
        elif loop is not self._loop:
            raise UsageError("the client belongs to another event loop; make one for each")
        return self._chain

    def _compose(self, own: Sequence[Middleware] = (), retries: bool = False) -> Send:
        """Return the chain with what one request adds: middlewares of its own, and a word on retries."""
        if retries or self._retry is not None:
            if self._retries is None:
                from aiosock.middleware.retry import Retries

                # One for all requests: they share its budgets.
                self._retries = Retries(self._retry, on_retry=_tell_retry)
            own = [self._retries, *self._middleware, *own]
        else:
            own = [*self._middleware, *own]
        return arrange(self._redirects, own, self._keeper, self._lifetime, self._carry)

    def _network(self) -> NetworkTransport:
        return NetworkTransport(
            limits=self._limits,
            resolver=self._resolver or SystemResolver(),
            tls=self._tls,
            local_address=self._local_address,
            uds=self._uds,
            proxies=self._proxies,
            guard=self._guard,
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
        self._lifetime.end()
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


def _tell_retry(request: Request, attempt: Attempt, delay: float) -> None:
    listener = request.extensions.get("on_event")
    if listener is not None:
        from aiosock.message.trace import RequestRetried, tell

        tell(listener, RequestRetried(request, perf_counter(), attempt, delay))


async def _carry(transport: Transport, request: Request) -> Response:
    """Send by a user's transport, which is held to its promise, and is asked for none that only the network keeps."""
    for name in ("guard", "proxy"):
        if request.extensions.get(name) is not None:
            raise UsageError(f"{name}: there is none on the way to a transport of one's own")
    response = await transport.send(request)
    if not isinstance(response, Response):
        raise UsageError(f"{type(transport).__name__}.send must return a Response, not {type(response).__name__}")
    return response


async def _send_by(deadline: float, chain: Send, request: Request) -> Response:
    """Send within a time that also bounds what the user's own functions wait for."""
    try:
        # The network's own deadlines come first, and know what it was doing.
        async with asyncio.timeout_at(deadline + GRACE_SECONDS):
            return await chain(request)
    except TimeoutError as error:
        if isinstance(error, TimeoutException):
            raise
        total = request.extensions["timeout"].total
        raise TotalTimeout(f"the request took longer than {total} s in all; it was in a middleware or auth") from error


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
