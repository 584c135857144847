"""Strict-Transport-Security is read as RFC 6797 has it, and what is malformed is ignored as a whole."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiosock.protocol.hsts import MAX_SECONDS, Policy, parse_strict_transport_security


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        # The examples of section 6.2.
        ("max-age=31536000", Policy(31536000, False)),
        ("max-age=15768000 ; includeSubDomains", Policy(15768000, True)),
        ('max-age="31536000"', Policy(31536000, False)),
        ("max-age=0", Policy(0, False)),
        ("max-age=0; includeSubDomains", Policy(0, True)),
        # Names in any case and order, empty directives, unknown ones.
        ("INCLUDESUBDOMAINS;MAX-AGE=1", Policy(1, True)),
        (";; max-age=1 ;", Policy(1, False)),
        ("max-age = 1", Policy(1, False)),
        ('max-age=1; preload; x="a;b\\"c"; y=z', Policy(1, False)),
        ('max-age="\\1"', Policy(1, False)),
        ("max-age=000", Policy(0, False)),
        # More than can be meant.
        ("max-age=" + "9" * 5000, Policy(MAX_SECONDS, False)),
        ("max-age=4294967296", Policy(MAX_SECONDS, False)),
    ],
)
def test_what_a_host_asks_for(value: str, expected: Policy) -> None:
    assert parse_strict_transport_security(value) == expected


@pytest.mark.parametrize(
    "value",
    [
        "",
        ";",
        "includeSubDomains",
        "max-age",
        "max-age=",
        "max-age=-1",
        "max-age=1.5",
        "max-age=\u0661",
        "max-age=1 2",
        "max-age=1, max-age=2",
        "max-age=1; max-age=1",
        "max-age=1; x; X",
        "max-age=1; includeSubDomains=yes",
        'max-age="1',
        "max-age=1; \x00",
        "max-age=1; =2",
    ],
)
def test_what_is_malformed_asks_for_nothing(value: str) -> None:
    assert parse_strict_transport_security(value) is None


@given(st.text(alphabet=st.sampled_from('max-age=1 ;"\\\t,includeSubDomains\n\u0661')) | st.text())
def test_nothing_raises(value: str) -> None:
    policy = parse_strict_transport_security(value)
    assert policy is None or 0 <= policy.max_age <= MAX_SECONDS


@given(st.integers(0, MAX_SECONDS), st.booleans())
def test_what_is_well_formed_comes_back(seconds: int, below: bool) -> None:
    value = f"max-age={seconds}" + "; includeSubDomains" * below
    assert parse_strict_transport_security(value) == Policy(seconds, below)
