"""
Step 3: `Connection: close`, and why the reader of step 2 hangs without it.

Opening a connection costs time, so an HTTP/1.1 server keeps it open after the answer and waits for the next
request ("keep-alive"). For a reader that goes on until zero bytes this is a trap: the page is complete, the
server waits for us, we wait for the server, and no zero bytes come until one of the two loses patience.

The program asks twice. First plainly, with a patience of two seconds so as not to hang for long (timeouts
are step 4). Then with the header `Connection: close`, the request to hang up after the answer.

    python examples/from_sockets/s03_connection_close.py [HOST [PORT [PATH]]]
"""

import socket
import sys

from local_site import target

PATIENCE_SECONDS = 2.0


def fetch(host: str, port: int, path: str, *extra_headers: str) -> tuple[bytes, bool]:
    """Return the bytes that came, and whether the server ended the stream (or our patience did)."""
    lines = [f"GET {path} HTTP/1.1", f"Host: {host}:{port}", *extra_headers, "", ""]
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as sock:
        sock.connect((host, port))
        sock.sendall("\r\n".join(lines).encode("ascii"))
        sock.settimeout(PATIENCE_SECONDS)
        raw = bytearray()  # it grows in place; bytes would be copied anew with every piece
        try:
            while piece := sock.recv(4096):
                raw += piece
        except TimeoutError:
            return bytes(raw), False
        return bytes(raw), True


def show(raw: bytes) -> None:
    """Print the raw bytes (their beginning), the headers, and the text after them."""
    print("raw bytes:", raw[:120], "...")
    head, _, body = raw.partition(b"\r\n\r\n")
    print("\nheaders:", head.decode("latin-1"), sep="\n")
    # A server may still cut its answer into chunks; their sizes then stand in this text. Step 5 removes them.
    print("\nbody:", body.decode("utf-8", errors="replace"), sep="\n")


def report(what: str, raw: bytes, ended: bool) -> None:
    """Print in one line how the reading came to its end."""
    how = "the server closed" if ended else f"still waiting {PATIENCE_SECONDS:g} s after the last byte, gave up"
    print(f"[{what}: {len(raw)} bytes, then: {how}]")


def main() -> None:
    """Fetch the page named on the command line, or one of the local site's, in both ways."""
    with target(sys.argv[1:]) as (host, port, path):
        try:
            report("kept alive", *fetch(host, port, path))
            raw, ended = fetch(host, port, path, "Connection: close")
        except OSError as error:
            sys.exit(f"no answer from {host}:{port}: {error}")
    report("Connection: close", raw, ended)
    show(raw)


if __name__ == "__main__":
    main()
