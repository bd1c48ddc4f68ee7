"""What a store keeps and what it doesn't: whole records, absence, keys, and nothing shared."""

# ruff: noqa: S101 # a contract is made of asserts

from __future__ import annotations

import contextlib
from collections.abc import MutableMapping
from functools import partial
from typing import cast

from ...record import LIST_OWNER, Changes
from .material import (
    GONE,
    HOSTILE_KEYS,
    UPDATED,
    WRITE,
    a_key,
    a_record,
    a_touch,
    assert_refused,
    assert_same,
    assert_times,
    fields_of,
    later,
    loaded,
    now,
)
from .subject import StoreUnderTest


class RecordPromises(StoreUnderTest):
    """Records as wholes."""

    def test_a_record_without_fields_is_a_record(self) -> None:
        store, key = self.make_store(), a_key()
        store.insert(key, a_record({}, notes=b""))

        assert_same(store.load(key), a_record({}, notes=b""))

    def test_there_can_be_many_fields(self) -> None:
        store, key = self.make_store(), a_key()
        fields = {f"field {number}": b"%d" % number for number in range(500)}
        store.insert(key, a_record(fields))

        changed = fields_of(store, key) != fields
        assert not changed, "many fields came back changed"

    def test_an_owners_list_is_kept_like_any_record(self) -> None:
        store, key = self.make_store(), a_key()
        entries = {a_key(): b"entry %d" % number for number in range(100)}
        store.insert(key, a_record(entries, notes=b"list", owner=LIST_OWNER))
        one, *others = entries
        changes = Changes(set={one: b"ended"}, delete=frozenset(others[:50]))

        assert store.update(key, changes, if_version=1) is UPDATED
        assert store.update(key, a_touch(now() + 1, later() + 1)) is UPDATED
        left = {name: entries[name] for name in others[50:]}
        expected = a_record(
            {one: b"ended", **left},
            notes=b"list",
            used_at=now() + 1,
            expires_at=later() + 1,
            owner=LIST_OWNER,
            version=2,
        )
        assert_same(store.load(key), expected)

    # Absence

    def test_no_write_makes_a_record_but_insert(self) -> None:
        store, key = self.make_store(), a_key()
        store.update(key, WRITE)
        store.update(
            key, Changes(set={"a": b"1"}, notes=b"n", used_at=now(), expires_at=later(), epoch=1)
        )
        store.update(key, Changes(keep=frozenset(), owner="42", epoch=1))
        store.update(key, a_touch())
        store.update(key, Changes())

        assert store.load(key) is None
        assert key not in set(store.keys())

    def test_a_deleted_record_is_gone_for_all(self) -> None:
        store, key = self.make_store(), a_key()
        store.insert(key, a_record())

        assert store.delete(key) is True
        assert store.load(key) is None
        assert store.delete(key) is False
        for changes in (WRITE, a_touch(), Changes(), Changes(epoch=1), Changes(owner="42")):
            assert store.update(key, changes) is GONE
            assert store.update(key, changes, if_epoch=0) is GONE
            assert store.update(key, changes, if_version=1) is GONE
        assert store.load(key) is None

    def test_insert_never_overwrites(self) -> None:
        store, key = self.make_store(), a_key()
        first = a_record({"a": b"first"}, owner="one")
        store.insert(key, first)

        assert store.insert(key, a_record({"a": b"second"}, owner="two", version=9)) is False
        assert_same(store.load(key), first)

    def test_nothing_of_a_deleted_record_comes_back(self) -> None:
        store, key = self.make_store(), a_key()
        store.insert(
            key, a_record({"is_admin": b"1", "a": b"1"}, notes=b"n", owner="42", version=9, epoch=9)
        )
        store.update(key, Changes(set={"later": b"1"}))
        store.delete(key)

        assert store.insert(key, a_record({"a": b"2"})) is True
        assert_same(store.load(key), a_record({"a": b"2"}))

    def test_nothing_of_a_cleared_record_comes_back(self) -> None:
        store, key = self.make_store(), a_key()
        store.insert(key, a_record({"is_admin": b"1", "a": b"1"}, notes=b"n", owner="42"))
        store.clear()

        assert store.insert(key, a_record({"a": b"2"})) is True
        assert_same(store.load(key), a_record({"a": b"2"}))

    # Keys

    def test_nothing_is_kept_under_what_is_not_a_key(self) -> None:
        store, other = self.make_store(), a_key()
        record = a_record({"a": b"1"})
        store.insert(other, record)

        for key in HOSTILE_KEYS:
            assert_refused(partial(store.insert, key, a_record()))
        assert_same(store.load(other), record)
        listed = list(store.keys())
        assert other in listed
        assert all(len(key) == 64 for key in listed)

    # Nothing is shared with the caller

    def test_what_was_passed_in_can_be_changed_without_harm(self) -> None:
        store, key = self.make_store(), a_key()
        fields = {"a": b"1"}
        store.insert(key, a_record(fields))
        fields["a"] = b"changed"
        fields["b"] = b"added"
        inserted = fields_of(store, key)
        changed = {"c": b"3"}
        store.update(key, Changes(set=changed))
        changed["c"] = b"changed"
        fields["c"] = b"changed"

        assert inserted == {"a": b"1"}
        assert fields_of(store, key) == {"a": b"1", "c": b"3"}

    def test_what_was_handed_out_can_be_changed_without_harm(self) -> None:
        store, key = self.make_store(), a_key()
        store.insert(key, a_record({"a": b"1"}))
        handed_out = cast("MutableMapping[str, bytes]", loaded(store, key).fields)
        with contextlib.suppress(TypeError, AttributeError):  # it may well refuse
            handed_out["a"] = b"changed"

        assert fields_of(store, key) == {"a": b"1"}

    def test_what_was_handed_out_is_a_snapshot(self) -> None:
        store, key = self.make_store(), a_key()
        store.insert(key, a_record({"a": b"1"}))
        before = loaded(store, key)
        store.update(
            key, Changes(set={"a": b"2", "b": b"3"}, used_at=now() + 1, expires_at=later() + 1)
        )
        after = loaded(store, key)

        assert dict(after.fields) == {"a": b"2", "b": b"3"}
        assert dict(before.fields) == {"a": b"1"}
        assert before.version == 1
        assert_times(before, now(), later())
