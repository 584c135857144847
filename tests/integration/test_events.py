"""Event streams over real connections: each event at once, lost connections followed by others, none left behind."""

from __future__ import annotations

import asyncio
import gzip
import zlib
from collections.abc import Awaitable, Callable
from ssl import SSLContext

import brotli
import pytest
from backports import zstd

import aiosock
from aiosock import Timeout
from aiosock.testing import Peer, Server, response
from tests.kit.clients import check, checked_client, settled

SHORT = 0.05
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n"
STREAM = HEAD + b"\r\n"
END = b"0\r\n\r\n"
NO_CONTENT = response(204)


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def connections(*scripts: Callable[[Peer], Awaitable[None]], ssl: SSLContext | None = None) -> Server:
    """A server that plays one script to each connection; all after these get 204."""

    async def script(peer: Peer) -> None:
        await peer.read_request()
        if peer.number < len(scripts):
            await scripts[peer.number](peer)
        else:
            await peer.send(NO_CONTENT)

    return Server(script, ssl=ssl)


def ids(server: Server) -> list[str | None]:
    return [request.header("Last-Event-ID") for request in server.requests]


class Flate:
    """Compresses so that what was given can be read at once."""

    def __init__(self, window_bits: int) -> None:
        self._compressor = zlib.compressobj(wbits=window_bits)

    def __call__(self, data: bytes) -> bytes:
        return self._compressor.compress(data) + self._compressor.flush(zlib.Z_SYNC_FLUSH)


class Brotli:
    """The same in Brotli."""

    def __init__(self) -> None:
        self._compressor = brotli.Compressor()

    def __call__(self, data: bytes) -> bytes:
        return bytes(self._compressor.process(data) + self._compressor.flush())


class Zstandard:
    """The same in Zstandard."""

    def __init__(self) -> None:
        self._compressor = zstd.ZstdCompressor()

    def __call__(self, data: bytes) -> bytes:
        return self._compressor.compress(data, zstd.ZstdCompressor.FLUSH_BLOCK)


CODINGS: dict[str, Callable[[], Callable[[bytes], bytes]]] = {
    "identity": lambda: bytes,
    "gzip": lambda: Flate(31),
    "deflate": lambda: Flate(15),
    "br": Brotli,
    "zstd": Zstandard,
}


@pytest.mark.parametrize("coding", CODINGS)
async def test_each_event_is_seen_before_the_next_is_sent(coding: str) -> None:
    seen = [asyncio.Event() for _ in range(5)]

    async def script(peer: Peer) -> None:
        compress = CODINGS[coding]()
        await peer.send(HEAD + f"Content-Encoding: {coding}\r\n\r\n".encode())
        for number, event in enumerate(seen):
            await peer.send(chunk(compress(b"data: %d\r\r" % number)))
            # Without the event on the other side this waits for ever, and the client's read times out.
            await event.wait()
        await peer.send(END)

    async with connections(script) as server, checked_client() as client:
        async with client.stream("GET", server.url, timeout=Timeout(read=5)) as answer:
            events = answer.iter_events()
            for number, event in enumerate(seen):
                assert (await anext(events)).data == str(number)
                event.set()
            if coding == "identity":
                # The others were flushed, and not finished.
                assert await anext(events, None) is None
        await settled(client)


@pytest.mark.parametrize("secure", [False, True], ids=["clear", "tls"])
async def test_no_middleware_holds_an_event_back(secure: bool, server_context: SSLContext, ca_file: str) -> None:
    seen = [asyncio.Event() for _ in range(3)]

    async def script(peer: Peer) -> None:
        await peer.send(STREAM)
        for number, event in enumerate(seen):
            await peer.send(chunk(b"id: %d\ndata: %d\r\n\r" % (number, number)))
            # Without the event on the other side this waits for ever, and the client's read times out.
            await event.wait()
        await peer.send(END)

    middleware = [
        aiosock.HSTS(),
        aiosock.Cache(),
        aiosock.Coalesce(),
        aiosock.RateLimit(concurrency=1),
        aiosock.CircuitBreaker(),
    ]
    async with (
        connections(script, ssl=server_context if secure else None) as server,
        checked_client(
            middleware=middleware,
            guard=aiosock.Guard(allow_private=True),
            retry=2,
            verify=ca_file,
            timeout=Timeout(read=5),
        ) as client,
    ):
        async with client.events(server.url, reconnect=False) as stream:
            async for event in stream:
                seen[int(event.data)].set()
        assert all(event.is_set() for event in seen)
        await settled(client)


async def test_a_whole_gzip_answer_has_its_events() -> None:
    body = gzip.compress(b"data: 1\n\ndata: 2\n\n")
    fields = [("Content-Encoding", "gzip"), ("Content-Type", "text/event-stream")]
    async with Server.answering(response(200, body, fields)) as server, checked_client() as client:
        async with client.events(server.url, reconnect=False) as stream:
            assert [event.data async for event in stream] == ["1", "2"]
        check(client)


@pytest.mark.parametrize("lose", ["end", "cut", "reset"])
async def test_a_lost_connection_is_followed_by_one_that_names_the_last_event(lose: str) -> None:
    async def first(peer: Peer) -> None:
        await peer.send(STREAM + chunk(b"retry: 0\nid: 1\ndata: one\n\nid: 2\nda"))
        # A reset throws away what the client has not read yet.
        await taken.wait()
        if lose == "end":
            await peer.send(chunk(b"ta: two\n") + END)
        elif lose == "reset":
            peer.reset()
        else:
            peer.cut()

    async def second(peer: Peer) -> None:
        await peer.send(STREAM + chunk(b"id: 2\ndata: two\n\n") + END)

    taken = asyncio.Event()
    async with connections(first, second) as server, checked_client() as client:
        async with client.events(f"{server.url}/x?y=z") as stream:
            data = []
            async for event in stream:
                data.append((event.id, event.data))
                taken.set()
            assert stream.response.status_code == 204
        assert data == [("1", "one"), ("2", "two")]
        assert ids(server) == [None, "1", "2"]
        assert {request.target for request in server.requests} == {"/x?y=z"}
        await settled(client)


async def test_a_silent_connection_is_lost_and_the_client_says_how_long_it_may_be_silent() -> None:
    async def first(peer: Peer) -> None:
        await peer.send(STREAM + chunk(b"retry: 0\nid: 1\ndata: one\n\n"))
        await peer.wait_disconnect()

    async with connections(first) as server, checked_client() as client:
        async with client.events(server.url, timeout=Timeout(read=SHORT), attempts=1) as stream:
            assert [event.data async for event in stream] == ["one"]
        assert ids(server) == [None, "1"]
        await settled(client)


async def test_a_server_that_went_away_is_an_error_after_so_many_attempts() -> None:
    async def first(peer: Peer) -> None:
        await peer.send(STREAM + chunk(b"retry: 0\ndata: one\n\n") + END)

    async with checked_client() as client:
        async with connections(first) as server:
            stream = client.events(server.url, attempts=1)
            await stream.__aenter__()
            assert (await anext(stream)).data == "one"
        with pytest.raises(aiosock.ConnectError):
            await anext(stream)
        await stream.close()
        await settled(client)


async def test_a_finished_answer_leaves_its_connection_to_the_next_request() -> None:
    async def script(peer: Peer) -> None:
        while await peer.read_request():
            await peer.send(STREAM + chunk(b"data: a\n\n") + chunk(b"data: [DONE]\n\n") + END)

    async with Server(script) as server, checked_client() as client:
        for _ in range(3):
            async with client.events(server.url, method="POST", json={"stream": True}) as stream:
                async for event in stream:
                    if event.data == "[DONE]":
                        break
            await settled(client)
        assert server.connections == 1
        assert [request.body for request in server.requests] == [b'{"stream":true}'] * 3
        assert server.requests[0].header("Accept") == "text/event-stream"


@pytest.mark.parametrize("turns", range(0, 40, 3))
async def test_cancellation_at_any_point_leaves_no_connection(turns: int) -> None:
    async def script(peer: Peer) -> None:
        await peer.read_request()
        await peer.send_pieces(STREAM, chunk(b"retry: 0\ndata: 1\n\n"), chunk(b"data: 2\n\n"))
        if peer.number:
            await peer.wait_disconnect()

    async def read() -> None:
        async with client.events(server.url) as stream:
            async for _ in stream:
                pass

    async with Server(script) as server, checked_client() as client:
        reading = asyncio.ensure_future(read())
        for _ in range(turns):
            await asyncio.sleep(0)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        # What is idle now was dialled for the stream, and came too late for it.
        await settled(client)


async def test_closing_from_another_task_ends_a_wait_for_an_event() -> None:
    async def script(peer: Peer) -> None:
        await peer.send(STREAM)
        await peer.wait_disconnect()

    async with connections(script) as server, checked_client() as client:
        async with client.events(server.url) as stream:
            waiting = asyncio.ensure_future(anext(stream, None))
            for _ in range(5):
                await asyncio.sleep(0)
            await stream.close()
            assert await waiting is None
        await settled(client)


async def test_the_reason_of_a_refusal_is_told() -> None:
    refusal = response(404, b'{"error": "no such model"}', [("Content-Type", "application/json")])
    async with Server.answering(refusal) as server, checked_client() as client:
        with pytest.raises(aiosock.HTTPStatusError, match="no such model") as caught:
            async with client.events(server.url, method="POST", json={}):
                raise AssertionError
        assert caught.value.response.json() == {"error": "no such model"}
        check(client)


async def test_redirects_are_followed_each_time() -> None:
    async def script(peer: Peer) -> None:
        while request := await peer.read_request():
            if request.target == "/":
                await peer.send(response(307, headers=[("Location", "/events")]))
            elif request.header("Last-Event-ID") is None:
                await peer.send(STREAM + chunk(b"retry: 0\nid: 1\ndata: 1\n\n") + END)
            else:
                await peer.send(NO_CONTENT)

    async with Server(script) as server, checked_client() as client:
        async with client.events(server.url) as stream:
            assert [event.data async for event in stream] == ["1"]
        assert [request.target for request in server.requests] == ["/", "/events", "/", "/events"]
        check(client)
