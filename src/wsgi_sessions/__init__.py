"""Server-side sessions for every WSGI app.

>>> from wsgi_sessions import SessionMiddleware
>>> app = SessionMiddleware(app, secret_key=…)
>>> environ["wsgi_sessions.session"]["visits"] = 1

Stores are in `wsgi_sessions.stores`, Flask's integration in `wsgi_sessions.flask`, helpers for
tests in `wsgi_sessions.testing`.
"""

from typing import TYPE_CHECKING, Any

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
from .proxies import Client, TrustedProxies
from .registry import SessionInfo, SessionRegistry
from .session import Session

if TYPE_CHECKING:
    from .device_binding import DeviceBinding

__version__ = "0.1.0"

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


if not TYPE_CHECKING:  # a checker would take any name for one of this module's

    def __getattr__(name: str) -> Any:
        # Few apps bind sessions to devices: what that takes is imported where it is used.
        if name != "DeviceBinding":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from .device_binding import DeviceBinding  # noqa: PLC0415 # few apps need it

        globals()[name] = DeviceBinding
        return DeviceBinding


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
