"""What bad input gets: one clear error, and a client that goes on working."""

from __future__ import annotations

import asyncio
import gzip

import pytest

import aiosock
from aiosock import Limits
from aiosock.testing import Peer, Server, response
from tests.kit.clients import checked_client, settled

OK = response(body=b"ok")


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("", "no scheme"),
        ("/path", "no scheme"),
        ("http://", "no host"),
        ("http:///path", "no host"),
        ("http://?q", "no host"),
        ("ftp://example.com/", "'ftp'"),
        ("file:///etc/passwd", "'file'"),
        ("http://exa mple.com/", "'exa mple.com'"),
        ("http://example.com:99999/", "'99999'"),
        ("http://example.com:0/", "'0'"),
        ("http://example.com:x/", "'x'"),
        ("http://[::1/", "brackets"),
        ("http://[1.2.3.4]/", "IPv6"),
        ("http://example.com/\r\nX: y", r"'\\r' at position 19"),
        ("http://example.com/\n", r"'\\n'"),
        ("http://example.com/\0", r"'\\x00'"),
        ("http://exam\0ple.com/", r"'\\x00'"),
        ("http://a..b/", "'a..b'"),
        ("http://exa\\mple.com/", "not a host name"),
        (42, "int"),
    ],
)
async def test_a_url_that_cannot_be_requested_is_refused_before_any_io(url: str, words: str) -> None:
    async with checked_client() as client:
        with pytest.raises(aiosock.InvalidURL, match=words):
            await client.get(url)
        assert client.pool == aiosock.PoolStats()


@pytest.mark.parametrize(
    ("headers", "words"),
    [
        ({"bad name": "x"}, "'bad name'"),
        ({"": "x"}, "not a token"),
        ({"X:": "x"}, "not a token"),
        ({"X\r\nY": "x"}, "not a token"),
        ({"X": "a\r\nInjected: yes"}, "value of X"),
        ({"X": "a\nb"}, "value of X"),
        ({"X": "a\0b"}, "value of X"),
        ({"X": "\u20ac"}, "outside of latin-1"),
        ({"X": 1}, "X"),
        ({"X": b"x"}, "X"),
    ],
)
async def test_a_field_that_may_not_be_sent_is_refused_before_any_io(headers: dict[str, str], words: str) -> None:
    async with Server.answering(OK) as server, checked_client() as client:
        with pytest.raises(aiosock.InvalidHeader, match=words):
            await client.get(server.url, headers=headers)
        assert server.connections == 0
        assert (await client.get(server.url, headers={"X": "a\tb\xe9"})).text == "ok"
        assert server.requests[0].header("X") == "a\tb\xe9"


@pytest.mark.parametrize("method", ["", "GE T", "GET\r\n", "G\0T"])
async def test_a_method_that_is_no_token_is_refused(method: str) -> None:
    async with Server.answering(OK) as server, checked_client() as client:
        with pytest.raises(aiosock.LocalProtocolError, match="not a token"):
            await client.request(method, server.url)
        assert server.connections == 0


HEAD = b"HTTP/1.1 200 OK\r\n"


@pytest.mark.parametrize(
    ("answer", "kind", "words"),
    [
        (b"", aiosock.ServerDisconnected, "without an answer"),
        (b"HTTP/1.1 200", aiosock.ServerDisconnected, "after 12 bytes"),
        (b"<html>old</html>", aiosock.RemoteProtocolError, "HTTP/0.9"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", aiosock.RemoteProtocolError, "SSH-2.0"),
        (b"\x15\x03\x01\x00\x02\x02\x46", aiosock.RemoteProtocolError, "speaks TLS"),
        (b"HTTP/2.0 200 OK\r\n\r\n", aiosock.RemoteProtocolError, "HTTP/2.0"),
        (HEAD + b"Content-Length: 10\r\n\r\nabc", aiosock.IncompleteBody, "3 of 10 bytes"),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\nab", aiosock.IncompleteBody, "after 2 bytes"),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", aiosock.RemoteProtocolError, "chunk size"),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\nab\n", aiosock.RemoteProtocolError, "CRLF"),
        (HEAD + b"Content-Length: 5, 6\r\n\r\nabcde", aiosock.RemoteProtocolError, "different values"),
        (HEAD + b"Content-Length: +5\r\n\r\nabcde", aiosock.RemoteProtocolError, "not a number"),
        (HEAD + b"no colon\r\n\r\n", aiosock.RemoteProtocolError, "no colon"),
        (HEAD + b"A : b\r\n\r\n", aiosock.RemoteProtocolError, "before the colon"),
        (HEAD + b"A: b\0c\r\n\r\n", aiosock.RemoteProtocolError, "control character"),
        (HEAD + b"A: " + b"x" * 300_000 + b"\r\n\r\n", aiosock.HeadTooLarge, "limit is 262144"),
        (HEAD + b"A: b\r\n" * 1001 + b"\r\n", aiosock.HeadTooLarge, "1001 fields; the limit is 1000"),
        (HEAD + b"Content-Encoding: gzip\r\nContent-Length: 4\r\n\r\nnope", aiosock.DecodingError, "not gzip"),
        (
            HEAD + b"Content-Encoding: gzip\r\nContent-Length: 20\r\n\r\n" + gzip.compress(b"x" * 99, mtime=0)[:20],
            aiosock.DecodingError,
            "was cut",
        ),
        (b"HTTP/1.1 101 Switching Protocols\r\n\r\n", aiosock.RemoteProtocolError, "offered no Upgrade"),
        (b"HTTP/1.1 100 Continue\r\n\r\n" * 100, aiosock.RemoteProtocolError, "more than 64 informational"),
    ],
)
async def test_an_answer_that_is_wrong_or_cut_says_which(
    answer: bytes, kind: type[aiosock.RequestError], words: str
) -> None:
    async def script(peer: Peer) -> None:
        request = await peer.read_request()
        assert request is not None
        await peer.send(OK if request.target == "/fine" else answer)

    async with Server(script) as server, checked_client() as client:
        with pytest.raises(kind, match=words) as caught:
            await client.get(server.url + "/?secret=1")
        assert caught.value.request is not None
        assert "secret" not in str(caught.value)
        await settled(client)
        # An answer that came whole, and only cannot be decoded, is no fault of the connection.
        assert client.pool.idle == (1 if kind is aiosock.DecodingError else 0)
        assert (await client.get(server.url + "/fine")).text == "ok"


async def test_a_tls_client_at_a_plain_server_says_so() -> None:
    async def script(peer: Peer) -> None:
        await peer.read(5)
        await peer.send(response(400, b"this is plain HTTP"))

    async with Server(script) as server, checked_client() as client:
        with pytest.raises(aiosock.TLSError, match="does not speak TLS"):
            await client.get(f"https://localhost:{server.port}/")
        await settled(client)


async def test_a_plain_client_at_a_tls_server_says_so(server_context: object) -> None:
    async with Server.answering(OK, ssl=server_context) as server, checked_client() as client:
        with pytest.raises((aiosock.RemoteProtocolError, aiosock.ReadError)):
            await client.get(f"http://localhost:{server.port}/")
        await settled(client)


async def test_a_refused_connection_names_the_address() -> None:
    async with Server.answering(OK) as server:
        url = server.url
    async with checked_client() as client:
        with pytest.raises(aiosock.ConnectError, match=r"127.0.0.1:\d+: .*refused") as caught:
            await client.get(url)
        assert isinstance(caught.value.__cause__, OSError)
        await settled(client)


async def test_a_name_that_does_not_resolve_is_named() -> None:
    async with checked_client() as client:
        with pytest.raises(aiosock.DNSError, match="no-such-host.invalid"):
            await client.get("http://no-such-host.invalid/")
        await settled(client)


async def test_a_reset_in_the_middle_is_a_read_error() -> None:
    async def script(peer: Peer) -> None:
        await peer.read_request()
        await peer.send(HEAD + b"Content-Length: 10\r\n\r\nabc")
        await peer.server.gate.wait()  # type: ignore[attr-defined]  # set below
        peer.reset()

    gate = asyncio.Event()
    async with Server(script) as server, checked_client() as client:
        server.gate = gate  # type: ignore[attr-defined]  # the script's
        with pytest.raises(aiosock.ReadError, match="reset"):
            async with client.stream("GET", server.url) as answer:
                async for piece in answer.iter_bytes():
                    assert piece == b"abc"
                    gate.set()
        await settled(client)


async def test_a_head_of_200_kib_is_read() -> None:
    for head in (b"X: " + b"x" * 200_000 + b"\r\n", b"Set-Cookie: " + b"x" * 400 + b"\r\n"):
        fields = head * max(1, 200_000 // len(head))
        async with (
            Server.answering(HEAD + fields + b"Content-Length: 2\r\n\r\nok") as server,
            checked_client() as client,
        ):
            assert (await client.get(server.url)).text == "ok"


async def test_limits_of_the_client_bound_what_is_taken_in() -> None:
    bomb = gzip.compress(b"\0" * 50_000_000)
    headers = [("Content-Encoding", "gzip")]
    async with Server.answering(response(body=bomb, headers=headers)) as server:
        async with checked_client(limits=Limits(max_content_bytes=1_000_000)) as client:
            with pytest.raises(aiosock.ContentTooLarge, match="1000000 bytes"):
                await client.get(server.url)
            await settled(client)
        async with checked_client(limits=Limits(max_header_bytes=64)) as client:
            with pytest.raises(aiosock.HeadTooLarge, match="limit is 64"):
                await client.get(server.url)


@pytest.mark.parametrize(
    "options",
    [
        {"timeout": -1},
        {"timeout": "5"},
        {"limits": 5},
        {"max_redirects": -1},
        {"verify": 3},
        {"cert": ()},
        {"resolver": object()},
        {"headers": 5},
        {"base_url": "example.com"},
    ],
    ids=lambda options: "-".join(options),
)
async def test_arguments_that_cannot_be_used_are_refused_at_once(options: dict[str, object]) -> None:
    with pytest.raises(aiosock.UsageError):
        aiosock.Client(**options)  # type: ignore[arg-type]  # that is the point


@pytest.mark.parametrize(
    "options",
    [
        {"content": b"x", "json": {}},
        {"content": 5},
        {"data": "text"},
        {"json": object()},
        {"params": 5},
        {"timeout": 0},
    ],
    ids=lambda options: "-".join(options),
)
async def test_requests_that_make_no_sense_are_refused_before_any_io(options: dict[str, object]) -> None:
    async with Server.answering(OK) as server, checked_client() as client:
        with pytest.raises(aiosock.UsageError):
            await client.post(server.url, **options)  # type: ignore[arg-type]  # that is the point
        assert server.connections == 0
