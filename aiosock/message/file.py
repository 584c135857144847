"""
Small files of users: read whole, and written so that they are whole at all times.

All of this blocks, and belongs in a thread.
"""

from __future__ import annotations

import os
from typing import Final

from aiosock.errors import UsageError

MAX_FILE_BYTES: Final = 64 * 1024 * 1024


def read_file(kind: str, path: str | os.PathLike[str]) -> bytes:
    """
    Return what is in a file.

    Args:
        kind: What it has, ``"cookie"`` say, for messages.
        path: The file.

    Raises:
        UsageError: It cannot be read, or has more than 64 MiB; the message names it.
    """
    name = _name_of(path)
    try:
        with open(name, "rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except (OSError, ValueError) as error:
        raise _cannot("read", kind, name, error) from error
    if len(content) > MAX_FILE_BYTES:
        raise UsageError(f"the {kind} file {name!r} has more than {MAX_FILE_BYTES} bytes")
    return content


def write_file(kind: str, path: str | os.PathLike[str], content: bytes) -> None:
    """
    Write a file that takes the place of the one that is there, which is whole until then; only its owner may read it.

    Args:
        kind: What it has, ``"cookie"`` say, for messages.
        path: The file; what a link leads to, where it is one.
        content: All of it.

    Raises:
        UsageError: It cannot be written, and what is there is as it was; the message names it.
    """
    name = _name_of(path)
    try:
        _replace(os.path.realpath(name), content)
    except (OSError, ValueError) as error:
        raise _cannot("write", kind, name, error) from error


def _replace(name: str, content: bytes) -> None:
    import tempfile

    if os.path.exists(name) and not os.path.isfile(name):
        # A pipe or /dev/null would be gone.
        raise ValueError("it is no regular file")
    # In the same folder, since only within one file system a file takes another's place at once. It is made with
    # mode 0600.
    handle, temporary = tempfile.mkstemp(prefix=".aiosock-", suffix=".tmp", dir=os.path.dirname(name))
    try:
        with open(handle, "wb") as file:
            file.write(content)
            file.flush()
            # The name must not come to stand for what is not on the disk yet.
            os.fsync(file.fileno())
        os.replace(temporary, name)
    except BaseException:
        os.unlink(temporary)
        raise


def unusable(kind: str, path: str | os.PathLike[str], why: object) -> UsageError:
    """Return the error that says why what is in a file cannot be used."""
    return UsageError(f"the {kind} file {os.fsdecode(path)!r} cannot be used: {why}")


def _name_of(path: str | os.PathLike[str]) -> str:
    try:
        return os.fsdecode(path)
    except TypeError as error:
        raise UsageError(f"path: takes a str or a path, not {type(path).__name__}") from error


def _cannot(verb: str, kind: str, name: str, error: OSError | ValueError) -> UsageError:
    reason = error.strerror if isinstance(error, OSError) else None
    return UsageError(f"cannot {verb} the {kind} file {name!r}: {reason or error}")
