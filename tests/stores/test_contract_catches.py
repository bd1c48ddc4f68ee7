"""The contract itself is tested: each store here breaks one promise, and the contract must see it.

A broken store is a MemoryStore with one habit changed, each seen in published session libraries.
Which test catches it is named, so that a test that stops catching anything is noticed too.
"""

from __future__ import annotations

import itertools
import math
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any
from unittest import SkipTest

import pytest

from wsgi_sessions.errors import StoreError
from wsgi_sessions.record import UNCHANGED, Changes, Record, UpdateResult, is_key
from wsgi_sessions.stores import FileStore, MemoryStore, Store
from wsgi_sessions.stores.packing import changed, refusal
from wsgi_sessions.stores.wrapper import StoreWrapper
from wsgi_sessions.testing import StoreContract

UPDATED, GONE, CONFLICT = UpdateResult.UPDATED, UpdateResult.GONE, UpdateResult.CONFLICT


def verdict(
    record: Record | None,
    changes: Changes,
    *,
    if_epoch: int | None = None,
    if_version: int | None = None,
) -> UpdateResult:
    """What a right store answers to an update."""
    if record is None or (changes.used_at is not None and changes.used_at >= record.expires_at):
        return GONE
    return refusal(record.version, record.epoch, if_epoch, if_version) or UPDATED


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

    def insert(self, key: str, record: Record) -> bool:
        inserted = super().insert(key, record)
        self.done += 1
        return inserted

    def _write(self, shard: Any, key: str, before: Record, after: Record) -> None:
        super()._write(shard, key, before, after)
        self.done += 1

    def _forget(self, shard: Any, key: str, *, is_session: bool) -> None:
        super()._forget(shard, key, is_session=is_session)
        self.done += 1


class Upsert(MemoryStore):
    """Writes whether or not the session is still there."""

    def update(self, key: str, changes: Changes, **conditions: Any) -> UpdateResult:
        result = super().update(key, changes, **conditions)
        if result is GONE and is_key(key):
            super().insert(key, changed(Record({}, b"", 0.0, 9e9), changes))
            return UPDATED
        return result


class UpsertSaysGone(MemoryStore):
    """Says that the session is gone, and writes it all the same."""

    def update(self, key: str, changes: Changes, **conditions: Any) -> UpdateResult:
        result = super().update(key, changes, **conditions)
        if result is GONE and is_key(key) and not changes.is_touch:
            super().insert(key, changed(Record({}, b"", 0.0, 9e9), changes))
        return result


class UpsertsWholeRecords(MemoryStore):
    """Writes where there is nothing, if it is told all that a record has."""

    def update(self, key: str, changes: Changes, **conditions: Any) -> UpdateResult:
        result = super().update(key, changes, **conditions)
        if result is GONE and None not in (changes.notes, changes.used_at, changes.epoch):
            super().insert(key, changed(Record({}, b"", 0.0, 9e9), changes))
        return result


class NeverGone(MemoryStore):
    """Says that all went well, whatever became of it."""

    def update(self, key: str, changes: Changes, **conditions: Any) -> UpdateResult:
        super().update(key, changes, **conditions)
        return UPDATED


class WritesAfterTheDeadline(MemoryStore):
    """Renews a session that has expired."""

    def update(self, key: str, changes: Changes, **conditions: Any) -> UpdateResult:
        record = self.load(key)
        if record is not None and changes.used_at is not None:
            late = Changes(expires_at=max(record.expires_at, changes.used_at + 1))
            super().update(key, late)
        return super().update(key, changes, **conditions)


class LastWriteWins(InTwoSteps):
    """Loads the record, changes it, and writes it back whole."""

    def update(self, key: str, changes: Changes, **conditions: Any) -> UpdateResult:
        record = self.load(key)
        refused = verdict(record, changes, **conditions)
        if record is None or refused is not UPDATED:
            return refused
        self.let_others_in()
        after = changed(record, changes)
        if not super().delete(key):
            return GONE
        super().insert(key, after)
        return UPDATED


class WholeRecordWins(MemoryStore):
    """Takes the changed fields for all fields."""

    def update(self, key: str, changes: Changes, **conditions: Any) -> UpdateResult:
        record = self.load(key)
        if record is None or changes.is_touch:
            return super().update(key, changes, **conditions)
        others = frozenset(record.fields) - frozenset(changes.set)
        whole = replace(changes, delete=others)
        return super().update(key, whole, **conditions)


class KeepsDeletedFields(MemoryStore):
    """Knows fields that are set, but none that went."""

    def update(self, key: str, changes: Changes, **conditions: Any) -> UpdateResult:
        kept = replace(changes, delete=frozenset())
        return super().update(key, kept, **conditions)


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
        return replace(record, fields=self.live.get(key, record.fields))


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
        return replace(record, fields=fields)


class TouchRaisesVersion(MemoryStore):
    """Counts a touch as a change."""

    def update(self, key: str, changes: Changes, **conditions: Any) -> UpdateResult:
        record = self.load(key)
        if record is not None and changes.notes is None:
            changes = replace(changes, notes=record.notes)
        return super().update(key, changes, **conditions)


class IgnoresVersions(MemoryStore):
    """Takes if_version and doesn't look at it."""

    def update(self, key: str, changes: Changes, **conditions: Any) -> UpdateResult:
        return super().update(key, changes, if_epoch=conditions.get("if_epoch"))


class IgnoresEpochs(MemoryStore):
    """Takes if_epoch and doesn't look at it."""

    def update(self, key: str, changes: Changes, **conditions: Any) -> UpdateResult:
        return super().update(key, changes, if_version=conditions.get("if_version"))


class ConflictFirst(MemoryStore):
    """Compares versions before it looks whether there is anything to compare."""

    def update(self, key: str, changes: Changes, **conditions: Any) -> UpdateResult:
        record, version = self.load(key), conditions.get("if_version")
        if record is not None and version is not None and record.version != version:
            return CONFLICT
        return super().update(key, changes, **conditions)


class EpochOutsideTheVersion(MemoryStore):
    """Takes a change of owner or epoch for a touch."""

    def update(self, key: str, changes: Changes, **conditions: Any) -> UpdateResult:
        record = self.load(key)
        result = super().update(key, changes, **conditions)
        after = self.load(key)
        data = (
            changes.set or changes.delete or changes.notes is not None or changes.keep is not None
        )
        if record and after and not data:
            self.delete(key)
            self.insert(key, replace(after, version=record.version))
        return result


class IgnoresKeep(MemoryStore):
    """Leaves all fields that nobody named."""

    def update(self, key: str, changes: Changes, **conditions: Any) -> UpdateResult:
        return super().update(key, replace(changes, keep=None), **conditions)


class KeepsLast(MemoryStore):
    """Lets fields go after it has set others."""

    def update(self, key: str, changes: Changes, **conditions: Any) -> UpdateResult:
        if changes.keep is not None:
            keep = changes.keep - changes.delete
            kept = {name: raw for name, raw in changes.set.items() if name in keep}
            changes = replace(changes, set=kept)
        return super().update(key, changes, **conditions)


class DeletesLast(MemoryStore):
    """Deletes fields after it has set them."""

    def update(self, key: str, changes: Changes, **conditions: Any) -> UpdateResult:
        kept = {name: raw for name, raw in changes.set.items() if name not in changes.delete}
        return super().update(key, replace(changes, set=kept), **conditions)


class OwnsForEver(MemoryStore):
    """Never changes an owner."""

    def update(self, key: str, changes: Changes, **conditions: Any) -> UpdateResult:
        return super().update(key, replace(changes, owner=UNCHANGED), **conditions)


class DropsOwners(MemoryStore):
    """Takes "leave the owner" for "no owner"."""

    def update(self, key: str, changes: Changes, **conditions: Any) -> UpdateResult:
        owner = None if changes.owner is UNCHANGED else changes.owner
        return super().update(key, replace(changes, owner=owner), **conditions)


class ListsAreNobodys(MemoryStore):
    """Takes the empty owner for none."""

    def load(self, key: str) -> Record | None:
        record = super().load(key)
        return record and replace(record, owner=record.owner or None)


class NothingIsGone(MemoryStore):
    """Answers GONE where there is nothing to do."""

    def update(self, key: str, changes: Changes, **conditions: Any) -> UpdateResult:
        return GONE if changes == Changes() else super().update(key, changes, **conditions)


class NothingIsDone(MemoryStore):
    """Answers UPDATED where there is nothing to do, whether there is a record or not."""

    def update(self, key: str, changes: Changes, **conditions: Any) -> UpdateResult:
        return UPDATED if changes == Changes() else super().update(key, changes, **conditions)


class LeavesFieldsBehind(MemoryStore):
    """Deletes the record and not its fields; the next one of this key finds them."""

    def __init__(self) -> None:
        super().__init__()
        self.left: dict[str, Mapping[str, bytes]] = {}

    def delete(self, key: str, *, if_version: int | None = None) -> bool:
        record = self.load(key)
        deleted = super().delete(key, if_version=if_version)
        if record is not None and deleted:
            self.left[key] = record.fields
        return deleted

    def insert(self, key: str, record: Record) -> bool:
        return super().insert(key, self.with_what_is_left(key, record))

    def with_what_is_left(self, key: object, record: Record) -> Record:
        left = self.left.pop(key, {}) if isinstance(key, str) else {}
        return replace(record, fields={**left, **record.fields})


class LeavesExpiredFieldsBehind(LeavesFieldsBehind):
    """The same where a purge takes the record."""

    def delete(self, key: str, *, if_version: int | None = None) -> bool:
        return MemoryStore.delete(self, key, if_version=if_version)

    def purge_expired(self, now: float) -> int:
        for key in list(self.keys()):
            record = self.load(key)
            if record is not None and record.expires_at <= now:
                self.left[key] = record.fields
        return super().purge_expired(now)


class LeavesClearedFieldsBehind(LeavesFieldsBehind):
    """The same where everything goes."""

    def delete(self, key: str, *, if_version: int | None = None) -> bool:
        return MemoryStore.delete(self, key, if_version=if_version)

    def clear(self) -> None:
        self.left = {key: record.fields for key in self.keys() if (record := self.load(key))}
        super().clear()


class LeavesFieldsOfExpiredBehind(LeavesFieldsBehind):
    """The same where an insert takes the place of an expired record."""

    def insert(self, key: str, record: Record) -> bool:
        old = self.load(key)
        if old is not None and old.expires_at <= record.used_at:
            self.delete(key)
        return super().insert(key, record)


class PurgesBefore(MemoryStore):
    """Purges what expired before that time, and not what does at it."""

    def purge_expired(self, now: float) -> int:
        return super().purge_expired(math.nextafter(now, 0))


class PurgesASecondEarly(MemoryStore):
    """Purges what has a moment left."""

    def purge_expired(self, now: float) -> int:
        return super().purge_expired(now + 1)


class PurgesAndSaysNothing(MemoryStore):
    """Doesn't tell how many went."""

    def purge_expired(self, now: float) -> int:
        super().purge_expired(now)
        return 0


class EncodesStrictly(MemoryStore):
    """Lets the UnicodeEncodeError of its driver out."""

    def insert(self, key: str, record: Record) -> bool:
        for name in record.fields:
            name.encode()
        return super().insert(key, record)

    def update(self, key: str, changes: Changes, **conditions: Any) -> UpdateResult:
        for name in changes.set:
            name.encode()
        return super().update(key, changes, **conditions)


class ComparesThenSets(InTwoSteps):
    """Compares and sets, in two steps."""

    def update(self, key: str, changes: Changes, **conditions: Any) -> UpdateResult:
        refused = verdict(self.load(key), changes, **conditions)
        if refused is not UPDATED:
            return refused
        self.let_others_in()
        return super().update(key, changes)


class DeletesOtherVersions(MemoryStore):
    """Deletes a session that was changed meanwhile."""

    def delete(self, key: str, *, if_version: int | None = None) -> bool:
        return super().delete(key)


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
        return super().insert(key, replace(record, fields=fields))


class ForgetsOwners(MemoryStore):
    """Loses the owner when a record is stored."""

    def load(self, key: str) -> Record | None:
        record = super().load(key)
        return record and replace(record, owner=None)


class TrimsOwners(MemoryStore):
    """Takes owners that look alike for one."""

    def insert(self, key: str, record: Record) -> bool:
        return super().insert(key, replace(record, owner=record.owner and record.owner.strip()))


class ClearsSessionsAlone(MemoryStore):
    """Leaves the owners' lists behind."""

    def clear(self) -> None:
        for key in list(self.keys()):
            record = self.load(key)
            if record is not None and not record.is_owner_list:
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


class InADict(Store):
    """A store as one would write it first: a dict and a lock. This one is right."""

    without_a_lock = ""

    def __init__(self) -> None:
        self.records: dict[str, Record] = {}
        self.lock = threading.RLock()

    def turn(self, operation: str) -> AbstractContextManager[Any]:
        return nullcontext() if operation == self.without_a_lock else self.lock

    def load(self, key: str) -> Record | None:
        with self.turn("load"):
            return self.records.get(key) if is_key(key) else None

    def insert(self, key: str, record: Record) -> bool:
        if not is_key(key):
            raise StoreError("not a store key", operation="insert")
        with self.turn("insert"):
            if key in self.records:
                return False
            self.records[key] = replace(record, fields=MappingProxyType({**record.fields}))
            return True

    def update(self, key: str, changes: Changes, **conditions: Any) -> UpdateResult:
        with self.turn("update"):
            record = self.load(key)
            result = verdict(record, changes, **conditions)
            if record is not None and result is UPDATED:
                self.records[key] = changed(record, changes)
            return result

    def delete(self, key: str, *, if_version: int | None = None) -> bool:
        with self.turn("delete"):
            record = self.load(key)
            if record is None or if_version not in (None, record.version):
                return False
            del self.records[key]
            return True

    def purge_expired(self, now: float) -> int:
        with self.turn("purge_expired"):
            late = [key for key, record in self.records.items() if record.expires_at <= now]
            for key in late:
                del self.records[key]
            return len(late)

    def keys(self) -> Iterator[str]:
        with self.lock:
            return iter([*self.records])

    def clear(self) -> None:
        with self.lock:
            self.records.clear()

    def ping(self) -> None:
        pass

    def close(self) -> None:
        pass


class InsertsWithoutALock(InADict):
    without_a_lock = "insert"


class UpdatesWithoutALock(InADict):
    without_a_lock = "update"


class DeletesWithoutALock(InADict):
    without_a_lock = "delete"


class PurgesWithoutALock(InADict):
    without_a_lock = "purge_expired"


class SelectsThenDeletes(InADict):
    """Looks what has expired in one transaction, and deletes it in others."""

    def purge_expired(self, now: float) -> int:
        with self.lock:
            late = [key for key, record in self.records.items() if record.expires_at <= now]
        return sum(self.delete(key) for key in late)


class LoadsInTwoTransactions(InADict):
    """Reads the fields, and what else there is of a record in another transaction."""

    def load(self, key: str) -> Record | None:
        fields = super().load(key)
        rest = super().load(key)
        return rest and replace(rest, fields=fields.fields if fields else {})


class InsertsInTwoTransactions(InADict):
    """Writes the record, and its fields in another transaction."""

    def insert(self, key: str, record: Record) -> bool:
        inserted = super().insert(key, replace(record, fields={}))
        if inserted:
            with self.lock:
                fields = MappingProxyType({**record.fields})
                self.records[key] = replace(self.records[key], fields=fields)
        return inserted


class UpdatesInTwoTransactions(InADict):
    """Changes the fields, and what else there is of a record in another transaction."""

    def update(self, key: str, changes: Changes, **conditions: Any) -> UpdateResult:
        fields = Changes(set=changes.set, delete=changes.delete, keep=changes.keep)
        rest = replace(changes, set={}, delete=frozenset(), keep=None)
        if fields.is_touch or rest == Changes():
            return super().update(key, changes, **conditions)
        with self.lock:
            result = super().update(key, rest, **conditions)
        with self.lock:
            if result is UPDATED and key in self.records:
                after = changed(self.records[key], fields)
                self.records[key] = replace(after, version=after.version - (not rest.is_touch))
        return result


class ListsLive(InADict):
    """Lists the very dict that others change."""

    def keys(self) -> Iterator[str]:
        return iter(self.records)


class ListsOnePage(MemoryStore):
    """Forgets that there may be more pages."""

    def keys(self) -> Iterator[str]:
        return itertools.islice(super().keys(), 100)


class NotesInAView(MemoryStore):
    """Hands notes out as its driver does, which isn't as bytes."""

    def load(self, key: str) -> Record | None:
        record = super().load(key)
        return record and replace(record, notes=memoryview(record.notes))  # type: ignore[arg-type] # that is the mistake


class VersionsAreFloats(MemoryStore):
    """Hands numbers out as its driver does, which isn't as int."""

    def load(self, key: str) -> Record | None:
        record = super().load(key)
        return record and replace(record, version=float(record.version))  # type: ignore[arg-type] # that is the mistake


class CountsAllAsPurged(MemoryStore):
    """Says how many records there were."""

    def purge_expired(self, now: float) -> int:
        return super().purge_expired(now) + len(list(self.keys()))


BROKEN: list[tuple[Callable[[], Store], str]] = [
    (Upsert, "test_a_deleted_record_is_gone_for_all"),
    (Upsert, "test_no_write_makes_a_record_but_insert"),
    (Upsert, "test_a_session_deleted_while_it_is_written_stays_deleted"),
    (UpsertSaysGone, "test_absent_is_none_false_and_gone"),
    (UpsertSaysGone, "test_no_write_makes_a_record_but_insert"),
    (UpsertSaysGone, "test_a_session_deleted_while_it_is_written_stays_deleted"),
    (UpsertsWholeRecords, "test_no_write_makes_a_record_but_insert"),
    (NeverGone, "test_absent_is_none_false_and_gone"),
    (NeverGone, "test_a_deleted_record_is_gone_for_all"),
    (NeverGone, "test_another_version_is_a_conflict_that_changes_nothing"),
    (NeverGone, "test_another_epoch_is_gone_and_nothing_changes"),
    (NeverGone, "test_an_update_of_nothing_tells_whether_there_is_a_record"),
    (WritesAfterTheDeadline, "test_an_update_after_the_deadline_is_gone"),
    (WritesAfterTheDeadline, "test_a_deadline_can_be_brought_forward"),
    (LastWriteWins, "test_threads_that_write_different_fields_lose_nothing"),
    (LastWriteWins, "test_touches_and_writes_do_not_undo_each_other"),
    (LastWriteWins, "test_what_is_written_during_a_sign_in_is_before_it_or_gone"),
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
    (RawKeys, "test_nothing_is_kept_under_what_is_not_a_key"),
    (RaisesOnOddKeys, "test_what_is_not_a_key_is_absent"),
    (Overwrites, "test_insert_never_overwrites"),
    (LiveObjects, "test_what_was_passed_in_can_be_changed_without_harm"),
    (HandsOutLiveFields, "test_what_was_handed_out_is_a_snapshot"),
    (TouchRaisesVersion, "test_a_touch_fails_no_transaction"),
    (TouchRaisesVersion, "test_a_touch_moves_the_times_alone"),
    (IgnoresVersions, "test_another_version_is_a_conflict_that_changes_nothing"),
    (IgnoresVersions, "test_of_two_conditional_updates_one_wins"),
    (IgnoresEpochs, "test_another_epoch_is_gone_and_nothing_changes"),
    (IgnoresEpochs, "test_what_was_loaded_before_a_sign_in_cannot_be_written_after_it"),
    (IgnoresEpochs, "test_what_is_written_during_a_sign_in_is_before_it_or_gone"),
    (ConflictFirst, "test_gone_goes_before_conflict"),
    (EpochOutsideTheVersion, "test_every_change_but_a_touch_raises_the_version_by_one"),
    (EpochOutsideTheVersion, "test_the_right_version_goes_through"),
    (ComparesThenSets, "test_a_counter_in_threads_is_exact"),
    (ComparesThenSets, "test_a_conditional_sign_in_loses_no_update"),
    (ComparesThenSets, "test_of_two_conditional_updates_one_wins"),
    (DeletesOtherVersions, "test_another_version_is_a_conflict_that_changes_nothing"),
    (DeletesOtherVersions, "test_a_conditional_delete_loses_no_update"),
    (DeletesInTwoSteps, "test_of_two_inserts_and_of_two_deletes_one_wins"),
    (IgnoresKeep, "test_keep_lets_all_other_fields_go"),
    (IgnoresKeep, "test_keeping_nothing_leaves_what_is_set"),
    (IgnoresKeep, "test_what_is_written_during_a_sign_in_is_before_it_or_gone"),
    (KeepsLast, "test_keep_goes_before_delete_and_set"),
    (DeletesLast, "test_a_field_that_is_deleted_and_set_is_set"),
    (OwnsForEver, "test_the_owner_changes_only_where_it_is_given"),
    (DropsOwners, "test_the_owner_changes_only_where_it_is_given"),
    (DropsOwners, "test_an_update_sets_and_deletes_the_named_fields_alone"),
    (ListsAreNobodys, "test_an_owner_of_none_is_not_an_empty_one"),
    (ListsAreNobodys, "test_an_owners_list_is_kept_like_any_record"),
    (NothingIsGone, "test_an_update_of_nothing_tells_whether_there_is_a_record"),
    (NothingIsDone, "test_an_update_of_nothing_tells_whether_there_is_a_record"),
    (NothingIsDone, "test_a_deleted_record_is_gone_for_all"),
    (TextValues, "test_values_and_notes_are_any_bytes"),
    (ForgetsOwners, "test_a_record_comes_back_as_it_was"),
    (ForgetsOwners, "test_owners_are_any_text"),
    (TrimsOwners, "test_owners_are_any_text"),
    (ClearsSessionsAlone, "test_clearing_removes_everything"),
    (ListsTheDead, "test_keys_are_those_of_the_records"),
    (DiesWhenClosed, "test_a_closed_store_may_be_used_again"),
    # field_reports.md, T
    (EncodesStrictly, "test_what_is_at_the_edge_of_a_type_comes_back_or_is_refused"),
    (EncodesStrictly, "test_an_update_to_the_edge_of_a_type_is_done_or_refused"),
    (PurgesBefore, "test_purging_takes_what_expires_at_that_very_time"),
    (PurgesASecondEarly, "test_purging_takes_what_expires_at_that_very_time"),
    (PurgesAndSaysNothing, "test_purging_takes_what_expires_at_that_very_time"),
    (LeavesFieldsBehind, "test_nothing_of_a_deleted_record_comes_back"),
    (LeavesFieldsOfExpiredBehind, "test_nothing_of_an_expired_record_comes_back"),
    (LeavesExpiredFieldsBehind, "test_nothing_of_an_expired_record_comes_back"),
    (LeavesClearedFieldsBehind, "test_nothing_of_a_cleared_record_comes_back"),
    (InsertsWithoutALock, "test_an_interrupted_insert_never_overwrites"),
    (UpdatesWithoutALock, "test_an_interrupted_update_loses_nothing"),
    (UpdatesWithoutALock, "test_an_interrupted_update_brings_nothing_back"),
    (DeletesWithoutALock, "test_an_interrupted_delete_is_done_once"),
    (PurgesWithoutALock, "test_an_interrupted_purge_spares_what_is_renewed_meanwhile"),
    (SelectsThenDeletes, "test_an_interrupted_purge_spares_what_is_renewed_meanwhile"),
    (LoadsInTwoTransactions, "test_an_interrupted_load_finds_a_record_as_it_was_at_one_moment"),
    (InsertsInTwoTransactions, "test_an_interrupted_insert_is_whole_or_not_there"),
    (UpdatesInTwoTransactions, "test_an_interrupted_update_is_whole_or_not_there"),
    (ListsLive, "test_keys_bear_changes_while_they_are_listed"),
    (ListsOnePage, "test_many_live_records_survive_a_purge"),
    (NotesInAView, "test_a_record_comes_back_as_it_was"),
    (VersionsAreFloats, "test_a_record_comes_back_as_it_was"),
    (CountsAllAsPurged, "test_purging_takes_what_expires_at_that_very_time"),
]


@pytest.mark.parametrize(
    ("make", "name"), BROKEN, ids=[f"{make.__name__}-{name}" for make, name in BROKEN]
)
def test_the_contract_catches(make: Callable[[], Store], name: str) -> None:
    class Contract(StoreContract):
        def make_store(self) -> Store:
            return make()

    test = getattr(Contract(), name)

    # Where it takes threads that meet, one run may go well by chance.
    with pytest.raises(
        (AssertionError, StoreError, ValueError, TypeError, LookupError, RuntimeError)
    ):
        for _ in range(20):
            test()


class TestAStoreInADictIsRight(StoreContract):
    rounds = 20

    def make_store(self) -> Store:
        return InADict()


class DriverError(Exception):
    """What the client library of some store raises."""


class Unreachable(StoreWrapper):
    """A store whose server is down, and which says so as it should."""

    def fail(self) -> Any:
        raise StoreError("there is no answer")

    def load(self, key: str) -> Record | None:
        return self.fail()  # type: ignore[no-any-return] # it raises

    def insert(self, key: str, record: Record) -> bool:
        return self.fail()  # type: ignore[no-any-return] # as above

    def update(self, key: str, changes: Changes, **conditions: Any) -> UpdateResult:
        return self.fail()  # type: ignore[no-any-return] # as above

    def delete(self, key: str, *, if_version: int | None = None) -> bool:
        return self.fail()  # type: ignore[no-any-return] # as above

    def purge_expired(self, now: float) -> int:
        return self.fail()  # type: ignore[no-any-return] # as above

    def keys(self) -> Iterator[str]:
        return self.fail()  # type: ignore[no-any-return] # as above

    def clear(self) -> None:
        self.fail()

    def ping(self) -> None:
        self.fail()


class DriverErrorEscapes(Unreachable):
    """Lets out what the client library raised."""

    def fail(self) -> Any:
        raise DriverError


class OutageIsAbsence(Unreachable):
    """Takes an error for "no such session"."""

    def load(self, key: str) -> Record | None:
        return None


class OutageIsGone(Unreachable):
    """Takes an error for "signed out meanwhile"."""

    def update(self, key: str, changes: Changes, **conditions: Any) -> UpdateResult:
        return GONE


class OutageIsDeleted(Unreachable):
    """Takes an error for "nothing to delete"."""

    def delete(self, key: str, *, if_version: int | None = None) -> bool:
        return False


class OutageIsEmpty(Unreachable):
    """Takes an error for "no sessions"."""

    def keys(self) -> Iterator[str]:
        return iter(())


class OutageIsCleared(Unreachable):
    """Says that all is gone."""

    def clear(self) -> None:
        pass


class OutageIsPurged(Unreachable):
    """Says that something went."""

    def purge_expired(self, now: float) -> int:
        return 1


class PingsNobody(Unreachable):
    """Answers a ping by itself."""

    def ping(self) -> None:
        pass


OUTAGE = "test_an_outage_is_a_store_error_and_never_absence"
PURGE = "test_a_purge_during_an_outage_removes_nothing_or_is_a_store_error"
PING = "test_a_store_that_cannot_answer_does_not_answer_a_ping"


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (DriverErrorEscapes, OUTAGE),
        (DriverErrorEscapes, PURGE),
        (DriverErrorEscapes, PING),
        (OutageIsAbsence, OUTAGE),
        (OutageIsGone, OUTAGE),
        (OutageIsDeleted, OUTAGE),
        (OutageIsEmpty, OUTAGE),
        (OutageIsCleared, OUTAGE),
        (OutageIsPurged, PURGE),
        (PingsNobody, PING),
    ],
)
def test_the_contract_catches_what_an_outage_is_taken_for(
    kind: type[Unreachable], name: str
) -> None:
    class Contract(StoreContract):
        def make_store(self) -> Store:
            return MemoryStore()

        def make_broken_store(self) -> Store:
            return kind(MemoryStore())

    with pytest.raises((AssertionError, DriverError)):
        getattr(Contract(), name)()


@pytest.mark.parametrize("name", [OUTAGE, PURGE, PING])
def test_the_contract_lets_pass_what_says_that_it_cannot_answer(name: str) -> None:
    class Contract(StoreContract):
        def make_store(self) -> Store:
            return MemoryStore()

        def make_broken_store(self) -> Store:
            return Unreachable(MemoryStore())

    getattr(Contract(), name)()


class OneConnection(StoreWrapper):
    """Asks over one connection: what goes in comes out in turn, whoever asked for it.

    A pipe stands for it. Whoever reads takes what is next, and so may take another's answer.
    """

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self.answers, self.questions = os.pipe()

    def close(self) -> None:
        os.close(self.answers)
        os.close(self.questions)

    def ask(self, key: str) -> str:
        os.write(self.questions, key.encode())
        let_other_processes_in()
        return os.read(self.answers, 64).decode()

    def load(self, key: str) -> Record | None:
        return self.store.load(self.ask(key))

    def update(self, key: str, changes: Changes, **conditions: Any) -> UpdateResult:
        return self.store.update(self.ask(key), changes, **conditions)


class OneConnectionWithALock(OneConnection):
    """The same for one thread at a time; but a fork takes the connection along."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self.turn = threading.Lock()

    def ask(self, key: str) -> str:
        with self.turn:
            return super().ask(key)


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (OneConnection, "test_one_store_serves_many_threads"),
        (OneConnectionWithALock, "test_a_store_that_was_used_before_a_fork_serves_the_child_too"),
    ],
)
def test_the_contract_catches_a_connection_that_is_shared(
    kind: type[OneConnection], name: str, tmp_path: Path
) -> None:
    store = kind(FileStore(tmp_path / "sessions"))

    class Contract(StoreContract):
        def make_store(self) -> Store:
            return store

    # Where it takes processes that meet, one run may go well by chance.
    with pytest.raises(AssertionError):
        for _ in range(20):
            getattr(Contract(), name)()
    store.close()


def test_the_contract_lets_pass_a_connection_that_threads_take_turns_with() -> None:
    store = OneConnectionWithALock(MemoryStore())

    class Contract(StoreContract):
        def make_store(self) -> Store:
            return store

    Contract().test_one_store_serves_many_threads()
    store.close()


def wait_for(flag: Path) -> None:
    deadline = time.monotonic() + 60
    while not flag.exists():
        assert time.monotonic() < deadline, f"there is no {flag.name}"
        os.sched_yield()


def let_other_processes_in() -> None:
    for _ in range(100):
        os.sched_yield()


class WritesBackWhole(FileStore):
    """Between processes: loads the record, changes it, and writes it back whole."""

    def update(self, key: str, changes: Changes, **conditions: Any) -> UpdateResult:
        record = self.load(key)
        refused = verdict(record, changes, **conditions)
        if record is None or refused is not UPDATED:
            return refused
        let_other_processes_in()
        self.delete(key)
        self.insert(key, changed(record, changes))
        return UPDATED


class LooksBeforehand(FileStore):
    """Between processes: decides, and acts later."""

    def update(self, key: str, changes: Changes, **conditions: Any) -> UpdateResult:
        refused = verdict(self.load(key), changes, **conditions)
        if refused is not UPDATED:
            return refused
        let_other_processes_in()
        return super().update(key, changes)


class PurgesWhatItSawBefore(FileStore):
    """Between processes: looks what has expired, and removes it later, renewed or not.

    Files are flags between the processes, so that a renewal comes in between however busy the
    machine is.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.looked, self.renewed = Path(f"{path}-looked"), Path(f"{path}-renewed")

    def update(self, key: str, changes: Changes, **conditions: Any) -> UpdateResult:
        wait_for(self.looked)
        result = super().update(key, changes, **conditions)
        self.renewed.touch()
        return result

    def purge_expired(self, now: float) -> int:
        records = [(key, self.load(key)) for key in list(self.keys())]
        late = [key for key, record in records if record and record.expires_at <= now]
        self.looked.touch()
        wait_for(self.renewed)
        return sum(self.delete(key) for key in late)


class CachesWhatItRead(FileStore):
    """Has a cache in each process, which knows of this one's changes."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.cache: dict[str, Record] = {}

    def load(self, key: str) -> Record | None:
        record = self.cache.get(str(key)) or super().load(key)
        if record is not None:
            self.cache[key] = record
        return record and replace(record, fields={**record.fields})

    def update(self, key: str, changes: Changes, **conditions: Any) -> UpdateResult:
        self.cache.pop(str(key), None)
        return super().update(key, changes, **conditions)

    def delete(self, key: str, *, if_version: int | None = None) -> bool:
        self.cache.pop(str(key), None)
        return super().delete(key, if_version=if_version)

    def purge_expired(self, now: float) -> int:
        self.cache.clear()
        return super().purge_expired(now)

    def clear(self) -> None:
        self.cache.clear()
        super().clear()


class RemembersWhatWasAbsent(FileStore):
    """Doesn't ask again for what wasn't there, unless it was made here."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.absent: set[str] = set()

    def load(self, key: str) -> Record | None:
        if not is_key(key) or key in self.absent:
            return None
        record = super().load(key)
        if record is None:
            self.absent.add(key)
        return record

    def insert(self, key: str, record: Record) -> bool:
        if is_key(key):
            self.absent.discard(key)
        return super().insert(key, record)


class ForgetsWhenClosed(FileStore):
    """Tidies up too well."""

    def close(self) -> None:
        self.clear()
        super().close()


BROKEN_BETWEEN_PROCESSES: list[tuple[type[FileStore], str, int]] = [
    (WritesBackWhole, "test_processes_that_write_different_fields_lose_nothing", 200),
    (WritesBackWhole, "test_a_counter_in_processes_is_exact", 200),
    (WritesBackWhole, "test_a_session_deleted_in_another_process_stays_deleted", 1000),
    (
        WritesBackWhole,
        "test_what_is_written_during_a_sign_in_in_another_process_is_before_it_or_gone",
        1000,
    ),
    (LooksBeforehand, "test_a_conditional_sign_in_in_another_process_loses_no_update", 1000),
    (
        PurgesWhatItSawBefore,
        "test_a_session_that_expires_in_another_process_lives_or_is_gone",
        1000,
    ),
    (CachesWhatItRead, "test_what_another_store_object_changes_is_seen_at_once", 1),
    (CachesWhatItRead, "test_what_another_process_changes_is_seen_at_once", 1),
    (RemembersWhatWasAbsent, "test_what_another_store_object_changes_is_seen_at_once", 1),
    (RemembersWhatWasAbsent, "test_what_another_process_changes_is_seen_at_once", 1),
    (ForgetsWhenClosed, "test_a_closed_store_leaves_its_data", 1),
]
"""Each with the rounds in which the processes are sure to meet."""


@pytest.mark.parametrize(("kind", "name", "chances"), BROKEN_BETWEEN_PROCESSES)
def test_the_contract_catches_between_processes(
    kind: type[FileStore], name: str, chances: int, tmp_path: Path
) -> None:
    class Contract(StoreContract):
        rounds = chances

        def make_store(self) -> Store:
            return kind(tmp_path / "sessions")

    with pytest.raises(AssertionError):
        getattr(Contract(), name)()


def test_every_broken_store_is_tried() -> None:
    made = {
        kind
        for kind in globals().values()
        if isinstance(kind, type) and issubclass(kind, MemoryStore | FileStore | InADict)
    }
    tried = {make for make, _ in BROKEN} | {kind for kind, _, _ in BROKEN_BETWEEN_PROCESSES}

    assert made - {MemoryStore, FileStore, InTwoSteps, InADict} == tried


@pytest.mark.parametrize(
    "name",
    [
        "test_a_counter_in_processes_is_exact",
        "test_a_store_that_was_used_before_a_fork_serves_the_child_too",
        "test_what_another_process_changes_is_seen_at_once",
    ],
)
def test_a_platform_without_processes_skips_what_is_between_them(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Contract(StoreContract):
        def make_store(self) -> Store:
            return MemoryStore()

    monkeypatch.delattr(os, "fork")

    with pytest.raises(SkipTest, match="no fork"):
        getattr(Contract(), name)()
