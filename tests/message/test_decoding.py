"""Content codings are undone in bounded pieces, however the input is cut; what is cut short fails."""

from __future__ import annotations

import gzip
import importlib
import itertools
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import brotli
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from aiosock.errors import DecodingError
from aiosock.message import decoding
from aiosock.message.decoding import MAX_CODINGS, PIECE_BYTES, Pipeline, accepted_codings
from aiosock.protocol.http1.events import CHUNKED_WITHIN

# Of the standard library, or what stands in for it before Python 3.14.
zstd = decoding._zstd_module()


def raw_deflate(data: bytes) -> bytes:
    compressor = zlib.compressobj(wbits=-15)
    return compressor.compress(data) + compressor.flush()


def gzipped(data: bytes) -> bytes:
    return gzip.compress(data, mtime=0)


ENCODERS: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "gzip": ("gzip", gzipped),
    "x-gzip": ("x-gzip", gzipped),
    "deflate, zlib": ("deflate", zlib.compress),
    "deflate, raw": ("deflate", raw_deflate),
    "br": ("br", lambda data: brotli.compress(data, quality=5)),
    "zstd": ("zstd", zstd.compress),
}
every_coding = pytest.mark.parametrize(("coding", "encode"), ENCODERS.values(), ids=ENCODERS.keys())


def decode(codings: list[str], *chunks: bytes) -> bytes:
    pipeline = Pipeline(codings)
    out = b"".join(piece for chunk in chunks for piece in pipeline.decode(chunk))
    pipeline.finish()
    return out


def outcome(codings: list[str], *chunks: bytes) -> bytes | None:
    """What the chunks decode to, None where they cannot be decoded."""
    try:
        return decode(codings, *chunks)
    except DecodingError:
        return None


def cut(data: bytes, sizes: list[int]) -> Iterator[bytes]:
    start = 0
    for size in itertools.cycle(sizes):
        if start >= len(data):
            return
        yield data[start : start + size]
        start += size


# Whole, in any pieces


@every_coding
def test_what_was_encoded_is_decoded(coding: str, encode: Callable[[bytes], bytes]) -> None:
    for data in (b"", b"a", b"hello" * 100_000, bytes(range(256)) * 1000):
        encoded = encode(data)
        assert decode([coding], encoded) == data
        assert decode([coding], *cut(encoded, [1000])) == data


@every_coding
def test_a_body_without_a_byte_is_whole(coding: str, encode: Callable[[bytes], bytes]) -> None:
    assert decode([coding]) == b""
    assert decode([coding, "gzip", coding]) == b""


@every_coding
@given(
    data=st.binary(max_size=300) | st.integers(0, 300_000).map(bytes), sizes=st.lists(st.integers(1, 50), min_size=1)
)
def test_however_it_is_cut_it_decodes_to_the_same(
    coding: str, encode: Callable[[bytes], bytes], data: bytes, sizes: list[int]
) -> None:
    assert decode([coding], *cut(encode(data), sizes)) == data


@every_coding
def test_what_a_full_piece_leaves_is_not_held_back(coding: str, encode: Callable[[bytes], bytes]) -> None:
    # The input may be used up when a piece is full, its rest being in the decoder.
    for size in range(PIECE_BYTES - 10, PIECE_BYTES + 600):
        assert len(decode([coding], encode(bytes(size)))) == size


MEMBER = gzipped(b"ab")


@given(
    parts=st.lists(
        st.sampled_from(
            [MEMBER, gzipped(b""), b"\0", b"\0\0\0", b"\x1f", b"\x8b", b"\x1f\x8b", MEMBER[:10], b"x", b""]
        ),
        max_size=6,
    ),
    sizes=st.lists(st.integers(1, 30), min_size=1),
)
@example([MEMBER, b"\0", MEMBER], [len(MEMBER) + 1, 100])
@example([MEMBER, b"\x1f", b"x"], [1])
@example([MEMBER, b"\x1f"], [1])
def test_what_follows_a_gzip_member_is_judged_the_same_however_it_is_cut(parts: list[bytes], sizes: list[int]) -> None:
    data = MEMBER + b"".join(parts)
    assert outcome(["gzip"], *cut(data, sizes)) == outcome(["gzip"], data)


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd"])
@given(data=st.binary(max_size=30), junk=st.binary(max_size=10), sizes=st.lists(st.integers(1, 20), min_size=1))
def test_junk_is_judged_the_same_however_it_is_cut(coding: str, data: bytes, junk: bytes, sizes: list[int]) -> None:
    for body in (junk, ENCODERS.get(coding, ENCODERS["deflate, zlib"])[1](data) + junk):
        assert outcome([coding], *cut(body, sizes)) == outcome([coding], body)


# Members and frames, and what may follow them


def test_several_gzip_members_are_one_body() -> None:
    assert decode(["gzip"], gzipped(b"a") + gzipped(b"") + gzipped(b"b")) == b"ab"
    assert decode(["gzip"], gzipped(b"a"), gzipped(b"b")) == b"ab"
    assert decode(["gzip"], b"".join(gzipped(b"%d" % number) for number in range(2000))) == b"".join(
        b"%d" % number for number in range(2000)
    )


@pytest.mark.parametrize("padding", [b"\0", b"\0" * 100_000, b"junk", b"\x1fjunk", b"\0" + MEMBER])
def test_padding_after_the_last_gzip_member_is_left_out(padding: bytes) -> None:
    assert decode(["gzip"], MEMBER + padding) == b"ab"
    assert decode(["gzip"], MEMBER, padding, padding) == b"ab"


def test_padding_after_deflate_is_left_out() -> None:
    assert decode(["deflate"], zlib.compress(b"ab") + b"junk", b"more") == b"ab"
    assert decode(["deflate"], zlib.compress(b"ab") + zlib.compress(b"cd")) == b"ab"


def test_several_zstd_frames_are_one_body() -> None:
    skippable = b"\x50\x2a\x4d\x18\x03\0\0\0abc"
    data = zstd.compress(b"a") + skippable + zstd.compress(b"") + zstd.compress(b"b")
    assert decode(["zstd"], data) == b"ab"
    assert decode(["zstd"], *cut(data, [1])) == b"ab"


@pytest.mark.parametrize(("coding", "encode"), [ENCODERS["br"], ENCODERS["zstd"]])
def test_nothing_may_follow_brotli_or_zstd(coding: str, encode: Callable[[bytes], bytes]) -> None:
    with pytest.raises(DecodingError):
        decode([coding], encode(b"ab") + b"junk")
    with pytest.raises(DecodingError):
        decode([coding], encode(b"ab"), b"junk")


# What is cut short, or something else


@every_coding
def test_data_cut_short_anywhere_fail(coding: str, encode: Callable[[bytes], bytes]) -> None:
    encoded = encode(b"hello, hello, hello")
    for end in range(1, len(encoded)):
        with pytest.raises(
            DecodingError, match=f"the body was cut: its {coding.removeprefix('x-')} data is not complete"
        ):
            decode([coding], encoded[:end])


@pytest.mark.parametrize("rest", [b"\x1f", b"\x1f\x8b", MEMBER[:-1]])
def test_a_second_gzip_member_cut_short_fails(rest: bytes) -> None:
    with pytest.raises(DecodingError, match="was cut"):
        decode(["gzip"], MEMBER + rest)


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd"])
def test_garbage_fails(coding: str) -> None:
    with pytest.raises(DecodingError, match=rf"the body is not {coding}: \w+"):
        decode([coding], b"<html>This is no compressed data at all.</html>")


def test_a_wrong_checksum_fails() -> None:
    with pytest.raises(DecodingError, match="the body is not gzip: incorrect data check"):
        decode(["gzip"], MEMBER[:-8] + bytes(4) + MEMBER[-4:])


def test_a_zstd_window_that_is_too_large_fails() -> None:
    parameters = {zstd.CompressionParameter.window_log: 24, zstd.CompressionParameter.content_size_flag: 0}
    compressor = zstd.ZstdCompressor(options=parameters)
    with pytest.raises(DecodingError, match="not zstd"):
        decode(["zstd"], compressor.compress(b"a") + compressor.flush())


# Several codings


@given(
    names=st.lists(st.sampled_from(sorted(ENCODERS)), max_size=MAX_CODINGS),
    data=st.binary(max_size=100),
    sizes=st.lists(st.integers(1, 50), min_size=1),
)
def test_codings_in_a_row_are_undone_last_first(names: list[str], data: bytes, sizes: list[int]) -> None:
    encoded = data
    for name in names:
        encoded = ENCODERS[name][1](encoded)
    assert decode([ENCODERS[name][0] for name in names], *cut(encoded, sizes)) == data


@given(data=st.binary(min_size=1, max_size=100), sizes=st.lists(st.integers(1, 50), min_size=1))
def test_chunks_under_another_coding_are_read_however_they_are_cut(data: bytes, sizes: list[int]) -> None:
    chunks = [b"%x\r\n%b\r\n" % (len(piece), piece) for piece in cut(data, sizes)]
    encoded = gzipped(b"".join([*chunks, b"0\r\nA: b\r\n\r\n"]))
    assert decode([CHUNKED_WITHIN, "gzip"], *cut(encoded, sizes)) == data
    assert outcome([CHUNKED_WITHIN, "gzip"], *cut(encoded[:-1], sizes)) is None


def test_what_is_called_chunked_in_content_encoding_is_no_coding() -> None:
    assert not Pipeline(["chunked"])


def test_too_many_codings_are_refused() -> None:
    with pytest.raises(DecodingError, match="6 codings; the limit is 5"):
        Pipeline(["gzip"] * 6)


def test_identity_changes_nothing_and_an_unknown_coding_hands_the_body_on() -> None:
    assert not Pipeline([])
    assert not Pipeline(["identity"])
    assert Pipeline(["identity", "gzip"])
    assert decode(["identity", "gzip", "identity"], MEMBER) == b"ab"
    for codings in (["compress"], ["gzip", "compress"], ["compress", "gzip"]):
        assert not Pipeline(codings)
        assert decode(codings, MEMBER) == MEMBER


# Bombs


@every_coding
def test_a_bomb_comes_in_bounded_pieces_and_little_memory(coding: str, encode: Callable[[bytes], bytes]) -> None:
    size = 30_000_000
    bomb = encode(bytes(size))
    assert len(bomb) < size / 900
    tracemalloc.start()
    try:
        pieces = Pipeline([coding]).decode(bomb)
        total = 0
        for piece in pieces:
            assert len(piece) <= PIECE_BYTES
            total += len(piece)
        assert total == size
        assert tracemalloc.get_traced_memory()[1] < 10 * PIECE_BYTES
    finally:
        tracemalloc.stop()


def test_a_bomb_in_a_bomb_comes_lazily() -> None:
    inner = gzipped(bytes(20_000_000)) * 50
    bomb = gzipped(inner)
    assert len(bomb) < 20_000
    tracemalloc.start()
    try:
        pieces = Pipeline(["gzip", "gzip"]).decode(bomb)
        some = [next(pieces) for _ in range(100)]
        assert sum(map(len, some)) >= 90 * PIECE_BYTES
        assert max(map(len, some)) <= PIECE_BYTES
        assert tracemalloc.get_traced_memory()[1] < 200 * PIECE_BYTES
    finally:
        tracemalloc.stop()


def test_nothing_is_decoded_before_it_is_asked_for() -> None:
    pieces = Pipeline(["gzip"]).decode(b"garbage")
    with pytest.raises(DecodingError):
        next(pieces)


@pytest.mark.parametrize(
    "inner",
    [
        MEMBER + bytes(50_000_000),
        gzipped(b"") * 1_000_000,
        MEMBER[:10] + b"\0\0\0\xff\xff" * 5_000_000,
    ],
    ids=["padding", "empty members", "empty blocks"],
)
def test_who_asks_gets_to_breathe_while_a_coding_swallows_what_another_gave(inner: bytes) -> None:
    bomb = gzip.compress(inner, 6, mtime=0)
    assert len(bomb) < len(inner) / 200
    pieces = Pipeline(["gzip", "gzip"]).decode(bomb)
    swallowed = len(inner) // decoding.SLICE_BYTES
    # Each of these steps has decoded a bounded amount; all of it in one step would hold up the loop.
    steps = sum(1 for _ in itertools.islice(pieces, swallowed))
    assert steps == swallowed


# Libraries that are missing


@pytest.fixture
def missing(monkeypatch: pytest.MonkeyPatch) -> Iterator[set[str]]:
    """The modules named in this set cannot be imported."""
    names: set[str] = set()
    original = importlib.import_module

    def import_module(name: str, package: str | None = None) -> Any:
        if name in names:
            raise ModuleNotFoundError(f"No module named {name!r}")
        return original(name, package)

    monkeypatch.setattr(importlib, "import_module", import_module)
    _forget()
    yield names
    monkeypatch.undo()
    _forget()


def _forget() -> None:
    decoding._zstd_module.cache_clear()
    accepted_codings.cache_clear()


@pytest.mark.parametrize(
    ("modules", "accepted"),
    [
        ([], "gzip, deflate, br, zstd"),
        (["brotli"], "gzip, deflate, zstd"),
        (["compression.zstd", "backports.zstd"], "gzip, deflate, br"),
        (["brotli", "compression.zstd", "backports.zstd"], "gzip, deflate"),
    ],
)
def test_just_what_can_be_decoded_is_accepted(missing: set[str], modules: list[str], accepted: str) -> None:
    missing.update(modules)
    assert accepted_codings() == accepted
    for coding in accepted.split(", "):
        assert Pipeline([coding])


@pytest.mark.parametrize(
    ("coding", "extra", "modules"),
    [("br", "brotli", ["brotli"]), ("zstd", "zstd", ["compression.zstd", "backports.zstd"])],
)
def test_a_missing_library_is_named(missing: set[str], coding: str, extra: str, modules: list[str]) -> None:
    missing.update(modules)
    with pytest.raises(DecodingError, match=rf"coded with {coding}; install aiosock-http\[{extra}\] to decode it"):
        Pipeline([coding])


def test_zstd_of_the_standard_library_comes_first(missing: set[str], monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def import_module(name: str) -> Any:
        asked.append(name)
        return zstd

    monkeypatch.setattr(importlib, "import_module", import_module)
    assert decode(["zstd"], zstd.compress(b"a")) == b"a"
    assert asked == ["compression.zstd"]


def test_a_brotli_that_cannot_limit_its_output_counts_as_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(brotli, "Decompressor", object)
    _forget()
    try:
        assert accepted_codings() == "gzip, deflate, zstd"
        with pytest.raises(DecodingError, match=r"aiosock-http\[brotli\]"):
            Pipeline(["br"])
    finally:
        monkeypatch.undo()
        _forget()
