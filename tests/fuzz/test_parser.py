"""
Whatever a peer sends and whatever a caller asks for: errors of the tree or well-formed messages, nothing else.

Answers are made from the grammar, mutated, cut anywhere and compared with what the grammar meant.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from aiosock.errors import AiosockError, InvalidHeader, LocalProtocolError, RemoteProtocolError
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
from aiosock.protocol.link import parse_links

TOKEN_CHARACTERS = "!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
FRAMING = {"content-length", "transfer-encoding", "connection", "host", "expect", "upgrade", "keep-alive"}
REQUESTS = {
    "GET": RequestHead("GET", "/", "a", ()),
    "HEAD": RequestHead("HEAD", "/", "a", ()),
    "CONNECT": RequestHead("CONNECT", "b:443", "b:443", ()),
    "UPGRADE": RequestHead("GET", "/", "a", [("Upgrade", "x")]),
}


# Making answers


@dataclass
class Answer:
    """The bytes of an answer, how it was asked for, and the events that its grammar means."""

    data: bytes
    request: str
    events: list[Event]
    until_close: bool


names = st.one_of(
    st.sampled_from(["Server", "server", "Set-Cookie", "X-Own", "Date"]),
    st.text(TOKEN_CHARACTERS, min_size=1, max_size=10).filter(lambda name: name.lower() not in FRAMING),
)
values = st.binary(max_size=20).map(
    lambda raw: bytes(byte for byte in raw if byte == 9 or (byte >= 32 and byte != 127)).strip(b" \t")
)
spaces = st.sampled_from([b"", b" ", b"\t", b" \t "])
folds = st.lists(st.tuples(st.sampled_from([b" ", b"\t", b"  \t"]), values.filter(bool)), max_size=2)
line_ends = st.sampled_from([b"\r\n", b"\r\n", b"\r\n", b"\n"])


@st.composite
def sections(draw: st.DrawFn, *, trailers: bool = False) -> tuple[bytes, list[tuple[str, str]]]:
    """Draw field lines, with what they mean."""
    wire, fields = b"", []
    for _ in range(draw(st.integers(0, 4))):
        end = b"\r\n" if trailers else draw(line_ends)
        name, first = draw(names), draw(values)
        value, line = first, name.encode() + b":" + draw(spaces) + first
        for indent, more in draw(folds):
            line += end + indent + more
            value += b" " + more
        line += draw(spaces)
        wire += line + end
        fields.append((name, value.strip(b" \t").decode("latin-1")))
    return wire, fields


@st.composite
def heads(draw: st.DrawFn, status: int, extra: list[tuple[str, str]]) -> tuple[bytes, str, str, CIMultiDict[str]]:
    """Draw a head of this status with these fields somewhere in it."""
    version = draw(st.sampled_from(["HTTP/1.1", "HTTP/1.1", "HTTP/1.0"]))
    reason = draw(st.sampled_from([b" OK", b" ", b"", b" Not \xf6 Found\t!"]))
    wire, fields = draw(sections())
    after, fields_after = draw(sections())
    end = draw(line_ends)
    middle = b"".join(f"{name}: {value}".encode() + end for name, value in extra)
    data = f"{version} {status}".encode() + reason + end + wire + middle + after + draw(line_ends)
    return data, version, reason[1:].decode("latin-1"), CIMultiDict([*fields, *extra, *fields_after])


@st.composite
def chunked(draw: st.DrawFn, body: bytes) -> tuple[bytes, CIMultiDict[str] | None]:
    """Draw chunk framing around this body, and trailers."""
    extensions = st.sampled_from([b"", b"", b";a", b" ;a=b", b';a="\xff;"'])
    sizes = st.sampled_from([b"%x", b"%X", b"%04x"])
    edges = [0, *sorted(draw(st.lists(st.integers(0, len(body)), max_size=4))), len(body)]
    wire = b""
    for start, end in pairwise(edges):
        if start < end:
            wire += draw(sizes) % (end - start) + draw(extensions) + b"\r\n" + body[start:end] + b"\r\n"
    section, fields = draw(sections(trailers=True))
    wire += draw(st.sampled_from([b"0", b"000"])) + draw(extensions) + b"\r\n" + section + b"\r\n"
    return wire, CIMultiDict(fields) if fields else None


@st.composite
def answers(draw: st.DrawFn) -> Answer:
    """Draw an answer, informational ones ahead of it included."""
    data, events = b"", []
    for _ in range(draw(st.integers(0, 2))):
        status = draw(st.sampled_from([100, 102, 103, 199]))
        wire, _, reason, headers = draw(heads(status, []))
        data += draw(st.sampled_from([b"", b"", b"\r\n", b"\n\r\n"])) + wire
        events.append(InformationalReceived(status, reason, headers))
    request = draw(st.sampled_from(sorted(REQUESTS)))
    status = draw(st.sampled_from([200, 200, 200, 204, 206, 304, 404, 599, 999]))
    framing = draw(st.sampled_from(["length", "chunked", "gzip, chunked", "close", "gzip"]))
    if request == "UPGRADE" and draw(st.booleans()):
        status = 101
    body = draw(st.one_of(st.binary(max_size=60), st.sampled_from([b"\r\n\r\n", b"0\r\n\r\n", b"HTTP/1.1 200 OK\r\n"])))
    extra: list[tuple[str, str]] = []
    length: int | None = None
    codings: tuple[str, ...] = ()
    trailers = None
    wire_body = body
    if framing == "length":
        length = len(body)
        extra = [("Content-Length", str(length))] * draw(st.integers(1, 2))
    elif framing != "close":
        extra = [("Transfer-Encoding", framing)]
        codings = ("gzip",) if "gzip" in framing else ()
        if framing.endswith("chunked"):
            wire_body, trailers = draw(chunked(body))
    head, version, reason, headers = draw(heads(status, extra))
    switched = status == 101 or (request == "CONNECT" and 200 <= status < 300)
    bodiless = request == "HEAD" or status in (204, 304)
    if switched:
        events.append(ResponseStarted(status, reason, version, headers, (), None))
        return Answer(data + head, request, events, until_close=False)
    if bodiless:
        events += [ResponseStarted(status, reason, version, headers, (), 0), BodyEnded(None)]
        return Answer(data + head, request, events, until_close=False)
    events.append(ResponseStarted(status, reason, version, headers, codings, length))
    if body:
        events.append(BodyData(body))
    events.append(BodyEnded(trailers))
    return Answer(data + head + wire_body, request, events, until_close=framing in ("close", "gzip"))


@st.composite
def cuts_of(draw: st.DrawFn, data: bytes) -> list[bytes]:
    """Draw a way to cut these bytes: at some places, or everywhere."""
    if draw(st.booleans()):
        return [data[i : i + 1] for i in range(len(data))]
    edges = [0, *sorted(draw(st.lists(st.integers(0, len(data)), max_size=8))), len(data)]
    return [data[start:end] for start, end in pairwise(edges) if start < end]


# Reading them


def read(request: str, pieces: list[bytes]) -> tuple[list[Event], type[Exception] | None, Connection]:
    """Return the events with body data merged, and the class of the error; any but that of a peer's fault is raised."""
    connection = Connection(max_head_bytes=2000, max_fields=20)
    connection.send_request(REQUESTS[request])
    events: list[Event] = []
    try:
        for piece in pieces:
            connection.receive_data(piece)
            while (event := connection.next_event()) is not NEED_DATA:
                if isinstance(event, BodyData):
                    assert event.data
                    if isinstance(events[-1], BodyData):
                        event = BodyData(events.pop().data + event.data)
                events.append(event)
    except RemoteProtocolError as error:
        return events, type(error), connection
    return events, None, connection


def check_order(events: list[Event], error: type[Exception] | None, connection: Connection) -> None:
    """Whatever came in: informational answers, then one head, then one body, then one end, and a settled state."""
    shape = "".join(type(event).__name__[0] + type(event).__name__[-1] for event in events)
    assert shape.replace("Id", "").replace("Ba", "") in ("", "Rd", "RdBd")
    assert "BaId" not in shape
    assert connection.response_started is ("Rd" in shape)
    assert connection.response_done is (error is None and "BdBd" not in shape and shape.endswith("Bd"))
    if error is not None:
        assert not connection.reusable
        try:
            connection.next_event()
        except LocalProtocolError:
            pass
        else:
            raise AssertionError("it goes on after an error")


@given(answers(), st.data())
def test_an_answer_made_from_the_grammar_is_read_as_it_was_meant(answer: Answer, data: st.DataObject) -> None:
    pieces = data.draw(cuts_of(answer.data))
    events, error, connection = read(answer.request, [*pieces, b""] if answer.until_close else pieces)
    assert error is None
    assert events == answer.events
    for event, meant in zip(events, answer.events, strict=True):
        if isinstance(event, ResponseStarted) and isinstance(meant, ResponseStarted):
            assert list(map(str, event.headers)) == list(map(str, meant.headers))
    assert connection.take_rest() == b""
    assert connection.response_done or connection.switched
    check_order(events, error, connection)


@given(answers(), st.data())
def test_a_cut_answer_gives_a_prefix_of_its_events_and_an_error(answer: Answer, data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(answer.data) - 1))
    events, error, connection = read(answer.request, [*data.draw(cuts_of(answer.data[:cut])), b""])
    check_order(events, error, connection)
    if error is None:
        # Only the end of the connection tells where such a body ends; or what was cut off was not part of it.
        assert answer.until_close or events == answer.events
        return
    meant = answer.events[: len(events)]
    if events and isinstance(events[-1], BodyData):
        last = meant.pop()
        assert isinstance(last, BodyData)
        assert last.data.startswith(events[-1].data)
        assert events[:-1] == meant
    else:
        assert events == meant


@given(answers(), st.data())
def test_a_mutated_answer_is_read_the_same_however_it_is_cut(answer: Answer, data: st.DataObject) -> None:
    raw = bytearray(answer.data)
    morsels = st.one_of(
        st.sampled_from(
            [b"\r", b"\n", b"\r\n", b"\n\n", b" ", b":", b",", b"0", b"f", b"\x00", b";", b"HTTP/1.1 200 OK\r\n"]
        ),
        st.binary(max_size=4),
    )
    for _ in range(data.draw(st.integers(1, 4))):
        spot = data.draw(st.integers(0, len(raw)))
        raw[spot : spot + data.draw(st.integers(0, 3))] = data.draw(morsels)
    mutant = bytes(raw)
    whole = read(answer.request, [mutant, b""] if mutant else [b""])
    cut = read(answer.request, [*data.draw(cuts_of(mutant)), b""])
    for outcome in (whole, cut):
        check_order(*outcome)
    assert whole[:2] == cut[:2]
    if whole[1] is None:
        assert whole[2].take_rest() == cut[2].take_rest()


status_lines = st.sampled_from([b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.0 200\n", b"HTTP/1.1 100 \r\n\r\n", b"HTTP/1."])
framings = st.sampled_from(
    [
        b"",
        b"\r\n",
        b"Content-Length: 3\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n",
        b"Transfer-Encoding: gzip, chunked\n\n1\r\n",
    ]
)
scraps = st.lists(
    st.one_of(
        st.binary(max_size=20),
        st.sampled_from(
            [b"\r\n", b"\n", b"\r", b"0\r\n", b"1\r\nx\r\n", b"A: b\r\n", b": ", b"\x15\x03", b";", b"\t", b" "]
        ),
    ),
    max_size=10,
).map(b"".join)


@given(st.sampled_from(sorted(REQUESTS)), status_lines, framings, scraps, st.data())
def test_arbitrary_bytes_raise_nothing_but_the_fault_of_a_peer_and_are_read_the_same_however_cut(
    request: str, line: bytes, framing: bytes, scrap: bytes, data: st.DataObject
) -> None:
    raw = line + framing + scrap
    whole = read(request, [raw, b""] if raw else [b""])
    cut = read(request, [*data.draw(cuts_of(raw)), b""])
    for outcome in (whole, cut):
        check_order(*outcome)
    assert whole[:2] == cut[:2]


steps = st.one_of(
    st.tuples(st.just("receive"), st.one_of(st.just(b""), scraps, status_lines, framings)),
    st.tuples(st.just("data"), st.binary(max_size=5)),
    st.tuples(st.sampled_from(["end", "request", "event", "rest"]), st.none()),
)


@given(st.lists(steps, max_size=30), st.sampled_from(["none", "length", "chunked"]))
def test_calls_in_any_order_raise_nothing_but_errors_of_the_tree(
    steps: list[tuple[str, bytes | None]], body: str
) -> None:
    fields = {"none": [], "length": [("Content-Length", "5")], "chunked": [("Transfer-Encoding", "chunked")]}[body]
    head = RequestHead("POST", "/", "a", fields)
    connection = Connection()
    for verb, data in steps:
        reusable = connection.reusable
        try:
            if verb == "receive":
                connection.receive_data(data or b"")
            elif verb == "data":
                connection.send_data(data or b"")
            elif verb == "end":
                connection.send_end()
            elif verb == "request":
                connection.send_request(head)
                assert reusable
            elif verb == "event":
                connection.next_event()
            else:
                connection.take_rest()
        except AiosockError:
            assert not (verb == "request" and reusable)


# Requests


texts = st.one_of(
    st.text(max_size=12),
    st.text(st.characters(max_codepoint=0x17F), max_size=12),
    st.text("ab/:*%? \r\n\t\0", max_size=8),
)
any_fields = st.lists(
    st.tuples(
        st.one_of(
            st.sampled_from(["Host", "content-length", "Transfer-Encoding", "Connection", "Expect", "X-Own"]),
            names,
            texts,
        ),
        st.one_of(texts, st.sampled_from(["5", "chunked", "gzip, chunked", "close", "100-continue"])),
    ),
    max_size=5,
)


@given(
    st.one_of(st.sampled_from(["GET", "POST", "OPTIONS", "CONNECT"]), texts),
    st.one_of(st.sampled_from(["/", "*", "http://a/b", "a:443"]), texts, texts.map("/".__add__)),
    texts,
    any_fields,
)
def test_a_request_of_any_text_is_refused_or_is_exactly_one_well_formed_head(
    method: str, target: str, host: str, fields: list[tuple[str, str]]
) -> None:
    try:
        head = RequestHead(method, target, host, fields)
    except (InvalidHeader, LocalProtocolError):
        return
    assert head.encoded.endswith(b"\r\n\r\n")
    request_line, *lines = head.encoded[:-4].split(b"\r\n")
    assert request_line.split(b" ") == [method.encode(), target.encode(), b"HTTP/1.1"]
    pairs = [line.partition(b": ")[::2] for line in lines]
    hosts = [value for name, value in fields if name.lower() == "host"] or [host]
    expected = [("Host", hosts[0]), *((name, value) for name, value in fields if name.lower() != "host")]
    assert pairs == [(name.encode(), value.encode("latin-1")) for name, value in expected]
    for byte in head.encoded.replace(b"\r\n", b""):
        assert byte == 9 or (byte >= 32 and byte != 127)
    for name, _ in pairs:
        assert name
        assert not name.strip(TOKEN_CHARACTERS.encode())
    by_name = [name.lower() for name, _ in pairs]
    assert by_name.count(b"host") == 1
    assert by_name.count(b"content-length") + (b"transfer-encoding" in by_name) <= 1


@given(st.lists(texts | st.text('<>;,="\\ab \t', max_size=30), max_size=3))
def test_link_fields_of_any_text_are_read_without_an_error(values: list[str]) -> None:
    assert all("url" in link for link in parse_links(values))
