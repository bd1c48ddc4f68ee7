"""Row C-1 with the real thing: sessions of a client that has Java's CookieManager, as OkHttp may."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from integration.test_servers import running
from programs import missing

pytestmark = pytest.mark.programs

CLIENT = Path(__file__).parent / "CookieClient.java"


def asked(tmp_path: Path, version: int, *paths: str) -> list[Any]:
    """What the app answers to one request after the other."""
    if shutil.which("javac") is None:
        missing("java", "there is no JDK (Debian: apt-get install default-jdk-headless)")
    with running("wsgiref", f"file://{tmp_path}/sessions", tmp_path / "log") as server:
        addresses = [server.url(path) for path in paths]
        command = ["java", "-Xshare:auto", "-XX:TieredStopAtLevel=1", str(CLIENT), str(version)]
        done = subprocess.run([*command, *addresses], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_c1_a_session_goes_on_with_javas_cookie_manager(tmp_path: Path) -> None:
    *counted, environ, _, out, after = asked(
        tmp_path, 0, "/count", "/count", "/count", "/environ", "/login", "/logout", "/count"
    )

    assert [answer["n"] for answer in counted] == [1, 2, 3]
    # What it takes for a cookie of RFC 6265, as Expires stands beside Max-Age, comes back as it is.
    assert environ["cookie"].startswith("session=")
    assert out == {}
    assert after == {"n": 1}


def test_c1_it_does_in_the_form_of_rfc_2965_too(tmp_path: Path) -> None:
    *counted, environ = asked(tmp_path, 1, "/count", "/count", "/count", "/environ")

    assert environ["cookie"].startswith('$Version="1"; session="')
    assert [answer["n"] for answer in counted] == [1, 2, 3]
