"""MemoryStore: the contract, and what is its own: bounded work, bounded memory, who goes first."""

from __future__ import annotations

import gc
import hashlib
import math
import os
import threading
import time
import tracemalloc
from dataclasses import replace
from typing import Any

import pytest

from effort import ROUNDS
from wsgi_sessions.errors import ConfigurationError, StoreError
from wsgi_sessions.record import LIST_OWNER, Changes, Record, UpdateResult
from wsgi_sessions.stores import MemoryStore, Store, memory
from wsgi_sessions.testing import StoreContract
from wsgi_sessions.testing.races import forked, together

NOW = 1_700_000_000.0


def key(number: int) -> str:
    return hashlib.sha256(b"%d" % number).hexdigest()


def record(
    expires_at: float = NOW + 1000,
    *,
    used_at: float = NOW,
    owner: str | None = None,
    fields: dict[str, bytes] | None = None,
) -> Record:
    return Record(fields or {}, b"", used_at, expires_at, owner=owner)


class TestContract(StoreContract):
    rounds = ROUNDS

    def make_store(self) -> Store:
        return MemoryStore()


class TestSettings:
    @pytest.mark.parametrize("value", [0, -1, True, False, 1.5, "10", math.inf, math.nan, [], b"1"])
    def test_a_wrong_limit_is_refused(self, value: Any) -> None:
        with pytest.raises(ConfigurationError, match="max_sessions is .*whole number of 1 or more"):
            MemoryStore(max_sessions=value)

    def test_an_unknown_option_is_refused(self) -> None:
        with pytest.raises(ConfigurationError, match="write max_sessions"):
            MemoryStore(max_session=1)  # type: ignore[call-arg] # that is the mistake


class TestWhatIsKept:
    def test_a_record_is_handed_out_without_copying(self) -> None:
        store = MemoryStore()
        store.insert(key(1), record(fields={"a": b"1"}))

        assert store.load(key(1)) is store.load(key(1))

    def test_a_record_that_was_handed_out_cannot_be_changed(self) -> None:
        store = MemoryStore()
        store.insert(key(1), record(fields={"a": b"1"}))
        fields: Any = store.load(key(1)).fields  # type: ignore[union-attr] # it was just inserted

        with pytest.raises(TypeError):
            fields["a"] = b"2"

    def test_more_sessions_than_are_kept_ready_are_all_right(self) -> None:
        store = MemoryStore()
        numbers = range(memory._HOT * 3)
        for number in numbers:
            store.insert(key(number), record(fields={"n": b"%d" % number}))
        for _ in range(2):
            for number in numbers:
                store.update(key(number), Changes(set={"m": b"%d" % number}))
                loaded = store.load(key(number))

                assert loaded is not None
                assert loaded.fields == {"n": b"%d" % number, "m": b"%d" % number}
        assert len(store._hot) <= memory._HOT

    def test_bytes_that_can_change_are_copied(self) -> None:
        store, value = MemoryStore(), bytearray(b"before")
        store.insert(key(1), record(fields={"a": value}))  # type: ignore[dict-item] # by mistake
        store.update(key(1), Changes(set={"b": value}))  # type: ignore[dict-item] # by mistake
        value[:] = b"after!"
        loaded = store.load(key(1))

        assert loaded is not None
        assert loaded.fields == {"a": b"before", "b": b"before"}

    def test_a_record_that_cannot_be_changed_any_more_keeps_no_other_from_being_read(self) -> None:
        store = MemoryStore()
        last = replace(record(), version=2**64 - 1)
        store.insert(key(0), last)
        with pytest.raises(StoreError, match="64 bits"):
            store.update(key(0), Changes(set={"a": b"1"}))
        for number in range(1, memory._HOT + 2):
            store.insert(key(number), record())

            assert store.load(key(number)) == record()
        assert store.load(key(0)) == last

    @pytest.mark.parametrize("value", ["text", 1, None, ["a"], {"a": b"1"}])
    def test_what_is_not_encoded_is_refused(self, value: Any) -> None:
        store = MemoryStore()
        store.insert(key(1), record())

        with pytest.raises(StoreError, match="bytes"):
            store.insert(key(2), record(fields={"a": value}))
        with pytest.raises(StoreError, match="bytes"):
            store.update(key(1), Changes(set={"a": value}))
        assert store.load(key(1)) == record()

    def test_a_deadline_that_is_no_time_is_refused(self) -> None:
        store = MemoryStore()
        store.insert(key(1), record())

        with pytest.raises(StoreError, match="NaN"):
            store.insert(key(2), record(math.nan))
        with pytest.raises(StoreError, match="NaN"):
            store.update(key(1), Changes(expires_at=math.nan))
        assert store.load(key(1)) == record()
        assert store.purge_expired(NOW + 2000) == 1

    @pytest.mark.parametrize("at", [math.nan, math.inf, -math.inf])
    @pytest.mark.parametrize("fields", [{}, {"a": b"2"}], ids=["touch", "write"])
    def test_so_is_a_use_that_is_no_time(self, at: float, fields: dict[str, bytes]) -> None:
        store = MemoryStore()
        store.insert(key(1), kept := record())

        with pytest.raises(StoreError, match="used_at is .*; write UNIX seconds"):
            store.update(key(1), Changes(set=fields, used_at=at))
        with pytest.raises(StoreError, match="used_at is .*; write UNIX seconds"):
            store.insert(key(2), Record({}, b"", at, NOW + 1000))
        assert store.load(key(1)) == kept


class TestMemory:
    def test_a_session_of_200_bytes_takes_at_most_1_kb(self) -> None:
        count = 5_000
        tracemalloc.start()
        try:
            store = MemoryStore()
            for number in range(count):
                fields = {"data": b"%0200d" % number}
                store.insert(key(number), Record(fields, bytes(34), NOW + number, NOW + 2 * number))
            used, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()

        assert used / count < 1024

    def test_the_garbage_collector_has_nothing_to_visit(self) -> None:
        store, count = MemoryStore(), 5000
        for number in range(500):
            store.insert(key(-number), record())
        before = len(gc.get_objects())
        for number in range(count):
            store.insert(key(number), record(fields={"a": b"1"}, owner="42"))

        assert len(gc.get_objects()) - before < count / 2

    def test_touching_a_session_often_leaves_nothing_behind(self) -> None:
        store = MemoryStore()
        store.insert(key(1), record())
        store.update(key(1), Changes(used_at=NOW, expires_at=NOW + 500))

        def touch_often() -> None:
            for number in range(3000):
                # Later, earlier, later: a queue of promises would grow either way.
                at = NOW + 1000 + (-number if number % 2 else number)
                store.update(key(1), Changes(used_at=NOW, expires_at=at))

        touch_often()  # what measures coverage remembers each line that is new to it
        tracemalloc.start()
        try:
            before, _ = tracemalloc.get_traced_memory()
            touch_often()
            after, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()

        assert after - before < 10_000

    def test_what_comes_and_goes_leaves_nothing_behind(self) -> None:
        store = MemoryStore()

        def come_and_go(number: int) -> None:
            store.insert(key(number), record(owner="42"))
            store.load(key(number))
            store.update(key(number), Changes(owner=None, epoch=1))
            store.delete(key(number))

        for number in range(1, 2000):
            come_and_go(number)
        tracemalloc.start()
        try:
            before, _ = tracemalloc.get_traced_memory()
            for number in range(1, 2000):
                come_and_go(number)
            after, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()

        assert after - before < 20_000
        assert list(store.keys()) == []

    def test_clearing_gives_everything_back(self) -> None:
        store = MemoryStore()
        for number in range(100):
            store.insert(key(number), record(owner="42"))
            store.load(key(number))
        store.clear()

        assert store.load(key(1)) is None
        assert store.purge_expired(NOW + 9999) == 0


class TestReclaiming:
    def test_writes_reclaim_what_expired(self) -> None:
        store = MemoryStore()
        for number in range(3000):
            store.insert(key(number), record(NOW + 10, owner="42" if number % 2 else None))
        for number in range(3000):
            store.insert(key(-number - 1), record(NOW + 1000, used_at=NOW + 20))

        assert set(store.keys()) == {key(-number - 1) for number in range(3000)}

    def test_one_write_reclaims_a_few_only(self) -> None:
        store = MemoryStore()
        for number in range(8_000):
            store.insert(key(number), record(NOW + 10))
        store.update(key(0), Changes(expires_at=NOW + 1000))
        sizes = []
        for _ in range(600):
            store.update(key(0), Changes(used_at=NOW + 20, expires_at=NOW + 1000))
            sizes.append(len(list(store.keys())))
        steps = [before - after for before, after in zip(sizes, sizes[1:], strict=False)]

        assert 1 < max(steps) <= 2 * memory._RECLAIMED_PER_WRITE

    def test_a_session_that_was_touched_is_not_reclaimed(self) -> None:
        store = MemoryStore()
        for number in range(1000):
            store.insert(key(number), record(NOW + 10))
            store.update(key(number), Changes(used_at=NOW + 5, expires_at=NOW + 1000))
        for _ in range(1000):
            store.update(key(0), Changes(used_at=NOW + 500, expires_at=NOW + 1000))

        assert len(list(store.keys())) == 1000

    def test_a_call_without_a_time_reclaims_nothing(self) -> None:
        store = MemoryStore()
        for number in range(1000):
            store.insert(key(number), record(1.0, used_at=0.0))
        for _ in range(1000):
            store.update(key(0), Changes(set={"a": b"1"}))

        assert len(list(store.keys())) == 1000

    def test_the_real_time_means_nothing(self) -> None:
        store = MemoryStore()
        for number in range(1000):
            store.insert(key(number), record(1000.0, used_at=0.0))
            store.load(key(number))

        assert len(list(store.keys())) == 1000

    def test_purging_counts_what_writes_have_reclaimed(self) -> None:
        store = MemoryStore()
        for number in range(1000):
            store.insert(key(number), record(NOW + 10))
        for number in range(500):
            store.insert(key(-number - 1), record(used_at=NOW + 20))

        assert len(list(store.keys())) < 1500
        assert store.purge_expired(NOW + 20) == 1000
        assert store.purge_expired(NOW + 20) == 0

    def test_a_purge_of_many_lets_others_in_between(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(memory, "_SLICE", 4)
        store = MemoryStore()
        for number in range(1000):
            store.insert(key(number), record(NOW + 10, owner="42" if number % 3 else None))
        live = key(-1)
        store.insert(live, record())
        failed: list[UpdateResult] = []
        stop = threading.Event()

        def request() -> None:
            while not stop.is_set():
                result = store.update(live, Changes(set={"a": b"1"}, used_at=NOW))
                if result is not UpdateResult.UPDATED:
                    failed.append(result)

        thread = threading.Thread(target=request)
        thread.start()
        purged = store.purge_expired(NOW + 20)
        stop.set()
        thread.join()

        assert purged == 1000
        assert failed == []
        assert list(store.keys()) == [live]

    def test_clearing_during_a_purge_starts_afresh(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(memory, "_SHARDS", 1)
        monkeypatch.setattr(memory, "_SLICE", 2)
        store = MemoryStore()
        for number in range(5):
            store.insert(key(number), record(NOW + number))
        turns: list[float] = []

        def others_come_first(seconds: float) -> None:
            turns.append(seconds)
            if len(turns) == 1:
                store.clear()
                store.insert(key(4), record())
                store.update(key(4), Changes(set={"a": b"1"}))

        monkeypatch.setattr(time, "sleep", others_come_first)
        store.purge_expired(NOW + 10)
        loaded = store.load(key(4))

        assert turns
        assert loaded is not None
        assert loaded.fields == {"a": b"1"}
        assert store._count == 1

    def test_what_never_expires_goes_last(self) -> None:
        store = MemoryStore()
        store.insert(key(1), record(math.inf))
        store.insert(key(2), record(NOW + 10))

        assert store.purge_expired(NOW + 1e12) == 1
        assert list(store.keys()) == [key(1)]
        assert store.delete(key(1))

    def test_many_with_the_same_deadline_are_told_apart(self) -> None:
        store = MemoryStore()
        for number in range(2000):
            store.insert(key(number), record(NOW + 10))
        for number in range(0, 2000, 2):
            assert store.delete(key(number))

        assert set(store.keys()) == {key(number) for number in range(1, 2000, 2)}
        assert store.purge_expired(NOW + 10) == 1000

    def test_a_key_is_found_at_its_place_only(self) -> None:
        """Keys stand side by side, and one may by chance be the end and beginning of two others."""
        queue = memory._Queue()
        one, two, three = ("11" * 16 + "22" * 16), ("33" * 16 + "44" * 16), ("22" * 16 + "33" * 16)
        for each in (one, two, three):
            queue.add(NOW, each)
        queue.remove(NOW, three)

        assert queue.take(9) == [one, two]


class TestFull:
    """When it is full: expired first, then without owner, then owned, each soonest to expire."""

    @staticmethod
    def store(limit: int) -> tuple[MemoryStore, list[tuple[str, str]]]:
        store, told = MemoryStore(max_sessions=limit), []
        store.subscribe(lambda kind, at, detail: told.append((kind, at)))
        return store, told

    @pytest.mark.parametrize(
        ("present", "goes", "told"),
        [
            # owner and deadline of each, the newcomer comes at 100
            ([(None, 50), ("a", 200), (None, 300)], 0, False),
            ([("a", 50), (None, 60), (None, 200)], 0, False),
            ([(None, 60), ("a", 50), (None, 200)], 1, False),
            ([("a", 100), (None, 200), (None, 300)], 0, False),
            ([("a", 150), (None, 300), (None, 200)], 2, True),
            ([("a", 150), ("b", 160), (None, 900)], 2, True),
            ([(None, 150), (None, 140), (None, 130)], 2, True),
            ([("a", 300), ("a", 200), ("b", 400)], 1, True),
            ([("a", math.inf), (None, math.inf), ("b", 400)], 1, True),
            ([("a", math.inf), ("b", 400), ("b", 500)], 1, True),
        ],
    )
    def test_who_goes(self, present: list[tuple[str | None, float]], goes: int, told: bool) -> None:
        # None where the first writes reclaim what has expired, whatever else they do.
        keys = [name for name in map(key, range(99)) if hash(name) % memory._SHARDS > 9]
        for newcomer in (None, "z"):
            store, events = self.store(len(present))
            for name, (owner, at) in zip(keys, present, strict=False):
                store.insert(name, record(at, used_at=0.0, owner=owner))

            assert store.insert(keys[-1], record(1000, used_at=100.0, owner=newcomer))
            stay = {keys[number] for number in range(len(present)) if number != goes}
            assert set(store.keys()) == stay | {keys[-1]}
            assert events == ([("evicted", keys[goes])] if told else [])

    def test_a_flood_of_strangers_keeps_the_signed_in(self) -> None:
        store, events = self.store(50)
        for number in range(40):
            store.insert(key(number), record(NOW + 10, owner=str(number)))
        for number in range(1000):
            assert store.insert(key(-number - 1), record(NOW + 5000 + number))

        assert {key(number) for number in range(40)} <= set(store.keys())
        assert len(list(store.keys())) == 50
        assert len(events) == 40 + 1000 - 50

    def test_a_touch_puts_a_session_to_the_end_of_the_queue(self) -> None:
        store, events = self.store(3)
        for number in range(3):
            store.insert(key(number), record(NOW + 100 + number))
        store.update(key(0), Changes(used_at=NOW, expires_at=NOW + 500))
        store.insert(key(3), record(NOW + 900))

        assert events == [("evicted", key(1))]

    def test_an_insert_that_is_refused_evicts_nobody(self) -> None:
        store, events = self.store(2)
        store.insert(key(0), record())
        store.insert(key(1), record())

        assert store.insert(key(1), record()) is False
        assert set(store.keys()) == {key(0), key(1)}
        assert events == []

    def test_a_listener_may_use_the_store(self) -> None:
        store = MemoryStore(max_sessions=1)
        seen: list[Any] = []
        store.subscribe(lambda kind, at, detail: seen.append((store.load(at), detail)))
        store.insert(key(0), record())
        store.insert(key(1), record())

        assert seen == [(None, "the store is full (max_sessions=1)")]


class TestOwnersLists:
    """They are no sessions: they neither count nor go for one."""

    def test_e16_lists_are_never_evicted(self) -> None:
        store, events = TestFull.store(3)
        for number in range(10):
            store.insert(key(-number - 1), record(NOW + 5, owner=LIST_OWNER))
        for number in range(10):
            store.insert(key(number), record(NOW + 100 + number, owner=str(number)))

        assert {key(-number - 1) for number in range(10)} <= set(store.keys())
        assert events == [("evicted", key(number)) for number in range(7)]

    def test_a_list_is_kept_in_a_full_store(self) -> None:
        store, events = TestFull.store(1)
        store.insert(key(0), record())
        store.insert(key(1), record(owner=LIST_OWNER))

        assert set(store.keys()) == {key(0), key(1)}
        assert events == []

    def test_expired_lists_are_reclaimed_and_purged(self) -> None:
        store = MemoryStore()
        for number in range(300):
            store.insert(key(number), record(NOW + 10, owner=LIST_OWNER))
        for number in range(memory._SHARDS):
            store.insert(key(-number - 1), record(used_at=NOW + 20))
        left = len(list(store.keys())) - memory._SHARDS

        assert left < 300
        assert store.purge_expired(NOW + 20) == 300

    def test_a_deleted_list_makes_no_room_for_a_session(self) -> None:
        store, events = TestFull.store(1)
        store.insert(key(1), record(owner=LIST_OWNER))
        store.insert(key(2), record())
        store.delete(key(1))
        store.insert(key(3), record())

        assert events == [("evicted", key(2))]

    @pytest.mark.parametrize("owner", [None, "42"])
    def test_a_record_that_becomes_a_list_counts_no_more(self, owner: str | None) -> None:
        store, events = TestFull.store(1)
        store.insert(key(1), record(owner=owner))
        store.update(key(1), Changes(owner=LIST_OWNER))
        store.insert(key(2), record())
        before = list(events)
        store.update(key(1), Changes(owner=owner))
        store.delete(key(1))
        store.insert(key(3), record())

        assert before == []
        assert events == [("evicted", key(2))]


class TestChangesOfOwner:
    def test_a_session_that_gets_an_owner_goes_after_those_without(self) -> None:
        store, events = TestFull.store(2)
        store.insert(key(0), record(NOW + 100))
        store.insert(key(1), record(NOW + 200))
        store.update(key(0), Changes(owner="42"))
        store.insert(key(2), record(NOW + 300, owner="43"))

        assert events == [("evicted", key(1))]

    def test_a_session_that_loses_its_owner_goes_before_those_with_one(self) -> None:
        store, events = TestFull.store(2)
        store.insert(key(0), record(NOW + 200, owner="42"))
        store.insert(key(1), record(NOW + 100, owner="43"))
        store.update(key(0), Changes(owner=None))
        store.insert(key(2), record(NOW + 300, owner="44"))

        assert events == [("evicted", key(0))]


class TestForks:
    def test_a_fork_in_the_middle_of_calls_leaves_a_store_that_works(self) -> None:
        store, stop = MemoryStore(), threading.Event()
        store.insert(key(0), record(fields={"n": b"0"}))

        def write() -> None:
            number = 0
            while not stop.is_set():
                number += 1
                store.update(key(0), Changes(set={"n": b"%d" % number}, expires_at=NOW + number))
                store.insert(key(number), record())
                store.delete(key(number))

        def serve() -> None:
            assert store.load(key(0)) is not None
            assert store.update(key(0), Changes(set={"a": b"1"})) is UpdateResult.UPDATED
            assert store.insert(key(-1), record())
            assert store.purge_expired(NOW + 1e9) >= 1

        threads = [threading.Thread(target=write) for _ in range(3)]
        for thread in threads:
            thread.start()
        try:
            for _ in range(20):
                forked(serve)
        finally:
            stop.set()
            for thread in threads:
                thread.join()

    def test_threads_that_fork_at_once_all_get_their_locks_back(self) -> None:
        stores = [MemoryStore() for _ in range(5)]

        def fork() -> int:
            child = os.fork()
            if child == 0:
                os._exit(not all(store.insert(key(1), record()) for store in stores))
            return os.waitpid(child, 0)[1]

        assert together(*[fork] * 4) == [0] * 4
        assert all(store.insert(key(1), record()) for store in stores)


@pytest.mark.parametrize("bad", ["no key", None])
def test_an_error_names_the_operation(bad: Any) -> None:
    with pytest.raises(StoreError, match="not a store key") as caught:
        MemoryStore().insert(bad, record())

    assert caught.value.operation == "insert"


def test_purging_counts_owned_and_anonymous_sessions_alike() -> None:
    store = MemoryStore()
    for number in range(30):
        store.insert(key(number), record(expires_at=NOW, owner="42" if number % 3 else None))

    assert store.purge_expired(NOW) == 30


def test_a_record_that_was_loaded_shows_a_later_touch() -> None:
    store = MemoryStore()
    store.insert(key(1), record(expires_at=NOW + 10))
    assert store.load(key(1)) is not None

    store.update(key(1), Changes(used_at=NOW + 5, expires_at=NOW + 90))

    assert store.load(key(1)) == record(expires_at=NOW + 90, used_at=NOW + 5)


def test_a_place_that_was_given_up_is_free_once() -> None:
    store = MemoryStore(max_sessions=4)
    for number in range(4):
        store.insert(key(number), record(expires_at=NOW + 100 + number))

    store.delete(key(3))
    store.insert(key(4), record(expires_at=NOW + 500))
    assert {*store.keys()} == {key(number) for number in (0, 1, 2, 4)}

    store.insert(key(5), record(expires_at=NOW + 500))
    assert {*store.keys()} == {key(number) for number in (1, 2, 4, 5)}


def test_an_owned_session_that_changes_keeps_its_place_among_the_owned() -> None:
    store = MemoryStore(max_sessions=3)
    for number in range(3):
        store.insert(key(number), record(NOW + 100 + number, owner="42"))

    store.update(key(0), Changes(set={"a": b"1"}, used_at=NOW, expires_at=NOW + 500))
    store.insert(key(3), record(NOW + 50))
    store.insert(key(4), record(NOW + 900))

    # First one of the owned, soonest to expire, then the only one without owner.
    assert {*store.keys()} == {key(0), key(2), key(4)}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (Changes(used_at=NOW + 5), record(NOW + 10, used_at=NOW + 5)),
        (Changes(expires_at=NOW + 90), record(NOW + 90, used_at=NOW)),
        (Changes(), record(NOW + 10, used_at=NOW)),
    ],
)
def test_a_touch_moves_only_the_times_that_it_names(changes: Changes, expected: Record) -> None:
    store = MemoryStore()
    store.insert(key(1), record(NOW + 10))

    assert store.update(key(1), changes) is UpdateResult.UPDATED
    assert store.load(key(1)) == expected


def in_one_shard(count: int) -> list[str]:
    """Keys that are kept together."""
    shard = hash(key(0)) % memory._SHARDS
    found = (key(number) for number in range(10**6) if hash(key(number)) % memory._SHARDS == shard)
    return [next(found) for _ in range(count)]


def test_it_is_shown_with_its_bound() -> None:
    assert repr(MemoryStore(max_sessions=7)) == "MemoryStore(max_sessions=7)"


def test_only_one_session_makes_room_for_one() -> None:
    store = MemoryStore(max_sessions=2)
    first, second, third = in_one_shard(3)
    store.insert(first, record(NOW + 100))
    store.insert(second, record(NOW + 200))

    store.insert(third, record(NOW + 300))

    assert {*store.keys()} == {second, third}


def test_a_session_that_expires_now_is_reclaimed() -> None:
    store = MemoryStore()
    store.insert(key(1), record(NOW + 10))
    for number in range(memory._SHARDS):
        store.insert(key(number + 2), record(NOW + 100, used_at=NOW + 10))

    assert key(1) not in {*store.keys()}


def test_purging_counts_the_expired_ones_that_made_room() -> None:
    store = MemoryStore(max_sessions=3)
    for number in range(3):
        store.insert(key(number), record(NOW + 10))
    for number in range(3):
        store.insert(key(number + 3), record(NOW + 100, used_at=NOW + 20))

    assert store.purge_expired(NOW + 20) == 3


def test_a_touch_that_changes_nothing_leaves_everything_as_it_is() -> None:
    store = MemoryStore()
    store.insert(key(1), record(NOW + 10))
    loaded = store.load(key(1))

    store.update(key(1), Changes(used_at=NOW, expires_at=NOW + 10))

    assert store.load(key(1)) is loaded
