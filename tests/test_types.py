"""User code under the eyes of type checkers, which check this file with all the others.

Where a mistake has to be seen, there is a ``type: ignore``: mypy complains about one that isn't
needed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_type

import pytest
from flask import Flask

from wsgi import SECRET, environ
from wsgi_sessions import ConfigurationError, Cookie, Session, SessionMiddleware
from wsgi_sessions.bottle import SessionPlugin
from wsgi_sessions.falcon import FalconSession
from wsgi_sessions.falcon import SessionMiddleware as FalconMiddleware
from wsgi_sessions.flask import FlaskSession, FlaskSessions
from wsgi_sessions.integration import Integration
from wsgi_sessions.testing import session_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from _typeshed.wsgi import StartResponse, WSGIEnvironment


class OwnSession(Session):
    pass


def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b""]


def test_functions_of_an_environ_find_text_in_it() -> None:
    middleware = SessionMiddleware(
        app,
        secret_key=SECRET,
        passive=lambda environ: environ["PATH_INFO"].startswith("/poll/"),
        cookie=lambda environ: Cookie("a" if environ["PATH_INFO"].startswith("/a/") else "b"),
    )

    session = middleware.open_session(environ("/poll/news"))

    assert_type(session, Session | None)
    assert session is not None and session.passive


def test_a_mistaken_option_is_seen() -> None:
    with pytest.raises(ConfigurationError, match="no option stroe"):
        FalconMiddleware(secret_key=SECRET, stroe="memory://")  # type: ignore[call-arg]
    with pytest.raises(ConfigurationError, match="no option stroe"):
        SessionPlugin(secret_key=SECRET, stroe="memory://")  # type: ignore[call-arg]
    with pytest.raises(ConfigurationError, match="no option stroe"):
        Integration(secret_key=SECRET, stroe="memory://")  # type: ignore[call-overload]
    with pytest.raises(ConfigurationError):
        FalconMiddleware(secret_key=5)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError):
        SessionPlugin(secret_key=5)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError):
        Integration(secret_key=5)  # type: ignore[call-overload]


def test_the_session_of_a_flask_app_is_flasks() -> None:
    flask = Flask(__name__)
    sessions = FlaskSessions(flask, secret_key=SECRET, store="memory://")

    with session_of(flask, flask.test_client()) as session:
        assert_type(session, FlaskSession)
        session.permanent = True
        session["a"] = 1
    with session_of(sessions.middleware, {}) as plain:
        assert_type(plain, Session)


def test_an_integration_opens_sessions_of_its_class() -> None:
    whole = Integration(OwnSession, any_path=True, secret_key=SECRET)
    partly = Integration(OwnSession, secret_key=SECRET)
    plain = Integration(secret_key=SECRET)
    plain_whole = Integration(any_path=True, secret_key=SECRET)

    assert_type(whole.open_session(environ()), OwnSession)
    assert_type(partly.open_session(environ()), OwnSession | None)
    assert_type(plain.open_session(environ()), Session | None)
    assert_type(plain_whole.open_session(environ()), Session)
    for steps in (whole, partly):
        assert_type(steps.open_token(None), OwnSession)
        assert type(steps.open_token(None)) is OwnSession
    assert_type(FalconMiddleware(secret_key=SECRET).steps.open_token(None), FalconSession)


def described(steps: Integration) -> str:
    """An annotation without the class of the sessions is complete."""
    return steps.describe()


def test_an_integration_can_be_named_without_its_sessions() -> None:
    assert "secret keys: 1" in described(Integration(OwnSession, secret_key=SECRET))
