"""
Content and transfer codings undone, always in bounded pieces, so that neither memory nor the event loop is at the
mercy of what a server compressed (RFC 9110, 8.4; RFC 9112, 7).

What brotli and zstd need is imported when first met.
"""

from __future__ import annotations

import importlib
import zlib
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import Any, Final, Protocol

from aiosock.errors import DecodingError, RemoteProtocolError
from aiosock.protocol.http1.events import CHUNKED_WITHIN, NEED_DATA, BodyData
from aiosock.protocol.http1.parser import Parser

PIECE_BYTES: Final = 64 * 1024
# Fed in slices, so that a body of ten thousand tiny members copies its rest in small amounts.
SLICE_BYTES: Final = 16 * 1024
# Its output grows by doubling blocks, and passes the limit by the last of them.
BROTLI_LIMIT: Final = 16 * 1024
MAX_BYTES_AT_ONCE: Final = 256 * 1024
MAX_CODINGS: Final = 5
# RFC 9659: a window above 8 MiB is not for the web.
ZSTD_MAX_WINDOW_LOG: Final = 23


class _Decoder(Protocol):
    def pieces(self, data: bytes) -> Iterator[bytes]:
        """Yield what the data decodes to, at most PIECE_BYTES at a time."""
        ...

    def finish(self) -> None:
        """Raise `DecodingError` unless the data so far are whole, or empty."""
        ...


class _Zlib:
    """gzip (several members too, RFC 1952) and deflate (zlib's form as it should be, raw as it often is)."""

    def __init__(self, coding: str) -> None:
        self._coding = coding
        self._object: Any = None
        self._start = b""
        self._has_member = False
        self._ended = False

    def pieces(self, data: bytes) -> Iterator[bytes]:
        if self._ended:
            return
        data = self._start + data
        self._start = b""
        held_back = False
        while data or held_back:
            if self._object is None:
                if len(data) < 2 and (not self._has_member or self._begins_member(data)):
                    self._start = data
                    return
                if self._has_member and not self._begins_member(data):
                    self._ended = True  # Padding after the last member is nobody's data.
                    return
                self._object = zlib.decompressobj(self._window_bits(data))
            try:
                piece = self._object.decompress(data, PIECE_BYTES)
            except zlib.error as error:
                raise DecodingError(f"the body is not {self._coding}: {_words(error)}") from error
            # A full piece may be followed by more of it, even when the input is used up.
            held_back = len(piece) == PIECE_BYTES
            if self._object.eof:
                data = self._object.unused_data
                self._object = None
                self._has_member = True
                held_back = False
            else:
                data = self._object.unconsumed_tail
            if piece:
                yield piece

    def _begins_member(self, data: bytes) -> bool:
        return self._coding == "gzip" and b"\x1f\x8b".startswith(data[:2])

    def _window_bits(self, data: bytes) -> int:
        """Return what zlib wants to be told of the format; two bytes tell zlib's header from a raw stream."""
        if self._coding == "gzip":
            return 31
        return 15 if data[0] & 0x0F == 8 and (data[0] << 8 | data[1]) % 31 == 0 else -15

    def finish(self) -> None:
        if self._object is not None or self._start:
            raise DecodingError(f"the body was cut: its {self._coding} data is not complete")


def _words(error: Exception) -> str:
    return str(error).rpartition(": ")[2] or type(error).__name__


class _Brotli:
    """br (RFC 7932)."""

    def __init__(self) -> None:
        self._module = importlib.import_module("brotli")
        self._object = self._module.Decompressor()
        if not hasattr(self._object, "can_accept_more_data"):
            raise ImportError("this brotli cannot limit its output; 1.2 can")
        self._fed = False

    def pieces(self, data: bytes) -> Iterator[bytes]:
        self._fed = True
        decoder = self._object
        try:
            # That it accepts more data does not mean that it holds nothing back: only an empty piece does.
            while piece := decoder.process(data, output_buffer_limit=BROTLI_LIMIT):
                data = b""
                yield piece
        except self._module.error as error:
            raise DecodingError(f"the body is not br: {_words(error)}") from error

    def finish(self) -> None:
        if self._fed and not self._object.is_finished():
            raise DecodingError("the body was cut: its br data is not complete")


class _Zstd:
    """zstd (RFC 8878), frame after frame, with the window bounded as RFC 9659 has it."""

    def __init__(self) -> None:
        self._module = _zstd_module()
        self._object: Any = None
        self._frames = 0

    def pieces(self, data: bytes) -> Iterator[bytes]:
        module = self._module
        try:
            while data or (self._object is not None and not self._object.needs_input):
                if self._object is None:
                    self._object = module.ZstdDecompressor(
                        options={module.DecompressionParameter.window_log_max: ZSTD_MAX_WINDOW_LOG}
                    )
                piece = self._object.decompress(data, PIECE_BYTES)
                data = b""
                if piece:
                    yield piece
                if self._object.eof:
                    data = self._object.unused_data
                    self._object = None
                    self._frames += 1
        except module.ZstdError as error:
            raise DecodingError(f"the body is not zstd: {_words(error)}") from error

    def finish(self) -> None:
        if self._object is not None:
            raise DecodingError("the body was cut: its zstd data is not complete")


class _Chunked:
    """chunked under another transfer coding (RFC 9112, 7.1), read as where it frames a body; trailers are dropped."""

    def __init__(self) -> None:
        self._parser = Parser()
        self._parser.expect_response("GET")
        self._parser.receive_data(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        self._parser.next_event()

    def pieces(self, data: bytes) -> Iterator[bytes]:
        parser = self._parser
        parser.receive_data(data)
        try:
            while (event := parser.next_event()) is not NEED_DATA:
                if isinstance(event, BodyData):
                    yield event.data
        except RemoteProtocolError as error:
            raise DecodingError(f"the body is not chunked: {error}") from error
        if parser.state == "done" and parser.buffered:
            raise DecodingError("the body is not chunked: it goes on after its last chunk")

    def finish(self) -> None:
        if self._parser.state != "done":
            raise DecodingError("the body was cut: its last chunk, or the end of its trailers, is missing")


@cache
def _zstd_module() -> Any:
    try:
        return importlib.import_module("compression.zstd")  # Python 3.14 and later
    except ImportError:
        return importlib.import_module("backports.zstd")


_GZIP_NAMES: Final = frozenset({"gzip", "x-gzip"})
_OPTIONAL: Final[dict[str, Callable[[], _Decoder]]] = {"br": _Brotli, "zstd": _Zstd}
_EXTRA: Final = {"br": "brotli", "zstd": "zstd"}


@cache
def accepted_codings() -> str:
    """Return the value for Accept-Encoding: just what can be decoded here."""
    codings = ["gzip", "deflate"]
    for coding, decoder in _OPTIONAL.items():
        try:
            decoder()
        except ImportError:
            continue
        codings.append(coding)
    return ", ".join(codings)


def _make_decoder(coding: str) -> _Decoder | None:
    if coding in _GZIP_NAMES:
        return _Zlib("gzip")
    if coding == "deflate":
        return _Zlib("deflate")
    if coding == CHUNKED_WITHIN:
        return _Chunked()
    if coding in _OPTIONAL:
        try:
            return _OPTIONAL[coding]()
        except ImportError as error:
            raise DecodingError(
                f"the body is coded with {coding}; install aiosock-http[{_EXTRA[coding]}] to decode it"
            ) from error
    return None


def decode_at_once(coding: str, data: bytes) -> bytes | None:
    """
    Return what a small whole body decodes to, if it is one sound member of gzip that is not large either.

    None is no verdict: `Pipeline` decodes whatever this leaves, or says what is wrong with it.
    """
    if coding not in _GZIP_NAMES or len(data) > SLICE_BYTES:
        return None
    member = zlib.decompressobj(31)
    try:
        content = member.decompress(data, MAX_BYTES_AT_ONCE)
    except zlib.error:
        return None
    return content if member.eof and not member.unused_data else None


class Pipeline:
    """
    Undoes several codings in a row.

    Args:
        codings: In the order in which they were applied, lower-cased; the transfer coding chunked as
            `CHUNKED_WITHIN`.

    Raises:
        DecodingError: More codings than are good for anyone, or one whose library is missing.
    """

    __slots__ = ("_decoders",)

    def __init__(self, codings: Sequence[str]) -> None:
        if len(codings) > MAX_CODINGS:
            raise DecodingError(f"the body has {len(codings)} codings; the limit is {MAX_CODINGS}")
        decoders = [_make_decoder(coding) for coding in codings if coding != "identity"]
        # With a coding that nobody knows nothing can be undone: the body is handed on as it came.
        known = [decoder for decoder in decoders if decoder is not None]
        self._decoders = known[::-1] if len(known) == len(decoders) else []

    def __bool__(self) -> bool:
        return bool(self._decoders)

    def decode(self, data: bytes) -> Iterator[bytes]:
        """
        Yield what the data decode to, in pieces of at most 64 KiB, none of it before it is asked for.

        Some pieces are empty: a coding may swallow any amount of what the one before it gave (padding, empty blocks),
        and whoever asks must be able to stop, or to let others run, in the meantime.

        Raises:
            DecodingError: The data are not what their codings say.
        """
        return self._run(0, data)

    def _run(self, stage: int, data: bytes) -> Iterator[bytes]:
        if stage == len(self._decoders):
            yield data
            return
        for start in range(0, len(data), SLICE_BYTES):
            for piece in self._decoders[stage].pieces(data[start : start + SLICE_BYTES]):
                yield from self._run(stage + 1, piece)
            yield b""

    def finish(self) -> None:
        """
        Check that the data ended where their codings end; a body without a byte is whole, unless it is to be chunked.

        Raises:
            DecodingError: Something is missing.
        """
        for decoder in self._decoders:
            decoder.finish()
