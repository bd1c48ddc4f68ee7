"""What a record looks like as a hash, without a server: both ways, and what can't be kept or read."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from effort import effort
from records import NOW, a_record
from wsgi_sessions.errors import StoreError
from wsgi_sessions.record import Changes, Record
from wsgi_sessions.stores.redis import layout

TEXT = st.text(st.characters(), max_size=5)  # lone surrogates included
RECORDS = st.builds(
    Record,
    fields=st.dictionaries(TEXT, st.binary(max_size=5), max_size=4),
    notes=st.binary(max_size=9),
    used_at=st.floats(allow_nan=False, allow_infinity=False),
    expires_at=st.floats(allow_nan=False),
    version=st.integers(0, 2**53 - 1),
    epoch=st.integers(0, 2**53 - 1),
    owner=st.none() | TEXT,
)


def hash_of(record: Record) -> list[bytes]:
    return layout.insert_arguments(record)[1:]


@effort(100)
@given(RECORDS)
def test_a_record_comes_back_as_it_was(record: Record) -> None:
    assert layout.record_of(hash_of(record)) == record


@effort(100)
@given(RECORDS)
def test_every_key_has_a_time_to_live(record: Record) -> None:
    assert 1 <= int(layout.insert_arguments(record)[0]) <= 10**13


@pytest.mark.parametrize(
    ("expires_at", "milliseconds"),
    [
        (NOW, 60_000),
        (NOW + 0.5, 60_500),
        (NOW - 100, 1),
        (math.inf, 10**13),
        (-math.inf, 1),
        (1e300, 10**13),
    ],
)
def test_a_key_lives_a_minute_longer_than_its_record(expires_at: float, milliseconds: int) -> None:
    assert int(layout.insert_arguments(a_record(expires_at=expires_at))[0]) == milliseconds


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"expires_at": math.nan}, "NaN"),
        ({"used_at": math.nan}, "used_at is nan; write UNIX seconds"),
        ({"used_at": math.inf}, "used_at is inf; write UNIX seconds"),
        ({"used_at": 10**400}, "can't be kept"),
        ({"expires_at": None}, "can't be kept"),
        ({"version": -1}, "between 0"),
        ({"version": 2**53}, "between 0"),
        ({"epoch": -1}, "between 0"),
        ({"owner": 42}, "can't be kept"),
        ({"notes": "text"}, "not str"),
        ({"fields": {"a": "text"}}, "not str"),
        ({"fields": {1: b""}}, "can't be kept"),
    ],
    ids=repr,
)
def test_what_could_not_be_read_back_is_refused(changed: dict[str, Any], reason: str) -> None:
    with pytest.raises(StoreError, match=reason):
        layout.insert_arguments(a_record(**changed))


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"expires_at": math.nan}, "NaN"),
        ({"used_at": -math.inf}, "used_at is -inf"),
        ({"epoch": -1}, "between 0"),
        ({"epoch": 2**53}, "between 0"),
        ({"owner": 42}, "an owner is a str, not int"),
        ({"notes": "text"}, "not str"),
        ({"set": {"a": None}}, "not NoneType"),
        ({"delete": [1]}, "can't be kept"),
    ],
    ids=repr,
)
def test_a_change_that_could_not_be_read_back_is_refused(
    changed: dict[str, Any], reason: str
) -> None:
    with pytest.raises(StoreError, match=reason):
        layout.update_arguments(Changes(**changed), None, None)


@pytest.mark.parametrize(
    "damaged",
    [
        [],
        [b"f:a", b"1"],
        [b"h", b""],
        [b"h", b"1 0 1.0 2.0 -"],
        [b"h", b"1 0 1.0 2.0 4 ada"],
        [b"h", b"1 0 1.0 2.0 1 \xff"],
        [b"h", b"1 0 1.0 nan - "],
        [b"h", b"1 0 inf 2.0 - "],
        [b"h", b"1 0 nan 2.0 - "],
        [b"h", b"1 0 1.0 soon - "],
        [b"h", b"1 -1 1.0 2.0 - "],
        [b"h", b"1" * 5000 + b" 0 1.0 2.0 - "],
        [b"h", b"1 0 1.0 2.0 - ", b"x", b"1"],
        [b"h", b"1 0 1.0 2.0 - ", b"f:\xff", b"1"],
        [b"h", b"1 0 1.0 2.0 - ", b"f:a"],
    ],
    ids=lambda parts: repr(parts)[:40],
)
def test_a_hash_of_which_a_part_cannot_be_read_is_no_record(damaged: list[bytes]) -> None:
    with pytest.raises(ValueError):
        layout.record_of(damaged)


@pytest.mark.parametrize(
    ("head", "expired"),
    [
        (b"1 0 0.5 1.0 - notes", True),
        (b"1 0 0.5 1.5 - notes", False),
        (b"1 0 0.5 inf - notes", False),
        (b"1 0 0.5 nan - notes", False),
        (b"1 0 0.5 soon - notes", False),
        (b"", False),
        (None, False),
        (StoreError("no"), False),
    ],
    ids=repr,
)
def test_what_ended_is_told_by_the_head_and_what_cannot_be_read_is_left_alone(
    head: object, expired: bool
) -> None:
    assert layout.is_expired(head, 1.0) is expired


def test_a_time_as_text_loses_nothing() -> None:
    assert layout.time_text(1_700_000_000.123456789) == repr(1_700_000_000.123456789).encode()
    assert layout.time_text(math.inf) == b"inf"
    with pytest.raises(StoreError, match="NaN"):
        layout.time_text(math.nan)
