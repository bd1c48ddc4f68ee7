"""The store that fails when it is told to: every operation of a store, and its hooks."""

from __future__ import annotations

import unittest
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import SkipTest, TestCase, defaultTestLoader

import pytest

from wsgi_sessions import testing
from wsgi_sessions.errors import ConfigurationError, StoreError
from wsgi_sessions.record import Changes, Record
from wsgi_sessions.stores import ClientSideStore, FileStore, MemoryStore, Store
from wsgi_sessions.stores.wrapper import StoreWrapper
from wsgi_sessions.testing import FaultyStore, StoreClientContract, StoreContract

KEY, OTHER = "a" * 64, "b" * 64
RECORD = Record({"a": b"1"}, b"", 0.0, 1e12)
OPERATIONS: dict[str, Callable[[Store], Any]] = {
    "load": lambda store: store.load(KEY),
    "insert": lambda store: store.insert(OTHER, RECORD),
    "update": lambda store: store.update(KEY, Changes(set={"a": b"2"})),
    "delete": lambda store: store.delete(KEY),
    "purge_expired": lambda store: store.purge_expired(1e13),
    "keys": lambda store: list(store.keys()),
    "clear": lambda store: store.clear(),
    "ping": lambda store: store.ping(),
    "close": lambda store: store.close(),
}


def with_a_session() -> MemoryStore:
    store = MemoryStore()
    store.insert(KEY, RECORD)
    return store


def test_these_are_all_operations() -> None:
    assert set(OPERATIONS) == FaultyStore.OPERATIONS


class TestItIsAStore(StoreContract):
    rounds = 20

    def make_store(self) -> Store:
        return FaultyStore(MemoryStore())

    def make_broken_store(self) -> Store:
        store = FaultyStore(MemoryStore())
        store.fail(*FaultyStore.OPERATIONS)
        return store


class TestAWrapperIsAStore(StoreClientContract):
    def make_store(self) -> Store:
        return StoreWrapper(MemoryStore())

    def make_broken_store(self) -> Store:
        inner = FaultyStore(MemoryStore())
        inner.fail(*FaultyStore.OPERATIONS)
        return StoreWrapper(inner)


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


@pytest.mark.parametrize("when", [FaultyStore.before, FaultyStore.after])
def test_another_request_that_a_hook_makes_calls_no_hook(when: Any) -> None:
    store = FaultyStore(with_a_session())
    when(store, "update", lambda *_, **__: store.update(KEY, Changes(set={"b": b"other"})))

    store.update(KEY, Changes(set={"a": b"2"}))
    store.update(KEY, Changes(set={"a": b"3"}))

    loaded = store.load(KEY)
    assert loaded is not None
    assert dict(loaded.fields) == {"a": b"3", "b": b"other"}
    assert store.calls["update"] == 4
    assert loaded.version == 5


def test_a_hook_that_raises_is_called_again() -> None:
    store = FaultyStore(with_a_session())
    store.before("load", lambda key: 1 / 0)

    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            store.load(KEY)


def test_recovering_takes_the_hooks_off() -> None:
    store, seen = FaultyStore(with_a_session()), list[str]()
    store.before("load", seen.append)
    store.after("load", seen.append)

    store.recover()
    store.load(KEY)

    assert seen == []


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("memory://", r"FaultyStore: store is .*; give a Store, such as MemoryStore\(\)"),
        (MemoryStore, r"FaultyStore: store is .*; give a Store, such as MemoryStore\(\)"),
        (
            ClientSideStore(),
            r"FaultyStore: store is ClientSideStore\(encrypt=True\).*on the server",
        ),
    ],
)
def test_what_cannot_fail_is_refused(given: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        FaultyStore(given)


@pytest.mark.parametrize("ask", [FaultyStore.fail, FaultyStore.before, FaultyStore.after])
def test_an_operation_that_no_store_has_is_an_error(ask: Any) -> None:
    store = FaultyStore(MemoryStore())
    arguments = ["save"] if ask is FaultyStore.fail else ["save", print]

    with pytest.raises(ValueError, match=r"no operation 'save'; it has clear, close, "):
        ask(store, *arguments)


@pytest.mark.parametrize("wrapper", [StoreWrapper, FaultyStore])
def test_listeners_hear_what_happens_inside_and_here(wrapper: type[StoreWrapper]) -> None:
    store, told = wrapper(MemoryStore(max_sessions=1)), []
    store.subscribe(lambda kind, key, detail: told.append((kind, key)))
    store.insert(KEY, RECORD)
    store.insert(OTHER, RECORD)
    store._notify("corrupt_record", OTHER, "for a test")

    assert told == [("evicted", KEY), ("corrupt_record", OTHER)]


def test_a_wrapper_names_the_store_inside() -> None:
    inner = MemoryStore()

    assert repr(FaultyStore(inner)) == f"FaultyStore({inner!r})"


def test_a_contract_without_a_store_says_what_it_needs() -> None:
    with pytest.raises(NotImplementedError, match="make_store"):
        StoreContract().make_store()


def test_an_error_in_the_other_thread_of_a_race_is_the_tests_own() -> None:
    class Contract(StoreContract):
        def make_store(self) -> Store:
            store = FaultyStore(MemoryStore())
            store.fail("update")
            return store

    with pytest.raises(StoreError, match="set to fail"):
        Contract().test_a_session_deleted_while_it_is_written_stays_deleted()


@pytest.mark.parametrize(
    "name",
    [
        "test_a_session_deleted_in_another_process_stays_deleted",
        "test_processes_that_write_different_fields_lose_nothing",
    ],
)
def test_an_error_in_another_process_is_the_tests_own(name: str, tmp_path: Path) -> None:
    class Contract(StoreContract):
        rounds = 4

        def make_store(self) -> Store:
            store = FaultyStore(FileStore(tmp_path / "sessions"))
            store.fail("update")
            return store

    with pytest.raises(AssertionError, match="its error is above"):
        getattr(Contract(), name)()


def test_without_a_broken_store_what_is_about_outages_is_skipped() -> None:
    contract = StoreContract()

    assert contract.make_broken_store() is None
    for test in (
        contract.test_an_outage_is_a_store_error_and_never_absence,
        contract.test_a_purge_during_an_outage_removes_nothing_or_is_a_store_error,
        contract.test_a_store_that_cannot_answer_does_not_answer_a_ping,
    ):
        with pytest.raises(SkipTest, match="make_broken_store"):
            test()


def test_the_contract_runs_without_pytest() -> None:
    class Test(StoreContract, TestCase):
        rounds = 5

        def make_store(self) -> Store:
            return MemoryStore()

    tests = defaultTestLoader.loadTestsFromTestCase(Test)
    result = tests.run(unittest.TestResult())

    assert (result.errors, result.failures) == ([], [])
    assert result.testsRun > 80
    assert {reason for _, reason in result.skipped} == {
        "make_broken_store() gives None, so nobody knows what an outage does",
        "make_store() opens other data each time",
        "make_store() opens other data in another process",
    }


def test_what_testing_does_not_have_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        testing.nonsense  # noqa: B018 # asking is the test
