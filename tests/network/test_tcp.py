"""
Connecting: options, addresses, and what goes wrong with them.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import sys
from pathlib import Path
from typing import Any

import pytest

from aiosock.errors import ConnectError, UsageError
from aiosock.network.portable import PortableStream
from aiosock.network.registered import RegisteredStream
from aiosock.network.stream import Stream
from aiosock.network.tcp import _connect_in_line, _connects_at_once, connect_tcp, connect_unix
from aiosock.testing import Peer, Server
from tests.network.wire import turns

BOTH = pytest.mark.parametrize("portable", [False, True], ids=["registered", "portable"])


async def linger(peer: Peer) -> None:
    await peer.wait_disconnect()


# Connecting


@BOTH
async def test_a_connection_sends_at_once_and_is_kept_alive(portable: bool) -> None:
    async with Server(linger) as server:
        stream = await connect_tcp("127.0.0.1", server.port, portable=portable)
        assert isinstance(stream, PortableStream if portable else RegisteredStream)
        sock = stream._sock
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert not sock.getblocking()
        assert stream.info.remote_address == f"127.0.0.1:{server.port}"
        stream.close()


async def test_the_local_address_is_bound() -> None:
    async with Server(linger) as server:
        stream = await connect_tcp("127.0.0.1", server.port, local_address=("127.0.0.2", 0))
        assert stream.info.local_address.startswith("127.0.0.2:")
        stream.close()


async def test_a_local_address_that_cannot_be_had_is_a_connect_error() -> None:
    for address in ("192.0.2.1", "::1"):
        with pytest.raises(ConnectError, match=r"^127\.0\.0\.1:1: ") as info:
            await connect_tcp("127.0.0.1", 1, local_address=(address, 0))
        assert isinstance(info.value.__cause__, OSError)


@pytest.mark.parametrize(
    "local_address",
    [
        ("localhost", 0),
        ("nonsense", 0),
        ("127.0.0.1\0", 0),
        ("127.0.0.1", "80"),
        ("127.0.0.1", 65536),
        ("127.0.0.1", -1),
        ("127.0.0.1",),
        ("127.0.0.1", 0, 0),
        (5, 0),
        (None, 0),
        5,
        b"127.0.0.1",
    ],
    ids=ascii,
)
async def test_a_local_address_that_is_none_is_refused_and_not_looked_up(local_address: Any) -> None:
    with pytest.raises(UsageError) as info:
        await connect_tcp("127.0.0.1", 1, local_address=local_address)
    assert str(info.value) == f"local_address: takes an IP address, or one with a port, not {local_address!r}"


async def test_a_local_port_needs_no_address() -> None:
    async with Server(linger) as server:
        stream = await connect_tcp("127.0.0.1", server.port, local_address=("", 0))
        assert stream.info.local_address.startswith("127.0.0.1:")
        stream.close()


@BOTH
async def test_an_address_that_cannot_be_put_to_the_system_is_a_connect_error(portable: bool) -> None:
    for address in ("127.0.0.1\0", "fe80::1%" + "x" * 100):
        with pytest.raises(ConnectError, match=r"^\[?(127\.0\.0\.1|fe80::1%x+)") as info:
            await connect_tcp(address, 1, portable=portable)
        assert isinstance(info.value.__cause__, (OSError, ValueError))


@BOTH
async def test_a_refused_connection_names_the_address_and_the_reason(portable: bool) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(ConnectError) as info:
        await connect_tcp("127.0.0.1", port, portable=portable)
    assert str(info.value) == f"127.0.0.1:{port}: Connection refused"
    assert isinstance(info.value.__cause__, ConnectionRefusedError)


async def test_a_socket_that_cannot_be_made_is_a_connect_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_socket(*_: object) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr("aiosock.network.tcp.socket.socket", no_socket)
    with pytest.raises(ConnectError, match=r"^127\.0\.0\.1:1: Too many open files$"):
        await connect_tcp("127.0.0.1", 1)


async def test_a_cancelled_attempt_leaves_no_socket() -> None:
    # Nobody accepts here, and the one place in line is soon taken.
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        attempts = [asyncio.create_task(connect_tcp(*listener.getsockname())) for _ in range(5)]
        await turns()
        for attempt in attempts:
            attempt.cancel()
        await asyncio.wait(attempts)
        assert any(attempt.cancelled() for attempt in attempts)
        for attempt in attempts:
            if not attempt.cancelled():
                attempt.result().abort()


async def test_a_cancelled_attempt_at_a_unix_socket_leaves_none(tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(0)
        first = await connect_unix(path)
        # The line is full, so that this one has to wait for a turn.
        second = asyncio.create_task(connect_unix(path))
        await asyncio.sleep(0)
        second.cancel()
        with pytest.raises(asyncio.CancelledError):
            await second
        first.abort()


async def test_ipv6_is_spoken() -> None:
    server = Server(linger, host="::1")
    try:
        await server.start()
    except OSError as error:
        pytest.skip(f"this machine has no IPv6 loopback: {error}")
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(server.close)
        stream = await connect_tcp("::1", server.port)
        assert stream.info.remote_address == f"[::1]:{server.port}"
        assert stream.info.local_address.startswith("[::1]:")
        stream.close()
        with pytest.raises(ConnectError, match=r"^\[::1\]:1: "):
            await connect_tcp("::1", 1)


async def test_a_zone_is_passed_on() -> None:
    with pytest.raises(ConnectError, match=r"^\[fe80::1%no-such-zone\]:1: "):
        await connect_tcp("fe80::1%no-such-zone", 1)
    # Loopback has no link-local address, so that nobody is there to answer, but the zone is understood.
    zone = socket.if_nameindex()[0][1]
    with pytest.raises(ConnectError, match=rf"^\[fe80::1%{zone}\]:1: (?!.*not known)"):
        await connect_tcp(f"fe80::1%{zone}", 1)


class FakeSocket:
    """Gives these codes to who connects."""

    def __init__(self, *codes: int) -> None:
        self.codes = list(codes)
        self.targets: list[object] = []

    def connect_ex(self, target: object) -> int:
        self.targets.append(target)
        return self.codes.pop(0)


@pytest.mark.parametrize(
    ("codes", "connected"),
    [
        ([0], True),
        ([errno.EISCONN], True),
        ([errno.EINPROGRESS, 0], True),
        ([errno.EINPROGRESS, errno.EISCONN], True),
        ([errno.EINPROGRESS, errno.EALREADY], False),
        ([errno.EINPROGRESS, errno.EINPROGRESS], False),
        ([errno.EALREADY], False),
    ],
    ids=lambda value: "-".join(errno.errorcode.get(code, "0") for code in value) if isinstance(value, list) else None,
)
@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_a_connection_is_looked_at_twice_at_most(address: str, codes: list[int], connected: bool) -> None:
    fake: Any = FakeSocket(*codes)
    assert _connects_at_once(fake, address, 80) is connected
    assert fake.codes == []
    assert fake.targets == [(address.encode(), 80)] * len(codes)


@pytest.mark.parametrize(
    "codes", [[errno.ECONNREFUSED], [errno.EINPROGRESS, errno.ECONNREFUSED]], ids=["first look", "second look"]
)
def test_a_connection_that_fails_at_a_look_raises_what_the_system_says(codes: list[int]) -> None:
    fake: Any = FakeSocket(*codes)
    with pytest.raises(ConnectionRefusedError, match="Connection refused"):
        _connects_at_once(fake, "127.0.0.1", 80)
    assert fake.codes == []


def test_a_zone_and_a_system_without_these_codes_are_left_to_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    fake: Any = FakeSocket()
    # Names, too: looked up here, they would hold up the loop.
    for address in ("fe80::1%eth0", "a.example", "m\u00fcnchen.example", "\u0661.\u0662.\u0663.\u0664"):
        assert _connects_at_once(fake, address, 80) is False
    with monkeypatch.context() as patched:
        patched.setattr(os, "name", "nt")
        connected = _connects_at_once(fake, "127.0.0.1", 80)
    assert connected is False
    assert fake.targets == []


@BOTH
async def test_a_connection_within_the_machine_takes_no_turn(portable: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    def unwanted(*_: object) -> None:
        raise AssertionError("the loop was asked to connect")

    async with Server(linger) as server:
        monkeypatch.setattr(asyncio.get_running_loop(), "sock_connect", unwanted)
        connecting = connect_tcp("127.0.0.1", server.port, portable=portable)
        with pytest.raises(StopIteration) as ended:
            connecting.send(None)
        ended.value.value.abort()


class HesitantSocket(socket.socket):
    """Says at both looks that it is still connecting."""

    looks = 0

    def connect_ex(self, address: Any) -> int:
        self.looks += 1
        if self.looks == 1:
            super().connect_ex(address)
            return errno.EINPROGRESS
        return errno.EALREADY


@BOTH
async def test_a_connection_in_progress_is_waited_for_by_the_loop(
    portable: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = asyncio.get_running_loop()
    connect, waited = loop.sock_connect, []

    async def watched(sock: Any, address: Any) -> None:
        waited.append((sock.looks, address))
        await connect(sock, address)

    monkeypatch.setattr(loop, "sock_connect", watched)
    async with Server(linger) as server:
        with monkeypatch.context() as patched:
            patched.setattr("aiosock.network.tcp.socket.socket", HesitantSocket)
            stream = await connect_tcp("127.0.0.1", server.port, portable=portable)
        port = server.port
        assert waited == [(2, ("127.0.0.1", port))]
        assert stream.info.remote_address == f"127.0.0.1:{port}"
        stream.write(b"x")
        assert stream.write_error is None
        stream.close()
    monkeypatch.setattr("aiosock.network.tcp.socket.socket", HesitantSocket)
    with pytest.raises(ConnectError, match=f"^127.0.0.1:{port}: Connection refused$"):
        await connect_tcp("127.0.0.1", port, portable=portable)


async def test_a_connection_that_nobody_accepts_is_waited_for_until_it_is_called_off() -> None:
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        port = listener.getsockname()[1]
        # Until the queue of those who want to be accepted is full.
        for _ in range(64):
            sock = stack.enter_context(socket.socket())
            sock.setblocking(False)
            if not _connects_at_once(sock, "127.0.0.1", port):
                break
        else:
            pytest.skip("this system accepts without end")
        connecting = asyncio.ensure_future(connect_tcp("127.0.0.1", port))
        await turns()
        assert not connecting.done()
        connecting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await connecting


# Unix sockets


async def test_a_unix_socket_without_room_is_waited_for(tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(0)
        listener.setblocking(False)
        first = await connect_unix(path)
        waiting = asyncio.create_task(connect_unix(path))
        await turns()
        assert not waiting.done()
        for stream in (first, await with_room(listener, waiting)):
            assert stream.info.remote_address == path
            stream.abort()


async def with_room(listener: socket.socket, waiting: asyncio.Task[Stream]) -> Stream:
    """Accept one, and return the stream for which that makes room."""
    with listener.accept()[0]:
        async with asyncio.timeout(20):
            return await waiting


async def test_a_unix_socket_that_takes_its_time_is_left_to_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    fake: Any = FakeSocket(errno.EAGAIN, errno.EINPROGRESS)
    waited: list[object] = []

    async def connect(*what: object) -> None:
        waited.append(what)

    monkeypatch.setattr(asyncio.get_running_loop(), "sock_connect", connect)
    await _connect_in_line(fake, "/run/socket")
    assert fake.targets == ["/run/socket"] * 2
    assert waited == [(fake, "/run/socket")]


async def test_a_unix_socket_that_is_not_there_is_a_connect_error(tmp_path: Path) -> None:
    path = str(tmp_path / "missing")
    with pytest.raises(ConnectError) as info:
        await connect_unix(path)
    assert str(info.value) == f"{path}: No such file or directory"


async def test_a_path_that_is_too_long_is_a_connect_error() -> None:
    with pytest.raises(ConnectError, match="AF_UNIX path too long"):
        await connect_unix("/" + "x" * 500)


async def test_a_system_without_unix_sockets_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("aiosock.network.tcp.socket.AF_UNIX")
    with pytest.raises(ConnectError, match="/x: this system has no Unix domain sockets"):
        await connect_unix("/x")


@pytest.mark.skipif(sys.platform != "linux", reason="abstract names are Linux's")
async def test_an_abstract_name_is_shown() -> None:
    name = f"\0aiosock-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(name)
        listener.listen()
        stream = await connect_unix(name)
        assert stream.info.remote_address == name
        stream.close()


# The roads


async def test_a_loop_without_readers_gets_the_portable_road(monkeypatch: pytest.MonkeyPatch) -> None:
    def unsupported(*_: object) -> None:
        raise NotImplementedError

    async def wait(peer: Peer) -> None:
        await asyncio.Event().wait()

    async with Server(wait) as server:
        loop = asyncio.get_running_loop()
        with monkeypatch.context() as patch:
            patch.setattr(loop, "add_reader", unsupported)
            stream = await connect_tcp("127.0.0.1", server.port)
        assert isinstance(stream, PortableStream)
        with monkeypatch.context() as patch:
            patch.setattr(loop, "remove_reader", unsupported)
            stream.abort()
        assert stream._sock.fileno() == -1
