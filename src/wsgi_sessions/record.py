"""What a store keeps for one session, and what one request wants changed in it.

Plain values, no behaviour: stores and the core meet here. Encoding the values is the codec's work,
deciding about them is the core's.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

_KEY = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Record:
    """What a store keeps for one key."""

    fields: Mapping[str, bytes]
    """The app's data: one encoded value per top-level key."""
    notes: bytes
    """The core's own: creation, limits, label and so on. Opaque to stores."""
    used_at: float
    """When the session was last used. UNIX seconds."""
    expires_at: float
    """The idle deadline, capped by the absolute one. UNIX seconds."""
    version: int = 1
    """Goes up by one with every update that changes fields or notes; a touch leaves it."""
    owner: str | None = None
    """The user whom the session belongs to: the app's opaque string."""

    def __repr__(self) -> str:
        return (
            f"Record({_named(self.fields)}, notes of {len(self.notes)} bytes,"
            f" used_at={self.used_at}, expires_at={self.expires_at}, version={self.version},"
            f" owner={self.owner!r})"
        )


@dataclass(frozen=True, slots=True)
class Changes:
    """What one request wants changed in a record; an empty one with times is a touch."""

    set: Mapping[str, bytes] = field(default_factory=dict[str, bytes])
    delete: frozenset[str] = frozenset()
    notes: bytes | None = None
    """None leaves the notes as they are."""
    used_at: float | None = None
    expires_at: float | None = None

    @property
    def changes_data(self) -> bool:
        """True if applying this raises the record's version; False for a mere touch."""
        return bool(self.set or self.delete or self.notes is not None)

    def __repr__(self) -> str:
        notes = "no notes" if self.notes is None else f"notes of {len(self.notes)} bytes"
        return (
            f"Changes(set {_named(self.set)}, delete {sorted(self.delete)}, {notes},"
            f" used_at={self.used_at}, expires_at={self.expires_at})"
        )


def _named(fields: Mapping[str, bytes]) -> str:
    # Names alone: tools that show the locals of a traceback must not show what users store.
    return f"fields [{', '.join(map(repr, fields))}]"


class UpdateResult(enum.Enum):
    """What became of a conditional write."""

    UPDATED = "updated"
    GONE = "gone"
    """There is no such record (any more). Nothing was changed."""
    CONFLICT = "conflict"
    """The record's version is another than ``if_version``. Nothing was changed."""


@dataclass(frozen=True, slots=True)
class OwnedEntry:
    """One line of an owner's index."""

    added_at: float
    """When the entry was made. UNIX seconds, by the store's clock; strictly rising per owner."""
    expires_at: float
    """When the session ends at the latest. UNIX seconds; ``inf`` where there is no such limit."""
    generation: int
    """The owner's generation when the entry was made."""


def is_key(key: object) -> bool:
    """Whether this is the form of a store key: 64 lower-case hexadecimal digits."""
    return isinstance(key, str) and _KEY.fullmatch(key) is not None
