"""FileStore itself: the nine methods, and what counts as a record, as damaged, and as absent.

A file's modification time is when it expires, so purging reads no content; but the times inside
decide, so that tampering with it changes nothing.
"""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

from ..._options import check_flag, checked_options
from ...errors import ConfigurationError, StoreError
from ...record import Changes, Record, UpdateResult, is_key
from ..base import Store
from ..packing import as_use, changed, check_new_key, deadline
from .cleaning import Rounds
from .directory import DAMAGED, Damaged, Directory, nanoseconds
from .formats import TIMES_AT, decode, encode, encode_times, peek, refused

_SLICE = 64
"""How many files are removed before other processes get the lock."""

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
            cause = error.with_traceback(None)  # its frames hold what is written
            raise self._store_error(operation, error) from cause  # pyright: ignore[reportPrivateUsage] # of this module

    return checked


@checked_options
class FileStore(Store):
    """A store in the files of one directory, shared by all threads and processes that use it.

    Args:
        path: the directory; made, with mode 0700, if it isn't there. On a local file system.
        durable: True: what a call has written is on the disk when it returns (fsync), so that it
            survives a power failure. A killed process loses nothing either way.
        mode: the permissions of the files, whatever the umask: 0o600, or with group bits, which
            its sub-directories then have, too; ``path`` itself is opened to the group by hand.

    Raises:
        ConfigurationError: the directory can't be made or written to, is a symlink, belongs to
            another user, or others may write to it; or the platform has no file locks.
    """

    def __init__(
        self, path: str | os.PathLike[str], durable: bool = False, mode: int = 0o600
    ) -> None:
        check_flag("FileStore", "durable", durable)
        self._sessions = Directory(_absolute(path), mode=_checked_mode(mode), durable=durable)
        self._rounds = Rounds(self._sessions)
        self._durable = durable

    @property
    def path(self) -> Path:
        """The directory, as it was resolved at construction."""
        return Path(self._sessions.root.path)

    def __repr__(self) -> str:
        return f"FileStore({self._sessions.root.path!r}, durable={self._durable})"

    @_answers
    def load(self, key: str) -> Record | None:
        """The record, or None. Takes no lock."""
        if not is_key(key):
            return None
        try:
            return decode(self._sessions.read(key))
        except FileNotFoundError:
            self._sessions.root.check()
            return None
        except Damaged:
            # Or caught in the middle of a touch.
            return self._load_locked(key)

    @_answers
    def insert(self, key: str, record: Record) -> bool:
        """Keep a new record. False, and no change, if the key exists."""
        check_new_key(key, "insert")
        content = encode(record)
        with self._sessions.locked(key):
            if self._sessions.exists(key):
                return False
            if record.is_owner_list and self._is_aside(key, record.used_at):
                # The sessions on a list that can't be read live on: it isn't to be begun anew.
                return False
            self._sessions.write(key, content, nanoseconds(record.expires_at))
        self._clean(record.used_at)
        return True

    @_answers
    def update(
        self,
        key: str,
        changes: Changes,
        *,
        if_epoch: int | None = None,
        if_version: int | None = None,
    ) -> UpdateResult:
        """Apply a change set in one step. Never an upsert."""
        if not is_key(key):
            return UpdateResult.GONE
        if if_epoch is None and if_version is None and changes == _NO_CHANGES:
            # Whether it can be read isn't asked.
            return UpdateResult.UPDATED if self._is_there(key) else UpdateResult.GONE
        if not self._sessions.exists(key):
            if if_version is None or changes.used_at is None:
                return UpdateResult.GONE
            # It has no version that could be asked for.
            aside = self._is_aside(key, changes.used_at)
            return UpdateResult.CONFLICT if aside else UpdateResult.GONE
        if changes.used_at is not None:
            as_use(changes.used_at)
        apply = self._touch if changes.is_touch else self._rewrite
        try:
            with self._sessions.locked(key):
                result = apply(key, changes, if_epoch, if_version)
        except FileNotFoundError:
            self._sessions.root.check()
            return UpdateResult.GONE
        except Damaged:
            self._load_locked(key)
            return UpdateResult.GONE
        if changes.used_at is not None:
            self._clean(changes.used_at)
        return result

    @_answers
    def delete(self, key: str, *, if_version: int | None = None) -> bool:
        """Remove a record. True if it existed (and had the version asked for)."""
        if not is_key(key) or not self._is_there(key):
            return False
        try:
            with self._sessions.locked(key):
                if if_version is not None:
                    with self._sessions.opened(key) as file:
                        if peek(file).version != if_version:
                            return False
                went = self._sessions.remove(key + DAMAGED)
                return self._sessions.remove(key) or went
        except FileNotFoundError:
            self._sessions.root.check()
        except Damaged:
            self._load_locked(key)
        return False

    @_answers
    def purge_expired(self, now: float) -> int:
        """Remove what expired at or before ``now`` (UNIX seconds), and leftovers.

        Returns how many records went. Opens only what is about to go.

        Raises:
            StoreError: a file or a sub-directory can't be looked at or changed, and all others
                went; or the directory can't be.
        """
        until = nanoseconds(now)
        removed = 0
        failures: list[OSError] = []
        for shard in self._sessions.shards():
            with _noting(failures):
                for names in _slices(self._sessions.due(shard, until)):
                    with self._sessions.locked(shard):
                        for name in names:
                            with _noting(failures):
                                removed += self._expire(name, now)
        _raise_last(failures)
        return removed

    def keys(self) -> Iterator[str]:
        """All keys, in no order; expired ones may be among them.

        Raises:
            StoreError: a sub-directory can't be looked at, and all other keys were given; or the
                directory can't be.
        """
        try:
            failures: list[OSError] = []
            for shard in self._sessions.shards():
                names: list[str] = []
                with _noting(failures):
                    names = self._sessions.names(shard)
                yield from names
            _raise_last(failures)
        except (OSError, StoreError) as error:
            raise self._store_error("keys", error) from error

    @_answers
    def clear(self) -> None:
        """Remove all sessions, lists and leftovers, and no file that isn't this store's.

        Raises:
            StoreError: as for `purge_expired`.
        """
        failures: list[OSError] = []
        for shard in self._sessions.shards():
            with _noting(failures):
                for names in _slices(self._sessions.due(shard, None)):
                    with self._sessions.locked(shard):
                        for name in names:
                            with _noting(failures):
                                self._sessions.remove(name)
        _raise_last(failures)

    @_answers
    def ping(self) -> None:
        """Raises StoreError if the directory is gone, or can't be read."""
        self._sessions.root.ping()

    def close(self) -> None:
        """There is nothing to close: every call opens and closes what it needs."""

    def _store_error(self, operation: str, error: OSError | StoreError) -> StoreError:
        return StoreError(self._sessions.root.explain(error), operation=operation)

    def _is_there(self, key: str) -> bool:
        """Whether there is a record, be it one that couldn't be read and was moved aside."""
        return self._sessions.exists(key) or self._sessions.exists(key + DAMAGED)

    def _is_aside(self, key: str, now: float) -> bool:
        """Whether a record was moved aside that hasn't expired."""
        expires_ns = self._sessions.modified_ns(key + DAMAGED)
        return expires_ns is not None and expires_ns > nanoseconds(now)

    def _load_locked(self, key: str) -> Record | None:
        """Read what looked damaged once more, while nobody writes; if it is, set it aside."""
        with self._sessions.locked(key):
            try:
                return decode(self._sessions.read(key))
            except FileNotFoundError:
                return None
            except Damaged as damage:
                moved = self._sessions.set_aside(key)
                detail = f"{damage}; " + ("moved aside" if moved else "left as it is")
        self._notify("corrupt_record", key, detail)
        return None

    def _clean(self, now: float) -> None:
        """Remove a few files that have expired, if it is time to."""
        # The caller's work is done, whether this succeeds or not; and it doesn't wait for a lock.
        with contextlib.suppress(OSError, StoreError):
            due = self._rounds.due(now)
            if not due:
                return
            with self._sessions.locked(due[0], wait=False) as held:
                if not held:
                    return
                for name in due:
                    with contextlib.suppress(OSError):
                        self._expire(name, now)

    # What follows is called with the lock held.

    def _rewrite(
        self, key: str, changes: Changes, if_epoch: int | None, if_version: int | None
    ) -> UpdateResult:
        record = decode(self._sessions.read(key))
        answer = refused(record, changes.used_at, if_epoch, if_version)
        if answer is not None:
            return answer
        after = changed(record, changes)
        self._sessions.write(key, encode(after), nanoseconds(after.expires_at))
        return UpdateResult.UPDATED

    def _touch(
        self, key: str, changes: Changes, if_epoch: int | None, if_version: int | None
    ) -> UpdateResult:
        with self._sessions.opened(key) as file:
            before = peek(file)
            answer = refused(before, changes.used_at, if_epoch, if_version)
            if answer is not None:
                return answer
            used_at = before.used_at if changes.used_at is None else changes.used_at
            expires_at = (
                before.expires_at if changes.expires_at is None else deadline(changes.expires_at)
            )
            if (used_at, expires_at) != (before.used_at, before.expires_at):
                times = encode_times(used_at, expires_at)
                self._sessions.patch(file, times, TIMES_AT, nanoseconds(expires_at))
        return UpdateResult.UPDATED

    def _expire(self, name: str, now: float) -> bool:
        """Remove a file whose modification time has been reached. Whether it was a record."""
        if not is_key(name):
            self._sessions.discard(name)
            return False
        try:
            with self._sessions.opened(name) as file:
                expires_at = peek(file).expires_at
                if expires_at > now:
                    # Renewed meanwhile, or a touch was killed between writing and dating.
                    self._sessions.date(file, nanoseconds(expires_at))
                    return False
        except FileNotFoundError:
            return False
        except Damaged:
            pass  # then the modification time is all there is to go by
        return self._sessions.discard(name)


_NO_CHANGES = Changes()


@contextlib.contextmanager
def _noting(failures: list[OSError]) -> Generator[None]:
    """Note what goes wrong, so that the rest is done all the same."""
    try:
        yield
    except OSError as error:
        failures.append(error)


def _raise_last(failures: list[OSError]) -> None:
    if failures:
        raise failures[-1]


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
    if "://" in given or given.startswith("~"):
        # Not quoted where it may be a URL with a password in it.
        shown, instead = (
            ("begins with ~, which only a shell expands", "os.path.expanduser(path)")
            if given.startswith("~")
            else ("is a URL", "a plain path, or SessionMiddleware(…, store=url)")
        )
        raise ConfigurationError(f"FileStore: path {shown}; write {instead}")
    return Path(given).absolute()


def _checked_mode(mode: object) -> int:
    if isinstance(mode, int) and not isinstance(mode, bool) and mode & ~0o060 == 0o600:
        return mode
    shown = f"{mode:#o}" if isinstance(mode, int) else repr(mode)
    raise ConfigurationError(
        f"FileStore: mode is {shown}; write 0o600, or with the group's bits 0o640 or 0o660"
    )
