"""
See what happens to a request, as it happens: each event with its time, and at the end where the time went.

    python examples/trace.py URL
"""

import sys
import time

import aiosock
from aiosock.message import trace


class Timeline:
    """Prints each event with the milliseconds since the beginning; of progress, the last of each direction."""

    def __init__(self) -> None:
        self.begun_at = time.perf_counter()

    def __call__(self, event: trace.Event) -> None:
        detail = ""
        if isinstance(event, trace.ConnectionAcquired):
            kind = "reused" if event.connection.reused else "new"
            detail = f"{kind}, {event.connection.remote_address}, {event.connection.tls_version or 'no TLS'}"
        elif isinstance(event, trace.ResponseHeadReceived):
            detail = f"{event.response.status_code} {event.response.reason}"
        elif isinstance(event, trace.BodyProgress):
            if event.transferred != event.total:
                return
            detail = f"{event.direction} {event.transferred} bytes"
        elif isinstance(event, trace.Redirected):
            detail = f"to {event.following.url}"
        elif isinstance(event, trace.RequestFailed):
            detail = type(event.error).__name__
        print(f"{(event.at - self.begun_at) * 1000:9.1f} ms  {type(event).__name__:<22}{detail}".rstrip())


async def main() -> None:
    """Read the command line, fetch, and show what happened."""
    if len(sys.argv) != 2:
        sys.exit("usage: trace.py URL")
    try:
        async with aiosock.Client(on_event=Timeline()) as client:
            response = await client.get(sys.argv[1])
    except aiosock.AiosockError as error:
        sys.exit(f"the request failed: {error}")
    print(response.timings)


if __name__ == "__main__":
    aiosock.run(main())
