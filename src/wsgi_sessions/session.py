"""Session: the mapping that the app holds, and Visit: what one request knows of it.

A Session does nothing until it is touched; then the engine opens a Visit, and everything that
needs a store, a clock or randomness is asked of the engine. This module checks arguments, keeps
the mapping's manners and says no when it is too late for a change.
"""

from __future__ import annotations

import enum
import math
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
from types import MappingProxyType
from typing import Any, NoReturn, Protocol, TypeVar

from ._options import seconds
from .codec import CorruptField
from .errors import SessionCommitted, SessionEnded, StoreError
from .fields import NOTHING, Fields
from .lifecycle import Origin
from .lifetime import Lifetime, from_seconds
from .notes import MAX_LABEL_ENTRIES, MAX_LABEL_TEXT, Notes, is_label
from .record import Record
from .signing import Identity
from .stores.base import Store
from .transport import Environ, Transport

T = TypeVar("T")
MAX_OWNER = 256
_LET_GO: Environ = {}
NO_CHANGES: Mapping[str, Any] = MappingProxyType({})


class Phase(enum.Enum):
    """How far the response has come."""

    OPEN = "open"
    STREAMING = "streaming"
    """The headers went out; no cookie can be set any more."""
    OVER = "over"
    """The response is complete; nothing is saved any more."""


class Visit:
    """One request's knowledge of its session. Written by the engine, read by the Session.

    What most requests don't change stands in the class, so that a visit begins with a few fields.
    """

    client_ip: str | None
    """The client's address, as the trusted proxies tell it."""
    user_agent: object
    forwarded_proto: object
    """The headers User-Agent and X-Forwarded-Proto as they came, or None."""
    scheme: object
    transport: Transport
    tokens: tuple[str, ...]
    """What the client sent under our name, unchecked."""
    store: Store
    shared: bool
    """Whether the store outlives the request; False where the data lives with the client."""
    secure: bool
    """Whether the request is secure, as far as the trusted proxies tell."""
    error: StoreError | None = None
    """Why the session could not be loaded, if it couldn't."""
    origin: Origin = Origin.NEW
    stored: Identity | None = None
    """Under which ID the record is stored."""
    identity: Identity | None = None
    """The present ID: the stored one, or a new one; None until someone asks for it."""
    record: Record | None = None
    """The record as it was loaded."""
    notes: Notes
    """The notes as they would be saved."""
    note_changes: Mapping[str, Any] = NO_CHANGES
    """Which of them this request changed, to be put on fresher notes if need be."""
    fields: Fields
    pending: tuple[dict[str, bytes], frozenset[str]] = NOTHING
    """The fields to set and to delete, as the present commit found them."""
    owner: str | None = None
    label: dict[str, str]
    final: bool = False
    """Whether nothing will be asked of this visit after the present commit."""
    deadline: float = math.inf
    """When the loaded record ends. UNIX seconds."""
    new_id: bool = False
    login: bool = False
    """Whether ``login()`` was called, so that a live session must come of it."""
    joins: bool = False
    """Whether an owner was set in this request."""
    keep: frozenset[str] | None = None
    """Which fields survive ``regenerate``; None: all."""
    touch: bool = False
    ended: bool = False
    """Whether a session was destroyed in this request."""
    gone: bool = False
    """Whether this request found that another one ended the session."""
    cookie_sent: bool = False
    cookie_stale: bool = False
    place: tuple[str, int] | None = None
    """The store key for which a login holds a place in the owner's index, and the owner's
    generation when it was taken."""

    @property
    def changed_notes(self) -> bool:
        """Whether anything that is kept in the notes differs from what was loaded."""
        if self.note_changes:
            return True
        label = self.notes.label
        return bool(self.label or label) and self.label != label

    @property
    def empty(self) -> bool:
        """Whether it holds nothing: no field, no owner. Then it isn't worth a record."""
        return not self.fields and self.owner is None


class SessionEngine(Protocol):
    """What a Session asks of the engine."""

    def open(self, environ: Environ, transport: Transport) -> Visit: ...
    def identify(self, visit: Visit) -> Identity: ...
    def corrupted(self, visit: Visit) -> None: ...
    def regenerate(self, visit: Visit, keep: frozenset[str] | None) -> None: ...
    def own(
        self, visit: Visit, owner: str | None, keep: frozenset[str] | None, *, login: bool
    ) -> None: ...
    def destroy(self, visit: Visit) -> None: ...
    def save(self, visit: Visit, *, cookie_possible: bool) -> None: ...
    def reload(self, visit: Visit) -> None: ...
    def transact(
        self, visit: Visit, work: Callable[[MutableMapping[str, Any]], T], *, late: bool
    ) -> T: ...
    def limits(self, visit: Visit) -> tuple[float, float]: ...
    def expected_end(self, visit: Visit) -> float: ...
    def now(self) -> float: ...
    def late_access(self) -> None: ...


class Session(MutableMapping[str, Any]):
    """What the app sees of its session: a dict of JSON-like values, loaded at the first access.

    Values: ``None``, bool, int, float (finite), str, list, dict with str keys, and, kept exactly:
    tuple, set, frozenset, bytes, datetime, date, time, timedelta, Decimal, UUID. Anything else is
    a ``TypeError`` that names the key path, where it is assigned. Changes inside nested values are
    noticed by themselves. Any access may raise `StoreError`, if the store can't answer.
    """

    __slots__ = ("_engine", "_environ", "_phase", "_transport", "_visit")

    def __init__(self, engine: SessionEngine, environ: Environ, transport: Transport) -> None:
        self._engine = engine
        self._environ = environ
        self._transport = transport
        self._visit: Visit | None = None
        self._phase = Phase.OPEN

    def _open(self) -> Visit:
        visit = self._visit
        if visit is None:
            visit = self._begin()
            if self._phase is not Phase.OPEN:
                self._engine.late_access()
        if visit.error is not None:
            raise visit.error
        return visit

    def _begin(self) -> Visit:
        visit = self._visit = self._engine.open(self._environ, self._transport)
        # The environ holds this Session: let go of it, and both are freed without the collector.
        self._environ = _LET_GO
        return visit

    def _writable(self) -> Visit:
        visit = self._open()
        if self._phase is not Phase.OPEN:
            self._check_late(visit)
        return visit

    def _check_late(self, visit: Visit) -> None:
        if self._phase is Phase.OVER:
            raise SessionCommitted(
                "the response is complete, so this change would be lost;"
                " change the session while the request is being answered"
            )
        if visit.origin is Origin.NEW or not visit.shared:
            raise SessionCommitted(
                "the response's headers are already sent, so the cookie that this change needs"
                " can't be set; change the session before the body's first chunk"
            )

    def _late_writable(self) -> Visit:
        # A transaction that only looks is fine at any time; one that writes is told by the engine.
        visit = self._open()
        return self._writable() if self._phase is Phase.OVER else visit

    def _new_cookie(self) -> Visit:
        visit = self._open()
        if self._phase is not Phase.OPEN:
            raise SessionCommitted(
                "the response's headers are already sent, so a new cookie can't be set;"
                " do this before the body's first chunk"
            )
        return visit

    # The mapping

    def __getitem__(self, key: str) -> Any:
        visit = self._visit
        if visit is None or visit.error is not None:
            visit = self._open()
        try:
            return visit.fields[key]
        except CorruptField:
            self._engine.corrupted(visit)
            raise KeyError(key) from None

    def get(self, key: str, default: Any = None) -> Any:
        """The value of this key, or ``default``."""
        visit = self._visit
        if visit is None or visit.error is not None:
            visit = self._open()
        try:
            return visit.fields.get(key, default)
        except CorruptField:
            self._engine.corrupted(visit)
            return default

    def __setitem__(self, key: str, value: Any) -> None:
        self._writable().fields[key] = value

    def __delitem__(self, key: str) -> None:
        visit = self._open()
        if key not in visit.fields:
            raise KeyError(key)
        del self._writable().fields[key]

    def __contains__(self, key: object) -> bool:
        return key in self._open().fields

    def __iter__(self) -> Iterator[str]:
        return iter(self._open().fields)

    def __len__(self) -> int:
        return len(self._open().fields)

    # A field that can't be decoded means no session at all: who goes through all values must not
    # get half of it.

    def keys(self) -> KeysView[str]:
        """The names of the fields."""
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
        visit = self._open()
        try:
            for name in visit.fields:
                visit.fields[name]
        except CorruptField:
            self._engine.corrupted(visit)

    def clear(self) -> None:
        """Remove all data. A session that ends the request empty, without owner, is deleted."""
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
        return self._open().origin is Origin.NEW

    @property
    def accessed(self) -> bool:
        """True once anything was read or written in this request."""
        return self._visit is not None

    @property
    def modified(self) -> bool:
        """True if a commit now would write data, changes inside nested values included."""
        visit = self._visit
        if visit is None or visit.error is not None:
            return False
        if visit.origin is Origin.NEW:
            return not visit.empty
        return visit.new_id or visit.fields.changed or visit.changed_notes

    @property
    def created_at(self) -> datetime:
        """When the session was created. Aware, UTC."""
        return _datetime(self._open().notes.created_at)

    @property
    def last_used_at(self) -> datetime:
        """When the session was last used before, as far as it was noted (see Lifetime). UTC."""
        visit = self._open()
        record = visit.record
        return _datetime(visit.notes.created_at if record is None else record.used_at)

    @property
    def expires_at(self) -> datetime:
        """When the session ends unless it is used again. Aware, UTC."""
        return _datetime(self._engine.expected_end(self._open()))

    @property
    def authenticated_at(self) -> datetime | None:
        """When ``login`` was last called on it; None: never. Aware, UTC."""
        at = self._open().notes.authenticated_at
        return None if at is None else _datetime(at)

    def is_fresh(self, within: timedelta | float) -> bool:
        """Whether the last ``login`` was less than ``within`` (timedelta or seconds) ago.

        For asking for the password again before something dangerous (ASVS 5.0, 7.5.3).
        """
        at = self._open().notes.authenticated_at
        return at is not None and self._engine.now() - at < seconds("is_fresh", "within", within)

    @property
    def owner(self) -> str | None:
        """The user whom the session belongs to, or None.

        Setting or removing it is a change of privilege: the session gets a new ID (see
        `regenerate`) and is filed under that owner. Setting what it is already does nothing.

        Raises:
            TooManySessions: see ``max_per_owner``; only with ``when_full="refuse"``.
        """
        return self._open().owner

    @owner.setter
    def owner(self, owner: str | None) -> None:
        if owner is not None:
            _check_owner(owner)
        if owner != self._open().owner:
            self._engine.own(self._new_cookie(), owner, None, login=False)

    @property
    def label(self) -> dict[str, str]:
        """Short strings kept with the record, for lists of sessions. May be changed in place.

        ``ip`` and ``user_agent`` are filled in when an owner is set.
        """
        return self._open().label

    @label.setter
    def label(self, label: Mapping[str, str]) -> None:
        given = dict(label)
        if not is_label(given):
            raise TypeError(
                f"label must be a dict of at most {MAX_LABEL_ENTRIES} strings of at most"
                f" {MAX_LABEL_TEXT} characters"
            )
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
            visit = self._new_cookie()
            _note(visit, persistent=persistent)
            visit.cookie_stale = True

    @property
    def lifetime(self) -> Lifetime:
        """The limits of this session. Settable for it alone, capped by the middleware's."""
        return from_seconds(*self._engine.limits(self._open()))

    @lifetime.setter
    def lifetime(self, lifetime: Lifetime) -> None:
        if not isinstance(lifetime, Lifetime):  # pyright: ignore[reportUnnecessaryIsInstance] # what was given may be anything
            raise TypeError(f"lifetime is of type {type(lifetime).__name__}; write a Lifetime")
        _note(self._writable(), idle=lifetime.idle_seconds, absolute=lifetime.absolute_seconds)

    # What it does

    def regenerate(self, *, keep: bool | Iterable[str] = True) -> None:
        """Give the session a new ID at once; the old one dies when this request commits.

        For every change of privilege (ASVS 5.0, 7.2.4), so that an ID that someone else knew
        before is worth nothing after it.

        Args:
            keep: True keeps all data, False none, and neither owner nor label; an iterable keeps
                those keys. Lifetime and persistence stay.

        Raises:
            SessionCommitted: after the headers went out.
        """
        kept = _kept(keep)
        visit = self._new_cookie()
        self._engine.regenerate(visit, kept)
        if keep is False:
            visit.owner = None
            visit.label = {}

    def login(self, owner: str, *, keep: bool | Iterable[str] = True) -> None:
        """Sign the owner in: a new ID, the session filed under ``owner``, a new absolute limit.

        Always ends in a live session: if another request ended the old one meanwhile, what this
        request set is carried into a fresh one.

        Args:
            owner: the app's name for the user: 1 to 256 characters.
            keep: what survives of the data, as in `regenerate`.

        Raises:
            TooManySessions: with ``max_per_owner`` and ``when_full="refuse"``; the session stays
                as it was.
            SessionCommitted: after the headers went out.
        """
        _check_owner(owner)
        kept = _kept(keep)
        self._engine.own(self._new_cookie(), owner, kept, login=True)

    def destroy(self) -> None:
        """End the session: its record is deleted now, its data cleared, the cookie expires.

        Whatever is written afterwards starts a fresh session under a new ID. In a stream, after
        the headers went out, the record is deleted all the same; the cookie left behind is dead.

        Raises:
            StoreError: if the store can't. The cookie expires even so.
        """
        self._engine.destroy(self._visit or self._begin())

    def save(self) -> None:
        """Commit the changes now: before a redirect to another host, or in a long stream.

        They stand whatever happens later in this request.

        Raises:
            SessionEnded: if another request ended the session meanwhile.
            SessionTooLarge: if it is over ``max_bytes``; nothing is saved.
            SessionCommitted: if this needs a cookie, and the headers went out.
        """
        visit = self._open()
        if self.modified:
            visit = self._writable()
        self._engine.save(visit, cookie_possible=self._phase is Phase.OPEN)

    def reload(self) -> None:
        """Drop what wasn't committed, and read the session again from the store."""
        if self._visit is None:
            self._open()
        else:
            self._engine.reload(self._visit)

    def touch(self) -> None:
        """Renew the idle deadline with this request, even inside ``touch_interval``."""
        self._writable().touch = True

    def transaction(self, fn: Callable[[MutableMapping[str, Any]], T]) -> T:
        """Run ``fn`` on fresh data, and commit what it changed at once, or not at all.

        For counters, stock and one-time values: if another request changes the session meanwhile,
        ``fn`` is run again on what that one wrote, so it must do nothing but work on the mapping
        that it gets. It sees this request's own uncommitted changes too; only what it changes
        itself is committed.

        Returns:
            What ``fn`` returned.

        Raises:
            SessionEnded: if another request ended the session meanwhile.
            SessionConflict: if other requests were faster again and again.
            UnsupportedByStore: if the data lives with the client.
        """
        return self._engine.transact(self._late_writable(), fn, late=self._phase is not Phase.OPEN)

    def take(self, key: str, default: Any = None) -> Any:
        """Remove a key and return its value, exactly once however many requests try.

        For what may be used once: an OAuth state, a nonce, a flash message. Gives ``default`` if
        the key isn't there, or the session was ended meanwhile.
        """
        try:
            return self.transaction(lambda fields: fields.pop(key, default))
        except SessionEnded:
            return default

    def increment(self, key: str, by: float = 1) -> Any:
        """Add ``by`` to a number (0 if there is none), exactly; returns the new value.

        Raises:
            TypeError: if the key holds something that is no number.
        """

        def add(fields: MutableMapping[str, Any]) -> Any:
            present = fields.get(key, 0)
            if isinstance(present, (bool, str)) or not hasattr(present, "__add__"):
                raise TypeError(
                    f"session[{key!r}] is of type {type(present).__name__}; only a number can be"
                    " incremented"
                )
            fields[key] = present + by
            return fields[key]

        return self.transaction(add)

    # What it doesn't do

    def __repr__(self) -> str:
        visit = self._visit
        if visit is None:
            return "<Session, not loaded>"
        if visit.error is not None:
            return "<Session, could not be loaded>"
        state = "new" if visit.origin is Origin.NEW else "stored"
        handle = "" if visit.identity is None else f" {visit.identity.key}"
        names = ", ".join(map(repr, visit.fields.loaded_names()))
        return f"<Session{handle}, {state}, fields loaded: {names or 'none'}>"

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a Session can't be pickled; take dict(session) for its data")

    def __copy__(self) -> NoReturn:
        raise TypeError("a Session can't be copied; take dict(session) for its data")

    def __deepcopy__(self, memo: object) -> NoReturn:
        raise TypeError("a Session can't be copied; take dict(session) for its data")


def visit_of(session: Session) -> Visit | None:
    """What is known of this session; None if the app hasn't touched it."""
    return session._visit  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] # a side door


def transport_of(session: Session) -> Transport:
    """How this session's token travels."""
    return session._transport  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] # a side door


def enter_phase(session: Session, phase: Phase) -> None:
    """Tell the session how far the response has come."""
    session._phase = phase  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] # a side door


def _note(visit: Visit, **changes: Any) -> None:
    visit.notes = visit.notes._replace(**changes)
    visit.note_changes = {**visit.note_changes, **changes}


def _kept(keep: bool | Iterable[str]) -> frozenset[str] | None:
    if keep is True:
        return None
    if keep is False:
        return frozenset()
    if isinstance(keep, (str, bytes)):
        raise TypeError("keep is a string; write True, False or a list of keys")
    return frozenset(keep)


def _check_owner(owner: object) -> None:
    if not isinstance(owner, str):
        raise TypeError(
            f"owner is of type {type(owner).__name__}; write a str, such as str(user.id)"
        )
    if not 1 <= len(owner) <= MAX_OWNER:
        raise ValueError(f"owner has {len(owner)} characters; 1 to {MAX_OWNER} are allowed")
    try:
        owner.encode("utf-8")
    except UnicodeEncodeError:
        raise ValueError("owner has characters that are no valid text") from None


def _datetime(at: float) -> datetime:
    return datetime.fromtimestamp(at, UTC)
