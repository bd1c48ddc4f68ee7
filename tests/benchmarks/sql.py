"""Sessions in a SQL database: ours beside Django's and Flask-Session's, on SQLite and PostgreSQL.

All are set up to their advantage: SQLite in WAL mode for everyone, and connections that stay open.
"""

from __future__ import annotations

import contextlib
import sqlite3
import sys
from collections.abc import Iterator
from typing import Any

import databases

from . import contenders as c
from .contenders import Contender, Place
from .cost import SIZES, Cell, begin, check, measure_field, place
from .wire import Proxy
from .work import payload, request, send

DATABASES = ("sqlite", "postgresql")
_FAST = "PRAGMA journal_mode=WAL", "PRAGMA synchronous=NORMAL"


def ours(place: Place, storage: str, url: str) -> Contender:
    """SQLStore."""
    from wsgi_sessions.stores import SQLStore

    return c.ours(place, storage, store=SQLStore.from_url(url))


class _SQLRows(c.Rows):
    """In a table of keys and values: one statement for each access, nothing else."""

    def __init__(self, url: str) -> None:
        self._place = "?"
        if url.startswith("sqlite:///"):
            self._connection: Any = sqlite3.connect(
                url.removeprefix("sqlite:///"), isolation_level=None, check_same_thread=False
            )
            for pragma in _FAST:
                self._connection.execute(pragma)
        else:
            import psycopg

            self._connection = psycopg.connect(url, autocommit=True)
            self._place = "%s"
        kind = "BLOB" if self._place == "?" else "BYTEA"
        self._connection.execute(f"CREATE TABLE minimum (sid TEXT PRIMARY KEY, data {kind})")

    def get(self, sid: str) -> bytes | None:
        row = self._execute("SELECT data FROM minimum WHERE sid = ?", sid).fetchone()
        return None if row is None else bytes(row[0])

    def put(self, sid: str, row: bytes) -> None:
        statement = "INSERT INTO minimum VALUES (?, ?) ON CONFLICT (sid) DO UPDATE SET data = ?"
        self._execute(statement, sid, row, row)

    def delete(self, sid: str) -> None:
        self._execute("DELETE FROM minimum WHERE sid = ?", sid)

    def _execute(self, statement: str, *values: object) -> Any:
        return self._connection.execute(statement.replace("?", self._place), values)


def minimum(place: Place, storage: str, url: str) -> Contender:
    """The hand-written one."""
    return c.minimum(place, storage, _SQLRows(url))


def django_sessions(place: Place, storage: str, url: str) -> Contender:
    """Django's backend db, on a connection that stays."""
    settings = c.django_settings()
    import sqlalchemy as sa
    from django.contrib.sessions.models import Session
    from django.db import connections

    named = sa.make_url(url)
    configured: dict[str, Any] = {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": named.database,
        "OPTIONS": {"init_command": ";".join(_FAST)},
    }
    if storage == "postgresql":
        configured |= {"ENGINE": "django.db.backends.postgresql", "OPTIONS": {}}
        configured |= {"HOST": named.host, "PORT": named.port}
        configured |= {"USER": named.username, "PASSWORD": named.password}
    connections["default"].close()
    del connections["default"]
    connections.settings = connections.configure_settings({"default": configured})
    with connections["default"].schema_editor() as editor:
        editor.create_model(Session)

    def select() -> None:
        settings.SESSION_ENGINE = "django.contrib.sessions.backends.db"

    return c.django_sessions(place, storage, select)


def flask_session(place: Place, storage: str, url: str) -> Contender:
    """Flask-Session's backend sqlalchemy, by Flask-SQLAlchemy."""
    from flask_sqlalchemy import SQLAlchemy
    from sqlalchemy import event

    def set_up(app: Any) -> None:
        uri = url.replace("postgresql://", "postgresql+psycopg://")
        app.config["SQLALCHEMY_DATABASE_URI"] = uri
        database = SQLAlchemy(app)
        if storage == "sqlite":
            with app.app_context():
                event.listen(database.engine, "connect", _hasten)
        app.config.update(SESSION_TYPE="sqlalchemy", SESSION_SQLALCHEMY=database)

    return c.flask_session(place, storage, set_up)


def _hasten(connection: Any, record: object) -> None:
    for pragma in _FAST:
        connection.execute(pragma)


MAKERS: dict[str, Any] = {
    "ours": ours,
    "minimum": minimum,
    "Flask-Session": flask_session,
    "Django": django_sessions,
}


@contextlib.contextmanager
def started() -> Iterator[databases.DatabaseServer | None]:
    """A PostgreSQL server; None where there is no program for one."""
    server = databases.started("postgresql")
    try:
        yield server
    finally:
        if server is not None:
            server.remove()


def field_of(
    where: Place, storage: str, server: databases.DatabaseServer | None
) -> list[Contender]:
    """Everyone, each with a database of its own."""
    return [make(where, storage, new_database(where, storage, server)) for make in MAKERS.values()]


def new_database(where: Place, storage: str, server: databases.DatabaseServer | None) -> str:
    """The URL of an empty one."""
    if storage == "sqlite":
        return f"sqlite:///{where.folder('sqlite')}/sessions.db"
    assert server is not None
    return server.new_database()


def cells(storage: str, *, quick: bool) -> list[Cell]:
    """What is measured on each database."""
    shapes = [("100 B", 1), ("4 KB", 1), ("100 KB", 1), ("100 KB", 50)]
    found = [
        Cell(workload, storage, size, fields)
        for workload in ("read", "change")
        for size, fields in (shapes[:1] if quick else shapes)
    ]
    return [*found, Cell("new", storage), Cell("sign-in", storage)]


def cost(
    server: databases.DatabaseServer | None, *, quick: bool, repetitions: int
) -> dict[str, dict[str, dict[str, float]]]:
    """Microseconds of CPU per request, less what the bare app costs: by database, line, contender."""
    found: dict[str, dict[str, dict[str, float]]] = {}
    for storage in present(server):
        for cell in cells(storage, quick=quick):
            with place(None, payload(SIZES[cell.size], cell.fields)) as where:
                field = field_of(where, storage, server)
                row = measure_field(field, cell, server, repetitions=repetitions, turn=0.02)
            found.setdefault(storage, {})[cell.title] = row
            print(storage, cell.title, {name: round(value, 1) for name, value in row.items()},
                  file=sys.stderr, flush=True)  # fmt: skip
    return found


def present(server: databases.DatabaseServer | None) -> tuple[str, ...]:
    """The databases that this machine has."""
    return DATABASES if server is not None else DATABASES[:1]


def dry_run(server: databases.DatabaseServer | None) -> list[str]:
    """Check every contender; returns who takes part."""
    names = []
    for storage in present(server):
        with place(None, payload(400, 2)) as where:
            for contender in field_of(where, storage, server):
                check(contender)
                names.append(f"{contender.name} on {storage}")
    return names


def everything(*, quick: bool, repetitions: int) -> dict[str, Any]:
    """All of it, with a server for the time being."""
    with started() as server:
        return {
            "dry run": dry_run(server),
            "cost": cost(server, quick=quick, repetitions=repetitions),
            "wire": None if server is None else traffic(server),
        }


def traffic(server: databases.DatabaseServer) -> dict[str, dict[str, dict[str, int]]]:
    """What goes to PostgreSQL and back for one request: by kind of request, then by contender."""
    table: dict[str, dict[str, dict[str, int]]] = {}
    for action in ("untouched", "read", "change", "new", "sign-in"):
        proxy = Proxy(server.port)
        with place(None, payload(100, 1)) as where:
            for name, make in MAKERS.items():
                url = server.new_database()
                contender = make(
                    where, "postgresql", url.replace(f":{server.port}/", f":{proxy.port}/")
                )
                # As in production: connections are there, and statements are prepared.
                for _ in range(10):
                    send(contender.app, request(action, begin(contender)))
                cookie = None if action in ("untouched", "new") else begin(contender)
                proxy.reset()
                send(contender.app, request(action, cookie))
                table.setdefault(action, {})[name] = proxy.traffic.row(statements)
        proxy.close()
    return table


def statements(sent: bytes) -> int:
    """How many statements these bytes are (https://www.postgresql.org/docs/current/protocol-message-formats.html)."""
    count = at = 0
    while at < len(sent):
        # Query, and Execute of one that was parsed.
        count += sent[at : at + 1] in (b"Q", b"E")
        at += 1 + int.from_bytes(sent[at + 1 : at + 5])
    return count
