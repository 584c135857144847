"""What a terminal is shown: text that cannot steer it, and escape codes only where they are wanted."""

from __future__ import annotations

import io

import pytest

from aiosock.cli.terminal import console, printable, printable_text


class Screen(io.TextIOWrapper):
    def __init__(self, encoding: str = "utf-8", *, terminal: bool = True) -> None:
        self.bytes = io.BytesIO()
        self._terminal = terminal
        super().__init__(self.bytes, encoding=encoding, write_through=True)

    def isatty(self) -> bool:
        return self._terminal


@pytest.fixture(autouse=True)
def surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "COLORTERM"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")


def shown(screen: Screen) -> bytes:
    console(screen).print("x", style="bold red")
    return screen.bytes.getvalue()


def test_a_terminal_gets_colours() -> None:
    assert b"\x1b[" in shown(Screen())


@pytest.mark.parametrize(("name", "value"), [("NO_COLOR", "1"), ("NO_COLOR", "yes"), ("TERM", "dumb")])
def test_a_terminal_that_is_not_to_be_drawn_on_gets_plain_lines(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert shown(Screen()) == b"x\n"


@pytest.mark.parametrize("name", ["FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"])
def test_what_is_no_terminal_gets_plain_lines_whatever_the_environment_says(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "1")
    assert shown(Screen(terminal=False)) == b"x\n"


def test_an_empty_no_color_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "")
    assert b"\x1b[" in shown(Screen())


def test_an_encoding_too_small_to_draw_with_gets_plain_lines_and_no_error() -> None:
    screen = Screen("latin-1")
    assert not console(screen).is_terminal
    console(screen).print("grüße ☂")
    assert screen.bytes.getvalue() == b"gr\xfc\xdfe \\u2602\n"


def test_long_lines_are_neither_cut_nor_broken() -> None:
    screen = Screen(terminal=False)
    console(screen).print("word " * 100 + "[bold]:smile:")
    assert screen.bytes.getvalue().decode() == "word " * 100 + "[bold]:smile:\n"


def test_a_line_has_nothing_that_steers() -> None:
    assert printable("a\x1b[2Jb\tc\r\nd\x9be\x00ü☂") == "a\N{REPLACEMENT CHARACTER}[2Jb\tc" + (
        "\N{REPLACEMENT CHARACTER}" * 2 + "d\N{REPLACEMENT CHARACTER}e\N{REPLACEMENT CHARACTER}ü☂"
    )


def test_a_text_keeps_its_lines_and_has_nothing_that_steers() -> None:
    assert printable_text("a\r\n\tb\x1b]0;x\x07\x9bü☂\n") == (
        "a\n\tb\N{REPLACEMENT CHARACTER}]0;x\N{REPLACEMENT CHARACTER}\N{REPLACEMENT CHARACTER}ü☂\n"
    )
