"""
An exchange: one request and its answer on a connection.

The answer is read while the body is still being sent: what the stream cannot send at once it sends by itself, and a
body that has to be waited for is uploaded by one child task. Both halves meet here. Whatever goes wrong, cancellation
included, closes the connection in the same step, awaiting nothing.
"""

from __future__ import annotations

import asyncio
import math
import warnings
from time import perf_counter

from multidict import CIMultiDict

from aiosock.config import Timeout
from aiosock.connection.draining import DRAIN_SECONDS, drain, drain_ready
from aiosock.connection.http1 import Connection
from aiosock.connection.incoming import CLOCK_SECONDS, Incoming
from aiosock.connection.outgoing import Owner
from aiosock.connection.repeating import is_stale, may_be_repeated
from aiosock.connection.upgrade import UpgradedStream
from aiosock.connection.upload import Upload
from aiosock.errors import (
    AiosockError,
    RemoteProtocolError,
    StreamConsumed,
    UsageError,
    WriteError,
    WriteTimeout,
)
from aiosock.message.request import Request
from aiosock.message.response import Response, assemble
from aiosock.message.transit import ConnectionInfo, Timings
from aiosock.protocol.http1 import NEED_DATA, BodyData, BodyEnded, InformationalReceived, RequestHead, ResponseStarted

__all__ = ["Exchange", "Owner"]


class Exchange(Incoming):
    """
    One request and its answer; the response's `BodySource`.

    Args:
        connection: The connection, which this exchange owns until it is over.
        request: The request.
        head: The request's head, checked and encoded.
        owner: Who takes the connection back.
        timeout: Bounds on the pauses in reading and writing.
        deadline: When all of it must be over, in time of the loop; ``math.inf`` for never.
        timings: Filled in as the exchange goes on.
    """

    __slots__ = (
        "_complete",
        "_draining",
        "_number",
        "_reading",
        "_switched",
        "_untouched",
        "_whole_wanted",
        "trailers",
    )

    def __init__(
        self,
        connection: Connection,
        request: Request,
        head: RequestHead,
        owner: Owner,
        timeout: Timeout,
        deadline: float,
        timings: Timings,
    ) -> None:
        self.connection = connection
        self.request = request
        self.trailers: CIMultiDict[str] | None = None
        self._stream = connection.stream
        self._protocol = connection.occupy()
        self._number = connection.requests_served
        self._head = head
        self._owner = owner
        self._loop = connection.loop
        self._timeout = timeout
        self._deadline = deadline
        self._timings = timings
        self._upload: Upload | None = None
        self._sent_at = 0.0
        self._stopped = False
        self._continue_by = None
        self._received = 0
        self._reading = False
        self._draining = False
        self._nothing_written = False
        self._untouched = False
        self._switched = False
        self._whole_wanted = False
        self._complete = False
        self._over = False
        self._outgoing = None
        connection.outbox.under_way += 1

    async def begin(self) -> Response:
        """
        Send the request, and return the response once its head is there; the body may still be on its way out.

        Raises:
            RequestError: It failed; the connection is closed.
            UsageError: The body is not what its head declares; the connection is closed.
            Exception: Whatever the user's body raised, or the user's ``on_informational``.
        """
        protocol = self._protocol
        informational: list[Response] | None = None
        try:
            seconds = self._timeout.write
            self._stream.limit_writes(math.inf if seconds is None else seconds, self._deadline)
            self._send()
            await self._receive_more()
            if self._outgoing is not None and not protocol.at_eof:
                raise RemoteProtocolError(f"{self._peer} answered before it was asked")
            while not isinstance(event := protocol.next_event(), ResponseStarted):
                if event is NEED_DATA:
                    await self._receive_more()
                elif isinstance(event, InformationalReceived):
                    informational = informational or []
                    self._on_informational(event, informational)
            response = self._respond(event)
            if informational is not None:
                response.informational = tuple(informational)
            return response
        except BaseException as error:
            self._nothing_written |= self._outgoing is not None
            self._untouched = protocol.awaits_first_byte and is_stale(error)
            self.abort()
            raise

    @property
    def safe_to_repeat(self) -> bool:
        """
        After `begin` failed: the same request may be sent again on a fresh connection.

        The connection was a reused one that turned out to be closed before a byte of the answer came, and either
        no byte of the request was written or the method is idempotent; and the body can be sent again.
        """
        return (
            self._untouched
            and self.connection.requests_served > 1
            and may_be_repeated(self.request, nothing_written=self._nothing_written)
        )

    def _respond(self, event: ResponseStarted) -> Response:
        protocol = self._protocol
        self._timings.head_at = perf_counter()
        response = assemble(event, self.request, self, self._timings, self._connection_info)
        if protocol.state == "switched":
            self._switched = True
            response.stream = self._hand_over()
        elif (not protocol.sending_done or self._stream.unsent) and (
            # A body that still waits for its 100 is not wanted either: the server has made up its mind.
            protocol.rest_unwanted or self._continue_by is not None
        ):
            self._stop_sending()
        return response

    def _hand_over(self) -> UpgradedStream:
        """The connection speaks another protocol, once the whole request is sent (RFC 9110, 7.8)."""
        self.lift_deadline()
        if self._continue_by is not None:
            self._start_sending()
        sent = None if self._upload is None else self._wait_until_sent
        return UpgradedStream(self._stream, self._protocol.take_rest(), self.abort, sent)

    def _on_informational(self, event: InformationalReceived, seen: list[Response]) -> None:
        response = Response(event.status_code, headers=event.headers, reason=event.reason, request=self.request)
        seen.append(response)
        if event.status_code == 100 and self._continue_by is not None:
            self._start_sending()
        listener = self.request.extensions.get("on_informational")
        if listener is not None:
            returned = listener(response)
            if asyncio.iscoroutine(returned):
                returned.close()
                raise UsageError("on_informational: takes a plain function, not one that has to be awaited")

    async def receive(self) -> bytes:
        """
        Return the next piece of the body as it came, ``b""`` at its end; the connection is then released.

        Raises:
            RequestError: It could not be read; the connection is closed.
            StreamConsumed: It was given up before.
        """
        if self._complete or self._switched:
            return b""
        if self._over:
            raise StreamConsumed("the response was closed before its body was read")
        protocol = self._protocol
        try:
            if self._whole_wanted and protocol.buffered < (protocol.body_left or 0):
                self._reading = True
                await self._gather()
                self._reading = False
            while (event := protocol.next_event()) is NEED_DATA:
                self._reading = True
                await self._receive_more()
                self._reading = False
            if not isinstance(event, BodyData):
                self._end_body(event)
                await self._finish()
                return b""
            data = event.data
            self._received += len(data)
            # The last piece of a body whose length is known ends it: the connection is free before the piece is looked
            # at. Not while the request is still being sent, which may wait for that look.
            if protocol.body_left == 0 and not self._is_sending:
                self._end_body(protocol.next_event())
                await self._finish()
            return data
        except BaseException:
            self.abort()
            raise

    def take_whole(self) -> bytes | None:
        """
        Return the whole body, and end the exchange, if it came together with the head and its length is known.

        Then the connection is free at once. None where that is not so, or the request is still on its way out: the
        body, which is wanted whole, comes by `receive`. The short road of the many small answers.
        """
        if self._upload is not None or self._over or self._stream.unsent:
            return None
        whole = self._protocol.take_body()
        if whole is None:
            self._whole_wanted = True
        else:
            self._complete = True
            self._timings.ended_at = self._timings.head_at
            self._release()
        return whole

    def _connection_info(self) -> ConnectionInfo:
        return self.connection.info(self._number)

    def _end_body(self, event: object) -> None:
        if isinstance(event, BodyEnded):
            self.trailers = event.trailers
            self._complete = True

    async def _finish(self) -> None:
        """The answer is whole. A request body that is still on its way out goes on to its end."""
        upload = self._upload
        if upload is not None and upload.under_way and not self._stopped:
            # That the server has enough of it is no error any more.
            await upload.wait(None if self._deadline == math.inf else max(self._deadline - self._loop.time(), 0.0))
            if upload.under_way:
                raise self._total_timeout()
        if upload is not None and upload.failure is not None:
            raise upload.failure
        if self._stream.unsent and not self._stopped:
            try:
                await self._stream.drain()
            except (WriteError, WriteTimeout):
                if self._deadline - self._loop.time() < CLOCK_SECONDS:
                    raise self._total_timeout() from None
        self._timings.ended_at = perf_counter()
        self._release()

    def check_deadline(self) -> None:
        """
        See to the deadline where there is always something to do, and so no wait that it would end.

        Raises:
            TotalTimeout: It passed.
        """
        if self._loop.time() >= self._deadline:
            self.abort()
            raise self._total_timeout()

    def lift_deadline(self) -> None:
        """A streamed response has its head: from here on only pauses are bounded."""
        self._deadline = math.inf
        if not self._over:
            self._limit_writes(math.inf)

    # The end

    def close(self) -> None:
        """Give up what is left of the body; a small rest is drained so that the connection lives."""
        if self._over or self._draining:
            return
        if self._reading or self._switched or self._is_sending or not self._protocol.sending_done:
            self.abort()
            return
        try:
            end, left = drain_ready(self._protocol, self._stream)
        except AiosockError:
            self.abort()
            return
        if end is not None:
            self._end_body(end)
            self._release()
            return
        if left <= 0 or (self._protocol.body_left or 0) > left or self._protocol.response_closes:
            self.abort()
            return
        self._draining = True
        draining = self._loop.create_task(self._drain(left))
        # Not in the task itself: one that is cancelled before its first step would never get there.
        draining.add_done_callback(lambda _: self.abort())
        self._owner.adopt(draining)

    async def _drain(self, left: int) -> None:
        try:
            end = await drain(self._protocol, self._stream, left, self._loop.time() + DRAIN_SECONDS)
        except AiosockError:
            return  # Nobody waits for the rest.
        if end is not None:
            self._end_body(end)
            self._release()

    def abort(self) -> None:
        """Close the connection at once; awaits nothing."""
        if not self._over:
            if self._upload is not None:
                self._upload.cancel()
            self.connection.abort()
            self._release()

    def _release(self) -> None:
        self._over = True
        self.connection.outbox.under_way -= 1
        if self._stopped:
            self.connection.abort()
        self.connection.vacate()
        self._owner.release(self.connection)

    def __del__(self) -> None:
        if not self._over:
            warnings.warn(
                f"a response from {self._peer} was neither read nor closed; its connection is closed now",
                ResourceWarning,
                source=self,
                stacklevel=1,
            )
            self.abort()
