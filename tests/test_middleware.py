"""The life of one request, over WSGI: the table of the design, headers, streams, errors."""

from __future__ import annotations

import io
import logging
import re
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any
from wsgiref.util import FileWrapper
from wsgiref.validate import validator

import pytest

from wsgi import SECRET, Browser, Site, call, environ
from wsgi_sessions import (
    Cookie,
    Lifetime,
    Session,
    SessionCommitted,
    SessionMiddleware,
    SessionTooLarge,
    StoreError,
    TrustedProxies,
    get_session,
)
from wsgi_sessions.stores import MemoryStore
from wsgi_sessions.testing import FaultyStore

KEY = "wsgi_sessions.session"


def put(**values: Any) -> Any:
    return lambda session: session.update(values)


def read(session: Session) -> str:
    return repr(dict(session))


def nothing(session: Session) -> None:
    pass


def nest(session: Session) -> None:
    session["b"] = []
    session["b"].append(object())


def break_label(session: Session) -> None:
    session.label["b"] = "\ud800"


class TestTheTable:
    """Section 4 of the design, line by line."""

    def test_untouched(self) -> None:
        site = Site(store=(store := FaultyStore(MemoryStore())))
        browser = site.browser()
        site.run(browser, put(a=1))
        before = dict(store.calls)

        response = site.run(browser, nothing)

        assert response.headers == [("Content-Type", "text/plain; charset=utf-8")]
        assert dict(store.calls) == before

    def test_read_within_the_touch_interval(self) -> None:
        site = Site(store=(store := FaultyStore(MemoryStore())))
        browser = site.browser()
        site.run(browser, put(a=1))
        store.calls.clear()
        site.clock.advance(59)

        response = site.run(browser, read)

        assert response.text == "{'a': 1}"
        assert response.set_cookie is None
        assert response.get("Vary") == "Cookie"
        assert dict(store.calls) == {"load": 1}

    def test_read_later_than_that_touches(self) -> None:
        site = Site(store=(store := FaultyStore(MemoryStore())))
        browser = site.browser()
        site.run(browser, put(a=1))
        store.calls.clear()
        site.clock.advance(60)

        response = site.run(browser, read)

        assert response.set_cookie is None
        assert dict(store.calls) == {"load": 1, "update": 1}
        (key,) = site.middleware.registry
        record = site.store.load(key)
        assert record is not None
        assert (record.used_at, record.expires_at) == (site.clock.now, site.clock.now + 86400)
        assert record.version == 1

    def test_max_age_is_the_whole_limit_although_a_save_came_a_moment_before(self) -> None:
        site = Site(cookie=Cookie(persistent=True))

        def view(session: Session) -> None:
            session["a"] = 1
            session.save()
            site.clock.advance(0.02)

        answer = site.run(site.browser(), view)

        assert "; Max-Age=86400;" in str(answer.set_cookie)

    def test_a_touch_resends_a_persistent_cookie(self) -> None:
        site = Site(cookie=Cookie(persistent=True))
        browser = site.browser()
        first = site.run(browser, put(a=1))
        site.clock.advance(60)

        response = site.run(browser, read)

        expires = re.compile(r"Expires=[^;]+")
        assert "Max-Age=86400" in str(first.set_cookie)
        assert response.set_cookie != first.set_cookie
        assert expires.sub("", str(response.set_cookie)) == expires.sub("", str(first.set_cookie))

    def test_rolling_resends_on_every_use(self) -> None:
        site = Site(rolling=True)
        browser = site.browser()
        first = site.run(browser, put(a=1))

        assert site.run(browser, read).set_cookie == first.set_cookie
        assert site.run(browser, nothing).set_cookie is None

    def test_changed_sends_only_the_changed_fields(self) -> None:
        site = Site(store=(store := FaultyStore(MemoryStore())))
        browser = site.browser()
        site.run(browser, put(a=1, b=2))
        seen: list[Any] = []
        store.before("update", lambda *args, **kwargs: seen.append((args, kwargs)))

        response = site.run(browser, put(b=3))

        ((_, changes), _) = seen[0]
        assert set(changes.set) == {"b"}
        assert not changes.delete
        assert response.set_cookie is None

    def test_new_with_something_put_in(self) -> None:
        site = Site()

        response = site.run(site.browser(), put(a=1))

        assert response.set_cookie is not None
        assert response.set_cookie.startswith("session=")
        assert response.get("Cache-Control") == "no-store"
        assert site.kinds == ["created"]

    @pytest.mark.parametrize(
        "work",
        [
            pytest.param(read, id="read"),
            pytest.param(lambda s: s.label.update(x="y"), id="label"),
            pytest.param(lambda s: setattr(s, "persistent", True), id="persistent"),
            pytest.param(lambda s: s.id, id="id"),
            pytest.param(lambda s: s.regenerate(), id="regenerate"),
            pytest.param(lambda s: s.touch(), id="touch"),
            pytest.param(lambda s: s.save(), id="save"),
            pytest.param(lambda s: (s.update(a=1), s.clear()), id="put in and taken out"),
        ],
    )
    def test_new_with_nothing_put_in(self, work: Any) -> None:
        site = Site(store=(store := FaultyStore(MemoryStore())))

        response = site.run(site.browser(), work)

        assert response.set_cookie is None
        assert not store.calls

    def test_save_uninitialized_stores_what_was_accessed(self) -> None:
        site = Site(save_uninitialized=True)

        assert site.run(site.browser(), nothing).set_cookie is None
        assert site.run(site.browser(), read).set_cookie is not None

    def test_all_data_removed_deletes_and_expires(self) -> None:
        site = Site()
        browser = site.browser()
        site.run(browser, put(a=1))

        response = site.run(browser, lambda s: s.clear())

        assert "Max-Age=0" in str(response.set_cookie)
        assert list(site.store.keys()) == []

    def test_all_data_removed_while_another_request_wrote(self) -> None:
        site = Site()
        browser = site.browser()
        site.run(browser, put(a=1))

        def work(session: Session) -> None:
            session.clear()
            other = Browser(site.middleware)
            other.cookies = dict(browser.cookies)
            site.routes["/other"] = put(b=2)
            other.get("/other")

        response = site.run(browser, work)

        assert response.set_cookie is None
        assert site.run(browser, read).text == "{'b': 2}"

    def test_an_owned_session_without_data_stays(self) -> None:
        site = Site()
        browser = site.browser()
        site.run(browser, lambda s: s.login("bob"))

        assert site.run(browser, lambda s: s.clear()).set_cookie is None
        assert site.run(browser, lambda s: s.owner).text == "bob"

    def test_regenerated(self) -> None:
        site = Site()
        browser = site.browser()
        site.run(browser, put(a=1))
        old = browser.cookies["session"]

        response = site.run(browser, lambda s: s.regenerate())

        assert response.set_cookie is not None
        assert browser.cookies["session"] != old
        assert site.run(browser, read).text == "{'a': 1}"
        browser.cookies["session"] = old
        assert site.run(browser, read).text == "{}"

    def test_regenerated_while_another_request_wrote_loses_nothing(self) -> None:
        site = Site()
        browser = site.browser()
        site.run(browser, put(a=1, gone=1))

        def work(session: Session) -> None:
            session.regenerate()
            session["mine"] = 1
            del session["gone"]
            other = Browser(site.middleware)
            other.cookies = dict(browser.cookies)
            site.routes["/other"] = put(theirs=1)
            other.get("/other")

        site.run(browser, work)

        assert site.run(browser, read).text == "{'a': 1, 'theirs': 1, 'mine': 1}"

    def test_destroyed(self) -> None:
        site = Site()
        browser = site.browser()
        site.run(browser, put(a=1))
        left: list[int] = []

        def work(session: Session) -> None:
            session.destroy()
            left.append(len(list(site.store.keys())))

        response = site.run(browser, work)

        assert left == [0]
        assert "Max-Age=0" in str(response.set_cookie)
        assert "session" not in browser.cookies

    def test_destroyed_without_a_cookie_sent(self) -> None:
        site = Site(store=(store := FaultyStore(MemoryStore())))

        assert site.run(site.browser(), lambda s: s.destroy()).set_cookie is None
        assert not store.calls

    def test_destroyed_then_written_is_a_fresh_session(self) -> None:
        site = Site()
        browser = site.browser()
        site.run(browser, put(a=1))
        old = browser.cookies["session"]

        site.run(browser, lambda s: (s.destroy(), s.update(b=2)))

        assert browser.cookies["session"] != old
        assert site.run(browser, read).text == "{'b': 2}"

    def test_a_write_to_a_session_that_is_gone_is_dropped(self) -> None:
        site = Site()
        browser = site.browser()
        site.run(browser, put(a=1))

        def work(session: Session) -> None:
            session["a"] = 2
            site.store.delete(session.handle)

        response = site.run(browser, work)

        assert response.set_cookie is None
        assert list(site.store.keys()) == []
        assert site.kinds[-1] == "write_after_end"

    def test_an_older_secret_is_resigned_once(self) -> None:
        store = MemoryStore()
        before = Site(store=store)
        browser = before.browser()
        before.run(browser, put(a=1))
        after = Site(store=store, secret_key=["n" * 16 + "ew secret" * 3, SECRET])
        browser.app = after.middleware

        assert after.run(browser, read).set_cookie is not None
        assert after.run(browser, read).set_cookie is None
        assert after.kinds == ["old_secret"]

    @pytest.mark.parametrize("work", [put(a=2), lambda s: s.regenerate(), lambda s: s.login("x")])
    def test_an_answer_5xx_keeps_nothing(self, work: Any) -> None:
        site = Site()
        browser = site.browser()
        site.run(browser, put(a=1))
        site.status = "500 Oops"

        response = site.run(browser, work)

        assert response.set_cookie is None
        site.status = "200 OK"
        assert site.run(browser, read).text == "{'a': 1}"

    def test_an_app_that_raises_keeps_nothing(self) -> None:
        site = Site()
        browser = site.browser()
        site.run(browser, put(a=1))

        with pytest.raises(ZeroDivisionError):
            site.run(browser, lambda s: (s.update(a=2), 1 / 0))

        assert site.run(browser, read).text == "{'a': 1}"

    def test_save_on_error_keeps_changes(self) -> None:
        site = Site(save_on_error=True)
        browser = site.browser()
        site.run(browser, put(a=1))

        with pytest.raises(ZeroDivisionError):
            site.run(browser, lambda s: (s.update(a=2), 1 / 0))
        site.status = "503 Busy"
        site.run(browser, put(b=3))

        site.status = "200 OK"
        assert site.run(browser, read).text == "{'a': 2, 'b': 3}"

    def test_save_on_error_never_makes_an_id_that_cant_be_handed_out(self) -> None:
        site = Site(save_on_error=True)
        browser = site.browser()
        site.run(browser, put(a=1))

        with pytest.raises(ZeroDivisionError):
            site.run(browser, lambda s: (s.regenerate(), 1 / 0))
        with pytest.raises(ZeroDivisionError):
            site.run(site.browser(), lambda s: (s.update(b=1), 1 / 0))

        assert len(list(site.store.keys())) == 1
        assert site.run(browser, read).text == "{'a': 1}"

    def test_a_destroy_stands_and_the_5xx_answer_expires_the_cookie(self) -> None:
        site = Site()
        browser = site.browser()
        site.run(browser, put(a=1))
        site.status = "500 Oops"

        response = site.run(browser, lambda s: s.destroy())

        assert "Max-Age=0" in str(response.set_cookie)
        assert list(site.store.keys()) == []

    def test_a_cookie_that_the_app_itself_expires_with_a_5xx_is_a_destroy_too(self) -> None:
        site = Site()
        browser = site.browser()
        site.run(browser, put(a=1))
        site.status = "500 Oops"
        site.headers = [("Set-Cookie", "session=x; Max-Age=0")]

        response = site.run(browser, put(b=1))

        assert "Max-Age=0" in str(response.set_cookie)
        assert list(site.store.keys()) == []

    def test_a_save_stands_and_the_5xx_answer_sets_the_cookie(self) -> None:
        site = Site()
        browser = site.browser()
        site.status = "500 Oops"

        site.run(browser, lambda s: (s.update(a=1), s.save()))

        site.status = "200 OK"
        assert site.run(browser, read).text == "{'a': 1}"

    @pytest.mark.parametrize(
        "cookie", ["session=nonsense", "session=", "session=" + "A" * 43 + "." + "B" * 43]
    )
    def test_a_cookie_that_is_no_session_is_left_alone(self, cookie: str) -> None:
        site = Site(store=(store := FaultyStore(MemoryStore())))
        site.routes["/"] = read

        response = call(site.middleware, environ(cookie=cookie))

        assert response.set_cookie is None
        assert not store.calls


class TestExpiry:
    def test_the_idle_limit(self) -> None:
        site = Site(lifetime=Lifetime(idle=60))
        browser = site.browser()
        site.run(browser, put(a=1))
        site.clock.advance(60)

        assert site.run(browser, read).text == "{}"
        assert [(e.kind, e.detail) for e in site.events][-1] == ("expired", "idle")

    def test_use_renews_the_idle_limit(self) -> None:
        site = Site(lifetime=Lifetime(idle=60))
        browser = site.browser()
        site.run(browser, put(a=1))

        for _ in range(20):
            site.clock.advance(50)
            assert site.run(browser, read).text == "{'a': 1}"

    def test_the_absolute_limit_ends_a_session_in_use(self) -> None:
        site = Site(lifetime=Lifetime(idle=60, absolute=600))
        browser = site.browser()
        site.run(browser, put(a=1))
        for _ in range(19):
            site.clock.advance(30)
            assert site.run(browser, read).text == "{'a': 1}"
        site.clock.advance(30)

        assert site.run(browser, read).text == "{}"
        assert site.events[-1].detail == "absolute"

    def test_regenerating_never_extends_the_absolute_limit_but_login_restarts_it(self) -> None:
        site = Site(lifetime=Lifetime(idle=None, absolute=600))
        browser = site.browser()
        site.run(browser, put(a=1))
        site.clock.advance(500)
        site.run(browser, lambda s: s.regenerate())
        site.clock.advance(50)
        site.run(browser, lambda s: s.login("bob"))
        site.clock.advance(500)

        assert site.run(browser, read).text == "{'a': 1}"
        site.clock.advance(100)
        assert site.run(browser, read).text == "{}"

    def test_a_slow_request_cant_write_an_expired_session_back_to_life(self) -> None:
        site = Site(lifetime=Lifetime(idle=60))
        browser = site.browser()
        site.run(browser, put(a=1))

        def slow(session: Session) -> None:
            session["a"] = 2
            site.clock.advance(61)

        response = site.run(browser, slow)

        assert response.set_cookie is None
        assert site.run(browser, read).text == "{}"
        assert "write_after_end" in site.kinds

    def test_a_slow_request_goes_on_if_another_renewed_the_session(self) -> None:
        site = Site(lifetime=Lifetime(idle=60))
        browser = site.browser()
        site.run(browser, put(a=1))

        def slow(session: Session) -> None:
            session["a"] = 2
            site.clock.advance(50)
            other = Browser(site.middleware)
            other.cookies = dict(browser.cookies)
            site.routes["/other"] = read
            other.get("/other")
            site.clock.advance(50)

        site.run(browser, slow)

        assert site.run(browser, read).text == "{'a': 2}"

    def test_a_lifetime_of_its_own_is_capped(self) -> None:
        site = Site(lifetime=Lifetime(idle=100, absolute=1000))
        browser = site.browser()

        def work(session: Session) -> Lifetime:
            session["a"] = 1
            session.lifetime = Lifetime(idle=50, absolute=timedelta(days=900))
            return session.lifetime

        assert site.run(browser, work).text == repr(
            Lifetime(timedelta(seconds=50), timedelta(seconds=1000))
        )
        site.clock.advance(50)
        assert site.run(browser, read).text == "{}"


class TestHeaders:
    @pytest.mark.parametrize(
        "work",
        [
            lambda s: s.get("x"),
            lambda s: "x" in s,
            lambda s: len(s),
            lambda s: list(s),
            lambda s: bool(s),
            lambda s: s == {},
            lambda s: s.is_new,
            lambda s: s.handle,
        ],
    )
    def test_any_access_varies(self, work: Any) -> None:
        site = Site()

        assert site.run(site.browser(), work).get("Vary") == "Cookie"

    @pytest.mark.parametrize(
        ("given", "merged"),
        [
            ("Accept-Encoding", "Accept-Encoding, Cookie"),
            ("cookie", "cookie"),
            ("Accept, COOKIE", "Accept, COOKIE"),
            ("*", "*"),
            ("", "Cookie"),
        ],
    )
    def test_vary_is_merged(self, given: str, merged: str) -> None:
        site = Site()
        site.headers = [("Vary", given)]

        assert site.run(site.browser(), read).get("Vary") == merged

    @pytest.mark.parametrize(
        ("given", "left"),
        [
            ("private, max-age=60", "private, max-age=60"),
            ("no-store", "no-store"),
            ("public, max-age=60", "no-store"),
            ("s-maxage=60", "no-store"),
            ("max-age=60", "no-store"),
            ('private="x-name", public', "no-store"),
            ("private, public, max-age=60", "no-store"),
            ("private, s-maxage=60", "no-store"),
            ("public, no-store", "no-store"),
        ],
    )
    def test_cache_control_with_a_cookie(self, given: str, left: str) -> None:
        site = Site()
        site.headers = [("cache-control", given), ("CDN-Cache-Control", "max-age=9")]

        response = site.run(site.browser(), put(a=1))

        assert response.get("Cache-Control") == left
        assert response.get("CDN-Cache-Control") is None

    def test_cache_control_is_left_alone_without_a_cookie(self) -> None:
        site = Site()
        site.headers = [("Cache-Control", "public, max-age=60")]

        assert site.run(site.browser(), read).get("Cache-Control") == "public, max-age=60"

    def test_a_public_response_is_never_given_a_refresh(self) -> None:
        site = Site(rolling=True)
        browser = site.browser()
        site.run(browser, put(a=1))
        site.headers = [("Cache-Control", "public, max-age=60")]

        response = site.run(browser, read)

        assert response.set_cookie is None
        assert response.get("Cache-Control") == "public, max-age=60"

    def test_the_apps_own_cookie_of_our_name_is_dropped(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        site = Site()
        site.headers = [("Set-Cookie", "session=evil; Path=/"), ("Set-Cookie", "sessions=fine")]

        response = site.run(site.browser(), put(a=1))

        ours, other = sorted(response.all("Set-Cookie"), reverse=True)
        assert other.startswith("session=") != ours.startswith("session=")
        assert "evil" not in str(response.headers)
        assert "dropped" in caplog.text

    @pytest.mark.parametrize("name", ["Set-Cookie", "set-cookie", "SET-COOKIE"])
    def test_so_it_is_where_the_session_is_not_used(
        self, name: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        site = Site()
        site.headers = [(name, "session=evil; Path=/"), (name, "sessions=fine")]

        response = site.run(site.browser(), lambda s: None)

        assert response.all("Set-Cookie") == ["sessions=fine"]
        assert response.get("Vary") is None
        assert "dropped" in caplog.text

    def test_another_cookie_passes_where_the_session_is_not_used(self) -> None:
        site = Site()
        site.headers = [("Set-Cookie", "sessions=fine"), ("X-Set-Cook", "session=fine")]

        response = site.run(site.browser(), lambda s: None)

        assert response.headers[1:] == site.headers

    def test_c6_an_app_that_expires_it_signs_out_where_the_session_is_not_used(self) -> None:
        site = Site()
        browser = site.browser()
        site.run(browser, put(a=1))
        site.headers = [("Set-Cookie", "session=; Max-Age=0; Path=/")]

        response = site.run(browser, lambda s: None)

        assert "Max-Age=0" in str(response.set_cookie)
        assert list(site.store.keys()) == []

    def test_the_apps_header_list_is_not_changed(self) -> None:
        given = [("Content-Type", "text/plain")]

        def app(made: Any, start_response: Any) -> list[bytes]:
            get_session(made)["a"] = 1
            start_response("200 OK", given)
            return [b""]

        response = call(SessionMiddleware(app, secret_key=SECRET), environ())

        assert given == [("Content-Type", "text/plain")]
        assert response.set_cookie is not None

    def test_headers_that_can_be_gone_through_once_are_all_kept(self) -> None:
        def app(made: Any, start_response: Any) -> list[bytes]:
            get_session(made)["a"] = 1
            start_response("200 OK", zip(["X-Mine", "Vary"], ["1", "Accept"], strict=True))
            return [b""]

        response = call(SessionMiddleware(app, secret_key=SECRET), environ(), check=False)

        assert response.get("X-Mine") == "1"
        assert response.get("Vary") == "Accept, Cookie"

    @pytest.mark.parametrize("status", ["304 Not Modified", "302 Found", "404 Not Found"])
    def test_other_statuses_follow_the_same_rules(self, status: str) -> None:
        def app(made: Any, start_response: Any) -> list[bytes]:
            get_session(made)["a"] = 1
            start_response(status, [] if status.startswith("304") else [("Content-Type", "a/b")])
            return []

        response = call(SessionMiddleware(app, secret_key=SECRET), environ())

        assert response.set_cookie is not None
        assert response.get("Vary") == "Cookie"

    def test_head_follows_the_same_rules(self) -> None:
        site = Site()
        site.routes["/"] = put(a=1)

        response = call(site.middleware, environ(REQUEST_METHOD="HEAD"))

        assert response.set_cookie is not None


class TestStreaming:
    def body(self, made: Any) -> Iterator[bytes]:
        session = get_session(made)
        yield b""
        session["before"] = 1
        yield b"first"
        yield b"second"

    def wrap(self, app: Any, **options: Any) -> Browser:
        return Browser(validator(SessionMiddleware(app, secret_key=SECRET, **options)))

    def test_a_generator_commits_at_its_first_chunk(self) -> None:
        def app(made: Any, start_response: Any) -> Iterator[bytes]:
            start_response("200 OK", [("Content-Type", "text/plain")])
            return self.body(made)

        response = self.wrap(app).get()

        assert response.chunks == [b"first", b"second"]
        assert response.set_cookie is not None

    def test_start_response_may_come_as_late_as_the_first_chunk(self) -> None:
        def app(made: Any, start_response: Any) -> Iterator[bytes]:
            get_session(made)["a"] = 1
            start_response("200 OK", [("Content-Type", "text/plain")])
            yield b"x"

        response = Browser(SessionMiddleware(app, secret_key=SECRET)).get(check=False)

        assert response.set_cookie is not None

    def test_a_generator_without_chunks_commits_at_its_end(self) -> None:
        def app(made: Any, start_response: Any) -> Iterator[bytes]:
            start_response("200 OK", [("Content-Type", "text/plain")])
            get_session(made)["a"] = 1
            yield b""

        assert self.wrap(app).get().set_cookie is not None

    @pytest.mark.parametrize("kind", [list, tuple])
    def test_a_list_or_tuple_is_returned_as_the_same_object(self, kind: Any) -> None:
        body = kind([b"a", b"b"])

        def app(made: Any, start_response: Any) -> Any:
            get_session(made)["a"] = 1
            start_response("200 OK", [])
            return body

        returned = SessionMiddleware(app, secret_key=SECRET)(environ(), lambda *a: bytes)

        assert returned is body

    @pytest.mark.parametrize("wrapper", [FileWrapper, lambda f, size=8192: FileWrapper(f, size)])
    def test_a_file_wrapper_is_returned_as_the_same_object(self, wrapper: Any) -> None:
        made_body: list[Any] = []

        def app(made: Any, start_response: Any) -> Any:
            get_session(made)["a"] = 1
            start_response("200 OK", [])
            made_body.append(made["wsgi.file_wrapper"](io.BytesIO(b"data"), 100))
            return made_body[0]

        made = environ(**{"wsgi.file_wrapper": wrapper})
        started: list[Any] = []

        returned = SessionMiddleware(app, secret_key=SECRET)(
            made, lambda *a: started.append(a) or bytes
        )

        assert returned is made_body[0]
        assert any(name == "Set-Cookie" for name, _ in started[0][1])

    def test_write_commits_first(self) -> None:
        def app(made: Any, start_response: Any) -> list[bytes]:
            get_session(made)["a"] = 1
            write = start_response("200 OK", [("Content-Type", "text/plain")])
            write(b"by write, ")
            return [b"by list"]

        response = self.wrap(app).get()

        assert response.body == b"by write, by list"
        assert response.set_cookie is not None

    def test_a_stream_goes_on_changing_a_stored_session(self) -> None:
        def app(made: Any, start_response: Any) -> Iterator[bytes]:
            start_response("200 OK", [("Content-Type", "text/plain")])
            session = get_session(made)
            session["n"] = session.get("n", 0) + 1
            yield b"x"
            session["late"] = session["n"]
            yield b"y"

        browser = self.wrap(app, store=(store := MemoryStore()))
        browser.get()
        browser.get()

        (key,) = store.keys()
        record = store.load(key)
        assert record is not None
        assert dict(record.fields) == {"n": b"2", "late": b"2"}

    def test_a_change_that_needs_a_cookie_raises_where_it_is_made(self) -> None:
        raised: list[BaseException] = []

        def app(made: Any, start_response: Any) -> Iterator[bytes]:
            start_response("200 OK", [("Content-Type", "text/plain")])
            yield b"x"
            session = get_session(made)
            for change in (
                lambda: session.update(a=1),
                session.regenerate,
                lambda: session.login("x"),
                lambda: session.increment("n"),
            ):
                with pytest.raises(SessionCommitted) as caught:
                    change()
                raised.append(caught.value)
            yield b"y"

        assert self.wrap(app).get().body == b"xy"
        assert len(raised) == 4

    def test_destroy_in_a_stream_still_deletes(self) -> None:
        def app(made: Any, start_response: Any) -> Iterator[bytes]:
            start_response("200 OK", [("Content-Type", "text/plain")])
            session = get_session(made)
            session.setdefault("a", 1)
            yield b"x"
            if made["PATH_INFO"] == "/out":
                session.destroy()

        browser = self.wrap(app, store=(store := MemoryStore()))
        browser.get()
        browser.get("/out")

        assert list(store.keys()) == []

    def test_a_first_access_after_the_headers_loads_all_the_same(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        seen: list[Any] = []

        def app(made: Any, start_response: Any) -> Iterator[bytes]:
            start_response("200 OK", [("Content-Type", "text/plain")])
            if made["PATH_INFO"] == "/set":
                get_session(made)["a"] = 1
            yield b"x"
            seen.append(dict(get_session(made)))

        browser = self.wrap(app)
        browser.get("/set")
        response = browser.get("/late")

        assert seen[1] == {"a": 1}
        assert response.get("Vary") is None
        assert "Vary: Cookie is" in caplog.text

    def test_close_is_called_exactly_once(self) -> None:
        closed: list[str] = []

        class Body:
            def __init__(self) -> None:
                self.chunks = iter([b"a", b"b"])

            def __iter__(self) -> Iterator[bytes]:
                return self.chunks

            def close(self) -> None:
                closed.append("closed")

        def app(made: Any, start_response: Any) -> Body:
            start_response("200 OK", [("Content-Type", "text/plain")])
            get_session(made)["a"] = 1
            return Body()

        self.wrap(app).get()

        assert closed == ["closed"]

    @pytest.mark.parametrize("kind", ["list", "stream"])
    def test_close_comes_before_our_own_error(self, kind: str) -> None:
        order: list[str] = []

        class Listing(list[bytes]):
            def close(self) -> None:
                order.append("closed")

        class Stream:
            def __iter__(self) -> Iterator[bytes]:
                return iter([b"x"])

            def close(self) -> None:
                order.append("closed")

        def app(made: Any, start_response: Any) -> Any:
            start_response("200 OK", [("Content-Type", "text/plain")])
            get_session(made)["big"] = "x" * 2000
            return Listing([b"x"]) if kind == "list" else Stream()

        middleware = SessionMiddleware(app, secret_key=SECRET, max_bytes=1000)
        started: list[Any] = []

        def serve() -> None:
            body = middleware(environ(), lambda *a: started.append(a) or bytes)
            try:
                list(body)
            finally:
                body.close()  # type: ignore[attr-defined] # a stream has it

        with pytest.raises(SessionTooLarge):
            serve()

        assert order == ["closed"]
        assert started == []

    def test_an_app_that_raises_in_the_middle_of_a_stream(self) -> None:
        def app(made: Any, start_response: Any) -> Iterator[bytes]:
            start_response("200 OK", [("Content-Type", "text/plain")])
            session = get_session(made)
            session["n"] = session.get("n", 0) + 1
            yield b"x"
            session["n"] = 99
            if session.get("stored"):
                raise ZeroDivisionError
            session["stored"] = True

        browser = self.wrap(app, store=(store := MemoryStore()))
        browser.get()
        with pytest.raises(ZeroDivisionError):
            browser.get()

        (key,) = store.keys()
        record = store.load(key)
        assert record is not None
        assert record.fields["n"] == b"100"

    def test_start_response_with_exc_info_replaces_the_headers(self) -> None:
        def app(made: Any, start_response: Any) -> list[bytes]:
            get_session(made)["a"] = 1
            start_response("200 OK", [("X-First", "1")])
            try:
                raise ZeroDivisionError
            except ZeroDivisionError as error:
                info = (type(error), error, error.__traceback__)
                start_response("500 Oops", [("Content-Type", "text/plain")], info)
            return [b"oops"]

        response = call(SessionMiddleware(app, secret_key=SECRET), environ())

        assert response.status == "500 Oops"
        assert response.get("X-First") is None
        assert response.set_cookie is None

    @pytest.mark.parametrize("break_", [nest, break_label], ids=["value", "label"])
    def test_what_cannot_be_kept_does_not_hide_why_a_stream_broke_off(
        self, break_: Callable[[Session], None]
    ) -> None:
        def app(made: Any, start: Any) -> Iterator[bytes]:
            session = get_session(made)
            session["a"] = 1
            start("200 OK", [("Content-Type", "text/plain")])
            yield b"a"
            break_(session)
            raise ZeroDivisionError

        browser = Browser(SessionMiddleware(app, secret_key=SECRET, save_on_error=True))

        with pytest.raises(ZeroDivisionError):
            browser.get("/")

    def test_a_stream_of_an_app_that_never_called_start_response_is_refused(self) -> None:
        def app(made: Any, start_response: Any) -> Iterator[bytes]:
            yield b"no headers"

        with pytest.raises(AssertionError, match="never called start_response"):
            SessionMiddleware(app, secret_key=SECRET)(environ(), lambda *a: bytes)

    def test_start_response_twice_without_exc_info_is_refused(self) -> None:
        def app(made: Any, start_response: Any) -> list[bytes]:
            start_response("200 OK", [])
            start_response("200 OK", [])
            return []

        with pytest.raises(AssertionError, match="exc_info"):
            SessionMiddleware(app, secret_key=SECRET)(environ(), lambda *a: bytes)


class TestOutage:
    def site(self, **options: Any) -> tuple[Site, Browser, FaultyStore]:
        store = FaultyStore(MemoryStore())
        site = Site(store=store, **options)
        browser = site.browser()
        site.run(browser, put(a=1))
        return site, browser, store

    def test_loading(self) -> None:
        site, browser, store = self.site()
        store.fail("load")

        response = site.run(browser, read)

        assert response.code == 503
        assert response.get("Retry-After") is not None
        assert response.set_cookie is None
        store.recover()
        assert site.run(browser, read).text == "{'a': 1}"

    def test_untouched_requests_never_notice(self) -> None:
        site, browser, store = self.site()
        store.fail("load")

        assert site.run(browser, nothing).code == 200
        assert site.run(site.browser(), read).code == 200

    def test_committing_data_sends_nothing_of_the_apps_body(self) -> None:
        site, browser, store = self.site()
        store.fail("update")

        response = site.run(browser, lambda s: (s.update(a=2), "secret page")[1])

        assert response.code == 503
        assert "secret page" not in response.text
        assert response.set_cookie is None

    def test_failing_to_touch_is_logged_alone(self) -> None:
        site, browser, store = self.site()
        store.fail("update")
        site.clock.advance(100)

        assert site.run(browser, read).text == "{'a': 1}"
        assert "store_error" in site.kinds

    def test_failing_to_destroy_raises_and_expires_the_cookie(self) -> None:
        site, browser, store = self.site()
        store.fail("delete")

        def work(session: Session) -> str:
            with pytest.raises(StoreError):
                session.destroy()
            return "sorry"

        response = site.run(browser, work)

        assert response.text == "sorry"
        assert "Max-Age=0" in str(response.set_cookie)

    def test_failing_to_destroy_unhandled_is_503_and_expires_the_cookie(self) -> None:
        for operation in ("delete", "load"):
            site, browser, store = self.site()
            store.fail(operation)

            response = site.run(browser, lambda s: s.destroy())

            assert response.code == 503
            assert "Max-Age=0" in str(response.set_cookie)

    def test_the_app_may_answer_itself(self) -> None:
        def sorry(made: Any, start_response: Any, error: StoreError) -> list[bytes]:
            start_response("503 Down", [("Content-Type", "text/plain")])
            return [b"custom"]

        site, browser, store = self.site(on_store_error=sorry)
        store.fail("load")

        assert site.run(browser, read).text == "custom"

    def test_in_a_stream_before_the_first_chunk(self) -> None:
        store = FaultyStore(MemoryStore())

        def app(made: Any, start_response: Any) -> Iterator[bytes]:
            start_response("200 OK", [("Content-Type", "text/plain")])
            get_session(made)["a"] = 1
            yield b"x"

        browser = Browser(SessionMiddleware(app, secret_key=SECRET, store=store))
        store.fail("insert")

        assert browser.get().code == 503


class TestPlace:
    def test_a_middleware_inside_another_steps_aside(self) -> None:
        site = Site()
        inner = site.middleware
        outer = SessionMiddleware(inner, secret_key=SECRET)
        browser = Browser(outer)
        site.routes["/"] = put(a=1)

        response = browser.get("/")

        assert len(response.all("Set-Cookie")) == 1
        assert list(inner.store.keys()) == []
        assert len(list(outer.store.keys())) == 1

    def test_two_with_different_names_work_side_by_side(self) -> None:
        def app(made: Any, start_response: Any) -> list[bytes]:
            made["a"]["x"] = made["a"].get("x", 0) + 1
            made["b"]["x"] = made["b"].get("x", 0) + 10
            start_response("200 OK", [("Content-Type", "text/plain")])
            return [f"{made['a']['x']} {made['b']['x']}".encode()]

        inner = SessionMiddleware(app, secret_key=SECRET, environ_key="a", cookie=Cookie("a"))
        outer = SessionMiddleware(inner, secret_key=SECRET, environ_key="b", cookie=Cookie("b"))
        browser = Browser(outer)
        browser.get()

        assert browser.get().text == "2 20"

    @pytest.mark.parametrize(
        ("path", "script", "request_path", "covered"),
        [
            ("/foo/bar", "", "/", False),
            ("/foo/bar", "", "/foo/bar", True),
            ("/foo/bar", "", "/foo/bar/baz", True),
            ("/foo/bar", "", "/foo/barbaz", False),
            ("/foo/bar", "/foo", "/bar", True),
            ("/foo/bar", "/foo", "/foo/bar", False),
            ("/admin/", "", "/admin", False),
            ("/admin/", "", "/admin/x", True),
            ("/", "", "", True),
            ("/caf%C3%A9", "", "/caf\xc3\xa9/x", True),
        ],
    )
    def test_the_cookies_path(
        self, path: str, script: str, request_path: str, covered: bool
    ) -> None:
        seen: list[bool] = []

        def app(made: Any, start_response: Any) -> list[bytes]:
            seen.append(KEY in made)
            start_response("200 OK", [])
            return []

        middleware = SessionMiddleware(app, secret_key=SECRET, cookie=Cookie(path=path))
        middleware(environ(request_path, SCRIPT_NAME=script), lambda *a: bytes)

        assert seen == [covered]

    def test_get_session_says_what_is_missing(self) -> None:
        with pytest.raises(LookupError, match="SessionMiddleware"):
            get_session({})

    def test_a_cookie_function_serves_several_sites(self) -> None:
        def choose(made: dict[str, Any]) -> Cookie:
            return Cookie(domain=made["HTTP_HOST"], secure="auto")

        site = Site(cookie=choose)

        response = site.run(site.browser(), put(a=1), HTTP_HOST="one.example")

        assert "Domain=one.example" in str(response.set_cookie)


def test_secure_on_an_insecure_request_explains_itself(caplog: pytest.LogCaptureFixture) -> None:
    site = Site(cookie=Cookie(secure=True))

    with caplog.at_level(logging.WARNING, logger="wsgi_sessions"):
        response = site.run(site.browser(), put(a=1))

    assert response.set_cookie is None
    assert list(site.store.keys()) == []
    assert "insecure" in site.kinds
    assert "Behind a proxy that speaks TLS, have it set X-Forwarded-Proto" in caplog.text
    assert "set trusted_proxies to the number of proxies" in caplog.text


def test_a_cookie_that_an_error_withholds_anyway_isnt_called_insecure() -> None:
    site = Site(cookie=Cookie(secure=True))
    site.status = "500 Oops"

    site.run(site.browser(), put(a=1))

    assert site.kinds == []


def test_auto_follows_the_scheme() -> None:
    site = Site()

    assert "Secure" not in str(site.run(site.browser(), put(a=1)).set_cookie)
    secure = site.run(site.browser(), put(a=1), **{"wsgi.url_scheme": "https"})
    assert "Secure" in str(secure.set_cookie)


def test_a_streams_headers_are_there_before_the_server_asks_for_its_body() -> None:
    # Granian takes status and headers when the app returns, whatever PEP 3333 says.
    def app(made: dict[str, Any], start_response: Any) -> Iterator[bytes]:
        made[KEY]["n"] = 1
        start_response("201 Created", [("Content-Type", "text/plain")])
        yield b""
        yield b"one "
        yield b"two"

    started: list[Any] = []
    wrapped = SessionMiddleware(app, secret_key=SECRET)

    def start(*args: Any) -> Any:
        started.append(args)
        return bytes

    body = wrapped(environ(), start)

    assert started[0][0] == "201 Created"
    assert "Set-Cookie" in dict(started[0][1])
    assert b"".join(body) == b"one two"


def test_a_stream_that_fails_at_its_first_chunk_is_closed() -> None:
    closed: list[bool] = []

    class Broken:
        def __iter__(self) -> Iterator[bytes]:
            raise ZeroDivisionError

        def close(self) -> None:
            closed.append(True)

    def app(made: dict[str, Any], start_response: Any) -> Any:
        start_response("200 OK", [])
        return Broken()

    with pytest.raises(ZeroDivisionError):
        SessionMiddleware(app, secret_key=SECRET)(environ(), lambda *args: bytes)
    assert closed == [True]


@pytest.mark.parametrize("proto", ["https", "HTTPS", "https, http"])
def test_a_proxy_that_isnt_trusted_is_explained_once(
    proto: str, caplog: pytest.LogCaptureFixture
) -> None:
    site = Site()

    for _ in range(3):
        site.run(site.browser(), nothing, HTTP_X_FORWARDED_PROTO=proto)

    assert caplog.text.count("set trusted_proxies to the number") == 1


def test_auto_without_a_trusted_scheme_is_explained_at_the_start(
    caplog: pytest.LogCaptureFixture,
) -> None:
    Site(trusted_proxies=TrustedProxies(hops=1, proto=0))

    assert "proto=0" in caplog.text


@pytest.mark.parametrize("kind", ["list", "stream", "write"])
def test_wsgirefs_validator_is_content_on_both_sides(kind: str) -> None:
    def app(made: Any, start_response: Any) -> Any:
        get_session(made)["a"] = 1
        write = start_response("200 OK", [("Content-Type", "text/plain")])
        if kind == "write":
            write(b"ok")
            return []
        return [b"ok"] if kind == "list" else iter([b"", b"o", b"k"])

    response = call(SessionMiddleware(validator(app), secret_key=SECRET), environ())

    assert response.body == b"ok"
    assert response.set_cookie is not None


def test_a_session_is_opened_and_committed_outside_of_a_request() -> None:
    site = Site()
    browser = site.browser()
    site.run(browser, put(a=1))
    cookie = "; ".join(f"{name}={value}" for name, value in browser.cookies.items())
    made: dict[str, Any] = {"HTTP_COOKIE": cookie, "wsgi.url_scheme": "http"}

    session = site.middleware.open_session(made)
    assert session is not None
    session["b"] = session["a"] + 1
    unsaved = site.run(browser, read).text
    added = site.middleware.commit_session(made)

    assert unsaved == "{'a': 1}"
    assert site.run(browser, read).text == "{'a': 1, 'b': 2}"
    assert added == [("Vary", "Cookie")]
