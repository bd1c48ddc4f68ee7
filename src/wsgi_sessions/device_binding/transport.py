"""The session cookie whose sessions can be bound, and what a request shows of its device."""

from __future__ import annotations

from typing import NamedTuple

from ..cookie import Cookie
from ..errors import ConfigurationError
from ..http.transport import CookieTransport, Environ
from .binder import Binder


class Evidence(NamedTuple):
    """What a request shows of the device that it comes from, unchecked."""

    binder: Binder
    """Of the cookie that this request's site has."""
    cookies: object
    """The header Cookie as it came, or None."""
    fetch_site: str | None
    """The header Sec-Fetch-Site."""
    script_name: str


class BoundTransport(CookieTransport):
    """Tokens in a cookie, with the binder of its sessions.

    Args:
        cookie: the session cookie.
        secrets: newest first.
        binder: binds its sessions.
        script_key: where the environ has SCRIPT_NAME as the middleware saw it; until a session is
            opened, a dispatcher inside may have added the name of a mounted app to it.
    """

    __slots__ = ("_script_key", "binder")

    def __init__(
        self, cookie: Cookie, secrets: tuple[bytes, ...], binder: Binder, script_key: str
    ) -> None:
        super().__init__(cookie, secrets)
        self.binder: Binder = binder
        self._script_key = script_key

    def enter(self, environ: Environ) -> None:
        """Note what the evidence will need.

        Raises:
            ConfigurationError: a middleware outside of this one answers under the same path, so
                that what browsers send there would never come here.
        """
        script_name = environ[self._script_key] = environ.get("SCRIPT_NAME", "")
        path = f"{script_name}{self.binder.settings.path}"
        taken_by = environ.setdefault(f"wsgi_sessions.device_binding:{path}", self._script_key)
        if taken_by != self._script_key:
            raise ConfigurationError(
                f"SessionMiddleware: two middlewares, one inside the other, have device_binding"
                f" under {path!r}, and the outer one answers what browsers send there; give one of"
                " them another DeviceBinding(path=…)"
            )

    def evidence(self, environ: Environ) -> Evidence:
        """The evidence to judge a session by; never holds the environ itself."""
        site, script_name = environ.get("HTTP_SEC_FETCH_SITE"), environ.get(self._script_key)
        return Evidence(
            self.binder,
            environ.get("HTTP_COOKIE"),
            site if isinstance(site, str) else None,
            script_name if isinstance(script_name, str) else "",
        )
