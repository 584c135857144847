"""
Look-ups: shared, remembered for a short while, and never in anybody's way.
"""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest

from aiosock import Client, Guard, Request
from aiosock.errors import BlockedAddress, ClientClosed, ConnectError, DNSError, ReadTimeout, UsageError
from aiosock.network import dns
from aiosock.network.dns import Resolver, SystemResolver, look_up, resolve
from aiosock.network.threads import DaemonThreads
from tests.network.wire import turns

PATIENCE_SECONDS = 20


class Names:
    """In place of the system's resolver: answers from a table, counts, and can be held up."""

    def __init__(self) -> None:
        self.table: dict[str, list[Any] | Exception] = {}
        self.asked: list[str] = []
        self.threads: set[threading.Thread] = set()
        self.gate = threading.Event()
        self.gate.set()

    def getaddrinfo(self, host: str, port: None, **options: object) -> list[Any]:
        assert port is None
        assert options == {"type": socket.SOCK_STREAM}
        self.asked.append(host)
        self.threads.add(threading.current_thread())
        assert self.gate.wait(PATIENCE_SECONDS)
        answer = self.table.get(host, ["192.0.2.1"])
        if isinstance(answer, Exception):
            raise answer
        return [self._entry(address) for address in answer]

    @staticmethod
    def _entry(address: str | tuple[object, ...]) -> tuple[object, ...]:
        if isinstance(address, tuple):
            return (socket.AF_INET6, socket.SOCK_STREAM, 6, "", address)
        if ":" in address:
            return (socket.AF_INET6, socket.SOCK_STREAM, 6, "", (address, 0, 0, 0))
        return (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 0))


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Iterator[Names]:
    names = Names()
    monkeypatch.setattr("aiosock.network.dns.socket.getaddrinfo", names.getaddrinfo)
    monkeypatch.setattr(dns, "look_up_threads", DaemonThreads())
    yield names
    names.gate.set()


@pytest.fixture
def skip_time(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Moves on what a resolver takes for the time, on any loop."""
    skipped = 0.0

    def skip(seconds: float) -> None:
        nonlocal skipped
        skipped += seconds
        loop = asyncio.get_running_loop()
        time = type(loop).time
        monkeypatch.setattr(loop, "time", lambda: time(loop) + skipped)

    return skip


async def test_localhost_has_an_address() -> None:
    addresses = await SystemResolver().resolve("localhost", 80)
    assert set(addresses) & {"127.0.0.1", "::1"}


async def test_addresses_keep_their_order_and_come_once(names: Names) -> None:
    names.table["x.example"] = ["2001:db8::2", "192.0.2.1", "2001:db8::2", "2001:db8::1"]
    assert await SystemResolver().resolve("x.example", 80) == ["2001:db8::2", "192.0.2.1", "2001:db8::1"]


def test_a_zone_stays_with_its_address(names: Names) -> None:
    names.table["x.example"] = [("fe80::1", 0, 0, 3), ("fe80::2%eth0", 0, 0, 4), ("2001:db8::1", 0, 0, 0)]
    assert look_up("x.example") == ["fe80::1%3", "fe80::2%eth0", "2001:db8::1"]


@pytest.mark.parametrize(
    "failure",
    [
        socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution"),
        OSError(5, "Input/output error"),
        UnicodeError("label too long"),
        ValueError("embedded null character"),
    ],
    ids=lambda failure: type(failure).__name__,
)
async def test_whatever_goes_wrong_is_a_dns_error_and_is_not_remembered(names: Names, failure: Exception) -> None:
    names.table["x.example"] = failure
    resolver = SystemResolver()
    with pytest.raises(DNSError, match=r"^the name x\.example could not be resolved: \w+") as info:
        await resolver.resolve("x.example", 80)
    assert isinstance(info.value, ConnectError)
    assert info.value.__cause__ is failure
    names.table["x.example"] = ["192.0.2.7"]
    assert await resolver.resolve("x.example", 80) == ["192.0.2.7"]


async def test_a_name_without_addresses_is_a_dns_error_and_is_not_remembered(names: Names) -> None:
    names.table["x.example"] = []
    resolver = SystemResolver()
    for _ in range(2):
        with pytest.raises(DNSError, match=r"^the name x\.example has no address$"):
            await resolver.resolve("x.example", 80)
    assert len(names.asked) == 2


async def test_a_bug_is_not_taken_for_a_name_that_is_not_there(names: Names) -> None:
    names.table["x.example"] = LookupError("a bug")
    with pytest.raises(LookupError, match="a bug"):
        await SystemResolver().resolve("x.example", 80)


# Remembering


async def test_an_answer_is_used_again_for_a_while(names: Names, skip_time: Callable[[float], None]) -> None:
    resolver = SystemResolver(cache_seconds=10)
    await resolver.resolve("x.example", 80)
    skip_time(9)
    await resolver.resolve("x.example", 443)
    assert names.asked == ["x.example"]
    names.table["x.example"] = ["192.0.2.2"]
    skip_time(2)
    assert await resolver.resolve("x.example", 80) == ["192.0.2.2"]
    assert names.asked == ["x.example"] * 2


async def test_what_is_remembered_stays_as_it_was_whatever_is_done_with_an_answer(names: Names) -> None:
    resolver = SystemResolver()
    names.gate.clear()
    asking = [asyncio.create_task(resolver.resolve("x.example", 80)) for _ in range(2)]
    await turns()
    names.gate.set()
    for answer in (*await asyncio.gather(*asking), await resolver.resolve("x.example", 80)):
        assert answer == ["192.0.2.1"]
        assert isinstance(answer, list)
        answer.clear()
    assert await resolver.resolve("x.example", 80) == ["192.0.2.1"]


async def test_nothing_is_remembered_where_that_is_not_wanted(names: Names) -> None:
    resolver = SystemResolver(cache_seconds=0)
    for _ in range(2):
        await resolver.resolve("x.example", 80)
    assert names.asked == ["x.example"] * 2


async def test_only_so_many_names_are_remembered_those_used_last(names: Names) -> None:
    resolver = SystemResolver(max_names=2)
    for name in ("a", "b", "a", "c", "a", "b"):
        await resolver.resolve(name, 80)
    assert names.asked == ["a", "b", "c", "b"]


# Sharing


async def test_those_who_ask_for_one_name_at_once_share_a_look_up(names: Names) -> None:
    names.gate.clear()
    resolver = SystemResolver()
    asking = [asyncio.create_task(resolver.resolve("x.example", port)) for port in range(10)]
    other = asyncio.create_task(resolver.resolve("y.example", 80))
    await turns()
    names.gate.set()
    assert await asyncio.gather(*asking) == [["192.0.2.1"]] * 10
    await other
    assert sorted(names.asked) == ["x.example", "y.example"]


async def test_a_failure_reaches_all_who_asked_each_with_an_error_of_its_own(names: Names) -> None:
    names.gate.clear()
    names.table["x.example"] = socket.gaierror(socket.EAI_NONAME, "Name or service not known")
    resolver = SystemResolver()
    asking = [asyncio.create_task(resolver.resolve("x.example", port)) for port in range(3)]
    await turns()
    names.gate.set()
    errors = await asyncio.gather(*asking, return_exceptions=True)
    assert [type(error) for error in errors] == [DNSError] * 3
    assert len(set(map(id, errors))) == 3
    assert names.asked == ["x.example"]


async def test_whoever_gives_up_leaves_the_look_up_to_the_others(names: Names) -> None:
    names.gate.clear()
    resolver = SystemResolver()
    first, second = (asyncio.create_task(resolver.resolve("x.example", 80)) for _ in range(2))
    await turns()
    first.cancel()
    await asyncio.wait([first])
    assert first.cancelled()
    assert not second.done()
    names.gate.set()
    assert await second == ["192.0.2.1"]
    assert names.asked == ["x.example"]


@pytest.mark.parametrize("answer", [["192.0.2.9"], OSError(5, "Input/output error")], ids=["success", "failure"])
async def test_a_look_up_that_everybody_gave_up_ends_in_silence(
    names: Names, answer: list[str] | OSError, caplog: pytest.LogCaptureFixture
) -> None:
    names.gate.clear()
    names.table["x.example"] = answer
    resolver = SystemResolver()
    asking = asyncio.create_task(resolver.resolve("x.example", 80))
    await turns()
    asking.cancel()
    await asyncio.wait([asking])
    names.gate.set()
    names.table["y.example"] = ["192.0.2.1"]
    await resolver.resolve("y.example", 80)
    async with asyncio.timeout(PATIENCE_SECONDS):
        while resolver._pending:  # nobody is told of it
            await asyncio.sleep(0)
    assert not caplog.records
    if isinstance(answer, list):
        assert await resolver.resolve("x.example", 80) == answer
        assert names.asked.count("x.example") == 1


def test_a_look_up_left_over_from_a_loop_that_is_closed_is_not_waited_for(names: Names) -> None:
    names.gate.clear()
    resolver = SystemResolver()

    async def give_up() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await resolver.resolve("x.example", 80)

    async def ask() -> object:
        return await resolver.resolve("x.example", 80)

    with closing(asyncio.new_event_loop()) as loop:
        loop.run_until_complete(give_up())
    names.gate.set()
    with closing(asyncio.new_event_loop()) as loop:
        assert loop.run_until_complete(asyncio.wait_for(ask(), PATIENCE_SECONDS)) == ["192.0.2.1"]
    assert names.asked == ["x.example"] * 2


def test_two_loops_look_up_each_in_its_own_time(names: Names) -> None:
    names.gate.clear()
    resolver = SystemResolver(cache_seconds=0)

    async def begin() -> asyncio.Task[Any]:
        task = asyncio.create_task(resolver.resolve("x.example", 80))
        await turns()
        return task

    with closing(asyncio.new_event_loop()) as first, closing(asyncio.new_event_loop()) as second:
        tasks = [(loop, loop.run_until_complete(begin())) for loop in (first, second)]
        names.gate.set()
        for loop, task in tasks:
            assert loop.run_until_complete(asyncio.wait_for(task, PATIENCE_SECONDS)) == ["192.0.2.1"]
    assert not resolver._pending


# In nobody's way


async def test_look_ups_run_on_daemon_threads(names: Names) -> None:
    await SystemResolver().resolve("x.example", 80)
    assert all(thread.daemon for thread in names.threads)
    assert threading.main_thread() not in names.threads


STUCK = """
import asyncio, socket, threading
from aiosock.network.dns import SystemResolver
from aiosock.network.trust import TLSSettings

socket.getaddrinfo = lambda *_, **__: threading.Event().wait()

async def main():
    resolver = SystemResolver()
    asking = [asyncio.create_task(resolver.resolve(f"stuck{number}.example", 80)) for number in range(20)]
    print(await asyncio.to_thread(lambda: "the loop's threads are free"))
    await TLSSettings(verify=False).context()
    print("so are those for TLS")
    for task in asking:
        task.cancel()
    await asyncio.wait(asking)

asyncio.run(main())
print("the program ends")
"""


def test_stuck_look_ups_hold_up_neither_other_threads_nor_the_end_of_the_program() -> None:
    done = subprocess.run([sys.executable, "-c", STUCK], capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.stderr) == ("the loop's threads are free\nso are those for TLS\nthe program ends\n", "")


def test_a_resolver_is_whatever_resolves() -> None:
    class Pinned:
        async def resolve(self, host: str, port: int) -> list[str]:
            return ["127.0.0.1"]

    assert isinstance(SystemResolver(), Resolver)
    assert isinstance(Pinned(), Resolver)
    assert not isinstance(object(), Resolver)


# Resolvers of the user's


class Answering:
    """Answers with whatever it is given, or raises it."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    async def resolve(self, host: str, port: int) -> Any:
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer


@pytest.mark.parametrize(
    "answer",
    [
        ["192.0.2.1", "2001:db8::1"],
        ("2001:db8::1",),
        {"fe80::1%eth0": "a mapping gives its keys"},
    ],
    ids=["list", "tuple", "mapping"],
)
async def test_a_resolver_may_answer_with_any_collection_of_addresses(answer: Any) -> None:
    assert await resolve(Answering(answer), "x.example", 80) == list(answer)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (None, "no list of addresses: None"),
        (5, "no list of addresses: 5"),
        ("192.0.2.1", "no list of addresses: '192.0.2.1'"),
        (b"192.0.2.1", "no list of addresses: b'192.0.2.1'"),
        ([None], "what is no address: None"),
        ([5], "what is no address: 5"),
        ([b"192.0.2.1"], "what is no address: b'192.0.2.1'"),
        (["192.0.2.1", "y.example"], "what is no address: 'y.example'"),
        (["localhost"], "what is no address: 'localhost'"),
        (["127.1"], "what is no address: '127.1'"),
        ([""], "what is no address: ''"),
        (["192.0.2.1\0"], r"what is no address: '192.0.2.1\x00'"),
        (["192.0.2.1%eth0"], "what is no address: '192.0.2.1%eth0'"),
        (["fe80::1%\ud800"], r"what is no address: 'fe80::1%\ud800'"),
        (["\u0661.2.3.4"], r"what is no address: '\u0661.2.3.4'"),
        (["x" * 200], f"what is no address: '{'x' * 99}..."),
    ],
    ids=lambda value: ascii(value)[:20] if not isinstance(value, str) else "",
)
async def test_an_answer_that_is_no_addresses_names_the_resolver_and_the_host(answer: Any, words: str) -> None:
    with pytest.raises(UsageError) as info:
        await resolve(Answering(answer), "x.example", 80)
    assert str(info.value) == f"the resolver Answering answered for x.example with {words}"


async def test_a_resolver_that_finds_nothing_is_named() -> None:
    with pytest.raises(DNSError, match=r"^the name x\.example has no address, says the resolver Answering$"):
        await resolve(Answering([]), "x.example", 80)


class Broken(list[str]):
    def __iter__(self) -> Iterator[str]:
        raise LookupError("a bug")


@pytest.mark.parametrize(
    ("failure", "words"),
    [
        (KeyError("x.example"), "KeyError: 'x.example'"),
        (OSError(5, "as the loop words it"), "Input/output error"),
        (TimeoutError(), "TimeoutError"),
        (ReadTimeout("nothing came from the name server"), "nothing came from the name server"),
        (ClientClosed("the client was closed"), "ClientClosed: the client was closed"),
        (Broken(), "LookupError: a bug"),
    ],
    ids=["KeyError", "OSError", "TimeoutError", "ReadTimeout", "ClientClosed", "list"],
)
async def test_a_resolver_that_fails_is_a_dns_error_that_names_it_and_the_host(failure: Any, words: str) -> None:
    with pytest.raises(DNSError) as info:
        await resolve(Answering(failure), "x.example", 80)
    assert str(info.value) == f"the resolver Answering failed for x.example: {words}"
    assert type(info.value.__cause__).__name__ in (type(failure).__name__, "LookupError")


async def test_a_resolver_that_does_not_wait_is_a_dns_error_too() -> None:
    class Hasty:
        def resolve(self, host: str, port: int) -> list[str]:
            return ["192.0.2.1"]

    with pytest.raises(DNSError, match=r"^the resolver Hasty failed for x\.example: TypeError: .*await"):
        await resolve(Hasty(), "x.example", 80)  # type: ignore[arg-type]  # that is the mistake


@pytest.mark.parametrize("kind", [DNSError, BlockedAddress])
async def test_what_a_resolver_says_itself_is_passed_on(kind: type[DNSError] | type[BlockedAddress]) -> None:
    said = kind("not there")
    resolver = Answering(said)
    with pytest.raises(kind) as info:
        await resolve(resolver, "x.example", 80)
    assert info.value is said
    # Of another request, be it one that failed before or one that the resolver made, it is told anew.
    said.request = Request("GET", "http://other.example/")
    with pytest.raises(kind, match="^not there$") as info:
        await resolve(resolver, "x.example", 80)
    assert info.value is not said
    assert info.value.request is None


async def test_a_cancelled_look_up_stays_cancelled() -> None:
    with pytest.raises(asyncio.CancelledError):
        await resolve(Answering(asyncio.CancelledError()), "x.example", 80)


@pytest.mark.parametrize("guard", [None, Guard()], ids=["unguarded", "guarded"])
async def test_a_request_with_a_resolver_that_answers_wrongly_fails_in_words(guard: Guard | None) -> None:
    for answer, kind, words in (
        (None, UsageError, "answered for x.example with no list of addresses: None"),
        (["y.example"], UsageError, "answered for x.example with what is no address: 'y.example'"),
        ([], DNSError, "the name x.example has no address"),
        (KeyError("x"), DNSError, "failed for x.example: KeyError: 'x'"),
    ):
        async with Client(resolver=Answering(answer), guard=guard) as client:
            with pytest.raises(kind, match=words):
                await client.get("http://x.example/")
            assert client.pool.active == 0
