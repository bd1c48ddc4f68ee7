"""How expired files are removed along with requests: which to look at next, and when again.

Every few writes, a few files of one sub-directory are looked at; when all of them have been, it is
the next sub-directory's turn, unless it is known that nothing in it can have expired yet. Whether
a file is removed, and under which lock, is up to FileStore.

Threads share one of these without a lock. The worst that can happen is that a file is looked at
twice, or only in the next round.
"""

from __future__ import annotations

from .directory import Directory, nanoseconds

EVERY = 3
"""Writes; so that a round through 256 sub-directories takes less than 800."""
FEW = 16
"""Files that one write looks at, and removes at most: all of a sub-directory, if there are no more.
"""
_FEWER = 4
"""The same where there are more, so that a large store costs a write little more than a small one.
More than `EVERY`, so that removing outruns a flood of new sessions."""
_HOUR_NS = 3600 * 10**9
"""A sub-directory is looked at again after an hour: other processes write to it as well."""
_SHARDS = 256


class Rounds:
    """The rounds through the sub-directories of one directory."""

    def __init__(self, directory: Directory) -> None:
        self._directory = directory
        self._writes = 0
        self._shard = 0
        self._names: list[str] = []
        """Those of the present sub-directory that haven't been looked at."""
        self._at_once = FEW
        self._earliest = 0
        """The earliest deadline that was seen there, or an hour from the beginning."""
        self._quiet: list[tuple[int, int]] = [(0, 0)] * _SHARDS
        """From when until when nothing is to be expected, for each sub-directory."""

    def due(self, now: float) -> list[str]:
        """After a write: the names of a few files of one sub-directory that may have expired.

        Args:
            now: UNIX seconds.
        """
        self._writes += 1
        if self._writes % EVERY:
            return []
        now_ns = nanoseconds(now)
        if not self._names and not self._begin(now_ns):
            return []
        names = self._names[-self._at_once :]
        del self._names[-self._at_once :]
        due: list[str] = []
        for name in names:
            deadline = self._directory.modified_ns(name)
            if deadline is None:
                continue
            self._earliest = min(self._earliest, deadline)
            if deadline <= now_ns:
                due.append(name)
        if not self._names:
            self._quiet[self._shard] = (now_ns, self._earliest)
        return due

    def _begin(self, now_ns: int) -> bool:
        """Go on to the next sub-directory. Whether there is anything to look at."""
        self._shard = (self._shard + 1) % _SHARDS
        since, until = self._quiet[self._shard]
        # Not if the clock was set back.
        if since <= now_ns < until:
            return False
        self._earliest = now_ns + _HOUR_NS
        self._names = self._directory.all_names(f"{self._shard:02x}")
        self._at_once = FEW if len(self._names) <= FEW else _FEWER
        if not self._names:
            self._quiet[self._shard] = (now_ns, self._earliest)
        return bool(self._names)
