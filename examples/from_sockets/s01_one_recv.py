"""
Step 1: a blocking socket, one send, one recv.

A TCP socket is a pipe of bytes, in both directions, to a program that is perhaps on another machine. HTTP
is text on that pipe: a request line, headers, an empty line. The answer has the same form, and the page
follows. "Blocking" means that every call below makes the whole program wait until the call is done.

What is wrong here: recv(4096) hands over what has arrived so far, 4096 bytes at the most. A longer page is
cut off, and send() too may take only a part of what it is given. Step 2 mends both.

    python examples/from_sockets/s01_one_recv.py [HOST [PORT [PATH]]]
"""

import socket
import sys

from local_site import target


def fetch(host: str, port: int, path: str) -> bytes:
    """Return the first piece of the answer, 4096 bytes or fewer."""
    request = f"GET {path} HTTP/1.0\r\nHost: {host}:{port}\r\n\r\n"
    # AF_INET is IPv4 (step 6 adds IPv6); SOCK_STREAM is TCP, which keeps bytes complete and in order.
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as sock:
        sock.connect((host, port))
        sock.send(request.encode("ascii"))
        return sock.recv(4096)


def show(raw: bytes) -> None:
    """Print the raw bytes (their beginning), the headers, and the text after them."""
    print("raw bytes:", raw[:120], "...")
    head, _, body = raw.partition(b"\r\n\r\n")
    print("\nheaders:", head.decode("latin-1"), sep="\n")
    print("\nbody:", body.decode("utf-8", errors="replace"), sep="\n")
    print(f"\n[{len(raw)} bytes with one recv; if the page is longer, the rest is lost]")


def main() -> None:
    """Fetch the page named on the command line, or one of the local site's."""
    with target(sys.argv[1:], "/lines?count=500") as (host, port, path):
        try:
            raw = fetch(host, port, path)
        except OSError as error:
            sys.exit(f"no answer from {host}:{port}: {error}")
    show(raw)


if __name__ == "__main__":
    main()
