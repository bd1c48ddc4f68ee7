"""FileStore: the contract, and what only files can do: crash, fill up, be tampered with, vanish."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import math
import os
import pickle
import random
import resource
import shutil
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn
from zlib import crc32

import pytest

from effort import ROUNDS, tries
from wsgi_sessions.errors import ConfigurationError, StoreError
from wsgi_sessions.record import Changes, OwnedEntry, Record, UpdateResult
from wsgi_sessions.stores import FileStore, Store, directory, file
from wsgi_sessions.testing import FakeClock, StoreContract

UPDATED, GONE, CONFLICT = UpdateResult.UPDATED, UpdateResult.GONE, UpdateResult.CONFLICT
NOW = 1_700_000_000.0
LATER = NOW + 1000
DAY = 24 * 60 * 60.0
NOBODY = 65534

CRASHES = tries(test=20, check=200, everything=4000)
"""How many writers are killed; thousands in a long run."""
FILES = tries(test=1000, check=5000, everything=100_000)
"""How many files are purged at once; a hundred thousand in a long run."""


def key(number: int) -> str:
    return hashlib.sha256(b"%d" % number).hexdigest()


def record(
    fields: dict[str, bytes] | None = None,
    *,
    used_at: float = NOW,
    expires_at: float = LATER,
    owner: str | None = None,
    version: int = 1,
) -> Record:
    return Record(fields or {"a": b"1"}, b"notes", used_at, expires_at, version, owner)


def touch(expires_at: float, used_at: float = NOW) -> Changes:
    return Changes(used_at=used_at, expires_at=expires_at)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "sessions"


@pytest.fixture
def store(root: Path) -> FileStore:
    return FileStore(root)


@pytest.fixture
def told(store: FileStore) -> list[tuple[str, str]]:
    events: list[tuple[str, str]] = []
    store.subscribe(lambda kind, at, detail: events.append((kind, at)))
    return events


def file_of(root: Path, number: int) -> Path:
    return root / key(number)[:2] / key(number)


def index_of(root: Path, owner: str) -> Path:
    name = hashlib.sha256(owner.encode()).hexdigest()
    return root / "owners" / name[:2] / name


def files(root: Path) -> set[str]:
    """All files but the locks, relative to the root."""
    return {
        str(path.relative_to(root))
        for path in root.rglob("*")
        if not path.is_dir() and path.name != "lock"
    }


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


class Calls(list[tuple[str, str]]):
    """System calls in the order in which they were made: name, and the file's name."""

    def names(self) -> list[str]:
        return [name for name, _ in self]


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    made = Calls()
    opened: dict[int, str] = {}

    def watch(name: str) -> None:
        original = getattr(os, name)

        def call(first: Any, *args: Any, **kwargs: Any) -> Any:
            shown = opened.get(first, "?") if isinstance(first, int) else Path(first).name
            made.append((name, shown))
            result = original(first, *args, **kwargs)
            if name == "open":
                opened[result] = shown
            return result

        monkeypatch.setattr(os, name, call)

    for name in (
        *("open", "read", "write", "close", "stat", "lstat", "fstat", "replace", "unlink"),
        *("utime", "fchmod", "fsync", "pread", "pwrite", "mkdir", "chmod"),
    ):
        watch(name)
    return made


class TestContract(StoreContract):
    rounds = ROUNDS

    @pytest.fixture(autouse=True)
    def _root(self, root: Path) -> None:
        self.root = root

    def make_store(self) -> Store:
        return FileStore(self.root)


class TestContractDurable(StoreContract):
    """fsync changes what is on the disk, not what is answered; so on the fastest disk there is."""

    @pytest.fixture(autouse=True)
    def _root(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root = root
        monkeypatch.setattr(os, "fsync", lambda file: None)

    def make_store(self) -> Store:
        return FileStore(self.root, durable=True)


class TestSettings:
    def test_the_directory_is_made_with_its_parents(self, tmp_path: Path) -> None:
        store = FileStore(tmp_path / "a" / "b" / "c")
        store.ping()

        assert [mode_of(tmp_path / part) for part in ("a", "a/b", "a/b/c")] == [0o700] * 3

    def test_a_path_may_be_a_str(self, tmp_path: Path) -> None:
        assert FileStore(str(tmp_path / "x")).path == tmp_path / "x"

    def test_a_relative_path_stays_where_it_was(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        store = FileStore("var/sessions")
        store.insert(key(1), record())
        monkeypatch.chdir("/")

        assert store.load(key(1)) == record()
        assert file_of(tmp_path / "var" / "sessions", 1).is_file()

    @pytest.mark.parametrize("path", ["", b"/tmp/x", None, 1, "a\0b", ["x"]])
    def test_a_path_that_is_none_is_refused(self, path: Any) -> None:
        with pytest.raises(ConfigurationError, match="FileStore: path is .*; write the path"):
            FileStore(path)

    @pytest.mark.parametrize("durable", [1, 0, None, "yes"])
    def test_durable_is_true_or_false(self, root: Path, durable: Any) -> None:
        with pytest.raises(ConfigurationError, match="durable is"):
            FileStore(root, durable=durable)

    @pytest.mark.parametrize("mode", [0o400, 0o644, 0o666, 0o700, 0o1600, 0, True, "0600", None])
    def test_a_mode_that_opens_or_closes_too_much_is_refused(self, root: Path, mode: Any) -> None:
        with pytest.raises(ConfigurationError, match="mode is .*; write 0o600"):
            FileStore(root, mode=mode)

    def test_an_unknown_option_is_refused(self, root: Path) -> None:
        with pytest.raises(ConfigurationError, match="write durable"):
            FileStore(root, durabel=True)  # type: ignore[call-arg] # that is the mistake

    def test_a_symlink_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "real").mkdir(mode=0o700)
        (tmp_path / "link").symlink_to(tmp_path / "real")

        for path in (tmp_path / "link", f"{tmp_path}/link/"):
            with pytest.raises(ConfigurationError, match="a symlink; name the directory itself"):
                FileStore(path)

    def test_a_dangling_symlink_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "link").symlink_to(tmp_path / "nowhere")

        with pytest.raises(ConfigurationError):
            FileStore(tmp_path / "link")
        assert not (tmp_path / "nowhere").exists()

    @pytest.mark.parametrize("mode", [0o777, 0o1777, 0o770, 0o707, 0o720, 0o702])
    def test_a_directory_that_others_can_write_to_is_refused(
        self, tmp_path: Path, mode: int
    ) -> None:
        tmp_path.chmod(mode)

        with pytest.raises(ConfigurationError, match=r"open for others .*chmod it to 0700"):
            FileStore(tmp_path)

    def test_the_directory_for_temporary_files_is_refused(self) -> None:
        with pytest.raises(ConfigurationError):
            FileStore("/tmp")

    def test_a_directory_of_somebody_else_is_refused(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(os, "geteuid", lambda: NOBODY)

        with pytest.raises(ConfigurationError, match="run as that user"):
            FileStore(tmp_path)

    def test_a_file_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("x")

        with pytest.raises(ConfigurationError, match="no directory"):
            FileStore(tmp_path / "file")
        with pytest.raises(ConfigurationError, match="can't be made"):
            FileStore(tmp_path / "file" / "sessions")

    @pytest.mark.parametrize("name", ["00", "ff", "owners", "owners/a0"])
    def test_a_symlink_out_of_the_store_is_refused(self, tmp_path: Path, name: str) -> None:
        (tmp_path / "sessions").mkdir(mode=0o700)
        (tmp_path / "elsewhere").mkdir()
        link = tmp_path / "sessions" / name
        link.parent.mkdir(exist_ok=True)
        link.symlink_to(tmp_path / "elsewhere")

        with pytest.raises(ConfigurationError, match="leads out of the store"):
            FileStore(tmp_path / "sessions")

    def test_a_platform_without_locks_is_told(
        self, root: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "fcntl", None)

        with pytest.raises(ConfigurationError, match="use RedisStore or MemoryStore"):
            FileStore(root)

    def test_repr_names_the_directory(self, root: Path) -> None:
        assert repr(FileStore(root)) == f"FileStore({str(root)!r}, durable=False)"


class TestPermissions:
    @pytest.mark.parametrize("mask", [0, 0o022, 0o077, 0o777])
    @pytest.mark.parametrize("mode", [0o600, 0o640])
    def test_the_umask_changes_nothing(self, tmp_path: Path, mask: int, mode: int) -> None:
        before = os.umask(mask)
        try:
            store = FileStore(tmp_path / "a" / "b", mode=mode)
            store.insert(key(1), record(owner="42"))
            store.update(key(1), Changes(set={"a": b"2"}))
            store.add_owned("42", key(1), LATER)
            store.replace(key(1), key(2), record())
        finally:
            os.umask(before)
        made = list((tmp_path / "a").rglob("*"))
        directories = {mode_of(path) for path in made if path.is_dir()}

        assert len(made) > 6
        assert directories == {0o700}
        assert {mode_of(path) for path in made if path.is_file()} == {mode}

    def test_a_file_is_named_by_its_key_alone(self, store: FileStore, root: Path) -> None:
        store.insert(key(1), record(owner="../../alice"))
        store.add_owned("../../alice", key(1), LATER)

        assert files(root) == {
            f"{key(1)[:2]}/{key(1)}",
            str(index_of(root, "../../alice").relative_to(root)),
        }
        assert b"alice" not in index_of(root, "../../alice").read_bytes()

    def test_there_is_a_fixed_number_of_locks(self, store: FileStore, root: Path) -> None:
        for number in range(2000):
            store.load(key(number))
            store.update(key(number), Changes(set={"a": b"1"}))
            store.delete(key(number))
        idle = list(root.rglob("*"))
        for number in range(1000):
            store.insert(key(number), record())
            store.delete(key(number))

        assert idle == []
        assert files(root) == set()
        assert len(list(root.rglob("lock"))) <= 256


class TestCost:
    """What a call costs is counted in system calls, because time on a busy machine tells nothing."""

    def test_reading_is_one_open_one_read_and_one_close(
        self, store: FileStore, calls: Calls
    ) -> None:
        for size in (1, 100, 100_000):
            store.insert(key(size), record({"a": bytes(size)}))
            calls.clear()
            store.load(key(size))

            assert calls.names() == ["open", "read", "close"]

    def test_a_touch_writes_the_times_in_place(
        self, store: FileStore, root: Path, calls: Calls
    ) -> None:
        store.insert(key(1), record({"a": bytes(100_000)}))
        path = file_of(root, 1)
        before, content = path.stat(), path.read_bytes()
        calls.clear()
        store.update(key(1), touch(NOW + 5000))
        made = calls.names()
        after = path.stat()
        different = [
            at
            for at, (old, new) in enumerate(zip(content, path.read_bytes(), strict=True))
            if old != new
        ]

        assert not {"write", "replace", "read"} & set(made)
        assert made.count("pwrite") == made.count("utime") == 1
        assert (after.st_ino, after.st_size) == (before.st_ino, before.st_size)
        assert after.st_mtime == NOW + 5000
        assert len(different) <= 20

    def test_a_purge_opens_no_live_session(self, store: FileStore, calls: Calls) -> None:
        for number in range(100):
            store.insert(key(number), record(expires_at=NOW + 10 if number < 3 else LATER))
        calls.clear()
        store.purge_expired(NOW + 20)
        opened = {name for call, name in calls if call == "open" and len(name) == 64}

        assert opened == {key(0), key(1), key(2)}

    def test_a_write_makes_one_file_and_renames_it(self, store: FileStore, calls: Calls) -> None:
        store.insert(key(1), record())
        calls.clear()
        store.update(key(1), Changes(set={"a": b"2"}))
        made = calls.names()

        assert made.count("write") == made.count("replace") == 1
        assert "fsync" not in made

    def test_readers_wait_for_no_lock(self, store: FileStore) -> None:
        store.insert(key(1), record())
        with store._sessions.locked(key(1)):
            loaded = store.load(key(1))

        assert loaded == record()


class TestDurable:
    def test_data_is_on_the_disk_before_its_name(self, root: Path, calls: Calls) -> None:
        store = FileStore(root, durable=True)
        store.insert(key(1), record())
        calls.clear()
        store.update(key(1), Changes(set={"a": b"2"}))
        order = [call for call in calls if call[0] in ("write", "fsync", "replace")]
        (_, temporary), *_ = order

        assert temporary.endswith(".tmp")
        assert order == [
            ("write", temporary),
            ("fsync", temporary),
            ("replace", temporary),
            ("fsync", key(1)[:2]),
        ]

    def test_a_removal_is_on_the_disk(self, root: Path, calls: Calls) -> None:
        store = FileStore(root, durable=True)
        store.insert(key(1), record())
        calls.clear()
        store.delete(key(1))

        assert [call for call in calls if call[0] in ("unlink", "fsync")] == [
            ("unlink", key(1)),
            ("fsync", key(1)[:2]),
        ]

    def test_the_new_session_is_on_the_disk_before_the_old_one_goes(
        self, root: Path, calls: Calls
    ) -> None:
        store = FileStore(root, durable=True)
        store.insert(key(1), record())
        store.insert(key(2), record())
        store.delete(key(2))
        calls.clear()
        store.replace(key(1), key(2), record())
        order = [call for call in calls if call[0] in ("fsync", "replace", "unlink")]
        (_, temporary), *_ = order

        assert order == [
            ("fsync", temporary),
            ("replace", temporary),
            ("fsync", key(2)[:2]),
            ("unlink", key(1)),
            ("fsync", key(1)[:2]),
        ]

    def test_a_touch_is_on_the_disk(self, root: Path, calls: Calls) -> None:
        store = FileStore(root, durable=True)
        store.insert(key(1), record())
        calls.clear()
        store.update(key(1), touch(NOW + 5000))

        assert [call for call in calls if call[0] in ("pwrite", "utime", "fsync")] == [
            ("pwrite", key(1)),
            ("utime", key(1)),
            ("fsync", key(1)),
        ]

    def test_a_new_sub_directory_is_on_the_disk(self, root: Path, calls: Calls) -> None:
        store = FileStore(root, durable=True)
        store.insert(key(1), record())
        synced = [name for call, name in calls if call == "fsync"]

        assert synced[0] == "sessions"


class TestExpiry:
    def test_the_times_inside_decide(self, store: FileStore, root: Path) -> None:
        store.insert(key(1), record())
        for at in (0, 2**33):
            os.utime(file_of(root, 1), (at, at))
            assert store.load(key(1)) == record()
            assert store.update(key(1), Changes(used_at=NOW)) is UPDATED

        assert store.update(key(1), touch(LATER + 5000, used_at=LATER)) is GONE

    def test_a_purge_spares_what_lives_by_the_times_inside(
        self, store: FileStore, root: Path
    ) -> None:
        """As a touch leaves it that was killed between writing and dating, or a restored backup."""
        store.insert(key(1), record())
        os.utime(file_of(root, 1), (NOW - 5, NOW - 5))

        assert store.purge_expired(NOW) == 0
        assert store.load(key(1)) == record()
        assert file_of(root, 1).stat().st_mtime == LATER
        assert store.purge_expired(LATER) == 1

    def test_the_modification_time_is_the_deadline(self, store: FileStore, root: Path) -> None:
        store.insert(key(1), record(expires_at=NOW + 0.5))
        inserted = file_of(root, 1).stat().st_mtime
        store.update(key(1), Changes(set={"a": b"2"}, used_at=NOW, expires_at=NOW + 1.5))
        updated = file_of(root, 1).stat().st_mtime
        store.update(key(1), touch(NOW + 2.5))

        assert (inserted, updated) == (NOW + 0.5, NOW + 1.5)
        assert file_of(root, 1).stat().st_mtime == NOW + 2.5

    @pytest.mark.parametrize(
        "at", [NOW, NOW + 0.1, NOW + 1 / 3, NOW + 0.9999999, 1e-9, 0.0, -5.0, 2.0**32 + 0.3]
    )
    def test_a_record_goes_at_its_deadline_and_not_before(
        self, store: FileStore, at: float
    ) -> None:
        before = math.nextafter(at, -math.inf)
        if at > 1:
            store.insert(key(1), record(expires_at=at))
            assert store.purge_expired(before) == 0
            assert store.delete(key(1))
        store.insert(key(2), record(expires_at=at))

        assert store.purge_expired(at) == 1

    @pytest.mark.parametrize("at", [math.inf, 1e300, 2.0**40])
    def test_a_deadline_beyond_all_time_is_kept(self, store: FileStore, at: float) -> None:
        store.insert(key(1), record(expires_at=at))

        assert store.purge_expired(NOW * 2) == 0
        assert store.load(key(1)) == record(expires_at=at)
        assert store.purge_expired(at) == 1

    def test_a_deadline_that_is_no_time_is_refused(self, store: FileStore, root: Path) -> None:
        with pytest.raises(StoreError, match="NaN"):
            store.insert(key(1), record(expires_at=math.nan))
        assert files(root) == set()

    def test_a_touch_may_bring_the_deadline_nearer(self, store: FileStore) -> None:
        store.insert(key(1), record())
        store.update(key(1), touch(NOW + 10))

        assert store.purge_expired(NOW + 10) == 1

    def test_only_whole_slices_are_locked(
        self, store: FileStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Of many that expired in one sub-directory, a few go before a request gets its turn."""
        numbers = [n for n in range(60_000) if key(n).startswith("ab")][:200]
        for number in numbers:
            store.insert(key(number), record(expires_at=NOW))
        live = next(n for n in range(60_000, 120_000) if key(n).startswith("ab"))
        store.insert(key(live), record())
        held: list[int] = []
        unlink = os.unlink

        def count(path: str) -> None:
            held[-1] += 1
            unlink(path)

        locked = directory.Directory.locked

        @contextlib.contextmanager
        def watch(self: directory.Directory, *names: str) -> Iterator[None]:
            held.append(0)
            with locked(self, *names):
                yield

        monkeypatch.setattr(os, "unlink", count)
        monkeypatch.setattr(directory.Directory, "locked", watch)

        assert store.purge_expired(NOW) == 200
        assert sum(held) == 200
        assert max(held) <= 64
        assert store.load(key(live)) == record()


class TestManyFiles:
    def test_a_purge_of_many_stops_no_request(self, store: FileStore) -> None:
        live = key(-1)
        store.insert(live, record())
        for number in range(FILES):
            store.insert(key(number), record(expires_at=NOW))
        results: list[UpdateResult | None] = []
        purging, purged = threading.Event(), threading.Event()

        def request() -> None:
            purging.wait()
            while not purged.is_set():
                results.append(store.update(live, Changes(set={"a": b"2"}, used_at=NOW)))
                results.append(None if store.load(live) else GONE)

        visitor = threading.Thread(target=request)
        visitor.start()
        purging.set()
        count = store.purge_expired(NOW)
        purged.set()
        visitor.join()

        assert count == FILES
        assert set(results) == {UPDATED, None}
        assert len(results) > FILES / 1000
        assert list(store.keys()) == [live]


class TestDamage:
    """What can't be read as a whole is no session, is moved aside, and is never executed."""

    def damaged(self, store: FileStore, root: Path, content: bytes) -> None:
        path = file_of(root, 1)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
        os.utime(path, (LATER, LATER))

    def sound(self, store: FileStore, root: Path) -> bytes:
        store.insert(key(1), record({"a": b"value", "b": b""}, owner="42"))
        return file_of(root, 1).read_bytes()

    @pytest.mark.parametrize(
        "content",
        [
            b"",
            b"\0",
            b"\0" * 1000,
            b"WSF1",
            b"hello, world",
            b"{}",
            pickle.dumps({"a": 1}),
            os.urandom(500),
            bytes(directory._FIRST_READ),
        ],
        ids=["empty", "nul", "zeros", "magic", "text", "json", "pickle", "noise", "large"],
    )
    def test_what_is_no_record_is_moved_aside(
        self, store: FileStore, root: Path, told: list[tuple[str, str]], content: bytes
    ) -> None:
        self.damaged(store, root, content)

        assert store.load(key(1)) is None
        assert told == [("corrupt_record", key(1))]
        assert file_of(root, 1).with_suffix(".damaged").read_bytes() == content
        assert list(store.keys()) == []
        assert store.load(key(1)) is None
        assert len(told) == 1
        assert store.insert(key(1), record())
        assert store.load(key(1)) == record()

    @pytest.mark.parametrize("times", [True, False], ids=["touch", "data"])
    def test_updating_it_says_gone(
        self, store: FileStore, root: Path, told: list[tuple[str, str]], times: bool
    ) -> None:
        self.damaged(store, root, b"nonsense")
        changes = touch(LATER) if times else Changes(set={"a": b"1"})

        assert store.update(key(1), changes) is GONE
        assert told == [("corrupt_record", key(1))]
        assert store.load(key(1)) is None

    def test_replacing_it_says_gone(
        self, store: FileStore, root: Path, told: list[tuple[str, str]]
    ) -> None:
        self.damaged(store, root, b"nonsense")

        assert store.replace(key(1), key(2), record()) is GONE
        assert store.load(key(2)) is None
        assert told == [("corrupt_record", key(1))]

    @pytest.mark.parametrize(
        "kept", [0, file._HEAD.size + 1], ids=["nothing left", "the times left"]
    )
    def test_deleting_a_version_of_it_says_no(
        self, store: FileStore, root: Path, told: list[tuple[str, str]], kept: int
    ) -> None:
        content = self.sound(store, root)
        self.damaged(store, root, content[:kept])

        assert store.delete(key(1), if_version=1) is False
        assert told == [("corrupt_record", key(1))]

    def test_what_goes_before_a_second_look_is_not_reported(
        self,
        store: FileStore,
        root: Path,
        told: list[tuple[str, str]],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        self.damaged(store, root, b"nonsense")
        gone_before_the_lock(store, root, monkeypatch)

        assert store.load(key(1)) is None
        assert told == []

    def test_what_goes_before_its_turn_is_neither_deleted_nor_purged(
        self, store: FileStore, root: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        gone_before_the_lock(store, root, monkeypatch)

        store.insert(key(1), record())
        file_of(root, 1).touch()
        assert store.delete(key(1), if_version=1) is False
        monkeypatch.undo()
        store.insert(key(1), record())
        gone_before_the_lock(store, root, monkeypatch)
        assert store.purge_expired(LATER) == 0

    def test_a_file_that_goes_while_its_directory_is_read_is_not_due(
        self, store: FileStore, root: Path
    ) -> None:
        store.insert(key(1), record())
        with os.scandir(file_of(root, 1).parent) as entries:
            (entry,) = (each for each in entries if each.name == file_of(root, 1).name)
        file_of(root, 1).unlink()

        assert not directory._is_due(entry, 0)

    @pytest.mark.parametrize("packed", [b"", b"\0" * 7, b"\xff" * 100])
    def test_a_sound_checksum_alone_makes_no_record(
        self, store: FileStore, root: Path, told: list[tuple[str, str]], packed: bytes
    ) -> None:
        times = file._times(NOW, LATER)
        checksum = file._CRC.pack(crc32(packed))
        self.damaged(store, root, b"".join((file._MAGIC, checksum, times, packed)))

        assert store.load(key(1)) is None
        assert told == [("corrupt_record", key(1))]

    def test_deleting_it_works(self, store: FileStore, root: Path) -> None:
        self.damaged(store, root, b"nonsense")
        assert store.delete(key(1), if_version=1) is False
        self.damaged(store, root, b"nonsense")

        assert store.delete(key(1)) is True

    def test_a_record_cut_short_anywhere_is_none(self, store: FileStore, root: Path) -> None:
        content = self.sound(store, root)
        for length in range(len(content)):
            self.damaged(store, root, content[:length])
            assert store.load(key(1)) is None, length
            self.damaged(store, root, content[:length])
            assert store.update(key(1), Changes(set={"a": b"1"})) is GONE, length

    def test_a_record_with_more_behind_it_is_none(self, store: FileStore, root: Path) -> None:
        self.damaged(store, root, self.sound(store, root) + b"\0")

        assert store.load(key(1)) is None

    def test_a_record_with_any_bit_changed_is_none(self, store: FileStore, root: Path) -> None:
        content = self.sound(store, root)
        for at in range(len(content)):
            for bit in (1, 128):
                changed = bytearray(content)
                changed[at] ^= bit
                self.damaged(store, root, bytes(changed))
                assert store.load(key(1)) is None, at
        self.damaged(store, root, content)

        assert store.load(key(1)) is not None

    def test_a_pickle_is_not_executed(self, store: FileStore, root: Path, tmp_path: Path) -> None:
        class Payload:
            def __reduce__(self) -> tuple[Any, ...]:
                return os.mkdir, (str(tmp_path / "executed"),)

        for content in (pickle.dumps(Payload()), b"WSF1" + pickle.dumps(Payload())):
            self.damaged(store, root, content)
            assert store.load(key(1)) is None
            assert store.purge_expired(LATER) == 0
        assert not (tmp_path / "executed").exists()

    def test_a_huge_file_is_not_read(
        self, store: FileStore, root: Path, told: list[tuple[str, str]], calls: Calls
    ) -> None:
        path = file_of(root, 1)
        path.parent.mkdir()
        with path.open("wb") as file:
            file.truncate(10**12)
        calls.clear()

        assert store.load(key(1)) is None
        assert calls.names().count("read") == 2
        assert told == [("corrupt_record", key(1))]

    def test_a_record_that_is_too_large_is_refused(
        self, store: FileStore, root: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(directory, "MAX_BYTES", 1000)
        store.insert(key(1), record())

        with pytest.raises(StoreError, match="too many for one file"):
            store.update(key(1), Changes(set={"a": bytes(2000)}))
        assert store.load(key(1)) == record()
        assert files(root) == {f"{key(1)[:2]}/{key(1)}"}

    def test_what_was_moved_aside_goes_when_it_would_have_expired(
        self, store: FileStore, root: Path
    ) -> None:
        self.damaged(store, root, b"nonsense")
        store.load(key(1))
        store.purge_expired(LATER - 1)
        kept = files(root)
        store.purge_expired(LATER)

        assert kept == {f"{key(1)[:2]}/{key(1)}.damaged"}
        assert files(root) == set()

    def test_damage_that_nobody_asked_for_goes_by_its_date(
        self, store: FileStore, root: Path
    ) -> None:
        self.damaged(store, root, b"nonsense")
        store.purge_expired(LATER - 1)
        kept = files(root)

        assert kept == {f"{key(1)[:2]}/{key(1)}"}
        assert store.purge_expired(LATER) == 1
        assert files(root) == set()

    def test_a_reader_that_meets_a_touch_halfway_reads_again(
        self, store: FileStore, root: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        store.insert(key(1), record())
        told: list[Any] = []
        store.subscribe(lambda *event: told.append(event))
        read, torn = os.read, [True]

        def halfway(file: int, size: int) -> bytes:
            content = read(file, size)
            return content[:12] + b"\xff" + content[13:] if torn and torn.pop() else content

        monkeypatch.setattr(os, "read", halfway)

        assert store.load(key(1)) == record()
        assert told == []

    def test_a_listener_may_use_the_store(self, store: FileStore, root: Path) -> None:
        self.damaged(store, root, b"nonsense")
        seen: list[bool] = []
        store.subscribe(lambda kind, at, detail: seen.append(store.insert(at, record())))
        store.load(key(1))

        assert seen == [True]
        assert store.load(key(1)) == record()


def gone_before_the_lock(store: FileStore, root: Path, patch: pytest.MonkeyPatch) -> None:
    """Another process removes the first session just before this one gets its lock."""
    lock = store._sessions._flock

    def lock_later(*args: Any) -> None:
        file_of(root, 1).unlink(missing_ok=True)
        lock(*args)

    patch.setattr(store._sessions, "_flock", lock_later)


def make_symlink(path: Path, elsewhere: Path) -> None:
    path.symlink_to(elsewhere)


def make_dangling(path: Path, elsewhere: Path) -> None:
    path.symlink_to(elsewhere.with_name("nowhere"))


def make_fifo(path: Path, elsewhere: Path) -> None:
    os.mkfifo(path)


def make_directory(path: Path, elsewhere: Path) -> None:
    path.mkdir()
    (path / "file").write_text("theirs")


@pytest.mark.parametrize("make", [make_symlink, make_dangling, make_fifo, make_directory])
class TestTraps:
    """In place of a session's file: never followed, never waited for, never removed."""

    @pytest.fixture(autouse=True)
    def _trap(
        self,
        store: FileStore,
        root: Path,
        tmp_path: Path,
        make: Callable[[Path, Path], None],
    ) -> None:
        # What the link points at would be a fine session.
        store.insert(key(1), record())
        self.elsewhere = tmp_path / "elsewhere"
        file_of(root, 1).rename(self.elsewhere)
        make(file_of(root, 1), self.elsewhere)
        self.before = file_of(root, 1).lstat()
        self.content = self.elsewhere.read_bytes()

    def assert_untouched(self, root: Path) -> None:
        assert file_of(root, 1).lstat().st_ino == self.before.st_ino
        assert self.elsewhere.read_bytes() == self.content

    def test_it_is_no_session(
        self, store: FileStore, root: Path, told: list[tuple[str, str]]
    ) -> None:
        assert store.load(key(1)) is None
        assert told == [("corrupt_record", key(1))]
        assert list(store.keys()) == []
        self.assert_untouched(root)

    def test_nothing_is_written_to_it(self, store: FileStore, root: Path) -> None:
        assert store.insert(key(1), record()) is False
        assert store.update(key(1), Changes(set={"a": b"2"})) is GONE
        assert store.update(key(1), touch(LATER)) is GONE
        assert store.replace(key(1), key(2), record()) is GONE
        store.insert(key(3), record())
        with pytest.raises(StoreError):
            store.replace(key(3), key(1), record())
        self.assert_untouched(root)

    def test_it_is_not_removed(self, store: FileStore, root: Path) -> None:
        assert store.delete(key(1)) is False
        assert store.delete(key(1), if_version=1) is False
        assert store.purge_expired(LATER * 2) == 0
        store.clear()
        self.assert_untouched(root)


@pytest.mark.parametrize("make", [make_symlink, make_dangling])
def test_FS_3_a_lock_that_is_a_symlink_is_not_followed(
    store: FileStore, root: Path, tmp_path: Path, make: Callable[[Path, Path], None]
) -> None:
    store.insert(key(1), record())
    lock = file_of(root, 1).with_name("lock")
    lock.unlink()
    make(lock, tmp_path / "elsewhere")

    with pytest.raises(StoreError):
        store.update(key(1), Changes(set={"a": b"2"}))
    assert store.load(key(1)) == record()
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize("make", [make_symlink, make_dangling, make_fifo, make_directory])
def test_what_is_in_place_of_an_index_is_neither_followed_nor_waited_for(
    store: FileStore, root: Path, tmp_path: Path, make: Callable[[Path, Path], None]
) -> None:
    store.insert(key(1), record(owner="42"))
    store.add_owned("42", key(1), LATER)
    elsewhere = tmp_path / "elsewhere"
    index_of(root, "42").rename(elsewhere)
    make(index_of(root, "42"), elsewhere)
    content = elsewhere.read_bytes()
    asks: list[Callable[[], object]] = [
        lambda: store.add_owned("42", key(2), LATER),
        lambda: store.next_generation("42"),
        lambda: store.remove_owned("42", [key(1)]),
    ]
    for ask in asks:
        if make is make_directory:
            with pytest.raises(StoreError):
                ask()
        else:
            ask()

    assert elsewhere.read_bytes() == content
    assert not (tmp_path / "nowhere").exists()
    if make is make_directory:
        assert (index_of(root, "42") / "file").read_text() == "theirs"
    else:
        assert set(store.owned_by("42")) == {key(2)}


class TestForeignFiles:
    @pytest.fixture
    def foreign(self, store: FileStore, root: Path) -> set[str]:
        store.insert(key(1), record(owner="42"))
        store.add_owned("42", key(1), LATER)
        shard, other = key(1)[:2], "ff" if key(1)[:2] != "ff" else "00"
        names = {
            "README",
            ".gitignore",
            key(1),
            f"{shard}/README",
            f"{shard}/x.tmp",
            f"{shard}/.{'0' * 16}.tmp",
            f"{shard}/{shard}.{'0' * 16}.tmp.bak",
            f"{shard}/{key(1).upper()}",
            f"{shard}/{key(1)}.bak",
            f"{shard}/x.damaged",
            f"{other}/{key(1)}",
            f"{other}/{key(1)}.damaged",
            f"zz/{key(1)}",
            f"owners/{key(1)}",
            f"owners/{shard}/notes",
            f"nested/{shard}/{key(1)}",
        }
        for name in names:
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("theirs")
            os.utime(path, (1, 1))
        return names

    def test_they_are_no_sessions(self, store: FileStore, foreign: set[str]) -> None:
        assert list(store.keys()) == [key(1)]

    def test_they_are_never_touched(self, store: FileStore, root: Path, foreign: set[str]) -> None:
        assert store.purge_expired(LATER * 2) == 1
        store.insert(key(1), record())
        store.clear()

        assert files(root) == foreign
        assert {(root / name).read_text() for name in foreign} == {"theirs"}


class TestFailing:
    """Failing is never forgetting: StoreError, and what was there is there."""

    WRITES: dict[str, Callable[[FileStore], object]] = {
        "insert": lambda store: store.insert(key(2), record()),
        "update": lambda store: store.update(key(1), Changes(set={"a": b"2"})),
        "touch": lambda store: store.update(key(1), touch(NOW + 9000)),
        "replace": lambda store: store.replace(key(1), key(2), record()),
        "delete": lambda store: store.delete(key(1)),
        "delete_version": lambda store: store.delete(key(1), if_version=1),
        "add_owned": lambda store: store.add_owned("42", key(2), LATER),
        "remove_owned": lambda store: store.remove_owned("42", [key(1)]),
        "next_generation": lambda store: store.next_generation("42"),
        "purge_expired": lambda store: store.purge_expired(LATER),
        "clear": lambda store: store.clear(),
    }
    READS: dict[str, Callable[[FileStore], object]] = {
        "load": lambda store: store.load(key(1)),
        "keys": lambda store: list(store.keys()),
        "owned_by": lambda store: store.owned_by("42"),
        "generation": lambda store: store.generation("42"),
    }
    MADE_BY = {
        "open": {*WRITES, "load", "owned_by", "generation"},
        "read": {"update", "add_owned", "remove_owned", "next_generation", *READS} - {"keys"},
        "write": {"insert", "update", "replace", "add_owned", "next_generation"},
        "fchmod": {"insert", "update", "replace", "add_owned", "next_generation"},
        "utime": {"insert", "update", "replace", "add_owned", "next_generation", "touch"},
        "replace": {"insert", "update", "replace", "add_owned", "next_generation"},
        "unlink": {"delete", "delete_version", "replace", "remove_owned", "clear"},
        "pread": {"touch", "delete_version", "replace", "purge_expired"},
        "pwrite": {"touch"},
        "scandir": {"purge_expired", "clear", "keys"},
    }

    @pytest.fixture(autouse=True)
    def _session(self, store: FileStore) -> None:
        store.clock = FakeClock(NOW)
        store.insert(key(1), record(owner="42"))
        store.add_owned("42", key(1), LATER)

    def assert_intact(self, store: FileStore, root: Path) -> None:
        loaded = store.load(key(1))
        assert loaded is not None
        assert dict(loaded.fields) == {"a": b"1"}
        assert store.load(key(2)) is None
        assert set(store.owned_by("42")) == {key(1)}
        assert store.generation("42") == 0
        assert len(files(root)) == 2

    @pytest.mark.parametrize(
        "code",
        ["ENOSPC", "EDQUOT", "EIO", "EROFS", "EACCES", "EPERM", "EMFILE", "ENFILE", "ESTALE"],
    )
    @pytest.mark.parametrize("call", sorted(MADE_BY))
    def test_an_error_of_any_system_call_is_a_store_error(
        self,
        store: FileStore,
        root: Path,
        monkeypatch: pytest.MonkeyPatch,
        call: str,
        code: str,
    ) -> None:
        def fail(*args: Any, **kwargs: Any) -> NoReturn:
            number: int = getattr(errno, code)
            raise OSError(number, os.strerror(number))

        for operation in self.MADE_BY[call]:
            ask = {**self.WRITES, **self.READS}[operation]
            with monkeypatch.context() as patch:
                patch.setattr(os, call, fail)
                with pytest.raises(StoreError) as caught:
                    ask(store)

            assert isinstance(caught.value.__cause__, OSError)
            assert caught.value.operation in (operation, "update", "delete")
            # A new session that can't be taken back either stays, under an ID that nobody knows.
            if (call, operation) == ("unlink", "replace"):
                assert store.delete(key(2))
            self.assert_intact(store, root)

    def test_a_lock_that_cannot_be_had_is_a_store_error(
        self, store: FileStore, root: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(*args: Any) -> NoReturn:
            raise OSError(errno.ENOLCK, "No locks available")

        for operation, ask in self.WRITES.items():
            with monkeypatch.context() as patch:
                for part in (store._sessions, store._owners):
                    patch.setattr(part, "_flock", fail)
                with pytest.raises(StoreError):
                    ask(store)
            assert operation
        self.assert_intact(store, root)

    def test_a_short_write_is_continued(
        self, store: FileStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        write = os.write
        monkeypatch.setattr(os, "write", lambda file, content: write(file, content[:7]))
        store.insert(key(2), record({"a": bytes(range(256))}))

        assert store.load(key(2)) == record({"a": bytes(range(256))})

    def test_an_old_session_that_cannot_go_keeps_its_place(
        self, store: FileStore, root: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        unlink = os.unlink

        def fail(path: str) -> None:
            if path.endswith(key(1)):
                raise OSError(errno.EIO, "Input/output error")
            unlink(path)

        monkeypatch.setattr(os, "unlink", fail)

        with pytest.raises(StoreError):
            store.replace(key(1), key(2), record())
        self.assert_intact(store, root)

    def test_beyond_the_size_limit_for_files(self, store: FileStore, root: Path) -> None:
        """RLIMIT_FSIZE, in a process of its own."""

        def child() -> None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
            asks: list[Callable[[], object]] = [
                lambda: store.insert(key(2), record({"a": bytes(10_000)})),
                lambda: store.update(key(1), Changes(set={"a": bytes(10_000)})),
                lambda: store.replace(key(1), key(2), record({"a": bytes(10_000)})),
            ]
            for ask in asks:
                with pytest.raises(StoreError):
                    ask()
            self.assert_intact(store, root)

        in_child(child)
        self.assert_intact(store, root)

    def test_out_of_descriptors(self, store: FileStore, root: Path) -> None:
        def child() -> None:
            resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))
            for ask in (*self.WRITES.values(), *self.READS.values()):
                with pytest.raises(StoreError):
                    ask(store)

        in_child(child)
        self.assert_intact(store, root)

    def test_a_directory_that_may_not_be_written_to(self, tmp_path: Path) -> None:
        def child() -> None:
            store = FileStore(tmp_path / "of-nobody" / "sessions")
            store.insert(key(1), record(owner="42"))
            store.add_owned("42", key(1), LATER)
            for path in (store.path, *store.path.rglob("*")):
                path.chmod(0o500 if path.is_dir() else 0o400)
            for operation, ask in self.WRITES.items():
                with pytest.raises(StoreError):
                    ask(store)
                assert operation
            assert store.load(key(1)) == record(owner="42")
            assert store.load(key(2)) is None
            for path in (store.path, *store.path.rglob("*")):
                path.chmod(0o700)

        (tmp_path / "of-nobody").mkdir()
        in_child(child, as_nobody=tmp_path / "of-nobody")

    def test_a_file_that_may_not_be_read(self, tmp_path: Path) -> None:
        def child() -> None:
            store = FileStore(tmp_path / "of-nobody" / "sessions")
            store.insert(key(1), record())
            file_of(store.path, 1).chmod(0)
            with pytest.raises(StoreError):
                store.load(key(1))
            with pytest.raises(StoreError):
                store.update(key(1), Changes(set={"a": b"2"}))

        (tmp_path / "of-nobody").mkdir()
        in_child(child, as_nobody=tmp_path / "of-nobody")

    @pytest.fixture
    def disk(self, tmp_path: Path) -> Iterator[Path]:
        """A small one, where the system lets us have one."""
        disk = tmp_path / "disk"
        disk.mkdir(mode=0o700)
        options = "size=64k,mode=0700"
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "tmpfs", disk], capture_output=True, check=False
        )
        if mounted.returncode:
            pytest.skip("no right to mount; ENOSPC and EROFS are tested with fake system calls too")
        yield disk
        subprocess.run(["umount", "-l", disk], check=True)

    def test_a_disk_that_becomes_read_only(self, disk: Path) -> None:
        store = FileStore(disk)
        store.insert(key(1), record(owner="42"))
        store.add_owned("42", key(1), LATER)
        store.add_owned("42", key(3), NOW - 1)  # something to purge
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        for operation, ask in self.WRITES.items():
            with pytest.raises(StoreError):
                ask(store)
            assert operation
        answers = [ask(store) for ask in self.READS.values()]

        assert answers[0] == record(owner="42")
        assert store.load(key(2)) is None

    def test_a_full_disk(self, disk: Path) -> None:
        store = FileStore(disk)
        store.insert(key(1), record({"a": bytes(8000)}))
        with pytest.raises(StoreError, match="No space left"):
            store.update(key(1), Changes(set={"a": bytes(100_000)}))
        with pytest.raises(StoreError, match="No space left"):
            for number in range(2, 1000):
                store.insert(key(number), record({"a": bytes(8000)}))
        kept = store.load(key(1))
        left = [path for path in files(disk) if path.endswith(".tmp")]

        assert kept == record({"a": bytes(8000)})
        assert left == []
        assert store.update(key(1), touch(NOW + 9000)) is UPDATED
        assert store.delete(key(1))


class TestGone:
    """A directory that is gone is an outage. Taken for an empty one, it would sign everybody out."""

    OPERATIONS: dict[str, Callable[[FileStore], object]] = {
        **TestFailing.WRITES,
        **TestFailing.READS,
        "ping": lambda store: store.ping(),
    }

    @pytest.fixture(autouse=True)
    def _session(self, store: FileStore) -> None:
        store.insert(key(1), record(owner="42"))
        store.add_owned("42", key(1), LATER)

    @pytest.mark.parametrize("operation", OPERATIONS)
    def test_the_directory_is_gone(self, store: FileStore, root: Path, operation: str) -> None:
        root.rename(root.with_name("moved"))

        with pytest.raises(StoreError, match="is gone"):
            self.OPERATIONS[operation](store)
        root.with_name("moved").rename(root)
        assert store.load(key(1)) is not None

    @pytest.mark.parametrize(
        "operation", sorted(set(OPERATIONS) - {"purge_expired", "clear", "keys"})
    )
    def test_another_one_is_in_its_place(
        self, store: FileStore, root: Path, operation: str
    ) -> None:
        """As after an unmount."""
        root.rename(root.with_name("moved"))
        root.mkdir(mode=0o700)

        with pytest.raises(StoreError, match="another directory than at the start"):
            self.OPERATIONS[operation](store)
        assert list(root.iterdir()) == []

    def test_the_names_of_what_was_never_there(self, store: FileStore, root: Path) -> None:
        shutil.rmtree(root)

        asks: list[Callable[[], object]] = [
            lambda: store.load(key(9)),
            lambda: store.update(key(9), touch(LATER)),
            lambda: store.delete(key(9)),
            lambda: store.replace(key(9), key(8), record()),
            lambda: store.owned_by("somebody"),
            lambda: store.generation("somebody"),
            lambda: store.remove_owned("somebody", [key(9)]),
        ]
        for ask in asks:
            with pytest.raises(StoreError):
                ask()

    def test_an_empty_sub_directory_is_nothing_to_worry_about(
        self, store: FileStore, root: Path
    ) -> None:
        shutil.rmtree(file_of(root, 1).parent)

        assert store.load(key(1)) is None
        assert store.insert(key(1), record())


WRONG_INDEXES = [
    b"cut",
    file._INDEX_HEAD.pack(0, 0.0, 1),  # an entry is missing
    file._INDEX_HEAD.pack(0, 0.0, 0) + b"half an entry",
]
"""With a sound checksum, and yet no index."""


class TestOwners:
    def test_an_index_goes_with_its_last_entry(self, store: FileStore, root: Path) -> None:
        store.add_owned("42", key(1), LATER)
        there = files(root)
        store.remove_owned("42", [key(1)])

        assert len(there) == 1
        assert files(root) == set()

    def test_an_index_expires_with_its_latest_entry(self, store: FileStore, root: Path) -> None:
        store.add_owned("42", key(1), NOW + 10)
        store.add_owned("42", key(2), NOW + 20)
        store.purge_expired(NOW + 10)
        left = set(store.owned_by("42"))
        store.purge_expired(NOW + 20)

        assert left == {key(2)}
        assert files(root) == set()

    def test_a_generation_is_remembered_for_a_day_and_not_for_ever(
        self, store: FileStore, root: Path
    ) -> None:
        store.clock = FakeClock(NOW)
        store.next_generation("42")
        store.purge_expired(NOW + DAY)
        kept = store.generation("42")
        store.purge_expired(NOW + 3 * DAY)

        assert (kept, store.generation("42")) == (1, 0)
        assert files(root) == set()

    def test_a_generation_is_remembered_as_long_as_there_are_sessions(
        self, store: FileStore
    ) -> None:
        store.clock = FakeClock(NOW)
        store.next_generation("42")
        store.add_owned("42", key(1), NOW + 30 * DAY)
        store.purge_expired(NOW + 29 * DAY)

        assert store.generation("42") == 1

    def test_purging_again_and_again_costs_nothing(self, store: FileStore, calls: Calls) -> None:
        store.add_owned("42", key(1), LATER)
        store.next_generation("43")
        store.purge_expired(NOW)
        calls.clear()
        store.purge_expired(NOW)

        assert calls.names() == []

    @pytest.mark.parametrize(
        "content",
        [b"", b"nonsense", b"WSO1" + bytes(100)]
        + [b"WSO1" + file._CRC.pack(crc32(rest)) + rest for rest in WRONG_INDEXES],
    )
    @pytest.mark.parametrize("operation", ["owned_by", "generation", "add", "next", "remove"])
    def test_a_damaged_index_is_made_anew_and_revokes(
        self,
        store: FileStore,
        root: Path,
        told: list[tuple[str, str]],
        content: bytes,
        operation: str,
    ) -> None:
        """Nobody knows any more what was revoked: so it all is, and nothing is missing."""
        store.clock = FakeClock(NOW)
        for number, owner in ((1, "42"), (2, "42"), (3, "43")):
            store.insert(key(number), record(owner=owner))
            store.add_owned(owner, key(number), LATER)
        store.next_generation("42")
        index_of(root, "42").write_bytes(content)
        asks: dict[str, Callable[[], object]] = {
            "owned_by": lambda: store.owned_by("42"),
            "generation": lambda: store.generation("42"),
            "add": lambda: store.add_owned("42", key(4), LATER),
            "next": lambda: store.next_generation("42"),
            "remove": lambda: store.remove_owned("42", [key(4)]),
        }
        asks[operation]()

        assert set(store.owned_by("42")) >= {key(1), key(2)}
        assert store.generation("42") >= NOW
        assert told == [("corrupt_record", index_of(root, "42").name)]
        assert set(store.owned_by("43")) == {key(3)}
        assert store.generation("43") == 0

    def test_a_damaged_session_is_not_in_an_index_made_anew(
        self, store: FileStore, root: Path
    ) -> None:
        for number in (1, 2):
            store.insert(key(number), record(owner="42"))
            store.add_owned("42", key(number), LATER)
        file_of(root, 2).write_bytes(b"nonsense")
        index_of(root, "42").write_bytes(b"nonsense")

        assert set(store.owned_by("42")) == {key(1)}

    def test_a_damaged_index_that_was_moved_aside_goes_at_the_next_purge(
        self, store: FileStore, root: Path
    ) -> None:
        store.clock = FakeClock(NOW)
        store.add_owned("42", key(1), LATER)
        index_of(root, "42").write_bytes(b"nonsense")
        os.utime(index_of(root, "42"), (NOW, NOW))
        store.owned_by("42")
        aside = index_of(root, "42").with_suffix(".damaged")
        there = aside.exists()
        store.purge_expired(NOW + 1)

        assert there
        assert not aside.exists()
        assert store.generation("42") >= NOW

    def test_any_bit_changed_is_noticed(
        self, store: FileStore, root: Path, told: list[tuple[str, str]]
    ) -> None:
        store.insert(key(1), record(owner="42"))
        store.add_owned("42", key(1), LATER)
        content = index_of(root, "42").read_bytes()
        for at in range(len(content)):
            changed = bytearray(content)
            changed[at] ^= 1
            index_of(root, "42").write_bytes(changed)
            assert set(store.owned_by("42")) == {key(1)}

        assert len(told) == len(content)

    def test_a_purge_leaves_a_damaged_index_to_who_asks(self, store: FileStore, root: Path) -> None:
        store.add_owned("42", key(1), LATER)
        index_of(root, "42").write_bytes(b"nonsense")
        os.utime(index_of(root, "42"), (NOW, NOW))
        store.purge_expired(LATER)

        assert index_of(root, "42").read_bytes() == b"nonsense"

    def test_an_index_that_goes_before_its_turn_is_not_pruned(
        self, store: FileStore, root: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        store.add_owned("42", key(1), NOW)
        lock = store._owners._flock

        def lock_later(*args: Any) -> None:
            index_of(root, "42").unlink(missing_ok=True)
            lock(*args)

        monkeypatch.setattr(store._owners, "_flock", lock_later)
        store.purge_expired(LATER)

        assert store.owned_by("42") == {}


class TestForks:
    def test_a_fork_takes_no_lock_along(self, store: FileStore) -> None:
        store.insert(key(1), record())
        reading, writing = os.pipe()
        with store._sessions.locked(key(1)):
            child = os.fork()
            if child == 0:
                os.close(writing)
                os.read(reading, 1)
                os._exit(0)
        os.close(reading)
        written = store.update(key(1), Changes(set={"a": b"2"}))  # would wait for the child
        os.close(writing)
        os.waitpid(child, 0)

        assert written is UPDATED

    def test_no_descriptor_stays_open(self, store: FileStore) -> None:
        before = len(os.listdir("/dev/fd"))
        for operation in (*TestFailing.WRITES.values(), *TestFailing.READS.values()):
            store.clear()
            store.insert(key(1), record())
            operation(store)

        assert len(os.listdir("/dev/fd")) == before


def in_child(call: Callable[[], object], *, as_nobody: Path | None = None) -> None:
    """Make the call in a process of its own; as a user without rights, who gets that directory."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            if as_nobody is not None and os.geteuid() == 0:
                os.chown(as_nobody, NOBODY, NOBODY)
                for parent in as_nobody.parents:
                    if parent.stat().st_uid == 0 and mode_of(parent) == 0o700:
                        parent.chmod(0o711)
                os.setgroups([])
                os.setgid(NOBODY)
                os.setuid(NOBODY)
            call()
            status = 0
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0, "the child failed; its error is above"


class TestCrashes:
    """kill -9 of a writer at random moments: every session is the old or the new one."""

    SESSIONS = range(6)

    @staticmethod
    def state(n: int) -> dict[str, bytes]:
        return {"n": b"%d" % n, "again": b"%d" % n, "filler": bytes(n * 37 % 5000)}

    def write(self, store: FileStore, chance: random.Random, progress: int) -> NoReturn:
        """Work without end; a byte for each step that was done."""
        while True:
            number = chance.choice(self.SESSIONS)
            match chance.randrange(5):
                case 0:
                    store.update(key(number), touch(LATER + chance.randrange(1000)))
                case 1:
                    store.insert(key(100 + number), record(self.state(0)))
                    store.delete(key(100 + number))
                case 2:
                    old, new = (key(chance.randrange(10**3, 10**9)) for _ in range(2))
                    store.insert(old, record(self.state(0), owner="42"))
                    store.replace(old, new, record(self.state(0)))
                case 3:
                    store.add_owned("42", key(number), LATER)
                    store.next_generation("42")
                case _:
                    before = store.load(key(number))
                    assert before is not None
                    n = int(before.fields["n"]) + 1
                    store.update(key(number), Changes(set=self.state(n)))
            os.write(progress, b".")

    def test_every_session_is_the_old_or_the_new_one(self, store: FileStore, root: Path) -> None:
        events: list[Any] = []
        store.subscribe(lambda *event: events.append(event))
        chance = random.Random(4)
        for number in self.SESSIONS:
            store.insert(key(number), record(self.state(0)))
        versions = dict.fromkeys(self.SESSIONS, 1)
        generation = 0
        for _ in range(CRASHES):
            reading, writing = os.pipe()
            child = os.fork()
            if child == 0:
                with contextlib.suppress(BaseException):
                    self.write(store, random.Random(chance.random()), writing)
                os._exit(1)
            os.close(writing)
            os.read(reading, 1)
            for _ in range(chance.randrange(20_000)):
                pass  # a moment, of any length
            os.kill(child, signal.SIGKILL)
            _, status = os.waitpid(child, 0)
            os.close(reading)

            assert os.WIFSIGNALED(status), "the writer failed by itself"
            for number in self.SESSIONS:
                loaded = store.load(key(number))
                assert loaded is not None, "a session is lost"
                n = int(loaded.fields["n"])
                assert dict(loaded.fields) == self.state(n), "half of a change"
                assert loaded.version == n + 1
                assert loaded.version >= versions[number], "a change went back"
                versions[number] = loaded.version
            assert store.generation("42") >= generation
            generation = store.generation("42")
        left = files(root)
        store.purge_expired(NOW)
        after = files(root)

        assert events == []
        assert sum(versions.values()) > CRASHES / 10
        assert not [name for name in after if name.endswith(".tmp")]
        assert left - after == {name for name in left if name.endswith(".tmp")}
        assert {key(number) for number in self.SESSIONS} <= set(store.keys())
        store.clear()
        assert files(root) == set()

    @pytest.mark.parametrize("call", ["open", "fchmod", "write", "utime", "replace", "unlink"])
    @pytest.mark.parametrize("moment", ["before", "after"])
    def test_a_crash_within_replace_leaves_the_old_or_the_new_one(
        self, store: FileStore, root: Path, call: str, moment: str
    ) -> None:
        store.insert(key(1), record({"a": b"old"}))
        store.insert(key(2), record())
        store.delete(key(2))

        def child() -> None:
            original = getattr(os, call)

            def crash(*args: Any, **kwargs: Any) -> Any:
                if call == "open" and not str(args[0]).endswith(".tmp"):
                    return original(*args, **kwargs)
                if moment == "after":
                    original(*args, **kwargs)
                return os.kill(os.getpid(), signal.SIGKILL)

            setattr(os, call, crash)
            store.replace(key(1), key(2), record({"a": b"new"}))

        pid = os.fork()
        if pid == 0:
            child()
            os._exit(1)
        _, status = os.waitpid(pid, 0)
        assert os.WIFSIGNALED(status)
        old, new = store.load(key(1)), store.load(key(2))
        store.purge_expired(NOW)

        assert old is not None or new is not None
        assert old in (None, record({"a": b"old"}))
        assert new in (None, record({"a": b"new"}))
        assert (old is None) == (call == "unlink" and moment == "after")
        assert len(files(root)) == (old is not None) + (new is not None)

    def test_a_leftover_is_removed_only_while_nobody_writes(
        self, store: FileStore, root: Path
    ) -> None:
        """A temporary file is of somebody who holds the lock, or of nobody."""
        store.insert(key(1), record())
        temporary = file_of(root, 1).with_name(f"{key(1)[:2]}.{'0' * 16}.tmp")
        done = threading.Event()

        def purge_then_tell() -> None:
            store.purge_expired(NOW)
            done.set()

        with store._sessions.locked(key(1)):
            temporary.write_bytes(b"half of a session")
            purge = threading.Thread(target=purge_then_tell)
            purge.start()
            meanwhile = temporary.exists() and not done.is_set()
        purge.join()

        assert meanwhile
        assert not temporary.exists()
        assert store.load(key(1)) == record()


class TestWhatIsSaid:
    """Of settings that are refused, and of files that can't be read."""

    def test_a_setting_is_named_with_what_was_given(self, root: Path) -> None:
        for options, message in (
            ({"durable": 1}, r"^FileStore: durable is 1"),
            ({"mode": 0o644}, r"^FileStore: mode is 0o644; write 0o600"),
            ({"mode": 0o601}, r"^FileStore: mode is 0o601; write 0o600"),
            ({"mode": "0600"}, r"^FileStore: mode is '0600'; write 0o600"),
        ):
            with pytest.raises(ConfigurationError, match=message):
                FileStore(root, **options)

    def test_where_a_damaged_file_went(self, store: FileStore, root: Path) -> None:
        details: list[str] = []
        store.subscribe(lambda kind, at, detail: details.append(detail))
        for number in (1, 2):
            store.insert(key(number), record())
        path_of(root, key(1)).write_bytes(b"damaged")
        path_of(root, key(2)).unlink()
        path_of(root, key(2)).mkdir()

        assert store.load(key(1)) is None
        assert store.load(key(2)) is None
        assert details[0] == "not in the format of a session; moved aside"
        assert details[1].startswith("no regular file: ")
        assert details[1].endswith("; left as it is")

    @pytest.mark.parametrize("how", ["read", "changed"])
    def test_why_an_owners_index_was_made_anew(
        self, store: FileStore, root: Path, how: str
    ) -> None:
        store.clock = FakeClock(0.5)
        details: list[str] = []
        store.subscribe(lambda kind, at, detail: details.append(detail))
        store.insert(key(1), record(owner="42"))
        store.add_owned("42", key(1), LATER)
        (index,) = (root / "owners").glob("??/" + "[0-9a-f]" * 64)
        index.write_bytes(b"damaged")

        generation = store.generation("42") if how == "read" else store.next_generation("42") - 1

        # More than any count of revocations would be, even at the beginning of time.
        assert generation == 1
        (detail,) = details
        assert detail == (
            "the index of an owner: not in the format of an owner's index, or another checksum;"
            " made anew, the owner's sessions are revoked"
        )

    def test_a_key_that_is_taken(self, store: FileStore) -> None:
        for number in (1, 2):
            store.insert(key(number), record())

        with pytest.raises(StoreError, match=r"^replace: the new key is taken; nothing was"):
            store.replace(key(1), key(2), record())


def path_of(root: Path, name: str) -> Path:
    return root / name[:2] / name


def test_an_index_with_an_entry_too_many_is_damaged() -> None:
    index = file._Index(1, NOW, {key(1): OwnedEntry(NOW, LATER, 1)})
    content = file._encode_index(index)
    rest = bytearray(content[8:])
    rest[16:20] = (2).to_bytes(4, "little")

    assert file._decode_index(content) == index
    with pytest.raises(directory.Damaged, match=r"^the number of entries doesn't add up$"):
        file._decode_index(content[:4] + crc32(rest).to_bytes(4, "little") + rest)


def test_a_time_of_use_that_is_none_is_damage() -> None:
    with pytest.raises(directory.Damaged, match="a time is no number"):
        file._decode(file._encode(record(used_at=math.inf)))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (Changes(used_at=NOW + 5), record(used_at=NOW + 5)),
        (Changes(expires_at=LATER + 9), record(expires_at=LATER + 9)),
        (Changes(), record()),
    ],
)
def test_a_touch_moves_only_the_times_that_it_names(
    store: FileStore, changes: Changes, expected: Record
) -> None:
    store.insert(key(1), record())

    assert store.update(key(1), changes) is UPDATED
    assert store.load(key(1)) == expected


def test_an_owner_may_be_any_text(store: FileStore) -> None:
    store.add_owned("\ud800", key(1), LATER)

    assert store.owned_by("\ud800").keys() == {key(1)}


def test_an_owner_without_sessions_is_forgotten_after_two_days(
    store: FileStore, root: Path
) -> None:
    store.clock = FakeClock(NOW)
    store.next_generation("42")
    (index,) = (root / "owners").glob("??/" + "[0-9a-f]" * 64)

    # Not opened before that time, because this is when it was last changed, as far as one can see.
    assert index.stat().st_mtime == NOW + 2 * DAY
    store.purge_expired(NOW + 2 * DAY - 1)
    kept = store.generation("42")
    store.purge_expired(NOW + 2 * DAY)
    assert (kept, store.generation("42")) == (1, 0)


def test_others_get_the_lock_between_slices() -> None:
    names = [str(number) for number in range(150)]

    assert list(file._slices(names)) == [names[:64], names[64:128], names[128:]]


def test_the_formats_of_the_first_version_are_read_and_written() -> None:
    session = bytes.fromhex(
        "57534631f08531cf00000040fc54d9410000204ffc54d941878e1099"
        "07000000000000000200000002000000050000000100000001000000020000000300000034326e6f746573"
        "6131c3a45b325d"
    )
    kept = Record({"a": b"1", "ä": b"[2]"}, b"notes", NOW, NOW + 60.5, 7, "42")
    owner = bytes.fromhex(
        "57534f31053c60fb000000000000008000000040fc54d94101000000"
        + "ab" * 32
        + "000000000000f83f00000000000004400000000000000080"
    )
    index = file._Index(2**63, NOW, {"ab" * 32: OwnedEntry(1.5, 2.5, 2**63)})

    assert (file._encode(kept), file._decode(session)) == (session, kept)
    assert (file._encode_index(index), file._decode_index(owner)) == (owner, index)


def test_each_damage_has_its_words(tmp_path: Path) -> None:
    whole = file._encode(record())
    head = file._HEAD.size
    times = file._times(NOW, LATER)
    empty = b"WSF1" + crc32(b"").to_bytes(4, "little") + times
    for content, words in (
        (whole[: head - 1], r"^not in the format of a session$"),
        (b"?" + whole[1:], r"^not in the format of a session$"),
        (whole[:8] + b"?" + whole[9:], r"^the times have another checksum$"),
        (whole[:-1] + b"?", r"^the data have another checksum$"),
        (empty, r"^cut short: \w+"),
        (file._encode(record(used_at=math.inf)), r"^a time is no number$"),
    ):
        with pytest.raises(directory.Damaged, match=words):
            file._decode(content)

    (tmp_path / "short").write_bytes(empty + b"1234567")
    with (
        (tmp_path / "short").open("rb") as short,
        pytest.raises(directory.Damaged, match=r"^cut short$"),
    ):
        file._peek(short.fileno())

    rest = file._INDEX_HEAD.pack(1, NOW, 1) + b"half an entry"
    index = b"WSO1" + crc32(rest).to_bytes(4, "little") + rest
    with pytest.raises(directory.Damaged, match=r"^cut short: \w+"):
        file._decode_index(index)
    with pytest.raises(directory.Damaged, match=r"^not in the format of an owner's index"):
        file._decode_index(b"?" + index[1:])
