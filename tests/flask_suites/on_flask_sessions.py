"""A pytest plugin: each Flask app of somebody else's tests has FlaskSessions from its first request.

An app without a secret key is left alone, as Flask has no session for it either. Keys of other
people's tests are short, so ours is derived from them.
"""

from __future__ import annotations

import hashlib
from typing import Any

from flask import Flask
from flask.sessions import SecureCookieSessionInterface

from wsgi_sessions.flask import FlaskSessions
from wsgi_sessions.stores import MemoryStore

_call, _request_context = Flask.__call__, Flask.request_context


def _prepare(app: Flask) -> None:
    if app.secret_key and type(app.session_interface) is SecureCookieSessionInterface:
        key = hashlib.sha256(repr(app.secret_key).encode()).hexdigest()
        FlaskSessions(app, secret_key=key, store=MemoryStore())


def _prepared_call(self: Flask, environ: Any, start_response: Any) -> Any:
    _prepare(self)
    return _call(self, environ, start_response)


def _prepared_context(self: Flask, environ: Any) -> Any:
    _prepare(self)
    return _request_context(self, environ)


Flask.__call__ = _prepared_call  # type: ignore[method-assign] # the point
Flask.request_context = _prepared_context  # type: ignore[method-assign] # the point
