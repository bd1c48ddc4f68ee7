"""Rotation (`rotate_after`): a new ID from time to time, and nothing is lost on the way.

Racing requests still carry the old ID, and the answer with the new one may never arrive. So the
immediate predecessor reaches the session for 30 seconds; whoever comes with it later may be a
thief (PHP manual, "Session ID regeneration"; OWASP Session Management, "Renewal Timeout").
"""

from __future__ import annotations

import random
import secrets
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from effort import tries
from raw import raw
from servers import NamedServer, Server, binaries
from wsgi import SECRET, Browser, Site
from wsgi_sessions import Lifetime, Session
from wsgi_sessions.engine.decisions import GRACE
from wsgi_sessions.stores import FileStore, MemoryStore, RedisStore, Store
from wsgi_sessions.testing import FakeClock, FaultyStore

OTHER_SECRET = "another secret of at least thirty-two bytes, for tests"
DAY = 24 * 60 * 60


def put(**values: Any) -> Callable[[Session], Any]:
    return lambda session: session.update(values)


def read(session: Session) -> str:
    return repr(dict(sorted(session.items())))


def started(**options: Any) -> tuple[Site, Browser]:
    """A signed-in browser whose ID is one second short of its rotation."""
    options.setdefault("rotate_after", 100)
    site = Site(**options)
    browser = site.browser()
    site.run(browser, put(a=1))
    site.clock.advance(99)
    return site, browser


def twin(browser: Browser) -> Browser:
    """Another tab, or a thief: the same cookies now, its own from here on."""
    other = Browser(browser.app, **browser.extra)
    other.cookies = dict(browser.cookies)
    return other


def token(browser: Browser) -> str:
    return browser.cookies["session"]


class TestWhen:
    def test_not_before_its_time(self) -> None:
        site, browser = started()

        response = site.run(browser, read)

        assert response.set_cookie is None
        assert "rotated" not in site.kinds

    def test_a_mere_read_rotates(self) -> None:
        site, browser = started()
        before = token(browser)
        site.clock.advance(1)

        response = site.run(browser, read)

        assert response.text == "{'a': 1}"
        assert token(browser) != before
        assert site.run(browser, read).text == "{'a': 1}"
        assert site.kinds == ["created", "rotated"]

    def test_what_the_request_changed_goes_along(self) -> None:
        site, browser = started()
        site.clock.advance(1)

        site.run(browser, put(b=2))

        assert site.run(browser, read).text == "{'a': 1, 'b': 2}"

    def test_it_happens_again_after_the_same_time(self) -> None:
        site, browser = started()
        seen = {token(browser)}
        for _ in range(5):
            site.clock.advance(100)
            site.run(browser, read)
            seen.add(token(browser))

        assert len(seen) == 6

    def test_an_untouched_session_isnt_rotated(self) -> None:
        site, browser = started()
        site.clock.advance(1)

        assert site.run(browser, lambda s: None).set_cookie is None

    def test_a_public_response_gets_no_new_id(self) -> None:
        site, browser = started()
        site.clock.advance(1)
        site.headers = [("Cache-Control", "public, max-age=60")]

        assert site.run(browser, read).set_cookie is None

    def test_an_answer_5xx_rotates_nothing(self) -> None:
        site, browser = started()
        site.clock.advance(1)
        site.status = "500 Internal Server Error"

        assert site.run(browser, read).set_cookie is None

    def test_an_emptied_session_ends_and_isnt_rotated(self) -> None:
        site, browser = started()
        site.clock.advance(1)

        site.run(browser, lambda s: s.clear())

        assert list(site.store.keys()) == []


class TestGrace:
    def test_the_predecessor_reads_the_same_session_and_gets_the_current_cookie(self) -> None:
        site, browser = started()
        late = twin(browser)
        site.clock.advance(1)
        site.run(browser, read)

        site.clock.advance(29)
        response = site.run(late, read)

        assert response.text == "{'a': 1}"
        assert token(late) == token(browser)
        assert "retired_id_used" not in site.kinds

    def test_a_lost_set_cookie_heals_with_the_next_request(self) -> None:
        site, browser = started()
        before = dict(browser.cookies)
        site.clock.advance(1)
        site.run(browser, put(b=2))
        browser.cookies = dict(before)  # the answer was lost on a bad line

        site.run(browser, put(c=3))

        assert browser.cookies != before
        assert site.run(browser, read).text == "{'a': 1, 'b': 2, 'c': 3}"

    def test_a_write_with_the_predecessor_goes_to_the_one_record(self) -> None:
        site, browser = started()
        late = twin(browser)
        site.clock.advance(1)
        site.run(browser, read)

        site.run(late, put(late=True))

        assert site.run(browser, read).text == "{'a': 1, 'late': True}"

    def test_after_the_grace_it_is_a_sign_of_theft(self) -> None:
        site, browser = started()
        thief = twin(browser)
        site.clock.advance(1)
        site.run(browser, read)

        site.clock.advance(30)
        response = site.run(thief, read)

        assert response.text == "{}"
        assert response.set_cookie is None
        assert site.kinds[-1] == "retired_id_used"
        assert site.run(browser, read).text == "{'a': 1}"

    def test_a_grandparent_is_refused_even_within_the_grace(self) -> None:
        site, browser = started(rotate_after=10)
        grandparent = twin(browser)
        site.run(browser, read)
        site.clock.advance(GRACE - 1)
        site.run(browser, read)
        assert site.kinds.count("rotated") == 1  # no further rotation while a former ID has grace
        site.clock.advance(1)
        site.run(browser, read)

        site.clock.advance(1)
        response = site.run(grandparent, read)

        assert response.text == "{}"
        assert site.kinds[-1] == "retired_id_used"

    def test_regenerate_and_login_leave_no_grace(self) -> None:
        for work in (lambda s: s.regenerate(), lambda s: s.login("bob")):
            site, browser = started()
            thief = twin(browser)
            site.clock.advance(1)
            site.run(browser, work)

            assert site.run(thief, read).text == "{}"


class TestSecrecy:
    @pytest.mark.parametrize("kind", ["memory", "file"])
    def test_the_new_id_cant_be_read_from_the_store(self, kind: str, tmp_path: Path) -> None:
        store = MemoryStore() if kind == "memory" else FileStore(tmp_path / "sessions")
        site, browser = started(store=store)
        old = token(browser)
        site.clock.advance(1)
        site.run(browser, read)
        new = token(browser)

        found = raw(store)

        for value in (old, new):
            session_id, _, signature = value.partition(".")
            assert session_id.encode() not in found
            assert signature.encode() not in found


class TestSecrets:
    def test_the_successor_is_made_under_the_newest(self) -> None:
        site, browser = started()
        newer = Site(
            store=site.store,
            secret_key=[OTHER_SECRET, SECRET],
            clock=site.clock,
            rotate_after=100,
        )
        newest = Site(store=site.store, secret_key=OTHER_SECRET, clock=site.clock, rotate_after=100)
        site.clock.advance(1)
        browser.app = newer.middleware
        newer.run(browser, read)

        browser.app = newest.middleware
        assert newest.run(browser, read).text == "{'a': 1}"


class TestLimits:
    def test_the_absolute_limit_is_never_extended(self) -> None:
        site, browser = started(lifetime=Lifetime(idle=DAY, absolute=1000))
        for _ in range(9):
            site.clock.advance(100)
            assert site.run(browser, read).text == "{'a': 1}"

        site.clock.advance(1)
        assert site.run(browser, read).text == "{}"
        assert site.kinds.count("rotated") == 9
        assert [e.detail for e in site.events if e.kind == "expired"] == ["absolute"]

    def test_times_data_owner_and_label_stay(self) -> None:
        site = Site(rotate_after=100)
        browser = site.browser(HTTP_USER_AGENT="Firefox")
        site.run(browser, lambda s: s.login("bob"))

        def about(session: Session) -> str:
            return repr((session.owner, session.label, session.created_at,
                         session.authenticated_at, session.persistent))  # fmt: skip

        before = site.run(browser, about).text
        site.clock.advance(100)
        site.run(browser, read)

        assert site.kinds[-1] == "rotated"
        assert site.run(browser, about).text == before
        assert site.middleware.registry.count("bob") == 1
        assert len(list(site.store.keys())) == 2

    def test_authenticated_at_is_fresh_and_the_absolute_limit_belong_to_login(self) -> None:
        site, browser = started(lifetime=Lifetime(idle=DAY, absolute=1000))
        site.run(browser, lambda s: s.login("bob"))
        signed_in = site.clock.now
        for _ in range(9):
            site.clock.advance(100)
            site.run(browser, read)

        facts = site.run(
            browser,
            lambda s: repr((str(s.authenticated_at), s.is_fresh(901), s.is_fresh(900), s.owner)),
        )

        assert facts.text == repr((str(datetime.fromtimestamp(signed_in, UTC)), True, False, "bob"))
        site.clock.advance(100)
        assert site.run(browser, lambda s: s.owner).text == "None"

    def test_only_login_restarts_the_absolute_limit(self) -> None:
        site, browser = started(lifetime=Lifetime(idle=DAY, absolute=1000))
        site.clock.advance(800)
        site.run(browser, lambda s: s.regenerate())
        untouched = site.run(browser, lambda s: s.expires_at.timestamp()).text
        site.run(browser, lambda s: s.login("bob"))

        restarted = site.run(browser, lambda s: s.expires_at.timestamp()).text

        assert float(untouched) == site.clock.now + 101
        assert float(restarted) == site.clock.now + 1000

    def test_login_is_noted_again_at_each_login(self) -> None:
        site, browser = started()
        site.run(browser, lambda s: s.login("bob"))
        site.clock.advance(50)
        site.run(browser, lambda s: s.login("bob"))

        at = site.run(browser, lambda s: s.authenticated_at).text

        assert at == str(datetime.fromtimestamp(site.clock.now, UTC))


class TestRaces:
    """Other requests come in between two store calls of a rotation."""

    def test_two_concurrent_rotations_yield_one_successor(self) -> None:
        store = FaultyStore(MemoryStore())
        site, browser = started(store=store)
        other = twin(browser)
        site.clock.advance(1)
        # Both have loaded the session before either commits.
        site.routes["/other"] = put(b=2)

        site.run(browser, lambda s: (s.get("a"), other.get("/other"), s.update(c=3)))

        assert site.kinds.count("rotated") == 1
        assert token(browser) == token(other)
        assert site.run(browser, read).text == "{'a': 1, 'b': 2, 'c': 3}"

    def test_another_rotation_in_the_middle_of_one(self) -> None:
        store = FaultyStore(MemoryStore())
        site, browser = started(store=store)
        other = twin(browser)
        site.clock.advance(1)
        site.routes["/other"] = put(b=2)
        once = [lambda: other.get("/other")]
        store.before("update", lambda *_, **__: once and once.pop()())

        site.run(browser, put(c=3))

        live = list(site.middleware.registry)
        assert len(live) == 1
        assert site.run(twin(browser), read).text == "{'a': 1, 'b': 2, 'c': 3}"
        assert site.run(twin(other), read).text == "{'a': 1, 'b': 2, 'c': 3}"

    def test_a_destroy_in_the_middle_ends_it(self) -> None:
        store = FaultyStore(MemoryStore())
        site, browser = started(store=store)
        other = twin(browser)
        site.clock.advance(1)
        site.routes["/other"] = lambda s: s.destroy()
        once = [lambda: other.get("/other")]
        store.before("update", lambda *_, **__: once and once.pop()())

        response = site.run(browser, put(c=3))

        assert response.set_cookie is None
        assert list(site.middleware.registry) == []
        assert site.run(browser, read).text == "{}"

    def test_a_destroy_follows_the_move(self) -> None:
        site, browser = started(rotate_after=10)
        mover = twin(browser)

        def work(session: Session) -> None:
            session.get("a")
            for _ in range(3):  # the other tab's request moves it on, and on
                site.clock.advance(10)
                mover.get("/read")
            session.destroy()

        site.routes["/read"] = read
        site.run(browser, work)

        assert list(site.middleware.registry) == []
        assert site.run(mover, read).text == "{}"
        assert site.kinds.count("destroyed") == 1

    def test_a_slow_write_follows_however_far_it_moved(self) -> None:
        site, browser = started(rotate_after=10)
        mover = twin(browser)
        site.routes["/read"] = read

        def work(session: Session) -> None:
            session["slow"] = True
            for _ in range(3):
                site.clock.advance(40)  # each of them outlasts the grace
                mover.get("/read")

        site.run(browser, work)

        assert site.run(mover, read).text == "{'a': 1, 'slow': True}"
        assert "write_after_end" not in site.kinds

    def test_increment_and_take_follow_the_move(self) -> None:
        site, browser = started()
        fast = twin(browser)
        site.routes["/read"] = read
        site.clock.advance(1)

        def work(session: Session) -> Any:
            session.get("a")
            fast.get("/read")
            return session.increment("n"), session.take("a")

        assert site.run(browser, work).text == "(1, 1)"
        assert site.run(browser, read).text == "{'n': 1}"
        assert token(browser) == token(fast)

    def test_an_update_whose_answer_is_lost_loses_nothing(self) -> None:
        store = FaultyStore(MemoryStore())
        site, browser = started(store=store)
        site.clock.advance(1)
        store.fail("update", answer_lost=True)
        assert site.run(browser, put(b=2)).code == 503
        store.recover()

        assert site.run(browser, read).text == "{'a': 1, 'b': 2}"

    def test_a_revocation_is_final_in_the_middle_of_a_rotation(self) -> None:
        for call in ("load", "update"):
            store = FaultyStore(MemoryStore())
            site = Site(rotate_after=100, store=store)
            browser = site.browser()
            site.run(browser, lambda s: s.login("bob"))
            site.clock.advance(100)
            once = [lambda site=site: site.middleware.registry.revoke_all("bob")]
            store.before(call, lambda *_, once=once, **__: once and once.pop()())

            site.run(browser, read)

            assert site.run(browser, lambda s: s.owner).text == "None", call
            assert list(site.middleware.registry) == [], call

    def test_a_spared_session_survives_the_new_id_of_a_slow_request(self) -> None:
        for work in (lambda s: s.regenerate(), lambda s: s.update(b=2)):
            site = Site(rotate_after=100)
            browser = site.browser()
            site.run(browser, lambda s: s.login("bob"))
            other = twin(browser)
            site.clock.advance(100)

            def everywhere_else(session: Session, site: Site = site) -> None:
                site.middleware.registry.revoke_all("bob", except_=session)

            site.routes["/everywhere-else"] = everywhere_else

            def slow(session: Session, work: Any = work, other: Browser = other) -> None:
                session.get("x")
                other.get("/everywhere-else")
                work(session)

            site.run(browser, slow)

            assert site.run(browser, lambda s: s.owner).text == "bob"

    def test_what_others_noted_meanwhile_isnt_undone(self) -> None:
        site, browser = started()
        other = twin(browser)
        site.routes["/label"] = lambda s: s.label.update(device="phone")
        site.clock.advance(1)

        def slow(session: Session) -> None:
            session.get("a")
            site.clock.advance(-1)
            other.get("/label")
            site.clock.advance(1)

        site.run(browser, slow)

        assert site.kinds[-1] == "rotated"
        assert site.run(browser, lambda s: s.label).text == "{'device': 'phone'}"


@pytest.mark.parametrize("kind", ["memory", "file"])
def test_racing_requests_during_rotations_lose_nothing(kind: str, tmp_path: Path) -> None:
    race(MemoryStore() if kind == "memory" else FileStore(tmp_path / "sessions"))


@pytest.mark.slow
@pytest.mark.parametrize("redis_server", [max(binaries(), default=None)], indirect=True)
def test_racing_requests_during_rotations_lose_nothing_on_redis(
    redis_server: Server | NamedServer,
) -> None:
    store = RedisStore.from_url(redis_server.url, prefix=f"rotation-{secrets.token_hex(8)}:")
    try:
        race(store)
        store.clear()
    finally:
        store.close()


class Still:
    """Time stands still while requests are under way, as they take no minutes in life."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._under_way = 0
        self._waiting = False

    def __enter__(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: not self._waiting)
            self._under_way += 1

    def __exit__(self, *error: object) -> None:
        with self._changed:
            self._under_way -= 1
            self._changed.notify_all()

    def advance(self, clock: FakeClock, by: float) -> None:
        with self._changed:
            self._waiting = True
            self._changed.wait_for(lambda: not self._under_way)
            clock.advance(by)
            self._waiting = False
            self._changed.notify_all()


def race(store: Store) -> None:
    threads, each = 8, tries(test=60, check=90, everything=300)
    site, browser = started(store=store)
    jar = threading.Lock()
    still = Still()
    failures: list[str] = []

    def tab(number: int) -> None:
        rng = random.Random(number)
        for index in range(each):
            name = f"{number}.{index}"

            def add(session: Session, name: str = name, counts: bool = index % 6 == 0) -> None:
                session[name] = True
                if counts:
                    session.increment("n")

            if number == 0 and index % 5 == 0:
                still.advance(site.clock, 25)
            with still:
                with jar:
                    one = twin(browser)
                try:
                    response = ask(site, one, f"/{name}", add)
                except Exception as error:  # whatever it is, the test shows it
                    failures.append(repr(error))
                    return
                if response.code != 200:
                    failures.append(response.status)
                with jar:  # tabs share a jar; one answer of ten never gets there
                    if rng.random() < 0.9:
                        browser.cookies.update(one.cookies)

    workers = [threading.Thread(target=tab, args=(number,)) for number in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()

    left = site.run(browser, lambda s: (s["n"], len(s)))
    assert failures == []
    assert left.text == str((threads * each // 6, threads * each + 2))
    assert site.kinds.count("rotated") >= each // 30
    assert "write_after_end" not in site.kinds
    assert len(list(site.middleware.registry)) == 1


def ask(site: Site, browser: Browser, path: str, work: Callable[[Session], Any]) -> Any:
    site.routes[path] = work
    return browser.get(path)


def test_a_forward_made_under_a_secret_that_was_withdrawn_leads_nowhere() -> None:
    """A new secret is rolled back: what it forwarded can't be followed, and is no session."""
    store = MemoryStore()
    old, browser = started(store=store, secret_key=SECRET)
    both = Site(store=store, rotate_after=100, secret_key=[OTHER_SECRET, SECRET], clock=old.clock)
    late = twin(browser)
    browser.app = both.middleware
    old.clock.advance(1)
    for _ in range(2):  # signed anew, then rotated
        assert both.run(browser, read).text == "{'a': 1}"
    assert "rotated" in both.kinds

    assert old.run(late, read).text == "{}"
    assert old.run(late, put(b=2)).status.startswith("200")
    assert both.run(browser, read).text == "{'a': 1}"
