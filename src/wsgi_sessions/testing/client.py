"""Opens, changes and inspects the session of a test client, without a request to the app.

Exported as `wsgi_sessions.testing.session_of`. It does what a request with the client's cookies
does to a session, and then puts the cookies that are set into its jar; the app isn't called.
"""

from __future__ import annotations

import email.message
import io
from collections.abc import Callable, Generator, Iterable, MutableMapping
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from http.cookiejar import CookieJar
from http.cookies import SimpleCookie
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast, overload
from urllib.parse import urlsplit
from urllib.request import Request
from urllib.response import addinfourl

from werkzeug.test import Client, EnvironBuilder
from werkzeug.wsgi import get_current_url

from ..cookie import Cookie, domain_matches, path_matches
from ..engine.decisions import CookieStep
from ..http.transport import CookieTransport
from ..middleware import SessionMiddleware
from ..session import Session, state_of, transport_of

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

    from ..flask import FlaskSession
    from ..integration import Integration

S = TypeVar("S", bound=Session)


class HasCookieJar(Protocol):
    """A client with a jar of the standard library, such as ``webtest.TestApp``."""

    cookiejar: CookieJar


class HasMiddleware(Protocol):
    """An app that knows its SessionMiddleware, such as one of Flask with FlaskSessions."""

    extensions: dict[str, Any]


TestClient = Client | CookieJar | HasCookieJar | MutableMapping[str, str] | SimpleCookie


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
            ``http.cookiejar.CookieJar`` (as requests' ``session.cookies`` is), the ``cookies`` of
            Django's test client, or a dict of cookie values by name.
        path: the path of the request that would have the session; matters for a cookie with a path.
        base_url: scheme and host of the requests that the client makes.

    Raises:
        LookupError: the cookie's path doesn't cover ``path``.
        TypeError: the client is none of these, or the first argument isn't a middleware.
    """
    middleware = _middleware_of(middleware)
    jar = _jar(client)
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
    url = _url_with(cookie, get_current_url(environ))
    sent = jar(url, [])
    if sent:
        environ["HTTP_COOKIE"] = sent
    try:
        yield session
    except BaseException:
        jar(url, _cookies_in(middleware.discard_session(environ)))
        raise
    if _changed(session):
        jar(url, _cookies_in(middleware.commit_session(environ)))


def _url_with(cookie: Cookie, url: str) -> str:
    """The URL, or else one nearby to which a client sends this cookie."""
    parts = urlsplit(url)
    host, path = parts.netloc, parts.path
    if cookie.domain is not None and not domain_matches(cookie.domain, host):
        host = cookie.domain.removeprefix(".")
    if not path_matches(cookie.path, path):
        path = cookie.path
    return f"{parts.scheme}://{host}{path}"


def _cookies_in(headers: Iterable[tuple[str, str]]) -> list[str]:
    return [value for name, value in headers if name == "Set-Cookie"]


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


_Jar = Callable[[str, list[str]], str]
"""A request of a client for this URL, whose response sets these cookies; returns the Cookie header
that comes with it."""


def _jar(client: object) -> _Jar:
    if isinstance(client, Client):
        client.get_cookie("")  # raises where it keeps none
        return partial(_ask_client, client)
    jar = getattr(client, "cookiejar", client)
    if isinstance(jar, CookieJar):
        return partial(_ask_jar, jar)
    if isinstance(client, MutableMapping):
        return partial(_ask_mapping, cast("MutableMapping[str, object]", client))
    raise TypeError(
        f"session_of can't find the cookies of a client of type {type(client).__name__}; give it"
        " a test client of Werkzeug, Flask or WebTest, an http.cookiejar.CookieJar, the cookies of"
        " Django's test client, or a dict of cookie values"
    )


def _ask_client(client: Client, url: str, cookies: list[str]) -> str:
    """Ask Werkzeug's test client, which Flask's is, too."""
    sent: list[str] = []

    def answer(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        sent.append(environ.get("HTTP_COOKIE", ""))
        start_response("200 OK", [("Set-Cookie", each) for each in cookies])
        return []

    base, path = url.split("/", 3)[:3], urlsplit(url).path
    app, client.application = client.application, answer
    try:
        # Flask's own method wants an app of Flask.
        Client.open(client, path, base_url="/".join(base)).close()
    finally:
        client.application = app
    return sent[0]


def _ask_jar(jar: CookieJar, url: str, cookies: list[str]) -> str:
    """Ask a jar of the standard library, as browsers written in Python have."""
    request = Request(url)  # noqa: S310 # only for the jar: nothing is opened
    jar.add_cookie_header(request)
    headers = email.message.Message()
    for each in cookies:
        headers["Set-Cookie"] = each
    response = addinfourl(io.BytesIO(), headers, url)
    jar.extract_cookies(response, request)  # type: ignore[arg-type] # it only calls info()
    return request.get_header("Cookie") or ""


def _ask_mapping(kept: MutableMapping[str, object], url: str, cookies: list[str]) -> str:
    """Ask a dict of cookie values by name, or a SimpleCookie, which Django's test client has."""
    del url
    sent = "; ".join(f"{name}={getattr(v, 'coded_value', v)}" for name, v in kept.items())
    for each in cookies:
        pair, *attributes = each.split("; ")
        name, _, value = pair.partition("=")
        if "Max-Age=0" in attributes:
            kept.pop(name, None)
        else:
            # To a SimpleCookie, too, this is how a value is set.
            kept[name] = value
    return sent
