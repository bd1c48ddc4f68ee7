"""What Flask-SocketIO and flask-sock do with an app of Flask, without a server."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flask
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import create_environ


def environ_of(client: FlaskClient, path: str = "/", *, upgrade: bool = False) -> dict[str, Any]:
    """The environ of a connection that this client made, as Flask-SocketIO keeps it."""
    cookie = client.get_cookie("session")
    headers = {} if cookie is None else {"Cookie": f"session={cookie.value}"}
    if upgrade:
        headers.update(Upgrade="websocket", Connection="Upgrade")
    environ = create_environ(path, headers=headers)
    environ["flask.app"] = client.application
    return environ


def event(app: Flask, environ: dict[str, Any], handler: Callable[[], Any]) -> Any:
    """What Flask-SocketIO's _handle_event does with manage_session=False."""
    with app.request_context(environ):
        session = flask.session._get_current_object()  # type: ignore[attr-defined] # Werkzeug's
        result = handler()
        if session.modified:
            app.session_interface.save_session(app, session, app.response_class())
        return result


def hold_websocket(
    app: Flask,
    client: FlaskClient,
    handler: Callable[[], Any],
    mode: str,
    started: Callable[[Any], object],
) -> None:
    """What flask-sock's decorator does, and the server around it."""

    def view() -> flask.Response:
        handler()

        class WebSocketResponse(flask.Response):
            def __call__(self, *args: Any, **options: Any) -> Any:
                if mode == "gunicorn":
                    raise StopIteration
                return super().__call__(*args, **options) if mode == "werkzeug" else []

        return WebSocketResponse()

    app._got_first_request = False
    app.add_url_rule("/websocket", "websocket", view, websocket=True)

    def start_response(status: str, headers: Any, exc_info: Any = None) -> Any:
        started(headers)
        return bytes

    environ = environ_of(client, "/websocket", upgrade=True)
    environ.pop("flask.app")
    try:
        body = app.wsgi_app(environ, start_response)
    except StopIteration:
        return
    for _ in body:
        pass
    close = getattr(body, "close", None)
    if close is not None:
        close()
