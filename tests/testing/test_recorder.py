"""What a server said once is said again without it."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from aiosock import Client, Request, Response
from aiosock.errors import ConnectError, IncompleteBody, UsageError
from aiosock.testing import MockTransport, Peer, Recorder, Server, reply, response


async def nobody(request: Request) -> Response:
    raise AssertionError(f"{request} went to the network")


def offline(recorder: Recorder, **options: Any) -> Client:
    return Client(transport=MockTransport(nobody), middleware=[recorder], **options)


def online(recorder: Recorder, answer: Any, **options: Any) -> Client:
    return Client(transport=MockTransport(answer), middleware=[recorder], **options)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file in a folder that is not there yet."""
    return tmp_path / "recordings" / "one.jsonl"


async def test_what_a_server_said_is_played_back_without_it(path: Path) -> None:
    packed = gzip.compress(b"packed text")
    answers = [
        response(302, b"", [("Location", "/next"), ("Set-Cookie", "id=s3cret; Path=/")]),
        response(200, packed, [("Content-Encoding", "gzip"), ("X-A", "1"), ("X-A", "2")]),
        response(418, b"\xff\x00", chunked=True, trailers=[("X-Sum", "9")]),
    ]

    async def exchange(client: Client) -> list[tuple[Any, ...]]:
        seen: list[tuple[Any, ...]] = []
        for method in ("GET", "POST"):
            got = await client.request(method, url, content=None if method == "GET" else "body")
            said = (got.status_code, got.reason, got.content, got.headers.getall("x-a", []), dict(got.trailers))
            seen.append((*said, len(got.history), got.request is not None and got.request.method))
        return seen

    async with Server.answering(*answers) as server:
        url = f"{server.url}/start"
        async with Recorder(path) as recorder, Client(middleware=[recorder], auth=("me", "s3cret")) as client:
            first = await exchange(client)
    async with Recorder(path) as recorder, offline(recorder) as client:
        assert await exchange(client) == first
    assert [one[0] for one in first] == [200, 418]
    assert first[0][2:6] == (b"packed text", ["1", "2"], {}, 1)
    assert first[1][4] == {"X-Sum": "9"}
    text = await asyncio.to_thread(path.read_text)
    assert "s3cret" not in text
    assert "id=REDACTED; Path=/" in text
    assert [one.name for one in path.parent.iterdir()] == ["one.jsonl"]


async def test_equal_requests_get_their_answers_in_order_and_no_more(path: Path) -> None:
    number = 0

    def count(request: Request) -> Response:
        nonlocal number
        number += 1
        return reply(content=f"{request.method} {number}")

    async def ask(client: Client) -> list[str]:
        calls = [("GET", "/a"), ("GET", "/a"), ("POST", "/a"), ("GET", "/a?q=1"), ("GET", "/a")]
        return [(await client.request(method, f"http://h{target}")).text for method, target in calls]

    async with Recorder(path) as recorder, online(recorder, count) as client:
        first = await ask(client)
    async with Recorder(path) as recorder, offline(recorder) as client:
        assert await ask(client) == first == ["GET 1", "GET 2", "POST 3", "GET 4", "GET 5"]
        with pytest.raises(UsageError, match=r"has no more answers to GET http://h/a; mode='record' makes it anew$"):
            await client.get("http://h/a")


async def test_requests_that_differ_by_their_body_get_their_own_answers(path: Path) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield b"tw"
        yield b"o"

    def echo(request: Request) -> Response:
        return reply(content=request.content)

    async with Recorder(path) as recorder, online(recorder, echo) as client:
        for content in (b"one", pieces(), None):
            await client.post("http://h/", content=content)
        await client.post("http://h/", data={"a": "1"}, files={"f": b"x"})
    async with Recorder(path) as recorder, offline(recorder) as client:
        for content, text in ((None, ""), (b"two", "two"), (iter([b"one"]), "one")):
            assert (await client.post("http://h/", content=content)).text == text
        # With another boundary.
        assert b"form-data" in (await client.post("http://h/", data={"a": "1"}, files={"f": b"x"})).content
        with pytest.raises(UsageError, match="has no answer to POST http://h/;"):
            await client.post("http://h/", content=b"three")


async def test_secrets_do_not_hinder_the_playback(path: Path) -> None:
    options: Any = {"secret_params": ["key"], "secret_patterns": [r'"password":"(.*?)"'], "secret_headers": ["X-Mine"]}

    async def ask(client: Client, secret: str) -> str:
        sent = {"user": "me", "password": secret}
        answer = await client.post(f"http://h/?key={secret}", json=sent, headers={"X-Mine": secret})
        return answer.text

    async with Recorder(path, **options) as recorder, online(recorder, lambda _: reply(content="in")) as client:
        assert await ask(client, "s3cret") == "in"
    assert "s3cret" not in await asyncio.to_thread(path.read_text)
    async with Recorder(path, **options) as recorder, offline(recorder) as client:
        assert await ask(client, "another") == "in"
        with pytest.raises(UsageError) as caught:
            await ask(client, "another")
    assert "another" not in str(caught.value)


async def test_many_requests_at_a_time_are_recorded_in_the_order_of_their_start(path: Path) -> None:
    order = [asyncio.Event() for _ in range(5)]
    numbers = iter(range(5))

    async def backwards(request: Request) -> Response:
        number = next(numbers)
        if number < 4:
            await order[number + 1].wait()
        order[number].set()
        return reply(content=str(number))

    async with Recorder(path) as recorder, online(recorder, backwards) as client:
        first = await asyncio.gather(*(client.get("http://h/") for _ in range(5)))
    async with Recorder(path) as recorder, offline(recorder) as client:
        second = await asyncio.gather(*(client.get("http://h/") for _ in range(5)))
    assert [one.text for one in first] == [one.text for one in second] == list("01234")


async def test_a_body_streams_while_it_is_recorded_and_is_kept_as_far_as_it_was_read(path: Path) -> None:
    asked: list[int] = []

    async def pieces() -> AsyncIterator[bytes]:
        for number in range(3):
            asked.append(number)
            yield b"%d" % number

    async with Recorder(path) as recorder, online(recorder, lambda _: reply(content=pieces())) as client:
        got = await client.send(client.build_request("GET", "http://h/"), stream=True)
        iterator = got.iter_bytes()
        assert [await anext(iterator), await anext(iterator)] == [b"0", b"1"]
        assert asked == [0, 1]
        await got.close()
    async with Recorder(path) as recorder, offline(recorder) as client, client.stream("GET", "http://h/") as again:
        iterator = again.iter_bytes()
        assert await anext(iterator) == b"01"
        with pytest.raises(IncompleteBody, match="given up here when it was recorded"):
            await anext(iterator)


async def test_requests_that_failed_are_not_recorded(path: Path) -> None:
    def answer(request: Request) -> Response:
        if request.target == "/bad":
            raise ConnectError("no way")
        return reply()

    async with Recorder(path) as recorder, online(recorder, answer) as client:
        await client.get("http://h/good")
        with pytest.raises(ConnectError):
            await client.get("http://h/bad")
    text = await asyncio.to_thread(path.read_text)
    assert "http://h/good" in text
    assert "http://h/bad" not in text


async def test_nothing_is_written_where_nothing_was_recorded_or_the_block_failed(path: Path) -> None:
    async with Recorder(path):
        pass
    with pytest.raises(KeyError):
        async with Recorder(path) as recorder, online(recorder, lambda _: reply()) as client:
            await client.get("http://h/")
            raise KeyError
    assert not path.parent.exists()


async def test_the_modes_say_what_happens_to_a_file_that_is_there_and_one_that_is_not(path: Path) -> None:
    with pytest.raises(UsageError, match=r"one.jsonl is not there; mode='once' makes it$"):
        async with Recorder(path, mode="replay"):
            pass
    steps = [("once", "1", "1"), ("once", "2", "1"), ("replay", "3", "1"), ("record", "4", "4"), ("replay", "5", "4")]
    for mode, served, got in steps:
        answer = reply(content=served)
        recorder = Recorder(path, mode=mode)  # type: ignore[arg-type]  # they are
        async with recorder, online(recorder, lambda _, answer=answer: answer) as client:
            assert (await client.get("http://h/")).text == got


async def test_a_recorder_opens_and_closes_without_a_block_too(path: Path) -> None:
    recorder = Recorder(path)
    async with online(recorder, lambda _: reply(content="a")) as client:
        await asyncio.gather(*(client.get("http://h/") for _ in range(3)))
    await recorder.close()
    await recorder.close()
    assert len((await asyncio.to_thread(path.read_text)).splitlines()) == 4


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"{}\n", r"one.jsonl cannot be used: line 1: there is no 'aiosock-recording'$"),
        (b"\xff", r"one.jsonl cannot be read: "),
        (None, r"one.jsonl cannot be read: Is a directory$"),
    ],
)
async def test_a_file_that_cannot_be_used_is_named(path: Path, content: bytes | None, said: str) -> None:
    def make() -> None:
        path.parent.mkdir()
        path.mkdir() if content is None else path.write_bytes(content)

    await asyncio.to_thread(make)
    async with offline(Recorder(path)) as client:
        for _ in range(2):
            with pytest.raises(UsageError, match=said):
                await client.get("http://h/")


async def test_a_file_that_cannot_be_written_is_named_and_nothing_is_left_beside(path: Path) -> None:
    await asyncio.to_thread(path.mkdir, parents=True)
    for blocked in (path, path / "a\0b"):
        with pytest.raises(UsageError, match=r" cannot be written: "):
            async with Recorder(blocked, mode="record") as recorder, online(recorder, lambda _: reply()) as client:
                await client.get("http://h/")
    assert [one.name for one in path.parent.iterdir()] == [path.name]


def test_a_path_that_is_none_is_refused() -> None:
    wrong: Any = 123
    with pytest.raises(UsageError, match="Recorder: path takes a str or a path, not int"):
        Recorder(wrong)


def test_a_mode_that_is_none_is_refused(path: Path) -> None:
    with pytest.raises(UsageError, match="^Recorder: mode is one of once, record, replay, not 'twice'$"):
        Recorder(path, mode="twice")  # type: ignore[arg-type]  # that is the test


async def test_a_response_that_was_read_below_is_recorded_as_it_was_decoded(path: Path) -> None:
    async def script(peer: Peer) -> None:
        while await peer.read_request():
            await peer.send(response(200, gzip.compress(b"text"), [("Content-Encoding", "gzip")]))

    async def reader(request: Request, next: Any) -> Response:
        answer: Response = await next(request)
        await answer.read()
        return answer

    async with Server(script) as server:
        url = server.url
        async with Recorder(path) as recorder, Client(middleware=[recorder, reader]) as client:
            assert (await client.get(url)).text == "text"
    async with Recorder(path) as recorder, offline(recorder) as client:
        assert (await client.get(url)).text == "text"
