"""
Step 2: why one send and one recv are not enough.

TCP carries a stream of bytes, not messages. What one side sends at once may arrive in five pieces, or glued
to what was sent before. So both sides need a loop:

- send() says how many bytes the system took; the rest must be offered again. sendall() is that loop,
  ready-made.
- recv() returns what is there; it must be called until it returns zero bytes, b"", which is how a socket
  says that the other side has closed its end and nothing more will come.

The request says HTTP/1.0 here: with it, a server closes the connection after its answer. HTTP/1.1 is step
3.

    python examples/from_sockets/s02_loops.py [HOST [PORT [PATH]]]
"""

import socket
import sys

from local_site import target


def send_all(sock: socket.socket, data: bytes) -> None:
    """Send data to its last byte: what sock.sendall(data), used from the next step on, does."""
    while data:
        taken = sock.send(data)
        data = data[taken:]


def receive_all(sock: socket.socket) -> list[bytes]:
    """Return the pieces in which the data came, up to the end of the stream."""
    pieces = []
    while piece := sock.recv(4096):
        pieces.append(piece)
    return pieces


def fetch(host: str, port: int, path: str) -> list[bytes]:
    """Return the whole answer, in the pieces in which it came."""
    request = f"GET {path} HTTP/1.0\r\nHost: {host}:{port}\r\n\r\n"
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as sock:
        sock.connect((host, port))
        send_all(sock, request.encode("ascii"))
        return receive_all(sock)


def show(raw: bytes) -> None:
    """Print the raw bytes (their beginning), the headers, and the text after them."""
    print("raw bytes:", raw[:120], "...")
    # Only now that all is joined: the empty line may lie across two pieces, and a letter of two bytes too.
    head, _, body = raw.partition(b"\r\n\r\n")
    print("\nheaders:", head.decode("latin-1"), sep="\n")
    print("\nbody:", body.decode("utf-8", errors="replace"), sep="\n")


def main() -> None:
    """Fetch the page named on the command line, or one of the local site's."""
    with target(sys.argv[1:], "/lines?count=500") as (host, port, path):
        try:
            pieces = fetch(host, port, path)
        except OSError as error:
            sys.exit(f"no answer from {host}:{port}: {error}")
    raw = b"".join(pieces)
    show(raw)
    print(f"\n[{len(raw)} bytes in {len(pieces)} pieces]")


if __name__ == "__main__":
    main()
