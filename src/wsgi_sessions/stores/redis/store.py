"""RedisStore: sessions in Redis or Valkey, for many machines; single, Sentinel or Cluster.

A load is one command; every write is one small Lua script, because only a script can check and
change in one step. This module says what is asked and what an answer means; how a record is laid
out, what the scripts do and how they get to a server is next door.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any, Self

from ..._options import checked_options
from ...errors import StoreError
from ...record import Changes, Record, UpdateResult, is_key
from ..base import Store
from ..packing import check_new_key
from ..query import take_option
from . import layout, scripts
from .client import client_from_url, way_to
from .connection import Command, Server
from .failures import has_name, is_wrong_type, store_error
from .scripts import Script
from .settings import DEFAULT_PREFIX, checked_prefix, checked_wait

_PAGE = 500
"""How many keys one step of a scan asks for: each step holds up the server for a moment."""
_DAMAGE = "the key holds something other than a session record"


@checked_options
class RedisStore(Store):
    """Sessions in Redis 6.2 or later, or Valkey 7.2 or later.

    Args:
        client: a client object of redis-py or valkey-py, also one for Sentinel or Cluster, or
            something that wraps one; not an asyncio one, nor one with a cache. Its timeouts apply,
            its retries only to connecting: reads are repeated once after a lost connection, writes
            never. Where its `execute_command` isn't the library's own, but a subclass's or a
            tracer's, commands go through that. `from_url` makes one with tight timeouts.
        prefix: what all keys begin with. Two apps on one server need different prefixes.
        wait_replicas: how many replicas must have a deletion or a change of privilege (a new epoch)
            before it counts as done: a number, or ``(number, milliseconds)`` (500 by default; less
            than the client's read timeout). With fewer it is a StoreError, although the primary has
            made the change. None doesn't wait, and a failover right afterwards may bring an ended
            session back.

    Raises:
        ConfigurationError: for an option that can't work.
    """

    def __init__(
        self,
        client: Any,
        prefix: str = DEFAULT_PREFIX,
        wait_replicas: int | tuple[int, int] | None = None,
    ) -> None:
        self._prefix = checked_prefix(prefix)
        self._wait = checked_wait(wait_replicas)
        self._way = way_to(client)
        self.client = client
        """As it was given."""
        self.prefix = prefix

    def __repr__(self) -> str:
        return f"RedisStore(prefix={self.prefix!r})"

    @classmethod
    def from_url(
        cls,
        url: str,
        *,
        prefix: str | None = None,
        wait_replicas: int | tuple[int, int] | None = None,
        **options: Any,
    ) -> Self:
        """A store on one server; connects when it is first used.

        Waits one second at most for a connection, which is tried twice, and one for an answer. A
        connection that was idle for half a minute is checked first, and TCP keepalive is on.
        ``options`` and the URL's query (``?socket_timeout=3``) change this.

        Args:
            url: ``redis://[[user]:password@]host[:port][/db]``, ``rediss://…`` for TLS, or
                ``unix://[user:password@]/path[?db=0]``.
            prefix: see the class; None: what the URL's query says (``?prefix=shop:session:``), or
                ``session:``.
            wait_replicas: see the class.
            options: for the client of redis-py or valkey-py, such as ``ssl_ca_certs`` and
                ``max_connections``.

        Raises:
            ConfigurationError: the URL or an option is wrong, the prefix is another in the URL, or
                neither library is installed. The message never shows the URL, which may hold a
                password.
        """
        url, chosen = take_option("RedisStore", url, "prefix", prefix, DEFAULT_PREFIX)
        return cls(client_from_url(url, options), chosen, wait_replicas)

    def load(self, key: str) -> Record | None:
        """The record, or None: one round trip."""
        if not is_key(key):
            return None
        name = self._prefix + key.encode()
        answer = self._reply(name, (b"HGETALL", name), again=True)
        if not is_wrong_type(answer):
            answer = _sound("load", answer)
            try:
                return layout.record_of(answer) if answer else None
            except ValueError:
                pass
        self._notify("corrupt_record", key, _DAMAGE)
        return None

    def insert(self, key: str, record: Record) -> bool:
        """Keep a new record. False, and no change, if the key exists: one round trip."""
        check_new_key(key, "insert")
        name = self._prefix + key.encode()
        arguments = layout.insert_arguments(record)
        state = self._run("insert", scripts.INSERT, name, arguments)
        return self._result("insert", key, state) is UpdateResult.UPDATED

    def update(
        self,
        key: str,
        changes: Changes,
        *,
        if_epoch: int | None = None,
        if_version: int | None = None,
    ) -> UpdateResult:
        """Apply a change set as one step: one round trip, and only what has changed is sent.

        Changes that change nothing only look whether the record is there (where neither epoch nor
        version is asked for, even one that can't be read).
        """
        if not is_key(key):
            return UpdateResult.GONE
        name = self._prefix + key.encode()
        arguments = layout.update_arguments(changes, if_epoch, if_version)
        if not any(arguments):
            found = _sound("update", self._reply(name, (b"EXISTS", name), again=True))
            return UpdateResult.UPDATED if found else UpdateResult.GONE
        state = self._run(
            "update",
            scripts.UPDATE,
            name,
            arguments,
            wait=changes.epoch is not None,
            again=layout.is_question(arguments),
        )
        return self._result("update", key, state)

    def delete(self, key: str, *, if_version: int | None = None) -> bool:
        """Remove a record. True if it existed (and had the version asked for): one round trip."""
        if not is_key(key):
            return False
        name = self._prefix + key.encode()
        state = self._run("delete", scripts.DELETE, name, [layout.optional(if_version)], wait=True)
        return self._result("delete", key, state) is UpdateResult.UPDATED

    def purge_expired(self, now: float) -> int:
        """Remove what expired at or before ``now`` (UNIX seconds).

        The server itself removes expired sessions, a minute late; this is for those that it would
        keep longer, because they went unused since a clock was set or a limit was lowered.
        """
        limit = layout.time_text(now)
        return sum(
            self._purge_page(server, names, limit)
            for server in self._servers("purge_expired")
            for names in self._pages("purge_expired", server)
        )

    def _purge_page(self, server: Server, names: Sequence[bytes], now: bytes) -> int:
        heads = self._batch("purge_expired", server, [(b"HGET", name, b"h") for name in names])
        expired = [
            name
            for name, head in zip(names, heads, strict=True)
            if not is_wrong_type(head)
            and layout.is_expired(_sound("purge_expired", head), float(now))
        ]
        if not expired:
            return 0
        # Decided again in the script: a request may have renewed the session meanwhile.
        script = scripts.DELETE_EXPIRED
        runs = [(b"EVALSHA", script.sha, b"1", name, now) for name in expired]
        load = (b"SCRIPT", b"LOAD", script.text)
        answers = self._batch("purge_expired", server, [load, *runs])
        return [_sound("purge_expired", answer) for answer in answers][1:].count(scripts.DONE)

    def keys(self) -> Iterator[str]:
        """All keys, in no order; expired ones may be among them.

        Goes through the whole server in small steps; sessions that come or go meanwhile may be
        listed or not.
        """
        seen: set[bytes] = set()
        start = len(self._prefix)
        for server in self._servers("keys"):
            for names in self._pages("keys", server):
                for name in names:
                    key = name[start:].decode()
                    # A scan may list a key twice; half of the bytes are enough to remember it.
                    if (packed := bytes.fromhex(key)) not in seen:
                        seen.add(packed)
                        yield key

    def clear(self) -> None:
        """Remove all sessions under this prefix, and nothing else."""
        for server in self._servers("clear"):
            for names in self._pages("clear", server):
                for answer in self._batch("clear", server, [(b"UNLINK", name) for name in names]):
                    _sound("clear", answer)

    def ping(self) -> None:
        """Check that the server answers; of a Cluster, that every primary does."""
        for server in self._servers("ping"):
            self._ask("ping", server, (b"PING",), again=True)

    def close(self) -> None:
        """Close the connections. The store may be used again afterwards."""
        self.client.close()

    def command(self, *command: str | bytes | int) -> Any:
        """Send the server (of a Cluster: the first primary) another command, such as ``INFO``.

        Raises:
            StoreError: it didn't answer, or refused.
        """
        parts = [part if isinstance(part, bytes) else str(part).encode() for part in command]
        operation = parts[0].decode().lower()
        return self._ask(operation, self._servers(operation)[0], parts, plainly=True)

    # Sending commands, and what can go wrong

    def _run(
        self,
        operation: str,
        script: Script,
        name: bytes,
        arguments: Sequence[bytes],
        *,
        wait: bool = False,
        again: bool = False,
    ) -> Any:
        rest = (b"1", name, *arguments)
        answer = self._reply(name, (b"EVALSHA", script.sha, *rest), wait=wait, again=again)
        if has_name(answer, "NoScriptError"):
            answer = self._reply(name, (b"EVAL", script.text, *rest), wait=wait, again=again)
        answer = _sound(operation, answer)
        if not wait or self._wait is None:
            return answer
        state, copies = answer
        if copies < self._wait[0]:
            raise StoreError(
                f"{copies} of {self._wait[0]} replicas had the change after {self._wait[1]} ms;"
                " the primary has it",
                operation=operation,
            )
        return state

    def _reply(
        self, name: bytes, command: Command, *, wait: bool = False, again: bool = False
    ) -> Any:
        """The answer, or the exception that came in its place."""
        try:
            if wait and self._wait is not None:
                return self._way.ask_and_wait(name, command, self._wait)
            return self._way.ask(name, command, again=again)
        except Exception as error:  # noqa: BLE001 # whatever a client raises, it has no answer
            return error

    def _servers(self, operation: str) -> list[Server]:
        answer: Any
        try:
            answer = self._way.servers()
        except Exception as error:  # noqa: BLE001 # of any class
            answer = error
        return list(_sound(operation, answer))

    def _ask(self, operation: str, server: Server, command: Command, **how: bool) -> Any:
        try:
            answer = server.ask(b"", command, **how)
        except Exception as error:  # noqa: BLE001 # of any class
            answer = error
        return _sound(operation, answer)

    def _batch(self, operation: str, server: Server, commands: Sequence[Command]) -> list[Any]:
        """The answers, in order; a refusal is among them as an exception."""
        if not commands:
            return []
        answers: Any
        try:
            answers = server.ask_all(commands)
        except Exception as error:  # noqa: BLE001 # of any class
            answers = error
        return list(_sound(operation, answers))

    def _pages(self, operation: str, server: Server) -> Iterator[list[bytes]]:
        """The names of our keys, page by page."""
        escaped = re.sub(rb"([\[\]?*\\])", rb"\\\1", self._prefix)
        # Hashes alone: what has another type is not ours.
        rest = (b"MATCH", escaped + b"*", b"COUNT", b"%d" % _PAGE, b"TYPE", b"hash")
        ours = re.compile(re.escape(self._prefix) + rb"[0-9a-f]{64}")
        cursor = b"0"
        while True:
            cursor, names = self._ask(operation, server, (b"SCAN", cursor, *rest), again=True)
            yield [name for name in names if ours.fullmatch(name)]
            cursor = b"%d" % int(cursor)  # clients make a number of it
            if cursor == b"0":
                return

    def _result(self, operation: str, key: str, state: Any) -> UpdateResult:
        if state == scripts.DAMAGED:
            self._notify("corrupt_record", key, _DAMAGE)
        if not isinstance(state, int) or state not in layout.RESULTS:
            raise StoreError(
                "the Redis client doesn't give what the script said", operation=operation
            )
        return layout.RESULTS[state]


def _sound(operation: str, answer: Any) -> Any:
    """The answer, if it is one.

    Raises:
        StoreError: it is an exception.
    """
    if isinstance(answer, Exception):
        raise store_error(operation, answer)
    return answer
