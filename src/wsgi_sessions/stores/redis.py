"""RedisStore: sessions in Redis or Valkey, for many machines; single, Sentinel or Cluster.

One hash per session. Every write is one small Lua script, because only a script can check and
change in one step. The scripts are in lua, the ways to the server in wire. Loads neither redis-py
nor valkey-py until `RedisStore.from_url` needs one.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, NoReturn, Self

from .._options import checked_options
from ..errors import ConfigurationError, StoreError
from ..record import Changes, OwnedEntry, Record, UpdateResult, is_key
from . import lua
from .base import Store
from .lua import Script
from .packing import as_bytes, check_new_key, deadline
from .wire import Cluster, Server, client_from_url, errors_of, is_cluster

_ENCODING = "utf-8", "surrogatepass"
"""Names and owners may be any str, lone surrogates included."""
_PAGE = 500
"""How many keys one step of a scan asks for: each step holds up the server for a moment."""
_WAIT_MS = 500
"""Less than the time after which `RedisStore.from_url` gives up reading."""
_RESULTS = {
    1: UpdateResult.UPDATED,
    lua.GONE: UpdateResult.GONE,
    lua.CONFLICT: UpdateResult.CONFLICT,
}
_NO_ENTRY = OwnedEntry(0.0, math.inf, 0)
_DAMAGE = "the key holds something else than a session record"


@checked_options
class RedisStore(Store):
    """Sessions in Redis 6.2 or later, or Valkey 7.2 or later.

    Args:
        client: a client object of redis-py or valkey-py, also one for Sentinel or Cluster; not an
            asyncio one. Its timeouts hold, its retries don't: reads are repeated once after a lost
            connection, writes never. `from_url` makes one with tight timeouts.
        prefix: what all keys begin with. Two apps on one server need two prefixes.
        wait_replicas: how many replicas must have a deletion, a replacement or a revocation
            before it counts as done: a number, or ``(number, milliseconds)`` (500 by default; less
            than the client's read timeout). With fewer it is a StoreError; the change stands on the
            primary all the same. None doesn't wait, and a failover right afterwards may bring an
            ended session back.

    Raises:
        ConfigurationError: for an option that can't work.
    """

    def __init__(
        self,
        client: Any,
        prefix: str = "session:",
        wait_replicas: int | tuple[int, int] | None = None,
    ) -> None:
        super().__init__()
        self._errors = errors_of(client)
        self._prefix = _checked_prefix(prefix)
        self._wait = _checked_wait(wait_replicas)
        self._wire = (
            Cluster(client, self._errors) if is_cluster(client) else Server(client, self._errors)
        )
        self._apart = is_cluster(client)
        """Whether two keys may lie on two servers, where no script reaches both."""
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
        prefix: str = "session:",
        wait_replicas: int | tuple[int, int] | None = None,
        **options: Any,
    ) -> Self:
        """A store on one server; connects when it is first used.

        Waits one second at most for a connection, and one for an answer; ``options`` and the URL's
        query (``?socket_timeout=3``) can say otherwise.

        Args:
            url: ``redis://[[user]:password@]host[:port][/db]``, ``rediss://…`` for TLS, or
                ``unix://[user:password@]/path[?db=0]``.
            prefix: see the class.
            wait_replicas: see the class.
            options: for the client of redis-py or valkey-py, such as ``ssl_ca_certs`` and
                ``max_connections``.

        Raises:
            ConfigurationError: the URL or an option is wrong, or neither library is installed. The
                message never shows the URL, which may hold a password.
        """
        return cls(client_from_url(url, options), prefix, wait_replicas)

    # Records

    def load(self, key: str) -> Record | None:
        """The record, or None: one round trip."""
        if not is_key(key):
            return None
        name = self._prefix + key.encode()
        try:
            answer = self._read("load", name, "HGETALL", name)
            return _unpack(answer) if answer else None
        except StoreError as error:
            if not str(error.__cause__).startswith("WRONGTYPE"):
                raise
        except (KeyError, ValueError):
            pass
        self._damaged(key)
        return None

    def insert(self, key: str, record: Record) -> bool:
        """Keep a new record. False, and no change, if the key exists."""
        check_new_key(key, "insert")
        state = self._run("insert", lua.INSERT, [self._prefix + key.encode()], _pack(record))
        return bool(state == 1)

    def update(self, key: str, changes: Changes, *, if_version: int | None = None) -> UpdateResult:
        """Apply a change set as one step: one round trip, and only what has changed is sent."""
        if not is_key(key):
            return UpdateResult.GONE
        pairs: list[bytes] = []
        used = ends = b""
        if changes.used_at is not None:
            used = _number(changes.used_at)
            pairs += b"u", used
        if changes.expires_at is not None:
            ends = _number(deadline(changes.expires_at))
            pairs += b"e", ends
        if changes.notes is not None:
            pairs += b"n", as_bytes(changes.notes)
        deleted = [_field(name) for name in changes.delete]  # before any is set
        arguments = [
            _version(if_version),
            used,
            ends,
            b"1" if changes.changes_data else b"0",
            b"%d" % len(deleted),
            *deleted,
            *pairs,
            *_pairs(changes.set),
        ]
        state = self._run("update", lua.UPDATE, [self._prefix + key.encode()], arguments)
        return self._result(state, key)

    def replace(
        self, old_key: str, new_key: str, record: Record, *, if_version: int | None = None
    ) -> UpdateResult:
        """Put ``record`` under ``new_key`` only if ``old_key`` is still there; the old one goes.

        One step and one round trip; on a Cluster two, because the keys lie on two servers: the new
        record comes first, so that a server that fails in between never costs the session.
        """
        if not is_key(old_key):
            return UpdateResult.GONE
        check_new_key(new_key, "replace")
        names = [self._prefix + old_key.encode(), self._prefix + new_key.encode()]
        if not self._apart:
            arguments = [_version(if_version), *_pack(record)]
            try:
                state = self._run("replace", lua.REPLACE, names, arguments, wait=True)
            except StoreError as error:
                if not _is_cross_slot(error.__cause__):
                    raise
                self._apart = True
            else:
                if state == lua.TAKEN:
                    _refuse_taken()
                return self._result(state, old_key)
        return self._replace_apart(names, record, if_version, old_key)

    def _replace_apart(
        self, names: list[bytes], record: Record, if_version: int | None, old_key: str
    ) -> UpdateResult:
        old, new = names
        if self._run("replace", lua.INSERT, [new], _pack(record), wait=True) != 1:
            _refuse_taken()
        try:
            state = self._run("replace", lua.DELETE, [old], [_version(if_version)], wait=True)
        except StoreError:
            # Perhaps the old one is gone, perhaps not. Nobody holds the new ID yet, so it is the
            # new one that can be spared; if that fails too, it expires unused.
            self._take_back(new)
            raise
        if state != 1:
            self._run("replace", lua.DELETE, [new], [b""])
        return self._result(state, old_key)

    def _take_back(self, new: bytes) -> None:
        try:
            self._run("replace", lua.DELETE, [new], [b""])
        except StoreError:
            return

    def delete(self, key: str, *, if_version: int | None = None) -> bool:
        """Remove a record. True if it existed (and had the version asked for)."""
        if not is_key(key):
            return False
        name = self._prefix + key.encode()
        state = self._run("delete", lua.DELETE, [name], [_version(if_version)], wait=True)
        return self._result(state, key) is UpdateResult.UPDATED

    # The store as a whole

    def purge_expired(self, now: float) -> int:
        """Remove what expired at or before ``now`` (UNIX seconds), owners' entries too.

        The server forgets expired sessions by itself, a minute late; this is for those that it
        would keep longer, because they went unused since a clock was set or a limit was lowered.
        """
        limit = _number(now)
        return sum(
            self._purge_page(server, names, limit)
            for server in self._wire.servers()
            for names in self._pages("purge_expired", server)
        )

    def _purge_page(self, server: Server, names: Sequence[bytes], now: bytes) -> int:
        records = [name for name in names if self._key_of(name) is not None]
        times = self._batch("purge_expired", server, [("HGET", name, "e") for name in records])
        expired = [
            name
            for name, ends in zip(records, times, strict=True)
            if isinstance(ends, bytes) and _is_at_or_before(ends, float(now))
        ]
        owners = [name for name in names if self._is_owner(name)]
        # Decided again in the script: a request may have renewed the session meanwhile.
        removed = self._run_each("purge_expired", server, lua.DELETE_EXPIRED, expired, now)
        self._run_each("purge_expired", server, lua.PRUNE_OWNED, owners, now)
        return sum(state == 1 for state in removed)

    def _run_each(
        self, operation: str, server: Server, script: Script, names: Sequence[bytes], now: bytes
    ) -> list[Any]:
        if not names:
            return []
        runs = [("EVALSHA", script.sha, 1, name, now) for name in names]
        return self._batch(operation, server, [("SCRIPT", "LOAD", script.text), *runs])[1:]

    def keys(self) -> Iterator[str]:
        """All keys, in no order; expired ones may be among them.

        Goes through the whole server in small steps; sessions that come or go meanwhile may be
        listed or not.
        """
        seen: set[bytes] = set()
        for server in self._wire.servers():
            for names in self._pages("keys", server):
                for name in names:
                    key = self._key_of(name)
                    # A scan may list a key twice; half of the bytes are enough to remember it.
                    if key is not None and (packed := bytes.fromhex(key)) not in seen:
                        seen.add(packed)
                        yield key

    def clear(self) -> None:
        """Remove all sessions and owners under this prefix, and nothing else."""
        for server in self._wire.servers():
            for names in self._pages("clear", server):
                ours = [n for n in names if self._key_of(n) is not None or self._is_owner(n)]
                answers = self._batch("clear", server, [("UNLINK", name) for name in ours])
                for answer in answers:
                    if isinstance(answer, Exception):
                        self._fail("clear", answer)

    def ping(self) -> None:
        """Ask for a sign of life, on a Cluster of every primary."""
        for server in self._wire.servers():
            self._ask("ping", server, "PING")

    def close(self) -> None:
        """Give back the connections. The store may be used again afterwards."""
        self.client.close()

    def command(self, *command: Any) -> Any:
        """Ask the server (of a Cluster: the first primary) something else, such as ``INFO``.

        Raises:
            StoreError: there is no answer, or a refusal.
        """
        operation = str(command[0]).lower()
        return self._ask(operation, self._wire.servers()[0], *command)

    # The owner index

    def add_owned(self, owner: str, key: str, expires_at: float) -> int:
        """Enter ``key`` in the owner's index (anew if it is there), and tell the generation."""
        check_new_key(key, "add_owned")
        arguments = [key.encode(), _number(self.clock()), _number(deadline(expires_at))]
        return int(self._run("add_owned", lua.ADD_OWNED, [self._index(owner)], arguments))

    def owned_by(self, owner: str) -> Mapping[str, OwnedEntry]:
        """The owner's index: entries by key. May list too much, never too little."""
        name = self._index(owner)
        return {
            key: _entry(value)
            for field, value in _items(self._read("owned_by", name, "HGETALL", name))
            if is_key(key := field.decode("ascii", "replace"))
        }

    def remove_owned(self, owner: str, keys: Collection[str]) -> None:
        """Take keys out of the owner's index; unknown ones are fine. The generation stays."""
        if keys:
            arguments = [_number(self.clock()), *(key.encode(*_ENCODING) for key in keys)]
            self._run("remove_owned", lua.REMOVE_OWNED, [self._index(owner)], arguments)

    def generation(self, owner: str) -> int:
        """The owner's generation; 0 to begin with."""
        name = self._index(owner)
        summary = self._read("generation", name, "HGET", name, "m")
        if summary is None:
            return 0
        try:
            return int(summary.split(b" ")[0])
        except ValueError:
            # Guessing would let a login outlive the revocation that it raced with.
            raise StoreError("the owner index is damaged", operation="generation") from None

    def next_generation(self, owner: str) -> int:
        """Raise the owner's generation by one and tell it."""
        arguments = [_number(self.clock())]
        return int(
            self._run(
                "next_generation", lua.NEXT_GENERATION, [self._index(owner)], arguments, wait=True
            )
        )

    # Names

    def _index(self, owner: str) -> bytes:
        digest = hashlib.sha256(owner.encode(*_ENCODING)).hexdigest()
        return self._prefix + b"owner:" + digest.encode()

    def _key_of(self, name: bytes) -> str | None:
        key = name.removeprefix(self._prefix).decode("ascii", "replace")
        return key if is_key(key) else None

    def _is_owner(self, name: bytes) -> bool:
        return is_key(name.removeprefix(self._prefix + b"owner:").decode("ascii", "replace"))

    # Asking, and what can go wrong

    def _read(self, operation: str, name: bytes, *command: Any) -> Any:
        try:
            try:
                return self._wire.one(name, command)
            except self._errors.lost:
                return self._wire.one(name, command)
        except self._errors.every as error:
            self._fail(operation, error)

    def _run(
        self,
        operation: str,
        script: Script,
        names: Sequence[bytes],
        arguments: Sequence[bytes],
        *,
        wait: bool = False,
    ) -> Any:
        try:
            try:
                answers = self._send(b"EVALSHA", script.sha, names, arguments, wait=wait)
            except self._errors.refused as error:
                if type(error).__name__ != "NoScriptError":
                    raise
                answers = self._send(b"EVAL", script.text, names, arguments, wait=wait)
        except self._errors.every as error:
            self._fail(operation, error)
        if wait and self._wait is not None and answers[1] < self._wait[0]:
            raise StoreError(
                f"{answers[1]} of {self._wait[0]} replicas had the change after {self._wait[1]} ms;"
                " the primary has it",
                operation=operation,
            )
        return answers[0]

    def _send(
        self,
        verb: bytes,
        script: bytes,
        names: Sequence[bytes],
        arguments: Sequence[bytes],
        *,
        wait: bool,
    ) -> Sequence[Any]:
        command = (verb.decode(), script, len(names), *names, *arguments)
        if wait and self._wait is not None:
            return self._wire.one_and_wait(names[0], command, self._wait)
        return (self._wire.one(names[0], command),)

    def _ask(self, operation: str, server: Server, *command: Any) -> Any:
        try:
            return server.one(b"", command)
        except self._errors.every as error:
            self._fail(operation, error)

    def _batch(
        self, operation: str, server: Server, commands: Sequence[tuple[Any, ...]]
    ) -> list[Any]:
        """The answers, in order; a refusal is among them as an exception."""
        if not commands:
            return []
        try:
            return server.many(commands)
        except self._errors.every as error:
            self._fail(operation, error)

    def _pages(self, operation: str, server: Server) -> Iterator[list[bytes]]:
        pattern = re.sub(rb"([\[\]?*\\])", rb"\\\1", self._prefix) + b"*"
        cursor = b"0"
        while True:
            # Hashes alone: what has another type is not ours.
            cursor, names = self._ask(
                operation, server, "SCAN", cursor, "MATCH", pattern, "COUNT", _PAGE, "TYPE", "hash"
            )
            yield names
            if int(cursor) == 0:
                return

    def _result(self, state: int, key: str) -> UpdateResult:
        if state == lua.DAMAGED:
            self._damaged(key)
            return UpdateResult.GONE
        return _RESULTS[state]

    def _damaged(self, key: str) -> None:
        self._notify("corrupt_record", key, _DAMAGE)

    def _fail(self, operation: str, error: Exception) -> NoReturn:
        text = str(error)
        if isinstance(error, self._errors.plain):
            # Some servers repeat what they were sent, values included. What is left out here must
            # not be shown as the cause either.
            told = re.sub(r"[0-9a-f]{40,}", "…", text.partition(", with args")[0])[:200]
            raise StoreError(
                f"the Redis server can't do this ({operation}): {type(error).__name__}: {told}",
                operation=operation,
            ) from (error if told == text else None)
        # What is left quotes whole commands, and so does its traceback.
        raise StoreError(
            f"the Redis client can't do this ({operation}): {type(error).__name__}",
            operation=operation,
        ) from None


def _is_cross_slot(error: BaseException | None) -> bool:
    """Whether one script can't have both keys, because they lie on two servers."""
    return type(error).__name__ == "ClusterCrossSlotError" or str(error).startswith("CROSSSLOT")


def _refuse_taken() -> NoReturn:
    raise StoreError("the new key is taken already", operation="replace")


# Records


def _pack(record: Record) -> list[bytes]:
    """Times, then names and values of the hash."""
    used, ends = _number(record.used_at), _number(deadline(record.expires_at))
    packed = [used, ends, b"u", used, b"e", ends, b"v", b"%d" % record.version]
    packed += b"n", as_bytes(record.notes)
    if record.owner is not None:
        packed += b"o", record.owner.encode(*_ENCODING)
    packed += _pairs(record.fields)
    return packed


def _pairs(fields: Mapping[str, bytes]) -> list[bytes]:
    pairs: list[bytes] = []
    for name, value in fields.items():
        pairs += _field(name), as_bytes(value)
    return pairs


def _field(name: str) -> bytes:
    return b"f:" + name.encode(*_ENCODING)


def _unpack(answer: Any) -> Record:
    """The record of a whole hash.

    Raises:
        KeyError: a part is missing.
        ValueError: a part can't be read.
    """
    parts = dict(_items(answer))
    notes, version, owner = parts.pop(b"n"), parts.pop(b"v"), parts.pop(b"o", None)
    used_at, expires_at = float(parts.pop(b"u")), float(parts.pop(b"e"))
    if not (math.isfinite(used_at) and not math.isnan(expires_at) and version.isdigit()):
        raise ValueError("a number is damaged")
    fields: dict[str, bytes] = {}
    for name, value in parts.items():
        if name[:2] != b"f:":
            raise ValueError("an unknown part")
        fields[name[2:].decode(*_ENCODING)] = value
    return Record(
        fields,
        notes,
        used_at,
        expires_at,
        int(version),
        None if owner is None else owner.decode(*_ENCODING),
    )


def _items(answer: Any) -> Iterator[tuple[bytes, bytes]]:
    """Names and values of a hash, which is a map in RESP3 and a list in RESP2."""
    if isinstance(answer, Mapping):
        yield from answer.items()
    else:
        parts = iter(answer)
        yield from zip(parts, parts, strict=True)


def _entry(value: bytes) -> OwnedEntry:
    try:
        added_at, expires_at, generation = value.split(b" ")
        return OwnedEntry(float(added_at), float(expires_at), int(generation))
    except ValueError:
        # The index may list too much, never too little.
        return _NO_ENTRY


def _is_at_or_before(ends: bytes, now: float) -> bool:
    try:
        return float(ends) <= now
    except ValueError:
        return False


def _number(value: float) -> bytes:
    if math.isnan(value):
        raise StoreError("a time is NaN; write UNIX seconds")
    return repr(float(value)).encode()


def _version(if_version: int | None) -> bytes:
    return b"" if if_version is None else b"%d" % if_version


# Settings


def _checked_prefix(prefix: object) -> bytes:
    if not isinstance(prefix, str) or not prefix:
        raise ConfigurationError(
            f"RedisStore: prefix is {prefix!r}; write a str such as 'session:', which no other app"
            " on this server uses"
        )
    return prefix.encode(*_ENCODING)


def _checked_wait(wait: object) -> tuple[int, int] | None:
    match wait:
        case None:
            return None
        case (int(count), int(milliseconds)) if _are_counts(count, milliseconds):
            return count, milliseconds
        case int(count) if _are_counts(count):
            return count, _WAIT_MS
        case _:
            raise ConfigurationError(
                f"RedisStore: wait_replicas is {wait!r}; write the number of replicas, such as 1,"
                f" or (number, milliseconds), such as (1, {_WAIT_MS}), or None not to wait"
            )


def _are_counts(*values: int) -> bool:
    return all(value >= 1 and not isinstance(value, bool) for value in values)
