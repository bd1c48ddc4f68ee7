"""Databases for the tests of SQLStore: SQLite always, the others where this machine has them."""

from __future__ import annotations

import itertools
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import databases
from programs import missing
from stores.sql import material
from waiting import LONG
from wsgi_sessions.stores import SQLStore
from wsgi_sessions.stores.sql import connections, forks, urls

NAMES = ["postgresql", "mariadb", *(["mysql"] if databases.MYSQL_URL else [])]
_TABLES = itertools.count()


def _required(server: databases.DatabaseServer | None, name: str) -> databases.DatabaseServer:
    return server if server is not None else missing("databases", databases.MISSING[name])


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whatever needs a server's program says so."""
    here = str(Path(__file__).parent) + os.sep
    for item in items:
        if str(item.path).startswith(here) and _needs_server(item):
            item.add_marker(pytest.mark.programs)


def _needs_server(item: pytest.Item) -> bool:
    if not isinstance(item, pytest.Function):
        return False
    params = item.callspec.params if hasattr(item, "callspec") else {}
    if "url" in params:
        return params["url"] != "sqlite"
    return bool({"shared", "server", "own_server"} & set(item.fixturenames))


@pytest.fixture(scope="session", autouse=True)
def _patience_with_databases() -> Iterator[None]:
    """What has to answer may take its time; a test says where something mustn't."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("CONNECT_SECONDS", "ANSWER_SECONDS", "SQLITE_SECONDS"):
            patch.setattr(urls, name, int(LONG))
        patch.setattr(connections, "PATIENCE", LONG)
        patch.setattr(forks, "PATIENCE", LONG)
        yield


@pytest.fixture(scope="session")
def _shared_servers() -> Iterator[dict[str, databases.DatabaseServer | None]]:
    started: dict[str, databases.DatabaseServer | None] = {}
    yield started
    for server in started.values():
        if server is not None:
            server.remove()


@pytest.fixture(scope="session")
def shared(
    _shared_servers: dict[str, databases.DatabaseServer | None],
) -> Callable[[str], databases.DatabaseServer]:
    """The running server of this name: use a table or a database of your own."""

    def get(name: str) -> databases.DatabaseServer:
        if name not in _shared_servers:
            _shared_servers[name] = databases.started(name)
        return _required(_shared_servers[name], name)

    return get


@pytest.fixture(params=NAMES)
def server(
    request: pytest.FixtureRequest, shared: Callable[[str], databases.DatabaseServer]
) -> databases.DatabaseServer:
    """A running server that is shared."""
    return shared(request.param)


@pytest.fixture(params=["postgresql", "mariadb"])
def own_server(request: pytest.FixtureRequest) -> Iterator[databases.DatabaseServer]:
    """A running server for this test alone, which may kill it."""
    server = _required(databases.started(request.param), request.param)
    yield server
    server.remove()


@pytest.fixture
def lite_url() -> Iterator[str]:
    """A SQLite file that isn't there yet, in memory where there is such a place."""
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=memory) as directory:
        yield f"sqlite:///{Path(directory) / 'sessions.db'}"


@pytest.fixture(params=["sqlite", *NAMES])
def url(
    request: pytest.FixtureRequest,
    lite_url: str,
    shared: Callable[[str], databases.DatabaseServer],
) -> str:
    """The URL of each database in turn; other tests use it, too."""
    return lite_url if request.param == "sqlite" else shared(request.param).default_url


@pytest.fixture
def table() -> str:
    """The name of a table that nobody else uses."""
    return f"sessions_{os.getpid()}_{next(_TABLES)}"


@pytest.fixture
def store(url: str, table: str) -> SQLStore:
    """A store on each database, with a table of its own."""
    return material.opened(url, table=table)


@pytest.fixture(autouse=True)
def _close() -> Iterator[None]:
    yield
    while material.OPENED:
        material.OPENED.pop().close()


@pytest.fixture
def umask_zero() -> Iterator[None]:
    """Whoever makes a file carelessly makes it for all."""
    before = os.umask(0)
    yield
    os.umask(before)
