"""
Certificates for tests: an authority of one's own, and TLS contexts and files that come from it.

Nothing here belongs in a program: the keys are made on the spot, kept in memory, and written to temporary
files, since ``ssl`` reads them from files alone. That blocks for some milliseconds; make contexts outside of
the event loop, in a fixture, say. It needs the library trustme, imported when the first certificate is made.
"""

from __future__ import annotations

import datetime
import os
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import trustme

DEFAULT_NAMES = ("localhost", "127.0.0.1", "::1")
DAY = datetime.timedelta(days=1)


@dataclass(frozen=True, slots=True)
class ClientCertificate:
    """
    A certificate that a client can show.

    Attributes:
        certificate_pem: The certificate.
        key_pem: Its private key, not encrypted.
    """

    certificate_pem: bytes
    key_pem: bytes

    def write(self, folder: str | os.PathLike[str]) -> tuple[str, str]:
        """Write both into a folder and return their paths: certificate, key."""
        certificate, key = Path(folder, "client.pem"), Path(folder, "client.key")
        certificate.write_bytes(self.certificate_pem)
        key.touch(mode=0o600)
        key.write_bytes(self.key_pem)
        return str(certificate), str(key)


class Certificates:
    """
    A certificate authority, and what it has signed.

    Two of them do not trust each other: for an unknown authority, make another one.

    Raises:
        ImportError: On first use, when trustme is not installed.
    """

    @cached_property
    def _ca(self) -> trustme.CA:
        try:
            import trustme
        except ImportError as error:
            raise ImportError(
                "certificates for tests need trustme, a part of the extra 'cli': pip install 'aiosock-http[cli]'"
            ) from error
        return trustme.CA()

    @property
    def ca_pem(self) -> bytes:
        """The authority's certificate, for a client to trust."""
        return self._ca.cert_pem.bytes()

    def write_ca(self, path: str | os.PathLike[str]) -> str:
        """Write the authority's certificate into a file and return its path."""
        Path(path).write_bytes(self.ca_pem)
        return str(path)

    def server_context(
        self,
        *names: str,
        expired: bool = False,
        client_ca: Certificates | bool | None = None,
        alpn: Sequence[str] | None = ("http/1.1",),
        tls_version: ssl.TLSVersion | None = None,
    ) -> ssl.SSLContext:
        """
        Return a context for a server with a new certificate.

        Args:
            names: The host names and IP addresses on it; by default localhost, 127.0.0.1 and ::1.
            expired: It ran out yesterday.
            client_ca: Demand a client's certificate, signed by that authority or, if True, by this one.
            alpn: The protocols that the server speaks, the best first; None leaves ALPN out.
            tls_version: Speak this version only.
        """
        now = datetime.datetime.now(datetime.UTC)
        certificate = self._ca.issue_cert(
            *(names or DEFAULT_NAMES),
            not_before=now - 30 * DAY,
            not_after=now - DAY if expired else now + 30 * DAY,
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        certificate.configure_cert(context)
        if client_ca:
            authority = self if client_ca is True else client_ca
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(cadata=authority.ca_pem.decode("ascii"))
        if alpn is not None:
            context.set_alpn_protocols(list(alpn))
        if tls_version is not None:
            context.minimum_version = context.maximum_version = tls_version
        return context

    def client_context(self) -> ssl.SSLContext:
        """Return a context for a client that trusts this authority and no other."""
        return ssl.create_default_context(cadata=self.ca_pem.decode("ascii"))

    def client_certificate(self, name: str = "client.example") -> ClientCertificate:
        """Return a new certificate for a client, signed by this authority, with that host name on it."""
        certificate = self._ca.issue_cert(name)
        chain = b"".join(pem.bytes() for pem in certificate.cert_chain_pems)
        return ClientCertificate(chain, certificate.private_key_pem.bytes())
