"""From a URL to an engine: the driver where none is named, and limits on how long anything waits.

Engines that an app makes itself are taken as they are, unless they can't work (`check_engine`).
"""

from __future__ import annotations

import inspect
import os
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote, urlsplit

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.exc import SQLAlchemyError

from ...errors import ConfigurationError
from ..query import take_option
from .connections import ANSWER_SECONDS
from .schema import DEFAULT_TABLE, check_name, ddl, missing, sessions_table

CONNECT_SECONDS: Final = 3
"""How long to wait for a new connection, or for one of the pool's."""
SQLITE_SECONDS: Final = 15
"""How long SQLite waits for another writer: its default of 5 is short when a disk is slow."""

_DRIVERS: Final = {
    "postgresql": "postgresql+psycopg",
    "postgres": "postgresql+psycopg",
    "mysql": "mysql+pymysql",
    "mariadb": "mariadb+pymysql",
    "sqlite": "sqlite",
}
_EXTRAS: Final = {"psycopg": "postgresql", "pymysql": "mysql"}
_DATABASES: Final = "postgresql", "mysql", "mariadb", "sqlite"
_CHECKED: Final = "pysqlite", "pymysql", "psycopg"
_SQLITE_OPTIONS: Final = frozenset(
    {"cached_statements", "check_same_thread", "detect_types", "timeout"}
)
_BEFORE_QUERY: Final = r"[^:]*://(?:[^:/]*(?::[^@]*)?@)?[^?]*"
"""As SQLAlchemy sees it: a password may hold question marks."""
_ALLOWED: Final = (
    "write postgresql://user@host/db, mysql://user@host/db, mariadb://user@host/db or"
    " sqlite:////var/lib/app/sessions.db"
)


def take_table(url: object, table: str | None) -> tuple[Any, str]:
    """The URL for SQLAlchemy, and the table's name, which the query may hold.

    Raises:
        ConfigurationError: it is given twice, differently.
    """
    return take_option("SQLStore", url, "table", table, DEFAULT_TABLE, place=_BEFORE_QUERY)


def engine_from_url(url: object) -> sa.Engine:
    """An engine for the store alone.

    Raises:
        ConfigurationError: the URL doesn't name a database that the store can use, or one whose
        driver
            isn't installed. Never shows the URL, which may hold a password.
    """
    parsed = _parsed(url)
    driver = _dialect_class(parsed)
    # Nothing is open when a connection is given back, so there is nothing to roll back.
    options: dict[str, Any] = {"pool_reset_on_return": None, "pool_use_lifo": True}
    wait = SQLITE_SECONDS if driver.name == "sqlite" else CONNECT_SECONDS
    options |= {"pool_size": 5, "max_overflow": 15, "pool_timeout": wait}
    limits = _limits().get(driver.driver, {})
    chosen = {name: value for name, value in limits.items() if name not in parsed.query}
    try:
        unknown = _unknown_options(driver, parsed)
        engine = None if unknown else sa.create_engine(parsed, connect_args=chosen, **options)
    except (SQLAlchemyError, TypeError, ValueError) as error:
        problem = f"the URL's options can't be used ({type(error).__name__})"
    else:
        if engine is not None:
            if driver.driver == "psycopg":
                event.listen(engine, "do_connect", _connect_psycopg)
            return engine
        problem = f"{driver.driver} has no option {', '.join(map(repr, unknown))} for a URL"
    raise ConfigurationError(f"SQLStore: {problem}; {_ALLOWED}")


def _unknown_options(driver: type[sa.Dialect], url: sa.URL) -> list[str]:
    """The options that would fail when it connects, or have no effect; where that can be told."""
    if not url.query or {"plugin", "uri"} & url.query.keys() or driver.driver not in _CHECKED:
        return []  # with these two, options may be the plugin's, or SQLite's own
    if driver.driver == "pysqlite":
        return sorted(url.query.keys() - _SQLITE_OPTIONS)
    make: Any = driver
    module: Any = driver.import_dbapi()
    given: set[str] = set(make(dbapi=module).create_connect_args(url)[1])
    if driver.driver == "pymysql":
        return sorted(given - inspect.signature(module.connect).parameters.keys())
    given -= {each.keyword.decode() for each in module.pq.Conninfo.get_defaults()}
    return sorted(given - inspect.signature(module.Connection.connect).parameters.keys())


def _limits() -> dict[str, dict[str, int]]:
    """Each driver's options, unless the URL says otherwise."""
    return {
        "pysqlite": {"timeout": SQLITE_SECONDS},
        "psycopg": {"connect_timeout": CONNECT_SECONDS, "tcp_user_timeout": ANSWER_SECONDS * 1000},
        "pymysql": {
            "connect_timeout": CONNECT_SECONDS,
            "read_timeout": ANSWER_SECONDS,
            "write_timeout": ANSWER_SECONDS,
        },
    }


def schema_for(url: str, table: str | None = None) -> str:
    """The DDL of the table for the database that the URL names. Connects to nothing.

    Raises:
        ConfigurationError: as `SQLStore.from_url` does.
    """
    url, name = take_table(url, table)
    dialect = _dialect_class(_parsed(url))()
    return ddl(sessions_table(check_name(name), sa.MetaData()), dialect)


def check_engine(engine: object) -> sa.Engine:
    """The engine, if the store can use it.

    Raises:
        ConfigurationError: it can't; says what to write.
    """
    if not isinstance(engine, sa.Engine):
        hint = "it is asynchronous; " if hasattr(engine, "sync_engine") else ""
        raise ConfigurationError(
            f"SQLStore: engine is of type {type(engine).__name__}; {hint}write"
            " SQLStore(sqlalchemy.create_engine(…)) or SQLStore.from_url(…)"
        )
    if engine.dialect.is_async:
        raise ConfigurationError(
            f"SQLStore: the engine's driver {engine.dialect.driver} is asynchronous; write"
            " postgresql+psycopg://, mysql+pymysql:// or sqlite:// in its URL"
        )
    if engine.dialect.name not in _DATABASES:
        raise ConfigurationError(
            f"SQLStore: the engine is for {engine.dialect.name}; it can be for PostgreSQL, MariaDB,"
            " MySQL or SQLite"
        )
    if engine.dialect.name == "sqlite":
        sqlite_path(engine.url)
    return engine


def sqlite_path(url: sa.URL) -> Path:
    """The file of a SQLite database, from wherever the process is now.

    Raises:
        ConfigurationError: it is one in memory, which each connection would have its own of.
    """
    named = url.database or ""
    path = unquote(urlsplit(named).path) if named.startswith("file:") else named
    if not path or ":memory:" in named or url.query.get("mode") == "memory":
        raise ConfigurationError(
            "SQLStore: a SQLite database in memory is lost with its connection; write"
            " sqlite:////var/lib/app/sessions.db, with an absolute path after the third slash, or"
            " use MemoryStore()"
        )
    return Path(path).absolute()


def open_existing(engine: sa.Engine) -> None:
    """Let SQLite open its file and never make one, which everybody could read: see `own_file`."""
    event.listen(engine, "do_connect", _connect_sqlite)


def _connect_sqlite(dialect: Any, record: Any, args: list[Any], options: dict[str, Any]) -> Any:
    name, *others = args
    if not (options.get("uri") and name.startswith("file:")):
        name = Path(name).absolute().as_uri()
    if "mode=ro" not in name:
        name += f"{'&' if '?' in name else '?'}mode=rw"  # of several, the last one counts
    return dialect.connect(name, *others, **{**options, "uri": True})


def own_file(path: Path, table: sa.Table, *, create: bool) -> None:
    """Make the file of a SQLite database, if there is none, so that nobody else can read it.

    Raises:
        ConfigurationError: no file can have this path.
        StoreError: there is no file, and none may be made.
    """
    try:
        impossible = b"\0" in os.fsencode(path)
    except UnicodeEncodeError:
        impossible = True
    if impossible:
        raise ConfigurationError(f"SQLStore: {str(path)!a} can't be the path of a file")
    try:
        if create:
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
        else:
            path.stat()
    except (FileNotFoundError, NotADirectoryError):
        if not create:
            what = f"no SQLite file {path} with the table {table.fullname}"
            raise missing(table, what=what) from None
    except OSError:
        pass  # it is there already, or SQLite says at the first call why it can't be


def _parsed(url: object) -> sa.URL:
    try:
        parsed = sa.make_url(url) if isinstance(url, str) else None
    except (SQLAlchemyError, ValueError):
        parsed = None
    if parsed is None:
        raise ConfigurationError(f"SQLStore: this isn't the URL of a database; {_ALLOWED}")
    parsed = parsed.set(drivername=_DRIVERS.get(parsed.drivername, parsed.drivername))
    if parsed.get_backend_name() not in _DATABASES:
        raise ConfigurationError(
            f"SQLStore: the database {parsed.get_backend_name()!r} isn't supported; {_ALLOWED}"
        )
    if parsed.get_backend_name() == "sqlite":
        sqlite_path(parsed)
    return parsed


def _dialect_class(url: sa.URL) -> type[sa.Dialect]:
    try:
        dialect = url.get_dialect()
        if not dialect.is_async:
            dialect.import_dbapi()
    except SQLAlchemyError:
        problem = f"SQLAlchemy has no {url.drivername}; {_ALLOWED}"
    except ImportError as error:
        missing = error.name or url.get_driver_name()
        extra = _EXTRAS.get(missing.partition(".")[0])
        package = f"'wsgi-sessions[{extra}]'" if extra else missing
        problem = f"the driver {missing} isn't installed; run pip install {package}"
    else:
        if not dialect.is_async:
            return dialect
        problem = f"{url.drivername} is asynchronous; {_ALLOWED}"
    raise ConfigurationError(f"SQLStore: {problem}")


def _connect_psycopg(dialect: Any, record: Any, args: Any, options: dict[str, Any]) -> Any:
    return _impatient(dialect.dbapi).connect(*args, **options)


def _impatient(psycopg: Any) -> Any:
    """A connection of psycopg's, with a limit for each answer: by itself it waits forever, even
    for a server that has stopped.
    """
    base: Any = psycopg.Connection

    class Connection(base):  # type: ignore[misc] # known when it runs
        def wait(self, gen: Any, *args: Any, **options: Any) -> Any:
            return base.wait(self, self._limited(gen), *args, **options)

        def _limited(self, gen: Any) -> Generator[Any, Any, Any]:
            until = time.monotonic() + ANSWER_SECONDS
            try:
                state = next(gen)
                while True:
                    ready = yield state
                    if not ready and time.monotonic() > until:
                        self.close()  # the answer would be taken for that to the next statement
                        raise psycopg.OperationalError("the server doesn't answer")
                    state = gen.send(ready)
            except StopIteration as done:
                return done.value

    return Connection
