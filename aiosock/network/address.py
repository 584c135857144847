"""
Addresses in words, as they stand in messages and in what is told of a connection.
"""

from __future__ import annotations


def format_address(address: str, port: int) -> str:
    """Return address and port as one string, IPv6 in brackets."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def format_socket_name(name: object) -> str:
    """Return the name of a socket, as `socket.getsockname` gives it, as one string."""
    if isinstance(name, tuple):
        return format_address(str(name[0]), int(name[1]))
    return name.decode(errors="replace") if isinstance(name, bytes) else str(name)
