"""A site whose sessions are bound by the middleware itself; what its pages do is the test's."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any

from device import Agent
from wsgi_sessions import Cookie, DeviceBinding, Lifetime, Session, SessionEvent, SessionMiddleware
from wsgi_sessions.crypto.session_id import new_id
from wsgi_sessions.stores import MemoryStore
from wsgi_sessions.testing import FakeClock, FaultyStore

SECRET = "a secret of at least thirty-two bytes, for tests"
COOKIE = Cookie("__Host-s", secure=True)
Handler = Callable[[Session], Any]


def shown(session: Session) -> dict[str, Any]:
    """What the app sees."""
    return {
        "session": None if session.is_new else session.handle,
        "owner": session.owner,
        "bound": session.device_bound,
        "since": session.device_bound_at and session.device_bound_at.timestamp(),
        "proven": session.is_proven,
        "fresh": session.is_fresh(within=10**6),
        "data": dict(session),
    }


def login(session: Session) -> None:
    session.login("ada")


def destroy(session: Session) -> None:
    session.destroy()


class BoundApp:
    """A WSGI app: /login, /page, /put, /logout, and whatever a test adds to ``routes``."""

    def __init__(
        self, settings: DeviceBinding | None = None, cookie: Cookie = COOKIE, **options: Any
    ) -> None:
        self.routes: dict[str, Handler] = {
            "/login": login,
            "/page": shown,
            "/put": lambda session: session.update(seen=True),
            "/logout": destroy,
            "/none": lambda session: None,
        }
        self.status = "200 OK"
        self.headers: list[tuple[str, str]] = []
        """What the app adds to every answer."""
        self.ids: list[str] = []
        """Of the next sessions, where a test wants certain ones."""
        self.clock = FakeClock(1_800_000_000.0)
        self.store = FaultyStore(MemoryStore())
        self.events: list[SessionEvent] = []
        self.log: list[dict[str, Any]] = []
        """Every request with its headers, and what was answered."""
        self.middleware = SessionMiddleware(
            self._app,
            secret_key=SECRET,
            cookie=cookie,
            **{
                "device_binding": settings or DeviceBinding(),
                "store": self.store,
                "clock": self.clock,
                "on_event": self.events.append,
                "id_factory": lambda: self.ids.pop(0) if self.ids else new_id(),
                # A page that is only read writes nothing at all.
                "touch_interval": 10**6,
                "lifetime": Lifetime(idle=30 * 86_400, absolute=30 * 86_400),
                **options,
            },
        )

    def _app(self, environ: dict[str, Any], start_response: Any) -> list[bytes]:
        session = environ["wsgi_sessions.session"]
        work: Handler = self.routes.get(environ["PATH_INFO"]) or shown
        result = work(session)
        start_response(self.status, [("Content-Type", "text/html"), *self.headers])
        return [json.dumps(result).encode()]

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        sent = {name: value for name, value in environ.items() if name.startswith("HTTP_")}
        entry = {"method": environ["REQUEST_METHOD"], "path": environ["PATH_INFO"], **sent}
        entry["length"] = environ.get("CONTENT_LENGTH")

        def start(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
            entry.update(status=status, headers=headers)
            return start_response(status, headers, *([exc_info] if exc_info else []))

        body = b"".join(self.middleware(environ, start))
        self.log.append({**entry, "body": body.decode()})
        return [body]

    def signed_in(self, algorithm: str = "ES256", **environ: Any) -> Agent:
        """A browser that has signed in and was offered to bind."""
        agent = Agent(self, algorithm)
        agent.request("/login", **environ)
        return agent

    def bound(self, algorithm: str = "ES256") -> Agent:
        """A browser whose session is bound, longer ago than the grace, and proven just now."""
        agent = self.signed_in(algorithm)
        assert agent.register().status == 200
        assert agent.request("/page").json["proven"]
        self.clock.advance(100)
        self.forget()
        return agent

    def forget(self) -> None:
        """Begin anew to count, and to note what happens."""
        self.store.calls.clear()
        self.events.clear()

    @property
    def kinds(self) -> list[str]:
        return [event.kind for event in self.events]

    @property
    def writes(self) -> int:
        """How many writes the store was asked for."""
        calls = self.store.calls
        return calls["insert"] + calls["update"] + calls["delete"]

    def records(self) -> dict[str, Any]:
        """All that the store has."""
        inner = self.store.store
        return {key: inner.load(key) for key in inner.keys()}  # noqa: SIM118 # a store is not a mapping
