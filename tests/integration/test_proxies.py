"""Requests through proxies, from the transport to the byte: absolute form, tunnels, SOCKS, and who we are to them."""

from __future__ import annotations

import asyncio
import base64
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from ssl import CERT_OPTIONAL, SSLContext, SSLError

import pytest

import aiosock
from aiosock import Limits, Request, Timeout
from aiosock.client.transport import NetworkTransport
from aiosock.connection.dial import MAX_ASKING
from aiosock.connection.proxy import Proxy
from aiosock.message.response import Response
from aiosock.message.url import Location
from aiosock.network.trust import TLSSettings
from aiosock.testing import Certificates, MockTransport, Peer, Server, reply, response

OK = response(body=b"ok")
ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"
BASIC = "Basic " + base64.b64encode(b"me:secret").decode()
DIGEST = 'Digest realm="p", nonce="n1", qop="auth", algorithm=SHA-256'
SECRETS = ("secret", BASIC[6:])


def demand(*challenges: str, close: bool = False) -> bytes:
    """A 407 with these challenges."""
    fields = "".join(f"Proxy-Authenticate: {challenge}\r\n" for challenge in challenges)
    fields += "Connection: close\r\n" if close else ""
    return f"HTTP/1.1 407 Proxy Authentication Required\r\n{fields}Content-Length: 2\r\n\r\nno".encode()


class Pinned:
    """Resolves every name to these addresses, and keeps the names."""

    def __init__(self, *addresses: str) -> None:
        self.asked: list[tuple[str, int]] = []
        self._addresses = addresses or ("127.0.0.1",)

    async def resolve(self, host: str, port: int) -> list[str]:
        self.asked.append((host, port))
        return list(self._addresses)


class Always:
    """The same proxy for everything; counts how often it is asked."""

    def __init__(self, proxy: Proxy | None) -> None:
        self.proxy = proxy
        self.asked = 0

    def proxy_for(self, location: Location) -> Proxy | None:
        self.asked += 1
        return self.proxy


@asynccontextmanager
async def transport(
    proxy: Proxy | None = None,
    verify: bool | str | SSLContext = True,
    *,
    cert: tuple[str, str] | None = None,
    resolver: Pinned | None = None,
    limits: Limits | None = None,
    local_address: tuple[str, int] | None = None,
    uds: str | None = None,
) -> AsyncIterator[NetworkTransport]:
    made = NetworkTransport(
        limits=limits or Limits(),
        resolver=resolver or Pinned(),
        tls=TLSSettings(verify, cert),
        local_address=local_address,
        uds=uds,
        proxies=Always(proxy),
    )
    made.pool.debug = True
    try:
        yield made
    finally:
        made.pool.check_invariant()
        await made.close()
        assert (made.pool.active, made.pool.dialling, made.pool.waiting) == (0, 0, 0)


async def get(made: NetworkTransport, url: str, method: str = "GET", **options: object) -> Response:
    answer = await made.send(Request(method, url, **options))  # type: ignore[arg-type]  # options of Request
    await answer.read()
    return answer


def url_of(server: Server, scheme: str = "http", user: str = "") -> str:
    return f"{scheme}://{user}127.0.0.1:{server.port}"


def opening(context: SSLContext, answer: bytes = ESTABLISHED) -> Callable[[Peer], Awaitable[None]]:
    """A proxy that opens a tunnel, and is then the host itself."""

    async def script(peer: Peer) -> None:
        if await peer.read_head() is None:
            return
        await peer.send(answer)
        await peer.start_tls(context)
        while await peer.read_request():
            await peer.send(OK)

    return script


async def gone(server: Server) -> None:
    """Wait until no connection is left."""
    async with asyncio.timeout(5):
        while server.open_connections:
            await asyncio.sleep(0)


# http: the proxy sends requests on


async def test_an_http_request_goes_to_the_proxy_in_absolute_form() -> None:
    async with Server.answering(OK) as server, transport(Proxy(url_of(server))) as made:
        answer = await get(made, "http://a.example/x?y=1#z", headers={"A": "b"})
        assert server.requests[0].raw_head == (
            b"GET http://a.example/x?y=1 HTTP/1.1\r\nHost: a.example\r\nA: b\r\n\r\n"
        )
        assert answer.request is not None
        assert answer.request.target == "/x?y=1"
        assert str(answer.url) == "http://a.example/x?y=1#z"


@pytest.mark.parametrize(
    ("method", "url", "target", "line"),
    [
        ("GET", "http://a.example:8080", None, b"GET http://a.example:8080/ HTTP/1.1\r\nHost: a.example:8080\r\n"),
        ("GET", "http://u:p@a.example", None, b"GET http://a.example/ HTTP/1.1\r\nHost: a.example\r\n"),
        ("GET", "http://[fe80::1%25eth0]/", None, b"GET http://[fe80::1]/ HTTP/1.1\r\nHost: [fe80::1]\r\n"),
        ("OPTIONS", "http://a.example/x", "*", b"OPTIONS http://a.example HTTP/1.1\r\nHost: a.example\r\n"),
        ("GET", "http://a.example/x", "ftp://f.example/", b"GET ftp://f.example/ HTTP/1.1\r\nHost: a.example\r\n"),
    ],
)
async def test_each_form_of_target_becomes_one_for_the_proxy(
    method: str, url: str, target: str | None, line: bytes
) -> None:
    async with Server.answering(OK) as server, transport(Proxy(url_of(server))) as made:
        answer = await made.send(Request(method, url).replace(target=target))
        await answer.read()
        assert server.requests[0].raw_head.startswith(line)


async def test_one_connection_to_the_proxy_serves_all_hosts() -> None:
    async with Server.answering(OK) as server, transport(Proxy(url_of(server))) as made:
        for host in ("a.example", "b.example", "a.example:81"):
            answer = await get(made, f"http://{host}/")
            assert answer.connection is not None
        assert server.connections == 1
        assert answer.connection.requests_served == 3
        assert [request.header("Host") for request in server.requests] == ["a.example", "b.example", "a.example:81"]


async def test_an_equal_proxy_shares_its_connections_and_another_one_does_not() -> None:
    async with Server.answering(OK) as server, transport() as made:
        for proxy in (
            Proxy(url_of(server)),
            url_of(server),
            Proxy(url_of(server), auth=("me", "secret")),
            Proxy(url_of(server), headers={"A": "b"}),
        ):
            await get(made, "http://a.example/", extensions={"proxy": proxy})
        assert server.connections == 3


async def test_the_proxy_of_the_request_comes_before_the_rules_and_none_is_direct() -> None:
    async with Server.answering(OK) as rule, Server.answering(OK) as own, Server.answering(OK) as host:
        url = f"http://127.0.0.1:{host.port}/"
        async with transport(Proxy(url_of(rule))) as made:
            await get(made, url)
            await get(made, url, extensions={"proxy": url_of(own)})
            await get(made, url, extensions={"proxy": None})
            await get(made, url)
            assert (len(rule.requests), len(own.requests), len(host.requests)) == (2, 1, 1)
            assert host.requests[0].target == "/"
            with pytest.raises(aiosock.UsageError, match="proxy: takes a str"):
                await get(made, url, extensions={"proxy": 5})


async def test_the_rules_are_asked_once_for_each_origin() -> None:
    async with Server.answering(OK) as server, transport(Proxy(url_of(server))) as made:
        for path in ("a", "b", "c"):
            await get(made, f"http://a.example/{path}")
        assert isinstance(made._proxies, Always)
        assert made._proxies.asked == 1


async def test_a_unix_socket_is_reached_without_rules_and_refuses_a_proxy_of_the_request(tmp_path: object) -> None:
    path = f"{tmp_path}/socket"
    async with Server.answering(OK, uds=path) as server, transport(Proxy("http://127.0.0.1:1"), uds=path) as made:
        await get(made, "http://a.example/")
        await get(made, "http://a.example/", extensions={"proxy": None})
        assert [request.target for request in server.requests] == ["/", "/"]
        with pytest.raises(aiosock.UsageError, match="Unix socket"):
            await get(made, "http://a.example/", extensions={"proxy": "http://127.0.0.1:1"})


@pytest.mark.parametrize("usable", [True, False])
async def test_proxies_of_the_environment_are_none_for_a_unix_socket_or_a_transport_of_ones_own(
    usable: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = str(tmp_path / "socket")

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(OK)
        await reader.read()
        writer.close()

    async with Server.answering(OK) as proxy, await asyncio.start_unix_server(serve, path):
        monkeypatch.setenv("http_proxy", proxy.url if usable else "ftp://no.proxy")
        async with aiosock.Client(uds=path) as client:
            assert (await client.get("http://a.example/")).content == b"ok"
        async with aiosock.Client(transport=MockTransport(lambda _: reply(content="mock"))) as client:
            assert (await client.get("http://a.example/")).text == "mock"
        assert proxy.connections == 0
        # They count for others.
        with contextlib.nullcontext() if usable else pytest.raises(aiosock.UsageError, match="^http_proxy: "):
            async with aiosock.Client() as client:
                await client.get("http://a.example/")
        assert proxy.connections == usable


async def test_a_kept_connection_that_the_proxy_had_closed_is_replaced() -> None:
    async def script(peer: Peer) -> None:
        await peer.read_request()
        await peer.send(OK)
        await peer.read_request()
        if peer.number:
            await peer.send(OK)
            await peer.wait_disconnect()

    async with Server(script) as server, transport(Proxy(url_of(server))) as made:
        await get(made, "http://a.example/")
        await get(made, "http://b.example/")
        assert server.connections == 2


async def test_a_demand_on_the_connection_that_replaced_a_stale_one_is_answered_on_it() -> None:
    async def script(peer: Peer) -> None:
        await peer.read_request()
        await peer.send(demand(DIGEST) if peer.number else OK)
        await peer.read_request()
        if peer.number:
            await peer.send(OK)
            await peer.wait_disconnect()

    async with Server(script) as server, transport(Proxy(url_of(server, user="me:secret@"))) as made:
        for _ in range(2):
            assert (await get(made, "http://a.example/")).content == b"ok"
        assert server.connections == 2


async def test_fields_of_the_proxy_go_with_what_it_sends_on_unless_the_request_has_its_own() -> None:
    async with Server.answering(OK) as server:
        proxy = Proxy(url_of(server), headers={"X-Token": "1", "User-Agent": "p"})
        async with transport(proxy) as made:
            await get(made, "http://a.example/", headers={"user-agent": "mine"})
            assert server.requests[0].headers == [("Host", "a.example"), ("user-agent", "mine"), ("X-Token", "1")]


async def test_an_https_proxy_is_spoken_to_in_tls_and_its_session_is_resumed(
    server_context: SSLContext, ca_file: str
) -> None:
    resumed: list[bool] = []

    async def script(peer: Peer) -> None:
        assert peer.ssl_object is not None
        await peer.read_request()
        resumed.append(bool(peer.ssl_object.session_reused))
        await peer.send(response(body=b"ok", headers=[("Connection", "close")]))

    async with Server(script, ssl=server_context) as server:
        proxy = Proxy(server.url)
        async with transport(proxy, ca_file) as made:
            for _ in range(2):
                answer = await get(made, "http://a.example/")
                assert answer.content == b"ok"
            assert server.requests[0].target == "http://a.example/"
            assert resumed == [False, True]


# https: tunnels


async def test_an_https_request_goes_through_a_tunnel(server_context: SSLContext, ca_file: str) -> None:
    async with Server(opening(server_context)) as server:
        proxy = Proxy(url_of(server), headers={"X-Token": "1"})
        async with transport(proxy, ca_file) as made:
            headers = {"Authorization": "mine", "Cookie": "mine", "User-Agent": "mine", "Proxy-Authorization": "mine"}
            for _ in range(2):
                answer = await get(made, "https://localhost:444/x", headers=headers)
                assert answer.content == b"ok"
            connect, first, second = server.requests
            # Nothing of the request goes into CONNECT, and nothing for the proxy to the host.
            assert connect.raw_head == b"CONNECT localhost:444 HTTP/1.1\r\nHost: localhost:444\r\nX-Token: 1\r\n\r\n"
            expected = [("Host", "localhost:444"), *list(headers.items())[:3]]
            assert (first.target, first.headers) == ("/x", expected)
            assert second.headers == expected
            assert server.connections == 1
            assert answer.connection is not None
            assert answer.connection.tls_version
            assert answer.connection.remote_address == f"127.0.0.1:{server.port}"


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 204 No Content\r\n\r\n",
        b"HTTP/1.0 200 OK\r\n\r\n",
        b"HTTP/1.1 299 Whatever\r\nContent-Length: 5\r\nTransfer-Encoding: nonsense\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
    ],
)
async def test_any_2xx_opens_whatever_it_says_of_a_body_and_whatever_1xx_came_before(
    answer: bytes, server_context: SSLContext, ca_file: str
) -> None:
    async with Server(opening(server_context, answer)) as server, transport(Proxy(url_of(server)), ca_file) as made:
        assert (await get(made, "https://localhost/")).content == b"ok"


async def test_tunnels_are_for_one_origin_each(certificates: Certificates, ca_file: str) -> None:
    context = await asyncio.to_thread(certificates.server_context, "a.example", "b.example")
    async with Server(opening(context)) as server, transport(Proxy(url_of(server)), ca_file) as made:
        for host in ("a.example", "b.example", "a.example"):
            await get(made, f"https://{host}/")
        assert server.connections == 2
        assert [request.target for request in server.requests if request.method == "CONNECT"] == [
            "a.example:443",
            "b.example:443",
        ]


@pytest.mark.parametrize("addresses", [("127.0.0.1",), ("127.0.0.9", "127.0.0.1")], ids=len)
async def test_the_name_of_the_host_is_the_proxys_to_resolve_and_that_of_the_proxy_ours(
    addresses: tuple[str, ...], server_context: SSLContext, ca_file: str
) -> None:
    resolver = Pinned(*addresses)
    async with Server(opening(server_context)) as server:
        proxy = Proxy(f"http://proxy.example:{server.port}")
        async with transport(proxy, ca_file, resolver=resolver, local_address=("127.0.0.5", 0)) as made:
            answer = await get(made, "https://localhost/")
            assert resolver.asked == [("proxy.example", server.port)]
            assert answer.connection is not None
            assert answer.connection.local_address.startswith("127.0.0.5:")
            assert None not in (answer.timings.dns, answer.timings.connect, answer.timings.tls)


async def test_tls_in_tls_with_a_client_certificate_for_the_host_alone(
    certificates: Certificates, ca_file: str, tmp_path: object
) -> None:
    outer = await asyncio.to_thread(lambda: certificates.server_context("proxy.example"))
    asking = await asyncio.to_thread(lambda: certificates.server_context("localhost", client_ca=True))
    cert = await asyncio.to_thread(lambda: certificates.client_certificate().write(str(tmp_path)))
    shown: list[bool] = []
    names: list[str] = []
    # The proxy asks for a certificate, too, and takes none for an answer.
    outer.verify_mode = CERT_OPTIONAL
    await asyncio.to_thread(outer.load_verify_locations, ca_file)
    outer.sni_callback = lambda _socket, name, _context: names.append(name)
    asking.sni_callback = lambda _socket, name, _context: names.append(name)

    async def script(peer: Peer) -> None:
        assert peer.ssl_object is not None
        shown.append(bool(peer.ssl_object.getpeercert()))
        await peer.read_head()
        await peer.send(ESTABLISHED)
        await peer.start_tls(asking)
        shown.append(bool(peer.ssl_object.getpeercert()))
        while await peer.read_request():
            await peer.send(OK)

    async with Server(script, ssl=outer) as server:
        proxy = Proxy(f"https://proxy.example:{server.port}")
        async with transport(proxy, ca_file, cert=cert) as made:
            for _ in range(2):
                assert (await get(made, "https://localhost/")).content == b"ok"
        assert names == ["proxy.example", "localhost"]
        assert shown == [False, True]


async def test_sessions_cross_neither_hops_nor_proxies(certificates: Certificates, ca_file: str) -> None:
    context = await asyncio.to_thread(certificates.server_context, "localhost")
    resumed: list[tuple[str, bool]] = []

    async def script(peer: Peer) -> None:
        assert peer.ssl_object is not None
        request = await peer.read_head()
        assert request is not None
        resumed.append((request.method, bool(peer.ssl_object.session_reused)))
        if request.method == "CONNECT":
            await peer.send(ESTABLISHED)
            await peer.start_tls(context)
            await peer.read_request()
            resumed.append(("GET inside", bool(peer.ssl_object.session_reused)))
        await peer.send(response(body=b"ok", headers=[("Connection", "close")]))

    async with Server(script, ssl=context) as server:
        url = f"https://localhost:{server.port}"
        async with transport(Proxy(url), ca_file) as made:
            await get(made, url, extensions={"proxy": None})
            await get(made, url)
            await get(made, url)
            await get(made, url, extensions={"proxy": Proxy(url, auth=("a", "b"))})
    assert resumed == [
        ("GET", False),
        *(("CONNECT", False), ("GET inside", False)),
        *(("CONNECT", True), ("GET inside", True)),
        *(("CONNECT", False), ("GET inside", False)),
    ]


async def test_a_session_with_a_proxy_does_not_cross_local_addresses(server_context: SSLContext, ca_file: str) -> None:
    resumed: list[bool] = []

    async def script(peer: Peer) -> None:
        assert peer.ssl_object is not None
        await peer.read_request()
        resumed.append(bool(peer.ssl_object.session_reused))
        await peer.send(response(body=b"ok", headers=[("Connection", "close")]))

    async with Server(script, ssl=server_context) as server, transport(Proxy(server.url), ca_file) as made:
        for address in (None, None, ("127.0.0.1", 0), ("127.0.0.1", 0)):
            # A client has one for life; what is kept is told apart by it all the same.
            made._local_address = address
            made._proxied.clear()
            await get(made, "http://a.example/")
    assert resumed == [False, True, False, True]


async def test_a_proxy_has_a_trust_of_its_own(certificates: Certificates, server_context: SSLContext) -> None:
    async with Server.answering(OK, ssl=server_context) as server:
        url = f"https://localhost:{server.port}"
        async with transport(Proxy(url)) as made:
            with pytest.raises(
                aiosock.ProxyError, match=rf"the proxy {url} cannot be reached: .* localhost is not trusted"
            ) as info:
                await get(made, "http://a.example/")
            assert isinstance(info.value.__cause__, aiosock.TLSError)
        async with transport(Proxy(url, verify=False)) as made:
            assert (await get(made, "http://a.example/")).content == b"ok"


async def test_a_host_that_is_not_trusted_is_told_from_the_proxy(server_context: SSLContext) -> None:
    async def script(peer: Peer) -> None:
        with contextlib.suppress(SSLError):
            await opening(server_context)(peer)

    async with Server(script) as server, transport(Proxy(url_of(server))) as made:
        with pytest.raises(aiosock.TLSError, match="certificate of localhost is not trusted"):
            await get(made, "https://localhost/")
        await gone(server)


# Refusals


REFUSAL = b"HTTP/1.1 403 Forbidden\r\nX-Why: rules\r\nContent-Length: %d\r\n\r\n%b"


async def test_a_refusal_is_raised_with_its_status_and_the_start_of_its_body() -> None:
    body = b"\x1b[31mnot \r\nfor you " + b"x" * 1000
    async with Server.answering(REFUSAL % (len(body), body)) as server, transport(Proxy(url_of(server))) as made:
        with pytest.raises(aiosock.ProxyError) as info:
            await get(made, "https://a.example/?q=secret")
        error = info.value
        assert str(error).startswith(
            f"the proxy 127.0.0.1:{server.port} refused to connect to a.example:443: 403 Forbidden:  [31mnot   for you"
        )
        assert len(str(error)) < 300
        assert str(error).isprintable()
        assert error.status_code == 403
        assert error.response is not None
        assert error.response.headers["X-Why"] == "rules"
        assert error.response.content == body
        await gone(server)


@pytest.mark.parametrize(
    ("answer", "content"),
    [
        (b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 100\r\n\r\ncut", b"cut"),
        (b"HTTP/1.1 502 Bad Gateway\r\n\r\nuntil close", b"until close"),
        (b"HTTP/1.1 502 Bad Gateway\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", b"abc"),
        (b"HTTP/1.1 502 Bad Gateway\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nnonsense", b"abc"),
        (b"HTTP/1.1 502 Bad Gateway\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc", b""),
        (b"HTTP/1.1 302 Found\r\nLocation: http://elsewhere.example/\r\nContent-Length: 0\r\n\r\n", b""),
        (b"HTTP/1.1 502 Bad Gateway\r\n\r\n" + b"x" * 200_000, b"x" * 65536),
    ],
    ids=["cut", "until close", "chunked", "bad chunk", "coded", "redirect", "large"],
)
async def test_a_refusal_stands_however_its_body_ends(answer: bytes, content: bytes) -> None:
    async def script(peer: Peer) -> None:
        await peer.read_head()
        await peer.send(answer)

    async with Server(script) as server, transport(Proxy(url_of(server))) as made:
        with pytest.raises(aiosock.ProxyError, match=rf"a\.example:443: {answer[9:12].decode()} ") as info:
            await get(made, "https://a.example/")
        assert info.value.response is not None
        assert info.value.response.content == content


async def test_a_refusal_whose_body_stalls_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aiosock.connection.tunnel.REFUSAL_SECONDS", 0.01)

    async def script(peer: Peer) -> None:
        await peer.read_head()
        await peer.send(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 10\r\n\r\nsome")
        await peer.wait_disconnect()

    async with Server(script) as server, transport(Proxy(url_of(server))) as made:
        with pytest.raises(aiosock.ProxyError, match="502 Bad Gateway: some$"):
            await get(made, "https://a.example/")


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"", "without an answer"),
        (b"HTTP/1.1 200", "after 12 bytes of the answer's head"),
        (b"SSH-2.0-x\r\n", "does not begin with an HTTP/1 status line"),
        (b"HTTP/1.1 200 OK\r\nA B: c\r\n\r\n", "not a token"),
        (b"HTTP/1.1 101 Switching Protocols\r\n\r\n", "offered no Upgrade"),
        (b"HTTP/1.1 100 Continue\r\n\r\n" * 65, "more than 64 informational"),
        (ESTABLISHED + b"hello", "sent 5 bytes through the tunnel"),
    ],
)
async def test_what_is_no_answer_names_the_proxy_and_the_host(answer: bytes, words: str) -> None:
    async def script(peer: Peer) -> None:
        await peer.read_head()
        await peer.send(answer)

    async with Server(script) as server, transport(Proxy(url_of(server))) as made:
        with pytest.raises(aiosock.ProxyError, match=words) as info:
            await get(made, "https://a.example/")
        assert f"127.0.0.1:{server.port}" in str(info.value)
        assert "a.example:443" in str(info.value)
        assert (info.value.status_code, info.value.response) == (None, None)
        assert (info.value.__cause__ is None) is (b"hello" in answer)
        assert server.connections == 1
        await gone(server)


async def test_a_reset_names_the_proxy_and_the_host() -> None:
    async def script(peer: Peer) -> None:
        await peer.read_head()
        peer.reset()

    async with Server(script) as server, transport(Proxy(url_of(server))) as made:
        with pytest.raises(aiosock.ProxyError, match=r"did not connect to a\.example:443: ") as info:
            await get(made, "https://a.example/")
        assert isinstance(info.value.__cause__, aiosock.ReadError)


async def test_a_proxy_that_cannot_be_reached_is_named() -> None:
    async with Server.answering(OK) as server:
        port = server.port
    proxy = Proxy(f"http://me:secret@127.0.0.1:{port}")
    async with transport(proxy) as made:
        for scheme in ("http", "https"):
            with pytest.raises(
                aiosock.ProxyError, match=rf"^the proxy http://127\.0\.0\.1:{port} cannot be reached: "
            ) as info:
                await get(made, f"{scheme}://a.example/")
            assert isinstance(info.value.__cause__, aiosock.ConnectError)
    async with transport(Proxy("http://proxy.example"), resolver=Nowhere()) as made:
        with pytest.raises(
            aiosock.ProxyError, match=r"http://proxy\.example:80 cannot be reached: .*no address"
        ) as info:
            await get(made, "http://a.example/")
        assert isinstance(info.value.__cause__, aiosock.DNSError)


class Nowhere(Pinned):
    async def resolve(self, host: str, port: int) -> list[str]:
        return []


# Who we are


async def test_credentials_are_sent_at_once_as_basic_and_never_to_the_host(
    server_context: SSLContext, ca_file: str
) -> None:
    async with Server(opening(server_context)) as server:
        async with transport(Proxy(url_of(server, user="me:secret@")), ca_file) as made:
            await get(made, "https://localhost/")
        connect, inside = server.requests
        assert connect.headers == [("Host", "localhost:443"), ("Proxy-Authorization", BASIC)]
        assert inside.headers == [("Host", "localhost")]
    async with Server.answering(OK) as server:
        async with transport(Proxy(url_of(server, user="me:secret@"))) as made:
            await get(made, "http://a.example/")
        assert server.requests[0].header_values("Proxy-Authorization") == [BASIC]


async def test_what_is_given_by_hand_takes_the_place_of_credentials() -> None:
    async with Server.answering(demand("Basic realm=x", DIGEST)) as server:
        async with transport(Proxy(url_of(server, user="me:secret@"))) as made:
            answer = await get(made, "http://a.example/", headers={"proxy-authorization": "mine"})
            assert answer.status_code == 407
        async with transport(Proxy(url_of(server, user="me:secret@"), headers={"Proxy-Authorization": "ours"})) as made:
            answer = await get(made, "http://a.example/")
            assert answer.status_code == 407
            with pytest.raises(aiosock.ProxyError):
                await get(made, "https://a.example/")
        said = [request.header_values("Proxy-Authorization") for request in server.requests]
        assert said == [["mine"], ["ours"], ["ours"]]


@pytest.mark.parametrize("user", ["", "me:secret@"])
async def test_a_407_that_cannot_be_answered_is_the_answer_or_the_refusal(user: str) -> None:
    async with Server.answering(demand("Basic realm=x", "Negotiate")) as server:
        async with transport(Proxy(url_of(server, user=user))) as made:
            answer = await get(made, "http://a.example/")
            assert (answer.status_code, answer.content) == (407, b"no")
            with pytest.raises(aiosock.ProxyError, match="407 Proxy Authentication Required: no") as info:
                await get(made, "https://a.example/")
            assert info.value.status_code == 407
            assert not any(secret in f"{info.value}{info.value!r}" for secret in SECRETS)
        assert len(server.requests) == 2


def by_digest(answers: list[bytes], close: bool = False) -> Callable[[Peer], Awaitable[None]]:
    """A proxy that demands Digest, and then gives these answers."""

    async def script(peer: Peer) -> None:
        while request := await peer.read_request():
            said = request.header("Proxy-Authorization") or ""
            if said.startswith("Digest "):
                await peer.send(answers.pop(0) if len(answers) > 1 else answers[0])
            else:
                await peer.send(demand("Basic realm=x", DIGEST, close=close))
                if close:
                    return

    return script


def said(server: Server) -> list[str]:
    """The scheme of each request's credentials, and how often a nonce was used."""
    shown = []
    for request in server.requests:
        value = request.header("Proxy-Authorization") or ""
        scheme, _, rest = value.partition(" ")
        if scheme == "Digest":
            parameters = dict(part.strip().split("=", 1) for part in rest.split(","))
            assert parameters["uri"] == f'"{request.target}"'
            scheme += f" {parameters['nonce']} {parameters['nc']}"
        shown.append(scheme)
    return shown


@pytest.mark.parametrize("digest_only", [False, True])
async def test_digest_is_answered_and_remembered_for_what_is_sent_on(digest_only: bool) -> None:
    informing = response(body=b"ok", headers=[("Proxy-Authentication-Info", 'nextnonce="n2"')])
    async with Server(by_digest([OK, informing, OK])) as server:
        proxy = Proxy(url_of(server), auth=("me", "secret"), digest_only=digest_only)
        async with transport(proxy) as made:
            for host in ("a", "b", "c"):
                answer = await get(made, f"http://{host}.example/", "POST", content=b"body")
                assert answer.content == b"ok"
                assert answer.request is not None
                assert "Proxy-Authorization" not in answer.request.headers
        first = "" if digest_only else "Basic"
        assert said(server) == [first, 'Digest "n1" 00000001', 'Digest "n1" 00000002', 'Digest "n2" 00000001']
        assert [request.body for request in server.requests] == [b"body"] * 4
        assert server.connections == 1


async def test_of_too_many_proxies_the_one_that_was_not_used_for_longest_is_forgotten(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("aiosock.connection.dial.MAX_PROXIES", 2)
    async with Server(by_digest([OK])) as server, transport() as made:
        first, second, third = (
            Proxy(url_of(server), auth=(user, "secret"), digest_only=True) for user in ("a", "b", "c")
        )
        for proxy in (first, second, first, third, first, second):
            await get(made, "http://a.example/", extensions={"proxy": proxy})
        asked = ["", 'Digest "n1" 00000001']
        again = [f'Digest "n1" 0000000{count}' for count in (2, 3)]
        assert said(server) == [*asked, *asked, again[0], *asked, again[1], *asked]


@pytest.mark.parametrize("close", [False, True])
@pytest.mark.parametrize("digest_only", [False, True])
async def test_digest_is_answered_for_tunnels_on_the_same_connection_if_it_is_kept(
    close: bool, digest_only: bool, server_context: SSLContext, ca_file: str
) -> None:
    async def script(peer: Peer) -> None:
        while request := await peer.read_request():
            if (request.header("Proxy-Authorization") or "").startswith("Digest "):
                await peer.send(ESTABLISHED)
                await peer.start_tls(server_context)
                await peer.read_request()
                await peer.send(response(body=b"ok", headers=[("Connection", "close")]))
                return
            await peer.send(demand(DIGEST, close=close))
            if close:
                return

    async with Server(script) as server:
        proxy = Proxy(url_of(server), auth=("me", "secret"), digest_only=digest_only)
        async with transport(proxy, ca_file) as made:
            for _ in range(2):
                assert (await get(made, "https://localhost/")).content == b"ok"
        first = "" if digest_only else "Basic"
        assert said(server) == [first, 'Digest "n1" 00000001', "", 'Digest "n1" 00000002', ""]
        assert server.requests[1].target == "localhost:443"
        assert server.connections == (3 if close else 2)


async def test_what_a_tunnel_learnt_serves_what_is_sent_on() -> None:
    async with Server(by_digest([response(403)])) as server:
        async with transport(Proxy(url_of(server, user="me:secret@"))) as made:
            with pytest.raises(aiosock.ProxyError, match="403"):
                await get(made, "https://a.example/")
            await get(made, "http://a.example/")
        assert said(server) == ["Basic", 'Digest "n1" 00000001', 'Digest "n1" 00000002']


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_a_proxy_that_is_never_content_is_not_answered_for_ever(scheme: str) -> None:
    count = 0

    async def script(peer: Peer) -> None:
        nonlocal count
        while await peer.read_request():
            count += 1
            await peer.send(demand(f'Digest realm="p", nonce="n{count}", qop="auth", stale=true'))

    async with Server(script) as server, transport(Proxy(url_of(server, user="me:secret@"))) as made:
        if scheme == "http":
            assert (await get(made, "http://a.example/")).status_code == 407
        else:
            with pytest.raises(aiosock.ProxyError, match="407"):
                await get(made, "https://a.example/")
        assert 2 <= len(server.requests) <= 4


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_a_refused_password_is_not_tried_again(scheme: str) -> None:
    async with Server.answering(demand(DIGEST)) as server:
        proxy = Proxy(url_of(server), auth=("me", "secret"), digest_only=True)
        async with transport(proxy) as made:
            if scheme == "http":
                assert (await get(made, "http://a.example/")).status_code == 407
            else:
                with pytest.raises(aiosock.ProxyError, match="407"):
                    await get(made, "https://a.example/")
        assert said(server) == ["", 'Digest "n1" 00000001']


async def test_a_body_that_cannot_be_sent_twice_gets_the_407() -> None:
    async with Server(by_digest([OK])) as server, transport(Proxy(url_of(server, user="me:secret@"))) as made:
        answer = await get(made, "http://a.example/", "POST", content=iter([b"once"]))
        assert answer.status_code == 407
        # What was learnt is there for the next.
        assert (await get(made, "http://a.example/", "POST", content=iter([b"once"]))).content == b"ok"


async def test_a_407_of_the_host_in_a_tunnel_is_the_hosts(server_context: SSLContext, ca_file: str) -> None:
    async def script(peer: Peer) -> None:
        await peer.read_head()
        await peer.send(ESTABLISHED)
        await peer.start_tls(server_context)
        await peer.read_request()
        await peer.send(demand(DIGEST))
        await peer.wait_disconnect()

    async with Server(script) as server, transport(Proxy(url_of(server, user="me:secret@")), ca_file) as made:
        assert (await get(made, "https://localhost/")).status_code == 407
        assert said(server) == ["Basic", ""]


@pytest.mark.parametrize("end", ["cut", "reset"])
async def test_a_connection_that_ended_after_a_407_is_replaced(
    end: str, server_context: SSLContext, ca_file: str
) -> None:
    async def script(peer: Peer) -> None:
        request = await peer.read_request()
        assert request is not None
        if peer.number == 0:
            await peer.send(demand(DIGEST))
            await peer.read_head()
            peer.cut() if end == "cut" else peer.reset()
            return
        await peer.send(ESTABLISHED)
        await peer.start_tls(server_context)
        await peer.read_request()
        await peer.send(OK)
        await peer.wait_disconnect()

    async with Server(script) as server, transport(Proxy(url_of(server, user="me:secret@")), ca_file) as made:
        assert (await get(made, "https://localhost/")).content == b"ok"
        assert said(server) == ["Basic", 'Digest "n1" 00000001', 'Digest "n1" 00000002', ""]


# SOCKS


def granting(
    greeting: bytes, request: bytes, reply: bytes, context: SSLContext | None = None, auth: bytes = b""
) -> Callable[[Peer], Awaitable[None]]:
    """A SOCKS proxy that expects these bytes exactly, and is then the host itself."""

    async def exactly(peer: Peer, expected: bytes) -> None:
        got = b""
        while len(got) < len(expected) and (more := await peer.read(len(expected) - len(got))):
            got += more
        assert got == expected

    async def script(peer: Peer) -> None:
        if greeting:
            await exactly(peer, greeting)
            await peer.send(b"\x05\x02" if auth else b"\x05\x00")
        if auth:
            await exactly(peer, auth)
            await peer.send(b"\x01\x00")
        await exactly(peer, request)
        await peer.send_pieces(*(bytes([byte]) for byte in reply))
        if context is not None:
            await peer.start_tls(context)
        while await peer.read_request():
            await peer.send(OK)

    return script


GRANTED_4 = b"\x00\x5a" + bytes(6)
GRANTED_5 = b"\x05\x00\x00\x01" + bytes(6)
SOCKS = [
    ("socks4", "", b"", b"\x04\x01%b\x7f\x00\x00\x01\x00", GRANTED_4, b""),
    ("socks4", "me@", b"", b"\x04\x01%b\x7f\x00\x00\x01me\x00", GRANTED_4, b""),
    ("socks4a", "", b"", b"\x04\x01%b\x00\x00\x00\x01\x00localhost\x00", GRANTED_4, b""),
    ("socks5", "", b"\x05\x01\x00", b"\x05\x01\x00\x01\x7f\x00\x00\x01%b", GRANTED_5, b""),
    ("socks5h", "", b"\x05\x01\x00", b"\x05\x01\x00\x03\x09localhost%b", GRANTED_5, b""),
    (
        *("socks5h", "me:secret@", b"\x05\x02\x00\x02", b"\x05\x01\x00\x03\x09localhost%b", GRANTED_5),
        b"\x01\x02me\x06secret",
    ),
]


@pytest.mark.parametrize("secure", [False, True])
@pytest.mark.parametrize(
    ("scheme", "user", "greeting", "request_", "reply", "auth"), SOCKS, ids=[f"{case[0]}-{case[1]}" for case in SOCKS]
)
async def test_http_and_https_go_through_socks(
    secure: bool,
    scheme: str,
    user: str,
    greeting: bytes,
    request_: bytes,
    reply: bytes,
    auth: bytes,
    server_context: SSLContext,
    ca_file: str,
) -> None:
    port = b"\x01\xbb" if secure else b"\x00\x50"
    script = granting(greeting, request_ % port, reply, server_context if secure else None, auth)
    resolver = Pinned()
    async with Server(script) as server:
        async with transport(Proxy(url_of(server, scheme, user)), ca_file, resolver=resolver) as made:
            url = "https://localhost/x" if secure else "http://localhost/x"
            for _ in range(2):
                answer = await get(made, url, headers={"Proxy-Authorization": "mine"})
                assert answer.content == b"ok"
        assert server.connections == 1
        assert [request.raw_head for request in server.requests] == [b"GET /x HTTP/1.1\r\nHost: localhost\r\n\r\n"] * 2
        assert bool(resolver.asked) is (scheme in ("socks4", "socks5"))


async def test_a_name_is_sent_as_idna_and_an_address_without_its_zone() -> None:
    for url, target in (
        ("http://bücher.example/", b"\x03\x15xn--bcher-kva.example"),
        ("http://192.0.2.1/", b"\x01\xc0\x00\x02\x01"),
        ("http://[fe80::1%25eth0]/", b"\x04\xfe\x80" + bytes(13) + b"\x01"),
    ):
        script = granting(b"\x05\x01\x00", b"\x05\x01\x00" + target + b"\x00\x50", GRANTED_5)
        async with Server(script) as server, transport(Proxy(url_of(server, "socks5h"))) as made:
            assert (await get(made, url)).content == b"ok"


async def test_what_one_address_is_refused_the_next_may_be_granted() -> None:
    asked: list[bytes] = []

    async def script(peer: Peer) -> None:
        await peer.read()
        await peer.send(b"\x05\x00")
        asked.append(await peer.read())
        if peer.number == 0:
            await peer.send(b"\x05\x04\x00\x01" + bytes(6))
            return
        await peer.send(GRANTED_5)
        await peer.read_request()
        await peer.send(OK)
        await peer.wait_disconnect()

    resolver = Pinned("2001:db8::1", "192.0.2.1")
    async with Server(script) as server, transport(Proxy(url_of(server, "socks5")), resolver=resolver) as made:
        assert (await get(made, "http://a.example/")).content == b"ok"
    assert [data[3] for data in asked] == [4, 1]


ADDRESSES = [f"192.0.2.{number}" for number in range(1, 10)]


@pytest.mark.parametrize(
    ("answers", "connections", "words"),
    [
        ([b"\x05\x02", b"\x01\x01"], 1, "refuses this user name and password"),
        ([b"\x05\x00", b"\x05\x00\x00\x09\x00\x00"], 1, "unknown type 9"),
        ([b"\x05\x00"], 1, "closed the connection"),
        ([b"\x05\x00", b"\x05\x05\x00\x01" + bytes(6)], MAX_ASKING, "the connection was refused"),
    ],
    ids=["password", "malformed", "end", "refused"],
)
async def test_only_a_refusal_of_an_address_lets_others_be_tried_and_not_all_of_them(
    answers: list[bytes], connections: int, words: str
) -> None:
    async def script(peer: Peer) -> None:
        for answer in answers:
            await peer.read()
            await peer.send(answer)

    resolver = Pinned(*ADDRESSES)
    async with Server(script) as server:
        async with transport(Proxy(url_of(server, "socks5", "me:secret@")), resolver=resolver) as made:
            with pytest.raises(aiosock.ProxyError, match=words):
                await get(made, "http://a.example/")
        assert server.connections == connections
        await gone(server)


async def test_socks_4_is_given_only_what_it_knows() -> None:
    async with Server.answering(OK) as server:
        proxy = Proxy(url_of(server, "socks4"))
        async with transport(proxy, resolver=Pinned("2001:db8::1")) as made:
            with pytest.raises(aiosock.ProxyError, match=r"a\.example has no IPv4 address"):
                await get(made, "http://a.example/")
            with pytest.raises(aiosock.UsageError, match="no IPv6"):
                await get(made, "http://[2001:db8::1]/")
        assert server.connections == 0


@pytest.mark.parametrize(
    ("answers", "words"),
    [
        ([b"\x05\x00", b"\x05\x05\x00\x01" + bytes(6)], "the connection was refused"),
        ([b"\x05\xff"], "takes neither"),
        ([b"\x05\x02", b"\x01\x01"], "refuses this user name and password"),
        ([b"HTTP/1.1 400 Bad Request\r\n\r\n"], "not SOCKS5"),
        ([b"\x05\x00"], "closed the connection"),
        ([b"\x05\x00", GRANTED_5 + b"HTTP/1.1"], "8 bytes came after its reply"),
    ],
    ids=["refused", "method", "password", "http", "end", "early"],
)
async def test_each_failure_of_socks_names_the_proxy_and_the_host(answers: list[bytes], words: str) -> None:
    async def script(peer: Peer) -> None:
        for answer in answers:
            await peer.read()
            await peer.send(answer)

    async with Server(script) as server:
        async with transport(Proxy(url_of(server, "socks5h", "me:secret@"))) as made:
            with pytest.raises(aiosock.ProxyError, match=words) as info:
                await get(made, "http://a.example/")
        assert f"the proxy 127.0.0.1:{server.port} did not connect to a.example:80: " in str(info.value)
        assert "secret" not in str(info.value)
        assert info.value.__cause__ is not None
        assert server.connections == 1
        await gone(server)


# Time and cancellation


def after(*answers: bytes) -> Callable[[Peer], Awaitable[None]]:
    """A proxy that stalls after these answers."""

    async def script(peer: Peer) -> None:
        for answer in answers:
            await peer.read()
            await peer.send(answer)
        await peer.wait_disconnect()

    return script


STAGES = [
    ("http", (), r"asking the proxy 127\.0\.0\.1:\d+ to connect to a\.example:443"),
    ("http", (b"HTTP/1.1 100 Continue\r\n\r\n",), r"asking the proxy 127\.0\.0\.1:\d+ to connect to a\.example:443"),
    ("http", (ESTABLISHED,), r"in the TLS handshake with a\.example through the proxy 127\.0\.0\.1:\d+"),
    ("socks5h", (), r"in the SOCKS handshake with 127\.0\.0\.1:\d+"),
    ("socks5h", (b"\x05\x00",), r"in the SOCKS handshake with 127\.0\.0\.1:\d+"),
    ("socks5h", (b"\x05\x00", GRANTED_5), r"in the TLS handshake with a\.example through the proxy"),
    ("https", (), r"in the TLS handshake with the proxy 127\.0\.0\.1 at 127\.0\.0\.1:\d+"),
]


@pytest.mark.parametrize(("scheme", "answers", "stage"), STAGES, ids=[f"{case[0]}-{len(case[1])}" for case in STAGES])
async def test_the_time_to_connect_covers_every_stage_and_names_it(
    scheme: str, answers: tuple[bytes, ...], stage: str
) -> None:
    async with Server(after(*answers)) as server, transport(Proxy(url_of(server, scheme))) as made:
        # Time enough to come as far as that on a busy machine.
        extensions = {"timeout": Timeout(connect=0.5)}
        with pytest.raises(aiosock.ConnectTimeout, match=stage):
            await get(made, "https://a.example/", extensions=extensions)
        await gone(server)


@pytest.mark.parametrize(("scheme", "answers", "stage"), STAGES, ids=[f"{case[0]}-{len(case[1])}" for case in STAGES])
async def test_a_cancellation_in_any_stage_leaves_no_socket(
    scheme: str, answers: tuple[bytes, ...], stage: str
) -> None:
    arrived = asyncio.Event()

    async def script(peer: Peer) -> None:
        for answer in answers:
            await peer.read()
            await peer.send_pieces(answer)
        if not answers:
            await peer.read()
        arrived.set()
        await peer.wait_disconnect()

    async with Server(script) as server, transport(Proxy(url_of(server, scheme))) as made:
        task = asyncio.ensure_future(get(made, "https://a.example/"))
        await arrived.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await gone(server)


async def test_a_cancellation_while_the_proxy_is_asked_in_tls_leaves_no_socket(
    server_context: SSLContext, ca_file: str
) -> None:
    arrived = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.read_head()
        arrived.set()
        await peer.wait_disconnect()

    async with Server(script, ssl=server_context) as server, transport(Proxy(server.url), ca_file) as made:
        task = asyncio.ensure_future(get(made, "https://a.example/"))
        await arrived.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await gone(server)
