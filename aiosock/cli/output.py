"""
Where a body goes: standard output, or a file that is there whole or not at all.

Files are opened and renamed before and after the event loop runs; only writing happens inside, on a thread, so that a
slow disk or a reader that pauses stops neither the clock of `--max-time` nor Ctrl-C.
"""

from __future__ import annotations

import os
import secrets
import select
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from aiosock.network.threads import daemon_threads


class OutputError(Exception):
    """The output cannot be written; the message says where and why."""


class Output:
    """
    Takes bytes.

    Args:
        file: A raw (unbuffered) file, since what is given has to be out at once.
        name: What to call it in messages.
        is_terminal: What is written is seen by a human, and can steer what shows it.

    Attributes:
        complete: Set it when all is written; a file keeps its old content otherwise.
    """

    def __init__(self, file: BinaryIO, name: str, *, is_terminal: bool = False) -> None:
        self.complete = False
        self.is_terminal = is_terminal
        self._file = file
        self._name = name

    async def write(self, data: bytes) -> None:
        """
        Write all of it.

        Raises:
            BrokenPipeError: The reader has left.
            OutputError: It cannot be written.
        """
        try:
            await daemon_threads.run(lambda: self._write_all(data))
        except BrokenPipeError:
            raise
        except OSError as error:
            raise _explained(self._name, error) from error

    def _write_all(self, data: bytes) -> None:
        left = memoryview(data)
        while left:
            written = cast("int | None", self._file.write(left))
            if written is None:  # somebody has made the descriptor non-blocking
                select.select([], [self._file], [])
            left = left[written or 0 :]


def _explained(name: str, error: OSError) -> OutputError:
    return OutputError(f"cannot write {name}: {error.strerror or error}")


@contextmanager
def opened(path: str | None) -> Iterator[Output]:
    """
    Open what `-o` names; None is standard output, and so is ``-``, which is never treated as a terminal.

    A file is written under a temporary name beside it and takes its place at the end if the output is complete. What
    is no regular file (a device, a pipe) is written to as it is.

    Raises:
        OutputError: It cannot be opened, or not be put in its place.
    """
    if path in (None, "-"):
        if sys.stdout is None:
            raise OutputError("cannot write to standard output: it is closed")
        with open(sys.stdout.fileno(), "wb", buffering=0, closefd=False) as file:
            yield Output(cast("BinaryIO", file), "to standard output", is_terminal=path is None and file.isatty())
        return
    name = str(path)
    try:
        # A symbolic link stays one: it is its target that is replaced.
        target = Path(os.path.realpath(name))
        replaces = not os.path.exists(name) or os.path.isfile(name)
        part = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part") if replaces else Path(name)
        file = part.open("xb" if replaces else "wb", buffering=0)
    except (OSError, ValueError) as error:
        raise OutputError(f"cannot write {name}: {getattr(error, 'strerror', None) or error}") from error
    try:
        with file:
            output = Output(cast("BinaryIO", file), name)
            yield output
        if replaces and output.complete:
            _put_in_place(part, target, name)
    finally:
        if replaces:
            part.unlink(missing_ok=True)


def _put_in_place(part: Path, target: Path, name: str) -> None:
    try:
        if target.exists():
            part.chmod(target.stat().st_mode & 0o7777)
        part.replace(target)
    except OSError as error:
        raise _explained(name, error) from error
