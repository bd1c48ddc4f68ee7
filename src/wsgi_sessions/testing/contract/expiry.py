"""When records end: deadlines that an update meets, and what a purge takes and leaves."""

# ruff: noqa: S101 # a contract is made of asserts

from __future__ import annotations

from ...record import LIST_OWNER, Changes
from .material import (
    GONE,
    UPDATED,
    a_key,
    a_record,
    a_touch,
    assert_same,
    assert_times,
    later,
    loaded,
    now,
)
from .subject import StoreUnderTest


class ExpiryPromises(StoreUnderTest):
    """Deadlines and purges."""

    def test_an_update_after_the_deadline_is_gone(self) -> None:
        store, key = self.make_store(), a_key()
        record = a_record({"a": b"1"}, expires_at=now() + 1000)
        store.insert(key, record)
        for late in (1000, 1001, 10**6):
            changes = Changes(set={"a": b"2"}, used_at=now() + late, expires_at=now() + late + 1000)
            assert store.update(key, changes) is GONE
            assert store.update(key, changes, if_version=1) is GONE
            assert store.update(key, changes, if_epoch=0) is GONE
            assert store.update(key, a_touch(changes.used_at, changes.expires_at)) is GONE
            assert store.update(key, Changes(used_at=changes.used_at, epoch=1)) is GONE

        found = store.load(key)
        assert found is None or dict(found.fields) == {"a": b"1"}

    def test_an_update_just_before_the_deadline_is_in_time(self) -> None:
        store, key = self.make_store(), a_key()
        store.insert(key, a_record({"a": b"1"}, expires_at=now() + 1000))
        changes = Changes(set={"a": b"2"}, used_at=now() + 999, expires_at=now() + 2000)

        assert store.update(key, changes) is UPDATED
        assert_times(loaded(store, key), now() + 999, now() + 2000)

    def test_a_touch_moves_the_deadline_that_counts(self) -> None:
        store, key = self.make_store(), a_key()
        store.insert(key, a_record({"a": b"1"}, expires_at=now() + 1000))
        store.update(key, a_touch(now() + 500, now() + 3000))
        store.purge_expired(now() + 2000)

        assert store.update(key, a_touch(now() + 2000, now() + 4000)) is UPDATED
        assert store.load(key) is not None

    def test_a_deadline_can_be_brought_forward(self) -> None:
        store, key = self.make_store(), a_key()
        store.insert(key, a_record({"a": b"1"}))
        store.update(key, Changes(set={"a": b"2"}, used_at=now(), expires_at=now() + 1000))

        assert store.update(key, a_touch(now() + 1000, later())) is GONE

    def test_purging_removes_what_expired_and_nothing_else(self) -> None:
        store = self.make_store()
        dead, live, moved = a_key(), a_key(), a_key()
        store.insert(dead, a_record(used_at=now() - 100, expires_at=now() - 10))
        store.insert(live, a_record())
        store.insert(moved, a_record(expires_at=now() + 50))
        store.update(moved, Changes(set={"a": b"2"}, used_at=now(), expires_at=later()))

        assert store.purge_expired(now()) >= 0
        assert store.load(dead) is None
        assert dead not in set(store.keys())
        assert store.load(live) is not None
        store.purge_expired(now() + 60)
        assert store.load(live) is not None
        assert store.load(moved) is not None

    def test_purging_takes_what_expires_at_that_very_time(self) -> None:
        # Or neither goes: a store with an expiry of its own has its own clock.
        store, at = self.make_store(), now() + 1000
        then, before, after = a_key(), a_key(), a_key()
        store.purge_expired(at)  # so that only these can be counted
        store.insert(then, a_record(expires_at=at))
        store.insert(before, a_record(expires_at=at - 1))
        store.insert(after, a_record(expires_at=at + 0.5))
        said = store.purge_expired(at)

        gone = [key for key in (then, before) if store.load(key) is None]
        assert gone in ([], [then, before])
        assert said == len(gone)
        assert store.load(after) is not None
        assert store.purge_expired(at) == 0

    def test_purging_treats_owners_lists_like_sessions(self) -> None:
        store, dead, live = self.make_store(), a_key(), a_key()
        store.insert(dead, a_record({"e": b"1"}, expires_at=now() - 10, owner=LIST_OWNER))
        store.insert(live, a_record({"e": b"1"}, owner=LIST_OWNER))
        store.purge_expired(now())

        assert store.load(dead) is None
        assert store.load(live) is not None

    def test_many_live_records_survive_a_purge(self) -> None:
        store = self.make_store()
        live, dead = [{a_key() for _ in range(200)} for _ in range(2)]
        for one, other in zip(live, dead, strict=True):
            store.insert(one, a_record())
            store.insert(other, a_record(expires_at=now() - 1))
        before = set(store.keys())
        store.purge_expired(now())
        after = set(store.keys())

        assert {key for key in live | dead if store.load(key) is not None} == live
        assert before >= live
        assert after & (live | dead) == live

    def test_nothing_of_an_expired_record_comes_back(self) -> None:
        store, purged, in_the_way = self.make_store(), a_key(), a_key()
        old = a_record({"is_admin": b"1", "a": b"1"}, notes=b"n", owner="42", expires_at=now() - 10)
        new = a_record({"a": b"2"})
        store.insert(purged, old)
        store.purge_expired(now())
        store.insert(in_the_way, old)

        assert store.insert(purged, new) is True
        assert_same(store.load(purged), new)
        if store.insert(in_the_way, new):
            assert_same(store.load(in_the_way), new)
