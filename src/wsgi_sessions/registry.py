"""SessionRegistry: see and end the sessions of a user, from anywhere that reaches the store.

Ending is complete: a login that races with `revoke_all` either happened after it, or is revoked by
it. The index that this goes by, and how it is healed, is in owners.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from .errors import StoreError, UnsupportedByStore
from .events import EventSink
from .lifecycle import deadline_of
from .data.notes import dump_notes
from .owners import Limits, Live, load_live, owned
from .record import Changes, UpdateResult, is_key
from .session import Session, visit_of
from .stores.base import Store

_ATTEMPTS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionInfo:
    """What may be shown of a session. Times are aware, UTC."""

    handle: str
    """The public name, to revoke it by."""
    created_at: datetime
    last_used_at: datetime
    expires_at: datetime
    """When it ends unless it is used again."""
    authenticated_at: datetime | None
    label: Mapping[str, str]
    owner: str | None


class SessionRegistry:
    """The sessions of a store, by owner and by handle.

    Args:
        store: the store that the middleware uses.
        clock: gives UNIX seconds; None is the system's.
        limits: the middleware's lifetime, which may be shorter than what a record says.
        events: where revocations are reported.

    Every method raises StoreError if the store can't answer, and UnsupportedByStore if the data
    lives with the clients.
    """

    def __init__(
        self,
        store: Store,
        *,
        clock: Callable[[], float] | None = None,
        limits: Limits | None = None,
        events: EventSink | None = None,
    ) -> None:
        self._shared_store = store
        self._clock = time.time if clock is None else clock
        self._limits = Limits() if limits is None else limits
        self._events = events

    @property
    def _store(self) -> Store:
        if not getattr(self._shared_store, "shared", True):
            raise UnsupportedByStore(
                "the sessions live with the clients, so the server can neither list nor end them;"
                " use a store on the server"
            )
        return self._shared_store

    def sessions(self, owner: str) -> list[SessionInfo]:
        """The owner's live sessions, newest use first."""
        live = owned(self._store, owner, self._limits, self._clock()).live
        live.sort(key=lambda session: session.record.used_at, reverse=True)
        return [self._info(session) for session in live]

    def count(self, owner: str) -> int:
        """How many live sessions the owner has."""
        return len(owned(self._store, owner, self._limits, self._clock()).live)

    def get(self, handle: str) -> SessionInfo | None:
        """The live session of this handle, or None."""
        session = self._live(handle)
        return None if session is None else self._info(session)

    def __iter__(self) -> Iterator[str]:
        """The handles of all live sessions, in no order. Reads every record."""
        return (key for key in self._store.keys() if self._live(key) is not None)  # noqa: SIM118 # a store is no mapping

    def revoke(self, handle: str) -> bool:
        """End the session of this handle. False if there is no such live one."""
        session = self._live(handle)
        if session is None or not self._store.delete(handle):
            return False
        if session.record.owner is not None:
            self._store.remove_owned(session.record.owner, [handle])
        self._report(handle, session.record.owner)
        return True

    def revoke_all(self, owner: str, *, except_: Session | str | None = None) -> int:
        """End all sessions of the owner; returns how many were live.

        If it breaks off in the middle (StoreError), calling it again, or listing, finishes it.

        Args:
            owner: the app's name for the user.
            except_: a Session, or a handle, to spare: "sign out everywhere else". A session that
                gets a new ID in this very request is spared under that, too. One that another
                request rotates at this very moment may be ended with the rest: the safe side.
        """
        store, now = self._store, self._clock()
        spared = _spared(except_)
        generation = store.next_generation(owner)
        entries = store.owned_by(owner)
        for key in spared:
            self._carry_over(key, owner, generation)
        if isinstance(except_, Session):
            _carry_over_visit(except_, owner, generation)
        count = 0
        # A login that learnt the new generation came after this, and its entry must stay: a session
        # that isn't listed would outlive the next revoke_all.
        gone = [
            key
            for key, entry in entries.items()
            if key not in spared and entry.generation < generation
        ]
        for key in gone:
            was_live = load_live(store, key, self._limits, now) is not None
            if store.delete(key) and was_live:
                count += 1
                self._report(key, owner)
        store.remove_owned(owner, gone)
        return count

    def purge_expired(self) -> int:
        """Remove what has expired from the store; returns how many records went."""
        return self._store.purge_expired(self._clock())

    def _live(self, handle: str) -> Live | None:
        if not is_key(handle):
            return None
        return load_live(self._store, handle, self._limits, self._clock())

    def _info(self, session: Live) -> SessionInfo:
        record, notes = session.record, session.notes
        ends = deadline_of(record, notes, idle=self._limits.idle, absolute=self._limits.absolute)
        return SessionInfo(
            handle=session.key,
            created_at=datetime.fromtimestamp(notes.created_at, UTC),
            last_used_at=datetime.fromtimestamp(record.used_at, UTC),
            expires_at=datetime.fromtimestamp(ends, UTC),
            authenticated_at=(
                None
                if notes.authenticated_at is None
                else datetime.fromtimestamp(notes.authenticated_at, UTC)
            ),
            label=dict(notes.label),
            owner=record.owner,
        )

    def _carry_over(self, key: str, owner: str, generation: int) -> None:
        """Have a spared session take over the new generation.

        So that its next ID isn't taken for one that was revoked.
        """
        for _ in range(_ATTEMPTS):
            session = load_live(self._store, key, self._limits, self._clock())
            if session is None or session.record.owner != owner:
                return
            notes = session.notes._replace(generation=generation)
            written = self._store.update(
                key, Changes(notes=dump_notes(notes)), if_version=session.record.version
            )
            if written is not UpdateResult.CONFLICT:
                return
        raise StoreError("the spared session is being changed too fast", operation="update")

    def _report(self, handle: str, owner: str | None) -> None:
        if self._events is not None:
            self._events.emit("revoked", handle=handle, owner=owner)


def _spared(except_: Session | str | None) -> set[str]:
    """The store keys to spare: of the record that the request loaded, and of the one to come."""
    if except_ is None:
        return set()
    if isinstance(except_, str):
        return {except_}
    spared = {except_.handle}
    visit = visit_of(except_)
    if visit is not None and visit.stored is not None:
        spared.add(visit.stored.key)
    return spared


def _carry_over_visit(session: Session, owner: str, generation: int) -> None:
    visit = visit_of(session)
    if visit is None or visit.owner != owner:
        return
    visit.notes = visit.notes._replace(generation=generation)
    if visit.place is not None:
        visit.place = (visit.place[0], generation)
