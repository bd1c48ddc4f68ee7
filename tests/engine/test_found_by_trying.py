"""What a tester found who tried one feature beside another. Each test failed before its fix."""

from __future__ import annotations

import enum
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from acts import login, login_as, put, read, sending, started, token, twin
from wsgi import SECRET, Browser, Handler, Site, call, environ
from wsgi_sessions import (
    Cookie,
    Lifetime,
    Session,
    SessionCommitted,
    SessionEnded,
    SessionMiddleware,
    StoreError,
    TooManySessions,
)
from wsgi_sessions.crypto.session_id import new_id
from wsgi_sessions.record import LIST_OWNER, Changes, Record, list_key
from wsgi_sessions.stores import ClientSideStore, MemoryStore, Store
from wsgi_sessions.stores.wrapper import StoreWrapper
from wsgi_sessions.testing import FaultyStore, races, session_of


@pytest.mark.parametrize(
    "lifetime", [Lifetime(), Lifetime(86_400, None)], ids=["capped", "endless"]
)
def test_a_list_does_not_grow_with_logins_whose_sessions_expired_and_that_nobody_lists(
    lifetime: Lifetime,
) -> None:
    site = Site(lifetime=lifetime)
    staying = site.browser()
    site.run(staying, login)
    for _ in range(200):
        site.clock.advance(20 * 3600)
        site.run(staying, lambda session: session.owner)
        site.run(site.browser(), login)
        if lifetime.absolute is not None:
            site.run(staying, login)
    present = site.store.load(list_key("bob"))
    assert present is not None
    assert len(present.fields) <= 48
    listed = {info.handle for info in site.middleware.registry.sessions("bob")}
    assert len(listed) == 3  # the one that stays, today's and yesterday's
    assert listed <= present.fields.keys()


def test_a_purge_heals_the_lists_that_it_can_read_though_one_is_damaged() -> None:
    site = Site()
    site.run(site.browser(), login_as("damaged"))
    browser = site.browser()
    site.run(browser, login_as("healthy"))
    site.run(site.browser(), login_as("healthy"))
    site.store.update(list_key("damaged"), Changes({"x": b"not an entry"}))
    gone = site.middleware.registry.sessions("healthy")[0].handle
    site.store.delete(gone)
    site.clock.advance(120)
    site.middleware.registry.purge_expired()
    healed = site.store.load(list_key("healthy"))
    assert healed is not None
    assert gone not in healed.fields
    assert len(healed.fields) == 1


@pytest.mark.parametrize(
    "remove", [lambda s: s.clear(), lambda s: s.pop("a")], ids=["clear", "pop"]
)
@pytest.mark.parametrize(
    "renew",
    [
        lambda s: s.login("u", keep=False),
        lambda s: s.login("u", keep=["b"]),
        lambda s: s.regenerate(keep=False),
    ],
    ids=["login", "login keeping another", "regenerate"],
)
@pytest.mark.parametrize("again", [False, True], ids=["once", "twice"])
def test_a_field_set_to_what_it_was_is_kept_though_it_was_removed_before_the_new_id(
    remove: Handler, renew: Handler, again: bool
) -> None:
    site, browser = started()

    def work(session: Session) -> None:
        remove(session)
        renew(session)
        session["a"] = 1
        if again:
            session.pop("a")
            renew(session)
            session["a"] = 1
        assert dict(session) == {"a": 1}

    site.run(browser, work)
    seen: list[dict[str, object]] = []
    site.run(browser, lambda session: seen.append(dict(session)))
    assert seen == [{"a": 1}]


def test_a_login_takes_the_places_of_the_sessions_that_it_ends_even_where_all_are_taken() -> None:
    site = Site(max_per_owner=2, when_full="refuse")
    first, second = site.browser(), site.browser()
    site.run(first, login)
    site.run(second, login)
    both = sending(site, f"session={token(first)}; session={token(second)}")
    assert site.run(both, login).set_cookie is not None
    assert len(site.middleware.registry.sessions("bob")) == 1
    assert site.run(first, read).text == site.run(second, read).text == "{}"


def meanwhile(store: FaultyStore, operation: str, number: int, act: Callable[[], object]) -> None:
    """Have this happen once, right before the operation's call of that number from now on."""
    before = store.calls[operation]

    def hook(*_: object, **__: object) -> None:
        if store.calls[operation] == before + number:
            act()

    store.before(operation, hook)


def test_a_new_id_that_a_lost_answer_left_in_the_store_does_not_end_the_session() -> None:
    store = FaultyStore(MemoryStore())
    site = Site(store=store)
    browser = site.browser()
    site.run(browser, put(a=1))

    def work(session: Session) -> None:
        session.regenerate()
        store.fail("update", answer_lost=True)
        with pytest.raises(StoreError):
            session.save()
        store.recover()
        session.regenerate()
        session["b"] = 2

    site.run(browser, work)

    assert site.run(browser, read).text == repr({"a": 1, "b": 2})
    assert len(list(store.keys())) == 1


@pytest.mark.parametrize("keep", [["a"], [], ["other"]])
def test_a_login_that_keeps_the_label_leaves_what_another_request_wrote_into_it(
    keep: list[str],
) -> None:
    store = FaultyStore(MemoryStore())
    site = Site(store=store)
    browser = site.browser()
    site.run(browser, put(a=1))
    tab = twin(browser)

    def relabel(session: Session) -> None:
        session.label["device"] = "kitchen"

    meanwhile(store, "update", 1, lambda: site.run(tab, relabel))
    site.run(browser, lambda session: session.login("bob", keep=keep))

    assert site.run(browser, lambda session: session.label["device"]).text == "kitchen"


def test_a_login_that_another_one_ended_for_max_per_owner_says_so() -> None:
    store = FaultyStore(MemoryStore())
    site = Site(store=store, max_per_owner=1)
    site.run(site.browser(), login)
    first, second = site.browser(), site.browser()
    meanwhile(store, "load", 2, lambda: site.run(second, login))

    answer = site.run(first, login)

    assert answer.set_cookie is None
    assert site.run(second, lambda session: session.owner).text == "bob"
    assert len(site.middleware.registry.sessions("bob")) == 1


def test_a_first_login_whose_answer_was_lost_leaves_no_session_beside_that_of_the_next() -> None:
    store = FaultyStore(MemoryStore())
    site = Site(store=store)
    site.run(site.browser(), login_as("ada"))
    browser = site.browser()

    def work(session: Session) -> None:
        session.login("ada")
        store.fail("insert", answer_lost=True)
        with pytest.raises(StoreError):
            session.save()
        store.recover()
        session.login("bob")

    site.run(browser, work)

    assert site.run(browser, lambda session: session.owner).text == "bob"
    assert len(site.middleware.registry.sessions("ada")) == 1
    assert len(site.middleware.registry.sessions("bob")) == 1


def test_a_place_held_by_a_slow_request_lasts_as_long_as_the_session_that_comes_of_it() -> None:
    site = Site(max_per_owner=2, when_full="refuse", lifetime=Lifetime(idle=1000, absolute=3000))

    def work(session: Session) -> None:
        session.login("bob")
        site.clock.advance(2900)
        session.login("bob")

    site.run(site.browser(), work)
    site.clock.advance(200)
    site.middleware.registry.purge_expired()

    assert len(site.middleware.registry.sessions("bob")) == 1


def test_two_logins_at_once_of_one_place_leave_one_session() -> None:
    store = FaultyStore(MemoryStore())
    site = Site(store=store, max_per_owner=1)
    first, second = site.browser(), site.browser()
    site.run(first, login)
    # When the first browser's session is marked, and about to be ended.
    meanwhile(store, "load", 4, lambda: site.run(first, login))

    site.run(second, login)

    assert len(list(site.middleware.registry)) == 1
    assert len(site.middleware.registry.sessions("bob")) == 1


def save_a_field(session: Session) -> None:
    session["n"] = 1
    session.save()


def save_an_attribute(session: Session) -> None:
    session.persistent = False
    session.save()


SAVES: list[Handler] = [lambda session: session.increment("n"), save_a_field, save_an_attribute]


@pytest.mark.parametrize("status", ["200 OK", "500 Oh"])
@pytest.mark.parametrize("save", SAVES, ids=["increment", "save", "attributes"])
def test_what_a_save_planned_is_told_only_if_no_other_request_changed_the_id_since(
    save: Handler, status: str
) -> None:
    site = Site(cookie=Cookie(persistent=True))
    browser = site.browser()
    site.run(browser, put(a=1))
    other = twin(browser)

    def work(session: Session) -> None:
        save(session)
        site.status = "200 OK"
        site.run(other, lambda session: session.regenerate())
        site.status = status

    assert site.run(browser, work).all("Set-Cookie") == []
    site.status = "200 OK"
    assert site.run(other, read).text == "{'a': 1, 'n': 1}" or save is save_an_attribute


@pytest.mark.parametrize("save", SAVES, ids=["increment", "save", "attributes"])
def test_what_a_save_planned_is_told_with_the_id_that_a_rotation_gave_meanwhile(
    save: Handler,
) -> None:
    site = Site(cookie=Cookie(persistent=True), rotate_after=60)
    browser = site.browser()
    site.run(browser, put(a=1))
    other = twin(browser)

    def work(session: Session) -> None:
        save(session)
        site.clock.advance(61)
        site.run(other, read)

    site.run(browser, work)
    assert token(browser) == token(other)


def test_what_a_save_planned_costs_nothing_more_for_an_id_that_this_request_made() -> None:
    store = FaultyStore(MemoryStore())
    site = Site(store=store, cookie=Cookie(persistent=True))
    browser = site.browser()
    site.run(browser, save_a_field)
    assert token(browser)
    assert "load" not in store.calls


def test_a_store_that_cannot_say_whether_the_id_is_still_right_costs_the_renewal_alone() -> None:
    store = FaultyStore(MemoryStore())
    site = Site(store=store, cookie=Cookie(persistent=True))
    browser = site.browser()
    site.run(browser, put(a=1))

    def work(session: Session) -> None:
        session.increment("n")
        store.fail("load")

    response = site.run(browser, work)
    assert response.status == "200 OK"
    assert response.all("Set-Cookie") == []
    assert site.kinds[-1] == "store_error"


@pytest.mark.parametrize("begin", [put(n=1), login], ids=["set", "login"])
@pytest.mark.parametrize("then", ["save", "destroy", "empty", "empty and save"])
def test_a_lost_answer_to_the_first_save_leaves_no_session_behind(
    begin: Handler, then: str
) -> None:
    store = FaultyStore(MemoryStore())
    site = Site(store=store)
    lost: list[str] = []

    def lose(key: str, record: Record) -> None:
        if record.owner != LIST_OWNER and not lost:
            lost.append(key)
            raise StoreError("the answer was lost")

    store.after("insert", lose)

    def work(session: Session) -> None:
        begin(session)
        with pytest.raises(StoreError):
            session.save()
        assert [*site.middleware.registry] == lost
        if then.startswith("empty"):
            session.regenerate(keep=False)
        if then == "destroy":
            session.destroy()
        elif then.endswith("save"):
            session.save()

    browser = site.browser()
    site.run(browser, work)
    assert [*site.middleware.registry] == (lost if then == "save" else [])
    assert site.middleware.registry.count("bob") == (then == "save" and begin is login)
    assert site.run(browser, lambda session: bool(session or session.owner)).text == str(
        then == "save"
    )


class Oops(Exception):
    """The app fails."""


@pytest.mark.parametrize("save", SAVES[:2], ids=["increment", "save"])
@pytest.mark.parametrize("end", ["raises", "public", "fails", "no answer"])
def test_a_save_rotates_nothing_because_the_answer_may_not_tell_the_new_id(
    save: Handler, end: str
) -> None:
    store = FaultyStore(MemoryStore())
    site = Site(store=store, rotate_after=60)
    browser = site.browser()
    site.run(browser, put(a=1))
    site.clock.advance(61)

    def work(session: Session) -> None:
        session["b"] = 2
        save(session)
        if end == "raises":
            raise Oops
        if end == "public":
            site.headers = [("Cache-Control", "public, max-age=60")]
        if end == "fails":
            site.status = "500 Oh"
        if end == "no answer":
            store.fail("load")

    with suppress(Oops):
        site.run(browser, work)
    site.status, site.headers = "200 OK", []
    store.recover()
    site.clock.advance(31)

    assert site.run(browser, read).text == "{'a': 1, 'b': 2, 'n': 1}"
    assert "retired_id_used" not in site.kinds


def test_a_save_leaves_the_rotation_to_the_answer() -> None:
    site = Site(rotate_after=60)
    browser = site.browser()
    site.run(browser, put(a=1))
    former = token(browser)
    site.clock.advance(61)
    site.run(browser, save_a_field)
    assert token(browser) != former
    assert site.kinds.count("rotated") == 1


@pytest.mark.parametrize("also", ["nothing", "another session"])
def test_a_second_destroy_ends_what_a_save_with_a_lost_answer_left(also: str) -> None:
    store = FaultyStore(MemoryStore())
    site = Site(store=store)
    browsers = [site.browser(), site.browser()] if also == "another session" else []
    for each in browsers:
        site.run(each, put(a=1))
    both = sending(site, "; ".join(f"session={token(each)}" for each in browsers))

    def work(session: Session) -> None:
        session["a"] = 1
        store.fail("insert", answer_lost=True)
        with pytest.raises(StoreError):
            session.save()
        store.recover()
        store.fail("delete")
        with pytest.raises(StoreError):
            session.destroy()
        assert len(session) == 0
        store.recover()
        session.destroy()

    site.run(both, work)
    assert [*site.middleware.registry] == []


def test_destroy_never_ends_a_session_that_had_the_same_id_before() -> None:
    made = [new_id()] * 2
    store = FaultyStore(MemoryStore())
    site = Site(store=store, id_factory=made.pop)
    browser = site.browser()
    site.run(browser, put(a=1))
    site.clock.advance(1)

    def work(session: Session) -> None:
        session["b"] = 1
        store.fail("insert", "load")
        with pytest.raises(StoreError):
            session.save()
        with pytest.raises(StoreError):
            session.destroy()
        store.recover()
        session.destroy()

    site.run(site.browser(), work)
    assert site.run(browser, read).text == "{'a': 1}"


def ask_for_the_id(session: Session) -> None:
    session["n"] = 1
    assert session.id


@pytest.mark.parametrize("work", [save_a_field, ask_for_the_id, put(n=1), login])
def test_an_id_made_twice_at_the_same_time_leads_nobody_into_the_session_of_another(
    work: Handler,
) -> None:
    twice, other = new_id(), new_id()
    made = [other, twice, twice]
    site = Site(id_factory=made.pop)
    browser = site.browser()
    site.run(browser, put(a=1))
    site.run(site.browser(), work)
    assert site.run(browser, read).text == "{'a': 1}"
    assert len([*site.middleware.registry]) == 2


@pytest.mark.parametrize("stored", [False, True], ids=["new", "stored"])
@pytest.mark.parametrize("caught", [False, True], ids=["take", "save"])
def test_a_login_that_was_revoked_is_not_tried_again_by_what_follows_in_the_request(
    stored: bool, caught: bool
) -> None:
    store = FaultyStore(MemoryStore())
    site = Site(store=store)
    browser = site.browser()
    if stored:
        site.run(browser, put(a=1))

    def work(session: Session) -> None:
        session.login("bob")
        session["n"] = 1
        # When its record was written, and the owner's list is about to be read again.
        meanwhile(store, "load", 1, lambda: site.middleware.registry.revoke_all("bob"))
        if caught:
            with pytest.raises(SessionEnded):
                session.save()
        else:
            assert session.take("n") is None

    answer = site.run(browser, work)
    assert "revoked" in site.kinds
    assert answer.set_cookie is None
    assert [*site.middleware.registry] == []


def test_a_login_after_one_that_was_revoked_counts() -> None:
    store = FaultyStore(MemoryStore())
    site = Site(store=store)
    browser = site.browser()

    def work(session: Session) -> None:
        session.login("bob")
        meanwhile(store, "load", 1, lambda: site.middleware.registry.revoke_all("bob"))
        with pytest.raises(SessionEnded):
            session.save()
        assert session.owner == "bob"
        session.login("bob")

    site.run(browser, work)
    assert site.run(browser, lambda session: session.owner).text == "bob"
    assert site.middleware.registry.count("bob") == 1


@pytest.mark.parametrize("owner", [None, "bob"])
def test_a_login_carries_over_only_what_can_be_read(owner: str | None) -> None:
    """A page that reads a damaged field would sign out whoever signed in without reading it."""
    site = Site(max_per_owner=1, when_full="refuse")
    browser = site.browser(HTTP_USER_AGENT="Browser/1")
    site.run(browser, put(cart=["tea"], seen=1) if owner is None else login_with_a_cart)
    (key,) = site.middleware.registry
    site.store.update(key, Changes({"cart": b"{damaged"}))

    def sign_in(session: Session) -> None:
        session.persistent = True
        session["step"] = 2
        session.login("ada")

    assert "Max-Age" in str(site.run(browser, sign_in).set_cookie)
    shown = site.run(browser, lambda session: (session.get("cart"), session.owner, dict(session)))

    assert shown.text == "(None, 'ada', {'step': 2})"
    assert site.kinds.count("corrupt_record") == 1
    (info,) = site.middleware.registry.sessions("ada")
    assert info.label["user_agent"] == "Browser/1"


def login_with_a_cart(session: Session) -> None:
    session.update(cart=["tea"], seen=1)
    session.login("bob")


def test_a_login_that_does_not_keep_what_is_damaged_goes_on_in_the_same_session() -> None:
    site, browser = started()
    site.run(browser, put(cart=["tea"], seen=1))
    (key,) = site.middleware.registry
    site.store.update(key, Changes({"cart": b"{damaged"}))

    site.run(browser, lambda session: session.login("ada", keep=["seen"]))

    assert site.run(browser, lambda s: (s.owner, dict(s))).text == "('ada', {'seen': 1})"
    assert list(site.middleware.registry) == [key]
    assert "corrupt_record" not in site.kinds


class Key(str, enum.Enum):  # noqa: UP042 # unlike StrEnum, it shows itself as its name
    CART = "cart"


@pytest.mark.parametrize("encrypts", [False, True])
def test_a_key_that_shows_itself_as_another_text_is_the_key_that_it_equals(encrypts: bool) -> None:
    keys = [bytes(range(32))] if encrypts else []
    site = Site(encryption_keys=keys)
    browser = site.browser()

    def fill(session: Session) -> None:
        session["user"] = "ada"
        session[Key.CART] = ["tea"]

    site.run(browser, fill)
    site.run(browser, lambda session: session.increment(Key.CART.value + "s"))
    assert site.run(browser, read).text == "{'cart': ['tea'], 'carts': 1, 'user': 'ada'}"
    site.run(browser, lambda session: session.regenerate(keep=[Key.CART, "user"]))
    site.run(browser, lambda session: session.login(Key.CART))
    assert site.run(browser, lambda session: session[Key.CART]).text == "['tea']"
    site.run(browser, lambda session: session.pop(Key.CART))

    shown = site.run(browser, lambda session: (session.owner, dict(session)))
    assert shown.text == "('cart', {'user': 'ada'})"
    assert "corrupt_record" not in site.kinds


def test_fields_to_keep_are_named_by_text() -> None:
    site, browser = started()

    with pytest.raises(TypeError, match="a session's keys are str, and this one is int"):
        site.run(browser, lambda session: session.regenerate(keep=[1]))  # type: ignore[list-item] # the mistake


class Meeting(StoreWrapper):
    """A store whose first loads wait for each other."""

    def __init__(self, store: Store, number: int) -> None:
        super().__init__(store)
        self.barrier = threading.Barrier(number, timeout=30)
        self.waits = False

    def load(self, key: str) -> Record | None:
        if self.waits:
            self.barrier.wait()
        return super().load(key)


def test_threads_of_one_request_that_begin_at_once_have_one_session() -> None:
    store = Meeting(MemoryStore(), 4)
    site = Site(store=store)
    browser = site.browser()
    site.run(browser, put(a=1))

    def work(session: Session) -> None:
        def add(number: int) -> None:
            session[f"key {number}"] = number

        store.waits = True
        races.together(*(partial(add, number) for number in range(4)))
        store.waits = False

    site.run(browser, work)

    kept = {"a": 1} | {f"key {number}": number for number in range(4)}
    assert site.run(browser, read).text == str(kept)


def test_a_passive_request_that_shortens_the_life_knows_when_it_ends() -> None:
    site, browser = started(lifetime=Lifetime(idle=900))
    site.clock.advance(100)

    def shorten(session: Session) -> object:
        session.passive = True
        session.lifetime = Lifetime(idle=300)
        session.persistent = True
        return session.time_left

    answer = site.run(browser, shorten)

    assert answer.text == "0:03:20"
    assert "Max-Age=200;" in str(answer.set_cookie)
    site.clock.advance(201)
    assert site.run(browser, read).text == "{}"


def start_nothing(*_: Any) -> Callable[[bytes], object]:
    return bytes


def test_an_environ_that_is_used_again_keeps_its_file_wrapper() -> None:
    def wrap(file: object, size: int = 0) -> list[bytes]:
        return [b"file"]

    made = environ() | {"wsgi.file_wrapper": wrap}
    seen: list[object] = []

    def app(made: dict[str, Any], start_response: Any) -> Any:
        made["wsgi_sessions.session"]["a"] = 1
        start_response("200 OK", [])
        seen.append(made["wsgi.file_wrapper"](None))
        return seen[-1]

    middleware = SessionMiddleware(app, secret_key=SECRET)
    for _ in range(2):
        middleware.open_session(made)
        middleware.commit_session(made)
        assert middleware(made, start_nothing) is seen[-1]  # the file itself
        assert made["wsgi.file_wrapper"] is wrap


REMOVALS: dict[str, Callable[[Session], object]] = {
    "take": lambda session: session.take("state"),
    "transaction": lambda session: session.transaction(lambda fields: fields.clear()),
}


@pytest.mark.parametrize("remove", REMOVALS.values(), ids=REMOVALS.keys())
def test_a_transaction_that_removes_the_last_field_ends_the_session(
    remove: Callable[[Session], object],
) -> None:
    site = Site()
    browser = site.browser()
    site.run(browser, put(state="abc"))
    response = site.run(browser, remove)

    assert "Max-Age=0" in (response.set_cookie or "")
    assert list(site.store.keys()) == []
    assert site.kinds == ["created", "destroyed"]


def test_one_with_an_owner_stays() -> None:
    site = Site()
    owned = site.browser()

    def sign_in(session: Session) -> None:
        session.login("u")
        session["state"] = "abc"

    site.run(owned, sign_in)
    site.run(owned, lambda session: session.take("state"))

    assert site.run(owned, lambda session: session.owner).text == "u"


def test_a_flash_of_a_visitors_first_request_leaves_nothing() -> None:
    site = Site()

    def flash(session: Session) -> None:
        session["flash"] = "hi"
        session.take("flash")

    response = site.run(site.browser(), flash)

    assert response.set_cookie is None
    assert list(site.store.keys()) == []


def test_a_transaction_that_empties_what_another_fills_is_run_again() -> None:
    store = FaultyStore(MemoryStore())
    site = Site(store=store)
    browser = site.browser()
    site.run(browser, put(state="abc"))
    site.routes["/other"] = put(n=1)
    calls: list[str] = []

    def other(key: str, **_: Any) -> None:
        calls.append(key)
        if len(calls) == 1:
            twin(browser).get("/other")

    store.before("delete", other)
    response = site.run(browser, lambda session: session.take("state"))

    assert response.text == "abc"
    assert site.run(browser, lambda session: dict(session)).text == "{'n': 1}"


def test_what_a_transaction_has_emptied_is_answered_though_it_cannot_be_deleted() -> None:
    store = FaultyStore(MemoryStore())
    site = Site(store=store)
    browser = site.browser()
    site.run(browser, put(state="abc"))
    store.fail("delete")
    response = site.run(browser, lambda session: session.take("state"))

    assert (response.code, response.text) == (200, "abc")
    assert site.kinds == ["created", "store_error"]


@pytest.mark.parametrize("encrypt", [False, True])
def test_a_session_in_its_cookie_cannot_be_ended_in_a_stream(encrypt: bool) -> None:
    raised: list[type[Exception]] = []

    def app(made: dict[str, Any], start_response: Any) -> Iterator[bytes]:
        session = made["wsgi_sessions.session"]
        if made["PATH_INFO"] == "/in":
            session.login("u")
        start_response("200 OK", [("Content-Type", "text/plain")])
        yield str(session.owner).encode()
        if made["PATH_INFO"] == "/out":
            try:
                session.destroy()
            except SessionCommitted as error:
                raised.append(type(error))
        yield b""

    browser = Browser(
        SessionMiddleware(app, secret_key=SECRET, store=ClientSideStore(encrypt=encrypt))
    )
    browser.get("/in")
    browser.get("/out")

    assert raised == [SessionCommitted]
    assert browser.get("/").text == "u"


@pytest.mark.parametrize(
    "commit",
    [
        lambda session: session.save(),
        lambda session: session.increment("n"),
        lambda session: session.transaction(lambda fields: fields.update(b=1)),
    ],
    ids=["save", "increment", "transaction"],
)
def test_a_label_that_is_held_can_be_changed_after_a_commit(
    commit: Callable[[Session], object],
) -> None:
    site = Site()
    browser = site.browser()
    site.run(browser, put(a=1))

    def name(session: Session) -> None:
        label = session.label
        label["device"] = "x"
        commit(session)
        label["place"] = "y"

    site.run(browser, name)

    assert site.run(browser, lambda session: session.label).text == str(
        {"device": "x", "place": "y"}
    )


@pytest.mark.parametrize("number", [14, 15, 16])
def test_an_apps_label_that_is_full_hinders_no_login(number: int) -> None:
    site = Site()
    browser = site.browser(HTTP_USER_AGENT="Testing/1.0")

    def name(session: Session) -> None:
        session["a"] = 1
        session.label.update({f"k{each}": "v" for each in range(number)})

    site.run(browser, name)
    site.run(browser, login)
    label = site.middleware.registry.sessions("bob")[0].label

    assert len(label) == 16
    assert ("ip" in label) == (number < 16)


def test_a_login_into_a_fresh_session_finds_no_place_where_none_is_left() -> None:
    site = Site(max_per_owner=1, when_full="refuse")
    here, there = site.browser(), site.browser()
    site.run(here, login)
    site.routes["/in"] = login

    def slow(session: Session) -> None:
        assert session.owner == "bob"
        site.middleware.registry.revoke(session.handle)
        there.get("/in")
        session.login("bob")

    response = site.run(here, slow)

    assert response.set_cookie is None
    assert site.middleware.registry.count("bob") == 1
    assert site.run(there, lambda session: session.owner).text == "bob"


def test_a_login_into_a_fresh_session_takes_the_place_that_is_free() -> None:
    site = Site(max_per_owner=1, when_full="refuse")
    here = site.browser()
    site.run(here, login)

    def slow(session: Session) -> None:
        assert session.owner == "bob"
        site.middleware.registry.revoke(session.handle)
        session.login("bob")

    site.run(here, slow)

    assert site.run(here, lambda session: session.owner).text == "bob"
    assert site.middleware.registry.count("bob") == 1


def test_the_body_of_an_answer_to_an_outage_is_closed_in_a_stream() -> None:
    closed: list[str] = []

    class Body:
        def __iter__(self) -> Iterator[bytes]:
            yield b"sorry"

        def close(self) -> None:
            closed.append("answer")

    def answer(_: Any, start_response: Any, __: Any) -> Body:
        start_response("503 Service Unavailable", [("Content-Type", "text/plain")])
        return Body()

    def app(made: dict[str, Any], start_response: Any) -> Iterator[bytes]:
        try:
            made["wsgi_sessions.session"]["a"] = 1
            start_response("200 OK", [("Content-Type", "text/plain")])
            yield b"x"
        finally:
            closed.append("app")

    store = FaultyStore(MemoryStore())
    store.fail("insert")
    wrapped = SessionMiddleware(app, secret_key=SECRET, store=store, on_store_error=answer)

    assert call(wrapped, environ()).text == "sorry"
    assert closed == ["app", "answer"]


def test_another_owner_has_not_signed_in() -> None:
    site = Site()
    browser = site.browser()

    def file_under(owner: str | None) -> Handler:
        def work(session: Session) -> object:
            session.owner = owner
            return session.is_fresh(600)

        return work

    site.run(browser, put(a=1))
    site.run(browser, login)

    assert site.run(browser, file_under("bob")).text == "True"
    assert site.run(browser, file_under(None)).text == "False"
    assert site.run(browser, file_under("eve")).text == "False"
    assert site.run(browser, lambda session: session.is_fresh(600)).text == "False"
    site.run(browser, login)

    def begin_anew(session: Session) -> None:
        session.regenerate(keep=False)
        session["b"] = 1

    site.run(browser, begin_anew)
    assert site.run(browser, lambda session: (session["b"], session.is_fresh(600))).text == str(
        (1, False)
    )


def test_after_a_destroy_no_empty_session_is_begun() -> None:
    site = Site(save_uninitialized=True)
    browser = site.browser()
    site.run(browser, put(a=1))
    response = site.run(browser, lambda session: session.destroy())

    assert "Max-Age=0" in (response.set_cookie or "")
    assert list(site.store.keys()) == []


def test_e18_what_was_saved_before_an_exception_reaches_the_jar() -> None:
    site = Site()
    browser = site.browser()
    site.run(browser, put(a=1))

    with (
        pytest.raises(ZeroDivisionError),
        session_of(site.middleware, browser.cookies) as session,
    ):
        session.login("bob")
        session.save()
        session["b"] = 1
        raise ZeroDivisionError

    assert site.run(browser, lambda session: (session.owner, dict(session))).text == str(
        ("bob", {"a": 1})
    )


def test_what_a_transaction_empties_goes_on_until_the_request_ends() -> None:
    site = Site(cookie=Cookie(persistent=False))
    browser = site.browser()
    site.run(browser, put(state="abc"))
    (before,) = site.middleware.registry

    def sign_in(session: Session) -> None:
        session.persistent = True
        session.lifetime = Lifetime(3600, 7200)
        session.label["device"] = "x"
        label = session.label
        session.take("state")
        label["place"] = "y"
        session.login("u")

    response = site.run(browser, sign_in)
    (after,) = site.middleware.registry

    assert after == before
    assert "Max-Age=3600" in (response.set_cookie or "")
    assert site.run(browser, lambda session: session.lifetime.idle_seconds).text == "3600.0"
    label = site.middleware.registry.sessions("u")[0].label
    assert (label["device"], label["place"]) == ("x", "y")
    assert site.kinds == ["created", "regenerated"]


def test_what_another_request_writes_meanwhile_survives_that() -> None:
    site = Site()
    browser = site.browser()
    site.run(browser, put(state="abc"))
    site.routes["/take"] = lambda session: (session.take("state"), session.update(b=1))

    def slow(session: Session) -> None:
        assert session["state"] == "abc"
        twin(browser).get("/take")
        session["a"] = 1

    site.run(browser, slow)

    assert site.run(browser, lambda session: dict(session)).text == str({"b": 1, "a": 1})


def test_a_stream_may_empty_and_fill_its_session() -> None:
    site = Site()
    browser = site.browser()
    site.run(browser, put(flash="hi"))

    def app(made: dict[str, Any], start_response: Any) -> Iterator[bytes]:
        session = made["wsgi_sessions.session"]
        len(session)
        start_response("200 OK", [("Content-Type", "text/plain")])
        yield b"x"
        session.take("flash")
        session["n"] = 1

    site.middleware.app = app
    browser.get("/")
    site.middleware.app = site._app  # noqa: SLF001 # as it was

    assert site.run(browser, lambda session: dict(session)).text == str({"n": 1})


def test_a_session_that_was_to_be_kept_empty_is_kept_so() -> None:
    site = Site()
    browser = site.browser()

    def keep(session: Session) -> None:
        session.save(keep_empty=True)
        session["a"] = 1
        session.take("a")

    site.run(browser, keep)

    assert site.run(browser, lambda session: session.is_new).text == "False"


def test_what_is_set_after_a_lost_answer_to_that_is_kept() -> None:
    store = FaultyStore(MemoryStore())
    site = Site(store=store)
    browser = site.browser()
    site.run(browser, put(a=1))

    def work(session: Session) -> None:
        store.fail("update", answer_lost=True)
        with suppress(StoreError):
            session.take("a")
        store.recover()
        session["msg"] = "sorry"

    site.run(browser, work)

    assert site.run(browser, lambda session: session["msg"]).text == "sorry"


@pytest.mark.parametrize("other", ["regenerates", "signs in as another"])
def test_a_login_into_a_fresh_session_gives_back_the_place_of_the_old_one(other: str) -> None:
    site = Site(max_per_owner=1, when_full="refuse")
    browser = site.browser()
    site.run(browser, put(a=1))
    copy = twin(browser)
    site.routes["/other"] = (
        login_as("alice")
        if other == "signs in as another"
        else lambda session: session.regenerate()
    )

    def slow(session: Session) -> None:
        session.get("a")
        copy.get("/other")
        session.login("bob")

    site.run(browser, slow)

    assert site.run(browser, lambda session: session.owner).text == "bob"
    assert site.middleware.registry.count("bob") == 1


def test_in_a_stream_a_session_shows_when_it_ends_as_it_is() -> None:
    site = Site(rolling=True, lifetime=Lifetime(1000))
    browser = site.browser()
    site.run(browser, put(a=1))
    seen: list[float] = []

    def app(made: dict[str, Any], start_response: Any) -> Iterator[bytes]:
        session = made["wsgi_sessions.session"]
        seen.append(session.time_left.total_seconds())
        start_response("200 OK", [("Content-Type", "text/plain")])
        yield b"x"
        site.clock.advance(50)
        seen.append(session.time_left.total_seconds())

    site.middleware.app = app
    browser.get("/")

    assert seen == [1000, 950]


def test_what_a_view_asks_for_between_two_transactions_stays() -> None:
    site = Site()
    browser = site.browser()
    site.run(browser, put(state="x"))
    (before,) = site.middleware.registry

    def callback(session: Session) -> None:
        session.take("state")
        session.persistent = True
        session.take("next")
        session.login("u")

    response = site.run(browser, callback)

    assert "Max-Age" in (response.set_cookie or "")
    assert list(site.middleware.registry) == [before]


def test_fields_removed_before_a_transaction_do_not_end_the_session_in_it() -> None:
    site = Site()
    browser = site.browser()
    site.run(browser, put(a=1))
    (before,) = site.middleware.registry

    def work(session: Session) -> None:
        del session["a"]
        session.persistent = True
        session.increment("n")

    response = site.run(browser, work)

    assert "Max-Age" in (response.set_cookie or "")
    assert list(site.middleware.registry) == [before]
    assert site.run(browser, lambda session: dict(session)).text == str({"n": 1})


def failing(session: Session) -> None:
    session.take("a")
    raise ZeroDivisionError


def reloading(session: Session) -> None:
    session.take("a")
    session.reload()


def saving(session: Session) -> None:
    session.take("a")
    session.save()


@pytest.mark.parametrize("work", [failing, reloading, saving], ids=["raise", "reload", "save"])
def test_what_a_transaction_has_emptied_ends_however_the_request_ends(work: Handler) -> None:
    site = Site()
    browser = site.browser()
    site.run(browser, put(a=1))
    with suppress(ZeroDivisionError):
        site.run(browser, work)

    assert list(site.store.keys()) == []


def test_also_with_an_answer_that_is_an_error() -> None:
    site = Site()
    browser = site.browser()
    site.run(browser, put(a=1))
    site.status = "500 Oh"
    response = site.run(browser, lambda session: session.take("a"))

    assert "Max-Age=0" in (response.set_cookie or "")
    assert list(site.store.keys()) == []


def test_a_second_login_finds_that_its_place_is_gone() -> None:
    site = Site(max_per_owner=1, when_full="refuse")
    browser, other = site.browser(), site.browser()
    site.routes["/in"] = login

    def slow(session: Session) -> None:
        session.login("bob")
        site.clock.advance(70)
        other.get("/in")
        with pytest.raises(TooManySessions):
            session.login("bob")
        session.destroy()

    site.run(browser, slow)

    assert site.middleware.registry.count("bob") == 1


IMPOSSIBLE: dict[str, dict[str, Any]] = {
    "used": {"used_at": 1e300},
    "used before all time": {"used_at": -1e15},
    "never ends": {"expires_at": float("inf")},
    "an owner that is no text": {"owner": "\ud800"},
}


@pytest.mark.parametrize("changed", IMPOSSIBLE.values(), ids=IMPOSSIBLE.keys())
def test_a_record_with_a_time_or_an_owner_that_cannot_be_shown_is_corrupt(
    changed: dict[str, Any],
) -> None:
    site = Site()
    damaged, other = site.browser(), site.browser()
    site.run(damaged, login)
    site.run(other, login)
    handle = site.run(damaged, lambda session: session.handle).text
    record = site.store.load(handle)
    assert record is not None
    site.store.delete(handle)
    site.store.insert(handle, replace(record, **changed))
    registry = site.middleware.registry

    assert registry.get(handle) is None
    assert registry.count("bob") == len(registry.sessions("bob")) == len(list(registry)) == 1
    assert site.run(damaged, lambda session: (dict(session), session.owner)).text == "({}, None)"
    assert "corrupt_record" in site.kinds
    assert site.run(damaged, lambda session: session.login("bob")).code == 200
    assert registry.revoke_all("bob") == 2
    assert registry.revoke(handle) is (changed.get("owner") is not None)


def test_whatever_a_byte_of_the_notes_is_turned_into_the_registry_and_the_next_request_go_on() -> (
    None
):
    site = Site()
    browser, other = site.browser(), site.browser()
    site.run(browser, login)
    site.run(other, login)
    handle = site.run(browser, lambda session: session.handle).text
    record = site.store.load(handle)
    assert record is not None
    registry = site.middleware.registry
    for at in range(len(record.notes)):
        for byte in (0x00, 0x45, 0x7F, 0xFF):
            notes = record.notes[:at] + bytes([byte]) + record.notes[at + 1 :]
            site.store.delete(handle)
            site.store.insert(handle, replace(record, notes=notes))

            assert len(registry.sessions("bob")) in (1, 2)
            registry.get(handle)
            asked = lambda s: (s.created_at, s.authenticated_at, s.expires_at, s.time_left)  # noqa: E731
            assert site.run(twin(browser), asked).code == 200
