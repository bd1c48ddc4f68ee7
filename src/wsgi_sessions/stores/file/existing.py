"""A FileStore as the command line sees it: one that is there already, and stays as it is.

Making a FileStore creates its directory, and reading a damaged file moves it out of the way. A
command that only looks must do neither.
"""

from __future__ import annotations

import os
import stat

from ...errors import ConfigurationError, StoreError
from ...record import Record
from .directory import Damaged
from .formats import decode
from .root import MARKER
from .store import FileStore

_READINGS = 3
"""A file that is being touched can look damaged once, but hardly twice."""


class UnusableDirectory(ConfigurationError):
    """The state of the directory, not the way it was named, keeps a FileStore from using it."""


class ExistingFiles(FileStore):
    """The sessions in a directory that an app has made.

    Args:
        path: the directory.

    Raises:
        StoreError: there is none, no FileStore has ever been there, or it can't be looked into.
        UnusableDirectory: where FileStore raises ConfigurationError.
    """

    def __init__(self, path: str) -> None:
        # A symlink, and what can't be a path, are explained by FileStore.
        try:
            if not stat.S_ISLNK(os.lstat(path).st_mode):
                os.lstat(f"{path}/{MARKER}")
        except ValueError:
            pass
        except OSError as error:
            raise StoreError(_problem(path, error), operation="open") from error
        try:
            super().__init__(path)
        except ConfigurationError as error:
            raise UnusableDirectory(str(error)) from error

    def _load_locked(self, key: str) -> Record | None:
        detail = ""
        for _ in range(_READINGS):
            try:
                return decode(self._sessions.read(key))
            except FileNotFoundError:
                return None
            except Damaged as error:
                detail = f"{error}; left as it is"
        self._notify("corrupt_record", key, detail)
        return None


def _problem(path: str, error: OSError) -> str:
    if not isinstance(error, (FileNotFoundError, NotADirectoryError)):
        return f"{path} can't be looked into: {error.strerror}; run this as the app's user"
    if error.filename == path:
        return f"there is no directory {path}"
    return (
        f"{path} is not the directory of a FileStore: the file {MARKER}, which one makes at its"
        " start, isn't there"
    )
