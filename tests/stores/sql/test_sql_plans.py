"""A million rows cost a request what a thousand do: plans in the suite, times in a long run."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from typing import Any

import pytest

import databases
import servers
from effort import tries
from stores.sql.material import a_key, a_record, opened, outside
from wsgi_sessions.record import Changes
from wsgi_sessions.stores import SQLStore
from wsgi_sessions.stores.sql.statements import Shape
from wsgi_sessions.stores.sql.store import ROWS_PER_BATCH

ROWS = int(
    os.environ.get("WSGI_SESSIONS_SQL_ROWS", tries(test=20_000, check=20_000, everything=1_000_000))
)
"""How many rows there are; with a million, times are measured, too."""

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
    for statement in [*by_key, *by_time]:
        named = {**statement._own, **values}
        order = statement._order
        given = named if order is None else [named[name] for name in order]
        shown = plan(store, statement.sql, given)

        index = f"{store.table.name}_expires_at" if statement in by_time else None
        assert uses(shown, store.table.name, index), f"{statement.sql}\n{shown}"


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
    store.close()
    with outside(store) as connection:
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


def test_mysql_deletes_by_the_primary_key(store: SQLStore) -> None:
    if store.engine.dialect.name != "mariadb":
        pytest.skip("only MySQL locks rows first and deletes them then")
    fill(store, 30)  # so few that it would read them all
    keys = [bytes.fromhex(key) for key in list(store.keys())[:25]]

    assert "'eq_ref', 'PRIMARY'" in plan(store, store._statements.delete_keys(len(keys)), keys)


@pytest.mark.skipif(ROWS < 1_000_000, reason="takes minutes: WSGI_SESSIONS_SQL_ROWS=1000000")
def test_a_million_rows_cost_what_a_thousand_do(store: SQLStore) -> None:
    fill(store, 1000)
    few = times(store)
    store.clear()
    fill(store, ROWS)
    many = times(store)
    print(store.engine.dialect.name, {name: (few[name] * 1e6, many[name] * 1e6) for name in few})

    for name in few:
        assert many[name] < 2 * few[name] + 0.0005, name


def times(store: SQLStore) -> dict[str, float]:
    """The median seconds of each call, on rows all over the table."""
    keys = [a_key() for _ in range(300)]
    found: dict[str, list[float]] = {"insert": [], "load": [], "update": [], "purge": []}
    for key in keys:
        for name, call in (
            ("insert", lambda key=key: store.insert(key, a_record())),
            ("load", lambda key=key: store.load(key)),
            ("update", lambda key=key: store.update(key, Changes(set={"a": b"2"}, used_at=1.0))),
            (
                "purge",
                lambda: store._purge_batch("purge_expired", 1000.0, ROWS_PER_BATCH),
            ),
        ):
            began = time.perf_counter()
            call()
            found[name].append(time.perf_counter() - began)
    return {name: statistics.median(each) for name, each in found.items()}
