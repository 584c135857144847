"""
An exchange that tells what happens in it; used where somebody listens, so that nobody else pays for it.
"""

from __future__ import annotations

from aiosock.config import Timeout
from aiosock.connection.exchange import Exchange, Owner
from aiosock.connection.http1 import Connection
from aiosock.connection.sending import BodySender
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

    __slots__ = ("_begun", "_trace")

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
        super().__init__(connection, request, head, owner, timeout, deadline, timings)

    def depart(self, late: bool = False) -> None:
        waits = self._outgoing is not None
        super().depart(late)
        if waits and self._outgoing is None:
            self._trace.head_sent()
            if self._protocol.sending_done:
                body = self.request.body
                if isinstance(body, BytesBody):
                    self._trace.sent(len(body.data))
                self._trace.all_sent()

    def _body_sender(self) -> BodySender:
        return CountingSender(self._stream, self._protocol, self._head, self._trace)

    def _count_as_sent(self) -> None:
        super()._count_as_sent()
        self._trace.all_sent()

    async def _receive_more(self) -> None:
        await super()._receive_more()
        if not self._begun:
            self._begun = True
            self._trace.begun()

    def _respond(self, event: ResponseStarted) -> Response:
        response = super()._respond(event)
        self._trace.answered(response)
        return response

    async def receive(self) -> bytes:
        was_complete = self._complete
        try:
            data = await super().receive()
        except BaseException as error:
            self._trace.failed(error)
            raise
        if data:
            self._trace.received(self._received)
        if self._complete and not was_complete:
            self._trace.done()
        return data

    def take_whole(self) -> bytes | None:
        whole = super().take_whole()
        self._whole_wanted = False
        if whole is not None:
            self._trace.received(len(whole))
            self._trace.done()
        return whole

    def close(self) -> None:
        was_complete = self._complete
        super().close()
        if self._complete and not was_complete:
            # What was left of it was there already.
            self._trace.done()

    def _release(self) -> None:
        super()._release()
        if not self.connection.reusable:
            self._trace.closed()


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
