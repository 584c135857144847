"""
A recorder: what servers answered once is kept in a file, and played back without a network.

It is a middleware, so that a client keeps its own way to the network, TLS and proxies included. The best place is the
last of the list, next to the network. There it sees every request, those of redirects too, and authentication and
cookies are added below it: most secrets never come near it. The others are taken out before anything is written.

The file has lines of JSON (see `aiosock.testing.recording`), to be read, compared and kept beside the tests.
"""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Final, Literal, Self, TypeAlias, get_args

from multidict import CIMultiDict

from aiosock.errors import IncompleteBody, UsageError
from aiosock.message.body import BytesBody
from aiosock.message.iteration import BodySource, BodyWrapper
from aiosock.message.request import Request
from aiosock.message.response import Response
from aiosock.middleware.chain import Send
from aiosock.testing.answers import IterableSource, gathered, shown
from aiosock.testing.bounds import Bounds
from aiosock.testing.recording import Pattern, Recorded, Secrets, encode, parse

Mode: TypeAlias = Literal["once", "record", "replay"]

MODES: Final = get_args(Mode)

_Key: TypeAlias = tuple[str, str, bytes]


class Recorder:
    """
    Records exchanges to a file, or plays them back::

        async with Recorder("prices.jsonl") as recorder, Client(middleware=[recorder]) as client:
            ...

    In playback a request gets the answer that was recorded for its method, URL and body; equal requests get theirs in
    the order in which they were sent. Pauses and pieces of bodies are not kept, nor are requests that failed. A body
    that was given up before its end is kept as far as it was read, and breaks there with `IncompleteBody`.

    The file is written when the block is left, or by `close`, in one step; not when the block is left by an exception.
    Many requests may be under way at the same time. Bodies are held in memory.

    Args:
        path: The file; its folder is made where there is none.
        mode: ``"once"`` plays back a file that is there, and records one that is not. ``"record"`` records anew,
            ``"replay"`` never goes to the network.
        secret_headers: Fields whose values are left out, besides those of `SECRET_HEADERS`.
        secret_params: Parameters of queries and of forms whose values are left out, in the URL, in fields that hold
            URLs, and in bodies that are forms, those in parts too. A value that has such a parameter beneath its
            percent-encoding is left out whole.
        secret_patterns: Regular expressions; what they match in a body is left out, or only their groups, where they
            have some. A body is decoded for that, and kept so where they match.

    Raises:
        UsageError: Another mode, a path that is none, a name that is no str, or a pattern that is no regular
            expression.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        mode: Mode = "once",
        secret_headers: Iterable[str] = (),
        secret_params: Iterable[str] = (),
        secret_patterns: Iterable[Pattern] = (),
    ) -> None:
        if mode not in MODES:
            raise UsageError(f"Recorder: mode is one of {', '.join(MODES)}, not {mode!r}")
        if not isinstance(path, (str, os.PathLike)):
            raise UsageError(f"Recorder: path takes a str or a path, not {type(path).__name__}")
        self._path = Path(path)
        self._mode: Mode = mode
        self._secrets = Secrets(secret_headers, secret_params, secret_patterns)
        self._opening = asyncio.Lock()
        # What is played back; None while nothing was opened, or while recording.
        self._answers: dict[_Key, deque[Recorded]] | None = None
        self._is_open = False
        self._recorded: list[Recorded] = []

    async def __call__(self, request: Request, next: Send, /) -> Response:
        """
        Return what was recorded for the request, or send it and record the answer.

        Raises:
            UsageError: There is nothing recorded for it, or the file cannot be used.
        """
        await self._open()
        bounds = Bounds(request)
        request = await gathered(request, bounds)
        if self._answers is not None:
            return self._play(request, self._answers)
        recorded = Recorded(request.method, _url(request), list(request.headers.items()), _body(request))
        # In the order of requests, whichever answer comes first.
        self._recorded.append(recorded)
        response = await next(request)
        recorded.status, recorded.reason = response.status_code, response.reason
        # To one type checker, a property is no place for the protocol's attribute.
        response.wrap_body(lambda source: _Kept(source, recorded))
        # Only now: of a response that was read already, the codings are undone.
        recorded.response_headers = list(response.headers.items())
        return response

    async def __aenter__(self) -> Self:
        await self._open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is None:
            await self.close()

    async def close(self) -> None:
        """
        Write what was recorded, if anything was; again is no harm.

        Raises:
            UsageError: The file cannot be written.
        """
        recorded, self._recorded = self._recorded, []
        if any(one.status is not None for one in recorded):
            await asyncio.to_thread(self._write, recorded)

    async def _open(self) -> None:
        if self._is_open:
            return
        async with self._opening:
            if not self._is_open:
                self._answers = await asyncio.to_thread(self._read)
                self._is_open = True

    def _read(self) -> dict[_Key, deque[Recorded]] | None:
        if self._mode == "record":
            return None
        try:
            text = self._path.read_text(encoding="utf-8")
        except FileNotFoundError:
            if self._mode == "once":
                return None
            raise UsageError(f"the recording {self._path} is not there; mode='once' makes it") from None
        except (OSError, ValueError) as error:
            raise UsageError(f"the recording {self._path} cannot be read: {_reason(error)}") from error
        answers: dict[_Key, deque[Recorded]] = {}
        for one in parse(text, str(self._path)):
            answers.setdefault(one.key, deque()).append(one)
        return answers

    def _write(self, recorded: list[Recorded]) -> None:
        text = encode(self._secrets.redacted(one) for one in recorded)
        # Beside it, so that it can take its place in one step.
        new = self._path.with_name(f".{self._path.name}.{os.getpid()}.new")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            try:
                new.write_text(text, encoding="utf-8", newline="\n")
                new.replace(self._path)
            finally:
                new.unlink(missing_ok=True)
        except (OSError, ValueError) as error:
            raise UsageError(f"the recording {self._path} cannot be written: {_reason(error)}") from error

    def _play(self, request: Request, answers: dict[_Key, deque[Recorded]]) -> Response:
        asked = Recorded(request.method, _url(request), list(request.headers.items()), _body(request))
        left = answers.get(self._secrets.redacted(asked).key)
        if not left:
            known = "no answer" if left is None else "no more answers"
            raise UsageError(f"the recording {self._path} has {known} to {shown(request)}; mode='record' makes it anew")
        one = left.popleft()
        return Response(
            one.status or 0,
            headers=one.response_headers,
            reason=one.reason,
            request=request,
            source=_Played(one),
        )


class _Kept(BodyWrapper):
    """A body whose bytes are kept as they come."""

    def __init__(self, inner: BodySource, recorded: Recorded) -> None:
        super().__init__(inner)
        self._recorded = recorded

    async def receive(self) -> bytes:
        piece = await self.inner.receive()
        if piece:
            self._recorded.content += piece
        else:
            self._recorded.complete = True
            self._recorded.trailers = list((self.trailers or CIMultiDict()).items())
        return piece


class _Played(IterableSource):
    """A body out of a recording."""

    def __init__(self, one: Recorded) -> None:
        super().__init__([bytes(one.content)], one.trailers or None)
        self._complete = one.complete

    async def receive(self) -> bytes:
        piece = await super().receive()
        if not piece and not self._complete:
            raise IncompleteBody("the body was given up here when it was recorded")
        return piece


def _url(request: Request) -> str:
    """Return the URL as it goes over the network."""
    location = request.location
    return f"{location.scheme}://{location.authority}{request.target}"


def _body(request: Request) -> bytes:
    return bytes(request.body.data) if isinstance(request.body, BytesBody) else b""


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
