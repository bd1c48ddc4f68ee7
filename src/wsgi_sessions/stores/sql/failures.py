"""What a driver's error means, and how much of its text may be shown.

Drivers quote values: MySQL in "near '…'" and "Incorrect string value", PostgreSQL in its details.
So text is shown only where it is known to hold none, and the error itself is never chained: a
logged traceback would show what it holds.
"""

from __future__ import annotations

import enum
import os
import sqlite3
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError


class Kind(enum.Enum):
    """What can be done about an error."""

    AWAY = "away"
    """No connection was made: the database doesn't answer, or refuses."""
    LOST = "lost"
    """The connection is of no further use. It isn't known whether the statement was carried out."""
    BUSY = "busy"
    """The database undid all of it because of others' work; it can be retried."""
    DUPLICATE = "duplicate"
    DAMAGED = "damaged"
    """What a row holds can't be read."""
    NO_TABLE = "no table"
    OTHER_LAYOUT = "other layout"
    OTHER = "other"


# https://www.postgresql.org/docs/current/errcodes-appendix.html: serialization_failure,
# deadlock_detected, lock_not_available; undefined_table, invalid_schema_name; undefined_column,
# datatype_mismatch, undefined_function; the server goes down or comes up;
# read_only_sql_transaction: it may have been demoted, and another one have its address.
_POSTGRESQL: Final = {
    "40001": Kind.BUSY,
    "40P01": Kind.BUSY,
    "55P03": Kind.BUSY,
    "42P01": Kind.NO_TABLE,
    "3F000": Kind.NO_TABLE,
    "42703": Kind.OTHER_LAYOUT,
    "42804": Kind.OTHER_LAYOUT,
    "42883": Kind.OTHER_LAYOUT,
    "57P01": Kind.LOST,
    "57P02": Kind.LOST,
    "57P03": Kind.LOST,
    "25006": Kind.LOST,
}
# Classes of errors whose primary message is about the server, its objects and its rights.
_POSTGRESQL_SHOWN: Final = frozenset(
    {"08", "0A", "25", "28", "3D", "3F", "40", "42", "53", "54", "55", "57", "58"}
)
_POSTGRESQL_SYNTAX_ERROR: Final = "42601"  # quotes what is near it
# https://mariadb.com/kb/en/mariadb-error-codes/: deadlock, lock wait timeout, changed since it was
# read (innodb_snapshot_isolation); no such table; unknown column; the server, its engine or the
# session is read-only, as above.
_MYSQL: Final = {
    1213: Kind.BUSY,
    1205: Kind.BUSY,
    1020: Kind.BUSY,
    1062: Kind.DUPLICATE,
    1146: Kind.NO_TABLE,
    1054: Kind.OTHER_LAYOUT,
    1290: Kind.LOST,
    1836: Kind.LOST,
    1792: Kind.LOST,
}
# Too many connections, access denied, no such database, shutting down, rights, read-only, disk
# full, no such table or column, packet too large; and the client's own on reaching the server.
_MYSQL_SHOWN: Final = frozenset(
    {1020, 1021, 1040, 1044, 1045, 1049, 1053, 1054, 1114, 1130, 1142, 1143, 1146, 1153, 1203}
    | {1205, 1213, 1226, 1290, 1698, 1792, 1836, 2002, 2003, 2005, 2006, 2013, 2026, 2059}
)
# https://www.sqlite.org/rescode.html
_SQLITE_FILE: Final = {sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY}
"""The file, or one of those that SQLite makes beside it, can't be opened or written."""


def kind_of(error: Exception) -> Kind:
    """What can be done about a driver's error; of most lost connections only the driver knows."""
    code = _code(error)
    if isinstance(error, sqlite3.Error):
        text = str(error)
        if "no such table" in text:
            return Kind.NO_TABLE
        if "no such column" in text or "has no column" in text:
            return Kind.OTHER_LAYOUT
        if code == sqlite3.SQLITE_CONSTRAINT_NOTNULL:
            return Kind.DAMAGED  # see fields.py: NULL stands for what can't be merged
        # SQLite itself waits for others. A connection that was made while the file could only be
        # read stays so.
        return Kind.LOST if code & 0xFF == sqlite3.SQLITE_READONLY else Kind.OTHER
    if isinstance(code, str):
        return _POSTGRESQL.get(code, Kind.OTHER)
    return _MYSQL.get(code, Kind.OTHER)


def describe(error: Exception, url: sa.URL, *, connecting: bool) -> str:
    """The error in one line, without values and without the URL's password."""
    code = _code(error)
    name = type(error).__name__
    shown: object = None
    if isinstance(error, (sqlite3.Error, SQLAlchemyError)):
        shown = error  # they name constraints, tables and settings
        if isinstance(error, sqlite3.Error) and code & 0xFF in _SQLITE_FILE:
            shown = f"{error}; {_file_hint(url)}"
    elif isinstance(code, str):
        name = f"{name} {code}"
        if code[:2] in _POSTGRESQL_SHOWN and code != _POSTGRESQL_SYNTAX_ERROR:
            shown = _primary(error)
    elif code:
        name = f"{name} {code}"
        if code in _MYSQL_SHOWN:
            shown = error.args[1] if len(error.args) > 1 else None
    elif connecting or name == "OperationalError":
        # Only the credentials were sent so far; or the client's library says that it lost contact.
        shown = error
    if shown is None:
        return name
    return _without_password(f"{name}: {' '.join(str(shown).split())}", url)


def _file_hint(url: sa.URL) -> str:
    # A server that starts as one user and serves as another makes the file as the first.
    user = f"user {os.geteuid()}" if hasattr(os, "geteuid") else "this process"
    return (
        f"{url.database} and its directory must be there (the app makes the file when it starts),"
        f" and {user} be able to write to both"
    )


def _code(error: Exception) -> Any:
    """SQLSTATE of PostgreSQL's drivers; the number of SQLite's and MySQL's; 0: there is none."""
    if isinstance(error, sqlite3.Error):
        return getattr(error, "sqlite_errorcode", 0)
    first: object = error.args[0] if error.args else None
    if isinstance(first, int):
        return first
    return getattr(error, "sqlstate", None) or getattr(error, "pgcode", None) or 0


def _primary(error: Exception) -> object:
    diagnosis: Any = getattr(error, "diag", None)
    return getattr(diagnosis, "message_primary", None)


def _without_password(text: str, url: sa.URL) -> str:
    password = url.password
    return text.replace(str(password), "***") if password else text
