"""The session cookie whose sessions can be bound, and what a request shows of its device."""

from __future__ import annotations

from typing import NamedTuple

from ..cookie import Cookie
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
        """Note what the evidence will need."""
        environ[self._script_key] = environ.get("SCRIPT_NAME", "")

    def evidence(self, environ: Environ) -> Evidence:
        """The evidence to judge a session by; never holds the environ itself."""
        site, script_name = environ.get("HTTP_SEC_FETCH_SITE"), environ.get(self._script_key)
        return Evidence(
            self.binder,
            environ.get("HTTP_COOKIE"),
            site if isinstance(site, str) else None,
            script_name if isinstance(script_name, str) else "",
        )
