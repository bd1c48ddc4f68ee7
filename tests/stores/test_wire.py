"""How RedisStore talks to a client: any that looks like one, of either library, or one from a URL.

Here without a server: what a client is asked for, and what is done with its answers. Real servers
and Clusters are in test_redis.py and test_redis_cluster.py.
"""

from __future__ import annotations

import sys
import types
from typing import Any

import pytest
import redis
import redis.cluster
import valkey

from stand_in import Client, ClusterClient, OldPool, Pool
from wsgi_sessions.errors import ConfigurationError
from wsgi_sessions.stores import RedisStore, wire

MOVED = redis.exceptions.MovedError("1 127.0.0.1:7001")


class ValkeyClusterClient(ClusterClient):
    __module__ = "valkey.some.where"
    get_redis_connection = property()  # it has none: reading it is an AttributeError

    def get_valkey_connection(self, node: str) -> Client:
        return self.nodes[node]


def server(client: Client) -> wire.Server:
    return wire.Server(client, wire.errors_of(client))


class TestServer:
    @pytest.mark.parametrize("pool", [Pool, OldPool])
    def test_a_command_goes_over_a_connection_of_the_pool(self, pool: Any) -> None:
        client = Client(b"yes", pool=pool)

        assert server(client).one(b"name", ("GET", b"name")) == b"yes"
        assert client.connection.sent == [("GET", b"name")]
        assert (client.connection_pool.lent, client.connection.disconnected) == (0, 0)

    def test_a_refusal_leaves_the_connection_as_it_is(self) -> None:
        client = Client(redis.ResponseError("WRONGTYPE"))

        with pytest.raises(redis.ResponseError):
            server(client).one(b"name", ("GET", b"name"))
        assert (client.connection_pool.lent, client.connection.disconnected) == (0, 0)

    @pytest.mark.parametrize(
        "error", [redis.ConnectionError(), TimeoutError(), KeyboardInterrupt()], ids=repr
    )
    def test_after_any_other_trouble_the_connection_is_not_used_again(
        self, error: BaseException
    ) -> None:
        for several in (False, True):
            client = Client(error)
            with pytest.raises(type(error)):
                if several:
                    server(client).many([("GET", b"name")])
                else:
                    server(client).one(b"name", ("GET", b"name"))
            assert (client.connection_pool.lent, client.connection.disconnected) == (0, 1)

    def test_a_primary_that_became_a_replica_is_left(self) -> None:
        client = Client(redis.exceptions.ReadOnlyError())
        with pytest.raises(redis.exceptions.ReadOnlyError):
            server(client).one(b"name", ("SET",))
        assert client.connection.disconnected == 1

        client = Client(redis.exceptions.ReadOnlyError(), b"2")
        answers = server(client).many([("SET",), ("GET",)])
        assert isinstance(answers[0], redis.exceptions.ReadOnlyError)
        assert answers[1:] == [b"2"]
        assert client.connection.disconnected == 1

    def test_several_commands_are_sent_before_any_answer_is_read(self) -> None:
        refused = redis.ResponseError("no")
        client = Client(b"1", refused, b"3")

        assert server(client).many([("A",), ("B",), ("C",)]) == [b"1", refused, b"3"]
        assert client.connection.sent == [("A",), ("B",), ("C",)]
        assert (client.connection_pool.lent, client.connection.disconnected) == (0, 0)

    def test_waiting_for_replicas_is_part_of_the_same_round_trip(self) -> None:
        client = Client(b"done", 2)

        assert server(client).one_and_wait(b"name", ("SET",), (2, 50)) == [b"done", 2]
        assert client.connection.sent == [("SET",), ("WAIT", 2, 50)]

    @pytest.mark.parametrize("position", [0, 1])
    def test_what_is_refused_while_waiting_is_an_error(self, position: int) -> None:
        answers: list[Any] = [b"done", 2]
        answers[position] = redis.ResponseError("no")

        with pytest.raises(redis.ResponseError):
            server(Client(*answers)).one_and_wait(b"name", ("SET",), (2, 50))

    def test_it_is_its_own_only_server(self) -> None:
        only = server(Client())

        assert only.servers() == [only]


@pytest.mark.parametrize("kind", [ClusterClient, ValkeyClusterClient])
class TestCluster:
    def cluster(self, client: ClusterClient) -> wire.Cluster:
        return wire.Cluster(client, wire.errors_of(client))

    def test_it_is_told_by_how_it_looks(self, kind: type[ClusterClient]) -> None:
        assert wire.is_cluster(kind())
        assert not wire.is_cluster(Client())

    def test_a_command_goes_to_the_node_of_its_key(self, kind: type[ClusterClient]) -> None:
        client = kind()

        assert self.cluster(client).one(b"one", ("GET", b"one")) == "from a"
        assert self.cluster(client).one(b"two", ("GET", b"two")) == "from b"
        assert client.asked == [("a", ("GET", b"one")), ("b", ("GET", b"two"))]

    def test_waiting_asks_the_node_itself(self, kind: type[ClusterClient]) -> None:
        client = kind(b"done", 1)

        assert self.cluster(client).one_and_wait(b"two", ("SET",), (1, 50)) == [b"done", 1]
        assert client.nodes["b"].connection.sent == [("SET",), ("WAIT", 1, 50)]
        assert client.nodes["a"].connection.sent == []
        assert client.asked == []

    def test_each_primary_is_a_server(self, kind: type[ClusterClient]) -> None:
        client = kind(b"pong")

        assert [each.one(b"", ("PING",)) for each in self.cluster(client).servers()] == [
            b"pong",
            b"pong",
        ]
        assert [node.connection.sent for node in client.nodes.values()] == [[("PING",)]] * 2


class TestMoved:
    def test_a_key_that_moved_is_asked_for_once_and_then_written(self) -> None:
        client = ClusterClient(MOVED, 1, b"done", 1)

        written = wire.Cluster(client, wire.errors_of(client)).one_and_wait(
            b"one", ("SET", b"one"), (1, 50)
        )

        assert written == [b"done", 1]
        # A command that follows the redirection, so that the client learns where the key is.
        assert client.asked == [("a", ("EXISTS", b"one"))]
        assert client.nodes["a"].connection.sent == [("SET", b"one"), ("WAIT", 1, 50)] * 2

    def test_any_other_refusal_is_final(self) -> None:
        client = ClusterClient(redis.ResponseError("no"), 1, b"done", 1)

        with pytest.raises(redis.ResponseError, match="no"):
            wire.Cluster(client, wire.errors_of(client)).one_and_wait(b"one", ("SET",), (1, 50))
        assert client.asked == []


class TestErrors:
    def test_they_are_those_of_the_clients_library(self) -> None:
        for client, library in ((redis.Redis(), redis), (valkey.Valkey(), valkey)):
            errors = wire.errors_of(client)
            found = library.exceptions
            assert errors.refused is found.ResponseError
            assert errors.lost is found.ConnectionError
            assert {found.WatchError, found.TimeoutError, OSError} <= set(errors.every)
            assert errors.plain == (
                *(found.ResponseError, found.ConnectionError, found.TimeoutError),
                OSError,
            )

    def test_a_library_on_top_of_another_may_have_exceptions_of_its_own(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "mine.exceptions", types.ModuleType("mine.exceptions"))

        class Mine(Client):
            __module__ = "mine.client"

        assert wire.errors_of(Mine()).refused is redis.ResponseError

    @pytest.mark.parametrize("client", [redis.Redis().connection_pool, redis.SSLConnection, 5])
    def test_what_is_no_client_is_named(self, client: Any) -> None:
        name = type(client).__name__
        with pytest.raises(ConfigurationError, match=rf"client is of type {name}; give a client"):
            wire.errors_of(client)


class TestFromURL:
    @pytest.mark.parametrize(
        "url", ["http://localhost", "REDIS://localhost", "localhost", "", None, 5, b"redis://x"]
    )
    def test_what_is_no_url_of_a_server_is_answered_with_what_can_be_written(
        self, url: Any
    ) -> None:
        with pytest.raises(ConfigurationError, match=r"begins with redis://, .* redis://host:port"):
            wire.client_from_url(url, {})

    @pytest.mark.parametrize("url", ["redis://localhost?client_name=a://b", "unix:///path?db=1"])
    def test_what_can_be_written(self, url: str) -> None:
        assert isinstance(wire.client_from_url(url, {}), redis.Redis)

    def test_options_that_are_refused_are_named(self) -> None:
        with pytest.raises(ConfigurationError) as caught:
            wire.client_from_url("redis://localhost", {"b": 1, "a": 2})
        assert (
            "redis can't make a client of this URL with the options a, b (TypeError); write"
            " redis://" in str(caught.value)
        )

        with pytest.raises(ConfigurationError) as caught:
            wire.client_from_url("redis://localhost:port", {})
        assert "of this URL (ValueError); write" in str(caught.value)

    def test_valkey_is_taken_where_redis_is_missing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "redis", None)

        store = RedisStore.from_url("rediss://localhost")

        assert type(store.client) is valkey.Valkey
        assert store.client.connection_pool.connection_kwargs["ssl_check_hostname"] is True
        plain = wire.client_from_url("redis://localhost", {}).connection_pool.connection_kwargs
        assert "ssl_check_hostname" not in plain
        assert plain["protocol"] == 2

    def test_without_a_library_it_says_what_to_install(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "redis", None)
        monkeypatch.setitem(sys.modules, "valkey", None)

        with pytest.raises(
            ConfigurationError, match=r"'wsgi-sessions\[redis\]' or pip .*\[valkey\]"
        ):
            wire.client_from_url("redis://localhost", {})
