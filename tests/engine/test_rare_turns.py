"""Turns that few requests take: the store fails, or another request is faster, at a bad moment."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Callable
from typing import Any

import pytest

from acts import destroy, login, put, read, sending, started, token, twin
from records import a_key
from wsgi import SECRET, Browser, Handler, Site, call, environ
from wsgi_sessions import (
    Cookie,
    Lifetime,
    Session,
    SessionEnded,
    SessionMiddleware,
    StoreError,
)
from wsgi_sessions.engine.owners import Limits, OwnerLists
from wsgi_sessions.record import Changes, Record, UpdateResult, list_key
from wsgi_sessions.stores import ClientSideStore, MemoryStore, Store
from wsgi_sessions.stores.wrapper import StoreWrapper
from wsgi_sessions.testing import FakeClock, FaultyStore


def regenerate(session: Session) -> None:
    session.regenerate()


def begun_over_http(store: Store, work: Handler) -> tuple[Site, Browser]:
    """A site that has come to want https, and a browser with a session from before."""
    before = Site(store=store, cookie=Cookie("session", secure="auto"))
    old = before.browser()
    before.run(old, work)
    site = Site(store=store, cookie=Cookie("session", secure=True))
    browser = site.browser()
    browser.cookies = dict(old.cookies)
    return site, browser


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


def test_an_id_that_cant_be_replaced_over_http_ends_the_session() -> None:
    site, browser = begun_over_http(MemoryStore(), login)

    site.run(browser, regenerate)

    assert list(site.middleware.registry) == []
    assert "destroyed" in site.kinds


def test_an_id_that_cant_be_replaced_over_http_may_be_ended_by_another_request_first() -> None:
    store = FaultyStore(MemoryStore())
    site, browser = begun_over_http(store, put(a=1))
    store.before("delete", lambda key, **_: store.store.delete(key))

    site.run(browser, regenerate)

    assert "destroyed" not in site.kinds
    assert list(store.keys()) == []


def test_a_session_that_ended_is_gone_though_it_couldnt_be_taken_out_of_its_list() -> None:
    store = FaultyStore(MemoryStore())
    site, browser = begun_over_http(store, login)
    store.after("delete", lambda *_, **__: store.fail("load"))

    site.run(browser, regenerate)
    store.recover()

    assert "take out" in str([event.detail for event in site.events])
    assert list(site.middleware.registry.sessions("bob")) == []


def test_a_first_save_whose_answer_was_lost_is_completed_by_another() -> None:
    store = FaultyStore(MemoryStore())
    site = Site(store=store)
    browser = site.browser()

    def work(session: Session) -> None:
        assert session.id
        session["a"] = 1
        session.regenerate()
        store.fail("insert", answer_lost=True)
        with pytest.raises(StoreError):
            session.save()
        store.recover()
        session["b"] = 2

    site.run(browser, work)

    assert site.run(browser, read).text == "{'a': 1, 'b': 2}"


def test_a_transaction_on_a_new_session_goes_on_from_its_fields() -> None:
    site = Site()
    browser = site.browser()

    def work(session: Session) -> None:
        session["a"] = 1
        session.transaction(lambda fields: fields.update(a=fields["a"] + 1))

    site.run(browser, work)

    assert site.run(browser, read).text == "{'a': 2}"


def test_a_transaction_on_a_new_session_that_cant_be_stored_changes_nothing() -> None:
    store = FaultyStore(MemoryStore())
    site = Site(store=store)
    browser = site.browser()

    def work(session: Session) -> None:
        store.fail("insert")
        with pytest.raises(StoreError):
            session.transaction(lambda fields: fields.update(a=5))
        store.recover()
        assert "a" not in session

    site.run(browser, work)

    assert site.run(browser, read).text == "{}"


def test_a_transaction_of_a_passive_request_renews_nothing() -> None:
    site, browser = started(passive=lambda environ: True)
    site.clock.advance(30)

    site.run(browser, lambda session: session.increment("a"))

    assert site.run(browser, read).text == "{'a': 2}"
    (handle,) = site.middleware.registry
    record = site.store.load(handle)
    assert record is not None
    assert record.used_at == site.clock() - 30


def test_a_session_in_the_token_is_alive_until_its_deadline() -> None:
    site, browser = started(store=ClientSideStore())

    def work(session: Session) -> str:
        before = session.is_alive()
        site.clock.advance(10**8)
        return f"{before} {session.is_alive()}"

    assert site.run(browser, work).text == "True False"


def test_mere_use_of_a_session_in_the_token_that_just_ended_isnt_reported_as_a_write() -> None:
    site, browser = started(store=ClientSideStore())

    def late(session: Session) -> None:
        session.get("a")
        site.clock.advance(10**8)

    site.run(browser, late)

    assert "write_after_end" not in site.kinds


def test_a_new_session_ends_as_if_it_were_used_now() -> None:
    site = Site(lifetime=Lifetime(idle=60, absolute=600))

    text = site.run(site.browser(), lambda session: session.expires_at.timestamp()).text

    assert float(text) == site.clock() + 60


@pytest.mark.parametrize("damaged", [False, True])
def test_a_session_whose_record_ends_or_is_damaged_meanwhile_isnt_alive(damaged: bool) -> None:
    site, browser = started(store=MemoryStore())

    def work(session: Session) -> str:
        session.get("a")
        if damaged:
            site.store.update(session.handle, Changes(notes=b"\xff"))
        else:
            site.clock.advance(10**8)
        return str(session.is_alive())

    assert site.run(browser, work).text == "False"


def test_another_login_of_one_request_gives_back_the_place_of_the_first() -> None:
    site = Site(max_per_owner=1, when_full="refuse")
    browser = site.browser()

    def work(session: Session) -> None:
        session.login("bob")
        session.login("eve")

    site.run(browser, work)

    site.run(site.browser(), login)
    assert len(list(site.middleware.registry.sessions("bob"))) == 1
    assert len(list(site.middleware.registry.sessions("eve"))) == 1


def test_a_session_that_wasnt_touched_is_discarded_without_a_trace() -> None:
    site, browser = started(store=MemoryStore())
    made = environ(cookie=f"session={browser.cookies['session']}")

    site.middleware.open_session(made)
    site.middleware.discard_session(made)

    assert len(list(site.store.keys())) == 1


def test_a_transaction_whose_session_cant_be_kept_goes_on_from_its_fields_all_the_same() -> None:
    site = Site(cookie=Cookie("session", secure=True))

    def work(session: Session) -> str:
        session["a"] = 1
        session.transaction(lambda fields: fields.update(a=fields["a"] + 1))
        return read(session)

    response = site.run(site.browser(), work)

    assert response.text == "{'a': 2}"
    assert response.set_cookie is None


def test_a_cookie_that_a_server_joined_by_comma_is_found_and_explained(
    caplog: pytest.LogCaptureFixture,
) -> None:
    site, browser = started()

    found = sending(site, f"other=1, session={browser.cookies['session']}")

    assert site.run(found, read).text == "{'a': 1}"
    assert "after a comma" in caplog.text


def test_other_damage_than_a_fields_is_no_session_while_it_is_written() -> None:
    """Notes that were damaged after they were loaded: the record isn't written over."""
    store = FaultyStore(MemoryStore())
    site = Site(store=store)
    browser = site.browser()
    site.run(browser, lambda s: s.update(a=1))
    (key,) = store.keys()

    def work(session: Any) -> None:
        session["b"] = 2
        store.store.update(key, Changes(notes=b"damaged"))
        site.clock.advance(86_400)  # so that it is loaded again

    response = site.run(browser, work)

    assert response.set_cookie is None
    assert "write_after_end" in site.kinds


def test_changes_show_what_they_keep_and_no_value() -> None:
    shown = repr(Changes(keep=frozenset({"b", "a"}), owner="x", epoch=2))

    assert "keep ['a', 'b']" in shown
    assert "owner='x'" in shown
    assert "epoch=2" in shown


def test_a_process_forgets_lists_that_it_knew_before_they_are_too_many(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("wsgi_sessions.engine.owners._KNOWN_LISTS", 1)
    lists = OwnerLists(MemoryStore(), Limits(), FakeClock())

    for owner in ("ada", "bob", "ada"):
        lists.enter(owner, a_key(), until=math.inf, epoch=0)

    assert len(found(lists, "ada")) == 2 and len(found(lists, "bob")) == 1


def found(lists: OwnerLists, owner: str) -> list[str]:
    seen = lists.read(owner)
    return [] if seen is None else list(seen.entries)


def test_taking_out_of_a_list_that_others_always_change_first_fails_in_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    store, first, second = MemoryStore(), a_key(), a_key()
    for key in (first, second):
        OwnerLists(store, Limits(), FakeClock()).enter("bob", key, until=math.inf, epoch=0)
    lists = OwnerLists(Overtaken(store), Limits(), FakeClock())

    for some in ([first], [first, second]):
        with pytest.raises(StoreError, match="could not be written"):
            lists.take_out("bob", some)


def test_a_new_id_whose_answer_was_lost_is_not_made_again() -> None:
    store = FaultyStore(MemoryStore())
    site, browser = started(store=store)

    def work(session: Session) -> None:
        session.regenerate()
        session["b"] = 2
        store.fail("update", answer_lost=True)
        with pytest.raises(StoreError):
            session.save()
        store.recover()
        session["c"] = 3

    site.run(browser, work)

    assert site.run(browser, read).text == "{'a': 1, 'b': 2, 'c': 3}"


@pytest.mark.parametrize("lost", [True, False])
@pytest.mark.parametrize("late", [True, False])
def test_what_is_taken_back_after_a_write_that_failed_is_taken_back(lost: bool, late: bool) -> None:
    store = FaultyStore(MemoryStore())
    site, browser = started(store=store)
    before = {"a": 1, "l": [1], "d": 1}
    site.run(browser, lambda s: s.update(before))

    def app(made: dict[str, Any], start_response: Any) -> list[bytes]:
        session = made["wsgi_sessions.session"]
        session["a"] = 2
        session["l"].append(2)
        del session["d"]
        session["new"] = 1
        write = start_response("200 OK", [])
        store.fail("update", answer_lost=lost)
        with pytest.raises(StoreError):
            write(b"1") if late else session.save()
        store.recover()
        session["a"] = 1
        session["l"].pop()
        session["d"] = 1
        del session["new"]
        return [b""]

    other = SessionMiddleware(app, secret_key=SECRET, store=store, clock=site.clock)
    call(other, environ(cookie=f"session={token(browser)}"), check=False)

    assert site.run(browser, lambda s: sorted(s.items())).text == repr(sorted(before.items()))


@pytest.mark.parametrize(
    ("again", "kept"),
    [
        (lambda s: s.regenerate(), "{'a': 1, 'b': 2, 'c': 3}"),
        (lambda s: (s.regenerate(), s.regenerate()), "{'a': 1, 'b': 2, 'c': 3}"),
        (lambda s: s.regenerate(keep=["b"]), "{'b': 2, 'c': 3}"),
        (lambda s: s.login("alice"), "{'a': 1, 'b': 2, 'c': 3}"),
        (lambda s: s.reload(), "{'a': 1, 'b': 2, 'c': 3}"),
    ],
    ids=["regenerate", "twice", "keep", "login", "reload"],
)
@pytest.mark.parametrize("times", [1, 2])
def test_a_new_id_whose_answer_was_lost_may_be_followed_by_another(
    again: Callable[[Session], object], kept: str, times: int
) -> None:
    store = FaultyStore(MemoryStore())
    site, browser = started(store=store)
    former = token(browser)

    def work(session: Session) -> None:
        for _ in range(times):
            session.regenerate()
            session["b"] = 2
            store.fail("update", answer_lost=True)
            with pytest.raises(StoreError):
                session.save()
            store.recover()
        assert session.is_alive()
        again(session)
        session["c"] = 3

    site.run(browser, work)

    assert site.run(browser, read).text == kept
    assert site.run(sending(site, f"session={former}"), read).text == "{}"


def test_of_two_tokens_of_one_session_the_present_one_counts_in_either_order() -> None:
    site, browser = started(rotate_after=60)
    former = token(browser)
    site.clock.advance(61)
    site.run(browser, read)
    present = token(browser)
    assert present != former

    for header in (f"session={present}; session={former}", f"session={former}; session={present}"):
        assert site.run(sending(site, header), read).text == "{'a': 1}"
    assert "cookie_conflict" not in site.kinds


def test_a_cookie_left_under_another_path_is_no_sign_of_theft_beside_the_present_one() -> None:
    site, browser = started(rotate_after=60)
    left = token(browser)
    for _ in range(2):
        site.clock.advance(61)
        site.run(browser, read)
    present = token(browser)
    site.clock.advance(31)

    for header in (f"session={present}; session={left}", f"session={left}; session={present}"):
        answer = site.run(sending(site, header), read)
        assert (answer.text, answer.set_cookie) == ("{'a': 1}", None)
    assert "retired_id_used" not in site.kinds

    other = site.browser()
    site.run(other, put(b=2))
    site.run(sending(site, f"session={token(other)}; session={left}"), read)
    assert site.kinds.count("retired_id_used") == 1


@pytest.mark.parametrize("seed", [None, put(a=1), login])
def test_a_login_waits_once_for_a_store_that_doesnt_answer(seed: Handler | None) -> None:
    store = FaultyStore(MemoryStore())
    site = Site(store=store)
    browser = site.browser()
    if seed is not None:
        site.run(browser, seed)

    def work(session: Session) -> None:
        session.login("bob")
        store.calls.clear()
        store.fail("load", "insert", "update", "delete")

    assert site.run(browser, work).code == 503
    assert store.calls.total() == 1


@pytest.mark.parametrize("deleted", [True, False])
def test_a_new_session_whose_record_isnt_its_own_any_more_gets_another_id(deleted: bool) -> None:
    store = FaultyStore(MemoryStore())
    site = Site(store=store)
    browser = site.browser()
    ids: list[str] = []

    def meddle(key: str, record: Record) -> None:
        ids.append(key)
        if len(ids) == 2 and deleted:
            store.store.delete(key)  # once it stood in the way of the second attempt
        elif len(ids) == 2:
            store.store.update(key, Changes(notes=b"damaged"))

    def work(session: Session) -> None:
        session["a"] = 1
        session.regenerate()
        store.fail("insert", answer_lost=True)
        with pytest.raises(StoreError):
            session.save()
        store.recover()
        store.after("insert", meddle)

    store.after("insert", meddle)
    site.run(browser, work)

    assert site.run(browser, read).text == "{'a': 1}"
    assert len(ids) == 3 and ids[0] == ids[1] != ids[2]


def test_a_transaction_of_a_login_that_is_revoked_meanwhile_raises() -> None:
    store = FaultyStore(MemoryStore())
    site = Site(store=store)
    browser = site.browser()

    def revoke(key: str, record: Record) -> None:
        if not record.is_owner_list:
            site.middleware.registry.revoke_all("bob")

    def work(session: Session) -> None:
        session.login("bob")
        store.after("insert", revoke)
        with pytest.raises(SessionEnded):
            session.transaction(lambda fields: fields.update(a=1))

    site.run(browser, work)

    assert list(site.middleware.registry.sessions("bob")) == []
    assert site.run(browser, read).text == "{}"


def test_healing_enters_a_record_again_that_came_while_its_entry_was_taken_out() -> None:
    store = FaultyStore(MemoryStore())
    site = Site(store=store, max_per_owner=5)
    slow, late = a_key(), a_key()
    lists = OwnerLists(store.store, Limits(), site.clock)
    site.run(site.browser(), login)
    for key in (slow, late):
        lists.enter("bob", key, until=site.clock() + 9_000, epoch=0)
    site.clock.advance(120)  # so that both count as never finished
    record = Record({}, b"", site.clock(), site.clock() + 9_000, owner="bob")

    def come(at: str, changes: Changes, **_: Any) -> None:
        if at == list_key("bob") and changes.delete:
            store.store.insert(slow, record)

    store.before("update", come)
    site.middleware.registry.purge_expired()

    assert slow in found(lists, "bob") and late not in found(lists, "bob")


def test_a_session_that_was_changed_before_its_own_request_knew_of_it_is_left() -> None:
    store = FaultyStore(MemoryStore())
    site = Site(store=store)
    browser = site.browser()

    def work(session: Session) -> None:
        session["a"] = 1
        session.regenerate()
        store.fail("insert", answer_lost=True)
        with pytest.raises(StoreError):
            session.save()
        store.recover()
        change = Changes(set={"of": b"another"})
        store.before("update", lambda key, *_, **__: store.store.update(key, change))

    response = site.run(browser, work)

    assert response.set_cookie is None
    (key,) = store.keys()
    record = store.load(key)
    assert record is not None and "of" in record.fields


def test_a_login_that_can_end_nobody_as_the_list_always_changes_stands(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    store = FaultyStore(MemoryStore())
    site = Site(store=store, max_per_owner=1)
    first, second = site.browser(), site.browser()
    site.run(first, login)

    def be_faster(key: str, changes: Changes, **conditions: Any) -> None:
        if key == list_key("bob") and conditions.get("if_version") is not None:
            store.store.update(key, Changes(notes=b""))

    store.before("update", be_faster)
    site.run(second, login)

    assert "could not be written" in str([event.detail for event in site.events])
    assert [site.run(b, lambda s: s.owner).text for b in (first, second)] == ["bob", "bob"]


def test_two_requests_may_change_different_parts_of_the_label() -> None:
    site = Site()
    browser = site.browser()

    def begin(session: Session) -> None:
        session.login("bob")
        session.label = {"device": "old", "of": "both"}

    def work(session: Session) -> None:
        session.login("bob")  # which notes the address
        del session.label["of"]
        site.run(twin(browser), lambda s: s.label.update(device="new"))

    site.run(browser, begin)
    site.run(browser, work)

    label = site.run(browser, lambda s: sorted(s.label.items())).text
    assert label == "[('device', 'new'), ('ip', '192.0.2.1')]"


def test_of_two_requests_that_fill_the_label_the_later_has_its_way() -> None:
    site, browser = started()

    def fill(name: str) -> Handler:
        return lambda session: session.label.update({f"{name}{n}": "x" for n in range(9)})

    def work(session: Session) -> None:
        fill("a")(session)
        site.run(twin(browser), fill("b"))

    site.run(browser, work)

    assert site.run(browser, lambda s: {name[0] for name in s.label}).text == "{'a'}"


def test_login_without_keep_leaves_no_label_of_another_request() -> None:
    site, browser = started()

    def work(session: Session) -> None:
        session.login("bob", keep=False)
        site.run(twin(browser), lambda s: s.label.update(device="of another"))

    site.run(browser, work)

    assert "of another" not in str(site.run(browser, lambda s: dict(s.label)).text)


def test_a_place_isnt_given_back_that_another_login_took_in_the_same_moment() -> None:
    store = FaultyStore(MemoryStore())
    site = Site(store=store, max_per_owner=1, when_full="refuse")
    browser = site.browser()
    site.run(browser, put(a=1))
    other = twin(browser)
    came: list[str] = []

    def log_in_elsewhere(key: str, **_: Any) -> None:
        if key == list_key("bob") and not came:
            came.append(key)
            site.run(other, login)

    def fail(session: Session) -> None:
        session.login("bob")
        store.before("delete", log_in_elsewhere)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        site.run(browser, fail)

    assert came
    assert site.run(other, lambda s: s.owner).text == "bob"
    assert len(list(site.middleware.registry.sessions("bob"))) == 1


def test_a_login_ends_whom_an_outage_kept_the_last_one_from_ending() -> None:
    store = FaultyStore(MemoryStore())
    site = Site(store=store, max_per_owner=1)
    first, second, third = (site.browser() for _ in range(3))
    site.run(first, login)
    store.fail("delete")
    site.run(second, login)
    store.recover()
    assert "after a login" in str([event.detail for event in site.events])

    site.run(third, login)

    assert [site.run(b, lambda s: s.owner).text for b in (first, second)] == ["None", "None"]
    assert len(list(site.middleware.registry)) == 1


class Crowded(MemoryStore):
    """Where every session ID is taken."""

    def insert(self, key: str, record: Record) -> bool:
        return record.is_owner_list and super().insert(key, record)


@pytest.mark.parametrize("work", [put(a=1), login], ids=["put", "login"])
def test_where_no_new_id_is_free_nothing_is_stored_and_no_cookie_set(work: Handler) -> None:
    site = Site(store=Crowded())

    response = site.run(site.browser(), work)

    assert (response.code, response.set_cookie) == (503, None)


def test_a_bad_signature_that_nobody_hears_of_changes_nothing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    site, browser = started()
    monkeypatch.setattr(site.middleware._events, "_listeners", ())
    caplog.set_level(logging.CRITICAL, logger="wsgi_sessions")
    forged = sending(site, f"session={token(browser)[:-1]}")

    assert site.run(forged, read).text == "{}"
    assert site.run(browser, read).text == "{'a': 1}"


def test_a_session_that_ends_while_it_is_revoked_was_not_revoked() -> None:
    store = FaultyStore(MemoryStore())
    site = Site(store=store)
    site.run(site.browser(), put(a=1))
    (handle,) = site.middleware.registry
    store.before("delete", lambda key, **_: store.store.delete(key))

    assert not site.middleware.registry.revoke(handle)


@pytest.mark.parametrize(
    ("owner", "kind", "more"),
    [
        (42, "int", ""),
        (b"ada", "bytes", ""),
        (None, "NoneType", " (session.owner is None while nobody is signed in)"),
    ],
)
def test_an_owner_that_is_no_text_is_refused(owner: Any, kind: str, more: str) -> None:
    says = f"owner is of type {kind}; write a str, as it was given to login(){more}"
    registry = Site().middleware.registry
    for ask in (registry.sessions, registry.count, registry.revoke_all):
        with pytest.raises(TypeError, match=f"^{re.escape(says)}$"):
            ask(owner)


@pytest.mark.parametrize("goes_meanwhile", [False, True])
def test_a_list_of_which_all_is_dead_goes(goes_meanwhile: bool) -> None:
    store = FaultyStore(MemoryStore())
    site = Site(store=store)
    site.run(site.browser(), login)
    (handle,) = site.middleware.registry
    store.delete(handle)
    site.clock.advance(120)
    looks = []

    def end_before_the_second(key: str) -> None:
        looks.append(key)
        if goes_meanwhile and looks.count(list_key("bob")) == 2:
            store.store.delete(list_key("bob"))

    store.before("load", end_before_the_second)
    site.middleware.registry.purge_expired()

    assert [*store.keys()] == []
