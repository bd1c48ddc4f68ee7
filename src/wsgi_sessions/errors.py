"""Everything that this package raises on purpose.

    SessionError
    ├── ConfigurationError      also a ValueError; raised while the app is being put together
    ├── StoreError              the store can't be reached, or is broken; never means "no session"
    ├── SessionTooLarge         the encoded session is over its limit
    ├── SessionConflict         a transaction lost to other requests too often
    ├── SessionEnded            another request ended this session meanwhile
    ├── SessionCommitted        a change that needs a new cookie, after the headers went out
    ├── TooManySessions         a login over ``max_per_owner`` with ``when_full="refuse"``
    └── UnsupportedByStore      the store can't do this at all

A value that can't be stored is a plain ``TypeError``, as everywhere in Python. Messages never hold
a session ID, a secret or session data.
"""

from __future__ import annotations


class SessionError(Exception):
    """The root of all errors of this package."""


class ConfigurationError(SessionError, ValueError):
    """A setting is wrong. Says what was given, what is allowed and what to write instead."""


class StoreError(SessionError):
    """The store can't answer, or is broken. Never taken for "there is no such session"."""

    def __init__(self, message: str, *, operation: str | None = None) -> None:
        super().__init__(message)
        self.operation = operation
        """What was asked of the store (``"load"``, ``"update"``, …); never an ID."""


class SessionTooLarge(SessionError):
    """The session's encoded size is over the limit. Names what is biggest, not its value."""


class SessionConflict(SessionError):
    """A transaction was overtaken by other requests too often; nothing was changed."""


class SessionEnded(SessionError):
    """Another request ended this session meanwhile; nothing was changed."""


class SessionCommitted(SessionError):
    """A change that needs a new cookie, made after the response's headers went out."""


class TooManySessions(SessionError):
    """The owner has as many live sessions as ``max_per_owner`` allows."""


class UnsupportedByStore(SessionError):
    """The store can't do what was asked, for example revoke a session that the client holds."""
