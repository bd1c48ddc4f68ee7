"""A fork takes nothing of SQLite's along.

SQLite keeps a table of the locks that this process has on a file. In a child it would be a copy of
the parent's, and wrong: what a thread of the parent was writing would keep the child from writing
for ever, and the child would take none of the locks by which others know that the file is in use,
so that they would take away the write-ahead log under it
(https://www.sqlite.org/howtocorrupt.html#_carrying_an_open_database_file_across_a_fork_).

So before a fork the calls that are under way are waited for, and then all connections are closed.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
import weakref
from collections.abc import Generator
from typing import Final

import sqlalchemy as sa

PATIENCE: Final = 5.0
"""Seconds that a fork waits for: calls take less, unless they wait for another process."""
_PAUSE = 0.001

_engines: weakref.WeakSet[sa.Engine] = weakref.WeakSet()
_turnstile = threading.RLock()
"""A call passes it as it begins; it is held across a fork."""
_under_way: set[object] = set()


def close_at_fork(engine: sa.Engine) -> None:
    """From now on, close this engine's connections before a fork."""
    _engines.add(engine)


@contextlib.contextmanager
def call() -> Generator[None]:
    """Something is done with a connection, which a fork waits for."""
    token = object()
    with _turnstile:
        _under_way.add(token)
    try:
        yield
    finally:
        _under_way.discard(token)


def _before_fork() -> None:
    _turnstile.acquire()
    until = time.monotonic() + PATIENCE
    while _under_way and time.monotonic() < until:
        time.sleep(_PAUSE)
    if not _under_way:
        for engine in list(_engines):
            engine.dispose()


if hasattr(os, "register_at_fork"):  # pragma: no branch # there is no fork without it
    os.register_at_fork(
        before=_before_fork, after_in_parent=_turnstile.release, after_in_child=_turnstile.release
    )
    os.register_at_fork(after_in_child=_under_way.clear)
