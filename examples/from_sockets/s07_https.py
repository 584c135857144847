"""
Step 7: HTTPS, with ssl.

TLS is a layer around the socket: the same sendall and recv, and between them and the wire everything is
encrypted. Two things matter, and create_default_context switches both on:

- the certificate must be signed by an authority that this system trusts, and not be out of date;
- it must be made out to the very host we meant. Without this check, any site with a valid certificate could
  stand in the middle. That is why wrap_socket wants server_hostname (which also tells a server with many
  sites which certificate to show).

The end of the stream is signed as well ("close_notify"). A bare end may be somebody cutting the answer
short, so suppress_ragged_eofs=False asks for an error there instead of the b"" that looks like a proper
end.

    python examples/from_sockets/s07_https.py [HOST [PORT [PATH]]]
"""

import socket
import ssl
import sys

from local_site import tls_target


def fetch(host: str, port: int, path: str, trusted: str | None) -> tuple[bytes, str]:
    """Return the whole answer, and what TLS agreed on; trusted is an authority's certificate, or None."""
    context = ssl.create_default_context(cadata=trusted)
    authority = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    request = f"GET {path} HTTP/1.0\r\nHost: {authority}\r\nConnection: close\r\n\r\n"
    with (
        socket.create_connection((host, port), timeout=10) as plain,
        context.wrap_socket(plain, server_hostname=host, suppress_ragged_eofs=False) as sock,
    ):
        sock.sendall(request.encode("ascii"))
        raw = bytearray()
        try:
            while piece := sock.recv(4096):
                raw += piece
        except ssl.SSLEOFError:
            print("[the end is not signed: somebody may have cut the answer. Does Content-Length agree?]")
        cipher = sock.cipher()
        return bytes(raw), f"{sock.version()}, {cipher[0] if cipher else 'no cipher'}"


def show(raw: bytes) -> None:
    """Print the raw bytes (their beginning), the headers, and the text after them."""
    print("raw bytes, decrypted:", raw[:120], "...")
    head, _, body = raw.partition(b"\r\n\r\n")
    print("\nheaders:", head.decode("latin-1"), sep="\n")
    print("\nbody:", body.decode("utf-8", errors="replace"), sep="\n")


def main() -> None:
    """Fetch the page named on the command line, or one of the local site's."""
    with tls_target(sys.argv[1:]) as (host, port, path, trusted):
        try:
            raw, agreed = fetch(host, port, path, trusted)
        except ssl.SSLCertVerificationError as error:
            sys.exit(f"the certificate of {host} is not to be trusted: {error.verify_message}")
        except ssl.SSLError as error:
            sys.exit(f"{host}:{port} does not speak TLS as it should: {error.reason}")
        except OSError as error:
            sys.exit(f"no answer from {host}:{port}: {error}")
    show(raw)
    print(f"\n[{agreed}]")


if __name__ == "__main__":
    main()
