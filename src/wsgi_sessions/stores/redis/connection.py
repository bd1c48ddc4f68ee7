"""Commands over the connections of a client: to one server, also behind Sentinels, or to a Cluster.

Works with what redis-py and valkey-py have in common. Commands go over connections of the client's
own pool, not through the client's retries: a script whose answer is lost may have been applied, and
running it again would make a compare-and-set fail that has succeeded, so that a transaction would
run twice. Only what changes nothing is sent ``again``, and only once.

A client whose `execute_command` isn't the library's own (a subclass's, a tracer's, a test's) is
asked through it, so that whatever counts, traces or fails commands there sees each.

Raises whatever the client raises; ``failures`` finds out what it was.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from functools import partial
from types import FunctionType, MethodType
from typing import Any

from .failures import has_name, is_lost, is_refusal

Command = Sequence[bytes]


class Server:
    """One server, over connections of the client's pool."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._purpose = _purpose(client.connection_pool)
        self._librarys_own = _librarys_own(client)

    @property
    def caches(self) -> bool:
        """Whether the client answers from a cache of its own."""
        return getattr(self._client.connection_pool, "cache", None) is not None

    def ask(
        self, name: bytes, command: Command, *, again: bool = False, plainly: bool = False
    ) -> Any:
        """The answer to one command, which may be sent ``again`` if its answer is lost.

        With ``plainly`` it is what the server says, whatever the client makes of such answers.
        """
        del name  # there is only one server
        execute = None if plainly else self._overridden()
        if execute is not None:
            return _tried(partial(_executed, execute, command, once=not again), again=again)
        pool, data = self._client.connection_pool, [packed(command)]
        connection = pool.get_connection(*self._purpose)
        try:
            try:
                return _exchange(connection, data)
            except Exception as error:
                if not (again and is_lost(error)):
                    raise
            # The connection may have been cut while it was idle. It is closed now, so the same
            # object connects anew, while the pool might give another old one.
            return _exchange(connection, data)
        finally:
            pool.release(connection)

    def ask_all(self, commands: Sequence[Command]) -> list[Any]:
        """The answers to several commands that are sent as one; a refusal is among them."""
        execute = self._overridden()
        if execute is not None:
            return [_executed_or_refusal(execute, command) for command in commands]
        return self._ask_on_one_connection(commands)

    def _ask_on_one_connection(self, commands: Sequence[Command]) -> list[Any]:
        pool = self._client.connection_pool
        connection = pool.get_connection(*self._purpose)
        try:
            connection.send_packed_command([b"".join(map(packed, commands))])
            answers = [_answer_or_refusal(connection) for _ in commands]
        except BaseException:
            connection.disconnect()
            raise
        else:
            if any(map(_is_from_replica, answers)):
                connection.disconnect()
            return answers
        finally:
            pool.release(connection)

    def ask_and_wait(self, name: bytes, command: Command, wait: tuple[int, int]) -> Sequence[Any]:
        """The answer, and how many replicas have it; both in one round trip.

        Never through an `execute_command`: WAIT counts for the connection that it comes over.
        """
        del name
        answers = self._ask_on_one_connection(
            (command, (b"WAIT", b"%d" % wait[0], b"%d" % wait[1]))
        )
        for answer in answers:
            if isinstance(answer, Exception):
                raise answer
        return answers

    def servers(self) -> list[Server]:
        """Only itself."""
        return [self]

    def _overridden(self) -> Callable[..., Any] | None:
        """The client's `execute_command`, unless it is the library's own or there is none.

        Looked up at each call, as a tracer or a test may replace it at any time.
        """
        method = getattr(self._client, "execute_command", None)
        if type(method) is MethodType and method.__func__ is self._librarys_own:
            return None
        return method


class Cluster:
    """The primaries of a Cluster, as its client knows them."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._client_of: Callable[[Any], Any] = (
            client.get_redis_connection
            if hasattr(client, "get_redis_connection")
            else client.get_valkey_connection
        )

    @property
    def caches(self) -> bool:
        """Whether the client answers from a cache of its own."""
        return any(server.caches for server in self.servers())

    def ask(self, name: bytes, command: Command, *, again: bool = False) -> Any:
        """The answer to one command about the key ``name``; see `Server.ask`."""
        return _tried(partial(self._ask_once, name, command), again=again)

    def ask_and_wait(self, name: bytes, command: Command, wait: tuple[int, int]) -> Sequence[Any]:
        """The answer, and how many replicas have it."""
        try:
            return self._server_of(name).ask_and_wait(name, command, wait)
        except Exception as error:
            if not has_name(error, "MovedError"):
                raise
        # Nothing was done. A command that follows the redirection lets the client learn of it.
        self._ask_once(name, (b"EXISTS", name))
        return self._server_of(name).ask_and_wait(name, command, wait)

    def servers(self) -> list[Server]:
        """The primaries."""
        return [self._server(node) for node in self._client.get_primaries()]

    def _ask_once(self, name: bytes, command: Command) -> Any:
        # With a node named, the client follows redirections and learns of failovers, but never
        # sends again what may have been done.
        node = self._client.get_node_from_key(name)
        return _executed(partial(self._client.execute_command, target_nodes=node), command)

    def _server_of(self, name: bytes) -> Server:
        return self._server(self._client.get_node_from_key(name))

    def _server(self, node: Any) -> Server:
        return Server(self._client_of(node))


def packed(command: Command) -> bytes:
    """A command as it is sent: in a fraction of the time that the clients' own encoders take."""
    parts = [b"*%d\r\n" % len(command)]
    for part in command:
        parts += b"$%d\r\n" % len(part), part, b"\r\n"
    return b"".join(parts)


def _exchange(connection: Any, data: list[bytes]) -> Any:
    try:
        connection.send_packed_command(data)
        return connection.read_response(disable_decoding=True)
    except BaseException as error:
        # An answer may still be under way, which must not be taken for the next one's.
        if not is_refusal(error) or _is_from_replica(error):
            connection.disconnect()
        raise


def _librarys_own(client: Any) -> FunctionType | None:
    """The library's function behind the client's `execute_command`; None if it isn't that."""
    # By the types and the module that a function can't borrow, as decorators' wrappers do others.
    method = getattr(client, "execute_command", None)
    function = method.__func__ if type(method) is MethodType else None
    if type(function) is not FunctionType:
        return None
    library = function.__globals__["__name__"].partition(".")[0]
    return function if library in ("redis", "valkey") else None


class AnswerLost(ConnectionError):
    """A command that may have been done would have been sent again."""


class _Once(str):
    """The name of a command that a client may send once, however often it would try.

    A client encodes it for each try; its retries for connecting are below that.
    """

    __slots__ = ("_sent",)

    def encode(self, encoding: str = "utf-8", errors: str = "strict") -> bytes:
        if hasattr(self, "_sent"):
            raise AnswerLost("a command that may have been done isn't sent again")
        self._sent = True
        return super().encode(encoding, errors)


def _executed(execute: Callable[..., Any], command: Command, *, once: bool = False) -> Any:
    verb, *arguments = command
    name = verb.decode()
    return execute(_Once(name) if once else name, *arguments, NEVER_DECODE=True)


def _tried(ask: Callable[[], Any], *, again: bool) -> Any:
    """The answer, asked for once more if it is lost and may be asked for ``again``."""
    try:
        return ask()
    except Exception as error:
        if not (again and is_lost(error)):
            raise
    return ask()


def _executed_or_refusal(execute: Callable[..., Any], command: Command) -> Any:
    try:
        return _executed(execute, command, once=True)
    except Exception as error:
        if not is_refusal(error):
            raise
        return error


def _answer_or_refusal(connection: Any) -> Any:
    try:
        return connection.read_response(disable_decoding=True)
    except Exception as error:
        if not is_refusal(error):
            raise
        return error


def _is_from_replica(answer: object) -> bool:
    # The primary was made a replica: connecting anew follows a name that has moved on.
    return has_name(answer, "ReadOnlyError")


def _purpose(pool: Any) -> tuple[str, ...]:
    """The arguments that this kind of pool takes when it is asked for a connection."""
    wanted = inspect.signature(pool.get_connection).parameters.get("command_name")
    return () if wanted is None or wanted.default is not inspect.Parameter.empty else ("_",)
