"""What the doctor is told of a SQL database."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

import databases
from stores.sql.material import a_key, a_record, fresh, opened, outside, overdue
from wsgi_sessions.errors import StoreError
from wsgi_sessions.stores import SQLStore
from wsgi_sessions.stores.sql import examine, health, urls
from wsgi_sessions.stores.sql.urls import sqlite_path


def found(store: SQLStore, **options: float) -> dict[str, tuple[str, str]]:
    return {check: (level, text) for check, level, text in examine(store, **options)}


def levels(store: SQLStore) -> dict[str, str]:
    return {check: level for check, (level, _) in found(store).items()}


def test_a_good_database_is_all_right(store: SQLStore) -> None:
    store.insert(a_key(), a_record())
    more = ["permissions", "journal"] if store.engine.dialect.name == "sqlite" else ["clock"]

    assert levels(store) == dict.fromkeys(["version", "table", "index", "overdue", *more], "ok")


def test_a_missing_table_is_an_error_and_none_is_made(store: SQLStore) -> None:
    with outside(store) as connection:
        connection.exec_driver_sql(f"DROP TABLE {store.table.name}")
    looking = fresh_without_asking(store)

    assert levels(looking) == {"version": "ok", "table": "error"}
    assert f"no table {store.table.name}" in found(looking)["table"][1]


def fresh_without_asking(store: SQLStore) -> SQLStore:
    return fresh(store, create=False)


def test_another_table_is_an_error(store: SQLStore) -> None:
    with outside(store) as connection:
        connection.exec_driver_sql(f"ALTER TABLE {store.table.name} DROP COLUMN owner")

    assert found(store)["table"][0] == "error"
    assert "another layout" in found(store)["table"][1]


def test_a_missing_index_is_an_error(store: SQLStore) -> None:
    on = f" ON {store.table.name}" if store.engine.dialect.name == "mariadb" else ""
    with outside(store) as connection:
        connection.exec_driver_sql(f"DROP INDEX {store.table.name}_expires_at{on}")

    assert found(store)["index"][0] == "error"
    assert f"{store.table.name}_expires_at" in found(store)["index"][1]
    assert f"--store 'URL?table={store.table.name}' schema` prints" in found(store)["index"][1]


def test_many_overdue_rows_are_a_warning(store: SQLStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "OVERDUE_ROWS", 1)
    store.insert(a_key(), overdue())
    few = found(store)["overdue"]
    store.insert(a_key(), overdue())
    many = found(store)["overdue"]

    assert few == ("ok", "expired rows waiting to be removed: 1")
    assert many[0] == "warning"
    assert many[1].startswith("2 expired rows are still there; requests")
    assert found(store, now=0.0)["overdue"][0] == "ok"


def test_an_old_server_is_an_error() -> None:
    for server in (("PostgreSQL", "12.4"), ("MariaDB", "10.5.8-MariaDB"), ("SQLite", "3.34")):
        check, level, text = health._version(server)
        assert (check, level) == ("version", "error")
        assert "is too old" in text
    assert health._version(("MySQL", "8"))[1] == "ok"
    assert health._version(("PostgreSQL", "15.3 (Debian 15.3-0)"))[1] == "ok"


def test_clocks_that_differ_are_a_warning() -> None:
    assert health._clock(1000.0, "UTC", 1003.0)[1] == "ok"
    assert health._clock(1000.0, "UTC", 1010.0)[1] == "warning"


def test_the_servers_time_zone_is_told(
    shared: Callable[[str], databases.DatabaseServer], table: str
) -> None:
    url = f"{shared('postgresql').default_url}?options=-c%20TimeZone%3DAsia/Tokyo"
    level, text = found(opened(url, table=table))["clock"]

    assert level == "ok"
    assert "time zone is Asia/Tokyo" in text


class TestTheFile:
    def test_one_that_others_can_read_is_an_error(self, lite_url: str) -> None:
        store = opened(lite_url)
        sqlite_path(store.engine.url).chmod(0o644)

        assert found(store)["permissions"][0] == "error"

    def test_without_wal_there_is_a_warning(self, lite_url: str) -> None:
        store = opened(lite_url)
        with outside(store) as connection:
            connection.exec_driver_sql("PRAGMA journal_mode = DELETE")

        assert found(fresh_without_asking(store))["journal"][0] == "warning"

    def test_a_reader_that_hinders_wal_is_no_error(
        self, lite_url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(urls, "SQLITE_SECONDS", 0)
        store = opened(lite_url)
        with outside(store) as connection:
            connection.exec_driver_sql("PRAGMA journal_mode = DELETE")
            connection.exec_driver_sql("BEGIN")
            connection.exec_driver_sql("SELECT * FROM wsgi_sessions").all()

            assert found(store)["journal"][0] == "warning"


def test_a_database_that_goes_away_is_an_error_of_the_store(
    own_server: databases.DatabaseServer,
) -> None:
    store = opened(own_server.default_url)
    own_server.kill()

    with pytest.raises(StoreError, match="doctor"):
        list(examine(store, now=time.time()))
