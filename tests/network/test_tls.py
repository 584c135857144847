"""
TLS with real certificates: who is trusted and why not, how it ends, and that it says nothing wrong.
"""

from __future__ import annotations

import asyncio
import gc
import math
import random
import ssl
import sys
import weakref
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from ssl import SSLContext
from types import FrameType

import pytest

from aiosock.errors import ReadError, TLSError, TruncatedStream, WriteError, WriteTimeout
from aiosock.network import tls
from aiosock.network.stream import Stream
from aiosock.network.tcp import connect_tcp
from aiosock.network.tls import TLSStream, is_live, start_tls
from aiosock.network.trust import TLSSettings
from aiosock.testing import Certificates, Peer, Server
from tests.network.secure import connected, dial, greet, linger
from tests.network.wire import Wire, arrived, read_all, receive, turns, until, wires

LARGE = random.Random(2).randbytes(1024 * 1024) * 8


# Trust


async def test_a_trusted_server_is_talked_to(server_context: SSLContext, client_context: SSLContext) -> None:
    async with connected(greet, server_context, client_context) as stream:
        assert await stream.read(math.inf) == b"hello"
        info = stream.info
        assert (info.tls_version, info.alpn, info.session_reused) == ("TLSv1.3", None, False)
        assert info.cipher is not None
        assert info.cipher.startswith("TLS_")
        assert info.remote_address.startswith("127.0.0.1:")


@pytest.mark.parametrize(
    ("context", "name", "words"),
    [
        ("other name", "localhost", "the certificate of localhost is not trusted: Hostname mismatch"),
        ("good", "127.0.0.9", "the certificate of 127.0.0.9 is not trusted: IP address mismatch"),
        ("expired", "localhost", "the certificate of localhost is not trusted: certificate has expired"),
        ("unknown authority", "localhost", "the certificate of localhost is not trusted: unable to get local issuer"),
        ("self-signed", "localhost", "the certificate of localhost is not trusted: self-signed certificate"),
    ],
)
async def test_whom_not_to_trust_and_why(
    contexts: dict[str, SSLContext], client_context: SSLContext, context: str, name: str, words: str
) -> None:
    async with Server(linger, ssl=contexts[context]) as server:
        with pytest.raises(TLSError) as info:
            await dial(server, client_context, name)
        assert str(info.value).startswith(words)
        assert isinstance(info.value.__cause__, ssl.SSLCertVerificationError)
        # The server is told, too.
        await until(lambda: server.handshake_errors)
        assert "alert" in str(server.handshake_errors[0])


@pytest.mark.parametrize("name", ["127.0.0.1", "::1"])
async def test_an_address_is_verified_as_such(
    contexts: dict[str, SSLContext], client_context: SSLContext, name: str
) -> None:
    async with Server(greet, ssl=contexts["addresses"]) as server:
        stream = await dial(server, client_context, name)
        assert await stream.read(math.inf) == b"hello"
        stream.close()
        with pytest.raises(TLSError, match="localhost is not trusted: Hostname mismatch"):
            await dial(server, client_context, "localhost")


async def test_the_protocol_agreed_on_is_known(contexts: dict[str, SSLContext]) -> None:
    async with connected(linger, contexts["good"], await TLSSettings(verify=False).context()) as stream:
        assert stream.info.alpn == "http/1.1"
    async with connected(linger, contexts["no ALPN"], await TLSSettings(verify=False).context()) as stream:
        assert stream.info.alpn is None


async def test_a_client_certificate_that_is_missing_is_missed(
    contexts: dict[str, SSLContext], client_context: SSLContext
) -> None:
    async with Server(greet, ssl=contexts["wants a certificate"]) as server:
        # With TLS 1.3 the client has done its part before the server says no.
        stream = await dial(server, client_context)
        with pytest.raises(ReadError, match="TLS with localhost failed: tlsv13 alert certificate required") as info:
            await stream.read(math.inf)
        assert isinstance(info.value.__cause__, ssl.SSLError)
        with pytest.raises(ReadError) as again:
            await stream.read(math.inf)
        assert again.value is not info.value
        stream.close()


async def test_a_client_certificate_that_is_missing_is_missed_in_the_handshake_of_tls_1_2(
    contexts: dict[str, SSLContext], client_context: SSLContext
) -> None:
    async with Server(greet, ssl=contexts["wants a certificate, TLS 1.2"]) as server:
        with pytest.raises(TLSError, match="the TLS handshake with localhost failed: .*handshake failure"):
            await dial(server, client_context)


# Sessions


@pytest.fixture
def resumed() -> list[bool | None]:
    """For each connection of `greet_and_tell`, whether the server resumed a session."""
    return []


@pytest.fixture
def greet_and_tell(resumed: list[bool | None]) -> Callable[[Peer], object]:
    async def script(peer: Peer) -> None:
        assert peer.ssl_object is not None
        resumed.append(peer.ssl_object.session_reused)
        await peer.send(b"hello")
        if await peer.read() == b"more":
            await peer.send(b" and more")
        await peer.wait_disconnect()

    return script


@pytest.mark.parametrize("version", ["TLS 1.2", "TLS 1.3"])
async def test_a_session_is_resumed(
    contexts: dict[str, SSLContext],
    version: str,
    client_context: SSLContext,
    resumed: list[bool | None],
    greet_and_tell: Callable[[Peer], object],
) -> None:
    sessions: list[ssl.SSLSession | None] = []
    async with Server(greet_and_tell, ssl=contexts[version]) as server:  # type: ignore[arg-type]
        first = await dial(server, client_context, on_session=lambda stream: sessions.append(stream.take_session()))
        assert sessions == []
        assert await first.read(math.inf) == b"hello"
        first.write(b"more")
        assert await first.read(math.inf) == b" and more"
        # Told once, and with the first data: by then the tickets are here.
        assert len(sessions) == 1
        session = sessions[0]
        assert session is not None
        first.close()
        second = await dial(server, client_context, session=session)
        assert await second.read(math.inf)
        assert second.info.session_reused
        assert resumed == [False, True]
        second.close()


async def test_a_session_of_another_context_is_a_tls_error(
    server_context: SSLContext, client_context: SSLContext, ca_file: str
) -> None:
    async with Server(greet, ssl=server_context) as server:
        first = await dial(server, client_context)
        await first.read(math.inf)
        session = first.take_session()
        first.close()
        with pytest.raises(TLSError, match="TLS with localhost cannot begin: .*different SSLContext"):
            await dial(server, await TLSSettings(ca_file).context(), session=session)
        # The stream below is closed all the same.
        await until(lambda: server.open_connections == 0)


async def test_without_tickets_there_is_no_session_worth_keeping(
    certificates: Certificates, client_context: SSLContext
) -> None:
    context = await asyncio.to_thread(certificates.server_context)
    context.num_tickets = 0
    async with connected(greet, context, client_context) as stream:
        await stream.read(math.inf)
        assert stream.take_session() is None


async def test_a_session_grows_old(server_context: SSLContext, client_context: SSLContext) -> None:
    async with connected(greet, server_context, client_context) as stream:
        await stream.read(math.inf)
        session = stream.take_session()
        assert session is not None
        assert is_live(session, session.time)
        assert is_live(session, session.time + session.timeout - 1)
        assert not is_live(session, session.time + session.timeout)


# Handshakes that fail


async def test_a_server_without_tls_is_told_in_clear_words(client_context: SSLContext) -> None:
    async def plain(peer: Peer) -> None:
        await peer.read()
        await peer.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await peer.wait_disconnect()

    async with Server(plain) as server:
        with pytest.raises(TLSError) as info:
            await dial(server, client_context)
        words = "localhost does not speak TLS on this port (plain HTTP, perhaps): it sent b'HTTP/1.1 400 Bad'"
        assert str(info.value) == words
        assert isinstance(info.value.__cause__, ssl.SSLError)


async def test_an_end_within_the_handshake_is_told_in_clear_words(client_context: SSLContext) -> None:
    async def leave(peer: Peer) -> None:
        await peer.read()

    async with Server(leave) as server:
        with pytest.raises(TLSError, match="^localhost closed the connection during the TLS handshake$"):
            await dial(server, client_context)


async def test_a_reset_within_the_handshake_is_told_in_clear_words(client_context: SSLContext) -> None:
    async def reset(peer: Peer) -> None:
        await peer.read()
        peer.reset()

    async with Server(reset) as server:
        words = r"^the TLS handshake with localhost broke off: reading from 127\.0\.0\.1:\d+ failed: Connection reset"
        with pytest.raises(TLSError, match=words) as info:
            await dial(server, client_context)
        assert isinstance(info.value.__cause__, ReadError)


async def test_an_alert_within_the_handshake_is_told_in_clear_words(contexts: dict[str, SSLContext]) -> None:
    def no_common_version() -> SSLContext:
        context = SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers("ECDHE-ECDSA-AES128-GCM-SHA256")
        return context

    async with Server(linger, ssl=contexts["TLS 1.3"]) as server:
        with pytest.raises(TLSError, match="^the TLS handshake with localhost failed: .*protocol version"):
            await dial(server, no_common_version())


async def test_a_name_that_cannot_be_asked_for_is_a_tls_error(
    server_context: SSLContext, client_context: SSLContext
) -> None:
    async with Server(linger, ssl=server_context) as server:
        for name in ("", ".example", "x" * 70 + ".example"):
            with pytest.raises(TLSError, match=f"^TLS with {name} cannot begin: "):
                await dial(server, client_context, name)
        with pytest.raises(TLSError, match="cannot begin: Cannot create a client socket"):
            await dial(server, server_context)


async def test_a_cancelled_handshake_closes_the_stream_below(client_context: SSLContext) -> None:
    left = asyncio.Event()

    async def silent(peer: Peer) -> None:
        await peer.wait_disconnect()
        left.set()

    async with Server(silent) as server:
        dialling = asyncio.create_task(dial(server, client_context))
        await until(lambda: server.connections)
        await turns()
        dialling.cancel()
        with pytest.raises(asyncio.CancelledError):
            await dialling
        async with asyncio.timeout(20):
            await left.wait()


async def test_a_server_that_renegotiates_while_it_is_sent_to_is_told_in_clear_words(
    contexts: dict[str, SSLContext], client_context: SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with connected(linger, contexts["TLS 1.2"], client_context) as stream:
        with monkeypatch.context() as patch:
            patch.setattr(stream, "_tls", Waiting(stream._tls))
            stream.write(b"more")
        with pytest.raises(
            WriteError, match="^TLS with localhost failed: the server renegotiates while it is being sent"
        ):
            await stream.drain()


class Waiting:
    """TLS in the middle of a handshake that the server began."""

    def __init__(self, tls: ssl.SSLObject) -> None:
        self.pending = tls.pending

    def write(self, data: bytes) -> int:
        raise ssl.SSLWantReadError(ssl.SSL_ERROR_WANT_READ, "The operation did not complete (read)")


# The last message of a handshake


async def begin_to_read(stream: TLSStream) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await stream.read(math.inf)


@pytest.mark.parametrize(
    "use",
    [
        lambda stream: stream.write(b"request"),
        begin_to_read,
        lambda stream: stream.read_ready(),
        lambda stream: stream.watch(lambda: None),
        lambda stream: stream.drain(),
        lambda stream: stream.close(),
    ],
    ids=["write", "read", "read_ready", "watch", "drain", "close"],
)
async def test_the_last_message_of_a_handshake_waits_for_the_first_use(
    contexts: dict[str, SSLContext], client_context: SSLContext, use: Callable[[TLSStream], object]
) -> None:
    greeted: list[Peer] = []

    async def greeting(peer: Peer) -> None:
        greeted.append(peer)
        await peer.wait_disconnect()

    async with Server(greeting, ssl=contexts["TLS 1.3"]) as server:
        inner = await connect_tcp("127.0.0.1", server.port)
        stream = await start_tls(inner, client_context, "localhost", request_follows=True)
        assert stream.info.tls_version == "TLSv1.3"
        await turns()
        assert not greeted
        used = use(stream)
        if isinstance(used, Awaitable):
            await used
        await until(lambda: greeted)
        stream.abort()


async def test_the_last_message_of_a_handshake_goes_with_a_request_that_departs_after_a_read_began(
    contexts: dict[str, SSLContext], client_context: SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def answer(peer: Peer) -> None:
        await peer.read()
        await peer.send(b"answer")

    async with Server(answer, ssl=contexts["TLS 1.3"]) as server:
        inner = await connect_tcp("127.0.0.1", server.port)
        stream = await start_tls(inner, client_context, "localhost", request_follows=True)
        sent: list[bytes] = []
        write = type(inner).write

        def note(self: Stream, data: bytes) -> None:
            sent.append(data)
            write(self, data)

        monkeypatch.setattr(type(inner), "write", note)
        asyncio.get_running_loop().call_soon(stream.write, b"request")
        assert await stream.read(math.inf) == b"answer"
        assert len(sent) == 1
        stream.abort()


# Reading


@wires(kinds=("tls",))
async def test_the_end_without_close_notify_is_truncation(wire: Wire) -> None:
    stream, peer = await wire.open()
    await peer.send(b"as far as it g")
    peer.cut()
    assert await stream.read(math.inf) == b"as far as it g"
    for _ in range(2):
        with pytest.raises(TruncatedStream, match=r"127\.0\.0\.1:\d+ ended without TLS close_notify"):
            await stream.read(math.inf)
        with pytest.raises(TruncatedStream):
            stream.read_ready()


@wires(kinds=("tls",))
async def test_many_records_come_in_one_read(wire: Wire) -> None:
    stream, peer = await wire.open()
    assert peer.ssl_object is not None
    for number in range(49):
        peer.ssl_object.write(b"%02d" % number)
    await peer.send(b"49")
    assert await stream.read(math.inf) == b"".join(b"%02d" % number for number in range(50))


@wires(kinds=("tls",))
async def test_more_than_one_read_may_give_waits_for_the_next(wire: Wire) -> None:
    stream, peer = await wire.open()

    async def flood() -> None:
        await peer.send(LARGE)
        await peer.close()

    sending = asyncio.create_task(flood())
    sizes = []
    while piece := await stream.read(math.inf):
        sizes.append(len(piece))
    await sending
    assert sum(sizes) == len(LARGE)
    assert max(sizes) < tls.MAX_READ_BYTES + tls.RECORD_BYTES


@wires(kinds=("tls",))
async def test_a_message_is_decrypted_in_one_step(wire: Wire) -> None:
    stream, peer = await wire.open()
    await turns()
    assert stream.read_ready() is None
    with openssl_reads() as reads:
        assert stream.read_ready() is None
        assert reads == []
        await peer.send(b"hello")
        await turns()
        assert await stream.read(math.inf) == b"hello"
        assert stream.read_ready() is None
        # OpenSSL is not asked whether there is more where nothing more was received.
        assert len(reads) == 1


@contextmanager
def openssl_reads() -> Iterator[list[object]]:
    """Note each time that this thread asks a client's side of TLS for data; the tests' server has frames of its own."""
    reads: list[object] = []

    def note(frame: FrameType, event: str, function: object) -> None:
        called = getattr(function, "__qualname__", "")
        if event == "c_call" and called == "_SSLSocket.read" and is_clients(frame):
            reads.append(function)

    def is_clients(frame: FrameType) -> bool:
        tls_object = frame.f_locals["self"]
        return isinstance(tls_object, ssl.SSLObject) and not tls_object.server_side

    sys.setprofile(note)
    try:
        yield reads
    finally:
        sys.setprofile(None)


@wires(kinds=("tls",))
async def test_streams_that_decrypt_at_the_same_time_do_not_mix(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    first, first_peer = await wire.open()
    second, second_peer = await wire.open()
    assert isinstance(first, TLSStream)
    read = first._read_into
    found: list[bytes | None] = []

    def read_while_another_thread_reads(size: int, buffer: memoryview) -> int:
        count = read(size, buffer)
        found.append(second.read_ready())
        return count

    monkeypatch.setattr(first, "_read_into", read_while_another_thread_reads)
    await first_peer.send(b"for the first")
    await second_peer.send(b"for the other")
    await turns()
    assert await first.read(math.inf) == b"for the first"
    assert b"for the other" in found


@wires(kinds=("tls",))
async def test_tickets_on_an_idle_connection_are_not_data_but_data_is(wire: Wire) -> None:
    stream, peer = await wire.open()
    # The server has sent its tickets with the end of the handshake.
    await turns()
    assert stream.read_ready() is None
    await peer.send(b"unasked")
    assert await arrived(stream) == b"unasked"
    assert stream.read_ready() is None
    await peer.close()
    assert await arrived(stream) == b""


@wires(kinds=("tls",))
async def test_a_fault_comes_after_the_data_before_it(wire: Wire) -> None:
    stream, peer = await wire.open()
    await peer.send(b"whole")
    await peer._socket.send(b"\x17\x03\x03\x00\x20" + bytes(32))  # a record that nobody encrypted
    await turns()
    assert await stream.read(math.inf) == b"whole"
    for _ in range(2):
        with pytest.raises(ReadError, match="^TLS with localhost failed: .*bad record mac"):
            await stream.read(math.inf)
    with pytest.raises(ReadError):
        stream.read_ready()
    # The peer is told why.
    with pytest.raises(ConnectionAbortedError, match=r"(?i)bad.record.mac"):
        await peer.read()


@wires(kinds=("tls",))
async def test_a_fault_alone_is_a_read_error(wire: Wire) -> None:
    stream, peer = await wire.open()
    await peer._socket.send(b"rubbish, all of it")
    with pytest.raises(ReadError, match="^TLS with localhost failed: ") as info:
        await stream.read(math.inf)
    assert isinstance(info.value.__cause__, ssl.SSLError)
    stream.write(b"x")
    failure = stream.write_error
    assert isinstance(failure, WriteError)
    assert isinstance(failure.__cause__, ssl.SSLError)
    with pytest.raises(WriteError, match="^TLS with localhost failed: "):
        await stream.drain()
    stream.write(b"y")
    assert stream.write_error is failure


@wires(kinds=("tls",))
async def test_a_fault_keeps_nothing_alive(wire: Wire) -> None:
    gc.collect()
    gc.disable()
    try:
        stream, peer = await wire.open()
        wire.streams.clear()
        await peer._socket.send(b"rubbish, all of it")
        await broken(stream)
        sock = weakref.ref(wire.socket_of(stream)._sock)  # type: ignore[attr-defined]
        stream.abort()
        del stream
        await turns()
        assert sock() is None
    finally:
        gc.enable()


async def broken(stream: Stream) -> None:
    with pytest.raises(ReadError):
        await stream.read(math.inf)


# Writing, and the end


async def read_tickets(stream: Stream, peer: Peer) -> None:
    """Leave nothing unread, because a socket with unread bytes is closed by a reset."""
    await peer.send(b"hello")
    assert await stream.read(math.inf) == b"hello"


@wires(kinds=("tls",))
async def test_closing_says_goodbye(wire: Wire) -> None:
    stream, peer = await wire.open()
    await read_tickets(stream, peer)
    stream.write(b"last words")
    stream.close()
    stream.close()
    assert await receive(peer, 100) == b"last words"
    assert peer.ssl_object is not None
    # The server has seen the client's close_notify, and not only the end of file.
    assert peer.ssl_object.read(1) == b""


@wires(kinds=("tls",))
async def test_an_abort_says_no_goodbye(wire: Wire) -> None:
    stream, peer = await wire.open()
    await read_tickets(stream, peer)
    stream.write(b"last words")
    stream.abort()
    stream.close()
    assert await receive(peer, 100) == b"last words"
    assert peer.ssl_object is not None
    with pytest.raises(ssl.SSLWantReadError):
        peer.ssl_object.read(1)


@wires(kinds=("tls",))
async def test_closing_with_unsent_bytes_does_not_wait_for_them(wire: Wire) -> None:
    stream, _ = await wire.open()
    stream.write(LARGE)
    assert stream.unsent
    stream.close()
    assert not stream.unsent
    with pytest.raises(ReadError, match="closed on this side"):
        await stream.read(math.inf)


@wires(kinds=("tls",))
async def test_a_goodbye_of_both_is_the_end(wire: Wire) -> None:
    stream, peer = await wire.open()
    assert isinstance(stream, TLSStream)
    await peer.close()
    # As in `close`, but reading goes on.
    with pytest.raises(ssl.SSLError):
        stream._tls.unwrap()
    assert await stream.read(math.inf) == b""


@wires(kinds=("tls",))
async def test_a_limit_reaches_the_stream_below(wire: Wire) -> None:
    stream, _ = await wire.open()
    stream.write(LARGE)
    stream.limit_writes(0.02, math.inf)
    with pytest.raises(WriteTimeout):
        await stream.drain()
    assert isinstance(stream.write_error, WriteTimeout)


# TLS inside TLS


async def test_tls_inside_tls(contexts: dict[str, SSLContext], client_context: SSLContext) -> None:
    goodbyes: list[str] = []

    async def tunnel(peer: Peer) -> None:
        assert await peer.read() == b"let me through"
        await peer.send(b"go on")
        await peer.start_tls(contexts["other name"])
        received = bytearray()
        while data := await peer.read():
            received += data
        await peer.send(bytes(received))
        goodbyes.append("seen")

    async with Server(tunnel, ssl=contexts["good"]) as server:
        outer = await dial(server, client_context)
        outer.write(b"let me through")
        assert await outer.read(math.inf) == b"go on"
        with_both = await start_tls(outer, client_context, "other.example")
        assert with_both.info.tls_version == "TLSv1.3"
        assert with_both.info.remote_address == outer.info.remote_address
        sending = asyncio.create_task(send_and_finish(with_both, LARGE))
        assert await read_all(with_both) == LARGE
        await sending
        with_both.close()
        await until(lambda: goodbyes)


async def send_and_finish(stream: TLSStream, data: bytes) -> None:
    stream.write(data)
    await stream.drain()
    # Half a goodbye: reading goes on.
    with pytest.raises(ssl.SSLError):
        stream._tls.unwrap()
    stream._flush()


async def test_tls_inside_tls_verifies_the_inner_name(
    contexts: dict[str, SSLContext], client_context: SSLContext
) -> None:
    async def tunnel(peer: Peer) -> None:
        with pytest.raises(ssl.SSLError):
            await peer.start_tls(contexts["other name"])

    async with Server(tunnel, ssl=contexts["good"]) as server:
        outer = await dial(server, client_context)
        with pytest.raises(TLSError, match=r"the certificate of right\.example is not trusted: Hostname mismatch"):
            await start_tls(outer, client_context, "right.example")
        with pytest.raises(ReadError, match="closed on this side"):
            await outer.read(math.inf)
