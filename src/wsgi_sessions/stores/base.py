"""The store contract: what the engine asks of a store, and the accident that each promise prevents.

A store keeps records and knows nothing of HTTP, cookies, IDs, owners' lists or time limits: the
engine decides about expiry, and a store's own expiry only reclaims space. Every promise made here
is tested by `wsgi_sessions.testing.StoreContract`.
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Iterator, Sequence

from ..record import Changes, Record, UpdateResult

StoreListener = Callable[[str, str, str], None]
"""Called with a kind (``"corrupt_record"``, ``"evicted"``), a store key and a detail for humans."""


class Store(abc.ABC):
    """A place for records.

    Each call is atomic for its key. Absent is ``None``, ``False`` or ``GONE``; a store that can't
    answer raises `StoreError`, and nothing else escapes, whichever class the client library raised:
    an outage taken for "no such session" would sign everybody out. Keys are 64 lower-case
    hexadecimal digits; anything else is absent, and inserting under it is a `StoreError`.

    One store is used by many threads at once, and goes on working in a child process after a fork.
    What other processes changed counts from the next call on: a session that ended in one worker
    must not go on in another that remembers it.
    """

    # No __init__, which a store of one's own would have to call.
    _listeners: Sequence[StoreListener] = ()

    def subscribe(self, listener: StoreListener) -> None:
        """Have ``listener`` called for damaged records and evictions."""
        self._listeners = (*self._listeners, listener)

    def _notify(self, kind: str, key: str, detail: str) -> None:
        for listener in self._listeners:
            listener(kind, key, detail)

    @abc.abstractmethod
    def load(self, key: str) -> Record | None:
        """The record, or None. May still return an expired one; never loses a live one.

        A record with a part that can't be read is None as a whole, and reported to listeners as
        ``corrupt_record``: half a session could be one without its ``is_admin = False``.
        """

    @abc.abstractmethod
    def insert(self, key: str, record: Record) -> bool:
        """Keep a new record. False, and no change, if the key exists: never an overwrite.

        What is kept is a copy: the caller may go on changing the mapping that it passed in. An
        expired record in the way may be replaced or reported as existing; a live one is never
        touched. Nothing that an earlier record of this key held comes back.
        """

    @abc.abstractmethod
    def update(
        self,
        key: str,
        changes: Changes,
        *,
        if_epoch: int | None = None,
        if_version: int | None = None,
    ) -> UpdateResult:
        """Apply a change set in one step. Never an upsert.

        A session that a sign-out in another tab has deleted must stay deleted when a slower request
        finishes: GONE, and nothing is created. With ``if_epoch``, a record of another epoch is GONE
        too, so that what a request loaded before a sign-in can't be written into the session after
        it. With ``if_version``, CONFLICT and no change unless the record has just that version;
        GONE takes precedence over CONFLICT. Where ``changes.used_at`` is given, a record that
        expired at or before that time is GONE. Fields that aren't named keep what another request
        wrote (unless ``changes.keep`` says otherwise). An expiry that the store has of its own
        moves in the same step. Everything but a mere touch raises the version by one, so that a
        touch never fails a transaction.
        """

    @abc.abstractmethod
    def delete(self, key: str, *, if_version: int | None = None) -> bool:
        """Remove a record. True if it existed (and had the version asked for)."""

    @abc.abstractmethod
    def purge_expired(self, now: float) -> int:
        """Remove what expired at or before ``now`` (UNIX seconds), and leftovers of crashes.

        Returns how many records went, and no others; 0 if the store's own expiry takes care of it.
        Requests go on meanwhile, and a record that one of them renews stays.
        """

    @abc.abstractmethod
    def keys(self) -> Iterator[str]:
        """All keys, in no order; expired ones may be among them.

        Records come, change and go while somebody goes through them, also by the same hand, as in
        a loop that ends each session: nothing is raised then, and what is there all the while is
        listed.
        """

    @abc.abstractmethod
    def clear(self) -> None:
        """Remove everything that this store keeps, and nothing else."""

    @abc.abstractmethod
    def ping(self) -> None:
        """Check that the place where records are kept answers.

        Raises:
            StoreError: it doesn't.
        """

    @abc.abstractmethod
    def close(self) -> None:
        """Close connections and files. The records stay, and the store may be used again."""
