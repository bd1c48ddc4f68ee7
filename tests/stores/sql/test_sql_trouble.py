"""When the database is away, slow, busy or broken: what SQLStore does, and what it says of it."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

import databases
import servers
from ports import free_port
from stores.sql.material import (
    OPENED,
    SECRET,
    VALUE,
    a_key,
    a_record,
    a_touch,
    everything_shown,
    fresh,
    opened,
    outside,
)
from wsgi_sessions.errors import StoreError
from wsgi_sessions.record import Changes, Record, UpdateResult
from wsgi_sessions.stores import SQLStore
from wsgi_sessions.stores.sql import connections, urls

UPDATED, GONE = UpdateResult.UPDATED, UpdateResult.GONE


def end_all_connections(server: databases.DatabaseServer) -> None:
    """As a restart of the server does, or a firewall."""
    with server.engine().connect() as connection:
        if server.maintenance == "postgres":
            connection.exec_driver_sql(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'"
            ).all()
            others = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'"
            servers.until(
                lambda: connection.exec_driver_sql(others).scalar() == 1, what="end of all others"
            )
            return
        mine = connection.exec_driver_sql("SELECT CONNECTION_ID()").scalar()
        listed = connection.exec_driver_sql(
            f"SELECT id FROM information_schema.processlist WHERE user = 'root' AND id <> {mine}"
        )
        killed = listed.scalars().all()
        for number in killed:
            connection.exec_driver_sql(f"KILL {number}")
        left = f"SELECT count(*) FROM information_schema.processlist WHERE id IN ({','.join(map(str, killed))})"
        servers.until(
            lambda: not killed or connection.exec_driver_sql(left).scalar() == 0,
            what="end of all others",
        )


def answer(store: SQLStore, key: str) -> Record | None:
    """The record; None while the database is too slow for the store."""
    with contextlib.suppress(StoreError):
        return store.load(key)
    return None


class TestALostConnection:
    @pytest.fixture
    def store(self, server: databases.DatabaseServer, table: str) -> SQLStore:
        return opened(server.default_url, table=table)

    def test_a_read_is_asked_anew(self, server: databases.DatabaseServer, store: SQLStore) -> None:
        key = a_key()
        store.insert(key, a_record())
        end_all_connections(server)

        assert store.load(key) is not None
        end_all_connections(server)
        assert list(store.keys()) == [key]
        end_all_connections(server)
        store.ping()

    def test_a_write_notices_it_before_anything_is_sent(
        self, server: databases.DatabaseServer, store: SQLStore
    ) -> None:
        key = a_key()
        store.insert(key, a_record())
        end_all_connections(server)

        assert store.update(key, Changes(set={"a": b"2"})) is UPDATED

    def test_after_a_while_a_connection_is_asked_first(
        self,
        server: databases.DatabaseServer,
        store: SQLStore,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(connections, "IDLE_SECONDS", -1.0)
        key = a_key()
        store.insert(key, a_record())
        end_all_connections(server)

        assert store.update(key, Changes(set={"a": b"2"})) is UPDATED
        assert store.update(key, Changes(set={"a": b"3"})) is UPDATED

    def test_a_transaction_that_is_lost_leaves_nothing_behind(
        self, server: databases.DatabaseServer, store: SQLStore
    ) -> None:
        key = a_key()
        store.insert(key, a_record())

        def give_up(cursor: Any) -> None:
            cursor.execute("BEGIN")
            cursor.execute(f"DELETE FROM {store.table.name}")
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            store.database.run("purge_expired", give_up)
        assert store.load(key) is not None

    def test_a_statement_that_fails_is_rolled_back(self, store: SQLStore) -> None:
        key = a_key()
        store.insert(key, a_record())

        def fail(cursor: Any) -> None:
            cursor.execute("BEGIN")
            cursor.execute(f"DELETE FROM {store.table.name}")
            cursor.execute("nonsense")

        with pytest.raises(StoreError, match=r"\(purge_expired\): \w+ (42601|1064)$"):
            store.database.run("purge_expired", fail)
        assert store.load(key) is not None


class TestADatabaseThatHasBecomeReadOnly:
    """One that was demoted still reads, and leaves its connections open."""

    ONLY_READS = {
        "sqlite": "PRAGMA query_only = ON",
        "postgresql": "SET default_transaction_read_only = on",
        "mysql": "SET SESSION TRANSACTION READ ONLY",
    }

    def test_its_connections_are_given_up_at_the_first_write(self, store: SQLStore) -> None:
        key = a_key()
        store.insert(key, a_record())
        demote = self.ONLY_READS[store.engine.dialect.name.replace("mariadb", "mysql")]
        store.database.run("ping", lambda cursor: cursor.execute(demote))

        assert store.load(key) is not None
        with pytest.raises(StoreError, match=r"(?i)\(update\): .*read[ -]?only"):
            store.update(key, Changes(set={"a": b"2"}))
        assert store.update(key, Changes(set={"a": b"2"})) is UPDATED


class TestADatabaseThatIsDown:
    CALLS: tuple[tuple[str, Callable[[SQLStore, str], object]], ...] = (
        ("load", lambda store, key: store.load(key)),
        ("insert", lambda store, key: store.insert(key, a_record(fields={"a": VALUE}))),
        ("update", lambda store, key: store.update(key, Changes(set={"a": VALUE}))),
        ("delete", lambda store, key: store.delete(key)),
        ("purge_expired", lambda store, key: store.purge_expired(time.time())),
        ("keys", lambda store, key: list(store.keys())),
        ("clear", lambda store, key: store.clear()),
        ("ping", lambda store, key: store.ping()),
        ("count_expired", lambda store, key: store.count_expired(time.time())),
    )

    @pytest.mark.parametrize("scheme", ["postgresql", "mysql", "mariadb"])
    def test_it_is_an_error_that_says_where(self, scheme: str) -> None:
        port = free_port()
        store = opened(f"{scheme}://user:{SECRET}@127.0.0.1:{port}/db")

        for _, call in self.CALLS:
            with pytest.raises(
                StoreError, match=r"failed \(\w+\): OperationalError.*127.0.0.1"
            ) as (caught):
                call(store, a_key())
            shown = everything_shown(caught.value)
            assert SECRET not in shown
            assert VALUE.decode() not in shown
            assert caught.value.operation in ("create", "prepare")

    def test_an_error_names_what_was_asked_for(self, own_server: databases.DatabaseServer) -> None:
        store = opened(own_server.default_url)
        store.ping()
        own_server.kill()
        for operation, call in self.CALLS:
            with pytest.raises(StoreError, match=rf"failed \({operation}\): \w+") as caught:
                call(store, a_key())
            assert caught.value.operation == operation

    def test_the_app_starts_before_the_database(self, own_server: databases.DatabaseServer) -> None:
        url = own_server.default_url
        own_server.stop()
        store = opened(url)
        with pytest.raises(StoreError):
            store.load(a_key())
        own_server.start()

        assert store.insert(key := a_key(), a_record())
        assert store.load(key) is not None

    def test_what_was_said_to_be_kept_outlives_a_crash(
        self, own_server: databases.DatabaseServer
    ) -> None:
        store = opened(own_server.default_url)
        kept = {a_key(): {"a": b"%d" % number} for number in range(50)}
        for key, fields in kept.items():
            store.insert(key, a_record(fields={"a": b""}))
            store.update(key, Changes(set=fields))
        own_server.kill()
        own_server.start()

        found = {key: dict(record.fields) for key in kept if (record := store.load(key))}
        assert found == kept
        assert store.update(key, Changes(set={"a": b"again"})) is UPDATED

    def test_a_server_that_has_stopped_is_an_error_within_seconds(
        self, own_server: databases.DatabaseServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        key = a_key()
        opened(own_server.default_url).insert(key, a_record())
        monkeypatch.setattr(urls, "ANSWER_SECONDS", 1)
        monkeypatch.setattr(urls, "CONNECT_SECONDS", 2)
        store = opened(own_server.default_url)
        servers.until(lambda: answer(store, key), what="answer")
        own_server.freeze()
        try:
            for _ in range(2):
                with pytest.raises(
                    StoreError, match=r"failed \(load\): .*(time(d )?out|timed out|answer)"
                ):
                    store.load(key)
            own_server.thaw()
            servers.until(lambda: answer(store, key), what="answer")
            own_server.freeze()
            with pytest.raises(
                StoreError, match=r"failed \(update\): .*(time(d )?out|timed out|answer)"
            ):
                store.update(key, a_touch())
        finally:
            own_server.thaw()

        assert servers.until(lambda: answer(store, key), what="answer")

    @pytest.mark.slow  # libpq waits no less than two seconds, and twice
    def test_a_port_that_never_answers_is_an_error(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(urls, "CONNECT_SECONDS", 2)
        monkeypatch.setattr(urls, "ANSWER_SECONDS", 2)
        with socket.create_server(("127.0.0.1", 0)) as silent:
            port = silent.getsockname()[1]
            for scheme in ("postgresql", "mysql"):
                with pytest.raises(StoreError, match=r"time(d )?out"):
                    opened(f"{scheme}://user@127.0.0.1:{port}/db").load(a_key())

    def test_more_threads_than_the_pool_has_connections_wait_no_longer(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(urls, "CONNECT_SECONDS", 1)
        monkeypatch.setattr(urls, "ANSWER_SECONDS", 1)
        waited: list[float] = []
        with socket.create_server(("127.0.0.1", 0), backlog=100) as silent:
            store = opened(f"mysql://user@127.0.0.1:{silent.getsockname()[1]}/db")

            def ask() -> None:
                before = time.monotonic()
                with pytest.raises(StoreError, match=r"timed out"):
                    store.load(a_key())
                waited.append(time.monotonic() - before)

            threads = [threading.Thread(target=ask) for _ in range(25)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()

        assert len(waited) == 25
        # A pool that lets them wait for each other without end is what this is about: a busy
        # machine may well take some seconds more.
        assert max(waited) < 25


class TestAWrongPassword:
    def test_it_is_said_without_the_password(self, server: databases.DatabaseServer) -> None:
        if server.maintenance == "postgres":
            url = sa.make_url(server.default_url).set(username="nobody")
        else:
            url = sa.make_url(server.default_url).set(username="nobody", password=SECRET)
        store = opened(url.render_as_string(hide_password=False))

        with pytest.raises(StoreError, match=r"'?nobody'?") as caught:
            store.load(a_key())
        assert SECRET not in everything_shown(caught.value)


class TestWhatIsShown:
    BROKEN = a_record(fields={VALUE.decode(): VALUE}, notes=VALUE, owner=VALUE.decode())

    @pytest.fixture
    def narrow(self, store: SQLStore) -> Iterator[SQLStore]:
        """A store whose table refuses whatever is longer than a few bytes, or whose version is 2."""
        name = store.table.name
        with outside(store) as connection:
            if store.engine.dialect.name == "sqlite":
                connection.exec_driver_sql(
                    f"CREATE TRIGGER t BEFORE INSERT ON {name} WHEN length(NEW.notes) > 3"
                    " BEGIN SELECT RAISE(FAIL, 'too long'); END"
                )
            elif store.engine.dialect.name == "postgresql":
                connection.exec_driver_sql(
                    f"ALTER TABLE {name} ADD CONSTRAINT few CHECK (length(notes) < 3)"
                )
            else:
                connection.exec_driver_sql(f"ALTER TABLE {name} MODIFY notes VARBINARY(3)")
        yield store

    def test_no_value_is_shown_when_a_write_is_refused(self, narrow: SQLStore) -> None:
        key = a_key()

        with pytest.raises(StoreError, match=r"failed \(insert\): \w+") as caught:
            narrow.insert(key, self.BROKEN)
        shown = everything_shown(caught.value)
        assert VALUE.decode() not in shown
        assert VALUE.hex() not in shown
        assert key not in shown
        assert narrow.load(key) is None

    @pytest.mark.parametrize(
        "changed",
        [
            {"fields": {VALUE.decode(): 1}},
            {"fields": {1: VALUE}},
            {"notes": VALUE.decode()},
            {"owner": 42},
            {"expires_at": float("nan")},
            {"used_at": float("nan")},
            {"used_at": float("inf")},
            {"expires_at": "soon"},
            {"version": "one"},
        ],
    )
    def test_what_is_of_the_wrong_type_is_refused(
        self, store: SQLStore, changed: dict[str, Any]
    ) -> None:
        key = a_key()

        with pytest.raises(StoreError) as caught:
            store.insert(key, a_record(**changed))
        assert VALUE.decode() not in everything_shown(caught.value)
        assert store.load(key) is None

    @pytest.mark.parametrize(
        "changes",
        [
            Changes(set={"a": 1}),  # type: ignore[dict-item] # that is the test
            Changes(set={1: b""}),  # type: ignore[dict-item] # as above
            Changes(owner=42),  # type: ignore[arg-type] # as above
            Changes(notes="text"),  # type: ignore[arg-type] # as above
            Changes(expires_at=float("nan")),
            Changes(used_at=float("nan")),
            Changes(used_at=float("-inf"), set={"a": b"2"}),
        ],
    )
    def test_so_are_changes(self, store: SQLStore, changes: Changes) -> None:
        key = a_key()
        store.insert(key, record := a_record())

        with pytest.raises(StoreError):
            store.update(key, changes)
        assert store.load(key) == record

    def test_what_is_too_long_is_never_cut(self, store: SQLStore) -> None:
        if store.engine.dialect.name != "mariadb":
            pytest.skip("MySQL cuts what is too long, unless it is told not to")
        with outside(store) as connection:
            connection.exec_driver_sql("SET GLOBAL sql_mode = ''")
        key = a_key()
        try:
            lax = fresh(store)
            with pytest.raises(StoreError):
                lax.insert(key, a_record(owner="x" * 100, notes=b"", version=1 << 63))
        finally:
            with outside(store) as connection:
                connection.exec_driver_sql("SET GLOBAL sql_mode = DEFAULT")
        assert store.load(key) is None


class TestABusyDatabase:
    def test_what_the_database_undid_is_done_again(
        self, shared: Callable[[str], databases.DatabaseServer], table: str
    ) -> None:
        store = opened(shared("postgresql").default_url, table=table)
        give_way(store, times=3)

        assert store.insert(key := a_key(), a_record())
        assert store.load(key) is not None

    def test_for_ever_it_is_an_error(
        self,
        shared: Callable[[str], databases.DatabaseServer],
        table: str,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(connections, "PATIENCE", 0.05)
        store = opened(shared("postgresql").default_url, table=table)
        give_way(store, times=10**9)

        with pytest.raises(StoreError, match=r"\(insert\): \w+ 40001: give way$"):
            store.insert(a_key(), a_record())

    @pytest.mark.parametrize(
        "make",
        [
            lambda url: SQLStore.from_url(f"{url}?timeout=0.1"),
            lambda url: SQLStore(sa.create_engine(url, connect_args={"timeout": 0.1})),
        ],
        ids=["a URL's", "an engine's"],
    )
    def test_a_sqlite_file_that_another_holds_is_waited_for_and_then_an_error(
        self, lite_url: str, make: Callable[[str], SQLStore]
    ) -> None:
        OPENED.append(store := make(lite_url))
        key = a_key()
        store.insert(key, a_record())
        with outside(store) as other:
            other.exec_driver_sql("BEGIN IMMEDIATE")
            with pytest.raises(StoreError, match=r"\(update\): OperationalError: database is lock"):
                store.update(key, Changes(set={"a": b"2"}))

            assert store.load(key) is not None
        assert store.update(key, Changes(set={"a": b"2"})) is UPDATED
        with store.engine.connect() as connection:
            assert connection.exec_driver_sql("PRAGMA busy_timeout").scalar() == 100


def give_way(store: SQLStore, times: int) -> None:
    """Have so many inserts undone, as by SERIALIZABLE."""
    name = store.table.name
    with outside(store) as connection:
        connection.exec_driver_sql(f"CREATE SEQUENCE {name}_tries")
        connection.exec_driver_sql(
            f"CREATE FUNCTION {name}_refuse() RETURNS trigger AS $$ BEGIN"
            f" IF nextval('{name}_tries') <= {times} THEN"
            " RAISE EXCEPTION 'give way' USING ERRCODE = '40001'; END IF; RETURN NEW; END"
            " $$ LANGUAGE plpgsql"
        )
        connection.exec_driver_sql(
            f"CREATE TRIGGER refuse BEFORE INSERT ON {name}"
            f" FOR EACH ROW EXECUTE FUNCTION {name}_refuse()"
        )


DAMAGE = {
    "sqlite": [
        "fields = x''",
        "fields = x'ffffffff'",
        "fields = x'0200000001000000010000006161ff'",
        "fields = x'02000000010000000a0000006161'",
        "fields = 'text'",
        "fields = 1",
        "owner = x'ff'",
        "notes = 1.5",
        "notes = 4611686018427387904",
        "notes = 'text'",
        "owner = 3",
        "owner = 4611686018427387904",
        "owner = 'text'",
        "version = 9e999",
        "version = -1",
        "version = 'text'",
        "epoch = 9e999",
        "epoch = 1.5",
        "used_at = 'text'",
        "used_at = x'00'",
        "expires_at = 'text'",
    ],
    "postgresql": [
        "fields = ARRAY['a'::bytea]",
        "fields = ARRAY['a'::bytea, NULL]",
        r"fields = ARRAY['\xff'::bytea, 'a'::bytea]",
        r"owner = '\xff'",
        "used_at = 'NaN'",
        "expires_at = 'NaN'",
        "version = -1",
    ],
    "mariadb": [
        "fields = '[]'",
        "fields = '1'",
        """fields = '{"a": 1}'""",
        """fields = '{"a": "!!!"}'""",
        """fields = '{"a": "YQ"}'""",
        """fields = '{"~zz": "YQ=="}'""",
        """fields = '{"~ff": "YQ=="}'""",
        "version = -1",
        "owner = x'ff'",
    ],
}


@pytest.mark.parametrize(
    ("url", "damage"),
    [(name, damage) for name, many in DAMAGE.items() for damage in many],
    indirect=["url"],
)
def test_a_row_that_cannot_be_read_is_none_as_a_whole(store: SQLStore, damage: str) -> None:
    told: list[tuple[str, str]] = []
    store.subscribe(lambda kind, at, detail: told.append((kind, at)))
    key = a_key()
    store.insert(key, a_record(owner="42"))
    with outside(store) as connection:
        connection.exec_driver_sql(f"UPDATE {store.table.name} SET {damage}")

    assert store.load(key) is None
    assert told == [("corrupt_record", key)]
    assert store.insert(key, a_record()) is False
    if store.engine.dialect.name == "sqlite" and damage.startswith("fields"):
        assert store.update(key, Changes(set={"a": b"2"})) is GONE
        assert told == [("corrupt_record", key)] * 2
    if store.engine.dialect.name == "mariadb" and damage.startswith("fields"):
        many = {f"field {number}": b"2" for number in range(100)}
        assert store.update(key, Changes(set=many)) is GONE
        assert told == [("corrupt_record", key)] * 2


def test_times_without_end_are_kept(store: SQLStore) -> None:
    key = a_key()
    record = Record({}, b"", time.time(), float("inf"))
    store.insert(key, record)

    assert store.load(key) == record
    assert store.purge_expired(time.time()) == 0
    assert store.update(key, a_touch()) is UPDATED


def test_s5_a_file_that_cannot_be_opened_says_who_tried(tmp_path: Path) -> None:
    path = tmp_path / "gone" / "sessions.db"
    store = SQLStore.from_url(f"sqlite:///{path}")

    with pytest.raises(
        StoreError, match=rf"{path} and its directory must be there \(.*\), and user \d+ "
    ):
        store.ping()


@pytest.mark.parametrize("create", [True, False])
def test_a_directory_that_cannot_be_looked_into_says_who_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, create: bool
) -> None:
    path = tmp_path / "closed" / "sessions.db"

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(os, "open", refuse)
    monkeypatch.setattr(os, "stat", refuse)
    store = SQLStore.from_url(f"sqlite:///{path}", create=create)

    with pytest.raises(StoreError, match=rf"{path} and its directory .*, and user \d+ "):
        store.ping()
