"""
A transport that calls an ASGI application in place of the network, in the same event loop and without a socket.

What a server does between the two is done as servers do it: bodies stream both ways with backpressure, framing is not
seen, and whoever leaves early is noticed. See the ASGI specification, version 3.0, HTTP 2.4 and lifespan 2.0.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, MutableMapping
from time import perf_counter
from typing import Any, Final, Literal, TypeAlias
from urllib.parse import unquote

from multidict import CIMultiDict

from aiosock.errors import (
    AiosockError,
    ClientClosed,
    IncompleteBody,
    InvalidHeader,
    RequestError,
    ServerDisconnected,
    StreamConsumed,
    UsageError,
)
from aiosock.message.request import Request
from aiosock.message.response import Response
from aiosock.message.transit import Timings
from aiosock.protocol.http1 import FieldSection
from aiosock.testing.answers import arrived, declared_length, has_no_body, reply, too_short
from aiosock.testing.bounds import Bounds
from aiosock.testing.message import reason_phrase

Message: TypeAlias = MutableMapping[str, Any]
Scope: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
App: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

log: Final = logging.getLogger("aiosock.testing")

CLOSE_SECONDS: Final = 5.0
"""How long the application may take to end, when it is cancelled or shut down."""

_VERSIONS: Final = {"version": "3.0", "spec_version": "2.4"}
_LIFESPAN_VERSIONS: Final = {"version": "3.0", "spec_version": "2.0"}


class ASGITransport:
    """
    Sends requests to an application: ``Client(transport=ASGITransport(app))``.

    Each request runs in a task of its own. What the application raises before it answers is raised to the caller;
    after the head of its answer, the body breaks with `IncompleteBody`; after its answer, `close` raises it in an
    ``ExceptionGroup``. What it raises once the caller has left is only logged.

    Args:
        app: An ASGI 3 application, called with scope, receive and send.
        lifespan: Start the application before the first request, and shut it down when the transport is closed. One
            that knows no lifespan is left in peace.
        root_path: Where the application is mounted; the path of a request is given to it whole all the same.
        client: The host and port that requests seem to come from.
        raise_app_exceptions: False makes a 500 of what the application raises before it answers, and only logs what
            it raises after its answer, as a server would.

    Raises:
        UsageError: An application that cannot be called, or another argument of the wrong kind.
    """

    def __init__(
        self,
        app: App,
        *,
        lifespan: bool = True,
        root_path: str = "",
        client: tuple[str, int] = ("127.0.0.1", 123),
        raise_app_exceptions: bool = True,
    ) -> None:
        if not callable(app):
            raise UsageError(f"ASGITransport: takes an application to call, not {type(app).__name__}")
        if not isinstance(root_path, str):
            raise UsageError(f"ASGITransport: root_path takes a str, not {type(root_path).__name__}")
        is_address = isinstance(client, (tuple, list)) and len(client) == 2
        if not is_address or not isinstance(client[0], str) or not isinstance(client[1], int):
            raise UsageError(f"ASGITransport: client takes a host and a port, ('127.0.0.1', 123), not {client!r}")
        self._app = app
        self._root_path = root_path
        self._client = client
        self._raises = raise_app_exceptions
        self._lifespan = _Lifespan(app) if lifespan else None
        self._tasks: set[asyncio.Task[None]] = set()
        self._faults: list[Exception] = []
        self._closed = False

    async def send(self, request: Request) -> Response:
        """
        Return the application's answer as soon as its head is there.

        Raises:
            ServerDisconnected: The application ended without an answer.
            ReadTimeout, TotalTimeout: It took too long, and was cancelled.
            UsageError: It did not start.
            Exception: What it raised, and what the request's body raised.
        """
        if self._closed:
            raise ClientClosed("the ASGITransport is closed")
        bounds = Bounds(request)
        state = None
        if self._lifespan is not None:
            await bounds.wait(self._lifespan.started())
            state = self._lifespan.state
        exchange = _Exchange(request, bounds)
        task = asyncio.get_running_loop().create_task(self._call(self._scope(request, state), exchange))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        # Here and not in the task itself, which never gets there when it is cancelled before its first step.
        task.add_done_callback(lambda _: exchange.end())
        exchange.task = task
        try:
            return await bounds.wait(exchange.head)
        except BaseException:
            exchange.abort()
            raise

    async def _call(self, scope: Scope, exchange: _Exchange) -> None:
        try:
            await self._app(scope, exchange.give, exchange.take)
        except Exception as error:
            late = exchange.head_sent
            if late and self._raises and exchange.answered:
                self._faults.append(error)
            elif late or exchange.left:
                log.debug("the application failed after the head of its answer: %s", type(error).__name__)
            exchange.fail(error, self._raises)
        finally:
            await exchange.release()

    def _scope(self, request: Request, state: dict[str, Any] | None) -> Scope:
        location = request.location
        path, _, query = request.target.partition("?")
        headers = [_encoded(*field) for field in request.headers.items() if field[0].lower() != "transfer-encoding"]
        if "Host" not in request.headers:
            headers.insert(0, (b"host", location.authority.encode("ascii")))
        scope: Scope = {
            "type": "http",
            "asgi": dict(_VERSIONS),
            "http_version": "1.1",
            "method": request.method.upper(),
            "scheme": location.scheme,
            "path": unquote(path),
            "raw_path": path.encode("ascii"),
            "query_string": query.encode("ascii"),
            "root_path": self._root_path,
            "headers": headers,
            "client": self._client,
            "server": (location.host, location.port),
            "extensions": {"http.response.trailers": {}},
        }
        if state is not None:
            scope["state"] = state.copy()
        return scope

    async def close(self) -> None:
        """
        Cancel what is still running, and shut the application down; within a bounded time, and again is no harm.

        Raises:
            ExceptionGroup: What the application raised after its answers or at its shutdown, unless that is only
                logged; and that it resists being cancelled.
        """
        self._closed = True
        tasks = set(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            _, resisting = await asyncio.wait(tasks, timeout=CLOSE_SECONDS)
            self._faults += [RuntimeError("the application resists being cancelled") for _ in resisting]
        if self._lifespan is not None and (failure := await self._lifespan.end()) is not None:
            self._faults.append(failure)
        if self._faults:
            faults, self._faults = self._faults, []
            raise ExceptionGroup("the application failed", faults)


class _ClientLeft(ConnectionError):
    """Nobody takes what the application sends any more."""


class _Exchange:
    """
    One call of the application: the server's half for it, and the body's source for the caller.

    Attributes:
        task: In which the application runs.
        head: What the caller waits for.
        trailers: The fields after the body.
        left: The caller has gone before the answer was whole.
        answered: The answer is whole.
    """

    def __init__(self, request: Request, bounds: Bounds) -> None:
        loop = asyncio.get_running_loop()
        self.task: asyncio.Task[None] | None = None
        self.head: asyncio.Future[Response] = loop.create_future()
        self.trailers: CIMultiDict[str] | None = None
        self.left = False
        self.answered = False
        self._request = request
        self._bounds = bounds
        self._timings = Timings(perf_counter())
        self._timings.acquired_at = self._timings.started_at
        body = request.body
        self._body = None if body is None else body.pieces()
        self._body_left = 0 if body is None else body.length
        self._body_given = False
        self._pull: asyncio.Task[Message | None] | None = None
        # Nobody listens to the application any more, or its answer is whole.
        self._over: asyncio.Future[None] = loop.create_future()
        self._expected: Literal["start", "body", "trailers", "nothing"] = "start"
        self._has_trailers = False
        self._has_body = True
        self._length = 0
        self._most = math.inf
        self._taken = 0
        self._piece = b""
        self._room = asyncio.Event()
        self._news = asyncio.Event()
        self._consumed = False
        self._failure: Exception | None = None

    @property
    def head_sent(self) -> bool:
        """The application has begun its answer."""
        return self._expected != "start"

    # What the application calls

    async def give(self) -> Message:
        """Return the next event, as the application's ``receive``."""
        while not self._body_given and not self._over.done():
            # In a task of its own: an application that gives up waiting must not break the body.
            if self._pull is None:
                self._pull = asyncio.get_running_loop().create_task(self._next_piece())
            pull = self._pull
            await asyncio.wait((pull, self._over), return_when=asyncio.FIRST_COMPLETED)
            # Another call may have waited too, and taken it; then the next is waited for.
            if self._pull is pull and pull.done():
                self._pull = None
                message = None if pull.cancelled() else pull.result()
                if message is None:
                    break
                self._body_given = not message["more_body"]
                return message
        if not self._over.done():
            await asyncio.wait((self._over,))
        return {"type": "http.disconnect"}

    async def _next_piece(self) -> Message | None:
        piece: bytes | memoryview | None = None
        if self._body is not None:
            try:
                piece = await anext(self._body, None)
            except Exception as error:
                # The caller's own, and not the application's.
                self._break(error)
                self._leave()
                return None
        self._bounds.progress()
        if piece is not None and self._body_left is not None:
            self._body_left -= len(piece)
        more = piece is not None and self._body_left != 0
        return {"type": "http.request", "body": bytes(piece or b""), "more_body": more}

    async def take(self, message: Message) -> None:
        """Take an event, as the application's ``send``."""
        if self.left:
            raise _ClientLeft("the client has left")
        kind = message["type"]
        if kind != f"http.response.{self._expected}":
            raise RuntimeError(f"the application sent {kind!r}, but what is due is {self._expected}")
        if kind == "http.response.start":
            self._take_head(message)
        elif kind == "http.response.body":
            await self._take_body(message.get("body", b""), message.get("more_body", False))
        else:
            if self.trailers is None:
                self.trailers = CIMultiDict()
            self.trailers.extend(_decoded(message.get("headers", ())))
            if not message.get("more_trailers", False):
                self._complete()

    def _take_head(self, message: Message) -> None:
        status = message["status"]
        if not isinstance(status, int) or not 200 <= status <= 999:
            raise RuntimeError(f"the application's status must be an int from 200 to 999, not {status!r}")
        headers = [field for field in _decoded(message.get("headers", ())) if field[0].lower() != "transfer-encoding"]
        try:
            FieldSection(headers)
        except AiosockError as error:
            raise RuntimeError(f"the application's headers cannot be sent: {error}") from error
        self._has_trailers = message.get("trailers", False)
        self._has_body = not has_no_body(self._request, status)
        self._expected = "body"
        self._timings.sent_at = self._timings.head_at = perf_counter()
        response = Response(
            status,
            headers=headers,
            reason=reason_phrase(status),
            request=self._request,
            source=self,
            timings=self._timings,
        )
        if self._has_body and "Content-Length" in response.headers:
            self._length = self._most = declared_length(response.headers)
        if not self.head.done():
            self.head.set_result(response)

    async def _take_body(self, piece: bytes, more: bool) -> None:
        if self._has_body and piece:
            if self._taken + len(piece) > self._most:
                raise RuntimeError(f"the application's body is longer than its Content-Length, {self._length}")
            # One piece is held; whoever has another waits until that is taken.
            while self._piece and not self.left:
                self._room.clear()
                await self._room.wait()
            if self.left:
                raise _ClientLeft("the client has left")
            self._piece = bytes(piece)
            self._taken += len(piece)
            self._news.set()
        if not more:
            if self._taken < self._length:
                self._break(too_short(self._taken, self._length))
                raise RuntimeError(f"the application's body is shorter than its Content-Length, {self._length}")
            self._expected = "trailers"
            if not self._has_trailers:
                self._complete()

    def _complete(self) -> None:
        self._expected = "nothing"
        self.answered = True
        self._news.set()
        self._end_listening()

    # How the call ends

    def fail(self, error: Exception, raises: bool) -> None:
        """The application raised."""
        if self.head_sent:
            broken = IncompleteBody(f"the application failed within its answer: {type(error).__name__}")
            broken.__cause__ = error
            self._break(broken)
        elif raises:
            self._break(error)
        elif not self.head.done():
            fields = {"Content-Type": "text/plain; charset=utf-8"}
            answer = reply(500, headers=fields, content="Internal Server Error")
            self.head.set_result(arrived(answer, self._request, self._bounds, self._timings.started_at))

    async def release(self) -> None:
        """Let go of the request's body."""
        if self._pull is not None:
            self._pull.cancel()
            await asyncio.wait((self._pull,))
        if isinstance(self._body, AsyncGenerator):
            await self._body.aclose()

    def end(self) -> None:
        """The application has ended, one way or another."""
        if not self.head_sent:
            self._break(ServerDisconnected("the application ended without an answer"))
        elif not self.answered:
            self._break(IncompleteBody("the application ended before its answer was whole"))
        self._end_listening()

    def _break(self, error: Exception) -> None:
        """Tell the caller, unless it knows better already."""
        if isinstance(error, RequestError) and error.request is None:
            error.request = self._request
        if not self.head.done():
            self.head.set_exception(error)
        elif self._failure is None and not self.answered:
            self._failure = error
            self._news.set()

    def _leave(self) -> None:
        if not self.answered:
            self.left = True
        self._end_listening()

    def _end_listening(self) -> None:
        if not self._over.done():
            self._over.set_result(None)
        self._room.set()

    # The source of the response's body

    async def receive(self) -> bytes:
        self._bounds.check_deadline()
        while not self._piece:
            if self.answered or not self._has_body:
                self._timings.ended_at = perf_counter()
                self._consumed = True
                return b""
            if self._failure is not None:
                raise self._failure
            if self.left:
                raise StreamConsumed("the response was closed before its body was read")
            self._news.clear()
            await self._bounds.wait(self._news.wait())
        piece, self._piece = self._piece, b""
        self._room.set()
        return piece

    def take_whole(self) -> bytes | None:
        return None

    def check_deadline(self) -> None:
        self._bounds.check_deadline()

    def lift_deadline(self) -> None:
        self._bounds.lift_deadline()

    def close(self) -> None:
        """The application sees that its client left, and may end as it likes."""
        if not self._consumed and self._has_body:
            self._piece = b""
            self._leave()

    def abort(self) -> None:
        """The application is cancelled."""
        self.head.cancel()
        if not self._consumed:
            self._leave()
            if self.task is not None:
                self.task.cancel()


def _encoded(name: str, value: str) -> tuple[bytes, bytes]:
    try:
        return name.lower().encode("ascii"), value.encode("latin-1")
    except UnicodeEncodeError:
        raise InvalidHeader(f"the field {name[:40]!a} has a character that cannot be sent") from None


def _decoded(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[str, str]]:
    return [(bytes(name).decode("latin-1"), bytes(value).decode("latin-1")) for name, value in headers]


class _Lifespan:
    """
    The application's start and end, in one task of its own.

    Attributes:
        state: What the application keeps for its requests, each of which gets a copy.
    """

    def __init__(self, app: App) -> None:
        self.state: dict[str, Any] = {}
        self._app = app
        self._task: asyncio.Task[None] | None = None
        self._asked = False
        self._startup: asyncio.Future[str | None] | None = None
        self._closing = asyncio.Event()
        self._cause: Exception | None = None
        self._fault: Exception | None = None

    async def started(self) -> None:
        """
        Start the application, if that was not done yet.

        Raises:
            UsageError: It says that it could not start, or raised when it was told to.
        """
        if self._startup is None:
            loop = asyncio.get_running_loop()
            self._startup = loop.create_future()
            self._task = loop.create_task(self._run(self._startup))
        await asyncio.wait((self._startup,))
        failure = self._startup.result()
        if failure is not None:
            raise UsageError(f"ASGITransport: the application did not start: {failure}") from self._cause

    async def _run(self, startup: asyncio.Future[str | None]) -> None:
        scope: Scope = {"type": "lifespan", "asgi": dict(_LIFESPAN_VERSIONS), "state": self.state}
        try:
            await self._app(scope, self._give, self._take)
        except Exception as error:
            if startup.done():
                self._fault = error
            elif self._asked:
                self._cause = error
                startup.set_result(type(error).__name__)
            else:
                log.debug("the application knows no lifespan: %s", type(error).__name__)
        finally:
            if not startup.done():
                startup.set_result(None)

    async def _give(self) -> Message:
        if not self._asked:
            self._asked = True
            return {"type": "lifespan.startup"}
        await self._closing.wait()
        return {"type": "lifespan.shutdown"}

    async def _take(self, message: Message) -> None:
        kind, said = message["type"], message.get("message", "")
        if kind in ("lifespan.startup.complete", "lifespan.startup.failed"):
            if self._startup is not None and not self._startup.done():
                self._startup.set_result(None if kind == "lifespan.startup.complete" else said)
        elif kind == "lifespan.shutdown.failed":
            self._fault = UsageError(f"ASGITransport: the application did not shut down: {said}")
        elif kind != "lifespan.shutdown.complete":
            raise RuntimeError(f"the application sent {kind!r}, which is no event of the lifespan")

    async def end(self) -> Exception | None:
        """Shut the application down, and return what went wrong with that."""
        if self._task is None or self._startup is None:
            return None
        self._closing.set()
        if not self._startup.done():
            self._task.cancel()
        done, _ = await asyncio.wait((self._task,), timeout=CLOSE_SECONDS)
        if not done:
            self._task.cancel()
            await asyncio.wait((self._task,), timeout=CLOSE_SECONDS)
            return RuntimeError(f"the application did not shut down within {CLOSE_SECONDS} s")
        fault, self._fault = self._fault, None
        return fault
