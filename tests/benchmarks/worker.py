"""
A client's process: one contender in one scenario, for as many rounds as it is told over its standard input.

Its argument is a `Job` as JSON. It answers each line with a line of JSON: first when it is open and warm, then the
figures of each round.
"""

from __future__ import annotations

import asyncio
import cProfile
import json
import os
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Self

from tests.benchmarks import rounds
from tests.benchmarks.contenders import Place
from tests.benchmarks.rounds import Work
from tests.benchmarks.scenarios import CONTENDERS, SCENARIOS, Scenario
from tests.benchmarks.site import Servers, Sizes, raise_file_limit

WARM_SECONDS = 0.1


@dataclass(frozen=True)
class Job:
    """What a client's process is for."""

    contender: str
    scenario: str
    loop: str
    servers: Servers
    sizes: Sizes
    seconds: float

    def encode(self) -> str:
        """Return it as JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def decode(cls, text: str) -> Self:
        """Return what `encode` made JSON of."""
        given = json.loads(text)
        given["servers"] = Servers(**given["servers"])
        given["sizes"] = Sizes(**given["sizes"])
        return cls(**given)


def loop_factory(name: str) -> Callable[[], asyncio.AbstractEventLoop]:
    """Return what makes the loop of that name."""
    if name == "uvloop":
        import uvloop

        return uvloop.new_event_loop
    return asyncio.new_event_loop


async def prepare(job: Job, scenario: Scenario) -> Work:
    """Open the contender, and let it do what it will do, for a moment."""
    servers, sizes = job.servers, job.sizes
    place = Place(
        url=scenario.url(servers),
        ca=servers.ca,
        concurrency=scenario.count(sizes) if scenario.late else scenario.concurrency,
        upload=servers.upload,
    )
    contender = CONTENDERS[job.contender](place)
    await contender.open()
    work = Work(
        contender=contender,
        act=getattr(contender, scenario.act),
        expected=scenario.expected(sizes),
        concurrency=scenario.concurrency,
        units=scenario.units(sizes),
        count=scenario.count(sizes),
        seconds=job.seconds,
    )
    if scenario.measure is rounds.keep_busy:
        await rounds.keep_busy(replace(work, seconds=min(WARM_SECONDS, job.seconds)))
    return work


def main() -> None:
    """Work until the standard input ends."""
    job = Job.decode(sys.argv[1])
    scenario = next(each for each in SCENARIOS if each.name == job.scenario)
    raise_file_limit()
    # What a library prints is no answer.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    with asyncio.Runner(loop_factory=loop_factory(job.loop)) as runner:
        work = runner.run(prepare(job, scenario))
        print(json.dumps({}), file=answers)
        for line in sys.stdin:
            profile = cProfile.Profile() if line.startswith("profile ") else None
            if profile is not None:
                profile.enable()
            figures = runner.run(scenario.measure(work))
            if profile is not None:
                profile.disable()
                profile.dump_stats(line.removeprefix("profile ").strip())
            print(json.dumps(figures), file=answers)
        runner.run(work.contender.close())
