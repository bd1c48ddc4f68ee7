"""Server-side sessions for every WSGI app.

>>> from wsgi_sessions import SessionMiddleware
>>> app = SessionMiddleware(app, secret_key=…)
>>> environ["wsgi_sessions.session"]["visits"] = 1

Stores are in `wsgi_sessions.stores`, Flask's integration in `wsgi_sessions.flask`, helpers for
tests in `wsgi_sessions.testing`.
"""

from typing import TYPE_CHECKING

from ._lazily import lazily
from .cookie import Cookie
from .data.codec import JSONCodec
from .errors import (
    ConfigurationError,
    SessionCommitted,
    SessionConflict,
    SessionEnded,
    SessionError,
    SessionTooLarge,
    StoreError,
    TooManySessions,
    UnsupportedByStore,
)
from .events import SessionEvent
from .lifetime import Lifetime
from .middleware import SessionMiddleware, get_session
from .proxies import Client
from .session import Session

if TYPE_CHECKING:
    from .device_binding import DeviceBinding
    from .proxies import TrustedProxies
    from .registry import SessionInfo, SessionRegistry

__version__ = "0.2.0.dev0"

__all__ = [
    "Client",
    "ConfigurationError",
    "Cookie",
    "DeviceBinding",
    "JSONCodec",
    "Lifetime",
    "Session",
    "SessionCommitted",
    "SessionConflict",
    "SessionEnded",
    "SessionError",
    "SessionEvent",
    "SessionInfo",
    "SessionMiddleware",
    "SessionRegistry",
    "SessionTooLarge",
    "StoreError",
    "TooManySessions",
    "TrustedProxies",
    "UnsupportedByStore",
    "get_session",
]


# What not every app needs is imported where it is used.
_MODULES = {
    "DeviceBinding": ".device_binding",
    "SessionInfo": ".registry",
    "SessionRegistry": ".registry",
    "TrustedProxies": ".proxies",
}

if not TYPE_CHECKING:  # a checker would take any name for one of this module's
    __getattr__ = lazily(__name__, _MODULES)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
