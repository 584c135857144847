"""
What a terminal may see: whether there is one to draw on, and text that cannot steer it.

Nothing here knows of HTTP.
"""

from __future__ import annotations

import os
import re
from io import TextIOWrapper
from typing import Final, TextIO

from rich.console import Console

REPLACEMENT: Final = "\N{REPLACEMENT CHARACTER}"
UNSEEN_WIDTH: Final = 120  # columns, where there is no terminal to ask

_controls = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


class _Console(Console):
    def on_broken_pipe(self) -> None:
        # Called where the exception is handled; rich would end the program here, and the loop with it.
        raise BrokenPipeError


def console(stream: TextIO) -> Console:
    """
    Return a console on a stream: with colours and redrawing on a terminal, and with plain lines and no escape codes
    at all elsewhere, or where NO_COLOR is set, TERM is dumb, or the encoding is too small to draw with.
    """
    plain = (
        not stream.isatty()
        or bool(os.environ.get("NO_COLOR"))
        or os.environ.get("TERM") == "dumb"
        or not (stream.encoding or "").lower().startswith("utf")
    )
    if isinstance(stream, TextIOWrapper):
        stream.reconfigure(errors="backslashreplace")
    return _Console(
        file=stream,
        width=None if stream.isatty() else UNSEEN_WIDTH,
        force_terminal=not plain,
        force_interactive=not plain,
        no_color=plain,
        highlight=False,
        markup=False,
        emoji=False,
        soft_wrap=True,
    )


def printable(text: str) -> str:
    """Return a line of somebody else's with everything replaced that is neither a tab nor a character to be seen."""
    return "".join(seen if seen.isprintable() or seen == "\t" else REPLACEMENT for seen in text)


def printable_text(text: str) -> str:
    """Return text of somebody else's for a terminal: line ends and tabs stay, other control characters do not."""
    return _controls.sub(REPLACEMENT, text.replace("\r", ""))
