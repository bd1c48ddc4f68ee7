"""The part of the contract that a client library or driver can break: bytes, names and numbers on
their way there and back, conditions, outages, threads and forks, and what it keeps for itself.
"""

# ruff: noqa: S101 # a contract is made of asserts

from __future__ import annotations

import contextlib
import os
from functools import partial
from unittest import SkipTest

from ...errors import StoreError
from ...record import LIST_OWNER, Changes
from .. import races
from .material import (
    CONFLICT,
    GONE,
    HOSTILE_KEYS,
    HOSTILE_NAMES,
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
    live_a_life,
    lives_at_once,
    loaded,
    now,
)
from .sharing import SharedData

_LIVES = 15
_SURROGATE = "\ud800"
_HUGE = 1 << 63


class StoreClientContract(SharedData):
    """What depends on the client library.

    For further clients of a store that passes in full::

        class TestMyStoreWithAnotherDriver(StoreClientContract):
            def make_store(self) -> Store:
                return MyStore(driver="another")
    """

    # There and back

    def test_a_record_comes_back_as_it_was(self) -> None:
        store, key = self.make_store(), a_key()
        record = a_record({"a": b"1", "b": b"2"}, notes=b"notes", owner="42", version=7, epoch=3)

        assert store.insert(key, record) is True
        assert_same(store.load(key), record)

    def test_values_and_notes_are_any_bytes(self) -> None:
        store, key = self.make_store(), a_key()
        fields = {
            "empty": b"",
            "all": bytes(range(256)),
            "zeros": bytes(1000),
            "text": "né\u2028\U0001f36a".encode(),
            "invalid utf-8": b"\xff\xfe\xc3(",
            "large": bytes(range(256)) * 4096,
        }
        record = a_record(fields, notes=bytes(range(256)))
        store.insert(key, record)

        assert_same(store.load(key), record)

    def test_values_stay_exact_through_updates(self) -> None:
        store, key = self.make_store(), a_key()
        store.insert(key, a_record({"a": b"1"}))
        value = bytes(range(255, -1, -1))

        assert store.update(key, Changes(set={"b": value, "c": b""}, notes=value)) is UPDATED
        record = loaded(store, key)
        assert dict(record.fields) == {"a": b"1", "b": value, "c": b""}
        assert record.notes == value

    def test_names_of_fields_are_any_text(self) -> None:
        store, key = self.make_store(), a_key()
        fields = {name: str(number).encode() for number, name in enumerate(HOSTILE_NAMES)}
        store.insert(key, a_record(fields, owner="42", notes=b"n"))

        assert_same(store.load(key), a_record(fields, owner="42", notes=b"n"))
        for name in HOSTILE_NAMES:
            assert store.update(key, Changes(delete=frozenset({name}))) is UPDATED, repr(name)
            del fields[name]
            assert fields_of(store, key) == fields, repr(name)

    def test_owners_are_any_text(self) -> None:
        store = self.make_store()
        owners = {a_key(): name for name in HOSTILE_NAMES}
        for key, owner in owners.items():
            store.insert(key, a_record(owner=owner))

        for key, owner in owners.items():
            assert loaded(store, key).owner == owner

    def test_an_owner_of_none_is_not_an_empty_one(self) -> None:
        store, nobody, owners_list = self.make_store(), a_key(), a_key()
        store.insert(nobody, a_record(owner=None))
        store.insert(owners_list, a_record(owner=LIST_OWNER))

        assert loaded(store, nobody).owner is None
        assert loaded(store, owners_list).owner == LIST_OWNER
        assert loaded(store, owners_list).is_owner_list

    def test_what_is_at_the_edge_of_a_type_comes_back_or_is_refused(self) -> None:
        store = self.make_store()
        for record in (
            a_record({_SURROGATE: b"1"}),
            a_record(owner=_SURROGATE),
            a_record(version=_HUGE),
            a_record(epoch=_HUGE),
        ):
            key = a_key()
            try:
                store.insert(key, record)
            except StoreError:
                assert store.load(key) is None
            else:
                assert_same(store.load(key), record)

    def test_an_update_to_the_edge_of_a_type_is_done_or_refused(self) -> None:
        store = self.make_store()
        record = a_record({"a": b"1"})
        for changes, after in (
            (Changes(set={_SURROGATE: b"1"}), a_record({"a": b"1", _SURROGATE: b"1"}, version=2)),
            (Changes(owner=_SURROGATE), a_record({"a": b"1"}, version=2, owner=_SURROGATE)),
            (Changes(epoch=_HUGE), a_record({"a": b"1"}, version=2, epoch=_HUGE)),
        ):
            key = a_key()
            store.insert(key, record)
            try:
                store.update(key, changes)
            except StoreError:
                assert_same(store.load(key), record)
            else:
                assert_same(store.load(key), after)

    # Answers

    def test_absent_is_none_false_and_gone(self) -> None:
        store, key = self.make_store(), a_key()

        assert store.load(key) is None
        assert store.delete(key) is False
        assert store.delete(key, if_version=1) is False
        for changes in (WRITE, a_touch(), Changes(), Changes(epoch=1), Changes(owner="42")):
            assert store.update(key, changes) is GONE
            assert store.update(key, changes, if_version=1) is GONE
            assert store.update(key, changes, if_epoch=0) is GONE
        assert store.load(key) is None

    def test_an_update_changes_what_it_names(self) -> None:
        store, key = self.make_store(), a_key()
        store.insert(key, a_record({"a": b"1", "b": b"2", "c": b"3"}, notes=b"n"))
        changes = Changes(
            set={"d": b"4"},
            delete=frozenset({"b"}),
            keep=frozenset({"a", "b"}),
            notes=b"m",
            used_at=now() + 1,
            expires_at=later() + 1,
            owner="42",
            epoch=5,
        )

        assert store.update(key, changes, if_epoch=0, if_version=1) is UPDATED
        expected = a_record(
            {"a": b"1", "d": b"4"},
            notes=b"m",
            used_at=now() + 1,
            expires_at=later() + 1,
            owner="42",
            epoch=5,
            version=2,
        )
        assert_same(store.load(key), expected)

    def test_a_touch_moves_the_times_alone(self) -> None:
        store, key = self.make_store(), a_key()
        record = a_record({"a": b"1"}, notes=b"n", owner="42", version=3, epoch=2)
        store.insert(key, record)

        assert store.update(key, a_touch(now() + 5, later() + 5), if_epoch=2) is UPDATED
        found = loaded(store, key)
        assert_times(found, now() + 5, later() + 5)
        assert (dict(found.fields), found.notes) == ({"a": b"1"}, b"n")
        assert (found.owner, found.version, found.epoch) == ("42", 3, 2)

    def test_another_version_is_a_conflict_that_changes_nothing(self) -> None:
        store, key = self.make_store(), a_key()
        record = a_record({"a": b"1"}, notes=b"n", version=5)
        store.insert(key, record)
        changes = Changes(set={"a": b"2"}, notes=b"m", used_at=now() + 1, expires_at=later() + 1)

        for wrong in (4, 6, 1, 0):
            for tried in (changes, a_touch(), Changes(), Changes(epoch=1)):
                assert store.update(key, tried, if_version=wrong) is CONFLICT
            assert store.delete(key, if_version=wrong) is False
        assert_same(store.load(key), record)

    def test_another_epoch_is_gone_and_nothing_changes(self) -> None:
        store, key = self.make_store(), a_key()
        record = a_record({"a": b"1"}, notes=b"n", epoch=5)
        store.insert(key, record)
        changes = Changes(set={"a": b"2"}, notes=b"m", used_at=now() + 1, expires_at=later() + 1)

        for wrong in (4, 6, 1, 0):
            for tried in (changes, a_touch(), Changes(), Changes(epoch=6)):
                assert store.update(key, tried, if_epoch=wrong) is GONE
        assert_same(store.load(key), record)

    def test_what_is_not_a_key_is_absent(self) -> None:
        store = self.make_store()

        for key in HOSTILE_KEYS:
            shown = repr(key)[:80]
            assert store.load(key) is None, shown
            assert store.update(key, WRITE) is GONE, shown
            assert store.update(key, a_touch()) is GONE, shown
            assert store.update(key, Changes(), if_epoch=0) is GONE, shown
            assert store.delete(key) is False, shown
            assert store.delete(key, if_version=1) is False, shown

    # The store as a whole

    def test_keys_are_those_of_the_records(self) -> None:
        store = self.make_store()
        ours = {a_key() for _ in range(20)}
        for number, key in enumerate(ours):
            store.insert(key, a_record({"a": b"1"}, owner=(None, "42", LIST_OWNER)[number % 3]))
        deleted = ours.pop()
        store.delete(deleted)
        listed = list(store.keys())

        assert len(listed) == len(set(listed))
        assert set(listed) >= ours
        assert deleted not in listed
        assert all(isinstance(key, str) and len(key) == 64 for key in listed)

    def test_keys_bear_changes_while_they_are_listed(self) -> None:
        store, listed = self.make_store(), list[str]()
        ours = {a_key() for _ in range(20)}
        for key in ours:
            store.insert(key, a_record())
        for key in iter(store.keys()):
            listed.append(key)
            store.delete(key)
            if key in ours:
                store.insert(a_key(), a_record())

        assert set(listed) >= ours

    def test_clearing_removes_everything(self) -> None:
        store = self.make_store()
        keys = [a_key() for _ in range(10)]
        for number, key in enumerate(keys):
            store.insert(key, a_record({"a": b"1"}, owner=(None, "42", LIST_OWNER)[number % 3]))
        store.clear()

        assert all(store.load(key) is None for key in keys)
        assert list(store.keys()) == []
        assert store.insert(keys[0], a_record()) is True
        assert_same(store.load(keys[0]), a_record())

    def test_a_closed_store_may_be_used_again(self) -> None:
        store, key = self.make_store(), a_key()
        store.close()
        store.close()

        assert store.insert(key, a_record({"a": b"1"})) is True
        assert fields_of(store, key) == {"a": b"1"}

    # Outages

    def test_an_outage_is_a_store_error_and_never_absence(self) -> None:
        store, key = self._broken_store(), a_key()
        for call in (
            partial(store.load, key),
            partial(store.insert, key, a_record({"a": b"1"})),
            partial(store.update, key, WRITE),
            partial(store.update, key, a_touch()),
            partial(store.update, key, Changes()),
            partial(store.update, key, Changes(epoch=1), if_epoch=0, if_version=1),
            partial(store.delete, key),
            partial(store.delete, key, if_version=1),
            lambda: list(store.keys()),
            store.clear,
        ):
            assert_refused(call)

    def test_a_purge_during_an_outage_removes_nothing_or_is_a_store_error(self) -> None:
        store = self._broken_store()
        with contextlib.suppress(StoreError):  # 0 is right where the store's own expiry sees to it
            assert store.purge_expired(now()) == 0

    def test_a_store_that_cannot_answer_does_not_answer_a_ping(self) -> None:
        assert_refused(self._broken_store().ping)

    def test_a_store_that_is_there_answers_a_ping(self) -> None:
        self.make_store().ping()

    # Threads and forks

    def test_one_store_serves_many_threads(self) -> None:
        lives_at_once(self.make_store(), 8, _LIVES)

    def test_a_store_that_was_used_before_a_fork_serves_the_child_too(self) -> None:
        if not hasattr(os, "fork"):
            raise SkipTest("this platform has no fork")
        store, key = self.make_store(), a_key()
        store.insert(key, a_record({"a": b"1"}))

        def serve(who: int) -> None:
            for _ in range(_LIVES):
                live_a_life(store, who, 1)
                assert fields_of(store, key) == {"a": b"1"}

        races.forked(partial(serve, 1), partial(serve, 2), meanwhile=partial(serve, 0))
        live_a_life(store, 0, 1)
