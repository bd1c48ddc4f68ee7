"""Every example runs, under the strict eye of wsgiref.validate."""

from __future__ import annotations

import importlib.util
import io
import re
import sys
import warnings
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import urlencode

import pytest

from own_process import in_a_process_of_its_own
from wsgi import Browser, Response
from wsgi_sessions import SessionMiddleware
from wsgi_sessions.stores import MemoryStore
from wsgi_sessions.testing import FaultyStore

EXAMPLES = Path(__file__).parents[2] / "examples"
SECRET = "a secret of at least thirty-two bytes, for tests"


def load(name: str) -> ModuleType:
    """The example as a module."""
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    with warnings.catch_warnings():
        # WebOb imports cgi, which is deprecated; nothing of ours.
        warnings.simplefilter("ignore", DeprecationWarning)
        spec.loader.exec_module(module)
    return module


def browser(name: str) -> Browser:
    return Browser(load(name).app, HTTP_HOST="localhost")


def post(client: Browser, path: str, fields: dict[str, str]) -> Response:
    body = urlencode(fields).encode()
    extra: dict[str, Any] = {
        "REQUEST_METHOD": "POST",
        "CONTENT_TYPE": "application/x-www-form-urlencoded",
        "CONTENT_LENGTH": str(len(body)),
        "wsgi.input": io.BytesIO(body),
    }
    return client.get(path, **extra)


@pytest.mark.parametrize(
    "name", ["plain_wsgi", "flask_counter", "bottle_app", "pyramid_app", "falcon_app", "django_app"]
)
def test_the_examples_are_small(name: str) -> None:
    assert len((EXAMPLES / f"{name}.py").read_text("utf-8").splitlines()) <= 60


def test_plain_wsgi_counts() -> None:
    client = browser("plain_wsgi")

    assert [client.get("/").text for _ in range(2)] == ["Visit number 1\n", "Visit number 2\n"]


def test_flask_counts_signs_in_and_out() -> None:
    client = browser("flask_counter")
    assert "Somebody, visit number 1." in client.get("/").text
    before = client.cookies["session"]

    assert post(client, "/login", {"name": "Ada"}).code == 302

    assert client.cookies["session"] != before
    page = client.get("/").text
    assert "<em>Welcome!</em>" in page and "Ada, visit number 2." in page
    assert "Welcome!" not in client.get("/").text
    post(client, "/logout", {})
    assert client.cookies == {}
    assert "Somebody, visit number 1." in client.get("/").text


def test_bottle_keeps_notes_across_the_redirect() -> None:
    client = browser("bottle_app")
    assert client.get("/").set_cookie is None

    for note in ("tea", "müsli & <milk>"):
        assert post(client, "/", {"note": note}).code == 302

    page = client.get("/").text
    assert "<li>tea</li>" in page and "<li>müsli &amp; &lt;milk&gt;</li>" in page


def test_pyramid_flashes_once_and_demands_its_token() -> None:
    client = browser("pyramid_app")
    found = re.search(r'value="([^"]+)"', client.get("/").text)
    assert found is not None

    assert post(client, "/", {"csrf_token": "wrong"}).code == 400
    assert post(client, "/", {"csrf_token": found[1]}).code == 303

    assert "<p>Hello.</p>" in client.get("/").text
    assert "<p></p>" in client.get("/").text


def falcon_call(client: Browser, method: str, item: str | None = None) -> Response:
    return falcon_send(client, method, b"" if item is None else b'{"item": "%s"}' % item.encode())


def falcon_send(client: Browser, method: str, body: bytes) -> Response:
    extra: dict[str, Any] = {
        "REQUEST_METHOD": method,
        "CONTENT_TYPE": "application/json",
        "CONTENT_LENGTH": str(len(body)),
        "wsgi.input": io.BytesIO(body),
    }
    return client.get("/cart", **extra)


def test_falcon_keeps_a_cart() -> None:
    client = browser("falcon_app")

    assert falcon_call(client, "GET").text == "{}"
    for item in ("tea", "milk", "tea"):
        falcon_call(client, "POST", item)
    assert falcon_call(client, "GET").text == '{"tea": 2, "milk": 1}'
    falcon_call(client, "DELETE")
    assert client.cookies == {}


@pytest.mark.parametrize("body", [b"", b"{", b"{}", b"[]", b"7"])
def test_falcon_refuses_what_names_no_item(body: bytes) -> None:
    client = browser("falcon_app")

    assert falcon_send(client, "POST", body).code == 400
    assert client.cookies == {}


@in_a_process_of_its_own
def test_django_counts_and_forgets() -> None:
    client = browser("django_app")

    assert [client.get("/").text for _ in range(2)] == ['{"visits": 1}', '{"visits": 2}']
    assert [name.strip() for name in client.cookies] == ["sessionid"]
    client.get("/forget")
    assert client.cookies == {}
    assert client.get("/").text == '{"visits": 1}'


def test_a_store_that_fails_is_a_503() -> None:
    store = FaultyStore(MemoryStore())
    client = Browser(SessionMiddleware(load("plain_wsgi").counter, secret_key=SECRET, store=store))
    client.get("/")
    assert client.cookies
    store.fail("load")

    response = client.get("/")

    assert response.code == 503
    assert client.cookies
