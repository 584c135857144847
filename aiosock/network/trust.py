"""
Whom a client trusts over TLS and what it shows of itself: its settings, and the context that is made of them.
"""

from __future__ import annotations

import asyncio
import os
import ssl
import sys
from functools import lru_cache
from typing import Final, NamedTuple, TypeAlias

from aiosock.errors import UsageError
from aiosock.network.fault import describe_tls
from aiosock.network.threads import daemon_threads

ALPN: Final = ("http/1.1",)

Verify: TypeAlias = bool | str | os.PathLike[str] | ssl.SSLContext
Cert: TypeAlias = str | os.PathLike[str] | tuple[str | os.PathLike[str] | None, ...]


class CertParts(NamedTuple):
    """A client certificate: the PEM file, the file of the key where that is another, and the key's password."""

    certificate: str
    key: str | None
    password: str | None


class TLSSettings:
    """
    How a client trusts and shows itself; its identity stands for the context that is made of it, once.

    Args:
        verify: True for the system's trust, False for none at all, the path of a CA file or directory, or a
            context, which is used as it is.
        cert: The client certificate: a PEM file with certificate and key, or (certificate, key) or
            (certificate, key, password); key and password may be None.
        trust_env: Heed SSL_CERT_FILE, SSL_CERT_DIR and SSLKEYLOGFILE.

    Raises:
        UsageError: A value of another kind, or ``cert`` beside a context. A file that cannot be used is found out
            when the context is built.
    """

    def __init__(self, verify: Verify = True, cert: Cert | None = None, trust_env: bool = True) -> None:
        self._context = verify if isinstance(verify, ssl.SSLContext) else None
        self._building: asyncio.Future[ssl.SSLContext] | None = None
        self._given = verify
        self._trust_env = trust_env
        if self._context is not None:
            if cert is not None:
                raise UsageError("cert: load the certificate into the context that you give as verify")
            return
        if not isinstance(verify, bool):
            verify = _path("verify", verify)
        self._verify: bool | str = verify
        self._cert = _cert_parts(cert) if cert is not None else None

    def for_hop(self, verify: Verify | None, cert: Cert | None) -> TLSSettings:
        """
        Return the settings for a hop on the way to the server, a proxy: its client certificate is never this one.

        Args:
            verify: How that hop is trusted, None for the way in which the server is.
            cert: What is shown to that hop.

        Raises:
            UsageError: As for making settings.
        """
        return TLSSettings(self._given if verify is None else verify, cert, self._trust_env)

    async def context(self) -> ssl.SSLContext:
        """
        Return the context, built off the loop when it is first asked for.

        Raises:
            UsageError: A certificate file that cannot be used.
        """
        if self._context is not None:
            return self._context
        building = self._building
        # One of another loop is left over: that loop was closed before the context was there.
        if building is None or building.get_loop() is not asyncio.get_running_loop():
            building = self._building = daemon_threads.run(self._build)
            building.add_done_callback(self._settle)
        # Waited for and not awaited: other connections wait for the same context.
        await asyncio.wait([building])
        try:
            return building.result()
        except UsageError as error:
            # A fresh object for everyone who is told.
            raise UsageError(*error.args) from error.__cause__

    def _settle(self, building: asyncio.Future[ssl.SSLContext]) -> None:
        self._building = None
        if building.exception() is None:
            self._context = building.result()

    def _build(self) -> ssl.SSLContext:
        trusted = tuple(os.environ.get(name) for name in _ENVIRONMENT) if self._trust_env else None
        if self._cert is not None:
            # A key and its password are not kept for longer than their client.
            return build_context(self._verify, self._cert, trusted)
        paths = [path for path in (self._verify, *(trusted or ())[:2]) if isinstance(path, str)]
        return shared_context(self._verify, trusted, tuple(_signature(path) for path in paths))


_ENVIRONMENT: Final = ("SSL_CERT_FILE", "SSL_CERT_DIR", "SSLKEYLOGFILE")


def _cert_parts(cert: Cert) -> CertParts:
    parts: tuple[object, ...] = cert if isinstance(cert, tuple) else (cert,)
    if not 1 <= len(parts) <= 3:
        raise UsageError("cert: takes a path, (certificate, key) or (certificate, key, password)")
    certificate, key, password = (*parts, None, None)[:3]
    if not isinstance(password, str | None):
        # Of what kind, but not what: it may be the secret all the same.
        raise UsageError(f"cert: the password is a str, not {type(password).__name__}")
    return CertParts(_path("cert", certificate), _path("cert", key) if key is not None else None, password)


def _path(name: str, value: object) -> str:
    if isinstance(value, (str, os.PathLike)) and isinstance(path := os.fspath(value), str):
        return path
    raise UsageError(f"{name}: not a value that can be used: {type(value).__name__}")


def build_context(
    verify: bool | str,
    cert: CertParts | None = None,
    environment: tuple[str | None, ...] | None = None,
) -> ssl.SSLContext:
    """
    Return a client context; blocking, as it reads certificates.

    Args:
        verify: True, False, or the path of a CA file or directory.
        cert: The client certificate.
        environment: The values of SSL_CERT_FILE, SSL_CERT_DIR and SSLKEYLOGFILE; None to heed none of them.

    Raises:
        UsageError: A file that cannot be used; the message names it.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.set_alpn_protocols(list(ALPN))
    if ssl.HAS_NEVER_CHECK_COMMON_NAME:
        # RFC 9110, 4.3.4: what a certificate has for a host's name stands in subjectAltName.
        context.hostname_checks_common_name = False
    if verify is False:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif verify is True:
        cert_file, cert_dir = environment[:2] if environment is not None else (None, None)
        _trust_system(context, cert_file or None, cert_dir or None)
    else:
        _load_trust(context, verify, directory=os.path.isdir(verify))
    if cert is not None:
        try:
            # Without a callback, OpenSSL would ask for the password on the terminal.
            context.load_cert_chain(cert.certificate, cert.key, cert.password or _no_password)
        except (OSError, ValueError, TypeError) as error:
            words = describe_tls(error)
            if words == "PEM lib":  # All that OpenSSL has to say.
                words = "no certificate with its key could be read"
            raise UsageError(f"cert: {cert.certificate!r} cannot be used: {words}") from error
    if environment is not None and environment[2]:
        try:
            context.keylog_filename = environment[2]
        except OSError as error:
            raise UsageError(f"SSLKEYLOGFILE: {environment[2]!r} cannot be written: {describe_tls(error)}") from error
    return context


def _no_password() -> str:
    raise ValueError("the key is encrypted, and there is no password for it")


# Loading the system's certificates costs tens of milliseconds: clients with the same settings share one context, which
# nobody changes after it is built.
@lru_cache(maxsize=32)
def shared_context(
    verify: bool | str, environment: tuple[str | None, ...] | None, files: tuple[tuple[int, int, int] | None, ...]
) -> ssl.SSLContext:
    """Return a context without a client certificate, the same one as long as the files are the same."""
    return build_context(verify, None, environment)


def _signature(path: str) -> tuple[int, int, int] | None:
    """Return what tells a file from one that took its place, None where it is not there."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size


def _trust_system(context: ssl.SSLContext, cert_file: str | None, cert_dir: str | None) -> None:
    """Trust what OpenSSL finds on this system or the environment names, certifi's authorities where that is nothing."""
    if sys.platform == "win32":
        context.load_default_certs()
        if context.cert_store_stats()["x509_ca"]:
            return
    paths = ssl.get_default_verify_paths()
    directory = cert_dir or paths.openssl_capath
    found = False
    if cert_file:
        # Whoever names a file does not mean those of somebody else, should it not be there.
        _load_trust(context, cert_file, directory=False, named="SSL_CERT_FILE")
        found = True
    elif paths.openssl_cafile and os.path.isfile(paths.openssl_cafile):
        _load_trust(context, paths.openssl_cafile, directory=False)
        found = True
    # OpenSSL takes a list of directories here, as SSL_CERT_DIR may hold one.
    if directory and any(os.path.isdir(path) and os.listdir(path) for path in directory.split(os.pathsep)):
        _load_trust(context, directory, directory=True)
        found = True
    if found:
        return
    if cert_dir:
        raise UsageError(f"SSL_CERT_DIR: {cert_dir!r} holds no certificate, and this system has none by default")
    import certifi

    _load_trust(context, certifi.where(), directory=False)


def _load_trust(context: ssl.SSLContext, path: str, *, directory: bool, named: str = "verify") -> None:
    try:
        if directory:
            context.load_verify_locations(capath=path)
        else:
            context.load_verify_locations(cafile=path)
    except (OSError, ValueError) as error:
        raise UsageError(f"{named}: {path!r} holds no certificate that can be used: {describe_tls(error)}") from error
