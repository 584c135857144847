"""
What tests of examples need: a server in a thread, and a program started as a user starts it.

The tests are not coroutines: they wait for a process. So the server has an event loop in a thread of its own.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from ssl import SSLContext

import pytest

from aiosock.testing import Peer, Server, site
from tests.kit.programs import without_slow_steps

ROOT = Path(__file__).parents[2]
PROGRAM_SECONDS = 60.0

Script = Callable[[Peer], Awaitable[None]]


@contextmanager
def serving(script: Script, host: str, ssl: SSLContext | None) -> Iterator[Server]:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    server = Server(script, host=host, ssl=ssl)
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
    """Start a server that runs until the test is over: serve(script, host=..., ssl=...)."""
    with ExitStack() as stack:

        def start(script: Script = site, *, host: str = "127.0.0.1", ssl: SSLContext | None = None) -> Server:
            return stack.enter_context(serving(script, host, ssl))

        yield start


@pytest.fixture
def run() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run a program of examples/ to its end; it must leave nothing open, and explain what goes wrong."""

    def start(
        program: str, *arguments: object, status: int = 0, keys: str = "", **variables: str
    ) -> subprocess.CompletedProcess[str]:
        # No proxy in between; and the program finds what lies beside it, as it does for a user.
        environment = {
            key: value
            for key, value in os.environ.items()
            if not key.lower().endswith("_proxy") and key != "PYTHONSAFEPATH"
        }
        done = subprocess.run(
            [sys.executable, "-X", "dev", "-W", "error", ROOT / "examples" / program, *map(str, arguments)],
            env=environment | {"PYTHONIOENCODING": "utf-8"} | variables,
            input=keys,
            capture_output=True,
            encoding="utf-8",
            timeout=PROGRAM_SECONDS,
        )
        done.stderr = without_slow_steps(done.stderr)
        assert "Traceback" not in done.stderr, done.stderr
        assert "Warning" not in done.stderr, done.stderr
        assert done.returncode == status, done.stderr
        return done

    return start
