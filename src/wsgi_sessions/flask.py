"""Flask: `flask.session` is a Session of ours, and Flask's settings are understood.

`FlaskSessions` wraps the app in a SessionMiddleware and does little else: what is saved when, how
streams, errors and headers are treated is the middleware's, as for any WSGI app. Nothing else in
this package imports Flask.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal, NoReturn, TypedDict, Unpack, cast

from flask import current_app, got_request_exception, has_app_context, has_request_context, request
from flask import session as flask_session
from flask.sessions import NullSession, SessionInterface, SessionMixin
from markupsafe import Markup

from ._options import check_flag, closest
from .cookie import Cookie
from .crypto.signing import Secrets
from .data.codec import MAX_DEPTH, Codec, CorruptField, JSONCodec, UnstorableValue
from .errors import ConfigurationError, StoreError
from .http.exchange import OnStoreError, close
from .lifetime import Lifetime
from .middleware import CookieChoice, Listener, SessionMiddleware
from .proxies import TrustedProxies
from .registry import SessionRegistry
from .session import Session, state_of
from .stores.base import Store

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment
    from flask import Flask, Request, Response

EXTENSION = "wsgi_sessions"
"""Under which name the middleware stands in ``app.extensions``."""
_ERROR_KEY = "wsgi_sessions.flask.store_error"
_DEFAULT_ABSOLUTE = timedelta(days=30)


class Options(TypedDict, total=False):
    """What `FlaskSessions` takes: the options of SessionMiddleware."""

    secret_key: Secrets
    store: Store | str | None
    cookie: CookieChoice
    lifetime: Lifetime
    trusted_proxies: int | TrustedProxies
    codec: Codec | None
    save_uninitialized: bool
    rolling: bool
    save_on_error: bool
    touch_interval: float | timedelta
    rotate_after: float | timedelta | None
    max_bytes: int
    id_factory: Callable[[], str] | None
    clock: Callable[[], float] | None
    max_per_owner: int | None
    when_full: Literal["end_oldest", "refuse"]
    label: Collection[str] | None
    token_header: str | None
    encryption_keys: Sequence[bytes]
    encryption_migrate: bool
    on_event: Listener | Sequence[Listener] | None
    on_store_error: OnStoreError | None
    environ_key: str


# Flask has names of its own for these two.
_FROM_CONFIG = {
    f"SESSION_{name.upper()}": name
    for name in Options.__annotations__
    if name not in ("secret_key", "cookie")
}
_COOKIE_NAMES = tuple(
    f"SESSION_COOKIE_{name}"
    for name in ("NAME", "DOMAIN", "PATH", "HTTPONLY", "SECURE", "SAMESITE", "PARTITIONED")
)
_KNOWN = (*_FROM_CONFIG, *_COOKIE_NAMES, "SESSION_REFRESH_EACH_REQUEST")
# Flask-Session's names, and what takes their place here.
_FLASK_SESSION = {
    "SESSION_TYPE": "SESSION_STORE names the store, for example 'redis://localhost'",
    "SESSION_PERMANENT": "set session.permanent, or give cookie=Cookie(persistent=True)",
    "SESSION_USE_SIGNER": "leave it out, the cookie is always signed",
    "SESSION_KEY_PREFIX": "give SESSION_STORE a RedisStore(client, prefix=…)",
    "SESSION_ID_LENGTH": "leave it out, IDs always have 256 bits",
    "SESSION_SERIALIZATION_FORMAT": "leave it out, or give SESSION_CODEC a codec",
    "SESSION_REDIS": "give SESSION_STORE a RedisStore(client), or its URL",
    "SESSION_FILE_DIR": "give SESSION_STORE 'file:///that/directory'",
    "SESSION_FILE_THRESHOLD": "leave it out, expired files are purged instead",
    "SESSION_FILE_MODE": "give SESSION_STORE a FileStore(path, mode=…)",
    "SESSION_CACHELIB": "give SESSION_STORE a store or a URL, such as 'file:///that/directory'",
    "SESSION_CLEANUP_N_REQUESTS": "leave it out, and run `wsgi-sessions purge` from time to time",
}


class FlaskSession(Session, SessionMixin):
    """A Session that also has what Flask expects of one."""

    detached: WSGIEnvironment | None = None
    """The environ of a session that was opened outside of a WSGI call, to be saved there."""

    @property
    def permanent(self) -> bool:
        """Flask's name for `persistent`: the cookie outlives the browser."""
        return self.persistent

    @permanent.setter
    def permanent(self, value: bool) -> None:
        self.persistent = bool(value)

    @property
    def new(self) -> bool:  # type: ignore[override] # Flask's is a plain attribute
        """Flask's name for `is_new`: it has not been stored yet."""
        return self.is_new

    @property
    def modified(self) -> bool:
        """True if a commit now would write data, changes inside nested values included.

        Setting it to True, as Flask's own sessions need it, is allowed and does nothing.
        """
        return super().modified

    @modified.setter
    def modified(self, value: bool) -> None:
        if not value and super().modified:
            raise AttributeError(
                "modified can't be set to False: changes are found by comparing; call"
                " session.reload() to drop them"
            )

    @property
    def accessed(self) -> bool:
        """True once anything was read or written in this request."""
        return super().accessed

    @accessed.setter
    def accessed(self, value: bool) -> None:
        # Flask sets it whenever the proxy is looked through; what counts is what is done then.
        pass


session: FlaskSession = cast("FlaskSession", flask_session)
"""``flask.session`` itself, with the type that it has here."""


class MarkupCodec:
    """JSONCodec, and Markup too: ``flash(Markup(…))`` works in Flask, so it works here."""

    def __init__(self) -> None:
        self._plain = JSONCodec()

    def encode(self, value: Any) -> bytes:
        """The value as JSON.

        Raises:
            UnstorableValue: a TypeError that says where the trouble is.
        """
        try:
            data = self._plain.encode(value)
        except UnstorableValue:
            # Once more with Markup put into words; what else is wrong with it is said then.
            return self._plain.encode(_worded(value))
        return self._plain.encode(_worded(value)) if _WORDED in data else data

    def wrote(self, value: Any, data: bytes) -> bool:
        """Whether these bytes are what `encode` gives for this value; False: encode it to know."""
        return self._plain.wrote(value, data)  # which knows nothing of bytes with tags in them

    def decode(self, data: bytes) -> Any:
        """The value of this JSON.

        Raises:
            CorruptField: for anything that `encode` would not have written.
        """
        value = self._plain.decode(data)
        try:
            return _unworded(value) if _WORDED in data else value
        except RecursionError:
            raise CorruptField("nested too deep") from None


# As a dict of one name that JSONCodec escapes with one more "~"; an app's own dict of that look
# gets a third.
_MARKUP = "~markup"
_WORDED = b'~markup"'
_LOOK = re.compile("~+markup")


def _worded(value: Any, depth: int = 0) -> Any:
    if type(value) is Markup:
        return {_MARKUP: str(value)}
    if depth > MAX_DEPTH:
        return value
    return _rebuilt(value, "~", lambda item: _worded(item, depth + 1))


def _unworded(value: Any) -> Any:
    if type(value) is dict and [*cast("dict[str, Any]", value)] == [_MARKUP]:
        return Markup(cast("dict[str, str]", value)[_MARKUP])  # noqa: S704 # it was Markup before
    return _rebuilt(value, "", _unworded)


def _rebuilt(value: Any, mark: str, convert: Callable[[Any], Any]) -> Any:
    """The value with all that it holds converted."""
    if type(value) is dict:
        fields = cast("dict[str, Any]", value)
        look = len(fields) == 1 and _LOOK.fullmatch(str(*fields))
        return {
            mark + name[not mark :] if look else name: convert(item)
            for name, item in fields.items()
        }
    return type(value)(map(convert, value)) if type(value) in (list, tuple) else value


class FlaskSessions:
    """Gives a Flask app our sessions: ``flask.session`` is a `FlaskSession`.

    Args:
        app: the app, or None to call `init_app` later.
        **options: the options of SessionMiddleware. They win over ``app.config``, where the same
            are found as ``SECRET_KEY`` and ``SECRET_KEY_FALLBACKS``, ``SESSION_COOKIE_*``,
            ``PERMANENT_SESSION_LIFETIME`` (the idle limit), ``SESSION_REFRESH_EACH_REQUEST``, and
            ``SESSION_`` with the option's name for all others: ``SESSION_STORE``,
            ``SESSION_TRUSTED_PROXIES`` and so on. Read once, by `init_app`.

    Raises:
        ConfigurationError: if any of this is wrong.
    """

    def __init__(self, app: Flask | None = None, **options: Unpack[Options]) -> None:
        for name in options:
            if name not in Options.__annotations__:
                raise ConfigurationError(f"FlaskSessions has no option {name}; {_hint(name)}")
        self._options = options
        self._middlewares: list[SessionMiddleware] = []
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask) -> None:
        """Wrap ``app.wsgi_app``, and have ``flask.session`` come from there.

        Raises:
            ConfigurationError: a setting is wrong, or the app has sessions of ours already.
        """
        if EXTENSION in app.extensions:
            raise ConfigurationError(
                f"FlaskSessions: the app {app.name!r} has its sessions already; call init_app once"
            )
        config = cast("Mapping[str, Any]", app.config)
        options = options_from(config, self._options)
        middleware = _FlaskMiddleware(_reporting(app.wsgi_app), **options)
        refresh = config.get("SESSION_REFRESH_EACH_REQUEST", True)
        check_flag("app.config", "SESSION_REFRESH_EACH_REQUEST", refresh)
        got_request_exception.connect(_remember_store_error, app)
        app.wsgi_app = middleware  # type: ignore[method-assign] # as Flask says to
        app.session_interface = _Interface(middleware, resend=refresh and "rolling" not in options)
        app.extensions[EXTENSION] = middleware
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


def options_from(config: Mapping[str, Any], given: Options) -> Options:
    """The options of SessionMiddleware, from what was given and else from ``app.config``.

    Raises:
        ConfigurationError: for settings that mean nothing here, or are no good.
    """
    _check_names(config)
    found: dict[str, Any] = {
        option: config[name] for name, option in _FROM_CONFIG.items() if name in config
    }
    found.update(given)
    if "secret_key" not in found:
        found["secret_key"] = _secrets(config)
    if "cookie" not in found:
        found["cookie"] = _cookie(config)
    if "lifetime" not in found and "PERMANENT_SESSION_LIFETIME" in config:
        found["lifetime"] = _lifetime(config["PERMANENT_SESSION_LIFETIME"])
    if found.get("codec") is None:
        found["codec"] = MarkupCodec()
    return cast("Options", found)


def _hint(name: str) -> str:
    close = closest(name, Options.__annotations__)
    return f"write {close}" if close else f"allowed are {', '.join(Options.__annotations__)}"


def _check_names(config: Mapping[str, Any]) -> None:
    for name in config:
        if not name.startswith("SESSION_") or name in _KNOWN:
            continue
        if name in _FLASK_SESSION:
            raise ConfigurationError(
                f"app.config: {name} is a setting of Flask-Session; {_FLASK_SESSION[name]}"
            )
        close = closest(name, _KNOWN, 0.85)
        if close:
            raise ConfigurationError(f"app.config: there is no {name}; write {close}")


def _secrets(config: Mapping[str, Any]) -> list[str | bytes]:
    secret = config.get("SECRET_KEY")
    if not secret:
        raise ConfigurationError(
            "FlaskSessions: there is no secret key; set app.config['SECRET_KEY'] (make one with"
            " `python -m wsgi_sessions secret`) before FlaskSessions sees the app, or give it"
            " secret_key=…"
        )
    fallbacks: Any = config.get("SECRET_KEY_FALLBACKS") or []
    for name, value, types in (
        ("SECRET_KEY", secret, (str, bytes)),
        ("SECRET_KEY_FALLBACKS", fallbacks, (list, tuple)),
    ):
        if not isinstance(value, types):
            allowed = " or ".join(kind.__name__ for kind in types)
            raise ConfigurationError(
                f"app.config: {name} is of type {type(value).__name__}; write a {allowed}"
            )
    return [secret, *fallbacks]


def _cookie(config: Mapping[str, Any]) -> Cookie:
    # Flask's defaults are there whether someone chose them or not, so where ours are stricter
    # they hold: Secure on secure requests, SameSite=Lax. cookie=Cookie(…) can say otherwise.
    secure = config.get("SESSION_COOKIE_SECURE", False)
    samesite = config.get("SESSION_COOKIE_SAMESITE")
    try:
        return Cookie(
            config.get("SESSION_COOKIE_NAME", "session"),
            path=config.get("SESSION_COOKIE_PATH") or config.get("APPLICATION_ROOT") or "/",
            domain=config.get("SESSION_COOKIE_DOMAIN"),
            secure="auto" if secure is False else secure,
            httponly=config.get("SESSION_COOKIE_HTTPONLY", True),
            samesite="Lax" if samesite is None else samesite,
            partitioned=config.get("SESSION_COOKIE_PARTITIONED", False),
        )
    except ConfigurationError as error:
        raise ConfigurationError(
            f"app.config: {error} (here: SESSION_COOKIE_NAME, SESSION_COOKIE_SECURE and so on)"
        ) from None


def _lifetime(limit: timedelta | float) -> Lifetime:
    # Flask knows the idle limit alone. An absolute one goes with it all the same, as without it a
    # stolen session that is kept in use lives for ever (ASVS 5.0, 7.3.2).
    try:
        idle = Lifetime(idle=limit, absolute=None)
    except ConfigurationError as error:
        raise ConfigurationError(
            f"app.config: PERMANENT_SESSION_LIFETIME is no good as the idle limit: {error}"
        ) from None
    return Lifetime(idle=limit, absolute=max(idle.idle_seconds, _DEFAULT_ABSOLUTE.total_seconds()))


class _FlaskMiddleware(SessionMiddleware):
    _session_class = FlaskSession

    def entered(self, environ: WSGIEnvironment) -> bool:
        """Whether this environ came through a WSGI call of the middleware, or was opened before."""
        return self._environ_key in environ


class _NoSession(NullSession):
    """What a request gets that the cookie's path doesn't cover: empty, and not to be filled."""

    def _fail(self, *args: object, **options: object) -> NoReturn:
        raise RuntimeError(
            "there is no session on this path, because the cookie's path doesn't cover it; see"
            " SESSION_COOKIE_PATH and APPLICATION_ROOT"
        )

    __setitem__ = __delitem__ = clear = pop = popitem = update = setdefault = _fail


class _Interface(SessionInterface):
    """Hands Flask the session that the middleware has put into the environ."""

    null_session_class = _NoSession

    def __init__(self, middleware: _FlaskMiddleware, *, resend: bool) -> None:
        self._middleware = middleware
        self._resend = resend

    def open_session(self, app: Flask, request: Request) -> FlaskSession | None:
        environ = request.environ
        entered = self._middleware.entered(environ)
        session = self._middleware.open_session(environ)
        if session is None:
            return None
        if not isinstance(session, FlaskSession):
            raise ConfigurationError(
                "the Flask app is inside another SessionMiddleware of the same environ_key; leave"
                " that one out, or give FlaskSessions an environ_key and a cookie name of its own"
            )
        if not entered:
            # No WSGI call: app.test_request_context(), or the test client's session_transaction().
            session.detached = environ
        return session

    def save_session(self, app: Flask, session: SessionMixin, response: Response) -> None:
        # open_session makes no other, and Flask doesn't save null ones.
        session = cast("FlaskSession", session)
        environ = session.detached
        if self._resend:
            _resend_permanent(session)
        if environ is None:
            return  # the middleware commits when the response begins
        session.detached = None
        finished = self._middleware.commit_session(
            environ, status=response.status, headers=list(response.headers)
        )
        response.headers.clear()
        response.headers.extend(finished)


def _resend_permanent(session: FlaskSession) -> None:
    # SESSION_REFRESH_EACH_REQUEST; but only where the session was used.
    state = state_of(session)
    if state is not None and state.error is None and state.notes.persistent:
        state.stale_token = True


def _remember_store_error(sender: Flask, exception: BaseException, **_: object) -> None:
    del sender
    if isinstance(exception, StoreError) and has_request_context():
        request.environ[_ERROR_KEY] = exception


def _reporting(wsgi_app: WSGIApplication) -> WSGIApplication:
    """Have a StoreError that Flask made a 500 of reach the middleware, which answers 503."""

    def call(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        body = wsgi_app(environ, start_response)
        error = environ.pop(_ERROR_KEY, None)
        if error is not None:
            close(body)
            raise cast("StoreError", error)
        return body

    return call
