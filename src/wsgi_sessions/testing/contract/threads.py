"""Races between the threads of one process, all on one store object."""

# ruff: noqa: S101 # a contract is made of asserts

from __future__ import annotations

from functools import partial

from ...record import Changes
from ..clock import FakeClock
from ..races import Racers, together
from .material import (
    CONFLICT,
    GONE,
    NEW_EPOCH,
    UPDATED,
    WRITE,
    a_key,
    a_record,
    a_touch,
    assert_renewed_or_gone,
    assert_times,
    count,
    fields_of,
    fields_written,
    later,
    loaded,
    now,
    renew_all,
    write_fields,
)
from .subject import StoreUnderTest

_WRITES = 25
_COUNTS = 10
_AT_ONCE = 10


class ThreadRaces(StoreUnderTest):
    """Calls of several threads at the same moment."""

    def test_threads_that_write_different_fields_lose_nothing(self) -> None:
        store, key = self.make_store(), a_key()
        store.insert(key, a_record({}))

        together(*(partial(write_fields, store, key, who, _WRITES) for who in range(8)))

        assert fields_of(store, key) == fields_written(8, _WRITES)
        assert loaded(store, key).version == 1 + 8 * _WRITES

    def test_a_counter_in_threads_is_exact(self) -> None:
        store, key = self.make_store(), a_key()
        store.insert(key, a_record({"n": b"0"}))

        together(*[partial(count, store, key, _COUNTS)] * 8)

        assert loaded(store, key).fields["n"] == b"%d" % (8 * _COUNTS)

    def test_touches_and_writes_do_not_undo_each_other(self) -> None:
        store, key = self.make_store(), a_key()
        store.insert(key, a_record({}))

        def touch() -> None:
            for _ in range(_WRITES):
                assert store.update(key, a_touch(expires_at=later() + 5)) is UPDATED

        together(touch, partial(write_fields, store, key, 0, _WRITES), touch)

        assert fields_of(store, key) == fields_written(1, _WRITES)
        assert_times(loaded(store, key), now(), later() + 5)

    def test_a_session_deleted_while_it_is_written_stays_deleted(self) -> None:
        store = self.make_store()

        with Racers() as race:
            for number in range(self.rounds):
                changes = a_touch() if number % 2 else WRITE
                key = a_key()
                store.insert(key, a_record({"a": b"1"}))
                deleted, updated = race(
                    partial(store.delete, key),
                    partial(store.update, key, changes),
                )
                assert deleted is True
                assert updated in (UPDATED, GONE)
                assert store.load(key) is None
                assert store.update(key, changes) is GONE
                assert store.load(key) is None

    def test_what_is_written_during_a_sign_in_is_before_it_or_gone(self) -> None:
        store = self.make_store()

        with Racers() as race:
            for number in range(self.rounds):
                changes = a_touch() if number % 2 else WRITE
                key = a_key()
                store.insert(key, a_record({"a": b"1"}))
                signed_in, written = race(
                    partial(store.update, key, NEW_EPOCH, if_epoch=0),
                    partial(store.update, key, changes, if_epoch=0),
                )
                assert signed_in is UPDATED
                assert written in (UPDATED, GONE)
                assert store.update(key, WRITE, if_epoch=0) is GONE
                assert fields_of(store, key) == {"b": b"1"}

    def test_a_conditional_sign_in_loses_no_update(self) -> None:
        store = self.make_store()

        with Racers() as race:
            for _ in range(self.rounds):
                key = a_key()
                store.insert(key, a_record({"a": b"1"}))
                signed_in, written = race(
                    partial(store.update, key, NEW_EPOCH, if_version=1),
                    partial(store.update, key, WRITE, if_epoch=0),
                )
                assert (signed_in, written) in ((UPDATED, GONE), (CONFLICT, UPDATED))
                expected = {"b": b"1"} if signed_in is UPDATED else {"a": b"2"}
                assert fields_of(store, key) == expected

    def test_of_two_conditional_updates_one_wins(self) -> None:
        store = self.make_store()

        with Racers() as race:
            for _ in range(self.rounds):
                key = a_key()
                store.insert(key, a_record())
                results = race(
                    partial(store.update, key, Changes(notes=b"one"), if_version=1),
                    partial(store.update, key, Changes(notes=b"two"), if_version=1),
                )
                assert sorted(result.value for result in results) == ["conflict", "updated"]
                winner = b"one" if results[0] is UPDATED else b"two"
                assert loaded(store, key).notes == winner

    def test_a_conditional_delete_loses_no_update(self) -> None:
        store = self.make_store()

        with Racers() as race:
            for _ in range(self.rounds):
                key = a_key()
                store.insert(key, a_record({"a": b"1"}))
                deleted, written = race(
                    partial(store.delete, key, if_version=1),
                    partial(store.update, key, WRITE),
                )
                assert (deleted, written) in ((True, GONE), (False, UPDATED))
                assert (store.load(key) is None) == deleted

    def test_of_two_inserts_and_of_two_deletes_one_wins(self) -> None:
        store = self.make_store()

        with Racers() as race:
            for _ in range(self.rounds):
                key = a_key()
                inserted = race(
                    partial(store.insert, key, a_record({"one": b"1"})),
                    partial(store.insert, key, a_record({"two": b"2"})),
                )
                found = fields_of(store, key)
                deleted = race(partial(store.delete, key), partial(store.delete, key))
                assert sorted(inserted) == sorted(deleted) == [False, True]
                assert found == ({"one": b"1"} if inserted[0] else {"two": b"2"})

    def test_a_session_that_expires_while_it_is_written_lives_or_is_gone(self) -> None:
        store = self.make_store()

        with Racers() as race:
            for _ in range(0, self.rounds, _AT_ONCE):
                keys = [a_key() for _ in range(_AT_ONCE)]
                for key in keys:
                    store.insert(key, a_record({"a": b"1"}, expires_at=now() + 10))
                _, results = race(
                    partial(store.purge_expired, now() + 10),
                    partial(renew_all, store, keys),
                )
                for key, result in zip(keys, results, strict=True):
                    assert_renewed_or_gone(store, key, result)

    def test_a_session_that_is_renewed_survives_the_purges_meanwhile(self) -> None:
        store, key, clock = self.make_store(), a_key(), FakeClock(now())
        store.insert(key, a_record({"a": b"1"}, expires_at=now() + 10))

        def renew() -> None:
            try:
                for step in range(1, _WRITES):
                    then = now() + step * 9
                    assert store.update(key, a_touch(then, then + 10)) is UPDATED
                    clock.now = then
                    store.purge_expired(then)
            finally:
                clock.now = float("inf")

        def purge() -> None:
            while (then := clock.now) < float("inf"):
                store.purge_expired(then)

        together(renew, purge)

        assert store.load(key) is not None
