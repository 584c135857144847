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

from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Generator
from typing import Final, TypeAlias, cast

from aiosock.errors import BodyNotReplayable, RequestError, UsageError
from aiosock.message.request import Request
from aiosock.message.response import Response
from aiosock.middleware.chain import Send, inherit

MAX_REQUESTS: Final = 20
"""How many requests one flow may send for one of the user's."""


AuthFlow: TypeAlias = Generator[Request, Response, None] | AsyncGenerator[Request, Response]
Auth: TypeAlias = Callable[[Request], Request | AuthFlow]
AuthInput: TypeAlias = Auth | tuple[str, str]


def as_auth(value: object) -> Auth | None:
    """
    Return the Auth that a user's value stands for: a pair of str is user and password of Basic, None is none.

    Raises:
        UsageError: The value is none of these; the message shows its type only.
    """
    if value is None:
        return None
    if isinstance(value, tuple) and len(value) == 2 and all(isinstance(part, str) for part in value):
        from aiosock.middleware.schemes import BasicAuth

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
        return await next(inherit(flow, request))
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
    return inherit(asked, request)


def _kind(value: object) -> str:
    if value is None:
        return "None"
    return f"the class {value.__name__}" if isinstance(value, type) else f"an object of {type(value).__name__}"
