"""The store that fails when it is told to: every operation of a store, and its hooks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from client_contract import StoreClientContract
from wsgi_sessions import StoreError
from wsgi_sessions.record import Changes, Record
from wsgi_sessions.stores import ClientSideStore, MemoryStore, Store
from wsgi_sessions.testing import FakeClock, FaultyStore, StoreContract

KEY, OTHER = "a" * 64, "b" * 64
RECORD = Record({"a": b"1"}, b"", 0.0, 1e12)
OPERATIONS: dict[str, Callable[[Store], Any]] = {
    "load": lambda store: store.load(KEY),
    "insert": lambda store: store.insert(OTHER, RECORD),
    "update": lambda store: store.update(KEY, Changes(set={"a": b"2"})),
    "replace": lambda store: store.replace(KEY, OTHER, RECORD),
    "delete": lambda store: store.delete(KEY),
    "purge_expired": lambda store: store.purge_expired(1e13),
    "keys": lambda store: list(store.keys()),
    "clear": lambda store: store.clear(),
    "ping": lambda store: store.ping(),
    "close": lambda store: store.close(),
    "add_owned": lambda store: store.add_owned("ada", KEY, 1e12),
    "owned_by": lambda store: dict(store.owned_by("ada")),
    "remove_owned": lambda store: store.remove_owned("ada", [KEY]),
    "generation": lambda store: store.generation("ada"),
    "next_generation": lambda store: store.next_generation("ada"),
}


def with_a_session() -> MemoryStore:
    store = MemoryStore()
    store.insert(KEY, RECORD)
    return store


def test_these_are_all_operations() -> None:
    assert set(OPERATIONS) == FaultyStore.OPERATIONS


class TestItIsAStore(StoreClientContract):
    def make_store(self) -> Store:
        return FaultyStore(MemoryStore())


@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_that_is_to_fail_does_nothing(name: str) -> None:
    inner = with_a_session()
    before = dict(inner.load(KEY).fields) if inner.load(KEY) else None  # type: ignore[union-attr] # asked in the same line
    store = FaultyStore(inner)
    store.fail(name)

    with pytest.raises(StoreError) as caught:
        OPERATIONS[name](store)

    assert caught.value.operation == name
    assert store.calls[name] == 1
    loaded = inner.load(KEY)
    assert loaded is not None
    assert dict(loaded.fields) == before
    assert inner.load(OTHER) is None


@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_whose_answer_is_lost_is_done(name: str) -> None:
    store, twin = FaultyStore(with_a_session()), with_a_session()
    store.fail(name, answer_lost=True)
    OPERATIONS[name](twin)

    with pytest.raises(StoreError) as caught:
        OPERATIONS[name](store)

    assert caught.value.operation == name
    assert [store.store.load(key) for key in (KEY, OTHER)] == [
        twin.load(key) for key in (KEY, OTHER)
    ]
    store.recover()
    OPERATIONS[name](store)


def test_hooks_run_before_and_after_with_the_arguments() -> None:
    store, seen = FaultyStore(MemoryStore()), []
    store.before("load", lambda key: seen.append(("before", key)))
    store.after("load", lambda key: seen.append(("after", key)))

    store.load(KEY)

    assert seen == [("before", KEY), ("after", KEY)]


@pytest.mark.parametrize("ask", [FaultyStore.fail, FaultyStore.before, FaultyStore.after])
def test_an_operation_that_no_store_has_is_an_error(ask: Any) -> None:
    store = FaultyStore(MemoryStore())
    arguments = ["save"] if ask is FaultyStore.fail else ["save", print]

    with pytest.raises(ValueError, match=r"no operation 'save'; it has add_owned, clear, "):
        ask(store, *arguments)


def test_it_is_shared_and_tells_the_time_as_the_other_store_does() -> None:
    store = FaultyStore(MemoryStore())
    store.clock = clock = FakeClock(7.0)

    assert store.store.clock is store.clock is clock
    assert store.shared
    assert not FaultyStore(ClientSideStore()).shared


def test_a_contract_without_a_store_says_what_it_needs() -> None:
    with pytest.raises(NotImplementedError, match="make_store"):
        StoreContract().make_store()


def test_an_error_in_the_other_thread_of_a_race_is_the_tests_own() -> None:
    class Contract(StoreContract):
        def make_store(self) -> Store:
            store = FaultyStore(MemoryStore())
            store.fail("update")
            return store

    with pytest.raises(StoreError, match="told to fail"):
        Contract().test_a_session_deleted_while_it_is_written_stays_deleted()
