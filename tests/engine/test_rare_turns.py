"""Turns that few requests take: the store fails, or another request is faster, at a bad moment."""

from __future__ import annotations

import math
from typing import Any

import pytest

from acts import destroy, login, put, read, started, twin
from records import a_key
from wsgi import Site
from wsgi_sessions import Session, StoreError
from wsgi_sessions.engine.owners import Limits, OwnerLists
from wsgi_sessions.record import Changes, Record, UpdateResult, list_key
from wsgi_sessions.stores import ClientSideStore, MemoryStore
from wsgi_sessions.stores.wrapper import StoreWrapper
from wsgi_sessions.testing import FakeClock, FaultyStore


class Overtaken(StoreWrapper):
    """A store in which another request is always faster."""

    def insert(self, key: str, record: Record) -> bool:
        return False

    def update(
        self,
        key: str,
        changes: Changes,
        *,
        if_epoch: int | None = None,
        if_version: int | None = None,
    ) -> UpdateResult:
        return UpdateResult.CONFLICT

    def delete(self, key: str, *, if_version: int | None = None) -> bool:
        return False


def lists_that_lose(owner: str, key: str) -> OwnerLists:
    """Lists whose writes always lose, of an owner with this one session."""
    store, clock = MemoryStore(), FakeClock()
    OwnerLists(store, Limits(), clock).enter(owner, key, until=math.inf, epoch=0)
    store.insert(key, Record({}, b"", clock(), clock() + 60, owner=owner))
    return OwnerLists(Overtaken(store), Limits(), clock)


def test_entering_a_list_that_others_always_change_first_fails_in_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    lists = lists_that_lose("bob", a_key())

    with pytest.raises(StoreError, match="could not be written"):
        lists.enter("bob", a_key(), until=math.inf, epoch=0)
    with pytest.raises(StoreError, match="could not be written"):
        lists.enter("eve", a_key(), until=math.inf, epoch=0)


def test_holding_a_place_in_a_list_that_others_always_change_first_fails_in_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    lists = lists_that_lose("bob", a_key())

    with pytest.raises(StoreError, match="could not be written"):
        lists.enter_if_free("bob", a_key(), until=math.inf, epoch=0, limit=9, leaving=())


def test_ending_a_session_that_others_always_change_first_fails_in_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    key = a_key()

    with pytest.raises(StoreError, match="could not be ended"):
        lists_that_lose("bob", key).delete_if_owned(key, "bob")


def test_a_session_that_another_request_ended_first_isnt_reported_twice() -> None:
    store = FaultyStore(MemoryStore())
    site, browser = started(store=store)
    store.before("delete", lambda key, **_: store.store.delete(key))

    site.run(browser, destroy)

    assert "destroyed" not in site.kinds
    assert browser.cookies == {}


def test_a_place_that_cant_be_given_back_is_reported_and_heals() -> None:
    store = FaultyStore(MemoryStore())
    site = Site(store=store, max_per_owner=1, when_full="refuse")
    browser = site.browser()

    def fail_after_login(session: Session) -> None:
        session.login("bob")
        store.fail("load")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        site.run(browser, fail_after_login)
    store.recover()

    assert "store_error" in site.kinds
    assert "give back" in str([event.detail for event in site.events])
    assert list(site.middleware.registry.sessions("bob")) == []


def test_data_that_is_kept_though_the_app_raised_stays_under_the_known_id() -> None:
    site, browser = started(save_on_error=True)
    (key,) = site.store.keys()

    def work(session: Session) -> None:
        session["b"] = 2
        session.regenerate()
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        site.run(browser, work)

    assert site.run(browser, read).text == "{'a': 1, 'b': 2}"
    assert list(site.store.keys()) == [key]


def test_the_end_of_a_session_that_gets_a_new_id_is_counted_from_now() -> None:
    site, browser = started()
    ends: list[Any] = []
    site.clock.advance(30)

    def work(session: Session) -> None:
        ends.append(session.expires_at)
        session.regenerate()
        ends.append(session.expires_at)

    site.run(browser, work)

    assert (ends[1] - ends[0]).total_seconds() == 30


def test_the_handle_of_no_session_revokes_nothing() -> None:
    site = Site()
    browser = site.browser()
    site.run(browser, login)
    registry = site.middleware.registry

    assert not registry.revoke(list_key("bob"))
    assert not registry.revoke("no handle")
    (session,) = registry.sessions("bob")
    site.clock.advance(10**8)
    assert not registry.revoke(session.handle)


def test_a_session_that_is_over_isnt_counted_as_revoked() -> None:
    site = Site()
    site.run(site.browser(), login)
    site.clock.advance(10**8)

    assert site.middleware.registry.revoke_all("bob") == 0


def test_a_session_in_the_token_that_ended_while_the_app_worked_begins_anew_with_a_login() -> None:
    site, browser = started(store=ClientSideStore())

    def late(work: Any) -> Any:
        def act(session: Session) -> None:
            session.get("a")
            site.clock.advance(10**8)
            work(session)

        return act

    site.run(twin(browser), late(put(b=2)))
    assert "write_after_end" in site.kinds
    site.run(browser, late(login))
    assert site.run(browser, lambda session: session.owner).text == "bob"
