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
    """Tokens in a cookie, with the binder of its sessions."""

    __slots__ = ("binder",)

    def __init__(self, cookie: Cookie, secrets: tuple[bytes, ...], binder: Binder) -> None:
        super().__init__(cookie, secrets)
        self.binder: Binder = binder

    def evidence(self, environ: Environ) -> Evidence:
        """What there is to judge a session by; never holds the environ itself."""
        site, script_name = environ.get("HTTP_SEC_FETCH_SITE"), environ.get("SCRIPT_NAME", "")
        return Evidence(
            self.binder,
            environ.get("HTTP_COOKIE"),
            site if isinstance(site, str) else None,
            script_name if isinstance(script_name, str) else "",
        )
