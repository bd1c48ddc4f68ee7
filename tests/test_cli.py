"""The command line, run as a person or a script would."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

import servers
from wsgi import Browser, Site
from wsgi_sessions.cli import ProgressBar, main
from wsgi_sessions.record import Changes, Record
from wsgi_sessions.stores import FileStore, MemoryStore, RedisStore
from wsgi_sessions.testing import FaultyStore


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
    assert "other: (can't be read: sealed, or written by another codec)" in text
    assert "secret: 's3cr3t'" in text


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


def test_on_redis(redis_server: servers.Server) -> None:
    """The same commands, on a store that other machines use."""
    store = RedisStore.from_url(redis_server.url)
    store.clear()  # the command line knows no prefix but the default, which no other test uses
    site, shell = Site(store=store, clock=None), Shell(redis_server.url)
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


APP = """
import datetime
from wsgi_sessions import SessionMiddleware
from wsgi_sessions.carry_over import Beaker, Express, FlaskCookie


class Flask:
    extensions = {}


flask, key = Flask(), "a secret of at least thirty-two bytes, for tests"
sources = [
    Beaker("redis://:hush@localhost"),
    FlaskCookie("hush", until=datetime.datetime(2020, 1, 31, tzinfo=datetime.UTC)),
    Express("redis://localhost", "hush", until=datetime.datetime(2100, 1, 31, tzinfo=datetime.UTC)),
]
application = SessionMiddleware(print, secret_key=key, carry_over=sources)
flask.extensions["wsgi_sessions"] = application
"""


@pytest.mark.parametrize("name", ["application", "flask", "flask.extensions.__class__"])
def test_doctor_of_an_app_says_until_when_sessions_are_carried_over(
    name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "shop_to_examine", raising=False)
    (tmp_path / "shop_to_examine.py").write_text(APP)
    out, path = io.StringIO(), list(sys.path)

    status = main(["doctor", "--app", f"shop_to_examine:{name}"], out)

    assert sys.path == path
    if name.endswith("__class__"):
        assert (status, "--app names a type" in capsys.readouterr().err) == (2, True)
        return
    assert status == 0
    assert "warning beaker is asked without end; set until to" in out.getvalue()
    assert "warning nothing comes over from flask-cookie since 2020-01-31" in out.getvalue()
    assert "ok      sessions of express come over until 2100-01-31 00:00 UTC" in out.getvalue()
    assert "hush" not in out.getvalue()


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (["doctor", "--app", "no_such_module:app"], 2, "can't be found (No module named"),
        (["doctor", "--app", "json:nothing"], 2, "can't be found (module 'json' has no"),
        (["doctor", "--app", ":app"], 2, "can't be found"),
        ([], 2, "usage"),
        (["dance"], 2, "dance"),
        (["list"], 2, "--store"),
        (["--store", "nonsense", "list"], 2, "scheme"),
        (["--store", "memory://", "list"], 2, "memory"),
        (["--store", "http://user:s3cr3t@x", "list"], 2, "scheme"),
        (["--help"], 0, ""),
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
    master, slave = os.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "wsgi_sessions", "--store", shell.url, "purge"],
        stderr=slave,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        os.close(slave)
        out, _ = process.communicate(timeout=60)
    shown = os.read(master, 10_000).decode()
    os.close(master)

    assert out == "removed 0 sessions\n"
    assert "\x1b[K" in shown


def test_the_progress_bar_tells_how_many_have_gone_and_are_left() -> None:
    terminal, store = io.StringIO(), FaultyStore(MemoryStore())
    seen = threading.Event()
    store.after("keys", lambda: seen.set() if store.calls["keys"] > 2 else None)
    store.before("purge_expired", lambda now: seen.wait(60))  # until the bar was drawn once

    assert ProgressBar(terminal).watch(store) == 0
    assert f"[{'.' * 30}] 0 removed, 0 left" in terminal.getvalue()


def test_a_progress_bar_that_gets_no_answer_leaves_the_purge_alone() -> None:
    terminal, store = io.StringIO(), FaultyStore(MemoryStore())
    asked = threading.Event()

    def fail_from_now_on(now: float) -> None:
        store.fail("keys")
        store.before("keys", asked.set)
        asked.wait(60)

    store.before("purge_expired", fail_from_now_on)

    assert ProgressBar(terminal).watch(store) == 0
    assert terminal.getvalue() == "\r\x1b[K"
