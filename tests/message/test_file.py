"""A file is the old one or the new one at any time, whatever ends the writing of it."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aiosock.errors import UsageError
from aiosock.message import file as module
from aiosock.message.file import read_file, unusable, write_file

OLD, NEW = b"old", b"new" * 100_000


def test_what_is_written_is_read(tmp_path: Path) -> None:
    for path in (tmp_path / "a", str(tmp_path / "b")):
        write_file("cookie", path, NEW)
        assert read_file("cookie", path) == NEW


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match=r"^cannot read the cookie file '.*/jar': No such file or directory$"):
        read_file("cookie", tmp_path / "jar")
    with pytest.raises(UsageError, match=r"^cannot read the HSTS file '.*': Is a directory$"):
        read_file("HSTS", tmp_path)
    with pytest.raises(UsageError, match=r"^cannot read the cookie file 'a\\x00': embedded null byte$"):
        read_file("cookie", "a\x00")
    monkeypatch.setattr(module, "MAX_FILE_BYTES", 3)
    for content in (b"123", b"1234"):
        (tmp_path / "jar").write_bytes(content)
        if len(content) > 3:
            with pytest.raises(UsageError, match=r"^the cookie file '.*/jar' has more than 3 bytes$"):
                read_file("cookie", tmp_path / "jar")
        else:
            assert read_file("cookie", tmp_path / "jar") == content


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"^cannot write the cookie file '.*/none/jar': No such file or directory$"):
        write_file("cookie", tmp_path / "none" / "jar", NEW)
    with pytest.raises(UsageError, match=r"^cannot write the cookie file 'a\\x00': "):
        write_file("cookie", "a\x00", NEW)


@pytest.mark.parametrize("path", [3, None, 1.5])
def test_what_is_no_path_is_refused(path: Any) -> None:
    message = f"^path: takes a str or a path, not {type(path).__name__}$"
    with pytest.raises(UsageError, match=message):
        read_file("cookie", path)
    with pytest.raises(UsageError, match=message):
        write_file("cookie", path, NEW)


def test_what_is_no_file_is_not_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    for name in ("pipe", "folder"):
        with pytest.raises(UsageError, match=rf"^cannot write the cookie file '.*/{name}': it is no regular file$"):
            write_file("cookie", tmp_path / name, NEW)
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)
    assert sorted(os.listdir(tmp_path)) == ["folder", "pipe"]


def test_only_its_owner_may_read_a_file(tmp_path: Path) -> None:
    (tmp_path / "jar").touch(0o644)
    write_file("cookie", tmp_path / "jar", NEW)
    assert stat.S_IMODE((tmp_path / "jar").stat().st_mode) == 0o600


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("folder/jar")
    write_file("cookie", tmp_path / "link", NEW)
    assert (tmp_path / "link").is_symlink()
    assert read_file("cookie", tmp_path / "folder" / "jar") == NEW
    assert os.listdir(tmp_path / "folder") == ["jar"]


@pytest.mark.parametrize("step", ["fsync", "replace"])
@pytest.mark.parametrize("failure", [OSError(28, "No space left on device"), KeyboardInterrupt()], ids=["disk", "stop"])
def test_what_fails_leaves_the_old_file_and_no_other(
    step: str, failure: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_file("cookie", tmp_path / "jar", OLD)

    def fail(*_: Any) -> None:
        raise failure

    monkeypatch.setattr(os, step, fail)
    with pytest.raises((UsageError, KeyboardInterrupt), match="No space left on device|^$"):
        write_file("cookie", tmp_path / "jar", NEW)
    assert os.listdir(tmp_path) == ["jar"]
    assert read_file("cookie", tmp_path / "jar") == OLD


def test_a_file_is_on_the_disk_before_it_takes_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[str] = []

    def note(step: str) -> Callable[..., None]:
        real = getattr(os, step)

        def noting(*args: Any) -> None:
            steps.append(step)
            real(*args)

        return noting

    for step in ("fsync", "replace"):
        monkeypatch.setattr(os, step, note(step))
    write_file("cookie", tmp_path / "jar", NEW)
    assert steps == ["fsync", "replace"]


# The process is killed for writing more, or ends itself, without any word, before or after a step.
CRASH = """
import os, resource, signal, sys
from aiosock.message.file import write_file

path, step, after = sys.argv[1], sys.argv[2], sys.argv[3] == "after"
if step == "write":
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
else:
    real = getattr(os, step)

    def end(*args):
        if after:
            real(*args)
        os._exit(9)

    setattr(os, step, end)
write_file("cookie", path, b"new" * 100_000)
"""


@pytest.mark.parametrize(
    ("step", "when", "content"),
    [
        ("open", "after", OLD),
        ("write", "amid", OLD),
        ("fsync", "before", OLD),
        ("replace", "before", OLD),
        ("replace", "after", NEW),
    ],
)
def test_a_crash_leaves_the_old_file_whole_or_the_new_one(step: str, when: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / "jar").write_bytes(OLD)
    ended = subprocess.run([sys.executable, "-B", "-c", CRASH, str(tmp_path / "jar"), step, when], check=False)
    assert ended.returncode != 0
    assert (tmp_path / "jar").read_bytes() == content


def test_what_is_in_a_file_may_be_unusable(tmp_path: Path) -> None:
    error = unusable("cookie", tmp_path / "jar", "line 1: odd")
    assert str(error) == f"the cookie file {str(tmp_path / 'jar')!r} cannot be used: line 1: odd"
