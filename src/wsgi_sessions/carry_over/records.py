"""Where old records are: a directory, Redis, or a table of a SQL database. Only as bytes.

Read one by its name, list the names, delete one. The client libraries are loaded only for a URL
that needs them. Each look-up is made once in the life of an old session, so the connections
are simple: none is shared between threads or across a fork, unless the library does so itself.
"""

from __future__ import annotations

import errno
import importlib
import os
import re
import stat
from abc import ABC, abstractmethod
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from ..errors import ConfigurationError, StoreError, UnsupportedByStore

MAX_BYTES = 1024 * 1024
"""What a record may have. Readers refuse more."""
_READ = MAX_BYTES + 64
"""What is read of one: enough to see that it is too long, whatever a file has before the data."""
_REDIS = ("redis://", "rediss://", "unix://")
_PAGE = 500
_WITHOUT_EXPIRY, _GONE = -1, -2
"""What PTTL says instead of a time (the second: the key went since it was read)."""
_SECONDS = 2
"""How long a database may take to be reached."""


@dataclass(frozen=True, slots=True)
class OldRecord:
    """One record of another system's store."""

    data: bytes = field(repr=False)
    expires_at: float | None = None
    """According to the store, in UNIX seconds; None: never, or the store doesn't know."""
    changed_at: float | None = None
    """When a file was written, in UNIX seconds; None elsewhere."""


class Records(ABC):
    """The records of one old store, by the names that the old system gave them."""

    @abstractmethod
    def read(self, name: str) -> OldRecord | None:
        """One record; None: there is none.

        Raises:
            StoreError: the store can't answer.
        """

    @abstractmethod
    def delete(self, name: str) -> None:
        """Delete it, if it is there.

        Raises:
            StoreError: the store can't do that now.
        """

    @abstractmethod
    def names(self) -> Iterator[str]:
        """The names of all records.

        Raises:
            StoreError: the store can't answer.
        """


class InCookies(Records):
    """No records: the browsers hold the sessions."""

    def __init__(self, system: str) -> None:
        self._system = system

    def read(self, name: str) -> None:
        """Nothing."""

    def delete(self, name: str) -> None:
        """Nothing."""

    def names(self) -> Iterator[str]:
        raise UnsupportedByStore(
            f"{self._system}: these sessions are only in the browsers' cookies, so there is"
            " nothing to look at"
        )


def scheme_of(system: str, store: object, allowed: str) -> str:
    """``"file"``, ``"redis"`` or ``"sql"``: which kind of store a URL names.

    Args:
        system: whose option it is, for messages.
        store: as given.
        allowed: what to write, for messages.

    Raises:
        ConfigurationError: it is not a URL. The message never shows it: it may hold a password.
    """
    if not isinstance(store, str):
        raise ConfigurationError(
            f"{system}: store is of type {type(store).__name__}; write a URL: {allowed}"
        )
    if store.startswith("file://"):
        return "file"
    if store.startswith(_REDIS):
        return "redis"
    if re.match(r"[a-z][a-z0-9_]*(\+[a-z0-9_]+)?://", store):
        return "sql"
    raise ConfigurationError(f"{system}: store is a str without a URL's scheme; write {allowed}")


@contextmanager
def _asking(what: str, operation: str, where: str = "") -> Generator[None]:
    """Turn whatever a client library raises into a StoreError."""
    try:
        yield
    except StoreError:
        raise
    except Exception as error:  # noqa: BLE001 # of any class, by whichever library
        # Neither the text nor the cause: they may quote the statement, and so a session's ID.
        raise StoreError(
            f"the old sessions' {what} can't answer ({type(error).__name__}{where})",
            operation=operation,
        ) from None


# Files


_NO_TRAPS = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
"""A symlink isn't followed, a FIFO isn't waited for; child processes inherit nothing (PEP 446)."""
_NO_FILE = frozenset({errno.ENOENT, errno.ELOOP, errno.ENXIO})
"""Nothing, a symlink or a socket is there."""


class FileRecords(Records):
    """Files in one of some directories: the first that is there."""

    def __init__(
        self, system: str, url: str, *, places: tuple[str, ...] = ("",), pattern: str = "*"
    ) -> None:
        """Checks the URL; opens nothing.

        Args:
            system: whose option it is, for messages.
            url: ``file:///directory``.
            places: sub-directories that may hold the files.
            pattern: a glob for the files, from such a place.

        Raises:
            ConfigurationError: the URL doesn't name a directory.
        """
        parts = urlsplit(url)
        if parts.netloc not in ("", "localhost") or not parts.path.strip("/"):
            raise ConfigurationError(
                f"{system}: a file:// URL needs an absolute path, with three slashes, such as"
                " file:///var/lib/app/sessions"
            )
        self._root = Path(unquote(parts.path))
        self._places = places
        self._pattern = pattern

    def _directory(self) -> Path:
        for place in self._places:
            directory = self._root / place
            if directory.is_dir():
                return directory
        # It may have been unmounted: that is not "no such session".
        raise StoreError("the old sessions' directory isn't there", operation="load")

    def read(self, name: str) -> OldRecord | None:
        with _asking("directory", "load"):
            try:
                descriptor = os.open(self._directory() / name, os.O_RDONLY | _NO_TRAPS)
            except OSError as error:
                if error.errno in _NO_FILE:
                    return None
                raise
            try:
                about = os.fstat(descriptor)
                if not stat.S_ISREG(about.st_mode):
                    return None
                with open(descriptor, "rb", closefd=False) as file:
                    return OldRecord(file.read(_READ), None, about.st_mtime)
            finally:
                os.close(descriptor)

    def delete(self, name: str) -> None:
        with _asking("directory", "delete"):
            (self._directory() / name).unlink(missing_ok=True)

    def names(self) -> Iterator[str]:
        with _asking("directory", "keys"):
            directory = self._directory()
            for path in directory.glob(self._pattern):
                if path.is_file() and not path.is_symlink():
                    yield path.relative_to(directory).as_posix()


# Redis


class RedisRecords(Records):
    """Strings in Redis or Valkey."""

    def __init__(self, system: str, url: str, *, pattern: str) -> None:
        """Makes a client, which connects when it is first asked.

        Args:
            system: whose option it is, for messages.
            url: ``redis://host:port/0`` and the like.
            pattern: for the names of sessions, as SCAN wants it.

        Raises:
            ConfigurationError: the URL is wrong, or there is no client library.
        """
        self._client: Any = _redis_client(system, url)
        self._pattern = pattern

    def read(self, name: str) -> OldRecord | None:
        with _asking("Redis", "load"):
            try:
                data: bytes | None = self._client.get(name)
            except Exception as error:  # of any class: each client library has its own
                if str(error).startswith("WRONGTYPE"):
                    return None  # some other program's key, which is not a session of the old one
                raise
            if data is None:
                return None
            left: int = self._client.pttl(name)
            # By the server's clock, which the TTL was set by.
            seconds, microseconds = self._client.time()
        if left == _GONE:
            return None
        now = seconds + microseconds / 1e6
        expires_at = None if left == _WITHOUT_EXPIRY else now + left / 1e3
        return OldRecord(data[:_READ], expires_at)

    def delete(self, name: str) -> None:
        with _asking("Redis", "delete"):
            self._client.delete(name)

    def names(self) -> Iterator[str]:
        seen: set[bytes] = set()
        with _asking("Redis", "keys"):
            for name in self._client.scan_iter(self._pattern, count=_PAGE, _type="STRING"):
                if name not in seen:  # a scan may give a name twice
                    seen.add(name)
                    yield name.decode("utf-8", "surrogateescape")


def _redis_client(system: str, url: str) -> Any:
    from ..stores.redis.client import client_from_url  # noqa: PLC0415 # for those who need it

    try:
        return client_from_url(url, {})
    except ConfigurationError as error:
        raise ConfigurationError(f"{system}: {error}") from None


def escaped_for_scan(prefix: str) -> str:
    """A prefix with nothing in it that SCAN takes for a pattern."""
    return re.sub(r"([*?\[\]\\^-])", r"\\\1", prefix)


def check_prefix(system: str, prefix: object) -> str:
    """What the names of an old system's keys begin with.

    Raises:
        ConfigurationError: it is not a str, or can't be encoded.
    """
    if not isinstance(prefix, str) or not prefix.isascii():
        raise ConfigurationError(f"{system}: prefix is {prefix!r}; write a str of ASCII")
    return prefix


# SQL


@dataclass(frozen=True, slots=True)
class Table:
    """The columns of an old table, as SQL."""

    name: str
    key: str
    data: str
    expires: Mapping[str, str]
    """By SQLAlchemy's name of the dialect; ``""`` stands for the others."""


class SQLRecords(Records):
    """Rows of a table, through SQLAlchemy."""

    def __init__(self, system: str, url: str, table: Table) -> None:
        """Makes an engine, which connects when it is first asked.

        Args:
            system: whose option it is, for messages.
            url: SQLAlchemy's.
            table: where the records are.

        Raises:
            ConfigurationError: the URL is wrong, or SQLAlchemy or the driver isn't installed.
        """
        self._alchemy: Any = _sqlalchemy(system)
        self._engine: Any = _engine(system, self._alchemy, url)
        expires = table.expires.get(self._engine.dialect.name, table.expires[""])
        database = self._alchemy.engine.make_url(url).database
        self._where = f"; asked for {table.name} in {database!r}"
        self._select = f"SELECT {table.data}, {expires} FROM {table.name} WHERE {table.key} = :name"  # noqa: S608 # constants of this package
        self._delete = f"DELETE FROM {table.name} WHERE {table.key} = :name"  # noqa: S608 # constants of this package
        self._names = f"SELECT {table.key} FROM {table.name}"  # noqa: S608 # constants of this package

    def read(self, name: str) -> OldRecord | None:
        with _asking("database", "load", self._where), self._engine.connect() as connection:
            row = connection.execute(self._alchemy.text(self._select), {"name": name}).first()
            if row is None:
                return None
            data, expires = row
            raw = data.encode("utf-8", "surrogatepass") if isinstance(data, str) else bytes(data)
            return OldRecord(raw[:_READ], _as_utc(expires))

    def delete(self, name: str) -> None:
        with _asking("database", "delete", self._where), self._engine.begin() as connection:
            connection.execute(self._alchemy.text(self._delete), {"name": name})

    def names(self) -> Iterator[str]:
        with _asking("database", "keys", self._where), self._engine.connect() as connection:
            names = connection.execute(self._alchemy.text(self._names)).scalars().all()
        yield from names


def _as_utc(moment: object) -> float | None:
    """UNIX seconds of what a driver gives for a time; without a zone it is UTC."""
    if isinstance(moment, str):
        moment = datetime.fromisoformat(moment)
    if not isinstance(moment, datetime):
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


_DRIVERS = {"postgresql": "psycopg", "mysql": "pymysql", "mariadb": "pymysql"}
_SQLITE = frozenset({"sqlite", "sqlite+pysqlite"})
_CONNECT: dict[str, dict[str, Any]] = {
    "psycopg": {"connect_timeout": _SECONDS},
    "pymysql": {"connect_timeout": _SECONDS, "read_timeout": _SECONDS},
}


def _sqlalchemy(system: str) -> Any:
    try:
        return importlib.import_module("sqlalchemy")
    except ImportError:
        raise ConfigurationError(
            f"{system}: a database's URL needs SQLAlchemy; run pip install 'wsgi-sessions[sql]',"
            " or [postgresql] or [mysql], which also bring the driver"
        ) from None


def _engine(system: str, alchemy: Any, url: str) -> Any:
    try:
        parts = alchemy.engine.make_url(url)
        if "+" not in parts.drivername and parts.drivername in _DRIVERS:
            parts = parts.set(drivername=f"{parts.drivername}+{_DRIVERS[parts.drivername]}")
        if parts.drivername in _SQLITE and parts.database and "uri" not in parts.query:
            # SQLite would make the file of a path that was mistyped.
            parts = parts.set(database=f"file:{quote(parts.database)}").update_query_dict(
                {"mode": "rw", "uri": "true"}
            )
        return alchemy.create_engine(
            parts,
            poolclass=alchemy.pool.NullPool,
            hide_parameters=True,
            connect_args=_CONNECT.get(parts.drivername.partition("+")[2], {}),
        )
    except ImportError as error:
        raise ConfigurationError(
            f"{system}: this database's driver isn't installed ({error.name}); run"
            " pip install 'wsgi-sessions[postgresql]' or 'wsgi-sessions[mysql]'"
        ) from None
    except Exception as error:  # noqa: BLE001 # SQLAlchemy's, or a ValueError of a bad port
        raise ConfigurationError(
            f"{system}: SQLAlchemy can't make an engine of this URL ({type(error).__name__}); write"
            " postgresql://user:password@host/database or sqlite:////path, with special characters"
            " percent-encoded"
        ) from None
