"""MemoryStore: sessions in this process's memory, for one process and for tests.

It keeps encoded bytes, never live objects. Nothing survives the process, and no other process sees
it: for that there are `FileStore` and `RedisStore`.

How it keeps its pauses short with a million sessions: a session is one string of bytes, and the
order of expiry is kept in arrays, because whatever the garbage collector has to visit would make
each of its full runs slower; the sessions are spread over 256 shards, so that no dict ever grows so
big that its resizing is felt; and each write reclaims a few expired sessions of one shard, in turn,
so that there is never a full scan.
"""

from __future__ import annotations

import math
import struct
import sys
import threading
import time
from array import array
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from types import MappingProxyType

from .._options import checked_options
from ..errors import ConfigurationError, StoreError
from ..record import Changes, OwnedEntry, Record, UpdateResult, is_key
from .base import Store
from .packing import TIMES, changed, check_new_key, deadline, head, pack, unpack

_SHARDS = 256
_RECLAIMED_PER_WRITE = 8
"""Of each kind: more than one, so that reclaiming outruns a flood of new sessions."""
_SLICE = 500
"""How many records a purge removes before it lets requests go ahead."""
_HOT = 256
"""How many sessions are kept ready to hand out; few enough to be gone before the garbage
collector promotes them, which would hasten its full runs."""
_REMEMBER_GENERATION = 2 * 24 * 60 * 60.0
"""Seconds; the contract asks for a day."""

_ENTRY = struct.Struct("<ddQ")
"""An entry of an owner's index."""
_GENERATION = struct.Struct("<Qd")
"""An owner's generation, and when it last moved."""
_NO_GENERATION = _GENERATION.pack(0, 0.0)
_TICK = 1e-6
_NOTHING: Mapping[str, bytes] = MappingProxyType({})


class _Queue:
    """Keys in the order of their deadlines."""

    __slots__ = ("_deadlines", "_keys")

    _WIDTH = 32
    _NEVER = sys.float_info.max

    def __init__(self) -> None:
        self._deadlines = array("d")
        self._keys = bytearray()

    def first(self) -> float:
        """The earliest deadline; ``inf`` where there is none."""
        return self._deadlines[0] if self._deadlines else math.inf

    def add(self, expires_at: float, key: str) -> None:
        at = min(expires_at, self._NEVER)
        place = bisect_right(self._deadlines, at)
        self._deadlines.insert(place, at)
        self._keys[place * self._WIDTH : place * self._WIDTH] = bytes.fromhex(key)

    def remove(self, expires_at: float, key: str) -> None:
        wanted = bytes.fromhex(key)
        start = bisect_left(self._deadlines, min(expires_at, self._NEVER)) * self._WIDTH
        found = self._keys.index(wanted, start)
        while found % self._WIDTH:  # by chance it may also stand across two others
            found = self._keys.index(wanted, found + 1)
        del self._keys[found : found + self._WIDTH]
        del self._deadlines[found // self._WIDTH]

    def take(self, limit: int, until: float = math.inf) -> list[str]:
        """Remove the first keys, at most ``limit``, with a deadline at or before ``until``."""
        if not self._deadlines or self._deadlines[0] > until:
            return []
        count = min(bisect_right(self._deadlines, until), limit)
        keys = self._keys[: count * self._WIDTH].hex(",", self._WIDTH).split(",")
        del self._keys[: count * self._WIDTH]
        del self._deadlines[:count]
        return keys


class _Shard:
    """One of 256 parts of a store: records by key, and an owner's index by owner."""

    __slots__ = ("anonymous", "entries", "generations", "owned", "rows")

    def __init__(self) -> None:
        self.rows: dict[str, bytes] = {}
        """Times and packed record, by key."""
        self.anonymous = _Queue()
        self.owned = _Queue()
        self.entries: dict[str, dict[str, bytes]] = {}
        """By owner, then by key, in the order in which they were added."""
        self.generations: dict[str, bytes] = {}
        """By owner; only of owners whose generation ever moved."""


@checked_options
class MemoryStore(Store):
    """A store in this process's memory; thread-safe, also without the GIL.

    Args:
        max_sessions: how many sessions are kept at most; None: no limit. When it is full, a new
            session takes the place of an expired one, else of one without owner, else of any, each
            time of the one that is soonest to expire, and listeners are told ``evicted``.

    Raises:
        ConfigurationError: max_sessions is no whole number of 1 or more.
    """

    def __init__(self, max_sessions: int | None = None) -> None:
        super().__init__()
        _check_max_sessions(max_sessions)
        self._max_sessions = max_sessions
        self._lock = threading.Lock()
        self._reset()

    def _reset(self) -> None:
        self._shards: defaultdict[int, _Shard] = defaultdict(_Shard)
        self._count = 0
        self._turn = 0
        self._reclaimed = 0
        self._hot: dict[str, Record] = {}

    def load(self, key: str) -> Record | None:
        """The record, or None. It is the same object for all who ask, and can't be changed."""
        try:
            return self._hot[key]
        except (KeyError, TypeError):  # a TypeError: unhashable, so no key at all
            if not is_key(key):
                return None
        with self._lock:
            row = self._shard(key).rows.get(key)
            if row is None:
                return None
            record = _record(row)
            self._keep_ready(key, record)
            return record

    def insert(self, key: str, record: Record) -> bool:
        """Keep a new record. False, and no change, if the key exists."""
        check_new_key(key, "insert")
        row = _row(record)
        with self._lock:
            if key in self._shard(key).rows:
                return False
            self._reclaim(record.used_at)
            evicted = self._make_room(record.used_at)
            self._add(key, row, record)
        if evicted is not None:
            detail = f"the store is full (max_sessions={self._max_sessions})"
            self._notify("evicted", evicted, detail)
        return True

    def update(self, key: str, changes: Changes, *, if_version: int | None = None) -> UpdateResult:
        """Apply a change set as one step. Never an upsert."""
        if not is_key(key):
            return UpdateResult.GONE
        now = changes.used_at
        with self._lock:
            shard = self._shard(key)
            row = shard.rows.get(key)
            if row is None or (now is not None and now >= TIMES.unpack_from(row)[1]):
                return UpdateResult.GONE
            if if_version is not None and head(row, TIMES.size)[0] != if_version:
                return UpdateResult.CONFLICT
            if changes.changes_data:
                self._write(shard, key, changes)
            else:
                self._touch(shard, key, row, changes)
            if now is not None:
                self._reclaim(now)
            return UpdateResult.UPDATED

    def replace(
        self, old_key: str, new_key: str, record: Record, *, if_version: int | None = None
    ) -> UpdateResult:
        """Put ``record`` under ``new_key`` only if ``old_key`` is still there; the old one goes."""
        check_new_key(new_key, "replace")
        if not is_key(old_key):
            return UpdateResult.GONE
        row = _row(record)
        with self._lock:
            old = self._shard(old_key).rows.get(old_key)
            if old is None:
                return UpdateResult.GONE
            if if_version is not None and head(old, TIMES.size)[0] != if_version:
                return UpdateResult.CONFLICT
            if new_key in self._shard(new_key).rows:
                raise StoreError(
                    "replace: the new key is taken; nothing was changed", operation="replace"
                )
            self._remove(old_key)
            self._add(new_key, row, record)
            self._reclaim(record.used_at)
            return UpdateResult.UPDATED

    def delete(self, key: str, *, if_version: int | None = None) -> bool:
        """Remove a record. True if it existed (and had the version asked for)."""
        if not is_key(key):
            return False
        with self._lock:
            row = self._shard(key).rows.get(key)
            if row is None:
                return False
            if if_version is not None and head(row, TIMES.size)[0] != if_version:
                return False
            self._remove(key)
            return True

    def purge_expired(self, now: float) -> int:
        """Remove what expired at or before ``now`` (UNIX seconds), owners' entries too.

        Returns how many records went; those that writes reclaimed since the last purge count too.
        """
        for shard in self._all_shards():
            while True:
                with self._lock:
                    more = self._remove_expired(shard, now, _SLICE)
                if not more:
                    break
                # A lock that is taken again at once starves those who wait for it.
                time.sleep(0.0001)
            with self._lock:
                _prune_index(shard, now)
        with self._lock:
            went, self._reclaimed = self._reclaimed, 0
            return went

    def keys(self) -> Iterator[str]:
        """All keys, in no order; expired ones may be among them."""
        for shard in self._all_shards():
            with self._lock:
                keys = list(shard.rows)
            yield from keys

    def clear(self) -> None:
        """Remove all sessions and owners."""
        with self._lock:
            self._reset()

    def ping(self) -> None:
        """Memory is always there."""

    def close(self) -> None:
        """There is nothing to give back; the sessions stay."""

    def add_owned(self, owner: str, key: str, expires_at: float) -> int:
        """Enter ``key`` in the owner's index (anew if it is there), and tell the generation."""
        check_new_key(key, "add_owned")
        now = self.clock()
        with self._lock:
            entries = self._shard(owner).entries.setdefault(owner, {})
            entries.pop(key, None)
            last = next(reversed(entries.values()), None)
            if last is not None:
                now = max(now, _ENTRY.unpack(last)[0] + _TICK)
            generation = self._generation(owner)
            entries[key] = _ENTRY.pack(now, deadline(expires_at), generation)
            return generation

    def owned_by(self, owner: str) -> Mapping[str, OwnedEntry]:
        """The owner's index: entries by key. May list too much, never too little."""
        with self._lock:
            entries = dict(self._shard(owner).entries.get(owner, _NOTHING))
        return {key: OwnedEntry(*_ENTRY.unpack(entry)) for key, entry in entries.items()}

    def remove_owned(self, owner: str, keys: Collection[str]) -> None:
        """Take keys out of the owner's index; unknown ones are fine. The generation stays."""
        with self._lock:
            for key in keys:
                self._disown(owner, key)

    def generation(self, owner: str) -> int:
        """The owner's generation; 0 to begin with."""
        with self._lock:
            return self._generation(owner)

    def next_generation(self, owner: str) -> int:
        """Raise the owner's generation by one and tell it."""
        now = self.clock()
        with self._lock:
            generation = self._generation(owner) + 1
            self._shard(owner).generations[owner] = _GENERATION.pack(generation, now)
            return generation

    def _all_shards(self) -> list[_Shard]:
        with self._lock:
            return list(self._shards.values())

    # What follows is called with the lock held.

    def _shard(self, name: str) -> _Shard:
        return self._shards[hash(name) % _SHARDS]

    def _keep_ready(self, key: str, record: Record) -> None:
        if len(self._hot) >= _HOT:
            self._hot.clear()
        self._hot[key] = record

    def _add(self, key: str, row: bytes, record: Record) -> None:
        shard = self._shard(key)
        queue = shard.anonymous if record.owner is None else shard.owned
        queue.add(record.expires_at, key)
        shard.rows[key] = row
        self._count += 1

    def _write(self, shard: _Shard, key: str, changes: Changes) -> None:
        before = self._hot.get(key)
        if before is None:
            before = _record(shard.rows[key])
        after = changed(before, changes)
        shard.rows[key] = _row(after)
        if before.expires_at != after.expires_at:
            queue = shard.anonymous if after.owner is None else shard.owned
            queue.remove(before.expires_at, key)
            queue.add(after.expires_at, key)
        self._keep_ready(key, after)

    def _touch(self, shard: _Shard, key: str, row: bytes, changes: Changes) -> None:
        used_at, before = TIMES.unpack_from(row)
        used_at = used_at if changes.used_at is None else changes.used_at
        after = before if changes.expires_at is None else deadline(changes.expires_at)
        shard.rows[key] = TIMES.pack(used_at, after) + row[TIMES.size :]
        if before != after:
            owner = head(row, TIMES.size)[1]
            queue = shard.anonymous if owner is None else shard.owned
            queue.remove(before, key)
            queue.add(after, key)
        self._hot.pop(key, None)

    def _remove(self, key: str) -> None:
        shard = self._shard(key)
        row = shard.rows[key]
        owner = head(row, TIMES.size)[1]
        queue = shard.anonymous if owner is None else shard.owned
        queue.remove(TIMES.unpack_from(row)[1], key)
        self._forget(shard, key)

    def _forget(self, shard: _Shard, key: str) -> None:
        del shard.rows[key]
        self._hot.pop(key, None)
        self._count -= 1

    def _reclaim(self, now: float) -> None:
        self._turn = (self._turn + 1) % _SHARDS
        shard = self._shards.get(self._turn)
        if shard is not None and min(shard.anonymous.first(), shard.owned.first()) <= now:
            self._remove_expired(shard, now, _RECLAIMED_PER_WRITE)

    def _remove_expired(self, shard: _Shard, now: float, limit: int) -> bool:
        """Remove at most ``limit`` records of each kind. Whether there may be more."""
        anonymous = shard.anonymous.take(limit, now)
        owned = shard.owned.take(limit, now)
        for key in owned:
            self._disown(head(shard.rows[key], TIMES.size)[1], key)
        for key in (*anonymous, *owned):
            self._forget(shard, key)
        self._reclaimed += len(anonymous) + len(owned)
        return limit in (len(anonymous), len(owned))

    def _make_room(self, now: float) -> str | None:
        """Remove a session if the store is full; tell which, unless it had expired."""
        if self._max_sessions is None or self._count < self._max_sessions:
            return None
        anonymous = min((shard.anonymous for shard in self._shards.values()), key=_Queue.first)
        owned = min((shard.owned for shard in self._shards.values()), key=_Queue.first)
        soonest = min(anonymous, owned, key=_Queue.first)
        expired = soonest.first() <= now
        queue = soonest if expired or anonymous.first() == math.inf else anonymous
        (key,) = queue.take(1)
        shard = self._shard(key)
        self._disown(head(shard.rows[key], TIMES.size)[1], key)
        self._forget(shard, key)
        self._reclaimed += expired
        return None if expired else key

    def _disown(self, owner: str | None, key: str) -> None:
        if owner is None:
            return
        owners = self._shard(owner).entries
        entries = owners.get(owner)
        if entries is not None and entries.pop(key, None) is not None and not entries:
            del owners[owner]

    def _generation(self, owner: str) -> int:
        packed = self._shard(owner).generations.get(owner, _NO_GENERATION)
        generation: int = _GENERATION.unpack(packed)[0]
        return generation


def _check_max_sessions(value: object) -> None:
    if value is None or (isinstance(value, int) and not isinstance(value, bool) and value >= 1):
        return
    raise ConfigurationError(
        f"MemoryStore: max_sessions is {value!r}; write a whole number of 1 or more, or None for"
        " no limit"
    )


def _record(row: bytes) -> Record:
    return unpack(row, TIMES.size, *TIMES.unpack_from(row))


def _row(record: Record) -> bytes:
    return TIMES.pack(record.used_at, deadline(record.expires_at)) + pack(record)


def _prune_index(shard: _Shard, now: float) -> None:
    for owner, entries in list(shard.entries.items()):
        for key, entry in list(entries.items()):
            if _ENTRY.unpack(entry)[1] <= now:
                del entries[key]
        if not entries:
            del shard.entries[owner]
    for owner, packed in list(shard.generations.items()):
        moved_at: float = _GENERATION.unpack(packed)[1]
        if owner not in shard.entries and moved_at <= now - _REMEMBER_GENERATION:
            del shard.generations[owner]
