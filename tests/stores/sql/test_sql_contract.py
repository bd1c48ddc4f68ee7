"""SQLStore holds to the contract on every database, and whichever isolation level its server has."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import sqlalchemy as sa

import databases
from effort import tries
from ports import free_port
from stores.sql.material import engine_at
from wsgi_sessions.stores import SQLStore, Store
from wsgi_sessions.stores.encrypted import EncryptedStore
from wsgi_sessions.stores.sql.urls import engine_from_url
from wsgi_sessions.testing import StoreClientContract, StoreContract
from wsgi_sessions.testing.contract.threads import ThreadRaces


class OnServer:
    """Each test has a table of its own in a database that is shared."""

    server: str

    @pytest.fixture(autouse=True)
    def _table(
        self, shared: Callable[[str], databases.DatabaseServer], table: str
    ) -> Iterator[None]:
        self.url = shared(self.server).default_url
        self.table = table
        self.opened: list[SQLStore] = []
        yield
        engine = sa.create_engine(engine_from_url(self.url).url, poolclass=sa.NullPool)
        for store in self.opened:
            store.close()
        with engine.begin() as connection:
            connection.exec_driver_sql(f"DROP TABLE IF EXISTS {table}")

    def make_store(self) -> Store:
        self.opened.append(SQLStore(self.make_engine(), table=self.table))
        return self.opened[-1]

    def make_engine(self) -> sa.Engine:
        return engine_from_url(self.url)

    def make_broken_store(self) -> Store:
        nobody = sa.make_url(self.url).set(port=free_port())
        return SQLStore.from_url(nobody.render_as_string(hide_password=False))


class TestPostgreSQL(OnServer, StoreContract):
    server = "postgresql"


class TestMariaDB(OnServer, StoreContract):
    server = "mariadb"


if databases.MYSQL_URL:

    class TestMySQL(OnServer, StoreContract):
        server = "mysql"


class TestSQLite(StoreContract):
    @pytest.fixture(autouse=True)
    def _file(self, lite_url: str) -> Iterator[None]:
        self.url = lite_url
        self.opened: list[SQLStore] = []
        yield
        for store in self.opened:
            store.close()

    def make_store(self) -> Store:
        self.opened.append(SQLStore.from_url(self.url))
        return self.opened[-1]

    def make_broken_store(self) -> Store:
        return SQLStore.from_url("sqlite:////nowhere/at/all/sessions.db")


class TestEncryptedOnPostgreSQL(OnServer, StoreClientContract):
    server = "postgresql"

    def make_store(self) -> Store:
        return EncryptedStore(super().make_store(), (bytes(range(32)),))

    def make_broken_store(self) -> Store:
        return EncryptedStore(super().make_broken_store(), (bytes(range(32)),))


@pytest.mark.long
class TestEncryptedOnMariaDB(TestEncryptedOnPostgreSQL):
    server = "mariadb"


class AtLevel(OnServer, ThreadRaces):
    """An engine of the app's, with a pool and an isolation level that aren't ours."""

    level: str
    rounds = tries(test=10, check=30, everything=1000)

    def make_engine(self) -> sa.Engine:
        return engine_at(engine_from_url(self.url).url, self.level)


class TestPostgreSQLAtReadCommitted(AtLevel, StoreClientContract):
    server, level = "postgresql", "READ COMMITTED"


class TestPostgreSQLAtRepeatableRead(AtLevel):
    server, level = "postgresql", "REPEATABLE READ"


@pytest.mark.long
class TestPostgreSQLAtSerializable(AtLevel):
    server, level = "postgresql", "SERIALIZABLE"


class TestMariaDBAtReadCommitted(AtLevel):
    server, level = "mariadb", "READ COMMITTED"


class TestMariaDBAtRepeatableRead(AtLevel, StoreClientContract):
    server, level = "mariadb", "REPEATABLE READ"


@pytest.mark.long
class TestMariaDBAtSerializable(AtLevel):
    server, level = "mariadb", "SERIALIZABLE"
