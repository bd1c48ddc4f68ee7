"""Device binding by FlaskSessions: the same option, and nothing in the app."""

from __future__ import annotations

from typing import Any
from wsgiref.util import setup_testing_defaults

import flask
import pytest

from bound_app import COOKIE, SECRET
from device import Agent
from wsgi_sessions import DeviceBinding
from wsgi_sessions.flask import FlaskSessions, session


@pytest.mark.parametrize("by_config", [False, True])
def test_a_flask_app_has_its_sessions_bound(*, by_config: bool) -> None:
    app = flask.Flask(__name__)
    app.config["SECRET_KEY"] = SECRET
    if by_config:
        app.config["SESSION_DEVICE_BINDING"] = DeviceBinding()
        FlaskSessions(app, cookie=COOKIE)
    else:
        FlaskSessions(app, cookie=COOKIE, device_binding=DeviceBinding())

    @app.get("/login")
    def login() -> str:
        session.login("ada")
        return ""

    @app.get("/page")
    def page() -> dict[str, Any]:
        return {"owner": session.owner, "proven": session.is_proven}

    def served(environ: dict[str, Any], start_response: Any) -> Any:
        setup_testing_defaults(environ)
        return app.wsgi_app(environ, start_response)

    agent = Agent(served)
    agent.request("/login")

    assert agent.register().status == 200
    assert agent.request("/page").json == {"owner": "ada", "proven": True}
    assert agent.refresh().status == 403
    assert agent.refresh().status == 200
