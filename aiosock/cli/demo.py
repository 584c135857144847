"""
`aiosock demo`: many requests at once, and what became of them.

By default they go to a small site that this process serves to itself on loopback, over http and https. This module
alone may import `aiosock.testing`, which is why all of the demo is here.
"""

from __future__ import annotations

import asyncio
import math
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import TYPE_CHECKING, Final

from rich.console import Console
from rich.filesize import decimal
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

import aiosock
from aiosock import AiosockError, Client, Limits, PoolStats, UsageError
from aiosock.cli import terminal, timeline
from aiosock.cli.timeline import Stage
from aiosock.testing import Certificates, Server, site

if TYPE_CHECKING:
    from ssl import SSLContext

# What is asked of the site, in turn: its kind, and where it is. Common things come more often than rare ones.
PAGES: Final = (
    ("page", "/page/1"),
    ("json", "/json"),
    ("page", "/page/2"),
    ("gzip", "/gzip"),
    ("page", "/page/3"),
    ("chunked", "/chunked?chunks=20&size=2000"),
    ("page", "/page/5"),
    ("redirect", "/redirect/2"),
    ("page", "/page/8"),
    ("slow", "/slow?seconds=0.15"),
    ("page", "/page/13"),
    ("large", "/large?bytes=2000000"),
)
PERCENTILES: Final = (50, 95, 99)
TIMELINE_ROWS: Final = 8
SHOWN_FAILURES: Final = 5
MIN_LABEL_CELLS: Final = 18
MAX_LABEL_CELLS: Final = 40
NUMBERS_CELLS: Final = 64  # of the table, beside the label
MIN_BAR_CELLS: Final = 20
MAX_BAR_CELLS: Final = 60


@dataclass(frozen=True, slots=True)
class Job:
    """A URL to request, and the name of the group that it is counted in."""

    label: str
    url: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """
    What became of a request.

    Attributes:
        label: Its job's.
        seconds: From the call to the end of the body.
        size: Bytes of the body, decoded.
        stages: Where the time went; empty where no response came.
        failure: Why it failed, None where it did not.
    """

    label: str
    seconds: float
    size: int = 0
    stages: Sequence[Stage] = ()
    failure: str | None = None


@dataclass(frozen=True, slots=True)
class Result:
    """All outcomes in the order in which they came, the seconds that they took, and the pool's numbers at the end."""

    outcomes: list[Outcome]
    seconds: float
    pool: PoolStats

    @property
    def failed(self) -> int:
        return sum(outcome.failure is not None for outcome in self.outcomes)


def show(requests: int, concurrency: int) -> int:
    """
    Fetch the pages of the site on loopback, tell how it went, and return the exit status.

    Args:
        requests: How many in all.
        concurrency: The most at a time. To each server they share half as many connections, so that it shows how
            some wait for one.

    Raises:
        UsageError: What makes certificates is not installed.
    """
    console = terminal.console(sys.stdout)
    _say(
        console, f"{_counted(requests, 'request')} to a site on loopback, {concurrency} at a time, over http and https"
    )
    with TemporaryDirectory() as folder:
        # Before there is a loop, because making keys and writing files would block it.
        try:
            certificates = Certificates()
            ca = certificates.write_ca(Path(folder, "ca.pem"))
            context = certificates.server_context()
        except ImportError as error:
            raise UsageError(str(error)) from error
        result = aiosock.run(_show(console, ca, context, requests, concurrency))
    return _tell(console, result)


def visit(urls: Sequence[str], requests: int, concurrency: int) -> int:
    """
    Fetch real addresses, tell how it went, and return the exit status.

    Args:
        urls: Absolute ones.
        requests: How many for each.
        concurrency: The most at a time, and the most connections.

    Raises:
        UsageError: A URL cannot be requested; nothing was sent.
    """
    console = terminal.console(sys.stdout)
    jobs = [Job(_label(url), url) for url in urls] * requests
    _say(console, f"{_counted(len(jobs), 'request')}, {concurrency} at a time")
    return _tell(console, aiosock.run(_visit(console, jobs, concurrency)))


async def _show(console: Console, ca: str, context: SSLContext, requests: int, concurrency: int) -> Result:
    limits = Limits(max_connections=None, max_connections_per_host=max(concurrency // 2, 1))
    async with (
        Server(site) as plain,
        Server(site, ssl=context) as secure,
        # The site is in this very process: nothing of the environment is to stand in between.
        Client(verify=ca, limits=limits, trust_env=False) as client,
    ):
        every = [Job(label, f"{server.url}{path}") for (label, path), server in product(PAGES, (plain, secure))]
        jobs = [every[number % len(every)] for number in range(requests)]
        return await _run(console, client, jobs, concurrency)


async def _visit(console: Console, jobs: Sequence[Job], concurrency: int) -> Result:
    async with Client(limits=Limits(max_connections=concurrency)) as client:
        return await _run(console, client, jobs, concurrency)


async def _run(console: Console, client: Client, jobs: Sequence[Job], concurrency: int) -> Result:
    outcomes: list[Outcome] = []
    started = perf_counter()
    with _progress(console) as progress:
        task = progress.add_task("fetching", total=len(jobs), failed=0, active=0, idle=0)

        def note(outcome: Outcome) -> None:
            outcomes.append(outcome)
            pool = client.pool
            failed = progress.tasks[0].fields["failed"] + (outcome.failure is not None)
            progress.update(task, advance=1, failed=failed, active=pool.active, idle=pool.idle)

        left = iter(jobs)
        async with asyncio.TaskGroup() as group:
            for _ in range(min(concurrency, len(jobs))):
                group.create_task(_work(client, left, note))
    return Result(outcomes, perf_counter() - started, client.pool)


async def _work(client: Client, jobs: Iterator[Job], note: Callable[[Outcome], None]) -> None:
    for job in jobs:
        note(await _fetch(client, job))


async def _fetch(client: Client, job: Job) -> Outcome:
    started = perf_counter()
    size = 0
    try:
        async with client.stream("GET", job.url) as response:
            async for piece in response.iter_bytes():
                size += len(piece)
    except AiosockError as error:
        return Outcome(job.label, perf_counter() - started, size, failure=f"{type(error).__name__}: {error}")
    failure = f"{response.status_code} {response.reason}".rstrip() if response.status_code >= 400 else None
    return Outcome(job.label, perf_counter() - started, size, timeline.journey(response), failure)


def _label(url: str) -> str:
    """
    Return what a URL is called in tables: without its scheme, credentials and query.

    Raises:
        InvalidURL: It cannot be requested.
    """
    asked = aiosock.Request("GET", url).url
    return f"{asked.raw_authority}{asked.raw_path}"


# What is told


def _say(console: Console, text: str) -> None:
    console.print(Text(text, "bold"))


def _progress(console: Console) -> Progress:
    """Return a line that shows how far it is; nothing where there is no terminal."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=30, style="bright_black", complete_style="green", finished_style="green"),
        TextColumn("{task.completed:>4} of {task.total}  {task.fields[failed]:>2} failed"),
        TextColumn("[bright_black] connections: {task.fields[active]:>2} active, {task.fields[idle]:>2} idle"),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )


def _tell(console: Console, result: Result) -> int:
    """Print what happened; return the exit status."""
    count, pool = len(result.outcomes), result.pool
    size = decimal(sum(outcome.size for outcome in result.outcomes))
    console.print(
        f"done in {result.seconds:.2f} s, {count / result.seconds:.0f} per second, ",
        Text(f"{result.failed or 'none'} failed", "bold red" if result.failed else "green"),
        sep="",
    )
    console.print(f"{size} of bodies over {_counted(pool.opened, 'connection')}, {pool.reused} times reused")
    console.print()
    label_cells = min(max(console.width - NUMBERS_CELLS, MIN_LABEL_CELLS), MAX_LABEL_CELLS)
    console.print(_table(result.outcomes, label_cells))
    answered = [outcome for outcome in result.outcomes if outcome.stages]
    if answered:
        console.print()
        _draw(console, _slowest(answered, TIMELINE_ROWS), label_cells)
    failures = Counter(outcome.failure for outcome in result.outcomes if outcome.failure is not None)
    if failures:
        console.print()
        _say(console, "What failed")
        for failure, count in failures.most_common(SHOWN_FAILURES):
            console.print(f"{count:>6} x {terminal.printable(failure)}")
        if len(failures) > SHOWN_FAILURES:
            console.print(f"         and {len(failures) - SHOWN_FAILURES} other reasons")
    return 1 if result.failed else 0


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _shortened(label: str, cells: int) -> str:
    """Return a label cut in the middle where it is too long."""
    half = (cells - 3) // 2
    return label if len(label) <= cells else f"{label[: cells - 3 - half]}...{label[-half:]}"


def _table(outcomes: Sequence[Outcome], label_cells: int) -> Table:
    """Return a table with a line for each group, and one for all of them where there are several."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bright_black")
    groups: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        groups.setdefault(outcome.label, []).append(outcome)
    table.add_column("", no_wrap=True)
    for name in ("requests", "failed", "bytes", *(f"p{percent}" for percent in PERCENTILES)):
        table.add_column(name, justify="right", no_wrap=True)
    for label, group in groups.items():
        table.add_row(*_row(_shortened(label, label_cells), group))
    if len(groups) > 1:
        table.add_row(*_row("all", outcomes), style="bold")
    return table


def _row(label: str, outcomes: Sequence[Outcome]) -> list[str]:
    seconds = sorted(outcome.seconds for outcome in outcomes)
    failed = sum(outcome.failure is not None for outcome in outcomes)
    times = [timeline.milliseconds(percentile(seconds, percent)) for percent in PERCENTILES]
    return [label, str(len(outcomes)), str(failed), decimal(sum(outcome.size for outcome in outcomes)), *times]


def percentile(ordered: Sequence[float], percent: float) -> float:
    """Return the value that so many percent do not pass (the nearest rank), of values from small to large."""
    return ordered[max(math.ceil(len(ordered) * percent / 100) - 1, 0)]


def _slowest(outcomes: Sequence[Outcome], most: int) -> list[Outcome]:
    """Return the slowest of every group, as many of each as there is room for, the slowest first."""
    ordered = sorted(outcomes, key=lambda outcome: outcome.seconds, reverse=True)
    each = max(most // len({outcome.label for outcome in ordered}), 1)
    taken: Counter[str] = Counter()
    chosen: list[Outcome] = []
    for outcome in ordered:
        if taken[outcome.label] < each:
            taken[outcome.label] += 1
            chosen.append(outcome)
    return chosen[:most]


def _draw(console: Console, outcomes: Sequence[Outcome], label_cells: int) -> None:
    coloured = console.is_terminal
    _say(console, "Where the time of the slowest went")
    console.print(timeline.legend(coloured=coloured))
    labels = [_shortened(outcome.label, label_cells) for outcome in outcomes]
    indent = max(map(len, labels))
    width = min(max(console.width - indent - 16, MIN_BAR_CELLS), MAX_BAR_CELLS)
    longest = max(timeline.total(outcome.stages) for outcome in outcomes) or 1.0
    for label, outcome in zip(labels, outcomes, strict=True):
        line = Text(f"{label:<{indent}}  {timeline.milliseconds(outcome.seconds):>10}  ")
        console.print(line + timeline.bar(outcome.stages, longest / width, coloured=coloured))
