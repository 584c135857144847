"""Deadlines and cancellation: each stage has its error, and nothing that ends early poisons the pool."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

import anyio
import pytest

import aiosock
from aiosock import Limits, Timeout
from aiosock.testing import Peer, Server, response
from tests.kit.clients import checked_client, settled
from tests.network.wire import Clock

OK = response(body=b"ok")
SHORT = 0.05


async def silent(peer: Peer) -> None:
    """Reads, and never answers."""
    await peer.wait_disconnect()


class Stuck:
    """A resolver that never answers."""

    async def resolve(self, host: str, port: int) -> Sequence[str]:
        await asyncio.get_running_loop().create_future()
        return []


async def test_connecting_is_bounded_and_the_error_names_the_stage() -> None:
    async with checked_client(resolver=Stuck(), timeout=Timeout(connect=SHORT)) as client:
        with pytest.raises(
            aiosock.ConnectTimeout, match=r"http://stuck.example:80 .* 0.05 s; it was resolving"
        ) as caught:
            await client.get("http://stuck.example/")
        assert isinstance(caught.value, TimeoutError)
        await settled(client)


async def test_a_handshake_that_hangs_is_a_connect_timeout(clock: Clock) -> None:
    greeted = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.read(1)
        greeted.set()
        await peer.wait_disconnect()

    async with Server(script) as server, checked_client(timeout=Timeout(connect=60)) as client:
        getting = asyncio.create_task(client.get(f"https://localhost:{server.port}/"))
        await greeted.wait()
        clock.skip(60)
        with pytest.raises(aiosock.ConnectTimeout, match="TLS handshake with localhost"):
            await getting
        await settled(client)


@pytest.mark.parametrize("start", [b"", b"HTTP/1.1 200", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab"])
async def test_a_pause_in_reading_is_bounded(start: bytes) -> None:
    async def script(peer: Peer) -> None:
        await peer.read_request()
        await peer.send(start)
        await peer.wait_disconnect()

    async with Server(script) as server, checked_client() as client:
        with pytest.raises(aiosock.ReadTimeout, match=r"127.0.0.1:\d+ for 0.05 s"):
            await client.get(server.url, timeout=Timeout(read=SHORT))
        await settled(client)
        assert client.pool.idle == 0


async def test_a_slow_drip_cannot_stretch_the_total() -> None:
    async def script(peer: Peer) -> None:
        await peer.read_request()
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
        while not peer.closed:
            await peer.send(b"x")
            await asyncio.sleep(0)

    async with Server(script) as server, checked_client() as client:
        with pytest.raises(aiosock.TotalTimeout, match=r"longer than 0.5 s in all; it was reading the body"):
            await client.get(server.url, timeout=Timeout(0.5, read=30))
        await settled(client)


async def test_the_total_counts_over_redirects(clock: Clock) -> None:
    async def script(peer: Peer) -> None:
        while await peer.read_request() is not None:
            clock.skip(1)
            await peer.send(response(302, headers=[("Location", "/again")]))

    async with Server(script) as server, checked_client(max_redirects=1000) as client:
        with pytest.raises(aiosock.TotalTimeout):
            await client.get(server.url, timeout=20)
        assert 10 < len(server.requests) <= 21
        await settled(client)


async def test_the_total_of_a_stream_ends_with_its_head(clock: Clock) -> None:
    gate = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.read_request()
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nab")
        await gate.wait()
        await peer.send(b"cd")
        await peer.wait_disconnect()

    async with (
        Server(script) as server,
        checked_client() as client,
        client.stream("GET", server.url, timeout=Timeout(60, read=200)) as answer,
    ):
        reading = asyncio.create_task(answer.read())
        await run_some_turns(reading, 5)
        clock.skip(100)
        await run_some_turns(reading, 5)
        gate.set()
        assert await reading == b"abcd"


async def test_a_pause_in_writing_is_bounded() -> None:
    async def script(peer: Peer) -> None:
        await peer.read_head()
        await peer.server.gate.wait()  # type: ignore[attr-defined]  # set below

    for content in (b"x" * 200_000_00, [b"x" * 1_000_000] * 20):
        gate = asyncio.Event()
        async with Server(script) as server, checked_client() as client:
            server.gate = gate  # type: ignore[attr-defined]  # the script's
            with pytest.raises(aiosock.WriteTimeout, match=r"nothing could be sent to 127.0.0.1:\d+ for 0.05 s"):
                await client.post(server.url, content=content, timeout=Timeout(write=SHORT))
            gate.set()
            await settled(client)


async def test_a_long_upload_does_not_run_into_the_read_timeout(clock: Clock) -> None:
    async def slowly() -> AsyncIterator[bytes]:
        for _ in range(10):
            yield b"x"
            clock.skip(20)
            await asyncio.sleep(0)

    async with Server.answering(OK) as server, checked_client() as client:
        assert (await client.post(server.url, content=slowly(), timeout=Timeout(read=30))).text == "ok"


async def test_the_read_timeout_counts_from_the_end_of_the_upload(clock: Clock) -> None:
    async def slowly() -> AsyncIterator[bytes]:
        yield b"x"
        clock.skip(20)
        await asyncio.sleep(0)

    received = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.read_request()
        received.set()
        await peer.wait_disconnect()

    async with Server(script) as server, checked_client() as client:
        posting = asyncio.create_task(client.post(server.url, content=slowly(), timeout=Timeout(read=30)))
        await received.wait()
        clock.skip(20)
        assert not await run_some_turns(posting, 5)
        clock.skip(20)
        with pytest.raises(aiosock.ReadTimeout, match="for 30 s"):
            await posting
        await settled(client)


async def test_a_body_that_never_comes_is_bounded_by_the_total() -> None:
    async def never() -> AsyncIterator[bytes]:
        yield b"x"
        await asyncio.get_running_loop().create_future()

    async with Server(silent) as server, checked_client() as client:
        with pytest.raises(aiosock.TotalTimeout):
            await client.post(server.url, content=never(), timeout=Timeout(SHORT, read=None))
        await settled(client)


async def test_waiting_for_a_connection_is_bounded_when_the_queue_stands_still() -> None:
    async with Server(silent) as server, checked_client(limits=Limits(max_connections=1)) as client:
        stuck = asyncio.create_task(client.get(server.url))
        while not server.connections:
            await asyncio.sleep(0)
        with pytest.raises(aiosock.PoolTimeout, match=r"stood still for 0.05 s; .*active=1 .*limits: 1 in all"):
            await client.get(server.url, timeout=Timeout(pool=SHORT))
        with pytest.raises(aiosock.TotalTimeout, match="active=1"):
            await client.get(server.url, timeout=SHORT)
        stuck.cancel()
        with pytest.raises(asyncio.CancelledError):
            await stuck
        await settled(client)


async def test_a_queue_that_moves_does_not_time_out(clock: Clock) -> None:
    async def script(peer: Peer) -> None:
        while await peer.read_request() is not None:
            clock.skip(10)
            await peer.send(OK)

    async with Server(script) as server, checked_client(limits=Limits(max_connections=2)) as client:
        answers = await asyncio.gather(*(client.get(server.url, timeout=Timeout(pool=60)) for _ in range(120)))
        assert len(answers) == 120


async def test_one_stuck_origin_does_not_hold_up_the_others() -> None:
    limits = Limits(max_connections=10, max_connections_per_host=2)
    async with Server(silent) as stuck, Server.answering(OK) as fine, checked_client(limits=limits) as client:
        hanging = [asyncio.create_task(client.get(stuck.url)) for _ in range(8)]
        for _ in range(20):
            assert (await client.get(fine.url)).text == "ok"
        for task in hanging:
            task.cancel()
        await asyncio.gather(*hanging, return_exceptions=True)
        await settled(client)


# Cancellation at every await of a request


async def piecemeal(peer: Peer) -> None:
    """Answers in many pieces, so that there are many moments at which a request can be cancelled."""
    while (head := await peer.read_head()) is not None:
        await peer.send(b"HTTP/1.1 103 Early Hints\r\n\r\n")
        await peer.read_body(head)
        await peer.send_pieces(
            b"HTTP/1.1 200 OK\r\nTransfer-",
            b"Encoding: chunked\r\n\r\n2\r\nab",
            b"\r\n2\r\ncd\r\n",
            b"0\r\n",
            b"\r\n",
        )


async def upload() -> AsyncIterator[bytes]:
    for _ in range(3):
        yield b"x" * 1000
        await asyncio.sleep(0)


async def run_some_turns(task: asyncio.Task[object], turns: int) -> bool:
    """Let the loop turn so often; tell whether the task ended before."""
    for _ in range(turns):
        if task.done():
            return True
        await asyncio.sleep(0)
    return task.done()


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "TLS"])
@pytest.mark.parametrize("kind", ["get", "upload", "stream"])
@pytest.mark.parametrize("keep", [None, 0], ids=["reusing", "dialling"])
async def test_cancellation_at_every_turn_leaves_the_pool_true(
    keep: int | None, kind: str, secure: bool, server_context: object, ca_file: str
) -> None:
    options = {"verify": ca_file, "limits": Limits(max_keepalive_connections=keep)}
    async with (
        Server(piecemeal, ssl=server_context if secure else None) as server,
        checked_client(**options) as client,
    ):

        async def request() -> bytes:
            if kind == "get":
                return (await client.get(server.url)).content
            if kind == "upload":
                return (await client.post(server.url, content=upload())).content
            async with client.stream("GET", server.url) as answer:
                return await answer.read()

        assert await request() == b"abcd"
        turns = 0
        ended = False
        while not ended:
            task: asyncio.Task[object] = asyncio.create_task(request())
            ended = await run_some_turns(task, turns)
            task.cancel()
            await asyncio.wait([task])
            assert task.cancelled() or task.result() == b"abcd"
            await settled(client)
            turns += 1
        assert turns > 10
        assert await request() == b"abcd"


async def test_cancelled_requests_do_not_poison_connections_for_others() -> None:
    async def script(peer: Peer) -> None:
        while (request := await peer.read_request()) is not None:
            await asyncio.sleep(0)
            await peer.send(response(body=request.target.encode()))

    async with Server(script) as server, checked_client(limits=Limits(max_connections=5)) as client:

        async def fetch(number: int) -> None:
            answer = await client.get(f"{server.url}/{number}")
            assert answer.text == f"/{number}"

        tasks = [asyncio.create_task(fetch(number)) for number in range(300)]
        for turn, task in enumerate(tasks):
            if turn % 3 == 0:
                task.cancel()
            await asyncio.sleep(0)
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert not [result for result in results if isinstance(result, Exception)]
        await settled(client)


async def test_anyio_cancel_scopes_end_requests_in_good_order() -> None:
    async with Server(piecemeal) as server, checked_client(limits=Limits(max_connections=3)) as client:
        for turns in range(12):
            async with anyio.create_task_group() as group:
                for _ in range(6):
                    group.start_soon(client.get, server.url)
                for _ in range(turns):
                    await asyncio.sleep(0)
                group.cancel_scope.cancel()
            await settled(client)
        with anyio.move_on_after(SHORT) as scope:
            async with Server(silent) as mute:
                await client.get(mute.url)
        assert scope.cancelled_caught
        assert (await client.get(server.url)).content == b"abcd"


async def test_a_users_own_timeout_works_as_everywhere() -> None:
    async with Server(silent) as server, checked_client() as client:
        with pytest.raises(TimeoutError) as caught:
            async with asyncio.timeout(SHORT):
                await client.get(server.url)
        assert not isinstance(caught.value, aiosock.AiosockError)
        await settled(client)


async def test_a_response_may_be_opened_in_one_task_and_read_in_another() -> None:
    async def script(peer: Peer) -> None:
        await peer.read_request()
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nab")
        await peer.wait_disconnect()

    async with Server(script) as server, checked_client() as client:
        request = client.build_request("GET", server.url, timeout=Timeout(read=SHORT))
        answer = await client.send(request, stream=True)
        with pytest.raises(aiosock.ReadTimeout) as caught:
            await asyncio.create_task(answer.read())
        assert caught.value.request is not None
        await settled(client)


async def test_closing_the_client_ends_what_is_under_way() -> None:
    limits = Limits(max_connections=2)
    async with Server(silent) as server:
        client = aiosock.Client(limits=limits)
        tasks = [asyncio.create_task(client.get(server.url)) for _ in range(4)]
        while server.connections < 2:
            await asyncio.sleep(0)
        await client.close()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert sum(isinstance(result, aiosock.ClientClosed) for result in results) >= 2
        assert all(isinstance(result, aiosock.AiosockError) for result in results)
        with pytest.raises(aiosock.ClientClosed):
            await client.get(server.url)
        await client.close()
        assert client.pool.active == client.pool.idle == client.pool.dialling == 0
