"""
The scenarios: what is done, by whom, and what aiosock is to reach. To add one, add a record.
"""

from __future__ import annotations

from dataclasses import dataclass

from tests.benchmarks import rounds
from tests.benchmarks.contenders import PEERS, Aiosock, Answer, Contender
from tests.benchmarks.floors import FLOORS
from tests.benchmarks.rounds import Round
from tests.benchmarks.site import JSON, MIB, RESULTS, STREAMS, Servers, Sizes

ALL: tuple[type[Contender], ...] = (Aiosock, *PEERS, *FLOORS)
CONTENDERS = {each.name: each for each in ALL}

METRICS = {
    "cpu": "CPU, µs",
    "rate": "per second",
    "p50": "p50, µs",
    "p99": "p99, µs",
    "peak": "peak, MiB",
    "memory": "KiB each",
    "objects": "its objects",
    "garbage": "all objects",
}


@dataclass(frozen=True)
class Goal:
    """
    What aiosock is to reach.

    Attributes:
        bound: The most that aiosock's figure may be, as a share of the other's.
        against: The other contender; none for an absolute bound.
        variant: The other is aiosock in that variant of the same scenario.
        metric: Which figure; the scenario's own by default.
        at_least: It is the least instead.
    """

    bound: float
    against: str = ""
    variant: str = ""
    metric: str = ""
    at_least: bool = False


@dataclass(frozen=True)
class Scenario:
    """
    Something to do, and what it is to cost.

    Attributes:
        number: Its number; variants share one.
        title: What is done.
        act: The contender's method that does it; whoever lacks it does not take part.
        path: What is asked for.
        goals: What aiosock is to reach.
        variant: What sets it apart from others of its number.
        concurrency: How many do it at the same time.
        tls: Over TLS.
        late: Ask the server that answers late.
        unit: What figures are given for.
        metric: The figure that counts.
        floors: Which floors take part.
        measure: What a round is.
        fresh: Each round has a process of its own.
        on_loop: The event loop makes a difference.
        most_rounds: More rounds say nothing new.
    """

    number: int
    title: str
    act: str
    path: str
    goals: tuple[Goal, ...]
    variant: str = ""
    concurrency: int = 1
    tls: bool = False
    late: bool = False
    unit: str = "request"
    metric: str = "cpu"
    floors: tuple[str, ...] = ()
    measure: Round = rounds.keep_busy
    fresh: bool = False
    on_loop: bool = True
    most_rounds: int = 1000

    @property
    def name(self) -> str:
        """The number, and the variant if there are several."""
        return f"{self.number} {self.variant}".strip()

    def contenders(self) -> list[str]:
        """Return who can take part."""
        return [name for name, each in CONTENDERS.items() if self.allows(each)]

    def rivals(self) -> list[str]:
        """Return aiosock and those that the goals name."""
        named = {Aiosock.name, *(goal.against for goal in self.goals)}
        return [name for name in self.contenders() if name in named]

    def allows(self, contender: type[Contender]) -> bool:
        """Tell whether a contender can take part."""
        if contender in FLOORS:
            return contender.name in self.floors
        return hasattr(contender, self.act) and self.concurrency <= contender.crowd and not self.too_many(contender)

    def too_many(self, contender: type[Contender]) -> bool:
        """Tell whether it would take a contender minutes."""
        return self.late and contender.crowd < Sizes().idle

    def url(self, servers: Servers) -> str:
        """Return what to ask for."""
        root = servers.late if self.late else servers.tls if self.tls else servers.plain
        return root + self.path

    def expected(self, sizes: Sizes) -> Answer:
        """Return the status and the length (or the number of lines) of a right answer."""
        lengths = {
            "/search": len(RESULTS),
            "/large": sizes.large,
            "/mebibyte": MIB,
            "/chunked": sizes.chunked,
            "/lines": sizes.lines // STREAMS,
        }
        return (204, 0) if self.path == "/upload" else (200, lengths.get(self.path, len(JSON)))

    def units(self, sizes: Sizes) -> float:
        """Return how many units one act counts for."""
        if self.unit == "MiB":
            return (sizes.large if self.path == "/upload" else self.expected(sizes)[1]) / MIB
        return self.expected(sizes)[1] if self.unit == "line" else 1

    def count(self, sizes: Sizes) -> int:
        """Return how many acts there are in all, where that is fixed."""
        return {"/late": sizes.late if self.variant == "in flight" else sizes.idle}.get(self.path, sizes.garbage)


GET_FLOORS = ("floor-sock", "floor-reader")

SCENARIOS = (
    Scenario(
        *(1, "GET of 79 bytes of JSON, keep-alive, 64 at a time", "get", "/json"),
        concurrency=64,
        floors=GET_FLOORS,
        goals=(
            *(Goal(0.33, "aiohttp"), Goal(1.0, "wreq"), Goal(1.0, "pyreqwest"), Goal(1.1, "ry")),
            Goal(1.6, "floor-sock"),
        ),
    ),
    Scenario(
        *(2, "The same, 1 at a time", "get", "/json"),
        variant="c=1",
        floors=GET_FLOORS,
        goals=(Goal(0.5, "aiohttp"), Goal(1.0, "pyreqwest")),
    ),
    Scenario(
        *(2, "The same, 16 at a time", "get", "/json"),
        variant="c=16",
        concurrency=16,
        floors=GET_FLOORS,
        goals=(),
    ),
    Scenario(
        *(2, "The same, 512 at a time", "get", "/json"),
        variant="c=512",
        concurrency=512,
        floors=GET_FLOORS,
        goals=(),
    ),
    Scenario(
        *(2, "The same, 2,000 at a time", "get", "/json"),
        variant="c=2000",
        concurrency=2000,
        floors=GET_FLOORS,
        goals=(Goal(1.3, variant="c=16"),),
    ),
    Scenario(
        *(3, "The same over TLS, 64 at a time", "get", "/json"),
        concurrency=64,
        tls=True,
        floors=("floor-tls",),
        goals=(Goal(0.4, "aiohttp"), Goal(1.2, "pyreqwest")),
    ),
    Scenario(
        *(4, "A connection for each request", "get", "/once"),
        concurrency=16,
        floors=("floor-sock",),
        goals=(Goal(0.45, "aiohttp"), Goal(1.3, "floor-sock")),
    ),
    Scenario(
        *(5, "A connection for each request, TLS 1.3, resumed", "get", "/once"),
        concurrency=16,
        tls=True,
        floors=("floor-tls",),
        goals=(Goal(0.65, "aiohttp"), Goal(1.15, "floor-tls")),
    ),
    Scenario(
        *(6, "A large body, streamed", "stream", "/large"),
        unit="MiB",
        floors=("floor-sock",),
        goals=(
            Goal(0.95, "floor-sock", metric="rate", at_least=True),
            *(Goal(1.0, "aiohttp"), Goal(1.0, "pyreqwest")),
        ),
    ),
    Scenario(
        *(7, "A large body over TLS, streamed", "stream", "/large"),
        tls=True,
        unit="MiB",
        floors=("floor-tls",),
        goals=(Goal(0.8, "aiohttp"), Goal(1.1, "pyreqwest"), Goal(1.15, "floor-tls")),
    ),
    Scenario(
        *(8, "GET of 1 MiB into memory, 16 at a time", "get", "/mebibyte"),
        concurrency=16,
        floors=("floor-sock",),
        goals=(Goal(0.6, "aiohttp"), Goal(1.0, "pyreqwest")),
    ),
    Scenario(
        *(9, "A body in chunks of 4 KiB, streamed", "stream", "/chunked"),
        unit="MiB",
        goals=(Goal(0.6, "aiohttp"),),
    ),
    Scenario(
        *(10, "Upload of a file", "upload_file", "/upload"),
        variant="file",
        unit="MiB",
        goals=(Goal(0.5, "aiohttp"),),
    ),
    Scenario(
        *(10, "Upload from an async iterator of 64 KiB", "upload_pieces", "/upload"),
        variant="pieces",
        unit="MiB",
        goals=(Goal(0.75, "aiohttp"),),
    ),
    Scenario(
        *(11, "POST of 1 KiB, answered by 10 KiB in gzip, 64 at a time", "post", "/search"),
        concurrency=64,
        goals=(Goal(0.5, "aiohttp"),),
    ),
    Scenario(
        *(12, "Small lines on 16 chunked streams", "lines", "/lines"),
        concurrency=STREAMS,
        unit="line",
        goals=(Goal(0.3, "httpx2"), Goal(1.0, "aiohttp")),
    ),
    Scenario(
        *(13, "Import, beside asyncio and ssl", "get", "/json"),
        unit="import",
        measure=rounds.import_alone,
        on_loop=False,
        goals=(Goal(0.2, "aiohttp"),),
    ),
    Scenario(
        *(14, "Memory of idle connections in the pool", "get", "/late"),
        variant="idle",
        late=True,
        unit="connection",
        metric="memory",
        measure=rounds.hold_idle,
        fresh=True,
        most_rounds=3,
        goals=(Goal(1.0, "aiohttp"),),
    ),
    Scenario(
        *(14, "Memory of requests not answered yet", "get", "/late"),
        variant="in flight",
        late=True,
        metric="memory",
        measure=rounds.hold_in_flight,
        fresh=True,
        most_rounds=3,
        goals=(Goal(12.0),),
    ),
    Scenario(
        *(15, "Garbage that only the cycle collector frees", "get", "/json"),
        concurrency=64,
        metric="objects",
        measure=rounds.litter,
        fresh=True,
        most_rounds=1,
        goals=(Goal(0.0),),
    ),
)
