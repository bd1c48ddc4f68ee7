"""The SQL store of the documentation holds to the contract, as a third party's would."""

from __future__ import annotations

import os
import runpy
import tempfile
from pathlib import Path
from typing import Any

import pytest

from wsgi_sessions.stores import Store
from wsgi_sessions.testing import StoreContract

EXAMPLE = Path(__file__).parents[2] / "examples" / "sql_store.py"


class TestSQLStore(StoreContract):
    @pytest.fixture(autouse=True)
    def _database(self) -> Any:
        # In memory where there is such a place: SQLite syncs every commit, which isn't tested here.
        memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
        with tempfile.TemporaryDirectory(dir=memory) as directory:
            self.url = f"sqlite:///{directory}/sessions.db"
            self.opened: list[Store] = []
            yield
            for store in self.opened:
                store.close()

    def make_store(self) -> Store:
        store: Store = runpy.run_path(str(EXAMPLE))["SQLStore"](self.url)
        self.opened.append(store)
        return store
