"""
URLs as they go on the wire (RFC 3986).

A URL that is already valid is sent byte for byte, since a signature may cover it. Only what may not stand in a
URL is percent-encoded; the host is lower-cased and IDNA-encoded. The request target is a string of its own.

What takes long to load or to compile waits for the first URL, or for the first that needs it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

from aiosock.errors import InvalidURL, UsageError
from aiosock.message.late import late

if TYPE_CHECKING:
    from yarl import URL
else:
    URL = late("yarl", "URL")

DEFAULT_PORTS: Final = {"http": 80, "https": 443}
MAX_CACHED_URLS: Final = 1024
MAX_CACHED_URL_LENGTH: Final = 4096

Scalar: TypeAlias = str | int | float | bool | None
Params: TypeAlias = str | Mapping[str, Scalar | Sequence[Scalar]] | Sequence[tuple[str, Scalar]]


@cache
def _url_class() -> type[URL]:
    from yarl import URL

    return URL


@cache
def _form_encoder() -> Callable[[Sequence[tuple[str | bytes, str | bytes]]], str]:
    from urllib.parse import urlencode

    return urlencode


@cache
def _reference() -> re.Pattern[str]:
    # RFC 3986, appendix B.
    return re.compile(r"(?:([^:/?#]+):)?(?://([^/?#]*))?([^?#]*)(?:\?([^#]*))?(?:#(.*))?", re.DOTALL)


@cache
def _forbidden() -> re.Pattern[str]:
    return re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")


@cache
def _host_name() -> re.Pattern[str]:
    return re.compile(r"(?!\.)(?:[a-z0-9_-]{1,63}(?:\.|$))+", re.IGNORECASE)


@cache
def _unsafe() -> re.Pattern[str]:
    # What may not stand in a path or a query; '[' and ']' are allowed, as the whole web leaves them as they are.
    return re.compile(r"%(?![0-9A-Fa-f]{2})|[^A-Za-z0-9\-._~!$&'()*+,;=:@/?%\[\]]")


class Location(NamedTuple):
    """
    A URL taken apart.

    Attributes:
        url: The URL, without user information.
        scheme: ``"http"`` or ``"https"``.
        host: What is connected to: a name in lower case and IDNA-encoded, or an IP address without brackets,
            maybe with its zone.
        port: 1 to 65535, the scheme's own where the URL has none.
        authority: The value for Host: without a default port, IPv6 in brackets and without its zone.
        target: Path and query as they go on the wire (RFC 9112, 3.2.1).
        userinfo: What stood before ``@``, None where there was none.
    """

    url: URL
    scheme: str
    host: str
    port: int
    authority: str
    target: str
    userinfo: str | None

    @property
    def origin(self) -> tuple[str, str, int]:
        """Scheme, host and port (RFC 9110, 4.3.1)."""
        return self[1:4]


def parse_url(text: str | URL) -> Location:
    """
    Take an absolute http or https URL apart.

    Raises:
        InvalidURL: No host, an unknown scheme, a bad port, a host with a character that a host cannot have, or a
            control character or lone surrogate anywhere; the message shows the part.
    """
    if not isinstance(text, str):
        text = text_of(text)
    # Kept are many, so that only those of a usual length are.
    return _parse(text) if len(text) <= MAX_CACHED_URL_LENGTH else _parse.__wrapped__(text)


def text_of(url: str | URL) -> str:
    """
    Return the text of a URL, whichever way it was given.

    Raises:
        InvalidURL: It is neither a str nor a `yarl.URL`.
    """
    if not isinstance(url, (str, _url_class())):
        raise InvalidURL(f"a URL is a str or a yarl.URL, not {type(url).__name__}")
    return str(url)


@lru_cache(maxsize=MAX_CACHED_URLS)
def _parse(text: str) -> Location:
    refuse_forbidden(text)
    scheme, authority, path, query, fragment = _components(text)
    if scheme is None:
        raise InvalidURL(f"the URL has no scheme (http:// or https://): {_shown(text)}")
    scheme = scheme.lower()
    if scheme not in DEFAULT_PORTS:
        # In "user:password@host" what looks like a scheme is none.
        shown = "" if authority is None and "@" in path else f": {scheme[:40]!r}"
        raise InvalidURL(f"the URL's scheme is not http or https{shown}")
    if not authority:
        raise InvalidURL(f"the URL has no host: {scheme}:{_shown(path)}")
    userinfo, at, hostport = authority.rpartition("@")
    if "\\" in userinfo:
        # Browsers take it for the end of the host, so that whoever looked at the URL may have seen another one.
        raise InvalidURL("the URL has a backslash in front of '@'; where it is meant, it must be percent-encoded")
    try:
        host, port = _split_port(hostport)
        host = _normalise_host(host)
    except InvalidURL:
        if at or "@" not in text:
            raise
        # What stands where the host should be may be the beginning of a password, which is not for a message.
        raise InvalidURL(
            "the URL's host or port cannot be used; in front of '@' the characters '/', '?' and '#' must be "
            "percent-encoded"
        ) from None
    named, percent, zone = host.partition("%")
    shown_host = f"[{named}]" if ":" in host else host
    port_number = DEFAULT_PORTS[scheme] if port is None else port
    suffix = "" if port_number == DEFAULT_PORTS[scheme] else f":{port_number}"
    target = quote(path) or "/"
    if query is not None:
        target = f"{target}?{quote(query)}"
    tail = "" if fragment is None else f"#{quote(fragment)}"
    # The zone stays in the URL, where it says where to connect (RFC 6874); it never goes into Host.
    url_host = f"[{named}%25{zone}]" if percent else shown_host
    return Location(
        url=_url_class()(f"{scheme}://{url_host}{suffix}{target}{tail}", encoded=True),
        scheme=scheme,
        host=host,
        port=port_number,
        authority=f"{shown_host}{suffix}",
        target=target,
        userinfo=userinfo if at else None,
    )


def _components(text: str) -> tuple[str | None, str | None, str, str | None, str | None]:
    return _reference().fullmatch(text).groups()  # type: ignore[union-attr,return-value]  # the expression fits any string


def refuse_forbidden(text: str) -> None:
    """
    Refuse control characters (CR and LF would end the request line, NUL is never meant), and lone surrogates, which
    are no characters.

    Raises:
        InvalidURL: There is one; the message says which, and where.
    """
    found = _forbidden().search(text)
    if found is not None:
        kind = "control character" if found[0] <= "\x7f" else "lone surrogate"
        raise InvalidURL(f"the URL has the {kind} {found[0]!r} at position {found.start()}")


def quote(text: str) -> str:
    """Percent-encode what may not stand in a path, query or fragment, and nothing else."""
    return _unsafe().sub(lambda found: "".join(f"%{byte:02X}" for byte in found[0].encode()), text)


def _shown(text: str) -> str:
    """Return the start of a text for a message, without user information, query or fragment."""
    return repr(text.partition("?")[0].partition("#")[0].rpartition("@")[2][:60])


def _split_port(hostport: str) -> tuple[str, int | None]:
    if hostport.startswith("["):
        host, bracket, rest = hostport.partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise InvalidURL(f"the URL's host has brackets that do not match: {hostport[:60]!r}")
        host, digits = host + bracket, rest[1:]
    else:
        host, _, digits = hostport.partition(":")
    if not digits:
        return host, None
    if not (digits.isascii() and digits.isdigit()) or len(digits) > 5 or not 1 <= int(digits) <= 65535:
        raise InvalidURL(f"the URL's port is not a number from 1 to 65535: {digits[:20]!r}")
    return host, int(digits)


def _normalise_host(host: str) -> str:
    if not host:
        raise InvalidURL("the URL has no host")
    if host.startswith("["):
        address, percent, zone = host[1:-1].partition("%")
        # RFC 6874 writes the percent sign of a zone as %25; people write it bare.
        zone = zone.removeprefix("25") if zone.startswith("25") and len(zone) > 2 else zone
        import ipaddress

        try:
            ipaddress.IPv6Address(address)
        except ValueError:
            raise InvalidURL(f"the URL's host is not an IPv6 address: {host[:60]!r}") from None
        if percent and re.fullmatch(r"[A-Za-z0-9._~-]+", zone) is None:
            raise InvalidURL(f"the URL's IPv6 zone is not a name: {host[:60]!r}")
        return f"{address.lower()}%{zone}" if percent else address.lower()
    if not host.isascii():
        host = _encode_idna(host)
    if _host_name().fullmatch(host) is None or len(host) > 254:
        raise InvalidURL(f"the URL's host is not a host name: {host[:60]!r}")
    return host.lower()


def _encode_idna(host: str) -> str:
    import idna

    try:
        return idna.encode(host, uts46=True).decode("ascii")
    except idna.IDNAError as error:
        raise InvalidURL(f"the URL's host cannot be IDNA-encoded: {host[:60]!r} ({error})") from None


def resolve_reference(base: str, reference: str) -> str:
    """Return the URL that a reference stands for, seen from a base (RFC 3986, 5.2.2)."""
    base_scheme, base_authority, base_path, base_query, _ = _components(base)
    scheme, authority, path, query, fragment = _components(reference)
    if scheme is None:
        scheme = base_scheme
        if authority is None:
            authority = base_authority
            if not path:
                path = base_path
                query = base_query if query is None else query
            elif path.startswith("/"):
                path = remove_dot_segments(path)
            else:
                merged = f"/{path}" if not base_path else base_path.rpartition("/")[0] + "/" + path
                path = remove_dot_segments(merged)
        else:
            path = remove_dot_segments(path)
    else:
        path = remove_dot_segments(path)
    return _recompose(scheme, authority, path, query, fragment)


def remove_dot_segments(path: str) -> str:
    """Return the path with ``.`` and ``..`` segments carried out (RFC 3986, 5.2.4)."""
    if "." not in path:
        return path
    segments = path.split("/")
    out: list[str] = []
    for segment in segments:
        if segment == "..":
            if len(out) > 1:
                out.pop()
            elif out:
                out[0] = ""
        elif segment != ".":
            out.append(segment)
    if segments[-1] in (".", ".."):
        out.append("")
    return "/".join(out)


def _recompose(scheme: str | None, authority: str | None, path: str, query: str | None, fragment: str | None) -> str:
    parts = []
    if scheme is not None:
        parts.append(f"{scheme}:")
    if authority is not None:
        parts.append(f"//{authority}")
    parts.append(path)
    if query is not None:
        parts.append(f"?{query}")
    if fragment is not None:
        parts.append(f"#{fragment}")
    return "".join(parts)


def join_base(base_url: str, url: str) -> str:
    """Return a request's URL under a client's ``base_url``: the path is appended, an absolute URL stays as it is."""
    scheme, authority, *_ = _components(url)
    if scheme is not None or authority is not None:
        return url if scheme is not None else f"{_components(base_url)[0]}:{url}"
    base_scheme, base_authority, base_path, base_query, _ = _components(base_url)
    base = _recompose(base_scheme, base_authority, base_path.rstrip("/"), None, None)
    if not url or url[0] in "?#":
        joined = _recompose(base_scheme, base_authority, base_path, base_query if not url else None, None) + url
    else:
        joined = f"{base}/{url.lstrip('/')}"
    return joined


def encode_params(params: Params) -> str:
    """
    Return params as the text of a query (application/x-www-form-urlencoded).

    Args:
        params: A mapping, whose values may be sequences; pairs; or a text that is taken as it is, save that ``#``,
            which would end the query, is percent-encoded. True and False become ``true`` and ``false``; a value of
            None is left out.

    Raises:
        UsageError: Something else.
    """
    if isinstance(params, str):
        return params.replace("#", "%23")
    if isinstance(params, (bytes, bytearray)) or not isinstance(params, Iterable):
        raise UsageError(f"params: takes a mapping, pairs or a str, not {type(params).__name__}")
    items = params.items() if isinstance(params, Mapping) else params
    pairs: list[tuple[str, str]] = []
    for item in items:
        if not isinstance(item, (tuple, list)) or len(item) != 2:
            raise UsageError("params: every item must be a pair of name and value")
        name, value = item
        values = value if isinstance(value, (list, tuple)) else (value,)
        pairs.extend((text_in(name), _scalar_text(one)) for one in values if one is not None)
    return encode_pairs("params", pairs)


def encode_pairs(owner: str, pairs: Sequence[tuple[str | bytes, str | bytes]]) -> str:
    """
    Return pairs as application/x-www-form-urlencoded.

    Args:
        owner: The argument that they came in, for the message.
        pairs: Names and values; str is encoded as UTF-8.

    Raises:
        UsageError: A str that UTF-8 cannot encode: it has a lone surrogate.
    """
    try:
        return _form_encoder()(pairs)
    except UnicodeEncodeError as error:
        raise UsageError(f"{owner}: a str has a lone surrogate and cannot be encoded") from error


def text_in(value: object) -> str:
    """Return a value as text; of a str that is more, such as a member of an enumeration, the text that it is."""
    return str.__str__(value) if isinstance(value, str) else str(value)


def _scalar_text(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (str, int, float)):
        return text_in(value)
    raise UsageError(f"params: a value is a str, a number, a bool or None, not {type(value).__name__}")


def append_params(url: str, params: Params) -> str:
    """Return the URL with params appended to its query; what the URL has is never dropped or rewritten."""
    text = encode_params(params)
    if not text:
        return url
    before, hash_sign, fragment = url.partition("#")
    if "?" not in before:
        before = f"{before}?{text}"
    elif before[-1] in "?&":
        before = f"{before}{text}"
    else:
        before = f"{before}&{text}"
    return f"{before}{hash_sign}{fragment}"
