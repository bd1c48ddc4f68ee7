"""The contenders: each is one library on one kind of storage, as its documentation sets it up.

A contender's `app` answers the requests of `work`; its `bare` is the same app on the same
framework without any session, whose cost is subtracted. Libraries are imported when they are
asked for, so that what isn't installed is left out.
"""

from __future__ import annotations

import contextlib
import hmac
import io
import json
import os
import secrets
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from .work import NAME, App, Environ, Manners, act, nothing

SECRET = "an-HMAC-key-for-measuring-that-nobody-else-uses"
LIMIT = 1 << 20
"""Bytes that one session may have: more than the largest measured one."""
STORAGES = ("memory", "file", "redis")
SERVED = ("redis", "postgresql")
"""Where a server's work counts, too."""


@dataclass(frozen=True, slots=True)
class Contender:
    """One library on one kind of storage."""

    name: str
    storage: str
    app: App
    bare: App
    select: Callable[[], object] = bool
    """To be called before its requests, where a framework has settings per process."""
    ends_old_id: bool = True
    """Whether the ID of before is dead after a sign-in: not where the data lives with the client,
    and not in Beaker, whose regenerate_id() leaves the old session where it is."""
    parts: dict[str, Any] = field(default_factory=dict)
    """What some measurements need to reach inside: the store, for example."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where contenders may keep sessions."""

    directory: Path
    redis_url: str | None
    data: dict[str, Any]
    """What a new session is filled with."""

    def folder(self, name: str) -> str:
        return tempfile.mkdtemp(prefix=f"{name}-", dir=self.directory)


def _action(environ: Environ) -> str:
    path: str = environ["PATH_INFO"]
    return path[1:]


def plain_app(manners: Manners, data: dict[str, Any], find: Callable[[Environ], Any]) -> App:
    """The app, without any framework."""

    def app(environ: Environ, start_response: Any) -> Iterable[bytes]:
        action = _action(environ)
        body = b"ok" if action == "untouched" else act(action, find(environ), manners, data)
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [body]

    return app


def _held(data: dict[str, Any]) -> dict[str, Any]:
    held: dict[str, Any] = json.loads(json.dumps(data))
    return held


def _bare(data: dict[str, Any]) -> App:
    held = _held(data)
    manners = Manners(sign_in=nothing)
    return plain_app(manners, data, lambda environ: held)


# Ours


def our_store(place: Place, storage: str) -> Any:
    """A store of ours on this kind of storage."""
    from wsgi_sessions.stores import ClientSideStore, FileStore, MemoryStore

    if storage == "memory":
        return MemoryStore()
    if storage == "file":
        return FileStore(place.folder("ours"))
    if storage == "cookie":
        return ClientSideStore()
    from wsgi_sessions.stores import RedisStore

    assert place.redis_url is not None
    return RedisStore.from_url(place.redis_url)


def ours(place: Place, storage: str, name: str = "ours", **options: Any) -> Contender:
    """SessionMiddleware."""
    from wsgi_sessions import SessionMiddleware

    manners = Manners(
        new_id=lambda session: session.regenerate(),
        sign_in=lambda session: session.login("user-4711"),
        end=lambda session: session.destroy(),
    )
    inner = plain_app(manners, place.data, lambda environ: environ["wsgi_sessions.session"])
    options = {"secret_key": SECRET, "max_bytes": LIMIT, **options}
    if "store" not in options:
        options["store"] = our_store(place, storage)
    app = SessionMiddleware(inner, **options)
    return Contender(
        name,
        storage,
        app,
        _bare(place.data),
        ends_old_id=storage != "cookie",
        parts={"store": app.store, "middleware": app},
    )


# The bare minimum


class _Minimum:
    """Parse the cookie, one HMAC, one store access, JSON: nothing else, and no care taken."""

    def __init__(self, backend: Rows, data: dict[str, Any]) -> None:
        self._rows = backend
        self._key = SECRET.encode()
        self._data = data

    def _signature(self, sid: str) -> str:
        return hmac.digest(self._key, sid.encode(), "sha256").hex()

    def __call__(self, environ: Environ, start_response: Any) -> Iterable[bytes]:
        action = _action(environ)
        headers = [("Content-Type", "text/plain")]
        if action == "untouched":
            start_response("200 OK", headers)
            return [b"ok"]
        sid, session = self._open(environ)
        body = act(action, session, Manners(), self._data)
        if action == "logout" and sid is not None:
            self._rows.delete(sid)
        elif action not in ("read", "who", "count", "has-data"):
            if action == "sign-in" and sid is not None:
                self._rows.delete(sid)
                sid = None
            if sid is None:
                sid = secrets.token_urlsafe(32)
                token = f"{sid}.{self._signature(sid)}"
                headers.append(("Set-Cookie", f"{NAME}={token}; Path=/; HttpOnly; SameSite=Lax"))
            self._rows.put(sid, json.dumps(session, separators=(",", ":")).encode())
        start_response("200 OK", headers)
        return [body]

    def _open(self, environ: Environ) -> tuple[str | None, dict[str, Any]]:
        header = environ.get("HTTP_COOKIE", "")
        at = header.find(f"{NAME}=")
        if at < 0:
            return None, {}
        sid, _, signature = header[at + len(NAME) + 1 :].partition(";")[0].partition(".")
        if not hmac.compare_digest(self._signature(sid), signature):
            return None, {}
        row = self._rows.get(sid)
        return (None, {}) if row is None else (sid, json.loads(row))


class Rows:
    """In a dict."""

    def __init__(self) -> None:
        self.rows: dict[str, bytes] = {}

    def get(self, sid: str) -> bytes | None:
        return self.rows.get(sid)

    def put(self, sid: str, row: bytes) -> None:
        self.rows[sid] = row

    def delete(self, sid: str) -> None:
        self.rows.pop(sid, None)


class _FileRows(Rows):
    """In files of one directory, replaced as a whole."""

    def __init__(self, directory: str) -> None:
        self._directory = directory

    def get(self, sid: str) -> bytes | None:
        try:
            with open(f"{self._directory}/{sid}", "rb") as file:
                return file.read()
        except FileNotFoundError:
            return None

    def put(self, sid: str, row: bytes) -> None:
        path = f"{self._directory}/{sid}"
        temporary = f"{path}.{os.getpid()}.{secrets.token_hex(4)}"
        with open(temporary, "wb") as file:
            file.write(row)
        os.replace(temporary, path)

    def delete(self, sid: str) -> None:
        Path(f"{self._directory}/{sid}").unlink(missing_ok=True)


class _RedisRows(Rows):
    """In Redis strings."""

    def __init__(self, url: str) -> None:
        import redis

        self._client = redis.Redis.from_url(url)

    def get(self, sid: str) -> bytes | None:
        row: Any = self._client.get(sid)
        return None if row is None else bytes(row)

    def put(self, sid: str, row: bytes) -> None:
        self._client.set(sid, row, ex=86400)

    def delete(self, sid: str) -> None:
        self._client.delete(sid)


def minimum(place: Place, storage: str, rows: Rows | None = None) -> Contender:
    """The hand-written one."""
    rows = _rows(place, storage) if rows is None else rows
    app = _Minimum(rows, place.data)
    return Contender("minimum", storage, app, _bare(place.data), parts={"rows": rows})


def _rows(place: Place, storage: str) -> Rows:
    if storage == "memory":
        return Rows()
    if storage == "file":
        return _FileRows(place.folder("minimum"))
    assert place.redis_url is not None
    return _RedisRows(place.redis_url)


# Beaker


def beaker(place: Place, storage: str) -> Contender:
    """Beaker's SessionMiddleware."""
    from beaker.middleware import SessionMiddleware

    manners = Manners(
        changed=lambda session: session.save(),
        new_id=lambda session: session.regenerate_id(),
        end=lambda session: session.delete(),
    )
    options: dict[str, Any] = {
        "session.key": NAME,
        "session.secret": SECRET,
        "session.type": {"redis": "ext:redis"}.get(storage, storage),
        "session.httponly": True,
        "session.timeout": 86400,
        "session.samesite": "Lax",
    }
    if storage == "file":
        options["session.data_dir"] = place.folder("beaker")
    elif storage == "redis":
        options["session.url"] = place.redis_url
    inner = plain_app(manners, place.data, lambda environ: environ["beaker.session"])
    app = SessionMiddleware(inner, options)
    return Contender("Beaker", storage, app, _bare(place.data), ends_old_id=False)


# Flask


def flask_app(manners: Manners, data: dict[str, Any]) -> Any:
    """The app on Flask."""
    import flask

    app = flask.Flask("bench")
    app.config.update(SECRET_KEY=SECRET, SESSION_COOKIE_NAME=NAME, SESSION_COOKIE_SAMESITE="Lax")

    @app.route("/untouched")
    def untouched() -> bytes:
        return b"ok"

    @app.route("/<action>")
    def any_action(action: str) -> bytes:
        return act(action, flask.session, manners, data)

    return app


def flask_bare(data: dict[str, Any]) -> App:
    """The app on Flask without sessions, on data that is there."""
    from flask.sessions import SecureCookieSession, SessionInterface

    held = SecureCookieSession(_held(data))

    class Nothing(SessionInterface):
        def open_session(self, app: Any, request: Any) -> SecureCookieSession:
            return held

        def save_session(self, app: Any, session: Any, response: Any) -> None:
            return None

    app = flask_app(Manners(), data)
    app.session_interface = Nothing()
    return wsgi_of(app)


def wsgi_of(app: Any) -> App:
    """What a server calls of a Flask app."""
    wsgi: App = app.wsgi_app
    return wsgi


def _modified(session: Any) -> None:
    session.modified = True


def flask_cookie(place: Place, storage: str = "cookie") -> Contender:
    """Flask's own: signed data in the cookie."""
    manners = Manners(changed=_modified, end=lambda session: session.clear())
    app = flask_app(manners, place.data)
    bare = flask_bare(place.data)
    return Contender("Flask's own", storage, wsgi_of(app), bare, ends_old_id=False)


def flask_session(
    place: Place, storage: str, set_up: Callable[[Any], None] | None = None
) -> Contender:
    """Flask-Session; memory and files through cachelib, as its documentation has it.

    Args:
        place: where the sessions are.
        storage: the kind of it.
        set_up: configures the app otherwise.
    """
    import flask
    from flask_session import Session

    def new_id(session: Any) -> None:
        flask.current_app.session_interface.regenerate(session)  # type: ignore[attr-defined] # Flask-Session's own method

    manners = Manners(changed=_modified, new_id=new_id, end=lambda session: session.clear())
    app = flask_app(manners, place.data)
    if set_up is None:
        app.config.update(_flask_session_settings(place, storage))
    else:
        set_up(app)
    Session(app)
    return Contender(
        "Flask-Session",
        storage,
        wsgi_of(app),
        flask_bare(place.data),
        parts={"cache": app.config.get("SESSION_CACHELIB"), "prefix": "session:"},
    )


def _flask_session_settings(place: Place, storage: str) -> dict[str, Any]:
    if storage == "redis":
        import redis

        assert place.redis_url is not None
        return {"SESSION_TYPE": "redis", "SESSION_REDIS": redis.Redis.from_url(place.redis_url)}
    from cachelib import FileSystemCache, SimpleCache

    cached = (
        SimpleCache(threshold=LIMIT)
        if storage == "memory"
        else FileSystemCache(place.folder("flask-session"), threshold=0)
    )
    return {"SESSION_TYPE": "cachelib", "SESSION_CACHELIB": cached}


# Django


@cache
def django_settings() -> Any:
    """Django's settings, set up once in this process."""
    import django
    from django.conf import settings

    in_memory = {
        "BACKEND": "django.core.cache.backends.locmem.LocMemCache",
        "OPTIONS": {"MAX_ENTRIES": LIMIT},
    }
    in_redis = {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": ""}
    settings.configure(
        SECRET_KEY=SECRET,
        SESSION_COOKIE_NAME=NAME,
        CACHES={"default": in_memory, "memory": in_memory, "redis": in_redis},
        INSTALLED_APPS=["django.contrib.sessions"],
        USE_TZ=True,
        ALLOWED_HOSTS=["*"],
    )
    django.setup()
    return settings


def _use_redis(url: str) -> None:
    from django.core.cache import caches

    if caches.settings["redis"]["LOCATION"] != url:
        caches.settings["redis"]["LOCATION"] = url
        with contextlib.suppress(AttributeError):
            del caches["redis"]


def django_view(manners: Manners, data: dict[str, Any]) -> Callable[[Any], Any]:
    """The app as a view; without a session middleware around it, on data that is there."""
    from django.http import HttpResponse

    held = _held(data)

    def view(request: Any) -> Any:
        action = request.path_info[1:]
        if action == "untouched":
            return HttpResponse(b"ok", content_type="text/plain")
        session = getattr(request, "session", held)
        body = act(action, session, Manners() if session is held else manners, data)
        return HttpResponse(body, content_type="text/plain")

    return view


def django_app(handle: Callable[[Any], Any]) -> App:
    """A view, or a middleware around it, without the rest of Django's request handling."""
    from django.core.handlers.wsgi import WSGIRequest

    def app(environ: Environ, start_response: Any) -> Iterable[bytes]:
        response = handle(WSGIRequest({**environ, "wsgi.input": _EMPTY}))
        headers = list(response.items())
        headers += [("Set-Cookie", morsel.OutputString()) for morsel in response.cookies.values()]
        start_response("200 OK", headers)
        return [response.content]

    return app


def django_sessions(
    place: Place, storage: str, select: Callable[[], object] | None = None
) -> Contender:
    """Django's SessionMiddleware around a view.

    Args:
        place: where the sessions are.
        storage: the kind of it.
        select: chooses another engine than those for memory, files and Redis.
    """
    django_settings()
    from django.contrib.sessions.middleware import SessionMiddleware

    select = _django_engine(place, storage) if select is None else select
    manners = Manners(
        changed=_modified,
        new_id=lambda session: session.cycle_key(),
        end=lambda session: session.flush(),
    )
    view = django_view(manners, place.data)
    select()
    return Contender(
        "Django", storage, django_app(SessionMiddleware(view)), django_app(view), select, parts={}
    )


def _django_engine(place: Place, storage: str) -> Callable[[], object]:
    settings = django_settings()
    if place.redis_url is not None:
        _use_redis(place.redis_url)
    engine = "file" if storage == "file" else "cache"
    directory = place.folder("django")

    def select() -> None:
        settings.SESSION_ENGINE = f"django.contrib.sessions.backends.{engine}"
        if storage == "file":
            settings.SESSION_FILE_PATH = directory
            from django.contrib.sessions.backends.file import SessionStore

            SessionStore._storage_path = directory
        else:
            settings.SESSION_CACHE_ALIAS = storage

    return select


_EMPTY = io.BytesIO()

Maker = Callable[[Place, str], Contender]
PEERS: dict[str, Maker] = {
    "Beaker": beaker,
    "Flask-Session": flask_session,
    "Django": django_sessions,
}


def field_of(place: Place, storage: str) -> list[Contender]:
    """Everyone who keeps sessions on this kind of storage, ours and the minimum first."""
    if storage == "cookie":
        return [ours(place, storage), flask_cookie(place)]
    return [ours(place, storage), minimum(place, storage)] + [
        make(place, storage) for make in PEERS.values()
    ]
