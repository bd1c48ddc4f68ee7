"""The SQLite store of the documentation holds to the contract, as a third party's would."""

from __future__ import annotations

import os
import sqlite3
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from test_docs import blocks
from wsgi_sessions.stores import Store
from wsgi_sessions.testing import StoreContract

PAGE = Path(__file__).parents[2] / "docs" / "writing-a-store.md"
(EXAMPLE,) = (code for _, code in blocks(PAGE) if "(Store)" in code)
page: dict[str, Any] = {}
exec(compile(EXAMPLE, str(PAGE), "exec"), page)


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
        store: Store = page["SQLiteStore"](str(self.path))
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
    assert len(EXAMPLE.splitlines()) < 150
