"""
Connections over TLS to a script, and the program that makes rare certificates.
"""

from __future__ import annotations

import ssl
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from ssl import SSLContext

import pytest

from aiosock.network.tcp import connect_tcp
from aiosock.network.tls import TLSStream, start_tls
from aiosock.testing import Peer, Server


async def linger(peer: Peer) -> None:
    await peer.wait_disconnect()


async def greet(peer: Peer) -> None:
    await peer.send(b"hello")
    await peer.wait_disconnect()


async def dial(
    server: Server,
    context: SSLContext,
    name: str = "localhost",
    *,
    session: ssl.SSLSession | None = None,
    on_session: Callable[[TLSStream], None] | None = None,
) -> TLSStream:
    inner = await connect_tcp("127.0.0.1", server.port)
    return await start_tls(inner, context, name, session=session, on_session=on_session)


@asynccontextmanager
async def connected(
    script: Callable[[Peer], object], server_context: SSLContext, client_context: SSLContext
) -> AsyncIterator[TLSStream]:
    """A stream to a script, aborted in the end."""
    async with Server(script, ssl=server_context) as server:  # type: ignore[arg-type]
        stream = await dial(server, client_context)
        yield stream
        stream.abort()


def openssl(*arguments: str | Path) -> None:
    try:
        subprocess.run(["openssl", *arguments], check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("the program openssl is not there")
