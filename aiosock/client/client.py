"""
The client: calls become requests, responses come back.
"""

from __future__ import annotations

import asyncio
import inspect
import os
import sys
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from json import loads
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar, Unpack

from multidict import CIMultiDict

from aiosock.client.defaults import Defaults
from aiosock.client.options import UNSET, RequestOptions, check_bool, check_function, middlewares
from aiosock.client.sender import Sender, StreamContext, warn_unclosed
from aiosock.client.settings import (
    check_encoding,
    check_limits,
    check_max_redirects,
    check_params,
    check_resolver,
    check_transport,
    check_way,
    choose_listener,
    choose_proxies,
    default_headers,
    own_address,
    socket_path,
)
from aiosock.client.transport import NetworkTransport, Transport
from aiosock.config import Limits, Retry, Timeout, as_retry, as_timeout
from aiosock.message import url as urls
from aiosock.message.body import JSONEncoder
from aiosock.message.iteration import MAX_EVENT_BYTES
from aiosock.message.late import late
from aiosock.message.request import HeadersInput, Request, make_headers
from aiosock.message.response import DefaultEncoding, JSONDecoder, Response
from aiosock.middleware.auth import Auth, AuthInput, as_auth
from aiosock.middleware.chain import Middleware
from aiosock.middleware.cookies import CookieKeeper
from aiosock.middleware.redirect import Redirects
from aiosock.network.dns import Resolver
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
else:
    URL = late("yarl", "URL")
    EventStream = late("aiosock.client.events", "EventStream")
    ProxyInput = late("aiosock.client.proxies", "ProxyInput")
    Guard = late("aiosock.connection.guard", "Guard")
    Cookies = late("aiosock.message.cookies", "Cookies")
    CookiesInput = late("aiosock.message.cookies", "CookiesInput")
    Listener = late("aiosock.message.trace", "Listener")

F = TypeVar("F", bound=Callable[..., Any])

Answer: TypeAlias = Coroutine[Any, Any, Response]
"""What a request is awaited for."""


def _coroutine_function(method: F) -> F:
    """Mark a function that returns a coroutine as what it is to its callers."""
    if sys.version_info >= (3, 12):
        return inspect.markcoroutinefunction(method)
    # Python 3.11 has no other way to say so.
    method._is_coroutine = asyncio.coroutines._is_coroutine  # type: ignore[attr-defined]  # known to asyncio alone
    return method


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
    __slots__ = ("__weakref__", "_build", "_defaults", "_keeper", "_send", "_sender")

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
        self._keeper = CookieKeeper()
        if cookies is not None:
            self.cookies = cookies
        self._defaults = Defaults(
            base_url=base_url,
            headers=default_headers(headers),
            params=check_params(params),
            auth=as_auth(auth),
            timeout=Timeout() if timeout is UNSET else as_timeout(timeout),
            on_event=choose_listener(on_event),
            json_encoder=check_function("json_encoder", json_encoder),
            keeper=self._keeper,
        )
        limits = check_limits(limits)
        transport = check_transport(transport)
        path = socket_path(uds)
        trust_env = check_bool("trust_env", trust_env)
        proxies = choose_proxies(proxy, path is not None, transport is not None, trust_env and guard is None)
        check_way(guard, path, transport, proxies)
        network = partial(
            NetworkTransport,
            limits=limits,
            resolver=check_resolver(resolver),
            tls=TLSSettings(verify, cert, trust_env),
            local_address=own_address(local_address),
            uds=path,
            proxies=proxies,
            guard=guard,
        )
        self._sender = Sender(
            self._defaults.build,
            transport,
            network,
            redirects=Redirects(check_bool("follow_redirects", follow_redirects), check_max_redirects(max_redirects)),
            middleware=middlewares(middleware),
            retry=as_retry(retry),
            keeper=self._keeper,
            default_encoding=check_encoding(default_encoding),
            json_decoder=check_function("json_decoder", json_decoder) or loads,
            max_content_bytes=limits.max_content_bytes,
            raise_for_status=check_bool("raise_for_status", raise_for_status),
        )
        # The short roads.
        self._build = self._defaults.build
        self._send = self._sender.send

    @property
    def headers(self) -> CIMultiDict[str]:
        """Fields of every request, unless it has its own of the same name."""
        return self._defaults.headers

    @headers.setter
    def headers(self, value: HeadersInput) -> None:
        self._defaults.headers = make_headers(value)

    @property
    def params(self) -> urls.Params | None:
        """Appended to the query of every URL."""
        return self._defaults.params

    @params.setter
    def params(self, value: urls.Params | None) -> None:
        self._defaults.params = check_params(value)

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
        return self._defaults.auth

    @auth.setter
    def auth(self, value: AuthInput | None) -> None:
        self._defaults.auth = as_auth(value)

    @property
    def timeout(self) -> Timeout:
        """How long requests may take, unless they say otherwise."""
        return self._defaults.timeout

    @timeout.setter
    def timeout(self, value: Timeout | float | None) -> None:
        self._defaults.timeout = as_timeout(value)

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
        return StreamContext(self._sender, self._build(method, url, options))

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
        return await self._send(self._defaults.take_over(request), stream)

    # The end

    @property
    def pool(self) -> PoolStats:
        """How many connections are idle, active and dialling, how many requests wait, and what there was so far."""
        return self._sender.stats()

    async def close(self) -> None:
        """Close all connections, and end what is under way; takes a bounded time. A closed client stays closed."""
        await self._sender.close()

    async def __aenter__(self) -> Client:
        self._sender.open()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    def __del__(self) -> None:
        sender = getattr(self, "_sender", None)
        if sender is None or not sender.forgotten():
            return
        # Who keeps the warning keeps no connections: what sends lives on only where a request is still under way.
        del sender, self._sender, self._send
        warn_unclosed(self)

    def __repr__(self) -> str:
        # Who keeps the warning about one that was not closed may look at what is left of it.
        sender = getattr(self, "_sender", None)
        return f"<Client {'closed' if sender is None or sender.closed else self.pool}>"
