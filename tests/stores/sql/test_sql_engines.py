"""Which engines and URLs SQLStore takes, and what it says of the others."""

from __future__ import annotations

import sqlite3
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from stores.sql.material import SECRET, a_key, a_record, everything_shown, opened
from wsgi_sessions.errors import ConfigurationError, StoreError
from wsgi_sessions.stores import SQLStore, store_from_url
from wsgi_sessions.stores.sql import schema_for
from wsgi_sessions.stores.sql.urls import engine_from_url


@pytest.mark.parametrize(
    ("url", "driver"),
    [
        ("postgresql://user@host/db", "psycopg"),
        ("postgres://user@host/db", "psycopg"),
        ("postgresql+psycopg://user@host/db", "psycopg"),
        ("mysql://user@host/db", "pymysql"),
        ("mariadb://user@host/db", "pymysql"),
        ("mysql+pymysql://user@host/db", "pymysql"),
        ("sqlite:////tmp/sessions.db", "pysqlite"),
    ],
)
def test_a_url_without_a_driver_means_the_one_that_the_extra_brings(url: str, driver: str) -> None:
    assert engine_from_url(url).dialect.driver == driver


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("", "isn't the URL of a database; write postgresql://"),
        ("nonsense", "isn't the URL of a database"),
        (f"postgresql://user:{SECRET}@host:port/db", "isn't the URL of a database"),
        (None, "isn't the URL of a database"),
        (b"sqlite:////x", "isn't the URL of a database"),
        (f"oracle://user:{SECRET}@host/db", "the database 'oracle' isn't supported"),
        (f"postgresql+nonsense://user:{SECRET}@host/db", "SQLAlchemy has no postgresql.nonsense"),
        (f"postgresql+psycopg_async://user:{SECRET}@host/db", "psycopg_async is asynchronous"),
        (f"postgresql+asyncpg://user:{SECRET}@host/db", "asyncpg is asynchronous"),
        (f"mysql+oursql://user:{SECRET}@host/db", "driver oursql isn't installed|has no"),
        (f"postgresql://user:{SECRET}@host/db?plugin=none", r"options can't be used \(NoSuchMod"),
        (f"postgresql+pg8000://user:{SECRET}@host/db", "pip install pg8000"),
    ],
)
def test_other_urls_are_refused_without_their_password(url: Any, says: str) -> None:
    with pytest.raises(ConfigurationError, match=says) as caught:
        SQLStore(engine_from_url(url), create=False).ping()
    assert SECRET not in everything_shown(caught.value)


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("postgresql://h/db?conect_timeout=1", "psycopg has no option 'conect_timeout'"),
        ("mariadb://h/db?conect_timeout=1&b=2", "pymysql has no option 'b', 'conect_timeout'"),
        ("sqlite:////tmp/x.db?timeot=1", "pysqlite has no option 'timeot'"),
        (
            "sqlite:////tmp/x.db?isolation_level=DEFERRED",
            "pysqlite has no option 'isolation_level'",
        ),
        (f"mariadb://h/db?connect_timeout={SECRET}", r"options can't be used \(ValueError\)"),
        (f"sqlite:////tmp/x.db?timeout={SECRET}", r"options can't be used \(ValueError\)"),
    ],
)
def test_mistyped_options_are_refused_when_the_store_is_made(url: str, says: str) -> None:
    with pytest.raises(ConfigurationError, match=says) as caught:
        SQLStore.from_url(url, create=False)
    assert SECRET not in everything_shown(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://h/db?sslmode=verify-full&prepare_threshold=3&host=other&application_name=shop",
        "mariadb://h/db?ssl_ca=/x&ssl_check_hostname=true&charset=utf8mb4&unix_socket=/y",
        "sqlite:////tmp/x.db?timeout=1&cached_statements=9",
        "sqlite:////tmp/x.db?uri=true&psow=0",
    ],
)
def test_options_of_the_driver_are_taken(url: str) -> None:
    assert engine_from_url(url).url.query == sa.make_url(url).query


@pytest.mark.parametrize(
    ("scheme", "module", "package"),
    [
        ("postgresql", "psycopg", r"'wsgi-sessions\[postgresql\]'"),
        ("mysql", "pymysql", r"'wsgi-sessions\[mysql\]'"),
        ("mariadb", "pymysql", r"'wsgi-sessions\[mysql\]'"),
    ],
)
def test_a_missing_driver_is_named_with_what_to_install(
    scheme: str, module: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)

    for make in (SQLStore.from_url, schema_for):
        with pytest.raises(
            ConfigurationError, match=f"{module} isn't installed; run pip install {package}"
        ):
            make(f"{scheme}://user@host/db")


@pytest.mark.parametrize(
    "url",
    [
        "sqlite://",
        "sqlite:///",
        "sqlite:///:memory:",
        "sqlite:///file::memory:?uri=true",
        "sqlite:///file:x?mode=memory&uri=true",
        "sqlite:///file:?uri=true",
    ],
)
def test_a_database_in_memory_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError, match=r"memory is lost .* sqlite:////var/lib/app"):
        SQLStore.from_url(url)
    with pytest.raises(ConfigurationError, match="memory is lost"):
        SQLStore(sa.create_engine(url, poolclass=sa.NullPool))
    with pytest.raises(ConfigurationError, match="memory is lost"):
        store_from_url(url)


def test_it_is_shown_by_database_and_table_without_its_url(tmp_path: Path) -> None:
    store = SQLStore.from_url(f"sqlite:///{tmp_path}/sessions.db", table="shop_sessions")

    assert repr(store) == "SQLStore(sqlite, table='shop_sessions')"
    store.close()


@pytest.mark.parametrize(
    ("query", "options", "table"),
    [
        ("?table=shop_sessions", {}, "shop_sessions"),
        ("?timeout=1&table=shop%5Fsessions", {}, "shop_sessions"),
        ("?table=main.shop_sessions", {}, "main.shop_sessions"),
        ("?table=shop&table=shop", {"table": "shop"}, "shop"),
        ("?timeout=1", {"table": "shop"}, "shop"),
        ("?timeout=1", {}, "wsgi_sessions"),
        ("", {}, "wsgi_sessions"),
    ],
)
def test_the_url_may_name_the_table(
    query: str, options: dict[str, Any], table: str, tmp_path: Path
) -> None:
    url = f"sqlite:///{tmp_path}/sessions.db"
    store = SQLStore.from_url(url + query, **options)

    store.insert(key := a_key(), a_record())
    assert store.table.fullname == table
    assert store.schema() == schema_for(url + query, **options) == schema_for(url, table)
    assert set(store.engine.url.query) == set(sa.make_url(url + query).query) - {"table"}
    store.close()
    found = SQLStore.from_url(url, table=table, create=False)
    assert found.load(key) is not None
    found.close()


@pytest.mark.parametrize(
    ("url", "options", "says"),
    [
        (
            "sqlite:////x.db?table=a",
            {"table": "wsgi_sessions"},
            "table is given twice, differently",
        ),
        ("sqlite:////x.db?table=a&table=b", {}, "table is given twice, differently"),
        ("sqlite:////x.db?table=", {}, "table is ''; write letters"),
        ("sqlite:////x.db?timeout=1&table", {}, "table is ''; write letters"),
        ("sqlite:////x.db?table=drop+it", {}, "table is 'drop it'; write letters"),
        (f"mysql://u:{SECRET}@h/db?table=1st", {}, "table is '1st'; write letters"),
    ],
)
def test_a_table_of_the_url_is_checked_as_the_keyword_is(
    url: str, options: dict[str, Any], says: str
) -> None:
    for make in (SQLStore.from_url, schema_for):
        with pytest.raises(ConfigurationError, match=says) as caught:
            make(url, **options)
        assert SECRET not in everything_shown(caught.value)


@pytest.mark.parametrize("query", ["", "?connect_timeout=3", "?table=shop&connect_timeout=3"])
def test_what_stands_in_a_password_is_not_an_option(query: str) -> None:
    """SQLAlchemy takes more characters in a password than URLs have."""
    store = SQLStore.from_url(f"postgresql://u:/?table=x&@h/db{query}", create=False)

    assert store.table.name == ("shop" if "shop" in query else "wsgi_sessions")
    assert store.engine.url.password == "/?table=x&"
    assert store.engine.url.query == ({"connect_timeout": "3"} if query else {})


@pytest.mark.parametrize("engine", [None, "sqlite:////x.db", object(), sa.MetaData()])
def test_what_is_not_an_engine_is_refused(engine: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"engine is of type \w+; write SQLStore\(sqlal"):
        SQLStore(engine)


def test_an_asynchronous_engine_is_refused(lite_url: str) -> None:
    behind = sa.create_engine(lite_url)
    behind.dialect.is_async = True
    asynchronous = AsyncEngine(behind)

    with pytest.raises(ConfigurationError, match="AsyncEngine; it is asynchronous; write"):
        SQLStore(asynchronous)  # type: ignore[arg-type] # that is the test
    with pytest.raises(ConfigurationError, match="driver pysqlite is asynchronous; write"):
        SQLStore(behind)


def test_another_database_is_refused(lite_url: str) -> None:
    engine = sa.create_engine(lite_url)
    engine.dialect.name = "oracle"

    with pytest.raises(ConfigurationError, match="the engine is for oracle; it can be for Post"):
        SQLStore(engine)


def test_a_url_names_the_store(url: str) -> None:
    store = store_from_url(url)

    assert isinstance(store, SQLStore)
    assert store.load(a_key()) is None
    store.close()


def test_the_urls_own_limits_stand() -> None:
    engine = engine_from_url("sqlite:////tmp/sessions.db?timeout=7")
    given: list[dict[str, Any]] = []

    def refuse(dialect: Any, record: Any, args: Any, options: dict[str, Any]) -> None:
        given.append(options)
        raise RuntimeError("seen")

    sa.event.listen(engine, "do_connect", refuse)
    with pytest.raises(RuntimeError, match="seen"):
        engine.raw_connection()
    assert given[0]["timeout"] == 7


class Stuck(sqlite3.Connection):
    """A connection that, from some time on, can't roll back."""

    is_stuck = False

    def rollback(self) -> None:
        if self.is_stuck:
            raise sqlite3.OperationalError("no way back")
        super().rollback()


class WithoutMerge(sqlite3.Connection):
    """A connection that refuses our function."""

    def create_function(self, name: str, *args: Any, **options: Any) -> None:
        if name.startswith("wsgi_sessions"):
            raise sqlite3.NotSupportedError("no functions here")
        super().create_function(name, *args, **options)


def test_a_connection_that_cannot_be_set_up_is_an_error(lite_url: str) -> None:
    opened(lite_url)
    engine = sa.create_engine(
        lite_url, connect_args={"factory": WithoutMerge}, pool_reset_on_return=None
    )
    store = SQLStore(engine)

    with pytest.raises(StoreError, match=r"\(load\): NotSupportedError: no functions here$"):
        store.load(a_key())
    store.close()


def test_a_connection_that_cannot_be_rolled_back_is_used_no_more(lite_url: str) -> None:
    opened(lite_url)
    engine = sa.create_engine(lite_url, connect_args={"factory": Stuck}, pool_reset_on_return=None)
    store = SQLStore(engine, create=False)
    seen: list[object] = []

    def fail(cursor: Any) -> None:
        seen.append(cursor.connection)
        cursor.connection.is_stuck = True
        cursor.execute("nonsense")

    store.database.run("ping", lambda cursor: seen.append(cursor.connection))
    with pytest.raises(StoreError, match="syntax error"):
        store.database.run("ping", fail)
    store.database.run("ping", lambda cursor: seen.append(cursor.connection))

    assert seen[0] is seen[1]
    assert seen[2] is not seen[1]
    store.close()


def test_an_engine_of_the_apps_is_taken_as_it_is(url: str, table: str) -> None:
    made = opened(url).engine
    engine = sa.create_engine(made.url, poolclass=sa.NullPool)
    store = SQLStore(engine, table=table)

    assert store.load(a_key()) is None
    assert store.engine is engine
    store.close()


def test_a_connection_of_another_driver_for_postgresql_is_only_set_to_commit_by_itself() -> None:
    """Only psycopg has to be told how to send lists."""
    driver = SimpleNamespace(paramstyle="format", __version__="1.31.2", Error=Exception)
    engine = sa.create_engine("postgresql+pg8000://", module=driver)
    connection = SimpleNamespace(autocommit=False)

    SQLStore(engine, create=False).database._set_up(connection)

    assert vars(connection) == {"autocommit": True}
