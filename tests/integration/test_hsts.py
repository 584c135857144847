"""HSTS over real connections: what is asked for in clear goes out over TLS alone, or not at all (RFC 6797, 8)."""

from __future__ import annotations

import logging
from pathlib import Path
from ssl import SSLContext

import pytest

import aiosock
from aiosock import HSTS
from aiosock.testing import Peer, Server, response
from tests.kit.clients import check, checked_client

STRICT = ("Strict-Transport-Security", "max-age=60; includeSubDomains")


class Loopback:
    """Resolves every name to loopback."""

    async def resolve(self, host: str, port: int) -> list[str]:
        return ["127.0.0.1"]


def plain(server: Server) -> str:
    """The same URL over http."""
    return f"http://localhost:{server.port}"


async def test_a_cookie_for_https_alone_goes_along_when_a_request_is_upgraded(
    server_context: SSLContext, ca_file: str
) -> None:
    answer = response(200, b"ok", [STRICT, ("Set-Cookie", "token=1; Secure")])
    async with (
        Server.answering(answer, ssl=server_context) as server,
        checked_client(middleware=[HSTS()], verify=ca_file, cookies={}) as client,
    ):
        await client.get(server.url)
        got = await client.get(f"{plain(server)}/a?b#c")
        assert (got.url.scheme, server.requests[1].target) == ("https", "/a?b")
        assert server.requests[1].header("Cookie") == "token=1"
        check(client)


async def test_a_redirect_into_the_clear_is_upgraded_before_a_byte_of_it_is_sent(
    server_context: SSLContext, ca_file: str
) -> None:
    async def script(peer: Peer) -> None:
        while request := await peer.read_request():
            away = [STRICT, ("Location", f"{plain(peer.server)}/b")]
            await peer.send(response(302, b"", away) if request.target == "/a" else response(200, b"ok"))

    async with Server(script, ssl=server_context) as server:
        async with checked_client(middleware=[HSTS()], verify=ca_file) as client:
            got = await client.get(f"{server.url}/a")
            assert (got.text, got.url.scheme) == ("ok", "https")
            check(client)
        assert server.connections == 1


async def test_what_is_given_for_a_host_goes_along_when_it_redirects_over_https(
    server_context: SSLContext, ca_file: str
) -> None:
    async def script(peer: Peer) -> None:
        while request := await peer.read_request():
            await peer.send(
                response(302, b"", [STRICT, ("Location", f"{peer.server.url}/b")])
                if request.target == "/a"
                else response(200, b"ok", [STRICT])
            )

    async with Server(script, ssl=server_context) as server:
        async with checked_client(middleware=[HSTS()], verify=ca_file) as client:
            await client.get(f"{server.url}/learn")
            got = await client.get(f"{plain(server)}/a", auth=("u", "p"), cookies={"a": "b"})
            assert got.text == "ok"
            check(client)
        assert [request.target for request in server.requests] == ["/learn", "/a", "/b"]
        for request in server.requests[1:]:
            assert (request.header("Authorization"), request.header("Cookie")) == ("Basic dTpw", "a=b")


async def test_a_server_that_always_redirects_into_the_clear_is_given_up(
    server_context: SSLContext, ca_file: str
) -> None:
    async def script(peer: Peer) -> None:
        while await peer.read_request():
            await peer.send(response(302, b"", [STRICT, ("Location", f"{plain(peer.server)}/")]))

    async with (
        Server(script, ssl=server_context) as server,
        checked_client(middleware=[HSTS()], verify=ca_file, max_redirects=3) as client,
    ):
        with pytest.raises(aiosock.TooManyRedirects):
            await client.get(server.url)
        check(client)


async def test_a_host_below_with_a_certificate_of_another_is_not_reached_in_clear_either(
    server_context: SSLContext, ca_file: str
) -> None:
    async with Server.answering(response(200, b"ok", [STRICT]), ssl=server_context) as server:
        async with checked_client(middleware=[HSTS()], verify=ca_file, resolver=Loopback()) as client:
            await client.get(server.url)
            with pytest.raises(aiosock.TLSError):
                await client.get(f"http://below.localhost:{server.port}/")
        assert len(server.requests) == 1


async def test_what_was_learned_is_known_to_the_next_client(
    server_context: SSLContext, ca_file: str, tmp_path: Path
) -> None:
    first, second = HSTS(), HSTS()
    async with Server.answering(response(200, b"ok", [STRICT]), ssl=server_context) as server:
        async with checked_client(middleware=[first], verify=ca_file) as client:
            await client.get(server.url)
        await first.save(tmp_path / "hsts")
        await second.load(tmp_path / "hsts")
        async with checked_client(middleware=[second], verify=ca_file) as client:
            assert (await client.get(plain(server))).url.scheme == "https"


async def test_a_malformed_field_is_ignored_with_a_word(
    server_context: SSLContext, ca_file: str, caplog: pytest.LogCaptureFixture
) -> None:
    bad = response(200, b"ok", [("Strict-Transport-Security", "max-age=1; max-age=2")])
    hsts = HSTS()
    async with (
        Server.answering(bad, ssl=server_context) as server,
        checked_client(middleware=[hsts], verify=ca_file) as client,
    ):
        with caplog.at_level(logging.DEBUG, "aiosock.middleware"):
            assert (await client.get(f"{server.url}/?key=secret")).text == "ok"
    assert len(hsts) == 0
    assert "ignored a malformed Strict-Transport-Security field of localhost" in caplog.messages
    assert "secret" not in caplog.text
