"""Both directions of a connection: what may be sent when, and whether another request may follow."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from aiosock.errors import (
    HeadTooLarge,
    IncompleteBody,
    InvalidHeader,
    LocalProtocolError,
    RemoteProtocolError,
    ServerDisconnected,
)
from aiosock.protocol.http1 import (
    NEED_DATA,
    BodyData,
    BodyEnded,
    Connection,
    Event,
    InformationalReceived,
    RequestHead,
    ResponseStarted,
)

EOF = b""
NO_CONTENT = b"HTTP/1.1 204 No\r\n\r\n"
LENGTH = ("Content-Length", "5")
CHUNKED = ("Transfer-Encoding", "chunked")


def head(method: str = "GET", *fields: tuple[str, str], target: str = "/") -> RequestHead:
    return RequestHead(method, target, "a.example", fields)


def opened(method: str = "GET", *fields: tuple[str, str], target: str = "/") -> Connection:
    """Return a connection on which such a request was begun."""
    connection = Connection()
    connection.send_request(head(method, *fields, target=target))
    return connection


def take(connection: Connection) -> list[Event]:
    events: list[Event] = []
    while (event := connection.next_event()) is not NEED_DATA:
        events.append(event)
    return events


def answered(data: bytes, method: str = "GET", *fields: tuple[str, str]) -> Connection:
    """Return a connection after a request and the answer to it."""
    connection = opened(method, *fields)
    connection.receive_data(data)
    take(connection)
    return connection


# Sending


def test_a_request_without_a_body_is_sent_with_its_head() -> None:
    connection = Connection()
    assert not connection.sending_done
    assert connection.send_request(head()) == b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n"
    assert connection.sending_done
    assert connection.send_end() == b""


def test_a_body_of_a_known_length_goes_out_as_it_is() -> None:
    connection = opened("POST", LENGTH)
    assert not connection.sending_done
    assert connection.send_data(b"abc") == b"abc"
    assert connection.send_data(b"") == b""
    view = memoryview(b"de")
    assert connection.send_data(view) is view
    assert not connection.sending_done
    assert connection.send_end() == b""
    assert connection.sending_done
    assert connection.send_end() == b""


def test_a_length_of_zero_is_no_body() -> None:
    connection = opened("POST", ("Content-Length", "0"))
    assert connection.sending_done
    with pytest.raises(LocalProtocolError, match="where no request body is due"):
        connection.send_data(b"a")


def test_a_chunked_body_is_framed_and_an_empty_piece_does_not_end_it() -> None:
    connection = opened("POST", CHUNKED)
    assert connection.send_data(b"a" * 26) == b"1a\r\n" + b"a" * 26 + b"\r\n"
    assert connection.send_data(b"") == b""
    assert connection.send_data(memoryview(b"bc")) == b"2\r\nbc\r\n"
    assert not connection.sending_done
    assert connection.send_end() == b"0\r\n\r\n"
    assert connection.sending_done


def test_a_piece_that_somebody_else_sends_is_framed_and_counted() -> None:
    connection = Connection()
    connection.send_request(head("POST", ("Transfer-Encoding", "chunked")))
    assert connection.frame_data(26) == (b"1a\r\n", b"\r\n")
    assert connection.frame_data(0) == (b"", b"")
    connection = Connection()
    connection.send_request(head("POST", ("Content-Length", "5")))
    assert connection.frame_data(5) == connection.frame_data(0) == (b"", b"")
    with pytest.raises(LocalProtocolError, match="passes its Content-Length of 5 bytes by 1 or more"):
        connection.frame_data(1)


def test_trailers_follow_the_last_chunk() -> None:
    connection = opened("POST", CHUNKED)
    assert connection.send_end(iter([("A", "b"), ("C", "d")])) == b"0\r\nA: b\r\nC: d\r\n\r\n"
    assert connection.sending_done


def test_no_trailers_are_no_trailers_in_whatever_they_come() -> None:
    for connection in (opened(), opened("POST", ("Content-Length", "1"))):
        if not connection.sending_done:
            connection.send_data(b"x")
        assert connection.send_end(iter(())) == b""
        assert connection.send_end(iter(())) == b""


@pytest.mark.parametrize("before", [0, 3, 5])
def test_a_body_that_passes_its_length_is_an_error_and_the_connection_is_over(before: int) -> None:
    connection = opened("POST", LENGTH)
    connection.send_data(b"x" * before)
    with pytest.raises(LocalProtocolError, match="passes its Content-Length of 5 bytes by 2 or more"):
        connection.send_data(b"x" * (7 - before))
    assert not connection.sending_done
    for send in (lambda: connection.send_data(b"x"), connection.send_end, lambda: connection.send_request(head())):
        with pytest.raises(LocalProtocolError, match=r"the sending side is failed\)|cannot carry another request"):
            send()
    connection.receive_data(NO_CONTENT)
    take(connection)
    assert not connection.reusable


def test_a_body_that_falls_short_of_its_length_is_an_error_and_the_connection_is_over() -> None:
    connection = opened("POST", LENGTH)
    connection.send_data(b"abc")
    with pytest.raises(LocalProtocolError, match="has 3 bytes, short of its Content-Length of 5"):
        connection.send_end()
    with pytest.raises(LocalProtocolError, match=r"the sending side is failed\)"):
        connection.send_end()
    connection.receive_data(NO_CONTENT)
    take(connection)
    assert not connection.reusable


def test_trailers_without_chunks_are_an_error_and_the_connection_is_over() -> None:
    connection = opened("POST", LENGTH)
    connection.send_data(b"abcde")
    with pytest.raises(LocalProtocolError, match="trailers need a chunked body"):
        connection.send_end([("A", "b")])
    assert not connection.sending_done
    with pytest.raises(LocalProtocolError, match=r"the sending side is failed\)"):
        connection.send_end()
    with pytest.raises(LocalProtocolError, match="the end of a body sent where no request body is due"):
        opened().send_end([("A", "b")])


def test_a_trailer_that_may_not_be_sent_ends_the_connection() -> None:
    connection = opened("POST", CHUNKED)
    with pytest.raises(InvalidHeader, match="Host may not stand in trailers"):
        connection.send_end([("Host", "b")])
    assert not connection.sending_done
    with pytest.raises(LocalProtocolError, match=r"the sending side is failed\)"):
        connection.send_end()


@pytest.mark.parametrize("send", [lambda c: c.send_data(b"a"), lambda c: c.send_data(b""), lambda c: c.send_end()])
def test_a_body_ahead_of_its_head_is_refused(send: Callable[[Connection], bytes]) -> None:
    connection = Connection()
    with pytest.raises(LocalProtocolError, match="the sending side is idle"):
        send(connection)
    # It did no harm.
    assert connection.send_request(head())


def test_data_after_the_end_of_the_body_is_refused() -> None:
    connection = opened("POST", CHUNKED)
    connection.send_end()
    with pytest.raises(LocalProtocolError, match="data sent where no request body is due .the sending side is done"):
        connection.send_data(b"a")


@given(st.lists(st.binary(max_size=20)), st.booleans())
def test_a_body_in_any_pieces_is_framed_so_that_it_can_be_read_back(pieces: list[bytes], chunked: bool) -> None:
    body = b"".join(pieces)
    connection = opened("POST", CHUNKED if chunked else ("Content-Length", str(len(body))))
    if not body and not chunked:
        return
    wire = b"".join(bytes(connection.send_data(piece)) for piece in pieces) + connection.send_end()
    # The framing of a request is that of an answer.
    peer = opened()
    field = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: %d" % len(body)
    peer.receive_data(b"HTTP/1.1 200 OK\r\n" + field + b"\r\n\r\n" + wire)
    events = take(peer)
    assert b"".join(event.data for event in events if isinstance(event, BodyData)) == body
    assert events[-1] == BodyEnded(None)
    assert peer.reusable


# Receiving


def test_an_answer_comes_as_events() -> None:
    connection = opened()
    assert connection.next_event() is NEED_DATA
    assert not connection.response_started
    connection.receive_data(b"HTTP/1.1 103 E\r\n\r\n")
    assert take(connection) == [InformationalReceived(103, "E", CIMultiDict())]
    assert not connection.response_started
    connection.receive_data(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\na")
    fields = CIMultiDict({"Content-Length": "2"})
    assert take(connection) == [ResponseStarted(200, "OK", "HTTP/1.1", fields, (), 2), BodyData(b"a")]
    assert (connection.response_started, connection.response_done, connection.body_left) == (True, False, 1)
    connection.receive_data(b"b")
    assert take(connection) == [BodyData(b"b"), BodyEnded(None)]
    assert (connection.response_started, connection.response_done, connection.body_left) == (True, True, 0)


def test_the_answer_may_come_while_the_body_is_sent() -> None:
    connection = opened("POST", LENGTH)
    connection.receive_data(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx")
    assert len(take(connection)) == 3
    assert connection.response_done
    assert not connection.reusable
    assert connection.send_data(b"abcde") == b"abcde"
    assert connection.send_end() == b""
    assert connection.reusable


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"nonsense", RemoteProtocolError),
        (b"HTTP/1.1 200 OK\r\nA : b\r\n\r\n", RemoteProtocolError),
        (b"", ServerDisconnected),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\na", IncompleteBody),
    ],
)
def test_after_an_error_the_connection_is_closed_and_says_so(data: bytes, error: type[Exception]) -> None:
    connection = opened("POST", LENGTH)
    connection.receive_data(data)
    if data:
        connection.receive_data(EOF)
    with pytest.raises(error) as info:
        take(connection)
    assert type(info.value) is error
    for _ in range(2):
        with pytest.raises(LocalProtocolError, match="closed: its last answer broke the protocol"):
            connection.next_event()
        connection.receive_data(NO_CONTENT)
    with pytest.raises(LocalProtocolError, match=r"the sending side is failed\)"):
        connection.send_data(b"a")
    with pytest.raises(LocalProtocolError, match="cannot carry another request"):
        connection.send_request(head())
    assert (connection.reusable, connection.response_done, connection.sending_done) == (False, False, False)


def test_the_limits_are_those_it_was_made_with() -> None:
    connection = Connection(max_head_bytes=30)
    connection.send_request(head())
    connection.receive_data(b"HTTP/1.1 200 OK\r\nA: " + b"b" * 20)
    with pytest.raises(HeadTooLarge, match="the limit is 30"):
        connection.next_event()
    connection = Connection(max_fields=1)
    connection.send_request(head())
    connection.receive_data(b"HTTP/1.1 200 OK\r\nA: b\r\nC: d\r\n\r\n")
    with pytest.raises(HeadTooLarge, match="the limit is 1"):
        connection.next_event()
    connection = Connection(max_head_bytes=None, max_fields=None)
    connection.send_request(head())
    connection.receive_data(b"HTTP/1.1 204 No\r\n" + b"A: b\r\n" * 100_000 + b"\r\n")
    assert len(take(connection)) == 2


def test_it_knows_whether_a_byte_of_the_answer_has_come() -> None:
    connection = Connection()
    assert not connection.awaits_first_byte
    connection.send_request(head())
    assert connection.awaits_first_byte
    connection.receive_data(b"HTTP/1.1 100 Continue\r\n\r\n")
    take(connection)
    assert not connection.awaits_first_byte


def test_an_end_of_file_instead_of_an_answer_is_told_from_one_within_it() -> None:
    for data, untouched in ((b"", True), (b"H", False)):
        connection = opened()
        if data:
            connection.receive_data(data)
        connection.receive_data(EOF)
        with pytest.raises(ServerDisconnected):
            connection.next_event()
        assert connection.awaits_first_byte is untouched


# Handing over


@pytest.mark.parametrize(
    ("method", "target", "fields", "data"),
    [
        ("CONNECT", "b.example:443", (), b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"),
        ("GET", "/", (("Upgrade", "x"), ("Connection", "upgrade")), b"HTTP/1.1 101 Go\r\nUpgrade: x\r\n\r\n"),
    ],
)
def test_after_a_switch_the_bytes_already_read_are_handed_over(
    method: str, target: str, fields: tuple[tuple[str, str], ...], data: bytes
) -> None:
    connection = opened(method, *fields, target=target)
    assert not connection.switched
    connection.receive_data(data + b"\x16\x03")
    assert len(take(connection)) == 1
    assert (connection.switched, connection.response_started, connection.response_done) == (True, True, False)
    assert connection.take_rest() == b"\x16\x03"
    assert connection.take_rest() == b""
    assert not connection.reusable
    assert connection.response_closes
    assert connection.body_left is None
    with pytest.raises(LocalProtocolError, match="cannot carry another request"):
        connection.send_request(head())


def test_101_without_an_upgrade_offered_is_refused() -> None:
    connection = opened("GET", ("Connection", "upgrade"))
    connection.receive_data(b"HTTP/1.1 101 Go\r\n\r\n")
    with pytest.raises(RemoteProtocolError, match="offered no Upgrade"):
        connection.next_event()


# Reuse

REUSABLE = [
    NO_CONTENT,
    b"\r\n" + NO_CONTENT,
    b"HTTP/1.1 100 Continue\r\nConnection: close\r\n\r\n" + NO_CONTENT,
    b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx",
    b"HTTP/1.1 500 Oh\r\nContent-Length: 0\r\nConnection: keep-alive\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: x, closed\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nConnection: close\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    b"HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\nContent-Length: 1\r\n\r\nx",
    b"HTTP/1.1 304 Not\r\nContent-Length: 5\r\n\r\n",
    b"HTTP/1.1 204 No\r\nContent-Length: 0\r\n\r\n",
]
NOT_REUSABLE = {
    "HTTP/1.0": b"HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\nx",
    "close": b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 1\r\n\r\nx",
    "CLOSE among others": b"HTTP/1.1 200 OK\r\nConnection: x, CLOSE\r\nContent-Length: 1\r\n\r\nx",
    "close in a second field": (
        b"HTTP/1.1 200 OK\r\nConnection: keep-alive\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
    ),
    "close wins": b"HTTP/1.0 200 OK\r\nConnection: keep-alive, close\r\nContent-Length: 1\r\n\r\nx",
    "chunked and length": b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "HTTP/1.0 and chunked": (
        b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n"
    ),
    "identity and length": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\nContent-Length: 1\r\n\r\nx",
    "204 and chunked": b"HTTP/1.1 204 No\r\nTransfer-Encoding: chunked\r\n\r\n",
    "HTTP/1.0, 304 and chunked": (b"HTTP/1.0 304 Not\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n"),
    "more behind it": NO_CONTENT + b"H",
    "empty line behind it": NO_CONTENT + b"\r\n",
    "unfinished": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nx",
    "not yet": b"",
    "until close": b"HTTP/1.1 200 OK\r\n\r\nx",
}


@pytest.mark.parametrize("data", REUSABLE)
def test_a_connection_is_reused_after_an_answer_that_allows_it(data: bytes) -> None:
    connection = opened()
    assert not connection.reusable
    for start in range(len(data)):
        assert not connection.reusable
        connection.receive_data(data[start : start + 1])
        take(connection)
    assert connection.reusable
    assert not connection.response_closes
    # And the next exchange begins afresh.
    assert connection.send_request(head("POST", CHUNKED)).startswith(b"POST")
    assert (connection.response_started, connection.response_done) == (False, False)
    assert (connection.sending_done, connection.reusable, connection.awaits_first_byte) == (False, False, True)
    connection.send_data(b"x")
    connection.send_end()
    connection.receive_data(NO_CONTENT)
    assert len(take(connection)) == 2
    assert connection.reusable


@pytest.mark.parametrize("name", NOT_REUSABLE)
def test_a_connection_is_not_reused_after_an_answer_that_forbids_it(name: str) -> None:
    connection = opened()
    data = NOT_REUSABLE[name]
    if data:
        connection.receive_data(data)
    take(connection)
    assert not connection.reusable
    with pytest.raises(LocalProtocolError, match="this connection cannot carry another request"):
        connection.send_request(head())


def test_an_answer_until_close_ends_the_connection() -> None:
    connection = answered(b"HTTP/1.1 200 OK\r\nConnection: keep-alive\r\n\r\nx")
    assert connection.response_closes
    connection.receive_data(EOF)
    assert take(connection) == [BodyEnded(None)]
    assert connection.response_done
    assert not connection.reusable


def test_a_request_that_says_close_is_the_last() -> None:
    connection = answered(NO_CONTENT, "GET", ("Connection", "close"))
    assert connection.response_done
    assert not connection.response_closes
    assert not connection.reusable


def test_an_unfinished_request_body_forbids_reuse() -> None:
    connection = answered(NO_CONTENT, "POST", CHUNKED)
    assert not connection.reusable
    connection.send_end()
    assert connection.reusable


def test_an_end_of_file_or_data_while_idle_forbids_reuse() -> None:
    for data in (EOF, b"HTTP/1.1 408 Timeout\r\n\r\n"):
        connection = answered(NO_CONTENT)
        assert connection.reusable
        connection.receive_data(data)
        assert not connection.reusable
        fresh = Connection()
        assert fresh.reusable
        fresh.receive_data(data)
        assert not fresh.reusable
        for closed in (connection, fresh):
            with pytest.raises(LocalProtocolError, match="cannot carry another request"):
                closed.send_request(head())


def test_an_answer_with_an_end_of_file_behind_it_is_whole_and_the_last() -> None:
    connection = opened()
    connection.receive_data(NO_CONTENT)
    connection.receive_data(EOF)
    assert take(connection)[-1] == BodyEnded(None)
    assert not connection.reusable


@pytest.mark.parametrize(
    ("data", "unwanted"),
    [
        (b"HTTP/1.1 299 OK\r\nContent-Length: 1\r\n\r\n", False),
        (b"HTTP/1.1 300 Choices\r\nContent-Length: 1\r\n\r\n", True),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nConnection: x\r\nConnection: Close\r\n\r\n", True),
        (b"HTTP/1.1 100 Continue\r\nConnection: close\r\n\r\n", False),
        # The connection ends after these, but that is no word against the request.
        (b"HTTP/1.1 200 OK\r\n\r\n", False),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\n", False),
    ],
)
def test_it_knows_whether_the_rest_of_the_request_is_wanted(data: bytes, unwanted: bool) -> None:
    connection = opened("POST", CHUNKED)
    connection.receive_data(data)
    take(connection)
    assert connection.rest_unwanted is unwanted


def test_whether_the_answer_closes_is_known_from_its_head_on() -> None:
    connection = opened()
    assert connection.response_closes
    connection.receive_data(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n")
    take(connection)
    assert not connection.response_closes
    connection = answered(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nConnection: close\r\n\r\n")
    assert connection.response_closes


@pytest.mark.parametrize(
    ("fields", "seconds"),
    [
        (b"", None),
        (b"Keep-Alive: timeout=5, max=100\r\n", 5),
        (b"keep-alive: max=100\r\n", None),
        (b"Keep-Alive: timeout=x\r\n", None),
    ],
)
def test_it_tells_how_long_the_server_keeps_the_connection(fields: bytes, seconds: int | None) -> None:
    connection = opened()
    assert connection.keep_alive_seconds is None
    connection.receive_data(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n" + fields + b"\r\n")
    take(connection)
    assert connection.keep_alive_seconds == seconds
