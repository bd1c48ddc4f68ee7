"""Requests that ask for a WebSocket: the connection is the app's, so no header goes out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from acts import put, read, started
from wsgi import Browser, Site, environ
from wsgi_sessions import Cookie, get_session

GUNICORN = StopIteration


def hold(
    site: Site, browser: Browser, view: Callable[[Any], Any], ending: Any, **headers: str
) -> list[Any]:
    """Let a request that asks for a WebSocket do something, and end as its server wants it."""
    ((name, token),) = browser.cookies.items()
    given = environ(cookie=f"{name}={token}", **headers)
    begun: list[Any] = []

    def app(environ: Any, start_response: Any) -> Any:
        view(get_session(environ))
        if isinstance(ending, list):
            return ending
        if ending is GUNICORN:
            raise StopIteration
        start_response(ending, [])
        return []

    def start(status: str, headers: Any, exc_info: Any = None, /) -> Any:
        begun.append(headers)
        return bytes

    middleware = site.middleware
    inner, middleware.app = middleware.app, app
    try:
        list(middleware(given, start))
    except (StopIteration, RuntimeError):
        pass
    finally:
        middleware.app = inner
    return begun


@pytest.mark.parametrize("ending", [GUNICORN, [], "200 OK"], ids=["gunicorn", "empty", "werkzeug"])
def test_f4_what_was_written_on_a_websocket_is_saved_without_a_cookie(ending: Any) -> None:
    site, browser = started(rotate_after=600)
    site.clock.advance(900)

    begun = hold(site, browser, put(b=2), ending, HTTP_UPGRADE="WebSocket")
    site.clock.advance(60)

    assert not any("Set-Cookie" in dict(headers) for headers in begun)
    assert site.run(browser, read).text == "{'a': 1, 'b': 2}"


def test_f4_a_stop_iteration_of_any_other_request_is_a_failure() -> None:
    site, browser = started()

    hold(site, browser, put(b=2), GUNICORN)

    assert site.run(browser, read).text == "{'a': 1}"


def test_f4_a_handshake_that_is_answered_otherwise_sets_its_cookie() -> None:
    site, browser = started()

    (headers,) = hold(
        site, browser, lambda session: session.regenerate(), "401 No", HTTP_UPGRADE="websocket"
    )

    assert "Set-Cookie" in dict(headers)


CHANGES: dict[str, Callable[[Any], Any]] = {
    "a login": lambda session: session.login("ada"),
    "a login that was saved": lambda session: (session.login("ada"), session.save()),
    "a session that begins": lambda session: (session.destroy(), put(b=2)(session)),
}


@pytest.mark.parametrize("ending", [GUNICORN, [], "200 OK"], ids=["gunicorn", "empty", "werkzeug"])
@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_f4_what_no_cookie_can_tell_on_a_websocket_is_said_once(
    change: Callable[[Any], Any], ending: Any, caplog: pytest.LogCaptureFixture
) -> None:
    site, browser = started()
    _, other = started()
    for each in (browser, other):
        begun = hold(site, each, change, ending, HTTP_UPGRADE="websocket")

        assert not any("Set-Cookie" in dict(headers) for headers in begun)

    (line,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert "asked for a WebSocket" in line


@pytest.mark.parametrize("ending", [GUNICORN, [], "200 OK", "401 No"])
def test_f4_what_needs_no_cookie_on_a_websocket_is_nothing_to_speak_of(
    ending: Any, caplog: pytest.LogCaptureFixture
) -> None:
    site, browser = started()
    for view in (read, put(b=2), lambda session: session.handle, lambda session: session.destroy()):
        hold(site, browser, view, ending, HTTP_UPGRADE="websocket")

    assert [record for record in caplog.records if record.levelname == "WARNING"] == []


# What Traefik sends with a WebSocket's handshake, and what the browser does.
TRAEFIK = {
    "REMOTE_ADDR": "10.0.0.2",
    "HTTP_HOST": "shop.example",
    "HTTP_CONNECTION": "Upgrade",
    "HTTP_UPGRADE": "websocket",
    "HTTP_SEC_WEBSOCKET_KEY": "dGhlIHNhbXBsZSBub25jZQ==",
    "HTTP_SEC_WEBSOCKET_VERSION": "13",
    "HTTP_ORIGIN": "https://shop.example",
    "HTTP_X_FORWARDED_FOR": "192.0.2.9",
    "HTTP_X_FORWARDED_HOST": "shop.example",
    "HTTP_X_FORWARDED_PORT": "443",
    "HTTP_X_FORWARDED_PROTO": "wss",
    "HTTP_X_FORWARDED_SERVER": "traefik-0",
    "HTTP_X_REAL_IP": "192.0.2.9",
}


def test_p1_a_handshake_behind_traefik_has_the_session_of_the_page(
    caplog: pytest.LogCaptureFixture,
) -> None:
    site = Site(trusted_proxies=1, cookie=Cookie("__Host-session", secure=True), rotate_after=600)
    page = {name: value for name, value in TRAEFIK.items() if "WEBSOCKET" not in name}
    del page["HTTP_UPGRADE"]
    browser = site.browser(**{**page, "HTTP_X_FORWARDED_PROTO": "https"})
    site.run(browser, put(a=1))
    site.clock.advance(900)
    seen: list[Any] = []

    def handshake(session: Any) -> None:
        seen.append(read(session))
        session["b"] = 2

    begun = hold(site, browser, handshake, GUNICORN, **TRAEFIK)
    site.status = "403 Forbidden"
    refused = site.run(browser, put(c=3), **TRAEFIK)
    site.status = "200 OK"

    assert seen == ["{'a': 1}"]
    assert begun == []
    assert refused.set_cookie is not None and "; Secure" in refused.set_cookie
    assert site.run(browser, read).text == "{'a': 1, 'b': 2, 'c': 3}"
    assert [record for record in caplog.records if record.levelname == "WARNING"] == []


def test_a_session_that_is_kept_for_a_connection_is_found_after_a_rotation() -> None:
    site, browser = started(rotate_after=600)
    ((name, token),) = browser.cookies.items()
    session = site.middleware.open_session(environ(cookie=f"{name}={token}"))
    assert session is not None and not session.is_new

    for count in range(3):
        site.clock.advance(900)
        site.run(browser, put(b=count))
        site.clock.advance(60)
        session.reload()
        session["c"] = count
        session.save()

    assert site.run(browser, read).text == "{'a': 1, 'b': 2, 'c': 2}"
    assert "retired_id_used" not in [event.kind for event in site.events]
