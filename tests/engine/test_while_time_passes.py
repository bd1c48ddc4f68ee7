"""What goes wrong only where time passes between the steps of requests that overlap.

A clock that stands still hides all of it: here it moves within a request, as it does in life.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, MutableMapping
from pathlib import Path
from typing import Any

import pytest

from acts import login_as, put, read
from wsgi import SECRET, Site
from wsgi_sessions import (
    Cookie,
    Lifetime,
    Session,
    SessionEnded,
    StoreError,
    TooManySessions,
)
from wsgi_sessions.record import list_key
from wsgi_sessions.stores import FileStore, MemoryStore
from wsgi_sessions.testing import FaultyStore

DAY = 86_400.0
login = login_as("u")


def write(session: MutableMapping[str, Any]) -> None:
    session["n"] = session.get("n", 0) + 1


def regenerate(session: Session) -> None:
    session.regenerate()


def once(store: FaultyStore, operation: str, happens: Callable[[], object], *, at: int = 1) -> None:
    """Have something happen before this call of an operation, by another request."""
    calls = 0

    def hook(*_: Any, **__: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == at:
            happens()

    store.before(operation, hook)


class TestRotation:
    def between(self, operation: str, work: Callable[[Session], object], **options: Any) -> Site:
        """Two requests with one cookie: another one's ``work`` comes before a call of ours."""
        store = FaultyStore(MemoryStore())
        site = Site(store=store, **options)
        first, second, self.third = site.browser(), site.browser(), site.browser()
        site.run(first, login)
        site.clock.advance(1000)
        second.cookies, self.third.cookies = dict(first.cookies), dict(first.cookies)

        def other() -> None:
            site.clock.advance(0.001)
            site.routes["/other"] = work
            first.get("/other")

        once(store, operation, other)
        self.seen = site.run(second, lambda session: session.owner).text
        return site

    def test_of_two_requests_at_once_neither_loses_the_session(self) -> None:
        site = self.between("load", read, rotate_after=900)

        assert self.seen == "u"
        assert site.kinds == ["created", "rotated"]

    def test_of_two_that_loaded_before_either_rotated_only_one_does(self) -> None:
        site = self.between("update", read, rotate_after=900)
        site.clock.advance(1)

        assert site.run(self.third, lambda session: session.owner).text == "u"
        assert site.kinds == ["created", "rotated"]

    def test_a_regenerate_under_a_request_is_no_theft(self) -> None:
        site = self.between("load", regenerate)

        assert self.seen == "None"
        assert site.kinds == ["created", "regenerated", "unknown_id"]

    def test_servers_whose_clocks_differ_a_little_agree(self) -> None:
        store = MemoryStore()
        fast, slow = Site(store=store, rotate_after=900), Site(store=store, rotate_after=900)
        slow.clock.advance(-0.01)
        browser, other = fast.browser(), slow.browser()
        fast.run(browser, login)
        fast.clock.advance(1000)
        slow.clock.advance(1000)
        other.cookies = dict(browser.cookies)
        fast.run(browser, read)

        assert slow.run(other, lambda session: session.owner).text == "u"
        assert slow.run(other, lambda session: session.owner).text == "u"
        assert slow.kinds == []
        assert fast.kinds == ["created", "rotated"]

    def test_a_login_on_a_fast_server_is_not_rotated_by_a_slow_one(self) -> None:
        store = MemoryStore()
        fast, slow = Site(store=store, rotate_after=900), Site(store=store, rotate_after=900)
        slow.clock.advance(-0.01)
        browser = fast.browser()
        fast.run(browser, login)
        browser.app = slow.middleware
        slow.run(browser, read)

        assert slow.kinds == []

    def test_a_clock_that_was_set_back_far_gives_no_more_grace(self) -> None:
        site = Site(rotate_after=900)
        browser, former = site.browser(), site.browser()
        site.run(browser, login)
        site.clock.advance(1000)
        former.cookies = dict(browser.cookies)
        site.run(browser, read)
        site.clock.advance(-100)

        assert site.run(former, lambda session: session.owner).text == "None"

    @pytest.mark.parametrize("kind", ["memory", "file"])
    def test_threads_on_the_real_clock(self, kind: str, tmp_path: Path) -> None:
        store = MemoryStore() if kind == "memory" else FileStore(tmp_path)
        site = Site(store=store, rotate_after=0.5, clock=time.time)
        site.routes["/read"] = lambda session: session.owner
        browsers = [site.browser() for _ in range(10)]
        for browser in browsers:
            site.run(browser, login)
        time.sleep(0.6)
        seen: list[str] = []
        for browser in browsers:
            twins = [site.browser() for _ in range(4)]
            gate = threading.Barrier(len(twins))
            for twin in twins:
                twin.cookies = dict(browser.cookies)

            def ask(twin: Any, gate: threading.Barrier = gate) -> None:
                gate.wait()
                seen.append(twin.get("/read", check=False).text)

            threads = [threading.Thread(target=ask, args=(twin,)) for twin in twins]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()

        assert seen == ["u"] * 40
        assert site.kinds.count("rotated") == 10


class TestMaxPerOwner:
    @pytest.mark.parametrize("work", [write, login], ids=["a write", "a login"])
    def test_a_use_after_the_login_began_takes_no_place_of_its_own(
        self, work: Callable[[Session], object]
    ) -> None:
        store = FaultyStore(MemoryStore())
        site = Site(store=store, max_per_owner=1)
        here, there = site.browser(), site.browser()
        site.run(here, login)
        site.clock.advance(1000)
        site.routes["/other"] = work

        def use() -> None:
            site.clock.advance(0.001)
            here.get("/other")
            site.clock.advance(0.001)

        once(store, "insert", use)
        site.run(there, login)

        assert site.middleware.registry.count("u") == 1

    def test_the_least_recently_used_ends_also_while_others_are_used(self) -> None:
        store = FaultyStore(MemoryStore())
        site = Site(store=store, max_per_owner=2)
        idle, busy, new = site.browser(), site.browser(), site.browser()
        site.run(idle, login)
        site.clock.advance(10)
        site.run(busy, login)
        site.clock.advance(1000)
        site.routes["/write"] = write

        def use() -> None:
            site.clock.advance(0.001)
            busy.get("/write")

        once(store, "load", use, at=2)
        site.run(new, login)

        def owner(session: Session) -> str | None:
            return session.owner

        seen = [site.run(each, owner).text for each in (idle, busy, new)]
        assert seen == ["None", "u", "u"]


TRANSACTIONS: dict[str, Callable[[Session], object]] = {
    "increment": lambda session: session.increment("n"),
    "transaction": lambda session: session.transaction(write),
    "touch in a passive request": lambda session: session.touch(),
    "regenerate in a passive request": regenerate,
}


@pytest.mark.parametrize("use", TRANSACTIONS.values(), ids=TRANSACTIONS.keys())
def test_e2_a_session_stays_listed_however_it_is_kept_alive(
    use: Callable[[Session], object], request: pytest.FixtureRequest
) -> None:
    options: dict[str, Any] = {}
    if "passive" in request.node.name:
        options["passive"] = lambda _: True
    store = MemoryStore()
    before = Site(store=store, lifetime=Lifetime(DAY, 2 * DAY))
    browser = before.browser()
    before.run(browser, login)
    after = Site(store=store, lifetime=Lifetime(DAY, 30 * DAY), clock=before.clock, **options)
    browser.app = after.middleware
    for _ in range(10):
        after.clock.advance(DAY / 2)
        after.run(browser, use)
    registry = after.middleware.registry
    registry.purge_expired()

    assert registry.revoke_all("u") == 1
    assert after.run(browser, lambda session: session.owner).text == "None"


def test_e2_an_app_with_a_shorter_lifetime_cuts_no_list_short() -> None:
    store = MemoryStore()
    site = Site(store=store, lifetime=Lifetime(20 * DAY, 30 * DAY))
    site.run(site.browser(), login)
    admin = Site(store=store, lifetime=Lifetime(3600, 3600), cookie=Cookie("adm"), clock=site.clock)
    browser = admin.browser()
    admin.run(browser, login)
    again = Site(store=store, lifetime=Lifetime(7200, 7200), cookie=Cookie("adm"), clock=site.clock)
    browser.app = again.middleware
    again.run(browser, write)
    site.clock.advance(DAY)
    store.purge_expired(site.clock())

    assert site.middleware.registry.count("u") == 1


@pytest.mark.parametrize(
    "use", [write, lambda session: session.increment("n")], ids=["write", "increment"]
)
def test_s2_a_login_by_a_clock_that_was_ahead_ends_in_time(
    use: Callable[[Session], object],
) -> None:
    site = Site(lifetime=Lifetime(DAY, 3 * DAY))
    browser = site.browser()
    site.clock.advance(3650 * DAY)
    site.run(browser, login)
    site.clock.advance(-3650 * DAY)
    for _ in range(10):
        site.clock.advance(DAY / 2)
        site.run(browser, use)

    assert site.run(browser, lambda session: session.owner).text == "None"


def test_two_reads_at_once_renew_the_deadline_once() -> None:
    store = FaultyStore(MemoryStore())
    site = Site(store=store)
    browser, other = site.browser(), site.browser()
    site.run(browser, put(a=1))
    other.cookies = dict(browser.cookies)
    site.clock.advance(100)
    site.routes["/read"] = read

    def use() -> None:
        site.clock.advance(0.001)
        other.get("/read")

    once(store, "load", use)
    store.calls.clear()
    site.run(browser, read)

    assert store.calls == {"load": 2, "update": 1}


@pytest.mark.parametrize("option", ["rolling", "old secret"])
def test_what_is_renewed_because_of_its_cookie_says_so(option: str) -> None:
    site = Site(rolling=option == "rolling")
    browser = site.browser()
    site.run(browser, put(a=1))
    if option == "old secret":
        keys = ["another secret of at least thirty-two bytes", SECRET]
        site = Site(secret_key=keys, store=site.store, clock=site.clock)
        browser.app = site.middleware
    site.clock.advance(30)
    left = site.run(browser, lambda session: session.time_left.total_seconds()).text

    assert left == str(DAY)


class TestPlaces:
    """A login of ``when_full="refuse"`` holds a place until it is committed."""

    @pytest.mark.parametrize("looks", ["list", "purge"])
    def test_a_view_that_takes_its_time_keeps_its_place(self, looks: str) -> None:
        site = Site(max_per_owner=1, when_full="refuse")
        browser = site.browser()
        site.run(browser, put(cart=1))

        def slow(session: Session) -> None:
            session.login("u")
            site.clock.advance(61)
            registry = site.middleware.registry
            registry.sessions("u") if looks == "list" else registry.purge_expired()

        site.run(browser, slow)

        seen = site.run(browser, lambda session: (session.owner, dict(session)))
        assert seen.text == repr(("u", {"cart": 1}))
        assert site.kinds == ["created", "regenerated"]

    @pytest.mark.parametrize("stored", [True, False])
    def test_one_that_another_login_took_meanwhile_is_lost(self, stored: bool) -> None:
        site = Site(max_per_owner=1, when_full="refuse")
        browser, other = site.browser(), site.browser()
        if stored:
            site.run(browser, put(cart=1))
        site.routes["/in"] = login

        def slow(session: Session) -> None:
            session.login("u")
            site.clock.advance(61)
            other.get("/in")

        with pytest.raises(TooManySessions):
            site.run(browser, slow)

        assert site.middleware.registry.count("u") == 1
        assert site.run(other, lambda session: session.owner).text == "u"
        if stored:
            seen = site.run(browser, lambda session: (session.owner, dict(session)))
            assert seen.text == repr((None, {"cart": 1}))


class TestSeveralLifetimes:
    """Apps of different lifetimes on one store, with the same users."""

    def test_none_ends_the_others_sessions_by_looking_at_the_list(self) -> None:
        store = MemoryStore()
        site = Site(store=store, lifetime=Lifetime(20 * DAY, 30 * DAY))
        browsers = [site.browser() for _ in range(15)]
        for browser in browsers:
            site.run(browser, login)
        admin = Site(
            store=store, lifetime=Lifetime(3600, 3600), cookie=Cookie("adm"), clock=site.clock
        )
        site.clock.advance(7200)
        admin.run(admin.browser(), login)
        admin.middleware.registry.sessions("u")
        admin.middleware.registry.purge_expired()

        owners = {site.run(browser, lambda session: session.owner).text for browser in browsers}
        assert owners == {"u"}
        assert site.middleware.registry.count("u") == 16

    def test_none_cuts_the_list_short_though_it_cannot_read_it_again(self) -> None:
        store = FaultyStore(MemoryStore())
        site = Site(store=store, lifetime=Lifetime(20 * DAY, 30 * DAY))
        site.run(site.browser(), login)
        admin = Site(
            store=store, lifetime=Lifetime(3600, 3600), cookie=Cookie("adm"), clock=site.clock
        )
        admin.run(admin.browser(), login)

        def fail(key: str) -> None:
            if key == list_key("u"):
                raise StoreError("down")

        store.before("load", fail)
        admin.run(admin.browser(), login)
        site.clock.advance(DAY)
        store.store.purge_expired(site.clock())
        present = store.store.load(list_key("u"))

        assert present is not None
        assert present.expires_at > site.clock() + DAY


def test_a_slow_request_rotates_no_id_that_was_just_rotated() -> None:
    site = Site(rotate_after=900)
    tab, slow = site.browser(), site.browser()
    site.run(tab, login)
    site.clock.advance(1000)
    slow.cookies = dict(tab.cookies)
    site.routes["/read"] = read

    def view(session: Session) -> None:
        assert session.owner == "u"
        tab.get("/read")
        site.clock.advance(31)

    site.run(slow, view)
    site.clock.advance(31)

    assert site.run(tab, lambda session: session.owner).text == "u"
    assert site.kinds == ["created", "rotated"]


def test_a_rotation_whose_answer_was_lost_reaches_the_client() -> None:
    store = FaultyStore(MemoryStore())
    site = Site(store=store, rotate_after=900)
    browser = site.browser()
    site.run(browser, login)
    site.clock.advance(1000)
    store.fail("update", answer_lost=True)
    site.run(browser, read)
    store.recover()
    site.clock.advance(31)

    assert site.run(browser, lambda session: session.owner).text == "u"
    assert "retired_id_used" not in site.kinds


def test_a_rotation_that_fails_is_made_by_the_next_request() -> None:
    store = FaultyStore(MemoryStore())
    site = Site(store=store, rotate_after=900)
    browser = site.browser()
    site.run(browser, login)
    site.clock.advance(1000)
    store.fail("update")

    assert site.run(browser, lambda session: session.owner).text == "u"
    store.recover()
    assert site.run(browser, lambda session: session.owner).text == "u"
    assert site.kinds == ["created", "store_error", "rotated"]


@pytest.mark.parametrize("limit", [Lifetime(60, 3600), Lifetime(600, 60)], ids=["idle", "absolute"])
def test_a_slow_transaction_brings_nothing_back_to_life(limit: Lifetime) -> None:
    site = Site(lifetime=limit)
    browser, other = site.browser(), site.browser()
    site.run(browser, put(n=0))
    other.cookies = dict(browser.cookies)
    site.clock.advance(50)
    raised: list[type[Exception]] = []

    def work(session: Session) -> None:
        def slow(fields: MutableMapping[str, Any]) -> None:
            site.clock.advance(15)
            fields["n"] += 1

        try:
            session.transaction(slow)
        except SessionEnded as error:
            raised.append(type(error))

    site.run(browser, work)

    assert raised == [SessionEnded]
    assert site.run(other, lambda session: session.get("n")).text == "None"


def test_a_session_that_is_being_ended_does_not_enter_its_list_anew() -> None:
    store = FaultyStore(MemoryStore())
    before = Site(store=store, lifetime=Lifetime(DAY, 2 * DAY), max_per_owner=1)
    here = before.browser()
    before.run(here, login)
    after = Site(store=store, lifetime=Lifetime(DAY, 30 * DAY), max_per_owner=1, clock=before.clock)
    here.app = after.middleware
    after.clock.advance(DAY / 2)
    after.routes["/write"] = write
    (handle,) = after.middleware.registry
    busy: list[str] = []

    def use(key: str, **_: Any) -> None:
        if key == handle and not busy:
            busy.append(key)
            here.get("/write")

    store.before("delete", use)
    after.run(after.browser(), login)

    assert busy == [handle]
    assert after.middleware.registry.count("u") == 1


@pytest.mark.parametrize("meanwhile", ["touched", "written"])
def test_a_slow_transaction_goes_on_where_another_request_has_renewed(meanwhile: str) -> None:
    site = Site(lifetime=Lifetime(100, 3600))
    browser, other = site.browser(), site.browser()
    site.run(browser, put(n=1))
    other.cookies = dict(browser.cookies)
    site.routes["/other"] = put(m=1) if meanwhile == "written" else lambda s: s.touch()
    runs: list[int] = []

    def work(session: Session) -> None:
        def slow(fields: MutableMapping[str, Any]) -> None:
            runs.append(1)
            if len(runs) == 1:
                site.clock.advance(60)
                other.get("/other")
                site.clock.advance(60)
            fields["n"] += 1

        session.transaction(slow)

    site.run(browser, work)

    expected = {"n": 2, "m": 1} if meanwhile == "written" else {"n": 2}
    assert site.run(browser, lambda session: dict(session)).text == repr(expected)
    assert len(runs) == (2 if meanwhile == "written" else 1)


def test_a_clock_that_was_set_back_lengthens_no_idle_limit_by_more_than_the_skew() -> None:
    site = Site(lifetime=Lifetime(DAY, None), touch_interval=3600)
    browser = site.browser()
    site.run(browser, put(a=1))
    site.clock.advance(-3500)
    site.run(browser, read)
    site.clock.advance(DAY + 31)

    assert site.run(browser, lambda session: session.get("a")).text == "None"
