"""
What a user passes to a request, checked and made into what travels with it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, TypedDict, TypeVar

from multidict import CIMultiDict

from aiosock.client.transport import Proxies
from aiosock.config import Retry, Timeout, as_retry, as_timeout
from aiosock.errors import UsageError
from aiosock.message import url as urls
from aiosock.message.body import Content, FormData
from aiosock.message.late import late
from aiosock.message.request import HeadersInput
from aiosock.message.response import Response
from aiosock.middleware.auth import AuthInput, as_auth
from aiosock.middleware.chain import Middleware, as_middleware

# What many clients do without is imported when it is first used.
if TYPE_CHECKING:
    from aiosock.client.proxies import ProxyInput
    from aiosock.connection.guard import Guard
    from aiosock.connection.proxy import Proxy
    from aiosock.message.cookies import CookiesInput
    from aiosock.message.multipart import Files
else:
    ProxyInput = late("aiosock.client.proxies", "ProxyInput")
    Guard = late("aiosock.connection.guard", "Guard")
    CookiesInput = late("aiosock.message.cookies", "CookiesInput")
    Files = late("aiosock.message.multipart", "Files")

F = TypeVar("F", bound=Callable[..., Any] | None)

UNSET: Final[Any] = type("Unset", (), {"__repr__": lambda self: "UNSET"})()
"""Left out: the client's value counts. None is a value of its own."""


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
    follow_redirects: bool | None
    proxy: ProxyInput
    guard: Guard | None
    retry: Retry | int | None
    middleware: Sequence[Middleware]
    on_informational: Callable[[Response], None] | None
    extensions: Mapping[str, Any] | None


_OPTIONS: Final = frozenset(RequestOptions.__annotations__)
# What others call it.
_HINTS: Final = {
    "proxies": "proxy",
    "allow_redirects": "follow_redirects",
    "body": "content",
    "verify": "Client(verify=...)",
    "cert": "Client(cert=...)",
    "stream": "Client.stream(...)",
}


def call_extensions(options: RequestOptions, timeout: Timeout) -> dict[str, Any]:
    """
    Return what travels with a request, of the options of a call.

    Args:
        options: As they were given.
        timeout: The client's.

    Raises:
        UsageError: An option that there is not, or that cannot be used.
    """
    if not options.keys() <= _OPTIONS:
        _refuse_unknown(sorted(options.keys() - _OPTIONS)[0])
    extensions = check_extensions(options.get("extensions"))
    given = options.get("timeout", UNSET)
    extensions["timeout"] = timeout if given is UNSET else as_timeout(given)
    follow = options.get("follow_redirects")
    if follow is not None:
        extensions["follow_redirects"] = check_bool("follow_redirects", follow)
    if "on_informational" in options:
        extensions["on_informational"] = check_function("on_informational", options["on_informational"])
    if "proxy" in options:
        extensions["proxy"] = _proxy(options["proxy"])
    if "retry" in options:
        extensions["retry"] = as_retry(options["retry"])
    guard = options.get("guard")
    if guard is not None:
        extensions["guard"] = check_guard(guard)
    own = options.get("middleware")
    if own:
        extensions["middleware"] = middlewares(own)
    cookies = options.get("cookies")
    if cookies is not None:
        extensions["cookies"] = _cookies(cookies)
    return extensions


def check_extensions(given: Mapping[str, Any] | None) -> dict[str, Any]:
    """
    Return a copy of a user's ``extensions``, with what the client itself puts there checked.

    Raises:
        UsageError: It is no mapping, or something in it cannot be used.
    """
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise UsageError(f"extensions: takes a mapping, not {type(given).__name__}")
    extensions = dict(given)
    if extensions.get("auth") is not None:
        extensions["auth"] = as_auth(extensions["auth"])
    if extensions.get("cookies") is not None:
        extensions["cookies"] = _cookies(extensions["cookies"])
    if extensions.get("middleware"):
        extensions["middleware"] = middlewares(extensions["middleware"])
    # Of an earlier call.
    extensions.pop("call", None)
    if extensions.get("on_event") is not None:
        from aiosock.message.trace import listening

        check_listener(extensions["on_event"])
        extensions.update(listening(extensions["on_event"]))
    deadline = extensions.get("deadline", 0.0)
    if isinstance(deadline, bool) or not isinstance(deadline, (int, float)):
        raise UsageError(f"extensions: deadline is a time of the loop, a number, not {type(deadline).__name__}")
    return extensions


def check_listener(value: object) -> None:
    """Refuse what is no listener to events; None is none."""
    from inspect import iscoroutinefunction

    if value is not None and (not callable(value) or iscoroutinefunction(value)):
        kind = "an 'async def'" if callable(value) else type(value).__name__
        raise UsageError(f"on_event: takes a function of an event, which cannot wait, not {kind}")


def _refuse_unknown(name: str) -> None:
    hint = f"; it is {_HINTS[name]} here" if name in _HINTS else ""
    raise UsageError(f"a request has no option {name!r}{hint}")


def check_bool(name: str, value: object) -> bool:
    """Return a bool, and refuse all else."""
    if not isinstance(value, bool):
        raise UsageError(f"{name}: takes True or False, not {type(value).__name__}")
    return value


def check_function(name: str, value: F) -> F:
    """Return a function or None, and refuse all else."""
    if value is not None and not callable(value):
        raise UsageError(f"{name}: takes a function, not {type(value).__name__}")
    return value


def check_guard(value: Guard) -> Guard:
    """Return a guard, and refuse all else."""
    from aiosock.connection.guard import Guard

    if not isinstance(value, Guard):
        raise UsageError(f"guard: takes a Guard, not {type(value).__name__}")
    return value


def _cookies(given: CookiesInput) -> object:
    from aiosock.message.cookies import cookies_for

    return cookies_for(given)


def _proxy(given: ProxyInput) -> Proxy | Proxies | None:
    if given is None:
        return None
    if isinstance(given, Mapping):
        from aiosock.client.proxies import make_rules

        return make_rules(given)
    from aiosock.connection.proxy import make_proxy

    return make_proxy(given)


def middlewares(given: Sequence[Middleware]) -> list[Middleware]:
    if callable(given) or not isinstance(given, Sequence):
        raise UsageError(f"middleware: takes a list of them, not {type(given).__name__}")
    return [as_middleware(one) for one in given]


def override(headers: CIMultiDict[str], own: CIMultiDict[str]) -> None:
    """Let fields take the place of those of the same name; repeated ones stay repeated."""
    for field in own:
        headers.popall(field, None)
    headers.extend(own)
