"""What Django calls an engine: the sessions of the current settings, and SessionStore.

Whatever changes under ``override_settings`` takes effect with the next request.
"""

# Django has no types of its own.
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import threading
from typing import Any

from django.core.signals import setting_changed

from ..integration import Integration
from ..session import Session
from ..stores import Store
from .session import DjangoSession
from .settings import options_from_settings


class _Present:
    """What was made from the current settings."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.steps: Integration | None = None
        self.stores: dict[str | None, Store] = {}
        """Stores that were made here, by URL: one in memory outlives a change of other settings."""


_present = _Present()


def sessions() -> Integration:
    """The Integration of the current settings; its ``registry`` lists and ends sessions.

    Raises:
        ConfigurationError: a setting is wrong.
    """
    steps = _present.steps
    if steps is None:
        with _present.lock:
            steps = _present.steps
            if steps is None:
                steps = _present.steps = _made()
    return steps


def _made() -> Integration:
    options = options_from_settings()
    given = options.get("store")
    named = given is None or isinstance(given, str)
    if named and given in _present.stores:
        options["store"] = _present.stores[given]
    steps = Integration(DjangoSession, any_path=True, **options)
    if named:
        _present.stores[given] = steps.store
    return steps


def forget(setting: str, **options: Any) -> None:
    """Receives ``setting_changed``."""
    del options
    if setting.startswith(("SESSION_", "SECRET_KEY")) or setting == "WSGI_SESSIONS":
        _present.steps = None


setting_changed.connect(forget, dispatch_uid="wsgi_sessions")


class SessionStore(DjangoSession):
    """The session of a key, without a request: nothing commits it but ``save()``.

    Args:
        session_key: a session cookie's value; None for a new session.
    """

    def __init__(self, session_key: str | None = None) -> None:
        self._given = self._valid(session_key)
        super().__init__(*sessions().parts_of(self._given))

    def _valid(self, key: str | None) -> str | None:
        return key if key and len(key) >= 8 else None

    @property
    def session_key(self) -> str | None:
        """As it was given, until the session is loaded; then None, if there was none."""
        return self._given if self._state is None else super().session_key

    @property
    def _session_key(self) -> str | None:
        return self.session_key

    @_session_key.setter
    def _session_key(self, key: str | None) -> None:
        # Some set it to another, to work on that session then.
        self._given = self._valid(key)
        Session.__init__(self, *sessions().parts_of(self._given))

    def cycle_key(self) -> None:
        """A new key at once, as there is no request that ends."""
        super().cycle_key()
        self.save()

    @classmethod
    def clear_expired(cls) -> None:
        """Purge what has expired; ``manage.py clearsessions`` calls it."""
        sessions().registry.purge_expired()
