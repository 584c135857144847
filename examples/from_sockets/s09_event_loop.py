"""
Step 9: on asyncio's event loop, with loop.sock_connect, loop.sock_sendall and loop.sock_recv.

Step 8 with the loop that Python brings along. Where the generator caught BlockingIOError and yielded, a
coroutine awaits; where run() called select, asyncio uses the best call that the system has for many sockets
(epoll, kqueue). The socket is the same: non-blocking, in our hands. These few methods are what aiosock is
built on.

One thing is easier now: asyncio.timeout() limits the whole fetch, so that a server that drips one byte
every few seconds cannot stretch it for ever. A socket's own timeout (step 4) never could.

    python examples/from_sockets/s09_event_loop.py [HOST [PORT [PATH]]]
"""

import asyncio
import socket
import sys

from local_site import target

COPIES = 3
PATIENCE_SECONDS = 30.0


async def fetch(host: str, port: int, path: str) -> bytes:
    """Return the whole answer."""
    loop = asyncio.get_running_loop()
    addresses = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)  # in a thread, since it blocks
    family, kind, protocol, _, address = addresses[0]
    authority = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    request = f"GET {path} HTTP/1.0\r\nHost: {authority}\r\nConnection: close\r\n\r\n"
    with socket.socket(family, kind, protocol) as sock:
        # Without this line the loop's methods would block all other tasks (in debug mode they refuse to).
        sock.setblocking(False)
        await loop.sock_connect(sock, address)
        await loop.sock_sendall(sock, request.encode("ascii"))
        raw = bytearray()
        while piece := await loop.sock_recv(sock, 4096):
            raw += piece
        return bytes(raw)


async def fetch_copies(host: str, port: int, path: str) -> list[bytes]:
    """Return COPIES answers, fetched at once."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        return await asyncio.gather(*(fetch(host, port, path) for _ in range(COPIES)))


def main() -> None:
    """Fetch the page named on the command line, or one of the local site's, COPIES times at once."""
    with target(sys.argv[1:]) as (host, port, path):
        try:
            answers = asyncio.run(fetch_copies(host, port, path))
        except TimeoutError:
            sys.exit(f"no whole answer from {host}, port {port} within {PATIENCE_SECONDS:g} s")
        except OSError as error:
            sys.exit(f"no answer from {host}, port {port}: {error}")
    print("raw bytes:", answers[0][:120], "...")
    head, _, body = answers[0].partition(b"\r\n\r\n")
    print("\nheaders:", head.decode("latin-1"), sep="\n")
    print("\nbody:", body.decode("utf-8", errors="replace"), sep="\n")
    print(f"\n[{len(answers)} answers of {[len(raw) for raw in answers]} bytes]")


if __name__ == "__main__":
    main()
