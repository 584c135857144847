"""
The request's half of an exchange: what is written at once, what waits for 100 (Continue), and what is uploaded.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterable
from time import perf_counter
from typing import Final, Protocol, TypeAlias, cast

from aiosock.config import Timeout
from aiosock.connection.http1 import Connection
from aiosock.connection.sending import BodySender
from aiosock.connection.upload import Keeper, Upload
from aiosock.errors import ServerDisconnected, UsageError
from aiosock.message.body import Body, BytesBody
from aiosock.message.request import Request
from aiosock.message.transit import Timings
from aiosock.network.stream import ONE_SEND_BYTES, Stream
from aiosock.protocol import http1
from aiosock.protocol.http1 import RequestHead

EXPECT_SECONDS: Final = 1.0
"""How long a body waits for 100 (Continue) before it is sent all the same (RFC 9110, 10.1.1)."""

MAX_DIRECT_BYTES: Final = 256 * 1024
"""A body of bytes up to this size is handed to the stream whole, without a task."""

Fields: TypeAlias = Iterable[tuple[str, str]]
Trailers: TypeAlias = Fields | Callable[[], Fields]


class Owner(Keeper, Protocol):
    """Who takes a connection back, and looks after the tasks that outlive an exchange: the pool."""

    def release(self, connection: Connection) -> None:
        """Take back a connection whose exchange is over."""
        ...


class Outgoing:
    """
    The sending half of an `Exchange`, which fills it in: a half that made itself would cost each request a call.

    Attributes:
        connection: Which carries the exchange.
        request: What is sent.
    """

    __slots__ = (
        "_continue_by",
        "_deadline",
        "_head",
        "_loop",
        "_nothing_written",
        "_outgoing",
        "_over",
        "_owner",
        "_protocol",
        "_sent_at",
        "_stopped",
        "_stream",
        "_timeout",
        "_timings",
        "_upload",
        "connection",
        "request",
    )

    connection: Connection
    request: Request
    _stream: Stream
    _protocol: http1.Connection
    _head: RequestHead
    _owner: Owner
    _loop: asyncio.AbstractEventLoop
    _timeout: Timeout
    _deadline: float
    _timings: Timings
    _upload: Upload | None
    _sent_at: float
    _stopped: bool
    _continue_by: float | None
    _nothing_written: bool
    _over: bool
    # What waits to depart; None once it has.
    _outgoing: bytes | None

    def _send(self) -> None:
        head, body, protocol = self._head, self.request.body, self._protocol
        data = protocol.send_request(head)
        pumped = False
        if body is None:
            if head.has_body:
                data += protocol.send_end()
        elif head.expects_continue:
            self._continue_by = self._loop.time() + EXPECT_SECONDS
        elif isinstance(body, BytesBody) and len(body.data) <= MAX_DIRECT_BYTES:
            content = protocol.send_data(body.data) if body.data else b""
            data = b"".join((data, content, protocol.send_end(self._request_trailers())))
        else:
            pumped = True
        self._outgoing = data
        outbox = self.connection.outbox
        if pumped:
            self.depart()
            self._start_sending()
        elif outbox.under_way > 1:
            outbox.post(self, self._timings.acquired_at or perf_counter())
        else:
            self.depart()

    def depart(self, late: bool = False) -> None:
        """
        Write what is the whole request, or its first part; called by the outbox.

        Args:
            late: So much time has passed that the connection may have ended since it was looked at.
        """
        data = self._outgoing
        if data is None or self._over:
            return
        stream = self._stream
        if late and not self.connection.is_alive():
            stream.interrupt(ServerDisconnected("the server closed the connection before the request left"))
            return
        self._outgoing = None
        stream.write(data)
        self._nothing_written = stream.write_error is not None and len(data) <= ONE_SEND_BYTES
        if self._continue_by is None:
            self._timings.sent_at = perf_counter()

    def _request_trailers(self) -> list[tuple[str, str]]:
        trailers = cast("Trailers", self.request.extensions.get("trailers", ()))
        given = trailers() if callable(trailers) else trailers
        if not isinstance(given, Iterable):
            raise UsageError(
                f"the extension trailers is pairs, or a function that returns them, not {type(given).__name__}"
            )
        return list(given)

    def _start_sending(self) -> None:
        """Upload the body, which there is wherever it has to be waited for."""
        self._continue_by = None
        self._upload = Upload(self._loop, self._stream, self._send_body, self._owner)

    async def _send_body(self) -> None:
        protocol, stream = self._protocol, self._stream
        await self._body_sender().send(cast("Body", self.request.body))
        stream.write(protocol.send_end(self._request_trailers()))
        await stream.drain()
        self._count_as_sent()

    def _body_sender(self) -> BodySender:
        return BodySender(self._stream, self._protocol, self._head)

    def _count_as_sent(self) -> None:
        self._sent_at = self._loop.time()
        self._timings.sent_at = perf_counter()

    def _limit_writes(self, deadline: float) -> None:
        seconds = self._timeout.write
        self._stream.limit_writes(math.inf if seconds is None else seconds, deadline)

    @property
    def _is_sending(self) -> bool:
        return (self._upload is not None and self._upload.under_way) or self._stream.unsent

    def _stop_sending(self) -> None:
        """The answer is here, and the server does not want the rest."""
        self._stopped = True
        if self._upload is not None:
            self._upload.cancel()
        self._continue_by = None
        self._stream.limit_writes(math.inf, math.inf)

    async def _wait_until_sent(self) -> None:
        """Return when the request's body is sent; whoever is cancelled here leaves the sending alone."""
        upload = self._upload
        if upload is not None:
            if upload.under_way:
                await upload.wait()
            if upload.failure is not None:
                raise upload.failure
