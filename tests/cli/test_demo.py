"""The demo tells the truth: counts, bytes, failures and times, in a terminal and outside of one."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from ssl import SSLContext
from typing import Any

import pytest

from aiosock.cli import demo
from aiosock.testing import Peer, Server, response
from tests.kit.programs import without_slow_steps

Serve = Callable[..., Server]
Run = Callable[..., Any]
Start = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def nobody() -> Iterator[str]:
    """A URL where nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}/"


def rows(out: str) -> dict[str, list[str]]:
    """Return the table's rows by their label: requests, failed, bytes, and the times."""
    found = re.findall(r"^(\S+) +(\d+) +(\d+) +(\S+ \w+) +(\S+) ms +(\S+) ms +(\S+) ms *$", out, re.MULTILINE)
    return {label: list(rest) for label, *rest in found}


def test_the_demo_shows_every_kind_of_page(run: Run) -> None:
    out = run("demo", "--requests", 48).out.decode()
    assert out.startswith("48 requests to a site on loopback, 24 at a time, over http and https\n")
    assert ", none failed\n" in out
    table = rows(out)
    assert set(table) == {"page", "json", "gzip", "chunked", "redirect", "slow", "large", "all"}
    assert table["all"][:2] == ["48", "0"]
    assert table["large"][2] == "8.0 MB"
    assert sum(int(row[0]) for label, row in table.items() if label != "all") == 48
    for row in table.values():
        p50, p95, p99 = map(float, row[3:])
        assert 0 < p50 <= p95 <= p99
    assert float(table["slow"][3]) >= 150


def test_the_demo_asks_no_proxy(run: Run, nobody: str) -> None:
    assert run("demo", "-n", 20, http_proxy=nobody, https_proxy=nobody).status == 0


def test_the_demo_reuses_its_connections(run: Run) -> None:
    out = run("demo", "--requests", 96, "--concurrency", 8).out.decode()
    found = re.search(r"^\S+ MB of bodies over (\d+) connections, (\d+) times reused$", out, re.MULTILINE)
    assert found is not None
    opened, reused = map(int, found.groups())
    assert 2 <= opened <= 8
    # Each of the 8 redirected requests takes two more exchanges.
    assert opened + reused == 96 + 8 * 2


def test_the_demo_draws_where_the_time_went(run: Run) -> None:
    out = run("demo", "--requests", 48).out.decode()
    _, _, picture = out.partition("Where the time of the slowest went\n")
    legend, *lines = picture.splitlines()
    assert legend == "p=pool d=dns c=connect t=tls s=send w=wait r=receive"
    assert len(lines) == 7
    for line in lines:
        assert re.fullmatch(r"[a-z]+ +[0-9.]+ ms  [pdctswr]+", line)
    assert "t" in "".join(line.partition("ms  ")[2] for line in lines)
    times = [float(line.split()[1]) for line in lines]
    assert times == sorted(times, reverse=True)


def test_plain_output_has_no_escape_codes_and_is_not_redrawn(run: Run) -> None:
    done = run("demo", "--requests", 24, FORCE_COLOR="1", TTY_COMPATIBLE="1")
    assert b"\x1b" not in done.out
    assert b"\r" not in done.out
    assert b"fetching" not in done.out
    assert done.out.isascii()
    assert done.err == ""


def test_a_terminal_sees_progress_and_colours(run_in_terminal: Run) -> None:
    out = run_in_terminal("demo", "--requests", 120).out.decode()
    assert "fetching" in out
    assert "connections:" in out
    assert "━" in out
    assert "\x1b[32mnone failed" in out
    assert out.count("\x1b[?25l") == out.count("\x1b[?25h") == 1  # the cursor comes back


@pytest.mark.parametrize("variables", [{"NO_COLOR": "1"}, {"TERM": "dumb"}, {"PYTHONIOENCODING": "latin-1"}])
def test_a_terminal_that_wants_no_colours_sees_plain_lines(run_in_terminal: Run, variables: dict[str, str]) -> None:
    out = run_in_terminal("demo", "--requests", 24, **variables).out
    assert b"\x1b" not in out
    assert b"fetching" not in out
    assert out.replace(b"\r\n", b"").count(b"\r") == 0
    assert b"p=pool" in out


def test_real_addresses_are_fetched_that_often(serve: Serve, run: Run) -> None:
    one, two = serve(), serve()
    out = run("demo", "-n", 5, "-c", 2, f"{one.url}/json?a=b", two.url.removeprefix("http://")).out.decode()
    assert out.startswith("10 requests, 2 at a time\n")
    assert [request.target for request in one.requests] == ["/json?a=b"] * 5
    assert [request.target for request in two.requests] == ["/"] * 5
    table = rows(out)
    assert table[f"127.0.0.1:{one.port}/json"][:3] == ["5", "0", "480 bytes"]
    assert table[f"127.0.0.1:{two.port}/"][:2] == ["5", "0"]
    assert one.connections + two.connections <= 10


def test_the_concurrency_is_a_bound(serve: Serve, run: Run) -> None:
    server = serve()
    out = run("demo", "--requests", 12, "--concurrency", 3, f"{server.url}/slow").out.decode()
    assert server.connections == 3
    assert "over 3 connections, 9 times reused" in out
    assert len(out.partition("p=pool")[2].splitlines()) == 9  # the rest of that line, and the 8 slowest
    assert "all " not in out  # one address needs no sum


def test_https_needs_trust(serve: Serve, run: Run, server_context: SSLContext, ca_file: str) -> None:
    url = serve(ssl=server_context).url
    assert "none failed" in run("demo", "-n", 3, url, SSL_CERT_FILE=ca_file).out.decode()
    assert re.search(r"^ +3 x TLSError: .*not trusted", run("demo", "-n", 3, url, status=1).out.decode(), re.MULTILINE)


def test_failures_are_counted_and_told(serve: Serve, run: Run, nobody: str) -> None:
    server = serve()
    out = run("demo", "-n", 4, f"{server.url}/status/404", nobody, f"{server.url}/", status=1).out.decode()
    assert ", 8 failed\n" in out
    table = rows(out)
    assert table[f"127.0.0.1:{server.port}/status/404"][:2] == ["4", "4"]
    assert table[f"127.0.0.1:{server.port}/"][:2] == ["4", "0"]
    assert table["all"][:2] == ["12", "8"]
    _, _, told = out.partition("What failed\n")
    assert re.search(r"^ +4 x 404 Not Found$", told, re.MULTILINE)
    assert re.search(r"^ +4 x ConnectError: .*refused", told, re.MULTILINE)


def test_a_demo_without_any_answer_ends_well(run: Run, nobody: str) -> None:
    out = run("demo", "-n", 2, nobody, status=1).out.decode()
    assert "2 failed" in out
    assert "over 0 connections" in out
    assert "p=pool" not in out


def test_of_many_reasons_the_commonest_are_told(serve: Serve, run: Run) -> None:
    server = serve()
    urls = [f"{server.url}/status/{status}" for status in (400, 401, 403, 404, 405, 410, 500)]
    out = run("demo", "-n", 1, *urls, status=1).out.decode()
    assert out.count(" x 4") + out.count(" x 5") == 5
    assert out.endswith("         and 2 other reasons\n")


def test_what_a_server_says_in_its_failures_steers_no_terminal(serve: Serve, run: Run) -> None:
    async def script(peer: Peer) -> None:
        while await peer.read_request():
            await peer.send(response(500, b"", reason="\x9b2J[bold]"))

    out = run("demo", "-n", 1, serve(script).url, status=1).out.decode()
    assert "500 \ufffd2J[bold]\n" in out


def test_a_url_is_called_without_its_secrets() -> None:
    assert demo._label("http://user:secret@example.com:8080/a?token=secret") == "example.com:8080/a"


def test_a_long_label_is_cut_in_the_middle() -> None:
    assert demo._shortened("x" * 18, 18) == "x" * 18
    assert demo._shortened(f"example.com/{'x' * 100}/end", 18) == "example....xxx/end"
    assert len(demo._shortened("x" * 40, 19)) == 19


def test_addresses_that_look_alike_when_cut_are_still_counted_apart(serve: Serve, run: Run) -> None:
    url = f"{serve().url}/{'x' * 100}"
    out = run("demo", "-n", 1, f"{url}a{'x' * 50}", f"{url}b{'x' * 50}", status=1).out.decode()
    assert re.findall(r"^\S+ +(\d+) +(\d+) ", out, re.MULTILINE) == [("1", "1"), ("1", "1"), ("2", "2")]


def test_percentiles_are_of_the_nearest_rank() -> None:
    ordered = [float(number) for number in range(1, 101)]
    assert [demo.percentile(ordered, percent) for percent in (0, 50, 95, 99, 100)] == [1, 50, 95, 99, 100]
    assert demo.percentile([7.0], 50) == demo.percentile([7.0], 99) == 7
    assert demo.percentile([1.0, 2.0], 50) == 1


def test_ctrl_c_is_130_and_leaves_the_rest(serve: Serve, start: Start) -> None:
    asked = threading.Event()

    async def stall(peer: Peer) -> None:
        await peer.read_request()
        asked.set()
        await peer.wait_disconnect()

    process = start("demo", serve(stall).url)
    assert asked.wait(60)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (out, without_slow_steps(err.decode())) == (b"20 requests, 10 at a time\n", "")
    assert process.returncode == 130


def test_a_reader_that_has_seen_enough_is_no_error(serve: Serve, start: Start) -> None:
    process = start("demo", "-n", 1, f"{serve().url}/slow?seconds=0.5")
    assert process.stdout is not None
    assert process.stdout.readline() == b"1 request, 10 at a time\n"
    process.stdout.close()
    assert process.wait(60) == 0
    assert process.stderr is not None
    assert process.stderr.read() == b""


def test_without_what_makes_certificates_the_extra_is_named(run: Run, serve: Serve) -> None:
    done = run("demo", status=2, without="trustme")
    assert "aiosock-http[cli]" in done.err
    assert len(done.err.splitlines()) == 1
    assert "none failed" in run("demo", "-n", 1, serve().url, without="trustme").out.decode()


def test_it_runs_where_uvloop_is_not_installed(run: Run) -> None:
    assert "none failed" in run("demo", "--requests", 24, without="uvloop").out.decode()
