"""A store for tests that counts calls, fails on demand and lets other requests in between."""

from __future__ import annotations

import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from typing import ParamSpec, TypeVar

from ..client_side import ClientSideStore
from ..errors import ConfigurationError, StoreError
from ..record import Changes, Record, UpdateResult
from ..stores.base import Store
from ..stores.guarded import check_methods
from ..stores.wrapper import StoreWrapper

P = ParamSpec("P")
T = TypeVar("T")
Hook = Callable[..., object]


class FaultyStore(StoreWrapper):
    """A store around another: counts calls, fails on demand and lets other requests in between.

    Args:
        store: does the work.

    Raises:
        ConfigurationError: it isn't a store, or a ClientSideStore, which nobody calls.
    """

    OPERATIONS = Store.__abstractmethods__
    """The names of all operations of a store."""

    def __init__(self, store: Store) -> None:
        super().__init__(check_methods("FaultyStore", store))
        if isinstance(store, ClientSideStore):
            raise ConfigurationError(
                f"FaultyStore: store is {store!r}, which has no call that could fail, as the client"
                " keeps the sessions; give a store that keeps them on the server"
            )
        self.calls: Counter[str] = Counter()
        """How often each operation was called, failed calls included."""
        self._failing: dict[str, bool] = {}
        self._before: defaultdict[str, list[Hook]] = defaultdict(list)
        self._after: defaultdict[str, list[Hook]] = defaultdict(list)
        self._hooked = threading.local()

    def fail(self, *operations: str, answer_lost: bool = False) -> None:
        """Have these operations raise StoreError from now on.

        Args:
            operations: their names, as `Store` has them.
            answer_lost: True: the operation is carried out, and fails only then.
        """
        for operation in operations:
            self._failing[_known(operation)] = answer_lost

    def recover(self) -> None:
        """Let all operations work again, and call no hook any more."""
        for given in (self._failing, self._before, self._after):
            given.clear()

    def before(self, operation: str, hook: Hook) -> None:
        """Call ``hook`` before each such operation, with its arguments: another request's turn.

        What the hook itself asks of this store, in its own thread, calls no hook.
        """
        self._before[_known(operation)].append(hook)

    def after(self, operation: str, hook: Hook) -> None:
        """Call ``hook`` after each such operation, with its arguments; as with `before`."""
        self._after[_known(operation)].append(hook)

    def load(self, key: str) -> Record | None:
        """What the inner store answers, unless it is to fail; likewise for the other operations."""
        return self._ask(self.store.load, key)

    def insert(self, key: str, record: Record) -> bool:
        return self._ask(self.store.insert, key, record)

    def update(
        self,
        key: str,
        changes: Changes,
        *,
        if_epoch: int | None = None,
        if_version: int | None = None,
    ) -> UpdateResult:
        return self._ask(self.store.update, key, changes, if_epoch=if_epoch, if_version=if_version)

    def delete(self, key: str, *, if_version: int | None = None) -> bool:
        return self._ask(self.store.delete, key, if_version=if_version)

    def purge_expired(self, now: float) -> int:
        return self._ask(self.store.purge_expired, now)

    def keys(self) -> Iterator[str]:
        return self._ask(self.store.keys)

    def clear(self) -> None:
        self._ask(self.store.clear)

    def ping(self) -> None:
        self._ask(self.store.ping)

    def close(self) -> None:
        self._ask(self.store.close)

    def _ask(self, method: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        operation = method.__name__
        self.calls[operation] += 1
        self._call(self._before[operation], *args, **kwargs)
        if self._failing.get(operation) is False:
            raise StoreError("this test store was set to fail", operation=operation)
        answer = method(*args, **kwargs)
        self._call(self._after[operation], *args, **kwargs)
        if operation in self._failing:
            raise StoreError("this test store was set to lose its answer", operation=operation)
        return answer

    def _call(self, hooks: list[Hook], *args: object, **kwargs: object) -> None:
        if getattr(self._hooked, "now", False):  # another request's own call
            return
        self._hooked.now = True
        try:
            for hook in tuple(hooks):
                hook(*args, **kwargs)
        finally:
            self._hooked.now = False


def _known(operation: str) -> str:
    if operation not in FaultyStore.OPERATIONS:
        raise ValueError(
            f"a store has no operation {operation!r}; it has"
            f" {', '.join(sorted(FaultyStore.OPERATIONS))}"
        )
    return operation
