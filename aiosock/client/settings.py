"""
What a user passes to a client, checked before there is any connection; each error names the argument.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final, cast

from multidict import CIMultiDict, istr

from aiosock.client.options import UNSET, check_guard, check_listener, override
from aiosock.client.transport import Proxies, Transport
from aiosock.config import Limits, shown
from aiosock.errors import UsageError
from aiosock.message import url as urls
from aiosock.message.decoding import accepted_codings
from aiosock.message.request import HeadersInput, make_headers
from aiosock.message.response import DefaultEncoding
from aiosock.network.dns import Resolver
from aiosock.version import __version__

# What many clients do without is imported when it is first used.
if TYPE_CHECKING:
    from aiosock.connection.guard import Guard
    from aiosock.message.trace import Listener

_ACCEPT: Final = istr("Accept")
_ACCEPT_ENCODING: Final = istr("Accept-Encoding")
_USER_AGENT: Final = istr("User-Agent")


def default_headers(own: HeadersInput | None) -> CIMultiDict[str]:
    headers: CIMultiDict[str] = CIMultiDict(
        [(_ACCEPT, "*/*"), (_ACCEPT_ENCODING, accepted_codings()), (_USER_AGENT, f"aiosock/{__version__}")]
    )
    if own is not None:
        override(headers, make_headers(own))
    return headers


def check_params(params: urls.Params | None) -> urls.Params | None:
    """Return ``params`` for many requests, once it is seen that they can be encoded."""
    # An iterator would give its pairs to the first request, and none to the others.
    lasting: Any = list(params) if isinstance(params, Iterator) else params
    if lasting is not None:
        urls.encode_params(lasting)
    return cast("urls.Params | None", lasting)


def check_limits(limits: Limits | None) -> Limits:
    if limits is not None and not isinstance(limits, Limits):
        raise UsageError(f"limits: takes a Limits, not {type(limits).__name__}")
    return limits or Limits()


def check_max_redirects(value: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise UsageError(f"max_redirects: must be a whole number from 0 on, not {shown(value)}")
    return value


def check_encoding(value: DefaultEncoding) -> DefaultEncoding:
    if not isinstance(value, str) and not callable(value):
        raise UsageError(f"default_encoding: takes the name of a codec or a function, not {type(value).__name__}")
    return value


def check_resolver(resolver: Resolver | None) -> Resolver | None:
    if resolver is not None and (not isinstance(resolver, Resolver) or isinstance(resolver, type)):
        raise UsageError(f"resolver: {_kind(resolver)} has no method resolve")
    return resolver


def check_transport(transport: Transport | None) -> Transport | None:
    for name in ("send", "close") if transport is not None else ():
        if isinstance(transport, type) or not callable(getattr(transport, name, None)):
            raise UsageError(f"transport: {_kind(transport)} has no method {name}")
    return transport


def _kind(value: object) -> str:
    return f"the class {value.__name__}" if isinstance(value, type) else type(value).__name__


def socket_path(uds: str | os.PathLike[str] | None) -> str | None:
    """Return the path of a Unix socket."""
    if uds is None:
        return None
    if not isinstance(uds, (str, os.PathLike)) or not isinstance(path := os.fspath(uds), str):
        raise UsageError(f"uds: takes the path of a Unix socket, not {shown(uds)}")
    return path


def own_address(value: str | tuple[str, int] | None) -> tuple[str, int] | None:
    """Return the address and port to connect from."""
    if value is None:
        return None
    pair = value if isinstance(value, tuple) else (value, 0)
    if len(pair) != 2 or not _is_address(pair[0]) or isinstance(pair[1], bool) or not isinstance(pair[1], int):
        raise UsageError(f"local_address: takes an IP address, or (address, port), not {shown(value)}")
    if not 0 <= pair[1] <= 65535:
        raise UsageError(f"local_address: the port must be from 0 to 65535, not {shown(pair[1])}")
    return pair


def _is_address(value: object) -> bool:
    # A name would be looked up when the socket is bound, and hold up the loop.
    import ipaddress

    try:
        ipaddress.ip_address(value if isinstance(value, str) else "")
    except ValueError:
        return False
    return True


def choose_listener(on_event: Listener | None) -> Listener | None:
    """Return what hears of events: a user's listener, the log, both, or none."""
    check_listener(on_event)
    if on_event is None and not logging.getLogger("aiosock.client").isEnabledFor(logging.DEBUG):
        return None
    from aiosock.message.trace import logged

    return logged(on_event)


def choose_proxies(given: Any, over_uds: bool, over_transport: bool, trust_env: bool) -> Proxies | None:
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


def check_way(guard: Guard | None, uds: str | None, over_transport: object, proxies: Proxies | None) -> None:
    """Refuse a guard where it could not see what is connected to."""
    if guard is None:
        return
    check_guard(guard)
    if uds is not None:
        raise UsageError(f"guard: cannot be kept over a Unix socket, whatever the URL's host (uds={uds!r})")
    if over_transport is not None:
        raise UsageError(f"guard: cannot be kept by a transport of one's own, {type(over_transport).__name__}")
    if proxies is not None and not guard.allow_proxy:
        raise UsageError("guard: refuses proxy=, since names are then resolved elsewhere, unless allow_proxy=True")
