"""
The operating system's errors: what they say, and which of them tell of a peer that is gone.
"""

from __future__ import annotations

import errno
import os
import socket
import ssl


def describe(error: BaseException) -> str:
    """Return the words of an operating system error, without its number and its arguments."""
    if isinstance(error, OSError) and error.errno is not None and not isinstance(error, socket.gaierror):
        # Event loops put words of their own, and the address, into strerror.
        return os.strerror(error.errno)
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__


def describe_tls(error: BaseException) -> str:
    """Return an `ssl.SSLError` in words, without OpenSSL's brackets and source lines."""
    if isinstance(error, ssl.SSLError):
        # Its number is OpenSSL's, and not one of the operating system's errors.
        if error.reason:
            return error.reason.replace("_", " ").lower()
        return (error.strerror or str(error)).partition(" (_ssl.c")[0].removeprefix("[SSL] ")
    return describe(error)


def is_disconnect(error: BaseException | None) -> bool:
    """The peer closed or reset the connection (as opposed to a timeout, or a fault of the network)."""
    return isinstance(error, OSError) and error.errno in (
        errno.ECONNRESET,
        errno.EPIPE,
        errno.ECONNABORTED,
        errno.ESHUTDOWN,
        errno.ENOTCONN,
    )
