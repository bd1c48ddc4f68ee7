"""Requirements 1.12 and 1.13: owners, encryption, WSGI manners, settings; 2.3: proxy settings."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from acts import destroy, id_of, login, put, read, started, token, twin
from raw import raw
from records import key_of
from wsgi import SECRET, Browser, Site, call, environ
from wsgi_sessions import (
    ConfigurationError,
    Cookie,
    Lifetime,
    Session,
    SessionCommitted,
    SessionMiddleware,
    TooManySessions,
    TrustedProxies,
)
from wsgi_sessions.proxies import resolve_client
from wsgi_sessions.record import list_key
from wsgi_sessions.stores import MemoryStore
from wsgi_sessions.testing import FaultyStore

KEY = bytes(range(32))


def signed_in(site: Site, owner: str = "bob", **extra: Any) -> Browser:
    browser = site.browser(**extra)
    site.run(browser, lambda s: s.login(owner))
    return browser


def who(session: Session) -> str:
    return repr(session.owner)


def test_US_1_a_users_sessions_are_listed_without_an_id() -> None:
    site = Site()
    one = signed_in(site, HTTP_USER_AGENT="Firefox")
    two = signed_in(site, HTTP_USER_AGENT="curl")

    listed = site.middleware.registry.sessions("bob")

    assert {info.label["user_agent"] for info in listed} == {"Firefox", "curl"}
    assert {info.label["ip"] for info in listed} == {"192.0.2.1"}
    assert {info.handle for info in listed} == {key_of(id_of(one)), key_of(id_of(two))}
    for browser in (one, two):
        assert id_of(browser) not in repr(listed)


def test_US_2_one_all_others_or_all_can_be_ended_at_once() -> None:
    site = Site()
    registry = site.middleware.registry
    one, two, three = (signed_in(site) for _ in range(3))
    foreign = signed_in(site, "ann")

    assert registry.revoke(key_of(id_of(one))) is True
    assert site.run(one, who).text == "None"
    site.run(two, lambda s: registry.revoke_all("bob", except_=s))
    assert site.run(three, who).text == "None"
    assert site.run(two, who).text == "'bob'"
    assert registry.revoke_all("bob") == 1
    assert site.run(two, who).text == "None"
    assert site.run(foreign, who).text == "'ann'"


def test_US_3_ending_all_of_a_user_scans_nothing() -> None:
    store = FaultyStore(MemoryStore())
    site = Site(store=store)
    browsers = [signed_in(site) for _ in range(5)]
    signed_in(site, "ann")
    store.calls.clear()

    site.middleware.registry.revoke_all("bob")

    assert store.calls["keys"] == 0
    assert store.calls["load"] == 2 + 5  # the list, before and after, and each session
    assert store.calls["delete"] == 5 + 1
    assert {site.run(browser, who).text for browser in browsers} == {"None"}


def test_US_4_a_password_change_ends_all_others_and_moves_this_one() -> None:
    site = Site()
    stolen, other, here = signed_in(site), signed_in(site), signed_in(site)
    old = twin(here)

    def change_password(session: Session) -> None:
        site.middleware.registry.revoke_all("bob", except_=session)
        session.regenerate()

    site.run(here, change_password)

    assert site.run(here, who).text == "'bob'"
    for browser in (stolen, other, old):
        assert site.run(browser, who).text == "None"


def test_US_5_the_limit_ends_the_least_recently_used_or_refuses() -> None:
    site = Site(max_per_owner=2)
    browsers = []
    for _ in range(3):
        browsers.append(signed_in(site))
        site.clock.advance(1)
    strict = Site(max_per_owner=1, when_full="refuse")
    signed_in(strict)

    def refused(session: Session) -> None:
        session["a"] = 1
        with pytest.raises(TooManySessions):
            session.login("bob")

    second = strict.browser()
    strict.run(second, refused)

    assert [site.run(browser, who).text for browser in browsers] == ["None", "'bob'", "'bob'"]
    assert "revoked" in site.kinds
    assert strict.run(second, lambda s: (s.owner, s["a"])).text == "(None, 1)"
    for _ in range(5):
        site.run(site.browser(), put(a=1))  # who isn't signed in doesn't count
    assert site.middleware.registry.count("bob") == 2


def test_US_6_listeners_hear_of_a_login_after_it_is_saved_and_learn_no_secret() -> None:
    heard: list[Any] = []
    store = MemoryStore()
    site = Site(store=store, on_event=lambda event: heard.append((event, set(store.keys()))))
    browser = signed_in(site)

    ((event, keys),) = heard
    assert (event.kind, event.owner) == ("created", "bob")
    assert keys == {event.handle, list_key("bob")}
    assert id_of(browser) not in repr(event)


def test_US_7_an_owners_list_holds_no_ended_session() -> None:
    site = Site(lifetime=Lifetime(idle=600, absolute=None))
    one, two = signed_in(site), signed_in(site)
    site.run(one, destroy)

    listed = site.store.load(list_key("bob"))
    assert listed is not None
    assert set(listed.fields) == {key_of(id_of(two))}
    site.clock.advance(601)
    assert site.middleware.registry.sessions("bob") == []
    assert list(site.store.keys()) == []


@pytest.mark.parametrize("owner", ["", "x" * 257, 42, None, b"bob", "\ud800"])
def test_US_7_an_owner_is_a_short_text(owner: Any) -> None:
    site = Site()

    def work(session: Session) -> None:
        with pytest.raises((TypeError, ValueError), match="owner"):
            session.login(owner)

    site.run(site.browser(), work)


def test_US_8_freshness_counts_from_the_login_and_use_doesnt_renew_it() -> None:
    site = Site()
    browser = signed_in(site)
    before = token(browser)
    site.clock.advance(599)
    assert site.run(browser, lambda s: s.is_fresh(600)).text == "True"
    site.run(browser, put(a=1))
    site.clock.advance(1)
    assert site.run(browser, lambda s: s.is_fresh(600)).text == "False"

    site.run(browser, login)

    assert site.run(browser, lambda s: s.is_fresh(600)).text == "True"
    assert token(browser) != before


def test_US_10_a_session_needs_no_owner() -> None:
    site, browser = started()

    assert site.run(browser, lambda s: (s.owner, s["a"], s.is_fresh(60))).text == "(None, 1, False)"


def poisoned(site: Site, browser: Browser, **parts: Any) -> str:
    """What the app reads after these bytes were put under the browser's key."""
    key = key_of(id_of(browser))
    record = site.store.load(key)
    assert record is not None
    site.store.delete(key)
    site.store.insert(key, replace(record, **parts))
    site.events.clear()
    text = site.run(browser, lambda s: repr(s.get("a"))).text
    site.store.delete(key)
    site.store.insert(key, record)
    return text


def test_EN_1_what_is_stored_is_sealed_and_any_change_is_noticed() -> None:
    site, browser = started(encryption_keys=[KEY])
    key = key_of(id_of(browser))
    first = site.store.load(key)
    site.run(browser, put(a=2))
    site.run(browser, put(a=1))
    second = site.store.load(key)
    assert first is not None
    assert second is not None
    sealed = second.fields["a"]

    assert first.fields["a"] != sealed  # the same value, another nonce
    assert b'"a"' not in raw(site.store)
    for at in range(len(sealed)):
        flipped = bytearray(sealed)
        flipped[at] ^= 1
        assert poisoned(site, browser, fields={**second.fields, "a": bytes(flipped)}) == "None"
        assert "corrupt_record" in site.kinds
    assert poisoned(site, browser, fields={**second.fields, "a": sealed[:-1]}) == "None"
    assert poisoned(site, browser, notes=second.notes[:-1]) == "None"
    assert site.run(browser, read).text == "{'a': 1}"


def test_EN_2_encrypted_mode_takes_no_plain_record() -> None:
    plain, browser = started()
    sealed = Site(store=plain.store, clock=plain.clock, encryption_keys=[KEY])
    browser.app = sealed.middleware

    assert sealed.run(browser, read).text == "{}"
    assert "corrupt_record" in sealed.kinds


def test_EN_4_nothing_is_compressed_before_it_is_encrypted() -> None:
    site = Site(encryption_keys=[KEY])
    browser = site.browser()
    site.run(browser, put(a="x" * 10_000))

    record = site.store.load(key_of(id_of(browser)))
    assert record is not None
    assert len(record.fields["a"]) > 10_000


def test_WS_1_a_change_after_the_headers_is_said_to_be_lost() -> None:
    def app(made: dict[str, Any], start_response: Any) -> Any:
        start_response("200 OK", [("Content-Type", "text/plain")])
        yield b"first"
        with pytest.raises(SessionCommitted, match="headers"):
            made["wsgi_sessions.session"]["late"] = 1

    assert call(SessionMiddleware(app, secret_key=SECRET), environ()).body == b"first"


@pytest.mark.parametrize("chunks", [[], [b""], [b"", b"x"], [b"x"]])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_WS_2_wsgi_is_kept_in_every_form_of_body(chunks: list[bytes], method: str) -> None:
    closed: list[bool] = []

    class Body:
        def __iter__(self) -> Any:
            return iter(chunks)

        def close(self) -> None:
            closed.append(True)

    def app(made: dict[str, Any], start_response: Any) -> Any:
        made["wsgi_sessions.session"]["a"] = 1
        start_response("200 OK", [("Content-Type", "text/plain")])
        return Body()

    made = environ(REQUEST_METHOD=method)
    response = call(SessionMiddleware(app, secret_key=SECRET), made, check=method == "GET")

    assert response.body == b"".join(chunks)
    assert response.set_cookie is not None
    assert closed == [True]


def test_WS_3_an_app_that_raises_leaves_no_session() -> None:
    site = Site()

    def boom(session: Session) -> None:
        session["a"] = 1
        raise RuntimeError("boom")

    with pytest.raises(RuntimeError, match="boom"):
        site.run(site.browser(), boom)

    assert list(site.store.keys()) == []


def test_WS_4_a_5xx_answer_keeps_no_login() -> None:
    site, browser = started()
    before = dict(browser.cookies)
    site.status = "500 Internal Server Error"

    response = site.run(browser, login)
    site.status = "200 OK"

    assert response.set_cookie is None
    assert browser.cookies == before
    assert site.run(browser, lambda s: (s.owner, dict(s))).text == "(None, {'a': 1})"


def test_WS_5_two_instances_live_side_by_side_and_one_inside_itself_steps_aside() -> None:
    def app(made: dict[str, Any], start_response: Any) -> list[bytes]:
        made["wsgi_sessions.session"]["a"] = 1
        made["other"]["b"] = 2
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b""]

    inner = SessionMiddleware(
        app, secret_key=SECRET, environ_key="other", cookie=Cookie(name="other")
    )
    outer = SessionMiddleware(inner, secret_key=SECRET)
    twice = SessionMiddleware(outer, secret_key=SECRET)

    for each in (outer, twice):
        names = [value.partition("=")[0] for value in call(each, environ()).all("Set-Cookie")]
        assert sorted(names) == ["other", "session"]
    assert list(outer.store.keys()) != []
    assert len(list(twice.store.keys())) == 1


@pytest.mark.parametrize("prefix", ["/;Domain=evil.example", "/\r\nX: y", "/app", "/é"])
def test_WS_7_the_script_name_never_gets_into_the_cookie(prefix: str) -> None:
    site = Site()

    response = site.run(site.browser(SCRIPT_NAME=prefix), put(a=1), check=False)

    assert response.set_cookie is not None
    assert response.set_cookie.endswith("; HttpOnly; Path=/; SameSite=Lax")


@pytest.mark.parametrize("options", [{"seucre": True}, {"secret": SECRET}, {"ttl": 60}])
def test_CF_2_an_unknown_option_is_refused_by_name(options: dict[str, Any]) -> None:
    with pytest.raises((TypeError, ConfigurationError), match=next(iter(options))):
        SessionMiddleware(lambda e, s: [], secret_key=SECRET, **options)


def test_CF_3_changing_what_was_passed_in_has_no_effect() -> None:
    secrets = [SECRET]
    listeners: list[Callable[[Any], object]] = []
    labels = {"ip"}
    site = Site(secret_key=secrets, on_event=listeners, label=labels)
    secrets[0] = "another secret of at least thirty-two bytes, for tests"
    listeners.append(lambda event: pytest.fail("a listener came in later"))
    labels.add("user_agent")

    browser = signed_in(site, HTTP_USER_AGENT="Firefox")

    assert site.run(browser, lambda s: s.label).text == "{'ip': '192.0.2.1'}"
    assert site.run(browser, who).text == "'bob'"


def test_CF_4_the_policy_in_force_can_be_printed_without_secrets() -> None:
    middleware = SessionMiddleware(lambda e, s: [], secret_key=SECRET, max_per_owner=3)

    text = middleware.describe()

    for said in ("idle", "max_per_owner", "touch_interval", "rotate_after", "trusted_proxies"):
        assert said in text
    assert SECRET not in text
    assert json.dumps(text) == json.dumps(middleware.describe())


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"hops": -1}, id="PC_1-negative"),
        pytest.param({"hops": 1.0}, id="PC_1-float"),
        pytest.param({"hops": "1"}, id="PC_1-text"),
        pytest.param({"hops": True}, id="PC_1-bool"),
        pytest.param({"hops": 11}, id="PC_2"),
        pytest.param({"hops": 1, "header": "x"}, id="PC_3"),
        pytest.param({"hops": 1, "networks": ["10.0.0.0/8"]}, id="PC_4"),
        pytest.param({"networks": ["*"]}, id="PC_5-star"),
        pytest.param({"networks": ["0.0.0.0/0"]}, id="PC_5-all-4"),
        pytest.param({"networks": ["::/0"]}, id="PC_5-all-6"),
        pytest.param({"networks": ["10.0.0.1/8"]}, id="PC_6"),
        pytest.param({"networks": ["proxy.internal"]}, id="PC_7-name"),
        pytest.param({"networks": ["10.0.300.1"]}, id="PC_7-number"),
        pytest.param({"networks": ["fe80::1%eth0"]}, id="PC_8"),
        pytest.param({"networks": "10.0.0.0/8, 192.168.0.1"}, id="PC_11"),
    ],
)
def test_PC_1_PC_2_PC_3_PC_4_PC_5_PC_6_PC_7_PC_8_PC_11_wrong_proxies_are_refused(
    options: dict[str, Any],
) -> None:
    with pytest.raises(ConfigurationError):
        TrustedProxies(**options)


def test_PC_10_PC_14_the_networks_are_frozen_and_may_be_none() -> None:
    networks: Any = ["10.0.0.0/8"]
    proxies = TrustedProxies(networks=networks)
    networks.append("192.0.2.0/24")

    assert proxies == TrustedProxies(networks=("10.0.0.0/8",))
    assert TrustedProxies(networks=()) == TrustedProxies()


def test_PC_9_a_mapped_network_is_the_ipv4_one() -> None:
    proxies = TrustedProxies(networks=("::ffff:10.0.0.0/104",))
    made = environ(REMOTE_ADDR="10.1.2.3", HTTP_X_FORWARDED_FOR="203.0.113.9")

    assert resolve_client(made, proxies).ip == "203.0.113.9"
