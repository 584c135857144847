"""An upload: who is told how it ended, and what calling off does and does not."""

from __future__ import annotations

import asyncio
import math
import socket
from collections.abc import Iterator

import pytest

from aiosock.connection.upload import Upload
from aiosock.errors import UsageError
from aiosock.network.registered import RegisteredStream


class Keeper:
    """Remembers what it was given."""

    def __init__(self) -> None:
        self.tasks: list[asyncio.Task[None]] = []

    def adopt(self, task: asyncio.Task[None]) -> None:
        self.tasks.append(task)


Ends = tuple[socket.socket, socket.socket]


@pytest.fixture
def ends() -> Iterator[Ends]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        yield ours, theirs


class Sending:
    """A body to be sent, as the test goes on."""

    def __init__(self, ends: Ends) -> None:
        loop = asyncio.get_running_loop()
        self.waited_for: asyncio.Future[None] = loop.create_future()
        self.stream = RegisteredStream(ends[0], loop)
        self.keeper = Keeper()
        self.upload = Upload(loop, self.stream, self.send, self.keeper)

    async def send(self) -> None:
        await self.waited_for


async def test_it_is_under_way_until_all_is_sent(ends: Ends) -> None:
    sending = Sending(ends)
    upload = sending.upload
    assert upload.under_way
    await upload.wait(0.0)
    assert upload.under_way
    sending.waited_for.set_result(None)
    await upload.wait()
    assert not upload.under_way
    assert upload.failure is None
    assert [task.done() for task in sending.keeper.tasks] == [True]
    sending.stream.abort()


async def test_what_the_body_raises_reaches_who_reads(ends: Ends) -> None:
    sending = Sending(ends)
    await asyncio.sleep(0)
    sending.waited_for.set_exception(ZeroDivisionError("of the body"))
    with pytest.raises(ZeroDivisionError, match="of the body"):
        await sending.stream.read(math.inf)
    assert isinstance(sending.upload.failure, ZeroDivisionError)
    sending.stream.abort()


async def test_when_writing_failed_who_reads_may_find_the_answer(ends: Ends) -> None:
    sending = Sending(ends)
    ends[1].send(b"answer")
    ends[1].close()
    sending.stream.write(b"x")
    failure = sending.stream.write_error
    assert failure is not None
    sending.waited_for.set_exception(failure)
    await sending.upload.wait()
    assert sending.upload.failure is None
    assert await sending.stream.read(math.inf) == b"answer"
    sending.stream.abort()


async def test_what_was_cancelled_in_the_body_is_an_error_of_the_body(ends: Ends) -> None:
    sending = Sending(ends)
    await asyncio.sleep(0)
    sending.waited_for.cancel()
    with pytest.raises(UsageError, match="waited for was cancelled") as caught:
        await sending.stream.read(math.inf)
    assert isinstance(caught.value.__cause__, asyncio.CancelledError)
    sending.stream.abort()


@pytest.mark.parametrize("begun", [False, True])
async def test_called_off_it_tells_nobody(begun: bool, ends: Ends) -> None:
    sending = Sending(ends)
    if begun:
        await asyncio.sleep(0)
    sending.upload.cancel()
    await sending.upload.wait()
    assert [task.cancelled() for task in sending.keeper.tasks] == [True]
    assert sending.upload.failure is None
    ends[1].send(b"answer")
    assert await sending.stream.read(math.inf) == b"answer"
    sending.stream.abort()


async def test_who_is_cancelled_while_waiting_leaves_it_alone(ends: Ends) -> None:
    sending = Sending(ends)
    waiting = asyncio.create_task(sending.upload.wait())
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert sending.upload.under_way
    sending.upload.cancel()
    await sending.upload.wait()
    sending.stream.abort()
