"""
Nothing that is shown has a secret: no error with its causes, no repr, no line of the log, no event, no recording.

Where other tests look at one message each, this one lets everything happen, good and bad, and searches all of it.
"""

from __future__ import annotations

import base64
import logging
import traceback
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Final

import pytest

import aiosock
from aiosock import Client, Guard, Request, Response
from aiosock.connection.proxy import Proxy
from aiosock.testing import MockTransport, Peer, Recorder, Server, reply, response

PASSWORD: Final = "pass5ecret"
TOKEN: Final = "token5ecret"
COOKIE: Final = "cookie5ecret"
QUERY: Final = "query5ecret"
PROXY: Final = "proxy5ecret"
FIELD: Final = "field5ecret"
FORM: Final = "form5ecret"
FRAGMENT: Final = "fragment5ecret"
# What all of them have in common, also where Basic has it.
MARKS: Final = ("5ecret", *(base64.b64encode(f"me:{word}".encode()).decode() for word in (PASSWORD, PROXY)))

FIELDS: Final = [
    ("Set-Cookie", f"sid={COOKIE}; Path=/; HttpOnly"),
    ("Set-Cookie", f"a={COOKIE}; Domain=other.example"),
    ("Set-Cookie", f"__Host-a={COOKIE}"),
    ("Link", f"<http://h/?a={QUERY}>; rel=next"),
    ("X-Key", FIELD),
]


def moved(location: str) -> bytes:
    return response(302, headers=[("Location", location), *FIELDS])


def demanding(challenge: str) -> bytes:
    return response(401, headers=[("WWW-Authenticate", challenge), *FIELDS])


ANSWERS: Final = {
    "good": response(body=b"ok", headers=FIELDS),
    "moved": moved(f"/good?token={QUERY}#token={FRAGMENT}"),
    "moved-with-password": moved(f"//me:{PASSWORD}@localhost/?token={QUERY}"),
    "moved-nowhere": moved(f"http://me:{PASSWORD}@[::1/?token={QUERY}"),
    "moved-to-ftp": moved(f"ftp://me:{PASSWORD}@h/?token={QUERY}"),
    "moved-for-ever": moved(f"/moved-for-ever?token={QUERY}"),
    "digest": demanding('Digest realm="r", nonce="n", qop="auth"'),
    "unknown-scheme": demanding(f'Unknown token="{TOKEN}"'),
    "malformed-challenge": demanding(f'Digest {TOKEN}=, Digest "{TOKEN}'),
    "missing": response(404, b"no", FIELDS),
    "busy": response(503, b"no", [("Retry-After", "soon"), *FIELDS]),
    "directives": response(
        headers=[("Strict-Transport-Security", f"max-age={TOKEN}"), ("Cache-Control", f"max-age={TOKEN}")]
    ),
    "control-character": f"HTTP/1.1 200 OK\r\nSet-Cookie: sid={COOKIE}\1\r\n\r\n".encode(),
    "no-colon": f"HTTP/1.1 200 OK\r\nSet-Cookie sid={COOKIE}\r\n\r\n".encode(),
    "too-long": f"HTTP/1.1 200 OK\r\nSet-Cookie: sid={COOKIE * 30_000}\r\n\r\n".encode(),
    "malformed-trailer": f"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX-Key {FIELD}\r\n\r\n".encode(),
    "coded": response(body=f"no gzip: {TOKEN}".encode(), headers=[("Content-Encoding", "gzip"), *FIELDS]),
    "no-json": response(body=f'{{"token": "{TOKEN}" x'.encode()),
    "cut": response(body=b"ok", headers=[("Content-Length", "100")]),
    "nothing": b"",
}


async def serve(peer: Peer) -> None:
    """A host, a proxy that sends on, and one that opens no tunnel and shows what it was asked."""
    while request := await peer.read_request():
        name = request.target.partition("?")[0].rpartition("/")[2]
        if request.method == "CONNECT":
            status = f"HTTP/1.1 403 No {request.header('Proxy-Authorization')}\r\n"
            fields = f"Content-Length: {len(request.raw_head)}\r\n\r\n"
            await peer.send(status.encode() + fields.encode() + request.raw_head)
        else:
            await peer.send(ANSWERS.get(name, ANSWERS["good"]))
        if name in ("nothing", "cut", "too-long"):
            return


async def serve_socks(peer: Peer) -> None:
    """A proxy for SOCKS that likes nobody."""
    if (await peer.read())[0] == 4:
        await peer.send(b"\x00\x5d\0\0\0\0\0\0")
        return
    await peer.send(b"\x05\x02")
    await peer.read()
    await peer.send(b"\x01\x01")


class Shown:
    """Whatever somebody may see."""

    def __init__(self) -> None:
        self.texts: list[tuple[str, str]] = []

    def __call__(self, *things: object, where: str = "event") -> None:
        for thing in things:
            self.texts += [(where, repr(thing)), (where, str(thing))]
            if isinstance(thing, BaseException):
                self.texts.append((where, "".join(traceback.format_exception(thing))))

    async def of(self, where: str, call: Coroutine[Any, Any, Response]) -> None:
        """Keep what becomes of a call."""
        try:
            answer = await call
        except aiosock.AiosockError as error:
            self(error, where=where)
            if isinstance(error, aiosock.ProxyError):
                self(error.response, where=where)
            return
        told = (answer, answer.request, answer.next_request, answer.connection, answer.timings, *answer.history)
        self(*told, answer.cookies, where=where)
        for then in (answer.raise_for_status, answer.json):
            try:
                then()
            except (aiosock.AiosockError, ValueError) as error:
                self(error, where=where)

    @property
    def secret(self) -> list[tuple[str, str]]:
        return [(where, text) for where, text in self.texts if any(mark in text for mark in MARKS)]


def everything(port: int) -> dict[str, Any]:
    return {
        "auth": aiosock.DigestAuth("me", PASSWORD),
        "cookies": {"c": COOKIE},
        "params": {"key": QUERY},
        "headers": {"X-Key": FIELD},
        "retry": aiosock.Retry(2, backoff=0),
        "middleware": [aiosock.HSTS(), aiosock.Cache(), aiosock.Coalesce(), aiosock.CircuitBreaker()],
    }


WAYS: Final[dict[str, Callable[[int], dict[str, Any]]]] = {
    "plain": lambda port: {},
    "everything": everything,
    "guard": lambda port: {"guard": Guard(), "auth": aiosock.BearerAuth(TOKEN)},
    "http-proxy": lambda port: {"proxy": f"http://me:{PROXY}@127.0.0.1:{port}"},
    "proxy-with-fields": lambda port: {
        "proxy": {"all://": Proxy(f"http://127.0.0.1:{port}", auth=("me", PROXY), headers={"X-Key": f"Bearer {FIELD}"})}
    },
    "no-socks-proxy": lambda port: {"proxy": f"socks5://me:{PROXY}@127.0.0.1:{port}"},
    "no-socks4-proxy": lambda port: {"proxy": f"socks4a://{PROXY}@127.0.0.1:{port}"},
    "no-proxy-at-all": lambda port: {"proxy": f"http://me:{PROXY}@127.0.0.1:1"},
    "mock": lambda port: {"transport": MockTransport({f"GET /good?a={QUERY}": reply(headers=FIELDS)})},
}


@pytest.mark.parametrize("way", WAYS)
async def test_whatever_becomes_of_a_request_no_secret_is_shown(way: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    shown = Shown()
    async with Server(serve_socks if "socks" in way else serve) as server:
        options = WAYS[way](server.port)
        async with Client(trust_env=False, timeout=5, max_redirects=2, on_event=shown, **options) as client:
            shown(client, client.auth, client.cookies, client.cookies.jar, where="client")
            place = f"127.0.0.1:{server.port}"
            for name in ANSWERS:
                url = f"http://me:{PASSWORD}@{place}/{name}?a={QUERY}#{FRAGMENT}"
                await shown.of(name, client.get(url))
            url = f"http://{place}/good?a={QUERY}#{FRAGMENT}"
            await shown.of("form", client.post(url, data={"password": FORM}))
            await shown.of("fields", client.get(url, headers={"Authorization": f"Bearer {TOKEN}", "Cookie": COOKIE}))
            await shown.of("bad field", client.get(url, headers={"X-Key": f"{FIELD}\n"}))
            await shown.of("coded field", client.get(url, headers={"X-Key": f"{FIELD}\u20ac"}))
            await shown.of("bad cookie", client.get(url, cookies={"a": f"{COOKIE}\n"}))
            await shown.of("tls", client.get(f"https://me:{PASSWORD}@127.0.0.1:1/?a={QUERY}"))
            for place in ("[::1", "h:99999", "h h", "", f"{PASSWORD}@127.0.0.1:1"):
                await shown.of(place, client.get(f"http://me:{PASSWORD}@{place}/?a={QUERY}"))
            await shown.of("scheme", client.get(f"ftp://me:{PASSWORD}@h/?a={QUERY}"))
            await shown.of("no scheme", client.get(f"me:{PASSWORD}@h/?a={QUERY}"))
            shown(client, client.cookies.jar, where="client")
    assert len(shown.texts) > 100
    logged = [record for record in caplog.records if record.name.startswith("aiosock")]
    assert logged or way == "mock"
    shown(*(record.getMessage() for record in caplog.records), where="log")
    assert shown.secret == []
    # What was not sent is not shown by chance.
    sent = "".join(request.raw_head.decode("latin-1") for request in server.requests)
    assert QUERY in sent or way in ("guard", "no-proxy-at-all", "mock") or "socks" in way


@pytest.mark.parametrize(
    "make",
    [
        lambda: Request("GET", f"http://me:{PASSWORD}@h/?a={QUERY}", headers={"Cookie": COOKIE}, content=FORM),
        lambda: Request("POST", f"http://me:{PASSWORD}@h/?a={QUERY}", content=FORM, json=FORM),
        lambda: Request("POST", "http://h/", data=FORM),
        lambda: Response(200, headers=FIELDS, content=FORM.encode()),
        lambda: aiosock.BasicAuth("me", PASSWORD),
        lambda: aiosock.BasicAuth("me:you", PASSWORD),
        lambda: aiosock.BasicAuth("me", f"{PASSWORD}\n"),
        lambda: aiosock.DigestAuth("me", PASSWORD),
        lambda: aiosock.DigestAuth("me\n", PASSWORD),
        lambda: aiosock.BearerAuth(TOKEN),
        lambda: aiosock.BearerAuth(f"{TOKEN}\n"),
        lambda: Client(auth=("me", PASSWORD, "x")),  # type: ignore[arg-type]  # that is the fault
        lambda: Client(auth=f"me:{PASSWORD}"),  # type: ignore[arg-type]  # as above
        lambda: Client(base_url=f"http://me:{PASSWORD}@h h/?a={QUERY}"),
        lambda: Client(cookies=COOKIE),  # type: ignore[arg-type]  # as above
        lambda: Client(cookies={"a": f"{COOKIE}\n"}),
        lambda: Client(headers={"Authorization": (TOKEN,)}),  # type: ignore[dict-item]  # as above
        lambda: Client(proxy=f"ftp://me:{PROXY}@h"),
        lambda: Client(proxy=f"http://me:{PROXY}@h:0"),
        lambda: Client(proxy=f"http://me:{PROXY}/@h"),
        lambda: Client(proxy={f"http://me:{PROXY}@h": None}),
        lambda: Proxy(f"http://me:{PROXY}@h", headers={"X-Key": FIELD}),
        lambda: Proxy("http://h", auth=("me", f"{PROXY}\n")),
        lambda: Proxy("http://h", headers={"X-Key": f"{FIELD}\n"}),
        lambda: MockTransport({f"GET http://me:{PASSWORD}@h h/?a={QUERY}": reply()}),
        lambda: MockTransport({f"GET /?a={QUERY}": 3}),  # type: ignore[dict-item]  # as above
        lambda: Recorder("file", secret_patterns=[f"({TOKEN}"]),
    ],
)
def test_whatever_is_made_or_refused_shows_no_secret(make: Callable[[], object]) -> None:
    shown = Shown()
    try:
        made = make()
    except aiosock.AiosockError as error:
        shown(error, where="error")
    else:
        shown(made, where="made")
    assert shown.secret == []


async def test_a_recording_has_no_secret(tmp_path: Path) -> None:
    path = tmp_path / "recording.jsonl"
    recorder = Recorder(path, secret_params=["a", "token", "password"], secret_headers=["X-Key"])
    # What is a secret in other places only who wrote the server can know.
    names = [name for name, answer in ANSWERS.items() if TOKEN.encode() not in answer]
    async with (
        Server(serve) as server,
        recorder,
        Client(trust_env=False, max_redirects=2, middleware=[recorder]) as client,
    ):
        for name in names:
            url = f"http://me:{PASSWORD}@127.0.0.1:{server.port}/{name}?a={QUERY}"
            await Shown().of(name, client.get(url, headers={"X-Key": FIELD}, cookies={"c": COOKIE}))
        url = f"http://127.0.0.1:{server.port}/good"
        await client.post(url, data={"password": FORM}, headers={"Authorization": f"Bearer {TOKEN}"})
        await client.post(url, data={"password": FORM}, files={"a": b"file"})
    text = path.read_text()
    assert text.count("\n") > len(names)
    assert [mark for mark in MARKS if mark in text] == []
