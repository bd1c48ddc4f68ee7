"""The doctor: looks at a store for what goes wrong in practice, and says what to do about it.

It changes nothing, neither in the store nor in its server, and reads no session.
"""

from __future__ import annotations

import enum
import os
import shutil
import stat
import sys
import time
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import StoreError
from ..record import is_key
from ..stores import FileStore, RedisStore, Store
from .printing import counted

if TYPE_CHECKING:
    from ..carry_over.source import Source

_FREE_BYTES = 100 * 1024 * 1024
_CLOCK_SECONDS = 5.0
_OVERDUE_SECONDS = 3600.0
_FEW = 100
"""How many expired records are no matter, unless they have been so for long."""
_OLDEST_REDIS = (6, 2)
_OLDEST_VALKEY = (7, 2)


class Severity(enum.Enum):
    """How bad a finding is."""

    OK = "ok"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    check: str
    severity: Severity
    text: str


def examine(store: Store) -> list[Finding]:
    """All that can be said of this store."""
    databases = sys.modules.get("wsgi_sessions.stores.sql")  # else the store isn't one of them
    if databases is not None and isinstance(store, databases.SQLStore):
        return _examine_database(databases.examine(store))
    try:
        store.ping()
    except StoreError as error:
        return [Finding("reachable", Severity.ERROR, f"the store doesn't answer: {error}")]
    findings = [Finding("reachable", Severity.OK, "the store answers")]
    if isinstance(store, FileStore):
        findings += _examine_directory(store.path)
    elif isinstance(store, RedisStore):
        findings += _examine_redis(store)
    return findings


def examine_carry_over(sources: Iterable[Source], now: float) -> list[Finding]:
    """What to do about sources of other systems' sessions.

    Args:
        sources: the middleware's.
        now: UNIX seconds.
    """
    return [_examine_source(source, now) for source in sources]


def _examine_source(source: Source, now: float) -> Finding:
    if source.until is None:
        return Finding(
            "carry-over",
            Severity.WARNING,
            f"{source.name} has no until; set it to the day of the switch plus the"
            " longest life of its sessions",
        )
    day = f"{datetime.fromtimestamp(source.until, UTC):%Y-%m-%d %H:%M} UTC"
    if source.is_over(now):
        return Finding(
            "carry-over",
            Severity.WARNING,
            f"{source.name} is past its until ({day}), so remove it from carry_over, and"
            " delete what is left of the old sessions",
        )
    return Finding(
        "carry-over", Severity.OK, f"sessions of {source.name} are carried over until {day}"
    )


def _examine_database(looks: Iterable[tuple[str, str, str]]) -> list[Finding]:
    findings = [Finding("reachable", Severity.OK, "the store answers")]
    try:
        findings += [Finding(check, Severity(level), text) for check, level, text in looks]
    except StoreError as error:
        return [Finding("reachable", Severity.ERROR, f"the store doesn't answer: {error}")]
    return findings


def _examine_directory(path: Path) -> Iterator[Finding]:
    wrong = shared = 0
    deadlines: list[float] = []
    for folder, _, names in os.walk(path):
        for entry in [Path(folder), *(Path(folder, name) for name in names)]:
            try:
                found = entry.lstat()
            except FileNotFoundError:  # requests go on meanwhile
                continue
            allowed = 0o770 if stat.S_ISDIR(found.st_mode) else 0o660
            wrong += bool(stat.S_IMODE(found.st_mode) & ~allowed)
            shared += bool(stat.S_IMODE(found.st_mode) & 0o070)
            if is_key(entry.name):
                deadlines.append(found.st_mtime)
    if wrong:
        yield Finding(
            "permissions",
            Severity.ERROR,
            counted(wrong, "file or directory is", "files or directories are")
            + " open to others; run chmod -R go= on the directory",
        )
    elif shared:
        yield Finding(
            "permissions",
            Severity.WARNING,
            counted(
                shared, "file or directory is open to its", "files or directories are open to their"
            )
            + " group; if FileStore's mode doesn't say so, run chmod -R go= on the directory",
        )
    else:
        yield Finding("permissions", Severity.OK, "nobody else can read or write the files")
    yield overdue(deadlines, time.time())
    free = shutil.disk_usage(path).free
    if free < _FREE_BYTES:
        yield Finding(
            "space", Severity.WARNING, f"only {free // 2**20} MiB are free on this file system"
        )
    else:
        yield Finding("space", Severity.OK, f"{free // 2**20} MiB are free")


def overdue(deadlines: Collection[float], now: float) -> Finding:
    """Whether expired records pile up.

    Writes take a few of them away, so some are always there; but where few requests write, they
    stay, and may even outnumber the live ones.

    Args:
        deadlines: of all records. UNIX seconds.
        now: UNIX seconds.
    """
    expired = sum(deadline <= now for deadline in deadlines)
    long_ago = sum(deadline <= now - _OVERDUE_SECONDS for deadline in deadlines)
    if not long_ago and (expired <= _FEW or 2 * expired <= len(deadlines)):
        return Finding("overdue", Severity.OK, f"expired records waiting to be removed: {expired}")
    return Finding(
        "overdue",
        Severity.WARNING,
        f"expired records that nobody has purged: {expired} of {len(deadlines)}; expired for more"
        f" than an hour: {long_ago}; run `wsgi-sessions --store URL purge` now and once a day, from"
        " cron or a systemd timer",
    )


def _examine_redis(store: RedisStore) -> Iterator[Finding]:
    try:
        server, replication, memory, persistence = (
            _section(store, name) for name in ("server", "replication", "memory", "persistence")
        )
        yield _version(server)
        yield _role(replication)
        yield _eviction(memory)
        yield _persistence(persistence)
        yield _clock(store)
    except StoreError as error:
        yield Finding("info", Severity.WARNING, f"the server doesn't report its state: {error}")


def _section(store: RedisStore, name: str) -> dict[str, str]:
    lines = (line.partition(":") for line in store.command("INFO", name).decode().splitlines())
    return {key: value for key, colon, value in lines if colon}


def _version(server: dict[str, str]) -> Finding:
    valkey = server.get("valkey_version")
    name, text, oldest = (
        ("Valkey", valkey, _OLDEST_VALKEY)
        if valkey
        else ("Redis", server.get("redis_version", "0.0"), _OLDEST_REDIS)
    )
    major, minor, *_ = (*(int(part) for part in text.split(".")[:2] if part.isdigit()), 0, 0)
    if (major, minor) < oldest:
        wanted = ".".join(map(str, oldest))
        return Finding("version", Severity.ERROR, f"{name} {text} is too old; {wanted} is needed")
    return Finding("version", Severity.OK, f"{name} {text}")


def _role(replication: dict[str, str]) -> Finding:
    if replication.get("role") == "slave":
        return Finding(
            "role",
            Severity.ERROR,
            "the server is a replica, which refuses what is written, or loses it; give the address"
            " of the primary",
        )
    return Finding("role", Severity.OK, "the server is a primary")


def _eviction(memory: dict[str, str]) -> Finding:
    policy = memory.get("maxmemory_policy", "noeviction")
    limited = int(memory.get("maxmemory", 0)) > 0
    if limited and policy != "noeviction":
        return Finding(
            "eviction",
            Severity.ERROR,
            f"maxmemory-policy is {policy}, so the server drops sessions when memory is short and"
            " users are signed out at random; set it to noeviction and watch the memory",
        )
    if not limited:
        return Finding(
            "eviction",
            Severity.WARNING,
            "maxmemory is not set, so the system may kill the server when memory is short; set"
            " maxmemory, with maxmemory-policy noeviction",
        )
    return Finding("eviction", Severity.OK, "maxmemory is set and nothing is evicted")


def _persistence(persistence: dict[str, str]) -> Finding:
    if int(persistence.get("aof_enabled", 0)):
        return Finding("persistence", Severity.OK, "appendonly is on")
    if int(persistence.get("rdb_saves", 0)):
        return Finding("persistence", Severity.OK, "snapshots are written")
    return Finding(
        "persistence",
        Severity.WARNING,
        "appendonly is off, so a restart forgets the latest sessions, or all of them; set"
        " appendonly yes",
    )


def _clock(store: RedisStore) -> Finding:
    asked_at = time.time()
    seconds, microseconds = store.command("TIME")
    told = int(seconds) + int(microseconds) / 1e6
    # Any moment while the answer was under way agrees.
    difference = max(asked_at - told, told - time.time())
    if difference > _CLOCK_SECONDS:
        return Finding(
            "clock",
            Severity.WARNING,
            f"the server's clock is {difference:.0f} s off from this machine's; run NTP on both",
        )
    return Finding("clock", Severity.OK, "the clocks agree")
