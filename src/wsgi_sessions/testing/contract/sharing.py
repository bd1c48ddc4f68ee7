"""What one store object changes, another one over the same data sees at once."""

# ruff: noqa: S101 # a contract is made of asserts

from __future__ import annotations

from collections.abc import Callable

from ...record import Record
from ...stores.base import Store
from ..races import Meet, in_step
from .material import (
    NEW_EPOCH,
    WRITE,
    a_key,
    a_record,
    a_touch,
    assert_same,
    fields_of,
    later,
    now,
)
from .subject import StoreUnderTest

_USED, _UNTIL = now() + 1, later() + 1
_LIFE: tuple[tuple[Callable[[Store, str], object], Record | None], ...] = (
    (
        lambda store, key: store.insert(key, a_record({"a": b"1"})),
        a_record({"a": b"1"}),
    ),
    (
        lambda store, key: store.update(key, WRITE),
        a_record({"a": b"2"}, version=2),
    ),
    (
        lambda store, key: store.update(key, a_touch(_USED, _UNTIL)),
        a_record({"a": b"2"}, version=2, used_at=_USED, expires_at=_UNTIL),
    ),
    (
        lambda store, key: store.update(key, NEW_EPOCH),
        a_record({"b": b"1"}, version=3, epoch=1, used_at=_USED, expires_at=_UNTIL),
    ),
    (
        lambda store, key: store.delete(key),
        None,
    ),
    (
        lambda store, key: store.insert(key, a_record({"c": b"1"})),
        a_record({"c": b"1"}),
    ),
    (
        lambda store, _: store.clear(),
        None,
    ),
)
"""What becomes of a session, and what is to be seen then."""


class SharedData(StoreUnderTest):
    """Workers of a server have one store object each, and requests of one session go to any."""

    def test_what_another_store_object_changes_is_seen_at_once(self) -> None:
        (here, there), key = self._two_stores(), a_key()

        _assert_seen(here, key, None)
        for change, expected in _LIFE:
            change(there, key)
            _assert_seen(here, key, expected)

    def test_what_another_process_changes_is_seen_at_once(self) -> None:
        self._shared_session({})
        key = a_key()

        def look(meet: Meet) -> None:
            store = self.make_store()
            _assert_seen(store, key, None)
            for _, expected in _LIFE:
                meet()
                meet()
                _assert_seen(store, key, expected)

        def live(meet: Meet) -> None:
            store = self.make_store()
            for change, _ in _LIFE:
                meet()
                change(store, key)
                meet()

        in_step(look, live)

    def test_a_closed_store_leaves_its_data(self) -> None:
        (here, there), key = self._two_stores(), a_key()
        here.insert(key, a_record({"a": b"1"}))
        here.close()

        assert fields_of(there, key) == {"a": b"1"}
        there.close()
        assert fields_of(self.make_store(), key) == {"a": b"1"}


def _assert_seen(store: Store, key: str, expected: Record | None) -> None:
    # Without a write, after which many a cache would ask anew.
    found = store.load(key)
    if expected is None:
        assert found is None
    else:
        assert_same(found, expected)
    assert (key in set(store.keys())) == (expected is not None)
