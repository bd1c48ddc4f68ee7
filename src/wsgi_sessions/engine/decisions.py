"""The decisions: plain facts about a session go in, what to do about it comes out.

Two halves of one table: `store_step` says what to ask of the store, and, once the store has
answered, `cookie_step` says what the response tells the client. So a cookie follows from what was
done, never from what was planned. No store, no response, no clock here; the table is in
docs/explanation.md, which is made from this module, and is tested row by row.
"""

from __future__ import annotations

import enum

from .._values import value
from ..data.notes import Notes
from ..record import Record

GRACE = 30.0
"""Seconds for which the immediate predecessor of a rotated ID still reaches its session."""

SKEW = 30.0
"""Seconds by which what another request has noted may lie in the future: it came between a
request's look at the clock and its look at the store, or servers' clocks differ."""


class StoreStep(enum.Enum):
    """What the store is asked to do."""

    NOTHING = "nothing"
    TOUCH = "touch"
    """Renew the idle deadline of a record that still exists."""
    UPDATE = "update"
    """Write the changed fields into a record that still exists."""
    ROTATE = "rotate"
    """An update with a new ID; the former one is honored for a short grace period."""
    REGENERATE = "regenerate"
    """An update with a new ID and a new epoch; the former one is dead at once."""
    INSERT = "insert"
    DELETE_EMPTIED = "delete emptied"
    """Remove the record if it is still as it was loaded; else only the removed fields."""
    END = "end"
    """Remove the record, whatever it holds by now."""


class CookieStep(enum.Enum):
    """What the response does to the cookie."""

    LEAVE = "leave"
    RENEW = "renew"
    """Send the present token again, unless the response is public."""
    SET = "set"
    EXPIRE = "expire"


class Result(enum.Enum):
    """The outcome of the store step."""

    NOTHING = "nothing"
    """Nothing was asked, or what was asked could not be done and didn't have to be."""
    WRITTEN = "written"
    """The store has the session under the ID that the client knows."""
    NEW_ID = "new id"
    """The store has the session under an ID that the client doesn't know yet."""
    MOVED = "moved"
    """The store has it under the ID that another request's rotation gave it meanwhile."""
    OVERTAKEN = "overtaken"
    """The store has it under an ID that this request can't know: it was rotated twice meanwhile."""
    DELETED = "deleted"
    GONE = "gone"
    """Another request ended the session, or began a new epoch of it."""
    REVOKED = "revoked"
    """The owner's sessions were revoked while this one was being filed under that owner."""


@value
class Facts:
    """What is known when a session is committed."""

    stored: bool = False
    """The session is in the store, as far as this request knows."""
    changed: bool = False
    """Its fields or its notes differ from what was loaded."""
    empty: bool = False
    """It holds no field and has no owner now; of one that is stored: and held something before."""
    new_id: bool = False
    """``regenerate()``, ``login()`` or a change of owner asked for a new ID."""
    touch_due: bool = False
    """The idle deadline is old enough to be renewed, ``touch()`` asked for it, or an offer to bind
    the session to its device is to be noted."""
    rotation_due: bool = False
    """The ID is older than ``rotate_after``."""
    cookie_due: bool = False
    """The client's cookie should be sent again: by ``rolling``, or as its token is signed with an
    older secret, or of a former ID, or as it ends earlier than the session."""
    attributes_changed: bool = False
    """The cookie's own attributes have to change, as the app set ``persistent``: a change of the
    notes, too."""
    persistent: bool = False
    """The cookie carries Max-Age, so its life moves with the deadline."""
    may_renew: bool = True
    """False for a request that doesn't count as use, and for a response marked public: it may carry
    a new session's cookie, which makes it private. But no cookie or ID is renewed on their account.
    """
    headers_sent: bool = False
    """No header can be added to the response any more."""
    deliverable: bool = True
    """A cookie set on such a request would be kept by the browser."""
    save_uninitialized: bool = False
    """A new session is stored even if it is empty."""
    failed: bool = False
    """The app raised or answered 5xx, and its changes are not to be kept."""
    in_token: bool = False
    """The data travels in the token itself, so every write needs a new one."""

    @property
    def can_set_cookie(self) -> bool:
        """Whether a cookie set now would reach the client."""
        return self.deliverable and not self.headers_sent

    @property
    def renewal(self) -> bool:
        """Whether the client's token is to be sent anew, if the session is otherwise written."""
        return (self.cookie_due or self.persistent) and self.may_renew and self.can_set_cookie


def store_step(facts: Facts) -> StoreStep:  # a table: each row is one question
    """The first half of the table: what to ask of the store."""
    if facts.failed:
        return StoreStep.NOTHING
    if not facts.stored:
        wanted = not facts.empty or facts.save_uninitialized
        return StoreStep.INSERT if wanted and facts.can_set_cookie else StoreStep.NOTHING
    if facts.empty:
        return StoreStep.DELETE_EMPTIED
    if facts.new_id and not facts.headers_sent:
        # An ID that can't be handed out isn't made, and the former one must not live on: what
        # asked for it was a change of privilege.
        return StoreStep.REGENERATE if facts.deliverable else StoreStep.END
    if facts.rotation_due and facts.may_renew and facts.can_set_cookie:
        return StoreStep.ROTATE
    if facts.changed:
        return StoreStep.UPDATE
    renews = facts.renewal and facts.cookie_due
    return StoreStep.TOUCH if facts.touch_due or renews else StoreStep.NOTHING


def cookie_step(facts: Facts, step: StoreStep, result: Result) -> CookieStep:
    """The second half: what the response tells the client, now that the store has answered."""
    if not facts.can_set_cookie:
        return CookieStep.LEAVE
    if result is Result.NEW_ID:
        return CookieStep.RENEW if step is StoreStep.ROTATE else CookieStep.SET
    if result is Result.DELETED:
        return CookieStep.EXPIRE
    if result is Result.MOVED:
        return CookieStep.RENEW if facts.may_renew else CookieStep.LEAVE
    if result is not Result.WRITTEN:
        return CookieStep.LEAVE
    if facts.attributes_changed or (facts.in_token and step is not StoreStep.TOUCH):
        return CookieStep.SET
    return CookieStep.RENEW if facts.renewal or facts.in_token else CookieStep.LEAVE


def told(before: CookieStep, now: CookieStep, result: Result) -> CookieStep:
    """What to tell the client after several commits of one request."""
    if result in (Result.GONE, Result.REVOKED) and before in (CookieStep.SET, CookieStep.RENEW):
        return CookieStep.LEAVE  # what is known to be dead isn't handed out
    if now is CookieStep.LEAVE or (now is CookieStep.RENEW and before is CookieStep.SET):
        return before
    return now


def only_reads(facts: Facts) -> bool:
    """Whether nothing was asked for and nothing is due, so that neither half does anything.

    Most requests end like this. A property test compares it with the table.
    """
    if facts.failed:
        return True
    if not facts.stored:
        return facts.empty and not facts.save_uninitialized
    return not (
        facts.empty
        or facts.changed
        or facts.new_id
        or facts.touch_due
        or (facts.rotation_due and facts.may_renew)
        or facts.cookie_due
    )


class Death(enum.Enum):
    """Which limit ended a session."""

    IDLE = "idle"
    ABSOLUTE = "absolute"


def ends_at(notes: Notes, absolute: float) -> float:
    """The absolute deadline in UNIX seconds (``inf``: none). A new ID doesn't move it."""
    return notes.started_at + min(notes.absolute, absolute)


def next_deadline(notes: Notes, idle: float, absolute: float, now: float) -> float:
    """When a session that is used ``now`` ends: idle, capped by the absolute deadline."""
    # Each request comes through here, and min() costs five times as much.
    ends = notes.started_at + (absolute if absolute < notes.absolute else notes.absolute)  # noqa: FURB136 # min() is slow
    unused = now + (idle if idle < notes.idle else notes.idle)  # noqa: FURB136 # min() is slow
    return unused if unused < ends else ends  # noqa: FURB136 # min() is slow


def deadline_of(record: Record, notes: Notes, idle: float, absolute: float, now: float) -> float:
    """When this record ends, by its own times and by the limits in force today. UNIX seconds.

    Whichever is earlier, so that a limit that was shortened counts at once (ASVS 5.0, 7.3.1 and
    7.3.2). A use that lies in the future was noted by a clock that has been set back since, and
    counts from now. From its deadline on, the session is dead.
    """
    # Each request comes through here: `min` costs five times as much as a comparison. NaN, written
    # into the store as another time, loses against the notes' times.
    used_at, expires_at = record.used_at, record.expires_at
    ends = next_deadline(notes, idle, absolute, min(used_at, now))
    return expires_at if expires_at < ends else ends  # noqa: FURB136 # min() is slow


def death_at(notes: Notes, *, absolute: float, now: float) -> Death:
    """Which limit ended a session whose deadline has passed."""
    return Death.ABSOLUTE if now >= ends_at(notes, absolute) else Death.IDLE


def is_due(since: float, after: float, now: float) -> bool:
    """Whether something that happened at ``since`` is to be done again ``after`` seconds later.

    A time far in the future was noted by a clock that has been set back: due at once.
    """
    return not -SKEW <= now - since < after


def in_grace(until: float, now: float) -> bool:
    """Whether a former ID is still honored; a clock that was set back hardly makes it longer."""
    return 0 < until - now <= GRACE + SKEW
