"""Session: the mapping that the app holds.

A Session does nothing until it is touched; then the engine opens its state, and everything that
needs a store, a clock or randomness is asked of the engine. This module implements the mapping,
checks arguments, and rejects changes that come too late.
"""

from __future__ import annotations

import enum
from collections.abc import (
    Callable,
    ItemsView,
    Iterable,
    Iterator,
    KeysView,
    Mapping,
    MutableMapping,
    ValuesView,
)
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NoReturn, TypeVar

from ._options import finite_seconds
from .data.codec import CorruptField
from .data.fields import checked_key
from .engine import Engine, SessionState
from .engine.state import Keep, checked_label
from .errors import SessionCommitted, SessionEnded
from .http.transport import Environ, Transport
from .lifetime import Lifetime, from_seconds

T = TypeVar("T")
MAX_OWNER = 256
_LET_GO: Environ = {}


class Phase(enum.Enum):
    """How far the response has come."""

    OPEN = "open"
    STREAMING = "streaming"
    """The headers went out; no cookie can be set any more."""
    OVER = "over"
    """The response is complete; nothing is saved any more."""


# Looked up at each use, an enum's member costs a request as much as a whole call.
_OPEN: Final = Phase.OPEN


class Session(MutableMapping[str, Any]):
    """The app's session: a mapping of JSON-like values, loaded at the first access.

    Values: ``None``, bool, int, float (finite), str, list, dict with str keys, and, kept exactly:
    tuple, set, frozenset, bytes, datetime, date, time, timedelta, Decimal, UUID. Anything else is
    a ``TypeError``, raised where it is assigned, that names the path of keys. Changes inside nested
    values are noticed. Any access may raise `StoreError`, if the store can't answer.
    """

    __slots__ = ("_begun", "_engine", "_environ", "_phase", "_state", "_transport")

    def __init__(self, engine: Engine, environ: Environ, transport: Transport) -> None:
        self._engine = engine
        self._environ = environ
        self._transport = transport
        self._begun: list[SessionState] = []
        self._state: SessionState | None = None
        self._phase: Phase = _OPEN

    def _open(self) -> SessionState:
        state = self._state
        if state is None:
            state = self._begin()
            if self._phase is not _OPEN:
                self._engine.late_access()
        if state.error is not None:
            raise state.error
        return state

    def _begin(self) -> SessionState:
        # Threads of one request that begin at the same time share what one of them found. `append`
        # is atomic, and costs a tenth of a lock.
        environ = self._environ
        if environ is not _LET_GO:
            self._begun.append(self._engine.open(environ, self._transport))
        state = self._state = self._begun[0]
        # The environ holds this Session: let go of it, and both are freed without the collector.
        self._environ = _LET_GO
        return state

    def _writable(self) -> SessionState:
        state = self._open()
        if self._phase is not _OPEN:
            self._check_late(state)
        return state

    def _check_late(self, state: SessionState) -> None:
        if self._phase is Phase.OVER:
            raise SessionCommitted(
                "the response is complete, so this change would be lost;"
                " change the session while the request is being answered"
            )
        if state.stored is None or self._engine.in_token:
            raise SessionCommitted(
                "the response's headers are already sent, so the cookie that this change needs"
                " can't be set; change the session before the body's first chunk"
            )

    def _late_writable(self) -> SessionState:
        # A transaction that only looks is fine at any time; the engine rejects one that writes.
        state = self._open()
        return self._writable() if self._phase is Phase.OVER else state

    def _new_cookie(self) -> SessionState:
        state = self._open()
        if self._phase is not _OPEN:
            raise SessionCommitted(
                "the response's headers are already sent, so a new cookie can't be set;"
                " do this before the body's first chunk"
            )
        return state

    # The mapping

    def __getitem__(self, key: str) -> Any:
        state = self._state
        if state is None or state.error is not None:
            state = self._open()
        try:
            return state.fields[key]
        except CorruptField:
            self._engine.corrupted(state)
            raise KeyError(key) from None

    def get(self, key: str, default: Any = None) -> Any:
        """The value of this key, or ``default``."""
        state = self._state
        if state is None or state.error is not None:
            state = self._open()
        try:
            return state.fields.get(key, default)
        except CorruptField:
            self._engine.corrupted(state)
            return default

    def __setitem__(self, key: str, value: Any) -> None:
        state = self._writable()
        try:
            state.fields[key] = value
        except CorruptField:
            self._engine.begin_anew(state)
            self._writable().fields[key] = value

    def __delitem__(self, key: str) -> None:
        state = self._open()
        if key not in state.fields:
            raise KeyError(key)
        state = self._writable()
        try:
            del state.fields[key]
        except CorruptField:
            self._engine.begin_anew(state)
            raise KeyError(key) from None

    def __contains__(self, key: object) -> bool:
        return key in self._open().fields

    def __iter__(self) -> Iterator[str]:
        return iter(self._open().fields)

    def __len__(self) -> int:
        return len(self._open().fields)

    # A field that can't be decoded means no session at all: code that goes through all values must
    # not get half of it.

    def keys(self) -> KeysView[str]:
        """The names of the fields. Decodes all values, as ``dict(session)`` begins like this;
        ``list(session)`` decodes none.
        """
        self._decode_all()
        return super().keys()

    def values(self) -> ValuesView[Any]:
        """The values of all fields."""
        self._decode_all()
        return super().values()

    def items(self) -> ItemsView[str, Any]:
        """Names and values of all fields."""
        self._decode_all()
        return super().items()

    def _decode_all(self) -> None:
        state = self._open()
        try:
            for name in state.fields:
                state.fields[name]
        except CorruptField:
            self._engine.corrupted(state)

    def clear(self) -> None:
        """Remove all data. A session that ends the request empty, without owner, is deleted.

        One with an owner remains: `destroy`, or ``owner = None``, signs out.
        """
        if len(self):
            self._writable().fields.clear()

    # What it is

    @property
    def id(self) -> str:
        """The session ID: as secret as a password. Made on demand for a new session."""
        return self._engine.identify(self._open()).id

    @property
    def handle(self) -> str:
        """The session's public name: safe to show, to log and to revoke by (64 hex digits)."""
        return self._engine.identify(self._open()).key

    @property
    def is_new(self) -> bool:
        """True until it has been stored."""
        return self._open().stored is None

    @property
    def accessed(self) -> bool:
        """True once anything was read or written in this request."""
        return self._state is not None

    @property
    def modified(self) -> bool:
        """True if a commit now would write data, changes inside nested values included."""
        state = self._state
        if state is None or state.error is not None:
            return False
        if state.stored is None:
            return not state.empty
        asked = state.intent
        return (
            asked.id is not None
            or bool(asked.notes)
            or state.label_changed
            or self._engine.fields_changed(state)
        )

    @property
    def created_at(self) -> datetime:
        """When the session was created. Aware, UTC."""
        return _datetime(self._open().notes.created_at)

    @property
    def last_used_at(self) -> datetime:
        """When a use of the session was last noted: before this request, or in it by a commit, such
        as `save`. Aware, UTC.
        """
        state = self._open()
        stored = state.stored
        at = state.notes.created_at if stored is None else stored.record.used_at
        return _datetime(at)

    @property
    def expires_at(self) -> datetime:
        """When the session ends unless it is used again. Aware, UTC."""
        return _datetime(self._expected_end())

    def _expected_end(self) -> float:
        state = self._open()
        return self._engine.expected_end(state, headers_sent=self._phase is not _OPEN)

    @property
    def authenticated_at(self) -> datetime | None:
        """When ``login`` was last called on it; None: never. Aware, UTC."""
        at = self._open().notes.authenticated_at
        return None if at is None else _datetime(at)

    def is_fresh(self, within: timedelta | float) -> bool:
        """Whether the last ``login`` was less than ``within`` (timedelta or seconds) ago.

        False if the noted time is in the future, if the proof of the device is missing, and for a
        ``within`` of zero or less.

        For asking for the password again before something dangerous (ASVS 5.0, 7.5.3).

        Example:
            >>> session.login("ada")
            >>> session.is_fresh(600)
            True
        """
        limit = finite_seconds("is_fresh", "within", within)
        state = self._open()
        at = state.notes.authenticated_at
        if state.standing.bound and state.standing.missing:
            return False
        # A login in the future was noted by a clock that has been set back since.
        return at is not None and 0 <= self._engine.now() - at < limit

    @property
    def device_bound(self) -> bool:
        """Whether the session is bound to the device that it was begun on (see DeviceBinding)."""
        return self._open().standing.bound

    @property
    def device_bound_at(self) -> datetime | None:
        """Since when it is bound; None: it isn't. Aware, UTC."""
        at = self._open().bound_at
        return None if at is None else _datetime(at)

    @property
    def is_proven(self) -> bool:
        """Whether it is bound, and this request proved that it comes from that device.

        False says little if the session isn't bound: most browsers can't bind one.
        """
        return self._open().standing.proven

    @property
    def owner(self) -> str | None:
        """The user whom the session belongs to, or None.

        Setting or removing it is a change of privilege: the session gets a new ID (see
        `regenerate`) and is filed under that owner. Setting the same owner again does nothing; but
        None, as `destroy`, ends live sessions that the client presented and that can't be used
        (but for one that is bound to a device and not proven in this request).

        Raises:
            TooManySessions: see ``max_per_owner``; only with ``when_full="refuse"``.
        """
        return self._open().owner

    @owner.setter
    def owner(self, owner: str | None) -> None:
        if owner is not None:
            owner = _checked_owner(owner)
        state = self._open()
        if owner != state.owner or (owner is None and state.may_be_signed_in):
            self._engine.set_owner(self._new_cookie(), owner, None, login=False)

    @owner.deleter
    def owner(self) -> None:
        self.owner = None

    @property
    def label(self) -> dict[str, str]:
        """Short strings kept with the record, for lists of sessions. May be changed in place.

        ``ip`` and ``user_agent`` are filled in when an owner is set.
        """
        return self._open().label

    @label.setter
    def label(self, label: Mapping[str, str]) -> None:
        if not isinstance(label, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance] # what was given may be anything
            raise TypeError(
                f"label is of type {type(label).__name__}; write a dict of short strings, such as"
                " {'device': 'phone'}"
            )
        given = checked_label(dict(label))
        self._writable().label = given

    @property
    def persistent(self) -> bool:
        """True: the cookie outlives the browser, as long as the session does ("remember me")."""
        return self._open().notes.persistent

    @persistent.setter
    def persistent(self, persistent: bool) -> None:
        if not isinstance(persistent, bool):  # pyright: ignore[reportUnnecessaryIsInstance] # what was given may be anything
            raise TypeError(f"persistent is {persistent!r}; write True or False")
        if persistent != self._open().notes.persistent:
            self._new_cookie().ask_notes(persistent=persistent)

    @property
    def lifetime(self) -> Lifetime:
        """The limits of this session. Can be set for it alone, capped by the middleware's."""
        return from_seconds(*self._engine.limits(self._open()))

    @lifetime.setter
    def lifetime(self, lifetime: Lifetime) -> None:
        if not isinstance(lifetime, Lifetime):  # pyright: ignore[reportUnnecessaryIsInstance] # what was given may be anything
            raise TypeError(f"lifetime is of type {type(lifetime).__name__}; write a Lifetime")
        state = self._writable()
        self._engine.set_lifetime(state, lifetime)

    # What it does

    def regenerate(self, *, keep: bool | Iterable[str] = True) -> None:
        """Give the session a new ID at once; the old one dies when this request commits.

        For every change of privilege (ASVS 5.0, 7.2.4), so that an ID that someone else knew
        before is worthless afterwards.

        Example:
            >>> session.regenerate()
            >>> session.regenerate(keep=["cart"])

        Args:
            keep: True keeps everything; False keeps no data, owner or label; of an iterable, those
                keys are kept, and with them, even if there are none, owner and label. Lifetime and
                persistence stay.

        Raises:
            SessionCommitted: after the headers went out.
        """
        kept = _kept(keep)
        self._engine.regenerate(self._new_cookie(), kept)

    def login(self, owner: str, *, keep: bool | Iterable[str] = True) -> None:
        """Sign the owner in: a new ID, the session filed under ``owner``, a new absolute limit.

        The result is always a live session: if another request ended the old one meanwhile, what
        this request set goes into a fresh one.

        Example:
            >>> session.login("42", keep=["cart"])
            >>> session.owner
            '42'

        Args:
            owner: the app's name for the user: 1 to 256 characters.
            keep: what is kept of the data, as in `regenerate`.

        Raises:
            TooManySessions: with ``max_per_owner`` and ``when_full="refuse"``; the session stays
                as it was.
            SessionCommitted: after the headers went out.
        """
        owner = _checked_owner(owner)
        kept = _kept(keep)
        self._engine.set_owner(self._new_cookie(), owner, kept, login=True)

    def destroy(self) -> None:
        """End the session: its record is deleted now, its data cleared, the cookie expires.

        Whatever is written afterwards starts a fresh session under a new ID. In a stream, after
        the headers went out, the record is still deleted; the cookie that remains is dead.

        Example:
            >>> session.destroy()
            >>> len(session), session.owner
            (0, None)

        Raises:
            StoreError: if the store can't. The cookie expires even so.
            SessionCommitted: after the headers went out, if the session lives in the cookie.
        """
        if self._engine.in_token:
            self._new_cookie()
        self._engine.destroy(self._state or self._begin())

    def save(self, *, keep_empty: bool = False) -> None:
        """Commit the changes now: before a redirect to another host, or in a long stream.

        They remain whatever happens later in this request.

        Example:
            >>> session["oauth_state"] = "x7f"
            >>> session.save()

        Args:
            keep_empty: True: it is stored even if it holds nothing, and remains stored; for
                frameworks that hand out a session's key before anything is put in.

        Raises:
            SessionEnded: if another request ended the session meanwhile.
            SessionTooLarge: if it is over ``max_bytes``; nothing is saved.
            SessionCommitted: if this needs a cookie, and the headers went out.
        """
        state = self._open()
        if self.modified or (keep_empty and state.stored is None):
            state = self._writable()
        if keep_empty:
            state.keep_empty, state.emptied = True, False
        self._engine.save(state, headers_sent=self._phase is not _OPEN)

    def reload(self) -> None:
        """Drop what wasn't committed, and read the session again from the store.

        Example:
            >>> session["draft"] = "never mind"
            >>> session.reload()
            >>> "draft" in session
            False
        """
        if self._state is None:
            self._open()
        else:
            self._engine.reload(self._state)

    def touch(self) -> None:
        """Renew the idle deadline with this request, even inside ``touch_interval``."""
        self._writable().ask(touch=True)

    @property
    def passive(self) -> bool:
        """Whether this request doesn't count as use: it moves no deadline and renews no cookie.

        The middleware's ``passive`` function sets it at first; it can be changed in the request.
        `touch` counts in any case.
        """
        return self._open().passive

    @passive.setter
    def passive(self, passive: bool) -> None:
        if not isinstance(passive, bool):  # pyright: ignore[reportUnnecessaryIsInstance] # what was given may be anything
            raise TypeError(f"passive is {passive!r}; write True or False")
        self._open().passive = passive

    @property
    def time_left(self) -> timedelta:
        """How long the session will live if it isn't used again; zero once this request has found
        that it ended.

        In a passive request, the time that is really left; in any other, the time from this use on.
        """
        left = self._expected_end() - self._engine.now()
        return timedelta(seconds=max(0.0, left))

    def is_alive(self) -> bool:
        """Ask the store whether the session still lives, for streams and long work.

        False once it was destroyed, revoked, expired, or given a new ID by a change of privilege in
        another request; and for one that was never stored. One round trip; doesn't count as use.

        Example:
            >>> def events():
            ...     while session.is_alive():
            ...         yield next_event()

        Raises:
            StoreError: the store can't answer.
        """
        return self._engine.is_alive(self._open())

    def transaction(self, fn: Callable[[MutableMapping[str, Any]], T]) -> T:
        """Run ``fn`` on fresh data, and commit what it changed at once, or not at all.

        For counters, stock and one-time values: if another request changes the session meanwhile,
        ``fn`` is run again on what that one wrote, so it must only work on the mapping that it
        gets. It also sees this request's own uncommitted changes, which are committed first.

        Example:
            >>> def buy(fields):
            ...     fields["stock"] -= 1
            ...     return fields["stock"]
            >>> session["stock"] = 3
            >>> session.transaction(buy)
            2

        Returns:
            What ``fn`` returned.

        Raises:
            SessionEnded: if another request ended the session meanwhile.
            SessionConflict: if other requests were faster every time.
            UnsupportedByStore: if the data lives with the client.
        """
        if not callable(fn):
            raise TypeError(
                f"fn is of type {type(fn).__name__}; give a function that takes the session's data,"
                " changes it and returns what transaction() is to return"
            )
        state = self._late_writable()
        return self._engine.transact(state, fn, headers_sent=self._phase is not _OPEN)

    def take(self, key: str, default: Any = None) -> Any:
        """Remove a key and return its value, exactly once however many requests try.

        For what may be used once: an OAuth state, a nonce, a flash message. Returns ``default`` if
        the key isn't there, or the session was ended meanwhile.

        Example:
            >>> session["oauth_state"] = "x7f"
            >>> session.take("oauth_state"), session.take("oauth_state")
            ('x7f', None)
        """
        try:
            return self.transaction(lambda fields: fields.pop(key, default))
        except SessionEnded:
            return default

    def increment(self, key: str, by: float = 1) -> Any:
        """Add ``by`` to a number (0 if there is none), exactly; returns the new value.

        Example:
            >>> session.increment("downloads"), session.increment("downloads", by=2)
            (1, 3)

        Raises:
            TypeError: if the key holds something other than a number, or ``by`` isn't one.
        """
        if not _is_number(by):
            raise TypeError(f"by is of type {type(by).__name__}; give a number")

        def add(fields: MutableMapping[str, Any]) -> Any:
            present = fields.get(key, 0)
            if not _is_number(present):
                raise TypeError(
                    f"session[{key!r}] is of type {type(present).__name__}; only a number can be"
                    " incremented"
                )
            fields[key] = present + by
            return fields[key]

        return self.transaction(add)

    # What it doesn't do

    def __repr__(self) -> str:
        state = self._state
        if state is None:
            return "<Session, not loaded>"
        if state.error is not None:
            return "<Session, could not be loaded>"
        kind = "new" if state.stored is None else "stored"
        known = state.known_id
        handle = "" if known is None else f" {known.key}"
        names = ", ".join(map(repr, state.fields.loaded_names()))
        return f"<Session{handle}, {kind}, fields loaded: {names or 'none'}>"

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a Session can't be pickled; take dict(session) for its data")

    def __copy__(self) -> NoReturn:
        raise TypeError("a Session can't be copied; take dict(session) for its data")

    def __deepcopy__(self, memo: object) -> NoReturn:
        raise TypeError("a Session can't be copied; take dict(session) for its data")


def state_of(session: Session) -> SessionState | None:
    """What is known about this session; None if the app hasn't touched it."""
    return session._state  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] # a side door


def is_over(session: object) -> bool:
    """Whether this is a session whose response is complete."""
    return isinstance(session, Session) and session._phase is Phase.OVER  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] # a side door


def is_streaming(session: object) -> bool:
    """Whether this is a session whose response's headers went out, and whose body didn't yet."""
    return isinstance(session, Session) and session._phase is Phase.STREAMING  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] # a side door


def transport_of(session: Session) -> Transport:
    """How this session's token travels."""
    return session._transport  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] # a side door


def enter_phase(session: Session, phase: Phase) -> None:
    """Tell the session how far the response has come."""
    session._phase = phase  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] # a side door


def _kept(keep: bool | Iterable[str]) -> Keep:
    if isinstance(keep, bool):
        return None if keep else False
    if isinstance(keep, (str, bytes)) or not isinstance(keep, Iterable):  # pyright: ignore[reportUnnecessaryIsInstance] # what was given may be anything
        raise TypeError(
            f"keep is of type {type(keep).__name__}; write True, False or a list of keys"
        )
    return frozenset(map(checked_key, keep))


def _is_number(value: object) -> bool:
    # Of int, float, Decimal and their like, without importing those.
    return hasattr(value, "__abs__") and not isinstance(value, bool)


def _checked_owner(owner: object) -> str:
    if not isinstance(owner, str):
        raise TypeError(
            f"owner is of type {type(owner).__name__}; write a str, such as str(user.id)"
        )
    if not 1 <= len(owner) <= MAX_OWNER:
        raise ValueError(f"owner has {len(owner)} characters; 1 to {MAX_OWNER} are allowed")
    try:
        owner.encode("utf-8")
    except UnicodeEncodeError:
        raise ValueError("owner has characters that can't be encoded as UTF-8") from None
    return str.__str__(owner)  # a subclass may show itself as another text


def _datetime(at: float) -> datetime:
    return datetime.fromtimestamp(at, UTC)
