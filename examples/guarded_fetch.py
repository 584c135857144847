"""
Fetch URLs that strangers gave, and say in one line each what came of it.

Whoever fetches what others ask for is inside of a network that those others are not in. So nothing is connected to
that has no public address, however the URL, its name or a redirect spells it; and there is an end to the bytes, the
seconds and the redirects that one URL may cost.

    python examples/guarded_fetch.py [--allow HOST]... [--port PORT]... [--max-bytes N] [--seconds N] URL [URL ...]

--allow lets more through than what is public: an address (10.0.0.5) or a network (10.1.0.0/16). --port takes the place
of 80 and 443.
"""

import argparse
import sys

import aiosock


async def fetch(client: aiosock.Client, url: str) -> str:
    """Return what became of one URL, in a line."""
    try:
        response = await client.get(url)
    except aiosock.BlockedAddress as error:
        return f"refused: {error}"
    except aiosock.InvalidURL as error:
        return f"no URL: {error}"
    except aiosock.ContentTooLarge as error:
        return f"too large: {error}"
    except aiosock.TimeoutException as error:
        return f"too slow: {error}"
    except aiosock.TooManyRedirects as error:
        return f"too many redirects: {error}"
    except aiosock.RequestError as error:
        return f"failed: {error}"
    return f"{response.status_code}, {len(response.content)} bytes"


async def main() -> int:
    """Read the command line, fetch, and tell with the exit status whether all were let through and answered."""
    parser = argparse.ArgumentParser(description="Fetch URLs that strangers gave.")
    parser.add_argument("--allow", metavar="HOST", action="append", default=[])
    parser.add_argument("--port", metavar="PORT", action="append", type=int)
    parser.add_argument("--max-bytes", metavar="N", type=int, default=1_000_000)
    parser.add_argument("--seconds", metavar="N", type=float, default=10)
    parser.add_argument("urls", metavar="URL", nargs="+")
    options = parser.parse_args()
    try:
        # All that is public, and what the user adds.
        guard = aiosock.Guard(hosts=["*", *options.allow], ports=options.port or [80, 443])
        limits = aiosock.Limits(max_content_bytes=options.max_bytes)
        client = aiosock.Client(guard=guard, limits=limits, timeout=options.seconds, max_redirects=5)
    except aiosock.UsageError as error:
        parser.error(str(error))
    status = 0
    async with client:
        for url in options.urls:
            came = await fetch(client, url)
            # What a stranger wrote may hold what steers a terminal.
            print(f"{url!a}: {came}")
            status |= not came[0].isdigit()
    return status


if __name__ == "__main__":
    sys.exit(aiosock.run(main()))
