"""Session: what its members say and keep, word by word, where other tests look at the whole."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from wsgi import SECRET, Browser, Site
from wsgi_sessions import (
    Lifetime,
    Session,
    SessionCommitted,
    SessionMiddleware,
    StoreError,
    get_session,
)
from wsgi_sessions.record import Changes
from wsgi_sessions.stores import MemoryStore
from wsgi_sessions.testing import FaultyStore


def started(**options: Any) -> tuple[Site, Browser]:
    site = Site(**options)
    browser = site.browser()
    site.run(browser, lambda session: session.update(a=1, b=2))
    return site, browser


class TestRepr:
    def test_untouched(self) -> None:
        site, browser = started()

        assert site.run(browser, repr).text == "<Session, not loaded>"

    def test_new(self) -> None:
        site = Site()

        def work(session: Session) -> str:
            assert "a" not in session
            return repr(session)

        assert site.run(site.browser(), work).text == "<Session, new, fields loaded: none>"

    def test_stored(self) -> None:
        site, browser = started()

        def work(session: Session) -> list[str]:
            seen = [session.handle, repr(session)]
            assert session["a"] + session["b"] == 3
            return [*seen, repr(session)]

        handle, before, after = eval(site.run(browser, work).text)

        assert before == f"<Session {handle}, stored, fields loaded: none>"
        assert after == f"<Session {handle}, stored, fields loaded: 'a', 'b'>"

    def test_not_loadable(self) -> None:
        store = FaultyStore(MemoryStore())
        site, browser = started(store=store)
        store.fail("load")

        def work(session: Session) -> str:
            with pytest.raises(StoreError):
                session.get("a")
            return repr(session)

        assert site.run(browser, work).text == "<Session, could not be loaded>"


class TestReading:
    def test_what_is_missing(self) -> None:
        site, browser = started()

        def work(session: Session) -> None:
            assert session.get("x") is None
            assert session.get("x", "default") == "default"
            with pytest.raises(KeyError, match="'x'"):
                session["x"]
            with pytest.raises(KeyError, match="'x'"):
                del session["x"]

        assert site.run(browser, work).code == 200

    @pytest.mark.parametrize("again", [lambda s: s["a"], lambda s: s.get("a")])
    def test_what_couldnt_be_loaded_says_so_each_time(self, again: Any) -> None:
        store = FaultyStore(MemoryStore())
        site, browser = started(store=store)
        store.fail("load")

        def work(session: Session) -> None:
            for _ in range(2):
                with pytest.raises(StoreError):
                    again(session)

        assert site.run(browser, work).code == 200

    def test_a_field_that_cant_be_read_is_missing_under_its_own_name(self) -> None:
        site, browser = started()
        (key,) = site.store.keys()
        site.store.update(key, Changes({"a": b"damaged"}))

        def work(session: Session) -> None:
            with pytest.raises(KeyError, match="'a'"):
                session["a"]

        assert site.run(browser, work).code == 200

    def test_a_new_session_was_last_used_when_it_was_created(self) -> None:
        site = Site()

        def work(session: Session) -> None:
            assert session.last_used_at == datetime.fromtimestamp(site.clock(), UTC)

        assert site.run(site.browser(), work).code == 200

    @pytest.mark.parametrize("within", [0, 0.0, -1, timedelta(0), timedelta(seconds=-1)])
    def test_nothing_is_fresh_within_no_time(self, within: Any) -> None:
        site, browser = started()

        def work(session: Session) -> bool:
            session.login("42")
            return session.is_fresh(within)

        assert site.run(browser, work).text == "False"

    def test_a_lifetime_is_the_one_that_was_set(self) -> None:
        site, browser = started()

        def work(session: Session) -> bool:
            session.lifetime = Lifetime(100, 500)
            return session.lifetime == Lifetime(100, 500)

        assert site.run(browser, work).text == "True"

    @pytest.mark.parametrize("within", ["5", True, math.nan, math.inf, None])
    def test_is_fresh_names_what_it_was_given(self, within: Any) -> None:
        site, browser = started()

        def work(session: Session) -> None:
            session.login("42")
            with pytest.raises(ValueError, match=r"^is_fresh: within is "):
                session.is_fresh(within)

        assert site.run(browser, work).code == 200


class TestSettings:
    def test_a_label_is_kept(self) -> None:
        site, browser = started()
        site.run(browser, lambda session: setattr(session, "label", {"device": "phone"}))

        assert site.run(browser, lambda session: session.label).text == "{'device': 'phone'}"

        def same(session: Session) -> bool:
            session.label = {"device": "phone"}
            return session.modified

        assert site.run(browser, same).text == "False"

    def test_a_label_is_a_copy(self) -> None:
        site, browser = started()
        given = {"device": "phone"}

        def work(session: Session) -> Any:
            session.label = given
            given["device"] = "fridge"
            return session.label

        assert site.run(browser, work).text == "{'device': 'phone'}"

    def test_a_lifetime_of_its_own_is_kept(self) -> None:
        site, browser = started(lifetime=Lifetime(idle=1_000, absolute=2_000))
        own = Lifetime(idle=timedelta(seconds=100), absolute=timedelta(seconds=150))
        site.run(browser, lambda session: setattr(session, "lifetime", own))

        assert site.run(browser, lambda session: session.lifetime == own).text == "True"
        end = site.run(browser, lambda session: session.expires_at.timestamp() - site.clock())
        assert end.text == "100.0"
        site.clock.advance(90)
        site.run(browser, lambda session: session["a"])
        end = site.run(browser, lambda session: session.expires_at.timestamp() - site.clock())
        assert end.text == "60.0"

    @pytest.mark.parametrize(
        ("name", "given", "message"),
        [
            ("persistent", 1, "^persistent is 1; write True or False"),
            ("lifetime", 5, "^lifetime is of type int; write a Lifetime"),
            ("owner", 5, "^owner is of type int; write a str, such as"),
            ("label", {"a": 5}, r"^label\['a'\] is of type int; write a str$"),
        ],
    )
    def test_what_is_wrong_with_a_setting_is_said(
        self, name: str, given: Any, message: str
    ) -> None:
        site, browser = started()

        def work(session: Session) -> None:
            with pytest.raises((TypeError, ValueError), match=message):
                setattr(session, name, given)

        assert site.run(browser, work).code == 200

    def test_an_owner_has_up_to_256_characters(self) -> None:
        site, browser = started()

        def work(session: Session) -> Any:
            with pytest.raises(ValueError, match="^owner has 257 characters; 1 to 256"):
                session.owner = "o" * 257
            session.owner = "o" * 256
            return session.owner

        assert site.run(browser, work).text == "o" * 256

    def test_a_string_is_no_list_of_keys_to_keep(self) -> None:
        site, browser = started()

        def work(session: Session) -> None:
            with pytest.raises(
                TypeError,
                match="keep is of type (str|bytes|int|NoneType); write True, False or a list",
            ):
                session.regenerate(keep="a")

        assert site.run(browser, work).code == 200

    @pytest.mark.parametrize(("value", "kind"), [("x", "str"), (True, "bool"), (None, "NoneType")])
    def test_only_numbers_are_incremented(self, value: Any, kind: str) -> None:
        site, browser = started()

        def work(session: Session) -> None:
            session["n"] = value
            with pytest.raises(TypeError, match=rf"session\['n'\] is of type {kind}; only a num"):
                session.increment("n")

        assert site.run(browser, work).code == 200


def streamed(work: Any, *, over: bool = False) -> list[str]:
    """What ``work`` says of a new session within the body, or after its end."""
    said: list[str] = []
    kept: list[Session] = []

    def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        session = get_session(environ)
        kept.append(session)
        start_response("200 OK", [("Content-Type", "text/plain")])

        def body() -> Iterator[bytes]:
            yield b"first"
            if not over:
                said.append(work(session))

        return body()

    Browser(SessionMiddleware(app, secret_key=SECRET)).get("/")
    if over:
        said.append(work(kept[0]))
    return said


class TestLate:
    @pytest.mark.parametrize(
        "change",
        [lambda session: session.update(a=1), lambda session: session.increment("n")],
        ids=["data", "transaction"],
    )
    def test_after_the_response_nothing_can_be_changed(self, change: Any) -> None:
        def work(session: Session) -> str:
            with pytest.raises(SessionCommitted) as caught:
                change(session)
            return str(caught.value)

        assert streamed(work, over=True) == [
            (
                "the response is complete, so this change would be lost;"
                " change the session while the request is being answered"
            )
        ]

    def test_a_change_that_needs_a_cookie_is_refused_after_the_headers(self) -> None:
        def work(session: Session) -> str:
            with pytest.raises(SessionCommitted) as caught:
                session["a"] = 1
            return str(caught.value)

        assert streamed(work) == [
            (
                "the response's headers are already sent, so the cookie that this change needs"
                " can't be set; change the session before the body's first chunk"
            )
        ]

    def test_a_new_id_is_refused_after_the_headers(self) -> None:
        def work(session: Session) -> str:
            with pytest.raises(SessionCommitted) as caught:
                session.regenerate()
            return str(caught.value)

        assert streamed(work) == [
            (
                "the response's headers are already sent, so a new cookie can't be set;"
                " do this before the body's first chunk"
            )
        ]

    def test_a_transaction_that_only_looks_is_fine_after_the_headers(self) -> None:
        assert streamed(lambda session: session.transaction(lambda fields: fields.get("a"))) == [
            None
        ]

    @pytest.mark.parametrize("late", [False, True])
    def test_only_a_first_use_after_the_headers_is_explained(
        self, late: bool, caplog: pytest.LogCaptureFixture
    ) -> None:
        def app(environ: Any, start_response: Any) -> Iterable[bytes]:
            session = get_session(environ)
            if not late:
                assert "a" not in session
            start_response("200 OK", [("Content-Type", "text/plain")])

            def body() -> Iterator[bytes]:
                yield b"first"
                assert "a" not in session

            return body()

        Browser(SessionMiddleware(app, secret_key=SECRET)).get("/")

        assert ("first used after the response's headers" in caplog.text) is late
