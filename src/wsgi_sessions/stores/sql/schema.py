"""The table: its columns in each database, its DDL as text, and whether one that is there fits.

Every time is in UNIX seconds, so no database's time zone matters; every text of the app's is kept
as bytes, so no collation and no character set do either.
"""

from __future__ import annotations

import re
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects import mysql, postgresql
from sqlalchemy.exc import NoSuchTableError
from sqlalchemy.schema import CreateIndex, CreateTable

from ...errors import ConfigurationError, StoreError

DEFAULT_TABLE: Final = "wsgi_sessions"

_NAME = re.compile(r"(?:[A-Za-z_][A-Za-z0-9_]{0,50}\.)?[A-Za-z_][A-Za-z0-9_]{0,50}", re.ASCII)
_MYSQL = "mysql", "mariadb"

_KEY = sa.LargeBinary(32).with_variant(mysql.BINARY(32), *_MYSQL)
_SECONDS: sa.types.TypeEngine[float] = sa.Double()
_BYTES = sa.LargeBinary().with_variant(mysql.LONGBLOB(), *_MYSQL)
# How the fields are kept, and why, is explained in the module of that name.
_FIELDS = (
    sa.LargeBinary()
    .with_variant(postgresql.ARRAY(postgresql.BYTEA()), "postgresql")
    .with_variant(mysql.JSON(), *_MYSQL)
)


def check_name(name: object) -> str:
    """The name of a table, if it is one that needs no quoting anywhere.

    Raises:
        ConfigurationError: it isn't.
    """
    if isinstance(name, str) and _NAME.fullmatch(name):
        return name
    raise ConfigurationError(
        f"SQLStore: table is {name!r}; write letters, digits and _, up to 51 of them, not"
        " beginning with a digit, if need be after the name of a schema and a dot"
    )


def sessions_table(name: str, metadata: sa.MetaData) -> sa.Table:
    """The table of this name (or ``schema.name``), one row for each session."""
    schema, _, plain = name.rpartition(".")
    table = sa.Table(
        plain,
        metadata,
        sa.Column("key", _KEY, primary_key=True),
        sa.Column("fields", _FIELDS, nullable=False),
        sa.Column("notes", _BYTES, nullable=False),
        sa.Column("used_at", _SECONDS, nullable=False),
        sa.Column("expires_at", _SECONDS, nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False, autoincrement=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False, autoincrement=False),
        sa.Column("owner", _BYTES, nullable=True),
        schema=schema or None,
        mysql_engine="InnoDB",
        mysql_charset="utf8mb4",
        mariadb_engine="InnoDB",
        mariadb_charset="utf8mb4",
    )
    sa.Index(index_name(table), table.c.expires_at)
    return table


def index_name(table: sa.Table) -> str:
    """The name of the index by which purges find what has expired."""
    return f"{table.name}_expires_at"


def ddl(table: sa.Table, dialect: sa.Dialect) -> str:
    """The statements that make the table and its index, as a script."""
    made: list[sa.DDLElement] = [CreateTable(table), *map(CreateIndex, table.indexes)]
    return "".join(f"{str(each.compile(dialect=dialect)).strip()};\n" for each in made)


def create_missing(connection: sa.Connection, table: sa.Table) -> None:
    """Make the table and its index where there are none, in the transaction of this connection."""
    table.create(connection, checkfirst=True)
    if not has_index(connection, table):
        for index in table.indexes:
            index.create(connection)


def has_table(connection: sa.Connection, table: sa.Table) -> bool:
    """Whether there is a table of this name.

    Raises:
        StoreError: there is, and it isn't ours; says what is wrong and what to run.
    """
    inspector, dialect = sa.inspect(connection), connection.dialect
    place = table.name, table.schema
    if not inspector.has_table(*place):
        return False
    try:
        found = {column["name"]: column["type"] for column in inspector.get_columns(*place)}
        key = inspector.get_pk_constraint(*place)["constrained_columns"]
    except NoSuchTableError:
        # SQLite finds tables by their names in any letter case, and describes them in one.
        raise StoreError(
            f"the database's table {table.fullname} has its name in other upper and lower case;"
            " write it in table= as it is there, or give another name",
            operation="prepare",
        ) from None
    wrong = sorted(found.keys() ^ table.columns.keys())
    wrong += [
        name
        for name, column in table.columns.items()
        if name in found and _kind(found[name], dialect) != _kind(_in(dialect, column), dialect)
    ]
    if key != ["key"]:
        wrong.append("the primary key")
    if wrong:
        raise other_layout(table, ", ".join(wrong))
    return True


def has_index(connection: sa.Connection, table: sa.Table) -> bool:
    """Whether the table has the index by which purges find what has expired."""
    indexes = sa.inspect(connection).get_indexes(table.name, table.schema)
    return index_name(table) in {index["name"] for index in indexes}


def missing(table: sa.Table, operation: str = "prepare", what: str = "") -> StoreError:
    """The error for a table that isn't there, or for ``what`` it would be in."""
    what = what or f"no table {table.fullname} in the database"
    return StoreError(
        f"there is {what}; run {where_its_ddl_is(table)}, or start the app anew with create=True",
        operation=operation,
    )


def other_layout(table: sa.Table, what: str, operation: str = "prepare") -> StoreError:
    """The error for a table that has our name and isn't ours."""
    return StoreError(
        f"the table {table.fullname} has another layout than SQLStore's ({what}); give another"
        f" name with table=, or change it into {where_its_ddl_is(table)}",
        operation=operation,
    )


def where_its_ddl_is(table: sa.Table) -> str:
    """For messages: what gives the statements that make the table and its index."""
    url = "URL" if table.fullname == DEFAULT_TABLE else f"'URL?table={table.fullname}'"
    return f"what `wsgi-sessions --store {url} schema` prints"


def _in(dialect: sa.Dialect, column: sa.Column[Any]) -> sa.types.TypeEngine[Any]:
    if column.type is _SECONDS:
        return _SECONDS  # a driver's own class for it may be one for decimals
    return column.type.dialect_impl(dialect)


def _kind(kept_as: sa.types.TypeEngine[Any], dialect: sa.Dialect) -> str:
    # MariaDB's JSON is a LONGTEXT with a constraint; a BINARY, BYTEA or BLOB holds the same.
    match kept_as:
        case sa.ARRAY():
            return "array"
        case sa.LargeBinary() | sa.BINARY() | sa.VARBINARY() | mysql.LONGBLOB():
            return "bytes"
        case sa.JSON() | mysql.LONGTEXT():
            return "text"
        case sa.Integer():
            return "integer"
        case sa.REAL() | sa.FLOAT() if dialect.name != "sqlite":
            return "single"  # good to a minute, for times; all of SQLite's are double
        case sa.Float():
            return "float"
        case _:
            return type(kept_as).__name__
