"""
The answer's half of an exchange: its bytes are waited for within the deadlines, and a failure is told by what says
most about it.
"""

from __future__ import annotations

import math
from typing import Final

from aiosock.connection.outgoing import Outgoing
from aiosock.errors import IncompleteBody, ReadTimeout, TotalTimeout, TruncatedStream, WriteTimeout

CLOCK_SECONDS: Final = 0.005
"""How far ahead of a deadline a loop's clock may be when it wakes us for it."""


class Incoming(Outgoing):
    """The receiving half of an `Exchange`, beside the sending one, whose progress counts as well."""

    __slots__ = ("_received",)

    # Bytes of the body that were handed on.
    _received: int

    async def _receive_more(self) -> None:
        """Feed the protocol with what comes next, within the deadlines."""
        stream, seconds = self._stream, self._timeout.read
        idle_since = self._loop.time()
        if idle_since >= self._deadline:
            raise self._total_timeout()
        while True:
            upload = self._upload
            sending = stream.unsent or (upload is not None and upload.under_way)
            deadline = self._deadline
            if seconds is not None and idle_since + seconds < deadline:
                deadline = idle_since + seconds
            if self._continue_by is not None and self._continue_by < deadline:
                deadline = self._continue_by
            try:
                data = await stream.read(deadline)
            except Exception as error:
                if upload is not None and upload.failure is not None:
                    raise upload.failure from upload.failure.__cause__
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
        if self._loop.time() >= self._deadline:
            raise self._total_timeout()
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
