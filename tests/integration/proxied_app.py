"""The app that test_real_proxies.py puts behind real proxies; gunicorn calls `make`."""

from __future__ import annotations

from typing import Any

from flask import Flask, request, url_for
from werkzeug.middleware.dispatcher import DispatcherMiddleware

from wsgi_sessions import SessionMiddleware, TrustedProxies, get_session
from wsgi_sessions.proxies import ProxyProbe
from wsgi_sessions.stores import MemoryStore

SECRET = "a secret of at least thirty-two bytes, for tests"


def make(**options: Any) -> Any:
    """The app, with these options of TrustedProxies."""
    flask = Flask(__name__)

    @flask.get("/")
    def index() -> dict[str, Any]:
        session = get_session(request.environ)
        session["visits"] = session.get("visits", 0) + 1
        return {
            "remote_addr": request.remote_addr,
            "is_secure": request.is_secure,
            "url": url_for("index", _external=True),
            "client": request.environ["wsgi_sessions.client"]._asdict(),
            "original": request.environ["wsgi_sessions.original"],
            "visits": session["visits"],
        }

    return SessionMiddleware(
        DispatcherMiddleware(flask.wsgi_app, {"/proxy": ProxyProbe()}),
        secret_key=SECRET,
        store=MemoryStore(),
        trusted_proxies=TrustedProxies(**options),
    )
