"""What README says of speed is what was measured."""

from __future__ import annotations

from tests.benchmarks.report import PUBLISHED, README, load, make_plot, make_table, with_summary


def test_readme_shows_the_published_results() -> None:
    results = load(PUBLISHED / "results.json")
    text = README.read_text()
    assert with_summary(text, results) == text
    assert (PUBLISHED / "report.md").read_text() == make_table(results)
    assert (PUBLISHED / "plot.svg").read_text() == make_plot(results)
