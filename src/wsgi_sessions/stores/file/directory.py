"""Files of one private directory, read and written so that nothing is lost, followed or waited for.

Named files are spread over 256 sub-directories by the first two digits of their names. A file is
only ever replaced as a whole, by renaming a temporary one, so readers need no lock; writers hold
the lock file of the sub-directory, and temporary files are made under it. What the files hold and
when they expire is up to FileStore; this module knows only their modification times.
"""

from __future__ import annotations

import contextlib
import errno
import math
import os
import re
import secrets
import stat
from collections.abc import Generator
from pathlib import Path

from ...errors import ConfigurationError, StoreError
from ...record import is_key
from .root import NO_TRAPS, SHARD, Root, make_private

# ruff: noqa: PTH105, PTH108 # this module is about which system call is made

MAX_BYTES = 64 * 1024 * 1024
"""A larger file isn't ours, and won't be read into memory."""
DAMAGED = ".damaged"
"""Added to the name of a file that couldn't be read and was moved out of the way."""

_FIRST_READ = 120 * 1024
"""One call reads most files whole; from 128 KiB on, memory for it comes at a much higher price."""
_LOCK = "lock"
_TEMPORARY = re.compile(r"[0-9a-f]{2}\.[0-9a-f]{16}\.tmp")
_NOT_A_FILE = {errno.ELOOP, errno.EISDIR, errno.ENXIO, errno.EAGAIN, errno.ESPIPE}
_LATEST = 2.0**33
"""Year 2242: all file systems of today keep a time up to here, some none beyond."""


class Damaged(Exception):
    """What is there can't be one of our files."""


class Directory:
    """A private directory.

    Args:
        root: an absolute path; made, with its parents, if it isn't there. It must belong to the
            process's user, must not be a symlink, and nobody else may be allowed to write to it.
        mode: the permissions of files, whatever the umask.
        durable: whether writes and removals are on the disk before they are reported done.

    Methods raise FileNotFoundError for a file that isn't there, Damaged for something else in its
    place, StoreError for a root that is gone, and OSError for whatever else the system reports.
    """

    def __init__(self, root: Path, *, mode: int, durable: bool) -> None:
        try:
            import fcntl  # noqa: PLC0415 # not every platform has it
        except ImportError as error:
            raise ConfigurationError(
                "FileStore needs file locks (fcntl), which this platform doesn't have; use"
                " SQLStore, RedisStore or MemoryStore"
            ) from error
        self._flock = fcntl.flock
        self._lock, self._unlock = fcntl.LOCK_EX, fcntl.LOCK_UN
        self._no_wait = fcntl.LOCK_NB
        self.root: Root = Root(root, mode, lambda file: fcntl.flock(file, fcntl.LOCK_EX))
        self._base = self.root.path
        self._mode = mode
        self._durable = durable

    def path(self, name: str) -> str:
        """The path of the file of this name."""
        return f"{self._base}/{name[:2]}/{name}"

    def read(self, name: str) -> bytes:
        """The whole file. Needs no lock."""
        try:
            file = os.open(f"{self._base}/{name[:2]}/{name}", os.O_RDONLY | NO_TRAPS)
            try:
                content = os.read(file, _FIRST_READ)
                if len(content) == _FIRST_READ:
                    content += _rest(file)
            finally:
                os.close(file)
        except OSError as error:
            raise _damage(error) from error
        return content

    def exists(self, name: str) -> bool:
        """Whether anything has this name. Needs no lock."""
        try:
            os.lstat(self.path(name))
        except FileNotFoundError:
            self.root.check()
            return False
        return True

    @contextlib.contextmanager
    def locked(self, name: str, *, wait: bool = True) -> Generator[bool]:
        """Hold the lock that writing this file needs; waits for whoever holds it.

        Each use opens the lock file anew, so that it excludes other threads as well as other
        processes, and a fork shares nothing. Gives whether the lock is held: False only where
        ``wait`` is.
        """
        lock = self._open_lock(name[:2])
        try:
            held = self._take(lock, wait=wait)
            try:
                yield held
            finally:
                # Closing alone wouldn't do if another thread forked in between.
                self._flock(lock, self._unlock)
        finally:
            os.close(lock)

    @contextlib.contextmanager
    def opened(self, name: str) -> Generator[int]:
        """A descriptor to read and write parts of the file in place. Needs the lock."""
        try:
            file = os.open(self.path(name), os.O_RDWR | NO_TRAPS)
        except OSError as error:
            raise _damage(error) from error
        try:
            if not stat.S_ISREG(os.fstat(file).st_mode):
                raise Damaged("not a regular file")
            yield file
        finally:
            os.close(file)

    def patch(self, file: int, content: bytes, at: int, modified_ns: int) -> None:
        """Overwrite a part of an opened file in place; its length stays. Needs the lock."""
        os.pwrite(file, content, at)
        self.date(file, modified_ns)
        if self._durable:
            os.fsync(file)

    def date(self, file: int, modified_ns: int) -> None:
        """Set the modification time of an opened file. Needs the lock."""
        os.utime(file, ns=(modified_ns, modified_ns))

    def write(self, name: str, content: bytes, modified_ns: int) -> None:
        """Put a file there as a whole, in place of any that was. Needs the lock."""
        if len(content) > MAX_BYTES:
            raise StoreError(f"{len(content)} bytes are too many for one file ({MAX_BYTES})")
        temporary = self.path(f"{name[:2]}.{secrets.token_hex(8)}.tmp")
        try:
            self._write_new(temporary, content, modified_ns)
            os.replace(temporary, self.path(name))
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise
        self._sync_shard(name)

    def remove(self, name: str) -> bool:
        """Remove a file; False if there is none, or something else in its place. Needs the lock."""
        removed = self.discard(name)
        if removed:
            self._sync_shard(name)
        return removed

    def discard(self, name: str) -> bool:
        """The same for files that don't matter: after a power failure one may be back."""
        path = self.path(name)
        try:
            if not stat.S_ISREG(os.lstat(path).st_mode):
                return False
            os.unlink(path)
        except FileNotFoundError:
            return False
        return True

    def set_aside(self, name: str) -> bool:
        """Rename a file that can't be read; False for what isn't a file. Needs the lock."""
        path = self.path(name)
        if not stat.S_ISREG(os.lstat(path).st_mode):
            return False
        os.replace(path, path + DAMAGED)
        return True

    def shards(self) -> list[str]:
        """The sub-directories that there are."""
        try:
            with os.scandir(self._base) as entries:
                found = sorted(
                    entry.name
                    for entry in entries
                    if SHARD.fullmatch(entry.name) and entry.is_dir(follow_symlinks=False)
                )
        except FileNotFoundError:
            found = []
        if not found:
            self.root.check()
        return found

    def names(self, shard: str) -> list[str]:
        """The names of a sub-directory's files, leftovers not among them."""
        with os.scandir(f"{self._base}/{shard}") as entries:
            return [
                entry.name
                for entry in entries
                if _is_name(entry.name, shard) and entry.is_file(follow_symlinks=False)
            ]

    def due(self, shard: str, until_ns: int | None) -> list[str]:
        """The names of our files, leftovers included, whose modification time has been reached;
        None: all of them. Needs no lock, so check again under it.
        """
        with os.scandir(f"{self._base}/{shard}") as entries:
            return [
                entry.name
                for entry in entries
                if _is_ours(entry.name, shard) and _is_due(entry, until_ns)
            ]

    def all_names(self, shard: str) -> list[str]:
        """The names of our files, leftovers included, without looking at them; none if there is no
        such sub-directory.
        """
        try:
            names = os.listdir(f"{self._base}/{shard}")  # noqa: PTH208 # names are wanted, no Paths
        except FileNotFoundError:
            return []
        return [name for name in names if _is_ours(name, shard)]

    def modified_ns(self, name: str) -> int | None:
        """When a file was modified last, 0 for a temporary one; None if it isn't a file."""
        if _is_temporary(name):
            return 0
        try:
            found = os.lstat(self.path(name))
        except FileNotFoundError:
            return None
        return found.st_mtime_ns if stat.S_ISREG(found.st_mode) else None

    def _take(self, lock: int, *, wait: bool) -> bool:
        if wait:
            self._flock(lock, self._lock)
            return True
        try:
            self._flock(lock, self._lock | self._no_wait)
        except BlockingIOError:
            return False
        return True

    def _open_lock(self, shard: str) -> int:
        path = f"{self._base}/{shard}/{_LOCK}"
        try:
            return os.open(path, os.O_RDWR | NO_TRAPS)
        except FileNotFoundError:
            self.root.check()
        directory = f"{self._base}/{shard}"
        if make_private(directory, self._mode) and self._durable:
            _sync(self._base)
        try:
            lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | NO_TRAPS, self._mode)
        except FileExistsError:
            return os.open(path, os.O_RDWR | NO_TRAPS)
        os.fchmod(lock, self._mode)
        return lock

    def _write_new(self, path: str, content: bytes, modified_ns: int) -> None:
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | NO_TRAPS, self._mode)
        try:
            os.fchmod(file, self._mode)  # the umask may have taken some away
            written = os.write(file, content)
            while written < len(content):
                written += os.write(file, content[written:])
            self.date(file, modified_ns)
            if self._durable:
                os.fsync(file)
        finally:
            os.close(file)

    def _sync_shard(self, name: str) -> None:
        if self._durable:
            _sync(f"{self._base}/{name[:2]}")


def nanoseconds(seconds: float) -> int:
    """UNIX seconds as a file's modification time. Never earlier, and in the same order."""
    within = min(max(seconds, 0.0), _LATEST)
    whole = math.floor(within)
    return whole * 1_000_000_000 + math.ceil((within - whole) * 1e9)


def _sync(directory: str) -> None:
    descriptor = os.open(directory, os.O_RDONLY | NO_TRAPS)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _rest(file: int) -> bytes:
    size = os.fstat(file).st_size
    if size > MAX_BYTES:
        raise Damaged(f"{size} bytes, more than any of ours")
    parts: list[bytes] = []
    while part := os.read(file, max(size - _FIRST_READ, 1)):
        parts.append(part)
    return b"".join(parts)


def _damage(error: OSError) -> OSError | Damaged:
    if error.errno in _NOT_A_FILE:
        return Damaged(f"not a regular file: {error.strerror}")
    return error


def _is_name(name: str, shard: str) -> bool:
    return name.startswith(shard) and is_key(name)


def _is_ours(name: str, shard: str) -> bool:
    return _is_name(name.removesuffix(DAMAGED), shard) or _is_temporary(name)


def _is_temporary(name: str) -> bool:
    return _TEMPORARY.fullmatch(name) is not None


def _is_due(entry: os.DirEntry[str], until_ns: int | None) -> bool:
    # A temporary file lives only while its maker holds the lock. So for whoever holds the lock each
    # one that is there was left by a crash, whatever its time.
    try:
        return entry.is_file(follow_symlinks=False) and (
            until_ns is None
            or _is_temporary(entry.name)
            or entry.stat(follow_symlinks=False).st_mtime_ns <= until_ns
        )
    except FileNotFoundError:  # a file may go while its directory is being read
        return False
