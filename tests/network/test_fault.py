"""
What the operating system's errors say and mean.
"""

from __future__ import annotations

import errno
import socket

from aiosock.network.fault import describe, is_disconnect


def test_errors_are_told_in_words() -> None:
    assert describe(OSError(errno.ECONNREFUSED, "Connect call failed ('127.0.0.1', 1)")) == "Connection refused"
    assert describe(socket.gaierror(socket.EAI_NONAME, "Name or service not known")) == "Name or service not known"
    assert describe(OSError("AF_UNIX path too long")) == "AF_UNIX path too long"
    assert describe(ValueError("what it says")) == "what it says"
    assert describe(ValueError()) == "ValueError"


def test_a_disconnect_is_told_from_other_faults() -> None:
    assert is_disconnect(ConnectionResetError(errno.ECONNRESET, "x"))
    assert is_disconnect(BrokenPipeError(errno.EPIPE, "x"))
    assert not is_disconnect(TimeoutError(errno.ETIMEDOUT, "x"))
    assert not is_disconnect(OSError(errno.ENETDOWN, "x"))
    assert not is_disconnect(ValueError("x"))
    assert not is_disconnect(None)
