"""Servers and old worlds for these tests, where the machine has them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, NoReturn

import pytest

import servers
from carry_over import old

if TYPE_CHECKING:
    from databases import DatabaseServer


def _missing(why: str) -> NoReturn:
    if "carry_over" in os.environ.get("WSGI_SESSIONS_REQUIRE", "").split(","):
        pytest.fail(f"WSGI_SESSIONS_REQUIRE names carry_over, but there is {why}")
    pytest.skip(why)  # only a machine without them lacks these tests; CI requires them


@pytest.fixture(scope="session")
def old_python() -> None:
    """The old systems in Python are installed."""
    why = old.missing("python")
    if why is not None:
        _missing(why)


@pytest.fixture(scope="session")
def old_node() -> None:
    """Those in Node."""
    why = old.missing("node")
    if why is not None:
        _missing(why)


@pytest.fixture(params=old.ERAS)
def era(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="session")
def redis_server() -> Iterator[servers.Server]:
    """One of those that there are: what is read here are plain strings."""
    binaries = servers.binaries()
    if not binaries:
        _missing("no Redis-compatible server")
    with servers.running(min(binaries.values())) as server:
        yield server


@pytest.fixture
def redis_url(redis_server: servers.Server) -> Iterator[str]:
    """Of a server without keys of other tests."""
    redis_server.client().flushall()
    yield f"redis://127.0.0.1:{redis_server.port}"
    redis_server.client().flushall()


@pytest.fixture(scope="session")
def postgresql() -> Iterator[DatabaseServer]:
    import databases

    server = databases.started("postgresql")
    if server is None:
        _missing(databases.MISSING["postgresql"])
    yield server
    server.remove()
