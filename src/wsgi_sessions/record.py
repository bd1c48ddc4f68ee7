"""The record: what a store keeps for one session, and what one request wants changed in it.

Plain values without behaviour, between stores and the engine. The codec encodes the values, and the
engine decides about them.
"""

from __future__ import annotations

import enum
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import lru_cache
from types import MappingProxyType
from typing import Final, Literal


class Unchanged(enum.Enum):
    """The type of `UNCHANGED`, where None already means something."""

    UNCHANGED = "unchanged"

    def __repr__(self) -> str:
        return "UNCHANGED"


UNCHANGED: Final[Literal[Unchanged.UNCHANGED]] = Unchanged.UNCHANGED
"""Leave it as it is."""


NO_FIELDS: Mapping[str, bytes] = MappingProxyType({})

LIST_OWNER: Final = ""
"""The ``owner`` of a record that isn't a session itself: one that lists an owner's sessions, or
says where a session that was carried over is now.

No app's owner is empty, and stores can see it whatever else is encrypted: such a record doesn't
count towards a limit of sessions, and goes only when it has expired or is deleted.
"""


@dataclass(frozen=True, slots=True, init=False, repr=False, match_args=False)
class Record:
    """What a store keeps for one key."""

    fields: Mapping[str, bytes]
    """The app's data: one encoded value per top-level key."""
    notes: bytes
    """The engine's own: creation, limits, label, hashes of IDs and so on. Opaque to stores."""
    used_at: float
    """When the session was last used. UNIX seconds."""
    expires_at: float
    """The idle deadline, capped by the absolute one. UNIX seconds."""
    version: int = 1
    """Goes up by one with every update that changes fields, notes, owner or epoch; a touch leaves
    it as it is."""
    epoch: int = 0
    """Goes up with every change of privilege; a write that names an older one is GONE."""
    owner: str | None = None
    """The user whom the session belongs to: the app's opaque string (or `LIST_OWNER`)."""

    # By hand, as is that of Changes: the one that a frozen dataclass generates takes twice as long,
    # and each request makes several.
    def __init__(
        self,
        fields: Mapping[str, bytes],
        notes: bytes,
        used_at: float,
        expires_at: float,
        version: int = 1,
        epoch: int = 0,
        owner: str | None = None,
    ) -> None:
        _record_fields(self, fields)
        _record_notes(self, notes)
        _record_used_at(self, used_at)
        _record_expires_at(self, expires_at)
        _record_version(self, version)
        _record_epoch(self, epoch)
        _record_owner(self, owner)

    @property
    def is_owner_list(self) -> bool:
        """Whether this lists an owner's sessions, and isn't a session itself."""
        return self.owner == LIST_OWNER

    def __repr__(self) -> str:
        return (
            f"Record({_names(self.fields)}, notes of {len(self.notes)} bytes,"
            f" used_at={self.used_at}, expires_at={self.expires_at}, version={self.version},"
            f" epoch={self.epoch}, owner={self.owner!r})"
        )


@dataclass(frozen=True, slots=True, init=False, repr=False, match_args=False)
class Changes:
    """What one request wants changed in a record. If only times are, it is a touch."""

    set: Mapping[str, bytes] = field(default_factory=dict[str, bytes])
    """Fields to write."""
    delete: frozenset[str] = frozenset()
    """Fields to remove; applied before `set`."""
    keep: frozenset[str] | None = None
    """None: every field not named above stays. Otherwise all fields but these are removed, before
    `delete` and `set` are applied, whatever other requests have added meanwhile."""
    notes: bytes | None = None
    """None leaves the notes as they are."""
    used_at: float | None = None
    """UNIX seconds; None leaves it as it is."""
    expires_at: float | None = None
    """UNIX seconds; None leaves it as it is."""
    owner: str | Unchanged | None = UNCHANGED
    epoch: int | None = None
    """None leaves it as it is."""

    def __init__(
        self,
        set: Mapping[str, bytes] = NO_FIELDS,  # noqa: A002 # what it does
        delete: frozenset[str] = frozenset(),
        keep: frozenset[str] | None = None,
        notes: bytes | None = None,
        used_at: float | None = None,
        expires_at: float | None = None,
        owner: str | Unchanged | None = UNCHANGED,
        epoch: int | None = None,
    ) -> None:
        _changes_set(self, {} if set is NO_FIELDS else set)
        _changes_delete(self, delete)
        _changes_keep(self, keep)
        _changes_notes(self, notes)
        _changes_used_at(self, used_at)
        _changes_expires_at(self, expires_at)
        _changes_owner(self, owner)
        _changes_epoch(self, epoch)

    @property
    def is_touch(self) -> bool:
        """Whether applying this changes only times, and so leaves the version as it is."""
        return not (
            self.set
            or self.delete
            or self.keep is not None
            or self.notes is not None
            or self.owner is not UNCHANGED
            or self.epoch is not None
        )

    def __repr__(self) -> str:
        parts = [f"set {_names(self.set)}", f"delete {sorted(self.delete)}"]
        if self.keep is not None:
            parts.append(f"keep {sorted(self.keep)}")
        parts.append("no notes" if self.notes is None else f"notes of {len(self.notes)} bytes")
        parts += [f"used_at={self.used_at}", f"expires_at={self.expires_at}"]
        if self.owner is not UNCHANGED:
            parts.append(f"owner={self.owner!r}")
        if self.epoch is not None:
            parts.append(f"epoch={self.epoch}")
        return f"Changes({', '.join(parts)})"


# These set the fields of a frozen value, for its __init__ alone.
(
    _record_fields,
    _record_notes,
    _record_used_at,
    _record_expires_at,
    _record_version,
    _record_epoch,
    _record_owner,
) = (vars(Record)[field.name].__set__ for field in fields(Record))
(
    _changes_set,
    _changes_delete,
    _changes_keep,
    _changes_notes,
    _changes_used_at,
    _changes_expires_at,
    _changes_owner,
    _changes_epoch,
) = (vars(Changes)[field.name].__set__ for field in fields(Changes))


def apply_changes(fields: Mapping[str, bytes], changes: Changes) -> dict[str, bytes]:
    """The fields of a record after these changes."""
    keep, delete = changes.keep, changes.delete
    after = {
        name: raw
        for name, raw in fields.items()
        if name not in delete and (keep is None or name in keep)
    }
    after.update(changes.set)
    return after


def is_outdated(record: Record) -> bool:
    """Whether any part that was read so far was sealed under another key than the newest.

    Only an encrypting store gives fields that know; others keep nothing sealed.
    """
    return getattr(record.fields, "outdated", False) is True


@lru_cache(maxsize=256)
def list_key(owner: str) -> str:
    """The store key of the record that lists an owner's sessions.

    No session's selector hashes to it, and it doesn't reveal the owner.
    """
    hashed = hashlib.sha256(owner.encode("utf-8")).hexdigest()
    return hashlib.sha256(f"owner:{hashed}".encode("ascii")).hexdigest()


def _names(fields: Mapping[str, bytes]) -> str:
    # Names alone: tools that show the locals of a traceback must not show what users store.
    return f"fields [{', '.join(map(repr, fields))}]"


class UpdateResult(enum.Enum):
    """The outcome of a conditional write."""

    UPDATED = "updated"
    GONE = "gone"
    """There is no such record, it has expired, or its epoch is not ``if_epoch``. Nothing was
    changed."""
    CONFLICT = "conflict"
    """The record's version is not ``if_version``. Nothing was changed."""


def is_key(key: object) -> bool:
    """Whether this has the form of a store key: 64 lower-case hexadecimal digits."""
    return isinstance(key, str) and len(key) == 64 and not key.strip("0123456789abcdef")
