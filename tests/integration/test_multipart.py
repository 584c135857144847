"""Forms with files on the wire: framed, streamed, sent again, and given up when a file breaks its word."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from email.message import EmailMessage
from email.parser import BytesParser
from email.policy import HTTP
from io import BytesIO
from pathlib import Path
from ssl import SSLContext
from typing import Any

import pytest

import aiosock
from aiosock.testing import Peer, ReceivedRequest, Server, response
from tests.kit.clients import checked_client, settled

OK = response(body=b"ok")
MEGABYTES = 5 * 1024 * 1024


def received(request: ReceivedRequest) -> list[tuple[str | None, str | None, str, bytes]]:
    """Name, filename, content type and content of each part, as Python's parser of mail reads them."""
    head = f"Content-Type: {request.header('Content-Type')}\r\n\r\n".encode()
    message = BytesParser(policy=HTTP).parsebytes(head + request.body)
    assert isinstance(message, EmailMessage)
    parts = []
    for part in message.iter_parts():
        name = part.get_param("name", header="Content-Disposition")
        payload = part.get_payload(decode=True)
        assert isinstance(name, str)
        assert isinstance(payload, bytes)
        parts.append((name, part.get_filename(), part.get_content_type(), payload))
    return parts


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "large.bin"
    path.write_bytes(bytes(range(256)) * (MEGABYTES // 256))
    return path


@pytest.fixture
def files(path: Path) -> Iterator[Any]:
    """Opened outside of the loop: a large file, at its second byte, and one that may change."""
    (path.parent / "log.txt").write_bytes(b"0123456789")
    with ExitStack() as stack:
        large = stack.enter_context(path.open("rb"))
        large.seek(1)
        yield large, stack.enter_context((path.parent / "log.txt").open("rb"))


async def pieces(*each: bytes) -> AsyncIterator[bytes]:
    for piece in each:
        await asyncio.sleep(0)
        yield piece


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "TLS"])
async def test_a_form_arrives_with_all_its_parts(
    secure: bool, files: Any, path: Path, server_context: SSLContext, ca_file: str
) -> None:
    large, log = files
    content = await asyncio.to_thread(path.read_bytes)
    options = {"verify": ca_file} if secure else {}
    async with (
        Server.answering(OK, ssl=server_context if secure else None) as server,
        checked_client(**options) as client,
    ):
        form = [("large", large), ("log", ("other.log", log, "text/x-log")), ("memory", BytesIO(b"m"))]
        answer = await client.post(server.url, data={"field": "ü"}, files=form)
        assert answer.text == "ok"
        [request] = server.requests
        assert request.header("Content-Length") == str(len(request.body))
        assert received(request) == [
            ("field", None, "text/plain", "ü".encode()),
            ("large", "large.bin", "application/octet-stream", content[1:]),
            ("log", "other.log", "text/x-log", b"0123456789"),
            ("memory", "memory", "application/octet-stream", b"m"),
        ]
        # Each request reads from where its files stand when it is made.
        await asyncio.to_thread(large.seek, 1)
        await asyncio.to_thread(log.seek, 0)
        form[-1] = ("memory", BytesIO(b"m"))
        await client.post(server.url, files=[*form, ("made", pieces(b"a", b"", b"b"))])
        assert server.requests[1].header("Transfer-Encoding") == "chunked"
        assert received(server.requests[1])[:3] == received(request)[1:]
        assert received(server.requests[1])[3] == ("made", "made", "application/octet-stream", b"ab")
        assert server.connections == client.pool.idle == 1


async def test_a_small_form_leaves_in_one_piece_with_its_head() -> None:
    async def script(peer: Peer) -> None:
        data = await peer.read()
        assert data.endswith(b"--\r\n")
        await peer.send(OK)

    async with Server(script) as server, checked_client() as client:
        assert (await client.post(server.url, files={"a": b"x", "b": "y"})).text == "ok"


async def test_a_form_is_sent_again_to_where_a_redirect_leads(files: Any) -> None:
    moved = response(307, b"", [("Location", "/there")])
    async with Server.answering(moved, OK) as server, checked_client() as client:
        assert (await client.post(server.url, files={"a": files[1], "b": BytesIO(b"x")})).text == "ok"
        first, second = server.requests
        assert first.body == second.body
        assert first.header("Content-Type") == second.header("Content-Type")


async def test_a_form_that_can_be_read_once_is_not_sent_again() -> None:
    async with Server.answering(response(307, b"", [("Location", "/there")])) as server, checked_client() as client:
        with pytest.raises(aiosock.BodyNotReplayable):
            await client.post(server.url, files={"a": b"x", "b": pieces(b"y")})


@pytest.mark.parametrize("size", [9, 11])
@pytest.mark.parametrize("chunked", [False, True], ids=["counted", "chunked"])
async def test_a_file_that_changes_meanwhile_never_completes_a_form(files: Any, size: int, chunked: bool) -> None:
    whole = False

    async def script(peer: Peer) -> None:
        nonlocal whole
        await peer.read_request()
        whole = True

    async with Server(script) as server, checked_client() as client:
        form = {"log": files[1]} | ({"made": pieces(b"x")} if chunked else {})
        request = client.build_request("POST", server.url, files=form)
        await asyncio.to_thread(os.truncate, files[1].name, size)
        with pytest.raises(aiosock.UsageError, match=r"^files\['log'\]: the file is (longer|shorter) than it was"):
            await client.send(request)
        await settled(client)
    assert not whole


async def test_an_early_refusal_stops_the_form(files: Any) -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while True:
            sent += 1
            yield b"x" * 65536

    async def script(peer: Peer) -> None:
        await peer.read_head()
        await peer.send(response(413, b"too much"))
        await peer.wait_disconnect()

    async with Server(script) as server, checked_client() as client:
        answer = await client.post(server.url, files={"a": files[0], "b": endless()})
        assert answer.status_code == 413
        await settled(client)


async def test_a_form_called_off_lets_go_of_the_connection(files: Any) -> None:
    async def script(peer: Peer) -> None:
        await peer.read_head()
        await peer.wait_disconnect()

    arrived = asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        while True:
            arrived.set()
            await asyncio.sleep(0)
            yield b"x" * 65536

    async with Server(script) as server, checked_client() as client:
        task = asyncio.create_task(client.post(server.url, files={"a": files[1], "b": endless()}))
        await arrived.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await settled(client)


async def test_files_are_given_to_every_way_of_asking(files: Any) -> None:
    async with Server.answering(OK) as server, checked_client(base_url=server.url) as client:
        await client.put("/", files={"a": "b"})
        async with client.stream("PATCH", "/", files={"a": "b"}) as answer:
            await answer.read()
        await client.send(client.build_request("POST", "/", files={"a": "b"}))
        await aiosock.post(server.url, files={"a": "b"})
        assert [received(request) for request in server.requests] == [[("a", None, "text/plain", b"b")]] * 4
        boundaries = {re.sub(".*=", "", request.header("Content-Type") or "") for request in server.requests}
        assert len(boundaries) == 4
