"""Requirements that the app has the last word on: what we give it for that, and that it works."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from acts import destroy, id_of, login, put, read, started
from raw import raw
from records import key_of
from security.page import PAGE
from wsgi import Site, environ
from wsgi_sessions import Cookie, Lifetime, Session, SessionEvent, TrustedProxies
from wsgi_sessions.proxies import resolve_client

MINUTE, HOUR, DAY = 60, 3600, 86400


def test_LC_14_the_app_may_clear_the_browser_when_it_signs_a_user_out() -> None:
    site, browser = started()
    clear = ("Clear-Site-Data", '"cookies","storage","cache"')

    others = [site.run(browser, work) for work in (read, put(b=1), login)]
    site.headers = [clear]
    out = site.run(browser, destroy)

    assert out.all("Clear-Site-Data") == [clear[1]]
    assert "Max-Age=0" in (out.set_cookie or "")
    assert [response.all("Clear-Site-Data") for response in others] == [[], [], []]


def test_US_9_to_be_remembered_is_the_session_itself_within_its_absolute_limit() -> None:
    site = Site(lifetime=Lifetime(idle=DAY, absolute=3 * DAY))
    browser = site.browser()

    def sign_in(session: Session) -> None:
        session.login("bob")
        session.persistent = True

    site.run(browser, sign_in)
    first = id_of(browser)
    for _ in range(4):
        site.clock.advance(DAY * 0.7)
        assert site.run(browser, lambda s: s.owner).text == "bob"
    site.clock.advance(DAY * 0.3)

    assert site.run(browser, lambda s: s.owner).text == "None"  # no second cookie signs in again
    assert list(browser.cookies) == ["session"]
    site.run(browser, sign_in)
    assert id_of(browser) != first
    assert "remember-me" in PAGE.read_text("utf-8").lower()


def test_DOS_2_anonymous_sessions_may_have_shorter_limits_than_others() -> None:
    site = Site(lifetime=Lifetime(idle=DAY, absolute=30 * DAY))
    visitor, user = site.browser(), site.browser()

    def visit(session: Session) -> None:
        session["cart"] = [1]
        session.lifetime = Lifetime(idle=10 * MINUTE, absolute=HOUR)

    def sign_in(session: Session) -> None:
        session.login("bob")
        session.lifetime = Lifetime(idle=DAY, absolute=30 * DAY)

    for browser in (visitor, user):
        site.run(browser, visit)
    site.run(user, sign_in)
    ends = {}
    for browser in (visitor, user):
        record = site.store.load(key_of(id_of(browser)))
        assert record is not None
        ends[browser] = record.expires_at - site.clock()
    site.clock.advance(11 * MINUTE)

    assert ends == {visitor: 10 * MINUTE, user: DAY}
    assert site.run(visitor, read).text == "{}"
    assert site.run(user, read).text == "{'cart': [1]}"


def test_DOS_3_the_app_can_count_and_limit_who_makes_sessions() -> None:
    made: Counter[str | None] = Counter()

    def count(event: SessionEvent) -> None:
        made[event.client_ip] += event.kind == "created"

    site = Site(on_event=count, trusted_proxies=1)

    def visit(session: Session) -> str:
        if made["203.0.113.9"] >= 100:
            return "429"
        session["cart"] = 1
        return "200"

    # What the client claims stands to the left of what its proxy saw.
    answers = Counter(
        site.run(
            site.browser(HTTP_X_FORWARDED_FOR=f"198.51.100.{n % 250}, 203.0.113.9"), visit
        ).text
        for n in range(1_000)
    )

    assert answers == {"200": 100, "429": 900}
    assert made == {"203.0.113.9": 100}
    assert len(list(site.store.keys())) == 100


@pytest.mark.parametrize("encryption", [{}, {"encryption_keys": [bytes(range(32))]}])
def test_BN_4_addresses_and_browsers_are_kept_for_lists_alone(encryption: Any) -> None:
    who = {"REMOTE_ADDR": "203.0.113.9", "HTTP_USER_AGENT": "Fox/1.0 (of bob)"}
    listing, private = Site(**encryption), Site(label=None, **encryption)
    for site in (listing, private):
        site.run(site.browser(**who), put(a=1))
        for known in who.values():
            assert known.encode() not in raw(site.store)  # not of who isn't signed in
        site.run(site.browser(**who), login)

    (listed,) = listing.middleware.registry.sessions("bob")
    (unnamed,) = private.middleware.registry.sessions("bob")
    assert dict(listed.label) == {"ip": who["REMOTE_ADDR"], "user_agent": who["HTTP_USER_AGENT"]}
    assert dict(unnamed.label) == {}
    assert (who["REMOTE_ADDR"].encode() in raw(listing.store)) is not bool(encryption)
    for known in who.values():
        assert known.encode() not in raw(private.store)


@pytest.mark.parametrize("path", ["/static", "/staticx", "/static/../read", "/static/%2e%2e/read"])
@pytest.mark.parametrize(("cookie_path", "covered"), [("/", True), ("/read", False)])
def test_WS_6_no_path_is_left_out_but_by_the_cookies_own(
    path: str, cookie_path: str, covered: bool
) -> None:
    site, browser = started() if covered else (Site(cookie=Cookie(path="/read")), None)
    browser = browser or site.browser()
    made = environ(path)

    session = site.middleware.open_session(made)

    assert (session is not None) is covered
    if covered:
        site.routes[path] = read
        assert browser.get(path).text == "{'a': 1}"


def test_CS_1_same_site_is_on_and_the_page_says_that_it_is_not_enough() -> None:
    site = Site()
    page = " ".join(PAGE.read_text("utf-8").split())

    assert "; SameSite=Lax" in (site.run(site.browser(), put(a=1)).set_cookie or "")
    assert "`SameSite=Lax` is only a second line of defence" in page
    assert "`Sec-Fetch-Site`" in page


def test_PC_12_headers_of_a_tcp_peer_count_for_nothing_where_a_unix_one_was_said() -> None:
    proxies = TrustedProxies(hops=1, peers=("unix",))
    forged = {"HTTP_X_FORWARDED_FOR": "198.51.100.66", "HTTP_X_FORWARDED_PROTO": "https"}

    over_tcp = resolve_client(environ(REMOTE_ADDR="203.0.113.9", **forged), proxies)
    over_unix = resolve_client(environ(REMOTE_ADDR="", **forged), proxies)

    assert (over_tcp.ip, over_tcp.scheme) == ("203.0.113.9", "http")
    assert over_tcp.problems == ("peer_untrusted",)
    assert (over_unix.ip, over_unix.scheme, over_unix.problems) == ("198.51.100.66", "https", ())
    assert "unix" in Site(trusted_proxies=proxies).middleware.describe()


def test_PC_13_secure_that_can_never_be_switched_on_is_warned_of(
    caplog: pytest.LogCaptureFixture,
) -> None:
    without_scheme = TrustedProxies(hops=1, proto=0)
    Site(trusted_proxies=1)
    Site(trusted_proxies=without_scheme, cookie=Cookie(secure=True))
    Site(trusted_proxies=without_scheme, cookie=Cookie(secure=False))
    assert caplog.text == ""

    Site(trusted_proxies=without_scheme)

    assert "proto=0" in caplog.text
    assert "secure=True" in caplog.text
