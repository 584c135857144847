"""
The handshakes of SOCKS 4, 4a and 5, as a client sees them: bytes in, bytes out.

::

    data = handshake.begin()  # to be written
    while not handshake.done:
        data = handshake.receive_data(chunk)  # what the socket gave; b"" is end of file

SOCKS 4 and 4a are described only by their authors' memos, SOCKS 5 by RFC 1928 with RFC 1929 for user and password.
"""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

from aiosock.errors import LocalProtocolError, ProxyError, RemoteProtocolError, ServerDisconnected

Version: TypeAlias = Literal["socks4", "socks4a", "socks5"]
State: TypeAlias = Literal["idle", "method", "password", "reply", "done", "failed"]

MAX_NAME_BYTES: Final = 255

_NO_AUTHENTICATION: Final = 0
_USER_AND_PASSWORD: Final = 2
_NO_METHOD: Final = 0xFF

_REPLIES_4: Final = {
    91: "the request was rejected or failed",
    92: "it cannot reach the identd of this machine",
    93: "the identd of this machine tells of another user",
}

# RFC 1928, 6.
_REPLIES_5: Final = {
    1: "general failure",
    2: "not allowed by its rules",
    3: "the network is unreachable",
    4: "the host is unreachable",
    5: "the connection was refused",
    6: "the TTL expired",
    7: "it does not know the command",
    8: "it does not know this type of address",
}

_ADDRESS_BYTES: Final = {1: 4, 4: 16}


class Handshake:
    """
    Asks one proxy for one connection.

    Args:
        version: ``"socks4"`` knows IPv4 addresses alone, ``"socks4a"`` names too, ``"socks5"`` also IPv6.
        host: The name, in ASCII, or the address that the proxy is to connect to; a zone is left out.
        port: 1 to 65535.
        auth: User name and password; SOCKS 4 sends the name alone.

    Attributes:
        asked: The proxy has been told where to connect to: if it refuses now, another address may do.
        state: Where the handshake stands.

    Raises:
        LocalProtocolError: The version has no way to say this.
    """

    __slots__ = ("_auth", "_buffer", "_host", "_port", "_request", "_version", "asked", "state")

    def __init__(self, version: Version, host: str, port: int, auth: tuple[str, str] | None = None) -> None:
        self._version = version
        self._host = host
        self._port = port
        self._auth = None if auth is None else (auth[0].encode(), auth[1].encode())
        self._buffer = bytearray()
        self._request = self._encode_5() if version == "socks5" else self._encode_4()
        self.asked = False
        self.state: State = "idle"

    @property
    def done(self) -> bool:
        """The proxy has connected; what follows is between us and the host."""
        return self.state == "done"

    def begin(self) -> bytes:
        """
        Return what is sent first.

        Raises:
            LocalProtocolError: It was begun before.
        """
        if self.state != "idle":
            raise LocalProtocolError("a SOCKS handshake begins once")
        if self._version != "socks5":
            return self._ask()
        self.state = "method"
        methods = [_NO_AUTHENTICATION] if self._auth is None else [_NO_AUTHENTICATION, _USER_AND_PASSWORD]
        return bytes([5, len(methods), *methods])

    def receive_data(self, data: bytes) -> bytes:
        """
        Feed what the socket gave, ``b""`` at its end, and return what is to be sent now, maybe nothing.

        Raises:
            ProxyError: The proxy refuses; the message says why.
            RemoteProtocolError: It does not speak this version of SOCKS, ended the connection, or said more than its
                reply, although nobody has spoken to the host yet.
            LocalProtocolError: The handshake has not begun, or failed.
        """
        if self.state in ("idle", "failed"):
            raise LocalProtocolError(f"a SOCKS handshake that is {self.state} takes no data")
        try:
            if not data:
                raise ServerDisconnected("it closed the connection in the SOCKS handshake")
            self._buffer += data
            answer = b""
            while (reply := self._read()) is not None:
                answer += reply
            if self.state == "done" and self._buffer:
                raise RemoteProtocolError(f"{len(self._buffer)} bytes came after its reply, before anything was said")
        except (ProxyError, RemoteProtocolError):
            self.state = "failed"
            raise
        return answer

    def _read(self) -> bytes | None:
        """Take one message of the proxy; return what is sent in turn, None while the message is not whole."""
        if self.state == "method":
            return self._read_method()
        if self.state == "password":
            return self._read_password()
        if self.state == "reply":
            return self._read_reply_5() if self._version == "socks5" else self._read_reply_4()
        return None

    def _take(self, size: int) -> bytes | None:
        if len(self._buffer) < size:
            return None
        taken = bytes(self._buffer[:size])
        del self._buffer[:size]
        return taken

    def _ask(self) -> bytes:
        self.asked = True
        self.state = "reply"
        return self._request

    # SOCKS 5

    def _encode_5(self) -> bytes:
        address = _packed(self._host)
        if address is None:
            name = self._name()
            if len(name) > MAX_NAME_BYTES:
                raise LocalProtocolError(f"SOCKS5 takes names of at most {MAX_NAME_BYTES} bytes, not {len(name)}")
            target = bytes([3, len(name)]) + name
        else:
            target = bytes([1 if len(address) == 4 else 4]) + address
        if self._auth is not None and max(map(len, self._auth)) > MAX_NAME_BYTES:
            raise LocalProtocolError(f"SOCKS5 takes at most {MAX_NAME_BYTES} bytes of user name and of password")
        return b"\x05\x01\x00" + target + self._port.to_bytes(2)

    def _name(self) -> bytes:
        try:
            return self._host.encode("ascii")
        except UnicodeEncodeError:
            raise LocalProtocolError("the name of a host is sent in ASCII (IDNA)") from None

    def _check_version(self, expected: int) -> None:
        if self._buffer and self._buffer[0] != expected:
            said = bytes(self._buffer[:16])
            raise RemoteProtocolError(f"its answer is not {self._version.upper()}: it begins with {said!r}")

    def _read_method(self) -> bytes | None:
        self._check_version(5)
        message = self._take(2)
        if message is None:
            return None
        method = message[1]
        if method == _NO_AUTHENTICATION:
            return self._ask()
        if method == _NO_METHOD:
            raise ProxyError(
                "it demands user name and password, or another way to authenticate"
                if self._auth is None
                else "it takes neither user name and password nor their absence"
            )
        if method != _USER_AND_PASSWORD or self._auth is None:
            raise RemoteProtocolError(f"it chose the authentication method {method}, which was not offered")
        user, password = self._auth
        self.state = "password"
        return bytes([1, len(user)]) + user + bytes([len(password)]) + password

    def _read_password(self) -> bytes | None:
        message = self._take(2)
        if message is None:
            return None
        # Some proxies give the version of SOCKS here in place of that of the negotiation: only the status counts.
        if message[1] != 0:
            raise ProxyError("it refuses this user name and password")
        return self._ask()

    def _read_reply_5(self) -> bytes | None:
        buffer = self._buffer
        self._check_version(5)
        # A refusal is one as soon as its code is there: what follows it tells nothing.
        if len(buffer) > 1 and buffer[1] != 0:
            raise ProxyError(_REPLIES_5.get(buffer[1], f"it gives the unknown code {buffer[1]}"))
        if len(buffer) < 5:
            return None
        kind = buffer[3]
        size = 1 + buffer[4] if kind == 3 else _ADDRESS_BYTES.get(kind)
        if size is None:
            raise RemoteProtocolError(f"its reply has an address of the unknown type {kind}")
        if self._take(4 + size + 2) is None:
            return None
        self.state = "done"
        return b""

    # SOCKS 4

    def _encode_4(self) -> bytes:
        user = b"" if self._auth is None else self._auth[0]
        address, name = _packed(self._host), b""
        if address is None:
            if self._version == "socks4":
                raise LocalProtocolError("SOCKS4 takes no names; SOCKS4A does")
            # An impossible address says that a name follows.
            address, name = b"\x00\x00\x00\x01", self._name() + b"\x00"
        elif len(address) != 4:
            raise LocalProtocolError("SOCKS4 knows no IPv6 addresses; SOCKS5 does")
        if b"\x00" in user or b"\x00" in name[:-1]:
            raise LocalProtocolError("SOCKS4 ends a user or a name with NUL: neither has one within")
        return b"\x04\x01" + self._port.to_bytes(2) + address + user + b"\x00" + name

    def _read_reply_4(self) -> bytes | None:
        buffer = self._buffer
        self._check_version(0)
        if len(buffer) > 1 and buffer[1] != 90:
            raise ProxyError(_REPLIES_4.get(buffer[1], f"it gives the unknown code {buffer[1]}"))
        if self._take(8) is None:
            return None
        self.state = "done"
        return b""


def _packed(host: str) -> bytes | None:
    """Return the bytes of an IP address, which have no zone; None where the host is a name."""
    import ipaddress

    try:
        return ipaddress.ip_address(host).packed
    except ValueError:
        return None
