"""
nginx as a real peer: one worker on loopback, plain and TLS, with a folder of files.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from aiosock.testing import Certificates

CONFIGURATION = """
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    client_max_body_size 64m;
    keepalive_requests 100000;
    default_type text/plain;
    gzip on;
    gzip_min_length 1;
    gzip_types text/plain;
    server {{
        listen 127.0.0.1:{plain};
        listen 127.0.0.1:{tls} ssl;
        ssl_certificate {folder}/cert.pem;
        ssl_certificate_key {folder}/key.pem;
        root {folder}/files;
        location /three {{ keepalive_requests 3; try_files /small.txt =404; }}
        location /short {{ keepalive_timeout 1s 1s; try_files /small.txt =404; }}
        location /moved {{ return 301 /small.txt; }}
        location /refuse {{ client_max_body_size 1k; proxy_pass http://127.0.0.1:{plain}/; }}
        location /chunked {{ gzip off; ssi on; ssi_types text/plain; try_files /included.txt =404; }}
    }}
}}
"""


@dataclass(frozen=True)
class Nginx:
    """A running nginx."""

    plain: str
    tls: str
    files: Path


def require_nginx() -> str:
    """Return nginx's path; skip the test where there is none, and fail it where CI has to have one."""
    path = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
    if path is None:
        if os.environ.get("AIOSOCK_CI"):
            pytest.fail("nginx is not installed, and CI must not skip its tests")
        pytest.skip("nginx is not installed")
    return path


@contextmanager
def running_nginx(folder: Path, certificates: Certificates) -> Iterator[Nginx]:
    """Run nginx as long as the block lasts."""
    program = require_nginx()
    files = folder / "files"
    files.mkdir()
    (files / "small.txt").write_text("small\n")
    (files / "large.txt").write_text("0123456789" * 500_000)
    (files / "included.txt").write_text('before <!--#include virtual="/small.txt" --> after\n')
    issued = certificates._ca.issue_cert("localhost", "127.0.0.1")
    issued.private_key_pem.write_to_path(str(folder / "key.pem"))
    for number, blob in enumerate(issued.cert_chain_pems):
        blob.write_to_path(str(folder / "cert.pem"), append=number > 0)
    plain, tls = free_ports(2)
    configuration = folder / "nginx.conf"
    configuration.write_text(CONFIGURATION.format(folder=folder, plain=plain, tls=tls))
    command = [program, "-p", str(folder), "-c", str(configuration), "-e", str(folder / "error.log")]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL) as process:
        try:
            wait_until_open(plain, process)
            yield Nginx(f"http://127.0.0.1:{plain}", f"https://localhost:{tls}", files)
        finally:
            process.terminate()
            process.wait(timeout=10)


def free_ports(count: int) -> list[int]:
    """Return ports that nobody listens on."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def wait_until_open(port: int, process: subprocess.Popen[bytes]) -> None:
    """Wait until somebody listens on a port."""
    while process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except ConnectionRefusedError:
            continue
        return
    raise RuntimeError(f"{process.args!r} ended with status {process.returncode}")
