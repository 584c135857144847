"""
Fetch what has changed: a cache in a file (RFC 9111), which outlives the program and may be shared by several.

For each URL a line tells where the answer came from: "miss" is the server; "hit" is the file, and nothing was sent;
"revalidated" is the file too, after the server said that it is still good; "stale" is past its time, but the server
allows it while it cannot be asked. Run it twice to see it at work. However many tasks ask for the same at once, the
server is asked once; and hosts that want to be reached over https alone are.

    python examples/cached.py [--cache FILE] [--offline] URL [URL ...]
"""

import argparse
import asyncio
import sys

import aiosock


async def fetch(client: aiosock.Client, url: str, offline: bool) -> bool:
    """Fetch one URL, print a line on it, and return whether it went well."""
    # Accepts whatever the file has, however old, and nothing else.
    headers = {"Cache-Control": "only-if-cached, max-stale"} if offline else {}
    try:
        response = await client.get(url, headers=headers)
    except aiosock.RequestError as error:
        print(f"{url} failed: {error}", file=sys.stderr)
        return False
    state, age = response.extensions.get("cache", "passed by"), response.headers.get("Age", "0")
    print(f"{response.status_code} {state:<11} {age:>6} s {len(response.content):>10}  {url}")
    return response.is_success


async def fetch_all(urls: list[str], file: str, offline: bool) -> bool:
    """Fetch all URLs at once; return whether each of them went well."""
    # The first is the outermost: a request is upgraded first, then shared, then looked up.
    async with (
        aiosock.Cache(aiosock.SQLiteStore(file)) as cache,
        aiosock.Client(middleware=[aiosock.HSTS(), aiosock.Coalesce(), cache], timeout=30) as client,
    ):
        try:
            done = await asyncio.gather(*(fetch(client, url, offline) for url in urls))
        except aiosock.UsageError as error:
            sys.exit(f"cannot go on: {error}")
    return all(done)


def main() -> None:
    """Read the command line; exit with 1 where a URL failed."""
    parser = argparse.ArgumentParser(description="Fetch URLs through a cache in a file.")
    parser.add_argument("urls", nargs="+", metavar="URL")
    parser.add_argument("--cache", default="cache.db", metavar="FILE", help="the cache, made when there is none")
    parser.add_argument("--offline", action="store_true", help="take what the cache has, and ask nobody")
    arguments = parser.parse_args()
    sys.exit(0 if aiosock.run(fetch_all(arguments.urls, arguments.cache, arguments.offline)) else 1)


if __name__ == "__main__":
    main()
