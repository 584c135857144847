"""Where the time went is told truly, and drawn to scale."""

from __future__ import annotations

import pytest

from aiosock import Response, Timings
from aiosock.cli import timeline
from aiosock.cli.timeline import Stage


def timings(
    pool: float = 0,
    send: float = 0,
    wait: float = 0,
    receive: float | None = 0,
    *,
    dns: float | None = None,
    connect: float | None = None,
    tls: float | None = None,
) -> Timings:
    made = Timings(100.0)
    made.acquired_at = 100.0 + pool
    made.sent_at = made.acquired_at + send
    made.head_at = made.sent_at + wait
    made.ended_at = None if receive is None else made.head_at + receive
    made.dns, made.connect, made.tls = dns, connect, tls
    return made


def rounded(stages: list[Stage]) -> list[tuple[str, float]]:
    return [(stage.name, round(stage.seconds, 6)) for stage in stages]


def test_dialling_is_taken_out_of_waiting_for_the_pool() -> None:
    assert rounded(timeline.stages(timings(1.0, 0.1, 0.2, 0.3, dns=0.1, connect=0.2, tls=0.4))) == [
        ("pool", 0.3),
        ("dns", 0.1),
        ("connect", 0.2),
        ("tls", 0.4),
        ("send", 0.1),
        ("wait", 0.2),
        ("receive", 0.3),
    ]


def test_a_reused_connection_has_no_dialling() -> None:
    assert [stage.name for stage in timeline.stages(timings(0.1))] == ["pool", "send", "wait", "receive"]


def test_dialling_before_the_request_began_is_none_of_its_time() -> None:
    assert rounded(timeline.stages(timings(0.5, dns=1.0, connect=0.2, tls=0.4))) == [
        ("pool", 0),
        ("dns", 0),
        ("connect", 0.1),
        ("tls", 0.4),
        ("send", 0),
        ("wait", 0),
        ("receive", 0),
    ]


def test_a_stage_that_has_not_ended_is_left_out() -> None:
    assert [stage.name for stage in timeline.stages(timings(receive=None))] == ["pool", "send", "wait"]


def test_redirects_are_a_part_of_the_journey() -> None:
    last = Response(200, timings=timings(0.1, receive=0.5))
    last.history = (Response(302, timings=timings(0.2, receive=None)),)
    assert [stage.name for stage in timeline.journey(last)] == [
        "pool",
        "send",
        "wait",
        "pool",
        "send",
        "wait",
        "receive",
    ]
    assert timeline.total(timeline.journey(last)) == pytest.approx(0.8)


def test_a_bar_is_to_scale_and_rounding_does_not_add_up() -> None:
    stages = [Stage("pool", 0.25), Stage("dns", 0.25), Stage("connect", 0.25), Stage("wait", 2.25)]
    assert timeline.bar(stages, 0.5, coloured=False).plain == "dcwwww"
    assert len(timeline.bar([Stage("send", 0.4)] * 100, 1, coloured=False)) == 40


def test_a_bar_is_never_empty() -> None:
    assert timeline.bar([Stage("pool", 0.1), Stage("wait", 0.2)], 10, coloured=False).plain == "w"
    assert timeline.bar([], 10, coloured=False).plain == ""


def test_colours_take_the_place_of_letters() -> None:
    line = timeline.bar([Stage("pool", 1), Stage("wait", 2)], 1, coloured=True)
    assert line.plain == "━━━"
    assert [span.style for span in line.spans] == [timeline.STYLES["pool"], timeline.STYLES["wait"]]


def test_a_waterfall_has_a_line_for_each_stage_one_after_the_other() -> None:
    lines = timeline.waterfall([Stage("pool", 0.001), Stage("wait", 0.002), Stage("receive", 0.001)], 8, coloured=False)
    assert [line.plain for line in lines] == [
        "pool         1.0 ms  pp",
        "wait         2.0 ms    wwww",
        "receive      1.0 ms        rr",
        "total        4.0 ms",
    ]


def test_a_waterfall_shows_the_shortest_stage_and_fits_its_width() -> None:
    stages = [Stage("pool", 1e-6), Stage("wait", 1.0), Stage("receive", 0.0)]
    bars = [line.plain[21:] for line in timeline.waterfall(stages, 20, coloured=False)[:-1]]
    assert bars == ["p", "w" * 20, " " * 19 + "r"]
    assert timeline.waterfall([Stage("pool", 0.0)], 20, coloured=False)[0].plain.endswith("  p")


def test_the_legend_names_every_stage() -> None:
    assert timeline.legend(coloured=False).plain == "p=pool d=dns c=connect t=tls s=send w=wait r=receive"
    assert timeline.legend(coloured=True).plain.split() == [word for name in timeline.STYLES for word in ("━━", name)]


def test_initials_tell_stages_apart() -> None:
    assert len({name[0] for name in timeline.STYLES}) == len(timeline.STYLES)
