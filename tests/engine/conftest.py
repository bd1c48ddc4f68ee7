"""What the tests of the engine share: a site's options on each kind of store."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import servers
from programs import missing
from wsgi_sessions.stores import FileStore, MemoryStore, RedisStore, SQLStore, Store
from wsgi_sessions.testing import FaultyStore


@pytest.fixture(params=["memory", "file", "encrypted", "redis", "sqlite"])
def options(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[dict[str, Any]]:
    """What makes a site on one kind of store."""
    keys = {"encryption_keys": [os.urandom(32)]} if request.param == "encrypted" else {}
    with contextlib.closing(made(request, tmp_path)) as store:
        yield {"store": FaultyStore(store), **keys}


def made(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    match request.param:
        case "file":
            return FileStore(tmp_path / "sessions")
        case "redis":
            server = request.getfixturevalue("_a_redis_server")
            return RedisStore.from_url(server.url, prefix=f"{secrets.token_hex(8)}:")
        case "sqlite":
            return SQLStore.from_url(f"sqlite:///{tmp_path / 'sessions.db'}")
        case _:
            return MemoryStore()


@pytest.fixture(scope="session")
def _a_redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """One of the servers that there are; the clients of all are tried in tests/stores."""
    named, binaries = servers.named_by_environment(), servers.binaries()
    if named is not None:
        yield named
    elif binaries:
        with servers.running(next(iter(binaries.values()))) as server:
            yield server
    else:
        missing("redis", "there is no Redis-compatible server")
