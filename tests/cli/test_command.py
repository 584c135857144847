"""What can be typed: options, what they mean, and the exit status of each ending."""

from __future__ import annotations

import base64
import io
import json
import os
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click
import pytest

from aiosock.cli import command
from aiosock.testing import Peer, Server, response
from aiosock.version import __version__
from tests.kit.programs import without_slow_steps

Serve = Callable[..., Server]
Run = Callable[..., Any]
Start = Callable[..., subprocess.Popen[bytes]]

FORM = "application/x-www-form-urlencoded"


@pytest.fixture
def nobody() -> Iterator[str]:
    """A URL where nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}/"


@pytest.fixture
def echo(serve: Serve, run: Run) -> Callable[..., dict[str, Any]]:
    """Run the command against a page that tells what it was sent; header names come in lower case."""
    url = f"{serve().url}/echo"

    def ask(*arguments: object, keys: bytes = b"") -> dict[str, Any]:
        told: dict[str, Any] = json.loads(run(*arguments, url, keys=keys).out)
        told["headers"] = {name.lower(): value for name, value in told["headers"]}
        return told

    return ask


# Method, headers, data


def test_get_is_the_default(echo: Callable[..., dict[str, Any]]) -> None:
    told = echo()
    assert (told["method"], told["target"], told["body"]) == ("GET", "/echo", "")
    assert told["headers"]["user-agent"] == f"aiosock/{__version__}"


@pytest.mark.parametrize("option", ["-X", "--request"])
def test_method(echo: Callable[..., dict[str, Any]], option: str) -> None:
    assert echo(option, "PURGE")["method"] == "PURGE"
    assert echo(option, "PUT", "-d", "x")["method"] == "PUT"


def test_headers_are_set_repeated_emptied_and_taken_out(echo: Callable[..., dict[str, Any]]) -> None:
    told = echo("-H", "X-One:  a: b ", "--header", "X-Empty;", "-H", "User-Agent:", "-H", "accept: text/html")
    assert told["headers"]["x-one"] == "a: b"
    assert told["headers"]["x-empty"] == ""
    assert told["headers"]["accept"] == "text/html"
    assert "user-agent" not in told["headers"]


def test_a_header_given_twice_is_sent_twice(serve: Serve, run: Run) -> None:
    server = serve()
    run("-H", "X-A: 1", "-H", "X-A: 2", "-H", "Host: example.com", server.url)
    assert server.requests[0].header_values("X-A") == ["1", "2"]
    assert server.requests[0].header_values("Host") == ["example.com"]


@pytest.mark.parametrize("option", ["-d", "--data"])
def test_data_is_posted_as_a_form(echo: Callable[..., dict[str, Any]], option: str) -> None:
    told = echo(option, "a=1", option, "b=ü&c")
    assert (told["method"], told["body"]) == ("POST", "a=1&b=ü&c")
    assert told["headers"]["content-type"] == FORM


def test_data_comes_from_files_without_line_ends(echo: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    (tmp_path / "form").write_bytes(b"a=1\r\nb=\x002\n")
    told = echo("-d", "x", "-d", f"@{tmp_path / 'form'}")
    assert told["body"] == "x&a=1b=2"


def test_data_comes_from_standard_input(echo: Callable[..., dict[str, Any]]) -> None:
    assert echo("-d", "@-", keys=b"a=1\n")["body"] == "a=1"


def test_empty_data_is_posted_too(echo: Callable[..., dict[str, Any]]) -> None:
    told = echo("-d", "")
    assert (told["method"], told["headers"]["content-length"]) == ("POST", "0")


def test_the_content_type_of_data_can_be_overruled(echo: Callable[..., dict[str, Any]]) -> None:
    assert echo("-d", "x", "-H", "content-type: text/plain")["headers"]["content-type"] == "text/plain"
    assert "content-type" not in echo("-d", "x", "-H", "Content-Type:")["headers"]


def test_json_is_posted_with_its_type(echo: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    (tmp_path / "rest.json").write_bytes(b'1,\n"b": 2}\n')
    told = echo("--json", '{"a": ', "--json", f"@{tmp_path / 'rest.json'}")
    assert (told["method"], told["body"]) == ("POST", '{"a": 1,\n"b": 2}\n')
    assert told["headers"]["content-type"] == told["headers"]["accept"] == "application/json"


@pytest.mark.parametrize("option", ["-F", "--form"])
def test_a_form_is_posted_in_parts(echo: Callable[..., dict[str, Any]], tmp_path: Path, option: str) -> None:
    (tmp_path / "a.png").write_bytes(b"a file")
    told = echo(option, "b=ü=1", option, f"a=@{tmp_path / 'a.png'};filename=c;type=x/y", option, f"b=<{tmp_path}/a.png")
    boundary = told["headers"]["content-type"].removeprefix("multipart/form-data; boundary=")
    assert told["method"] == "POST"
    assert told["body"].split(f"--{boundary}") == [
        "",
        '\r\nContent-Disposition: form-data; name="b"\r\n\r\nü=1\r\n',
        '\r\nContent-Disposition: form-data; name="a"; filename="c"\r\nContent-Type: x/y\r\n\r\na file\r\n',
        '\r\nContent-Disposition: form-data; name="b"\r\n\r\na file\r\n',
        "--\r\n",
    ]
    assert told["headers"]["content-length"] == str(len(told["body"].encode()))


def test_parts_of_a_form_come_from_standard_input(echo: Callable[..., dict[str, Any]]) -> None:
    assert 'name="a"; filename="-"\r\n' in echo("-F", "a=@-", keys=b"typed")["body"]
    told = echo("-X", "PUT", "-F", "a=<-", "-H", "Content-Type: multipart/x; boundary=B", keys=b"typed")
    assert told["method"] == "PUT"
    assert told["body"] == '--B\r\nContent-Disposition: form-data; name="a"\r\n\r\ntyped\r\n--B--\r\n'


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("a=b", ("a", (None, b"b", None))),
        ("a=", ("a", (None, b"", None))),
        ("=b", ("", (None, b"b", None))),
        ("a=b=c", ("a", (None, b"b=c", None))),
        ("a= b ", ("a", (None, b" b ", None))),
        ("a=x@y<z", ("a", (None, b"x@y<z", None))),
        ("a=\udcff", ("a", (None, b"\xff", None))),
        ("a=b;type=c/d", ("a", (None, b"b", "c/d"))),
        ("a=b; type=c/d;charset=utf-8; filename=e", ("a", ("e", b"b", "c/d;charset=utf-8"))),
        ("a=b;filename=c", ("a", ("c", b"b", None))),
        ("a=b;", ("a", (None, b"b", None))),
        ('a="b;c"', ("a", (None, b"b;c", None))),
        ('a="b;c" ; filename="d;\\"e\\\\f\\g"', ("a", ('d;"e\\f\\g', b"b;c", None))),
        ('a="b\\\n;c"', ("a", (None, b"b\\\n;c", None))),
        ('a="b', ("a", (None, b'"b', None))),
        ('a="b"c', ("a", (None, b'"b"c', None))),
        ("a=b\nc", ("a", (None, b"b\nc", None))),
    ],
)
def test_what_a_part_of_a_form_means(text: str, part: object) -> None:
    with ExitStack() as stack:
        assert command.form_part(text, stack) == part


def test_a_file_of_a_form_is_opened_by_its_path_and_closed(tmp_path: Path) -> None:
    path = tmp_path / "a;b,c"
    path.write_bytes(b"x")
    with ExitStack() as stack:
        name, (filename, file, content_type) = command.form_part(f'a=@"{path}"', stack)  # type: ignore[misc]
        assert (name, filename, content_type) == ("a", "a;b,c", None)
        assert file.read() == b"x"  # type: ignore[union-attr]
    assert file.closed  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a", "NAME=VALUE or NAME=@FILE, not a"),
        ("", "NAME=VALUE or NAME=@FILE"),
        ("a=@/nonexistent/file", "cannot read /nonexistent/file: No such file"),
        ("a=</nonexistent/file", "cannot read /nonexistent/file: No such file"),
        ("a=@", "cannot read : No such file"),
        ("a=@/", "cannot read /: Is a directory"),
        ("a=b;c", "a: what follows a semicolon is type= or filename="),
        ("a=b;c=d", "a: what follows a semicolon is type= or filename="),
        ("a=b;type=c/d;e f=g", "a: what follows a semicolon is type= or filename="),
    ],
)
def test_what_is_no_part_of_a_form_is_refused(text: str, told: str) -> None:
    with ExitStack() as stack, pytest.raises(click.BadParameter, match=told):
        command.form_part(text, stack)


def test_a_url_without_a_scheme_means_http(serve: Serve, run: Run) -> None:
    server = serve()
    assert b"Page 1" in run(server.url.removeprefix("http://") + "/page/1").out
    assert b"aiosock" in run("-L", f"localhost:{server.port}/json").out


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("example.com", "http://example.com"),
        ("localhost:80/a?u=http://b", "http://localhost:80/a?u=http://b"),
        ("https://example.com", "https://example.com"),
        ("HTTP://example.com", "HTTP://example.com"),
        ("ftp://example.com", "ftp://example.com"),
        ("user:word@example.com", "http://user:word@example.com"),
    ],
)
def test_what_a_url_means(given: str, meant: str) -> None:
    assert command.absolute_url(given) == meant


@pytest.mark.parametrize("line", ["X-No-Colon", "secret", "@file", ""])
def test_what_is_no_header_is_refused_and_not_shown(line: str) -> None:
    with pytest.raises(click.BadParameter) as caught:
        command.parse_header(line)
    assert not line or line not in str(caught.value)


def test_arguments_are_sent_as_the_bytes_that_they_are() -> None:
    assert command.read_data("ü\udcff", "-d") == "ü".encode() + b"\xff"


def test_standard_input_is_read_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"a\r\nb\0")))
    assert command.form_content(["@-"]) == b"ab"


# Exit statuses


def test_help_and_version_are_printed(run: Run) -> None:
    assert b"aiosock demo" in run("--help").out
    assert run("-h").out == run("--help").out
    assert run("--version").out.startswith(f"aiosock {__version__} (".encode())
    assert b"--concurrency" in run("demo", "--help").out
    assert run("demo", "--version").out == run("--version").out


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["http://localhost/", "http://localhost/"],
        ["--nonsense", "http://localhost/"],
        ["-d", "x", "--json", "1", "http://localhost/"],
        ["-d", "x", "-F", "a=b", "http://localhost/"],
        ["--json", "1", "-F", "a=b", "http://localhost/"],
        ["-I", "-F", "a=b", "http://localhost/"],
        ["-F", "a", "http://localhost/"],
        ["-F", "a=@/nonexistent/file", "http://localhost/"],
        ["-F", "\udcff=b", "http://localhost/"],
        ["-F", "a=b", "-H", "Content-Type: text/plain", "http://localhost/"],
        ["-F", "a=b", "-H", "content-type:", "http://localhost/"],
        ["-I", "-d", "x", "http://localhost/"],
        ["-I", "--json", "1", "http://localhost/"],
        ["-H", "no colon", "http://localhost/"],
        ["-H", "bad name: x", "http://localhost/"],
        ["-H", "X: ☂", "http://localhost/"],
        ["-d", "@/nonexistent/file", "http://localhost/"],
        ["--json", "@/nonexistent/file", "http://localhost/"],
        ["-X", "BAD METHOD", "http://localhost/"],
        ["--max-time", "soon", "http://localhost/"],
        ["--max-time", "0", "http://localhost/"],
        ["--max-time", "-1", "http://localhost/"],
        ["--max-time", "nan", "http://localhost/"],
        ["--max-time", "inf", "http://localhost/"],
        ["ftp://localhost/"],
        ["http://local host/"],
        ["http://localhost:99999/"],
        ["/etc/passwd"],
        [""],
        ["demo", "--requests", "0"],
        ["demo", "--concurrency", "0"],
        ["demo", "ftp://localhost/"],
    ],
)
def test_bad_usage_is_2(capfd: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    assert command.run(arguments) == 2
    out, err = capfd.readouterr()
    assert err
    assert "Traceback" not in err
    assert out == ""


def test_bad_usage_is_the_status_of_the_process(run: Run) -> None:
    assert run("ftp://localhost/", status=2).err.startswith("aiosock: the URL's scheme is not http or https")
    assert run("--nonsense", status=2).err.startswith("Usage: aiosock ")
    assert run("demo", "--nonsense", status=2).err.startswith("Usage: aiosock demo ")


def test_a_failed_request_is_1_and_a_sentence(run: Run, nobody: str) -> None:
    done = run(f"{nobody}path?token=secret", status=1)
    assert done.out == b""
    assert len(done.err.splitlines()) == 1
    assert done.err.startswith("aiosock: 127.0.0.1:")
    assert "secret" not in done.err


def test_what_the_server_says_in_an_error_steers_no_terminal(serve: Serve, run: Run) -> None:
    server = serve(_answering(b"HTTP/1.1 4\x1b[2J\x9b Nope\r\n\r\n"))
    done = run(server.url, status=1)
    assert len(done.err.splitlines()) == 1
    assert "\x1b" not in done.err
    assert "\x9b" not in done.err


def test_fail_is_22_and_prints_no_body(serve: Serve, run: Run, tmp_path: Path) -> None:
    server = serve()
    for code, reason in ((404, "Not Found"), (500, "Internal Server Error")):
        done = run("--fail", f"{server.url}/status/{code}", status=22)
        assert done.out == b""
        assert done.err == f"aiosock: the server answered {code} {reason}\n"
    assert run("-f", f"{server.url}/json").out
    assert run("-f", f"{server.url}/redirect/1").out == b""
    target = tmp_path / "file"
    target.write_bytes(b"old")
    run("-f", "-o", target, f"{server.url}/status/404", status=22)
    assert target.read_bytes() == b"old"


def test_without_fail_an_error_page_is_a_page(serve: Serve, run: Run) -> None:
    done = run(f"{serve().url}/status/404")
    assert (done.out, done.err) == (b"404 Not Found\n", "")


@pytest.mark.parametrize("where", ["head", "body"])
def test_ctrl_c_is_130_and_silent(serve: Serve, start: Start, tmp_path: Path, where: str) -> None:
    asked = threading.Event()

    async def stall(peer: Peer) -> None:
        await peer.read_request()
        if where == "body":
            await peer.send(response(200, b"half", [("Content-Length", "100")]))
        asked.set()
        await peer.wait_disconnect()

    process = start("-o", tmp_path / "file", serve(stall).url)
    assert asked.wait(60)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (out, without_slow_steps(err.decode())) == (b"", "")
    assert process.returncode == 130
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_counts_while_the_reader_of_our_output_pauses(serve: Serve, start: Start) -> None:
    process = start(f"{serve().url}/large?bytes=100000000")
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stdout.read(1) == b"0"
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130
    assert process.stderr.read() == b""


@pytest.mark.parametrize("arguments", [[], ["-v"]])
def test_a_reader_that_has_seen_enough_is_no_error(serve: Serve, start: Start, arguments: list[str]) -> None:
    process = start(*arguments, f"{serve().url}/large?bytes=100000000")
    assert process.stdout is not None
    assert process.stdout.read(10) == b"0123456789"
    process.stdout.close()
    assert process.wait(60) == 0
    assert process.stderr is not None
    assert b"Error" not in process.stderr.read()


def test_nobody_who_reads_the_heads_is_no_error_either(serve: Serve, start: Start) -> None:
    process = start("-v", f"{serve().url}/slow")
    assert process.stderr is not None
    process.stderr.close()
    assert process.wait(60) == 0


def test_max_time_covers_the_head_and_the_body(serve: Serve, run: Run, tmp_path: Path) -> None:
    async def drip(peer: Peer) -> None:
        await peer.read_request()
        await peer.send(response(200, b"half", [("Content-Length", "100")]))
        await peer.wait_disconnect()

    done = run("--max-time", "0.2", f"{serve().url}/slow?seconds=5", status=1)
    assert (done.out, done.err) == (b"", "aiosock: not done within 0.2 seconds (--max-time)\n")
    done = run("--max-time", "1", serve(drip).url, status=1)
    assert (done.out, done.err) == (b"half", "aiosock: not done within 1 seconds (--max-time)\n")
    assert run("--max-time", "30", f"{serve().url}/json").out


def test_it_runs_where_uvloop_is_not_installed(serve: Serve, run: Run) -> None:
    assert run(f"{serve().url}/json", without="uvloop").out == run(f"{serve().url}/json").out


def _answering(data: bytes) -> Callable[[Peer], Any]:
    async def script(peer: Peer) -> None:
        await peer.read_request()
        await peer.send(data)

    return script


# Who asks, and through whom


@pytest.mark.parametrize("option", ["-u", "--user"])
def test_user_and_password(echo: Callable[..., dict[str, Any]], option: str) -> None:
    assert echo(option, "me:pass:word")["headers"]["authorization"] == "Basic bWU6cGFzczp3b3Jk"


def test_user_and_password_may_be_any_bytes(echo: Callable[..., dict[str, Any]], run: Run) -> None:
    user = os.fsdecode(b"m\xfe:p\xff:\xc3\xa4")
    told = base64.b64encode(os.fsencode(user)).decode()
    assert echo("-u", user)["headers"]["authorization"] == f"Basic {told}"
    assert echo("-u", user, "-H", "Authorization: mine")["headers"]["authorization"] == "mine"
    assert "lone surrogate" in run("-u", user, "--digest", "http://127.0.0.1:1/", status=2).err


def test_the_password_is_asked_for_on_a_terminal_only(run: Run) -> None:
    assert "takes USER:PASSWORD" in run("-u", "me", "http://127.0.0.1:1/", status=2).err


def test_digest_is_answered_and_basic_is_not_sent(serve: Serve, run: Run) -> None:
    challenge = response(401, headers=[("WWW-Authenticate", 'Digest realm="r", nonce="n", qop="auth"')])

    async def script(peer: Peer) -> None:
        while request := await peer.read_request():
            await peer.send(response(body=b"in") if request.header("Authorization") else challenge)

    server = serve(script)
    assert run("-u", "me:secret", "--digest", server.url).out == b"in"
    first, second = (request.header("Authorization") for request in server.requests)
    assert first is None
    assert second is not None
    assert second.startswith('Digest username="me"')


def test_digest_needs_a_user(run: Run) -> None:
    assert "--digest needs -u" in run("--digest", "http://127.0.0.1:1/", status=2).err


@pytest.mark.parametrize("option", ["-x", "--proxy"])
def test_a_proxy(serve: Serve, run: Run, option: str) -> None:
    proxy = serve()
    told = json.loads(run(option, f"127.0.0.1:{proxy.port}", "http://nowhere.example/echo").out)
    assert told["target"] == "http://nowhere.example/echo"


def test_the_proxy_of_the_environment_unless_there_is_to_be_none(serve: Serve, run: Run) -> None:
    proxy, server = serve(), serve()
    run(f"{server.url}/echo", http_proxy=proxy.url)
    assert [len(one.requests) for one in (proxy, server)] == [1, 0]
    run("-x", "", f"{server.url}/echo", http_proxy=proxy.url)
    assert [len(one.requests) for one in (proxy, server)] == [1, 1]


def test_a_proxy_that_cannot_be_used_is_bad_usage_and_its_password_is_not_shown(run: Run) -> None:
    err = run("-x", "gopher://u:secret@h", "http://127.0.0.1:1/", status=2).err
    assert len(err.splitlines()) == 1
    assert "gopher" in err
    assert "secret" not in err
