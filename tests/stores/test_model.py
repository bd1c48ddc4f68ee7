"""Any sequence of calls: each store answers as a plain dict would that keeps its promises."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    rule,
    run_state_machine_as_test,
)

from effort import effort
from wsgi_sessions.record import (
    LIST_OWNER,
    UNCHANGED,
    Changes,
    Record,
    UpdateResult,
    apply_changes,
)
from wsgi_sessions.stores import FileStore, MemoryStore, Store
from wsgi_sessions.stores.encrypted import EncryptedStore

UPDATED, GONE, CONFLICT = UpdateResult.UPDATED, UpdateResult.GONE, UpdateResult.CONFLICT

KEYS = st.sampled_from([hashlib.sha256(b"%d" % number).hexdigest() for number in range(5)])
NAMES = st.sampled_from(["a", "b", "c"])
VALUES = st.sampled_from([b"", b"1", b"22"])
FIELDS = st.dictionaries(NAMES, VALUES)
TIMES = st.integers(0, 20).map(float)
OWNERS = st.sampled_from(["x", "y", LIST_OWNER]) | st.none()
NUMBERS = st.integers(0, 3)
RECORDS = st.builds(
    Record,
    fields=FIELDS,
    notes=VALUES,
    used_at=st.just(0.0),
    expires_at=TIMES,
    version=st.integers(1, 3),
    epoch=NUMBERS,
    owner=OWNERS,
)
CHANGES = st.builds(
    Changes,
    set=FIELDS,
    delete=st.frozensets(NAMES),
    keep=st.none() | st.frozensets(NAMES),
    notes=st.none() | VALUES,
    # No later than any deadline is far: what writes reclaim by themselves is not modelled.
    used_at=st.none() | st.just(0.0),
    expires_at=st.none() | TIMES,
    owner=st.just(UNCHANGED) | OWNERS,
    epoch=st.none() | NUMBERS,
) | st.builds(Changes, used_at=st.none() | st.just(0.0), expires_at=st.none() | TIMES)
EPOCHS = st.none() | NUMBERS
VERSIONS = st.none() | st.integers(1, 4)


def apply(record: Record, changes: Changes) -> Record:
    return Record(
        apply_changes(record.fields, changes),
        record.notes if changes.notes is None else changes.notes,
        record.used_at if changes.used_at is None else changes.used_at,
        record.expires_at if changes.expires_at is None else changes.expires_at,
        record.version + (not changes.is_touch),
        record.epoch if changes.epoch is None else changes.epoch,
        record.owner if changes.owner is UNCHANGED else changes.owner,
    )


class Model(RuleBasedStateMachine):
    store: Store

    def __init__(self) -> None:
        super().__init__()
        self.records: dict[str, Record] = {}
        self.store = self.make_store()

    def make_store(self) -> Store:
        raise NotImplementedError

    @rule(key=KEYS, record=RECORDS)
    def insert(self, key: str, record: Record) -> None:
        assert self.store.insert(key, record) is (key not in self.records)
        self.records.setdefault(key, record)

    @rule(key=KEYS, changes=CHANGES, epoch=EPOCHS, version=VERSIONS)
    def update(self, key: str, changes: Changes, epoch: int | None, version: int | None) -> None:
        record = self.records.get(key)
        expected = self.verdict(record, version)
        if record is not None and (
            (epoch is not None and epoch != record.epoch)
            or (changes.used_at is not None and changes.used_at >= record.expires_at)
        ):
            expected = GONE
        answer = self.store.update(key, changes, if_epoch=epoch, if_version=version)
        assert answer is expected
        if record is not None and expected is UPDATED:
            self.records[key] = apply(record, changes)

    @rule(key=KEYS, version=VERSIONS)
    def delete(self, key: str, version: int | None) -> None:
        expected = self.verdict(self.records.get(key), version) is UPDATED
        assert self.store.delete(key, if_version=version) is expected
        if expected:
            del self.records[key]

    @rule(now=TIMES)
    def purge(self, now: float) -> None:
        dead = {key: record for key, record in self.records.items() if record.expires_at <= now}
        # A deadline of 0 is at or before the time of every write, so writes may have reclaimed it.
        assert self.store.purge_expired(now) == len(dead)
        for key in dead:
            del self.records[key]

    @rule()
    def clear(self) -> None:
        self.store.clear()
        self.records.clear()

    @invariant()
    def everything_is_as_it_should_be(self) -> None:
        keys = set(self.store.keys())
        assert {key: self.store.load(key) for key in keys} == self.records

    def verdict(self, record: Record | None, version: int | None) -> UpdateResult:
        if record is None:
            return GONE
        return UPDATED if version is None or record.version == version else CONFLICT


class MemoryModel(Model):
    def make_store(self) -> Store:
        store = MemoryStore()
        # Without the reclaiming that rides on writes, so that it is known what is there.
        store._reclaim = lambda now: None  # type: ignore[method-assign] # see above
        return store


class EncryptedModel(MemoryModel):
    def make_store(self) -> Store:
        return EncryptedStore(super().make_store(), (bytes(range(32)),))


class MigratingModel(MemoryModel):
    """Where every record begins as a plain one."""

    def make_store(self) -> Store:
        class InsertsPlain(EncryptedStore):
            def insert(self, key: str, record: Record) -> bool:
                return self.store.insert(key, record)

        return InsertsPlain(super().make_store(), (bytes(range(32)),), migrate=True)


class FileModel(Model):
    def make_store(self) -> Store:
        self.root = Path(tempfile.mkdtemp())
        store = FileStore(self.root / "sessions")
        # Without the cleaning that rides on writes, for the same reason.
        store._clean = lambda now: None  # type: ignore[method-assign] # see above
        return store

    def teardown(self) -> None:
        shutil.rmtree(self.root)


@pytest.mark.parametrize("model", [MemoryModel, FileModel, EncryptedModel, MigratingModel])
def test_a_store_answers_as_a_dict_would(model: type[Model]) -> None:
    examples = 100 if model is MemoryModel else 50
    run_state_machine_as_test(model, settings=effort(examples, steps=30))


def test_the_model_finds_a_store_that_forgets() -> None:
    class Forgetful(MemoryModel):
        def make_store(self) -> Store:
            class Broken(MemoryStore):
                def update(self, key: str, changes: Changes, **options: Any) -> UpdateResult:
                    return super().update(key, Changes(changes.set), **options)

            store = Broken()
            store._reclaim = lambda now: None  # type: ignore[method-assign] # as above
            return store

    with pytest.raises(AssertionError):
        run_state_machine_as_test(
            Forgetful,
            settings=settings(
                max_examples=500, deadline=None, database=None, phases=[Phase.generate]
            ),
        )
