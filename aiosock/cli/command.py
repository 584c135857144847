"""
What can be typed after `aiosock`: options, their checks, and the exit status of each ending.

Nothing here talks HTTP; the commands do their work in `fetch` and `demo`, and raise what goes wrong.
"""

from __future__ import annotations

import math
import os
import platform
import re
import sys
from base64 import b64encode
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import BinaryIO

import click

from aiosock import AiosockError, DigestAuth, UsageError, __version__
from aiosock.cli import terminal
from aiosock.cli.fetch import Fetch, fetch
from aiosock.cli.output import OutputError
from aiosock.message.multipart import FileValue

FORM = "application/x-www-form-urlencoded"
JSON = "application/json"

# A value of a form up to the next semicolon, in quotes where it holds one itself.
_form_value = re.compile(r'(?:"((?:[^"\\]|\\.)*)"[ \t]*|([^;]*))(?:;[ \t]*|\Z)', re.DOTALL)
_has_scheme = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://").match


def run(arguments: Sequence[str]) -> int:
    """Run the command that the first argument names, `aiosock URL` where it names none; return the exit status."""
    name, command = "aiosock", fetch_command
    if arguments and arguments[0] == "demo":
        name, command, arguments = "aiosock demo", demo_command, arguments[1:]
    try:
        # Not Command.main: that has its own idea of what Ctrl-C and a closed pipe are worth.
        with command.make_context(name, list(arguments)) as context:
            status: int = command.invoke(context)
            return status
    except click.exceptions.Exit as ending:
        return ending.exit_code
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except UsageError as error:
        return _fail(error, 2)
    except (AiosockError, OutputError) as error:
        return _fail(error, 1)
    except BrokenPipeError:
        # Whoever read our output has seen enough. Python's own flush at exit must not find the pipe closed again.
        for stream in filter(None, (sys.stdout, sys.stderr)):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        return 0


def _fail(error: Exception, status: int) -> int:
    print(f"aiosock: {terminal.printable(str(error))}", file=sys.stderr)
    return status


def _show_version(context: click.Context, parameter: click.Parameter, value: bool) -> None:
    if value and not context.resilient_parsing:
        click.echo(f"aiosock {__version__} ({platform.python_implementation()} {platform.python_version()})")
        context.exit()


def absolute_url(url: str) -> str:
    """Return the URL with ``http://`` in front where it has no scheme, as curl understands it."""
    return url if _has_scheme(url) else f"http://{url}"


def parse_header(line: str) -> tuple[str, str | None]:
    """
    Return name and value of a header as `-H` takes it.

    ``Name: value`` sets it, ``Name;`` sets it to nothing, and ``Name:`` takes it out, which is the value None.

    Raises:
        BadParameter: It is none of these.
    """
    name, colon, value = line.partition(":")
    if colon:
        return name.strip(), value.strip() or None
    if line.rstrip().endswith(";"):
        return line.rstrip().removesuffix(";"), ""
    # Not shown: what is meant as a header may be a credential.
    raise click.BadParameter("a header is written 'Name: value'", param_hint="-H")


def read_data(text: str, option: str) -> bytes:
    """
    Return the bytes that an argument of `-d` or `--json` stands for: itself, or a file's after ``@`` (``-``: stdin).

    Raises:
        BadParameter: The file cannot be read.
    """
    if not text.startswith("@"):
        # Arguments arrive as the bytes that they are.
        return os.fsencode(text)
    try:
        if text == "@-":
            return sys.stdin.buffer.read()
        with open(text[1:], "rb") as file:
            return file.read()
    except OSError as error:
        raise click.BadParameter(f"cannot read {text[1:]}: {error.strerror}", param_hint=option) from error


def form_content(data: Sequence[str]) -> bytes:
    """Return the body for `-d`: the arguments joined with ``&``; files lose their line ends and NULs, as in curl."""
    pieces = []
    for text in data:
        piece = read_data(text, "-d")
        pieces.append(piece.translate(None, b"\r\n\0") if text.startswith("@") else piece)
    return b"&".join(pieces)


def form_part(text: str, stack: ExitStack) -> tuple[str, FileValue]:
    """
    Return the part of a form that an argument of `-F` stands for, as ``files=`` takes it.

    ``name=value`` is a field, ``name=<FILE`` a field with the content of a file, ``name=@FILE`` a file; FILE may be
    ``-``, standard input. After each may come ``;type=CONTENT-TYPE`` and ``;filename=NAME``; what holds a semicolon
    stands in double quotes.

    Args:
        text: The argument.
        stack: Closes what is opened.

    Raises:
        BadParameter: It is none of these, or the file cannot be read.
    """
    name, equals, value = text.partition("=")
    if not equals:
        raise click.BadParameter(f"a part of a form is written NAME=VALUE or NAME=@FILE, not {text}", param_hint="-F")
    mark = value[:1] if value[:1] in ("@", "<") else ""
    value, rest = _take_form_value(value[len(mark) :])
    filename = os.path.basename(value) if mark == "@" else None
    content_type: str | None = None
    while rest:
        key, _, after = rest.partition("=")
        told, rest = _take_form_value(after)
        if key == "filename":
            filename = told
        elif key == "type":
            content_type = told
        elif content_type is not None and key.isidentifier():
            content_type += f";{key}={told}"
        else:
            raise click.BadParameter(
                f"{name}: what follows a semicolon is type= or filename=; quote a value that holds one", param_hint="-F"
            )
    # Arguments arrive as the bytes that they are.
    return name, (filename, _open_part(value, stack) if mark else os.fsencode(value), content_type)


def _take_form_value(text: str) -> tuple[str, str]:
    """Return the value at the start, and what follows it."""
    match = next(_form_value.finditer(text))  # there is always one: nothing is a value too
    quoted, plain = match.groups()
    value: str = plain if quoted is None else re.sub(r'\\(["\\])', r"\1", quoted)
    return value, text[match.end() :]


def _open_part(path: str, stack: ExitStack) -> BinaryIO:
    if path == "-":
        return sys.stdin.buffer
    try:
        return stack.enter_context(open(path, "rb"))
    except OSError as error:
        raise click.BadParameter(f"cannot read {path}: {error.strerror}", param_hint="-F") from error


def _seconds(context: click.Context, parameter: click.Parameter, value: float | None) -> float | None:
    if value is not None and not (math.isfinite(value) and value > 0):
        raise click.BadParameter("takes a number of seconds greater than 0")
    return value


def _user(context: click.Context, parameter: click.Parameter, value: str | None) -> tuple[str, str] | None:
    if value is None:
        return None
    user, colon, password = value.partition(":")
    if not colon:
        if not sys.stdin.isatty():
            raise click.BadParameter("takes USER:PASSWORD; there is no terminal to ask for the password")
        password = click.prompt(f"Password for {user}", hide_input=True, err=True, default="", show_default=False)
    return user, password


def _has_raw_bytes(user: tuple[str, str]) -> bool:
    """Tell whether user or password hold bytes that are no UTF-8, which go as they are, as in curl."""
    return any("\udc80" <= character <= "\udcff" for character in "".join(user))


Decorator = Callable[[Callable[..., int]], Callable[..., int]]

version_option: Decorator = click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_show_version, help="Print the version."
)


@click.command(
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="'aiosock demo' shows the client at work; see 'aiosock demo --help'.",
)
@click.argument("url")
@click.option("-v", "--verbose", is_flag=True, help="Show heads and timings on standard error.")
@click.option("--timeline", is_flag=True, help="Print where the time went, instead of the answer.")
@click.option("-I", "--head", is_flag=True, help="Send HEAD and print the answer's head.")
@click.option("-X", "--request", "method", metavar="METHOD", help="Use this method.")
@click.option("-H", "--header", "headers", metavar="'NAME: VALUE'", multiple=True, help="Send this header. Repeatable.")
@click.option("-d", "--data", metavar="DATA", multiple=True, help="POST this form; @FILE or @- (stdin). Repeatable.")
@click.option("--json", metavar="DATA", multiple=True, help="POST this JSON; @FILE or @- (stdin). Repeatable.")
@click.option(
    "-F",
    "--form",
    metavar="NAME=VALUE",
    multiple=True,
    help="POST this part of a multipart form; NAME=@FILE uploads. Repeatable.",
)
@click.option("-u", "--user", metavar="USER:PASSWORD", callback=_user, help="Authenticate, by Basic.")
@click.option("--digest", is_flag=True, help="Authenticate by Digest instead.")
@click.option("-x", "--proxy", metavar="URL", help="Go through this proxy; '' for none.")
@click.option("-o", "--output", metavar="FILE", help="Write to FILE, once all is there; - is standard output.")
@click.option("-L", "--location", is_flag=True, help="Follow redirects.")
@click.option("-k", "--insecure", is_flag=True, help="Do not verify certificates.")
@click.option("-f", "--fail", is_flag=True, help="Print no body and exit with 22 on a 4xx or 5xx.")
@click.option("--max-time", type=float, callback=_seconds, metavar="SECONDS", help="Give up after this time.")
@version_option
def fetch_command(
    url: str,
    *,
    verbose: bool,
    timeline: bool,
    head: bool,
    method: str | None,
    headers: tuple[str, ...],
    data: tuple[str, ...],
    json: tuple[str, ...],
    form: tuple[str, ...],
    user: tuple[str, str] | None,
    digest: bool,
    proxy: str | None,
    output: str | None,
    location: bool,
    insecure: bool,
    fail: bool,
    max_time: float | None,
) -> int:
    """
    Request URL and print the body of the answer.

    A URL without a scheme means http://. Options mean what they mean in curl. On a terminal, control characters in
    the body are replaced; -o - leaves them.
    """
    given = [option for option, value in (("-d", data), ("--json", json), ("-F", form)) if value]
    if len(given) > 1:
        raise click.UsageError(f"{' and '.join(given)} exclude each other.")
    if head and given:
        raise click.UsageError("-I asks for a head alone; it sends no data.")
    if digest and user is None:
        raise click.UsageError("--digest needs -u.")
    fields = [parse_header(line) for line in headers]
    named = {name.lower() for name, _ in fields}
    content: bytes | None = None
    implied: list[tuple[str, str]] = []
    if data:
        content = form_content(data)
        implied = [("Content-Type", FORM)]
    elif json:
        content = b"".join(read_data(text, "--json") for text in json)
        implied = [("Content-Type", JSON), ("Accept", JSON)]
    elif form and any(name.lower() == "content-type" and value is None for name, value in fields):
        raise click.UsageError("-F cannot do without the Content-Type: it says what stands between the parts.")
    if user is not None and not digest and _has_raw_bytes(user):
        implied.append(("Authorization", f"Basic {b64encode(os.fsencode(':'.join(user))).decode()}"))
        user = None
    with ExitStack() as stack:
        return fetch(
            Fetch(
                url=absolute_url(url),
                method=method or ("HEAD" if head else "POST" if given else "GET"),
                headers=[
                    *((name, value) for name, value in fields if value is not None),
                    *((name, value) for name, value in implied if name.lower() not in named),
                ],
                without=[name for name, value in fields if value is None],
                content=content,
                files=[form_part(text, stack) for text in form],
                auth=DigestAuth(*user) if digest and user is not None else user,
                proxy=proxy,
                output=output,
                head_only=head,
                verbose=verbose,
                timeline=timeline,
                follow_redirects=location,
                verify=not insecure,
                fail=fail,
                max_seconds=max_time,
            )
        )


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("urls", metavar="[URL]...", nargs=-1)
@click.option(
    "-n",
    "--requests",
    type=click.IntRange(1, 1_000_000),
    metavar="N",
    help="How many requests: in all (600), or for each URL (20).",
)
@click.option(
    "-c",
    "--concurrency",
    type=click.IntRange(1, 10_000),
    metavar="N",
    help="The most at a time (24; 10 with URLs).",
)
@version_option
def demo_command(urls: tuple[str, ...], requests: int | None, concurrency: int | None) -> int:
    """
    Show the client at work: many requests at once, and what became of them.

    Without a URL the requests go to a small site served on loopback for the while, over http and https.
    """
    # Imported here: it brings the testing server along, which nothing else on the command line needs.
    from aiosock.cli import demo

    if urls:
        return demo.visit([absolute_url(url) for url in urls], requests or 20, concurrency or 10)
    return demo.show(requests or 600, concurrency or 24)
