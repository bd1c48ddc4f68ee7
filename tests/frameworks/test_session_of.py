"""session_of: users' own tests open, change and inspect a client's session."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from http.cookiejar import Cookie as HTTPCookie
from http.cookiejar import CookieJar
from http.cookies import SimpleCookie
from typing import Any

import pytest
from flask import Flask
from werkzeug.test import Client

from device import Agent
from old_world import OldWorld
from wsgi import SECRET, Browser
from wsgi_sessions import Cookie, DeviceBinding, Lifetime, Session, SessionMiddleware
from wsgi_sessions.bottle import SessionPlugin
from wsgi_sessions.falcon import SessionMiddleware as FalconMiddleware
from wsgi_sessions.flask import FlaskSessions
from wsgi_sessions.flask import session as flask_session
from wsgi_sessions.integration import Integration
from wsgi_sessions.stores import MemoryStore
from wsgi_sessions.testing import FakeClock, session_of

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # WebOb imports cgi
    from webtest import TestApp

KEY = "wsgi_sessions.session"


def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    session: Session = environ[KEY]
    if environ["PATH_INFO"].endswith("/add"):
        session["cart"] = [*session.get("cart", []), "milk"]
    if environ["PATH_INFO"] == "/sign-in":
        session.login("ada")
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [",".join(session.get("cart", [])).encode()]


def make(clock: FakeClock | None = None, **options: Any) -> SessionMiddleware:
    return SessionMiddleware(
        app, secret_key=SECRET, store=MemoryStore(), clock=clock or FakeClock(2e9), **options
    )


def jar_client(middleware: SessionMiddleware) -> tuple[Any, Callable[[str], str]]:
    """A plain jar, and requests that are sent with it, as urllib sends them."""
    import email.message
    from urllib.request import Request
    from urllib.response import addinfourl

    jar = CookieJar()

    def get(path: str) -> str:
        request = Request(f"http://localhost{path}")
        jar.add_cookie_header(request)
        response = Browser(middleware).get(path, HTTP_COOKIE=request.get_header("Cookie") or "")
        headers = email.message.Message()
        for value in response.all("Set-Cookie"):
            headers["Set-Cookie"] = value
        answer = addinfourl(io.BytesIO(), headers, request.full_url)
        jar.extract_cookies(answer, request)  # type: ignore[arg-type] # it asks for info() alone
        return response.text

    return jar, get


def werkzeug_client(middleware: SessionMiddleware) -> tuple[Any, Callable[[str], str]]:
    client = Client(middleware)
    return client, lambda path: client.get(path).text


def webtest_client(middleware: SessionMiddleware) -> tuple[Any, Callable[[str], str]]:
    client = TestApp(middleware)
    return client, lambda path: str(client.get(path).text)


def dict_client(middleware: SessionMiddleware) -> tuple[Any, Callable[[str], str]]:
    browser = Browser(middleware)
    return browser.cookies, lambda path: browser.get(path).text


def simple_cookie_client(middleware: SessionMiddleware) -> tuple[Any, Callable[[str], str]]:
    """Cookies as Django's test client keeps and sends them."""
    cookies = SimpleCookie()

    def get(path: str) -> str:
        sent = "; ".join(f"{each.key}={each.coded_value}" for each in cookies.values())
        response = Browser(middleware).get(path, HTTP_COOKIE=sent)
        for value in response.all("Set-Cookie"):
            cookies.load(value)
        return response.text

    return cookies, get


CLIENTS = pytest.mark.parametrize(
    "client_of",
    [werkzeug_client, webtest_client, jar_client, dict_client, simple_cookie_client],
)


@CLIENTS
@pytest.mark.parametrize("persistent", [False, True])
def test_what_the_block_keeps_the_app_finds(client_of: Any, persistent: bool) -> None:
    middleware = make(cookie=Cookie(persistent=persistent))
    client, get = client_of(middleware)

    with session_of(middleware, client) as session:
        session["cart"] = ["tea"]

    assert get("/add") == "tea,milk"


@CLIENTS
def test_what_the_app_keeps_the_block_finds(client_of: Any) -> None:
    middleware = make()
    client, get = client_of(middleware)
    get("/add")

    with session_of(middleware, client) as session:
        assert dict(session) == {"cart": ["milk"]}
        session["cart"].append("tea")
    assert get("/") == "milk,tea"


@CLIENTS
def test_a_client_can_be_signed_in_and_out(client_of: Any) -> None:
    middleware = make()
    client, get = client_of(middleware)
    get("/add")

    with session_of(middleware, client) as session:
        session.login("ada")
    assert middleware.registry.count("ada") == 1
    assert get("/") == "milk"
    with session_of(middleware, client) as session:
        session.destroy()

    assert middleware.registry.count("ada") == 0
    with session_of(middleware, client) as session:
        assert not session


@CLIENTS
def test_a_secure_cookie_reaches_the_client(client_of: Any) -> None:
    middleware = make(cookie=Cookie("__Host-session", secure=True))
    client, _ = client_of(middleware)
    for n in range(3):
        with session_of(middleware, client) as session:
            assert session.get("n", 0) == n
            session["n"] = n + 1


def test_a_site_over_https_is_named_by_its_base_url() -> None:
    middleware = make()
    client = Client(middleware)
    client.get("/add", base_url="https://shop.test")

    with session_of(middleware, client, base_url="https://shop.test") as session:
        assert session["cart"] == ["milk"]
    with session_of(middleware, client) as session:
        assert not session


def test_looking_changes_nothing() -> None:
    clock = FakeClock(2e9)
    middleware = make(clock, lifetime=Lifetime(idle=1000))
    client = Client(middleware)
    client.get("/add")
    clock.advance(600)

    with session_of(middleware, client) as session:
        assert session["cart"] == ["milk"]

    clock.advance(600)
    with session_of(middleware, client) as session:
        assert not session
    assert list(middleware.store.keys()) != []


def test_a_block_that_raises_keeps_nothing() -> None:
    middleware = make()
    cookies: dict[str, str] = {}

    with pytest.raises(ZeroDivisionError), session_of(middleware, cookies) as session:
        session["cart"] = ["tea"]
        raise ZeroDivisionError

    assert cookies == {}
    assert list(middleware.store.keys()) == []


def test_a_cookie_with_a_path_is_looked_for_there() -> None:
    middleware = make(cookie=Cookie(path="/shop"))
    client = Client(middleware)
    client.get("/shop/add")

    with session_of(middleware, client, "/shop") as session:
        assert session["cart"] == ["milk"]
    with pytest.raises(LookupError, match="give session_of one that it covers"):
        session_of(middleware, client).__enter__()


def test_where_every_path_has_a_session_the_cookies_own_is_looked_at() -> None:
    cookie = Cookie(path="/shop", domain="shop.test")
    steps = Integration(secret_key=SECRET, store=MemoryStore(), cookie=cookie, any_path=True)
    client = Client(app)

    with session_of(steps, client) as session:
        session["cart"] = ["tea"]
    with session_of(steps, client) as session:
        assert session["cart"] == ["tea"]
    kept = client.get_cookie("session", domain="shop.test", path="/shop")
    assert kept is not None and not kept.origin_only


@CLIENTS
def test_an_old_systems_cookie_leads_to_the_session_that_is_carried_over(client_of: Any) -> None:
    old = OldWorld(delete_old=True)
    value = old.put(fields={"cart": ["tea"]})
    middleware = make(carry_over=[old])
    client, get = client_of(middleware)
    give(client, "old", value)

    with session_of(middleware, client) as session:
        assert dict(session) == {"cart": ["tea"]}

    assert "old" not in names_in(client)
    assert get("/") == "tea"


def give(client: Any, name: str, value: str) -> None:
    """Put a cookie of another app into a client."""
    jar = getattr(client, "cookiejar", client)
    if isinstance(jar, CookieJar):
        jar.set_cookie(http_cookie(name, value))
    elif isinstance(client, Client):
        client.set_cookie(name, value)
    else:
        client[name] = value


def names_in(client: Any) -> set[str]:
    if isinstance(client, Client):
        return {name for name in ("old", "session") if client.get_cookie(name)}
    jar = getattr(client, "cookiejar", client)
    return {getattr(each, "name", each) for each in jar}


def http_cookie(name: str, value: str) -> HTTPCookie:
    return HTTPCookie(
        version=0,
        name=name,
        value=value,
        port=None,
        port_specified=False,
        domain="localhost.local",
        domain_specified=False,
        domain_initial_dot=False,
        path="/",
        path_specified=True,
        secure=False,
        expires=None,
        discard=True,
        comment=None,
        comment_url=None,
        rest={},
    )


def test_a_bound_session_is_proven_by_its_second_cookie_and_both_are_expired() -> None:
    middleware = make(cookie=Cookie("__Host-s", secure=True), device_binding=DeviceBinding())
    agent = Agent(middleware)
    agent.request("/sign-in")
    agent.register()
    assert set(agent.cookies) == {"__Host-s", "__Host-s-bound"}

    with session_of(middleware, agent.cookies) as session:
        assert (session.owner, session.is_proven) == ("ada", True)
        session["cart"] = ["tea"]
    assert agent.request("/").body == b"tea"
    with session_of(middleware, agent.cookies) as session:
        session.destroy()

    assert agent.cookies == {}


def test_a_client_without_cookies_is_refused() -> None:
    client = Client(app, use_cookies=False)

    with pytest.raises(TypeError, match="Cookies are disabled"):
        session_of(make(), client).__enter__()


def test_a_client_serves_its_own_app_again_afterwards() -> None:
    middleware = make()
    client = Client(middleware)

    with session_of(middleware, client) as session:
        session["cart"] = ["tea"]
        assert client.application is middleware

    assert client.application is middleware


def test_a_flask_client_is_one_too() -> None:
    flask = Flask(__name__)
    flask.config["SECRET_KEY"] = SECRET
    sessions = FlaskSessions(flask, store=MemoryStore())

    @flask.get("/")
    def show() -> dict[str, Any]:
        return dict(flask_session)

    client = flask.test_client()
    with session_of(sessions.middleware, client) as session:
        session["a"] = 1

    assert client.get("/").json == {"a": 1}


def test_any_other_client_is_refused() -> None:
    with pytest.raises(TypeError, match="cookies of a client of type object"):
        session_of(make(), object()).__enter__()  # type: ignore[call-overload] # the point


@pytest.mark.parametrize(
    ("given", "attribute"),
    [
        (FalconMiddleware(secret_key=SECRET), "steps"),
        (SessionPlugin(secret_key=SECRET), "middleware"),
        (FlaskSessions(Flask("shop"), secret_key=SECRET), "middleware"),
    ],
    ids=["Falcon", "Bottle", "Flask"],
)
def test_what_has_a_middleware_is_not_one_and_says_where_it_is(given: Any, attribute: str) -> None:
    with pytest.raises(TypeError, match=f"; give it its attribute {attribute}$"):
        session_of(given, {}).__enter__()


def test_what_has_no_middleware_is_told_what_to_give() -> None:
    wrong: Any = object()
    with pytest.raises(TypeError, match="of type object; give it the app's SessionMiddleware"):
        session_of(wrong, {}).__enter__()
