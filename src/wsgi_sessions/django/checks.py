"""System checks: what is wrong with the settings, before the first request shows it."""

# Django has no types of its own.
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error
from django.core.checks import Warning as CheckWarning

from ..cookie import Cookie
from ..errors import ConfigurationError, StoreError
from .engine import sessions

ENGINE = "wsgi_sessions.django"
_ENGINES = (ENGINE, "wsgi_sessions.django.engine")
_OURS = (
    "wsgi_sessions.django.SessionMiddleware",
    "wsgi_sessions.django.middleware.SessionMiddleware",
)
_DJANGOS = "django.contrib.sessions.middleware.SessionMiddleware"


def check_settings(app_configs: Any = None, **options: Any) -> list[CheckMessage]:
    """Called by ``manage.py check``, and before most other commands."""
    del app_configs, options
    found = [*_check_values(), *_check_places()]
    if not settings_of().get("store"):
        found.append(
            CheckWarning(
                "WSGI_SESSIONS has no store, so sessions live only in this process and end with"
                " it.",
                hint="Write WSGI_SESSIONS = {'store': 'redis://localhost'}, or"
                " 'file:///var/lib/app/sessions'.",
                id="wsgi_sessions.W001",
            )
        )
    return found


def settings_of() -> dict[str, Any]:
    """``WSGI_SESSIONS`` as far as it is a dict."""
    given = getattr(settings, "WSGI_SESSIONS", {})
    return given if isinstance(given, dict) else {}


def _check_values() -> list[CheckMessage]:
    try:
        sessions()
    except ConfigurationError as error:
        return [
            Error(
                f"The sessions' settings are wrong: {error}",
                hint="WSGI_SESSIONS takes the options of wsgi_sessions.SessionMiddleware; the"
                " cookie's come from SESSION_COOKIE_*, the secrets from SECRET_KEY and"
                " SECRET_KEY_FALLBACKS (make one with `python -m wsgi_sessions secret`).",
                id="wsgi_sessions.E001",
            )
        ]
    except StoreError as error:
        return [Error(f"The sessions' store doesn't answer: {error}", id="wsgi_sessions.E002")]
    return []


def _check_places() -> list[CheckMessage]:
    middleware = list(settings.MIDDLEWARE)
    ours = [name for name in middleware if name in _OURS]
    found: list[CheckMessage] = []
    if ours and _DJANGOS in middleware:
        found.append(
            Error(
                "MIDDLEWARE has two session middlewares, and the later one's sessions hide the"
                " other's.",
                hint=f"Leave {_DJANGOS!r} out.",
                id="wsgi_sessions.E003",
            )
        )
    cookie = settings_of().get("cookie")
    if isinstance(cookie, Cookie) and cookie.name != settings.SESSION_COOKIE_NAME:
        found.append(
            CheckWarning(
                f"WSGI_SESSIONS has a cookie {cookie.name!r}, but SESSION_COOKIE_NAME is"
                f" {settings.SESSION_COOKIE_NAME!r}, so the test client's logins don't work.",
                hint=f"Write SESSION_COOKIE_NAME = {cookie.name!r} as well.",
                id="wsgi_sessions.W003",
            )
        )
    if not ours and _DJANGOS in middleware and settings.SESSION_ENGINE in _ENGINES:
        found.append(
            CheckWarning(
                f"SESSION_ENGINE is {settings.SESSION_ENGINE!r}, but MIDDLEWARE has Django's own"
                " session middleware, which answers 500 where the store fails, and knows no options"
                " of WSGI_SESSIONS for the cookie, for proxies or for devices.",
                hint=f"Write {_OURS[0]!r} in MIDDLEWARE in place of {_DJANGOS!r}.",
                id="wsgi_sessions.W004",
            )
        )
    if ours and settings.SESSION_ENGINE not in _ENGINES:
        found.append(
            CheckWarning(
                f"SESSION_ENGINE is {settings.SESSION_ENGINE!r}, so the test client and"
                " `manage.py clearsessions` don't find the sessions of the middleware.",
                hint=f"Write SESSION_ENGINE = {ENGINE!r}.",
                id="wsgi_sessions.W002",
            )
        )
    return found
