"""
Many URLs at once over a bounded number of connections.

Every URL gets a task at once; the bound is the client's pool, where a task waits in line for a connection.
For each URL a line says status, size and seconds, in the order in which they finish, and at the end what
the pool did.

    python examples/fetch_many.py [--connections N] URL [URL ...]
"""

import argparse
import asyncio
import sys
import time

import aiosock


async def fetch(client: aiosock.Client, url: str) -> bool:
    """Fetch one URL, print a line on it, and return whether it went well."""
    start = time.perf_counter()
    try:
        response = await client.get(url)
    except aiosock.AiosockError as error:
        # One bad URL is a line of its own and no reason to stop the others.
        print(f"ERR {'':>10} {time.perf_counter() - start:8.3f} s  {url}  {type(error).__name__}: {error}")
        return False
    seconds = time.perf_counter() - start
    print(f"{response.status_code} {len(response.content):>10} {seconds:8.3f} s  {url}")
    return response.is_success


async def fetch_all(urls: list[str], connections: int) -> bool:
    """Fetch all URLs; return whether each of them went well."""
    async with aiosock.Client(limits=aiosock.Limits(max_connections=connections)) as client:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(fetch(client, url)) for url in urls]
        print(client.pool)
    return all(task.result() for task in tasks)


def main() -> None:
    """Read the command line; exit with 1 where a URL failed."""
    parser = argparse.ArgumentParser(description="Fetch many URLs at once.")
    parser.add_argument("urls", nargs="+", metavar="URL")
    parser.add_argument("--connections", type=int, default=10, help="the most connections at a time (10)")
    arguments = parser.parse_args()
    try:
        sys.exit(0 if aiosock.run(fetch_all(arguments.urls, arguments.connections)) else 1)
    except aiosock.UsageError as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
