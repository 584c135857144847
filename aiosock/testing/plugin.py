"""
Fixtures for pytest: a client, stand-ins for what it speaks with, and recordings beside the tests.

pytest finds this plugin by itself where aiosock is installed (``-p no:aiosock`` leaves it out). The fixtures are for
tests that are coroutine functions, whichever plugin runs these: pytest-asyncio, in its modes auto and strict, or that
of anyio, on asyncio. What the fixtures opened is closed within the coroutine of the test, so in its own loop, and what
goes wrong there fails the test. `aiosock_mock` serves other tests too.

Little is imported before a fixture is used: this module is loaded with every run of pytest.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable, Iterator
from typing import TYPE_CHECKING, Any, Final

import pytest

if TYPE_CHECKING:
    from contextlib import AsyncExitStack

    from aiosock.client.client import Client
    from aiosock.testing.mock import MockTransport
    from aiosock.testing.recorder import Recorder
    from aiosock.testing.server import Peer, Server

RECORD_OPTION: Final = "--aiosock-record"
RECORDINGS: Final = "recordings"

# As long as the rest of an answer may be drained.
DRAIN_SECONDS: Final = 1.0

_OPENED: Final = pytest.StashKey["AsyncExitStack"]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option that makes recordings anew."""
    parser.getgroup("aiosock").addoption(
        RECORD_OPTION,
        choices=("once", "record", "replay"),
        default="once",
        help="What aiosock_recorder does: play back what is there and record what is not (once), record all anew "
        "(record), or never go to the network (replay).",
    )


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Let a test close, at its end and in its loop, what fixtures opened for it."""
    opened = item.stash.get(_OPENED, None)
    if opened is None or not isinstance(item, pytest.Function):
        return (yield)
    test = item.obj
    item.obj = _closing(test, opened)
    try:
        return (yield)
    finally:
        item.obj = test


def _closing(test: Callable[..., Awaitable[None]], opened: AsyncExitStack) -> Callable[..., Awaitable[None]]:
    @functools.wraps(test)
    async def run(**arguments: Any) -> None:
        async with opened:
            await test(**arguments)

    return run


def _opened(request: pytest.FixtureRequest) -> AsyncExitStack:
    """Return what is closed at the end of the test that asks."""
    from contextlib import AsyncExitStack

    from aiosock.errors import UsageError

    item = request.node
    if not isinstance(item, pytest.Function) or not inspect.iscoroutinefunction(item.obj):
        raise UsageError(f"{request.fixturename}: only for tests that are coroutine functions ('async def')")
    return item.stash.setdefault(_OPENED, AsyncExitStack())


@pytest.fixture
def aiosock_server(request: pytest.FixtureRequest) -> Callable[..., Awaitable[Server]]:
    """
    A function that starts an `aiosock.testing.Server`, which is closed at the end of the test.

    ``await aiosock_server(script, **options)`` has a script, ``await aiosock_server(bytes, bytes, ...)`` sends these
    answers, the last of them for ever.
    """
    opened = _opened(request)

    async def start(*script: Callable[[Peer], Awaitable[None]] | bytes, **options: Any) -> Server:
        from aiosock.testing.server import Server

        make: Any = Server.answering if script and isinstance(script[0], bytes) else Server
        server: Server = make(*script, **options)
        return await opened.enter_async_context(server)

    return start


@pytest.fixture
def aiosock_client_options() -> dict[str, Any]:
    """The keyword arguments of `aiosock_client`, to be overridden by a fixture of one's own."""
    return {}


@pytest.fixture
def aiosock_client(request: pytest.FixtureRequest, aiosock_client_options: dict[str, Any]) -> Client:
    """
    A client that heeds nothing of the environment and is closed at the end of the test.

    The test fails where a response was neither read nor closed.
    """
    from aiosock.client.client import Client

    opened = _opened(request)
    options: dict[str, Any] = {"trust_env": False, **aiosock_client_options}
    client = Client(**options)
    opened.push_async_exit(functools.partial(_close_client, client))
    return client


async def _close_client(client: Client, kind: object, error: BaseException | None, traceback: object) -> None:
    try:
        # A test that failed has left things as they were.
        if error is None:
            await _all_taken(client)
    finally:
        await client.close()


async def _all_taken(client: Client) -> None:
    import asyncio

    loop = asyncio.get_running_loop()
    patience = loop.time() + DRAIN_SECONDS
    while (active := client.pool.active) and loop.time() < patience:  # noqa: ASYNC110 - the pool has no event for it
        await asyncio.sleep(DRAIN_SECONDS / 100)
    if active:
        pytest.fail(f"aiosock_client: {active} response(s) neither read nor closed", pytrace=False)


@pytest.fixture
def aiosock_mock() -> MockTransport:
    """A `MockTransport` for ``Client(transport=aiosock_mock)``; its method ``route`` gives it answers."""
    from aiosock.testing.mock import MockTransport

    return MockTransport()


@pytest.fixture
def aiosock_recorder_options() -> dict[str, Any]:
    """The keyword arguments of `aiosock_recorder`, to be overridden by a fixture of one's own."""
    return {}


@pytest.fixture
def aiosock_recorder(request: pytest.FixtureRequest, aiosock_recorder_options: dict[str, Any]) -> Recorder:
    """
    A `Recorder` for ``Client(middleware=[aiosock_recorder])``, with a file for each test.

    That is ``recordings/MODULE/TEST.jsonl`` beside the module. It is written when the test has passed. The option
    ``--aiosock-record`` says whether it is made anew.
    """
    import re

    from aiosock.testing.recorder import Recorder

    opened = _opened(request)
    name = re.sub(r"[^\w.-]+", "-", request.node.name).strip("-")
    path = request.node.path.parent / RECORDINGS / request.node.path.stem / f"{name}.jsonl"
    options: dict[str, Any] = {"mode": request.config.getoption(RECORD_OPTION), **aiosock_recorder_options}
    recorder = Recorder(path, **options)
    opened.push_async_exit(recorder)
    return recorder
