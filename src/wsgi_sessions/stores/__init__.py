"""Where records are kept, and how a URL names a store.

The stores are loaded when they are first asked for, so that an app pays only for its own.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from .._lazily import lazily
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


if not TYPE_CHECKING:  # a checker would take any name for one of this module's
    __getattr__ = lazily(__name__, _MODULES)


def __dir__() -> list[str]:
    return sorted({*globals(), *filter(_can_be_loaded, __all__)})


def _can_be_loaded(name: str) -> bool:
    """help() asks for everything that dir() lists, and would end at a missing SQLAlchemy."""
    try:
        return hasattr(sys.modules[__name__], name)
    except ModuleNotFoundError:
        return False
