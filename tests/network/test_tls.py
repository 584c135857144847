"""
TLS with real certificates: who is trusted and why not, how it ends, and that it says nothing wrong.
"""

from __future__ import annotations

import asyncio
import gc
import math
import os
import random
import shutil
import ssl
import subprocess
import sys
import threading
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from pathlib import Path
from ssl import SSLContext
from types import FrameType

import certifi
import pytest

from aiosock.errors import ReadError, TLSError, TruncatedStream, UsageError, WriteError, WriteTimeout
from aiosock.network import tls
from aiosock.network.stream import Stream
from aiosock.network.tcp import connect_tcp
from aiosock.network.tls import TLSSettings, TLSStream, build_context, is_live, shared_context, start_tls
from aiosock.testing import Certificates, Peer, Server
from tests.network.wire import Wire, arrived, read_all, receive, turns, until, wires

LARGE = random.Random(2).randbytes(1024 * 1024) * 8


async def linger(peer: Peer) -> None:
    await peer.wait_disconnect()


async def greet(peer: Peer) -> None:
    await peer.send(b"hello")
    await peer.wait_disconnect()


async def dial(
    server: Server,
    context: SSLContext,
    name: str = "localhost",
    *,
    session: ssl.SSLSession | None = None,
    on_session: Callable[[TLSStream], None] | None = None,
) -> TLSStream:
    inner = await connect_tcp("127.0.0.1", server.port)
    return await start_tls(inner, context, name, session=session, on_session=on_session)


@asynccontextmanager
async def connected(
    script: Callable[[Peer], object], server_context: SSLContext, client_context: SSLContext
) -> AsyncIterator[TLSStream]:
    """A stream to a script, aborted in the end."""
    async with Server(script, ssl=server_context) as server:  # type: ignore[arg-type]
        stream = await dial(server, client_context)
        yield stream
        stream.abort()


@pytest.fixture(autouse=True)
def no_inheritance(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Neither the environment of whoever runs the tests nor another test's contexts have a say."""
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR", "SSLKEYLOGFILE"):
        monkeypatch.delenv(name, raising=False)
    shared_context.cache_clear()
    yield
    shared_context.cache_clear()


@pytest.fixture(scope="session")
def contexts(certificates: Certificates, self_signed: SSLContext) -> dict[str, SSLContext]:
    """Servers' contexts, good and bad; made outside of the loop, as that reads and writes files."""
    return {
        "good": certificates.server_context(),
        "other name": certificates.server_context("other.example"),
        "addresses": certificates.server_context("127.0.0.1", "::1"),
        "expired": certificates.server_context(expired=True),
        "unknown authority": Certificates().server_context(),
        "self-signed": self_signed,
        "TLS 1.2": certificates.server_context(tls_version=ssl.TLSVersion.TLSv1_2),
        "TLS 1.3": certificates.server_context(tls_version=ssl.TLSVersion.TLSv1_3),
        "no ALPN": certificates.server_context(alpn=None),
        "wants a certificate": certificates.server_context(client_ca=True),
        "wants a certificate, TLS 1.2": certificates.server_context(client_ca=True, tls_version=ssl.TLSVersion.TLSv1_2),
    }


@pytest.fixture(scope="session")
def self_signed(tmp_path_factory: pytest.TempPathFactory) -> SSLContext:
    """A server whose certificate vouches for itself."""
    folder = tmp_path_factory.mktemp("self")
    certificate, key = folder / "cert.pem", folder / "key.pem"
    subject = ("-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost")
    openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", certificate, *subject)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context


def openssl(*arguments: str | Path) -> None:
    try:
        subprocess.run(["openssl", *arguments], check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("the program openssl is not there")


# Trust


async def test_a_trusted_server_is_talked_to(server_context: SSLContext, client_context: SSLContext) -> None:
    async with connected(greet, server_context, client_context) as stream:
        assert await stream.read(math.inf) == b"hello"
        info = stream.info
        assert (info.tls_version, info.alpn, info.session_reused) == ("TLSv1.3", None, False)
        assert info.cipher is not None
        assert info.cipher.startswith("TLS_")
        assert info.remote_address.startswith("127.0.0.1:")


@pytest.mark.parametrize(
    ("context", "name", "words"),
    [
        ("other name", "localhost", "the certificate of localhost is not trusted: Hostname mismatch"),
        ("good", "127.0.0.9", "the certificate of 127.0.0.9 is not trusted: IP address mismatch"),
        ("expired", "localhost", "the certificate of localhost is not trusted: certificate has expired"),
        ("unknown authority", "localhost", "the certificate of localhost is not trusted: unable to get local issuer"),
        ("self-signed", "localhost", "the certificate of localhost is not trusted: self-signed certificate"),
    ],
)
async def test_whom_not_to_trust_and_why(
    contexts: dict[str, SSLContext], client_context: SSLContext, context: str, name: str, words: str
) -> None:
    async with Server(linger, ssl=contexts[context]) as server:
        with pytest.raises(TLSError) as info:
            await dial(server, client_context, name)
        assert str(info.value).startswith(words)
        assert isinstance(info.value.__cause__, ssl.SSLCertVerificationError)
        # The server is told, too.
        await until(lambda: server.handshake_errors)
        assert "alert" in str(server.handshake_errors[0])


@pytest.mark.parametrize("name", ["127.0.0.1", "::1"])
async def test_an_address_is_verified_as_such(
    contexts: dict[str, SSLContext], client_context: SSLContext, name: str
) -> None:
    async with Server(greet, ssl=contexts["addresses"]) as server:
        stream = await dial(server, client_context, name)
        assert await stream.read(math.inf) == b"hello"
        stream.close()
        with pytest.raises(TLSError, match="localhost is not trusted: Hostname mismatch"):
            await dial(server, client_context, "localhost")


@pytest.mark.parametrize("context", ["other name", "expired", "unknown authority", "self-signed"])
async def test_without_verification_anybody_is_talked_to(contexts: dict[str, SSLContext], context: str) -> None:
    async with Server(greet, ssl=contexts[context]) as server:
        stream = await dial(server, await TLSSettings(verify=False).context())
        assert await stream.read(math.inf) == b"hello"
        stream.close()


async def test_a_file_and_a_folder_of_authorities(
    contexts: dict[str, SSLContext], ca_file: str, ca_folder: Path
) -> None:
    for verify in (ca_file, Path(ca_file), ca_folder, str(ca_folder)):
        context = await TLSSettings(verify=verify).context()
        async with Server(greet, ssl=contexts["good"]) as server:
            stream = await dial(server, context)
            assert await stream.read(math.inf) == b"hello"
            stream.close()
        async with Server(greet, ssl=contexts["unknown authority"]) as server:
            with pytest.raises(TLSError, match="is not trusted"):
                await dial(server, context)


@pytest.fixture(scope="session")
def ca_folder(ca_file: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The authority's certificate in a folder as OpenSSL wants it: by the hash of its subject."""
    folder = tmp_path_factory.mktemp("authorities")
    shutil.copy(ca_file, folder / "ca.pem")
    openssl("rehash", folder)
    return folder


async def test_a_context_of_the_users_is_used_as_it_is(client_context: SSLContext) -> None:
    settings = TLSSettings(verify=client_context)
    assert await settings.context() is client_context


async def test_the_protocol_agreed_on_is_known(contexts: dict[str, SSLContext]) -> None:
    async with connected(linger, contexts["good"], await TLSSettings(verify=False).context()) as stream:
        assert stream.info.alpn == "http/1.1"
    async with connected(linger, contexts["no ALPN"], await TLSSettings(verify=False).context()) as stream:
        assert stream.info.alpn is None


# Client certificates


@pytest.fixture(scope="session")
def client_files(certificates: Certificates, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """A client certificate and its key, in files."""
    return certificates.client_certificate().write(tmp_path_factory.mktemp("client"))


@pytest.fixture(scope="session")
def one_file(client_files: tuple[str, str], tmp_path_factory: pytest.TempPathFactory) -> str:
    """The same in one file."""
    path = tmp_path_factory.mktemp("client") / "both.pem"
    path.write_bytes(b"".join(Path(file).read_bytes() for file in client_files))
    return str(path)


@pytest.fixture(scope="session")
def locked_key(client_files: tuple[str, str], tmp_path_factory: pytest.TempPathFactory) -> str:
    """The same key, encrypted with the password ``secret``."""
    path = tmp_path_factory.mktemp("client") / "locked.key"
    openssl("pkey", "-in", client_files[1], "-out", path, "-aes256", "-passout", "pass:secret")
    return str(path)


async def test_a_client_certificate_is_shown(
    contexts: dict[str, SSLContext], ca_file: str, client_files: tuple[str, str], one_file: str, locked_key: str
) -> None:
    for cert in (client_files, one_file, Path(one_file), (one_file,), (client_files[0], locked_key, "secret")):
        context = await TLSSettings(verify=ca_file, cert=cert).context()
        async with connected(greet, contexts["wants a certificate"], context) as stream:
            assert await stream.read(math.inf) == b"hello"


async def test_a_client_certificate_that_is_missing_is_missed(
    contexts: dict[str, SSLContext], client_context: SSLContext
) -> None:
    async with Server(greet, ssl=contexts["wants a certificate"]) as server:
        # With TLS 1.3 the client has done its part before the server says no.
        stream = await dial(server, client_context)
        with pytest.raises(ReadError, match="TLS with localhost failed: tlsv13 alert certificate required") as info:
            await stream.read(math.inf)
        assert isinstance(info.value.__cause__, ssl.SSLError)
        with pytest.raises(ReadError) as again:
            await stream.read(math.inf)
        assert again.value is not info.value
        stream.close()


async def test_a_client_certificate_that_is_missing_is_missed_in_the_handshake_of_tls_1_2(
    contexts: dict[str, SSLContext], client_context: SSLContext
) -> None:
    async with Server(greet, ssl=contexts["wants a certificate, TLS 1.2"]) as server:
        with pytest.raises(TLSError, match="the TLS handshake with localhost failed: .*handshake failure"):
            await dial(server, client_context)


async def test_a_client_certificate_that_cannot_be_used_is_named(
    client_files: tuple[str, str], locked_key: str, ca_file: str, tmp_path: Path
) -> None:
    certificate, key = client_files
    missing = str(tmp_path / "missing.pem")
    for cert, words in (
        (missing, f"cert: '{missing}' cannot be used: No such file or directory"),
        (certificate, f"cert: '{certificate}' cannot be used: no certificate with its key could be read"),
        ((ca_file, key), f"cert: '{ca_file}' cannot be used: key values mismatch"),
        ((certificate, locked_key), f"cert: '{certificate}' cannot be used: the key is encrypted, and there is no"),
        ((certificate, locked_key, "wrong"), f"cert: '{certificate}' cannot be used: "),
        ((certificate, locked_key, "x" * 2000), f"cert: '{certificate}' cannot be used: "),
    ):
        with pytest.raises(UsageError) as info:
            await TLSSettings(cert=cert).context()
        assert str(info.value).startswith(words)


# Settings


@pytest.mark.parametrize("verify", [None, 1.5, object(), b"/etc", ["x"]])
def test_settings_of_a_wrong_kind_are_refused(verify: object) -> None:
    with pytest.raises(UsageError, match=f"^verify: not a value that can be used: {type(verify).__name__}$"):
        TLSSettings(verify=verify)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="^cert: not a value that can be used: "):
        TLSSettings(cert=verify if verify is not None else 1)  # type: ignore[arg-type]


def test_a_certificate_has_one_to_three_parts() -> None:
    for cert in ((), ("a", "b", "c", "d")):
        with pytest.raises(UsageError, match="^cert: takes a path"):
            TLSSettings(cert=cert)


def test_a_certificate_beside_a_context_is_refused(client_context: SSLContext) -> None:
    with pytest.raises(UsageError, match="^cert: load the certificate into the context"):
        TLSSettings(verify=client_context, cert="x.pem")


async def test_settings_for_a_hop_have_the_same_trust_and_never_the_client_certificate(
    client_context: ssl.SSLContext, ca_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    missing = TLSSettings(ca_file, cert="missing.pem", trust_env=False)
    with pytest.raises(UsageError, match=r"missing\.pem"):
        await missing.context()
    assert (await missing.for_hop(None, None).context()).cert_store_stats()["x509_ca"] == 1
    assert (await missing.for_hop(False, None).context()).verify_mode == ssl.CERT_NONE
    with pytest.raises(UsageError, match=r"other\.pem"):
        await missing.for_hop(None, "other.pem").context()
    monkeypatch.setenv("SSL_CERT_FILE", ca_file)
    heeding, heedless = (TLSSettings(trust_env=trust).for_hop(None, None) for trust in (True, False))
    assert (await heeding.context()).cert_store_stats() != (await heedless.context()).cert_store_stats()
    given = TLSSettings(client_context)
    assert await given.for_hop(None, None).context() is client_context
    with pytest.raises(UsageError, match="cert: load the certificate into the context"):
        given.for_hop(None, "other.pem")


async def test_equal_settings_share_a_context_and_others_do_not(ca_file: str) -> None:
    first, second = TLSSettings(ca_file), TLSSettings(ca_file)
    assert await first.context() is await second.context()
    assert await first.context() is not await TLSSettings(ca_file, trust_env=False).context()
    assert await TLSSettings(False).context() is not await first.context()


async def test_a_context_is_built_once_and_off_the_loop(monkeypatch: pytest.MonkeyPatch, ca_file: str) -> None:
    built: list[threading.Thread] = []
    gate = threading.Event()

    def build(*_: object) -> SSLContext:
        built.append(threading.current_thread())
        assert gate.wait(20)
        return SSLContext(ssl.PROTOCOL_TLS_CLIENT)

    monkeypatch.setattr(tls, "build_context", build)
    settings = TLSSettings(ca_file)
    waiting = [asyncio.create_task(settings.context()) for _ in range(5)]
    await turns()
    waiting[0].cancel()
    gate.set()
    contexts = await asyncio.gather(*waiting[1:])
    assert waiting[0].cancelled()
    assert len(set(map(id, contexts))) == 1
    assert len(built) == 1
    assert built[0] is not threading.main_thread()
    assert await settings.context() is contexts[0]


def test_two_loops_build_a_context_each_in_its_own_time(monkeypatch: pytest.MonkeyPatch) -> None:
    gate = threading.Event()

    def build(*_: object) -> SSLContext:
        assert gate.wait(20)
        return SSLContext(ssl.PROTOCOL_TLS_CLIENT)

    monkeypatch.setattr(tls, "build_context", build)
    settings = TLSSettings()

    async def begin() -> asyncio.Task[SSLContext]:
        task = asyncio.create_task(settings.context())
        await turns()
        return task

    with closing(asyncio.new_event_loop()) as first, closing(asyncio.new_event_loop()) as second:
        tasks = [(loop, loop.run_until_complete(begin())) for loop in (first, second)]
        gate.set()
        for loop, task in tasks:
            assert isinstance(loop.run_until_complete(asyncio.wait_for(task, 20)), SSLContext)


async def test_a_file_that_cannot_be_used_is_named_and_tried_again(ca_file: str, tmp_path: Path) -> None:
    path = tmp_path / "ca.pem"
    settings = TLSSettings(path)
    errors: list[BaseException] = []
    for content, words in ((None, "No such file or directory"), (b"rubbish", "no certificate or crl found")):
        if content is not None:
            await asyncio.to_thread(path.write_bytes, content)
        results = await asyncio.gather(settings.context(), settings.context(), return_exceptions=True)
        for error in results:
            assert isinstance(error, UsageError)
            assert str(error) == f"verify: '{path}' holds no certificate that can be used: {words}"
            assert isinstance(error.__cause__, OSError)
            errors.append(error)
    assert len(set(map(id, errors))) == 4
    await asyncio.to_thread(shutil.copy, ca_file, path)
    assert (await settings.context()).cert_store_stats()["x509_ca"] == 1


async def test_a_failure_that_nobody_waits_for_is_silent(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    gate = threading.Event()

    def build(*_: object) -> SSLContext:
        assert gate.wait(20)
        raise UsageError("verify: no")

    monkeypatch.setattr(tls, "build_context", build)
    settings = TLSSettings()
    waiting = asyncio.create_task(settings.context())
    await turns()
    waiting.cancel()
    await asyncio.wait([waiting])
    gate.set()
    await until(lambda: settings._building is None)
    gc.collect()
    assert not caplog.records


def test_a_context_left_over_from_a_loop_that_is_closed_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    gate = threading.Event()
    built = SSLContext(ssl.PROTOCOL_TLS_CLIENT)

    def build(*_: object) -> SSLContext:
        assert gate.wait(20)
        return built

    monkeypatch.setattr(tls, "build_context", build)
    settings = TLSSettings()

    async def give_up() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await settings.context()

    with closing(asyncio.new_event_loop()) as loop:
        loop.run_until_complete(give_up())
    gate.set()
    with closing(asyncio.new_event_loop()) as loop:
        assert loop.run_until_complete(asyncio.wait_for(settings.context(), 20)) is built


# What the environment says


@pytest.fixture
def system(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., None]:
    """Says where OpenSSL looks for this system's authorities; by default there are none."""

    def say(file: str | Path = tmp_path / "none.pem", folder: str | Path = tmp_path / "none") -> None:
        paths = ssl.get_default_verify_paths()._replace(openssl_cafile=str(file), openssl_capath=str(folder))
        monkeypatch.setattr("aiosock.network.tls.ssl.get_default_verify_paths", lambda: paths)
        shared_context.cache_clear()

    say()
    return say


async def trusts(server: Server, settings: TLSSettings) -> bool:
    try:
        stream = await dial(server, await settings.context())
    except TLSError:
        return False
    stream.close()
    return True


async def test_the_systems_authorities_are_trusted(
    server_context: SSLContext, ca_file: str, ca_folder: Path, tmp_path: Path, system: Callable[..., None]
) -> None:
    async with Server(linger, ssl=server_context) as server:
        assert not await trusts(server, TLSSettings())
        system(file=ca_file)
        assert await trusts(server, TLSSettings())
        system(folder=ca_folder)
        assert await trusts(server, TLSSettings())
        # A folder that is there, but empty, is as good as none.
        system(folder=tmp_path)
        assert not await trusts(server, TLSSettings())


async def test_where_the_system_has_no_authorities_those_of_certifi_are_trusted(
    system: Callable[..., None], ca_file: str, server_context: SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(certifi, "where", lambda: ca_file)
    async with Server(linger, ssl=server_context) as server:
        assert await trusts(server, TLSSettings())


async def test_on_windows_the_store_is_asked_first(
    system: Callable[..., None], ca_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aiosock.network.tls.sys.platform", "win32")
    stored: list[bytes] = []

    def load(context: SSLContext) -> None:
        for authority in stored:
            context.load_verify_locations(cadata=authority.decode())

    monkeypatch.setattr(SSLContext, "load_default_certs", load)
    monkeypatch.setattr(certifi, "where", lambda: ca_file)
    with_certifi = await asyncio.to_thread(build_context, True)
    stored.append(await asyncio.to_thread(lambda: Certificates().ca_pem))
    shared_context.cache_clear()
    with_store = await asyncio.to_thread(build_context, True)
    assert with_certifi.get_ca_certs() != with_store.get_ca_certs()
    assert len(with_certifi.get_ca_certs()) == len(with_store.get_ca_certs()) == 1


async def test_the_environment_adds_authorities_where_it_is_trusted(
    server_context: SSLContext,
    ca_file: str,
    ca_folder: Path,
    tmp_path: Path,
    system: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lists = f"{tmp_path}{os.pathsep}{ca_folder}"
    async with Server(linger, ssl=server_context) as server:
        for name, value in (("SSL_CERT_FILE", ca_file), ("SSL_CERT_DIR", str(ca_folder)), ("SSL_CERT_DIR", lists)):
            with monkeypatch.context() as patch:
                patch.setenv(name, value)
                assert await trusts(server, TLSSettings())
                assert not await trusts(server, TLSSettings(trust_env=False))
                # Whoever names the authorities does not mean those of the environment.
                other = await asyncio.to_thread(Certificates().write_ca, tmp_path / "other.pem")
                assert not await trusts(server, TLSSettings(verify=other))
            assert not await trusts(server, TLSSettings())


async def test_keys_are_logged_where_the_environment_asks_for_it_and_is_trusted(
    server_context: SSLContext, ca_file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "keys.log"
    monkeypatch.setenv("SSLKEYLOGFILE", str(log))
    async with Server(linger, ssl=server_context) as server:
        assert await trusts(server, TLSSettings(ca_file, trust_env=False))
        assert not await asyncio.to_thread(log.exists)
        assert await trusts(server, TLSSettings(ca_file))
        assert "CLIENT_TRAFFIC_SECRET_0" in await asyncio.to_thread(log.read_text)


async def test_a_key_log_that_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = str(tmp_path / "missing" / "keys.log")
    monkeypatch.setenv("SSLKEYLOGFILE", path)
    with pytest.raises(UsageError) as info:
        await TLSSettings(False).context()
    assert str(info.value) == f"SSLKEYLOGFILE: '{path}' cannot be written: No such file or directory"


# Sessions


@pytest.fixture
def resumed() -> list[bool | None]:
    """For each connection of `greet_and_tell`, whether the server resumed a session."""
    return []


@pytest.fixture
def greet_and_tell(resumed: list[bool | None]) -> Callable[[Peer], object]:
    async def script(peer: Peer) -> None:
        assert peer.ssl_object is not None
        resumed.append(peer.ssl_object.session_reused)
        await peer.send(b"hello")
        if await peer.read() == b"more":
            await peer.send(b" and more")
        await peer.wait_disconnect()

    return script


@pytest.mark.parametrize("version", ["TLS 1.2", "TLS 1.3"])
async def test_a_session_is_resumed(
    contexts: dict[str, SSLContext],
    version: str,
    client_context: SSLContext,
    resumed: list[bool | None],
    greet_and_tell: Callable[[Peer], object],
) -> None:
    sessions: list[ssl.SSLSession | None] = []
    async with Server(greet_and_tell, ssl=contexts[version]) as server:  # type: ignore[arg-type]
        first = await dial(server, client_context, on_session=lambda stream: sessions.append(stream.take_session()))
        assert sessions == []
        assert await first.read(math.inf) == b"hello"
        first.write(b"more")
        assert await first.read(math.inf) == b" and more"
        # Told once, and with the first data: by then the tickets are here.
        assert len(sessions) == 1
        session = sessions[0]
        assert session is not None
        first.close()
        second = await dial(server, client_context, session=session)
        assert await second.read(math.inf)
        assert second.info.session_reused
        assert resumed == [False, True]
        second.close()


async def test_a_session_of_another_context_is_a_tls_error(
    server_context: SSLContext, client_context: SSLContext, ca_file: str
) -> None:
    async with Server(greet, ssl=server_context) as server:
        first = await dial(server, client_context)
        await first.read(math.inf)
        session = first.take_session()
        first.close()
        with pytest.raises(TLSError, match="TLS with localhost cannot begin: .*different SSLContext"):
            await dial(server, await TLSSettings(ca_file).context(), session=session)
        # The stream below is closed all the same.
        await until(lambda: server.open_connections == 0)


async def test_without_tickets_there_is_no_session_worth_keeping(
    certificates: Certificates, client_context: SSLContext
) -> None:
    context = await asyncio.to_thread(certificates.server_context)
    context.num_tickets = 0
    async with connected(greet, context, client_context) as stream:
        await stream.read(math.inf)
        assert stream.take_session() is None


async def test_a_session_grows_old(server_context: SSLContext, client_context: SSLContext) -> None:
    async with connected(greet, server_context, client_context) as stream:
        await stream.read(math.inf)
        session = stream.take_session()
        assert session is not None
        assert is_live(session, session.time)
        assert is_live(session, session.time + session.timeout - 1)
        assert not is_live(session, session.time + session.timeout)


# Handshakes that fail


async def test_a_server_without_tls_is_told_in_clear_words(client_context: SSLContext) -> None:
    async def plain(peer: Peer) -> None:
        await peer.read()
        await peer.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await peer.wait_disconnect()

    async with Server(plain) as server:
        with pytest.raises(TLSError) as info:
            await dial(server, client_context)
        words = "localhost does not speak TLS on this port (plain HTTP, perhaps): it sent b'HTTP/1.1 400 Bad'"
        assert str(info.value) == words
        assert isinstance(info.value.__cause__, ssl.SSLError)


async def test_an_end_within_the_handshake_is_told_in_clear_words(client_context: SSLContext) -> None:
    async def leave(peer: Peer) -> None:
        await peer.read()

    async with Server(leave) as server:
        with pytest.raises(TLSError, match="^localhost closed the connection during the TLS handshake$"):
            await dial(server, client_context)


async def test_a_reset_within_the_handshake_is_told_in_clear_words(client_context: SSLContext) -> None:
    async def reset(peer: Peer) -> None:
        await peer.read()
        peer.reset()

    async with Server(reset) as server:
        words = r"^the TLS handshake with localhost broke off: reading from 127\.0\.0\.1:\d+ failed: Connection reset"
        with pytest.raises(TLSError, match=words) as info:
            await dial(server, client_context)
        assert isinstance(info.value.__cause__, ReadError)


async def test_an_alert_within_the_handshake_is_told_in_clear_words(contexts: dict[str, SSLContext]) -> None:
    def no_common_version() -> SSLContext:
        context = SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers("ECDHE-ECDSA-AES128-GCM-SHA256")
        return context

    async with Server(linger, ssl=contexts["TLS 1.3"]) as server:
        with pytest.raises(TLSError, match="^the TLS handshake with localhost failed: .*protocol version"):
            await dial(server, no_common_version())


async def test_a_name_that_cannot_be_asked_for_is_a_tls_error(
    server_context: SSLContext, client_context: SSLContext
) -> None:
    async with Server(linger, ssl=server_context) as server:
        for name in ("", ".example", "x" * 70 + ".example"):
            with pytest.raises(TLSError, match=f"^TLS with {name} cannot begin: "):
                await dial(server, client_context, name)
        with pytest.raises(TLSError, match="cannot begin: Cannot create a client socket"):
            await dial(server, server_context)


async def test_a_cancelled_handshake_closes_the_stream_below(client_context: SSLContext) -> None:
    left = asyncio.Event()

    async def silent(peer: Peer) -> None:
        await peer.wait_disconnect()
        left.set()

    async with Server(silent) as server:
        dialling = asyncio.create_task(dial(server, client_context))
        await until(lambda: server.connections)
        await turns()
        dialling.cancel()
        with pytest.raises(asyncio.CancelledError):
            await dialling
        async with asyncio.timeout(20):
            await left.wait()


# The last message of a handshake


async def begin_to_read(stream: TLSStream) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await stream.read(math.inf)


@pytest.mark.parametrize(
    "use",
    [
        lambda stream: stream.write(b"request"),
        begin_to_read,
        lambda stream: stream.read_ready(),
        lambda stream: stream.watch(lambda: None),
        lambda stream: stream.drain(),
        lambda stream: stream.close(),
    ],
    ids=["write", "read", "read_ready", "watch", "drain", "close"],
)
async def test_the_last_message_of_a_handshake_waits_for_the_first_use(
    contexts: dict[str, SSLContext], client_context: SSLContext, use: Callable[[TLSStream], object]
) -> None:
    greeted: list[Peer] = []

    async def greeting(peer: Peer) -> None:
        greeted.append(peer)
        await peer.wait_disconnect()

    async with Server(greeting, ssl=contexts["TLS 1.3"]) as server:
        inner = await connect_tcp("127.0.0.1", server.port)
        stream = await start_tls(inner, client_context, "localhost", request_follows=True)
        assert stream.info.tls_version == "TLSv1.3"
        await turns()
        assert not greeted
        used = use(stream)
        if isinstance(used, Awaitable):
            await used
        await until(lambda: greeted)
        stream.abort()


async def test_the_last_message_of_a_handshake_goes_with_a_request_that_departs_after_a_read_began(
    contexts: dict[str, SSLContext], client_context: SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def answer(peer: Peer) -> None:
        await peer.read()
        await peer.send(b"answer")

    async with Server(answer, ssl=contexts["TLS 1.3"]) as server:
        inner = await connect_tcp("127.0.0.1", server.port)
        stream = await start_tls(inner, client_context, "localhost", request_follows=True)
        sent: list[bytes] = []
        write = type(inner).write

        def note(self: Stream, data: bytes) -> None:
            sent.append(data)
            write(self, data)

        monkeypatch.setattr(type(inner), "write", note)
        asyncio.get_running_loop().call_soon(stream.write, b"request")
        assert await stream.read(math.inf) == b"answer"
        assert len(sent) == 1
        stream.abort()


# Reading


@wires(kinds=("tls",))
async def test_the_end_without_close_notify_is_truncation(wire: Wire) -> None:
    stream, peer = await wire.open()
    await peer.send(b"as far as it g")
    peer.cut()
    assert await stream.read(math.inf) == b"as far as it g"
    for _ in range(2):
        with pytest.raises(TruncatedStream, match=r"127\.0\.0\.1:\d+ ended without TLS close_notify"):
            await stream.read(math.inf)
        with pytest.raises(TruncatedStream):
            stream.read_ready()


@wires(kinds=("tls",))
async def test_many_records_come_in_one_read(wire: Wire) -> None:
    stream, peer = await wire.open()
    assert peer.ssl_object is not None
    for number in range(49):
        peer.ssl_object.write(b"%02d" % number)
    await peer.send(b"49")
    assert await stream.read(math.inf) == b"".join(b"%02d" % number for number in range(50))


@wires(kinds=("tls",))
async def test_more_than_one_read_may_give_waits_for_the_next(wire: Wire) -> None:
    stream, peer = await wire.open()

    async def flood() -> None:
        await peer.send(LARGE)
        await peer.close()

    sending = asyncio.create_task(flood())
    sizes = []
    while piece := await stream.read(math.inf):
        sizes.append(len(piece))
    await sending
    assert sum(sizes) == len(LARGE)
    assert max(sizes) < tls.MAX_READ_BYTES + tls.RECORD_BYTES


@wires(kinds=("tls",))
async def test_a_message_is_decrypted_in_one_step(wire: Wire) -> None:
    stream, peer = await wire.open()
    await turns()
    assert stream.read_ready() is None
    with openssl_reads() as reads:
        assert stream.read_ready() is None
        assert reads == []
        await peer.send(b"hello")
        await turns()
        assert await stream.read(math.inf) == b"hello"
        assert stream.read_ready() is None
        # OpenSSL is not asked whether there is more where nothing more was received.
        assert len(reads) == 1


@contextmanager
def openssl_reads() -> Iterator[list[object]]:
    """Note each time that this thread asks a client's side of TLS for data; the tests' server has frames of its own."""
    reads: list[object] = []

    def note(frame: FrameType, event: str, function: object) -> None:
        called = getattr(function, "__qualname__", "")
        if event == "c_call" and called == "_SSLSocket.read" and is_clients(frame):
            reads.append(function)

    def is_clients(frame: FrameType) -> bool:
        tls_object = frame.f_locals["self"]
        return isinstance(tls_object, ssl.SSLObject) and not tls_object.server_side

    sys.setprofile(note)
    try:
        yield reads
    finally:
        sys.setprofile(None)


@wires(kinds=("tls",))
async def test_streams_that_decrypt_at_the_same_time_do_not_mix(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    first, first_peer = await wire.open()
    second, second_peer = await wire.open()
    assert isinstance(first, TLSStream)
    read = first._read_into
    found: list[bytes | None] = []

    def read_while_another_thread_reads(size: int, buffer: memoryview) -> int:
        count = read(size, buffer)
        found.append(second.read_ready())
        return count

    monkeypatch.setattr(first, "_read_into", read_while_another_thread_reads)
    await first_peer.send(b"for the first")
    await second_peer.send(b"for the other")
    await turns()
    assert await first.read(math.inf) == b"for the first"
    assert b"for the other" in found


@wires(kinds=("tls",))
async def test_tickets_on_an_idle_connection_are_not_data_but_data_is(wire: Wire) -> None:
    stream, peer = await wire.open()
    # The server has sent its tickets with the end of the handshake.
    await turns()
    assert stream.read_ready() is None
    await peer.send(b"unasked")
    assert await arrived(stream) == b"unasked"
    assert stream.read_ready() is None
    await peer.close()
    assert await arrived(stream) == b""


@wires(kinds=("tls",))
async def test_a_fault_comes_after_the_data_before_it(wire: Wire) -> None:
    stream, peer = await wire.open()
    await peer.send(b"whole")
    await peer._socket.send(b"\x17\x03\x03\x00\x20" + bytes(32))  # a record that nobody encrypted
    await turns()
    assert await stream.read(math.inf) == b"whole"
    for _ in range(2):
        with pytest.raises(ReadError, match="^TLS with localhost failed: .*bad record mac"):
            await stream.read(math.inf)
    with pytest.raises(ReadError):
        stream.read_ready()
    # The peer is told why.
    with pytest.raises(ConnectionAbortedError, match=r"(?i)bad.record.mac"):
        await peer.read()


@wires(kinds=("tls",))
async def test_a_fault_alone_is_a_read_error(wire: Wire) -> None:
    stream, peer = await wire.open()
    await peer._socket.send(b"rubbish, all of it")
    with pytest.raises(ReadError, match="^TLS with localhost failed: ") as info:
        await stream.read(math.inf)
    assert isinstance(info.value.__cause__, ssl.SSLError)
    stream.write(b"x")
    failure = stream.write_error
    assert isinstance(failure, WriteError)
    assert isinstance(failure.__cause__, ssl.SSLError)
    with pytest.raises(WriteError, match="^TLS with localhost failed: "):
        await stream.drain()
    stream.write(b"y")
    assert stream.write_error is failure


@wires(kinds=("tls",))
async def test_a_fault_keeps_nothing_alive(wire: Wire) -> None:
    gc.collect()
    gc.disable()
    try:
        stream, peer = await wire.open()
        wire.streams.clear()
        await peer._socket.send(b"rubbish, all of it")
        await broken(stream)
        sock = weakref.ref(wire.socket_of(stream)._sock)  # type: ignore[attr-defined]
        stream.abort()
        del stream
        await turns()
        assert sock() is None
    finally:
        gc.enable()


async def broken(stream: Stream) -> None:
    with pytest.raises(ReadError):
        await stream.read(math.inf)


# Writing, and the end


async def read_tickets(stream: Stream, peer: Peer) -> None:
    """Leave nothing unread, because a socket with unread bytes is closed by a reset."""
    await peer.send(b"hello")
    assert await stream.read(math.inf) == b"hello"


@wires(kinds=("tls",))
async def test_closing_says_goodbye(wire: Wire) -> None:
    stream, peer = await wire.open()
    await read_tickets(stream, peer)
    stream.write(b"last words")
    stream.close()
    stream.close()
    assert await receive(peer, 100) == b"last words"
    assert peer.ssl_object is not None
    # The server has seen the client's close_notify, and not only the end of file.
    assert peer.ssl_object.read(1) == b""


@wires(kinds=("tls",))
async def test_an_abort_says_no_goodbye(wire: Wire) -> None:
    stream, peer = await wire.open()
    await read_tickets(stream, peer)
    stream.write(b"last words")
    stream.abort()
    stream.close()
    assert await receive(peer, 100) == b"last words"
    assert peer.ssl_object is not None
    with pytest.raises(ssl.SSLWantReadError):
        peer.ssl_object.read(1)


@wires(kinds=("tls",))
async def test_closing_with_unsent_bytes_does_not_wait_for_them(wire: Wire) -> None:
    stream, _ = await wire.open()
    stream.write(LARGE)
    assert stream.unsent
    stream.close()
    assert not stream.unsent
    with pytest.raises(ReadError, match="closed on this side"):
        await stream.read(math.inf)


@wires(kinds=("tls",))
async def test_a_goodbye_of_both_is_the_end(wire: Wire) -> None:
    stream, peer = await wire.open()
    assert isinstance(stream, TLSStream)
    await peer.close()
    # As in `close`, but reading goes on.
    with pytest.raises(ssl.SSLError):
        stream._tls.unwrap()
    assert await stream.read(math.inf) == b""


@wires(kinds=("tls",))
async def test_a_limit_reaches_the_stream_below(wire: Wire) -> None:
    stream, _ = await wire.open()
    stream.write(LARGE)
    stream.limit_writes(0.02, math.inf)
    with pytest.raises(WriteTimeout):
        await stream.drain()
    assert isinstance(stream.write_error, WriteTimeout)


# TLS inside TLS


async def test_tls_inside_tls(contexts: dict[str, SSLContext], client_context: SSLContext) -> None:
    goodbyes: list[str] = []

    async def tunnel(peer: Peer) -> None:
        assert await peer.read() == b"let me through"
        await peer.send(b"go on")
        await peer.start_tls(contexts["other name"])
        received = bytearray()
        while data := await peer.read():
            received += data
        await peer.send(bytes(received))
        goodbyes.append("seen")

    async with Server(tunnel, ssl=contexts["good"]) as server:
        outer = await dial(server, client_context)
        outer.write(b"let me through")
        assert await outer.read(math.inf) == b"go on"
        with_both = await start_tls(outer, client_context, "other.example")
        assert with_both.info.tls_version == "TLSv1.3"
        assert with_both.info.remote_address == outer.info.remote_address
        sending = asyncio.create_task(send_and_finish(with_both, LARGE))
        assert await read_all(with_both) == LARGE
        await sending
        with_both.close()
        await until(lambda: goodbyes)


async def send_and_finish(stream: TLSStream, data: bytes) -> None:
    stream.write(data)
    await stream.drain()
    # Half a goodbye: reading goes on.
    with pytest.raises(ssl.SSLError):
        stream._tls.unwrap()
    stream._flush()


async def test_tls_inside_tls_verifies_the_inner_name(
    contexts: dict[str, SSLContext], client_context: SSLContext
) -> None:
    async def tunnel(peer: Peer) -> None:
        with pytest.raises(ssl.SSLError):
            await peer.start_tls(contexts["other name"])

    async with Server(tunnel, ssl=contexts["good"]) as server:
        outer = await dial(server, client_context)
        with pytest.raises(TLSError, match=r"the certificate of right\.example is not trusted: Hostname mismatch"):
            await start_tls(outer, client_context, "right.example")
        with pytest.raises(ReadError, match="closed on this side"):
            await outer.read(math.inf)


async def test_a_file_that_was_replaced_is_read_again(certificates: Certificates, tmp_path: Path) -> None:
    path = tmp_path / "ca.pem"
    await asyncio.to_thread(certificates.write_ca, path)
    first = await TLSSettings(path).context()
    assert await TLSSettings(path).context() is first
    await asyncio.to_thread(Certificates().write_ca, path)
    assert await TLSSettings(path).context() is not first
