"""StoreWrapper: a store around another that passes every call on.

Layers between the engine and a store (encryption, faults, turns in a test) derive from it, and
override only what they change.
"""

from __future__ import annotations

from collections.abc import Iterator

from ..record import Changes, Record, UpdateResult
from .base import Store, StoreListener


class StoreWrapper(Store):
    """Does what the store inside does.

    Args:
        store: does the work.
    """

    def __init__(self, store: Store) -> None:
        self.store = store

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.store!r})"

    def subscribe(self, listener: StoreListener) -> None:
        """Have ``listener`` called for what happens here and in the store inside."""
        super().subscribe(listener)
        # The nine methods make a store; it may have nothing to tell.
        if hasattr(self.store, "subscribe"):
            self.store.subscribe(listener)

    def load(self, key: str) -> Record | None:
        """As the store inside."""
        return self.store.load(key)

    def insert(self, key: str, record: Record) -> bool:
        """As the store inside."""
        return self.store.insert(key, record)

    def update(
        self,
        key: str,
        changes: Changes,
        *,
        if_epoch: int | None = None,
        if_version: int | None = None,
    ) -> UpdateResult:
        """As the store inside."""
        return self.store.update(key, changes, if_epoch=if_epoch, if_version=if_version)

    def delete(self, key: str, *, if_version: int | None = None) -> bool:
        """As the store inside."""
        return self.store.delete(key, if_version=if_version)

    def purge_expired(self, now: float) -> int:
        """As the store inside."""
        return self.store.purge_expired(now)

    def keys(self) -> Iterator[str]:
        """As the store inside."""
        return self.store.keys()

    def clear(self) -> None:
        """As the store inside."""
        self.store.clear()

    def ping(self) -> None:
        """As the store inside."""
        self.store.ping()

    def close(self) -> None:
        """As the store inside."""
        self.store.close()
