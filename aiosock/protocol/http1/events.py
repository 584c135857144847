"""
What can come of bytes received: small immutable values, one class an event.

They are named tuples because those are frozen, slotted and the cheapest of Python's records to make.
"""

from __future__ import annotations

from enum import Enum
from typing import Final, Literal, NamedTuple, TypeAlias

from multidict import CIMultiDict


class _Signal(Enum):
    NEED_DATA = "NEED_DATA"


NEED_DATA: Final = _Signal.NEED_DATA
"""What `next_event` returns when it can say nothing more before `receive_data` is called."""

NeedData: TypeAlias = Literal[_Signal.NEED_DATA]

CHUNKED_WITHIN: Final = "Chunked"
"""
The transfer coding chunked under another one, where it frames nothing; spelled as no content coding is, since those are
lower-cased.
"""


class InformationalReceived(NamedTuple):
    """A 1xx answer ahead of the final one (RFC 9110, 15.2): 100 Continue, 103 Early Hints."""

    status_code: int
    reason: str
    headers: CIMultiDict[str]


class ResponseStarted(NamedTuple):
    """
    The head of the final answer.

    Attributes:
        status_code: 101, or 200 to 999.
        reason: The reason phrase, maybe empty.
        http_version: ``"HTTP/1.0"`` or ``"HTTP/1.1"``.
        headers: The fields in the order and spelling of the wire.
        transfer_codings: Codings other than the chunked that frames the body, in the order in which they were
            applied; the body data that follows still carries them (RFC 9112, 6.1). Among them, chunked is
            `CHUNKED_WITHIN`.
        content_length: The bytes that the body will have on the wire, None where only its end tells.
    """

    status_code: int
    reason: str
    http_version: str
    headers: CIMultiDict[str]
    transfer_codings: tuple[str, ...]
    content_length: int | None


class BodyData(NamedTuple):
    """The next piece of the body; never empty."""

    data: bytes


class BodyEnded(NamedTuple):
    """The body is complete; ``trailers`` is None where there were none (RFC 9110, 6.5)."""

    trailers: CIMultiDict[str] | None


Event: TypeAlias = InformationalReceived | ResponseStarted | BodyData | BodyEnded
