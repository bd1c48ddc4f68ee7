"""What a visitor notices of Redis in trouble: nothing, or a 503 that keeps the cookie."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Callable, Iterator

import pytest

import servers
from resp import HANG_UP, Forwarder, ScriptedServer
from waiting import BRIEFLY, LONG, wait
from wsgi import Browser, Response, Site
from wsgi_sessions import Session
from wsgi_sessions.stores import RedisStore

REFUSALS = {
    "loading": b"-LOADING Redis is loading the dataset in memory\r\n",
    "a replica": b"-READONLY You can't write against a read only replica.\r\n",
    "out of memory": b"-OOM command not allowed when used memory > 'maxmemory'.\r\n",
    "can't save": b"-MISCONF Redis is configured to save RDB snapshots, but can't.\r\n",
    "cluster down": b"-CLUSTERDOWN The cluster is down\r\n",
    "hangs up": HANG_UP,
}


def count(session: Session) -> int:
    session["n"] = session["n"] + 1
    return int(session["n"])


class Between:
    """A site whose Redis is reached through a server that can be told to refuse or lose."""

    def __init__(self, redis_server: servers.Server) -> None:
        self.forwarder = Forwarder(redis_server.address)
        self.server = ScriptedServer(self.forwarder)
        prefix = f"test-{secrets.token_hex(8)}:"
        self.site = Site(store=RedisStore.from_url(self.server.url, prefix=prefix))
        self.browser = self.site.browser()
        self.site.run(self.browser, lambda session: session.update(n=1))
        self.cookies = dict(self.browser.cookies)

    def refuse(self, answer: bytes | None, *commands: bytes) -> None:
        def reply(command: list[bytes]) -> bytes | None:
            return answer if command[0] in commands else self.forwarder(command)

        self.server.reply = reply

    def recover(self) -> None:
        self.server.reply = self.forwarder


@pytest.fixture
def between(redis_server: servers.Server) -> Iterator[Between]:
    made = Between(redis_server)
    with contextlib.closing(made.server):
        yield made


def assert_unavailable(answer: Response) -> None:
    assert answer.code == 503
    assert answer.get("Retry-After")
    assert answer.set_cookie is None


@pytest.mark.parametrize("refusal", REFUSALS.values(), ids=REFUSALS)
class TestRefused:
    def test_a_request_that_leaves_the_session_alone_never_notices(
        self, between: Between, refusal: bytes | None
    ) -> None:
        between.refuse(refusal, b"HGETALL", b"EVALSHA", b"EVAL")
        before = len(between.server.commands)
        answer = between.site.run(between.browser, lambda session: "fine")

        assert (answer.code, answer.text) == (200, "fine")
        assert len(between.server.commands) == before

    def test_a_read_is_503_and_afterwards_the_same_cookie_works(
        self, between: Between, refusal: bytes | None
    ) -> None:
        between.refuse(refusal, b"HGETALL")
        answer = between.site.run(between.browser, lambda session: session["n"])
        between.recover()

        assert_unavailable(answer)
        assert between.browser.cookies == between.cookies
        assert between.site.run(between.browser, lambda session: session["n"]).text == "1"

    def test_a_write_is_503_and_afterwards_the_same_cookie_works(
        self, between: Between, refusal: bytes | None
    ) -> None:
        between.refuse(refusal, b"EVALSHA", b"EVAL")
        answer = between.site.run(between.browser, count)
        between.recover()

        assert_unavailable(answer)
        assert between.browser.cookies == between.cookies
        assert between.site.run(between.browser, count).text == "2"

    def test_a_new_session_is_503_and_sets_no_cookie(
        self, between: Between, refusal: bytes | None
    ) -> None:
        between.refuse(refusal, b"EVALSHA", b"EVAL")
        newcomer = between.site.browser()
        answer = between.site.run(newcomer, lambda session: session.update(n=1))

        assert_unavailable(answer)
        assert newcomer.cookies == {}


class TestLostAnswers:
    def test_an_increment_counts_once(self, between: Between) -> None:
        between.forwarder.lose = {b"EVALSHA"}
        answer = between.site.run(between.browser, lambda session: session.increment("n"))
        between.forwarder.lose = set()

        assert answer.code == 503
        assert between.site.run(between.browser, lambda session: session["n"]).text == "2"


class TestCosts:
    def test_a_request_costs_what_the_design_says(self, redis_binary: str) -> None:
        """Round trips, counted at the server."""
        with servers.running(redis_binary) as server:
            site = Site(store=RedisStore.from_url(server.url))
            browser, owned = site.browser(), site.browser()
            site.run(owned, lambda session: session.login("ada"))
            site.run(owned, lambda session: session.regenerate())
            site.run(browser, lambda session: session.update(n=-2))  # teaches it the scripts
            site.run(browser, lambda session: session.update(n=-1))

            def trips(browser: Browser, work: Callable[[Session], object]) -> int:
                with servers.asked(server) as commands:
                    site.run(browser, work)
                return len(commands)

            assert trips(browser, lambda session: None) == 0
            assert trips(browser, lambda session: session.get("n")) == 1
            assert trips(browser, lambda session: session.update(n=1)) == 2
            assert trips(site.browser(), lambda session: session.update(n=1)) == 1
            assert trips(browser, lambda session: session.regenerate()) == 2
            assert trips(owned, lambda session: session.regenerate()) == 2
            assert trips(browser, lambda session: session.login("ada")) <= 4

    def test_one_counter_of_a_large_session_is_less_than_a_kilobyte(self, between: Between) -> None:
        site = Site(store=between.site.middleware.store, max_bytes=10**6)
        browser = site.browser()
        site.run(browser, lambda session: session.update(n=0, large="x" * 100_000))
        site.run(browser, lambda session: session.update(n=1))
        before = between.server.received
        site.run(browser, lambda session: session.update(n=session["n"] + 1))

        assert 0 < between.server.received - before < 1000


class TestOnRealServers:
    @pytest.fixture
    def server(self, redis_binary: str) -> Iterator[servers.Server]:
        with servers.running(redis_binary, "--appendonly", "yes") as server:
            yield server

    @pytest.fixture
    def store(self, server: servers.Server) -> Iterator[RedisStore]:
        url = f"redis://127.0.0.1:{server.port}"
        with contextlib.closing(RedisStore.from_url(url)) as store:
            yield store

    @pytest.fixture
    def site(self, store: RedisStore) -> Site:
        return Site(store=store)

    @pytest.fixture
    def browser(self, site: Site) -> Browser:
        browser = site.browser()
        site.run(browser, lambda session: session.update(n=1))
        return browser

    def test_a_server_that_was_stopped_and_started_again(
        self, server: servers.Server, site: Site, browser: Browser
    ) -> None:
        cookies = dict(browser.cookies)
        server.stop()
        untouched = site.run(browser, lambda session: "fine")
        read = site.run(browser, lambda session: session["n"])
        server.start().ready()
        again = site.run(browser, count)

        assert untouched.code == 200
        assert_unavailable(read)
        assert cookies == browser.cookies
        assert again.text == "2"

    def test_a_server_that_came_back_empty_knows_no_session_and_makes_new_ones(
        self, server: servers.Server, site: Site, browser: Browser
    ) -> None:
        cookies = dict(browser.cookies)
        with server.client() as client:
            client.flushall()
        unknown = site.run(browser, lambda session: session.get("n"))
        site.run(browser, lambda session: session.update(n=1))

        assert (unknown.code, unknown.text, unknown.set_cookie) == (200, "None", None)
        assert browser.cookies != cookies
        assert site.run(browser, count).text == "2"

    def test_a_slow_server_is_waited_for(
        self, server: servers.Server, site: Site, browser: Browser
    ) -> None:
        patient = Site(store=RedisStore.from_url(server.url, socket_timeout=30))
        tab = patient.browser()
        tab.cookies = dict(browser.cookies)
        with server.client() as client:
            client.execute_command("CLIENT", "PAUSE", 50)

        assert patient.run(tab, count).text == "2"

    def test_a_server_that_accepts_and_never_answers_is_given_up(
        self, server: servers.Server, store: RedisStore, site: Site, browser: Browser
    ) -> None:
        cookies = dict(browser.cookies)
        server.freeze()
        wait(BRIEFLY, store.client)
        untouched = site.run(browser, lambda session: "fine")
        read = site.run(browser, lambda session: session["n"])
        new = site.run(site.browser(), lambda session: session.update(n=1))
        server.thaw()
        wait(LONG, store.client)

        assert untouched.code == 200
        assert_unavailable(read)
        assert_unavailable(new)
        assert browser.cookies == cookies
        assert site.run(browser, lambda session: session["n"]).text == "1"
