"""A stand-in for a client of redis-py: gives the answers that it was told, and notes what was sent."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any


class Connection:
    """Answers what it is told to; exceptions among the answers are raised."""

    def __init__(self, answers: Sequence[Any]) -> None:
        self.answers = list(answers)
        self.sent: list[Any] = []
        self.disconnected = 0

    def send_command(self, *command: Any) -> None:
        self.sent.append(command)

    def pack_commands(self, commands: Sequence[Any]) -> list[Any]:
        return [*commands]

    def send_packed_command(self, packed: list[Any]) -> None:
        self.sent += packed

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
        return self.connection

    def release(self, connection: Connection) -> None:
        assert connection is self.connection
        self.lent -= 1


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
