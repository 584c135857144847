"""A file is there whole or not at all, and what is no file is left what it is."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from pathlib import Path

import pytest

from aiosock.cli.output import Output, OutputError, opened


def put(path: Path | str, *pieces: bytes, complete: bool = True) -> None:
    with opened(str(path)) as output:
        asyncio.run(write(output, *pieces))
        output.complete = complete


async def write(output: Output, *pieces: bytes) -> None:
    for piece in pieces:
        await output.write(piece)


def test_a_file_is_written_whole(tmp_path: Path) -> None:
    put(tmp_path / "new", b"one", b"", b"two")
    assert (tmp_path / "new").read_bytes() == b"onetwo"
    assert [path.name for path in tmp_path.iterdir()] == ["new"]


def test_a_file_has_its_name_only_when_it_is_whole(tmp_path: Path) -> None:
    old = tmp_path / "file"
    old.write_bytes(b"old")
    with opened(str(old)) as output:
        asyncio.run(write(output, b"new"))
        assert old.read_bytes() == b"old"
        [part] = [path for path in tmp_path.iterdir() if path != old]
        assert part.read_bytes() == b"new"
        output.complete = True
    assert old.read_bytes() == b"new"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_what_is_not_complete_leaves_the_old_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"old")
    put(tmp_path / "file", b"new", complete=False)
    put(tmp_path / "other", b"new", complete=False)
    with pytest.raises(KeyboardInterrupt), opened(str(tmp_path / "file")) as output:
        output.complete = True
        raise KeyboardInterrupt
    assert (tmp_path / "file").read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_new_file_has_the_usual_mode_and_an_old_one_keeps_its_own(tmp_path: Path) -> None:
    (tmp_path / "usual").touch()
    put(tmp_path / "new", b"x")
    assert (tmp_path / "new").stat().st_mode == (tmp_path / "usual").stat().st_mode
    (tmp_path / "usual").chmod(0o640)
    put(tmp_path / "usual", b"x")
    assert (tmp_path / "usual").stat().st_mode & 0o777 == 0o640


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    target = tmp_path / "folder" / "target"
    target.write_bytes(b"old")
    link = tmp_path / "link"
    link.symlink_to(target)
    put(link, b"new")
    assert link.is_symlink()
    assert target.read_bytes() == b"new"


def test_a_link_to_nothing_gets_its_target(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("target")
    put(tmp_path / "link", b"new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "target").read_bytes() == b"new"


def test_a_device_is_written_to_and_not_replaced() -> None:
    put("/dev/null", b"gone")
    assert Path("/dev/null").is_char_device()


def test_a_named_pipe_is_written_to_and_not_replaced(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    seen: list[bytes] = []
    reader = threading.Thread(target=lambda: seen.append(pipe.read_bytes()))
    reader.start()
    put(pipe, b"through")
    reader.join()
    assert seen == [b"through"]
    assert pipe.is_fifo()


@pytest.mark.parametrize("name", ["missing/file", "", "folder", "a\0b"])
def test_what_cannot_be_opened_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").mkdir()
    path = str(tmp_path / name) if name else name
    with pytest.raises(OutputError, match="^cannot write "):
        put(path, b"x")
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_what_cannot_be_put_in_its_place_is_named(tmp_path: Path) -> None:
    target = tmp_path / "target"
    with pytest.raises(OutputError, match=r"^cannot write .*target: "), opened(str(target)) as output:
        asyncio.run(write(output, b"x"))
        output.complete = True
        target.mkdir()
    assert [path.name for path in tmp_path.iterdir()] == ["target"]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="a device of Linux")
def test_a_full_disk_is_named() -> None:
    with pytest.raises(OutputError, match="cannot write /dev/full: No space left"):
        put("/dev/full", b"x")


def pipe_as_stdout(monkeypatch: pytest.MonkeyPatch) -> tuple[int, int]:
    reading, writing = os.pipe()
    monkeypatch.setattr(sys, "stdout", os.fdopen(writing, "w", closefd=False))
    return reading, writing


@pytest.mark.parametrize("path", [None, "-"])
def test_standard_output_is_written_to_and_stays_open(monkeypatch: pytest.MonkeyPatch, path: str | None) -> None:
    reading, writing = pipe_as_stdout(monkeypatch)
    with opened(path) as output:
        assert not output.is_terminal
        asyncio.run(write(output, b"one"))
        assert os.read(reading, 10) == b"one"
    os.write(writing, b"two")
    assert os.read(reading, 10) == b"two"
    os.close(reading)
    os.close(writing)


def test_a_reader_that_left_is_told_from_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = pipe_as_stdout(monkeypatch)
    os.close(reading)
    with opened(None) as output, pytest.raises(BrokenPipeError):
        asyncio.run(write(output, b"x"))
    os.close(writing)


def test_a_reader_that_pauses_stops_only_the_write(monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = pipe_as_stdout(monkeypatch)
    os.set_blocking(writing, False)  # as a program that shares the pipe may have done
    data = os.urandom(300_000)

    async def main(output: Output) -> bytes:
        sending = asyncio.create_task(output.write(data))
        seen = bytearray()
        while len(seen) < len(data):
            seen += await asyncio.to_thread(os.read, reading, 10_000)
        await sending
        return bytes(seen)

    with opened(None) as output:
        assert asyncio.run(main(output)) == data
    os.close(reading)
    os.close(writing)


def test_a_closed_standard_output_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    with pytest.raises(OutputError, match="closed"), opened(None):
        pass


def test_a_terminal_is_one_only_if_that_was_not_overruled(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = os.openpty()
    monkeypatch.setattr(sys, "stdout", os.fdopen(theirs, "w", closefd=False))
    with opened(None) as output:
        assert output.is_terminal
    with opened("-") as output:
        assert not output.is_terminal
    os.close(ours)
    os.close(theirs)
