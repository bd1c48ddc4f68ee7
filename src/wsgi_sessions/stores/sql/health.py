"""What the doctor looks at in a SQL database: table, index, overdue rows, clock and time zone.

It changes nothing and reads no session. Each finding is a check's name, ``"ok"``, ``"warning"`` or
``"error"``, and a text for humans; the doctor makes its own findings of them.
"""

from __future__ import annotations

import re
import sqlite3
import stat
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, Final, cast

import sqlalchemy as sa

from ...errors import StoreError
from .schema import has_index, has_table, index_name, missing, where_its_ddl_is
from .store import SQLStore

Found = tuple[str, str, str]

OVERDUE_ROWS: Final = 10_000
"""More than requests take away by themselves soon."""
CLOCK_SECONDS: Final = 5.0

_OLDEST: Final = {
    "PostgreSQL": (13, 0),
    "MariaDB": (10, 6),
    "MySQL": (8, 0),
    "SQLite": (3, 35),
}


def examine(store: SQLStore, now: float | None = None) -> Iterator[Found]:
    """All that can be said of the database of this store, which has answered a ping.

    Args:
        store: that is looked at.
        now: UNIX seconds; None asks this machine's clock.

    Raises:
        StoreError: the database doesn't answer any more.
    """
    database = store.database
    now = time.time() if now is None else now
    yield _version(database.look("doctor", _server_version))
    try:
        if not database.look("doctor", partial(has_table, table=store.table)):
            raise missing(store.table)
    except StoreError as error:
        yield "table", "error", str(error)
        return
    yield "table", "ok", f"the table {store.table.fullname} is as it should be"
    yield _index(store)
    yield _overdue(store.count_expired(now))
    if database.path is not None:
        yield from _file(store, database.path)
    else:
        yield _clock(*database.look("doctor", _server_clock), time.time())


def _server_version(connection: sa.Connection) -> tuple[str, str]:
    if connection.dialect.name == "sqlite":
        return "SQLite", sqlite3.sqlite_version
    if connection.dialect.name == "postgresql":
        return "PostgreSQL", cast("str", connection.scalar(sa.text("SHOW server_version")))
    text = cast("str", connection.scalar(sa.text("SELECT VERSION()")))
    return "MariaDB" if "mariadb" in text.lower() else "MySQL", text


def _version(server: tuple[str, str]) -> Found:
    name, text = server
    numbers = (*(int(number) for number in re.findall(r"\d+", text)[:2]), 0, 0)[:2]
    if numbers < _OLDEST[name]:
        wanted = ".".join(map(str, _OLDEST[name]))
        return "version", "error", f"{name} {text} is too old; {wanted} is needed"
    return "version", "ok", f"{name} {text}"


def _index(store: SQLStore) -> Found:
    if store.database.look("doctor", partial(has_index, table=store.table)):
        return "index", "ok", "expired rows are found by an index"
    return (
        "index",
        "error",
        (
            f"there is no index {index_name(store.table)}, so that looking for expired rows reads"
            f" the whole table; run {where_its_ddl_is(store.table)} for it"
        ),
    )


def _overdue(rows: int) -> Found:
    if rows > OVERDUE_ROWS:
        return (
            "overdue",
            "warning",
            (
                f"{rows} expired rows are still there; requests take them away little by little,"
                " and `wsgi-sessions --store URL purge` at once"
            ),
        )
    return "overdue", "ok", f"expired rows waiting to be removed: {rows}"


def _server_clock(connection: sa.Connection) -> tuple[float, str]:
    if connection.dialect.name == "postgresql":
        clock = "SELECT extract(epoch FROM clock_timestamp()), current_setting('TimeZone')"
    else:
        clock = "SELECT UNIX_TIMESTAMP(NOW(6)), @@time_zone"
    row = connection.execute(sa.text(clock)).one()
    return float(row[0]), str(row[1])


def _clock(server: float, zone: str, here: float) -> Found:
    difference = abs(here - server)
    if difference > CLOCK_SECONDS:
        return (
            "clock",
            "warning",
            (
                f"the server's clock is {difference:.0f} s off from this machine's; run NTP on both"
                " (sessions go by the apps' clocks)"
            ),
        )
    return (
        "clock",
        "ok",
        f"the clocks agree; the server's time zone is {zone}, and no time in the table needs it",
    )


def _permissions(path: Path) -> Found:
    if stat.S_IMODE(path.stat().st_mode) & 0o077:
        return "permissions", "error", f"others can read {path}; run chmod go= on it"
    return "permissions", "ok", "nobody else can read or write the file"


def _file(store: SQLStore, path: Path) -> Iterator[Found]:
    # On Windows the mode says nothing; a directory's access list holds for what is in it.
    if sys.platform != "win32":
        yield _permissions(path)

    def journal_mode(connection: sa.Connection) -> Any:
        return connection.scalar(sa.text("PRAGMA journal_mode"))

    journal = store.database.look("doctor", journal_mode)
    if journal == "wal":
        yield "journal", "ok", "readers and writers don't wait for each other"
    else:
        yield (
            "journal",
            "warning",
            (
                f"journal_mode is {journal}, so that readers and writers wait for each other; the"
                " app's next write sets it to wal, unless the file lies where SQLite can't use"
                " that, such as a network's file system"
            ),
        )
