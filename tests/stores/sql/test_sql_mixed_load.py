"""An app under mixed load, with purges, in several processes: no promise is broken, no error seen."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from effort import tries
from stores.sql import mixed_load
from wsgi_sessions.stores import SQLStore

SECONDS = float(os.environ.get("WSGI_SESSIONS_SQL_SECONDS", tries(test=2, check=2, everything=120)))
"""How long it goes on; an hour, with WSGI_SESSIONS_SQL_SECONDS=3600."""


@pytest.mark.slow
def test_an_hour_of_mixed_load(store: SQLStore, tmp_path: Path) -> None:
    # SQLite has one level only.
    is_server = store.engine.dialect.name != "sqlite"
    levels = ["", "READ COMMITTED", "REPEATABLE READ"] if is_server else ["", "", ""]
    counted = mixed_load.run(store, tmp_path, SECONDS, levels)
    print(store.engine.dialect.name, json.dumps(counted))

    assert {effect: counted[effect] for effect in mixed_load.EFFECTS} == dict.fromkeys(
        mixed_load.EFFECTS, 0
    ), "\n".join(counted["examples"])
    assert counted["purged"] > 0
