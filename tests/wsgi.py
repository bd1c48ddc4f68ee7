"""A WSGI client for tests: plain, strict, with a small cookie jar of its own."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any
from wsgiref.util import setup_testing_defaults
from wsgiref.validate import validator

from wsgi_sessions import Session, SessionEvent, SessionMiddleware
from wsgi_sessions.testing import FakeClock

SECRET = "a secret of at least thirty-two bytes, for tests"
Handler = Callable[[Session], Any]


class TickingClock(FakeClock):
    """A clock on which time passes with each look at it, as it does in life."""

    def __call__(self) -> float:
        self.now += 1 / 2048
        return self.now


@dataclass
class Response:
    """What came back, byte for byte."""

    status: str
    headers: list[tuple[str, str]]
    body: bytes
    chunks: list[bytes] = field(default_factory=list)

    @property
    def code(self) -> int:
        return int(self.status[:3])

    @property
    def text(self) -> str:
        return self.body.decode("utf-8")

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key.lower() == name.lower()]

    def get(self, name: str) -> str | None:
        values = self.all(name)
        assert len(values) <= 1, values
        return values[0] if values else None

    @property
    def set_cookie(self) -> str | None:
        return self.get("Set-Cookie")


def environ(path: str = "/", *, cookie: str | None = None, **extra: Any) -> dict[str, Any]:
    made: dict[str, Any] = {"PATH_INFO": path, "SCRIPT_NAME": "", "REMOTE_ADDR": "192.0.2.1"}
    made["QUERY_STRING"] = ""
    made["wsgi.input"] = io.BytesIO()
    if cookie is not None:
        made["HTTP_COOKIE"] = cookie
    made.update(extra)
    if made.get("wsgi.url_scheme") == "https":
        made.setdefault("SERVER_PORT", "443")
    setup_testing_defaults(made)
    made["wsgi.errors"] = sys.stderr
    return made


def call(app: Any, made: dict[str, Any], *, check: bool = True) -> Response:
    """One request, through wsgiref's validator; the body is read and closed as a server does."""
    started: list[tuple[str, list[tuple[str, str]]]] = []
    written: list[bytes] = []

    def start_response(
        status: str, headers: list[tuple[str, str]], exc_info: Any = None
    ) -> Callable[[bytes], None]:
        if started and exc_info is None:
            raise AssertionError("start_response called twice")
        started.append((status, list(headers)))
        return written.append

    body: Iterable[bytes] = (validator(app) if check else app)(made, start_response)
    chunks: list[bytes] = []
    try:
        for chunk in body:
            assert started, "a chunk came before start_response"
            chunks.append(chunk)
    finally:
        closing = getattr(body, "close", None)
        if closing is not None:
            closing()
    status, headers = started[-1]
    return Response(status, headers, b"".join(written) + b"".join(chunks), chunks)


class Browser:
    """Sends requests and keeps cookies by name; knows nothing of paths and domains."""

    def __init__(self, app: Any, **extra: Any) -> None:
        self.app = app
        self.extra = extra
        self.cookies: dict[str, str] = {}

    def get(self, path: str = "/", *, check: bool = True, **extra: Any) -> Response:
        header = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        made = environ(path, cookie=header or None, **{**self.extra, **extra})
        response = call(self.app, made, check=check)
        for value in response.all("Set-Cookie"):
            pair, _, attributes = value.partition(";")
            name, _, token = pair.partition("=")
            if "max-age=0" in attributes.lower().replace(" ", ""):
                self.cookies.pop(name, None)
            else:
                self.cookies[name] = token
        return response


class Site:
    """An app whose paths are functions of the session, wrapped, with a clock and its events."""

    def __init__(self, **options: Any) -> None:
        self.routes: dict[str, Handler] = {}
        self.headers: list[tuple[str, str]] = []
        self.status = "200 OK"
        self.clock = FakeClock(1_800_000_000.0)
        self.events: list[SessionEvent] = []
        options.setdefault("clock", self.clock)
        options.setdefault("on_event", self.events.append)
        options.setdefault("secret_key", SECRET)
        self.middleware = SessionMiddleware(self._app, **options)
        self.store = self.middleware.store

    def _app(self, made: dict[str, Any], start_response: Any) -> list[bytes]:
        result = self.routes[made["PATH_INFO"]](made["wsgi_sessions.session"])
        body = str(result).encode("utf-8")
        plain = ("Content-Type", "text/plain; charset=utf-8")
        start_response(self.status, [plain, *self.headers])
        return [body]

    def browser(self, **extra: Any) -> Browser:
        return Browser(self.middleware, **extra)

    def run(self, browser: Browser, work: Handler, **extra: Any) -> Response:
        """One request in which the app does ``work`` with its session."""
        self.routes["/run"] = work
        return browser.get("/run", **extra)

    @property
    def kinds(self) -> list[str]:
        return [event.kind for event in self.events]
