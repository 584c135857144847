"""What is said to a proxy over an open stream; the ways through it are in the tests of whole proxies."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

import aiosock
from aiosock.config import Limits
from aiosock.connection.proxy import Credentials, Proxy
from aiosock.connection.tunnel import MAX_REFUSAL_BYTES, Asker, shake_hands
from aiosock.network.tcp import connect_tcp
from aiosock.protocol.socks import Handshake
from aiosock.testing import Peer, Server

TARGET = "a.example:443"
DEMAND = (
    b'HTTP/1.1 407 No\r\nProxy-Authenticate: Digest realm="p", nonce="n", qop="auth"\r\nContent-Length: 2\r\n\r\nno'
)


@asynccontextmanager
async def asking(
    server: Server, limits: Limits | None = None, user: str = "me:secret@", own: tuple[str, str] = ("X-Own", "1")
) -> AsyncIterator[Asker]:
    proxy = Proxy(f"http://{user}127.0.0.1:{server.port}", headers=[own])
    stream = await connect_tcp("127.0.0.1", server.port)
    try:
        yield Asker(stream, proxy, Credentials(proxy), limits or Limits())
    finally:
        stream.abort()


async def test_it_is_asked_twice_over_one_connection() -> None:
    async with Server.answering(DEMAND, b"HTTP/1.1 200 OK\r\n\r\n") as server, asking(server) as asker:
        assert not await asker.ask(TARGET, last=False)
        assert asker.reusable
        assert await asker.ask(TARGET, last=False)
        assert asker.asked == 2
        assert not asker.reusable
        first, second = server.requests
        assert first.raw_head == (
            b"CONNECT a.example:443 HTTP/1.1\r\nHost: a.example:443\r\n"
            b"Proxy-Authorization: Basic bWU6c2VjcmV0\r\nX-Own: 1\r\n\r\n"
        )
        assert [name for name, _ in second.headers] == ["Host", "Proxy-Authorization", "X-Own"]
        assert second.headers[1][1].startswith('Digest username="me", realm="p", nonce="n", uri="a.example:443"')


async def test_the_last_time_a_demand_is_a_refusal() -> None:
    async with Server.answering(DEMAND) as server, asking(server) as asker:
        with pytest.raises(aiosock.ProxyError, match=r"refused to connect to a\.example:443: 407 No: no$") as info:
            await asker.ask(TARGET, last=True)
        assert info.value.status_code == 407


async def test_a_refusal_that_repeats_our_credentials_is_not_shown() -> None:
    async def script(peer: Peer) -> None:
        request = await peer.read_head()
        assert request is not None
        answer = b"HTTP/1.1 500 No\r\nContent-Length: %d\r\n\r\n" % len(request.raw_head)
        await peer.send(answer + request.raw_head)

    async with Server(script) as server, asking(server) as asker:
        with pytest.raises(aiosock.ProxyError, match="500 No$"):
            await asker.ask(TARGET, last=True)
    async with Server(script) as server, asking(server, user="") as asker:
        with pytest.raises(aiosock.ProxyError, match="500 No: CONNECT a.example:443"):
            await asker.ask(TARGET, last=True)


@pytest.mark.parametrize("said", ["secret", "bWU6c2VjcmV0", "XyZzY", "abra cadabra"])
@pytest.mark.parametrize("where", ["reason", "body"])
async def test_no_words_of_a_refusal_give_away_who_we_are(where: str, said: str) -> None:
    words = f"do not know {said}, go away"
    reason, body = (words, "") if where == "reason" else ("No", words)
    answer = f"HTTP/1.1 500 {reason}\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()
    own = ("X-Key", said) if "cad" in said else ("Proxy-Authorization", f"Bearer {said}")
    user = "" if said == "XyZzY" else "me:secret@"
    async with Server.answering(answer) as server:
        async with asking(server, user=user, own=own) as asker:
            with pytest.raises(aiosock.ProxyError, match=f"443: 500{'' if where == 'reason' else ' No'}$") as info:
                await asker.ask(TARGET, last=True)
            assert info.value.response is not None
        # Who is somebody else is told.
        async with asking(server, user="") as asker:
            with pytest.raises(aiosock.ProxyError, match=f"{said}, go away$"):
                await asker.ask(TARGET, last=True)


async def test_a_long_reason_is_cut() -> None:
    answer = b"HTTP/1.1 500 " + b"x" * 5000 + b"\r\nContent-Length: 0\r\n\r\n"
    async with Server.answering(answer) as server, asking(server) as asker:
        with pytest.raises(aiosock.ProxyError, match="500 x{200}$"):
            await asker.ask(TARGET, last=True)


async def test_a_refusal_without_end_is_not_read_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aiosock.connection.tunnel.REFUSAL_SECONDS", math.inf)

    async def script(peer: Peer) -> None:
        await peer.read_head()
        await peer.send(b"HTTP/1.1 500 No\r\n\r\n")
        while True:
            await peer.send(b"x" * 10_000)

    async with Server(script) as server, asking(server) as asker:
        with pytest.raises(aiosock.ProxyError, match="500 No: x{200}$") as info:
            await asker.ask(TARGET, last=True)
        assert info.value.response is not None
        assert info.value.response.content == b"x" * MAX_REFUSAL_BYTES


async def test_a_refusal_whose_body_comes_later_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aiosock.connection.tunnel.REFUSAL_SECONDS", 60.0)

    async def script(peer: Peer) -> None:
        await peer.read_head()
        await peer.send(b"HTTP/1.1 500 No\r\nContent-Length: 4\r\n\r\n")
        for _ in range(100):
            await asyncio.sleep(0)
        await peer.send(b"late")

    async with Server(script) as server, asking(server) as asker:
        with pytest.raises(aiosock.ProxyError, match="500 No: late$"):
            await asker.ask(TARGET, last=True)


@pytest.mark.parametrize("status", [300, 304, 399, 599])
async def test_all_but_2xx_is_a_refusal(status: int) -> None:
    answer = f"HTTP/1.1 {status} No\r\nContent-Length: 0\r\n\r\n".encode()
    async with Server.answering(answer) as server, asking(server) as asker:
        with pytest.raises(aiosock.ProxyError, match=f"{status} No$") as info:
            await asker.ask(TARGET, last=False)
        assert info.value.status_code == status


async def test_the_next_nonce_may_come_with_the_tunnel() -> None:
    opened = b'HTTP/1.1 200 OK\r\nProxy-Authentication-Info: nextnonce="next"\r\n\r\n'
    async with Server.answering(DEMAND, opened) as server, asking(server) as asker:
        assert not await asker.ask(TARGET, last=False)
        assert await asker.ask(TARGET, last=False)
        value, _ = asker._credentials.authorize("CONNECT", TARGET, b"")
        assert value is not None
        assert 'nonce="next"' in value


async def test_the_limits_hold_for_its_answers() -> None:
    answer = b"HTTP/1.1 200 OK\r\nA: " + b"x" * 100 + b"\r\n\r\n"
    async with Server.answering(answer) as server, asking(server, Limits(max_header_bytes=100)) as asker:
        with pytest.raises(aiosock.HeadTooLarge, match="100"):
            await asker.ask(TARGET, last=False)
    answer = b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 5 + b"\r\n"
    async with Server.answering(answer) as server, asking(server, Limits(max_headers=4)) as asker:
        with pytest.raises(aiosock.HeadTooLarge, match="5 fields"):
            await asker.ask(TARGET, last=False)


async def test_socks_in_single_bytes() -> None:
    heard: list[bytes] = []

    async def script(peer: Peer) -> None:
        for answer in (b"\x05\x02", b"\x01\x00", b"\x05\x00\x00\x03\x01x\x00\x00"):
            heard.append(await peer.read())
            await peer.send_pieces(*(bytes([byte]) for byte in answer))
        await peer.wait_disconnect()

    async with Server(script) as server:
        stream = await connect_tcp("127.0.0.1", server.port)
        await shake_hands(stream, Handshake("socks5", "a.example", 80, ("me", "secret")))
        stream.abort()
    assert heard == [b"\x05\x02\x00\x02", b"\x01\x02me\x06secret", b"\x05\x01\x00\x03\x09a.example\x00\x50"]
