"""What is about time runs on a loop with a clock of its own; all else on both real loops, as everywhere."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

import pytest
import uvloop

from tests.pool.fakes import ClockLoop


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """The clock for tests that are marked `tests.pool.fakes.timed`."""
    marker = item.get_closest_marker("asyncio")
    if marker is not None and marker.kwargs.get("loop_factories") == ["clock"]:
        return {"clock": ClockLoop}
    return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
