"""A user who signs in, gets new IDs and rotates for years leaves one session and one list."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from effort import tries
from wsgi import Site
from wsgi_sessions.record import list_key
from wsgi_sessions.stores import FileStore, MemoryStore, SQLStore, Store

ROUNDS = tries(test=30, check=200, everything=100_000)


@pytest.mark.parametrize("kind", ["memory", "file", "sqlite"])
def test_after_many_logins_regenerates_and_rotations(kind: str, tmp_path: Path) -> None:
    store: Store
    if kind == "file":
        store = FileStore(tmp_path / "sessions")
    elif kind == "sqlite":
        store = SQLStore.from_url(f"sqlite:///{tmp_path / 'sessions.db'}")
    else:
        store = MemoryStore(max_sessions=1)
    site = Site(store=store, rotate_after=900)
    browser = site.browser()

    def login(session: Any) -> None:
        session.login("42")

    for _ in range(ROUNDS):
        site.run(browser, login, check=False)
        site.run(browser, lambda s: s.regenerate(), check=False)
        site.clock.advance(901)
        site.run(browser, lambda s: s.owner, check=False)

    (handle,) = set(store.keys()) - {list_key("42")}
    listed = store.load(list_key("42"))
    assert listed is not None
    assert set(listed.fields) == {handle}
    assert site.kinds.count("rotated") == ROUNDS
    store.close()
