"""The list of an owner's sessions: a record like any other, so every store has it.

What can happen at the same time, and why it comes out right. The list holds one field per session:
its key; when it was entered, until when it can live, under which epoch, and whether it is being
ended. A login *enters* its session first, then writes the session's record, then reads the list. So
a session of an owner is never unlisted: the entry is there before the record. `revoke_all` reads
the list, *marks* the entries that it found, deletes their records, and removes the marked entries.
A login that races with it is seen in one of two ways. Either it entered before the list was
read: then its entry is marked, or out already, when it reads the list after writing its record, and
it ends itself; if it had written before its record was looked at, it was deleted. Or it entered
later: then it happened after. If it entered between the marking and the taking out, its entry is no
longer marked, and stays.

Entering writes one field, and needs no knowledge of the others but of when the list ends: that must
not be before any of its sessions can. So the list's epoch is the day of its end, and whoever enters
a session names the day that it knows. Where the list ends on another day by now, as apps with other
limits use it, too, or is another list, nothing is written, and it is read. Whatever removes entries
goes by the list's version, so that an entry made meanwhile is never lost, and looks once more
whether the record has come after all. A new list begins with a random version, so that it is never
taken for an earlier one. A list may hold too much, after a crash, but never too little. An entry is
removed only if the store itself says that there is no record: a record that can't be read is not
absent.

Keys of encryption come and go. A login that finds any part of its list sealed under another key
than the newest seals the list anew. A list that can't be read any more still names the keys of its
sessions, and when they can live until stands in their records, whether those can be read or not. So
it is as good as none once all of them are over, though it ends later, or never.
"""

from __future__ import annotations

import enum
import math
import random
import secrets
import struct
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

from ..data.codec import CorruptField
from ..data.notes import CorruptNotes, Notes, notes_of
from ..errors import StoreError, TooManySessions
from ..events import logger
from ..record import LIST_OWNER, Changes, Record, UpdateResult, is_key, is_outdated, list_key
from ..stores.base import Store
from .backoff import ATTEMPTS, back_off
from .decisions import SKEW, deadline_of

HEALING_AGE = 60.0
"""Seconds for which an entry without a record counts as a login under way."""

PLACE_SECONDS = HEALING_AGE / 2
"""For how long a login may rely on its entry, as clocks differ."""
_ENTRY = struct.Struct(">BddQ?")
_FORMAT = 1
_VERSION_BITS = 30
"""Leaves room for as many changes in a column of 32 bits."""
_KNOWN_LISTS = 4096
"""How many lists a process remembers that it could read, which saves a round trip."""

_DAY = 86400.0
_NEVER = 10**9
"""A day that is as good as none."""
_TIDY_EVERY = 16
_TIDY_LOOKS = 32
"""A login whose list has a multiple of the first number of entries looks at the second number of
them. Twice as many, so that even with half of them alive as many go as come."""

_LOOKS = 3
"""How often a record that is there but can't be read is looked at: it may have come or gone between
two calls."""


class _Unreadable(enum.Enum):
    UNREADABLE = "unreadable"


UNREADABLE: Final[Literal[_Unreadable.UNREADABLE]] = _Unreadable.UNREADABLE
"""There is a record, and this process can't read it."""


@dataclass(slots=True)
class Limits:
    """The middleware's lifetime in seconds; ``inf`` where there is no such limit.

    One object, shared by all who use it: a Flask app may change its limits at any time.
    """

    idle: float = math.inf
    absolute: float = math.inf


class LiveSession(NamedTuple):
    """A live session."""

    key: str
    record: Record
    notes: Notes
    deadline: float


class Entry(NamedTuple):
    """One session in its owner's list."""

    entered_at: float
    """UNIX seconds."""
    until: float
    """When the session ends at the latest. UNIX seconds; ``inf``: there is no such limit."""
    epoch: int
    """The epoch of the record that it was entered for."""
    ending: bool = False
    """Whether the session is being ended."""


class Place(NamedTuple):
    """An entry that holds a place for a login whose record isn't written yet."""

    owner: str
    """In whose list."""
    entry: Entry


class UnreadableList(StoreError):
    """An owner's list is damaged, or encrypted under a key that isn't here."""


class NotEntered(StoreError):
    """A session couldn't be entered in its owner's list, so its record was left as it is."""


class End(NamedTuple):
    """When a list may go."""

    day: int
    """The day at whose end, as whoever entered a session names it: its record's epoch."""
    at: float
    """When its record expires. UNIX seconds. As versions before the present one name no day, it may
    be another time."""


class OwnerList(NamedTuple):
    """An owner's list as it was read."""

    version: int
    entries: Mapping[str, Entry]
    end: End
    is_outdated: bool = False
    """Whether any part of it was sealed under an older key of encryption."""


class Listing(NamedTuple):
    """A list compared with the records."""

    live: list[LiveSession]
    """The owner's live sessions."""
    pending: list[str]
    """Keys of young entries without a record of this owner: logins under way."""
    unreadable: list[str]
    """Keys of records that this process can't read."""
    stale: list[str]
    """Keys of entries that may be taken out."""
    over: dict[str, Record]
    """The records of those of them that are the owner's, and over or being ended."""


def _is_young(entry: Entry, now: float) -> bool:
    # Clocks differ a little from process to process; an entry from further ahead is a leftover of a
    # clock that was set back.
    return abs(now - entry.entered_at) < HEALING_AGE


class OwnerLists:
    """Reads and writes the lists of owners.

    Args:
        store: where records are.
        limits: the middleware's lifetime.
        clock: gives UNIX seconds.
    """

    def __init__(self, store: Store, limits: Limits, clock: Callable[[], float]) -> None:
        self._store = store
        self._limits = limits
        self._clock = clock
        self._known: dict[str, End] = {}
        """When lists end that could be read, as far as is known."""

    # Entering and taking out

    def until(self, started_at: float) -> float:
        """Until when an entry is needed for a session whose absolute limit counts from then.

        UNIX seconds.
        """
        return started_at + self._limits.absolute

    def enter(
        self, owner: str, key: str, *, until: float, epoch: int, ending: bool = False
    ) -> None:
        """Enter a session, before its record is written or its life is extended.

        Args:
            owner: whose list.
            key: which session.
            until: when it ends at the latest. UNIX seconds.
            epoch: of the record that it is entered for.
            ending: True: it is to be ended by whoever reads the list next.

        Raises:
            StoreError: the list can't be read or written.
        """
        at = list_key(owner)
        fields = {key: _dump(Entry(self._clock(), until, epoch, ending))}
        for attempt in range(ATTEMPTS):
            known = self._known.get(at)
            if known is None:
                entered = self._begin(at, fields, until)
            else:
                entered = self._write(at, fields, until, known=known)
            if entered:
                return
            # Nobody is signed in under a list that couldn't be read to sign them out again.
            present = self.read(owner)
            if present is None:
                self._clear_away(at)
            else:
                self._remember(at, present.end)
            back_off(attempt)
        raise StoreError("the owner's list could not be written", operation="update")

    def _write(
        self,
        at: str,
        fields: Mapping[str, bytes],
        until: float,
        *,
        known: End,
        version: int | None = None,
    ) -> bool:
        """Write an entry into a list that ends on this day, unless it doesn't."""
        day = max(_day_after(until), known.day, _last_day(known.at))
        # A server's own expiry counts from the last use that was noted. What has expired by this
        # clock may be used by another.
        used_at = min(self._clock(), known.at - 1)
        changes = Changes(set=fields, used_at=used_at, expires_at=_end_of(day), epoch=day)
        written = self._store.update(at, changes, if_epoch=known.day, if_version=version)
        if written is not UpdateResult.UPDATED:
            return False
        self._remember(at, End(day, _end_of(day)))
        return True

    def _begin(self, at: str, fields: Mapping[str, bytes], until: float) -> bool:
        """Begin a list with an entry, unless there is one."""
        day, now = _day_after(until), self._clock()
        version = 1 + secrets.randbits(_VERSION_BITS)
        new = Record(fields, b"", now, _end_of(day), version, day, LIST_OWNER)
        if not self._store.insert(at, new):
            return False
        self._remember(at, End(day, _end_of(day)))
        return True

    def _remember(self, at: str, end: End) -> None:
        if len(self._known) >= _KNOWN_LISTS:
            self._known.clear()
        self._known[at] = end

    def enter_if_free(
        self,
        owner: str,
        key: str,
        *,
        until: float,
        epoch: int,
        limit: int,
        leaving: Collection[str] = (),
    ) -> Place:
        """Enter a session if fewer than ``limit`` others hold a place.

        Args:
            owner: whose list.
            key: which session.
            until: when it ends at the latest. UNIX seconds.
            epoch: of the record that it is entered for.
            limit: how many sessions there may be.
            leaving: keys of sessions that are ended with this login, and take no place.

        Returns:
            the place that it holds now.

        Raises:
            TooManySessions: there are too many others.
            StoreError: the list can't be read or written.
        """
        at = list_key(owner)
        for attempt in range(ATTEMPTS):
            now = self._clock()
            entry = Entry(now, until, epoch)
            fields = {key: _dump(entry)}
            record = self._store.load(at)
            present = None if record is None else self._parsed(at, record)
            if present is None:
                if attempt and self.read(owner) is None:
                    # Where the insert failed there is a list by now, or one that can't be read.
                    self._clear_away(at)
                if self._begin(at, fields, until):
                    return Place(owner, entry)
            else:
                others = self._holders(owner, present, now, limit, {key, *leaving})
                if others >= limit:
                    raise TooManySessions(
                        f"the owner has {others} live sessions and max_per_owner is {limit}; end"
                        " one of them first (registry.sessions(owner), registry.revoke(handle))"
                    )
                known, version = present.end, present.version
                if self._write(at, fields, until, known=known, version=version):
                    return Place(owner, entry)
            back_off(attempt)
        raise StoreError("the owner's list could not be written", operation="update")

    def _holders(
        self, owner: str, present: OwnerList, now: float, limit: int, besides: Collection[str]
    ) -> int:
        """How many others hold a place; entries are only looked at if there may be too many."""
        at_most = len(present.entries.keys() - besides)
        if at_most < limit:
            return at_most
        listing = self.examine(owner, present, now)
        holders = {live.key for live in listing.live}
        holders.update(listing.pending, listing.unreadable)
        return len(holders.difference(besides))

    def take_out(
        self,
        owner: str,
        keys: Collection[str],
        *,
        unless: Callable[[str, Entry], bool] = lambda _, entry: False,
    ) -> None:
        """Take entries out; an empty list goes.

        Args:
            owner: whose list.
            keys: which entries; unknown ones are fine.
            unless: whether an entry, as it is now, has to stay.
        """
        self._take_out(list_key(owner), keys, unless)

    def take_out_seen(self, owner: str, seen: Mapping[str, Entry]) -> None:
        """Take out those of these entries that are still as they were seen.

        An entry that was made anew meanwhile is another login's.
        """
        self._take_out_seen(list_key(owner), seen)

    def _take_out_seen(self, at: str, seen: Mapping[str, Entry]) -> None:
        taken = self._take_out(at, seen, lambda key, entry: entry != seen[key])
        self._enter_latecomers(at, {key: seen[key] for key in taken})

    def _take_out(
        self, at: str, keys: Collection[str], unless: Callable[[str, Entry], bool]
    ) -> frozenset[str]:
        """Take entries out, by the list's version; returns which."""
        for attempt in range(ATTEMPTS):
            present = self._read(at)
            entries: Mapping[str, Entry] = {} if present is None else present.entries
            out = frozenset(key for key in keys if key in entries and not unless(key, entries[key]))
            if present is None or not out:
                return out
            if len(out) == len(entries):
                self._known.pop(at, None)
                if self._store.delete(at, if_version=present.version):
                    return out
            else:
                changes = Changes(delete=out)
                written = self._store.update(at, changes, if_version=present.version)
                if written is not UpdateResult.CONFLICT:
                    return out
            back_off(attempt)
        raise StoreError("the owner's list could not be written", operation="update")

    def mark(
        self, owner: str, entries: Mapping[str, Entry], *, if_version: int | None = None
    ) -> Mapping[str, Entry] | None:
        """Mark entries as being ended.

        Returns:
            the entries as they are now; None if the list has another version by now.
        """
        marked = {key: entry._replace(ending=True) for key, entry in entries.items()}
        changes = Changes(set={key: _dump(entry) for key, entry in marked.items()})
        written = self._store.update(list_key(owner), changes, if_version=if_version)
        return marked if written is UpdateResult.UPDATED else None

    # Reading

    def read(self, owner: str) -> OwnerList | None:
        """The owner's list; None if there is none.

        Raises:
            StoreError: it can't be read: it is damaged, or encrypted under a key that isn't here.
        """
        return self._read(list_key(owner))

    def _read(self, at: str) -> OwnerList | None:
        found = self.look(at)
        if found is not UNREADABLE:
            return None if found is None else self._parsed(at, found)
        if self._is_over(at, self._clock()):
            return None
        raise self._unreadable(at)

    def _parsed(self, at: str, record: Record) -> OwnerList | None:
        """The list in this record; None: it can't be read, and is over."""
        try:
            return _parse(record)
        except CorruptField:
            now = self._clock()
            if now < record.expires_at and self._may_name_a_live_one(record, now):
                raise self._unreadable(at) from None
            return None

    def _unreadable(self, at: str) -> UnreadableList:
        # Entering without reading it first, as in a list that is known, would make it young.
        self._known.pop(at, None)
        return UnreadableList(
            "an owner's list can't be read: it is damaged, or encrypted under a key that isn't"
            " among encryption_keys. While a session on it may live, its owner can't sign in. If a"
            " key was removed, add it again until the sessions from before are over; key of the"
            f" list: {at}",
            operation="load",
        )

    def _may_name_a_live_one(self, record: Record, now: float) -> bool:
        """Whether a session on this list, which can't be read, may live."""
        keys = [name for name in record.fields if is_key(name)]
        # One without keys is no list. And who entered a session a moment ago has yet to write it.
        if not keys or abs(now - record.used_at) < HEALING_AGE:
            return True
        return any(self.may_live(key, now - SKEW) for key in keys)

    def may_live(self, key: str, now: float) -> bool:
        """Whether there is a record that hasn't expired, whether it can be read or not."""
        record = self.look(key)
        if record is UNREADABLE:
            return not self._is_over(key, now)
        return record is not None and now < record.expires_at

    def _is_over(self, key: str, now: float) -> bool:
        """Whether a record that can't be read has expired.

        No record has the version that is asked for, so nothing is written. A store to which it is
        damaged may say GONE in any case, which means nothing.
        """
        long_ago, lately = (
            self._store.update(key, Changes(used_at=used_at), if_version=0)
            for used_at in (0.0, now)
        )
        return long_ago is UpdateResult.CONFLICT and lately is UpdateResult.GONE

    def _clear_away(self, at: str) -> None:
        """Delete a list that is over and can't be read, so that a new one can begin.

        Only one that the store can read as a record.
        """
        self._known.pop(at, None)
        record = self._store.load(at)
        if record is None or self._parsed(at, record) is not None:
            return
        # By its version: another login may have entered a session meanwhile, or begun a new list.
        if self._store.delete(at, if_version=record.version):
            logger.warning(
                "an owner's list that can't be read was removed: its sessions are over; key %s", at
            )

    def look(self, key: str) -> Record | Literal[_Unreadable.UNREADABLE] | None:
        """The record; None only where the store itself says that there is none."""
        for _ in range(_LOOKS):
            record = self._store.load(key)
            if record is not None:
                return record
            # Changes nothing, so it needs no key: it says whether there is a record at all.
            if self._store.update(key, Changes()) is not UpdateResult.UPDATED:
                return None
        return UNREADABLE

    def confirmed(self, owner: str, key: str) -> OwnerList | None:
        """The list, if it still has the session's entry; None if the login was revoked.

        It doesn't matter which request made the entry: one that came too late to write the session
        may have entered it once more.
        """
        present = self.read(owner)
        entry = None if present is None else present.entries.get(key)
        if present is None or entry is None or entry.ending:
            return None
        if present.is_outdated:
            # If another login is faster, that one or a later one does it.
            whole = Changes(
                set={key: _dump(each) for key, each in present.entries.items()},
                notes=b"",
                owner=LIST_OWNER,
            )
            self._store.update(list_key(owner), whole, if_version=present.version)
        return present

    def examine(self, owner: str, present: OwnerList, now: float) -> Listing:
        """Compare a list with the records. Changes nothing."""
        listing = Listing([], [], [], [], {})
        for key, entry in present.entries.items():
            record = self.look(key)
            young = _is_young(entry, now) and not entry.ending
            if record is UNREADABLE:
                listing.unreadable.append(key)
            elif record is None or record.owner != owner:
                (listing.pending if young else listing.stale).append(key)
            elif (live := live_session(key, record, self._limits, now)) and not entry.ending:
                listing.live.append(live)
            elif entry.ending or (now >= record.expires_at and is_readable(record)):
                listing.stale.append(key)
                listing.over[key] = record
            elif not is_readable(record):
                listing.unreadable.append(key)
            # Else it is over by the limits of this app; another one's may be longer.
        return listing

    def list_and_heal(self, owner: str, on_failure: Callable[[StoreError], object]) -> Listing:
        """The owner's sessions; takes out what crashes left, and finishes what was being ended.

        Args:
            owner: whose list.
            on_failure: told why that couldn't be done, on a store that can only be read. Then what
                is being ended lives on.

        Raises:
            StoreError: the list or a record can't be read.
        """
        present = self.read(owner)
        if present is None:
            return Listing([], [], [], [], {})
        now = self._clock()
        listing, ended = self.examine(owner, present, now), set[str]()
        try:
            self.heal(owner, present, listing, on_end=ended.add)
        except StoreError as error:
            on_failure(error)
            unended = (
                live_session(key, record, self._limits, now)
                for key, record in listing.over.items()
                if key not in ended
            )
            listing.live.extend(live for live in unended if live is not None)
        return listing

    def tidy(self, owner: str, present: OwnerList) -> None:
        """Take some dead entries out of a list that has grown, in case nobody ever reads it.

        Now and then, a few entries are picked at random and looked at: so a list has at most about
        as many dead entries as live ones, and no login pays for all of them.
        """
        if len(present.entries) % _TIDY_EVERY:
            return
        keys = sorted(present.entries)
        picked = random.sample(keys, min(_TIDY_LOOKS, len(keys)))
        some = present._replace(entries={key: present.entries[key] for key in picked})
        self.heal(owner, some, self.examine(owner, some, self._clock()))

    def heal(
        self,
        owner: str,
        seen: OwnerList,
        listing: Listing,
        on_end: Callable[[str], object] = lambda key: None,
    ) -> None:
        """End what is over or being ended, and take dead entries out.

        Args:
            owner: whose list.
            seen: the list as it was read, or a part of it.
            listing: what it came to when it was compared with the records.
            on_end: told the key of each session that this ends.

        Raises:
            StoreError: the store can't answer.
        """
        for attempt in range(ATTEMPTS):
            if not listing.stale:
                return
            lost = self._end(owner, seen, listing.over, on_end)
            stale = {key: seen.entries[key] for key in listing.stale if key not in lost}
            self.take_out_seen(owner, stale)
            if not lost:
                return
            back_off(attempt)
            # Their records were written meanwhile, so that they may live, or are gone.
            seen = seen._replace(entries={key: seen.entries[key] for key in lost})
            listing = self.examine(owner, seen, self._clock())
        raise StoreError("a session could not be ended", operation="delete")

    def _end(
        self,
        owner: str,
        seen: OwnerList,
        over: Mapping[str, Record],
        on_end: Callable[[str], object],
    ) -> set[str]:
        """Delete the records of sessions that are over, in the versions that were found to be.

        A session that is over or being ended goes with its entry, so that none is ever alive, after
        a clock was set back, and not listed; unless a login has entered it anew. That is seen in
        the list, which is read once, after all of the records; or else the login has yet to write
        its record, which has another version from then on.

        Returns:
            the keys of those that are there in another version, or gone.
        """
        present = self.read(owner) if over else None
        listed: Mapping[str, Entry] = {} if present is None else present.entries
        lost: set[str] = set()
        for key, record in over.items():
            if listed.get(key) not in (None, seen.entries[key]):
                continue
            if self._store.delete(key, if_version=record.version):
                on_end(key)
            else:
                lost.add(key)
        return lost

    def give_back(self, key: str, place: Place) -> None:
        """Give back the place of a session whose login didn't happen."""
        # It may have happened, though the answer to its write was lost; and what another request
        # has entered by now under the same key is that one's place.
        if self._is_gone(list_key(place.owner), key):
            self.take_out_seen(place.owner, {key: place.entry})

    def _enter_latecomers(self, at: str, taken: Mapping[str, Entry]) -> None:
        """Enter again what was taken out, if its record has come meanwhile.

        A login may take longer than a minute, or a clock be set forward under it. If its record is
        there by now, it is found here; if it comes later, the login finds its entry gone and ends
        itself. An entry that is being ended stays out: that login has to end itself.
        """
        for key, entry in taken.items():
            record = None if entry.ending else self.look(key)
            owner = None if record is None or record is UNREADABLE else record.owner
            if owner is not None and list_key(owner) == at:
                self.enter(owner, key, until=entry.until, epoch=entry.epoch)

    def is_marked(self, owner: str, key: str) -> bool:
        """Whether the entry of a session says that it is being ended.

        Raises:
            StoreError: the list can't be read.
        """
        present = self.read(owner)
        entry = None if present is None else present.entries.get(key)
        return entry is not None and entry.ending

    def delete_if_owned(self, key: str, owner: str) -> Record | None:
        """Delete a record that is still this owner's, or that can't be read.

        Returns:
            the record that was deleted; None if there is none, or it is another's or unreadable.
        """
        for attempt in range(ATTEMPTS):
            record = self._store.load(key)
            if record is None:
                self._store.delete(key)
                return None
            if record.owner != owner:
                return None
            if self._store.delete(key, if_version=record.version):
                return record
            back_off(attempt)
        raise StoreError("a session could not be ended", operation="delete")

    def heal_all(self) -> None:
        """Take out of every list what is over, for a purge. Reads every record once.

        Raises:
            StoreError: the store can't answer; the other lists were healed all the same.
        """
        dead: dict[str, dict[str, Entry]] = {}
        over: list[str] = []
        for at in self._store.keys():  # noqa: SIM118 # a store is not a mapping
            record = self._store.load(at)
            if record is None or not record.is_owner_list:
                continue
            try:
                present = self._parsed(at, record)
            except UnreadableList:
                continue  # reported to those who use this list; the others are healed all the same
            if present is None:
                over.append(at)
                continue
            now = self._clock()
            gone = {
                key: entry
                for key, entry in present.entries.items()
                if self._is_dead(at, key, entry, now)
            }
            if gone:
                dead[at] = gone
        failures: list[StoreError] = []
        for at in (*over, *dead):
            try:
                if at in dead:
                    self._take_out_seen(at, dead[at])
                else:
                    self._clear_away(at)
            except StoreError as error:
                failures.append(error)
        if failures:
            raise failures[0]

    def _is_dead(self, at: str, key: str, entry: Entry, now: float) -> bool:
        if _is_young(entry, now) and not entry.ending:
            return False
        return self._is_gone(at, key)

    def _is_gone(self, at: str, key: str) -> bool:
        """Whether it is certain that no record belongs to this list's owner."""
        record = self.look(key)
        if record is None or record is UNREADABLE:
            return record is None
        return record.owner is None or list_key(record.owner) != at


def live_session(key: str, record: Record, limits: Limits, now: float) -> LiveSession | None:
    """The session of this record, or None if it is over, damaged, or a list."""
    if record.is_owner_list:
        return None
    try:
        notes = notes_of(record)
    except CorruptNotes:
        return None
    deadline = deadline_of(record, notes, limits.idle, limits.absolute, now)
    return LiveSession(key, record, notes, deadline) if now < deadline else None


def is_readable(record: Record) -> bool:
    """Whether this record can be read here, as the session that it is."""
    try:
        notes_of(record)
    except CorruptNotes:
        return False
    return True


def _day_after(until: float) -> int:
    """The first whole day after this time: clocks differ, and a day is the same for many logins."""
    return int(min(until / _DAY, _NEVER)) + 1


def _last_day(expires_at: float) -> int:
    """The day at whose end, or in which, this time is."""
    return math.ceil(min(expires_at / _DAY, _NEVER + 2)) - 1


def _end_of(day: int) -> float:
    return math.inf if day > _NEVER else (day + 1) * _DAY


def _parse(record: Record) -> OwnerList:
    """Read a list.

    Raises:
        CorruptField: it can't be read.
    """
    entries = {key: _load(record.fields[key]) for key in record.fields}
    # Asked after all of it was read.
    return OwnerList(
        record.version, entries, End(record.epoch, record.expires_at), is_outdated(record)
    )


def _dump(entry: Entry) -> bytes:
    return _ENTRY.pack(_FORMAT, *entry)


def _load(raw: bytes) -> Entry:
    try:
        fmt, *parts = _ENTRY.unpack(raw)
    except struct.error:
        raise CorruptField("isn't an entry") from None
    if fmt != _FORMAT:
        raise CorruptField("is an entry of another format")
    return Entry(*parts)
