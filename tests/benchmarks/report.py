"""
Makes of raw results what people read: a JSON file, a table in Markdown, and a plot in SVG.

Ratios are taken within a round; what is shown is their median, with the quartiles.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from html import escape
from itertools import groupby
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from tests.benchmarks.scenarios import METRICS, SCENARIOS, Goal, Scenario

Results = dict[str, Any]
Figures = dict[str, list[dict[str, float]]]
Quartiles = tuple[float, float, float]

OURS = "aiosock"
BY_NAME = {scenario.name: scenario for scenario in SCENARIOS}


def load(path: Path) -> Results:
    """Read results that `write` wrote."""
    results: Results = json.loads(path.read_text())
    return results


def write(results: Results, folder: Path) -> None:
    """Write results.json, report.md and plot.svg."""
    (folder / "results.json").write_text(json.dumps(results, separators=(",", ":")) + "\n")
    (folder / "report.md").write_text(make_table(results))
    (folder / "plot.svg").write_text(make_plot(results))


# Figures


def middle(values: list[float]) -> Quartiles:
    """Return the median between the quartiles."""
    if len(values) < 2:
        return values[0], values[0], values[0]
    low, _, high = quantiles(values, n=4, method="inclusive")
    return low, median(values), high


def compare(figures: Figures, name: str, other: str, metric: str) -> Quartiles | None:
    """Return one contender's figure as a share of another's, round by round; None where that says nothing."""
    pairs = zip(figures.get(name, ()), figures.get(other, ()), strict=False)
    ratios = [one[metric] / two[metric] for one, two in pairs if one.get(metric) is not None and two.get(metric)]
    return middle(ratios) if ratios else None


def typical(figures: Figures, name: str, metric: str) -> float | None:
    """Return the median of a contender's figure."""
    values = [figures_of_round[metric] for figures_of_round in figures.get(name, ()) if metric in figures_of_round]
    return median(values) if values else None


def show(value: float | None) -> str:
    """Return a number, short."""
    if value is None:
        return ""
    if value and abs(value) < 10:
        return f"{value:.2f}"
    return f"{value:,.0f}" if abs(value) >= 100 or value == 0 else f"{value:.1f}"


def show_quartiles(values: Quartiles | None) -> str:
    """Return a ratio with its quartiles."""
    return "" if values is None else f"{values[1]:.2f} ({values[0]:.2f} to {values[2]:.2f})"


# The table


def make_table(results: Results) -> str:
    """Return the report in Markdown."""
    return "\n".join([*describe(results), *show_goals(results), *show_scenarios(results)]) + "\n"


def describe(results: Results) -> Iterator[str]:
    """Say what was measured, on what, and by which command."""
    took_part = {name for outcome in results["outcomes"] for name in outcome["figures"]}
    versions = ", ".join(
        f"{name} {version}" for name, version in results["versions"].items() if version and name in took_part
    )
    server, client = results["cores"]
    pinned = f"server on core {server}, clients on {client}" if server else "server and clients share the cores"
    yield "# Benchmarks"
    yield ""
    yield f"`{results['command']}`, {results['date']}"
    yield ""
    yield f"- Machine: {results['machine']}; {pinned}"
    yield f"- Python: {results['python']}" + (f", uvloop {results['uvloop']}" if results["uvloop"] else "")
    yield f"- Server: {results['server']}, on loopback"
    yield f"- Clients: {versions}"
    if results["missing"]:
        yield f"- Not installed: {', '.join(results['missing'])}"
    yield f"- {results['rounds']} rounds of {results['seconds']} s; all take turns within a round"
    yield ""
    yield "Each ratio is the median over the rounds of the ratio within the round, with the quartiles."
    yield "`floor-sock` is `loop.sock_sendall` and `loop.sock_recv` alone, `floor-reader` one `loop.add_reader` per"
    yield "connection, `floor-tls` bare `SSLObject`s; they find the end of the answer and do nothing else."
    yield ""
    yield "![Cost beside aiosock's](plot.svg)"
    yield ""


def show_goals(results: Results) -> Iterator[str]:
    """Compare what was reached with what was to be reached."""
    yield "## Goals"
    yield ""
    yield "| scenario | loop | aiosock's figure | to reach | measured | |"
    yield "|---|---|---|---|---|---|"
    typicals = {
        (outcome["scenario"], outcome["loop"]): (typical(outcome["figures"], OURS, BY_NAME[outcome["scenario"]].metric))
        for outcome in results["outcomes"]
    }
    for outcome in results["outcomes"]:
        scenario = BY_NAME[outcome["scenario"]]
        for goal in scenario.goals:
            metric = goal.metric or scenario.metric
            value = typicals[scenario.name, outcome["loop"]]
            shown = show(value)
            what = METRICS[metric]
            if goal.against:
                quartiles = compare(outcome["figures"], OURS, goal.against, metric)
                value, shown = (quartiles[1] if quartiles else None), show_quartiles(quartiles)
                what = f"{METRICS[metric].partition(',')[0]}, as a share of {goal.against}'s"
            elif goal.variant:
                other = typicals.get((f"{scenario.number} {goal.variant}", outcome["loop"]))
                value = value / other if value and other else None
                shown = show(value)
                what = f"{METRICS[metric].partition(',')[0]}, as a share of that at {goal.variant}"
            if value is not None:
                sign = "≥" if goal.at_least else "≤"
                yield (
                    f"| {scenario.name} | {outcome['loop']} | {what} | {sign} {goal.bound:g} | {shown} "
                    f"| {'yes' if reached(goal, value) else '**no**'} |"
                )
    yield ""


def reached(goal: Goal, value: float) -> bool:
    """Tell whether a goal is reached."""
    return value >= goal.bound if goal.at_least else value <= goal.bound


def show_scenarios(results: Results) -> Iterator[str]:
    """Show every figure of every scenario."""
    for name, outcomes in groupby(results["outcomes"], key=lambda outcome: outcome["scenario"]):
        scenario = BY_NAME[name]
        yield f"## {name}: {scenario.title}"
        yield ""
        for outcome in outcomes:
            yield from show_outcome(scenario, outcome)


def show_outcome(scenario: Scenario, outcome: Results) -> Iterator[str]:
    """Show one scenario on one loop, the cheapest contender first."""
    figures: Figures = outcome["figures"]
    present = {metric for rounds in figures.values() for one in rounds for metric in one}
    metrics = [metric for metric in METRICS if metric in present]
    names = sorted(figures, key=lambda name: typical(figures, name, scenario.metric) or 0)
    yield f"On {outcome['loop']}, per {scenario.unit}:"
    yield ""
    yield f"| | aiosock's share | {' | '.join(METRICS[metric] for metric in metrics)} |"
    yield "|---|---|" + "---:|" * len(metrics)
    for name in names:
        share = "" if name == OURS else show_quartiles(compare(figures, OURS, name, scenario.metric))
        cells = [show(typical(figures, name, metric)) for metric in metrics]
        yield f"| {f'**{name}**' if name == OURS else name} | {share} | {' | '.join(cells)} |"
    yield ""
    for name, reason in outcome["left_out"].items():
        yield f"{name} is left out: {reason.replace('|', '/')}"
        yield ""


# What README shows

README = Path(__file__).parents[2] / "README.md"
PUBLISHED = Path(__file__).parent / "published"
BEGIN, END = "<!-- benchmarks -->\n", "<!-- /benchmarks -->\n"
SHOWN = ("aiohttp", "httpx", "httpx2", "niquests", "pyreqwest", "wreq", "ry", "curl_cffi", "floor")


def publish(results: Results) -> None:
    """Put the results beside this file, and their summary into README."""
    PUBLISHED.mkdir(exist_ok=True)
    write(results, PUBLISHED)
    README.write_text(with_summary(README.read_text(), results))


def with_summary(readme: str, results: Results) -> str:
    """Return README with the summary of these results between its two marks."""
    before, _, rest = readme.partition(BEGIN)
    return before + BEGIN + summarize(results) + END + rest.partition(END)[2]


def summarize(results: Results) -> str:
    """Return a table of what the others cost, as multiples of aiosock's cost, each loop's figure in turn."""
    versions = ", ".join(f"{name} {version}" for name, version in results["versions"].items() if version)
    loops = list(dict.fromkeys(outcome["loop"] for outcome in results["outcomes"]))
    folder = PUBLISHED.relative_to(README.parent).as_posix()
    lines = [
        f"What the others cost in CPU time (14: memory), as multiples of aiosock's cost; on {' / '.join(loops)}.",
        "*floor* is the same exchange with bare socket calls, which checks nothing and survives nothing.",
        "",
        f"| | aiosock | {' | '.join(SHOWN)} |",
        "|---|---:|" + "---:|" * len(SHOWN),
    ]
    for name, outcomes in groupby(results["outcomes"], key=lambda outcome: outcome["scenario"]):
        scenario = BY_NAME[name]
        if scenario.metric in ("cpu", "memory"):
            both = [outcome["figures"] for outcome in outcomes]
            unit = "KiB" if scenario.metric == "memory" else f"µs/{scenario.unit}"
            ours = " / ".join(show(typical(figures, OURS, scenario.metric)) for figures in both)
            cells = [
                " / ".join(filter(None, (multiple(figures, peer, scenario) for figures in both))) for peer in SHOWN
            ]
            lines.append(f"| {name}: {scenario.title} | {ours} {unit} | {' | '.join(cells)} |")
    lines += [
        "",
        f"![What the others cost]({folder}/plot.svg)",
        "",
        f"Measured on {results['date']} by `{results['command']}` on {results['machine']}; {results['python']}"
        + (f", uvloop {results['uvloop']}" if results["uvloop"] else "")
        + f"; {results['server']}, on loopback; {versions}.",
        f"Medians of {results['rounds']} rounds in which all take turns; [here]({folder}/report.md) are all figures, "
        "with quartiles, latencies, and what was to be reached.",
        "",
    ]
    return "\n".join(lines)


def multiple(figures: Figures, peer: str, scenario: Scenario) -> str:
    """Return a peer's cost as a multiple of aiosock's; of the floors, the one that the scenario names first."""
    name = scenario.floors[0] if peer == "floor" and scenario.floors else peer
    quartiles = compare(figures, name, OURS, scenario.metric)
    return "" if quartiles is None else f"{quartiles[1]:.2f}"


# The plot

WIDTH, PANEL_WIDTH, LABEL_WIDTH, BAR_WIDTH = 960, 470, 100, 270
ROW_HEIGHT, TITLE_HEIGHT, GAP = 18, 26, 16
MOST = 5.0
"""Longer bars are cut; the number beside them tells."""
COLORS = {OURS: "#2563eb", "floor": "#9ca3af"}
PEER_COLOR = "#d9a441"


def make_plot(results: Results) -> str:
    """Return a panel of bars for each scenario and loop: what it costs, as a multiple of aiosock's cost."""
    panels = [outcome for outcome in results["outcomes"] if len(list(bars(outcome))) > 1]
    parts: list[str] = []
    tops = [GAP + 24, GAP + 24]
    for panel in panels:
        column = tops.index(min(tops))
        x, y = GAP + column * PANEL_WIDTH, tops[column]
        drawn = list(draw_panel(panel, x, y))
        parts += drawn
        tops[column] += TITLE_HEIGHT + ROW_HEIGHT * len(list(bars(panel))) + GAP
    height = max(tops)
    heading = f"Cost as a multiple of aiosock's (median of {results['rounds']} rounds, quartiles); less is better"
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" '
            f'viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" font-size="12">',
            f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>',
            f'<text x="{GAP}" y="{GAP + 8}" font-size="14" font-weight="bold">{escape(heading)}</text>',
            *parts,
            "</svg>\n",
        ]
    )


def bars(outcome: Results) -> Iterator[tuple[str, Quartiles]]:
    """Yield each contender's cost as a multiple of aiosock's, the cheapest first."""
    figures, metric = outcome["figures"], BY_NAME[outcome["scenario"]].metric
    found = {name: compare(figures, name, OURS, metric) for name in figures}
    present = [(name, quartiles) for name, quartiles in found.items() if quartiles is not None]
    yield from sorted(present, key=lambda bar: bar[1][1])


def draw_panel(outcome: Results, x: int, y: int) -> Iterator[str]:
    """Yield the elements of one panel whose upper left corner is at x, y."""
    drawn = list(bars(outcome))
    title = f"{outcome['scenario']}: {BY_NAME[outcome['scenario']].title} ({outcome['loop']})"
    yield f'<text x="{x}" y="{y + 16}" font-size="11" font-weight="bold">{escape(title)}</text>'
    most = min(MOST, max(quartiles[2] for _, quartiles in drawn))
    start = x + LABEL_WIDTH

    def place(value: float) -> float:
        return round(start + BAR_WIDTH * min(value, most) / most, 1)

    for row, (name, (low, value, high)) in enumerate(drawn):
        top = y + TITLE_HEIGHT + row * ROW_HEIGHT
        middle_of_row = top + ROW_HEIGHT / 2 - 1
        color = COLORS.get(name.partition("-")[0], PEER_COLOR)
        yield f'<text x="{start - 6}" y="{top + 12}" text-anchor="end">{escape(name)}</text>'
        yield f'<rect x="{start}" y="{top + 2}" width="{place(value) - start:.1f}" height="12" fill="{color}"/>'
        yield f'<path d="M{place(low)} {middle_of_row}H{place(high)}" stroke="#111" stroke-width="1.5"/>'
        yield f'<text x="{max(place(high), place(value)) + 6:.1f}" y="{top + 12}">{value:.2f}</text>'
