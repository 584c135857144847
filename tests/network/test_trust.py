"""
Whom a client trusts and what it shows of itself: the settings, and the contexts made of them.
"""

from __future__ import annotations

import asyncio
import gc
import math
import os
import shutil
import ssl
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from ssl import SSLContext

import certifi
import pytest

from aiosock.errors import TLSError, UsageError
from aiosock.network import trust
from aiosock.network.trust import TLSSettings, build_context, shared_context
from aiosock.testing import Certificates, Server
from tests.network.secure import connected, dial, greet, linger, openssl
from tests.network.wire import turns, until


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


async def test_a_common_name_is_no_name_of_a_host(tmp_path: Path) -> None:
    # RFC 9110, 4.3.4: names stand in subjectAltName alone.
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    command = (
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
        "-subj",
        "/CN=localhost",
    )
    await asyncio.to_thread(openssl, *command, "-keyout", key, "-out", certificate)
    server_context = await asyncio.to_thread(ssl.SSLContext, ssl.PROTOCOL_TLS_SERVER)
    await asyncio.to_thread(server_context.load_cert_chain, certificate, key)
    async with Server(greet, ssl=server_context) as server:
        with pytest.raises(TLSError, match="the certificate of localhost is not trusted: Hostname mismatch") as info:
            await dial(server, await TLSSettings(certificate).context())
        assert str(info.value).endswith("(its common name does not count, its subjectAltName does)")
        # A context of the user's may see that otherwise.
        context = await asyncio.to_thread(ssl.create_default_context, cafile=certificate)
        (await dial(server, await TLSSettings(context).context())).abort()
        assert context.hostname_checks_common_name
        with pytest.raises(TLSError) as info:
            await dial(server, context, "other.example")
        assert "common name" not in str(info.value)


async def test_a_context_of_the_users_is_used_as_it_is(client_context: SSLContext) -> None:
    settings = TLSSettings(verify=client_context)
    assert await settings.context() is client_context


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
    certificate, key = client_files
    for cert in (
        client_files,
        one_file,
        Path(one_file),
        (one_file,),
        (one_file, None),
        (certificate, key, None),
        (certificate, locked_key, "secret"),
    ):
        context = await TLSSettings(verify=ca_file, cert=cert).context()
        async with connected(greet, contexts["wants a certificate"], context) as stream:
            assert await stream.read(math.inf) == b"hello"


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
        (
            (certificate, locked_key, None),
            f"cert: '{certificate}' cannot be used: the key is encrypted, and there is no",
        ),
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


@pytest.mark.parametrize("password", [b"secret", 5, Path("secret")], ids=lambda value: type(value).__name__)
def test_a_password_of_a_wrong_kind_is_refused_and_not_shown(password: object) -> None:
    with pytest.raises(UsageError) as info:
        TLSSettings(cert=("a.pem", "b.pem", password))  # type: ignore[arg-type]  # that is the mistake
    assert str(info.value) == f"cert: the password is a str, not {type(password).__name__}"


async def test_a_path_that_no_system_takes_is_named() -> None:
    for verify in ("", "a\0b"):
        with pytest.raises(UsageError, match="^verify: .* holds no certificate that can be used"):
            await TLSSettings(verify).context()


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

    monkeypatch.setattr(trust, "build_context", build)
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

    monkeypatch.setattr(trust, "build_context", build)
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

    monkeypatch.setattr(trust, "build_context", build)
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

    monkeypatch.setattr(trust, "build_context", build)
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
        monkeypatch.setattr("aiosock.network.trust.ssl.get_default_verify_paths", lambda: paths)
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
    monkeypatch.setattr("aiosock.network.trust.sys.platform", "win32")
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


async def test_authorities_that_the_environment_names_and_that_are_not_there_have_no_stand_in(
    ca_file: str,
    client_files: tuple[str, str],
    tmp_path: Path,
    system: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    missing, key = str(tmp_path / "missing"), client_files[1]
    for default, variables, words in (
        (
            ca_file,
            {"SSL_CERT_FILE": missing},
            f"SSL_CERT_FILE: '{missing}' holds no certificate that can be used: No such",
        ),
        (
            ca_file,
            {"SSL_CERT_FILE": key},
            f"SSL_CERT_FILE: '{key}' holds no certificate that can be used: no certificate",
        ),
        (
            missing,
            {"SSL_CERT_DIR": missing},
            f"SSL_CERT_DIR: '{missing}' holds no certificate, and this system has none",
        ),
    ):
        system(file=default)
        with monkeypatch.context() as patch:
            for name, value in variables.items():
                patch.setenv(name, value)
            with pytest.raises(UsageError) as info:
                await TLSSettings().context()
            assert str(info.value).startswith(words)
            # Whoever does not heed the environment is not concerned, nor is who names authorities.
            await TLSSettings(trust_env=False).context()
            await TLSSettings(verify=ca_file).context()


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


async def test_a_file_that_was_replaced_is_read_again(certificates: Certificates, tmp_path: Path) -> None:
    path = tmp_path / "ca.pem"
    await asyncio.to_thread(certificates.write_ca, path)
    first = await TLSSettings(path).context()
    assert await TLSSettings(path).context() is first
    await asyncio.to_thread(Certificates().write_ca, path)
    assert await TLSSettings(path).context() is not first
