"""https from end to end: trust, resumption, truncation, and connections that are reused through TLS."""

from __future__ import annotations

import asyncio
from pathlib import Path
from ssl import SSLContext

import pytest

import aiosock
from aiosock import Limits
from aiosock.testing import Certificates, Peer, Server, response
from tests.kit.clients import checked_client, settled

OK = response(body=b"ok")
NO_KEEP = Limits(max_keepalive_connections=0)


class Pinned:
    """Resolves every name to loopback."""

    async def resolve(self, host: str, port: int) -> list[str]:
        return ["127.0.0.1"]


async def test_https_with_the_facts_of_the_connection(server_context: SSLContext, ca_file: str) -> None:
    async with Server.answering(OK, ssl=server_context) as server, checked_client(verify=ca_file) as client:
        for reused in (False, True):
            answer = await client.get(server.url)
            connection = answer.connection
            assert connection is not None
            assert (connection.reused, connection.alpn, connection.tls_version) == (reused, "http/1.1", "TLSv1.3")
            assert connection.cipher
            assert (answer.timings.tls is None) is reused
        assert server.connections == 1


async def test_an_unknown_authority_is_not_trusted(server_context: SSLContext) -> None:
    async with Server.answering(OK, ssl=server_context) as server:
        async with checked_client() as client:
            with pytest.raises(aiosock.TLSError, match="certificate of localhost is not trusted: .*issuer"):
                await client.get(server.url)
            await settled(client)
        async with checked_client(verify=False) as client:
            assert (await client.get(server.url)).text == "ok"


async def test_a_wrong_host_and_an_expired_certificate_are_told_apart(certificates: Certificates, ca_file: str) -> None:
    wrong = await asyncio.to_thread(certificates.server_context, "other.example")
    expired = await asyncio.to_thread(lambda: certificates.server_context("localhost", expired=True))
    for context, words in ((wrong, "localhost is not trusted: Hostname mismatch"), (expired, "expired")):
        async with Server.answering(OK, ssl=context) as server, checked_client(verify=ca_file) as client:
            with pytest.raises(aiosock.TLSError, match=words):
                await client.get(f"https://localhost:{server.port}/")
            await settled(client)


async def test_an_ip_address_is_verified_too(certificates: Certificates, ca_file: str) -> None:
    named = await asyncio.to_thread(certificates.server_context, "localhost")
    addressed = await asyncio.to_thread(certificates.server_context, "127.0.0.1")
    for context, trusted in ((named, False), (addressed, True)):
        async with Server.answering(OK, ssl=context) as server, checked_client(verify=ca_file) as client:
            url = f"https://127.0.0.1:{server.port}/"
            if trusted:
                assert (await client.get(url)).text == "ok"
            else:
                with pytest.raises(aiosock.TLSError, match=r"127\.0\.0\.1 is not trusted"):
                    await client.get(url)


async def test_a_client_certificate_is_shown(certificates: Certificates, ca_file: str, tmp_path: Path) -> None:
    context = await asyncio.to_thread(lambda: certificates.server_context(client_ca=True))
    cert = await asyncio.to_thread(lambda: certificates.client_certificate().write(tmp_path))
    async with Server.answering(OK, ssl=context) as server:
        async with checked_client(verify=ca_file, cert=cert) as client:
            assert (await client.get(server.url)).text == "ok"
        async with checked_client(verify=ca_file) as client:
            with pytest.raises((aiosock.TLSError, aiosock.NetworkError, aiosock.RemoteProtocolError)):
                await client.get(server.url)
            await settled(client)


@pytest.mark.parametrize("version", ["TLSv1.2", "TLSv1.3"])
async def test_sessions_are_resumed(certificates: Certificates, ca_file: str, version: str) -> None:
    from ssl import TLSVersion

    number = TLSVersion.TLSv1_2 if version == "TLSv1.2" else TLSVersion.TLSv1_3
    context = await asyncio.to_thread(lambda: certificates.server_context(tls_version=number))
    resumed: list[bool] = []

    async def script(peer: Peer) -> None:
        assert peer.ssl_object is not None
        await peer.read_request()
        resumed.append(bool(peer.ssl_object.session_reused))
        await peer.send(OK)
        await peer.wait_disconnect()

    async with Server(script, ssl=context) as server, checked_client(verify=ca_file, limits=NO_KEEP) as client:
        for _ in range(4):
            answer = await client.get(server.url)
            assert answer.connection is not None
            assert answer.connection.tls_version == version
            assert answer.connection.session_reused is resumed[-1]
        assert resumed == [False, True, True, True]


async def test_a_session_never_crosses_names_or_clients(certificates: Certificates, ca_file: str) -> None:
    context = await asyncio.to_thread(certificates.server_context, "one.example", "two.example")
    resumed: list[bool] = []

    async def script(peer: Peer) -> None:
        assert peer.ssl_object is not None
        await peer.read_request()
        resumed.append(bool(peer.ssl_object.session_reused))
        await peer.send(OK)
        await peer.wait_disconnect()

    options = {"verify": ca_file, "limits": NO_KEEP, "resolver": Pinned()}
    async with Server(script, ssl=context) as server, checked_client(**options) as client:
        for name in ("one.example", "one.example", "two.example", "two.example"):
            await client.get(f"https://{name}:{server.port}/")
        assert resumed == [False, True, False, True]
        # A name that the certificate is not for stays refused, although sessions with this very server are kept.
        with pytest.raises(aiosock.TLSError, match="three.example"):
            await client.get(f"https://three.example:{server.port}/")
        async with checked_client(**options) as other:
            await other.get(f"https://one.example:{server.port}/")
        assert resumed[4:] == [False]


async def test_the_server_name_may_be_given(certificates: Certificates, ca_file: str) -> None:
    context = await asyncio.to_thread(certificates.server_context, "service.example")
    async with Server.answering(OK, ssl=context) as server, checked_client(verify=ca_file) as client:
        url = f"https://127.0.0.1:{server.port}/"
        assert (await client.get(url, extensions={"server_name": "service.example"})).text == "ok"
        with pytest.raises(aiosock.TLSError):
            await client.get(url)


UNTIL_CLOSE = b"HTTP/1.1 200 OK\r\n\r\nall of it"


@pytest.mark.parametrize("cut", [True, False])
async def test_a_body_until_close_needs_a_close_notify(cut: bool, server_context: SSLContext, ca_file: str) -> None:
    async def script(peer: Peer) -> None:
        await peer.read_request()
        await peer.send(UNTIL_CLOSE)
        if cut:
            peer.cut()
        else:
            await peer.close()

    async with Server(script, ssl=server_context) as server, checked_client(verify=ca_file) as client:
        if cut:
            with pytest.raises(aiosock.IncompleteBody, match="after 9 bytes .*close_notify"):
                await client.get(server.url)
        else:
            assert (await client.get(server.url)).text == "all of it"
        await settled(client)


async def test_a_body_of_known_length_needs_none(server_context: SSLContext, ca_file: str) -> None:
    async def script(peer: Peer) -> None:
        await peer.read_request()
        await peer.send(OK)
        peer.cut()

    async with Server(script, ssl=server_context) as server, checked_client(verify=ca_file) as client:
        for _ in range(3):
            assert (await client.get(server.url)).text == "ok"


async def test_a_kept_connection_that_is_cut_is_replaced(server_context: SSLContext, ca_file: str) -> None:
    async def script(peer: Peer) -> None:
        await peer.read_request()
        await peer.send(OK)
        await peer.read_request()
        if peer.number:
            await peer.send(OK)
        else:
            peer.cut()

    async with Server(script, ssl=server_context) as server, checked_client(verify=ca_file) as client:
        assert (await client.get(server.url)).text == "ok"
        assert (await client.get(server.url)).text == "ok"
        assert server.connections == 2
        await settled(client)


async def test_large_bodies_both_ways(server_context: SSLContext, ca_file: str) -> None:
    size = 3_000_000

    async def script(peer: Peer) -> None:
        while (request := await peer.read_request()) is not None:
            await peer.send(response(body=request.body))

    async with Server(script, ssl=server_context) as server, checked_client(verify=ca_file) as client:
        for content in (b"x" * size, [b"x" * 1000] * (size // 1000)):
            answer = await client.post(server.url, content=content)
            assert len(answer.content) == size
        assert server.connections == 1


async def test_a_context_is_used_as_it_is(certificates: Certificates, server_context: SSLContext) -> None:
    context = await asyncio.to_thread(certificates.client_context)
    before = (context.verify_mode, context.check_hostname, context.options, context.minimum_version)
    async with Server.answering(OK, ssl=server_context) as server, checked_client(verify=context) as client:
        answer = await client.get(server.url)
        assert answer.text == "ok"
    assert (context.verify_mode, context.check_hostname, context.options, context.minimum_version) == before


async def test_a_file_that_cannot_be_used_is_named(server_context: SSLContext, tmp_path: Path) -> None:
    path = tmp_path / "empty.pem"
    await asyncio.to_thread(path.write_text, "nothing")
    async with Server.answering(OK, ssl=server_context) as server:
        for options in ({"verify": path}, {"verify": tmp_path / "missing.pem"}, {"cert": path}):
            async with checked_client(**options) as client:
                with pytest.raises(aiosock.UsageError, match=r"(empty|missing)\.pem"):
                    await client.get(server.url)
                await settled(client)
