"""
Server-sent events (the HTML standard, 9.2): the bytes of an event stream become events, however they are cut.

It knows nothing of connections: what to do at the end of a stream is for whoever reads it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from aiosock.errors import ContentTooLarge

MAX_RETRY_MILLISECONDS: Final = 24 * 60 * 60 * 1000
"""A day: no stream makes its reader wait for longer, whatever its ``retry`` says."""

_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"

logger = logging.getLogger("aiosock.protocol")


@dataclass(frozen=True, slots=True)
class ServerSentEvent:
    """
    One event of a stream.

    Attributes:
        event: Its type; ``"message"`` where it names none.
        data: Its data lines, joined by LF.
        id: The last event ID as of this event: its own, or else that of an earlier one; ``""`` where there is none.
        retry: The reconnection time that came with it, in milliseconds and at most a day; None where none came.
    """

    event: str = "message"
    data: str = ""
    id: str = ""
    retry: int | None = None

    def json(self) -> Any:
        """
        Return the data as the JSON value that it is.

        Raises:
            ValueError: It is not JSON (as `json.JSONDecodeError`).
        """
        from json import loads

        return loads(self.data)


class EventParser:
    """
    Parses one event stream.

    A line ends with its CR, its LF, or its CRLF; a CR that ends a piece of the stream ends its line there and then,
    and the LF that may follow is dropped when it comes, so no event waits for a byte that it does not need. No input
    is an error but too much of it: what the standard does not know is passed over.

    Args:
        max_event_bytes: The bytes of one event's data lines together, and of any one line; None for no limit.
        last_event_id: What `last_event_id` is until the stream sets it.

    Attributes:
        last_event_id: That of the latest event, also where it had no data and was not returned.
        retry: The latest reconnection time that the stream asked for, in milliseconds and at most a day; None where
            it asked for none.
    """

    __slots__ = (
        "_after_cr",
        "_at_start",
        "_data",
        "_data_bytes",
        "_event",
        "_event_retry",
        "_excess",
        "_id",
        "_limit",
        "_line",
        "last_event_id",
        "retry",
    )

    def __init__(self, max_event_bytes: int | None, last_event_id: str = "") -> None:
        self.last_event_id = last_event_id
        self.retry: int | None = None
        self._limit = max_event_bytes
        # The size that was refused.
        self._excess = 0
        self._at_start = True
        self._after_cr = False
        # The line that has not ended yet.
        self._line = bytearray()
        # The event that has not ended yet.
        self._data: list[bytes] = []
        self._data_bytes = 0
        self._event = b""
        self._event_retry: int | None = None
        self._id = last_event_id

    def feed(self, data: bytes) -> Iterator[ServerSentEvent]:
        """
        Take in the next bytes, and return the events that they complete, parsed one by one as they are asked for.

        All of them must have been taken before more is fed. What is unfinished when the stream ends is no event.

        Raises:
            ContentTooLarge: An event or a line passes the limit; nothing can be fed any more. Events before it are
                returned first.
        """
        if not data:
            return
        self._check(self._excess)
        if self._after_cr and data.startswith(b"\n"):
            data = data[1:]
        self._after_cr = data.endswith(b"\r")
        # UTF-8 has these bytes nowhere else, so lines can be told apart before they are decoded.
        *ended, rest = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        for line in ended:
            if self._line:
                self._line += line
                line = bytes(self._line)
                self._line = bytearray()
            event = self._take_line(line)
            if event is not None:
                yield event
        self._line += rest
        self._check(len(self._line))

    def _take_line(self, line: bytes) -> ServerSentEvent | None:
        self._check(len(line))
        if self._at_start:
            self._at_start = False
            line = line.removeprefix(_BYTE_ORDER_MARK)
        if not line:
            return self._end_event()
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data":
            # Counted with its name: empty lines take room as well.
            self._data_bytes += len(line)
            self._check(self._data_bytes)
            self._data.append(value)
        elif field == b"event":
            self._event = value
        elif field == b"id":
            self._take_id(value)
        elif field == b"retry":
            self._take_retry(value)
        return None

    def _take_id(self, value: bytes) -> None:
        if b"\0" in value:
            logger.debug("ignored an event ID of %d bytes: it has a NUL", len(value))
        else:
            self._id = _decode(value)

    def _take_retry(self, value: bytes) -> None:
        if not value.isdigit():
            logger.debug("ignored a reconnection time of %d bytes: it is not all digits", len(value))
            return
        digits = value.lstrip(b"0")
        # Python refuses to read very long numbers.
        milliseconds = int(digits or b"0") if len(digits) < 10 else MAX_RETRY_MILLISECONDS
        self.retry = self._event_retry = min(milliseconds, MAX_RETRY_MILLISECONDS)

    def _end_event(self) -> ServerSentEvent | None:
        self.last_event_id = self._id
        data, event, retry = self._data, self._event, self._event_retry
        self._event, self._event_retry = b"", None
        if not data:
            return None
        self._data, self._data_bytes = [], 0
        return ServerSentEvent(_decode(event) or "message", _decode(b"\n".join(data)), self._id, retry)

    def _check(self, size: int) -> None:
        if self._limit is not None and size > self._limit:
            self._excess = size
            raise ContentTooLarge(f"an event, or a line of the stream, is larger than {self._limit} bytes")


def _decode(text: bytes) -> str:
    return text.decode("utf-8", "replace")
