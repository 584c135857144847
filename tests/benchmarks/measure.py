"""
Runs scenarios: starts a process for each contender, gives them rounds in turn, and gathers the raw figures.

A round of all contenders is measured within a short time, so what the machine does besides hits them alike: what
counts is the ratio within the round.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import shutil
import sys
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from pstats import Stats

from tests.benchmarks.rounds import Figures
from tests.benchmarks.scenarios import Scenario
from tests.benchmarks.site import Servers, Sizes, pin
from tests.benchmarks.worker import Job

ROOT = Path(__file__).parents[2]
# The aiosock measured is the one that is installed: this folder comes last, and `-P` keeps it from coming first.
PROGRAM = f"import sys; sys.path.append({str(ROOT)!r}); from tests.benchmarks.worker import main; main()"
# Some clients read from the environment what others are told: proxies, authorities.
FOREIGN = re.compile("_proxy$|_ca_bundle$|ssl_cert_", re.IGNORECASE)
PATIENCE_SECONDS = 120.0
LEAVING_SECONDS = 5.0
PY_SPY_SECONDS = 5


class LeftOut(Exception):
    """A contender that cannot go on; the text says why."""


@dataclass(frozen=True)
class Plan:
    """
    How to measure.

    Attributes:
        rounds: How many rounds a scenario has.
        seconds: How long a contender's round takes.
        sizes: How much is sent and held.
        cores: Where the clients run; empty for anywhere.
        rivals_only: Leave out those that no goal names.
        deadline: When to begin no further scenario, by `time.monotonic`.
        profiles: Where to put profiles of aiosock, if wanted.
    """

    rounds: int
    seconds: float
    sizes: Sizes
    cores: set[int] = field(default_factory=set)
    rivals_only: bool = False
    deadline: float | None = None
    profiles: Path | None = None


@dataclass
class Outcome:
    """
    What came of a scenario on one loop.

    Attributes:
        scenario: Its name.
        loop: The loop.
        figures: Of each contender, those of each round.
        left_out: Who could not take part or go on, and why.
    """

    scenario: str
    loop: str
    figures: dict[str, list[Figures]] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)


class Client:
    """A contender's process."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    @classmethod
    @contextlib.asynccontextmanager
    async def running(cls, job: Job, cores: set[int]) -> AsyncIterator[Client]:
        """
        Start it, wait until it is warm, and end it with the block.

        Raises:
            LeftOut: It did not come up.
        """
        environment = {name: value for name, value in os.environ.items() if not FOREIGN.search(name)}
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-c", PROGRAM, job.encode()),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=environment,
            cwd=ROOT,
        )
        pin(process.pid, cores)
        client = cls(process)
        try:
            await client.receive()
            yield client
        finally:
            await client.end()

    async def ask(self, line: str) -> Figures:
        """
        Have it do a round, and return the figures.

        Raises:
            LeftOut: It failed, or took too long.
        """
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(line.encode() + b"\n")
            await self.process.stdin.drain()
        except ConnectionError:
            pass  # It has ended; what it said is read below.
        return await self.receive()

    async def receive(self) -> Figures:
        """Return its next answer; raises as `ask`."""
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                line = await self.process.stdout.readline()
                if line:
                    figures: Figures = json.loads(line)
                    return figures
                said = (await self.process.stderr.read()).decode(errors="replace").strip()
        except TimeoutError:
            raise LeftOut(f"no answer within {PATIENCE_SECONDS:.0f} s") from None
        raise LeftOut(last_line(said) or f"ended with {await self.process.wait()}")

    def dismiss(self) -> None:
        """Let it close."""
        assert self.process.stdin is not None
        self.process.stdin.close()

    async def end(self) -> None:
        """Wait until it has closed, or end it."""
        self.dismiss()
        try:
            async with asyncio.timeout(LEAVING_SECONDS):
                await self.process.communicate()
        except TimeoutError:
            self.process.kill()
            await self.process.wait()


def last_line(text: str) -> str:
    """Return the last line of a traceback that says something; those of groups end in a frame."""
    lines = [line.strip(" |+-") for line in text.splitlines()]
    return next((line[:200] for line in reversed(lines) if line), "")


async def run_scenario(
    scenario: Scenario, names: list[str], loop: str, servers: Servers, plan: Plan, say: Callable[[str], None]
) -> Outcome:
    """Run one scenario on one loop."""
    outcome = Outcome(scenario.name, loop)
    jobs = {name: Job(name, scenario.name, loop, servers, plan.sizes, plan.seconds) for name in names}
    async with contextlib.AsyncExitStack() as stack:
        clients: dict[str, Client] = {}
        for name, job in jobs.items():
            try:
                if not scenario.fresh:
                    clients[name] = await stack.enter_async_context(Client.running(job, plan.cores))
                outcome.figures[name] = []
            except LeftOut as reason:
                outcome.left_out[name] = str(reason)
        for _ in range(min(plan.rounds, scenario.most_rounds)):
            for name in list(outcome.figures):
                try:
                    if scenario.fresh:
                        async with Client.running(jobs[name], plan.cores) as client:
                            outcome.figures[name].append(await client.ask("round"))
                    else:
                        outcome.figures[name].append(await clients[name].ask("round"))
                except LeftOut as reason:
                    outcome.left_out[name] = str(reason)
                    del outcome.figures[name]
        if plan.profiles is not None and "aiosock" in clients and "aiosock" in outcome.figures:
            await profile(clients["aiosock"], plan.profiles, f"{scenario.name}-{loop}".replace(" ", "-"), say)
        for client in clients.values():
            client.dismiss()
    for name, why in outcome.left_out.items():
        say(f"  {name} is left out: {why}")
    return outcome


async def profile(client: Client, folder: Path, name: str, say: Callable[[str], None]) -> None:
    """Have one more round under cProfile, and some under py-spy, if that is installed and allowed."""
    path = folder / f"{name}.prof"
    await client.ask(f"profile {path}")
    with path.with_suffix(".txt").open("w") as text:
        Stats(str(path), stream=text).sort_stats("tottime").print_stats(40)
    say(f"  profile: {path}, {text.name}")
    py_spy = shutil.which("py-spy", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    if py_spy is None:
        return
    path = folder / f"{name}.svg"
    command = [py_spy, "record", "--pid", str(client.process.pid), "--duration", str(PY_SPY_SECONDS)]
    watcher = await asyncio.create_subprocess_exec(
        *command, "--output", str(path), stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE
    )
    gone = asyncio.ensure_future(watcher.communicate())
    try:
        while not gone.done():
            await client.ask("round")
    finally:
        if not gone.done():
            watcher.kill()
        _, said = await gone
    say(f"  profile: {path}" if path.exists() else f"  py-spy: {said.decode(errors='replace').strip()[:200]}")


async def run_all(
    scenarios: list[Scenario],
    names: set[str],
    loops: list[str],
    servers: Servers,
    plan: Plan,
    say: Callable[[str], None],
) -> list[Outcome]:
    """Run scenarios, one after the other, each on every loop."""
    outcomes = []
    for scenario in scenarios:
        able = scenario.rivals() if plan.rivals_only else scenario.contenders()
        chosen = [name for name in able if name in names]
        for loop in loops if scenario.on_loop else loops[:1]:
            if not chosen:
                say(f"{scenario.name}: nobody asked for can do it")
                continue
            if plan.deadline is not None and time.monotonic() > plan.deadline:
                say(f"{scenario.name} on {loop}: left out, for the time is up")
                continue
            say(f"{scenario.name} on {loop}: {scenario.title}")
            outcomes.append(await run_scenario(scenario, chosen, loop, servers, plan, say))
    return outcomes
