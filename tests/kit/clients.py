"""
Clients for tests: checked after every change, and checked once more at their end.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiosock
from aiosock.client.transport import NetworkTransport


def transport_of(client: aiosock.Client) -> NetworkTransport:
    """Return a client's transport, bound to the running loop."""
    sender = client._sender
    sender.open()
    assert isinstance(sender._transport, NetworkTransport)
    return sender._transport


def check(client: aiosock.Client) -> None:
    """Check that the pool's books are true, and that nothing is in use or waited for."""
    pool = transport_of(client).pool
    pool.check_invariant()
    assert (pool.active, pool.dialling, pool.waiting) == (0, 0, 0), repr(pool)


async def settled(client: aiosock.Client) -> None:
    """Wait until what was called off is gone, and `check`."""
    while client.pool.active or client.pool.dialling:
        await asyncio.sleep(0)
    check(client)


@asynccontextmanager
async def checked_client(**options: Any) -> AsyncIterator[aiosock.Client]:
    """A client whose pool checks its invariant after every change."""
    async with aiosock.Client(**options) as client:
        transport_of(client).pool.debug = True
        yield client
        transport_of(client).pool.check_invariant()
