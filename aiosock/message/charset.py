"""
Character encodings of a body: which codec a label means, and what a byte order mark says. No bytes-to-bytes codec,
and nothing that a peer named is remembered.
"""

from __future__ import annotations

import codecs
import re
from encodings import normalize_encoding
from encodings.aliases import aliases
from functools import cache
from typing import Final

BYTE_ORDER_MARKS: Final = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
LONGEST_MARK_BYTES: Final = 4

# Python calls these text encodings, but not all bytes are text in them, or not all errors can be replaced.
_NOT_FOR_BODIES: Final = frozenset({"idna", "punycode", "raw-unicode-escape", "undefined", "unicode-escape"})
# The labels that a peer may name: Python's registry remembers whatever it is asked for, known or not.
_WITHOUT_ALIAS: Final = (
    "cp1006 cp720 cp737 cp856 cp874 cp875 iso8859_1 koi8_t koi8_u mac_arabic mac_croatian mac_farsi mac_romanian "
    "utf_8_sig"
)
_PEERS_LABELS: Final = frozenset({*aliases, *aliases.values(), *_WITHOUT_ALIAS.split()})


@cache
def _charset() -> re.Pattern[str]:
    return re.compile(r";\s*charset\s*=\s*(?:\"([^\"]*)\"|([^\s;\"]+))", re.IGNORECASE)


def find_codec(label: str) -> str | None:
    """Return the name of the text encoding that a label of the user's stands for, None where Python has none."""
    try:
        info = codecs.lookup(label)
    except (LookupError, ValueError):
        return None
    # Codecs from bytes to bytes are none for text, and some of them decompress.
    return info.name if info._is_text_encoding and info.name not in _NOT_FOR_BODIES else None


def named_encoding(content_type: str) -> str | None:
    """Return the encoding that a Content-Type names, None where it names none that is known."""
    found = _charset().search(content_type)
    if found is None:
        return None
    label = normalize_encoding((found[1] or found[2] or "").strip(" '")).lower()
    return find_codec(label) if label in _PEERS_LABELS else None


def marked_encoding(start: bytes) -> str | None:
    """Return the encoding that the byte order mark at the start of a body stands for, None where there is none."""
    return next((name for mark, name in BYTE_ORDER_MARKS if start.startswith(mark)), None)


def codec_for(encoding: str, start: bytes) -> str:
    """Return the codec that decodes a body, leaving out the byte order mark that it may start with."""
    codec = find_codec(encoding) or "utf-8"
    marked = any(start.startswith(mark) for mark, name in BYTE_ORDER_MARKS if name.startswith(codec))
    if codec == "utf-8":
        return "utf-8-sig" if marked else codec
    if codec in ("utf-16", "utf-32"):
        # Without a mark Python's decoders do not agree with each other; on the web it is little-endian.
        return codec if marked else f"{codec}-le"
    return codec[:-3] if marked else codec
