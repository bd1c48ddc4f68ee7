"""The private directory under FileStore: nothing followed, nothing open to others, nothing lost."""

from __future__ import annotations

import errno
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from wsgi_sessions.errors import ConfigurationError, StoreError
from wsgi_sessions.stores.file import directory
from wsgi_sessions.stores.file.directory import Damaged, Directory, nanoseconds

NAME = "ab" + "0" * 62


@pytest.fixture
def place(tmp_path: Path) -> Directory:
    return made(tmp_path)


@pytest.fixture
def no_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


def made(tmp_path: Path, *, durable: bool = False) -> Directory:
    return Directory(tmp_path / "root", mode=0o600, durable=durable)


def put(place: Directory, content: bytes = b"content", name: str = NAME) -> None:
    with place.locked(name):
        place.write(name, content, nanoseconds(1.0))


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0.0, 0),
        (-1.0, 0),
        (0.5, 500_000_000),
        (1.5, 1_500_000_000),
        (2.0**33, 2**33 * 10**9),
        (2.0**34, 2**33 * 10**9),
        (float("inf"), 2**33 * 10**9),
    ],
)
def test_a_time_becomes_nanoseconds_that_a_file_can_have(seconds: float, expected: int) -> None:
    assert nanoseconds(seconds) == expected


class TestMaking:
    def test_a_place_that_cannot_be_made_is_named(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(
            ConfigurationError, match=r"the directory '.*/file/root' can't be made: .*; name one"
        ):
            Directory(tmp_path / "file" / "root", mode=0o600, durable=False)

    def test_what_is_wrong_with_a_place_is_said(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        (tmp_path / "link").symlink_to(tmp_path)
        (tmp_path / "open" / "ab").mkdir(parents=True)
        (tmp_path / "open").chmod(0o770)
        for name, problem in (
            ("file", r"file is not a directory; name one$"),
            ("link", r"link is a symlink; name the directory itself$"),
            ("open", r"\(mode 0770\); name a directory of its own, or chmod it to 0700$"),
        ):
            with pytest.raises(ConfigurationError, match=problem):
                Directory(tmp_path / name, mode=0o600, durable=False)

    @pytest.mark.usefixtures("no_umask")
    def test_a_directory_is_never_open_to_others(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(os, "chmod", refuse)  # so it stays as it was made
        with pytest.raises(ConfigurationError):
            made(tmp_path)

        assert stat.S_IMODE((tmp_path / "root").stat().st_mode) == 0o700

    @pytest.mark.usefixtures("no_umask")
    def test_a_file_is_never_open_to_others(
        self, place: Directory, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        modes: list[int] = []
        fchmod = os.fchmod

        def note(file: int, mode: int) -> None:
            modes.append(stat.S_IMODE(os.fstat(file).st_mode))
            fchmod(file, mode)

        monkeypatch.setattr(os, "fchmod", note)
        put(place)

        # The lock and the temporary file, as they were made.
        assert modes == [0o600, 0o600]
        assert stat.S_IMODE(Path(place.root.path, ".wsgi-sessions").stat().st_mode) == 0o600


class TestReading:
    def test_a_file_that_is_read_in_many_parts_is_whole(
        self, place: Directory, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        content = os.urandom(5 * directory._FIRST_READ + 1)
        put(place, content)
        read = os.read
        monkeypatch.setattr(os, "read", lambda file, n: read(file, min(n, directory._FIRST_READ)))

        assert place.read(NAME) == content

    def test_the_largest_file_is_written_and_read(
        self, place: Directory, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(directory, "MAX_BYTES", 200_000)
        put(place, b"x" * 200_000)
        assert place.read(NAME) == b"x" * 200_000

        with pytest.raises(StoreError, match="200001 bytes are too many"):
            put(place, b"x" * 200_001)
        assert place.read(NAME) == b"x" * 200_000

        monkeypatch.setattr(directory, "MAX_BYTES", 199_999)
        with pytest.raises(Damaged, match="200000 bytes, more than any of ours"):
            place.read(NAME)

    def test_a_symlink_is_no_file(self, tmp_path: Path, place: Directory) -> None:
        put(place)
        (tmp_path / "elsewhere").write_bytes(b"not ours")
        Path(place.path(NAME)).unlink()
        Path(place.path(NAME)).symlink_to(tmp_path / "elsewhere")

        with pytest.raises(Damaged, match=r"^not a regular file: \w+"):
            place.read(NAME)
        with pytest.raises(Damaged, match=r"^not a regular file: \w+"), place.opened(NAME):
            pass

    def test_a_pipe_is_no_file_to_change(self, place: Directory) -> None:
        put(place)
        Path(place.path(NAME)).unlink()
        os.mkfifo(place.path(NAME))

        with pytest.raises(Damaged, match=r"^not a regular file$"), place.opened(NAME):
            pass


class TestWriting:
    def test_the_first_error_is_told_even_if_nothing_is_left_to_clear_away(
        self, place: Directory, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def replace(temporary: str, path: str) -> None:
            os.unlink(temporary)  # noqa: PTH108 # as another process's purge might
            raise OSError(errno.ENOSPC, "the disk is full")

        monkeypatch.setattr(os, "replace", replace)

        with pytest.raises(OSError, match="the disk is full"):
            put(place)

    def test_a_temporary_file_is_always_a_new_one(
        self, tmp_path: Path, place: Directory, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        put(place, b"before")
        monkeypatch.setattr(secrets, "token_hex", lambda size: "0" * 2 * size)
        elsewhere = tmp_path / "elsewhere"
        elsewhere.write_bytes(b"not ours")
        os.link(elsewhere, place.path("ab." + "0" * 16 + ".tmp"))

        with pytest.raises(FileExistsError):
            put(place, b"after")
        assert (place.read(NAME), elsewhere.read_bytes()) == (b"before", b"not ours")

    @pytest.mark.parametrize("durable", [False, True])
    def test_a_file_that_is_gone_is_not_removed_again(
        self, tmp_path: Path, *, durable: bool
    ) -> None:
        place = made(tmp_path, durable=durable)
        put(place)

        with place.locked(NAME):
            assert place.remove(NAME)
            assert not place.remove(NAME)
            assert not place.discard(NAME)

    def test_what_cannot_be_read_is_set_aside(self, place: Directory) -> None:
        put(place)
        assert place.set_aside(NAME) is True
        assert Path(place.path(NAME) + ".damaged").read_bytes() == b"content"

        Path(place.path(NAME)).mkdir()
        assert place.set_aside(NAME) is False
        assert Path(place.path(NAME)).is_dir()


class TestListing:
    def test_only_our_sub_directories_are_looked_into(
        self, tmp_path: Path, place: Directory
    ) -> None:
        root = tmp_path / "root"
        for name in ("00", "ff", "abc", "zz", "AB"):
            (root / name).mkdir()
        (root / "aa").touch()
        (root / "ee").symlink_to(tmp_path)

        assert place.shards() == ["00", "ff"]

    def test_a_symlink_is_none_of_our_files(self, tmp_path: Path, place: Directory) -> None:
        put(place)
        other = NAME[:-1] + "1"
        Path(place.path(other)).symlink_to(place.path(NAME))

        assert place.names("ab") == [NAME]
        assert place.due("ab", None) == [NAME]
        assert place.due("ab", nanoseconds(1.0)) == [NAME]
        assert place.due("ab", nanoseconds(1.0) - 1) == []


class TestLocks:
    def test_a_symlink_is_no_lock(self, tmp_path: Path, place: Directory) -> None:
        put(place)
        lock = tmp_path / "root" / "ab" / "lock"
        lock.rename(tmp_path / "elsewhere")
        lock.symlink_to(tmp_path / "elsewhere")

        with pytest.raises(OSError, match="symbolic links"), place.locked(NAME):
            pass

    def test_nor_is_one_that_appears_meanwhile(
        self, tmp_path: Path, place: Directory, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "elsewhere").touch()
        mkdir = os.mkdir

        def trap(path: str, mode: int = 0o777) -> None:
            mkdir(path, mode)
            (Path(path) / "lock").symlink_to(tmp_path / "elsewhere")

        monkeypatch.setattr(os, "mkdir", trap)

        with pytest.raises(OSError, match="symbolic links"), place.locked(NAME):
            pass

    def test_a_directory_is_not_synced_through_a_symlink(self, tmp_path: Path) -> None:
        (tmp_path / "link").symlink_to(tmp_path)

        directory._sync(str(tmp_path))
        with pytest.raises(OSError, match="symbolic links|Not a directory"):
            directory._sync(str(tmp_path / "link"))


def refuse(*_: object) -> None:
    raise OSError("refused")
