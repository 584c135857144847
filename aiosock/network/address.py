"""
IP addresses: what is one, and how it stands in messages and in what is told of a connection.
"""

from __future__ import annotations

from functools import lru_cache


# Asked for every connection; parsing an address takes as long as a system call.
@lru_cache(maxsize=256)
def is_address(host: str) -> bool:
    """Tell whether a host is an IP address, if IPv6 maybe with a zone (``fe80::1%eth0``), that needs no look-up."""
    import ipaddress

    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return host.isprintable()


def format_address(address: str, port: int) -> str:
    """Return address and port as one string, IPv6 in brackets."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def format_socket_name(name: object) -> str:
    """Return the name of a socket, as `socket.getsockname` gives it, as one string."""
    if isinstance(name, tuple):
        return format_address(str(name[0]), int(name[1]))
    return name.decode(errors="replace") if isinstance(name, bytes) else str(name)
