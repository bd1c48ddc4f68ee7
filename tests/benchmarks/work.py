"""What is asked of every contender: the same app, the same data, the same requests.

An app's work is `act`: plain mapping operations on whatever the contender calls a session, and
what that contender wants to be told besides (`Manners`). The answer tells what was read, so that a
dry run can see that each contender really does the work.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

Environ = dict[str, Any]
App = Callable[[Environ, Any], Iterable[bytes]]
NAME = "session"
interruptions: list[Callable[[], object]] = []
"""What happens in the middle of the next ``slow-add``."""
USER = "user-4711"

_ROWS = 40
"""The share of a field that one row takes at least, in bytes."""


def payload(size: int, fields: int) -> dict[str, Any]:
    """Data of about ``size`` bytes of JSON: rows of an order, in one field or in many.

    A field has at least its counter: 50 fields of a session of 100 bytes hold nothing else.
    """
    share = size // fields
    data: dict[str, Any] = {}
    for number in range(fields):
        rows: list[Any] = []
        field = {"n": 0, "rows": rows}
        while len(json.dumps(field)) + 2 * _ROWS <= share:
            index = len(rows)
            rows.append(
                {"id": 1000 + index, "name": f"Article {index}", "price": index + 0.5, "new": True}
            )
        data[f"f{number:02d}"] = field
    return data


def nothing(session: Any) -> None:
    """Not even whether it is true: a mapping would count its fields."""


@dataclass(frozen=True, slots=True)
class Manners:
    """What a contender wants to be told, beyond mapping operations."""

    changed: Callable[[Any], object] = nothing
    """That something inside a value has changed."""
    new_id: Callable[[Any], object] = nothing
    """That the session must get a new ID, because someone signed in."""
    sign_in: Callable[[Any], object] | None = None
    """Its own way to sign someone in, filed under the user; None: it has none."""
    end: Callable[[Any], object] = nothing
    """That the session is over."""


def act(action: str, session: Any, manners: Manners, data: dict[str, Any]) -> bytes:
    """One request's work; the answer is what the client sees."""
    if action == "read":
        return str(session["f00"]["n"]).encode()
    if action == "change":
        field = session["f00"]
        field["n"] += 1
        session["f00"] = field
        manners.changed(session)
        return str(field["n"]).encode()
    if action == "new":
        session.update(data)
        manners.changed(session)
        return b"new"
    if action == "sign-in":
        manners.new_id(session)
        session["user"] = USER
        manners.changed(session)
        return b"signed in"
    if action == "login":
        assert manners.sign_in is not None
        manners.sign_in(session)
        return b"signed in"
    if action == "who":
        return str(session.get("user")).encode()
    if action == "logout":
        manners.end(session)
        return b"out"
    if action.startswith("add-"):
        session[action] = 1
        manners.changed(session)
        return b"added"
    if action == "slow-add":
        # Something else happens to the session between reading and writing.
        session.get("user")
        interruptions.pop()()
        session["late"] = 1
        manners.changed(session)
        return b"added"
    if action == "has-data":
        return str("f00" in session or "late" in session).encode()
    if action == "count":
        return str(sum(1 for name in list(session.keys()) if name.startswith("add-"))).encode()
    raise ValueError(action)


BASE: Environ = {
    "REQUEST_METHOD": "GET",
    "SCRIPT_NAME": "",
    "PATH_INFO": "/",
    "QUERY_STRING": "",
    "REMOTE_ADDR": "127.0.0.1",
    "REMOTE_PORT": "51234",
    "SERVER_NAME": "localhost",
    "SERVER_PORT": "80",
    "SERVER_PROTOCOL": "HTTP/1.1",
    "SERVER_SOFTWARE": "bench",
    "HTTP_HOST": "localhost",
    "HTTP_USER_AGENT": "Mozilla/5.0 (X11; Linux x86_64) Gecko/20100101 Firefox/140.0",
    "HTTP_ACCEPT": "text/html,application/xhtml+xml",
    "HTTP_ACCEPT_LANGUAGE": "en,de;q=0.5",
    "HTTP_ACCEPT_ENCODING": "gzip, deflate, br",
    "HTTP_CONNECTION": "keep-alive",
    "wsgi.version": (1, 0),
    "wsgi.url_scheme": "http",
    "wsgi.input": None,
    "wsgi.errors": None,
    "wsgi.multithread": True,
    "wsgi.multiprocess": False,
    "wsgi.run_once": False,
}


def request(action: str, cookie: str | None = None) -> Environ:
    """The environ of a request that asks for ``action``, with another site's cookies beside ours."""
    environ = {**BASE, "PATH_INFO": f"/{action}"}
    if cookie is not None:
        environ["HTTP_COOKIE"] = f"_ga=GA1.2.1234.5678; {cookie}; theme=dark"
    return environ


def send(app: App, environ: Environ) -> tuple[str, list[tuple[str, str]], bytes]:
    """Have the app answer; status, headers and body."""
    seen: list[Any] = []

    def start_response(status: str, headers: Any, exc_info: Any = None) -> Callable[[bytes], None]:
        seen[:] = status, headers
        return _no_write

    body = app(dict(environ), start_response)
    content = b"".join(body)
    close = getattr(body, "close", None)
    if close is not None:
        close()
    return seen[0], seen[1], content


def _no_write(data: bytes) -> None:
    raise AssertionError("no contender writes")


def cookie_of(headers: Iterable[tuple[str, str]]) -> str | None:
    """``name=value`` of the Set-Cookie of our name; None if there is none."""
    for name, value in headers:
        if name.lower() == "set-cookie" and value.lstrip().startswith(f"{NAME}="):
            return value.lstrip().partition(";")[0]
    return None
