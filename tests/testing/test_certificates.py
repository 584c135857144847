"""Contexts and files that come from the test authority are accepted, and refused, where they should be."""

from __future__ import annotations

import os
import ssl
import stat
import sys
from pathlib import Path
from typing import Any

import pytest

from aiosock.testing import Certificates


def shake_hands(
    server: ssl.SSLContext, client: ssl.SSLContext, name: str = "localhost"
) -> tuple[ssl.SSLObject, ssl.SSLObject]:
    """Let a server and a client shake hands in memory; return both ends."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = (
        server.wrap_bio(to_server, to_client, server_side=True),
        client.wrap_bio(to_client, to_server, server_hostname=name),
    )
    waiting = set(ends)
    for _ in range(10):
        for end in sorted(waiting, key=ends.index, reverse=True):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
            waiting.discard(end)
    assert not waiting
    return ends


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1", "::1"])
def test_the_default_names_are_those_of_loopback(certificates: Certificates, name: str) -> None:
    shake_hands(certificates.server_context(), certificates.client_context(), name)


def test_other_names_stand_in_place_of_the_default_ones(certificates: Certificates) -> None:
    server = certificates.server_context("a.example", "*.b.example", "192.0.2.1")
    for name in ("a.example", "x.b.example", "192.0.2.1"):
        shake_hands(server, certificates.client_context(), name)
    with pytest.raises(ssl.SSLCertVerificationError, match="not valid for 'localhost'"):
        shake_hands(server, certificates.client_context())


def test_an_expired_certificate_is_refused_as_expired(certificates: Certificates) -> None:
    with pytest.raises(ssl.SSLCertVerificationError, match="expired"):
        shake_hands(certificates.server_context(expired=True), certificates.client_context())


def test_authorities_do_not_know_each_other(certificates: Certificates) -> None:
    for stranger in (Certificates().client_context(), ssl.create_default_context()):
        with pytest.raises(ssl.SSLCertVerificationError, match=r"self-signed|unable to get local issuer"):
            shake_hands(certificates.server_context(), stranger)


def test_alpn_is_what_was_asked_for(certificates: Certificates) -> None:
    client = certificates.client_context()
    client.set_alpn_protocols(["h2", "http/1.1"])

    def chosen(**options: Any) -> str | None:
        return shake_hands(certificates.server_context(**options), client)[1].selected_alpn_protocol()

    assert chosen() == "http/1.1"
    assert chosen(alpn=["h2", "http/1.1"]) == "h2"
    assert chosen(alpn=None) is None


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_the_tls_version_can_be_fixed(certificates: Certificates, version: ssl.TLSVersion) -> None:
    server, client = shake_hands(certificates.server_context(tls_version=version), certificates.client_context())
    assert server.version() == client.version() == version.name.replace("_", ".")


def test_the_authority_can_be_trusted_from_bytes_and_from_a_file(certificates: Certificates, tmp_path: Path) -> None:
    path = certificates.write_ca(tmp_path / "ca.pem")
    for context in (
        ssl.create_default_context(cafile=path),
        ssl.create_default_context(cadata=certificates.ca_pem.decode()),
    ):
        shake_hands(certificates.server_context(), context)


def test_a_client_certificate_is_demanded_and_checked(certificates: Certificates, tmp_path: Path) -> None:
    # Only in TLS 1.2 does the server judge the client before the handshake is over for both.
    server = certificates.server_context(client_ca=True, tls_version=ssl.TLSVersion.TLSv1_2)
    with pytest.raises(ssl.SSLError, match="did not return a certificate"):
        shake_hands(server, certificates.client_context())

    client = certificates.client_context()
    client.load_cert_chain(*Certificates().client_certificate().write(tmp_path))
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(server, client)

    client = certificates.client_context()
    client.load_cert_chain(*certificates.client_certificate("me.example").write(tmp_path))
    [shown, _] = shake_hands(server, client)
    assert (shown.getpeercert() or {})["subjectAltName"] == (("DNS", "me.example"),)


def test_clients_may_come_from_another_authority(certificates: Certificates, tmp_path: Path) -> None:
    other = Certificates()
    client = certificates.client_context()
    client.load_cert_chain(*other.client_certificate().write(tmp_path))
    shake_hands(certificates.server_context(client_ca=other), client)


def test_a_private_key_is_private(certificates: Certificates, tmp_path: Path) -> None:
    _, key = certificates.client_certificate().write(tmp_path)
    assert stat.S_IMODE(os.stat(key).st_mode) == 0o600


def test_without_trustme_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "trustme", None)
    certificates = Certificates()
    with pytest.raises(ImportError, match=r"aiosock-http\[cli\]"):
        certificates.server_context()
