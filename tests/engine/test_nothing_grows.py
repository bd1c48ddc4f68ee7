"""A user who signs in, gets new IDs and rotates for years leaves one session and one list."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import servers
from effort import tries
from wsgi import Site
from wsgi_sessions.record import list_key
from wsgi_sessions.stores import FileStore, MemoryStore, RedisStore, SQLStore, Store

ROUNDS = tries(test=30, check=200, everything=100_000)


@pytest.fixture(params=["memory", "encrypted", "file", "sqlite"])
def options(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[dict[str, Any]]:
    """What makes a site on one kind of store."""
    keys = {"encryption_keys": [os.urandom(32)]} if request.param == "encrypted" else {}
    store: Store
    if request.param == "file":
        store = FileStore(tmp_path / "sessions")
    elif request.param == "sqlite":
        store = SQLStore.from_url(f"sqlite:///{tmp_path / 'sessions.db'}")
    else:
        store = MemoryStore(max_sessions=1)
    with contextlib.closing(store):
        yield {"store": store, **keys}


def test_after_many_logins_regenerates_and_rotations(options: dict[str, Any]) -> None:
    go_on_for_years(Site(rotate_after=900, **options))


def test_after_many_on_redis(redis_server: servers.Server | servers.NamedServer) -> None:
    store = RedisStore.from_url(redis_server.url, prefix=f"{secrets.token_hex(8)}:")
    with contextlib.closing(store):
        go_on_for_years(Site(rotate_after=900, store=store))


def go_on_for_years(site: Site) -> None:
    """Sign in, get a new ID, come back later to a rotation; again and again in one browser."""
    browser = site.browser()

    def login(session: Any) -> None:
        session.login("42")

    for _ in range(ROUNDS):
        site.run(browser, login, check=False)
        site.run(browser, lambda s: s.regenerate(), check=False)
        site.clock.advance(901)
        site.run(browser, lambda s: s.owner, check=False)

    (handle,) = set(site.store.keys()) - {list_key("42")}
    listed = site.store.load(list_key("42"))
    assert listed is not None
    # Encryption has fields of its own in each record.
    assert {name for name in listed.fields if not name.startswith("\0")} == {handle}
    assert site.kinds.count("rotated") == ROUNDS
