"""The command line on SQL databases: looking makes nothing, `schema` asks nobody, `doctor` tells."""

from __future__ import annotations

import io
import json
import sys
import time

import pytest
import sqlalchemy as sa

from ports import free_port
from stores.sql.material import SECRET, a_key, a_record, opened, outside, overdue
from wsgi_sessions.cli import DONE, FAILED, USAGE, main
from wsgi_sessions.stores.sql import schema_for
from wsgi_sessions.stores.sql.store import CALLS_PER_TIDYING
from wsgi_sessions.stores.sql.urls import sqlite_path


def run(*argv: str) -> tuple[int, str]:
    out = io.StringIO()
    return main(argv, out), out.getvalue()


def test_the_schema_is_printed_without_a_database() -> None:
    url = f"postgresql://user:{SECRET}@127.0.0.1:{free_port()}/db"

    assert run("--store", url, "schema") == (DONE, schema_for(url))
    status, text = run("--store", url, "--json", "schema")
    assert (status, json.loads(text)) == (DONE, {"schema": schema_for(url)})


def test_the_schema_of_another_table_is_printed_too() -> None:
    url = f"postgresql://127.0.0.1:{free_port()}/db"

    status, text = run("--store", f"{url}?table=shop.sessions", "schema")

    assert (status, text) == (DONE, schema_for(url, "shop.sessions"))
    assert "CREATE TABLE shop.sessions (" in text


def test_only_a_database_has_a_schema(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("WSGI_SESSIONS_STORE", raising=False)

    assert run("schema")[0] == USAGE
    assert "or postgresql://user@host/db" in capsys.readouterr().err
    assert run("--store", "mongodb://x", "schema")[0] == USAGE
    assert "write postgresql://" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "wsgi_sessions.stores.sql", None)
    assert run("--store", "sqlite:////x.db", "schema")[0] == USAGE


@pytest.mark.parametrize("url", ["file:///x", "redis://x", "REDISS://x", "unix:///x", "memory://"])
def test_other_stores_are_said_to_need_no_schema(
    url: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "wsgi_sessions.stores.sql", None)  # as without SQLAlchemy

    assert run("--store", url, "schema")[0] == USAGE
    error = capsys.readouterr().err
    assert "needs no schema" in error
    assert "SQLAlchemy" not in error


def test_looking_makes_nothing(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    if url.startswith("sqlite"):
        assert run("--store", url, "stats")[0] == FAILED
        assert not sqlite_path(sa.make_url(url)).exists()
        return
    fresh_url = url
    store = opened(fresh_url)
    with outside(store) as connection:
        connection.exec_driver_sql("DROP TABLE wsgi_sessions")

    assert run("--store", url, "stats")[0] == FAILED
    assert "no table wsgi_sessions" in capsys.readouterr().err
    status, text = run("--store", url, "doctor")
    assert (status, "no table wsgi_sessions" in text) == (FAILED, True)
    with outside(store) as connection:
        assert not sa.inspect(connection).has_table("wsgi_sessions")


LOOKING = "list", "stats", "doctor"


def test_looking_changes_nothing(url: str) -> None:
    store = opened(url)
    store.clear()
    for record in [a_record()] * CALLS_PER_TIDYING + [overdue()] * 3:
        store.insert(a_key(), record)
    before = sorted(store.keys())

    for command in LOOKING:
        assert run("--store", url, command)[0] == DONE
    assert sorted(store.keys()) == before
    store.clear()


def test_nor_does_it_change_the_journal_of_sqlite(lite_url: str) -> None:
    store = opened(lite_url)
    store.insert(key := a_key(), a_record())
    store.close()
    with outside(store) as connection:
        connection.exec_driver_sql("PRAGMA journal_mode = DELETE")
    file = sqlite_path(store.engine.url)
    before = file.read_bytes()

    for command in LOOKING:
        assert run("--store", lite_url, command)[0] == DONE
        assert file.read_bytes() == before
    assert "journal_mode is delete" in run("--store", lite_url, "doctor")[1]
    assert run("--store", lite_url, "revoke", key)[0] == DONE
    assert "journal_mode" not in run("--store", lite_url, "doctor")[1]


def test_a_store_is_looked_after(url: str) -> None:
    store = opened(url)
    now = time.time()
    store.insert(a_key(), a_record(used_at=now - 100, expires_at=now - 50))

    assert run("--store", url, "doctor")[0] == DONE
    assert run("--store", url, "purge")[0] == DONE
    assert store.count_expired(now) == 0
    store.clear()


def test_a_table_of_another_name_is_looked_after(url: str, table: str) -> None:
    opened(url)  # so that the usual one is there, too
    store = opened(url, table=table)
    store.insert(key := a_key(), a_record())
    named = f"{url}{'&' if '?' in url else '?'}table={table}"

    assert "live: 1\n" in run("--store", named, "stats")[1]
    assert run("--store", named, "doctor")[0] == DONE
    assert run("--store", named, "revoke", key) == (DONE, "ended 1 session\n")
    assert store.load(key) is None
    assert run("--store", f"{named}_2", "list")[0] == FAILED


def test_a_database_that_is_down_is_an_error_without_its_password(
    capsys: pytest.CaptureFixture[str],
) -> None:
    url = f"postgresql://user:{SECRET}@127.0.0.1:{free_port()}/db"
    status, text = run("--store", url, "doctor")

    assert status == FAILED
    assert "the store doesn't answer: postgresql failed (doctor)" in text
    assert SECRET not in text + capsys.readouterr().err
