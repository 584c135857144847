"""What answers are kept under is the target URI, and a change reaches its own origin and no other."""

from __future__ import annotations

import pytest

from aiosock.message.request import Request
from aiosock.message.response import Response
from aiosock.middleware.cachekey import Changes, changed_by, key_of


def test_the_same_resource_has_the_same_key_however_its_url_is_written() -> None:
    keys = {key_of(Request("GET", url)) for url in ("http://h/a?b", "http://H:80/a?b", "http://u:p@h/a?b#c")}
    assert keys == {"http://h:80/a?b"}


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (Request("GET", "https://h/a"), "https://h:443/a"),
        (Request("GET", "http://h"), "http://h:80/"),
        (Request("GET", "http://h?"), "http://h:80/?"),
        (Request("GET", "http://h/%61"), "http://h:80/%61"),
        (Request("GET", "http://[::1]:8080/a"), "http://::1:8080/a"),
        (Request("GET", "http://h/a", headers={"Host": "h"}), "http://h:80/a"),
        (Request("GET", "http://h/a", headers={"Host": "other"}), "http://h:80/a other"),
        (Request("OPTIONS", "http://h/a").replace(target="*"), "http://h:80*"),
    ],
)
def test_what_differs_has_another_key(request_: Request, expected: str) -> None:
    assert key_of(request_) == expected


@pytest.mark.parametrize(
    ("named", "expected"),
    [
        ([], []),
        ([("Location", "b"), ("Content-Location", "/c?d#e")], ["http://h:80/x/b", "http://h:80/c?d"]),
        ([("Location", "http://h:80/b")], ["http://h:80/b"]),
        ([("Location", ""), ("Content-Location", "/y"), ("content-location", "/z")], ["/x/a", "/y", "/z"]),
        # RFC 9111, 4.4: of another origin it would be an attack.
        ([("Location", "https://h/b"), ("Content-Location", "//i/b"), ("Location", "http://h:81/b")], []),
        ([("Location", "http://["), ("Content-Location", "http://h:99999/")], []),
    ],
)
def test_what_a_request_has_changed(named: list[tuple[str, str]], expected: list[str]) -> None:
    whole = [one if one.startswith("http") else f"http://h:80{one}" for one in expected]
    request = Request("POST", "http://h/x/a")
    assert changed_by(request, Response(201, headers=named, request=request)) == ["http://h:80/x/a", *whole]


def test_what_was_asked_for_before_a_change_is_told_from_what_was_after(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aiosock.middleware.cachekey.MAX_CHANGED", 2)
    changes = Changes()
    before = changes.moment
    changes.note("a")
    after = changes.moment
    assert [changes.has_changed("a", before), changes.has_changed("a", after)] == [True, False]
    assert not changes.has_changed("b", before)
    changes.note("b")
    changes.note("a")
    # The one that was changed longest ago is forgotten: nobody knows any more which one that was.
    changes.note("c")
    assert len(changes) == 2
    assert changes.has_changed("d", before)
    assert not changes.has_changed("d", changes.moment)
    assert changes.has_changed("a", after)
