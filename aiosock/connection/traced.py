"""
An exchange that tells what happens in it; used where somebody listens, so that nobody else pays for it.
"""

from __future__ import annotations

from aiosock.config import Timeout
from aiosock.connection.exchange import Exchange, Owner
from aiosock.connection.http1 import Connection
from aiosock.connection.sending import BodySender
from aiosock.errors import StreamConsumed
from aiosock.message.body import BytesBody, FileBody
from aiosock.message.request import Request
from aiosock.message.response import Response
from aiosock.message.trace import Trace
from aiosock.message.transit import Timings
from aiosock.network.stream import Stream
from aiosock.protocol.http1 import Connection as Protocol
from aiosock.protocol.http1 import RequestHead, ResponseStarted


class TracedExchange(Exchange):
    """
    An `Exchange` with a `Trace`.

    Bodies come and go in pieces, also where there would be a shorter road: their progress is to be seen.
    """

    __slots__ = ("_begun", "_busy", "_trace")

    def __init__(
        self,
        connection: Connection,
        request: Request,
        head: RequestHead,
        owner: Owner,
        timeout: Timeout,
        deadline: float,
        timings: Timings,
        trace: Trace,
    ) -> None:
        self._trace = trace
        self._begun = False
        # Somebody waits for it here, and tells how it ends.
        self._busy = False
        super().__init__(connection, request, head, owner, timeout, deadline, timings)

    def depart(self, late: bool = False) -> None:
        waits = self._outgoing is not None
        super().depart(late)
        if waits and self._outgoing is None:
            self._trace.head_sent()
            if self._protocol.sending_done:
                body = self.request.body
                if isinstance(body, BytesBody) and body.length:
                    self._trace.sent(len(body.data))
                self._trace.all_sent()

    def _body_sender(self) -> BodySender:
        return CountingSender(self._stream, self._protocol, self._head, self._trace)

    def _count_as_sent(self) -> None:
        super()._count_as_sent()
        self._trace.all_sent()

    async def begin(self) -> Response:
        # What becomes of a failure is for the transport to say: the request may be sent again.
        self._busy = True
        try:
            return await super().begin()
        finally:
            self._busy = False

    async def _receive_more(self) -> None:
        await super()._receive_more()
        if not self._begun and not self._protocol.awaits_first_byte:
            self._begun = True
            self._trace.begun()

    def _respond(self, event: ResponseStarted) -> Response:
        response = super()._respond(event)
        self._trace.answered(response)
        return response

    async def receive(self) -> bytes:
        self._busy = True
        try:
            data = await super().receive()
        except BaseException as error:
            self._trace.failed(error)
            raise
        finally:
            self._busy = False
        if data:
            self._trace.received(self._received)
        if self._over:
            self._tell_end()
        return data

    def take_whole(self) -> bytes | None:
        self._busy = True
        whole = super().take_whole()
        self._busy = self._whole_wanted = False
        if whole is not None:
            if whole:
                self._trace.received(len(whole))
            self._tell_end()
        return whole

    def _release(self) -> None:
        super()._release()
        if not self.connection.reusable:
            self._trace.closes()
        if not self._busy:
            self._tell_end()

    def _tell_end(self) -> None:
        # What was handed over after 101 is no body that somebody owes to read.
        if self._complete or self._switched or self._protocol.response_done:
            self._trace.done()
        else:
            self._trace.failed(StreamConsumed("the response was given up before its body was read"))


class CountingSender(BodySender):
    """Sends a body and tells how far it is."""

    __slots__ = ("_count", "_trace")

    def __init__(self, stream: Stream, protocol: Protocol, head: RequestHead, trace: Trace) -> None:
        super().__init__(stream, protocol, head)
        self._count = 0
        self._trace = trace

    def _gather(self, piece: bytes | memoryview) -> int:
        self._count += len(piece)
        return super()._gather(piece)

    def _flush(self) -> None:
        if self._parts:
            super()._flush()
            self._trace.sent(self._count)

    async def _send_file(self, body: FileBody) -> int:
        # Read by us and not sent by the kernel at one go.
        return 0
