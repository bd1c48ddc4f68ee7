"""Notes: what the core itself keeps in a record, beside the app's fields; opaque to stores.

The times stand in a fixed binary head, because they are needed on every read; what few sessions
have (a label, limits of their own) follows as JSON. Deciding about the times is lifecycle's work.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple, cast

_FORMAT = 1
_HEAD = struct.Struct(">BBdddd")
_SECURE = 1
_PERSISTENT = 2
NO_LABEL: Mapping[str, str] = MappingProxyType({})
MAX_LABEL_ENTRIES = 16
MAX_LABEL_TEXT = 256


class CorruptNotes(ValueError):
    """These notes can't be read, so the record is no session."""


class Notes(NamedTuple):
    """The core's own notes of one session. All times are UNIX seconds."""

    created_at: float
    started_at: float
    """From when the absolute limit counts: creation, or the last login."""
    issued_at: float
    """When the present ID was issued."""
    authenticated_at: float | None = None
    secure: bool = False
    """Whether the present ID was issued on a secure connection."""
    persistent: bool = False
    idle: float = math.inf
    """The session's own idle limit in seconds; ``inf``: the middleware's counts alone."""
    absolute: float = math.inf
    generation: int = 0
    """The owner's generation when the session was filed under the owner."""
    label: Mapping[str, str] = NO_LABEL


def dump_notes(notes: Notes) -> bytes:
    """The notes as bytes."""
    flags = (_SECURE if notes.secure else 0) | (_PERSISTENT if notes.persistent else 0)
    authenticated = math.nan if notes.authenticated_at is None else notes.authenticated_at
    head = _HEAD.pack(
        _FORMAT, flags, notes.created_at, notes.started_at, notes.issued_at, authenticated
    )
    extra: dict[str, Any] = {}
    if notes.idle != math.inf:
        extra["idle"] = notes.idle
    if notes.absolute != math.inf:
        extra["absolute"] = notes.absolute
    if notes.generation:
        extra["generation"] = notes.generation
    if notes.label:
        extra["label"] = dict(notes.label)
    return head + json.dumps(extra, separators=(",", ":")).encode("ascii") if extra else head


def load_notes(raw: bytes) -> Notes:
    """The notes that these bytes hold.

    Raises:
        CorruptNotes: if they hold none.
    """
    try:
        fmt, flags, created_at, started_at, issued_at, authenticated = _HEAD.unpack_from(raw)
    except struct.error:
        raise CorruptNotes("too short") from None
    # Only finite numbers give a finite difference from each other.
    if fmt != _FORMAT or flags > 3 or not math.isfinite(created_at + started_at + issued_at):
        raise CorruptNotes("unknown format")
    if math.isinf(authenticated):
        raise CorruptNotes("impossible time")
    notes = Notes(
        created_at,
        started_at,
        issued_at,
        None if authenticated != authenticated else authenticated,  # noqa: PLR0124 # NaN: never
        bool(flags & _SECURE),
        bool(flags & _PERSISTENT),
    )
    return notes if len(raw) == _HEAD.size else _with_extra(notes, raw[_HEAD.size :])


def _with_extra(notes: Notes, raw: bytes) -> Notes:
    try:
        extra = json.loads(raw)
    except (ValueError, RecursionError):
        raise CorruptNotes("damaged") from None
    if not isinstance(extra, dict):
        raise CorruptNotes("damaged")
    extra = cast("dict[str, Any]", extra)
    generation = extra.get("generation", 0)
    label: Any = extra.get("label", {})
    if type(generation) is not int or generation < 0 or not is_label(label):
        raise CorruptNotes("damaged")
    return notes._replace(
        idle=_limit(extra.get("idle", math.inf)),
        absolute=_limit(extra.get("absolute", math.inf)),
        generation=generation,
        label=label,
    )


def _limit(value: object) -> float:
    if type(value) not in (int, float) or not value > 0:  # type: ignore[operator] # it is a number
        raise CorruptNotes("damaged")
    try:
        return float(value)  # type: ignore[arg-type] # it is a number
    except OverflowError:
        raise CorruptNotes("damaged") from None


def is_label(value: object) -> bool:
    """Whether this is a label: a dict of a few short strings."""
    return (
        isinstance(value, dict)
        and len(value) <= MAX_LABEL_ENTRIES  # pyright: ignore[reportUnknownArgumentType] # any dict
        and all(
            isinstance(text, str) and len(text) <= MAX_LABEL_TEXT
            for entry in value.items()  # pyright: ignore[reportUnknownVariableType] # any dict
            for text in entry  # pyright: ignore[reportUnknownVariableType] # any dict
        )
    )
