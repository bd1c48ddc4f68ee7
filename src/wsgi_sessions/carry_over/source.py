"""Source: one other session system, as far as the engine must know it.

A source verifies an old cookie, reads the old record and returns plain values. It writes nothing
and knows nothing of our own IDs and records: the engine decides what a carried-over session
becomes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from .._options import check_flag
from ..cookie import Cookie
from ..errors import ConfigurationError
from .records import OldRecord, Records

MAX_OWNER = 256
"""Characters. Longer owners can't be filed."""


@dataclass(frozen=True, slots=True)
class Found:
    """A live session of another system. All times are UNIX seconds."""

    old_id: bytes = field(repr=False)
    """The old system's ID of the session. As secret as the old cookie."""
    fields: dict[str, Any] = field(repr=False)
    """The app's data: values that the standard codec keeps exactly, without the old system's
    bookkeeping. Never empty."""
    owner: str | None = field(default=None, repr=False)
    created_at: float | None = None
    """None where the old system doesn't note it."""
    used_at: float | None = None
    """The last use that the old system noted; None where it doesn't."""
    expires_at: float | None = None
    """When the old session would have ended without another use: the move extends nothing. None
    where it had no end."""
    persistent: bool | None = None
    """Whether the cookie outlived the browser; None where that doesn't depend on the session."""


@dataclass(frozen=True, slots=True)
class LeftBehind:
    """A live session that can't be kept exactly, so that nothing of it is carried over."""

    reason: str
    """Names types and fields, never values; for events, and for counting the reasons."""
    genuine: bool = True
    """Whether the old app is known to have written it."""


@dataclass(frozen=True, slots=True)
class Options:
    """What every source takes, validated."""

    cookie: str
    owner: str | None
    until: float | None
    delete_old: bool


class CannotKeep(Exception):
    """Ends the reading of a session that can't be kept exactly: see `LeftBehind`."""


class NotGenuine(CannotKeep):
    """The same for one that somebody else may have written."""


def kind_of(value: object) -> type[object]:
    """The exact type: a subclass would come back as something else."""
    return type(value)


class Source(ABC):
    """Where old sessions come from.

    `find` and `delete` may be called by any thread, and after a fork.
    """

    name: str
    """The system: for events, and for deriving new IDs. It never changes."""

    def __init__(self, options: Options, records: Records, prefix: str = "") -> None:
        self.cookie: str = options.cookie
        """The name of the old cookie."""
        self.owner: str | None = options.owner
        """The field that holds the user; None: there is none."""
        self.until: float | None = options.until
        """UNIX seconds, after which nothing is carried over any more; None: no end."""
        self.delete_old: bool = options.delete_old
        """Whether the old record is deleted, and the old cookie expired, once carried over."""
        self._records = records
        self._prefix = prefix
        """What comes before the ID in a record's name."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}(cookie={self.cookie!r})"

    def is_over(self, now: float) -> bool:
        """Whether ``until`` has passed, so that the source can be removed."""
        return self.until is not None and now >= self.until

    def find(self, cookie_value: str, now: float) -> Found | LeftBehind | None:
        """The live session that this cookie leads to; None: there is none, or it is a forgery.

        Args:
            cookie_value: as it came in the header.
            now: UNIX seconds.

        Raises:
            StoreError: the old store can't answer; never taken for "no such session".
        """
        if self.is_over(now):
            return None
        try:
            return self._find(_within_quotes(cookie_value), now)
        except CannotKeep as error:
            return LeftBehind(str(error), genuine=not isinstance(error, NotGenuine))

    def identify(self, cookie_value: str) -> bytes | None:
        """The ``old_id`` that `find` would return, whether or not there is such a session.

        Makes no store call. None: the cookie is a forgery, or isn't this system's.
        """
        old_id = self._identified(_within_quotes(cookie_value))
        return None if old_id is None else old_id.encode("utf-8")

    def delete(self, old_id: bytes) -> None:
        """Delete the old record, if there is one.

        Raises:
            StoreError: the old store can't do that now.
        """
        for name in self._names_of(old_id.decode("utf-8")):
            self._records.delete(name)

    def count(self) -> int:
        """How many records the old store holds, live or not; for a progress bar.

        Raises:
            StoreError: the old store can't answer.
            UnsupportedByStore: the browsers hold the sessions.
        """
        return sum(1 for name in self._records.names() if self._id_in(name) is not None)

    def survey(self, now: float) -> Iterator[Found | LeftBehind | None]:
        """Look at every record, and change nothing: one item each, None for one that isn't live.

        Raises:
            StoreError: the old store can't answer.
            UnsupportedByStore: the browsers hold the sessions.
        """
        for name in self._records.names():
            old_id = self._id_in(name)
            if old_id is None:
                continue
            record = self._records.read(name)
            try:
                yield None if record is None else self._look(old_id, record, now)
            except CannotKeep as error:
                yield LeftBehind(str(error))

    # What a system is like

    def _find(self, value: str, now: float) -> Found | None:
        """`find` of the cookie's value without quotes.

        Raises:
            CannotKeep: it is to be left behind.
        """
        old_id = self._verified(value)
        for name in () if old_id is None else self._names_of(old_id):
            record = self._records.read(name)
            if record is not None:
                return self._look(str(old_id), record, now)
        return None

    def _identified(self, value: str) -> str | None:
        """`identify` of the cookie's value without quotes."""
        return self._verified(value)

    @abstractmethod
    def _verified(self, value: str) -> str | None:
        """The ID in a cookie's value, once signature and form were checked; None: there is none."""

    def _names_of(self, old_id: str) -> tuple[str, ...]:
        """What the record of this ID may be called."""
        return (self._prefix + old_id,)

    def _id_in(self, name: str) -> str | None:
        """The ID in a record's name, or what a survey has instead; None: it isn't a session's."""
        return name.removeprefix(self._prefix)

    @abstractmethod
    def _look(self, old_id: str, record: OldRecord, now: float) -> Found | None:
        """What a record holds; None: it isn't live.

        Raises:
            CannotKeep: it is to be left behind.
        """


def _within_quotes(value: str) -> str:
    # Libraries that quote cookies mean the value within (RFC 6265 section 4.1.1).
    return value[1:-1] if len(value) > 1 and value[0] == value[-1] == '"' else value


def check_common(
    system: str, *, cookie: object, owner: object, until: object, delete_old: object
) -> Options:
    """The options that every source takes.

    Raises:
        ConfigurationError: for one that can't work.
    """
    if not isinstance(cookie, str):
        raise ConfigurationError(
            f"{system}: cookie is of type {type(cookie).__name__}; write the old cookie's name as"
            " a str"
        )
    Cookie(cookie, secure=True)  # its name is checked like any cookie's
    if owner is not None and (not isinstance(owner, str) or not owner):
        raise ConfigurationError(
            f"{system}: owner is {owner!r}; write the name of the field that holds the user, such"
            " as 'user_id', or None"
        )
    check_flag(system, "delete_old", delete_old)
    return Options(cookie, owner, _check_until(system, until), bool(delete_old))


def _check_until(system: str, until: object) -> float | None:
    if until is None:
        return None
    if not isinstance(until, datetime) or until.utcoffset() is None:
        raise ConfigurationError(
            f"{system}: until is {until!r}; write an aware datetime, such as"
            " datetime(2027, 1, 31, tzinfo=UTC), or None"
        )
    return until.timestamp()
