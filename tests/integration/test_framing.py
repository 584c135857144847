"""Where a body ends, and what it still carries then, as a client meets it."""

from __future__ import annotations

import gzip
import zlib

import pytest

import aiosock
from aiosock.testing import Peer, Server
from tests.kit.clients import checked_client, settled

PLAIN = b"hello" * 50
PACKED = gzip.compress(PLAIN, mtime=0)


@pytest.mark.parametrize(
    ("fields", "body"),
    [
        ("Transfer-Encoding: gzip", PACKED),
        ("Transfer-Encoding: gzip\r\nContent-Length: 3", PACKED),
        ("Transfer-Encoding: deflate, x-gzip", gzip.compress(zlib.compress(PLAIN))),
        ("Transfer-Encoding: gzip\r\nContent-Encoding: deflate", gzip.compress(zlib.compress(PLAIN))),
        ("Transfer-Encoding: gzip, chunked", b"%x\r\n%b\r\n0\r\n\r\n" % (len(PACKED), PACKED)),
    ],
    ids=["gzip", "beside a length", "two", "of both kinds", "chunked last"],
)
async def test_transfer_codings_are_undone_and_end_with_the_connection_unless_chunked_is_last(
    fields: str, body: bytes
) -> None:
    async def script(peer: Peer) -> None:
        while await peer.read_request() is not None:
            await peer.send(f"HTTP/1.1 200 OK\r\n{fields}\r\n\r\n".encode() + body)
            if not fields.endswith("chunked"):
                return

    async with Server(script) as server, checked_client() as client:
        assert (await client.get(server.url)).content == PLAIN
        async with client.stream("GET", server.url) as answer:
            assert b"".join([piece async for piece in answer.iter_bytes()]) == PLAIN
        assert server.connections == (1 if fields.endswith("chunked") else 2)


async def test_a_body_that_is_chunked_under_another_coding_is_refused() -> None:
    answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, gzip\r\n\r\n" + PACKED
    async with Server.answering(answer) as server, checked_client() as client:
        with pytest.raises(aiosock.RemoteProtocolError, match="'chunked, gzip' cannot be undone"):
            await client.get(server.url)
        await settled(client)
