"""A request says what the user means, takes nothing away from the user's own values, and is changed by copying."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
from multidict import CIMultiDict
from yarl import URL

from aiosock.errors import InvalidHeader, InvalidURL, UsageError
from aiosock.message.body import BytesBody
from aiosock.message.request import Request, make_headers


def pickled(value: Any) -> Any:
    return pickle.loads(pickle.dumps(value))  # noqa: S301  # these bytes are ours


def fields(request: Request) -> list[tuple[str, str]]:
    return list(request.headers.items())


# Bodies and what describes them


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH"])
def test_methods_with_content_say_so_when_there_is_none(method: str) -> None:
    assert fields(Request(method, "http://h/")) == [("Content-Length", "0")]


@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE", "OPTIONS", "QUERY", "post"])
def test_other_methods_say_nothing(method: str) -> None:
    request = Request(method, "http://h/")
    assert fields(request) == []
    assert request.method == method
    assert request.body is None
    assert request.content == b""


@pytest.mark.parametrize(
    ("arguments", "content", "expected"),
    [
        ({"content": b"abc"}, b"abc", [("Content-Length", "3")]),
        ({"content": b""}, b"", [("Content-Length", "0")]),
        ({"content": "ä"}, b"\xc3\xa4", [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", "2")]),
        ({"content": bytearray(b"abc")}, b"abc", [("Content-Length", "3")]),
        (
            {"data": {"a": "b c"}},
            b"a=b+c",
            [("Content-Type", "application/x-www-form-urlencoded"), ("Content-Length", "5")],
        ),
        (
            {"json": {"a": [1, "ä"]}},
            b'{"a":[1,"\xc3\xa4"]}',
            [("Content-Type", "application/json"), ("Content-Length", "14")],
        ),
        ({"json": []}, b"[]", [("Content-Type", "application/json"), ("Content-Length", "2")]),
        ({"json": 0}, b"0", [("Content-Type", "application/json"), ("Content-Length", "1")]),
    ],
)
def test_a_body_is_described(arguments: Any, content: bytes, expected: list[tuple[str, str]]) -> None:
    request = Request("POST", "http://h/", **arguments)
    assert request.content == content
    assert fields(request) == expected


def test_a_body_of_unknown_length_is_chunked() -> None:
    pieces = [b"a", b"b"]
    request = Request("POST", "http://h/", content=pieces)
    assert fields(request) == [("Transfer-Encoding", "chunked")]
    assert request.content is pieces


def test_what_the_user_declares_is_left() -> None:
    own = {"content-length": "2", "content-type": "a/b"}
    assert fields(Request("POST", "http://h/", content=[b"ab"], headers=own)) == list(own.items())
    own = {"transfer-encoding": "gzip, chunked"}
    assert fields(Request("PUT", "http://h/", content=b"ab", headers=own)) == list(own.items())
    assert fields(Request("PUT", "http://h/", headers=own)) == list(own.items())
    own = {"CONTENT-TYPE": "a/b"}
    assert Request("PUT", "http://h/", json=1, headers=own).headers.getall("content-type") == ["a/b"]


@pytest.mark.parametrize("encoded", ['"x"', b'"x"'])
def test_json_is_made_by_the_encoder_given(encoded: str | bytes) -> None:
    request = Request("POST", "http://h/", json="x", json_encoder=lambda value: encoded)
    assert request.content == b'"x"'


def test_an_encoder_that_makes_something_else_is_refused() -> None:
    encoder: Any = list
    with pytest.raises(UsageError, match="json: the encoder must return str or bytes, not list"):
        Request("POST", "http://h/", json="x", json_encoder=encoder)


@pytest.mark.parametrize(
    "arguments", [{"content": b"", "data": {}}, {"data": {}, "json": 1}, {"content": b"", "json": 1, "data": {}}]
)
def test_a_body_is_given_once(arguments: Any) -> None:
    with pytest.raises(UsageError, match=f"given more than once: {' and '.join(sorted(arguments))}"):
        Request("POST", "http://h/", **arguments)


async def test_files_make_a_form_and_stay_the_content() -> None:
    files = {"a": b"x", "b": [b"y"]}
    headers = {"content-type": "multipart/form-data; boundary=b"}
    request = Request("POST", "http://h/", files=files, data={"c": "z"}, headers=headers)
    expected = (
        b'--b\r\nContent-Disposition: form-data; name="c"\r\n\r\nz\r\n--b\r\n'
        b'Content-Disposition: form-data; name="a"; filename="a"\r\nContent-Type: application/octet-stream\r\n\r\nx'
        b'\r\n--b\r\nContent-Disposition: form-data; name="b"; filename="b"\r\n'
        b"Content-Type: application/octet-stream\r\n\r\ny\r\n--b--\r\n"
    )
    for one in (request, request.replace(), request.replace(url="http://i/", method="PUT")):
        assert one.content is files
        assert one.body is request.body
        assert fields(one) == [*headers.items(), ("Transfer-Encoding", "chunked")]
        assert one.body is not None
        assert b"".join([bytes(piece) async for piece in one.body.pieces()]) == expected
    assert repr(request) == "<Request POST http://h/>"
    assert fields(request.replace(content=None)) == [("Content-Length", "0")]


def test_a_form_of_known_length_says_it() -> None:
    request = Request("PUT", "http://h/", files=[("a", "x")])
    assert isinstance(request.body, BytesBody)
    assert [name for name, _ in fields(request)] == ["Content-Type", "Content-Length"]
    assert request.headers["Content-Length"] == str(len(request.body.data))
    again = pickled(request)
    assert again.content == [("a", "x")]
    assert again.body.data == request.body.data


@pytest.mark.parametrize("empty", [{}, [], iter(())], ids=["mapping", "list", "iterator"])
def test_no_files_are_as_if_they_were_not_given(empty: Any) -> None:
    assert fields(Request("POST", "http://h/", files=empty)) == [("Content-Length", "0")]
    assert Request("GET", "http://h/", files=empty).body is None
    data = Request("POST", "http://h/", files=empty, data={"a": "b"})
    assert (data.content, data.headers["Content-Type"]) == (b"a=b", "application/x-www-form-urlencoded")
    assert Request("POST", "http://h/", files=empty, content=b"x").content == b"x"
    assert Request("POST", "http://h/", files=empty, json=0).content == b"0"


@pytest.mark.parametrize("name", ["content", "json"])
def test_files_contradict_every_other_body_but_a_form(name: str) -> None:
    arguments: Any = {name: b"" if name == "content" else 0}
    with pytest.raises(UsageError, match=f"given more than once: {name} and files"):
        Request("POST", "http://h/", files={"a": "b"}, **arguments)


# URL and method


def test_the_url_has_no_user_information_which_became_a_field() -> None:
    request = Request("GET", "http://us%65r:p%C3%A4ss@h/a?b")
    assert request.url == URL("http://h/a?b")
    assert request.target == "/a?b"
    assert fields(request) == [("Authorization", "Basic dXNlcjpww6Rzcw==")]
    assert Request("GET", "http://token@h/").headers["Authorization"] == "Basic dG9rZW46"
    own = Request("GET", "http://user:pass@h/", headers={"authorization": "Bearer x"})
    assert fields(own) == [("authorization", "Bearer x")]


def test_params_are_appended() -> None:
    assert Request("GET", "http://h/?a=%2f#f", params={"b": "c"}).target == "/?a=%2f&b=c"
    assert Request("GET", URL("http://h/"), params={"b": "c"}).target == "/?b=c"


def test_bad_arguments_are_refused() -> None:
    method: Any = b"GET"
    with pytest.raises(UsageError, match="^method: takes a str, not bytes$"):
        Request(method, "http://h/")
    with pytest.raises(InvalidURL):
        Request("GET", "/")


def test_no_credential_or_query_is_shown() -> None:
    request = Request("GET", "http://user:pass@h:81/a?secret#b", headers={"Cookie": "c"})
    assert repr(request) == "<Request GET http://h:81/a>"


# Fields


def test_fields_keep_order_spelling_and_repetition() -> None:
    pairs = [("b", "1"), ("A", "2"), ("B", "3"), ("X-Empty", "")]
    assert fields(Request("GET", "http://h/", headers=pairs)) == pairs
    assert fields(Request("GET", "http://h/", headers=CIMultiDict(pairs))) == pairs
    assert list(make_headers({"a": "b"}).items()) == [("a", "b")]
    assert len(make_headers(None)) == 0


@pytest.mark.parametrize(
    "headers", [{"a": 1}, {"a": None}, {"a": b"b"}, {1: "b"}, [("a",)], ["abc"], 3, [("a", "b", "c")]]
)
def test_fields_of_another_kind_are_refused(headers: Any) -> None:
    with pytest.raises(InvalidHeader):
        Request("GET", "http://h/", headers=headers)


def test_nothing_of_the_users_is_changed() -> None:
    headers = CIMultiDict({"a": "b"})
    extensions: dict[str, Any] = {"x": 1}
    params = {"q": ["1"]}
    data = {"f": ["1"]}
    request = Request("POST", "http://u:p@h/", headers=headers, params=params, data=data, extensions=extensions)
    request.headers["c"] = "d"
    request.extensions["y"] = 2
    changed = request.replace(headers=headers, extensions=extensions, content=None)
    changed.headers["e"] = "f"
    changed.extensions["z"] = 3
    assert headers == {"a": "b"}
    assert extensions == {"x": 1}
    assert params == {"q": ["1"]}
    assert data == {"f": ["1"]}


# Changed copies


def test_a_copy_is_one_of_its_own() -> None:
    request = Request("POST", "http://h/?", content=b"x", extensions={"a": 1})
    same = request.replace()
    assert (same.method, same.location, same.target, same.body) == ("POST", request.location, "/?", request.body)
    same.headers["A"] = "b"
    same.extensions["b"] = 2
    assert "A" not in request.headers
    assert request.extensions == {"a": 1}


def test_the_target_follows_the_url_unless_it_is_given() -> None:
    request = Request("OPTIONS", "http://h/a").replace(target="*")
    assert request.target == "*"
    assert str(request.url) == "http://h/a"
    assert request.replace(method="GET").target == "*"
    assert request.replace(url="http://h/b").target == "/b"
    assert request.replace(url="http://h/b", target="*").target == "*"
    with pytest.raises(InvalidURL):
        request.replace(url="b")


def test_user_information_of_another_url_becomes_a_field_too() -> None:
    request = Request("GET", "http://h/a")
    assert fields(request.replace(url="http://u:p@h/")) == [("Authorization", "Basic dTpw")]
    assert fields(Request("GET", "http://u:p@h/").replace(url="http://v:q@h/")) == [("Authorization", "Basic dTpw")]
    # Taken out by hand it stays out.
    bare = Request("GET", "http://u:p@h/").replace(headers={})
    assert fields(bare.replace()) == []


def test_another_body_is_described_anew() -> None:
    request = Request("POST", "http://h/", json=1)
    assert fields(request.replace(content=b"abc")) == [("Content-Type", "application/json"), ("Content-Length", "3")]
    chunked = request.replace(content=[b"abc"])
    assert fields(chunked) == [("Content-Type", "application/json"), ("Transfer-Encoding", "chunked")]
    body = BytesBody(None, b"ab")
    same = chunked.replace(content=body)
    assert same.body is body
    assert fields(same) == [("Content-Type", "application/json"), ("Content-Length", "2")]
    assert request.content == b"1"


def test_without_a_body_nothing_describes_it() -> None:
    own = {"Content-Type": "a/b", "content-language": "de", "Expect": "100-continue", "Trailer": "X", "Accept": "*/*"}
    request = Request("POST", "http://h/", content=[b"x"], headers=own)
    assert fields(request.replace(method="GET", content=None)) == [("Accept", "*/*")]
    assert fields(request.replace(content=None)) == [("Accept", "*/*"), ("Content-Length", "0")]
    assert len(request.headers) == 6


def test_a_copy_is_framed_whatever_fields_and_method_it_gets() -> None:
    request = Request("POST", "http://h/", content=b"abc")
    assert fields(request.replace(headers={"A": "b"})) == [("A", "b"), ("Content-Length", "3")]
    assert fields(Request("GET", "http://h/").replace(method="POST")) == [("Content-Length", "0")]


def test_a_request_can_be_copied_and_pickled() -> None:
    request = Request("POST", "http://u:p@h/?", json={"a": 1}, headers=[("A", "1"), ("a", "2")])
    for again in (copy.copy(request), copy.deepcopy(request), pickled(request)):
        assert (again.method, again.target, again.url, again.content) == ("POST", "/?", request.url, b'{"a":1}')
        assert fields(again) == fields(request)


def test_what_concerns_a_call_alone_is_not_pickled() -> None:
    secrets = {
        "auth": lambda request: request,
        "call": 1,
        "cookies": {"a": "b"},
        "deadline": 1.0,
        "lifetime": print,
        "middleware": [print],
    }
    request = Request("POST", "http://h/", content=b"x", extensions={**secrets, "kept": 1})
    copied = pickle.loads(pickle.dumps(request))  # noqa: S301  # our own
    assert copied.extensions == {"kept": 1}
    assert (copied.method, copied.body.data, copied.target) == ("POST", b"x", "/")
    assert set(request.extensions) == {*secrets, "kept"}
