"""The errors are the tree that is drawn, say which request failed, and tell no secrets."""

from __future__ import annotations

import copy
import inspect
import pickle
import re
from typing import Any

import pytest

import aiosock
from aiosock import errors
from aiosock.errors import (
    AiosockError,
    Attempt,
    ConnectTimeout,
    HTTPStatusError,
    ReadTimeout,
    RemoteProtocolError,
    RequestError,
    TimeoutException,
)
from aiosock.message.request import Request
from aiosock.message.response import Response

REQUEST = Request("GET", "https://user:pass@h:8443/a?secret#secret", headers={"Cookie": "secret"})
ALL = {name: value for name, value in vars(errors).items() if inspect.isclass(value) and issubclass(value, Exception)}
REQUEST_ERRORS = [error for error in ALL.values() if issubclass(error, RequestError)]

TREE = """
AiosockError
    UsageError
        InvalidURL
        InvalidHeader
        ResponseNotRead
        StreamConsumed
        BodyNotReplayable
        ClientClosed
        LocalProtocolError
    RequestError
        TimeoutException
            ConnectTimeout
            ReadTimeout
            WriteTimeout
            PoolTimeout
            TotalTimeout
        NetworkError
            ConnectError
                DNSError
                TLSError
                ProxyError
            ReadError
                TruncatedStream
            WriteError
        ProtocolError
            RemoteProtocolError
                ServerDisconnected
                IncompleteBody
                HeadTooLarge
        DecodingError
            ContentTooLarge
        TooManyRedirects
        BlockedAddress
        CircuitOpen
    HTTPStatusError
"""


def pickled(value: Any) -> Any:
    return pickle.loads(pickle.dumps(value))  # noqa: S301  # these bytes are ours


def parents(tree: str) -> dict[str, str]:
    """Return the parent of each name in an indented tree."""
    found: dict[str, str] = {}
    above: list[tuple[int, str]] = [(-1, "Exception")]
    for line in tree.strip("\n").splitlines():
        name = line.strip()
        depth = len(line) - len(name)
        while above[-1][0] >= depth:
            above.pop()
        found[name] = above[-1][1]
        above.append((depth, name))
    return found


def test_the_tree_is_as_drawn() -> None:
    assert {name: error.__bases__[0].__name__ for name, error in ALL.items()} == parents(TREE)


def test_the_drawing_is_of_the_tree() -> None:
    assert errors.__doc__ is not None
    drawn = re.findall(r"^    ([ │├└─]*\w+)", errors.__doc__, re.MULTILINE)
    assert parents("\n".join(re.sub("[│├└─]", " ", line) for line in drawn)) == parents(TREE)


def test_every_error_is_public_and_says_when_it_is_raised() -> None:
    for name, error in ALL.items():
        assert getattr(aiosock, name) is error
        assert error.__doc__


def test_a_timeout_is_a_timeout_error() -> None:
    assert issubclass(TimeoutException, TimeoutError)
    with pytest.raises(TimeoutError):
        raise ReadTimeout("late")


@pytest.mark.parametrize("error", REQUEST_ERRORS)
def test_a_request_error_names_its_request_without_secrets(error: type[RequestError]) -> None:
    raised = error("oh no")
    assert raised.request is None
    assert str(raised) == "oh no"
    raised.request = REQUEST
    assert str(raised) == "oh no [GET https://h:8443/a]"
    assert "secret" not in repr(raised)
    assert "pass" not in repr(raised)


def test_one_error_says_nothing_of_another() -> None:
    first = RemoteProtocolError("oh no")
    first.request, first.response = REQUEST, Response(200)
    second = RemoteProtocolError("oh no")
    assert (second.request, second.response) == (None, None)


@pytest.mark.parametrize("error", [error for error in ALL.values() if error is not HTTPStatusError])
def test_errors_can_be_copied_and_pickled(error: type[AiosockError]) -> None:
    raised = error("oh no")
    if isinstance(raised, RequestError):
        raised.request = REQUEST
    for again in (copy.copy(raised), pickled(raised)):
        assert type(again) is error
        assert again.args == ("oh no",)
        assert str(again) == str(raised)


def test_a_status_error_can_be_copied_and_pickled() -> None:
    response = Response(404, request=REQUEST, content="x")
    raised = HTTPStatusError("oh no", request=REQUEST, response=response)
    again = copy.copy(raised)
    assert (again.request, again.response) == (REQUEST, response)
    again = pickled(raised)
    assert str(again) == "oh no"
    assert again.request.url == REQUEST.url
    assert again.response.text == "x"
    assert again.response.request is again.request


def test_an_error_has_the_attempts_that_were_made_and_shows_them_to_no_other() -> None:
    assert RequestError("oh no").attempts == ()
    raised = errors.CircuitOpen("oh no")
    raised.attempts = (Attempt(1, 503, None, 0.0), Attempt(2, None, "CircuitOpen: oh no", 0.5))
    raised.retry_after = 3.0
    again = pickled(raised)
    assert (again.attempts, again.retry_after) == (raised.attempts, 3.0)
    assert (errors.CircuitOpen().attempts, errors.CircuitOpen().retry_after) == ((), 0.0)


def test_an_error_without_a_message() -> None:
    assert str(ConnectTimeout()) == ""


def test_a_proxy_error_has_the_refusal_where_there_was_one() -> None:
    error = errors.ProxyError("the proxy refused")
    assert (error.status_code, error.response) == (None, None)
    error.status_code, error.response = 403, Response(403, content=b"no")
    copied = pickle.loads(pickle.dumps(error))  # noqa: S301  # just written
    assert (copied.status_code, copied.response.content) == (403, b"no")
