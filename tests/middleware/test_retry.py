"""What may pass is tried again, after the right time, within budget and deadline; all else is the caller's at once."""

from __future__ import annotations

import asyncio
import gc
import gzip
import logging
import math
import ssl
import weakref
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiosock.config import Retry
from aiosock.errors import (
    Attempt,
    BlockedAddress,
    CircuitOpen,
    ClientClosed,
    ConnectError,
    ConnectTimeout,
    DecodingError,
    DNSError,
    HeadTooLarge,
    IncompleteBody,
    PoolTimeout,
    ProxyError,
    ReadError,
    ReadTimeout,
    RequestError,
    ServerDisconnected,
    TLSError,
    TooManyRedirects,
    TotalTimeout,
    TruncatedStream,
    UsageError,
    WriteError,
    WriteTimeout,
)
from aiosock.message.request import Request
from aiosock.message.response import Response
from aiosock.middleware import retry as module
from aiosock.middleware.auth import authenticate
from aiosock.middleware.chain import Lifetime, compose
from aiosock.middleware.redirect import Redirects
from aiosock.middleware.retry import MAX_KEPT_BYTES, RESERVE, Retries, full_jitter, may_pass, pseudorandom
from aiosock.middleware.schemes import DigestAuth
from tests.middleware.fakes import Server, Source
from tests.pool.fakes import timed

EPOCH = 784111777.0  # Sun, 06 Nov 1994 08:49:37 GMT
URL = "http://h/"


def retries(retry: Retry | None = None, **options: Any) -> Retries:
    """Retries whose jitter is always half of what it may be, on a clock that stands."""
    return Retries(retry or Retry(), **{"random": lambda: 0.5, "clock": lambda: EPOCH, **options})


def get(**extensions: Any) -> Request:
    return Request("GET", URL, extensions=extensions)


def after(value: str, status: int = 503) -> tuple[int, dict[str, str]]:
    return status, {"Retry-After": value}


class Watch:
    """Says how long something took on the loop's clock."""

    def __init__(self) -> None:
        self.since = asyncio.get_running_loop().time()

    @property
    def passed(self) -> float:
        return asyncio.get_running_loop().time() - self.since


@timed
async def test_an_answer_that_may_pass_is_read_and_tried_again() -> None:
    server, watch = Server(503, 429, 200), Watch()
    response = await retries()(get(), server)
    assert response.status_code == 200
    assert await response.read() == b"answer 3"
    assert all(source.received for source in server.sources)
    assert response.extensions["attempts"] == (
        Attempt(1, 503, None, 0.0),
        Attempt(2, 429, None, 0.25),
        Attempt(3, 200, None, 0.5),
    )
    assert watch.passed == 0.75


@timed
async def test_the_last_answer_is_the_callers_whatever_it_is() -> None:
    server = Server(503)
    response = await retries(Retry(2))(get(), server)
    assert response.status_code == 503
    assert await response.read() == b"answer 2"
    assert [attempt.status_code for attempt in response.extensions["attempts"]] == [503, 503]


@timed
async def test_the_error_that_is_raised_in_the_end_has_all_attempts() -> None:
    server = Server(ReadError("broke"), 500, ConnectError("nobody"))
    with pytest.raises(ConnectError) as caught:
        await retries()(get(), server)
    assert caught.value.attempts == (
        Attempt(1, None, "ReadError: broke", 0.0),
        Attempt(2, 500, None, 0.25),
        Attempt(3, None, "ConnectError: nobody", 0.5),
    )


async def test_an_error_that_is_not_tried_again_has_its_one_attempt() -> None:
    with pytest.raises(TotalTimeout) as caught:
        await retries()(get(), Server(TotalTimeout("late")))
    assert caught.value.attempts == (Attempt(1, None, "TotalTimeout: late", 0.0),)


@timed
@pytest.mark.parametrize("tries", [1, 2, 3])
async def test_no_error_is_kept_by_a_cycle(tries: int) -> None:
    errors: list[weakref.ref[ReadError]] = []

    async def failing(request: Request) -> Response:
        if len(errors) == 1 and tries == 2:
            return Response(200, request=request)
        if len(errors) == 1 and tries == 3:
            raise PoolTimeout("late")
        error = ReadError("broke")
        errors.append(weakref.ref(error))
        try:
            raise error
        finally:
            del error

    try:
        await retries(Retry(tries))(get(), failing)
    except ReadError:
        assert tries != 2
    assert errors[0]() is None


@timed
@pytest.mark.parametrize(
    "error",
    [
        ConnectError("x"),
        ConnectTimeout("x"),
        DNSError("x"),
        ReadError("x"),
        ReadTimeout("x"),
        TruncatedStream("x"),
        WriteError("x"),
        WriteTimeout("x"),
        ServerDisconnected("x"),
        IncompleteBody("x"),
        TLSError("closed during the handshake"),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_errors_of_the_network_are_tried_again(error: RequestError) -> None:
    server = Server(error, 200)
    assert (await retries()(get(), server)).status_code == 200


@pytest.mark.parametrize(
    "error",
    [
        TotalTimeout("x"),
        PoolTimeout("x"),
        BlockedAddress("x"),
        CircuitOpen("x"),
        DecodingError("x"),
        HeadTooLarge("x"),
        TooManyRedirects("x"),
        ProxyError("SOCKS refuses"),
        UsageError("x"),
        ValueError("x"),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_other_errors_are_not_tried_again(error: Exception) -> None:
    server = Server(error, 200)
    with pytest.raises(type(error)):
        await retries()(get(), server)
    assert len(server.requests) == 1


def caused(error: RequestError, cause: Exception) -> RequestError:
    error.__cause__ = cause
    return error


def refused(status: int) -> ProxyError:
    error = ProxyError("refused")
    error.status_code = status
    return error


@pytest.mark.parametrize(
    ("error", "passes"),
    [
        (caused(TLSError("untrusted"), ssl.SSLCertVerificationError()), False),
        (caused(TLSError("no common version"), ssl.SSLError()), False),
        (caused(TLSError("a name that is none"), ValueError()), False),
        (caused(TLSError("broke off"), ReadError("reset")), True),
        (refused(407), False),
        (refused(403), False),
        (refused(502), True),
        (caused(ProxyError("not reached"), ConnectError("nobody")), True),
        (caused(ProxyError("not trusted"), caused(TLSError("untrusted"), ssl.SSLError())), False),
        (caused(ProxyError("SOCKS refuses"), ValueError()), False),
    ],
)
def test_a_verdict_of_tls_or_a_proxy_is_final(error: RequestError, passes: bool) -> None:
    assert may_pass(error, Retry()) is passes


@pytest.mark.parametrize("status", [200, 204, 301, 400, 401, 404, 408, 501, 505])
async def test_other_answers_are_the_callers(status: int) -> None:
    server = Server(status)
    response = await retries()(get(), server)
    assert (response.status_code, len(server.requests)) == (status, 1)
    assert response.extensions["attempts"] == (Attempt(1, status, None, 0.0),)


@pytest.mark.parametrize(
    ("method", "headers", "tries"),
    [
        *((method, {}, 2) for method in ("GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE", "QUERY")),
        *((method, {}, 1) for method in ("POST", "PATCH", "get", "LOCK")),
        ("POST", {"idempotency-key": "8e03978e"}, 2),
    ],
)
async def test_only_what_may_be_sent_twice_is(method: str, headers: dict[str, str], tries: int) -> None:
    for outcome in (503, ReadError("broke")):
        server = Server(outcome, 200)
        request = Request(method, URL, headers=headers)
        if tries == 1 and isinstance(outcome, Exception):
            with pytest.raises(ReadError):
                await retries(Retry(backoff=0))(request, server)
        else:
            await retries(Retry(backoff=0))(request, server)
        assert len(server.requests) == tries


async def test_methods_and_statuses_can_be_chosen() -> None:
    server = Server(404, 503)
    response = await retries(Retry(backoff=0, methods=["POST"], statuses=[404]))(Request("POST", URL), server)
    assert (response.status_code, len(server.requests)) == (503, 2)


async def chunks() -> AsyncIterator[bytes]:
    yield b"once"


async def test_a_body_that_can_be_read_only_once_is_not_sent_again() -> None:
    server = Server(503, 200)
    response = await retries()(Request("PUT", URL, content=chunks()), server)
    assert (response.status_code, server.sources[0].closed) == (503, False)
    server = Server(503, 200)
    assert (await retries(Retry(backoff=0))(Request("PUT", URL, content=b"any"), server)).status_code == 200
    assert [request.content for request in server.requests] == [b"any", b"any"]


@timed
async def test_the_wait_doubles_up_to_its_most() -> None:
    server = Server(503)
    response = await retries(Retry(7, backoff=1, max_backoff=5))(get(), server)
    assert [attempt.waited for attempt in response.extensions["attempts"]] == [0, 0.5, 1, 2, 2.5, 2.5, 2.5]


@given(st.floats(0, 100), st.floats(0, 1000), st.integers(1, 10**9), st.floats(0, 1, exclude_max=True))
def test_the_jitter_is_full(base: float, cap: float, number: int, chance: float) -> None:
    most = full_jitter(base, cap, number, lambda: 1.0)
    assert 0 <= full_jitter(base, cap, number, lambda: chance) <= most <= cap
    assert most == min(cap, base * 2 ** min(number - 1, 64))
    assert full_jitter(base, cap, number, lambda: 0.0) == 0


def test_waits_are_random_by_themselves() -> None:
    drawn = {pseudorandom() for _ in range(20)}
    assert len(drawn) > 1
    assert all(0 <= number < 1 for number in drawn)


# Retry-After


@timed
@pytest.mark.parametrize("value", ["120", "Sun, 06 Nov 1994 08:51:37 GMT", "Sunday, 06-Nov-94 08:51:37 GMT"])
async def test_a_server_is_given_all_the_time_that_it_asks_for(value: str) -> None:
    server, watch = Server(after(value), 200), Watch()
    response = await retries()(get(), server)
    assert watch.passed == 120
    assert response.extensions["attempts"][1].waited == 120


@timed
@pytest.mark.parametrize("value", ["0", "Sun, 06 Nov 1994 08:49:00 GMT", "soon", "-5", "1.5", ""])
async def test_without_a_time_that_makes_sense_and_is_to_come_the_backoff_counts(
    value: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "aiosock")
    server, watch = Server(after(value), 200), Watch()
    await retries()(get(), server)
    assert watch.passed == 0.25
    assert ("malformed Retry-After" in caplog.text) is (value in ("soon", "-5", "1.5", ""))


@timed
async def test_retry_after_can_be_left_unheeded() -> None:
    server, watch = Server(after("120"), 200), Watch()
    await retries(Retry(respect_retry_after=False))(get(), server)
    assert watch.passed == 0.25


@timed
@pytest.mark.parametrize(
    ("value", "most", "tries"),
    [("300", 300, 2), ("301", 300, 1), ("9" * 500, 300, 1), ("100000", None, 2), ("1", 0, 1)],
)
async def test_who_asks_for_too_much_is_not_waited_for(value: str, most: float | None, tries: int) -> None:
    server, watch = Server(after(value), 200), Watch()
    response = await retries(Retry(max_retry_after=most))(get(), server)
    assert len(server.requests) == tries
    assert watch.passed == (float(value) if tries == 2 else 0)
    assert response.status_code == (200 if tries == 2 else 503)


@timed
@pytest.mark.parametrize(("seconds", "tries"), [(119.9, 1), (120, 1), (120.1, 2)])
async def test_a_wait_past_the_deadline_does_not_begin(seconds: float, tries: int) -> None:
    server, watch = Server(after("120"), 200), Watch()
    response = await retries()(get(deadline=watch.since + seconds), server)
    assert len(server.requests) == tries
    assert watch.passed == (120 if tries == 2 else 0)
    assert await response.read() == b"answer %d" % tries


@timed
async def test_a_backoff_past_the_deadline_does_not_begin_either() -> None:
    watch = Watch()
    with pytest.raises(ReadError) as caught:
        await retries()(get(deadline=watch.since + 0.5), Server(ReadError("broke")))
    assert watch.passed == 0.25
    assert len(caught.value.attempts) == 2


# Off, on, and for one request


@pytest.mark.parametrize(
    ("client", "extensions", "tries"),
    [
        (None, {}, 1),
        (None, {"retry": 2}, 2),
        (None, {"retry": Retry(4, backoff=0)}, 4),
        (Retry(3), {}, 3),
        (Retry(3), {"retry": None}, 1),
    ],
)
async def test_a_request_has_the_last_word(client: Retry | None, extensions: dict[str, Any], tries: int) -> None:
    server = Server(503)
    response = await Retries(client, random=lambda: 0.0)(get(**extensions), server)
    assert len(server.requests) == tries
    assert ("attempts" in response.extensions) is (tries > 1)


async def test_a_number_stands_for_attempts() -> None:
    server = Server(503)
    await Retries(2, random=lambda: 0.0)(get(), server)
    assert len(server.requests) == 2


async def test_what_is_no_retry_is_refused() -> None:
    with pytest.raises(UsageError, match=r"^retry: takes a Retry, a number of attempts or None, not 'often'$"):
        Retries("often")  # type: ignore[arg-type]  # that is the test
    with pytest.raises(UsageError, match=r"^retry: takes a Retry, a number of attempts or None, not 'often'$"):
        await retries()(get(retry="often"), Server(200))


@pytest.mark.parametrize("name", ["random", "clock", "on_retry"])
def test_what_cannot_be_called_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match=f"^Retries: {name} takes a function.* not 5$"):
        Retries(3, **{name: 5})


@timed
async def test_whoever_wants_to_know_is_told_before_each_wait() -> None:
    told: list[tuple[str, Attempt, float, float]] = []
    watch = Watch()

    def listen(request: Request, attempt: Attempt, wait: float) -> None:
        told.append((request.method, attempt, wait, watch.passed))

    await retries(on_retry=listen)(get(), Server(503, ReadError("broke"), 200))
    assert told == [
        ("GET", Attempt(1, 503, None, 0.0), 0.25, 0.0),
        ("GET", Attempt(2, None, "ReadError: broke", 0.25), 0.5, 0.25),
    ]


@timed
async def test_cancelled_in_a_wait_it_ends_at_once() -> None:
    server, watch = Server(after("100"), 200), Watch()
    task = asyncio.ensure_future(retries()(get(), server))
    await asyncio.sleep(1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert watch.passed == 1
    assert [source.received for source in server.sources] == [True]


@timed
@pytest.mark.parametrize("closed_first", [False, True])
async def test_called_off_in_a_wait_as_the_client_closes_leaves_nothing_behind(closed_first: bool) -> None:
    said: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: said.append(context))
    life = Lifetime()
    task = asyncio.ensure_future(retries()(get(lifetime=life), Server(after("100"))))
    await asyncio.sleep(1)
    if closed_first:
        life.end()
    task.cancel()
    life.end()
    await asyncio.wait([task])
    assert task.cancelled()
    del task
    gc.collect()
    assert not said


@timed
async def test_a_wait_ends_with_the_life_of_the_client() -> None:
    life, watch = Lifetime(), Watch()
    task = asyncio.ensure_future(retries()(get(lifetime=life), Server(after("100"))))
    await asyncio.sleep(1)
    life.end()
    with pytest.raises(ClientClosed):
        await task
    assert watch.passed == 1


# Where a retry is not let out


REFUSALS = [CircuitOpen("left alone"), PoolTimeout("too late")]


@timed
@pytest.mark.parametrize("refusal", REFUSALS, ids=lambda error: type(error).__name__)
async def test_the_answer_before_it_is_the_callers(refusal: RequestError, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "aiosock")
    server = Server(503, 502, refusal)
    response = await retries(Retry(9))(get(), server)
    assert response.status_code == 502
    assert await response.read() == response.content == b"answer 2"
    assert [attempt.status_code for attempt in response.extensions["attempts"]] == [503, 502]
    assert len(server.requests) == 3
    assert caplog.messages == [f"no retry to h: {type(refusal).__name__}"]


@timed
@pytest.mark.parametrize("refusal", REFUSALS, ids=lambda error: type(error).__name__)
async def test_the_error_before_it_is_the_callers(refusal: RequestError) -> None:
    cause = OSError("reset")
    error = ReadError("broke")
    error.__cause__ = cause
    with pytest.raises(ReadError, match="broke") as caught:
        await retries(Retry(9))(get(), Server(503, error, refusal))
    assert caught.value is error
    assert caught.value.__cause__ is cause
    assert [(one.number, one.status_code) for one in caught.value.attempts] == [(1, 503), (2, None)]


@timed
async def test_a_refusal_of_another_kind_is_raised() -> None:
    with pytest.raises(BlockedAddress) as caught:
        await retries()(get(), Server(503, BlockedAddress("moved")))
    assert [attempt.status_code for attempt in caught.value.attempts] == [503, None]


class Once(Source):
    """A body of one piece, which may be aborted."""

    def abort(self) -> None:
        self.closed = True


class Endless(Once):
    """A body of pieces, each after a while."""

    def __init__(self, piece: bytes, seconds: float) -> None:
        super().__init__()
        self.piece = piece
        self.seconds = seconds

    async def receive(self) -> bytes:
        await asyncio.sleep(self.seconds)
        return self.piece


@timed
@pytest.mark.parametrize(
    ("source", "passed", "reason"),
    [
        (Endless(b"x" * 1000, 0), 3, "it is large"),
        (Endless(b"x", 0.1), 3, "TimeoutError"),
        (Endless(b"x", 100), 3, "TimeoutError"),
    ],
)
async def test_a_large_or_slow_answer_is_given_up_and_the_refusal_raised(
    source: Endless, passed: float, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "aiosock")
    answers: list[Response] = []

    async def server(request: Request) -> Response:
        if answers:
            raise CircuitOpen("left alone")
        answers.append(Response(503, headers={"Retry-After": "3"}, request=request, source=source))
        answers[0].max_content_bytes = 5_000_000
        return answers[0]

    watch = Watch()
    with pytest.raises(CircuitOpen) as caught:
        await retries()(get(), server)
    assert [attempt.status_code for attempt in caught.value.attempts] == [503, None]
    assert source.closed
    assert answers[0].max_content_bytes == 5_000_000
    assert watch.passed == passed
    assert caplog.messages == [f"the body of a 503 is given up: {reason}"]


@timed
@pytest.mark.parametrize(("size", "kept"), [(MAX_KEPT_BYTES, True), (MAX_KEPT_BYTES + 1, False)])
@pytest.mark.parametrize("limit", [None, 10**9])
async def test_so_much_of_an_answer_is_kept(size: int, kept: bool, limit: int | None) -> None:
    source = Once(b"x" * size)

    async def server(request: Request) -> Response:
        if source.received:
            raise PoolTimeout("late")
        response = Response(503, request=request, source=source)
        response.max_content_bytes = limit
        return response

    if kept:
        assert len(await (await retries()(get(), server)).read()) == size
    else:
        with pytest.raises(PoolTimeout):
            await retries()(get(), server)
        assert source.closed


@timed
async def test_an_answer_that_is_kept_can_be_had_as_it_was_sent() -> None:
    packed = gzip.compress(b"busy")
    answers: list[Response] = []

    async def server(request: Request) -> Response:
        if len(answers) % 2:
            answers.append(answers[-1])
            raise CircuitOpen("left alone")
        encoded = {"Content-Encoding": "gzip"}
        answers.append(Response(503, headers=encoded, request=request, source=Once(packed)))
        return answers[-1]

    assert await (await retries()(get(), server)).read() == b"busy"
    assert b"".join([piece async for piece in (await retries()(get(), server)).iter_raw()]) == packed


@timed
async def test_an_answer_is_given_up_by_who_is_cancelled_while_it_is_kept() -> None:
    source = Endless(b"x", 100)

    async def server(request: Request) -> Response:
        return Response(503, request=request, source=source)

    task = asyncio.ensure_future(retries()(get(), server))
    await asyncio.sleep(0.1)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    assert source.closed


@timed
async def test_an_answer_that_somebody_began_to_read_is_given_up() -> None:
    source = Source(b"x")

    async def server(request: Request) -> Response:
        if source.received:
            assert source.closed
            raise CircuitOpen("left alone")
        response = Response(503, request=request, source=source)
        await anext(response.iter_bytes())
        return response

    with pytest.raises(CircuitOpen):
        await retries()(get(), server)


@timed
async def test_the_limit_on_bodies_holds_for_what_is_kept() -> None:
    source = Endless(b"x" * 1000, 0)

    async def server(request: Request) -> Response:
        if source.closed:
            return Response(200, request=request)
        response = Response(503, request=request, source=source)
        response.max_content_bytes = 1000
        source.seconds = 0.01
        return response

    watch = Watch()
    assert (await retries(Retry(2, backoff=0))(get(), server)).status_code == 200
    assert watch.passed == pytest.approx(0.02)


# The budget


async def tries_of(middleware: Retries, url: str = URL, **options: Any) -> int:
    """Return how often a request to a server that is down was sent."""
    server = Server(503)
    await middleware(Request("GET", url, **options), server)
    return len(server.requests)


@timed
async def test_retries_are_a_share_of_the_requests_when_the_reserve_is_spent() -> None:
    middleware = retries(Retry(2, backoff=0, budget=0.25))
    tries = [await tries_of(middleware) for _ in range(113)]
    # The reserve carries the first requests, and what these earn a few more.
    assert sum(tries) - len(tries) <= RESERVE + 0.25 * len(tries)
    assert tries[:10] == [2] * 10
    assert tries[-100:].count(2) == 25


@timed
async def test_without_a_share_there_is_the_reserve_alone() -> None:
    middleware = retries(Retry(2, backoff=0, budget=0))
    assert [await tries_of(middleware) for _ in range(12)] == [2] * 10 + [1] * 2


@timed
async def test_the_reserve_comes_back_with_time_and_is_never_more() -> None:
    middleware = retries(Retry(2, backoff=0, budget=0))
    for seconds, more in ((0, 10), (3, 3), (1000, 10), (0.5, 0), (0.5, 1)):
        await asyncio.sleep(seconds)
        assert [await tries_of(middleware) for _ in range(12)].count(2) == more


@timed
async def test_requests_that_succeed_do_not_pile_up_retries() -> None:
    middleware = retries(Retry(2, backoff=0))
    for _ in range(1000):
        await middleware(get(), Server(200))
    assert [await tries_of(middleware) for _ in range(20)].count(2) < RESERVE + 20 * 0.2 + 1


@timed
async def test_each_origin_has_its_own_budget() -> None:
    middleware = retries(Retry(2, backoff=0, budget=0))
    assert [await tries_of(middleware) for _ in range(11)][-1] == 1
    for url in ("http://other/", "https://h/", "http://h:81/"):
        assert await tries_of(middleware, url) == 2
    assert await tries_of(middleware, extensions={"retry": Retry(2, backoff=0, budget=None)}) == 2


@timed
async def test_where_the_budget_is_spent_the_failure_is_the_callers() -> None:
    middleware = retries(Retry(100, backoff=0, budget=0))
    with pytest.raises(ReadError) as caught:
        await middleware(get(), Server(ReadError("broke")))
    assert len(caught.value.attempts) == 1 + RESERVE


@timed
async def test_the_budgets_of_many_origins_take_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_ORIGINS", 3)
    middleware = retries(Retry(2, backoff=0, budget=0))
    for _ in range(10):
        await tries_of(middleware)
    for number in range(2):
        await tries_of(middleware, f"http://h{number}/")
    assert await tries_of(middleware) == 1  # still known, and now the last to be forgotten
    for number in range(2, 4):
        await tries_of(middleware, f"http://h{number}/")
    assert len(middleware._budgets) == 3
    assert await tries_of(middleware) == 1


# Together with others


@timed
async def test_each_hop_of_a_redirect_is_retried_by_itself() -> None:
    server = Server(503, (302, {"Location": "/there"}), ReadError("broke"), 200)
    send = compose([Redirects(True, 5), retries(Retry(2))], server)
    response = await send(get())
    assert server.urls == [URL, URL, "http://h/there", "http://h/there"]
    assert [attempt.number for attempt in response.extensions["attempts"]] == [1, 2]
    assert [attempt.status_code for attempt in response.history[0].extensions["attempts"]] == [503, 302]


@timed
async def test_each_try_is_authenticated_anew() -> None:
    challenge = (401, {"WWW-Authenticate": 'Digest realm="r", nonce="n", qop="auth", algorithm=SHA-256'})
    server = Server(challenge, 503, 200)
    send = compose([retries(), authenticate], server)
    response = await send(get(auth=DigestAuth("user", "password")))
    assert response.status_code == 200
    first, second, third = server.credentials
    assert first is None
    assert second is not None
    assert third is not None
    assert ("nc=00000001" in second, "nc=00000002" in third) == (True, True)


async def test_a_response_that_is_given_as_it_is_keeps_its_own_extensions() -> None:
    async def cached(request: Request) -> Response:
        return Response(200, content=b"kept", request=request, extensions={"cache": "hit"})

    response = await retries()(get(deadline=math.inf), cached)
    assert response.extensions["cache"] == "hit"
    assert response.content == b"kept"
