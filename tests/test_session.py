"""Session: every member, over real requests."""

from __future__ import annotations

import copy
import itertools
import pickle
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from wsgi import Browser, Handler, Response, Site
from wsgi_sessions import (
    Cookie,
    Lifetime,
    Session,
    SessionConflict,
    SessionEnded,
    SessionEvent,
    SessionTooLarge,
    StoreError,
    TooManySessions,
    UnsupportedByStore,
)
from wsgi_sessions.record import Changes, list_key
from wsgi_sessions.stores import ClientSideStore, FileStore, MemoryStore
from wsgi_sessions.testing import FaultyStore

START = datetime.fromtimestamp(1_800_000_000, UTC)


def put(**values: Any) -> Callable[[Session], Any]:
    return lambda session: session.update(values)


def read(session: Session) -> str:
    return repr(dict(session))


def meanwhile(site: Site, browser: Browser, work: Callable[[Session], Any]) -> None:
    """Another request of the same browser, while one is under way."""
    other = Browser(site.middleware)
    other.cookies = dict(browser.cookies)
    site.routes["/meanwhile"] = work
    other.get("/meanwhile")


def started(**options: Any) -> tuple[Site, Browser]:
    site = Site(**options)
    browser = site.browser()
    site.run(browser, put(a=1))
    return site, browser


class TestData:
    def test_nested_changes_are_noticed(self) -> None:
        site = Site()
        browser = site.browser()
        site.run(browser, put(cart=[{"n": 1}]))

        site.run(browser, lambda s: s["cart"][0].update(n=2))

        assert site.run(browser, read).text == "{'cart': [{'n': 2}]}"

    def test_what_cant_be_stored_says_so_where_it_is_set(self) -> None:
        site, browser = started()

        def work(session: Session) -> str:
            with pytest.raises(TypeError, match="cart") as caught:
                session["cart"] = [{"price": object()}]
            assert "price" in str(caught.value)
            return read(session)

        assert site.run(browser, work).text == "{'a': 1}"

    def test_a_nested_value_that_cant_be_stored_fails_before_the_headers(self) -> None:
        site = Site()
        browser = site.browser()
        site.run(browser, put(cart=[]))

        with pytest.raises(TypeError, match="cart"):
            site.run(browser, lambda s: s["cart"].append(object()))

        assert site.run(browser, read).text == "{'cart': []}"

    @pytest.mark.parametrize(
        "commit",
        [
            lambda session, key: session.take(key),
            lambda session, key: session.save(),
            lambda session, key: session.increment("n"),
        ],
        ids=["take", "save", "increment"],
    )
    def test_going_through_it_misses_nothing_where_the_loop_commits(self, commit: Any) -> None:
        site, browser = started()
        seen: list[str] = []

        def work(session: Session) -> None:
            session["b"] = 2
            for key in session:
                seen.append(key)
                commit(session, key)

        site.run(browser, work)

        assert seen == ["a", "b"]

    def test_keys_are_strings(self) -> None:
        site, browser = started()

        def work(session: Session) -> None:
            with pytest.raises(TypeError):
                session[1] = 1  # type: ignore[index] # the mistake under test

        site.run(browser, work)

    @pytest.mark.parametrize("name", ["id", "save", "__class__", "keys", "", "é", "\0tie"])
    def test_no_key_is_special(self, name: str) -> None:
        site = Site()
        browser = site.browser()
        site.run(browser, lambda s: s.update({name: 1}))

        assert site.run(browser, lambda s: list(s)).text == repr([name])

    def test_it_is_a_mapping_like_any_other(self) -> None:
        site, browser = started()

        def work(session: Session) -> None:
            assert session == {"a": 1}
            assert session.setdefault("b", []) == []
            assert session.pop("a") == 1
            assert session.pop("a", None) is None
            assert "a" not in session
            with pytest.raises(KeyError):
                session["a"]
            with pytest.raises(KeyError):
                del session["a"]
            assert len(session) == len(list(session)) == len(session.items())

        site.run(browser, work)

    def test_it_cant_be_pickled_or_copied(self) -> None:
        site, browser = started()

        def work(session: Session) -> None:
            for attempt in (pickle.dumps, copy.copy, copy.deepcopy):
                with pytest.raises(TypeError, match="dict"):
                    attempt(session)

        site.run(browser, work)

    def test_repr_shows_no_secret_and_loads_nothing(self) -> None:
        site, browser = started(store=(store := FaultyStore(MemoryStore())))
        store.calls.clear()
        shown: list[str] = []

        def work(session: Session) -> None:
            shown.append(repr(session))
            assert not store.calls
            session.get("a")
            shown.append(repr(session))
            assert session.id not in shown[1]
            assert session.handle in shown[1]

        site.run(browser, work)

        assert "not loaded" in shown[0]
        assert "'a'" in shown[1]
        assert "stored" in shown[1]

    def test_too_large_names_the_biggest_fields(self) -> None:
        site, browser = started(max_bytes=100)

        with pytest.raises(SessionTooLarge, match="'big' with") as caught:
            site.run(browser, put(big="secret" * 50))

        assert "secret" not in str(caught.value)
        assert "too_large" in site.kinds
        assert site.run(browser, read).text == "{'a': 1}"

    @pytest.mark.parametrize(
        "work",
        [
            put(big="x" * 2000),
            lambda s: (s.update(big="x" * 2000), s.label.update(device="phone")),
            lambda s: s.transaction(lambda fields: fields.update(big="x" * 2000)),
        ],
        ids=["fields", "fields and label", "transaction"],
    )
    @pytest.mark.parametrize("in_cookie", [False, True])
    def test_the_event_of_what_is_too_large_says_whose_session_it_is(
        self, work: Handler, in_cookie: bool
    ) -> None:
        site = Site(max_bytes=1000, store=ClientSideStore() if in_cookie else MemoryStore())
        browser = site.browser()
        handle = site.run(browser, lambda s: (s.login("bob"), s.handle)[1]).text

        with pytest.raises((SessionTooLarge, UnsupportedByStore)) as caught:
            site.run(browser, work)

        told = [(e.handle, e.owner) for e in site.events if e.kind == "too_large"]
        assert told == ([(handle, "bob")] if caught.type is SessionTooLarge else [])

    def test_a_big_value_may_take_the_place_of_another(self) -> None:
        site, browser = started(max_bytes=100)
        site.run(browser, put(big="x" * 60))

        site.run(browser, put(big="y" * 60))

        assert site.run(browser, lambda s: s["big"]).text == "y" * 60


class TestState:
    def test_what_it_knows_of_itself(self) -> None:
        site = Site(lifetime=Lifetime(idle=100, absolute=1000))
        browser = site.browser()

        def first(session: Session) -> None:
            assert not session.accessed
            assert not session.modified
            assert session.is_new
            session["a"] = 1
            assert session.accessed
            assert session.modified
            assert session.created_at == START

        def second(session: Session) -> None:
            assert not session.is_new
            assert not session.modified
            assert session.created_at == START
            assert session.last_used_at == START
            assert session.expires_at == START + timedelta(seconds=100)
            assert session.lifetime == Lifetime(timedelta(seconds=100), timedelta(seconds=1000))
            assert session.authenticated_at is None
            assert session.owner is None
            assert session.label == {}
            assert session.persistent is False

        site.run(browser, first)
        site.clock.advance(5)
        site.run(browser, second)

    def test_modified_sees_nested_changes(self) -> None:
        site = Site()
        browser = site.browser()
        site.run(browser, put(cart=[]))

        def work(session: Session) -> None:
            cart = session["cart"]
            assert not session.modified
            cart.append(1)
            assert session.modified
            cart.pop()
            assert not session.modified

        site.run(browser, work)

    def test_id_and_handle(self) -> None:
        site, browser = started()

        def work(session: Session) -> str:
            assert browser.cookies["session"].startswith(session.id + ".")
            return session.handle

        assert [site.run(browser, work).text] == list(site.store.keys())

    def test_persistent_is_remembered(self) -> None:
        site, browser = started()

        response = site.run(browser, lambda s: setattr(s, "persistent", True))

        assert "Max-Age=86400" in str(response.set_cookie)
        assert site.run(browser, lambda s: s.persistent).text == "True"
        site.clock.advance(100)
        assert "Max-Age" in str(site.run(browser, read).set_cookie)
        back = site.run(browser, lambda s: setattr(s, "persistent", False))
        assert back.set_cookie is not None
        assert "Max-Age" not in back.set_cookie

    def test_max_age_never_exceeds_the_absolute_limit(self) -> None:
        site = Site(cookie=Cookie(persistent=True), lifetime=Lifetime(idle=500, absolute=600))
        browser = site.browser()
        site.run(browser, put(a=1))
        site.clock.advance(400)

        assert "Max-Age=200" in str(site.run(browser, read).set_cookie)

    @pytest.mark.parametrize("label", [{"a": "\ud800"}, {"\udfff": "a"}])
    def test_a_label_is_text_that_can_be_encoded(self, label: dict[str, str]) -> None:
        site = Site()
        browser = site.browser()
        site.run(browser, lambda s: s.update(a=1))

        def assigned(session: Session) -> None:
            with pytest.raises(ValueError, match="can't be encoded as UTF-8"):
                session.label = label

        def changed_in_place(session: Session) -> None:
            session.label.update(label)
            session["a"] = 2
            with pytest.raises(ValueError, match="can't be encoded as UTF-8"):
                session.save()
            session.reload()

        site.run(browser, assigned)
        site.run(browser, changed_in_place)

        assert site.run(browser, lambda s: (s["a"], s.label)).text == "(1, {})"

    @pytest.mark.parametrize(
        ("label", "says"),
        [
            ({"a": "b", "pin": 1234}, "label['pin'] is of type int; write a str"),
            ({"a": None}, "label['a'] is None; write a str"),
            ({5: "x"}, "label has a name of type int; write a str"),
            ({"pin": "1234" * 65}, "label['pin'] has 260 characters; at most 256 are allowed"),
            ({"D" * 257: "x"}, "label has a name of 257 characters; at most 256 are allowed"),
            ({str(n): "" for n in range(17)}, "label has 17 entries; at most 16 are allowed"),
        ],
    )
    def test_a_label_is_a_few_short_strings(self, label: Any, says: str) -> None:
        site, browser = started()

        def work(session: Session) -> None:
            with pytest.raises(TypeError) as assigned:
                session.label = label
            session.label.update(label)
            with pytest.raises(TypeError) as saved:
                session.save()
            session.reload()
            assert [str(assigned.value), str(saved.value)] == [says] * 2

        assert site.run(browser, work).code == 200

    def test_a_label_takes_what_just_fits(self) -> None:
        site, browser = started()
        label = {f"{n:>256}": "x" * 256 for n in range(16)}

        site.run(browser, lambda s: setattr(s, "label", label))

        assert site.run(browser, lambda s: s.label == label).text == "True"

    def test_two_requests_noting_different_things_both_survive(self) -> None:
        site, browser = started()

        def work(session: Session) -> None:
            session.persistent = True
            meanwhile(site, browser, lambda s: s.label.update(device="phone"))

        site.run(browser, work)

        assert site.run(browser, lambda s: (s.persistent, s.label)).text == (
            "(True, {'device': 'phone'})"
        )


class TestRegenerate:
    @pytest.mark.parametrize(
        ("keep", "left"),
        [(True, "{'a': 1, 'b': 2}"), (["b"], "{'b': 2}"), (["b", "x"], "{'b': 2}")],
    )
    def test_keep(self, keep: Any, left: str) -> None:
        site = Site()
        browser = site.browser()
        site.run(browser, put(a=1, b=2))

        site.run(browser, lambda s: s.regenerate(keep=keep))

        assert site.run(browser, read).text == left

    def test_keep_nothing_and_put_something_in(self) -> None:
        site, browser = started()

        site.run(browser, lambda s: (s.regenerate(keep=False), s.update(b=2)))

        assert site.run(browser, read).text == "{'b': 2}"

    def test_keep_nothing_lets_owner_and_label_go_but_not_persistence(self) -> None:
        site, browser = started()
        site.run(browser, lambda s: (s.login("bob"), setattr(s, "persistent", True)))

        site.run(browser, lambda s: (s.regenerate(keep=False), s.update(b=2)))

        assert site.run(browser, lambda s: (s.owner, s.label, s.persistent)).text == (
            "(None, {}, True)"
        )

    @pytest.mark.parametrize(
        "keeps",
        [[[]], [["a"], ["b"]], [["nope"]]],
        ids=["no key", "two without a common key", "no key that is there"],
    )
    def test_keep_no_field_leaves_owner_and_label(self, keeps: list[list[str]]) -> None:
        site, browser = started()
        site.run(browser, lambda s: (s.login("bob"), s.label.update(device="phone"), s.update(b=2)))

        def work(session: Session) -> Any:
            for keep in keeps:
                session.regenerate(keep=keep)
            return dict(session), session.owner, session.label["device"]

        left = "({}, 'bob', 'phone')"
        assert site.run(browser, work).text == left
        assert site.run(browser, lambda s: (dict(s), s.owner, s.label["device"])).text == left

    @pytest.mark.parametrize("keeps", [[False, ["a"]], [["a"], False]])
    def test_keep_nothing_holds_whatever_else_is_kept(self, keeps: list[Any]) -> None:
        site, browser = started()
        site.run(browser, lambda s: (s.login("bob"), s.label.update(device="phone")))

        def work(session: Session) -> None:
            for keep in keeps:
                session.regenerate(keep=keep)
            session["b"] = 2

        site.run(browser, work)

        assert site.run(browser, lambda s: (dict(s), s.owner, s.label)).text == (
            "({'b': 2}, None, {})"
        )

    def test_keep_nothing_ends_the_session_if_nothing_is_put_in(self) -> None:
        site, browser = started()

        response = site.run(browser, lambda s: s.regenerate(keep=False))

        assert "Max-Age=0" in str(response.set_cookie)
        assert list(site.store.keys()) == []

    def test_keep_takes_no_string(self) -> None:
        site, browser = started()

        def work(session: Session) -> None:
            with pytest.raises(TypeError):
                session.regenerate(keep="cart")

        site.run(browser, work)

    def test_keep_is_applied_to_what_another_request_wrote(self) -> None:
        site, browser = started()

        def work(session: Session) -> None:
            session.regenerate(keep=["a", "mine"])
            session["mine"] = 1
            meanwhile(site, browser, put(theirs=1, a=2))

        site.run(browser, work)

        assert site.run(browser, read).text == "{'a': 2, 'mine': 1}"

    def test_the_new_id_is_there_at_once(self) -> None:
        site, browser = started()

        def work(session: Session) -> None:
            before = session.id, session.handle
            session.regenerate()
            assert session.id != before[0]
            assert session.handle == before[1]

        site.run(browser, work)

    def test_of_a_session_that_was_ended_is_dropped(self) -> None:
        site, browser = started()

        def work(session: Session) -> None:
            session.regenerate()
            session["b"] = 2
            meanwhile(site, browser, lambda s: s.destroy())

        response = site.run(browser, work)

        assert response.set_cookie is None
        assert list(site.store.keys()) == []
        assert site.kinds[-1] == "write_after_end"


class TestLogin:
    def test_login(self) -> None:
        site, browser = started()
        old = browser.cookies["session"]
        site.clock.advance(10)

        site.run(browser, lambda s: s.login("bob"), HTTP_USER_AGENT="Fox\x1b[31m\r\n1.0")

        assert browser.cookies["session"] != old

        def work(session: Session) -> None:
            assert session.owner == "bob"
            assert session["a"] == 1
            assert session.authenticated_at == START + timedelta(seconds=10)
            assert session.created_at == START
            assert session.is_fresh(60)
            assert session.label["ip"] == "192.0.2.1"
            assert "\x1b" not in session.label["user_agent"]
            assert "\n" not in session.label["user_agent"]
            site.clock.advance(60)
            assert not session.is_fresh(timedelta(seconds=60))

        site.run(browser, work)

    def test_label_can_be_switched_off(self) -> None:
        site = Site(label=None)
        browser = site.browser()

        assert site.run(browser, lambda s: (s.login("bob"), s.label)[1]).text == "{}"

    def test_setting_the_owner_regenerates_but_doesnt_authenticate(self) -> None:
        site, browser = started()
        old = browser.cookies["session"]

        site.run(browser, lambda s: setattr(s, "owner", "bob"))

        assert browser.cookies["session"] != old
        assert site.run(browser, lambda s: (s.owner, s.authenticated_at)).text == "('bob', None)"
        same = site.run(browser, lambda s: setattr(s, "owner", "bob"))
        assert same.set_cookie is None
        gone = site.run(browser, lambda s: setattr(s, "owner", None))
        assert gone.set_cookie is not None
        assert site.middleware.registry.count("bob") == 0

    @pytest.mark.parametrize(
        ("owner", "error"),
        [
            ("", ValueError),
            ("x" * 257, ValueError),
            (7, TypeError),
            (None, TypeError),
            ("\ud800", ValueError),
        ],
    )
    def test_owners_are_strings(self, owner: Any, error: type[Exception]) -> None:
        site, browser = started()

        def work(session: Session) -> None:
            with pytest.raises(error):
                session.login(owner)

        assert site.run(browser, work).set_cookie is None

    def test_login_ends_in_a_live_session_even_if_the_old_one_was_ended(self) -> None:
        site, browser = started()

        def work(session: Session) -> None:
            session.login("bob")
            session["mine"] = 1
            meanwhile(site, browser, lambda s: s.destroy())

        site.run(browser, work)

        assert site.run(browser, lambda s: (s.owner, dict(s))).text == "('bob', {'mine': 1})"

    def test_login_at_the_least_recently_used_ones_cost(self) -> None:
        site = Site(max_per_owner=2)
        browsers = [site.browser() for _ in range(4)]
        for browser in browsers:
            site.run(browser, lambda s: s.login("bob"))
            site.clock.advance(100)

        assert [site.run(b, lambda s: s.owner).text for b in browsers] == [
            "None",
            "None",
            "bob",
            "bob",
        ]

    def test_a_browser_that_was_signed_in_takes_its_own_place(self) -> None:
        for when_full in ("end_oldest", "refuse"):
            site = Site(max_per_owner=1, when_full=when_full)
            browser = site.browser()
            for _ in range(3):
                site.run(browser, lambda s: s.login("bob"))

            assert site.middleware.registry.count("bob") == 1

    def test_refuse(self) -> None:
        site = Site(max_per_owner=1, when_full="refuse")
        first, second = site.browser(), site.browser()
        site.run(first, lambda s: s.login("bob"))
        site.run(second, put(a=1))

        def work(session: Session) -> str:
            with pytest.raises(TooManySessions):
                session.login("bob")
            return f"{session.owner} {session['a']}"

        response = site.run(second, work)

        assert response.text == "None 1"
        assert response.set_cookie is None
        site.run(first, lambda s: s.destroy())
        site.run(second, lambda s: s.login("bob"))
        assert site.run(second, lambda s: s.owner).text == "bob"

    @pytest.mark.parametrize("when_full", ["end_oldest", "refuse"])
    @pytest.mark.parametrize("kind", ["memory", "file"])
    def test_parallel_logins_fill_every_place_and_no_more(
        self, kind: str, when_full: str, tmp_path: Path
    ) -> None:
        store = MemoryStore() if kind == "memory" else FileStore(tmp_path / "sessions")
        site = Site(store=store, max_per_owner=3, when_full=when_full)
        start = threading.Barrier(12)
        refused: list[str] = []

        def log_in(session: Session) -> None:
            start.wait()
            try:
                session.login("bob")
            except TooManySessions as error:
                refused.append(str(error))

        site.routes["/in"] = log_in
        threads = [
            threading.Thread(target=site.browser().get, args=("/in",), kwargs={"check": False})
            for _ in range(12)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert site.middleware.registry.count("bob") == 3
        assert len(refused) == (9 if when_full == "refuse" else 0)

    def test_a_login_that_failed_gives_its_place_back(self) -> None:
        site = Site(max_per_owner=1, when_full="refuse")
        site.status = "500 Oops"
        site.run(site.browser(), lambda s: s.login("bob"))
        site.status = "200 OK"
        browser = site.browser()

        site.run(browser, lambda s: s.login("bob"))

        assert site.run(browser, lambda s: s.owner).text == "bob"


class TestSaveAndReload:
    def test_save_stands_whatever_happens_later(self) -> None:
        site, browser = started()

        with pytest.raises(ZeroDivisionError):
            site.run(browser, lambda s: (s.update(a=2), s.save(), s.update(a=3), 1 / 0))

        assert site.run(browser, read).text == "{'a': 2}"

    def test_after_a_save_nothing_is_written_twice(self) -> None:
        site, browser = started(store=(store := FaultyStore(MemoryStore())))
        store.calls.clear()

        site.run(browser, lambda s: (s.update(a=2), s.save()))

        assert dict(store.calls) == {"load": 1, "update": 1}

    def test_save_after_regenerate_writes_once_and_sets_the_cookie(self) -> None:
        site, browser = started(store=(store := FaultyStore(MemoryStore())))
        store.calls.clear()

        site.run(browser, lambda s: (s.regenerate(), s.update(b=2), s.save()))

        assert dict(store.calls) == {"load": 1, "update": 1}
        assert site.run(browser, read).text == "{'a': 1, 'b': 2}"

    def test_live_objects_are_watched_on_after_a_save(self) -> None:
        site = Site()
        browser = site.browser()

        def work(session: Session) -> None:
            cart = session.setdefault("cart", [])
            cart.append(1)
            session.save()
            cart.append(2)

        site.run(browser, work)

        assert site.run(browser, read).text == "{'cart': [1, 2]}"

    def test_save_of_a_session_that_was_ended(self) -> None:
        site, browser = started()

        def work(session: Session) -> None:
            session["a"] = 2
            meanwhile(site, browser, lambda s: s.destroy())
            with pytest.raises(SessionEnded):
                session.save()

        assert site.run(browser, work).set_cookie is None

    def test_reload_drops_changes_and_shows_what_others_wrote(self) -> None:
        site, browser = started()

        def work(session: Session) -> str:
            session["a"] = 2
            session.regenerate()
            meanwhile(site, browser, put(b=1))
            session.reload()
            return read(session)

        response = site.run(browser, work)

        assert response.text == "{'a': 1, 'b': 1}"
        assert response.set_cookie is None

    def test_reload_of_a_session_that_is_gone_is_empty(self) -> None:
        site, browser = started()

        def work(session: Session) -> str:
            session["a"] = 2
            meanwhile(site, browser, lambda s: s.destroy())
            session.reload()
            return f"{session.is_new} {dict(session)}"

        assert site.run(browser, work).text == "True {}"

    def test_touch_renews_inside_the_interval(self) -> None:
        site, browser = started()
        site.clock.advance(5)

        site.run(browser, lambda s: s.touch())

        assert site.run(browser, lambda s: s.last_used_at).text == str(START + timedelta(seconds=5))


class TestTransaction:
    def test_increment_and_take(self) -> None:
        site, browser = started()

        assert site.run(browser, lambda s: s.increment("n")).text == "1"
        assert site.run(browser, lambda s: s.increment("n", by=4)).text == "5"
        assert site.run(browser, lambda s: s.take("n")).text == "5"
        assert site.run(browser, lambda s: s.take("n", "none")).text == "none"
        assert site.run(browser, read).text == "{'a': 1}"

    def test_on_a_session_that_isnt_stored_yet(self) -> None:
        site = Site()
        browser = site.browser()

        assert site.run(browser, lambda s: (s.increment("n"), s.increment("n"))).text == "(1, 2)"
        assert site.run(browser, read).text == "{'n': 2}"

    def test_it_sees_what_another_request_wrote_and_this_one_has_pending(self) -> None:
        site, browser = started()

        def work(session: Session) -> str:
            session["pending"] = 1
            meanwhile(site, browser, put(a=5))
            seen = session.transaction(lambda fields: dict(fields))
            session.transaction(lambda fields: fields.update(a=fields["a"] + 1))
            return f"{seen} {session['a']}"

        assert site.run(browser, work).text == "{'a': 5, 'pending': 1} 6"
        assert site.run(browser, read).text == "{'a': 6, 'pending': 1}"

    @pytest.mark.parametrize("value", [2, [2]], ids=["a number", "a list"])
    def test_what_the_session_is_given_meanwhile_is_kept(self, value: Any) -> None:
        site, browser = started()

        def work(session: Session) -> None:
            def change_both(fields: Any) -> None:
                fields["n"] = 1
                session["a"] = session["b"] = value

            session.transaction(change_both)

        assert site.run(browser, work).code == 200
        assert site.run(browser, read).text == repr({"a": value, "n": 1, "b": value})

    @pytest.mark.parametrize("value", [2, [2]], ids=["a number", "a list"])
    def test_what_a_listener_puts_in_during_save_is_kept(self, value: Any) -> None:
        site, browser = started()
        current: list[Session] = []

        def listen(event: SessionEvent) -> None:
            if event.kind == "regenerated":
                current[0]["a"] = current[0]["b"] = value

        again = Site(store=site.store, clock=site.clock, on_event=listen)
        returning = again.browser()
        returning.cookies = browser.cookies

        def work(session: Session) -> None:
            current.append(session)
            session.regenerate()
            session.save()

        assert again.run(returning, work).code == 200
        assert again.run(returning, read).text == repr({"a": value, "b": value})

    def test_it_commits_what_is_pending_first(self) -> None:
        site, browser = started()

        def work(session: Session) -> None:
            session["pending"] = 1
            session.increment("n")
            session["later"] = 1
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            site.run(browser, work)

        assert site.run(browser, read).text == "{'a': 1, 'pending': 1, 'n': 1}"

    def test_it_is_run_again_when_another_request_was_faster(self) -> None:
        site, browser = started()
        runs: list[Any] = []

        def add(fields: Any) -> Any:
            runs.append(fields.get("n", 0))
            if len(runs) < 3:
                meanwhile(site, browser, lambda s: s.increment("n", by=10))
            fields["n"] = fields.get("n", 0) + 1
            return fields["n"]

        assert site.run(browser, lambda s: s.transaction(add)).text == "21"
        assert runs == [0, 10, 20]

    def test_it_gives_up_at_last(self) -> None:
        site, browser = started()

        def hopeless(fields: Any) -> None:
            meanwhile(site, browser, lambda s: s.increment("n"))
            fields["mine"] = 1

        def work(session: Session) -> None:
            with pytest.raises(SessionConflict):
                session.transaction(hopeless)

        site.run(browser, work)

        assert "mine" not in site.run(browser, read).text

    def test_of_a_session_that_was_ended(self) -> None:
        site, browser = started()

        def work(session: Session) -> str:
            session.get("a")
            meanwhile(site, browser, lambda s: s.destroy())
            with pytest.raises(SessionEnded):
                session.increment("n")
            return str(session.take("a", "default"))

        assert site.run(browser, work).text == "default"

    @pytest.mark.parametrize("by", ["x", True, None, [1]])
    def test_nothing_but_a_number_is_added(self, by: Any) -> None:
        site, browser = started()

        def work(session: Session) -> None:
            kind = type(by).__name__
            with pytest.raises(TypeError, match=f"^by is of type {kind}; give a number$"):
                session.increment("n", by)

        assert site.run(browser, work).code == 200
        assert site.run(browser, lambda s: "n" in s).text == "False"

    def test_decimals_and_lengths_of_time_can_be_incremented(self) -> None:
        site, browser = started()

        def work(session: Session) -> Any:
            session["spent"] = timedelta(seconds=1)
            session.increment("spent", by=timedelta(seconds=2))  # type: ignore[arg-type] # it works
            session.increment("price", by=Decimal("0.10"))  # type: ignore[arg-type] # as well
            return session["spent"], session["price"]

        assert site.run(browser, work).text == repr((timedelta(seconds=3), Decimal("0.10")))

    @pytest.mark.parametrize("fn", [None, 5, "x"])
    def test_a_transaction_needs_a_function(self, fn: Any) -> None:
        site, browser = started()

        def work(session: Session) -> None:
            with pytest.raises(TypeError, match=f"^fn is of type {type(fn).__name__}; give a func"):
                session.transaction(fn)

        assert site.run(browser, work).code == 200

    @pytest.mark.parametrize("label", [5, None, "phone", [("device", "phone")]])
    def test_a_label_is_a_mapping(self, label: Any) -> None:
        site, browser = started()

        def work(session: Session) -> None:
            with pytest.raises(TypeError, match=f"^label is of type {type(label).__name__}; write"):
                session.label = label

        assert site.run(browser, work).code == 200

    def test_a_text_cant_be_incremented(self) -> None:
        site, browser = started()
        site.run(browser, put(text="x", yes=True))

        def work(session: Session) -> None:
            for name in ("text", "yes"):
                with pytest.raises(TypeError, match=name):
                    session.increment(name)

        site.run(browser, work)

    def test_a_transaction_before_regenerate_needs_no_second_try(self) -> None:
        site, browser = started(store=(store := FaultyStore(MemoryStore())))
        store.calls.clear()

        site.run(browser, lambda s: (s.increment("n"), s.regenerate()))

        assert store.calls["update"] == 2
        assert site.run(browser, read).text == "{'a': 1, 'n': 1}"

    def test_many_threads_count_exactly(self) -> None:
        site, browser = started()
        site.routes["/count"] = lambda s: s.increment("n")
        site.routes["/take"] = lambda s: s.take("a", "")
        taken: list[str] = []

        def visit() -> None:
            mine = Browser(site.middleware)
            mine.cookies = dict(browser.cookies)
            for _ in range(20):
                mine.get("/count", check=False)
            taken.append(mine.get("/take", check=False).text)

        threads = [threading.Thread(target=visit) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert site.run(browser, lambda s: s["n"]).text == "160"
        assert sorted(taken)[-2:] == ["", "1"]


class TestRegistry:
    def test_sessions_and_revoking(self) -> None:
        site = Site()
        registry = site.middleware.registry
        browsers = [site.browser() for _ in range(3)]
        for browser in browsers:
            site.run(browser, lambda s: s.login("bob"))
            site.clock.advance(10)
        site.run(site.browser(), lambda s: s.login("eve"))

        listed = registry.sessions("bob")

        assert [info.created_at for info in listed] == [
            START + timedelta(seconds=n) for n in (20, 10, 0)
        ]
        assert registry.count("bob") == 3
        assert registry.get(listed[0].handle) == listed[0]
        assert registry.revoke(listed[0].handle)
        assert not registry.revoke(listed[0].handle)
        assert not registry.revoke("nonsense")
        assert registry.count("bob") == 2
        assert site.run(browsers[2], lambda s: s.owner).text == "None"
        assert registry.revoke_all("bob") == 2
        assert registry.sessions("bob") == []
        assert len(list(registry)) == 1

    def test_sign_out_everywhere_else(self) -> None:
        site = Site()
        registry = site.middleware.registry
        browsers = [site.browser() for _ in range(3)]
        for browser in browsers:
            site.run(browser, lambda s: s.login("bob"))

        assert site.run(browsers[0], lambda s: registry.revoke_all("bob", except_=s)).text == "2"

        assert [site.run(b, lambda s: s.owner).text for b in browsers] == ["bob", "None", "None"]
        site.run(browsers[0], lambda s: s.regenerate())
        assert site.run(browsers[0], lambda s: s.owner).text == "bob"

    def test_a_session_is_spared_by_its_handle(self) -> None:
        site = Site()
        first, second = site.browser(), site.browser()
        for browser in (first, second):
            site.run(browser, lambda s: s.login("bob"))
        handle = site.run(first, lambda s: s.handle).text

        assert site.middleware.registry.revoke_all("bob", except_=handle) == 1
        assert [site.run(b, lambda s: s.owner).text for b in (first, second)] == ["bob", "None"]
        site.run(first, lambda s: s.regenerate())
        assert site.run(first, lambda s: s.owner).text == "bob"

    def test_a_session_of_nobody_or_of_another_user_is_no_reason_to_spare_one(self) -> None:
        site = Site()
        registry = site.middleware.registry
        bob, admin = site.browser(), site.browser()
        for login in (lambda s: None, lambda s: s.login("admin")):
            site.run(bob, lambda s: s.login("bob"))
            site.run(admin, login)

            assert site.run(admin, lambda s: registry.revoke_all("bob", except_=s)).text == "1"
            assert site.run(bob, lambda s: s.owner).text == "None"
        assert site.run(admin, lambda s: s.owner).text == "admin"

    def test_a_spared_session_may_change_meanwhile(self) -> None:
        site = Site(store=(store := FaultyStore(MemoryStore())))
        browser = site.browser()
        site.run(browser, lambda s: s.login("bob"))
        handle = site.run(browser, lambda s: s.handle).text
        store.before("load", lambda *a, **k: store.store.update(handle, Changes(set={"a": b"1"})))

        assert site.middleware.registry.revoke_all("bob", except_=handle) == 0
        site.run(browser, lambda s: s.regenerate())

        assert site.run(browser, lambda s: s.owner).text == "bob"

    def test_a_login_at_its_limit_survives_signing_out_everywhere_else(self) -> None:
        site = Site(max_per_owner=2)
        registry = site.middleware.registry
        first, second = site.browser(), site.browser()
        for browser in (first, second):
            site.run(browser, lambda s: s.login("bob"))

        site.run(first, lambda s: (s.login("bob"), registry.revoke_all("bob", except_=s)))

        assert [site.run(b, lambda s: s.owner).text for b in (first, second)] == ["bob", "None"]
        assert registry.count("bob") == 1

    def test_sign_out_everywhere_else_with_a_new_id_in_the_same_request(self) -> None:
        site = Site()
        registry = site.middleware.registry
        first, second = site.browser(), site.browser()
        for browser in (first, second):
            site.run(browser, lambda s: s.login("bob"))

        site.run(first, lambda s: (registry.revoke_all("bob", except_=s), s.login("bob")))
        assert [site.run(b, lambda s: s.owner).text for b in (first, second)] == ["bob", "None"]
        site.run(first, lambda s: (s.login("bob"), registry.revoke_all("bob", except_=s)))
        assert site.run(first, lambda s: s.owner).text == "bob"

    @pytest.mark.parametrize("call", range(3))
    def test_a_login_that_races_with_revoke_all_is_revoked_by_it_or_comes_later(
        self, call: int
    ) -> None:
        site = Site(store=(store := FaultyStore(MemoryStore())))
        registry = site.middleware.registry
        browser = site.browser()
        once = iter([lambda: None] * call + [lambda: registry.revoke_all("bob")])

        def between(*args: Any, **options: Any) -> None:
            next(once, lambda: None)()

        for operation in ("insert", "load"):
            store.before(operation, between)

        response = site.run(browser, lambda s: s.login("bob"))

        listed = [info.handle for info in registry.sessions("bob")]
        lives = site.run(browser, lambda s: s.owner).text == "bob"
        assert (response.set_cookie is not None) is lives is bool(listed)
        assert bool(list(store.keys())) is lives
        assert lives is (call == 0)
        assert ("revoked" in site.kinds) is not lives

    @pytest.mark.parametrize("work", [lambda s: s.regenerate(), lambda s: s.get("a")])
    def test_a_new_id_is_no_way_round_a_revocation(self, work: Callable[[Session], Any]) -> None:
        site = Site(rotate_after=50, store=(store := FaultyStore(MemoryStore())))
        registry = site.middleware.registry
        browser = site.browser()
        site.run(browser, lambda s: s.login("bob"))
        site.clock.advance(51)
        once = iter([lambda: registry.revoke_all("bob")])
        store.before("update", lambda *a, **k: next(once, lambda: None)())

        response = site.run(browser, work)

        assert response.set_cookie is None
        assert registry.count("bob") == 0
        assert site.run(browser, lambda s: s.owner).text == "None"

    def test_a_revoke_all_that_broke_off_is_finished_by_listing(self) -> None:
        site = Site(store=(store := FaultyStore(MemoryStore())))
        registry = site.middleware.registry
        browser = site.browser()
        site.run(browser, lambda s: s.login("bob"))
        store.fail("delete")
        with pytest.raises(StoreError):
            registry.revoke_all("bob")
        store.recover()

        assert registry.sessions("bob") == []
        assert site.run(browser, lambda s: s.owner).text == "None"
        assert list(store.keys()) == []

    def test_listing_heals_the_list_but_leaves_young_entries_alone(self) -> None:
        site = Site(store=(store := FaultyStore(MemoryStore())))
        registry = site.middleware.registry
        browser = site.browser()
        # The list of the login is written, its record isn't.
        inserts = itertools.count()
        store.before("insert", lambda *a, **k: next(inserts) == 1 and store.fail("insert"))
        assert site.run(browser, lambda s: s.login("bob")).code == 503
        store.recover()

        assert registry.sessions("bob") == []
        assert list(store.keys()) == [list_key("bob")]
        site.clock.advance(60)
        assert registry.sessions("bob") == []
        assert list(store.keys()) == []


class TestDamage:
    """What can't be read is no session as a whole, and the record stays as it is."""

    def damaged(self, **fields: bytes) -> tuple[Site, Browser]:
        site, browser = started()
        (key,) = site.store.keys()
        site.store.update(key, Changes(set=fields))
        return site, browser

    @pytest.mark.parametrize(
        "work",
        [
            lambda s: (s.get("a"), s.get("b"), dict(s))[2],
            lambda s: (s.get("b", 1), len(s))[1] or {},
            dict,
            lambda s: dict(s.items()),
            lambda s: {value: value for value in s.values()},
            lambda s: s.pop("b", {}),
        ],
    )
    def test_a_damaged_field_leaves_nothing(self, work: Callable[[Session], Any]) -> None:
        site, browser = self.damaged(b=b"{damaged")

        assert site.run(browser, work).text == "{}"
        assert "corrupt_record" in site.kinds
        assert len(list(site.store.keys())) == 1

    def test_writing_starts_a_new_session_under_a_new_id(self) -> None:
        site, browser = self.damaged(b=b"{damaged")
        old = browser.cookies["session"]

        site.run(browser, lambda s: (s.get("b"), s.update(c=1)))

        assert browser.cookies["session"] != old
        assert site.run(browser, read).text == "{'c': 1}"
        assert len(list(site.store.keys())) == 2

    def test_damaged_notes(self) -> None:
        site, browser = started()
        (key,) = site.store.keys()
        site.store.update(key, Changes(notes=b"nonsense"))

        assert site.run(browser, read).text == "{}"
        assert site.kinds[-1] == "corrupt_record"

    def test_a_failed_reload_is_no_empty_session(self) -> None:
        site, browser = started(store=(store := FaultyStore(MemoryStore())))

        def work(session: Session) -> None:
            session.get("a")
            store.fail("load")
            session["b"] = 2
            with pytest.raises(StoreError):
                session.reload()
            store.recover()
            assert dict(session) == {"a": 1, "b": 2}
            session.reload()

        assert site.run(browser, work).code == 200
        assert site.run(browser, read).text == "{'a': 1}"


class TestFoundDead:
    """A request that finds its session ended by another one hands out no cookie for it."""

    @staticmethod
    def ended_meanwhile(
        work: Callable[[Session], object], *, before: Callable[[Session], object], **options: Any
    ) -> tuple[Site, Response]:
        site = Site(**options)
        browser = site.browser()
        site.run(browser, lambda session: session.update(n=0))

        def slow(session: Session) -> None:
            before(session)
            site.middleware.registry.revoke(session.handle)
            work(session)

        return site, site.run(browser, slow)

    @staticmethod
    def count(session: Session) -> None:
        with pytest.raises(SessionEnded):
            session.increment("n")

    def test_in_a_transaction_where_cookies_are_sent_again(self) -> None:
        _, answer = self.ended_meanwhile(self.count, before=lambda s: s.get("n"), rolling=True)

        assert (answer.code, answer.set_cookie) == (200, None)

    def test_in_a_transaction_after_save_gave_it_a_new_id(self) -> None:
        def begin_anew(session: Session) -> None:
            session.regenerate()
            session.save()

        _, answer = self.ended_meanwhile(self.count, before=begin_anew)

        assert (answer.code, answer.set_cookie) == (200, None)

    def test_a_login_afterwards_is_handed_out_all_the_same(self) -> None:
        def work(session: Session) -> None:
            self.count(session)
            session.login("ada")
            session.save()

        site, answer = self.ended_meanwhile(work, before=lambda s: s.get("n"))

        assert answer.set_cookie is not None
        assert site.middleware.registry.count("ada") == 1
