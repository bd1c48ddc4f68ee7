"""Bottle's plugin: request.session everywhere in a request, Bottle's own errors, 503s."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import pytest
from bottle import Bottle, HTTPResponse, request

from wsgi import SECRET, Browser, call, environ
from wsgi_sessions import ConfigurationError
from wsgi_sessions.bottle import SessionPlugin
from wsgi_sessions.errors import StoreError
from wsgi_sessions.stores import MemoryStore
from wsgi_sessions.testing import FaultyStore

ERRORS: dict[str, Any] = {"wsgi.errors": io.StringIO()}


class Shop:
    def __init__(self, **options: Any) -> None:
        self.store = FaultyStore(MemoryStore())
        self.plugin = SessionPlugin(secret_key=SECRET, store=self.store, **options)
        self.app = Bottle()
        self.app.install(self.plugin)
        self.app.get("/put", callback=self.put)
        self.app.get("/all", callback=lambda: dict(request.session))
        self.app.get("/nothing", callback=lambda: "-")
        self.app.get("/boom", callback=self.boom)
        self.app.get("/stream", callback=self.stream)
        self.app.get("/save", callback=lambda: [self.put(), request.session.save()])
        self.app.get("/handled", callback=self.handled)
        self.app.error(404)(lambda error: f"nobody: {request.session.get('n')}")

    def put(self) -> str:
        request.session["n"] = request.session.get("n", 0) + 1
        return "kept"

    def boom(self) -> None:
        request.session["n"] = 99
        raise ZeroDivisionError

    def stream(self) -> Iterator[str]:
        request.session["before"] = 1
        yield "a"
        request.session["within"] = 2

    def handled(self) -> str:
        try:
            return str(request.session.get("n"))
        except StoreError:
            return "later"


def test_a_session_goes_on_from_request_to_request() -> None:
    browser = Browser(Shop().app)

    browser.get("/put")
    browser.get("/put")

    assert browser.get("/all").text == '{"n": 2}'


def test_an_untouched_session_costs_nothing() -> None:
    shop = Shop()

    response = Browser(shop.app).get("/nothing")

    assert response.set_cookie is None and response.get("Vary") is None
    assert not shop.store.calls


def test_error_pages_are_bottles_and_have_the_session() -> None:
    browser = Browser(Shop().app)
    browser.get("/put")

    assert browser.get("/no-such-page").text == "nobody: 1"
    assert "Internal Server Error" in browser.get("/boom", **ERRORS).text
    assert browser.get("/all").text == '{"n": 1}'


def test_a_stream_goes_on_with_the_session() -> None:
    browser = Browser(Shop().app)

    assert browser.get("/stream").text == "a"

    assert browser.get("/all").text == '{"before": 1, "within": 2}'


@pytest.mark.parametrize(
    ("operation", "path"), [("load", "/all"), ("update", "/put"), ("update", "/save")]
)
def test_w1_a_failed_store_is_a_503(operation: str, path: str) -> None:
    shop = Shop()
    browser = Browser(shop.app)
    browser.get("/put")
    shop.store.fail(operation)

    response = browser.get(path, **ERRORS)

    assert response.code == 503 and response.get("Retry-After") == "5"
    assert browser.cookies


class Places:
    """Every place in which an app that has a mounted one may use the session."""

    def __init__(self) -> None:
        self.shop = Shop()
        app, child = self.shop.app, Bottle()
        for each in (app, child):
            each.get("/count", callback=self.count)
            each.get("/stream", callback=self.stream)
            each.get("/listed", callback=lambda: [str(self.shop.plugin.registry.count("ada"))])
        app.mount("/child/", child)
        app.mount("/wsgi/", child.wsgi)
        app.add_hook("before_request", lambda: self.hook("before"))
        app.add_hook("after_request", lambda: self.hook("after"))
        app.error(404)(lambda error: self.count())

    def count(self) -> str:
        return str(request.session.increment("n"))

    def stream(self) -> Iterator[str]:
        yield self.count()

    def hook(self, when: str) -> None:
        if request.query_string == when:
            self.count()


@pytest.mark.parametrize(
    ("path", "query"),
    [
        ("/count", ""),
        ("/child/count", ""),
        ("/wsgi/count", ""),
        ("/nothing", "before"),
        ("/nothing", "after"),
        ("/stream", ""),
        ("/child/stream", ""),
        ("/no-such-page", ""),
        ("/listed", ""),
        ("/child/listed", ""),
    ],
)
def test_w1_a_failed_store_is_a_503_wherever_it_is_met(path: str, query: str) -> None:
    places = Places()
    browser = Browser(places.shop.app)
    browser.get("/put")
    places.shop.store.fail("load" if "listed" in path else "update")

    response = browser.get(path, QUERY_STRING=query, **ERRORS)

    assert response.code == 503 and response.get("Retry-After") == "5"
    assert browser.cookies


def test_w1_a_failed_store_is_a_503_after_another_bottle_app_was_called() -> None:
    shop, other = Shop(), Bottle()

    def asks() -> str:
        call(other, environ("/nothing"))
        return str(shop.plugin.registry.count("ada"))

    shop.app.get("/asks", callback=asks)
    shop.store.fail("load")

    assert Browser(shop.app).get("/asks", **ERRORS).code == 503


def test_an_error_page_that_answers_otherwise_comes_first() -> None:
    shop = Shop()
    shop.app.error(500)(lambda error: HTTPResponse(f"later: {error.exception}", 200))
    browser = Browser(shop.app)
    browser.get("/put")
    shop.store.fail("load")

    assert browser.get("/all", **ERRORS).text == "later: this test store was set to fail"


def test_a_failure_that_leaves_bottle_is_not_that_of_the_next_request() -> None:
    shop = Shop()
    shop.app.config["catchall"] = False
    shop.app.error(404)(lambda error: request.session.increment("n"))
    browser = Browser(shop.app)
    browser.get("/put")
    shop.store.fail("update")
    made = environ("/no-such-page", cookie=f"session={browser.cookies['session']}", **ERRORS)
    assert call(shop.app, made).code == 503

    shop.app.config["catchall"] = True
    made["PATH_INFO"] = "/boom"

    assert call(shop.app, made).code == 500


def test_an_app_that_handles_the_failure_answers_itself() -> None:
    shop = Shop()
    browser = Browser(shop.app)
    browser.get("/put")
    shop.store.fail("load")

    assert browser.get("/handled").text == "later"


def test_a_child_app_that_is_mounted_shares_the_session() -> None:
    shop, child = Shop(), Bottle()
    child.get("/put", callback=shop.put)
    shop.app.mount("/child/", child)
    browser = Browser(shop.app)

    browser.get("/child/put")

    assert browser.get("/all").text == '{"n": 1}'


def test_a_plugin_on_the_mounted_app_alone_is_told_where_it_belongs() -> None:
    parent, child = Bottle(), Shop()
    parent.config["catchall"] = False
    parent.mount("/child/", child.app)

    with pytest.raises(RuntimeError, match="install it on the app that is served"):
        Browser(parent).get("/child/put")


def test_a_path_that_the_cookie_does_not_cover_has_none() -> None:
    from wsgi_sessions import Cookie

    browser = Browser(Shop(cookie=Cookie(path="/shop")).app)

    assert browser.get("/nothing").text == "-"
    assert browser.get("/all", **ERRORS).code == 500


def test_two_plugins_are_one_too_many() -> None:
    shop = Shop()

    with pytest.raises(ConfigurationError, match="install one plugin, once"):
        shop.app.install(SessionPlugin(secret_key=SECRET))
    with pytest.raises(ConfigurationError, match="install one plugin, once"):
        Bottle().install(shop.plugin)


def test_an_uninstalled_plugin_leaves_the_app_as_it_was() -> None:
    shop = Shop()
    shop.app.uninstall(shop.plugin)
    shop.plugin.close()

    assert Browser(shop.app).get("/nothing").text == "-"
    assert Browser(shop.app).get("/all", **ERRORS).code == 500
    with pytest.raises(TypeError, match=r"app.install\(plugin\)"):
        Browser(shop.plugin.middleware).get("/")


def test_the_registry_lists_an_owners_sessions() -> None:
    shop = Shop()
    shop.app.get("/login", callback=lambda: request.session.login("ada"))
    Browser(shop.app).get("/login")

    assert shop.plugin.registry.count("ada") == 1
