"""The client and proxies that nobody wrote for these tests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from ssl import SSLContext
from typing import NamedTuple

import pytest

import aiosock
from aiosock import Limits
from aiosock.connection.proxy import Proxy
from aiosock.testing import Certificates, Server
from aiosock.testing.site import site
from tests.kit.clients import checked_client, settled
from tests.kit.nginx import Nginx, free_ports, running_nginx
from tests.kit.proxies import (
    PASSWORD,
    USER,
    RunningProxy,
    running_dante,
    running_microsocks,
    running_squid,
    running_tinyproxy,
    running_twisted,
)

LARGE = 5_000_000


@pytest.fixture(scope="module")
def nginx(tmp_path_factory: pytest.TempPathFactory, certificates: Certificates) -> Iterator[Nginx]:
    with running_nginx(tmp_path_factory.mktemp("nginx"), certificates) as running:
        yield running


@pytest.fixture(scope="module")
def squid(certificates: Certificates) -> Iterator[RunningProxy]:
    with running_squid(certificates) as running:
        yield running


@pytest.fixture(scope="module")
def squid_basic(certificates: Certificates) -> Iterator[RunningProxy]:
    with running_squid(certificates, "basic") as running:
        yield running


@pytest.fixture(scope="module")
def squid_digest(certificates: Certificates) -> Iterator[RunningProxy]:
    with running_squid(certificates, "digest") as running:
        yield running


@pytest.fixture(scope="module")
def tinyproxy() -> Iterator[RunningProxy]:
    with running_tinyproxy() as running:
        yield running


@pytest.fixture(scope="module")
def tinyproxy_basic() -> Iterator[RunningProxy]:
    with running_tinyproxy(authenticated=True) as running:
        yield running


@pytest.fixture(scope="module")
def microsocks() -> Iterator[RunningProxy]:
    with running_microsocks() as running:
        yield running


@pytest.fixture(scope="module")
def microsocks_password() -> Iterator[RunningProxy]:
    with running_microsocks(authenticated=True) as running:
        yield running


@pytest.fixture(scope="module")
def dante() -> Iterator[RunningProxy]:
    with running_dante() as running:
        yield running


@pytest.fixture(scope="module")
def twisted() -> Iterator[RunningProxy]:
    with running_twisted() as running:
        yield running


class Way(NamedTuple):
    """A proxy, named by its fixture, and how it is spoken to."""

    fixture: str
    scheme: str
    guarded: bool = False
    refusal: int | None = None
    """The status of an HTTP proxy that does not like user or password."""

    @property
    def tunnels(self) -> bool:
        """It leads to the host itself, whatever the scheme."""
        return self.scheme.startswith("socks")

    @property
    def keeps_connections(self) -> bool:
        """It takes another http request over the same connection."""
        return not self.fixture.startswith("tinyproxy")

    def __str__(self) -> str:
        return f"{self.scheme} {self.fixture}"


OPEN = [
    Way("squid", "http"),
    Way("squid", "https"),
    Way("tinyproxy", "http"),
    Way("microsocks", "socks5"),
    Way("microsocks", "socks5h"),
    Way("dante", "socks4"),
    Way("dante", "socks5"),
    Way("dante", "socks5h"),
    Way("twisted", "socks4"),
    Way("twisted", "socks4a"),
]
GUARDED = [
    Way("squid_basic", "http", True, 407),
    Way("squid_basic", "https", True, 407),
    Way("squid_digest", "http", True, 407),
    Way("squid_digest", "https", True, 407),
    # It takes wrong credentials for the origin's matter.
    Way("tinyproxy_basic", "http", True, 401),
    Way("microsocks_password", "socks5h", True),
]


@pytest.fixture
def running(way: Way, request: pytest.FixtureRequest) -> RunningProxy:
    """The proxy of the way under test."""
    running: RunningProxy = request.getfixturevalue(way.fixture)
    return running


@pytest.fixture
def proxy(way: Way, running: RunningProxy) -> str:
    """The URL of the proxy under test, with user and password where it wants them."""
    return running.url(way.scheme, user=USER, password=PASSWORD) if way.guarded else running.url(way.scheme)


@pytest.fixture(params=["http", "https"])
def secure(request: pytest.FixtureRequest) -> bool:
    """Whether the host is spoken to in TLS."""
    return bool(request.param == "https")


@pytest.fixture
async def server(secure: bool, server_context: SSLContext) -> AsyncIterator[Server]:
    async with Server(site, ssl=server_context if secure else None) as server:
        yield server


every_way = pytest.mark.parametrize("way", [*OPEN, *GUARDED], ids=str)
guarded_ways = pytest.mark.parametrize("way", GUARDED, ids=str)


@every_way
async def test_requests_reach_the_host_over_one_connection(
    way: Way, proxy: str, running: RunningProxy, secure: bool, nginx: Nginx, ca_file: str
) -> None:
    url = (nginx.tls if secure else nginx.plain) + "/small.txt"
    async with checked_client(proxy=proxy, trust_env=False, verify=ca_file) as client:
        for _ in range(3):
            answer = await client.get(url)
            assert (answer.status_code, answer.text) == (200, "small\n")
            assert answer.connection is not None
            assert answer.connection.remote_address == running.addresses[way.scheme]
        assert client.pool.opened == (1 if secure or way.tunnels or way.keeps_connections else 3)


@every_way
async def test_large_bodies_go_both_ways(way: Way, proxy: str, server: Server, ca_file: str) -> None:
    async with checked_client(proxy=proxy, trust_env=False, verify=ca_file) as client:
        assert len((await client.get(f"{server.url}/large?bytes={LARGE}")).content) == LARGE
        async with client.stream("GET", f"{server.url}/large?bytes={LARGE}") as streamed:
            assert sum([len(piece) async for piece in streamed.iter_bytes()]) == LARGE
        for content in (b"x" * LARGE, [b"x" * 50_000] * (LARGE // 50_000)):
            # Not POST: tinyproxy ends connections unannounced, and what is not idempotent may then not be sent again.
            answer = await client.put(f"{server.url}/upload", content=content)
            assert answer.json() == {"bytes": LARGE}
        await settled(client)


@every_way
async def test_many_at_once(way: Way, proxy: str, secure: bool, nginx: Nginx, ca_file: str) -> None:
    url = (nginx.tls if secure else nginx.plain) + "/small.txt"
    async with checked_client(
        proxy=proxy, trust_env=False, verify=ca_file, limits=Limits(max_connections=10)
    ) as client:
        answers = await asyncio.gather(*(client.get(url) for _ in range(100)))
        assert {(answer.status_code, answer.text) for answer in answers} == {(200, "small\n")}
        await settled(client)


@every_way
async def test_the_host_sees_nothing_that_is_meant_for_the_proxy(
    way: Way, proxy: str, secure: bool, server: Server, ca_file: str
) -> None:
    given = Proxy(proxy, headers=None if way.tunnels else {"X-For-Proxy": "1"})
    async with checked_client(proxy=given, trust_env=False, verify=ca_file) as client:
        answer = await client.post(f"{server.url}/echo", content=b"hello", headers={"Authorization": "Bearer mine"})
        assert answer.json()["body"] == "hello"
    (seen,) = server.requests
    names = {name.lower() for name, _ in seen.headers}
    assert seen.target == "/echo"
    assert ("Authorization", "Bearer mine") in seen.headers
    assert "proxy-authorization" not in names
    if secure or way.tunnels:
        assert not names & {"x-for-proxy", "via", "proxy-connection"}
    else:
        # The proxy got it, and sent it on.
        assert "x-for-proxy" in names


@pytest.mark.parametrize("user", [USER, ""], ids=["wrong", "missing"])
@guarded_ways
async def test_credentials_that_the_proxy_does_not_like(
    way: Way, running: RunningProxy, user: str, secure: bool, nginx: Nginx, ca_file: str
) -> None:
    proxy = running.url(way.scheme, user=user, password="hunter2")
    refusal = way.refusal if user else way.refusal and 407
    async with checked_client(proxy=proxy, trust_env=False, verify=ca_file) as client:
        if secure or way.tunnels:
            with pytest.raises(aiosock.ProxyError) as caught:
                await client.get((nginx.tls if secure else nginx.plain) + "/small.txt")
            assert caught.value.status_code == refusal
            assert "hunter2" not in str(caught.value)
        else:
            assert (await client.get(nginx.plain + "/small.txt")).status_code == refusal
        await settled(client)


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_a_password_that_is_only_proved(
    scheme: str, squid_digest: RunningProxy, secure: bool, nginx: Nginx, ca_file: str
) -> None:
    proxy = Proxy(squid_digest.url(scheme), auth=(USER, PASSWORD), digest_only=True)
    async with checked_client(proxy=proxy, trust_env=False, verify=ca_file) as client:
        for _ in range(3):
            assert (await client.get((nginx.tls if secure else nginx.plain) + "/small.txt")).text == "small\n"
        assert client.pool.opened == 1


@pytest.mark.parametrize("way", OPEN, ids=str)
async def test_a_host_that_the_proxy_cannot_reach(way: Way, proxy: str, secure: bool, ca_file: str) -> None:
    (port,) = free_ports(1)
    async with checked_client(proxy=proxy, trust_env=False, verify=ca_file) as client:
        if secure or way.tunnels:
            with pytest.raises(aiosock.ProxyError) as caught:
                await client.get(f"{'https' if secure else 'http'}://127.0.0.1:{port}/")
            assert (caught.value.status_code is None) == way.tunnels
            assert way.tunnels or caught.value.status_code in range(500, 600)
        else:
            assert (await client.get(f"http://127.0.0.1:{port}/")).status_code in range(500, 600)
        await settled(client)


@pytest.mark.parametrize("way", [Way("squid", "http"), Way("dante", "socks5h"), Way("twisted", "socks4a")], ids=str)
async def test_the_name_of_the_host_is_the_proxys_to_resolve(
    way: Way, proxy: str, secure: bool, server: Server, ca_file: str
) -> None:
    class Deaf:
        async def resolve(self, host: str, port: int) -> list[str]:
            raise AssertionError(f"{host} was looked up here")

    url = f"{'https' if secure else 'http'}://localhost:{server.port}/json"
    async with checked_client(proxy=proxy, trust_env=False, verify=ca_file, resolver=Deaf()) as client:
        assert (await client.get(url)).json()["name"] == "aiosock"
        await settled(client)


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_a_request_can_have_a_proxy_of_its_own(
    scheme: str, squid: RunningProxy, microsocks: RunningProxy, nginx: Nginx, ca_file: str
) -> None:
    url = nginx.plain + "/small.txt"
    async with checked_client(proxy=squid.url(scheme), trust_env=False, verify=ca_file) as client:
        assert "Via" in (await client.get(url)).headers
        assert "Via" not in (await client.get(url, proxy=microsocks.url("socks5"))).headers
        assert "Via" not in (await client.get(url, proxy=None)).headers
        assert "Via" in (await client.get(url)).headers
        assert client.pool.opened == 3


async def test_one_connection_to_the_proxy_serves_all_hosts_of_http(
    squid: RunningProxy, nginx: Nginx, tmp_path: Path, certificates: Certificates
) -> None:
    async with (
        Server(site) as server,
        checked_client(proxy={"http://": squid.url("http")}, trust_env=False) as client,
    ):
        assert (await client.get(nginx.plain + "/small.txt")).text == "small\n"
        assert (await client.get(f"{server.url}/json")).json()["name"] == "aiosock"
        assert client.pool.opened == 1


async def test_the_environment_names_the_proxy(
    squid: RunningProxy, nginx: Nginx, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = nginx.plain + "/small.txt"
    monkeypatch.setenv("http_proxy", squid.url("http"))
    async with checked_client() as client, checked_client(trust_env=False) as deaf:
        assert "Via" in (await client.get(url)).headers
        assert "Via" not in (await deaf.get(url)).headers
    monkeypatch.setenv("no_proxy", "127.0.0.0/8")
    async with checked_client() as client:
        assert "Via" not in (await client.get(url)).headers
