"""Makes one session with the real Beaker, Flask-Session, Flask or Django, in a process of its own.

    python old_python.py SYSTEM '{"store": …, …}'

prints the cookie's value and what the old app itself sees when that cookie comes back. It runs with
the old libraries on its path, and knows nothing of wsgi-sessions.
"""

from __future__ import annotations

import io
import json
import logging
import re
import sys
import time
import warnings
from typing import Any
from wsgiref.util import setup_testing_defaults

import sample  # type: ignore[import-not-found] # beside this file, when it runs

warnings.simplefilter("ignore")
logging.disable(logging.CRITICAL)


def call(app: Any, path: str, cookie: str | None = None) -> tuple[str, list[str]]:
    """Body and Set-Cookie values of a GET."""
    environ: dict[str, Any] = {"PATH_INFO": path, "wsgi.input": io.BytesIO()}
    setup_testing_defaults(environ)
    if cookie is not None:
        environ["HTTP_COOKIE"] = cookie
    got: list[Any] = []
    body = app(environ, lambda status, headers, exc_info=None: got.append((status, headers)))
    text = b"".join(body).decode()
    if hasattr(body, "close"):
        body.close()
    status, headers = got[-1]
    assert status.startswith("200"), (status, text)
    return text, [value for name, value in headers if name.lower() == "set-cookie"]


def beaker(options: dict[str, Any]) -> Any:
    from beaker.middleware import SessionMiddleware

    def view(environ: Any, start_response: Any) -> Any:
        session = environ["beaker.session"]
        if environ["PATH_INFO"] == "/set":
            session.update(getattr(sample, options["sample"]))
            session.save()
        elif environ["PATH_INFO"] == "/end":
            session.delete()
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [str(session.get("user_id")).encode()]

    config = {f"session.{key}": value for key, value in options["config"].items()}
    return SessionMiddleware(view, config)


def flask_app(options: dict[str, Any]) -> Any:
    from flask import Flask, session

    app = Flask("old")
    app.config.update(SECRET_KEY=options.get("secret", "flask's"), **options["config"])

    @app.get("/set")
    def put() -> str:
        for name, value in getattr(sample, options["sample"]).items():
            session[name] = value
        if "permanent" in options:
            session.permanent = options["permanent"]
        return "-"

    @app.get("/end")
    def end() -> str:
        session.clear()
        return "-"

    @app.get("/get")
    def get() -> str:
        return str(session.get("user_id"))

    return app


def flask_session(options: dict[str, Any]) -> Any:
    from flask_session import Session

    if "redis" in options:
        import redis

        options["config"]["SESSION_REDIS"] = redis.Redis.from_url(options["redis"])
    if "cachelib" in options:
        from cachelib.file import FileSystemCache

        options["config"]["SESSION_CACHELIB"] = FileSystemCache(options["cachelib"])
    app = flask_app(options)
    Session(app)
    return app


def django(options: dict[str, Any]) -> Any:
    import django
    from django.conf import settings
    from django.core.management import call_command
    from django.core.wsgi import get_wsgi_application
    from django.http import HttpResponse
    from django.urls import path

    def put(request: Any) -> Any:
        for name, value in getattr(sample, options["sample"]).items():
            request.session[name] = value
        if "expiry" in options:
            request.session.set_expiry(options["expiry"])
        if "sign_in" in options:
            from django.contrib.auth import login
            from django.contrib.auth.models import User

            login(request, User.objects.create_user("ada"))
        return HttpResponse("-")

    def end(request: Any) -> Any:
        request.session.flush()
        return HttpResponse("-")

    def get(request: Any) -> Any:
        return HttpResponse(str(request.session.get("user_id")))

    has_database = bool(options["config"]["DATABASES"])
    settings.configure(
        ALLOWED_HOSTS=["*"],
        SECRET_KEY=options.get("secret", "django's"),
        ROOT_URLCONF=tuple(path(view.__name__, view) for view in (put, end, get)),
        INSTALLED_APPS=[
            "django.contrib.contenttypes",
            "django.contrib.auth",
            "django.contrib.sessions",
        ],
        MIDDLEWARE=[
            "django.contrib.sessions.middleware.SessionMiddleware",
            "django.contrib.auth.middleware.AuthenticationMiddleware",
        ],
        USE_TZ=True,
        **options["config"],
    )
    django.setup()
    if has_database:
        call_command("migrate", verbosity=0)
    app = get_wsgi_application()

    def renamed(environ: Any, start_response: Any) -> Any:
        environ["PATH_INFO"] = environ["PATH_INFO"].replace("/set", "/put")
        return app(environ, start_response)

    return renamed


SYSTEMS = {
    "beaker": beaker,
    "flask-session": flask_session,
    "flask-cookie": flask_app,
    "django": django,
}


def main(system: str, options: dict[str, Any]) -> None:
    app = SYSTEMS[system](options)
    _, (cookie, *_) = call(app, "/set")
    match = re.match(r" *([^=]+)=([^;]*)", cookie)
    assert match is not None
    live, _ = call(app, "/get", f"{match[1]}={match[2]}")
    if options.get("end"):
        call(app, "/end", f"{match[1]}={match[2]}")
    print(json.dumps({"name": match[1], "cookie": match[2], "live": live, "made_at": time.time()}))


if __name__ == "__main__":
    main(sys.argv[1], json.loads(sys.argv[2]))
