"""A connection by itself: what it can carry, and what it tells."""

from __future__ import annotations

import asyncio

from aiosock.config import Limits
from aiosock.connection.http1 import Connection, DialTimes
from aiosock.network.tcp import connect_tcp
from aiosock.testing import Peer, Server, response


async def test_a_connection_carries_one_request_at_a_time() -> None:
    async with Server.answering(response()) as server:
        connection = Connection(await connect_tcp("127.0.0.1", server.port), Limits(), DialTimes(None, 0.0, None))
        assert (connection.capacity, connection.requests_served) == (1, 0)
        connection.occupy()
        assert (connection.capacity, connection.requests_served) == (0, 1)
        connection.vacate()
        assert connection.capacity == 1
        info = connection.info()
        assert (info.reused, info.requests_served, info.tls_version) == (False, 1, None)
        assert info.remote_address == f"127.0.0.1:{server.port}"
        assert info.local_address.startswith("127.0.0.1:")
        assert connection.keep_alive_seconds is None
        assert repr(connection) == f"<Connection {info.remote_address} served=1>"
        connection.abort()


async def test_a_connection_is_dead_once_its_peer_is_gone() -> None:
    gate = asyncio.Event()

    async def script(peer: Peer) -> None:
        await gate.wait()
        peer.reset()

    async with Server(script) as server:
        connection = Connection(await connect_tcp("127.0.0.1", server.port), Limits(), DialTimes(None, 0.0, None))
        assert connection.is_alive()
        gate.set()
        while connection.is_alive():
            await asyncio.sleep(0)
        connection.close()
        assert not connection.is_alive()
