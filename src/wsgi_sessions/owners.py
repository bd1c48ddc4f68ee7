"""The owner index, read with care: which of the listed sessions live, and which entries to drop.

An index may list too much, because index and record can lie on different machines, so the one is
written before the other. Whoever reads it heals it, but leaves young entries alone: the record of
a login that is under way comes after its entry.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from .lifecycle import deadline_of
from .data.notes import CorruptNotes, Notes, load_notes
from .record import OwnedEntry, Record
from .stores.base import Store

HEALING_AGE = 60.0
"""Seconds for which an entry without a record is taken for a login under way."""


class Limits(NamedTuple):
    """The middleware's lifetime in seconds; ``inf`` where there is no such limit."""

    idle: float = math.inf
    absolute: float = math.inf


class Live(NamedTuple):
    """A session that lives."""

    key: str
    record: Record
    notes: Notes


class Owned(NamedTuple):
    """What an owner's index comes to."""

    live: list[Live]
    pending: list[tuple[str, OwnedEntry]]
    """Young entries without a record: logins under way."""
    entries: dict[str, OwnedEntry]


def load_live(store: Store, key: str, limits: Limits, now: float) -> Live | None:
    """The live session under this key, or None."""
    record = store.load(key)
    if record is None:
        return None
    try:
        notes = load_notes(record.notes)
    except CorruptNotes:
        return None
    if now >= deadline_of(record, notes, idle=limits.idle, absolute=limits.absolute):
        return None
    return Live(key, record, notes)


def owned(store: Store, owner: str, limits: Limits, now: float) -> Owned:
    """The owner's sessions, healing the index on the way.

    What a `revoke_all` that broke off has left is ended here: records of an older generation.
    """
    entries = dict(store.owned_by(owner))
    if not entries:
        return Owned([], [], entries)
    generation = store.generation(owner)
    live: list[Live] = []
    pending: list[tuple[str, OwnedEntry]] = []
    stale: list[str] = []
    for key, entry in entries.items():
        found = load_live(store, key, limits, now)
        if found is not None and found.record.owner == owner:
            if found.notes.generation < generation:
                store.delete(key)
                stale.append(key)
            else:
                live.append(found)
        elif now - entry.added_at >= HEALING_AGE:
            stale.append(key)
        else:
            pending.append((key, entry))
    if stale:
        store.remove_owned(owner, stale)
    return Owned(live, pending, entries)
