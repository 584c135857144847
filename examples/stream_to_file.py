"""
Stream a URL into a file, whatever its size, with a line of progress.

The body is written piece by piece, so memory stays small. It goes to a temporary name beside the target and
is renamed when it is whole: whoever sees the file sees all of it, and a failed attempt leaves nothing
behind.

    python examples/stream_to_file.py URL FILE
"""

import asyncio
import os
import sys
from pathlib import Path

import aiosock


async def download(client: aiosock.Client, url: str, target: Path) -> int:
    """Write the body of url to target and return its size in bytes."""
    # Uncompressed, so that Content-Length and the bytes written can be compared.
    async with client.stream("GET", url, headers={"Accept-Encoding": "identity"}) as response:
        response.raise_for_status()
        total = response.headers.get("Content-Length", "?")
        size = 0
        # In the same folder, since a rename is atomic only within a file system.
        part = target.with_name(f".{target.name}.{os.getpid()}.part")
        file = await asyncio.to_thread(part.open, "xb")
        try:
            with file:
                async for chunk in response.iter_bytes():
                    await asyncio.to_thread(file.write, chunk)  # a slow disk must not stop the event loop
                    size += len(chunk)
                    print(f"\r{size} of {total} bytes", end="", file=sys.stderr)
            part.replace(target)
        except BaseException:  # cancellation and Ctrl-C as well: the partial file goes, the error goes on
            part.unlink(missing_ok=True)
            raise
        finally:
            print(file=sys.stderr)
    return size


async def main() -> None:
    """Read the command line, download, and say what happened."""
    if len(sys.argv) != 3:
        sys.exit("usage: stream_to_file.py URL FILE")
    url, target = sys.argv[1], Path(sys.argv[2])
    try:
        async with aiosock.Client() as client:
            size = await download(client, url, target)
    except (aiosock.AiosockError, OSError) as error:
        sys.exit(f"{target} was not written: {error}")
    print(f"{target}: {size} bytes")


if __name__ == "__main__":
    aiosock.run(main())
