"""
Fetch from a server that has bad moments: retries with backoff, a rate that it can bear, and a circuit breaker.

Answers like 503 and connections that break are tried again after a while, for as long as the server says (Retry-After)
or twice as long each time; all tries of one host share a budget, so that an outage is not made worse. Not more than
--rate requests start in a second; and when nothing comes of them any more, the rest fail at once.

    python examples/retrying.py [--attempts N] [--rate N/s] [--seconds N] URL [URL ...]
"""

import argparse
import asyncio
import sys

import aiosock


def told(attempts: tuple[aiosock.Attempt, ...]) -> str:
    """Return what became of each try, in a line."""
    return ", ".join(str(attempt.status_code or attempt.error) for attempt in attempts)


async def fetch(client: aiosock.Client, url: str) -> bool:
    """Fetch one URL, print what it took, and return whether it went well."""
    try:
        response = await client.get(url)
    except aiosock.CircuitOpen as error:
        print(f"{url}: not asked: {error}")
        return False
    except aiosock.RequestError as error:
        print(f"{url}: given up after {len(error.attempts) or 1} tries: {error}")
        return False
    print(f"{url}: {response.status_code} after {told(response.extensions['attempts'])}")
    return response.is_success


async def main() -> int:
    """Read the command line and fetch."""
    parser = argparse.ArgumentParser(description="Fetch from a server that has bad moments.")
    parser.add_argument("--attempts", type=int, default=4)
    parser.add_argument("--rate", default="20/s", help="requests of one host in a time, such as 10/s or 300/min")
    parser.add_argument("--seconds", type=float, default=60, help="the time for one URL, waits included")
    parser.add_argument("urls", metavar="URL", nargs="+")
    options = parser.parse_args()
    try:
        async with aiosock.Client(
            retry=aiosock.Retry(options.attempts),
            middleware=[aiosock.RateLimit(options.rate, burst=5), aiosock.CircuitBreaker(failures=10)],
            timeout=options.seconds,
        ) as client:
            return 0 if all(await asyncio.gather(*(fetch(client, url) for url in options.urls))) else 1
    except aiosock.UsageError as error:
        parser.error(str(error))


if __name__ == "__main__":
    sys.exit(aiosock.run(main()))
