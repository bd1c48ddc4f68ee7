"""The command line, run as a person or a script would."""

from __future__ import annotations

import base64
import contextlib
import errno
import io
import json
import math
import os
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import servers
from wsgi import Browser, Site
from wsgi_sessions import __version__
from wsgi_sessions.cli import main, progress
from wsgi_sessions.cli.commands import new_secret, purge_store
from wsgi_sessions.cli.opening import OpenedStore
from wsgi_sessions.cli.progress import Bar
from wsgi_sessions.record import LIST_OWNER, Changes, Record, list_key
from wsgi_sessions.stores import FileStore, RedisStore, Store
from wsgi_sessions.stores.encrypted import EncryptedStore
from wsgi_sessions.stores.file.existing import ExistingFiles
from wsgi_sessions.stores.wrapper import StoreWrapper
from wsgi_sessions.testing import FakeClock


class Shell:
    def __init__(self, url: str) -> None:
        self.url = url

    def run(self, *arguments: str) -> tuple[int, str]:
        out = io.StringIO()
        return main(["--store", self.url, *arguments], out), out.getvalue()

    def json(self, *arguments: str) -> Any:
        status, text = self.run("--json", *arguments)
        assert status == 0
        return json.loads(text)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(store=FileStore(tmp_path / "sessions"), clock=None)


@pytest.fixture
def shell(site: Site, tmp_path: Path) -> Shell:
    return Shell(f"file://{tmp_path}/sessions")


def signed_in(site: Site, owner: str) -> tuple[Browser, str]:
    browser = site.browser(HTTP_USER_AGENT="Fox")
    handle = site.run(browser, lambda s: (s.login(owner), s.update(secret="s3cr3t"), s.handle)[2])
    return browser, handle.text


def test_list(site: Site, shell: Shell) -> None:
    _, ada = signed_in(site, "ada")
    _, bob = signed_in(site, "bob")

    status, table = shell.run("list")

    assert status == 0
    head, *rows = table.splitlines()
    assert head.split() == ["HANDLE", "OWNER", "LAST", "USED", "EXPIRES", "IP"]
    assert {row.split()[0] for row in rows} == {ada, bob}
    assert "192.0.2.1" in rows[0]
    assert "in 24 h" in rows[0] or "in 1 d" in rows[0]
    assert [info["handle"] for info in shell.json("list", "--owner", "ada")] == [ada]


def test_json_goes_before_or_after_the_command(site: Site, shell: Shell) -> None:
    signed_in(site, "ada")

    assert shell.run("list", "--json") == shell.run("--json", "list")
    after = io.StringIO()
    assert main(["list", "--json", "--store", shell.url], after) == 0
    (info,) = json.loads(after.getvalue())
    assert set(info) >= {
        "handle",
        "created_at",
        "last_used_at",
        "expires_at",
        "authenticated_at",
        "label",
    }


def test_show_counts_one_byte_as_one(site: Site, shell: Shell) -> None:
    browser, handle = signed_in(site, "ada")
    site.run(browser, lambda session: session.update(n=7))

    assert "n: 1 byte\n" in shell.run("show", handle)[1]


def test_show_prints_values_only_when_asked(site: Site, shell: Shell) -> None:
    browser, handle = signed_in(site, "ada")

    status, text = shell.run("show", handle)

    assert status == 0
    assert "secret: 8 bytes" in text
    assert "s3cr3t" not in text
    assert "s3cr3t" in shell.run("show", handle, "--values")[1]
    assert browser.cookies["session"].partition(".")[0] not in text
    (shown,) = shell.json("show", handle)
    assert shown["fields"] == {"secret": 8}


def test_values_of_another_codec_are_said_to_be_unreadable(site: Site, shell: Shell) -> None:
    _, handle = signed_in(site, "ada")
    site.store.update(handle, Changes(set={"other": b"\xff"}))

    status, text = shell.run("show", handle, "--values")

    assert status == 0
    assert "other: (can't be read: it was written by another codec)" in text
    assert "secret: 's3cr3t'" in text


def test_values_for_scripts_are_as_they_are_stored(site: Site, shell: Shell) -> None:
    _, handle = signed_in(site, "ada")
    fields = {"cart": b'["tea",{"n":2}]', "pair": b'{"~tuple":[1,2]}', "other": b"\xff"}
    site.store.update(handle, Changes(set=fields))

    (shown,) = shell.json("show", handle, "--values")

    assert shown["values"] == {
        "cart": ["tea", {"n": 2}],
        "other": None,
        "pair": {"~tuple": [1, 2]},
        "secret": "s3cr3t",
    }


def test_revoke(site: Site, shell: Shell, capsys: pytest.CaptureFixture[str]) -> None:
    browser, handle = signed_in(site, "ada")

    assert shell.run("revoke", handle) == (0, "ended 1 session\n")
    assert site.run(browser, lambda s: s.owner).text == "None"
    assert shell.run("revoke", handle)[0] == 1
    assert shell.run("show", "\x1b[31m")[0] == 1
    assert "\x1b" not in capsys.readouterr().err


def test_no_text_steers_the_terminal(
    tmp_path: Path, shell: Shell, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "real").mkdir(mode=0o700)
    (tmp_path / "\x1b[31mred").symlink_to(tmp_path / "real")

    for url in (f"file://{tmp_path}/\x1b[31mred", "\x1b[31mred\r://here", "\x1b[31mred\r"):
        assert main(["--store", url, "list"]) == 2

    errors = capsys.readouterr().err
    assert errors.count("red") >= 1
    assert not set("\x1b\r") & set(errors)


def test_revoke_all(site: Site, shell: Shell) -> None:
    for _ in range(3):
        signed_in(site, "ada")

    assert shell.run("revoke-all", "ada") == (0, "ended 3 sessions\n")
    assert shell.json("revoke-all", "ada") == {"revoked": 0}


@pytest.mark.parametrize(
    ("prefix", "query"), [("session:", ""), ("shop[*]:", "?prefix=shop%5B*%5D:")]
)
def test_on_redis(prefix: str, query: str, redis_server: servers.Server) -> None:
    """The same commands, on a store that other machines use."""
    store = RedisStore.from_url(redis_server.url, prefix=prefix)
    store.clear()  # no other test uses these prefixes
    site, shell = Site(store=store, clock=None), Shell(redis_server.url + query)
    browser, ada = signed_in(site, "ada")
    for _ in range(3):
        signed_in(site, "bob")
    expired = "a" * 64
    store.insert(expired, Record({}, b"", time.time() - 100, time.time() - 50))

    assert [info["handle"] for info in shell.json("list", "--owner", "ada")] == [ada]
    assert len(shell.json("list")) == 4
    assert shell.json("show", ada)[0]["fields"] == {"secret": 8}
    assert "s3cr3t" in shell.run("show", ada, "--values")[1]
    assert shell.json("stats") == {"live": 4, "with_owner": 4, "expired": 1, "data_bytes": 56}
    assert shell.run("purge") == (0, "removed 1 session\n")
    assert shell.run("revoke", ada) == (0, "ended 1 session\n")
    assert shell.run("revoke", ada)[0] == 1
    assert shell.run("revoke-all", "bob") == (0, "ended 3 sessions\n")
    assert site.run(browser, lambda session: session.owner).text == "None"
    assert shell.json("list") == []
    assert {found["check"] for found in shell.json("doctor")} >= {"reachable", "version", "clock"}


def test_purge_and_stats(tmp_path: Path) -> None:
    site = Site(store=FileStore(tmp_path / "sessions"))  # its clock is far in the past
    site.clock.advance(-800_000_000)
    site.run(site.browser(), lambda s: s.update(a=1))
    shell = Shell(f"file://{tmp_path}/sessions")

    assert shell.json("stats") == {"live": 0, "with_owner": 0, "expired": 1, "data_bytes": 0}
    assert shell.run("purge") == (0, "removed 1 session\n")
    assert shell.json("purge") == {"purged": 0}


def test_stats_counts_what_lives_and_passes_over_what_is_damaged(
    site: Site, shell: Shell, tmp_path: Path
) -> None:
    signed_in(site, "ada")
    site.run(site.browser(), lambda s: s.update(a=1))
    _, damaged = signed_in(site, "bob")
    (path,) = (tmp_path / "sessions").rglob(f"*{damaged[2:]}*")
    path.write_bytes(b"nonsense")

    # ada's field and value are 6 + 8 bytes, the visitor's 1 + 1
    assert shell.json("stats") == {"live": 2, "with_owner": 1, "expired": 0, "data_bytes": 16}


def test_secret(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["secret"]) == 0
    first = capsys.readouterr().out.strip()

    assert len(first) >= 43
    assert main(["secret"]) == 0
    assert capsys.readouterr().out.strip() != first


def test_doctor(site: Site, shell: Shell, tmp_path: Path) -> None:
    signed_in(site, "ada")
    assert shell.run("doctor")[0] == 0
    victim = next(path for path in (tmp_path / "sessions").rglob("*") if path.is_file())
    victim.chmod(0o644)

    status, text = shell.run("doctor")

    assert status == 1
    assert "chmod -R go=" in text
    out = io.StringIO()
    assert main(["--json", "--store", shell.url, "doctor"], out) == 1
    assert any(found["severity"] == "error" for found in json.loads(out.getvalue()))


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        ([], 2, "usage"),
        (["dance"], 2, "dance"),
        (["list"], 2, "--store"),
        (["--store", "nonsense", "list"], 2, "scheme"),
        (["--store", "memory://", "list"], 2, "memory"),
        (["--store", "http://user:s3cr3t@x", "list"], 2, "scheme"),
        (["--help"], 0, ""),
        (["--store", "file", "list"], 2, "scheme"),
        (["--store", "file://relative", "list"], 2, "absolute path"),
        (["--store", "", "list"], 2, "WSGI_SESSIONS_STORE"),
    ],
)
def test_exit_status(
    arguments: list[str], status: int, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == status

    error = capsys.readouterr().err
    assert says in error
    assert "s3cr3t" not in error
    assert "Traceback" not in error


def test_an_unreachable_store(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--store", "redis://127.0.0.1:1/0", "list"]) == 1

    assert "can't answer" in capsys.readouterr().err


def test_as_a_module_and_as_a_script() -> None:
    module = subprocess.run(
        [sys.executable, "-m", "wsgi_sessions", "secret"],
        capture_output=True,
        text=True,
        check=True,
    )
    script = subprocess.run(
        [Path(sys.executable).with_name("wsgi-sessions"), "secret"],
        capture_output=True,
        text=True,
        check=True,
    )

    assert len(module.stdout.strip()) == len(script.stdout.strip()) == 64


def test_purge_shows_its_progress_on_a_terminal(site: Site, shell: Shell) -> None:
    signed_in(site, "ada")
    master, slave = os.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "wsgi_sessions", "--store", shell.url, "purge"],
        stderr=slave,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        os.close(slave)
        out, _ = process.communicate(timeout=60)
    shown = b""
    # A terminal hands on what was written in pieces, though who wrote it has ended.
    with contextlib.suppress(OSError):  # which says that there is no more
        while piece := os.read(master, 10_000):
            shown += piece
    os.close(master)

    assert out == "removed 0 sessions\n"
    assert f"[{'.' * 30}] 0 of 2" in shown.decode()
    assert shown.endswith(b"\r\x1b[K")


def test_a_bar_is_not_drawn_more_often_than_eyes_can_follow(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = FakeClock(1_000.0)
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=clock))
    terminal = io.StringIO()
    bar = Bar(terminal, 2)
    first = f"\r[{'#' * 15}{'.' * 15}] 1 of 2"

    bar.show(1)
    clock.advance(0.1)
    bar.show(2)
    assert terminal.getvalue() == first

    clock.advance(1)
    bar.show(2)
    assert terminal.getvalue() == f"{first}\r[{'#' * 30}] 2 of 2"


class CountingStore(StoreWrapper):
    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self.listed = 0

    def keys(self) -> Iterator[str]:
        self.listed += 1
        return super().keys()


def test_purge_lists_the_keys_once_and_counts_no_owners_list() -> None:
    site = Site()
    site.clock.advance(-800_000_000)
    signed_in(site, "ada")
    site.run(site.browser(), lambda s: s.update(a=1))
    store = CountingStore(site.store)

    assert purge_store(OpenedStore(store, ()), io.StringIO()) == 2
    assert store.listed == 1
    assert list(site.store.keys()) == []


def test_purge_takes_what_a_crash_left_out_of_an_owners_list(site: Site, shell: Shell) -> None:
    _, first = signed_in(site, "ada")
    signed_in(site, "ada")
    entry = struct.pack(">BddQ?", 1, time.time() - 100, time.time() + 1000, 1, False)
    site.store.update(list_key("ada"), Changes(set={"a" * 64: entry}))
    site.store.delete(first)

    shell.run("purge")

    listed = site.store.load(list_key("ada"))
    assert listed is not None
    assert "a" * 64 not in listed.fields


def test_owners_lists_are_no_sessions_anywhere(site: Site, shell: Shell) -> None:
    signed_in(site, "ada")
    at = list_key("ada")

    assert [info["owner"] for info in shell.json("list")] == ["ada"]
    assert shell.json("stats")["live"] == 1
    assert shell.run("show", at)[0] == 1
    assert shell.run("revoke", at)[0] == 1
    assert shell.run("revoke", at[:8])[0] == 1
    assert site.store.load(at) is not None


@pytest.mark.parametrize("command", ["list", "stats", "purge", "doctor"])
def test_a_directory_that_is_not_there_is_an_error_and_is_not_made(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    missing = tmp_path / "no" / "sessions"

    status = main(["--store", f"file://{missing}", command])

    assert status == 1
    streams = capsys.readouterr()
    assert "there is no directory" in streams.out + streams.err
    assert not missing.parent.exists()


@pytest.mark.parametrize("command", ["list", "stats", "purge", "doctor"])
def test_a_directory_that_cannot_be_looked_into_is_an_error(
    command: str, shell: Shell, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Any, **_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", path)

    monkeypatch.setattr(os, "lstat", refuse)
    status, text = shell.run(command)

    assert status == 1
    expected = "can't be looked into: Permission denied; run this as the app's user"
    assert expected in text + capsys.readouterr().err


def test_what_cannot_be_a_path_is_a_wrong_setting(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--store", "file:///var/%00sessions", "list"]) == 2
    assert "write the path of a directory" in capsys.readouterr().err


def test_a_directory_that_others_can_write_to_is_an_error_that_the_doctor_finds(
    site: Site, shell: Shell, tmp_path: Path
) -> None:
    (tmp_path / "sessions").chmod(0o777)

    status, text = shell.run("doctor")

    assert status == 1
    assert "error" in text
    assert "open for others to write to (mode 0777)" in text
    assert shell.run("list")[0] == 2


def test_a_directory_of_something_else_stays_as_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "photos").mkdir(mode=0o700)

    assert main(["--store", f"file://{tmp_path}/photos", "list"]) == 1
    assert "not the directory of a FileStore" in capsys.readouterr().err
    assert list((tmp_path / "photos").iterdir()) == []


def everything_in(directory: Path) -> dict[str, tuple[int, bytes]]:
    return {
        str(path): (path.stat().st_mtime_ns, b"" if path.is_dir() else path.read_bytes())
        for path in directory.rglob("*")
    }


def test_looking_changes_nothing(site: Site, shell: Shell, tmp_path: Path) -> None:
    """Not even an owner's list that could be healed, or a damaged file."""
    _, damaged = signed_in(site, "ada")
    _, gone = signed_in(site, "ada")
    _, left = signed_in(site, "ada")
    site.store.delete(gone)
    entry = struct.pack(">BddQ?", 1, time.time() - 100, time.time() + 1000, 1, False)
    site.store.update(list_key("ada"), Changes(set={gone: entry}))
    (path,) = (tmp_path / "sessions").rglob(f"*{damaged[2:]}*")
    path.write_bytes(b"nonsense")
    before = everything_in(tmp_path)

    assert [info["handle"] for info in shell.json("list", "--owner", "ada")] == [left]
    assert [info["handle"] for info in shell.json("list")] == [left]
    assert shell.json("list", "--owner", "nobody") == []
    assert shell.run("show", damaged)[0] == 1
    shell.json("show", left)
    shell.json("stats")
    shell.json("doctor")
    assert everything_in(tmp_path) == before


def test_a_file_that_goes_while_it_is_read_again_is_no_session(tmp_path: Path) -> None:
    FileStore(tmp_path / "sessions")
    store = ExistingFiles(str(tmp_path / "sessions"))

    assert store._load_locked("a" * 64) is None


def handles_that_begin_alike(site: Site, *keys: str) -> None:
    _, handle = signed_in(site, "ada")
    record = site.store.load(handle)
    assert record is not None
    for key in keys:
        assert site.store.insert(key, record)


def test_a_record_that_can_be_found_but_not_read(
    site: Site, shell: Shell, capsys: pytest.CaptureFixture[str]
) -> None:
    now = time.time()
    site.store.insert("a" * 64, Record({}, b"nonsense", now, now + 1000))

    assert shell.run("show", "a" * 8) == (1, "")
    assert "it is damaged" in capsys.readouterr().err
    assert shell.run("show", "not-a-handle") == (1, "")


def test_handles_may_be_shortened(
    site: Site, shell: Shell, capsys: pytest.CaptureFixture[str]
) -> None:
    one, other = "abcdef01" + "1" * 56, "abcdef01" + "2" * 56
    handles_that_begin_alike(site, one, other)

    assert shell.json("show", "abcdef011")[0]["handle"] == one
    assert shell.json("show", "ABCDEF011")[0]["handle"] == one
    assert shell.run("show", "abcdef01")[0] == 1
    assert "2 sessions have handles that begin with abcdef01" in capsys.readouterr().err
    assert shell.run("revoke", "abcdef01")[0] == 1
    assert shell.run("show", "abcdef0")[0] == 1
    assert "too short" in capsys.readouterr().err
    assert shell.run("show", "abcdef0133")[0] == 1
    assert shell.run("revoke", "abcdef011") == (0, "ended 1 session\n")
    assert site.store.load(one) is None
    assert site.store.load(other) is not None


def test_a_handle_means_no_expired_session(site: Site, shell: Shell) -> None:
    now = time.time()
    site.store.insert("abcdef01" + "1" * 56, Record({}, b"", now - 100, now - 50))
    live = "abcdef01" + "2" * 56
    handles_that_begin_alike(site, live)

    assert shell.json("show", "abcdef01")[0]["handle"] == live


def test_the_environment_names_the_store(
    site: Site, shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    signed_in(site, "ada")
    monkeypatch.setenv("WSGI_SESSIONS_STORE", shell.url)
    out = io.StringIO()

    assert main(["list", "--json"], out) == 0
    assert len(json.loads(out.getvalue())) == 1
    assert main(["--store", "memory://", "list"]) == 2


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"wsgi-sessions {__version__}\n"


def test_a_secret_never_looks_like_an_option() -> None:
    drawn = iter(["-x", "--y", "z-"])

    assert new_secret(lambda: next(drawn)) == "z-"


KEY = bytes(range(32))
"""It holds line feeds and spaces, as a random one may."""


class Encrypted:
    """A store that an app has encrypted, and a file with its key."""

    def __init__(self, directory: Path) -> None:
        store = FileStore(directory / "sessions")
        self.site = Site(store=store, clock=None, encryption_keys=[KEY])
        self.browser, self.handle = signed_in(self.site, "ada")
        self.plain = store
        self.directory = directory
        self.url = f"file://{directory}/sessions"
        self.key_file(KEY.hex().encode())

    def key_file(self, content: bytes) -> None:
        (self.directory / "keys").write_bytes(content)

    def run(self, *arguments: str, with_key: bool = False) -> tuple[int, str]:
        keys = ["--encryption-key-file", f"{self.directory}/keys"] if with_key else []
        out = io.StringIO()
        return main(["--store", self.url, *arguments, *keys], out), out.getvalue()


@pytest.fixture
def encrypted(tmp_path: Path) -> Encrypted:
    return Encrypted(tmp_path)


@pytest.mark.parametrize(
    "command", [["list"], ["list", "--owner", "ada"], ["show"], ["revoke-all", "ada"]]
)
def test_what_needs_the_key_says_so_and_changes_nothing(
    encrypted: Encrypted, command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    command = [*command, encrypted.handle[:10]] if command == ["show"] else command
    before = everything_in(encrypted.directory)

    assert encrypted.run(*command) == (2, "")
    assert "--encryption-key-file" in capsys.readouterr().err
    encrypted.key_file(bytes(range(1, 33)))
    assert encrypted.run(*command, with_key=True) == (1, "")
    assert "under a key that isn't" in capsys.readouterr().err
    assert everything_in(encrypted.directory / "sessions").items() <= before.items()


def test_with_the_key_an_encrypted_store_is_like_any_other(encrypted: Encrypted) -> None:
    status, text = encrypted.run("list", "--json", with_key=True)

    assert status == 0
    assert [(info["owner"], info["handle"]) for info in json.loads(text)] == [
        ("ada", encrypted.handle)
    ]
    shown = encrypted.run("show", encrypted.handle[:8], "--values", with_key=True)[1]
    assert "secret: 's3cr3t'" in shown
    assert "secret: 8 bytes" in shown
    assert encrypted.run("list", "--owner", "ada", with_key=True)[1].count(encrypted.handle) == 1
    assert encrypted.run("revoke-all", "ada", with_key=True) == (0, "ended 1 session\n")


def test_a_sealed_field_that_is_damaged(
    encrypted: Encrypted, capsys: pytest.CaptureFixture[str]
) -> None:
    encrypted.plain.update(encrypted.handle, Changes(set={"secret": b"\xe1\x01nonsense"}))

    assert encrypted.run("show", encrypted.handle, with_key=True) == (1, "")
    assert "a field can't be read" in capsys.readouterr().err


def test_what_needs_no_key_works_without(encrypted: Encrypted) -> None:
    now = time.time()
    encrypted.plain.insert("b" * 64, Record({}, b"", now - 100, now - 50))

    status, text = encrypted.run("stats", "--json")
    facts = json.loads(text)
    assert (status, facts["live"], facts["with_owner"], facts["expired"]) == (0, 1, 1, 1)
    assert encrypted.run("purge") == (0, "removed 1 session\n")
    assert encrypted.run("revoke", encrypted.handle[:8]) == (0, "ended 1 session\n")
    assert encrypted.site.run(encrypted.browser, lambda s: s.owner).text == "None"


@pytest.mark.parametrize("with_key", [False, True])
def test_purge_removes_an_owners_list_that_nobody_will_read(
    encrypted: Encrypted, *, with_key: bool
) -> None:
    encrypted.key_file(KEY)
    lost = EncryptedStore(encrypted.plain, (bytes(range(1, 33)),))
    long_ago = time.time() - 100
    entries = {"e" * 64: b"of a session that is over"}
    lost.insert(list_key("eve"), Record(entries, b"", long_ago, math.inf, owner=LIST_OWNER))

    assert encrypted.run("purge", with_key=with_key) == (0, "removed 0 sessions\n")
    assert set(encrypted.plain.keys()) == {encrypted.handle, list_key("ada")}


def test_revoke_works_with_the_wrong_key(encrypted: Encrypted) -> None:
    encrypted.key_file(bytes(range(1, 33)))

    assert encrypted.run("revoke", encrypted.handle, with_key=True) == (0, "ended 1 session\n")


def test_with_the_key_revoke_takes_the_session_out_of_its_owners_list(
    encrypted: Encrypted,
) -> None:
    assert encrypted.run("revoke", encrypted.handle, with_key=True)[0] == 0
    assert list(encrypted.plain.keys()) == []


@pytest.mark.parametrize(
    "content",
    [
        KEY,
        KEY.hex().upper().encode() + b"\r\n",
        base64.b64encode(KEY),
        base64.urlsafe_b64encode(KEY).rstrip(b"="),
        b"\n" + bytes(range(1, 33)).hex().encode() + b"\n" + KEY.hex().encode() + b"\n\n",
    ],
    ids=["raw", "hex", "base64", "urlsafe", "two"],
)
def test_a_key_file_is_read(encrypted: Encrypted, content: bytes) -> None:
    encrypted.key_file(content)

    assert encrypted.run("list", with_key=True)[0] == 0


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is empty"),
        (b"s3cr3t", "line 1 is not a key of 32 bytes"),
        (KEY.hex().encode() + b"\ns3cr3t\xff", "line 2 is not a key"),
    ],
)
def test_a_key_file_that_holds_something_else(
    encrypted: Encrypted, content: bytes, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    encrypted.key_file(content)

    assert encrypted.run("list", with_key=True) == (2, "")
    error = capsys.readouterr().err
    assert says in error
    assert "s3cr3t" not in error


def test_a_key_file_that_is_not_there(
    encrypted: Encrypted, capsys: pytest.CaptureFixture[str]
) -> None:
    (encrypted.directory / "keys").unlink()

    assert encrypted.run("list", with_key=True) == (2, "")
    assert "can't be read: No such file" in capsys.readouterr().err


def test_an_owner_is_text(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["revoke-all", "\udcff"]) == 2
    assert "an owner is text in UTF-8" in capsys.readouterr().err


# Buffered, as it is for most, output goes out at the end; unbuffered, when it is printed.
PRINTING = pytest.mark.parametrize(
    ("arguments", "unbuffered"),
    [(["list"], ""), (["list"], "1"), (["stats", "--json"], ""), (["--help"], "")],
)


def process(
    redirection: str, url: str, *arguments: str, **environ: str
) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "wsgi_sessions", "--store", url, *arguments]
    shell = ["sh", "-c", f'exec "$0" "$@" {redirection}']
    return subprocess.run(
        shell + command, capture_output=True, env={**os.environ, **environ}, check=False
    )


@PRINTING
def test_who_has_seen_enough_ends_it_quietly(
    arguments: list[str], unbuffered: str, site: Site, shell: Shell
) -> None:
    signed_in(site, "ada")
    reads, writes = os.pipe()
    os.close(reads)
    command = [sys.executable, "-m", "wsgi_sessions", "--store", shell.url, *arguments]
    environ = {**os.environ, "PYTHONUNBUFFERED": unbuffered}

    ended = subprocess.run(command, stdout=writes, stderr=subprocess.PIPE, env=environ, check=False)

    os.close(writes)
    assert (ended.returncode, ended.stderr) == (1, b"")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")
@PRINTING
def test_output_that_cannot_be_written_is_an_error(
    arguments: list[str], unbuffered: str, shell: Shell, site: Site
) -> None:
    signed_in(site, "ada")

    done = process(">/dev/full", shell.url, *arguments, PYTHONUNBUFFERED=unbuffered)

    says = b"wsgi-sessions: the output can't be written: No space left on device\n"
    assert (done.returncode, done.stdout, done.stderr) == (1, b"", says)


def test_a_closed_stdout_is_an_error(shell: Shell, site: Site) -> None:
    signed_in(site, "ada")

    done = process(">&-", shell.url, "stats")

    says = b"wsgi-sessions: the output can't be written: stdout is closed\n"
    assert (done.returncode, done.stderr) == (1, says)
    assert process(">&-", shell.url, "--nonsense").returncode == 2


def test_a_closed_stderr_is_no_matter(shell: Shell, site: Site) -> None:
    signed_in(site, "ada")

    done = process("2>&-", shell.url, "purge")

    assert (done.returncode, done.stdout) == (0, b"removed 0 sessions\n")
    assert process("2>&-", shell.url, "show", "f" * 64).returncode == 1
    assert process("2>&-", "nonsense", "list").returncode == 2


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "ascii", "utf-8"])
def test_what_the_terminal_cannot_show_is_escaped(encoding: str, shell: Shell, site: Site) -> None:
    _, handle = signed_in(site, "東京")

    told = process("", shell.url, "--help", PYTHONIOENCODING=encoding)
    listed = process("", shell.url, "list", PYTHONIOENCODING=encoding)
    shown = process("", shell.url, "show", handle, PYTHONIOENCODING=encoding)

    assert [told.returncode, listed.returncode, shown.returncode] == [0, 0, 0]
    assert "rediss://…".encode(encoding, "backslashreplace") in told.stdout
    owner = "東京".encode(encoding, "backslashreplace")
    assert owner in listed.stdout
    assert b"owner: " + owner + b"\n" in shown.stdout
