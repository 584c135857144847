"""An origin that keeps failing is left alone, and found out about by one request at a time."""

from __future__ import annotations

import asyncio
import math
import random
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from aiosock.config import Retry
from aiosock.errors import (
    BlockedAddress,
    CircuitOpen,
    ConnectError,
    ConnectTimeout,
    DecodingError,
    PoolTimeout,
    ProxyError,
    ReadError,
    ReadTimeout,
    RemoteProtocolError,
    RequestError,
    ServerDisconnected,
    TotalTimeout,
    UsageError,
)
from aiosock.message.request import Request
from aiosock.message.response import Response
from aiosock.middleware import breaker as module
from aiosock.middleware.auth import authenticate
from aiosock.middleware.breaker import CircuitBreaker
from aiosock.middleware.chain import compose
from aiosock.middleware.rate import RateLimit
from aiosock.middleware.redirect import Redirects
from aiosock.middleware.retry import Retries
from aiosock.middleware.schemes import BasicAuth
from tests.middleware.fakes import Reply, Server
from tests.pool.fakes import ClockLoop, timed, turns

URL = "http://h/"


def breaker(failures: int = 2, **options: Any) -> CircuitBreaker:
    """A breaker whose jitter is always half of what it may be: 5 seconds at first."""
    return CircuitBreaker(failures, **{"random": lambda: 0.5, **options})


def get(url: str = URL, **extensions: Any) -> Request:
    return Request("GET", url, extensions=extensions)


async def said(middleware: CircuitBreaker, *replies: Reply, url: str = URL) -> list[object]:
    """Return what requests come to, one after the other: a status, or the kind of an error."""
    seen: list[object] = []
    for reply in replies:
        server = Server(reply)
        try:
            seen.append((await middleware(get(url), server)).status_code)
        except Exception as error:
            seen.append(type(error))
        assert len(server.requests) == (seen[-1] is not CircuitOpen)
    return seen


class Held:
    """A server that answers when the test says so."""

    def __init__(self) -> None:
        self.future: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def __call__(self, request: Request) -> Response:
        return Response(await self.future, request=request)


async def begin(middleware: CircuitBreaker) -> tuple[asyncio.Task[Response], asyncio.Future[int]]:
    """Return a request that is under way, and what answers it."""
    held = Held()
    task = asyncio.ensure_future(middleware(get(), held))
    await turns()
    return task, held.future


@timed
async def test_so_many_failures_open_the_circuit_and_nothing_is_sent() -> None:
    assert await said(breaker(3), 503, ReadError("x"), 500, 200, 200) == [503, ReadError, 500, CircuitOpen, CircuitOpen]


@timed
async def test_a_success_between_them_starts_the_count_anew() -> None:
    assert await said(breaker(2), 503, 200, 503, 404, 503, 503, 200) == [503, 200, 503, 404, 503, 503, CircuitOpen]


@timed
async def test_the_error_says_which_origin_and_for_how_long() -> None:
    middleware = breaker(1)
    await said(middleware, 503)
    await asyncio.sleep(1)
    with pytest.raises(CircuitOpen, match=r"^h failed too often of late, and is not asked for another 4 s$") as caught:
        await middleware(get("http://user:secret@h/?secret"), Server(200))
    assert caught.value.retry_after == 4


@timed
@pytest.mark.parametrize(
    "error",
    [
        ConnectError("x"),
        ConnectTimeout("x"),
        ProxyError("x"),
        ReadTimeout("x"),
        TotalTimeout("x"),
        ServerDisconnected("x"),
        RemoteProtocolError("x"),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_what_speaks_against_the_origin_is_a_failure(error: RequestError) -> None:
    assert await said(breaker(1), error, 200) == [type(error), CircuitOpen]


@timed
@pytest.mark.parametrize(
    "error",
    [PoolTimeout("x"), BlockedAddress("x"), CircuitOpen("x"), DecodingError("x"), UsageError("x"), ValueError("x")],
    ids=lambda error: type(error).__name__,
)
async def test_what_does_not_is_neither_failure_nor_success(error: Exception) -> None:
    server = Server(503, error, error, 503, 200)
    middleware = breaker(2)
    await middleware(get(), server)
    for _ in range(2):
        with pytest.raises(type(error)):
            await middleware(get(), server)
    await middleware(get(), server)
    with pytest.raises(CircuitOpen, match="failed too often"):
        await middleware(get(), server)


@timed
async def test_which_answers_are_failures_can_be_chosen() -> None:
    assert await said(breaker(1, statuses=[429]), 500, 503, 429, 200) == [500, 503, 429, CircuitOpen]
    assert await said(breaker(1, statuses=()), 500, 503, ReadError("x"), 200) == [500, 503, ReadError, CircuitOpen]


@timed
async def test_one_request_probes_and_its_success_closes_the_circuit() -> None:
    middleware = breaker(2)
    await said(middleware, 503, 503)
    await asyncio.sleep(4.9)
    assert await said(middleware, 200) == [CircuitOpen]
    await asyncio.sleep(0.1)
    probe, answer = await begin(middleware)
    with pytest.raises(CircuitOpen, match="while a probe is under way") as caught:
        await middleware(get(), Server(200))
    assert caught.value.retry_after == 0
    answer.set_result(200)
    assert (await probe).status_code == 200
    # As if nothing had been.
    assert await said(middleware, 503, 200, 503, 503, 200) == [503, 200, 503, 503, CircuitOpen]


@timed
async def test_a_probe_that_fails_opens_it_for_longer_each_time() -> None:
    middleware = breaker(2, recovery=10, max_recovery=50)
    await said(middleware, 503, 503)
    for seconds in (5, 10, 20, 25, 25):
        await asyncio.sleep(seconds - 0.1)
        assert await said(middleware, 200) == [CircuitOpen]
        await asyncio.sleep(0.1)
        assert await said(middleware, ReadError("x")) == [ReadError]
    await asyncio.sleep(25)
    assert await said(middleware, 200, 503, 503) == [200, 503, 503]
    # And after a success it is the first time again.
    await asyncio.sleep(5)
    assert await said(middleware, 200) == [200]


@timed
@pytest.mark.parametrize("end", ["cancelled", UsageError("x"), PoolTimeout("x"), KeyboardInterrupt()], ids=repr)
async def test_a_probe_that_tells_nothing_leaves_its_place_to_the_next(end: Any) -> None:
    middleware = breaker(1)
    await said(middleware, 503)
    await asyncio.sleep(5)
    if end == "cancelled":
        probe, _ = await begin(middleware)
        probe.cancel()
        await asyncio.wait([probe])
    else:

        async def ending(request: Request) -> Response:
            raise end

        with pytest.raises(type(end)):
            await middleware(get(), ending)
    assert await said(middleware, 200, 200) == [200, 200]


@timed
async def test_what_set_out_before_has_no_say_in_the_circuit() -> None:
    middleware = breaker(1)
    slow, answer = await begin(middleware)
    late, failure = await begin(middleware)
    await said(middleware, 503)
    answer.set_result(200)
    await slow
    assert await said(middleware, 200) == [CircuitOpen]
    await asyncio.sleep(5)
    probe, outcome = await begin(middleware)
    failure.set_result(503)
    await late
    assert await said(middleware, 200) == [CircuitOpen]
    outcome.set_result(200)
    await probe
    assert await said(middleware, 200) == [200]


@timed
async def test_failures_of_an_earlier_time_do_not_open_a_circuit_that_was_closed() -> None:
    middleware = breaker(1)
    late, failure = await begin(middleware)
    await said(middleware, 503)
    await asyncio.sleep(5)
    assert await said(middleware, 200) == [200]
    failure.set_result(503)
    await late
    assert await said(middleware, 200) == [200]


@timed
async def test_each_origin_has_its_own_circuit() -> None:
    middleware = breaker(1)
    assert await said(middleware, 503, 200) == [503, CircuitOpen]
    for url in ("http://other/", "https://h/", "http://h:81/"):
        assert await said(middleware, 200, url=url) == [200]


@timed
async def test_the_circuits_of_many_origins_take_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_ORIGINS", 3)
    middleware = breaker(2)
    for number in range(3):
        await said(middleware, 200, 503, url=f"http://h{number}/")
    assert await said(middleware, 503, url="http://h0/") == [503]
    await said(middleware, 503, url="http://h3/")
    assert [host for _, host, _ in middleware._circuits] == ["h2", "h0", "h3"]
    assert await said(middleware, 200, url="http://h0/") == [CircuitOpen]


@timed
async def test_a_probe_of_a_circuit_that_was_forgotten_counts_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_ORIGINS", 1)
    middleware = breaker(1)
    await said(middleware, 503)
    await asyncio.sleep(5)
    probe, answer = await begin(middleware)
    await said(middleware, 503, url="http://other/")
    answer.set_result(503)
    await probe
    assert [host for _, host, _ in middleware._circuits] == ["other"]
    assert await said(middleware, 200) == [200]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"failures": 0}, "failures takes a whole number of at least 1, not 0"),
        ({"failures": True}, "failures takes a whole number of at least 1, not True"),
        ({"failures": 2.5}, "failures takes a whole number of at least 1, not 2.5"),
        ({"statuses": 500}, "statuses takes a set of status codes, not 500"),
        ({"statuses": [5000]}, "statuses takes codes from 200 to 999, not 5000"),
        *(
            ({name: value}, f"{name} takes a number of seconds greater than 0, not {value!r}")
            for name in ("recovery", "max_recovery")
            for value in (0, -1, math.inf, 10**400, math.nan, "5", True, None)
        ),
        ({"random": 5}, "random takes a function that returns a number from 0 to below 1, not 5"),
    ],
)
def test_a_breaker_that_makes_no_sense_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=f"^CircuitBreaker: {message}$"):
        CircuitBreaker(**options)


# Together with others


@timed
async def test_an_open_circuit_ends_retries_at_once_with_what_there_is() -> None:
    server = Server(503)
    chain = compose([Retries(Retry(5), random=lambda: 0.0), breaker(2)], server)
    response = await chain(get())
    assert (response.status_code, await response.read()) == (503, b"answer 2")
    assert [attempt.status_code for attempt in response.extensions["attempts"]] == [503, 503]
    with pytest.raises(CircuitOpen) as caught:
        await chain(get())
    assert [attempt.status_code for attempt in caught.value.attempts] == [None]
    assert len(server.requests) == 2


@timed
async def test_around_retries_only_what_was_tried_in_vain_counts() -> None:
    server = Server(503, 200, 503, 200, 503)
    chain = compose([breaker(1), Retries(Retry(2), random=lambda: 0.0)], server)
    assert [(await chain(get())).status_code for _ in range(3)] == [200, 200, 503]
    with pytest.raises(CircuitOpen):
        await chain(get())
    assert len(server.requests) == 6


@timed
async def test_each_hop_of_a_redirect_has_its_own_circuit() -> None:
    server = Server((302, {"Location": "http://down/"}), 503)
    chain = compose([Redirects(True, 5), breaker(1), authenticate], server)
    assert (await chain(get(auth=BasicAuth("u", "p")))).status_code == 503
    server.replies.insert(0, (302, {"Location": "http://down/"}))
    with pytest.raises(CircuitOpen, match=r"^down failed too often") as caught:
        await chain(get(auth=BasicAuth("u", "p")))
    assert str(caught.value.request.url) == "http://down/"  # type: ignore[union-attr]  # set by the redirects


@timed
async def test_an_open_circuit_takes_no_turn_of_a_rate_and_a_late_turn_is_no_failure() -> None:
    server = Server(200)
    chain = compose([breaker(1), RateLimit("1/h")], server)
    await chain(get())
    for _ in range(2):
        with pytest.raises(PoolTimeout):
            await chain(get(deadline=asyncio.get_running_loop().time() + 1))
    limit = RateLimit("1/h")
    chain = compose([breaker(1), limit], Server(503))
    await chain(get())
    with pytest.raises(CircuitOpen):
        await chain(get())


@timed
async def test_a_probe_that_is_called_off_while_it_waits_for_its_turn_frees_all_places() -> None:
    server = Server(503, 200)
    limit = RateLimit(concurrency=1)
    chain = compose([breaker(1), limit], server)
    first = await chain(get())
    await asyncio.sleep(5)
    probe = asyncio.ensure_future(chain(get()))  # type: ignore[arg-type]  # it is a coroutine
    await turns()
    probe.cancel()
    await asyncio.wait([probe])
    await first.close()
    assert (await chain(get())).status_code == 200


# Any order of things


class Breaker(RuleBasedStateMachine):
    """
    Requests begin and end in any order. The model: a circuit is closed, open until some time, or probed by one request.
    """

    FAILURES = 3

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner(loop_factory=ClockLoop)
        self.loop = self.runner.get_loop()
        self.chances = random.Random(1)
        self.middleware = CircuitBreaker(self.FAILURES, recovery=10, max_recovery=40, random=self.chances.random)
        self.under_way: list[tuple[asyncio.Task[Response], asyncio.Future[int | None], int]] = []
        self.era = 0
        self.count = 0
        self.trips = 0
        self.state = "closed"
        self.opened_at = 0.0
        self.probe: asyncio.Task[Response] | None = None

    def open(self) -> None:
        self.state, self.count, self.era = "open", 0, self.era + 1
        self.trips += 1
        self.opened_at = self.loop.time()

    @rule()
    def request(self) -> None:
        self.runner.run(self._request())

    async def _request(self) -> None:
        answer: asyncio.Future[int | None] = self.loop.create_future()

        async def send(request: Request) -> Response:
            status = await answer
            if status is None:
                raise ReadError("broke")
            return Response(status, request=request)

        task = asyncio.ensure_future(self.middleware(get(), send))
        await turns()
        if not task.done():
            if self.state == "open":
                # Not before its time is for the tests above; here, the one who gets through is the probe.
                self.state, self.probe = "probed", task
            assert self.state == "closed" or self.probe is task
            self.under_way.append((task, answer, self.era))
        else:
            assert self.state != "closed"
            error = task.exception()
            assert isinstance(error, CircuitOpen)
            if self.state == "open":
                most = min(40, 10 * 2 ** (self.trips - 1))
                assert 0 < error.retry_after <= self.opened_at + most - self.loop.time() + 1e-6

    @precondition(lambda self: self.under_way)
    @rule(which=st.integers(0, 100), outcome=st.sampled_from([200, 404, 500, 503, None, "cancel"]))
    def end(self, which: int, outcome: Any) -> None:
        task, answer, era = self.under_way.pop(which % len(self.under_way))
        self.runner.run(self._end(task, answer, outcome))
        failed = None if outcome == "cancel" else outcome in (500, 503, None)
        if task is self.probe:
            self.probe = None
            if failed:
                self.open()
            elif failed is None:
                self.state = "open"
            else:
                self.state, self.trips, self.count, self.era = "closed", 0, 0, self.era + 1
        elif self.state == "closed" and era == self.era and failed is not None:
            self.count = self.count + 1 if failed else 0
            if self.count == self.FAILURES:
                self.open()

    async def _end(self, task: asyncio.Task[Response], answer: asyncio.Future[int | None], outcome: Any) -> None:
        if outcome == "cancel":
            task.cancel()
        else:
            answer.set_result(outcome)
        await asyncio.wait([task])
        if not task.cancelled():
            task.exception()

    @rule(seconds=st.floats(0, 50))
    def wait(self, seconds: float) -> None:
        self.loop.now += seconds  # type: ignore[attr-defined]  # the clock's

    @invariant()
    def the_longest_wait_ends(self) -> None:
        [circuit] = self.middleware._circuits.values() or [None]
        assert (circuit is None or circuit.probe_at is None) == (self.state == "closed")

    def teardown(self) -> None:
        async def off() -> None:
            for task, _, _ in self.under_way:
                task.cancel()
            if self.under_way:
                await asyncio.wait([task for task, _, _ in self.under_way])

        self.runner.run(off())
        self.runner.close()


def test_in_any_order_of_things_one_probe_at_a_time_decides() -> None:
    run_state_machine_as_test(Breaker)
