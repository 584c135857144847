"""
What tests of the command line need: a server in a thread, and the command started as a user starts it.

The tests are not coroutines: they wait for a process. So the server has an event loop in a thread of its own.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from ssl import SSLContext

import pytest

from aiosock.testing import Peer, Server, site
from tests.kit.programs import without_slow_steps

PROGRAM_SECONDS = 60.0
COMMAND = [sys.executable, "-X", "dev", "-W", "error", "-m", "aiosock"]

Script = Callable[[Peer], Awaitable[None]]


@contextmanager
def serving(script: Script, ssl: SSLContext | None) -> Iterator[Server]:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    server = Server(script, ssl=ssl)
    try:
        asyncio.run_coroutine_threadsafe(server.start(), loop).result()
        yield server
    finally:
        asyncio.run_coroutine_threadsafe(server.close(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    """Start a server that runs until the test is over: serve(script, ssl=...)."""
    with ExitStack() as stack:

        def start(script: Script = site, *, ssl: SSLContext | None = None) -> Server:
            return stack.enter_context(serving(script, ssl))

        yield start


@dataclass(frozen=True)
class Done:
    """What a command left behind."""

    status: int
    out: bytes
    err: str


def environment(variables: dict[str, str]) -> dict[str, str]:
    """The test's own, without what would change how a command talks or draws."""
    unwanted = {"NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES", "TTY_COMPATIBLE", "TTY_INTERACTIVE"}
    kept = {
        key: value
        for key, value in os.environ.items()
        if key not in unwanted and not key.lower().endswith("_proxy") and not key.startswith("SSL")
    }
    return kept | {"PYTHONIOENCODING": "utf-8", "TERM": "xterm-256color"} | variables


@pytest.fixture
def run() -> Callable[..., Done]:
    """Run the command to its end; it must leave nothing open, and explain what goes wrong."""

    def start(*arguments: object, status: int = 0, keys: bytes = b"", without: str = "", **variables: str) -> Done:
        command = [*COMMAND, *map(str, arguments)]
        if without:
            # As if that package were not installed.
            hide = f"import sys; sys.modules[{without!r}] = None; from aiosock.cli import main; sys.exit(main())"
            command[-len(arguments) - 2 : -len(arguments)] = ["-c", hide]
        done = subprocess.run(
            command, env=environment(variables), input=keys, capture_output=True, timeout=PROGRAM_SECONDS
        )
        errors = without_slow_steps(done.stderr.decode())
        assert "Traceback" not in errors, errors
        assert "Warning" not in errors, errors
        assert done.returncode == status, errors
        return Done(done.returncode, done.stdout, errors)

    return start


def heed_ctrl_c() -> None:
    """Undo what a test run in the background inherits: a shell has such programs ignore Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.fixture
def start() -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Start the command, and leave it to the test to end it."""
    with ExitStack() as stack:

        def begin(*arguments: object, **variables: str) -> subprocess.Popen[bytes]:
            process = subprocess.Popen(
                [*COMMAND, *map(str, arguments)],
                env=environment(variables),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                preexec_fn=heed_ctrl_c,
            )
            stack.enter_context(process)
            stack.callback(process.kill)
            return process

        yield begin


@pytest.fixture
def run_in_terminal() -> Callable[..., Done]:
    """Run the command to its end in a terminal of 100 columns; ``out`` is all that the terminal was sent."""

    def begin(*arguments: object, status: int = 0, **variables: str) -> Done:
        ours, theirs = pty.openpty()
        try:
            fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 100, 0, 0))
            process = subprocess.Popen(
                [*COMMAND, *map(str, arguments)],
                env=environment(variables),
                stdin=theirs,
                stdout=theirs,
                stderr=theirs,
                start_new_session=True,
            )
        finally:
            os.close(theirs)
        try:
            # What is shown may be any bytes.
            seen = without_slow_steps(b"".join(_read_all(ours)).decode("latin-1")).encode("latin-1")
            assert process.wait(PROGRAM_SECONDS) == status, seen.decode()
        finally:
            process.kill()
            process.wait()
            os.close(ours)
        assert b"Traceback" not in seen, seen.decode()
        assert b"Warning" not in seen, seen.decode()
        return Done(status, seen, "")

    return begin


def _read_all(descriptor: int) -> Iterator[bytes]:
    deadline = time.monotonic() + PROGRAM_SECONDS
    while select.select([descriptor], [], [], max(deadline - time.monotonic(), 0))[0]:
        try:
            piece = os.read(descriptor, 65536)
        except OSError:  # Linux tells so that nobody has the other end any more
            return
        if not piece:
            return
        yield piece
    raise AssertionError("the command does not end")
