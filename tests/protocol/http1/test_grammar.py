"""What is in the grammar is read, and what is not is refused: each rule on its own, without a state machine."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiosock.errors import HeadTooLarge, RemoteProtocolError
from aiosock.protocol.http1.grammar import (
    _SEEN_LINES,
    FIELD_BYTES,
    KNOWN_NAMES,
    MAX_SEEN_BYTES,
    MAX_SEEN_LINES,
    TOKEN_CHARS,
    is_token,
    parse_chunk_size,
    parse_content_length,
    parse_fields,
    parse_keep_alive_seconds,
    parse_status_line,
    section_lines,
    shown,
    split_list,
)

# Tokens and field bytes


def test_a_token_is_made_of_the_characters_of_rfc_9110_and_no_others() -> None:
    tchar = "!#$%&'*+-.^_`|~"
    for code in range(0x180):
        character = chr(code)
        allowed = character in tchar or (character.isascii() and character.isalnum())
        assert bool(is_token(character)) is allowed, repr(character)
    assert sorted(TOKEN_CHARS.decode()) == sorted(set(TOKEN_CHARS.decode()))


@pytest.mark.parametrize("text", ["", " a", "a ", "a b", "a\n", "\na", "a:", "a\0", "\u212a", "é"])
def test_what_has_another_character_anywhere_is_no_token(text: str) -> None:
    assert not is_token(text)


def test_a_field_may_hold_htab_space_visible_ascii_and_obs_text() -> None:
    assert sorted(FIELD_BYTES) == [9, *range(32, 127), *range(128, 256)]


def test_known_names_are_tokens_and_stand_for_themselves() -> None:
    assert KNOWN_NAMES["content-length"] == "content-length"
    assert KNOWN_NAMES["Content-Length"] == "Content-Length"
    assert all(is_token(spelling) and str(name) == spelling for spelling, name in KNOWN_NAMES.items())


@pytest.mark.parametrize("start", [b"\x00\xff\r\n<", bytearray(b"\x00\xff\r\n<"), "\x00\xff\r\n<"])
def test_what_a_peer_sent_is_shown_short_and_without_line_ends(start: bytes | bytearray | str) -> None:
    text = shown(start * 100)
    assert text.isprintable()
    assert len(text) <= 3 + 4 * 40
    assert "\\x00" in text


# Status lines


@pytest.mark.parametrize(
    ("line", "parsed"),
    [
        ("HTTP/1.1 200 OK", ("HTTP/1.1", 200, "OK")),
        ("HTTP/1.0 404 Not Found", ("HTTP/1.0", 404, "Not Found")),
        ("HTTP/1.1 200 Fine", ("HTTP/1.1", 200, "Fine")),
        ("HTTP/1.1 200 ", ("HTTP/1.1", 200, "")),
        ("HTTP/1.1 200", ("HTTP/1.1", 200, "")),
        ("HTTP/1.0 200", ("HTTP/1.0", 200, "")),
        ("HTTP/1.1 200  two  spaces", ("HTTP/1.1", 200, " two  spaces")),
        ("HTTP/1.1 200 a\tb \xe9", ("HTTP/1.1", 200, "a\tb \xe9")),
        ("HTTP/1.1 100 Continue", ("HTTP/1.1", 100, "Continue")),
        ("HTTP/1.1 999 What", ("HTTP/1.1", 999, "What")),
        # A higher minor version is understood as the highest that is known (RFC 9110, 2.5).
        ("HTTP/1.2 200 OK", ("HTTP/1.1", 200, "OK")),
        ("HTTP/1.9 200 OK", ("HTTP/1.1", 200, "OK")),
    ],
)
def test_a_status_line_gives_version_code_and_reason(line: str, parsed: tuple[str, int, str]) -> None:
    assert parse_status_line(line) == parsed


@pytest.mark.parametrize(
    "line",
    [
        "",
        "HTTP/1.1",
        "HTTP/1.1 ",
        "HTTP/1.1 20",
        "HTTP/1.1 2000",
        "HTTP/1.1 200OK",
        "HTTP/1.1 200\tOK",
        "HTTP/1.1  200 OK",
        "HTTP/1.1\t200 OK",
        " HTTP/1.1 200 OK",
        "HTTP/1.1 099 Low",
        "HTTP/1.1 000 Low",
        "HTTP/1.1 +20 OK",
        "HTTP/1.1 2x0 OK",
        "HTTP/1.1 \u0662\u0660\u0660 OK",
        "HTTP/11 200 OK",
        "HTTP/1.10 200 OK",
        "HTTP/1 200 OK",
        "HTTP/1,1 200 OK",
        "http/1.1 200 OK",
        "HTTP/1.1 200 OK\nX: y",
        "ICY 200 OK",
    ],
)
def test_what_is_no_status_line_is_refused(line: str) -> None:
    with pytest.raises(RemoteProtocolError, match="does not begin with an HTTP/1 status line but with"):
        parse_status_line(line)


@pytest.mark.parametrize("line", ["HTTP/2.0 200 OK", "HTTP/0.9 200 OK", "HTTP/3.0 200"])
def test_another_major_version_is_refused_by_its_name(line: str) -> None:
    with pytest.raises(RemoteProtocolError, match=f"speaks {re.escape(line[:8])}, not HTTP/1.1 or HTTP/1.0"):
        parse_status_line(line)


# Lines


@pytest.mark.parametrize(
    ("section", "lines"),
    [
        (b"S\r\n\r\n", ["S"]),
        (b"S\r\nA: b\r\nC: d\r\n\r\n", ["S", "A: b", "C: d"]),
        (b"S\nA: b\n\n", ["S", "A: b"]),
        (b"S\r\nA: b\n\r\n", ["S", "A: b"]),
        (b"S\nA: b\r\n\n", ["S", "A: b"]),
        (b"S\r\nA: b\r\n c\r\n\r\n", ["S", "A: b c"]),
        (b"S\r\nA: b \r\n\t \tc\r\n  d\r\nE: f\r\n\r\n", ["S", "A: b  c d", "E: f"]),
        (b"S\nA:\n b\n\n", ["S", "A: b"]),
        (b"S\r\nA: b\r\n\tc\r\n\r\n", ["S", "A: b c"]),
        (b"S\r\nA: b\r\n \r\n\r\n", ["S", "A: b "]),
        # Under the status line there is nothing to continue: the line stays, for its name to be refused.
        (b"S\r\n A: b\r\n\tc\r\n\r\n", ["S", " A: b c"]),
        (b"S\r\n\tA: b\r\n\r\n", ["S", "\tA: b"]),
        (b"S\r\nA: \t\xe9\xff\x80\r\n\r\n", ["S", "A: \t\xe9\xff\x80"]),
    ],
)
def test_a_head_is_cut_into_unfolded_lines(section: bytes, lines: list[str]) -> None:
    assert section_lines(section) == lines


def test_in_trailers_the_first_line_is_a_field_and_may_be_folded() -> None:
    assert section_lines(b"A: b\r\n c\r\n\r\n", trailers=True) == ["A: b c"]


def test_a_control_character_is_refused_wherever_it_stands() -> None:
    for stray in (bytes([code]) for code in range(256) if code not in FIELD_BYTES and code != 0x0A):
        for section in (
            b"S" + stray + b"t\r\nA: b\r\n\r\n",
            b"S\r\nA" + stray + b": b\r\n\r\n",
            b"S\r\nA: b" + stray + b"c\r\n\r\n",
            b"S\r\nA: b" + stray + b"\r\n\r\n",
        ):
            with pytest.raises(RemoteProtocolError, match=re.escape(f"forbidden control character: {stray!r}")):
                section_lines(section)


@pytest.mark.parametrize(
    "section",
    [b"A: b\nC: d\r\n\r\n", b"A: b\r\nC: d\n\r\n", b"A: b\r\n\n", b"A: b\n\r\n", b"A: b\n\n", b"A: b\r\n c\n\r\n"],
)
def test_lf_without_cr_is_refused_in_trailers(section: bytes) -> None:
    assert section_lines(section)
    with pytest.raises(RemoteProtocolError, match="LF without CR"):
        section_lines(section, trailers=True)


# Fields


def test_fields_keep_their_order_and_spelling() -> None:
    fields = parse_fields(["Server: a", "x-B: c", "SERVER: d", "server: e", "Set-Cookie: f", "set-cookie: g"], 6)
    assert [(str(name), value) for name, value in fields.items()] == [
        ("Server", "a"),
        ("x-B", "c"),
        ("SERVER", "d"),
        ("server", "e"),
        ("Set-Cookie", "f"),
        ("set-cookie", "g"),
    ]
    assert fields.getall("sErVeR") == ["a", "d", "e"]


@pytest.mark.parametrize("name", ["Server", "X-Own"])
@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", ""),
        (" ", ""),
        ("\t \t", ""),
        ("a", "a"),
        (" \ta b\t ", "a b"),
        ("a:b", "a:b"),
        ('"', '"'),
        ("\xa0a\xa0", "\xa0a\xa0"),
        ("\x85a", "\x85a"),
    ],
)
def test_only_space_and_htab_around_a_value_are_dropped(name: str, text: str, value: str) -> None:
    assert parse_fields([f"{name}:{text}"], 1)[name] == value


@pytest.mark.parametrize("line", ["Server", "X-Own", "", " ", "a b"])
def test_a_line_without_a_colon_is_no_field(line: str) -> None:
    with pytest.raises(RemoteProtocolError, match="has no colon"):
        parse_fields([line], 1)


@pytest.mark.parametrize("line", ["Server : a", "X-Own\t: a", "a  \t: b", " : a"])
def test_white_space_before_the_colon_is_refused(line: str) -> None:
    with pytest.raises(RemoteProtocolError, match="white space before the colon"):
        parse_fields([line], 1)


@pytest.mark.parametrize("line", [": a", " Server: a", "\tA: b", "a b: c", "a(b): c", "\xe9: a", '"a": b', "a/b: c"])
def test_a_name_that_is_no_token_is_refused(line: str) -> None:
    with pytest.raises(RemoteProtocolError, match="not a token"):
        parse_fields([line], 1)


def test_more_fields_than_the_limit_are_refused_with_both_numbers() -> None:
    assert len(parse_fields(["A: b"] * 5, 5)) == 5
    with pytest.raises(HeadTooLarge, match="has 6 fields; the limit is 5"):
        parse_fields(["A: b"] * 6, 5)


# Lines that came before


def test_a_line_that_came_before_gives_the_same_field_and_fields_of_its_own() -> None:
    lines = ["Server: a", "server:a ", "X-Own: b", "Server: a"]
    for _ in range(3):
        fields = parse_fields(lines, 4)
        assert [(str(name), value) for name, value in fields.items()] == [
            ("Server", "a"),
            ("server", "a"),
            ("X-Own", "b"),
            ("Server", "a"),
        ]
        fields["Server"] = "changed"
    assert _SEEN_LINES == {"Server: a": ("Server", "a"), "server:a ": ("server", "a")}


def test_more_fields_than_the_limit_are_refused_also_when_their_lines_came_before() -> None:
    parse_fields(["Server: a"] * 3, 3)
    for _ in range(2):
        with pytest.raises(HeadTooLarge, match="the answer has 3 fields; the limit is 2"):
            parse_fields(["Server: a"] * 3, 2)


def test_what_is_unlikely_to_come_again_is_not_remembered() -> None:
    names = ("Set-Cookie", "set-cookie", "SET-COOKIE", "X-Request-Id", "x-request-id", "CF-RAY", "cf-ray", "X-Own")
    lines = [f"{name}: secret" for name in names]
    for _ in range(2):
        assert list(parse_fields(lines, 100).values()) == ["secret"] * len(names)
    assert not _SEEN_LINES


def test_lines_are_remembered_within_bounds() -> None:
    most = 0
    for number in range(2 * MAX_SEEN_LINES + 10):
        assert parse_fields([f"Age: {number}"] * 2, 2).getall("Age") == [str(number)] * 2
        most = max(most, len(_SEEN_LINES))
        assert len(_SEEN_LINES) <= MAX_SEEN_LINES
    assert most == MAX_SEEN_LINES


def test_long_lines_are_not_remembered() -> None:
    for size, remembered in ((MAX_SEEN_BYTES, True), (MAX_SEEN_BYTES + 1, False)):
        line = "Server: ".ljust(size, "x")
        for _ in range(2):
            assert parse_fields([line], 1)["Server"] == line[8:]
        assert (line in _SEEN_LINES) is remembered


@pytest.mark.parametrize("line", ["Server", "Server : a", "\tServer: a", "a b: c", ": a", ""])
def test_what_is_no_field_is_refused_again_and_in_the_same_words(line: str) -> None:
    said = []
    for _ in range(2):
        with pytest.raises(RemoteProtocolError) as info:
            parse_fields(["Age: 1", line, "Age: 2"], 100)
        said.append(str(info.value))
    assert said[0] == said[1]
    assert line not in _SEEN_LINES


# Content-Length


@pytest.mark.parametrize(
    ("values", "length"),
    [
        (["0"], 0),
        (["5"], 5),
        (["005"], 5),
        (["5", "5"], 5),
        (["5,5"], 5),
        (["5 ,\t5", "05"], 5),
        ([" 5\t"], 5),
        (["9223372036854775807"], 2**63 - 1),
        (["0" * 5000 + "7"], 7),
        (["0" * 5000], 0),
    ],
)
def test_equal_content_lengths_collapse(values: list[str], length: int) -> None:
    assert parse_content_length(values) == length


@pytest.mark.parametrize(
    "value",
    [
        "",
        " ",
        ",",
        "5,",
        ",5",
        "+5",
        "-1",
        "-0",
        "5.0",
        "5 5",
        "0x5",
        "5_0",
        "1e3",
        "a",
        "\u0665",
        "²",
        "5;",
        "\xa05",
        "5\x85",
    ],
)
def test_a_malformed_content_length_is_refused(value: str) -> None:
    with pytest.raises(RemoteProtocolError, match="Content-Length is not a number of bytes"):
        parse_content_length([value])
    with pytest.raises(RemoteProtocolError, match="Content-Length is not a number of bytes"):
        parse_content_length(["5", value])


@pytest.mark.parametrize("values", [["5,6"], ["5", "6"], ["5", "5", "6"], ["0", "1"]])
def test_unequal_content_lengths_are_refused(values: list[str]) -> None:
    with pytest.raises(RemoteProtocolError, match="given with different values"):
        parse_content_length(values)


@pytest.mark.parametrize("value", [str(2**63), "9" * 19, "1" + "0" * 19, "9" * 10_000])
def test_a_content_length_over_the_limit_is_refused(value: str) -> None:
    with pytest.raises(RemoteProtocolError, match=f"over the limit of {2**63 - 1} bytes"):
        parse_content_length([value])


# Chunk sizes


@pytest.mark.parametrize(
    ("line", "size"),
    [
        (b"0", 0),
        (b"000", 0),
        (b"a", 10),
        (b"A", 10),
        (b"1F", 31),
        (b"ffffffffffffffff", 2**64 - 1),
        (b"5;a", 5),
        (b'5;a=b;c="d;e"', 5),
        (b"5 \t;a", 5),
        (b"5 ", 5),
        (b"5;", 5),
        (b"0;a=\x80", 0),
    ],
)
def test_a_chunk_size_is_hexadecimal_and_extensions_are_skipped(line: bytes, size: int) -> None:
    assert parse_chunk_size(line) == size


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b" ",
        b";",
        b";a",
        b"g",
        b"0x5",
        b"-1",
        b"+1",
        b" 5",
        b"\t5",
        b"5 5",
        b"5,5",
        b"5_5",
        b"5\x00",
        b"1.0",
        b"\xb2",
        b"0" * 17,
    ],
)
def test_a_malformed_chunk_size_is_refused(line: bytes) -> None:
    with pytest.raises(RemoteProtocolError, match="not 1 to 16 hexadecimal digits"):
        parse_chunk_size(line)


@pytest.mark.parametrize("control", [b"\x00", b"\x0b", b"\x1f", b"\x7f"])
def test_a_chunk_extension_holds_no_control_character(control: bytes) -> None:
    assert parse_chunk_size(b'5; a\t="\xff"') == 5
    with pytest.raises(RemoteProtocolError, match="a chunk extension holds a forbidden control character"):
        parse_chunk_size(b"5;a=" + control)


@given(st.integers(0, 2**64 - 1), st.sampled_from(["%x", "%X", "%016x"]))
def test_any_chunk_size_comes_back_as_it_was_written(size: int, form: str) -> None:
    assert parse_chunk_size((form % size).encode()) == size


# Lists


@pytest.mark.parametrize(
    ("values", "members"),
    [
        ([], []),
        ([""], []),
        ([" , ,\t"], []),
        (["close"], ["close"]),
        (["Keep-Alive,  UPGRADE\t,", ",Close"], ["keep-alive", "upgrade", "close"]),
        (["gzip;q=1, chunked"], ["gzip;q=1", "chunked"]),
    ],
)
def test_a_list_gives_its_members_in_lower_case_and_drops_empty_ones(values: list[str], members: list[str]) -> None:
    assert split_list(values) == members


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("timeout=5", 5),
        ("timeout=0", 0),
        ("max=100, Timeout = 15", 15),
        ('timeout="30", max=5', 30),
        ("timeout=5, timeout=6", 5),
        ("timeout=x, timeout=6", 6),
        ("timeout=" + "9" * 5000, 999_999_999),
        ("", None),
        ("max=100", None),
        ("timeout", None),
        ("timeout=", None),
        ("timeout=-5", None),
        ("timeout=5s", None),
        ("timeout=\u0665", None),
        ("timeout=²", None),
        ("mytimeout=5", None),
    ],
)
def test_keep_alive_tells_its_timeout_or_nothing(value: str, seconds: int | None) -> None:
    assert parse_keep_alive_seconds(value) == seconds
