"""What the page on SQL databases says of setting one up: rights, Django's migrations, Windows."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from typing import Any

import pytest
import sqlalchemy as sa

import databases
from own_process import in_a_process_of_its_own
from stores.sql.material import a_key, a_record, opened, outside, overdue
from wsgi_sessions.errors import StoreError
from wsgi_sessions.record import Changes, UpdateResult
from wsgi_sessions.stores import SQLStore
from wsgi_sessions.stores.sql import examine, schema_for


class TestARoleWithTheFewestRights:
    @pytest.fixture
    def url(self, server: databases.DatabaseServer, table: str) -> str:
        """Of a role that may do these four things with the table, and nothing else."""
        made = opened(server.default_url, table=table)
        url = sa.make_url(server.default_url)
        is_postgresql = server.maintenance == "postgres"
        role = table if is_postgresql else f"{table[-30:]}@'127.0.0.1'"
        with outside(made) as connection:
            kind = "ROLE" if is_postgresql else "USER"
            login = " LOGIN" if is_postgresql else ""
            connection.exec_driver_sql(f"CREATE {kind} {role}{login}")
            connection.exec_driver_sql(f"GRANT SELECT, INSERT, UPDATE, DELETE ON {table} TO {role}")
        named = url.set(username=role.partition("@")[0])
        return named.render_as_string(hide_password=False)

    @pytest.mark.parametrize("create", [False, True])
    def test_it_does_all_that_requests_need(self, url: str, table: str, create: bool) -> None:
        store = opened(url, table=table, create=create)
        key = a_key()

        assert store.insert(key, a_record())
        assert store.load(key) is not None
        assert store.update(key, Changes(set={"a": b"2"})) is UpdateResult.UPDATED
        assert store.insert(a_key(), overdue())
        assert store.purge_expired(time.time()) == 1
        assert list(store.keys()) == [key]
        assert {level for _, level, _ in examine(store)} == {"ok"}
        assert store.delete(key)
        store.clear()

    def test_it_cannot_make_a_table_and_says_so(self, url: str, table: str) -> None:
        with pytest.raises(StoreError, match=r"\(create\): .*([Pp]ermission|command) denied"):
            opened(url, table=f"{table}_other")


def migrate(url: str, table: str) -> None:
    import django
    from django.conf import settings
    from django.db import connection, migrations
    from django.db.migrations.state import ProjectState

    named = sa.make_url(url)
    engine = "sqlite3" if named.drivername == "sqlite" else named.drivername
    database: dict[str, Any] = {"ENGINE": f"django.db.backends.{engine}", "NAME": named.database}
    if named.host:
        database |= {"USER": named.username, "PASSWORD": named.password}
        database |= {"HOST": named.host, "PORT": named.port}
    settings.configure(DATABASES={"default": database})
    django.setup()

    migration = migrations.Migration("0001", "shop")
    migration.operations = [migrations.RunSQL(schema_for(url, table), f"DROP TABLE {table}")]

    def run(way: str) -> None:
        with connection.schema_editor() as editor:
            getattr(migration, way)(ProjectState(), editor)

    run("apply")
    store = SQLStore.from_url(url, table=table, create=False)
    key = a_key()
    assert store.insert(key, a_record())
    assert store.load(key) is not None
    store.close()
    run("unapply")
    with pytest.raises(StoreError, match=f"no table {table}"):
        SQLStore.from_url(url, table=table, create=False).load(key)
    connection.close()


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_djangos_migrations_make_the_table_and_drop_it(url: str, table: str) -> None:
    pytest.importorskip("django")
    if url.startswith("maria"):
        pytest.skip("Django's MySQL backend needs mysqlclient")

    in_a_process_of_its_own(migrate)(url, table)


ON_WINDOWS = """
import os, select, sys
for module in ("fcntl", "grp", "pwd", "resource"):
    sys.modules[module] = None
for name in ("fork", "register_at_fork", "O_NOFOLLOW", "O_DIRECTORY", "getuid", "geteuid", "fchmod"):
    delattr(os, name)
del select.poll
from wsgi import Site
from wsgi_sessions.stores.sql import examine
sys.platform = "win32"
site = Site(store=sys.argv[1])
browser = site.browser()
site.run(browser, lambda session: session.login("42"))
assert site.run(browser, lambda session: session.owner).text == "42"
os.chmod(site.store.engine.url.database, 0o666)  # as any file is said to have there
assert {level for _, level, _ in examine(site.store)} == {"ok"}
assert site.middleware.registry.revoke_all("42") == 1
site.store.close()
"""


def test_on_sqlite_nothing_is_needed_that_windows_lacks(lite_url: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", ON_WINDOWS, lite_url],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )

    assert done.returncode == 0, done.stderr
