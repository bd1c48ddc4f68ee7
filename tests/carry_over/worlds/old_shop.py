"""A small shop on Beaker, Flask-Session or Django, for a server to run: ``OLD_SYSTEM`` says which.

It runs with the old libraries on its path, and knows nothing of wsgi-sessions. new_shop.py is what
takes its place, and old_shop.cjs the same on express-session.
"""

from __future__ import annotations

import json
import os
from typing import Any

DIRECTORY = os.environ["OLD_STORE"]
SECRET = "the old shop's secret, which is long enough"


def act(session: Any, action: str, word: str) -> str:
    """What the shop does: user and cart, as JSON."""
    if action == "login":
        session["user_id"] = word
        session["cart"] = []
    elif action == "add":
        session["cart"] = [*session.get("cart", []), word]
    elif action == "logout":
        session.clear()
    return json.dumps([session.get("user_id"), session.get("cart", [])])


def beaker() -> Any:
    from beaker.middleware import SessionMiddleware

    def app(environ: Any, start_response: Any) -> Any:
        session = environ["beaker.session"]
        body = act(session, environ["PATH_INFO"].strip("/"), environ["QUERY_STRING"])
        session.save()
        start_response("200 OK", [("Content-Type", "application/json")])
        return [body.encode()]

    config = {"type": "file", "data_dir": DIRECTORY, "secret": SECRET, "timeout": "3600"}
    return SessionMiddleware(app, {f"session.{name}": value for name, value in config.items()})


def flask_session() -> Any:
    from cachelib.file import FileSystemCache
    from flask import Flask, request, session
    from flask_session import Session

    app = Flask("old")
    cache = FileSystemCache(DIRECTORY)
    app.config.update(SECRET_KEY=SECRET, SESSION_TYPE="cachelib", SESSION_CACHELIB=cache)
    Session(app)

    @app.get("/<action>")
    def view(action: str) -> str:
        return act(session, action, request.query_string.decode())

    return app


def django() -> Any:
    import django
    from django.conf import settings
    from django.core.wsgi import get_wsgi_application
    from django.http import HttpResponse
    from django.urls import path

    def view(request: Any, action: str) -> Any:
        return HttpResponse(act(request.session, action, request.META["QUERY_STRING"]))

    settings.configure(
        ALLOWED_HOSTS=["*"],
        SECRET_KEY=SECRET,
        ROOT_URLCONF=(path("<action>", view),),
        MIDDLEWARE=["django.contrib.sessions.middleware.SessionMiddleware"],
        SESSION_ENGINE="django.contrib.sessions.backends.file",
        SESSION_FILE_PATH=DIRECTORY,
        INSTALLED_APPS=["django.contrib.sessions"],
    )
    django.setup()
    return get_wsgi_application()


_MADE = {"beaker": beaker, "flask-session": flask_session, "django": django}
application = _MADE[os.environ["OLD_SYSTEM"]]()
