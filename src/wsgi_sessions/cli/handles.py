"""Finding the session that a handle means, shortened or not."""

from __future__ import annotations

import re
import time

from ..events import printable
from ..record import is_key
from ..stores import Store
from .printing import Failure

_BEGINNING = re.compile(r"[0-9a-f]{8,63}")


def find_key(store: Store, handle: str) -> str:
    """The key of the live session that this handle, or beginning of a handle, means.

    Needs no encryption key: a record's times can be read without, and so can whether it is a
    session or an owner's list.

    Raises:
        Failure: there is none, or more than one.
    """
    handle = handle.strip().lower()
    if is_key(handle):
        if _is_live(store, handle):
            return handle
    elif _BEGINNING.fullmatch(handle):
        keys = store.keys()
        found = [key for key in keys if key.startswith(handle) and _is_live(store, key)]
        if len(found) == 1:
            return found[0]
        if found:
            raise Failure(
                f"{len(found)} sessions have handles that begin with {handle}; write more digits"
            )
    elif len(handle) < 8:
        raise Failure(
            f"the handle {printable(handle)!r} is too short; write at least its first 8 digits"
        )
    raise Failure(f"there is no live session {printable(handle, 80)!r}; `list` shows the handles")


def _is_live(store: Store, key: str) -> bool:
    record = store.load(key)
    return record is not None and not record.is_owner_list and record.expires_at > time.time()
