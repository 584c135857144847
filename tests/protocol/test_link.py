"""The Link field: each rule of its grammar (RFC 8288, 3)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiosock.protocol.link import parse_links


@pytest.mark.parametrize(
    ("value", "links"),
    [
        ("", []),
        ("<>", [{"url": ""}]),
        ("</a>", [{"url": "/a"}]),
        ("</a>; rel=next", [{"url": "/a", "rel": "next"}]),
        ('</a>;rel="next"', [{"url": "/a", "rel": "next"}]),
        ('</a> ; \t rel = "next last" ;title=x', [{"url": "/a", "rel": "next last", "title": "x"}]),
        ("</a>; rel=next, </b>; rel=prev", [{"url": "/a", "rel": "next"}, {"url": "/b", "rel": "prev"}]),
        (" ,, </a>,,</b> ,", [{"url": "/a"}, {"url": "/b"}]),
        ("<https://a.example/?b=c,d;e&f>; rel=x", [{"url": "https://a.example/?b=c,d;e&f", "rel": "x"}]),
    ],
)
def test_a_field_gives_its_links(value: str, links: list[dict[str, str]]) -> None:
    assert parse_links([value]) == links


def test_the_links_of_several_fields_follow_each_other() -> None:
    assert parse_links(["<a>", "", "<b>;rel=x"]) == [{"url": "a"}, {"url": "b", "rel": "x"}]


def test_names_are_lower_cased_and_the_first_of_each_counts() -> None:
    assert parse_links(['<a>; REL=one; rel=two; Rel="three"']) == [{"url": "a", "rel": "one"}]


def test_the_target_is_not_replaced_by_a_parameter_of_its_name() -> None:
    assert parse_links(["<a>; url=b"]) == [{"url": "a"}]


def test_a_parameter_may_lack_its_value() -> None:
    assert parse_links(["<a>; crossorigin; b=; rel=x"]) == [{"url": "a", "crossorigin": "", "b": "", "rel": "x"}]


@pytest.mark.parametrize(
    ("quoted", "text"),
    [
        ('""', ""),
        ('"a, <b>; c"', "a, <b>; c"),
        (r'"a \"b\" \\ \c"', r'a "b" \ c'),
        ('"\xe9"', "\xe9"),
    ],
)
def test_a_quoted_value_may_hold_anything(quoted: str, text: str) -> None:
    assert parse_links([f"<a>; title={quoted}; rel=x"]) == [{"url": "a", "title": text, "rel": "x"}]


@pytest.mark.parametrize(
    "rest",
    ["nonsense", "; =b", ";; rel=x", '; rel=x "', "x; rel=y", '; title="never closed, <b>; rel=x', "<b", "; title*é=x"],
)
def test_what_is_not_in_the_grammar_ends_its_field_and_what_came_before_is_kept(rest: str) -> None:
    links = parse_links([f"<first>, <a>{rest}, <lost>", "<next>"])
    assert [link["url"] for link in links] == ["first", "a", "next"]


@given(st.lists(st.text()))
def test_no_text_makes_it_fail(values: list[str]) -> None:
    for link in parse_links(values):
        assert isinstance(link["url"], str)


_token = st.text("abcdefghijklmnopqrstuvwxyz-*!", min_size=1)
_target = st.text(st.characters(exclude_characters="<>"))


@given(st.lists(st.tuples(_target, st.dictionaries(_token, st.text(st.characters(exclude_categories=["Cc", "Cs"]))))))
def test_links_that_were_written_are_read_back(links: list[tuple[str, dict[str, str]]]) -> None:
    def quote(text: str) -> str:
        return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'

    field = ", ".join(
        f"<{target}>" + "".join(f"; {name}={quote(value)}" for name, value in parameters.items())
        for target, parameters in links
    )
    assert parse_links([field]) == [{**parameters, "url": target} for target, parameters in links]
