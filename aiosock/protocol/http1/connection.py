"""
The state machine of one HTTP/1.1 connection, as its client sees it.

Both directions meet here, and with them the one decision that needs both: whether the connection may carry
another request (RFC 9112, 9.3).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from aiosock.config import DEFAULT_MAX_HEADER_BYTES, DEFAULT_MAX_HEADERS
from aiosock.errors import LocalProtocolError, RemoteProtocolError
from aiosock.protocol.http1 import grammar
from aiosock.protocol.http1.events import Event, NeedData
from aiosock.protocol.http1.parser import Parser
from aiosock.protocol.http1.writer import RequestHead, encode_trailers

SendState = Literal["idle", "body", "done", "failed"]


class Connection:
    """
    One connection, request after request.

    Args:
        max_head_bytes: The most bytes of an answer's head; None is no limit.
        max_fields: The most fields of an answer's head; None is no limit.
    """

    __slots__ = ("_head", "_left", "_parser", "_send_state")

    def __init__(
        self,
        *,
        max_head_bytes: int | None = DEFAULT_MAX_HEADER_BYTES,
        max_fields: int | None = DEFAULT_MAX_HEADERS,
    ) -> None:
        self._parser = Parser(max_head_bytes=max_head_bytes, max_fields=max_fields)
        self._send_state: SendState = "idle"
        self._head: RequestHead | None = None
        self._left = 0

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
        self._left = head.content_length
        self._send_state = "body" if head.has_body else "done"
        self._parser.expect_response(head.method, upgrade_offered=head.offers_upgrade)
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
        if size > self._left:
            self._send_state = "failed"
            raise LocalProtocolError(
                f"the request body passes its Content-Length of {head.content_length} bytes "
                f"by {size - self._left} or more"
            )
        self._left -= size
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
        if self._send_state == "done" and not trailers:
            return b""
        head = self._sending("the end of a body")
        self._send_state = "failed"
        if head.chunked:
            end = b"0\r\n" + encode_trailers(trailers)
        else:
            if trailers:
                raise LocalProtocolError("trailers need a chunked body")
            if self._left:
                sent = head.content_length - self._left
                raise LocalProtocolError(
                    f"the request body has {sent} bytes, short of its Content-Length of {head.content_length}"
                )
            end = b""
        self._send_state = "done"
        return end

    def _sending(self, what: str) -> RequestHead:
        if self._head is None or self._send_state != "body":
            raise LocalProtocolError(
                f"{what} sent where no request body is due (the sending side is {self._send_state})"
            )
        return self._head

    # Receiving

    def receive_data(self, data: bytes) -> None:
        """Feed what the socket gave; ``b""`` is the end of file."""
        self._parser.receive_data(data)

    def next_event(self) -> Event | NeedData:
        """
        Return what the bytes so far amount to, or NEED_DATA.

        Raises:
            RemoteProtocolError: The answer breaks the protocol; the connection is then over.
            LocalProtocolError: Asked again after that.
        """
        parser = self._parser
        if parser.state == "failed":
            raise LocalProtocolError("the connection is closed: its last answer broke the protocol")
        try:
            return parser.next_event()
        except RemoteProtocolError:
            self._send_state = "failed"
            raise

    @property
    def sending_done(self) -> bool:
        """The whole request was handed out as bytes."""
        return self._send_state == "done"

    @property
    def response_started(self) -> bool:
        """The head of the final answer is here."""
        return self._parser.response is not None

    @property
    def response_done(self) -> bool:
        """The answer is complete."""
        return self._parser.state == "done"

    @property
    def switched(self) -> bool:
        """The connection speaks another protocol from here on: 101, or 2xx to CONNECT."""
        return self._parser.state == "switched"

    @property
    def awaits_first_byte(self) -> bool:
        """A request is out, and not a byte of its answer has come."""
        return self._parser.untouched

    @property
    def body_left(self) -> int | None:
        """The bytes of the answer's body still to come, where its framing tells; else None."""
        return self._parser.body_left

    def take_rest(self) -> bytes:
        """Return the bytes received past the answer's end: after a switch they belong to the new protocol."""
        return self._parser.take_rest()

    @property
    def response_closes(self) -> bool:
        """The head of the answer says that the connection ends after it (RFC 9112, 9.3)."""
        response = self._parser.response
        if response is None or self._parser.framing_ends_connection:
            return True
        options = grammar.split_list(response.headers.getall("Connection", ()))
        if "close" in options:
            return True
        return response.http_version == "HTTP/1.0" and "keep-alive" not in options

    @property
    def reusable(self) -> bool:
        """
        Whether another request may be sent: the only place where that is decided.

        Both sides are done, neither said close, the framing leaves no doubt where the next answer begins,
        nothing was received that nobody asked for, and no end of file.
        """
        head, parser = self._head, self._parser
        if head is None:
            return self._send_state == "idle" and not parser.buffered and not parser.at_eof
        return (
            self._send_state == "done"
            and parser.state == "done"
            and not head.closes
            and not parser.buffered
            and not parser.at_eof
            and not self.response_closes
        )

    @property
    def keep_alive_seconds(self) -> int | None:
        """The N of the answer's ``Keep-Alive: timeout=N``, None where it does not say."""
        response = self._parser.response
        value = response.headers.get("Keep-Alive") if response is not None else None
        return grammar.parse_keep_alive_seconds(value) if value is not None else None
