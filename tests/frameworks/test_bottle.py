"""Bottle's plugin: request.session everywhere in a request, Bottle's own errors, 503s."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import pytest
from bottle import Bottle, request

from wsgi import SECRET, Browser
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
