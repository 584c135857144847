"""
Every check of the project, each in an environment of its own: ``nox`` runs those that must pass.

What is tested is the wheel as a user would install it, not the source tree beside the tests.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import nox

PROJECT = nox.project.load_toml("pyproject.toml")
VERSIONS = nox.project.python_versions(PROJECT)

# Whom the benchmarks measure beside aiosock, in their newest versions.
PEERS = ("aiohttp", "httpx", "httpx2", "niquests", "pyreqwest", "wreq", "ry", "curl_cffi", "pycurl")
# One process of tests for each core.
WORKERS = ("-n", "auto")
# Their dependencies belong to the session `examples`.
WITHOUT_EXAMPLES = "--ignore=tests/examples"
# Pure decisions, all of them within a test's reach.
FULLY_COVERED = "*/aiosock/protocol/*,*/aiosock/pool/*"
# Keeps the source tree off `sys.path`, in the processes that tests start as well.
INSTALLED_ONLY = {"PYTHONSAFEPATH": "1", "AIOSOCK_WHEEL": "1"}

nox.options.sessions = ["lint", "types", "tests", "coverage", "examples"]
nox.options.default_venv_backend = "virtualenv"
nox.options.reuse_existing_virtualenvs = True
nox.options.error_on_external_run = True
# A version that is not installed is skipped and named in the summary, on a CI machine too.
nox.options.error_on_missing_interpreters = False
nox.options.download_python = "never"


def runs(interpreter: Path, version: str) -> bool:
    """Tell whether this file is a Python of that version; a shim of pyenv may be there and not run."""
    question = "import sys; print('%d.%d' % sys.version_info[:2])"
    command = [str(interpreter), "-c", question]
    try:
        answer = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    except OSError:
        return False
    return answer.returncode == 0 and answer.stdout.strip() == version


def find_interpreter(version: str) -> Path | None:
    """Return the first interpreter of that version on PATH or among those that pyenv installed."""
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    folders = [*map(Path, os.get_exec_path()), *sorted(pyenv.glob("versions/*/bin"))]
    candidates = (folder / f"python{version}" for folder in folders)
    return next((path for path in candidates if runs(path, version)), None)


def installed_versions() -> list[str]:
    """Return the supported versions that this machine has, and see to it that nox finds each on PATH."""
    found = []
    for version in VERSIONS:
        if path := find_interpreter(version):
            if shutil.which(path.name) != str(path):
                os.environ["PATH"] = os.pathsep.join([str(path.parent), os.environ["PATH"]])
            found.append(version)
        elif version == "{}.{}".format(*sys.version_info):
            # nox offers the interpreter that it runs on itself, whatever its name.
            found.append(version)
    return found


INSTALLED = installed_versions()
if not INSTALLED:
    sys.exit(f"None of the Python versions {', '.join(VERSIONS)} is installed.")
FIRST = INSTALLED[0]


def wheel_folder(session: nox.Session) -> Path:
    return session.cache_dir / "wheel"


def install(session: nox.Session, *groups: str) -> None:
    """Install the wheel with every extra, and the dependency groups named."""
    (wheel,) = wheel_folder(session).glob("*.whl")
    session.install(f"{wheel}[all]", *nox.project.dependency_groups(PROJECT, *groups))
    # In a reused environment pip takes a wheel of the same version for the same wheel.
    session.install("--force-reinstall", "--no-deps", str(wheel))


@nox.session(python=FIRST)
def build(session: nox.Session) -> None:
    """Build the wheel, once, for the sessions that install it."""
    shutil.rmtree(wheel_folder(session), ignore_errors=True)
    session.run(
        *("python", "-m", "pip", "wheel", "--quiet", "--no-deps"),
        *("--wheel-dir", str(wheel_folder(session)), "."),
    )


@nox.session(python=FIRST)
def lint(session: nox.Session) -> None:
    """Check style and format."""
    session.install(*nox.project.dependency_groups(PROJECT, "lint"))
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")


@nox.session(python=FIRST, requires=["build"])
def types(session: nox.Session) -> None:
    """Check the types, by two checkers, beside everything that aiosock may import."""
    install(session, "types")
    session.run("mypy", "--strict", "aiosock", "tests/typing")
    session.run("pyright", "aiosock", "tests/typing")


@nox.session(python=VERSIONS, requires=["build"])
def tests(session: nox.Session) -> None:
    """Run the tests on every Python that is installed."""
    install(session, "test")
    session.run("python", "-m", "pytest", *WORKERS, WITHOUT_EXAMPLES, *session.posargs, env=INSTALLED_ONLY)


@nox.session(python=FIRST, requires=["build"])
def coverage(session: nox.Session) -> None:
    """Run the tests and check how much of the code they reach."""
    install(session, "test")
    session.run("coverage", "erase")
    session.run("coverage", "run", "-m", "pytest", *WORKERS, WITHOUT_EXAMPLES, *session.posargs, env=INSTALLED_ONLY)
    session.run("coverage", "combine", "--quiet")
    session.run("coverage", "report")
    session.run("coverage", "report", f"--include={FULLY_COVERED}", "--fail-under=100")


@nox.session(python=FIRST, requires=["build"])
def examples(session: nox.Session) -> None:
    """Run every example."""
    install(session, "test", "examples")
    session.run("python", "-m", "pytest", *WORKERS, "tests/examples", *session.posargs, env=INSTALLED_ONLY)


@nox.session(python=FIRST, requires=["build"])
def fuzz(session: nox.Session) -> None:
    """Let Hypothesis search for longer than it may in the tests."""
    install(session, "test")
    session.run(
        *("python", "-m", "pytest", "tests/fuzz", "-o", "faulthandler_timeout=0", *session.posargs),
        env=INSTALLED_ONLY | {"HYPOTHESIS_PROFILE": "fuzz"},
    )


@nox.session(python=INSTALLED[-1], requires=["build"])
def bench(session: nox.Session) -> None:
    """Measure how fast it is beside its peers: ``nox -s bench -- --help``."""
    install(session)
    upgrade = ("python", "-m", "pip", "install", "--quiet", "--upgrade", "--only-binary=:all:")
    try:
        session.run(*upgrade, *PEERS, silent=True)
    except nox.command.CommandFailed:
        # One that does not install on this machine is left out, and the report says so.
        for peer in PEERS:
            session.run(*upgrade, peer, success_codes=[0, 1])
    session.run("python", "-m", "tests.benchmarks", *session.posargs)
