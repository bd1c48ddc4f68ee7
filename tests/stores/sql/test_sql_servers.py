"""The databases that the tests start don't disturb each other."""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import databases


@pytest.fixture
def temporary_table() -> Iterator[Path]:
    """One of another server, where a MariaDB puts them that isn't told otherwise."""
    table = Path(tempfile.gettempdir(), f"#sql-temptable-{os.getpid():x}-1-4.MAI")
    table.touch()
    if identity := databases._as_nobody():
        os.chown(table, identity["user"], identity["group"])
    yield table
    table.unlink(missing_ok=True)


@pytest.fixture
def nothing_prepared() -> None:
    """The next server is made from nothing."""
    databases._prepared.cache_clear()


@pytest.mark.usefixtures("nothing_prepared", "temporary_table", "own_server")
def test_a_server_that_is_made_and_starts_leaves_what_others_have(temporary_table: Path) -> None:
    assert temporary_table.exists()


def test_a_server_freezes_also_when_one_of_its_processes_has_just_ended(
    own_server: databases.DatabaseServer,
) -> None:
    own_server.freeze()
    for child in own_server._children():
        os.kill(child, signal.SIGKILL)

    own_server.freeze()
    own_server.thaw()
