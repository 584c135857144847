"""Authentication: conversations that flows lead, and that each of them comes to an end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Generator
from typing import Any

import pytest

from aiosock.config import Timeout
from aiosock.errors import BodyNotReplayable, ReadError, UsageError
from aiosock.message.request import Request
from aiosock.message.response import Response
from aiosock.middleware.auth import MAX_REQUESTS, Auth, as_auth, authenticate
from aiosock.middleware.schemes import (
    BasicAuth,
)
from tests.middleware.fakes import Server, request

Flow = Generator[Request, Response, None]
AsyncFlow = AsyncGenerator[Request, Response]


# Values


@pytest.mark.parametrize("auth", [None, ...])
async def test_without_auth_a_request_goes_as_it_is(auth: object) -> None:
    sent = Request("GET", "http://h/", headers={"Authorization": "own"})
    if auth is None:
        sent.extensions["auth"] = None
    server = Server(401)
    assert (await authenticate(sent, server)).status_code == 401
    assert server.requests == [sent]


def test_what_auth_may_be() -> None:
    def own(request: Request) -> Request:
        return request

    assert as_auth(None) is None
    assert as_auth(own) is own
    assert isinstance(as_auth(("user", "password")), BasicAuth)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("secret", "an object of str"),
        (("secret",), "an object of tuple"),
        (("secret", "secret", "secret"), "an object of tuple"),
        (("secret", 1), "an object of tuple"),
        (1, "an object of int"),
        (BasicAuth, "the class BasicAuth"),
    ],
)
def test_what_auth_may_not_be(value: object, said: str) -> None:
    with pytest.raises(UsageError, match=f"^auth: takes .*, not {said}$") as caught:
        as_auth(value)
    assert "secret" not in str(caught.value)


# Flows


def plain(flow: Callable[[Request], Flow]) -> Auth:
    """As it is."""
    return flow


def asynchronous(flow: Callable[[Request], Flow]) -> Auth:
    """The same, written as an asynchronous generator."""

    async def twin(request: Request) -> AsyncFlow:
        steps = flow(request)
        try:
            asked = next(steps)
            while True:
                try:
                    response = yield asked
                except Exception as error:
                    asked = steps.throw(error)
                else:
                    asked = steps.send(response)
        except StopIteration:
            pass
        finally:
            steps.close()

    return twin


Kind = Callable[[Callable[[Request], Flow]], Auth]
both = pytest.mark.parametrize("kind", [plain, asynchronous])


def signed(request: Request, by: str) -> Request:
    copy = request.replace()
    copy.headers["Authorization"] = by
    return copy


async def test_a_function_of_the_request() -> None:
    server = Server(200)
    response = await authenticate(request(lambda request: signed(request, "me")), server)
    assert server.credentials == ["me"]
    assert not server.sources[0].closed
    assert await response.read() == b"answer 1"


@both
async def test_the_last_answer_is_the_callers_and_those_before_are_given_up(kind: Kind) -> None:
    seen: list[int] = []

    def flow(request: Request) -> Flow:
        response = yield request
        seen.append(response.status_code)
        response = yield signed(request, "second")
        seen.append(response.status_code)
        response = yield signed(request, "third")
        seen.append(response.status_code)

    server = Server(401, 402, 403)
    response = await authenticate(request(kind(flow)), server)
    assert response.status_code == 403
    assert server.credentials == [None, "second", "third"]
    assert seen == [401, 402, 403]
    assert [source.closed for source in server.sources] == [True, True, False]
    assert not any(source.received for source in server.sources)
    assert [piece async for piece in response.iter_bytes()] == [b"answer 3"]


@both
async def test_an_answer_is_given_up_before_the_next_request_is_sent(kind: Kind) -> None:
    def flow(request: Request) -> Flow:
        yield request
        yield request

    server = Server(401, 200)

    async def next(request: Request) -> Response:
        assert all(source.closed for source in server.sources)
        return await server(request)

    await authenticate(request(kind(flow)), next)
    assert len(server.requests) == 2


async def test_an_asynchronous_flow_may_read_an_answer() -> None:
    async def flow(request: Request) -> AsyncFlow:
        response = yield Request("POST", "http://id/token", data={"grant_type": "client_credentials"})
        yield signed(request, (await response.read()).decode())

    server = Server(200)
    response = await authenticate(request(flow), server)
    assert server.urls == ["http://id/token", "http://h/"]
    assert server.credentials == [None, "answer 1"]
    assert await response.read() == b"answer 2"


async def test_the_last_answer_may_have_been_read() -> None:
    async def flow(request: Request) -> AsyncFlow:
        response = yield request
        await response.read()

    response = await authenticate(request(flow), Server(200))
    assert response.content == b"answer 1"


@both
async def test_requests_of_a_flow_take_no_longer_than_the_users(kind: Kind) -> None:
    own = Request("GET", "http://id/own", extensions={"timeout": Timeout(5), "x": 1})
    bare = Request("GET", "http://id/bare")

    def flow(request: Request) -> Flow:
        yield own
        yield bare
        yield request

    server = Server(200)
    sent = request(kind(flow), extensions={"timeout": Timeout(1), "deadline": 7.0, "proxy": None})
    await authenticate(sent, server)
    assert server.requests[0].extensions == {"timeout": Timeout(5), "deadline": 7.0, "proxy": None, "x": 1}
    assert server.requests[1].extensions == {"timeout": Timeout(1), "deadline": 7.0, "proxy": None}
    assert server.requests[2] is sent
    # It may be sent for another request, with another deadline.
    assert bare.extensions == {}


async def test_a_request_that_a_function_makes_anew_takes_no_longer_than_the_users() -> None:
    server = Server(200)
    own = Request("GET", "http://h/", extensions={"deadline": 1.0})
    await authenticate(request(lambda request: own, extensions={"timeout": Timeout(1), "deadline": 7.0}), server)
    assert server.requests[0].extensions == {"timeout": Timeout(1), "deadline": 1.0}


@both
async def test_a_request_without_timeouts_gives_none(kind: Kind) -> None:
    bare = Request("GET", "http://id/bare")

    def flow(request: Request) -> Flow:
        yield bare

    server = Server(200)
    await authenticate(request(kind(flow)), server)
    assert server.requests == [bare]


# Errors


@both
async def test_an_error_is_raised_in_the_flow_which_may_go_on(kind: Kind) -> None:
    caught: list[Exception] = []

    def flow(request: Request) -> Flow:
        try:
            yield Request("GET", "http://id/")
        except ReadError as error:
            caught.append(error)
            yield signed(request, "without")

    error = ReadError("broken")
    server = Server(error, 200)
    response = await authenticate(request(kind(flow)), server)
    assert response.status_code == 200
    assert server.credentials == [None, "without"]
    assert caught == [error]
    # The error knows which request it was.
    assert error.request is server.requests[0]


@both
@pytest.mark.parametrize("swallows", [False, True])
async def test_an_error_reaches_the_caller_where_the_flow_has_no_more_to_ask(kind: Kind, swallows: bool) -> None:
    ended: list[bool] = []

    def flow(request: Request) -> Flow:
        try:
            yield request
            yield request
        except ReadError:
            if not swallows:
                raise
        finally:
            ended.append(True)

    error = ReadError("broken")
    error.request = own = Request("GET", "http://own/")
    server = Server(401, error)
    with pytest.raises(ReadError, match="broken") as caught:
        await authenticate(request(kind(flow)), server)
    assert caught.value is error
    assert error.request is own
    assert ended == [True]


@both
async def test_an_error_of_the_flow_gives_the_answer_up(kind: Kind) -> None:
    def flow(request: Request) -> Flow:
        response = yield request
        raise LookupError(response.status_code)

    server = Server(401)
    with pytest.raises(LookupError, match="401"):
        await authenticate(request(kind(flow)), server)
    assert server.sources[0].closed


@both
async def test_an_error_may_become_another(kind: Kind) -> None:
    def flow(request: Request) -> Flow:
        try:
            yield request
        except ReadError as error:
            raise LookupError("no token") from error

    with pytest.raises(LookupError, match="no token") as caught:
        await authenticate(request(kind(flow)), Server(ReadError("broken")))
    assert isinstance(caught.value.__cause__, ReadError)


@both
async def test_cancellation_closes_the_flow(kind: Kind) -> None:
    ended: list[str] = []
    sending = asyncio.Event()
    # Else that nobody has them any more would close them, some day.
    flows: list[Any] = []

    def make(request: Request) -> Any:
        flows.append(flow(request))
        return flows[-1]

    def flow(request: Request) -> Flow:
        try:
            yield request
        except (Exception, asyncio.CancelledError):
            # It has no say in that.
            yield request
        finally:
            ended.append("closed")

    async def forever(request: Request) -> Response:
        sending.set()
        await asyncio.Event().wait()
        raise AssertionError

    task = asyncio.create_task(authenticate(request(kind(make)), forever))
    await sending.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended == ["closed"]


async def test_a_flow_cannot_stop_a_cancellation() -> None:
    async def flow(request: Request) -> AsyncFlow:
        try:
            yield request
        except asyncio.CancelledError:
            yield request

    async def cancelled(request: Request) -> Response:
        requests.append(request)
        if len(requests) == 1:
            raise asyncio.CancelledError
        return Response(200)

    requests: list[Request] = []
    with pytest.raises(asyncio.CancelledError):
        await authenticate(request(flow), cancelled)


async def test_cancellation_in_a_flow_gives_the_answer_up() -> None:
    waiting = asyncio.Event()
    ended: list[bool] = []

    async def flow(request: Request) -> AsyncFlow:
        try:
            yield request
            waiting.set()
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            ended.append(True)

    server = Server(401)
    task = asyncio.create_task(authenticate(request(flow), server))
    await waiting.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert server.sources[0].closed
    assert ended == [True]


# What is no flow


async def coroutine(request: Request) -> Request:
    return request


def nothing(request: Request) -> Flow:
    return
    yield


async def nothing_async(request: Request) -> AsyncFlow:
    return
    yield


def headers(request: Request) -> Generator[Any, Response, None]:
    yield {"Authorization": "secret"}


async def then_none(request: Request) -> AsyncGenerator[Any, Response]:
    yield request
    yield None


@pytest.mark.parametrize(
    ("auth", "said"),
    [
        (coroutine, "auth: must return a Request or be a generator of them, but returned an object of coroutine"),
        (lambda request: None, "auth: must return a Request or be a generator of them, but returned None"),
        (lambda request: [request], "but returned an object of list"),
        (nothing, "auth: the generator ended without having yielded a request"),
        (nothing_async, "auth: the generator ended without having yielded a request"),
        (headers, "auth: the generator must yield requests, but yielded an object of dict"),
        (then_none, "auth: the generator must yield requests, but yielded None"),
    ],
    ids=["coroutine", "none", "list", "nothing", "nothing async", "dict", "then none"],
)
async def test_what_is_no_flow_is_told_in_words(auth: Auth, said: str) -> None:
    server = Server(401)
    with pytest.raises(UsageError) as caught:
        await authenticate(request(auth), server)
    assert str(caught.value).endswith(said)
    assert "secret" not in str(caught.value)
    assert all(source.closed for source in server.sources)


@both
async def test_a_flow_without_end_is_ended(kind: Kind) -> None:
    ended: list[bool] = []

    def flow(request: Request) -> Flow:
        try:
            while True:
                yield request
        finally:
            ended.append(True)

    server = Server(401)
    with pytest.raises(UsageError, match=f"^auth: asked for more than {MAX_REQUESTS} requests to send one$"):
        await authenticate(request(kind(flow)), server)
    assert len(server.requests) == MAX_REQUESTS
    assert all(source.closed for source in server.sources)
    assert ended == [True]


@both
async def test_a_flow_that_never_gives_in_to_errors_is_ended(kind: Kind) -> None:
    def flow(request: Request) -> Flow:
        while True:
            try:
                yield request
            except ReadError:
                continue

    server = Server(ReadError("broken"))
    with pytest.raises(UsageError, match="asked for more than"):
        await authenticate(request(kind(flow)), server)
    assert len(server.requests) == MAX_REQUESTS


@both
async def test_as_many_requests_as_the_limit_may_be_sent(kind: Kind) -> None:
    def flow(request: Request) -> Flow:
        for _ in range(MAX_REQUESTS):
            yield request

    server = Server(200)
    assert (await authenticate(request(kind(flow)), server)).status_code == 200
    assert len(server.requests) == MAX_REQUESTS


@both
@pytest.mark.parametrize("anew", [False, True])
async def test_a_body_that_cannot_be_sent_again(kind: Kind, anew: bool) -> None:
    def flow(request: Request) -> Flow:
        yield Request("POST", "http://id/", content=iter([b"token"]))
        yield request
        yield request.replace(content=request.content) if anew else request

    server = Server(401)
    with pytest.raises(BodyNotReplayable, match="auth asks for the same body again, but its source can be read only"):
        await authenticate(request(kind(flow), "POST", content=iter([b"a"])), server)
    assert len(server.requests) == 2
    assert all(source.closed for source in server.sources)


@both
async def test_a_body_that_can_be_sent_again(kind: Kind) -> None:
    def flow(request: Request) -> Flow:
        yield request
        yield request

    server = Server(401, 200)
    assert (await authenticate(request(kind(flow), "POST", content=[b"a"]), server)).status_code == 200
