"""The session as Django knows it: ``request.session``.

`DjangoSession` is a Session with Django's interface in addition to ours; where Django's own methods
work on that, they are inherited.
"""

# Django has no types of its own.
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import math
from collections.abc import Iterable
from datetime import datetime
from functools import cached_property
from typing import Any

from asgiref.sync import sync_to_async
from django.conf import settings
from django.contrib.sessions.backends.base import CreateError, SessionBase, UpdateError
from django.utils import timezone
from django.utils.module_loading import import_string

from ..engine import SessionState
from ..engine.state import NO_SCHEME
from ..errors import SessionEnded
from ..http.transport import Environ, environ_key
from ..session import Phase, Session
from .settings import default_limits

EXPIRY_KEY = "_session_expiry"
"""Where Django's ``set_expiry`` notes what it was given."""
_USER_KEY = "_auth_user_id"
"""Where ``django.contrib.auth`` notes who is signed in."""
_NOT_GIVEN: Any = object()
_ALREADY_OVER = 1e-9
"""Seconds. An absolute limit has to be more than nothing."""


class DjangoSession(Session, SessionBase):  # pyright: ignore[reportIncompatibleMethodOverride] # the mapping's methods, as ours have them
    """A Session that also has what Django expects of one.

    ``session_key`` is the cookie's value, and just as secret; ``handle`` is the name to show and to
    log.
    """

    _marked: bool | None = None
    """What ``modified`` was set to, by the app or by Django's own methods."""
    _let_go: tuple[Any, str] | None = None
    """The user whom `clear` has signed out, and the owner that the session was filed under."""
    _unseen = False
    """Whether ``accessed`` was set to False since the last access."""

    # Django's attributes

    @property
    def modified(self) -> bool:
        """True once something was written, changes inside nested values included.

        Setting it to True counts as a use of the session, whose deadline and cookie are renewed.
        Setting it to False has no effect on what is saved: changes are found by comparing;
        `reload` drops them.
        """
        return super().modified if self._marked is None else self._marked

    @modified.setter
    def modified(self, value: bool) -> None:
        self._marked = bool(value)
        if value and self._phase is Phase.OPEN:
            self.touch()

    @property
    def accessed(self) -> bool:
        """True once anything was read or written; set to False, the response doesn't vary on it."""
        return super().accessed and not self._unseen

    @accessed.setter
    def accessed(self, value: bool) -> None:
        self._unseen = not value

    @property
    def session_key(self) -> str | None:
        """The cookie's value: as secret as a password. None until the session is stored."""
        state = self._open()
        return self._engine.token(state)

    @property
    def _session(self) -> DjangoSession:
        return self

    def _get_session(self, no_load: bool = False) -> DjangoSession:
        del no_load
        return self

    async def _aget_session(self, no_load: bool = False) -> DjangoSession:
        del no_load
        if self._state is None:
            await sync_to_async(self._open)()
        return self

    @cached_property
    def serializer(self) -> Any:
        """What ``encode`` and ``decode`` use; stored values are encoded by our own codec."""
        return import_string(settings.SESSION_SERIALIZER)

    def is_empty(self) -> bool:
        """True when it isn't stored and holds nothing."""
        return self.is_new and not len(self)

    def __bool__(self) -> bool:
        """As Django has it from 6.1 on: False where it isn't stored and holds nothing."""
        return not self.is_empty()

    def has_key(self, key: str) -> bool:
        """Whether there is such a key."""
        return key in self

    # The mapping, with Django's flags

    def _open(self) -> SessionState:
        self._unseen = False
        state = super()._open()
        notes = state.base_notes
        if notes.idle == math.inf == notes.absolute and not state.intent.notes:
            self._begin_limits(state)
        return state

    def _begin_limits(self, state: SessionState) -> None:
        """Give it the limits that a new session has, or one that was carried over."""
        limits = default_limits()
        if state.stored is None:
            if limits is not None:
                state.base_notes = state.base_notes._replace(**limits._asdict())
            return
        if limits is not None or EXPIRY_KEY in state.fields:
            idle, absolute, _ = self._limits_of(state, Session.get(self, EXPIRY_KEY))
            if idle != math.inf or absolute != math.inf:
                state.ask_notes(idle=idle, absolute=absolute)

    def __getitem__(self, key: str) -> Any:
        self._unseen = False
        return super().__getitem__(key)

    def get(self, key: str, default: Any = None) -> Any:
        """The value of this key, or ``default``."""
        self._unseen = False
        return super().get(key, default)

    def __setitem__(self, key: str, value: Any) -> None:
        super().__setitem__(key, value)
        self._marked = True
        if key == _USER_KEY and self._let_go is not None and self.owner is None:
            # An app that clears all the rest puts its user back.
            user, owner = self._let_go
            if user == value:
                self.owner = owner
        if key == EXPIRY_KEY:
            self._apply_expiry(value)

    def __delitem__(self, key: str) -> None:
        super().__delitem__(key)
        self._marked = True
        if key == EXPIRY_KEY:
            self._apply_expiry(None)

    def clear(self) -> None:
        """Remove all data. A session that ends the request empty, without owner, is deleted.

        Whoever was signed in is signed out, so the session is no longer filed under any owner.
        """
        own_expiry, user, owner = EXPIRY_KEY in self, self.get(_USER_KEY), self.owner
        super().clear()
        self._marked = True
        if self._phase is Phase.OPEN:
            if owner is not None:
                self._let_go = (user, owner)
            self.owner = None
        if own_expiry:
            self._apply_expiry(None)

    async def aset(self, key: str, value: Any) -> None:
        """``session[key] = value``; loads it without holding up the event loop."""
        (await self._aget_session())[key] = value

    async def apop(self, key: str, default: Any = _NOT_GIVEN) -> Any:
        """``session.pop(key)``; loads it without holding up the event loop."""
        session = await self._aget_session()
        return session.pop(key) if default is _NOT_GIVEN else session.pop(key, default)

    async def aupdate(self, dict_: Any) -> None:
        """``session.update(…)``; loads it without holding up the event loop."""
        (await self._aget_session()).update(dict_)

    # Expiry

    def get_session_cookie_age(self) -> float:
        """The idle limit of an ordinary session in seconds."""
        limits = default_limits()
        return settings.SESSION_COOKIE_AGE if limits else self._engine.limits(self._open())[0]

    def _apply_expiry(self, value: Any) -> None:
        """Apply what ``set_expiry`` noted to the session, and not only to the browser's cookie."""
        state = self._writable()
        idle, absolute, persistent = self._limits_of(state, value)
        state.ask_notes(idle=idle, absolute=absolute)
        if persistent != state.notes.persistent:
            state.ask_notes(persistent=persistent)

    def _limits_of(self, state: SessionState, value: Any) -> tuple[float, float, bool]:
        """Idle and absolute limit, and whether the cookie outlives the browser."""
        idle, absolute = default_limits() or (math.inf, math.inf)
        persistent = not settings.SESSION_EXPIRE_AT_BROWSER_CLOSE
        if isinstance(value, str):
            value = datetime.fromisoformat(value)
        if isinstance(value, datetime):
            ends = timezone.make_aware(value) if timezone.is_naive(value) else value
            left = ends.timestamp() - state.notes.started_at
            idle, absolute, persistent = math.inf, max(left, _ALREADY_OVER), True
            if ends.timestamp() <= self._engine.now():
                absolute = _ALREADY_OVER
        elif value is not None and value != 0:
            idle, persistent = max(float(value), _ALREADY_OVER), True
            absolute = max(absolute, idle)
        elif value is not None:
            persistent = False
        return idle, absolute, persistent

    def login(self, owner: str, *, keep: bool | Iterable[str] = True) -> None:
        """As `Session.login`; what ``set_expiry`` set to a moment stays that moment."""
        super().login(owner, keep=keep)
        expiry = self.get(EXPIRY_KEY)
        if isinstance(expiry, str):
            # The absolute limit counts from the login on.
            self._apply_expiry(expiry)

    # What Django expects of an engine

    def cycle_key(self) -> None:
        """Django's name for `regenerate`; done when the request is."""
        self.regenerate()
        self._marked = True

    def flush(self) -> None:
        """Django's name for `destroy`."""
        self.destroy()
        self._marked = True

    async def acycle_key(self) -> None:
        """`cycle_key`, without holding up the event loop."""
        await sync_to_async(self.cycle_key)()

    async def aflush(self) -> None:
        """`flush`, without holding up the event loop."""
        await sync_to_async(self.flush)()

    def save(self, must_create: bool = False) -> None:  # type: ignore[override] # as Django's
        """Commit the changes now; even an empty session is stored, so that it has a key.

        Raises:
            CreateError: it must be created and is there already.
            UpdateError: another request ended it meanwhile.
        """
        if must_create and not self.is_new:
            raise CreateError
        try:
            super().save(keep_empty=True)
        except SessionEnded as error:
            raise UpdateError from error

    def create(self) -> None:
        """Store the session under a new key; what it holds stays."""
        if not self.is_new:
            self.regenerate()
        self.save()

    def load(self) -> dict[str, Any]:
        """The data as the store has it now; what wasn't committed is dropped."""
        self.reload()
        return dict(self)

    def exists(self, session_key: str | None) -> bool:
        """Whether this key leads to a live session."""
        return session_key is not None and not self._other(session_key).is_new

    def delete(self, session_key: str | None = None) -> None:
        """End the session of this key; None: this one."""
        if session_key is None or session_key == self.session_key:
            self.destroy()
        else:
            self._other(session_key).destroy()

    def _other(self, session_key: str) -> DjangoSession:
        name = self._transport.name
        environ: Environ = {
            "HTTP_COOKIE": f"{name}={session_key}",
            environ_key(name): session_key,
            "wsgi.url_scheme": NO_SCHEME,
        }
        return DjangoSession(self._engine, environ, self._transport)
