"""
The servers that every client is measured against: nginx with one worker, and an embedded one.

The embedded server does what nginx cannot, which is to answer late, and takes nginx's place where that is not
installed. Both run on loopback, on a core of their own where there are two, and end with the block.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gzip
import os
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from aiosock.testing import Certificates, Peer, ReceivedRequest, Server
from tests.benchmarks.site import (
    CHUNK,
    FIELDS,
    JSON,
    LINE,
    MIB,
    RESULTS,
    STREAMS,
    Servers,
    Sizes,
    pin,
    raise_file_limit,
)

LATE_SECONDS = 0.5
START_SECONDS = 10.0

CONFIGURATION = """
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
worker_rlimit_nofile {files};
events {{ worker_connections {connections}; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    client_max_body_size 0;
    keepalive_requests 1000000000;
    keepalive_timeout 1h;
    sendfile on;
    default_type application/octet-stream;
    addition_types *;
    upstream behind {{ server unix:{folder}/behind; keepalive 128; }}
    server {{
        listen unix:{folder}/behind;
        root {folder}/files;
        gzip_static always;
        error_page 405 =200 $uri;
    }}
    server {{
        listen 127.0.0.1:{plain} backlog=4096;
        listen 127.0.0.1:{tls} ssl backlog=4096;
        ssl_certificate {folder}/cert.pem;
        ssl_certificate_key {folder}/key.pem;
        ssl_protocols TLSv1.3;
        root {folder}/files;
        {fields}
        location = /json {{ default_type application/json; return 200 '{json}'; }}
        location = /once {{ keepalive_timeout 0; default_type application/json; return 200 '{json}'; }}
        location = /upload {{ dav_methods PUT; }}
        location = /search {{
            proxy_pass http://behind;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            client_body_buffer_size 64k;
        }}
        location = /chunked {{ alias {folder}/files/chunks; sendfile off; output_buffers 1 4k; add_after_body /empty; }}
        location = /lines {{
            alias {folder}/files/some_lines;
            sendfile off;
            output_buffers 1 {line};
            postpone_output 0;
            add_after_body /empty;
        }}
    }}
}}
"""


def find_nginx() -> str | None:
    """Return nginx's path, if it is installed."""
    return shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")


@contextlib.contextmanager
def running(sizes: Sizes, cores: set[int]) -> Iterator[Servers]:
    """Run the servers as long as the block lasts, on these cores."""
    # What is uploaded is written down by nginx: in memory, where there is enough.
    memory = Path("/dev/shm")  # noqa: S108 - a folder is made in it
    roomy = memory.is_dir() and os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > 8 * sizes.large
    with tempfile.TemporaryDirectory(dir=memory if roomy else None) as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        write_files(folder, sizes)
        embedded = stack.enter_context(running_embedded(folder, sizes, cores))
        ca, upload = str(folder / "ca.pem"), str(folder / "files/large")
        nginx = find_nginx()
        if nginx is None:
            yield Servers("the embedded server (nginx is not installed)", *embedded, embedded[0], ca, upload)
            return
        plain, tls = stack.enter_context(running_nginx(nginx, folder, cores))
        version = subprocess.run([nginx, "-v"], capture_output=True, text=True).stderr.rpartition("/")[2].strip()
        yield Servers(f"nginx {version}, one worker", plain, tls, embedded[0], ca, upload)


def write_files(folder: Path, sizes: Sizes) -> None:
    """Write the certificates, and what is served."""
    certificates = Certificates()
    certificates.write_ca(folder / "ca.pem")
    issued = certificates._ca.issue_cert("localhost", "127.0.0.1")
    issued.private_key_pem.write_to_path(str(folder / "key.pem"))
    for number, blob in enumerate(issued.cert_chain_pems):
        blob.write_to_path(str(folder / "cert.pem"), append=number > 0)
    files = folder / "files"
    files.mkdir()
    (files / "empty").touch()
    (files / "upload").touch()
    (files / "mebibyte").write_bytes(bytes(MIB))
    (files / "some_lines").write_bytes(LINE * (sizes.lines // STREAMS))
    (files / "search").write_bytes(RESULTS)
    (files / "search.gz").write_bytes(gzip.compress(RESULTS))
    for name, size in (("large", sizes.large), ("chunks", sizes.chunked)):
        with open(files / name, "wb") as file:
            file.truncate(size)


@contextlib.contextmanager
def running_nginx(program: str, folder: Path, cores: set[int]) -> Iterator[tuple[str, str]]:
    """Run nginx; gives the URLs of its roots."""
    plain, tls = free_ports(2)
    files = raise_file_limit()
    configuration = folder / "nginx.conf"
    fields = "\n        ".join(f"add_header {name} {value};" for name, value in FIELDS)
    configuration.write_text(
        CONFIGURATION.format(
            folder=folder,
            files=files,
            connections=files - 64,
            plain=plain,
            tls=tls,
            fields=fields,
            json=JSON.decode(),
            line=len(LINE),
        )
    )
    command = [program, "-p", str(folder), "-c", str(configuration), "-e", str(folder / "error.log")]
    # The shell ends nginx when its own input ends, so also when this process is killed.
    guarded = ["sh", "-c", '"$@" & read -r _; kill $!; wait', "sh", *command]
    with subprocess.Popen(guarded, stdin=subprocess.PIPE, preexec_fn=lambda: pin(0, cores)):
        wait_until_open(plain)
        yield f"http://127.0.0.1:{plain}", f"https://127.0.0.1:{tls}"


@contextlib.contextmanager
def running_embedded(folder: Path, sizes: Sizes, cores: set[int]) -> Iterator[tuple[str, str]]:
    """Run this module as a process of its own; gives the URLs of its roots."""
    command = [sys.executable, "-m", __name__, str(folder), str(sizes.lines), str(sizes.chunked)]
    root = Path(__file__).parents[2]
    with subprocess.Popen(command, cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            pin(process.pid, cores)
            plain, tls = process.stdout.readline().split()  # type: ignore[union-attr]  # it is a pipe
            yield plain, tls
        finally:
            process.kill()


def free_ports(count: int) -> list[int]:
    """Return ports that nobody listens on."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def wait_until_open(port: int) -> None:
    """
    Wait until nginx listens on a port.

    Raises:
        RuntimeError: It does not, for a while.
    """
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except ConnectionRefusedError:
            time.sleep(0.01)
        else:
            return
    raise RuntimeError("nginx does not start")


class Site:
    """The embedded server's script: the same answers as nginx's, and ``/late/N``."""

    def __init__(self, folder: Path, lines: int, chunked: int) -> None:
        self.files = folder / "files"
        self.lines = lines
        self.chunks = chunked // len(CHUNK)
        self.late: list[asyncio.Future[None]] = []

    async def serve(self, peer: Peer) -> None:
        """Answer one connection's requests."""
        while (request := await peer.read_head()) is not None:
            peer.server.requests.clear()
            body = peer.open_body(request)
            while await body.read(MIB):
                pass
            await self.answer(peer, request)
            if request.target == "/once":
                return

    async def answer(self, peer: Peer, request: ReceivedRequest) -> None:
        """Answer one request."""
        target = request.target
        if target.startswith("/late/"):
            await self.wait_for(int(target[6:]))
        if target == "/upload":
            await peer.send(head("204 No Content"))
        elif target == "/search":
            content = (self.files / "search.gz").read_bytes()
            await peer.send(head("200 OK", f"Content-Length: {len(content)}", "Content-Encoding: gzip") + content)
        elif target == "/chunked":
            await send_chunks(peer, CHUNK, self.chunks)
        elif target == "/lines":
            await send_chunks(peer, LINE, self.lines // STREAMS)
        elif target in ("/large", "/mebibyte"):
            size = (self.files / target[1:]).stat().st_size
            await peer.send(head("200 OK", f"Content-Length: {size}"))
            piece = bytes(MIB)
            for _ in range(size // MIB):
                await peer.send(piece)
        else:
            connection = "close" if target == "/once" else "keep-alive"
            fields = [f"{name}: {value}" for name, value in FIELDS]
            lines = ["Content-Type: application/json", f"Content-Length: {len(JSON)}", *fields]
            await peer.send(head("200 OK", *lines, connection=connection) + JSON)

    async def wait_for(self, count: int) -> None:
        """Wait until so many requests wait here, and for a while longer."""
        future = asyncio.get_running_loop().create_future()
        self.late.append(future)
        if len(self.late) == count:
            await asyncio.sleep(LATE_SECONDS)
            waiting, self.late = self.late, []
            for one in waiting:
                if not one.done():
                    one.set_result(None)
        await future


def head(status: str, *lines: str, connection: str = "keep-alive") -> bytes:
    """Return the head of an answer."""
    date = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime())
    fields = ["Server: embedded", f"Date: {date}", *lines, f"Connection: {connection}"]
    return "\r\n".join([f"HTTP/1.1 {status}", *fields, "", ""]).encode()


async def send_chunks(peer: Peer, content: bytes, count: int) -> None:
    """Send a chunked body in which each chunk is a send of its own."""
    await peer.send(head("200 OK", "Transfer-Encoding: chunked"))
    chunk = b"%x\r\n%b\r\n" % (len(content), content)
    for _ in range(count):
        await peer.send(chunk)
    await peer.send(b"0\r\n\r\n")


async def serve(folder: Path, lines: int, chunked: int) -> None:
    """Run the embedded server until whoever started this process is gone."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    site = Site(folder, lines, chunked)
    async with Server(site.serve) as plain, Server(site.serve, ssl=context) as tls:
        print(plain.url, tls.url.replace("localhost", "127.0.0.1"), flush=True)
        await asyncio.to_thread(sys.stdin.read)


def main() -> None:
    """Serve."""
    # `aiosock.run` takes uvloop where it is installed.
    import aiosock

    parser = argparse.ArgumentParser(description="Serve the embedded site.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("lines", type=int)
    parser.add_argument("chunked", type=int)
    arguments = parser.parse_args()
    raise_file_limit()
    aiosock.run(serve(arguments.folder, arguments.lines, arguments.chunked))


if __name__ == "__main__":
    main()
