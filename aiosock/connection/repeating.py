"""
Whether a request that failed may be sent again on a fresh connection, without asking its user.
"""

from __future__ import annotations

from aiosock.config import IDEMPOTENT_METHODS
from aiosock.errors import ReadError, ServerDisconnected, WriteError
from aiosock.message.request import Request
from aiosock.network.fault import is_disconnect


def may_be_repeated(request: Request, *, nothing_written: bool) -> bool:
    """
    Tell whether it is safe to send a request twice (RFC 9110, 9.2.2), and possible.

    Args:
        request: The request.
        nothing_written: Not a byte of it left.
    """
    body = request.body
    return (body is None or body.replayable) and (
        nothing_written or request.method in IDEMPOTENT_METHODS or "Idempotency-Key" in request.headers
    )


def is_stale(error: BaseException) -> bool:
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
