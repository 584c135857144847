"""
The fixtures for wires and time; see `tests.network.wire`.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from itertools import product
from pathlib import Path
from ssl import SSLContext

import pytest
import pytest_asyncio

from aiosock.network.stream import Stream
from aiosock.network.tcp import connect_tcp, connect_unix
from aiosock.network.tls import start_tls
from aiosock.testing import Certificates, Peer, Server
from tests.network.wire import Clock, WatchedSocket, Wire

ALL_WIRES = [(kind, road) for road, kind in product(("registered", "portable"), ("tcp", "unix", "tls"))]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "wire" in metafunc.fixturenames:
        metafunc.parametrize("wire", getattr(metafunc.function, "wires", ALL_WIRES), indirect=True, ids="-".join)


@pytest.fixture(scope="session")
def client_context(certificates: Certificates) -> SSLContext:
    """A client's context that trusts the authority of the tests."""
    return certificates.client_context()


@pytest_asyncio.fixture
async def wire(
    request: pytest.FixtureRequest, tmp_path: Path, server_context: SSLContext, client_context: SSLContext
) -> AsyncIterator[Wire]:
    """A server, and the way to open streams to it."""
    kind, road = request.param
    portable = road == "portable"
    peers: asyncio.Queue[Peer] = asyncio.Queue()

    async def hand_over(peer: Peer) -> None:
        peers.put_nowait(peer)
        await asyncio.Event().wait()

    async def connect() -> Stream:
        if kind == "unix":
            return await connect_unix(str(server.address), portable=portable)
        stream = await connect_tcp("127.0.0.1", server.port, portable=portable)
        return stream if kind == "tcp" else await start_tls(stream, client_context, "localhost")

    uds = tmp_path / "socket" if kind == "unix" else None
    async with Server(hand_over, ssl=server_context if kind == "tls" else None, uds=uds) as server:
        wire = Wire(kind, portable, connect, peers)
        yield wire
        for stream in wire.streams:
            stream.abort()


@pytest_asyncio.fixture
async def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The loop's clock, to be moved on by the test; a test that needs its timers moved runs on asyncio's loop."""
    clock = Clock(monkeypatch)
    if not clock.moves_timers:
        pytest.skip("uvloop's timers follow a clock that cannot be set")
    return clock


@pytest.fixture
def pair() -> Iterator[tuple[WatchedSocket, socket.socket]]:
    """Two connected sockets, the first one watched."""
    ours, theirs = socket.socketpair()
    watched = WatchedSocket(fileno=ours.detach())
    watched.asked = []
    for sock in (watched, theirs):
        sock.setblocking(False)
    with closing(watched), closing(theirs):
        yield watched, theirs
