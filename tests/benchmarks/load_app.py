"""What gunicorn serves while the load is measured: one contender, or one framework's bare app.

Each worker is a process of its own, so Django can be set up once there, with its own sessions or
with ours.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from wsgi_sessions.stores import store_from_url

from . import contenders as c
from .contenders import Contender, Place
from .work import App, Environ, Manners, payload

DATA = payload(100, 1)


def ours_on_flask(place: Place, storage: str) -> Contender:
    """FlaskSessions."""
    from wsgi_sessions.flask import FlaskSessions

    app = c.flask_app(Manners(), place.data)
    FlaskSessions(app, store=store_for(place, storage))
    return Contender("ours", storage, c.wsgi_of(app), c.flask_bare(place.data))


def ours_on_django(place: Place, storage: str) -> Contender:
    """wsgi_sessions.django.SessionMiddleware, around the view that Django's own is measured with."""
    settings = c.django_settings()
    settings.SESSION_ENGINE = "wsgi_sessions.django"
    settings.WSGI_SESSIONS = {"store": store_for(place, storage)}
    from wsgi_sessions.django import SessionMiddleware

    view = c.django_view(Manners(), place.data)
    return Contender("ours", storage, c.django_app(SessionMiddleware(view)), c.django_app(view))


def store_for(place: Place, storage: str) -> Any:
    """A store of ours; a SQLite database's, too."""
    if storage == "sqlite":
        return store_from_url(f"sqlite:///{place.folder('ours')}/sessions.db")
    return c.our_store(place, storage)


def _ours(place: Place, storage: str) -> Contender:
    return c.ours(place, storage, store=store_for(place, storage))


MAKERS: dict[str, dict[str, Callable[[Place, str], Contender]]] = {
    "WSGI": {"ours": _ours, "Beaker": c.beaker},
    "Flask": {"ours": ours_on_flask, "Flask-Session": c.flask_session},
    "Django": {"ours": ours_on_django, "Django": c.django_sessions},
}
"""By framework: ours and the one peer that is made for it."""
BARE = "no sessions"


def application(framework: str, name: str, storage: str, directory: str, redis_url: str) -> App:
    """The app that a worker of gunicorn loads: it is given these as text.

    It also answers ``/cpu`` with the seconds of CPU that this process has used; and from now on the
    process stays on the first core, where the system has a way to ask for that.
    """
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    place = Place(Path(directory), redis_url or None, DATA)
    makers = MAKERS[framework]
    contender = makers["ours" if name == BARE else name](place, storage)
    contender.select()
    app = contender.bare if name == BARE else contender.app

    def serve(environ: Environ, start_response: Any) -> Iterable[bytes]:
        if environ["PATH_INFO"] == "/cpu":
            body = repr(time.process_time()).encode()
            start_response("200 OK", [("Content-Length", str(len(body)))])
            return [body]
        return app(environ, start_response)

    return serve
