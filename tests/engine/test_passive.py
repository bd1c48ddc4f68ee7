"""Requests that don't count as use: each kind of request with and without ``passive`` (design 17)."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import flask
import pytest

from acts import destroy, id_of, login, put, read, started
from wsgi import SECRET, Browser, Response, Site
from wsgi_sessions import Cookie, Lifetime, Session, SessionEnded, StoreError
from wsgi_sessions.flask import FlaskSessions
from wsgi_sessions.stores import ClientSideStore, MemoryStore
from wsgi_sessions.testing import FakeClock, FaultyStore

OTHER_SECRET = "another secret of at least thirty-two bytes"
HOUR = Lifetime(idle=3600, absolute=86400)


@dataclass(frozen=True)
class Kind:
    """A kind of request, and what it does when it counts as use and when it doesn't."""

    work: Callable[[Session], Any]
    active: str
    passive: str
    options: dict[str, Any] = field(default_factory=dict[str, Any])
    after: float = 120
    """Seconds since the session began; mere use is written after 60."""
    secret_added: bool = False


def touch(session: Session) -> None:
    session.touch()


# What is seen: "deadline" (it moves), "cookie" (it is sent), "new ID", "written", "gone".
KINDS = {
    "read": Kind(read, "", "", after=10),
    "read, touch due": Kind(read, "deadline", ""),
    "change": Kind(put(b=2), "deadline written", "written", after=10),
    "change, touch due": Kind(put(b=2), "deadline written", "written"),
    "persistent, read": Kind(read, "deadline cookie", "", {"cookie": Cookie(persistent=True)}),
    "persistent, change": Kind(
        put(b=2), "deadline cookie written", "written", {"cookie": Cookie(persistent=True)}
    ),
    "rolling, read": Kind(read, "deadline cookie", "", {"rolling": True}, after=10),
    "rolling, touch due": Kind(read, "deadline cookie", "", {"rolling": True}),
    "rotation due, read": Kind(read, "deadline cookie, new ID", "", {"rotate_after": 60}),
    "rotation due, change": Kind(
        put(b=2), "deadline cookie, new ID written", "written", {"rotate_after": 60}
    ),
    "old secret, read": Kind(read, "deadline cookie", "", after=10, secret_added=True),
    "old secret, change": Kind(
        put(b=2), "deadline cookie written", "written", after=10, secret_added=True
    ),
    "touch()": Kind(touch, "deadline", "deadline", after=10),
    "persistent, touch()": Kind(
        touch, "deadline cookie", "deadline cookie", {"cookie": Cookie(persistent=True)}, after=10
    ),
    "login": Kind(login, "deadline cookie, new ID", "deadline cookie, new ID", after=10),
    "regenerate": Kind(
        lambda session: session.regenerate(),
        "deadline cookie, new ID",
        "deadline cookie, new ID",
        after=10,
    ),
    "destroy": Kind(destroy, "gone", "gone", after=10),
    "all fields removed": Kind(lambda session: session.clear(), "gone", "gone", after=10),
}


def being(passive: bool | None, work: Callable[[Session], Any]) -> Callable[[Session], Any]:
    def both(session: Session) -> Any:
        if passive is not None:
            session.passive = passive
        return work(session)

    return both


class Begun:
    """A session that began some time ago, and what the next request makes of it."""

    def __init__(self, kind: Kind, **options: Any) -> None:
        options = {"lifetime": HOUR, **kind.options, **options}
        if kind.secret_added:
            old = Site(store=MemoryStore(), secret_key=SECRET, **options)
            self.site = Site(store=old.store, secret_key=[OTHER_SECRET, SECRET], **options)
        else:
            old = self.site = Site(store=MemoryStore(), **options)
        self.browser = Browser(old.middleware)
        old.run(self.browser, put(a=1))
        self.browser.app = self.site.middleware
        (self.key,) = self.site.store.keys()
        self.site.clock.advance(kind.after)

    def seen(self, kind: Kind, passive: bool | None, **extra: Any) -> str:
        before, id_before = self.site.store.load(self.key), id_of(self.browser)
        assert before is not None
        response = self.site.run(self.browser, being(passive, kind.work), **extra)
        after = self.site.store.load(self.key)
        if after is None:
            assert response.set_cookie is not None
            return "gone"
        seen = "deadline " if after.expires_at != before.expires_at else ""
        seen += self._cookie(response, id_before)
        return (seen + (" written" if "b" in after.fields else "")).replace("  ", " ").strip()

    def _cookie(self, response: Response, id_before: str) -> str:
        if response.set_cookie is None:
            return ""
        return "cookie" if id_of(self.browser) == id_before else "cookie, new ID"


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_what_each_kind_of_request_does_when_it_counts_as_use(kind: Kind) -> None:
    assert Begun(kind).seen(kind, None) == kind.active


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_and_what_it_does_when_it_does_not(kind: Kind) -> None:
    by_function = {"passive": lambda environ: environ.get("HTTP_X_POLL") == "1"}

    assert Begun(kind).seen(kind, True) == kind.passive
    assert Begun(kind, **by_function).seen(kind, None, HTTP_X_POLL="1") == kind.passive
    assert Begun(kind, **by_function).seen(kind, None, HTTP_X_POLL="0") == kind.active
    assert Begun(kind, **by_function).seen(kind, False, HTTP_X_POLL="1") == kind.active


@pytest.mark.parametrize("store", [MemoryStore, ClientSideStore])
def test_a_first_write_begins_a_session_even_so(store: Any) -> None:
    site = Site(store=store(), passive=lambda environ: True)
    browser = site.browser()

    assert site.run(browser, put(a=1)).set_cookie is not None
    assert site.run(browser, read).text == "{'a': 1}"


def test_a_page_that_polls_does_not_keep_a_session_alive() -> None:
    kind = KINDS["read"]
    begun = Begun(kind)

    for _ in range(7):
        begun.site.clock.advance(600)
        begun.site.run(begun.browser, being(True, read))

    assert begun.site.run(begun.browser, being(True, read)).text == "{}"


@pytest.mark.parametrize("passive", [True, False])
def test_a_client_side_session_that_is_only_polled_ends_too(passive: bool) -> None:
    site = Site(store=ClientSideStore(), lifetime=HOUR)
    browser = site.browser()
    site.run(browser, put(a=1))

    for _ in range(7):
        site.clock.advance(600)
        site.run(browser, being(passive, read))

    assert site.run(browser, being(True, read)).text == ("{}" if passive else "{'a': 1}")


def time_left(session: Session) -> timedelta:
    return session.time_left


def test_time_left_is_what_is_left_in_a_passive_request_and_after_this_use_in_another() -> None:
    begun = Begun(Kind(read, "", "", after=600))

    truly = begun.site.run(begun.browser, being(True, time_left)).text
    after_use = begun.site.run(begun.browser, time_left).text

    assert (truly, after_use) == ("0:50:00", "1:00:00")


def test_time_left_is_capped_by_the_absolute_limit() -> None:
    begun = Begun(Kind(read, "", "", after=1800), lifetime=Lifetime(idle=3600, absolute=3600))

    assert begun.site.run(begun.browser, time_left).text == "0:30:00"


def test_time_left_is_zero_once_the_session_has_ended() -> None:
    begun = Begun(KINDS["read"])

    def slow(session: Session) -> timedelta:
        session.passive = True
        session.get("a")
        begun.site.clock.advance(3601)
        return session.time_left

    assert begun.site.run(begun.browser, slow).text == "0:00:00"


def alive_after(what: Callable[[Site, Browser, str], object]) -> Callable[[Session], Any]:
    """A stream that asks whether its session is alive, before and after something happened."""

    def work(session: Session) -> tuple[bool, bool]:
        session.get("a")
        before = session.is_alive()
        what(*OTHERS[-1], session.handle)
        return before, session.is_alive()

    return work


OTHERS: list[tuple[Site, Browser]] = []


@pytest.mark.parametrize(
    ("what", "lives"),
    [
        (lambda site, other, handle: None, True),
        (lambda site, other, handle: site.run(other, put(b=2)), True),
        (lambda site, other, handle: site.run(other, destroy), False),
        (lambda site, other, handle: site.run(other, login), False),
        (lambda site, other, handle: site.middleware.registry.revoke(handle), False),
        (lambda site, other, handle: site.clock.advance(3601), False),
    ],
    ids=["nothing", "changed", "signed out elsewhere", "signed in elsewhere", "revoked", "expired"],
)
def test_is_alive_notices_an_end_that_comes_from_elsewhere(what: Any, lives: bool) -> None:
    begun = Begun(KINDS["read"])
    other = Browser(begun.site.middleware)
    other.cookies = dict(begun.browser.cookies)
    OTHERS[:] = [(begun.site, other)]

    answer = begun.site.run(begun.browser, alive_after(what))

    assert answer.text == str((True, lives))


def find_by_save(session: Session) -> None:
    session["b"] = 2
    with pytest.raises(SessionEnded):
        session.save()


def find_by_asking(session: Session) -> None:
    assert not session.is_alive()


def find_by_taking(session: Session) -> None:
    assert session.take("a") is None


@pytest.mark.parametrize("found", [find_by_save, find_by_asking, find_by_taking])
def test_no_time_is_left_once_the_request_has_found_that_the_session_ended(
    found: Callable[[Session], None],
) -> None:
    site, browser = started()
    registry = site.middleware.registry

    def work(session: Session) -> Any:
        registry.revoke(session.handle)
        found(session)
        ended = session.time_left, session.expires_at.timestamp() == site.clock()
        session.login("bob")
        signed_in = session.time_left
        session.save()
        return (*ended, signed_in, session.time_left, session.is_alive())

    day = timedelta(days=1)
    assert site.run(browser, work).text == str((timedelta(0), True, day, day, True))


def test_a_write_that_save_could_not_do_is_reported_once() -> None:
    site, browser = started()
    registry = site.middleware.registry

    def work(session: Session) -> None:
        registry.revoke(session.handle)
        find_by_save(session)

    site.run(browser, work)

    assert site.kinds.count("write_after_end") == 1


@pytest.mark.parametrize("said", [1, 0, None, "yes"])
def test_passive_is_a_bool_whatever_the_function_gave(said: Any) -> None:
    site = Site(passive=lambda environ: said)

    assert site.run(site.browser(), lambda s: s.passive).text == str(bool(said))


def test_is_alive_costs_one_call_of_the_store_and_is_no_use() -> None:
    store = FaultyStore(MemoryStore())
    site = Site(store=store, lifetime=HOUR)
    browser = site.browser()
    site.run(browser, put(a=1))
    site.clock.advance(10)
    calls: list[int] = []

    def ask(session: Session) -> None:
        session.get("a")
        before = store.calls.total()
        session.is_alive()
        calls.append(store.calls.total() - before)

    site.run(browser, ask)

    assert calls == [1]


def test_is_alive_says_no_after_its_own_destroy_and_where_nothing_was_stored() -> None:
    begun = Begun(KINDS["read"])

    def out(session: Session) -> bool:
        session.destroy()
        return session.is_alive()

    assert begun.site.run(begun.browser, out).text == "False"
    assert begun.site.run(begun.site.browser(), lambda session: session.is_alive()).text == "False"


def test_is_alive_raises_where_the_store_cannot_answer() -> None:
    store = FaultyStore(MemoryStore())
    site = Site(store=store)
    browser = site.browser()
    site.run(browser, put(a=1))

    def ask(session: Session) -> str:
        session.get("a")
        store.fail("load")
        with pytest.raises(StoreError):
            session.is_alive()
        return "raised"

    assert site.run(browser, ask).text == "raised"


@pytest.mark.parametrize("wrong", [1, None, "yes"])
def test_passive_is_true_or_false(wrong: Any) -> None:
    begun = Begun(KINDS["read"])

    def work(session: Session) -> str:
        with pytest.raises(TypeError, match="write True or False"):
            session.passive = wrong
        return str(session.passive)

    assert begun.site.run(begun.browser, work).text == "False"


def flask_site() -> tuple[Any, FakeClock]:
    clock = FakeClock()
    app = flask.Flask("shop")
    app.secret_key = SECRET
    FlaskSessions(app, store=MemoryStore(), lifetime=HOUR, clock=clock)

    @app.get("/in")
    def _in() -> str:
        flask.session.permanent = True
        flask.session["a"] = 1
        return ""

    @app.get("/poll")
    def _poll() -> str:
        flask.session.passive = True  # type: ignore[attr-defined] # ours has it
        return str(flask.session.get("a"))

    @app.get("/page")
    def _page() -> str:
        return str(flask.session.get("a"))

    browser = app.test_client()
    browser.get("/in")
    clock.advance(600)
    return browser, clock


def test_a_permanent_session_of_flask_is_sent_again_by_use_and_by_nothing_else() -> None:
    browser, _ = flask_site()

    assert "Set-Cookie" not in browser.get("/poll").headers
    assert "Max-Age=3600" in browser.get("/page").headers["Set-Cookie"]


def test_polling_keeps_no_session_of_flask_alive() -> None:
    browser, clock = flask_site()

    for _ in range(5):
        assert browser.get("/poll").text == "1"
        clock.advance(600)

    assert browser.get("/page").text == "None"


def test_a_function_that_uses_the_session_is_told_so() -> None:
    def busy(environ: dict[str, Any]) -> bool:
        return bool(environ["wsgi_sessions.session"].get("polls"))

    site = Site(passive=busy)

    for _ in range(2):
        with pytest.raises(RuntimeError, match="the function for passive used the session") as hint:
            site.run(site.browser(), read)
        assert not isinstance(hint.value, RecursionError)


def test_requests_in_other_threads_may_ask_at_the_same_time() -> None:
    both = threading.Barrier(2, timeout=10)

    def polls(environ: dict[str, Any]) -> bool:
        both.wait()
        return False

    def work(session: Session) -> None:
        other = threading.Thread(target=lambda: len(session))
        other.start()
        len(session)
        other.join()

    site = Site(passive=polls)

    assert site.run(site.browser(), work).code == 200
