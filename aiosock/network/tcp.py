"""
Connecting: from an address, or the path of a Unix socket, to an open stream on the road that fits the loop.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from typing import Final

from aiosock.errors import ConnectError, UsageError
from aiosock.network.address import format_address, is_address
from aiosock.network.fault import describe
from aiosock.network.portable import PortableStream
from aiosock.network.registered import RegisteredStream
from aiosock.network.stream import Stream

# Linux takes it as part of a socket's type.
NON_BLOCKING: Final[int] = getattr(socket, "SOCK_NONBLOCK", 0)
MAX_PORT: Final = 65535
# Between two looks at a Unix socket that has no room for one more.
MIN_PAUSE_SECONDS: Final = 0.001
MAX_PAUSE_SECONDS: Final = 0.05


async def connect_tcp(
    address: str, port: int, *, local_address: tuple[str, int] | None = None, portable: bool = False
) -> Stream:
    """
    Open a TCP connection.

    Args:
        address: An IPv4 or IPv6 literal, the latter maybe with its zone (``fe80::1%eth0``).
        port: 1 to 65535.
        local_address: The address and port to bind to; port 0 is any.
        portable: Take the portable road also where the loop has the other one.

    Raises:
        ConnectError: The operating system refused; the message names the address.
        UsageError: ``local_address`` is no IP address with a port.
    """
    where = format_address(address, port)
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        sock = _make_socket(family)
    except OSError as error:
        raise ConnectError(f"{where}: {describe(error)}") from error
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if local_address is not None:
            _bind(sock, local_address)
        if not _connects_at_once(sock, address, port):
            await asyncio.get_running_loop().sock_connect(sock, (address, port))
        return _open(sock, portable)
    except (OSError, ValueError) as error:
        sock.close()
        raise ConnectError(f"{where}: {describe(error)}") from error
    except BaseException:
        sock.close()
        raise


def _make_socket(family: int) -> socket.socket:
    """Return a stream socket that does not block; where the system can, it is made so by one call."""
    sock = socket.socket(family, socket.SOCK_STREAM | NON_BLOCKING)
    if not NON_BLOCKING:
        sock.setblocking(False)
    return sock


def _bind(sock: socket.socket, local_address: tuple[str, int]) -> None:
    """Bind to an address; a name is refused, since the look-up would hold up the loop."""
    try:
        host, port = local_address
        fits = isinstance(host, str) and (not host or is_address(host)) and 0 <= port <= MAX_PORT
    except (TypeError, ValueError):
        fits = False
    if not fits:
        raise UsageError(f"local_address: takes an IP address, or one with a port, not {local_address!r}")
    sock.bind(local_address)


def _connects_at_once(sock: socket.socket, address: str, port: int) -> bool:
    """
    Begin to connect, and tell whether that is done already: within one machine it is by the second look.

    Raises:
        OSError: It failed at once.
    """
    # Only what is an address beyond doubt, and not a name that somebody's resolver gave: that would be looked up here.
    is_literal = ":" in address or address[-1:].isdigit()
    if os.name != "posix" or "%" in address or not is_literal or not address.isascii():
        return False
    # As bytes: a str would take the way of names, through their international encoding.
    target = (address.encode("ascii"), port)
    code = sock.connect_ex(target)
    if code == errno.EINPROGRESS:
        code = sock.connect_ex(target)
    if code in (0, errno.EISCONN):
        return True
    if code in (errno.EINPROGRESS, errno.EALREADY):
        return False
    raise OSError(code, os.strerror(code))


async def connect_unix(path: str, *, portable: bool = False) -> Stream:
    """
    Open a connection to a Unix domain socket.

    Args:
        path: The file of the socket.
        portable: Take the portable road also where the loop has the other one.

    Raises:
        ConnectError: The operating system refused, or has no such sockets; the message names the path.
    """
    if not hasattr(socket, "AF_UNIX"):
        raise ConnectError(f"{path}: this system has no Unix domain sockets")
    try:
        sock = _make_socket(socket.AF_UNIX)
    except OSError as error:
        raise ConnectError(f"{path}: {describe(error)}") from error
    try:
        await _connect_in_line(sock, path)
        return _open(sock, portable)
    except (OSError, ValueError) as error:
        sock.close()
        raise ConnectError(f"{path}: {describe(error)}") from error
    except BaseException:
        sock.close()
        raise


async def _connect_in_line(sock: socket.socket, path: str) -> None:
    """
    Connect to a Unix socket, also where its queue of those to be accepted is full.

    The system then refuses for now, and has no way to tell when to come back: the loop would take the refused socket
    for a connected one.
    """
    pause = MIN_PAUSE_SECONDS
    while (code := sock.connect_ex(path)) == errno.EAGAIN:
        await asyncio.sleep(pause)
        pause = min(2 * pause, MAX_PAUSE_SECONDS)
    if code == errno.EINPROGRESS:
        await asyncio.get_running_loop().sock_connect(sock, path)
    elif code:
        raise OSError(code, os.strerror(code))


def _open(sock: socket.socket, portable: bool) -> Stream:
    loop = asyncio.get_running_loop()
    if not portable:
        try:
            return RegisteredStream(sock, loop)
        except NotImplementedError:
            pass  # The loop has no add_reader (Windows' proactor): the other road is for it.
    return PortableStream(sock, loop)
