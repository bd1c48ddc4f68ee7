"""The contract itself is tested: each store here breaks one promise, and the contract must see it.

A broken store is a MemoryStore with one habit changed, each seen in published session libraries.
Which test catches it is named, so that a test that stops catching anything is noticed too.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from wsgi_sessions.errors import StoreError
from wsgi_sessions.record import Changes, OwnedEntry, Record, UpdateResult, is_key
from wsgi_sessions.stores import FileStore, MemoryStore, Store
from wsgi_sessions.stores.packing import changed
from wsgi_sessions.testing import StoreContract

UPDATED, GONE, CONFLICT = UpdateResult.UPDATED, UpdateResult.GONE, UpdateResult.CONFLICT


class InTwoSteps(MemoryStore):
    """Something of it is done in two steps, and another thread gets its turn in between."""

    def __init__(self) -> None:
        super().__init__()
        self.done = 0

    def let_others_in(self) -> None:
        """Wait for another thread to get something done; no longer than it takes if none will."""
        before = self.done
        for _ in range(2000):
            time.sleep(0)
            if self.done != before:
                break

    def _add(self, key: str, row: bytes, record: Record) -> None:
        super()._add(key, row, record)
        self.done += 1

    def _write(self, shard: Any, key: str, changes: Changes) -> None:
        super()._write(shard, key, changes)
        self.done += 1

    def _touch(self, shard: Any, key: str, row: bytes, changes: Changes) -> None:
        super()._touch(shard, key, row, changes)
        self.done += 1

    def _forget(self, shard: Any, key: str) -> None:
        super()._forget(shard, key)
        self.done += 1


class Upsert(MemoryStore):
    """Writes whether or not the session is still there."""

    def update(self, key: str, changes: Changes, *, if_version: int | None = None) -> UpdateResult:
        result = super().update(key, changes, if_version=if_version)
        if result is GONE and is_key(key):
            super().insert(key, changed(Record({}, b"", 0.0, 9e9), changes))
            return UPDATED
        return result


class UpsertSaysGone(MemoryStore):
    """Says that the session is gone, and writes it all the same."""

    def update(self, key: str, changes: Changes, *, if_version: int | None = None) -> UpdateResult:
        result = super().update(key, changes, if_version=if_version)
        if result is GONE and is_key(key) and changes.changes_data:
            super().insert(key, changed(Record({}, b"", 0.0, 9e9), changes))
        return result


class NeverGone(MemoryStore):
    """Says that all went well, whatever became of it."""

    def update(self, key: str, changes: Changes, *, if_version: int | None = None) -> UpdateResult:
        super().update(key, changes, if_version=if_version)
        return UPDATED


class WritesAfterTheDeadline(MemoryStore):
    """Renews a session that has expired."""

    def update(self, key: str, changes: Changes, *, if_version: int | None = None) -> UpdateResult:
        record = self.load(key)
        if record is not None and changes.used_at is not None:
            late = Changes(expires_at=max(record.expires_at, changes.used_at + 1))
            super().update(key, late)
        return super().update(key, changes, if_version=if_version)


class LastWriteWins(InTwoSteps):
    """Loads the record, changes it, and writes it back whole."""

    def update(self, key: str, changes: Changes, *, if_version: int | None = None) -> UpdateResult:
        record = self.load(key)
        if record is None or (changes.used_at is not None and changes.used_at >= record.expires_at):
            return GONE
        if if_version is not None and record.version != if_version:
            return CONFLICT
        self.let_others_in()
        after = changed(record, changes)
        if not super().delete(key):
            return GONE
        super().insert(key, after)
        return UPDATED


class WholeRecordWins(MemoryStore):
    """Takes the changed fields for all fields."""

    def update(self, key: str, changes: Changes, *, if_version: int | None = None) -> UpdateResult:
        record = self.load(key)
        if record is None or not changes.changes_data:
            return super().update(key, changes, if_version=if_version)
        others = frozenset(record.fields) - frozenset(changes.set)
        whole = Changes(changes.set, others, changes.notes, changes.used_at, changes.expires_at)
        return super().update(key, whole, if_version=if_version)


class KeepsDeletedFields(MemoryStore):
    """Knows fields that are set, but none that went."""

    def update(self, key: str, changes: Changes, *, if_version: int | None = None) -> UpdateResult:
        kept = Changes(changes.set, frozenset(), changes.notes, changes.used_at, changes.expires_at)
        return super().update(key, kept, if_version=if_version)


class NoExpiry(MemoryStore):
    """Keeps everything for ever."""

    def _reclaim(self, now: float) -> None:
        pass

    def purge_expired(self, now: float) -> int:
        return 0


class PurgesByFirstDeadline(MemoryStore):
    """Purges by the deadline that a record had at first; a touch doesn't count."""

    def __init__(self) -> None:
        super().__init__()
        self.deadlines: dict[str, float] = {}

    def insert(self, key: str, record: Record) -> bool:
        inserted = super().insert(key, record)
        if inserted:
            self.deadlines[key] = record.expires_at
        return inserted

    def purge_expired(self, now: float) -> int:
        late = [key for key, expires_at in self.deadlines.items() if expires_at <= now]
        return sum(self.delete(key) for key in late)


class PurgesInTwoSteps(InTwoSteps):
    """Looks what has expired, and removes it later, renewed or not."""

    def purge_expired(self, now: float) -> int:
        removed = 0
        for key in list(self.keys()):
            record = self.load(key)
            if record is not None and record.expires_at <= now:
                self.let_others_in()
                removed += self.delete(key)
        return removed


class PurgesTooMuch(MemoryStore):
    """Goes by the last use, with an idle time of its own."""

    def purge_expired(self, now: float) -> int:
        return super().purge_expired(now + 1_000_000)


class RawKeys(MemoryStore):
    """Takes any text for a key."""

    def __init__(self) -> None:
        super().__init__()
        self.raw: dict[Any, Record] = {}

    def insert(self, key: str, record: Record) -> bool:
        if is_key(key):
            return super().insert(key, record)
        self.raw[str(key)] = record
        return True

    def load(self, key: str) -> Record | None:
        return super().load(key) if is_key(key) else self.raw.get(str(key))


class RaisesOnOddKeys(MemoryStore):
    """Lets a KeyError or TypeError out where the client sent nonsense."""

    def load(self, key: str) -> Record | None:
        bytes.fromhex(key)
        return super().load(key)


class Overwrites(MemoryStore):
    """Inserts over a session that exists."""

    def insert(self, key: str, record: Record) -> bool:
        self.delete(key)
        return super().insert(key, record)


class LiveObjects(MemoryStore):
    """Keeps the very object that it was given, and hands it out."""

    def __init__(self) -> None:
        super().__init__()
        self.live: dict[str, Mapping[str, bytes]] = {}

    def insert(self, key: str, record: Record) -> bool:
        inserted = super().insert(key, record)
        if inserted:
            self.live[key] = record.fields
        return inserted

    def load(self, key: str) -> Record | None:
        record = super().load(key)
        if record is None or record.version > 1:
            return record
        return Record(
            self.live.get(key, record.fields),
            record.notes,
            record.used_at,
            record.expires_at,
            record.version,
            record.owner,
        )


class HandsOutLiveFields(MemoryStore):
    """Hands out one dict per session, and goes on changing it."""

    def __init__(self) -> None:
        super().__init__()
        self.live: dict[str, dict[str, bytes]] = {}

    def load(self, key: str) -> Record | None:
        record = super().load(key)
        if record is None:
            return None
        fields = self.live.setdefault(key, {})
        fields.clear()
        fields.update(record.fields)
        return Record(fields, record.notes, record.used_at, record.expires_at, record.version)


class TouchRaisesVersion(MemoryStore):
    """Counts a touch as a change."""

    def update(self, key: str, changes: Changes, *, if_version: int | None = None) -> UpdateResult:
        record = self.load(key)
        if record is not None and changes.notes is None:
            changes = Changes(
                changes.set, changes.delete, record.notes, changes.used_at, changes.expires_at
            )
        return super().update(key, changes, if_version=if_version)


class IgnoresVersions(MemoryStore):
    """Takes if_version and doesn't look at it."""

    def update(self, key: str, changes: Changes, *, if_version: int | None = None) -> UpdateResult:
        return super().update(key, changes)


class ComparesThenSets(InTwoSteps):
    """Compares and sets, in two steps."""

    def update(self, key: str, changes: Changes, *, if_version: int | None = None) -> UpdateResult:
        record = self.load(key)
        if record is not None and if_version is not None and record.version != if_version:
            return CONFLICT
        self.let_others_in()
        return super().update(key, changes)


class DeletesOtherVersions(MemoryStore):
    """Deletes a session that was changed meanwhile."""

    def delete(self, key: str, *, if_version: int | None = None) -> bool:
        return super().delete(key)


class ReplaceOverwrites(MemoryStore):
    """Puts the new record over a session of somebody else."""

    def replace(
        self, old_key: str, new_key: str, record: Record, *, if_version: int | None = None
    ) -> UpdateResult:
        if self.load(old_key) is not None:
            self.delete(new_key)
        return super().replace(old_key, new_key, record, if_version=if_version)


class ReplaceInserts(MemoryStore):
    """Makes the new session even if the old one is gone."""

    def replace(
        self, old_key: str, new_key: str, record: Record, *, if_version: int | None = None
    ) -> UpdateResult:
        result = super().replace(old_key, new_key, record, if_version=if_version)
        if result is not UPDATED:
            self.insert(new_key, record)
        return result


class ReplaceKeepsTheOld(MemoryStore):
    """Copies the session to the new key."""

    def replace(
        self, old_key: str, new_key: str, record: Record, *, if_version: int | None = None
    ) -> UpdateResult:
        old = self.load(old_key)
        result = super().replace(old_key, new_key, record, if_version=if_version)
        if old is not None and result is UPDATED:
            self.insert(old_key, old)
        return result


class ReplacesInTwoSteps(InTwoSteps):
    """Looks whether the old session is there, and moves it later."""

    def replace(
        self, old_key: str, new_key: str, record: Record, *, if_version: int | None = None
    ) -> UpdateResult:
        old = self.load(old_key)
        if old is None:
            return GONE
        if if_version is not None and old.version != if_version:
            return CONFLICT
        self.let_others_in()
        if not self.insert(new_key, record):
            raise StoreError("taken")
        self.delete(old_key)
        return UPDATED


class DeletesInTwoSteps(InTwoSteps):
    """Looks whether the session is there, and deletes it later."""

    def delete(self, key: str, *, if_version: int | None = None) -> bool:
        there = self.load(key) is not None
        self.let_others_in()
        return there if if_version is None and not super().delete(key) else there


class TextValues(MemoryStore):
    """Keeps values as text."""

    def insert(self, key: str, record: Record) -> bool:
        fields = {
            name: value.decode(errors="replace").encode() for name, value in record.fields.items()
        }
        return super().insert(
            key,
            Record(
                fields,
                record.notes,
                record.used_at,
                record.expires_at,
                record.version,
                record.owner,
            ),
        )


class ForgetsOwners(MemoryStore):
    """Loses the owner when a record is stored."""

    def load(self, key: str) -> Record | None:
        record = super().load(key)
        if record is None:
            return None
        return Record(
            record.fields, record.notes, record.used_at, record.expires_at, record.version
        )


class TrimsOwners(MemoryStore):
    """Takes owners that look alike for one."""

    def add_owned(self, owner: str, key: str, expires_at: float) -> int:
        return super().add_owned(owner.strip(), key, expires_at)

    def owned_by(self, owner: str) -> Mapping[str, OwnedEntry]:
        return super().owned_by(owner.strip())


class CoarseClock(MemoryStore):
    """Dates entries with the clock alone, so that parallel logins can't be told apart."""

    def owned_by(self, owner: str) -> Mapping[str, OwnedEntry]:
        return {
            key: OwnedEntry(float(int(entry.added_at)), entry.expires_at, entry.generation)
            for key, entry in super().owned_by(owner).items()
        }


class ForgetsGenerations(MemoryStore):
    """Drops the generation with the last entry."""

    def remove_owned(self, owner: str, keys: Any) -> None:
        super().remove_owned(owner, keys)
        if not self.owned_by(owner):
            self._shard(owner).generations.pop(owner, None)


class CountsInTwoSteps(InTwoSteps):
    """Reads the generation, and writes it later."""

    def next_generation(self, owner: str) -> int:
        generation = self.generation(owner)
        self.let_others_in()
        while self.generation(owner) < generation + 1:
            super().next_generation(owner)
        self.done += 1
        return generation + 1


class PrunesLiveEntries(MemoryStore):
    """Purges the whole index of an owner."""

    def purge_expired(self, now: float) -> int:
        for shard in list(self._shards.values()):
            shard.entries.clear()
        return super().purge_expired(now)


class ClearsSessionsAlone(MemoryStore):
    """Leaves the owners' index behind."""

    def clear(self) -> None:
        for key in list(self.keys()):
            self.delete(key)


class ListsTheDead(MemoryStore):
    """Lists what was deleted."""

    def __init__(self) -> None:
        super().__init__()
        self.ever: set[str] = set()

    def insert(self, key: str, record: Record) -> bool:
        if is_key(key):
            self.ever.add(key)
        return super().insert(key, record)

    def keys(self) -> Iterator[str]:
        return iter(set(super().keys()) | self.ever)


class DiesWhenClosed(MemoryStore):
    """Can't be used again after close()."""

    def close(self) -> None:
        self.clear = self.insert = self._dead  # type: ignore[method-assign,assignment] # it is dead

    def _dead(self, *args: Any) -> Any:
        raise StoreError("closed")


BROKEN: list[tuple[Callable[[], Store], str]] = [
    (Upsert, "test_a_deleted_record_is_gone_for_all"),
    (Upsert, "test_no_write_makes_a_record_but_insert_and_replace"),
    (Upsert, "test_a_session_deleted_while_it_is_written_stays_deleted"),
    (UpsertSaysGone, "test_no_write_makes_a_record_but_insert_and_replace"),
    (UpsertSaysGone, "test_a_session_replaced_while_it_is_written_stays_replaced"),
    (NeverGone, "test_absent_is_none_false_and_gone"),
    (NeverGone, "test_a_deleted_record_is_gone_for_all"),
    (NeverGone, "test_another_version_is_a_conflict_that_changes_nothing"),
    (WritesAfterTheDeadline, "test_an_update_after_the_deadline_is_gone"),
    (LastWriteWins, "test_threads_that_write_different_fields_lose_nothing"),
    (LastWriteWins, "test_touches_and_writes_do_not_undo_each_other"),
    (WholeRecordWins, "test_an_update_sets_and_deletes_the_named_fields_alone"),
    (WholeRecordWins, "test_an_update_keeps_what_another_request_wrote"),
    (KeepsDeletedFields, "test_a_deleted_field_stays_deleted"),
    (NoExpiry, "test_purging_removes_what_expired_and_nothing_else"),
    (NoExpiry, "test_many_live_records_survive_a_purge"),
    (PurgesByFirstDeadline, "test_purging_removes_what_expired_and_nothing_else"),
    (PurgesByFirstDeadline, "test_a_touch_moves_the_deadline_that_counts"),
    (PurgesByFirstDeadline, "test_a_session_that_is_renewed_survives_the_purges_meanwhile"),
    (PurgesInTwoSteps, "test_a_session_that_expires_while_it_is_written_lives_or_is_gone"),
    (PurgesTooMuch, "test_purging_removes_what_expired_and_nothing_else"),
    (RawKeys, "test_nothing_is_kept_under_what_is_no_key"),
    (RaisesOnOddKeys, "test_what_is_no_key_is_absent"),
    (Overwrites, "test_insert_never_overwrites"),
    (LiveObjects, "test_what_was_passed_in_can_be_changed_without_harm"),
    (HandsOutLiveFields, "test_what_was_handed_out_is_a_snapshot"),
    (TouchRaisesVersion, "test_a_touch_fails_no_transaction"),
    (TouchRaisesVersion, "test_a_touch_moves_the_times_alone"),
    (IgnoresVersions, "test_another_version_is_a_conflict_that_changes_nothing"),
    (ComparesThenSets, "test_a_counter_in_threads_is_exact"),
    (DeletesOtherVersions, "test_another_version_is_a_conflict_that_changes_nothing"),
    (ReplaceOverwrites, "test_replace_never_overwrites_another_session"),
    (ReplaceInserts, "test_replace_of_what_is_gone_or_changed_makes_nothing"),
    (ReplaceInserts, "test_a_replace_and_a_delete_leave_one_session_or_none"),
    (ReplaceKeepsTheOld, "test_replace_moves_the_session_and_ends_the_old_key"),
    (ReplaceKeepsTheOld, "test_a_session_replaced_while_it_is_written_stays_replaced"),
    (ReplacesInTwoSteps, "test_of_two_replaces_one_wins"),
    (ReplacesInTwoSteps, "test_a_conditional_replace_loses_no_update"),
    (DeletesInTwoSteps, "test_of_two_inserts_and_of_two_deletes_one_wins"),
    (TextValues, "test_values_and_notes_are_any_bytes"),
    (ForgetsOwners, "test_a_record_comes_back_as_it_was"),
    (ForgetsOwners, "test_owners_are_any_text_and_kept_apart"),
    (TrimsOwners, "test_owners_are_any_text_and_kept_apart"),
    (CoarseClock, "test_entries_are_dated_by_the_clock_and_strictly_rise"),
    (CoarseClock, "test_parallel_logins_are_all_listed"),
    (ForgetsGenerations, "test_the_generation_outlives_an_empty_index"),
    (CountsInTwoSteps, "test_parallel_revocations_are_all_counted"),
    (PrunesLiveEntries, "test_purging_takes_expired_entries_out_and_leaves_the_others"),
    (ClearsSessionsAlone, "test_clearing_removes_sessions_and_owners"),
    (ListsTheDead, "test_keys_are_those_of_the_records"),
    (DiesWhenClosed, "test_a_closed_store_may_be_used_again"),
]


@pytest.mark.parametrize(
    ("make", "name"), BROKEN, ids=[f"{make.__name__}-{name}" for make, name in BROKEN]
)
def test_the_contract_catches(make: Callable[[], Store], name: str) -> None:
    class Contract(StoreContract):
        def make_store(self) -> Store:
            return make()

    test = getattr(Contract(), name)

    with pytest.raises((AssertionError, StoreError, ValueError, TypeError)):
        test()


def let_other_processes_in() -> None:
    for _ in range(100):
        os.sched_yield()


class WritesBackWhole(FileStore):
    """Between processes: loads the record, changes it, and writes it back whole."""

    def update(self, key: str, changes: Changes, *, if_version: int | None = None) -> UpdateResult:
        record = self.load(key)
        if record is None:
            return GONE
        if if_version is not None and record.version != if_version:
            return CONFLICT
        let_other_processes_in()
        self.delete(key)
        self.insert(key, changed(record, changes))
        return UPDATED


class LooksBeforehand(FileStore):
    """Between processes: decides, and acts later."""

    def replace(
        self, old_key: str, new_key: str, record: Record, *, if_version: int | None = None
    ) -> UpdateResult:
        old = self.load(old_key)
        if old is not None and if_version is not None and old.version != if_version:
            return CONFLICT
        let_other_processes_in()
        return super().replace(old_key, new_key, record)

    def purge_expired(self, now: float) -> int:
        records = [(key, self.load(key)) for key in list(self.keys())]
        late = [key for key, record in records if record and record.expires_at <= now]
        let_other_processes_in()
        return sum(self.delete(key) for key in late)


BROKEN_BETWEEN_PROCESSES: list[tuple[type[FileStore], str]] = [
    (WritesBackWhole, "test_processes_that_write_different_fields_lose_nothing"),
    (WritesBackWhole, "test_a_counter_in_processes_is_exact"),
    (WritesBackWhole, "test_a_session_deleted_in_another_process_stays_deleted"),
    (WritesBackWhole, "test_a_session_replaced_in_another_process_stays_replaced"),
    (LooksBeforehand, "test_a_conditional_replace_in_another_process_loses_no_update"),
    (LooksBeforehand, "test_a_session_that_expires_in_another_process_lives_or_is_gone"),
]


@pytest.mark.parametrize(("kind", "name"), BROKEN_BETWEEN_PROCESSES)
def test_the_contract_catches_between_processes(
    kind: type[FileStore], name: str, tmp_path: Path
) -> None:
    class Contract(StoreContract):
        rounds = 1000

        def make_store(self) -> Store:
            return kind(tmp_path / "sessions")

    with pytest.raises(AssertionError):
        getattr(Contract(), name)()


def test_every_broken_store_is_tried() -> None:
    made = {
        kind
        for kind in globals().values()
        if isinstance(kind, type) and issubclass(kind, MemoryStore | FileStore)
    }
    tried = {make for make, _ in BROKEN} | {kind for kind, _ in BROKEN_BETWEEN_PROCESSES}

    assert made - {MemoryStore, FileStore, InTwoSteps} == tried


def test_a_platform_without_processes_skips_what_is_between_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Contract(StoreContract):
        def make_store(self) -> Store:
            return MemoryStore()

    monkeypatch.delattr(os, "fork")

    with pytest.raises(pytest.skip.Exception, match="no fork"):
        Contract().test_a_counter_in_processes_is_exact()
