"""An application is called as a server calls it, and its client sees what the network would show."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import Any

import pytest

from aiosock import Client, Request, Timeout
from aiosock.errors import (
    ClientClosed,
    IncompleteBody,
    InvalidHeader,
    ReadTimeout,
    ServerDisconnected,
    StreamConsumed,
    TotalTimeout,
    UsageError,
)
from aiosock.testing import ASGITransport
from aiosock.testing import asgi as asgi_module

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
App = Callable[[Any, Any, Any], Awaitable[None]]

START = {
    "type": "http.response.start",
    "status": 200,
    "headers": [(b"x-a", b"\xe9"), (b"transfer-encoding", b"chunked")],
}


def client(app: App, **options: Any) -> Client:
    return Client(transport=ASGITransport(app, lifespan=False, **options), base_url="http://h")


def body(piece: bytes = b"", more: bool = False) -> dict[str, Any]:
    return {"type": "http.response.body", "body": piece, "more_body": more}


async def whole(receive: Receive) -> bytes:
    pieces, more = [], True
    while more:
        message = await receive()
        assert message["type"] == "http.request"
        pieces.append(message["body"])
        more = message["more_body"]
    return b"".join(pieces)


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    content = await whole(receive)
    await send(START)
    await send(body(content))


# What the application is told


async def test_the_scope_has_the_fields_of_the_specification() -> None:
    scopes: list[Scope] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        scopes.append(scope)
        await echo(scope, receive, send)

    async with Client(transport=ASGITransport(app, lifespan=False, root_path="/api", client=("10.0.0.1", 9))) as one:
        headers = [("X-A", "1"), ("x-a", "\xe9")]
        request = Request("get", "https://h:8443/a%20b%2F%C3%A9?q=%20+", headers=headers)
        await one.send(request)
    [scope] = scopes
    assert scope == {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "https",
        "path": "/a b/\xe9",
        "raw_path": b"/a%20b%2F%C3%A9",
        "query_string": b"q=%20+",
        "root_path": "/api",
        "headers": [(b"host", b"h:8443"), (b"x-a", b"1"), (b"x-a", b"\xe9")],
        "client": ("10.0.0.1", 9),
        "server": ("h", 8443),
        "extensions": {"http.response.trailers": {}},
    }


async def test_framing_is_not_seen_and_a_host_of_ones_own_counts() -> None:
    seen: list[Any] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope["headers"])
        await echo(scope, receive, send)

    async with client(app) as one:
        response = await one.post("/", content=iter([b"a", b"b"]), headers={"Host": "other"})
        assert response.content == b"ab"
        assert dict(response.headers) == {"x-a": "\xe9"}
        assert (response.reason, response.elapsed.total_seconds() >= 0) == ("OK", True)
    [headers] = seen
    assert [name for name, _ in headers].count(b"transfer-encoding") == 0
    assert [value for name, value in headers if name == b"host"] == [b"other"]


@pytest.mark.parametrize("field", [("X-A", "\u20ac"), ("X-\xe9", "a")])
async def test_a_field_that_cannot_be_sent_is_refused(field: tuple[str, str]) -> None:
    async with client(echo) as one:
        with pytest.raises(InvalidHeader, match="has a character that cannot be sent"):
            await one.get("/", headers=[field])


@pytest.mark.parametrize("content", [None, b"", b"abc", b"x" * 200_000], ids=["none", "empty", "short", "long"])
async def test_the_body_arrives_whole_in_pieces(content: bytes | None) -> None:
    async with client(echo) as one:
        assert (await one.post("/", content=content)).content == (content or b"")


async def test_the_body_is_fed_as_the_application_asks_for_it() -> None:
    asked: list[str] = []
    messages: list[dict[str, Any]] = []

    async def pieces() -> AsyncIterator[bytes]:
        for piece in (b"one", b"two"):
            asked.append(piece.decode())
            yield piece

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        assert asked == []
        messages.append(await receive())
        assert asked == ["one"]
        await send(START)
        await send(body(b"early", True))
        messages.extend([await receive(), await receive()])
        await send(body())
        messages.append(await receive())

    async with client(app) as one:
        assert (await one.post("/", content=pieces())).content == b"early"
    assert messages == [
        {"type": "http.request", "body": b"one", "more_body": True},
        {"type": "http.request", "body": b"two", "more_body": True},
        {"type": "http.request", "body": b"", "more_body": False},
        {"type": "http.disconnect"},
    ]


async def test_two_calls_that_wait_for_the_body_have_a_piece_each() -> None:
    go_on = asyncio.Event()
    messages: list[dict[str, Any]] = []

    async def pieces() -> AsyncIterator[bytes]:
        await go_on.wait()
        yield b"one"
        yield b"two"

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        waiting = [asyncio.ensure_future(receive()) for _ in range(3)]
        await asyncio.sleep(0)
        go_on.set()
        messages.extend(await asyncio.gather(*waiting))
        await send(START)
        await send(body())

    async with client(app) as one:
        await one.post("/", content=pieces())
    assert sorted((message["body"], message["more_body"]) for message in messages) == [
        (b"", False),
        (b"one", True),
        (b"two", True),
    ]


@pytest.mark.parametrize("content", [(b"12345",), (b"12", b"345"), (b"",)])
async def test_a_body_that_is_shorter_than_it_says_is_incomplete(content: tuple[bytes, ...]) -> None:
    told: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"20")]})
        for piece in content[:-1]:
            await send(body(piece, True))
        try:
            await send(body(content[-1]))
        except RuntimeError as error:
            told.append(str(error))
            raise

    async with client(app) as one:
        with pytest.raises(IncompleteBody, match=f"cut: {len(b''.join(content))} of 20 bytes"):
            await one.get("/")
        assert told == ["the application's body is shorter than its Content-Length, 20"]
        assert (await one.head("/")).status_code == 200
    assert len(told) == 1


@pytest.mark.parametrize(("length", "content"), [(b"3", (b"1234",)), (b"3", (b"12", b"34")), (b"0", (b"1",))])
async def test_a_body_that_is_longer_than_it_says_is_the_applications_fault(
    length: bytes, content: tuple[bytes, ...]
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", length)]})
        for piece in content:
            await send(body(piece, True))
        await send(body())

    async with client(app) as one:
        with pytest.raises(IncompleteBody) as caught:
            await one.get("/")
        said = f"the application's body is longer than its Content-Length, {length.decode()}"
        assert str(caught.value.__cause__) == said
        assert (await one.head("/")).status_code == 200


@pytest.mark.parametrize(
    ("field", "told"),
    [
        ((b"x\r\ny", b"1"), "the field name is not a token"),
        ((b"x", b"1\r\nset-cookie: a=secret"), "the value of x holds a control character"),
        ((b"content-length", b"secret, 3"), "Content-Length is not a number"),
    ],
)
async def test_headers_that_no_server_would_send_are_the_applications_fault(
    field: tuple[bytes, bytes], told: str
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"x", b"\xe9"), field]})
        await send(body())

    async with client(app) as one:
        with pytest.raises(RuntimeError, match=f"^the application's headers cannot be sent: {told}"):
            await one.get("/")


async def test_an_application_that_gives_up_waiting_for_the_body_has_it_later() -> None:
    go_on = asyncio.Event()

    async def pieces() -> AsyncIterator[bytes]:
        await go_on.wait()
        yield b"late"

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        waiting = asyncio.ensure_future(receive())
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait([waiting])
        go_on.set()
        await echo(scope, receive, send)

    async with client(app) as one:
        assert (await one.post("/", content=pieces())).content == b"late"


@pytest.mark.parametrize("answers_first", [False, True])
async def test_what_the_body_raises_is_the_callers_and_ends_the_application(answers_first: bool) -> None:
    ended = asyncio.Event()

    async def pieces() -> AsyncIterator[bytes]:
        yield b"a"
        raise ValueError("a mistake of the caller")

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            if answers_first:
                await send(START)
            assert (await receive())["body"] == b"a"
            await receive()
            await asyncio.Event().wait()
        finally:
            ended.set()

    async with client(app) as one:
        with pytest.raises(ValueError, match="a mistake of the caller"):
            await one.post("/", content=pieces())
        await ended.wait()


# What the application answers


async def test_the_answer_is_there_with_its_head_and_the_body_comes_with_backpressure() -> None:
    sent: list[int] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(START)
        for number in range(4):
            await send(body(b"%d" % number, True))
            sent.append(number)
        await send(body())

    async with client(app) as one, one.stream("GET", "/") as response:
        for _ in range(5):
            await asyncio.sleep(0)
        assert sent == [0]
        iterator = response.iter_bytes()
        assert await anext(iterator) == b"0"
        for _ in range(5):
            await asyncio.sleep(0)
        assert sent == [0, 1]
        assert [piece async for piece in iterator] == [b"1", b"2", b"3"]


async def test_trailers_follow_the_body() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(START | {"trailers": True})
        await send(body(b"a"))
        await send({"type": "http.response.trailers", "headers": [(b"x-sum", b"1")], "more_trailers": True})
        await send({"type": "http.response.trailers", "headers": [(b"x-more", b"2")]})

    async with client(app) as one:
        response = await one.get("/")
        assert dict(response.trailers) == {"x-sum": "1", "x-more": "2"}


@pytest.mark.parametrize(("method", "status"), [("HEAD", 200), ("GET", 204), ("GET", 304)])
async def test_an_answer_that_ends_with_its_head_has_no_body(method: str, status: int) -> None:
    ended = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(START | {"status": status})
        for _ in range(3):
            await asyncio.sleep(0)
            await send(body(b"x" * 100, True))
        await send(body())
        ended.set()

    async with client(app) as one:
        assert (await one.request(method, "/")).content == b""
        await ended.wait()


@pytest.mark.parametrize(
    ("messages", "said"),
    [
        ([body()], "sent 'http.response.body', but what is due is start"),
        ([START, START], "sent 'http.response.start', but what is due is body"),
        ([START, body(), body()], "sent 'http.response.body', but what is due is nothing"),
        ([START | {"status": "200"}], "must be an int from 200 to 999, not '200'"),
        ([START | {"status": 101}], "must be an int from 200 to 999, not 101"),
    ],
)
async def test_an_application_that_breaks_the_protocol_hears_of_it(messages: list[Any], said: str) -> None:
    heard: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            for message in messages:
                await send(message)
        except RuntimeError as error:
            heard.append(str(error))

    async with client(app) as one:
        with suppress(ServerDisconnected, IncompleteBody):
            await one.get("/")
    assert len(heard) == 1
    assert heard[0].endswith(said)


# Who leaves early


async def test_a_response_that_is_closed_tells_the_application() -> None:
    told: list[object] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send(START)
        await send(body(b"a", True))
        told.append((await receive())["type"])
        for message in (body(b"b", True), body()):
            try:
                await send(message)
            except OSError as error:
                told.append(str(error))

    async with client(app) as one:
        async with one.stream("GET", "/") as response:
            assert await anext(response.iter_bytes()) == b"a"
        while len(told) < 3:
            await asyncio.sleep(0)
        with pytest.raises(StreamConsumed):
            await response.read()
    assert told == ["http.disconnect", "the client has left", "the client has left"]


async def test_an_application_that_waits_for_room_is_let_go_when_its_client_leaves() -> None:
    raised = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(START)
        try:
            while True:
                await send(body(b"a", True))
        except OSError:
            raised.set()
            raise

    async with client(app) as one:
        async with one.stream("GET", "/"):
            pass
        await raised.wait()


async def test_a_response_that_is_aborted_cancels_the_application() -> None:
    cancelled = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(START)
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    async with client(app) as one:
        with pytest.raises(KeyError):
            async with one.stream("GET", "/"):
                raise KeyError
        await cancelled.wait()


async def test_a_caller_that_is_cancelled_cancels_the_application() -> None:
    running, cancelled = asyncio.Event(), asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            running.set()
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    async with client(app) as one:
        call = asyncio.ensure_future(one.get("/"))
        await running.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await cancelled.wait()


async def test_closing_the_transport_ends_what_is_running() -> None:
    running = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        running.set()
        await asyncio.Event().wait()

    one = client(app)
    call = asyncio.ensure_future(one.get("/"))
    await running.wait()
    late = asyncio.ensure_future(one.get("/late"))
    await asyncio.sleep(0)
    await one.close()
    for request in (call, late):
        with pytest.raises(ServerDisconnected, match=r"ended without an answer \[GET"):
            await request


async def test_a_closed_transport_sends_nothing() -> None:
    transport = ASGITransport(echo)
    await transport.close()
    with pytest.raises(ClientClosed):
        await transport.send(Request("GET", "http://h/"))


async def test_what_the_application_raises_once_its_client_has_left_is_only_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    raised = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send(START)
        await receive()
        raised.set()
        raise LookupError("s3cret")

    with caplog.at_level(logging.DEBUG, "aiosock.testing"):
        async with client(app) as one:
            async with one.stream("GET", "/"):
                pass
            await raised.wait()
    assert "LookupError" in caplog.text
    assert "s3cret" not in caplog.text


async def test_the_deadline_holds_where_there_is_always_something_to_read() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(START)
        while True:
            await send(body(b"a", True))

    async with client(app) as one:
        with pytest.raises(TotalTimeout):
            await one.get("/", timeout=0.05)


async def test_the_timeouts_hold() -> None:
    cancelled = 0

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal cancelled
        try:
            if scope["path"] == "/body":
                await send(START)
                await send(body(b"a", True))
            await asyncio.Event().wait()
        finally:
            cancelled += 1

    async with client(app) as one:
        for path in ("/head", "/body"):
            with pytest.raises(ReadTimeout):
                await one.get(path, timeout=Timeout(read=0.01))
            with pytest.raises(TotalTimeout):
                await one.get(path, timeout=0.01)
    assert cancelled == 4


# What goes wrong in the application


async def fail(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["path"] != "/head":
        await send(START)
        await send(body(b"a", scope["path"] == "/body"))
    raise LookupError("a mistake of the application")


async def test_what_it_raises_before_its_answer_is_raised_to_the_caller() -> None:
    async with client(fail) as one:
        with pytest.raises(LookupError, match="a mistake of the application"):
            await one.get("/head")


async def test_what_it_raises_before_its_answer_can_be_an_answer() -> None:
    async with client(fail, raise_app_exceptions=False) as one:
        response = await one.get("/head")
        assert (response.status_code, response.text) == (500, "Internal Server Error")


@pytest.mark.parametrize("raises", [True, False])
async def test_what_it_raises_within_its_answer_breaks_the_body(raises: bool) -> None:
    async with client(fail, raise_app_exceptions=raises) as one, one.stream("GET", "/body") as response:
        with pytest.raises(
            IncompleteBody, match=r"failed within its answer: LookupError \[GET http://h/body\]"
        ) as caught:
            await response.read()
        assert isinstance(caught.value.__cause__, LookupError)


async def test_what_it_raises_after_its_answer_is_raised_by_closing(caplog: pytest.LogCaptureFixture) -> None:
    one = client(fail)
    assert (await one.get("/after")).content == b"a"
    with pytest.raises(ExceptionGroup) as caught:
        await one.close()
    assert [type(error) for error in caught.value.exceptions] == [LookupError]
    with caplog.at_level(logging.DEBUG, "aiosock.testing"):
        async with client(fail, raise_app_exceptions=False) as one:
            assert (await one.get("/after")).content == b"a"
            await asyncio.sleep(0)
    assert "LookupError" in caplog.text


@pytest.mark.parametrize(
    ("messages", "expected"), [([], ServerDisconnected), ([START, body(b"a", True)], IncompleteBody)]
)
async def test_an_application_that_ends_too_early_is_an_error(messages: list[Any], expected: type[Exception]) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        for message in messages:
            await send(message)

    async with client(app) as one:
        with pytest.raises(expected, match=r"the application ended .* \[GET http://h/\]$"):
            await one.get("/")


async def test_an_application_that_resists_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asgi_module, "CLOSE_SECONDS", 0.01)
    let_go = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        while not let_go.is_set():
            try:
                await let_go.wait()
            except asyncio.CancelledError:
                pass

    one = client(app)
    with pytest.raises(ReadTimeout):
        await one.get("/", timeout=Timeout(read=0.01))
    with pytest.raises(ExceptionGroup) as caught:
        await one.close()
    assert "resists being cancelled" in str(caught.value.exceptions[0])
    let_go.set()


def test_what_cannot_be_called_is_no_application() -> None:
    with pytest.raises(UsageError, match="takes an application to call, not str"):
        ASGITransport("app")  # type: ignore[arg-type]  # that is the test


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"root_path": 5}, "root_path takes a str, not int"),
        ({"client": "x"}, r"client takes a host and a port, \('127.0.0.1', 123\), not 'x'"),
        ({"client": ("x",)}, "client takes a host and a port"),
        ({"client": (1, "x")}, "client takes a host and a port"),
    ],
)
def test_arguments_of_the_wrong_kind_are_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=f"ASGITransport: {said}"):
        ASGITransport(echo, **options)


# Lifespan


class Living:
    """An application with a lifespan that goes as it is told, and notes what happens."""

    def __init__(self, startup: str = "complete", shutdown: str = "complete") -> None:
        self.startup = startup
        self.shutdown = shutdown
        self.events: list[str] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            self.events.append(f"request {scope['state']}")
            scope["state"]["own"] = True
            await echo(scope, receive, send)
            return
        for stage, outcome in (("startup", self.startup), ("shutdown", self.shutdown)):
            assert (await receive())["type"] == f"lifespan.{stage}"
            self.events.append(stage)
            if outcome == "raise":
                raise LookupError("a mistake of the application")
            if outcome == "hang":
                await asyncio.Event().wait()
            if outcome == "nonsense":
                await send({"type": "lifespan.nonsense"})
            scope["state"]["shared"] = 1
            await send({"type": f"lifespan.{stage}.{outcome}", "message": "because"})


async def test_the_application_is_started_once_and_shut_down() -> None:
    app = Living()
    async with Client(transport=ASGITransport(app)) as one:
        assert app.events == []
        await asyncio.gather(*(one.get("http://h/") for _ in range(3)))
    assert app.events == ["startup", *["request {'shared': 1}"] * 3, "shutdown"]


async def test_an_application_that_is_not_used_is_not_started() -> None:
    app = Living()
    async with Client(transport=ASGITransport(app)):
        pass
    assert app.events == []


@pytest.mark.parametrize(("startup", "said"), [("failed", "because"), ("raise", "LookupError")])
async def test_an_application_that_does_not_start_is_an_error_each_time(startup: str, said: str) -> None:
    app = Living(startup)
    async with Client(transport=ASGITransport(app)) as one:
        for _ in range(2):
            with pytest.raises(UsageError, match=f"^ASGITransport: the application did not start: {said}$"):
                await one.get("http://h/")
    assert app.events[0] == "startup"
    assert "request" not in "".join(app.events)


@pytest.mark.parametrize("how", ["raise", "return"])
async def test_an_application_without_a_lifespan_is_left_in_peace(how: str) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await echo(scope, receive, send)
        elif how == "raise":
            raise AssertionError("I speak HTTP alone")

    async with Client(transport=ASGITransport(app)) as one:
        assert (await one.get("http://h/")).status_code == 200


@pytest.mark.parametrize(
    ("shutdown", "said"),
    [
        ("failed", "did not shut down: because"),
        ("raise", "a mistake of the application"),
        ("hang", "did not shut down within"),
        ("nonsense", "sent 'lifespan.nonsense'"),
    ],
)
async def test_a_shutdown_that_fails_is_reported_by_closing(
    shutdown: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asgi_module, "CLOSE_SECONDS", 0.01)
    one = Client(transport=(transport := ASGITransport(Living(shutdown=shutdown))))
    await one.get("http://h/")
    with pytest.raises(ExceptionGroup) as caught:
        await one.close()
    [fault] = caught.value.exceptions
    assert said in str(fault)
    if shutdown != "hang":
        await transport.close()


async def test_a_startup_that_hangs_is_bounded_and_cancelled() -> None:
    async with Client(transport=ASGITransport(Living("hang"))) as one:
        with pytest.raises(TotalTimeout):
            await one.get("http://h/", timeout=0.01)
