"""Flask: `flask.session` is a Session of ours, and Flask's settings are understood.

`FlaskSessions` wraps the app in a SessionMiddleware and does little else: what is saved and when,
and how streams, errors and headers are handled is up to the middleware, as for any WSGI app.
Nothing else in this package imports Flask.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from inspect import getattr_static
from typing import TYPE_CHECKING, Any, NamedTuple, Self, Unpack, cast

import flask
from flask import (
    current_app,
    g,
    got_request_exception,
    has_app_context,
    has_request_context,
    request,
)
from flask import session as flask_session
from flask.sessions import SecureCookieSession, SessionInterface, SessionMixin

from ._options import check_flag
from .data.flask_values import MarkupCodec
from .engine import Response as Facts
from .errors import (
    ConfigurationError,
    StoreError,
    TooManySessions,
)
from .flask_settings import LIFETIME, Options, hint, lifetime_of, options_from
from .http.exchange import close, is_websocket
from .middleware import SessionMiddleware
from .registry import SessionRegistry
from .session import Phase, Session, enter_phase, is_over, state_of, transport_of

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment
    from flask import Flask, Request, Response
    from jinja2 import Environment

    from .engine import SessionState
    from .http.transport import Transport

__all__ = [
    "EXTENSION",
    "FlaskSession",
    "FlaskSessions",
    "MarkupCodec",
    "Options",
    "options_from",
    "session",
]

EXTENSION = "wsgi_sessions"
"""The middleware's name in ``app.extensions``."""
_ERROR_KEY = "wsgi_sessions.flask.store_error"
_FLASKS_OWN = frozenset(dir(SecureCookieSession))
"""What ``session.name`` means in a template of Flask's, whatever keys there are."""
_OF_FLASK_LOGIN = ("_user_id", "_fresh", "_id", "_remember", "_remember_seconds")


class _SignIn(NamedTuple):
    """What the last sign-in or sign-out by Flask-Login in this request came to."""

    user: str
    owner: str | None
    fields: dict[str, Any]


class FlaskSession(Session, SessionMixin):
    """A Session that also has what Flask expects of one."""

    detached: WSGIEnvironment | None = None
    """The environ of a session that was opened outside of a WSGI call, to be saved there."""
    handed_out = False
    """Whether a request of Flask's has it already."""
    _let_go: Mapping[str, bytes] | None = None
    refused = False
    """Whether the app has seen an error in this request, because its data can't be stored."""
    websocket = False
    """Whether it was opened for a WebSocket, whose headers no commit of ours can add to."""
    former: SessionState | None = None
    """What an earlier event on the same connection has loaded. It goes on from that: the cookie of
    the handshake may be that of a former ID by now."""
    sign_in: _SignIn | None = None
    named: str | None = None
    """The owner whom the app has signed in itself since Flask-Login signed in or out."""

    def _open(self) -> SessionState:
        if self.websocket and self._state is None:
            self._begin()  # never too late for Vary, as nothing of a WebSocket is cached
        return super()._open()

    def _begin(self) -> SessionState:
        if self.former is None:
            return super()._begin()
        self._begun.append(self._engine.open_again(self.former))
        state = self._state = self._begun[0]
        return state

    def _check_late(self, state: SessionState) -> None:
        # What a visitor without a session writes on a WebSocket isn't kept, and does no harm:
        # Flask-Login writes where it finds a remember cookie, and the handshake may yet be refused.
        if not self.websocket or self._phase is Phase.OVER:
            super()._check_late(state)

    def save(self, *, keep_empty: bool = False) -> None:
        """As `Session.save`."""
        if self.websocket and (self.modified or keep_empty):
            super()._check_late(self._open())
        super().save(keep_empty=keep_empty)

    def prove(self) -> None:
        """Load it now, while the connection's cookie is good for it."""
        self._begin()

    def proven(self) -> SessionState | None:
        """What the next event on the same connection goes on from."""
        state = self._state
        if self._engine.in_token or state is None or state.stored is None:
            return self.former
        return state

    def login(self, owner: str, *, keep: bool | Iterable[str] = True) -> None:
        """As `Session.login`."""
        super().login(owner, keep=keep)
        self.named = owner

    @property
    def permanent(self) -> bool:
        """Flask's name for `persistent`: the cookie outlives the browser."""
        return self.persistent

    @permanent.setter
    def permanent(self, value: bool) -> None:
        # Many apps set it before each request, and so before a handshake.
        if not self.websocket:
            self.persistent = bool(value)

    @property
    def new(self) -> bool:  # type: ignore[override] # Flask's is a plain attribute
        """Flask's name for `is_new`: it has not been stored yet."""
        return self.is_new

    @property
    def modified(self) -> bool:
        """True if a commit now would write data, changes inside nested values included.

        Setting it to True, as Flask's own sessions need it, is allowed and does nothing. Set to
        False, what was changed so far isn't kept, unless there are more changes later.
        """
        return super().modified and not self.unmodified

    @modified.setter
    def modified(self, value: bool) -> None:
        state = state_of(self)
        self._let_go = None if value or state is None else state.fields.encoded()

    @property
    def unmodified(self) -> bool:
        """Whether the app has taken back all its changes by ``modified = False``."""
        state = state_of(self)
        if self._let_go is None or state is None or state.intent.id is not None:
            return False
        return state.fields.encoded() == self._let_go

    @property
    def accessed(self) -> bool:
        """True once anything was read or written in this request."""
        return super().accessed

    @accessed.setter
    def accessed(self, value: bool) -> None:
        # Flask sets it whenever the proxy is looked through; what counts is what is done then.
        pass

    def clear(self) -> None:
        """Remove all data, and with it, as in Flask, that the session is permanent.

        Whoever was signed in is signed out, so the session is no longer filed under any owner.
        """
        super().clear()
        if self._phase is Phase.OPEN:
            self.persistent = transport_of(self).persistent
            self.owner = None
        self.sign_in = _noted(self, "")

    def copy(self) -> dict[str, Any]:
        """The data as a dict of its own."""
        return dict(self)

    def __or__(self, other: Mapping[str, Any]) -> dict[str, Any]:
        return {**self, **other} if isinstance(other, Mapping) else NotImplemented  # pyright: ignore[reportUnnecessaryIsInstance] # what was given may be anything

    def __ror__(self, other: Mapping[str, Any]) -> dict[str, Any]:
        return {**other, **self} if isinstance(other, Mapping) else NotImplemented  # pyright: ignore[reportUnnecessaryIsInstance] # anything may be merged

    def __ior__(self, other: Mapping[str, Any] | Iterable[tuple[str, Any]]) -> Self:
        self.update(other)
        return self


session: FlaskSession = cast("FlaskSession", flask_session)
"""``flask.session`` itself, with the type that it has here."""


class FlaskSessions:
    """Gives a Flask app our sessions: ``flask.session`` is a `FlaskSession`.

    Args:
        app: the app, or None to call `init_app` later.
        **options: the options of SessionMiddleware. They win over ``app.config``, where the same
            are found as ``SECRET_KEY`` and ``SECRET_KEY_FALLBACKS``, ``SESSION_COOKIE_*``,
            ``PERMANENT_SESSION_LIFETIME`` (the idle limit), ``SESSION_REFRESH_EACH_REQUEST``, and
            ``SESSION_`` with the option's name for all others: ``SESSION_STORE``,
            ``SESSION_TRUSTED_PROXIES`` and so on. Read once, by `init_app`, except for
            ``PERMANENT_SESSION_LIFETIME``, which takes effect whenever the app sets it.

    Raises:
        ConfigurationError: if any of this is wrong.
    """

    def __init__(self, app: Flask | None = None, **options: Unpack[Options]) -> None:
        for name in options:
            if name not in Options.__annotations__:
                raise ConfigurationError(f"FlaskSessions has no option {name}; {hint(name)}")
        self._options = options
        self._middlewares: list[SessionMiddleware] = []
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask) -> None:
        """Wrap ``app.wsgi_app``, and have ``flask.session`` come from there.

        Raises:
            ConfigurationError: a setting is wrong, or the app has sessions of ours already.
        """
        if not isinstance(app, flask.Flask):  # pyright: ignore[reportUnnecessaryIsInstance] # what was given may be anything
            raise ConfigurationError(f"FlaskSessions: app is {app!r}; give the Flask app itself")
        if EXTENSION in app.extensions:
            raise ConfigurationError(
                f"FlaskSessions: the app {app.name!r} already has its sessions; call init_app once"
            )
        of_class = {
            key: getattr(app, name)
            for name, key in (
                ("secret_key", "SECRET_KEY"),
                ("permanent_session_lifetime", LIFETIME),
            )
            if _is_overridden(app, name)
        }
        config: Mapping[str, Any] = {**cast("Mapping[str, Any]", app.config), **of_class}
        options = options_from(config, self._options)
        middleware = _FlaskMiddleware(_reporting(app.wsgi_app), **options)
        refresh = config.get("SESSION_REFRESH_EACH_REQUEST", True)
        check_flag("app.config", "SESSION_REFRESH_EACH_REQUEST", refresh)
        if "lifetime" not in self._options and "SESSION_LIFETIME" not in config:
            middleware.follow_lifetime(app)
        got_request_exception.connect(_remember_store_error, app)
        app.log_exception = _without_store_errors(app.log_exception)  # type: ignore[method-assign, assignment] # Flask documents it for that
        app.wsgi_app = middleware  # type: ignore[method-assign] # as Flask says to
        app.session_interface = _Interface(middleware, resend=refresh and "rolling" not in options)
        app.extensions[EXTENSION] = middleware
        _let_keys_win(app)
        self._middlewares.append(middleware)

    @property
    def middleware(self) -> SessionMiddleware:
        """The middleware of the current app, or of the only one that was given.

        Raises:
            RuntimeError: if that isn't clear.
        """
        if has_app_context() and EXTENSION in current_app.extensions:
            return cast("SessionMiddleware", current_app.extensions[EXTENSION])
        if len(self._middlewares) != 1:
            raise RuntimeError(
                f"FlaskSessions serves {len(self._middlewares)} apps; use it in an app context of"
                " one of them"
            )
        return self._middlewares[0]

    @property
    def registry(self) -> SessionRegistry:
        """The sessions by owner and by handle, for "your devices" and "sign out everywhere"."""
        return self.middleware.registry


def _is_overridden(app: Flask, name: str) -> bool:
    """Whether a subclass of Flask has an attribute of its own where Flask reads its config."""
    return getattr_static(app, name) is not getattr_static(flask.Flask, name)


class _FlaskMiddleware(SessionMiddleware):
    _session_class = FlaskSession
    _any_path = True
    _lifetime_now: Callable[[], Any] | None = None
    _lifetime_heard: object = None

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        present = environ.get(self._environ_key)
        if isinstance(present, FlaskSession) and present.detached is not None:
            del environ[self._environ_key]  # of a request context, which is over
        return super().__call__(environ, start_response)

    def follow_lifetime(self, app: Flask) -> None:
        """Follow the app's ``permanent_session_lifetime`` with each request, as Flask does."""
        if _is_overridden(app, "permanent_session_lifetime"):
            self._lifetime_now = lambda: app.permanent_session_lifetime
        else:
            config = cast("Mapping[str, Any]", app.config)
            self._lifetime_now = lambda: config.get(LIFETIME)
        self._lifetime_heard = self._lifetime_now()

    def hear_lifetime(self) -> None:
        """Follow the app if it has set another lifetime.

        Raises:
            ConfigurationError: it isn't a valid one.
        """
        if self._lifetime_now is None:
            return
        now = self._lifetime_now()
        if now != self._lifetime_heard:
            self._change_lifetime(lifetime_of(now))
            self._lifetime_heard = now

    def open_for_flask(self, environ: WSGIEnvironment) -> Session:
        """The session of one of Flask's requests; one environ may be used for several, in turn."""
        key = self._environ_key
        session, former = environ.get(key), None
        entered = session is not None and not is_over(session)
        if isinstance(session, FlaskSession) and (
            session.detached is not None or (session.handed_out and _sends_nothing(environ))
        ):
            # Each event on a WebSocket is a request of its own, and sees what others have done.
            entered, former = False, session.proven()
        if not entered:
            # No WSGI call: app.test_request_context(), the test client's session_transaction(), or
            # a handler of Flask-SocketIO's, which may run beside others of the same connection.
            transport = cast("Transport", self._enter(environ))  # there is one on every path
            session = environ[key] = FlaskSession(self._engine, environ, transport)
            session.detached = environ
        if isinstance(session, FlaskSession):
            session.handed_out = True
            event = session.detached is not None and "flask.app" in environ
            if event or is_websocket(environ):
                session.websocket = True
                session.former = former
                enter_phase(session, Phase.STREAMING)
                if event and former is None and self._settings.rotate_after is not None:
                    session.prove()
        return cast("Session", session)

    def check(self, session: FlaskSession) -> None:
        """Raise what the commit would raise because of the data alone, where the app sees it."""
        state = state_of(session)
        if state is not None:
            self._engine.check(state)

    def drop(self, session: FlaskSession) -> None:
        """Give up what the app has changed since the last commit."""
        # Whoever changed something has touched it.
        self._engine.drop(cast("SessionState", state_of(session)))

    def commit_unanswered(self, session: FlaskSession, phase: Phase) -> None:
        """Save what can be saved without a cookie, because no response will carry one."""
        state = state_of(session)
        if state is not None:
            final = phase is Phase.OVER
            self._engine.commit(state, Facts(headers_sent=True, final=final))
        enter_phase(session, phase)

    def keeps(self, response: Response) -> bool:
        """Whether what the session holds is kept with this response."""
        return response.status_code < 500 or self._answers.save_on_error


def _sends_nothing(environ: WSGIEnvironment) -> bool:
    """Whether responses that Flask makes for this environ reach nobody, so set no cookie.

    Flask-SocketIO leaves its app in the environ, and makes a response for its handlers that isn't
    sent.
    """
    return "flask.app" in environ or is_websocket(environ)


class _Interface(SessionInterface):
    """Hands Flask the session that the middleware has put into the environ."""

    def __init__(self, middleware: _FlaskMiddleware, *, resend: bool) -> None:
        self._middleware = middleware
        self._resend = resend
        self._follows_login = False

    def open_session(self, app: Flask, request: Request) -> FlaskSession:
        self._middleware.hear_lifetime()
        if not self._follows_login and hasattr(app, "login_manager"):
            self._follows_login = True
            _follow_flask_login(app)
        session = self._middleware.open_for_flask(request.environ)
        if not isinstance(session, FlaskSession):
            raise ConfigurationError(
                "the Flask app is inside another SessionMiddleware of the same environ_key; leave"
                " that one out, or give FlaskSessions an environ_key and a cookie name of its own"
            )
        return session

    def save_session(self, app: Flask, session: SessionMixin, response: Response) -> None:
        if not isinstance(session, FlaskSession):
            return  # open_session has raised, and Flask makes a response of that
        middleware, environ = self._middleware, session.detached
        middleware.hear_lifetime()
        if self._resend:
            _resend_permanent(session)
        if session.unmodified:
            middleware.drop(session)
        if middleware.keeps(response):
            self._check(session)
        if environ is None:
            if is_websocket(request.environ) and response.status_code < 300:
                # The middleware would, when the connection ends; another event may come before.
                middleware.commit_unanswered(session, Phase.STREAMING)
            return  # the middleware commits when the response begins
        session.detached = None
        if _sends_nothing(environ):
            middleware.commit_unanswered(session, Phase.OVER)
            return
        finished = middleware.commit_session(
            environ, status=response.status, headers=list(response.headers)
        )
        response.headers.clear()
        response.headers.extend(finished)

    def _check(self, session: FlaskSession) -> None:
        """Raise in the app's request, as Flask does, what would be raised out of the middleware."""
        try:
            self._middleware.check(session)
        except Exception:
            if not session.refused:
                session.refused = True
                raise
            # The app's error handler has answered, and left the session as it was.
            self._middleware.drop(session)


def _resend_permanent(session: FlaskSession) -> None:
    # SESSION_REFRESH_EACH_REQUEST; but only where the session was used.
    state = state_of(session)
    if state is not None and state.error is None and state.notes.persistent:
        state.stale_token = True


def _remember_store_error(sender: Flask, exception: BaseException, **_: object) -> None:
    del sender
    if isinstance(exception, StoreError) and has_request_context():
        request.environ[_ERROR_KEY] = exception


def _without_store_errors(log: Callable[[Any], None]) -> Callable[[Any], None]:
    """Don't log again what was logged as an event: an outage would log a traceback per request."""

    def log_exception(exc_info: Any) -> None:
        if not isinstance(exc_info[1], StoreError):
            log(exc_info)

    return log_exception


def _reporting(wsgi_app: WSGIApplication) -> WSGIApplication:
    """Have a StoreError that Flask turned into a 500 reach the middleware, which answers 503."""

    def call(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        try:
            body = wsgi_app(environ, start_response)
        finally:
            # Where Flask raises it (PROPAGATE_EXCEPTIONS), it isn't that of the environ's next use.
            error = environ.pop(_ERROR_KEY, None)
        if error is not None:
            close(body)
            raise cast("StoreError", error)
        return body

    return call


# Templates


def _let_keys_win(app: Flask) -> None:
    """Have ``{{ session.name }}`` mean the key, as in Flask, and never what a Session can do."""
    base = app.jinja_environment

    class SessionEnvironment(base):  # type: ignore[valid-type, misc] # whichever the app has
        def getattr(self, obj: Any, attribute: str) -> Any:
            if attribute not in _FLASKS_OWN and isinstance(obj, FlaskSession):
                return self._key(obj, attribute)
            return super().getattr(obj, attribute)

        def getitem(self, obj: Any, argument: Any) -> Any:
            if argument not in _FLASKS_OWN and isinstance(obj, FlaskSession):
                return self._key(obj, argument)
            return super().getitem(obj, argument)

        def _key(self, session: FlaskSession, name: str) -> Any:
            return session[name] if name in session else self.undefined(obj=session, name=name)

    app.jinja_environment = SessionEnvironment
    if "jinja_env" in vars(app):
        made = cast("Environment", app.jinja_env)
        made.__class__ = SessionEnvironment


# Flask-Login


def _follow_flask_login(app: Flask) -> None:
    """Make its sign-ins and sign-outs ours. It isn't imported here: an app that uses it has."""
    signals = sys.modules.get("flask_login")
    for name, receiver in (
        ("user_logged_in", _signed_in),
        ("user_login_confirmed", _confirmed),
        ("user_loaded_from_cookie", _remembered),
        ("user_logged_out", _signed_out),
        ("session_protected", _protected),
    ):
        if signals is not None:
            getattr(signals, name).connect(receiver, app)


def _current_session() -> FlaskSession | None:
    present: object = cast("Any", flask_session)._get_current_object()  # noqa: SLF001 # Werkzeug documents it
    return present if isinstance(present, FlaskSession) else None


def _signed_in(sender: Flask, **_: object) -> None:
    del sender
    session = _current_session()
    user = None if session is None else session.get("_user_id")
    if session is None or user is None:
        return
    user, before = str(user), session.sign_in
    if session.websocket:
        _leave_as_it_was(session)
        return
    again = before is not None and (before.user, before.owner) == (user, session.owner)
    # By whatever name the app has filed it itself for this user.
    own = session.named is not None and session.named == session.owner
    if session.owner is None or not (again or own):
        try:
            session.login(user)
        except ValueError:
            # No owner can have such a name, but a new ID is due all the same.
            session.owner = None
            session.regenerate()
        except TooManySessions:
            _leave_as_it_was(session)
            raise
    session.named, session.sign_in = None, _noted(session, user)


def _noted(session: FlaskSession, user: str) -> _SignIn:
    fields = {name: session[name] for name in _OF_FLASK_LOGIN if name in session}
    return _SignIn(user, session.owner, fields)


def _leave_as_it_was(session: FlaskSession) -> None:
    """Have the session, and this request, know the user whom it had before Flask-Login wrote."""
    # Flask-Login has written, and so touched it.
    cast("SessionState", state_of(session)).fields.restore(_OF_FLASK_LOGIN)
    before = session.sign_in
    if before is not None:
        for name in _OF_FLASK_LOGIN:
            session.pop(name, None)
        if before.owner == session.owner:
            session.update(before.fields)
    if not session.websocket:
        # Flask-Login looks at the session again where there is none.
        g.pop("_login_user", None)


def _confirmed(sender: Flask, **_: object) -> None:
    """The user of the session has given the password again, under whichever name it is filed."""
    session = _current_session()
    if session is None or session.owner is None or session.websocket:
        _signed_in(sender)
    elif session.get("_user_id") is not None:
        named = session.named
        session.login(session.owner)
        session.named = named


def _remembered(sender: Flask, **_: object) -> None:
    """The remember cookie isn't a sign-in, so it doesn't count as one for ``is_fresh``."""
    del sender
    session = _current_session()
    user = None if session is None else session.get("_user_id")
    if session is None or user is None:
        return
    if session.websocket:
        _leave_as_it_was(session)
    elif session.owner is None:
        try:
            session.owner = str(user)
        except (TooManySessions, ValueError):
            # The cookie is good for this request; its user is in nobody's list.
            _leave_as_it_was(session)


def _protected(sender: Flask, **_: object) -> None:
    """Flask-Login has signed out somebody who seems to have stolen the cookie."""
    session = _current_session()
    if session is not None and session.websocket:
        _leave_as_it_was(session)
    else:
        _signed_out(sender)


def _signed_out(sender: Flask, **_: object) -> None:
    del sender
    session = _current_session()
    if session is None:
        return
    if "_user_id" not in session:
        if session.websocket and session.owner is not None:
            _leave_as_it_was(session)
        session.owner = None
    session.named, session.sign_in = None, _noted(session, "")
