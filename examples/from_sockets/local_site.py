"""
What the steps share and do not teach: the command line, and a small site on this machine where it names no
host.

The site runs in a thread of its own with an event loop of its own, so that a step may block without
stopping it.
"""

import asyncio
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from ssl import SSLContext

from aiosock.testing import Certificates, Server, site


@contextmanager
def serve(ssl: SSLContext | None = None) -> Iterator[Server]:
    """Run the site as long as the block lasts."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    server = Server(site, ssl=ssl)
    try:
        asyncio.run_coroutine_threadsafe(server.start(), loop).result()
        yield server
    finally:
        asyncio.run_coroutine_threadsafe(server.close(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@contextmanager
def target(arguments: list[str], path: str = "/") -> Iterator[tuple[str, int, str]]:
    """Give host, port and path as the arguments say; without any, the site's, which runs during the block."""
    if arguments:
        yield parse(arguments, 80)
        return
    with serve() as server:
        yield server.host, server.port, path


@contextmanager
def tls_target(arguments: list[str], path: str = "/") -> Iterator[tuple[str, int, str, str | None]]:
    """Do the same for HTTPS, and give as well what to trust: None is the system's choice."""
    if arguments:
        yield *parse(arguments, 443), None
        return
    certificates = Certificates()
    with serve(certificates.server_context()) as server:
        yield server.host, server.port, path, certificates.ca_pem.decode("ascii")


def parse(arguments: list[str], port: int) -> tuple[str, int, str]:
    """Return host, port and path, or end the program with a sentence on what is wrong."""
    host, number, path, *more = [*arguments, *(str(port), "/")[len(arguments) - 1 :]]
    # All this goes into a request between spaces and line ends, where one more would change the meaning.
    if more or not (host + path).isascii() or not (host + path).isprintable() or " " in host + path:
        sys.exit("usage: [HOST [PORT [PATH]]], in ASCII and without spaces: example.com 80 /index.html")
    if not number.isdecimal() or not 0 < int(number) < 65536:
        sys.exit(f"a port is a number from 1 to 65535: {number}")
    return host, int(number), path if path.startswith("/") else f"/{path}"
