"""What a thief of the store would read: every byte of it, names of files included."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from wsgi_sessions.stores import FileStore, MemoryStore, Store


def raw(store: Store) -> bytes:
    """All that this store keeps, keys and owners' lists included, in one piece."""
    if isinstance(store, FileStore):
        return _raw_directory(store.path)
    if isinstance(store, MemoryStore):
        rows = [shard.rows for shard in store._shards.values()]
        return repr(rows).encode() + b"".join(row for each in rows for row in each.values())
    return _raw_redis(store)


def _raw_directory(path: Path) -> bytes:
    parts: list[bytes] = []
    for file in sorted(path.rglob("*")):
        parts.append(str(file.relative_to(path)).encode())
        if file.is_file():
            parts.append(file.read_bytes())
    return b"\n".join(parts)


def _raw_redis(store: Any) -> bytes:
    client = store.client
    parts: list[Any] = []
    for key in client.keys(f"{store.prefix}*"):
        parts.append(key)
        kind = client.type(key)
        if kind == b"hash":
            parts.append(client.hgetall(key))
        elif kind == b"zset":
            parts.append(client.zrange(key, 0, -1, withscores=True))
        else:
            parts.append(client.dump(key))
    return repr(parts).encode()
