"""Guarded requests from end to end: where names lead, redirects, a second look-up, reused connections, proxies."""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import Sequence
from ssl import SSLContext
from typing import Any

import pytest

import aiosock
from aiosock import BlockedAddress, Limits, Request, Response, UsageError
from aiosock.connection.guard import Guard
from aiosock.testing import Peer, Server, response
from tests.integration.test_addresses import has_ipv6
from tests.kit.clients import check, checked_client

OK = response(body=b"ok")
OURS = Guard(allow_private=True)


class Answers:
    """A resolver that gives one answer after the other, the last one for ever, and keeps what it was asked."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self.asked: list[str] = []
        self._answers = list(answers) or [["127.0.0.1"]]

    async def resolve(self, host: str, port: int) -> Sequence[str]:
        self.asked.append(host)
        return self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]


def redirect(to: str) -> bytes:
    return response(302, b"", [("Location", to)])


async def blocked(client: aiosock.Client, url: str, **options: object) -> BlockedAddress:
    """Send a request that is refused; nothing of it may be left in the pool."""
    with pytest.raises(BlockedAddress) as caught:
        await client.get(url, **options)  # type: ignore[arg-type]  # options of a request
    check(client)
    return caught.value


# What a URL can say


SPELLINGS = [
    "127.0.0.1",
    "127.0.0.1.",
    "127.1",
    "0x7f.1",
    "0X7F000001",
    "2130706433",
    "0177.0.0.1",
    "017700000001",
    "①②⑦.⓪.⓪.①",
    "localhost",
    "LocalHost",
]


@pytest.mark.parametrize("host", SPELLINGS)
async def test_loopback_is_refused_however_it_is_written(host: str) -> None:
    async with Server.answering(OK) as server, checked_client(guard=Guard()) as client:
        error = await blocked(client, f"http://{host}:{server.port}/path?secret=1")
        assert "loopback" in str(error)
        assert "secret" not in str(error)
        assert error.request is not None
        assert error.request.method == "GET"
        assert not server.connections
        assert client.pool.opened == 0


# Not what the system's own look-up may not know.
@pytest.mark.parametrize("host", [host for host in SPELLINGS if not host.endswith(".")])
async def test_loopback_is_reached_however_it_is_written_where_that_is_wanted(host: str) -> None:
    async with Server.answering(OK) as server, checked_client(guard=OURS) as client:
        assert (await client.get(f"http://{host}:{server.port}/")).text == "ok"


@pytest.mark.parametrize(
    "host",
    [
        "[::1]",
        "[::1%25lo]",
        "[0:0:0:0:0:0:0:1]",
        "[::]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[::127.0.0.1]",
        "[64:ff9b::127.0.0.1]",
        "[64:ff9b:1::127.0.0.1]",
        "[2002:7f00:1::]",
        "[2001:0:7f00:1::]",
        "[2606:4700::5efe:127.0.0.1]",
        "[2606:4700::200:5efe:10.0.0.1]",
        "[fe80::1%25lo]",
        "[fd00:ec2::23]",
        "[fd00:ec2::254]",
        "0.0.0.0",
        "0",
        "10.0.0.1",
        "100.64.0.1",
        "169.254.169.254",
        "0xA9FEA9FE",
        "192.0.2.1",
        "192.175.48.1",
        "198.18.0.1",
        "224.0.0.1",
        "255.255.255.255",
        "256.0.0.1",
    ],
)
async def test_no_address_that_is_not_public_is_connected_to(host: str) -> None:
    resolver = Answers()
    async with Server.answering(OK) as server, checked_client(guard=Guard(), resolver=resolver) as client:
        await blocked(client, f"http://{host}:{server.port}/")
        assert not server.connections
        assert not resolver.asked


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6 loopback")
async def test_loopback_of_ipv6_is_reached_where_that_is_wanted() -> None:
    async with Server.answering(OK, host="::1") as server, checked_client(guard=OURS) as client:
        assert (await client.get(f"http://[::1]:{server.port}/")).text == "ok"


async def test_scheme_and_port_are_those_let_through() -> None:
    async with Server.answering(OK) as server, Server.answering(OK) as other:
        guard = Guard(allow_private=True, schemes=["http"], ports=[server.port])
        async with checked_client(guard=guard) as client:
            for _ in range(2):
                await client.get(server.url)
                assert "schemes" in str(await blocked(client, server.url.replace("http", "https")))
                assert "ports" in str(await blocked(client, other.url))
            assert (server.connections, other.connections) == (1, 0)


# Where names lead


@pytest.mark.parametrize(
    "addresses",
    [
        ["127.0.0.1"],
        ["127.0.0.1", "93.184.215.14"],
        ["2606:4700::1111", "127.0.0.1"],
        ["::ffff:127.0.0.1"],
        ["64:ff9b::7f00:1"],
        ["169.254.169.254"],
        ["::1%lo"],
    ],
)
async def test_a_name_is_refused_for_any_address_of_it(addresses: list[str]) -> None:
    resolver = Answers(addresses)
    async with Server.answering(OK) as server, checked_client(guard=Guard(), resolver=resolver) as client:
        error = await blocked(client, f"http://name.example:{server.port}/")
        assert str(error).startswith("the guard refuses name.example: ")
        assert not server.connections
        assert resolver.asked == ["name.example"]


@pytest.mark.parametrize("answer", ["localhost", "0x7f.1"])
async def test_a_name_that_leads_to_another_is_not_looked_up_past_the_guard(answer: str) -> None:
    async with Server.answering(OK) as server:
        async with checked_client(guard=OURS, resolver=Answers([answer])) as client:
            with pytest.raises(UsageError, match=f"the resolver Answers .* what is no address: '{answer}'"):
                await client.get(f"http://name.example:{server.port}/")
        assert not server.connections


async def test_a_name_that_hosts_do_not_have_is_not_even_looked_up() -> None:
    resolver = Answers()
    guard = Guard(allow_private=True, hosts=["*.good.example"], deny=["not.good.example"])
    async with Server.answering(OK) as server, checked_client(guard=guard, resolver=resolver) as client:
        assert (await client.get(f"http://a.good.example:{server.port}/")).text == "ok"
        for host in ("good.example", "not.good.example", "notgood.example", "127.0.0.1"):
            await blocked(client, f"http://{host}:{server.port}/")
        assert resolver.asked == ["a.good.example"]
        assert server.connections == 1


async def test_what_is_looked_at_is_what_is_connected_to() -> None:
    resolver = Answers(["127.0.0.1"], ["127.0.0.2"])
    guard = Guard(hosts=["127.0.0.1"])
    async with Server.answering(OK) as server, checked_client(guard=guard, resolver=resolver) as client:
        answer = await client.get(f"http://rebind.example:{server.port}/")
        assert answer.connection is not None
        assert answer.connection.remote_address == f"127.0.0.1:{server.port}"
        assert resolver.asked == ["rebind.example"]


async def test_a_name_that_changes_its_answer_is_refused_at_the_next_connection() -> None:
    resolver = Answers(["127.0.0.1"], ["127.0.0.2"])
    limits = Limits(max_keepalive_connections=0)
    # The one address stands for all that are public.
    guard = Guard(hosts=["127.0.0.1"])
    async with Server.answering(OK) as server:
        async with checked_client(guard=guard, resolver=resolver, limits=limits) as client:
            assert (await client.get(f"http://rebind.example:{server.port}/")).text == "ok"
            error = await blocked(client, f"http://rebind.example:{server.port}/")
            assert "127.0.0.2 is loopback" in str(error)
        assert server.connections == 1


async def test_a_request_that_is_sent_again_is_guarded_again() -> None:
    async def once(peer: Peer) -> None:
        # The second request on a connection finds it closed.
        await peer.read_request()
        await peer.send(OK)
        if await peer.read_request():
            return

    resolver = Answers(["127.0.0.1"], ["127.0.0.2"])
    async with Server(once) as server:
        async with checked_client(guard=Guard(hosts=["127.0.0.1"]), resolver=resolver) as client:
            url = f"http://rebind.example:{server.port}/"
            await client.get(url)
            await blocked(client, url)
        assert len(resolver.asked) == 2
        assert len(server.requests) == 2


async def test_everyone_who_waits_gets_an_error_with_the_request_of_ones_own() -> None:
    async with checked_client(guard=Guard(), resolver=Answers()) as client:
        urls = [f"http://name.example/{number}" for number in range(10)]
        errors = await asyncio.gather(*map(client.get, urls), return_exceptions=True)
        assert len({id(error) for error in errors}) == 10
        for error, url in zip(errors, urls, strict=True):
            assert isinstance(error, BlockedAddress)
            assert error.request is not None
            assert str(error.request.url) == url
        check(client)


# Redirects


@pytest.mark.parametrize(
    "to",
    [
        "http://127.0.0.2:{port}/",
        "http://0x7f.2:{port}/",
        "//2130706434:{port}/",
        "http://[::1]:{port}/",
        "http://[::ffff:127.0.0.2]:{port}/",
        "http://169.254.169.254/latest/meta-data/",
        "http://metadata.example/",
        "https://0xA9FEA9FE/",
    ],
)
async def test_no_redirect_leads_to_what_is_refused(to: str) -> None:
    class Names:
        async def resolve(self, host: str, port: int) -> Sequence[str]:
            return ["169.254.169.254"] if host == "metadata.example" else ["127.0.0.1"]

    async def script(peer: Peer) -> None:
        while await peer.read_request():
            await peer.send(redirect(to.format(port=peer.server.port)))

    async with Server(script) as server:
        async with checked_client(guard=Guard(hosts=["127.0.0.1"]), resolver=Names()) as client:
            error = await blocked(client, f"http://start.example:{server.port}/")
            # The hop that was refused.
            assert error.request is not None
            assert error.request.url.host != "start.example"
        assert len(server.requests) == 1


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6 loopback")
async def test_a_redirect_does_not_lead_to_loopback() -> None:
    async with Server.answering(OK) as target, Server.answering(redirect(target.url), host="::1") as server:
        async with checked_client(guard=Guard(hosts=["::1"])) as client:
            assert "loopback" in str(await blocked(client, f"http://[::1]:{server.port}/"))
        assert len(server.requests) == 1
        assert not target.connections


async def test_a_request_keeps_its_guard_across_redirects() -> None:
    async with Server.answering(OK) as target, Server.answering(redirect(target.url)) as server:
        guard = Guard(allow_private=True, ports=[server.port])
        async with checked_client() as client:
            assert (await client.get(server.url)).text == "ok"
            await blocked(client, server.url, extensions={"guard": guard})
        assert len(target.requests) == 1


# Connections that are there


async def test_a_connection_that_was_opened_without_a_guard_is_not_lent_to_one() -> None:
    async with Server.answering(OK) as server, checked_client() as client:
        await client.get(server.url)
        await blocked(client, server.url, extensions={"guard": Guard()})
        assert (client.pool.idle, len(server.requests)) == (1, 1)
        for _ in range(2):
            await client.get(server.url, extensions={"guard": OURS})
        assert (client.pool.idle, client.pool.opened, client.pool.reused) == (2, 2, 1)
        await client.get(server.url, extensions={"guard": Guard(allow_private=True)})
        await client.get(server.url)
        await client.get(server.url, extensions={"guard": None})
        assert (client.pool.opened, client.pool.reused) == (2, 4)
        await client.get(server.url, extensions={"guard": Guard(allow_private=True, ports=[server.port])})
        assert client.pool.opened == 3


async def test_an_idle_connection_does_not_help_a_name_that_now_leads_elsewhere() -> None:
    resolver = Answers(["127.0.0.1"], ["127.0.0.2"])
    async with Server.answering(OK) as server, checked_client(resolver=resolver) as client:
        url = f"http://name.example:{server.port}/"
        await client.get(url)
        await blocked(client, url, extensions={"guard": Guard(hosts=["127.0.0.1"])})


async def test_a_guard_of_the_request_can_only_refuse_more() -> None:
    async with Server.answering(OK) as server:
        async with checked_client(guard=OURS) as client:
            await client.get(server.url)
            await blocked(client, server.url, extensions={"guard": Guard()})
            await client.get(server.url, extensions={"guard": OURS})
            await client.get(server.url, extensions={"guard": Guard(allow_private=True, deny=["a.example"])})
            assert client.pool.opened == 2
        async with checked_client(guard=Guard()) as client:
            await blocked(client, server.url, extensions={"guard": OURS})
            await blocked(client, server.url, extensions={"guard": None})
            await blocked(client, server.url, extensions={"server_name": "a.example"})


async def test_a_guard_of_the_request_is_a_guard() -> None:
    async with checked_client() as client:
        with pytest.raises(UsageError, match="^the extension guard is a Guard, not str$"):
            await client.get("http://127.0.0.1/", extensions={"guard": "yes"})


async def test_tls_is_guarded_and_resumed_as_ever(server_context: SSLContext, ca_file: str) -> None:
    limits = Limits(max_keepalive_connections=0)
    async with Server.answering(OK, ssl=server_context) as server:
        url = f"https://localhost:{server.port}/"
        async with checked_client(guard=OURS, verify=ca_file, limits=limits) as client:
            answers = [await client.get(url) for _ in range(2)]
            assert [answer.text for answer in answers] == ["ok", "ok"]
        async with checked_client(guard=Guard(), verify=ca_file) as client:
            await blocked(client, url)
        assert server.connections == 2


# Ways on which nothing could be guarded


async def test_what_no_guard_could_see_is_refused_with_it() -> None:
    class Own:
        async def send(self, request: Request) -> Response:
            raise AssertionError

        async def close(self) -> None: ...

    for options, words in [
        ({"guard": Guard(), "uds": "/run/some.sock"}, r"guard: .* Unix socket.*/run/some\.sock"),
        ({"guard": Guard(allow_proxy=True), "uds": "/run/some.sock"}, "guard: .* Unix socket"),
        ({"guard": Guard(), "transport": Own()}, "guard: .* transport of one's own, Own"),
        ({"guard": Guard(), "proxy": "http://me:secret@p.example"}, "guard: refuses proxy="),
        ({"guard": Guard(), "proxy": {"https://a.example": "socks5://p.example"}}, "guard: refuses proxy="),
        ({"guard": True}, "guard: takes a Guard, not bool"),
    ]:
        with pytest.raises(UsageError, match=words) as caught:
            aiosock.Client(**options)  # type: ignore[arg-type]  # each has its own type
        assert "secret" not in str(caught.value)


async def test_a_request_with_a_guard_is_not_sent_over_a_unix_socket() -> None:
    async with checked_client(uds="/run/none.sock") as client:
        with pytest.raises(UsageError, match="guard: .* Unix socket"):
            await client.get("http://name.example/", extensions={"guard": Guard()})


async def test_proxies_of_the_environment_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Server.answering(OK) as proxy, Server.answering(OK) as server:
        monkeypatch.setenv("http_proxy", proxy.url)
        async with checked_client() as client:
            await client.get(server.url)
            for guard in (OURS, Guard(allow_private=True, allow_proxy=True)):
                assert (await client.get(server.url, guard=guard)).text == "ok"
                with pytest.raises(aiosock.BlockedAddress):
                    await client.get(server.url, guard=Guard(allow_proxy=True))
                assert (await aiosock.get(server.url, guard=guard)).text == "ok"
        assert proxy.connections == 1
        for guard in (OURS, Guard(allow_private=True, allow_proxy=True)):
            async with checked_client(guard=guard) as client:
                assert (await client.get(server.url)).text == "ok"
        assert proxy.connections == 1


async def test_a_proxy_of_the_request_is_refused_without_a_word_to_it() -> None:
    async with Server.answering(OK) as proxy, checked_client(guard=Guard()) as client:
        with pytest.raises(UsageError, match="allow_proxy=True") as caught:
            await client.get("http://name.example/", proxy=proxy.url.replace("//", "//me:secret@"))
        assert "secret" not in str(caught.value)
        check(client)
        assert not proxy.connections


async def test_no_proxy_is_no_proxy() -> None:
    async with Server.answering(OK) as server, checked_client(guard=OURS, proxy=None) as client:
        assert (await client.get(server.url, proxy=None)).text == "ok"


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_through_a_proxy_that_is_allowed_the_url_alone_is_judged(scheme: str) -> None:
    resolver = Answers()
    # It forwards, and refuses tunnels.
    async with Server.answering(OK) as proxy:
        guard = Guard(allow_proxy=True, deny=["bad.example"], ports=[80, 443])
        async with checked_client(guard=guard, proxy=proxy.url, resolver=resolver) as client:
            for host in ("127.0.0.1", "0x7f.1", "0x8.8.8.8", "[::1]", "localhost", "bad.example", "name.example:25"):
                await blocked(client, f"{scheme}://{host}/")
            for host in ("metadata.google.internal", "metadata.goog.", "METADATA", "db.corp.internal"):
                await blocked(client, f"{scheme}://{host}/")
            assert not proxy.connections
            if scheme == "http":
                assert (await client.get("http://name.example/")).text == "ok"
                assert proxy.requests[0].target == "http://name.example/"
                # The connection to the proxy serves all hosts, and judges each.
                await blocked(client, "http://bad.example/")
                assert (await client.get("http://other.example/")).text == "ok"
                assert (proxy.connections, len(proxy.requests)) == (1, 2)
        assert not resolver.asked


@pytest.mark.parametrize("scheme", ["socks4", "socks5"])
async def test_a_name_that_is_resolved_here_is_judged_before_a_proxy_is_asked(scheme: str) -> None:
    async with Server.answering(OK) as proxy:
        url = proxy.url.replace("http", scheme)
        resolver = Answers(["93.184.215.14", "127.0.0.1"])
        async with checked_client(guard=Guard(allow_proxy=True), proxy=url, resolver=resolver) as client:
            await blocked(client, "http://name.example/")
            await blocked(client, "http://127.0.0.1/")
        assert not proxy.connections
        assert resolver.asked == ["name.example"]


async def socks(peer: Peer) -> None:
    """A SOCKS5 proxy that is the host itself."""
    for answer in (b"\x05\x00", b"\x05\x00\x00\x01" + bytes(6)):
        await peer.read()
        await peer.send(answer)
    await peer.read_request()
    await peer.send(OK)


async def test_the_proxy_itself_is_the_users_own() -> None:
    async with Server(socks) as proxy:
        url = proxy.url.replace("http", "socks5")
        resolver = Answers(["93.184.215.14"])
        async with checked_client(guard=Guard(allow_proxy=True), proxy=url, resolver=resolver) as client:
            assert (await client.get("http://name.example/")).text == "ok"


async def test_a_name_that_its_addresses_let_through_needs_a_look_up_here() -> None:
    guard = Guard(allow_proxy=True, hosts=["93.184.215.0/24"])
    async with Server(socks) as proxy:
        for scheme, passes in (("socks5", True), ("socks5h", False)):
            url = proxy.url.replace("http", scheme)
            resolver = Answers(["93.184.215.14"])
            async with checked_client(guard=guard, proxy=url, resolver=resolver) as client:
                if passes:
                    assert (await client.get("http://name.example/")).text == "ok"
                else:
                    await blocked(client, "http://name.example/")
        assert proxy.connections == 1


async def test_what_a_middleware_sends_for_a_guarded_request_is_guarded() -> None:
    async def elsewhere(request: aiosock.Request, next: Any) -> aiosock.Response:
        return await next(aiosock.Request("GET", "http://127.0.0.2:1/meta"))

    async with Server.answering(OK) as server, checked_client(middleware=[elsewhere]) as client:
        with pytest.raises(aiosock.BlockedAddress):
            await client.get(server.url, guard=Guard(hosts=["127.0.0.1"]))


async def test_a_guard_is_pickled_with_its_request() -> None:
    async with checked_client() as client:
        request = pickle.loads(pickle.dumps(client.build_request("GET", "http://127.0.0.1:1/", guard=Guard())))  # noqa: S301  # our own
        with pytest.raises(aiosock.BlockedAddress):
            await client.send(request)


async def test_a_transport_of_ones_own_is_sent_no_guarded_request() -> None:
    async with aiosock.Client(transport=aiosock.MockTransport(lambda request: aiosock.Response(200))) as client:
        with pytest.raises(UsageError, match="guard: there is none on the way to a transport"):
            await client.send(aiosock.Request("GET", "http://h/", extensions={"guard": Guard()}))
