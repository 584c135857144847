"""
Happy Eyeballs: who is tried when, who wins, and that nothing is left of the others.
"""

from __future__ import annotations

import asyncio
import math
from typing import cast

import pytest

from aiosock.errors import BlockedAddress, ConnectError
from aiosock.network.race import STAGGER_SECONDS, interleave, race
from aiosock.network.stream import Stream
from aiosock.network.tcp import connect_tcp
from aiosock.testing import Peer, Server
from tests.network.wire import Clock, turns


class Opened:
    """As much of a stream as a race sees."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.aborted = False

    def abort(self) -> None:
        self.aborted = True


class Field:
    """
    The attempts of a race, which end when the test says so.

    Attributes:
        started: The addresses tried, in order.
        cancelled: Those whose attempt was called off.
        opened: The streams that came about.
    """

    def __init__(self) -> None:
        self.started: list[str] = []
        self.cancelled: list[str] = []
        self.opened: dict[str, Opened] = {}
        self._ends: dict[str, asyncio.Future[Exception | None]] = {}
        self._stubborn: set[str] = set()

    async def connect(self, address: str) -> Stream:
        self.started.append(address)
        self._ends[address] = asyncio.get_running_loop().create_future()
        try:
            failure = await self._ends[address]
        except asyncio.CancelledError:
            self.cancelled.append(address)
            if address not in self._stubborn:
                raise
            failure = None
        if failure is not None:
            raise failure
        self.opened[address] = Opened(address)
        return cast(Stream, self.opened[address])

    def end(self, address: str, failure: Exception | None = None) -> None:
        self._ends[address].set_result(failure)

    def refuse(self, address: str) -> None:
        self.end(address, ConnectError(f"{address}: Connection refused"))

    def let_it_connect_when_called_off(self, address: str) -> None:
        self._stubborn.add(address)

    def start(self, *addresses: str, stagger_seconds: float = math.inf) -> asyncio.Task[Stream]:
        # A stagger without end is one that only failures cut short.
        seconds = 1e6 if stagger_seconds == math.inf else stagger_seconds
        return asyncio.create_task(race(addresses, self.connect, stagger_seconds=seconds))

    async def start_all(self, *addresses: str) -> asyncio.Task[Stream]:
        racing = self.start(*addresses, stagger_seconds=0)
        while len(self.started) < len(addresses):
            await asyncio.sleep(0)
        await turns()
        return racing


@pytest.fixture
def field() -> Field:
    return Field()


def only_task() -> bool:
    return asyncio.all_tasks() == {asyncio.current_task()}


def test_families_take_turns_beginning_with_the_first() -> None:
    assert interleave(["::1", "::2", "::3", "1.1.1.1", "2.2.2.2"]) == ["::1", "1.1.1.1", "::2", "2.2.2.2", "::3"]
    assert interleave(["1.1.1.1", "::1", "::2", "2.2.2.2", "::3"]) == ["1.1.1.1", "::1", "2.2.2.2", "::2", "::3"]
    assert interleave(["1.1.1.1", "2.2.2.2"]) == ["1.1.1.1", "2.2.2.2"]
    assert interleave(["::1"]) == ["::1"]
    assert interleave([]) == []


async def test_a_single_address_needs_no_race(field: Field) -> None:
    racing = field.start("a")
    await turns()
    assert len(asyncio.all_tasks()) == 2
    field.end("a")
    assert await racing is field.opened["a"]


async def test_a_single_address_that_fails_says_so_itself(field: Field) -> None:
    racing = field.start("a")
    await turns()
    field.refuse("a")
    with pytest.raises(ConnectError, match="^a: Connection refused$"):
        await racing


async def test_the_first_has_the_field_to_itself_for_a_while(field: Field, clock: Clock) -> None:
    assert STAGGER_SECONDS == 0.25
    racing = asyncio.create_task(race(["a", "b", "c"], field.connect))
    await turns()
    for expected in (["a"], ["a", "b"], ["a", "b", "c"]):
        clock.skip(0.2)
        await turns()
        assert field.started == expected
        clock.skip(0.06)
        await turns()
    field.end("b")
    assert await racing is field.opened["b"]
    assert sorted(field.cancelled) == ["a", "c"]
    assert only_task()


async def test_after_a_failure_the_next_begins_at_once(field: Field) -> None:
    racing = field.start("a", "b", "c")
    await turns()
    assert field.started == ["a"]
    field.refuse("a")
    await turns()
    assert field.started == ["a", "b"]
    field.refuse("b")
    await turns()
    assert field.started == ["a", "b", "c"]
    field.end("c")
    assert await racing is field.opened["c"]
    assert only_task()


async def test_the_last_to_begin_waits_for_all_that_still_run(field: Field) -> None:
    racing = await field.start_all("a", "b")
    field.refuse("b")
    await turns()
    assert not racing.done()
    field.end("a")
    assert await racing is field.opened["a"]


async def test_the_winner_lives_and_the_others_are_called_off(field: Field) -> None:
    racing = await field.start_all("a", "b", "c")
    field.end("b")
    assert await racing is field.opened["b"]
    assert not field.opened["b"].aborted
    assert sorted(field.cancelled) == ["a", "c"]
    assert only_task()


async def test_of_those_who_connect_at_the_same_moment_one_wins_and_the_rest_are_closed(field: Field) -> None:
    racing = await field.start_all("a", "b", "c", "d")
    field.refuse("d")
    for address in "abc":
        field.end(address)
    winner = await racing
    assert len(field.opened) == 3
    for stream in field.opened.values():
        assert stream.aborted is (stream is not winner)
    assert only_task()


async def test_a_loser_that_connects_while_it_is_called_off_is_closed(field: Field) -> None:
    field.let_it_connect_when_called_off("a")
    racing = await field.start_all("a", "b")
    field.end("b")
    assert await racing is field.opened["b"]
    assert field.opened["a"].aborted
    assert not field.opened["b"].aborted


async def test_when_all_fail_each_address_is_listed_with_its_reason(field: Field) -> None:
    racing = await field.start_all("a", "b", "c")
    for address in "bca":
        field.end(address, ConnectError(f"{address}: reason {address}"))
        await turns()
    with pytest.raises(ConnectError, match="^b: reason b; c: reason c; a: reason a$") as info:
        await racing
    assert isinstance(info.value.__cause__, ConnectError)
    assert only_task()


async def test_any_other_error_ends_the_race_and_everything_in_it(field: Field) -> None:
    racing = await field.start_all("a", "b", "c", "d")
    field.end("a")
    field.end("b", BlockedAddress("not there"))
    field.end("c", BlockedAddress("nor there"))
    try:
        winner = await racing
    except BlockedAddress:
        assert field.opened["a"].aborted
    else:
        assert winner is field.opened["a"]
        assert not field.opened["a"].aborted
    assert field.cancelled == ["d"]
    assert only_task()


async def test_a_race_that_is_cancelled_closes_everything(field: Field) -> None:
    field.let_it_connect_when_called_off("b")
    racing = await field.start_all("a", "b", "c")
    racing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await racing
    assert sorted(field.cancelled) == ["a", "b", "c"]
    assert field.opened["b"].aborted
    assert only_task()


async def test_a_race_that_is_cancelled_when_it_is_just_won_closes_the_winner(field: Field) -> None:
    racing = await field.start_all("a", "b")
    field.end("a")
    field.end("b")
    await asyncio.sleep(0)  # Both attempts are over, and the race has not yet seen it.
    racing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await racing
    assert [stream.aborted for stream in field.opened.values()] == [True, True]


async def test_a_race_that_is_cancelled_again_and_again_closes_everything(field: Field) -> None:
    for count in range(1, 6):
        for address in ("a", "b"):
            field.let_it_connect_when_called_off(address)
        field.started.clear()
        racing = await field.start_all("a", "b", "c")
        field.end("c")
        # As under anyio, where a cancellation comes again at every await.
        for _ in range(count):
            await asyncio.sleep(0)
        while not racing.done():
            racing.cancel()
            await asyncio.sleep(0)
        winner = None if racing.cancelled() else racing.result()
        await turns()
        assert only_task()
        for stream in field.opened.values():
            assert stream.aborted is (stream is not winner)


async def test_a_race_over_real_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    async def linger(peer: Peer) -> None:
        await peer.wait_disconnect()

    async with Server(linger) as server:
        # Nobody listens at the first two.
        addresses = ["127.0.0.3", "127.0.0.2", "127.0.0.1"]
        stream = await race(addresses, lambda address: connect_tcp(address, server.port))
        assert stream.info.remote_address == f"127.0.0.1:{server.port}"
        stream.close()
        with pytest.raises(ConnectError) as info:
            await race(addresses[:2], lambda address: connect_tcp(address, server.port))
        assert str(info.value) == "; ".join(f"{address}:{server.port}: Connection refused" for address in addresses[:2])
