"""What tests of the whole client share: a clock that they can move on."""

from __future__ import annotations

import pytest
import pytest_asyncio

from tests.network.wire import Clock


@pytest_asyncio.fixture
async def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The loop's clock, to be moved on by the test instead of waiting; it moves timers on asyncio's loop."""
    clock = Clock(monkeypatch)
    if not clock.moves_timers:
        pytest.skip("uvloop's timers follow a clock that cannot be set")
    return clock
