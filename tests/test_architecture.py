"""
The laws of the house, checked by reading the source: who may import whom, who may know of sockets and time.

Each law is a pure function from a module's name and its source to the offences in it, so that this file can
also show, on sources made up for it, that the law bites. Nothing of aiosock is imported to judge it. A
package goes by its file (``aiosock.pool.__init__``): relative imports then mean the same in it as in its
modules.
"""

from __future__ import annotations

import ast
import os
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path, PurePosixPath

import pytest

ROOT = Path(__file__).parents[1]

# Lowest first. A room may import what stands before it; rooms on one line do not know each other.
LAYERS = (
    ("errors",),
    ("config", "version"),
    ("protocol", "network"),
    ("message",),
    ("connection",),
    ("pool",),
    ("middleware",),
    ("client",),
    ("api",),
    ("download",),
    ("__init__",),
    ("cli",),
    ("__main__", "testing"),
)
HEIGHT = {room: height for height, layer in enumerate(LAYERS) for room in layer}

WORLDLY = {"asyncio", "socket", "ssl", "time", "random"}
ASYNC_SYNTAX = (ast.AsyncFunctionDef, ast.AsyncFor, ast.AsyncWith, ast.Await)

# These test more than one module.
UNPAIRED = ("integration", "examples", "fuzz", "benchmarks", "kit", "test_architecture.py")


@dataclass(frozen=True)
class Import:
    """One imported thing: ``from a.b import c`` has the module ``a.b`` and the name ``c``."""

    module: str
    name: str | None
    for_types: bool
    line: int

    @property
    def target(self) -> str:
        return f"{self.module}.{self.name}" if self.name else self.module

    @property
    def top(self) -> str:
        return self.module.partition(".")[0]

    @property
    def room(self) -> str | None:
        """The room of aiosock that this import reaches into, ``__init__`` for the package itself."""
        top, _, rest = self.target.partition(".")
        if top != "aiosock":
            return None
        room = rest.partition(".")[0]
        return room if room in HEIGHT else "__init__"


def room_of(module: str) -> str:
    return module.split(".")[1]


def nodes(tree: ast.AST, *, for_types: bool = False) -> Iterator[tuple[ast.AST, bool]]:
    """Walk the tree, telling of each node whether only type checkers see it."""
    yield tree, for_types
    guarded: list[ast.stmt] = []
    if isinstance(tree, ast.If) and ast.unparse(tree.test) in {"TYPE_CHECKING", "typing.TYPE_CHECKING"}:
        guarded = tree.body
    for child in ast.iter_child_nodes(tree):
        yield from nodes(child, for_types=for_types or child in guarded)


def absolute(module: str, target: str, level: int) -> str:
    """Spell out what a relative import in this module means."""
    if not level:
        return target
    package = module.rsplit(".", level)[0]
    return f"{package}.{target}" if target else package


def imports(module: str, source: str) -> Iterator[Import]:
    """Find every import, at the top or inside a function, by statement or by a module's name as a string."""
    for node, for_types in nodes(ast.parse(source)):
        match node:
            case ast.Import(names=names):
                for alias in names:
                    yield Import(alias.name, None, for_types, node.lineno)
            case ast.ImportFrom(names=names, level=level):
                origin = absolute(module, node.module or "", level)
                for alias in names:
                    yield Import(origin, alias.name, for_types, node.lineno)
            case ast.Call(
                func=ast.Name(id="__import__" | "import_module") | ast.Attribute(attr="import_module"),
                args=[ast.Constant(value=str(spelled)), *_],
            ):
                target = spelled.lstrip(".")
                origin = absolute(module, target, len(spelled) - len(target))
                yield Import(origin, None, for_types, node.lineno)


def is_excused(module: str, found: Import) -> bool:
    """
    Errors carry the request and the response that they are about, and may name their types; the package has the
    stand-ins for the network among its public names, which it loads when they are used.
    """
    if module == "aiosock.__init__" and found.for_types and found.room == "testing":
        return found.name in {"ASGITransport", "MockTransport"}
    return (
        module == "aiosock.errors"
        and found.for_types
        and found.room == "message"
        and found.name in {"Request", "Response"}
    )


def may_import(importer: str, imported: str) -> bool:
    """Law 1, for two rooms."""
    if importer == imported:
        return True
    if (importer, imported) == ("message", "network"):
        return False
    return HEIGHT[imported] < HEIGHT[importer]


def forbidden_imports(module: str, source: str) -> list[str]:
    """Law 1: imports point one way, and only the command line's demo uses the testing tools."""
    room = room_of(module)
    if room not in HEIGHT:
        return [f"{module} is in no room of the plan"]
    return [
        f"{module}:{found.line} imports {found.target}"
        for found in imports(module, source)
        if found.room
        and not may_import(room, found.room)
        and not is_excused(module, found)
        and not (module == "aiosock.cli.demo" and found.room == "testing")
    ]


def import_cycle(sources: Mapping[str, str]) -> list[str]:
    """Law 1: return the modules of a cycle of imports, or nothing."""

    def resolve(found: Import) -> str | None:
        spellings = (found.target, f"{found.target}.__init__", found.module, f"{found.module}.__init__")
        return next((spelling for spelling in spellings if spelling in sources), None)

    graph = {
        module: {
            resolved
            for found in imports(module, source)
            if not is_excused(module, found) and (resolved := resolve(found))
        }
        for module, source in sources.items()
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        cycle: list[str] = error.args[1]
        return cycle
    return []


def worldliness(module: str, source: str) -> list[str]:
    """Law 2: a protocol neither waits nor asks the world for anything."""
    if room_of(module) != "protocol":
        return []
    unwanted = [f"{module}:{i.line} imports {i.target}" for i in imports(module, source) if i.top in WORLDLY]
    waiting = [
        f"{module}:{getattr(node, 'lineno', '?')} is asynchronous"
        for node, _ in nodes(ast.parse(source))
        if isinstance(node, ASYNC_SYNTAX) or (isinstance(node, ast.comprehension) and node.is_async)
    ]
    return unwanted + waiting


def stray_sockets(module: str, source: str) -> list[str]:
    """Law 3: sockets and TLS live in the network; elsewhere type checkers may see ``ssl``."""
    if room_of(module) in {"network", "testing"}:
        return []
    return [
        f"{module}:{found.line} imports {found.target}"
        for found in imports(module, source)
        if found.top in {"socket", "ssl"} and not (found.top == "ssl" and found.for_types)
    ]


def twin(module: str) -> str:
    """Return the path under tests/ where a module's tests belong."""
    *folders, name = module.removeprefix("aiosock.").removesuffix(".__init__").split(".")
    return "/".join([*folders, f"test_{name.strip('_')}.py"])


def unpaired(tests: Collection[str], modules: Collection[str]) -> list[str]:
    """Return the test files, as paths under tests/, that mirror no module or package of aiosock."""
    paired = {twin(module) for module in modules}
    return [test for test in tests if test not in paired and PurePosixPath(test).parts[0] not in UNPAIRED]


Law = Callable[[str, str], list[str]]

SOURCES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts): path.read_text(encoding="utf-8")
    for path in sorted((ROOT / "aiosock").rglob("*.py"))
}


def test_there_is_a_house_to_judge() -> None:
    assert "aiosock.__init__" in SOURCES


@pytest.mark.parametrize("law", [forbidden_imports, worldliness, stray_sockets])
def test_every_module_keeps_the_law(law: Law) -> None:
    assert [offence for module, source in SOURCES.items() for offence in law(module, source)] == []


def test_no_imports_go_in_a_circle() -> None:
    assert import_cycle(SOURCES) == []


def test_every_module_says_what_it_is_for() -> None:
    assert [module for module, source in SOURCES.items() if not ast.get_docstring(ast.parse(source))] == []


def test_every_test_file_mirrors_a_module() -> None:
    tests = sorted(path.relative_to(ROOT / "tests").as_posix() for path in ROOT.glob("tests/**/test_*.py"))
    assert unpaired(tests, SOURCES) == []


@pytest.mark.skipif("AIOSOCK_WHEEL" not in os.environ, reason="set by nox, which installs the wheel")
def test_the_suite_runs_on_the_installed_wheel() -> None:
    import aiosock

    assert "site-packages" in Path(aiosock.__file__).parts


@pytest.mark.parametrize(
    ("law", "module", "source"),
    [
        # Imports point one way, however they are spelled and wherever they stand.
        (forbidden_imports, "aiosock.protocol.socks", "from aiosock.network import tcp"),
        (forbidden_imports, "aiosock.network.tcp", "import aiosock.protocol.http1"),
        (forbidden_imports, "aiosock.message.body", "from aiosock.network.tcp import connect"),
        (forbidden_imports, "aiosock.pool.pool", "from ..client import Client"),
        (forbidden_imports, "aiosock.pool.__init__", "from ..client import Client"),
        (forbidden_imports, "aiosock.config", "from . import message"),
        (forbidden_imports, "aiosock.middleware.retry", "import aiosock"),
        (forbidden_imports, "aiosock.middleware.retry", "from aiosock import Client"),
        (forbidden_imports, "aiosock.api", "from aiosock.cli import main"),
        (forbidden_imports, "aiosock.connection.dial", "def dial():\n    from aiosock.pool import Pool"),
        (
            forbidden_imports,
            "aiosock.connection.dial",
            "if TYPE_CHECKING:\n    from aiosock.pool import Pool",
        ),
        (forbidden_imports, "aiosock.client.client", "import_module('aiosock.cli')"),
        (forbidden_imports, "aiosock.client.client", "importlib.import_module('..cli', __package__)"),
        (forbidden_imports, "aiosock.client.client", "__import__('aiosock.cli')"),
        (forbidden_imports, "aiosock.garden.rose", "'A module in a room that nobody planned.'"),
        # Errors name Request and Response, no others, and only as types.
        (forbidden_imports, "aiosock.errors", "from aiosock.message.request import Request"),
        (forbidden_imports, "aiosock.errors", "if TYPE_CHECKING:\n    from aiosock.message.body import Body"),
        (forbidden_imports, "aiosock.errors", "if TYPE_CHECKING:\n    from aiosock.client import Request"),
        # The testing tools stay out of the library.
        (forbidden_imports, "aiosock.client.client", "from aiosock.testing import Server"),
        (forbidden_imports, "aiosock.cli.main", "from aiosock.testing import Server"),
        (forbidden_imports, "aiosock.__init__", "def __getattr__(name):\n    from aiosock import testing"),
        (forbidden_imports, "aiosock.__init__", "from aiosock.testing.mock import MockTransport"),
        (forbidden_imports, "aiosock.__init__", "if TYPE_CHECKING:\n    from aiosock.testing import Server"),
        # Protocols never wait and ask the world for nothing.
        *((worldliness, "aiosock.protocol.digest", f"import {name}") for name in sorted(WORLDLY)),
        (worldliness, "aiosock.protocol.digest", "from asyncio.events import AbstractEventLoop"),
        (worldliness, "aiosock.protocol.digest", "if TYPE_CHECKING:\n    import ssl"),
        (worldliness, "aiosock.protocol.digest", "def now():\n    from time import monotonic"),
        (worldliness, "aiosock.protocol.digest", "async def f(): ..."),
        (worldliness, "aiosock.protocol.digest", "await f()"),
        (worldliness, "aiosock.protocol.digest", "async for x in y: ..."),
        (worldliness, "aiosock.protocol.digest", "async with x: ..."),
        (worldliness, "aiosock.protocol.digest", "[x async for x in y]"),
        # Sockets and TLS live in the network.
        (stray_sockets, "aiosock.pool.pool", "import socket"),
        (stray_sockets, "aiosock.pool.pool", "from ssl import SSLContext"),
        (stray_sockets, "aiosock.client.client", "def context():\n    import ssl"),
        (stray_sockets, "aiosock.config", "if TYPE_CHECKING:\n    import socket"),
        (stray_sockets, "aiosock.config", "if TYPE_CHECKING:\n    pass\nelse:\n    import ssl"),
    ],
)
def test_the_law_bites(law: Law, module: str, source: str) -> None:
    assert len(law(module, source)) == 1


@pytest.mark.parametrize(
    ("law", "module", "source"),
    [
        (forbidden_imports, "aiosock.config", "from aiosock.errors import UsageError"),
        (forbidden_imports, "aiosock.protocol.http1.parser", "from . import grammar"),
        (forbidden_imports, "aiosock.message.request", "from aiosock.protocol.http1 import grammar"),
        (forbidden_imports, "aiosock.connection.http1", "from aiosock import network, protocol"),
        (forbidden_imports, "aiosock.api", "from aiosock.client import Client"),
        (forbidden_imports, "aiosock.cli.fetch", "from aiosock import Client, errors, run"),
        (forbidden_imports, "aiosock.cli.demo", "from aiosock.testing import Server"),
        (
            forbidden_imports,
            "aiosock.__init__",
            "if TYPE_CHECKING:\n    from aiosock.testing.mock import MockTransport",
        ),
        (forbidden_imports, "aiosock.__main__", "from aiosock.cli import main"),
        (forbidden_imports, "aiosock.testing.server", "from aiosock import cli, client, protocol"),
        (forbidden_imports, "aiosock.pool.pool", "from testing import client"),
        (
            forbidden_imports,
            "aiosock.errors",
            "if typing.TYPE_CHECKING:\n    from aiosock.message import Request, Response",
        ),
        (worldliness, "aiosock.protocol.digest", "import hashlib"),
        (worldliness, "aiosock.protocol.digest", "from . import time"),
        (worldliness, "aiosock.connection.dial", "import asyncio, time\nasync def dial(): ..."),
        (stray_sockets, "aiosock.network.tls", "import socket, ssl"),
        (stray_sockets, "aiosock.testing.server", "import socket, ssl"),
        (stray_sockets, "aiosock.config", "if TYPE_CHECKING:\n    from ssl import SSLContext"),
    ],
)
def test_the_law_lets_be(law: Law, module: str, source: str) -> None:
    assert law(module, source) == []


@pytest.mark.parametrize(
    "back",
    [
        "from aiosock.pool import origin",
        "def lazily():\n    from .origin import Origin",
        "if TYPE_CHECKING:\n    import aiosock.pool.origin",
    ],
)
def test_a_circle_is_found(back: str) -> None:
    sources = {
        "aiosock.pool.__init__": "from aiosock.pool.pool import Pool",
        "aiosock.pool.origin": "from .pool import Pool",
        "aiosock.pool.pool": back,
    }
    assert set(import_cycle(sources)) == {"aiosock.pool.origin", "aiosock.pool.pool"}


def test_a_circle_through_a_package_is_found() -> None:
    sources = {
        "aiosock.pool.__init__": "from aiosock.pool.pool import Pool",
        "aiosock.pool.pool": "from aiosock.pool import Pool",
    }
    assert set(import_cycle(sources)) == set(sources)


def test_errors_and_messages_are_no_circle() -> None:
    sources = {
        "aiosock.errors": "if TYPE_CHECKING:\n    from aiosock.message.request import Request",
        "aiosock.message.request": "from aiosock.errors import UsageError",
    }
    assert import_cycle(sources) == []


@pytest.mark.parametrize(
    "test",
    ["test_errors.py", "test_init.py", "pool/test_pool.py", "protocol/test_http1.py", "fuzz/test_all.py"],
)
def test_a_test_file_has_its_twin(test: str) -> None:
    modules = ["aiosock.__init__", "aiosock.errors", "aiosock.pool.pool", "aiosock.protocol.http1.__init__"]
    assert unpaired([test], modules) == []


@pytest.mark.parametrize("test", ["test_nothing.py", "pool/test_fuzz.py", "client/test_pool.py"])
def test_a_test_file_without_a_twin_is_found(test: str) -> None:
    assert unpaired([test], ["aiosock.__init__", "aiosock.pool.pool"]) == [test]
