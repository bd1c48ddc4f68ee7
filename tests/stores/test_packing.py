"""The packed form of a record: exact, and every damage that no checksum caught is a ValueError."""

from __future__ import annotations

import enum
import struct
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wsgi_sessions.errors import StoreError
from wsgi_sessions.record import Changes, Record, UpdateResult
from wsgi_sessions.stores.packing import (
    COUNTS,
    as_bytes,
    changed,
    check_new_key,
    pack,
    refusal,
    unpack,
)

TEXT = st.text(st.characters(), max_size=20)
RECORDS = st.builds(
    Record,
    fields=st.dictionaries(TEXT, st.binary(max_size=50), max_size=8),
    notes=st.binary(max_size=50),
    used_at=st.floats(allow_nan=False),
    expires_at=st.floats(allow_nan=False),
    version=st.integers(0, 2**64 - 1),
    epoch=st.integers(0, 2**64 - 1),
    owner=st.none() | TEXT,
)
RECORD = Record({"a": b"1", "b": b""}, b"notes", 1.0, 2.0, 3, 7, "owner")


@given(RECORDS, st.binary(max_size=5))
def test_a_record_comes_back_as_it_was(record: Record, before: bytes) -> None:
    packed = before + pack(record)

    assert unpack(packed, len(before), record.used_at, record.expires_at) == record
    assert COUNTS.unpack_from(packed, len(before)) == (record.version, record.epoch)


def test_the_form_stays_as_it_is() -> None:
    """Files written today are read by later versions."""
    assert pack(RECORD).hex(" ", -4) == (
        "03000000 00000000 07000000 00000000 02000000 05000000 05000000"
        " 01000000 01000000 01000000 00000000"
        " 6f776e65 726e6f74 65736131 62"
    )


@given(RECORDS, st.data())
def test_what_was_cut_or_grew_is_refused(record: Record, data: st.DataObject) -> None:
    packed = pack(record)
    shorter = packed[: data.draw(st.integers(0, len(packed) - 1))]
    longer = packed + data.draw(st.binary(min_size=1, max_size=9))

    for content in (shorter, longer):
        with pytest.raises(ValueError, match="cut short|don't add up|more fields|decode"):
            unpack(content, 0, 1.0, 2.0)


@given(st.binary(max_size=200))
@settings(max_examples=500)
def test_noise_is_refused_or_a_record_but_raises_nothing_else(noise: bytes) -> None:
    try:
        record = unpack(noise, 0, 1.0, 2.0)
    except ValueError:
        return
    assert pack(record) == noise


@pytest.mark.parametrize("at", range(16, len(pack(RECORD))))
def test_numbers_that_lie_are_refused(at: int) -> None:
    """With the highest byte of any length, or of the number of fields, far too large."""
    packed = bytearray(pack(RECORD))
    packed[at] |= 0xF0
    if bytes(packed) == pack(RECORD):
        return
    try:
        record = unpack(bytes(packed), 0, 1.0, 2.0)
    except ValueError:
        return
    assert pack(record) == packed


def test_a_count_beyond_all_memory_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match="more fields than bytes"):
        unpack(struct.pack("<QQIII", 1, 0, 0xFFFFFFFF, 0, 0) + bytes(100), 0, 1.0, 2.0)


def test_a_name_that_stands_twice_is_refused() -> None:
    packed = pack(RECORD)

    with pytest.raises(ValueError, match="don't add up"):
        unpack(packed.replace(b"a1b", b"a1a"), 0, 1.0, 2.0)


@pytest.mark.parametrize(
    "record",
    [
        Record({1: b""}, b"", 0.0, 0.0),  # type: ignore[dict-item] # by mistake
        Record({"a": "1"}, b"", 0.0, 0.0),  # type: ignore[dict-item] # by mistake
        Record({}, "", 0.0, 0.0),  # type: ignore[arg-type] # by mistake
        Record({}, b"", 0.0, 0.0, owner=1),  # type: ignore[arg-type] # by mistake
        Record({}, b"", 0.0, 0.0, version=-1),
        Record({}, b"", 0.0, 0.0, version=2**64),
        Record({}, b"", 0.0, 0.0, epoch=-1),
        Record({}, b"", 0.0, 0.0, epoch=2**64),
        Record({}, b"", 0.0, 0.0, version="1"),  # type: ignore[arg-type] # by mistake
        Record(None, b"", 0.0, 0.0),  # type: ignore[arg-type] # by mistake
    ],
)
def test_what_cannot_be_kept_is_a_store_error(record: Record) -> None:
    with pytest.raises(StoreError):
        pack(record)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (
            Changes({"b": b"2", "c": b"3"}, frozenset({"a"}), notes=b"new notes", used_at=5.0),
            Record({"b": b"2", "c": b"3"}, b"new notes", 5.0, 2.0, 4, 7, "owner"),
        ),
        (
            Changes({"c": b"3"}, keep=frozenset({"b"}), epoch=8, owner=None, expires_at=9.0),
            Record({"b": b"", "c": b"3"}, b"notes", 1.0, 9.0, 4, 8, None),
        ),
        (
            Changes(used_at=5.0, expires_at=9.0),
            Record({"a": b"1", "b": b""}, b"notes", 5.0, 9.0, 3, 7, "owner"),
        ),
        (Changes(), RECORD),
    ],
)
def test_changes_make_a_new_record(changes: Changes, expected: Record) -> None:
    assert changed(RECORD, changes) == expected
    assert RECORD.fields == {"a": b"1", "b": b""}


@pytest.mark.parametrize("owner", [None, "", "owner", "ö\ud800"])
@pytest.mark.parametrize("version", [0, 3, 2**64 - 1])
def test_the_head_is_read_without_the_rest(owner: str | None, version: int) -> None:
    record = Record({"a": b"1", "long": b"x" * 300}, b"notes", 1.0, 2.0, version, 7, owner)
    packed = b"before" + pack(record)

    assert COUNTS.unpack_from(packed, 6) == (version, 7)
    assert unpack(packed, 6, 1.0, 2.0) == record


@pytest.mark.parametrize(
    ("if_epoch", "if_version", "expected"),
    [
        (None, None, None),
        (7, 3, None),
        (7, None, None),
        (None, 3, None),
        (6, None, UpdateResult.GONE),
        (8, 4, UpdateResult.GONE),
        (7, 4, UpdateResult.CONFLICT),
        (None, 2, UpdateResult.CONFLICT),
    ],
)
def test_gone_goes_before_conflict(
    if_epoch: int | None, if_version: int | None, expected: UpdateResult | None
) -> None:
    assert refusal(3, 7, if_epoch, if_version) is expected


def test_what_is_kept_cannot_be_changed_by_others() -> None:
    mine = bytearray(b"mine")
    kept = as_bytes(mine)
    mine[:] = b"late"

    assert (kept, type(kept)) == (b"mine", bytes)
    same = b"same"
    assert as_bytes(same) is same
    for other, name in ((None, "NoneType"), ("text", "str"), ([1], "list")):
        with pytest.raises(
            StoreError, match=rf"^a store keeps bytes, not {name}; encode the value first$"
        ):
            as_bytes(other)


class Word(enum.StrEnum):
    NAME = "name"


def test_a_name_is_kept_as_a_plain_str() -> None:
    for before in (RECORD, changed(RECORD, Changes({"name": b"1"}))):
        after = changed(before, Changes({Word.NAME: b"2"}))

        assert after.fields["name"] == b"2"
        assert {type(name) for name in after.fields} == {str}


def test_what_could_not_be_packed_later_is_refused_at_once() -> None:
    last = replace(RECORD, version=2**64 - 1)

    assert changed(last, Changes(used_at=5.0)).version == 2**64 - 1
    with pytest.raises(StoreError, match="64 bits"):
        changed(last, Changes({"a": b"2"}))


@pytest.mark.parametrize("time", [10**400, -(10**400)])
def test_a_time_beyond_all_floats_is_a_store_error(time: int) -> None:
    with pytest.raises(StoreError, match="UNIX seconds"):
        changed(RECORD, Changes(used_at=time))
    with pytest.raises(StoreError, match="UNIX seconds"):
        changed(RECORD, Changes(expires_at=time))


def test_what_cannot_be_kept_is_said() -> None:
    with pytest.raises(StoreError, match=r"^this record can't be kept: .*int"):
        pack(Record({1: b"1"}, b"", 1.0, 2.0))  # type: ignore[dict-item] # that is the test


@pytest.mark.parametrize("key", ["", "x", "A" * 64, "a" * 63, "a" * 65, None, b"a" * 64])
def test_what_is_not_a_key_is_said_with_the_operation(key: Any) -> None:
    with pytest.raises(
        StoreError, match=r"^not a store key; a key is 64 lower-case hexadecimal digits$"
    ) as caught:
        check_new_key(key, "insert")
    assert caught.value.operation == "insert"

    check_new_key("0123456789abcdef" * 4, "insert")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (Changes({5: b"1"}), "a field's name is a str, not int"),  # type: ignore[dict-item] # as a store may be given it
        (Changes(owner=5), "an owner is a str or None, not int"),  # type: ignore[arg-type] # as above
        (Changes(epoch=-1), "an epoch is a whole number of at most 64 bits"),
        (Changes(epoch="1"), "an epoch is a whole number of at most 64 bits"),  # type: ignore[arg-type] # as above
    ],
)
def test_changes_of_the_wrong_type_are_refused_where_they_are_made(
    changes: Changes, said: str
) -> None:
    with pytest.raises(StoreError, match=said):
        changed(RECORD, changes)
