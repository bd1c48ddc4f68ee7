"""RedisStore on a real Cluster of six nodes, and behind real Sentinels, while primaries die."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
import redis.sentinel
import valkey
import valkey.sentinel

import servers
from effort import ROUNDS
from records import NOW, a_key, a_record
from waiting import LONG
from wsgi_sessions import StoreError
from wsgi_sessions.record import Changes, Record, UpdateResult
from wsgi_sessions.stores import RedisStore
from wsgi_sessions.testing import StoreClientContract, StoreContract

UPDATED = UpdateResult.UPDATED
PATIENT: dict[str, Any] = {"socket_timeout": LONG, "socket_connect_timeout": LONG}
HASTY: dict[str, Any] = {"socket_timeout": 0.5, "socket_connect_timeout": 0.5}
A_REPLICA = 1, 30_000
"""To wait for: one, for so many milliseconds."""
Nodes = list[servers.Server]

pytestmark = pytest.mark.programs

# Each library with one of the servers, and each server with one of the libraries, because it takes
# time to start many; test_redis.py has all pairs.
BINARIES: list[str | None] = [*sorted(servers.binaries())] or [None]
REDIS_PY = pytest.mark.parametrize("redis_binary", BINARIES[-1:], indirect=True)
VALKEY_PY = pytest.mark.parametrize("redis_binary", BINARIES[:1], indirect=True)


@pytest.fixture(scope="module")
def nodes(redis_binary: str) -> Iterator[Nodes]:
    with servers.cluster(redis_binary) as nodes:
        yield nodes


@pytest.fixture
def own_nodes(redis_binary: str) -> Iterator[Nodes]:
    with servers.cluster(redis_binary) as nodes:
        yield nodes


def redis_cluster(node: servers.Server, **options: Any) -> Any:
    return redis.RedisCluster(host="127.0.0.1", port=node.port, **{**PATIENT, **options})


def valkey_cluster(node: servers.Server, **options: Any) -> Any:
    return valkey.ValkeyCluster(host="127.0.0.1", port=node.port, **{**PATIENT, **options})


class OnACluster:
    @pytest.fixture(autouse=True)
    def _cluster(self, nodes: Nodes) -> None:
        self.nodes = nodes
        self.prefix = f"test {secrets.token_hex(8)}:"

    def make_store(self) -> RedisStore:
        return RedisStore(redis_cluster(self.nodes[0]), prefix=self.prefix)

    @pytest.fixture
    def store(self) -> RedisStore:
        return self.make_store()


@REDIS_PY
class TestWithRedisPy(OnACluster, StoreContract):
    rounds = ROUNDS


@VALKEY_PY
class TestWithValkeyPy(OnACluster, StoreClientContract):
    def make_store(self) -> RedisStore:
        client = valkey_cluster(self.nodes[0], decode_responses=True)
        return RedisStore(client, prefix=self.prefix)


@REDIS_PY
class TestOnACluster(OnACluster):
    def test_what_concerns_all_reaches_every_primary(self, store: RedisStore) -> None:
        keys = {a_key() for _ in range(60)}
        for key in keys:
            store.insert(key, a_record())
        homes = {store.client.get_node_from_key(store.prefix + key).name for key in keys}

        assert len(homes) == 3
        assert set(store.keys()) == keys
        assert store.purge_expired(NOW + 1000) == 60
        store.insert(next(iter(keys)), a_record())
        store.clear()
        assert list(store.keys()) == []

    def test_a_read_never_comes_from_a_replica(self) -> None:
        balanced = redis.cluster.LoadBalancingStrategy.ROUND_ROBIN
        client = redis_cluster(self.nodes[0], load_balancing_strategy=balanced)
        store = RedisStore(client, prefix=self.prefix)

        for _ in range(50):
            key = a_key()
            store.insert(key, a_record())
            assert store.load(key) is not None
        for replica in self.nodes[3:]:
            with replica.client() as looking:
                assert "cmdstat_hgetall" not in looking.info("commandstats")

    def test_an_end_waits_for_the_replicas(self) -> None:
        client = redis_cluster(self.nodes[0])
        store = RedisStore(client, prefix=self.prefix, wait_replicas=A_REPLICA)
        unsatisfied = RedisStore(client, prefix=self.prefix, wait_replicas=(2, 20))
        key = a_key()
        store.insert(key, a_record())

        assert store.update(key, Changes(epoch=1)) is UPDATED
        with pytest.raises(StoreError, match="[01] of 2 replicas"):
            unsatisfied.delete(key)
        assert store.load(key) is None


@pytest.mark.parametrize(
    ("redis_binary", "make_client"),
    [(BINARIES[-1], redis_cluster), (BINARIES[0], valkey_cluster)],
    indirect=["redis_binary"],
    ids=["redis-py", "valkey-py"],
)
class TestTroubleOnACluster:
    @pytest.fixture
    def store(self, make_client: Callable[..., Any], own_nodes: Nodes) -> RedisStore:
        return RedisStore(make_client(own_nodes[0]), prefix="test:")

    def test_a_script_whose_answer_is_late_runs_once(
        self, store: RedisStore, own_nodes: Nodes, make_client: Callable[..., Any]
    ) -> None:
        key = a_key()
        store.insert(key, a_record())
        store.update(key, Changes(set={"a": b"2"}))
        hasty = servers.until(
            lambda: RedisStore(make_client(own_nodes[0], **HASTY), prefix="test:"), what="client"
        )
        servers.until(lambda: load(hasty, key), what="connection")
        home = home_of(store, key, own_nodes)
        home.freeze()

        with pytest.raises(StoreError):
            hasty.update(key, Changes(set={"a": b"3"}), if_version=2)

        home.thaw()
        loaded = servers.until(lambda: changed_since(store, key, 2), what="change")
        assert (loaded.version, loaded.fields["a"]) == (3, b"3")

    def test_a_primary_that_hands_over_is_followed(
        self, store: RedisStore, own_nodes: Nodes
    ) -> None:
        waiting = RedisStore(store.client, prefix="test:", wait_replicas=A_REPLICA)
        keys = [a_key() for _ in range(30)]
        for key in keys:
            store.insert(key, a_record())
        replica = own_nodes[3]
        with replica.client() as client:
            servers.until(
                lambda: client.execute_command("CLUSTER", "FAILOVER"), what="handing over"
            )
            servers.until(lambda: client.role()[0] == b"master", what="new primary")

        results = servers.until(
            lambda: tried(lambda: [waiting.delete(key) for key in keys[:15]]), what="deletion"
        )
        updates = [store.update(key, Changes(set={"a": b"2"})) for key in keys[15:]]

        assert len(results) == 15
        assert updates == [UPDATED] * 15
        assert [store.load(key) is None for key in keys] == [True] * 15 + [False] * 15

    def test_sessions_live_on_while_their_slot_moves_to_another_server(
        self, store: RedisStore, own_nodes: Nodes
    ) -> None:
        """The client is sent on to the other server (ASK, then MOVED), and nobody notices."""
        moving = RedisStore(store.client, prefix="{moving}:")  # all in one slot
        keys = [a_key() for _ in range(20)]
        for key in keys:
            moving.insert(key, a_record())
        source = home_of(moving, keys[0], own_nodes)
        target = next(node for node in own_nodes[:3] if node is not source)
        versions: list[set[int]] = []

        def use_all() -> None:
            assert [moving.update(key, Changes(set={"a": b"2"})) for key in keys] == [UPDATED] * 20
            records = [moving.load(key) for key in keys]
            versions.append({record.version for record in records if record is not None})
            assert None not in records

        with source.client() as here, target.client() as there:
            slot = here.execute_command("CLUSTER", "KEYSLOT", "{moving}:")
            ids = {node: node.execute_command("CLUSTER", "MYID").decode() for node in (here, there)}
            there.execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", ids[here])
            here.execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", ids[there])
            use_all()
            for number, key in enumerate(keys):
                here.execute_command(
                    "MIGRATE", "127.0.0.1", target.port, "{moving}:" + key, 0, 5000
                )
                if number == len(keys) // 2:
                    use_all()
            for node in (there, here):
                node.execute_command("CLUSTER", "SETSLOT", slot, "NODE", ids[there])
        use_all()
        new = a_key()

        assert versions == [{2}, {3}, {4}]
        assert moving.insert(new, a_record()) is True
        assert home_of(moving, new, own_nodes) is target

    def test_what_is_acknowledged_after_a_failover_is_there(
        self, store: RedisStore, own_nodes: Nodes
    ) -> None:
        """A primary is killed under load. Errors are StoreErrors, and come to an end."""
        on_the_dead = next(
            key
            for key in iter(a_key, "")
            if home_of(store, key, own_nodes) is own_nodes[0]
        )  # fmt: skip

        def kill_and_recover() -> None:
            with servers.nervous(own_nodes):
                own_nodes[0].kill()
                servers.until(
                    lambda: tried(lambda: [store.insert(on_the_dead, a_record())]), what="failover"
                )

        assert_survives(store, kill_and_recover)


@pytest.mark.parametrize(
    ("redis_binary", "library"),
    [(BINARIES[-1], redis.sentinel), (BINARIES[0], valkey.sentinel)],
    indirect=["redis_binary"],
    ids=["redis-py", "valkey-py"],
)
class TestSentinel:
    @pytest.fixture
    def watched(self, redis_binary: str, library: Any) -> Iterator[tuple[RedisStore, Nodes]]:
        with servers.sentinel(redis_binary, "main") as (nodes, sentinels):
            addresses = [each.address for each in sentinels]
            asking = library.Sentinel(addresses, sentinel_kwargs=PATIENT, **PATIENT)
            yield RedisStore(asking.master_for("main"), prefix="test:"), nodes

    def test_what_is_acknowledged_after_a_failover_is_there(
        self, watched: tuple[RedisStore, Nodes]
    ) -> None:
        store, (primary, replica) = watched

        def kill_and_recover() -> None:
            primary.kill()
            servers.until(
                lambda: tried(lambda: [store.insert(a_key(), a_record())]), what="failover"
            )

        assert_survives(store, kill_and_recover)
        with replica.client() as client:
            assert client.role()[0] == b"master"


def assert_survives(store: RedisStore, kill_and_recover: Callable[[], None]) -> None:
    """Three threads write all the while; what was acknowledged after the recovery must be there."""
    recovered, enough = threading.Event(), threading.Event()
    before: list[str] = []
    after: list[str] = []
    crashes: list[BaseException] = []

    def write() -> None:
        while not enough.is_set() and not crashes:
            key, noted = a_key(), after if recovered.is_set() else before
            try:
                store.insert(key, a_record())
                if store.update(key, Changes(set={"a": b"2"}), if_version=1) is UPDATED:
                    noted.append(key)
            except StoreError:
                continue
            except BaseException as error:  # a crash is what this looks for
                crashes.append(error)
            if len(after) >= 300:
                enough.set()

    threads = [threading.Thread(target=write) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        servers.until(lambda: len(before) > 50, what="load")
        kill_and_recover()
        recovered.set()
        finished = enough.wait(timeout=60)
    finally:
        enough.set()
        for thread in threads:
            thread.join()

    assert crashes == []
    assert finished
    found = [store.load(key) for key in after]
    assert [record.version for record in found if record is not None] == [2] * len(after)


def home_of(store: RedisStore, key: str, nodes: Nodes) -> servers.Server:
    port = store.client.get_node_from_key(store.prefix + key).port
    return next(node for node in nodes if node.port == port)


def tried(work: Callable[[], Any]) -> Any:
    """What it gives, or None while the store can't."""
    try:
        return work()
    except StoreError:
        return None


def changed_since(store: RedisStore, key: str, version: int) -> Record | None:
    record = store.load(key)
    assert record is not None
    return record if record.version > version else None


def load(store: RedisStore, key: str) -> Record | None:
    record: Record | None = tried(lambda: store.load(key))
    return record
