"""
A small proxy, as a script for the scripted server: it sends requests in absolute form on, and opens tunnels.

It does no more than tests of programs need; what a proxy may do wrong is scripted by the tests themselves.
"""

from __future__ import annotations

import asyncio
from urllib.parse import urlsplit

from aiosock.testing import Peer, ReceivedRequest, response


async def relay(peer: Peer) -> None:
    """Serve one connection of a client."""
    while (request := await peer.read_request()) is not None:
        if request.method == "CONNECT":
            await _tunnel(peer, request)
            return
        await peer.send(await _forward(request))


async def _forward(request: ReceivedRequest) -> bytes:
    """Return the answer to a request in absolute form; the origin is asked to close after it."""
    url = urlsplit(request.target)
    reader, writer = await asyncio.open_connection(url.hostname, url.port or 80)
    fields = [(name, value) for name, value in request.headers if not name.lower().startswith(("proxy-", "connection"))]
    lines = [f"{request.method} {url._replace(scheme='', netloc='').geturl() or '/'} HTTP/1.1"]
    lines += [f"{name}: {value}" for name, value in [*fields, ("Connection", "close")]]
    writer.write("\r\n".join([*lines, "", ""]).encode() + request.body)
    head = await reader.readuntil(b"\r\n\r\n")
    body = await reader.read(-1)
    writer.close()
    await writer.wait_closed()
    return head + body


async def _tunnel(peer: Peer, request: ReceivedRequest) -> None:
    host, _, port = request.target.rpartition(":")
    try:
        reader, writer = await asyncio.open_connection(host.strip("[]"), int(port))
    except OSError:
        await peer.send(response(502, b"nobody is there"))
        return
    await peer.send(b"HTTP/1.1 200 Connection established\r\n\r\n")

    async def upwards() -> None:
        while data := await peer.read():
            writer.write(data)
            await writer.drain()
        writer.write_eof()

    sending = asyncio.create_task(upwards())
    try:
        while data := await reader.read(65536):
            await peer.send(data)
    finally:
        sending.cancel()
        await asyncio.wait([sending])
        writer.close()
        await writer.wait_closed()
