"""
The state machine of one HTTP/1.1 connection, as its client sees it.

Both directions meet here, and with them the one decision that needs both: whether the connection may carry
another request (RFC 9112, 9.3).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from aiosock.config import DEFAULT_MAX_HEADER_BYTES, DEFAULT_MAX_HEADERS
from aiosock.errors import LocalProtocolError
from aiosock.protocol.http1 import grammar
from aiosock.protocol.http1.events import NeedData
from aiosock.protocol.http1.parser import Parser
from aiosock.protocol.http1.writer import RequestHead, encode_trailers

SendState = Literal["idle", "body", "done", "failed"]


class Connection(Parser):
    """
    One connection, request after request: the receiving half, and what is sent beside it.

    Args:
        max_head_bytes: The most bytes of an answer's head; None is no limit.
        max_fields: The most fields of an answer's head; None is no limit.
    """

    __slots__ = ("_head", "_send_state", "_unsent")

    def __init__(
        self,
        *,
        max_head_bytes: int | None = DEFAULT_MAX_HEADER_BYTES,
        max_fields: int | None = DEFAULT_MAX_HEADERS,
    ) -> None:
        super().__init__(max_head_bytes=max_head_bytes, max_fields=max_fields)
        self._send_state: SendState = "idle"
        self._head: RequestHead | None = None
        # Bytes of the request body that its Content-Length still has room for.
        self._unsent = 0

    # Sending

    def send_request(self, head: RequestHead) -> bytes:
        """
        Return the bytes of a request's head, and expect its answer.

        Raises:
            LocalProtocolError: The exchange before is not over, or the connection cannot carry another one.
        """
        if not self.reusable:
            raise LocalProtocolError("this connection cannot carry another request")
        self._head = head
        self._unsent = head.content_length
        self._send_state = "body" if head.has_body else "done"
        self.expect_response(head.method, upgrade_offered=head.offers_upgrade)
        return head.encoded

    def send_data(self, data: bytes | memoryview) -> bytes | memoryview:
        """
        Return the bytes that carry a piece of the request body.

        Raises:
            LocalProtocolError: No body is due, or it would pass its Content-Length; the connection is then over.
        """
        before, after = self.frame_data(len(data))
        return b"".join((before, data, after)) if before else data

    def frame_data(self, size: int) -> tuple[bytes, bytes]:
        """
        Return what goes before and after a piece of the request body that the caller sends itself.

        Args:
            size: How many bytes it has.

        Raises:
            LocalProtocolError: As `send_data`.
        """
        head = self._sending("data")
        if head.chunked:
            return (b"%x\r\n" % size, b"\r\n") if size else (b"", b"")
        if size > self._unsent:
            self._send_state = "failed"
            raise LocalProtocolError(
                f"the request body passes its Content-Length of {head.content_length} bytes "
                f"by {size - self._unsent} or more"
            )
        self._unsent -= size
        return b"", b""

    def send_end(self, trailers: Iterable[tuple[str, str]] = ()) -> bytes:
        """
        Return the bytes that end the request body.

        Raises:
            LocalProtocolError: The body falls short of its Content-Length, or trailers without chunked framing;
                the connection is then over.
            InvalidHeader: A trailer field that may not be sent.
        """
        trailers = list(trailers)
        if self._send_state == "done" and not trailers and self.state != "failed":
            return b""
        head = self._sending("the end of a body")
        self._send_state = "failed"
        if head.chunked:
            end = b"0\r\n" + encode_trailers(trailers)
        else:
            if trailers:
                raise LocalProtocolError("trailers need a chunked body")
            if self._unsent:
                sent = head.content_length - self._unsent
                raise LocalProtocolError(
                    f"the request body has {sent} bytes, short of its Content-Length of {head.content_length}"
                )
            end = b""
        self._send_state = "done"
        return end

    def _sending(self, what: str) -> RequestHead:
        if self._head is None or self._send_state != "body" or self.state == "failed":
            state = "failed" if self.state == "failed" else self._send_state
            raise LocalProtocolError(f"{what} sent where no request body is due (the sending side is {state})")
        return self._head

    # Receiving

    def _after_failure(self) -> NeedData:
        raise LocalProtocolError("the connection is closed: its last answer broke the protocol")

    @property
    def sending_done(self) -> bool:
        """The whole request was handed out as bytes."""
        return self._send_state == "done"

    @property
    def response_started(self) -> bool:
        """The head of the final answer is here."""
        return self.response is not None

    @property
    def rest_unwanted(self) -> bool:
        """
        The answer says that what is left of the request's body is not wanted: by its status, or by Connection: close.

        That the connection ends after it for another reason says nothing of the kind.
        """
        response = self.response
        return response is not None and (
            response.status_code >= 300 or "close" in grammar.split_list(response.headers.getall("Connection", ()))
        )

    @property
    def response_done(self) -> bool:
        """The answer is complete."""
        return self.state == "done"

    @property
    def switched(self) -> bool:
        """The connection speaks another protocol from here on: 101, or 2xx to CONNECT."""
        return self.state == "switched"

    @property
    def awaits_first_byte(self) -> bool:
        """A request is out, and not a byte of its answer has come."""
        return self.untouched

    @property
    def reusable(self) -> bool:
        """
        Whether another request may be sent: the only place where that is decided.

        Both sides are done, neither said close, the framing leaves no doubt where the next answer begins,
        nothing was received that nobody asked for, and no end of file.
        """
        head = self._head
        if self._position != len(self._buffer) or self._eof:
            return False
        if head is None:
            return self._send_state == "idle"
        return self._send_state == "done" and self.state == "done" and not head.closes and not self.response_closes
