"""Bottle: a plugin that puts our sessions into ``request.session``.

The plugin wraps the app's ``wsgi`` in a SessionMiddleware, so that hooks, error pages and streams
have the session as well, and its ``_cast``, through which passes every StoreError that Bottle turns
into a page. Nothing else in this package imports Bottle.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Unpack, cast

from .checks import DEFAULT_KEY
from .errors import ConfigurationError, StoreError
from .http.exchange import close
from .integration import takes_options
from .middleware import SessionMiddleware
from .registry import SessionRegistry

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

    from .flask_settings import Options

from bottle import request  # pyright: ignore[reportMissingTypeStubs, reportUnknownVariableType] # Bottle has no types: what is used of it is written down here

_ERROR_KEY = "wsgi_sessions.bottle.store_error"
_REQUEST_KEY = "bottle.request.ext.session"
"""Where Bottle keeps what is assigned to ``request.session``."""


@takes_options
class SessionPlugin:
    """Gives a Bottle app sessions: ``app.install(SessionPlugin(secret_key=…, store=…))``.

    Args:
        **options: those of SessionMiddleware.

    Raises:
        ConfigurationError: if any of this is wrong.
    """

    name = "wsgi_sessions"
    api = 2

    def __init__(self, **options: Unpack[Options]) -> None:
        self._key = options.get("environ_key", DEFAULT_KEY)
        self._app: Any = None
        self._wrapped: Callable[..., Any] = _not_installed
        self.middleware: SessionMiddleware = SessionMiddleware(self._call, **options)
        """The SessionMiddleware that does the work."""

    @property
    def registry(self) -> SessionRegistry:
        """The sessions by owner and by handle, for "your devices" and "sign out everywhere"."""
        return self.middleware.registry

    def setup(self, app: Any) -> None:
        """Called by Bottle when the plugin is installed.

        Raises:
            ConfigurationError: it is installed already, or another SessionPlugin is.
        """
        if self._app is not None or "wsgi" in vars(app):
            raise ConfigurationError(
                "SessionPlugin: the app already has its sessions; install one plugin, once"
            )
        self._app, self._wrapped = app, app.wsgi
        # Hooks, error pages, streams and mounted routes run outside of what a plugin is applied to.
        app.wsgi, app._cast = self.middleware, _noting(app._cast)  # noqa: SLF001 # no other place sees them all

    def close(self) -> None:
        """Called by Bottle when the plugin is uninstalled."""
        if self._app is not None:
            del self._app.wsgi, self._app._cast  # noqa: SLF001 # see setup
            self._app, self._wrapped = None, _not_installed

    def apply(self, callback: Callable[..., Any], route: object) -> Callable[..., Any]:
        """Called by Bottle for each route."""
        del route

        @functools.wraps(callback)
        def call(*args: Any, **options: Any) -> Any:
            environ = cast("WSGIEnvironment", request.environ)
            if self._key not in environ and environ["bottle.app"] is not self._app:
                raise RuntimeError(
                    "there is no session: the route was mounted or merged into an app that has no"
                    " SessionPlugin; install it on the app that is served"
                )
            return callback(*args, **options)

        return call

    def _call(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Bottle's part of a request; a StoreError that it answered goes on to the middleware."""
        session = environ.get(self._key)
        if session is not None:
            environ[_REQUEST_KEY] = session
        failed = False

        def start(status: str, headers: list[tuple[str, str]], exc_info: Any = None, /) -> Any:
            nonlocal failed
            failed = status[:3] == "500"
            return start_response(status, headers, exc_info)

        try:
            body = cast("WSGIApplication", self._wrapped)(environ, start)
        finally:
            error = environ.pop(_ERROR_KEY, None)
            # The route may have called another Bottle app, whose request it is from then on.
            error = error or request.environ.pop(_ERROR_KEY, None)
        if failed and error is not None:
            close(body)
            raise cast("StoreError", error)
        return body


def _noting(make_body: Callable[..., Any]) -> Callable[..., Any]:
    """Bottle's ``_cast``, noting a StoreError that it is given, or meets in an error page."""

    def noting(out: Any, *more: Any) -> Any:
        try:
            failure = getattr(out, "exception", None)  # only an HTTPError has one
            if isinstance(failure, StoreError):
                request.environ[_ERROR_KEY] = failure
            return make_body(out, *more)
        except StoreError as error:
            request.environ[_ERROR_KEY] = error
            raise

    return noting


def _not_installed(*args: object) -> Any:
    raise TypeError("this SessionPlugin isn't installed; call app.install(plugin)")
