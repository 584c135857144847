"""
The contenders: one small class for each client, all with the same verbs.

A contender has a method for each act that it can do; which methods it has decides which scenarios it takes part
in. Each returns the status and the length of what was answered, so that all are checked alike. Every library is
used as its documentation shows it, with its defaults, but for what makes the comparison fair: as many connections
as the scenario asks for, idle ones kept for the whole run, HTTP/1.1, and trust in the server's authority.

Nothing is imported before `open`: a process holds one contender's library and no other.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import timedelta
from importlib import import_module
from itertools import repeat
from pathlib import Path
from typing import Any, ClassVar

Answer = tuple[int, int]
"""What came back: the status, and the length of the body (or the number of its lines)."""

KEPT_SECONDS = 3600
PIECE = bytes(65536)
QUESTION = {"query": "aiosock", "filters": ["x" * 60] * 15}
"""About 1 KiB as JSON."""


@dataclass(frozen=True)
class Place:
    """
    Where a contender works.

    Attributes:
        url: What to ask for.
        ca: The authority to trust, a PEM file.
        concurrency: How many requests there are at the same time.
        upload: The file to send.
    """

    url: str
    ca: str
    concurrency: int
    upload: str


class Contender:
    """
    One client.

    Attributes:
        name: What it is called in options and reports.
        distribution: Whose version the report names.
        module: What a user imports.
        entry: The class in it that makes a client.
        crowd: More requests than this at a time are not asked of it: it would take minutes.
    """

    name: ClassVar[str]
    distribution: ClassVar[str] = ""
    module: ClassVar[str] = ""
    entry: ClassVar[str] = ""
    crowd: ClassVar[int] = 10_000

    def __init__(self, place: Place) -> None:
        self.place = place
        self.url = place.url
        self.authority = Path(place.ca).read_bytes()
        self.size = Path(place.upload).stat().st_size
        self.closing = AsyncExitStack()

    async def open(self) -> None:
        """Import the library and make a client."""
        raise NotImplementedError

    async def close(self) -> None:
        """Close the client."""
        await self.closing.aclose()

    def trust(self) -> ssl.SSLContext:
        """Return a context that trusts the server's authority."""
        return ssl.create_default_context(cafile=self.place.ca)

    async def pieces(self) -> AsyncIterator[bytes]:
        """Yield zeros in pieces of 64 KiB, as many as the file to upload has."""
        for piece in repeat(PIECE, self.size // len(PIECE)):
            yield piece


class Aiosock(Contender):
    """This library."""

    name = module = "aiosock"
    entry = "Client"
    distribution = "aiosock-http"

    async def open(self) -> None:
        aiosock = import_module("aiosock")
        limits = aiosock.Limits(max_connections=max(100, self.place.concurrency), keepalive_expiry=KEPT_SECONDS)
        client = aiosock.Client(verify=self.place.ca, limits=limits)
        self.client = await self.closing.enter_async_context(client)

    async def get(self) -> Answer:
        response = await self.client.get(self.url)
        return response.status_code, len(response.content)

    async def post(self) -> Answer:
        response = await self.client.post(self.url, json=QUESTION)
        return response.status_code, len(response.content)

    async def stream(self) -> Answer:
        length = 0
        async with self.client.stream("GET", self.url) as response:
            async for piece in response.iter_bytes():
                length += len(piece)
        return response.status_code, length

    async def lines(self) -> Answer:
        count = 0
        async with self.client.stream("GET", self.url) as response:
            async for _line in response.iter_lines():
                count += 1
        return response.status_code, count

    async def upload_file(self) -> Answer:
        with open(self.place.upload, "rb") as file:  # noqa: ASYNC230 - as a user would
            response = await self.client.put(self.url, content=file)
        return response.status_code, len(response.content)

    async def upload_pieces(self) -> Answer:
        response = await self.client.put(self.url, content=self.pieces())
        return response.status_code, len(response.content)


class Aiohttp(Contender):
    """aiohttp."""

    name = distribution = module = "aiohttp"
    entry = "ClientSession"

    async def open(self) -> None:
        aiohttp = import_module("aiohttp")
        connector = aiohttp.TCPConnector(limit=0, ssl=self.trust(), keepalive_timeout=KEPT_SECONDS)
        self.session = await self.closing.enter_async_context(aiohttp.ClientSession(connector=connector))

    async def get(self) -> Answer:
        async with self.session.get(self.url) as response:
            return response.status, len(await response.read())

    async def post(self) -> Answer:
        async with self.session.post(self.url, json=QUESTION) as response:
            return response.status, len(await response.read())

    async def stream(self) -> Answer:
        length = 0
        async with self.session.get(self.url) as response:
            async for piece in response.content.iter_any():
                length += len(piece)
        return response.status, length

    async def lines(self) -> Answer:
        count = 0
        async with self.session.get(self.url) as response:
            async for _line in response.content:
                count += 1
        return response.status, count

    async def upload_file(self) -> Answer:
        with open(self.place.upload, "rb") as file:  # noqa: ASYNC230 - as a user would
            async with self.session.put(self.url, data=file) as response:
                return response.status, len(await response.read())

    async def upload_pieces(self) -> Answer:
        async with self.session.put(self.url, data=self.pieces()) as response:
            return response.status, len(await response.read())


class Httpx(Contender):
    """httpx."""

    name = distribution = module = "httpx"
    entry = "AsyncClient"
    crowd = 64

    async def open(self) -> None:
        httpx = import_module(self.module)
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=None, keepalive_expiry=KEPT_SECONDS)
        client = httpx.AsyncClient(verify=self.trust(), limits=limits, timeout=60)
        self.client = await self.closing.enter_async_context(client)

    async def get(self) -> Answer:
        response = await self.client.get(self.url)
        return response.status_code, len(response.content)

    async def post(self) -> Answer:
        response = await self.client.post(self.url, json=QUESTION)
        return response.status_code, len(response.content)

    async def stream(self) -> Answer:
        length = 0
        async with self.client.stream("GET", self.url) as response:
            async for piece in response.aiter_bytes():
                length += len(piece)
        return response.status_code, length

    async def lines(self) -> Answer:
        count = 0
        async with self.client.stream("GET", self.url) as response:
            async for _line in response.aiter_lines():
                count += 1
        return response.status_code, count

    async def upload_pieces(self) -> Answer:
        response = await self.client.put(self.url, content=self.pieces())
        return response.status_code, len(response.content)


class Httpx2(Httpx):
    """httpx2, which has httpx's interface."""

    name = distribution = module = "httpx2"


class Niquests(Contender):
    """niquests."""

    name = distribution = module = "niquests"
    entry = "AsyncSession"
    crowd = 64

    async def open(self) -> None:
        niquests = import_module("niquests")
        session = niquests.AsyncSession(
            pool_maxsize=self.place.concurrency, disable_http2=True, disable_http3=True, verify=self.place.ca
        )
        self.session = await self.closing.enter_async_context(session)

    async def get(self) -> Answer:
        response = await self.session.get(self.url)
        return response.status_code, len(response.content)

    async def post(self) -> Answer:
        response = await self.session.post(self.url, json=QUESTION)
        return response.status_code, len(response.content)

    async def stream(self) -> Answer:
        length = 0
        async with await self.session.get(self.url, stream=True) as response:
            async for piece in await response.iter_content(-1):
                length += len(piece)
            return response.status_code, length

    async def lines(self) -> Answer:
        count = 0
        async with await self.session.get(self.url, stream=True) as response:
            async for _line in response.iter_lines():
                count += 1
            return response.status_code, count

    async def upload_pieces(self) -> Answer:
        response = await self.session.put(self.url, data=self.pieces())
        return response.status_code, len(response.content)


class Pyreqwest(Contender):
    """pyreqwest: reqwest, hyper and rustls."""

    name = distribution = "pyreqwest"
    module = "pyreqwest.client"
    entry = "ClientBuilder"

    async def open(self) -> None:
        builder = import_module(self.module).ClientBuilder()
        builder = builder.add_root_certificate_pem(self.authority).pool_idle_timeout(None)
        self.client = await self.closing.enter_async_context(builder.build())

    async def get(self) -> Answer:
        response = await self.client.get(self.url).build().send()
        return response.status, len(await response.bytes())

    async def post(self) -> Answer:
        response = await self.client.post(self.url).body_json(QUESTION).build().send()
        return response.status, len(await response.bytes())

    async def stream(self) -> Answer:
        length = 0
        async with self.client.get(self.url).build_streamed() as response:
            while piece := await response.body_reader.read_chunk():
                length += len(piece)
            return response.status, length

    async def upload_pieces(self) -> Answer:
        response = await self.client.put(self.url).body_stream(self.pieces()).build().send()
        return response.status, len(await response.bytes())


class Wreq(Contender):
    """wreq: a fork of reqwest, and BoringSSL."""

    name = distribution = module = "wreq"
    entry = "Client"

    async def open(self) -> None:
        wreq = import_module("wreq")
        client = wreq.Client(
            http1_only=True,
            tls_verify=wreq.CertStore.from_pem_stack(self.authority),
            pool_idle_timeout=timedelta(seconds=KEPT_SECONDS),
            # Its pool keeps at most this many.
            pool_max_size=max(100, self.place.concurrency),
        )
        self.client = await self.closing.enter_async_context(client)

    async def get(self) -> Answer:
        response = await self.client.get(self.url)
        return response.status.as_int(), len(await response.bytes())

    async def post(self) -> Answer:
        response = await self.client.post(self.url, json=QUESTION)
        return response.status.as_int(), len(await response.bytes())

    async def stream(self) -> Answer:
        length = 0
        response = await self.client.get(self.url)
        async with response.stream() as pieces:
            async for piece in pieces:
                length += len(piece)
        return response.status.as_int(), length

    async def upload_pieces(self) -> Answer:
        response = await self.client.put(self.url, body=self.pieces())
        return response.status.as_int(), len(await response.bytes())


class Ry(Contender):
    """ry: a collection of Rust crates, reqwest among them."""

    name = distribution = module = "ry"
    entry = "Client"

    async def open(self) -> None:
        ry = import_module("ry")
        authority = ry.Certificate.from_pem(self.authority)
        self.client = ry.Client(http1_only=True, tls_certs_only=[authority], pool_idle_timeout=None)

    async def get(self) -> Answer:
        response = await self.client.get(self.url)
        return response.status, len(await response.bytes())

    async def post(self) -> Answer:
        response = await self.client.post(self.url, json=QUESTION)
        return response.status, len(await response.bytes())

    async def stream(self) -> Answer:
        length = 0
        response = await self.client.get(self.url)
        async for piece in response.stream():
            length += len(piece)
        return response.status, length

    async def upload_pieces(self) -> Answer:
        response = await self.client.put(self.url, body=self.pieces())
        return response.status, len(await response.bytes())


class CurlCffi(Contender):
    """curl_cffi: libcurl under asyncio."""

    name = module = "curl_cffi"
    entry = "AsyncSession"
    distribution = "curl-cffi"
    crowd = 64

    async def open(self) -> None:
        session = import_module("curl_cffi").AsyncSession(
            max_clients=self.place.concurrency, verify=self.place.ca, http_version="v1"
        )
        self.session = await self.closing.enter_async_context(session)

    async def get(self) -> Answer:
        response = await self.session.get(self.url)
        return response.status_code, len(response.content)

    async def post(self) -> Answer:
        response = await self.session.post(self.url, json=QUESTION)
        return response.status_code, len(response.content)

    async def stream(self) -> Answer:
        length = 0
        async with self.session.stream("GET", self.url) as response:
            async for piece in response.aiter_content():
                length += len(piece)
        return response.status_code, length

    async def lines(self) -> Answer:
        count = 0
        async with self.session.stream("GET", self.url) as response:
            async for _line in response.aiter_lines():
                count += 1
        return response.status_code, count


class Pycurl(Contender):
    """pycurl: libcurl, blocking; for single large bodies."""

    name = distribution = module = "pycurl"
    entry = "Curl"
    crowd = 1

    async def open(self) -> None:
        self.pycurl = import_module("pycurl")
        self.handle = self.pycurl.Curl()
        self.closing.callback(self.handle.close)

    def perform(self, options: dict[int, Any]) -> Answer:
        """Do one exchange, as libcurl does it: from its start to its end."""
        length = 0

        def count(piece: bytes) -> None:
            nonlocal length
            length += len(piece)

        pycurl, handle = self.pycurl, self.handle
        handle.reset()
        common = {pycurl.URL: self.url, pycurl.CAINFO: self.place.ca, pycurl.WRITEFUNCTION: count}
        for option, value in (common | options).items():
            handle.setopt(option, value)
        handle.perform()
        return handle.getinfo(pycurl.RESPONSE_CODE), length

    async def stream(self) -> Answer:
        return self.perform({self.pycurl.BUFFERSIZE: 262144})

    async def upload_file(self) -> Answer:
        pycurl = self.pycurl
        with open(self.place.upload, "rb") as file:  # noqa: ASYNC230 - it blocks all along
            return self.perform(
                {
                    pycurl.UPLOAD: 1,
                    pycurl.READDATA: file,
                    pycurl.INFILESIZE_LARGE: self.size,
                    pycurl.UPLOAD_BUFFERSIZE: 262144,
                }
            )


PEERS: tuple[type[Contender], ...] = (
    Aiohttp, Httpx, Httpx2, Niquests, Pyreqwest, Wreq, Ry, CurlCffi, Pycurl,
)  # fmt: skip
