"""
What a client adds to its requests: a call of a method becomes a `Request`.

Nothing here sends anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from multidict import CIMultiDict

from aiosock.client.options import (
    UNSET,
    RequestOptions,
    call_extensions,
    check_extensions,
    override,
)
from aiosock.config import Timeout, as_timeout
from aiosock.errors import InvalidURL, UsageError
from aiosock.message import url as urls
from aiosock.message.body import JSONEncoder
from aiosock.message.request import AUTHORIZATION, Request, assemble, make_headers
from aiosock.middleware.auth import Auth, as_auth
from aiosock.middleware.cookies import CookieKeeper

if TYPE_CHECKING:
    from yarl import URL

    from aiosock.message.trace import Listener


class Defaults:
    """
    What all requests of a client have in common, unless one says otherwise.

    Args:
        base_url: A prefix for the URLs of requests that are not absolute.
        headers: Fields of every request, unless it has its own of the same name.
        params: Appended to the query of every URL.
        auth: What authenticates requests that have no Authorization.
        timeout: How long requests may take.
        on_event: What listens; None where nobody does.
        json_encoder: What makes bytes or str of ``json=``.
        keeper: Has the client's cookies.

    Raises:
        InvalidURL: ``base_url`` is not an absolute http or https URL.
    """

    __slots__ = (
        "_base_origin",
        "_base_url",
        "_json_encoder",
        "_keeper",
        "_on_event",
        "auth",
        "headers",
        "params",
        "timeout",
    )

    def __init__(
        self,
        *,
        base_url: str | URL,
        headers: CIMultiDict[str],
        params: urls.Params | None,
        auth: Auth | None,
        timeout: Timeout,
        on_event: Listener | None,
        json_encoder: JSONEncoder | None,
        keeper: CookieKeeper,
    ) -> None:
        self._base_url, self._base_origin = _base(base_url)
        self.headers = headers
        self.params = params
        self.timeout = timeout
        self.auth = auth
        self._on_event = on_event
        self._json_encoder = json_encoder
        self._keeper = keeper

    def build(self, method: str, url: str | URL, options: RequestOptions) -> Request:
        """
        Return the request that a call means.

        Args and raises: as `Client.request`.
        """
        text = url if isinstance(url, str) else urls.text_of(url)
        if self._base_url:
            text = urls.join_base(self._base_url, text)
        if self.params is not None:
            text = urls.append_params(text, self.params)
        headers = self.headers.copy()
        if not options:
            request = assemble(method, text, headers, {"timeout": self.timeout})
            if self.auth is not None or self._keeper.jar is not None:
                self._personalise(request, UNSET)
            return request if self._on_event is None else self._observe(request)
        extensions = call_extensions(options, self.timeout)
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

    def take_over(self, request: Request) -> Request:
        """
        Return a copy of a request that was built before, to be sent as if it were new: it is the user's, and may be
        sent again.

        Raises:
            UsageError: It is no request, or one of its extensions cannot be used.
        """
        if not isinstance(request, Request):
            raise UsageError(f"send: takes a Request, not {type(request).__name__}")
        request = request.replace(extensions=check_extensions(request.extensions))
        request.extensions["timeout"] = as_timeout(request.extensions.get("timeout", self.timeout))
        # Of an earlier call.
        request.extensions.pop("deadline", None)
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
            if auth is UNSET and self.auth is not None and AUTHORIZATION not in request.headers:
                extensions["auth"] = self.auth
            jar = self._keeper.jar
            if jar is not None and jar.unbound:
                default = {**jar.unbound, **default}
        if default:
            extensions["default_cookies"] = default
            extensions.setdefault("cookies", {})


def _base(url: str | URL) -> tuple[str, tuple[str, str, int] | None]:
    """Return a ``base_url`` as text, and its origin, None where there is none."""
    try:
        text = url if isinstance(url, str) else urls.text_of(url)
        return text, urls.parse_url(text).origin if text else None
    except InvalidURL as error:
        raise InvalidURL(f"base_url: {error}") from error
