"""What a script says happens on the wire, what goes wrong fails the test, and nothing is left behind."""

from __future__ import annotations

import asyncio
import os
import random
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from aiosock.testing import Certificates, Peer, Server, response
from aiosock.testing.message import BadRequest

pytestmark = pytest.mark.asyncio

GET = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n"
OK = response(body=b"ok")


async def no_script(peer: Peer) -> None:
    return None


def script_error(info: pytest.ExceptionInfo[BaseExceptionGroup[Any]]) -> BaseException:
    assert len(info.value.exceptions) == 1
    return info.value.exceptions[0]


def has_ipv6_loopback() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


async def turns(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def turn_until_stuck(sending: asyncio.Task[None]) -> None:
    """
    Let a client that does not read take what its buffers hold.

    Only on a Unix socket is that the end of it: TCP finds room for a little more, later.
    """
    await turns(500)
    assert not sending.done()


# What is read


async def test_a_request_is_given_as_it_stood_on_the_wire(dial: Any) -> None:
    raw = b"POST /a?b=%20 HTTP/1.1\r\nHOST: x\r\nx-Dup: 1 \r\nX-dup:\t2\r\nContent-Length: 5\r\n\r\n"

    async def script(peer: Peer) -> None:
        request = await peer.read_request()
        assert request is not None
        assert (request.method, request.target, request.http_version) == ("POST", "/a?b=%20", "HTTP/1.1")
        assert request.headers == [("HOST", "x"), ("x-Dup", "1"), ("X-dup", "2"), ("Content-Length", "5")]
        assert request.header("host") == "x"
        assert request.header("X-DUP") == "1"
        assert request.header_values("X-DUP") == ["1", "2"]
        assert request.header("absent") is None
        assert request.raw_head == raw
        assert request.body == b"hello"
        assert await peer.read_request() is None

    async with Server(script) as server:
        client = await dial(server)
        await client.send(raw + b"hello")
        client.writer.write_eof()
        assert await client.rest() == b""
        assert [request.body for request in server.requests] == [b"hello"]


async def test_a_chunked_body_loses_its_framing_and_keeps_its_trailers(dial: Any) -> None:
    async with Server.answering(OK) as server:
        client = await dial(server)
        head = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
        body = b"3;ext=1\r\nabc\r\n0A\r\n0123456789\r\n0\r\nT: 1\r\n\r\n"
        for index in range(len(head + body)):
            await client.send((head + body)[index : index + 1])
            await turns(3)
        assert await client.answer() == ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n", b"ok")
        [request] = server.requests
        assert (request.body, request.trailers) == (b"abc0123456789", [("T", "1")])


async def test_pipelined_requests_are_read_one_by_one(dial: Any) -> None:
    async def script(peer: Peer) -> None:
        while request := await peer.read_request():
            await peer.send(response(body=request.body + b"%d" % peer.requests))

    async with Server(script) as server:
        client = await dial(server)
        await client.send(b"POST / HTTP/1.1\r\nContent-Length: 1\r\n\r\nx" * 3)
        assert [(await client.answer())[1] for _ in range(3)] == [b"x1", b"x2", b"x3"]


async def test_a_head_is_recorded_before_its_body_comes(dial: Any) -> None:
    async def script(peer: Peer) -> None:
        head = await peer.read_head()
        assert head is not None
        assert head.body == b""
        assert peer.server.requests == [head]
        await peer.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        assert await peer.read_body(head) == b"body"

    async with Server(script) as server:
        client = await dial(server)
        await client.send(b"PUT / HTTP/1.1\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n")
        assert "100" in await client.head()
        await client.send(b"body")
        assert await client.rest() == b""
        assert [request.body for request in server.requests] == [b"body"]


async def test_a_body_can_be_read_in_pieces(dial: Any) -> None:
    async def script(peer: Peer) -> None:
        head = await peer.read_head()
        assert head is not None
        body = peer.open_body(head)
        assert [await body.read(4) for _ in range(4)] == [b"0123", b"4567", b"89", b""]
        assert await peer.read() == b"more"

    async with Server(script) as server:
        client = await dial(server)
        await client.send(b"PUT / HTTP/1.1\r\nContent-Length: 10\r\n\r\n0123456789more")
        assert await client.rest() == b""


async def test_raw_reading_takes_what_is_left_over_first(dial: Any) -> None:
    async def script(peer: Peer) -> None:
        assert await peer.read_request()
        assert await peer.read(2) == b"12"
        assert await peer.read() == b"3"
        assert await peer.read() == b""

    async with Server(script) as server:
        client = await dial(server)
        await client.send(GET + b"123")
        client.writer.write_eof()
        assert await client.rest() == b""


@pytest.mark.parametrize(
    "sent",
    [
        b"GET / HTTP/1.1\nHost: x\r\n\r\n",
        b"\r\nGET / HTTP/1.1\r\n\r\n",
        b"GET  / HTTP/1.1\r\n\r\n",
        b"GET / a HTTP/1.1\r\n\r\n",
        b"GET / HTTP/11\r\n\r\n",
        b"G(T / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
        b"GET / HTTP/1.1\r\nname : x\r\n\r\n",
        b"GET / HTTP/1.1\r\na: b\r\n folded: x\r\n\r\n",
        b"GET / HTTP/1.1\r\na: b\nc: d\r\n\r\n",
        b"GET / HTTP/1.1\r\na: \0\r\n\r\n",
        b"GET / HTTP/1.1\r\nContent-Length: +1\r\n\r\n",
        b"GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"GET / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"GET / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        b"GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0x1\r\n",
        b"GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n",
        b"GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nno colon\r\n\r\n",
    ],
)
async def test_an_ill_formed_request_fails_the_test(dial: Any, sent: bytes) -> None:
    with pytest.raises(ExceptionGroup) as info:
        async with Server.answering(OK) as server:
            client = await dial(server)
            await client.send(sent)
            assert await client.rest() == b""
    assert isinstance(script_error(info), BadRequest)


async def test_an_endless_head_fails_the_test(dial: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aiosock.testing.server.MAX_HEAD_BYTES", 1000)
    with pytest.raises(ExceptionGroup) as info:
        async with Server.answering(OK) as server:
            client = await dial(server)
            await client.send(b"GET / HTTP/1.1\r\n" + b"a" * 1000)
            assert await client.rest() == b""
    assert isinstance(script_error(info), BadRequest)


@pytest.mark.parametrize("sent", [b"", b"GET / HT", b"GET / HTTP/1.1\r\nContent-Length: 5\r\n\r\nab"])
@pytest.mark.parametrize("how", ["close", "vanish"])
async def test_a_client_may_leave_at_any_point(dial: Any, sent: bytes, how: str) -> None:
    ended = asyncio.Event()

    async def script(peer: Peer) -> None:
        try:
            assert await peer.read_request() is None
        finally:
            ended.set()

    async with Server(script) as server:
        client = await dial(server)
        await client.send(sent)
        getattr(client, how)()
        await ended.wait()


# What is sent


async def test_pieces_arrive_as_reads_of_their_own(dial: Any) -> None:
    async def script(peer: Peer) -> None:
        await peer.send_pieces(*(b"%d" % number for number in range(10)))

    async with Server(script) as server:
        client = await dial(server)
        pieces = []
        while piece := await client.read():
            pieces.append(piece)
        assert pieces == [b"%d" % number for number in range(10)]


async def test_pieces_arrive_as_reads_of_their_own_over_tls(
    dial: Any, certificates: Certificates, server_context: ssl.SSLContext
) -> None:
    async def script(peer: Peer) -> None:
        await peer.send_pieces(*(b"%d" % number for number in range(10)))

    async with Server(script, ssl=server_context) as server:
        client = await dial(server, certificates.client_context())
        pieces = []
        while piece := await client.read():
            pieces.append(piece)
        assert pieces == [b"%d" % number for number in range(10)]


async def test_answers_come_in_order_over_all_connections_and_the_last_repeats(dial: Any) -> None:
    async with Server.answering(*(response(body=b"%d" % number) for number in range(3))) as server:
        clients = [await dial(server), await dial(server)]
        bodies = []
        for client in clients + clients:
            await client.send(GET)
            bodies.append((await client.answer())[1])
        assert bodies == [b"0", b"1", b"2", b"2"]
        assert server.connections == server.open_connections == 2
        assert len(server.requests) == 4


async def test_answering_needs_an_answer() -> None:
    with pytest.raises(ValueError, match="at least one"):
        Server.answering()


@pytest.mark.parametrize("tls", [False, True])
async def test_sending_waits_for_a_client_that_does_not_read(
    dial: Any, certificates: Certificates, server_context: ssl.SSLContext, tls: bool
) -> None:
    body = random.Random(1).randbytes(20_000_000)
    sent = False

    async def script(peer: Peer) -> None:
        nonlocal sent
        await peer.send(body)
        sent = True
        # uvloop's own TLS client forgets what it has buffered when close_notify comes.
        await peer.wait_disconnect()

    async with Server(script, ssl=server_context if tls else None) as server:
        client = await dial(server, certificates.client_context() if tls else None)
        first = await client.read()
        assert not sent
        assert first + await client.reader.readexactly(len(body) - len(first)) == body
        assert sent


@pytest.mark.parametrize("tls", [False, True])
async def test_one_task_may_read_while_another_sends(
    dial: Any, certificates: Certificates, server_context: ssl.SSLContext, tls: bool
) -> None:
    """Neither side's sending ends unless the other side reads at the same time."""
    size = 10_000_000

    async def script(peer: Peer) -> None:
        async def take() -> None:
            left = size
            while left:
                left -= len(await peer.read())

        async with asyncio.TaskGroup() as group:
            group.create_task(take())
            group.create_task(peer.send(bytes(size)))
        await peer.wait_disconnect()

    async with Server(script, ssl=server_context if tls else None) as server:
        client = await dial(server, certificates.client_context() if tls else None)
        sending = asyncio.create_task(client.send(bytes(size)))
        await client.reader.readexactly(size)
        await sending


@pytest.mark.parametrize("tls", [False, True])
async def test_a_task_that_sends_to_a_client_that_does_not_read_is_in_nobody_s_way(
    dial: Any, server_context: ssl.SSLContext, certificates: Certificates, tls: bool, until: Any, tmp_path: Path
) -> None:
    async def script(peer: Peer) -> None:
        sending = asyncio.create_task(peer.send(bytes(10**8)))
        await turn_until_stuck(sending)
        assert await peer.read() == b"hello"
        peer.cut()
        with pytest.raises(ConnectionAbortedError):
            await sending

    async with Server(script, ssl=server_context if tls else None, uds=tmp_path / "socket") as server:
        client = await dial(server, certificates.client_context() if tls else None)
        await client.send(b"hello")
        await until(lambda: server.connections and not server.open_connections)


async def test_two_tasks_that_read_are_told_so(dial: Any) -> None:
    async def script(peer: Peer) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(peer.read())
            group.create_task(peer.read())

    with pytest.raises(ExceptionGroup) as info:
        async with Server(script) as server:
            client = await dial(server)
            assert await client.rest() == b""
    assert info.group_contains(RuntimeError, match="two tasks read")


# How a connection ends


async def test_a_half_closed_connection_still_reads(dial: Any) -> None:
    async def script(peer: Peer) -> None:
        await peer.send(b"bye")
        peer.half_close()
        assert await peer.read() == b"thanks"

    async with Server(script) as server:
        client = await dial(server)
        assert await client.rest() == b"bye"
        await client.send(b"thanks")


async def test_half_closing_what_the_client_has_reset_says_so(dial: Any) -> None:
    reset, seen = asyncio.Event(), asyncio.Event()

    async def script(peer: Peer) -> None:
        await reset.wait()
        with pytest.raises(ConnectionResetError):
            peer.half_close()
        seen.set()

    async with Server(script) as server:
        client = await dial(server)
        client.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.vanish()
        await client.rest()
        await turns(8)
        reset.set()
        await seen.wait()


async def test_tls_cannot_be_half_closed(dial: Any, certificates: Certificates, server_context: ssl.SSLContext) -> None:
    async def script(peer: Peer) -> None:
        with pytest.raises(RuntimeError, match="half closed"):
            peer.half_close()

    async with Server(script, ssl=server_context) as server:
        client = await dial(server, certificates.client_context())
        assert await client.rest() == b""


@pytest.mark.parametrize("end", [Peer.close, Peer.cut, None])
async def test_closing_sends_fin_even_when_there_is_unread_data(
    dial: Any, end: Callable[[Peer], Awaitable[None] | None] | None
) -> None:
    gone = asyncio.Event()

    async def script(peer: Peer) -> None:
        await gone.wait()
        await peer.send(OK)
        if end is not None and (closing := end(peer)):
            await closing

    async with Server(script) as server:
        client = await dial(server)
        await client.send(GET * 5000)
        gone.set()
        assert await client.rest() == OK


async def test_a_reset_is_a_reset(dial: Any) -> None:
    async def script(peer: Peer) -> None:
        await peer.read_request()
        peer.reset()
        assert peer.closed

    async with Server(script) as server:
        client = await dial(server)
        await client.send(GET)
        with pytest.raises(ConnectionResetError):
            await client.rest()


@pytest.mark.parametrize(
    ("end", "expected"), [(None, b""), (Peer.close, b""), (Peer.cut, ssl.SSLEOFError), (Peer.reset, OSError)]
)
async def test_tls_ends_with_close_notify_unless_it_is_cut(
    certificates: Certificates, server_context: ssl.SSLContext, end: Callable[[Peer], Any] | None, expected: Any
) -> None:
    async def script(peer: Peer) -> None:
        await peer.read_request()
        await peer.send(OK)
        if end is not None and (closing := end(peer)):
            await closing

    def client(address: tuple[str, int], context: ssl.SSLContext) -> bytes:
        with (
            socket.create_connection(address) as sock,
            context.wrap_socket(sock, server_hostname="localhost", suppress_ragged_eofs=False) as tls,
        ):
            tls.sendall(GET)
            while tls.recv(1000):
                continue
            return b""

    async with Server(script, ssl=server_context) as server:
        call = asyncio.to_thread(client, server.address, certificates.client_context())  # type: ignore[arg-type]
        if expected == b"":
            assert await call == b""
        else:
            with pytest.raises(expected):
                await call


@pytest.mark.parametrize("how", ["close", "vanish"])
@pytest.mark.parametrize("tls", [False, True])
async def test_a_script_can_wait_for_the_client_to_leave(
    dial: Any, certificates: Certificates, server_context: ssl.SSLContext, tls: bool, how: str
) -> None:
    left = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.wait_disconnect()
        left.set()

    async with Server(script, ssl=server_context if tls else None) as server:
        client = await dial(server, certificates.client_context() if tls else None)
        await client.send(b"thrown away")
        assert not left.is_set()
        getattr(client, how)()
        await left.wait()


@pytest.mark.parametrize("waiting", [Peer.read, lambda peer: peer.send(bytes(10**8))])
@pytest.mark.parametrize("end", [Peer.cut, Peer.reset])
async def test_a_connection_can_be_ended_under_a_waiting_script(
    dial: Any, waiting: Callable[[Peer], Awaitable[Any]], end: Callable[[Peer], None]
) -> None:
    peers: asyncio.Queue[Peer] = asyncio.Queue()
    errors: asyncio.Queue[BaseException] = asyncio.Queue()

    async def script(peer: Peer) -> None:
        peers.put_nowait(peer)
        try:
            await waiting(peer)
        except ConnectionAbortedError as error:
            errors.put_nowait(error)
            raise

    async with Server(script) as server:
        await dial(server)
        peer = await peers.get()
        end(peer)
        await errors.get()
        with pytest.raises(ConnectionAbortedError):
            await peer.read()
        with pytest.raises(ConnectionAbortedError):
            await peer.send(b"x")
        with pytest.raises(ConnectionAbortedError):
            peer.half_close()
        await peer.close()
        client = await dial(server)  # on the number of the socket just closed, most likely
        peer = await peers.get()
        client.vanish()
        assert peer.number == 1


async def test_closing_gives_up_on_a_tls_client_that_takes_nothing(
    dial: Any,
    certificates: Certificates,
    server_context: ssl.SSLContext,
    monkeypatch: pytest.MonkeyPatch,
    until: Any,
    tmp_path: Path,
) -> None:
    monkeypatch.setattr("aiosock.testing.server.CLOSE_SECONDS", 0.01)
    closed = asyncio.Event()

    async def script(peer: Peer) -> None:
        sending = asyncio.create_task(peer.send(bytes(10**8)))
        await turn_until_stuck(sending)
        await peer.close()
        closed.set()
        with pytest.raises(ConnectionAbortedError):
            await sending

    async with Server(script, ssl=server_context, uds=tmp_path / "socket") as server:
        await dial(server, certificates.client_context())
        await closed.wait()


# TLS, addresses


async def test_tls_is_spoken_when_the_script_begins(
    dial: Any, certificates: Certificates, server_context: ssl.SSLContext
) -> None:
    async def script(peer: Peer) -> None:
        assert peer.ssl_object is not None
        assert peer.ssl_object.selected_alpn_protocol() == "http/1.1"
        assert await peer.read_request()
        await peer.send(OK)

    client_context = certificates.client_context()
    client_context.set_alpn_protocols(["http/1.1"])
    async with Server(script, ssl=server_context) as server:
        assert server.url == f"https://localhost:{server.port}"
        client = await dial(server, client_context)
        await client.send(GET)
        assert await client.rest() == OK


async def test_a_plain_connection_can_become_tls_and_tls_within_tls(
    certificates: Certificates, server_context: ssl.SSLContext
) -> None:

    async def script(peer: Peer) -> None:
        await peer.send(b"now")
        await peer.start_tls(server_context)
        await peer.start_tls(server_context)
        await peer.send(await peer.read())

    def client(address: tuple[str, int], context: ssl.SSLContext) -> bytes:
        with socket.create_connection(address) as sock:
            assert sock.recv(3) == b"now"
            with context.wrap_socket(sock, server_hostname="localhost") as outer:
                incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
                inner = context.wrap_bio(incoming, outgoing, server_hostname="localhost")

                def pump(operation: Callable[[], Any]) -> Any:
                    while True:
                        try:
                            result = operation()
                        except ssl.SSLWantReadError:
                            outer.sendall(outgoing.read())
                            incoming.write(outer.recv(65536))
                        else:
                            outer.sendall(outgoing.read())
                            return result

                pump(inner.do_handshake)
                pump(lambda: inner.write(b"echo"))
                assert pump(lambda: inner.read(100)) == b"echo"
                return bytes(pump(lambda: inner.read(100)))

    async with Server(script) as server:
        end = await asyncio.to_thread(client, server.address, certificates.client_context())  # type: ignore[arg-type]
    assert end == b""


async def test_a_failed_handshake_calls_no_script_and_is_remembered(
    dial: Any, server_context: ssl.SSLContext, until: Any
) -> None:
    async def script(peer: Peer) -> None:
        raise AssertionError("called")

    async with Server(script, ssl=server_context) as server:
        with pytest.raises(ssl.SSLCertVerificationError):
            await dial(server, Certificates().client_context())
        client = await dial(server)
        await client.send(b"\x16\x03\x01\x00\x05hello")
        assert (await client.rest()).startswith(b"\x15")  # an alert says why
        client = await dial(server)
        client.vanish()
        await until(lambda: len(server.handshake_errors) == 3)
        assert server.connections == 3
        assert server.open_connections == 0
        # A client of asyncio that refuses a certificate just leaves.
        kinds = [isinstance(error, ssl.SSLError) for error in server.handshake_errors]
        assert kinds == [False, True, False]


async def test_garbage_within_tls_is_a_broken_connection(
    dial: Any, certificates: Certificates, server_context: ssl.SSLContext
) -> None:
    seen = asyncio.Event()

    async def script(peer: Peer) -> None:
        with pytest.raises(ConnectionAbortedError, match="reading"):
            while await peer.read():
                continue
        with pytest.raises(ConnectionAbortedError, match="sending"):
            await peer.send(b"x")
        seen.set()

    def client(address: tuple[str, int], context: ssl.SSLContext) -> None:
        with socket.create_connection(address) as sock:
            tls = context.wrap_socket(sock, server_hostname="localhost", do_handshake_on_connect=True)
            raw = socket.socket(fileno=tls.detach())
            with raw:
                raw.sendall(b"\x17\x03\x03\x00\x20" + bytes(32))
                while raw.recv(1000):
                    continue

    async with Server(script, ssl=server_context) as server:
        await asyncio.to_thread(client, server.address, certificates.client_context())  # type: ignore[arg-type]
        await seen.wait()


async def test_it_listens_on_a_unix_socket_and_removes_it(dial: Any, tmp_path: Path) -> None:
    async with Server.answering(OK, uds=tmp_path / "socket") as server:
        assert server.address == str(tmp_path / "socket")
        assert server.url == "http://localhost"
        client = await dial(server)
        await client.send(GET)
        assert (await client.answer())[1] == b"ok"
    assert os.listdir(tmp_path) == []


async def test_a_reset_on_a_unix_socket_is_an_end_of_file(dial: Any, tmp_path: Path) -> None:
    async def script(peer: Peer) -> None:
        peer.reset()

    async with Server(script, uds=tmp_path / "socket") as server:
        client = await dial(server)
        assert await client.rest() == b""


async def test_urls_name_the_host_as_a_client_has_to(server_context: ssl.SSLContext) -> None:
    async with Server(no_script) as server:
        assert server.port != 0
        assert server.address == ("127.0.0.1", server.port)
        assert server.url == f"http://127.0.0.1:{server.port}"
    async with Server(no_script, ssl=server_context) as server:
        assert server.url == f"https://localhost:{server.port}"
    async with Server(no_script, ssl=server_context, host="127.0.0.2") as server:
        assert server.url == f"https://127.0.0.2:{server.port}"
    assert Server(no_script, host="::1", port=80).url == "http://[::1]:80"
    assert Server(no_script, uds="path", ssl=server_context).url == "https://localhost"


@pytest.mark.skipif(not has_ipv6_loopback(), reason="no IPv6 loopback here")
async def test_it_listens_on_ipv6(dial: Any) -> None:
    async with Server.answering(OK, host="::1") as server:
        client = await dial(server)
        await client.send(GET)
        assert (await client.answer())[1] == b"ok"


# The server's own life


async def test_a_failed_assertion_in_a_script_fails_the_test(dial: Any) -> None:
    async def script(peer: Peer) -> None:
        await peer.read_request()
        assert peer.number == 17

    with pytest.raises(ExceptionGroup) as info:
        async with Server(script) as server:
            client = await dial(server)
            await client.send(GET)
            assert await client.rest() == b""
    assert isinstance(script_error(info), AssertionError)


async def test_a_script_that_the_client_has_ended_may_still_fail_while_the_server_closes(dial: Any) -> None:
    async def script(peer: Peer) -> None:
        await peer.send(OK)
        assert await peer.read() == b"never sent"

    with pytest.raises(ExceptionGroup) as info:
        async with Server(script) as server:
            client = await dial(server)
            await client.read()
            client.vanish()
    assert isinstance(script_error(info), AssertionError)


async def test_even_a_base_exception_of_a_script_is_raised(dial: Any) -> None:
    async def script(peer: Peer) -> None:
        pytest.fail("on purpose")

    with pytest.raises(BaseExceptionGroup) as info:
        async with Server(script) as server:
            client = await dial(server)
            await client.rest()
    assert isinstance(script_error(info), pytest.fail.Exception)


async def test_a_client_that_left_is_no_fault_even_within_a_group(dial: Any) -> None:
    async def script(peer: Peer) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(peer.read_request())

    async with Server(script) as server:
        client = await dial(server)
        await client.send(b"GET")
        client.writer.write_eof()
        assert await client.rest() == b""


async def test_faults_are_raised_once_and_all_together(dial: Any) -> None:
    async def script(peer: Peer) -> None:
        raise RuntimeError(peer.number)

    server = Server(script)
    await server.start()
    for _ in range(3):
        client = await dial(server)
        await client.rest()
    with pytest.raises(ExceptionGroup) as info:
        await server.close()
    assert [error.args for error in info.value.exceptions] == [(0,), (1,), (2,)]
    await server.close()


async def test_closing_ends_scripts_and_connections(dial: Any, until: Any) -> None:
    cancelled = asyncio.Event()

    async def script(peer: Peer) -> None:
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            cancelled.set()

    server = Server(script)
    await server.start()
    client = await dial(server)
    await until(lambda: server.open_connections)
    await server.close()
    assert cancelled.is_set()
    assert server.open_connections == 0
    assert await client.rest() == b""
    with pytest.raises(ConnectionRefusedError):
        await dial(server)


async def test_closing_at_once_leaves_nothing_behind(dial: Any) -> None:
    """The scripts of these connections may have been cancelled before they began."""
    server = Server.answering(OK)
    for turns in range(4):
        server = Server.answering(OK)
        await server.start()
        dials = [asyncio.create_task(dial(server)) for _ in range(5)]
        for _ in range(turns):
            await asyncio.sleep(0)
        await server.close()
        assert server.open_connections == 0
        await asyncio.gather(*dials, return_exceptions=True)


async def test_a_cancelled_close_still_ends_the_scripts(dial: Any, until: Any) -> None:
    ended = asyncio.Event()

    async def script(peer: Peer) -> None:
        try:
            await peer.read()
        finally:
            ended.set()

    server = Server(script)
    await server.start()
    await dial(server)
    await until(lambda: server.open_connections)
    closing = asyncio.create_task(server.close())
    await asyncio.sleep(0)
    closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing
    await ended.wait()
    await server.close()


async def test_a_script_that_resists_its_end_is_a_fault(dial: Any, monkeypatch: pytest.MonkeyPatch, until: Any) -> None:
    monkeypatch.setattr("aiosock.testing.server.CLOSE_SECONDS", 0.01)

    async def script(peer: Peer) -> None:
        while True:
            try:
                await peer.read()
            except asyncio.CancelledError:
                continue

    server = Server(script)
    await server.start()
    client = await dial(server)
    await until(lambda: server.open_connections)
    with pytest.raises(ExceptionGroup) as info:
        await server.close()
    assert "resists" in str(script_error(info))
    assert await client.rest() == b""


async def test_a_server_that_cannot_accept_says_so(dial: Any, monkeypatch: pytest.MonkeyPatch, until: Any) -> None:
    class Broken(socket.socket):
        def accept(self) -> Any:
            raise OSError(24, "Too many open files")

    server = Server.answering(OK)
    with monkeypatch.context() as patch:
        patch.setattr("aiosock.testing.server.socket.socket", Broken)
        await server.start()
    client = await dial(server)
    await until(lambda: server._faults)
    with pytest.raises(ExceptionGroup) as info:
        await server.close()
    assert "stopped accepting" in str(script_error(info).__notes__)
    with pytest.raises(ConnectionResetError):
        await client.rest()


async def test_an_address_in_use_is_an_error_and_one_just_left_is_not(dial: Any) -> None:
    async with Server(no_script) as server:
        with pytest.raises(RuntimeError, match="started already"):
            await server.start()
        with pytest.raises(OSError, match=r"in use"):
            await Server(no_script, port=server.port).start()
        client = await dial(server)
        assert await client.rest() == b""
        client.close()
    # The server was the first to close, so the kernel still remembers that connection.
    async with Server(no_script, port=server.port) as again:
        assert again.port == server.port


async def test_it_carries_two_thousand_clients_at_once(dial: Any) -> None:
    count = 2000
    async with Server.answering(OK) as server:
        clients = await asyncio.gather(*(dial(server) for _ in range(count)))
        for client in clients:
            client.writer.write(GET)
        answers = await asyncio.gather(*(client.answer() for client in clients))
        assert {body for _, body in answers} == {b"ok"}
        assert server.open_connections == server.connections == len(server.requests) == count


@pytest.mark.parametrize("tls", [False, True])
async def test_clients_that_vanish_at_any_moment_leave_nothing_behind(
    dial: Any, certificates: Certificates, server_context: ssl.SSLContext, tls: bool
) -> None:
    rng = random.Random(2)
    post = b"POST / HTTP/1.1\r\nContent-Length: 100000\r\n\r\n" + bytes(100_000)

    async def script(peer: Peer) -> None:
        while await peer.read_request():
            await peer.send_pieces(response(body=bytes(3_000_000)), b"")

    async with Server(script, ssl=server_context if tls else None) as server:
        context = certificates.client_context() if tls else None

        async def visit(turns: int, part: bytes, how: str) -> None:
            client = await dial(server, context)
            client.writer.write(part)
            for _ in range(turns):
                await asyncio.sleep(0)
            getattr(client, how)()

        await asyncio.gather(
            *(
                visit(
                    rng.randrange(40),
                    post[: rng.choice([0, 10, 200, len(post)])],
                    rng.choice(["close", "vanish"]),
                )
                for _ in range(100)
            )
        )
    assert server.open_connections == 0
