"""
Fixtures for pytest: a client, stand-ins for what it speaks with, and recordings beside the tests.

pytest finds this plugin by itself where aiosock is installed (``-p no:aiosock`` leaves it out). The fixtures are for
tests that are coroutine functions, whichever plugin runs these: pytest-asyncio, in its modes auto and strict, or that
of anyio, on asyncio. What the fixtures opened is closed within the coroutine of the test, so in its own loop, and what
goes wrong there fails the test. `aiosock_mock` serves other tests too.

So a fixture of one's own finds `aiosock_client` closed when it takes down what it set up; one that needs a client for
that makes its own, by ``async with Client() as client: yield ...``.

The fixtures are for pytest 7 and later. An older one loads this module and is left in peace, so what is newer is
touched by the fixtures alone. Little is imported before a fixture is used: this module is loaded with every run of
pytest.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable, Iterator
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakKeyDictionary

import pytest

if TYPE_CHECKING:
    from contextlib import AsyncExitStack
    from pathlib import Path

    from aiosock.client.client import Client
    from aiosock.testing.mock import MockTransport
    from aiosock.testing.recorder import Recorder
    from aiosock.testing.server import Peer, Server

RECORD_OPTION: Final = "--aiosock-record"
RECORDINGS: Final = "recordings"

# As long as the rest of an answer may be drained.
DRAIN_SECONDS: Final = 1.0

MAX_NAME_LENGTH: Final = 100
"""As long as the name of a recording may be, so that every file system takes it."""

_opened_by: Final[WeakKeyDictionary[pytest.Item, AsyncExitStack]] = WeakKeyDictionary()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option that makes recordings anew."""
    parser.getgroup("aiosock").addoption(
        RECORD_OPTION,
        choices=("once", "record", "replay"),
        default="once",
        help="What aiosock_recorder does: play back what is there and record what is not (once), record all anew "
        "(record), or never go to the network (replay).",
    )


# Of the old kind: the new one makes an older pluggy fail in whoever has aiosock installed.
@pytest.hookimpl(hookwrapper=True, tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Let a test close, at its end and in its loop, what fixtures opened for it."""
    opened = _opened_by.get(item)
    if opened is None or not isinstance(item, pytest.Function):
        yield
        return
    test = item.obj
    item.obj = _closing(test, opened)
    try:
        yield
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
    return _opened_by.setdefault(item, AsyncExitStack())


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

    The test fails where a response was neither read nor closed. When fixtures are taken down, it is closed already.
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

    That is ``recordings/MODULE/CLASS/TEST.jsonl`` beside the module, without CLASS where the test is a function; a
    hash follows a name that no file can have. It is written when the test has passed. The option ``--aiosock-record``
    says whether it is made anew.
    """
    from aiosock.testing.recorder import Recorder

    opened = _opened(request)
    options: dict[str, Any] = {"mode": request.config.getoption(RECORD_OPTION), **aiosock_recorder_options}
    recorder = Recorder(_recording(request.node), **options)
    opened.push_async_exit(recorder)
    return recorder


def _recording(item: pytest.Item) -> Path:
    """Return the file of a test, which no other test has."""
    import hashlib
    import re

    classes = [node.name for node in item.listchain() if isinstance(node, pytest.Class)]
    # As no function's name has a hyphen, this takes away nothing: the brackets around a parameter.
    given = item.name.replace("[", "-", 1).removesuffix("]")
    name = re.sub(r"[^\w.-]+", "-", given, flags=re.ASCII)[:MAX_NAME_LENGTH]
    if name != given:
        name = f"{name.strip('-')}-{hashlib.sha256(item.name.encode()).hexdigest()[:8]}"
    return item.path.parent.joinpath(RECORDINGS, item.path.stem, *classes, f"{name}.jsonl")
