"""
The rest of a body that nobody wants: thrown away where there is little of it, so that the connection lives.
"""

from __future__ import annotations

from typing import Final

from aiosock.network.stream import Stream
from aiosock.protocol.http1 import NEED_DATA, BodyEnded
from aiosock.protocol.http1 import Connection as Protocol

MAX_DRAIN_BYTES: Final = 64 * 1024
"""So much is read for nothing; what was received already costs nothing, however much it is."""

DRAIN_SECONDS: Final = 0.5


def drain_ready(protocol: Protocol, stream: Stream) -> tuple[BodyEnded | None, int]:
    """
    Throw away what is there already.

    Returns:
        The end of the body, None where it is not there, and how many bytes more may be read for it.

    Raises:
        ReadError: The connection broke.
        RemoteProtocolError: What is there is no rest of a body.
    """
    allowed = MAX_DRAIN_BYTES
    while (end := _drop_received(protocol)) is None:
        data = stream.read_ready() if allowed > 0 else None
        if data is None:
            break
        allowed -= len(data)
        protocol.receive_data(data)
    return end, allowed


async def drain(protocol: Protocol, stream: Stream, allowed: int, deadline: float) -> BodyEnded | None:
    """
    Throw away what is still to come, and return the end of the body; None where so many bytes do not reach it.

    Raises:
        ReadTimeout: It did not come until the deadline, in time of the loop.
        ReadError: The connection broke.
        TruncatedStream: TLS ended without close_notify.
        RemoteProtocolError: What came is no rest of a body.
    """
    while (end := _drop_received(protocol)) is None and allowed > 0:
        data = await stream.read(deadline)
        allowed -= len(data)
        protocol.receive_data(data)
    return end


def _drop_received(protocol: Protocol) -> BodyEnded | None:
    while (event := protocol.next_event()) is not NEED_DATA:
        if isinstance(event, BodyEnded):
            return event
    return None
