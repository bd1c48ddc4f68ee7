"""Flask-Login on sessions of ours: no extra line, and the session is filed under its user."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask, session
from flask.sessions import SessionMixin
from flask.testing import FlaskClient
from flask_login import (
    LoginManager,
    UserMixin,
    confirm_login,
    current_user,
    login_user,
    logout_user,
)

import flask_events
from wsgi_sessions.errors import SessionCommitted, TooManySessions
from wsgi_sessions.flask import FlaskSessions
from wsgi_sessions.stores import Changes, MemoryStore
from wsgi_sessions.testing import FakeClock

SECRET = "a secret of at least thirty-two bytes, for tests"


class User(UserMixin):  # type: ignore[misc] # Flask-Login has no types
    def __init__(self, name: str) -> None:
        self.id = name


class ManagedSession(dict[str, Any], SessionMixin):
    pass


def make(**options: Any) -> tuple[Flask, FlaskSessions, FakeClock]:
    app = Flask(__name__)
    app.config.update(SECRET_KEY=SECRET, TESTING=True)
    clock = FakeClock(1_800_000_000.0)
    # In this order, or in the other: Flask-Login is found at the first request.
    sessions = FlaskSessions(app, store=MemoryStore(), clock=clock, **options)
    LoginManager(app).user_loader(User)
    steps: dict[str, Callable[[], Any]] = {
        "login": lambda: login_user(User("ada")),
        "remember": lambda: login_user(User("ada"), remember=True),
        "logout": logout_user,
        "clear": clear,
        "confirm": confirm_login,
        "who": lambda: current_user.get_id(),
        "fresh": lambda: session.is_fresh(60),  # type: ignore[attr-defined] # ours
        "put": lambda: session.update(a=1),
        "own-name": lambda: (session.login("user:ada"), login_user(User("ada"))),  # type: ignore[attr-defined] # ours
        "own-name-after": lambda: (login_user(User("ada")), session.login("user:ada")),  # type: ignore[attr-defined] # ours
        "refused": refused,
        "refused-remembered": lambda: refused(remember=True),
        "two": lambda: (login_user(User("bob")), login_user(User("ada"))),
        "three": lambda: (login_user(User("bob")), logout_user(), login_user(User("ada"))),
        "cleared": lambda: (login_user(User("bob")), clear(), login_user(User("ada"))),
        "own-name-then-other": lambda: (
            session.login("user:bob"),  # type: ignore[attr-defined] # ours
            login_user(User("bob")),
            login_user(User("ada")),
        ),
        "own-name-twice": lambda: (
            session.login("user:ada"),  # type: ignore[attr-defined] # ours
            login_user(User("ada")),
            login_user(User("ada")),
        ),
        "two-then-clear": lambda: (
            login_user(User("bob")),
            login_user(User("ada")),
            clear(),
        ),
        "bob": lambda: login_user(User("bob")),
        "bob-unfiled-refused": lambda: (
            login_user(User("bob")),
            unfile(),
            refused(),
        ),
        "own-confirmed": lambda: (session.login("shop"), confirm_login(), session.owner),  # type: ignore[attr-defined] # ours
        "bob-refused": lambda: (login_user(User("bob")), refused(), current_user.get_id()),
        "owner": lambda: session.owner,  # type: ignore[attr-defined] # ours
        "nameless": lambda: login_user(User("x" * 300)),
    }
    for name, step in steps.items():
        app.add_url_rule(f"/{name}", name, lambda step=step: str(step()))
    return app, sessions, clock


def unfile() -> str:
    session.owner = None  # type: ignore[attr-defined] # ours
    return ""


def clear() -> str:
    session.clear()
    return ""


def refused(**options: Any) -> str:
    with pytest.raises(TooManySessions):
        login_user(User("ada"), **options)
    return str(session.get("_user_id"))


def token(client: FlaskClient) -> str:
    cookie = client.get_cookie("session")
    assert cookie is not None
    return cookie.value


@pytest.fixture
def made() -> tuple[Flask, FlaskSessions, FakeClock]:
    return make()


def test_signing_in_files_the_session_and_gives_it_a_new_id(made: Any) -> None:
    app, sessions, _ = made
    client = app.test_client()
    client.get("/put")
    planted = token(client)

    client.get("/login")

    assert token(client) != planted
    assert [info.label["ip"] for info in sessions.registry.sessions("ada")] == ["127.0.0.1"]
    assert client.get("/fresh").text == "True"
    assert sessions.registry.revoke_all("ada") == 1
    assert client.get("/who").text == "None"


@pytest.mark.parametrize("leave", ["logout", "clear"])
def test_signing_out_takes_it_off_the_users_list(made: Any, leave: str) -> None:
    app, sessions, _ = made
    client = app.test_client()
    client.get("/login")
    before = token(client)

    client.get(f"/{leave}")
    client.get("/put")

    assert sessions.registry.count("ada") == 0
    assert token(client) != before
    assert client.get("/who").text == "None"


@pytest.mark.parametrize("leave", ["logout", "clear"])
def test_signing_out_ends_also_a_session_that_is_damaged(made: Any, leave: str) -> None:
    app, sessions, _ = made
    client = app.test_client()
    client.get("/login")
    (handle,) = sessions.registry
    sessions.middleware.store.update(handle, Changes(set={"_user_id": b"damaged"}))

    client.get(f"/{leave}")

    assert sessions.registry.count("ada") == 0
    assert client.get_cookie("session") is None


def test_signing_out_without_having_signed_in_is_fine(made: Any) -> None:
    app, sessions, _ = made
    client = app.test_client()
    client.get("/put")

    assert client.get("/logout").status_code == 200
    assert list(sessions.registry) != []


def test_who_comes_back_by_the_remember_cookie_is_filed_but_has_not_signed_in(made: Any) -> None:
    app, sessions, clock = made
    client = app.test_client()
    client.get("/remember")
    client.delete_cookie("session")
    clock.advance(100)

    assert client.get("/who").text == "ada"
    assert sessions.registry.count("ada") == 2
    assert client.get("/fresh").text == "False"
    client.get("/confirm")
    assert client.get("/fresh").text == "True"


def test_a_browser_that_changed_is_taken_off_the_list() -> None:
    app, sessions, _ = make()
    app.config["SESSION_PROTECTION"] = "strong"
    client = app.test_client()
    client.get("/login", headers={"User-Agent": "one"})

    assert client.get("/who", headers={"User-Agent": "two"}).text == "None"
    assert sessions.registry.count("ada") == 0


@pytest.mark.parametrize("login", ["own-name", "own-name-after"])
def test_an_owner_that_the_app_names_itself_stays(made: Any, login: str) -> None:
    app, sessions, _ = made
    client = app.test_client()
    client.get(f"/{login}")

    assert (sessions.registry.count("ada"), sessions.registry.count("user:ada")) == (0, 1)
    assert client.get("/who").text == "ada"


def test_a_login_that_is_refused_signs_nobody_in() -> None:
    app, _, _ = make(max_per_owner=1, when_full="refuse")
    app.test_client().get("/login")
    second = app.test_client()

    assert second.get("/refused").text == "None"
    assert second.get("/who").text == "None"


def test_the_user_who_was_there_stays_where_another_login_is_refused() -> None:
    app, sessions, _ = make(max_per_owner=1, when_full="refuse")
    app.test_client().get("/login")
    bobs = app.test_client()
    bobs.get("/bob")

    assert bobs.get("/refused-remembered").text == "bob"
    assert bobs.get_cookie("remember_token") is None
    assert bobs.get("/who").text == "bob"
    assert bobs.get("/owner").text == "bob"
    assert sessions.registry.count("bob") == 1


def test_also_where_both_sign_in_by_one_request() -> None:
    app, _, _ = make(max_per_owner=1, when_full="refuse")
    app.test_client().get("/login")
    bobs = app.test_client()

    assert bobs.get("/bob-refused").text == "(True, 'bob', 'bob')"
    assert bobs.get("/who").text == "bob"


def test_a_user_whom_the_app_has_unfiled_is_gone_where_another_is_refused() -> None:
    app, _, _ = make(max_per_owner=1, when_full="refuse")
    app.test_client().get("/login")
    client = app.test_client()
    client.get("/bob-unfiled-refused")

    assert client.get("/who").text == "None"


def test_confirming_nobody_changes_nothing(made: Any) -> None:
    app, _, _ = made

    assert "'shop'" in app.test_client().get("/own-confirmed").text


@pytest.mark.parametrize("path", ["two", "three", "cleared", "own-name-then-other"])
def test_of_several_logins_in_one_request_the_last_counts(made: Any, path: str) -> None:
    app, sessions, _ = made
    client = app.test_client()
    client.get(f"/{path}")

    assert client.get("/owner").text == "ada"
    assert sessions.registry.count("bob") == sessions.registry.count("user:bob") == 0
    assert sessions.registry.revoke_all("ada") == 1
    assert client.get("/who").text == "None"


def test_a_name_of_the_apps_own_stays_where_the_same_user_signs_in_again(made: Any) -> None:
    app, sessions, _ = made
    client = app.test_client()
    client.get("/own-name-twice")

    assert client.get("/owner").text == "user:ada"
    client.get("/confirm")
    assert client.get("/owner").text == "user:ada"
    assert client.get("/fresh").text == "True"
    client.get("/clear")
    assert client.get("/owner").text == "None"
    assert sessions.registry.count("user:ada") == 0


def test_who_signs_in_and_out_leaves_no_session(made: Any) -> None:
    app, sessions, _ = made
    client = app.test_client()
    client.get("/two-then-clear")

    assert client.get_cookie("session") is None
    assert sessions.registry.count("bob") == sessions.registry.count("ada") == 0


def test_a_user_whom_no_list_can_have_takes_over_from_none(made: Any) -> None:
    app, sessions, _ = made
    client = app.test_client()
    client.get("/bob")
    client.get("/nameless")

    assert client.get("/owner").text == "None"
    assert client.get("/who").text == "x" * 300
    assert sessions.registry.count("bob") == 0


def test_confirming_without_a_session_is_fine(made: Any) -> None:
    app, _, _ = made

    assert app.test_client().get("/confirm").status_code == 200


def test_a_user_whose_id_can_be_no_owner_signs_in_all_the_same(made: Any) -> None:
    app, sessions, _ = made
    app.add_url_rule("/long", "long", lambda: str(login_user(User("a" * 300))))
    client = app.test_client()
    client.get("/put")
    planted = token(client)

    client.get("/long")

    assert client.get("/who").text == "a" * 300
    assert token(client) != planted
    assert [sessions.registry.get(handle).owner for handle in sessions.registry] == [None]


def test_a_user_whose_cookie_is_of_an_owner_already_keeps_that_owner(made: Any) -> None:
    app, sessions, _ = made
    app.add_url_rule("/own", "own", lambda: (session.login("other"), "-")[1])  # type: ignore[attr-defined] # ours
    client = app.test_client()
    client.get("/remember")
    client.delete_cookie("session")
    client.get("/own")

    assert client.get("/who").text == "ada"
    assert sessions.registry.count("other") == 1


def test_a_session_of_another_kind_is_left_alone(made: Any) -> None:
    app, sessions, _ = made
    app.test_client().get("/put")  # Flask-Login was found
    from flask.globals import request_ctx

    with app.test_request_context():
        assert current_user.get_id() is None
        request_ctx._session = ManagedSession()  # as Flask-SocketIO does
        login_user(User("ada"))
        logout_user()
        from flask_login import user_loaded_from_cookie

        user_loaded_from_cookie.send(app)

    assert sessions.registry.count("ada") == 0


def test_a_login_manager_of_somebody_else_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    app, _, _ = make()
    monkeypatch.setitem(sys.modules, "flask_login", None)

    assert app.test_client().get("/put").status_code == 200


def test_signals_without_a_user_change_nothing(made: Any) -> None:
    app, sessions, _ = made
    from flask_login import user_loaded_from_cookie, user_logged_in

    client = app.test_client()
    app.add_url_rule(
        "/send", "send", lambda: str(user_logged_in.send(app) and user_loaded_from_cookie.send(app))
    )
    client.get("/send")

    assert list(sessions.registry) == []


def test_a_refused_login_takes_back_no_sign_out() -> None:
    app, sessions, _ = make(max_per_owner=1, when_full="refuse")

    @app.get("/switch/<by>")
    def switch(by: str) -> str:
        logout_user() if by == "logout" else clear()
        return refused()

    app.test_client().get("/login")
    for by in ("logout", "clear"):
        client = app.test_client()
        client.get("/bob")

        assert client.get(f"/switch/{by}").text == "None"
        assert client.get("/who").text == "None"
        assert sessions.registry.count("bob") == 0


def test_a_remember_cookie_that_finds_no_place_is_good_for_the_request() -> None:
    app, sessions, clock = make(max_per_owner=1, when_full="refuse")
    remembered = app.test_client()
    remembered.get("/remember")
    sessions.registry.revoke_all("ada")
    app.test_client().get("/login")

    assert remembered.get("/who").text == "ada"
    assert remembered.get("/owner").text == "None"
    assert sessions.registry.count("ada") == 1


def test_the_apps_own_name_stays_also_after_a_save() -> None:
    app, _, _ = make()

    @app.get("/saved")
    def saved() -> str:
        session.login("user:ada")  # type: ignore[attr-defined] # ours
        session.save()  # type: ignore[attr-defined] # ours
        login_user(User("ada"))
        return str(session.owner)  # type: ignore[attr-defined] # ours

    assert app.test_client().get("/saved").text == "user:ada"


def test_a_sign_in_on_a_websocket_is_good_for_the_connection(made: Any) -> None:
    app, sessions, _ = made
    client = app.test_client()
    client.get("/put")
    seen: list[Any] = []

    def handler() -> None:
        login_user(User("ada"))
        seen.append(current_user.get_id())

    flask_events.hold_websocket(app, client, handler, "gunicorn", lambda headers: None)

    assert seen == ["ada"]
    assert client.get("/who").text == "None"
    assert sessions.registry.count("ada") == 0


def test_what_a_remember_cookie_does_on_a_websocket_is_left_to_a_request(made: Any) -> None:
    app, sessions, _ = made
    client = app.test_client()
    client.get("/remember")
    remembered = client.get_cookie("remember_token")
    sessions.registry.revoke_all("ada")
    client.delete_cookie("remember_token")
    client.delete_cookie("session")
    client.get("/put")
    environ = flask_events.environ_of(client, upgrade=True)
    environ.pop("flask.app")
    environ["HTTP_COOKIE"] += f"; remember_token={remembered.value}"
    with app.request_context(environ):
        seen = current_user.get_id()
        app.process_response(app.response_class())

    assert seen == "ada"
    assert client.get("/who").text == "None"
    client.set_cookie("remember_token", remembered.value)
    assert client.get("/who").text == "ada"
    assert sessions.registry.revoke_all("ada") == 1


def test_a_session_that_is_protected_on_a_websocket_is_so_in_the_next_request(made: Any) -> None:
    app, _, _ = made
    app.config["SESSION_PROTECTION"] = "strong"
    client = app.test_client()
    client.get("/login")
    seen: list[Any] = []
    environ = flask_events.environ_of(client, upgrade=True)
    environ["HTTP_USER_AGENT"] = "another"
    environ.pop("flask.app")
    with app.request_context(environ):
        seen.append(current_user.get_id())
        app.process_response(app.response_class())

    assert seen == [None]
    assert client.get("/who").text == "ada"
    assert client.get("/who", headers={"User-Agent": "another"}).text == "None"
    assert client.get("/owner").text == "None"


def test_a_sign_out_on_a_websocket_is_refused_and_changes_nothing(made: Any) -> None:
    app, sessions, _ = made
    client = app.test_client()
    client.get("/login")

    def leave() -> None:
        with pytest.raises(SessionCommitted):
            logout_user()

    flask_events.hold_websocket(app, client, leave, "gunicorn", lambda headers: None)

    assert client.get("/who").text == "ada"
    assert sessions.registry.count("ada") == 1
