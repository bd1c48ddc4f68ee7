"""FileStore's directory: still the same one after a new mount, and whose fault it is if not."""

from __future__ import annotations

import errno
import os
import pwd
import shutil
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from records import a_key, a_record
from wsgi import SECRET, call, environ
from wsgi_sessions import SessionMiddleware
from wsgi_sessions.errors import ConfigurationError, StoreError
from wsgi_sessions.stores import FileStore
from wsgi_sessions.stores.file.root import Root
from wsgi_sessions.testing.races import forked, together

NOBODY = 65534
MARKER = ".wsgi-sessions"


def moved_to_another_inode(root: Path) -> None:
    """What a new mount, or an overlay, looks like: the same content, another device and inode."""
    copy = root.with_name("copy")
    shutil.copytree(root, copy, symlinks=True)
    copy.chmod(0o700)
    shutil.rmtree(root)
    copy.rename(root)


def test_s1_a_directory_that_was_mounted_again_is_the_same(tmp_path: Path) -> None:
    root, old, new = tmp_path / "sessions", a_key(), a_key()
    store = FileStore(root)
    store.insert(old, a_record())
    moved_to_another_inode(root)

    assert store.load(a_key()) is None
    assert store.insert(new, a_record())
    assert store.load(old) == a_record()
    store.ping()


def test_s1_a_directory_with_another_mark_is_another(tmp_path: Path) -> None:
    store = FileStore(tmp_path / "sessions")
    (tmp_path / "sessions").rename(tmp_path / "unmounted")
    other = FileStore(tmp_path / "sessions")
    for ask in (lambda: store.load(a_key()), lambda: store.insert(a_key(), a_record()), store.ping):
        with pytest.raises(StoreError, match="another directory than at the start"):
            ask()
    assert list(other.keys()) == []


@pytest.fixture
def overlay(tmp_path: Path) -> Iterator[Path]:
    """An overlay over two file systems, as container images and their volumes make."""
    merged, upper = tmp_path / "merged", tmp_path / "upper"
    for name in ("lower", "upper", "merged"):
        (tmp_path / name).mkdir(mode=0o700)
    mounts = (
        ["-t", "tmpfs", "-o", "size=1m,mode=0700", "tmpfs", str(upper)],
        [
            *("-t", "overlay", "overlay", "-o"),
            f"lowerdir={tmp_path}/lower,upperdir={upper}/data,workdir={upper}/work,xino=off",
            str(merged),
        ],
    )
    mounted: list[str] = []
    try:
        for options in mounts:
            if subprocess.run(["mount", *options], capture_output=True, check=False).returncode:
                pytest.skip("no right to mount an overlay; the same is tested with a copy")
            mounted.append(options[-1])
            if len(mounted) == 1:
                for name in ("data", "work"):
                    (upper / name).mkdir(mode=0o700)
        merged.chmod(0o700)
        yield merged
    finally:
        for place in reversed(mounted):
            subprocess.run(["umount", "-l", place], check=True)


def test_s1_an_overlay_over_two_file_systems_works(overlay: Path) -> None:
    (overlay / "sessions").mkdir(mode=0o700)
    store = FileStore(overlay / "sessions")
    keys = [a_key() for _ in range(50)]
    for key in keys:
        assert store.insert(key, a_record())
        assert store.load(a_key()) is None

    assert set(store.keys()) == set(keys)


class TestTheMark:
    def test_it_is_private_and_stays(self, tmp_path: Path) -> None:
        root = tmp_path / "sessions"
        FileStore(root)
        first = (root / MARKER).read_bytes()
        store = FileStore(root)
        store.clear()

        assert (root / MARKER).read_bytes() == first
        assert stat.S_IMODE((root / MARKER).stat().st_mode) == 0o600
        assert list(store.keys()) == []

    def test_stores_that_start_at_once_agree(self, tmp_path: Path) -> None:
        made = together(*[lambda: FileStore(tmp_path / "sessions")] * 8)
        moved_to_another_inode(tmp_path / "sessions")

        for store in made:
            store.ping()

    def test_whoever_is_faster_makes_it(self, tmp_path: Path) -> None:
        mark = b"wsgi-sessions file store %s\n" % (b"0" * 32)

        def be_late(file: int) -> None:
            (tmp_path / "sessions" / MARKER).write_bytes(mark)

        root = Root(tmp_path / "sessions", 0o600, be_late)
        root.ping()

        assert (tmp_path / "sessions" / MARKER).read_bytes() == mark

    def test_whose_it_is_is_said_to_another_user(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        root = Root(tmp_path / "sessions", 0o600, lambda file: None)
        mine = root.explain(PermissionError("not permitted"))
        monkeypatch.setattr("os.geteuid", lambda: 54_321)

        assert mine == "not permitted"
        assert root.explain(OSError("disk full")) == "disk full"
        assert "and this process runs as" in root.explain(PermissionError("not permitted"))

    def test_an_unfinished_one_is_finished(self, tmp_path: Path) -> None:
        """As a process leaves it that was killed right after making it."""
        FileStore(tmp_path / "sessions")
        (tmp_path / "sessions" / MARKER).write_bytes(b"")
        store = FileStore(tmp_path / "sessions")
        moved_to_another_inode(tmp_path / "sessions")

        store.ping()

    @pytest.mark.parametrize("content", [b"hello", b"\0" * 5000])
    def test_a_file_of_somebody_else_is_refused(self, tmp_path: Path, content: bytes) -> None:
        (tmp_path / "sessions").mkdir(mode=0o700)
        (tmp_path / "sessions" / MARKER).write_bytes(content)

        with pytest.raises(ConfigurationError, match="is not from a FileStore"):
            FileStore(tmp_path / "sessions")
        assert (tmp_path / "sessions" / MARKER).read_bytes() == content

    def test_without_it_only_the_same_inode_is_the_same(self, tmp_path: Path) -> None:
        store = FileStore(tmp_path / "sessions")
        (tmp_path / "sessions" / MARKER).unlink()
        assert store.insert(a_key(), a_record())
        moved_to_another_inode(tmp_path / "sessions")

        with pytest.raises(StoreError, match="another directory"):
            store.insert(a_key(), a_record())

    def test_a_directory_in_its_place_is_a_wrong_setting(self, tmp_path: Path) -> None:
        (tmp_path / "sessions" / MARKER).mkdir(mode=0o700, parents=True)
        (tmp_path / "sessions").chmod(0o700)

        with pytest.raises(ConfigurationError, match="can't be written to"):
            FileStore(tmp_path / "sessions")


def test_s5_an_error_of_permission_names_both_users_and_what_to_do(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    root, key = tmp_path / "sessions", a_key()
    store = FileStore(root)
    store.insert(key, a_record())
    for parent in tmp_path.parents[:-1]:
        if parent.stat().st_uid == 0 and stat.S_IMODE(parent.stat().st_mode) == 0o700:
            parent.chmod(0o711)
    tmp_path.chmod(0o711)
    name = pwd.getpwuid(NOBODY).pw_name

    def serve() -> None:
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
        for ask in (
            lambda: store.load(key),
            lambda: store.insert(a_key(), a_record()),
            lambda: store.delete(key),
            lambda: list(store.keys()),
            store.ping,
        ):
            with pytest.raises(StoreError) as caught:
                ask()
            message = str(caught.value)
            assert "belongs to user root (0)" in message
            assert f"runs as user {name} ({NOBODY})" in message
            assert "--preload" in message
            assert "chown -R" in message

    forked(serve)


def writes(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    environ["wsgi_sessions.session"]["n"] = 1
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"done"]


def test_s5_the_log_tells_what_to_do_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    middleware = SessionMiddleware(writes, secret_key=SECRET, store=FileStore(tmp_path / "s"))
    monkeypatch.setattr(os, "geteuid", lambda: NOBODY)

    def denied(*_: object, **__: object) -> int:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(tmp_path / "s" / "5a"))

    monkeypatch.setattr(os, "open", denied)
    call(middleware, environ())

    assert "insert: [Errno 13]" in caplog.text
    assert "insert: insert:" not in caplog.text
    assert "with chown -R before the start" in caplog.text


def test_a_user_without_a_name_is_told_by_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 4_000_000_123)

    with pytest.raises(ConfigurationError, match="this process is user 4000000123; run as"):
        FileStore(tmp_path)


def test_a_path_that_may_not_be_entered_is_not_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = FileStore(tmp_path / "sessions")

    def refuse(path: str) -> None:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(os, "lstat", refuse)

    with pytest.raises(StoreError, match="Permission denied"):
        store.ping()
