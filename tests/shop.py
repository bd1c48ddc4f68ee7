"""Visitors of the example shop: what they see, and the same walk for all of them."""

from __future__ import annotations

import contextlib
import http.cookiejar
import importlib
import os
import re
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol
from unittest import mock

from ports import free_port

EXAMPLES = Path(__file__).parents[1] / "examples"
_PATIENCE = 100.0


class Fetch(Protocol):
    def __call__(self, path: str, form: dict[str, str] | None) -> tuple[int, Any, str]: ...


class Visitor:
    """Reads pages and sends their forms, redirects followed."""

    def __init__(self, fetch: Fetch) -> None:
        self._fetch = fetch
        self.status = 0
        self.headers: Any = {}
        self.page = ""

    def get(self, path: str = "/") -> str:
        self.status, self.headers, self.page = self._fetch(path, None)
        return self.page

    def post(self, path: str, **form: str) -> str:
        """Send a form with the token of the page that was seen last."""
        token = re.search(r'name="csrf" value="([^"]+)"', self.page)
        assert token is not None, "a page with a form must be seen first"
        return self.forge(path, csrf=token[1], **form)

    def forge(self, path: str, **form: str) -> str:
        """Send a form as another site would have a browser do it."""
        self.status, self.headers, self.page = self._fetch(path, form)
        return self.page

    @property
    def in_cart(self) -> int:
        return int(self._seen(r'id="in-cart">(\d+)<') or 0)

    @property
    def owner(self) -> str | None:
        return self._seen(r'id="owner">([^<]+)<')

    @property
    def handle(self) -> str | None:
        return self._seen(r'id="handle">([0-9a-f]{64})<')

    def sign_in(self, name: str, *, remember: bool = False) -> str:
        self.get("/sign-in")
        return self.post("/sign-in", name=name, **({"remember": "on"} if remember else {}))

    def _seen(self, pattern: str) -> str | None:
        found = re.search(pattern, self.page)
        return None if found is None else found[1]


def over_http(base: str) -> Visitor:
    """A visitor with a cookie jar of the standard library."""
    jar = http.cookiejar.CookieJar()
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPCookieProcessor(jar)
    )

    def fetch(path: str, form: dict[str, str] | None) -> tuple[int, Any, str]:
        data = None if form is None else urllib.parse.urlencode(form).encode()
        try:
            with opener.open(base + path, data, timeout=_PATIENCE) as answer:
                return answer.status, answer.headers, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.headers, error.read().decode()

    return Visitor(fetch)


def walk(visitor: Visitor) -> None:
    """Visit, fill the cart, sign in, look around, sign out."""
    assert "your first visit" in visitor.get()
    visitor.post("/cart/teapot")
    assert "Brown teapot: added to your cart" in visitor.page
    assert "your first visit" in visitor.page  # the answer to a form isn't a visit
    visitor.post("/cart/teapot")
    visitor.post("/cart/cup")
    assert visitor.in_cart == 3
    before = visitor.get("/session") and visitor.handle
    visitor.sign_in("Ada")
    assert (visitor.owner, visitor.in_cart) == ("Ada", 3)
    after = visitor.get("/session") and visitor.handle
    assert before and before == after
    assert "€112.00" in visitor.get("/cart")
    visitor.post("/cart/teapot", count="1")
    visitor.post("/cart/cup", count="0")
    assert visitor.in_cart == 1
    visitor.post("/order")
    assert "Thank you" in visitor.page and visitor.in_cart == 0
    visitor.post("/sign-out")
    assert visitor.owner is None
    assert "your first visit" in visitor.page


def app_by(clock: Callable[[], float], **environ: str) -> Any:
    """The shop in this process, by this clock; its directory must be on ``sys.path``."""
    module = importlib.import_module("flask_app.app")
    options = module.options
    with mock.patch.object(module, "options", lambda given: options(given) | {"clock": clock}):
        return module.make_app(environ)


@contextlib.contextmanager
def running(*command: str, **environ: str) -> Iterator[str]:
    """Start the shop by this command ("{port}" is filled in); gives its address."""
    port = free_port()
    with tempfile.TemporaryDirectory() as var:
        process = subprocess.Popen(
            [sys.executable, *(part.format(port=port) for part in command)],
            cwd=EXAMPLES,
            env=os.environ | {"SHOP_VAR": var, "PYTHONDONTWRITEBYTECODE": "1"} | environ,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        try:
            _ready(process, port)
            yield f"http://localhost:{port}"
        finally:
            process.terminate()
            process.communicate(timeout=_PATIENCE)


def _ready(process: subprocess.Popen[bytes], port: int) -> None:
    import socket

    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline:
        if process.poll() is not None:
            assert process.stderr is not None
            raise AssertionError(process.stderr.read().decode())
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.05)
    raise AssertionError("the shop doesn't open")


WAITRESS = ("-m", "flask_app", "{port}")
GUNICORN = ("-m", "gunicorn", "-w", "2", "-b", "127.0.0.1:{port}", "flask_app:make_app()")
