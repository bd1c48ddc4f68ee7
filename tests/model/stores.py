"""Stores for a run, and the wrapper that stands between them and the middleware.

`watched` wraps whatever methods a `Store` has, so it needn't know them: it counts calls, and tells
a hook before each, which may let something else happen, or have the call fail.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator
from typing import Any, Protocol, Self

from wsgi_sessions import StoreError
from wsgi_sessions.record import Changes
from wsgi_sessions.stores import ClientSideStore, FileStore, MemoryStore, RedisStore, Store

from .scenario import Fail

KINDS = ("memory", "file", "redis", "client", "encrypted")
KEY = bytes(range(32))
QUIET = ("close", "ping", "subscribe")
READS = ("load", "keys")


class Hook(Protocol):
    """Told of each call before it is made."""

    def __call__(self, operation: str, *, writes: bool) -> Fail | None: ...


def _method(name: str) -> Callable[..., Any]:
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        ask = getattr(self.inner, name)
        # A change of nothing only says whether the record is there.
        writes = name not in READS and not (name == "update" and args[1] == Changes())
        fault = self.hook(name, writes=writes)
        if fault is not None and not fault.answer_lost:
            raise StoreError("the store was told to fail", operation=name)
        answer = ask(*args, **kwargs)
        if fault is not None:
            raise StoreError("the store was told to lose its answer", operation=name)
        return answer

    return call


def watched(inner: Store, hook: Hook) -> Any:
    """A store around ``inner`` that asks ``hook`` about each call."""
    names = {
        name
        for name in dir(Store)
        if not name.startswith("_") and callable(getattr(Store, name)) and name not in QUIET
    } - {"clock"}
    passed_on = {name: _passed_on(name) for name in QUIET if hasattr(Store, name)}
    methods = {name: _method(name) for name in names}
    members = {"clock": property(_get_clock, _set_clock), "shared": True, **methods, **passed_on}
    store = type("WatchedStore", (Store,), members)()
    store.inner, store.hook = inner, hook
    return store


def _passed_on(name: str) -> Callable[..., Any]:
    return lambda self, *args, **kwargs: getattr(self.inner, name)(*args, **kwargs)


def _get_clock(self: Any) -> Any:
    return self.inner.clock


def _set_clock(self: Any, clock: Any) -> None:
    self.inner.clock = clock


class Stores:
    """Makes an empty store for each run; what they need lives as long as this does."""

    def __init__(self) -> None:
        self._stack = contextlib.ExitStack()
        self._redis: Any = None
        self._files: FileStore | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def make(self, kind: str, *, max_sessions: int | None = None) -> Store:
        if kind == "client":
            return ClientSideStore()
        if kind == "redis":
            return self._redis_store()
        if kind == "file":
            return self._file_store()
        return MemoryStore() if max_sessions is None else MemoryStore(max_sessions=max_sessions)

    def _file_store(self) -> Store:
        if self._files is None:
            folder = self._stack.enter_context(tempfile.TemporaryDirectory())
            self._files = FileStore(f"{folder}/sessions")
        self._files.clear()
        return self._files

    def _redis_store(self) -> Store:
        if self._redis is None:
            import servers

            found = servers.named_by_environment()
            if found is None:
                binary = next(iter(servers.binaries().values()))
                found = self._stack.enter_context(servers.running(binary))  # type: ignore[assignment] # of either kind of server
            assert found is not None
            self._redis = found.client()
        store = RedisStore(self._redis, prefix="model:")
        store.clear()
        return store


@contextlib.contextmanager
def stores() -> Iterator[Stores]:
    with Stores() as made:
        yield made
