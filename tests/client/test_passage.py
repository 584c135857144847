"""What a proxy that sends a request on is written, and when it is written again."""

from __future__ import annotations

from typing import Any

import pytest

from aiosock.client.passage import Passage
from aiosock.connection.proxy import Credentials, Proxy
from aiosock.message.request import Request
from aiosock.message.response import Response

URL = "http://a.example/"


@pytest.mark.parametrize(("content", "again"), [(None, True), (b"x", True), ([b"x"], True), (iter([b"x"]), False)])
def test_what_is_sent_again_after_a_407(content: Any, again: bool) -> None:
    proxy = Proxy("http://me:secret@p.example")
    passage = Passage(Request("POST", URL, content=content), proxy, Credentials(proxy))
    assert b"Basic" in passage.head().encoded
    demand = Response(407, headers={"Proxy-Authenticate": 'Digest realm="p", nonce="n"'})
    assert passage.answered(demand) is again
    assert b"Digest" in passage.head().encoded
    assert not passage.answered(demand)
    assert not passage.answered(Response(200))
