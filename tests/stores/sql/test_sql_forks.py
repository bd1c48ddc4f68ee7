"""A fork takes nothing of SQLite's along: SQLite would take the parent's locks for the child's own."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from stores.sql.material import a_key, a_record, a_touch, fresh, opened
from wsgi_sessions.record import UpdateResult
from wsgi_sessions.stores import SQLStore
from wsgi_sessions.stores.sql import forks, urls
from wsgi_sessions.testing.races import forked

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no fork"),
    # Forking in a process with threads is the test.
    pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning"),
]
UPDATED = UpdateResult.UPDATED


@pytest.fixture
def store(lite_url: str, monkeypatch: pytest.MonkeyPatch) -> SQLStore:
    monkeypatch.setattr(urls, "SQLITE_SECONDS", 0)
    return opened(lite_url)


@pytest.fixture
def writing(store: SQLStore) -> Iterator[Callable[[Callable[[], object]], None]]:
    """Begins a write in another thread, which goes on until the call answers."""
    threads: list[threading.Thread] = []

    def write_until(call: Callable[[], object]) -> None:
        begun = threading.Event()

        def write(cursor: Any) -> None:
            cursor.execute("BEGIN IMMEDIATE")
            begun.set()
            call()
            cursor.execute("COMMIT")

        threads.append(threading.Thread(target=store.database.run, args=("insert", write)))
        threads[-1].start()
        begun.wait()

    yield write_until
    for thread in threads:
        thread.join()


def test_a_child_that_is_forked_while_a_thread_writes_can_write(
    store: SQLStore, writing: Callable[[Callable[[], object]], None]
) -> None:
    key = a_key()
    store.insert(key, a_record())
    writing(lambda: time.sleep(0.3))

    forked(lambda: expect_update(store, key))
    assert store.update(key, a_touch()) is UPDATED


def expect_update(store: SQLStore, key: str) -> None:
    assert store.update(key, a_touch()) is UPDATED


def test_a_write_without_end_holds_no_fork_up(
    store: SQLStore,
    writing: Callable[[Callable[[], object]], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(forks, "PATIENCE", 0.05)
    key = a_key()
    store.insert(key, a_record())
    forked_meanwhile = threading.Event()
    writing(forked_meanwhile.wait)

    def read() -> None:
        assert store.load(key) is not None
        # What is still under way is the parent's, and no fork of the child's waits for it.
        monkeypatch.setattr(forks, "PATIENCE", 1e9)
        forked(lambda: store.load(key))

    forked(read)
    forked_meanwhile.set()


def test_what_a_child_writes_is_kept_whoever_else_closes_the_file(store: SQLStore) -> None:
    keys = [a_key(), a_key()]
    store.insert(keys[0], a_record())
    (closed, closing), (written, writing) = os.pipe(), os.pipe()

    def write() -> None:
        os.close(closing)
        expect_update(store, keys[0])  # from here on it has the file open
        os.write(writing, b".")
        os.read(closed, 1)
        assert store.insert(keys[1], a_record())
        os.write(writing, b".")

    def close_and_look() -> None:
        os.read(written, 1)
        store.close()  # the last connection that is closed takes the write-ahead log away
        os.close(closing)
        os.read(written, 1)
        assert fresh(store).load(keys[1]) is not None

    forked(write, meanwhile=close_and_look)
    for end in (closed, written, writing):
        os.close(end)
    assert {key for key in keys if store.load(key)} == set(keys)


def test_a_store_that_was_only_made_has_nothing_open(store: SQLStore) -> None:
    """uWSGI forks without a word to Python."""
    assert store.engine.pool.checkedin() == 0  # type: ignore[attr-defined] # of a QueuePool


def test_a_parent_goes_on_after_a_fork(store: SQLStore) -> None:
    key = a_key()
    store.insert(key, a_record())
    for _ in range(3):
        forked(lambda: expect_update(store, key))
        expect_update(store, key)
