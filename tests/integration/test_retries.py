"""Retries, rates and circuit breakers over real sockets, with exact bytes, alone and together."""

from __future__ import annotations

import asyncio
import gc
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from ssl import SSLContext
from typing import Any

import pytest

import aiosock
from aiosock import DigestAuth, Timeout
from aiosock.config import Retry
from aiosock.errors import CircuitOpen
from aiosock.message.trace import Event, RequestFailed, RequestRetried, ResponseDone
from aiosock.middleware.breaker import CircuitBreaker
from aiosock.middleware.rate import RateLimit
from aiosock.middleware.retry import MAX_KEPT_BYTES, Retries
from aiosock.testing import Peer, Server, response
from tests.kit.clients import check, checked_client, settled
from tests.network.wire import Clock

OK = response(body=b"ok")
BUSY = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 0\r\nContent-Length: 4\r\n\r\nbusy"
AT_ONCE = Retry(backoff=0)


def retrying(retry: Retry | None = AT_ONCE) -> Retries:
    return Retries(retry)


async def test_a_busy_server_is_asked_again_over_the_same_connection() -> None:
    async with Server.answering(BUSY, BUSY, OK) as server, checked_client(middleware=[retrying()]) as client:
        answer = await client.get(server.url + "/path?query", headers={"X": "y"})
        assert answer.text == "ok"
        assert [attempt.status_code for attempt in answer.extensions["attempts"]] == [503, 503, 200]
        assert len({request.raw_head for request in server.requests}) == 1
        assert (len(server.requests), server.connections) == (3, 1)
        check(client)


@pytest.mark.parametrize(
    ("end", "ended"),
    [(b"HTTP/1.1 503 Oh\r\nContent-Length: 4\r\n\r\n", ResponseDone), (b"HTTP/1.1 503 Oh\r\n\r\n", RequestFailed)],
    ids=["done", "failed"],
)
async def test_a_retry_is_told_after_the_end_of_the_try_before_it(
    end: bytes, ended: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aiosock.middleware.retry.KEEPING_SECONDS", 60)

    async def script(peer: Peer) -> None:
        await peer.read_request()
        if peer.number:
            await peer.send(OK)
            return
        await peer.send(end)
        await peer.send(b"busy" if ended is ResponseDone else b"x" * (MAX_KEPT_BYTES + 1))
        if await peer.read_request():
            await peer.send(OK)

    events: list[Event] = []
    async with Server(script) as server, checked_client(retry=AT_ONCE, on_event=events.append) as client:
        assert (await client.get(server.url)).text == "ok"
        check(client)
    kinds = [type(event) for event in events if isinstance(event, (ResponseDone, RequestFailed, RequestRetried))]
    assert kinds == [ended, RequestRetried, ResponseDone]


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 500 Oh\r\n\r\nuntil the connection ends",
        b"HTTP/1.1 503 Oh\r\nContent-Length: 10000000\r\n\r\nthe start of much",
        b"HTTP/1.1 502 Oh\r\nTransfer-Encoding: chunked\r\n\r\nno chunk\r\n",
        b"HTTP/1.1 429 Oh\r\nRetry-After: soon\r\nRetry-After: later\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 503 Oh\r\nRetry-After: Sun, 06 Nov 1994 08:49:37 GMT\r\nConnection: close\r\n\r\n",
    ],
)
async def test_whatever_the_answer_has_for_a_body_it_is_given_up(answer: bytes) -> None:
    async def script(peer: Peer) -> None:
        await peer.read_request()
        if peer.number:
            await peer.send(OK)
        else:
            await peer.send(answer)
            if b"Content-Length: 0" in answer:
                await peer.read_request()
                await peer.send(OK)
        await peer.wait_disconnect()

    async with Server(script) as server, checked_client(middleware=[retrying()]) as client:
        assert (await client.get(server.url)).text == "ok"
        await settled(client)


async def hang_up(peer: Peer) -> None:
    await peer.read_request()


async def reset(peer: Peer) -> None:
    await peer.read_request()
    peer.reset()


async def cut_the_head(peer: Peer) -> None:
    await peer.read_request()
    await peer.send(b"HTTP/1.1 200 OK\r\nConte")


Failing = Callable[[Peer], Awaitable[None]]


@pytest.mark.parametrize("failing", [hang_up, reset, cut_the_head])
async def test_a_connection_that_breaks_before_the_answer_is_replaced(failing: Failing) -> None:
    async def script(peer: Peer) -> None:
        if peer.number < 2:
            await failing(peer)
            return
        while await peer.read_request():
            await peer.send(OK)

    async with Server(script) as server, checked_client(middleware=[retrying()]) as client:
        answer = await client.put(server.url, content=b"again and again")
        assert answer.text == "ok"
        assert [request.body for request in server.requests] == [b"again and again"] * 3
        errors = [attempt.error for attempt in answer.extensions["attempts"]]
        assert errors[0] == errors[1] is not None
        assert errors[2] is None
        await settled(client)


@pytest.mark.parametrize("failing", [hang_up, reset])
async def test_what_may_not_be_sent_twice_is_not(failing: Failing) -> None:
    async with Server(failing) as server, checked_client(middleware=[retrying()]) as client:
        with pytest.raises((aiosock.ServerDisconnected, aiosock.ReadError)) as caught:
            await client.post(server.url, content=b"once")
        assert len(server.requests) == len(caught.value.attempts) == 1
        with pytest.raises((aiosock.ServerDisconnected, aiosock.ReadError)) as caught:
            await client.post(server.url, content=b"thrice", headers={"Idempotency-Key": "k"})
        assert [request.body for request in server.requests] == [b"once"] + [b"thrice"] * 3
        assert [attempt.number for attempt in caught.value.attempts] == [1, 2, 3]
        await settled(client)


async def test_a_file_is_sent_again_and_a_generator_is_not(tmp_path: Path) -> None:
    path = tmp_path / "file"
    await asyncio.to_thread(path.write_bytes, b"x" * 300_000)

    async def chunks() -> Any:
        yield b"only once"

    async with Server.answering(BUSY, OK, BUSY) as server, checked_client(middleware=[retrying()]) as client:
        file = await asyncio.to_thread(path.open, "rb")
        try:
            assert (await client.put(server.url, content=file)).text == "ok"
        finally:
            await asyncio.to_thread(file.close)
        assert [len(request.body) for request in server.requests] == [300_000] * 2
        answer = await client.put(server.url, content=chunks())
        assert (answer.status_code, answer.text) == (503, "busy")
        assert len(server.requests) == 3


async def test_nobody_listening_is_tried_as_often_as_allowed() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        async with checked_client(middleware=[retrying(Retry(4, backoff=0))]) as client:
            with pytest.raises(aiosock.ConnectError) as caught:
                await client.get(f"http://127.0.0.1:{closed.getsockname()[1]}/?secret")
            assert [attempt.number for attempt in caught.value.attempts] == [1, 2, 3, 4]
            assert "secret" not in repr(caught.value.attempts)
            await settled(client)


async def test_a_silent_server_is_left_and_asked_again() -> None:
    async def script(peer: Peer) -> None:
        await peer.read_request()
        if peer.number:
            await peer.send(OK)
        await peer.wait_disconnect()

    async with Server(script) as server, checked_client(middleware=[retrying()]) as client:
        answer = await client.get(server.url, timeout=Timeout(read=0.3))
        assert answer.text == "ok"
        assert answer.extensions["attempts"][0].error.startswith("ReadTimeout: ")
        await settled(client)


async def test_a_body_that_breaks_off_is_the_callers() -> None:
    async def script(peer: Peer) -> None:
        await peer.read_request()
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort")

    async with Server(script) as server, checked_client(middleware=[retrying()]) as client:
        with pytest.raises(aiosock.IncompleteBody):
            await client.get(server.url)
        assert len(server.requests) == 1


async def test_the_total_is_for_all_tries_and_no_wait_begins_that_passes_it() -> None:
    later = b"HTTP/1.1 429 Too Many\r\nRetry-After: 31\r\nContent-Length: 4\r\n\r\nlate"
    async with Server.answering(later) as server, checked_client(middleware=[retrying()]) as client:
        answer = await client.get(server.url, timeout=30)
        assert (answer.status_code, answer.text) == (429, "late")
        assert len(server.requests) == 1
        check(client)


async def test_the_total_that_runs_out_is_not_tried_again(clock: Clock) -> None:
    async def script(peer: Peer) -> None:
        await peer.read_request()
        clock.skip(60)
        await peer.wait_disconnect()

    async with Server(script) as server, checked_client(middleware=[retrying()]) as client:
        with pytest.raises(aiosock.TotalTimeout) as caught:
            await client.get(server.url, timeout=Timeout(60, read=None))
        assert (len(server.requests), len(caught.value.attempts)) == (1, 1)
        await settled(client)


async def test_cancelled_in_a_wait_it_ends_at_once_and_leaves_nothing() -> None:
    later = b"HTTP/1.1 503 No\r\nRetry-After: 100\r\nContent-Length: 0\r\n\r\n"
    waiting = asyncio.Event()
    retries = Retries(AT_ONCE, on_retry=lambda *_: waiting.set())
    async with Server.answering(later) as server, checked_client(middleware=[retries]) as client:
        task = asyncio.create_task(client.get(server.url))
        await waiting.wait()
        await settled(client)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert len(server.requests) == 1


async def test_a_certificate_that_is_not_trusted_is_looked_at_once(server_context: SSLContext) -> None:
    async with Server.answering(OK, ssl=server_context) as server, checked_client(middleware=[retrying()]) as client:
        with pytest.raises(aiosock.TLSError) as caught:
            await client.get(server.url)
        assert (server.connections, len(caught.value.attempts)) == (1, 1)
        await settled(client)


async def test_a_handshake_that_breaks_off_is_tried_again(server_context: SSLContext, ca_file: str) -> None:
    async def script(peer: Peer) -> None:
        if peer.number:
            await peer.start_tls(server_context)
            await peer.read_request()
            await peer.send(OK)
        else:
            await peer.read()

    async with Server(script) as server, checked_client(middleware=[retrying()], verify=ca_file) as client:
        answer = await client.get(f"https://localhost:{server.port}/")
        assert answer.text == "ok"
        assert answer.extensions["attempts"][0].error.startswith("TLSError: ")
        await settled(client)


@pytest.mark.parametrize(("status", "tries"), [(407, 1), (403, 1), (502, 3), (503, 3)])
async def test_a_proxy_that_refuses_is_asked_again_only_if_that_may_pass(status: int, tries: int) -> None:
    async with (
        Server.answering(response(status, b"no")) as proxy,
        checked_client(middleware=[retrying()], proxy=proxy.url) as client,
    ):
        with pytest.raises(aiosock.ProxyError) as caught:
            await client.get("https://behind.example/")
        assert len(proxy.requests) == len(caught.value.attempts) == tries
        await settled(client)


async def test_the_repetition_after_a_stale_connection_is_no_try() -> None:
    async def script(peer: Peer) -> None:
        await peer.read_request()
        await peer.send(OK)
        if await peer.read_request():
            # It takes the next request, and closes without a word.
            return

    async with Server(script) as server, checked_client(middleware=[retrying(Retry(1))]) as client:
        for _ in range(2):
            answer = await client.get(server.url)
            assert [attempt.number for attempt in answer.extensions["attempts"]] == [1]
        assert (len(server.requests), server.connections) == (3, 2)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_so_many_at_once_and_no_place_is_lost(method: str) -> None:
    under_way = most = 0

    async def script(peer: Peer) -> None:
        nonlocal under_way, most
        while (request := await peer.read_request()) is not None:
            under_way += 1
            most = max(most, under_way)
            await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n")
            under_way -= 1
            if request.method == "GET":
                await peer.send(b"ok")

    async with Server(script) as server, checked_client(middleware=[RateLimit(concurrency=3)]) as client:
        answers = await asyncio.gather(*(client.request(method, server.url) for _ in range(30)))
        assert {answer.text for answer in answers} == {"ok" if method == "GET" else ""}
        assert 1 <= most <= 3
        assert server.connections <= 3
        check(client)


async def test_a_stream_holds_its_place_until_it_is_left() -> None:
    async with Server.answering(OK) as server, checked_client(middleware=[RateLimit(concurrency=1)]) as client:
        async with client.stream("GET", server.url):
            waiting = asyncio.create_task(client.get(server.url))
            with pytest.raises(aiosock.PoolTimeout, match="1 under way, 1 waiting"):
                await client.get(server.url, timeout=0.5)
            assert len(server.requests) == 1
        assert (await waiting).text == "ok"
        task = asyncio.create_task(client.get(server.url))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        assert (await client.get(server.url)).text == "ok"
        await settled(client)


async def test_a_server_that_is_down_is_left_alone() -> None:
    broken = CircuitBreaker(3, recovery=1000, random=lambda: 0.5)
    async with Server(hang_up) as server, checked_client(middleware=[broken]) as client:
        for _ in range(3):
            with pytest.raises(aiosock.ServerDisconnected):
                await client.get(server.url)
        with pytest.raises(CircuitOpen, match=rf"127.0.0.1:{server.port} failed too often of late") as caught:
            await client.get(server.url + "/?secret")
        assert "secret" not in str(caught.value)
        assert server.connections == 3
        await settled(client)


async def test_all_of_them_together_with_redirects_cookies_and_digest() -> None:
    seen: list[tuple[str, str, bool]] = []

    async def script(peer: Peer) -> None:
        while (request := await peer.read_request()) is not None:
            signed = request.header("Authorization") is not None
            seen.append((request.target, request.header("Cookie") or "", signed))
            match len(seen):
                case 1 | 4:
                    answer = BUSY
                case 2:
                    challenge = 'Digest realm="r", nonce="n", qop="auth", algorithm=SHA-256'
                    answer = response(401, headers=[("WWW-Authenticate", challenge), ("Set-Cookie", "a=1")])
                case 3:
                    answer = response(302, headers=[("Location", "/there"), ("Set-Cookie", "b=2")])
                case 5:
                    # Not what the transport repeats by itself: the answer had begun.
                    await peer.send(b"HTTP/1.1 2")
                    return
                case _:
                    answer = OK
            await peer.send(answer)

    chain = [
        Retries(Retry(3, backoff=0)),
        CircuitBreaker(3),
        RateLimit(10_000, concurrency=1),
    ]
    async with Server(script) as server, checked_client(middleware=chain) as client:
        answer = await client.get(server.url + "/here", auth=DigestAuth("user", "password"))
        assert answer.text == "ok"
        assert seen == [
            ("/here", "", False),
            ("/here", "", False),
            ("/here", "a=1", True),
            ("/there", "a=1; b=2", True),
            ("/there", "a=1; b=2", True),
            ("/there", "a=1; b=2", True),
        ]
        assert [len(one.extensions["attempts"]) for one in (*answer.history, answer)] == [2, 3]
        await settled(client)


# By the client


async def test_a_client_retries_and_tells_of_it() -> None:
    told: list[Any] = []
    async with (
        Server.answering(response(503), response(503), response(body=b"ok")) as server,
        checked_client(retry=aiosock.Retry(3, backoff=0.001), on_event=told.append) as client,
    ):
        answer = await client.get(server.url)
        assert answer.text == "ok"
        assert [attempt.status_code for attempt in answer.extensions["attempts"]] == [503, 503, 200]
        retried = [event for event in told if isinstance(event, RequestRetried)]
        assert [event.attempt.number for event in retried] == [1, 2]


async def test_a_request_has_the_last_word_on_retries() -> None:
    once = aiosock.Retry(2, backoff=0.001)
    async with Server.answering(response(503)) as server:
        async with checked_client(retry=once) as client:
            await client.get(server.url, retry=None)
            assert len(server.requests) == 1
        async with checked_client() as client:
            await client.get(server.url, retry=once)
            assert len(server.requests) == 3
            await client.get(server.url)
            assert len(server.requests) == 4
        with pytest.raises(aiosock.UsageError, match="^retry: must be at least 1 attempt, not 0$"):
            aiosock.Client(retry=0)


async def test_closing_the_client_ends_the_wait_for_a_retry() -> None:
    async with (
        Server.answering(response(503, headers=[("Retry-After", "250")])) as server,
        aiosock.Client(retry=3) as client,
    ):
        asking = asyncio.ensure_future(client.get(server.url))
        while not server.requests or client.pool.active:
            await asyncio.sleep(0)
        await client.close()
        with pytest.raises(aiosock.ClientClosed, match="the client was closed while the request waited"):
            await asking


async def test_closing_a_client_ends_its_waits_in_a_limit_that_it_shares_and_no_others() -> None:
    limit = RateLimit(concurrency=1)
    async with (
        Server.answering(OK) as server,
        checked_client(middleware=[limit]) as client,
        aiosock.Client(middleware=[limit]) as closing,
    ):
        async with client.stream("GET", server.url):
            ending, going_on = (asyncio.ensure_future(one.get(server.url)) for one in (closing, client))
            while len(next(iter(limit._gates.values()))._waiting) < 2:
                await asyncio.sleep(0)
            await closing.close()
            with pytest.raises(aiosock.ClientClosed, match="the client was closed while the request waited"):
                await ending
            assert not going_on.done()
        assert (await going_on).text == "ok"
        check(client)


async def test_the_refusal_of_a_proxy_may_say_how_long_to_wait() -> None:
    refusal = response(503, headers=[("Retry-After", "600"), ("Connection", "close")])
    async with (
        Server.answering(refusal) as proxy,
        checked_client(proxy=proxy.url, retry=aiosock.Retry(3, backoff=0)) as client,
    ):
        with pytest.raises(aiosock.ProxyError) as caught:
            await client.get("https://nowhere.example/")
        # Longer than a retry may wait: it is not asked again.
        assert len(caught.value.attempts) == len(proxy.requests) == 1


@pytest.mark.parametrize("scheme", ["http", "socks5h"])
async def test_a_proxy_that_drops_the_connection_is_asked_again(scheme: str) -> None:
    async def script(peer: Peer) -> None:
        await peer.read(1)

    retry = aiosock.Retry(3, backoff=0)
    async with (
        Server(script) as proxy,
        checked_client(proxy=f"{scheme}://127.0.0.1:{proxy.port}", retry=retry) as client,
    ):
        with pytest.raises(aiosock.ProxyError) as caught:
            await client.get("https://nowhere.example/")
        assert len(caught.value.attempts) == 3


async def test_an_answer_that_breaks_off_knows_the_tries_before_it() -> None:
    cut = response(200, b"half", [("Content-Length", "10"), ("Connection", "close")])

    async def script(peer: Peer) -> None:
        await peer.read_request()
        await peer.send(response(503, headers=[("Connection", "close")]) if peer.number == 0 else cut)

    async with Server(script) as server, checked_client(retry=aiosock.Retry(3, backoff=0)) as client:
        with pytest.raises(aiosock.IncompleteBody) as caught:
            await client.get(server.url)
        assert [one.status_code for one in caught.value.attempts] == [503, 200]


async def test_a_response_that_is_dropped_gives_its_place_back() -> None:
    async with (
        Server.answering(response(body=b"x" * 100_000)) as server,
        aiosock.Client(middleware=[RateLimit(concurrency=1)], timeout=20) as client,
    ):
        with pytest.warns(ResourceWarning, match="neither read nor closed"):
            await drop(client, server.url)
        assert (await client.get(server.url)).status_code == 200


async def drop(client: aiosock.Client, url: str) -> None:
    await client.send(client.build_request("GET", url), stream=True)
    gc.collect()


@pytest.mark.parametrize("argument", [{"backoff": 10**400}, {"max_backoff": -1}, {"max_retry_after": 10**400}])
def test_seconds_that_no_clock_has_are_refused(argument: dict[str, Any]) -> None:
    with pytest.raises(aiosock.UsageError, match=f"Retry: {next(iter(argument))} must be"):
        aiosock.Retry(**argument)
