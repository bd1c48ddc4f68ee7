"""The doctor, on real servers that are set up badly, and on what only an odd server says."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

import servers
from resp import ScriptedServer
from wsgi_sessions.cli import doctor
from wsgi_sessions.cli.doctor import Finding, Severity
from wsgi_sessions.record import Record
from wsgi_sessions.stores import FileStore, MemoryStore, RedisStore, Store
from wsgi_sessions.testing import FakeClock

OK, WARNING, ERROR = Severity.OK, Severity.WARNING, Severity.ERROR


def found(store: Store) -> dict[str, Finding]:
    return {finding.check: finding for finding in doctor.examine(store)}


@contextlib.contextmanager
def told(binary: str, *options: str) -> Iterator[dict[str, Finding]]:
    with servers.running(binary, *options) as server:
        store = RedisStore.from_url(server.url)
        yield found(store)
        store.close()


def test_a_server_set_up_well(redis_binary: str) -> None:
    good = ("--maxmemory", "50mb", "--maxmemory-policy", "noeviction", "--appendonly", "yes")
    with told(redis_binary, *good) as findings:
        checks = ["reachable", "version", "role", "eviction", "persistence", "clock"]

        assert list(findings) == checks
        assert {finding.severity for finding in findings.values()} == {OK}


def test_a_server_as_it_comes(redis_binary: str) -> None:
    with told(redis_binary) as findings:
        assert findings["eviction"].severity is WARNING
        assert "set maxmemory" in findings["eviction"].text
        assert findings["persistence"].severity is WARNING
        assert "appendonly yes" in findings["persistence"].text


def test_a_server_that_evicts(redis_binary: str) -> None:
    with told(redis_binary, "--maxmemory", "50mb", "--maxmemory-policy", "allkeys-lru") as findings:
        assert findings["eviction"].severity is ERROR
        assert "signed out at random" in findings["eviction"].text


def test_a_server_that_writes_snapshots(redis_binary: str) -> None:
    with servers.running(redis_binary) as server, server.client() as client:
        client.save()
        store = RedisStore.from_url(server.url)

        assert found(store)["persistence"] == Finding("persistence", OK, "snapshots are written")
        store.close()


def test_a_replica(redis_binary: str) -> None:
    with servers.replicated(redis_binary) as (primary, (replica,)):
        store = RedisStore.from_url(replica.url)
        finding = found(store)["role"]
        store.close()
        assert finding.severity is ERROR
        assert "give the address of the primary" in finding.text

        store = RedisStore.from_url(primary.url)
        assert found(store)["role"] == Finding("role", OK, "the server is a primary")
        store.close()


def test_a_server_that_tells_nothing_about_itself(redis_binary: str) -> None:
    with servers.running(redis_binary) as server, server.client() as client:
        client.execute_command("ACL", "SETUSER", "shy", "on", "nopass", "~*", "+@all", "-info")
        store = RedisStore.from_url(f"redis://shy:any@127.0.0.1:{server.port}")
        findings = found(store)
        store.close()

        assert list(findings) == ["reachable", "info"]
        assert findings["info"].severity is WARNING


@pytest.mark.programs
def test_a_cluster_is_looked_at_by_its_first_primary(redis_binary: str) -> None:
    import redis

    with servers.cluster(redis_binary, replicas=0) as nodes:
        store = RedisStore(redis.RedisCluster(host="127.0.0.1", port=nodes[0].port))

        assert found(store)["version"].severity is OK
        store.close()


def bulk(text: str) -> bytes:
    return b"$%d\r\n%b\r\n" % (len(text), text.encode())


@pytest.mark.parametrize(
    ("info", "severity", "says"),
    [
        ("redis_version:6.2.0", OK, "Redis 6.2.0"),
        ("redis_version:6.0.16", ERROR, "6.2 is needed"),
        ("redis_version:7.2.4\r\nvalkey_version:7.2.5", OK, "Valkey 7.2.5"),
        ("redis_version:7.2.4\r\nvalkey_version:7.1.0", ERROR, "7.2 is needed"),
        ("# Server\r\nos:Linux", ERROR, "too old"),
    ],
)
def test_the_version_is_one_that_has_what_we_use(info: str, severity: Severity, says: str) -> None:
    def reply(command: list[bytes]) -> bytes:
        return bulk(info) if command[0] == b"INFO" else b"*2\r\n$1\r\n0\r\n$1\r\n0\r\n"

    with contextlib.closing(ScriptedServer(reply)) as server:
        finding = found(RedisStore.from_url(server.url))["version"]

    assert finding.severity is severity
    assert says in finding.text


def test_a_clock_that_is_off() -> None:
    def reply(command: list[bytes]) -> bytes:
        return bulk("a:1") if command[0] == b"INFO" else b"*2\r\n$3\r\n100\r\n$1\r\n0\r\n"

    with contextlib.closing(ScriptedServer(reply)) as server:
        finding = found(RedisStore.from_url(server.url))["clock"]

    assert finding.severity is WARNING
    assert "run NTP" in finding.text


@pytest.mark.parametrize("ahead", [-10, 0, 10])
def test_a_clock_is_not_off_by_what_an_answer_takes(
    ahead: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = FakeClock(1_800_000_000.0)
    monkeypatch.setattr(doctor, "time", SimpleNamespace(time=clock))

    def reply(command: list[bytes]) -> bytes:
        if command[0] == b"INFO":
            return bulk("a:1")
        clock.advance(30)  # on its way
        told = bulk(f"{clock() + ahead:.0f}")
        clock.advance(30)  # and back
        return b"*2\r\n" + told + bulk("0")

    with contextlib.closing(ScriptedServer(reply)) as server:
        finding = found(RedisStore.from_url(server.url))["clock"]

    assert finding.severity is OK


def test_a_store_that_does_not_answer() -> None:
    (finding,) = doctor.examine(RedisStore.from_url("redis://127.0.0.1:1"))

    assert (finding.check, finding.severity) == ("reachable", ERROR)


def test_a_store_that_it_knows_nothing_of() -> None:
    assert list(found(MemoryStore())) == ["reachable"]


def test_a_directory_with_little_space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = FileStore(tmp_path / "sessions")
    monkeypatch.setattr(doctor, "_FREE_BYTES", 2**80)  # more than any disk has

    findings = found(store)

    assert findings["space"].severity is WARNING
    assert findings["permissions"].severity is OK


@pytest.mark.parametrize(
    ("mode", "severity", "says"),
    [
        (0o600, OK, "nobody else"),
        (0o640, WARNING, "1 file or directory is open to its group; if FileStore's mode"),
        (0o604, ERROR, "1 file or directory is open to others; run chmod -R go="),
        (0o700, ERROR, "open to others"),
    ],
)
def test_files_that_others_can_read(
    tmp_path: Path, mode: int, severity: Severity, says: str
) -> None:
    store = FileStore(tmp_path / "sessions")
    now = time.time()
    store.insert("a" * 64, Record({}, b"", now, now + 1000))
    next(store.path.rglob("a" * 64)).chmod(mode)

    finding = found(store)["permissions"]

    assert finding.severity is severity
    assert says in finding.text


@pytest.mark.parametrize(
    ("mode", "says"),
    [
        (0o640, "2 files or directories are open to their group; if FileStore's mode"),
        (0o604, "2 files or directories are open to others; run chmod -R go="),
    ],
)
def test_several_files_that_others_can_read(tmp_path: Path, mode: int, says: str) -> None:
    store = FileStore(tmp_path / "sessions")
    now = time.time()
    for key in ("a" * 64, "b" * 64):
        store.insert(key, Record({}, b"", now, now + 1000))
        next(store.path.rglob(key)).chmod(mode)

    assert says in found(store)["permissions"].text


def test_expired_sessions_that_nobody_purges(tmp_path: Path) -> None:
    store = FileStore(tmp_path / "sessions")
    now = time.time()
    store.insert("a" * 64, Record({}, b"", now, now + 1000))
    assert found(store)["overdue"].severity is OK

    store.insert("b" * 64, Record({}, b"", now - 9000, now - 8000))

    finding = found(store)["overdue"]
    assert finding.severity is WARNING
    assert "nobody has purged: 1 of 2; expired for more than an hour: 1; run" in finding.text
    assert "purge" in finding.text


def test_expired_sessions_that_outnumber_the_live_ones() -> None:
    now = 1_000_000.0

    assert doctor.overdue([now + 1, now - 1] * 200, now).severity is OK
    assert doctor.overdue([now + 1, now - 1, now - 1] * 200, now).severity is WARNING
    assert doctor.overdue([now + 1, now - 1, now - 1], now).severity is OK
    assert doctor.overdue([], now).severity is OK


def test_a_file_that_goes_while_the_doctor_looks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = FileStore(tmp_path / "sessions")
    seen: list[tuple[str, list[str], list[str]]] = [(str(store.path), [], ["gone"])]
    monkeypatch.setattr(os, "walk", lambda path: seen)

    assert found(store)["permissions"].severity is OK
