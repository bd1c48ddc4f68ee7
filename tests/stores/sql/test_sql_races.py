"""Many at once: mixed load with purges, writers that are killed, calls that count as one statement."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

import databases
from effort import tries
from stores.sql.material import a_key, a_record, engine_at, fresh, opened
from wsgi_sessions.record import UNCHANGED, Changes, UpdateResult
from wsgi_sessions.stores import SQLStore

UPDATED = UpdateResult.UPDATED
SECONDS = tries(test=1, check=2, everything=120)
"""How long calls in no order go on."""
WRITERS = tries(test=2, check=4, everything=100)
"""How many writers are killed."""
THREADS = 8
MANY = {f"many {number}": b"%d" % number for number in range(25)}
"""More fields than MariaDB changes in one statement."""


def live(store: SQLStore, keys: list[str], until: float, chance: random.Random) -> None:
    """What requests do, in no order, on few sessions, so that they get into each other's way."""
    while time.monotonic() < until:
        key = chance.choice(keys)
        now = time.time()
        short = now + chance.choice([-1.0, 0.001, 1.0, 1000.0])
        match chance.randrange(9):
            case 0:
                store.insert(key, a_record(used_at=now, expires_at=short))
            case 1:
                store.delete(key, if_version=chance.choice([None, 1]))
            case 2:
                store.purge_expired(now)
            case 3:
                store.load(key)
            case 4:
                store.update(key, Changes(used_at=now, expires_at=short))
            case 5:
                store.update(key, Changes(keep=frozenset({"a"}), owner="1", epoch=1), if_epoch=0)
            case 6:
                version = chance.choice([None, 2])
                changes = Changes(set=MANY, delete=frozenset("b"), expires_at=short)
                store.update(key, changes, if_version=version)
            case _:
                name = chance.choice("abc")
                changes = Changes(
                    set={name: b"x" * chance.randrange(2000)},
                    delete=frozenset(chance.choice(["a", "d"])),
                    expires_at=short,
                    owner=chance.choice([UNCHANGED, None]),
                )
                store.update(key, changes, if_version=chance.choice([None, None, 2]))


def load_of(store: SQLStore, keys: list[str], seed: int) -> list[BaseException]:
    failed: list[BaseException] = []
    until = time.monotonic() + SECONDS

    def work(number: int) -> None:
        try:
            live(store, keys, until, random.Random(seed + number))
        except BaseException as error:
            failed.append(error)

    workers = [threading.Thread(target=work, args=(number,)) for number in range(THREADS)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return failed


def test_no_deadlock_and_no_lock_reaches_the_app(store: SQLStore) -> None:
    keys = [a_key() for _ in range(12)]
    child = os.fork()
    if child == 0:
        failed_there = True  # also by what would go on with pytest's work in the child
        try:
            failed_there = bool(load_of(fresh(store), keys, 100))
        finally:
            os._exit(failed_there)
    failed = load_of(store, keys, 0)
    _, status = os.waitpid(child, 0)

    assert failed == []
    assert os.waitstatus_to_exitcode(status) == 0


@pytest.mark.parametrize("level", ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"])
def test_nor_at_another_isolation_level(
    server: databases.DatabaseServer, table: str, level: str
) -> None:
    made = opened(server.default_url, table=table)
    engine = engine_at(made.engine.url, level)
    store = SQLStore(engine, table=table)
    try:
        assert load_of(store, [a_key() for _ in range(12)], 0) == []
    finally:
        store.close()


def test_many_fields_and_one_are_changed_at_once_and_none_is_lost(store: SQLStore) -> None:
    key = a_key()
    store.insert(key, a_record(fields=MANY))
    rounds = range(tries(test=20, check=50, everything=1000))
    together = threading.Barrier(2)

    def work() -> None:
        for number in rounds:
            together.wait()
            store.update(key, Changes(set={f"one {number}": b"1"}))

    worker = threading.Thread(target=work)
    worker.start()
    for number in rounds:
        together.wait()
        assert store.update(key, Changes(set=dict.fromkeys(MANY, b"%d" % number))) is UPDATED
    worker.join()

    record = store.load(key)
    assert record is not None
    assert record.fields == {
        **dict.fromkeys(MANY, b"%d" % rounds[-1]),
        **{f"one {number}": b"1" for number in rounds},
    }


WRITER = """
import sys
from wsgi_sessions.record import Changes
from wsgi_sessions.stores import SQLStore
url, table, key = sys.argv[1:]
store = SQLStore.from_url(url, table=table, create=False)
number = 0
while True:
    number += 1
    value = b"%d" % number * 500
    store.update(key, Changes(set={"a": value, "b": value}, notes=value))
    print(number, flush=True)
"""


def test_a_killed_writer_leaves_all_or_nothing(store: SQLStore, url: str) -> None:
    key = a_key()
    store.insert(key, a_record(fields={"a": b"0", "b": b"0"}, notes=b"0"))
    command = [sys.executable, "-c", WRITER, url, store.table.name, key]
    for _ in range(WRITERS):
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
            assert writer.stdout is not None
            said = [int(writer.stdout.readline()) for _ in range(random.randrange(1, 30))]
            writer.send_signal(signal.SIGKILL)
            said += [int(line) for line in writer.stdout if line.endswith("\n")]
        record = store.load(key)
        assert record is not None

        number = int(record.notes[: len(record.notes) // 500])
        assert record.fields["a"] == record.fields["b"] == record.notes
        assert number >= said[-1]
        assert store.update(key, Changes(set={"c": b"3"})) is UpdateResult.UPDATED


class TestRoundTrips:
    """Each call is one statement, and a short transaction for a refused one at most."""

    CALLS: tuple[tuple[int, Callable[[SQLStore, str], object]], ...] = (
        (1, lambda store, key: store.load(key)),
        (1, lambda store, key: store.insert(key, a_record())),
        (1, lambda store, key: store.insert(a_key(), a_record())),
        (1, lambda store, key: store.update(key, Changes(set={"a": b"2"}))),
        (1, lambda store, key: store.update(key, Changes(set={"a": b"2"}), if_version=2)),
        (1, lambda store, key: store.update(key, Changes(keep=frozenset("a"), epoch=1))),
        (1, lambda store, key: store.update(key, Changes(used_at=1.0))),
        (1, lambda store, key: store.update(key, Changes())),
        (1, lambda store, key: store.update(a_key(), Changes(used_at=1.0))),
        (2, lambda store, key: store.update(key, Changes(set={"a": b"2"}), if_version=99)),
        (1, lambda store, key: store.delete(key, if_version=99)),
        (1, lambda store, key: store.delete(key)),
    )

    def test_on_sqlite(self, lite_url: str) -> None:
        store = opened(lite_url)
        key = a_key()
        store.insert(key, a_record())
        seen: list[str] = []
        store.database.run("ping", lambda cursor: cursor.connection.set_trace_callback(seen.append))

        assert self.counts(store, key, lambda: len(seen)) == [count for count, _ in self.CALLS]

    def test_on_mariadb(
        self, shared: Callable[[str], databases.DatabaseServer], table: str
    ) -> None:
        store = opened(shared("mariadb").default_url, table=table)
        key = a_key()
        store.insert(key, a_record())

        def asked() -> int:
            # Of this connection: the pool hands out the one that was used last.
            def work(cursor: Any) -> int:
                cursor.execute("SHOW SESSION STATUS LIKE 'Questions'")
                return int(cursor.fetchone()[1])

            answer = store.database.run("ping", work)
            assert isinstance(answer, int)
            return answer

        before = asked()
        found = []
        for _, call in self.CALLS:
            call(store, key)
            after = asked()
            found.append(after - before - 1)
            before = after
        assert found == [count for count, _ in self.CALLS]

    def test_on_postgresql(
        self, shared: Callable[[str], databases.DatabaseServer], table: str
    ) -> None:
        server = shared("postgresql")
        url = f"{server.default_url}?options=-c%20log_statement%3Dall"
        store = opened(url, table=table)
        key = a_key()
        store.insert(key, a_record())

        def asked() -> int:
            log = (server.directory / "log").read_text(errors="replace")
            return log.count("LOG:  statement") + log.count("LOG:  execute")

        assert self.counts(store, key, asked) == [count for count, _ in self.CALLS]

    def counts(self, store: SQLStore, key: str, asked: Callable[[], int]) -> list[int]:
        found = []
        for _, call in self.CALLS:
            before = asked()
            call(store, key)
            found.append(asked() - before)
        return found


GEVENT = """
from gevent import monkey; monkey.patch_all()
import sys
import gevent
import gevent.event
from wsgi_sessions.stores import SQLStore
from wsgi_sessions.stores.sql import urls
urls.ANSWER_SECONDS = urls.CONNECT_SECONDS = 30
url, lock, unlock = sys.argv[1:]
store = SQLStore.from_url(url)
held, enough = gevent.event.Event(), gevent.event.Event()
waiting = 0
def hold(cursor):
    cursor.execute(lock)
    held.set()
    assert enough.wait(20), "nothing goes on while one waits for the database"
    cursor.execute(unlock)
def wait(cursor):
    global waiting
    waiting += 1
    cursor.execute(lock)
    cursor.execute(unlock)
def tick():
    ticks = 0
    while ticks < 10:
        ticks += waiting == 5
        gevent.sleep(0.01)
    enough.set()
holder = gevent.spawn(store.database.run, "ping", hold)
held.wait()
waiters = [gevent.spawn(store.database.run, "ping", wait) for _ in range(5)]
gevent.joinall([holder, gevent.spawn(tick), *waiters], raise_error=True)
store.close()
"""


def test_with_gevent_others_go_on_while_one_waits(server: databases.DatabaseServer) -> None:
    if server.maintenance == "postgres":
        lock = "SELECT pg_advisory_lock(1)", "SELECT pg_advisory_unlock(1)"
    else:
        lock = "SELECT GET_LOCK('one', 30)", "SELECT RELEASE_LOCK('one')"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", GEVENT, server.default_url, *lock],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )

    assert done.returncode == 0, done.stderr
