"""Carrying sessions over: what becomes of a session of another system, and of its cookie."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from acts import destroy, login_as, nothing, put, read, token, twin
from old_world import OldWorld
from wsgi import SECRET, Browser, Site
from wsgi_sessions import (
    ConfigurationError,
    Cookie,
    Lifetime,
    Session,
    SessionMiddleware,
    StoreError,
)
from wsgi_sessions.carry_over import Beaker
from wsgi_sessions.data.codec import JSONCodec
from wsgi_sessions.engine.carrying import Old
from wsgi_sessions.engine.owners import Limits, OwnerLists
from wsgi_sessions.record import Changes
from wsgi_sessions.stores import ClientSideStore, MemoryStore
from wsgi_sessions.testing import FakeClock, FaultyStore

OTHER = "another secret of at least thirty-two bytes, newer"
TEA = "{'cart': ['tea']}"


class Move:
    """A site that carries over, the old world, and browsers that come from there."""

    def __init__(self, *sources: OldWorld, **options: Any) -> None:
        self.old = sources[0] if sources else OldWorld()
        self.store = options.setdefault("store", FaultyStore(MemoryStore()))
        self.site = Site(carry_over=list(sources) or [self.old], **options)
        self.now = self.site.clock()

    def browser(self, *values: str, name: str = "old", **extra: Any) -> Browser:
        """A browser that has these old cookies, all of one name."""
        browser = self.site.browser(**extra)
        browser.cookies[name] = f"; {name}=".join(values)
        return browser

    def says(self, browser: Browser, **extra: Any) -> str:
        return self.site.run(browser, read, **extra).text

    def details(self, kind: str) -> list[str]:
        return [event.detail for event in self.site.events if event.kind == kind]

    @property
    def keys(self) -> set[str]:
        return set(self.store.keys())

    def handles(self) -> list[str]:
        return list(self.site.middleware.registry)


def fresh(session: Session) -> bool:
    return session.is_fresh(timedelta(days=365))


def signed_out(session: Session) -> None:
    session.owner = None


def emptied(session: Session) -> None:
    session.owner = None
    session.clear()


def emptied_and_saved(session: Session) -> None:
    emptied(session)
    session.save()


def own(browser: Browser) -> str:
    return browser.cookies["session"]


class TestTheMove:
    def test_who_has_a_session_there_has_it_here(self) -> None:
        move = Move()
        browser = move.browser(move.old.put(fields={"cart": ["tea"], "n": 1}))

        assert move.says(browser) == "{'cart': ['tea'], 'n': 1}"

    def test_the_answer_hands_out_our_cookie_though_the_app_only_read(self) -> None:
        move = Move()
        browser = move.browser(move.old.put())

        answer = move.site.run(browser, read)

        assert (answer.set_cookie or "").startswith("session=")
        assert (answer.get("Cache-Control"), answer.get("Vary")) == ("no-store", "Cookie")

    def test_from_then_on_our_cookie_does_and_nobody_asks_there(self) -> None:
        move = Move()
        browser = move.browser(move.old.put())
        move.says(browser)
        asked = move.old.asked
        move.store.calls.clear()

        assert move.says(browser) == TEA
        assert (move.old.asked, dict(move.store.calls)) == (asked, {"load": 1})

    def test_a_request_that_does_not_touch_its_session_asks_nobody(self) -> None:
        move = Move()
        browser = move.browser(move.old.put())

        answer = move.site.run(browser, nothing)

        assert (move.old.asked, move.store.calls.total(), answer.set_cookie) == (0, 0, None)

    def test_a_browser_without_an_old_cookie_costs_nothing_more(self) -> None:
        move = Move()
        browser = move.site.browser()
        browser.cookies["other"] = "x"

        assert move.says(browser) == "{}"
        assert (move.old.asked, move.store.calls.total()) == (0, 0)

    @pytest.mark.parametrize("value", ["forged:1", "good:2", ""])
    def test_a_cookie_that_leads_to_nothing_is_no_session(self, value: str) -> None:
        move = Move()
        move.old.put("1")
        browser = move.browser(value)

        answer = move.site.run(browser, read)

        assert (answer.text, answer.set_cookie, move.site.kinds) == ("{}", None, [])

    def test_it_is_an_event(self) -> None:
        move = Move()
        browser = move.browser(move.old.put(owner="ada"))
        handle = move.site.run(browser, lambda session: session.handle).text

        (event,) = move.site.events
        assert (event.kind, event.owner, event.detail) == ("carried_over", "ada", "old")
        assert event.handle == handle

    def test_a_dead_token_of_ours_does_not_keep_it_from_coming(self) -> None:
        move = Move()
        browser = move.browser(move.old.put())
        browser.cookies["session"] = "not ours"

        assert move.says(browser) == TEA

    def test_a_live_token_of_ours_wins(self) -> None:
        move = Move()
        browser = move.site.browser()
        move.site.run(browser, put(a=1))
        browser.cookies["old"] = move.old.put()

        assert (move.says(browser), move.old.asked) == ("{'a': 1}", 0)

    def test_two_live_tokens_of_ours_are_a_conflict_and_nobody_is_asked(self) -> None:
        move = Move()
        one, two = move.site.browser(), move.site.browser()
        move.site.run(one, put(a=1))
        move.site.run(two, put(a=2))
        one.cookies["session"] += f"; session={own(two)}"
        one.cookies["old"] = move.old.put()

        assert (move.says(one), move.old.asked) == ("{}", 0)

    def test_a_client_that_sends_its_token_in_a_header_does_not_mean_its_cookies(self) -> None:
        move = Move(token_header="X-Session-Token")
        browser = move.browser(move.old.put())

        assert move.says(browser, HTTP_X_SESSION_TOKEN="") == "{}"

    def test_the_old_cookie_may_have_the_name_of_ours(self) -> None:
        move = Move(OldWorld(cookie="session", delete_old=True))
        browser = move.browser(move.old.put(), name="session")

        assert move.says(browser) == TEA
        assert move.says(browser) == TEA
        assert browser.cookies.keys() == {"session"}

    def test_what_the_app_writes_in_that_request_is_kept(self) -> None:
        move = Move()
        browser = move.browser(move.old.put())
        move.site.run(browser, put(a=1))

        assert move.says(browser) == "{'a': 1, 'cart': ['tea']}"

    def test_an_app_that_fails_in_that_request_signs_nobody_out(self) -> None:
        move = Move()
        browser = move.browser(move.old.put())
        move.site.status = "500 Internal Server Error"
        move.says(browser)
        move.site.status = "200 OK"

        assert move.says(browser) == TEA

    def test_encryption_at_rest_covers_it(self) -> None:
        store = FaultyStore(MemoryStore())
        move = Move(store=store, encryption_keys=[os.urandom(32)])
        browser = move.browser(move.old.put(owner="ada"))

        assert [move.says(browser), move.says(twin(browser))] == [TEA, TEA]
        kept = [store.load(key) for key in store.keys()]  # noqa: SIM118 # a store is no mapping
        assert all(record is not None and record.notes[:1] == b"\xe1" for record in kept)
        move.site.run(browser, destroy)
        assert move.says(browser) == "{}"


class TestWhatGoesAlong:
    def session(self, move: Move, work: Callable[[Session], Any], **known: Any) -> str:
        return move.site.run(move.browser(move.old.put(**known)), work).text

    def test_the_owner_and_the_place_in_the_owners_list(self) -> None:
        move = Move()
        browser = move.browser(move.old.put(owner="ada"), HTTP_USER_AGENT="Old Browser")
        move.says(browser)

        (info,) = move.site.middleware.registry.sessions("ada")
        assert info.label == {"ip": "192.0.2.1", "user_agent": "Old Browser"}
        assert move.site.middleware.registry.revoke_all("ada") == 1
        assert move.says(browser) == "{}"

    def test_without_an_owner_it_is_in_no_list(self) -> None:
        move = Move()

        assert self.session(move, lambda session: (session.owner, session.label)) == "(None, {})"

    def test_the_time_of_creation(self) -> None:
        move = Move()
        made = move.now - 3600

        assert self.session(
            move, lambda session: session.created_at.timestamp(), created_at=made
        ) == str(made)

    def test_where_that_is_not_known_the_last_use_stands_in(self) -> None:
        move = Move()

        assert self.session(
            move, lambda session: session.created_at.timestamp(), used_at=move.now - 60
        ) == str(move.now - 60)

    @pytest.mark.parametrize("created_at", [None, 9e14])
    def test_else_now_as_for_a_time_in_the_future(self, created_at: float | None) -> None:
        move = Move()

        assert self.session(
            move, lambda session: session.created_at.timestamp(), created_at=created_at
        ) == str(move.now)

    @pytest.mark.parametrize(
        ("persistent", "cookie", "kept"),
        [(True, False, True), (False, True, False), (None, True, True), (None, False, False)],
    )
    def test_whether_the_cookie_outlives_the_browser(
        self, persistent: bool | None, cookie: bool, kept: bool
    ) -> None:
        move = Move(cookie=Cookie(persistent=cookie))
        browser = move.browser(move.old.put(persistent=persistent))

        answer = move.site.run(browser, read)

        assert ("Max-Age" in (answer.set_cookie or "")) == kept

    def test_it_is_not_fresh_and_not_new(self) -> None:
        move = Move()

        def look(session: Session) -> tuple[Any, ...]:
            return fresh(session), session.authenticated_at, session.is_new

        assert self.session(move, look, owner="ada") == "(False, None, False)"


class TestTheMoveExtendsNothing:
    def test_it_ends_when_it_would_have_ended_there(self) -> None:
        move = Move()
        browser = move.browser(move.old.put(expires_at=move.now + 100))
        move.says(browser)
        move.site.clock.advance(100)

        assert move.says(browser) == "{}"

    def test_unless_it_is_used_however_soon(self) -> None:
        move = Move()
        browser = move.browser(move.old.put(expires_at=move.now + 10))
        move.says(browser)
        move.site.clock.advance(2)
        move.says(browser)
        move.site.clock.advance(60 * 60)

        assert move.says(browser) == TEA

    def test_our_idle_limit_counts_from_the_move(self) -> None:
        move = Move(lifetime=Lifetime(idle=600))
        browser = move.browser(move.old.put(expires_at=move.now + 1e6, used_at=move.now - 5000))
        assert move.says(browser) == TEA
        move.site.clock.advance(600)

        assert move.says(browser) == "{}"

    def test_our_absolute_limit_counts_from_its_creation(self) -> None:
        move = Move(lifetime=Lifetime(idle=None, absolute=1000))
        browser = move.browser(move.old.put(created_at=move.now - 900))
        assert move.says(browser) == TEA
        move.site.clock.advance(100)

        assert move.says(browser) == "{}"

    def test_what_our_absolute_limit_has_ended_already_stays_behind(self) -> None:
        move = Move(lifetime=Lifetime(absolute=1000))
        browser = move.browser(move.old.put(created_at=move.now - 1000))

        assert move.says(browser) == "{}"
        assert move.details("left_behind") == ["old: it is older than lifetime allows here"]

    def test_a_passive_request_carries_over_too_and_hands_out_the_cookie(self) -> None:
        move = Move(passive=lambda environ: True)
        browser = move.browser(move.old.put())
        move.says(browser)

        assert "session" in browser.cookies


class TestWhatStaysBehind:
    def behind(self, move: Move, browser: Browser) -> list[str]:
        assert move.says(browser) == "{}"
        assert move.keys == set()
        return move.details("left_behind")

    def test_what_the_source_says(self) -> None:
        move = Move()
        move.old.sessions["1"] = "a Decimal of the app's own"

        assert self.behind(move, move.browser("good:1")) == ["old: a Decimal of the app's own"]

    def test_what_is_too_large(self) -> None:
        move = Move(max_bytes=100)
        browser = move.browser(move.old.put(fields={"a": "x" * 100}))

        assert self.behind(move, browser) == ["old: it has more than max_bytes, which is 100"]

    def test_what_the_apps_codec_can_not_keep_without_telling_the_value(self) -> None:
        class Picky(JSONCodec):
            def encode(self, value: Any) -> bytes:
                raise TypeError(f"I don't like {value!r}")

        move = Move(codec=Picky())
        browser = move.browser(move.old.put(fields={"a": "hush"}))

        assert self.behind(move, browser) == ["old: the app's codec can't keep the field 'a'"]


def renew(session: Session) -> None:
    session.regenerate()


class TestTheOldCookieAfterwards:
    def test_it_leads_to_where_the_session_is_now(self) -> None:
        move = Move()
        one, two = move.browser(value := move.old.put()), move.browser(value)
        move.says(one)
        move.site.run(one, put(a=1))

        assert move.says(two) == "{'a': 1, 'cart': ['tea']}"
        assert own(one) == own(two)
        assert move.details("carried_over") == ["old"]

    @pytest.mark.parametrize("work", [destroy, login_as("ada"), renew])
    @pytest.mark.parametrize("at_once", [False, True], ids=["later", "in the first request"])
    def test_it_leads_nowhere_once_the_session_has_ended_or_another_id(
        self, work: Callable[[Session], Any], at_once: bool
    ) -> None:
        move = Move()
        browser, other = move.browser(value := move.old.put()), move.browser(value)
        if not at_once:
            move.says(browser)
        move.site.run(browser, work)

        assert move.says(other) == "{}"
        assert move.says(browser) == ("{}" if work is destroy else TEA)

    def test_it_leads_nowhere_after_a_rotation(self) -> None:
        move = Move(rotate_after=3600)
        browser, other = move.browser(value := move.old.put()), move.browser(value)
        move.says(browser)
        move.site.clock.advance(3600)

        assert [move.says(browser), move.says(browser)] == [TEA, TEA]
        assert move.says(other) == "{}"

    def test_it_leads_nowhere_after_the_session_expired(self) -> None:
        move = Move(lifetime=Lifetime(idle=600))
        browser = move.browser(move.old.put())
        move.says(browser)
        move.site.clock.advance(600)

        assert [move.says(browser), move.says(browser)] == ["{}", "{}"]
        move.site.middleware.registry.purge_expired()
        assert move.says(browser) == "{}"

    def test_it_leads_nowhere_after_the_session_was_revoked(self) -> None:
        move = Move()
        browser = move.browser(move.old.put())
        handle = move.site.run(browser, lambda session: session.handle).text

        assert move.site.middleware.registry.revoke(handle)
        assert move.says(browser) == "{}"

    def test_who_signed_out_signs_in_as_ever(self) -> None:
        move = Move()
        browser = move.browser(move.old.put())
        move.site.run(browser, destroy)
        move.site.run(browser, login_as("bob"))
        move.site.run(browser, put(a=1))

        assert move.says(browser) == "{'a': 1}"

    def test_a_store_that_makes_room_forgets_no_tombstone(self) -> None:
        store = MemoryStore(max_sessions=2)
        move = Move(store=store)
        browser = move.browser(move.old.put())
        move.site.run(browser, destroy)
        for _ in range(5):
            move.site.run(move.site.browser(), put(a=1))

        assert move.says(browser) == "{}"

    def test_a_damaged_tombstone_is_one_all_the_same(self) -> None:
        store = FaultyStore(MemoryStore())
        move = Move(store=store)
        browser = move.browser(value := move.old.put())
        move.says(browser)
        session = move.handles()
        (stone,) = move.keys - set(session)
        for notes in (b"short", b"\x02" + bytes(64)):
            store.update(stone, Changes(notes=notes))
            assert move.says(move.browser(value)) == "{}"

    def test_a_damaged_session_is_none(self) -> None:
        store = FaultyStore(MemoryStore())
        move = Move(store=store)
        browser = move.browser(value := move.old.put())
        move.says(browser)
        store.update(move.handles()[0], Changes(notes=b"damaged"))

        assert move.says(move.browser(value)) == "{}"

    def test_the_tombstone_is_no_session_to_anybody(self) -> None:
        move = Move()
        browser = move.browser(move.old.put())
        move.says(browser)
        (stone,) = move.keys - set(move.handles())
        registry = move.site.middleware.registry

        assert (registry.get(stone), registry.revoke(stone)) == (None, False)
        registry.purge_expired()
        assert stone in move.keys

    @pytest.mark.parametrize(
        ("until", "expires_in", "lasts"),
        [(None, None, 400 * 86400), (None, 500 * 86400, 500 * 86400), (5000, 10, 5000), (10, 99, 99)],
    )  # fmt: skip
    def test_a_tombstone_lasts_as_long_as_the_old_cookie_may_lead_anywhere(
        self, until: int | None, expires_in: int | None, lasts: int
    ) -> None:
        start = 1_800_000_000.0
        end = None if until is None else datetime.fromtimestamp(start + until, UTC)
        move = Move(OldWorld(until=end))
        expires_at = None if expires_in is None else start + expires_in
        browser = move.browser(move.old.put(expires_at=expires_at))
        move.says(browser)
        (stone,) = move.keys - set(move.handles())

        record = move.store.load(stone)
        assert record is not None
        assert record.expires_at == start + lasts

    def test_over_http_it_does_not_lead_to_a_session_begun_over_https(self) -> None:
        move = Move()
        browser = move.browser(value := move.old.put())
        move.says(browser, **{"wsgi.url_scheme": "https"})

        assert move.says(move.browser(value)) == "{}"
        assert "insecure" in move.site.kinds


class TestRequestsWhoseCookieCouldNotBeSet:
    def test_over_http_a_site_of_secure_cookies_carries_nothing_over_and_says_so(self) -> None:
        move = Move(cookie=Cookie(secure=True))
        browser = move.browser(move.old.put())

        assert (move.says(browser), move.keys) == ("{}", set())
        assert move.site.kinds == ["insecure"]
        assert move.says(browser, **{"wsgi.url_scheme": "https"}) == TEA

    def test_without_an_old_cookie_there_is_nothing_to_say(self) -> None:
        move = Move(cookie=Cookie(secure=True))

        assert (move.says(move.site.browser()), move.site.kinds) == ("{}", [])

    def test_after_the_headers_it_comes_over_all_the_same_and_the_next_answer_has_the_cookie(
        self,
    ) -> None:
        old = OldWorld(delete_old=True)

        def app(environ: dict[str, Any], start_response: Any) -> Any:
            start_response("200 OK", [("Content-Type", "text/plain")])
            yield b"-"
            yield repr(dict(environ["wsgi_sessions.session"])).encode()

        browser = Browser(SessionMiddleware(app, secret_key=SECRET, carry_over=[old]))
        browser.cookies["old"] = old.put()

        assert [browser.get().text, browser.get().text] == ["-" + TEA] * 2
        assert browser.cookies.keys() == {"old"}


class TestAFailingStoreIsNotNoSession:
    def test_the_old_one(self) -> None:
        move = Move()
        browser = move.browser(move.old.put())
        move.old.fails = True

        answer = move.site.run(browser, read)

        assert (answer.code, answer.set_cookie, move.site.kinds) == (503, None, ["store_error"])
        move.old.fails = False
        assert move.says(browser) == TEA

    @pytest.mark.parametrize("lost", [False, True], ids=["refused", "answer lost"])
    @pytest.mark.parametrize("call", range(9))
    @pytest.mark.parametrize("owner", [None, "ada"])
    def test_ours_at_each_call(self, owner: str | None, call: int, lost: bool) -> None:
        store = FaultyStore(MemoryStore())
        move = Move(store=store)
        browser = move.browser(move.old.put(owner=owner))
        calls: list[bool] = []
        over: list[bool] = []

        def count(*_: object, **__: object) -> None:
            calls.append(True)
            if len(calls) == call + 1 and not over:
                store.fail("load", "insert", "update", "delete", answer_lost=lost)

        for operation in ("load", "insert", "update", "delete"):
            store.before(operation, count)
        answer = move.site.run(browser, read)
        store.recover()
        over.append(True)

        failed = move.details("store_error")
        # Where it is known already, only the cookie has to wait.
        only_renewal = all(detail.startswith("renew") for detail in failed)
        assert answer.code == (200 if only_renewal else 503)
        assert (answer.set_cookie is None) == bool(failed)
        assert move.says(browser) == TEA
        assert len(move.handles()) == 1
        move.site.run(browser, destroy)
        assert move.says(browser) == "{}"
        # Where it was the tombstone's answer that was lost, nobody knows that the move was made.
        assert move.details("carried_over") in ([], ["old"])

    def test_a_session_can_be_reloaded_when_the_old_store_is_back(self) -> None:
        move = Move()
        browser = move.browser(move.old.put())

        def patient(session: Session) -> str:
            move.old.fails = True
            with pytest.raises(StoreError):
                len(session)
            move.old.fails = False
            session.reload()
            return read(session)

        assert move.site.run(browser, patient).text == TEA
        assert "session" in browser.cookies


class TestRaces:
    """Another request has its turn at a certain step of the first one."""

    def race(self, move: Move, browser: Browser, step: str, other: Callable[[], object]) -> str:
        done: list[bool] = []

        def hook(*_: object, **__: object) -> None:
            if not done:
                done.append(True)
                other()

        if step == "find":
            move.old.before_answer = hook
        else:
            when, operation = step.split()
            getattr(move.store, when)(operation, hook)
        return move.says(browser)

    @pytest.mark.parametrize(
        "step", ["before load", "after load", "find", "before insert", "after insert"]
    )  # fmt: skip
    @pytest.mark.parametrize("owner", [None, "ada"])
    def test_first_requests_meet_in_one_session(self, step: str, owner: str | None) -> None:
        move = Move()
        one, two = move.browser(value := move.old.put(owner=owner)), move.browser(value)

        said = self.race(move, one, step, lambda: move.site.run(two, put(a=1)))

        assert TEA[1:-1] in said
        assert move.says(one) == move.says(two) == "{'a': 1, 'cart': ['tea']}"
        assert own(one) == own(two)
        assert len(move.handles()) == 1
        assert move.details("carried_over") == ["old"]

    @pytest.mark.parametrize("step", ["before load", "after load", "find", "before insert"])
    @pytest.mark.parametrize("owner", [None, "ada"])
    @pytest.mark.parametrize("end", [destroy, login_as("bob"), renew])
    def test_a_slow_one_does_not_bring_back_what_was_ended_meanwhile(
        self, step: str, owner: str | None, end: Callable[[Session], Any]
    ) -> None:
        move = Move()
        slow, quick = move.browser(value := move.old.put(owner=owner)), move.browser(value)
        thief: list[Browser] = []

        def use_and_end() -> None:
            move.says(quick)
            thief.append(twin(quick))
            move.site.run(quick, end)

        assert self.race(move, slow, step, use_and_end) == "{}"
        assert move.says(move.browser(value)) == "{}"
        assert move.says(thief[0]) == "{}"
        assert len(move.handles()) == (end is not destroy)
        registry = move.site.middleware.registry
        assert registry.count("ada") == (end is renew and owner == "ada")

    def test_a_token_that_was_signed_out_is_dead_even_while_the_slow_one_has_inserted(self) -> None:
        move = Move()
        slow, quick = move.browser(value := move.old.put()), move.browser(value)
        seen: list[str] = []

        def end() -> None:
            move.says(quick)
            thief = twin(quick)
            move.site.run(quick, destroy)

            def look(*_: object) -> None:
                if not seen:
                    seen.append("")
                    seen[:] = [move.says(thief), move.says(move.browser(value))]

            move.store.after("insert", look)

        assert self.race(move, slow, "find", end) == "{}"
        assert seen == ["{}", "{}"]
        assert move.handles() == []

    @pytest.mark.parametrize("step", ["after insert", "before insert"])
    def test_revoke_all_during_the_move_holds(self, step: str) -> None:
        move = Move()
        browser = move.browser(move.old.put(owner="ada"))
        registry = move.site.middleware.registry
        # The first insert makes the owner's list, the second the session.
        calls: list[bool] = []

        def at_the_session(*_: object) -> None:
            calls.append(True)
            if len(calls) == 2:
                registry.revoke_all("ada")

        getattr(move.store, step.split(maxsplit=1)[0])("insert", at_the_session)

        assert move.says(browser) == "{}"
        assert move.says(browser) == "{}"
        assert (move.handles(), registry.count("ada")) == ([], 0)
        assert "revoked" in move.site.kinds

    def test_another_request_may_have_deleted_the_old_record_meanwhile(self) -> None:
        move = Move(OldWorld(delete_old=True))
        one, two = move.browser(value := move.old.put()), move.browser(value)

        assert self.race(move, one, "after load", lambda: move.says(two)) == TEA
        assert move.old.sessions == {}

    def test_an_entry_that_can_not_be_taken_out_is_left_to_be_healed(self) -> None:
        move = Move()
        slow, quick = move.browser(value := move.old.put(owner="ada")), move.browser(value)

        def fail(key: str, *, if_version: int | None = None) -> None:
            move.store.fail("load")

        def end() -> None:
            move.site.run(quick, destroy)
            move.store.after("delete", fail)

        self.race(move, slow, "find", end)
        move.store.recover()

        assert move.handles() == []
        assert move.details("store_error")[0].startswith("take out: ")


class TestSecrets:
    def test_an_older_secret_finds_what_was_carried_over_under_it(self) -> None:
        store = MemoryStore()
        before = Move(store=store)
        browser = before.browser(value := before.old.put())
        before.says(browser)
        after = Move(before.old, store=store, secret_key=[OTHER, SECRET])

        assert after.says(after.browser(value)) == TEA
        assert len(after.handles()) == 1

    def test_without_it_the_old_cookie_leads_nowhere(self) -> None:
        store = MemoryStore()
        before = Move(store=store)
        before.says(before.browser(value := before.old.put()))
        after = Move(before.old, store=store, secret_key=OTHER)

        assert after.says(after.browser(value)) == "{}"
        assert after.details("carried_over") == []

    def test_the_store_does_not_hold_what_would_open_the_session(self) -> None:
        move = Move()
        browser = move.browser(value := move.old.put("an-old-secret-id"))
        move.says(browser)
        session_id = own(browser).partition(".")[0].encode()

        for key in move.keys:
            record = move.store.load(key)
            assert record is not None
            assert session_id not in record.notes
            assert value.encode() not in record.notes


class TestSeveral:
    def test_the_first_source_that_knows_one_wins(self) -> None:
        first, second = OldWorld("first", cookie="a"), OldWorld("second", cookie="b")
        move = Move(first, second)
        browser = move.site.browser()
        browser.cookies.update(b=second.put(fields={"from": 2}), a=first.put(fields={"from": 1}))

        assert (move.says(browser), second.asked) == ("{'from': 1}", 0)

    def test_one_that_knows_none_lets_the_next_be_asked(self) -> None:
        first, second = OldWorld("first", cookie="a"), OldWorld("second", cookie="b")
        move = Move(first, second)
        browser = move.site.browser()
        browser.cookies.update(a="good:9", b=second.put(fields={"from": 2}))

        assert move.says(browser) == "{'from': 2}"

    def test_ids_of_two_systems_are_two(self) -> None:
        first, second = OldWorld("first", cookie="a"), OldWorld("second", cookie="b")
        move = Move(first, second)
        first.put(fields={"from": 1}), second.put(fields={"from": 2})

        said = [move.says(move.browser("good:1", name=name)) for name in "ab"]
        assert said == ["{'from': 1}", "{'from': 2}"]

    def test_of_several_cookies_of_one_name_the_first_good_one_counts(self) -> None:
        move = Move()
        good = move.old.put()

        assert move.says(move.browser("forged:1", good)) == TEA

    @pytest.mark.parametrize("sign_out", [destroy, emptied, emptied_and_saved])
    def test_signing_out_ends_all_that_the_browser_showed(
        self, sign_out: Callable[[Session], object]
    ) -> None:
        first, second = (
            OldWorld("first", cookie="a"),
            OldWorld("second", cookie="b", delete_old=True),
        )
        move = Move(first, second)
        browser = move.site.browser()
        browser.cookies.update(a=first.put(owner="ada"), b=second.put(owner="bob"))
        move.site.run(browser, sign_out)

        assert move.says(browser) == "{}"
        assert second.sessions == {}

    @pytest.mark.parametrize("sign_out", [destroy, signed_out, emptied, emptied_and_saved])
    def test_signing_out_of_ours_ends_an_old_one_that_was_not_carried_over(
        self, sign_out: Callable[[Session], object]
    ) -> None:
        move = Move()
        browser = move.site.browser()
        move.site.run(browser, login_as("ada"))
        browser.cookies["old"] = move.old.put()
        move.site.run(browser, sign_out)

        assert move.says(browser) == "{}"

    @pytest.mark.parametrize("sign_out", [destroy, signed_out, emptied, emptied_and_saved])
    def test_and_one_that_was_by_another_browser(
        self, sign_out: Callable[[Session], object]
    ) -> None:
        move = Move()
        value = move.old.put(owner="ada")
        move.says(move.browser(value))
        browser = move.site.browser()
        move.site.run(browser, login_as("eve"), HTTP_COOKIE="")
        browser.cookies["old"] = value
        move.site.run(browser, sign_out)

        assert (move.handles(), move.says(browser)) == ([], "{}")

    def test_and_even_one_that_would_be_left_behind(self) -> None:
        move = Move()
        move.old.sessions["1"] = "too odd"
        browser = move.browser("good:1")
        move.site.run(browser, destroy)
        move.old.put("1")

        assert move.says(browser) == "{}"

    def test_but_cookies_of_no_session_fill_no_store(self) -> None:
        move = Move()
        move.site.run(move.browser("good:no-such-session", "forged:x"), destroy)

        assert move.keys == set()

    @pytest.mark.parametrize("sign_out", [destroy, signed_out, emptied, emptied_and_saved])
    def test_an_old_store_that_fails_is_told_to_whoever_signs_out(
        self, sign_out: Callable[[Session], object]
    ) -> None:
        move = Move()
        browser = move.site.browser()
        move.site.run(browser, login_as("ada"))
        browser.cookies["old"] = move.old.put()
        move.old.fails = True

        assert move.site.run(browser, sign_out).code == 503
        move.old.fails = False
        assert move.site.run(browser, sign_out).code == 200
        assert move.says(browser) == "{}"

    @pytest.mark.parametrize("emptying", [lambda s: s.pop("flash"), lambda s: s.take("flash")])
    def test_whoever_was_not_signed_in_does_not_sign_out(
        self, emptying: Callable[[Session], object]
    ) -> None:
        move = Move(OldWorld(delete_old=True))
        browser = move.site.browser()
        move.site.run(browser, put(flash="hello"))
        browser.cookies["old"] = move.old.put(owner="ada")
        move.old.fails = True
        assert move.site.run(browser, emptying).text == "hello"
        move.old.fails = False

        assert move.says(browser) == TEA


class TestUntil:
    def source(self, **options: Any) -> OldWorld:
        return OldWorld(until=datetime.fromtimestamp(1_800_000_100, UTC), **options)

    def test_from_then_on_nothing_is_carried_over_and_nobody_asked(self) -> None:
        move = Move(self.source())
        browser = move.browser(move.old.put())
        move.site.clock.advance(100)

        assert (move.says(browser), move.old.asked) == ("{}", 0)
        assert move.store.calls.total() == 0

    def test_what_was_carried_over_lives_on(self) -> None:
        move = Move(self.source())
        browser = move.browser(move.old.put())
        move.says(browser)
        move.site.clock.advance(100)

        assert move.says(browser) == TEA

    def test_a_middleware_that_is_made_later_says_that_the_source_can_go(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        def app(environ: Any, start_response: Any) -> Any:
            raise NotImplementedError

        source = self.source()
        for now in (1_800_000_099.0, 1_800_000_100.0):
            SessionMiddleware(app, secret_key=SECRET, carry_over=[source], clock=FakeClock(now))

        (said,) = [record.getMessage() for record in caplog.records]
        assert "Nothing is carried over from old any more" in said


class TestDeleteOld:
    def test_the_old_record_goes_and_the_old_cookie_expires(self) -> None:
        move = Move(OldWorld(delete_old=True))
        browser = move.browser(move.old.put())

        assert move.says(browser) == TEA
        assert (len(move.old.sessions), set(browser.cookies)) == (0, {"session"})
        assert move.says(browser) == TEA

    def test_without_it_both_stay_so_that_the_old_app_can_be_put_back(self) -> None:
        move = Move()
        browser = move.browser(value := move.old.put())
        answer = move.site.run(browser, read)

        assert (set(move.old.sessions), browser.cookies["old"]) == ({"1"}, value)
        assert len(answer.all("Set-Cookie")) == 1

    def test_a_browser_whose_answer_was_lost_is_still_signed_in(self) -> None:
        move = Move(OldWorld(delete_old=True))
        value = move.old.put()
        move.says(move.browser(value))

        assert move.says(move.browser(value)) == TEA

    @pytest.mark.parametrize("work", [read, put(n=1)], ids=["read", "put"])
    def test_the_old_cookie_stays_where_our_store_fails_before_the_answer(
        self, work: Callable[[Session], Any]
    ) -> None:
        move = Move(OldWorld(delete_old=True))
        browser = move.browser(move.old.put())

        def and_fail(session: Session) -> None:
            work(session)
            move.store.fail("load", "update")

        assert move.site.run(browser, and_fail).all("Set-Cookie") == []
        move.store.recover()
        assert move.says(browser) == TEA
        assert set(browser.cookies) == {"session"}

    def test_an_old_store_that_can_not_delete_keeps_nobody_out_and_is_asked_again(self) -> None:
        move = Move(OldWorld(delete_old=True))
        browser = move.browser(value := move.old.put())

        def fail() -> None:
            move.old.fails = True

        move.old.before_answer = fail
        assert move.says(browser) == TEA
        assert move.details("store_error")[0].startswith("delete in old: ")
        assert set(move.old.sessions) == {"1"}
        move.old.fails = False
        move.says(move.browser(value))
        assert move.old.sessions == {}

    @pytest.mark.parametrize(
        ("cookie", "name", "attributes"),
        [
            (Cookie("ours"), "old", "HttpOnly; Path=/; SameSite=Lax"),
            (Cookie("ours", domain="example.org"), "old", "Domain=example.org; HttpOnly; Path=/"),
            (Cookie("ours", path="/x"), "__Host-old", "Secure; HttpOnly; Path=/; SameSite=Lax"),
        ],
    )
    def test_the_old_cookie_expires_with_the_attributes_of_ours_or_of_its_prefix(
        self, cookie: Cookie, name: str, attributes: str
    ) -> None:
        move = Move(OldWorld(cookie=name, delete_old=True), cookie=cookie)
        browser = move.browser(move.old.put(), name=name)
        move.site.routes["/x"] = read

        _, expiring = browser.get("/x").all("Set-Cookie")

        assert expiring.startswith(f"{name}=; Expires=Thu, 01 Jan 1970 00:00:00 GMT; Max-Age=0")
        assert attributes in expiring


class TestMaxPerOwner:
    def test_one_too_many_ends_the_least_recently_used(self) -> None:
        move = Move(max_per_owner=1)
        there = move.site.browser()
        move.site.run(there, login_as("ada"))
        move.site.clock.advance(600)
        browser = move.browser(move.old.put(owner="ada"))

        assert move.says(browser) == TEA
        assert (move.says(browser), move.says(there)) == (TEA, "{}")

    def test_one_is_not_refused(self) -> None:
        move = Move(max_per_owner=1, when_full="refuse")
        there = move.site.browser()
        move.site.run(there, login_as("ada"))
        browser = move.browser(move.old.put(owner="ada"))

        assert move.says(browser) == TEA
        assert move.site.middleware.registry.count("ada") == 2

    def test_one_that_another_login_is_ending_ends(self) -> None:
        move = Move(max_per_owner=1)
        there = move.site.browser()
        move.site.run(there, login_as("ada"))
        others = set(move.handles())
        browser = move.browser(move.old.put(owner="ada"))
        lists = OwnerLists(move.store.store, Limits(), move.site.clock)

        def be_marked(key: str, record: Any) -> None:
            present = lists.read("ada")
            if len(record.notes) == 65 and present is not None:
                own = {k: e for k, e in present.entries.items() if k not in others}
                lists.mark("ada", own)

        move.store.after("insert", be_marked)
        move.site.run(browser, read)

        assert (move.says(browser), move.handles()) == ("{}", list(others))

    def test_a_store_that_fails_then_keeps_nobody_out(self) -> None:
        move = Move(max_per_owner=1)
        move.site.run(move.site.browser(), login_as("ada"))
        browser = move.browser(move.old.put(owner="ada"))
        failing: list[bool] = []

        def fail_after_the_tombstone(key: str, record: Any) -> None:
            if len(record.notes) == 65:
                failing.append(True)
                move.store.fail("delete")

        move.store.after("insert", fail_after_the_tombstone)

        answer = move.site.run(browser, read)
        move.store.recover()
        assert (answer.text, failing) == (TEA, [True])
        assert move.details("store_error")[0].startswith("max_per_owner: ")


class TestSettings:
    def app(self, environ: Any, start_response: Any) -> Any:
        raise NotImplementedError

    def test_with_a_client_side_store_it_is_refused(self) -> None:
        with pytest.raises(ConfigurationError, match="carry_over is of no use with ClientSideStor"):
            SessionMiddleware(
                self.app, secret_key=SECRET, store=ClientSideStore(), carry_over=[OldWorld()]
            )

    @pytest.mark.parametrize("wrong", [None, OldWorld(), "beaker", ["beaker"], [OldWorld], 1])
    def test_anything_but_a_list_of_sources_is_refused(self, wrong: Any) -> None:
        with pytest.raises(ConfigurationError, match="carry_over is .* write a list of sources"):
            SessionMiddleware(self.app, secret_key=SECRET, carry_over=wrong)

    def test_it_is_described_without_secrets(self) -> None:
        sources = [
            Beaker("redis://:hush@localhost", secret="hush"),
            OldWorld(until=datetime(2030, 1, 31, tzinfo=UTC), delete_old=True),
        ]
        middleware = SessionMiddleware(self.app, secret_key=SECRET, carry_over=sources)

        (line,) = [line for line in middleware.describe().splitlines() if "carry_over" in line]
        assert line == (
            "carry_over: beaker (cookie 'beaker.session.id', without end, keeps the old session),"
            " old (cookie 'old', until 2030-01-31 00:00 UTC, deletes the old session)"
        )
        sources.clear()
        assert "beaker" in middleware.describe()

    def test_without_it_none_is_described(self) -> None:
        assert "carry_over: nothing" in SessionMiddleware(self.app, secret_key=SECRET).describe()

    def test_the_tokens_are_signed_as_all_are(self) -> None:
        move = Move()
        browser = move.browser(move.old.put())
        move.says(browser)

        assert len(token(browser)) > 0
        assert len(own(browser)) == 87


def test_nothing_secret_of_an_old_cookie_is_shown_by_tools_that_report_errors() -> None:
    request: Any = None
    old = Old(OldWorld(), "good:hush", b"hush", (), request, 0.0)

    assert repr(old) == "<Old cookie of old>"


class TestACookieThatCannotBeVerified:
    def test_the_log_says_once_what_to_see_to(self, caplog: pytest.LogCaptureFixture) -> None:
        move = Move()

        for _ in range(3):
            assert move.says(move.browser("forged:1")) == "{}"

        (text,) = caplog.messages
        assert text.startswith("A cookie 'old' came that isn't signed as OldWorld(…) was told to")
        assert "give OldWorld the secret" in text
        assert "forged" not in text

    def test_and_does_not_take_it_for_another_apps_where_ours_has_the_same_name(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        move = Move(OldWorld(cookie="session"))

        move.says(move.browser("forged:1", name="session"))

        assert move.details("bad_signature") == ["session: not a token of ours"]
        assert [text for text in caplog.messages if "give ours another" in text] == []
        assert [text for text in caplog.messages if "give OldWorld the secret" in text] != []

    def test_our_own_cookie_is_not_meant(self, caplog: pytest.LogCaptureFixture) -> None:
        move = Move(OldWorld(cookie="session"))
        browser = move.site.browser()
        move.site.run(browser, put(a=1))
        kept = own(browser)
        move.site.run(browser, destroy)
        browser.cookies["session"] = kept

        assert move.says(browser) == "{}"
        assert [text for text in caplog.messages if "OldWorld" in text] == []

    def test_one_whose_source_is_over_is_explained_as_any_other(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        until = datetime.fromtimestamp(1_799_999_999, UTC)
        move = Move(OldWorld(cookie="session", until=until))

        move.says(move.browser("forged:1", name="session"))

        assert [text for text in caplog.messages if "give ours another" in text] != []
