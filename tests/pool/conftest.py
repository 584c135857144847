"""The pool's tests run on a loop with a clock of its own, and, where time does not matter, on uvloop too."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

import pytest
import uvloop

from tests.pool.fakes import ClockLoop


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Without time, and with sockets that are not there, the loops need no more than this."""
    return {"clock": ClockLoop, "uvloop": uvloop.new_event_loop}
