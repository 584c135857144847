"""What the client makes of its arguments, and of the answer."""

from __future__ import annotations

import asyncio
import inspect
import json
import math
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from multidict import CIMultiDict
from yarl import URL

import aiosock
from aiosock import Client, Limits, Timeout
from aiosock.testing import Peer, Server, response
from tests.kit.clients import check, checked_client

OK = response(body=b"ok")


async def sent(client_options: dict[str, Any], call: Callable[[Client, str], Any]) -> Any:
    """Return the request as the server got it."""
    async with Server.answering(OK) as server, Client(**client_options) as client:
        await call(client, server.url)
        return server.requests[-1]


METHODS = ["get", "head", "options", "post", "put", "patch", "delete", "query"]


@pytest.mark.parametrize("method", METHODS)
async def test_every_method_has_a_function(method: str) -> None:
    answer = response(body=b"" if method == "head" else b"ok")
    async with Server.answering(answer) as server, checked_client() as client:
        assert (await getattr(client, method)(server.url + "/x")).status_code == 200
        assert (server.requests[0].method, server.requests[0].target) == (method.upper(), "/x")


async def test_the_default_fields() -> None:
    request = await sent({}, lambda client, url: client.get(url))
    assert [name for name, _ in request.headers] == ["Host", "Accept", "Accept-Encoding", "User-Agent"]
    assert request.header("User-Agent") == f"aiosock/{aiosock.__version__}"
    assert request.header("Accept-Encoding") == "gzip, deflate, br, zstd"


async def test_a_requests_fields_take_the_place_of_the_clients() -> None:
    own = [("x-one", "1"), ("X-Two", "a"), ("X-Two", "b")]
    request = await sent(
        {"headers": {"X-One": "client", "X-Two": "client", "User-Agent": "me"}},
        lambda client, url: client.get(url, headers=own),
    )
    fields = CIMultiDict(request.headers)
    assert fields.getall("X-One") == ["1"]
    assert fields.getall("X-Two") == ["a", "b"]
    assert fields.getall("User-Agent") == ["me"]


async def test_host_may_be_set_by_hand_and_stands_first() -> None:
    request = await sent({}, lambda client, url: client.get(url, headers={"X": "1", "Host": "other.example"}))
    assert request.headers[0] == ("Host", "other.example")
    assert request.header_values("Host") == ["other.example"]


async def test_nothing_that_the_user_gave_is_changed() -> None:
    headers = {"X": "1"}
    params = {"a": ["1", "2"]}
    extensions: dict[str, Any] = {}
    data = {"b": "3"}
    await sent(
        {"headers": headers, "params": params},
        lambda client, url: client.post(
            url, headers=headers, params=params, data=data, extensions=extensions, timeout=5
        ),
    )
    assert (headers, params, extensions, data) == ({"X": "1"}, {"a": ["1", "2"]}, {}, {"b": "3"})


async def test_a_request_that_is_sent_twice_stays_as_it_was() -> None:
    async with Server.answering(OK) as server, checked_client(timeout=5) as client:
        request = client.build_request("POST", server.url, json={"a": 1})
        before = (list(request.headers.items()), dict(request.extensions))
        for _ in range(2):
            assert (await client.send(request)).text == "ok"
        assert (list(request.headers.items()), dict(request.extensions)) == before
        assert [one.body for one in server.requests] == [b'{"a":1}'] * 2


@pytest.mark.parametrize(
    ("target", "params", "expected"),
    [
        ("/a%2Fb?sig=%2B+~&empty=", None, "/a%2Fb?sig=%2B+~&empty="),
        ("/?", None, "/?"),
        ("?x=1", {"y": 2}, "/?x=1&y=2"),
        ("/p#fragment", [("a", "b c"), ("a", True), ("n", None)], "/p?a=b+c&a=true"),
        ("/ü b?q=é", None, "/%C3%BC%20b?q=%C3%A9"),
    ],
)
async def test_the_target_on_the_wire(target: str, params: Any, expected: str) -> None:
    request = await sent({}, lambda client, url: client.get(url + target, params=params))
    assert request.target == expected


async def test_the_clients_params_come_first() -> None:
    request = await sent({"params": {"key": "k"}}, lambda client, url: client.get(url + "/?a=1", params={"b": "2"}))
    assert request.target == "/?a=1&key=k&b=2"


async def test_base_url_is_a_prefix() -> None:
    async with Server.answering(OK) as server, Client(base_url=server.url + "/v1/") as client:
        for url in ("items", "/items", "items?x=1", "", server.url + "/elsewhere"):
            await client.get(url)
        assert [request.target for request in server.requests] == [
            "/v1/items", "/v1/items", "/v1/items?x=1", "/v1/", "/elsewhere",
        ]  # fmt: skip


async def test_a_yarl_url_is_taken_as_it_is() -> None:
    request = await sent({}, lambda client, url: client.get(URL(url + "/a%2Fb?x=%20y", encoded=True)))
    assert request.target == "/a%2Fb?x=%20y"


async def test_json_is_compact_and_can_be_coded_otherwise() -> None:
    request = await sent({}, lambda client, url: client.post(url, json={"a": [1, "ü"]}))
    assert request.body == '{"a":[1,"ü"]}'.encode()
    assert request.header("Content-Type") == "application/json"
    request = await sent({"json_encoder": lambda value: "coded"}, lambda client, url: client.post(url, json=1))
    assert request.body == b"coded"
    async with Server.answering(response(body=b'{"a": 1}')) as server, Client(json_decoder=lambda body: body) as client:
        assert (await client.get(server.url)).json() == b'{"a": 1}'
    async with Server.answering(response(body=b'{"a": 1}')) as server, Client() as client:
        assert (await client.get(server.url)).json() == {"a": 1}


async def test_a_form_is_urlencoded() -> None:
    request = await sent({}, lambda client, url: client.post(url, data={"a": "b c", "d": ["e", "f"]}))
    assert request.body == b"a=b+c&d=e&d=f"
    assert request.header("Content-Type") == "application/x-www-form-urlencoded"


async def test_credentials_in_the_url_become_a_field_and_are_not_shown() -> None:
    async with Server.answering(OK) as server, Client() as client:
        answer = await client.get(server.url.replace("://", "://us%65r:pa%20ss@") + "/x")
        assert server.requests[0].header("Authorization") == "Basic dXNlcjpwYSBzcw=="
        assert server.requests[0].header("Host") == f"127.0.0.1:{server.port}"
        assert "pa" not in str(answer.url)
        assert "pa" not in repr(answer.request)


async def test_a_file_that_was_closed_before_it_is_sent_leaves_the_client_working(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"abc")
    async with Server.answering(OK) as server, checked_client() as client:
        with path.open("rb") as file:
            request = client.build_request("POST", server.url, content=file)
        with pytest.raises(aiosock.UsageError, match="^content: the file is closed"):
            await client.send(request)
        assert (await client.get(server.url)).text == "ok"


async def test_raise_for_status_of_the_client() -> None:
    async with (
        Server.answering(response(404, b"nothing here")) as server,
        checked_client(raise_for_status=True) as client,
    ):
        with pytest.raises(aiosock.HTTPStatusError, match="404 Not Found from GET .*: nothing here") as caught:
            await client.get(server.url)
        assert caught.value.response.status_code == 404
        assert caught.value.request.method == "GET"
        with pytest.raises(aiosock.HTTPStatusError):
            async with client.stream("GET", server.url):
                pass
        check(client)


async def test_the_default_encoding_is_the_clients() -> None:
    async with Server.answering(response(body="ü".encode("latin-1"))) as server:
        async with Client(default_encoding="latin-1") as client:
            assert (await client.get(server.url)).text == "ü"
        async with Client(default_encoding=lambda start: "latin-1" if start == b"\xfc" else "utf-8") as client:
            assert (await client.get(server.url)).text == "ü"


async def test_redirects_are_followed_unless_told_otherwise() -> None:
    async def script(peer: Peer) -> None:
        while (request := await peer.read_request()) is not None:
            number = int(request.target[1:] or 0)
            if number:
                await peer.send(response(302, headers=[("Location", f"/{number - 1}")]))
            else:
                await peer.send(OK)

    async with Server(script) as server, checked_client(max_redirects=3) as client:
        answer = await client.get(server.url + "/3")
        assert [one.status_code for one in answer.history] == [302, 302, 302]
        assert str(answer.url) == server.url + "/0"
        with pytest.raises(aiosock.TooManyRedirects, match="more than 3 redirects"):
            await client.get(server.url + "/4")
        answer = await client.get(server.url + "/3", follow_redirects=False)
        assert answer.status_code == 302
        assert answer.next_request is not None
        assert (await client.send(answer.next_request)).next_request.target == "/1"
        assert server.connections == 1
        check(client)


async def test_credentials_stay_with_their_origin() -> None:
    async with Server.answering(OK) as other:
        moved = response(302, headers=[("Location", other.url)])
        async with Server.answering(moved) as server, checked_client() as client:
            headers = {"Authorization": "Bearer t", "Cookie": "a=b", "Host": "x.example", "X-Kept": "1"}
            assert (await client.get(server.url, headers=headers)).text == "ok"
            received = other.requests[0]
            assert received.header("Authorization") is received.header("Cookie") is None
            assert received.header("Host") == f"127.0.0.1:{other.port}"
            assert received.header("X-Kept") == "1"


async def test_stream_gives_the_response_before_its_body() -> None:
    gate = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.read_request()
        await peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n")
        await gate.wait()
        await peer.send(b"1\r\nb\r\n0\r\nX-End: yes\r\n\r\n")
        await peer.wait_disconnect()

    async with Server(script) as server, checked_client() as client:
        async with client.stream("GET", server.url) as answer:
            with pytest.raises(aiosock.ResponseNotRead):
                _ = answer.content
            pieces = answer.iter_bytes()
            assert await anext(pieces) == b"a"
            gate.set()
            assert [piece async for piece in pieces] == [b"b"]
            assert answer.trailers["X-End"] == "yes"
            with pytest.raises(aiosock.StreamConsumed):
                await answer.read()
        assert client.pool.idle == 1


async def test_a_client_can_be_made_anywhere_and_shows_its_state() -> None:
    client = Client()
    assert repr(client) == f"<Client {aiosock.PoolStats()!r}>"
    async with client:
        pass
    assert repr(client) == "<Client closed>"
    with pytest.raises(aiosock.ClientClosed):
        async with client:
            pass


async def test_timings_and_elapsed() -> None:
    async with Server.answering(OK) as server, Client() as client:
        answer = await client.get(server.url.replace("127.0.0.1", "localhost"))
        timings = answer.timings
        stages = [timings.pool, timings.send, timings.wait, timings.receive]
        assert all(stage is not None and stage >= 0 for stage in stages)
        assert timings.dns is not None
        assert timings.connect is not None
        assert timings.tls is None
        assert timings.total == pytest.approx(sum(stage for stage in stages if stage is not None), abs=1e-6)
        assert answer.elapsed.total_seconds() == pytest.approx(timings.total, abs=1e-6)
        again = await client.get(server.url.replace("127.0.0.1", "localhost"))
        assert again.timings.dns is again.timings.connect is None


async def test_timeouts_of_client_and_request() -> None:
    client = Client(timeout=7)
    assert client.timeout == Timeout(7)
    assert Client(timeout=None).timeout == Timeout(None, connect=None, read=None, write=None, pool=None)
    assert Client().timeout == Timeout()
    assert client.build_request("GET", "http://a/").extensions["timeout"] == Timeout(7)
    assert client.build_request("GET", "http://a/", timeout=3).extensions["timeout"] == Timeout(3)
    request = client.build_request("GET", "http://a/", timeout=None)
    assert request.extensions["timeout"] == Timeout(None, connect=None, read=None, write=None, pool=None)


async def test_limits_are_the_pools() -> None:
    async with Server.answering(OK) as server, checked_client(limits=Limits(keepalive_expiry=0)) as client:
        await client.get(server.url)
        await client.get(server.url)
        assert server.connections == 2


async def test_an_answer_in_json_through_a_resolver_of_ones_own() -> None:
    seen: list[tuple[str, int]] = []

    class Pinned:
        async def resolve(self, host: str, port: int) -> list[str]:
            seen.append((host, port))
            return ["127.0.0.1"]

    async with Server.answering(response(body=json.dumps([1]).encode())) as server, Client(resolver=Pinned()) as client:
        answer = await client.get(f"http://pinned.example:{server.port}/")
        assert answer.json() == [1]
        assert seen == [("pinned.example", server.port)]
        assert server.requests[0].header("Host") == f"pinned.example:{server.port}"


async def test_a_transport_of_ones_own_takes_the_place_of_the_network() -> None:
    class Canned:
        closed = False

        async def send(self, request: aiosock.Request) -> aiosock.Response:
            if request.target == "/moved":
                return aiosock.Response(302, headers={"Location": "/here"}, request=request)
            return aiosock.Response(200, content=f"{request.method} {request.target}", request=request)

        async def close(self) -> None:
            self.closed = True

    transport = Canned()
    async with Client(transport=transport) as client:
        answer = await client.get("http://nowhere.example/moved")
        assert (answer.text, len(answer.history)) == ("GET /here", 1)
        assert answer.connection is None
        assert client.pool == aiosock.PoolStats()
    assert transport.closed


async def test_fields_of_the_client_that_change_go_out_with_the_next_request() -> None:
    async with Server.answering(OK) as server, checked_client(headers={"X-One": "1"}) as client:

        async def own() -> list[tuple[str, str]]:
            await client.get(server.url)
            return [field for field in server.requests[-1].headers if field[0].lower().startswith("x-")]

        assert await own() == await own() == [("X-One", "1")]
        client.headers["X-One"] = "2"
        assert await own() == [("X-One", "2")]
        client.headers.add("x-one", "3")
        assert await own() == [("X-One", "2"), ("x-one", "3")]
        client.headers["X-One"] = "1"
        assert await own() == [("X-One", "1")]
        del client.headers["X-One"]
        assert await own() == []
        client.headers = CIMultiDict({"x-ONE": "1"})
        assert await own() == [("x-ONE", "1")]
        client.headers["x-ONE"] = ["1"]  # type: ignore[assignment]  # that is the point
        with pytest.raises(aiosock.InvalidHeader, match="x-ONE is a str, not list"):
            await own()


async def test_the_timeout_of_a_client_may_be_set_later() -> None:
    async with Server.answering(OK) as server, checked_client() as client:
        for value, expected in ((5, Timeout(5)), (0.5, Timeout(0.5)), (Timeout(read=1), Timeout(read=1))):
            client.timeout = value
            assert client.timeout == expected
            assert client.build_request("GET", server.url).extensions["timeout"] == expected
            answer = await client.get(server.url)
            assert answer.request is not None
            assert answer.request.extensions["timeout"] == expected
        client.timeout = None
        assert client.timeout == aiosock.config.as_timeout(None)
        assert client.timeout.total is None


@pytest.mark.parametrize("value", [-1, 0, math.nan, "5", True, (1, 2)], ids=repr)
async def test_a_timeout_that_is_none_is_refused_and_the_old_one_stays(value: Any) -> None:
    async with Client(timeout=7) as client:
        with pytest.raises(aiosock.UsageError, match="^timeout: "):
            client.timeout = value
        assert client.timeout == Timeout(7)


@pytest.mark.parametrize(
    ("url", "options", "error"),
    [
        ("ftp://127.0.0.1/", {}, aiosock.InvalidURL),
        ("/relative", {}, aiosock.InvalidURL),
        ("http://127.0.0.1:1/", {"headers": {"A": 5}}, aiosock.InvalidHeader),
        ("http://127.0.0.1:1/", {"content": 5}, aiosock.UsageError),
        ("http://127.0.0.1:1/", {"timeout": -1}, aiosock.UsageError),
    ],
    ids=["scheme", "relative", "headers", "content", "timeout"],
)
@pytest.mark.parametrize("method", ["get", "head", "options", "post", "put", "patch", "delete", "query", "request"])
async def test_what_cannot_be_asked_is_said_when_it_is_awaited(
    method: str, url: str, options: dict[str, Any], error: type[Exception]
) -> None:
    async with Server.answering(OK) as server, checked_client() as client:
        first = ("GET",) if method == "request" else ()
        wrong = getattr(client, method)(*first, url, **options)
        good, refused = await asyncio.gather(client.get(server.url), wrong, return_exceptions=True)
        assert isinstance(good, aiosock.Response)
        assert good.text == "ok"
        assert type(refused) is error
        check(client)


@pytest.mark.parametrize("name", [*METHODS, "request", "send"])
def test_methods_are_coroutine_functions(name: str) -> None:
    method = getattr(Client, name)
    if sys.version_info >= (3, 12):
        assert inspect.iscoroutinefunction(method)
    else:
        assert asyncio.iscoroutinefunction(method)


async def test_headers_that_are_assigned_are_fields_of_any_case() -> None:
    async with Server.answering(OK) as server, checked_client() as client:
        client.headers = {"content-type": "application/x", "A": "b"}  # type: ignore[assignment]
        await client.post(server.url, json=1, headers={"a": "c"})
        fields = [(name.lower(), value) for name, value in server.requests[0].headers]
        assert [value for name, value in fields if name == "content-type"] == ["application/x"]
        assert [value for name, value in fields if name == "a"] == ["c"]
        with pytest.raises(aiosock.InvalidHeader):
            client.headers = {"A": 1}  # type: ignore[assignment,dict-item]


FORKED = """
import asyncio, os, sys
import aiosock

loop = asyncio.new_event_loop()
client = aiosock.Client()
loop.run_until_complete(client.get(sys.argv[1]))
child = os.fork()
if not child:
    try:
        loop.run_until_complete(client.get(sys.argv[1]))
    except aiosock.UsageError as error:
        print(error, flush=True)
    os._exit(0)
os.waitpid(child, 0)
assert loop.run_until_complete(client.get(sys.argv[1])).connection.requests_served == 2
loop.run_until_complete(client.close())
loop.close()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
async def test_a_forked_child_is_told_though_its_loop_looks_the_same() -> None:
    async with Server.answering(OK) as server:
        command = [sys.executable, "-c", FORKED, server.url]
        done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, timeout=60)
        assert (done.returncode, done.stderr) == (0, "")
        assert "forked" in done.stdout
        assert server.connections == 1


def test_what_many_clients_do_without_is_not_loaded() -> None:
    rarely = ["message.jar", "message.cookies", "message.multipart", "middleware.schemes", "connection.proxy"]
    rarely += ["client.proxies", "client.passage", "protocol.digest", "protocol.cookie", "protocol.socks"]
    program = f"import sys, aiosock; aiosock.Client(); print([m for m in {rarely} if f'aiosock.{{m}}' in sys.modules])"
    environment = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    ran = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=60)
    assert (ran.stdout, ran.stderr) == ("[]\n", "")


def test_what_a_client_does_not_have_cannot_be_set() -> None:
    client = Client()
    for name in ("proxy", "follow_redirects", "verify"):
        with pytest.raises(AttributeError, match=name):
            setattr(client, name, None)
