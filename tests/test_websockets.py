"""Requests that ask for a WebSocket: the connection is the app's, so no header goes out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from acts import put, read, started
from wsgi import Browser, Site, environ
from wsgi_sessions import get_session

GUNICORN = StopIteration


def hold(
    site: Site, browser: Browser, view: Callable[[Any], Any], ending: Any, **headers: str
) -> list[Any]:
    """Let a request that asks for a WebSocket do something, and end as its server wants it."""
    given = environ(cookie=f"session={browser.cookies['session']}", **headers)
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
