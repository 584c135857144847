"""
A scripted server on loopback: a coroutine says, connection by connection, exactly which bytes are sent.

It runs in the event loop of the test, asyncio's or uvloop's (any loop that has ``add_reader``), and speaks
plain TCP, TLS, or a Unix socket. It does only what its script says: it answers nothing by itself, corrects
nothing, and adds no byte. It is a peer for tests and demonstrations and not a web server: it trusts its
clients and keeps every request that it has read.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from ssl import SSLContext, SSLObject
from types import TracebackType
from typing import Self, TypedDict, Unpack

from aiosock.testing.message import (
    BadRequest,
    ReceivedRequest,
    body_length,
    parse_chunk_size,
    parse_fields,
    parse_head,
    response,
)
from aiosock.testing.stream import PlainStream, Stream, TLSStream

__all__ = ["BadRequest", "IncomingBody", "Peer", "ReceivedRequest", "Server", "response"]

log = logging.getLogger(__name__)

MAX_HEAD_BYTES = 4 * 1024 * 1024
CLOSE_SECONDS = 2.0
# So many turns let a client in the same loop see what has arrived, wake up, and come back to its next read.
TURNS = 8

Script = Callable[["Peer"], Awaitable[None]]


class Peer:
    """
    The server's end of one accepted connection, in the hands of a script.

    One task may read and another send at the same time. What a script does after the connection ended
    raises ``ConnectionError``, and that is no fault of the script.

    Attributes:
        number: Which connection of the server this is, from 0.
        server: The server that accepted it.
        requests: How many heads were read on it so far.
    """

    def __init__(self, number: int, server: Server, sock: socket.socket) -> None:
        self.number = number
        self.server = server
        self.requests = 0
        self._socket = PlainStream(sock)
        self._stream: Stream = self._socket
        self._buffer = bytearray()

    @property
    def ssl_object(self) -> SSLObject | None:
        """What TLS negotiated with the client; None on a plain connection."""
        return self._stream.ssl_object if isinstance(self._stream, TLSStream) else None

    @property
    def closed(self) -> bool:
        """Whether this end has been closed."""
        return self._socket.closed

    async def start_tls(self, context: SSLContext) -> None:
        """
        Shake hands as a TLS server over what has been plain so far, as a proxy does after CONNECT.

        Args:
            context: What the server shows and demands.

        Raises:
            ssl.SSLError: The two do not agree.
            ConnectionError: The client left.
        """
        stream = TLSStream(self._stream, context)
        await stream.handshake()
        self._stream = stream

    async def read(self, max_bytes: int = 65536) -> bytes:
        """Return what the client sent, as soon as there is something; ``b""`` at the end of file."""
        if self._buffer:
            return self._take(max_bytes)
        return await self._stream.read(max_bytes)

    async def read_head(self) -> ReceivedRequest | None:
        """
        Read the next head and leave the body on the wire.

        Returns:
            The request with an empty body, or None where the client closed instead of sending one.

        Raises:
            asyncio.IncompleteReadError: The connection ended within the head.
            BadRequest: It is ill-formed, or larger than 4 MiB.
        """
        if not self._buffer:
            self._buffer += await self._stream.read(65536)
        if not self._buffer:
            return None
        request = parse_head(await self.read_until(b"\r\n\r\n"))
        self.requests += 1
        self.server.requests.append(request)
        return request

    async def read_body(self, request: ReceivedRequest) -> bytes:
        """
        Read the whole body that belongs to the head read last.

        Raises:
            asyncio.IncompleteReadError: The connection ended within the body.
            BadRequest: Its framing is ill-formed.
        """
        return (await self._complete(request)).body

    async def read_request(self) -> ReceivedRequest | None:
        """
        Read the next head and its body; ``Expect: 100-continue`` is left to the script.

        Returns:
            The request, or None where the client closed instead of sending one.

        Raises:
            asyncio.IncompleteReadError: The connection ended within the request.
            BadRequest: It is ill-formed.
        """
        request = await self.read_head()
        return None if request is None else await self._complete(request)

    def open_body(self, request: ReceivedRequest) -> IncomingBody:
        """
        Return a reader of the body that belongs to the head read last, for bodies too large to hold.

        Raises:
            BadRequest: The head contradicts itself about the body.
        """
        return IncomingBody(self, request)

    async def read_until(self, separator: bytes) -> bytes:
        """
        Read up to and including a separator.

        Raises:
            asyncio.IncompleteReadError: The connection ended before it.
            BadRequest: It did not come within 4 MiB.
        """
        searched = 0
        while (at := self._buffer.find(separator, searched)) < 0:
            if len(self._buffer) > MAX_HEAD_BYTES:
                raise BadRequest(f"no {separator!r} within {MAX_HEAD_BYTES} bytes")
            searched = max(0, len(self._buffer) - len(separator) + 1)
            data = await self._stream.read(65536)
            if not data:
                raise asyncio.IncompleteReadError(bytes(self._buffer), None)
            self._buffer += data
        return self._take(at + len(separator))

    async def send(self, data: bytes) -> None:
        """Send these bytes; returns when the kernel has them all."""
        await self._stream.send(data)

    async def send_pieces(self, *pieces: bytes) -> None:
        """Send pieces that a client in the same loop sees, if it is reading, as one read each."""
        for piece in pieces:
            await self.send(piece)
            await _turns()

    def half_close(self) -> None:
        """
        Send FIN and go on reading.

        Raises:
            RuntimeError: On TLS, where a FIN alone would be a truncation; see ``cut``.
        """
        if self._stream is not self._socket:
            raise RuntimeError("TLS cannot be half closed")
        self._socket.half_close()

    async def close(self) -> None:
        """End the connection in good order: close_notify on TLS, then FIN."""
        try:
            if not self.closed:
                # A client that has left, or that takes no more bytes, hears no good-bye.
                with contextlib.suppress(ConnectionError, TimeoutError):
                    async with asyncio.timeout(CLOSE_SECONDS):
                        await self._stream.finish()
        finally:
            self.cut()

    def cut(self) -> None:
        """End the connection with a bare FIN, now; on TLS that is a truncation."""
        self._socket.close()

    def reset(self) -> None:
        """End the connection with RST, now; on a Unix socket, which has none, it is a ``cut``."""
        self._socket.close(reset=True)

    async def wait_disconnect(self) -> None:
        """Throw away what the client sends until it has closed its end or reset the connection."""
        with contextlib.suppress(ConnectionError):
            while await self.read():
                continue

    def _take(self, max_bytes: int) -> bytes:
        data = bytes(self._buffer[:max_bytes])
        del self._buffer[:max_bytes]
        return data

    async def _complete(self, head: ReceivedRequest) -> ReceivedRequest:
        body = self.open_body(head)
        pieces: list[bytes] = []
        while piece := await body.read():
            pieces.append(piece)
        request = replace(head, body=b"".join(pieces), trailers=body.trailers)
        # The record holds the head already; it is near the end unless thousands of requests are under way.
        record = self.server.requests
        for index in reversed(range(len(record))):
            if record[index] is head:
                record[index] = request
                break
        return request


class IncomingBody:
    """
    Reads one request's body piece by piece.

    Attributes:
        trailers: The fields after a chunked body, once it has ended.

    Raises:
        BadRequest: The head contradicts itself about the body.
    """

    def __init__(self, peer: Peer, request: ReceivedRequest) -> None:
        length = body_length(request)
        self.trailers: list[tuple[str, str]] = []
        self._peer = peer
        self._chunked = length is None
        self._left = length or 0
        self._ended = length == 0

    async def read(self, max_bytes: int = 65536) -> bytes:
        """
        Return the next bytes of the body; ``b""`` once it has ended.

        Raises:
            asyncio.IncompleteReadError: The connection ended within the body.
            BadRequest: The framing is ill-formed.
        """
        if self._chunked and not self._left and not self._ended:
            await self._start_chunk()
        if self._ended:
            return b""
        data = await self._peer.read(min(self._left, max_bytes))
        if not data:
            raise asyncio.IncompleteReadError(b"", self._left)
        self._left -= len(data)
        if not self._left:
            await self._end_piece()
        return data

    async def _start_chunk(self) -> None:
        self._left = parse_chunk_size(await self._read_line())
        if self._left == 0:
            lines: list[str] = []
            while line := await self._read_line():
                lines.append(line.decode("latin-1"))
            self.trailers = parse_fields(lines)
            self._ended = True

    async def _end_piece(self) -> None:
        if not self._chunked:
            self._ended = True
        elif line := await self._read_line():
            raise BadRequest(f"a chunk is longer than its size says: {line[:40]!r}")

    async def _read_line(self) -> bytes:
        return (await self._peer.read_until(b"\r\n")).removesuffix(b"\r\n")


class Options(TypedDict, total=False):
    """The keyword arguments of ``Server``."""

    ssl: SSLContext | None
    host: str
    port: int
    uds: str | os.PathLike[str] | None
    backlog: int


class Server:
    """
    A server on loopback that plays a script to each connection.

    A connection is closed, in good order, when its script returns. What escapes a script fails the test:
    leaving the server's block (or ``close``) raises it in an ``ExceptionGroup``, unless it is only that the
    client left (``ConnectionError``, ``IncompleteReadError``) or that the closing server ended the script.

    Args:
        script: What to do with a connection; called once for each.
        ssl: Speak TLS with this context; the script begins when hands have been shaken.
        host: The address to listen on.
        port: The port to listen on; 0 takes a free one.
        uds: The path of a Unix socket to listen on, in place of host and port.
        backlog: How many connections may wait to be accepted.

    Attributes:
        connections: How many connections have been accepted.
        requests: What was read, in order; bodies are filled in as they are read.
        handshake_errors: Why TLS handshakes failed; the script is not called for such a connection.
    """

    def __init__(
        self,
        script: Script,
        *,
        ssl: SSLContext | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        uds: str | os.PathLike[str] | None = None,
        backlog: int = 4096,
    ) -> None:
        self.connections = 0
        self.requests: list[ReceivedRequest] = []
        self.handshake_errors: list[OSError] = []
        self.host = "localhost" if uds is not None else host
        self.port = port
        self._script = script
        self._ssl = ssl
        self._uds = None if uds is None else Path(uds)
        self._backlog = backlog
        self._listener: socket.socket | None = None
        self._scripts: dict[asyncio.Task[None], Peer] = {}
        self._faults: list[BaseException] = []

    @classmethod
    def answering(cls, *answers: bytes, **options: Unpack[Options]) -> Self:
        """
        Return a server that reads requests and sends these exact bytes, and keeps its connections open.

        Args:
            answers: One for each request, in the order in which requests arrive over all connections; the
                last one is repeated.
            options: The keyword arguments of ``Server``.

        Raises:
            ValueError: No answer was given.
        """
        if not answers:
            raise ValueError("Server.answering() needs at least one answer")
        left = deque(answers)

        async def answer(peer: Peer) -> None:
            while await peer.read_request():
                await peer.send(left.popleft() if len(left) > 1 else left[0])

        return cls(answer, **options)

    @property
    def address(self) -> tuple[str, int] | str:
        """Where it listens: host and port, or the path of the Unix socket."""
        return (self.host, self.port) if self._uds is None else str(self._uds)

    @property
    def url(self) -> str:
        """The URL of the server's root, without the final slash; on a Unix socket the host is localhost."""
        scheme = "http" if self._ssl is None else "https"
        if self._uds is not None:
            return f"{scheme}://localhost"
        # Certificates are made for names, so that is what a client should ask for.
        named = self._ssl is not None and self.host == "127.0.0.1"
        host = "localhost" if named else f"[{self.host}]" if ":" in self.host else self.host
        return f"{scheme}://{host}:{self.port}"

    @property
    def open_connections(self) -> int:
        """How many connections this end has not closed; a client's closing counts once a script reads it."""
        return sum(not peer.closed for peer in self._scripts.values())

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def start(self) -> None:
        """
        Listen.

        Raises:
            OSError: The address cannot be had.
            RuntimeError: It listens already.
        """
        if self._listener is not None:
            raise RuntimeError("this server has been started already")
        listener = self._listen()
        if self._uds is None:
            self.port = listener.getsockname()[1]
        self._listener = listener
        asyncio.get_running_loop().add_reader(listener.fileno(), self._accept, listener)

    async def close(self) -> None:
        """
        Stop listening, end all scripts, cut all connections; within a bounded time, and again is no harm.

        Raises:
            BaseExceptionGroup: What escaped the scripts since the last call.
        """
        await self._stop_listening()
        try:
            if self._scripts:
                await _turns()  # what the client sent last may yet bring a script to its end, or make it fail
        finally:
            for task in self._scripts:
                task.cancel()
        if self._scripts:
            await asyncio.wait(self._scripts, timeout=CLOSE_SECONDS)
        for peer in self._scripts.values():
            peer.cut()
            self._faults.append(RuntimeError(f"the script of connection {peer.number} resists cancellation"))
        if self._faults:
            faults, self._faults = self._faults, []
            raise BaseExceptionGroup("scripts of the server failed", faults)

    def _listen(self) -> socket.socket:
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        if self._uds is not None:
            family = socket.AF_UNIX
        listener = socket.socket(family, socket.SOCK_STREAM)
        try:
            listener.setblocking(False)
            if self._uds is None:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(self.address)
            listener.listen(self._backlog)
        except BaseException:
            listener.close()
            raise
        return listener

    async def _stop_listening(self) -> None:
        if self._listener is None:
            return
        listener, self._listener = self._listener, None
        asyncio.get_running_loop().remove_reader(listener.fileno())
        listener.close()
        if self._uds is not None:
            await asyncio.to_thread(self._uds.unlink, missing_ok=True)

    def _accept(self, listener: socket.socket) -> None:
        for _ in range(self._backlog):
            try:
                sock, _address = listener.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            except OSError as error:
                # Most likely there are no file descriptors left. Trying again would spin; the test is lost.
                asyncio.get_running_loop().remove_reader(listener.fileno())
                error.add_note("The server has stopped accepting connections.")
                self._faults.append(error)
                return
            peer = Peer(self.connections, self, sock)
            self.connections += 1
            task = asyncio.get_running_loop().create_task(self._serve(peer))
            self._scripts[task] = peer
            task.add_done_callback(self._served)

    async def _serve(self, peer: Peer) -> None:
        try:
            if self._ssl is None or await self._shake_hands(peer, self._ssl):
                await self._script(peer)
                await peer.close()
        except* (ConnectionError, asyncio.IncompleteReadError) as left:
            log.debug("connection %d: the client left: %r", peer.number, left.exceptions)

    async def _shake_hands(self, peer: Peer, context: SSLContext) -> bool:
        try:
            await peer.start_tls(context)
        except OSError as error:  # SSLError is one too
            peer.cut()
            self.handshake_errors.append(error)
            return False
        return True

    def _served(self, task: asyncio.Task[None]) -> None:
        # Here and not at the end of _serve, which never runs when it is cancelled before its first turn.
        self._scripts.pop(task).cut()
        if not task.cancelled() and (error := task.exception()) is not None:
            self._faults.append(error)


async def _turns() -> None:
    for _ in range(TURNS):
        await asyncio.sleep(0)
