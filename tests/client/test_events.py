"""An event stream outlives its connections: when it connects again, with which ID, after how long, and when not."""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from email.utils import formatdate
from functools import partial, wraps
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

import aiosock
from aiosock import Client, Request, Response, Timeout
from aiosock.client.events import EventStream, _retry_after_seconds
from tests.pool.fakes import ClockLoop, turns

URL = "http://h/events?key=secret"
NOW = 1_000_000_000.0
STREAM = {"Content-Type": "text/event-stream"}

Piece = bytes | BaseException | None


def timed(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Run a test on a loop whose clock jumps to the next timer when nothing else is left to do."""

    @wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        async def main() -> None:
            await test(*args, **kwargs)

        with asyncio.Runner(loop_factory=ClockLoop) as runner:
            runner.run(main())

    return run


class Source:
    """A body of pieces; an exception is raised in its place, and None is a piece that never comes."""

    def __init__(self, *pieces: Piece) -> None:
        self.pieces = list(pieces)
        self.trailers: CIMultiDict[str] | None = None
        self.log: list[str] = []
        self.gone: asyncio.Future[bytes] | None = None

    async def receive(self) -> bytes:
        piece = self.pieces.pop(0) if self.pieces else b""
        if piece is None:
            self.gone = asyncio.get_running_loop().create_future()
            return await self.gone
        if isinstance(piece, BaseException):
            raise piece
        return piece

    def take_whole(self) -> bytes | None:
        return None

    def check_deadline(self) -> None:
        pass

    def lift_deadline(self) -> None:
        self.log.append("lift")

    def close(self) -> None:
        self.log.append("close")
        if self.gone is not None and not self.gone.done():
            self.gone.set_exception(aiosock.ReadError("the connection was closed"))

    def abort(self) -> None:
        self.log.append("abort")


Answer = tuple[int, dict[str, str], tuple[Piece, ...]] | BaseException


def events(*pieces: Piece) -> Answer:
    return 200, STREAM, pieces


def refusal(status: int, *pieces: Piece, **headers: str) -> Answer:
    return status, {name.replace("_", "-"): value for name, value in headers.items()}, pieces


NO_CONTENT: Answer = (204, {}, ())


class Site:
    """A transport that answers with what it was given, one after the other, and notes when it was asked."""

    def __init__(self, *answers: Answer) -> None:
        self.answers = list(answers)
        self.requests: list[Request] = []
        self.times: list[float] = []
        self.sources: list[Source] = []

    async def send(self, request: Request) -> Response:
        self.requests.append(request)
        self.times.append(asyncio.get_running_loop().time())
        answer = self.answers.pop(0)
        if isinstance(answer, BaseException):
            raise answer
        status, headers, pieces = answer
        self.sources.append(Source(*pieces))
        return Response(status, headers=headers, request=request, source=self.sources[-1])

    async def close(self) -> None:
        pass

    @property
    def waits(self) -> list[float]:
        """The seconds between the connections."""
        return [round(later - earlier, 6) for earlier, later in zip(self.times, self.times[1:], strict=False)]

    @property
    def ids(self) -> list[str | None]:
        return [request.headers.get("Last-Event-ID") for request in self.requests]


def open_stream(client: Client, *, chance: float = 1.0, method: str = "GET", **options: Any) -> EventStream:
    """What `Client.events` returns, without chance and with a fixed time of day."""
    settings = {"last_event_id": "", "reconnect": None, "attempts": None, "max_event_bytes": None, **options}
    request = client.build_request(method, URL)
    send = partial(client._send, stream=True)
    return EventStream(send, request, random=lambda: chance, clock=lambda: NOW, **settings)


async def read(site: Site, **options: Any) -> list[str]:
    """Return the data of all events."""
    async with Client(transport=site) as client, open_stream(client, **options) as stream:
        return [event.data async for event in stream]


async def read_until_error(site: Site, kind: type[BaseException], **options: Any) -> tuple[list[str], Any]:
    """Return the data of the events before an error, and the error; after it there is nothing."""
    data: list[str] = []
    async with Client(transport=site) as client, open_stream(client, **options) as stream:
        with pytest.raises(kind) as caught:
            async for event in stream:
                data.append(event.data)
        assert [event async for event in stream] == []
    return data, caught.value


# When, and with what


@timed
async def test_the_end_of_a_stream_is_followed_by_another_after_three_seconds_until_204() -> None:
    site = Site(events(b"data: 1\n\n"), events(b"data: 2\n\ndata: 3\n\n"), NO_CONTENT)
    assert await read(site) == ["1", "2", "3"]
    assert site.waits == [3, 3]
    assert site.ids == [None, None, None]


@timed
async def test_the_stream_says_how_long_to_wait_also_without_an_event_and_for_good() -> None:
    site = Site(events(b"retry: 750\n\n"), events(b"data: 1\n\n"), events(b"retry: 0\n"), NO_CONTENT)
    assert await read(site) == ["1"]
    assert site.waits == [0.75, 0.75, 0.5]


@timed
async def test_the_last_event_is_named_as_utf_8_until_the_stream_takes_its_id_back() -> None:
    site = Site(
        events("id: …\ndata: 1\n\nid: unfinished\ndata: 2\n".encode()),
        events(b"data: 3\n\n"),
        events(b"id\ndata: 4\n\n"),
        NO_CONTENT,
    )
    assert await read(site, last_event_id="start") == ["1", "3", "4"]
    assert site.ids == ["start", "…".encode().decode("latin-1"), "…".encode().decode("latin-1"), None]


@timed
async def test_the_last_id_is_that_of_the_event_in_hand() -> None:
    site = Site(events(b"id: 1\ndata\n\nid: 2\ndata\n\n"), events(b"data\n\n"), NO_CONTENT)
    async with Client(transport=site) as client, open_stream(client, last_event_id="0") as stream:
        assert stream.last_event_id == "0"
        seen = [(event.id, stream.last_event_id) async for event in stream]
        assert seen == [("1", "1"), ("2", "2"), ("2", "2")]
        assert stream.last_event_id == "2"
        assert stream.response.status_code == 204
        assert site.sources[2].log[-1] == "close"


@timed
async def test_an_id_that_no_field_can_carry_is_not_sent(caplog: pytest.LogCaptureFixture) -> None:
    ids = [b"a\tb", b"a b", b"a\x1bb", b"~", b"\x7f"]
    site = Site(*[events(b"id: " + value + b"\ndata\n\n") for value in ids], NO_CONTENT)
    with caplog.at_level(logging.DEBUG, "aiosock.client"):
        await read(site)
    assert site.ids == [None, "a\tb", "a b", None, "~", None]
    assert "the last event ID has control characters, and is not sent" in caplog.messages


@timed
async def test_ones_own_field_names_the_last_event_until_there_is_one() -> None:
    site = Site(events(), events(b"id: 1\ndata\n\n"), events(b"id: \x1b\ndata\n\n"), NO_CONTENT)
    async with Client(transport=site) as client, client.events(URL, headers={"last-event-id": "own"}) as stream:
        assert [event.id async for event in stream] == ["1", "\x1b"]
    assert site.ids == ["own", "own", "1", None]


@timed
async def test_each_connection_has_its_own_total() -> None:
    site = Site(events(), events(), NO_CONTENT)
    async with Client(transport=site, timeout=Timeout(2)) as client, open_stream(client) as stream:
        assert [event async for event in stream] == []
    assert [request.extensions["deadline"] for request in site.requests] == [time + 2 for time in site.times]
    assert all(source.log[0] == "lift" for source in site.sources)


@timed
async def test_a_debug_line_tells_of_reconnecting_and_shows_no_query(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, "aiosock.client"):
        await read(Site(events(aiosock.ReadError("lost")), events(), events(b"data\n\n"), NO_CONTENT))
    assert caplog.messages == [
        "the event stream of h is connected again in 3.000 s after ReadError",
        "the event stream of h is connected again in 6.000 s after its end without an event",
        "the event stream of h is connected again in 3.000 s after its end",
    ]


# Failures

LOST = [
    aiosock.ReadError("lost"),
    aiosock.ReadTimeout("silent"),
    aiosock.IncompleteBody("cut"),
    aiosock.TruncatedStream("cut"),
]


@pytest.mark.parametrize("error", LOST, ids=lambda error: type(error).__name__)
@timed
async def test_a_lost_connection_is_followed_by_another(error: Exception) -> None:
    site = Site(events(b"id: 1\ndata: 1\n\n", error), events(b"data: 2\n\n"), NO_CONTENT)
    assert await read(site) == ["1", "2"]
    assert site.ids == [None, "1", "1"]
    assert site.sources[0].log[-1] == "abort"


@pytest.mark.parametrize(
    ("chance", "waits"),
    [(1.0, [3, 3, 6, 12, 24, 48, 60, 60]), (0.0, [3] * 8), (0.5, [3, 3, 4.5, 7.5, 13.5, 25.5, 31.5, 31.5])],
)
@timed
async def test_failures_in_a_row_are_waited_for_longer_and_longer_up_to_a_minute(
    chance: float, waits: list[float]
) -> None:
    failures = [aiosock.ConnectError("refused") for _ in range(7)]
    site = Site(events(b"data: 1\n\n", aiosock.ReadError("lost")), *failures, NO_CONTENT)
    assert await read(site, chance=chance) == ["1"]
    assert site.waits == waits


@timed
async def test_many_failures_are_no_overflow_and_a_server_that_asks_for_more_than_a_minute_gets_it() -> None:
    failures = [aiosock.ConnectError("refused") for _ in range(1100)]
    site = Site(events(b"retry: 90000\n"), *failures, NO_CONTENT)
    assert await read(site) == []
    assert set(site.waits) == {90}


@timed
async def test_a_dead_server_is_not_hammered_though_its_stream_asked_for_no_wait() -> None:
    failures = [aiosock.ConnectError("refused") for _ in range(4)]
    site = Site(events(b"retry: 0\n"), *failures, NO_CONTENT)
    assert await read(site) == []
    assert site.waits == [0.5, 2, 4, 8, 16]


@timed
async def test_a_server_that_sends_event_after_event_over_connections_of_their_own_is_not_stormed() -> None:
    site = Site(*[events(b"retry: 0\ndata: 1\n\n") for _ in range(5)], NO_CONTENT)
    assert await read(site) == ["1"] * 5
    assert site.waits == [0.5] * 5


@timed
async def test_an_event_and_silence_start_counting_anew() -> None:
    refused = aiosock.ConnectError("refused")
    lost, silent = aiosock.ReadError("lost"), aiosock.ReadTimeout("silent")
    for good in (events(b"data: 1\n\n", lost), events(b"data: 1\n\n"), events(silent)):
        site = Site(events(b"data: 0\n\n"), refused, refused, good, refused, refused, NO_CONTENT)
        await read(site, attempts=3)
        assert site.waits == [3, 3, 6, 3, 3, 6]


@timed
async def test_connections_that_end_without_an_event_have_failed_too() -> None:
    site = Site(*[events(b"retry: 0\n") for _ in range(7)])
    _, error = await read_until_error(site, aiosock.ServerDisconnected, attempts=7)
    assert str(error) == "the event stream ended without an event [GET http://h/events]"
    assert error.response.status_code == 200
    assert site.waits == [0.5, 2, 4, 8, 16, 32]
    # Where there is to be one connection alone, its end is what was asked for.
    assert await read(Site(events()), reconnect=False, attempts=1) == []


@timed
async def test_connections_that_break_without_an_event_have_failed() -> None:
    broken = [events(b": hello\n", aiosock.ReadError("lost")) for _ in range(3)]
    site = Site(*broken)
    _, error = await read_until_error(site, aiosock.ReadError, attempts=3)
    assert str(error) == "lost [GET http://h/events]"
    assert site.waits == [3, 6]


@timed
async def test_what_an_earlier_connection_brought_does_not_count_for_a_later_one() -> None:
    broken = [events(aiosock.ReadError("lost")) for _ in range(2)]
    data, _ = await read_until_error(Site(events(b"data: 1\n\n"), *broken), aiosock.ReadError, attempts=2)
    assert data == ["1"]


@timed
async def test_so_many_attempts_and_the_last_error_is_raised() -> None:
    site = Site(
        events(b"data: 1\n\n"), aiosock.ConnectError("one"), aiosock.ReadTimeout("two"), aiosock.DNSError("three")
    )
    data, error = await read_until_error(site, aiosock.DNSError, attempts=3)
    assert (data, str(error)) == (["1"], "three [GET http://h/events]")


@pytest.mark.parametrize(
    "error",
    [
        aiosock.TLSError("not trusted"),
        aiosock.RemoteProtocolError("no HTTP"),
        aiosock.DecodingError("bad gzip"),
        aiosock.BlockedAddress("private"),
        aiosock.TooManyRedirects("many"),
        aiosock.ClientClosed("closed"),
    ],
    ids=lambda error: type(error).__name__,
)
@timed
async def test_what_another_connection_cannot_mend_is_raised(error: Exception) -> None:
    data, raised = await read_until_error(Site(events(b"data: 1\n\n"), error), type(error))
    assert data == ["1"]
    assert raised is error


@timed
async def test_an_event_that_is_too_large_ends_the_stream() -> None:
    site = Site(events(b"data: 1\n\n" + b"data: " + b"x" * 100))
    data, _ = await read_until_error(site, aiosock.ContentTooLarge, max_event_bytes=50)
    assert data == ["1"]
    assert "abort" in site.sources[0].log


@timed
async def test_the_first_connection_has_one_try() -> None:
    for answer in (aiosock.ConnectError("refused"), refusal(503)):
        site = Site(answer)
        async with Client(transport=site) as client:
            stream = open_stream(client)
            with pytest.raises((aiosock.ConnectError, aiosock.HTTPStatusError)):
                await stream.__aenter__()
            assert [event async for event in stream] == []


# Statuses and types


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
@timed
async def test_a_server_in_trouble_is_asked_again(status: int) -> None:
    site = Site(events(b"data: 1\n\n"), refusal(status), refusal(status), events(b"data: 2\n\n"), NO_CONTENT)
    assert await read(site) == ["1", "2"]
    assert site.waits == [3, 3, 6, 3]
    assert all(source.log[-1] in ("abort", "close") for source in site.sources[1:3])


@pytest.mark.parametrize("status", [201, 205, 299, 301, 304, 400, 401, 404, 410, 501])
@timed
async def test_any_other_status_is_final_and_tells_what_the_server_says(status: int) -> None:
    site = Site(events(), refusal(status, b"gone ", b"away"))
    _, error = await read_until_error(site, aiosock.HTTPStatusError)
    assert error.response.status_code == status
    assert error.response.content == b"gone away"
    assert str(error).startswith(str(status))
    assert "secret" not in str(error)
    assert ("gone away" in str(error)) == (status >= 400)


@pytest.mark.parametrize("pieces", [(b"x" * 70_000, None), (b"x", None), (b"x", aiosock.ReadError("lost"))])
@timed
async def test_a_refusal_that_does_not_end_is_not_waited_for(pieces: tuple[Piece, ...]) -> None:
    site = Site(refusal(404, *pieces))
    async with Client(transport=site) as client:
        started = asyncio.get_running_loop().time()
        with pytest.raises(aiosock.HTTPStatusError, match=r"^404 from GET http://h/events$"):
            await open_stream(client).__aenter__()
        # What is too much is seen at once, and what does not come is waited for a little.
        waited = 5 if pieces == (b"x", None) else 0
        assert asyncio.get_running_loop().time() - started == pytest.approx(waited)
    assert "abort" in site.sources[0].log


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("7", 7),
        ("1", 3),
        ("86400", 86400),
        (formatdate(NOW + 20, usegmt=True), 20),
        (formatdate(NOW - 20, usegmt=True), 3),
        ("soon", 3),
        ("-5", 3),
        ("٩", 3),
        ("Mon, 99 Foo 2020 00:00:00 GMT", 3),
        ("", 3),
    ],
    ids=["7", "less", "a day", "a date", "a past date", "a word", "negative", "not ascii", "no date", "empty"],
)
@timed
async def test_retry_after_is_honoured_in_full_and_nonsense_is_ignored(value: str, seconds: float) -> None:
    site = Site(events(b"data: 1\n\n"), refusal(503, Retry_After=value), NO_CONTENT)
    assert await read(site) == ["1"]
    assert site.waits == [3, seconds]


@pytest.mark.parametrize(
    "value", ["86401", "9" * 5000, formatdate(NOW + 90_000, usegmt=True)], ids=["s", "many", "date"]
)
@timed
async def test_a_server_that_wants_more_than_a_day_is_given_up(value: str) -> None:
    await read_until_error(Site(events(), refusal(503, Retry_After=value)), aiosock.HTTPStatusError)


@given(value=st.text('0123456789 :,+-;()aeJnMoGT.\\"é', max_size=40) | st.text(max_size=20))
def test_no_retry_after_makes_it_fail(value: str) -> None:
    seconds = _retry_after_seconds(Response(503, headers=CIMultiDict({"Retry-After": value})), NOW)
    assert isinstance(seconds, float)


@timed
async def test_a_client_that_raises_for_status_reconnects_all_the_same() -> None:
    site = Site(events(), refusal(503, Retry_After="9"), NO_CONTENT)
    async with Client(transport=site, raise_for_status=True) as client, open_stream(client) as stream:
        assert [event async for event in stream] == []
    assert site.waits == [3, 9]


@pytest.mark.parametrize(
    "value",
    ["text/event-stream", "Text/Event-Stream;charset=windows-1251", "text/event-stream ; x", "text/event-stream;"],
)
@timed
async def test_an_event_stream_is_known_by_its_type_alone(value: str) -> None:
    assert await read(Site((200, {"Content-Type": value}, ("data: ä\n\n".encode(),))), reconnect=False) == ["ä"]


@pytest.mark.parametrize("headers", [{}, {"Content-Type": "text/event-streambogus"}, {"Content-Type": "text/html"}])
@timed
async def test_another_type_is_refused_and_final(headers: dict[str, str]) -> None:
    site = Site(events(), (200, headers, (b"data: 1\n\n",)))
    _, error = await read_until_error(site, aiosock.RemoteProtocolError)
    assert error.response.status_code == 200
    assert error.request is site.requests[1]
    assert site.sources[1].log[-1] == "close"
    assert "abort" in site.sources[1].log


# Who reconnects


async def once() -> AsyncIterator[bytes]:
    yield b"x"


@timed
async def test_what_is_not_safe_is_not_repeated_unless_told_so() -> None:
    for method in ("POST", "PUT", "PATCH", "DELETE"):
        assert await read(Site(events(b"data: 1\n\n")), method=method) == ["1"]
        await read_until_error(Site(events(aiosock.ReadError("lost"))), aiosock.ReadError, method=method)
        assert await read(Site(events(), events(), NO_CONTENT), method=method, reconnect=True) == []
    assert await read(Site(events(), events(), NO_CONTENT), method="QUERY") == []


@timed
async def test_a_stream_that_does_not_reconnect_ends_with_its_connection() -> None:
    assert await read(Site(events(b"data: 1\n\n")), reconnect=False) == ["1"]
    data, _ = await read_until_error(
        Site(events(b"data: 1\n\n", aiosock.ReadError("lost"))), aiosock.ReadError, reconnect=False
    )
    assert data == ["1"]


@timed
async def test_a_body_that_can_be_read_once_is_sent_once() -> None:
    site = Site(events(b"data: 1\n\n"))
    async with Client(transport=site) as client:
        async with client.events(URL, method="QUERY", content=once()) as stream:
            assert [event.data async for event in stream] == ["1"]
        with pytest.raises(aiosock.UsageError, match="reconnect: the request's body can be read only once"):
            client.events(URL, method="POST", content=once(), reconnect=True)


@timed
async def test_the_same_body_is_sent_each_time() -> None:
    site = Site(events(), events(), NO_CONTENT)
    async with (
        Client(transport=site) as client,
        client.events(URL, method="POST", json={"a": 1}, reconnect=True, headers={"X-Own": "1"}) as stream,
    ):
        assert [event async for event in stream] == []
    assert [request.content for request in site.requests] == [b'{"a":1}'] * 3
    assert [request.headers["X-Own"] for request in site.requests] == ["1"] * 3


# The call


@timed
async def test_the_fields_of_the_standard_are_sent_and_ones_own_left() -> None:
    site = Site(NO_CONTENT, NO_CONTENT)
    async with Client(transport=site, headers={"Accept": "client/own"}) as client:
        async with client.events(URL):
            pass
        own = (pair for pair in [("accept", "a/b"), ("cache-control", "no-cache")])
        async with client.events(URL, headers=own, params={"p": "1"}):
            pass
    sent = [[request.headers.getall(name) for name in ("Accept", "Cache-Control")] for request in site.requests]
    assert sent == [[["text/event-stream"], ["no-store"]], [["a/b"], ["no-cache"]]]
    assert site.requests[1].target == "/events?key=secret&p=1"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"last_event_id": 5}, "last_event_id: takes a str, not int"),
        ({"last_event_id": "a\nb"}, "last_event_id: has a character"),
        ({"last_event_id": "a\0"}, "last_event_id: has a character"),
        ({"last_event_id": "\ud800"}, "last_event_id: has a character"),
        ({"last_event_id": "a\udfff"}, "last_event_id: has a character"),
        ({"attempts": 0}, "attempts: must be a whole number from 1 on, or None, not 0"),
        ({"attempts": True}, "attempts: .* not True"),
        ({"max_event_bytes": 1.5}, "max_event_bytes: .* not 1.5"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
async def test_arguments_that_make_no_sense_are_refused(options: dict[str, Any], message: str) -> None:
    async with Client() as client:
        with pytest.raises(aiosock.UsageError, match=message):
            client.events(URL, **options)


@timed
async def test_one_task_reads_at_a_time_and_another_is_told_so() -> None:
    site = Hanging(events(b"data: 1\n\n"), events(b"data: 2\n\ndata: 3\n\n"))
    async with Client(transport=site) as client, open_stream(client) as stream:
        assert (await anext(stream)).data == "1"
        reading = asyncio.ensure_future(anext(stream))
        for _ in range(3):
            await asyncio.sleep(2)  # By the loop's own clock: it waits to connect, then for the connection.
            with pytest.raises(aiosock.UsageError, match="two tasks read one event stream at the same time"):
                await anext(stream)
        site.let.set()
        # The one that was first loses nothing.
        assert (await reading).data == "2"
        assert (await anext(stream)).data == "3"


@timed
async def test_a_stream_is_entered_once_and_read_inside() -> None:
    async with Client(transport=Site(NO_CONTENT)) as client:
        stream = client.events(URL)
        with pytest.raises(aiosock.UsageError, match="inside of its 'async with' block"):
            await anext(stream)
        with pytest.raises(aiosock.UsageError, match="no response yet"):
            _ = stream.response
        async with stream:
            with pytest.raises(aiosock.UsageError, match="entered once"):
                await stream.__aenter__()
    async with Client(transport=Site(events(None), aiosock.ConnectError("refused"))) as client:
        async with client.events(URL) as stream:
            with pytest.raises(aiosock.UsageError, match="entered once"):
                await stream.__aenter__()
        failed = client.events(URL)
        with pytest.raises(aiosock.ConnectError):
            await failed.__aenter__()
        with pytest.raises(aiosock.UsageError, match="entered once"):
            await failed.__aenter__()
        closed = client.events(URL)
        await closed.close()
        assert [event async for event in closed] == []


# The end


@timed
async def test_leaving_the_block_gives_the_connection_up() -> None:
    site = Site(events(b"data: 1\n\n", None), events(b"data: 1\n\n", None))
    async with Client(transport=site) as client:
        async with open_stream(client) as stream:
            await anext(stream)
        assert site.sources[0].log == ["lift", "close"]
        with pytest.raises(ZeroDivisionError):
            async with open_stream(client) as stream:
                raise ZeroDivisionError
        assert site.sources[1].log == ["lift", "abort", "close"]
        assert [event async for event in stream] == []


@timed
async def test_closing_ends_a_task_that_waits_for_an_event() -> None:
    site = Site(events(None))
    async with Client(transport=site) as client, open_stream(client) as stream:
        waiting = asyncio.ensure_future(anext(stream, None))
        await turns()
        await stream.close()
        assert await waiting is None
    assert len(site.requests) == 1


@timed
async def test_closing_ends_a_task_that_waits_to_connect() -> None:
    site = Site(events(b"retry: 1000000\n"))
    async with Client(transport=site) as client, open_stream(client) as stream:
        waiting = asyncio.ensure_future(anext(stream, None))
        await turns()
        started = asyncio.get_running_loop().time()
        await stream.close()
        assert await waiting is None
        assert asyncio.get_running_loop().time() == started
    assert len(site.requests) == 1


@timed
async def test_closing_while_it_connects_gives_the_new_connection_up() -> None:
    class Slow(Site):
        async def send(self, request: Request) -> Response:
            response = await super().send(request)
            if len(self.requests) > 1:
                await stream.close()
            return response

    site = Slow(events(), events(b"data: 1\n\n"))
    async with Client(transport=site) as client, open_stream(client) as stream:
        assert [event async for event in stream] == []
        assert site.sources[1].log[-1] == "close"


@pytest.mark.parametrize(
    "answer", [aiosock.ConnectError("refused"), refusal(503), refusal(404)], ids=["refused", "503", "404"]
)
@timed
async def test_closing_while_it_fails_to_connect_is_the_end_and_no_error(answer: Answer) -> None:
    class Slow(Site):
        async def send(self, request: Request) -> Response:
            if len(self.requests) == 1:
                await stream.close()
            return await super().send(request)

    site = Slow(events(), answer)
    async with Client(transport=site, raise_for_status=True) as client, open_stream(client) as stream:
        assert [event async for event in stream] == []
    assert len(site.requests) == 2


@pytest.mark.parametrize("reconnect", [True, False])
@timed
async def test_a_cancelled_wait_loses_no_event_and_no_connection(reconnect: bool) -> None:
    site = Site(events(b"data: 1\n\n", None, b"data: 3\n\n"))
    async with Client(transport=site) as client, open_stream(client, reconnect=reconnect) as stream:
        assert (await anext(stream)).data == "1"
        for _ in range(6):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(anext(stream), 10)
        pending = site.sources[0].gone
        assert pending is not None
        # While nobody waits.
        pending.set_result(b"data: 2\n\n")
        await turns()
        assert (await anext(stream)).data == "2"
        assert (await anext(stream)).data == "3"
        assert "abort" not in site.sources[0].log
    assert len(site.requests) == 1


@timed
async def test_an_error_while_nobody_waits_is_met_by_the_next_who_does() -> None:
    site = Site(events(b"id: 1\ndata: 1\n\n", None), events(b"data: 2\n\n"))
    async with Client(transport=site) as client, open_stream(client) as stream:
        assert (await anext(stream)).data == "1"
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(anext(stream), 10)
        pending = site.sources[0].gone
        assert pending is not None
        pending.set_exception(aiosock.ReadError("lost"))
        await turns()
        assert (await anext(stream)).data == "2"
    assert site.ids == [None, "1"]


@timed
async def test_what_is_no_error_of_the_network_is_raised_and_the_next_event_comes_over_another_connection() -> None:
    site = Site(events(b"data: 1\n\n", LookupError("own")), events(b"data: 2\n\n"))
    async with Client(transport=site) as client, open_stream(client) as stream:
        assert (await anext(stream)).data == "1"
        with pytest.raises(LookupError):
            await anext(stream)
        assert (await anext(stream)).data == "2"


class Hanging(Site):
    """Whose later connections never come about, unless they are let."""

    def __init__(self, *answers: Answer) -> None:
        super().__init__(*answers)
        self.let = asyncio.Event()
        self.cancelled = 0

    async def send(self, request: Request) -> Response:
        response = await super().send(request)
        if len(self.requests) > 1:
            try:
                await self.let.wait()
            except asyncio.CancelledError:
                self.cancelled += 1
                raise
        return response


@timed
async def test_a_cancelled_wait_for_a_connection_goes_on_with_it() -> None:
    site = Hanging(events(b"data: 1\n\n"), events(b"data: 2\n\n"))
    async with Client(transport=site) as client, open_stream(client) as stream:
        assert (await anext(stream)).data == "1"
        for _ in range(3):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(anext(stream), 4)
        site.let.set()
        assert (await anext(stream)).data == "2"
    assert (len(site.requests), site.cancelled) == (2, 0)


@timed
async def test_closing_ends_a_task_that_is_connecting() -> None:
    site = Hanging(events(b"data: 1\n\n"), events())
    async with Client(transport=site, timeout=None) as client, open_stream(client) as stream:
        assert (await anext(stream)).data == "1"
        waiting = asyncio.ensure_future(anext(stream, None))
        await asyncio.sleep(10)  # By the loop's own clock.
        assert len(site.requests) == 2
        await stream.close()
        assert await asyncio.wait_for(waiting, 1) is None
    assert site.cancelled == 1


@timed
async def test_what_nobody_waits_for_any_more_fails_in_silence() -> None:
    class Failing(Hanging):
        async def send(self, request: Request) -> Response:
            await super().send(request)
            if len(self.requests) > 1:
                raise aiosock.ConnectError("refused")
            return Response(200, headers=STREAM, request=request, source=Source())

    async def leave(let: bool) -> None:
        site = Failing(events(), events())
        async with Client(transport=site, timeout=None) as client, open_stream(client) as stream:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(anext(stream), 10)
            if let:
                site.let.set()
                await turns()
        await turns()
        assert site.cancelled == (not let)

    told: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: told.append(context))
    for let in (False, True):
        await leave(let)
    gc.collect()
    assert told == []


@timed
async def test_closing_ends_what_a_cancelled_wait_has_left_behind() -> None:
    site = Site(events(None))
    async with Client(transport=site) as client, open_stream(client) as stream:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(anext(stream), 10)
    await turns()
    assert asyncio.all_tasks() == {asyncio.current_task()}


@pytest.mark.parametrize(("own", "requests"), [({}, 1), ({"retry": 3}, 3)])
@timed
async def test_a_clients_retries_are_not_those_of_a_stream_unless_the_call_says_so(
    own: dict[str, Any], requests: int
) -> None:
    site = Site(*[aiosock.ConnectError("refused") for _ in range(9)])
    async with Client(transport=site, retry=5) as client:
        with pytest.raises(aiosock.ConnectError):
            async with client.events(URL, **own):
                pass
    assert len(site.requests) == requests


@timed
async def test_an_id_of_ones_own_field_is_taken_back_by_the_stream() -> None:
    site = Site(events(b"data\n\n"), events(b"id\ndata\n\n"), events(b"data\n\n"), NO_CONTENT)
    async with Client(transport=site) as client, client.events(URL, headers={"Last-Event-ID": "\xe9"}) as stream:
        assert [event.id async for event in stream] == ["\xe9", "", ""]
    assert site.ids == ["\xe9", "\xe9", None, None]


@timed
async def test_a_wait_to_connect_that_is_cancelled_goes_on_where_it_was() -> None:
    site = Site(events(b"data: 1\n\n"), events(b"data: 2\n\n"))
    async with Client(transport=site) as client, open_stream(client) as stream:
        assert (await anext(stream)).data == "1"
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(anext(stream), 2)
        assert (await anext(stream)).data == "2"
    assert site.waits == [3]


# All together


@given(
    cuts=st.lists(st.tuples(st.integers(0, 60), st.sampled_from(["end", "lost", "silent", "refused", "busy"]))),
    line_end=st.sampled_from(["\n", "\r", "\r\n"]),
    size=st.integers(1, 50),
)
def test_from_a_server_that_takes_up_where_it_was_every_event_comes_once(
    cuts: list[tuple[int, str]], line_end: str, size: int
) -> None:
    """Whatever happens to its connections, and wherever their bytes are cut."""
    ends: dict[str, tuple[Piece, ...]] = {
        "end": (),
        "lost": (aiosock.ReadError("lost"),),
        "silent": (aiosock.ReadTimeout("silent"),),
    }
    left = list(cuts)

    class Resuming(Site):
        async def send(self, request: Request) -> Response:
            seen = int(request.headers.get("Last-Event-ID", "0"))
            wanted = [f"id: {number}{line_end}data: {number}{line_end * 2}" for number in range(seen + 1, 6)]
            stream = "".join(wanted).encode()
            length, how = left.pop(0) if left else (len(stream), "end")
            if not self.requests:
                how = how if how in ends else "end"
            pieces = [stream[start : min(start + size, length)] for start in range(0, min(length, len(stream)), size)]
            if how == "refused":
                answer: Answer = aiosock.ConnectError("refused")
            elif how == "busy":
                answer = refusal(503)
            else:
                answer = events(*pieces, *ends[how]) if wanted else NO_CONTENT
            self.answers.append(answer)
            return await super().send(request)

    async def main() -> list[str]:
        return await read(Resuming())

    with asyncio.Runner(loop_factory=ClockLoop) as runner:
        assert runner.run(main()) == ["1", "2", "3", "4", "5"]
