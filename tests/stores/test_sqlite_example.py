"""The SQLite store of the documentation holds to the contract, as a third party's would."""

from __future__ import annotations

import os
import runpy
import sqlite3
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from wsgi_sessions.stores import Store
from wsgi_sessions.testing import StoreContract

EXAMPLE = Path(__file__).parents[2] / "examples" / "sqlite_store.py"


class TestSQLiteStore(StoreContract):
    @pytest.fixture(autouse=True)
    def _database(self) -> Iterator[None]:
        # In memory where there is such a place: SQLite syncs every commit, which isn't tested here.
        memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
        with tempfile.TemporaryDirectory(dir=memory) as directory:
            self.path = Path(directory, "sessions.db")
            self.opened: list[Store] = []
            yield
            for store in self.opened:
                store.close()

    def make_store(self) -> Store:
        store: Store = runpy.run_path(str(EXAMPLE))["SQLiteStore"](str(self.path))
        self.opened.append(store)
        return store

    def make_broken_store(self) -> Store:
        store = self.make_store()
        with sqlite3.connect(self.path) as db:
            db.execute("DROP TABLE fields")
            db.execute("DROP TABLE sessions")
        db.close()
        return store

    def test_nobody_else_may_read_the_file(self) -> None:
        self.make_store()

        assert stat.S_IMODE(self.path.stat().st_mode) == 0o600


def test_it_is_short_enough_to_read() -> None:
    assert len(EXAMPLE.read_text().splitlines()) < 150
