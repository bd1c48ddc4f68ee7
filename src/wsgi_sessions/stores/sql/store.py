"""SQLStore: one row for each session, and each call one statement, or one short transaction.

What can happen at the same time, and why it comes out right: a call changes one row, found by its
primary key, so it waits for one lock at most and holds none while it waits; a purge takes many, but
only those that nobody holds (``SKIP LOCKED``). So calls never wait for each other in a
circle. Whether an update may be done is decided by the statement's own WHERE, and under the locks
of the row the database looks at it again. Where a server's isolation level makes it give up
instead, it has undone all of the call, which is then done again.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import math
import operator
import sys
import time
from collections.abc import Generator, Iterator
from functools import partial
from typing import Any, Final, Self, cast

import sqlalchemy as sa

from ..._options import check_flag, checked_options
from ...errors import StoreError
from ...record import UNCHANGED, Changes, Record, UpdateResult, apply_changes, is_key
from ..base import Store
from ..packing import as_bytes, as_use, check_new_key, deadline
from .connections import Database
from .failures import Kind
from .fields import ENCODING, ByteArrays, FieldsFormat, JSONObject, PackedBytes
from .schema import DEFAULT_TABLE, check_name, ddl, has_table, missing, sessions_table
from .statements import Shape, Statements
from .urls import (
    check_engine,
    engine_from_url,
    open_existing,
    own_file,
    sqlite_path,
    take_table,
)

logger: logging.Logger = logging.getLogger("wsgi_sessions")

CALLS_PER_TIDYING: Final = 50
"""Every so many calls, one looks for expired rows, …"""
ROWS_PER_TIDYING: Final = 100
"""… and removes up to so many: more than the calls in between can have made."""
ROWS_PER_BATCH: Final = 500
"""How many rows a purge, a listing and clearing handle in one statement."""

_FORMATS: Final[dict[str, type[FieldsFormat]]] = {
    "postgresql": ByteArrays,
    "mysql": JSONObject,
    "mariadb": JSONObject,
    "sqlite": PackedBytes,
}
_UNREADABLE = ValueError, TypeError, AttributeError, RecursionError
"""What a row raises that isn't one of ours."""
_FOREVER = sys.float_info.max
"""Stands for infinity, which MySQL's DOUBLE doesn't have."""


@checked_options
class SQLStore(Store):
    """Keeps sessions in PostgreSQL, MariaDB, MySQL or SQLite.

    Args:
        engine: of SQLAlchemy 2, used only by this store: its connections are set to autocommit.
        table: the name of the table, or ``schema.name``.
        create: create the table and its index if they are missing. False: a missing one is a
            StoreError at the first call, and nothing is changed until something is written.

    Raises:
        ConfigurationError: the engine can't be used, or the name needs quoting.
        StoreError: the table has another layout, or can't be made; or there is no such SQLite file
            and ``create`` is False. A database that can't be reached is an error at the first call.
    """

    metadata: sa.MetaData = sessions_table(DEFAULT_TABLE, sa.MetaData()).metadata
    """Of the table: with the default name on the class, with this store's on the store."""

    def __init__(
        self, engine: sa.Engine, *, table: str = DEFAULT_TABLE, create: bool = True
    ) -> None:
        check_flag("SQLStore", "create", create)
        self.engine: sa.Engine = check_engine(engine)
        """The engine."""
        self.metadata = sa.MetaData()
        self.table: sa.Table = sessions_table(check_name(table), self.metadata)
        """The table."""
        self._create = create
        self._is_prepared = False
        path = None
        if self.engine.dialect.name == "sqlite":
            path = sqlite_path(self.engine.url)
            open_existing(self.engine)
        self.database: Database = Database(self.engine, self.table, path, only_looks=not create)
        """The connections."""
        self._format = _FORMATS[self.engine.dialect.name]()
        self._statements = Statements(self.table, self.engine.dialect, self._format)
        self._calls = itertools.count(1)
        self._read_at = self._written_at = -math.inf
        self._make_file()
        try:
            if create and self.database.is_reachable():
                self._prepare()
        except StoreError:
            self.close()
            raise
        if path is not None:
            self.close()  # uWSGI forks without a word to Python: see the module `forks`

    def __repr__(self) -> str:
        return f"SQLStore({self.engine.dialect.name}, table={self.table.fullname!r})"

    @classmethod
    def from_url(cls, url: str, *, table: str | None = None, create: bool = True) -> Self:
        """A store with an engine of its own, which never waits longer than seconds.

        Args:
            url: ``postgresql://user:password@host/db``, ``mysql://…``, ``mariadb://…`` or
                ``sqlite:////absolute/path``. Without a driver: psycopg 3, PyMySQL, sqlite3.
            table: as for the class; None: what the URL's query says (``?table=shop_sessions``), or
                ``wsgi_sessions``.
            create: as for the class.

        Raises:
            ConfigurationError: the URL doesn't name such a database, the table is another in the
                URL, or the driver isn't installed.
            StoreError: as for the class.
        """
        url, name = take_table(url, table)
        return cls(engine_from_url(url), table=name, create=create)

    def schema(self) -> str:
        """The DDL of table and index, as a script. Doesn't connect to the database."""
        return ddl(self.table, self.engine.dialect)

    def count_expired(self, now: float) -> int:
        """How many rows have expired and are still there.

        Raises:
            StoreError: the database doesn't answer.
        """

        def work(cursor: Any) -> Any:
            return self._statements.count_due.on(cursor, {"now": now}).fetchone()[0]

        return cast("int", self._run("count_expired", work, is_read=True))

    def load(self, key: str) -> Record | None:
        if not is_key(key):
            return None

        def work(cursor: Any) -> Any:
            return self._statements.load.on(cursor, {"at": bytes.fromhex(key)}).fetchone()

        row = self._run("load", work, is_read=True)
        record = None
        if row is not None:
            try:
                record = self._record(row)
            except _UNREADABLE as error:
                self._notify("corrupt_record", key, f"the row can't be read: {error}")
        if record is not None:
            # Another server's clock may be wrong; ours is right, or all is lost anyway.
            self._read_at = max(self._read_at, min(record.used_at, time.time()))
        self._tidy()
        return record

    def insert(self, key: str, record: Record) -> bool:
        check_new_key(key, "insert")
        with _refusing("insert"):
            values = {"new_key": bytes.fromhex(key), **self._values(record)}

        def work(cursor: Any) -> int:
            return self._changed(self._statements.insert.on(cursor, values))

        inserted = self._run("insert", work, expected=Kind.DUPLICATE)
        self._written_at = record.used_at
        self._tidy()
        return inserted is not Kind.DUPLICATE and bool(inserted)

    def update(
        self,
        key: str,
        changes: Changes,
        *,
        if_epoch: int | None = None,
        if_version: int | None = None,
    ) -> UpdateResult:
        if not is_key(key):
            return UpdateResult.GONE
        with _refusing("update"):
            values, shape = self._change(changes, if_epoch, if_version)
        values["at"] = bytes.fromhex(key)
        update = partial(self._rewrite, changes) if "fields" in shape.columns else self._update
        result = self._run("update", partial(update, shape, values), expected=Kind.DAMAGED)
        if isinstance(result, Kind):
            self._notify("corrupt_record", key, "the row's fields can't be read")
            return UpdateResult.GONE
        if changes.used_at is not None:
            self._written_at = changes.used_at
        self._tidy()
        return cast("UpdateResult", result)

    def delete(self, key: str, *, if_version: int | None = None) -> bool:
        if not is_key(key):
            return False
        if if_version is None:
            statement = self._statements.delete
        else:
            statement = self._statements.delete_version
        values = {"at": bytes.fromhex(key), "if_version": if_version}

        def work(cursor: Any) -> int:
            return self._changed(statement.on(cursor, values))

        deleted = bool(self._run("delete", work))
        self._tidy()
        return deleted

    def purge_expired(self, now: float) -> int:
        purged = 0
        while batch := self._purge_batch("purge_expired", now, ROWS_PER_BATCH):
            purged += batch
        return purged

    def keys(self) -> Iterator[str]:
        last = b""
        while True:
            values = {"at": last, "limit": ROWS_PER_BATCH}

            def work(cursor: Any, values: dict[str, Any] = values) -> list[bytes]:
                return [bytes(row[0]) for row in self._statements.keys_after.on(cursor, values)]

            found = cast("list[bytes]", self._run("keys", work, is_read=True))
            yield from map(bytes.hex, found)
            if len(found) < ROWS_PER_BATCH:
                return
            last = found[-1]

    def clear(self) -> None:
        last = b""
        while True:
            values = {"at": last, "limit": ROWS_PER_BATCH}

            def work(cursor: Any, values: dict[str, Any] = values) -> bytes | None:
                found = self._statements.keys_after.on(cursor, values).fetchall()
                if found:
                    self._statements.delete_until.on(cursor, {"at": bytes(found[-1][0])})
                    return bytes(found[-1][0])
                return None

            until = cast("bytes | None", self._run("clear", work))
            if until is None:
                return
            last = until

    def ping(self) -> None:
        def work(cursor: Any) -> None:
            cursor.execute("SELECT 1")

        self._run("ping", work, is_read=True)

    def close(self) -> None:
        self.database.close()

    def _run(
        self, operation: str, work: Any, *, is_read: bool = False, expected: Kind | None = None
    ) -> Any:
        self._prepare()
        return self.database.run(operation, work, is_read=is_read, expected=expected)

    def _prepare(self) -> None:
        if self._is_prepared:
            return
        if self._create:
            self._make_file()  # its directory may have come since
            self.database.create()
        elif not self.database.look("prepare", partial(has_table, table=self.table)):
            raise missing(self.table)
        self._is_prepared = True

    def _make_file(self) -> None:
        if self.database.path is not None:
            own_file(self.database.path, self.table, create=self._create)

    # Records and rows

    def _values(self, record: Record) -> dict[str, Any]:
        return {
            "new_fields": self._format.encode(record.fields),
            "new_notes": as_bytes(record.notes),
            "new_used_at": as_use(record.used_at),
            "new_expires_at": _kept_time(record.expires_at),
            "new_version": operator.index(record.version),
            "new_epoch": operator.index(record.epoch),
            "new_owner": _kept_owner(record.owner),
        }

    def _record(self, row: Any) -> Record:
        fields, notes, used_at, expires_at, version, epoch, owner = row
        ends = _found_time(expires_at)
        return Record(
            self._format.decode(fields),
            _found_bytes(notes),
            _found_time(used_at),
            math.inf if ends >= _FOREVER else ends,
            _found_count(version),
            _found_count(epoch),
            None if owner is None else _found_bytes(owner).decode(*ENCODING),
        )

    def _change(
        self, changes: Changes, if_epoch: int | None, if_version: int | None
    ) -> tuple[dict[str, Any], Shape]:
        given: dict[str, Any] = {}
        if changes.notes is not None:
            given["notes"] = as_bytes(changes.notes)
        if changes.used_at is not None:
            given["used_at"] = as_use(changes.used_at)
        if changes.expires_at is not None:
            given["expires_at"] = _kept_time(changes.expires_at)
        if changes.owner is not UNCHANGED:
            given["owner"] = _kept_owner(changes.owner)
        if changes.epoch is not None:
            given["epoch"] = operator.index(changes.epoch)
        names = len(changes.set) + len(changes.delete) + len(changes.keep or ())
        fields = bool(names or changes.keep is not None)
        rewrites = (
            names > self._format.most_names or len(changes.delete) > self._format.most_removed
        )
        shape = Shape(
            columns=frozenset({*given, "fields"} if rewrites else given),
            fields=fields and not rewrites,
            kept_names=self._format.kept_names(changes) if fields and not rewrites else None,
            raises_version=not changes.is_touch,
            if_live=changes.used_at is not None,
            if_epoch=if_epoch is not None,
            if_version=if_version is not None,
        )
        values = {f"new_{name}": value for name, value in given.items()}
        values |= self._format.parameters(changes) if fields else {}
        conditions = {"if_live": changes.used_at, "if_epoch": if_epoch, "if_version": if_version}
        return {**values, **conditions}, shape

    def _update(self, shape: Shape, values: dict[str, Any], cursor: Any) -> UpdateResult:
        if shape.raises_version or shape.columns:
            if self._changed(self._statements.update(shape).on(cursor, values)):
                return UpdateResult.UPDATED
            if not shape.if_version:
                return UpdateResult.GONE
        statement = self._statements.version(if_live=shape.if_live, if_epoch=shape.if_epoch)
        row = statement.on(cursor, values).fetchone()
        if row is None:
            return UpdateResult.GONE
        if shape.raises_version or shape.columns:
            # Of another version when the update looked, even if it isn't any more.
            return UpdateResult.CONFLICT
        if shape.if_version and row[0] != values["if_version"]:
            return UpdateResult.CONFLICT
        return UpdateResult.UPDATED

    def _rewrite(
        self, changes: Changes, shape: Shape, values: dict[str, Any], cursor: Any
    ) -> UpdateResult | Kind:
        """As `_update`, but with all fields as they will be: the row is locked, and read."""
        cursor.execute("BEGIN")
        row = self._statements.lock_fields.on(cursor, values).fetchone()
        result: UpdateResult | Kind = UpdateResult.GONE
        if row is not None:
            try:
                before = self._format.decode(row[0])
            except _UNREADABLE:
                result = Kind.DAMAGED
            else:
                after = self._format.encode(apply_changes(before, changes))
                result = self._update(shape, {**values, "new_fields": after}, cursor)
        cursor.execute("COMMIT")
        return result

    @staticmethod
    def _changed(cursor: Any) -> int:
        return cast("int", cursor.rowcount)

    # Expired rows

    def _tidy(self) -> None:
        """Now and then, take some expired rows away.

        As of the use that was written last, because the app's clock is what counts, and only the
        app has it; or where nothing was written since the last time, the latest use that was read.
        """
        if self.database.only_looks or next(self._calls) % CALLS_PER_TIDYING:
            return
        seen = self._read_at if self._written_at == -math.inf else self._written_at
        self._read_at = self._written_at = -math.inf
        if seen == -math.inf:
            return
        try:
            self._purge_batch("purge_expired", seen, ROWS_PER_TIDYING)
        except StoreError as error:
            logger.warning("expired sessions stay in the database for now: %s", error)

    def _purge_batch(self, operation: str, now: float, rows: int) -> int:
        values = {"now": _kept_time(now), "limit": rows}
        return cast("int", self._run(operation, partial(self._purge, values)))

    def _purge(self, values: dict[str, Any], cursor: Any) -> int:
        if self._statements.any_due.on(cursor, values).fetchone() is None:
            return 0
        if self.engine.dialect.name in ("postgresql", "sqlite"):
            return self._changed(self._statements.delete_due.on(cursor, values))
        cursor.execute("BEGIN")
        keys = [row[0] for row in self._statements.lock_due.on(cursor, values).fetchall()]
        if keys:
            cursor.execute(self._statements.delete_keys(len(keys)), keys)
        cursor.execute("COMMIT")
        return len(keys)


@contextlib.contextmanager
def _refusing(operation: str) -> Generator[None]:
    """Refuse what is of the wrong type, without showing any of it."""
    try:
        yield
    except (AttributeError, TypeError, UnicodeError) as error:
        problem = type(error).__name__
    else:
        return
    raise StoreError(
        f"a part of the record can't be kept, as it is of the wrong type ({problem})",
        operation=operation,
    )


def _kept_time(moment: float) -> float:
    return max(-_FOREVER, min(_FOREVER, float(deadline(moment))))


# SQLite keeps a value of any type in any column, and `bytes` makes zeros of a number.


def _found_bytes(value: object) -> bytes:
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value)  # pyright: ignore[reportUnknownArgumentType] # of what a view is
    raise ValueError(f"not bytes but {type(value).__name__}")


def _found_time(value: object) -> float:
    if isinstance(value, (int, float)) and value == value:  # noqa: PLR0124 # NaN
        return float(value)
    raise ValueError("a time is not a number")


def _found_count(value: object) -> int:
    if isinstance(value, int) and value >= 0:
        return value
    raise ValueError("a version or an epoch is not a whole number")


def _kept_owner(owner: str | None) -> bytes | None:
    return None if owner is None else owner.encode(*ENCODING)
