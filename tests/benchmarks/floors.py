"""
The floors: the least that the exchange costs, so that it is known how far down there is.

Each does what the socket calls demand and the least that finds the end of the answer. Nothing here checks a
header, keeps a deadline or survives a cancellation: it is no client, it is what a client stands on.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from urllib.parse import urlsplit

from tests.benchmarks.contenders import Answer, Contender, Place

HEAD_BYTES = 65536
BODY_BYTES = 262144
RECORD_BYTES = 16384
"""The most that a TLS record holds, and so the most that one read gives."""


def parse(head: bytes) -> tuple[int, int, bool]:
    """Return the status, the length that an answer announces, and whether its connection lives on."""
    at = head.index(b"Content-Length: ") + 16
    return int(head[9:12]), int(head[at : head.index(b"\r", at)]), b"Connection: close" not in head


class Floor(Contender):
    """What floors share: where to connect to, and what to send."""

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        parts = urlsplit(place.url)
        self.address = (parts.hostname, parts.port)
        self.request = f"GET {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\nAccept: */*\r\n\r\n".encode()

    async def open(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.buffer = memoryview(bytearray(BODY_BYTES))

    async def connect(self) -> socket.socket:
        """Return a connected socket."""
        sock = socket.socket()
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await self.loop.sock_connect(sock, self.address)
        return sock


class SockFloor(Floor):
    """Bare ``loop.sock_sendall`` and ``loop.sock_recv``."""

    name = "floor-sock"

    async def open(self) -> None:
        await super().open()
        self.idle: list[socket.socket] = []

    async def close(self) -> None:
        for sock in self.idle:
            sock.close()

    async def get(self) -> Answer:
        loop = self.loop
        sock = self.idle.pop() if self.idle else await self.connect()
        await loop.sock_sendall(sock, self.request)
        data = await loop.sock_recv(sock, HEAD_BYTES)
        while (end := data.find(b"\r\n\r\n")) < 0:
            data += await loop.sock_recv(sock, HEAD_BYTES)
        status, length, lives = parse(data[: end + 2])
        if (left := length - (len(data) - end - 4)) > 0:
            rest = memoryview(bytearray(left))
            while rest:
                rest = rest[await loop.sock_recv_into(sock, rest) :]
        if lives:
            self.idle.append(sock)
        else:
            sock.close()
        return status, length

    async def stream(self) -> Answer:
        loop, buffer = self.loop, self.buffer
        sock = self.idle.pop() if self.idle else await self.connect()
        await loop.sock_sendall(sock, self.request)
        data = await loop.sock_recv(sock, HEAD_BYTES)
        end = data.index(b"\r\n\r\n")
        status, length, _ = parse(data[: end + 2])
        received = len(data) - end - 4
        while received < length:
            received += await loop.sock_recv_into(sock, buffer)
        self.idle.append(sock)
        return status, received


class Registered:
    """A socket that is registered with the loop once, and the answer that it is waiting for."""

    def __init__(self, loop: asyncio.AbstractEventLoop, sock: socket.socket) -> None:
        self.loop = loop
        self.sock = sock
        self.data = bytearray()
        self.missing = 0
        self.status = self.length = 0
        loop.add_reader(sock, self.receive)

    def ask(self, request: bytes) -> asyncio.Future[Answer]:
        """Send a request; the future has the answer."""
        self.waiter: asyncio.Future[Answer] = self.loop.create_future()
        self.sock.send(request)
        return self.waiter

    def receive(self) -> None:
        """Take what the socket has."""
        data = self.sock.recv(HEAD_BYTES)
        if not self.missing:
            end = data.index(b"\r\n\r\n")
            self.status, self.length, _ = parse(data[: end + 2])
            self.missing = self.length + end + 4
        self.missing -= len(data)
        self.data += data
        if not self.missing:
            self.data = bytearray()
            self.waiter.set_result((self.status, self.length))

    def close(self) -> None:
        """Deregister, and only then close."""
        self.loop.remove_reader(self.sock)
        self.sock.close()


class ReaderFloor(Floor):
    """``socket.send``, and a reader that is registered once per connection."""

    name = "floor-reader"

    async def open(self) -> None:
        await super().open()
        self.idle: list[Registered] = []

    async def close(self) -> None:
        for connection in self.idle:
            connection.close()

    async def get(self) -> Answer:
        connection = self.idle.pop() if self.idle else Registered(self.loop, await self.connect())
        answer = await connection.ask(self.request)
        self.idle.append(connection)
        return answer


class Secure:
    """A bare ``ssl.SSLObject`` over a socket."""

    def __init__(self, sock: socket.socket, context: ssl.SSLContext, name: str, session: ssl.SSLSession | None) -> None:
        self.loop = asyncio.get_running_loop()
        self.sock = sock
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_hostname=name, session=session)

    async def receive(self) -> None:
        """Hand on what the socket has."""
        self.incoming.write(await self.loop.sock_recv(self.sock, HEAD_BYTES))

    async def shake_hands(self) -> None:
        """Do the handshake."""
        while True:
            try:
                self.tls.do_handshake()
            except ssl.SSLWantReadError:
                await self.loop.sock_sendall(self.sock, self.outgoing.read())
                await self.receive()
            else:
                return

    async def send(self, data: bytes) -> None:
        """Encrypt and send; in a resumed handshake together with its last message."""
        self.tls.write(data)
        await self.loop.sock_sendall(self.sock, self.outgoing.read())

    async def read(self) -> bytes:
        """Return the first bytes that come."""
        while True:
            try:
                return self.tls.read(RECORD_BYTES)
            except ssl.SSLWantReadError:
                await self.receive()


class TLSFloor(Floor):
    """Bare ``SSLObject``s; new connections resume a session that was taken once."""

    name = "floor-tls"

    async def open(self) -> None:
        await super().open()
        self.context = self.trust()
        self.session: ssl.SSLSession | None = None
        self.idle: list[Secure] = []

    async def close(self) -> None:
        for connection in self.idle:
            connection.sock.close()

    async def begin(self) -> Secure:
        """Return a connection that has sent the request."""
        if self.idle:
            connection = self.idle.pop()
        else:
            connection = Secure(await self.connect(), self.context, "127.0.0.1", self.session)
            await connection.shake_hands()
        await connection.send(self.request)
        return connection

    def finish(self, connection: Secure, lives: bool) -> None:
        """Keep a connection, or close it."""
        if self.session is None:
            self.session = connection.tls.session
        if lives:
            self.idle.append(connection)
        else:
            connection.sock.close()

    async def get(self) -> Answer:
        connection = await self.begin()
        data = await connection.read()
        while (end := data.find(b"\r\n\r\n")) < 0:
            data += await connection.read()
        status, length, lives = parse(data[: end + 2])
        received = len(data) - end - 4
        while received < length:
            received += len(await connection.read())
        self.finish(connection, lives)
        return status, received

    async def stream(self) -> Answer:
        connection = await self.begin()
        data = await connection.read()
        end = data.index(b"\r\n\r\n")
        status, length, lives = parse(data[: end + 2])
        received = len(data) - end - 4
        read, incoming, buffer = connection.tls.read, connection.incoming, self.buffer
        record = bytearray(RECORD_BYTES)
        while received < length:
            try:
                received += read(RECORD_BYTES, record)  # type: ignore[operator]  # given a buffer, it returns a number
            except ssl.SSLWantReadError:
                incoming.write(buffer[: await self.loop.sock_recv_into(connection.sock, buffer)])
        self.finish(connection, lives)
        return status, received


FLOORS: tuple[type[Contender], ...] = (SockFloor, ReaderFloor, TLSFloor)
