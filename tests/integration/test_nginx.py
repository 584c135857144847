"""The client and nginx, a peer that nobody wrote for these tests."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

import aiosock
from aiosock import Limits
from aiosock.testing import Certificates
from tests.kit.clients import checked_client, settled
from tests.kit.nginx import Nginx, running_nginx


@pytest.fixture(scope="module")
def nginx(tmp_path_factory: pytest.TempPathFactory, certificates: Certificates) -> Iterator[Nginx]:
    with running_nginx(tmp_path_factory.mktemp("nginx"), certificates) as running:
        yield running


@pytest.fixture(params=["plain", "tls"])
def url(request: pytest.FixtureRequest, nginx: Nginx) -> str:
    return nginx.plain if request.param == "plain" else nginx.tls


async def test_keep_alive(url: str, ca_file: str) -> None:
    async with checked_client(verify=ca_file) as client:
        for _ in range(20):
            assert (await client.get(url + "/small.txt")).text == "small\n"
        assert client.pool.opened == 1


async def test_gzip_and_chunked(url: str, ca_file: str) -> None:
    async with checked_client(verify=ca_file) as client:
        answer = await client.get(url + "/large.txt")
        assert answer.headers["Content-Encoding"] == "gzip"
        assert answer.headers["Transfer-Encoding"] == "chunked"
        assert answer.text == "0123456789" * 500_000
        answer = await client.get(url + "/chunked")
        assert answer.headers["Transfer-Encoding"] == "chunked"
        assert answer.text == "before small\n after\n"
        assert client.pool.opened == 1


async def test_ranges_and_identity(url: str, ca_file: str) -> None:
    async with checked_client(verify=ca_file, headers={"Accept-Encoding": "identity"}) as client:
        answer = await client.get(url + "/large.txt", headers={"Range": "bytes=10-14"})
        assert (answer.status_code, answer.content) == (206, b"01234")
        answer = await client.get(url + "/large.txt")
        assert answer.headers["Content-Length"] == str(len(answer.content)) == "5000000"
        async with client.stream("GET", url + "/large.txt") as streamed:
            assert sum([len(piece) async for piece in streamed.iter_bytes()]) == 5_000_000
        assert client.pool.opened == 1


async def test_head_and_not_modified(url: str, ca_file: str) -> None:
    async with checked_client(verify=ca_file) as client:
        head = await client.head(url + "/small.txt")
        assert (head.status_code, head.content) == (200, b"")
        answer = await client.get(url + "/small.txt", headers={"If-None-Match": head.headers["ETag"]})
        assert (answer.status_code, answer.content) == (304, b"")
        assert (await client.get(url + "/missing")).status_code == 404
        assert (await client.get(url + "/moved")).text == "small\n"
        assert client.pool.opened == 1


async def test_a_server_that_ends_connections_after_some_requests(url: str, ca_file: str) -> None:
    async with checked_client(verify=ca_file, limits=Limits(max_connections=5)) as client:
        answers = await asyncio.gather(*(client.get(url + "/three") for _ in range(100)))
        assert {answer.text for answer in answers} == {"small\n"}
        await settled(client)


async def test_an_announced_short_life_is_believed(url: str, ca_file: str) -> None:
    async with checked_client(verify=ca_file) as client:
        answer = await client.get(url + "/short")
        assert answer.headers["Keep-Alive"] == "timeout=1"
        assert client.pool.idle == 0


async def test_a_body_that_is_refused(url: str, ca_file: str) -> None:
    async with checked_client(verify=ca_file) as client:
        for content in (b"x" * 10_000_000, [b"x" * 100_000] * 100):
            answer = await client.post(url + "/refuse", content=content)
            assert answer.status_code == 413
            await settled(client)


async def test_many_at_once(url: str, ca_file: str) -> None:
    async with aiosock.Client(verify=ca_file, limits=Limits(max_connections=20)) as client:
        answers = await asyncio.gather(*(client.get(url + "/small.txt") for _ in range(1000)))
        assert {answer.text for answer in answers} == {"small\n"}
        assert client.pool.opened <= 20
        await settled(client)


async def test_a_request_that_nginx_does_not_like(nginx: Nginx) -> None:
    async with checked_client() as client:
        answer = await client.get(nginx.tls.replace("https", "http"))
        assert answer.status_code == 400
        assert "plain HTTP request was sent to HTTPS port" in answer.text
