"""How RedisStore talks to its client: connections, errors, and a client made from a URL.

Works with what redis-py and valkey-py have in common, and loads neither unless it is asked to make
a client. Commands go out over connections of the client's own pool, not through the client's
retries: a script whose answer is lost may have been applied, and running it again would make a
compare-and-set fail that has succeeded, so that a transaction would run twice.
"""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from ..errors import ConfigurationError

_SECONDS = 1.0
"""How long a client from a URL waits for a connection, and for an answer."""


class Errors(NamedTuple):
    """The exceptions of the client's library."""

    every: tuple[type[Exception], ...]
    refused: type[Exception]
    """The server answered that it won't."""
    lost: type[Exception]
    """The connection was lost, or there was none."""
    plain: tuple[type[Exception], ...]
    """Those whose text doesn't quote what was sent."""


class Server:
    """One server, over connections of the client's pool."""

    def __init__(self, client: Any, errors: Errors) -> None:
        self._client = client
        self._refused = errors.refused
        self._purpose = _purpose(client.connection_pool)

    def one(self, name: bytes, command: Sequence[Any]) -> Any:
        """The answer to one command."""
        del name  # there is but one server
        pool = self._client.connection_pool
        connection = pool.get_connection(*self._purpose)
        try:
            connection.send_command(*command)
            return connection.read_response(disable_decoding=True)
        except self._refused as error:
            self._leave_replica(connection, error)
            raise
        except BaseException:
            # An answer may still be under way, which must not be taken for the next one's.
            connection.disconnect()
            raise
        finally:
            pool.release(connection)

    def many(self, commands: Sequence[Sequence[Any]]) -> list[Any]:
        """The answers to several commands that are sent as one."""
        pool = self._client.connection_pool
        connection = pool.get_connection(*self._purpose)
        try:
            connection.send_packed_command(connection.pack_commands(commands))
            return [self._answer(connection) for _ in commands]
        except BaseException:
            connection.disconnect()
            raise
        finally:
            pool.release(connection)

    def one_and_wait(
        self, name: bytes, command: Sequence[Any], wait: tuple[int, int]
    ) -> Sequence[Any]:
        """The answer, and how many replicas have it; both in one round trip."""
        del name
        answers = self.many((command, ("WAIT", *wait)))
        for answer in answers:
            if isinstance(answer, Exception):
                raise answer
        return answers

    def servers(self) -> list[Server]:
        return [self]

    def _answer(self, connection: Any) -> Any:
        try:
            return connection.read_response(disable_decoding=True)
        except self._refused as error:
            self._leave_replica(connection, error)
            return error

    @staticmethod
    def _leave_replica(connection: Any, error: Exception) -> None:
        # The primary was made a replica: connecting anew follows a name that has moved on.
        if type(error).__name__ == "ReadOnlyError":
            connection.disconnect()


class Cluster:
    """The primaries of a Cluster, as its client knows them."""

    def __init__(self, client: Any, errors: Errors) -> None:
        self._client = client
        self._errors = errors
        self._client_of: Callable[[Any], Any] = (
            client.get_redis_connection
            if hasattr(client, "get_redis_connection")
            else client.get_valkey_connection
        )

    def one(self, name: bytes, command: Sequence[Any]) -> Any:
        """The answer to one command about the key ``name``."""
        # With a node named, the client follows redirections and learns of failovers, but never
        # sends again what may have been done.
        node = self._client.get_node_from_key(name)
        return self._client.execute_command(*command, target_nodes=node, NEVER_DECODE=True)

    def one_and_wait(
        self, name: bytes, command: Sequence[Any], wait: tuple[int, int]
    ) -> Sequence[Any]:
        """The answer, and how many replicas have it."""
        try:
            return self._server_of(name).one_and_wait(name, command, wait)
        except self._errors.refused as error:
            if type(error).__name__ != "MovedError":
                raise
        # Nothing was done. A command that follows the redirection lets the client learn of it.
        self.one(name, ("EXISTS", name))
        return self._server_of(name).one_and_wait(name, command, wait)

    def servers(self) -> list[Server]:
        return [self._server(node) for node in self._client.get_primaries()]

    def _server_of(self, name: bytes) -> Server:
        return self._server(self._client.get_node_from_key(name))

    def _server(self, node: Any) -> Server:
        return Server(self._client_of(node), self._errors)


def _purpose(pool: Any) -> tuple[str, ...]:
    """What this kind of pool wants to be told when it is asked for a connection."""
    wanted = inspect.signature(pool.get_connection).parameters.get("command_name")
    return () if wanted is None or wanted.default is not inspect.Parameter.empty else ("_",)


def is_cluster(client: Any) -> bool:
    """Whether this client speaks to a Cluster."""
    return hasattr(client, "get_node_from_key")


def errors_of(client: Any) -> Errors:
    """The exceptions of this client's library.

    Raises:
        ConfigurationError: it is no client that can be used.
    """
    works = hasattr(client, "connection_pool") or is_cluster(client)
    if inspect.iscoroutinefunction(getattr(client, "execute_command", None)):
        raise ConfigurationError(
            "RedisStore: client is an asyncio one, and WSGI isn't; give redis.Redis(…) or"
            " valkey.Valkey(…)"
        )
    for base in type(client).__mro__ if works else ():
        module = sys.modules.get(base.__module__.partition(".")[0] + ".exceptions")
        if module is not None and hasattr(module, "ResponseError"):
            return _errors_in(module)
    raise ConfigurationError(
        f"RedisStore: client is of type {type(client).__name__}; give a client object of redis-py"
        " or valkey-py, such as redis.Redis(host='localhost'), or use RedisStore.from_url"
    )


def _errors_in(module: Any) -> Errors:
    values: list[object] = [getattr(module, name) for name in dir(module)]
    every = [value for value in values if isinstance(value, type) and issubclass(value, Exception)]
    return Errors(
        every=(*every, OSError),
        refused=module.ResponseError,
        lost=module.ConnectionError,
        plain=(module.ResponseError, module.ConnectionError, module.TimeoutError, OSError),
    )


# A client from a URL


def client_from_url(url: object, options: Mapping[str, Any]) -> Any:
    """A client of the library that is installed; it has not connected yet.

    Raises:
        ConfigurationError: the URL or an option is wrong, or no library is installed.
    """
    if not isinstance(url, str) or not url.startswith(("redis://", "rediss://", "unix://")):
        raise ConfigurationError(
            "RedisStore: the URL must be a str that begins with redis://, rediss:// or unix://;"
            " write redis://host:port/0, rediss://host:port/0 or unix:///path/to/socket"
        )
    library = _library()
    settings: dict[str, Any] = {
        "socket_timeout": _SECONDS,
        "socket_connect_timeout": _SECONDS,
        "retry": _no_retry(library),
        # Enough here, and one command less for each new connection.
        "protocol": 2,
    }
    if url.startswith("rediss://"):
        # Not a default of every version.
        settings["ssl_check_hostname"] = True
    settings.update(options)
    unusable: tuple[type[Exception], ...] = (
        TypeError,
        ValueError,
        *_errors_in(library.exceptions).every,
    )
    client_class = library.Redis if library.__name__ == "redis" else library.Valkey
    try:
        client = client_class.from_url(url, **settings)
        pool = client.connection_pool
        # Makes a connection object, which connects to nothing yet, because an option that doesn't
        # exist would be found no sooner.
        pool.connection_class(**pool.connection_kwargs)
    except unusable as error:
        # Not what the error says of the URL, which may hold a password.
        names = ", ".join(sorted(options))
        raise ConfigurationError(
            f"RedisStore: {library.__name__} can't make a client of this URL"
            + (f" with the options {names}" if names else "")
            + f" ({type(error).__name__}); write redis://user:password@host:port/0 with special"
            " characters percent-encoded, and options that the library has"
        ) from None
    return client


def _library() -> Any:
    for name in ("redis", "valkey"):
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    raise ConfigurationError(
        "RedisStore needs redis-py or valkey-py; run pip install 'wsgi-sessions[redis]' or"
        " pip install 'wsgi-sessions[valkey]'"
    )


def _no_retry(library: Any) -> Any:
    backoff = importlib.import_module(f"{library.__name__}.backoff").NoBackoff()
    return importlib.import_module(f"{library.__name__}.retry").Retry(backoff, 0)
