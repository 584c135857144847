"""One request, printed: the body as it is, heads and timings beside it, and nothing secret or dangerous in sight."""

from __future__ import annotations

import asyncio
import gzip
import os
import re
import resource
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from ssl import SSLContext
from typing import Any

import pytest

from aiosock.testing import Peer, Server, response
from tests.kit.programs import without_slow_steps

Serve = Callable[..., Server]
Run = Callable[..., Any]
Start = Callable[..., subprocess.Popen[bytes]]

SECRETS = ("Authorization", "Proxy-Authorization", "Cookie")


def answering(*answers: bytes) -> Callable[[Peer], Any]:
    """A script that gives these answers in turn and then closes."""

    async def script(peer: Peer) -> None:
        for answer in answers:
            await peer.read_request()
            await peer.send(answer)

    return script


def stages(err: str) -> list[str]:
    """Return the first words of the timeline's lines."""
    return re.findall(r"^\* (\w+) +[0-9.]+ ms", err, re.MULTILINE)


# The body


def test_the_body_is_printed_byte_for_byte(serve: Serve, run: Run) -> None:
    body = bytes(range(256)) * 5
    done = run(serve(answering(response(200, body))).url)
    assert (done.out, done.err) == (body, "")


def test_content_codings_are_undone(serve: Serve, run: Run) -> None:
    coded = response(200, gzip.compress(b"hello\r\n"), [("Content-Encoding", "gzip")])
    assert run(serve(answering(coded)).url).out == b"hello\r\n"


def test_the_body_comes_as_it_arrives(serve: Serve, start: Start) -> None:
    seen = threading.Event()

    async def script(peer: Peer) -> None:
        await peer.read_request()
        await peer.send(response(200, b"first", [("Content-Length", "11")]))
        await asyncio.to_thread(seen.wait)
        await peer.send(b"second")

    process = start(serve(script).url)
    assert process.stdout is not None
    try:
        assert process.stdout.read(5) == b"first"
    finally:
        seen.set()
    out, err = process.communicate(timeout=60)
    assert (out, without_slow_steps(err.decode())) == (b"second", "")


def test_a_body_cut_short_is_a_failure(serve: Serve, run: Run, tmp_path: Path) -> None:
    cut = response(200, b"half", [("Content-Length", "100")])
    done = run(serve(answering(cut)).url, status=1)
    assert done.out == b"half"
    assert len(done.err.splitlines()) == 1
    target = tmp_path / "file"
    target.write_bytes(b"old")
    assert run("-o", target, serve(answering(cut)).url, status=1).out == b""
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("option", ["-o", "--output"])
def test_the_body_goes_to_a_file(serve: Serve, run: Run, tmp_path: Path, option: str) -> None:
    target = tmp_path / "file"
    assert run(option, target, f"{serve().url}/large?bytes=3000000").out == b""
    assert target.read_bytes() == b"0123456789abcdef" * (3_000_000 // 16)
    assert list(tmp_path.iterdir()) == [target]


def test_a_file_that_cannot_be_written_is_known_before_anything_is_sent(serve: Serve, run: Run, tmp_path: Path) -> None:
    server = serve()
    done = run("-o", tmp_path / "missing" / "file", server.url, status=1)
    assert "missing/file: No such file or directory" in done.err
    assert len(done.err.splitlines()) == 1
    assert server.connections == 0


# Heads


@pytest.mark.parametrize("option", ["-I", "--head"])
def test_the_head_alone(serve: Serve, run: Run, option: str) -> None:
    server = serve()
    done = run(option, f"{server.url}/json")
    assert done.out == b"HTTP/1.1 200 OK\nContent-Type: application/json\nContent-Length: 96\n\n"
    assert server.requests[0].method == "HEAD"


def test_the_head_is_as_it_came(serve: Serve, run: Run) -> None:
    head = b"HTTP/1.1 200 Gr\xfc\xdfe\r\nSet-Cookie: a=1\r\nset-cookie: b=\xe2\x98\x82\r\n\r\n"
    done = run("-I", serve(answering(head)).url)
    assert done.out == b"HTTP/1.1 200 Gr\xfc\xdfe\nSet-Cookie: a=1\nset-cookie: b=\xe2\x98\x82\n\n"


def test_the_head_of_another_method_leaves_the_body(serve: Serve, run: Run, tmp_path: Path) -> None:
    target = tmp_path / "head"
    run("-I", "-X", "GET", "-o", target, f"{serve().url}/json")
    assert target.read_text().splitlines()[0] == "HTTP/1.1 200 OK"
    assert "aiosock" not in target.read_text()


def test_the_heads_of_redirects_are_printed_too(serve: Serve, run: Run) -> None:
    lines = run("-IL", f"{serve().url}/redirect/2").out.decode().splitlines()
    assert [line for line in lines if line.startswith("HTTP/")] == [
        "HTTP/1.1 302 Found",
        "HTTP/1.1 302 Found",
        "HTTP/1.1 200 OK",
    ]


# Redirects, TLS


@pytest.mark.parametrize("option", ["-L", "--location"])
def test_redirects_are_followed_if_asked_for(serve: Serve, run: Run, option: str) -> None:
    server = serve()
    assert b"A small site" in run(option, f"{server.url}/redirect/2").out
    assert len(server.requests) == 3
    assert run(f"{server.url}/redirect/2").out == b""
    assert len(server.requests) == 4


def test_too_many_redirects_are_a_failure(serve: Serve, run: Run) -> None:
    assert "more than 20 redirects" in run("-L", f"{serve().url}/redirect/30", status=1).err


@pytest.mark.parametrize("option", ["-k", "--insecure"])
def test_certificates_are_verified_unless_told_otherwise(
    serve: Serve, run: Run, server_context: SSLContext, ca_file: str, option: str
) -> None:
    url = f"{serve(ssl=server_context).url}/json"
    done = run(url, status=1)
    assert "not trusted" in done.err
    assert len(done.err.splitlines()) == 1
    assert b"aiosock" in run(option, url).out
    assert b"aiosock" in run(url, SSL_CERT_FILE=ca_file).out


# Verbose


@pytest.mark.parametrize("option", ["-v", "--verbose"])
def test_verbose_shows_heads_and_timings_beside_the_body(serve: Serve, run: Run, option: str) -> None:
    server = serve()
    done = run(option, "-d", "a=1", f"{server.url}/echo?q=1")
    assert done.out == run("-d", "a=1", f"{server.url}/echo?q=1").out
    lines = done.err.splitlines()
    sent = [line.removeprefix("> ") for line in lines if line.startswith("> ")]
    assert "\r\n".join([*sent, "", ""]).encode() == server.requests[0].raw_head
    assert f"* new connection to 127.0.0.1:{server.port}" in lines
    assert "< HTTP/1.1 200 OK" in lines
    assert "< Content-Type: application/json" in lines
    assert stages(done.err) == ["pool", "connect", "send", "wait", "receive", "total"]


def test_verbose_shows_a_host_of_ones_own_where_it_is_sent(serve: Serve, run: Run) -> None:
    server = serve()
    lines = run("-v", "-H", "X-A: 1", "-H", "Host: example.com", server.url).err.splitlines()
    sent = [line.removeprefix("> ") for line in lines if line.startswith("> ")]
    assert "\r\n".join([*sent, "", ""]).encode() == server.requests[0].raw_head


def test_verbose_shows_every_redirect(serve: Serve, run: Run) -> None:
    err = run("-vL", f"{serve().url}/redirect/2").err
    assert re.findall(r"^[<>] (?:GET|HTTP).*$|^\* \w+ connection", err, re.MULTILINE) == [
        "* new connection",
        "> GET /redirect/2 HTTP/1.1",
        "< HTTP/1.1 302 Found",
        "* reused connection",
        "> GET /redirect/1 HTTP/1.1",
        "< HTTP/1.1 302 Found",
        "* reused connection",
        "> GET / HTTP/1.1",
        "< HTTP/1.1 200 OK",
    ]
    assert stages(err).count("wait") == 3


def test_verbose_names_what_tls_agreed_on(serve: Serve, run: Run, server_context: SSLContext, ca_file: str) -> None:
    err = run("-v", serve(ssl=server_context).url, SSL_CERT_FILE=ca_file).err
    assert re.search(r"^\* new connection to 127\.0\.0\.1:\d+, TLSv1\.3, TLS_\w+, http/1\.1$", err, re.MULTILINE)
    assert {"dns", "tls"} <= set(stages(err))


def test_verbose_shows_informational_answers(serve: Serve, run: Run) -> None:
    server = serve(answering(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + response(200, b"x")))
    err = run("-v", server.url).err
    assert err.index("< HTTP/1.1 103 Early Hints\n< Link: </a>\n") < err.index("< HTTP/1.1 200 OK")


def test_verbose_shows_the_request_that_fails(serve: Serve, run: Run) -> None:
    done = run("-v", serve(answering(b"")).url, status=1)
    assert "\n> GET / HTTP/1.1\n" in done.err
    assert done.err.splitlines()[-1].startswith("aiosock: ")


def test_verbose_shows_what_was_really_sent(serve: Serve, run: Run) -> None:
    async def script(peer: Peer) -> None:
        while request := await peer.read_request():
            demand = [("WWW-Authenticate", 'Digest realm="r", nonce="n", qop="auth"')]
            await peer.send(response(200) if request.header("Authorization") else response(401, b"", demand))

    err = run("-v", "-u", "me:secret-1", "--digest", serve(script).url).err
    assert re.findall(r"^[<>] (?:GET|HTTP|Auth).*$", err, re.MULTILINE) == [
        "> GET / HTTP/1.1",
        "< HTTP/1.1 401 Unauthorized",
        "> GET / HTTP/1.1",
        "> Authorization: [redacted]",
        "< HTTP/1.1 200 OK",
    ]


def test_the_timeline_has_a_bar_for_each_hop_and_no_body(serve: Serve, run: Run) -> None:
    server = serve()
    out = run("--timeline", "-L", f"{server.url}/redirect/2?secret=1#secret=2").out.decode()
    *hops, legend = out.splitlines()
    assert [re.sub(r" +[0-9.]+ ms .*  ", " ", line) for line in hops] == [
        f"302 {server.url}/redirect/2",
        f"302 {server.url}/redirect/1",
        f"200 {server.url}/",
    ]
    assert all(re.search(r" ms +[pdctswr]+  http", line) for line in hops)
    assert legend.startswith("p=pool d=dns c=connect t=tls s=send w=wait r=receive")


def test_verbose_shows_no_secret(serve: Serve, run: Run) -> None:
    server = serve(answering(response(200, b"x", [("Set-Cookie", "id=secret-4"), ("set-cookie", "secret-5")])))
    options = [part for name in SECRETS for part in ("-H", f"{name}: secret")]
    done = run("-v", *options, server.url)
    assert "secret" not in done.err
    for name in SECRETS:
        assert server.requests[0].header(name) == "secret"
        assert f"> {name}: [redacted]\n" in done.err
    assert "< Set-Cookie: [redacted]\n< set-cookie: [redacted]\n" in done.err


def test_a_password_in_the_url_is_sent_and_not_shown(serve: Serve, run: Run) -> None:
    server = serve()
    done = run("-v", f"http://user:secret@127.0.0.1:{server.port}/")
    assert server.requests[0].header("Authorization") == "Basic dXNlcjpzZWNyZXQ="
    assert "secret" not in done.err
    assert "dXNlcjpzZWNyZXQ" not in done.err
    assert "secret" not in run(f"http://user:secret@127.0.0.1:{server.port}/status/500", "-f", status=22).err


def test_verbose_steers_no_terminal_and_has_no_escape_codes(serve: Serve, run: Run) -> None:
    server = serve(answering(b"HTTP/1.1 200 \x9b2J\r\nX: \x9d0;x\x9c[bold]:smile:\r\nContent-Length: 0\r\n\r\n"))
    err = run("-v", server.url).err
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", err)
    assert "[bold]:smile:" in err


# In a terminal


def test_a_terminal_sees_text_that_cannot_steer_it(serve: Serve, run_in_terminal: Run) -> None:
    body = "grüße\x1b]0;title\x07 \x9b2J\r\nend".encode()
    url = serve(answering(response(200, body, [("Content-Type", "text/plain; charset=utf-8")]))).url
    assert run_in_terminal(url).out.decode() == "grüße\ufffd]0;title\ufffd \ufffd2J\r\nend\r\n"


def test_a_terminal_sees_text_in_its_own_encoding(serve: Serve, run_in_terminal: Run) -> None:
    url = serve(answering(response(200, "grüße\n".encode("utf-16"), [("Content-Type", "text/plain")]))).url
    assert run_in_terminal(url).out.decode() == "grüße\r\n"


def test_a_terminal_sees_no_binary(serve: Serve, run_in_terminal: Run) -> None:
    server = serve(answering(response(200, b"\x7fELF\0\x01\x02")))
    out = run_in_terminal(server.url, status=1).out
    assert b"binary" in out
    assert b"ELF" not in out


def test_a_terminal_sees_all_if_that_is_asked_for(serve: Serve, run_in_terminal: Run) -> None:
    server = serve(answering(response(200, b"\x7fELF\0\x1b[0m")))
    assert run_in_terminal("-o", "-", server.url).out == b"\x7fELF\0\x1b[0m"


def test_an_empty_body_is_nothing_in_a_terminal_too(serve: Serve, run_in_terminal: Run) -> None:
    assert run_in_terminal(serve(answering(response(200))).url).out == b""


def test_a_head_in_a_terminal_cannot_steer_it(serve: Serve, run_in_terminal: Run) -> None:
    server = serve(answering(b"HTTP/1.1 200 OK\r\nX: \x9b2J\r\n\r\n"))
    assert run_in_terminal("-I", server.url).out.decode() == "HTTP/1.1 200 OK\r\nX: \ufffd2J\r\n\r\n"


def test_verbose_has_colours_in_a_terminal_unless_they_are_not_wanted(serve: Serve, run_in_terminal: Run) -> None:
    url = f"{serve().url}/json"
    assert b"\x1b[" in run_in_terminal("-v", url).out
    plain = run_in_terminal("-v", url, NO_COLOR="1").out
    assert b"\x1b" not in plain
    assert b"> GET /json HTTP/1.1\r\n" in plain


@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="this system cannot limit another process")
def test_the_largest_body_is_not_gathered(serve: Serve, start: Start, tmp_path: Path) -> None:
    process = start("-o", os.devnull, f"{serve().url}/large?bytes=300000000")
    # Limited, not measured: the peak that the system reports of a process includes that of its parent.
    resource.prlimit(process.pid, resource.RLIMIT_DATA, (250_000_000, 250_000_000))
    assert process.wait(timeout=60) == 0
