"""Each call is atomic for its key: wherever another one interrupts it, one was before the other."""

# ruff: noqa: S101 # a contract is made of asserts

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from ...record import Changes, Record
from ...stores.base import Store
from ..races import Interruptions
from .material import (
    NEW_EPOCH,
    WRITE,
    a_key,
    a_record,
    later,
    now,
)
from .subject import StoreUnderTest

Call = Callable[[Store, str], object]

_HALFWAY = 50_000
"""Seconds from now: long after the run, so that no store's own expiry gets in the way."""
_BOTH = Changes(set={"a": b"2", "b": b"2"}, delete=frozenset({"c"}), notes=b"2", owner="2")
_WHOLE = a_record(
    {"a": b"1", "b": b"1", "c": b"1"}, notes=b"1", owner="1", expires_at=now() + _HALFWAY
)
_RENEWAL = Changes(set={"a": b"2"}, used_at=now() + _HALFWAY - 1, expires_at=later())


def _load(store: Store, key: str) -> object:
    """What a record is, in a form that can be compared; times to the second."""
    record = store.load(key)
    if record is None:
        return None
    times = int(record.used_at), int(record.expires_at)
    return dict(record.fields), record.notes, times, record.version, record.epoch, record.owner


def _delete(store: Store, key: str) -> object:
    return store.delete(key)


def _delete_version_1(store: Store, key: str) -> object:
    return store.delete(key, if_version=1)


def _purge(store: Store, _: str) -> None:
    store.purge_expired(now() + _HALFWAY)


def _insert_another(store: Store, _: str) -> object:
    key = a_key()
    return store.insert(key, a_record({"a": b"1"})), _load(store, key)


def _insert(record: Record) -> Call:
    return lambda store, key: store.insert(key, record)


def _update(
    changes: Changes, *, if_epoch: int | None = None, if_version: int | None = None
) -> Call:
    return lambda store, key: store.update(key, changes, if_epoch=if_epoch, if_version=if_version)


class InterruptedCalls(StoreUnderTest):
    """Another call comes at each step that the store's own code takes in one."""

    def test_an_interrupted_load_finds_a_record_as_it_was_at_one_moment(self) -> None:
        for two in (_update(_BOTH), _delete):
            self._assert_atomic(_load, two)

    def test_an_interrupted_insert_is_whole_or_not_there(self) -> None:
        self._assert_atomic(_insert(_WHOLE), _load, before=None)

    def test_an_interrupted_insert_never_overwrites(self) -> None:
        self._assert_atomic(_insert(_WHOLE), _insert(a_record({"c": b"2"})), before=None)

    def test_an_interrupted_update_is_whole_or_not_there(self) -> None:
        self._assert_atomic(_update(_BOTH), _load)

    def test_an_interrupted_update_loses_nothing(self) -> None:
        self._assert_atomic(_update(WRITE), _update(Changes(set={"b": b"2"})))
        self._assert_atomic(
            _update(WRITE, if_version=1), _update(Changes(notes=b"2"), if_version=1)
        )
        self._assert_atomic(_update(WRITE, if_epoch=0), _update(NEW_EPOCH))

    def test_an_interrupted_update_brings_nothing_back(self) -> None:
        self._assert_atomic(_update(WRITE), _delete)
        self._assert_atomic(_update(_RENEWAL), _purge)

    def test_an_interrupted_delete_is_done_once(self) -> None:
        self._assert_atomic(_delete, _delete)
        self._assert_atomic(_delete_version_1, _update(WRITE))

    def test_an_interrupted_purge_spares_what_is_renewed_meanwhile(self) -> None:
        self._assert_atomic(_purge, _update(_RENEWAL))
        self._assert_atomic(_purge, _insert_another)

    def _assert_atomic(self, one: Call, two: Call, before: Record | None = _WHOLE) -> None:
        store = self.make_store()

        def begin() -> str:
            key = a_key()
            if before is not None:
                store.insert(key, before)
            return key

        def in_turn(*calls: Call) -> list[object]:
            key = begin()
            return [*(call(store, key) for call in calls), _load(store, key)]

        first, second, left = in_turn(two, one)
        expected = in_turn(one, two), [second, first, left]
        with Interruptions(store) as race:
            for at in race.lines(partial(one, store, begin()), self.rounds):
                key = begin()
                answers = race(partial(one, store, key), partial(two, store, key), at)
                assert [*answers, _load(store, key)] in expected
