"""
An exchange: one request and its answer on a connection.

The answer is read while the body is still being sent: what the stream cannot send at once it sends by itself, and a
body that has to be waited for is pumped by one child task. Whatever goes wrong, cancellation included, closes the
connection in the same step, awaiting nothing.
"""

from __future__ import annotations

import asyncio
import math
import warnings
from collections.abc import Callable, Iterable
from time import perf_counter
from typing import Final, Protocol, TypeAlias, cast

from multidict import CIMultiDict

from aiosock.config import IDEMPOTENT_METHODS, Timeout
from aiosock.connection.http1 import Connection
from aiosock.connection.sending import BodySender
from aiosock.connection.upgrade import UpgradedStream
from aiosock.errors import (
    AiosockError,
    IncompleteBody,
    ReadError,
    ReadTimeout,
    RemoteProtocolError,
    ServerDisconnected,
    StreamConsumed,
    TotalTimeout,
    TruncatedStream,
    UsageError,
    WriteError,
    WriteTimeout,
)
from aiosock.message.body import Body, BytesBody
from aiosock.message.request import Request
from aiosock.message.response import Response, assemble
from aiosock.message.transit import ConnectionInfo, Timings
from aiosock.network.stream import ONE_SEND_BYTES
from aiosock.network.tcp import is_disconnect
from aiosock.protocol.http1 import NEED_DATA, BodyData, BodyEnded, InformationalReceived, RequestHead, ResponseStarted

EXPECT_SECONDS: Final = 1.0
"""How long a body waits for 100 (Continue) before it is sent all the same (RFC 9110, 10.1.1)."""

MAX_DIRECT_BYTES: Final = 256 * 1024
"""A body of bytes up to this size is handed to the stream whole, without a task."""

CLOCK_SECONDS: Final = 0.005
"""How far ahead of a deadline a loop's clock may be when it wakes us for it."""

MAX_DRAIN_BYTES: Final = 64 * 1024
DRAIN_SECONDS: Final = 0.5

Fields: TypeAlias = Iterable[tuple[str, str]]
Trailers: TypeAlias = Fields | Callable[[], Fields]


class Owner(Protocol):
    """Who takes a connection back, and looks after the tasks that outlive an exchange: the pool."""

    def release(self, connection: Connection) -> None:
        """Take back a connection whose exchange is over."""
        ...

    def adopt(self, task: asyncio.Task[None]) -> None:
        """See a task to its end when the client is closed."""
        ...


class Exchange:
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
        "_continue_by",
        "_deadline",
        "_draining",
        "_head",
        "_loop",
        "_nothing_written",
        "_number",
        "_outgoing",
        "_over",
        "_owner",
        "_protocol",
        "_reading",
        "_received",
        "_send_failure",
        "_sender",
        "_sent_at",
        "_stopped",
        "_stream",
        "_switched",
        "_timeout",
        "_timings",
        "_untouched",
        "_whole_wanted",
        "connection",
        "request",
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
        self._sender: asyncio.Task[None] | None = None
        self._sent_at = 0.0
        self._send_failure: Exception | None = None
        self._stopped = False
        self._continue_by: float | None = None
        self._received = 0
        self._reading = False
        self._draining = False
        self._nothing_written = False
        self._untouched = False
        self._switched = False
        self._whole_wanted = False
        self._complete = False
        self._over = False
        # What waits to depart; None once it has.
        self._outgoing: bytes | None = None
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
            self._untouched = protocol.awaits_first_byte and _is_stale(error)
            self.abort()
            raise

    @property
    def safe_to_repeat(self) -> bool:
        """
        After `begin` failed: the same request may be sent again on a fresh connection.

        The connection was a reused one that turned out to be closed before a byte of the answer came, and either
        no byte of the request was written or the method is idempotent; and the body can be sent again.
        """
        request = self.request
        body = request.body
        return (
            self._untouched
            and self.connection.requests_served > 1
            and (body is None or body.replayable)
            and (
                self._nothing_written or self._head.method in IDEMPOTENT_METHODS or "Idempotency-Key" in request.headers
            )
        )

    # Sending

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
        self._continue_by = None
        if self.request.body is None:
            return
        self._sender = self._loop.create_task(self._send_body(self.request.body))
        self._owner.adopt(self._sender)

    async def _send_body(self, body: Body) -> None:
        """Pump the body; the child task of an exchange whose body has to be waited for."""
        protocol, stream = self._protocol, self._stream
        try:
            await self._body_sender().send(body)
            stream.write(protocol.send_end(self._request_trailers()))
            await stream.drain()
            self._count_as_sent()
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            # Nobody called this task off: something that the user's body waited for was cancelled.
            self._send_failure = UsageError("what the request body waited for was cancelled")
            self._send_failure.__cause__ = error
            stream.interrupt(self._send_failure)
        except Exception as error:
            # When writing failed, the reading side first sees whether the server has answered. Else it is the user's
            # body that failed, or broke its promise: whoever waits for the answer is told.
            if stream.write_error is None:
                self._send_failure = error
                stream.interrupt(error)

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
        return (self._sender is not None and not self._sender.done()) or self._stream.unsent

    def _stop_sending(self) -> None:
        """The answer is here, and the server does not want the rest."""
        self._stopped = True
        if self._sender is not None:
            self._sender.cancel()
        self._continue_by = None
        self._stream.limit_writes(math.inf, math.inf)

    # Receiving

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
        sent = None if self._sender is None else self._wait_until_sent
        return UpgradedStream(self._stream, self._protocol.take_rest(), self.abort, sent)

    async def _wait_until_sent(self) -> None:
        """Return when the request's body is sent; whoever is cancelled here leaves the sending alone."""
        if self._sender is not None and not self._sender.done():
            await asyncio.wait([self._sender])
        if self._send_failure is not None:
            raise self._send_failure

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
        if self._sender is not None or self._over or self._stream.unsent:
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
        sender = self._sender
        if sender is not None and not sender.done() and not self._stopped:
            # Waited for and not awaited: that the server has enough of it is no error any more.
            left = None if self._deadline == math.inf else max(self._deadline - self._loop.time(), 0.0)
            await asyncio.wait([sender], timeout=left)
            if not sender.done():
                raise self._total_timeout()
        if self._send_failure is not None:
            raise self._send_failure
        if self._stream.unsent and not self._stopped:
            try:
                await self._stream.drain()
            except (WriteError, WriteTimeout):
                if self._deadline - self._loop.time() < CLOCK_SECONDS:
                    raise self._total_timeout() from None
        self._timings.ended_at = perf_counter()
        self._release()

    async def _receive_more(self) -> None:
        """Feed the protocol with what comes next, within the deadlines."""
        stream, seconds = self._stream, self._timeout.read
        idle_since = self._loop.time()
        if idle_since >= self._deadline:
            self.check_deadline()
        while True:
            sending = stream.unsent or (self._sender is not None and not self._sender.done())
            deadline = self._deadline
            if seconds is not None and idle_since + seconds < deadline:
                deadline = idle_since + seconds
            if self._continue_by is not None and self._continue_by < deadline:
                deadline = self._continue_by
            try:
                data = await stream.read(deadline)
            except Exception as error:
                if self._send_failure is not None:
                    raise self._send_failure from self._send_failure.__cause__
                if isinstance(error, ReadTimeout):
                    idle_since = self._after_read_timeout(error, deadline, idle_since, sending)
                    continue
                data = self._after_read_failure(error)
            if not data:
                self._raise_write_error()
            self._protocol.receive_data(data)
            return

    async def _gather(self) -> None:
        """
        Feed the protocol with the rest of a body that is wanted whole, in pieces as large as the stream makes them.

        The short road past `_receive_more`: the request is sent, and nothing else is waited for.
        """
        protocol, seconds = self._protocol, self._timeout.read
        self.check_deadline()
        try:
            data = await self._stream.gather(
                protocol.take_rest(), protocol.body_left or 0, math.inf if seconds is None else seconds, self._deadline
            )
        except ReadTimeout as error:
            if self._deadline - self._loop.time() < CLOCK_SECONDS:
                raise self._total_timeout() from error
            raise self._read_timeout() from error
        except Exception as error:
            data = self._after_read_failure(error)
        protocol.receive_data(data)

    def _after_read_timeout(self, error: ReadTimeout, deadline: float, idle_since: float, was_sending: bool) -> float:
        """Return since when there was no progress, if the pause is not over; raise if it is."""
        if deadline == self._continue_by:
            self._start_sending()
            return idle_since
        if deadline == self._deadline:
            raise self._total_timeout() from error
        # Sending is progress too: the pause is counted from its end.
        if self._sent_at > idle_since and not self._is_sending:
            return self._sent_at
        if was_sending or self._is_sending:
            return self._loop.time()
        raise self._read_timeout() from error

    def _after_read_failure(self, error: Exception) -> bytes:
        """Raise what tells most about a read that failed; end of file where the protocol can tell more itself."""
        if isinstance(error, WriteTimeout):
            if self._deadline - self._loop.time() < CLOCK_SECONDS:
                raise self._total_timeout() from error
            raise WriteTimeout(f"nothing could be sent to {self._peer} for {self._timeout.write} s") from error
        if isinstance(error, TruncatedStream):
            if self._protocol.response_started:
                raise IncompleteBody(f"the answer was cut after {self._received} bytes of its body: {error}") from error
            return b""
        self._raise_write_error()
        raise error

    def _raise_write_error(self) -> None:
        """The connection ended without an answer: where sending failed first, that is the failure to report."""
        failure = self._stream.write_error
        if failure is not None and not self._protocol.response_started:
            raise type(failure)(*failure.args) from failure

    @property
    def _peer(self) -> str:
        return self._stream.info.remote_address

    def _read_timeout(self) -> ReadTimeout:
        return ReadTimeout(f"nothing came from {self._peer} for {self._timeout.read} s")

    def _total_timeout(self) -> TotalTimeout:
        stage = "reading the body" if self._protocol.response_started else "waiting for the answer"
        return TotalTimeout(f"the request took longer than {self._timeout.total} s in all; it was {stage}")

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
            left = self._drain_ready()
        except AiosockError:
            self.abort()
            return
        if self._over:
            return
        if left <= 0 or (self._protocol.body_left or 0) > left or self._protocol.response_closes:
            self.abort()
            return
        self._draining = True
        drain = self._loop.create_task(self._drain(left))
        # Not in the task itself: one that is cancelled before its first step would never get there.
        drain.add_done_callback(lambda _: self.abort())
        self._owner.adopt(drain)

    def _drain_ready(self) -> int:
        """Throw away what is there already; return how many bytes more may be read for that."""
        allowed = MAX_DRAIN_BYTES
        while not self._drain_buffered():
            data = self._stream.read_ready() if allowed > 0 else None
            if data is None:
                break
            allowed -= len(data)
            self._protocol.receive_data(data)
        return allowed

    async def _drain(self, allowed: int) -> None:
        deadline = self._loop.time() + DRAIN_SECONDS
        try:
            while not self._drain_buffered() and allowed > 0:
                data = await self._stream.read(deadline)
                allowed -= len(data)
                self._protocol.receive_data(data)
        except AiosockError:
            return  # It did not drain, and nobody waits for the rest.

    def _drain_buffered(self) -> bool:
        """Throw away what was received, which costs nothing; return whether that was all, and the exchange is over."""
        while (event := self._protocol.next_event()) is not NEED_DATA:
            if isinstance(event, BodyEnded):
                self._end_body(event)
                self._release()
                return True
        return False

    def abort(self) -> None:
        """Close the connection at once; awaits nothing."""
        if not self._over:
            if self._sender is not None:
                self._sender.cancel()
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


def _is_stale(error: BaseException) -> bool:
    """The connection ended by end of file or reset, as one does that its server closed while it was idle."""
    if isinstance(error, ServerDisconnected):
        return True
    if isinstance(error, (ReadError, WriteError)):
        cause: BaseException | None = error
        while cause is not None:
            if is_disconnect(cause):
                return True
            cause = cause.__cause__
    return False
