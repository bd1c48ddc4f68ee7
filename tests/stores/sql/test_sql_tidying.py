"""Expired rows go by themselves, a bounded number now and then, and nothing live ever does."""

from __future__ import annotations

import logging
import time
from typing import Any

import pytest

import databases
from stores.sql.material import a_key, a_record, a_touch, fresh, opened, outside, overdue
from wsgi_sessions.record import Changes, Record, UpdateResult
from wsgi_sessions.stores import SQLStore
from wsgi_sessions.stores.sql.store import CALLS_PER_TIDYING, ROWS_PER_BATCH, ROWS_PER_TIDYING


def rows(store: SQLStore) -> int:
    with outside(store) as connection:
        found = connection.exec_driver_sql(f"SELECT count(*) FROM {store.table.name}").scalar()
    assert isinstance(found, int)
    return found


def fill(store: SQLStore, count: int) -> None:
    """Overdue rows, without a word to the store, which would begin to tidy."""
    statements = store._statements

    def insert(cursor: Any) -> None:
        for _ in range(count):
            statements.insert.on(
                cursor, {**store._values(overdue()), "new_key": bytes.fromhex(a_key())}
            )

    store.database.run("insert", insert)


def test_300_overdue_rows_go_within_1000_requests(store: SQLStore) -> None:
    key = a_key()
    store.insert(key, a_record())
    fill(store, 300)
    for number in range(500):
        store.load(key)
        store.update(key, Changes(set={"a": b"%d" % number}))

    assert rows(store) == 1
    assert store.load(key) is not None


def test_reading_alone_tidies_too(store: SQLStore) -> None:
    key = a_key()
    store.insert(key, a_record())
    fill(store, 30)
    reader = fresh(store)
    for _ in range(CALLS_PER_TIDYING):
        reader.load(key)

    assert rows(store) == 1


def test_one_call_takes_some_and_no_more(store: SQLStore) -> None:
    fill(store, ROWS_PER_TIDYING + 30)
    key = a_key()
    counts = []
    store.insert(key, a_record())
    for _ in range(2 * CALLS_PER_TIDYING):
        store.load(key)
        counts.append(rows(store))

    assert sorted(set(counts), reverse=True) == [ROWS_PER_TIDYING + 31, 31, 1]


def test_what_is_live_by_the_apps_clock_stays(store: SQLStore) -> None:
    then = 1_600_000_000.0
    key = a_key()
    store.insert(key, Record({}, b"", then, then + 100))
    for step in range(2 * CALLS_PER_TIDYING):
        store.load(key)
        store.update(key, Changes(used_at=then + step / 10, expires_at=then + step / 10 + 1))

    assert store.load(key) is not None


def test_by_a_clock_that_is_ahead_what_expired_goes(store: SQLStore) -> None:
    later = time.time() + 1_000_000
    store.insert(a_key(), a_record())
    key = a_key()
    store.insert(key, Record({}, b"", later, later + 1000))
    for _ in range(CALLS_PER_TIDYING):
        store.update(key, Changes(used_at=later, expires_at=later + 1000))

    assert list(store.keys()) == [key]


def test_after_a_clock_was_set_back_no_session_in_use_goes(store: SQLStore) -> None:
    now, later = time.time(), time.time() + 1_000_000
    store.insert(a_key(), Record({}, b"", later, later + 1000))
    key = a_key()
    store.insert(key, Record({}, b"", now, now + 1000))
    for _ in range(2 * CALLS_PER_TIDYING):
        store.update(key, Changes(used_at=now, expires_at=now + 1000))

    assert store.load(key) is not None


def test_another_servers_wrong_clock_ends_no_session_here(store: SQLStore) -> None:
    later = time.time() + 1_000_000
    wrong, right = a_key(), a_key()
    fresh(store).insert(wrong, Record({}, b"", later, later + 1000))
    store.insert(right, a_record())
    for _ in range(2 * CALLS_PER_TIDYING):
        store.load(wrong)

    assert store.load(right) is not None


def test_where_nobody_says_what_time_it_is_nothing_goes(store: SQLStore) -> None:
    fill(store, 3)
    for _ in range(2 * CALLS_PER_TIDYING):
        store.delete(a_key())
        store.load(a_key())

    assert rows(store) == 3


def test_tidying_that_fails_is_logged_and_hurts_nobody(
    store: SQLStore, caplog: pytest.LogCaptureFixture
) -> None:
    key = a_key()
    store.insert(key, a_record())
    fill(store, 3)
    refuse_deletes(store)
    with caplog.at_level(logging.WARNING, logger="wsgi_sessions"):
        for _ in range(CALLS_PER_TIDYING):
            assert store.load(key) is not None

    assert [record.message[:45] for record in caplog.records] == [
        "expired sessions stay in the database for now"
    ]


def refuse_deletes(store: SQLStore) -> None:
    name, kind = store.table.name, store.engine.dialect.name
    with outside(store) as connection:
        if kind == "sqlite":
            connection.exec_driver_sql(
                f"CREATE TRIGGER no BEFORE DELETE ON {name} BEGIN SELECT RAISE(FAIL, 'no'); END"
            )
        elif kind == "postgresql":
            connection.exec_driver_sql(
                f"CREATE FUNCTION {name}_no() RETURNS trigger AS $$ BEGIN RAISE EXCEPTION 'no';"
                f" END $$ LANGUAGE plpgsql"
            )
            connection.exec_driver_sql(
                f"CREATE TRIGGER no BEFORE DELETE ON {name} FOR EACH ROW"
                f" EXECUTE FUNCTION {name}_no()"
            )
        else:
            connection.exec_driver_sql(
                f"CREATE TRIGGER {name}_no BEFORE DELETE ON {name} FOR EACH ROW"
                " SIGNAL SQLSTATE '45000'"
            )


class TestLockedRows:
    @pytest.fixture
    def store(self, server: databases.DatabaseServer, table: str) -> SQLStore:
        return opened(server.default_url, table=table)

    def test_a_purge_waits_for_none(self, store: SQLStore) -> None:
        held = a_key()
        store.insert(held, overdue())
        fill(store, 20)
        with outside(store) as other:
            other.exec_driver_sql("BEGIN")
            other.exec_driver_sql(
                f"SELECT version FROM {store.table.name} WHERE {quoted(store)} = %s FOR UPDATE",
                (bytes.fromhex(held),),
            ).all()
            # One that waited for the lock would wait for what comes after it.
            purged = store.purge_expired(time.time())
            other.exec_driver_sql("ROLLBACK")

        assert (purged, list(store.keys())) == (20, [held])
        assert store.purge_expired(time.time()) == 1

    def test_what_is_renewed_while_a_purge_looks_stays(self, store: SQLStore) -> None:
        key = a_key()
        store.insert(key, overdue())
        with outside(store) as other:
            other.exec_driver_sql("BEGIN")
            other.exec_driver_sql(
                f"UPDATE {store.table.name} SET expires_at = %s WHERE {quoted(store)} = %s",
                (time.time() + 1000, bytes.fromhex(key)),
            )
            assert store.purge_expired(time.time()) == 0
            other.exec_driver_sql("COMMIT")

        assert store.purge_expired(time.time()) == 0
        assert store.update(key, a_touch()) is UpdateResult.UPDATED


def quoted(store: SQLStore) -> str:
    return store.engine.dialect.identifier_preparer.format_column(store.table.c.key)


def test_a_purge_takes_everything_in_batches(store: SQLStore) -> None:
    fill(store, ROWS_PER_BATCH + 10)
    store.insert(key := a_key(), a_record())

    assert store.count_expired(time.time()) == ROWS_PER_BATCH + 10
    assert store.purge_expired(time.time()) == ROWS_PER_BATCH + 10
    assert list(store.keys()) == [key]


def test_many_rows_are_listed_and_cleared(store: SQLStore) -> None:
    fill(store, ROWS_PER_BATCH + 10)

    listed = list(store.keys())
    assert len(listed) == len(set(listed)) == ROWS_PER_BATCH + 10
    store.clear()
    assert rows(store) == 0
