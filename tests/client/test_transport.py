"""The network as a transport: a request of one's own, without a client's defaults."""

from __future__ import annotations

import pytest

import aiosock
from aiosock import Limits, Request, SystemResolver
from aiosock.client.transport import NetworkTransport
from aiosock.network.tls import TLSSettings
from aiosock.testing import Server, response


def make_transport() -> NetworkTransport:
    return NetworkTransport(limits=Limits(), resolver=SystemResolver(), tls=TLSSettings(), local_address=None, uds=None)


async def test_a_transport_sends_a_request_as_it_is() -> None:
    async with Server.answering(response(body=b"ok")) as server:
        transport = make_transport()
        answer = await transport.send(Request("GET", server.url, headers={"X": "1"}))
        assert await answer.read() == b"ok"
        assert [name for name, _ in server.requests[0].headers] == ["Host", "X"]
        await transport.close()
        with pytest.raises(aiosock.ClientClosed):
            await transport.send(Request("GET", server.url))


async def test_a_server_name_that_is_no_text_is_refused() -> None:
    transport = make_transport()
    with pytest.raises(aiosock.UsageError, match="server_name"):
        await transport.send(Request("GET", "https://127.0.0.1:1/", extensions={"server_name": 5}))
    await transport.close()


async def test_the_zone_of_an_address_is_for_connecting_alone() -> None:
    transport = make_transport()
    origin = transport._origin(Request("GET", "https://[fe80::1%25eth0]/"))
    assert (origin.host, origin.server_name) == ("fe80::1%eth0", "fe80::1")
    assert Request("GET", "https://[fe80::1%25eth0]/").location.authority == "[fe80::1]"
    await transport.close()
