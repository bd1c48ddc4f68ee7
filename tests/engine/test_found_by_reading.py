"""What a reviewer found who read the engine, and proved by a script. Each test failed before its fix.

Where the kind of store can make a difference, they run on every kind.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

from acts import login, login_as, put, read, started, twin
from interleaving import Beginning, Run, TurnStore, every_order
from old_world import OldWorld
from wsgi import Browser, Handler, Response, Site, TickingClock, call, environ
from wsgi_sessions import (
    Cookie,
    Lifetime,
    Session,
    SessionCommitted,
    SessionConflict,
    SessionError,
    SessionTooLarge,
    StoreError,
    TooManySessions,
)
from wsgi_sessions.data.codec import JSONCodec
from wsgi_sessions.record import Changes, list_key
from wsgi_sessions.stores import ClientSideStore, MemoryStore, Store
from wsgi_sessions.testing import FaultyStore

LIST = list_key("bob")
DAY = 86400.0


def ticking(options: dict[str, Any], **more: Any) -> tuple[Site, FaultyStore]:
    """A site for which time passes, and its store."""
    # Redis forgets by the real time, so it is that.
    clock = TickingClock(time.time())
    site = Site(**options, **more, clock=clock)
    site.clock = clock
    return site, options["store"]


def whose(session: Session) -> str:
    return str(session.owner)


def handle_of(site: Site, browser: Browser) -> str:
    return site.run(browser, lambda session: session.handle).text


def once(
    store: FaultyStore, operation: str, key: str, work: Callable[[], object], *, number: int = 1
) -> None:
    """Do this before the operation's call of this number that concerns this key."""
    calls: list[str] = []

    def hook(asked: str, *_: object, **__: object) -> None:
        if asked == key:
            calls.append(asked)
            if len(calls) == number:
                work()

    store.before(operation, hook)


class UnderWay:
    """A request that has begun, and ends when the test says so."""

    def __init__(self, site: Site, browser: Browser, work: Handler) -> None:
        self._site, self._browser = site, browser
        header = "; ".join(f"{name}={value}" for name, value in browser.cookies.items())
        self._environ = environ(cookie=header or None)
        session = site.middleware.open_session(self._environ)
        assert session is not None
        self.session = session
        work(session)

    def end(self, status: str = "200 OK") -> str | None:
        """The token that the response hands out; the browser keeps it."""
        headers = self._site.middleware.commit_session(self._environ, status=status)
        handed = [value for name, value in headers if name == "Set-Cookie"]
        if not handed:
            return None
        name, _, rest = handed[0].partition("=")
        self._browser.cookies[name] = rest.partition(";")[0]
        return self._browser.cookies[name] or None


def refused(site: Site) -> bool:
    """Whether another browser finds no place for a login."""

    def work(session: Session) -> bool:
        try:
            session.login("bob")
        except TooManySessions:
            return True
        return False

    return site.run(site.browser(), work).text == "True"


def owned_by_eve(session: Session) -> None:
    session.owner = "eve"


class TestListsWhileALoginIsUnderWay:
    def test_a_listing_leaves_the_session_of_a_login_that_took_more_than_a_minute(
        self, options: dict[str, Any]
    ) -> None:
        site, store = ticking(options, max_per_owner=3, when_full="refuse")
        browser = site.browser()
        site.run(browser, put(a=1))
        slow = UnderWay(site, browser, login)
        site.clock.advance(61)
        # It was looked at once, and not found to be the owner's.
        once(store, "load", slow.session.handle, slow.end, number=2)

        site.middleware.registry.sessions("bob")

        assert site.run(browser, whose).text == "bob"
        assert site.middleware.registry.count("bob") == 1

    def test_a_listing_leaves_the_session_of_a_login_back_to_a_former_owner(
        self, options: dict[str, Any]
    ) -> None:
        site, store = ticking(options)
        browser = site.browser()
        site.run(browser, put(cart=1))
        site.run(browser, login)

        def fail() -> None:
            raise StoreError("not just now", operation="delete")

        once(store, "delete", LIST, fail)  # so that the entry is left over
        site.run(browser, login_as("eve"))
        site.clock.advance(3600)
        handle = handle_of(site, browser)
        once(store, "load", handle, lambda: site.run(browser, login), number=2)

        site.middleware.registry.sessions("bob")

        assert site.run(browser, lambda session: (session.owner, dict(session))).text == str(
            ("bob", {"cart": 1})
        )
        assert site.middleware.registry.count("bob") == 1

    def test_a_login_that_a_fast_clock_takes_for_a_leftover_hands_out_nothing_dead(
        self, options: dict[str, Any]
    ) -> None:
        site, store = ticking(options, max_per_owner=3, when_full="refuse")
        ahead, _ = ticking(options)
        browser = site.browser()
        site.run(browser, put(cart=1))
        slow = UnderWay(site, browser, login)
        ahead.clock.advance(61)
        tokens: list[str | None] = []
        once(store, "load", slow.session.handle, lambda: tokens.append(slow.end()), number=2)

        ahead.middleware.registry.sessions("bob")

        assert tokens == [None]
        assert site.kinds[-1] == "revoked"

    def test_a_failing_login_leaves_the_place_to_the_same_browsers_other_request(
        self, options: dict[str, Any]
    ) -> None:
        site, _ = ticking(options, max_per_owner=2, when_full="refuse")
        browser = site.browser()
        site.run(browser, put(a=1))
        failing = UnderWay(site, twin(browser), login)
        other = UnderWay(site, browser, login)

        failing.end("500 Oh")

        assert other.end() is not None
        assert site.run(browser, whose).text == "bob"

    def test_a_revoked_login_that_cannot_be_deleted_stays_listed_to_be_ended(
        self, options: dict[str, Any]
    ) -> None:
        site, store = ticking(options, max_per_owner=3, when_full="refuse")
        browser = site.browser()
        site.run(browser, put(a=1))
        slow = UnderWay(site, browser, login)
        handle = slow.session.handle
        tokens: list[str | None] = []

        def while_it_cannot_be_deleted() -> None:
            store.fail("delete")
            tokens.append(slow.end())
            store.recover()

        # The list is read, its entries are marked, and then it is read to take them out.
        once(store, "load", LIST, while_it_cannot_be_deleted, number=2)
        site.middleware.registry.revoke_all("bob")
        assert tokens == [None]
        assert handle in list(site.middleware.registry)

        site.middleware.registry.sessions("bob")

        assert handle not in list(site.middleware.registry)

    def test_a_revocation_finds_that_the_list_is_gone(self, options: dict[str, Any]) -> None:
        site, store = ticking(options)
        browser = site.browser()
        site.run(browser, login)
        once(store, "update", LIST, lambda: site.run(browser, lambda session: session.destroy()))

        assert site.middleware.registry.revoke_all("bob") == 0
        assert list(site.store.keys()) == []

    def test_a_login_of_an_owner_whose_list_became_unreadable_fails(self) -> None:
        store = FaultyStore(MemoryStore())
        site = Site(store=store)
        site.run(site.browser(), login)  # from here on, this process knows the list
        whole = store.store.load(LIST)
        assert whole is not None
        store.store.update(LIST, Changes(set=dict.fromkeys(whole.fields, b"\xff")))
        browser, other = site.browser(), site.browser()
        site.run(other, put(a=1))
        before = set(site.middleware.registry)

        answers = site.run(browser, login), site.run(other, login)

        assert [(answer.code, answer.set_cookie) for answer in answers] == [(503, None)] * 2
        assert set(site.middleware.registry) == before
        assert "store_error" in site.kinds

    def test_so_does_one_where_the_list_is_under_another_key(self) -> None:
        store = FaultyStore(MemoryStore())
        other = Site(store=store, encryption_keys=[bytes(range(32))])
        other.run(other.browser(), login)
        site = Site(
            store=store,
            encryption_keys=[bytes(range(1, 33))],
            max_per_owner=5,
            when_full="refuse",
        )

        assert site.run(site.browser(), login).code == 503
        assert other.middleware.registry.count("bob") == 1


def too_large(session: Session) -> None:
    session["cart"] = "x" * 200


def no_value(session: Session) -> None:
    session["all"] = []
    session["all"].append(object())


def no_label(session: Session) -> None:
    session["a"] = 1
    label: dict[str, Any] = session.label
    label["device"] = 3  # as an app might, by mistake


class TestWhatCannotBeSaved:
    """A commit that raises is settled all the same, with a list as body as with a stream."""

    @pytest.mark.parametrize("save_on_error", [False, True])
    @pytest.mark.parametrize("work", [too_large, no_value, no_label])
    def test_an_error_page_of_the_same_request_has_a_session_of_its_own(
        self, options: dict[str, Any], work: Handler, save_on_error: bool
    ) -> None:
        site, _ = ticking(options, max_bytes=100, save_on_error=save_on_error)
        browser = Browser(self.with_error_pages(site, []))
        site.routes = {"/": work, "/error": put(errors=1), "/read": read}

        assert browser.get("/").set_cookie is not None
        assert browser.get("/read").text == str({"errors": 1})

    def test_also_where_other_requests_were_faster_again_and_again(
        self, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("time.sleep", lambda seconds: None)
        site, store = ticking(options)
        raised: list[SessionError] = []
        browser = Browser(self.with_error_pages(site, raised))
        site.routes = {"/": put(a=1), "/error": put(errors=1), "/read": lambda s: s["errors"]}
        site.routes["/faster"] = lambda session: session.increment("n")
        browser.get("/")
        tab = twin(browser)

        def faster(*_: object, **conditions: object) -> None:
            if conditions["if_version"] is not None and not busy:
                busy.append(True)
                tab.get("/faster")
                busy.clear()

        busy: list[bool] = []
        store.before("update", faster)
        site.routes["/"] = lambda session: session.label.update(device="x")
        browser.get("/")

        assert [type(error) for error in raised] == [SessionConflict]
        assert browser.get("/read").text == "1"

    def test_also_where_a_place_was_held_for_too_long(self, options: dict[str, Any]) -> None:
        site, _ = ticking(options, max_per_owner=1, when_full="refuse")
        raised: list[SessionError] = []
        browser = Browser(self.with_error_pages(site, raised))

        def slow(session: Session) -> None:
            session.login("bob")
            site.clock.advance(61)
            assert not refused(site)

        site.routes = {"/": slow, "/error": put(errors=1), "/read": read}
        browser.get("/")

        assert [type(error) for error in raised] == [TooManySessions]
        assert browser.get("/read").text == str({"errors": 1})

    @pytest.mark.parametrize("save_on_error", [False, True])
    @pytest.mark.parametrize("work", [too_large, no_value, no_label])
    @pytest.mark.parametrize("stored", [False, True])
    def test_the_place_of_a_login_is_given_back(
        self, options: dict[str, Any], work: Handler, save_on_error: bool, stored: bool
    ) -> None:
        site, _ = ticking(
            options,
            max_per_owner=1,
            when_full="refuse",
            max_bytes=100,
            save_on_error=save_on_error,
        )
        browser = site.browser()
        if stored:
            site.run(browser, put(a=1))

        def sign_in(session: Session) -> None:
            session.login("bob")
            work(session)

        with pytest.raises((SessionTooLarge, TypeError)):
            site.run(browser, sign_in)

        assert not refused(site)

    def test_also_that_of_one_that_was_saved_though_the_answer_was_lost(
        self, options: dict[str, Any]
    ) -> None:
        site, store = ticking(options, max_per_owner=1, when_full="refuse", max_bytes=100)

        def sign_in(session: Session) -> None:
            session.login("bob")
            store.fail("insert", answer_lost=True)
            with pytest.raises(StoreError):
                session.save()
            store.recover()
            session["cart"] = "x" * 200

        with pytest.raises(SessionTooLarge):
            site.run(site.browser(), sign_in)

        assert site.middleware.registry.count("bob") == 0
        assert not refused(site)

    @staticmethod
    def with_error_pages(site: Site, raised: list[SessionError]) -> Any:
        """The site's app in an outer one that answers with an error page of the same app."""

        def outer(made: dict[str, Any], start_response: Any) -> Any:
            try:
                return site.middleware(made, start_response)
            except (SessionError, TypeError) as error:
                if isinstance(error, SessionError):
                    raised.append(error)
                made["PATH_INFO"] = "/error"
                return site.middleware(made, start_response)

        return outer


class TestPlaces:
    """A place in an owner's list that a request holds and doesn't use is given back at its end."""

    def test_where_another_request_was_faster(self, options: dict[str, Any]) -> None:
        site, _ = ticking(options, max_per_owner=1, when_full="refuse")
        browser = site.browser()
        site.run(browser, put(a=1))

        def file_it(session: Session) -> None:
            session.owner = "bob"

        slow = UnderWay(site, twin(browser), file_it)
        site.run(browser, lambda session: session.regenerate())

        assert slow.end() is None
        assert not refused(site)

    @pytest.mark.parametrize("stored", [False, True])
    def test_where_the_cookie_cannot_be_delivered(
        self, options: dict[str, Any], stored: bool
    ) -> None:
        before, _ = ticking(options, cookie=Cookie("session", secure="auto"))
        site, _ = ticking(
            options, cookie=Cookie("session", secure=True), max_per_owner=1, when_full="refuse"
        )
        browser = site.browser()
        if stored:
            begun = before.browser()
            before.run(begun, put(a=1))
            browser.cookies = dict(begun.cookies)

        assert site.run(browser, login).set_cookie is None

        safe = site.browser(**{"wsgi.url_scheme": "https"})
        assert site.run(safe, login).set_cookie is not None

    def test_a_login_with_room_asks_the_store_no_more_than_it_must(self) -> None:
        store = FaultyStore(MemoryStore())
        site = Site(store=store, max_per_owner=5, when_full="refuse")
        browser = site.browser()
        for _ in range(3):
            site.run(site.browser(), login)
        site.run(browser, put(a=1))
        store.calls.clear()

        site.run(browser, login)

        # The session; the list, read and written; the session; and the list once more.
        assert store.calls == {"load": 3, "update": 2}

    def test_so_does_the_first_one(self) -> None:
        store = FaultyStore(MemoryStore())
        site = Site(store=store, max_per_owner=5, when_full="refuse")

        site.run(site.browser(), login)

        assert store.calls == {"load": 2, "insert": 2}


class TestInAFreshSession:
    """A login, or what is left of an emptied session, goes on where its own session has ended."""

    def test_no_cookie_is_set_for_one_that_is_known_to_be_revoked(
        self, options: dict[str, Any]
    ) -> None:
        site, store = ticking(options, max_per_owner=1, when_full="refuse")
        browser, other = site.browser(), site.browser()
        site.routes["/other"] = login
        taken: list[Response] = []

        def other_signs_in(key: str, **_: object) -> None:
            if key == LIST and not taken:
                taken.append(other.get("/other"))

        def sign_in(session: Session) -> None:
            session["a"] = 1
            session.save()
            session.login("bob")
            site.middleware.registry.revoke(session.handle)
            # While the place is given back, before the fresh session takes one.
            store.after("delete", other_signs_in)

        response = site.run(browser, sign_in)

        assert response.set_cookie is None
        assert taken
        assert site.run(other, whose).text == "bob"

    def test_the_label_of_the_one_that_ended_is_not_carried_along(
        self, options: dict[str, Any]
    ) -> None:
        site, _ = ticking(options)
        browser = site.browser()

        def name(session: Session) -> None:
            session["a"] = 1
            session.label.update(note="of the old one", device="phone")

        def sign_in(session: Session) -> None:
            session.login("bob")
            session.label["device"] = "tablet"

        site.run(browser, name)
        slow = UnderWay(site, browser, sign_in)
        site.run(twin(browser), lambda session: session.destroy())

        assert slow.end() is not None
        (info,) = site.middleware.registry.sessions("bob")
        assert {name: info.label.get(name) for name in ("note", "device")} == {
            "note": None,
            "device": "tablet",
        }

    def test_what_is_set_after_an_emptied_save_whose_answer_was_lost_is_kept(
        self, options: dict[str, Any]
    ) -> None:
        site, store = ticking(options)
        browser = site.browser()
        site.run(browser, put(a=1))

        def work(session: Session) -> None:
            session.take("a")
            store.fail("delete", answer_lost=True)
            session.save()  # which leaves the deletion to the request's end
            store.recover()
            session["b"] = 2

        site.run(browser, work)

        assert site.run(browser, read).text == str({"b": 2})


class TestEmptied:
    """A session whose last field a transaction took ends with the request."""

    @pytest.mark.parametrize("then", [lambda s: None, lambda s: s.reload()], ids=["500", "reload"])
    def test_unless_it_was_then_saved_to_be_kept_empty(self, then: Handler) -> None:
        site, browser = started()

        def work(session: Session) -> None:
            session.take("a")
            session.save(keep_empty=True)
            then(session)

        site.status = "500 Oh"
        response = site.run(browser, work)

        assert response.set_cookie is None
        assert len(list(site.middleware.registry)) == 1

    def test_and_no_other_one_is_begun_where_it_was_destroyed(self) -> None:
        site = Site(save_uninitialized=True)
        site.status = "500 Oh"

        def work(session: Session) -> None:
            session["a"] = 1
            session.take("a")
            session.destroy()

        assert site.run(site.browser(), work).set_cookie is None
        assert list(site.store.keys()) == []

    @pytest.mark.parametrize(
        ("works", "rotate_after"),
        [
            (("take", "clear"), None),
            (("take", "clear"), 500),
            (("take", "take"), 500),
            (("take", "read"), 500),
            (("clear", "read"), 500),
        ],
    )
    @pytest.mark.untraced
    def test_two_requests_at_once_leave_no_empty_record(
        self, works: tuple[str, str], rotate_after: float | None
    ) -> None:
        acts: dict[str, Handler] = {
            "take": lambda session: session.take("a"),
            "clear": lambda session: session.clear(),
            "read": lambda session: session.get("a"),
        }

        def play(beginning: Beginning) -> Run:
            clock = TickingClock(1_800_000_000.0)
            turns = TurnStore(kept)
            site = Site(store=turns, rotate_after=rotate_after, clock=clock)
            browser = site.browser()
            site.run(browser, put(a=1))
            clock.advance(1000)
            site.routes = {f"/{name}": acts[name] for name in works}
            return turns.play([partial(twin(browser).get, f"/{name}") for name in works], beginning)

        kept = MemoryStore()
        for run in every_order(play, limit=1000):
            assert list(kept.keys()) == [], run.schedule

    def test_one_that_others_change_again_and_again_is_left_empty(self) -> None:
        store = FaultyStore(MemoryStore())
        site, browser = started(store=store)

        def change(key: str, **_: object) -> None:
            store.store.update(key, Changes(set={"a": b"2"}))

        store.before("delete", change)
        response = site.run(browser, lambda session: session.clear())

        assert response.code == 200
        assert site.run(browser, read).text == "{}"
        assert "store_error" not in site.kinds


class TestStreams:
    def test_one_that_answers_with_an_error_and_goes_on_keeps_only_what_comes_later(self) -> None:
        site, browser = started()

        def app(made: dict[str, Any], start_response: Any) -> Iterator[bytes]:
            session = made["wsgi_sessions.session"]
            session["b"] = 2
            start_response("500 Oh", [("Content-Type", "text/plain")])
            yield b"x"
            session["c"] = 3
            session.save()

        site.middleware.app = app
        browser.get("/")
        site.middleware.app = site._app  # noqa: SLF001 # as it was

        assert site.run(browser, read).text == str({"a": 1, "c": 3})


class TestThreadsOfOneRequest:
    def test_one_that_is_preempted_at_its_first_access_finds_what_the_other_has_opened(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked, answered = threading.Event(), threading.Event()
        begin = Session._begin  # noqa: SLF001 # the place where threads meet

        def slowly(session: Session) -> Any:
            if threading.current_thread() is not threading.main_thread():
                asked.set()
                assert answered.wait(30)
            return begin(session)

        monkeypatch.setattr(Session, "_begin", slowly)
        site, browser = started(passive=lambda made: made["PATH_INFO"] == "/poll")

        def work(session: Session) -> object:
            found: list[object] = []

            def look() -> None:
                try:
                    found.append(session.get("a"))
                except KeyError as error:
                    found.append(error)

            thread = threading.Thread(target=look)
            thread.start()
            assert asked.wait(30)
            session["b"] = 2
            answered.set()
            thread.join()
            return found

        assert site.run(browser, work).text == "[1]"
        assert site.run(browser, read).text == str({"a": 1, "b": 2})


def damaged() -> tuple[Site, Browser]:
    """A browser whose session has a field that can't be decoded, and another one."""
    site, browser = started()
    site.run(browser, put(b=2))
    (handle,) = site.middleware.registry
    site.store.update(handle, Changes(set={"a": b"\xff"}))
    site.events.clear()
    return site, browser


def overwrite(session: Session) -> None:
    session["a"] = 5


def overwrite_and_ask(session: Session) -> None:
    session["a"] = 5
    assert session.modified


def overwrite_after_another(session: Session) -> None:
    session["b"] = 4
    session["a"] = 5


def delete(session: Session) -> None:
    session["a5"] = 5
    with pytest.raises(KeyError):
        del session["a"]


class Newer(JSONCodec):
    """It also knows complex numbers."""

    def encode(self, value: Any) -> bytes:
        return b"\xff%r" % value if isinstance(value, complex) else super().encode(value)

    def decode(self, data: bytes) -> Any:
        return complex(data[1:].decode()) if data[:1] == b"\xff" else super().decode(data)


def newer_session(session: Session) -> None:
    session.login("bob")
    session.update(a=1j, b=2)


MEETS = {
    "unread": lambda session: None,
    "read": lambda session: session.get("a"),
    "written": lambda session: session.update(a=2),
    "asked": lambda session: session.update(b=3, a=2) or session.modified,
}
LEAVES = {
    "login": login,
    "destroy": lambda session: session.destroy(),
    "no owner": lambda session: setattr(session, "owner", None),
    "another owner": lambda session: setattr(session, "owner", "eve"),
}


class TestDamage:
    @pytest.mark.parametrize(
        ("work", "left"),
        [
            (overwrite, {"a": 5}),
            (overwrite_and_ask, {"a": 5}),
            (overwrite_after_another, {"a": 5, "b": 4}),
            (delete, {"a5": 5}),
        ],
    )
    def test_a_field_that_is_overwritten_unread_ends_the_session_for_this_request(
        self, work: Handler, left: dict[str, int]
    ) -> None:
        site, browser = damaged()
        (old,) = site.middleware.registry

        response = site.run(browser, work)

        assert response.set_cookie is not None
        assert site.kinds == ["corrupt_record", "created"]
        assert site.run(browser, read).text == str(left)
        assert old in list(site.middleware.registry)

    @pytest.mark.parametrize("meet", MEETS.values(), ids=MEETS.keys())
    @pytest.mark.parametrize("leave", LEAVES.values(), ids=LEAVES.keys())
    @pytest.mark.parametrize("store", [MemoryStore, ClientSideStore])
    def test_a_session_that_is_left_ends_whether_its_damage_was_met_or_not(
        self, store: Callable[[], Store], meet: Handler, leave: Handler
    ) -> None:
        """A newer codec's field, say: an older process can't decode it, and a newer one can."""
        site = Site(store=store(), codec=Newer())
        older = Site(store=site.store, clock=site.clock)
        browser, thief, through_older = site.browser(), site.browser(), older.browser()
        through_older.cookies = browser.cookies
        site.run(browser, newer_session)
        thief.cookies.update(browser.cookies)

        def work(session: Session) -> None:
            meet(session)
            leave(session)

        older.run(through_older, work)

        owner = {LEAVES["login"]: "bob", LEAVES["another owner"]: "eve"}.get(leave)
        assert site.run(browser, whose).text == str(owner)
        if store is MemoryStore:
            assert site.run(thief, whose).text == "None"
            assert site.middleware.registry.count("bob") == (owner == "bob")

    def test_deleting_alone_begins_none(self) -> None:
        site, browser = damaged()

        def work(session: Session) -> object:
            with pytest.raises(KeyError):
                del session["a"]
            return dict(session)

        response = site.run(browser, work)

        assert (response.text, response.set_cookie) == ("{}", None)
        assert site.kinds == ["corrupt_record"]

    def test_in_a_stream_a_fresh_session_comes_too_late(self) -> None:
        site, browser = damaged()
        raised: list[SessionCommitted] = []

        def app(made: dict[str, Any], start_response: Any) -> Iterator[bytes]:
            session = made["wsgi_sessions.session"]
            len(session)
            start_response("200 OK", [("Content-Type", "text/plain")])
            yield b"x"
            try:
                session["a"] = 5
            except SessionCommitted as error:
                raised.append(error)

        site.middleware.app = app
        browser.get("/")

        assert len(raised) == 1
        assert site.kinds == ["corrupt_record"]

    @pytest.mark.parametrize(
        ("error", "says"),
        [
            (StoreError("the keys' server is down", operation="decode"), StoreError),
            (ConnectionRefusedError("the keys' server is down"), StoreError),
            (MemoryError(), MemoryError),
        ],
        ids=["StoreError", "OSError", "MemoryError"],
    )
    def test_a_codec_that_cannot_work_just_now_is_none(
        self, error: Exception, says: type[Exception]
    ) -> None:
        class Codec(JSONCodec):
            fails = False

            def decode(self, data: bytes) -> Any:
                if self.fails:
                    raise error
                return super().decode(data)

        codec = Codec()
        site, browser = started(codec=codec)

        def work(session: Session) -> None:
            with pytest.raises(says):
                session.get("a")
            with pytest.raises(says):
                session.take("a")

        codec.fails = True
        response = site.run(browser, work)
        codec.fails = False

        assert (response.code, response.set_cookie) == (200, None)
        assert site.kinds == ["created"]
        assert site.run(browser, read).text == str({"a": 1})


def test_a_codec_that_cannot_encode_just_now_is_an_outage_and_ends_nothing() -> None:
    class Codec(JSONCodec):
        fails = False

        def encode(self, value: Any) -> bytes:
            if self.fails:
                raise ConnectionRefusedError("the keys' server is down")
            return super().encode(value)

    codec = Codec()
    site, browser = started(codec=codec)
    site.run(browser, lambda s: s.update(cart=["tea"]))

    def look(session: Session) -> None:
        session["cart"].append("milk")
        codec.fails = True

    response = site.run(browser, look)
    codec.fails = False

    assert (response.code, response.set_cookie) == (503, None)
    assert site.kinds == ["created", "store_error"]
    assert site.run(browser, read).text == str({"a": 1, "cart": ["tea"]})


def written(site: Site, browser: Browser, work: Handler) -> int:
    """How often a request that does this writes."""
    assert isinstance(site.store, FaultyStore)
    site.store.calls.clear()
    site.run(browser, work)
    return site.store.calls["update"]


def test_a_lifetime_that_is_set_to_what_it_is_writes_nothing() -> None:
    site, browser = started(store=FaultyStore(MemoryStore()))

    def limit(session: Session) -> None:
        session.lifetime = Lifetime(60, 600)

    assert written(site, browser, limit) == 1
    assert written(site, browser, limit) == 0
    assert written(site, browser, lambda s: setattr(s, "lifetime", s.lifetime)) == 0


@pytest.mark.parametrize("how", ["login", "owner"])
def test_where_one_signed_in_is_not_told_of_the_next_owner(how: str) -> None:
    site, browser = started()
    site.run(browser, login_as("alice"), HTTP_USER_AGENT="Alice's browser")

    def hand_over(session: Session) -> None:
        session.label["device"] = "kitchen"
        if how == "login":
            session.login("bob")
        else:
            session.owner = "bob"

    site.run(browser, hand_over)

    (info,) = site.middleware.registry.sessions("bob")
    assert info.label == {"ip": "192.0.2.1", "device": "kitchen"}


def test_an_owner_can_be_deleted() -> None:
    site, browser = started()
    site.run(browser, login)

    def sign_off(session: Session) -> object:
        del session.owner
        return session.owner

    assert site.run(browser, sign_off).text == "None"
    assert site.run(browser, lambda session: (session.owner, dict(session))).text == str(
        (None, {"a": 1})
    )
    assert site.middleware.registry.count("bob") == 0


class TestEvents:
    def test_one_of_a_retired_id_names_the_owner(self) -> None:
        site, browser = started(rotate_after=900)
        site.run(browser, login)
        thief = twin(browser)
        site.clock.advance(1000)
        site.run(browser, read)
        site.clock.advance(60)
        site.run(thief, read)

        assert [(e.kind, e.owner) for e in site.events][-1] == ("retired_id_used", "bob")

    def test_one_of_a_secure_session_over_http_does_too(self) -> None:
        site = Site()
        safe = site.browser(**{"wsgi.url_scheme": "https"})
        site.run(safe, login)
        unsafe = site.browser()
        unsafe.cookies = dict(safe.cookies)
        site.run(unsafe, read)

        assert [(e.kind, e.owner) for e in site.events][-1] == ("insecure", "bob")

    def test_a_cookie_of_our_name_that_is_the_old_systems_is_no_forgery(self) -> None:
        old = OldWorld(cookie="session")
        site = Site(carry_over=[old])
        browser, forger = site.browser(), site.browser()
        browser.cookies["session"] = old.put()
        forger.cookies["session"] = "forged"

        assert site.run(browser, read).text == str({"cart": ["tea"]})
        assert "bad_signature" not in site.kinds
        site.run(forger, read)
        assert site.kinds[-1] == "bad_signature"


PUBLIC = [("Cache-Control", "public, max-age=60")]


class TestACookieThatEndsTooEarly:
    """A persistent cookie whose session goes on for longer is sent again when a response can."""

    @pytest.fixture
    def signed_in(self, options: dict[str, Any]) -> tuple[Site, Browser]:
        # It says how long it lives, to the second; the clock stands still between requests.
        site = Site(**options, cookie=Cookie(persistent=True))
        site.clock.now = time.time()
        browser = site.browser()
        site.run(browser, login)
        return site, browser

    def use_once_more(self, site: Site, browser: Browser) -> None:
        """What the next page does, and the one after that."""
        site.clock.advance(1)
        following = site.run(browser, whose)
        assert f"Max-Age={DAY:.0f}" in (following.set_cookie or "")
        site.clock.advance(1)
        assert written(site, browser, whose) == 0
        assert site.run(browser, whose).set_cookie is None

    @pytest.mark.parametrize(
        "work",
        [whose, put(n=1), lambda s: s.touch()],
        ids=["read", "write", "touch"],
    )
    def test_after_a_public_response(self, signed_in: tuple[Site, Browser], work: Handler) -> None:
        site, browser = signed_in
        site.clock.advance(3600)
        site.headers = PUBLIC
        assert site.run(browser, work).set_cookie is None
        site.clock.advance(1)
        # Public pages alone don't write again and again.
        assert written(site, browser, whose) == 0
        site.headers = []

        self.use_once_more(site, browser)

    @pytest.mark.parametrize(
        "late",
        [whose, put(n=1), lambda s: (s.update(n=1), s.save()), lambda s: s.increment("n")],
        ids=["read", "write", "save", "increment"],
    )
    def test_after_a_stream_that_goes_on_for_long(
        self, signed_in: tuple[Site, Browser], late: Handler
    ) -> None:
        site, browser = signed_in
        site.clock.advance(3600)

        def app(made: dict[str, Any], start_response: Any) -> Iterator[bytes]:
            start_response("200 OK", [("Content-Type", "text/plain")])
            yield b"x"
            site.clock.advance(600)
            late(made["wsgi_sessions.session"])

        site.middleware.app = app
        assert browser.get("/").set_cookie is None
        site.middleware.app = site._app  # noqa: SLF001 # as it was

        self.use_once_more(site, browser)

    def test_after_a_message_on_a_websocket(self, signed_in: tuple[Site, Browser]) -> None:
        site, browser = signed_in
        ((name, value),) = browser.cookies.items()
        for number in range(3):
            site.clock.advance(3600)
            made = environ(cookie=f"{name}={value}", HTTP_UPGRADE="websocket")
            session = site.middleware.open_session(made)
            assert session is not None
            session["n"] = number
            site.middleware.commit_session(made)

        self.use_once_more(site, browser)

    def test_where_nothing_lags_nothing_more_is_written(
        self, signed_in: tuple[Site, Browser]
    ) -> None:
        site, browser = signed_in
        assert written(site, browser, put(n=1)) == 1
        site.clock.advance(3600)
        assert written(site, browser, whose) == 1  # as it is due
        assert written(site, browser, whose) == 0

    def test_it_is_no_matter_of_one_that_lives_as_long_as_the_browser(self) -> None:
        site, browser = started()
        site.clock.advance(3600)
        site.headers = PUBLIC
        site.run(browser, put(n=1))
        site.headers = []

        assert site.run(browser, read).set_cookie is None


class TestWhatTheMendsBroke:
    """What a second reviewer found in the changes of the first day."""

    @pytest.mark.parametrize("caught", [False, True])
    def test_emptying_a_session_leaves_the_cookie_of_a_login_that_came_meanwhile(
        self, options: dict[str, Any], caught: bool
    ) -> None:
        site, store = Site(**options), options["store"]
        browser = site.browser()
        site.run(browser, put(state=1))
        other = twin(browser)

        def work(session: Session) -> None:
            if caught:
                session.clear()
            else:
                session.take("state")
            store.fail("delete")
            if caught:
                with pytest.raises(StoreError):
                    session.save()
            else:
                session.save()
            store.recover()
            site.run(other, login)

        response = site.run(browser, work)

        assert response.set_cookie is None
        assert site.run(other, whose).text == "bob"

    def test_a_place_that_was_renewed_is_given_back(self, options: dict[str, Any]) -> None:
        site = Site(**options, max_per_owner=1, when_full="refuse")

        def slow(session: Session) -> None:
            session.login("bob")
            site.clock.advance(31)
            options["store"].fail("insert")

        assert site.run(site.browser(), slow).code == 503
        options["store"].recover()

        assert site.run(site.browser(), login).code == 200

    def test_a_login_that_goes_on_in_a_fresh_session_says_where_it_came_from(
        self, options: dict[str, Any]
    ) -> None:
        site = Site(**options)
        browser = site.browser()
        site.run(browser, login)
        (before,) = site.middleware.registry.sessions("bob")

        def work(session: Session) -> None:
            session.login("bob")
            site.middleware.registry.revoke_all("bob")

        site.run(browser, work)

        (after,) = site.middleware.registry.sessions("bob")
        assert after.handle != before.handle
        assert after.label == before.label != {}

    def test_a_login_that_raises_as_the_codec_fails_signs_nobody_in(self) -> None:
        class Failing(JSONCodec):
            fails = False

            def decode(self, data: bytes) -> Any:
                if self.fails:
                    raise OSError("no key server")
                return super().decode(data)

        codec = Failing()
        site, browser = started(codec=codec)

        def work(session: Session) -> str:
            codec.fails = True
            with pytest.raises(StoreError):
                session.login("42")
            codec.fails = False
            return str(session.owner)

        response = site.run(browser, work)

        assert (response.text, response.set_cookie) == ("None", None)
        assert site.middleware.registry.count("42") == 0

    def test_a_purge_tells_of_a_store_that_fails(self, options: dict[str, Any]) -> None:
        site = Site(**options)
        browser = site.browser()
        site.run(browser, login)
        options["store"].store.delete(handle_of(site, browser))
        site.clock.advance(100)
        options["store"].fail("delete")

        with pytest.raises(StoreError):
            site.middleware.registry.purge_expired()

    def test_a_login_whose_list_cant_be_read_leaves_the_visitors_session(
        self, options: dict[str, Any]
    ) -> None:
        site = Site(**options)
        site.run(site.browser(), login)
        visitor = site.browser()
        site.run(visitor, put(cart=["tea"]))
        options["store"].store.update(LIST, Changes(set={"0" * 64: b"damage"}))

        site.events.clear()
        assert site.run(visitor, login).code == 503
        assert site.run(site.browser(), login).code == 503

        assert site.run(visitor, read).text == repr({"cart": ["tea"]})
        assert site.run(visitor, whose).text == "None"
        assert {"created", "regenerated"}.isdisjoint(site.kinds)


class TestReadByAReviewer:
    """What one who read the whole engine found on the way."""

    @pytest.mark.parametrize("sign_in", [login, owned_by_eve])
    def test_what_is_found_by_a_reload_is_not_ended_as_one_of_several(
        self, options: dict[str, Any], sign_in: Handler
    ) -> None:
        site = Site(**options)
        first, second = site.browser(), site.browser()
        site.run(first, put(cart=["tea"]))
        site.run(second, put(cart=["milk"]))
        handle = handle_of(site, second)
        first.cookies["session"] += f"; session={second.cookies['session']}"

        def work(session: Session) -> None:
            assert session.is_new
            site.middleware.registry.revoke(handle)
            session.reload()
            sign_in(session)

        site.run(first, work)

        assert site.run(first, read).text == str({"cart": ["tea"]})

    @pytest.mark.parametrize("passive", [False, True])
    def test_a_reload_hands_out_an_id_whose_answer_was_lost(
        self, options: dict[str, Any], passive: bool
    ) -> None:
        site, store = Site(passive=lambda _: passive, **options), options["store"]
        browser = site.browser()
        site.run(browser, put(a=1))

        def work(session: Session) -> None:
            session.regenerate()
            store.fail("update", answer_lost=True)
            with pytest.raises(StoreError):
                session.save()
            store.recover()
            session.reload()

        site.run(browser, work)

        assert site.run(browser, read).text == str({"a": 1})

    def test_the_time_left_counts_from_a_rotation(self, options: dict[str, Any]) -> None:
        site = Site(rotate_after=60, touch_interval=1000, **options)
        browser = site.browser()
        site.run(browser, put(a=1))
        site.clock.advance(100)

        said = site.run(browser, lambda session: session.expires_at.timestamp()).text
        (handle,) = site.middleware.registry
        info = site.middleware.registry.get(handle)

        assert info is not None
        assert float(said) == info.expires_at.timestamp()

    def test_a_body_that_cannot_be_closed_ends_the_request_that_could_not_be_stored(
        self, options: dict[str, Any]
    ) -> None:
        site = Site(max_per_owner=1, when_full="refuse", **options)
        store, held = options["store"], list[Session]()

        class Body(list[bytes]):
            def close(self) -> None:
                raise RuntimeError("can't be closed")

        def app(made: dict[str, Any], start_response: Any) -> Body:
            held.append(made["wsgi_sessions.session"])
            held[0].login("bob")
            store.before("insert", lambda *_: store.fail("insert"))
            start_response("200 OK", [])
            return Body([b"x"])

        site.middleware.app = app
        with pytest.raises(RuntimeError, match="can't be closed"):
            call(site.middleware, environ())
        store.recover()
        site.middleware.app = site._app  # noqa: SLF001 # as it was

        with pytest.raises(SessionCommitted):
            held[0]["a"] = 1
        assert not refused(site)

    def test_a_label_that_is_held_over_a_regenerate_is_that_of_the_session(
        self, options: dict[str, Any]
    ) -> None:
        site = Site(**options)
        browser = site.browser()
        site.run(browser, login)

        def work(session: Session) -> None:
            label = session.label
            session.regenerate(keep=False)
            session.login("42")
            label["device"] = "phone"

        site.run(browser, work)

        assert site.run(browser, lambda session: session.label["device"]).text == "phone"
