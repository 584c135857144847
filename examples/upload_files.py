"""
Upload files as a form, as a browser does, with a line of progress.

The form is never gathered: each file is read in a worker thread when it is its turn. As the sizes of all files are
known, the request says Content-Length.

    python examples/upload_files.py [--field NAME=VALUE]... URL FILE...
"""

import argparse
import sys
from contextlib import ExitStack
from pathlib import Path

import aiosock
from aiosock.message import trace


def show_progress(event: trace.Event) -> None:
    """Print how much of the form has been sent."""
    if isinstance(event, trace.BodyProgress) and event.direction == "sent" and event.total:
        print(f"\r{event.transferred} bytes, {100 * event.transferred // event.total} %", end="", file=sys.stderr)


def field(text: str) -> tuple[str, str]:
    """Return the name and value of a field of the form."""
    name, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError("a field is written NAME=VALUE")
    return name, value


async def upload(url: str, paths: list[Path], fields: list[tuple[str, str]]) -> None:
    """Send the files at paths, and the fields before them, and print what the server says."""
    with ExitStack() as stack:
        files = [("files", stack.enter_context(path.open("rb"))) for path in paths]
        async with aiosock.Client(raise_for_status=True, on_event=show_progress) as client:
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
