"""A body is decoded as its label and byte order mark say, by text codecs only, whatever a peer sent."""

from __future__ import annotations

import codecs
import encodings
import pkgutil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiosock.message import charset
from aiosock.message.charset import codec_for, find_codec, marked_encoding, named_encoding


@pytest.mark.parametrize(
    ("content_type", "encoding"),
    [
        ("", None),
        ("text/html", None),
        ("text/html; charset=utf-8", "utf-8"),
        ("text/html;charset=UTF-8", "utf-8"),
        ('text/html; charset="utf-8"', "utf-8"),
        ("text/html; charset='utf-8'", "utf-8"),
        ("text/html; a=b; CharSet = utf8 ; c=d", "utf-8"),
        ("text/html; charset=ISO-8859-1", "iso8859-1"),
        ("text/html; charset=windows-1252", "cp1252"),
        ("text/html; charset=us-ascii", "ascii"),
        ("text/html; charset=Shift_JIS", "shift_jis"),
        ("text/html; charset=gb2312", "gb2312"),
        ("text/html; charset=koi8-u", "koi8-u"),
        ("text/html; charset=utf-16le", "utf-16-le"),
        ("text/html; charset=utf---8", "utf-8"),
        ("text/html; xcharset=utf-8", None),
        ("text/html; charset=", None),
        ('text/html; charset=""', None),
        ("text/html; charset=klingon", None),
        ("text/html; charset=../../utf-8", None),
        ("text/html; charset=kling\0on", None),
        ("text/html; charset=ütf-8", None),
    ],
)
def test_the_charset_of_a_content_type(content_type: str, encoding: str | None) -> None:
    assert named_encoding(content_type) == encoding


@pytest.mark.parametrize(
    "label",
    [
        "base64",
        "bz2",
        "hex",
        "quopri",
        "rot13",
        "uu",
        "zlib",
        "idna",
        "punycode",
        "undefined",
        "unicode_escape",
        "raw_unicode_escape",
    ],
)
def test_what_is_no_encoding_of_bodies_is_none(label: str) -> None:
    assert find_codec(label) is None
    assert named_encoding(f"text/html; charset={label}") is None
    assert codec_for(label, b"") == "utf-8"


def test_every_encoding_that_python_has_can_be_named() -> None:
    for module in pkgutil.iter_modules(encodings.__path__):
        codec = find_codec(module.name)
        if codec is not None and module.name not in ("mbcs", "oem", "palmos", "charmap"):
            assert named_encoding(f"text/html; charset={module.name}") == codec


def test_nothing_that_a_peer_named_is_remembered() -> None:
    before = len(encodings._cache)
    assert named_encoding("text/html; charset=klingon-of-a-peer") is None
    assert named_encoding("text/html; charset=utf" + "-" * 50 + "8") == "utf-8"
    assert len(encodings._cache) == before


@pytest.mark.parametrize(
    ("start", "encoding"),
    [
        (b"", None),
        (b"abcd", None),
        (b"\xef\xbb", None),
        (codecs.BOM_UTF8 + b"a", "utf-8"),
        ("a".encode("utf-16"), "utf-16-le"),
        (codecs.BOM_UTF16_BE + b"\0a", "utf-16-be"),
        ("a".encode("utf-32"), "utf-32-le"),
        (codecs.BOM_UTF32_BE + b"\0\0\0a", "utf-32-be"),
    ],
)
def test_byte_order_marks(start: bytes, encoding: str | None) -> None:
    assert marked_encoding(start) == encoding
    if encoding is not None:
        assert start.decode(codec_for(encoding, start)) == "a"


@pytest.mark.parametrize("codec", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be", "utf-8", "utf-16", "utf-32"])
def test_a_mark_is_left_out_where_there_is_one(codec: str) -> None:
    marks = {"utf-16": codecs.BOM_UTF16_BE, "utf-32": codecs.BOM_UTF32_BE}
    order = f"{codec}-be" if codec in marks else codec
    mark = "\ufeff".encode(order)
    assert (mark + "ä\ufeff".encode(order)).decode(codec_for(codec, mark)) == "ä\ufeff"
    # Without a mark what says nothing of the order is little-endian, as on the web.
    order = f"{codec}-le" if codec in marks else codec
    decoder = codecs.getincrementaldecoder(codec_for(codec, b""))()
    assert decoder.decode("ä".encode(order), True) == "ä"


ALL_CODECS = sorted({codec for label in charset._PEERS_LABELS if (codec := find_codec(label)) is not None})


@given(data=st.binary(max_size=40))
def test_no_bytes_are_too_bad_to_be_decoded(data: bytes) -> None:
    assert len(ALL_CODECS) > 90
    for codec in ALL_CODECS:
        name = codec_for(codec, data)
        assert isinstance(codecs.decode(data, name, "replace"), str)
        assert codecs.getincrementaldecoder(name)
