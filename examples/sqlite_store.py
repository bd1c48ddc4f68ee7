"""A store on SQLite, with nothing but the standard library: complete, and held to the contract."""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from wsgi_sessions.errors import StoreError
from wsgi_sessions.record import UNCHANGED, Changes, Record, UpdateResult, is_key
from wsgi_sessions.stores import Store

TABLES = """
CREATE TABLE IF NOT EXISTS sessions (
    key TEXT PRIMARY KEY, notes BLOB NOT NULL, used_at REAL NOT NULL, expires_at REAL NOT NULL,
    version INTEGER NOT NULL, epoch INTEGER NOT NULL, owner TEXT
);
CREATE INDEX IF NOT EXISTS sessions_expire ON sessions (expires_at);
CREATE TABLE IF NOT EXISTS fields (
    key TEXT NOT NULL REFERENCES sessions ON DELETE CASCADE,
    name TEXT NOT NULL, value BLOB NOT NULL, PRIMARY KEY (key, name)
);
"""
CHANGE = """
UPDATE sessions SET notes = coalesce(?, notes), used_at = coalesce(?, used_at),
    expires_at = coalesce(?, expires_at), epoch = coalesce(?, epoch),
    owner = CASE WHEN ? THEN owner ELSE ? END, version = version + ? WHERE key = ?
"""


class SQLiteStore(Store):
    """Keeps sessions in one file."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self._path = path
        self._process = os.getpid()
        self._idle: list[sqlite3.Connection] = []
        self._inherited: list[sqlite3.Connection] = []
        with suppress(FileExistsError):
            os.close(os.open(path, os.O_CREAT | os.O_EXCL, 0o600))
        with self._transaction("create tables") as db:
            for table in TABLES.split(";"):
                db.execute(table)

    @contextmanager
    def _transaction(self, operation: str) -> Iterator[sqlite3.Connection]:
        # Whatever the driver raises is a StoreError: an outage must not look like "no session".
        try:
            db = self._connection()
            try:
                with db:
                    # The write lock first: two that read and then want to write would both wait.
                    db.execute("BEGIN" if operation == "load" else "BEGIN IMMEDIATE")
                    yield db
            finally:
                self._idle.append(db)
        except (sqlite3.Error, OverflowError, UnicodeError) as error:
            name = type(error).__name__
            raise StoreError(f"can't {operation}: {name}", operation=operation) from error

    def _connection(self) -> sqlite3.Connection:
        # No two threads share a connection, and no child process uses its parent's, nor closes it.
        if self._process != os.getpid():
            self._inherited += self._idle
            self._process, self._idle = os.getpid(), []
        try:
            return self._idle.pop()
        except IndexError:
            # 30 seconds for other processes' transactions; ours begin where we say so.
            db = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
            db.executescript("PRAGMA busy_timeout = 30000; PRAGMA foreign_keys = ON")
            return db

    def load(self, key: str) -> Record | None:
        if not is_key(key):
            return None
        with self._transaction("load") as db:
            row = db.execute("SELECT * FROM sessions WHERE key = ?", (key,)).fetchone()
            fields = db.execute("SELECT name, value FROM fields WHERE key = ?", (key,)).fetchall()
        return None if row is None else Record(dict(fields), *row[1:])

    def insert(self, key: str, record: Record) -> bool:
        if not is_key(key):
            raise StoreError("not a store key", operation="insert")
        with self._transaction("insert") as db:
            if db.execute("SELECT 1 FROM sessions WHERE key = ?", (key,)).fetchone():
                return False
            row = (key, record.notes, record.used_at, record.expires_at)
            more = (record.version, record.epoch, record.owner)
            db.execute("INSERT INTO sessions VALUES (?, ?, ?, ?, ?, ?, ?)", row + more)
            _change_fields(db, key, Changes(set=record.fields))
            return True

    def update(
        self,
        key: str,
        changes: Changes,
        *,
        if_epoch: int | None = None,
        if_version: int | None = None,
    ) -> UpdateResult:
        if not is_key(key):
            return UpdateResult.GONE
        with self._transaction("update") as db:
            sql = "SELECT expires_at, version, epoch FROM sessions WHERE key = ?"
            expires_at, version, epoch = db.execute(sql, (key,)).fetchone() or [None] * 3
            late = None not in (version, changes.used_at) and changes.used_at >= expires_at
            if version is None or late or if_epoch not in (None, epoch):
                return UpdateResult.GONE
            if if_version not in (None, version):
                return UpdateResult.CONFLICT
            _change_fields(db, key, changes)
            owner = (True, None) if changes.owner is UNCHANGED else (False, changes.owner)
            given = (changes.notes, changes.used_at, changes.expires_at, changes.epoch, *owner)
            db.execute(CHANGE, (*given, not changes.is_touch, key))
            return UpdateResult.UPDATED

    def delete(self, key: str, *, if_version: int | None = None) -> bool:
        with self._transaction("delete") as db:
            sql = "DELETE FROM sessions WHERE key = ? AND version = coalesce(?, version)"
            return is_key(key) and db.execute(sql, (key, if_version)).rowcount == 1

    def purge_expired(self, now: float) -> int:
        with self._transaction("purge") as db:
            return db.execute("DELETE FROM sessions WHERE expires_at <= ?", (now,)).rowcount

    def keys(self) -> Iterator[str]:
        with self._transaction("list") as db:
            return iter([key for (key,) in db.execute("SELECT key FROM sessions")])

    def clear(self) -> None:
        with self._transaction("clear") as db:
            db.execute("DELETE FROM sessions")

    def ping(self) -> None:
        with self._transaction("answer") as db:
            db.execute("SELECT 1 FROM sessions LIMIT 1").fetchone()

    def close(self) -> None:
        while self._process == os.getpid() and self._idle:
            self._idle.pop().close()


def _change_fields(db: sqlite3.Connection, key: str, changes: Changes) -> None:
    names = [name for (name,) in db.execute("SELECT name FROM fields WHERE key = ?", (key,))]
    gone = changes.delete if changes.keep is None else changes.delete | {*names} - changes.keep
    db.executemany("DELETE FROM fields WHERE key = ? AND name = ?", [(key, n) for n in gone])
    rows = [(key, name, value) for name, value in changes.set.items()]
    db.executemany("INSERT OR REPLACE INTO fields VALUES (?, ?, ?)", rows)
