"""A server that is killed at work, a database that may only be read, a disk that is full: each is an
error of the store, and nothing that was said to be kept is lost.
"""

from __future__ import annotations

import contextlib
import gc
import os
import pwd
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

import databases
import servers
from effort import tries
from programs import missing
from stores.sql.material import a_key, a_record, everything_shown, opened, outside
from wsgi_sessions.errors import StoreError
from wsgi_sessions.record import Changes, Record, UpdateResult
from wsgi_sessions.stores import SQLStore

KILLS = tries(test=1, check=2, everything=10)
WRITERS = 4


class Writer(threading.Thread):
    """Counts in a session of its own, and knows what it may find there."""

    def __init__(self, store: SQLStore) -> None:
        super().__init__()
        self.store = store
        self.key = a_key()
        self.store.insert(self.key, a_record(fields={"n": b"0"}))
        self.confirmed = self.attempted = 0
        self.failed = 0
        self.other: list[BaseException] = []
        self.stopped = threading.Event()

    def run(self) -> None:
        try:
            while not self.stopped.is_set():
                self.attempted += 1
                with contextlib.suppress(StoreError):
                    changes = Changes(set={"n": b"%d" % self.attempted})
                    assert self.store.update(self.key, changes) is UpdateResult.UPDATED
                    self.confirmed = self.attempted
                    continue
                self.failed += 1
                self.stopped.wait(0.05)
        except BaseException as error:
            self.other.append(error)


# The drivers' connections to a server that died under them are left to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_server_that_is_killed_at_work_loses_nothing_that_it_confirmed(
    own_server: databases.DatabaseServer,
) -> None:
    store = opened(own_server.default_url)
    writers = [Writer(store) for _ in range(WRITERS)]
    for writer in writers:
        writer.start()
    for _ in range(KILLS):
        until_all(writers, lambda writer: writer.confirmed)
        own_server.kill()
        until_all(writers, lambda writer: writer.failed)
        own_server.start()
        until_all(writers, lambda writer: writer.confirmed)
    for writer in writers:
        writer.stopped.set()
        writer.join()

    for writer in writers:
        assert writer.other == []
        record = store.load(writer.key)
        assert record is not None
        assert writer.confirmed <= int(record.fields["n"]) <= writer.attempted
    store.close()
    gc.collect()


def until_all(writers: list[Writer], count: Callable[[Writer], int]) -> None:
    """Wait until each has counted on."""
    before = [count(writer) for writer in writers]
    servers.until(
        lambda: all(
            count(writer) > old or not writer.is_alive()
            for writer, old in zip(writers, before, strict=True)
        ),
        what="progress of all writers",
        patience=60,
    )


class TestADatabaseThatMayOnlyBeRead:
    @pytest.fixture
    def shut(
        self, server: databases.DatabaseServer, store: SQLStore
    ) -> Iterator[Callable[[bool], None]]:
        """Shuts the database of the store for writing, and opens it again."""

        def shut(whether: bool) -> None:
            with server.engine().connect() as connection:
                if server.maintenance == "postgres":
                    name = store.engine.url.database
                    connection.exec_driver_sql(
                        f"ALTER DATABASE {name} SET default_transaction_read_only = {whether}"
                    )
                else:
                    connection.exec_driver_sql(f"SET GLOBAL read_only = {whether:d}")

        yield shut
        shut(False)

    @pytest.fixture
    def store(self, server: databases.DatabaseServer, table: str) -> SQLStore:
        url = sa.make_url(server.default_url)
        if server.maintenance != "postgres":
            # Whoever may do all may write even then.
            with server.engine().connect() as connection:
                connection.exec_driver_sql("CREATE USER IF NOT EXISTS app@'127.0.0.1'")
                connection.exec_driver_sql(f"GRANT ALL ON {url.database}.* TO app@'127.0.0.1'")
            url = url.set(username="app")
        return opened(url.render_as_string(hide_password=False), table=table)

    @pytest.mark.parametrize("server", ["postgresql", "mariadb"], indirect=True)
    def test_it_is_an_error_and_nothing_is_lost(
        self,
        server: databases.DatabaseServer,
        store: SQLStore,
        shut: Callable[[bool], None],
    ) -> None:
        key = a_key()
        store.insert(key, record := a_record())
        shut(True)
        store.close()  # PostgreSQL goes by what was set when a connection was made

        assert store.load(key) == record
        for change in (
            lambda: store.update(key, Changes(set={"a": b"2"})),
            lambda: store.insert(a_key(), a_record()),
            lambda: store.delete(key),
        ):
            with pytest.raises(StoreError, match=r"read-only"):
                change()
            # Its address may be another server's by now, which can write.
            assert store.engine.pool.checkedin() == 0  # type: ignore[attr-defined] # of a QueuePool
        shut(False)
        assert store.load(key) == record
        assert store.update(key, Changes(set={"a": b"2"})) is UpdateResult.UPDATED


class SmallDisk:
    """A file system of few megabytes, where the servers may write."""

    def __init__(self, path: Path) -> None:
        self.path = path
        owner = pwd.getpwnam("nobody").pw_uid  # see databases.py
        self.is_there = self._mount(f"size=4m,mode=700,uid={owner}")

    def grow(self) -> None:
        assert self._mount("remount,size=16m")

    def _mount(self, options: str) -> bool:
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(self.path)]
        return subprocess.run(command, check=False, capture_output=True).returncode == 0


@pytest.fixture
def small_disk() -> Iterator[SmallDisk]:
    if os.getuid() != 0:
        pytest.skip("only root can make a file system that is soon full")
    with tempfile.TemporaryDirectory(prefix="ws-disk-", dir="/tmp") as directory:
        disk = SmallDisk(Path(directory))
        if not disk.is_there:
            pytest.skip("this machine lets nobody mount a file system")
        yield disk
        subprocess.run(["umount", "--lazy", directory], check=True)


class TestAFullDisk:
    def test_on_sqlite(self, small_disk: SmallDisk) -> None:
        self.fill(opened(f"sqlite:///{small_disk.path}/sessions.db"), small_disk.grow)

    def test_on_postgresql(
        self, small_disk: SmallDisk, shared: Callable[[str], databases.DatabaseServer], table: str
    ) -> None:
        store = opened(shared("postgresql").default_url, table=table)
        with outside(store) as connection:
            connection.exec_driver_sql(f"CREATE TABLESPACE small LOCATION '{small_disk.path}'")
            connection.exec_driver_sql(f"ALTER TABLE {table} SET TABLESPACE small")
        self.fill(store, small_disk.grow)
        store.close()
        with outside(store) as connection:
            connection.exec_driver_sql(f"DROP TABLE {table}")
            connection.exec_driver_sql("DROP TABLESPACE small")

    @pytest.mark.programs
    def test_on_mariadb(self) -> None:
        # On a disk that is full in truth it crashes at times; its answer is the same.
        program = databases.MariaDB.program() or missing("databases", databases.MISSING["mariadb"])
        server = databases.MariaDB(program, *self.with_at_most("20M"))

        def grow() -> None:
            server.stop()
            server.options = self.with_at_most("40M")
            server.start()
            store.close()

        server.start()
        try:
            store = opened(server.default_url)
            self.fill(store, grow)
        finally:
            server.remove()

    @staticmethod
    def with_at_most(size: str) -> tuple[str, ...]:
        place = f"--innodb-data-file-path=ibdata1:12M:autoextend:max:{size}"
        return place, "--innodb-file-per-table=0"

    def fill(self, store: SQLStore, grow: Callable[[], None]) -> None:
        kept: dict[str, Record] = {}

        def add() -> None:
            key = a_key()
            record = a_record(fields={"a": os.urandom(20_000)}, notes=b"battery-staple")
            assert store.insert(key, record)
            kept[key] = record

        with pytest.raises(StoreError, match=r"disk is full|No space left|is full") as caught:
            for _ in range(1000):
                add()
        assert "battery-staple" not in everything_shown(caught.value)
        assert len(kept) > 50
        assert {key: store.load(key) for key in kept} == kept
        grow()
        add()
        assert {key: store.load(key) for key in kept} == kept
