"""An answer that comes in one piece takes a short road; nobody who reads it can tell, but for the time."""

from __future__ import annotations

import asyncio
import gzip
import pickle
from collections.abc import Callable
from typing import Any

import pytest

import aiosock
from aiosock import Client, Limits, Response
from aiosock.testing import Peer, Server, response
from tests.kit.clients import check, checked_client, settled

BODY = b"hello"
ZIPPED = gzip.compress(b"x" * 1000, mtime=0)
CODED = [("Content-Encoding", "gzip")]


def chunked(body: bytes, *fields: tuple[str, str]) -> bytes:
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields).encode()
    return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n%b\r\n%x\r\n%b\r\n0\r\n\r\n" % (lines, len(body), body)


def sized(body: bytes, *fields: tuple[str, str]) -> bytes:
    return response(body=body, headers=fields)


def late(peer: Peer, answer: bytes) -> tuple[bytes, ...]:
    head, end, body = answer.partition(b"\r\n\r\n")
    return (head + end, body)


# How an answer comes: made by the one, sent in the pieces of the other.
WAYS: dict[str, tuple[Callable[..., bytes], Callable[[Peer, bytes], tuple[bytes, ...]]]] = {
    "whole": (sized, lambda peer, answer: (answer,)),
    "after its head": (sized, late),
    "chunked": (chunked, lambda peer, answer: (answer,)),
}


@pytest.fixture(params=WAYS)
def serve(request: pytest.FixtureRequest) -> Callable[..., Server]:
    """Return a server whose answers, of this body, come in this way."""
    make, cut = WAYS[request.param]

    def build(body: bytes = BODY, *fields: tuple[str, str]) -> Server:
        async def script(peer: Peer) -> None:
            while await peer.read_request():
                await peer.send_pieces(*cut(peer, make(body, *fields)))

        return Server(script)

    return build


Serve = Callable[..., Server]


async def outcome(awaitable: Any) -> Any:
    try:
        return await awaitable
    except Exception as error:
        return type(error)


async def pieces(iterator: Any) -> bytes:
    return b"".join([piece async for piece in iterator])


async def test_a_body_may_be_read_as_often_as_one_likes(serve: Serve) -> None:
    async with serve() as server, checked_client() as client:
        async with client.stream("GET", server.url) as answer:
            with pytest.raises(aiosock.ResponseNotRead):
                _ = answer.content
            assert await answer.read() == BODY
            assert client.pool.idle == 1
            assert await answer.read() == answer.content == BODY
            assert await pieces(answer.iter_bytes()) == await pieces(answer.iter_raw()) == BODY
            assert await pieces(answer.iter_bytes(2)) == BODY
            assert answer.timings.total is not None
        assert await answer.read() == BODY
        answer.abort()
        assert client.pool.idle == 1
        assert (await client.get(server.url)).content == BODY
        assert server.connections == 1


@pytest.mark.parametrize("first", ["iter_bytes", "iter_raw"])
async def test_a_body_that_was_iterated_is_consumed(serve: Serve, first: str) -> None:
    async with serve() as server, checked_client() as client:
        async with client.stream("GET", server.url) as answer:
            assert await pieces(getattr(answer, first)()) == BODY
            for again in (answer.read(), pieces(answer.iter_bytes()), pieces(answer.iter_raw())):
                assert await outcome(again) is aiosock.StreamConsumed
        assert (client.pool.idle, server.connections) == (1, 1)


async def test_a_body_that_is_being_iterated_is_not_taken_whole(serve: Serve) -> None:
    async with serve() as server, checked_client() as client:
        async with client.stream("GET", server.url) as answer:
            iterator = answer.iter_bytes(2)
            assert await anext(iterator) == b"he"
            assert not answer.read_ready()
            assert await outcome(answer.read()) is aiosock.StreamConsumed
            assert await anext(iterator) == b"ll"
        await settled(client)
        assert await outcome(answer.read()) is aiosock.StreamConsumed


@pytest.mark.parametrize("end", ["close", "abort"])
async def test_a_body_that_was_given_up_is_consumed(serve: Serve, end: str) -> None:
    async with serve() as server, checked_client() as client:
        answer = await client.send(client.build_request("GET", server.url), stream=True)
        await answer.close() if end == "close" else answer.abort()
        assert not answer.read_ready()
        for later in (answer.read(), pieces(answer.iter_bytes()), pieces(answer.iter_raw())):
            assert await outcome(later) is aiosock.StreamConsumed
        with pytest.raises(aiosock.ResponseNotRead):
            _ = answer.content
        while client.pool.active:
            await asyncio.sleep(0)
        assert client.pool.idle == (end == "close")
        await answer.close()
        assert client.pool.idle == (end == "close")


async def test_the_limit_on_bodies_holds(serve: Serve) -> None:
    async with serve() as server:
        async with checked_client(limits=Limits(max_content_bytes=len(BODY))) as client:
            assert (await client.get(server.url)).content == BODY
        async with checked_client(limits=Limits(max_content_bytes=len(BODY) - 1)) as client:
            with pytest.raises(aiosock.ContentTooLarge, match="larger than 4 bytes") as info:
                await client.get(server.url)
            assert info.value.request is not None
            async with client.stream("GET", server.url) as answer:
                assert await outcome(answer.read()) is aiosock.ContentTooLarge
                assert await outcome(answer.read()) is aiosock.StreamConsumed
                assert not answer.read_ready()
            # Who iterates decides for himself.
            async with client.stream("GET", server.url) as answer:
                assert await pieces(answer.iter_bytes()) == BODY
            await settled(client)


async def test_a_coded_body_is_decoded_and_held_to_the_limit_as_what_it_becomes(serve: Serve) -> None:
    async with serve(ZIPPED, *CODED) as server:
        async with checked_client(limits=Limits(max_content_bytes=1000)) as client:
            assert (await client.get(server.url)).content == b"x" * 1000
            async with client.stream("GET", server.url) as answer:
                assert await pieces(answer.iter_raw()) == ZIPPED
            async with client.stream("GET", server.url) as answer:
                assert await answer.read() == b"x" * 1000
                with pytest.raises(aiosock.StreamConsumed, match="was decoded when it was read"):
                    answer.iter_raw()
            assert server.connections == 1
        async with checked_client(limits=Limits(max_content_bytes=999)) as client:
            with pytest.raises(aiosock.ContentTooLarge):
                await client.get(server.url)


async def test_a_response_is_pickled_with_what_was_read_of_it(serve: Serve) -> None:
    def copied(answer: Response) -> Response:
        return pickle.loads(pickle.dumps(answer))  # type: ignore[no-any-return]  # noqa: S301  # these bytes are ours

    async with serve() as server, checked_client() as client:
        async with client.stream("GET", server.url) as answer:
            before = copied(answer)
            assert await answer.read() == BODY
            after = copied(answer)
        for copy in (before, after):
            assert (copy.status_code, copy.headers, copy.connection) == (200, answer.headers, answer.connection)
        assert await after.read() == after.content == BODY
        assert not before.read_ready()
        assert await outcome(before.read()) is aiosock.StreamConsumed
        with pytest.raises(aiosock.ResponseNotRead):
            _ = before.content


class Broken(Exception):
    pass


async def test_a_block_left_by_an_exception_closes_the_connection_unless_the_body_was_read(serve: Serve) -> None:
    async with serve() as server, checked_client() as client:
        with pytest.raises(Broken):
            async with client.stream("GET", server.url) as answer:
                raise Broken
        assert (client.pool.idle, client.pool.active) == (0, 0)
        assert await outcome(answer.read()) is aiosock.StreamConsumed
        while server.open_connections:
            await asyncio.sleep(0)
        with pytest.raises(Broken):
            async with client.stream("GET", server.url) as answer:
                await answer.read()
                raise Broken
        assert answer.content == BODY
        assert client.pool.idle == 1
        async with client.stream("GET", server.url):
            pass
        while client.pool.active:
            await asyncio.sleep(0)
        assert client.pool.idle == 1
        assert server.connections == 2
        check(client)


async def test_an_error_status_keeps_its_body(serve: Serve) -> None:
    async with serve() as server, Client(raise_for_status=True) as client:
        assert (await client.get(server.url)).content == BODY
    async with Server.answering(response(404, body=BODY)) as server, Client(raise_for_status=True) as client:
        with pytest.raises(aiosock.HTTPStatusError, match="hello") as info:
            await client.get(server.url)
        assert info.value.response.content == BODY


async def test_what_was_taken_whole_and_not_decoded_is_there_for_who_iterates(serve: Serve) -> None:
    twice = gzip.compress(b"one") + gzip.compress(b"two")
    async with serve(twice, ("Content-Encoding", "gzip")) as server, checked_client() as client:
        for read, expected in ((Response.iter_raw, twice), (Response.iter_bytes, b"onetwo")):
            async with client.stream("GET", server.url) as answer:
                assert not answer.read_ready()
                assert await pieces(read(answer)) == expected
        await settled(client)
