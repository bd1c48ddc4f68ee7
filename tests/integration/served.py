"""The app that test_servers.py has real servers run. Its store comes from the environment."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, make_server

from wsgi_sessions import Cookie, Session, SessionMiddleware, get_session

SECRET = "a secret of at least thirty-two bytes, for tests"
FILE = bytes(range(256)) * 1024
Start = Callable[..., Callable[[bytes], object]]


class Closing:
    """A body whose close() writes to the session."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._chunks = iter([b"one ", b"two"])

    def __iter__(self) -> Iterator[bytes]:
        return self._chunks

    def close(self) -> None:
        self._session["closed"] = True


def stream(session: Session) -> Iterator[bytes]:
    yield b""
    yield b"first "
    session["streamed"] = True
    yield b"second "
    yield b"third"


def answer(session: Session, environ: dict[str, Any]) -> Any:
    match environ["PATH_INFO"]:
        case "/count":
            session["n"] = session.get("n", 0) + 1
        case "/mark":
            session[environ["QUERY_STRING"]] = True
        case "/increment":
            return session.increment("total")
        case "/login":
            session.login("ada")
        case "/logout":
            session.destroy()
        case "/environ":
            wrapper = environ.get("wsgi.file_wrapper")
            return {
                "multiprocess": bool(environ["wsgi.multiprocess"]),
                "multithread": bool(environ["wsgi.multithread"]),
                "file_wrapper": None if wrapper is None else type(wrapper).__name__,
                "cookie": environ.get("HTTP_COOKIE"),
                "pid": os.getpid(),
            }
        case _:
            pass
    return dict(session)


def app(environ: dict[str, Any], start_response: Start) -> Iterable[bytes]:
    session, path = get_session(environ), environ["PATH_INFO"]
    plain = ("Content-Type", "text/plain")
    if path == "/write-and-redirect":
        session["mark"] = environ["QUERY_STRING"]
        start_response("303 See Other", [plain, ("Location", "/all"), ("Content-Length", "0")])
        return []
    if path in ("/stream", "/closing"):
        session[path[1:]] = True
        start_response("200 OK", [plain])
        return stream(session) if path == "/stream" else Closing(session)
    if path == "/write":
        session["written"] = True
        write = start_response("200 OK", [plain])
        write(b"written ")
        return [b"and returned"]
    if path == "/file":
        session["file"] = True
        start_response("200 OK", [plain, ("Content-Length", str(len(FILE)))])
        file = io.BytesIO(FILE)
        if "wsgi.file_wrapper" in environ and path == "/file":
            return environ["wsgi.file_wrapper"](file, 8192)  # type: ignore[no-any-return] # the server's
        return iter(lambda: file.read(8192), b"")
    body = json.dumps(answer(session, environ)).encode()
    start_response("200 OK", [plain, ("Content-Length", str(len(body)))])
    return [b"" if environ["REQUEST_METHOD"] == "HEAD" else body]


application = SessionMiddleware(
    app, secret_key=SECRET, store=os.environ["STORE"], cookie=Cookie(persistent=True)
)


class Quiet(WSGIRequestHandler):
    def log_message(self, *args: Any) -> None:
        pass


def serve_with_wsgiref(port: int) -> None:
    make_server("127.0.0.1", port, application, handler_class=Quiet).serve_forever()
