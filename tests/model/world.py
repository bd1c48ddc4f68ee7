"""The world of a run: browsers with cookie jars, servers, a store, a clock; and `peek`.

`peek` opens a session as a request would and commits nothing: so the oracle can look at any moment,
also between two store calls of a request, without changing what it looks at.
"""

from __future__ import annotations

import functools
import itertools
import re
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from random import Random
from typing import Any
from wsgiref.util import setup_testing_defaults

from wsgi import TickingClock
from wsgi_sessions import Cookie, Lifetime, SessionMiddleware
from wsgi_sessions.stores import MemoryStore
from wsgi_sessions.testing import FakeClock

from .scenario import Fail, Scenario
from .stores import KEY, Stores, watched
from .view import State, bare

IDLE, ABSOLUTE, NAME = 1000.0, 3000.0, "session"
BEGIN = 1_800_000_000.0
_ENVIRON: dict[str, Any] = {"PATH_INFO": "/", "REMOTE_ADDR": "192.0.2.1"}
setup_testing_defaults(_ENVIRON)
_ID = re.compile(r"[A-Za-z0-9_-]{43}")


@dataclass
class Seen:
    """A live session, as a token shows it."""

    state: State
    id: str
    handle: str


@dataclass
class Answer:
    """A Set-Cookie on its way to a browser."""

    token: str | None
    """None: the cookie is to go."""
    moment: int
    """When it was sent; see `World.moment`."""
    faulty: bool
    """Whether the store failed in that request."""


class World:
    """All but the oracle."""

    def __init__(self, scenario: Scenario, stores: Stores, app: Any) -> None:
        self.kind = scenario.store
        self.shared = self.kind != "client"
        self.options = dict(scenario.options)
        ticks = self.options.pop("ticking", False)
        self.clock = TickingClock(BEGIN) if ticks else FakeClock(BEGIN)
        self.app = app
        self.calls = 0
        self.hook: Any = None
        self.raw = stores.make(self.kind, max_sessions=self.options.pop("max_sessions", None))
        self.store = watched(self.raw, self._before_call) if self.shared else self.raw
        self.secrets: list[str] = []
        self.events: list[Any] = []
        self.evicted = False
        """Whether the memory store ever ended a session for lack of space."""
        self.jars: list[str | None] = [None] * 3
        self.late: list[list[Answer]] = [[] for _ in self.jars]
        self.moment = itertools.count().__next__
        """Tells what came before what, whatever the clock says: greater each time."""
        self.quiet = 0
        self.locked = False
        self._random = Random("IDs")
        self.new_secret()

    def _new_id(self) -> str:
        return urlsafe_b64encode(self._random.randbytes(32)).rstrip(b"=").decode()

    def new_secret(self) -> None:
        """Start the servers anew, with another secret."""
        self.secrets = [f"secret number {len(self.secrets):30}", *self.secrets]
        options = dict(self.options)
        if self.kind == "encrypted":
            options["encryption_keys"] = [KEY]
        self.middleware = SessionMiddleware(
            self._run_app,
            secret_key=self.secrets[:2],
            store=self.store,
            clock=self.clock,
            id_factory=self._new_id,
            cookie=Cookie(NAME, persistent=options.pop("persistent", False)),
            lifetime=Lifetime(IDLE, ABSOLUTE),
            on_event=self._on_event,
            **options,
        )
        self.registry = self.middleware.registry

    def _run_app(self, environ: Any, start_response: Any) -> Any:
        return self.app(environ, start_response)

    def _on_event(self, event: Any) -> None:
        self.evicted = self.evicted or event.detail.startswith("evicted")
        if not self.quiet:
            self.events.append(event)

    def _before_call(self, operation: str, *, writes: bool) -> Fail | None:
        if self.locked and writes:
            return Fail()
        if self.quiet or self.hook is None:
            return None
        fault: Fail | None = self.hook(operation)
        return fault

    @contextmanager
    def silence(self) -> Iterator[None]:
        """Nothing fails, nothing comes in between, nothing is counted."""
        self.quiet += 1
        try:
            yield
        finally:
            self.quiet -= 1

    @contextmanager
    def read_only(self) -> Iterator[None]:
        """Nothing can be written."""
        self.locked = True
        try:
            yield
        finally:
            self.locked = False

    def peek(self, token: str | None) -> Seen | None:
        """What this token leads to now; nothing is changed."""
        if token is None:
            return None
        with self.silence():
            session = self.middleware.open_session(environ(token))
            assert session is not None
            fields = dict(session)
            if session.is_new:
                return None
            state = State(fields, session.owner, bare(session.label))
            return Seen(state, session.id, session.handle)

    def peek_id(self, session_id: str) -> Seen | None:
        """What this ID leads to now."""
        return self.peek(self.sign(session_id))

    def sign(self, session_id: str) -> str:
        """The token of an ID: a middleware on a store of its own gives it out."""
        return _token(session_id, self.secrets[0])

    def deliver(self, browser: int, answer: Answer) -> None:
        self.jars[browser] = answer.token


def environ(token: str | None) -> dict[str, Any]:
    made = dict(_ENVIRON)
    if token is not None:
        made["HTTP_COOKIE"] = f"{NAME}={token}"
    return made


class _Signer:
    """Makes tokens of IDs under one secret: a middleware of its own that gives out what it is told."""

    def __init__(self, secret: str) -> None:
        self.asked = ""
        self.middleware = SessionMiddleware(
            _no_app,
            secret_key=secret,
            store=MemoryStore(),
            cookie=Cookie(NAME),
            id_factory=lambda: self.asked,
        )

    def sign(self, session_id: str) -> str:
        self.asked, made = session_id, environ(None)
        self.middleware.store.clear()  # IDs of one session have one key
        session = self.middleware.open_session(made)
        assert session is not None
        session["any"] = 1
        token = set_cookie(self.middleware.commit_session(made))
        assert token
        return token


def _no_app(environ: Any, start_response: Any) -> Any:
    raise AssertionError("it only signs")


_signer = functools.cache(_Signer)


@functools.cache
def _token(session_id: str, secret: str) -> str:
    return _signer(secret).sign(session_id)


def set_cookie(headers: list[tuple[str, str]]) -> str | None:
    """The token that these headers set: "" if they expire it, None if there is none."""
    values = [value for name, value in headers if name.lower() == "set-cookie"]
    assert len(values) < 2, "one response carries at most one Set-Cookie of our name"
    if not values:
        return None
    pair, *attributes = values[0].split("; ")
    return "" if "Max-Age=0" in attributes else pair.partition("=")[2]


def id_of(token: str) -> str:
    """The ID in a token."""
    found = _ID.match(token)
    assert found
    return found[0]
