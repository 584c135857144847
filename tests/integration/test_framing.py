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


def chunked(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n0\r\nSeen: inside\r\n\r\n" % (len(data), data)


CHUNKED = chunked(PLAIN)


@pytest.mark.parametrize(
    ("fields", "body"),
    [
        ("Transfer-Encoding: gzip", PACKED),
        ("Transfer-Encoding: gzip\r\nContent-Length: 3", PACKED),
        ("Transfer-Encoding: deflate, x-gzip", gzip.compress(zlib.compress(PLAIN))),
        ("Transfer-Encoding: gzip\r\nContent-Encoding: deflate", gzip.compress(zlib.compress(PLAIN))),
        ("Transfer-Encoding: chunked, gzip", gzip.compress(CHUNKED)),
        (
            "Transfer-Encoding: deflate, chunked, gzip\r\nContent-Length: 3",
            gzip.compress(chunked(zlib.compress(PLAIN))),
        ),
        ("Transfer-Encoding: chunked, gzip\r\nContent-Encoding: deflate", gzip.compress(chunked(zlib.compress(PLAIN)))),
        ("Transfer-Encoding: gzip, chunked", chunked(PACKED)),
        ("Content-Encoding: chunked\r\nTransfer-Encoding: chunked", CHUNKED),
    ],
    ids=[
        "gzip",
        "beside a length",
        "two",
        "of both kinds",
        "chunked first",
        "chunked between",
        "chunked first, of both kinds",
        "chunked last",
        "chunked, which is no content coding",
    ],
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


@pytest.mark.parametrize(
    ("inside", "words"),
    [
        (CHUNKED[:-2], "the end of its trailers"),
        (CHUNKED[:-5], "its last chunk"),
        (CHUNKED[:20], "its last chunk"),
        (b"", "its last chunk"),
        (None, "its last chunk"),
        (CHUNKED + b"0", "goes on after its last chunk"),
        (b"5\nhello\r\n0\r\n\r\n", "not chunked: a chunk-size line"),
        (PLAIN + b"\r\n", "not chunked: a chunk size"),
    ],
)
async def test_chunks_under_another_coding_must_be_sound_and_whole(inside: bytes | None, words: str) -> None:
    async def script(peer: Peer) -> None:
        await peer.read_request()
        body = b"" if inside is None else gzip.compress(inside)
        await peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, gzip\r\n\r\n" + body)

    async with Server(script) as server, checked_client() as client:
        with pytest.raises(aiosock.DecodingError, match=words):
            await client.get(server.url)
        await settled(client)
