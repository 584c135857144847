"""
`aiosock URL`: one request, its answer printed.

The body goes to the output as it arrives and is never gathered. With `-v`, heads and timings go to standard error,
credentials and cookies left out.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from rich.console import Console
from rich.text import Text

import aiosock
from aiosock import Client, ConnectionInfo, Request, Response, Timeout
from aiosock.cli import terminal, timeline
from aiosock.cli.output import Output, OutputError, opened
from aiosock.client.options import RequestOptions
from aiosock.message import trace
from aiosock.message.multipart import FileValue
from aiosock.middleware.auth import AuthInput

FAILED_STATUS = 22
SECRET_FIELDS = frozenset({"authorization", "proxy-authorization", "cookie", "set-cookie"})
WATERFALL_CELLS = 40
HOP_CELLS = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetch:
    """
    What to do.

    Attributes:
        url: Absolute.
        method: A token.
        headers: Names and values.
        without: Names of headers that the client would send by itself, and that are not wanted.
        content: The body.
        files: The body as a multipart form, names and values as ``files=`` takes them.
        auth: User and password, or what authenticates otherwise.
        proxy: The proxy to go through, empty for none; None leaves that to the environment.
        output: The path to write to, None for standard output; see `output.opened`.
        head_only: Print the head of the answer, and give its body up.
        verbose: Show heads and timings on standard error.
        timeline: Print where the time went, instead of the answer.
        follow_redirects: Follow redirects.
        verify: Verify certificates.
        fail: Treat a 4xx or 5xx as a failure.
        max_seconds: The time for everything; None leaves the client's timeouts for each stage.
    """

    url: str
    method: str = "GET"
    headers: list[tuple[str, str]] = field(default_factory=list)
    without: list[str] = field(default_factory=list)
    content: bytes | None = None
    files: Sequence[tuple[str, FileValue]] = ()
    auth: AuthInput | None = None
    proxy: str | None = None
    output: str | None = None
    head_only: bool = False
    verbose: bool = False
    timeline: bool = False
    follow_redirects: bool = False
    verify: bool = True
    fail: bool = False
    max_seconds: float | None = None


def fetch(what: Fetch) -> int:
    """
    Send the request, print the answer, and return the exit status.

    Raises:
        UsageError: The request cannot be made.
        RequestError: It failed.
        OutputError: The answer cannot be written.
        BrokenPipeError: Whoever read the output has left.
    """
    with opened(what.output) as output:
        status = aiosock.run(_fetch(what, output))
        output.complete = status == 0
    return status


async def _fetch(what: Fetch, output: Output) -> int:
    # Who says how long all may take is not bothered with how long each stage may.
    timeout = Timeout() if what.max_seconds is None else None
    report = Report(terminal.console(sys.stderr)) if what.verbose else None
    client = Client(
        timeout=timeout,
        verify=what.verify,
        follow_redirects=what.follow_redirects,
        auth=what.auth,
        on_event=report,
    )
    for name in what.without:
        client.headers.popall(name, None)
    try:
        async with asyncio.timeout(what.max_seconds), client:
            return await _exchange(what, client, output, report)
    except aiosock.AiosockError:
        raise  # Some are TimeoutErrors too.
    except TimeoutError as error:
        raise aiosock.TotalTimeout(f"not done within {what.max_seconds:g} seconds (--max-time)") from error


async def _exchange(what: Fetch, client: Client, output: Output, report: Report | None) -> int:
    options: RequestOptions = {"headers": what.headers, "content": what.content, "files": what.files or None}
    if what.proxy is not None:
        options["proxy"] = what.proxy or None
    if report:
        options["on_informational"] = report.informational
    async with client.stream(what.method, what.url, **options) as response:
        failed = what.fail and response.status_code >= 400
        if what.timeline:
            async for _ in response.iter_raw():
                pass
        elif what.head_only:
            for one in (*response.history, response):
                await _print_head(one, output)
        elif not failed:
            await _print_body(response, output)
    if report:
        report.timeline(response)
    if what.timeline:
        for line in timeline.hops(response, HOP_CELLS, coloured=output.is_terminal):
            terminal.console(sys.stdout).print(line)
    if failed:
        said = terminal.printable(f"{response.status_code} {response.reason}".rstrip())
        print(f"aiosock: the server answered {said}", file=sys.stderr)
        return FAILED_STATUS
    return 0


async def _print_head(response: Response, output: Output) -> None:
    head = "".join(f"{line}\n" for line in (_status_line(response), *_field_lines(response.headers.items()), ""))
    # Fields are latin-1 on the wire, and leave as they came.
    await output.write(terminal.printable_text(head).encode() if output.is_terminal else head.encode("latin-1"))


async def _print_body(response: Response, output: Output) -> None:
    if not output.is_terminal:
        async for piece in response.iter_bytes():
            await output.write(piece)
        return
    last = "\n"
    async for text in response.iter_text():
        if "\0" in text:
            raise OutputError(
                "the body is binary, which is not for a terminal; -o FILE saves it, -o - prints it anyway"
            )
        await output.write(terminal.printable_text(text).encode())
        last = text[-1:] or last
    if last != "\n":
        await output.write(b"\n")


class Report:
    """
    Says on a console what goes over the wire, secrets left out.

    Args:
        console: Where to.
    """

    def __init__(self, console: Console) -> None:
        self._console = console

    def __call__(self, event: trace.Event) -> None:
        """Show the heads that go out and come in, each on its connection."""
        if isinstance(event, trace.ConnectionAcquired):
            self._connection(event.connection)
        elif isinstance(event, trace.RequestHeadSent):
            self._request(event.request)
        elif isinstance(event, trace.ResponseHeadReceived):
            response = event.response
            self._head("<", _status_line(response), response.headers.items())

    def informational(self, response: Response) -> None:
        """Show the head of a 1xx answer."""
        self._head("<", _status_line(response), response.headers.items())

    def timeline(self, response: Response) -> None:
        """Show where the time went."""
        coloured = self._console.is_terminal
        for line in timeline.waterfall(timeline.journey(response), WATERFALL_CELLS, coloured=coloured):
            self._line("*", line)

    def _connection(self, connection: ConnectionInfo) -> None:
        negotiated = (connection.tls_version, connection.cipher, connection.alpn)
        words = [f"{'reused' if connection.reused else 'new'} connection to {connection.remote_address}"]
        self._line("*", Text(", ".join([*words, *filter(None, negotiated)])))

    def _request(self, request: Request) -> None:
        fields = list(request.headers.items())
        host = next((value for name, value in fields if name.lower() == "host"), request.location.authority)
        others = [(name, value) for name, value in fields if name.lower() != "host"]
        self._head(">", f"{request.method} {request.target} HTTP/1.1", [("Host", host), *others])

    def _head(self, mark: str, first: str, fields: Iterable[tuple[str, str]]) -> None:
        self._line(mark, Text(terminal.printable(first), "bold"))
        hidden = [(name, "[redacted]" if name.lower() in SECRET_FIELDS else value) for name, value in fields]
        for line in _field_lines(hidden):
            self._line(mark, Text(terminal.printable(line)))
        self._line(mark, Text())

    def _line(self, mark: str, line: Text) -> None:
        self._console.print(Text.assemble((mark, "bright_black"), " " if line else "", line))


def _status_line(response: Response) -> str:
    return f"{response.http_version} {response.status_code} {response.reason}".rstrip()


def _field_lines(fields: Iterable[tuple[str, str]]) -> list[str]:
    return [f"{name}: {value}" for name, value in fields]
