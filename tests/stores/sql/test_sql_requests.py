"""Whole requests at once over SQLStore, between threads and processes, and the shop's kind of app."""

from __future__ import annotations

from collections.abc import Callable

import pytest

import databases
from stores.sql.material import opened
from stores.test_request_races import BetweenProcesses
from wsgi import Site
from wsgi_sessions import Session
from wsgi_sessions.stores import SQLStore, Store

KEYS = [bytes(range(32))]


class TestRequestsOnSQLite(BetweenProcesses):
    @pytest.fixture(autouse=True)
    def _url(self, lite_url: str) -> None:
        self.url = lite_url

    def open_store(self) -> Store:
        return opened(self.url)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["postgresql", "mariadb"])
class TestRequestsOnServers(BetweenProcesses):
    @pytest.fixture(autouse=True)
    def _table(
        self, name: str, shared: Callable[[str], databases.DatabaseServer], table: str
    ) -> None:
        self.url = shared(name).default_url
        self.table = table

    def open_store(self) -> Store:
        return opened(self.url, table=self.table)


def test_an_encrypted_session_lives_in_the_database(store: SQLStore) -> None:
    site = Site(store=store, encryption_keys=KEYS)
    browser = site.browser()

    def sign_in(session: Session) -> None:
        session.login("42")
        session["cart"] = ["battery-staple"]

    site.run(browser, sign_in)
    seen: dict[str, object] = {}
    site.run(browser, seen.update)

    assert seen == {"cart": ["battery-staple"]}
    handles = [info.handle for info in site.middleware.registry.sessions("42")]
    assert len(handles) == 1
    record = store.load(handles[0])
    assert record is not None
    assert b"battery" not in b"".join(record.fields.values()) + record.notes
    assert site.middleware.registry.revoke_all("42") == 1
    assert store.load(handles[0]) is None
