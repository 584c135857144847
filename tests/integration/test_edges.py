"""Where two things happen at once, and where there is always more to do: what must hold all the same."""

from __future__ import annotations

import asyncio
import gzip
import io
import socket
import time
from collections.abc import AsyncIterator, Callable

import pytest

import aiosock
from aiosock import Limits, Timeout
from aiosock.network import tcp
from aiosock.testing import Peer, Server, response
from tests.kit.clients import checked_client, settled, transport_of

OK = response(body=b"ok")
SIZE = 250_000


@pytest.fixture
def slow_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the kernel take little at a time, as for a peer far away."""
    opened: Callable[..., tcp.Stream] = tcp._open

    def small(sock: socket.socket, portable: bool) -> tcp.Stream:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        return opened(sock, portable)

    monkeypatch.setattr(tcp, "_open", small)


@pytest.mark.usefixtures("slow_network")
async def test_what_was_handed_to_the_stream_is_sent_although_the_answer_was_early() -> None:
    counts: list[int] = []

    async def script(peer: Peer) -> None:
        head = await peer.read_head()
        assert head is not None
        await peer.send(OK)
        for _ in range(50):
            await asyncio.sleep(0)
        counts.append(len(await peer.read_body(head)))
        await peer.wait_disconnect()

    async with Server(script) as server, checked_client() as client:
        assert (await client.post(server.url, content=b"x" * SIZE)).text == "ok"
        await settled(client)
    assert counts == [SIZE]


@pytest.mark.usefixtures("slow_network")
async def test_a_connection_whose_sending_failed_is_not_used_again() -> None:
    async def script(peer: Peer) -> None:
        await peer.read_head()
        await peer.send(OK)
        await peer.server.gate.wait()  # type: ignore[attr-defined]  # set below

    gate = asyncio.Event()
    async with Server(script) as server, checked_client() as client:
        server.gate = gate  # type: ignore[attr-defined]  # the script's
        answer = await client.post(server.url, content=b"x" * 10 * SIZE, timeout=Timeout(write=0.05))
        assert answer.text == "ok"
        assert client.pool.idle == 0
        gate.set()
        await settled(client)


@pytest.mark.usefixtures("slow_network")
async def test_a_refusal_of_a_small_body_does_not_park_a_dead_connection() -> None:
    async def script(peer: Peer) -> None:
        await peer.read_head()
        await peer.send(response(413))
        await peer.wait_disconnect()

    async with Server(script) as server, checked_client() as client:
        assert (await client.post(server.url, content=b"x" * SIZE)).status_code == 413
        assert client.pool.idle == 0


async def test_a_caller_sees_the_answer_that_its_upload_waits_for() -> None:
    seen = asyncio.Event()

    async def body() -> AsyncIterator[bytes]:
        yield b"x"
        await seen.wait()
        yield b"y"

    async def script(peer: Peer) -> None:
        head = await peer.read_head()
        assert head is not None
        await peer.send(response(body=b"hello"))
        assert await peer.read_body(head) == b"xy"
        await peer.wait_disconnect()

    async with Server(script) as server, checked_client() as client:
        async with client.stream("POST", server.url, content=body()) as answer:
            async for piece in answer.iter_bytes():
                assert piece == b"hello"
                seen.set()
        assert client.pool.idle == 1


async def test_a_body_that_waits_for_what_was_cancelled_fails_at_once() -> None:
    async def body() -> AsyncIterator[bytes]:
        yield b"x"
        other = asyncio.ensure_future(asyncio.get_running_loop().create_future())
        other.cancel()
        await other

    async def script(peer: Peer) -> None:
        await peer.wait_disconnect()

    async with Server(script) as server, checked_client(timeout=None) as client:
        with pytest.raises(aiosock.UsageError, match="waited for was cancelled") as caught:
            await client.post(server.url, content=body())
        assert isinstance(caught.value.__cause__, asyncio.CancelledError)
        await settled(client)


async def test_closing_while_another_task_reads_closes_the_connection() -> None:
    async def script(peer: Peer) -> None:
        await peer.read_request()
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nab")
        await peer.wait_disconnect()

    async with Server(script) as server, checked_client() as client:
        answer = await client.send(client.build_request("GET", server.url), stream=True)
        reading = asyncio.create_task(answer.read())
        for _ in range(3):
            await asyncio.sleep(0)
        await answer.close()
        with pytest.raises(aiosock.AiosockError):
            await reading
        assert client.pool.idle == 0
        await settled(client)


async def test_leaving_a_response_by_an_exception_closes_its_connection() -> None:
    async with Server.answering(OK) as server, checked_client() as client:
        with pytest.raises(ZeroDivisionError):
            async with await client.send(client.build_request("GET", server.url), stream=True):
                raise ZeroDivisionError
        assert client.pool.idle == 0


class SlowFile(io.BytesIO):
    """A file whose reading takes a while, in its thread."""

    def read(self, size: int | None = -1, /) -> bytes:
        piece = super().read(65536 if size is None else size)
        time.sleep(0.02)
        return piece


async def test_a_file_is_sent_again_from_its_start_although_a_thread_still_reads_it() -> None:
    content = bytes(range(250)) * 1200

    async def script(peer: Peer) -> None:
        while (head := await peer.read_head()) is not None:
            if head.target == "/":
                await peer.send(response(307, headers=[("Location", "/again")]))
                await peer.wait_disconnect()
                return
            await peer.send(response(body=b"whole" if await peer.read_body(head) == content else b"garbled"))

    file = SlowFile(content)
    async with Server(script) as server, checked_client() as client:
        request = client.build_request("PUT", server.url, content=file)
        request.body._in_thread = True  # type: ignore[union-attr]  # as for a file that may block
        assert (await client.send(request)).text == "whole"
        await settled(client)


async def test_the_total_holds_where_there_is_always_something_to_read() -> None:
    endless = b"1\r\na\r\n" * 20_000

    async def script(peer: Peer) -> None:
        await peer.read_request()
        await peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while not peer.closed:
            await peer.send(endless)

    async with Server(script) as server, checked_client() as client:
        loop = asyncio.get_running_loop()
        started = loop.time()
        with pytest.raises(aiosock.TotalTimeout):
            await client.get(server.url, timeout=0.2)
        assert loop.time() - started < 5
        await settled(client)


async def test_the_total_holds_while_a_bomb_is_decoded() -> None:
    bomb = gzip.compress(gzip.compress(b"\0" * 500_000_000, 1), 9)
    headers = [("Content-Encoding", "gzip, gzip")]
    async with Server.answering(response(body=bomb, headers=headers)) as server, checked_client() as client:
        with pytest.raises(aiosock.TotalTimeout):
            await client.get(server.url, timeout=0.1)
        await settled(client)


async def test_messages_do_not_show_what_may_be_a_secret() -> None:
    async def script(peer: Peer) -> None:
        request = await peer.read_request()
        assert request is not None
        line = b"Set-Cookie : sid=SECRET" if request.target == "/space" else b"sid=SECRET"
        await peer.send(b"HTTP/1.1 200 OK\r\n" + line + b"\r\n\r\n")

    async with Server(script) as server, checked_client() as client:
        for target in ("/space", "/colon"):
            with pytest.raises(aiosock.RemoteProtocolError) as caught:
                await client.get(server.url + target)
            assert "SECRET" not in str(caught.value)
        with pytest.raises(aiosock.InvalidHeader) as refused:
            await client.get(server.url, headers={"Authorization: Bearer SECRET": "x"})
        assert "SECRET" not in str(refused.value)


async def test_a_timeout_among_the_extensions_is_a_timeout_like_any() -> None:
    async def silent(peer: Peer) -> None:
        await peer.wait_disconnect()

    async with Server(silent) as server, checked_client() as client:
        with pytest.raises(aiosock.TotalTimeout):
            await client.send(aiosock.Request("GET", server.url, extensions={"timeout": 0.05}))
        with pytest.raises(aiosock.UsageError):
            await client.send(aiosock.Request("GET", server.url, extensions={"timeout": "soon"}))


async def test_a_transport_that_was_given_is_closed_although_it_was_never_used() -> None:
    class Canned:
        closed = False

        async def send(self, request: aiosock.Request) -> aiosock.Response:
            raise AssertionError

        async def close(self) -> None:
            self.closed = True

    transport = Canned()
    await aiosock.Client(transport=transport).close()
    assert transport.closed


async def test_a_path_that_no_socket_can_have_is_a_connect_error() -> None:
    async with checked_client(uds="a\0b", limits=Limits()) as client:
        with pytest.raises(aiosock.ConnectError):
            await client.get("http://service.example/")


async def test_of_requests_that_end_in_any_way_none_stays_under_way() -> None:
    async def script(peer: Peer) -> None:
        while (request := await peer.read_request()) is not None:
            if request.target == "/cut":
                return
            if request.target == "/silent":
                await peer.wait_disconnect()
                return
            await peer.send(response(302, headers=[("Location", "/")]) if request.target == "/moved" else OK)

    async with Server(script) as server, checked_client() as client:
        outbox = transport_of(client).pool._dial.__self__._outbox  # type: ignore[attr-defined]  # the dialer's
        paths = ["/", "/moved", "/cut", "/silent"] * 4
        tasks = [asyncio.ensure_future(client.get(server.url + path)) for path in paths]
        # Those that were moved come twice.
        while len(server.requests) < 20:
            await asyncio.sleep(0)
        assert outbox.under_way >= 4
        for task, path in zip(tasks, paths, strict=True):
            if path == "/silent":
                task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        kinds = [type(result) for result in results]
        cut, cancelled = aiosock.ServerDisconnected, asyncio.CancelledError
        assert kinds == [aiosock.Response, aiosock.Response, cut, cancelled] * 4
        assert outbox.under_way == 0
        await settled(client)


async def test_a_response_that_is_closed_twice_is_drained_once() -> None:
    async def script(peer: Peer) -> None:
        while await peer.read_request():
            await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nabc")
            await gate.wait()
            await peer.send(b"def")

    gate = asyncio.Event()
    async with Server(script) as server, checked_client() as client:
        async with client.stream("GET", server.url) as answer:
            await answer.close()
            await answer.close()
        gate.set()
        await settled(client)
        assert (client.pool.idle, client.pool.opened) == (1, 1)
        assert (await client.get(server.url)).content == b"abcdef"
        assert client.pool.reused == 1
