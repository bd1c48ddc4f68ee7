"""The decisions: what is known of a session goes in, what to do about it comes out.

No store, no clock, no response: plain values only, so that the whole policy is one table (see
`decide`), which stands in docs/explanation.md and is tested row by row.
"""

from __future__ import annotations

import enum
from typing import NamedTuple

from .data.notes import Notes
from .record import Record


class StoreStep(enum.Enum):
    """What the store is asked to do."""

    NOTHING = "nothing"
    TOUCH = "touch"
    """Renew the idle deadline of a record that still exists."""
    UPDATE = "update"
    """Write the changed fields into a record that still exists."""
    INSERT = "insert"
    DELETE_EMPTIED = "delete_emptied"
    """Remove the record if it is still as it was loaded; else only the fields that went."""
    END = "end"
    """Remove the record, whatever became of it."""
    REPLACE = "replace"
    """Put the session under a new ID; the old one is dead at once."""
    ROTATE = "rotate"
    """Put the session under a new ID; the old one forwards for a short grace."""


class CookieStep(enum.Enum):
    """What the response does to the cookie."""

    LEAVE = "leave"
    SET = "set"
    EXPIRE = "expire"


class Plan(NamedTuple):
    """What is to be done for one response. The cookie is set only if the store step succeeds."""

    store: StoreStep
    cookie: CookieStep


_IDLE = Plan(StoreStep.NOTHING, CookieStep.LEAVE)
_EXPIRE_ALONE = Plan(StoreStep.NOTHING, CookieStep.EXPIRE)


class Origin(enum.Enum):
    """Where the session that the app saw came from."""

    NEW = "new"
    """There was none: no cookie, or an unknown, expired or forged one, or it was destroyed."""
    STORED = "stored"
    """It is in the store, under the ID that the client sent."""
    SAVED = "saved"
    """``save()`` stored it in this request under an ID that the client doesn't have yet."""


class Death(enum.Enum):
    """Which limit ended a session."""

    IDLE = "idle"
    ABSOLUTE = "absolute"


def decide(
    *,
    origin: Origin,
    changed: bool = False,
    empty: bool = False,
    new_id: bool = False,
    touch_due: bool = False,
    rotation_due: bool = False,
    ended: bool = False,
    gone: bool = False,
    cookie_sent: bool = False,
    cookie_stale: bool = False,
    persistent: bool = False,
    rolling: bool = False,
    refreshable: bool = True,
    deliverable: bool = True,
    save_uninitialized: bool = False,
    failed: bool = False,
) -> Plan:
    """The plan for a session that the app has used; for one that it has not, there is none.

    Args:
        origin: where the session came from.
        changed: its fields, or what is noted of it, differ from what was loaded.
        empty: it holds no field and has no owner now.
        new_id: ``regenerate()`` or ``login()`` asked for a new ID.
        touch_due: the idle deadline is old enough to be renewed, or ``touch()`` asked for it.
        rotation_due: the ID is older than ``rotate_after``.
        ended: the app destroyed a session in this request.
        gone: this request found that another one ended the session.
        cookie_sent: the client sent a cookie of our name.
        cookie_stale: what it sent should be replaced: signed with an older secret, or forwarded.
        persistent: the cookie carries Max-Age, so its life moves with the deadline.
        rolling: the cookie is re-sent on every response of a used session.
        refreshable: False for a response marked public: it may carry a new session's cookie, which
            makes it private, but never a mere refresh.
        deliverable: a cookie set now would reach the browser.
        save_uninitialized: a new session is stored even if it is empty.
        failed: the app raised or answered 5xx, and such changes are not to be kept.
    """
    if failed:
        # What stands all the same was done before: destroy() or save().
        if origin is Origin.SAVED and deliverable and not gone:
            return Plan(StoreStep.NOTHING, CookieStep.SET)
        return _EXPIRE_ALONE if ended and cookie_sent else _IDLE
    if origin is Origin.NEW:
        if deliverable and (not empty or save_uninitialized):
            return Plan(StoreStep.INSERT, CookieStep.SET)
        return _EXPIRE_ALONE if ended and cookie_sent else _IDLE
    if new_id and (empty or not deliverable):
        # An ID that can't be handed out must not be made: its record would be nobody's.
        return Plan(StoreStep.END, CookieStep.EXPIRE)
    if new_id:
        return Plan(StoreStep.REPLACE, CookieStep.SET)
    if empty and changed:
        return Plan(StoreStep.DELETE_EMPTIED, CookieStep.EXPIRE)
    if rotation_due and deliverable and refreshable:
        return Plan(StoreStep.ROTATE, CookieStep.SET)
    step = StoreStep.UPDATE if changed else StoreStep.TOUCH if touch_due else StoreStep.NOTHING
    refresh = cookie_stale or rolling or (persistent and step is not StoreStep.NOTHING)
    wanted = origin is Origin.SAVED or (refresh and refreshable)
    if gone and step is StoreStep.NOTHING:
        return _IDLE  # what was found dead isn't handed out
    return Plan(step, CookieStep.SET if wanted and deliverable else CookieStep.LEAVE)


def ends_at(notes: Notes, absolute: float) -> float:
    """The absolute deadline in UNIX seconds (``inf``: none). A new ID doesn't move it."""
    return notes.started_at + min(notes.absolute, absolute)


def next_deadline(notes: Notes, *, idle: float, absolute: float, now: float) -> float:
    """When a session that is used ``now`` ends: idle, capped by the absolute deadline."""
    # Each request comes through here, and min() costs five times as much.
    ends = notes.started_at + (absolute if absolute < notes.absolute else notes.absolute)  # noqa: FURB136 # see above
    unused = now + (idle if idle < notes.idle else notes.idle)  # noqa: FURB136 # see above
    return unused if unused < ends else ends  # noqa: FURB136 # see above


def deadline_of(record: Record, notes: Notes, *, idle: float, absolute: float) -> float:
    """When this record ends, by its own times and by the limits in force today. UNIX seconds.

    Whichever is earlier, so that a limit that was shortened counts at once (ASVS 5.0, 7.3.1 and
    7.3.2). From this moment on, the session is dead.
    """
    # NaN, written into the store as another time, loses against the notes' times.
    ends = next_deadline(notes, idle=idle, absolute=absolute, now=record.used_at)
    return min(ends, record.expires_at)


def death_at(notes: Notes, *, absolute: float, now: float) -> Death:
    """Which limit ended a session whose deadline has passed."""
    return Death.ABSOLUTE if now >= ends_at(notes, absolute) else Death.IDLE
