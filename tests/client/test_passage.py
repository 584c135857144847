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


def test_basic_then_digest_then_a_nonce_that_was_stale_are_each_answered() -> None:
    proxy = Proxy("http://me:secret@p.example")
    passage = Passage(Request("GET", URL), proxy, Credentials(proxy))
    asked = [
        Response(407, headers={"Proxy-Authenticate": f'Digest realm="p", nonce="{nonce}", stale={stale}'})
        for nonce, stale in (("1", "false"), ("2", "true"), ("3", "true"))
    ]
    answered = []
    for demand in asked:
        passage.head()
        answered.append(passage.answered(demand))
    assert answered == [True, True, False]
