"""
The command: ``python -m tests.benchmarks --help``; ``nox -s bench -- ...`` runs it beside all peers.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import shlex
import signal
import sys
import time
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

from tests.benchmarks.measure import Plan, run_all
from tests.benchmarks.report import load, publish, write
from tests.benchmarks.scenarios import CONTENDERS, SCENARIOS
from tests.benchmarks.server import running
from tests.benchmarks.site import QUICK, Sizes, raise_file_limit

QUICK_SECONDS = 130.0
LOOPS = {"uvloop": ["uvloop"], "asyncio": ["asyncio"], "both": ["uvloop", "asyncio"]}


def parse_arguments() -> argparse.Namespace:
    """Return what was asked for."""
    parser = argparse.ArgumentParser(prog="nox -s bench --", description="Measure aiosock beside its peers.")
    parser.add_argument("--quick", action="store_true", help="only whom the goals name, smaller bodies, three rounds")
    numbers = sorted({scenario.number for scenario in SCENARIOS})
    parser.add_argument("--scenario", type=int, nargs="+", choices=numbers, metavar="N", help="only these")
    parser.add_argument("--contender", nargs="+", choices=list(CONTENDERS), metavar="NAME", help="only these")
    parser.add_argument("--rounds", type=int, help="rounds of each scenario (7; 3 if quick)")
    parser.add_argument("--loop", choices=list(LOOPS), help="the event loop (both; uvloop if quick)")
    parser.add_argument("--profile", action="store_true", help="profile aiosock in one more round of each scenario")
    parser.add_argument("--output", type=Path, default=Path("build/bench"), help="the folder for results")
    parser.add_argument("--publish", action="store_true", help="show the results in README")
    parser.add_argument("--from", dest="source", type=Path, metavar="JSON", help="only write the report of old results")
    return parser.parse_args()


def choose_cores() -> tuple[set[int], set[int]]:
    """Return the cores for the servers and for the clients; empty sets where they have to share."""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    return ({cores[0]}, set(cores[1:])) if len(cores) > 1 else (set(), set())


def find_versions() -> dict[str, str]:
    """Return the version of each contender that is installed."""
    versions = {}
    for name, contender in CONTENDERS.items():
        try:
            versions[name] = metadata.version(contender.distribution) if contender.distribution else ""
        except metadata.PackageNotFoundError:
            continue
    return versions


def describe_machine() -> str:
    """Return the processor and the system, in a line."""
    processor = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        processor = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    return f"{processor}, {os.cpu_count()} cores, {platform.system()} {platform.release()}"


def main() -> None:
    """Measure, and write the report."""
    arguments = parse_arguments()
    arguments.output.mkdir(parents=True, exist_ok=True)
    if arguments.source is not None:
        results = load(arguments.source)
        write(results, arguments.output)
        if arguments.publish:
            publish(results)
        return
    began = time.monotonic()
    # Servers and their files are not left behind when somebody stops it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))
    raise_file_limit()
    versions = find_versions()
    names = set(arguments.contender or CONTENDERS)
    loops = LOOPS[arguments.loop or ("uvloop" if arguments.quick else "both")]
    server_cores, client_cores = choose_cores()
    plan = Plan(
        rounds=arguments.rounds or (3 if arguments.quick else 7),
        seconds=0.15 if arguments.quick else 0.5,
        sizes=QUICK if arguments.quick else Sizes(),
        cores=client_cores,
        rivals_only=arguments.quick and not arguments.contender,
        deadline=began + QUICK_SECONDS if arguments.quick else None,
        profiles=arguments.output.resolve() if arguments.profile else None,
    )
    scenarios = [each for each in SCENARIOS if arguments.scenario is None or each.number in arguments.scenario]
    missing = sorted(names - versions.keys())
    for name in missing:
        print(f"{name} is left out: it is not installed")
    with running(plan.sizes, server_cores) as servers:
        print(servers.program)
        outcomes = asyncio.run(run_all(scenarios, names & versions.keys(), loops, servers, plan, say))
    results: dict[str, Any] = {
        "command": shlex.join(["nox", "-s", "bench", "--", *sys.argv[1:]]),
        "date": time.strftime("%Y-%m-%d"),
        "machine": describe_machine(),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "uvloop": metadata.version("uvloop") if "uvloop" in loops else "",
        "server": servers.program,
        "cores": [sorted(server_cores), sorted(client_cores)],
        "versions": versions,
        "missing": missing,
        "rounds": plan.rounds,
        "seconds": plan.seconds,
        "sizes": asdict(plan.sizes),
        "outcomes": [asdict(outcome) for outcome in outcomes],
    }
    write(results, arguments.output)
    if arguments.publish:
        publish(results)
    print(f"{time.monotonic() - began:.0f} s; the report is {arguments.output / 'report.md'}")


def say(line: str) -> None:
    """Tell how far it is."""
    print(line, flush=True)


if __name__ == "__main__":
    main()
