"""Whole requests in every order over a SQL database: each store call of one between two of another's."""

from __future__ import annotations

from functools import partial

import pytest

import databases
from effort import LEVEL
from stores.sql.material import opened
from test_interleavings import EACH_OUTSIDE_MEMORY, OUTSIDE_MEMORY, PAIRS, Stage, explore_some
from wsgi_sessions.stores import SQLStore

pytestmark = pytest.mark.untraced


@EACH_OUTSIDE_MEMORY
@pytest.mark.slow
def test_on_sqlite(lite_url: str, actions: tuple[str, ...]) -> None:
    explore_some(Stage(partial(emptied, opened(lite_url))), actions, OUTSIDE_MEMORY)


CENTRAL = {"write", "login", "destroy", "revoke_all"}
ON_SERVERS = [pair for pair in PAIRS if LEVEL == "everything" or {*pair} <= CENTRAL]
"""Where each call takes longer: up to `make check`, what writes most, and what ends sessions."""


@pytest.mark.parametrize("actions", ON_SERVERS, ids="+".join)
@pytest.mark.slow
def test_on_servers(server: databases.DatabaseServer, actions: tuple[str, ...]) -> None:
    store = opened(server.default_url, table="orders")
    explore_some(Stage(partial(emptied, store)), actions, OUTSIDE_MEMORY)


def emptied(store: SQLStore) -> SQLStore:
    store.clear()
    return store
