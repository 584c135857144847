"""
Step 6: IPv6 and getaddrinfo.

So far AF_INET meant IPv4. A name may also have IPv6 addresses, or only those, and several of each.
getaddrinfo asks the system for all of them, best first, each as the very arguments that socket() and
connect() want, so that the program no longer cares which family it is. The rule: try one after the other;
the first that answers is taken, and only when none does is it an error.

(socket.create_connection, used in step 5, is this loop. Browsers start the next address after a quarter of
a second of silence, without giving up the first: "Happy Eyeballs", RFC 8305. aiosock does so too.)

From here to step 9 only the connection changes, so the request says HTTP/1.0 and `Connection: close`: no
chunks, and the end of the stream is the end of the page.

    python examples/from_sockets/s06_ipv6.py [HOST [PORT [PATH]]]       (HOST may be ::1)
"""

import socket
import sys

from local_site import target


def connect(host: str, port: int) -> socket.socket:
    """Return a socket connected to the first address of host that answers."""
    refusals = []
    for family, kind, protocol, _, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        # An IPv4 address is (host, port), an IPv6 one (host, port, flow, scope): connect() takes both.
        print(f"trying {family.name} {address[0]}")
        sock = None
        try:
            sock = socket.socket(family, kind, protocol)  # a system built without IPv6 refuses here
            sock.settimeout(10)
            sock.connect(address)
            return sock
        except OSError as error:
            refusals.append(f"{address[0]}: {error}")
            if sock:
                sock.close()
    raise ConnectionError("; ".join(refusals))


def fetch(host: str, port: int, path: str) -> bytes:
    """Return the whole answer."""
    # An IPv6 address has colons of its own: in a Host header, as in a URL, it stands in brackets.
    authority = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    request = f"GET {path} HTTP/1.0\r\nHost: {authority}\r\nConnection: close\r\n\r\n"
    with connect(host, port) as sock:
        sock.sendall(request.encode("ascii"))
        raw = bytearray()
        while piece := sock.recv(4096):
            raw += piece
        return bytes(raw)


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
        except socket.gaierror as error:
            sys.exit(f"no address for {host}: {error.strerror}")
        except OSError as error:
            sys.exit(f"no answer from {host}, port {port}: {error}")
    show(raw)


if __name__ == "__main__":
    main()
