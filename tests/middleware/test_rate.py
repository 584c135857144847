"""No origin is sent more than it is to get, in whatever way requests come and go; nobody waits for nothing."""

from __future__ import annotations

import asyncio
import gc
import math
import sys
import weakref
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiosock.config import Retry
from aiosock.errors import ClientClosed, PoolTimeout, ReadError, UsageError
from aiosock.message.request import Request
from aiosock.message.response import Response
from aiosock.middleware import rate as module
from aiosock.middleware.auth import authenticate
from aiosock.middleware.chain import Lifetime, compose
from aiosock.middleware.rate import LEAST_SHARE, MAX_PAUSE_SECONDS, Gate, RateLimit, parse_rate
from aiosock.middleware.redirect import Redirects
from aiosock.middleware.retry import Retries
from aiosock.middleware.schemes import BasicAuth
from tests.middleware.fakes import Reply, Server, Source
from tests.pool.fakes import ClockLoop, timed, turns

URL = "http://h/"
EPOCH = 784111777.0
Task = asyncio.Task[Response]


def now() -> float:
    return asyncio.get_running_loop().time()


class Site:
    """
    Answers at once, or when the test says so; remembers when each request came.

    Args:
        replies: What it answers, the last of it for ever.
        held: Answers only when `answer` is called.
    """

    def __init__(self, *replies: Reply, held: bool = False) -> None:
        self.server = Server(*(replies or (200,)))
        self.times: list[float] = []
        self.paths: list[str] = []
        self.doors: list[asyncio.Future[None]] = []
        self.held = held

    async def __call__(self, request: Request) -> Response:
        self.times.append(now())
        self.paths.append(request.target.strip("/"))
        if self.held:
            self.doors.append(asyncio.get_running_loop().create_future())
            await self.doors[-1]
        return await self.server(request)


class Shop:
    """A limit, and requests through it."""

    def __init__(self, limit: RateLimit, site: Site) -> None:
        self.limit = limit
        self.site = site
        self.since = now()

    def ask(self, path: str = "", url: str = URL, **extensions: Any) -> Task:
        request = Request("GET", url + path, extensions=extensions)
        return asyncio.ensure_future(self.limit(request, self.site))

    def gate(self, url: str = URL) -> Gate:
        return self.limit._gates[Request("GET", url).location.origin]

    @property
    def times(self) -> list[float]:
        return [round(time - self.since, 6) for time in self.site.times]


def shop(*replies: Reply, held: bool = False, **options: Any) -> Shop:
    return Shop(RateLimit(**{"clock": lambda: EPOCH, **options}), Site(*replies, held=held))


# The rate


@timed
async def test_requests_go_evenly_spaced_and_in_the_order_in_which_they_came() -> None:
    it = shop(per_host="10/s")
    await asyncio.gather(*(it.ask(str(number)) for number in range(5)))
    assert it.times == [0, 0.1, 0.2, 0.3, 0.4]
    assert it.site.paths == list("01234")


@timed
async def test_a_burst_goes_together_and_comes_back_with_time() -> None:
    it = shop(per_host=2, burst=3)
    await asyncio.gather(*(it.ask() for _ in range(5)))
    assert it.times == [0, 0, 0, 0.5, 1]
    await asyncio.sleep(0.5)
    await it.ask()
    await asyncio.sleep(100)
    del it.site.times[:]
    it.since = now()
    await asyncio.gather(*(it.ask() for _ in range(5)))
    assert it.times == [0, 0, 0, 0.5, 1]


@timed
async def test_a_request_after_a_pause_does_not_wait() -> None:
    it = shop(per_host="60/min")
    for seconds in (0, 1, 5):
        await asyncio.sleep(seconds)
        before = now()
        await it.ask()
        assert now() == before


@timed
async def test_nobody_slips_in_just_as_the_turn_of_another_comes() -> None:
    it = shop(per_host="1/s")
    await it.ask("0")
    waiting = it.ask("1")
    await turns()
    # Time has passed, and the timer has not told yet.
    asyncio.get_running_loop().now += 1  # type: ignore[attr-defined]  # the clock's
    request = asyncio.ensure_future(it.limit(Request("GET", URL + "2"), it.site))
    await asyncio.gather(waiting, request)
    assert it.site.paths == ["0", "1", "2"]
    assert it.times == [0, 1, 2]


class LateLoop(ClockLoop):
    """A loop whose timers come late by some seconds each."""

    late = 0.0

    def __init__(self) -> None:
        super().__init__()
        select = self._selector.select  # type: ignore[attr-defined]  # asyncio's own

        def late_select(timeout: float | None = None) -> Any:
            ready = select(timeout)
            if not ready and timeout:
                self.now += self.late
            return ready

        self._selector.select = late_select  # type: ignore[attr-defined]  # as above


def times_when_late(late: float, count: int, rate: float, burst: int = 1) -> list[float]:
    """Return when requests go that all come at once, the timers being late by so much."""

    async def main() -> list[float]:
        asyncio.get_running_loop().late = late  # type: ignore[attr-defined]  # the loop's
        it = shop(per_host=rate, burst=burst)
        await asyncio.gather(*(it.ask() for _ in range(count)))
        return it.times

    with asyncio.Runner(loop_factory=LateLoop) as runner:
        return runner.run(main())


def test_what_a_timer_is_late_by_does_not_delay_who_comes_after() -> None:
    assert times_when_late(0.03, 6, 10) == [0, 0.13, 0.23, 0.33, 0.43, 0.53]


def test_of_a_timer_that_is_very_late_one_request_is_made_up_for() -> None:
    assert times_when_late(0.55, 6, 10) == [0, 0.65, 0.65, 1.3, 1.3, 1.95]


def test_a_slow_rate_makes_up_for_a_tenth_of_a_second_at_most() -> None:
    assert times_when_late(0.5, 4, 1) == [0, 1.5, 2.9, 4.3]


@given(late=st.floats(0, 2), rate=st.sampled_from([0.5, 1, 7.3, 30]), burst=st.integers(1, 3), count=st.integers(1, 12))
def test_late_timers_let_one_request_more_go_at_most(late: float, rate: float, burst: int, count: int) -> None:
    times = times_when_late(late, count, rate, burst)
    for first, start in enumerate(times):
        for last in range(first, count):
            assert last - first + 1 <= burst + 1 + rate * (times[last] - start) + 1e-4


@timed
async def test_a_timer_that_is_a_little_early_lets_the_next_one_go() -> None:
    it = shop(per_host="10/s")
    await it.ask()
    waiting = [it.ask(), it.ask()]
    await asyncio.sleep(0.0999)
    it.gate()._on_time(it.since + 0.1)
    await asyncio.gather(*waiting)
    assert it.times == [0, 0.0999, 0.2]


@timed
async def test_who_waited_for_others_is_not_taken_for_late() -> None:
    it = shop(per_host="10/s", concurrency=1)
    first = await it.ask()
    waiting = [it.ask("1"), it.ask("2")]
    await asyncio.sleep(5)
    await first.close()
    await (await waiting[0]).close()
    await (await waiting[1]).close()
    assert it.times == [0, 5, 5.1]


@timed
async def test_each_origin_has_its_own_rate() -> None:
    it = shop(per_host="1/h")
    await asyncio.gather(*(it.ask(url=url) for url in (URL, "https://h/", "http://h:81/", "http://[::1]/")))
    assert it.times == [0, 0, 0, 0]


@pytest.mark.parametrize(
    ("value", "rate"),
    [("10/s", 10), ("300/min", 5), ("1800/h", 0.5), (" 1.5 / s ", 1.5), (3, 3), (0.25, 0.25)],
)
def test_a_rate_is_a_number_of_requests_per_time(value: str | float, rate: float) -> None:
    assert parse_rate(value) == rate


@pytest.mark.parametrize(
    "value",
    [
        *("", "10", "/s", "10/", "10/day", "ten/s", "-1/s", "0/s", "1e3/s", "1/0s", "9" * 400 + "/s", "\u0663/s"),
        *(0, -1, math.nan, math.inf, 1e-320, True, b"1/s"),
    ],
)
def test_what_is_no_rate_is_refused(value: Any) -> None:
    with pytest.raises(UsageError, match=r"^RateLimit: per_host takes '10/s', .* not "):
        RateLimit(value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "takes per_host or concurrency, but both are None"),
        ({"per_host": 1, "burst": 0}, f"burst takes a whole number from 1 to {sys.maxsize}, not 0"),
        ({"per_host": 1, "burst": 1.5}, f"burst takes a whole number from 1 to {sys.maxsize}, not 1.5"),
        ({"per_host": 1, "burst": 10**400}, f"burst takes a whole number from 1 to {sys.maxsize}, not 10+"),
        ({"concurrency": 0}, f"concurrency takes a whole number from 1 to {sys.maxsize}, not 0"),
        ({"concurrency": True}, f"concurrency takes a whole number from 1 to {sys.maxsize}, not True"),
        ({"concurrency": 10**400}, f"concurrency takes a whole number from 1 to {sys.maxsize}, not 10+"),
        ({"per_host": 1, "clock": 5}, "clock takes a function that returns seconds, not 5"),
    ],
)
def test_limits_that_make_no_sense_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=f"^RateLimit: {message}$"):
        RateLimit(**options)


# The number at once


@timed
async def test_so_many_at_once_and_each_until_its_body_has_been_read() -> None:
    it = shop(concurrency=2)
    tasks = [it.ask(str(number)) for number in range(4)]
    await turns()
    assert it.site.paths == ["0", "1"]
    assert await (await tasks[0]).read() == b"answer 1"
    await turns()
    assert it.site.paths == ["0", "1", "2"]
    await (await tasks[2]).close()
    await turns()
    assert it.site.paths == ["0", "1", "2", "3"]
    for task in tasks:
        await (await task).close()
    assert it.gate().at_rest


class Body(Source):
    """May be broken off, or fail."""

    def __init__(self, error: BaseException | None = None) -> None:
        super().__init__(b"data")
        self.error = error

    async def receive(self) -> bytes:
        if self.error is not None:
            raise self.error
        return await super().receive()

    def abort(self) -> None:
        self.closed = True


async def read_in_vain(response: Response) -> None:
    with pytest.raises((ReadError, asyncio.CancelledError)):
        await response.read()


async def abort(response: Response) -> None:
    response.abort()


async def iterate(response: Response) -> None:
    assert [chunk async for chunk in response.iter_raw()] == [b"data"]
    await response.close()


Ending = Callable[[Response], Coroutine[Any, Any, None]]


@pytest.mark.parametrize(
    ("error", "end"),
    [
        (None, iterate),
        (None, abort),
        (None, Response.close),
        (ReadError("broke"), read_in_vain),
        (asyncio.CancelledError(), read_in_vain),
    ],
)
async def test_however_a_body_ends_its_place_is_free_once(error: BaseException | None, end: Ending) -> None:
    limit = RateLimit(concurrency=1)

    async def send(request: Request) -> Response:
        return Response(200, request=request, source=Body(error))

    for _ in range(3):
        response = await limit(Request("GET", URL), send)
        [gate] = limit._gates.values()
        assert gate._under_way == 1
        await end(response)
        assert gate._under_way == 0


class Switched:
    async def read(self) -> bytes:
        return b""

    async def write(self, data: bytes) -> None:
        pass

    async def close(self) -> None:
        pass


@pytest.mark.parametrize("kind", ["read", "switched", "given up"])
async def test_a_response_without_a_body_to_come_holds_no_place(kind: str) -> None:
    limit = RateLimit(concurrency=1)

    async def send(request: Request) -> Response:
        if kind == "read":
            return Response(200, headers={"Content-Encoding": "gzip"}, content=b"kept", request=request)
        response = Response(101 if kind == "switched" else 200, source=Source(), request=request)
        if kind == "switched":
            response.stream = Switched()
        else:
            await response.close()
        return response

    for _ in range(2):
        response = await limit(Request("GET", URL), send)
    if kind == "read":
        assert response.content == b"kept"
        assert response.headers["Content-Encoding"] == "gzip"


@pytest.mark.parametrize("error", [ReadError("broke"), UsageError("x"), asyncio.CancelledError(), ValueError()])
async def test_a_request_that_fails_holds_no_place(error: BaseException) -> None:
    limit = RateLimit(concurrency=1)

    async def send(request: Request) -> Response:
        raise error

    for _ in range(3):
        with pytest.raises(type(error)):
            await limit(Request("GET", URL), send)


# Giving up


@timed
async def test_a_turn_that_would_come_too_late_is_refused_at_once() -> None:
    it = shop(per_host="1/s")
    first, second = it.ask(), it.ask()
    await turns()
    with pytest.raises(PoolTimeout, match=r"to http://h:80 in 2 s at the earliest, but its time is over in 1.9 s"):
        await it.ask(deadline=now() + 1.9)
    assert now() == it.since
    with pytest.raises(PoolTimeout):
        await it.ask(deadline=now() + 2)
    third = it.ask(deadline=now() + 2.1)
    await asyncio.gather(first, second, third)
    assert it.times == [0, 1, 2]


@timed
async def test_the_burst_counts_in_what_is_too_late() -> None:
    it = shop(per_host="1/s", burst=3)
    tasks = [it.ask(deadline=now() + 1.1) for _ in range(4)]
    await turns()
    with pytest.raises(PoolTimeout, match=r"in 2 s at the earliest"):
        await it.ask(deadline=now() + 1.5)
    await asyncio.gather(*tasks)
    assert it.times == [0, 0, 0, 1]


@timed
async def test_waiting_for_others_ends_with_the_deadline() -> None:
    it = shop(concurrency=1)
    first = await it.ask()
    waiting = it.ask("late", deadline=now() + 5)
    behind = it.ask("behind")
    with pytest.raises(PoolTimeout, match=r"to http://h:80 in the 5 s that it had; 1 under way, 1 waiting"):
        await waiting
    assert now() - it.since == 5
    await first.close()
    await (await behind).close()
    assert it.site.paths == ["", "behind"]
    assert it.gate().at_rest


@timed
@pytest.mark.parametrize("limits", [{"per_host": "1/s"}, {"concurrency": 1}, {"per_host": "1/s", "concurrency": 1}])
async def test_waits_end_with_the_life_of_their_client_and_others_go_on(limits: dict[str, Any]) -> None:
    it = shop(**limits)
    one, other = Lifetime(), Lifetime()
    first = await it.ask()
    waiting = [it.ask(path, lifetime=life) for path, life in (("1", one), ("2", other), ("3", one), ("4", other))]
    await turns()
    one.end()
    for task in (waiting[0], waiting[2]):
        with pytest.raises(ClientClosed, match=r"^the client was closed while the request waited$"):
            await task
    assert now() == it.since
    await first.close()
    await (await waiting[1]).close()
    await (await waiting[3]).close()
    assert it.site.paths == ["", "2", "4"]
    if "per_host" in limits:
        assert it.times == [0, 1, 2]
    await asyncio.sleep(1)
    assert it.gate().at_rest


@timed
@pytest.mark.parametrize("closed_first", [False, True])
async def test_called_off_as_the_client_closes_leaves_nothing_behind(closed_first: bool) -> None:
    said: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: said.append(context))
    it = shop(concurrency=1)
    life = Lifetime()
    first = await it.ask()
    waiting = it.ask(lifetime=life)
    await turns()
    if closed_first:
        life.end()
    waiting.cancel()
    life.end()
    await asyncio.wait([waiting])
    assert waiting.cancelled()
    await first.close()
    assert it.gate().at_rest
    gc.collect()
    assert not said


@timed
async def test_no_error_is_kept_by_a_cycle() -> None:
    limit, site = RateLimit(concurrency=1), Site()
    held = await limit(Request("GET", URL), site)
    try:
        await limit(Request("GET", URL, extensions={"deadline": now() + 1}), site)
    except PoolTimeout as error:
        kept = weakref.ref(error)
    await turns()  # the loop's own hold on what woke this task
    assert kept() is None
    await held.close()


@timed
async def test_who_is_called_off_in_line_takes_nothing() -> None:
    it = shop(per_host="1/s")
    tasks = [it.ask(str(number)) for number in range(4)]
    await turns()
    tasks[1].cancel()
    await asyncio.wait(tasks)
    assert (it.site.paths, it.times) == (["0", "2", "3"], [0, 1, 2])


@timed
async def test_a_turn_does_not_go_to_who_was_just_called_off() -> None:
    it = shop(concurrency=1)
    first = await it.ask("0")
    second, third = it.ask("1"), it.ask("2")
    await turns()
    second.cancel()
    await first.close()
    await (await third).close()
    assert second.cancelled()
    assert it.site.paths == ["0", "2"]
    assert it.gate().at_rest


@timed
@pytest.mark.parametrize("limits", [{"per_host": "1/s"}, {"concurrency": 1}], ids=str)
async def test_who_is_called_off_just_as_the_turn_comes_gives_it_back(limits: dict[str, Any]) -> None:
    it = shop(**limits)
    first = await it.ask("0")
    second, third = it.ask("1"), it.ask("2")
    await turns()
    gate = it.gate()
    if "concurrency" in limits:
        await first.close()
    else:
        it.since += 1
        asyncio.get_running_loop().now += 1  # type: ignore[attr-defined]  # the clock's
        gate._advance()
    # The turn has come, and nobody knows of it yet.
    assert len(gate._waiting) == 1
    second.cancel()
    await (await third).close()
    assert second.cancelled()
    assert it.site.paths == ["0", "2"]
    assert it.times[-1] == 0


@timed
async def test_called_off_after_the_deadline_leaves_nothing_behind() -> None:
    it = shop(concurrency=1)
    first = await it.ask()
    second = it.ask(deadline=now() + 1)
    await turns()
    [future] = it.gate()._waiting
    it.gate()._on_deadline(future, now())
    it.gate()._on_deadline(future, now())
    second.cancel()
    await asyncio.wait([second])
    assert second.cancelled()
    await first.close()
    assert it.gate().at_rest


# Refusals


@timed
@pytest.mark.parametrize("status", [429, 503])
async def test_a_refusal_halves_the_rate_and_answers_bring_it_back_step_by_step(status: int) -> None:
    it = shop(status, 200, per_host="1/s")
    for _ in range(13):
        await it.ask()
    gaps = [round(1 / (b - a), 2) for a, b in zip(it.times, it.times[1:], strict=False)]
    assert gaps == [0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 1.0, 1.0]


@timed
async def test_other_answers_and_errors_slow_nothing() -> None:
    it = shop(500, 404, ReadError("broke"), 200, per_host="1/s")
    await asyncio.wait([it.ask() for _ in range(5)])
    assert it.times == [0, 1, 2, 3, 4]


@timed
async def test_refusals_of_what_was_under_way_count_as_one() -> None:
    it = shop(429, 429, 429, 200, per_host="1/s", burst=3, held=True)
    tasks = [it.ask() for _ in range(3)]
    await asyncio.sleep(1)
    for door in it.site.doors:
        door.set_result(None)
    await asyncio.gather(*tasks)
    assert it.gate()._share == 0.5


@timed
async def test_answers_to_what_went_before_a_refusal_do_not_speed_up() -> None:
    it = shop(429, 200, per_host="1/s", burst=2, held=True)
    tasks = [it.ask() for _ in range(2)]
    await asyncio.sleep(1)
    for door in it.site.doors:
        door.set_result(None)
    await asyncio.gather(*tasks)
    assert it.gate()._share == 0.5


@timed
async def test_however_often_refused_an_origin_is_asked_again() -> None:
    it = shop(429, per_host="1/s")
    for _ in range(10):
        await it.ask()
    assert it.gate()._share == LEAST_SHARE
    assert it.times[-1] - it.times[-2] == 1 / LEAST_SHARE


@timed
async def test_a_refusal_slows_that_origin_alone() -> None:
    it = shop(429, 200, per_host="1/s")
    await it.ask()
    await it.ask(url="http://other/")
    await it.ask(url="http://other/")
    assert it.times == [0, 0, 1]


@timed
async def test_a_refusal_halves_the_number_at_once_too() -> None:
    it = shop(503, 200, concurrency=4, held=True)
    tasks = [it.ask() for _ in range(9)]
    await asyncio.sleep(1)
    assert len(it.site.doors) == 4
    it.site.doors[0].set_result(None)
    await (await tasks[0]).close()
    await turns()
    # Three are under way, and two may be.
    assert len(it.site.doors) == 4
    for number in (1, 2):
        it.site.doors[number].set_result(None)
        await (await tasks[number]).close()
    await turns()
    assert len(it.site.doors) == 5
    it.site.held = False
    await asyncio.sleep(1)
    for number in (3, 4):
        it.site.doors[number].set_result(None)
    for task in tasks[3:]:
        await (await task).close()
    assert it.gate().at_rest


@timed
@pytest.mark.parametrize("value", ["30", "Sun, 06 Nov 1994 08:50:07 GMT"])
async def test_a_retry_after_closes_the_gate(value: str) -> None:
    it = shop((429, {"Retry-After": value}), 200, per_host="1/s", burst=5)
    await it.ask()
    await asyncio.gather(*(it.ask() for _ in range(3)))
    assert it.times == [0, 30, 30, 30]
    with pytest.raises(PoolTimeout):
        shop_again = shop((503, {"Retry-After": value}), concurrency=1)
        await (await shop_again.ask()).close()
        await shop_again.ask(deadline=now() + 29)


@timed
async def test_who_has_no_time_until_the_gate_opens_again_is_told_at_once() -> None:
    it = shop((429, {"Retry-After": "30"}), 200, concurrency=1, held=True)
    first = it.ask()
    await turns()
    hurried, patient = it.ask(deadline=now() + 20), it.ask(deadline=now() + 40)
    gone = it.ask(deadline=now() + 20)
    await asyncio.sleep(1)
    gone.cancel()
    it.site.held = False
    it.site.doors[0].set_result(None)
    await (await first).close()
    with pytest.raises(PoolTimeout, match=r"in 30 s at the earliest, but its time is over in 19 s"):
        await hurried
    assert now() - it.since == 1
    await (await patient).close()
    assert gone.cancelled()
    assert it.times == [0, 31]
    assert it.gate().at_rest


@timed
async def test_who_was_just_called_off_is_told_nothing() -> None:
    it = shop(concurrency=1)
    first = await it.ask()
    gone = it.ask(deadline=now() + 20)
    await turns()
    gone.cancel()
    it.gate().refused(now(), 30)
    await asyncio.wait([gone])
    assert gone.cancelled()
    await first.close()
    await asyncio.sleep(30)
    assert it.gate().at_rest


@timed
async def test_of_several_times_to_wait_the_longest_counts() -> None:
    asked = ((429, {"Retry-After": seconds}) for seconds in ("5", "30", "10"))
    it = shop(*asked, 200, per_host="1/s", burst=3, held=True)
    tasks = [it.ask() for _ in range(3)]
    await turns()
    it.site.held = False
    for door in it.site.doors:
        door.set_result(None)
    await asyncio.gather(*tasks)
    await it.ask()
    assert it.times == [0, 0, 0, 30]


@timed
async def test_no_retry_after_closes_the_gate_for_ever() -> None:
    it = shop((429, {"Retry-After": "9" * 400}), 200, per_host="1/s")
    await it.ask()
    await it.ask()
    assert it.times == [0, MAX_PAUSE_SECONDS]


@timed
async def test_a_malformed_retry_after_closes_nothing() -> None:
    it = shop((429, {"Retry-After": "later"}), 200, per_host="1/s")
    await it.ask()
    await it.ask()
    assert it.times == [0, 2]


# Memory


@timed
async def test_origins_that_are_at_rest_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_GATES", 4)
    it = shop(per_host="1/s", concurrency=2)
    it.limit._many = 4
    held = await it.ask()
    for number in range(100):
        await (await it.ask(url=f"http://h{number}/")).close()
        await asyncio.sleep(1)
        assert len(it.limit._gates) <= 4
    assert it.gate()._under_way == 1
    await held.close()
    for number in range(100):
        await (await it.ask(url=f"http://x{number}/")).close()
    # None has come to rest; what is looked through grows with what is kept.
    assert len(it.limit._gates) >= 100
    await asyncio.sleep(1)
    for number in range(it.limit._many):
        await (await it.ask(url=f"http://y{number}/")).close()
    assert not any(host.startswith("x") for _, host, _ in it.limit._gates)


def test_a_limit_can_be_used_in_one_loop_after_another() -> None:
    limit = RateLimit("1/s", concurrency=1)

    async def main() -> list[float]:
        since, site = now(), Site()
        for _ in range(2):
            await (await limit(Request("GET", URL), site)).close()
        # Not closed: what it holds ends with its loop.
        await limit(Request("GET", URL), site)
        return [time - since for time in site.times]

    for _ in range(2):
        with asyncio.Runner(loop_factory=ClockLoop) as runner:
            assert runner.run(main()) == [0, 1, 2]


# Together with others


@timed
async def test_each_try_and_each_hop_waits_for_its_turn_and_challenges_do_not() -> None:
    site = Site(503, (302, {"Location": "/there"}), 200)
    chain = compose(
        [Redirects(True, 5), Retries(3, random=lambda: 0.0), RateLimit("1/s", concurrency=1), authenticate], site
    )
    since = now()
    response = await chain(Request("GET", URL, extensions={"auth": BasicAuth("u", "p")}))
    assert await response.read() == b"answer 3"
    assert [time - since for time in site.times] == [0, 2, pytest.approx(2 + 1 / 0.55)]
    assert site.server.credentials == ["Basic dTpw"] * 3


@timed
async def test_a_turn_that_comes_too_late_is_not_tried_again() -> None:
    chain = compose([Retries(Retry()), RateLimit("1/h")], Site())
    await chain(Request("GET", URL))
    with pytest.raises(PoolTimeout) as caught:
        await chain(Request("GET", URL, extensions={"deadline": now() + 60}))
    assert len(caught.value.attempts) == 1


# Any order of things


@given(
    rate=st.sampled_from([0.5, 1, 3, 7.3]),
    burst=st.integers(1, 4),
    concurrency=st.none() | st.integers(1, 3),
    steps=st.lists(
        st.tuples(
            st.floats(0, 3),  # seconds before it is asked
            st.none() | st.floats(0, 4),  # its deadline
            st.none() | st.floats(0, 3),  # when it is called off
            st.floats(0, 2),  # how long the answer takes
            st.sampled_from([200, 200, 200, 429, 503, 0]),
        ),
        max_size=25,
    ),
)
def test_in_no_stretch_of_time_go_more_than_burst_and_rate_allow(
    rate: float, burst: int, concurrency: int | None, steps: list[tuple[float, float | None, float | None, float, int]]
) -> None:
    times: list[float] = []
    under_way = most = 0

    async def main() -> None:
        limit = RateLimit(rate, burst=burst, concurrency=concurrency)

        async def one(deadline: float | None, called_off: float | None, seconds: float, status: int) -> None:
            nonlocal under_way, most

            async def send(request: Request) -> Response:
                nonlocal under_way, most
                times.append(now())
                under_way += 1
                most = max(most, under_way)
                try:
                    await asyncio.sleep(seconds)
                finally:
                    under_way -= 1
                if not status:
                    raise ReadError("broke")
                return Response(status, source=Source(b"x"), request=request)

            extensions = {} if deadline is None else {"deadline": now() + deadline}
            try:
                async with asyncio.timeout(called_off):
                    response = await limit(Request("GET", URL, extensions=extensions), send)
                await response.close()
            except (PoolTimeout, TimeoutError, ReadError):
                pass

        tasks = []
        for wait, *rest in steps:
            await asyncio.sleep(wait)
            tasks.append(asyncio.ensure_future(one(*rest)))
        await asyncio.gather(*tasks)
        await asyncio.sleep(1000)
        for gate in limit._gates.values():
            assert gate.at_rest
            assert gate._timer is None

    with asyncio.Runner(loop_factory=ClockLoop) as runner:
        runner.run(main())
    assert concurrency is None or most <= concurrency
    for first, start in enumerate(times):
        for last in range(first, len(times)):
            assert last - first + 1 <= burst + rate * (times[last] - start) + 1e-6
