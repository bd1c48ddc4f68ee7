"""Device binding through the real middleware: the life of a binding, and what breaks none of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask
from flask.sessions import SecureCookieSessionInterface
from werkzeug.middleware.dispatcher import DispatcherMiddleware

from bound_app import COOKIE, SECRET, BoundApp, Handler, login, shown
from device import Agent, Device
from device_attacks import REFRESH_ATTACKS, REGISTRATION_ATTACKS, Attack, is_refused
from wsgi_sessions import (
    ConfigurationError,
    Cookie,
    DeviceBinding,
    Session,
    SessionMiddleware,
    TrustedProxies,
)
from wsgi_sessions.carry_over import FlaskCookie
from wsgi_sessions.data.notes import dump_notes, load_notes
from wsgi_sessions.device_binding.binding import Binding
from wsgi_sessions.device_binding.keys import DeviceKey
from wsgi_sessions.engine.binding import StoredSessions
from wsgi_sessions.record import Changes
from wsgi_sessions.stores import ClientSideStore, MemoryStore

DAY = 86_400
OFFER = "Secure-Session-Registration"
FLAG = DeviceBinding(when_missing="flag")


@pytest.fixture
def site() -> BoundApp:
    return BoundApp()


@pytest.fixture
def flagging() -> BoundApp:
    return BoundApp(FLAG)


def without_second(agent: Agent) -> Agent:
    """The same browser, or a thief, without the second cookie."""
    agent.cookies.pop(agent.second, None)
    return agent


def first_of(agent: Agent) -> str:
    return agent.cookies["__Host-s"]


def expires(answer: Any, name: str) -> bool:
    return any(
        key == "Set-Cookie" and value.startswith(f"{name}=;") and "Max-Age=0" in value
        for key, value in answer.headers
    )


def damage(site: BoundApp, handle: str, **changes: Any) -> None:
    """Write other notes into a record."""
    store = site.store.store
    record = store.load(handle)
    assert record is not None
    notes = load_notes(record.notes)._replace(**changes)
    store.update(handle, Changes(notes=dump_notes(notes)))


class TestTheOffer:
    def test_signing_in_offers_and_takes_no_write_more(self, site: BoundApp) -> None:
        plain = BoundApp(device_binding=None)
        agent, other = site.signed_in(), plain.signed_in()

        assert agent.offer is not None
        assert agent.offer.algorithms == ("ES256", "RS256")
        assert other.offer is None
        assert site.store.calls == plain.store.calls

    def test_an_answer_that_offers_is_kept_by_no_cache(self, site: BoundApp) -> None:
        site.headers = [("Cache-Control", "max-age=60")]
        agent = site.signed_in()
        site.clock.advance(DAY)

        answer = agent.request("/page")

        assert answer.header(OFFER) is not None
        assert answer.header("Set-Cookie") is None
        assert answer.header("Cache-Control") == "no-store"

    def test_the_next_request_offers_nothing_anew(self, site: BoundApp) -> None:
        agent = site.signed_in()
        site.forget()

        assert agent.request("/page").header(OFFER) is None
        assert site.writes == 0

    def test_a_day_later_it_is_offered_again(self, site: BoundApp) -> None:
        agent = site.signed_in()
        site.clock.advance(DAY)
        site.forget()

        assert agent.request("/page").header(OFFER) is not None
        assert site.writes == 1
        assert agent.request("/page").header(OFFER) is None
        assert site.writes == 1

    def test_sessions_that_were_signed_in_before_the_option_are_offered(self) -> None:
        before = BoundApp(device_binding=None)
        agent = before.signed_in()
        after = BoundApp(store=before.store)
        agent.app = after

        assert agent.request("/page").header(OFFER) is not None
        assert agent.register().status == 200

    def test_without_an_owner_nothing_is_offered(self, site: BoundApp) -> None:
        assert Agent(site).request("/put").header(OFFER) is None

    def test_where_the_session_is_not_used_nothing_is_offered(self, site: BoundApp) -> None:
        agent = site.signed_in()
        site.clock.advance(DAY)
        site.forget()

        assert agent.request("/none").header(OFFER) is None
        assert site.store.calls.total() == 0

    def test_setting_the_owner_offers(self, site: BoundApp) -> None:
        site.routes["/own"] = lambda session: setattr(session, "owner", "ada")

        assert Agent(site).request("/own").header(OFFER) is not None

    def test_a_login_offers_within_the_day_and_after_save(self, site: BoundApp) -> None:
        def login_and_save(session: Session) -> None:
            session.login("ada")
            session.save()

        site.routes["/again"] = login_and_save
        agent = site.signed_in()

        assert agent.request("/login").header(OFFER) is not None
        assert agent.request("/again").header(OFFER) is not None

    def test_a_public_answer_offers_nothing(self, site: BoundApp) -> None:
        site.headers = [("Cache-Control", "public, max-age=60")]

        assert site.signed_in().offer is None

    def test_a_failed_request_offers_nothing(self, site: BoundApp) -> None:
        agent = site.signed_in()
        site.clock.advance(DAY)
        site.status = "500 Internal Server Error"

        assert agent.request("/page").header(OFFER) is None

    def test_over_plain_http_nothing_is_offered(self) -> None:
        site = BoundApp(cookie=Cookie("s"))

        assert site.signed_in(**{"wsgi.url_scheme": "http"}).offer is None
        assert site.signed_in().offer is not None

    def test_behind_a_trusted_proxy_that_speaks_tls_it_is_offered(self) -> None:
        site = BoundApp(trusted_proxies=TrustedProxies(1))
        proxied = {
            "wsgi.url_scheme": "http",
            "REMOTE_ADDR": "10.0.0.1",
            "HTTP_X_FORWARDED_FOR": "192.0.2.1",
            "HTTP_X_FORWARDED_PROTO": "https",
        }

        assert site.signed_in(**proxied).offer is not None

    def test_a_passive_request_offers_nothing_unless_it_signs_in(self) -> None:
        site = BoundApp(passive=lambda environ: True)
        agent = site.signed_in()
        site.clock.advance(DAY)

        assert agent.offer is not None
        assert agent.request("/page").header(OFFER) is None

    def test_an_offer_to_a_request_from_another_site_does_not_count(self, site: BoundApp) -> None:
        agent = site.signed_in(HTTP_SEC_FETCH_SITE="cross-site")

        assert agent.offer is not None
        assert agent.request("/page").header(OFFER) is not None
        assert agent.request("/page").header(OFFER) is None

    def test_a_session_that_a_racing_sign_out_ended_is_not_offered(self, site: BoundApp) -> None:
        agent = site.signed_in()
        site.clock.advance(DAY)
        site.store.before("update", lambda key, *_, **__: site.store.store.delete(key))

        assert agent.request("/page").header(OFFER) is None

    def test_where_it_can_not_be_noted_it_is_not_offered_and_the_page_is_served(
        self, site: BoundApp
    ) -> None:
        agent = site.signed_in()
        site.clock.advance(DAY)
        site.store.fail("update")

        answer = agent.request("/page")
        site.store.recover()

        assert answer.status == 200
        assert answer.json["owner"] == "ada"
        assert answer.header(OFFER) is None
        assert agent.request("/page").header(OFFER) is not None

    def test_a_path_that_the_cookie_does_not_reach_is_explained_once(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        site = BoundApp(cookie=Cookie("s", path="/app", secure=True))
        agent = Agent(site)

        answer = agent.request("/app/login")
        site.routes["/app/login"] = site.routes["/login"]
        for _ in range(2):
            answer = agent.request("/app/login")

        assert answer.header(OFFER) is None
        assert caplog.text.count("isn't covered by the cookie's path") == 1

    def test_a_stream_offers_with_its_headers(self, site: BoundApp) -> None:
        def app(environ: dict[str, Any], start_response: Any) -> Any:
            start_response("200 OK", [("Content-Type", "text/plain")])
            environ["wsgi_sessions.session"].login("ada")
            yield b"1"
            environ["wsgi_sessions.session"]["late"] = 1
            yield b"2"

        site.middleware.app = app
        agent = site.signed_in()

        assert agent.register().status == 200
        assert agent.request("/").status == 200


class TestTheLifeOfABinding:
    @pytest.mark.parametrize("algorithm", ["ES256", "RS256"])
    def test_it_is_bound_proven_refreshed_and_ended(self, site: BoundApp, algorithm: str) -> None:
        agent = site.signed_in(algorithm)
        page = agent.request("/page").json
        assert (page["bound"], page["since"]) == (False, None)
        assert agent.register().status == 200
        page = agent.request("/page").json
        assert (page["bound"], page["proven"], page["owner"]) == (True, True, "ada")
        assert page["since"] == site.clock.now
        site.clock.advance(640)
        assert agent.request("/page").json["session"] is None
        assert agent.refresh().status == 403
        assert agent.refresh().status == 200
        assert agent.request("/page").json["proven"]

        answer = agent.request("/logout")

        assert expires(answer, "__Host-s")
        assert expires(answer, agent.second)
        assert agent.refresh().json == {
            "session_identifier": agent.instructions["session_identifier"],
            "continue": False,
        }

    def test_binding_is_told_as_an_event(self, site: BoundApp) -> None:
        agent = site.signed_in(REMOTE_ADDR="192.0.2.7")
        site.forget()
        agent.register(REMOTE_ADDR="192.0.2.7")

        (event,) = site.events
        assert (event.kind, event.owner, event.client_ip) == ("device_bound", "ada", "192.0.2.7")
        assert event.handle == agent.instructions["session_identifier"]

    def test_it_is_confirmed_by_one_write(self, site: BoundApp) -> None:
        agent = site.signed_in()
        agent.register()
        site.forget()

        agent.request("/page")
        assert site.writes == 1
        agent.request("/page")
        assert site.writes == 1

    def test_a_confirmation_that_the_store_refuses_is_made_up_for(self, site: BoundApp) -> None:
        agent = site.signed_in()
        agent.register()
        site.store.fail("update")
        assert agent.request("/page").json["proven"]
        assert "store_error" in site.kinds
        site.store.recover()
        site.forget()

        assert agent.request("/page").json["proven"]
        assert site.writes == 1

    def test_a_confirmation_that_is_overtaken_undoes_nothing(self, site: BoundApp) -> None:
        agent = site.signed_in()
        agent.register()
        racing = [lambda: agent.request("/put")]

        def before(*_: Any, **__: Any) -> None:
            if racing:
                racing.pop()()

        site.store.before("update", before)

        assert agent.request("/page").json["proven"]
        assert agent.request("/page").json["data"] == {"seen": True}

    def test_what_the_app_writes_with_a_confirmation_is_kept(self, site: BoundApp) -> None:
        agent = site.signed_in()
        agent.register()
        agent.request("/put")

        assert agent.request("/page").json["data"] == {"seen": True}
        site.clock.advance(10_000)
        assert without_second(agent).request("/page").json["session"] is None

    def test_a_refresh_is_one_read_and_no_write(self, site: BoundApp) -> None:
        agent = site.bound()
        agent.refresh()
        site.forget()

        assert agent.refresh().status == 200
        assert site.store.calls == {"load": 1}

    def test_a_proven_request_is_one_read(self, site: BoundApp) -> None:
        agent = site.bound()

        assert agent.request("/page").json["proven"]
        assert site.store.calls == {"load": 1}

    def test_login_regenerating_and_rotation_leave_it(self) -> None:
        site = BoundApp(rotate_after=50)
        site.routes["/regenerate"] = lambda session: session.regenerate()
        agent = site.bound()
        tokens = {first_of(agent)}
        for path in ("/page", "/login", "/regenerate", "/login", "/page"):
            answer = agent.request(path)
            assert answer.header(OFFER) is None
            tokens.add(first_of(agent))
            site.clock.advance(60)
            agent.refresh()
            assert agent.refresh().status == 200
            page = agent.request("/page").json
            assert (page["bound"], page["proven"]) == (True, True)

        assert len(tokens) > 4

    def test_the_registry_marks_what_is_bound(self, site: BoundApp) -> None:
        agent = site.signed_in()
        other = site.signed_in()
        registry = site.middleware.registry
        agent.register()
        assert [info.device_bound for info in registry.sessions("ada")] == [False, False]
        agent.request("/page")

        marked = {info.handle: info.device_bound for info in registry.sessions("ada")}

        handle = agent.instructions["session_identifier"]
        assert marked.pop(handle)
        assert list(marked.values()) == [False]
        assert other.request("/page").json["session"] in marked

    def test_being_signed_out_elsewhere_ends_it(self, site: BoundApp) -> None:
        agent = site.bound()
        site.middleware.registry.revoke_all("ada")

        assert agent.refresh().json["continue"] is False

    def test_a_session_that_has_expired_is_over(self, site: BoundApp) -> None:
        agent = site.bound()
        site.clock.advance(40 * DAY)

        assert agent.refresh().json["continue"] is False
        assert is_refused(agent.register())

    def test_an_app_that_expires_our_cookie_ends_both(self, site: BoundApp) -> None:
        agent = site.bound()
        site.headers = [("Set-Cookie", "__Host-s=; Max-Age=0; Path=/; Secure")]

        assert expires(agent.request("/page"), agent.second)

    def test_a_browser_that_can_not_bind_goes_on_as_before(self, site: BoundApp) -> None:
        agent = site.signed_in()
        site.clock.advance(5 * DAY // 10)

        page = agent.request("/page").json

        assert (page["owner"], page["bound"], page["fresh"]) == ("ada", False, True)
        assert not expires(agent.request("/page"), "__Host-s-bound")

    def test_reloading_keeps_what_is_known_of_the_device(self, site: BoundApp) -> None:
        def reloaded(session: Session) -> Any:
            shown(session)
            session.reload()
            return shown(session)

        site.routes["/reload"] = reloaded
        agent = site.bound()

        assert agent.request("/reload").json["proven"]
        del agent.cookies[agent.second]
        assert agent.request("/reload").json["session"] is None

    def test_a_session_that_was_ended_is_not_bound_when_it_is_reloaded(
        self, site: BoundApp
    ) -> None:
        def reloaded(session: Session) -> Any:
            assert session.is_proven
            site.middleware.registry.revoke(session.handle)
            session.reload()
            return shown(session)

        site.routes["/reload"] = reloaded
        page = site.bound().request("/reload").json

        assert (page["session"], page["bound"], page["proven"]) == (None, False, False)

    def test_a_fresh_session_after_destroying_is_not_bound(self, site: BoundApp) -> None:
        def again(session: Session) -> Any:
            session.destroy()
            session["a"] = 1
            session.save()
            return shown(session)

        site.routes["/again"] = again
        page = site.bound().request("/again").json

        assert page["session"] is not None
        assert (page["bound"], page["proven"]) == (False, False)

    @pytest.mark.parametrize("headers", [[], [("Cache-Control", "public, max-age=60")]])
    @pytest.mark.parametrize("after", [login, lambda session: session.update(seen=True)])
    def test_what_begins_after_destroying_expires_the_second_cookie_of_before(
        self, site: BoundApp, after: Handler, headers: list[tuple[str, str]]
    ) -> None:
        def again(session: Session) -> None:
            session.destroy()
            after(session)

        site.routes["/again"] = again
        agent = site.bound()
        site.headers = headers

        assert expires(agent.request("/again"), "__Host-s-bound")
        assert agent.cookies.keys() == {"__Host-s"}

    def test_a_login_leaves_the_second_cookie_of_its_session(self, site: BoundApp) -> None:
        agent = site.bound()
        agent.request("/login")

        assert agent.request("/page").json["proven"]

    def test_a_login_whose_session_was_ended_meanwhile_begins_an_unbound_one(
        self, site: BoundApp
    ) -> None:
        def login(session: Session) -> Any:
            session.login("ada")
            site.middleware.registry.revoke(session.handle)
            session.save()
            return shown(session)

        site.routes["/again"] = login
        agent = site.bound()
        before = agent.instructions["session_identifier"]

        answer = agent.request("/again")

        assert answer.json["session"] != before
        assert (answer.json["bound"], answer.json["proven"]) == (False, False)
        assert answer.json["owner"] == "ada"
        assert answer.header(OFFER) is not None
        assert agent.request("/page").json["owner"] == "ada"
        assert agent.register().status == 200
        assert agent.request("/page").json["proven"]

    def test_under_a_script_name_both_routes_work(self) -> None:
        site = BoundApp(cookie=Cookie("s", path="/app", secure=True))
        agent = Agent(site, script_name="/app")
        agent.request("/app/login")

        assert agent.register().status == 200
        assert agent.request("/app/page").json["proven"]
        assert agent.refresh().status == 403
        assert agent.refresh().status == 200

    def test_a_mounted_app_is_offered_the_path_that_the_middleware_answers(
        self, site: BoundApp
    ) -> None:
        def nothing_here(environ: dict[str, Any], start_response: Any) -> Any:
            raise AssertionError(environ["PATH_INFO"])

        # It moves a part of PATH_INFO to SCRIPT_NAME before the app opens its session.
        site.middleware.app = DispatcherMiddleware(nothing_here, {"/shop": site._app})
        agent = Agent(site)
        agent.request("/shop/login")

        assert agent.offer is not None
        assert agent.offer.path == "/.well-known/device-binding/register"
        assert agent.register().status == 200
        assert agent.request("/shop/page").json["proven"]

    def test_cookies_chosen_by_request_are_bound_each_by_itself(self) -> None:
        cookies = {"a": Cookie("a", secure=True), "b": Cookie("b", secure=True)}
        site = BoundApp(cookie=lambda environ: cookies[environ["HTTP_HOST"]])  # type: ignore[arg-type] # or a function
        one, other = Agent(site), Agent(site)
        one.request("/login", HTTP_HOST="a")
        other.request("/login", HTTP_HOST="b")

        assert one.register(HTTP_HOST="a").status == 200
        assert one.second == "a-bound"
        assert is_refused(other.register(HTTP_HOST="a"))
        assert other.register(HTTP_HOST="b").status == 200

    def test_an_older_secret_still_proves(self) -> None:
        site = BoundApp()
        agent = site.bound()
        site.middleware = SessionMiddleware(
            site._app,
            secret_key=["another secret of thirty-two bytes or more", SECRET],
            store=site.store,
            clock=site.clock,
            cookie=COOKIE,
            device_binding=DeviceBinding(),
        )

        assert agent.request("/page").json["proven"]

    def test_two_browsers_of_one_user_are_bound_each_by_itself(self, site: BoundApp) -> None:
        one, other = site.bound(), site.bound()

        assert one.request("/page").json["proven"]
        one.cookies[one.second] = other.cookies[other.second]
        assert one.request("/page").json["session"] is None

    def test_encrypted_at_rest_it_works_the_same(self) -> None:
        site = BoundApp(encryption_keys=[bytes(range(32))])
        agent = site.bound()
        agent.refresh()

        assert agent.refresh().status == 200

    def test_an_environ_that_comes_a_second_time_is_left_to_the_app(self, site: BoundApp) -> None:
        agent = site.bound()
        inner = site.middleware
        agent.app = SessionMiddleware(
            inner, secret_key=SECRET, cookie=COOKIE, clock=site.clock, store=site.store
        )

        assert agent.request(agent.instructions["refresh_url"], "POST").status == 200
        assert site.events == []

    def test_two_in_one_app_are_refused_under_one_path(self, site: BoundApp) -> None:
        options: dict[str, Any] = {
            "secret_key": SECRET,
            "cookie": Cookie("__Host-o", secure=True),
            "environ_key": "outer",
        }
        # Else the outer one would refuse what browsers send to bind the inner one's sessions.
        outer = SessionMiddleware(site.middleware, device_binding=DeviceBinding(), **options)
        with pytest.raises(ConfigurationError, match=r"give one of them another DeviceBinding"):
            Agent(outer).request("/page")

    def test_two_in_one_app_work_under_two_paths(self, site: BoundApp) -> None:
        outer = SessionMiddleware(
            site.middleware,
            secret_key=SECRET,
            cookie=Cookie("__Host-o", secure=True),
            environ_key="outer",
            device_binding=DeviceBinding(path="/outer"),
        )
        agent = Agent(outer)
        agent.request("/login")
        assert agent.register().status == 200
        assert agent.request("/page").json["proven"]


class TestRefusing:
    @pytest.mark.parametrize("signs_out", [False, True])
    def test_without_the_proof_there_is_no_session_and_nothing_is_deleted(
        self, site: BoundApp, *, signs_out: bool
    ) -> None:
        def page(session: Session) -> object:
            if signs_out:
                # An app that does so whenever it knows of no user.
                session.owner = None
            return shown(session)

        agent = site.bound()
        site.routes["/page"] = page
        second = agent.cookies.pop(agent.second)
        before = site.records()

        answer = agent.request("/page")

        seen = answer.json
        assert (seen["session"], seen["owner"], seen["bound"]) == (None, None, False)
        assert not seen["fresh"]
        assert answer.header("Set-Cookie") is None
        assert site.records() == before
        assert [(e.kind, e.detail, e.owner) for e in site.events] == [("unproven", "refuse", "ada")]
        assert site.events[0].handle == agent.instructions["session_identifier"]
        agent.cookies[agent.second] = second
        site.routes["/page"] = shown
        assert agent.request("/page").json["owner"] == "ada"

    def test_in_the_first_minute_it_is_served(self, site: BoundApp) -> None:
        agent = site.signed_in()
        agent.register()
        agent.request("/page")
        without_second(agent)

        page = agent.request("/page").json

        assert (page["owner"], page["bound"], page["proven"]) == ("ada", True, False)
        assert page["fresh"]
        site.clock.advance(60)
        assert agent.request("/page").json["owner"] is None

    def test_a_lost_answer_to_the_registration_locks_nobody_out(self, site: BoundApp) -> None:
        agent = site.signed_in()
        agent.register()
        without_second(agent)
        site.clock.advance(1000)

        page = agent.request("/page").json

        assert (page["owner"], page["bound"]) == ("ada", False)
        site.clock.advance(DAY)
        assert agent.request("/page").header(OFFER) is not None
        agent.device = Device()
        assert agent.register().status == 200
        assert agent.request("/page").json["proven"]

    def test_writing_begins_a_fresh_session_and_leaves_the_refused_one(
        self, site: BoundApp
    ) -> None:
        agent = site.bound()
        handle = agent.instructions["session_identifier"]
        without_second(agent)

        agent.request("/put")

        page = agent.request("/page").json
        assert page["session"] not in (None, handle)
        assert page["data"] == {"seen": True}
        assert page["owner"] is None
        assert site.middleware.registry.get(handle) is not None

    @pytest.mark.parametrize("path", ["/login", "/own", "/logout"])
    def test_signing_in_or_out_ends_the_refused_one(self, site: BoundApp, path: str) -> None:
        site.routes["/own"] = lambda session: setattr(session, "owner", "bob")
        agent = site.bound()
        handle = agent.instructions["session_identifier"]
        without_second(agent)

        answer = agent.request(path)

        assert site.middleware.registry.get(handle) is None
        assert (answer.header(OFFER) is not None) is (path != "/logout")
        assert ("__Host-s" in agent.cookies) is (path != "/logout")

    def test_the_refused_one_takes_no_place_from_the_login_that_ends_it(self) -> None:
        site = BoundApp(max_per_owner=1, when_full="refuse")
        agent = without_second(site.bound())

        assert agent.request("/login").status == 200
        assert agent.request("/page").json["owner"] == "ada"
        assert site.middleware.registry.count("ada") == 1

    def test_a_login_in_a_refused_request_is_fresh_and_can_be_bound(self, site: BoundApp) -> None:
        def login(session: Session) -> Any:
            session.login("ada")
            return shown(session)

        site.routes["/again"] = login
        agent = without_second(site.bound())

        page = agent.request("/again").json

        assert page["fresh"]
        assert not page["bound"]
        assert agent.register().status == 200
        assert agent.request("/page").json["proven"]

    def test_a_second_cookie_that_proves_nothing_is_taken_back(self, site: BoundApp) -> None:
        agent = site.bound()
        agent.cookies[agent.second] = "x" * 92

        answer = agent.request("/page")

        assert answer.json["session"] is None
        assert expires(answer, "__Host-s-bound")
        assert answer.header("Cache-Control") == "no-store"
        assert "__Host-s" in agent.cookies

    def test_on_a_public_answer_it_is_left(self, site: BoundApp) -> None:
        agent = site.bound()
        agent.cookies[agent.second] = "x" * 92
        site.headers = [("Cache-Control", "public, max-age=60")]

        assert agent.request("/page").header("Set-Cookie") is None

    def test_saving_in_a_refused_request_is_no_error(self, site: BoundApp) -> None:
        site.routes["/save"] = lambda session: session.save()

        assert without_second(site.bound()).request("/save").status == 200

    def test_a_store_that_is_down_signs_nobody_out(self, site: BoundApp) -> None:
        agent = site.bound()
        site.store.fail("load")
        assert agent.request("/page").status == 503
        refresh = agent.refresh()
        site.store.recover()

        assert refresh.status == 503
        assert site.kinds.count("store_error") == 2
        assert agent.request("/page").json["proven"]


class TestFlagging:
    def test_without_the_proof_the_session_is_there_and_says_so(self, flagging: BoundApp) -> None:
        agent = without_second(flagging.bound())

        answer = agent.request("/page")

        page = answer.json
        assert (page["owner"], page["bound"], page["proven"]) == ("ada", True, False)
        assert not page["fresh"]
        assert [(e.kind, e.detail) for e in flagging.events] == [("unproven", "flag")]
        assert answer.header("Set-Cookie") is None

    def test_with_the_proof_it_is_proven_and_fresh(self, flagging: BoundApp) -> None:
        page = flagging.bound().request("/page").json

        assert (page["proven"], page["fresh"]) == (True, True)

    def test_what_is_written_is_kept(self, flagging: BoundApp) -> None:
        agent = without_second(flagging.bound())
        agent.request("/put")

        assert agent.request("/page").json["data"] == {"seen": True}

    def test_a_second_cookie_that_proves_nothing_is_taken_back(self, flagging: BoundApp) -> None:
        agent = flagging.bound()
        agent.cookies[agent.second] = "x" * 92

        assert expires(agent.request("/page"), "__Host-s-bound")

    def test_a_login_leaves_the_binding_that_stands(self, flagging: BoundApp) -> None:
        agent = without_second(flagging.bound())

        assert agent.request("/login").header(OFFER) is None
        page = agent.request("/page").json
        assert (page["bound"], page["proven"], page["fresh"]) == (True, False, False)

    def test_signing_out_first_lets_the_next_login_be_bound(self, flagging: BoundApp) -> None:
        def again(session: Session) -> None:
            session.destroy()
            session.login("ada")

        flagging.routes["/again"] = again
        agent = without_second(flagging.bound())

        assert agent.request("/again").header(OFFER) is not None
        agent.device = Device()
        assert agent.register().status == 200
        assert agent.request("/page").json["proven"]


class TestAttacks:
    @pytest.mark.parametrize("attack", REGISTRATION_ATTACKS.values(), ids=REGISTRATION_ATTACKS)
    def test_a_wrong_registration_leaves_the_session_as_it_was(
        self, site: BoundApp, attack: Attack
    ) -> None:
        agent = site.signed_in()
        assert agent.offer is not None
        before = site.records()
        site.forget()

        assert is_refused(agent.register(attack(agent, agent.offer.challenge)))
        assert site.store.calls.total() == 0
        assert site.records() == before
        assert site.kinds == []

    @pytest.mark.parametrize("attack", REFRESH_ATTACKS.values(), ids=REFRESH_ATTACKS)
    def test_a_wrong_refresh_leaves_the_session_as_it_was(
        self, site: BoundApp, attack: Attack
    ) -> None:
        agent = site.bound()
        agent.refresh()
        assert agent.challenge is not None
        before = site.records()
        site.forget()

        assert is_refused(agent.refresh(attack(agent, agent.challenge)))
        assert site.writes == 0
        assert site.records() == before
        assert agent.request("/page").json["proven"]

    @pytest.mark.parametrize(
        "attack",
        [
            lambda site, agent, other: agent.register(),
            lambda site, agent, other: agent.register(HTTP_COOKIE=""),
            lambda site, agent, other: _swap_device(agent).register(),
            lambda site, agent, other: agent.register(other.device.registration(_offer(other))),
            lambda site, agent, other: agent.register(HTTP_SEC_FETCH_SITE="cross-site"),
            lambda site, agent, other: agent.refresh(HTTP_SEC_FETCH_SITE="cross-site"),
            lambda site, agent, other: agent.refresh(HTTP_SEC_SECURE_SESSION_ID="x"),
            lambda site, agent, other: agent.refresh(
                HTTP_SEC_SECURE_SESSION_ID=other.instructions["session_identifier"]
            ),
            lambda site, agent, other: agent.refresh(other.device.proof(other.challenge)),
            lambda site, agent, other: agent.refresh(agent.device.proof(_offer(agent))),
            lambda site, agent, other: _late(site, agent).refresh(),
        ],
        ids=[
            "replayed",
            "replayed without cookies",
            "another key",
            "another session's challenge",
            "registration from another site",
            "refresh from another site",
            "not an identifier",
            "another session's identifier",
            "another session's proof",
            "a challenge to register",
            "stale",
        ],
    )
    def test_a_bound_session_stays_as_it_was(
        self, site: BoundApp, attack: Callable[[BoundApp, Agent, Agent], Any]
    ) -> None:
        agent, other = site.bound(), site.bound()
        agent.refresh()
        other.refresh()
        before = site.records()
        site.forget()

        assert is_refused(attack(site, agent, other))
        assert site.writes == 0
        assert site.records() == before
        assert site.kinds == []

    def test_an_owners_list_is_no_session(self, site: BoundApp) -> None:
        agent = site.bound()
        handle = agent.instructions["session_identifier"]
        (listed,) = [key for key in site.records() if key != handle]
        agent.cookies.clear()

        answer = agent.refresh(HTTP_SEC_SECURE_SESSION_ID=listed)

        assert answer.json["continue"] is False
        assert site.writes == 0

    def test_copied_cookies_are_worth_minutes(self, site: BoundApp) -> None:
        agent = site.bound()
        thief = Agent(site)
        thief.cookies, thief.instructions = dict(agent.cookies), agent.instructions
        assert thief.request("/page").json["proven"]
        site.clock.advance(600)

        assert thief.request("/page").json["session"] is None
        thief.refresh()
        assert is_refused(thief.refresh())
        agent.refresh()
        assert agent.refresh().status == 200
        assert agent.request("/page").json["proven"]

    def test_without_the_second_cookie_a_copied_first_is_worth_nothing(
        self, site: BoundApp
    ) -> None:
        agent = site.bound()
        thief = Agent(site)
        thief.cookies["__Host-s"] = first_of(agent)

        assert thief.request("/page").json["session"] is None

    @pytest.mark.parametrize("binding", [{"device": "none"}, {"device": 7}, {"offered_at": "x"}])
    def test_a_damaged_binding_is_a_corrupt_record_and_never_unbound(
        self, site: BoundApp, binding: dict[str, Any]
    ) -> None:
        agent = site.bound()
        damage(site, agent.instructions["session_identifier"], binding=binding)

        assert agent.request("/page").json["session"] is None
        assert [(e.kind, e.detail) for e in site.events] == [("corrupt_record", "device")]
        assert agent.refresh().status == 503

    def test_a_record_that_can_not_be_read_here_is_not_gone(self, site: BoundApp) -> None:
        agent = site.bound()
        handle = agent.instructions["session_identifier"]
        site.store.store.update(handle, Changes(notes=b"of another version"))

        assert agent.refresh().status == 503

    def test_one_that_is_encrypted_under_a_key_that_is_not_here_is_not_gone(self) -> None:
        site = BoundApp(encryption_keys=[bytes(range(32))])
        agent = site.bound()
        agent.app = BoundApp(store=site.store, encryption_keys=[bytes(range(1, 33))])

        assert agent.refresh().status == 503
        site.store.clear()
        assert agent.refresh().json["continue"] is False

    def test_a_binding_is_written_for_what_was_found_alone(self, site: BoundApp) -> None:
        sessions = StoredSessions(site.middleware._settings, None)
        binding = Binding(DeviceKey("ES256", "A" * 86), 1, pending=True)

        assert sessions.bind("0" * 64, binding) is False
        assert site.writes == 0


def _offer(agent: Agent) -> str:
    assert agent.offer is not None
    return agent.offer.challenge


def _swap_device(agent: Agent) -> Agent:
    agent.device = Device()
    return agent


def _late(site: BoundApp, agent: Agent) -> Agent:
    site.clock.advance(1201)
    return agent


class TestRacing:
    def test_a_page_that_is_written_while_the_key_is_registered_loses_nothing(
        self, site: BoundApp
    ) -> None:
        agent = site.signed_in()
        racing = [lambda: agent.request("/put")]

        def before(*_: Any, **__: Any) -> None:
            if racing:
                racing.pop()()

        site.store.before("update", before)

        assert agent.register().status == 200
        page = agent.request("/page").json
        assert page["data"] == {"seen": True}
        assert page["proven"]

    def test_a_key_that_is_registered_while_a_page_is_written_stays(self, site: BoundApp) -> None:
        agent = site.signed_in(HTTP_SEC_FETCH_SITE="cross-site")

        def registered_meanwhile(session: Session) -> Any:
            assert session.owner == "ada"
            assert agent.register().status == 200
            return None

        site.routes["/meanwhile"] = registered_meanwhile

        # The first offer didn't count, so this request's own commit notes another.
        answer = agent.request("/meanwhile")

        assert answer.header(OFFER) is None
        assert agent.request("/page").json["proven"]

    def test_a_sign_out_that_races_with_the_registration_wins(self, site: BoundApp) -> None:
        agent = site.signed_in()
        out = Agent(site)
        out.cookies = dict(agent.cookies)
        racing = [lambda: out.request("/logout")]

        def before(*_: Any, **__: Any) -> None:
            if racing:
                racing.pop()()

        site.store.before("update", before)

        assert is_refused(agent.register())
        assert site.middleware.registry.count("ada") == 0

    def test_a_login_meanwhile_keeps_the_key_that_was_registered(self, site: BoundApp) -> None:
        agent = site.signed_in()

        def login(session: Session) -> None:
            session.login("ada")
            assert agent.register().status == 200

        site.routes["/again"] = login
        agent.request("/again")

        assert agent.request("/page").json["proven"]

    def test_a_store_that_fails_while_the_key_is_written_is_503(self, site: BoundApp) -> None:
        agent = site.signed_in()
        site.forget()
        site.store.fail("update")

        answer = agent.register()
        site.store.recover()

        assert answer.status == 503
        assert [(e.kind, e.owner) for e in site.events] == [("store_error", "ada")]
        assert agent.register().status == 200

    def test_a_registration_whose_write_was_done_though_its_answer_was_lost(
        self, site: BoundApp
    ) -> None:
        agent = site.signed_in()
        site.store.fail("update", answer_lost=True)
        assert agent.register().status == 503
        site.store.recover()
        site.clock.advance(DAY)

        page = agent.request("/page")

        assert page.json["owner"] == "ada"
        assert page.header(OFFER) is not None
        assert agent.register().status == 200
        assert agent.request("/page").json["proven"]


class TestConfiguration:
    @pytest.mark.parametrize(
        ("options", "says"),
        [
            ({"device_binding": True}, r"device_binding is True; write DeviceBinding\(\)"),
            ({"store": ClientSideStore()}, "needs a store on the server"),
            ({"token_header": "X-Session-Token"}, "token_header is 'X-Session-Token'"),
            ({"cookie": Cookie("s", domain="example.com")}, "domain='example.com'"),
            ({"cookie": Cookie("s", secure=False)}, "secure=False"),
            (
                {"cookie": Cookie("s", secure=True, samesite="None", partitioned=True)},
                "partitioned=True",
            ),
        ],
        ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
    )
    def test_what_can_not_be_bound_is_said_at_once(
        self, options: dict[str, Any], says: str
    ) -> None:
        def app(environ: Any, start_response: Any) -> Any:
            raise AssertionError

        with pytest.raises(ConfigurationError, match=says):
            SessionMiddleware(
                app,
                **{
                    "secret_key": SECRET,
                    "store": MemoryStore(),
                    "device_binding": DeviceBinding(),
                    **options,
                },
            )

    def test_a_chosen_cookie_that_can_not_be_bound_is_said_when_it_is_chosen(self) -> None:
        site = BoundApp(cookie=lambda environ: Cookie("s", domain="example.com"))  # type: ignore[arg-type] # or a function

        with pytest.raises(ConfigurationError, match="domain="):
            Agent(site).request("/page")

    def test_the_settings_in_force_are_described(self) -> None:
        assert "device_binding: DeviceBinding(max_age=600" in BoundApp().middleware.describe()
        assert "device_binding: no" in BoundApp(device_binding=None).middleware.describe()

    def test_turned_off_again_sessions_are_served_without_proof(self, site: BoundApp) -> None:
        agent = without_second(site.bound())
        agent.app = BoundApp(device_binding=None, store=site.store)

        page = agent.request("/page").json

        assert (page["owner"], page["bound"]) == ("ada", False)


@pytest.mark.parametrize("delete_old", [True, False])
def test_a_bound_session_that_is_carried_over_gets_its_cookie_again(delete_old: bool) -> None:
    secret = "the old app's secret"
    flask_app = Flask("old")
    flask_app.secret_key = secret
    serializer = SecureCookieSessionInterface().get_signing_serializer(flask_app)
    assert serializer is not None
    old = serializer.dumps({"_user_id": "42"})
    source = FlaskCookie(secret, 10**9, cookie="old", delete_old=delete_old)
    app = BoundApp(DeviceBinding(), carry_over=[source])
    app.clock.now = time.time()
    agent = Agent(app)
    agent.cookies["old"] = old
    agent.request("/page")
    agent.register()
    agent.request("/page")
    app.clock.advance(100)
    del agent.cookies["__Host-s"]
    agent.cookies["old"] = old

    response = agent.request("/page")

    assert response.json["proven"]
    assert "__Host-s" in agent.cookies
    assert ("old" in agent.cookies) == (not delete_old)
