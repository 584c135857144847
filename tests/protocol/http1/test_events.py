"""Events are values: they cannot be changed, and two of the same content are equal."""

from __future__ import annotations

import pickle

import pytest
from multidict import CIMultiDict

from aiosock.protocol.http1 import (
    NEED_DATA,
    BodyData,
    BodyEnded,
    Event,
    InformationalReceived,
    ResponseStarted,
)

EVENTS: list[tuple[Event, str]] = [
    (InformationalReceived(103, "Early Hints", CIMultiDict({"A": "b"})), "status_code"),
    (ResponseStarted(200, "OK", "HTTP/1.1", CIMultiDict({"A": "b"}), ("gzip",), None), "status_code"),
    (BodyData(b"x"), "data"),
    (BodyEnded(None), "trailers"),
]


@pytest.mark.parametrize(("event", "attribute"), EVENTS)
def test_an_event_cannot_be_changed(event: Event, attribute: str) -> None:
    with pytest.raises(AttributeError):
        setattr(event, attribute, None)
    with pytest.raises(AttributeError):
        event.other = None  # type: ignore[union-attr]


@pytest.mark.parametrize("event", [event for event, _ in EVENTS])
def test_events_of_the_same_content_are_equal(event: Event) -> None:
    assert type(event)(*event) == event
    assert all((event == other) is (event is other) for other, _ in EVENTS)


def test_need_data_is_no_event_and_there_is_one_of_it() -> None:
    assert not isinstance(NEED_DATA, tuple)
    assert pickle.loads(pickle.dumps(NEED_DATA)) is NEED_DATA  # noqa: S301
    assert "NEED_DATA" in repr(NEED_DATA)
