"""What may be sent twice, and which failures say that a connection had ended while it was idle."""

from __future__ import annotations

import errno

import pytest

from aiosock.connection.repeating import is_stale, may_be_repeated
from aiosock.errors import ReadError, ReadTimeout, RemoteProtocolError, ServerDisconnected, TLSError, WriteError
from aiosock.message.request import Request


def request(method: str, content: object = None, **headers: str) -> Request:
    return Request(method, "http://a.example/", content=content, headers=headers)  # type: ignore[arg-type]  # any


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE", "QUERY"])
def test_an_idempotent_request_may_be_repeated_although_it_left(method: str) -> None:
    assert may_be_repeated(request(method), nothing_written=False)


@pytest.mark.parametrize("method", ["POST", "PATCH", "CONNECT", "get", "LOCK"])
def test_any_other_only_where_nothing_of_it_left_or_its_key_tells_the_server(method: str) -> None:
    assert not may_be_repeated(request(method), nothing_written=False)
    assert may_be_repeated(request(method), nothing_written=True)
    assert may_be_repeated(request(method, **{"idempotency-key": "1"}), nothing_written=False)


@pytest.mark.parametrize("nothing_written", [False, True])
def test_a_body_must_be_there_a_second_time(nothing_written: bool) -> None:
    for content in (b"x", [b"x"]):
        assert may_be_repeated(request("PUT", content), nothing_written=nothing_written)
    assert not may_be_repeated(request("PUT", iter([b"x"])), nothing_written=nothing_written)


def caused(error: Exception, *causes: Exception) -> Exception:
    for cause in causes:
        error.__cause__ = cause
        error = cause
    return error


@pytest.mark.parametrize("number", [errno.ECONNRESET, errno.EPIPE, errno.ECONNABORTED])
@pytest.mark.parametrize("kind", [ReadError, WriteError])
def test_a_reset_is_what_an_idle_connection_ends_with(kind: type[Exception], number: int) -> None:
    direct, indirect = kind("broken"), kind("broken")
    caused(direct, OSError(number, "gone"))
    caused(indirect, kind("broken"), OSError(number, "gone"))
    assert is_stale(direct)
    assert is_stale(indirect)


def test_an_end_of_file_is_another() -> None:
    assert is_stale(ServerDisconnected("closed"))


@pytest.mark.parametrize("error", [ReadError("x"), ReadTimeout("x"), RemoteProtocolError("x"), TLSError("x")])
def test_no_other_failure_is(error: Exception) -> None:
    caused(error, OSError(errno.EHOSTUNREACH, "no route"))
    assert not is_stale(error)


def test_a_timeout_is_not_even_where_a_reset_is_behind_it() -> None:
    error = ReadTimeout("x")
    caused(error, OSError(errno.ECONNRESET, "gone"))
    assert not is_stale(error)
