"""A store on SQL, with SQLAlchemy Core: complete, and held to the contract by the tests.

One row for each field, so that an update touches only what changed; every call is one transaction.
"""

import math
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from wsgi_sessions import StoreError
from wsgi_sessions.record import Changes, OwnedEntry, Record, UpdateResult, is_key
from wsgi_sessions.stores import Store

GENERATION_KEPT = 2 * 24 * 60 * 60.0

meta = sa.MetaData()
sessions = sa.Table(
    "sessions",
    meta,
    sa.Column("key", sa.String(64), primary_key=True),
    sa.Column("notes", sa.LargeBinary, nullable=False),
    sa.Column("used_at", sa.Double, nullable=False),
    sa.Column("expires_at", sa.Double, nullable=False, index=True),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("owner", sa.Text),
)
fields = sa.Table(
    "session_fields",
    meta,
    sa.Column("key", sa.String(64), sa.ForeignKey("sessions.key"), primary_key=True),
    sa.Column("name", sa.LargeBinary, primary_key=True),
    sa.Column("position", sa.Integer, nullable=False),
    sa.Column("value", sa.LargeBinary, nullable=False),
)
owned = sa.Table(
    "owned_sessions",
    meta,
    sa.Column("owner", sa.LargeBinary, primary_key=True),
    sa.Column("key", sa.String(64), primary_key=True),
    sa.Column("added_at", sa.Double, nullable=False),
    sa.Column("expires_at", sa.Double, nullable=True),  # NULL: no limit
    sa.Column("generation", sa.Integer, nullable=False),
)
generations = sa.Table(
    "owner_generations",
    meta,
    sa.Column("owner", sa.LargeBinary, primary_key=True),
    sa.Column("generation", sa.Integer, nullable=False),
    sa.Column("moved_at", sa.Double, nullable=False),
)


class SQLStore(Store):
    """Keeps sessions in a database that SQLAlchemy reaches."""

    def __init__(self, url: str) -> None:
        super().__init__()
        lite = sa.make_url(url).get_backend_name() == "sqlite"
        # Seconds to wait for another process's transaction; SQLite's own 5 are few under load.
        self._engine = sa.create_engine(url, connect_args={"timeout": 30} if lite else {})
        if lite:
            _write_lock_first(self._engine)
        with self._transaction("create") as db:
            meta.create_all(db)

    @contextmanager
    def _transaction(self, operation: str) -> Iterator[sa.Connection]:
        # An outage stays an outage: whatever the database says but an answer is a StoreError.
        try:
            with self._engine.begin() as db:
                yield db
        except SQLAlchemyError as error:
            kind = type(error).__name__
            raise StoreError(
                f"the database can't {operation}: {kind}", operation=operation
            ) from error

    def load(self, key: str) -> Record | None:
        if not is_key(key):
            return None
        with self._transaction("load") as db:
            row = db.execute(sa.select(sessions).where(sessions.c.key == key)).first()
            if row is None:
                return None
            values = db.execute(
                sa.select(fields.c.name, fields.c.value)
                .where(fields.c.key == key)
                .order_by(fields.c.position)
            )
            data = {name.decode(): value for name, value in values}
            return Record(data, row.notes, row.used_at, row.expires_at, row.version, row.owner)

    def insert(self, key: str, record: Record) -> bool:
        _check_new(key)
        with self._transaction("insert") as db:
            return self._insert(db, key, record)

    def _insert(self, db: sa.Connection, key: str, record: Record) -> bool:
        if _version(db, key) is not None:
            return False
        db.execute(
            sa.insert(sessions).values(
                key=key,
                notes=record.notes,
                used_at=record.used_at,
                expires_at=record.expires_at,
                version=record.version,
                owner=record.owner,
            )
        )
        _set(db, key, record.fields)
        return True

    def update(self, key: str, changes: Changes, *, if_version: int | None = None) -> UpdateResult:
        if not is_key(key):
            return UpdateResult.GONE
        with self._transaction("update") as db:
            row = db.execute(
                sa.select(sessions.c.version, sessions.c.expires_at)
                .where(sessions.c.key == key)
                .with_for_update()
            ).first()
            if row is None or (changes.used_at is not None and changes.used_at >= row.expires_at):
                return UpdateResult.GONE
            if if_version is not None and row.version != if_version:
                return UpdateResult.CONFLICT
            values = {
                "version": row.version + changes.changes_data,
                "notes": changes.notes,
                "used_at": changes.used_at,
                "expires_at": changes.expires_at,
            }
            given = {name: value for name, value in values.items() if value is not None}
            db.execute(sa.update(sessions).where(sessions.c.key == key).values(**given))
            _set(db, key, changes.set)
            gone = [name.encode() for name in changes.delete]
            db.execute(sa.delete(fields).where(fields.c.key == key, fields.c.name.in_(gone)))
            return UpdateResult.UPDATED

    def replace(
        self, old_key: str, new_key: str, record: Record, *, if_version: int | None = None
    ) -> UpdateResult:
        _check_new(new_key)
        with self._transaction("replace") as db:
            version = _version(db, old_key) if is_key(old_key) else None
            if version is None:
                return UpdateResult.GONE
            if if_version is not None and version != if_version:
                return UpdateResult.CONFLICT
            if not self._insert(db, new_key, record):
                raise StoreError("the new key exists", operation="replace")
            _delete(db, old_key)
            return UpdateResult.UPDATED

    def delete(self, key: str, *, if_version: int | None = None) -> bool:
        if not is_key(key):
            return False
        with self._transaction("delete") as db:
            version = _version(db, key)
            if version is None or (if_version is not None and version != if_version):
                return False
            _delete(db, key)
            return True

    def purge_expired(self, now: float) -> int:
        with self._transaction("purge_expired") as db:
            db.execute(sa.delete(owned).where(owned.c.expires_at <= now))
            listed = sa.select(owned.c.owner)
            forgotten = generations.c.moved_at <= now - GENERATION_KEPT
            db.execute(sa.delete(generations).where(forgotten, generations.c.owner.not_in(listed)))
            due = sa.select(sessions.c.key).where(sessions.c.expires_at <= now)
            db.execute(sa.delete(fields).where(fields.c.key.in_(due)))
            return db.execute(sa.delete(sessions).where(sessions.c.expires_at <= now)).rowcount

    def keys(self) -> Iterator[str]:
        with self._transaction("keys") as db:
            found = db.execute(sa.select(sessions.c.key)).scalars().all()
        return iter(found)

    def clear(self) -> None:
        with self._transaction("clear") as db:
            for table in reversed(meta.sorted_tables):
                db.execute(sa.delete(table))

    def ping(self) -> None:
        with self._transaction("ping") as db:
            db.execute(sa.select(1))

    def close(self) -> None:
        self._engine.dispose()

    def add_owned(self, owner: str, key: str, expires_at: float) -> int:
        name = owner.encode()
        with self._transaction("add_owned") as db:
            generation = self._generation(db, name)
            latest = db.execute(
                sa.select(sa.func.max(owned.c.added_at)).where(owned.c.owner == name)
            ).scalar()
            added_at = self.clock() if latest is None else max(self.clock(), latest + 1e-6)
            db.execute(sa.delete(owned).where(owned.c.owner == name, owned.c.key == key))
            db.execute(
                sa.insert(owned).values(
                    owner=name,
                    key=key,
                    added_at=added_at,
                    expires_at=None if math.isinf(expires_at) else expires_at,
                    generation=generation,
                )
            )
            return generation

    def owned_by(self, owner: str) -> Mapping[str, OwnedEntry]:
        with self._transaction("owned_by") as db:
            rows = db.execute(sa.select(owned).where(owned.c.owner == owner.encode()))
            return {
                row.key: OwnedEntry(
                    row.added_at,
                    math.inf if row.expires_at is None else row.expires_at,
                    row.generation,
                )
                for row in rows
            }

    def remove_owned(self, owner: str, keys: Collection[str]) -> None:
        with self._transaction("remove_owned") as db:
            mine = owned.c.owner == owner.encode()
            db.execute(sa.delete(owned).where(mine, owned.c.key.in_(list(keys))))

    def generation(self, owner: str) -> int:
        with self._transaction("generation") as db:
            return self._generation(db, owner.encode())

    def _generation(self, db: sa.Connection, name: bytes) -> int:
        found = sa.select(generations.c.generation).where(generations.c.owner == name)
        return db.execute(found.with_for_update()).scalar() or 0

    def next_generation(self, owner: str) -> int:
        name = owner.encode()
        with self._transaction("next_generation") as db:
            generation = self._generation(db, name) + 1
            db.execute(sa.delete(generations).where(generations.c.owner == name))
            values = {"owner": name, "generation": generation, "moved_at": self.clock()}
            db.execute(sa.insert(generations).values(**values))
            return generation


def _check_new(key: str) -> None:
    if not is_key(key):
        raise StoreError("that is no store key", operation="insert")


def _version(db: sa.Connection, key: str) -> int | None:
    found = sa.select(sessions.c.version).where(sessions.c.key == key)
    return db.execute(found.with_for_update()).scalar()


def _delete(db: sa.Connection, key: str) -> None:
    db.execute(sa.delete(fields).where(fields.c.key == key))
    db.execute(sa.delete(sessions).where(sessions.c.key == key))


def _set(db: sa.Connection, key: str, values: Mapping[str, bytes]) -> None:
    if not values:
        return
    found = sa.select(fields.c.name).where(fields.c.key == key)
    present = set(db.execute(found).scalars())
    position = len(present)
    for name, value in values.items():
        row = {"key": key, "name": name.encode(), "value": bytes(value)}
        if row["name"] in present:
            same = (fields.c.key == key) & (fields.c.name == row["name"])
            db.execute(sa.update(fields).where(same).values(value=row["value"]))
        else:
            position += 1
            db.execute(sa.insert(fields).values(position=position, **row))


def _write_lock_first(engine: sa.Engine) -> None:
    # SQLite has no SELECT … FOR UPDATE. A transaction that reads first and writes later can be
    # overtaken in between, so each begins with the lock for writing.
    @sa.event.listens_for(engine, "connect")
    def _no_implicit_begin(connection: object, record: object) -> None:
        connection.isolation_level = None  # type: ignore[attr-defined]  # a sqlite3.Connection

    @sa.event.listens_for(engine, "begin")
    def _begin(connection: sa.Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")
