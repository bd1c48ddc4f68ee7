"""How RedisStore's commands get to a server: over any client that looks like one, of either library.

Here without a server: what a client is asked for, and what is done with its answers. Real servers
and Clusters are in test_redis.py and test_redis_cluster.py.
"""

from __future__ import annotations

from typing import Any

import pytest
import redis

from stand_in import Client, ClusterClient, Connection, OldPool, Pool, commands_in
from wsgi_sessions.stores.redis import connection

MOVED = redis.exceptions.MovedError("1 127.0.0.1:7001")
GET = (b"GET", b"name")
SET = (b"SET", b"one", b"1")
LOST = [redis.ConnectionError(), redis.TimeoutError(), OSError(), TimeoutError()]


class ValkeyClusterClient(ClusterClient):
    __module__ = "valkey.some.where"
    get_redis_connection = property()  # it has none: reading it is an AttributeError

    def get_valkey_connection(self, node: str) -> Client:
        return self.nodes[node]


def server(client: Client) -> connection.Server:
    return connection.Server(client)


@pytest.mark.parametrize(
    "command",
    [(b"PING",), (b"GET", b"name"), (b"SET", b"", b"\r\n\xff$1\r\n"), (b"X", *[b"y" * 9] * 2000)],
    ids=["one part", "two", "any bytes", "many"],
)
def test_a_command_is_packed_as_the_client_would(command: tuple[bytes, ...]) -> None:
    """RESP: an array of bulk strings, each with its length in front."""
    reference: Any = redis.Redis().connection_pool.make_connection()

    packed = connection.packed(command)

    assert packed == b"".join(reference.pack_command(*command))
    assert list(commands_in(packed)) == [command]


class TestServer:
    @pytest.mark.parametrize("pool", [Pool, OldPool])
    def test_a_command_goes_over_a_connection_of_the_pool(self, pool: Any) -> None:
        client = Client(b"yes", pool=pool)

        assert server(client).ask(b"name", GET) == b"yes"
        assert client.connection.sent == [GET]
        assert (client.connection_pool.lent, client.connection.disconnected) == (0, 0)

    @pytest.mark.parametrize("again", [False, True])
    def test_a_refusal_leaves_the_connection_as_it_is(self, again: bool) -> None:
        client = Client(redis.ResponseError("WRONGTYPE"))

        with pytest.raises(redis.ResponseError):
            server(client).ask(b"name", GET, again=again)
        assert client.connection.sent == [GET]
        assert (client.connection_pool.lent, client.connection.disconnected) == (0, 0)

    @pytest.mark.parametrize("error", [*LOST, ValueError(), KeyboardInterrupt()], ids=repr)
    def test_after_any_other_trouble_the_connection_is_not_used_again(
        self, error: BaseException
    ) -> None:
        for several in (False, True):
            client = Client(error)
            with pytest.raises(type(error)):
                if several:
                    server(client).ask_all([GET])
                else:
                    server(client).ask(b"name", GET)
            assert (client.connection_pool.lent, client.connection.disconnected) == (0, 1)

    @pytest.mark.parametrize("lost", LOST, ids=repr)
    def test_r3_what_may_be_asked_again_is_asked_on_a_new_connection(self, lost: Exception) -> None:
        client = Client(lost, b"yes")

        assert server(client).ask(b"name", GET, again=True) == b"yes"
        assert client.connection.sent == [GET, GET]
        assert (client.connection_pool.lent, client.connection.disconnected) == (0, 1)

    @pytest.mark.parametrize("second", [*LOST, redis.ResponseError("no")], ids=repr)
    def test_r3_it_is_asked_again_only_once(self, second: Exception) -> None:
        client = Client(LOST[0], second)

        with pytest.raises(type(second)) as caught:
            server(client).ask(b"name", GET, again=True)
        assert caught.value is second
        assert client.connection.answers == []

    @pytest.mark.parametrize("error", [ValueError(), redis.InvalidResponse(), KeyError()], ids=repr)
    def test_a_fault_of_the_client_is_not_tried_again(self, error: Exception) -> None:
        client = Client(error)

        with pytest.raises(type(error)):
            server(client).ask(b"name", GET, again=True)
        assert client.connection.sent == [GET]

    def test_a_connection_that_cannot_be_made_is_left_to_the_clients_retries(self) -> None:
        class NoConnection(Pool):
            asked = 0

            def get_connection(self) -> Connection:
                NoConnection.asked += 1
                raise redis.ConnectionError

        with pytest.raises(redis.ConnectionError):
            server(Client(pool=NoConnection)).ask(b"name", GET, again=True)
        assert NoConnection.asked == 1

    def test_a_primary_that_became_a_replica_is_left(self) -> None:
        client = Client(redis.exceptions.ReadOnlyError())
        with pytest.raises(redis.exceptions.ReadOnlyError):
            server(client).ask(b"name", SET)
        assert client.connection.disconnected == 1

        client = Client(redis.exceptions.ReadOnlyError(), b"2")
        answers = server(client).ask_all([SET, GET])
        assert isinstance(answers[0], redis.exceptions.ReadOnlyError)
        assert answers[1:] == [b"2"]
        assert client.connection.disconnected == 1

    def test_several_commands_are_sent_before_any_answer_is_read(self) -> None:
        refused = redis.ResponseError("no")
        client = Client(b"1", refused, b"3")

        assert server(client).ask_all([(b"A",), (b"B",), (b"C",)]) == [b"1", refused, b"3"]
        assert client.connection.sent == [(b"A",), (b"B",), (b"C",)]
        assert (client.connection_pool.lent, client.connection.disconnected) == (0, 0)

    def test_waiting_for_replicas_is_part_of_the_same_round_trip(self) -> None:
        client = Client(b"done", 2)

        assert server(client).ask_and_wait(b"name", SET, (2, 50)) == [b"done", 2]
        assert client.connection.sent == [SET, (b"WAIT", b"2", b"50")]

    @pytest.mark.parametrize("position", [0, 1])
    def test_what_is_refused_while_waiting_is_an_error(self, position: int) -> None:
        answers: list[Any] = [b"done", 2]
        answers[position] = redis.ResponseError("no")

        with pytest.raises(redis.ResponseError):
            server(Client(*answers)).ask_and_wait(b"name", SET, (2, 50))

    def test_it_is_its_own_only_server(self) -> None:
        only = server(Client())

        assert only.servers() == [only]


@pytest.mark.parametrize("kind", [ClusterClient, ValkeyClusterClient])
class TestCluster:
    def test_a_command_goes_to_the_node_of_its_key(self, kind: type[ClusterClient]) -> None:
        client = kind()
        cluster = connection.Cluster(client)

        assert cluster.ask(b"one", (b"GET", b"one")) == "from a"
        assert cluster.ask(b"two", (b"GET", b"two")) == "from b"
        # The client tells commands by their names, which it expects as text.
        assert client.asked == [("a", ("GET", b"one")), ("b", ("GET", b"two"))]

    def test_waiting_asks_the_node_itself(self, kind: type[ClusterClient]) -> None:
        client = kind(b"done", 1)

        assert connection.Cluster(client).ask_and_wait(b"two", SET, (1, 50)) == [b"done", 1]
        assert client.nodes["b"].connection.sent == [SET, (b"WAIT", b"1", b"50")]
        assert client.nodes["a"].connection.sent == []
        assert client.asked == []

    def test_each_primary_is_a_server(self, kind: type[ClusterClient]) -> None:
        client = kind(b"pong")

        answers = [each.ask(b"", (b"PING",)) for each in connection.Cluster(client).servers()]
        assert answers == [b"pong", b"pong"]
        assert [node.connection.sent for node in client.nodes.values()] == [[(b"PING",)]] * 2


class TestTroubleOnACluster:
    class Failing(ClusterClient):
        def __init__(self, *errors: Exception) -> None:
            super().__init__()
            self.errors = list(errors)

        def execute_command(self, *command: Any, **options: Any) -> Any:
            answer = super().execute_command(*command, **options)
            if self.errors:
                raise self.errors.pop(0)
            return answer

    @pytest.mark.parametrize("lost", LOST, ids=repr)
    def test_r3_what_may_be_asked_again_is_asked_once_more(self, lost: Exception) -> None:
        client = self.Failing(lost)

        assert connection.Cluster(client).ask(b"one", GET, again=True) == "from a"
        assert len(client.asked) == 2

        client = self.Failing(lost, lost)
        with pytest.raises(type(lost)):
            connection.Cluster(client).ask(b"one", GET, again=True)
        assert len(client.asked) == 2

    @pytest.mark.parametrize("again", [False, True])
    def test_nothing_else_is(self, again: bool) -> None:
        client = self.Failing(redis.ResponseError() if again else LOST[0])

        with pytest.raises(redis.RedisError):
            connection.Cluster(client).ask(b"one", SET, again=again)
        assert len(client.asked) == 1

    def test_a_key_that_moved_is_asked_for_once_and_then_written(self) -> None:
        client = ClusterClient(MOVED, 1, b"done", 1)

        written = connection.Cluster(client).ask_and_wait(b"one", SET, (1, 50))

        assert written == [b"done", 1]
        # A command that follows the redirection, so that the client learns where the key is.
        assert client.asked == [("a", ("EXISTS", b"one"))]
        assert client.nodes["a"].connection.sent == [SET, (b"WAIT", b"1", b"50")] * 2

    def test_any_other_refusal_is_final(self) -> None:
        client = ClusterClient(redis.ResponseError("no"), 1, b"done", 1)

        with pytest.raises(redis.ResponseError, match="no"):
            connection.Cluster(client).ask_and_wait(b"one", SET, (1, 50))
        assert client.asked == []
