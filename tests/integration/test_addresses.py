"""Names and addresses from end to end: IPv6, several addresses, one look-up for many."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence

import pytest

import aiosock
from aiosock import Limits, SystemResolver
from aiosock.network import dns
from aiosock.testing import Server, response
from tests.kit.clients import checked_client, settled

OK = response(body=b"ok")


def has_ipv6() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6 loopback")
@pytest.mark.parametrize("host", ["[::1]", "[0:0:0:0:0:0:0:1]"])
async def test_ipv6_literals(host: str) -> None:
    async with Server.answering(OK, host="::1") as server, checked_client() as client:
        answer = await client.get(f"http://{host}:{server.port}/")
        assert answer.text == "ok"
        assert answer.timings.dns is None
        assert answer.connection is not None
        assert answer.connection.remote_address == f"[::1]:{server.port}"
        assert server.requests[0].header("Host") == f"{host}:{server.port}"


async def test_the_second_family_is_tried_when_the_first_does_not_answer() -> None:
    class Both:
        async def resolve(self, host: str, port: int) -> Sequence[str]:
            return ["::1", "127.0.0.1"]

    async with Server.answering(OK) as server, checked_client(resolver=Both()) as client:
        answer = await client.get(f"http://both.example:{server.port}/")
        assert answer.connection is not None
        assert answer.connection.remote_address == f"127.0.0.1:{server.port}"


async def test_many_requests_to_one_name_share_one_look_up(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_up: list[str] = []

    def look_up(host: str) -> list[str]:
        looked_up.append(host)
        return ["127.0.0.1"]

    monkeypatch.setattr(dns, "look_up", look_up)
    limits = Limits(max_keepalive_connections=0)
    async with Server.answering(OK) as server, checked_client(resolver=SystemResolver(), limits=limits) as client:
        url = f"http://shared.example:{server.port}/"
        tasks = [asyncio.create_task(client.get(url)) for _ in range(10)]
        await asyncio.sleep(0)
        tasks[0].cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert isinstance(results[0], asyncio.CancelledError)
        assert all(isinstance(result, aiosock.Response) for result in results[1:])
        assert looked_up == ["shared.example"]
        await settled(client)
