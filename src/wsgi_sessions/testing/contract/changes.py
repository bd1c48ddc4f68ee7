"""What an update does to a record, and what it leaves as it was."""

# ruff: noqa: S101 # a contract is made of asserts

from __future__ import annotations

from itertools import combinations

from ...record import LIST_OWNER, Changes
from .material import (
    CONFLICT,
    GONE,
    NEW_EPOCH,
    UPDATED,
    WRITE,
    a_key,
    a_record,
    a_touch,
    assert_same,
    assert_times,
    fields_of,
    later,
    loaded,
    now,
)
from .subject import StoreUnderTest


class ChangePromises(StoreUnderTest):
    """Change sets, versions and epochs."""

    # Fields

    def test_an_update_sets_and_deletes_the_named_fields_alone(self) -> None:
        store, key = self.make_store(), a_key()
        store.insert(
            key, a_record({"a": b"1", "b": b"2", "c": b"3"}, notes=b"n", owner="42", epoch=4)
        )
        changes = Changes(set={"b": b"two", "d": b"4"}, delete=frozenset({"c", "never was"}))

        assert store.update(key, changes) is UPDATED
        expected = a_record(
            {"a": b"1", "b": b"two", "d": b"4"}, notes=b"n", owner="42", epoch=4, version=2
        )
        assert_same(store.load(key), expected)

    def test_an_update_keeps_what_another_request_wrote(self) -> None:
        store, key = self.make_store(), a_key()
        store.insert(key, a_record({"a": b"1", "b": b"2"}))
        store.load(key)
        store.update(key, Changes(set={"theirs": b"x"}, delete=frozenset({"a"})))
        store.update(key, Changes(set={"ours": b"y"}))

        assert fields_of(store, key) == {"b": b"2", "theirs": b"x", "ours": b"y"}

    def test_a_deleted_field_stays_deleted(self) -> None:
        store, key = self.make_store(), a_key()
        store.insert(key, a_record({"is_admin": b"true", "a": b"1"}))
        store.update(key, Changes(delete=frozenset({"is_admin"})))
        store.update(key, Changes(set={"a": b"2"}))
        store.update(key, a_touch())

        assert fields_of(store, key) == {"a": b"2"}

    def test_several_fields_are_deleted_at_once(self) -> None:
        store, names = self.make_store(), "abcdef"
        for pair in map(frozenset, combinations(names, 2)):
            key = a_key()
            store.insert(key, a_record(dict.fromkeys(names, b"1")))
            store.update(key, Changes(delete=pair))

            assert fields_of(store, key).keys() == {*names} - pair

    def test_a_field_that_is_deleted_and_set_is_set(self) -> None:
        store, key = self.make_store(), a_key()
        store.insert(key, a_record({"a": b"1", "b": b"1"}))
        store.update(key, Changes(set={"a": b"2"}, delete=frozenset({"a", "b"})))

        assert fields_of(store, key) == {"a": b"2"}

    def test_a_record_outlives_its_last_field(self) -> None:
        store, key = self.make_store(), a_key()
        store.insert(key, a_record({"a": b"1"}))

        assert store.update(key, Changes(delete=frozenset({"a"}))) is UPDATED
        assert fields_of(store, key) == {}

    def test_keep_lets_all_other_fields_go(self) -> None:
        store, key = self.make_store(), a_key()
        store.insert(key, a_record({"a": b"1", "b": b"2", "c": b"3"}, notes=b"n"))
        store.update(key, Changes(set={"theirs": b"x"}))

        assert store.update(key, Changes(keep=frozenset({"a", "b", "never was"}))) is UPDATED
        assert fields_of(store, key) == {"a": b"1", "b": b"2"}
        assert loaded(store, key).notes == b"n"

    def test_keep_goes_before_delete_and_set(self) -> None:
        store, key = self.make_store(), a_key()
        store.insert(key, a_record({"a": b"1", "b": b"2", "c": b"3"}))
        changes = Changes(
            set={"c": b"new", "d": b"4"}, delete=frozenset({"b"}), keep=frozenset({"a", "b"})
        )
        store.update(key, changes)

        assert fields_of(store, key) == {"a": b"1", "c": b"new", "d": b"4"}

    def test_keeping_nothing_leaves_what_is_set(self) -> None:
        store, key = self.make_store(), a_key()
        store.insert(key, a_record({"a": b"1", "b": b"2"}, owner="42"))
        store.update(key, Changes(set={"b": b"new"}, keep=frozenset()))
        left = fields_of(store, key)
        store.update(key, Changes(keep=frozenset()))

        assert left == {"b": b"new"}
        assert_same(store.load(key), a_record({}, owner="42", version=3))

    # Notes, times, owner

    def test_notes_change_only_where_they_are_given(self) -> None:
        store, key = self.make_store(), a_key()
        store.insert(key, a_record({"a": b"1"}, notes=b"before"))
        store.update(key, Changes(set={"a": b"2"}))
        kept = loaded(store, key).notes
        store.update(key, Changes(notes=b""))

        assert kept == b"before"
        assert loaded(store, key).notes == b""
        assert fields_of(store, key) == {"a": b"2"}

    def test_times_change_only_where_they_are_given(self) -> None:
        store, key = self.make_store(), a_key()
        record = a_record({"a": b"1"})
        store.insert(key, record)
        store.update(key, Changes(set={"a": b"2"}))
        kept = loaded(store, key)
        store.update(key, Changes(set={"a": b"3"}, used_at=now() + 1, expires_at=later() + 1))
        moved = loaded(store, key)

        assert_times(kept, record.used_at, record.expires_at)
        assert_times(moved, now() + 1, later() + 1)

    def test_a_touch_may_move_one_time_alone(self) -> None:
        store, key = self.make_store(), a_key()
        store.insert(key, a_record({"a": b"1"}))
        store.update(key, Changes(used_at=now() + 1))
        used = loaded(store, key)
        store.update(key, Changes(expires_at=later() + 1))

        assert_times(used, now() + 1, later())
        assert_times(loaded(store, key), now() + 1, later() + 1)

    def test_the_owner_changes_only_where_it_is_given(self) -> None:
        store, key = self.make_store(), a_key()
        store.insert(key, a_record({"a": b"1"}, owner="one"))
        owners = [
            loaded(store, key).owner
            for changes in (
                Changes(set={"a": b"2"}),
                Changes(owner="two"),
                Changes(notes=b"n"),
                Changes(owner=None),
                a_touch(),
                Changes(owner="three"),
                Changes(owner=LIST_OWNER),
            )
            if store.update(key, changes) is UPDATED
        ]

        assert owners == ["one", "two", "two", None, None, "three", LIST_OWNER]
        assert fields_of(store, key) == {"a": b"2"}

    def test_an_update_of_nothing_tells_whether_there_is_a_record(self) -> None:
        store, key = self.make_store(), a_key()
        record = a_record({"a": b"1"}, notes=b"n", owner="42", version=3, epoch=2)
        store.insert(key, record)

        assert store.update(key, Changes()) is UPDATED
        assert store.update(key, Changes(), if_epoch=2, if_version=3) is UPDATED
        assert store.update(a_key(), Changes()) is GONE
        assert_same(store.load(key), record)

    # Versions

    def test_every_change_but_a_touch_raises_the_version_by_one(self) -> None:
        store, key = self.make_store(), a_key()
        store.insert(key, a_record({"a": b"1"}))
        versions: list[int] = []
        for changes in (
            Changes(set={"a": b"2"}),
            Changes(set={"a": b"2"}),
            Changes(delete=frozenset({"a"})),
            Changes(notes=b"n"),
            Changes(set={"a": b"1", "b": b"2"}, delete=frozenset({"c"}), notes=b"m"),
            Changes(keep=frozenset({"a", "b"})),
            Changes(owner="42"),
            Changes(owner=None),
            Changes(epoch=1),
            a_touch(),
            Changes(),
        ):
            store.update(key, changes)
            versions.append(loaded(store, key).version)

        assert versions == [2, 3, 4, 5, 6, 7, 8, 9, 10, 10, 10]

    def test_a_touch_fails_no_transaction(self) -> None:
        store, key = self.make_store(), a_key()
        store.insert(key, a_record({"a": b"1"}))
        store.update(key, a_touch())

        assert loaded(store, key).version == 1
        assert store.update(key, WRITE, if_version=1) is UPDATED

    def test_the_right_version_goes_through(self) -> None:
        store, key = self.make_store(), a_key()
        store.insert(key, a_record({"a": b"1"}, version=5))

        assert store.update(key, WRITE, if_version=5) is UPDATED
        assert store.update(key, a_touch(), if_version=6) is UPDATED
        assert store.update(key, Changes(epoch=1), if_version=6) is UPDATED
        assert store.delete(key, if_version=7) is True

    # Epochs

    def test_the_epoch_changes_only_where_it_is_given(self) -> None:
        store, key = self.make_store(), a_key()
        store.insert(key, a_record({"a": b"1"}, epoch=1))
        epochs = [
            loaded(store, key).epoch
            for changes in (WRITE, Changes(epoch=2), a_touch(), Changes(owner="42"))
            if store.update(key, changes) is UPDATED
        ]

        assert epochs == [1, 2, 2, 2]

    def test_what_was_loaded_before_a_sign_in_cannot_be_written_after_it(self) -> None:
        store, key = self.make_store(), a_key()
        store.insert(key, a_record({"a": b"1"}))

        assert store.update(key, NEW_EPOCH, if_epoch=0) is UPDATED
        assert store.update(key, WRITE, if_epoch=0) is GONE
        assert store.update(key, a_touch(), if_epoch=0) is GONE
        assert store.update(key, Changes(), if_epoch=0) is GONE
        assert fields_of(store, key) == {"b": b"1"}
        assert store.update(key, WRITE, if_epoch=1) is UPDATED

    def test_gone_goes_before_conflict(self) -> None:
        store, key, expired = self.make_store(), a_key(), a_key()
        store.insert(key, a_record({"a": b"1"}, version=5, epoch=2))
        store.insert(expired, a_record({"a": b"1"}, expires_at=now() + 1000))
        late = Changes(set={"a": b"2"}, used_at=now() + 1000, expires_at=later())

        assert store.update(key, WRITE, if_epoch=1, if_version=4) is GONE
        assert store.update(key, WRITE, if_epoch=2, if_version=4) is CONFLICT
        assert store.update(key, WRITE, if_epoch=1, if_version=5) is GONE
        assert store.update(expired, late, if_version=9) is GONE
        assert store.update(a_key(), WRITE, if_epoch=0, if_version=1) is GONE
