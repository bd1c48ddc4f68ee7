"""Flask-Login and Flask-WTF, unchanged, on sessions of ours."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask, render_template_string, request, session
from flask.testing import FlaskClient
from flask_login import (
    LoginManager,
    UserMixin,
    confirm_login,
    current_user,
    fresh_login_required,
    login_required,
    login_user,
    logout_user,
)
from flask_wtf import CSRFProtect, FlaskForm
from wtforms import StringField

from wsgi_sessions.flask import FlaskSessions
from wsgi_sessions.stores import MemoryStore
from wsgi_sessions.testing import FakeClock

SECRET = "a secret of at least thirty-two bytes, for tests"


class User(UserMixin):  # type: ignore[misc] # Flask-Login has no types
    def __init__(self, name: str) -> None:
        self.id = name


def login_app(**config: Any) -> tuple[Flask, FlaskSessions]:
    app = Flask(__name__)
    app.config.update(SECRET_KEY=SECRET, **config)
    sessions = FlaskSessions(app, store=MemoryStore(), clock=FakeClock(1_800_000_000.0))
    manager = LoginManager(app)
    manager.user_loader(User)

    @app.get("/login")
    def login() -> str:
        session.regenerate()  # type: ignore[attr-defined] # Flask's type knows its own members only
        login_user(User("ada"), remember="remember" in request.args)
        return "-"

    @app.get("/login-as-owner")
    def login_as_owner() -> str:
        user = User("ada")
        login_user(user)
        session.login(user.get_id())  # type: ignore[attr-defined] # as above
        return "-"

    @app.get("/logout")
    def logout() -> str:
        logout_user()
        return "-"

    @app.get("/destroy-and-logout")
    def destroy_and_logout() -> str:
        session.destroy()  # type: ignore[attr-defined] # as above
        logout_user()
        return "-"

    @app.get("/confirm")
    def confirm() -> str:
        confirm_login()
        return "-"

    @app.get("/who")
    def who() -> str:
        return current_user.get_id() or "nobody"

    decorated: list[tuple[str, Callable[..., Any]]] = [
        ("/private", login_required),
        ("/fresh", fresh_login_required),
    ]
    for path, required in decorated:
        app.add_url_rule(path, path, required(lambda: "welcome"))
    return app, sessions


@pytest.fixture
def client() -> FlaskClient:
    return login_app()[0].test_client()


def token(client: FlaskClient) -> str:
    cookie = client.get_cookie("session")
    assert cookie is not None
    return cookie.value


def test_a_user_signs_in_and_out(client: FlaskClient) -> None:
    assert client.get("/private").status_code == 401
    client.get("/login")
    assert (client.get("/private").text, client.get("/who").text) == ("welcome", "ada")

    client.get("/logout")

    assert client.get("/private").status_code == 401
    assert client.get("/who").text == "nobody"


def test_signing_in_changes_the_session_id(client: FlaskClient) -> None:
    with client.session_transaction() as opened:
        opened["cart"] = ["tea"]
    before = token(client)
    client.get("/login")

    assert token(client) != before
    with client.session_transaction() as opened:
        assert opened["cart"] == ["tea"]


def test_strong_protection_ends_a_session_of_another_browser() -> None:
    app, _ = login_app(SESSION_PROTECTION="strong")  # Flask-Login's own setting
    client = app.test_client()
    client.get("/login", headers={"User-Agent": "one"})

    assert client.get("/who", headers={"User-Agent": "one"}).text == "ada"
    assert client.get("/who", headers={"User-Agent": "another"}).text == "nobody"
    assert client.get("/who", headers={"User-Agent": "one"}).text == "nobody"


def test_the_remember_cookie_brings_the_user_back_but_not_fresh(client: FlaskClient) -> None:
    client.get("/login?remember=1")
    assert client.get("/fresh").text == "welcome"

    client.delete_cookie("session")  # the browser was closed

    assert client.get("/who").text == "ada"
    assert client.get("/fresh").status_code == 401
    client.get("/confirm")
    assert client.get("/fresh").text == "welcome"


def test_signing_out_takes_the_remember_cookie_back(client: FlaskClient) -> None:
    client.get("/login?remember=1")
    client.get("/logout")
    client.delete_cookie("session")

    assert client.get("/who").text == "nobody"


def test_destroying_the_session_before_signing_out_leaves_no_cookie(client: FlaskClient) -> None:
    client.get("/login?remember=1")
    assert client.get_cookie("remember_token") is not None

    client.get("/destroy-and-logout")

    assert client.get_cookie("session") is None
    assert client.get_cookie("remember_token") is None


def test_a_user_can_be_signed_out_everywhere() -> None:
    app, sessions = login_app()
    phone, laptop = app.test_client(), app.test_client()
    for device in (phone, laptop):
        device.get("/login-as-owner")
    assert sessions.registry.count("ada") == 2

    sessions.registry.revoke_all("ada")

    assert (phone.get("/who").text, laptop.get("/who").text) == ("nobody", "nobody")


class NameForm(FlaskForm):  # type: ignore[misc] # Flask-WTF has no types
    name = StringField()


def form_app() -> Flask:
    app = Flask(__name__)
    app.config.update(SECRET_KEY=SECRET)
    FlaskSessions(app, store=MemoryStore())
    CSRFProtect(app)

    @app.route("/form", methods=["GET", "POST"])
    def form() -> str:
        posted = NameForm()
        if posted.validate_on_submit():
            return f"hello {posted.name.data}"
        return render_template_string("{{ form.csrf_token }}", form=posted)

    @app.post("/regenerate")
    def regenerate() -> str:
        session.regenerate()  # type: ignore[attr-defined] # Flask's type knows its own members only
        return "-"

    return app


def csrf_token(client: FlaskClient) -> str:
    found = re.search(r'value="([^"]+)"', client.get("/form").text)
    assert found is not None
    return found[1]


def test_a_form_with_its_token_is_accepted() -> None:
    client = form_app().test_client()
    posted = {"name": "Ada", "csrf_token": csrf_token(client)}

    assert client.post("/form", data=posted).text == "hello Ada"


@pytest.mark.parametrize("fake", ["", "x", None])
def test_a_form_without_it_is_not(fake: str | None) -> None:
    client = form_app().test_client()
    csrf_token(client)
    posted = {"name": "Ada"} if fake is None else {"name": "Ada", "csrf_token": fake}

    assert client.post("/form", data=posted).status_code == 400


def test_a_token_is_no_good_in_another_session() -> None:
    app = form_app()
    thief, victim = app.test_client(), app.test_client()
    stolen = csrf_token(thief)
    csrf_token(victim)

    assert victim.post("/form", data={"name": "x", "csrf_token": stolen}).status_code == 400


def test_a_token_survives_a_new_session_id() -> None:
    client = form_app().test_client()
    posted = {"name": "Ada", "csrf_token": csrf_token(client)}
    client.post("/regenerate", data=posted)

    assert client.post("/form", data=posted).text == "hello Ada"
