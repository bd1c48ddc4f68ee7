"""A small site whose sessions can be bound, without the engine: a dict, and `device_binding`.

What the routes need of an engine is here in its simplest form, so that a test sees what was asked
of it, and can make it fail.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from wsgi_sessions.cookie import Cookie, find_candidates
from wsgi_sessions.device_binding import (
    Binder,
    Binding,
    BoundState,
    DeviceBinding,
    answer,
    judge,
    offer_is_due,
    read_request,
    route_of,
)
from wsgi_sessions.device_binding.binding import dump_binding, load_binding
from wsgi_sessions.errors import StoreError

SECRET = b"0123456789abcdef0123456789abcdef"


@dataclass
class Stored:
    owner: str | None
    note: str | None = None
    offered_at: float | None = None


@dataclass
class Sessions:
    """The engine's part: what is stored, what was asked, and what goes wrong."""

    stored: dict[str, Stored] = field(default_factory=dict)
    loads: int = 0
    writes: int = 0
    down: bool = False
    before_bind: list[Callable[[], object]] = field(default_factory=list)
    """What happens between a load and the write that follows; each makes that write fail."""

    def find(self, handle: str) -> BoundState | None:
        self.loads += 1
        if self.down:
            raise StoreError("the store is down", operation="load")
        found = self.stored.get(handle)
        if found is None:
            return None
        binding = None if found.note is None else load_binding(found.note)
        return BoundState(binding, found.owner is not None)

    def bind(self, handle: str, binding: Binding) -> bool:
        if self.before_bind:
            self.before_bind.pop(0)()
            return False
        self.writes += 1
        self.stored[handle].note = dump_binding(binding)
        return True


class BoundSite:
    """A WSGI app: /login, /page and the two routes.

    Its session cookie is the handle itself: who holds it is not the point here.
    """

    def __init__(
        self,
        settings: DeviceBinding | None = None,
        cookie: Cookie | None = None,
        clock: Callable[[], float] = lambda: 1_800_000_000.0,
    ) -> None:
        self.cookie = cookie or Cookie("__Host-s", secure=True)
        self.settings = settings or DeviceBinding()
        self.binder = Binder(self.settings, self.cookie, (SECRET,))
        self.sessions = Sessions()
        self.clock = clock

    def begin(self, owner: str | None = "ada") -> str:
        """A session, and its handle."""
        handle = secrets.token_hex(32)
        self.sessions.stored[handle] = Stored(owner)
        return handle

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        status, headers, body = self.respond(environ)
        start_response(status, headers)
        return [body]

    def respond(self, environ: dict[str, Any]) -> tuple[str, list[tuple[str, str]], bytes]:
        now = self.clock()
        handles = find_candidates(environ.get("HTTP_COOKIE", ""), self.cookie.name).values
        route = route_of(self.binder, environ)
        if route is not None:
            request = read_request(route, environ, handles)
            given = answer(self.binder, request, self.sessions, now)
            return given.status, given.headers, given.body
        if environ["PATH_INFO"] == "/login":
            return self._login(environ, now)
        return self._page(environ, handles, now)

    def _login(
        self, environ: dict[str, Any], now: float
    ) -> tuple[str, list[tuple[str, str]], bytes]:
        handle = self.begin()
        headers = [
            ("Location", "/page"),
            ("Set-Cookie", f"{self.cookie.name}={handle}; Path=/; Secure; HttpOnly; SameSite=Lax"),
        ]
        offer = self.binder.offer(handle, now=now, script_name=environ.get("SCRIPT_NAME", ""))
        assert offer is not None
        return "303 See Other", [*headers, offer], b""

    def _page(
        self, environ: dict[str, Any], handles: tuple[str, ...], now: float
    ) -> tuple[str, list[tuple[str, str]], bytes]:
        found = next((h for h in handles if h in self.sessions.stored), None)
        if found is None:
            return "200 OK", [("Content-Type", "text/html")], b'{"session": null}'
        stored = self.sessions.stored[found]
        binding = None if stored.note is None else load_binding(stored.note)
        proven = self.binder.proves(environ.get("HTTP_COOKIE"), found, now=now)
        standing = judge(binding, proven=proven, now=now, grace=self.binder.grace)
        if standing.confirm and binding is not None:
            stored.note = dump_binding(binding.confirmed())
        shown = {
            "session": found,
            **standing._asdict(),
            "due": offer_is_due(
                binding,
                logged_in=False,
                offered_at=now,
                now=now,
                grace=self.binder.grace,
            ),
        }
        return "200 OK", [("Content-Type", "text/html")], json.dumps(shown).encode()
