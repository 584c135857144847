"""
What is served: the same bytes, whichever server sends them, and how many of them.
"""

from __future__ import annotations

import json
import os
import resource
from dataclasses import dataclass

MIB = 1024 * 1024
CHUNK = bytes(4096)
LINE = b"a small line, as a log or a stream of events has many of them..\n"
JSON = b'{"id": 1234567890, "name": "aiosock", "tags": ["http", "socket"], "ok": true  }'
RESULTS = json.dumps([{"id": f"{number * 2654435761 % 2**32:08x}", "rank": number} for number in range(320)]).encode()
RESULTS = RESULTS[:10240].ljust(10240)
FIELDS = ("Cache-Control", "no-store"), ("Vary", "Accept"), ("X-Request-Id", "0123456789abcdef")


@dataclass(frozen=True)
class Sizes:
    """How much is sent and held in the scenarios: bytes, lines, connections, requests."""

    large: int = 256 * MIB
    chunked: int = 64 * MIB
    lines: int = 100_000
    idle: int = 5_000
    late: int = 10_000
    garbage: int = 10_000


QUICK = Sizes(large=64 * MIB, chunked=16 * MIB, lines=20_000, idle=500, late=1_000, garbage=1_000)
STREAMS = 16


@dataclass(frozen=True)
class Servers:
    """
    The servers that run.

    Attributes:
        program: What answers, with its version.
        plain: The URL of its root.
        tls: The same over TLS.
        late: The URL of the root of the server that answers late.
        ca: The authority to trust, a PEM file.
        upload: The file to send.
    """

    program: str
    plain: str
    tls: str
    late: str
    ca: str
    upload: str


def raise_file_limit() -> int:
    """Let this process open as many files as it may, and return how many."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 65536 if hard == resource.RLIM_INFINITY else min(hard, 65536)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return wanted


def pin(process: int, cores: set[int]) -> None:
    """Keep a process to some cores, where the system can."""
    if cores and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(process, cores)
