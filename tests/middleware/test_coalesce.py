"""Identical safe requests share one exchange, and none of those who wait for it is harmed by another."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Callable, Coroutine
from functools import partial, wraps
from typing import Any

import pytest
from multidict import CIMultiDict

from aiosock.config import Timeout
from aiosock.errors import ConnectError, IncompleteBody, ReadTimeout, TotalTimeout, UsageError
from aiosock.message.request import Request
from aiosock.message.response import Response
from aiosock.middleware.chain import as_middleware, compose
from aiosock.middleware.coalesce import Coalesce
from aiosock.middleware.cookies import CookieKeeper
from aiosock.middleware.kept import KeptBody
from aiosock.middleware.schemes import DigestAuth
from tests.pool.fakes import ClockLoop


def timed(test: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    """Run a test on a loop whose time passes at once; uvloop's clock is its own."""

    @wraps(test)
    def run() -> None:
        with asyncio.Runner(loop_factory=ClockLoop) as runner:
            runner.run(test())

    return run


def somebodys(request: Request) -> Request:
    return request


class Body(KeptBody):
    """Pieces that come when they are let, and whether anybody gave them up."""

    def __init__(self, *pieces: bytes | Exception | float) -> None:
        super().__init__(b"", CIMultiDict({"T": "trailer"}))
        self.pieces = list(pieces)
        self.aborted = self.closed = self.lifted = False

    async def receive(self) -> bytes:
        piece = self.pieces.pop(0) if self.pieces else b""
        if isinstance(piece, float):
            await asyncio.sleep(piece)
            return await self.receive()
        if isinstance(piece, Exception):
            raise piece
        return piece

    def lift_deadline(self) -> None:
        self.lifted = True

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.aborted = True


class Server:
    """Answers all requests when it is let."""

    def __init__(self, *pieces: bytes | Exception | float, headers: Any = (), error: Exception | None = None) -> None:
        self.go = asyncio.Event()
        self.pieces = pieces
        self.headers = headers
        self.error = error
        self.requests: list[Request] = []
        self.bodies: list[Body] = []
        self.cancelled = 0

    async def __call__(self, request: Request) -> Response:
        self.requests.append(request)
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self.error is not None:
            raise self.error
        self.bodies.append(Body(*self.pieces))
        return Response(200, headers=self.headers, request=request, source=self.bodies[-1], reason="Fine")


def get(url: str = "http://h/a?b", method: str = "GET", **options: Any) -> Request:
    return Request(method, url, **options)


async def turns(count: int = 10) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


def ask(coalesce: Coalesce, server: Any, *requests: Request) -> list[asyncio.Task[Response]]:
    async def one(request: Request) -> Response:
        return await coalesce(request, server)

    return [asyncio.create_task(one(request)) for request in requests]


async def test_the_same_requests_share_one_exchange_and_each_has_a_response_of_its_own() -> None:
    zipped = gzip.compress(b"hello" * 1000)
    server = Server(zipped[:10], zipped[10:], headers=[("Content-Encoding", "gzip"), ("X", "1"), ("X", "2")])
    coalesce = Coalesce()
    tasks = ask(coalesce, server, *(get() for _ in range(5)))
    await turns()
    assert repr(coalesce) == "<Coalesce 1 under way>"
    server.go.set()
    responses = await asyncio.gather(*tasks)
    assert len(server.requests) == 1
    assert len({id(response) for response in responses}) == len({id(response.headers) for response in responses}) == 5
    responses[0].extensions["mine"] = True
    for response in responses:
        assert await response.read() == b"hello" * 1000
        assert (response.status_code, response.reason, response.headers.getall("X")) == (200, "Fine", ["1", "2"])
        assert response.trailers == {"T": "trailer"}
        assert response.request is server.requests[0]
    assert responses[1].extensions == {}
    assert repr(coalesce) == "<Coalesce 0 under way>"


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (get(), get("http://h/a?c")),
        (get(), get("http://i/a?b")),
        (get(), get("https://h/a?b")),
        (get(), get().replace(target="*")),
        (get(), get(method="HEAD")),
        (get(), get(headers={"A": "b"})),
        (get(headers=[("A", "1"), ("A", "2")]), get(headers=[("A", "2"), ("A", "1")])),
        *(
            (get(), get(extensions={name: "x"}))
            for name in ("auth", "proxy", "guard", "timeout", "server_name", "anything")
        ),
        (get(), get(extensions={"cookies": {"a": "b"}})),
        (get(extensions={"auth": DigestAuth("u", "p")}), get(extensions={"auth": DigestAuth("u", "p")})),
        # It may be another user for each.
        (get(extensions={"auth": somebodys}), get(extensions={"auth": somebodys})),
        (get(method="POST"), get(method="POST")),
        (get(method="OPTIONS"), get(method="OPTIONS")),
        (get(content=b"x"), get(content=b"x")),
        (get(headers={"Upgrade": "x"}), get(headers={"Upgrade": "x"})),
    ],
)
async def test_what_differs_is_not_shared(first: Request, second: Request) -> None:
    server = Server(b"x")
    tasks = ask(Coalesce(), server, first, second)
    await turns()
    assert len(server.requests) == 2
    server.go.set()
    await asyncio.gather(*tasks)


async def test_the_jars_cookies_count() -> None:
    server, keeper, coalesce = Server(b"x"), CookieKeeper(), Coalesce()
    send = compose([coalesce, keeper], server)
    tasks = [asyncio.ensure_future(send(get()))]
    await turns()
    keeper.open_jar().store(["sid=alice"], get().location)
    tasks += [asyncio.ensure_future(send(get())) for _ in range(2)]
    await turns()
    assert [request.headers.get("Cookie") for request in server.requests] == [None, "sid=alice"]
    server.go.set()
    await asyncio.gather(*tasks)


async def test_chains_that_were_composed_anew_of_the_same_are_the_same() -> None:
    async def own(request: Request, next: Any) -> Response:
        return await next(request)

    async def another(request: Request, next: Any) -> Response:
        return await next(request)

    server, keeper, coalesce = Server(b"x"), CookieKeeper(), Coalesce()
    tasks = [
        asyncio.ensure_future(compose([coalesce, *map(as_middleware, below), keeper], to)(get(extensions=extensions)))
        for below, to, extensions in (
            ([own], server, {"middleware": [1]}),
            ([own], server, {"middleware": [2], "retry": 3}),
            ([another], server, {}),
            ([own, own], server, {}),
            ([], server, {}),
            ([Coalesce()], server, {}),
            ([partial(own)], server, {}),
        )
    ]
    await turns()
    assert len(server.requests) == len(tasks) - 1
    server.go.set()
    assert [await response.read() for response in await asyncio.gather(*tasks)] == [b"x"] * len(tasks)


async def test_what_leads_elsewhere_is_not_shared() -> None:
    one, other, coalesce = Server(b"x"), Server(b"x"), Coalesce()
    tasks = ask(coalesce, one, get()) + ask(coalesce, other, get())
    await turns()
    assert len(one.requests) == len(other.requests) == 1
    for server in (one, other):
        server.go.set()
    await asyncio.gather(*tasks)


@pytest.mark.parametrize(("url", "count"), [("http://h/other", 3), ("http://i/", 1)])
async def test_who_asks_after_a_change_began_or_ended_joins_nothing_older(url: str, count: int) -> None:
    server, changing, coalesce = Server(b"x"), Server(b"x"), Coalesce()
    tasks = ask(coalesce, server, get())
    await turns()
    [change] = ask(coalesce, changing, get(url, "POST"))
    await turns()
    tasks += ask(coalesce, server, get())
    await turns()
    changing.go.set()
    await change
    tasks += ask(coalesce, server, get())
    await turns()
    assert len(server.requests) == count
    server.go.set()
    for response in await asyncio.gather(*tasks):
        assert await response.read() == b"x"
    assert repr(coalesce) == "<Coalesce 0 under way>"


async def test_one_after_the_other_is_not_shared() -> None:
    server, coalesce = Server(b"x"), Coalesce()
    server.go.set()
    for _ in range(2):
        await (await coalesce(get(), server)).read()
    assert len(server.requests) == 2


async def test_who_is_alone_gets_the_answer_as_it_comes() -> None:
    server = Server(b"a", 3600.0, b"b")
    server.go.set()
    response = await Coalesce()(get(), server)
    assert await response.iter_bytes().__anext__() == b"a"


async def test_nobody_joins_once_the_head_was_given_away() -> None:
    server, coalesce = Server(b"x"), Coalesce()
    server.go.set()
    first = await coalesce(get(), server)
    second = await coalesce(get(), server)
    assert len(server.requests) == 2
    assert [await first.read(), await second.read()] == [b"x", b"x"]


@pytest.mark.parametrize(
    ("limit", "headers"),
    [(9, {}), (100, {"Content-Type": "text/event-stream; x"}), (100, {"Transfer-Encoding": "gzip, chunked"})],
)
async def test_beyond_the_bound_and_what_cannot_be_kept_goes_to_one_and_the_others_send_their_own(
    limit: int, headers: dict[str, str]
) -> None:
    server = Server(b"12345", b"67890", headers=headers)
    tasks = ask(Coalesce(max_bytes=limit), server, get(), get(), get())
    await turns()
    assert len(server.requests) == 1
    server.go.set()
    responses = await asyncio.gather(*tasks)
    assert len(server.requests) == 3
    assert [await response.read() for response in responses] == [b"1234567890"] * 3


@pytest.mark.parametrize("tells", [True, False])
@pytest.mark.parametrize("field", ["Authorization", "Cookie"])
async def test_who_is_given_credentials_below_is_not_given_what_another_one_got(field: str, tells: bool) -> None:
    users = iter("abc")

    async def signed(request: Request, next: Any) -> Response:
        return await next(request.replace(headers=[(field, next_user())]))

    def next_user() -> str:
        return next(users)

    async def server(request: Request) -> Response:
        return Response(200, content=request.headers[field], request=request if tells else None)

    send = compose([Coalesce(), signed, CookieKeeper()], server)
    responses = await asyncio.gather(*(send(get()) for _ in range(3)))
    assert sorted(response.text for response in responses) == ["a", "b", "c"]


@pytest.mark.parametrize("name", ["cookies", "default_cookies"])
async def test_cookies_that_something_below_lets_be_added_are_seen(name: str) -> None:
    users = iter("abc")

    async def signed(request: Request, next: Any) -> Response:
        return await next(request.replace(extensions={**request.extensions, name: {"user": next_user()}}))

    def next_user() -> str:
        return next(users)

    async def server(request: Request) -> Response:
        return Response(200, content=request.headers["Cookie"], request=request)

    send = compose([Coalesce(), signed, CookieKeeper()], server)
    responses = await asyncio.gather(*(send(get(extensions={name: {"x": "y"}})) for _ in range(3)))
    assert sorted(response.text for response in responses) == ["user=a", "user=b", "user=c"]


async def test_cookies_that_came_in_the_meantime_keep_nobody_from_sharing() -> None:
    keeper = CookieKeeper()
    keeper.open_jar().store(["a=1"], get().location)

    async def later(request: Request, next: Any) -> Response:
        keeper.open_jar().store(["a=2"], request.location)
        return await next(request)

    sent: list[str] = []

    async def server(request: Request) -> Response:
        sent.append(request.headers["Cookie"])
        return Response(200, content="x", request=request)

    send = compose([Coalesce(), later, keeper], server)
    assert [response.status_code for response in await asyncio.gather(*(send(get()) for _ in range(3)))] == [200] * 3
    assert sent == ["a=2"]


async def test_a_body_of_just_the_bound_is_shared() -> None:
    server = Server(b"12345", b"67890")
    tasks = ask(Coalesce(max_bytes=10), server, get(), get())
    await turns()
    server.go.set()
    assert [await response.read() for response in await asyncio.gather(*tasks)] == [b"1234567890"] * 2
    assert len(server.requests) == 1


@pytest.mark.parametrize("leaving", [0, 1])
async def test_who_is_cancelled_harms_nobody(leaving: int) -> None:
    server = Server(b"x")
    tasks = ask(Coalesce(), server, get(), get(), get())
    await turns()
    tasks.pop(leaving).cancel()
    await turns()
    server.go.set()
    assert [await response.read() for response in await asyncio.gather(*tasks)] == [b"x"] * 2
    assert (len(server.requests), server.cancelled) == (1, 0)


async def test_when_nobody_waits_any_more_the_exchange_ends_and_the_next_one_sends_anew() -> None:
    server, coalesce = Server(b"x"), Coalesce()
    tasks = ask(coalesce, server, get(), get())
    await turns()
    for task in tasks:
        task.cancel()
    await turns()
    assert server.cancelled == 1
    server.go.set()
    assert await (await coalesce(get(), server)).read() == b"x"
    assert len(server.requests) == 2


async def test_a_body_is_given_up_when_nobody_waits_for_it_any_more() -> None:
    server = Server(b"x", 3600.0)
    tasks = ask(Coalesce(), server, get(), get())
    await turns()
    server.go.set()
    await turns()
    for task in tasks:
        task.cancel()
    await turns()
    assert server.bodies[0].aborted


async def test_an_answer_that_nobody_takes_is_given_up() -> None:
    server = Server(b"x")
    [task] = ask(Coalesce(), server, get())
    await turns()
    server.go.set()
    while not server.bodies:
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled() == server.bodies[0].aborted


class Peculiar(Exception):
    def __init__(self, one: str, *, other: str) -> None:
        super().__init__(one)


async def test_an_error_reaches_each_as_one_of_its_own() -> None:
    error = ConnectError("no way")
    error.__cause__ = OSError("cause")
    server = Server(error=error)
    requests = [get(), get(), get()]
    tasks = ask(Coalesce(), server, *requests)
    await turns()
    server.go.set()
    errors = await asyncio.gather(*tasks, return_exceptions=True)
    assert len({id(one) for one in [*errors, error]}) == 4
    for request, one in zip(requests, errors, strict=True):
        assert isinstance(one, ConnectError)
        assert one.request is request
        assert str(one).startswith("no way")
        assert one.__cause__ is error.__cause__


async def test_an_error_about_another_request_says_so_still() -> None:
    error = ConnectError("no token")
    error.request = get("http://id/token")
    server = Server(error=error)
    tasks = ask(Coalesce(), server, get(), get())
    await turns()
    server.go.set()
    for one in await asyncio.gather(*tasks, return_exceptions=True):
        assert isinstance(one, ConnectError)
        assert one.request is error.request


async def test_an_error_that_cannot_be_copied_is_shared() -> None:
    server = Server(error=Peculiar("a", other="b"))
    tasks = ask(Coalesce(), server, get(), get())
    await turns()
    server.go.set()
    assert all(isinstance(one, Peculiar) for one in await asyncio.gather(*tasks, return_exceptions=True))


async def test_a_body_that_is_cut_short_is_an_error_for_all() -> None:
    server = Server(b"x", IncompleteBody("cut"))
    tasks = ask(Coalesce(), server, get(), get())
    await turns()
    server.go.set()
    errors = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(error) for error in errors] == [IncompleteBody] * 2
    assert server.bodies[0].aborted


async def test_an_exchange_that_is_cancelled_from_outside_cancels_those_who_wait() -> None:
    server = Server(b"x")
    tasks = ask(Coalesce(), server, get(), get())
    await turns()
    known = {*tasks, asyncio.current_task()}
    [exchange] = [task for task in asyncio.all_tasks() if task not in known]
    exchange.cancel()
    await asyncio.wait(tasks)
    assert all(task.cancelled() for task in tasks)


@timed
async def test_each_waits_for_as_long_as_its_own_total_allows() -> None:
    server = Server(b"x")
    now = asyncio.get_running_loop().time()
    timeout = Timeout(5)
    tasks = ask(
        Coalesce(),
        server,
        get(extensions={"timeout": timeout, "deadline": now + 5}),
        get(extensions={"timeout": timeout, "deadline": now + 9}),
    )
    await asyncio.sleep(7)
    assert tasks[0].done()
    with pytest.raises(TotalTimeout, match="longer than 5 s in all") as caught:
        await tasks[0]
    assert caught.value.request is not None
    assert asyncio.get_running_loop().time() == now + 7
    server.go.set()
    assert await (await tasks[1]).read() == b"x"
    assert "deadline" not in server.requests[0].extensions


@timed
async def test_who_is_alone_reads_within_its_own_total() -> None:
    server = Server(b"x", 100.0, b"y")
    server.go.set()
    now = asyncio.get_running_loop().time()
    request = get(extensions={"deadline": now + 5})
    response = await Coalesce()(request, server)
    with pytest.raises(TotalTimeout):
        await response.read()
    assert asyncio.get_running_loop().time() == now + 5
    response = await Coalesce()(get(extensions={"deadline": now + 6}), server)
    await asyncio.sleep(1)
    with pytest.raises(TotalTimeout):
        await response.read()


@timed
async def test_who_streams_is_not_bound_by_the_total_after_the_head() -> None:
    server = Server(b"x", 100.0, b"y")
    server.go.set()
    now = asyncio.get_running_loop().time()
    response = await Coalesce()(get(extensions={"deadline": now + 5}), server)
    response.lift_deadline()
    assert await response.read() == b"xy"
    assert server.bodies[0].lifted


@timed
async def test_another_timeout_stays_what_it_is() -> None:
    server = Server(ReadTimeout("slow"))
    server.go.set()
    now = asyncio.get_running_loop().time()
    response = await Coalesce()(get(extensions={"deadline": now + 5}), server)
    with pytest.raises(ReadTimeout):
        await response.read()


@pytest.mark.parametrize("limit", [-1, True, 1.5, None])
def test_a_limit_that_makes_no_sense(limit: Any) -> None:
    with pytest.raises(UsageError, match=f"max_bytes takes a whole number of at least 0, not {limit!r}"):
        Coalesce(max_bytes=limit)
