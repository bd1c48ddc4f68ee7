"""What happens seldom: apps that break rules, stores that fail late, limits that are met at last."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest

from wsgi import SECRET, Browser, Site, call, environ
from wsgi_sessions import (
    ConfigurationError,
    Session,
    SessionConflict,
    SessionMiddleware,
    SessionTooLarge,
    StoreError,
    get_session,
)
from wsgi_sessions.proxies import resolve_client
from wsgi_sessions.record import Changes
from wsgi_sessions.stores import ClientSideStore, MemoryStore
from wsgi_sessions.testing import FaultyStore


def put(**values: Any) -> Any:
    return lambda session: session.update(values)


def read(session: Session) -> str:
    return repr(dict(session))


def started(**options: Any) -> tuple[Site, Browser, FaultyStore]:
    store = FaultyStore(MemoryStore())
    site = Site(store=store, **options)
    browser = site.browser()
    site.run(browser, put(a=1))
    return site, browser, store


class TestSettingWrongly:
    @pytest.mark.parametrize(
        ("name", "value", "says"),
        [
            ("label", {"ip": 1}, r"label\['ip'\] is of type int; write a str"),
            (
                "label",
                {str(n): "" for n in range(17)},
                "label has 17 entries; at most 16 are allowed",
            ),
            ("persistent", 1, "persistent is 1; write True or False"),
            ("lifetime", 3600, "lifetime is of type int; write a Lifetime"),
        ],
    )
    def test_it_is_a_type_error(self, name: str, value: Any, says: str) -> None:
        site, browser, _ = started()

        def work(session: Session) -> None:
            with pytest.raises(TypeError, match=says):
                setattr(session, name, value)

        site.run(browser, work)

    def test_a_secret_that_is_no_text_is_refused(self) -> None:
        with pytest.raises(ConfigurationError, match="UTF-8"):
            SessionMiddleware(lambda e, s: [], secret_key="\ud800" * 40)


def test_a_store_needs_no_notices() -> None:
    """Any object with a store's operations will do."""

    class Plain:
        def __init__(self) -> None:
            self._inner = MemoryStore()

        def __getattr__(self, name: str) -> Any:
            if name == "subscribe":
                raise AttributeError(name)
            return getattr(self._inner, name)

    site = Site(store=Plain())
    browser = site.browser()
    site.run(browser, put(a=1))

    assert site.run(browser, read).text == "{'a': 1}"


class TestAppsThatBreakRules:
    def test_an_app_that_never_starts_a_response_is_the_servers_to_complain_about(self) -> None:
        body = [b"no status"]
        middleware = SessionMiddleware(lambda made, start: body, secret_key=SECRET)

        assert middleware(environ(), lambda *a: bytes) is body

    def test_an_app_that_fails_in_its_stream_is_heard_even_if_its_data_is_too_large(self) -> None:
        def app(made: Any, start_response: Any) -> Iterator[bytes]:
            start_response("200 OK", [("Content-Type", "text/plain")])
            yield b"begun"
            get_session(made)["a"] = "x" * 100_000
            raise LookupError("the app's own")

        site, browser, store = started()
        browser.app = SessionMiddleware(
            app, secret_key=SECRET, store=store, clock=site.clock, save_on_error=True
        )

        with pytest.raises(LookupError, match="the app's own"):
            browser.get()


class TestLateOutages:
    def stream(self, site: Site, store: FaultyStore, work: Any) -> SessionMiddleware:
        def app(made: Any, start_response: Any) -> Iterator[bytes]:
            start_response("200 OK", [("Content-Type", "text/plain")])
            yield from work(get_session(made), store)

        return SessionMiddleware(app, secret_key=SECRET, store=store, clock=site.clock)

    def test_after_the_first_chunk_the_server_must_cut_the_connection(self) -> None:
        def work(session: Session, store: FaultyStore) -> Iterator[bytes]:
            yield b"begun"
            store.fail("load")
            session.get("a")
            yield b"never"

        site, browser, store = started()
        browser.app = self.stream(site, store, work)

        with pytest.raises(StoreError):
            browser.get()

    def test_before_the_first_chunk_it_is_a_503(self) -> None:
        def work(session: Session, store: FaultyStore) -> Iterator[bytes]:
            store.fail("load")
            yield str(session.get("a")).encode()

        site, browser, store = started()
        browser.app = self.stream(site, store, work)

        assert browser.get().status.startswith("503")

    def test_a_stores_error_of_the_apps_own_is_a_503_too(self) -> None:
        def app(made: Any, start_response: Any) -> list[bytes]:
            raise StoreError("another store of the app's")

        response = call(SessionMiddleware(app, secret_key=SECRET), environ())

        assert response.status.startswith("503")
        assert response.get("Vary") is None

    def test_the_event_of_a_failed_destroy_says_whose_session_it_was(self) -> None:
        site, browser, store = started()
        handle = site.run(browser, lambda s: (s.login("bob"), s.handle)[1]).text
        store.fail("delete")

        site.run(browser, lambda s: s.destroy())

        assert site.kinds[-1] == "store_error"
        assert (site.events[-1].handle, site.events[-1].owner) == (handle, "bob")

    def test_a_list_that_cant_be_written_is_an_event_and_no_failure(self) -> None:
        site, browser, store = started()
        site.run(browser, lambda s: s.login("bob"))
        store.after("delete", lambda *a, **k: store.fail("load"))

        response = site.run(browser, lambda s: s.destroy())

        assert response.status.startswith("200")
        assert "store_error" in site.kinds
        store.recover()
        assert site.middleware.registry.count("bob") == 0


def test_a_reload_of_a_session_that_ended_is_an_empty_one() -> None:
    site, browser, store = started()

    def work(session: Session) -> str:
        session.get("a")
        store.store.delete(session.handle)
        session.reload()
        return repr(dict(session))

    assert site.run(browser, work).text == "{}"


def test_a_transaction_renews_a_persistent_cookie() -> None:
    site, browser, _ = started()
    site.run(browser, lambda s: setattr(s, "persistent", True))
    site.clock.advance(1000)

    response = site.run(browser, lambda s: s.increment("n"))

    assert response.set_cookie is not None
    assert "Max-Age" in response.set_cookie


def test_two_equal_cookies_on_the_client_side_are_one() -> None:
    site = Site(store=ClientSideStore())
    browser = site.browser()
    site.run(browser, put(a=1))
    value = browser.cookies["session"]
    site.routes["/read"] = read

    made = environ("/read", cookie=f"session={value}; session={value}")

    assert call(site.middleware, made).text == "{'a': 1}"


class TestOvertaken:
    """Another request is always a little faster."""

    def overtake(self, store: FaultyStore, handle: str, operation: str) -> None:
        count = iter(range(10**6))

        def another(*args: Any, **options: Any) -> None:
            store.store.update(handle, Changes(set={"other": b"%d" % next(count)}))

        store.before(operation, another)

    def test_a_new_id_is_given_up_at_last(self) -> None:
        site, browser, store = started()
        handle = site.run(browser, lambda s: s.handle).text
        self.overtake(store, handle, "update")

        with pytest.raises(SessionConflict, match="meanwhile"):
            site.run(browser, lambda s: (s.regenerate(), s.update(b=2)))

        assert "'a': 1" in site.run(browser, read).text

    def test_a_late_request_finds_the_record_renewed_each_time(self) -> None:
        site, browser, store = started()
        handle = site.run(browser, lambda s: s.handle).text

        def slow(session: Session) -> None:
            session["b"] = 2
            site.clock.advance(86_399)
            store.store.update(
                handle, Changes(used_at=site.clock(), expires_at=site.clock() + 86_400)
            )
            site.clock.advance(2)
            self.overtake(store, handle, "update")

        with pytest.raises(SessionConflict, match="meanwhile"):
            site.run(browser, slow)


def test_a_session_signed_in_at_its_limit_may_sign_out_everywhere_else() -> None:
    site, browser, _ = started(max_per_owner=1)
    registry = site.middleware.registry

    site.run(browser, lambda s: (s.login("bob"), registry.revoke_all("bob", except_=s)))

    assert site.run(browser, lambda s: s.owner).text == "bob"
    site.run(browser, lambda s: s.regenerate())
    assert site.run(browser, lambda s: s.owner).text == "bob"


def test_a_login_into_a_session_that_has_just_ended_is_a_fresh_session() -> None:
    site, browser, store = started()
    handle = site.run(browser, lambda s: s.handle).text

    def work(session: Session) -> None:
        session["b"] = 2
        session.login("bob")
        store.store.delete(handle)

    site.run(browser, work)

    assert site.run(browser, lambda s: (s.owner, dict(s))).text == "('bob', {'b': 2})"


def test_too_large_for_a_transaction_is_said_inside_it() -> None:
    site, browser, _ = started(max_bytes=1000)

    def work(session: Session) -> None:
        with pytest.raises(SessionTooLarge):
            session.transaction(lambda fresh: fresh.update(b="x" * 2000))

    site.run(browser, work)
    assert site.run(browser, read).text == "{'a': 1}"


@pytest.mark.parametrize("where", ["", "192.0.2.1, "])
def test_an_entry_of_endless_length_is_no_address(where: str) -> None:
    made = environ(HTTP_X_FORWARDED_FOR=where + "1" * 10_000)

    client = resolve_client(made, 1)

    assert client.ip is None
    assert "for_malformed" in client.problems


class TestPlaces:
    """`max_per_owner` with ``when_full="refuse"``: a place is taken before it is counted."""

    def test_a_place_that_cant_be_given_back_is_an_event_and_no_failure(self) -> None:
        site, browser, store = started(max_per_owner=1, when_full="refuse")
        site.status = "500 Oh"

        def work(session: Session) -> None:
            session.login("bob")
            store.fail("delete")

        assert site.run(browser, work).status == "500 Oh"
        assert "store_error" in site.kinds

    def test_signing_out_everywhere_else_keeps_the_place(self) -> None:
        site, browser, _ = started(max_per_owner=1, when_full="refuse")
        registry = site.middleware.registry

        site.run(browser, lambda s: (s.login("bob"), registry.revoke_all("bob", except_=s)))

        assert site.run(browser, lambda s: s.owner).text == "bob"
        assert registry.count("bob") == 1


def test_a_saved_session_that_was_ended_is_empty_after_a_reload() -> None:
    site, _, store = started()

    def work(session: Session) -> str:
        session["a"] = 1
        session.save()
        store.store.delete(session.handle)
        session.reload()
        return repr(dict(session))

    assert site.run(site.browser(), work).text == "{}"


def test_a_sealed_field_that_was_damaged_is_found_out_by_a_new_id() -> None:
    site, browser, store = started(encryption_keys=[os.urandom(32)])
    handle = site.run(browser, lambda s: s.handle).text
    store.store.update(handle, Changes(set={"a": b"damaged"}))

    response = site.run(browser, lambda s: s.regenerate())

    assert response.set_cookie is None
    assert "corrupt_record" in site.kinds


def test_what_is_emptied_and_renewed_while_it_ends_elsewhere_ends() -> None:
    site, browser, store = started()

    def work(session: Session) -> None:
        session.regenerate()
        session.clear()
        store.store.delete(handle)

    handle = site.run(browser, lambda s: s.handle).text
    site.run(browser, work)

    assert list(store.store.keys()) == []


def test_a_label_is_shown_in_the_list_of_sessions() -> None:
    site, browser, _ = started()

    site.run(browser, lambda s: (s.login("bob"), setattr(s, "label", {"device": "phone"})))

    (info,) = site.middleware.registry.sessions("bob")
    assert info.label == {"device": "phone"}


def test_a_stream_of_its_own_that_raises_a_stores_error_after_its_headers_is_cut() -> None:
    def app(made: Any, start_response: Any) -> Any:
        get_session(made)["a"] = 1
        write = start_response("200 OK", [("Content-Type", "text/plain")])
        write(b"begun")
        raise StoreError("another store of the app's")

    with pytest.raises(StoreError, match="another store"):
        call(SessionMiddleware(app, secret_key=SECRET), environ())
