"""
HTTP/1.1 as RFC 9110 and RFC 9112 have it, from the client's side.

`Connection` is the state machine of one connection; `RequestHead` is what it sends, the events are what
comes back.
"""

from aiosock.protocol.http1.connection import Connection
from aiosock.protocol.http1.events import (
    NEED_DATA,
    BodyData,
    BodyEnded,
    Event,
    InformationalReceived,
    ResponseStarted,
)
from aiosock.protocol.http1.writer import FieldSection, RequestHead

__all__ = [
    "NEED_DATA",
    "BodyData",
    "BodyEnded",
    "Connection",
    "Event",
    "FieldSection",
    "InformationalReceived",
    "RequestHead",
    "ResponseStarted",
]
