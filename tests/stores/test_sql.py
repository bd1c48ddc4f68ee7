"""The SQL store of the documentation holds to the contract, as a third party's would."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest

from wsgi_sessions.stores import Store
from wsgi_sessions.testing import StoreContract

EXAMPLE = Path(__file__).parents[2] / "examples" / "sql_store.py"


class TestSQLStore(StoreContract):
    @pytest.fixture(autouse=True)
    def _database(self, tmp_path: Path) -> Any:
        self.url = f"sqlite:///{tmp_path}/sessions.db"
        self.opened: list[Store] = []
        yield
        for store in self.opened:
            store.close()

    def make_store(self) -> Store:
        store: Store = runpy.run_path(str(EXAMPLE))["SQLStore"](self.url)
        self.opened.append(store)
        return store
