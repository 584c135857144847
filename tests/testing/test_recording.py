"""A recording says all that is needed to play it back, in words, and nothing that is secret."""

from __future__ import annotations

import gzip
import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiosock.errors import UsageError
from aiosock.testing.recording import Recorded, Secrets, encode, parse

VERSION_LINE = '{"aiosock-recording": 1}\n'
FORM = [("Content-Type", "application/x-www-form-urlencoded")]


def exchange(**changes: Any) -> Recorded:
    return Recorded(**{"method": "GET", "url": "http://h/", "headers": [], "body": b"", "status": 200} | changes)


def line(**changes: Any) -> str:
    request = {"method": "GET", "url": "http://h/", "headers": [], "text": ""}
    response = {"status": 200, "reason": "OK", "headers": [], "text": "", "complete": True}
    for name, value in changes.items():
        side, _, member = name.partition("_")
        (request if side == "request" else response)[member] = value
    return json.dumps({"request": request, "response": response})


def test_a_file_can_be_read_by_people() -> None:
    one = exchange(
        method="POST",
        headers=[("A", "1"), ("a", "2")],
        body="caf\u00e9".encode(),
        reason="OK",
        response_headers=[("B", "1")],
        content=bytearray(b"\x89PNG\xff"),
        trailers=[("T", "1")],
        complete=True,
    )
    assert encode([one, exchange(status=None)]).splitlines() == [
        '{"aiosock-recording": 1}',
        '{"request": {"method": "POST", "url": "http://h/", "headers": [["A", "1"], ["a", "2"]], "text": "caf\u00e9"}, '
        '"response": {"status": 200, "reason": "OK", "headers": [["B", "1"]], "base64": "iVBOR/8=", '
        '"trailers": [["T", "1"]], "complete": true}}',
    ]


text = st.text(st.characters(codec="utf-8"))
fields = st.lists(st.tuples(text, text))
exchanges = st.builds(
    Recorded,
    method=text,
    url=text,
    headers=fields,
    body=st.binary() | text.map(str.encode),
    status=st.integers(100, 999),
    reason=text,
    response_headers=fields,
    content=st.binary().map(bytearray),
    trailers=fields,
    complete=st.booleans(),
)


@given(st.lists(exchanges))
def test_what_is_written_is_read(recorded: list[Recorded]) -> None:
    assert parse(encode(recorded), "it") == recorded


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "line 1 is no JSON"),
        ("[1]\n", "line 1: there is no 'aiosock-recording'"),
        ('{"aiosock-recording": 2}\n', "line 1: its version is 2, and this aiosock knows 1"),
        (VERSION_LINE + line() + "\n{\n", "line 3 is no JSON"),
        (VERSION_LINE + "\n" + line(), "line 2 is no JSON"),
        pytest.param(VERSION_LINE + "[" * 100_000, "line 2 is no JSON", id="deep"),
        (VERSION_LINE + "3", "line 2: there is no 'request'"),
        (VERSION_LINE + '{"request": {}}', "line 2: there is no 'response'"),
        (VERSION_LINE + '{"request": [], "response": {}}', "line 2: 'request' is a list"),
        (VERSION_LINE + line(request_method=1), "line 2: 'method' is a int"),
        (VERSION_LINE + line(response_status=True), "line 2: 'status' is a bool"),
        (VERSION_LINE + line(response_headers=[["a"]]), "line 2: 'headers' has what is no pair of name and value"),
        (VERSION_LINE + line(request_headers=[["a", 1]]), "line 2: 'headers' has what is no pair of name and value"),
        (VERSION_LINE + line(response_trailers=["ab"]), "line 2: 'trailers' has what is no pair of name and value"),
        (VERSION_LINE + line(response_base64="%"), "line 2: 'base64' is none"),
        (VERSION_LINE + line(request_text=None), "line 2: 'text' is a NoneType"),
    ],
)
def test_what_is_no_recording_is_refused_with_its_line(content: str, said: str) -> None:
    with pytest.raises(UsageError, match=f"^the recording x.jsonl cannot be used: {re.escape(said)}"):
        parse(content, "x.jsonl")


def test_requests_are_alike_whose_forms_differ_by_their_boundary() -> None:
    one, two = (
        exchange(headers=[("Content-Type", f'multipart/form-data; boundary="{mark}"')], body=f"--{mark}\r\n".encode())
        for mark in ("x1", "y22")
    )
    assert one.key == two.key
    assert one.key != exchange(body=b"--z").key


# What is left out


@pytest.mark.parametrize("name", ["Authorization", "Proxy-Authorization", "COOKIE", "X-Api-Key", "x-own"])
def test_secret_fields_keep_their_names_alone(name: str) -> None:
    secrets = Secrets(["X-Own"], [], [])
    one = secrets.redacted(exchange(headers=[(name, "s3cret")], response_headers=[(name, "s3cret")]))
    assert one.headers == one.response_headers == [(name, "REDACTED")]


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        ("id=s3cret; Path=/; Secure", "id=REDACTED; Path=/; Secure"),
        ("s3cret", "REDACTED"),
        ("s3cret; Path=/", "REDACTED"),
    ],
)
def test_a_cookie_that_is_set_keeps_its_name_and_attributes(value: str, kept: str) -> None:
    one = Secrets([], [], []).redacted(exchange(response_headers=[("Set-Cookie", value)]))
    assert one.response_headers == [("Set-Cookie", kept)]


@pytest.mark.parametrize(
    ("url", "kept"),
    [
        ("http://h/?key=s3cret", "http://h/?key=REDACTED"),
        ("http://h/?a=1&key=s3cret&b=2", "http://h/?a=1&key=REDACTED&b=2"),
        ("http://h/?k%65y=s3cret&key=s3cret&monkey=1", "http://h/?k%65y=REDACTED&key=REDACTED&monkey=1"),
        ("http://h/#key=s3cret", "http://h/#key=REDACTED"),
        ("http://h/key=1?key", "http://h/key=1?key"),
    ],
)
def test_secret_parameters_keep_their_names_wherever_a_url_stands(url: str, kept: str) -> None:
    secrets = Secrets([], ["key"], [])
    given = [("Location", url), ("Link", f"<{url}>; rel=next"), ("Refresh", f"0;url={url}")]
    one = secrets.redacted(exchange(url=url, response_headers=given, trailers=given))
    assert one.url == kept
    assert [value for _, value in one.response_headers] == [kept, f"<{kept}>; rel=next", f"0;url={kept}"]
    assert one.trailers == one.response_headers


@pytest.mark.parametrize(
    ("url", "kept"),
    [
        ("http://h/?key=ab's3cret", "http://h/?key=REDACTED"),
        ("http://h/?key=ab;s3cret&b=2", "http://h/?key=REDACTED&b=2"),
        ("http://h/?key=ab?s3cret#c", "http://h/?key=REDACTED#c"),
        ('http://h/?key=ab<s3cret>"s3cret s3cret', "http://h/?key=REDACTED"),
        ("http://h/?a=1;key=s3cret&b=2", "http://h/?a=1;key=REDACTED&b=2"),
        ("http://h/?next=http://h/?a=1?key=ab's3cret&b=2", "http://h/?next=http://h/?a=1?key=REDACTED&b=2"),
        ("http://h/?next=http%3A%2F%2Fh%2F%3Fkey%3Ds3cret&b=2", "http://h/?next=REDACTED&b=2"),
        ("http://h/?next=http%253A%252F%252Fh%252F%253Fkey%253Ds3cret&b=2", "http://h/?next=REDACTED&b=2"),
        ("http://h/?next=%2F%3Fa%3D1%26key%3Ds3cret", "http://h/?next=REDACTED"),
        ("http://h/?%2F%3Fkey%3Ds3cret", "http://h/?REDACTED"),
        ("http://h/a;key=s3cret/s3cret?s3cret&b=2", "http://h/a;key=REDACTED&b=2"),
        ("key=s3cret/s3cret?s3cret&b=2", "key=REDACTED&b=2"),
        ("http://h/to/%2F%3Fkey%3Ds3cret/x?b=2", "http://h/to/REDACTED/x?b=2"),
        ("http://h/?next=%2F%3Fmonkey%3D1", "http://h/?next=%2F%3Fmonkey%3D1"),
    ],
)
def test_the_value_of_a_secret_parameter_is_left_out_to_its_end_and_beneath_its_coding(url: str, kept: str) -> None:
    secrets = Secrets([], ["key"], [])
    one = secrets.redacted(exchange(url=url, response_headers=[("Location", url)]))
    assert one.url == one.response_headers[0][1] == kept
    assert secrets.redacted(one) == one
    if " " not in url:
        link = secrets.redacted(exchange(response_headers=[("Link", f"<{url}>; rel=next")])).response_headers[0][1]
        assert link == f"<{kept}>; rel=next"


@pytest.mark.parametrize(
    ("body", "kept"),
    [
        (b"a=1&key=ab's3cret;s3cret#s3cret s3cret&b=2", b"a=1&key=REDACTED&b=2"),
        (b"a=%ff\xff&next=%2F%3Fkey%3Ds3cret&b=2", b"a=%ff\xff&next=REDACTED&b=2"),
        ("schlüssel=s3cret&b=2".encode(), "schlüssel=REDACTED&b=2".encode()),
    ],
)
def test_the_value_of_a_form_ends_at_its_separator_alone(body: bytes, kept: bytes) -> None:
    one = Secrets([], ["key", "schlüssel"], []).redacted(exchange(headers=FORM, body=body))
    assert one.body == kept


MULTIPART = [("Content-Type", 'multipart/form-data; boundary="a b"')]
PART = b'--a b\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n'


@pytest.mark.parametrize(
    "disposition",
    [
        'name="key"',
        "NAME=key",
        'filename="a.txt"; name=key',
        "name*=utf-8''k%65y",
        'name="k\\ey"',
        'name="k%65y"; filename="a.txt"',
    ],
)
def test_secret_parts_of_a_form_keep_their_heads_alone(disposition: str) -> None:
    head = f"--a b\r\nContent-Disposition: form-data; {disposition}\r\n\r\n".encode()
    body = PART + head + b"s3cret\r\n\r\ns3cret\xff\r\n" + PART + b"--a b--\r\n"
    secrets = Secrets([], ["key"], [])
    one = secrets.redacted(exchange(headers=MULTIPART, body=body))
    assert one.body == PART + head + b"REDACTED\r\n" + PART + b"--a b--\r\n"
    assert secrets.redacted(one) == one


def test_a_part_of_a_form_that_is_a_url_is_looked_into_and_a_file_is_not() -> None:
    url = b"http://h/?key=s3cret"
    head = b'--a b\r\nContent-Disposition: form-data; name="url"'
    secrets = Secrets([], ["key"], [])
    one = secrets.redacted(exchange(headers=MULTIPART, body=head + b"\r\n\r\n" + url + b"\r\n--a b--"))
    assert one.body == head + b"\r\n\r\nREDACTED\r\n--a b--"
    file = exchange(headers=MULTIPART, body=head + b'; filename="a"\r\n\r\n' + url + b"\r\n--a b--")
    assert secrets.redacted(file).body == file.body


def test_a_form_in_parts_that_cannot_be_looked_into_is_not_kept() -> None:
    one = exchange(headers=[("Content-Type", "multipart/form-data")], body=b"s3cret")
    assert Secrets([], ["key"], []).redacted(one).body == b"REDACTED"
    assert Secrets([], [], []).redacted(one).body == b"s3cret"


def test_a_url_in_a_field_loses_its_user() -> None:
    one = Secrets([], [], []).redacted(exchange(response_headers=[("Location", "https://me:s3cret@h/a@b")]))
    assert one.response_headers == [("Location", "https://h/a@b")]


def test_secret_parameters_are_left_out_of_forms() -> None:
    one = Secrets([], ["password"], []).redacted(exchange(headers=FORM, body=b"user=me&password=s3cr%20et&x=1"))
    assert one.body == b"user=me&password=REDACTED&x=1"
    text = exchange(body=b"password=1")
    assert Secrets([], ["password"], []).redacted(text).body == b"password=1"


@pytest.mark.parametrize(
    ("pattern", "kept"),
    [
        ("s[0-9]cret", b'{"token": "REDACTED", "n": 1}'),
        (b"s[0-9]cret", b'{"token": "REDACTED", "n": 1}'),
        (re.compile("S3CRET", re.IGNORECASE), b'{"token": "REDACTED", "n": 1}'),
        (re.compile(b'"token": "([^"]*)"'), b'{"token": "REDACTED", "n": 1}'),
        ('"token": "((s)3(cret))", "n": (1)(x)?', b'{"token": "REDACTED", "n": REDACTED}'),
        ("(s3)(cret)", b'{"token": "REDACTEDREDACTED", "n": 1}'),
        ("(?=(s3c))(s3cret)", b'{"token": "REDACTED", "n": 1}'),
        ("nothing", b'{"token": "s3cret", "n": 1}'),
    ],
)
def test_patterns_or_their_groups_are_left_out_of_bodies(pattern: Any, kept: bytes) -> None:
    body = b'{"token": "s3cret", "n": 1}'
    one = Secrets([], [], [pattern]).redacted(exchange(body=body, content=bytearray(body)))
    assert (one.body, bytes(one.content)) == (kept, kept)


def test_a_coded_body_is_looked_into_and_kept_as_it_is_where_nothing_is_found() -> None:
    coded = [("Content-Encoding", "gzip"), ("content-length", "99")]
    packed = gzip.compress(b"a s3cret")
    one = Secrets([], [], ["s3cret"]).redacted(
        exchange(response_headers=coded, content=bytearray(packed), complete=True)
    )
    assert (bytes(one.content), one.response_headers) == (b"a REDACTED", [("content-length", "10")])
    other = Secrets([], [], ["absent"]).redacted(
        exchange(response_headers=coded, content=bytearray(packed), complete=True)
    )
    assert (bytes(other.content), other.response_headers) == (packed, coded)


@pytest.mark.parametrize(
    ("coding", "content", "complete", "kept"),
    [
        ("gzip", b"not gzip, but s3cret", True, b"REDACTED"),
        ("unknown", b"s3cret", True, b"REDACTED"),
        ("gzip", gzip.compress(b"s3cret" * 9)[:-4], True, b"REDACTED"),
        ("gzip", gzip.compress(b"a s3cret")[:-4], False, b"a REDACTED"),
    ],
    ids=["not coded", "unknown coding", "cut", "given up"],
)
def test_a_coded_body_that_cannot_be_looked_into_is_not_kept(
    coding: str, content: bytes, complete: bool, kept: bytes
) -> None:
    given = exchange(response_headers=[("Content-Encoding", coding)], content=bytearray(content), complete=complete)
    one = Secrets([], [], ["s3cret"]).redacted(given)
    assert bytes(one.content) == kept
    assert one.response_headers == []


def test_leaving_out_twice_leaves_out_no_more() -> None:
    secrets = Secrets(["X"], ["key"], ['"t": "(.*?)"'])
    given = exchange(url="http://h/?key=1", headers=[*FORM, ("X", "1")], body=b'key=1&"t": "2"')
    once = secrets.redacted(given)
    assert secrets.redacted(once) == once != given


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("Authorization", [], []), "secret_headers takes a list, not one str"),
        (([], "key", []), "secret_params takes a list, not one str"),
        (([], [], b"x"), "secret_patterns takes a list, not one bytes"),
        ((5, [], []), "secret_headers takes a list, not one int"),
        (([1], [], []), "secret_headers takes names as str, not int"),
        (([], [["a"]], []), "secret_params takes names as str, not list"),
        (([], [], [1]), "secret_patterns takes str, bytes or re.Pattern, not int"),
        (([], [], ["("]), "a pattern in secret_patterns is no regular expression"),
    ],
)
def test_secrets_that_are_none_are_refused(arguments: Any, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        Secrets(*arguments)
