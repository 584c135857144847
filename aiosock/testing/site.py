"""
The site of the demo: a small web of pages to point a client at, and an ordinary peer for tests.

``site`` is a script for ``aiosock.testing.Server``. What it serves is made up on the spot and the same every
time. It is no web server: there are no files, no limits against abuse, and no reason to let strangers reach
it. Unlike other scripts it must never fail because of what a client sends; that is answered with 400.

To add a page, write a function from ``Visit`` to ``Answer`` and enter it in ``PAGES``.
"""

from __future__ import annotations

import asyncio
import gzip
import html
import json
import math
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, urlsplit

from aiosock.testing.message import BadRequest, ReceivedRequest, encode_chunk, reason_phrase, response
from aiosock.testing.server import IncomingBody, Peer

PAGE_COUNT = 100
MAX_SLOW_SECONDS = 5.0
MAX_LARGE_BYTES = 1024**3
MAX_CHUNKS = 100_000
MAX_CHUNK_BYTES = 1024**2
MAX_LINES = 1_000_000
PIECE = b"0123456789abcdef" * 4096
LINKS = (
    "/page/0",
    "/json",
    "/chunked?chunks=5&size=100",
    "/gzip",
    "/slow",
    "/large?bytes=1048576",
    "/redirect/3",
    "/status/404",
    "/echo",
    "/upload",
    "/robots.txt",
    "/lines?count=10",
    "/events",
)

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
HTML = "text/html; charset=utf-8"
TEXT = "text/plain; charset=utf-8"
JSON = "application/json"


@dataclass(frozen=True, slots=True)
class Visit:
    """
    One request for a page.

    Attributes:
        request: Its head.
        body: Its body, not read yet.
        rest: What follows the page's name in the path, as ``7`` in ``/page/7``.
        query: The parameters of the query; of repeated ones, the last.
    """

    request: ReceivedRequest
    body: IncomingBody
    rest: str
    query: dict[str, str]

    def number(self, name: str, default: float, most: float) -> float:
        """
        Return a parameter of the query, cut to the range from 0 to ``most``.

        Raises:
            BadRequest: It is not a number.
        """
        try:
            value = float(self.query.get(name, default))
        except ValueError:
            value = math.nan
        if math.isnan(value):
            raise BadRequest(f"{name} is not a number: {self.query[name]!r}")
        return min(max(value, 0), most)


@dataclass(frozen=True, slots=True)
class Answer:
    """
    What a page answers.

    Attributes:
        body: All of it, or its pieces; pieces are sent as the client takes them, each that is not empty as
            one chunk unless ``length`` is known.
        content_type: The media type of the body.
        status: The status code.
        headers: Further headers.
        length: The size of a body in pieces, in bytes.
    """

    body: bytes | Iterable[bytes] = b""
    content_type: str = HTML
    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    length: int | None = field(default=None, kw_only=True)


Page = Callable[[Visit], Awaitable[Answer]]


async def site(peer: Peer) -> None:
    """Serve the pages of the demo to one connection, for as many requests as the client likes to send."""
    try:
        while request := await peer.read_head():
            if not await _serve(peer, request):
                return
    except BadRequest as error:
        fields = [("Content-Type", TEXT), ("Connection", "close")]
        await peer.send(response(400, f"{error}\n".encode(), fields))


async def index(visit: Visit) -> Answer:
    """``/``: links to all the others."""
    return Answer(_html("A small site", "It is made up on the spot for the demo and for tests.", LINKS))


async def page(visit: Visit) -> Answer:
    """``/page/N``: one of a hundred pages, each with links to three others; a web to crawl."""
    number = _whole(visit.rest)
    if number is None or number >= PAGE_COUNT:
        return await missing(visit)
    links = [f"/page/{target % PAGE_COUNT}" for target in (number + 1, 2 * number + 1, 3 * number + 2)]
    return Answer(_html(f"Page {number}", f"This is page {number} of {PAGE_COUNT}.", links))


async def some_json(visit: Visit) -> Answer:
    """``/json``: a JSON document with something of each kind in it."""
    document = {"name": "aiosock", "numbers": [1, 2.5, -3], "text": "grüße ☂", "true": True, "null": None}
    return Answer(_json(document), JSON)


async def chunked(visit: Visit) -> Answer:
    """``/chunked?chunks=5&size=100``: so many chunks, of so many bytes each."""
    count = int(visit.number("chunks", 5, MAX_CHUNKS))
    size = int(visit.number("size", 100, MAX_CHUNK_BYTES))
    return Answer(((b"%d" % (number % 10)) * size for number in range(count)), TEXT)


async def gzipped(visit: Visit) -> Answer:
    """``/gzip``: HTML with the content coding gzip, whatever the client accepts."""
    body = gzip.compress(_html("Compressed", "This page travels compressed. " * 50, ["/"]), mtime=0)
    return Answer(body, headers=(("Content-Encoding", "gzip"),))


async def slow(visit: Visit) -> Answer:
    """``/slow?seconds=0.05``: an answer that takes its time, at most five seconds."""
    seconds = visit.number("seconds", 0.05, MAX_SLOW_SECONDS)
    await asyncio.sleep(seconds)
    return Answer(f"This took {seconds:g} seconds.\n".encode(), TEXT)


async def large(visit: Visit) -> Answer:
    """``/large?bytes=1048576``: so many bytes, at most 1 GiB; the hexadecimal digits, over and over."""
    size = int(visit.number("bytes", 1024**2, MAX_LARGE_BYTES))
    pieces = (PIECE[: size - start] for start in range(0, size, len(PIECE)))
    return Answer(pieces, "application/octet-stream", length=size)


async def redirect(visit: Visit) -> Answer:
    """``/redirect/N``: the first of N redirections that end at ``/``."""
    hops = _whole(visit.rest)
    if not hops:
        return await missing(visit)
    location = "/" if hops == 1 else f"/redirect/{hops - 1}"
    return Answer(b"", TEXT, 302, (("Location", location),))


async def status(visit: Visit) -> Answer:
    """``/status/CODE``: an answer with that status, from 200 to 599."""
    code = _whole(visit.rest)
    if code is None or not 200 <= code <= 599:
        return await missing(visit)
    return Answer(f"{code} {reason_phrase(code)}\n".encode(), TEXT, code)


async def echo(visit: Visit) -> Answer:
    """``/echo``: method, target, headers, body and trailers of the request, as JSON."""
    pieces: list[bytes] = []
    while piece := await visit.body.read():
        pieces.append(piece)
    document = {
        "method": visit.request.method,
        "target": visit.request.target,
        "headers": visit.request.headers,
        "body": b"".join(pieces).decode("utf-8", "backslashreplace"),
        "trailers": visit.body.trailers,
    }
    return Answer(_json(document), JSON)


async def upload(visit: Visit) -> Answer:
    """``/upload``: how many bytes the body of the request has, as JSON; they are counted and thrown away."""
    count = 0
    while piece := await visit.body.read():
        count += len(piece)
    return Answer(_json({"bytes": count}), JSON)


async def robots(visit: Visit) -> Answer:
    """``/robots.txt``: what a crawler should stay away from."""
    return Answer(b"User-agent: *\nDisallow: /status/\nDisallow: /slow\nDisallow: /large\n", TEXT)


async def lines(visit: Visit) -> Answer:
    """``/lines?count=10``: so many lines of JSON, each of them a chunk."""
    count = int(visit.number("count", 10, MAX_LINES))
    return Answer((_json({"line": number}) for number in range(count)), "application/x-ndjson")


async def events(visit: Visit) -> Answer:
    """``/events``: a few server-sent events, with something of each kind in them."""
    stream = [
        b": a comment\nretry: 1000\n\n",
        b"data: plain\n\n",
        b"id: 1\nevent: greeting\ndata: hello\n\n",
        "id: 2\ndata: two lines,\ndata: grüße\n\n".encode(),
    ]
    return Answer(stream, "text/event-stream", headers=(("Cache-Control", "no-store"),))


async def missing(visit: Visit) -> Answer:
    """Anything else: 404."""
    return Answer(b"There is no such page.\n", TEXT, 404)


# A name with a slash at its end stands for what is below it.
PAGES: dict[str, Page] = {
    "/": index,
    "/page/": page,
    "/json": some_json,
    "/chunked": chunked,
    "/gzip": gzipped,
    "/slow": slow,
    "/large": large,
    "/redirect/": redirect,
    "/status/": status,
    "/echo": echo,
    "/upload": upload,
    "/robots.txt": robots,
    "/lines": lines,
    "/events": events,
}


def _find(path: str) -> tuple[Page, str]:
    """Return the page at a path, and what follows its name there."""
    folder, _, rest = path.rpartition("/")
    if path in PAGES:
        return PAGES[path], ""
    return PAGES.get(f"{folder}/", missing) if folder else missing, rest


async def _serve(peer: Peer, request: ReceivedRequest) -> bool:
    """Answer one request; return whether the connection can take another."""
    try:
        url = urlsplit(request.target)
    except ValueError as error:
        raise BadRequest(f"not a request target: {request.target!r}") from error
    wanted, rest = _find(url.path)
    keep = request.http_version == "HTTP/1.1" and "close" not in request.header_tokens("Connection")
    visit = Visit(request, peer.open_body(request), rest, dict(parse_qsl(url.query)))
    if "100-continue" in request.header_tokens("Expect"):
        if wanted is missing:
            # The client may now leave its body out, and nobody could tell where the next request begins.
            await _send(peer, request, await missing(visit), keep=False)
            return False
        await peer.send(CONTINUE)
    answer = await wanted(visit)
    while await visit.body.read():
        continue  # what the page did not want is in the way of the next request
    await _send(peer, request, answer, keep=keep)
    return keep


async def _send(peer: Peer, request: ReceivedRequest, answer: Answer, *, keep: bool) -> None:
    fields = [("Content-Type", answer.content_type), *answer.headers]
    if not keep:
        fields.append(("Connection", "close"))
    if answer.status in (204, 304):
        await peer.send(response(answer.status, b"", fields))
        return
    length = len(answer.body) if isinstance(answer.body, bytes) else answer.length
    chunked = length is None and request.http_version == "HTTP/1.1"
    if chunked:
        fields.append(("Transfer-Encoding", "chunked"))
    elif length is not None:
        fields.append(("Content-Length", str(length)))
    head = response(answer.status, b"", fields, until_close=length is None and not chunked)
    if request.method == "HEAD":
        await peer.send(head)
    elif isinstance(answer.body, bytes):
        await peer.send(head + answer.body)
    else:
        await peer.send(head)
        for piece in filter(None, answer.body):
            await peer.send(encode_chunk(piece) if chunked else piece)
            await asyncio.sleep(0)  # a client that takes all at once must not keep the others waiting
        if chunked:
            await peer.send(encode_chunk(b""))


def _html(title: str, text: str, links: Iterable[str]) -> bytes:
    items = "".join(f'<li><a href="{html.escape(link)}">{html.escape(link)}</a></li>\n' for link in links)
    return (
        f'<!doctype html>\n<html lang="en">\n<head><title>{title}</title></head>\n'
        f"<body>\n<h1>{title}</h1>\n<p>{text}</p>\n<ul>\n{items}</ul>\n</body>\n</html>\n"
    ).encode()


def _json(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode() + b"\n"


def _whole(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else None
