"""The store contract: what the core asks of a store, and the accidents that each promise prevents.

A store keeps records and knows nothing of HTTP, cookies, IDs or time limits: the core decides
about expiry, a store's own expiry only reclaims space. `wsgi_sessions.testing.StoreContract` tests
every promise made here.
"""

from __future__ import annotations

import abc
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import ClassVar

from ..record import Changes, OwnedEntry, Record, UpdateResult

StoreListener = Callable[[str, str, str], None]
"""Called with kind (``"corrupt_record"``, ``"evicted"``), store key and a detail for humans."""


class Store(abc.ABC):
    """A place for records.

    Every call is atomic for its key. Absent is ``None``, ``False`` or ``GONE``; a store that can't
    answer raises `StoreError`, and nothing else escapes: an outage taken for "no such session"
    would sign everybody out. Keys are 64 lower-case hexadecimal digits; any other key is absent,
    and inserting under one is a `StoreError`.
    """

    shared: ClassVar[bool] = True
    """Whether records outlive the request and can be reached by key from elsewhere."""

    clock: Callable[[], float] = staticmethod(time.time)
    """UNIX seconds, for the owner index alone; a middleware that was given a clock sets it here."""

    def __init__(self) -> None:
        self._listeners: list[StoreListener] = []

    def subscribe(self, listener: StoreListener) -> None:
        """Have ``listener`` told of damaged records and evictions."""
        self._listeners.append(listener)

    def _notify(self, kind: str, key: str, detail: str) -> None:
        for listener in self._listeners:
            listener(kind, key, detail)

    @abc.abstractmethod
    def load(self, key: str) -> Record | None:
        """The record, or None. May still give one that has expired; never loses a live one.

        A record of which any part can't be read is None as a whole, and listeners are told
        ``corrupt_record``: half a session could be one without its ``is_admin = False``.
        """

    @abc.abstractmethod
    def insert(self, key: str, record: Record) -> bool:
        """Keep a new record. False, and no change, if the key exists: never an overwrite.

        What is kept is a copy: the caller may go on changing the mapping that it passed in.
        """

    @abc.abstractmethod
    def update(self, key: str, changes: Changes, *, if_version: int | None = None) -> UpdateResult:
        """Apply a change set as one step. Never an upsert.

        A session deleted by a logout in another tab must stay deleted when a slower request
        finishes: GONE, and nothing is made. With ``if_version``, CONFLICT and no change unless the
        record has just that version. Where ``changes.used_at`` is given, a record that expired at
        or before that time is GONE too. Fields that aren't named keep what another request wrote.
        An expiry that the store has of its own moves in the same step. A change of fields or notes
        raises the version by one; a mere touch leaves it, so that it never fails a transaction.
        """

    @abc.abstractmethod
    def replace(
        self, old_key: str, new_key: str, record: Record, *, if_version: int | None = None
    ) -> UpdateResult:
        """Put ``record`` under ``new_key`` only if ``old_key`` is still there; the old one goes.

        GONE or CONFLICT: nothing is inserted, the old one stays as it was. A ``new_key`` that
        exists is never overwritten: StoreError. ``new_key`` differs from ``old_key``.
        """

    @abc.abstractmethod
    def delete(self, key: str, *, if_version: int | None = None) -> bool:
        """Remove a record. True if it existed (and had the version asked for)."""

    @abc.abstractmethod
    def purge_expired(self, now: float) -> int:
        """Remove what expired at or before ``now`` (UNIX seconds), index entries and leftovers.

        Returns how many records went; 0 where the store's own expiry sees to it. Requests go on
        meanwhile, and a record that one of them renews stays.
        """

    @abc.abstractmethod
    def keys(self) -> Iterator[str]:
        """All keys, in no order; expired ones may be among them."""

    @abc.abstractmethod
    def clear(self) -> None:
        """Remove all that this store keeps, and nothing that isn't its own."""

    @abc.abstractmethod
    def ping(self) -> None:
        """Ask for a sign of life. Raises StoreError if there is none."""

    @abc.abstractmethod
    def close(self) -> None:
        """Give back connections and files. The store may be used again afterwards."""

    @abc.abstractmethod
    def add_owned(self, owner: str, key: str, expires_at: float) -> int:
        """Enter ``key`` in the owner's index (anew if it is there), and tell the generation.

        The index lives at least until its latest entry's ``expires_at`` (``inf``: until removed).
        """

    @abc.abstractmethod
    def owned_by(self, owner: str) -> Mapping[str, OwnedEntry]:
        """The owner's index: entries by key. May list too much, never too little."""

    @abc.abstractmethod
    def remove_owned(self, owner: str, keys: Collection[str]) -> None:
        """Take keys out of the owner's index; unknown ones are fine. The generation stays."""

    @abc.abstractmethod
    def generation(self, owner: str) -> int:
        """The owner's generation; 0 to begin with."""

    @abc.abstractmethod
    def next_generation(self, owner: str) -> int:
        """Raise the owner's generation by one and tell it.

        It must be remembered for a day at least, even when the index is empty: a login that is
        under way compares with it (`SessionRegistry.revoke_all`).
        """
