"""Notes: what the engine itself keeps in a record, beside the app's fields; opaque to stores.

The times and the hash of the ID stand in a fixed binary head, because they are needed on every
read; what few sessions have (a label, limits of their own) follows as JSON. Deciding about them is
the work of engine.decisions.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, NamedTuple, cast

from .._options import MAX_SECONDS
from ..record import Record

_FORMAT = 2
_HEAD = struct.Struct(">BBddddd32s")
_FORMER = struct.Struct(">32s16sd")
_as_json = json.JSONEncoder(separators=(",", ":")).encode
_SECURE = 1
_PERSISTENT = 2
_HAS_FORMER = 4
_COOKIE_BEHIND = 8
_ALL_FLAGS = 15
_NO_HASH = bytes(32)
NO_LABEL: Mapping[str, str] = MappingProxyType({})
NO_EXTRAS: Mapping[str, Any] = MappingProxyType({})
MAX_LABEL_ENTRIES = 16
MAX_LABEL_TEXT = 256


EARLIEST = datetime(2, 1, 1, tzinfo=UTC).timestamp()
LATEST = datetime(9800, 1, 1, tzinfo=UTC).timestamp()
"""Times of a session lie between these, so that they can be shown, in any zone, and so can the end
of the longest limit that begins at one. What lies outside was never written by us."""


class CorruptNotes(ValueError):
    """These notes can't be read, or belong to a record that can't be; it is not a session."""


class Former(NamedTuple):
    """The ID before the present one, honored for a short grace after a rotation."""

    hash: bytes
    """SHA-256 of the former ID."""
    nonce: bytes
    """What the present ID was derived with."""
    until: float
    """The end of the grace. UNIX seconds."""


class Notes(NamedTuple):
    """The engine's own notes of one session. All times are UNIX seconds."""

    created_at: float
    started_at: float
    """From when the absolute limit counts: creation, or the last login."""
    issued_at: float
    """When the present ID was issued."""
    id_hash: bytes = _NO_HASH
    """SHA-256 of the present ID."""
    authenticated_at: float | None = None
    listed_until: float = -math.inf
    """Until when the session stands in its owner's list; ``inf``: until it is taken out."""
    secure: bool = False
    """Whether the present ID was issued on a secure connection."""
    persistent: bool = False
    former: Former | None = None
    idle: float = math.inf
    """The session's own idle limit in seconds; ``inf``: only the middleware's counts."""
    absolute: float = math.inf
    label: Mapping[str, str] = NO_LABEL
    binding: Mapping[str, Any] = NO_EXTRAS
    """What is known of the device that the session is bound to (see device_binding)."""
    cookie_behind: bool = False
    """Whether the persistent cookie ends earlier than the session, whose deadline moved with a
    response that couldn't carry it."""

    def issued(
        self, id_hash: bytes, at: float, *, secure: bool, former: Former | None = None
    ) -> Notes:
        """The same after an ID of this hash was issued."""
        created_at, started_at, _, _, authenticated_at, listed_until, _, persistent, _, *rest = self
        times = created_at, started_at, at
        # `_replace` would take four times as long, for every new session.
        changed = (id_hash, authenticated_at, listed_until, secure, persistent, former)
        return _new_notes(Notes, (*times, *changed, *rest))


_new_notes = cast(
    "Callable[[type[Notes], tuple[object, ...]], Notes]",
    tuple.__new__,  # pyright: ignore[reportUnknownMemberType] # any tuple's
)


def first_notes(now: float, *, persistent: bool) -> Notes:
    """What a session begins with."""
    return _new_notes(
        Notes,
        (
            *(now, now, now, _NO_HASH, None, -math.inf, False, persistent),
            *(None, math.inf, math.inf, NO_LABEL, NO_EXTRAS, False),
        ),
    )


def dump_notes(notes: Notes) -> bytes:
    """The notes as bytes."""
    former = notes.former
    flags = (
        (_SECURE if notes.secure else 0)
        | (_PERSISTENT if notes.persistent else 0)
        | (_HAS_FORMER if former is not None else 0)
        | (_COOKIE_BEHIND if notes.cookie_behind else 0)
    )
    raw = _HEAD.pack(
        _FORMAT,
        flags,
        notes.created_at,
        notes.started_at,
        notes.issued_at,
        math.nan if notes.authenticated_at is None else notes.authenticated_at,
        notes.listed_until,
        notes.id_hash,
    )
    if former is not None:
        raw += _FORMER.pack(*former)
    extra: dict[str, Any] = {}
    if notes.idle != math.inf:
        extra["idle"] = notes.idle
    if notes.absolute != math.inf:
        extra["absolute"] = notes.absolute
    if notes.label:
        extra["label"] = dict(notes.label)
    if notes.binding:
        extra["binding"] = dict(notes.binding)
    return raw + _as_json(extra).encode("ascii") if extra else raw


def notes_of(record: Record) -> Notes:
    """The notes of a record that can be a session: its times and its owner can be shown.

    Raises:
        CorruptNotes: it can't be one.
    """
    if not (EARLIEST <= record.used_at <= LATEST and EARLIEST <= record.expires_at <= LATEST):
        raise CorruptNotes("impossible time")
    owner = record.owner
    if owner is not None and not owner.isascii():
        try:
            owner.encode("utf-8")
        except UnicodeEncodeError:
            raise CorruptNotes("the owner can't be encoded as UTF-8") from None
    return load_notes(record.notes)


def load_notes(raw: bytes) -> Notes:
    """The notes that these bytes hold.

    Raises:
        CorruptNotes: they aren't notes of ours.
    """
    try:
        fmt, flags, created_at, started_at, issued_at, authenticated, listed, id_hash = (
            _HEAD.unpack_from(raw)
        )
    except struct.error:
        raise CorruptNotes("too short") from None
    if fmt != _FORMAT or flags > _ALL_FLAGS:
        raise CorruptNotes("unknown format")
    never = authenticated != authenticated  # noqa: PLR0124 # NaN
    if not (
        EARLIEST <= created_at <= LATEST
        and EARLIEST <= started_at <= LATEST
        and EARLIEST <= issued_at <= LATEST
        and (never or EARLIEST <= authenticated <= LATEST)
        and listed == listed  # noqa: PLR0124 # not NaN
    ):
        raise CorruptNotes("impossible time")
    at = _HEAD.size
    former = None
    if flags & _HAS_FORMER:
        former, at = _former(raw, at)
    authenticated_at = None if never else authenticated
    secure, persistent = flags & _SECURE != 0, flags & _PERSISTENT != 0
    idle, absolute, label, binding = _NO_EXTRA if len(raw) == at else _extra(raw[at:])
    # The generated __new__ would take twice as long, on every read.
    return _new_notes(
        Notes,
        (
            created_at,
            started_at,
            issued_at,
            id_hash,
            authenticated_at,
            listed,
            secure,
            persistent,
            former,
            idle,
            absolute,
            label,
            binding,
            flags & _COOKIE_BEHIND != 0,
        ),
    )


def _former(raw: bytes, at: int) -> tuple[Former, int]:
    try:
        former = Former(*_FORMER.unpack_from(raw, at))
    except struct.error:
        raise CorruptNotes("too short") from None
    if not math.isfinite(former.until):
        raise CorruptNotes("impossible time")
    return former, at + _FORMER.size


_Extra = tuple[float, float, Mapping[str, str], Mapping[str, Any]]
_NO_EXTRA: _Extra = (math.inf, math.inf, NO_LABEL, NO_EXTRAS)


def _extra(raw: bytes) -> _Extra:
    try:
        extra = json.loads(raw.decode("ascii"))
    except (ValueError, RecursionError):
        raise CorruptNotes("damaged") from None
    if not isinstance(extra, dict):
        raise CorruptNotes("damaged")
    extra = cast("dict[str, Any]", extra)
    label: Any = extra.get("label", {})
    binding: Any = extra.get("binding", {})
    if not is_label(label) or not isinstance(binding, dict):
        raise CorruptNotes("damaged")
    return (
        _limit(extra["idle"]) if "idle" in extra else math.inf,
        _limit(extra["absolute"]) if "absolute" in extra else math.inf,
        label,
        cast("dict[str, Any]", binding),
    )


def _limit(value: object) -> float:
    if isinstance(value, (int, float)) and value is not True and 0 < value <= MAX_SECONDS:
        return float(value)
    raise CorruptNotes("damaged")


def is_label(value: object) -> bool:
    """Whether this is a label: a dict of a few short strings that can be stored and read back."""
    return (
        isinstance(value, dict)
        and len(value) <= MAX_LABEL_ENTRIES  # pyright: ignore[reportUnknownArgumentType] # any dict
        and all(
            isinstance(text, str) and len(text) <= MAX_LABEL_TEXT
            for entry in value.items()  # pyright: ignore[reportUnknownVariableType] # any dict
            for text in entry  # pyright: ignore[reportUnknownVariableType] # any dict
        )
    )
