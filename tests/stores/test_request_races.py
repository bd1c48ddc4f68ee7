"""Whole requests of one session at once, on every store, between threads and between processes.

The contract races single store calls. Here a request has loaded its session and is still at work,
while another one ends that session: a barrier sees to it, up to a thousand times for each way to end.
"""

from __future__ import annotations

import contextlib
import secrets
import threading
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from queue import Queue
from typing import Any

import pytest

import servers
from acts import put, read
from effort import ROUNDS, tries
from records import key_of
from wsgi import Browser, Site
from wsgi_sessions import Session, SessionConflict, SessionEnded
from wsgi_sessions.record import Changes, Record, UpdateResult
from wsgi_sessions.stores import FileStore, MemoryStore, RedisStore, Store
from wsgi_sessions.testing import races

pytestmark = pytest.mark.untraced
DAY = 86_400.0
BINARIES: list[str | None] = [*sorted(servers.binaries())] or [None]
Meet = Callable[[], object]
Open = Callable[[], Store]


def in_step(between: str, one: Callable[[Meet], object], two: Callable[[Meet], object]) -> None:
    if between == "processes":
        races.in_step(one, two)
        return
    barrier = threading.Barrier(2, timeout=races.PATIENCE)
    races.together(partial(run, one, barrier), partial(run, two, barrier))


def run(call: Callable[[Meet], object], barrier: threading.Barrier) -> None:
    try:
        call(barrier.wait)
    except BaseException:
        barrier.abort()  # nobody shall wait for one who failed
        raise


def twin(browser: Browser, site: Site) -> Browser:
    """The same cookies, now, at a site of one's own over the same store."""
    other = site.browser()
    other.cookies = dict(browser.cookies)
    return other


def write(session: Session) -> None:
    session["slow"] = True


def count(session: Session) -> None:
    with contextlib.suppress(SessionEnded):
        session.increment("n")


def take(session: Session) -> None:
    assert session.take("ticket") is None, "of a session that has ended"


BEFORE = {"a": 1, "n": 0, "ticket": "t"}
SLOW: list[Callable[[Session], object]] = [
    write,
    lambda session: session.regenerate(),
    count,
    lambda session: session.touch(),
    lambda session: session.pop("a"),
    take,
]
"""What a request may do to a session that has ended after it was loaded."""


Moved = Browser | None


def by_request(work: Callable[[Session], object]) -> Callable[[Site, Browser, str], Moved]:
    def end(site: Site, browser: Browser, owner: str) -> Moved:
        assert site.run(browser, work).code == 200
        return browser if browser.cookies else None

    return end


def revoke(site: Site, browser: Browser, owner: str) -> Moved:
    assert site.middleware.registry.revoke(handle(browser))
    return None


def revoke_all(site: Site, browser: Browser, owner: str) -> Moved:
    assert site.middleware.registry.revoke_all(owner) == 1
    return None


def purge(site: Site, browser: Browser, owner: str) -> Moved:
    """Its time has come, on the other's clock; perhaps it was purged, too."""
    if secrets.randbits(1):
        site.store.delete(handle(browser))
    return None


ENDS: dict[str, Callable[[Site, Browser, str], Moved]] = {
    "destroyed": by_request(lambda session: session.destroy()),
    "revoked": revoke,
    "all_revoked": revoke_all,
    "expired": purge,
    "regenerated": by_request(lambda session: session.regenerate()),
    "signed_in_again": by_request(lambda session: session.login("another")),
}
"""How another request ends a session; gives a browser with its successor, if there is one."""
NEW_EPOCHS = ("regenerated", "signed_in_again")
"""Where the record lives on, but not for what was loaded before."""


def handle(browser: Browser) -> str:
    return key_of(browser.cookies["session"].partition(".")[0])


def begin(site: Site, owner: str) -> Browser:
    def work(session: Session) -> None:
        session.login(owner)
        session.update(BEFORE)

    browser = site.browser()
    site.run(browser, work)
    return browser


def end_in_flight(open_store: Open, between: str, how: str) -> None:
    first = Site(store=open_store())
    browsers = [begin(first, f"user {number}") for number in range(ROUNDS)]

    def in_flight(meet: Meet) -> None:
        site = Site(store=open_store())
        for number, began in enumerate(browsers):
            browser, old = twin(began, site), twin(began, site)

            def work(session: Session, slow: Callable[[Session], object]) -> None:
                assert session["a"] == 1
                meet()
                meet()  # it has ended in between
                if how == "expired":
                    site.clock.advance(2 * DAY)
                slow(session)

            answer = site.run(browser, partial(work, slow=SLOW[number % len(SLOW)]))

            assert (answer.code, answer.set_cookie) == (200, None)
            assert site.run(old, read).text == "{}"
            lives_on = site.middleware.registry.get(handle(old)) is not None
            assert lives_on == (how in NEW_EPOCHS)
            site.clock.now = first.clock.now
            meet()

    def other(meet: Meet) -> None:
        site = Site(store=open_store())
        for number, began in enumerate(browsers):
            meet()
            moved = ENDS[how](site, twin(began, site), f"user {number}")
            meet()
            meet()
            if moved is not None:
                assert site.run(moved, dict).text == repr(BEFORE)

    in_step(between, in_flight, other)


TICKETS = tries(test=5, check=15, everything=25)
USERS = tries(test=4, check=5, everything=10)


def do_different_things(open_store: Open, between: str) -> None:
    """Fields set and deleted, a counter, one-time values, in requests of several sessions at once."""
    first = Site(store=open_store())
    tickets = [f"ticket {number}" for number in range(TICKETS)]
    browsers = [begin(first, f"user {number}") for number in range(USERS)]
    for browser in browsers:
        old = {f"old {who} {ticket}": 1 for who in range(4) for ticket in tickets}
        first.run(browser, put(**old, **dict.fromkeys(tickets, 1)))

    def work(session: Session, who: int, ticket: str) -> None:
        del session[f"old {who} {ticket}"]
        session[f"new {who} {ticket}"] = 1
        if until_done(lambda: session.take(ticket)):
            session[f"{who} had {ticket}"] = 1
        until_done(lambda: session.increment("n"))

    def requests(who: int) -> None:
        site = Site(store=open_store())
        for ticket in tickets:
            for browser in browsers:
                answer = site.run(twin(browser, site), partial(work, who=who, ticket=ticket))
                assert answer.code == 200

    together = races.forked if between == "processes" else races.together
    together(*(partial(requests, who) for who in range(4)))

    for browser in browsers:
        left: dict[str, Any] = {}
        first.run(browser, left.update)
        had = [name.partition(" had ")[2] for name in left if " had " in name]
        news = {f"new {who} {ticket}" for who in range(4) for ticket in tickets}
        assert left["n"] == 4 * TICKETS
        assert sorted(had) == sorted(tickets)
        assert {name for name in left if " had " not in name} == {*BEFORE, *news}


def until_done(work: Callable[[], Any]) -> Any:
    """A transaction that lost too often against others is an error, and may be tried again."""
    while True:
        try:
            return work()
        except SessionConflict:
            continue


class BetweenThreads:
    """A store, opened as often as there are workers."""

    def open_store(self) -> Store:
        raise NotImplementedError

    @pytest.mark.parametrize("how", ENDS)
    def test_what_ended_while_a_request_was_in_flight_never_comes_back(self, how: str) -> None:
        end_in_flight(self.open_store, "threads", how)

    def test_requests_that_do_different_things_lose_nothing(self) -> None:
        do_different_things(self.open_store, "threads")


class BetweenProcesses(BetweenThreads):
    @pytest.mark.parametrize("how", ["destroyed", "revoked", "expired", "regenerated"])
    def test_what_ended_while_a_request_of_another_process_was_in_flight_never_comes_back(
        self, how: str
    ) -> None:
        end_in_flight(self.open_store, "processes", how)

    def test_requests_of_processes_that_do_different_things_lose_nothing(self) -> None:
        do_different_things(self.open_store, "processes")


class TestMemory(BetweenThreads):
    @pytest.fixture(autouse=True)
    def _store(self) -> None:
        self.store = MemoryStore()

    def open_store(self) -> Store:
        return self.store


class TestFiles(BetweenProcesses):
    @pytest.fixture(autouse=True)
    def _path(self, tmp_path: Path) -> None:
        self.path = tmp_path / "sessions"

    def open_store(self) -> Store:
        return FileStore(self.path)


@pytest.mark.parametrize("redis_server", BINARIES[-1:], indirect=True)
@pytest.mark.slow
class TestRedis(BetweenProcesses):
    @pytest.fixture(autouse=True)
    def _server(self, redis_server: servers.Server) -> None:
        self.url = redis_server.url
        self.prefix = f"test-{secrets.token_hex(8)}:"

    def open_store(self) -> Store:
        return RedisStore.from_url(self.url, prefix=self.prefix)


class Upserting(MemoryStore):
    """Writes whether or not the session is still there."""

    def insert(self, key: str, record: Record) -> bool:
        self.last = record
        return super().insert(key, record)

    def update(self, key: str, changes: Changes, **conditions: Any) -> UpdateResult:
        result = super().update(key, changes, **conditions)
        if result is UpdateResult.GONE and changes.set:
            if super().update(key, changes) is UpdateResult.GONE:
                self.insert(key, replace(self.last, fields=changes.set, version=1))
            return UpdateResult.UPDATED
        return result


@pytest.mark.parametrize("how", ["destroyed", "revoked", "all_revoked", "regenerated"])
def test_a_store_that_upserts_is_found_out(how: str) -> None:
    store = Upserting()

    with pytest.raises(AssertionError):
        end_in_flight(lambda: store, "threads", how)


def test_the_error_is_that_of_the_call_that_failed_not_of_who_waited_for_it() -> None:
    barrier = threading.Barrier(2, timeout=races.PATIENCE)
    begun: Queue[threading.Thread] = Queue()

    def wait() -> None:
        begun.put(threading.current_thread())
        barrier.wait()

    def fail() -> None:
        waiting = begun.get(timeout=races.PATIENCE)
        barrier.abort()
        waiting.join()
        raise LookupError

    with pytest.raises(LookupError):
        races.together(wait, fail)
