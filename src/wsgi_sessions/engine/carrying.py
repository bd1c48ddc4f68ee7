"""Carrying: from another system's cookie to the one session here that it leads to, or none.

An old session comes over when its browser first comes without a live session of ours. No
transaction spans the two stores, or two records of ours, so it depends on the order of the steps:

1. The *tombstone* is read. Its key follows from the old ID alone. It says which session the old
   cookie leads to: key, and the hash of the ID that the session was given by the move. If there is
   one, the old session is never read again, and the cookie leads to that session, or, when
   that has ended or has another ID by now, nowhere.
2. Otherwise the source is asked. A session that can be kept is entered in its owner's list, as at a
   login, and *inserted*. Its ID comes in two steps: from the old ID and the newest secret follows a
   first ID, always the same, so that all who carry the same session over meet at one key; from that
   follows the present ID by the same step as in a rotation, with a nonce that is noted in the
   record. So whoever has the old cookie and the secret can find the present ID, which is another
   one in each attempt. Whoever can't insert takes the record that is there.
3. The owner's list is read again: a session that was revoked meanwhile ends at once.
4. The tombstone is inserted, with what was found or made in 2. Only then the session is used.

Racing first requests insert one record and one tombstone; all read the same ID from them. A crash
or an outage between 2 and 4 leaves a session that nobody has seen yet; the next request goes on
from there. A request that is so slow that the session was carried over, used and signed out between
its steps 1 and 2 inserts it anew, under another ID; in step 4 it finds a tombstone that names
the former one, and takes its own away. Should it die before that, what it leaves leads nowhere:
neither the old cookie nor the token that was signed out fits. Nor do late writes of requests that
have loaded the former one get into it, as each attempt has an epoch by chance. Signing out, losing
the record in any other way, ``login``, ``regenerate`` and a rotation need do nothing here: the
tombstone stays, and what it names is gone. `revoke_all` ends a session that is being carried over
as it ends a login under way. Old sessions that weren't carried over yet are out of its reach.

A tombstone lasts as long as the old cookie may lead to anything: as long as its source is asked
(``until``), and in any case as long as the old session could live. Where there is no ``until``, it
is as long as browsers keep a cookie, because the old app may still be prolonging the session.
"""

from __future__ import annotations

import hashlib
import secrets
import struct
from collections.abc import Iterator
from typing import NamedTuple

from ..carry_over.source import Found, LeftBehind, Source
from ..cookie import MAX_AGE, find_candidates
from ..crypto.session_id import SessionID
from ..data.fields import Fields
from ..data.notes import CorruptNotes, Former, Notes, dump_notes, notes_of
from ..errors import StoreError
from ..record import LIST_OWNER, NO_FIELDS, Record
from .changes import too_large
from .loading import NOTHING, Loader, Presented
from .owners import OwnerList, OwnerLists
from .reports import Reports
from .room import keep_to_limit
from .settings import CarryOver, EngineSettings
from .state import Request, Stored, label_of

_TOMBSTONE = struct.Struct(">B32s32s")
_FORMAT = 1
_EPOCH_BITS = 30
"""Leaves room for as many changes of privilege in a column of 32 bits."""


class Tombstone(NamedTuple):
    """What an old cookie leads to."""

    key: str
    id_hash: bytes
    """Of the ID that the session has as long as the cookie leads there."""


NOWHERE = Tombstone("0" * 64, bytes(32))


class Old(NamedTuple):
    """An old cookie that came with a request."""

    source: Source
    value: str
    old_id: bytes
    ids: tuple[SessionID, ...]
    """The first IDs that follow from it, one for each secret, newest first."""
    request: Request
    now: float
    """UNIX seconds."""

    @property
    def tombstone_key(self) -> str:
        """Where its tombstone is. No session's selector hashes to it, and it shows nothing."""
        text = b"carried over:" + self.source.name.encode("utf-8") + b"\0" + self.old_id
        return hashlib.sha256(text).hexdigest()

    def __repr__(self) -> str:
        return f"<Old cookie of {self.source.name}>"


class Carrier:
    """Carries sessions over.

    Args:
        settings: the engine's settings.
        carry_over: the sources, and how IDs follow from theirs.
        loader: judges what an old cookie leads to.
        owners: the lists of owners.
        reports: where events go.
    """

    def __init__(
        self,
        settings: EngineSettings,
        carry_over: CarryOver,
        loader: Loader,
        owners: OwnerLists,
        reports: Reports,
    ) -> None:
        self._settings = settings
        self._store = settings.store
        self._carry_over = carry_over
        self._loader = loader
        self._owners = owners
        self._reports = reports
        now = settings.clock()
        over = [source.name for source in carry_over.sources if source.is_over(now)]
        if over:
            reports.sources_over(over)

    def find(self, request: Request, now: float) -> Presented:
        """The live session that an old cookie of this request leads to.

        Raises:
            StoreError: our store or the old one can't answer.
        """
        if not request.transport.deliverable(secure=request.secure):
            # A session whose token can't be handed out isn't begun on such a request either.
            if any(True for _ in self._presented(request, now)):
                self._reports.insecure_cookie(request)
            return NOTHING
        for old in self._presented(request, now):
            stored = self._led_to(old)
            if stored is not None:
                self._forget(old)
                return Presented(stored, carried_from=old.source)
        return NOTHING

    def bury(self, request: Request, now: float) -> list[Stored]:
        """Make sure that no old cookie of this request leads to an old session any more.

        Returns:
            the live sessions here that they lead to, and that are to be ended.

        Raises:
            StoreError: our store or the old one can't answer.
        """
        others: list[Stored] = []
        for old in self._presented(request, now):
            stone = self._tombstone(old)
            if stone is None:
                # What isn't an old session needs no tombstone; anyone could have us fill the store.
                found = old.source.find(old.value, now)
                if found is None or (isinstance(found, LeftBehind) and not found.genuine):
                    continue
                self._insert_tombstone(old, NOWHERE, _end_of(found))
                self._forget(old)
                stone = self._tombstone(old)
            stored = None if stone is None else self._follow(old, stone)
            if stored is not None:
                others.append(stored)
        return others

    def reads(self, cookie: str, now: float) -> bool:
        """Whether a source is asked about cookies of this name."""
        sources = self._carry_over.sources
        return any(source.cookie == cookie and not source.is_over(now) for source in sources)

    def _presented(self, request: Request, now: float) -> Iterator[Old]:
        for source in self._carry_over.sources:
            if source.cookie not in request.old_cookies or source.is_over(now):
                continue
            for value in find_candidates(request.old_cookies, source.cookie).values:
                old_id = source.identify(value)
                if old_id is not None:
                    ids = self._carry_over.derivation.ids_of(source.name, old_id)
                    yield Old(source, value, old_id, ids, request, now)
                elif not self._loader.is_genuine(value, request.transport):
                    self._reports.old_cookie_unverified(source.cookie, type(source).__name__)

    def _led_to(self, old: Old) -> Stored | None:
        stone = self._tombstone(old) or self._carried(old)
        return None if stone is None else self._follow(old, stone)

    def _forget(self, old: Old) -> None:
        if not old.source.delete_old:
            return
        try:
            old.source.delete(old.old_id)
        except StoreError as error:
            # It leads nowhere any more in this app.
            detail = f"delete in {old.source.name}: {error}"
            self._reports.emit("store_error", old.request, detail=detail)

    # What is here already

    def _tombstone(self, old: Old) -> Tombstone | None:
        record = self._store.load(old.tombstone_key)
        if record is None:
            return None
        try:
            fmt, key, id_hash = _TOMBSTONE.unpack(record.notes)
        except struct.error:
            return NOWHERE
        return Tombstone(key.hex(), id_hash) if fmt == _FORMAT else NOWHERE

    def _follow(self, old: Old, stone: Tombstone) -> Stored | None:
        """The session that a tombstone names, if it lives and has the ID that is named."""
        for shown in old.ids:
            if shown.key == stone.key:
                known = self._at(shown)
                if known is None or known.notes.id_hash != stone.id_hash:
                    return None
                return self._loader.judge(known.id, known.record, old.request, old.now)
        return None

    def _at(self, shown: SessionID) -> Stored | None:
        """The session that was carried over to this ID's key, if it has the ID of the move."""
        record = self._store.load(shown.key)
        if record is None:
            return None
        try:
            notes = notes_of(record)
        except CorruptNotes:
            return None
        former = notes.former
        if former is None or not shown.matches(former.hash):
            return None
        present = self._settings.rotation.present_id(shown, former.nonce, notes.id_hash)
        return None if present is None else Stored(present, record, notes, record.expires_at)

    # Carrying over

    def _carried(self, old: Old) -> Tombstone | None:
        """Carry the session over, or go on where another request has stopped."""
        found = old.source.find(old.value, old.now)
        if found is None:
            # Another request may have deleted the old record meanwhile.
            return self._tombstone(old) if old.source.delete_old else None
        stored = found if isinstance(found, LeftBehind) else self._new(old, found)
        if isinstance(stored, LeftBehind):
            detail = f"{old.source.name}: {stored.reason}"
            self._reports.emit("left_behind", old.request, detail=detail)
            return None
        owner = stored.record.owner
        if owner is not None:
            until, epoch = stored.notes.listed_until, stored.record.epoch
            self._owners.enter(owner, stored.id.key, until=until, epoch=epoch)
        inserted = self._store.insert(stored.id.key, stored.record)
        if not inserted:
            there = self._at(old.ids[0])
            if there is None:
                return self._tombstone(old)
            stored = there
        return self._sealed(old, stored, _end_of(found), inserted=inserted)

    def _new(self, old: Old, found: Found) -> Stored | LeftBehind:
        """What the old session becomes. Nothing is written."""
        encoded = self._encoded(found)
        if isinstance(encoded, LeftBehind):
            return encoded
        settings, now, request = self._settings, old.now, old.request
        successor = settings.rotation.successor_of(old.ids[0])
        began = _first_known(found.created_at, found.used_at, now)
        notes = Notes(
            began,
            began,
            now,
            id_hash=successor.id.hash,
            secure=request.secure,
            persistent=(
                request.transport.persistent if found.persistent is None else found.persistent
            ),
            # No grace: it isn't an ID that a client could show.
            former=Former(old.ids[0].hash, successor.nonce, now),
        )
        if found.owner is not None:
            label = label_of(request, settings.label)
            notes = notes._replace(listed_until=self._owners.until(notes.started_at), label=label)
        deadline = settings.next_deadline(notes, now)
        if found.expires_at is not None:
            deadline = min(deadline, found.expires_at)
        if deadline <= now:
            return LeftBehind("it is older than lifetime allows here")
        # The move itself isn't use. The next request is, and has to be noted, however near the old
        # deadline is.
        interval = min(settings.touch_interval, settings.limits.idle / 10)
        used_at = now - max(0.0, interval - 1)
        epoch = secrets.randbits(_EPOCH_BITS)
        record = Record(encoded, dump_notes(notes), used_at, deadline, 1, epoch, found.owner)
        return Stored(successor.id, record, notes, deadline)

    def _encoded(self, found: Found) -> dict[str, bytes] | LeftBehind:
        fields = Fields(NO_FIELDS, self._settings.codec)
        for name, value in found.fields.items():
            try:
                fields[name] = value
            except TypeError:
                # Its message may quote the value, by a codec of the app's.
                return LeftBehind(f"the app's codec can't keep the field {name[:60]!r}")
        encoded = fields.encoded()
        limit = self._settings.max_bytes
        if too_large(None, encoded, limit) is not None:
            return LeftBehind(f"it has more than max_bytes, which is {limit}")
        return encoded

    def _sealed(
        self, old: Old, stored: Stored, expires_at: float | None, *, inserted: bool
    ) -> Tombstone | None:
        """Steps 3 and 4: what the old cookie leads to from here on."""
        owner, key = stored.record.owner, stored.id.key
        listed = None if owner is None else self._owners.confirmed(owner, key)
        if owner is not None and listed is None:
            self._insert_tombstone(old, NOWHERE, expires_at)
            self._take_away(old, stored)
            detail = "while it was being carried over"
            self._reports.emit("revoked", old.request, stored, detail=detail)
            return None
        stone = Tombstone(key, stored.notes.id_hash)
        if self._insert_tombstone(old, stone, expires_at):
            self._reports.emit("carried_over", old.request, stored, detail=old.source.name)
            if owner is not None and listed is not None:
                self._keep_to_limit(old, owner, listed, stored)
            return stone
        standing = self._tombstone(old)
        if inserted and standing != stone:
            self._take_away(old, stored)
        return standing

    def _insert_tombstone(self, old: Old, stone: Tombstone, expires_at: float | None) -> bool:
        until = old.source.until
        ends = max(expires_at or 0.0, old.now + MAX_AGE if until is None else until)
        notes = _TOMBSTONE.pack(_FORMAT, bytes.fromhex(stone.key), stone.id_hash)
        # It isn't a session, so like an owner's list it doesn't count towards a limit.
        record = Record({}, notes, old.now, ends, owner=LIST_OWNER)
        return self._store.insert(old.tombstone_key, record)

    def _take_away(self, old: Old, stored: Stored) -> None:
        """Delete a session whose ID was never handed out."""
        self._store.delete(stored.id.key, if_version=stored.record.version)
        owner, key = stored.record.owner, stored.id.key
        if owner is None:
            return
        try:
            self._owners.take_out(owner, [key])
        except StoreError as error:
            # An entry too many is removed when the list is next read.
            self._reports.emit("store_error", old.request, stored, detail=f"take out: {error}")

    def _keep_to_limit(self, old: Old, owner: str, listed: OwnerList, stored: Stored) -> None:
        owners, settings, reports = self._owners, self._settings, self._reports
        if settings.refuse_when_full:
            return  # it can't be refused, and makes no other end
        try:
            key = stored.id.key
            if not keep_to_limit(owners, settings, reports, old.request, owner, listed, key):
                owners.delete_if_owned(key, owner)
        except StoreError as error:
            # As after a login, the session remains.
            self._reports.emit("store_error", old.request, stored, detail=f"max_per_owner: {error}")


def _end_of(found: Found | LeftBehind) -> float | None:
    return found.expires_at if isinstance(found, Found) else None


def _first_known(created_at: float | None, used_at: float | None, now: float) -> float:
    """From when the absolute limit counts; a time in the future is another clock's."""
    began = now
    if created_at is not None:
        began = created_at
    elif used_at is not None:
        began = used_at
    return min(max(began, 0.0), now)
