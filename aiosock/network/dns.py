"""
Names to addresses: the `Resolver` protocol, and the system's resolver behind it.

Look-ups run off the loop, are remembered for a short while, and concurrent ones of one name share one.
"""

from __future__ import annotations

import asyncio
import socket
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import Final, Protocol, runtime_checkable

from aiosock.errors import BlockedAddress, DNSError, UsageError
from aiosock.network.address import is_address
from aiosock.network.fault import describe
from aiosock.network.threads import DaemonThreads

CACHE_SECONDS: Final = 10.0
MAX_CACHED_NAMES: Final = 256
# Of their own: a name server that does not answer holds each of them up for many seconds.
look_up_threads: Final = DaemonThreads()
# So much of a wrong answer is shown.
MAX_SHOWN: Final = 100


@runtime_checkable
class Resolver(Protocol):
    """What turns a host name into addresses; give your own to pin, replace or observe look-ups."""

    async def resolve(self, host: str, port: int) -> Sequence[str]:
        """
        Return the addresses of a host, the preferred one first.

        Args:
            host: A name in lower case, IDNA-encoded; never an IP address.
            port: The port that will be connected to, 1 to 65535.

        Returns:
            IPv4 and IPv6 literals, the latter maybe with a zone (``fe80::1%eth0``).

        Raises:
            DNSError: The name has no address. Any other exception is told as one, and names the resolver.
            BlockedAddress: The name is not to be connected to.
        """
        ...


async def resolve(resolver: Resolver, host: str, port: int) -> list[str]:
    """
    Ask a resolver, which may be anybody's, and see to it that what it answers are addresses.

    What is no address would be looked up once more where it is connected to, and nobody would see the answer.

    Args:
        resolver: Whom to ask.
        host: As for `Resolver.resolve`.
        port: As for `Resolver.resolve`.

    Raises:
        DNSError: There is no address, or the resolver failed; the message names the resolver and the host.
        BlockedAddress: The resolver itself refuses.
        UsageError: It answered with something else; the message names the resolver, the host, and what that was.
    """
    name = type(resolver).__name__
    try:
        answer = await resolver.resolve(host, port)
        is_list = isinstance(answer, Iterable) and not isinstance(answer, (str, bytes))
        addresses = list(answer) if is_list else []
    except (DNSError, BlockedAddress) as error:
        if error.request is None:
            raise
        # It was raised before, or is about a request that the resolver made: this one shall not be taken for that.
        kind = DNSError if isinstance(error, DNSError) else BlockedAddress
        raise kind(*error.args) from error
    except Exception as error:
        reason = describe(error) if isinstance(error, OSError) else f"{type(error).__name__}: {error}"
        raise DNSError(f"the resolver {name} failed for {host}: {reason}") from error
    if not is_list:
        raise UsageError(f"the resolver {name} answered for {host} with no list of addresses: {_shown(answer)}")
    for address in addresses:
        if not isinstance(address, str) or not is_address(address):
            raise UsageError(f"the resolver {name} answered for {host} with what is no address: {_shown(address)}")
    if not addresses:
        raise DNSError(f"the name {host} has no address, says the resolver {name}")
    return addresses


def _shown(value: object) -> str:
    shown = ascii(value)
    return shown if len(shown) <= MAX_SHOWN else f"{shown[:MAX_SHOWN]}..."


def look_up(host: str) -> list[str]:
    """Ask the system for the addresses of a host, blocking; `OSError` and `ValueError` are its errors."""
    addresses: dict[str, None] = {}
    for *_, name in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM):
        address = str(name[0])
        if len(name) == 4 and name[3] and "%" not in address:
            address = f"{address}%{name[3]}"
        addresses[address] = None
    return list(addresses)


class SystemResolver:
    """
    The system's resolver (``getaddrinfo``: hosts file, DNS, whatever is configured), on daemon threads.

    Args:
        cache_seconds: How long an answer is used again; 0 is never. Failures are not remembered.
        max_names: How many names are remembered at most, the least recently used going first.
    """

    def __init__(self, *, cache_seconds: float = CACHE_SECONDS, max_names: int = MAX_CACHED_NAMES) -> None:
        self._cache_seconds = cache_seconds
        self._max_names = max_names
        self._known: OrderedDict[str, tuple[float, list[str]]] = OrderedDict()
        self._pending: dict[str, asyncio.Future[list[str]]] = {}

    async def resolve(self, host: str, port: int) -> Sequence[str]:
        """See `Resolver.resolve`."""
        loop = asyncio.get_running_loop()
        known = self._known.get(host)
        if known is not None:
            expires, addresses = known
            if loop.time() < expires:
                self._known.move_to_end(host)
                return list(addresses)
            del self._known[host]
        pending = self._pending.get(host)
        # One of another loop is left over: that loop was closed before the answer came.
        if pending is None or pending.get_loop() is not loop:
            pending = self._pending[host] = look_up_threads.run(lambda: look_up(host))
            pending.add_done_callback(lambda future: self._settle(host, future, loop.time()))
        # Waited for and not awaited: who stops waiting does not stop the look-up for the others.
        await asyncio.wait([pending])
        try:
            addresses = pending.result()
        except (OSError, ValueError) as error:
            raise DNSError(f"the name {host} could not be resolved: {describe(error)}") from error
        if not addresses:
            raise DNSError(f"the name {host} has no address")
        return list(addresses)

    def _settle(self, host: str, future: asyncio.Future[list[str]], now: float) -> None:
        self._pending.pop(host, None)
        if future.cancelled() or future.exception() is not None:
            return
        if self._cache_seconds > 0 and (addresses := future.result()):
            self._known[host] = (now + self._cache_seconds, addresses)
            while len(self._known) > self._max_names:
                self._known.popitem(last=False)
