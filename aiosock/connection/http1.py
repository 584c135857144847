"""
An HTTP/1.1 connection: a stream, the protocol's state machine, and whether both can go on.

What is done with it, one request at a time, is in `aiosock.connection.exchange`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import NamedTuple

from aiosock.config import Limits
from aiosock.connection.outbox import Outbox
from aiosock.errors import NetworkError
from aiosock.message.transit import ConnectionInfo
from aiosock.network.stream import Stream
from aiosock.protocol import http1


class DialTimes(NamedTuple):
    """
    Seconds that each stage of opening a connection took, None for a stage that there was not; and when it was open, in
    time of `time.perf_counter`.
    """

    dns: float | None
    connect: float | None
    tls: float | None
    ended_at: float = 0.0


class Connection:
    """
    One connection, for one request at a time.

    Args:
        stream: The open stream, which belongs to the connection from now on.
        limits: Bounds on the heads of answers.
        times: How long opening it took.
        outbox: By which requests leave that are under way at the same time; one of its own by default.
    """

    __slots__ = ("_busy", "_protocol", "loop", "outbox", "requests_served", "stream", "times")

    def __init__(self, stream: Stream, limits: Limits, times: DialTimes, outbox: Outbox | None = None) -> None:
        self.stream = stream
        self.loop = asyncio.get_running_loop()
        self.outbox = outbox or Outbox(self.loop)
        self.times = times
        self.requests_served = 0
        self._busy = False
        self._protocol = http1.Connection(max_head_bytes=limits.max_header_bytes, max_fields=limits.max_headers)

    @property
    def capacity(self) -> int:
        """How many more requests it can carry now."""
        if self._busy or not self._protocol.reusable:
            return 0
        stream = self.stream
        return 0 if stream.unsent or stream.write_error is not None else 1

    @property
    def reusable(self) -> bool:
        """It may carry another request after what it carried so far."""
        return self.capacity > 0

    @property
    def keep_alive_seconds(self) -> int | None:
        """How long the server said that it keeps the connection, None where it did not say."""
        return self._protocol.keep_alive_seconds

    def is_alive(self) -> bool:
        """
        Look, without waiting, whether the idle connection can be used.

        End of file, and data that nobody asked for, make it dead. On TLS the bytes are decrypted first, so that
        tickets and key updates are not taken for data.
        """
        try:
            return self.stream.read_ready() is None
        except NetworkError:
            return False

    def watch(self, callback: Callable[[], None] | None) -> None:
        """Call back when the idle connection has something to read; None ends that."""
        self.stream.watch(callback)

    def occupy(self) -> http1.Connection:
        """Begin an exchange, whose protocol this is; until `vacate` the connection is its alone."""
        self._busy = True
        self.requests_served += 1
        return self._protocol

    def vacate(self) -> None:
        """The exchange is over, well or badly."""
        self._busy = False

    def abort(self) -> None:
        """Close at once."""
        self.stream.abort()

    def close(self) -> None:
        """Close, with a TLS close_notify where there is TLS; does not wait."""
        self.stream.close()

    def info(self, number: int | None = None) -> ConnectionInfo:
        """Return what a response tells of its connection: the answer to the request of that number, or the last."""
        number = number or self.requests_served
        stream = self.stream.info
        return ConnectionInfo(
            remote_address=stream.remote_address,
            local_address=stream.local_address,
            tls_version=stream.tls_version,
            cipher=stream.cipher,
            alpn=stream.alpn,
            reused=number > 1,
            requests_served=number,
            session_reused=stream.session_reused,
        )

    def __repr__(self) -> str:
        return f"<Connection {self.stream.info.remote_address} served={self.requests_served}>"
