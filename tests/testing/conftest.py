"""
Clients for the tests of the server and its site: plain streams, with no more HTTP than reading an answer.

The tests of these two use no HTTP library, ours included: this server is what its tests stand on. Those of what
stands in place of the network do use our client.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass
from ssl import SSLContext
from typing import Any

import pytest
import pytest_asyncio

from aiosock.testing import Server


@dataclass
class Client:
    """One raw connection to a server."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def read(self, max_bytes: int = 2**20) -> bytes:
        return await self.reader.read(max_bytes)

    async def rest(self) -> bytes:
        return await self.reader.read()

    async def head(self) -> str:
        return (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")

    async def answer(self, *, to_head: bool = False) -> tuple[str, bytes]:
        """Read one whole answer: its head as it is, its body without framing."""
        head = await self.head()
        if to_head:
            return head, b""
        if length := re.search(r"\r\nContent-Length: (\d+)\r\n", head):
            return head, await self.reader.readexactly(int(length[1]))
        if "\r\nTransfer-Encoding: chunked\r\n" in head:
            return head, b"".join([chunk async for chunk in self.chunks()])
        return head, b""

    async def chunks(self) -> AsyncIterator[bytes]:
        while size := int(await self.reader.readuntil(b"\r\n"), 16):
            yield (await self.reader.readexactly(size + 2))[:-2]
        assert await self.reader.readexactly(2) == b"\r\n"

    def close(self) -> None:
        self.writer.close()

    def vanish(self) -> None:
        self.writer.transport.abort()


Dial = Callable[..., Coroutine[Any, Any, Client]]
Until = Callable[[Callable[[], object]], Coroutine[Any, Any, None]]


async def turn_until(condition: Callable[[], object]) -> None:
    while not condition():  # what is waited for has no event, and needs turns alone
        await asyncio.sleep(0)


@pytest.fixture
def until() -> Until:
    """A function that lets the loop turn until something holds."""
    return turn_until


@pytest_asyncio.fixture
async def dial() -> AsyncIterator[Dial]:
    """A function that connects to a server; what it opened is closed after the test."""
    clients: list[Client] = []

    async def connect(server: Server, context: SSLContext | None = None) -> Client:
        name = None if context is None else "localhost"
        if isinstance(server.address, str):
            streams = await asyncio.open_unix_connection(server.address, ssl=context, server_hostname=name)
        else:
            host, port = server.address
            streams = await asyncio.open_connection(host, port, ssl=context, server_hostname=name)
        clients.append(Client(*streams))
        return clients[-1]

    yield connect
    for client in clients:
        client.vanish()
