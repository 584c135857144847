"""The names of the package are there, each loaded when it is first used."""

from __future__ import annotations

import subprocess
import sys

import pytest

import aiosock.testing


def run(program: str) -> str:
    command = [sys.executable, "-W", "error", "-c", program]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout.strip()


@pytest.mark.parametrize("name", aiosock.testing.__all__)
def test_every_public_name_is_there_and_stays(name: str) -> None:
    assert name in dir(aiosock.testing)
    value = getattr(aiosock.testing, name)
    assert vars(aiosock.testing)[name] is value


def test_a_name_that_is_not_there_is_missed_as_in_any_module() -> None:
    with pytest.raises(AttributeError, match="^module 'aiosock.testing' has no attribute 'Sever'$"):
        aiosock.testing.Sever  # type: ignore[attr-defined]  # noqa: B018 - what is asked for is the test


def test_importing_the_package_loads_none_of_it() -> None:
    program = "import sys, aiosock.testing; print(*(name for name in sys.modules if name.startswith('aiosock.')))"
    assert set(run(program).split()) == {"aiosock.errors", "aiosock.testing", "aiosock.version"}


@pytest.mark.parametrize(
    "before", ["", "import aiosock.testing.site", "from aiosock.testing.site import PAGES", "aiosock.testing.site"]
)
def test_site_is_the_script_whoever_imported_its_module(before: str) -> None:
    program = f"import aiosock.testing\n{before}\nfrom aiosock.testing import site\nprint(callable(site))"
    assert run(program) == "True"
