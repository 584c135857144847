"""What each scheme sends, to whom, and when it gives up."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import re
import threading
from base64 import b64decode
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiosock.errors import UsageError
from aiosock.message.request import Request
from aiosock.message.response import Response
from aiosock.middleware.auth import Auth, as_auth, authenticate
from aiosock.middleware.schemes import (
    MAX_DIGEST_ORIGINS,
    MAX_DIGEST_REQUESTS,
    BasicAuth,
    BearerAuth,
    DigestAuth,
    NetRCAuth,
)
from aiosock.protocol.challenge import parse_challenges
from tests.middleware.fakes import Server, Source, request, said_by


@pytest.mark.parametrize(
    ("auth", "credentials"),
    [
        # RFC 7617, 2; RFC 6750, 2.1.
        (as_auth(("Aladdin", "open sesame")), "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="),
        (BearerAuth("mF_9.B5f-4.1JqM"), "Bearer mF_9.B5f-4.1JqM"),
        (BearerAuth("1|a=b"), "Bearer 1|a=b"),
    ],
    ids=["basic", "bearer", "odd bearer"],
)
async def test_credentials_take_the_place_of_those_set_by_hand(auth: Auth, credentials: str) -> None:
    sent = request(auth, headers=[("authorization", "own"), ("X", "y"), ("Authorization", "another")])
    server = Server(200)
    await authenticate(sent, server)
    assert list(server.requests[0].headers.items()) == [("X", "y"), ("Authorization", credentials)]
    assert sent.headers.getall("Authorization") == ["own", "another"]


@pytest.mark.parametrize("token", ["", "a b", "secret\r\nX: y", "secret\n", "s\xe9cret", b"secret", None])
def test_a_token_that_cannot_be_sent(token: Any) -> None:
    with pytest.raises(UsageError, match="^token: ") as caught:
        BearerAuth(token)
    assert "cret" not in str(caught.value)


@pytest.mark.parametrize("make", [BasicAuth, DigestAuth])
def test_credentials_that_cannot_be_sent(make: Callable[[str, str], Auth]) -> None:
    with pytest.raises(UsageError, match="^password: "):
        make("user", "secret\ud800")


def test_no_repr_shows_a_secret() -> None:
    auths = [BasicAuth("whoever", "secret"), BearerAuth("secret"), DigestAuth("whoever", "secret"), NetRCAuth("file")]
    assert [repr(auth) for auth in auths] == ["<BasicAuth>", "<BearerAuth>", "<DigestAuth>", "<NetRCAuth file>"]
    assert repr(NetRCAuth()) == "<NetRCAuth of the environment>"


# Digest


class DigestServer:
    """
    A server that knows one user, ``u`` with the password ``p``.

    Args:
        algorithm: MD5 or SHA-256.
        uses: How many requests a nonce is good for.
        says_stale: Whether it tells a nonce that had its time from wrong credentials.
        gives: Whether it hands out the next nonce ahead.
    """

    def __init__(
        self,
        algorithm: str = "SHA-256",
        *,
        uses: int = 1000,
        says_stale: bool = True,
        gives: bool = False,
        realm: Callable[[Request], str] = lambda request: "r",
    ) -> None:
        self.algorithm = algorithm
        self.uses = uses
        self.says_stale = says_stale
        self.gives = gives
        self.realm = realm
        self.nonces: dict[str, set[str]] = {}
        self.log: list[int | str] = []
        self.cnonces: list[str] = []
        self.sources: list[Source] = []
        self.gate: Callable[[], Awaitable[object]] | None = None

    def nonce(self) -> str:
        nonce = f"n{len(self.nonces)}"
        self.nonces[nonce] = set()
        return nonce

    def hashed(self, *parts: str) -> str:
        return hashlib.new(self.algorithm.replace("-", ""), ":".join(parts).encode()).hexdigest()

    def is_right(self, request: Request, fields: dict[str, str]) -> bool:
        secret = self.hashed("u", fields["realm"], "p")
        asked = self.hashed(request.method, request.target)
        parts = (fields["nonce"], fields["nc"], fields["cnonce"], fields["qop"])
        return fields["response"] == self.hashed(secret, *parts, asked) and fields["uri"] == request.target

    async def __call__(self, request: Request) -> Response:
        status, stale = self.judge(request)
        self.log.append("stale" if stale else status)
        headers = {}
        if status == 401:
            headers["WWW-Authenticate"] = (
                f'Basic realm="x", Digest realm="{self.realm(request)}", nonce="{self.nonce()}", '
                f'algorithm={self.algorithm}, qop="auth"' + (", stale=true" if stale else "")
            )
        elif self.gives:
            headers["Authentication-Info"] = f'nextnonce="{self.nonce()}"'
        if self.gate is not None:
            await self.gate()
        self.sources.append(Source(b"body"))
        return Response(status, headers=headers, request=request, source=self.sources[-1])

    def judge(self, request: Request) -> tuple[int, bool]:
        if "Authorization" not in request.headers:
            return 401, False
        [(scheme, _, fields)] = parse_challenges(request.headers.getall("Authorization"))
        assert scheme == "digest"
        self.cnonces.append(fields["cnonce"])
        if not self.is_right(request, fields) or fields["realm"] != self.realm(request):
            return 401, False
        used = self.nonces[fields["nonce"]]
        assert fields["nc"] not in used
        if len(used) == self.uses:
            return 401, self.says_stale
        used.add(fields["nc"])
        return 200, False


async def get(auth: Auth, server: Any, url: str = "http://h/a?b=c", **options: Any) -> int:
    return (await authenticate(request(auth, url=url, **options), server)).status_code


@pytest.mark.parametrize("algorithm", ["MD5", "SHA-256"])
async def test_a_challenge_is_answered_and_from_then_on_each_request_ahead(algorithm: str) -> None:
    server = DigestServer(algorithm)
    auth = DigestAuth("u", "p")
    assert [await get(auth, server, f"http://h/{number}") for number in range(3)] == [200] * 3
    assert server.log == [401, 200, 200, 200]
    assert server.nonces == {"n0": {"00000001", "00000002", "00000003"}}
    assert len(set(server.cnonces)) == 3
    assert [source.closed for source in server.sources] == [True, False, False, False]


async def test_wrong_credentials_are_sent_once_and_the_answer_is_the_callers() -> None:
    server = DigestServer()
    auth = DigestAuth("u", "wrong")
    response = await authenticate(request(auth), server)
    assert response.status_code == 401
    assert server.log == [401, 401]
    assert await response.read() == b"body"
    # The next request asks first.
    assert await get(auth, server) == 401
    assert server.log == [401] * 4
    assert len(server.cnonces) == 2


@pytest.mark.parametrize("says_stale", [True, False])
async def test_a_nonce_that_has_had_its_time_is_replaced(says_stale: bool) -> None:
    server = DigestServer(uses=2, says_stale=says_stale)
    auth = DigestAuth("u", "p")
    assert [await get(auth, server) for _ in range(5)] == [200] * 5
    stale = "stale" if says_stale else 401
    assert server.log == [401, 200, 200, stale, 200, 200, stale, 200]


async def test_the_next_nonce_is_used() -> None:
    server = DigestServer(uses=1, gives=True)
    auth = DigestAuth("u", "p")
    assert [await get(auth, server) for _ in range(4)] == [200] * 4
    assert server.log == [401, 200, 200, 200, 200]


async def test_what_is_said_before_any_challenge_is_not_taken_up() -> None:
    auth = DigestAuth("u", "p")
    assert await get(auth, Server((200, {"Authentication-Info": "nextnonce=n"}))) == 200
    assert await said_by(auth) is None


async def test_two_realms_of_one_origin() -> None:
    server = DigestServer(realm=lambda request: request.target)
    auth = DigestAuth("u", "p")
    for path in "/a", "/b", "/b", "/a":
        assert await get(auth, server, f"http://h{path}") == 200
    assert server.log == [401, 200, 401, 200, 200, 401, 200]


CHALLENGE = 'Digest realm="r", nonce="{}", qop="auth", stale={}'


async def test_a_server_whose_nonces_go_stale_three_times_is_answered_again() -> None:
    async def server(request: Request) -> Response:
        requests.append(request)
        challenge = CHALLENGE.format(len(requests), "true")
        return Response(401 if len(requests) < 5 else 200, headers={"WWW-Authenticate": challenge}, request=request)

    requests: list[Request] = []
    assert await get(DigestAuth("u", "p"), server) == 200
    said = [re.findall('nonce="(.)"', request.headers.get("Authorization", "")) for request in requests]
    assert said == [[], ["1"], ["2"], ["3"], ["4"]]


async def test_a_server_that_calls_every_nonce_stale() -> None:
    async def server(request: Request) -> Response:
        requests.append(request)
        challenge = CHALLENGE.format(len(requests), "true")
        return Response(401, headers={"WWW-Authenticate": challenge}, request=request)

    requests: list[Request] = []
    auth = DigestAuth("u", "p")
    assert await get(auth, server) == 401
    assert len(requests) == MAX_DIGEST_REQUESTS
    assert await get(auth, server) == 401
    assert len(requests) <= 2 * MAX_DIGEST_REQUESTS


async def test_a_server_that_plays_two_requests_off_against_each_other() -> None:
    async def server(request: Request) -> Response:
        requests.append(request)
        # Both have the same nonce, so that one of them looks as if it had been good before.
        challenge = CHALLENGE.format((len(requests) + 1) // 2, "true")
        await barrier.wait()
        return Response(401, headers={"WWW-Authenticate": challenge}, request=request)

    requests: list[Request] = []
    barrier = asyncio.Barrier(2)
    auth = DigestAuth("u", "p")
    assert await asyncio.gather(get(auth, server), get(auth, server)) == [401, 401]
    assert len(requests) == 2 * MAX_DIGEST_REQUESTS


_field = st.text(st.characters(codec="latin-1")) | st.text(st.sampled_from('Digestrealmnoncqp=", \\a'))
_pieces = st.sampled_from(
    ["realm=r", "nonce=n", "nonce=m", "stale=true", "qop=auth", 'qop="auth-int"', "algorithm=MD5-sess"]
)
_digests = st.lists(_pieces, max_size=6).map(lambda pieces: "Digest " + ", ".join(pieces))
_fields = st.lists(_field | _digests, max_size=3)


@given(st.lists(st.tuples(st.sampled_from([200, 401]), _fields, _fields), min_size=1))
def test_whatever_servers_answer_it_comes_to_an_end(answers: list[tuple[int, list[str], list[str]]]) -> None:
    auth = DigestAuth("u", "p")
    for _ in range(3):
        flow = auth(Request("GET", "http://h/"))
        asked, count = next(flow), 1
        for status, challenges, infos in answers * 10:
            asked.headers.get("Authorization", "").encode("latin-1")
            fields = [("WWW-Authenticate", value) for value in challenges]
            fields += [("Authentication-Info", value) for value in infos]
            try:
                asked = flow.send(Response(status, headers=fields))
            except StopIteration:
                break
            count += 1
        assert count <= MAX_DIGEST_REQUESTS


async def test_nothing_goes_to_another_origin() -> None:
    servers = [DigestServer() for _ in range(4)]
    auth = DigestAuth("u", "p")
    urls = ["http://h/", "https://h/", "http://h:81/", "http://sub.h/"]
    for url, server in zip(urls, servers, strict=True):
        assert await get(auth, server, url) == 200
        assert server.log == [401, 200]
    for url, server in zip(urls, servers, strict=True):
        assert await get(auth, server, url) == 200
        assert server.log == [401, 200, 200]


async def test_what_was_learned_of_the_origins_used_last_is_kept() -> None:
    auth = DigestAuth("u", "p")
    servers = {f"http://h{number}/": DigestServer() for number in range(MAX_DIGEST_ORIGINS + 1)}
    first, second, *others = servers
    for url in (first, second, *others[:-1], first, others[-1]):
        await get(auth, servers[url], url)
    assert await said_by(auth, first) is not None
    assert await said_by(auth, others[0]) is not None
    assert await said_by(auth, second) is None


async def test_many_requests_at_once_are_each_challenged_and_each_answer() -> None:
    count = 20
    server = DigestServer()
    server.gate = asyncio.Barrier(count).wait
    auth = DigestAuth("u", "p")
    assert await asyncio.gather(*(get(auth, server) for _ in range(count))) == [200] * count
    assert server.log == [401] * count + [200] * count
    assert len(set(server.cnonces)) == count
    # Those that come later need no challenge, and each has a count of its own.
    assert await asyncio.gather(*(get(auth, server) for _ in range(count))) == [200] * count
    assert server.log[2 * count :] == [200] * count


async def test_many_requests_at_once_with_wrong_credentials_come_to_an_end() -> None:
    count = 20
    server = DigestServer()
    server.gate = lambda: asyncio.sleep(0)
    auth = DigestAuth("u", "wrong")
    for _ in range(2):
        assert await asyncio.gather(*(get(auth, server) for _ in range(count))) == [401] * count
    assert len(server.cnonces) <= 2 * 2 * count


async def test_many_requests_at_once_with_a_nonce_that_has_had_its_time() -> None:
    count = 20
    server = DigestServer(uses=1)
    auth = DigestAuth("u", "p")
    assert await get(auth, server) == 200
    server.gate = asyncio.Barrier(count).wait
    assert await asyncio.gather(*(get(auth, server) for _ in range(count))) == [200] * count
    assert server.log[2:] == ["stale"] * count + [200] * count


@pytest.mark.parametrize(
    "field",
    [
        "",
        "Basic realm=x",
        "Digest",
        'Digest realm="r"',
        'Digest realm="r", nonce="n',
        "Digest realm=r, nonce=n, qop=x",
        "\xe4",
    ],
)
async def test_a_401_that_cannot_be_answered_is_the_callers(field: str, caplog: pytest.LogCaptureFixture) -> None:
    server = Server((401, {"WWW-Authenticate": field}))
    with caplog.at_level(logging.DEBUG, "aiosock.middleware"):
        response = await authenticate(request(DigestAuth("u", "p"), url="http://h/a?secret"), server)
    assert response.status_code == 401
    assert len(server.requests) == 1
    assert not server.sources[0].closed
    assert caplog.messages == ["401 from h: no challenge of Digest that can be answered"]


async def test_a_refusal_leaves_a_word_without_a_secret(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, "aiosock.middleware"):
        await get(DigestAuth("u", "secret"), DigestServer(), "http://h/a?secret")
    assert caplog.messages == ["401 from h: the Digest credentials were refused"]


async def test_a_401_without_a_challenge_is_the_callers() -> None:
    assert await get(DigestAuth("u", "p"), Server(401)) == 401


async def test_other_statuses_are_no_challenge() -> None:
    server = Server((403, {"WWW-Authenticate": CHALLENGE.format("n", "false")}))
    assert await get(DigestAuth("u", "p"), server) == 403
    assert len(server.requests) == 1


async def test_credentials_set_by_hand_are_not_sent_with_the_first_request() -> None:
    assert await said_by(DigestAuth("u", "p"), "http://user:password@h/") is None


async def test_a_body_is_sent_again_with_the_answer() -> None:
    server = DigestServer()
    assert await get(DigestAuth("u", "p"), server, content=[b"a"]) == 200


async def test_a_body_that_cannot_be_sent_again_leaves_the_401(caplog: pytest.LogCaptureFixture) -> None:
    server = DigestServer()
    auth = DigestAuth("u", "p")
    with caplog.at_level(logging.DEBUG, "aiosock.middleware"):
        response = await authenticate(request(auth, "POST", content=iter([b"a"])), server)
    assert response.status_code == 401
    assert caplog.messages == ["401 from h: the body cannot be sent again with an answer"]
    assert await response.read() == b"body"
    # What was learned serves the next one.
    assert await get(auth, server, content=iter([b"a"])) == 200
    assert server.log == [401, 200]


INSISTING = (401, {"WWW-Authenticate": 'Digest realm="r", nonce="n", qop="auth-int"'})


@pytest.mark.parametrize(
    ("content", "body"), [(None, b""), (b"abc", b"abc"), ("\xe4", b"\xc3\xa4"), (bytearray(b"a"), b"a")]
)
async def test_a_body_is_protected_where_the_server_insists(content: Any, body: bytes) -> None:
    server = Server(INSISTING, 200)
    assert await get(DigestAuth("u", "p"), server, content=content) == 200
    [(_, _, fields)] = parse_challenges([server.credentials[1] or ""])

    def hashed(*parts: bytes) -> bytes:
        return hashlib.md5(b":".join(parts), usedforsecurity=False).hexdigest().encode()

    asked = hashed(b"GET", b"/a?b=c", hashed(body))
    parts = (b"n", b"00000001", fields["cnonce"].encode(), b"auth-int", asked)
    assert fields["response"].encode() == hashed(hashed(b"u", b"r", b"p"), *parts)


async def test_a_body_that_is_not_known_cannot_be_protected() -> None:
    server = Server(INSISTING, 200)
    with pytest.raises(UsageError, match="a body that is given as bytes or str"):
        await get(DigestAuth("u", "p"), server, content=[b"a"])
    assert server.sources[0].closed


# netrc


NETRC = """
machine h login user password secret
machine H2.example login "us er" password "pass word"
machine nobody
machine colon login a:b password secret
default login anyone password else
"""


def write(path: Path, text: str | bytes = NETRC) -> Path:
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def read(credentials: str | None) -> str | None:
    return credentials and b64decode(credentials.removeprefix("Basic ")).decode()


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home directory without anything in it."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("USERPROFILE", str(home))
    monkeypatch.delenv("NETRC", raising=False)
    return home


@pytest.mark.parametrize(
    ("url", "credentials"),
    [
        ("http://h/", "user:secret"),
        ("https://H:8443/", "user:secret"),
        ("http://h2.example/", "us er:pass word"),
        ("http://sub.h/", "anyone:else"),
    ],
)
@pytest.mark.parametrize("as_text", [False, True])
async def test_a_host_has_its_login_and_others_the_default(
    url: str, credentials: str, as_text: bool, tmp_path: Path
) -> None:
    path = write(tmp_path / "netrc")
    assert read(await said_by(NetRCAuth(str(path) if as_text else path), url)) == credentials


async def test_without_a_default_other_hosts_have_none(tmp_path: Path) -> None:
    auth = NetRCAuth(write(tmp_path / "netrc", "machine h login user password secret"))
    assert await said_by(auth, "http://other/") is None
    assert await said_by(auth, "http://other/", headers={"Authorization": "own"}) == "own"
    assert read(await said_by(auth, "http://h/", headers={"Authorization": "own"})) == "user:secret"


async def test_the_file_is_read_once_and_not_in_the_loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import netrc

    threads: list[int] = []
    make = netrc.netrc
    second = threading.Barrier(2)

    def noting(*args: Any) -> Any:
        threads.append(threading.get_ident())
        # Whoever else reads it is given time to come.
        with pytest.raises(threading.BrokenBarrierError):
            second.wait(0.2)
        return make(*args)

    monkeypatch.setattr(netrc, "netrc", noting)
    auth = NetRCAuth(write(tmp_path / "netrc"))
    assert threads == []
    said = await asyncio.gather(*(said_by(auth) for _ in range(20)))
    said.append(await said_by(auth))
    assert set(map(read, said)) == {"user:secret"}
    assert len(threads) == 1
    assert threads[0] != threading.get_ident()


async def test_where_the_file_is_looked_for(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert await said_by(NetRCAuth()) is None
    for name, path in (("windows", home / "_netrc"), ("unix", home / ".netrc"), ("named", tmp_path / "netrc")):
        write(path, f"machine h login {name} password x")
        if name == "named":
            monkeypatch.setenv("NETRC", str(path))
        assert read(await said_by(NetRCAuth())) == f"{name}:x"
    assert read(await said_by(NetRCAuth("~/.netrc"))) == "unix:x"
    monkeypatch.setenv("NETRC", str(tmp_path / "missing"))
    assert await said_by(NetRCAuth()) is None
    monkeypatch.setenv("NETRC", "")
    assert read(await said_by(NetRCAuth())) == "unix:x"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("machine h login user secret", "cannot be used: line 1 is malformed"),
        ("\n\nsecret", "cannot be used: line 3 is malformed"),
        (None, "there is no file"),
        ("directory", "cannot be read: Is a directory"),
    ],
)
async def test_a_file_that_cannot_be_used_is_named_without_its_contents(
    text: str | None, said: str, tmp_path: Path
) -> None:
    path = tmp_path / "netrc"
    if text == "directory":
        path.mkdir()
    elif text is not None:
        write(path, text)
    for _ in range(2):
        with pytest.raises(UsageError) as caught:
            await said_by(NetRCAuth(path))
        assert str(caught.value).startswith("netrc: ")
        assert repr(os.fspath(path)) in str(caught.value)
        assert said in str(caught.value)
        assert "secret" not in str(caught.value)
        assert caught.value.__cause__ is None
        assert caught.value.__suppress_context__ or caught.value.__context__ is None


async def test_a_file_of_the_environment_that_cannot_be_used_is_an_error_too(home: Path) -> None:
    write(home / ".netrc", "machine h login user secret")
    with pytest.raises(UsageError, match="netrc: '~/.netrc' cannot be used: line 1 is malformed"):
        await said_by(NetRCAuth())


async def test_a_name_that_basic_cannot_send_is_not_shown(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="^username: ") as caught:
        await said_by(NetRCAuth(write(tmp_path / "netrc")), "http://colon/")
    assert "a:b" not in str(caught.value)


async def test_a_path_that_no_file_can_have() -> None:
    with pytest.raises(UsageError, match=r"^netrc: 'a\\x00b' cannot be used$"):
        await said_by(NetRCAuth("a\0b"))


def test_a_path_that_is_none() -> None:
    path: Any = 1
    with pytest.raises(UsageError, match="^path: takes a path or None, not int$"):
        NetRCAuth(path)
