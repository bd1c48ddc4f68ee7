"""The sequences of field report E: what broke between the features of the engine, row by row.

Each test bears the number of its row. They run on every kind of store that a row can concern;
those of sessions in the token are separate.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from acts import destroy, id_of, login_as, nothing, put, read, twin
from wsgi import SECRET, Browser, Site, call, environ
from wsgi_sessions import Lifetime, Session, SessionMiddleware, SessionTooLarge, StoreError
from wsgi_sessions.record import Changes, list_key
from wsgi_sessions.stores import (
    ClientSideStore,
    FileStore,
    MemoryStore,
    Store,
)
from wsgi_sessions.testing import FaultyStore, session_of

DAY = 86400.0


def login(session: Session) -> None:
    session.login("42")


def whose(session: Session) -> str:
    return str(session.owner)


def inner(site: Site) -> Store:
    store = site.store
    assert isinstance(store, FaultyStore)
    return store.store


def between(site: Site, operation: str, work: Any) -> None:
    """Have ``work`` done once, before the next call of this operation."""
    store = site.store
    assert isinstance(store, FaultyStore)
    left = iter([work])
    store.before(operation, lambda *a, **k: next(left, lambda: None)())


def streaming(site: Site, before: Any, after: Any, options: dict[str, Any]) -> Any:
    """An app that does ``before``, sends a chunk, and does ``after``."""

    def app(made: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        session = made["wsgi_sessions.session"]
        before(session)
        start_response("200 OK", [("Content-Type", "text/plain")])

        def body() -> Iterator[bytes]:
            yield b"first"
            after(session)
            yield b"second"

        return body()

    return SessionMiddleware(
        app,
        secret_key="a secret of at least thirty-two bytes, for tests",
        clock=site.clock,
        **options,
    )


class TestOwners:
    def test_e1_a_process_without_the_key_takes_nothing_out_of_a_list(self) -> None:
        store = MemoryStore()
        site = Site(store=store, encryption_keys=[os.urandom(32)])
        browser = site.browser()
        site.run(browser, login)
        site.clock.advance(61)
        plain = Site(store=store, clock=site.clock)
        other = Site(store=store, clock=site.clock, encryption_keys=[os.urandom(32)])

        for stranger in (plain, other):
            with pytest.raises(StoreError, match="can't be read"):
                stranger.middleware.registry.sessions("42")

            assert stranger.run(stranger.browser(), login).code == 503

        assert site.middleware.registry.revoke_all("42") == 1
        assert site.run(browser, whose).text == "None"

    def test_e2_a_session_that_may_live_longer_is_listed_for_longer(
        self, options: dict[str, Any]
    ) -> None:
        site = Site(**options)
        browser = site.browser()

        def short(session: Session) -> None:
            session.login("42")
            session.lifetime = Lifetime(3600, 3600)

        site.run(browser, short)
        site.run(browser, lambda s: setattr(s, "lifetime", Lifetime(DAY, 30 * DAY)))
        site.clock.advance(2 * 3600)
        site.middleware.registry.purge_expired()

        assert site.run(browser, whose).text == "42"
        assert site.middleware.registry.count("42") == 1
        assert site.middleware.registry.revoke_all("42") == 1

    def test_e2_the_middlewares_lifetime_grew_with_a_deploy(self, options: dict[str, Any]) -> None:
        before = Site(**options, lifetime=Lifetime(3600, 3600))
        browser = before.browser()
        before.run(browser, login)
        after = Site(**options, lifetime=Lifetime(DAY, 30 * DAY), clock=before.clock)
        browser.app = after.middleware
        before.clock.advance(3000)
        after.run(browser, read)
        before.clock.advance(3600)
        after.middleware.registry.purge_expired()

        assert after.run(browser, whose).text == "42"
        assert after.middleware.registry.revoke_all("42") == 1

    def test_e14_a_login_that_was_written_stands_though_its_list_cant_be_read_again(
        self, options: dict[str, Any]
    ) -> None:
        site = Site(**options)
        browser = site.browser()
        site.run(browser, put(cart=1))
        store = site.store
        assert isinstance(store, FaultyStore)

        def work(session: Session) -> None:
            session.login("42")
            store.after("update", lambda *a, **k: store.fail("load"))

        response = site.run(browser, work)
        store.recover()

        assert response.code == 200
        assert site.run(browser, lambda s: (s.owner, dict(s))).text == "('42', {'cart': 1})"

    @pytest.mark.parametrize("absolute", [timedelta(days=30), None])
    def test_e15_a_list_doesnt_grow_with_logins(
        self, options: dict[str, Any], absolute: timedelta | None
    ) -> None:
        site = Site(**options, lifetime=Lifetime(DAY, absolute))
        browser = site.browser()

        for _ in range(50):
            site.run(browser, login)
            site.run(browser, lambda s: s.regenerate())
            site.clock.advance(3600)

        assert len(list(site.store.keys())) == 2
        listed = inner(site).load(list_key("42"))
        assert listed is not None
        assert len(listed.fields) <= 3  # encryption adds two of its own
        assert site.middleware.registry.count("42") == 1


class TestMoving:
    """Rows that came from sessions which moved to another key."""

    def test_e5_parallel_reads_when_a_rotation_is_due(self, options: dict[str, Any]) -> None:
        site = Site(**options, rotate_after=900)
        browser = site.browser()
        site.run(browser, put(a=1))
        site.clock.advance(901)
        old = dict(browser.cookies)
        answers = []

        def nested(depth: int) -> None:
            if depth:
                between(site, "update", lambda: nested(depth - 1))
            tab = Browser(site.middleware)
            tab.cookies = dict(old)
            site.run(tab, read)
            answers.append(tab.cookies)

        nested(5)

        present = {cookies["session"] for cookies in answers}
        assert len(present) == 1
        assert old["session"] not in present
        site.clock.advance(31)
        browser.cookies = answers[0]
        assert site.run(browser, read).text == "{'a': 1}"

    def test_e8_rolling_and_a_login_meanwhile(self, options: dict[str, Any]) -> None:
        site = Site(**options, rolling=True)
        browser = site.browser()
        site.run(browser, put(a=1))
        tab = Browser(site.middleware)
        tab.cookies = dict(browser.cookies)

        def slow(session: Session) -> None:
            session.get("a")
            site.routes["/login"] = login
            tab.get("/login")

        response = site.run(browser, slow)

        assert response.set_cookie is None
        assert site.run(tab, whose).text == "42"

    def test_e16_rotations_leave_nothing_that_counts(self) -> None:
        site = Site(store=MemoryStore(max_sessions=10), rotate_after=900)
        browsers = [site.browser() for _ in range(10)]
        for number, browser in enumerate(browsers):
            site.run(browser, put(n=number))
        for _ in range(40):
            site.clock.advance(901)
            for browser in browsers:
                site.run(browser, read)

        seen = [site.run(browser, read).text for browser in browsers]
        assert seen == [f"{{'n': {number}}}" for number in range(10)]

    def test_e19_one_record_for_one_session(self, tmp_path: Path) -> None:
        site = Site(store=FileStore(tmp_path / "sessions"), rotate_after=900)
        browser = site.browser()
        site.run(browser, put(a=1))
        for _ in range(200):
            site.clock.advance(901)
            site.run(browser, read)

        files = [path for path in (tmp_path / "sessions").rglob("*") if path.is_file()]
        assert len([path for path in files if len(path.name) >= 60]) == 1
        assert len(list(site.store.keys())) == 1


class TestCommits:
    def test_e6_a_save_stands_and_the_login_after_it_doesnt(self, options: dict[str, Any]) -> None:
        site = Site(**options)
        browser = site.browser()
        site.status = "500 Internal Server Error"

        def work(session: Session) -> None:
            session["saved"] = 1
            session.save()
            session.login("u")

        site.run(browser, work)
        site.status = "200 OK"

        assert site.run(browser, lambda s: (s.owner, dict(s))).text == "(None, {'saved': 1})"

    def test_e7_a_failing_save_when_a_rotation_is_due(self, options: dict[str, Any]) -> None:
        site = Site(**options, rotate_after=900)
        browser = site.browser()
        site.run(browser, put(a=1))
        site.clock.advance(901)
        store = site.store
        assert isinstance(store, FaultyStore)

        def work(session: Session) -> None:
            session["b"] = str(lost)
            store.fail("update", "insert", answer_lost=lost)
            with pytest.raises(StoreError):
                session.save()
            store.recover()

        for lost in (False, True):
            site.clock.advance(901)
            assert site.run(browser, work).code == 200

            assert site.run(browser, read).text == f"{{'a': 1, 'b': '{lost}'}}"
            site.clock.advance(31)
            assert site.run(browser, read).text == f"{{'a': 1, 'b': '{lost}'}}"

    def test_e9_a_new_id_before_a_transaction(self, options: dict[str, Any]) -> None:
        site = Site(**options)
        for work in (
            lambda s: (s.login("u", keep=False), s.increment("n")),
            lambda s: (s.login("u", keep=False), s.transaction(lambda f: f.update(n=1))),
            lambda s: (s.regenerate(keep=False), s.increment("n")),
            lambda s: (s.regenerate(keep=["b"]), s.increment("n")),
        ):
            browser = site.browser()
            site.run(browser, put(a=1))

            site.run(browser, work)

            assert site.run(browser, read).text == "{'n': 1}"

    def test_e10_clearing_in_a_stream_leaves_what_another_request_wrote(
        self, options: dict[str, Any]
    ) -> None:
        site = Site(**options)
        browser = site.browser()
        site.run(browser, put(a=1))
        site.clock.advance(61)
        tab = Browser(site.middleware)
        tab.cookies = dict(browser.cookies)

        def after(session: Session) -> None:
            site.run(tab, put(b=2))
            session.clear()

        call(
            streaming(site, lambda s: s.get("a"), after, options),
            environ(cookie=f"session={browser.cookies['session']}"),
        )

        assert site.run(browser, read).text == "{'b': 2}"

    def test_e13_a_damaged_field_is_no_session_by_whichever_member(self) -> None:
        for work, seen in (
            (lambda s: s.take("n", "default"), "default"),
            (lambda s: s.increment("n"), "1"),
            (lambda s: s.transaction(lambda f: f.get("n", "none")), "none"),
            (lambda s: s.login("u"), "None"),
            (lambda s: (s.get("n"), s.owner)[1], "None"),
        ):
            site = Site(store=MemoryStore())
            browser = site.browser()
            site.run(browser, put(n=1, a=1))
            (key,) = site.store.keys()
            site.store.update(key, Changes(set={"n": b"{damaged"}))

            assert site.run(browser, work).text == seen
        assert "corrupt_record" in site.kinds

    def test_e17_a_session_that_is_too_big_already_may_be_used_and_made_smaller(
        self, options: dict[str, Any]
    ) -> None:
        site = Site(**options, max_bytes=200, rotate_after=900)
        browser = site.browser()
        site.run(browser, put(a="x"))
        tab = Browser(site.middleware)
        tab.cookies = dict(browser.cookies)

        def work(session: Session) -> None:
            session["a"] = "x" * 120
            site.routes["/other"] = put(b="y" * 120)
            tab.get("/other")

        site.run(browser, work)
        site.clock.advance(901)

        assert site.run(browser, lambda s: len(s)).text == "2"
        assert site.run(browser, lambda s: s.update(a="x" * 119)).code == 200
        with pytest.raises(SessionTooLarge):
            site.run(browser, lambda s: s.update(c=1))
        assert site.run(browser, lambda s: s.pop("a")).code == 200

    def test_e18_a_save_within_session_of_reaches_the_client(self) -> None:
        from werkzeug.test import Client

        site = Site(store=MemoryStore())
        client = Client(site.middleware)
        with session_of(site.middleware, client) as session:
            session.login("u")
            session.save()

        with session_of(site.middleware, client) as session:
            assert session.owner == "u"


class TestLabels:
    @pytest.mark.parametrize(
        "change",
        [
            lambda label: label.update(device="D" * 257),
            lambda label: label.update(device=7),
            lambda label: label.update({"D" * 257: "x"}),
            lambda label: label.update({str(n): "x" for n in range(17)}),
        ],
    )
    def test_e4_a_label_that_cant_be_read_back_is_refused(
        self, options: dict[str, Any], change: Any
    ) -> None:
        site = Site(**options)
        browser = site.browser()
        site.run(browser, put(a=1))

        with pytest.raises(TypeError, match="label"):
            site.run(browser, lambda s: (s.update(b=2), change(s.label)))

        assert site.run(browser, read).text == "{'a': 1}"


class TestClientSide:
    """Sessions that travel in their token."""

    def site(self) -> tuple[Site, Browser]:
        site = Site(store=ClientSideStore())
        browser = site.browser()
        site.run(browser, put(a=1))
        return site, browser

    def test_e3_signing_out_and_clearing_expires_the_cookie(self) -> None:
        site, browser = self.site()
        site.run(browser, login)

        def work(session: Session) -> None:
            session.owner = None
            session.clear()
            session.save()

        site.run(browser, work)

        assert browser.cookies == {}
        assert site.run(browser, whose).text == "None"

    def test_e11_reload_keeps_what_the_token_holds(self) -> None:
        site, browser = self.site()

        def work(session: Session) -> None:
            session.get("a")
            session.reload()
            session["b"] = 2

        site.run(browser, work)

        assert site.run(browser, read).text == "{'a': 1, 'b': 2}"

    def test_e12_a_save_stands_though_the_answer_is_a_500(self) -> None:
        site, browser = self.site()
        site.status = "500 Internal Server Error"

        def work(session: Session) -> None:
            session["b"] = 2
            session.save()
            session["c"] = 3

        site.run(browser, work)
        site.status = "200 OK"

        assert site.run(browser, read).text == "{'a': 1, 'b': 2}"

    def test_a_reload_doesnt_bring_back_what_was_destroyed(self) -> None:
        site, browser = self.site()

        def work(session: Session) -> str:
            session.destroy()
            session.reload()
            return repr(dict(session))

        assert site.run(browser, work).text == "{}"
        assert browser.cookies == {}


class TestCookiesInConflict:
    """Row C-2: two live sessions presented at once."""

    def both(self) -> tuple[Site, dict[str, Any]]:
        site = Site(store=MemoryStore())
        one, two = site.browser(), site.browser()
        site.run(one, put(a=1))
        site.run(two, login)
        return site, {
            "HTTP_COOKIE": f"session={one.cookies['session']}; session={two.cookies['session']}"
        }

    def test_c2_none_is_read(self) -> None:
        site, both = self.both()

        assert site.run(site.browser(), read, **both).text == "{}"
        assert len(list(site.store.keys())) == 3

    @pytest.mark.parametrize(
        ("work", "left"),
        [
            (destroy, 0),
            (login, 2),
            (lambda s: setattr(s, "owner", "x"), 2),
            (lambda s: setattr(s, "owner", None), 0),
        ],
    )
    def test_c2_signing_in_or_out_ends_all_that_were_presented(self, work: Any, left: int) -> None:
        site, both = self.both()
        browser = site.browser()

        site.run(browser, work, **both)

        assert len(list(site.store.keys())) == left
        assert bool(browser.cookies) is bool(left)

    def test_c2_a_plain_write_begins_a_fresh_one(self) -> None:
        site, both = self.both()
        browser = site.browser()

        site.run(browser, put(b=2), **both)

        assert site.run(browser, read).text == "{'b': 2}"
        assert len(list(site.store.keys())) == 4
        assert id_of(browser) not in both["HTTP_COOKIE"]


def test_an_untouched_request_asks_nobody() -> None:
    site = Site(store=(store := FaultyStore(MemoryStore())))
    browser = site.browser()
    site.run(browser, put(a=1))
    store.calls.clear()

    site.run(browser, nothing)

    assert not store.calls


class TestLikeThem:
    """More of the kind, found by the model checker."""

    def test_a_stream_that_answers_500_keeps_nothing_at_its_close_either(
        self, options: dict[str, Any]
    ) -> None:
        site = Site(**options)
        browser = site.browser()
        site.run(browser, put(a=1))

        def app(made: dict[str, Any], start_response: Any) -> Iterable[bytes]:
            made["wsgi_sessions.session"]["b"] = 2
            start_response("500 Oh", [("Content-Type", "text/plain")])
            return iter([b"first", b"second"])

        wrapped = SessionMiddleware(app, secret_key=SECRET, clock=site.clock, **options)
        call(wrapped, environ(cookie=f"session={browser.cookies['session']}"))

        assert site.run(browser, read).text == "{'a': 1}"

    def test_a_save_after_a_500_began_commits_nothing_of_before(
        self, options: dict[str, Any]
    ) -> None:
        site = Site(**options)
        browser = site.browser()
        site.run(browser, put(a=1))

        def app(made: dict[str, Any], start_response: Any) -> Iterable[bytes]:
            session = made["wsgi_sessions.session"]
            session.login("u", keep=False)
            start_response("500 Oh", [("Content-Type", "text/plain")])

            def body() -> Iterator[bytes]:
                yield b"first"
                session.increment("n")
                yield b"second"

            return body()

        wrapped = SessionMiddleware(app, secret_key=SECRET, clock=site.clock, **options)
        call(wrapped, environ(cookie=f"session={browser.cookies['session']}"))

        seen = site.run(browser, lambda s: (s.owner, sorted(s.items()))).text
        assert seen == "(None, [('a', 1), ('n', 1)])"
        assert len(list(site.store.keys())) == 1

    def test_a_login_that_was_too_slow_leaves_the_faster_ones_entry(
        self, options: dict[str, Any]
    ) -> None:
        site = Site(**options)
        browser = site.browser()
        site.run(browser, lambda s: s.login("u"))
        tab = Browser(site.middleware)
        tab.cookies = dict(browser.cookies)

        def slow(session: Session) -> None:
            session.login("v")
            site.routes["/login"] = lambda s: s.login("v")
            between(site, "update", lambda: tab.get("/login"))

        site.run(browser, slow)

        registry = site.middleware.registry
        assert site.run(tab, whose).text == "v"
        assert registry.count("v") == registry.revoke_all("v") == 2
        assert site.run(tab, whose).text == "None"

    def test_a_login_that_was_revoked_meanwhile_doesnt_go_on_into_a_fresh_session(
        self, options: dict[str, Any]
    ) -> None:
        site = Site(**options)
        registry = site.middleware.registry
        browser = site.browser()
        site.run(browser, put(b=9))
        between(site, "update", lambda: registry.revoke_all("u"))

        response = site.run(browser, lambda s: s.login("u"))

        assert response.set_cookie is None
        assert site.run(browser, whose).text == "None"
        assert registry.count("u") == 0

    def test_without_rotate_after_a_clock_that_is_set_back_rotates_nothing(
        self, options: dict[str, Any]
    ) -> None:
        site = Site(**options, rolling=True)
        browser = site.browser()
        site.run(browser, put(a=1))
        before = browser.cookies["session"]
        site.clock.advance(-500)
        site.run(browser, put(a=2))

        assert browser.cookies["session"] == before

    @pytest.mark.parametrize("operation", ["insert", "update"])
    def test_a_login_whose_answer_was_lost_ends_with_a_failed_answer_and_gives_its_place_back(
        self, options: dict[str, Any], operation: str
    ) -> None:
        site = Site(**options, max_per_owner=1, when_full="refuse")
        browser = site.browser()
        if operation == "update":
            site.run(browser, put(a=1))
        store = site.store
        assert isinstance(store, FaultyStore)

        def work(session: Session) -> None:
            session.login("u")
            store.fail(operation, answer_lost=True)

        assert site.run(browser, work).code == 503
        store.recover()

        # Nobody has the ID of what the store was left with.
        assert site.middleware.registry.count("u") == 0
        assert [*site.middleware.registry] == []
        assert site.run(site.browser(), login_as("u")).code == 200

    def test_a_block_of_session_of_that_raises_gives_its_place_back(self) -> None:
        site = Site(store=MemoryStore(), max_per_owner=1, when_full="refuse")
        with (
            pytest.raises(ZeroDivisionError),
            session_of(site.middleware, {}) as session,
        ):
            session.login("u")
            raise ZeroDivisionError

        assert list(site.store.keys()) == []


def test_e2_a_process_with_a_shorter_lifetime_leaves_the_others_listed(
    options: dict[str, Any],
) -> None:
    long = Site(**options, lifetime=Lifetime(30 * DAY, 30 * DAY))
    short = Site(**options, lifetime=Lifetime(3600, 3600), clock=long.clock)
    first, second = long.browser(), short.browser()
    long.run(first, login)
    short.run(second, login)
    long.clock.advance(2 * 3600)
    long.middleware.registry.purge_expired()

    assert long.run(first, whose).text == "42"
    assert long.middleware.registry.revoke_all("42") == 1
    assert long.run(first, whose).text == "None"


def damaged_under_encryption() -> tuple[Site, Browser]:
    """A browser whose session, encrypted in memory, has a field that can't be decrypted."""
    store = MemoryStore()
    site = Site(store=store, encryption_keys=[os.urandom(32)])
    browser = site.browser()
    site.run(browser, put(n=1, a=1))
    (key,) = store.keys()
    store.update(key, Changes(set={"n": b"damaged"}))
    return site, browser


def test_e13_a_damaged_field_that_is_overwritten_under_encryption() -> None:
    site, browser = damaged_under_encryption()

    for ask in (
        overwritten_and(lambda s: s.modified),
        overwritten_and(lambda s: s.expires_at),
    ):
        assert site.run(browser, ask).text == "{'n': 2}"
        assert site.kinds[-2:] == ["corrupt_record", "created"]


def test_e13_what_is_put_in_after_damage_was_cleared_begins_a_fresh_session_too() -> None:
    site, browser = damaged_under_encryption()

    def work(session: Session) -> str:
        session.clear()
        session["n"] = 2
        return str((session.modified, dict(session)))

    assert site.run(browser, work).text == "(True, {'n': 2})"
    assert site.kinds[-2:] == ["corrupt_record", "created"]


def test_e13_a_save_that_only_meets_damage_begins_nothing() -> None:
    site, browser = damaged_under_encryption()
    store = site.store
    (key,) = store.keys()

    def work(session: Session) -> str:
        session.regenerate()
        session.save()
        return str(dict(session))

    assert site.run(browser, work).text == "{}"
    assert list(store.keys()) == [key]


@pytest.mark.parametrize("saves", [False, True])
def test_e13_what_is_written_over_damage_begins_a_fresh_session(saves: bool) -> None:
    site, browser = damaged_under_encryption()

    def work(session: Session) -> None:
        session["b"] = 2
        if saves:
            session.save()

    site.run(browser, work)

    assert site.kinds.count("corrupt_record") == 1
    assert site.run(browser, read).text == repr({"b": 2})
    assert len(list(site.store.keys())) == 2


@pytest.mark.parametrize("when_full", ["end_oldest", "refuse"])
@pytest.mark.parametrize("saves", [False, True])
def test_e13_a_login_that_meets_a_damaged_field_at_its_commit_signs_in(
    saves: bool, when_full: str
) -> None:
    store = MemoryStore()
    site = Site(store=store, encryption_keys=[os.urandom(32)], max_per_owner=1, when_full=when_full)
    browser = site.browser()
    site.run(browser, put(n=1, a=1))
    (key,) = store.keys()
    store.update(key, Changes(set={"n": b"damaged"}))

    def work(session: Session) -> None:
        session["n"] = 2
        session["cart"] = ["tea"]
        session.login("42")
        session.label["device"] = "phone"
        if saves:
            session.save()

    site.run(browser, work)

    assert site.run(browser, whose).text == "42"
    assert site.run(browser, read).text == str({"cart": ["tea"], "n": 2})
    assert store.load(key) is None
    (info,) = site.middleware.registry.sessions("42")
    assert info.label["device"] == "phone"
    assert "corrupt_record" in site.kinds


def overwritten_and(ask: Any) -> Any:
    def work(session: Session) -> str:
        session["n"] = 2
        ask(session)
        return str(dict(session))

    return work


def sign_in_with_data(session: Session) -> None:
    session.login("ada")
    session["n"] = 1


class TestAnOwnerWhoChangesWithDamage:
    """What is said of the owner counts, though a field of the session can't be read."""

    @pytest.fixture(params=["plain", "encrypted"])
    def signed_in(self, request: pytest.FixtureRequest) -> tuple[Site, Browser]:
        keys = [os.urandom(32)] if request.param == "encrypted" else ()
        site = Site(store=MemoryStore(), encryption_keys=keys)
        browser = site.browser()
        site.run(browser, sign_in_with_data)
        (key,) = site.middleware.registry
        site.store.update(key, Changes(set={"n": b"\xff"}))
        return site, browser

    @pytest.mark.parametrize("saves", [False, True])
    @pytest.mark.parametrize("writes", [False, True])
    def test_e13_a_sign_out_signs_out(
        self, signed_in: tuple[Site, Browser], *, saves: bool, writes: bool
    ) -> None:
        site, browser = signed_in
        before = twin(browser)

        def work(session: Session) -> None:
            session.owner = None
            session.get("n")
            if writes:
                session["b"] = 2
            if saves:
                session.save()

        site.run(browser, work)

        assert site.run(before, whose).text == "None"
        assert site.run(browser, read).text == ("{'b': 2}" if writes else "{}")
        assert site.middleware.registry.count("ada") == 0
        assert len(list(site.middleware.registry)) == (1 if writes else 0)

    def test_e13_so_it_does_if_nothing_was_read(self) -> None:
        site = Site(store=MemoryStore(), encryption_keys=[os.urandom(32)])
        browser = site.browser()
        site.run(browser, sign_in_with_data)
        (key,) = site.middleware.registry
        site.store.update(key, Changes(set={"n": b"\xff"}))

        response = site.run(browser, lambda s: setattr(s, "owner", None))

        assert "Max-Age=0" in str(response.set_cookie)
        assert list(site.middleware.registry) == []

    def test_e13_one_that_fails_leaves_all_as_it_was(self, signed_in: tuple[Site, Browser]) -> None:
        site, browser = signed_in

        def work(session: Session) -> None:
            session.owner = None
            session.get("n")

        site.status = "500 Oops"
        site.run(browser, work)
        site.status = "200 OK"

        assert site.run(browser, whose).text == "ada"

    @pytest.mark.parametrize("saves", [False, True])
    def test_e13_another_owner_has_a_fresh_session(
        self, signed_in: tuple[Site, Browser], *, saves: bool
    ) -> None:
        site, browser = signed_in
        before = twin(browser)

        def work(session: Session) -> None:
            session.owner = "eve"
            session.get("n")
            session["b"] = 2
            if saves:
                session.save()
            assert session.owner == "eve"

        site.run(browser, work)

        assert site.run(before, whose).text == "None"
        assert site.run(browser, whose).text == "eve"
        assert site.run(browser, read).text == "{'b': 2}"
        assert site.middleware.registry.count("ada") == 0
        (info,) = site.middleware.registry.sessions("eve")
        assert info.authenticated_at is None
        assert info.label
