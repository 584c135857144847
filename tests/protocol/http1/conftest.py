"""What the protocol's tests share: nobody finds what another test let the parser remember."""

from __future__ import annotations

import pytest

from aiosock.protocol.http1 import grammar, parser


@pytest.fixture(autouse=True)
def nothing_seen() -> None:
    """Forget the heads and field lines that came before."""
    parser._SEEN_HEADS.clear()
    grammar._SEEN_LINES.clear()
