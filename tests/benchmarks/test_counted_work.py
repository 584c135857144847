"""
What a request costs must not grow unnoticed: work is counted, which on a busy machine is nearly the same every time.

A ceiling stands a little above what was counted when it was set. When the work gets less, lower it.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

COUNTED = Path(__file__).with_name("counted.py")
GETS = 200
STREAMS = 4
STREAM_BYTES = 8 * 1024 * 1024
# What the machine does besides can only add to a count.
TRIES = 3
PATIENCE_SECONDS = 50

FIELDS = "Server: test\r\nDate: Thu, 01 Jan 2026 00:00:00 GMT\r\nCache-Control: no-store\r\nVary: Accept\r\n"
FIELDS += "X-Request-Id: 0123456789abcdef\r\nConnection: keep-alive\r\nContent-Type: application/json\r\n"
BODY = b'{"id": 1234567890, "name": "aiosock", "tags": ["http", "socket"], "ok": true  }'
ANSWERS = {
    b"/small": f"HTTP/1.1 200 OK\r\n{FIELDS}Content-Length: {len(BODY)}\r\n\r\n".encode() + BODY,
    b"/large": f"HTTP/1.1 200 OK\r\n{FIELDS}Content-Length: {STREAM_BYTES}\r\n\r\n".encode() + bytes(STREAM_BYTES),
}

# Of a keep-alive GET, and of a MiB of a streamed body. How much a read brings depends on the moment, and so do the
# calls of the latter.
PER_GET: dict[str, float] = {"calls": 75, "surviving": 1, "tasks": 0, "timers": 0, "system calls": 6}
PER_MIB: dict[str, float] = {"calls": 300, "surviving": 1, "tasks": 0, "timers": 0, "system calls": 40}
# A tool that watches this process must not work in the one that is counted.
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}


def answer(connection: socket.socket) -> None:
    """Answer the requests of a connection, each of which comes in one piece."""
    with connection:
        while request := connection.recv(65536):
            connection.sendall(ANSWERS[request.split(b" ", 2)[1]])


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """A server in threads: nothing of it is in the process that is counted."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                threading.Thread(target=answer, args=(connection,), daemon=True).start()

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        # Closing alone would not wake it.
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


def command(kind: str, act: str, url: str, count: int) -> list[str]:
    path = "/small" if act == "get" else "/large"
    return [sys.executable, str(COUNTED), kind, act, url + path, str(count)]


def run(arguments: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(arguments, capture_output=True, text=True, env=ENVIRONMENT, timeout=PATIENCE_SECONDS)


def count(kind: str, act: str, url: str) -> dict[str, float]:
    """Return the least of several counts, for one request or for one MiB."""
    times, units = (GETS, 1) if act == "get" else (STREAMS, STREAM_BYTES / 2**20)
    found: list[dict[str, float]] = []
    for _ in range(TRIES):
        ran = run(command(kind, act, url, times))
        assert ran.returncode == 0, ran.stderr
        found.append(json.loads(ran.stdout))
    return {name: min(one[name] for one in found) / units for name in found[0]}


def ceilings(act: str) -> dict[str, float]:
    return PER_GET if act == "get" else PER_MIB


@pytest.mark.parametrize("act", ["get", "stream"])
@pytest.mark.parametrize("kind", ["calls", "surviving", "loop"])
def test_work_is_bounded(kind: str, act: str, url: str) -> None:
    """Function calls, surviving blocks of memory, tasks and timers stay below their ceilings."""
    counted = count(kind, act, url)
    assert {name: value for name, value in counted.items() if value > ceilings(act)[name]} == {}, counted


@pytest.mark.parametrize("act", ["get", "stream"])
def test_system_calls_are_bounded(act: str, url: str, tmp_path: Path) -> None:
    """The system calls that a request adds to those of a process stay below their ceiling."""
    times, units = (GETS, 1) if act == "get" else (STREAMS, STREAM_BYTES / 2**20)
    least = min(
        (system_calls(act, url, times, tmp_path) - system_calls(act, url, 0, tmp_path)) / times / units
        for _ in range(TRIES)
    )
    assert least <= ceilings(act)["system calls"]


def system_calls(act: str, url: str, times: int, folder: Path) -> int:
    """Return how many system calls a process makes that acts so many times."""
    strace = shutil.which("strace")
    if strace is None:
        if os.environ.get("AIOSOCK_CI"):
            pytest.fail("strace is not installed, and CI must not skip its tests")
        pytest.skip("strace is not installed")
    summary = folder / "strace.txt"
    ran = run([strace, "-c", "-f", "-o", str(summary), *command("nothing", act, url, times)])
    if ran.returncode and re.search("ptrace|PTRACE", ran.stderr):
        pytest.skip(f"tracing is not allowed here: {ran.stderr.strip()[:100]}")
    assert ran.returncode == 0, ran.stderr
    total = re.search(r"^100\.00\s+\S+\s+(?:\d+\s+)?(\d+)\s+(?:\d+\s+)?total$", summary.read_text(), re.MULTILINE)
    assert total is not None, summary.read_text()
    return int(total[1])
