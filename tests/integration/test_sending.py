"""Sending: bodies of every kind, early answers, failures half way, 100 (Continue), trailers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from io import BytesIO
from pathlib import Path

import pytest

import aiosock
from aiosock.testing import Peer, Server, response
from tests.kit.clients import check, checked_client, settled

OK = response(body=b"ok")
MANY = 20 * 1024 * 1024


async def pieces(*each: bytes) -> AsyncIterator[bytes]:
    for piece in each:
        yield piece


def plain_pieces(*each: bytes) -> Iterator[bytes]:
    yield from each


@pytest.mark.parametrize(
    ("content", "framing"),
    [
        (b"hello", ("Content-Length", "5")),
        ("hello", ("Content-Length", "5")),
        (bytearray(b"hello"), ("Content-Length", "5")),
        (lambda: BytesIO(b"hello"), ("Content-Length", "5")),
        ([b"he", b"llo"], ("Transfer-Encoding", "chunked")),
        (lambda: plain_pieces(b"he", b"", b"llo"), ("Transfer-Encoding", "chunked")),
        (lambda: pieces(b"he", b"llo"), ("Transfer-Encoding", "chunked")),
    ],
    ids=["bytes", "str", "bytearray", "BytesIO", "list", "generator", "async generator"],
)
async def test_bodies_are_framed_by_what_is_known_of_them(content: object, framing: tuple[str, str]) -> None:
    async with Server.answering(OK) as server, checked_client() as client:
        body = content() if callable(content) else content
        assert (await client.post(server.url, content=body)).text == "ok"  # type: ignore[arg-type]
        assert server.requests[0].body == b"hello"
        assert framing in server.requests[0].headers
        assert server.connections == client.pool.idle == 1


async def test_a_real_file_is_sent_from_where_it_stands(tmp_path: Path) -> None:
    path = tmp_path / "file"
    await asyncio.to_thread(path.write_bytes, b"skipped" + b"x" * 300_000)
    file = await asyncio.to_thread(path.open, "rb")
    try:
        await asyncio.to_thread(file.seek, 7)
        async with Server.answering(OK) as server, checked_client() as client:
            await client.post(server.url, content=file)
            assert server.requests[0].body == b"x" * 300_000
            assert server.requests[0].header("Content-Length") == "300000"
    finally:
        await asyncio.to_thread(file.close)


async def test_a_large_body_arrives_whole_when_the_server_reads_late() -> None:
    gate = asyncio.Event()

    async def script(peer: Peer) -> None:
        head = await peer.read_head()
        assert head is not None
        await gate.wait()
        await peer.send(response(body=str(len(await peer.read_body(head))).encode()))

    async with Server(script) as server, checked_client() as client:
        for content in (b"x" * MANY, pieces(*[b"x" * 1024 * 1024] * 20)):
            gate.clear()
            task = asyncio.create_task(client.post(server.url, content=content))
            while not server.open_connections:
                await asyncio.sleep(0)
            gate.set()
            assert (await task).text == str(MANY)


@pytest.mark.parametrize("kind", ["bytes", "iterator"])
async def test_an_early_refusal_reaches_the_caller_and_stops_the_sending(kind: str) -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while True:
            sent += 1
            yield b"x" * 65536

    async def script(peer: Peer) -> None:
        await peer.read_head()
        await peer.send(response(413, b"too much"))
        await peer.wait_disconnect()

    async with Server(script) as server, checked_client() as client:
        content = b"x" * MANY if kind == "bytes" else endless()
        answer = await client.post(server.url, content=content)
        assert (answer.status_code, answer.text) == (413, "too much")
        assert client.pool.idle == 0
        await settled(client)
        if kind == "iterator":
            stopped_at = sent
            for _ in range(10):
                await asyncio.sleep(0)
            assert sent == stopped_at


async def test_an_early_refusal_is_read_although_the_server_closes_at_once() -> None:
    async def script(peer: Peer) -> None:
        await peer.read_head()
        await peer.send(response(401, b"who are you?", headers=[("Connection", "close")]))
        peer.half_close()
        await peer.wait_disconnect()

    async with Server(script) as server, checked_client() as client:
        answer = await client.post(server.url, content=b"x" * MANY)
        assert (answer.status_code, answer.text) == (401, "who are you?")


@pytest.mark.parametrize(
    ("head", "chunked"),
    [
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", True),
        (b"HTTP/1.1 200 OK\r\n\r\n", False),
        (b"HTTP/1.0 200 OK\r\n\r\n", False),
    ],
    ids=["chunked", "until close", "HTTP/1.0"],
)
async def test_an_early_success_goes_on_sending_while_the_caller_reads(head: bytes, chunked: bool) -> None:
    received = bytearray()

    async def script(peer: Peer) -> None:
        request = await peer.read_head()
        assert request is not None
        await peer.send(head)
        body = peer.open_body(request)
        while piece := await body.read():
            received.extend(piece)
            await peer.send(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece)
        if chunked:
            await peer.send(b"0\r\n\r\n")
            await peer.wait_disconnect()

    async def slowly() -> AsyncIterator[bytes]:
        for number in range(5):
            echoed = len(received)
            yield f"line {number}\n".encode()
            while len(received) == echoed:
                await asyncio.sleep(0)

    async with Server(script) as server, checked_client() as client:
        async with client.stream("POST", server.url, content=slowly()) as answer:
            assert [line async for line in answer.iter_lines()] == [f"line {number}" for number in range(5)]
        assert client.pool.idle == chunked
        check(client)


async def test_the_call_returns_when_the_body_is_sent_although_the_answer_was_whole_before() -> None:
    async def script(peer: Peer) -> None:
        head = await peer.read_head()
        assert head is not None
        await peer.send(OK)
        assert len(await peer.read_body(head)) == MANY
        await peer.wait_disconnect()

    async with Server(script) as server, checked_client() as client:
        assert (await client.post(server.url, content=pieces(b"x" * MANY))).text == "ok"
        assert client.pool.idle == 1


async def test_when_the_server_hangs_up_on_a_body_the_failure_to_send_is_reported() -> None:
    async def script(peer: Peer) -> None:
        await peer.read_head()
        peer.reset()

    async with Server(script) as server, checked_client() as client:
        with pytest.raises((aiosock.WriteError, aiosock.ReadError)) as caught:
            await client.post(server.url, content=b"x" * MANY)
        assert "127.0.0.1" in str(caught.value)
        await settled(client)


class Broken(Exception):
    pass


async def test_an_exception_of_the_body_reaches_the_caller_as_it_is() -> None:
    async def failing() -> AsyncIterator[bytes]:
        yield b"x"
        raise Broken

    async def script(peer: Peer) -> None:
        await peer.read_head()
        await peer.wait_disconnect()

    async with Server(script) as server, checked_client() as client:
        with pytest.raises(Broken):
            await client.post(server.url, content=failing())
        await settled(client)
        assert client.pool.idle == 0


@pytest.mark.parametrize(("body", "words"), [(b"1234", "short of"), (b"123456", "passes")])
@pytest.mark.parametrize("kind", ["bytes", "iterator"])
async def test_a_body_that_breaks_its_declared_length_is_an_error(body: bytes, words: str, kind: str) -> None:
    async def script(peer: Peer) -> None:
        await peer.wait_disconnect()

    async with Server(script) as server, checked_client() as client:
        content = body if kind == "bytes" else pieces(*(bytes([byte]) for byte in body))
        with pytest.raises(aiosock.LocalProtocolError, match=words):
            await client.post(server.url, content=content, headers={"Content-Length": "5"})
        await settled(client)
        assert client.pool.idle == 0


async def test_a_declared_length_without_a_body_is_an_error() -> None:
    async with Server.answering(OK) as server, checked_client() as client:
        with pytest.raises(aiosock.LocalProtocolError, match="short of"):
            await client.get(server.url, headers={"Content-Length": "5"})
        assert (await client.get(server.url)).text == "ok"


async def test_pieces_that_are_not_bytes_are_refused_in_words() -> None:
    async def script(peer: Peer) -> None:
        await peer.wait_disconnect()

    async with Server(script) as server, checked_client() as client:
        with pytest.raises(aiosock.UsageError, match="must be bytes, not str"):
            await client.post(server.url, content=iter(["text"]))  # type: ignore[list-item]  # that is the point
        await settled(client)


async def test_trailers_follow_a_chunked_body() -> None:
    async with Server.answering(OK) as server, checked_client() as client:
        trailers = {"trailers": lambda: [("Checksum", "abc")]}
        await client.post(server.url, content=pieces(b"x"), extensions=trailers)
        assert list(server.requests[0].trailers) == [("Checksum", "abc")]


@pytest.mark.parametrize("given", [5, lambda: None, {"Checksum": "abc"}, lambda: ["ab"], [("Checksum", b"abc")]])
@pytest.mark.parametrize("in_pieces", [True, False])
async def test_trailers_that_are_none_are_refused_in_words(given: object, in_pieces: bool) -> None:
    async with Server.answering(OK) as server, checked_client() as client:
        content = pieces(b"x") if in_pieces else b"x"
        chunked = {"Transfer-Encoding": "chunked"}
        with pytest.raises(aiosock.UsageError, match="the extension trailers is pairs|a trailer is a pair"):
            await client.post(server.url, content=content, headers=chunked, extensions={"trailers": given})
        await settled(client)


async def test_a_body_waits_for_100_continue() -> None:
    async def script(peer: Peer) -> None:
        head = await peer.read_head()
        assert head is not None
        assert head.header("Expect") == "100-continue"
        await peer.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        assert await peer.read_body(head) == b"hello"
        await peer.send(OK)
        await peer.wait_disconnect()

    seen: list[int] = []
    async with Server(script) as server, checked_client() as client:
        answer = await client.put(
            server.url,
            content=b"hello",
            headers={"Expect": "100-continue"},
            on_informational=lambda early: seen.append(early.status_code),
        )
        assert answer.text == "ok"
        assert seen == [early.status_code for early in answer.informational] == [100]
        assert client.pool.idle == 1


async def test_a_body_that_waits_is_not_sent_when_the_answer_is_final() -> None:
    async def script(peer: Peer) -> None:
        await peer.read_head()
        await peer.send(response(417, b"no"))
        assert await peer.read() == b""

    async with Server(script) as server, checked_client() as client:
        answer = await client.put(server.url, content=b"hello", headers={"Expect": "100-continue"})
        assert (answer.status_code, answer.text) == (417, "no")
        assert client.pool.idle == 0
        await settled(client)


async def test_the_wait_for_100_continue_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aiosock.connection.outgoing.EXPECT_SECONDS", 0.02)

    async def script(peer: Peer) -> None:
        head = await peer.read_head()
        assert head is not None
        assert await peer.read_body(head) == b"hello"
        await peer.send(OK)
        await peer.wait_disconnect()

    async with Server(script) as server, checked_client() as client:
        answer = await client.put(server.url, content=b"hello", headers={"Expect": "100-continue"})
        assert answer.text == "ok"


async def test_early_hints_reach_a_caller_who_asks() -> None:
    early = b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n"
    hints: list[str] = []
    async with Server.answering(early + early + OK) as server, checked_client() as client:
        answer = await client.get(server.url, on_informational=lambda one: hints.append(one.headers["Link"]))
        assert hints == ["</style.css>; rel=preload"] * 2
        assert answer.text == "ok"
        assert [one.status_code for one in answer.informational] == [103, 103]


async def test_an_exception_of_on_informational_reaches_the_caller() -> None:
    def fail(_: aiosock.Response) -> None:
        raise Broken

    async with Server.answering(b"HTTP/1.1 103 Early Hints\r\n\r\n" + OK) as server, checked_client() as client:
        with pytest.raises(Broken):
            await client.get(server.url, on_informational=fail)
        await settled(client)


async def test_what_would_have_to_be_awaited_cannot_be_told_of_informational_answers() -> None:
    async def script(peer: Peer) -> None:
        await peer.read_request()
        await peer.send(b"HTTP/1.1 103 Early Hints\r\n\r\n" + OK)
        await peer.wait_disconnect()

    async def listen(answer: aiosock.Response) -> None:
        raise AssertionError("never run")

    async with Server(script) as server, checked_client() as client:
        with pytest.raises(aiosock.UsageError, match="on_informational: takes a plain function"):
            await client.get(server.url, on_informational=listen)  # type: ignore[arg-type]  # that is the point
        await settled(client)


async def test_101_hands_over_the_connection_with_what_was_already_read() -> None:
    async def script(peer: Peer) -> None:
        await peer.read_head()
        await peer.send(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: echo\r\nConnection: upgrade\r\n\r\nhello")
        while data := await peer.read():
            await peer.send(data.upper())

    async with Server(script) as server, checked_client() as client:
        headers = {"Upgrade": "echo", "Connection": "upgrade"}
        async with client.stream("GET", server.url, headers=headers) as answer:
            assert answer.status_code == 101
            assert answer.stream is not None
            assert await answer.stream.read() == b"hello"
            await answer.stream.write(b"x")
            assert await answer.stream.read() == b"X"
        await settled(client)
        assert client.pool.idle == 0
        answer = await client.get(server.url, headers=headers)
        assert answer.content == b""
        assert answer.stream is not None
        await answer.stream.close()
        await settled(client)


async def test_connect_hands_over_the_connection() -> None:
    async def script(peer: Peer) -> None:
        request = await peer.read_head()
        assert request is not None
        assert (request.method, request.target) == ("CONNECT", "example.com:443")
        await peer.send(b"HTTP/1.1 200 OK\r\n\r\n")
        await peer.send(await peer.read())

    async with Server(script) as server, checked_client() as client:
        request = client.build_request("CONNECT", server.url).replace(target="example.com:443")
        answer = await client.send(request, stream=True)
        assert answer.stream is not None
        await answer.stream.write(b"ping")
        assert await answer.stream.read() == b"ping"
        await answer.close()
        await settled(client)


async def test_other_forms_of_the_target() -> None:
    async with Server.answering(OK) as server, checked_client() as client:
        for method, target in (("OPTIONS", "*"), ("GET", "http://example.com/absolute")):
            await client.send(client.build_request(method, server.url).replace(target=target))
            assert (server.requests[-1].method, server.requests[-1].target) == (method, target)


@pytest.mark.parametrize("kind", [aiosock.ReadTimeout, aiosock.WriteError, aiosock.WriteTimeout, aiosock.ReadError])
async def test_an_error_of_another_exchange_that_feeds_the_body_is_not_taken_for_ones_own(
    kind: type[aiosock.RequestError],
) -> None:
    async def relayed() -> AsyncIterator[bytes]:
        yield b"x"
        raise kind("of the upstream")

    async def script(peer: Peer) -> None:
        await peer.wait_disconnect()

    async with Server(script) as server, checked_client() as client:
        with pytest.raises(kind, match="of the upstream"):
            await client.post(server.url, content=relayed())
        await settled(client)


async def test_reading_on_after_closing_is_an_error_and_not_the_end() -> None:
    async with Server.answering(response(body=b"x" * 1_000_000)) as server, checked_client() as client:
        async with client.stream("GET", server.url) as answer:
            pieces = answer.iter_bytes()
            await anext(pieces)
            await answer.close()
            with pytest.raises(aiosock.StreamConsumed, match="before"):
                async for _ in pieces:
                    pass
        await settled(client)


async def test_a_client_closed_right_after_a_response_was_given_up_leaves_nothing() -> None:
    async def script(peer: Peer) -> None:
        await peer.read_request()
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nx")
        await peer.wait_disconnect()

    async with Server(script) as server:
        async with checked_client() as client, client.stream("GET", server.url):
            pass
        assert client.pool.active == 0


@pytest.mark.parametrize("content", [b"", "", [], iter([])], ids=["bytes", "str", "list", "iterator"])
async def test_an_empty_body_is_a_body(content: object) -> None:
    async with Server.answering(OK) as server, checked_client() as client:
        assert (await client.post(server.url, content=content)).text == "ok"  # type: ignore[arg-type]  # all kinds
        assert (await client.post(server.url, data={})).text == "ok"
        assert [request.body for request in server.requests] == [b"", b""]
        assert server.connections == 1
