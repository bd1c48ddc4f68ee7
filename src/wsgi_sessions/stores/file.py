"""FileStore: sessions in the files of one directory, for many processes of one machine.

One file per session, one per owner, all in the formats below; how files are written without losing
or following anything is directory's business. A file's modification time is when it expires, so
purging reads no content; but the times inside decide, so that tampering with it changes nothing.

A session's file: ``WSF1``, CRC-32 of what is packed, use and expiry, CRC-32 of these two, packed
record. The times have a checksum of their own, because a touch rewrites them in place.
"""

from __future__ import annotations

import functools
import hashlib
import math
import os
import struct
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Concatenate, NamedTuple, ParamSpec, TypeVar
from zlib import crc32

from .._options import check_flag, checked_options
from ..errors import ConfigurationError, StoreError
from ..record import Changes, OwnedEntry, Record, UpdateResult, is_key
from .base import Store
from .directory import Damaged, Directory, nanoseconds
from .packing import TIMES, VERSION, changed, check_new_key, deadline, pack, unpack

_CRC = struct.Struct("<I")
_MAGIC = b"WSF1"
_HEAD = struct.Struct("<4sIddI")
_TIMES_AT = len(_MAGIC) + _CRC.size

_INDEX_MAGIC = b"WSO1"
_INDEX_HEAD = struct.Struct("<QdI")
_INDEX_ENTRY = struct.Struct("<32sddQ")
_TICK = 1e-6
_SLICE = 64
"""How many files are removed before others get the lock again."""
_REMEMBER_GENERATION = 2 * 24 * 60 * 60.0
"""Seconds; the contract asks for a day."""

P = ParamSpec("P")
T = TypeVar("T")


def _answers(
    method: Callable[Concatenate[FileStore, P], T],
) -> Callable[Concatenate[FileStore, P], T]:
    """Whatever the system reports is a StoreError: never "no such session"."""
    operation = method.__name__

    @functools.wraps(method)
    def checked(self: FileStore, /, *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return method(self, *args, **kwargs)
        except (OSError, StoreError) as error:
            raise _store_error(operation, error) from error

    return checked


def _store_error(operation: str, error: OSError | StoreError) -> StoreError:
    return StoreError(f"{operation}: {error}", operation=operation)


class _Index(NamedTuple):
    """What an owner's file holds."""

    generation: int = 0
    moved_at: float = -math.inf
    """When the generation last moved. UNIX seconds."""
    entries: Mapping[str, OwnedEntry] = MappingProxyType({})

    def due_at(self) -> float:
        """When there will be something to prune. UNIX seconds."""
        ends = (entry.expires_at for entry in self.entries.values())
        return min(ends, default=self.moved_at + _REMEMBER_GENERATION)

    def without(self, keys: Collection[str]) -> _Index:
        """The same without these keys."""
        left = {key: entry for key, entry in self.entries.items() if key not in keys}
        return self._replace(entries=left)


@checked_options
class FileStore(Store):
    """A store in the files of one directory, shared by all threads and processes that use it.

    Args:
        path: the directory; made, with mode 0700, if it isn't there. On a local file system.
        durable: True: what a call has written is on the disk when it returns (fsync), so that it
            survives a power failure. A killed process loses nothing either way.
        mode: the permissions of the files, whatever the umask: 0o600, or with group bits, if the
            directory is opened to the group by hand.

    Raises:
        ConfigurationError: the directory can't be made, is a symlink, belongs to another user, or
            others may write to it; or the platform has no file locks.
    """

    def __init__(
        self, path: str | os.PathLike[str], durable: bool = False, mode: int = 0o600
    ) -> None:
        super().__init__()
        check_flag("FileStore", "durable", durable)
        root = _absolute(path)
        self._sessions = Directory(root, mode=_checked_mode(mode), durable=durable)
        self._owners = self._sessions.part("owners")
        self._durable = durable

    @property
    def path(self) -> Path:
        """The directory, as it was resolved at construction."""
        return Path(self._sessions.root)

    def __repr__(self) -> str:
        return f"FileStore({self._sessions.root!r}, durable={self._durable})"

    @_answers
    def load(self, key: str) -> Record | None:
        """The record, or None. Takes no lock."""
        if not is_key(key):
            return None
        try:
            return _decode(self._sessions.read(key))
        except FileNotFoundError:
            self._sessions.check_root()
            return None
        except Damaged:
            # Or caught in the middle of a touch.
            return self._load_locked(key)

    @_answers
    def insert(self, key: str, record: Record) -> bool:
        """Keep a new record. False, and no change, if the key exists."""
        check_new_key(key, "insert")
        content = _encode(record)
        with self._sessions.locked(key):
            if self._sessions.exists(key):
                return False
            self._sessions.write(key, content, nanoseconds(record.expires_at))
        return True

    @_answers
    def update(self, key: str, changes: Changes, *, if_version: int | None = None) -> UpdateResult:
        """Apply a change set as one step. Never an upsert."""
        if not is_key(key) or not self._sessions.exists(key):
            return UpdateResult.GONE
        apply = self._rewrite if changes.changes_data else self._touch
        try:
            with self._sessions.locked(key):
                return apply(key, changes, if_version)
        except FileNotFoundError:
            self._sessions.check_root()
        except Damaged:
            self._load_locked(key)
        return UpdateResult.GONE

    @_answers
    def replace(
        self, old_key: str, new_key: str, record: Record, *, if_version: int | None = None
    ) -> UpdateResult:
        """Put ``record`` under ``new_key`` only if ``old_key`` is still there; the old one goes.

        A crash in between leaves the old one alive and the new one, whose ID nobody was told, to
        expire. With ``durable``, once this has returned not even a power failure brings the old
        one back.
        """
        check_new_key(new_key, "replace")
        content = _encode(record)
        if not is_key(old_key) or not self._sessions.exists(old_key):
            return UpdateResult.GONE
        try:
            with self._sessions.locked(old_key, new_key):
                return self._move(old_key, new_key, content, record.expires_at, if_version)
        except FileNotFoundError:
            self._sessions.check_root()
        except Damaged:
            self._load_locked(old_key)
        return UpdateResult.GONE

    @_answers
    def delete(self, key: str, *, if_version: int | None = None) -> bool:
        """Remove a record. True if it existed (and had the version asked for)."""
        if not is_key(key) or not self._sessions.exists(key):
            return False
        try:
            with self._sessions.locked(key):
                if if_version is not None:
                    with self._sessions.opened(key) as file:
                        if _peek(file).version != if_version:
                            return False
                return self._sessions.remove(key)
        except FileNotFoundError:
            self._sessions.check_root()
        except Damaged:
            self._load_locked(key)
        return False

    @_answers
    def purge_expired(self, now: float) -> int:
        """Remove what expired at or before ``now`` (UNIX seconds), owners' entries and leftovers
        too. Returns how many records went. Opens only what is about to go.
        """
        until = nanoseconds(now)
        removed = 0
        for shard in self._sessions.shards():
            for names in _slices(self._sessions.due(shard, until)):
                with self._sessions.locked(shard):
                    removed += sum(self._expire(name, now) for name in names)
        for shard in self._owners.shards():
            for names in _slices(self._owners.due(shard, until)):
                with self._owners.locked(shard):
                    for name in names:
                        self._prune(name, now)
        return removed

    def keys(self) -> Iterator[str]:
        """All keys, in no order; expired ones may be among them."""
        try:
            for shard in self._sessions.shards():
                yield from self._sessions.names(shard)
        except (OSError, StoreError) as error:
            raise _store_error("keys", error) from error

    @_answers
    def clear(self) -> None:
        """Remove all sessions, owners and leftovers, and no file that isn't this store's."""
        for directory in (self._sessions, self._owners):
            for shard in directory.shards():
                for names in _slices(directory.due(shard, None)):
                    with directory.locked(shard):
                        for name in names:
                            directory.remove(name)

    @_answers
    def ping(self) -> None:
        """Raises StoreError if the directory has gone."""
        self._sessions.check_root()

    def close(self) -> None:
        """There is nothing to give back: every call opens and closes what it needs."""

    @_answers
    def add_owned(self, owner: str, key: str, expires_at: float) -> int:
        """Enter ``key`` in the owner's index (anew if it is there), and tell the generation."""
        check_new_key(key, "add_owned")
        now, ends_at = self.clock(), deadline(expires_at)

        def added(index: _Index) -> _Index:
            others = index.without((key,))
            last = max((entry.added_at for entry in others.entries.values()), default=-math.inf)
            entry = OwnedEntry(max(now, last + _TICK), ends_at, index.generation)
            return others._replace(entries={**others.entries, key: entry})

        return self._change_index(owner, added).generation

    @_answers
    def owned_by(self, owner: str) -> Mapping[str, OwnedEntry]:
        """The owner's index: entries by key. May list too much, never too little."""
        return self._read_index(owner).entries

    @_answers
    def remove_owned(self, owner: str, keys: Collection[str]) -> None:
        """Take keys out of the owner's index; unknown ones are fine. The generation stays."""
        if self._owners.exists(_owner_name(owner)):
            gone = set(keys)
            self._change_index(owner, lambda index: index.without(gone))

    @_answers
    def generation(self, owner: str) -> int:
        """The owner's generation; 0 to begin with."""
        return self._read_index(owner).generation

    @_answers
    def next_generation(self, owner: str) -> int:
        """Raise the owner's generation by one and tell it."""
        now = self.clock()

        def moved(index: _Index) -> _Index:
            return index._replace(generation=index.generation + 1, moved_at=now)

        return self._change_index(owner, moved).generation

    def _load_locked(self, key: str) -> Record | None:
        """Read what looked damaged once more, while nobody writes; if it is, set it aside."""
        with self._sessions.locked(key):
            try:
                return _decode(self._sessions.read(key))
            except FileNotFoundError:
                return None
            except Damaged as damage:
                moved = self._sessions.set_aside(key)
                detail = f"{damage}; " + ("moved aside" if moved else "left as it is")
        self._notify("corrupt_record", key, detail)
        return None

    def _read_index(self, owner: str) -> _Index:
        name = _owner_name(owner)
        try:
            return _decode_index(self._owners.read(name))
        except FileNotFoundError:
            self._owners.check_root()
            return _Index()
        except Damaged as damage:
            return self._mend_index(owner, damage)

    def _change_index(self, owner: str, change: Callable[[_Index], _Index]) -> _Index:
        name = _owner_name(owner)
        while True:
            try:
                with self._owners.locked(name):
                    index = change(self._index(name))
                    self._keep(name, index)
                    return index
            except Damaged as damage:
                self._mend_index(owner, damage)

    def _mend_index(self, owner: str, damage: Damaged) -> _Index:
        """Make the owner's index anew from the sessions.

        It isn't known any more what was revoked, so all that there is now is taken to be: the
        generation is set to more than any count of revocations.
        """
        name, now = _owner_name(owner), self.clock()
        with self._owners.locked(name):
            try:
                return self._index(name)
            except Damaged:
                self._owners.set_aside(name)
            generation = max(math.ceil(now), 1)
            entry = OwnedEntry(now, math.inf, generation)
            found = {key: entry for key in self.keys() if self._belongs(key, owner)}
            index = _Index(generation, now, found)
            self._keep(name, index)
        detail = f"the index of an owner: {damage}; made anew, the owner's sessions are revoked"
        self._notify("corrupt_record", name, detail)
        return index

    def _belongs(self, key: str, owner: str) -> bool:
        try:
            return _decode(self._sessions.read(key)).owner == owner
        except (FileNotFoundError, Damaged):
            return False

    # What follows is called with the lock held.

    def _rewrite(self, key: str, changes: Changes, if_version: int | None) -> UpdateResult:
        record = _decode(self._sessions.read(key))
        refused = _refused(record, changes.used_at, if_version)
        if refused is not None:
            return refused
        after = changed(record, changes)
        self._sessions.write(key, _encode(after), nanoseconds(after.expires_at))
        return UpdateResult.UPDATED

    def _touch(self, key: str, changes: Changes, if_version: int | None) -> UpdateResult:
        with self._sessions.opened(key) as file:
            before = _peek(file)
            refused = _refused(before, changes.used_at, if_version)
            if refused is not None:
                return refused
            used_at = before.used_at if changes.used_at is None else changes.used_at
            expires_at = (
                before.expires_at if changes.expires_at is None else deadline(changes.expires_at)
            )
            self._sessions.patch(
                file, _times(used_at, expires_at), _TIMES_AT, nanoseconds(expires_at)
            )
        return UpdateResult.UPDATED

    def _move(
        self, old_key: str, new_key: str, content: bytes, expires_at: float, if_version: int | None
    ) -> UpdateResult:
        with self._sessions.opened(old_key) as file:
            refused = _refused(_peek(file), None, if_version)
        if refused is not None:
            return refused
        if self._sessions.exists(new_key):
            raise StoreError("the new key is taken; nothing was changed")
        self._sessions.write(new_key, content, nanoseconds(expires_at))
        try:
            self._sessions.remove(old_key)
        except OSError:
            self._sessions.remove(new_key)
            raise
        return UpdateResult.UPDATED

    def _expire(self, name: str, now: float) -> bool:
        """Remove a file whose modification time has been reached. Whether it was a record."""
        if not is_key(name):
            self._sessions.remove(name)
            return False
        try:
            with self._sessions.opened(name) as file:
                expires_at = _peek(file).expires_at
                if expires_at > now:
                    # Renewed meanwhile, or a touch was killed between writing and dating.
                    self._sessions.date(file, nanoseconds(expires_at))
                    return False
        except FileNotFoundError:
            return False
        except Damaged:
            pass  # then the modification time is all there is to go by
        return self._sessions.remove(name)

    def _index(self, name: str) -> _Index:
        try:
            return _decode_index(self._owners.read(name))
        except FileNotFoundError:
            return _Index()

    def _prune(self, name: str, now: float) -> None:
        if not is_key(name):
            self._owners.remove(name)
            return
        try:
            index = _decode_index(self._owners.read(name))
        except (FileNotFoundError, Damaged):
            return
        ended = [key for key, entry in index.entries.items() if entry.expires_at <= now]
        index = index.without(ended)
        if not index.entries and index.moved_at <= now - _REMEMBER_GENERATION:
            self._owners.remove(name)
        else:
            self._keep(name, index)

    def _keep(self, name: str, index: _Index) -> None:
        if index.entries or index.generation:
            self._owners.write(name, _encode_index(index), nanoseconds(index.due_at()))
        else:
            self._owners.remove(name)


class _Head(NamedTuple):
    """What can be known of a session without reading its data."""

    used_at: float
    expires_at: float
    version: int


def _refused(
    found: _Head | Record, used_at: float | None, if_version: int | None
) -> UpdateResult | None:
    if used_at is not None and used_at >= found.expires_at:
        return UpdateResult.GONE
    if if_version is not None and found.version != if_version:
        return UpdateResult.CONFLICT
    return None


def _times(used_at: float, expires_at: float) -> bytes:
    times = TIMES.pack(used_at, expires_at)
    return times + _CRC.pack(crc32(times))


def _encode(record: Record) -> bytes:
    packed = pack(record)
    times = _times(record.used_at, deadline(record.expires_at))
    return b"".join((_MAGIC, _CRC.pack(crc32(packed)), times, packed))


def _decode(content: bytes) -> Record:
    checksum, used_at, expires_at = _decode_head(content)
    if checksum != crc32(memoryview(content)[_HEAD.size :]):
        raise Damaged("the data have another checksum")
    try:
        return unpack(content, _HEAD.size, used_at, expires_at)
    except ValueError as error:
        raise Damaged(str(error)) from error


def _decode_head(content: bytes) -> tuple[int, float, float]:
    """Checksum of the data, use and expiry."""
    if len(content) < _HEAD.size or not content.startswith(_MAGIC):
        raise Damaged("not in the format of a session")
    _, checksum, used_at, expires_at, times_checksum = _HEAD.unpack_from(content)
    if times_checksum != crc32(content[_TIMES_AT : _TIMES_AT + TIMES.size]):
        raise Damaged("the times have another checksum")
    if not math.isfinite(used_at) or math.isnan(expires_at):
        raise Damaged("a time is no number")
    return checksum, used_at, expires_at


def _peek(file: int) -> _Head:
    content = os.pread(file, _HEAD.size + VERSION.size, 0)
    _, used_at, expires_at = _decode_head(content)
    if len(content) < _HEAD.size + VERSION.size:
        raise Damaged("cut short")
    return _Head(used_at, expires_at, *VERSION.unpack_from(content, _HEAD.size))


def _encode_index(index: _Index) -> bytes:
    rest = _INDEX_HEAD.pack(index.generation, index.moved_at, len(index.entries))
    rest += b"".join(
        _INDEX_ENTRY.pack(bytes.fromhex(key), entry.added_at, entry.expires_at, entry.generation)
        for key, entry in index.entries.items()
    )
    return _INDEX_MAGIC + _CRC.pack(crc32(rest)) + rest


def _decode_index(content: bytes) -> _Index:
    rest = content[len(_INDEX_MAGIC) + _CRC.size :]
    if not content.startswith(_INDEX_MAGIC + _CRC.pack(crc32(rest))):
        raise Damaged("not in the format of an owner's index, or another checksum")
    try:
        generation, moved_at, count = _INDEX_HEAD.unpack_from(rest)
        entries = {
            key.hex(): OwnedEntry(added_at, expires_at, entry_generation)
            for key, added_at, expires_at, entry_generation in _INDEX_ENTRY.iter_unpack(
                rest[_INDEX_HEAD.size :]
            )
        }
    except struct.error as error:
        raise Damaged(f"cut short: {error}") from error
    if len(entries) != count:
        raise Damaged("the number of entries doesn't add up")
    return _Index(generation, moved_at, entries)


def _owner_name(owner: str) -> str:
    return hashlib.sha256(owner.encode("utf-8", "surrogatepass")).hexdigest()


def _slices(names: list[str]) -> Iterator[list[str]]:
    return (names[start : start + _SLICE] for start in range(0, len(names), _SLICE))


def _absolute(path: object) -> Path:
    try:
        given = os.fspath(path)  # type: ignore[call-overload] # checking this is the point
    except TypeError:
        given = None
    if not isinstance(given, str) or not given or "\0" in given:
        raise ConfigurationError(
            f"FileStore: path is {path!r}; write the path of a directory, as str or Path"
        )
    return Path(given).absolute()


def _checked_mode(mode: object) -> int:
    if isinstance(mode, int) and not isinstance(mode, bool) and mode & ~0o060 == 0o600:
        return mode
    shown = f"{mode:#o}" if isinstance(mode, int) else repr(mode)
    raise ConfigurationError(
        f"FileStore: mode is {shown}; write 0o600, or with the group's bits 0o640 or 0o660"
    )
