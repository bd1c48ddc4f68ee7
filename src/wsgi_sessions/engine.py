"""Engine: opens and commits a session. The one place that knows core, store, clock and randomness.

What is to be done is decided in lifecycle; this module finds out the facts, carries the plan out
against a store that other requests use at the same time, and reports what happened as events. It
knows nothing of WSGI beyond the environ that a token is read from.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import replace
from typing import Any, NamedTuple, TypeVar

from . import lifecycle
from .codec import Codec, CorruptField
from .errors import (
    SessionCommitted,
    SessionConflict,
    SessionEnded,
    SessionTooLarge,
    StoreError,
    TooManySessions,
    UnsupportedByStore,
)
from .events import EventSink, printable
from .fields import NOTHING, Fields
from .lifecycle import CookieStep, Origin, StoreStep
from .lifetime import touch_after
from .notes import MAX_LABEL_TEXT, CorruptNotes, Notes, dump_notes, load_notes
from .owners import Limits, owned
from .proxies import CLIENT_KEY, Client
from .record import Changes, Record, UpdateResult
from .rotation import Rotation, forward_key, forward_record, read_forward
from .session import NO_CHANGES, Visit
from .signing import Identity, make_identity
from .stores.base import Store
from .stores.client import ClientSeal
from .stores.memory import MemoryStore
from .transport import Environ, Header, Transport

T = TypeVar("T")

ATTEMPTS = 128
"""How often a compare-and-set is tried before it counts as lost: eight that contend all the time
lose 64 times in a row once in 5,000 times."""
ABANDONED = 600.0
"""Seconds after its grace when a forward counts as one whose maker died.

Long, because a session that wasn't moved works as it is, while a maker that is only slow must find
its forward untouched.
"""
MAX_MOVES = 16
"""How many rotations a destroy() follows: more in one request means a broken clock."""


_AFTER_COMMA = (
    "The session's cookie was found after a comma: a server or proxy joins several Cookie lines of"
    " HTTP/2 by comma instead of '; ' (RFC 9113 section 8.2.3). It works, but a cookie whose name"
    " has a prefix, such as __Host-, would be lost. Let the proxy in front join them."
)


class Settings(NamedTuple):
    """What the middleware was told, checked and in plain values."""

    store: Store
    seal: ClientSeal | None
    """Seals the records that live with the clients; None where they live in the store."""
    codec: Codec
    limits: Limits
    clock: Callable[[], float]
    id_factory: Callable[[], str]
    events: EventSink
    touch_interval: float
    rotate_after: float
    """Seconds; ``inf``: never."""
    rotation: Rotation | None
    max_bytes: int
    max_per_owner: int | None
    refuse_when_full: bool
    label: frozenset[str]
    save_uninitialized: bool
    rolling: bool


class Found(NamedTuple):
    """A live session in the store."""

    identity: Identity
    record: Record
    notes: Notes
    deadline: float
    """When it ends. UNIX seconds."""
    moved: bool
    """Whether the client's ID is the predecessor of this one."""


class Engine:
    """Opens visits, and carries out what becomes of them."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._store = settings.store
        self._clock = settings.clock
        self._events = settings.events
        self._shared = settings.seal is None
        self._touch_after = touch_after(settings.touch_interval, settings.limits.idle)

    def now(self) -> float:
        """UNIX seconds."""
        return self._clock()

    # Opening

    def open(self, environ: Environ, transport: Transport) -> Visit:
        """What there is for this request. A store that fails is noted in the visit."""
        visit = Visit()
        # Not the environ itself, which holds the Session: that would be a circle, and keep all of a
        # request's garbage until the collector runs.
        client = environ.get(CLIENT_KEY)
        visit.client_ip = client.ip if isinstance(client, Client) else None
        visit.user_agent = environ.get("HTTP_USER_AGENT")
        visit.forwarded_proto = environ.get("HTTP_X_FORWARDED_PROTO")
        visit.transport = transport
        sent = transport.candidates(environ)
        visit.tokens = sent.values
        visit.scheme = environ.get("wsgi.url_scheme")
        visit.secure = visit.scheme == "https"
        visit.store = self._store if self._settings.seal is None else MemoryStore()
        visit.shared = self._shared
        now = self._clock()
        try:
            found = self._find(visit, now)
        except StoreError as error:
            found = False
            visit.error = error
            self._emit("store_error", visit, detail=f"{error.operation or 'load'}: {error}")
        if not found:
            self._start(visit, now)
            if sent.beyond is not None and visit.error is None:
                self._emit("cookie_not_found", visit, detail=sent.beyond)
        elif sent.after_comma:
            self._events.explain("cookie-after-comma", _AFTER_COMMA, per_process=True)
        return visit

    def _start(self, visit: Visit, now: float) -> None:
        """Begin with no session."""
        visit.notes = Notes(now, now, now, None, False, visit.transport.persistent)
        visit.fields = Fields({}, self._settings.codec)
        visit.label = {}

    def _start_afresh(self, visit: Visit, now: float) -> None:
        """Forget the session that there was."""
        visit.origin = Origin.NEW
        visit.note_changes = NO_CHANGES
        visit.stored = visit.identity = visit.record = visit.owner = visit.keep = None
        visit.pending = NOTHING
        visit.deadline = math.inf
        visit.new_id = visit.login = visit.joins = visit.touch = visit.cookie_stale = False
        visit.gone = False
        self._start(visit, now)

    def _find(self, visit: Visit, now: float) -> bool:
        """Adopt the one live session that the client sent a token of. Whether there is one."""
        if not visit.tokens:
            return False
        visit.cookie_sent = True
        identities = self._verified(visit, visit.tokens)
        if not identities:
            self._emit("bad_signature", visit, detail=visit.transport.name)
            return False
        live: list[tuple[Found, bool]] = []
        for identity, old_secret in identities:
            found = self._load(visit, identity, now)
            # An ID and its successor are one session.
            if found is not None and not (live and live[0][0].identity.key == found.identity.key):
                live.append((found, old_secret))
        if not live:
            return False
        if len(live) > 1:
            # The order of two cookies of one name says nothing about which is the user's
            # (RFC 6265bis section 4.2.2).
            self._emit("cookie_conflict", visit, detail=f"{len(live)} live sessions")
            return False
        found, old_secret = live[0]
        self._adopt(visit, found)
        visit.cookie_stale = old_secret or found.moved
        if old_secret:
            self._emit("old_secret", visit)
        return True

    def _verified(self, visit: Visit, values: tuple[str, ...]) -> list[tuple[Identity, bool]]:
        if self._settings.seal is not None:
            return self._unsealed(visit, values, self._settings.seal)
        tokens: list[tuple[Identity, bool]] = []
        # Two equal cookies are one; of two spellings of one ID, only one is canonical.
        for value in dict.fromkeys(values):
            verified = visit.transport.signer.verify(value)
            if verified is not None:
                session_id, secret = verified
                tokens.append((Identity(session_id), secret > 0))
        return tokens

    def _unsealed(
        self, visit: Visit, values: tuple[str, ...], seal: ClientSeal
    ) -> list[tuple[Identity, bool]]:
        tokens: list[tuple[Identity, bool]] = []
        for value in values:
            opened = seal.open(value, visit.transport.purpose)
            if opened is not None:
                identity = Identity(opened.session_id)
                if visit.store.insert(identity.key, opened.record):
                    tokens.append((identity, opened.old_secret))
        return tokens

    def _load(self, visit: Visit, identity: Identity, now: float) -> Found | None:
        record = visit.store.load(identity.key)
        if record is None:
            found, kind = self._load_moved(visit, identity, now)
            if kind is not None:
                self._emit(kind, visit, identity.key)
            return found
        return self._live(visit, identity, record, now)

    def _live(
        self, visit: Visit, identity: Identity, record: Record, now: float, *, moved: bool = False
    ) -> Found | None:
        try:
            notes = load_notes(record.notes)
        except CorruptNotes as error:
            self._emit("corrupt_record", visit, identity.key, detail=f"notes: {error}")
            return None
        if notes.secure and not visit.secure:
            # NIST SP 800-63B section 7.1: no falling back to an insecure transport.
            self._emit(
                "insecure", visit, identity.key, detail="a secure session's cookie came over http"
            )
            self._events.explain(
                "insecure-replay",
                "A session that was begun over https came in over http, and was not used. Behind a"
                " TLS proxy, let it set X-Forwarded-Proto and set trusted_proxies to the number"
                " of proxies.",
            )
            return None
        limits = self._settings.limits
        deadline = lifecycle.deadline_of(record, notes, idle=limits.idle, absolute=limits.absolute)
        if now >= deadline:
            death = lifecycle.death_at(notes, absolute=limits.absolute, now=now)
            self._emit("expired", visit, identity.key, record.owner, detail=death.value)
            return None
        return Found(identity, record, notes, deadline, moved)

    def _load_moved(
        self, visit: Visit, identity: Identity, now: float
    ) -> tuple[Found | None, str | None]:
        """The session that this ID was rotated away from; else what to report."""
        rotation = self._settings.rotation
        entry = None if rotation is None else visit.store.load(forward_key(identity))
        if rotation is None or entry is None:
            return None, "unknown_id"
        forward = read_forward(entry)
        if forward is None:
            return None, "corrupt_record"
        if now >= forward.until:
            return None, "retired_id_used"
        successor = rotation.follow(identity, forward)
        if successor is None:
            return None, "unknown_id"
        record = visit.store.load(successor.key)
        if record is not None:
            return self._live(visit, successor, record, now, moved=True), None
        # Only the immediate predecessor has grace: an ID from before that was retired, too.
        further = visit.store.load(forward_key(successor)) is not None
        return None, "retired_id_used" if further else "unknown_id"

    def _adopt(self, visit: Visit, found: Found) -> None:
        visit.origin = Origin.STORED
        visit.stored = visit.identity = found.identity
        visit.record = found.record
        visit.notes = found.notes
        visit.fields = Fields(found.record.fields, self._settings.codec)
        visit.owner = found.record.owner
        visit.label = dict(found.notes.label) if found.notes.label else {}
        visit.deadline = found.deadline

    # What a Session asks for

    def identify(self, visit: Visit) -> Identity:
        """The visit's identity; a new one is made if it has none yet."""
        if visit.identity is None:
            visit.identity = make_identity(self._settings.id_factory)
        return visit.identity

    def corrupted(self, visit: Visit) -> None:
        """A field can't be decoded: from here on, the visit has no session."""
        handle = None if visit.stored is None else visit.stored.key
        self._emit("corrupt_record", visit, handle, detail="field")
        self._start_afresh(visit, self._clock())

    def late_access(self) -> None:
        """Say, once, that Vary could not be added to a response."""
        self._events.explain(
            "late-access",
            "A session was first used after the response's headers went out, so Vary: Cookie is"
            " missing on it and a shared cache may keep it. Read the session before the body's"
            " first chunk.",
        )

    def limits(self, visit: Visit) -> tuple[float, float]:
        """The idle and the absolute limit in force, in seconds."""
        limits = self._settings.limits
        return (
            min(visit.notes.idle, limits.idle),
            min(visit.notes.absolute, limits.absolute),
        )

    def expected_end(self, visit: Visit) -> float:
        """When the session ends unless it is used again. UNIX seconds."""
        if visit.origin is Origin.NEW:
            return self._next_deadline(visit.notes, self._clock())
        return min(visit.deadline, self._next_deadline(visit.notes, self._clock()))

    def regenerate(self, visit: Visit, keep: frozenset[str] | None) -> None:
        """Give the visit a new identity, and let go of the fields that aren't kept."""
        self._give_up_place(visit)
        if keep is not None:
            visit.fields.retain(keep)
            visit.keep = keep if visit.keep is None else visit.keep & keep
        visit.identity = None
        visit.new_id = visit.origin is not Origin.NEW

    def own(
        self, visit: Visit, owner: str | None, keep: frozenset[str] | None, *, login: bool
    ) -> None:
        """File the visit under an owner, or none, with a new identity.

        Raises:
            TooManySessions: nothing was changed.
        """
        identity = make_identity(self._settings.id_factory)
        place = None
        if owner is not None and self._settings.refuse_when_full:
            place = self._take_place(visit, owner, identity.key)
        self.regenerate(visit, keep)
        visit.identity = identity
        visit.place = place
        visit.owner = owner
        visit.joins = owner is not None
        visit.login = visit.login or login
        changes: dict[str, Any] = {"generation": 0}
        if login:
            now = self._clock()
            changes.update(started_at=now, authenticated_at=now)
        visit.notes = visit.notes._replace(**changes)
        visit.note_changes = {**visit.note_changes, **changes}
        if owner is not None:
            self._fill_label(visit)

    def _take_place(self, visit: Visit, owner: str, key: str) -> tuple[str, int] | None:
        # The place is taken before it is counted: of parallel logins, the index has one order,
        # and those that came first count for those that came later.
        store, limit = visit.store, self._settings.max_per_owner
        if limit is None:
            return None
        now = self._clock()
        generation = store.add_owned(owner, key, now + self._settings.limits.absolute)
        present = owned(store, owner, self._settings.limits, now)
        mine = present.entries[key].added_at if key in present.entries else math.inf
        own_key = visit.stored.key if visit.stored and visit.owner == owner else None
        others = sum(1 for live in present.live if live.key != own_key)
        others += sum(1 for _, entry in present.pending if entry.added_at < mine)
        if others >= limit:
            store.remove_owned(owner, [key])
            raise TooManySessions(
                f"the owner has {others} live sessions and max_per_owner is {limit}; end one of"
                " them first (registry.sessions(owner), registry.revoke(handle))"
            )
        return key, generation

    def _give_up_place(self, visit: Visit) -> None:
        if visit.place is not None and visit.owner is not None:
            visit.store.remove_owned(visit.owner, [visit.place[0]])
        visit.place = None

    def _fill_label(self, visit: Visit) -> None:
        for name, text in (
            ("ip", visit.client_ip),
            ("user_agent", visit.user_agent),
        ):
            if name in self._settings.label and isinstance(text, str):
                visit.label[name] = printable(text, MAX_LABEL_TEXT)

    def destroy(self, visit: Visit) -> None:
        """End the session now, wherever it has moved meanwhile."""
        stored, record = visit.stored, visit.record
        visit.ended = True
        if visit.error is not None:
            raise visit.error
        self._give_up_place(visit)
        self._start_afresh(visit, self._clock())
        if stored is None:
            return
        owner = None if record is None else record.owner
        try:
            if self._end(visit, stored, owner):
                self._emit("destroyed", visit, stored.key, owner)
        except StoreError as error:
            self._emit("store_error", visit, stored.key, owner, detail=f"destroy: {error}")
            raise

    def _end(self, visit: Visit, identity: Identity, owner: str | None) -> bool:
        ended = visit.store.delete(identity.key)
        keys = [identity.key]
        while not ended and len(keys) <= MAX_MOVES:
            successor = self._successor(visit, identity)
            if successor is None:
                break
            identity = successor
            keys.append(identity.key)
            ended = visit.store.delete(identity.key)
        if owner is not None:
            self._unlist(visit, owner, keys)
        return ended

    def _successor(self, visit: Visit, identity: Identity) -> Identity | None:
        """Where a session that this request had live has moved: its grace doesn't matter here."""
        rotation = self._settings.rotation
        entry = None if rotation is None else visit.store.load(forward_key(identity))
        forward = None if entry is None else read_forward(entry)
        return None if rotation is None or forward is None else rotation.follow(identity, forward)

    def _unlist(self, visit: Visit, owner: str, keys: list[str]) -> None:
        # An entry too many is healed by whoever lists; what counts is that the record is gone.
        try:
            visit.store.remove_owned(owner, keys)
        except StoreError as error:
            self._emit("store_error", visit, keys[0], owner, detail=f"remove_owned: {error}")

    def save(self, visit: Visit, *, cookie_possible: bool) -> None:
        """Commit now what a commit would write."""
        now = self._clock()
        visit.final = False
        deliverable = cookie_possible and visit.transport.deliverable(secure=visit.secure)
        visit.pending = visit.fields.changes()
        step = self._plan(visit, now, deliverable=deliverable).store
        if step in (StoreStep.NOTHING, StoreStep.TOUCH):
            return
        if not self._carry_out(visit, step, now):
            visit.gone = True
            raise SessionEnded("another request ended this session meanwhile; nothing was saved")

    def reload(self, visit: Visit) -> None:
        """Drop what wasn't committed, and read again."""
        self._give_up_place(visit)
        saved = visit.stored if visit.origin is Origin.SAVED else None
        visit.error = None
        now = self._clock()
        self._start_afresh(visit, now)
        try:
            if saved is None:
                self._find(visit, now)
                return
            found = self._load(visit, saved, now)
        except StoreError as error:
            # Not knowing isn't having none: whatever is asked next gives this error, too.
            visit.error = error
            self._emit("store_error", visit, detail=f"reload: {error}")
            raise
        if found is not None:
            self._adopt(visit, found)
            visit.origin = Origin.SAVED

    def transact(
        self, visit: Visit, work: Callable[[MutableMapping[str, Any]], T], *, late: bool
    ) -> T:
        """Run ``work`` on fresh data and commit what it changed by compare-and-set."""
        self._sharing(visit)
        if visit.origin is Origin.NEW:
            return self._transact_alone(visit, work, late=late)
        for attempt in range(ATTEMPTS):
            now = self._clock()
            found = self._reread(visit, now)
            if found is None:
                visit.gone = True
                raise SessionEnded("another request ended this session meanwhile")
            seen = _merged(found.record.fields, *visit.fields.changes())
            fresh = Fields(seen, self._settings.codec)
            result = work(fresh)
            set_, delete = fresh.changes()
            if not set_ and not delete:
                return result
            if set_:
                self._check_size(visit, found.record.fields, set_, delete)
            deadline = self._next_deadline(found.notes, now)
            written = visit.store.update(
                found.identity.key,
                Changes(set_, delete, None, now, deadline),
                if_version=found.record.version,
            )
            if written is UpdateResult.UPDATED:
                self._take_over(visit, found, set_, delete, now, deadline)
                return result
            _back_off(attempt)
        raise SessionConflict(
            f"other requests changed this session {ATTEMPTS} times while the transaction ran;"
            " nothing was changed"
        )

    def _transact_alone(
        self, visit: Visit, work: Callable[[MutableMapping[str, Any]], T], *, late: bool
    ) -> T:
        # A session that isn't stored yet has no other request to race with.
        scratch = Fields(visit.fields.encoded(), self._settings.codec)
        result = work(scratch)
        set_, delete = scratch.changes()
        if late and (set_ or delete):
            raise SessionCommitted(
                "the response's headers are already sent, so the cookie that this change needs"
                " can't be set; change the session before the body's first chunk"
            )
        for name in delete:
            del visit.fields[name]
        for name in set_:
            visit.fields[name] = scratch[name]
        return result

    def _take_over(
        self,
        visit: Visit,
        found: Found,
        set_: dict[str, bytes],
        delete: frozenset[str],
        now: float,
        deadline: float,
    ) -> None:
        base = _merged(found.record.fields, set_, delete)
        visit.fields.refresh(base, settled=delete | set_.keys())
        visit.record = replace(
            found.record,
            fields=base,
            version=found.record.version + 1,
            used_at=now,
            expires_at=deadline,
        )
        visit.deadline = deadline
        if found.notes.persistent:
            visit.cookie_stale = True

    # Committing

    def commit(
        self,
        visit: Visit,
        *,
        failed: bool,
        refreshable: bool = True,
        cookie_possible: bool = True,
        final: bool = True,
    ) -> Header | None:
        """Do what the response asks for; returns the header that sets or ends the token, if any.

        Args:
            visit: what the request knows of its session.
            failed: the app raised or answered 5xx, and its changes are not to be kept.
            refreshable: False for a response marked public.
            cookie_possible: whether a header can still be added.
            final: False if the app may go on using the session.

        Raises:
            StoreError: data could not be saved.
            SessionTooLarge, SessionConflict, TypeError: it can't be; nothing was stored.
        """
        now = self._clock()
        visit.final = final
        failed = failed or visit.error is not None
        visit.pending = NOTHING if failed else visit.fields.changes()
        if self._was_only_read(visit, now):
            return None
        secure = visit.secure
        deliverable = cookie_possible and visit.transport.deliverable(secure=secure)
        plan = self._plan(
            visit, now, failed=failed, refreshable=refreshable, deliverable=deliverable
        )
        if cookie_possible and not deliverable:
            self._explain_insecure(visit, now, failed=failed)
        cookie = plan.cookie
        if failed:
            self._forget_place(visit)
        elif plan.store is not StoreStep.NOTHING:
            cookie = self._perform(visit, plan, now, refreshable=refreshable)
        if not deliverable or cookie is CookieStep.LEAVE:
            return None
        if cookie is CookieStep.EXPIRE:
            return visit.transport.expire(secure=secure)
        return visit.transport.set(
            self._token(visit), secure=secure, max_age=self._max_age(visit, now), now=now
        )

    def _was_only_read(self, visit: Visit, now: float) -> bool:
        """Whether nothing was asked for and nothing is due: most requests end so, without a plan.

        A shortcut: `lifecycle.decide` would come to the same.
        """
        if visit.pending is not NOTHING or visit.cookie_stale or visit.ended:
            return False
        settings = self._settings
        if visit.origin is Origin.NEW:
            return visit.empty and not settings.save_uninitialized
        return (
            visit.origin is Origin.STORED
            and not (visit.new_id or settings.rolling or visit.changed_notes)
            and now - visit.notes.issued_at < settings.rotate_after
            and not self._touch_due(visit, now)
        )

    def _plan(
        self,
        visit: Visit,
        now: float,
        *,
        deliverable: bool,
        failed: bool = False,
        refreshable: bool = True,
    ) -> lifecycle.Plan:
        settings = self._settings
        stored = visit.origin is not Origin.NEW
        return lifecycle.decide(
            origin=visit.origin,
            changed=visit.pending is not NOTHING or visit.changed_notes,
            empty=visit.empty,
            new_id=visit.new_id,
            touch_due=stored and self._touch_due(visit, now),
            rotation_due=stored and now - visit.notes.issued_at >= settings.rotate_after,
            ended=visit.ended,
            gone=visit.gone,
            cookie_sent=visit.cookie_sent,
            cookie_stale=visit.cookie_stale,
            persistent=visit.notes.persistent,
            rolling=settings.rolling,
            refreshable=refreshable,
            deliverable=deliverable,
            save_uninitialized=settings.save_uninitialized,
            failed=failed,
        )

    def _touch_due(self, visit: Visit, now: float) -> bool:
        if visit.touch or visit.record is None:
            return visit.touch
        unused = now - visit.record.used_at
        return unused >= self._touch_after or unused >= visit.notes.idle / 10

    def _perform(
        self, visit: Visit, plan: lifecycle.Plan, now: float, *, refreshable: bool
    ) -> CookieStep:
        try:
            done = self._carry_out(visit, plan.store, now)
        except StoreError as error:
            self._emit("store_error", visit, detail=f"{plan.store.value}: {error}")
            if plan.store is StoreStep.TOUCH:
                return CookieStep.LEAVE
            raise
        if not done:
            return CookieStep.LEAVE
        if plan.store is StoreStep.DELETE_EMPTIED and visit.origin is not Origin.NEW:
            return CookieStep.LEAVE
        if self._shared:
            moved = visit.cookie_stale and refreshable
            return CookieStep.SET if moved and plan.cookie is CookieStep.LEAVE else plan.cookie
        # The cookie is where the data is.
        if plan.cookie is CookieStep.LEAVE and (refreshable or plan.store is not StoreStep.TOUCH):
            return CookieStep.SET
        return plan.cookie

    def _carry_out(self, visit: Visit, step: StoreStep, now: float) -> bool:
        """Do the store step. False if another request ended the session meanwhile."""
        try:
            done = self._do(visit, step, now)
        except CorruptField:
            self.corrupted(visit)
            return False
        if not done and step is not StoreStep.TOUCH:
            handle = None if visit.stored is None else visit.stored.key
            self._emit("write_after_end", visit, handle)
        return done

    def _do(self, visit: Visit, step: StoreStep, now: float) -> bool:
        match step:
            case StoreStep.UPDATE | StoreStep.TOUCH:
                return self._update(visit, now)
            case StoreStep.INSERT:
                return self._insert(visit, now)
            case StoreStep.REPLACE:
                return self._replace(visit, now)
            case StoreStep.ROTATE:
                return self._rotate(visit, now)
            case StoreStep.DELETE_EMPTIED:
                return self._delete_emptied(visit, now)
            case _:
                return self._end_old(visit, now)

    def _insert(self, visit: Visit, now: float) -> bool:
        fields, delete = visit.pending
        self._check_size(visit, {}, fields, delete)
        for _ in range(ATTEMPTS):
            identity = self.identify(visit)
            generation = self._list(visit, identity)
            notes = self._new_notes(visit, visit.notes, generation, now)
            record = self._record(visit, fields, notes, now)
            if visit.store.insert(identity.key, record):
                break
            # An ID that exists is somebody's: never overwritten, never joined (ASVS 7.2.3).
            if visit.owner is not None:
                visit.store.remove_owned(visit.owner, [identity.key])
            visit.identity = None
        else:
            raise StoreError("no unused session ID was found", operation="insert")
        if not self._confirm(visit, identity, generation):
            return False
        self._settle(visit, identity, record, notes)
        self._emit("created", visit)
        return self._make_room(visit, now)

    def _replace(self, visit: Visit, now: float, *, rotated: bool = False) -> bool:
        new = self.identify(visit)
        old = visit.stored
        generation = self._list(visit, new)
        if self._revoked_before(visit, generation, now):
            self._revoked(visit, new, visit.stored)
            return False
        moved = self._move(visit, new, generation, now, rotated=rotated)
        if moved is None:
            if visit.owner is not None:
                visit.store.remove_owned(visit.owner, [new.key])
            return visit.login and self._insert_lost_login(visit, now)
        if not self._confirm(visit, new, generation):
            return False
        before = visit.record
        self._settle(visit, new, *moved)
        self._emit("rotated" if rotated else "regenerated", visit)
        if before is not None and before.owner and self._unlists_at_once(visit, before, rotated):
            self._unlist(visit, before.owner, [old.key] if old else [])
        return self._make_room(visit, now)

    def _revoked_before(self, visit: Visit, generation: int, now: float) -> bool:
        # A generation that is ahead of what was loaded may also mean that this very session was
        # spared by revoke_all(except_=…); the fresh notes tell.
        if visit.joins or generation <= visit.notes.generation:
            return False
        found = self._reread(visit, now)
        return found is None or generation > found.notes.generation

    def _unlists_at_once(self, visit: Visit, before: Record, rotated: bool) -> bool:
        # A mere regenerate leaves the old entry to whoever lists next, which saves a round trip.
        # Rotations would pile up, and an entry without a record would hold a place.
        refusing = self._settings.refuse_when_full and self._settings.max_per_owner is not None
        return rotated or refusing or before.owner != visit.owner

    def _move(
        self,
        visit: Visit,
        new: Identity,
        generation: int,
        now: float,
        *,
        rotated: bool,
    ) -> tuple[Record, Notes] | None:
        """Put the session under ``new``; None if another request ended it, or rotated it first."""
        set_, delete = visit.pending
        old = visit.stored
        for attempt in range(ATTEMPTS):
            found = self._base(visit, now, fresh=attempt > 0)
            if found is None or (rotated and found.identity is not old):
                return None
            kept = {
                name: raw
                for name, raw in found.record.fields.items()
                if name not in delete and (visit.keep is None or name in visit.keep)
            }
            notes = self._new_notes(visit, found.notes, generation, now)
            record = self._record(visit, kept | set_, notes, now)
            self._check_size(visit, record.fields, {}, frozenset())
            written = visit.store.replace(
                found.identity.key, new.key, record, if_version=found.record.version
            )
            if written is UpdateResult.UPDATED:
                return record, notes
            _back_off(attempt)
        raise SessionConflict(
            f"other requests changed this session {ATTEMPTS} times while it got a new ID"
        )

    def _insert_lost_login(self, visit: Visit, now: float) -> bool:
        visit.notes = visit.notes._replace(created_at=now)
        visit.identity = None
        return self._insert(visit, now)

    def _rotate(self, visit: Visit, now: float) -> bool:
        rotation, old = self._settings.rotation, visit.stored
        if rotation is None or old is None:  # pragma: no cover # for types: not what is planned
            return self._update(visit, now)
        new, forward = rotation.start(old, now)
        key = forward_key(old)
        ends_at = lifecycle.ends_at(visit.notes, self._settings.limits.absolute)
        entry = forward_record(forward, now, ends_at)
        if not visit.store.insert(key, entry) and not self._take_forward(
            visit, old, key, entry, now
        ):
            # Another request is moving the session; what this one has to write goes along.
            return self._update(visit, now)
        visit.identity = new
        if self._replace(visit, now, rotated=True):
            return True
        if visit.stored is not old:
            visit.identity = visit.stored
            return self._update(visit, now)
        visit.store.delete(key)
        return False

    def _take_forward(
        self, visit: Visit, old: Identity, key: str, entry: Record, now: float
    ) -> bool:
        """Take over a forward whose maker died before it moved the session."""
        present = visit.store.load(key)
        forward = None if present is None else read_forward(present)
        if present is None or (forward is not None and now < forward.until + ABANDONED):
            return False
        if visit.store.load(old.key) is None:
            return False  # it did move, and this is the tombstone
        changes = Changes(notes=entry.notes, used_at=now, expires_at=entry.expires_at)
        written = visit.store.update(key, changes, if_version=present.version)
        return written is UpdateResult.UPDATED

    def _delete_emptied(self, visit: Visit, now: float) -> bool:
        stored, record = visit.stored, visit.record
        if stored is None or record is None:  # pragma: no cover # for types: as above
            return False
        if visit.store.delete(stored.key, if_version=record.version):
            self._emit("destroyed", visit, stored.key, record.owner, detail="emptied")
            self._start_afresh(visit, now)
            return True
        return self._update(visit, now)

    def _end_old(self, visit: Visit, now: float) -> bool:
        stored, record = visit.stored, visit.record
        if stored is None:  # pragma: no cover # for types: as above
            return False
        owner = None if record is None else record.owner
        ended = self._end(visit, stored, owner)
        if ended:
            self._emit("destroyed", visit, stored.key, owner, detail="emptied")
            self._start_afresh(visit, now)
        return ended

    def _update(self, visit: Visit, now: float) -> bool:
        set_, delete = visit.pending
        stored, record = visit.stored, visit.record
        if set_ and record is not None:
            self._check_size(visit, record.fields, set_, delete)
        if stored is not None and now < visit.deadline and not visit.changed_notes:
            deadline = self._next_deadline(visit.notes, now)
            changes = Changes(set_, delete, None, now, deadline)
            if visit.store.update(stored.key, changes) is UpdateResult.UPDATED:
                self._note_written(visit, set_, delete, visit.notes, now, deadline)
                return True
        return self._compare_and_update(visit, now)

    def _compare_and_update(self, visit: Visit, now: float) -> bool:
        # Notes are one value, so a change of them is put on the freshest ones; a deadline that
        # has passed must be seen to have been renewed; and a session that moved is followed.
        set_, delete = visit.pending
        tried = visit.changed_notes and now < visit.deadline
        for attempt in range(ATTEMPTS):
            found = self._base(visit, now, fresh=attempt > 0 or not tried)
            if found is None:
                return False
            notes = self._changed_notes(visit, found.notes)
            raw = dump_notes(notes) if visit.changed_notes else None
            deadline = self._next_deadline(notes, now)
            written = visit.store.update(
                found.identity.key,
                Changes(set_, delete, raw, now, deadline),
                if_version=found.record.version,
            )
            if written is UpdateResult.UPDATED:
                visit.record = found.record
                self._note_written(visit, set_, delete, notes, now, deadline)
                return True
            _back_off(attempt)
        raise SessionConflict(f"other requests changed this session {ATTEMPTS} times meanwhile")

    # Helpers of committing

    def _base(self, visit: Visit, now: float, *, fresh: bool) -> Found | None:
        """The record to build on: as it was loaded, or read again."""
        if not fresh and visit.stored and visit.record and now < visit.deadline:
            notes = load_notes(visit.record.notes)
            return Found(visit.stored, visit.record, notes, visit.deadline, moved=False)
        return self._reread(visit, now)

    def _reread(self, visit: Visit, now: float) -> Found | None:
        """The session as it is now, wherever it has moved since this request loaded it."""
        identity = stored = visit.stored
        record = None if identity is None else visit.store.load(identity.key)
        for _ in range(MAX_MOVES):
            if identity is None or record is not None:
                break
            identity = self._successor(visit, identity)
            record = None if identity is None else visit.store.load(identity.key)
        found = None
        if identity is not None and record is not None:
            found = self._live(visit, identity, record, now)
        if found is None:
            return None
        # Whether it has to move again, and whether it was revoked, is told by the fresh notes.
        visit.notes = visit.notes._replace(
            issued_at=found.notes.issued_at, generation=found.notes.generation
        )
        if identity is not stored:
            if visit.identity is stored:
                visit.identity = identity
            visit.stored = identity
            visit.cookie_stale = True
        return found

    def _changed_notes(self, visit: Visit, notes: Notes) -> Notes:
        changed = notes._replace(**visit.note_changes) if visit.note_changes else notes
        if (visit.label or visit.notes.label) and visit.label != visit.notes.label:
            changed = changed._replace(label=dict(visit.label))
        return changed

    def _new_notes(self, visit: Visit, notes: Notes, generation: int, now: float) -> Notes:
        """The notes of a record under a new ID."""
        return self._changed_notes(visit, notes)._replace(
            issued_at=now, secure=visit.secure, generation=generation
        )

    def _record(self, visit: Visit, fields: dict[str, bytes], notes: Notes, now: float) -> Record:
        deadline = self._next_deadline(notes, now)
        return Record(fields, dump_notes(notes), now, deadline, 1, visit.owner)

    def _settle(self, visit: Visit, identity: Identity, record: Record, notes: Notes) -> None:
        """From now on, this is how the session is stored."""
        visit.origin = Origin.SAVED
        visit.stored = visit.identity = identity
        visit.record = record
        visit.notes = notes
        visit.note_changes = NO_CHANGES
        visit.label = dict(notes.label)
        visit.deadline = record.expires_at
        visit.new_id = visit.login = visit.touch = visit.gone = False
        visit.keep = visit.place = None
        if not visit.final:
            visit.fields.rebase(record.fields)

    def _note_written(
        self,
        visit: Visit,
        set_: dict[str, bytes],
        delete: frozenset[str],
        notes: Notes,
        now: float,
        deadline: float,
    ) -> None:
        visit.notes = notes
        visit.deadline = deadline
        if notes.persistent or not self._shared:
            visit.cookie_stale = True
        if visit.final or visit.record is None:
            return
        fields = _merged(visit.record.fields, set_, delete)
        visit.fields.rebase(fields)
        visit.record = replace(
            visit.record,
            fields=fields,
            notes=dump_notes(notes),
            used_at=now,
            expires_at=deadline,
            version=visit.record.version + 1,
        )
        visit.label = dict(notes.label)
        visit.note_changes = NO_CHANGES
        visit.touch = False

    def _list(self, visit: Visit, identity: Identity) -> int:
        """Enter the coming record in its owner's index; returns the owner's generation."""
        if visit.owner is None or not self._shared:
            return 0
        if visit.place is not None and visit.place[0] == identity.key:
            return visit.place[1]
        ends_at = lifecycle.ends_at(visit.notes, self._settings.limits.absolute)
        return visit.store.add_owned(visit.owner, identity.key, ends_at)

    def _confirm(self, visit: Visit, identity: Identity, generation: int) -> bool:
        """Whether the owner's sessions weren't revoked while this record was written."""
        if visit.owner is None or not self._shared:
            return True
        if visit.store.generation(visit.owner) <= generation:
            return True
        self._revoked(visit, identity)
        return False

    def _revoked(self, visit: Visit, *identities: Identity | None) -> None:
        keys = [identity.key for identity in identities if identity is not None]
        for key in keys:
            visit.store.delete(key)
        if visit.owner is not None:  # pragma: no branch # for types: what is revoked has an owner
            self._unlist(visit, visit.owner, keys)
        self._emit("revoked", visit, keys[0], visit.owner, detail="while it was being written")

    def _make_room(self, visit: Visit, now: float) -> bool:
        """After a login: end the least recently used sessions over the limit.

        Each of parallel logins keeps the same ones of those that it sees, so that together they
        end no more than must go. False if this very session is among those that went.
        """
        limit, owner = self._settings.max_per_owner, visit.owner
        joined, visit.joins = visit.joins, False
        if limit is None or owner is None or not joined or self._settings.refuse_when_full:
            return True
        live = owned(visit.store, owner, self._settings.limits, now).live
        live.sort(key=lambda session: (session.record.used_at, session.key), reverse=True)
        over = [session.key for session in live[limit:]]
        for key in over:
            visit.store.delete(key)
            self._emit("revoked", visit, key, owner, detail="max_per_owner")
        if over:
            self._unlist(visit, owner, over)
        return visit.stored is None or visit.stored.key not in over

    def _forget_place(self, visit: Visit) -> None:
        try:
            self._give_up_place(visit)
        except StoreError as error:
            self._emit("store_error", visit, detail=f"remove_owned: {error}")

    def _check_size(
        self,
        visit: Visit,
        base: Mapping[str, bytes],
        set_: dict[str, bytes],
        delete: frozenset[str],
    ) -> None:
        """Refuse a session that has too many bytes with these changes on top."""
        limit = self._settings.max_bytes
        if _most_bytes(base) + _most_bytes(set_) > limit:
            fields = _merged(base, set_, delete)
            if _size(fields) > limit:
                self._too_large(visit, fields)

    def _too_large(self, visit: Visit, fields: Mapping[str, bytes]) -> None:
        biggest = sorted(fields, key=lambda name: len(fields[name]), reverse=True)[:3]
        sizes = ", ".join(f"{name!r} with {len(fields[name])} bytes" for name in biggest)
        message = (
            f"the session has {_size(fields)} bytes and max_bytes is {self._settings.max_bytes};"
            f" its biggest fields are {sizes}; keep such data elsewhere and its key here, or"
            " raise max_bytes"
        )
        self._emit("too_large", visit, detail=f"{_size(fields)} bytes")
        raise SessionTooLarge(message)

    def _sharing(self, visit: Visit) -> Store:
        if not self._shared:
            raise UnsupportedByStore(
                "the session's data lives with the client, so the server can't count, order or"
                " end what other requests do; use a store on the server for transaction, take,"
                " increment and owners"
            )
        return visit.store

    def _token(self, visit: Visit) -> str:
        identity = self.identify(visit)
        if self._settings.seal is not None:
            record = visit.store.load(identity.key)
            if record is not None:  # pragma: no branch # for types: it was just written there
                return self._settings.seal.seal(identity.id, record, visit.transport.purpose)
        return visit.transport.signer.sign(identity.id)

    def _max_age(self, visit: Visit, now: float) -> int | None:
        return max(0, int(visit.deadline - now)) if visit.notes.persistent else None

    def _next_deadline(self, notes: Notes, now: float) -> float:
        limits = self._settings.limits
        return lifecycle.next_deadline(notes, idle=limits.idle, absolute=limits.absolute, now=now)

    def _explain_insecure(self, visit: Visit, now: float, *, failed: bool) -> None:
        wanted = self._plan(visit, now, failed=failed, deliverable=True)
        if wanted.cookie is CookieStep.LEAVE:
            return
        self._emit("insecure", visit, detail="a Secure cookie can't be set over http")
        proto = visit.forwarded_proto
        seen = "absent" if proto is None else repr(printable(str(proto), 40))
        self._events.explain(
            "insecure-cookie",
            f"The cookie {visit.transport.name!r} has secure=True, but this request is not secure"
            f" (wsgi.url_scheme is {visit.scheme!r}, X-Forwarded-Proto is {seen}), so it was"
            " neither set nor expired, and no session is kept. Behind a proxy"
            " that speaks TLS, set trusted_proxies to the number of proxies (see ProxyProbe);"
            " for development over http, use Cookie(secure='auto').",
        )

    def _emit(
        self,
        kind: str,
        visit: Visit,
        handle: str | None = None,
        owner: str | None = None,
        *,
        detail: str = "",
    ) -> None:
        if handle is None and visit.identity is not None:
            handle = visit.identity.key
        self._events.emit(
            kind,
            handle=handle,
            owner=owner if owner is not None else visit.owner,
            client_ip=visit.client_ip,
            detail=detail,
        )


def _merged(
    fields: Mapping[str, bytes], set_: dict[str, bytes], delete: frozenset[str]
) -> Mapping[str, bytes]:
    """The fields with a request's changes on top."""
    if not set_ and not delete:
        return fields
    return {name: raw for name, raw in fields.items() if name not in delete} | set_


def _most_bytes(fields: Mapping[str, bytes]) -> int:
    """A bound of their size that is found fast: a character has four bytes at most."""
    return 4 * sum(map(len, fields)) + sum(map(len, fields.values()))


def _size(fields: Mapping[str, bytes]) -> int:
    return sum(len(name.encode()) + len(raw) for name, raw in fields.items())


def _back_off(attempt: int) -> None:
    # Losers of a compare-and-set that come back at once lose again to each other.
    if attempt > 1:
        time.sleep(random.random() * min(0.001 * attempt, 0.02))  # noqa: S311 # no secret
