"""A store that does what it was asked, and whose answer is lost: what the app may do then.

Each test failed before its fix.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest

from acts import login_as, put, read
from wsgi import SECRET, Browser, Site, call, environ
from wsgi_sessions import Session, SessionMiddleware, StoreError, TooManySessions, get_session
from wsgi_sessions.record import LIST_OWNER, Changes, Record
from wsgi_sessions.stores import MemoryStore
from wsgi_sessions.testing import FaultyStore


def lose(
    store: FaultyStore, operation: str, matches: Callable[..., bool] = lambda *_: True
) -> None:
    """Lose the next answer to a call of this kind."""
    left = [operation]

    def hook(*arguments: Any, **_options: Any) -> None:
        if left and matches(*arguments):
            raise StoreError("the answer was lost", operation=left.pop())

    store.after(operation, hook)


def of_a_session(_key: str, record: Record) -> bool:
    return record.owner != LIST_OWNER


def of_a_new_epoch(_key: str, changes: Changes) -> bool:
    return changes.epoch is not None


def faulty_site(**options: Any) -> tuple[Site, Browser, FaultyStore]:
    store = FaultyStore(MemoryStore())
    site = Site(store=store, **options)
    return site, site.browser(), store


@pytest.mark.parametrize(
    "attempt",
    [
        lambda s: s.take("a"),
        lambda s: s.increment("a"),
        lambda s: s.transaction(lambda data: data.update(a=99)),
    ],
    ids=["take", "increment", "transaction"],
)
@pytest.mark.parametrize("value", [1, 5])
def test_what_is_set_after_a_lost_transaction_is_written(
    attempt: Callable[[Session], Any], value: int
) -> None:
    site, browser, store = faulty_site()
    site.run(browser, put(a=1, b=2))

    def work(session: Session) -> None:
        lose(store, "update")
        with pytest.raises(StoreError):
            attempt(session)
        session["a"] = value

    site.run(browser, work)
    assert site.run(browser, read).text == repr({"a": value, "b": 2})


def test_a_lost_deletion_is_done_by_the_next_try() -> None:
    site, browser, store = faulty_site()
    site.run(browser, put(a=1))

    def work(session: Session) -> None:
        session.clear()
        lose(store, "delete")
        with pytest.raises(StoreError):
            session.save()
        session.save()

    response = site.run(browser, work)

    assert "Max-Age=0" in (response.set_cookie or "")
    assert list(site.store.keys()) == []


def test_what_a_lost_transaction_did_is_not_done_again() -> None:
    site, browser, store = faulty_site()
    site.run(browser, put(a=1, b=2))

    def work(session: Session) -> None:
        store.fail("update")
        with pytest.raises(StoreError):
            session.take("a")
        store.recover()
        session["b"] = 3

    site.run(browser, work)
    assert site.run(browser, read).text == repr({"a": 1, "b": 3})


@pytest.mark.parametrize("last", ["old", "other", None])
def test_a_label_that_is_set_back_after_a_lost_save_is_written(last: str | None) -> None:
    site, browser, store = faulty_site()

    def first(session: Session) -> None:
        session["a"] = 1
        session.label["name"] = "old"

    def work(session: Session) -> None:
        session.label["name"] = "new"
        session.label["added"] = "too"
        lose(store, "update")
        with pytest.raises(StoreError):
            session.save()
        del session.label["name"], session.label["added"]
        if last is not None:
            session.label["name"] = last

    site.run(browser, first)
    site.run(browser, work)
    expected = {} if last is None else {"name": last}
    assert site.run(browser, lambda session: dict(session.label)).text == repr(expected)


def test_the_label_of_a_lost_login_goes_with_all_the_rest() -> None:
    site, browser, store = faulty_site(label=["ip"])
    site.run(browser, put(a=1))

    def work(session: Session) -> None:
        session.login("bob")
        lose(store, "update", of_a_new_epoch)
        with pytest.raises(StoreError):
            session.save()
        session.regenerate(keep=False)
        session["b"] = 2

    site.run(browser, work)
    assert site.run(browser, lambda session: (dict(session), dict(session.label))).text == repr(
        ({"b": 2}, {})
    )


def test_an_app_that_handles_an_outage_answers_by_itself() -> None:
    site, browser, store = faulty_site()

    def work(session: Session) -> str:
        store.fail("load", "insert", "update", "delete")
        with pytest.raises(StoreError):
            session.increment("hits")
        return "page"

    response = site.run(browser, work)
    assert (response.code, response.text) == (200, "page")


@pytest.mark.parametrize("then", ["nothing", "save", "destroy", "empty"])
def test_a_login_in_place_of_an_ended_session_leaves_one_session_at_most(then: str) -> None:
    site, browser, store = faulty_site(max_per_owner=1, when_full="refuse")
    site.run(browser, put(a=1))

    def work(session: Session) -> None:
        session["b"] = 2
        store.delete(session.handle)
        session.login("bob")
        lose(store, "insert", of_a_session)
        with pytest.raises(StoreError):
            session.save()
        if then == "empty":
            session.regenerate(keep=False)
        elif then != "nothing":
            getattr(session, then)()

    site.run(browser, work)
    alive = then in ("nothing", "save")
    assert site.middleware.registry.count("bob") == alive
    assert len([*site.middleware.registry]) == alive
    assert site.run(browser, lambda session: (session.owner, dict(session))).text == repr(
        ("bob", {"b": 2}) if alive else (None, {})
    )


@pytest.mark.parametrize("stored", [False, True])
@pytest.mark.parametrize("how", ["503", "handled and 500", "reload"])
def test_a_login_that_failed_with_a_lost_answer_locks_nobody_out(stored: bool, how: str) -> None:
    site, browser, store = faulty_site(max_per_owner=1, when_full="refuse")
    if stored:
        site.run(browser, put(a=1))

    def work(session: Session) -> None:
        session.login("bob")
        if stored:
            lose(store, "update", of_a_new_epoch)
        else:
            lose(store, "insert", of_a_session)
        if how != "503":
            with pytest.raises(StoreError):
                session.save()
            if how == "reload":
                session.reload()
            else:
                raise ZeroDivisionError

    if how == "handled and 500":
        with pytest.raises(ZeroDivisionError):
            site.run(browser, work)
    else:
        site.run(browser, work)
    live = site.middleware.registry.sessions("bob")
    if stored and how == "reload":
        # It goes on under the new ID, which this request can tell from the record.
        assert site.run(browser, lambda session: session.owner).text == "bob"
        assert len(live) == 1
        return
    assert live == []
    site.run(site.browser(), login_as("bob"))
    with pytest.raises(TooManySessions):
        site.run(site.browser(), login_as("bob"))


@pytest.mark.parametrize("last", ["login", "clear"])
def test_no_failed_answer_sets_the_cookie_of_what_it_replaced_or_deleted(last: str) -> None:
    site, browser, store = faulty_site()

    def work(session: Session) -> None:
        session["saved"] = 1
        session.save()
        if last == "login":
            session.login("bob")
            lose(store, "update", of_a_new_epoch)
        else:
            session.clear()
            lose(store, "delete")

    response = site.run(browser, work)
    assert response.code == 503
    assert response.all("Set-Cookie") == []


@pytest.mark.parametrize("key", ["a", "b"])
def test_what_is_set_after_a_lost_deletion_is_written(key: str) -> None:
    site, browser, store = faulty_site()
    site.run(browser, put(a=1))

    def work(session: Session) -> None:
        session.clear()
        lose(store, "delete")
        with pytest.raises(StoreError):
            session.save()
        session[key] = 1

    site.run(browser, work)
    assert site.run(browser, read).text == repr({key: 1})


def test_a_login_that_was_taken_back_begins_nothing_in_place_of_an_ended_session() -> None:
    site, browser, store = faulty_site()
    site.run(browser, put(a=1))

    def work(session: Session) -> None:
        store.delete(session.handle)
        session.login("bob")
        session.owner = None
        session.clear()

    response = site.run(browser, work)
    assert response.all("Set-Cookie") == []
    assert [*site.middleware.registry] == []


@pytest.mark.parametrize("lasting", [True, False])
def test_a_revoked_login_stays_out_though_it_cannot_be_deleted(lasting: bool) -> None:
    site, browser, store = faulty_site()
    site.run(browser, put(a=1))

    def revoke(_key: str, changes: Changes, **_options: Any) -> None:
        if changes.epoch is not None:
            site.middleware.registry.revoke_all("bob")
            store.fail("delete", *(["insert"] if lasting else []))

    store.before("update", revoke)
    response = site.run(browser, login_as("bob"))
    store.recover()
    assert response.all("Set-Cookie") == []
    assert site.run(browser, lambda session: session.owner).text == "None"
    if not lasting:
        # Whoever lists them finishes it.
        assert site.middleware.registry.sessions("bob") == []
        assert [*site.middleware.registry] == []


@pytest.mark.parametrize("meet", [lambda s: s.get("x"), lambda s: s.get("x") or s.save()])
def test_a_login_outlives_damage_that_is_read_after_it(meet: Callable[[Session], Any]) -> None:
    site, browser, store = faulty_site()
    site.run(browser, put(x=1))
    (handle,) = site.middleware.registry
    store.update(handle, Changes({"x": b"\xff"}))

    def work(session: Session) -> None:
        session.login("bob")
        meet(session)

    site.run(browser, work)
    assert "corrupt_record" in site.kinds
    assert site.run(browser, lambda session: session.owner).text == "bob"


def test_a_login_that_a_transaction_has_saved_outlives_damage_too() -> None:
    site, browser, store = faulty_site()
    site.run(browser, put(x=1))
    (handle,) = site.middleware.registry
    store.update(handle, Changes({"x": b"\xff"}))

    def work(session: Session) -> None:
        session.login("bob")
        session.increment("x")

    site.run(browser, work)
    assert site.run(browser, lambda session: (session.owner, session["x"])).text == repr(("bob", 1))


def test_a_stream_of_a_failed_answer_ends_what_a_lost_answer_left() -> None:
    """By the end of its headers the store is still away; `destroy` comes after that."""
    store = FaultyStore(MemoryStore())

    def app(made: dict[str, Any], start_response: Any) -> Iterator[bytes]:
        session = get_session(made)
        session.login("bob")
        lose(store, "insert", of_a_session)
        with suppress(StoreError):
            session.save()
        store.fail("load")
        start_response("500 Oh", [])
        yield b"first"
        store.recover()
        session.destroy()

    call(SessionMiddleware(app, secret_key=SECRET, store=store), environ(), check=False)

    assert [*store.keys()] == []
