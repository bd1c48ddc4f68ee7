"""SQLStore and its table: made once by many, refused when it is another one, as DDL, for Alembic."""

from __future__ import annotations

import stat
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa

import databases
from stores.sql.material import (
    OPENED,
    a_key,
    a_record,
    engine_of,
    fresh,
    opened,
    outside,
    run_ddl,
)
from wsgi_sessions.errors import ConfigurationError, StoreError
from wsgi_sessions.record import Changes, UpdateResult
from wsgi_sessions.stores import SQLStore
from wsgi_sessions.stores.sql import connections, schema_for
from wsgi_sessions.stores.sql.urls import sqlite_path


def drop(store: SQLStore) -> None:
    with outside(store) as connection:
        connection.exec_driver_sql(f"DROP TABLE {store.table.name}")


def test_many_workers_may_make_the_table_at_once(url: str, table: str) -> None:
    together = threading.Barrier(8)
    made: list[SQLStore] = []
    failed: list[Exception] = []

    def work() -> None:
        together.wait()
        try:
            made.append(opened(url, table=table))
        except Exception as error:
            failed.append(error)

    workers = [threading.Thread(target=work) for _ in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()

    assert not failed
    with outside(made[0]) as connection:
        indexes = [index["name"] for index in sa.inspect(connection).get_indexes(table)]
    assert indexes == [f"{table}_expires_at"]


def test_a_missing_table_is_named_with_what_to_run(url: str, table: str) -> None:
    if url.startswith("sqlite"):
        opened(url)
    store = opened(url, table=table, create=False)

    for _ in range(2):
        with pytest.raises(StoreError, match=rf"no table {table} .* 'URL\?table={table}' schema"):
            store.load(a_key())
    with outside(store) as connection:
        assert not sa.inspect(connection).has_table(table)


def test_a_table_that_is_dropped_meanwhile_is_not_an_empty_one(store: SQLStore) -> None:
    drop(store)
    told = f"no table {store.table.name} in the database; run .*, or start the app anew with create=True"

    for call in (store.load, store.delete, lambda key: store.insert(key, a_record())):
        with pytest.raises(StoreError, match=told):
            call(a_key())
    store.schema()
    fresh(store).ping()


@pytest.mark.parametrize("create", [True, False])
@pytest.mark.parametrize(
    ("columns", "wrong"),
    [
        ("id INT PRIMARY KEY, data VARCHAR(20)", "epoch"),
        ("missing", "owner"),
        ("more", "extra"),
        ("keyless", "the primary key"),
        ("texts", "notes"),
        ("coarse", "expires_at"),
    ],
)
def test_a_table_of_another_layout_is_refused(
    url: str, table: str, create: bool, columns: str, wrong: str
) -> None:
    ours = schema_for(url, table)
    if columns == "coarse" and url.startswith("sqlite"):
        pytest.skip("SQLite has only one size of floating-point numbers")
    single = "REAL" if url.startswith("postgres") else "FLOAT"
    scripts = {
        "missing": ours + f"ALTER TABLE {table} DROP COLUMN owner;\n",
        "more": ours + f"ALTER TABLE {table} ADD COLUMN extra INT;\n",
        "keyless": ours.replace('PRIMARY KEY ("key")', "UNIQUE (version)")
        .replace("PRIMARY KEY (`key`)", "UNIQUE (version)")
        .replace("PRIMARY KEY (key)", "UNIQUE (version)"),
        "texts": "\n".join(
            "notes DATE NOT NULL," if line.strip().startswith("notes") else line
            for line in ours.splitlines()
        )
        + "\n",
        "coarse": ours.replace("expires_at DOUBLE PRECISION", f"expires_at {single}").replace(
            "expires_at DOUBLE", f"expires_at {single}"
        ),
    }
    good = opened(url)  # so that there is a file
    with outside(good) as connection:
        run_ddl(connection, scripts.get(columns, f"CREATE TABLE {table} ({columns});\n"))

    with pytest.raises(StoreError, match=rf"{table} has another layout.*{wrong}.*table="):
        opened(url, table=table, create=create).load(a_key())


def test_sqlite_takes_any_name_for_floating_point_numbers(lite_url: str, table: str) -> None:
    with outside(opened(lite_url)) as connection:
        run_ddl(
            connection, schema_for(lite_url, table).replace("expires_at DOUBLE", "expires_at REAL")
        )
    store = opened(lite_url, table=table, create=False)
    key = a_key()
    store.insert(key, record := a_record())

    assert store.load(key) == record


def test_a_name_in_other_letter_case_is_told(lite_url: str) -> None:
    opened(lite_url, table="shop")

    for create in (True, False):
        with pytest.raises(StoreError, match=r"table Shop has its name in other upper and lower"):
            opened(lite_url, table="Shop", create=create).ping()


def test_a_drivers_own_class_for_numbers_makes_no_other_layout(lite_url: str) -> None:
    """As SQLAlchemy 2.0 has one for PostgreSQL."""

    class OfTheDriver(sa.Numeric[float]):
        pass

    opened(lite_url)
    engine = sa.create_engine(lite_url)
    engine.dialect.colspecs = {**engine.dialect.colspecs, sa.Double: OfTheDriver}
    OPENED.append(store := SQLStore(engine))

    assert store.load(a_key()) is None


def test_a_column_that_goes_meanwhile_is_another_layout(store: SQLStore) -> None:
    store.insert(a_key(), a_record())
    with outside(store) as connection:
        connection.exec_driver_sql(f"ALTER TABLE {store.table.name} DROP COLUMN epoch")

    with pytest.raises(StoreError, match=f"{store.table.name} has another layout"):
        store.load(a_key())
    drop(store)
    fresh(store).ping()


def test_a_missing_index_is_made_where_making_is_allowed(store: SQLStore) -> None:
    name = f"{store.table.name}_expires_at"
    with outside(store) as connection:
        on = f" ON {store.table.name}" if store.engine.dialect.name == "mariadb" else ""
        connection.exec_driver_sql(f"DROP INDEX {name}{on}")
    without = fresh(store, create=False)
    without.ping()

    def indexes() -> list[str | None]:
        with outside(store) as connection:
            return [index["name"] for index in sa.inspect(connection).get_indexes(store.table.name)]

    before = indexes()
    fresh(store).ping()

    assert (before, indexes()) == ([], [name])


def test_what_is_printed_makes_the_table(url: str, table: str) -> None:
    opened(url)  # so that there is a file
    store = opened(url, table=table, create=False)
    with outside(store) as connection:
        run_ddl(connection, schema_for(url, table))
    key = a_key()

    assert store.insert(key, a_record())
    assert store.load(key) is not None
    assert store.schema() == schema_for(url, table)
    drop(store)


def test_alembic_finds_no_difference(url: str) -> None:
    autogenerate = pytest.importorskip("alembic.autogenerate")
    migration = pytest.importorskip("alembic.migration")
    store = opened(url)
    with outside(store) as connection:

        def is_ours(name: str, kind: str, parents: object) -> bool:
            return kind != "table" or name == "wsgi_sessions"

        options = {"include_name": is_ours, "compare_type": False}
        context = migration.MigrationContext.configure(connection, opts=options)

        assert autogenerate.compare_metadata(context, SQLStore.metadata) == []


def test_the_metadata_has_the_table(store: SQLStore) -> None:
    assert list(SQLStore.metadata.tables) == ["wsgi_sessions"]
    assert list(store.metadata.tables) == [store.table.name]
    assert store.metadata.tables[store.table.name].c.keys() == [
        *("key", "fields", "notes", "used_at", "expires_at", "version", "epoch", "owner")
    ]


def test_a_schema_may_be_named(
    shared: Callable[[str], databases.DatabaseServer], table: str
) -> None:
    server = shared("postgresql")
    with server.engine(sa.make_url(server.default_url).database).connect() as connection:
        connection.exec_driver_sql(f"CREATE SCHEMA s_{table}")
    store = opened(server.default_url, table=f"s_{table}.sessions")
    key = a_key()

    assert store.insert(key, a_record())
    assert store.update(key, Changes(set={"b": b"2"})) is UpdateResult.UPDATED
    assert store.purge_expired(a_record().expires_at + 10) == 1


@pytest.mark.parametrize("name", ["", "a b", 'a"', "1a", "a.b.c", "x" * 60, "é", None, 1])
def test_a_name_that_needs_quoting_is_refused(name: object, lite_url: str) -> None:
    with pytest.raises(ConfigurationError, match="table is .*; write letters"):
        SQLStore(sa.create_engine(lite_url), table=name)  # type: ignore[arg-type]


def test_options_are_checked(lite_url: str) -> None:
    engine = sa.create_engine(lite_url)

    with pytest.raises(ConfigurationError, match="create is 1; write True or False"):
        SQLStore(engine, create=1)  # type: ignore[arg-type] # that is the test
    with pytest.raises(ConfigurationError, match="has no option tabel; write table"):
        SQLStore(engine, tabel="x")  # type: ignore[call-arg] # that is the test


class TestTheFile:
    def test_nobody_else_can_read_it(self, lite_url: str, umask_zero: None, tmp_path: Path) -> None:
        store = SQLStore(sa.create_engine(lite_url))
        store.insert(a_key(), a_record())
        path = sqlite_path(store.engine.url)
        modes = {each.name: stat.S_IMODE(each.stat().st_mode) for each in path.parent.iterdir()}

        store.close()
        assert modes == dict.fromkeys(["sessions.db", "sessions.db-shm", "sessions.db-wal"], 0o600)

    def test_looking_makes_none(self, lite_url: str) -> None:
        told = r"no SQLite file .*/sessions\.db with the table wsgi_sessions; run what `.* schema`"
        with pytest.raises(StoreError, match=told):
            opened(lite_url, create=False)
        assert not sqlite_path(sa.make_url(lite_url)).exists()

    def test_readers_and_writers_do_not_wait_for_each_other(self, lite_url: str) -> None:
        store = opened(lite_url)
        key = a_key()
        store.insert(key, a_record())
        with engine_of(store).connect() as reader:
            reader.exec_driver_sql("BEGIN")
            reader.exec_driver_sql("SELECT * FROM wsgi_sessions").all()

            assert store.update(key, Changes(set={"a": b"2"})) is UpdateResult.UPDATED

    def test_a_read_only_database_is_an_error_and_nothing_is_lost(self, lite_url: str) -> None:
        store = opened(lite_url)
        key = a_key()
        store.insert(key, a_record())
        path = sqlite_path(store.engine.url)
        store.close()
        shut = SQLStore(sa.create_engine(f"sqlite:///file:{path}?mode=ro&uri=true"))

        assert shut.load(key) is not None
        with pytest.raises(StoreError, match=r"sqlite failed \(update\): .*readonly database"):
            shut.update(key, Changes(set={"a": b"2"}))
        shut.close()

    def test_a_table_that_cannot_be_made_is_an_error(
        self, lite_url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(connections, "_CREATE_PAUSES", (0.0,))
        path = sqlite_path(opened(lite_url).engine.url)
        shut = sa.create_engine(f"sqlite:///file:{path}?mode=ro&uri=true")

        with pytest.raises(StoreError, match=r"sqlite failed \(create\): .*readonly database"):
            SQLStore(shut, table="other")
        shut.dispose()

    def test_a_full_disk_is_an_error_and_nothing_is_lost(self, lite_url: str) -> None:
        store = opened(lite_url)
        key = a_key()
        store.insert(key, a_record())
        with store.engine.connect() as connection:
            pages = connection.exec_driver_sql("PRAGMA page_count").scalar()
            connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")

        with pytest.raises(StoreError, match=r"sqlite failed \(update\): .*disk is full"):
            store.update(key, Changes(set={"a": b"2" * 100_000}))
        record = store.load(key)
        assert record is not None
        assert dict(record.fields) == {"a": b"1"}


def test_a_missing_table_of_the_usual_name_is_one_that_the_command_line_knows(
    lite_url: str,
) -> None:
    opened(lite_url, table="others")
    store = opened(lite_url, create=False)

    with pytest.raises(StoreError, match="run what `wsgi-sessions --store URL schema` prints"):
        store.ping()


def test_a_thousand_fields_are_changed_while_the_client_waits(store: SQLStore) -> None:
    # 4 s on MariaDB, were the database to look for each of them.
    key, names = a_key(), [f"field {number}" for number in range(4000)]
    store.insert(key, a_record(fields=dict.fromkeys(names, b"1")))
    gone, kept = frozenset(names[::2]), frozenset(names[1::4])

    assert store.update(key, Changes(set=dict.fromkeys(names, b"2"))) is UpdateResult.UPDATED
    assert _fields(store, key) == dict.fromkeys(names, b"2")
    assert store.update(key, Changes({"a": b"3"}, gone), if_version=2) is UpdateResult.UPDATED
    assert _fields(store, key) == {**dict.fromkeys(names[1::2], b"2"), "a": b"3"}
    assert store.update(key, Changes({"b": b"4"}, keep=kept)) is UpdateResult.UPDATED
    assert _fields(store, key) == {**dict.fromkeys(names[1::4], b"2"), "b": b"4"}


def _fields(store: SQLStore, key: str) -> dict[str, bytes]:
    record = store.load(key)
    assert record is not None
    return dict(record.fields)


def test_a_change_of_many_fields_is_refused_as_that_of_one_is(store: SQLStore) -> None:
    key = a_key()
    changes = Changes(set={f"field {number}": b"1" for number in range(100)})
    now = time.time()
    store.insert(key, a_record())

    assert store.update(a_key(), changes) is UpdateResult.GONE
    assert store.update(key, changes, if_epoch=1) is UpdateResult.GONE
    assert store.update(key, changes, if_version=2) is UpdateResult.CONFLICT
    assert store.update(key, replace(changes, used_at=now + 9999)) is UpdateResult.GONE
    assert _fields(store, key) == {"a": b"1"}
    store.delete(key)  # nothing is locked any more
