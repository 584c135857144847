"""Answers have the framing that fits; what requests must look like is tested with the server that reads them."""

from __future__ import annotations

import pytest

from aiosock.testing import response


def test_an_answer_has_the_framing_that_fits() -> None:
    assert response() == b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
    assert response(404, b"no", [("A", "b")]) == (b"HTTP/1.1 404 Not Found\r\nA: b\r\nContent-Length: 2\r\n\r\nno")
    assert response(299, reason="Fine") == b"HTTP/1.1 299 Fine\r\nContent-Length: 0\r\n\r\n"
    assert response(299) == b"HTTP/1.1 299 \r\nContent-Length: 0\r\n\r\n"
    assert response(204) == b"HTTP/1.1 204 No Content\r\n\r\n"
    assert response(304) == b"HTTP/1.1 304 Not Modified\r\n\r\n"
    assert response(103, headers=[("Link", "x")]) == b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
    assert response(headers=[("content-length", "5")]) == b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n"
    assert response(body=b"ab", until_close=True) == b"HTTP/1.1 200 OK\r\n\r\nab"
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert response(chunked=True) == head + b"0\r\n\r\n"
    assert response(body=bytes(10), chunked=True) == head + b"a\r\n" + bytes(10) + b"\r\n0\r\n\r\n"
    assert response(body=b"x", chunked=True, trailers=[("T", "1")]) == (head + b"1\r\nx\r\n0\r\nT: 1\r\n\r\n")


def test_an_answer_that_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="has no body"):
        response(204, b"x")
    with pytest.raises(ValueError, match="trailers"):
        response(trailers=[("T", "1")])
