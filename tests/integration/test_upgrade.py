"""A connection that speaks another protocol after 101 or CONNECT: both ways at once, counted, and given back."""

from __future__ import annotations

import asyncio
import gc
import math
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from ssl import SSLContext
from typing import Any, BinaryIO

import pytest

import aiosock
from aiosock import Limits, Timeout
from aiosock.message.response import ByteStream
from aiosock.testing import Peer, Server, response
from tests.kit.clients import checked_client, settled

SHORT = 0.05
LARGE = 8 * 1024 * 1024
PIECE = bytes(range(256)) * 256
MANY = 320  # pieces: more than sockets hold
OFFER = {"Upgrade": "echo", "Connection": "upgrade"}
SWITCHING = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: echo\r\nConnection: upgrade\r\n\r\n"

Script = Callable[[Peer], Any]
Serving = Callable[..., AbstractAsyncContextManager[tuple[aiosock.Client, str]]]
Upgraded = Callable[..., AbstractAsyncContextManager[tuple[aiosock.Client, ByteStream]]]


def switching(then: Script, first: bytes = b"") -> Script:
    """A script that takes the upgrade, says something in the same breath, and goes on."""

    async def script(peer: Peer) -> None:
        request = await peer.read_head()
        assert request is not None
        assert request.header("Upgrade") == "echo"
        await peer.send(SWITCHING + first)
        await then(peer)

    return script


async def echo(peer: Peer) -> None:
    while data := await peer.read():
        await peer.send(data)


async def listen(peer: Peer) -> None:
    await peer.wait_disconnect()


@pytest.fixture(params=["plain", "TLS"])
def serving(request: pytest.FixtureRequest) -> Serving:
    """A server that plays a script, over TCP and over TLS, and a client for it."""
    secure = request.param == "TLS"
    context: SSLContext | None = request.getfixturevalue("server_context") if secure else None
    trust = {"verify": request.getfixturevalue("ca_file")} if secure else {}

    @asynccontextmanager
    async def serve(script: Script, **options: Any) -> AsyncIterator[tuple[aiosock.Client, str]]:
        async with Server(script, ssl=context) as server, checked_client(**trust, **options) as client:
            yield client, server.url
            await settled(client)
            assert client.pool.idle == 0

    return serve


@pytest.fixture
def upgraded(serving: Serving) -> Upgraded:
    """A client with a stream to a peer that plays a script after 101."""

    @asynccontextmanager
    async def connect(
        then: Script, first: bytes = b"", **options: Any
    ) -> AsyncIterator[tuple[aiosock.Client, ByteStream]]:
        async with (
            serving(switching(then, first), **options) as (client, url),
            client.stream("GET", url, headers=OFFER) as answer,
        ):
            assert (answer.status_code, answer.headers["Upgrade"]) == (101, "echo")
            assert answer.stream is not None
            yield client, answer.stream

    return connect


async def read_exactly(stream: ByteStream, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        piece = await stream.read()
        assert piece
        data += piece
    return bytes(data)


# Reading and writing


async def test_what_came_with_the_head_is_not_lost(upgraded: Upgraded) -> None:
    async with upgraded(echo, b"hello") as (_, stream):
        assert await stream.read() == b"hello"
        await stream.write(b"x")
        assert await stream.read() == b"x"


async def test_much_goes_both_ways_at_once(upgraded: Upgraded) -> None:
    async def write(stream: ByteStream) -> None:
        for _ in range(LARGE // len(PIECE)):
            await stream.write(PIECE)

    async with upgraded(echo, PIECE) as (_, stream), asyncio.TaskGroup() as tasks:
        tasks.create_task(write(stream))
        assert await read_exactly(stream, LARGE + len(PIECE)) == PIECE * (LARGE // len(PIECE) + 1)


async def test_a_large_write_waits_for_a_server_that_reads_late(upgraded: Upgraded) -> None:
    gate = asyncio.Event()

    async def late(peer: Peer) -> None:
        await gate.wait()
        received = 0
        while received < LARGE:
            received += len(await peer.read())
        await peer.send(str(received).encode())

    async with upgraded(late) as (_, stream):
        writing = asyncio.create_task(stream.write(PIECE * (LARGE // len(PIECE))))
        for _ in range(20):
            await asyncio.sleep(0)
        assert not writing.done()
        gate.set()
        await writing
        assert await stream.read() == str(LARGE).encode()


async def test_the_end_is_told_again_and_again(upgraded: Upgraded) -> None:
    async def leave(peer: Peer) -> None:
        await peer.send(b"bye")
        await peer.close()

    async with upgraded(leave) as (_, stream):
        assert await read_exactly(stream, 3) == b"bye"
        assert [await stream.read() for _ in range(3)] == [b""] * 3


async def test_after_the_end_of_what_comes_more_can_be_sent() -> None:
    received = b""

    async def half(peer: Peer) -> None:
        nonlocal received
        peer.half_close()
        while data := await peer.read():
            received += data

    async with Server(switching(half)) as server, checked_client() as client:
        async with client.stream("GET", server.url, headers=OFFER) as answer:
            assert answer.stream is not None
            assert await answer.stream.read() == b""
            await answer.stream.write(b"still here")
        while server.open_connections:
            await asyncio.sleep(0)
        assert received == b"still here"


async def test_a_cut_of_tls_is_an_error_and_no_end(server_context: SSLContext, ca_file: str) -> None:
    async def cut(peer: Peer) -> None:
        peer.cut()

    async with (
        Server(switching(cut), ssl=server_context) as server,
        checked_client(verify=ca_file) as client,
        client.stream("GET", server.url, headers=OFFER) as answer,
    ):
        assert answer.stream is not None
        with pytest.raises(aiosock.TruncatedStream):
            await answer.stream.read()


async def test_a_reset_is_an_error_in_both_directions(upgraded: Upgraded) -> None:
    async def reset(peer: Peer) -> None:
        await peer.read()
        peer.reset()

    async with upgraded(reset) as (_, stream):
        await stream.write(b"x")
        with pytest.raises(aiosock.ReadError):
            await stream.read()
        with pytest.raises(aiosock.WriteError):
            while True:
                await stream.write(b"x")


# Cancellation and timeouts


async def test_a_cancelled_read_loses_nothing(upgraded: Upgraded) -> None:
    async with upgraded(echo) as (_, stream):
        for number in range(20):
            reading = asyncio.create_task(stream.read())
            await asyncio.sleep(0)
            await stream.write(b"%2d" % number)
            # At each of these turns the bytes are somewhere else on their way.
            for _ in range(number):
                await asyncio.sleep(0)
            reading.cancel()
            await asyncio.wait([reading])
            got = b"" if reading.cancelled() else reading.result()
            assert got + await read_exactly(stream, 2 - len(got)) == b"%2d" % number


async def test_a_read_that_is_called_off_when_the_bytes_are_there_leaves_them(upgraded: Upgraded) -> None:
    async with upgraded(echo) as (_, stream):
        reading = asyncio.create_task(stream.read())
        await asyncio.sleep(0)
        under_way: Any = stream
        under_way._reading.add_done_callback(lambda _: reading.cancel())
        await stream.write(b"abc")
        await asyncio.wait([reading])
        assert reading.cancelled()
        assert await stream.read() == b"abc"


async def test_a_cancelled_read_may_be_the_last(upgraded: Upgraded, caplog: pytest.LogCaptureFixture) -> None:
    async with upgraded(listen) as (_, stream):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(SHORT):
                await stream.read()
    del stream
    gc.collect()
    assert [record.getMessage() for record in caplog.records if record.name == "asyncio"] == []


async def test_one_task_reads_at_a_time(upgraded: Upgraded) -> None:
    async with upgraded(echo) as (_, stream):
        reading = asyncio.create_task(stream.read())
        await asyncio.sleep(0)
        with pytest.raises(aiosock.UsageError, match="two tasks read from one stream"):
            await stream.read()
        await stream.write(b"x")
        assert await reading == b"x"


async def test_neither_pauses_nor_time_in_all_bound_a_read(upgraded: Upgraded) -> None:
    gate = asyncio.Event()

    async def late(peer: Peer) -> None:
        await gate.wait()
        await peer.send(b"late")
        await listen(peer)

    async with upgraded(late, timeout=Timeout(1.0, read=0.5)) as (_, stream):
        asyncio.get_running_loop().call_later(1.2, gate.set)
        assert await stream.read() == b"late"
        await stream.write(b"x")


async def test_a_write_that_gets_stuck_times_out(upgraded: Upgraded) -> None:
    gate = asyncio.Event()

    async def deaf(peer: Peer) -> None:
        await gate.wait()

    async with upgraded(deaf, timeout=Timeout(write=SHORT)) as (_, stream):
        with pytest.raises(aiosock.WriteTimeout):
            await stream.write(bytes(64 * 1024 * 1024))
        with pytest.raises(aiosock.WriteTimeout):
            await stream.write(b"x")
        gate.set()


async def test_a_call_bounds_the_writes_of_its_stream_too() -> None:
    async with Server(switching(listen)) as server, checked_client(timeout=Timeout(30, write=SHORT)) as client:
        answer = await client.get(server.url, headers=OFFER)
        bounds: Any = answer.stream
        network = bounds._stream
        assert (network._write_seconds, network._write_deadline) == (SHORT, math.inf)
        await answer.close()


@pytest.mark.parametrize(
    "data",
    [bytearray(b"abc"), memoryview(b"abc"), memoryview(b"a-b-c")[::2]],
    ids=["bytearray", "memoryview", "strided"],
)
async def test_what_is_like_bytes_is_written_too(upgraded: Upgraded, data: bytes) -> None:
    async with upgraded(echo) as (_, stream):
        await stream.write(data)
        assert await read_exactly(stream, 3) == b"abc"


@pytest.mark.parametrize("data", ["abc", 3, None, [b"abc"]])
async def test_what_is_no_bytes_is_not_written(upgraded: Upgraded, data: Any) -> None:
    async with upgraded(echo) as (_, stream):
        with pytest.raises(aiosock.UsageError, match=f"^data: bytes are sent, not {type(data).__name__}$"):
            await stream.write(data)
        await stream.write(b"x")
        assert await stream.read() == b"x"


async def test_a_cancelled_write_is_sent_all_the_same(upgraded: Upgraded) -> None:
    gate = asyncio.Event()

    async def late(peer: Peer) -> None:
        await gate.wait()
        received = 0
        while received < LARGE + 1:
            received += len(await peer.read())
        await peer.send(b"all")

    async with upgraded(late) as (_, stream):
        writing = asyncio.create_task(stream.write(bytes(LARGE)))
        await asyncio.sleep(0)
        writing.cancel()
        await asyncio.wait([writing])
        assert writing.cancelled()
        gate.set()
        await stream.write(b"x")
        assert await stream.read() == b"all"


# The end, and the pool


async def test_a_closed_stream_is_gone_and_its_place_free(upgraded: Upgraded) -> None:
    left = asyncio.Event()

    async def wait(peer: Peer) -> None:
        await peer.wait_disconnect()
        left.set()

    async with upgraded(wait, b"unread") as (client, stream):
        assert client.pool.active == 1
        for _ in range(2):
            await stream.close()
            assert client.pool.active == client.pool.idle == 0
        await left.wait()
        with pytest.raises(aiosock.ReadError, match="closed on this side"):
            await stream.read()
        with pytest.raises(aiosock.WriteError, match="closed on this side"):
            await stream.write(b"x")


async def test_closing_wakes_who_reads(upgraded: Upgraded) -> None:
    async with upgraded(listen) as (_, stream):
        reading = asyncio.create_task(stream.read())
        await asyncio.sleep(0)
        await stream.close()
        with pytest.raises(aiosock.ReadError, match="closed on this side"):
            await reading


async def test_the_end_of_the_client_is_the_streams() -> None:
    left = asyncio.Event()

    async def wait(peer: Peer) -> None:
        await peer.wait_disconnect()
        left.set()

    async with Server(switching(wait)) as server:
        async with checked_client() as client:
            answer = await client.get(server.url, headers=OFFER)
            assert answer.stream is not None
            reading = asyncio.create_task(answer.stream.read())
            await asyncio.sleep(0)
        with pytest.raises(aiosock.ReadError):
            await reading
        await left.wait()
        await answer.close()


async def test_an_open_stream_counts_for_the_limit_until_it_is_closed() -> None:
    async def script(peer: Peer) -> None:
        request = await peer.read_head()
        assert request is not None
        await peer.send(SWITCHING if request.header("Upgrade") else response(body=b"ok"))
        await listen(peer)

    limits = Limits(max_connections=1)
    async with Server(script) as server, checked_client(limits=limits, timeout=Timeout(pool=SHORT)) as client:
        async with client.stream("GET", server.url, headers=OFFER):
            with pytest.raises(aiosock.PoolTimeout):
                await client.get(server.url)
            waiting = asyncio.create_task(client.get(server.url, timeout=None))
            await asyncio.sleep(0)
            assert client.pool.waiting == 1
        assert (await waiting).text == "ok"
        assert server.connections == 2
        await settled(client)


@pytest.mark.parametrize("how", ["exception", "cancellation", "abort"])
async def test_leaving_the_block_in_any_way_closes(how: str) -> None:
    async with Server(switching(listen)) as server, checked_client() as client:

        async def work() -> None:
            async with client.stream("GET", server.url, headers=OFFER) as answer:
                assert answer.stream is not None
                if how == "exception":
                    raise ZeroDivisionError
                if how == "cancellation":
                    inside.set()
                    await answer.stream.read()
                answer.abort()
                with pytest.raises(aiosock.ReadError):
                    await answer.stream.read()

        inside = asyncio.Event()
        task = asyncio.create_task(work())
        if how == "cancellation":
            await inside.wait()
            task.cancel()
        await asyncio.wait([task])
        assert task.cancelled() is (how == "cancellation")
        if how == "exception":
            assert isinstance(task.exception(), ZeroDivisionError)
        elif how == "abort":
            await task
        await settled(client)
        assert client.pool.idle == 0
        while server.open_connections:
            await asyncio.sleep(0)


async def test_a_stream_that_is_forgotten_is_closed_with_a_warning() -> None:
    async with Server(switching(listen)) as server, checked_client() as client:
        answer = await client.get(server.url, headers=OFFER)
        assert client.pool.active == 1
        with pytest.warns(ResourceWarning, match="neither read nor closed"):  # noqa: PT031  # where it is raised
            del answer
            gc.collect()
        await settled(client)


# What the answer is


async def test_a_call_that_gets_101_returns_with_an_empty_body_and_an_open_stream() -> None:
    async with Server(switching(echo, b"hi")) as server, checked_client(raise_for_status=True) as client:
        answer = await client.get(server.url, headers=OFFER)
        assert (answer.content, answer.text, await answer.read()) == (b"", "", b"")
        assert [piece async for piece in answer.iter_bytes()] == []
        assert answer.stream is not None
        assert client.pool.active == 1
        await answer.stream.write(b"x")
        assert await read_exactly(answer.stream, 3) == b"hix"
        await answer.close()
        await settled(client)


async def test_a_post_may_be_upgraded_once_its_body_is_sent() -> None:
    async def script(peer: Peer) -> None:
        request = await peer.read_request()
        assert request is not None
        await peer.send(b"HTTP/1.1 103 Early Hints\r\n\r\n" + SWITCHING + request.body)
        await echo(peer)

    async def pieces() -> AsyncIterator[bytes]:
        yield b"he"
        yield b"llo"

    for content in (b"hello", pieces()):
        async with Server(script) as server, checked_client() as client:
            async with client.stream("POST", server.url, headers=OFFER, content=content) as answer:
                assert [one.status_code for one in answer.informational] == [103]
                assert answer.stream is not None
                assert await answer.stream.read() == b"hello"
            await settled(client)


class Early:
    """A server that switches before it has read the request's body, and reads that, and what follows, when told to."""

    def __init__(self) -> None:
        self.reads_on = asyncio.Event()
        self.body = b""
        self.behind = b""

    async def __call__(self, peer: Peer) -> None:
        request = await peer.read_head()
        assert request is not None
        await peer.send(SWITCHING + b"hi")
        await self.reads_on.wait()
        self.body = await peer.read_body(request)
        while data := await peer.read():
            self.behind += data


def in_pieces(content: bytes) -> AsyncIterator[bytes]:
    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(content), len(PIECE)):
            yield content[start : start + len(PIECE)]

    return pieces()


@pytest.fixture
def file(tmp_path: Path) -> Iterator[BinaryIO]:
    path = tmp_path / "body"
    path.write_bytes(PIECE * MANY)
    with path.open("rb") as file:
        yield file


@pytest.mark.parametrize("kind", ["bytes", "pieces", "file"])
async def test_nothing_is_written_ahead_of_the_rest_of_the_request(kind: str, file: BinaryIO, serving: Serving) -> None:
    body, early = PIECE * MANY, Early()
    content = {"bytes": body, "pieces": in_pieces(body), "file": file}[kind]
    async with (
        serving(early) as (client, url),
        client.stream("POST", url, headers=OFFER, content=content) as answer,
    ):
        assert answer.stream is not None
        # The server speaks the new protocol already.
        assert await read_exactly(answer.stream, 2) == b"hi"
        called_off = asyncio.create_task(answer.stream.write(b"no"))
        writing = asyncio.create_task(answer.stream.write(b"first"))
        await asyncio.sleep(0)
        called_off.cancel()
        await asyncio.sleep(0)
        assert not writing.done()
        early.reads_on.set()
        await writing
        await answer.stream.write(b" second")
        while not early.behind.endswith(b"second"):
            await asyncio.sleep(0)
    assert early.body == body
    assert early.behind == b"first second"


async def test_a_body_that_waited_for_100_is_sent_after_101_all_the_same() -> None:
    early = Early()
    early.reads_on.set()
    headers = {**OFFER, "Expect": "100-continue"}
    async with Server(early) as server, checked_client() as client:
        async with client.stream("POST", server.url, headers=headers, content=b"body") as answer:
            assert answer.stream is not None
            await answer.stream.write(b"raw")
        while not early.behind:
            await asyncio.sleep(0)
        assert (early.body, early.behind) == (b"body", b"raw")


async def test_a_body_that_fails_after_the_switch_fails_who_reads_and_who_writes() -> None:
    go_on = asyncio.Event()

    async def failing() -> AsyncIterator[bytes]:
        yield b"x"
        await go_on.wait()
        raise ZeroDivisionError("of the body")

    async with Server(Early()) as server, checked_client() as client:
        async with client.stream("POST", server.url, headers=OFFER, content=failing()) as answer:
            assert answer.stream is not None
            assert await read_exactly(answer.stream, 2) == b"hi"
            go_on.set()
            for call in (answer.stream.write(b"x"), answer.stream.read()):
                with pytest.raises(ZeroDivisionError, match="of the body"):
                    await call
        await settled(client)


async def test_a_stream_is_closed_although_the_request_is_not_sent_yet() -> None:
    early = Early()
    async with Server(early) as server, checked_client() as client:
        async with client.stream("POST", server.url, headers=OFFER, content=in_pieces(PIECE * 128)) as answer:
            assert answer.stream is not None
            writing = asyncio.create_task(answer.stream.write(b"x"))
            await asyncio.sleep(0)
            await answer.stream.close()
            with pytest.raises(aiosock.WriteError, match="closed on this side"):
                await writing
        await settled(client)


@pytest.mark.parametrize("status", [200, 426])
async def test_a_refused_upgrade_is_an_answer_like_any_other(status: int) -> None:
    refusal = response(status, b"no", [("Upgrade", "other"), ("Connection", "upgrade")])
    async with Server.answering(refusal) as server, checked_client() as client:
        for _ in range(2):
            answer = await client.get(server.url, headers=OFFER)
            assert (answer.status_code, answer.stream, answer.text) == (status, None, "no")
        assert (server.connections, client.pool.idle) == (1, 1)


async def test_101_that_nobody_asked_for_is_an_error() -> None:
    async def script(peer: Peer) -> None:
        await peer.read_head()
        await peer.send(SWITCHING)
        await listen(peer)

    async with Server(script) as server, checked_client() as client:
        with pytest.raises(aiosock.RemoteProtocolError, match="offered no Upgrade"):
            await client.get(server.url)
        await settled(client)
        assert client.pool.idle == 0


@pytest.mark.parametrize("head", [b"200 OK", b"299 Fine\r\nContent-Length: 3\r\nTransfer-Encoding: chunked"])
async def test_connect_by_hand_gives_a_stream(head: bytes) -> None:
    async def script(peer: Peer) -> None:
        request = await peer.read_head()
        assert request is not None
        assert (request.method, request.target) == ("CONNECT", "example.com:443")
        await peer.send(b"HTTP/1.1 " + head + b"\r\n\r\nfirst")
        await echo(peer)

    async with Server(script) as server, checked_client() as client:
        request = client.build_request("CONNECT", server.url).replace(target="example.com:443")
        async with await client.send(request, stream=True) as answer:
            assert answer.stream is not None
            await answer.stream.write(b"ping")
            assert await read_exactly(answer.stream, 9) == b"firstping"
        await settled(client)


async def test_a_refused_connect_is_an_answer_like_any_other() -> None:
    async with Server.answering(response(403, b"no")) as server, checked_client() as client:
        request = client.build_request("CONNECT", server.url).replace(target="example.com:443")
        answer = await client.send(request)
        assert (answer.status_code, answer.stream, answer.text) == (403, None, "no")
        await settled(client)
