"""How FileStore cleans up along the way: everything goes in time, and no request waits for it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from records import NOW, a_key, a_record
from wsgi_sessions.errors import StoreError
from wsgi_sessions.record import Changes, UpdateResult
from wsgi_sessions.stores import FileStore
from wsgi_sessions.stores.file import cleaning

DAY = 24 * 60 * 60.0
ROUND = cleaning.EVERY * 256
"""Writes; as many as a round through all sub-directories takes, if each holds a few files."""


@pytest.fixture
def store(tmp_path: Path) -> FileStore:
    return FileStore(tmp_path / "sessions")


def in_shard(shard: str, number: int) -> str:
    return f"{shard}{number:062x}"


def expired(at: float = NOW - 40 * DAY) -> Any:
    return a_record(used_at=at - 1000, expires_at=at)


def write(store: FileStore, times: int, now: float = NOW) -> None:
    """As many requests that write to one session."""
    key = a_key()
    store.insert(key, a_record(used_at=now, expires_at=now + DAY))
    for number in range(times - 1):
        store.update(key, Changes(used_at=now, expires_at=now + DAY + number))


def files(store: FileStore) -> set[str]:
    return {
        path.name for path in store.path.rglob("*") if path.name not in ("lock", ".wsgi-sessions")
    } - {f"{number:02x}" for number in range(256)}


def test_s4_what_expired_long_ago_is_gone_after_some_requests(store: FileStore) -> None:
    for _ in range(300):
        store.insert(a_key(), expired())
    for _ in range(1000):
        store.insert(a_key(), a_record())

    assert len(list(store.keys())) == 1000
    assert len(files(store)) == 1000


def test_requests_that_only_touch_clean_up_as_well(store: FileStore) -> None:
    for _ in range(300):
        store.insert(a_key(), expired())
    write(store, ROUND + 1)

    assert len(list(store.keys())) == 1


def test_a_write_looks_at_a_few_files_only(store: FileStore) -> None:
    for number in range(200):
        store.insert(in_shard("01", number), expired())
    key, left = a_key(), [200]
    store.insert(key, a_record())
    for number in range(2 * ROUND):
        store.update(key, Changes(used_at=NOW, expires_at=NOW + 1 + number))
        left.append(len(store._sessions.names("01")))
    steps = [before - after for before, after in zip(left, left[1:], strict=False)]

    assert 0 < max(steps) <= cleaning.FEW
    assert all(not (one and two) for one, two in zip(steps, steps[1:], strict=False))
    assert left[-1] == 0


def test_many_in_one_sub_directory_all_go(store: FileStore) -> None:
    for number in range(500):
        store.insert(in_shard("ab", number), expired())
    write(store, 2 * ROUND)

    assert len(list(store.keys())) == 1


def test_nothing_that_lives_goes(store: FileStore) -> None:
    keys = [a_key() for _ in range(300)]
    for key in keys:
        store.insert(key, a_record(expires_at=NOW + 1))
    write(store, ROUND)

    assert set(keys) <= set(store.keys())


def test_a_file_goes_by_the_times_inside(store: FileStore) -> None:
    key = in_shard("01", 1)
    store.insert(key, a_record())
    os.utime(store.path / "01" / key, (1, 1))
    write(store, ROUND)

    assert store.load(key) is not None


def test_leftovers_of_crashes_and_damage_go_too(store: FileStore) -> None:
    store.insert(in_shard("01", 1), expired())
    temporary = store.path / "01" / f"01.{'0' * 16}.tmp"
    temporary.write_bytes(b"half of a session")
    damaged = store.path / "01" / (in_shard("01", 2) + ".damaged")
    damaged.write_bytes(b"damaged")
    os.utime(damaged, (NOW - DAY, NOW - DAY))
    foreign = store.path / "01" / "README"
    foreign.write_text("theirs")
    os.utime(foreign, (1, 1))
    write(store, ROUND)

    assert not temporary.exists()
    assert not damaged.exists()
    assert foreign.exists()


def test_what_is_in_place_of_a_file_stays(store: FileStore) -> None:
    store.insert(in_shard("01", 1), a_record())
    (store.path / "01" / in_shard("01", 2)).mkdir()
    write(store, ROUND)

    assert (store.path / "01" / in_shard("01", 2)).is_dir()


def test_nobody_waits_for_a_sub_directory_that_is_being_written(store: FileStore) -> None:
    store.insert(in_shard("01", 1), expired())
    with store._sessions.locked("01"):
        write(store, 2 * ROUND)
        left = len(list(store.keys()))
    write(store, ROUND)

    assert left == 2
    assert in_shard("01", 1) not in list(store.keys())


def test_a_write_that_is_done_is_not_failed_by_the_cleaning(
    store: FileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = a_key()
    store.insert(key, a_record())
    for shard in range(256):
        store.insert(in_shard(f"{shard:02x}", 1), expired())
    unlink = os.unlink

    def fail(path: str) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "unlink", fail)
    results = {store.update(key, Changes(used_at=NOW + n / 1000)) for n in range(ROUND)}
    monkeypatch.setattr(os, "unlink", unlink)
    write(store, 2 * ROUND)

    assert results == {UpdateResult.UPDATED}
    assert len(list(store.keys())) == 2


def test_a_file_that_cannot_be_opened_keeps_no_other(
    store: FileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as one that root has left there."""
    names = [in_shard("01", number) for number in range(10)]
    for name in names:
        store.insert(name, expired())
    theirs = store.path / "01" / names[5]
    open_file = os.open

    def refuse(path: str, *args: Any, **options: Any) -> int:
        if path == str(theirs):
            raise PermissionError(13, "Permission denied", path)
        return open_file(path, *args, **options)

    monkeypatch.setattr(os, "open", refuse)
    write(store, ROUND)
    in_passing = set(store.keys()) & set(names)
    for name in names[:5]:
        store.insert(name, expired())
    with pytest.raises(StoreError, match=rf"Permission denied: '{theirs}'"):
        store.purge_expired(NOW)

    assert in_passing == {theirs.name}
    assert set(store.keys()) & set(names) == {theirs.name}


def spoil_lock(store: FileStore, monkeypatch: pytest.MonkeyPatch) -> str:
    """As somebody may leave it there. What the error says."""
    lock = store.path / "01" / "lock"
    lock.unlink()
    lock.symlink_to("/nowhere")
    return str(lock)


def close_directory(store: FileStore, monkeypatch: pytest.MonkeyPatch) -> str:
    """As if it were root's. What the error says."""
    theirs = str(store.path / "01")

    def refusing(call: Any) -> Any:
        def refuse(path: str, *args: Any, **options: Any) -> Any:
            if str(path).startswith(theirs):
                raise PermissionError(13, "Permission denied", theirs)
            return call(path, *args, **options)

        return refuse

    for name in ("open", "scandir", "listdir"):
        monkeypatch.setattr(os, name, refusing(getattr(os, name)))
    return theirs


SPREAD = {in_shard(f"{shard:02x}", number) for shard in (0, 1, 2, 255) for number in (1, 2)}
"""Keys in several sub-directories."""
SPOILT = pytest.mark.parametrize("spoil", [spoil_lock, close_directory])


@SPOILT
def test_a_sub_directory_that_cannot_be_used_keeps_no_other(
    store: FileStore, monkeypatch: pytest.MonkeyPatch, spoil: Any
) -> None:
    for name in SPREAD:
        store.insert(name, expired())
    theirs = spoil(store, monkeypatch)
    kept = {name for name in SPREAD if name.startswith("01")}
    if spoil is close_directory:
        with pytest.raises(StoreError, match=theirs):
            list(store.keys())

    with pytest.raises(StoreError, match=theirs):
        store.purge_expired(NOW)
    monkeypatch.undo()
    assert set(store.keys()) == kept


@SPOILT
def test_nor_does_it_when_all_are_removed(
    store: FileStore, monkeypatch: pytest.MonkeyPatch, spoil: Any
) -> None:
    for name in SPREAD:
        store.insert(name, a_record())
    theirs = spoil(store, monkeypatch)

    with pytest.raises(StoreError, match=theirs):
        store.clear()
    monkeypatch.undo()
    assert set(store.keys()) == {name for name in SPREAD if name.startswith("01")}


def test_all_keys_that_can_be_listed_are(store: FileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    names = {in_shard(f"{shard:02x}", 1) for shard in (0, 1, 2, 255)}
    for name in names:
        store.insert(name, a_record())
    theirs = close_directory(store, monkeypatch)
    found = []

    with pytest.raises(StoreError, match=theirs):
        for name in store.keys():  # noqa: SIM118 # a store is no mapping
            found.append(name)  # noqa: PERF402 # it raises in the end
    assert set(found) == {name for name in names if not name.startswith("01")}


@SPOILT
def test_no_request_fails_of_it(
    store: FileStore, monkeypatch: pytest.MonkeyPatch, spoil: Any
) -> None:
    key = in_shard("77", 1)
    store.insert(key, a_record(used_at=NOW, expires_at=NOW + DAY))
    store.insert(in_shard("01", 1), expired())
    other = FileStore(store.path)  # which begins its round anew
    spoil(store, monkeypatch)

    results = {other.update(key, Changes(used_at=NOW + n / 1000)) for n in range(ROUND)}
    monkeypatch.undo()
    assert results == {UpdateResult.UPDATED}
    assert set(store.keys()) == {key, in_shard("01", 1)}


class Looks:
    """Counts what a round looks at."""

    def __init__(self, patch: pytest.MonkeyPatch, store: FileStore) -> None:
        self.listed = self.files = 0
        directory = store._sessions
        all_names, modified_ns = directory.all_names, directory.modified_ns

        def list_names(shard: str) -> list[str]:
            self.listed += 1
            return all_names(shard)

        def look(name: str) -> int | None:
            self.files += 1
            return modified_ns(name)

        patch.setattr(directory, "all_names", list_names)
        patch.setattr(directory, "modified_ns", look)


def test_where_nothing_can_have_expired_nothing_is_looked_at(
    store: FileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    another_process = FileStore(store.path)
    for _ in range(300):
        another_process.insert(a_key(), a_record(expires_at=NOW + 600))
    write(store, ROUND)
    looks = Looks(monkeypatch, store)
    write(store, ROUND, now=NOW + 599)
    quiet = looks.listed, looks.files
    write(store, ROUND, now=NOW + 600)

    assert quiet[1] <= 1  # the session that `write` made since
    assert looks.files >= 300
    assert len(list(store.keys())) == 3


def test_after_an_hour_it_looks_again(store: FileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Because other processes write to the same directory."""
    write(store, ROUND)
    FileStore(store.path).insert(in_shard("01", 1), expired(NOW + 10))
    write(store, ROUND, now=NOW + 3599)
    quiet = store.load(in_shard("01", 1)) is not None
    write(store, ROUND, now=NOW + 3601)

    assert quiet
    assert in_shard("01", 1) not in list(store.keys())


def test_a_clock_that_was_set_back_makes_nothing_quiet(store: FileStore) -> None:
    write(store, ROUND, now=NOW + 400 * DAY)
    store.insert(in_shard("01", 1), expired())
    write(store, ROUND)

    assert in_shard("01", 1) not in list(store.keys())


def test_a_file_that_goes_meanwhile_is_nothing_to_worry_about(
    store: FileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.insert(in_shard("01", 1), expired())
    all_names = store._sessions.all_names

    def list_names(shard: str) -> list[str]:
        return [*all_names(shard), in_shard(shard, 99)]

    monkeypatch.setattr(store._sessions, "all_names", list_names)
    write(store, ROUND)

    assert len(list(store.keys())) == 1
    assert store._sessions.modified_ns(in_shard("01", 99)) is None
    assert store._sessions.modified_ns(f"01.{'0' * 16}.tmp") == 0
