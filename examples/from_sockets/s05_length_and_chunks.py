"""
Step 5: where an answer ends: Content-Length, and chunks.

HTTP/1.1 says in the headers how long the body is, in one of two ways (RFC 9112, section 6):

- `Content-Length: 5000`: exactly 5000 bytes follow the empty line.
- `Transfer-Encoding: chunked`: the server did not know the length when it began. The body comes in pieces,
  each after a line with its size in hexadecimal; size 0 is the last, and optional trailer lines and an
  empty one follow.

With neither, the body goes on until the server closes. Now the reader knows the end, needs no `Connection:
close`, and tells a whole page from one that was cut. It does need a buffer, since recv does not stop where
a line does.

    python examples/from_sockets/s05_length_and_chunks.py [HOST [PORT [PATH]]]
"""

import socket
import sys

from local_site import target


class Reader:
    """Reads lines and exact amounts from a socket; what recv gave beyond them waits in the buffer."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.buffer = bytearray()
        self.raw = bytearray()  # everything received, to show it

    def receive(self) -> bool:
        piece = self.sock.recv(4096)
        self.buffer += piece
        self.raw += piece
        return bool(piece)

    def line(self) -> str:
        while (end := self.buffer.find(b"\r\n")) < 0:
            if not self.receive():
                raise EOFError("the connection ended within a line")
        line = self.buffer[:end].decode("latin-1")
        del self.buffer[: end + 2]
        return line

    def exactly(self, size: int) -> bytes:
        if size < 0:
            raise ValueError(f"a size of {size} bytes")
        while len(self.buffer) < size:
            if not self.receive():
                raise EOFError(f"the connection ended {size - len(self.buffer)} bytes too early")
        data = bytes(self.buffer[:size])
        del self.buffer[:size]
        return data

    def rest(self) -> bytes:
        while self.receive():
            pass
        return bytes(self.buffer)


def read_chunks(reader: Reader) -> bytes:
    """Return the body without the size lines between its pieces."""
    body = bytearray()
    while size := int(reader.line().partition(";")[0], 16):  # extensions, which nobody uses, stand after ";"
        body += reader.exactly(size)
        reader.line()
    while reader.line():
        pass  # trailers: headers that come after the body
    return bytes(body)


def fetch(host: str, port: int, path: str) -> tuple[bytes, str, bytes]:
    """Return everything as received, the head, and the body."""
    request = f"GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n"
    with socket.create_connection((host, port), timeout=10) as sock:
        sock.sendall(request.encode("ascii"))
        reader = Reader(sock)
        head = [reader.line()]
        headers = {}
        while line := reader.line():
            head.append(line)
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        if headers.get("transfer-encoding", "").lower() == "chunked":
            body = read_chunks(reader)
        elif "content-length" in headers:
            body = reader.exactly(int(headers["content-length"]))
        else:
            body = reader.rest()
        return bytes(reader.raw), "\n".join(head), body


def main() -> None:
    """Fetch the page named on the command line, or one of the local site's."""
    with target(sys.argv[1:], "/chunked") as (host, port, path):
        try:
            raw, head, body = fetch(host, port, path)
        except (OSError, EOFError, ValueError) as error:  # a size that is no number is a ValueError
            sys.exit(f"no whole answer from {host}:{port}: {error}")
    print("raw bytes:", raw[:120], "...")
    print("\nheaders:", head, sep="\n")
    print("\nbody:", body.decode("utf-8", errors="replace"), sep="\n")
    print(f"\n[{len(body)} bytes of body, of {len(raw)} received]")


if __name__ == "__main__":
    main()
