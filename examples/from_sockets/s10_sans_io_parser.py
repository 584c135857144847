"""
Step 10: aiosock's HTTP/1.1 parser between the socket and the program.

Steps 3 to 5 mixed two things: moving bytes, and knowing what they mean. aiosock keeps them apart. Its
protocol never touches a socket: it is fed with what recv gave, in whatever pieces, and asked for events;
NEED_DATA means "come back with more". So it can be tested without a network, and it knows what step 5 left
out: 1xx answers ahead of the real one, answers without a body (304), limits on headers, and the tricks by
which a server smuggles one answer into another.

It also knows when a connection may carry a second request (`reusable`); here the page is fetched twice over
one.

    python examples/from_sockets/s10_sans_io_parser.py [HOST [PORT [PATH]]]
"""

import asyncio
import socket
import sys

from local_site import target

from aiosock.errors import AiosockError
from aiosock.protocol.http1 import NEED_DATA, BodyData, BodyEnded, Connection, RequestHead, ResponseStarted

PATIENCE_SECONDS = 30.0


async def exchange(
    sock: socket.socket, protocol: Connection, head: RequestHead
) -> tuple[bytes, ResponseStarted, bytes]:
    """Send one request and return what came: the first raw bytes, the head, the body."""
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(sock, protocol.send_request(head))
    raw = b""
    pieces: list[bytes] = []
    while True:
        event = protocol.next_event()
        if event is NEED_DATA:
            piece = await loop.sock_recv(sock, 4096)
            raw = raw or piece
            protocol.receive_data(piece)  # b"", the end of the stream, is told too: it may be an error
        elif isinstance(event, ResponseStarted):
            started = event
        elif isinstance(event, BodyData):
            pieces.append(event.data)
        elif isinstance(event, BodyEnded):
            return raw, started, b"".join(pieces)


async def fetch_twice(host: str, port: int, path: str) -> None:
    """Fetch the page two times, over one connection where the server keeps it open, and print the second."""
    loop = asyncio.get_running_loop()
    addresses = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    family, kind, proto, _, address = addresses[0]
    authority = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    protocol = Connection()
    with socket.socket(family, kind, proto) as sock:
        sock.setblocking(False)
        await loop.sock_connect(sock, address)
        head = RequestHead("GET", path, authority, [("Accept", "text/html, */*")])
        raw, started, body = await exchange(sock, protocol, head)
        if protocol.reusable:
            raw, started, body = await exchange(sock, protocol, head)
            print("[second answer over the same connection]")
        else:
            print("[the server does not keep this connection open: one answer only]")
    print("raw bytes:", raw[:120], "...")
    print(f"\nheaders:\n{started.http_version} {started.status_code} {started.reason}")
    print(*(f"{name}: {value}" for name, value in started.headers.items()), sep="\n")
    print("\nbody:", body.decode("utf-8", errors="replace"), sep="\n")
    print(f"\n[{len(body)} bytes of body]")


async def main() -> None:
    """Fetch the page named on the command line, or one of the local site's."""
    with target(sys.argv[1:]) as (host, port, path):
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                await fetch_twice(host, port, path)
        except TimeoutError:
            sys.exit(f"no whole answer from {host}, port {port} within {PATIENCE_SECONDS:g} s")
        except OSError as error:
            sys.exit(f"no answer from {host}, port {port}: {error}")
        except AiosockError as error:
            sys.exit(f"{host}, port {port}, does not speak HTTP as it should: {error}")


if __name__ == "__main__":
    asyncio.run(main())
