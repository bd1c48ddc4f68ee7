"""Django's settings as options of ours.

``WSGI_SESSIONS`` holds options by our names; what Django has a setting of its own for comes from
there. Reads settings, and only turns them into values.
"""

# Django has no types of its own.
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import inspect
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, NamedTuple

from django.conf import settings

from .._options import closest
from ..cookie import MAX_AGE, Cookie
from ..errors import ConfigurationError
from ..lifetime import Lifetime
from ..middleware import SessionMiddleware
from .codec import DjangoCodec

_ABSOLUTE = timedelta(days=30).total_seconds()
_LONGEST = Lifetime(idle=MAX_AGE, absolute=MAX_AGE)
"""How far ``set_expiry`` may go where ``WSGI_SESSIONS`` has no lifetime: as long as cookies do."""
_ALLOWED = [
    name
    for name in inspect.signature(SessionMiddleware.__init__).parameters
    if name not in ("self", "app")
]


class Limits(NamedTuple):
    """How long a session lives without ``set_expiry``. Seconds."""

    idle: float
    absolute: float


def options_from_settings() -> dict[str, Any]:
    """The options of SessionMiddleware, from Django's settings.

    Raises:
        ConfigurationError: for unknown names, and for an invalid cookie.
    """
    options = dict(_given())
    if "secret_key" not in options:
        options["secret_key"] = _secrets()
    if "cookie" not in options:
        options["cookie"] = _cookie()
    options.setdefault("lifetime", _LONGEST)
    default_limits()
    options.setdefault("rolling", settings.SESSION_SAVE_EVERY_REQUEST)
    if options.get("codec") is None:
        options["codec"] = DjangoCodec()
    return options


def _given() -> Mapping[str, Any]:
    given: Any = getattr(settings, "WSGI_SESSIONS", {})
    if not isinstance(given, Mapping):
        raise ConfigurationError(
            f"WSGI_SESSIONS is of type {type(given).__name__}; write a dict, such as"
            " {'store': 'redis://localhost'}"
        )
    for name in given:
        if name not in _ALLOWED:
            near = closest(str(name), _ALLOWED)
            hint = f"write {near!r}" if near else f"allowed are {', '.join(_ALLOWED)}"
            raise ConfigurationError(f"WSGI_SESSIONS has no option {name!r}; {hint}")
    return given


def _secrets() -> list[str | bytes]:
    keys = [settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS]
    for number, key in enumerate(keys):
        size = len(key if isinstance(key, bytes) else str(key).encode())
        if size < 32:
            name = f"SECRET_KEY_FALLBACKS[{number - 1}]" if number else "SECRET_KEY"
            raise ConfigurationError(
                f"{name} has {size} bytes, and the session cookie's signature needs 32 or more;"
                " write a longer one (make it with `python -m wsgi_sessions secret`), or give the"
                " sessions a key of their own: WSGI_SESSIONS = {'secret_key': …}"
            )
    return keys


def _cookie() -> Cookie:
    # Django's defaults are there whether someone chose them or not, so where ours are stricter
    # ours apply: Secure on secure requests. WSGI_SESSIONS = {"cookie": Cookie(…)} overrides them.
    try:
        return Cookie(
            settings.SESSION_COOKIE_NAME,
            path=settings.SESSION_COOKIE_PATH,
            domain=settings.SESSION_COOKIE_DOMAIN,
            secure=settings.SESSION_COOKIE_SECURE or "auto",
            httponly=bool(settings.SESSION_COOKIE_HTTPONLY),
            samesite=settings.SESSION_COOKIE_SAMESITE or "Lax",
            persistent=not settings.SESSION_EXPIRE_AT_BROWSER_CLOSE,
        )
    except ConfigurationError as error:
        raise ConfigurationError(
            f"{error} (here: SESSION_COOKIE_NAME, SESSION_COOKIE_SECURE and so on)"
        ) from None


def default_limits() -> Limits | None:
    """The limits of an ordinary session; None where ``WSGI_SESSIONS`` has a lifetime for all.

    Raises:
        ConfigurationError: SESSION_COOKIE_AGE isn't a valid limit.
    """
    if "lifetime" in _given():
        return None
    # Django has only the idle limit. An absolute one goes with it, because a stolen session that is
    # kept in use would otherwise live forever (ASVS 5.0, 7.3.2).
    try:
        age = Lifetime(idle=settings.SESSION_COOKIE_AGE, absolute=None).idle_seconds
    except ConfigurationError as error:
        raise ConfigurationError(f"SESSION_COOKIE_AGE can't be used: {error}") from None
    return Limits(age, max(age, _ABSOLUTE))
