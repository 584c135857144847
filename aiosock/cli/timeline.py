"""
Where the time of a request went, as a picture in the terminal.

On a terminal the stages are told apart by colour, and else by their initials, since colours are all that the lines
differ in. Nothing here measures; it draws what `Response.timings` says.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from rich.text import Text

from aiosock import Response, Timings
from aiosock.cli.terminal import printable

STYLES: Final = {
    "pool": "bright_black",
    "dns": "magenta",
    "connect": "blue",
    "tls": "cyan",
    "send": "yellow",
    "wait": "green",
    "receive": "white",
}
LINE: Final = "━"


class Stage(NamedTuple):
    """One stage of a request, and how many seconds it took."""

    name: str
    seconds: float


def stages(timings: Timings) -> list[Stage]:
    """
    Return the stages in the order in which they happened; those that there were not are left out.

    Dialling is taken out of the waiting for the pool. A connection may have been dialled for another request, in part
    before this one began: that part is none of its time.
    """
    queued = timings.pool or 0.0
    dialled: list[Stage] = []
    for name, seconds in (("tls", timings.tls), ("connect", timings.connect), ("dns", timings.dns)):
        if seconds is not None:
            dialled.append(Stage(name, min(seconds, queued)))
            queued -= dialled[-1].seconds
    travelled = (("send", timings.send), ("wait", timings.wait), ("receive", timings.receive))
    return [
        Stage("pool", queued),
        *reversed(dialled),
        *(Stage(name, seconds) for name, seconds in travelled if seconds is not None),
    ]


def journey(response: Response) -> list[Stage]:
    """Return the stages of a response and of the redirects that led to it, one after the other."""
    return [stage for one in (*response.history, response) for stage in stages(one.timings)]


def total(passed: Iterable[Stage]) -> float:
    """Return the seconds of all stages together."""
    return sum(stage.seconds for stage in passed)


def bar(passed: Sequence[Stage], seconds_per_cell: float, *, coloured: bool) -> Text:
    """Return one line in which each stage is as long as it took; what is shorter than half a cell may vanish."""
    line = Text()
    drawn, elapsed = 0, 0.0
    for stage in passed:
        elapsed += stage.seconds
        # Counted from the start, so that rounding does not add up.
        cells = round(elapsed / seconds_per_cell) - drawn
        line.append(_cells(stage.name, cells, coloured), STYLES[stage.name])
        drawn += cells
    if not drawn and passed:
        longest = max(passed, key=lambda stage: stage.seconds)
        line.append(_cells(longest.name, 1, coloured), STYLES[longest.name])
    return line


def waterfall(passed: Sequence[Stage], width: int, *, coloured: bool) -> list[Text]:
    """Return a line for each stage: name, time, and a bar that begins where the one before it ended."""
    seconds_per_cell = (total(passed) or 1.0) / width
    lines: list[Text] = []
    elapsed = 0.0
    for stage in passed:
        start = min(round(elapsed / seconds_per_cell), width - 1)
        elapsed += stage.seconds
        cells = max(round(elapsed / seconds_per_cell) - start, 1)
        line = Text(f"{stage.name:<8}{milliseconds(stage.seconds):>11}  {' ' * start}")
        line.append(_cells(stage.name, cells, coloured), STYLES[stage.name])
        lines.append(line)
    return [*lines, Text(f"{'total':<8}{milliseconds(elapsed):>11}")]


def hops(response: Response, width: int, *, coloured: bool) -> list[Text]:
    """Return a line for each request that led to a response: status, time, bar and URL; and what the bars show."""
    every = [(one, stages(one.timings)) for one in (*response.history, response)]
    seconds_per_cell = (total(journey(response)) or 1.0) / width
    lines: list[Text] = []
    elapsed = 0.0
    for one, passed in every:
        start = min(round(elapsed / seconds_per_cell), width - 1)
        elapsed += total(passed)
        line = Text(f"{one.status_code} {milliseconds(total(passed)):>11}  {' ' * start}")
        line.append(bar(passed, seconds_per_cell, coloured=coloured))
        line.append(f"  {printable(str(one.url.with_query(None).with_fragment(None)))}")
        lines.append(line)
    return [*lines, legend(coloured=coloured)]


def legend(*, coloured: bool) -> Text:
    """Return a line that says which stage is drawn how."""
    line = Text()
    for name, style in STYLES.items():
        line.append(_cells(name, 2 if coloured else 1, coloured), style)
        line.append(f" {name}   " if coloured else f"={name} ")
    line.rstrip()
    return line


def milliseconds(seconds: float) -> str:
    """Return a time as text, in milliseconds with one digit after the point."""
    return f"{seconds * 1000:.1f} ms"


def _cells(name: str, count: int, coloured: bool) -> str:
    return (LINE if coloured else name[0]) * count
