"""
Step 11: the pool, a hundred pages over a handful of sockets.

aiosock.Client is all the steps before in one: addresses of both families (6), TLS (7), the event loop (9), the
parser (10), and step 10's reuse made a habit. Its pool keeps connections that are free, gives a request one of
them or opens another, and lets the rest wait in line: never more than max_connections are open.

All requests start at once here. The last line shows what the pool made of it: how many connections were
opened, and how often one was used again.

    python examples/from_sockets/s11_pool.py [URL ...]
"""

import asyncio
import sys

from local_site import serve

import aiosock

CONNECTIONS = 5
PAGES = 100


async def fetch_all(urls: list[str]) -> None:
    """Fetch all URLs, print the first page and then what the pool did."""
    async with aiosock.Client(limits=aiosock.Limits(max_connections=CONNECTIONS)) as client:
        responses = await asyncio.gather(*(client.get(url) for url in urls))
        pool = client.pool
        show(responses[0])
        print(f"\n[{len(responses)} pages over {pool.opened} connections, reused {pool.reused} times: {pool}]")


def show(response: aiosock.Response) -> None:
    """Print the raw bytes (their beginning), the headers, and the text after them."""
    print("raw bytes of the body:", response.content[:120], "...")
    print("\nheaders:", f"{response.http_version} {response.status_code} {response.reason}", sep="\n")
    print(*(f"{name}: {value}" for name, value in response.headers.items()), sep="\n")
    print("\nbody:", response.text, sep="\n")


def main() -> None:
    """Fetch the URLs of the command line, or a hundred pages of the local site."""
    try:
        if len(sys.argv) > 1:
            aiosock.run(fetch_all(sys.argv[1:]))
        else:
            with serve() as server:
                aiosock.run(fetch_all([f"{server.url}/page/{number}" for number in range(PAGES)]))
    except aiosock.AiosockError as error:
        sys.exit(f"not every page came: {error}")


if __name__ == "__main__":
    main()
