"""Each example does what its docstring says, started as a user starts it, against a server on loopback."""

from __future__ import annotations

import asyncio
import gzip
import json
import re
import socket
from collections.abc import Callable, Iterator
from email.message import EmailMessage
from email.parser import BytesParser
from email.policy import HTTP
from itertools import pairwise
from pathlib import Path
from ssl import SSLContext
from subprocess import CompletedProcess
from urllib.parse import parse_qsl

import pytest

from aiosock.testing import Peer, Server, response
from tests.kit.relay import relay

Serve = Callable[..., Server]
Run = Callable[..., CompletedProcess[str]]

HTML = [("Content-Type", "text/html; charset=utf-8")]


@pytest.fixture
def nobody() -> Iterator[str]:
    """A URL where nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}/"


def pages(**answers: bytes) -> Callable[[Peer], object]:
    """A script that answers /NAME with what is given for NAME, and 404 to everything else."""

    async def script(peer: Peer) -> None:
        while request := await peer.read_request():
            await peer.send(answers.get(request.target.strip("/"), response(404)))

    return script


def html(body: str) -> bytes:
    return response(200, f"<title>T</title><body>{body}".encode(), HTML)


def lines(done: CompletedProcess[str]) -> list[dict[str, object]]:
    return [json.loads(line) for line in done.stdout.splitlines()]


def targets(server: Server) -> list[str]:
    return [request.target for request in server.requests]


# crawl.py


def crawl(run: Run, url: str, *options: object) -> list[dict[str, object]]:
    return lines(run("crawl.py", "--pause", 0, *options, url))


def test_crawler_tells_each_page_once(serve: Serve, run: Run) -> None:
    server = serve()
    found = crawl(run, f"{server.url}/page/0", "--depth", 3)
    urls = [line["url"] for line in found]
    assert len(urls) == len(set(urls)) > 5
    assert found[0] == {
        "url": f"{server.url}/page/0",
        "depth": 0,
        "status": 200,
        "type": "text/html; charset=utf-8",
        "title": "Page 0",
        "links": 3,
    }
    assert {line["depth"] for line in found} == {0, 1, 2, 3}
    assert targets(server)[0] == "/robots.txt"
    assert targets(server).count("/robots.txt") == 1
    assert server.connections == 1


def test_crawler_keeps_to_its_limits(serve: Serve, run: Run) -> None:
    url = f"{serve().url}/page/0"
    assert len(crawl(run, url, "--depth", 50, "--pages", 7)) == 7
    assert len(crawl(run, url, "--depth", 0)) == 1


def test_crawler_keeps_to_robots_txt(serve: Serve, run: Run) -> None:
    server = serve()
    found = {line["url"]: line for line in crawl(run, f"{server.url}/", "--depth", 1)}
    assert found[f"{server.url}/status/404"]["error"] == "robots.txt does not allow it"
    assert "/status/404" not in targets(server)


def test_crawler_stays_away_when_robots_txt_fails(serve: Serve, run: Run) -> None:
    server = serve(pages(**{"robots.txt": response(503), "": html("hello")}))
    assert "robots.txt" in str(crawl(run, f"{server.url}/")[0]["error"])
    assert targets(server) == ["/robots.txt"]


def test_crawler_stays_on_its_host(serve: Serve, run: Run) -> None:
    away = serve()
    elsewhere = f"http://localhost:{away.port}/"
    index = html(f'<a href="{elsewhere}">away</a> <a href="/moved">moved</a> <a href="mailto:a@b.c">mail</a>')
    server = serve(pages(**{"": index, "moved": response(302, b"", [("Location", elsewhere)])}))
    found = crawl(run, f"{server.url}/")
    assert [line["url"] for line in found] == [f"{server.url}/", f"{server.url}/moved"]
    assert found[1]["location"] == elsewhere
    assert not away.requests


@pytest.mark.parametrize(("pause", "delay"), [(0.2, 0), (0, 0.2)])
def test_crawler_pauses_between_requests(serve: Serve, run: Run, pause: float, delay: float) -> None:
    times: list[float] = []

    async def script(peer: Peer) -> None:
        while request := await peer.read_request():
            times.append(asyncio.get_running_loop().time())
            rules = f"User-agent: *\nCrawl-delay: {delay}\n".encode()
            index = html('<a href="/a">a</a>')
            await peer.send(response(200, rules) if request.target == "/robots.txt" else index)

    run("crawl.py", "--pause", pause, f"{serve(script).url}/")
    assert len(times) == 3  # robots.txt and two pages
    assert min(later - earlier for earlier, later in pairwise(times)) >= 0.19


def test_crawler_tells_errors_as_lines_and_goes_on(serve: Serve, run: Run) -> None:
    short = response(200, b"half", [*HTML, ("Content-Length", "100")])

    async def script(peer: Peer) -> None:
        while request := await peer.read_request():
            if request.target == "/short":
                await peer.send(short)
                return
            answers = {"/": html('<a href="/short">1</a><a href="/gone">2</a>')}
            await peer.send(answers.get(request.target, response(404)))

    server = serve(script)
    found = crawl(run, f"{server.url}/")
    assert str(found[1]["error"]).startswith("IncompleteBody: ")
    assert (found[2]["url"], found[2]["status"]) == (f"{server.url}/gone", 404)


@pytest.mark.parametrize(("program", "status"), [("crawl.py", 2), ("tiny_browser.py", 1)])
@pytest.mark.parametrize("address", ["example.com", "ftp://example.com/", "http://["])
def test_what_is_no_web_address_is_bad_usage(run: Run, program: str, status: int, address: str) -> None:
    assert run(program, address, status=status).stderr.startswith("usage: ")


@pytest.mark.parametrize("pause", ["-1", "nan", "inf"])
def test_what_is_no_pause_is_bad_usage(run: Run, pause: str) -> None:
    assert "a pause is a number of seconds" in run("crawl.py", f"--pause={pause}", "http://a/", status=2).stderr


# fetch_many.py


def test_no_connections_at_all_is_bad_usage(run: Run) -> None:
    assert (
        "max_connections must be at least 1" in run("fetch_many.py", "--connections", 0, "http://a/", status=2).stderr
    )


def test_many_are_fetched_over_few_connections(serve: Serve, run: Run) -> None:
    server = serve()
    urls = [f"{server.url}/page/{number}" for number in range(30)]
    *told, pool = run("fetch_many.py", "--connections", 3, *urls).stdout.splitlines()
    assert sorted(line.split()[-1] for line in told) == sorted(urls)
    assert all(line.startswith("200 ") for line in told)
    assert server.connections == 3
    assert re.search(r"\b3\b", pool)


def test_one_bad_url_does_not_stop_the_others(serve: Serve, run: Run, nobody: str) -> None:
    server = serve()
    output = run("fetch_many.py", nobody, f"{server.url}/", status=1).stdout
    assert re.search(r"^ERR .*ConnectError", output, re.MULTILINE)
    assert re.search(r"^200 ", output, re.MULTILINE)


# stream_to_file.py


def test_stream_is_written_whole(serve: Serve, run: Run, tmp_path: Path) -> None:
    target = tmp_path / "large.bin"
    done = run("stream_to_file.py", f"{serve().url}/large?bytes=3000000", target)
    assert target.read_bytes() == b"0123456789abcdef" * (3_000_000 // 16)
    assert "3000000 of 3000000 bytes" in done.stderr
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("fault", ["cut", "status"])
def test_failed_stream_leaves_the_old_file_alone(serve: Serve, run: Run, tmp_path: Path, fault: str) -> None:
    async def cut(peer: Peer) -> None:
        await peer.read_request()
        await peer.send(response(200, b"new", [("Content-Length", "100")]))

    target = tmp_path / "file"
    target.write_text("old")
    server = serve(cut if fault == "cut" else pages())
    done = run("stream_to_file.py", f"{server.url}/file", target, status=1)
    assert "was not written" in done.stderr
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


# upload.py


def test_upload_sends_a_file_with_its_length_and_an_iterator_in_chunks(serve: Serve, run: Run, tmp_path: Path) -> None:
    data = b"".join(b"line %d\n" % number for number in range(50_000))
    source = tmp_path / "source.txt"
    source.write_bytes(data)

    async def accept(peer: Peer) -> None:
        while await peer.read_request():
            await peer.send(response(201, b"thank you"))

    server = serve(accept)
    output = run("upload.py", f"{server.url}/upload", source).stdout
    assert output.count("201 thank you") == 2
    counted, chunked = server.requests
    assert counted.header("Content-Length") == str(len(data))
    assert counted.body == data
    assert chunked.header("Transfer-Encoding") == "chunked"
    assert gzip.decompress(chunked.body) == data


def test_upload_to_nobody_is_a_sentence(run: Run, nobody: str, tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(b"x")
    done = run("upload.py", nobody, tmp_path / "source", status=1)
    assert len(done.stderr.splitlines()) == 1


def test_upload_of_a_missing_file_is_a_sentence(run: Run, nobody: str, tmp_path: Path) -> None:
    done = run("upload.py", nobody, tmp_path / "missing", status=1)
    assert "missing" in done.stderr
    assert len(done.stderr.splitlines()) == 1


# upload_files.py


def test_files_are_uploaded_with_fields_as_a_form(serve: Serve, run: Run, tmp_path: Path) -> None:
    contents = {"ünicode.txt": b"text\r\n", "large.bin": bytes(range(256)) * 8192}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)

    async def accept(peer: Peer) -> None:
        while await peer.read_request():
            await peer.send(response(201, b"thank you"))

    server = serve(accept)
    url = f"{server.url}/upload"
    done = run("upload_files.py", "--field", "title=A = B", "--field", "tag=x", url, *map(tmp_path.joinpath, contents))
    assert done.stdout == "201 thank you\n"
    [request] = server.requests
    assert f"{len(request.body)} bytes, 100 %" in done.stderr
    assert request.header("Content-Length") == str(len(request.body))
    head = f"Content-Type: {request.header('Content-Type')}\r\n\r\n".encode()
    message = BytesParser(policy=HTTP).parsebytes(head + request.body)
    assert isinstance(message, EmailMessage)
    parts = [
        (part.get_param("name", header="Content-Disposition"), part.get_filename(), part.get_payload(decode=True))
        for part in message.iter_parts()
    ]
    assert parts == [
        ("title", None, b"A = B"),
        ("tag", None, b"x"),
        *(("files", name, content) for name, content in contents.items()),
    ]


def test_upload_of_files_says_in_a_sentence_what_fails(serve: Serve, run: Run, nobody: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    missing = run("upload_files.py", nobody, tmp_path / "missing", status=1)
    assert "missing" in missing.stderr
    refused = run("upload_files.py", serve(pages()).url, tmp_path / "file", status=1)
    assert "404" in refused.stderr
    field = run("upload_files.py", "--field", "no value", nobody, tmp_path / "file", status=2)
    assert "NAME=VALUE" in field.stderr
    for done in (missing, refused):
        assert done.stderr.splitlines()[-1].startswith("the upload failed: ")


# tiny_browser.py


def test_browser_follows_links_and_goes_back(serve: Serve, run: Run) -> None:
    server = serve()
    output = run("tiny_browser.py", f"{server.url}/", keys="1\n2\nb\nb\nq\n").stdout
    assert re.findall(r"^(?:Page \d+|A small site)$", output, re.MULTILINE) == [
        "A small site",
        "Page 0",
        "Page 1",
        "Page 0",
        "A small site",
    ]
    assert "[1]/page/0" in output
    assert server.connections == 1


def test_browser_ends_with_its_input_and_refuses_other_words(serve: Serve, run: Run) -> None:
    server = serve()
    output = run("tiny_browser.py", f"{server.url}/page/0", keys="99\nb\nwhat\n").stdout
    assert output.count("a number from 1 to 3") == 3
    assert len(server.requests) == 1


def test_browser_shows_text_and_nothing_that_steers_the_terminal(serve: Serve, run: Run) -> None:
    page = html(
        "<h1>Café</h1><script>var hidden</script><p>some <b>bold</b>\n text&#27;[2J</p>"
        '<a href="javascript:x()">no link</a> <a href="?q=1">a link</a>'
    )
    server = serve(pages(**{"": page, "?q=1": html("followed")}))
    output = run("tiny_browser.py", f"{server.url}/", keys="1\n").stdout
    assert "Café\nsome bold text[2Jno link [1]a link\n" in output
    assert "hidden" not in output
    assert "\x1b" not in output
    assert "followed" in output


def test_browser_says_what_fails_and_goes_on(serve: Serve, run: Run, nobody: str) -> None:
    server = serve(pages(**{"": html(f'<a href="{nobody}">nobody</a> <a href="/two">two</a>'), "two": html("two!")}))
    output = run("tiny_browser.py", f"{server.url}/", keys="1\nb\n2\n").stdout
    assert f"{nobody}: " in output
    assert "two!" in output


# login_form.py

LOGIN = html(
    '<form action="/login" method="post"><input type="hidden" name="token" value="t&quot;1"><input name="user">'
    '<input type="password" name="pass"><input type="submit"></form>'
)


async def guarded_site(peer: Peer) -> None:
    """A page behind a login form, which leads there by two redirects that each set a cookie."""
    while request := await peer.read_request():
        cookies = request.header("Cookie") or ""
        if request.method == "POST":
            sent = dict(parse_qsl(request.body.decode()))
            right = sent == {"token": 't"1', "user": "ada", "pass": "secret"} and "visit=1" in cookies
            step = [("Location", "/step"), ("Set-Cookie", "half=1; Path=/")]
            await peer.send(response(303, b"", step) if right else LOGIN)
        elif request.target == "/step":
            done = [("Location", "/home"), ("Set-Cookie", "session=s1; Path=/; HttpOnly")]
            await peer.send(response(302, b"", done if "half=1" in cookies else [("Location", "/login")]))
        elif "session=s1" in cookies:
            await peer.send(html("welcome back"))
        else:
            await peer.send(LOGIN.replace(b"\r\n", b"\r\nSet-Cookie: visit=1\r\n", 1))


def test_login_is_kept_across_redirects_and_runs(serve: Serve, run: Run, tmp_path: Path) -> None:
    server = serve(guarded_site)
    jar = tmp_path / "cookies.txt"
    output = run("login_form.py", "--cookies", jar, f"{server.url}/", "ada", PASSWORD="secret").stdout
    assert f"at: {server.url}/home after 2 redirects" in output
    assert "cookies: half, session, visit" in output
    assert "welcome back" in output
    assert "#HttpOnly_127.0.0.1\tFALSE\t/\tFALSE\t0\tsession\ts1" in jar.read_text()
    before = len(server.requests)
    assert "welcome back" in run("login_form.py", "--cookies", jar, f"{server.url}/", "ada").stdout
    assert targets(server)[before:] == ["/"]


def test_login_with_a_wrong_password_is_a_sentence(serve: Serve, run: Run) -> None:
    done = run("login_form.py", f"{serve(guarded_site).url}/", "ada", status=1, PASSWORD="wrong")
    assert done.stderr == "ada was not let in\n"


# through_proxy.py


def test_urls_are_fetched_through_a_proxy_and_some_directly(
    serve: Serve, run: Run, server_context: SSLContext, ca_file: str
) -> None:
    proxy, plain, secure = serve(relay), serve(), serve(ssl=server_context)
    urls = [f"{plain.url}/page/1", f"{secure.url.replace('127.0.0.1', 'localhost')}/page/2"]
    direct = f"http://localhost:{serve().port}/page/3"
    options = ["--proxy", proxy.url, "--ca", ca_file]
    done = run("through_proxy.py", *options, "--direct", direct.split("/")[2], *urls, direct)
    told = done.stdout.splitlines()
    way = f"by way of 127.0.0.1:{proxy.port}"
    assert [way in line for line in told] == [True, True, False]
    assert all(": 200, " in line for line in told)
    assert [request.method for request in proxy.requests] == ["GET", "CONNECT"]


def test_the_proxy_of_the_environment_is_taken_and_what_it_refuses_is_told(serve: Serve, run: Run) -> None:
    proxy = serve(pages(**{"": b""}))
    done = run("through_proxy.py", "https://nowhere.example/", status=1, https_proxy=proxy.url)
    assert "the proxy refused with 404" in done.stdout
    assert run("through_proxy.py", "--direct", "h", "http://h/", status=2).stderr.startswith("usage: ")


# oauth.py


def test_a_token_is_asked_for_once_and_serves_all(serve: Serve, run: Run) -> None:
    async def script(peer: Peer) -> None:
        while request := await peer.read_request():
            if request.target == "/token":
                await peer.send(
                    response(200, b'{"access_token": "t1", "expires_in": 60}', [("Content-Type", "application/json")])
                )
            else:
                await peer.send(response(200 if request.header("Authorization") == "Bearer t1" else 401, b"data"))

    server = serve(script)
    run("oauth.py", f"{server.url}/token", "id", *[f"{server.url}/{n}" for n in range(5)], CLIENT_SECRET="s3cret")
    assert targets(server).count("/token") == 1
    assert len(server.requests) == 6


# guarded_fetch.py


async def strange_site(peer: Peer) -> None:
    """Pages that cost too much, or lead to where they should not."""
    to = {"/loop": "/loop", "/in": f"//127.0.0.2:{peer.server.port}/", "/cloud": "http://169.254.169.254/latest/"}
    while request := await peer.read_request():
        if request.target in to:
            await peer.send(response(302, b"", [("Location", to[request.target])]))
        else:
            await peer.send(response(200, b"x" * 5000 if request.target == "/large" else b"hello"))


def test_what_strangers_give_is_fetched_within_bounds_or_refused_in_a_line(serve: Serve, run: Run) -> None:
    public, intern = serve(strange_site), serve()
    options = ["--allow", "127.0.0.1", "--port", public.port, "--max-bytes", 1000, "--seconds", 5]
    urls = {
        f"{public.url}/page": "200, 5 bytes",
        f"{public.url}/large": "too large: ",
        f"{public.url}/loop": "too many redirects: ",
        f"{public.url}/in": "refused: the guard refuses 127.0.0.2: it is loopback",
        f"{public.url}/cloud": "refused: the guard refuses 169.254.169.254: 80 is none of the ports",
        intern.url: f"refused: the guard refuses 127.0.0.1: {intern.port} is none of the ports",
        f"http://0x7f.2:{public.port}/": "refused: the guard refuses 0x7f.2: 127.0.0.2 is loopback",
        "ftp://127.0.0.1/": "no URL: ",
    }
    told = run("guarded_fetch.py", *options, *urls, status=1).stdout.splitlines()
    assert len(told) == len(urls)
    for line, (url, came) in zip(told, urls.items(), strict=True):
        assert line.startswith(f"{url!r}: {came}")
    assert not intern.connections


def test_by_default_nothing_but_what_is_public_is_fetched(serve: Serve, run: Run) -> None:
    server = serve()
    done = run("guarded_fetch.py", "--port", server.port, server.url, f"http://localhost:{server.port}/", status=1)
    assert [": refused: " in line and "loopback" in line for line in done.stdout.splitlines()] == [True, True]
    assert not server.connections


def test_a_fetch_that_takes_too_long_is_given_up(serve: Serve, run: Run) -> None:
    async def silent(peer: Peer) -> None:
        await peer.wait_disconnect()

    server = serve(silent)
    done = run(
        "guarded_fetch.py", "--allow", "127.0.0.1", "--port", server.port, "--seconds", 0.2, server.url, status=1
    )
    assert ": too slow: " in done.stdout


def test_what_is_no_network_is_bad_usage_of_the_guarded_fetch(run: Run) -> None:
    done = run("guarded_fetch.py", "--allow", "10.0.0.1/8", "http://name.example/", status=2)
    assert "hosts has '10.0.0.1/8'" in done.stderr


# llm_stream.py

EVENT_STREAM = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n"
)


def delta(text: str) -> str:
    return json.dumps({"id": "x", "choices": [{"index": 0, "delta": {"content": text}}]})


def model(*data: str) -> Callable[[Peer], object]:
    """A script that answers with these events, and ends the answer in good order."""

    async def script(peer: Peer) -> None:
        await peer.read_request()
        await peer.send(EVENT_STREAM)
        for one in data:
            event = f"data: {one}\n\n".encode()
            await peer.send_pieces(b"%x\r\n%s\r\n" % (len(event), event))
        await peer.send(b"0\r\n\r\n")

    return script


def test_an_answer_is_printed_as_it_comes(serve: Serve, run: Run) -> None:
    first = '{"choices": [{"delta": {"role": "assistant"}}]}'
    server = serve(model(first, delta("Grüß "), delta("Gott\n"), delta("\x1b[2J!"), "[DONE]"))
    done = run("llm_stream.py", "--url", f"{server.url}/v1/chat", "--model", "m", "Hallo?", API_KEY="k3y")
    assert done.stdout == "Grüß Gott\n[2J!\n"
    (request,) = server.requests
    assert (request.method, request.target) == ("POST", "/v1/chat")
    assert request.header("Authorization") == "Bearer k3y"
    assert json.loads(request.body) == {
        "model": "m",
        "stream": True,
        "messages": [{"role": "user", "content": "Hallo?"}],
    }


def test_without_a_url_the_example_answers_itself(run: Run) -> None:
    assert run("llm_stream.py", "Anybody there?").stdout.startswith("You asked: Anybody there? I only repeat")


@pytest.mark.parametrize(
    ("events", "printed", "reason"),
    [
        ((delta("a"),), "a\n", "the answer ended without [DONE]"),
        ((delta("a"), '{"error": {"message": "overloaded"}}'), "a\n", "the service says: {'message': 'overloaded'}"),
        (("nonsense",), "\n", "an event is no piece of an answer: nonsense"),
        (("[1]",), "\n", "an event is no piece of an answer: [1]"),
    ],
    ids=["cut short", "error", "no JSON", "another JSON"],
)
def test_an_answer_that_is_none_is_told_in_a_sentence(
    serve: Serve, run: Run, events: tuple[str, ...], printed: str, reason: str
) -> None:
    done = run("llm_stream.py", "--url", serve(model(*events)).url, "?", status=1)
    assert (done.stdout, done.stderr) == (printed, f"no answer: {reason}\n")


def test_a_model_that_refuses_or_is_not_there_is_told_in_a_sentence(serve: Serve, run: Run, nobody: str) -> None:
    async def refuse(peer: Peer) -> None:
        await peer.read_request()
        await peer.send(response(401, b'{"error": "the key is wrong"}'))

    refused = run("llm_stream.py", "--url", serve(refuse).url, "?", status=1).stderr
    assert "the key is wrong" in refused
    assert len(refused.splitlines()) == 1
    gone = run("llm_stream.py", "--url", nobody, "?", status=1).stderr
    assert gone.startswith("no answer: ")
    assert len(gone.splitlines()) == 1


# test_my_client.py


def test_tests_of_a_client_pass_without_a_network(run: Run) -> None:
    # The plugin is named, so that it is there whether or not the installed package tells of it.
    plugins = "-p aiosock.testing.plugin -p pytest_asyncio.plugin -p no:cacheprovider"
    done = run("test_my_client.py", "-q", PYTEST_DISABLE_PLUGIN_AUTOLOAD="1", PYTEST_ADDOPTS=plugins)
    assert "5 passed" in done.stdout


# retrying.py


def test_bad_moments_are_waited_out(serve: Serve, run: Run) -> None:
    async def script(peer: Peer) -> None:
        while request := await peer.read_request():
            bad = targets(peer.server).count(request.target) == 1 and request.target != "/good"
            await peer.send(response(503, b"", [("Retry-After", "0")]) if bad else response(200, b"ok"))

    server = serve(script)
    output = run("retrying.py", f"{server.url}/bad", f"{server.url}/good").stdout
    assert sorted(output.splitlines()) == [
        f"{server.url}/bad: 200 after 503, 200",
        f"{server.url}/good: 200 after 200",
    ]


def test_what_stays_bad_is_given_up_and_then_not_asked(serve: Serve, run: Run, nobody: str) -> None:
    server = serve(pages())
    done = run("retrying.py", "--attempts", 1, *[nobody] * 12, server.url, status=1)
    lines = done.stdout.splitlines()
    assert any("given up after 1 tries" in line for line in lines)
    assert sum("not asked" in line for line in lines) == 2
    assert f"{server.url}: 404 after 404" in lines
    assert "usage: " in run("retrying.py", "--rate", "often", nobody, status=2).stderr


# trace.py


def test_each_event_has_its_line_and_time(serve: Serve, run: Run, nobody: str) -> None:
    server = serve()
    *events, timings = run("trace.py", f"{server.url}/redirect/1").stdout.splitlines()
    assert timings.startswith("<Timings ")
    names = [line.split()[2] for line in events]
    assert names[:5] == ["RequestQueued", "Connected", "ConnectionAcquired", "RequestHeadSent", "RequestSent"]
    assert names.count("ResponseHeadReceived") == 2
    assert names[-1] == "ResponseDone"
    assert f"Redirected            to {server.url}/" in run("trace.py", f"{server.url}/redirect/1").stdout
    assert run("trace.py", nobody, status=1).stderr.startswith("the request failed: ")


# cached.py


def test_cache_asks_for_what_it_lacks_and_for_whether_the_rest_is_good(serve: Serve, run: Run, tmp_path: Path) -> None:
    async def script(peer: Peer) -> None:
        while request := await peer.read_request():
            fields = [("ETag", '"a"'), ("Cache-Control", "max-age=60" if request.target == "/fresh" else "no-cache")]
            if request.header("If-None-Match"):
                await peer.send(response(304, headers=fields))
            else:
                await peer.send(response(200, b"hello", fields))

    server = serve(script)
    urls = [f"{server.url}/fresh", f"{server.url}/asked", f"{server.url}/fresh"]

    def states(*options: object) -> list[str]:
        return [
            line.split()[1]
            for line in run("cached.py", "--cache", tmp_path / "db", *options, *urls).stdout.splitlines()
        ]

    # They end in any order.
    assert sorted(states()) == ["miss"] * 3
    assert len(server.requests) == 2
    assert sorted(states()) == ["hit", "hit", "revalidated"]
    assert len(server.requests) == 3
    # What must always be validated is no use to who asks nobody.
    done = run("cached.py", "--cache", tmp_path / "db", "--offline", *urls, status=1)
    assert sorted(line.split()[:2] for line in done.stdout.splitlines()) == [["200", "hit"]] * 2 + [["504", "miss"]]
    assert len(server.requests) == 3


def test_cache_that_cannot_be_used_is_named(run: Run, nobody: str, tmp_path: Path) -> None:
    done = run("cached.py", "--cache", tmp_path / "none" / "db", nobody, status=1)
    assert f"cannot go on: the cache database '{tmp_path}/none/db' cannot be used" in done.stderr


def test_cache_reports_what_failed(run: Run, nobody: str, tmp_path: Path) -> None:
    done = run("cached.py", "--cache", tmp_path / "db", nobody, status=1)
    assert f"{nobody} failed: " in done.stderr
    assert "504 miss" in run("cached.py", "--cache", tmp_path / "db", "--offline", nobody, status=1).stdout
