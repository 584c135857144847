"""From an origin to a connection."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from ssl import SSLContext

import pytest

import aiosock
from aiosock.config import Limits
from aiosock.connection.dial import MAX_ASKING, MAX_PROXIES, Dialer, Origin, is_address
from aiosock.connection.guard import Guard
from aiosock.connection.http1 import Connection
from aiosock.connection.proxy import Proxy
from aiosock.network.trust import TLSSettings
from aiosock.testing import Certificates, Peer, Server, response


class Pinned:
    """Resolves every name to the same addresses."""

    def __init__(self, *addresses: str) -> None:
        self._addresses = addresses

    async def resolve(self, host: str, port: int) -> Sequence[str]:
        return self._addresses


def origin_of(server: Server, host: str = "name.example", tls: TLSSettings | None = None) -> Origin:
    return Origin("https" if tls else "http", host, server.port, "localhost" if tls else "", tls, None, None)


async def test_stages_are_reported_and_timed(server_context: SSLContext, ca_file: str) -> None:
    stages: list[str] = []
    async with Server.answering(response(), ssl=server_context) as server:
        dialer = Dialer(Pinned("127.0.0.1"), Limits())
        connection = await dialer.dial(origin_of(server, tls=TLSSettings(ca_file)), stages.append)
        assert stages == [
            "resolving name.example",
            f"connecting to 127.0.0.1:{server.port}",
            f"in the TLS handshake with localhost at 127.0.0.1:{server.port}",
        ]
        assert None not in connection.times
        assert connection.capacity == 1
        connection.close()


async def test_an_address_is_not_resolved() -> None:
    async with Server.answering(response()) as server:
        dialer = Dialer(Pinned(), Limits())
        connection = await dialer.dial(origin_of(server, "127.0.0.1"), lambda _: None)
        assert connection.times.dns is None
        connection.close()


async def test_a_dead_address_is_stepped_over() -> None:
    async with Server.answering(response()) as server:
        dialer = Dialer(Pinned("127.0.0.9", "127.0.0.1"), Limits())
        connection = await dialer.dial(origin_of(server), lambda _: None)
        assert connection.info().remote_address == f"127.0.0.1:{server.port}"
        connection.close()


async def test_a_resolver_that_finds_nothing_is_told_of() -> None:
    dialer = Dialer(Pinned(), Limits())
    with pytest.raises(aiosock.DNSError, match="name.example has no address"):
        await dialer.dial(Origin("http", "name.example", 80, "", None, None, None), lambda _: None)


async def test_when_all_addresses_fail_each_is_listed() -> None:
    async with Server.answering(response()) as server:
        port = server.port
    dialer = Dialer(Pinned("127.0.0.1", "127.0.0.9"), Limits())
    origin = Origin("http", "name.example", port, "", None, None, None)
    with pytest.raises(aiosock.ConnectError, match=rf"127\.0\.0\.1:{port}: .*; 127\.0\.0\.9:{port}: "):
        await dialer.dial(origin, lambda _: None)


async def test_a_dial_that_is_cancelled_while_the_context_is_built_closes_its_socket(
    server_context: SSLContext,
) -> None:
    class Slow(TLSSettings):
        async def context(self) -> SSLContext:
            await asyncio.get_running_loop().create_future()
            raise AssertionError

    async with Server.answering(response()) as server:
        dialer = Dialer(Pinned("127.0.0.1"), Limits())
        task = asyncio.ensure_future(dialer.dial(origin_of(server, tls=Slow()), lambda _: None))
        while not server.connections:
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        while server.open_connections:
            await asyncio.sleep(0)


async def test_one_session_serves_until_it_is_refused(certificates: Certificates, ca_file: str) -> None:
    dialer = Dialer(Pinned("127.0.0.1"), Limits())
    contexts = [await asyncio.to_thread(certificates.server_context) for _ in range(2)]
    tls = TLSSettings(ca_file)
    kept: list[object] = []

    async def greet(server: Server, connection: Connection) -> None:
        assert await connection.stream.read(math.inf) == b"hello"
        connection.close()
        kept.append(dialer._sessions[origin_of(server, tls=tls)])

    async def hello(peer: Peer) -> None:
        await peer.send(b"hello")
        await peer.wait_disconnect()

    async with Server(hello, ssl=contexts[0]) as server:
        # Two at once, neither of which can resume the other's; then one that does.
        pair = [await dialer.dial(origin_of(server, tls=tls), lambda _: None) for _ in range(2)]
        for connection in pair:
            await greet(server, connection)
        third = await dialer.dial(origin_of(server, tls=tls), lambda _: None)
        await greet(server, third)
        assert [connection.info().session_reused for connection in (*pair, third)] == [False, False, True]
        assert kept[0] is kept[1] is kept[2]
        # The same server with other keys for its tickets.
        server._ssl = contexts[1]
        await greet(server, await dialer.dial(origin_of(server, tls=tls), lambda _: None))
        assert kept[3] is not kept[0]


@pytest.mark.parametrize(
    ("host", "expected"),
    [("127.0.0.1", True), ("::1", True), ("fe80::1%eth0", True), ("example.com", False), ("1.2.3", False)],
)
def test_what_is_an_address(host: str, expected: bool) -> None:
    assert is_address(host) is expected


async def test_guards_see_all_addresses_before_the_first_is_connected_to() -> None:
    async with Server.answering(response()) as server:
        plain = origin_of(server)
        ours, strict = Guard(allow_private=True), Guard()
        for addresses in (["127.0.0.1"], ["127.0.0.1", "8.8.8.8"], ["::ffff:127.0.0.1"]):
            dialer = Dialer(Pinned(*addresses), Limits())
            for guards in ((strict,), (ours, strict), (strict, ours)):
                with pytest.raises(aiosock.BlockedAddress, match=f"the guard refuses {plain.host}: .*127.0.0.1"):
                    await dialer.dial(plain._replace(guards=guards), lambda _: None)
        assert not server.connections
        connection = await Dialer(Pinned("127.0.0.1"), Limits()).dial(plain._replace(guards=(ours,)), lambda _: None)
        connection.close()


async def test_an_address_in_the_origin_is_guarded_as_well() -> None:
    dialer = Dialer(Pinned(), Limits())
    with pytest.raises(aiosock.BlockedAddress, match="the guard refuses ::1%lo: it is loopback"):
        await dialer.dial(Origin("http", "::1%lo", 9, "", None, None, None, None, (Guard(),)), lambda _: None)


def test_what_was_opened_with_another_guard_is_another_origin() -> None:
    plain = Origin("http", "a.example", 80, "", None, None, None)
    origins = [plain, *(plain._replace(guards=guards) for guards in ((Guard(),), (Guard(ports=[80]),)))]
    assert len(set(origins)) == 3
    assert plain._replace(guards=(Guard(),)) == origins[1]


async def test_requests_on_all_its_connections_leave_by_one_outbox() -> None:
    async with Server.answering(response()) as server:
        dialer = Dialer(Pinned("127.0.0.1"), Limits())
        pair = [await dialer.dial(origin_of(server), lambda _: None) for _ in range(2)]
        assert pair[0].outbox is pair[1].outbox
        assert Dialer(Pinned("127.0.0.1"), Limits())._outbox is not pair[0].outbox
        for connection in pair:
            connection.close()


# Through proxies


def through(proxy: Proxy, tls: TLSSettings | None = None) -> Origin:
    """An origin of one name, through a proxy; with TLS where there is a tunnel."""
    return Origin("https" if tls else "http", "a.example", 443, "localhost" if tls else "", tls, None, None, proxy)


def test_an_origin_says_how_it_is_reached() -> None:
    http, socks = Proxy("http://me:secret@p.example"), Proxy("socks5h://p.example")
    tls = TLSSettings()
    assert str(Origin("https", "a.example", 443, "", tls, None, None)) == "https://a.example:443"
    assert str(through(http, tls)) == "https://a.example:443 through the proxy http://p.example:80"
    assert str(through(socks)) == "http://a.example:443 through the proxy socks5h://p.example:1080"
    forwarding = Origin("http", "p.example", 80, "", None, None, None, http)
    assert str(forwarding) == "the proxy http://p.example:80"
    assert [origin.forwards for origin in (forwarding, through(http, tls), through(socks))] == [True, False, False]
    assert not Origin("http", "a.example", 80, "", None, None, None).forwards


async def test_the_stages_on_the_way_through_a_tunnel_are_reported(server_context: SSLContext, ca_file: str) -> None:
    async def script(peer: Peer) -> None:
        await peer.read_head()
        await peer.send(b"HTTP/1.1 200 OK\r\n\r\n")
        await peer.start_tls(server_context)
        await peer.wait_disconnect()

    stages: list[str] = []
    async with Server(script, ssl=server_context) as server:
        tls = TLSSettings(ca_file)
        dialer = Dialer(Pinned("127.0.0.1"), Limits(), tls)
        connection = await dialer.dial(through(Proxy(server.url), tls), stages.append)
        address = f"localhost:{server.port}"
        assert stages == [
            "resolving localhost",
            f"connecting to 127.0.0.1:{server.port}",
            f"in the TLS handshake with the proxy localhost at 127.0.0.1:{server.port}",
            f"asking the proxy {address} to connect to a.example:443",
            f"in the TLS handshake with localhost through the proxy {address}",
        ]
        assert None not in connection.times
        connection.close()


async def test_the_time_of_all_look_ups_counts_for_socks(server_context: SSLContext) -> None:
    async def script(peer: Peer) -> None:
        for answer in (b"\x05\x00", b"\x05\x00\x00\x01" + bytes(6)):
            await peer.read()
            await peer.send(answer)
        await peer.wait_disconnect()

    async with Server(script) as server:
        for scheme, resolved in (("socks5", True), ("socks5h", False)):
            stages: list[str] = []
            proxy = Proxy(f"{scheme}://127.0.0.1:{server.port}")
            connection = await Dialer(Pinned("127.0.0.1"), Limits()).dial(through(proxy), stages.append)
            assert (connection.times.dns is not None) is resolved
            assert ("resolving a.example" in stages) is resolved
            assert stages[-1] == f"in the SOCKS handshake with 127.0.0.1:{server.port}"
            connection.close()


async def test_what_is_kept_of_proxies_has_a_bound_and_the_last_used_stay() -> None:
    dialer = Dialer(Pinned(), Limits())
    first = dialer.hop(Proxy("http://p"))
    for number in range(1, 2 * MAX_PROXIES):
        dialer.hop(Proxy(f"http://p:{number + 1000}"))
        assert dialer.hop(Proxy("http://p")) is first
        assert len(dialer._hops) <= MAX_PROXIES
    assert len(dialer._hops) == MAX_PROXIES


async def test_a_proxy_that_keeps_ending_the_connection_is_asked_a_bounded_number_of_times() -> None:
    number = 0

    async def script(peer: Peer) -> None:
        nonlocal number
        await peer.read_head()
        number += 1
        await peer.send(
            b'HTTP/1.1 407 No\r\nProxy-Authenticate: Digest realm="p", nonce="%d", stale=true\r\n'
            b"Content-Length: 0\r\n\r\n" % number
        )
        await peer.read_head()

    async with Server(script) as server:
        proxy = Proxy(f"http://me:secret@127.0.0.1:{server.port}")
        with pytest.raises(aiosock.ProxyError, match="did not connect to a.example:443|407 No"):
            await Dialer(Pinned(), Limits()).dial(through(proxy, TLSSettings()), lambda _: None)
        assert len(server.requests) == MAX_ASKING


@pytest.mark.parametrize("scheme", ["http", "socks5"])
async def test_a_fault_of_ours_on_the_way_leaves_no_socket(scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("aiosock.connection.proxy.Credentials.authorize", fail)
    monkeypatch.setattr("aiosock.protocol.socks.Handshake.begin", fail)
    async with Server.answering(response()) as server:
        proxy = Proxy(f"{scheme}://127.0.0.1:{server.port}")
        with pytest.raises(ZeroDivisionError):
            await Dialer(Pinned("127.0.0.1"), Limits()).dial(through(proxy, TLSSettings()), lambda _: None)
        while not server.connections or server.open_connections:
            await asyncio.sleep(0)
