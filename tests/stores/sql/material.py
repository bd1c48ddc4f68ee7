"""What the tests of SQLStore share."""

from __future__ import annotations

import contextlib
import secrets
import time
import traceback
from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa

from wsgi_sessions.record import Changes, Record
from wsgi_sessions.stores import SQLStore

SECRET = "correct-horse"
"""The password in the URLs of the servers."""
VALUE = b"battery-staple"
"""What must not be shown."""


def a_key() -> str:
    return secrets.token_hex(32)


def a_record(**changed: Any) -> Record:
    """A live record that was used now, but for what is named."""
    now = time.time()
    values: dict[str, Any] = {"fields": {"a": b"1"}, "notes": b"", "used_at": now}
    return Record(**{**values, "expires_at": now + 1000, **changed})


def overdue(**changed: Any) -> Record:
    now = time.time()
    return a_record(used_at=now - 100, expires_at=now - 50, **changed)


def a_touch() -> Changes:
    now = time.time()
    return Changes(used_at=now, expires_at=now + 1000)


@contextlib.contextmanager
def outside(store: SQLStore) -> Iterator[sa.Connection]:
    """A connection of somebody else's, which commits by itself."""
    engine = engine_of(store)
    with engine.connect() as connection:
        yield connection


def engine_of(store: SQLStore) -> sa.Engine:
    url = store.engine.url
    return sa.create_engine(url, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)


def engine_at(url: sa.URL, level: str, **options: Any) -> sa.Engine:
    """An engine of the app's, with an isolation level that isn't the default."""
    if url.get_backend_name() == "postgresql":
        # It takes the level of a statement by itself from a default, as a role can have.
        default = level.replace(" ", r"\ ")
        options["connect_args"] = {"options": f"-c default_transaction_isolation={default}"}
    return sa.create_engine(url, isolation_level=level, **options)


OPENED: list[SQLStore] = []
"""What is to be closed after each test."""


def opened(url: str, **options: Any) -> SQLStore:
    """A store that is closed after the test."""
    OPENED.append(SQLStore.from_url(url, **options))
    return OPENED[-1]


def fresh(store: SQLStore, **options: Any) -> SQLStore:
    """Another store on the same table."""
    url = store.engine.url.render_as_string(hide_password=False)
    return opened(url, table=store.table.name, **options)


def run_ddl(connection: sa.Connection, script: str) -> None:
    for statement in script.split(";\n"):
        if statement.strip():
            connection.exec_driver_sql(statement)


def everything_shown(error: BaseException) -> str:
    """All that whoever logs this error could log, chained errors included."""
    shown = "".join(traceback.format_exception(error))
    seen: set[int] = set()
    todo: list[BaseException | None] = [error]
    while todo:
        each = todo.pop()
        if each is not None and id(each) not in seen:
            seen.add(id(each))
            shown += repr(each) + str(each)
            todo += [each.__cause__, each.__context__]
    return shown
