"""Importing the package costs little: what is heavy is loaded when it is first used, and every name is there."""

from __future__ import annotations

import inspect
import subprocess
import sys
from collections.abc import Iterator
from types import FunctionType
from typing import get_type_hints

import pytest

import aiosock

# What no program needs before it makes a client, or asks for what few programs ask for.
FOR_A_CLIENT = {
    *("aiosock.api", "aiosock.client", "aiosock.config", "aiosock.connection", "aiosock.message"),
    *("aiosock.middleware", "aiosock.network", "aiosock.pool", "aiosock.protocol"),
    *("dataclasses", "json", "multidict"),
}
# What no client needs before its first URL, or ever.
FOR_A_REQUEST = {
    *("brotli", "certifi", "idna", "ipaddress", "propcache", "urllib.parse", "uvloop", "yarl"),
    *("backports.zstd", "compression.zstd", "click", "email", "http", "rich", "trustme"),
    *("aiosock.cli", "aiosock.testing"),
}


def loaded(program: str, *beside: str) -> set[str]:
    """Return the modules that a program loads in a new interpreter, beside those that are there already."""
    lines = [
        f"import sys, asyncio, ssl, {', '.join(beside)}".rstrip(", "),
        "before = set(sys.modules)",
        program,
        "print(*sys.modules.keys() - before)",
    ]
    command = [sys.executable, "-W", "error", "-c", "\n".join(lines)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    return set(done.stdout.split())


def test_importing_the_package_loads_nothing_heavy() -> None:
    modules = loaded("import aiosock")
    assert "aiosock" in modules
    assert modules & (FOR_A_CLIENT | FOR_A_REQUEST) == set()


def test_the_names_that_programs_use_load_no_more_than_a_client_needs() -> None:
    # How much multidict loads of the standard library is its own affair.
    modules = loaded("import aiosock; aiosock.Client, aiosock.get, aiosock.Response, aiosock.run", "multidict")
    assert "aiosock.client.client" in modules
    assert modules & FOR_A_REQUEST == set()


def test_the_first_url_loads_what_it_needs() -> None:
    assert "yarl" in loaded("import aiosock; aiosock.Request('GET', 'http://h/')")


@pytest.mark.parametrize("name", aiosock.__all__)
def test_every_public_name_is_there_and_stays(name: str) -> None:
    assert name in dir(aiosock)
    value = getattr(aiosock, name)
    assert vars(aiosock)[name] is value


def signatures() -> Iterator[tuple[str, FunctionType | type]]:
    """Give the public functions and classes, and the public methods and properties of these."""
    # Errors name what travels, which is above them.
    errors = {name for name in aiosock.__all__ if hasattr(aiosock.errors, name)}
    for name in sorted(set(aiosock.__all__) - errors):
        public = getattr(aiosock, name)
        if inspect.isfunction(public):
            yield name, public
        if inspect.isclass(public):
            yield name, public
        for method, value in vars(public).items() if inspect.isclass(public) else ():
            function = value.fget if isinstance(value, property) else value
            if inspect.isfunction(function) and (method == "__init__" or not method.startswith("_")):
                yield f"{name}.{method}", function


@pytest.mark.parametrize("function", [pytest.param(function, id=name) for name, function in signatures()])
def test_the_types_of_a_signature_are_found_at_run_time(function: FunctionType | type) -> None:
    assert get_type_hints(function).keys() >= inspect.get_annotations(function).keys()


def test_every_public_name_can_be_imported_in_a_new_interpreter() -> None:
    loaded(f"from aiosock import *\nassert {{*{aiosock.__all__!r}}} <= globals().keys()")


def test_a_name_that_is_not_there_is_missed_as_in_any_module() -> None:
    with pytest.raises(AttributeError, match="^module 'aiosock' has no attribute 'Cleint'$"):
        aiosock.Cleint  # type: ignore[attr-defined]  # noqa: B018 - what is asked for is the test
    assert not hasattr(aiosock, "__wrapped__")


def test_the_rooms_are_there_when_they_are_asked_for() -> None:
    rooms = "aiosock.client, aiosock.config, aiosock.connection, aiosock.message, aiosock.network, aiosock.pool"
    assert "aiosock.pool" in loaded(f"import aiosock; {rooms}, aiosock.protocol, aiosock.middleware, aiosock.api")
