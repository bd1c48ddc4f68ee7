"""Looking at an old store before a move, from the command line."""

from __future__ import annotations

import contextlib
import io
import json
import os
import pty
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import servers
from carry_over import golden
from carry_over.golden import Place
from wsgi_sessions import cli
from wsgi_sessions.carry_over.survey import source_from_text, survey
from wsgi_sessions.cli import progress
from wsgi_sessions.errors import ConfigurationError

ID = "0123456789abcdef"


@pytest.fixture
def store(redis_server: servers.Server, redis_url: str) -> str:
    """Five of Flask-Session's records, one of them over."""
    client = redis_server.client()
    for number, data in enumerate(
        [b'{"_user_id": 1}', b'{"a": 1}', b"{", b"{", b'{"_user_id": []}', b'{"_permanent": true}']
    ):
        client.set(f"session:{ID}{number}", data)
    return f"flask-session+{redis_url}"


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    out = io.StringIO()
    status = cli.main(["carry-over", *arguments], out)
    return status, out.getvalue(), capsys.readouterr().err


def test_it_says_how_many_could_come_and_why_others_could_not(
    store: str, capsys: pytest.CaptureFixture[str]
) -> None:
    status, text, _ = run(capsys, "--from", store)

    assert status == 0
    assert text.splitlines() == [
        "6 records, 5 sessions live",
        "2 can be carried over, 1 of them with an owner",
        "2 would stay behind: damaged JSON",
        (
            "1 would stay behind: the field '_user_id', which holds the user, is not a str of 1 to"
            " 256 characters, an int or a UUID, but list"
        ),
    ]


def test_as_json(store: str, capsys: pytest.CaptureFixture[str]) -> None:
    status, text, _ = run(capsys, "--from", store, "--owner", "a", "--json")

    assert status == 0
    assert json.loads(text) == {
        "records": 6,
        "live": 5,
        "could_come": 3,
        "with_owner": 1,
        "left_behind": [{"reason": "damaged JSON", "sessions": 2}],
    }


def test_another_prefix(redis_url: str, redis_server: servers.Server) -> None:
    redis_server.client().set("old:" + ID, b'{"a": 1}')

    source = source_from_text(f"express+{redis_url}", prefix="old:")

    assert survey(source, time.time()).could_come == 1


def test_it_counts_as_it_goes(store: str) -> None:
    seen: list[int] = []

    survey(source_from_text(store), time.time(), seen.append)

    assert seen == [1, 2, 3, 4, 5, 6]


def test_a_store_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    status, text, complaint = run(capsys, "--from", "beaker+file:///nonexistent/dir")

    assert (status, text) == (1, "")
    assert "the old sessions' directory isn't there" in complaint


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--from", "php+file:///x"], "--from doesn't name a system that can be looked at; write beaker+"),
        (["--from", "redis://localhost"], "--from doesn't name a system that can be looked at"),
        (["--from", "beaker+"], "Beaker: store is a str without a URL's scheme"),
        (["--from", "beaker+file:///x", "--prefix", "a"], "Beaker has no option prefix"),
        (["--from", "django+sqlite:////x"], "add --secret-file with the SECRET_KEY in it"),
        (["--from", "django+sqlite:////x", "--secret-file", "/nonexistent"],
         "--secret-file can't be read (FileNotFoundError)"),
    ],
)  # fmt: skip
def test_what_cannot_be_looked_at(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    status, text, complaint = run(capsys, *arguments)

    assert (status, text) == (2, "")
    assert said in complaint


SYSTEMS = {
    "beaker-pickle": ("beaker+{place.files}", ["--timeout", "1e9"]),
    "beaker-redis": ("beaker+{place.redis_url}", ["--timeout", "1e9"]),
    "flask-session-files": ("flask-session+{place.files}", []),
    "django-db": ("django+{place.database}", ["--secret-file", "{secrets}"]),
    "django-cache": ("django+{place.redis_url}", []),
    "django-file": ("django+{place.files}", ["--secret-file", "{secrets}"]),
    "express-redis": ("express+{place.redis_url}", []),
}


@pytest.mark.parametrize("case", SYSTEMS)
def test_each_system_can_be_looked_at(
    case: str,
    tmp_path: Path,
    redis_url: str,
    redis_server: servers.Server,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    place = Place(tmp_path / "old", redis_url)
    place.directory.mkdir()
    (kept, *_) = (one for one in golden.kept() if one.case == case)
    kept.put_back(place, redis_server.client())
    secrets = tmp_path / "secrets"
    secrets.write_text(f"a newer one\n\n{golden.SECRET}\n")
    store, options = SYSTEMS[case]
    monkeypatch.setattr(time, "time", lambda: kept.made_at)

    arguments = [option.format(secrets=secrets) for option in options]
    status, text, complaint = run(capsys, "--from", store.format(place=place), *arguments, "--json")

    assert status == 0, complaint
    seen = json.loads(text)
    assert (seen["records"], seen["could_come"], seen["left_behind"]) == (1, 1, [])
    told = run(capsys, "--from", store.format(place=place), *arguments)[1]
    assert told.startswith("1 record, 1 session live\n")


def all_shown_on(controller: int) -> str:
    """What was written to a terminal that nobody holds open any more."""
    # It comes to this end in pieces, also after the one who wrote it has ended.
    shown = b""
    with open(controller, "rb", buffering=0) as end, contextlib.suppress(OSError):
        while piece := end.read(10_000):  # at its end, Linux raises EIO
            shown += piece
    return shown.decode()


def test_a_bar_on_a_terminal(store: str) -> None:
    controller, terminal = pty.openpty()

    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "wsgi_sessions",
            "carry-over",
            "--from",
            f"{store}?socket_timeout=60",
        ],
        stdout=subprocess.PIPE,
        stderr=terminal,
        check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )

    os.close(terminal)
    drawn = all_shown_on(controller)
    assert done.stdout.decode().startswith("6 records")
    assert "] 1 of 6" in drawn
    assert drawn.endswith("\x1b[K")


def test_the_bar_is_drawn_a_few_times_a_second() -> None:
    terminal = io.StringIO()
    bar: Any = progress.Bar(terminal, 1000)

    for done in range(1, 1001):
        bar.show(done)

    assert terminal.getvalue().count("\r") < 100


def test_a_system_must_be_named() -> None:
    with pytest.raises(ConfigurationError, match="doesn't name a system"):
        source_from_text("")
