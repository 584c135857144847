"""What a listener is told of a request: each stage in its order, with times that fit what the response says."""

from __future__ import annotations

import asyncio
import io
import logging
import pickle
from collections.abc import Callable
from pathlib import Path
from ssl import SSLContext
from typing import Any

import pytest

import aiosock
from aiosock import Client, Limits
from aiosock.message import trace
from aiosock.message.trace import Event
from aiosock.testing import Peer, Server, response
from tests.kit.clients import check, checked_client, settled

OK = response(body=b"ok")
LARGE = 3_000_000


class Listener:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def __call__(self, event: Event) -> None:
        self.events.append(event)

    @property
    def names(self) -> list[str]:
        """Their names; progress that follows progress of its kind is left out."""
        names: list[str] = []
        for event in self.events:
            name = type(event).__name__
            name += f" {event.direction}" if isinstance(event, trace.BodyProgress) else ""
            if names[-1:] != [name]:
                names.append(name)
        return names

    def of(self, kind: type[Any]) -> list[Any]:
        return [event for event in self.events if type(event) is kind]


@pytest.fixture
def heard() -> Listener:
    return Listener()


FIRST = ["RequestQueued", "Connected", "ConnectionAcquired"]
SENT = ["RequestHeadSent", "RequestSent"]
ANSWERED = ["FirstByteReceived", "ResponseHeadReceived", "BodyProgress received", "ResponseDone"]


async def test_the_stages_of_a_first_and_of_a_second_request(heard: Listener) -> None:
    async with Server.answering(OK) as server, checked_client(on_event=heard) as client:
        await client.get(server.url)
        assert heard.names == [*FIRST, *SENT, *ANSWERED]
        assert [event.at for event in heard.events] == sorted(event.at for event in heard.events)
        assert all(event.request.url == heard.events[0].request.url for event in heard.events)
        heard.events.clear()
        answer = await client.get(server.url)
        assert heard.names == ["ConnectionAcquired", *SENT, *ANSWERED]
        [acquired] = heard.of(trace.ConnectionAcquired)
        assert acquired.connection == answer.connection
        assert acquired.connection.reused
        check(client)


async def test_names_and_tls_have_stages(heard: Listener, server_context: SSLContext, ca_file: str) -> None:
    async with (
        Server.answering(OK, ssl=server_context) as server,
        checked_client(on_event=heard, verify=ca_file) as client,
    ):
        answer = await client.get(f"https://localhost:{server.port}/")
        assert heard.names[:5] == ["RequestQueued", "NameResolved", "Connected", "TLSEstablished", "ConnectionAcquired"]
        times = answer.timings
        seconds = [event.seconds for event in heard.events[1:4]]  # type: ignore[union-attr]  # by their names
        assert seconds == [times.dns, times.connect, times.tls]
        assert [event.at for event in heard.events] == sorted(event.at for event in heard.events)


@pytest.mark.parametrize("kind", ["direct", "large", "file", "iterator"])
async def test_progress_in_sending(heard: Listener, kind: str, tmp_path: Path) -> None:
    size = 1000 if kind == "direct" else LARGE
    path = tmp_path / "file"
    path.write_bytes(b"x" * LARGE)

    async def pieces() -> Any:
        for _ in range(LARGE // 50_000):
            yield b"x" * 50_000

    contents: dict[str, Callable[[], Any]] = {
        "direct": lambda: b"x" * size,
        "large": lambda: b"x" * size,
        "file": lambda: path.open("rb"),
        "iterator": pieces,
    }
    content = contents[kind]()
    try:
        async with Server.answering(OK) as server, checked_client(on_event=heard) as client:
            await client.post(server.url, content=content)
            assert len(server.requests[0].body) == size
            check(client)
    finally:
        if isinstance(content, io.IOBase):
            content.close()
    progress = [event for event in heard.of(trace.BodyProgress) if event.direction == "sent"]
    assert progress[-1].transferred == size
    assert [event.transferred for event in progress] == sorted({event.transferred for event in progress})
    assert {event.total for event in progress} == {None if kind == "iterator" else size}
    assert (len(progress) > 1) is (kind != "direct")
    sent = [name for name in heard.names if name in ("RequestHeadSent", "BodyProgress sent", "RequestSent")]
    assert sent == ["RequestHeadSent", "BodyProgress sent", "RequestSent"]


@pytest.mark.parametrize("streamed", [False, True])
async def test_progress_in_receiving(heard: Listener, streamed: bool) -> None:
    async with Server.answering(response(body=b"x" * LARGE)) as server, checked_client(on_event=heard) as client:
        if streamed:
            async with client.stream("GET", server.url) as answer:
                async for _ in answer.iter_bytes():
                    pass
        else:
            assert len((await client.get(server.url)).content) == LARGE
        check(client)
    progress = heard.of(trace.BodyProgress)
    assert len(progress) > 5
    assert progress[-1].transferred == LARGE
    assert {event.total for event in progress} == {LARGE}
    assert heard.names[-1] == "ResponseDone"


async def test_a_redirect_is_told_with_where_it_leads(heard: Listener) -> None:
    async def script(peer: Peer) -> None:
        while request := await peer.read_request():
            await peer.send(response(302, headers=[("Location", "/b")]) if request.target == "/a" else OK)

    async with Server(script) as server, checked_client(on_event=heard) as client:
        await client.get(f"{server.url}/a")
    [redirected] = heard.of(trace.Redirected)
    assert (redirected.response.status_code, redirected.following.target) == (302, "/b")
    assert [event.request.target for event in heard.of(trace.ResponseHeadReceived)] == ["/a", "/b"]


async def test_a_failure_is_told_once_and_the_close_with_it(heard: Listener) -> None:
    async def script(peer: Peer) -> None:
        await peer.read_request()
        await peer.send(response(200, b"half", [("Content-Length", "10")]))

    async with Server(script) as server, checked_client(on_event=heard) as client:
        with pytest.raises(aiosock.IncompleteBody) as caught:
            await client.get(server.url)
        [failed] = heard.of(trace.RequestFailed)
        assert failed.error is caught.value
        assert len(heard.of(trace.ConnectionClosed)) == 1
        assert heard.of(trace.ResponseDone) == []
        await settled(client)


async def test_a_connection_that_does_not_come_about_is_a_failure(heard: Listener) -> None:
    async with Server.answering(OK) as server:
        url = server.url
    async with checked_client(on_event=heard) as client:
        with pytest.raises(aiosock.ConnectError):
            await client.get(url)
        assert heard.names == ["RequestQueued", "RequestFailed"]


async def test_a_cancellation_is_told(heard: Listener) -> None:
    async def script(peer: Peer) -> None:
        await peer.read_request()
        await peer.wait_disconnect()

    async with Server(script) as server, checked_client(on_event=heard) as client:
        task = asyncio.ensure_future(client.get(server.url))
        while not server.requests:
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert isinstance(heard.of(trace.RequestFailed)[0].error, asyncio.CancelledError)
        await settled(client)


async def test_a_stale_connection_is_no_failure(heard: Listener) -> None:
    async def script(peer: Peer) -> None:
        await peer.read_request()
        await peer.send(OK)
        if peer.number == 0:
            await peer.read_request()

    async with Server(script) as server, checked_client(on_event=heard) as client:
        await client.get(server.url)
        heard.events.clear()
        assert (await client.get(server.url)).text == "ok"
        assert "RequestFailed" not in heard.names
        assert heard.names[-1] in ("ResponseDone", "ConnectionClosed")
        # The end of the one comes before the other.
        names = [name for name in heard.names if name not in SENT]
        assert names[:4] == ["ConnectionAcquired", "ConnectionClosed", *FIRST[:2]]
        assert [event.at for event in heard.events] == sorted(event.at for event in heard.events)


async def test_where_there_is_no_body_there_is_no_progress(heard: Listener) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n"
    async with (
        Server.answering(response(204), head, response(200)) as server,
        checked_client(on_event=heard) as client,
    ):
        await client.get(server.url)
        await client.head(server.url)
        await client.post(server.url, content=b"")
        check(client)
    assert len(heard.of(trace.ResponseDone)) == 3
    assert heard.of(trace.BodyProgress) == []


async def test_a_connection_that_was_handed_over_is_done_when_it_is_closed(heard: Listener) -> None:
    async def script(peer: Peer) -> None:
        await peer.read_request()
        await peer.send(b"HTTP/1.1 101 Go\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\nhello")
        await peer.wait_disconnect()

    async with Server(script) as server, checked_client(on_event=heard) as client:
        async with client.stream("GET", server.url, headers={"Upgrade": "x", "Connection": "upgrade"}) as answer:
            assert answer.stream is not None
            assert await answer.stream.read() == b"hello"
            assert heard.names[-1] == "ResponseHeadReceived"
        await settled(client)
    assert heard.names[-2:] == ["ResponseDone", "ConnectionClosed"]


async def test_a_listener_that_fails_harms_nothing(heard: Listener) -> None:
    def broken(event: Event) -> None:
        raise ValueError("broken listener")

    said: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: said.append(context))
    try:
        async with Server.answering(OK) as server, checked_client(on_event=broken) as client:
            assert (await client.get(server.url)).text == "ok"
            check(client)
    finally:
        asyncio.get_running_loop().set_exception_handler(None)
    assert len(said) > 5
    assert {str(context["exception"]) for context in said} == {"broken listener"}
    assert said[0]["message"] == "a listener to events failed with RequestQueued"


async def test_a_request_may_have_a_listener_of_its_own(heard: Listener) -> None:
    own = Listener()
    async with Server.answering(OK) as server, Client(on_event=heard, limits=Limits(max_connections=1)) as client:
        await client.get(server.url, extensions={"on_event": own})
    assert heard.events == []
    assert own.names[-1] == "ResponseDone"


async def test_what_is_no_listener_is_refused() -> None:
    async def waits(event: Event) -> None:
        raise AssertionError

    for given, said in (("print", "not str"), (waits, "not an 'async def'")):
        with pytest.raises(aiosock.UsageError, match=f"on_event: takes a function of an event, which .*, {said}"):
            Client(on_event=given)  # type: ignore[arg-type]  # that is the fault
        async with Client() as client:
            with pytest.raises(aiosock.UsageError, match="on_event: takes a function"):
                await client.get("http://h/", extensions={"on_event": given})


async def test_none_is_no_listener_not_even_the_clients(heard: Listener) -> None:
    async with Server.answering(OK) as server, checked_client(on_event=heard) as client:
        assert (await client.get(server.url, extensions={"on_event": None})).text == "ok"
        assert heard.events == []
        await client.send(aiosock.Request("GET", server.url))
        assert heard.names[-1] == "ResponseDone"


async def test_what_a_middleware_sends_is_told_too(heard: Listener) -> None:
    async def twice(request: aiosock.Request, next: Any) -> aiosock.Response:
        await (await next(aiosock.Request("GET", request.url.with_path("/own")))).close()
        return await next(request)

    async with Server.answering(OK) as server, checked_client(on_event=heard, middleware=[twice]) as client:
        await client.get(f"{server.url}/x")
    assert [event.request.target for event in heard.of(trace.ResponseHeadReceived)] == ["/own", "/x"]


async def test_events_of_calls_at_the_same_time_are_told_apart(heard: Listener) -> None:
    async def script(peer: Peer) -> None:
        while request := await peer.read_request():
            kind, _, name = request.target[1:].partition("/")
            answers = {
                "moved": response(302, headers=[("Location", f"/asked/{name}")]),
                "asked": response(401, headers=[("WWW-Authenticate", 'Digest realm="r", nonce="n", qop="auth"')]),
                "busy": response(503),
            }
            authorized = request.header("Authorization") is not None
            await peer.send(OK if authorized and kind == "asked" else answers.get(kind, OK))

    async def own(request: aiosock.Request, next: Any) -> aiosock.Response:
        # Nothing of the call's but what is inherited.
        await (await next(aiosock.Request("GET", request.url.with_path(f"/own{request.url.path}")))).close()
        return await next(request)

    retry = aiosock.Retry(2, backoff=0)
    async with (
        Server(script) as server,
        checked_client(
            on_event=heard, auth=aiosock.DigestAuth("me", "secret"), retry=retry, middleware=[own]
        ) as client,
    ):
        paths = ["moved/1", "moved/2", "busy/3", "busy/4", "plain/5", "plain/6"]
        answers = await asyncio.gather(*(client.get(f"{server.url}/{path}") for path in paths))
        request = client.build_request("GET", f"{server.url}/plain/7")
        answers += [await client.send(request), await client.send(request)]
    calls: dict[int, set[str]] = {}
    for event in heard.events:
        calls.setdefault(event.request.extensions["call"], set()).add(event.request.target[-1])
    # However many requests it took, each call has one number, and each number one call.
    assert sorted(map(sorted, calls.values())) == [["1"], ["2"], ["3"], ["4"], ["5"], ["6"], ["7"], ["7"]]
    assert {answer.request.extensions["call"] for answer in answers if answer.request} == set(calls)
    assert {trace.Redirected, trace.RequestRetried} < {type(event) for event in heard.events}


async def test_a_listener_of_one_call_learns_its_number_too(heard: Listener) -> None:
    async with Server.answering(OK) as server, checked_client() as client:
        request = client.build_request("GET", server.url, extensions={"on_event": heard})
        await client.send(request)
        await client.send(request)
        # A number that came along, and may be another call's by now, does not count.
        async with checked_client(on_event=heard) as listening:
            await listening.send(pickle.loads(pickle.dumps(request)))  # noqa: S301  # our own
    numbers = [event.request.extensions["call"] for event in heard.events]
    assert len(set(numbers)) == 3
    assert request.extensions["call"] not in numbers
    assert numbers == sorted(numbers)


async def test_a_call_that_nobody_listens_to_has_no_number_not_that_of_an_earlier_one_either() -> None:
    async with Server.answering(OK) as server, checked_client() as client:
        earlier = client.build_request("GET", server.url).replace(extensions={"call": 1})
        for response in (await client.send(earlier), await client.get(server.url, extensions={"call": 1})):
            assert response.request is not None
            assert "call" not in response.request.extensions


async def test_the_end_is_told_once_and_the_close_after_it(heard: Listener) -> None:
    closing = response(body=b"hello", headers=[("Connection", "close")])
    async with Server.answering(closing) as server, checked_client(on_event=heard) as client:
        await client.get(server.url)
        assert heard.names[-3:] == ["BodyProgress received", "ResponseDone", "ConnectionClosed"]


@pytest.mark.parametrize("way", ["close", "abort", "drained"])
async def test_what_is_given_up_has_an_end_too(heard: Listener, way: str) -> None:
    gate = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.read_request()
        await peer.send(response(body=b"half", headers=[("Content-Length", "8" if way == "drained" else "1000000")]))
        await gate.wait()
        if way == "drained":
            await peer.send(b"half")
            await peer.wait_disconnect()

    async with Server(script) as server, checked_client(on_event=heard) as client:
        async with client.stream("GET", server.url) as answer:
            if way == "abort":
                answer.abort()
        gate.set()
        await settled(client)
        ends = [name for name in heard.names if name in ("ResponseDone", "RequestFailed", "ConnectionClosed")]
        assert ends == (["ResponseDone"] if way == "drained" else ["RequestFailed", "ConnectionClosed"])


async def test_an_answer_that_never_began_has_no_first_byte(heard: Listener) -> None:
    async def script(peer: Peer) -> None:
        await peer.read_request()

    async with Server(script) as server, checked_client(on_event=heard) as client:
        with pytest.raises(aiosock.ServerDisconnected):
            await client.get(server.url)
        assert "FirstByteReceived" not in heard.names
        assert heard.names[-2:] == ["RequestFailed", "ConnectionClosed"]


async def test_a_length_that_is_no_number_of_this_world_harms_nothing(heard: Listener) -> None:
    answer = response(headers=[("Content-Length", "9" * 5000)])
    async with Server.answering(answer) as server, checked_client(on_event=heard) as client:
        assert (await client.head(server.url)).status_code == 200


@pytest.mark.parametrize("listened", [False, True])
async def test_the_log_has_no_secrets(heard: Listener, listened: bool, caplog: pytest.LogCaptureFixture) -> None:
    async def script(peer: Peer) -> None:
        while request := await peer.read_request():
            moved = response(302, headers=[("Location", "/b?secret=2"), ("Set-Cookie", "c=secret")])
            await peer.send(moved if request.target.startswith("/a") else OK)

    caplog.set_level(logging.DEBUG, "aiosock.client")
    async with Server(script) as server, Client(on_event=heard if listened else None) as client:
        await client.get(f"{server.url}/a?secret=1", auth=("me", "secret"), headers={"X": "secret"})
    said = [record.getMessage() for record in caplog.records if record.name == "aiosock.client"]
    number = said[0].partition(":")[0].removeprefix("call ")
    assert number.isdigit()
    assert {line.partition(": ")[0] for line in said} == {f"call {number}"}
    assert [line.partition(": ")[2] for line in said] == [
        f"GET {server.url}/a: on a new connection to 127.0.0.1:{server.port}",
        f"GET {server.url}/a: answered 302",
        f"GET {server.url}/a: done",
        f"GET {server.url}/a: redirected to {server.url}/b",
        f"GET {server.url}/b: on the reused connection to 127.0.0.1:{server.port}",
        f"GET {server.url}/b: answered 200",
        f"GET {server.url}/b: done",
    ]
    assert bool(heard.events) is listened


async def test_without_debug_nothing_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with Server.answering(OK) as server, Client() as client:
        await client.get(server.url)
        assert client._defaults._on_event is None
    assert [record for record in caplog.records if record.name.startswith("aiosock")] == []
