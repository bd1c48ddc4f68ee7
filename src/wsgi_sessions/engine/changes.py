"""What one commit wants written, and its result on a given base. Pure: no store, no clock.

The same for sessions in a store and for those that travel in their token.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from .._values import value
from ..crypto.session_id import SessionID
from ..data.notes import Former, Notes, dump_notes, is_label
from ..data.standing import with_offer
from ..errors import SessionTooLarge
from ..record import UNCHANGED, Changes, Record, apply_changes, is_outdated
from .decisions import GRACE, Result, StoreStep, in_grace, is_due
from .loading import is_present
from .settings import EngineSettings
from .state import NO_SCHEME, Intent, Request, Stored, kept_fields


@value
class Work:
    """What one commit wants written."""

    step: StoreStep
    request: Request
    intent: Intent
    first_notes: Notes
    """The notes that a new session begins with."""
    set: Mapping[str, bytes]
    delete: frozenset[str]
    former_label: Mapping[str, str | None]
    """The label that the request loaded; None: a text that can't be known, an answer was lost."""
    label: Mapping[str, str]
    """The label as the request leaves it."""
    renewal: bool
    """Whether the client's token is to be sent anew, so that the present ID must be known."""
    passive: bool
    now: float
    """UNIX seconds."""

    def __repr__(self) -> str:
        return f"<Work: {self.step.value}, set {sorted(self.set)}, delete {sorted(self.delete)}>"

    @property
    def renews(self) -> bool:
        """Whether it moves the idle deadline."""
        return not self.passive or self.intent.id is not None

    @property
    def joins(self) -> bool:
        """Whether the session is filed under another owner, or under none."""
        return self.intent.owner is not UNCHANGED


@value
class Outcome:
    """The outcome of a commit."""

    result: Result
    stored: Stored | None = None
    """The session as the store has it now; None: there is none."""


GONE = Outcome(Result.GONE)
REVOKED = Outcome(Result.REVOKED)


def changes_on(
    base: Stored, work: Work, settings: EngineSettings, listed_until: float
) -> tuple[Changes, Stored]:
    """What this work comes to on this base, and the session as it is once that is applied.

    Args:
        base: the session as the store has it.
        work: what is wanted.
        settings: the engine's settings.
        listed_until: until when the session is in its owner's list. UNIX seconds.
    """
    notes, session_id = _notes_on(base, work, settings, listed_until)
    regenerates = work.intent.id is not None
    times = work.renews
    if times:
        deadline = settings.next_deadline(notes, work.now)
    elif notes is base.notes:
        deadline = base.deadline
    else:
        deadline = settings.deadline_of(base.record, notes, work.now)
    changes = Changes(
        work.set,
        work.delete,
        kept_fields(work.intent.keep) if regenerates else None,
        None if notes is base.notes else dump_notes(notes),
        work.now if times else None,
        deadline if times else None,
        work.intent.owner if regenerates else UNCHANGED,
        base.record.epoch + 1 if regenerates else None,
    )
    after = applied(base.record, changes)
    if work.intent.login and is_outdated(base.record):
        # The absolute limit begins anew, and no key is to be kept for longer than that.
        changes = replace(changes, set=after.fields)
    return changes, Stored(session_id, after, notes, deadline)


def _notes_on(
    base: Stored, work: Work, settings: EngineSettings, listed_until: float
) -> tuple[Notes, SessionID]:
    """The notes to write on this base (the same object: nothing to write), and the ID."""
    present, now, intent = base.notes, work.now, work.intent
    noted: dict[str, Any] = dict(intent.notes)
    if intent.offered_at is not None:
        noted["binding"] = with_offer(present.binding, intent.offered_at)
    if work.label != work.former_label:
        noted["label"] = _label_on(present.label, work)
    if listed_until != present.listed_until:
        noted["listed_until"] = listed_until
    if noted.get("started_at", present.started_at) > now:
        # Noted by a clock that has been set back since: it must not lengthen the limit.
        noted["started_at"] = now
    if present.persistent or "persistent" in noted:
        persistent = noted.get("persistent", present.persistent)
        told = work.renewal or intent.id is not None or work.step is StoreStep.ROTATE
        behind = persistent and not told and (work.renews or present.cookie_behind)
        if behind != present.cookie_behind:
            noted["cookie_behind"] = behind
    notes = present._replace(**noted) if noted else present
    if intent.id is not None:
        return issued(notes, intent.id, work.request, now), intent.id
    if work.step is StoreStep.ROTATE and can_rotate(base, now, settings):
        successor = settings.rotation.successor_of(base.id)
        former = Former(base.id.hash, successor.nonce, now + GRACE)
        return issued(notes, successor.id, work.request, now, former), successor.id
    return notes, base.id


def can_rotate(base: Stored, now: float, settings: EngineSettings) -> bool:
    """Whether the ID is due to be replaced; another request may have done so meanwhile."""
    after = settings.rotate_after
    if after is None or not is_due(base.notes.issued_at, after, now):
        return False
    former = base.notes.former
    return is_present(base) and (former is None or not in_grace(former.until, now))


def _label_on(present: Mapping[str, str], work: Work) -> Mapping[str, str]:
    """The label as it is by now, with what this request changed in it."""
    if work.intent.keep is False:
        return work.label
    former, wanted = work.former_label, work.label
    others = {name: text for name, text in present.items() if name in wanted or name not in former}
    changed = {name: text for name, text in wanted.items() if former.get(name) != text}
    merged = others | changed
    # Two requests that each add as much as fits: the later one wins.
    return merged if is_label(merged) else wanted


def issued(
    notes: Notes,
    session_id: SessionID,
    request: Request,
    now: float,
    former: Former | None = None,
) -> Notes:
    """The notes of a session that is given this ID by this request."""
    secure = notes.secure if request.scheme == NO_SCHEME else request.secure
    return notes.issued(session_id.hash, now, secure=secure, former=former)


def first_notes(work: Work, session_id: SessionID) -> Notes:
    """The notes of a new session."""
    first, offered_at = work.first_notes, work.intent.offered_at
    noted: dict[str, Any] = dict(work.intent.notes)
    if offered_at is not None:
        noted["binding"] = with_offer(first.binding, offered_at)
    if work.label:
        noted["label"] = work.label
    notes = first._replace(**noted) if noted else first
    return issued(notes, session_id, work.request, work.now)


def notes_in_place_of(ended: Stored, now: float) -> Notes:
    """What a session begins with that takes the place of one that was ended.

    Lifetime and persistence stay, as with every new ID; otherwise it is another session.
    """
    notes = ended.notes
    return Notes(
        now, now, now, persistent=notes.persistent, idle=notes.idle, absolute=notes.absolute
    )


def first_stored(
    work: Work, session_id: SessionID, notes: Notes, settings: EngineSettings
) -> Stored:
    """A new session."""
    deadline = settings.next_deadline(notes, work.now)
    owner = None if work.intent.owner is UNCHANGED else work.intent.owner
    record = Record(dict(work.set), dump_notes(notes), work.now, deadline, 1, 0, owner)
    return Stored(session_id, record, notes, deadline)


def applied(record: Record, changes: Changes) -> Record:
    """A record after these changes."""
    return Record(
        apply_changes(record.fields, changes),
        record.notes if changes.notes is None else changes.notes,
        record.used_at if changes.used_at is None else changes.used_at,
        record.expires_at if changes.expires_at is None else changes.expires_at,
        record.version if changes.is_touch else record.version + 1,
        record.epoch if changes.epoch is None else changes.epoch,
        record.owner if changes.owner is UNCHANGED else changes.owner,
    )


def too_large(
    before: Record | None, after: Mapping[str, bytes], limit: int
) -> SessionTooLarge | None:
    """The error, if this makes a session bigger than it may be; one that is so already may shrink.

    Raised by those who hold no values: some tools show the locals of a traceback.
    """
    # A bound of the size that is found fast: a character has four bytes at most.
    if 4 * sum(map(len, after)) + sum(map(len, after.values())) <= limit:
        return None
    size = size_of(after)
    if size <= limit or (before is not None and size <= size_of(before.fields)):
        return None
    biggest = sorted(after, key=lambda name: len(after[name]), reverse=True)[:3]
    sizes = ", ".join(f"{name!r} with {len(after[name])} bytes" for name in biggest)
    return SessionTooLarge(
        f"the session has {size} bytes and max_bytes is {limit}; its biggest fields are"
        f" {sizes}; keep such data elsewhere and its key here, or raise max_bytes"
    )


def size_of(fields: Mapping[str, bytes]) -> int:
    """How many bytes names and values take."""
    return sum(len(name.encode()) + len(raw) for name, raw in fields.items())
