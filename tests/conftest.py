"""
What all tests share: both loops, a loop that must not be blocked, warnings that count where they arose, no proxies of
the machine's.
"""

from __future__ import annotations

import asyncio
import gc
import os
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from ssl import SSLContext

import hypothesis
import pytest
import pytest_asyncio
import uvloop
from blockbuster import BlockBuster

from aiosock.testing import Certificates

LEAVING_SECONDS = 5
PROXY_VARIABLES = {"http_proxy", "https_proxy", "all_proxy", "no_proxy"}

hypothesis.settings.register_profile("default", deadline=None, max_examples=100)
hypothesis.settings.register_profile("fuzz", deadline=None, max_examples=20_000)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Every asynchronous test runs on asyncio's loop and on uvloop."""
    return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


@pytest_asyncio.fixture(autouse=True)
async def orderly(request: pytest.FixtureRequest) -> AsyncIterator[None]:
    """No asynchronous test may block the loop with I/O, or leave a task behind."""
    blockbuster = BlockBuster("aiosock")
    blockbuster.activate()
    try:
        yield
    finally:
        blockbuster.deactivate()
    left = asyncio.all_tasks() - {asyncio.current_task()}
    if left:
        # They may still be on their way out.
        _, left = await asyncio.wait(left, timeout=LEAVING_SECONDS)
    assert not left


@pytest.fixture(autouse=True, scope="session")
def no_proxies_around() -> Iterator[None]:
    """What proxies the machine has is nothing to the tests, nor to the programs that they start."""
    with pytest.MonkeyPatch.context() as patch:
        for name in list(os.environ):
            if name.lower() in PROXY_VARIABLES:
                patch.delenv(name)
        yield


@pytest.fixture(autouse=True, scope="module")
def little_to_collect() -> None:
    """What is there before a module's tests is nothing that they could leave behind, and need not be looked at."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def warn_at_once() -> Iterator[None]:
    """What a test left behind is collected, and so complains, while it can still be told whose it was."""
    yield
    gc.collect()


@pytest.fixture(scope="session")
def certificates() -> Certificates:
    """One authority for all tests."""
    return Certificates()


@pytest.fixture(scope="session")
def server_context(certificates: Certificates) -> SSLContext:
    """A server's context for localhost; made outside of the loop, because that reads and writes files."""
    return certificates.server_context()


@pytest.fixture(scope="session")
def ca_file(certificates: Certificates, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The authority's certificate as a file, for ``verify=``."""
    path = tmp_path_factory.mktemp("ca") / "ca.pem"
    certificates.write_ca(path)
    return str(path)
