"""MemoryStore: sessions in this process's memory, for one process and for tests.

It keeps encoded bytes, never live objects. Nothing survives the process, and no other process sees
it: for that there are `FileStore` and `RedisStore`.

How it keeps its pauses short with a million sessions: a session is one string of bytes, and the
order of expiry is kept in arrays, because whatever the garbage collector has to visit would make
each of its full runs slower; the sessions are spread over 256 shards, so that no dict ever grows so
big that resizing it takes noticeably long; and each write reclaims a few expired sessions of one
shard, in turn, so that there is never a full scan.

Three kinds of records wait for their deadlines in queues of their own: sessions without an owner,
sessions with one, and owners' lists. When the store is full, the first are removed before the
second; lists aren't sessions, so they don't count and aren't evicted.
"""

from __future__ import annotations

import math
import os
import sys
import threading
import time
import weakref
from array import array
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterator

from .._options import checked_options
from ..errors import ConfigurationError
from ..record import LIST_OWNER, Changes, Record, UpdateResult, is_key
from .base import Store
from .packing import TIMES, as_use, changed, check_new_key, deadline, pack, refusal, unpack

_SHARDS = 256
_RECLAIMED_PER_WRITE = 8
"""Of each kind: more than one, so that reclaiming outruns a flood of new sessions."""
_SLICE = 500
"""How many records a purge removes before it lets requests go ahead."""
_HOT = 256
"""How many sessions are kept ready to hand out; few enough to be gone before the garbage
collector promotes them, which would hasten its full runs."""
_STALE = b""
"""The row of a session that was changed since it was packed: the one kept ready counts."""


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

    def is_due(self, now: float) -> bool:
        """Whether the earliest deadline has passed."""
        deadlines = self._deadlines
        return bool(deadlines) and deadlines[0] <= now

    def add(self, expires_at: float, key: str) -> None:
        at = min(expires_at, self._NEVER)
        place = bisect_right(self._deadlines, at)
        self._deadlines.insert(place, at)
        start = place * self._WIDTH
        self._keys[start:start] = bytes.fromhex(key)

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
    """One of 256 parts of a store."""

    __slots__ = ("anonymous", "lists", "owned", "rows")

    def __init__(self) -> None:
        self.rows: dict[str, bytes] = {}
        """Times and packed record, by key."""
        self.anonymous = _Queue()
        """Sessions without an owner."""
        self.owned = _Queue()
        """Sessions of an owner."""
        self.lists = _Queue()
        """Owners' lists."""

    def queue(self, owner: str | None) -> _Queue:
        """Where records of this owner wait for their deadlines."""
        if owner is None:
            return self.anonymous
        return self.owned if owner else self.lists

    def is_due(self, now: float) -> bool:
        """Whether any of its deadlines has passed."""
        return self.anonymous.is_due(now) or self.owned.is_due(now) or self.lists.is_due(now)

    def queues(self) -> tuple[_Queue, _Queue, _Queue]:
        """All of them."""
        return self.anonymous, self.owned, self.lists


@checked_options
class MemoryStore(Store):
    """A store in this process's memory; thread-safe, also without the GIL.

    Args:
        max_sessions: how many sessions are kept at most; None: no limit. When it is full, a new
            session takes the place of an expired one, else of one without an owner, else of any;
            of several, of the one that is soonest to expire. Listeners get ``evicted``.
            Owners' lists don't count, and are removed only when deleted or expired.

    Raises:
        ConfigurationError: max_sessions is not a whole number of 1 or more.
    """

    def __init__(self, max_sessions: int | None = None) -> None:
        _check_max_sessions(max_sessions)
        self._max_sessions = max_sessions
        self._lock = threading.Lock()
        self._reset()
        with _forking:
            _stores.add(self)

    def __repr__(self) -> str:
        return f"MemoryStore(max_sessions={self._max_sessions})"

    def _reset(self) -> None:
        self._shards: defaultdict[int, _Shard] = defaultdict(_Shard)
        self._count = 0
        """How many sessions there are, expired ones included; lists aren't."""
        self._turn = 0
        self._reclaimed = 0
        self._hot: dict[str, Record] = {}
        """The sessions that were used last, in the order in which they came."""

    def load(self, key: str) -> Record | None:
        """The record, or None. All callers get the same, immutable object."""
        try:
            return self._hot[key]
        except (KeyError, TypeError):  # a TypeError: unhashable, so not a key at all
            if not is_key(key):
                return None
        with self._lock:
            shard = self._shard(key)
            return self._record(shard, key) if key in shard.rows else None

    def insert(self, key: str, record: Record) -> bool:
        """Keep a new record. False, and no change, if the key exists."""
        check_new_key(key, "insert")
        row = _row(record)
        with self._lock:
            shard = self._shard(key)
            if key in shard.rows:
                return False
            self._reclaim(record.used_at)
            is_list = record.owner == LIST_OWNER
            evicted = None
            if self._max_sessions is not None and not is_list:
                evicted = self._make_room(self._max_sessions, record.used_at)
            shard.queue(record.owner).add(record.expires_at, key)
            shard.rows[key] = row
            self._count += not is_list
        if evicted is not None:
            detail = f"the store is full (max_sessions={self._max_sessions})"
            self._notify("evicted", evicted, detail)
        return True

    def update(
        self,
        key: str,
        changes: Changes,
        *,
        if_epoch: int | None = None,
        if_version: int | None = None,
    ) -> UpdateResult:
        """Apply a change set in one step. Never an upsert."""
        now = None if changes.used_at is None else as_use(changes.used_at)
        with self._lock:
            try:
                shard = self._shard(key)
            except TypeError:  # unhashable, so not a key at all
                return UpdateResult.GONE
            if key not in shard.rows:
                return UpdateResult.GONE
            before = self._record(shard, key)
            if now is not None and now >= before.expires_at:
                return UpdateResult.GONE
            refused = refusal(before.version, before.epoch, if_epoch, if_version)
            if refused is not None:
                return refused
            after = changed(before, changes)
            if after is not before:
                self._write(shard, key, before, after)
            if now is not None:
                self._reclaim(now)
            return UpdateResult.UPDATED

    def delete(self, key: str, *, if_version: int | None = None) -> bool:
        """Remove a record. True if it existed (and had the version asked for)."""
        if not is_key(key):
            return False
        with self._lock:
            shard = self._shard(key)
            if key not in shard.rows:
                return False
            record = self._record(shard, key)
            if if_version is not None and record.version != if_version:
                return False
            shard.queue(record.owner).remove(record.expires_at, key)
            self._forget(shard, key, is_session=not record.is_owner_list)
            return True

    def purge_expired(self, now: float) -> int:
        """Remove what expired at or before ``now`` (UNIX seconds).

        Returns how many were removed, including those that writes reclaimed since the last purge.
        """
        for number in range(_SHARDS):
            while True:
                with self._lock:
                    # Looked up each time: `clear` may have put others in their places.
                    shard = self._shards.get(number)
                    more = shard is not None and self._remove_expired(shard, now, _SLICE)
                if not more:
                    break
                # A lock that is taken again at once starves those who wait for it.
                time.sleep(0.0001)
        with self._lock:
            went, self._reclaimed = self._reclaimed, 0
            return went

    def keys(self) -> Iterator[str]:
        """All keys, in no order; expired ones may be among them."""
        with self._lock:
            shards = list(self._shards.values())
        for shard in shards:
            with self._lock:
                keys = list(shard.rows)
            yield from keys

    def clear(self) -> None:
        """Remove all sessions and lists."""
        with self._lock:
            self._reset()

    def ping(self) -> None:
        """Memory is always there."""

    def close(self) -> None:
        """There is nothing to close; the sessions stay."""

    # What follows is called with the lock held.

    def _shard(self, key: str) -> _Shard:
        return self._shards[hash(key) % _SHARDS]

    def _record(self, shard: _Shard, key: str) -> Record:
        """A record that exists; from here on it is kept ready to hand out."""
        hot = self._hot
        if key in hot:
            return hot[key]
        if len(hot) >= _HOT:
            oldest = next(iter(hot))
            rows = self._shard(oldest).rows
            if rows[oldest] == _STALE:
                rows[oldest] = _row(hot[oldest])
            del hot[oldest]
        record = hot[key] = _unpacked(shard.rows[key])
        return record

    def _write(self, shard: _Shard, key: str, before: Record, after: Record) -> None:
        # Packed when no longer kept ready: most sessions are changed several times until then.
        shard.rows[key] = _STALE
        self._hot[key] = after
        if before.expires_at != after.expires_at or before.owner != after.owner:
            shard.queue(before.owner).remove(before.expires_at, key)
            shard.queue(after.owner).add(after.expires_at, key)
            self._count += before.is_owner_list - after.is_owner_list

    def _forget(self, shard: _Shard, key: str, *, is_session: bool) -> None:
        del shard.rows[key]
        self._hot.pop(key, None)
        self._count -= is_session

    def _reclaim(self, now: float) -> None:
        self._turn = (self._turn + 1) % _SHARDS
        shard = self._shards.get(self._turn)
        if shard is not None and shard.is_due(now):
            self._remove_expired(shard, now, _RECLAIMED_PER_WRITE)

    def _remove_expired(self, shard: _Shard, now: float, limit: int) -> bool:
        """Remove at most ``limit`` records of each kind. Whether there may be more."""
        more = False
        for queue in shard.queues():
            keys = queue.take(limit, now)
            for key in keys:
                self._forget(shard, key, is_session=queue is not shard.lists)
            self._reclaimed += len(keys)
            more = more or len(keys) == limit
        return more

    def _make_room(self, limit: int, now: float) -> str | None:
        """Remove a session if the store is full; report which, unless it had expired."""
        if self._count < limit:
            return None
        anonymous = min((shard.anonymous for shard in self._shards.values()), key=_Queue.first)
        owned = min((shard.owned for shard in self._shards.values()), key=_Queue.first)
        soonest = min(anonymous, owned, key=_Queue.first)
        expired = soonest.first() <= now
        queue = soonest if expired or anonymous.first() == math.inf else anonymous
        (key,) = queue.take(1)
        self._forget(self._shard(key), key, is_session=True)
        self._reclaimed += expired
        return None if expired else key


_stores: weakref.WeakSet[MemoryStore] = weakref.WeakSet()
"""All stores of this process, so that a fork can wait for their locks."""
_forking = threading.Lock()
_held: list[threading.Lock] = []
"""Locks that are held across a fork."""


def _before_fork() -> None:
    # Another thread may be in the middle of a call: the child, which has no such thread, would wait
    # for the lock forever, and find a session half written.
    _forking.acquire()
    for store in list(_stores):
        lock = store._lock  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] # of this module
        lock.acquire()
        _held.append(lock)


def _after_fork() -> None:
    while _held:
        _held.pop().release()
    _forking.release()


if hasattr(os, "register_at_fork"):  # pragma: no branch # there is no fork without it
    os.register_at_fork(
        before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork
    )


def _check_max_sessions(value: object) -> None:
    if value is None or (isinstance(value, int) and not isinstance(value, bool) and value >= 1):
        return
    raise ConfigurationError(
        f"MemoryStore: max_sessions is {value!r}; write a whole number of 1 or more, or None for"
        " no limit"
    )


def _row(record: Record) -> bytes:
    return TIMES.pack(as_use(record.used_at), deadline(record.expires_at)) + pack(record)


def _unpacked(row: bytes) -> Record:
    return unpack(row, TIMES.size, *TIMES.unpack_from(row))
