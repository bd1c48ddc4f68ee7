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
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any, NoReturn
from zlib import crc32

import pytest

from effort import ROUNDS, tries
from wsgi import Browser, Site
from wsgi_sessions.errors import ConfigurationError, StoreError
from wsgi_sessions.record import LIST_OWNER, Changes, Record, UpdateResult, list_key
from wsgi_sessions.stores import FileStore, Store
from wsgi_sessions.stores.file import directory, formats
from wsgi_sessions.stores.file import store as file
from wsgi_sessions.testing import StoreContract

UPDATED, GONE, CONFLICT = UpdateResult.UPDATED, UpdateResult.GONE, UpdateResult.CONFLICT
NOW = 1_700_000_000.0
LATER = NOW + 1000
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
    return Record(fields or {"a": b"1"}, b"notes", used_at, expires_at, version, 0, owner)


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


def files(root: Path) -> set[str]:
    """All files but the locks and the marker, relative to the root."""
    return {
        str(path.relative_to(root))
        for path in root.rglob("*")
        if not path.is_dir() and path.name not in ("lock", ".wsgi-sessions")
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

    def make_broken_store(self) -> Store:
        store = FileStore(self.root)
        self.root.rename(self.root.with_name("unmounted"))
        return store


class TestContractDurable(StoreContract):
    """fsync changes what is on the disk, not what is answered; so on the fastest disk there is."""

    rounds = 20

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

    @pytest.mark.parametrize(
        ("path", "message"),
        [
            ("redis://:hidden@localhost", r"path is a URL; write a plain path, or Session"),
            ("file:///var/lib/app", r"path is a URL"),
            ("~/sessions", r"path begins with ~, .*; write os\.path\.expanduser\(path\)"),
        ],
    )
    def test_what_would_make_a_directory_of_an_odd_name_is_refused(
        self, path: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)

        with pytest.raises(ConfigurationError, match=f"^FileStore: {message}") as caught:
            FileStore(path)

        assert "hidden" not in str(caught.value)
        assert list(tmp_path.iterdir()) == []

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
        FileStore(tmp_path).insert(key(1), record())
        tmp_path.chmod(mode)

        with pytest.raises(ConfigurationError, match="open for others") as refused:
            FileStore(tmp_path)
        # The sticky bit is for directories that many share, such as /tmp, also where it is empty.
        assert ("chmod it to 0700" in str(refused.value)) is (mode != 0o1777)

    def test_s3_nobody_is_told_to_close_a_directory_that_others_use(self, tmp_path: Path) -> None:
        (tmp_path / "of-another").touch()
        tmp_path.chmod(0o1777)

        for shared in ("/tmp", tmp_path):
            with pytest.raises(ConfigurationError, match="a directory of its own") as caught:
                FileStore(shared)
            assert "chmod" not in str(caught.value)

    def test_a_directory_of_somebody_else_is_refused(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(os, "geteuid", lambda: NOBODY)

        with pytest.raises(ConfigurationError, match="run as that user"):
            FileStore(tmp_path)

    def test_a_file_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("x")

        with pytest.raises(ConfigurationError, match="not a directory"):
            FileStore(tmp_path / "file")
        with pytest.raises(ConfigurationError, match="can't be made"):
            FileStore(tmp_path / "file" / "sessions")

    @pytest.mark.parametrize("name", ["00", "ff", ".wsgi-sessions"])
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

        with pytest.raises(ConfigurationError, match="use SQLStore, RedisStore or MemoryStore"):
            FileStore(root)

    def test_repr_names_the_directory(self, root: Path) -> None:
        assert repr(FileStore(root)) == f"FileStore({str(root)!r}, durable=False)"


class TestPermissions:
    @pytest.mark.parametrize("mask", [0, 0o022, 0o077, 0o777])
    @pytest.mark.parametrize(
        ("mode", "inside"), [(0o600, 0o700), (0o640, 0o750), (0o660, 0o770), (0o620, 0o730)]
    )
    def test_the_umask_changes_nothing(
        self, tmp_path: Path, mask: int, mode: int, inside: int
    ) -> None:
        before = os.umask(mask)
        try:
            store = FileStore(tmp_path / "a" / "b", mode=mode)
            store.insert(key(1), record(owner="42"))
            store.update(key(1), Changes(set={"a": b"2"}))
            store.insert(key(2), record())
        finally:
            os.umask(before)
        root = tmp_path / "a" / "b"
        made = list(root.rglob("*"))

        assert len(made) > 5
        assert {mode_of(root.parent), mode_of(root)} == {0o700}
        assert {mode_of(path) for path in made if path.is_dir()} == {inside}
        assert {mode_of(path) for path in made if path.is_file()} == {mode}

    def test_a_file_is_named_by_its_key_alone(self, store: FileStore, root: Path) -> None:
        store.insert(key(1), record(owner="../../alice"))

        assert files(root) == {f"{key(1)[:2]}/{key(1)}"}

    def test_there_is_a_fixed_number_of_locks(self, store: FileStore, root: Path) -> None:
        for number in range(2000):
            store.load(key(number))
            store.update(key(number), Changes(set={"a": b"1"}))
            store.delete(key(number))
        idle = list(root.rglob("*"))
        for number in range(1000):
            store.insert(key(number), record())
            store.delete(key(number))

        assert [path.name for path in idle] == [".wsgi-sessions"]
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
            assert file_of(root, 1).stat().st_mtime == at  # nothing was to be written

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

    @pytest.mark.parametrize("at", [math.nan, math.inf, -math.inf])
    @pytest.mark.parametrize("fields", [{}, {"a": b"2"}], ids=["touch", "write"])
    def test_so_is_a_use_that_is_no_time_before_anything_is_overwritten(
        self, store: FileStore, at: float, fields: dict[str, bytes]
    ) -> None:
        store.insert(key(1), record())

        with pytest.raises(StoreError, match="used_at is .*; write UNIX seconds"):
            store.update(key(1), Changes(set=fields, used_at=at))
        with pytest.raises(StoreError, match="used_at is .*; write UNIX seconds"):
            store.insert(key(2), record(used_at=at))
        assert store.load(key(1)) == record()
        assert store.load(key(2)) is None

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
        def watch(self: directory.Directory, name: str, **options: bool) -> Iterator[bool]:
            held.append(0)
            with locked(self, name, **options) as is_held:
                yield is_held

        monkeypatch.setattr(os, "unlink", count)
        monkeypatch.setattr(directory.Directory, "locked", watch)

        assert store.purge_expired(NOW) == 200
        assert sum(held) == 200
        assert max(held) <= 64
        assert store.load(key(live)) == record()


class TestManyFiles:
    def test_a_purge_of_many_stops_no_request(
        self, store: FileStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        live = key(-1)
        store.insert(live, record())
        for number in range(FILES):
            store.insert(key(number), record(expires_at=NOW))
        results: list[UpdateResult | None] = []
        visits, purged = threading.Semaphore(0), threading.Event()
        slices = file._slices

        def with_a_visit_before_each(names: list[str]) -> Iterator[list[str]]:
            for part in slices(names):
                assert visits.acquire(timeout=60), "a request waits for the purge"
                yield part

        def request() -> None:
            while not purged.is_set():
                results.append(store.update(live, Changes(set={"a": b"2"}, used_at=NOW)))
                results.append(None if store.load(live) else GONE)
                visits.release()

        monkeypatch.setattr(file, "_slices", with_a_visit_before_each)
        visitor = threading.Thread(target=request)
        visitor.start()
        try:
            count = store.purge_expired(NOW)
        finally:
            purged.set()
            visitor.join()

        assert 0 < count <= FILES  # the writes meanwhile clean up, too
        assert set(results) == {UPDATED, None}
        assert list(store.keys()) == [live]


class TestDamage:
    """What can't be read as a whole is not a session, is moved aside, and is never executed."""

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
            b"WSF2",
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

    @pytest.mark.parametrize(
        "kept", [0, formats._HEAD.size + 1], ids=["nothing left", "the times left"]
    )
    def test_deleting_a_version_of_it_says_no(
        self, store: FileStore, root: Path, told: list[tuple[str, str]], kept: int
    ) -> None:
        content = self.sound(store, root)
        self.damaged(store, root, content[:kept])

        assert store.delete(key(1), if_version=1) is False
        assert told == [("corrupt_record", key(1))]

    def test_e1_a_record_that_cannot_be_read_is_not_absent(
        self, store: FileStore, root: Path, told: list[tuple[str, str]]
    ) -> None:
        self.damaged(store, root, b"nonsense")

        assert store.update(key(1), Changes()) is UPDATED
        assert told == []
        assert files(root) == {f"{key(1)[:2]}/{key(1)}"}

    def test_nor_is_one_that_was_moved_aside(self, store: FileStore, root: Path) -> None:
        self.damaged(store, root, b"nonsense")
        assert store.load(key(1)) is None
        assert files(root) == {f"{key(1)[:2]}/{key(1)}.damaged"}

        assert store.update(key(1), Changes()) is UPDATED
        assert store.update(key(1), Changes(), if_version=1) is GONE
        assert store.update(key(1), touch(LATER)) is GONE
        assert store.delete(key(1), if_version=1) is False
        assert files(root) == {f"{key(1)[:2]}/{key(1)}.damaged"}
        assert store.delete(key(1)) is True
        assert files(root) == set()
        assert store.update(key(1), Changes()) is GONE
        assert store.delete(key(1)) is False

    def test_a_list_that_was_moved_aside_is_not_begun_anew(
        self, store: FileStore, root: Path
    ) -> None:
        self.damaged(store, root, b"nonsense")
        assert store.load(key(1)) is None

        new = record(owner=LIST_OWNER, used_at=LATER - 1, expires_at=LATER * 2)
        assert store.insert(key(1), new) is False
        assert store.insert(key(1), replace(new, used_at=LATER)) is True
        assert store.delete(key(1), if_version=1) is True
        assert files(root) == set()

    def test_a_damaged_list_of_an_owner_is_none_once_it_would_have_expired(
        self, store: FileStore, root: Path
    ) -> None:
        site = Site(store=store)
        self.signed_in(site, root)
        registry = site.middleware.registry
        with pytest.raises(StoreError, match="list can't be read"):
            registry.sessions("ada")

        site.clock.advance(timedelta(days=33))

        assert (registry.sessions("ada"), registry.revoke_all("ada")) == ([], 0)
        assert site.run(site.browser(), lambda session: session.login("ada")).code == 200

    @staticmethod
    def signed_in(site: Site, root: Path) -> list[Browser]:
        """Browsers of a user whose list is damaged."""
        browsers = [site.browser() for _ in range(2)]
        for browser in browsers:
            site.run(browser, lambda session: session.login("ada"))
        path = path_of(root, list_key("ada"))
        ends = path.stat().st_mtime_ns
        path.write_bytes(path.read_bytes()[:-1])
        os.utime(path, ns=(ends, ends))
        return browsers

    def test_a_damaged_list_of_an_owner_is_not_an_empty_one(
        self, store: FileStore, root: Path
    ) -> None:
        site = Site(store=store)
        browsers = self.signed_in(site, root)
        path = path_of(root, list_key("ada"))
        registry = site.middleware.registry

        for _ in range(2):
            with pytest.raises(StoreError, match="list can't be read"):
                registry.revoke_all("ada")
            assert site.run(site.browser(), lambda session: session.login("ada")).code == 503
        path.with_suffix(".damaged").unlink()
        assert site.run(browsers[0], lambda session: session.login("ada")).code == 200
        assert registry.revoke_all("ada") == 1

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
        times = formats.encode_times(NOW, LATER)
        checksum = formats._CRC.pack(crc32(packed))
        self.damaged(store, root, b"".join((formats._MAGIC, checksum, times, packed)))

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

        for content in (pickle.dumps(Payload()), b"WSF2" + pickle.dumps(Payload())):
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


class TestForeignFiles:
    @pytest.fixture
    def foreign(self, store: FileStore, root: Path) -> set[str]:
        store.insert(key(1), record(owner="42"))
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
        "delete": lambda store: store.delete(key(1)),
        "delete_version": lambda store: store.delete(key(1), if_version=1),
        "purge_expired": lambda store: store.purge_expired(LATER),
        "clear": lambda store: store.clear(),
    }
    READS: dict[str, Callable[[FileStore], object]] = {
        "load": lambda store: store.load(key(1)),
        "keys": lambda store: list(store.keys()),
    }
    MADE_BY = {
        "open": {*WRITES, "load"},
        "read": {"update", "load"},
        "write": {"insert", "update"},
        "fchmod": {"insert", "update"},
        "utime": {"insert", "update", "touch"},
        "replace": {"insert", "update"},
        "unlink": {"delete", "delete_version", "clear"},
        "pread": {"touch", "delete_version", "purge_expired"},
        "pwrite": {"touch"},
        "scandir": {"purge_expired", "clear", "keys"},
    }

    @pytest.fixture(autouse=True)
    def _session(self, store: FileStore) -> None:
        store.insert(key(1), record(owner="42"))

    def assert_intact(self, store: FileStore, root: Path) -> None:
        loaded = store.load(key(1))
        assert loaded is not None
        assert dict(loaded.fields) == {"a": b"1"}
        assert store.load(key(2)) is None
        assert len(files(root)) == 1

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
            self.assert_intact(store, root)

    def test_a_lock_that_cannot_be_had_is_a_store_error(
        self, store: FileStore, root: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(*args: Any) -> NoReturn:
            raise OSError(errno.ENOLCK, "No locks available")

        for operation, ask in self.WRITES.items():
            with monkeypatch.context() as patch:
                patch.setattr(store._sessions, "_flock", fail)
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

    def test_beyond_the_size_limit_for_files(self, store: FileStore, root: Path) -> None:
        """RLIMIT_FSIZE, in a process of its own."""

        def child() -> None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
            asks: list[Callable[[], object]] = [
                lambda: store.insert(key(2), record({"a": bytes(10_000)})),
                lambda: store.update(key(1), Changes(set={"a": bytes(10_000)})),
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
        store.insert(key(3), record(expires_at=NOW - 1))  # something to purge
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

    @pytest.mark.parametrize("operation", OPERATIONS)
    def test_the_directory_is_gone(self, store: FileStore, root: Path, operation: str) -> None:
        root.rename(root.with_name("moved"))

        with pytest.raises(StoreError, match="is gone"):
            self.OPERATIONS[operation](store)
        root.with_name("moved").rename(root)
        assert store.load(key(1)) is not None

    @pytest.mark.parametrize("operation", OPERATIONS)
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
            lambda: store.update(key(9), Changes()),
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
        before = descriptors()
        for operation in (*TestFailing.WRITES.values(), *TestFailing.READS.values()):
            store.clear()
            store.insert(key(1), record())
            operation(store)

        # What other tests have left behind may be closed meanwhile.
        assert descriptors() <= before


def descriptors() -> set[tuple[int, int, int]]:
    """Numbers of those that are open, and what each is of."""
    found = set()
    for number in map(int, os.listdir("/dev/fd")):
        with contextlib.suppress(OSError):  # that of the listing is closed
            info = os.fstat(number)
            found.add((number, info.st_dev, info.st_ino))
    return found


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
            match chance.randrange(3):
                case 0:
                    store.update(key(number), touch(LATER + chance.randrange(1000)))
                case 1:
                    store.insert(key(100 + number), record(self.state(0)))
                    store.delete(key(100 + number))
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
        assert details[1].startswith("not a regular file: ")
        assert details[1].endswith("; left as it is")


def path_of(root: Path, name: str) -> Path:
    return root / name[:2] / name


def test_a_time_of_use_that_is_none_is_damage() -> None:
    with pytest.raises(directory.Damaged, match="a time is not a number"):
        formats.decode(used_never())


def used_never() -> bytes:
    """The content of a file with a time of use that no store would write."""
    whole, times = formats.encode(record()), formats.encode_times(math.inf, LATER)
    return whole[: formats.TIMES_AT] + times + whole[formats.TIMES_AT + len(times) :]


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


def test_others_get_the_lock_between_slices() -> None:
    names = [str(number) for number in range(150)]

    assert list(file._slices(names)) == [names[:64], names[64:128], names[128:]]


def test_the_format_stays_as_it_is() -> None:
    """Files written today are read by later versions."""
    session = bytes.fromhex(
        "575346324dde1b4400000040fc54d9410000204ffc54d941878e1099"
        "0700000000000000030000000000000002000000020000000500000001000000010000000200000003000000"
        "34326e6f7465736131c3a45b325d"
    )
    kept = Record({"a": b"1", "ä": b"[2]"}, b"notes", NOW, NOW + 60.5, 7, 3, "42")

    assert (formats.encode(kept), formats.decode(session)) == (session, kept)


def test_each_damage_has_its_words(tmp_path: Path) -> None:
    whole = formats.encode(record())
    head = formats._HEAD.size
    times = formats.encode_times(NOW, LATER)
    empty = b"WSF2" + crc32(b"").to_bytes(4, "little") + times
    for content, words in (
        (whole[: head - 1], r"^not in the format of a session$"),
        (b"?" + whole[1:], r"^not in the format of a session$"),
        (whole[:8] + b"?" + whole[9:], r"^the times have another checksum$"),
        (whole[:-1] + b"?", r"^the data have another checksum$"),
        (empty, r"^cut short: \w+"),
        (used_never(), r"^a time is not a number$"),
    ):
        with pytest.raises(directory.Damaged, match=words):
            formats.decode(content)

    (tmp_path / "short").write_bytes(empty + b"1234567")
    with (
        (tmp_path / "short").open("rb") as short,
        pytest.raises(directory.Damaged, match=r"^cut short$"),
    ):
        formats.peek(short.fileno())
