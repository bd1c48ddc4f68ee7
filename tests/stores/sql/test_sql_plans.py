"""A million rows cost a request what a thousand do: plans in the suite, times in a long run."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

import databases
import servers
from effort import tries
from stores.sql.material import a_key, a_record, opened, outside, overdue
from wsgi_sessions.record import Changes
from wsgi_sessions.stores import SQLStore
from wsgi_sessions.stores.sql.statements import Shape
from wsgi_sessions.stores.sql.store import ROWS_PER_BATCH

ROWS = int(
    os.environ.get("WSGI_SESSIONS_SQL_ROWS", tries(test=20_000, check=20_000, everything=1_000_000))
)
"""How many rows there are; with a million, times are printed, too (pytest -rP)."""

TIMES = 400
"""How often each call is measured."""
SHAPE = Shape(frozenset({"used_at", "expires_at"}), True, None, True, True, True, True)


def fill(store: SQLStore, rows: int) -> None:
    """Live rows, of about 300 bytes, that the database makes by itself."""
    name, kind = store.table.name, store.engine.dialect.name
    now = time.time()
    made = {
        "sqlite": f"WITH RECURSIVE s(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM s WHERE n < {rows})"
        f" INSERT INTO {name} SELECT randomblob(32), x'00000000' || zeroblob(0), zeroblob(100), {now},"
        f" {now} + n, 1, 0, NULL FROM s",
        "postgresql": f"INSERT INTO {name} SELECT sha256(n::text::bytea),"
        f" ARRAY['a'::bytea, sha256('a') || sha256('b')], sha256('c'), {now}, {now} + n, 1, 0, NULL"
        f" FROM generate_series(1, {rows}) AS s(n)",
        "mariadb": f"INSERT INTO {name} SELECT UNHEX(SHA2(seq, 256)), '{{}}', REPEAT('n', 100), {now},"
        f" {now} + seq, 1, 0, NULL FROM seq_1_to_{rows}",
    }
    with outside(store) as connection:
        connection.exec_driver_sql(made[kind])
        connection.exec_driver_sql(f"ANALYZE{' TABLE' if kind == 'mariadb' else ''} {name}")


def plan(store: SQLStore, sql: str, values: Any) -> str:
    prefix = "EXPLAIN QUERY PLAN " if store.engine.dialect.name == "sqlite" else "EXPLAIN "

    def work(cursor: Any) -> str:
        cursor.execute(prefix + sql, values)
        return "\n".join(map(str, cursor.fetchall()))

    answer = store.database.run("ping", work)
    assert isinstance(answer, str)
    return answer


def test_every_statement_finds_its_rows_by_an_index(store: SQLStore) -> None:
    fill(store, ROWS)
    index = f"{store.table.name}_expires_at"
    for sql, (by_time, shown) in plans(store).items():
        assert uses(shown, store.table.name, index if by_time else None), f"{sql}\n{shown}"


def plans(store: SQLStore) -> dict[str, tuple[bool, str]]:
    """For each statement whether it looks for rows by time, and what the database says of it."""
    statements = store._statements
    values: dict[str, Any] = {
        "at": bytes.fromhex(next(store.keys())),
        "now": time.time() - 1,
        "limit": 100,
        "if_live": 1.0,
        "if_epoch": 0,
        "if_version": 1,
        "new_used_at": 1.0,
        "new_expires_at": 2.0,
        **store._format.parameters(Changes(set={"a": b"1"})),
    }
    by_key = [statements.load, statements.delete, statements.delete_version]
    by_key += [statements.update(SHAPE), statements.version(if_live=True, if_epoch=True)]
    by_key += [statements.keys_after]
    by_time = [statements.any_due, statements.delete_due, statements.lock_due]
    if store.engine.dialect.name == "sqlite":
        by_time.remove(statements.lock_due)
    if store.engine.dialect.name == "mariadb":
        by_time.remove(statements.delete_due)
    found = {}
    for statement in [*by_key, *by_time]:
        named = {**statement._own, **values}
        order = statement._order
        given = named if order is None else [named[name] for name in order]
        found[statement.sql] = statement in by_time, plan(store, statement.sql, given)
    return found


def uses(shown: str, table: str, index: str | None) -> bool:
    """Whether no part of a plan reads the whole table, and the index is the one that is expected."""
    if "Seq Scan" in shown or "'ALL'" in shown or f"SCAN {table}'" in shown:
        return False
    keys = (f"{table}_pkey", "PRIMARY", "sqlite_autoindex")
    return index in shown if index else any(key in shown for key in keys)


def test_postgresql_reads_no_whole_table_once_statements_are_prepared(
    shared: Callable[[str], databases.DatabaseServer], table: str
) -> None:
    # After some times psycopg prepares a statement, and PostgreSQL plans it without its values.
    store = opened(shared("postgresql").default_url, table=table)
    fill(store, ROWS)
    query = f"SELECT seq_scan FROM pg_stat_user_tables WHERE relname = '{table}'"
    process = process_of(store)
    store.close()
    with outside(store) as connection:
        # It tells what it has read, for the index, when it ends.
        left = f"SELECT count(*) FROM pg_stat_activity WHERE pid = {process}"
        servers.until(
            lambda: connection.exec_driver_sql(left).scalar() == 0, what="end of the connection"
        )
        before = connection.exec_driver_sql(query).scalar()
    key = next(store.keys())
    for _ in range(40):
        store.load(key)
        store.update(key, Changes(set={"a": b"2"}, used_at=1.0), if_version=1)
        store.insert(a_key(), a_record())
        store._purge_batch("purge_expired", 1000.0, ROWS_PER_BATCH)
        store.delete(a_key())
        next(store.keys())
    store.close()
    with outside(store) as connection:

        def told() -> bool:
            used = f"SELECT idx_scan FROM pg_stat_user_tables WHERE relname = '{table}'"
            return int(connection.exec_driver_sql(used).scalar() or 0) >= 150

        servers.until(told, what="statistics of PostgreSQL's")
        assert connection.exec_driver_sql(query).scalar() == before


def process_of(store: SQLStore) -> int:
    """The server's process for the connection that is used next."""

    def work(cursor: Any) -> int:
        cursor.execute("SELECT pg_backend_pid()")
        return int(cursor.fetchone()[0])

    process = store.database.run("ping", work)
    assert isinstance(process, int)
    return process


def test_mysql_deletes_by_the_primary_key(store: SQLStore) -> None:
    if store.engine.dialect.name != "mariadb":
        pytest.skip("only MySQL locks rows first and deletes them then")
    fill(store, 30)  # so few that it would read them all
    keys = [bytes.fromhex(key) for key in list(store.keys())[:25]]

    assert "'eq_ref', 'PRIMARY'" in plan(store, store._statements.delete_keys(len(keys)), keys)


@pytest.mark.skipif(ROWS < 1_000_000, reason="takes minutes: WSGI_SESSIONS_SQL_ROWS=1000000")
def test_a_million_rows_cost_what_a_thousand_do(store: SQLStore) -> None:
    found: dict[int, dict[str, tuple[float, float]]] = {}
    for rows in (1000, ROWS):
        store.clear()
        fill(store, rows)
        found[rows] = cost(store)
    index = f"{store.table.name}_expires_at"
    for sql, (by_time, shown) in plans(store).items():
        print(f"{store.engine.dialect.name}: {sql}\n{shown}")
        assert uses(shown, store.table.name, index if by_time else None), f"{sql}\n{shown}"
    few, many = found.values()
    for name in few:
        print(
            f"{store.engine.dialect.name}: {name}: {few[name][0]:.2f} and {many[name][0]:.2f}"
            f" statements, {few[name][1] * 1e6:.0f} and {many[name][1] * 1e6:.0f} µs"
        )

    for name in few:
        # Each fiftieth call also looks for expired rows, whichever it is.
        assert many[name][0] == pytest.approx(few[name][0], abs=0.1), name


class Counting:
    """A driver's cursor that counts what it is asked."""

    def __init__(self, cursor: Any, count: Callable[[], object]) -> None:
        self._cursor = cursor
        self._count = count

    def execute(self, *arguments: Any) -> Any:
        self._count()
        return self._cursor.execute(*arguments)

    def __iter__(self) -> Any:
        return iter(self._cursor)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cursor, name)


def cost(store: SQLStore) -> dict[str, tuple[float, float]]:
    """Statements, and the median seconds, of each call, on rows all over the table."""
    asked: list[None] = []
    run = store.database.run

    def counted(operation: str, work: Any, **options: Any) -> Any:
        def counting(cursor: Any) -> Any:
            return work(Counting(cursor, partial(asked.append, None)))

        return run(operation, counting, **options)

    store.database.run = counted  # type: ignore[method-assign] # to see what goes through
    calls: dict[str, Callable[[str], object]] = {
        "insert": lambda key: store.insert(key, a_record()),
        "load": store.load,
        "change": lambda key: store.update(key, Changes(set={"a": b"2"}, used_at=1.0)),
        "touch": lambda key: store.update(key, Changes(used_at=1.0)),
        "compare and set": lambda key: store.update(
            key, Changes(set={"a": b"3"}, used_at=1.0), if_version=2
        ),
        "purge of nothing": lambda key: store._purge_batch("purge_expired", 1000.0, ROWS_PER_BATCH),
        "delete": store.delete,
        "insert of an overdue one": lambda key: store.insert(key, overdue()),
        "purge of one": lambda key: store._purge_batch("purge_expired", time.time(), 1),
    }
    statements = dict.fromkeys(calls, 0)
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(TIMES):
        key = a_key()
        for name, call in calls.items():
            asked.clear()
            began = time.perf_counter()
            call(key)
            times[name].append(time.perf_counter() - began)
            statements[name] += len(asked)
    store.database.run = run  # type: ignore[method-assign] # as before
    return {name: (statements[name] / TIMES, statistics.median(times[name])) for name in calls}
