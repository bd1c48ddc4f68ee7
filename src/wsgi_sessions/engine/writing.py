"""The writer: carries out one store step, against a store that other requests use meanwhile.

It takes values and returns an `Outcome`; what the request knows about its session is not changed
here. All conditional writes go through one loop: on CONFLICT the record is loaded again, and what
this request wants is put on what is there now, so that nothing another request wrote is lost.

How a rotation comes out right. It is part of an update that holds only if the record has the
version that was loaded. Of two requests that rotate at the same time, one wins; the other finds the
winner's record, in which its own ID is the former one, and derives the present ID from that. So no
request ever hands out an ID that the store doesn't know. An update of fields alone doesn't need the
version: the epoch shows that the session is the same, whatever ID it has by then.

How a lost answer comes out right. A new epoch is begun by one request alone, whose new ID nobody
else knows. If it was begun though the answer was lost, the next try is GONE by its epoch, and the
record has the hash of that very ID.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Protocol

from .._values import replaced
from ..crypto.session_id import SessionID
from ..data.fields import FieldChanges
from ..data.notes import Notes, dump_notes
from ..errors import SessionConflict, StoreError
from ..record import UNCHANGED, Changes, Record, UpdateResult
from .backoff import ATTEMPTS, back_off
from .changes import (
    GONE,
    REVOKED,
    Outcome,
    Work,
    applied,
    changes_on,
    first_notes,
    first_stored,
    issued,
    too_large,
)
from .decisions import Result, StoreStep
from .loading import Loader, is_present
from .owners import Entry, NotEntered, OwnerLists, Place, UnreadableList
from .reports import Reports
from .room import keep_to_limit
from .settings import EngineSettings
from .state import Request, Stored

_UNLISTED = float("-inf")


class Writer(Protocol):
    """Carries out store steps."""

    def carry_out(self, work: Work, stored: Stored | None) -> Outcome:
        """Do the store step.

        Raises:
            StoreError: the store can't answer.
            SessionTooLarge, SessionConflict: it can't be written; nothing was stored.
        """
        ...


class StoreWriter:
    """Writes sessions into a store.

    Args:
        settings: the engine's settings.
        loader: loads again when another request was faster.
        owners: the lists of owners.
        reports: where events go.
    """

    def __init__(
        self, settings: EngineSettings, loader: Loader, owners: OwnerLists, reports: Reports
    ) -> None:
        self._settings = settings
        self._store = settings.store
        self._loader = loader
        self._owners = owners
        self._reports = reports

    def carry_out(self, work: Work, stored: Stored | None) -> Outcome:
        """Do the store step."""
        if stored is None:
            return self._insert(work)
        if work.step is StoreStep.END:
            return self._end(work, stored)
        if work.step is StoreStep.DELETE_EMPTIED and self._delete_emptied(work, stored):
            return self._deleted(work, stored, "emptied")
        outcome = self._update(work, stored)
        if outcome.result is Result.GONE and work.step is not StoreStep.TOUCH:
            self._reports.write_after_end(work.request, stored)
        return outcome

    # What most requests write, without what only the others need

    def insert_fields(
        self, request: Request, begun: Notes, pending: FieldChanges, now: float
    ) -> Outcome:
        """Store a new session that has fields and no owner; the outcome is that of `carry_out`.

        Raises:
            StoreError: the store can't answer.
            SessionTooLarge: it can't be written; nothing was stored.
        """
        settings = self._settings
        self._check_size(request, None, pending.set)
        for _ in range(ATTEMPTS):
            session_id = settings.ids.new()
            notes = issued(begun, session_id, request, now)
            deadline = settings.next_deadline(notes, now)
            record = Record(pending.set, dump_notes(notes), now, deadline)
            if self._store.insert(session_id.key, record):
                stored = Stored(session_id, record, notes, deadline)
                self._reports.emit("created", request, stored)
                return Outcome(Result.NEW_ID, stored)
        raise _no_unused_id()

    def update_fields(
        self, request: Request, stored: Stored, pending: FieldChanges, now: float
    ) -> Outcome:
        """Update only fields and the idle deadline; the outcome is that of `carry_out`.

        Raises:
            StoreError: the store can't answer.
            SessionTooLarge: it can't be written; nothing was stored.
        """
        before, deadline = stored.record, self._settings.next_deadline(stored.notes, now)
        changes = Changes(pending.set, pending.delete, None, None, now, deadline)
        after = applied(before, changes)
        if pending.set:
            self._check_size(request, stored, after.fields)
        updated = self._store.update(stored.id.key, changes, if_epoch=before.epoch)
        if updated is UpdateResult.UPDATED:
            return Outcome(Result.WRITTEN, Stored(stored.id, after, stored.notes, deadline))
        self._reports.write_after_end(request, stored)
        return GONE

    # Updating

    def _update(self, work: Work, stored: Stored) -> Outcome:
        listed_until = self._list(work, stored)
        base, wanted, fresh = stored, work, work.now >= stored.deadline
        for attempt in range(ATTEMPTS):
            if fresh:
                again = self._loader.reload(stored, work.now, own=work.intent.own_ids)
                if again is None:
                    return self._found_gone(work, stored)
                base = again
                if base.record.epoch != stored.record.epoch and base.id is work.intent.id:
                    wanted = _without_new_id(work)
            conditional = fresh or work.renewal
            result, after = self._apply(wanted, base, listed_until, conditional=conditional)
            if result is UpdateResult.UPDATED:
                return self._updated(work, stored, base, after)
            if result is UpdateResult.GONE and (fresh or work.intent.id is None):
                return self._found_gone(work, stored)
            fresh = True
            back_off(attempt)
        raise SessionConflict(f"other requests changed this session {ATTEMPTS} times meanwhile")

    def update_on(self, work: Work, base: Stored) -> tuple[UpdateResult, Stored]:
        """Try once to write this, on just this base; also what the session is after that.

        Raises:
            StoreError: the store can't answer.
            SessionTooLarge: it can't be written; nothing was stored.
        """
        return self._apply(work, base, self._list(work, base), conditional=True)

    def _apply(
        self, work: Work, base: Stored, listed_until: float, *, conditional: bool
    ) -> tuple[UpdateResult, Stored]:
        changes, after = changes_on(base, work, self._settings, listed_until)
        if work.set:
            self._check_size(work.request, base, after.record.fields)
        conditional = conditional or changes.notes is not None
        record = base.record
        result = self._store.update(
            base.id.key,
            changes,
            if_epoch=record.epoch,
            if_version=record.version if conditional else None,
        )
        return result, after

    def _updated(self, work: Work, stored: Stored, base: Stored, after: Stored) -> Outcome:
        # Told of only now, as a login may be taken back.
        stands = not work.joins or self._settle_owner(work, stored, after)
        if work.intent.id is not None:
            self._reports.emit("regenerated", work.request, after)
        elif after.notes.id_hash != base.notes.id_hash:
            self._reports.emit("rotated", work.request, after)
        if not stands:
            return self._end_revoked(work.request, after)
        if after.id.id == stored.id.id:
            return Outcome(Result.WRITTEN if is_present(after) else Result.OVERTAKEN, after)
        planned = work.intent.id is not None or after.notes.id_hash != base.notes.id_hash
        return Outcome(Result.NEW_ID if planned else Result.MOVED, after)

    def _found_gone(self, work: Work, stored: Stored) -> Outcome:
        owner, key = work.intent.owner, stored.id.key
        if owner is UNCHANGED or owner is None:
            return GONE
        # If another login was faster, the entry belongs to that one by now.
        if self._store.load(key) is None:
            self._unlist(work.request, owner, key)
        return GONE

    # Inserting

    def _insert(self, work: Work) -> Outcome:
        """Store a new session, under the ID that it is to have if that is free."""
        self._check_size(work.request, None, work.set)
        session_id, tried = work.intent.id, work.intent.tried
        for _ in range(ATTEMPTS):
            session_id = session_id or self._settings.ids.new()
            stored = self._enter_first(work, session_id)
            if self._store.insert(session_id.key, stored.record):
                return self._inserted(work, stored)
            if tried and session_id is work.intent.id:
                created_at = work.first_notes.created_at
                found = self._loader.own_record(work.intent.own_ids, created_at)
                if found is not None:
                    # This request's own insert was applied, and the answer to it was lost.
                    return self._overwrite(work, stored, found)
            # An ID that exists is someone's: never overwritten, never joined (ASVS 7.2.3). The
            # entry stays, as that session may be the same owner's.
            session_id = None
        raise _no_unused_id()

    def _enter_first(self, work: Work, session_id: SessionID) -> Stored:
        """The new session, entered in its owner's list before its record is there."""
        notes, intent = first_notes(work, session_id), work.intent
        if intent.owner is not None and intent.owner is not UNCHANGED:
            until = self._owners.until(notes.started_at)
            notes = notes._replace(listed_until=until)
            # Under another key it holds no place.
            place = intent.place if session_id is intent.id else None
            self._enter(place, intent.owner, session_id.key, until, 0)
        return first_stored(work, session_id, notes, self._settings)

    def _overwrite(self, work: Work, stored: Stored, found: Record) -> Outcome:
        changes = _as_whole(stored.record)
        written = self._store.update(stored.id.key, changes, if_version=found.version)
        if written is not UpdateResult.UPDATED:
            return GONE
        return self._inserted(work, replaced(stored, record=applied(found, changes)))

    def _inserted(self, work: Work, stored: Stored) -> Outcome:
        stands = self._settle_owner(work, None, stored)
        self._reports.emit("created", work.request, stored)
        return Outcome(Result.NEW_ID, stored) if stands else self._end_revoked(work.request, stored)

    # Deleting

    def _delete_emptied(self, work: Work, stored: Stored) -> bool:
        """Delete a session that this empties; False: another request has put something in."""
        base: Stored | None = stored
        for _ in range(ATTEMPTS):
            if base is None or not _leaves_nothing(work, base.record):
                break
            if self._store.delete(stored.id.key, if_version=base.record.version):
                return True
            # Another request may have emptied it, too, or only rotated its ID.
            base = self._loader.reload(stored, work.now, own=work.intent.own_ids)
        return False

    def _end(self, work: Work, stored: Stored) -> Outcome:
        if not self._store.delete(stored.id.key):
            return GONE
        return self._deleted(work, stored, "a new ID can't be set")

    def _deleted(self, work: Work, stored: Stored, detail: str) -> Outcome:
        self._reports.emit("destroyed", work.request, stored, detail=detail)
        if stored.record.owner is not None:
            self._unlist(work.request, stored.record.owner, stored.id.key)
        return Outcome(Result.DELETED)

    # Owners

    def _list(self, work: Work, stored: Stored) -> float:
        """Make sure that the session is listed for as long as it can live after this write."""
        asked, listed_until = work.intent.owner, stored.notes.listed_until
        owner = stored.record.owner if asked is UNCHANGED else asked
        if owner is None:
            return _UNLISTED
        started_at = work.intent.notes.get("started_at", stored.notes.started_at)
        until = self._owners.until(started_at)
        if not work.joins and (not work.renews or until <= listed_until):
            return listed_until
        key = stored.id.key
        epoch = stored.record.epoch + (1 if work.intent.id is not None else 0)
        if not work.joins and self._owners.is_marked(owner, key):
            return listed_until
        self._enter(work.intent.place, owner, key, until, epoch)
        if not work.joins:
            # As after a login: what nobody could read for as long is sealed anew.
            self._owners.confirmed(owner, key)
        return until

    def _enter(self, place: Place | None, owner: str, key: str, until: float, epoch: int) -> None:
        """Enter a session in its owner's list, unless it holds a place there.

        Raises:
            NotEntered: the list can't be read or written.
        """
        if place is None or place.owner != owner:
            try:
                self._owners.enter(owner, key, until=until, epoch=epoch)
            except StoreError as error:
                raise NotEntered(str(error), operation=error.operation) from error

    def _settle_owner(self, work: Work, before: Stored | None, after: Stored) -> bool:
        """After a session was filed under an owner: whether it wasn't revoked meanwhile.

        The login remains as it was written if the store can't answer.

        Raises:
            StoreError: the list is damaged, or encrypted under another key.
        """
        request, owner = work.request, after.record.owner
        former = None if before is None else before.record.owner
        if before is not None and former is not None and former != owner:
            # One of a later epoch is that of a login back to the former owner.
            epoch = before.record.epoch
            self._unlist(request, former, after.id.key, unless=lambda _, e: e.epoch > epoch)
        if owner is None:
            return True
        try:
            return self._confirm(request, owner, after)
        except UnreadableList:
            self._take_back(before, after, owner)
            raise
        except StoreError as error:
            self._reports.emit("store_error", request, after, detail=f"after a login: {error}")
            self._enter_again(owner, after)
            return True

    def _take_back(self, before: Stored | None, after: Stored, owner: str) -> None:
        """Undo a login that nobody could end again: its list was known, so it wasn't read first.

        One in a session of another owner's ends that: by now, it is in no list.
        """
        key = after.id.key
        version = after.record.version
        if (
            before is None
            or before.record.owner not in (None, owner)
            or self._store.update(key, _as_whole(before.record), if_version=version)
            is not UpdateResult.UPDATED
        ):
            self._owners.delete_if_owned(key, owner)

    def _enter_again(self, owner: str, after: Stored, *, ending: bool = False) -> None:
        """List a login that was written, whatever happened to its unchecked entry."""
        until, epoch = after.notes.listed_until, after.record.epoch
        # While the store fails, the entry is most likely as it was: it is the check that failed.
        with suppress(StoreError):
            self._owners.enter(owner, after.id.key, until=until, epoch=epoch, ending=ending)

    def _confirm(self, request: Request, owner: str, after: Stored) -> bool:
        key = after.id.key
        settings, reports = self._settings, self._reports
        present = self._owners.confirmed(owner, key)
        if present is None:
            return False
        self._owners.tidy(owner, present)
        return keep_to_limit(self._owners, settings, reports, request, owner, present, key)

    def _end_revoked(self, request: Request, after: Stored) -> Outcome:
        """End a session whose login was revoked; if the store fails, nobody gets its ID."""
        key, owner = after.id.key, after.record.owner
        assert owner is not None  # noqa: S101 # there was a list to be taken out of
        try:
            # If another login has filed it under somebody else meanwhile, it belongs to that one.
            self._owners.delete_if_owned(key, owner)
        except StoreError as error:
            self._reports.emit("store_error", request, after, detail=f"revoke: {error}")
            self._enter_again(owner, after, ending=True)
        else:
            self._unlist(request, owner, key)
        self._reports.emit("revoked", request, after, detail="while it was being written")
        return REVOKED

    def _unlist(
        self,
        request: Request,
        owner: str,
        key: str,
        *,
        unless: Callable[[str, Entry], bool] = lambda _, entry: False,
    ) -> None:
        # An entry too many is removed when the list is next read; the record is gone.
        try:
            self._owners.take_out(owner, [key], unless=unless)
        except StoreError as error:
            self._reports.emit(
                "store_error", request, handle=key, owner=owner, detail=f"take out: {error}"
            )

    def _check_size(
        self, request: Request, stored: Stored | None, after: Mapping[str, bytes]
    ) -> None:
        before = None if stored is None else stored.record
        error = too_large(before, after, self._settings.max_bytes)
        if error is not None:
            self._reports.emit("too_large", request, stored, detail=str(error).partition(";")[0])
            # Some tools show what is in the frames of a traceback.
            del after
            raise error


def _as_whole(record: Record) -> Changes:
    """The changes that make another record just this one, in a later version."""
    return Changes(
        record.fields,
        frozenset(),
        frozenset(),
        record.notes,
        record.used_at,
        record.expires_at,
        record.owner,
    )


def _leaves_nothing(work: Work, record: Record) -> bool:
    """Whether what is removed from this record is all that it holds."""
    owner = record.owner if work.intent.owner is UNCHANGED else work.intent.owner
    return owner is None and work.delete.issuperset(record.fields)


def _no_unused_id() -> StoreError:
    return StoreError("no unused session ID was found", operation="insert")


def _without_new_id(work: Work) -> Work:
    # The new epoch has begun: what is left is to write the fields.
    return replaced(work, intent=replaced(work.intent, id=None, keep=None))
