"""Middlewares wrap a transport in their order, put together once."""

from __future__ import annotations

import asyncio

import pytest

from aiosock.errors import ClientClosed, UsageError
from aiosock.message.request import Request
from aiosock.message.response import Response
from aiosock.middleware.chain import Lifetime, Middleware, Send, as_middleware, compose, inherit

GET = Request("GET", "http://h/")


def noting(name: str, log: list[str]) -> Middleware:
    async def middleware(request: Request, next: Send) -> Response:
        log.append(f"{name} asks")
        response = await next(request.replace(headers=[*request.headers.items(), ("Via", name)]))
        log.append(f"{name} answers")
        return response

    return middleware


async def test_the_first_is_the_outermost() -> None:
    log: list[str] = []
    sent: list[Request] = []

    async def transport(request: Request) -> Response:
        log.append("sent")
        sent.append(request)
        return Response(200, request=request)

    send = compose([noting("a", log), noting("b", log)], transport)
    for _ in range(2):
        assert (await send(GET)).status_code == 200
    assert log == ["a asks", "b asks", "sent", "b answers", "a answers"] * 2
    assert sent[0].headers.getall("Via") == ["a", "b"]
    assert len(GET.headers) == 0


async def test_a_middleware_may_answer_itself_or_ask_twice() -> None:
    log: list[str] = []

    async def twice(request: Request, next: Send) -> Response:
        await next(request)
        return await next(request)

    async def answer(request: Request, next: Send) -> Response:
        log.append("answered")
        return Response(299)

    async def transport(request: Request) -> Response:
        raise AssertionError

    assert (await compose([twice, answer], transport)(GET)).status_code == 299
    assert log == ["answered"] * 2


async def test_without_middlewares_there_is_the_transport() -> None:
    async def transport(request: Request) -> Response:
        return Response(200)

    assert compose([], transport) is transport


async def test_the_chain_is_what_it_was_when_it_was_put_together() -> None:
    log: list[str] = []

    async def transport(request: Request) -> Response:
        return Response(200)

    middlewares = [noting("a", log)]
    send = compose(middlewares, transport)
    middlewares.append(noting("b", log))
    await send(GET)
    assert log == ["a asks", "a answers"]


# A user's middleware is held to its promise.


async def unasked(request: Request) -> Response:
    raise AssertionError


async def test_what_a_middleware_returns_is_looked_at() -> None:
    async def forgets(request: Request, next: Send) -> Response:
        return None  # type: ignore[return-value]  # that is the fault

    def waits_for_nothing(request: Request, next: Send) -> Response:
        return Response(200)

    class Odd:
        async def __call__(self, request: Request, next: Send) -> Response:
            return "text"  # type: ignore[return-value]  # that is the fault

    for fault, words in [
        (forgets, r"the middleware .*forgets must return a Response, not NoneType"),
        (waits_for_nothing, r"the middleware .*waits_for_nothing must be 'async def'; it returned Response"),
        (Odd(), r"the middleware .*Odd must return a Response, not str"),
    ]:
        with pytest.raises(UsageError, match=words):
            await compose([as_middleware(fault)], unasked)(GET)


async def test_a_users_middleware_is_one_like_any_other() -> None:
    async def answer(request: Request, next: Send) -> Response:
        return Response(299, request=request)

    assert (await compose([as_middleware(answer)], unasked)(GET)).status_code == 299


def test_what_cannot_be_called_is_no_middleware() -> None:
    with pytest.raises(UsageError, match="middleware: takes functions .*, not str"):
        as_middleware("retry")


async def test_what_a_middleware_sends_is_looked_at() -> None:
    async def odd(request: Request, next: Send) -> Response:
        return await next("http://h/")  # type: ignore[arg-type]  # that is the fault

    with pytest.raises(UsageError, match="odd must send a Request, not str"):
        await compose([as_middleware(odd)], unasked)(GET)


# The life of a client


async def test_a_request_has_the_lifetime_of_its_client_and_so_has_what_is_sent_for_it() -> None:
    sent: list[Request] = []

    async def transport(request: Request) -> Response:
        sent.append(request)
        return Response(200, request=request)

    life = Lifetime()
    request = Request("GET", "http://h/")
    await compose([life], transport)(request)
    assert sent[0].extensions["lifetime"] is life
    assert inherit(GET, sent[0]).extensions["lifetime"] is life


async def test_what_waits_ends_with_the_life_of_the_client() -> None:
    life = Lifetime()
    loop = asyncio.get_running_loop()
    done, called_off, waiting, late = (loop.create_future() for _ in range(4))
    for future in (done, called_off, waiting):
        life.bound(future)
    done.set_result("in time")
    called_off.cancel()
    life.end()
    life.bound(late)
    assert done.result() == "in time"
    assert called_off.cancelled()
    for future in (waiting, late):
        with pytest.raises(ClientClosed, match="^the client was closed while the request waited$"):
            await future
    await asyncio.sleep(0)
    assert not life._waiting
