"""
Happy Eyeballs, version 2 (RFC 8305): several addresses are tried in parallel, a little apart, and the first
to connect wins.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from itertools import chain, zip_longest
from typing import Final

from aiosock.errors import ConnectError
from aiosock.network.stream import Stream

STAGGER_SECONDS: Final = 0.25


def interleave(addresses: Sequence[str]) -> list[str]:
    """Return the addresses with the two families taking turns, the first one's family first (RFC 8305, 4)."""
    first_is_v6 = bool(addresses) and ":" in addresses[0]
    first = [address for address in addresses if (":" in address) == first_is_v6]
    second = [address for address in addresses if (":" in address) != first_is_v6]
    turns = chain.from_iterable(zip_longest(first, second))
    return [address for address in turns if address is not None]


async def race(
    addresses: Sequence[str],
    connect: Callable[[str], Awaitable[Stream]],
    *,
    stagger_seconds: float = STAGGER_SECONDS,
) -> Stream:
    """
    Return the stream of the first address that connects; all other attempts are cancelled and closed.

    Args:
        addresses: At least one, in the order in which they are tried.
        connect: Opens a stream to one address.
        stagger_seconds: How long an attempt has the field to itself before the next begins; when it fails,
            the next begins at once.

    Raises:
        ConnectError: All failed; the message lists each address with its reason.
    """
    if len(addresses) == 1:
        return await connect(addresses[0])
    waiting = iter(addresses)
    running: set[asyncio.Task[Stream]] = set()
    failures: list[ConnectError] = []
    winner: Stream | None = None

    async def attempt(address: str) -> Stream:
        return await connect(address)

    try:
        following = next(waiting, None)
        while following is not None or running:
            if following is not None:
                running.add(asyncio.create_task(attempt(following)))
                following = next(waiting, None)
            timeout = stagger_seconds if following is not None else None
            done, _ = await asyncio.wait(running, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                running.remove(task)
                try:
                    winner = task.result()
                except ConnectError as error:
                    failures.append(error)
                else:
                    return winner
        raise ConnectError("; ".join(str(error) for error in failures)) from failures[0]
    finally:
        try:
            await _call_off(running)
        except BaseException:
            if winner is not None:
                winner.abort()
            raise


async def _call_off(tasks: set[asyncio.Task[Stream]]) -> None:
    for task in tasks:
        # By callback, since the wait below may be cancelled, too, before the task has come to its end.
        task.add_done_callback(_discard)
        task.cancel()
    if tasks:
        await asyncio.wait(tasks)


def _discard(task: asyncio.Task[Stream]) -> None:
    """Close what an attempt opened all the same."""
    if not task.cancelled() and task.exception() is None:
        task.result().abort()
