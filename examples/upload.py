"""
Upload a file in two ways: as a file object, and as an async iterator.

A file object has a size, so the request says Content-Length; the client reads it in a worker thread. An
async iterator may make its bytes as it goes (here: it compresses), so nobody knows their number and they
travel chunked.

    python examples/upload.py URL FILE
"""

import asyncio
import sys
import zlib
from collections.abc import AsyncIterator
from pathlib import Path

import aiosock

PIECE_BYTES = 64 * 1024
GZIP_WINDOW_BITS = 31  # zlib's way to say: with gzip's header and trailer


async def compressed(path: Path) -> AsyncIterator[bytes]:
    """Yield the file at path, gzipped on the way."""
    compressor = zlib.compressobj(wbits=GZIP_WINDOW_BITS)
    with path.open("rb") as file:
        while piece := await asyncio.to_thread(file.read, PIECE_BYTES):
            yield compressor.compress(piece)
    yield compressor.flush()


async def upload(client: aiosock.Client, url: str, path: Path) -> None:
    """Send the file at path to url twice, and print what the server says."""
    with path.open("rb") as file:
        response = await client.post(url, content=file)
    print("as a file object:", response.status_code, response.text)

    headers = {"Content-Encoding": "gzip"}
    response = await client.post(url, content=compressed(path), headers=headers)
    print("as an async iterator:", response.status_code, response.text)


async def main() -> None:
    """Read the command line and upload."""
    if len(sys.argv) != 3:
        sys.exit("usage: upload.py URL FILE")
    try:
        async with aiosock.Client(raise_for_status=True) as client:
            await upload(client, sys.argv[1], Path(sys.argv[2]))
    except (aiosock.AiosockError, OSError) as error:
        sys.exit(f"the upload failed: {error}")


if __name__ == "__main__":
    aiosock.run(main())
