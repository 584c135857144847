"""
A request: what the user means, before it becomes bytes. It is not changed once made; `replace` makes another.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from types import EllipsisType
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from multidict import CIMultiDict, istr

from aiosock.errors import InvalidHeader, UsageError
from aiosock.message import body as bodies
from aiosock.message import url as urls
from aiosock.message.body import Body, BytesBody, Content, FormData, JSONEncoder
from aiosock.message.late import late

if TYPE_CHECKING:
    from yarl import URL

    from aiosock.message.multipart import Files
else:
    URL = late("yarl", "URL")
    Files = late("aiosock.message.multipart", "Files")

HeadersInput: TypeAlias = Mapping[str, str] | Iterable[tuple[str, str]]

CONTENT_LENGTH: Final = istr("Content-Length")
TRANSFER_ENCODING: Final = istr("Transfer-Encoding")
CONTENT_TYPE: Final = istr("Content-Type")
AUTHORIZATION: Final = istr("Authorization")

# Methods that usually carry content say so also when there is none (RFC 9110, 8.6).
METHODS_WITH_CONTENT: Final = frozenset({"POST", "PUT", "PATCH"})
# What a request carries for one origin, and never to another.
BOUND_FIELDS: Final = ("Authorization", "Cookie", "Proxy-Authorization", "Host")
BOUND_EXTENSIONS: Final = ("auth", "cookies", "cookie_field", "default_cookies", "server_name")
# What concerns the call alone, and is not pickled with a request.
_CALL_EXTENSIONS: Final = frozenset(
    {*BOUND_EXTENSIONS, "call", "deadline", "lifetime", "middleware", "on_event", "proxy", "retry"}
)
# RFC 9110, 10.1.1 and 6.6.2.
_ONLY_WITH_CONTENT: Final = frozenset({"expect", "trailer"})


class Request:
    """
    An HTTP request.

    Args:
        method: A token; custom ones are sent as they are written.
        url: An absolute http or https URL.
        headers: Fields as a mapping or as pairs, in the order in which they are sent.
        params: Appended to the URL's query.
        content: The body: bytes, str, a binary file object, or a sync or async iterable of bytes.
        data: The body as a form.
        json: The body as any JSON value.
        extensions: What travels with the request for those who know it.
        json_encoder: What makes bytes or str of ``json``.
        files: The body as a multipart form (RFC 7578), see `aiosock.message.multipart`; the fields of ``data`` come
            first. Where it is empty it counts as left out.

    Attributes:
        url: The URL as a `yarl.URL`, without user information, which has become an Authorization field.
        target: The request target as it goes on the wire (RFC 9112, 3.2).
        headers: A `multidict.CIMultiDict` of its own.
        body: The body as a `Body`, None where there is none.

    Raises:
        InvalidURL: The URL cannot be requested.
        InvalidHeader: A field name or value that is not a str.
        UsageError: Contradicting or unusable arguments.
    """

    __slots__ = ("body", "extensions", "headers", "location", "method", "target")

    def __init__(
        self,
        method: str,
        url: str | URL,
        *,
        headers: HeadersInput | None = None,
        params: urls.Params | None = None,
        content: Content | None = None,
        data: FormData | None = None,
        json: Any = None,
        extensions: Mapping[str, Any] | None = None,
        json_encoder: JSONEncoder | None = None,
        files: Files | None = None,
    ) -> None:
        self._fill(
            method,
            url if params is None else urls.append_params(str(url), params),
            make_headers(headers),
            _make_extensions(extensions),
            content,
            data,
            json,
            json_encoder,
            files,
        )

    def _fill(
        self,
        method: str,
        url: str | URL,
        headers: CIMultiDict[str],
        extensions: dict[str, Any],
        content: Content | None,
        data: FormData | None,
        json: Any,
        json_encoder: JSONEncoder | None,
        files: Files | None,
    ) -> None:
        if not isinstance(method, str):
            raise UsageError(f"method: takes a str, not {type(method).__name__}")
        self.method = method
        location = self.location = urls.parse_url(url)
        self.target = location.target
        self.headers = headers
        self.extensions = extensions
        self.body: Body | None = None
        if content is not None or data is not None or json is not None or files is not None:
            self._set_content(content, data, json, json_encoder or bodies.encode_json, files)
        elif method in METHODS_WITH_CONTENT:
            self._frame()
        if location.userinfo is not None:
            self._authorize(location.userinfo)

    @property
    def url(self) -> URL:
        """The URL, without user information."""
        return self.location.url

    @property
    def content(self) -> Any:
        """
        The body as it was given, bytes where it was given as str, form or JSON; ``b""`` where there is none.

        Of a form with files it is those files.
        """
        if self.body is None:
            return b""
        return self.body.data if type(self.body) is BytesBody else self.body.source

    def replace(
        self,
        *,
        method: str | None = None,
        url: str | URL | None = None,
        target: str | None = None,
        headers: HeadersInput | None = None,
        content: Content | Body | EllipsisType | None = ...,
        extensions: Mapping[str, Any] | None = None,
    ) -> Request:
        """
        Return a changed copy.

        To another origin (scheme, host or port) it takes no credentials along: the fields Authorization, Cookie,
        Proxy-Authorization and Host, and what ``auth=`` and ``cookies=`` said. To send them there all the same, give
        ``headers`` and ``extensions`` too.

        Args:
            method: Another method.
            url: Another URL; the target follows it unless it is given too, and so does Authorization, where the URL
                has user information and the fields have none.
            target: The request target as it is to stand on the wire, ``*`` for OPTIONS, say.
            headers: All fields of the copy; those that frame the body are added where they are missing.
            content: Another body, None for none, left out for the same. The fields that frame a body are set anew;
                with no body, all that describe one are taken out, and of a form with files its Content-Type is.
            extensions: All extensions of the copy.

        Raises:
            The same as making a request.
        """
        new = object.__new__(Request)
        if method is not None and not isinstance(method, str):
            raise UsageError(f"method: takes a str, not {type(method).__name__}")
        new.method = self.method if method is None else method
        new.location = self.location if url is None else urls.parse_url(url)
        new.target = target if target is not None else (self.target if url is None else new.location.target)
        new.headers = make_headers(self.headers if headers is None else headers)
        new.extensions = _make_extensions(self.extensions if extensions is None else extensions)
        if url is not None and new.location.origin != self.location.origin:
            new._unbind(headers is None, extensions is None)
        new.body = self.body
        if not isinstance(content, EllipsisType):
            if new.headers.get(CONTENT_TYPE, "").startswith("multipart/form-data"):
                del new.headers[CONTENT_TYPE]
            for name in (CONTENT_LENGTH, TRANSFER_ENCODING):
                new.headers.popall(name, None)
            if content is None:
                new.body = None
                for field in list(new.headers):
                    if field.lower().startswith("content-") or field.lower() in _ONLY_WITH_CONTENT:
                        new.headers.popall(field, None)
            else:
                new.body = content if isinstance(content, Body) else bodies.make_body(content)
        new._frame()
        if url is not None and new.location.userinfo is not None:
            new._authorize(new.location.userinfo)
        return new

    def _unbind(self, fields: bool, extensions: bool) -> None:
        """Take off what is bound to an origin."""
        for field in BOUND_FIELDS if fields else ():
            self.headers.popall(field, None)
        for extension in BOUND_EXTENSIONS if extensions else ():
            self.extensions.pop(extension, None)

    def withdraw_userinfo(self) -> None:
        """Take off the Authorization that the URL's user information has become."""
        userinfo = self.location.userinfo
        if userinfo is not None and self.headers.get(AUTHORIZATION) == _basic(userinfo):
            del self.headers[AUTHORIZATION]

    def known_body(self) -> bytes | None:
        """Return the body where all of it is there, ``b""`` for none; None where it has to be read."""
        if self.body is None:
            return b""
        return bytes(self.body.data) if isinstance(self.body, BytesBody) else None

    def __getstate__(self) -> tuple[None, dict[str, Any]]:
        state = {name: getattr(self, name) for name in self.__slots__}
        kept = {name: value for name, value in self.extensions.items() if name not in _CALL_EXTENSIONS}
        return None, state | {"extensions": kept}

    def _authorize(self, userinfo: str) -> None:
        if AUTHORIZATION not in self.headers:
            self.headers[AUTHORIZATION] = _basic(userinfo)

    def _set_content(
        self,
        content: Content | None,
        data: FormData | None,
        json: Any,
        encoder: JSONEncoder,
        files: Files | None,
    ) -> None:
        if files is not None and self._set_files(content, data, json, files):
            return
        given = [name for name, value in (("content", content), ("data", data), ("json", json)) if value is not None]
        if len(given) > 1:
            raise UsageError(f"the body is given more than once: {' and '.join(given)}")
        content_type: str | None = None
        if content is not None:
            self.body = bodies.make_body(content)
            content_type = "text/plain; charset=utf-8" if isinstance(content, str) else None
        elif data is not None:
            self.body = BytesBody(data, bodies.encode_form(data))
            content_type = "application/x-www-form-urlencoded"
        elif json is not None:
            encoded = encoder(json)
            if not isinstance(encoded, (str, bytes)):
                raise UsageError(f"json: the encoder must return str or bytes, not {type(encoded).__name__}")
            self.body = BytesBody(json, encoded.encode() if isinstance(encoded, str) else encoded)
            content_type = "application/json"
        if content_type is not None and CONTENT_TYPE not in self.headers:
            self.headers[CONTENT_TYPE] = content_type
        self._frame()

    def _set_files(self, content: Content | None, data: FormData | None, json: Any, files: Files) -> bool:
        """Make a multipart form the body; False where there are no files."""
        # Few requests have files, and all would wait for the import.
        from aiosock.message.multipart import file_pairs, make_multipart

        pairs = file_pairs(files)
        if not pairs:
            return False
        for name, value in (("content", content), ("json", json)):
            if value is not None:
                raise UsageError(f"the body is given more than once: {name} and files")
        own = self.headers.get(CONTENT_TYPE)
        self.body, content_type = make_multipart(files, pairs, data, own)
        if content_type != own:
            self.headers[CONTENT_TYPE] = content_type
        self._frame()
        return True

    def _frame(self) -> None:
        """Say how long the body is, or that its end will tell; what the user declared is left, and held to."""
        if CONTENT_LENGTH in self.headers or TRANSFER_ENCODING in self.headers:
            return
        if self.body is None:
            if self.method in METHODS_WITH_CONTENT:
                self.headers[CONTENT_LENGTH] = "0"
        elif self.body.length is not None:
            self.headers[CONTENT_LENGTH] = str(self.body.length)
        else:
            self.headers[TRANSFER_ENCODING] = "chunked"

    def __repr__(self) -> str:
        return f"<Request {self.method} {self.url.with_query(None).with_fragment(None)}>"


def assemble(
    method: str,
    url: str,
    headers: CIMultiDict[str],
    extensions: dict[str, Any],
    content: Content | None = None,
    data: FormData | None = None,
    json: Any = None,
    json_encoder: JSONEncoder | None = None,
    files: Files | None = None,
) -> Request:
    """
    Return a request of headers and extensions that belong to it from now on; the short road of making one.

    Args and raises: as `Request`.
    """
    new = object.__new__(Request)
    new._fill(method, url, headers, extensions, content, data, json, json_encoder, files)
    return new


def make_headers(headers: HeadersInput | None) -> CIMultiDict[str]:
    """
    Return fields as a multidict of their own.

    Raises:
        InvalidHeader: A name or value that is not a str, or no pairs at all.
    """
    if headers is None:
        return CIMultiDict()
    try:
        made: CIMultiDict[str] = CIMultiDict(headers)
    except (TypeError, ValueError) as error:
        raise InvalidHeader(f"headers: takes a mapping or pairs of str: {error}") from error
    for name, value in made.items():
        if not isinstance(value, str):
            raise InvalidHeader(f"headers: the value of {name[:40]} is a str, not {type(value).__name__}")
    return made


def _make_extensions(extensions: Mapping[str, Any] | None) -> dict[str, Any]:
    if extensions is not None and not isinstance(extensions, Mapping):
        raise UsageError(f"extensions: takes a mapping, not {type(extensions).__name__}")
    return dict(extensions) if extensions else {}


def _basic(userinfo: str) -> str:
    """Return the Authorization value for the user information of a URL (RFC 7617)."""
    from urllib.parse import unquote_to_bytes

    user, _, password = userinfo.partition(":")
    pair = unquote_to_bytes(user) + b":" + unquote_to_bytes(password)
    return "Basic " + base64.b64encode(pair).decode("ascii")
