"""Stand-ins for clients of redis-py: they answer as they were told, and note what was sent."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from typing import Any


class Connection:
    """Answers what it is told to; exceptions among the answers are raised."""

    def __init__(self, answers: Sequence[Any]) -> None:
        self.answers = list(answers)
        self.sent: list[Any] = []
        self.disconnected = 0
        self.lent = False

    def send_packed_command(self, packed: list[bytes]) -> None:
        assert self.lent, "it belongs to the pool"
        self.sent += commands_in(b"".join(packed))

    def read_response(self, *, disable_decoding: bool) -> Any:
        assert disable_decoding is True
        answer = self.answers.pop(0)
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def disconnect(self) -> None:
        self.disconnected += 1


class Pool:
    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.lent = 0

    def get_connection(self) -> Connection:
        self.lent += 1
        self.connection.lent = True
        return self.connection

    def release(self, connection: Connection) -> None:
        assert connection is self.connection
        self.lent -= 1
        connection.lent = False


class OldPool(Pool):
    """As in redis-py before 5.3: wants a command's name, and makes nothing of it."""

    def get_connection(self, command_name: str, *keys: Any) -> Connection:  # type: ignore[override] # that is the point
        assert isinstance(command_name, str)
        return super().get_connection()


class Client:
    __module__ = "redis.some.where"

    def __init__(self, *answers: Any, pool: Callable[[Connection], Pool] = Pool) -> None:
        self.connection = Connection(answers)
        self.connection_pool = pool(self.connection)


class ClusterClient:
    """A Cluster's client: two nodes, and a note of what it was asked."""

    __module__ = "redis.some.where"

    def __init__(self, *answers: Any) -> None:
        self.nodes = {"a": Client(*answers), "b": Client(*answers)}
        self.asked: list[Any] = []

    def get_node_from_key(self, name: bytes) -> str:
        assert isinstance(name, bytes)
        return "a" if name == b"one" else "b"

    def execute_command(self, *command: Any, target_nodes: str, NEVER_DECODE: bool) -> Any:
        assert NEVER_DECODE is True
        self.asked.append((target_nodes, command))
        return f"from {target_nodes}"

    def get_primaries(self) -> list[str]:
        return list(self.nodes)

    def get_redis_connection(self, node: str) -> Client:
        return self.nodes[node]


def commands_in(data: bytes) -> Iterator[tuple[bytes, ...]]:
    """The commands in what is sent to a server, in the format that Redis specifies (RESP)."""
    stream = io.BytesIO(data)
    while head := stream.readline():
        assert head[:1] == b"*"
        yield tuple(_part(stream) for _ in range(int(head[1:])))


def _part(stream: io.BytesIO) -> bytes:
    head = stream.readline()
    assert head[:1] == b"$"
    part = stream.read(int(head[1:]))
    assert stream.read(2) == b"\r\n"
    return part
