"""The demo's site answers as its pages say, keeps connections alive, and withstands what clients send."""

from __future__ import annotations

import asyncio
import gzip
import json
import re
import ssl
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from aiosock.testing import Certificates, Server, site
from aiosock.testing.site import PAGES, PIECE

pytestmark = pytest.mark.asyncio


@pytest_asyncio.fixture
async def server() -> AsyncIterator[Server]:
    async with Server(site) as server:
        yield server


async def get(client: Any, target: str, *headers: str, method: str = "GET", body: bytes = b"") -> Any:
    lines = [f"{method} {target} HTTP/1.1", "Host: x", *headers]
    if body:
        lines.append(f"Content-Length: {len(body)}")
    await client.send("\r\n".join([*lines, "", ""]).encode() + body)
    return await client.answer(to_head=method == "HEAD")


def status(head: str) -> int:
    return int(head.split(" ")[1])


def links(body: bytes) -> list[str]:
    return [link.replace("&amp;", "&") for link in re.findall(r'<a href="([^"]*)">', body.decode())]


async def test_the_index_leads_to_every_page_over_one_connection(dial: Any, server: Server) -> None:
    client = await dial(server)
    head, body = await get(client, "/")
    assert status(head) == 200
    assert "Content-Type: text/html" in head
    targets = links(body)
    named = {re.sub(r"^(/\w+/).*", r"\1", target.partition("?")[0]) for target in targets}
    assert named == PAGES.keys() - {"/"}
    for target in targets:
        head, body = await get(client, target)
        assert status(head) == {"/status/404": 404, "/redirect/3": 302}.get(target, 200)
        assert body or target == "/redirect/3"
    assert server.connections == 1


async def test_head_answers_with_the_same_head_and_no_body(dial: Any, server: Server) -> None:
    client = await dial(server)
    _, index = await get(client, "/")
    for target in set(links(index)) - {"/echo"}:
        head, _ = await get(client, target)
        assert await get(client, target, method="HEAD") == (head, b"")


async def test_the_pages_are_a_web_that_can_be_crawled_and_do_not_change(dial: Any, server: Server) -> None:
    client = await dial(server)
    pages: dict[str, bytes] = {}
    waiting = ["/page/0"]
    while waiting:
        target = waiting.pop()
        if target not in pages:
            head, pages[target] = await get(client, target)
            assert status(head) == 200
            waiting += links(pages[target])
    assert len(pages) == 100
    assert b"<h1>Page 7</h1>" in pages["/page/7"]
    assert (await get(client, "/page/7"))[1] == pages["/page/7"]


@pytest.mark.parametrize(
    "target",
    [
        *("/nothing", "/page/100", "/page/-1", "/page/", "/page/1/2", "/page", "/json/", "/redirect/0", "*"),
        *("/status/199", "/status/600", "/status/x", "/status/%C2%B2", "/page/99999999999999999999"),
    ],
)
async def test_anything_else_is_not_found(dial: Any, server: Server, target: str) -> None:
    head, _ = await get(await dial(server), target)
    assert status(head) == 404


async def test_json(dial: Any, server: Server) -> None:
    head, body = await get(await dial(server), "/json")
    assert "Content-Type: application/json\r\n" in head
    assert json.loads(body)["text"] == "grüße ☂"


async def test_chunks_are_as_many_and_as_large_as_asked_for(dial: Any, server: Server) -> None:
    client = await dial(server)
    for query, expected in [
        ("", [100] * 5),
        ("?chunks=3&size=7", [7] * 3),
        ("?size=0", []),
        ("?chunks=-1", []),
    ]:
        await client.send(f"GET /chunked{query} HTTP/1.1\r\n\r\n".encode())
        assert "Transfer-Encoding: chunked" in await client.head()
        assert [len(chunk) async for chunk in client.chunks()] == expected


async def test_gzip(dial: Any, server: Server) -> None:
    head, body = await get(await dial(server), "/gzip")
    assert "Content-Encoding: gzip\r\n" in head
    assert gzip.decompress(body).startswith(b"<!doctype html>")


@pytest.mark.parametrize(
    ("query", "seconds"),
    [("", 0.05), ("?seconds=0", 0), ("?seconds=1e9", 5), ("?seconds=-1", 0)],
)
async def test_slow_waits_and_not_for_ever(
    dial: Any, server: Server, query: str, seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[float] = []
    real = asyncio.sleep

    async def sleep(seconds: float) -> None:
        waited.append(seconds)
        await real(0)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    head, _ = await get(await dial(server), f"/slow{query}")
    assert status(head) == 200
    assert [seconds for seconds in waited if seconds] == [seconds] * (seconds > 0)


async def test_large_is_as_large_as_asked_for(dial: Any, server: Server) -> None:
    client = await dial(server)
    for query, size in [
        ("", 2**20),
        ("?bytes=0", 0),
        ("?bytes=1", 1),
        (f"?bytes={len(PIECE) + 1}", len(PIECE) + 1),
    ]:
        _, body = await get(client, f"/large{query}")
        assert body == (PIECE * 17)[:size]
    head, _ = await get(client, "/large?bytes=99999999999", method="HEAD")
    assert f"Content-Length: {2**30}\r\n" in head


async def test_large_is_sent_no_faster_than_it_is_read(dial: Any, server: Server) -> None:
    slow, quick = await dial(server), await dial(server)
    await slow.send(b"GET /large?bytes=1000000000 HTTP/1.1\r\n\r\n")
    await slow.head()
    for _ in range(50):
        assert status((await get(quick, "/json"))[0]) == 200
    slow.vanish()


async def test_redirections_end_at_the_index(dial: Any, server: Server) -> None:
    client = await dial(server)
    target, hops = "/redirect/3", []
    while target != "/":
        head, _ = await get(client, target)
        assert status(head) == 302
        [target] = re.findall(r"\r\nLocation: (.*)\r\n", head)
        hops.append(target)
    assert hops == ["/redirect/2", "/redirect/1", "/"]


async def test_any_status_can_be_had_and_the_connection_lives(dial: Any, server: Server) -> None:
    client = await dial(server)
    for code in range(200, 600):
        head, body = await get(client, f"/status/{code}")
        assert status(head) == code
        assert bool(body) == (code not in (204, 304))
    assert server.connections == 1


async def test_echo_gives_back_what_was_sent(dial: Any, server: Server) -> None:
    client = await dial(server)
    _, body = await get(client, "/echo?a=%20", "x-A: 1", "x-A: ü".encode().decode("latin-1"), method="PUT")
    assert json.loads(body)["headers"][:2] == [["Host", "x"], ["x-A", "1"]]
    assert json.loads(body)["method"] == "PUT"
    assert json.loads(body)["target"] == "/echo?a=%20"
    _, body = await get(client, "/echo", method="POST", body="grüße".encode() + b"\xff")
    assert json.loads(body)["body"] == "grüße\\xff"
    await client.send(b"POST /echo HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nT: 1\r\n\r\n")
    _, body = await client.answer()
    assert json.loads(body)["body"] == "hi"
    assert json.loads(body)["trailers"] == [["T", "1"]]


async def test_upload_counts_bodies_of_either_framing(dial: Any, server: Server) -> None:
    client = await dial(server)
    assert json.loads((await get(client, "/upload"))[1]) == {"bytes": 0}
    _, body = await get(client, "/upload", method="POST", body=bytes(5_000_000))
    assert json.loads(body) == {"bytes": 5_000_000}
    await client.send(b"PUT /upload HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n")
    await client.send((b"1000\r\n" + bytes(4096) + b"\r\n") * 100 + b"0\r\n\r\n")
    assert json.loads((await client.answer())[1]) == {"bytes": 409_600}
    assert server.requests[-1].body == b""


async def test_lines_are_json_and_events_are_events(dial: Any, server: Server) -> None:
    client = await dial(server)
    _, body = await get(client, "/lines?count=3")
    assert [json.loads(line) for line in body.splitlines()] == [{"line": 0}, {"line": 1}, {"line": 2}]
    head, body = await get(client, "/events")
    assert "Content-Type: text/event-stream\r\n" in head
    assert body.count(b"\n\n") == 4


async def test_robots_txt_is_text(dial: Any, server: Server) -> None:
    head, body = await get(await dial(server), "/robots.txt")
    assert "Content-Type: text/plain" in head
    assert b"Disallow: /status/\n" in body


async def test_a_body_that_a_page_does_not_want_does_not_disturb_the_next_request(dial: Any, server: Server) -> None:
    client = await dial(server)
    await get(client, "/json", method="POST", body=b"GET /nothing HTTP/1.1\r\n\r\n" * 10_000)
    assert status((await get(client, "/json"))[0]) == 200


async def test_connection_close_is_honoured(dial: Any, server: Server) -> None:
    client = await dial(server)
    head, _ = await get(client, "/json", "Connection: foo, Close")
    assert "Connection: close\r\n" in head
    assert await client.rest() == b""


@pytest.mark.parametrize("target", ["/json", "/chunked"])
async def test_http_1_0_gets_no_chunks_and_is_closed(dial: Any, server: Server, target: str) -> None:
    client = await dial(server)
    await client.send(f"GET {target} HTTP/1.0\r\n\r\n".encode())
    head = await client.head()
    assert "Transfer-Encoding" not in head
    assert "Connection: close\r\n" in head
    assert ("Content-Length" in head) == (target == "/json")
    assert len(await client.rest()) > 50


async def test_an_expected_continue_comes_before_the_body(dial: Any, server: Server) -> None:
    client = await dial(server)
    for _ in range(2):
        await client.send(b"POST /upload HTTP/1.1\r\nExpect: 100-Continue\r\nContent-Length: 3\r\n\r\n")
        assert await client.head() == "HTTP/1.1 100 Continue\r\n\r\n"
        await client.send(b"abc")
        assert json.loads((await client.answer())[1]) == {"bytes": 3}


async def test_an_expected_continue_is_refused_where_there_is_no_page(dial: Any, server: Server) -> None:
    client = await dial(server)
    await client.send(b"POST /nothing HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n")
    head, _ = await client.answer()
    assert status(head) == 404
    assert "Connection: close\r\n" in head
    assert await client.rest() == b""


@pytest.mark.parametrize(
    "sent",
    [
        b"GET /slow?seconds=soon HTTP/1.1\r\n\r\n",
        b"GET /slow?seconds=nan HTTP/1.1\r\n\r\n",
        b"GET http://[ HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n",
        b"POST /upload HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n",
        b"\x16\x03\x01\x02\x00\r\n\r\n",
    ],
)
async def test_what_is_wrong_is_answered_with_400_and_closed(dial: Any, server: Server, sent: bytes) -> None:
    client = await dial(server)
    await client.send(sent)
    assert status((await client.answer())[0]) == 400
    assert await client.rest() == b""


async def test_absolute_targets_are_understood(dial: Any, server: Server) -> None:
    head, _ = await get(await dial(server), "http://x.example/json?a")
    assert status(head) == 200


async def test_it_works_over_tls(dial: Any, certificates: Certificates, server_context: ssl.SSLContext) -> None:
    async with Server(site, ssl=server_context) as server:
        client = await dial(server, certificates.client_context())
        for _ in range(2):
            assert len((await get(client, "/large"))[1]) == 2**20
