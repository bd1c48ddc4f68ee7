"""For tests: the contract of stores, a clock that is set by hand, a store that fails on demand, and
a way into the session of a test client.

`StoreContract` is a pytest class that checks every promise of `wsgi_sessions.stores.Store`, for our
stores and for yours. A failure says more than ``AssertionError`` if pytest rewrites the assertions;
ask for that in conftest.py, before anything imports this package::

    pytest.register_assert_rewrite("wsgi_sessions.testing")

Nothing here is for production.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .clock import FakeClock
from .contract import StoreClientContract, StoreContract
from .faulty import FaultyStore

if TYPE_CHECKING:
    from .client import session_of

__all__ = ["FakeClock", "FaultyStore", "StoreClientContract", "StoreContract", "session_of"]


def __getattr__(name: str) -> Any:
    # Loaded on demand: testing a store needs neither the middleware nor Werkzeug.
    if name == "session_of":
        from .client import session_of  # noqa: PLC0415 # needs Werkzeug

        globals()[name] = session_of
        return session_of
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
