"""Middlewares wrap a transport in their order, put together once."""

from __future__ import annotations

from aiosock.message.request import Request
from aiosock.message.response import Response
from aiosock.middleware.chain import Middleware, Send, compose

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
