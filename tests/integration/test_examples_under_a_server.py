"""The small examples, each under a real server, with a real cookie jar."""

from __future__ import annotations

import json
import re
import sys
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from integration.test_servers import KINDS, PATIENCE, Browser, Server, started
from ports import free_port

pytestmark = pytest.mark.slow
EXAMPLES = Path(__file__).parents[2] / "examples"


@contextmanager
def served(name: str, tmp_path: Path) -> Iterator[Browser]:
    """A browser in front of this example."""
    port = free_port()
    command = [sys.executable, "-m", "waitress", f"--listen=127.0.0.1:{port}", f"{name}:app"]
    with started(command, port, "memory://", tmp_path / "log", path=EXAMPLES):
        yield Browser(Server(name, KINDS["waitress"], port))


def post(browser: Browser, path: str, fields: dict[str, str] | bytes) -> str:
    body = fields if isinstance(fields, bytes) else urllib.parse.urlencode(fields).encode()
    kind = "application/json" if isinstance(fields, bytes) else "application/x-www-form-urlencoded"
    request = urllib.request.Request(
        browser._server.url(path), data=body, headers={"Content-Type": kind}
    )
    with browser._opener.open(request, timeout=PATIENCE) as response:
        return str(response.read().decode())


def test_bottle(tmp_path: Path) -> None:
    with served("bottle_app", tmp_path) as browser:
        post(browser, "/", {"note": "tea"})

        assert b"<li>tea</li>" in browser.get("/")


def test_falcon(tmp_path: Path) -> None:
    with served("falcon_app", tmp_path) as browser:
        for _ in range(2):
            post(browser, "/cart", b'{"item": "tea"}')

        assert browser.json("/cart") == {"tea": 2}


def test_pyramid(tmp_path: Path) -> None:
    with served("pyramid_app", tmp_path) as browser:
        found = re.search(r'value="([^"]+)"', browser.get("/").decode())
        assert found is not None

        assert "<p>Hello.</p>" in post(browser, "/", {"csrf_token": found[1]})


def test_django(tmp_path: Path) -> None:
    with served("django_app", tmp_path) as browser:
        assert [json.loads(browser.get("/")) for _ in range(2)] == [{"visits": 1}, {"visits": 2}]
