"""Where records are kept, and how a URL names a store.

The stores are loaded when they are first asked for, so that an app pays only for its own.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from ..record import LIST_OWNER, UNCHANGED, Changes, Record, Unchanged, UpdateResult, is_key
from .base import Store, StoreListener

if TYPE_CHECKING:
    from ..client_side import ClientSideStore
    from .file import FileStore
    from .memory import MemoryStore
    from .redis import RedisStore
    from .sql import SQLStore
    from .url import store_from_url

__all__ = [
    "LIST_OWNER",
    "UNCHANGED",
    "Changes",
    "ClientSideStore",
    "FileStore",
    "MemoryStore",
    "Record",
    "RedisStore",
    "SQLStore",
    "Store",
    "StoreListener",
    "Unchanged",
    "UpdateResult",
    "is_key",
    "store_from_url",
]

_MODULES = {
    "ClientSideStore": "..client_side",
    "FileStore": ".file",
    "MemoryStore": ".memory",
    "RedisStore": ".redis",
    "SQLStore": ".sql",
    "store_from_url": ".url",
}


def _load(name: str) -> Any:
    value = globals()[name] = getattr(importlib.import_module(_MODULES[name], __name__), name)
    return value


if not TYPE_CHECKING:  # a checker would take any name for one of this module's

    def __getattr__(name: str) -> Any:
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return _load(name)


def __dir__() -> list[str]:
    return sorted({*globals(), *filter(_can_be_loaded, __all__)})


def _can_be_loaded(name: str) -> bool:
    """help() asks for everything that dir() lists, and would end at a missing SQLAlchemy."""
    try:
        return name in globals() or _load(name) is not None
    except ModuleNotFoundError:
        return False
