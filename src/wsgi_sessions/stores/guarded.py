"""The edge to a store that isn't ours: whatever it raises is a StoreError.

An exception of another class would get past everything that is done for an outage: the 503, the
cookie that is kept, a touch that may fail. Our own stores see to this themselves and stay as they
are.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator
from pathlib import PurePath
from typing import Any, ParamSpec, TypeVar

from .._options import kind_of
from ..errors import ConfigurationError, SessionError, StoreError
from ..record import Changes, Record, UpdateResult
from .base import Store
from .wrapper import StoreWrapper

P = ParamSpec("P")
T = TypeVar("T")
_PACKAGE = __name__.partition(".")[0]


def check_methods(where: str, store: object, alternative: str = "") -> Any:
    """The store as given, if it can be one."""
    missing = [
        name
        for name in sorted(Store.__abstractmethods__)
        if not callable(getattr(store, name, None))
    ]
    if missing or isinstance(store, type):
        raise ConfigurationError(
            f"{where}: store is {kind_of(store)}; give a Store, such as MemoryStore() or"
            f" FileStore('var/sessions'){alternative}"
            + (f" (it lacks {', '.join(missing)})" if 0 < len(missing) < 5 else "")
        )
    return store


def guarded(store: Store) -> Store:
    """The store itself if it is one of ours, and so is what it wraps; else a guard around it."""
    inner = store
    while type(inner).__module__.partition(".")[0] == _PACKAGE:
        if isinstance(inner, Guarded) or not isinstance(inner, StoreWrapper):
            return store
        inner = inner.store
    return Guarded(store)


class Guarded(StoreWrapper):
    """Does what the store inside does, and turns what it raises into a StoreError.

    Its message names the class of what was raised and where, and not its text, which may quote
    what users store; the exception itself is the cause.
    """

    def load(self, key: str) -> Record | None:
        return self._ask("load", self.store.load, key)

    def insert(self, key: str, record: Record) -> bool:
        return self._ask("insert", self.store.insert, key, record)

    def update(
        self,
        key: str,
        changes: Changes,
        *,
        if_epoch: int | None = None,
        if_version: int | None = None,
    ) -> UpdateResult:
        conditions = {"if_epoch": if_epoch, "if_version": if_version}
        return self._ask("update", self.store.update, key, changes, **conditions)

    def delete(self, key: str, *, if_version: int | None = None) -> bool:
        return self._ask("delete", self.store.delete, key, if_version=if_version)

    def purge_expired(self, now: float) -> int:
        return self._ask("purge_expired", self.store.purge_expired, now)

    def keys(self) -> Iterator[str]:
        try:
            yield from self.store.keys()
        except SessionError:
            raise
        except Exception as error:
            raise self._failure("keys", error) from error

    def clear(self) -> None:
        self._ask("clear", self.store.clear)

    def ping(self) -> None:
        self._ask("ping", self.store.ping)

    def close(self) -> None:
        self._ask("close", self.store.close)

    def _ask(self, operation: str, method: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return method(*args, **kwargs)
        except SessionError:
            raise
        except Exception as error:
            raise self._failure(operation, error) from error

    def _failure(self, operation: str, error: Exception) -> StoreError:
        at = traceback.extract_tb(error.__traceback__)[-1]
        return StoreError(
            f"{type(self.store).__name__} raised {type(error).__name__}"
            f" ({PurePath(at.filename).name}, line {at.lineno})",
            operation=operation,
        )
