"""What must hold on each store alike, with real threads: rotation, dead stays dead, limits."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest

from acts import destroy, id_of, login, put, read, token, twin
from records import key_of
from servers import NamedServer, Server
from wsgi import Browser, Site
from wsgi_sessions import Lifetime, Session
from wsgi_sessions.record import Changes
from wsgi_sessions.stores import FileStore, MemoryStore, RedisStore, Store
from wsgi_sessions.testing import FakeClock

TABS = 8


def at_once(works: list[Callable[[], object]]) -> None:
    """Each in a thread of its own, from one moment on."""
    barrier = threading.Barrier(len(works))
    failures: list[BaseException] = []

    def run(work: Callable[[], object]) -> None:
        barrier.wait()
        try:
            work()
        except BaseException as error:  # whatever it is, the test shows it
            failures.append(error)

    workers = [threading.Thread(target=run, args=(work,)) for work in works]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert failures == []


class OnAStore:
    """The tests; each subclass says which store."""

    store: Store
    options: ClassVar[dict[str, Any]] = {}

    @pytest.fixture(autouse=True)
    def _emptied(self, _store: None) -> Iterator[None]:
        yield
        self.store.clear()
        self.store.close()

    def site(self, **more: Any) -> Site:
        # Redis forgets by the real time, so it is that.
        clock = FakeClock(time.time())
        site = Site(store=self.store, clock=clock, **self.options, **more)
        site.clock = clock
        return site

    def test_rotations_at_once_yield_one_successor(self) -> None:
        site = self.site(rotate_after=100)
        browser = site.browser()
        site.run(browser, put(a=1))
        for round_ in range(5):
            before = token(browser)
            site.clock.advance(100)
            site.events.clear()
            tabs = [twin(browser) for _ in range(TABS)]
            loaded = threading.Barrier(TABS)
            for number, tab in enumerate(tabs):

                def work(session: Session, name: str = f"{round_}.{number}") -> None:
                    session[name] = True
                    loaded.wait()  # nobody commits before all have loaded it

                site.routes[f"/{number}"] = work
                assert tab.cookies == browser.cookies

            at_once([lambda tab=tab, n=n: tab.get(f"/{n}") for n, tab in enumerate(tabs)])  # type: ignore[misc] # bound here

            assert site.kinds == ["rotated"]
            for tab in tabs:
                assert site.run(tab, lambda s: len(s)).text == str(1 + TABS * (round_ + 1))
            assert len({token(tab) for tab in tabs}) == 1
            assert token(tabs[0]) != before
            assert list(site.middleware.registry) == [key_of(id_of(tabs[0]))]
            browser = tabs[0]

    def test_a_lost_answer_heals_and_a_grandparent_is_refused(self) -> None:
        site = self.site(rotate_after=100)
        browser = site.browser()
        site.run(browser, put(a=1))
        grandparent = twin(browser)
        site.clock.advance(100)
        lost = twin(browser)
        site.run(lost, put(b=2))  # browser never sees this answer

        site.clock.advance(29)
        assert site.run(browser, put(c=3)).set_cookie is not None
        assert token(browser) == token(lost)
        assert site.run(browser, read).text == "{'a': 1, 'b': 2, 'c': 3}"
        site.clock.advance(100)
        site.run(browser, read)
        assert token(browser) != token(lost)
        assert site.run(lost, read).text == "{'a': 1, 'b': 2, 'c': 3}"

        refused = site.run(grandparent, read)
        assert (refused.text, refused.set_cookie) == ("{}", None)
        assert site.kinds[-1] == "retired_id_used"
        site.clock.advance(30)
        late = twin(browser)
        late.cookies["session"] = next(iter(grandparent.cookies.values()))
        assert site.run(late, read).text == "{}"

    @pytest.mark.parametrize("end", ["destroy", "revoke_all", "login"])
    def test_a_session_that_ends_in_a_storm_of_writes_stays_dead(self, end: str) -> None:
        site = self.site(rotate_after=50)
        registry = site.middleware.registry
        for _ in range(5):
            browser = site.browser()
            site.run(browser, login)
            old = twin(browser)
            site.clock.advance(50)  # so that it moves at the same time, too
            tabs = [twin(browser) for _ in range(TABS - 1)]
            ender = twin(browser)

            def write(tab: Browser, number: int) -> None:
                for count in range(4):
                    site.routes[f"/{number}"] = put(**{f"n{number}": count})
                    tab.get(f"/{number}")

            def finish(ender: Browser = ender) -> None:
                site.routes["/end"] = {
                    "destroy": destroy,
                    "login": login,
                    "revoke_all": lambda s: registry.revoke_all("bob"),
                }[end]
                ender.get("/end")

            writers = [lambda t=t, n=n: write(t, n) for n, t in enumerate(tabs)]
            at_once([*writers, finish])

            for survivor in (*tabs, old):
                assert site.run(survivor, lambda s: s.owner).text == "None"
            if end == "login":
                assert site.run(ender, lambda s: s.owner).text == "bob"
            assert registry.count("bob") == (end == "login")
            assert len(registry.sessions("bob")) == (end == "login")
            registry.revoke_all("bob")

    def test_the_idle_and_the_absolute_limit_hold(self) -> None:
        site = self.site(lifetime=Lifetime(idle=60, absolute=600))
        idle, busy = site.browser(), site.browser()
        for browser in (idle, busy):
            site.run(browser, put(a=1))
        # As who writes the store may put a deadline off.
        far = Changes(expires_at=site.clock() + 10**6)
        for browser in (idle, busy):
            site.store.update(key_of(id_of(browser)), far)

        for _ in range(19):
            site.clock.advance(30)
            assert site.run(busy, read).text == "{'a': 1}"
        assert site.run(idle, read).text == "{}"
        site.clock.advance(30)

        assert site.run(busy, read).text == "{}"


class TestMemory(OnAStore):
    @pytest.fixture
    def _store(self) -> None:
        self.store = MemoryStore()


class TestEncrypted(TestMemory):
    options: ClassVar[dict[str, Any]] = {"encryption_keys": [bytes(range(32))]}


class TestFile(OnAStore):
    @pytest.fixture
    def _store(self, tmp_path: Path) -> None:
        self.store = FileStore(tmp_path / "sessions")


class TestRedis(OnAStore):
    @pytest.fixture
    def _store(self, redis_server: Server | NamedServer) -> None:
        self.store = RedisStore.from_url(redis_server.url, prefix=f"every-{secrets.token_hex(8)}:")
