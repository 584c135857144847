"""
Proxies that nobody wrote for these tests, each a process of its own on loopback: squid, tinyproxy, microsocks, dante,
twisted.

They run without privileges, in the foreground, in a folder of their own that goes when they do.
"""

from __future__ import annotations

import hashlib
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from aiosock.testing import Certificates
from tests.kit.nginx import free_ports, wait_until_open

USER, PASSWORD, REALM = "user", "password", "proxies"

SQUID = """
http_port 127.0.0.1:{plain}
{tls}
{authentication}
acl ours {ours}
http_access allow ours
http_access deny all
cache deny all
max_filedescriptors 1024
access_log none
cache_store_log none
cache_log {folder}/squid.log
coredump_dir {folder}
pid_filename none
netdb_filename none
pinger_enable off
visible_hostname localhost
shutdown_lifetime 0 seconds
"""

SQUID_AUTHENTICATION = """
auth_param {scheme} program {helper} {folder}/users
auth_param {scheme} realm {realm}
auth_param {scheme} children 1 startup=0 idle=1
"""

TINYPROXY = """
Listen 127.0.0.1
Port {port}
LogFile "{folder}/tinyproxy.log"
PidFile "{folder}/tinyproxy.pid"
Timeout 60
MaxClients 100
DisableViaHeader Yes
{authentication}
"""

DANTE = """
errorlog: {folder}/error.log
logoutput: {folder}/dante.log
internal: 127.0.0.1 port = {port}
external: 127.0.0.1
clientmethod: none
socksmethod: none
client pass {{ from: 127.0.0.0/8 to: 127.0.0.0/8 }}
socks pass {{ from: 127.0.0.0/8 to: 127.0.0.0/8 }}
"""


@dataclass(frozen=True)
class RunningProxy:
    """
    A running proxy.

    Attributes:
        addresses: Where it listens, host and port, by the schemes that it speaks.
    """

    addresses: dict[str, str]

    def url(self, scheme: str, *, user: str = "", password: str = "") -> str:
        """Return its URL, maybe with user and password."""
        return f"{scheme}://{f'{user}:{password}@' if user else ''}{self.addresses[scheme]}"


def require(program: str, folders: str = "/usr/sbin:/usr/local/sbin") -> str:
    """Return a program's path; skip the test where there is none, and fail it where CI has to have one."""
    path = shutil.which(program) or shutil.which(program, path=folders)
    if path is None:
        if os.environ.get("AIOSOCK_CI"):
            pytest.fail(f"{program} is not installed, and CI must not skip its tests")
        pytest.skip(f"{program} is not installed")
    return path


@contextmanager
def running_squid(certificates: Certificates, scheme: str | None = None) -> Iterator[RunningProxy]:
    """
    Run squid as long as the block lasts: an HTTP and an HTTPS proxy, which keep connections.

    Args:
        certificates: Who issues the certificate of the HTTPS proxy.
        scheme: How it wants to know who asks: ``"basic"``, ``"digest"``, or not at all.
    """
    program = require("squid")
    helpers = {
        "basic": ("basic_ncsa_auth", f"{USER}:{_md5(PASSWORD)}\n"),
        "digest": ("digest_file_auth -c", f"{USER}:{REALM}:{_md5(f'{USER}:{REALM}:{PASSWORD}')}\n"),
    }
    plain, tls = free_ports(2)
    with _folder() as folder:
        issued = certificates._ca.issue_cert("localhost", "127.0.0.1")
        issued.private_key_pem.write_to_path(str(folder / "key.pem"))
        for number, blob in enumerate(issued.cert_chain_pems):
            blob.write_to_path(str(folder / "cert.pem"), append=number > 0)
        authentication = ""
        if scheme is not None:
            name, users = helpers[scheme]
            (folder / "users").write_text(users)
            helper = require(name.split()[0], "/usr/lib/squid:/usr/lib64/squid:/usr/libexec/squid")
            authentication = SQUID_AUTHENTICATION.format(
                scheme=scheme, helper=" ".join([helper, *name.split()[1:]]), folder=folder, realm=REALM
            )
        configuration = SQUID.format(
            plain=plain,
            tls=f"https_port 127.0.0.1:{tls} tls-cert={folder}/cert.pem tls-key={folder}/key.pem",
            authentication=authentication,
            ours="src 127.0.0.0/8" if scheme is None else "proxy_auth REQUIRED",
            folder=folder,
        )
        (folder / "squid.conf").write_text(configuration)
        # It needs two seconds to go when asked, and has nothing to put in order.
        with _running([program, "-N", "-f", str(folder / "squid.conf")], folder, plain, stop=subprocess.Popen.kill):
            yield RunningProxy({"http": f"127.0.0.1:{plain}", "https": f"127.0.0.1:{tls}"})


@contextmanager
def running_tinyproxy(*, authenticated: bool = False) -> Iterator[RunningProxy]:
    """Run tinyproxy as long as the block lasts: an HTTP proxy that keeps no connections."""
    program = require("tinyproxy")
    (port,) = free_ports(1)
    with _folder() as folder:
        authentication = f"BasicAuth {USER} {PASSWORD}" if authenticated else ""
        configuration = TINYPROXY.format(port=port, folder=folder, authentication=authentication)
        (folder / "tinyproxy.conf").write_text(configuration)
        with _running([program, "-d", "-c", str(folder / "tinyproxy.conf")], folder, port):
            yield RunningProxy({"http": f"127.0.0.1:{port}"})


@contextmanager
def running_microsocks(*, authenticated: bool = False) -> Iterator[RunningProxy]:
    """Run microsocks as long as the block lasts: SOCKS5."""
    program = require("microsocks")
    (port,) = free_ports(1)
    credentials = ["-u", USER, "-P", PASSWORD] if authenticated else []
    with _folder() as folder, _running([program, "-i", "127.0.0.1", "-p", str(port), *credentials], folder, port):
        yield RunningProxy(dict.fromkeys(("socks5", "socks5h"), f"127.0.0.1:{port}"))


@contextmanager
def running_dante() -> Iterator[RunningProxy]:
    """Run dante as long as the block lasts: SOCKS4, without the names of 4a, and SOCKS5."""
    program = require("danted")
    (port,) = free_ports(1)
    with _folder() as folder:
        (folder / "danted.conf").write_text(DANTE.format(port=port, folder=folder))
        command = [program, "-f", str(folder / "danted.conf"), "-p", str(folder / "danted.pid"), "-N", "1"]
        with _running(command, folder, port):
            yield RunningProxy(dict.fromkeys(("socks4", "socks5", "socks5h"), f"127.0.0.1:{port}"))


@contextmanager
def running_twisted() -> Iterator[RunningProxy]:
    """Run the SOCKS proxy of Twisted as long as the block lasts: SOCKS4, with the names of 4a."""
    program = require("twistd3")
    (port,) = free_ports(1)
    with _folder() as folder:
        command = [program, "--nodaemon", "--pidfile=", f"--logfile={folder}/twisted.log"]
        with _running([*command, "socks", "--interface=127.0.0.1", f"--port={port}"], folder, port):
            yield RunningProxy(dict.fromkeys(("socks4", "socks4a"), f"127.0.0.1:{port}"))


def _md5(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


@contextmanager
def _folder() -> Iterator[Path]:
    # pytest's own folders are closed to other users, and so to what runs without privileges.
    with tempfile.TemporaryDirectory(prefix="aiosock-proxy-", ignore_cleanup_errors=True) as name:
        yield Path(name)


@contextmanager
def _running(
    command: list[str],
    folder: Path,
    port: int,
    stop: Callable[[subprocess.Popen[bytes]], None] = subprocess.Popen.terminate,
) -> Iterator[None]:
    options: dict[str, Any] = {}
    if os.geteuid() == 0:
        nobody = pwd.getpwnam("nobody")
        options = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
        for path in (folder, *folder.iterdir()):
            os.chown(path, nobody.pw_uid, nobody.pw_gid)
    with subprocess.Popen(
        command, cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **options
    ) as process:
        try:
            wait_until_open(port, process)
            yield
        finally:
            stop(process)
            process.wait(timeout=10)
