"""Requirements 1.4 and 1.5: creating, regenerating, destroying; timeouts."""

from __future__ import annotations

import math
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from acts import destroy, id_of, login, nothing, put, read, started, token, twin
from records import key_of
from wsgi import Browser, Site
from wsgi_sessions import ConfigurationError, Cookie, Lifetime, Session
from wsgi_sessions.record import Changes
from wsgi_sessions.stores import FileStore, MemoryStore, Store

HOUR = 3600


def owner(session: Session) -> str:
    return repr(session.owner)


def test_LC_1_login_gives_a_new_id_and_the_old_one_is_dead() -> None:
    site, browser = started()
    old = twin(browser)

    site.run(browser, login)

    assert token(browser) != token(old)
    assert site.run(old, owner).text == "None"
    assert site.run(old, read).text == "{}"
    assert list(site.middleware.registry) == [key_of(id_of(browser))] == [key_of(id_of(old))]


def test_LC_2_a_change_of_privilege_has_no_grace_even_with_rotation() -> None:
    site, browser = started(rotate_after=10)
    fixated = twin(browser)
    site.clock.advance(10)

    site.run(browser, login)
    response = site.run(fixated, owner)

    assert response.text == "None"
    assert response.set_cookie is None


@pytest.mark.parametrize(
    "work",
    [
        login,
        lambda s: s.login("admin"),
        lambda s: setattr(s, "owner", "impersonated"),
        lambda s: setattr(s, "owner", None),
        lambda s: s.regenerate(),
    ],
    ids=["again", "other", "impersonate", "owner-removed", "regenerate"],
)
def test_LC_3_every_change_of_privilege_gives_a_new_id(work: Any) -> None:
    site, browser = started()
    site.run(browser, login)
    old = twin(browser)

    site.run(browser, work)

    assert token(browser) != token(old)
    assert site.run(old, read).text == "{}"


def test_LC_4_an_allow_list_keeps_planted_data_out_of_a_login() -> None:
    site = Site()
    browser = site.browser()
    site.run(browser, put(role="admin", cart=[1]))

    site.run(browser, lambda s: s.login("bob", keep=["cart"]))

    assert site.run(browser, read).text == "{'cart': [1]}"


def test_LC_5_after_a_rotation_the_old_id_has_a_short_grace_in_the_same_session() -> None:
    site, browser = started(rotate_after=100)
    late = twin(browser)
    site.clock.advance(100)
    site.run(browser, read)

    site.clock.advance(5)
    site.run(late, put(late=1))
    healed = token(late)

    assert healed == token(browser)
    assert site.run(browser, read).text == "{'a': 1, 'late': 1}"


def test_LC_6_an_old_id_after_its_grace_is_an_event() -> None:
    site, browser = started(rotate_after=100)
    thief = twin(browser)
    stolen_handle = key_of(id_of(thief))
    site.clock.advance(100)
    site.run(browser, read)
    site.clock.advance(30)

    assert site.run(thief, read).text == "{}"
    assert site.events[-1].kind == "retired_id_used"
    assert site.events[-1].handle == stolen_handle


def test_LC_7_destroy_deletes_at_once_and_survives_an_exception_of_the_app() -> None:
    site, browser = started()

    def work(session: Session) -> None:
        session.destroy()
        assert list(site.store.keys()) == []
        raise RuntimeError("the app fails")

    with pytest.raises(RuntimeError, match="the app fails"):
        site.run(browser, work)

    assert list(site.store.keys()) == []


def test_LC_8_after_destroy_the_cookie_is_useless_on_every_server() -> None:
    site, browser = started()
    second = Site(store=site.store, clock=site.clock)
    replayed = twin(browser)

    response = site.run(browser, destroy)
    replayed.app = second.middleware

    assert response.set_cookie is not None
    assert browser.cookies == {}
    assert second.run(replayed, read).text == "{}"


def test_LC_9_writing_after_destroy_starts_a_fresh_session() -> None:
    site, browser = started()
    old = twin(browser)

    def work(session: Session) -> None:
        session.destroy()
        session["k"] = 1

    site.run(browser, work)

    assert token(browser) != token(old)
    assert site.run(browser, read).text == "{'k': 1}"
    assert site.run(old, read).text == "{}"
    assert "" not in set(site.store.keys())


def test_LC_10_an_emptied_session_leaves_no_record() -> None:
    site, browser = started()

    response = site.run(browser, lambda s: s.clear())

    assert list(site.store.keys()) == []
    assert "Max-Age=0" in (response.set_cookie or "")


def test_LC_11_destroying_nothing_makes_nothing() -> None:
    site = Site()

    for _ in range(1_000):
        assert site.run(site.browser(), destroy).set_cookie is None

    assert list(site.store.keys()) == []


@pytest.mark.parametrize("end", ["expired", "unknown", "forged"])
def test_LC_12_a_cookie_that_is_no_session_is_left_alone(end: str) -> None:
    site, browser = started()
    if end == "expired":
        site.clock.advance(2 * 86400)
    elif end == "unknown":
        site.store.clear()
    else:
        browser.cookies["session"] = token(browser).swapcase()

    assert site.run(browser, nothing).set_cookie is None
    assert site.run(browser, read).set_cookie is None


@pytest.mark.parametrize("work", [destroy, lambda s: s.regenerate(), login])
def test_LC_13_a_listener_that_raises_prevents_nothing(work: Any) -> None:
    def bad(event: object) -> None:
        raise RuntimeError("a listener's error")

    site = Site(on_event=bad)
    browser = site.browser()
    site.run(browser, put(a=1))
    old = twin(browser)

    assert site.run(browser, work).code == 200
    assert site.run(old, read).text == "{}"


@pytest.mark.parametrize("kind", ["memory", "file"])
def test_TO_1_the_idle_limit_is_enforced_on_load(kind: str, tmp_path: Path) -> None:
    store: Store = MemoryStore() if kind == "memory" else FileStore(tmp_path / "s")
    site, browser = started(store=store, lifetime=Lifetime(idle=60, absolute=None))

    site.clock.advance(61)

    assert site.run(browser, read).text == "{}"
    assert [event.detail for event in site.events if event.kind == "expired"] == ["idle"]


def test_TO_1_a_record_whose_deadline_was_put_off_by_hand_expires_all_the_same() -> None:
    site, browser = started(lifetime=Lifetime(idle=60, absolute=None))
    site.store.update(key_of(id_of(browser)), Changes(expires_at=site.clock.now + 10**6))

    site.clock.advance(61)

    assert site.run(browser, read).text == "{}"


def test_TO_2_the_absolute_limit_ends_a_session_that_is_never_idle() -> None:
    site, browser = started(lifetime=Lifetime(idle=60, absolute=600))
    for _ in range(19):
        site.clock.advance(30)
        assert site.run(browser, read).text == "{'a': 1}"

    site.clock.advance(30)
    assert site.run(browser, read).text == "{}"


@pytest.mark.parametrize("how", ["put off by hand", "shortened since"])
def test_TO_2_the_absolute_limit_counts_whatever_the_record_says(how: str) -> None:
    before = Lifetime(idle=HOUR, absolute=600 if how == "put off by hand" else None)
    old, browser = started(lifetime=before)
    if how == "put off by hand":
        far = Changes(expires_at=old.clock.now + 10**6)
        old.store.update(key_of(id_of(browser)), far)
    site = Site(store=old.store, clock=old.clock, lifetime=Lifetime(idle=HOUR, absolute=600))
    browser.app = site.middleware

    old.clock.advance(599)
    assert site.run(twin(browser), lambda s: s["a"]).text == "1"
    old.store.update(key_of(id_of(browser)), Changes(expires_at=old.clock.now + 10**6))
    old.clock.advance(1)

    assert site.run(browser, read).text == "{}"
    assert [event.detail for event in site.events if event.kind == "expired"] == ["absolute"]


def test_TO_3_a_new_id_never_extends_the_absolute_limit() -> None:
    site, browser = started(lifetime=Lifetime(idle=HOUR, absolute=600), rolling=True)
    for _ in range(9):
        site.clock.advance(60)
        site.run(browser, lambda s: s.regenerate())
        assert site.run(browser, read).text == "{'a': 1}"

    site.clock.advance(60)
    assert site.run(browser, read).text == "{}"


def test_TO_4_both_limits_are_in_force_by_default_and_none_must_be_said() -> None:
    lifetime = Lifetime()
    site, browser = started()

    def ends(session: Session) -> float:
        return (session.expires_at - session.created_at).total_seconds()

    assert (lifetime.idle, lifetime.absolute) == (timedelta(days=1), timedelta(days=30))
    assert float(site.run(browser, ends).text) == 86400
    with pytest.raises(ConfigurationError):
        Lifetime(idle=None, absolute=None)


@pytest.mark.parametrize("limit", ["idle", "absolute"])
@pytest.mark.parametrize("value", [0, -1, True, math.nan, math.inf, "60", timedelta(0)])
def test_TO_5_a_limit_is_a_positive_time(limit: str, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=limit):
        Lifetime(**{limit: value})


def test_TO_6_the_idle_limit_is_never_exceeded_and_at_most_a_tenth_shorter() -> None:
    for last in range(10):
        site, browser = started(lifetime=Lifetime(idle=600, absolute=None), touch_interval=60)
        for _ in range(last):
            site.clock.advance(7)
            site.run(browser, read)

        dies = next(after for after in range(530, 620) if not alive_after(site, browser, after))
        assert 540 <= dies <= 600


def alive_after(site: Site, browser: Browser, seconds: int) -> bool:
    """Whether it would live then; a registry looks without touching."""
    now = site.clock.now
    site.clock.advance(seconds)
    alive = site.middleware.registry.get(key_of(id_of(browser))) is not None
    site.clock.now = now
    return alive


def test_TO_7_a_touch_revives_nothing() -> None:
    site, browser = started()
    site.clock.advance(120)

    def work(session: Session) -> None:
        session.get("a")
        session.touch()
        site.store.clear()

    response = site.run(browser, work)

    assert list(site.store.keys()) == []
    assert response.set_cookie is None


def test_TO_8_a_clock_that_goes_back_makes_nothing_immortal() -> None:
    site, browser = started(lifetime=Lifetime(idle=600, absolute=HOUR))
    begun = site.clock.now

    site.clock.advance(-HOUR)
    for _ in range(12):
        site.clock.advance(300)
        site.run(browser, put(n=site.clock.now))
    site.clock.now = begun + HOUR

    assert site.run(browser, read).text == "{}"


@pytest.mark.parametrize("used_since", [True, False])
def test_s2_a_session_of_a_clock_that_was_ahead_lives_no_longer_than_others(
    used_since: bool,
) -> None:
    site = Site(lifetime=Lifetime(idle=1800, absolute=None))
    browser, right = site.browser(), site.clock.now
    site.clock.advance(5 * 365 * 24 * HOUR)
    site.run(browser, put(a=1))
    site.clock.now = right
    if used_since:
        assert site.run(browser, read).text == "{'a': 1}"

    site.clock.advance(1801)

    # Unused, it counts from whenever it is looked at.
    assert site.run(browser, read).text == ("{}" if used_since else "{'a': 1}")
    site.clock.advance(1801)
    assert site.run(browser, read).text == "{}"


@pytest.mark.parametrize("kind", ["memory", "file"])
def test_TO_9_expired_records_are_removed_and_live_ones_never(kind: str, tmp_path: Path) -> None:
    store: Store = MemoryStore() if kind == "memory" else FileStore(tmp_path / "s")
    site = Site(store=store, lifetime=Lifetime(idle=600))
    for _ in range(300):
        site.run(site.browser(), put(a=1))
    site.clock.advance(599)
    live = site.browser()
    site.run(live, put(a="live"))
    site.clock.advance(1)

    site.middleware.registry.purge_expired()

    assert list(store.keys()) == [key_of(id_of(live))]
    assert site.run(live, read).text == "{'a': 'live'}"


def test_TO_10_a_persistent_cookie_never_outlives_the_session() -> None:
    site, browser = started(
        cookie=Cookie(persistent=True), lifetime=Lifetime(idle=500, absolute=1000)
    )
    for left in (900, 700, 500, 300, 100):
        site.clock.advance(100 if left == 900 else 200)
        header = site.run(browser, put(n=left)).set_cookie or ""
        age = int(header.partition("Max-Age=")[2].partition(";")[0])
        assert age <= left
