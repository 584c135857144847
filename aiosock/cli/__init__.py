"""
The command line: `aiosock URL` and `aiosock demo`.

This module is what the installed script calls, and nothing more: click and rich are an extra, so nothing here may
import them before `main` runs, and `main` says so clearly where they are missing.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

INTERRUPTED = 128 + 2  # what a shell reports of a program that SIGINT ended


def main(arguments: Sequence[str] | None = None) -> int:
    """
    Run the command line and return its exit status.

    Args:
        arguments: Without the program's name; by default those of the process.

    Returns:
        0 on success, 1 when a request failed, 2 on bad usage or when the extra is missing, 22 with ``--fail`` on a
        4xx or 5xx, 130 after Ctrl-C.
    """
    try:
        from aiosock.cli.command import run

        return run(sys.argv[1:] if arguments is None else arguments)
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in ("click", "rich"):
            raise
        print(f"aiosock: {missing} is not installed; the command line needs aiosock-http[cli]", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return INTERRUPTED
