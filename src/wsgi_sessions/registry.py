"""SessionRegistry: see and end the sessions of a user, from anywhere that reaches the store.

Ending is complete: a login that races with `revoke_all` either happens after it, or is revoked by
it. The lists that this relies on, and how they are healed, are in engine.owners.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from .engine.owners import UNREADABLE, Limits, LiveSession, OwnerLists, is_readable, live_session
from .errors import StoreError, UnsupportedByStore
from .events import EventSink
from .record import is_key
from .session import Session
from .stores.base import Store
from .stores.guarded import check_methods, guarded


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionInfo:
    """What may be shown about a session. Times are aware, UTC."""

    handle: str
    """The public name, to revoke it by."""
    created_at: datetime
    last_used_at: datetime
    expires_at: datetime
    """When it ends unless it is used again."""
    authenticated_at: datetime | None
    label: Mapping[str, str]
    owner: str | None
    device_bound: bool = False
    """Whether it is bound to the device that it was begun on (see DeviceBinding)."""


class SessionRegistry:
    """The sessions of a store, by owner and by handle.

    Args:
        store: the store that the middleware uses.
        clock: returns UNIX seconds; None is the system's.
        limits: the middleware's lifetime, which may be shorter than what a record says.
        events: where revocations are reported; None is the log alone.

    Raises:
        ConfigurationError: store isn't one.

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
        self._store = guarded(check_methods("SessionRegistry", store))
        self._clock = _now if clock is None else clock
        self._limits = Limits() if limits is None else limits
        self._events = EventSink((), self._clock) if events is None else events
        self._owners = OwnerLists(self._store, self._limits, self._clock)

    def sessions(self, owner: str) -> list[SessionInfo]:
        """The owner's live sessions, newest use first.

        Example:
            >>> for info in middleware.registry.sessions("ada"):
            ...     print(info.handle == session.handle, info.label)
            True {'ip': ...}
        """
        live = self._live_of(owner)
        live.sort(key=lambda session: session.record.used_at, reverse=True)
        return [_info(session) for session in live]

    def count(self, owner: str) -> int:
        """How many live sessions the owner has.

        Example:
            >>> middleware.registry.count("ada")
            1
        """
        return len(self._live_of(owner))

    def _live_of(self, owner: str) -> list[LiveSession]:
        def on_failure(error: StoreError) -> None:
            self._events.emit("store_error", owner=owner, detail=f"heal: {error}")

        return self._owners.list_and_heal(_checked(owner), on_failure).live

    def get(self, handle: str) -> SessionInfo | None:
        """The live session of this handle, or None.

        Example:
            >>> middleware.registry.get(session.handle).owner
            'ada'
        """
        session = self._live(handle)
        return None if session is None else _info(session)

    def __iter__(self) -> Iterator[str]:
        """The handles of all live sessions, in no order. Reads every record."""
        return (key for key in self._store.keys() if self._live(key) is not None)  # noqa: SIM118 # a store is not a mapping

    def revoke(self, handle: str) -> bool:
        """End the session of this handle. False if there is no live session of that handle.

        Example:
            >>> middleware.registry.revoke(session.handle)
            True
            >>> middleware.registry.revoke(session.handle)
            False
        """
        record = self._owners.look(handle) if is_key(_checked_handle(handle)) else None
        if record is None:
            return False
        now, live = self._clock(), None
        if record is not UNREADABLE:
            live = live_session(handle, record, self._limits, now)
            if record.is_owner_list or (live is None and is_readable(record)):
                return False
        # One that can't be read here, for want of the key that it is encrypted under, may be ended.
        if live is None and not self._owners.may_live(handle, now):
            return False
        if not self._store.delete(handle):
            return False
        owner = None if live is None else live.record.owner
        self._events.emit("revoked", handle=handle, owner=owner)
        if owner is not None:
            self._unlist(owner, handle)
        return True

    def _unlist(self, owner: str, handle: str) -> None:
        # An entry too many is removed when the list is next read; the session is over.
        try:
            self._owners.take_out(owner, [handle])
        except StoreError as error:
            detail = f"take out: {error}"
            self._events.emit("store_error", handle=handle, owner=owner, detail=detail)

    def revoke_all(self, owner: str, *, except_: Session | str | None = None) -> int:
        """End all sessions of the owner; returns how many were live.

        A login that happens at the same time either comes after this, or is revoked by it. If it
        breaks off in the middle (StoreError), calling it again, or listing, finishes it.

        Example:
            >>> middleware.registry.revoke_all(session.owner, except_=session)
            0

        Args:
            owner: the app's name for the user.
            except_: a Session, or a handle, to spare: "sign out everywhere else".
        """
        spared = _spared(except_)
        present = self._owners.read(_checked(owner))
        if present is None:
            return 0
        found = {key: entry for key, entry in present.entries.items() if key != spared}
        if not found:
            return 0
        try:
            marked = self._owners.mark(owner, found)
        except StoreError:
            # A full server takes no marks, but it deletes. Whatever comes between the two looks
            # either finds its entry gone, or is met by the second one.
            count = self._end_all(owner, found)
            self._owners.take_out_seen(owner, found)
            return count + self._end_all(owner, found)
        count = self._end_all(owner, found)
        if marked is not None:
            self._owners.take_out_seen(owner, marked)
        return count

    def _end_all(self, owner: str, keys: Iterable[str]) -> int:
        """Delete the owner's records under these keys; returns how many were live sessions."""
        count = 0
        for key in keys:
            ended = self._owners.delete_if_owned(key, owner)
            if ended is None:
                continue
            if live_session(key, ended, self._limits, self._clock()) is not None:
                count += 1
                self._events.emit("revoked", handle=key, owner=owner)
        return count

    def purge_expired(self) -> int:
        """Remove what has expired, and what crashes left in owners' lists.

        Returns:
            how many records went.
        """
        went = self._store.purge_expired(self._clock())
        with suppress(UnsupportedByStore):  # what lives with the clients is in no list
            self._owners.heal_all()
        return went

    def _live(self, handle: str) -> LiveSession | None:
        record = self._store.load(handle) if is_key(_checked_handle(handle)) else None
        if record is None:
            return None
        return live_session(handle, record, self._limits, self._clock())


def _checked(owner: object) -> str:
    if not isinstance(owner, str):
        nobody = " (session.owner is None while nobody is signed in)" if owner is None else ""
        raise TypeError(
            f"owner is of type {type(owner).__name__}; write a str, as it was given to"
            f" login(){nobody}"
        )
    return owner


def _checked_handle(handle: object) -> object:
    # None is what a form without the field gives.
    if handle is not None and not isinstance(handle, str):
        raise TypeError(
            f"handle is of type {type(handle).__name__}; write a str, such as session.handle"
        )
    return handle


def _spared(except_: object) -> str | None:
    handle = except_ if isinstance(except_, str) else getattr(except_, "handle", None)
    if except_ is not None and not isinstance(handle, str):
        raise TypeError(
            f"except_ is of type {type(except_).__name__}; give the Session to spare, or its handle"
        )
    if handle is not None and not is_key(handle):
        # Not quoted: it may be an ID, and then it would spare nothing.
        raise ValueError(
            "except_ is a str that isn't a handle; give the Session to spare, or session.handle"
        )
    return handle


def _now() -> float:
    # Looked up at each use, so that it can be replaced in a test.
    return time.time()


def _info(session: LiveSession) -> SessionInfo:
    record, notes = session.record, session.notes
    return SessionInfo(
        handle=session.key,
        created_at=datetime.fromtimestamp(notes.created_at, UTC),
        last_used_at=datetime.fromtimestamp(record.used_at, UTC),
        expires_at=datetime.fromtimestamp(session.deadline, UTC),
        authenticated_at=(
            None
            if notes.authenticated_at is None
            else datetime.fromtimestamp(notes.authenticated_at, UTC)
        ),
        label=dict(notes.label),
        owner=record.owner,
        device_bound=bool(notes.binding) and _is_bound(notes.binding),
    )


def _is_bound(kept: Mapping[str, Any]) -> bool:
    from .device_binding.binding import is_bound  # noqa: PLC0415 # few apps bind

    return is_bound(kept)
