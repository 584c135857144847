"""
Tunnels: what is said over an open stream to a proxy until that connects us to the host (CONNECT, or SOCKS).

Whoever calls closes the stream when something here fails.
"""

from __future__ import annotations

import asyncio
import math
from typing import Final

from aiosock.config import Limits
from aiosock.connection.proxy import Credentials, Proxy
from aiosock.errors import AiosockError, NetworkError, ProtocolError, ProxyError
from aiosock.message.response import ERROR_BODY_CHARACTERS, Response
from aiosock.network.stream import Stream
from aiosock.protocol import http1
from aiosock.protocol.http1 import NEED_DATA, BodyData, BodyEnded, RequestHead, ResponseStarted
from aiosock.protocol.socks import Handshake

MAX_REFUSAL_BYTES: Final = 64 * 1024
REFUSAL_SECONDS: Final = 1.0
"""How much of a refusal is read, and for how long: for its words, and so that the connection can be asked again."""

MIN_SECRET_CHARACTERS: Final = 4
"""A proxy's own field whose value is shorter gives nobody away, and would be found in every text."""


class Asker:
    """
    Asks an HTTP proxy for a tunnel, maybe several times, over one connection.

    Args:
        stream: The open stream to the proxy.
        proxy: The proxy.
        credentials: Who we are to it.
        limits: Bounds on the heads of its answers.
    """

    __slots__ = ("_credentials", "_protocol", "_proxy", "asked", "stream")

    def __init__(self, stream: Stream, proxy: Proxy, credentials: Credentials, limits: Limits) -> None:
        self.stream = stream
        self.asked = 0
        self._proxy = proxy
        self._credentials = credentials
        self._protocol = http1.Connection(max_head_bytes=limits.max_header_bytes, max_fields=limits.max_headers)

    @property
    def reusable(self) -> bool:
        """It may be asked again."""
        return self._protocol.reusable

    async def ask(self, target: str, *, last: bool) -> bool:
        """
        Ask once (RFC 9110, 9.3.6), and return whether the tunnel stands; if not, there is a better answer to give.

        Args:
            target: Host and port.
            last: There will be no other time: a demand for credentials is a refusal.

        Raises:
            ProxyError: The proxy refuses.
            NetworkError: The connection broke.
            ProtocolError: The proxy does not answer as HTTP demands.
        """
        self.asked += 1
        value, answer = self._credentials.authorize("CONNECT", target, b"")
        self.stream.write(self._protocol.send_request(_head(self._proxy, target, value)))
        event = await self._receive_head()
        if 200 <= event.status_code < 300:
            self._credentials.informed(event.headers)
            rest = self._protocol.take_rest()
            if rest:
                raise ProxyError(
                    f"the proxy {self._proxy.address} sent {len(rest)} bytes through the tunnel to {target} before "
                    "anything was said"
                )
            return True
        worthwhile = event.status_code == 407 and self._credentials.challenged(event.headers, answer)
        body = await self._receive_refusal()
        if worthwhile and not last:
            return False
        raise _refusal(self._proxy, target, event, body, value or "")

    async def _receive_head(self) -> ResponseStarted:
        protocol = self._protocol
        while not isinstance(event := protocol.next_event(), ResponseStarted):
            if event is NEED_DATA:
                protocol.receive_data(await self.stream.read(math.inf))
        return event

    async def _receive_refusal(self) -> bytes:
        """Return the start of the body, within bounds; that it is cut or stalls is no matter."""
        protocol, body = self._protocol, bytearray()
        deadline = asyncio.get_running_loop().time() + REFUSAL_SECONDS
        try:
            while len(body) < MAX_REFUSAL_BYTES:
                event = protocol.next_event()
                if isinstance(event, BodyData):
                    body += event.data
                elif isinstance(event, BodyEnded):
                    break
                else:
                    protocol.receive_data(await self.stream.read(deadline))
        except AiosockError:
            pass
        return bytes(body[:MAX_REFUSAL_BYTES])


def _head(proxy: Proxy, target: str, authorization: str | None) -> RequestHead:
    """Return the head of CONNECT, with the proxy's own fields and nothing of the request that is meant for the host."""
    fields = list(proxy.headers)
    if authorization is not None:
        fields.insert(0, ("Proxy-Authorization", authorization))
    return RequestHead("CONNECT", target, target, fields)


def _refusal(proxy: Proxy, target: str, event: ResponseStarted, body: bytes, authorization: str) -> ProxyError:
    # Nobody asked for a coding, and what is coded is nothing to show.
    coded = event.transfer_codings or "Content-Encoding" in event.headers
    secrets = _secrets(proxy, authorization)
    reason = event.reason if _shown(event.reason, secrets) else ""
    response = Response(
        event.status_code,
        headers=event.headers,
        content=b"" if coded else body,
        reason=reason,
        http_version=event.http_version,
    )
    status = f"{event.status_code} {reason[:ERROR_BODY_CHARACTERS]}".rstrip()
    said = f"the proxy {proxy.address} refused to connect to {target}: {status}"
    if start := _shown(response.text, secrets):
        said = f"{said}: {start}"
    # What a proxy sends must not steer somebody's terminal.
    error = ProxyError("".join(character if character.isprintable() else " " for character in said))
    error.status_code = event.status_code
    error.response = response
    return error


def _secrets(proxy: Proxy, authorization: str) -> set[str]:
    """Return what says who we are: the password, and what was sent in fields, without their schemes."""
    values = [authorization, *(value for _, value in proxy.headers)]
    words = {value.partition(" ")[2] or value for value in values}
    return {word for word in words if len(word) >= MIN_SECRET_CHARACTERS} | ({proxy.auth[1]} if proxy.auth else set())


def _shown(text: str, secrets: set[str]) -> str:
    """Return the start of what a proxy says; nothing where it repeats who we are, as some show what they were asked."""
    if any(secret and secret in text for secret in secrets):
        return ""
    return text[:ERROR_BODY_CHARACTERS].strip()


async def shake_hands(stream: Stream, handshake: Handshake) -> None:
    """
    Bring a SOCKS handshake to its end.

    Raises:
        ProxyError: The proxy refuses.
        NetworkError: The connection broke.
        ProtocolError: The proxy does not speak this SOCKS.
    """
    stream.write(handshake.begin())
    while not handshake.done:
        data = handshake.receive_data(await stream.read(math.inf))
        if data:
            stream.write(data)


def failed(proxy: Proxy, target: str, error: NetworkError | ProtocolError) -> ProxyError:
    """Return what is raised for a proxy that broke off, or does not speak as it should."""
    return ProxyError(f"the proxy {proxy.address} did not connect to {target}: {error}")
