"""The directory that a FileStore was given: private, and still the one that it was at the start.

An unmounted directory looks empty; taken for that, it would sign everybody out. Device and inode
tell directories apart as long as nothing moves, but not on an overlay over two file systems, nor
after mounting it again: so a file in it holds a random marker, which is compared where they differ.
"""

from __future__ import annotations

import os
import re
import secrets
import stat
from collections.abc import Callable
from pathlib import Path

from ...errors import ConfigurationError, StoreError

# ruff: noqa: PTH101, PTH102 # this module is about which system call is made

MARKER = ".wsgi-sessions"
SHARD = re.compile(r"[0-9a-f]{2}")
"""The names of sub-directories."""
NO_TRAPS = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
"""A symlink isn't followed, a FIFO isn't waited for. (That child processes inherit nothing is
`os.open`'s way, PEP 446.)"""

_MARK = re.compile(rb"wsgi-sessions file store [0-9a-f]{32}\n")
_MARK_BYTES = 100
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


class Root:
    """A directory of the process's user, which nobody else may write to; made if it isn't there.

    Args:
        path: an absolute path.
        mode: the permissions of files, whatever the umask.
        flock: how a file is locked until it is closed.
    """

    def __init__(self, path: Path, mode: int, flock: Callable[[int], None]) -> None:
        _make(path)
        self.path: str = str(path)
        found = _checked(self.path)
        self._owner = found.st_uid
        self._seen = found.st_dev, found.st_ino
        _check_inside(self.path)
        try:
            self._mark = self._read_mark() or self._make_mark(mode, flock)
        except OSError as error:
            raise ConfigurationError(
                f"FileStore: {self.path} can't be written to: {self.explain(error)}; name a"
                " directory that the app's user may write to"
            ) from error
        if _MARK.fullmatch(self._mark) is None:
            raise ConfigurationError(
                f"FileStore: {self.path}/{MARKER} is not from a FileStore, so the directory isn't"
                " either; name a directory of its own"
            )

    def check(self) -> None:
        """Make sure that the directory is still the one that was there at the start.

        Raises:
            StoreError: it isn't.
        """
        try:
            found = os.lstat(self.path)
        except PermissionError:
            raise
        except OSError as error:
            raise StoreError(
                f"the directory {self.path} is gone: {error.strerror}; mount it or put it back, or"
                " restart the app if that was meant"
            ) from error
        identity = found.st_dev, found.st_ino
        if identity == self._seen:
            return
        if self._read_mark() != self._mark:
            raise StoreError(
                f"{self.path} is another directory than at the start (unmounted? replaced?);"
                " restart the app if that was meant"
            )
        self._seen = identity

    def ping(self) -> None:
        """The same, and make sure that this process may look into it."""
        self.check()
        os.close(os.open(self.path, os.O_RDONLY | NO_TRAPS))

    def explain(self, error: OSError | StoreError) -> str:
        """What the system reported and, where it helps, what probably caused it."""
        user = os.geteuid()
        if not isinstance(error, PermissionError) or user == self._owner:
            return str(error)
        return (
            f"{error}; the directory belongs to {_named(self._owner)}, and this process runs as"
            f" {_named(user)}. A server that starts as one user and serves as another (gunicorn"
            " with --preload and --user) has to make the store as the one that serves: make it"
            f" after the fork, or give that user the directory with chown -R before the start"
        )

    def _read_mark(self) -> bytes:
        """What the marker holds; nothing if there is none, or nothing in it yet."""
        try:
            file = os.open(f"{self.path}/{MARKER}", os.O_RDONLY | NO_TRAPS)
        except FileNotFoundError:
            return b""
        try:
            return os.read(file, _MARK_BYTES)
        finally:
            os.close(file)

    def _make_mark(self, mode: int, flock: Callable[[int], None]) -> bytes:
        """Write the marker, unless another process that is starting was faster."""
        file = os.open(f"{self.path}/{MARKER}", os.O_RDWR | os.O_CREAT | NO_TRAPS, mode)
        try:
            flock(file)
            mark = os.read(file, _MARK_BYTES)
            if not mark:
                os.fchmod(file, mode)  # the umask may have taken some away
                mark = b"wsgi-sessions file store %s\n" % secrets.token_hex(16).encode()
                os.write(file, mark)
            return mark
        finally:
            os.close(file)


def make_private(directory: str, mode: int = 0o600) -> bool:
    """Make a directory for files of this mode; False if there is one.

    Whoever may read or write them may do so with the directory, and nobody else look into it.
    """
    try:
        os.mkdir(directory, 0o700)
    except FileExistsError:
        return False
    group = mode & 0o060
    os.chmod(directory, 0o700 | group | bool(group) * 0o010)  # the umask may have taken some away
    return True


def _make(root: Path) -> None:
    try:
        for directory in (*reversed(root.parents), root):
            if not directory.exists():
                make_private(str(directory))
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            f"FileStore: the directory {str(root)!r} can't be made: {error}; name one that the"
            " app's user may make or write to"
        ) from error


def _checked(root: str) -> os.stat_result:
    found = os.lstat(root)
    if stat.S_ISLNK(found.st_mode):
        problem = "a symlink; name the directory itself"
    elif not stat.S_ISDIR(found.st_mode):
        problem = "not a directory; name one"
    elif found.st_uid != os.geteuid():
        problem = (
            f"owned by {_named(found.st_uid)}, and this process is {_named(os.geteuid())}; run as"
            " that user, or name a directory of its own"
        )
    elif found.st_mode & _OTHERS_WRITE:
        mode = f"{stat.S_IMODE(found.st_mode):04o}"
        problem = f"open for others to write to (mode {mode}); name a directory of its own"
        # Never advise to close a directory that others use, such as /tmp, which has the sticky bit.
        if not found.st_mode & stat.S_ISVTX and _holds_sessions_alone(root):
            problem += ", or chmod it to 0700"
    else:
        return found
    raise ConfigurationError(f"FileStore: {root} is {problem}")


def _holds_sessions_alone(root: str) -> bool:
    with os.scandir(root) as entries:
        return all(SHARD.fullmatch(entry.name) or entry.name == MARKER for entry in entries)


def _check_inside(root: str) -> None:
    """No symlink may lead out of the store."""
    with os.scandir(root) as entries:
        for entry in entries:
            if (SHARD.fullmatch(entry.name) or entry.name == MARKER) and entry.is_symlink():
                raise ConfigurationError(
                    f"FileStore: {entry.path} is a symlink, which leads out of the store; remove it"
                )


def _named(user: int) -> str:
    import pwd  # noqa: PLC0415 # not every platform has it, and only a message needs it

    try:
        return f"user {pwd.getpwuid(user).pw_name} ({user})"
    except KeyError:
        return f"user {user}"
