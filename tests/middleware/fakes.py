"""Servers that are no more than functions, and requests that authenticate."""

from __future__ import annotations

from typing import Any

from multidict import CIMultiDict

from aiosock.message.request import Request
from aiosock.message.response import Response
from aiosock.middleware.auth import Auth, authenticate


class Source:
    """A body of a few bytes."""

    def __init__(self, data: bytes = b"") -> None:
        self.trailers: CIMultiDict[str] | None = None
        self.data = data
        self.received = False
        self.closed = False

    async def receive(self) -> bytes:
        self.received = True
        data, self.data = self.data, b""
        return data

    def take_whole(self) -> bytes | None:
        return None

    def check_deadline(self) -> None:
        pass

    def lift_deadline(self) -> None:
        raise AssertionError

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        raise AssertionError


Reply = int | tuple[int, dict[str, str]] | Exception


class Server:
    """Answers with what it is given, the last of it for ever."""

    def __init__(self, *replies: Reply) -> None:
        self.replies = list(replies)
        self.requests: list[Request] = []
        self.sources: list[Source] = []

    async def __call__(self, request: Request) -> Response:
        self.requests.append(request)
        reply = self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
        if isinstance(reply, Exception):
            raise reply
        status, headers = (reply, {}) if isinstance(reply, int) else reply
        self.sources.append(Source(b"answer %d" % len(self.requests)))
        return Response(status, headers=headers, request=request, source=self.sources[-1])

    @property
    def urls(self) -> list[str]:
        return [str(request.url) for request in self.requests]

    @property
    def credentials(self) -> list[str | None]:
        return [request.headers.get("Authorization") for request in self.requests]


def request(auth: object, method: str = "GET", url: str = "http://h/", **options: Any) -> Request:
    made = Request(method, url, **options)
    made.extensions["auth"] = auth
    return made


async def said_by(auth: Auth, url: str = "http://h/", **options: Any) -> str | None:
    """Return the Authorization of the one request that an Auth sends."""
    server = Server(200)
    await authenticate(request(auth, url=url, **options), server)
    [credentials] = server.credentials
    return credentials
