"""Which connection carries a request: reuse, the look before it, and the one safe repetition."""

from __future__ import annotations

import asyncio
from ssl import SSLContext

import pytest

import aiosock
from aiosock import Limits
from aiosock.testing import Peer, Server, response
from tests.kit.clients import checked_client, settled

OK = response(body=b"ok")


async def test_a_connection_is_kept_and_used_again() -> None:
    async with Server.answering(OK) as server, checked_client() as client:
        for count in range(1, 4):
            answer = await client.get(server.url)
            assert answer.connection is not None
            assert answer.connection.requests_served == count
            assert answer.connection.reused is (count > 1)
        assert server.connections == 1
        assert client.pool == (1, 0, 0, 0, 1, 2)
        assert repr(client.pool) == "<Pool idle=1 active=0 dialling=0 waiting=0 opened=1 reused=2>"


async def test_the_last_used_connection_is_used_first() -> None:
    gate = asyncio.Event()

    async def script(peer: Peer) -> None:
        while (request := await peer.read_request()) is not None:
            if request.target == "/wait":
                await gate.wait()
            await peer.send(response(body=str(peer.number).encode()))

    async with Server(script) as server, checked_client() as client:
        waiting = [asyncio.create_task(client.get(server.url + "/wait")) for _ in range(3)]
        while len(server.requests) < 3:
            await asyncio.sleep(0)
        gate.set()
        await asyncio.gather(*waiting)
        last = await client.get(server.url)
        assert {(await client.get(server.url)).text for _ in range(5)} == {last.text}


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 9\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: keep-alive\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\n",
        b"HTTP/1.1 200 OK\r\nKeep-Alive: timeout=1\r\nContent-Length: 2\r\n\r\nok",
    ],
    ids=["close", "HTTP/1.0", "both framings", "chunked HTTP/1.0", "left over bytes", "kept for less than a second"],
)
async def test_a_connection_that_may_not_be_kept_is_closed(answer: bytes) -> None:
    async def script(peer: Peer) -> None:
        await peer.read_request()
        await peer.send(answer)
        await peer.wait_disconnect()

    async with Server(script) as server, checked_client() as client:
        for _ in range(2):
            assert (await client.get(server.url)).text == "ok"
        assert server.connections == 2
        assert client.pool.idle == 0


async def test_http_1_0_may_ask_to_be_kept() -> None:
    answer = b"HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\nContent-Length: 2\r\n\r\nok"
    async with Server.answering(answer) as server, checked_client() as client:
        await client.get(server.url)
        await client.get(server.url)
        assert server.connections == 1


async def test_a_request_that_says_close_is_the_last_one() -> None:
    async with Server.answering(OK) as server, checked_client() as client:
        await client.get(server.url, headers={"Connection": "close"})
        await client.get(server.url)
        assert server.connections == 2


async def test_an_idle_connection_that_the_server_closes_is_not_used() -> None:
    closed = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.read_request()
        await peer.send(OK)
        await peer.close()
        closed.set()

    async with Server(script) as server, checked_client() as client:
        for count in range(1, 4):
            closed.clear()
            # A POST is never repeated: that it works shows that the closed connection was not tried.
            assert (await client.post(server.url, content=b"x")).status_code == 200
            await closed.wait()
            assert server.connections == count


async def test_data_that_nobody_asked_for_spoils_an_idle_connection() -> None:
    async def script(peer: Peer) -> None:
        await peer.read_request()
        await peer.send(OK)
        await peer.send(b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n")
        await peer.wait_disconnect()

    async with Server(script) as server, checked_client() as client:
        assert (await client.get(server.url)).status_code == 200
        while server.open_connections:
            await asyncio.sleep(0)
        assert client.pool.idle == 0
        assert (await client.get(server.url)).status_code == 200


def closing_after_first(*, read_first: bool) -> object:
    """A server that closes a kept connection when the second request comes, without an answer."""

    async def script(peer: Peer) -> None:
        await peer.read_request()
        await peer.send(OK)
        if peer.number:
            while await peer.read_request() is not None:
                await peer.send(OK)
            return
        if read_first:
            await peer.read_request()
        else:
            await peer.read(1)
            peer.reset()

    return script


@pytest.mark.parametrize("read_first", [True, False], ids=["end of file", "reset"])
@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE", "QUERY"])
async def test_an_idempotent_request_is_repeated_once_on_a_fresh_connection(method: str, read_first: bool) -> None:
    async with Server(closing_after_first(read_first=read_first)) as server, checked_client() as client:
        await client.get(server.url)
        answer = await client.request(method, server.url + "/again")
        assert answer.status_code == 200
        assert server.connections == 2
        await settled(client)


@pytest.mark.parametrize("headers", [{}, {"Idempotency-Key": "1"}])
async def test_a_post_is_repeated_only_with_an_idempotency_key(headers: dict[str, str]) -> None:
    async with Server(closing_after_first(read_first=True)) as server, checked_client() as client:
        await client.get(server.url)
        if headers:
            assert (await client.post(server.url, content=b"x", headers=headers)).status_code == 200
        else:
            with pytest.raises(aiosock.ServerDisconnected, match="without an answer"):
                await client.post(server.url, content=b"x")
            assert server.connections == 1
        await settled(client)


async def test_a_body_that_can_be_read_once_is_not_repeated() -> None:
    async with Server(closing_after_first(read_first=True)) as server, checked_client() as client:
        await client.get(server.url)
        with pytest.raises(aiosock.ServerDisconnected):
            await client.put(server.url, content=iter([b"x"]))
        await settled(client)


async def test_a_first_request_is_never_repeated() -> None:
    async def script(peer: Peer) -> None:
        await peer.read_request()

    async with Server(script) as server, checked_client() as client:
        with pytest.raises(aiosock.ServerDisconnected) as caught:
            await client.get(server.url + "/path?token=secret")
        assert server.connections == 1
        assert caught.value.request is not None
        assert "/path" in str(caught.value)
        assert "secret" not in str(caught.value)


async def test_a_request_is_not_repeated_after_the_first_byte_of_an_answer() -> None:
    async def script(peer: Peer) -> None:
        await peer.read_request()
        await peer.send(OK)
        await peer.read_request()
        await peer.send(b"H")

    async with Server(script) as server, checked_client() as client:
        await client.get(server.url)
        with pytest.raises(aiosock.ServerDisconnected, match="after 1 bytes"):
            await client.get(server.url)
        assert server.connections == 1


async def test_a_timeout_is_never_repeated() -> None:
    async def script(peer: Peer) -> None:
        await peer.read_request()
        await peer.send(OK)
        await peer.wait_disconnect()

    async with Server(script) as server, checked_client() as client:
        await client.get(server.url)
        with pytest.raises(aiosock.ReadTimeout):
            await client.get(server.url, timeout=aiosock.Timeout(read=0.05))
        assert server.connections == 1
        await settled(client)


async def test_the_repetition_is_not_repeated() -> None:
    async def script(peer: Peer) -> None:
        await peer.read_request()
        if peer.number == 0:
            await peer.send(OK)
            await peer.read_request()

    async with Server(script) as server, checked_client() as client:
        await client.get(server.url)
        with pytest.raises(aiosock.ServerDisconnected):
            await client.get(server.url)
        assert server.connections == 2


async def test_limits_hold_over_many_requests() -> None:
    most = 0

    async def script(peer: Peer) -> None:
        nonlocal most
        while await peer.read_request() is not None:
            most = max(most, peer.server.open_connections)
            await asyncio.sleep(0)
            await peer.send(OK)

    limits = Limits(max_connections=7)
    async with Server(script) as one, Server(script) as other, checked_client(limits=limits) as client:
        urls = [server.url for server in (one, other)] * 100
        answers = await asyncio.gather(*(client.get(url) for url in urls))
        assert {answer.status_code for answer in answers} == {200}
        assert client.pool.waiting == client.pool.active == 0
        assert most <= 7


async def test_the_limit_per_host_leaves_others_alone() -> None:
    gate = asyncio.Event()

    async def slow(peer: Peer) -> None:
        while await peer.read_request() is not None:
            await gate.wait()
            await peer.send(OK)

    limits = Limits(max_connections_per_host=2)
    async with Server(slow) as busy, Server.answering(OK) as free, checked_client(limits=limits) as client:
        tasks = [asyncio.create_task(client.get(busy.url)) for _ in range(6)]
        while busy.connections < 2:
            await asyncio.sleep(0)
        assert (await client.get(free.url)).status_code == 200
        assert (client.pool.active, client.pool.waiting) == (2, 4)
        gate.set()
        await asyncio.gather(*tasks)
        assert busy.connections == 2
        await settled(client)


async def test_a_small_rest_of_a_body_is_drained_and_a_large_one_is_not() -> None:
    small = response(body=b"x" * 1000)
    large = response(body=b"x" * 10_000_000)

    async def script(peer: Peer) -> None:
        while (request := await peer.read_request()) is not None:
            await peer.send(large if request.target == "/large" else small)

    async with Server(script) as server, checked_client() as client:
        for target, connections in (("/small", 1), ("/small", 1), ("/large", 1), ("/small", 2)):
            async with client.stream("GET", server.url + target) as answer:
                assert answer.status_code == 200
            assert server.connections == connections
        await settled(client)


async def test_a_rest_that_comes_late_is_drained_behind_the_scenes() -> None:
    left = asyncio.Event()

    async def script(peer: Peer) -> None:
        while await peer.read_request() is not None:
            await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nab")
            await left.wait()
            await peer.send(b"cd")

    async with Server(script) as server, checked_client() as client:
        async with client.stream("GET", server.url):
            pass
        assert client.pool.active == 1
        left.set()
        while client.pool.active:
            await asyncio.sleep(0)
        assert client.pool.idle == 1
        assert (await client.get(server.url)).text == "abcd"
        assert server.connections == 1


async def test_a_rest_that_never_comes_is_given_up() -> None:
    async def script(peer: Peer) -> None:
        await peer.read_request()
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nab")
        await peer.wait_disconnect()

    async with Server(script) as server, checked_client() as client:
        loop = asyncio.get_running_loop()
        async with client.stream("GET", server.url):
            started = loop.time()
        await asyncio.gather(*server_tasks(server))
        assert 0.3 < loop.time() - started < 5
        await settled(client)


def server_tasks(server: Server) -> list[asyncio.Task[None]]:
    """What serves the connections that are open now."""
    current = asyncio.current_task()
    return [task for task in asyncio.all_tasks() if task is not current and "_serve" in repr(task)]


async def test_leaving_the_block_by_an_exception_closes_the_connection() -> None:
    async with Server.answering(response(body=b"x" * 10)) as server, checked_client() as client:
        with pytest.raises(ZeroDivisionError):
            async with client.stream("GET", server.url):
                raise ZeroDivisionError
        assert client.pool.idle == 0
        await settled(client)


async def test_a_response_that_is_dropped_unread_gives_its_connection_back_with_a_warning() -> None:
    async with Server.answering(response(body=b"x" * 10)) as server, checked_client() as client:
        answer = await client.send(client.build_request("GET", server.url), stream=True)
        with pytest.warns(ResourceWarning, match="neither read nor closed"):
            del answer
        await settled(client)


async def test_origins_do_not_share_connections() -> None:
    async with Server.answering(OK) as server, checked_client() as client:
        await client.get(server.url)
        await client.get(f"http://localhost:{server.port}/")
        assert server.connections == 2


async def test_unix_domain_sockets(tmp_path_factory: pytest.TempPathFactory) -> None:
    path = str(tmp_path_factory.mktemp("s") / "s")
    async with Server.answering(OK, uds=path) as server, checked_client(uds=path) as client:
        answer = await client.get("http://service.example/hello")
        assert answer.text == "ok"
        assert answer.connection is not None
        assert answer.connection.remote_address == path
        assert server.requests[0].header("Host") == "service.example"


async def test_the_local_address_is_bound() -> None:
    async with Server.answering(OK) as server, checked_client(local_address="127.0.0.2") as client:
        answer = await client.get(server.url)
        assert answer.connection is not None
        assert answer.connection.local_address.startswith("127.0.0.2:")


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "TLS"])
async def test_a_response_tells_its_connection_when_asked_and_its_own_number(
    secure: bool, server_context: SSLContext, ca_file: str
) -> None:
    context, verify = (server_context, ca_file) if secure else (None, True)
    async with Server.answering(OK, ssl=context) as server:
        async with checked_client(verify=verify) as client:
            answers = [await client.get(server.url) for _ in range(3)]
            async with client.stream("GET", server.url) as streamed:
                pass
            answers.append(streamed)
            # None of them was asked yet.
            assert all(callable(answer._connection) for answer in answers)
            second = answers[1].connection
            assert second is not None
            assert (second.requests_served, second.reused) == (2, True)
            assert second.remote_address == f"127.0.0.1:{server.port}"
            assert (second.tls_version is not None) is secure
            assert answers[1].connection is second
        # Closed by now.
        infos = [answer.connection for answer in answers]
        assert [info and info.requests_served for info in infos] == [1, 2, 3, 4]
        assert [info and info.reused for info in infos] == [False, True, True, True]
        for info in infos:
            assert info is not None
            assert info._replace(requests_served=2, reused=True) == second
        assert server.connections == 1
