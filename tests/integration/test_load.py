"""Many at once, and the client's ties to its loop and its process."""

from __future__ import annotations

import asyncio
import gc
import multiprocessing
import re
import subprocess
import sys
import textwrap
import warnings
from collections.abc import Coroutine
from typing import Any, Literal

import pytest

import aiosock
from aiosock import Limits
from aiosock.testing import Peer, Server, response
from tests.kit.clients import checked_client, settled

OK = response(body=b"ok")


async def echo_target(peer: Peer) -> None:
    while (request := await peer.read_request()) is not None:
        await peer.send(response(body=request.target.encode()))


async def test_2000_requests_at_once_over_50_connections() -> None:
    async with Server(echo_target) as server, aiosock.Client(limits=Limits(max_connections=50)) as client:

        async def fetch(number: int) -> bool:
            return (await client.get(f"{server.url}/{number}")).text == f"/{number}"

        assert all(await asyncio.gather(*(fetch(number) for number in range(2000))))
        assert server.connections <= 50
        assert client.pool.opened + client.pool.reused == 2000
        await settled(client)


async def test_2000_connections_at_once() -> None:
    arrived = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.read_request()
        if len(peer.server.requests) == 2000:
            arrived.set()
        await arrived.wait()
        await peer.send(OK)

    async with Server(script) as server, aiosock.Client(limits=Limits(max_connections=None)) as client:
        answers = await asyncio.gather(*(client.get(server.url) for _ in range(2000)))
        assert len(answers) == server.connections == 2000
        await settled(client)


async def test_a_request_leaves_no_garbage_for_the_cycle_collector() -> None:
    async with Server.answering(OK) as server, aiosock.Client() as client:
        await client.get(server.url)
        gc.collect()
        gc.disable()
        try:
            gc.set_debug(gc.DEBUG_SAVEALL)
            for _ in range(50):
                await client.get(server.url)
            gc.collect()
            ours = [thing for thing in gc.garbage if type(thing).__module__.startswith("aiosock.")]
            assert not [thing for thing in ours if not type(thing).__module__.startswith("aiosock.testing")]
        finally:
            gc.set_debug(0)
            gc.garbage.clear()
            gc.enable()


async def test_a_client_belongs_to_one_loop() -> None:
    client = aiosock.Client()
    async with Server.answering(OK) as server:
        await client.get(server.url)

        def elsewhere() -> Coroutine[Any, Any, aiosock.Response]:
            return client.get("http://127.0.0.1:9/")

        with pytest.raises(aiosock.UsageError, match="another event loop"):
            await asyncio.to_thread(lambda: asyncio.run(elsewhere()))
        assert (await client.get(server.url)).text == "ok"
        await client.close()


@pytest.mark.skipif(sys.platform == "win32", reason="fork is not to be had here")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
async def test_a_forked_child_leaves_the_connections_of_its_parent_alone() -> None:
    async with Server.answering(OK) as server, aiosock.Client() as client:
        await client.get(server.url)
        context = multiprocessing.get_context("fork")
        receiver, sender = context.Pipe(duplex=False)

        def child() -> None:
            async def main() -> str:
                try:
                    await client.get("http://127.0.0.1:9/")
                except aiosock.UsageError as error:
                    await client.close()
                    return str(error)
                return "no error"

            sender.send(asyncio.run(main()))

        process = context.Process(target=child)
        await asyncio.to_thread(process.start)
        await asyncio.to_thread(process.join)
        assert "forked" in await asyncio.to_thread(receiver.recv)
        sender.close()
        receiver.close()
        process.close()
        assert (await client.get(server.url)).text == "ok"
        assert server.connections == 1


async def test_a_client_that_is_not_closed_warns_and_closes_its_sockets() -> None:
    async with Server.answering(OK) as server:
        client = aiosock.Client()
        await client.get(server.url)
        with pytest.warns(ResourceWarning, match="was not closed") as warned:
            del client
        assert repr(warned[0].source) == "<Client closed>"
        while server.open_connections:
            await asyncio.sleep(0)


def test_a_program_that_forgets_to_close_its_client_ends_with_one_warning() -> None:
    program = """
        import asyncio
        import aiosock
        from aiosock.testing import Server, response

        client = aiosock.Client()

        async def main():
            async with Server.answering(response(body=b"ok")) as server:
                print((await client.get(server.url)).text)

        aiosock.run(main())
    """
    command = [sys.executable, "-W", "default::ResourceWarning", "-c", textwrap.dedent(program)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout == "ok\n"
    assert done.stderr.count("Warning: a client was not closed") == 1, done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("action", ["always", "error"])
async def test_who_keeps_the_warning_of_a_client_that_is_not_closed_keeps_no_sockets(
    action: Literal["always", "error"], monkeypatch: pytest.MonkeyPatch
) -> None:
    raised: list[Any] = []
    monkeypatch.setattr("sys.unraisablehook", raised.append)
    async with Server.answering(OK) as server:
        client = aiosock.Client(limits=Limits(keepalive_expiry=None))
        await client.get(server.url)
        with warnings.catch_warnings(record=True) as kept:
            warnings.simplefilter(action)
            del client
        async with asyncio.timeout(20):
            while server.open_connections:
                await asyncio.sleep(0)
    assert len(kept) + len(raised) == 1
    del kept, raised[:]
    gc.collect()


def test_tracemalloc_says_where_a_client_was_made_that_was_not_closed() -> None:
    program = """
        import asyncio
        import aiosock
        from aiosock.testing import Server, response

        def forgotten():
            return aiosock.Client()

        async def main():
            async with Server.answering(response(body=b"ok")) as server:
                client = forgotten()
                async with client.stream("GET", server.url) as answer:
                    del client
                    print(await answer.read())

        asyncio.run(main())
    """
    command = [sys.executable, "-X", "tracemalloc", "-W", "default::ResourceWarning", "-c", textwrap.dedent(program)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    # Its request is not disturbed, and what sent it does not warn again.
    assert done.stdout == "b'ok'\n"
    assert done.stderr.count("Warning: a client was not closed") == 1, done.stderr
    assert re.search(r'Object allocated at .*\n +File "<string>", lineno 7$', done.stderr, re.MULTILINE), done.stderr


async def test_two_clients_do_not_share_anything() -> None:
    async with Server.answering(OK) as server, checked_client() as one, checked_client() as other:
        await one.get(server.url)
        await other.get(server.url)
        assert server.connections == 2
