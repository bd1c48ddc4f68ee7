"""Trusted proxies in the middleware: what the app, the cookie, the label and the log make of them."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from wsgi import SECRET, Site, call, environ
from wsgi_sessions import Client, Cookie, Session, SessionMiddleware, TrustedProxies
from wsgi_sessions.proxies import read_own

CLIENT = "203.0.113.7"
HTTPS = {"HTTP_X_FORWARDED_FOR": CLIENT, "HTTP_X_FORWARDED_PROTO": "https"}


def put(session: Session) -> None:
    session["a"] = 1


def read(session: Session) -> str:
    return repr(dict(session))


class Recorder:
    """An app that keeps the environ it was called with."""

    def __init__(self) -> None:
        self.environ: dict[str, Any] = {}

    def __call__(self, environ: dict[str, Any], start_response: Any) -> list[bytes]:
        self.environ = dict(environ)
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"ok"]


def seen_by_app(made: dict[str, Any], **options: Any) -> dict[str, Any]:
    app = Recorder()
    call(SessionMiddleware(app, secret_key=SECRET, **options), made)
    return app.environ


def test_the_app_sees_the_client_and_the_originals() -> None:
    seen = seen_by_app(environ(**HTTPS), trusted_proxies=1)

    assert seen["REMOTE_ADDR"] == CLIENT
    assert seen["wsgi.url_scheme"] == "https"
    assert seen["wsgi_sessions.client"] == Client(CLIENT, "https", "127.0.0.1", 80, "", ())
    assert seen["wsgi_sessions.original"] == {
        "REMOTE_ADDR": "192.0.2.1",
        "wsgi.url_scheme": "http",
    }


@pytest.mark.parametrize(("scheme", "secure"), [("wss", True), ("HTTPS", True), ("ws", False)])
def test_whether_a_request_is_secure_has_one_answer(scheme: str, secure: bool) -> None:
    extra: dict[str, Any] = {"wsgi.url_scheme": scheme, "check": False}
    auto, always = Site(), Site(cookie=Cookie(secure=True))
    browser = auto.browser()
    auto.run(browser, put, **{"wsgi.url_scheme": "https"})

    kept = auto.run(browser, read, **extra).text
    first = auto.run(auto.browser(), put, **extra).set_cookie

    assert read_own(environ(**extra)).scheme == ("https" if secure else "http")
    assert kept == ("{'a': 1}" if secure else "{}")
    assert ("; Secure" in str(first)) is secure
    assert (always.run(always.browser(), put, **extra).set_cookie is not None) is secure


def test_without_proxies_nothing_is_rewritten() -> None:
    made = environ(**HTTPS, HTTP_X_FORWARDED_HOST="evil.example")
    before = dict(made)

    seen = seen_by_app(made)

    # The validator around the app wraps these two.
    for key in before.keys() - {"wsgi.input", "wsgi.errors"}:
        assert seen[key] == before[key]
    assert "wsgi_sessions.original" not in seen
    assert seen["wsgi_sessions.client"] == Client("192.0.2.1", "http", "127.0.0.1", 80, "", ())


def test_the_client_is_known_where_the_cookies_path_is_not() -> None:
    seen = seen_by_app(environ("/", **HTTPS), trusted_proxies=1, cookie=Cookie(path="/shop"))

    assert "wsgi_sessions.session" not in seen
    assert seen["REMOTE_ADDR"] == CLIENT


def test_the_cookies_path_is_compared_with_the_path_that_the_client_sees() -> None:
    proxies = TrustedProxies(1, prefix=1)
    made = environ("/cart", **HTTPS, HTTP_X_FORWARDED_PREFIX="/shop")

    seen = seen_by_app(made, trusted_proxies=proxies, cookie=Cookie(path="/shop"))

    assert "wsgi_sessions.session" in seen
    assert (seen["SCRIPT_NAME"], seen["PATH_INFO"]) == ("/shop", "/cart")


def test_a_middleware_in_another_leaves_the_first_ones_word() -> None:
    app = Recorder()
    inner = SessionMiddleware(
        app,
        secret_key=SECRET,
        cookie=Cookie("inner"),
        environ_key="inner.session",
        trusted_proxies=TrustedProxies(1, peers=("192.0.2.1",)),
    )
    outer = SessionMiddleware(inner, secret_key=SECRET, trusted_proxies=1)

    call(outer, environ(**HTTPS))

    assert app.environ["wsgi_sessions.client"].problems == ()
    assert app.environ["REMOTE_ADDR"] == CLIENT
    assert app.environ["wsgi_sessions.original"]["REMOTE_ADDR"] == "192.0.2.1"


@pytest.mark.parametrize(
    ("own", "headers", "hops", "secure"),
    [
        ("http", HTTPS, 1, True),
        ("http", HTTPS, 0, False),
        ("http", {**HTTPS, "HTTP_X_FORWARDED_PROTO": "http"}, 1, False),
        ("https", {**HTTPS, "HTTP_X_FORWARDED_PROTO": "http"}, 1, False),
        ("http", {**HTTPS, "HTTP_X_FORWARDED_PROTO": "https, http"}, 1, False),
        ("https", {"HTTP_X_FORWARDED_FOR": CLIENT}, 1, False),
        ("https", {}, 0, True),
    ],
)
def test_the_cookie_is_secure_if_the_client_came_by_https(
    own: str, headers: dict[str, str], hops: int, secure: bool
) -> None:
    site = Site(trusted_proxies=hops)

    response = site.run(site.browser(), put, **headers, **{"wsgi.url_scheme": own})

    assert ("; Secure" in str(response.set_cookie)) is secure


def test_a_cookie_that_must_be_secure_is_set_through_the_proxy() -> None:
    site = Site(trusted_proxies=1, cookie=Cookie("__Host-id", secure=True))

    response = site.run(site.browser(), put, **HTTPS)

    assert str(response.set_cookie).startswith("__Host-id=")


def test_a_secure_cookie_that_cannot_be_set_is_explained_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    site = Site(cookie=Cookie(secure=True))

    with caplog.at_level(logging.WARNING, logger="wsgi_sessions"):
        for _ in range(3):
            site.run(site.browser(), put, HTTP_X_FORWARDED_PROTO="HttpS\x1b")

    texts = [r.getMessage() for r in caplog.records if "secure=True" in r.getMessage()]
    assert len(texts) == 1
    assert "X-Forwarded-Proto" in texts[0]
    assert "HttpS" in texts[0]
    assert "\x1b" not in texts[0]
    assert "trusted_proxies" in texts[0]


def test_a_proxy_that_nobody_trusts_is_explained_once_per_process(
    caplog: pytest.LogCaptureFixture,
) -> None:
    site, another = Site(trusted_proxies=0), Site(trusted_proxies=0)

    with caplog.at_level(logging.WARNING, logger="wsgi_sessions"):
        site.run(site.browser(), put, HTTP_X_FORWARDED_PROTO="http")
        silent = caplog.text
        for each in (site, site, another):
            each.run(each.browser(), put, HTTP_X_FORWARDED_PROTO="https")

    assert "trusted_proxies" not in silent
    assert caplog.text.count("trusted_proxies is 0") == 1


def test_label_and_events_name_the_client_behind_the_proxies() -> None:
    site = Site(trusted_proxies=1)
    labels: list[dict[str, str]] = []

    def sign_in(session: Session) -> None:
        session.login("ada")
        labels.append(dict(session.label))

    site.run(site.browser(), sign_in, **HTTPS)
    unknown = site.browser()
    site.run(unknown, sign_in, HTTP_X_FORWARDED_FOR="unknown", HTTP_X_FORWARDED_PROTO="https")

    assert [label.get("ip") for label in labels] == [CLIENT, None]
    assert {event.client_ip for event in site.events} == {CLIENT, None}


FORWARDED = TrustedProxies(1, header="forwarded")
NO_HEADERS: dict[str, str] = {}
PROTO_HTTP = {"HTTP_X_FORWARDED_FOR": "203.0.113.7", "HTTP_X_FORWARDED_PROTO": "http"}
FORWARDED_HTTPS = {"HTTP_FORWARDED": "for=203.0.113.7;proto=https"}


@pytest.mark.parametrize(
    ("trusted", "headers", "says"),
    [
        (
            1,
            NO_HEADERS,
            "the scheme is missing: no proxy set it (proto_absent). Have the outermost",
        ),
        (
            1,
            NO_HEADERS,
            "waitress doesn't unless it is started with clear_untrusted_proxy_headers=",
        ),
        (1, {"HTTP_X_FORWARDED_PROTO": "on"}, "(proto_malformed)"),
        (1, FORWARDED_HTTPS, "isn't configured came in, unread (other_family_ignored). Have"),
        (TrustedProxies(1, proto=2), PROTO_HTTP, "(proto_short)"),
        (TrustedProxies(1, peers=("10.0.0.0/8",)), FORWARDED_HTTPS, "(peer_untrusted)"),
        (FORWARDED, PROTO_HTTP, "there is no Forwarded header (fwd_absent)"),
        (
            1,
            PROTO_HTTP,
            "say that the client used http, or aren't trusted with the scheme (proto=0)",
        ),
        (TrustedProxies(1, proto=0), NO_HEADERS, "or aren't trusted with the scheme (proto=0)"),
    ],
)
def test_behind_trusted_proxies_it_explains_what_they_lack(
    trusted: int | TrustedProxies,
    headers: dict[str, str],
    says: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    both = Site(cookie=Cookie(secure=True), trusted_proxies=trusted)
    replayed = Site(trusted_proxies=trusted)
    https = {"HTTP_X_FORWARDED_FOR": "203.0.113.7", "HTTP_X_FORWARDED_PROTO": "https, https"}
    forwarded = {**https, **FORWARDED_HTTPS, "wsgi.url_scheme": "https", "REMOTE_ADDR": "10.0.0.9"}
    browser = replayed.browser(**forwarded)
    replayed.run(browser, put)
    browser.extra = headers
    caplog.clear()

    both.run(both.browser(), put, **headers)
    replayed.run(browser, read)

    texts = [r.getMessage() for r in caplog.records if r.getMessage()[:2] in ("Th", "A ")]
    assert [text[:20] for text in texts] == ["The cookie 'session'", "A session that was b"]
    for text in texts:
        assert says in text
        assert "the number of proxies" not in text
