"""
Step 4: a timeout as the end of data, and what else a socket may raise.

A way out of step 3's trap that many first programs take: when nothing has come for a while, call it the
end. It works, and is bad twice over. Every page costs that while in waiting, and a server that pauses for
longer in the middle of its answer is cut off without anyone noticing. So a timeout must be an error, never
an end: the true end is written in the answer itself, which is step 5.

Everything that a socket raises is an OSError; its subclasses say what happened. Some to try:

    python examples/from_sockets/s04_timeouts_and_errors.py 127.0.0.1 1           (refused: nobody listens)
    python examples/from_sockets/s04_timeouts_and_errors.py no-such-host.invalid  (the name has no address)
    python examples/from_sockets/s04_timeouts_and_errors.py [HOST [PORT [PATH]]]
"""

import socket
import sys

from local_site import target

FIRST_BYTE_SECONDS = 10.0
QUIET_SECONDS = 1.0


def fetch(host: str, port: int, path: str) -> bytes:
    """Return what came before the line was quiet for QUIET_SECONDS: with luck, the whole answer."""
    request = f"GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n"
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as sock:
        # The timeout is for each single call: a server that drips a byte every nine seconds never trips it.
        sock.settimeout(FIRST_BYTE_SECONDS)
        sock.connect((host, port))
        sock.sendall(request.encode("ascii"))
        piece = sock.recv(4096)
        raw = bytearray(piece)
        sock.settimeout(QUIET_SECONDS)
        while piece:
            try:
                piece = sock.recv(4096)
            except TimeoutError:
                print(f"[quiet for {QUIET_SECONDS:g} s: taken for the end, which is a guess]")
                break
            raw += piece
        return bytes(raw)


def explain(error: OSError) -> str:
    """Say in a sentence what an error of a socket means."""
    match error:
        case socket.gaierror():
            return "the name has no IPv4 address, or no name server could be asked"
        case ConnectionRefusedError():
            return "the machine is there, but no program listens on that port"
        case ConnectionResetError() | BrokenPipeError():
            return "the other side threw the connection away, perhaps with our bytes still unread"
        case TimeoutError():
            return f"nothing came for {FIRST_BYTE_SECONDS:g} s: down, overloaded, or behind a silent firewall"
        case _:
            return error.strerror or str(error)


def show(raw: bytes) -> None:
    """Print the raw bytes (their beginning), the headers, and the text after them."""
    print("raw bytes:", raw[:120], "...")
    head, _, body = raw.partition(b"\r\n\r\n")
    print("\nheaders:", head.decode("latin-1"), sep="\n")
    print("\nbody:", body.decode("utf-8", errors="replace"), sep="\n")


def main() -> None:
    """Fetch the page named on the command line, or one of the local site's."""
    with target(sys.argv[1:]) as (host, port, path):
        try:
            raw = fetch(host, port, path)
        except OSError as error:
            sys.exit(f"{host}:{port}: {type(error).__name__}: {explain(error)}")
    show(raw)


if __name__ == "__main__":
    main()
