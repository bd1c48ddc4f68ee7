"""SQLite's file: only the store makes it, private, and all connections are to the one at the path."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa

from stores.sql.material import OPENED, a_key, a_record, fresh, opened
from wsgi_sessions.errors import StoreError
from wsgi_sessions.record import Changes, UpdateResult
from wsgi_sessions.stores import SQLStore
from wsgi_sessions.stores.sql import examine
from wsgi_sessions.stores.sql.urls import sqlite_path

MAKERS: dict[str, Callable[[str], SQLStore]] = {
    "a URL": opened,
    "a file: URL": lambda url: opened(f"{url.replace('///', '///file:')}?uri=true&mode=rwc"),
    "an engine": lambda url: SQLStore(sa.create_engine(url)),
    "an engine without a pool": lambda url: SQLStore(sa.create_engine(url, poolclass=sa.NullPool)),
}


@pytest.fixture(params=MAKERS.values(), ids=list(MAKERS))
def store(request: pytest.FixtureRequest, lite_url: str, umask_zero: None) -> SQLStore:
    """A store on a SQLite file, however it was named."""
    OPENED.append(request.param(lite_url))
    return OPENED[-1]


@pytest.fixture
def path(store: SQLStore) -> Path:
    """Its file."""
    return sqlite_path(store.engine.url)


def remove(path: Path) -> None:
    for companion in path.parent.glob(f"{path.name}*"):
        companion.unlink()


def test_one_that_was_removed_is_an_error_and_none_is_made(store: SQLStore, path: Path) -> None:
    key = a_key()
    store.insert(key, a_record())
    remove(path)

    for call in (
        lambda: store.load(key),
        lambda: store.update(key, Changes(set={"a": b"2"})),
        lambda: store.insert(a_key(), a_record()),
        store.ping,
    ):
        with pytest.raises(StoreError, match="the app makes the file when it starts"):
            call()
    assert list(path.parent.iterdir()) == []


def test_after_a_restart_there_is_a_private_one_for_the_old_process_too(
    store: SQLStore, path: Path
) -> None:
    store.insert(a_key(), a_record())
    remove(path)
    restarted = fresh(store)
    key = a_key()
    restarted.insert(key, a_record())

    assert store.load(key) is not None
    store.delete(key)
    assert restarted.load(key) is None
    modes = {stat.S_IMODE(each.stat().st_mode) for each in path.parent.iterdir()}
    assert modes == {0o600}


def test_one_that_was_moved_away_and_back_is_used_again(store: SQLStore, path: Path) -> None:
    key = a_key()
    store.insert(key, a_record())
    store.close()
    away = path.with_name("away")
    path.rename(away)
    with pytest.raises(StoreError):
        store.load(key)
    away.rename(path)

    assert store.update(key, Changes(set={"a": b"2"})) is UpdateResult.UPDATED


def test_what_is_restored_into_it_is_there_at_once(store: SQLStore, path: Path) -> None:
    before, since = a_key(), a_key()
    store.insert(before, a_record())
    copy = path.with_name("copy.db")
    copy_database(path, copy)
    store.delete(before)
    store.insert(since, a_record())
    copy_database(copy, path)

    assert store.load(before) is not None
    assert store.load(since) is None
    assert store.update(before, Changes(set={"a": b"2"})) is UpdateResult.UPDATED


def copy_database(source: Path, target: Path) -> None:
    """As the command line's ``.backup`` and ``.restore`` do."""
    with (
        contextlib.closing(sqlite3.connect(source)) as one,
        contextlib.closing(sqlite3.connect(target)) as other,
    ):
        one.backup(other)


def test_a_directory_that_comes_later_gets_a_private_one(tmp_path: Path, umask_zero: None) -> None:
    path = tmp_path / "mounted" / "sessions.db"
    store = opened(f"sqlite:///{path}")
    with pytest.raises(StoreError):
        store.load(a_key())
    path.parent.mkdir()

    assert store.load(a_key()) is None
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_relative_path_stays_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, elsewhere = tmp_path / "here", tmp_path / "elsewhere"
    here.mkdir()
    (elsewhere / "var").mkdir(parents=True)
    monkeypatch.chdir(here)
    store = opened("sqlite:///var/sessions.db")
    monkeypatch.chdir(elsewhere)
    with pytest.raises(StoreError):
        store.load(a_key())
    (here / "var").mkdir()

    assert store.load(a_key()) is None
    assert {level for _, level, _ in examine(store)} == {"ok"}
    assert list(elsewhere.rglob("*.db")) == []


@pytest.mark.parametrize("name", ["a ?b#c%20d.db", "ä.db", os.fsdecode(b"\xff.db")])
def test_any_name_will_do(tmp_path: Path, name: str) -> None:
    engine = sa.create_engine(sa.URL.create("sqlite", database=str(tmp_path / name)))
    store = SQLStore(engine)
    store.insert(a_key(), a_record())

    assert {os.fsdecode(each) for each in os.listdir(tmp_path)} >= {name}
    assert len(list(tmp_path.glob("*.db"))) == 1
    store.close()


def test_one_that_may_only_be_read_stays_so(lite_url: str) -> None:
    made = opened(lite_url)
    key = a_key()
    made.insert(key, a_record())
    store = opened(f"{lite_url.replace('///', '///file:')}?uri=true&mode=ro", create=False)

    assert store.load(key) is not None
    with pytest.raises(StoreError, match="readonly"):
        store.delete(key)
