"""Stores that an app brings along: with or without our base class, and whatever they raise."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from records import a_key, a_record
from wsgi import Site
from wsgi_sessions import ConfigurationError, StoreError
from wsgi_sessions.errors import UnsupportedByStore
from wsgi_sessions.record import Changes, Record, UpdateResult
from wsgi_sessions.registry import SessionRegistry
from wsgi_sessions.stores import ClientSideStore, MemoryStore, Store
from wsgi_sessions.stores.guarded import Guarded, guarded
from wsgi_sessions.stores.wrapper import StoreWrapper
from wsgi_sessions.testing import FaultyStore

KEYS = [bytes(range(32))]


class Duck:
    """The nine methods, and no base class."""

    def __init__(self) -> None:
        self.inner = MemoryStore()

    def load(self, key: str) -> Record | None:
        return self.inner.load(key)

    def insert(self, key: str, record: Record) -> bool:
        return self.inner.insert(key, record)

    def update(
        self,
        key: str,
        changes: Changes,
        *,
        if_epoch: int | None = None,
        if_version: int | None = None,
    ) -> UpdateResult:
        return self.inner.update(key, changes, if_epoch=if_epoch, if_version=if_version)

    def delete(self, key: str, *, if_version: int | None = None) -> bool:
        return self.inner.delete(key, if_version=if_version)

    def purge_expired(self, now: float) -> int:
        return self.inner.purge_expired(now)

    def keys(self) -> Iterator[str]:
        return self.inner.keys()

    def clear(self) -> None:
        self.inner.clear()

    def ping(self) -> None:
        self.inner.ping()

    def close(self) -> None:
        self.inner.close()


class WithoutSuper(Duck, Store):
    """A store whose own __init__ knows nothing of ours."""


class Failing(MemoryStore):
    """Raises something of its own, once it is told to."""

    error: Exception | None = None

    def load(self, key: str) -> Record | None:
        self._fail()
        return super().load(key)

    def insert(self, key: str, record: Record) -> bool:
        self._fail()
        return super().insert(key, record)

    def update(
        self,
        key: str,
        changes: Changes,
        *,
        if_epoch: int | None = None,
        if_version: int | None = None,
    ) -> UpdateResult:
        self._fail()
        return super().update(key, changes, if_epoch=if_epoch, if_version=if_version)

    def delete(self, key: str, *, if_version: int | None = None) -> bool:
        self._fail()
        return super().delete(key, if_version=if_version)

    def purge_expired(self, now: float) -> int:
        self._fail()
        return super().purge_expired(now)

    def keys(self) -> Iterator[str]:
        yield from super().keys()
        self._fail()

    def clear(self) -> None:
        self._fail()

    def ping(self) -> None:
        self._fail()

    def close(self) -> None:
        self._fail()

    def _fail(self) -> None:
        if self.error is not None:
            raise self.error


OPERATIONS: dict[str, Callable[[Store], Any]] = {
    "load": lambda store: store.load(a_key()),
    "insert": lambda store: store.insert(a_key(), a_record()),
    "update": lambda store: store.update(a_key(), Changes()),
    "delete": lambda store: store.delete(a_key()),
    "purge_expired": lambda store: store.purge_expired(0.0),
    "keys": lambda store: list(store.keys()),
    "clear": lambda store: store.clear(),
    "ping": lambda store: store.ping(),
    "close": lambda store: store.close(),
}


@pytest.mark.parametrize(
    "make",
    [
        WithoutSuper,
        Duck,
        lambda: StoreWrapper(Duck()),  # type: ignore[arg-type] # it has the nine methods
        lambda: FaultyStore(Duck()),  # type: ignore[arg-type] # as above
    ],
    ids=["own __init__", "no base class", "in a wrapper", "in a FaultyStore"],
)
@pytest.mark.parametrize("options", [{}, {"encryption_keys": KEYS}], ids=["plain", "encrypted"])
def test_a_store_needs_the_nine_methods_and_nothing_else(
    make: Callable[[], Any], options: dict[str, Any]
) -> None:
    store = make()
    site = Site(store=store, **options)
    browser = site.browser()
    site.run(browser, lambda session: session.login("bob"))

    assert site.run(browser, lambda session: session.owner).text == "bob"
    assert len(site.middleware.registry.sessions("bob")) == 1
    assert site.middleware.store is store
    assert f"encryption at rest: {'yes' if options else 'no'}" in site.middleware.describe()


def test_each_store_tells_its_own_listeners() -> None:
    one, other, told = WithoutSuper(), WithoutSuper(), []
    one.subscribe(lambda kind, key, detail: told.append(("first", detail)))
    one.subscribe(lambda kind, key, detail: told.append(("second", detail)))
    one._notify("corrupt_record", a_key(), "here")
    other._notify("corrupt_record", a_key(), "there")

    assert told == [("first", "here"), ("second", "here")]


@pytest.mark.parametrize("error", [OSError("hidden"), KeyError("hidden"), TypeError("hidden")])
@pytest.mark.parametrize("operation", OPERATIONS)
def test_whatever_such_a_store_raises_is_a_store_error(operation: str, error: Exception) -> None:
    store = Failing()
    store.error = error

    with pytest.raises(StoreError) as caught:
        OPERATIONS[operation](guarded(store))
    assert caught.value.operation == operation
    assert caught.value.__cause__ is error
    assert f"Failing raised {type(error).__name__} (test_own_stores.py, line " in str(caught.value)
    assert "hidden" not in str(caught.value)


@pytest.mark.parametrize(
    "error", [StoreError("away", operation="connect"), UnsupportedByStore("no")]
)
@pytest.mark.parametrize("operation", ["load", "keys"])
def test_what_the_contract_lets_it_raise_stays_as_it_is(operation: str, error: Exception) -> None:
    store = Failing()
    store.error = error

    with pytest.raises(type(error)) as caught:
        OPERATIONS[operation](guarded(store))
    assert caught.value is error


def test_a_request_that_such_a_store_fails_is_answered_503(
    caplog: pytest.LogCaptureFixture,
) -> None:
    store = Failing()
    site = Site(store=store)
    browser = site.browser()
    site.run(browser, lambda session: session.update(a=1))
    store.error = KeyError("hidden")
    with caplog.at_level(logging.ERROR, "wsgi_sessions"):
        response = site.run(browser, lambda session: session["a"])

    assert response.code == 503
    assert "load: Failing raised KeyError (test_own_stores.py, line " in caplog.text
    assert "hidden" not in caplog.text


def test_a_use_that_such_a_store_fails_to_note_costs_nobody_the_answer() -> None:
    site = Site(store=(store := FailingUpdates()))
    browser = site.browser()
    site.run(browser, lambda session: session.update(a=1))
    site.clock.advance(100)
    store.is_failing = True

    assert site.run(browser, lambda session: session["a"]).text == "1"
    assert site.kinds[-1] == "store_error"


class FailingUpdates(MemoryStore):
    is_failing = False

    def update(self, *args: Any, **kwargs: Any) -> UpdateResult:
        if self.is_failing:
            raise OSError("no way")
        return super().update(*args, **kwargs)


def test_a_registry_guards_the_store_that_it_is_given() -> None:
    store = Failing()
    store.error = OSError("no way")

    with pytest.raises(StoreError, match="Failing raised OSError"):
        SessionRegistry(store).sessions("bob")


@pytest.mark.parametrize(
    "store",
    [MemoryStore(), ClientSideStore(), StoreWrapper(FaultyStore(MemoryStore()))],
    ids=["memory", "client side", "wrappers"],
)
def test_our_own_stores_need_no_guard(store: Store) -> None:
    assert guarded(store) is store


def test_one_guard_is_enough() -> None:
    inside = guarded(Failing())

    assert isinstance(inside, Guarded)
    assert guarded(inside) is inside
    assert guarded(StoreWrapper(inside)).store is inside  # type: ignore[attr-defined] # a wrapper


@pytest.mark.parametrize("store", [None, 5, "redis://u:hidden@h/0", MemoryStore])
def test_a_registry_of_no_store_is_refused_when_it_is_made(store: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"^SessionRegistry: store is .*; give a Store"):
        SessionRegistry(store)


def test_what_is_spared_is_a_session_or_a_handle() -> None:
    site = Site()
    browser = site.browser()
    site.run(browser, lambda session: session.login("bob"))
    registry = site.middleware.registry

    with pytest.raises(TypeError, match="except_ is of type int; give the Session to spare"):
        registry.revoke_all("bob", except_=5)  # type: ignore[arg-type] # the point
    with pytest.raises(
        ValueError, match=r"except_ is a str that isn't a handle; .* session.handle"
    ):
        registry.revoke_all("bob", except_="an ID, perhaps")
    assert registry.revoke_all("bob", except_=registry.sessions("bob")[0].handle) == 0
    assert registry.revoke_all("bob") == 1


@pytest.mark.parametrize("ask", ["get", "revoke"])
@pytest.mark.parametrize("given", [5, b"x" * 64, object()])
def test_what_is_asked_for_by_handle_is_a_str(ask: str, given: Any) -> None:
    registry = Site().middleware.registry

    with pytest.raises(TypeError, match=r"^handle is of type .*; write a str, such as session.h"):
        getattr(registry, ask)(given)
    assert not getattr(registry, ask)("no handle")
    assert not getattr(registry, ask)(None)
