"""Any sequence of calls: each store answers as a plain dict would that keeps its promises."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    rule,
    run_state_machine_as_test,
)

from wsgi_sessions.errors import StoreError
from wsgi_sessions.record import Changes, Record, UpdateResult
from wsgi_sessions.stores import FileStore, MemoryStore, Store
from wsgi_sessions.testing import FakeClock

UPDATED, GONE, CONFLICT = UpdateResult.UPDATED, UpdateResult.GONE, UpdateResult.CONFLICT

KEYS = st.sampled_from([hashlib.sha256(b"%d" % number).hexdigest() for number in range(5)])
NAMES = st.sampled_from(["a", "b", "c"])
VALUES = st.sampled_from([b"", b"1", b"22"])
FIELDS = st.dictionaries(NAMES, VALUES)
TIMES = st.integers(0, 20).map(float)
OWNERS = st.sampled_from(["x", "y"])
RECORDS = st.builds(
    Record,
    fields=FIELDS,
    notes=VALUES,
    used_at=st.just(0.0),
    expires_at=TIMES,
    version=st.integers(1, 3),
    owner=st.none() | OWNERS,
)
CHANGES = st.builds(
    Changes,
    set=FIELDS,
    delete=st.frozensets(NAMES),
    notes=st.none() | VALUES,
    # No later than any deadline is far: what writes reclaim by themselves is not modelled.
    used_at=st.none() | st.just(0.0),
    expires_at=st.none() | TIMES,
)
VERSIONS = st.none() | st.integers(1, 4)


def apply(record: Record, changes: Changes) -> Record:
    fields = {name: raw for name, raw in record.fields.items() if name not in changes.delete}
    fields |= changes.set
    return Record(
        fields,
        record.notes if changes.notes is None else changes.notes,
        record.used_at if changes.used_at is None else changes.used_at,
        record.expires_at if changes.expires_at is None else changes.expires_at,
        record.version + changes.changes_data,
        record.owner,
    )


class Model(RuleBasedStateMachine):
    store: Store

    def __init__(self) -> None:
        super().__init__()
        self.records: dict[str, Record] = {}
        self.owned: dict[str, dict[str, float]] = {"x": {}, "y": {}}
        self.generations = {"x": 0, "y": 0}
        self.store = self.make_store()
        self.store.clock = FakeClock(0.0)

    def make_store(self) -> Store:
        raise NotImplementedError

    @rule(key=KEYS, record=RECORDS)
    def insert(self, key: str, record: Record) -> None:
        assert self.store.insert(key, record) is (key not in self.records)
        self.records.setdefault(key, record)

    @rule(key=KEYS, changes=CHANGES, version=VERSIONS)
    def update(self, key: str, changes: Changes, version: int | None) -> None:
        record = self.records.get(key)
        expected = self.verdict(record, version)
        if record is not None and changes.used_at is not None:
            expected = GONE if changes.used_at >= record.expires_at else expected
        assert self.store.update(key, changes, if_version=version) is expected
        if record is not None and expected is UPDATED:
            self.records[key] = apply(record, changes)

    @rule(old=KEYS, new=KEYS, record=RECORDS, version=VERSIONS)
    def replace(self, old: str, new: str, record: Record, version: int | None) -> None:
        if old == new:
            return
        expected = self.verdict(self.records.get(old), version)
        if expected is UPDATED and new in self.records:
            with pytest.raises(StoreError):
                self.store.replace(old, new, record, if_version=version)
            return
        assert self.store.replace(old, new, record, if_version=version) is expected
        if expected is UPDATED:
            del self.records[old]
            self.records[new] = record

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
        for key, record in dead.items():
            del self.records[key]
            self.forgotten(record.owner, key)
        for entries in self.owned.values():
            for key in [key for key, at in entries.items() if at <= now]:
                del entries[key]

    def forgotten(self, owner: str | None, key: str) -> None:
        """A store may take the entry of what it purged out of the index, or leave it."""

    @rule(owner=OWNERS, key=KEYS, at=TIMES)
    def add_owned(self, owner: str, key: str, at: float) -> None:
        assert self.store.add_owned(owner, key, at) == self.generations[owner]
        self.owned[owner].pop(key, None)
        self.owned[owner][key] = at

    @rule(owner=OWNERS, keys=st.lists(KEYS))
    def remove_owned(self, owner: str, keys: list[str]) -> None:
        self.store.remove_owned(owner, keys)
        for key in keys:
            self.owned[owner].pop(key, None)

    @rule(owner=OWNERS)
    def next_generation(self, owner: str) -> None:
        self.generations[owner] += 1
        assert self.store.next_generation(owner) == self.generations[owner]

    @rule()
    def clear(self) -> None:
        self.store.clear()
        self.records.clear()
        for owner, entries in self.owned.items():
            entries.clear()
            self.generations[owner] = self.store.generation(owner)

    @invariant()
    def everything_is_as_it_should_be(self) -> None:
        keys = set(self.store.keys())
        assert {key: self.store.load(key) for key in keys} == self.records
        for owner, expected in self.owned.items():
            entries = self.store.owned_by(owner)
            dates = sorted(entries, key=lambda key: entries[key].added_at)
            assert {key: entry.expires_at for key, entry in entries.items()} == expected
            assert dates == list(expected)
            assert len({entry.added_at for entry in entries.values()}) == len(entries)
            assert self.store.generation(owner) == self.generations[owner]

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

    def forgotten(self, owner: str | None, key: str) -> None:
        if owner is not None:
            self.owned[owner].pop(key, None)


class FileModel(Model):
    def make_store(self) -> Store:
        self.root = Path(tempfile.mkdtemp())
        return FileStore(self.root / "sessions")

    def teardown(self) -> None:
        shutil.rmtree(self.root)


@pytest.mark.parametrize("model", [MemoryModel, FileModel])
def test_a_store_answers_as_a_dict_would(model: type[Model]) -> None:
    examples = 100 if model is MemoryModel else 40
    run_state_machine_as_test(
        model,
        settings=settings(
            max_examples=examples,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


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
