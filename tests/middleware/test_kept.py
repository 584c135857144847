"""Bodies that are kept come in pieces, and what was gathered still comes to whoever reads it."""

from __future__ import annotations

import gzip

import pytest

from aiosock.errors import IncompleteBody
from aiosock.message.decoding import PIECE_BYTES
from aiosock.message.iteration import BodyWrapper
from aiosock.message.response import Response
from aiosock.middleware.kept import KeptBody, is_plain, make_gatherable


class Pieces(BodyWrapper):
    """A source of these pieces."""

    def __init__(self, *pieces: bytes | Exception) -> None:
        super().__init__(KeptBody(b""))
        self.pieces = list(pieces)

    async def receive(self) -> bytes:
        piece = self.pieces.pop(0) if self.pieces else b""
        if isinstance(piece, Exception):
            raise piece
        return piece


async def test_a_kept_body_comes_in_pieces_of_a_bounded_size() -> None:
    content = bytes(range(256)) * 1024
    response = Response(200, source=KeptBody(content))
    pieces = [piece async for piece in response.iter_bytes()]
    assert b"".join(pieces) == content
    assert max(map(len, pieces)) <= PIECE_BYTES


async def test_a_kept_body_is_decoded_as_usual() -> None:
    response = Response(200, headers={"Content-Encoding": "gzip"}, source=KeptBody(gzip.compress(b"hello")))
    response.lift_deadline()
    assert await response.read() == b"hello"
    await response.close()
    response.abort()
    assert KeptBody(b"x").take_whole() is None


@pytest.mark.parametrize(("most", "expected"), [(5, b"abcde"), (4, None), (2, None)])
async def test_what_was_gathered_still_comes(most: int, expected: bytes | None) -> None:
    response = Response(200, source=Pieces(b"abc", b"de"))
    assert await make_gatherable(response).gather(most) == expected
    assert await response.read() == b"abcde"


async def test_an_error_comes_to_whoever_gathers() -> None:
    response = Response(200, source=Pieces(b"abc", IncompleteBody("cut")))
    with pytest.raises(IncompleteBody):
        await make_gatherable(response).gather(9)


@pytest.mark.parametrize(
    ("value", "expected"), [("", True), (" Chunked", True), ("gzip", False), ("gzip,chunked", False)]
)
def test_which_transfer_codings_are_gone_when_it_is_read(value: str, expected: bool) -> None:
    assert is_plain(value) == expected
