"""The command line's front door: the same however it is started, and clear where its extra is missing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from aiosock.version import __version__


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-W", "error", *arguments], capture_output=True, text=True, timeout=60)


def test_the_module_and_the_script_are_the_same() -> None:
    module = python("-m", "aiosock", "--version")
    script = python("-c", "import sys; from aiosock.cli import main; sys.exit(main())", "--version")
    assert module.returncode == script.returncode == 0
    assert module.stdout == script.stdout
    assert module.stdout.startswith(f"aiosock {__version__} ")


def test_the_installed_script_is_the_same() -> None:
    script = Path(sys.executable).with_name("aiosock")
    if not script.exists():
        pytest.skip("the package is not installed with its script")
    done = subprocess.run([script, "--version"], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, python("-m", "aiosock", "--version").stdout)


@pytest.mark.parametrize("package", ["click", "rich"])
@pytest.mark.parametrize("arguments", [["http://localhost/"], ["demo"], ["--version"], []])
def test_a_missing_extra_is_named_in_one_line(package: str, arguments: list[str]) -> None:
    hide = f"import sys; sys.modules[{package!r}] = None; from aiosock.cli import main; sys.exit(main())"
    done = python("-c", hide, *arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.splitlines() == [
        f"aiosock: {package} is not installed; the command line needs aiosock-http[cli]",
    ]


def test_another_missing_module_is_no_missing_extra() -> None:
    hide = "import sys; sys.modules['aiosock.cli.command'] = None; from aiosock.cli import main; main()"
    done = python("-c", hide, "--version")
    assert done.returncode == 1
    assert "ModuleNotFoundError" in done.stderr


def test_importing_the_package_brings_no_extra_along() -> None:
    code = "import sys, aiosock.cli; print({'click', 'rich', 'trustme', 'aiosock.testing'} & sys.modules.keys())"
    assert python("-c", code).stdout == "set()\n"


def test_importing_main_runs_nothing() -> None:
    assert python("-c", "import aiosock.__main__").returncode == 0
