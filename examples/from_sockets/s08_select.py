"""
Step 8: the same without blocking, by hand, with select.

A blocking socket holds up the whole program: ten pages take ten times as long as one. A non-blocking one
never waits; where it would have to, it raises BlockingIOError. All waiting is then done in one place for
all sockets: select() takes those that want to read and those that want to write, and returns the ones that
can.

Here fetch() is a generator that yields what it must wait for, and run() waits and resumes it. Small as it
is, that is an event loop. To show that nobody waits for anybody, the page is fetched three times at once.

    python examples/from_sockets/s08_select.py [HOST [PORT [PATH]]]
"""

import os
import select
import socket
import sys
from collections.abc import Generator

from local_site import target

COPIES = 3
PATIENCE_SECONDS = 10.0

# A task yields "read" or "write" and the socket that must be ready for it; what it returns is an answer.
Task = Generator[tuple[str, socket.socket], None, bytes]


def fetch(host: str, port: int, path: str) -> Task:
    """Return the whole answer, yielding wherever a blocking socket would have waited."""
    # This one call does block, while a name server is asked. An event loop sends it to a thread.
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    authority = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    request = f"GET {path} HTTP/1.0\r\nHost: {authority}\r\nConnection: close\r\n\r\n".encode("ascii")
    with socket.socket(family, kind, protocol) as sock:
        sock.setblocking(False)
        try:
            sock.connect(address)
        except BlockingIOError:
            yield "write", sock  # writable means that the attempt is over; the next line asks how it went
            if number := sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                raise OSError(number, os.strerror(number)) from None
        while request:
            try:
                request = request[sock.send(request) :]
            except BlockingIOError:
                yield "write", sock
        raw = bytearray()
        while True:
            try:
                piece = sock.recv(4096)
            except BlockingIOError:
                yield "read", sock
                continue
            if not piece:
                return bytes(raw)
            raw += piece


def run(tasks: list[Task]) -> tuple[list[bytes], int]:
    """Drive all tasks to their ends; return their results, and how often the loop went round."""
    results: dict[Task, bytes] = {}
    waiting: dict[socket.socket, tuple[str, Task]] = {}
    ready, turns = tasks, 0
    while True:
        for task in ready:
            try:
                direction, sock = next(task)
                waiting[sock] = direction, task
            except StopIteration as end:
                results[task] = end.value
        if not waiting:
            return [results[task] for task in tasks], turns
        readers = [sock for sock, (direction, _) in waiting.items() if direction == "read"]
        writers = [sock for sock, (direction, _) in waiting.items() if direction == "write"]
        can_read, can_write, _ = select.select(readers, writers, [], PATIENCE_SECONDS)
        if not can_read and not can_write:
            raise TimeoutError(f"nothing happened for {PATIENCE_SECONDS:g} s")
        ready = [waiting.pop(sock)[1] for sock in can_read + can_write]
        turns += 1


def main() -> None:
    """Fetch the page named on the command line, or one of the local site's, COPIES times at once."""
    with target(sys.argv[1:]) as (host, port, path):
        try:
            answers, turns = run([fetch(host, port, path) for _ in range(COPIES)])
        except OSError as error:
            sys.exit(f"no answer from {host}, port {port}: {error}")
    print("raw bytes:", answers[0][:120], "...")
    head, _, body = answers[0].partition(b"\r\n\r\n")
    print("\nheaders:", head.decode("latin-1"), sep="\n")
    print("\nbody:", body.decode("utf-8", errors="replace"), sep="\n")
    print(f"\n[{len(answers)} answers of {[len(raw) for raw in answers]} bytes in {turns} turns of the loop]")


if __name__ == "__main__":
    main()
