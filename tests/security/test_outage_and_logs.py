"""Requirements 1.8, 1.9 and 1.11: outages, floods, events and logs."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from acts import destroy, id_of, login, login_as, nothing, put, read, sending, started, token, twin
from records import key_of
from wsgi import Browser, Site
from wsgi_sessions import Cookie, Lifetime
from wsgi_sessions.crypto.session_id import new_id
from wsgi_sessions.events import KINDS
from wsgi_sessions.stores import FileStore, MemoryStore
from wsgi_sessions.testing import FaultyStore

WRITES = ("insert", "update", "delete")


def broken(**options: Any) -> tuple[Site, Browser, FaultyStore]:
    """A session whose store has just gone down."""
    store = FaultyStore(MemoryStore())
    site, browser = started(store=store, **options)
    store.fail("load", *WRITES)
    return site, browser, store


def test_OUT_1_who_has_no_session_never_notices_an_outage() -> None:
    site, browser, _ = broken()
    forged = sending(site, "session=" + token(browser).swapcase())

    assert site.run(site.browser(), nothing).code == 200
    assert site.run(site.browser(), read).code == 200
    assert site.run(forged, read).code == 200
    assert site.run(browser, nothing).code == 200


def test_OUT_2_with_a_good_cookie_an_outage_is_503_and_the_cookie_is_kept() -> None:
    site, browser, store = broken()
    before = dict(browser.cookies)

    response = site.run(browser, read)
    store.recover()

    assert response.code == 503
    assert int(response.get("Retry-After") or 0) > 0
    assert response.set_cookie is None
    assert browser.cookies == before
    assert site.run(browser, read).text == "{'a': 1}"


@pytest.mark.parametrize("work", [put(b=2), lambda s: s.regenerate(), login, lambda s: s.clear()])
def test_OUT_3_what_could_not_be_saved_is_not_answered_with_a_body(work: Any) -> None:
    store = FaultyStore(MemoryStore())
    site, browser = started(store=store)
    store.fail(*WRITES)

    response = site.run(browser, work)

    assert response.code == 503
    assert response.set_cookie is None
    assert b"None" not in response.body


def test_OUT_4_a_sign_out_that_failed_is_not_claimed() -> None:
    store = FaultyStore(MemoryStore())
    site, browser = started(store=store)
    old = twin(browser)
    store.fail("delete")

    response = site.run(browser, destroy)
    store.recover()

    assert response.code == 503
    assert "Max-Age=0" in (response.set_cookie or "")
    assert "store_error" in site.kinds
    assert site.run(old, read).text == "{'a': 1}"  # as documented: the app was told


def test_OUT_5_a_touch_that_fails_breaks_nothing() -> None:
    store = FaultyStore(MemoryStore())
    site, browser = started(store=store)
    site.clock.advance(120)
    store.fail("update")

    response = site.run(browser, read)

    assert (response.code, response.text) == (200, "{'a': 1}")
    assert site.kinds[-1] == "store_error"


def test_OUT_6_an_error_page_tells_nothing_of_the_store() -> None:
    site, browser, _ = broken()

    response = site.run(browser, read)

    told = response.text + repr(response.headers)
    for secret in (
        "set to fail",
        "FaultyStore",
        "Memory",
        token(browser),
        key_of(id_of(browser)),
        "redis",
    ):
        assert secret not in told


@pytest.mark.parametrize("kind", ["none", "read", "random", "forged", "unknown"])
def test_DOS_1_robots_cost_no_records(kind: str) -> None:
    site = Site()
    for number in range(500):
        cookie = {
            "none": "",
            "read": "",
            "random": f"session={new_id()}",
            "forged": f"session={new_id()}.{new_id()}",
            "unknown": "session=" + site.middleware._site.transport.signer.sign(f"{number:043d}"),
        }[kind]
        site.run(sending(site, cookie), nothing if kind == "none" else read)

    assert list(site.store.keys()) == []


def test_DOS_5_an_owners_sessions_cost_what_they_are_and_not_what_all_are() -> None:
    store = FaultyStore(MemoryStore())
    site = Site(store=store)
    for number in range(300):
        site.run(site.browser(), login_as(f"user {number}"))
    for _ in range(3):
        site.run(site.browser(), login)
    store.calls.clear()

    assert len(site.middleware.registry.sessions("bob")) == 3
    assert site.middleware.registry.revoke_all("bob") == 3
    assert store.calls["keys"] == 0
    assert store.calls["load"] == 3 + 3 + 3  # of either each session; and the list, three times


def everything() -> tuple[Site, list[str]]:
    """A site to which everything happened, and all secrets that were in play."""
    site = Site(rotate_after=100, lifetime=Lifetime(idle=3600, absolute=7200))
    browser = site.browser()
    secrets = ["value-in-session", "a secret of at least"]

    def noting(work: Any) -> None:
        site.run(browser, work)
        if browser.cookies:
            secrets.extend([token(browser), *token(browser).split(".")])

    noting(put(key="value-in-session"))
    noting(login)
    old = twin(browser)
    site.clock.advance(100)
    noting(read)
    site.clock.advance(100)
    site.run(old, read)
    site.run(sending(site, "session=" + token(browser).swapcase()), read)
    other = site.browser()
    site.run(other, put(key="value-in-session"))
    secrets.append(token(other))
    site.run(sending(site, f"session={token(browser)}; session={token(other)}"), read)
    noting(lambda s: s.regenerate())
    site.middleware.registry.revoke_all("bob")
    site.run(browser, read)
    site.clock.advance(9000)
    site.run(other, read)
    return site, secrets


def test_LG_1_no_level_of_the_log_shows_a_secret(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    _, secrets = everything()

    assert len(caplog.records) > 8
    for secret in secrets:
        assert secret not in caplog.text


def test_LG_3_each_thing_that_happens_is_an_event_with_its_facts() -> None:
    site, _ = everything()

    expected = {"created", "regenerated", "rotated", "revoked", "expired", "retired_id_used",
                "bad_signature", "cookie_conflict", "unknown_id"}  # fmt: skip
    assert expected <= set(site.kinds) <= KINDS
    for event in site.events:
        assert event.time.utcoffset() is not None
        assert event.client_ip == ("192.0.2.1" if event.kind != "revoked" else None)
        if event.kind in ("created", "regenerated", "rotated", "expired", "retired_id_used"):
            assert event.handle is not None
            assert len(event.handle) == 64


@pytest.mark.parametrize(
    "evil",
    ["\x1b[31mred", "a\r\nSet-Cookie: x", "\u202eabc", "\u2028x", "x" * 10_000, "\x00", "\x9b1m"],
)
def test_LG_4_text_from_the_client_is_one_short_escaped_line(
    evil: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    site = Site(cookie=Cookie(secure=True))
    extra = {"HTTP_USER_AGENT": evil, "HTTP_X_FORWARDED_PROTO": evil, "REMOTE_ADDR": evil}

    site.run(site.browser(**extra), put(a=1), check=False)
    signed_in = Site()
    signed_in.run(signed_in.browser(**extra), login, check=False)
    label = signed_in.middleware.registry.sessions("bob")[0].label

    assert caplog.records != []
    for text in [*(record.getMessage() for record in caplog.records), *label.values()]:
        assert text.isprintable()
        assert len(text) < 1_000


def test_LG_5_a_flood_of_events_is_a_few_lines_and_a_count(
    caplog: pytest.LogCaptureFixture,
) -> None:
    site = Site()
    for _ in range(1_000):
        site.run(sending(site, "session=forged"), read, check=False)
    site.clock.advance(61)
    site.run(sending(site, "session=forged"), read)

    lines = [record for record in caplog.records if "bad_signature" in record.getMessage()]
    assert len(lines) <= 15
    assert any("990" in record.getMessage() for record in lines)
    assert site.kinds.count("bad_signature") == 1_001


def test_LG_6_errors_are_exact_for_the_operator_and_say_nothing_to_the_client(
    tmp_path: Any, caplog: pytest.LogCaptureFixture
) -> None:
    site, browser = started(store=FileStore(tmp_path / "s"))
    (tmp_path / "s").rename(tmp_path / "unmounted")

    response = site.run(browser, read)

    assert response.code == 503
    assert str(tmp_path) not in response.text
    assert "store_error" in caplog.text


def test_LG_7_a_signed_id_that_we_dont_know_is_an_event() -> None:
    site, browser = started()
    handle = key_of(id_of(browser))
    site.store.clear()

    site.run(browser, read)

    assert (site.events[-1].kind, site.events[-1].handle) == ("unknown_id", handle)


def test_a_session_is_never_named_by_its_id_in_events() -> None:
    site, secrets = everything()

    for secret in secrets:
        assert secret not in repr(site.events)
