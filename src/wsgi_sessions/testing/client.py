"""Opens, changes and inspects the session of a test client, without a request to the app.

Exported as `wsgi_sessions.testing.session_of`. It does what a request does to a session, and then
puts the cookie into the client's jar; the app isn't called.
"""

from __future__ import annotations

import email.message
import io
from collections.abc import Generator, Iterable, MutableMapping
from contextlib import AbstractContextManager, contextmanager
from http.cookiejar import CookieJar
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast, overload
from urllib.parse import urlsplit
from urllib.request import Request
from urllib.response import addinfourl

from werkzeug.test import Client, EnvironBuilder

from ..cookie import Cookie
from ..engine.decisions import CookieStep
from ..http.transport import CookieTransport
from ..middleware import SessionMiddleware
from ..session import Session, state_of, transport_of

if TYPE_CHECKING:
    from ..flask import FlaskSession
    from ..integration import Integration

S = TypeVar("S", bound=Session)


class HasCookieJar(Protocol):
    """A client with a jar of the standard library, such as ``webtest.TestApp``."""

    cookiejar: CookieJar


class HasMiddleware(Protocol):
    """An app that knows its SessionMiddleware, such as one of Flask with FlaskSessions."""

    extensions: dict[str, Any]


TestClient = Client | CookieJar | HasCookieJar | MutableMapping[str, str]


@overload
def session_of(
    middleware: Integration[S, Any], client: TestClient, path: str = ..., *, base_url: str = ...
) -> AbstractContextManager[S]: ...
@overload
def session_of(
    middleware: SessionMiddleware, client: TestClient, path: str = ..., *, base_url: str = ...
) -> AbstractContextManager[Session]: ...
@overload
def session_of(
    middleware: HasMiddleware, client: TestClient, path: str = ..., *, base_url: str = ...
) -> AbstractContextManager[FlaskSession]: ...


@contextmanager
def session_of(
    middleware: SessionMiddleware | HasMiddleware,
    client: TestClient,
    path: str = "/",
    *,
    base_url: str = "http://localhost",
) -> Generator[Any, None, None]:
    """Open the session of a test client; what the block changes is kept, as after a request.

    A block that only looks leaves everything as it is, the session's idle deadline too; so does
    one that raises, but for what it has saved.

    Args:
        middleware: the app's SessionMiddleware; or the Flask app that FlaskSessions serves.
        client: what holds the cookie: a test client of Werkzeug or Flask, a ``webtest.TestApp``, an
            ``http.cookiejar.CookieJar`` (as requests' ``session.cookies`` is), or a dict of cookie
            values by name.
        path: the path of the request that would have the session; matters for a cookie with a path.
        base_url: scheme and host of the requests that the client makes.

    Raises:
        LookupError: the cookie's path doesn't cover ``path``.
        TypeError: the client is none of these, or the first argument isn't a middleware.
    """
    middleware = _middleware_of(middleware)
    jar = _jar(client, base_url)
    environ = EnvironBuilder(path, base_url=base_url).get_environ()
    session = middleware.open_session(environ)
    if session is None:
        raise LookupError(
            f"the session cookie's path doesn't cover {path!r}; give session_of one that it covers"
        )
    transport = cast("CookieTransport", transport_of(session))
    cookie = transport.cookie
    if not transport.deliverable(secure=environ["wsgi.url_scheme"] == "https"):
        # A client of an https site, whatever its base_url says.
        environ["wsgi.url_scheme"] = "https"
    value = jar.get(cookie)
    if value is not None:
        environ["HTTP_COOKIE"] = f"{cookie.name}={value}"
    try:
        yield session
    except BaseException:
        _keep(jar, cookie, middleware.discard_session(environ))
        raise
    if _changed(session):
        _keep(jar, cookie, middleware.commit_session(environ))


def _keep(jar: _Jar, cookie: Cookie, headers: Iterable[tuple[str, str]]) -> None:
    for name, header in headers:
        if name == "Set-Cookie":
            jar.set(cookie, header)


def _middleware_of(given: object) -> SessionMiddleware:
    extensions = getattr(given, "extensions", None)
    known: object = given
    if isinstance(extensions, dict):
        known = cast("dict[str, object]", extensions).get("wsgi_sessions")
    if isinstance(known, SessionMiddleware):
        return known
    wanted = "the app's SessionMiddleware, or a Flask app after FlaskSessions(app)"
    for name in ("middleware", "steps"):
        if isinstance(getattr(given, name, None), SessionMiddleware):
            # Bottle's plugin, FlaskSessions or Falcon's component.
            wanted = f"its attribute {name}"
    raise TypeError(
        f"the first argument of session_of is of type {type(given).__name__}; give it {wanted}"
    )


def _changed(session: Session) -> bool:
    state = state_of(session)
    return state is not None and (
        session.modified
        or state.cookie is not CookieStep.LEAVE
        or state.intent.touch
        or state.stale_token
    )


class _Jar(Protocol):
    def get(self, cookie: Cookie) -> str | None: ...
    def set(self, cookie: Cookie, header: str) -> None: ...


def _jar(client: object, base_url: str) -> _Jar:
    if isinstance(client, Client):
        return _ClientJar(client, base_url)
    jar = getattr(client, "cookiejar", client)
    if isinstance(jar, CookieJar):
        return _StandardJar(jar, base_url)
    if isinstance(client, MutableMapping):
        return _Mapping(cast("MutableMapping[str, str]", client))
    raise TypeError(
        f"session_of can't find the cookies of a client of type {type(client).__name__}; give it"
        " a test client of Werkzeug, Flask or WebTest, an http.cookiejar.CookieJar, or a dict of"
        " cookie values"
    )


class _ClientJar:
    """The cookies of Werkzeug's test client, which Flask's is too."""

    def __init__(self, client: Client, base_url: str) -> None:
        self._client = client
        self._host = urlsplit(base_url).hostname or "localhost"

    def _place(self, cookie: Cookie) -> tuple[str, str]:
        return (cookie.domain or self._host).removeprefix("."), cookie.path

    def get(self, cookie: Cookie) -> str | None:
        domain, path = self._place(cookie)
        kept = self._client.get_cookie(cookie.name, domain=domain, path=path)
        return None if kept is None else kept.value

    def set(self, cookie: Cookie, header: str) -> None:
        domain, path = self._place(cookie)
        value, max_age = _parsed(header)
        if max_age == 0:
            self._client.delete_cookie(cookie.name, domain=domain, path=path)
            return
        self._client.set_cookie(
            cookie.name,
            value,
            domain=domain,
            path=path,
            origin_only=cookie.domain is None,
            max_age=max_age,
            httponly=cookie.httponly,
            samesite=cookie.samesite,
            secure=cookie.secure is True,
        )


class _StandardJar:
    """A jar of the standard library, as browsers written in Python have."""

    def __init__(self, jar: CookieJar, base_url: str) -> None:
        self._jar = jar
        self._base_url = base_url

    def _request(self, cookie: Cookie) -> Request:
        url = self._base_url.rstrip("/") + cookie.path
        if cookie.secure is True:
            url = url.replace("http://", "https://", 1)
        return Request(url)  # noqa: S310 # only for the jar: nothing is opened

    def get(self, cookie: Cookie) -> str | None:
        request = self._request(cookie)
        self._jar.add_cookie_header(request)
        for pair in (request.get_header("Cookie") or "").split("; "):
            name, _, value = pair.partition("=")
            if name == cookie.name:
                return value
        return None

    def set(self, cookie: Cookie, header: str) -> None:
        headers = email.message.Message()
        headers["Set-Cookie"] = header
        request = self._request(cookie)
        response = addinfourl(io.BytesIO(), headers, request.full_url)
        self._jar.extract_cookies(response, request)  # type: ignore[arg-type] # it only calls info()


class _Mapping:
    """Cookie values by name."""

    def __init__(self, cookies: MutableMapping[str, str]) -> None:
        self._cookies = cookies

    def get(self, cookie: Cookie) -> str | None:
        return self._cookies.get(cookie.name)

    def set(self, cookie: Cookie, header: str) -> None:
        value, max_age = _parsed(header)
        if max_age == 0:
            self._cookies.pop(cookie.name, None)
        else:
            self._cookies[cookie.name] = value


def _parsed(set_cookie: str) -> tuple[str, int | None]:
    """Value and Max-Age of a Set-Cookie of ours."""
    pair, *attributes = set_cookie.split("; ")
    ages = [int(text[8:]) for text in attributes if text.startswith("Max-Age=")]
    return pair.partition("=")[2], ages[0] if ages else None
