"""
The fixtures for wires and time; see `tests.network.wire`.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
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
from aiosock.network.trust import shared_context
from aiosock.testing import Certificates, Peer, Server
from tests.network.secure import openssl
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


@pytest.fixture(autouse=True)
def no_inheritance(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Neither the environment of whoever runs the tests nor another test's contexts have a say."""
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR", "SSLKEYLOGFILE"):
        monkeypatch.delenv(name, raising=False)
    shared_context.cache_clear()
    yield
    shared_context.cache_clear()


@pytest.fixture(scope="session")
def contexts(certificates: Certificates, self_signed: SSLContext) -> dict[str, SSLContext]:
    """Servers' contexts, good and bad; made outside of the loop, as that reads and writes files."""
    return {
        "good": certificates.server_context(),
        "other name": certificates.server_context("other.example"),
        "addresses": certificates.server_context("127.0.0.1", "::1"),
        "expired": certificates.server_context(expired=True),
        "unknown authority": Certificates().server_context(),
        "self-signed": self_signed,
        "TLS 1.2": certificates.server_context(tls_version=ssl.TLSVersion.TLSv1_2),
        "TLS 1.3": certificates.server_context(tls_version=ssl.TLSVersion.TLSv1_3),
        "no ALPN": certificates.server_context(alpn=None),
        "wants a certificate": certificates.server_context(client_ca=True),
        "wants a certificate, TLS 1.2": certificates.server_context(client_ca=True, tls_version=ssl.TLSVersion.TLSv1_2),
    }


@pytest.fixture(scope="session")
def self_signed(tmp_path_factory: pytest.TempPathFactory) -> SSLContext:
    """A server whose certificate vouches for itself."""
    folder = tmp_path_factory.mktemp("self")
    certificate, key = folder / "cert.pem", folder / "key.pem"
    subject = ("-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost")
    openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", certificate, *subject)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context
