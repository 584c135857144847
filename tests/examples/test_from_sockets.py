"""Each step from a bare socket to the client runs, and shows what it says that it shows."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from aiosock.testing import Certificates, Peer, Server, response

Serve = Callable[..., Server]
Run = Callable[..., CompletedProcess[str]]

FOLDER = Path(__file__).parents[2] / "examples" / "from_sockets"
STEPS = sorted(path.name for path in FOLDER.glob("s[0-9][0-9]_*.py"))
ONE_PAGE_STEPS = [step for step in STEPS if not step.startswith("s11")]
LARGE_BYTES = 100_000


def body_of(output: str) -> str:
    """What a step printed as the page's text, without the line in brackets that may follow."""
    return re.sub(r"\n\n\[.*\]\n\Z", "\n", output.partition("\nbody:\n")[2])


def number(pattern: str, output: str) -> int:
    found = re.search(pattern, output)
    assert found, output
    return int(found[1])


async def reset(peer: Peer) -> None:
    await peer.read_head()
    peer.reset()


async def promise_too_much(peer: Peer) -> None:
    await peer.read_head()
    await peer.send(response(200, b"half", [("Content-Length", "8")]))


async def leave_without_a_word(peer: Peer) -> None:
    await peer.read_head()
    await peer.send(response(200, b"whole?"))
    peer.cut()


def test_there_are_eleven_steps() -> None:
    assert [int(step[1:3]) for step in STEPS] == list(range(1, 12))


@pytest.mark.parametrize("step", STEPS)
def test_runs_offline_without_arguments(run: Run, step: str) -> None:
    output = run(f"from_sockets/{step}").stdout
    if not step.startswith("s11"):
        assert "raw bytes" in output
        assert "\nheaders:\nHTTP/1.1 200 OK\n" in output
        assert "\nbody:\n" in output


@pytest.mark.parametrize("step", ONE_PAGE_STEPS)
def test_a_refused_connection_is_a_sentence(run: Run, step: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # not listening, so nobody else can be there
        done = run(f"from_sockets/{step}", "127.0.0.1", taken.getsockname()[1], status=1)
    assert len(done.stderr.splitlines()) == 1
    assert "127.0.0.1" in done.stderr


def test_the_pool_that_reaches_nobody_is_a_sentence(run: Run) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/"
        done = run("from_sockets/s11_pool.py", url, url, status=1)
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("arguments", [("localhost", "http"), ("localhost", "80", "/a b"), ("h", "1", "/", "x")])
def test_bad_arguments_are_a_sentence(run: Run, arguments: tuple[str, ...]) -> None:
    assert len(run("from_sockets/s01_one_recv.py", *arguments, status=1).stderr.splitlines()) == 1


def test_one_recv_gets_a_part_of_a_large_page(serve: Serve, run: Run) -> None:
    output = run("from_sockets/s01_one_recv.py", *serve().address, f"/large?bytes={LARGE_BYTES}").stdout
    assert f"Content-Length: {LARGE_BYTES}" in output
    assert number(r"\[(\d+) bytes with one recv", output) <= 4096
    assert len(body_of(output)) < LARGE_BYTES


def test_the_loops_get_all_of_it_in_pieces(serve: Serve, run: Run) -> None:
    output = run("from_sockets/s02_loops.py", *serve().address, f"/large?bytes={LARGE_BYTES}").stdout
    assert body_of(output).strip() == "0123456789abcdef" * (LARGE_BYTES // 16)
    assert number(r"in (\d+) pieces", output) > LARGE_BYTES // 4096


@pytest.mark.parametrize("step", [step for step in ONE_PAGE_STEPS if not step.startswith(("s01", "s02", "s04", "s07"))])
def test_a_page_ten_times_as_long_does_not_take_a_hundred_times_as_long(serve: Serve, run: Run, step: str) -> None:
    # So much that a program that copies what it has with every piece is not done in its time.
    size = 32 * 1024 * 1024
    output = run(f"from_sockets/{step}", *serve().address, f"/large?bytes={size}").stdout
    assert output.count("0123456789abcdef") >= size // 16


def test_connection_close_ends_the_wait(serve: Serve, run: Run) -> None:
    server = serve()
    kept, closed = run("from_sockets/s03_connection_close.py", *server.address).stdout.splitlines()[:2]
    assert kept.startswith("[kept alive:")
    assert "gave up" in kept
    assert closed.startswith("[Connection: close:")
    assert "the server closed" in closed
    assert [request.header("Connection") for request in server.requests] == [None, "close"]


def test_a_timeout_passes_for_the_end(serve: Serve, run: Run) -> None:
    output = run("from_sockets/s04_timeouts_and_errors.py", *serve().address).stdout
    assert output.startswith("[quiet for 1 s")
    assert body_of(output).rstrip().endswith("</html>")


def test_errors_are_told_apart(serve: Serve, run: Run) -> None:
    done = run("from_sockets/s04_timeouts_and_errors.py", *serve(reset).address, status=1)
    assert "ConnectionResetError: the other side threw the connection away" in done.stderr


def test_content_length_and_chunks_both_tell_the_end(serve: Serve, run: Run) -> None:
    server = serve()
    chunked = run("from_sockets/s05_length_and_chunks.py", *server.address, "/chunked?chunks=3&size=5").stdout
    assert "Transfer-Encoding: chunked" in chunked
    assert body_of(chunked).strip() == "000001111122222"
    counted = run("from_sockets/s05_length_and_chunks.py", *server.address, "/large?bytes=10000").stdout
    assert "Content-Length: 10000" in counted
    assert "[10000 bytes of body" in counted
    assert all(request.header("Connection") is None for request in server.requests)


def test_an_answer_cut_short_is_noticed(serve: Serve, run: Run) -> None:
    done = run("from_sockets/s05_length_and_chunks.py", *serve(promise_too_much).address, status=1)
    assert "ended 4 bytes too early" in done.stderr


@pytest.mark.parametrize("size", ["x", "-5"])
def test_a_nonsense_length_is_noticed(serve: Serve, run: Run, size: str) -> None:
    async def nonsense(peer: Peer) -> None:
        await peer.read_head()
        await peer.send(response(200, b"1234567", [("Content-Length", size)]))

    done = run("from_sockets/s05_length_and_chunks.py", *serve(nonsense).address, status=1)
    assert "no whole answer" in done.stderr


def test_ipv6_is_reached_by_its_own_family(serve: Serve, run: Run) -> None:
    try:
        server = serve(host="::1")
    except OSError:
        pytest.skip("this machine has no IPv6 loopback")
    output = run("from_sockets/s06_ipv6.py", *server.address).stdout
    assert output.startswith("trying AF_INET6 ::1\n")
    assert server.requests[0].header("Host") == f"[::1]:{server.port}"
    assert body_of(output).rstrip().endswith("</html>")


def test_https_is_encrypted_and_checked(serve: Serve, run: Run) -> None:
    assert re.search(r"\[TLSv1\.[23], \w+\]", run("from_sockets/s07_https.py").stdout)
    server = serve(ssl=Certificates().server_context())
    done = run("from_sockets/s07_https.py", *server.address, status=1)
    assert "certificate of 127.0.0.1 is not to be trusted" in done.stderr
    assert not server.requests


def test_an_end_that_tls_does_not_vouch_for_is_told(serve: Serve, run: Run, tmp_path: Path) -> None:
    certificates = Certificates()
    trusted = certificates.write_ca(tmp_path / "ca.pem")
    server = serve(leave_without_a_word, ssl=certificates.server_context())
    output = run("from_sockets/s07_https.py", "localhost", server.port, SSL_CERT_FILE=trusted).stdout
    assert output.startswith("[the end is not signed")
    assert body_of(output).strip().startswith("whole?")


def test_https_with_a_plain_server_is_a_sentence(serve: Serve, run: Run) -> None:
    async def not_tls(peer: Peer) -> None:
        await peer.read()
        await peer.send(response(400))

    done = run("from_sockets/s07_https.py", *serve(not_tls).address, status=1)
    assert "does not speak TLS" in done.stderr


@pytest.mark.parametrize("path", ["/", f"/large?bytes={LARGE_BYTES}", "/lines?count=500"])
def test_select_and_the_event_loop_get_the_same(serve: Serve, run: Run, path: str) -> None:
    server = serve()
    by_hand = run("from_sockets/s08_select.py", *server.address, path).stdout
    by_asyncio = run("from_sockets/s09_event_loop.py", *server.address, path).stdout
    assert body_of(by_hand)
    assert body_of(by_hand) == body_of(by_asyncio)
    assert server.connections == 6


@pytest.mark.parametrize("step", ["s08_select.py", "s09_event_loop.py"])
def test_three_pages_are_fetched_at_the_same_time(serve: Serve, run: Run, step: str) -> None:
    all_have_asked = asyncio.Barrier(3)

    async def answer_together(peer: Peer) -> None:
        await peer.read_head()
        await all_have_asked.wait()
        await peer.send(response(200, b"together"))

    output = run(f"from_sockets/{step}", *serve(answer_together).address).stdout
    assert body_of(output).strip() == "together"


def test_the_parser_reuses_the_connection(serve: Serve, run: Run) -> None:
    server = serve()
    output = run("from_sockets/s10_sans_io_parser.py", *server.address, "/chunked?chunks=3&size=5").stdout
    assert output.startswith("[second answer over the same connection]")
    assert body_of(output).strip() == "000001111122222"
    assert (server.connections, len(server.requests)) == (1, 2)


def test_a_hundred_pages_come_over_five_connections(serve: Serve, run: Run) -> None:
    server = serve()
    output = run("from_sockets/s11_pool.py", *(f"{server.url}/page/{n}" for n in range(100))).stdout
    assert "100 pages over 5 connections, reused 95 times" in output
    assert "Page 0" in output
    assert server.connections == 5
    assert sorted(request.target for request in server.requests) == sorted(f"/page/{n}" for n in range(100))


def test_the_parser_refuses_what_is_not_http(serve: Serve, run: Run) -> None:
    async def nonsense(peer: Peer) -> None:
        await peer.read_head()
        await peer.send(b"SSH-2.0-not-http\r\n\r\n")

    done = run("from_sockets/s10_sans_io_parser.py", *serve(nonsense).address, status=1)
    assert "does not speak HTTP as it should" in done.stderr
