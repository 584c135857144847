"""
How a response came: over which connection, and how long each stage took.
"""

from __future__ import annotations

from typing import NamedTuple


class ConnectionInfo(NamedTuple):
    """
    Which connection carried the exchange.

    Attributes:
        remote_address: ``"192.0.2.1:443"``, ``"[2001:db8::1]:443"`` or the path of a Unix socket.
        local_address: Our end, in the same form.
        tls_version: ``"TLSv1.3"``, None without TLS.
        cipher: The name of the cipher suite, None without TLS.
        alpn: The protocol agreed on by ALPN, None where there was none.
        reused: The connection had carried a request before.
        requests_served: How many requests it has carried, this one included.
        session_reused: The TLS handshake resumed an earlier session.
    """

    remote_address: str
    local_address: str
    tls_version: str | None
    cipher: str | None
    alpn: str | None
    reused: bool
    requests_served: int
    session_reused: bool


class Timings:
    """
    Seconds spent in each stage; None for a stage that there was not, or not yet.

    Attributes:
        pool: Waiting for a connection, dialling included.
        dns: Resolving the name; None on a reused connection, as are connect and tls.
        connect: Opening the TCP connection.
        tls: The TLS handshake.
        send: From the first to the last byte of the request.
        wait: From there to the first byte of the answer.
        receive: From there to the end of the body.
        total: All of it.
    """

    __slots__ = ("acquired_at", "connect", "dns", "ended_at", "head_at", "sent_at", "started_at", "tls")

    def __init__(self, started_at: float) -> None:
        self.started_at = started_at
        self.acquired_at: float | None = None
        self.sent_at: float | None = None
        self.head_at: float | None = None
        self.ended_at: float | None = None
        self.dns: float | None = None
        self.connect: float | None = None
        self.tls: float | None = None

    @property
    def pool(self) -> float | None:
        return _between(self.started_at, self.acquired_at)

    @property
    def send(self) -> float | None:
        return _between(self.acquired_at, self.sent_at)

    @property
    def wait(self) -> float | None:
        return _between(self.sent_at, self.head_at)

    @property
    def receive(self) -> float | None:
        return _between(self.head_at, self.ended_at)

    @property
    def total(self) -> float | None:
        return _between(self.started_at, self.ended_at)

    def __repr__(self) -> str:
        names = ("pool", "dns", "connect", "tls", "send", "wait", "receive", "total")
        shown = (f"{name}={value:.6f}" for name in names if (value := getattr(self, name)) is not None)
        return f"<Timings {' '.join(shown)}>"


def _between(earlier: float | None, later: float | None) -> float | None:
    return None if earlier is None or later is None else max(later - earlier, 0.0)
