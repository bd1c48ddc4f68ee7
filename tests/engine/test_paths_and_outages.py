"""Rows C-5 and W-1 of the field reports: a path that a proxy strips, and a framework's own 500."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from acts import put, read
from wsgi import SECRET, Site, call, environ
from wsgi_sessions import Cookie, SessionMiddleware, StoreError
from wsgi_sessions.stores import ClientSideStore, MemoryStore
from wsgi_sessions.testing import FaultyStore


@pytest.mark.parametrize("make_store", [MemoryStore, ClientSideStore])
def test_c5_a_cookie_that_arrived_is_in_scope_whatever_the_rewritten_path(make_store: Any) -> None:
    site = Site(store=make_store(), cookie=Cookie(path="/app"))
    browser = site.browser()
    site.run(browser, put(a=1), SCRIPT_NAME="/app")

    response = site.run(browser, put(b=2), SCRIPT_NAME="")
    assert site.run(browser, read, SCRIPT_NAME="").text == "{'a': 1, 'b': 2}"
    assert response.set_cookie is None or "Path=/app" in response.set_cookie


def test_c5_without_one_there_is_no_session_outside_of_the_path() -> None:
    site = Site(cookie=Cookie(path="/app"))
    browser = site.browser(HTTP_COOKIE="session=forged.token")

    with pytest.raises(KeyError):
        site.run(browser, read, SCRIPT_NAME="")


def handled(status: str, *, streamed: bool = False) -> Any:
    """An app whose framework makes a page of its own of every error."""

    def app(made: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        try:
            made["wsgi_sessions.session"]["a"] = 1
        except StoreError:
            start_response(status, [("Content-Type", "text/plain")])
            return iter([b"a page of its own"]) if streamed else [b"a page of its own"]
        raise AssertionError

    return app


@pytest.mark.parametrize("streamed", [False, True])
def test_w1_a_500_that_a_framework_made_of_a_failed_load_is_a_503(streamed: bool) -> None:
    store = FaultyStore(MemoryStore())
    site = Site(store=store)
    browser = site.browser()
    site.run(browser, put(a=1))
    store.fail("load")
    app = SessionMiddleware(
        handled("500 Internal Server Error", streamed=streamed), secret_key=SECRET, store=store
    )

    response = call(app, environ(cookie=f"session={browser.cookies['session']}"))

    assert response.code == 503
    assert response.get("Retry-After") is not None
    assert response.set_cookie is None
    assert b"a page of its own" not in response.body


def test_w1_what_an_app_answers_otherwise_is_its_own() -> None:
    store = FaultyStore(MemoryStore())
    site = Site(store=store)
    browser = site.browser()
    site.run(browser, put(a=1))
    store.fail("load")
    app = SessionMiddleware(handled("200 OK"), secret_key=SECRET, store=store)

    response = call(app, environ(cookie=f"session={browser.cookies['session']}"))

    assert response.text == "a page of its own"


@pytest.mark.parametrize(
    "header",
    [
        "session=; Expires=Thu, 01 Jan 1970 00:00:00 GMT; Max-Age=0; Path=/",
        "session=x; Max-Age=0",
        "session=; expires=Thu, 01-Jan-1970 00:00:00 GMT",
    ],
)
def test_c6_an_app_that_expires_our_cookie_signs_out(header: str) -> None:
    site = Site(store=MemoryStore())
    browser = site.browser()
    site.run(browser, put(a=1))
    site.headers = [("Set-Cookie", header)]

    response = site.run(browser, read)

    assert len(response.all("Set-Cookie")) == 1
    assert browser.cookies == {}
    assert list(site.store.keys()) == []


def test_c6_an_app_that_sets_a_cookie_of_our_name_doesnt_sign_out() -> None:
    site = Site(store=MemoryStore())
    browser = site.browser()
    site.run(browser, put(a=1))
    site.headers = [("Set-Cookie", "session=x; Path=/")]

    assert site.run(browser, read).set_cookie is None
    assert len(list(site.store.keys())) == 1
