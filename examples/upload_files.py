"""
Upload files as a form, as a browser does, with a line of progress.

The form is never gathered: each file is read in a worker thread when it is its turn. As the sizes of all files are
known, the request says Content-Length.

    python examples/upload_files.py [--field NAME=VALUE]... URL FILE...
"""

import argparse
import io
import sys
from contextlib import ExitStack
from pathlib import Path

import aiosock


class Progress:
    """Counts the bytes that have been read, of so many in all."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.read = 0

    def add(self, size: int) -> None:
        """Count these too, and tell."""
        self.read += size
        print(f"\r{self.read} bytes, {100 * self.read // max(self.total, 1)} %", end="", file=sys.stderr)


class WatchedFile(io.FileIO):
    """A file that tells how much is read of it; for the client it is a file like any other."""

    def __init__(self, path: Path, progress: Progress) -> None:
        super().__init__(path)
        self.progress = progress

    def read(self, size: int | None = -1, /) -> bytes:
        """Read, and tell how much that was."""
        piece = super().read(size) or b""
        self.progress.add(len(piece))
        return piece


def field(text: str) -> tuple[str, str]:
    """Return the name and value of a field of the form."""
    name, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError("a field is written NAME=VALUE")
    return name, value


async def upload(url: str, paths: list[Path], fields: list[tuple[str, str]]) -> None:
    """Send the files at paths, and the fields before them, and print what the server says."""
    progress = Progress(sum(path.stat().st_size for path in paths))
    with ExitStack() as stack:
        files = [("files", stack.enter_context(WatchedFile(path, progress))) for path in paths]
        async with aiosock.Client(raise_for_status=True) as client:
            try:
                response = await client.post(url, data=fields, files=files)
            finally:
                print(file=sys.stderr)
    print(response.status_code, response.text)


def main() -> None:
    """Read the command line and upload."""
    parser = argparse.ArgumentParser(description="Upload files as a form.")
    parser.add_argument("--field", type=field, action="append", default=[], metavar="NAME=VALUE", dest="fields")
    parser.add_argument("url", metavar="URL")
    parser.add_argument("files", type=Path, nargs="+", metavar="FILE")
    arguments = parser.parse_args()
    try:
        aiosock.run(upload(arguments.url, arguments.files, arguments.fields))
    except (aiosock.AiosockError, OSError) as error:
        sys.exit(f"the upload failed: {error}")


if __name__ == "__main__":
    main()
