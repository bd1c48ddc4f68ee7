"""RedisStore on real servers, with redis-py and valkey-py; and what it does when they fail."""

from __future__ import annotations

import contextlib
import math
import secrets
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
import valkey
from hypothesis import given
from hypothesis import strategies as st
from redis.backoff import NoBackoff
from redis.retry import Retry

import servers
from effort import ROUNDS, effort
from records import NOW, a_key, a_record
from resp import HANG_UP, Forwarder, ScriptedServer
from waiting import BRIEFLY, LONG, wait
from wsgi_sessions import StoreError
from wsgi_sessions.cli.doctor import examine
from wsgi_sessions.record import UNCHANGED, Changes, Record, UpdateResult
from wsgi_sessions.stores import RedisStore
from wsgi_sessions.stores.packing import changed, refusal
from wsgi_sessions.testing import StoreClientContract, StoreContract

UPDATED, GONE, CONFLICT = UpdateResult.UPDATED, UpdateResult.GONE, UpdateResult.CONFLICT
BINARIES: list[str | None] = [*sorted(servers.binaries())] or [None]
DAY = 86_400.0
Operation = Callable[[RedisStore], object]
TOUCH = Changes(used_at=NOW + 1, expires_at=NOW + 1001)
COUNTED = Changes({"n": b"1"}, notes=b"m" * 200, used_at=NOW + 1, expires_at=NOW + 1001)


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

    def make_broken_store(self) -> RedisStore:
        client_class = type(self.make_client())
        return RedisStore(client_class(unix_socket_path="/nowhere", retry=Retry(NoBackoff(), 0)))

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
class TestWithTheAccessThatThePageGives(OnAServer, StoreContract):
    """As a user who may do what docs/redis.md lists, and nothing else."""

    rounds = 5

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
    "touch": lambda store: store.update("a" * 64, Changes(used_at=NOW, expires_at=NOW + 9)),
    "look": lambda store: store.update("a" * 64, Changes()),
    "delete": lambda store: store.delete("a" * 64),
    "purge_expired": lambda store: store.purge_expired(NOW),
    "keys": lambda store: list(store.keys()),
    "clear": lambda store: store.clear(),
    "ping": lambda store: store.ping(),
}
OPERATION_OF = {"touch": "update", "look": "update"}
WRITES = ["insert", "update", "touch", "delete"]


NAMES = st.sampled_from(["", "a", "h", "f:a", "\udc80", "名"])
VALUES = st.sampled_from([b"", b"1", b"\xff \r\n"])
OWNERS = st.sampled_from([None, "", "ada", "- 1 ", "名", "\ud800"])
NUMBERS = st.sampled_from([0, 1, 2, 9, 10, 2**52])
USES = st.sampled_from([NOW, NOW + 0.1, NOW + 1e-6, NOW + 7.3, 0.0])
ENDS = USES.filter(bool) | st.sampled_from([1e300, math.inf])
RECORDS = st.builds(
    Record,
    fields=st.dictionaries(NAMES, VALUES),
    notes=VALUES,
    used_at=USES,
    expires_at=ENDS,
    version=NUMBERS,
    epoch=NUMBERS,
    owner=OWNERS,
)
CHANGES = st.builds(
    Changes,
    set=st.dictionaries(NAMES, VALUES),
    delete=st.frozensets(NAMES),
    keep=st.none() | st.frozensets(NAMES),
    notes=st.none() | VALUES,
    used_at=st.none() | USES,
    expires_at=st.none() | ENDS,
    owner=OWNERS | st.just(UNCHANGED),
    epoch=st.none() | NUMBERS,
)


@pytest.mark.parametrize("redis_server", BINARIES[-1:], indirect=True)
class TestTheScripts(OnAServer):
    @given(
        record=RECORDS,
        changes=CHANGES,
        if_epoch=st.none() | NUMBERS,
        if_version=st.none() | NUMBERS,
    )
    @effort(100)
    def test_an_update_does_what_plain_python_does(
        self, record: Record, changes: Changes, if_epoch: int | None, if_version: int | None
    ) -> None:
        key, store = a_key(), self.shared_store
        store.insert(key, record)
        expected = refusal(record.version, record.epoch, if_epoch, if_version)
        if changes.used_at is not None and record.expires_at <= changes.used_at:
            expected = GONE

        result = store.update(key, changes, if_epoch=if_epoch, if_version=if_version)

        assert result is (expected or UPDATED)
        assert store.load(key) == (record if expected else changed(record, changes))
        assert store.client.ttl(store.prefix + key) > 10

    @pytest.fixture(autouse=True)
    def _store(self, _server: None) -> None:
        self.shared_store = self.make_store()


class TestExpiry(OnAServer):
    """The server's own expiry reclaims space; the times in the record decide."""

    def ttl(self, store: RedisStore, key: str) -> float:
        return float(store.client.pttl(store.prefix + key)) / 1000

    def test_every_write_leaves_a_key_that_expires(self, store: RedisStore) -> None:
        key = a_key()
        writes: list[Callable[[], object]] = [
            lambda: store.insert(key, a_record()),
            lambda: store.update(key, Changes(set={"b": b"2"})),
            lambda: store.update(key, Changes(delete=frozenset({"a", "b"}))),
            lambda: store.update(key, Changes(used_at=NOW + 1, expires_at=NOW + 2000)),
            lambda: store.update(key, Changes(notes=b"", expires_at=math.inf)),
            lambda: store.update(key, Changes(used_at=NOW + 2)),
            lambda: store.update(key, Changes(keep=frozenset(), epoch=1, owner=None)),
            lambda: store.update(key, Changes(owner="")),
            lambda: store.insert(a_key(), a_record(expires_at=math.inf)),
            lambda: store.purge_expired(NOW + 10),
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

        assert 1000 < inserted <= 1060
        assert 2000 < self.ttl(store, key) <= 2060

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

    def test_a_change_without_times_leaves_the_expiry_as_it_is(self, store: RedisStore) -> None:
        key = a_key()
        store.insert(key, a_record())
        store.client.expire(store.prefix + key, 100)
        store.update(key, Changes(set={"a": b"2"}))

        assert 0 < self.ttl(store, key) <= 100

    @pytest.mark.parametrize(
        ("changes", "seconds"),
        [(Changes(used_at=NOW + 100), 960), (Changes(expires_at=NOW + 100), 160)],
        ids=["use", "end"],
    )
    def test_one_time_alone_moves_the_expiry_too(
        self, store: RedisStore, changes: Changes, seconds: int
    ) -> None:
        key = a_key()
        store.insert(key, a_record())
        store.update(key, changes)

        assert seconds - 50 < self.ttl(store, key) <= seconds

    def test_purging_counts_the_records_that_it_removed(self, store: RedisStore) -> None:
        live = a_key()
        store.insert(live, a_record(expires_at=NOW + 2000))
        for _ in range(3):
            store.insert(a_key(), a_record(expires_at=NOW + 100))

        assert store.purge_expired(NOW + 100) == 3
        assert list(store.keys()) == [live]
        assert store.purge_expired(NOW + 100) == 0


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
        assert told == [("corrupt_record", key)] * 4
        assert store.insert(key, a_record()) is False
        assert list(store.keys()) == [other]
        store.purge_expired(NOW + 10**6)
        store.clear()
        assert store.client.get(store.prefix + key) == b"theirs"

    @pytest.mark.parametrize(
        "head",
        [
            pytest.param(None, id="no head"),
            pytest.param(b"", id="empty"),
            pytest.param(b"1 0 1.0 2.0 - "[:-1], id="cut short"),
            pytest.param(b"-1 0 1.0 2.0 - notes", id="version is negative"),
            pytest.param(b"1 x 1.0 2.0 - notes", id="epoch is no number"),
            pytest.param(b"1 0 1.0 soon - notes", id="end is no number"),
            pytest.param(b"1 0 1.0 nan - notes", id="end is NaN"),
            pytest.param(b"1 0 inf 2.0 - notes", id="use is infinite"),
            pytest.param(b"1 0 1.0 2.0 9 notes", id="owner is cut short"),
        ],
    )
    def test_a_record_without_a_sound_head_is_none_as_a_whole(
        self, store: RedisStore, head: bytes | None
    ) -> None:
        key = a_key()
        name = store.prefix + key
        store.insert(key, a_record())
        store.client.hdel(name, "h")
        if head is not None:
            store.client.hset(name, "h", head)
        before = store.client.hgetall(name)
        told: list[str] = []
        store.subscribe(lambda kind, _, __: told.append(kind))

        assert store.load(key) is None
        assert store.update(key, Changes(set={"a": b"2"})) is GONE
        assert store.update(key, Changes(), if_epoch=0) is GONE
        assert store.delete(key) is False
        assert told == ["corrupt_record"] * 4
        assert store.purge_expired(NOW) == 0
        assert store.client.hgetall(name) == before

    def test_what_cannot_be_read_is_there_all_the_same(self, store: RedisStore) -> None:
        """Only the store's word that there is nothing takes a session from its owner's list."""
        key = a_key()
        store.client.hset(store.prefix + key, "x", "1")
        told: list[str] = []
        store.subscribe(lambda kind, _, __: told.append(kind))

        assert store.update(key, Changes()) is UPDATED
        assert store.insert(key, a_record()) is False
        assert told == []
        assert store.client.hgetall(store.prefix + key) == {b"x": b"1"}
        store.client.delete(store.prefix + key)
        assert store.update(key, Changes()) is GONE

    @pytest.mark.parametrize("part", [("x", b"1"), (b"f:\xff", b"1")])
    def test_a_part_that_cannot_be_read_makes_it_none(
        self, store: RedisStore, part: tuple[Any, bytes]
    ) -> None:
        key = a_key()
        store.insert(key, a_record())
        store.client.hset(store.prefix + key, *part)

        assert store.load(key) is None

    def test_an_owner_that_cannot_be_read_makes_it_none(self, store: RedisStore) -> None:
        key = a_key()
        store.insert(key, a_record())
        store.client.hset(store.prefix + key, "h", b"1 0 1.0 2.0 1 \xff")

        assert store.load(key) is None

    def test_clearing_leaves_what_others_keep(self, store: RedisStore) -> None:
        theirs = [
            self.prefix[:-1] + "x:" + a_key(),
            self.prefix + "settings",
            "test[x]y:" + a_key(),
            self.prefix + "owner:" + a_key(),
        ]
        for name in theirs:
            store.client.hset(name, "a", "1")
        store.insert(a_key(), a_record())
        store.insert(a_key(), a_record(owner=""))

        store.clear()

        left = set(store.client.scan_iter(match=glob(self.prefix)))
        assert left == {theirs[1].encode(), theirs[3].encode()}
        assert store.client.exists(*theirs) == len(theirs)
        store.client.delete(*theirs)

    def test_two_prefixes_are_two_stores(self) -> None:
        one = RedisStore(self.make_client(), prefix=self.prefix + "one:")
        two = RedisStore(self.make_client(), prefix=self.prefix + "two:")
        key = a_key()
        one.insert(key, a_record())

        assert two.load(key) is None
        assert list(two.keys()) == []
        two.clear()
        assert one.load(key) is not None


class TestRoundTrips:
    """Counted at the server: what a client sends in one go is one round trip."""

    @pytest.mark.parametrize("operation", ["load", "insert", "update", "touch", "look", "delete"])
    def test_each_operation_is_one(self, redis_binary: str, operation: str) -> None:
        with servers.running(redis_binary) as server:
            store = RedisStore.from_url(server.url)
            for warm in OPERATIONS.values():
                warm(store)
            store.insert("a" * 64, a_record())

            with servers.asked(server) as commands:
                OPERATIONS[operation](store)

            assert len(commands) == 1


class TestBytes(OnAServer):
    """What is sent, in bytes, to a session of 100 KB in 50 fields."""

    @pytest.mark.parametrize(
        ("operation", "most"),
        [
            (lambda store, key: store.load(key), 130),
            (lambda store, key: store.update(key, Changes()), 130),
            (lambda store, key: store.update(key, Changes(), if_epoch=0), 250),
            (lambda store, key: store.update(key, TOUCH), 250),
            (lambda store, key: store.update(key, COUNTED, if_epoch=0), 500),
            (lambda store, key: store.delete(key), 250),
        ],
        ids=["load", "look", "look at the epoch", "touch", "one counter", "delete"],
    )
    def test_only_what_has_changed_is_sent(
        self, operation: Callable[[RedisStore, str], object], most: int
    ) -> None:
        forwarder, server = self.forwarded()
        with contextlib.closing(server):
            store = RedisStore.from_url(server.url, prefix="session:")
            for warm in OPERATIONS.values():
                warm(store)
            key = a_key()
            fields = {f"field {number}": b"x" * 2000 for number in range(50)}
            store.insert(key, a_record(fields={**fields, "n": b"0"}, notes=b"n" * 200))
            before = server.received

            operation(store, key)

            assert 0 < server.received - before <= most
            store.delete(key)


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

    def test_reads_are_asked_once_more(
        self, lossy: tuple[RedisStore, Forwarder, ScriptedServer]
    ) -> None:
        unlucky, forwarder, server = lossy
        for operation in ("load", "look", "keys"):
            server.commands.clear()
            forwarder.lose = {b"HGETALL", b"EXISTS", b"SCAN"}

            with pytest.raises(StoreError):
                OPERATIONS[operation](unlucky)

            assert len(server.commands) == 2

    def test_a_read_that_is_answered_the_second_time_is_an_answer(self) -> None:
        answers = iter([HANG_UP, b"*0\r\n"])
        with contextlib.closing(ScriptedServer(lambda _: next(answers))) as server:
            assert RedisStore.from_url(server.url).load("a" * 64) is None

    def test_a_question_after_the_epoch_is_asked_once_more(self) -> None:
        answers = iter([HANG_UP, b":1\r\n"])
        with contextlib.closing(ScriptedServer(lambda _: next(answers))) as server:
            store = RedisStore.from_url(server.url)

            assert store.update("a" * 64, Changes(), if_epoch=0) is UPDATED
            assert [command[0] for command in server.commands] == [b"EVALSHA"] * 2


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

                assert caught.value.operation == OPERATION_OF.get(name, name)
                assert (caught.value.__cause__, caught.value.__context__) == (None, None)
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
        options: dict[str, Any] = {"socket_timeout": LONG, "socket_connect_timeout": LONG}
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
            assert caught.value.operation == OPERATION_OF.get(name, name)
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
        wait(BRIEFLY, store.client)
        for name in ("load", "update", "delete", "ping"):
            with pytest.raises(StoreError):
                OPERATIONS[name](store)
        server.thaw()
        wait(LONG, store.client)

        assert store.load(key) is not None

    def test_a_server_without_its_scripts_is_taught_them(self, store: RedisStore) -> None:
        flush: Callable[[], object] = store.client.script_flush
        flush()
        key = a_key()
        store.insert(key, a_record())
        flush()
        assert store.update(key, Changes(set={"a": b"2"}), if_version=1) is UPDATED
        flush()
        assert store.delete(key) is True
        flush()
        assert store.insert(key, a_record()) is True
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
        ):
            with pytest.raises(StoreError) as caught:
                write()
            assert caught.value.operation == name

        assert store.load(key) == before
        assert list(store.keys()) == [key]
        assert store.update(key, Changes({"b": b"2"}, frozenset({"a"}))) is UPDATED  # it shrinks
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
                lambda: store.delete(key),
            ):
                with pytest.raises(StoreError):
                    write()
            assert store.update(key, Changes(), if_epoch=0) is UPDATED


class TestWaitingForReplicas:
    @pytest.fixture
    def pair(self, redis_binary: str) -> Iterator[tuple[servers.Server, servers.Server]]:
        with servers.replicated(redis_binary) as (primary, (replica,)):
            yield primary, replica

    def test_an_end_counts_only_with_the_replicas(
        self, pair: tuple[servers.Server, servers.Server]
    ) -> None:
        primary, replica = pair
        store = RedisStore.from_url(primary.url, wait_replicas=(1, 30_000))
        key = a_key()
        store.insert(key, a_record())
        copy = RedisStore.from_url(replica.url)

        assert store.update(key, Changes(epoch=1)) is UPDATED
        assert copy.update(key, Changes(), if_epoch=1) is UPDATED
        assert store.delete(key) is True
        assert copy.load(key) is None

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


def glob(prefix: str) -> str:
    return "".join(f"\\{char}" if char in "[]*?\\" else char for char in prefix) + "*"
