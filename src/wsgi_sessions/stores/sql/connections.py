"""The store's own connections to the database, and how errors are handled.

Each connection commits by itself (autocommit), so that a statement is one round trip; a call that
needs more than one statement opens its transaction by hand. The pool is SQLAlchemy's.
"""

from __future__ import annotations

import contextlib
import os
import random
import select
import sqlite3
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import sqlalchemy as sa

from ...errors import StoreError
from . import forks
from .failures import Kind, describe, kind_of
from .fields import add_merge
from .schema import create_missing, has_index, has_table, missing, other_layout

T = TypeVar("T")
Work = Callable[[Any], T]
"""What is done with a driver's cursor, in autocommit; again, if the database undid it."""

PATIENCE: Final = 10.0
"""Seconds in which a call that the database undid is retried."""
ANSWER_SECONDS: Final = 5
"""How long a server may take to answer."""
LOCK_SECONDS: Final = 3
"""How long MySQL waits for a lock before it says so."""
IDLE_SECONDS: Final = 30.0
"""How long a connection may be unused before it is checked on the next use."""
_CREATE_PAUSES = 0.05, 0.1, 0.2, 0.4, 0.8
_PAUSE = 0.002
_LONGEST_PAUSE = 0.1
_READY = "wsgi_sessions.ready"
_USED = "wsgi_sessions.used_at"
_FILE = "wsgi_sessions.file"


@dataclass(frozen=True, slots=True)
class _Failure:
    """An error, without the error: what the traceback of another one may show."""

    kind: Kind
    text: str


class Database:
    """One engine, used only by one store.

    Args:
        engine: its connections are set up here.
        table: of the sessions.
        path: the file of a SQLite database, as an absolute path.
        only_looks: nothing at all may change until something is written.
    """

    def __init__(
        self,
        engine: sa.Engine,
        table: sa.Table,
        path: Path | None = None,
        *,
        only_looks: bool = False,
    ) -> None:
        self.engine = engine
        self.only_looks: bool = only_looks
        self._table = table
        self.path = path
        self.name: str = engine.dialect.name
        self._process = os.getpid()
        self._inherited: list[sa.Pool] = []
        self._call: Callable[[], contextlib.AbstractContextManager[None]] = contextlib.nullcontext
        if self.name == "sqlite":
            self._call = forks.call
            forks.close_at_fork(engine)
        # psycopg alone has both formats; bytes as text would be twice as long.
        self._cursor_options = {"binary": True} if engine.dialect.driver == "psycopg" else {}

    def run(
        self,
        operation: str,
        work: Work[T],
        *,
        is_read: bool = False,
        expected: Kind | None = None,
    ) -> T | Kind:
        """What ``work`` returns, or the kind of error that was expected.

        Args:
            operation: of the store, for the error.
            work: what to do.
            is_read: it changes nothing, so it is done once more if the connection was lost. With a
                write nobody knows whether it was carried out.
            expected: an error that is an answer.

        Raises:
            StoreError: the database didn't answer, or not in time. Chains nothing.
        """
        if self.only_looks and not is_read:
            self.only_looks = False
            self.close()  # connections are set up anew, to write
        answer = self._persist(work, is_read=is_read)
        if not isinstance(answer, _Failure):
            return answer
        if answer.kind is expected:
            return answer.kind
        raise self._error(operation, answer)

    def look(self, operation: str, work: Callable[[sa.Connection], T]) -> T:
        """What ``work`` returns, in a transaction of SQLAlchemy's: for all that is about the table.

        Raises:
            StoreError: as `run` does.
        """
        self._leave_parent()
        answer = self._look(work)
        if isinstance(answer, _Failure):
            raise self._error(operation, answer)
        return answer

    def create(self) -> None:
        """Create the table and its index where they are missing, even if others do so as well.

        Raises:
            StoreError: that isn't possible, or there is a table of another layout.
        """

        def is_complete(connection: sa.Connection) -> bool:
            return has_table(connection, self._table) and has_index(connection, self._table)

        def make(connection: sa.Connection) -> None:
            create_missing(connection, self._table)

        pauses = iter(_CREATE_PAUSES)
        while not self.look("create", is_complete):
            failure = self._look(make)
            if failure is None:
                return
            # Another worker was faster, with the table or with the index; or it isn't allowed.
            pause = next(pauses, None)
            if pause is None:
                raise self._error("create", failure)
            time.sleep(pause)

    def is_reachable(self) -> bool:
        """Whether the database answers at all."""
        return not isinstance(self._persist(lambda cursor: None, is_read=True), _Failure)

    def close(self) -> None:
        """Close all connections; new ones are made when they are needed."""
        self._leave_parent()
        with self._call():
            self.engine.dispose()

    def _error(self, operation: str, failure: _Failure) -> StoreError:
        if failure.kind is Kind.NO_TABLE:
            return missing(self._table, operation)
        if failure.kind is Kind.OTHER_LAYOUT:
            return other_layout(self._table, failure.text, operation)
        return StoreError(f"{self.name} failed ({operation}): {failure.text}", operation=operation)

    def _look(self, work: Callable[[sa.Connection], T]) -> T | _Failure:
        try:
            with self._call(), self.engine.begin() as connection:
                return work(connection)
        except StoreError:
            raise
        except Exception as error:  # noqa: BLE001 # as in _try
            cause = getattr(error, "orig", None)
            shown = cause if isinstance(cause, Exception) else error
            text = describe(shown, self.engine.url, connecting=True)
            return _Failure(kind_of(shown), text)

    def _persist(self, work: Work[T], *, is_read: bool) -> T | _Failure:
        self._leave_parent()
        until = time.monotonic() + PATIENCE
        pause = _PAUSE
        chances = 1 if is_read else 0
        while True:
            with self._call():
                answer = self._try(work)
            if not isinstance(answer, _Failure):
                return answer
            if answer.kind is Kind.LOST and chances:
                chances -= 1
            elif answer.kind is Kind.BUSY and time.monotonic() < until:
                # Others' turn: whoever was chosen to give way goes again after them.
                time.sleep(pause * random.random())  # noqa: S311 # no secret
                pause = min(2 * pause, _LONGEST_PAUSE)
            else:
                return answer

    def _try(self, work: Work[T]) -> T | _Failure:
        try:
            connection = self._connect()
        except Exception as error:  # noqa: BLE001 # drivers and pools have trees of their own
            return _Failure(Kind.AWAY, describe(error, self.engine.url, connecting=True))
        try:
            cursor = connection.cursor(**self._cursor_options)
            try:
                return work(cursor)
            finally:
                cursor.close()
        except Exception as error:  # noqa: BLE001 # any driver, any class
            return self._failed(connection, error)
        except BaseException:
            # In the midst of an answer: what comes next on this connection would be its rest.
            connection.invalidate()
            raise
        finally:
            if connection.is_valid:
                connection.info[_USED] = time.monotonic()
            connection.close()

    def _connect(self) -> sa.PoolProxiedConnection:
        while True:
            file = self._file()
            connection = self.engine.raw_connection()
            if _READY not in connection.info:
                try:
                    self._set_up(connection.driver_connection)
                except BaseException:
                    connection.invalidate()
                    connection.close()
                    raise
                connection.info[_READY] = True
                connection.info[_FILE] = file
                return connection
            if connection.info[_FILE] == file and (
                not _may_be_stale(connection) or self._answers(connection)
            ):
                return connection
            connection.invalidate()
            connection.close()

    def _file(self) -> tuple[int, int] | None:
        """What tells the file at the path of a SQLite database from all others, if there is one.

        A connection to one that was removed or replaced would go on with it, apart from others.
        """
        if self.path is None:
            return None
        try:
            found = self.path.stat()
        except OSError:
            return None  # then no connection can be made, and SQLite says why
        return found.st_dev, found.st_ino

    def _answers(self, connection: sa.PoolProxiedConnection) -> bool:
        try:
            return self.engine.dialect.do_ping(connection.dbapi_connection)  # type: ignore[arg-type] # there is one
        except Exception:  # noqa: BLE001 # whatever it is, it isn't an answer
            return False

    def _set_up(self, connection: Any) -> None:
        if self.name == "sqlite":
            _set_up_sqlite(connection)
            if not self.only_looks:
                _use_wal(connection)
        elif self.name == "postgresql":
            connection.autocommit = True
            if self.engine.dialect.driver == "psycopg":
                # By default lists go as text, in which bytes are twice as long, and quoted.
                arrays = self.engine.dialect.dbapi.types.array  # type: ignore[union-attr] # it is psycopg
                connection.adapters.register_dumper(list, arrays.ListBinaryDumper)
        else:
            connection.autocommit(True)
            # Without strictness, MySQL cuts what is too long, and says nothing.
            cursor = connection.cursor()
            cursor.execute(
                "SET SESSION sql_mode = CONCAT(@@sql_mode, ',STRICT_ALL_TABLES'),"
                f" innodb_lock_wait_timeout = {LOCK_SECONDS}"
            )
            cursor.close()

    def _failed(self, connection: sa.PoolProxiedConnection, error: Exception) -> _Failure:
        text = describe(error, self.engine.url, connecting=False)
        kind = kind_of(error)
        driver: Any = connection.dbapi_connection
        if kind is Kind.LOST or self._is_lost(error, driver):
            connection.invalidate()
            # The others of the pool were most likely lost with it.
            self.engine.dispose()
            return _Failure(Kind.LOST, text)
        if kind is Kind.DUPLICATE:
            return _Failure(kind, text)  # of a statement by itself: nothing is open
        try:
            driver.rollback()
        except Exception:  # noqa: BLE001 # then it is of no further use, and the first error tells
            connection.invalidate()
        return _Failure(kind, text)

    def _is_lost(self, error: Exception, driver: Any) -> bool:
        return self.engine.dialect.is_disconnect(error, driver, None)  # type: ignore[arg-type] # asks only for its class

    def _leave_parent(self) -> None:
        """After a fork: the parent's connections are the parent's.

        The old pool is kept, so that nothing of it is ever closed here: that could end the parent's
        session with the server. With SQLite there is nothing in it, unless C forked (see `forks`).
        """
        if self._process != os.getpid():
            self._inherited.append(self.engine.pool)
            self.engine.dispose(close=False)
            self._process = os.getpid()


def _may_be_stale(connection: sa.PoolProxiedConnection) -> bool:
    if time.monotonic() - connection.info[_USED] > IDLE_SECONDS:
        return True
    # Where nothing was asked there is nothing to read, but for a server's farewell. psycopg and
    # mysqlclient say where to listen; PyMySQL has a socket, but no name for it that is public.
    driver: Any = connection.driver_connection
    listening: Any = driver if hasattr(driver, "fileno") else getattr(driver, "_sock", None)
    return listening is not None and _is_readable(listening.fileno())


def _is_readable(descriptor: int) -> bool:
    if sys.platform == "win32":  # pragma: no cover # it has no poll
        return bool(select.select([descriptor], [], [], 0)[0])
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(0))


def _set_up_sqlite(connection: sqlite3.Connection) -> None:
    connection.isolation_level = None
    add_merge(connection)


def _use_wal(connection: sqlite3.Connection) -> None:
    try:
        # Readers and a writer don't wait for each other, and a commit needn't wait for the disk: a
        # power cut may cost the latest, never the file.
        connection.execute("PRAGMA journal_mode = WAL")
    except sqlite3.OperationalError:
        return  # busy with another connection, or not to be written: as it was will do
    connection.execute("PRAGMA synchronous = NORMAL")
